"""rstream, unmodified, over the stream protocol: what its own examples do."""

import asyncio
import os
import uuid

import pytest
from rstream import (AMQPMessage, CompressionType, Consumer, ConsumerOffsetSpecification, FilterConfiguration, OffsetNotFound,
                     OffsetSpecification, OffsetType, Producer, RawMessage, RouteType, SuperStreamConsumer, SuperStreamCreationOption, SuperStreamProducer)
from rstream.exceptions import StreamAlreadyExists, StreamDoesNotExist

HOST, PORT = os.environ["STREAM_ADDRESS"].split(":")
WHERE = {"host": HOST, "port": int(PORT), "username": "guest", "password": "guest"}
FIRST = ConsumerOffsetSpecification(OffsetType.FIRST, None)


def name(word):
    return f"{word}-{uuid.uuid4().hex[:12]}"


def run(coroutine):
    asyncio.run(asyncio.wait_for(coroutine, 60))


async def stream(producer, **arguments):
    made = name("stream")
    await producer.create_stream(made, arguments=arguments or None)
    return made


async def read(where, count, offset=FIRST, **options):
    """The first messages from an offset on, with their offsets."""
    got, is_done = [], asyncio.Event()

    async def on_message(message, context):
        if len(got) < count:
            got.append((context.offset, message))
        if len(got) == count:
            is_done.set()

    consumer = Consumer(**WHERE)
    await consumer.start()
    await consumer.subscribe(where, on_message, offset_specification=offset, **options)
    task = asyncio.create_task(consumer.run())
    await is_done.wait()
    await consumer.close()
    task.cancel()
    return got


def test_create_and_delete():
    async def work():
        async with Producer(**WHERE) as producer:
            made = await stream(producer, **{"max-age": "1h", "max-length-bytes": 1_000_000})
            with pytest.raises(StreamAlreadyExists):
                await producer.create_stream(made, arguments={"max-age": "1h", "max-length-bytes": 1_000_000})
            assert await producer.stream_exists(made)
            await producer.delete_stream(made)
            with pytest.raises(StreamDoesNotExist):
                await producer.delete_stream(made)
    run(work())


def test_publish_and_consume():
    async def work():
        async with Producer(**WHERE) as producer:
            made = await stream(producer)
            for number in range(1000):
                await producer.send(made, b"%d" % number)
            await producer.send_wait(made, b"last")
            got = await read(made, 1001)
            assert sorted(offset for offset, _ in got) == list(range(1001))
            middle = await read(made, 10, ConsumerOffsetSpecification(OffsetType.OFFSET, 500))
            assert [offset for offset, _ in middle] == list(range(500, 510))
            assert middle == got[500:510]
            await producer.delete_stream(made)
    run(work())


def test_confirms():
    async def work():
        confirmed = []

        async def on_confirm(status):
            confirmed.append(status.is_confirmed)

        async with Producer(**WHERE) as producer:
            made = await stream(producer)
            for number in range(100):
                await producer.send(made, b"%d" % number, on_publish_confirm=on_confirm)
            await asyncio.sleep(2)
            assert confirmed == [True] * 100
            await producer.delete_stream(made)
    run(work())


def test_properties():
    async def work():
        async with Producer(**WHERE) as producer:
            made = await stream(producer)
            sent = AMQPMessage(body=b"body", application_properties={"key": "value"})
            await producer.send_wait(made, sent)
            from rstream import amqp_decoder
            [(_, message)] = await read(made, 1, decoder=amqp_decoder)
            assert bytes(message.body) == b"body"
            assert message.application_properties[b"key"] == b"value"
            await producer.delete_stream(made)
    run(work())


@pytest.mark.parametrize("compression", [CompressionType.No, CompressionType.Gzip])
def test_sub_entries(compression):
    async def work():
        async with Producer(**WHERE) as producer:
            made = await stream(producer)
            messages = [AMQPMessage(body=b"%d" % number) for number in range(100)]
            await producer.send_sub_entry(made, compression_type=compression, sub_entry_messages=messages)
            await producer.send_wait(made, b"last")
            got = await read(made, 101)
            assert [offset for offset, _ in got] == list(range(101))
            await producer.delete_stream(made)
    run(work())


