"""Connections, channels and queues that come and go, and what the broker refuses."""

import pika
import pytest
from adapters import Inbox
from pika.exceptions import (ChannelClosedByBroker, ConnectionClosedByBroker, ProbableAccessDeniedError,
                             ProbableAuthenticationError)


def refusal(channel, call, *arguments, **options):
    """The code and text of the channel exception that a call ends in."""
    with pytest.raises(ChannelClosedByBroker) as refused:
        getattr(channel, call)(*arguments, **options)
    return refused.value.reply_code, refused.value.reply_text


def exists(client, queue):
    """Whether a queue is there, asked on a channel of its own."""
    channel = client.channel()
    try:
        channel.queue_declare(queue, passive=True)
    except ChannelClosedByBroker as refused:
        assert refused.reply_code == 404
        return False
    channel.close()
    return True


def test_exclusive_queue_belongs_to_its_connection(connect, name):
    owner, other, queue = connect(), connect(), name("mine")
    owner.channel().queue_declare(queue, exclusive=True)
    code, text = refusal(other.channel(), "queue_declare", queue, passive=True)
    assert code == 405
    assert text.startswith(f"RESOURCE_LOCKED - cannot obtain exclusive access to locked queue '{queue}' in vhost '/'.")
    owner.close()
    assert not exists(other, queue)


def test_exclusive_consumer_keeps_others_out(connect, name):
    client, queue = connect(), name("queue")
    channel = client.channel()
    channel.queue_declare(queue)
    inbox = Inbox(client, channel, queue, exclusive=True)
    code, text = refusal(client.channel(), "basic_consume", queue, print)
    assert (code, text) == (403, f"ACCESS_REFUSED - queue '{queue}' in vhost '/' in exclusive use")
    channel.basic_cancel(inbox.tag)
    Inbox(client, channel, queue)


def test_an_auto_delete_queue_goes_with_its_last_consumer(connect, name):
    client, queue = connect(), name("passing")
    channel = client.channel()
    channel.queue_declare(queue, auto_delete=True)
    first, last = Inbox(client, channel, queue), Inbox(client, channel, queue)
    channel.basic_cancel(first.tag)
    assert exists(client, queue)
    channel.basic_cancel(last.tag)
    assert not exists(client, queue)


def test_an_auto_delete_exchange_goes_with_its_last_binding(connect, name):
    client, exchange, queue = connect(), name("passing"), name("queue")
    channel = client.channel()
    channel.exchange_declare(exchange, "fanout", auto_delete=True)
    channel.queue_declare(queue)
    channel.queue_bind(queue, exchange, "")
    channel.queue_unbind(queue, exchange, "")
    assert refusal(channel, "exchange_declare", exchange, passive=True) == (
        404, f"NOT_FOUND - no exchange '{exchange}' in vhost '/'")


def test_a_server_named_queue(connect):
    channel = connect().channel()
    queue = channel.queue_declare("", exclusive=True).method.queue
    assert queue.startswith("amq.gen-")
    channel.queue_bind("", "amq.fanout")
    channel.basic_publish("amq.fanout", "", b"found by the last name declared")
    assert channel.basic_get("", auto_ack=True)[2] == b"found by the last name declared"


def test_missing_queues_refuse_a_channel_and_leave_its_connection_usable(connect, name):
    client, queue = connect(), name("queue")
    assert refusal(client.channel(), "queue_declare", queue, passive=True) == (
        404, f"NOT_FOUND - no queue '{queue}' in vhost '/'")
    assert refusal(client.channel(), "exchange_declare", queue, passive=True) == (
        404, f"NOT_FOUND - no exchange '{queue}' in vhost '/'")
    channel = client.channel()
    channel.queue_declare(queue)
    assert refusal(client.channel(), "queue_declare", queue, durable=True) == (
        406, f"PRECONDITION_FAILED - inequivalent arg 'durable' for queue '{queue}' in vhost '/': "
             "received 'true' but current is 'false'")
    assert refusal(client.channel(), "basic_consume", name("absent"), print)[0] == 404
    assert client.connection.is_open and channel.is_open
    channel.basic_publish("", queue, b"still works")
    assert channel.basic_get(queue, auto_ack=True)[2] == b"still works"


