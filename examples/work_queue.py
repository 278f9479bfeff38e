"""A work queue: two workers share tasks, and none of the tasks is lost when a worker dies.

Durable queue, persistent messages and publisher confirms keep a task through a restart of the broker; prefetch 1
hands a worker its next task only when it has acknowledged the last; a task that was not acknowledged goes to another.

Needs `pip install pika`. Run `python3 examples/work_queue.py`; it publishes six tasks and ends when they are done.
AMQP_URL names another broker than the one on this machine.
"""

import os
import threading

import pika

PARAMETERS = pika.URLParameters(os.environ.get("AMQP_URL", "amqp://guest:guest@127.0.0.1:5672/%2F"))
TASKS = [f"task {number}" for number in range(1, 7)]
done = threading.Semaphore(0)


def publish(tasks):
    with pika.BlockingConnection(PARAMETERS) as connection:
        channel = connection.channel()
        channel.queue_declare("tasks", durable=True)
        channel.confirm_delivery()  # from now on basic_publish returns when the broker has the message
        for task in tasks:
            persistent = pika.BasicProperties(delivery_mode=pika.DeliveryMode.Persistent)
            channel.basic_publish("", "tasks", task.encode(), persistent, mandatory=True)
            print("published", task)


def work(name, stop):
    with pika.BlockingConnection(PARAMETERS) as connection:  # a connection belongs to one thread
        channel = connection.channel()
        channel.basic_qos(prefetch_count=1)
        for method, _properties, body in channel.consume("tasks", inactivity_timeout=0.2):
            if method:
                connection.sleep(0.05)  # the work; heartbeats are answered meanwhile
                print(name, "did", body.decode())
                channel.basic_ack(method.delivery_tag)
                done.release()
            if stop.is_set():
                break


publish(TASKS)
stop = threading.Event()
workers = [threading.Thread(target=work, args=(name, stop)) for name in ("worker A", "worker B")]
for worker in workers:
    worker.start()
for _ in TASKS:
    done.acquire()
stop.set()
for worker in workers:
    worker.join()
print("all tasks done")
