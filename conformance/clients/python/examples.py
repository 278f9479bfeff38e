"""Every program of examples/ ends by itself with status 0, and its last line is what it should be."""

import os
import pathlib
import shutil
import subprocess
import sys

REPOSITORY = pathlib.Path(__file__).resolve().parents[3]
BUILT = pathlib.Path(os.environ["CARGO_TARGET_DIR"]) / "debug/examples"
LAST_LINE = {
    "first.py": "received: Hello, Leveret!",
    "work_queue.py": "all tasks done",
    "stream_replay.py": "read again and again",
    "stream_exactly_once.py": "each order has one bill",
    "stream_key_order.py": "each customer in order",
    "retry_dead_letter.py": "parked after 3 attempts: an order that can't be handled",
    "topics.py": "8 deliveries of 4 messages",
    "rpc_lapin.rs": "144 squared is 20736",
    "publish_confirm_lapin.rs": "confirmed: 999 of 1000",
    "custom_exchange.rs": 'abroad got {"country":"se"}',
}
if shutil.which("nc") and "STOMP_ADDRESS" in os.environ:
    LAST_LINE["stomp.sh"] = "received: Hello, STOMP!"
COMMANDS = {
    ".py": lambda path: [sys.executable, path],
    ".rs": lambda path: [BUILT / path.stem],
    ".sh": lambda path: ["sh", path, *os.environ["STOMP_ADDRESS"].split(":")],
}

for program, last_line in LAST_LINE.items():
    path = REPOSITORY / "examples" / program
    command = COMMANDS[path.suffix](path)
    ended = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=50, check=False)
    if ended.returncode == 0 and ended.stdout.splitlines()[-1] == last_line:
        print("ok", program, flush=True)
    else:
        print(f"{ended.stdout}\nfailed {program}: status {ended.returncode}", flush=True)
