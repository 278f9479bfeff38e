"""Publishing: confirms, returned messages, refused messages, transactions, priorities, large messages."""

import hashlib
import random

import pytest
from adapters import Inbox
from pika import BasicProperties
from pika.exceptions import ChannelClosedByBroker, NackError, UnroutableError


def test_confirms(connect, name):
    client, queue = connect(), name("queue")
    channel = client.channel()
    channel.queue_declare(queue, durable=True)
    channel.confirm_delivery()
    for number in range(20):
        channel.basic_publish("", queue, b"%d" % number, BasicProperties(delivery_mode=1 + number % 2))
    channel.basic_publish("amq.direct", name("nowhere"), b"an unroutable message is confirmed too")
    # Another channel sees them all: the confirm came after they were in the queue.
    assert client.channel().queue_declare(queue, passive=True).method.message_count == 20


def test_returns_of_mandatory_messages_that_no_queue_takes(connect, name):
    channel, key = connect().channel(), name("nowhere")
    channel.confirm_delivery()
    with pytest.raises(UnroutableError) as unroutable:
        channel.basic_publish("amq.direct", key, b"body", BasicProperties(message_id="m-1"), mandatory=True)
    (returned,) = unroutable.value.messages
    assert (returned.method.reply_code, returned.method.reply_text) == (312, "NO_ROUTE")
    assert (returned.method.exchange, returned.method.routing_key) == ("amq.direct", key)
    assert (returned.properties.message_id, returned.body) == ("m-1", b"body")

    queue = name("queue")
    channel.queue_declare(queue, exclusive=True)
    channel.queue_bind(queue, "amq.direct", key)
    channel.basic_publish("amq.direct", key, b"body", mandatory=True)
    assert channel.basic_get(queue, auto_ack=True)[2] == b"body"


def test_returns_without_confirms(connect, name):
    client, returned = connect(), []
    channel = client.channel()
    channel.add_on_return_callback(lambda _channel, method, _properties, body: returned.append((method, body)))
    channel.basic_publish("", name("nowhere"), b"body", mandatory=True)
    client.wait_until(lambda: returned)
    assert (returned[0][0].reply_code, returned[0][1]) == (312, b"body")


def test_a_full_queue_that_rejects_publishes_nacks_them(connect, name):
    channel, queue = connect().channel(), name("queue")
    channel.queue_declare(queue, arguments={"x-max-length": 1, "x-overflow": "reject-publish"})
    channel.confirm_delivery()
    channel.basic_publish("", queue, b"fits")
    with pytest.raises(NackError):
        channel.basic_publish("", queue, b"does not")
    channel.basic_get(queue, auto_ack=True)
    channel.basic_publish("", queue, b"fits again")
    assert channel.basic_get(queue, auto_ack=True)[2] == b"fits again"


def test_transaction_is_committed_or_rolled_back(connect, name):
    client, queue = connect(), name("queue")
    channel, observer = client.channel(), client.channel()
    observer.queue_declare(queue)

    def ready():
        return observer.queue_declare(queue, passive=True).method.message_count

    channel.tx_select()
    for body in (b"1", b"2"):
        channel.basic_publish("", queue, body)
    channel.tx_rollback()
    assert ready() == 0
    for body in (b"3", b"4"):
        channel.basic_publish("", queue, body)
    assert ready() == 0
    channel.tx_commit()
    assert ready() == 2

    # A rolled back acknowledgement leaves the message to be acknowledged again.
    method, _, body = channel.basic_get(queue)
    assert body == b"3"
    channel.basic_ack(method.delivery_tag)
    channel.tx_rollback()
    channel.basic_ack(method.delivery_tag)
    channel.tx_commit()
    channel.close()
    assert observer.basic_get(queue, auto_ack=True)[2] == b"4"
    assert ready() == 0


def test_confirms_and_transactions_exclude_each_other(connect):
    channel = connect().channel()
    channel.tx_select()
    with pytest.raises(ChannelClosedByBroker) as refused:
        channel.confirm_delivery()
    assert refused.value.reply_text == "PRECONDITION_FAILED - cannot switch from tx to confirm mode"


def test_priority_decides_the_order(connect, name):
    client, queue = connect(), name("queue")
    channel = client.channel()
    channel.queue_declare(queue, arguments={"x-max-priority": 5})
    for body, priority in [(b"none", None), (b"low", 1), (b"high", 5), (b"above the top", 9), (b"low again", 1)]:
        channel.basic_publish("", queue, body, BasicProperties(priority=priority))
    inbox = Inbox(client, channel, queue, auto_ack=True)
    assert inbox.bodies(5) == [b"high", b"above the top", b"low", b"low again", b"none"]


@pytest.mark.parametrize("frame_max", [131072, 4096])
def test_large_message_both_ways(connect, name, frame_max):
    client, queue = connect(frame_max=frame_max), name("queue")
    channel = client.channel()
    channel.queue_declare(queue)
    channel.confirm_delivery()
    large = random.Random(7).randbytes(5 * 1024 * 1024)
    channel.basic_publish("", queue, large)
    channel.basic_publish("", queue, b"")
    first, second = Inbox(client, channel, queue, auto_ack=True).bodies(2)
    assert (len(first), second) == (len(large), b"")
    assert hashlib.sha256(first).digest() == hashlib.sha256(large).digest()
