"""Celery: workers in processes of their own, with results over the broker and in files; one of them is killed."""

import contextlib
import os
import subprocess
import sys
import tempfile
import threading
import time
import uuid

HOME = tempfile.TemporaryDirectory(prefix="leveret-celery-")
PREFIX = os.environ["CELERY_PREFIX"] = f"celery-{uuid.uuid4().hex[:12]}"
os.makedirs(f"{HOME.name}/results")
os.environ["CELERY_FILES"] = f"file://{HOME.name}/results"

import celery_app as tasks  # noqa: E402  It reads the variables above.
from celery import chain, chord, group  # noqa: E402
from celery.exceptions import TaskRevokedError  # noqa: E402

import checks  # noqa: E402

app, SECONDS = tasks.app, 20


@contextlib.contextmanager
def worker(name, application, *options, kill=False):
    """A worker in a process of its own, which ends in good order or is killed."""
    with open(f"{HOME.name}/{name}.log", "wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "celery", "-A", f"celery_app:{application}", "worker", "--hostname", f"{name}@{PREFIX}", "--loglevel",
             "INFO", *options], cwd=os.path.dirname(__file__), stdout=log, stderr=log)
    try:
        wait_until(lambda: app.control.ping([f"{name}@{PREFIX}"], timeout=0.5))
        yield f"{name}@{PREFIX}"
    finally:
        (process.kill if kill else process.terminate)()
        status = process.wait(SECONDS)
        if status and not kill:
            with open(f"{HOME.name}/{name}.log", encoding="utf-8") as log:
                raise AssertionError(f"the worker ended with {status}: {log.read()[-3000:]}")


def wait_until(done):
    deadline = time.monotonic() + SECONDS
    while not (answer := done()):
        assert time.monotonic() < deadline, "what was waited for did not come"
        time.sleep(0.05)
    return answer


def results():
    assert tasks.add.delay(2, 3).get(SECONDS) == 5
    assert chain(tasks.add.s(1, 2), tasks.add.s(10))().get(SECONDS) == 13
    assert group(tasks.add.s(n, n) for n in range(5))().get(SECONDS) == [0, 2, 4, 6, 8]
    try:
        tasks.fails.delay().get(SECONDS)
    except ValueError as failure:
        assert str(failure) == "on purpose"
    else:
        raise AssertionError("it did not fail")


def retries():
    assert tasks.flaky.delay().get(SECONDS) == 3


def eta():
    asked = time.time()
    assert tasks.when.apply_async(countdown=1).get(SECONDS) >= asked + 1


def rate_limit(name):
    with_limit = app.control.rate_limit("celery_app.add", "4/s", destination=[name], reply=True)
    assert with_limit == [{name: {"ok": "new rate limit set successfully"}}], with_limit
    asked = time.monotonic()
    assert group(tasks.add.s(n, 0) for n in range(6))().get(SECONDS) == list(range(6))
    assert time.monotonic() - asked >= 1, "six tasks at four a second take a second"
    app.control.rate_limit("celery_app.add", None, destination=[name], reply=True)


def priorities():
    """While the only process naps, the tasks wait in the queue, which gives out the urgent ones first."""
    path = f"{HOME.name}/order"
    napping = tasks.nap.delay(1.5)
    time.sleep(0.3)
    noted = [tasks.note.apply_async((path, str(priority)), priority=priority) for priority in (0, 1, 5, 9, 5)]
    for each in (napping, *noted):
        each.get(SECONDS)
    with open(path, encoding="utf-8") as file:
        assert file.read() in ("95510", "09551"), "the worker may hold one that came first"


def remote_control(name):
    inspect = app.control.inspect([name], timeout=2)
    assert inspect.ping() == {name: {"ok": "pong"}}
    assert "celery_app.add" in inspect.registered()[name]
    assert [queue["name"] for queue in inspect.active_queues()[name]] == [f"{PREFIX}-tasks"]
    assert inspect.stats()[name]["pool"]["max-concurrency"] == 1
    extra = f"{PREFIX}-extra"
    app.control.add_consumer(extra, destination=[name], reply=True)
    assert tasks.add.apply_async((1, 1), queue=extra).get(SECONDS) == 2
    app.control.cancel_consumer(extra, destination=[name], reply=True)


def revoke(name):
    later = tasks.add.apply_async((1, 1), countdown=3)
    wait_until(lambda: app.control.inspect([name]).scheduled()[name])
    app.control.revoke(later.id, destination=[name], reply=True)
    try:
        later.get(SECONDS)
    except TaskRevokedError:
        return
    raise AssertionError("it ran all the same")


def events():
    seen, state = [], app.events.State()
    with app.connection() as connection:
        def note(event):
            state.event(event)
            seen.append(event["type"])

        receiver = app.events.Receiver(connection, handlers={"*": note})
        with receiver.consumer_context(wakeup=False) as (_connection, _channel, _consumers):
            asked = tasks.add.delay(1, 2)
            answers = []
            waiting = threading.Thread(target=lambda: answers.append(asked.get(SECONDS)))
            waiting.start()
            deadline = time.monotonic() + SECONDS
            while "task-succeeded" not in seen and time.monotonic() < deadline:
                with contextlib.suppress(TimeoutError):
                    connection.drain_events(timeout=1)
            waiting.join()
    assert {"task-sent", "task-received", "task-started", "task-succeeded"} <= set(seen), seen
    assert answers == [3] and state.tasks[asked.id].state == "SUCCESS"


def lost():
    """What a killed worker had not acknowledged is done by the next one."""
    path = f"{HOME.name}/begun"
    with worker("doomed", "app", "--pool", "solo", kill=True):
        task = tasks.stubborn.delay(path)
        wait_until(lambda: os.path.exists(path))
    with worker("next", "app", "--pool", "solo"):
        assert task.get(SECONDS) == "again"


def chords():
    """The end of a chord is a task that asks again until all its parts are done."""
    with worker("keeper", "kept", "--concurrency", "1"):
        assert chord(tasks.part.s(n, n) for n in range(10))(tasks.total.s()).get(SECONDS) == 90


def main():
    with worker("first", "app", "--concurrency", "1") as name:
        checks.run([results, retries, eta, named("rate-limit", rate_limit, name), priorities,
                    named("remote-control", remote_control, name), named("revoke", revoke, name), events])
    checks.run([lost, chords])
    delete_queues()


def named(word, check, name):
    """The check of the worker with this name."""
    def run():
        check(name)
    run.__name__ = word
    return run


def delete_queues():
    with app.connection_for_write() as connection:
        for word in ("tasks", "extra"):
            connection.default_channel.queue_delete(f"{PREFIX}-{word}")
        for name in (f"{PREFIX}-tasks", f"{PREFIX}-extra", f"{PREFIX}-events", f"{PREFIX}-control.pidbox",
                     f"reply.{PREFIX}-control.pidbox"):
            connection.default_channel.exchange_delete(name)


main()
