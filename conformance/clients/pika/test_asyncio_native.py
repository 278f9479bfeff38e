"""A program in the style that pika's AsyncioConnection is made for: callbacks only, many messages in flight."""

import asyncio

import pika
from pika.adapters.asyncio_connection import AsyncioConnection
from pika.exceptions import ChannelClosedByClient, ConnectionClosedByClient

MESSAGES = 2000


class Flow:
    """Publishes with confirms on one channel and consumes with a prefetch on another, until all is settled."""

    def __init__(self, url, queue, loop):
        self.queue, self.loop = queue, loop
        self.unconfirmed, self.received, self.nacked = set(range(1, MESSAGES + 1)), [], []
        self.finished = loop.create_future()
        self.connection = AsyncioConnection(
            pika.URLParameters(url), on_open_callback=self.on_open, on_open_error_callback=self.on_problem,
            on_close_callback=self.on_close, custom_ioloop=loop)

    def on_problem(self, _, reason):
        if not self.finished.done():
            self.finished.set_exception(reason)

    def on_close(self, closed, reason):
        expected = isinstance(reason, (ChannelClosedByClient, ConnectionClosedByClient))
        if not expected:
            self.on_problem(closed, reason)
        elif closed is self.connection:
            self.finished.set_result(None)

    def on_open(self, connection):
        connection.channel(on_open_callback=self.on_channel)

    def on_channel(self, channel):
        channel.add_on_close_callback(self.on_close)
        channel.queue_declare(self.queue, durable=True, callback=lambda _: self.on_queue(channel))

    def on_queue(self, channel):
        channel.basic_qos(prefetch_count=100)
        channel.basic_consume(self.queue, self.on_message)
        channel.confirm_delivery(self.on_confirm, callback=lambda _: self.publish(channel))

    def publish(self, channel):
        for number in range(MESSAGES):
            channel.basic_publish("", self.queue, b"%d" % number, pika.BasicProperties(delivery_mode=2))

    def on_confirm(self, frame):
        tag, multiple = frame.method.delivery_tag, frame.method.multiple
        self.unconfirmed -= {each for each in self.unconfirmed if each <= tag} if multiple else {tag}
        if isinstance(frame.method, pika.spec.Basic.Nack):
            self.nacked.append(tag)
        self.close_when_done()

    def on_message(self, channel, method, _properties, body):
        self.received.append(int(body))
        if len(self.received) % 50 == 0:
            channel.basic_ack(method.delivery_tag, multiple=True)
        self.close_when_done()

    def close_when_done(self):
        if not self.unconfirmed and len(self.received) == MESSAGES and self.connection.is_open:
            self.connection.close()


def test_order_of_many_messages_in_flight(broker_url, name):
    loop, queue = asyncio.new_event_loop(), name("queue")
    flow = Flow(broker_url, queue, loop)
    loop.run_until_complete(asyncio.wait_for(flow.finished, 30))
    loop.close()
    assert flow.received == list(range(MESSAGES))
    assert not flow.nacked
    with pika.BlockingConnection(pika.URLParameters(broker_url)) as connection:
        assert connection.channel().queue_declare(queue, passive=True).method.message_count == 0