def test_stored_offsets():
    async def work():
        async with Producer(**WHERE) as producer:
            made = await stream(producer)
            await producer.send_wait(made, b"first")
            consumer = Consumer(**WHERE)
            await consumer.start()
            with pytest.raises(OffsetNotFound):
                await consumer.query_offset(stream=made, subscriber_name="group")
            await consumer.store_offset(stream=made, offset=42, subscriber_name="group")
            assert await consumer.query_offset(stream=made, subscriber_name="group") == 42
            await consumer.close()
            await producer.delete_stream(made)
    run(work())


def test_deduplication():
    async def work():
        async with Producer(**WHERE) as producer:
            made = await stream(producer)
            for _ in range(2):
                for number in (1, 2, 3):
                    message = RawMessage(b"%d" % number, publishing_id=number)
                    await producer.send_wait(made, message, publisher_name="producer")
        async with Producer(**WHERE) as producer:
            await producer.send_wait(made, RawMessage(b"3", publishing_id=3), publisher_name="producer")
            await producer.send_wait(made, RawMessage(b"4", publishing_id=4), publisher_name="producer")
            got = await read(made, 4)
            assert [offset for offset, _ in got] == [0, 1, 2, 3]
            await producer.delete_stream(made)
    run(work())


def test_filters():
    async def work():
        async def value(message):
            return message.application_properties["region"]

        async with Producer(**WHERE, filter_value_extractor=value) as producer:
            made = await stream(producer)
            for region in ("eu", "us"):
                for number in range(20):
                    await producer.send(made, AMQPMessage(body=b"%d" % number, application_properties={"region": region}))
                await asyncio.sleep(1)
            from rstream import amqp_decoder
            wanted = FilterConfiguration(values_to_filter=["us"], match_unfiltered=False)
            got = await read(made, 20, decoder=amqp_decoder, filter_input=wanted)
            assert {bytes(message.application_properties[b"region"]) for _, message in got} == {b"us"}
            await producer.delete_stream(made)
    run(work())


def test_super_stream():
    async def work():
        made = name("super")
        option = SuperStreamCreationOption(n_partitions=3)
        async def key(message):
            return message.application_properties["id"]

        async with SuperStreamProducer(**WHERE, super_stream=made, super_stream_creation_option=option, routing=RouteType.Hash,
                                       routing_extractor=key) as producer:
            for number in range(30):
                await producer.send(AMQPMessage(body=b"%d" % number, application_properties={"id": str(number)}))
            await asyncio.sleep(1)
        got, is_done = [], asyncio.Event()

        async def on_message(message, context):
            got.append((context.stream, context.offset))
            if len(got) == 30:
                is_done.set()

        consumer = SuperStreamConsumer(**WHERE, super_stream=made)
        await consumer.start()
        await consumer.subscribe(on_message, offset_specification=FIRST)
        task = asyncio.create_task(consumer.run())
        await is_done.wait()
        assert len(set(got)) == 30
        await consumer.close()
        task.cancel()
    run(work())


def test_single_active_consumer():
    async def work():
        async with Producer(**WHERE) as producer:
            made = await stream(producer)
            await producer.send_wait(made, b"first")
            got = [[], []]

            async def on_update(is_active, context):
                return OffsetSpecification(OffsetType.FIRST, 0)

            async def member(number):
                async def on_message(message, context):
                    got[number].append(context.offset)
                consumer = Consumer(**WHERE)
                await consumer.start()
                properties = {"single-active-consumer": "true", "name": "group"}
                await consumer.subscribe(made, on_message, properties=properties, offset_specification=FIRST,
                                         consumer_update_listener=on_update)
                return consumer, asyncio.create_task(consumer.run())

            one, other = await member(0), await member(1)
            await asyncio.sleep(1)
            assert got == [[0], []]
            await one[0].close()
            await asyncio.sleep(1)
            assert got == [[0], [0]]
            await other[0].close()
            for _, task in (one, other):
                task.cancel()
            await producer.delete_stream(made)
    run(work())
