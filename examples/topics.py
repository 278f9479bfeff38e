"""Publish/subscribe by topic: each subscriber gets the messages whose key fits its pattern.

In a pattern `*` stands for one word and `#` for any number of words. Each subscriber has a queue of its own, which
the broker names and which goes with the connection.

Needs `pip install pika`. Run `python3 examples/topics.py`; it ends when every message has been received.
AMQP_URL names another broker than the one on this machine.
"""

import os

import pika

URL = os.environ.get("AMQP_URL", "amqp://guest:guest@127.0.0.1:5672/%2F")
PATTERNS = {"audit": "#", "europe": "orders.eu.*", "errors": "*.*.failed"}
KEYS = ["orders.eu.placed", "orders.eu.failed", "orders.us.placed", "payments.us.failed"]
EXPECTED = 8

received = []


def subscribe(channel, name, pattern):
    def on_message(_channel, method, _properties, body):
        print(f"{name:7} got {method.routing_key}: {body.decode()}")
        received.append(method.routing_key)

    queue = channel.queue_declare("", exclusive=True).method.queue
    channel.queue_bind(queue, "events", pattern)
    channel.basic_consume(queue, on_message, auto_ack=True)


with pika.BlockingConnection(pika.URLParameters(URL)) as connection:
    channel = connection.channel()
    channel.exchange_declare("events", "topic", durable=True)
    for name, pattern in PATTERNS.items():
        subscribe(channel, name, pattern)
    for key in KEYS:
        channel.basic_publish("events", key, f"about {key.split('.')[0]}".encode())
    while len(received) < EXPECTED:
        connection.process_data_events(time_limit=1)
    print(len(received), "deliveries of", len(KEYS), "messages")
