"""Runs the clients' programs and collects what each of them could do."""

import os
import re
import subprocess
import time

from catalogue import CHECKS, REPOSITORY, TARGET, NotInstalled

PROGRAM_SECONDS = 180
PYTEST = re.compile(r"::test_(\w+)(?:\[.*?\])? (PASSED|FAILED|ERROR)")
CARGO = re.compile(r"^test (?:\w+::)+(\w+) \.\.\. (ok|FAILED|ignored)", re.MULTILINE)
PRINTED = re.compile(r"^(ok|failed|without) ([\w.-]+)(?:: (.*))?", re.MULTILINE)


def outcomes(output):
    """(check, outcome, why) of each line that says one."""
    for outcome, check, why in PRINTED.findall(output):
        yield check, outcome, why
    for name, word in PYTEST.findall(output) + CARGO.findall(output):
        outcome = "ok" if word in ("PASSED", "ok") else "failed"
        for check in checks_of(name):
            yield check, outcome, f"{name} {word}" if outcome == "failed" else ""


def checks_of(test):
    """The checks that a test's name begins with, as in confirms_and_returns_of_many; its whole name if there are none."""
    found = []
    for word in test.split("_"):
        if word in CHECKS:
            found.append(word)
        elif word != "and":
            break
    return found or [test]


class Result:
    """What one client did on one broker."""

    def __init__(self, client, output, problem):
        self.checks = client.checks
        self.ok, self.failed, self.without = set(), {}, dict(client.without)
        for check, outcome, why in outcomes(output):
            if outcome == "ok":
                self.ok.add(check)
            else:
                (self.failed if outcome == "failed" else self.without)[check] = why
        self.ok -= set(self.failed)
        for check in self.checks:
            if check not in self.ok | set(self.failed) | set(self.without):
                self.failed[check] = "nothing was said of it"
        if problem or not self.ok:
            self.failed["program"] = problem or "it did nothing"

    def summary(self):
        common = len(self.ok & set(self.checks))
        more = len(self.ok) - common
        return f"{common} + {more} more" if common and more else str(common or more)


def run_client(client, url):
    """Runs the client's program against the broker."""
    environment = {**os.environ, **{name: str(value) for name, value in client.environment.items()},
                   "AMQP_URL": url, "LEVERET_TEST_URL": url, "CARGO_TARGET_DIR": str(TARGET)}
    with subprocess.Popen([str(word) for word in client.command], env=environment, cwd=REPOSITORY, text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True) as process:
        try:
            output, _ = process.communicate(timeout=PROGRAM_SECONDS)
            problem = f"it ended with status {process.returncode}" if process.returncode else None
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, 9)
            output, problem = process.communicate()[0], f"it did not end within {PROGRAM_SECONDS} s"
    result = Result(client, output, problem)
    if result.failed:
        print(output)
    return result


def run(chosen, places):
    """The results by client and broker, and whether all is well."""
    table, well = [], True
    for client in chosen:
        try:
            version = client.install()
        except NotInstalled as why:
            print(f"FAILED {client.name}: not installed: {why}", flush=True)
            well = False
            continue
        row = {}
        for place, url in places.items():
            if client.only not in ("", place):
                continue
            started = time.monotonic()
            row[place] = result = run_client(client, url)
            seconds = time.monotonic() - started
            print(f"{'FAILED' if result.failed else 'ok'} {client.name} {version} on {place}: "
                  f"{result.summary()} passed in {seconds:.0f} s", flush=True)
            for check, why in result.failed.items():
                print(f"    {check}: {why}")
            well = well and not result.failed
        table.append((client, version, row))
    return table, well


def cell(result):
    if not result:
        return ""
    return f"{result.summary()}{f', **{len(result.failed)} failed**' if result.failed else ''}"


def report(table, places):
    """The results as a table in Markdown."""
    yield f"| Client | Version | From | {' | '.join(places)} | Not in this client |"
    yield "|---|---|---|" + "---|" * (len(places) + 1)
    for client, version, row in table:
        cells = [cell(row.get(place)) for place in places]
        without = sorted({check for result in row.values() for check in result.without}, key=lambda check: [*client.checks, check].index(check))
        yield f"| {client.name} | {version} | {client.registry} | {' | '.join(cells)} | {', '.join(without)} |"
