"""The fixtures: a broker's URL, connections of both of pika's adapters, and names that no other test uses."""

import asyncio
import os
import uuid

import pika
import pytest

from adapters import Asyncio, Blocking


@pytest.fixture(scope="session")
def broker_url():
    """The broker to ask; `conformance/clients/run pika` sets it."""
    return os.environ["AMQP_URL"]


@pytest.fixture
def name(broker_url):
    """Makes unused names; queues and exchanges that bear them are deleted after the test."""
    made = []

    def make(word):
        made.append(f"{word}-{uuid.uuid4().hex[:8]}")
        return made[-1]

    yield make
    with pika.BlockingConnection(pika.URLParameters(broker_url)) as connection:
        channel = connection.channel()
        for each in made:
            channel.queue_delete(each)
            channel.exchange_delete(each)


@pytest.fixture(params=[Blocking, Asyncio], ids=["blocking", "asyncio"])
def connect(request, broker_url, name):
    """Opens connections of one adapter, with any of pika's connection parameters; all are closed after the test."""
    loop, opened = asyncio.new_event_loop(), []

    def open_connection(**settings):
        parameters = pika.URLParameters(broker_url)
        for key, value in settings.items():
            setattr(parameters, key, value)
        opened.append(request.param(parameters, loop))
        return opened[-1]

    yield open_connection
    for client in opened:
        if client.connection.is_open:
            client.close()
    loop.close()
