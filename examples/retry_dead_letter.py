"""Retry with a pause: what fails waits in a retry queue, comes back, and is parked after three attempts.

    orders --reject--> orders.retry --after half a second--> orders ... --third failure--> orders.parked

Both arrows are dead-lettering, done by the broker; the x-death header counts how often a message has failed.

Needs `pip install pika`. Run `python3 examples/retry_dead_letter.py`; it ends when the message is parked.
AMQP_URL names another broker than the one on this machine.
"""

import os

import pika

URL = os.environ.get("AMQP_URL", "amqp://guest:guest@127.0.0.1:5672/%2F")
ATTEMPTS = 3


def failures(properties):
    """How often this message has been rejected from `orders`."""
    deaths = (properties.headers or {}).get("x-death", [])
    return sum(death["count"] for death in deaths if death["queue"] == "orders" and death["reason"] == "rejected")


def dead_letter_to(queue, **more):
    """Queue arguments: what dies here goes to `queue`, by way of the default exchange."""
    return {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": queue, **more}


with pika.BlockingConnection(pika.URLParameters(URL)) as connection:
    channel = connection.channel()
    channel.queue_declare("orders", durable=True, arguments=dead_letter_to("orders.retry"))
    channel.queue_declare("orders.retry", durable=True,
                          arguments=dead_letter_to("orders", **{"x-message-ttl": 500}))
    channel.queue_declare("orders.parked", durable=True)
    channel.confirm_delivery()
    channel.basic_publish("", "orders", b"an order that can't be handled")

    channel.basic_qos(prefetch_count=1)
    for method, properties, body in channel.consume("orders"):
        attempt = failures(properties) + 1
        print(f"attempt {attempt} failed: {body.decode()}")
        if attempt < ATTEMPTS:
            channel.basic_reject(method.delivery_tag, requeue=False)
        else:
            channel.basic_publish("", "orders.parked", body, properties)  # confirmed, so it is safe to acknowledge
            channel.basic_ack(method.delivery_tag)
            break
    channel.cancel()

    _, properties, body = channel.basic_get("orders.parked", auto_ack=True)
    print(f"parked after {failures(properties) + 1} attempts: {body.decode()}")
