"""Sends a message and receives it again. Needs `pip install pika`; run `python3 examples/first.py`."""
import os

import pika

url = os.environ.get("AMQP_URL", "amqp://guest:guest@127.0.0.1:5672/%2F")
with pika.BlockingConnection(pika.URLParameters(url)) as connection:
    channel = connection.channel()
    channel.queue_declare("hello", durable=True)
    channel.basic_publish("", "hello", b"Hello, Leveret!")
    method, properties, body = channel.basic_get("hello", auto_ack=True)
    print("received:", body.decode())
