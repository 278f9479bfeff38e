"""Every program of examples/ runs against the broker, ends by itself with status 0, and says what it should."""

import os
import subprocess
import sys

import pytest

from broker import BINARY, REPOSITORY

BUILT = BINARY.parent / "examples"
LAST_LINE = {
    "first.py": "received: Hello, Leveret!",
    "work_queue.py": "all tasks done",
    "retry_dead_letter.py": "parked after 3 attempts: an order that can't be handled",
    "topics.py": "8 deliveries of 4 messages",
    "rpc_lapin.rs": "144 squared is 20736",
    "publish_confirm_lapin.rs": "confirmed: 999 of 1000",
    "custom_exchange.rs": 'abroad got {"country":"se"}',
}
# It measures for a long time, and needs no broker.
MEASUREMENTS = {"journal_load.rs"}
PROGRAMS = sorted(path for path in (REPOSITORY / "examples").iterdir()
                  if path.suffix in (".py", ".rs") and path.name not in MEASUREMENTS)


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda path: path.name)
def test_example(program, broker_url):
    command = [sys.executable, program] if program.suffix == ".py" else [BUILT / program.stem]
    ended = subprocess.run(command, env={**os.environ, "AMQP_URL": broker_url},
                           stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=50)
    assert ended.returncode == 0, ended.stdout
    assert ended.stdout.splitlines()[-1] == LAST_LINE.get(program.name, ended.stdout.splitlines()[-1])
