"""Exchanges: publish/subscribe, routing by key, topics, headers, and exchanges bound to exchanges."""

import pytest
from pika import BasicProperties


def drain(channel, queue):
    """The bodies of all messages that are ready in a queue."""
    bodies = []
    while (message := channel.basic_get(queue, auto_ack=True))[0]:
        bodies.append(message[2])
    return bodies


@pytest.fixture
def channel(connect):
    return connect().channel()


def bound_queue(channel, name, exchange, *keys, arguments=None):
    """A new queue bound with each of the keys."""
    queue = name("queue")
    channel.queue_declare(queue, exclusive=True)
    for key in keys:
        channel.queue_bind(queue, exchange, key, arguments=arguments)
    return queue


def test_publish_and_subscribe(channel, name):
    exchange = name("news")
    channel.exchange_declare(exchange, "fanout")
    channel.basic_publish(exchange, "", b"nobody listens yet")
    subscribers = [bound_queue(channel, name, exchange, "") for _ in range(3)]
    channel.basic_publish(exchange, "any key", b"hello")
    assert [drain(channel, each) for each in subscribers] == [[b"hello"]] * 3
    channel.queue_unbind(subscribers[0], exchange, "")
    channel.basic_publish(exchange, "", b"again")
    assert [drain(channel, each) for each in subscribers] == [[], [b"again"], [b"again"]]


def test_routing_by_key(channel, name):
    exchange = name("logs")
    channel.exchange_declare(exchange, "direct", durable=True)
    errors = bound_queue(channel, name, exchange, "error")
    all_levels = bound_queue(channel, name, exchange, "info", "warning", "error")
    for level in ("info", "error", "debug"):
        channel.basic_publish(exchange, level, level.encode())
    assert drain(channel, errors) == [b"error"]
    assert drain(channel, all_levels) == [b"info", b"error"]


def test_topology_of_topics(channel, name):
    exchange = name("animals")
    channel.exchange_declare(exchange, "topic")
    queues = {pattern: bound_queue(channel, name, exchange, pattern)
              for pattern in ("*.orange.*", "*.*.rabbit", "lazy.#", "#", "quick")}
    both = bound_queue(channel, name, exchange, "lazy.#", "#.rabbit")
    keys = ["quick.orange.rabbit", "lazy.brown.fox", "lazy", "quick", "lazy.pink.rabbit", "quick.orange.new.rabbit"]
    for key in keys:
        channel.basic_publish(exchange, key, key.encode())

    matched = {pattern: [body.decode() for body in drain(channel, queue)] for pattern, queue in queues.items()}
    assert matched == {
        "*.orange.*": ["quick.orange.rabbit"],
        "*.*.rabbit": ["quick.orange.rabbit", "lazy.pink.rabbit"],
        "lazy.#": ["lazy.brown.fox", "lazy", "lazy.pink.rabbit"],
        "#": keys,
        "quick": ["quick"],
    }
    assert drain(channel, both).count(b"lazy.pink.rabbit") == 1, "two matching bindings make one copy"


def test_headers(channel, name):
    exchange = name("documents")
    channel.exchange_declare(exchange, "headers")
    wanted = {"format": "pdf", "pages": 3}
    both = bound_queue(channel, name, exchange, "", arguments={"x-match": "all", **wanted})
    either = bound_queue(channel, name, exchange, "", arguments={"x-match": "any", **wanted})
    for body, headers in [(b"both", {"format": "pdf", "pages": 3, "more": True}), (b"one", {"format": "pdf"}),
                          (b"other type", {"pages": "3"}), (b"none", None)]:
        channel.basic_publish(exchange, "", body, BasicProperties(headers=headers))
    assert drain(channel, both) == [b"both"]
    assert drain(channel, either) == [b"both", b"one"]


def test_an_exchange_bound_to_an_exchange(channel, name):
    source, destination = name("source"), name("destination")
    channel.exchange_declare(source, "topic")
    channel.exchange_declare(destination, "fanout")
    channel.exchange_bind(destination, source, "orders.#")
    queue = bound_queue(channel, name, destination, "")
    channel.basic_publish(source, "orders.new", b"order")
    channel.basic_publish(source, "invoices.new", b"invoice")
    assert drain(channel, queue) == [b"order"]
    channel.exchange_unbind(destination, source, "orders.#")
    channel.basic_publish(source, "orders.new", b"late")
    assert drain(channel, queue) == []


def test_what_no_binding_matches_goes_to_the_alternate_exchange(channel, name):
    exchange, alternate = name("orders"), name("unrouted")
    channel.exchange_declare(alternate, "fanout")
    channel.exchange_declare(exchange, "direct", arguments={"alternate-exchange": alternate})
    known, rest = bound_queue(channel, name, exchange, "known"), bound_queue(channel, name, alternate, "")
    channel.basic_publish(exchange, "known", b"known")
    channel.basic_publish(exchange, "unknown", b"unknown")
    assert (drain(channel, known), drain(channel, rest)) == ([b"known"], [b"unknown"])


def test_properties_and_headers_pass_unchanged(channel, name):
    queue = bound_queue(channel, name, "amq.direct", name("key"))
    sent = BasicProperties(
        content_type="application/json", content_encoding="identity", delivery_mode=2, priority=7,
        correlation_id="c-1", reply_to="answers", expiration="60000", message_id="m-1", timestamp=1700000000,
        type="order", user_id="guest", app_id="shop",
        headers={"text": "dž", "number": -7, "large": 2**40, "yes": True, "none": None,
                 "list": [1, "two", {"three": 3}], "table": {"inner": "value"}, "bytes": b"\x00\xff"})
    channel.basic_publish("", queue, b"{}", sent)
    _, received, body = channel.basic_get(queue, auto_ack=True)
    assert (body, received) == (b"{}", sent)
