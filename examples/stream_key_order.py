"""A super stream: the messages of each key stay in order, and the work is shared by partition.

The exchange finds the partition of a key by its hash, as clients of RabbitMQ's stream protocol do. One consumer reads each
partition here; the others of its name wait until it leaves.

Needs `pip install pika`. Run `python3 examples/stream_key_order.py`; it ends when every customer's messages were read in order.
AMQP_URL names another broker than the one on this machine.
"""

import os
import uuid

import pika

PARAMETERS = pika.URLParameters(os.environ.get("AMQP_URL", "amqp://guest:guest@127.0.0.1:5672/%2F"))
SALES = f"sales-{uuid.uuid4().hex[:8]}"
PARTITIONS = 3
CUSTOMERS = [f"customer-{number}" for number in range(6)]
EACH = 4

connection = pika.BlockingConnection(PARAMETERS)
channel = connection.channel()
# What `leveret ctl stream create-super-stream SALES --partitions 3 --hash` does in one change.
channel.exchange_declare(
    SALES, "direct", durable=True, arguments={"x-super-stream": True, "x-algorithm": "murmur3"}
)
for number in range(PARTITIONS):
    partition = f"{SALES}-{number}"
    channel.queue_declare(partition, durable=True, arguments={"x-queue-type": "stream"})
    channel.queue_bind(partition, SALES, str(number), {"x-stream-partition-order": number})

channel.confirm_delivery()
for number in range(EACH):
    for customer in CUSTOMERS:
        channel.basic_publish(SALES, customer, str(number).encode(), mandatory=True)

read = {customer: [] for customer in CUSTOMERS}
where = {}


def on_message(channel, method, _properties, body):
    customer = method.routing_key
    read[customer].append(int(body))
    where.setdefault(customer, set()).add(method.consumer_tag)
    channel.basic_ack(method.delivery_tag)
    if sum(len(numbers) for numbers in read.values()) == EACH * len(CUSTOMERS):
        channel.stop_consuming()


channel.basic_qos(prefetch_count=10)
for number in range(PARTITIONS):
    arguments = {
        "x-stream-consumer-name": "dispatch",
        "x-single-active-consumer": True,
        "x-stream-offset": "first",
    }
    channel.basic_consume(
        f"{SALES}-{number}", on_message, consumer_tag=f"partition {number}", arguments=arguments
    )
channel.start_consuming()

for customer in CUSTOMERS:
    assert read[customer] == list(range(EACH)), (customer, read[customer])
    assert len(where[customer]) == 1, "all messages of a key are in one partition"
    print(customer, "in order in", *where[customer])
for number in range(PARTITIONS):
    channel.queue_delete(f"{SALES}-{number}")
channel.exchange_delete(SALES)
connection.close()
print("each customer in order")
