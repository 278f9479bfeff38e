"""Remote procedure calls over direct reply-to."""

import pytest
from adapters import Inbox
from pika import BasicProperties
from pika.exceptions import ChannelClosedByBroker

REPLY_TO = "amq.rabbitmq.reply-to"


def test_rpc_over_direct_reply_to(connect, name):
    server, queue = connect(), name("square")
    serving = server.channel()
    serving.queue_declare(queue)
    requests = Inbox(server, serving, queue, auto_ack=True)

    callers = []
    for number in (3, 4):
        client = connect()
        channel = client.channel()
        answers = Inbox(client, channel, REPLY_TO, auto_ack=True)
        properties = BasicProperties(reply_to=REPLY_TO, correlation_id=f"call {number}")
        channel.basic_publish("", queue, b"%d" % number, properties)
        callers.append((client, channel, answers, number))

    for _ in callers:
        request = requests.take()
        assert request.properties.reply_to.startswith(REPLY_TO + ".")
        answer = b"%d" % (int(request.body) ** 2)
        serving.basic_publish("", request.properties.reply_to, answer,
                              BasicProperties(correlation_id=request.properties.correlation_id))

    for _, _, answers, number in callers:
        answer = answers.take()
        assert (answer.properties.correlation_id, answer.body) == (f"call {number}", b"%d" % number**2)
        assert (answer.method.exchange, not answers.messages) == ("", True)


def test_asking_without_a_reply_consumer_is_refused(connect, name):
    channel, queue = connect().channel(), name("square")
    channel.queue_declare(queue)
    with pytest.raises(ChannelClosedByBroker) as refused:
        channel.basic_publish("", queue, b"3", BasicProperties(reply_to=REPLY_TO))
        channel.queue_declare(queue, passive=True)
    assert refused.value.reply_code == 406
    assert refused.value.reply_text == "PRECONDITION_FAILED - fast reply consumer does not exist"
