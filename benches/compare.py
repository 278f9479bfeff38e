#!/usr/bin/env python3
"""Puts brokers under the same loads, side by side, and says how many times better the first one is.

    cargo build --release
    benches/compare.py leveret=amqp://guest:guest@127.0.0.1:5672 rabbitmq=amqp://guest:guest@127.0.0.1:5673

The brokers run already; `leveret perf` is the load. Each load goes to each broker in turn, round after round, so that a machine
whose speed drifts does so for all of them; the median of the rounds is shown. With --pid NAME=PID, for a broker on this machine,
also the processor time that it takes for each message.

Ends with 0 when all runs have come to their end, 1 when one has not, 2 when the arguments make no sense.
"""
import argparse
import json
import os
import statistics
import subprocess
import sys
import time

DURABLE = "--durable --persistent"

# The options of `leveret perf`, and the figure that counts: messages a second, or else microseconds.
SCENARIOS = {
    "transient-autoack": ("--auto-ack", "received_per_s"),
    "transient-ack": ("--multi-ack 500", "received_per_s"),
    "transient-single-ack": ("--prefetch 100", "received_per_s"),
    "durable-confirm": (f"{DURABLE} --confirm 1000 --multi-ack 500", "received_per_s"),
    "durable-confirm-1": (f"{DURABLE} --confirm 1 --prefetch 10", "confirmed_per_s"),
    "durable-confirm-4x4": (
        f"{DURABLE} --confirm 1000 --multi-ack 500 --producers 4 --consumers 4 --queues 4",
        "received_per_s",
    ),
    "durable-confirm-50-on-1": (f"{DURABLE} --confirm 10 --multi-ack 500 --producers 50", "received_per_s"),
    "durable-confirm-1k": (f"{DURABLE} --confirm 1000 --multi-ack 500 --size 1024", "received_per_s"),
    "durable-publish-only": (f"{DURABLE} --confirm 1000 --consumers 0", "confirmed_per_s"),
    "transient-16k": ("--size 16k --prefetch 200 --multi-ack 100", "received_per_s"),
    "transient-1m": ("--size 1M --prefetch 20 --multi-ack 10", "received_per_s"),
    "fanout-1-to-10": ("--exchange-type fanout --queues 10 --consumers 10 --multi-ack 500", "received_per_s"),
    "topic-1000-bindings": (
        "--exchange-type topic --multi-ack 500 --routing-key live.key --binding-key live.key,"
        + ",".join(f"dead.{number}.*" for number in range(1000)),
        "received_per_s",
    ),
    "latency-5k-per-s": ("--rate 5000 --multi-ack 500", "delivery_us"),
    "latency-durable-2k-per-s": (f"{DURABLE} --rate 2000 --confirm 1000 --multi-ack 500", "delivery_us"),
}


def pair(text):
    name, found, value = text.partition("=")
    if not found or not name or not value:
        raise argparse.ArgumentTypeError(f"'{text}' is not NAME=VALUE")
    return name, value


def arguments():
    beside = os.path.join(os.path.dirname(__file__), "..", "target", "release", "leveret")
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, usage="%(prog)s NAME=URL ... [options]"
    )
    parser.add_argument("brokers", metavar="NAME=URL", nargs="+", type=pair, help="a broker, with user, password and vhost")
    parser.add_argument("--rounds", type=int, default=3, help="how often each load goes to each broker (3)")
    parser.add_argument("--seconds", type=float, default=3, help="how long each time (3)")
    parser.add_argument("--only", metavar="NAME,...", help="these loads: " + ", ".join(SCENARIOS))
    parser.add_argument("--pid", metavar="NAME=PID", action="append", type=pair, default=[], help="the process of a broker")
    parser.add_argument("--leveret", metavar="FILE", default=beside, help="the program that is the load (target/release/leveret)")
    found = parser.parse_args()
    found.only = found.only.split(",") if found.only else list(SCENARIOS)
    unknown = [name for name in found.only if name not in SCENARIOS]
    if unknown:
        parser.error(f"no load is called {', '.join(unknown)}; there are {', '.join(SCENARIOS)}")
    if not os.access(found.leveret, os.X_OK):
        parser.error(f"there is no program {found.leveret}: build it with cargo build --release, or name another with --leveret")
    if found.rounds < 1 or found.seconds <= 0:
        parser.error("--rounds and --seconds are greater than 0")
    return found


def processor_seconds(pid):
    """What the process has used so far, user and system together."""
    with open(f"/proc/{pid}/stat") as stat:
        fields = stat.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def run(given, url, pid, options, figure):
    """The figure of one run, and microseconds of the broker's processor time for each message, if its process is known."""
    command = [given.leveret, "perf", "--url", url, "--json", "--quiet", "--time", str(given.seconds), *options.split()]
    before = processor_seconds(pid) if pid else None
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(done.stderr.strip())
    found = json.loads(done.stdout)
    each = None
    if pid:
        messages = max(found["published"], found["received"], 1)
        each = (processor_seconds(pid) - before) / messages * 1e6
    value = found[figure]
    return value["p99"] if isinstance(value, dict) else value, each


def row(name, figures, figure, brokers):
    """A line of the table: medians, and how many times better the first broker is than each other one."""
    medians = [statistics.median(value for value, _ in figures[broker]) if figures[broker] else None for broker, _ in brokers]
    cells = ["-" if median is None else f"{median:,.0f}" for median in medians]
    first, *others = medians
    for other in others:
        better = (other, first) if figure.endswith("_us") else (first, other)
        cells.append(f"{better[0] / better[1]:.1f}" if all(better) else "-")
    for broker, _ in brokers:
        times = [each for _, each in figures[broker] if each is not None]
        cells.append(f"{statistics.median(times):.2f}" if times else "-")
    what = name + (", us p99" if figure.endswith("_us") else "")
    return f"{what:34}" + "".join(f"{cell:>14}" for cell in cells)


def main():
    given = arguments()
    pids = dict(given.pid)
    names = [name for name, _ in given.brokers]
    heads = names + [f"x {name}" for name in names[1:]] + [f"us {name}" for name in names]
    print(f"{'':34}" + "".join(f"{head:>14}" for head in heads), flush=True)
    all_well = True
    for name in given.only:
        options, figure = SCENARIOS[name]
        figures = {broker: [] for broker in names}
        for number in range(given.rounds):
            for broker, url in given.brokers:
                print(f"{name}: {broker}, round {number + 1} of {given.rounds}", file=sys.stderr, flush=True)
                try:
                    figures[broker].append(run(given, url, pids.get(broker), options, figure))
                except (OSError, RuntimeError) as error:
                    print(f"{name}: {broker}: {error}", file=sys.stderr, flush=True)
                    all_well = False
                time.sleep(0.5)
        print(row(name, figures, figure, given.brokers), flush=True)
    return 0 if all_well else 1


if __name__ == "__main__":
    sys.exit(main())
