"""rbfly over the stream protocol."""

import asyncio
import os
import time

import rbfly.streams as rbs
from checks import Without, name, run

WHERE = os.environ["STREAM_ADDRESS"]


def client(user="guest:guest"):
    return rbs.streams_client(f"rabbitmq-stream://{user}@{WHERE}")


def streamed(work):
    """A check on a client and a stream that is there for it."""
    async def check():
        @rbs.connection
        async def connected(opened):
            stream = name("rbfly")
            await opened.create_stream(stream)
            await work(opened, stream)
            await opened.delete_stream(stream)
        await connected(client())
    check.__name__ = work.__name__
    return check


async def read(opened, stream, count, **options):
    """The offsets and the bodies of the next messages."""
    got = []
    messages = opened.subscribe(stream, timeout=10, **options)
    async for body in messages:
        got.append((rbs.get_message_ctx().stream_offset, body))
        if len(got) == count:
            break
    await messages.aclose()
    return got


async def publish(opened, stream, bodies, **options):
    async with opened.publisher(stream, **options) as publisher:
        for body in bodies:
            await publisher.send(body)


async def login():
    @rbs.connection
    async def connected(opened):
        await opened.create_stream(name("rbfly"))
    try:
        await asyncio.wait_for(connected(client("guest:wrong")), 5)
    except (Exception, asyncio.CancelledError):
        return
    raise AssertionError("a wrong password was taken")


async def confirms(opened, stream):
    # Each is confirmed before the next one is sent.
    await publish(opened, stream, range(100))
    assert await read(opened, stream, 100, offset=rbs.Offset.FIRST) == [(number, number) for number in range(100)]


async def batches(opened, stream):
    async with opened.publisher(stream, cls=rbs.PublisherBatchFast) as publisher:
        for number in range(5000):
            publisher.batch(f"{number}")
        await publisher.flush()
    got = await read(opened, stream, 5000, offset=rbs.Offset.FIRST)
    assert got == [(number, f"{number}") for number in range(5000)]


async def properties(opened, stream):
    body = {"a": [1, "two", 3.0, None, True], "b": b"bytes"}
    async with opened.publisher(stream) as publisher:
        await publisher.send(rbs.stream_message_ctx(body, app_properties={"key": "value", "number": 7}))
    messages = opened.subscribe(stream, offset=rbs.Offset.FIRST, timeout=10)
    got = await anext(messages)
    context = rbs.get_message_ctx()
    await messages.aclose()
    assert got == body
    assert context.app_properties == {"key": "value", "number": 7}


async def offsets(opened, stream):
    await publish(opened, stream, range(50))
    got = await read(opened, stream, 10, offset=rbs.Offset.offset(40))
    assert got == [(number, number) for number in range(40, 50)]

    messages = opened.subscribe(stream, offset=rbs.Offset.NEXT, timeout=10)
    following = asyncio.ensure_future(anext(messages))
    await asyncio.sleep(0.5)
    await publish(opened, stream, ["next"], name="other")
    assert await following == "next"
    await messages.aclose()


async def timestamp(opened, stream):
    await publish(opened, stream, ["before"])
    await asyncio.sleep(1)
    between = time.time()
    await asyncio.sleep(1)
    await publish(opened, stream, ["after"])
    assert await read(opened, stream, 1, offset=rbs.Offset.timestamp(between)) == [(1, "after")]


async def deduplication(opened, stream):
    for _ in range(2):
        async with opened.publisher(stream, name="publisher") as publisher:
            for number in (1, 2, 3):
                await publisher.send(rbs.stream_message_ctx(f"{number}", publish_id=number))
    await publish(opened, stream, ["last"], name="publisher")
    got = await read(opened, stream, 4, offset=rbs.Offset.FIRST)
    assert got == [(0, "1"), (1, "2"), (2, "3"), (3, "last")]


async def tracking(opened, stream):
    await publish(opened, stream, range(10))
    await opened.write_offset(stream, "reader", 6)
    got = await read(opened, stream, 3, offset=rbs.Offset.reference("reader"))
    assert got == [(number, number) for number in (7, 8, 9)]


async def filters(opened, stream):
    def region(context):
        return context.app_properties["region"]

    for value in ("eu", "us"):
        async with opened.publisher(stream, cls=rbs.PublisherBatchFast, filter_extract=region) as publisher:
            for number in range(20):
                publisher.batch(rbs.stream_message_ctx(f"{value}{number}", app_properties={"region": value}))
            await publisher.flush()
    wanted = rbs.MessageFilter(region, {"us"})
    got = await read(opened, stream, 20, offset=rbs.Offset.FIRST, filter=wanted)
    assert [body for _, body in got] == [f"us{number}" for number in range(20)]


async def large(opened, stream):
    body = os.urandom(1_000_000)
    await publish(opened, stream, [body])
    assert await read(opened, stream, 1, offset=rbs.Offset.FIRST) == [(0, body)]


async def single_active():
    raise Without("it has no single active consumer")


async def super_stream():
    raise Without("it has no super streams")


run([login, *map(streamed, [confirms, batches, properties, offsets, timestamp, deduplication, tracking, filters, large]),
     single_active, super_stream])
