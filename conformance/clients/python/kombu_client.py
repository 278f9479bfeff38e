"""kombu, over py-amqp."""

import os
import socket
from contextlib import contextmanager

import amqp
from kombu import Connection, Consumer, Exchange, Producer, Queue

import checks
from checks import name


@contextmanager
def opened(**options):
    """A connection and a channel of it."""
    with Connection(checks.URL, transport_options=options) as connection:
        yield connection, connection.channel()


def declared(channel, word="queue", **options):
    """A queue that goes with its connection."""
    queue = Queue(name(word), exclusive=True, **options)(channel)
    queue.declare()
    return queue


def publish(channel, queue, *bodies, **properties):
    for body in bodies:
        Producer(channel).publish(body, routing_key=queue.name, **properties)


def ready(queue):
    """How many messages wait."""
    return queue.queue_declare(passive=True).message_count


class Inbox:
    """A consumer's messages as they come."""

    def __init__(self, connection, channel, queue, **options):
        self.connection, self.messages = connection, []
        self.consumer = Consumer(channel, [queue], on_message=self.messages.append, **options)
        self.consumer.consume()

    def take(self):
        while not self.messages:
            self.connection.drain_events(timeout=10)
        return self.messages.pop(0)


def login():
    with opened() as (_, channel):
        declared(channel)
    try:
        Connection(checks.URL).clone(password="wrong").connect()
    except amqp.AccessRefused as refused:
        assert refused.reply_code == 403, refused
    else:
        raise AssertionError("a wrong password was accepted")


def topology():
    with opened() as (connection, channel):
        exchange = Exchange(name("topic"), "topic", durable=False, auto_delete=True)
        queue = declared(channel, exchange=exchange, routing_key="orders.*")
        producer = Producer(channel, exchange=exchange)
        producer.publish({"what": "new"}, routing_key="orders.new")
        producer.publish({"what": "other"}, routing_key="bills.new")
        assert queue.get(no_ack=True).payload == {"what": "new"}
        assert queue.get() is None


def confirms():
    with opened(confirm_publish=True) as (connection, channel):
        queue = declared(channel)
        publish(channel, queue, *range(100))
        assert ready(queue) == 100


def returns():
    with opened(confirm_publish=True) as (connection, channel):
        returned = []
        producer = Producer(channel, on_return=lambda *what: returned.append(what))
        producer.publish("lost", routing_key=name("nowhere"), mandatory=True)
        reason = returned[0][0]
        assert (reason.reply_code, reason.reply_text) == (312, "NO_ROUTE"), reason


def prefetch():
    with opened() as (connection, channel):
        queue = declared(channel)
        publish(channel, queue, 1, 2, 3, 4, 5)
        inbox = Inbox(connection, channel, queue, prefetch_count=2)
        first, second = inbox.take(), inbox.take()
        assert ready(queue) == 3
        first.ack()
        assert inbox.take().payload == 3 and second.payload == 2
        assert ready(queue) == 2


def requeue():
    with opened() as (connection, channel):
        queue = declared(channel)
        publish(channel, queue, "again")
        inbox = Inbox(connection, channel, queue)
        message = inbox.take()
        assert not message.delivery_info["redelivered"]
        message.requeue()
        message = inbox.take()
        assert message.delivery_info["redelivered"]
        message.reject()
        assert ready(queue) == 0


def retry():
    with opened() as (connection, channel):
        later = name("later")
        work = declared(channel, queue_arguments={"x-dead-letter-exchange": "", "x-dead-letter-routing-key": later})
        Queue(later, exclusive=True, message_ttl=0.05, queue_arguments={
            "x-dead-letter-exchange": "", "x-dead-letter-routing-key": work.name})(channel).declare()
        publish(channel, work, "task")
        inbox = Inbox(connection, channel, work)
        inbox.take().reject()
        again = inbox.take()
        deaths = [(row["queue"], row["reason"], row["count"]) for row in again.headers["x-death"]]
        assert deaths == [(later, "expired", 1), (work.name, "rejected", 1)], deaths
        again.ack()


