"""Starts the built broker on a free port for the client runs, and stops it again.

LEVERET_BINARY names the binary (target/debug/leveret unless set).
"""

import os
import pathlib
import queue
import re
import subprocess
import tempfile
import threading

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]
BINARY = pathlib.Path(os.environ.get("LEVERET_BINARY", REPOSITORY / "target/debug/leveret")).resolve()
LISTENING = re.compile(r"(?:listening on|API is at) (\w+)://127\.0\.0\.1:(\d+)")
LISTENERS = ("AMQP", "AMQPS", "HTTP", "HTTPS", "PROMETHEUS", "PROMETHEUS_HTTPS")
START_SECONDS, STOP_SECONDS = 20, 15


class Broker:
    """One broker process with a data directory of its own, and options of the test's."""

    def __init__(self, *options, cwd=None):
        self.options, self.cwd = options, cwd

    def start(self):
        """Starts it and returns its URL; RuntimeError with what it printed if it does not listen."""
        if not BINARY.exists():
            raise RuntimeError(f"no broker at {BINARY}: run `cargo build`, or set LEVERET_BINARY or LEVERET_TEST_URL")
        self.directory = tempfile.TemporaryDirectory(prefix="leveret-clients-")
        self.output, self.ports, self.port_of_scheme = [], queue.Queue(), {}
        bind = {f"LEVERET__LISTENERS__{name}__BIND": "127.0.0.1:0" for name in LISTENERS}
        self.process = subprocess.Popen(
            [BINARY, *self.options, "--data-dir", os.path.join(self.directory.name, "data")],
            cwd=self.cwd or self.directory.name, env={**os.environ, **bind},
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        # Reading to the end keeps the broker from ever waiting for room in the pipe.
        self.reader = threading.Thread(target=self._read_output, daemon=True)
        self.reader.start()
        port = self.port_of("amqp")
        if port is None:
            self.process.kill()
            self.process.wait()
            self.reader.join()
            raise RuntimeError(f"{BINARY} did not say `listening on amqp://127.0.0.1:PORT`:\n" + "".join(self.output))
        return f"amqp://guest:guest@127.0.0.1:{port}/%2F"

    def port_of(self, scheme):
        """The port on which it speaks that; None if it does not say."""
        try:
            while scheme not in self.port_of_scheme:
                found = self.ports.get(timeout=START_SECONDS)
                if found is None:
                    return None
                self.port_of_scheme[found[0]] = found[1]
        except queue.Empty:
            return None
        return self.port_of_scheme[scheme]

    def stop(self):
        """Ends it with SIGTERM and asserts exit status 0."""
        self.process.terminate()
        try:
            status = self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            status = f"none within {STOP_SECONDS} s of SIGTERM"
        self.reader.join()
        self.directory.cleanup()
        assert status == 0, f"the broker's exit status was {status}; it printed:\n" + "".join(self.output[-50:])

    def _read_output(self):
        for line in self.process.stdout:
            self.output.append(line)
            if found := LISTENING.search(line):
                self.ports.put((found[1], int(found[2])))
        self.ports.put(None)
