"""pika and rstream on one stream: what is written through either door is read the same through both. RabbitMQ loses the tables."""

import asyncio
import os
import threading
import uuid

import pika
import pytest
from rstream import AMQPMessage, Consumer, ConsumerOffsetSpecification, OffsetType, Producer, Properties, amqp_decoder

HOST, PORT = os.environ["STREAM_ADDRESS"].split(":")
WHERE = {"host": HOST, "port": int(PORT), "username": "guest", "password": "guest"}
MESSAGES = 200
TABLE = {"text": "value", "number": 7, "nested": {"list": [1, "two", {"three": 3}], "flag": True}, "none": None, "far": -2**40}


@pytest.fixture
def channel():
    connection = pika.BlockingConnection(pika.URLParameters(os.environ["AMQP_URL"]))
    yield connection.channel()
    connection.close()


@pytest.fixture
def stream(channel):
    made = f"doors-{uuid.uuid4().hex[:12]}"
    channel.queue_declare(made, durable=True, arguments={"x-queue-type": "stream"})
    yield made
    channel.queue_delete(made)


def read_by_amqp(channel, stream, count):
    """Offset, body, properties and headers of the first messages."""
    channel.basic_qos(prefetch_count=100)
    got = []
    for method, properties, body in channel.consume(stream, arguments={"x-stream-offset": "first"}, inactivity_timeout=10):
        assert method, f"{len(got)} of {count} came"
        channel.basic_ack(method.delivery_tag)
        got.append((properties.headers.pop("x-stream-offset"), body, properties))
        if len(got) == count:
            break
    channel.cancel()
    return got


async def read_by_stream(stream, count):
    got, is_done = [], asyncio.Event()

    async def on_message(message, context):
        if len(got) < count:
            got.append((context.offset, message))
        if len(got) == count:
            is_done.set()

    consumer = Consumer(**WHERE)
    await consumer.start()
    first = ConsumerOffsetSpecification(OffsetType.FIRST, None)
    await consumer.subscribe(stream, on_message, decoder=amqp_decoder, offset_specification=first)
    task = asyncio.create_task(consumer.run())
    await asyncio.wait_for(is_done.wait(), 30)
    await consumer.close()
    task.cancel()
    return got


def write_by_amqp(stream):
    connection = pika.BlockingConnection(pika.URLParameters(os.environ["AMQP_URL"]))
    channel = connection.channel()
    channel.confirm_delivery()
    for number in range(MESSAGES):
        properties = pika.BasicProperties(content_type="text/plain", correlation_id=f"amqp-{number}", headers={"number": number})
        channel.basic_publish("", stream, b"amqp-%d" % number, properties)
    connection.close()


async def write_by_stream(stream):
    async with Producer(**WHERE) as producer:
        for number in range(MESSAGES):
            message = AMQPMessage(body=b"stream-%d" % number, application_properties={"number": number},
                                  properties=Properties(content_type="text/plain", correlation_id=f"stream-{number}"))
            await producer.send_wait(stream, message)


def as_bytes(value):
    return value.encode() if isinstance(value, str) else bytes(value)


def test_both_doors_write_and_both_read_the_same(channel, stream):
    writer = threading.Thread(target=write_by_amqp, args=[stream])
    writer.start()
    asyncio.run(write_by_stream(stream))
    writer.join()
    by_amqp = read_by_amqp(channel, stream, 2 * MESSAGES)
    by_stream = asyncio.run(read_by_stream(stream, 2 * MESSAGES))
    assert [offset for offset, _, _ in by_amqp] == list(range(2 * MESSAGES))
    assert [offset for offset, _ in by_stream] == list(range(2 * MESSAGES))
    for door in ("amqp", "stream"):
        written = [body for _, body, _ in by_amqp if body.startswith(door.encode())]
        assert written == [f"{door}-{number}".encode() for number in range(MESSAGES)]
    for (_, body, properties), (_, message) in zip(by_amqp, by_stream):
        assert bytes(message.body) == body
        assert properties.correlation_id.encode() == body == as_bytes(message.properties.correlation_id)
        assert (properties.content_type, as_bytes(message.properties.content_type)) == ("text/plain", b"text/plain")
        given = {as_bytes(key): value for key, value in message.application_properties.items()}
        assert properties.headers["number"] == given[b"number"] == int(body.rsplit(b"-")[-1])


def test_tables_in_headers_come_back_as_they_were(channel, stream):
    channel.confirm_delivery()
    channel.basic_publish("", stream, b"body", pika.BasicProperties(headers=TABLE, priority=3, message_id="id", delivery_mode=2))
    [(offset, body, properties)] = read_by_amqp(channel, stream, 1)
    assert (offset, body, properties.headers) == (0, b"body", TABLE)
    assert (properties.priority, properties.message_id, properties.delivery_mode) == (3, "id", 2)
    [(offset, message)] = asyncio.run(read_by_stream(stream, 1))
    assert (offset, bytes(message.body)) == (0, b"body")
    given = {as_bytes(key): value for key, value in message.application_properties.items()}
    assert (as_bytes(given[b"text"]), given[b"number"]) == (b"value", 7)
