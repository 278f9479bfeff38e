"""Dead-lettering: after a reject, after a time to live, through a retry queue, past a length or delivery limit."""

import datetime

from adapters import Inbox
from pika import BasicProperties


def deaths(properties):
    """(queue, reason, count) of each row of the x-death header, newest first."""
    return [(row["queue"], row["reason"], row["count"]) for row in properties.headers["x-death"]]


def work_and_dead_queue(channel, name, **arguments):
    """A queue that dead-letters into another through a direct exchange."""
    exchange, work, dead = name("dlx"), name("work"), name("dead")
    channel.exchange_declare(exchange, "direct")
    channel.queue_declare(dead)
    channel.queue_bind(dead, exchange, "failed")
    channel.queue_declare(work, durable=True, arguments={
        "x-dead-letter-exchange": exchange, "x-dead-letter-routing-key": "failed", **arguments})
    return exchange, work, dead


def test_a_rejected_message_is_dead_lettered(connect, name):
    client = connect()
    channel = client.channel()
    exchange, work, dead = work_and_dead_queue(channel, name)
    inbox = Inbox(client, channel, dead, auto_ack=True)
    channel.basic_publish("", work, b"bad", BasicProperties(headers={"mine": "kept"}, message_id="m-1"))
    refused = Inbox(client, channel, work).take()
    channel.basic_reject(refused.method.delivery_tag, requeue=False)

    message = inbox.take()
    assert (message.method.exchange, message.method.routing_key, message.body) == (exchange, "failed", b"bad")
    headers = message.properties.headers
    assert (headers["mine"], message.properties.message_id) == ("kept", "m-1")
    assert deaths(message.properties) == [(work, "rejected", 1)]
    row = headers["x-death"][0]
    assert (row["exchange"], row["routing-keys"]) == ("", [work])
    assert isinstance(row["time"], datetime.datetime)
    assert (headers["x-first-death-queue"], headers["x-first-death-reason"]) == (work, "rejected")
    assert headers["x-first-death-exchange"] == ""


def test_nack_multiple_dead_letters_all(connect, name):
    client = connect()
    channel = client.channel()
    _, work, dead = work_and_dead_queue(channel, name)
    inbox, workers = Inbox(client, channel, dead, auto_ack=True), Inbox(client, channel, work)
    for body in (b"1", b"2", b"3"):
        channel.basic_publish("", work, body)
    workers.bodies(3)
    channel.basic_nack(workers.messages[-1].method.delivery_tag, multiple=True, requeue=False)
    assert inbox.bodies(3) == [b"1", b"2", b"3"]


def test_an_expired_message_is_dead_lettered(connect, name):
    client = connect()
    channel = client.channel()
    _, work, dead = work_and_dead_queue(channel, name, **{"x-message-ttl": 60_000})
    inbox = Inbox(client, channel, dead, auto_ack=True)
    channel.basic_publish("", work, b"of the message", BasicProperties(expiration="30"))
    message = inbox.take()
    assert deaths(message.properties) == [(work, "expired", 1)]
    assert message.properties.headers["x-death"][0]["original-expiration"] == "30"
    assert message.properties.expiration is None

    _, short, dead = work_and_dead_queue(channel, name, **{"x-message-ttl": 30})
    inbox = Inbox(client, channel, dead, auto_ack=True)
    channel.basic_publish("", short, b"of the queue")
    message = inbox.take()
    assert deaths(message.properties) == [(short, "expired", 1)]
    assert "original-expiration" not in message.properties.headers["x-death"][0]


def test_retry_after_a_pause_then_parking(connect, name):
    client = connect()
    channel = client.channel()
    work, retry, parked = name("work"), name("retry"), name("parked")
    channel.queue_declare(work, arguments={"x-dead-letter-exchange": "", "x-dead-letter-routing-key": retry})
    channel.queue_declare(retry, arguments={
        "x-message-ttl": 30, "x-dead-letter-exchange": "", "x-dead-letter-routing-key": work})
    channel.queue_declare(parked)
    inbox, counts = Inbox(client, channel, work), []
    channel.basic_publish("", work, b"task")

    while True:
        message = inbox.take()
        rows = deaths(message.properties) if message.properties.headers else []
        counts.append(rows)
        if len(counts) > 3:
            channel.basic_publish("", parked, message.body)
            channel.basic_ack(message.method.delivery_tag)
            break
        channel.basic_reject(message.method.delivery_tag, requeue=False)

    assert counts == [[]] + [[(retry, "expired", n), (work, "rejected", n)] for n in (1, 2, 3)]
    assert channel.basic_get(parked, auto_ack=True)[2] == b"task"
    assert channel.queue_declare(work, passive=True).method.message_count == 0


def test_a_full_queue_dead_letters_its_oldest(connect, name):
    client = connect()
    channel = client.channel()
    _, work, dead = work_and_dead_queue(channel, name, **{"x-max-length": 2})
    inbox = Inbox(client, channel, dead, auto_ack=True)
    for body in (b"1", b"2", b"3"):
        channel.basic_publish("", work, body)
    message = inbox.take()
    assert (message.body, deaths(message.properties)) == (b"1", [(work, "maxlen", 1)])
    assert [channel.basic_get(work, auto_ack=True)[2] for _ in range(2)] == [b"2", b"3"]


def test_the_delivery_limit_of_a_quorum_queue(connect, name):
    client = connect()
    channel = client.channel()
    _, work, dead = work_and_dead_queue(channel, name, **{"x-queue-type": "quorum", "x-delivery-limit": 2})
    channel.basic_qos(prefetch_count=1)
    inbox, dead_letters = Inbox(client, channel, work), Inbox(client, channel, dead, auto_ack=True)
    channel.basic_publish("", work, b"poison", BasicProperties(delivery_mode=2))
    counts = []
    for _ in range(3):
        message = inbox.take()
        counts.append(((message.properties.headers or {}).get("x-delivery-count"), message.method.redelivered))
        channel.basic_reject(message.method.delivery_tag, requeue=True)
    assert counts == [(None, False), (1, True), (2, True)]
    message = dead_letters.take()
    assert (message.body, deaths(message.properties)) == (b"poison", [(work, "delivery_limit", 1)])
