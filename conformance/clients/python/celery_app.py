"""The tasks of celery_client.py, and how its workers are set up. The client runs workers on this module."""

import os
import time

from celery import Celery
from kombu import Queue

PREFIX = os.environ["CELERY_PREFIX"]

SETTINGS = dict(
    task_default_queue=f"{PREFIX}-tasks",
    task_queues=[Queue(f"{PREFIX}-tasks", max_priority=9)],
    task_acks_late=True,
    worker_prefetch_multiplier=1,
    worker_send_task_events=True,
    task_send_sent_event=True,
    control_exchange=f"{PREFIX}-control",
    event_exchange=f"{PREFIX}-events",
    event_queue_prefix=f"{PREFIX}-event",
    result_expires=60,
    broker_heartbeat=10,
    broker_connection_retry_on_startup=True,
)

# One has its results over the broker; the other in files, which chords need.
app, kept = (Celery("conformance", broker=os.environ["AMQP_URL"], backend=backend)
             for backend in ("rpc://", os.environ["CELERY_FILES"]))
for each in (app, kept):
    each.conf.update(SETTINGS)


@app.task
def add(left, right):
    return left + right


@app.task(bind=True, max_retries=3)
def flaky(self):
    """Fails twice, then says how often it was tried."""
    if self.request.retries < 2:
        raise self.retry(countdown=0.1)
    return self.request.retries + 1


@app.task
def fails():
    raise ValueError("on purpose")


@app.task
def when():
    return time.time()


@app.task
def note(path, word):
    """Leaves a trace of the order in which tasks ran."""
    with open(path, "a", encoding="utf-8") as file:
        file.write(word)


@app.task
def nap(seconds):
    time.sleep(seconds)


@app.task(bind=True)
def stubborn(self, path):
    """Hangs the first time, with a trace that it has begun."""
    if self.request.delivery_info["redelivered"]:
        return "again"
    with open(path, "w", encoding="utf-8"):
        time.sleep(60)


@kept.task
def part(left, right):
    return left + right


@kept.task
def total(numbers):
    return sum(numbers)
