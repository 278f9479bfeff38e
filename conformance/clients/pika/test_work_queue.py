"""Work queues: fair dispatch, acknowledgement, redelivery, and what a consumer learns when its queue goes."""

import subprocess
import sys

from adapters import Inbox

STUCK_WORKER = """
import sys, pika
channel = pika.BlockingConnection(pika.URLParameters(sys.argv[1])).channel()
channel.basic_qos(prefetch_count=1)
channel.basic_consume(sys.argv[2], lambda channel, method, properties, body: print(body.decode(), flush=True))
channel.start_consuming()
"""


def test_a_dead_consumers_message_goes_to_another(connect, name, broker_url):
    client, queue = connect(), name("tasks")
    channel = client.channel()
    channel.queue_declare(queue, durable=True)
    channel.confirm_delivery()
    for task in (b"first", b"second"):
        channel.basic_publish("", queue, task)

    with subprocess.Popen([sys.executable, "-c", STUCK_WORKER, broker_url, queue],
                          stdout=subprocess.PIPE, text=True) as worker:
        assert worker.stdout.readline() == "first\n"
        channel.basic_qos(prefetch_count=1)
        inbox = Inbox(client, channel, queue)
        other = inbox.take()
        assert (other.body, other.method.redelivered) == (b"second", False)
        worker.kill()

    channel.basic_ack(other.method.delivery_tag)
    again = inbox.take()
    assert (again.body, again.method.redelivered) == (b"first", True)
    channel.basic_ack(again.method.delivery_tag)
    assert channel.queue_declare(queue, passive=True).method.message_count == 0


def test_prefetch_one_gives_each_worker_one_task_at_a_time(connect, name):
    client, queue = connect(), name("tasks")
    channels = [client.channel(), client.channel()]
    channels[0].queue_declare(queue)
    inboxes = []
    for channel in channels:
        channel.basic_qos(prefetch_count=1)
        inboxes.append(Inbox(client, channel, queue))
    for number in range(6):
        channels[0].basic_publish("", queue, b"%d" % number)

    busy, quick = inboxes
    kept = busy.take()
    done = []
    for _ in range(5):
        message = quick.take()
        assert not quick.messages, "a second task came before the first was acknowledged"
        done.append(message.body)
        channels[1].basic_ack(message.method.delivery_tag)
    assert not busy.messages
    assert sorted([kept.body, *done]) == [b"0", b"1", b"2", b"3", b"4", b"5"]


def test_requeue_brings_messages_back_in_order(connect, name):
    client, queue = connect(), name("tasks")
    channel = client.channel()
    channel.queue_declare(queue)
    for body in (b"1", b"2", b"3"):
        channel.basic_publish("", queue, body)
    tags = [channel.basic_get(queue)[0].delivery_tag for _ in range(2)]
    channel.basic_nack(tags[-1], multiple=True, requeue=True)
    got = [channel.basic_get(queue, auto_ack=True) for _ in range(3)]
    assert [(body, method.redelivered) for method, _, body in got] == [(b"1", True), (b"2", True), (b"3", False)]
    assert channel.basic_get(queue) == (None, None, None)


def test_requeue_of_what_a_closed_channel_had(connect, name):
    client, queue = connect(), name("tasks")
    publisher, worker = client.channel(), client.channel()
    publisher.queue_declare(queue)
    publisher.basic_publish("", queue, b"task")
    inbox = Inbox(client, worker, queue)
    assert inbox.bodies(1) == [b"task"]
    worker.close()
    method, _, body = publisher.basic_get(queue, auto_ack=True)
    assert (body, method.redelivered) == (b"task", True)


def test_cancelled_consumer_is_told_that_its_queue_was_deleted(connect, name):
    client, queue = connect(), name("tasks")
    channel = client.channel()
    channel.queue_declare(queue)
    inbox, cancelled = Inbox(client, channel, queue), []
    channel.add_on_cancel_callback(cancelled.append)
    client.channel().queue_delete(queue)
    client.wait_until(lambda: cancelled)
    assert cancelled[0].method.consumer_tag == inbox.tag


def test_a_consumer_gets_nothing_more_once_it_has_cancelled(connect, name):
    client, queue = connect(), name("tasks")
    channel = client.channel()
    channel.queue_declare(queue)
    inbox = Inbox(client, channel, queue, auto_ack=True)
    channel.basic_publish("", queue, b"before")
    assert inbox.take().body == b"before"
    channel.basic_cancel(inbox.tag)
    channel.basic_publish("", queue, b"after")
    assert channel.basic_get(queue, auto_ack=True)[2] == b"after"
    assert not inbox.messages
