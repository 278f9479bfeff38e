"""pika's two adapters with one face, so that a scenario written once runs over both.

`Blocking` hands out pika's own blocking channels. `Asyncio` drives pika's AsyncioConnection: a call that the
broker answers turns the event loop until the answer's callback has come, then returns what the blocking one would.
"""

import asyncio
import inspect
import time
from collections import namedtuple

import pika
from pika.adapters.asyncio_connection import AsyncioConnection
from pika.exceptions import NackError, UnroutableError

PATIENCE_SECONDS = 20
Message = namedtuple("Message", "method properties body")


class Blocking:
    """One BlockingConnection."""

    def __init__(self, parameters, _loop):
        self.connection = pika.BlockingConnection(parameters)
        self.channel = self.connection.channel
        self.close = self.connection.close

    def wait_until(self, done):
        """Handles what arrives until `done()`."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not done():
            assert time.monotonic() < deadline, "what the test waits for did not come"
            self.connection.process_data_events(time_limit=1)

    def idle(self, seconds):
        """Stays connected for a time, answering heartbeats."""
        self.connection.sleep(seconds)


class Asyncio:
    """One AsyncioConnection; those of a test share its event loop."""

    def __init__(self, parameters, loop):
        self.loop, self.changed = loop, asyncio.Event()
        self.opened, self.closed_for = [], []
        self.connection = AsyncioConnection(
            parameters, custom_ioloop=loop,
            on_open_callback=self.notifying(self.opened.append),
            on_open_error_callback=self.notifying(lambda _, reason: self.closed_for.append(reason)),
            on_close_callback=self.notifying(lambda _, reason: self.closed_for.append(reason)))
        self.wait_until(lambda: self.opened or self.closed_for)
        if not self.opened:
            raise self.closed_for[0]

    def notifying(self, callback):
        """The same callback, after which `wait_until` looks again."""
        def called(*arguments):
            callback(*arguments)
            self.changed.set()
        return called

    def wait_until(self, done):
        """Turns the loop until `done()`."""
        async def changes():
            while not done():
                await self.changed.wait()
                self.changed.clear()
        self.loop.run_until_complete(asyncio.wait_for(changes(), PATIENCE_SECONDS))

    def idle(self, seconds):
        """Stays connected for a time, answering heartbeats."""
        self.loop.run_until_complete(asyncio.sleep(seconds))

    def channel(self):
        return AsyncioChannel(self)

    def close(self):
        if self.connection.is_open:
            self.connection.close()
        self.wait_until(lambda: self.closed_for)


class AsyncioChannel:
    """A pika channel whose calls wait for their answers and raise what closes it."""

    def __init__(self, client):
        self.client, self.closed_for = client, []
        self.confirming, self.published, self.confirmed, self.nacked, self.returned = False, 0, 0, set(), []
        opened = []
        self.inner = client.connection.channel(on_open_callback=client.notifying(opened.append))
        self.inner.add_on_close_callback(client.notifying(lambda _, reason: self.closed_for.append(reason)))
        self.wait_until(lambda: opened)

    def wait_until(self, done):
        self.client.wait_until(lambda: done() or self.closed_for or self.client.closed_for)
        if not done():
            raise (self.closed_for or self.client.closed_for)[0]

    def __getattr__(self, name):
        method = getattr(self.inner, name)
        if not callable(method):
            return method

        def call(*arguments, **options):
            notify = self.client.notifying
            arguments = [notify(value) if callable(value) else value for value in arguments]
            options = {key: notify(value) if callable(value) else value for key, value in options.items()}
            if "callback" not in inspect.signature(method).parameters or "callback" in options or not self.is_open \
                    or name.startswith("add_"):
                return method(*arguments, **options)
            answers = []
            result = method(*arguments, **options, callback=notify(answers.append))
            self.wait_until(lambda: answers)
            return result if name == "basic_consume" else answers[0]
        return call

    def basic_get(self, queue, auto_ack=False):
        got, notify = [], self.client.notifying
        self.inner.add_callback(notify(lambda _: got.append((None, None, None))), [pika.spec.Basic.GetEmpty])
        self.inner.basic_get(queue, notify(lambda _, *message: got.append(message)), auto_ack)
        self.wait_until(lambda: got)
        return got[0]

    def confirm_delivery(self):
        answers, notify = [], self.client.notifying
        self.inner.add_on_return_callback(notify(lambda _, *message: self.returned.append(Message(*message))))
        self.inner.confirm_delivery(notify(self._on_confirm), callback=notify(answers.append))
        self.wait_until(lambda: answers)
        self.confirming = True

    def _on_confirm(self, frame):
        self.confirmed = max(self.confirmed, frame.method.delivery_tag)
        if isinstance(frame.method, pika.spec.Basic.Nack):
            self.nacked.add(frame.method.delivery_tag)

    def basic_publish(self, *arguments, **options):
        self.inner.basic_publish(*arguments, **options)
        if not self.confirming:
            return
        self.published += 1
        self.wait_until(lambda: self.confirmed >= self.published)
        if self.published in self.nacked:
            raise NackError([])
        if self.returned:
            raise UnroutableError([self.returned.pop()])

    def close(self):
        self.inner.close()
        self.client.wait_until(lambda: self.closed_for)


class Inbox:
    """A consumer that keeps what it is delivered until the test takes it."""

    def __init__(self, client, channel, queue, **options):
        self.client, self.channel, self.messages = client, channel, []
        self.tag = channel.basic_consume(queue, self._receive, **options)

    def _receive(self, _channel, method, properties, body):
        self.messages.append(Message(method, properties, body))

    def take(self):
        """Waits for the next message and removes it."""
        self.client.wait_until(lambda: self.messages)
        return self.messages.pop(0)

    def bodies(self, count):
        """Waits until `count` messages are there; their bodies in order. The messages stay."""
        self.client.wait_until(lambda: len(self.messages) >= count)
        return [message.body for message in self.messages]
