"""Runs a client's checks one after the other and prints a line for each, which `run` reads."""

import asyncio
import os
import traceback
import uuid

URL = os.environ["AMQP_URL"]
SECONDS = 30


def name(word):
    """A name that no other check and no other run uses."""
    return f"{word}-{uuid.uuid4().hex[:12]}"


class Without(Exception):
    """The client has no such thing; says why."""


def run(checks):
    """Runs functions, or coroutines, in the order given; each is named as its check."""
    for check in checks:
        word = check.__name__.strip("_").replace("_", "-")
        try:
            result = check()
            if asyncio.iscoroutine(result):
                asyncio.run(asyncio.wait_for(result, SECONDS))
            print("ok", word, flush=True)
        except Without as why:
            print(f"without {word}: {why}", flush=True)
        except BaseException as failure:
            traceback.print_exc()
            print(f"failed {word}: {failure!r}", flush=True)
