"""A stream is read again: a program that starts today reads what was published before, from the first message on.

Needs `pip install pika`. Run `python3 examples/stream_replay.py`; it publishes ten messages and reads them twice.
AMQP_URL names another broker than the one on this machine.
"""

import os
import uuid

import pika

connection = pika.BlockingConnection(
    pika.URLParameters(os.environ.get("AMQP_URL", "amqp://guest:guest@127.0.0.1:5672/%2F"))
)
channel = connection.channel()
stream = f"visits-{uuid.uuid4().hex[:8]}"
channel.queue_declare(stream, durable=True, arguments={"x-queue-type": "stream", "x-max-age": "1D"})
channel.confirm_delivery()
for number in range(10):
    channel.basic_publish("", stream, f"visit {number}".encode())


def read_all(begin):
    """What is in the stream from there on. Acknowledging takes nothing away; it asks for more."""
    found = []
    channel.basic_qos(prefetch_count=100)
    for method, _properties, body in channel.consume(stream, arguments={"x-stream-offset": begin}):
        found.append(body.decode())
        channel.basic_ack(method.delivery_tag)
        if found[-1] == "visit 9":
            channel.cancel()
            return found


print("all of it:", len(read_all("first")))
print("once more:", len(read_all("first")))
print("from offset 7 on:", read_all(7))
channel.queue_delete(stream)
connection.close()
print("read again and again")
