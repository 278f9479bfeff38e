"""aio-pika, with asyncio."""

import asyncio
import hashlib
import os
from contextlib import asynccontextmanager

import aio_pika
from aio_pika import DeliveryMode, ExchangeType, Message
from aio_pika.exceptions import AMQPError, ChannelNotFoundEntity, DeliveryError, ProbableAuthenticationError
from aiormq.exceptions import ChannelLockedResource
from yarl import URL

import checks
from checks import name


@asynccontextmanager
async def opened(**options):
    """A channel of a connection of its own."""
    connection = await aio_pika.connect(checks.URL, **options)
    async with connection:
        yield await connection.channel()


async def ready(channel, queue):
    """How many messages wait."""
    return (await channel.declare_queue(queue, passive=True)).declaration_result.message_count


async def publish(channel, queue, *bodies, **properties):
    for body in bodies:
        await channel.default_exchange.publish(Message(body, **properties), queue.name)


async def take(messages):
    return await asyncio.wait_for(messages.get(), 10)


async def consume(queue, **options):
    """The messages as they come."""
    messages = asyncio.Queue()
    await queue.consume(messages.put, **options)
    return messages


async def login():
    async with opened() as channel:
        await channel.declare_queue(exclusive=True)
    try:
        await aio_pika.connect(URL(checks.URL).with_password("wrong"))
    except ProbableAuthenticationError as refused:
        assert "ACCESS_REFUSED" in str(refused), refused
    else:
        raise AssertionError("a wrong password was accepted")


async def topology():
    async with opened() as channel:
        exchange = await channel.declare_exchange(name("topic"), ExchangeType.TOPIC, auto_delete=True)
        queue = await channel.declare_queue(exclusive=True)
        await queue.bind(exchange, "orders.*")
        await exchange.publish(Message(b"new"), "orders.new")
        await exchange.publish(Message(b"other"), "bills.new", mandatory=False)
        assert (await queue.get(no_ack=True)).body == b"new"
        assert await queue.get(fail=False) is None


async def confirms():
    async with opened() as channel:
        queue = await channel.declare_queue(exclusive=True)
        await asyncio.gather(*(publish(channel, queue, b"x", delivery_mode=DeliveryMode.PERSISTENT) for _ in range(100)))
        assert await ready(channel, queue.name) == 100


async def returns():
    connection = await aio_pika.connect(checks.URL)
    async with connection:
        channel = await connection.channel(on_return_raises=True)
        try:
            await channel.default_exchange.publish(Message(b"lost"), name("nowhere"), mandatory=True)
        except DeliveryError as returned:
            method = returned.message.delivery
            assert (method.reply_code, method.reply_text) == (312, "NO_ROUTE"), method
        else:
            raise AssertionError("it was not returned")


async def prefetch():
    async with opened() as channel:
        await channel.set_qos(prefetch_count=2)
        queue = await channel.declare_queue(exclusive=True)
        await publish(channel, queue, b"1", b"2", b"3", b"4", b"5")
        messages = await consume(queue)
        first, second = await take(messages), await take(messages)
        assert await ready(channel, queue.name) == 3
        await first.ack()
        assert (await take(messages)).body == b"3" and second.body == b"2"
        assert await ready(channel, queue.name) == 2


async def requeue():
    async with opened() as channel:
        queue = await channel.declare_queue(exclusive=True)
        await publish(channel, queue, b"again")
        messages = await consume(queue)
        message = await take(messages)
        assert not message.redelivered
        await message.nack(requeue=True)
        message = await take(messages)
        assert message.redelivered
        await message.reject(requeue=False)
        assert await ready(channel, queue.name) == 0


async def retry():
    async with opened() as channel:
        work, later = name("work"), name("later")
        queue = await channel.declare_queue(work, exclusive=True, arguments={
            "x-dead-letter-exchange": "", "x-dead-letter-routing-key": later})
        await channel.declare_queue(later, exclusive=True, arguments={
            "x-message-ttl": 50, "x-dead-letter-exchange": "", "x-dead-letter-routing-key": work})
        await publish(channel, queue, b"task")
        messages = await consume(queue)
        await (await take(messages)).reject(requeue=False)
        again = await take(messages)
        deaths = [(row["queue"], row["reason"], row["count"]) for row in again.headers["x-death"]]
        assert deaths == [(later, "expired", 1), (work, "rejected", 1)], deaths
        await again.ack()