def test_an_unknown_delivery_tag_closes_the_channel(connect, name):
    client, queue = connect(), name("queue")
    channel = client.channel()
    channel.queue_declare(queue)
    channel.basic_ack(17)
    assert refusal(channel, "queue_declare", queue, passive=True) == (
        406, "PRECONDITION_FAILED - unknown delivery tag 17")
    assert client.connection.is_open


def test_purge_and_delete_count_what_was_ready(connect, name):
    channel, queue = connect().channel(), name("queue")
    channel.queue_declare(queue)
    for _ in range(3):
        channel.basic_publish("", queue, b"")
    assert channel.queue_purge(queue).method.message_count == 3
    channel.basic_publish("", queue, b"")
    assert channel.queue_delete(queue).method.message_count == 1
    assert channel.queue_delete(queue).method.message_count == 0


def test_many_channels(connect, name):
    client, queue = connect(), name("queue")
    channels = [client.channel() for _ in range(200)]
    channels[0].queue_declare(queue)
    for number, channel in enumerate(channels):
        channel.basic_publish("", queue, b"%d" % number)
        # The answer says that this channel's message has been handled.
        channel.basic_qos(prefetch_count=1)
    assert [int(channels[-1].basic_get(queue, auto_ack=True)[2]) for _ in channels] == list(range(200))
    numbers = {channel.channel_number for channel in channels}
    for channel in channels:
        channel.close()
    assert client.channel().channel_number in numbers, "closed channel numbers are used again"


def test_heartbeat_is_negotiated_and_keeps_an_idle_connection(connect):
    proposed = []

    def shorter(_connection, server_value):
        proposed.append(server_value)
        return 1

    client = connect(heartbeat=shorter)
    assert proposed == [60]
    # pika gives up a broker that is silent for a heartbeat and a half; the broker gives up a silent pika.
    client.idle(3)
    assert client.channel().is_open


def test_login_is_refused_with_a_wrong_password(broker_url):
    parameters = pika.URLParameters(broker_url)
    parameters.credentials = pika.PlainCredentials("guest", "wrong")
    with pytest.raises(ProbableAuthenticationError, match="ACCESS_REFUSED - Login was refused using authentication"):
        pika.BlockingConnection(parameters)


def test_login_is_refused_to_an_unknown_vhost(broker_url):
    parameters = pika.URLParameters(broker_url)
    parameters.virtual_host = "nowhere"
    with pytest.raises(ProbableAccessDeniedError, match=r"\(530\) 'NOT_ALLOWED - vhost nowhere not found'"):
        pika.BlockingConnection(parameters)


def test_reconnect_after_the_broker_has_closed_the_connection(connect, name):
    client, queue = connect(), name("queue")
    channel = client.channel()
    channel.queue_declare(queue)
    with pytest.raises(ConnectionClosedByBroker) as closed:
        channel.basic_qos(prefetch_size=5)
    assert (closed.value.reply_code, closed.value.reply_text) == (540, "NOT_IMPLEMENTED - prefetch_size!=0 (5)")
    assert not client.connection.is_open
    channel = connect().channel()
    channel.basic_publish("", queue, b"after")
    assert channel.basic_get(queue, auto_ack=True)[2] == b"after"


def test_blocked_handlers_hear_nothing_from_a_broker_that_has_room(connect, name):
    client, queue, told = connect(), name("queue"), []
    client.connection.add_on_connection_blocked_callback(lambda *_: told.append("blocked"))
    client.connection.add_on_connection_unblocked_callback(lambda *_: told.append("unblocked"))
    channel = client.channel()
    channel.queue_declare(queue)
    channel.basic_publish("", queue, b"goes")
    assert (channel.basic_get(queue, auto_ack=True)[2], told) == (b"goes", [])
