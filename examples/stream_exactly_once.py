"""Read from a stream, work, publish: each message exactly once, although the worker dies in the middle.

What the worker publishes and the offset that it has reached are one transaction. The first worker hangs up before its
second commit; the next one of the same name goes on behind the first.

Needs `pip install pika`. Run `python3 examples/stream_exactly_once.py`; it ends when all orders have their bills.
AMQP_URL names another broker than the one on this machine.
"""

import os
import uuid

import pika

PARAMETERS = pika.URLParameters(os.environ.get("AMQP_URL", "amqp://guest:guest@127.0.0.1:5672/%2F"))
suffix = uuid.uuid4().hex[:8]
ORDERS, BILLS = f"orders-{suffix}", f"bills-{suffix}"
COUNT = 6


def work(commits):
    """Writes bills, and hangs up when it is about to commit once more."""
    connection = pika.BlockingConnection(PARAMETERS)
    channel = connection.channel()
    channel.tx_select()
    channel.basic_qos(prefetch_count=2)
    arguments = {"x-stream-consumer-name": "billing", "x-stream-offset": "first"}
    for method, _properties, body in channel.consume(ORDERS, arguments=arguments):
        channel.basic_publish(
            "", BILLS, b"bill for " + body, pika.BasicProperties(delivery_mode=pika.DeliveryMode.Persistent)
        )
        channel.basic_ack(method.delivery_tag)
        if commits == 0:
            connection.close()  # the transaction has not happened
            return
        channel.tx_commit()
        commits -= 1
        print("committed", body.decode())
        if body == f"order {COUNT - 1}".encode():
            connection.close()
            return


with pika.BlockingConnection(PARAMETERS) as setup:
    channel = setup.channel()
    channel.queue_declare(ORDERS, durable=True, arguments={"x-queue-type": "stream"})
    channel.queue_declare(BILLS, durable=True)
    channel.confirm_delivery()
    for number in range(COUNT):
        channel.basic_publish("", ORDERS, f"order {number}".encode())

work(commits=1)
work(commits=COUNT)

with pika.BlockingConnection(PARAMETERS) as check:
    channel = check.channel()
    bills = []
    while (found := channel.basic_get(BILLS, auto_ack=True))[0]:
        bills.append(found[2].decode())
    assert bills == [f"bill for order {number}" for number in range(COUNT)], bills
    channel.queue_delete(ORDERS)
    channel.queue_delete(BILLS)
print("each order has one bill")