async def rpc():
    async with opened() as channel:
        requests = await channel.declare_queue(exclusive=True)
        replies = await consume(await channel.get_queue("amq.rabbitmq.reply-to", ensure=False), no_ack=True)
        await publish(channel, requests, b"12", reply_to="amq.rabbitmq.reply-to", correlation_id="1")
        request = await requests.get(no_ack=True)
        assert request.reply_to.startswith("amq.rabbitmq.reply-to."), request.reply_to
        answer = Message(b"144", correlation_id=request.correlation_id)
        await channel.default_exchange.publish(answer, request.reply_to)
        reply = await take(replies)
        assert (reply.body, reply.correlation_id) == (b"144", "1")


async def priority():
    async with opened() as channel:
        queue = await channel.declare_queue(exclusive=True, arguments={"x-max-priority": 5})
        for number in (1, 5, 3):
            await publish(channel, queue, b"%d" % number, priority=number)
        assert [(await queue.get(no_ack=True)).body for _ in range(3)] == [b"5", b"3", b"1"]


async def transaction():
    connection = await aio_pika.connect(checks.URL)
    async with connection:
        channel = await connection.channel(publisher_confirms=False)
        queue = await channel.declare_queue(exclusive=True)
        async with channel.transaction() as current:
            await publish(channel, queue, b"never")
            await current.rollback()
        async with channel.transaction():
            await publish(channel, queue, b"kept")
        assert (await queue.get(no_ack=True)).body == b"kept"
        assert await queue.get(fail=False) is None


async def large():
    async with opened() as channel:
        queue = await channel.declare_queue(exclusive=True)
        body = os.urandom(8 << 20)
        await publish(channel, queue, body)
        received = (await queue.get(no_ack=True)).body
        assert hashlib.sha256(received).digest() == hashlib.sha256(body).digest()


async def order():
    async with opened() as channel:
        await channel.set_qos(prefetch_count=100)
        queue = await channel.declare_queue(exclusive=True)
        messages = await consume(queue)
        await asyncio.gather(*(publish(channel, queue, b"%d" % number) for number in range(2000)))
        for number in range(2000):
            message = await take(messages)
            assert int(message.body) == number
            await message.ack()


async def heartbeat():
    async with opened(heartbeat=1) as channel:
        await asyncio.sleep(3)
        await channel.declare_queue(exclusive=True)


async def reconnect():
    connection = await aio_pika.connect_robust(checks.URL, reconnect_interval=0.1)
    async with connection:
        channel, found = await connection.channel(), asyncio.Event()
        queue = await channel.declare_queue(name("robust"), auto_delete=True)
        messages = await consume(queue)
        connection.reconnect_callbacks.add(lambda *_: found.set())
        breaking = await connection.channel()
        try:
            await (await breaking.get_underlay_channel()).basic_qos(prefetch_size=5)
        except AMQPError as closed:
            assert "NOT_IMPLEMENTED" in str(closed), closed
        await asyncio.wait_for(found.wait(), 10)
        await channel.ready()
        await publish(channel, queue, b"after")
        assert (await take(messages)).body == b"after"


async def exclusive():
    async with opened() as owner, opened() as other:
        queue = await owner.declare_queue(name("mine"), exclusive=True)
        try:
            await other.declare_queue(queue.name, passive=True)
        except ChannelLockedResource as refused:
            assert "RESOURCE_LOCKED" in str(refused), refused
        else:
            raise AssertionError("another connection may use it")


async def missing():
    connection = await aio_pika.connect(checks.URL)
    async with connection:
        channel = await connection.channel()
        try:
            await channel.declare_queue(name("missing"), passive=True)
        except ChannelNotFoundEntity as refused:
            assert "NOT_FOUND - no queue" in str(refused), refused
        else:
            raise AssertionError("it was found")
        await (await connection.channel()).declare_queue(exclusive=True)


async def cancelled():
    async with opened() as channel:
        queue = await channel.declare_queue(name("going"))
        underlay = await channel.get_underlay_channel()
        tag = await queue.consume(print)
        assert tag in underlay.consumers
        other = await aio_pika.connect(checks.URL)
        async with other:
            await (await other.channel()).queue_delete(queue.name)
        async with asyncio.timeout(10):
            while tag in underlay.consumers:
                await asyncio.sleep(0.01)


async def blocked():
    raise checks.Without("it waits by itself and tells nobody")


checks.run([login, topology, confirms, returns, prefetch, requeue, retry, rpc, priority, transaction, large, order,
            heartbeat, reconnect, exclusive, missing, cancelled, blocked])