def rpc():
    with opened() as (connection, channel):
        requests = declared(channel)
        replies = []
        channel.basic_consume("amq.rabbitmq.reply-to", no_ack=True, callback=replies.append)
        producer = Producer(channel)
        producer.publish(12, routing_key=requests.name, reply_to="amq.rabbitmq.reply-to", correlation_id="1")
        request = requests.get(no_ack=True)
        reply_to = request.properties["reply_to"]
        assert reply_to.startswith("amq.rabbitmq.reply-to."), reply_to
        producer.publish(request.payload ** 2, routing_key=reply_to, correlation_id=request.properties["correlation_id"])
        while not replies:
            connection.drain_events(timeout=10)
        assert (replies[0].body, replies[0].properties["correlation_id"]) == ("144", "1")


def priority():
    with opened() as (connection, channel):
        queue = declared(channel, max_priority=5)
        for number in (1, 5, 3):
            publish(channel, queue, number, priority=number)
        assert [queue.get(no_ack=True).payload for _ in range(3)] == [5, 3, 1]


def transaction():
    with opened() as (connection, channel):
        queue, producer = declared(channel), Producer(channel)
        channel.tx_select()
        producer.publish("never", routing_key=queue.name)
        channel.tx_rollback()
        producer.publish("kept", routing_key=queue.name)
        channel.tx_commit()
        assert queue.get(no_ack=True).payload == "kept"
        assert queue.get() is None


def large():
    with opened() as (connection, channel):
        queue, body = declared(channel), os.urandom(8 << 20)
        Producer(channel).publish(body, routing_key=queue.name, serializer=None,
                                             content_type="application/data", content_encoding="binary")
        assert queue.get(no_ack=True).body == body


def order():
    with opened() as (connection, channel):
        queue = declared(channel)
        publish(channel, queue, *range(2000))
        inbox = Inbox(connection, channel, queue, prefetch_count=100)
        for number in range(2000):
            message = inbox.take()
            assert message.payload == number
            message.ack()


def heartbeat():
    with Connection(checks.URL, heartbeat=1) as connection:
        channel = connection.channel()
        for _ in range(15):
            connection.heartbeat_check()
            try:
                connection.drain_events(timeout=0.2)
            except socket.timeout:
                pass
        assert connection.get_heartbeat_interval() == 1
        declared(channel)


def reconnect():
    connection = Connection(checks.URL)
    channel, queue = connection.channel(), Queue(name("robust"), auto_delete=True)
    queue(channel).declare()
    try:
        channel.basic_qos(5, 0, False)
    except amqp.AMQPNotImplementedError as closed:
        assert "NOT_IMPLEMENTED" in str(closed), closed
    assert not connection.connected
    producer = connection.Producer()
    connection.ensure(producer, producer.publish, max_retries=3, interval_start=0)("after", routing_key=queue.name)
    assert queue(connection.default_channel).get(no_ack=True).payload == "after"
    queue(connection.default_channel).delete()
    connection.release()


def exclusive():
    with opened() as (_, owner), opened() as (_, other):
        queue = declared(owner)
        try:
            queue(other).queue_declare(passive=True)
        except amqp.ResourceLocked as refused:
            assert "RESOURCE_LOCKED" in str(refused), refused
        else:
            raise AssertionError("another connection may use it")


def missing():
    with opened() as (connection, channel):
        try:
            Queue(name("missing"))(channel).queue_declare(passive=True)
        except amqp.NotFound as refused:
            assert "NOT_FOUND - no queue" in str(refused), refused
        else:
            raise AssertionError("it was found")
        declared(connection.channel())


def cancelled():
    with opened() as (connection, channel), opened() as (_, other):
        queue = Queue(name("going"), durable=False)(channel)
        queue.declare()
        told = []
        channel.basic_consume(queue.name, callback=print, on_cancel=told.append, consumer_tag="watcher")
        queue(other).delete()
        while not told:
            connection.drain_events(timeout=10)
        assert told == ["watcher"]


def blocked():
    told = []
    with opened(on_blocked=told.append, on_unblocked=lambda: told.append(None)) as (connection, channel):
        queue = declared(channel)
        publish(channel, queue, "goes")
        assert queue.get(no_ack=True).payload == "goes" and not told


checks.run([login, topology, confirms, returns, prefetch, requeue, retry, rpc, priority, transaction, large, order,
            heartbeat, reconnect, exclusive, missing, cancelled, blocked])
