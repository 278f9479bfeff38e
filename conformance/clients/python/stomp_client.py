"""stomp.py, over STOMP 1.1 and 1.2."""

import os
import queue
import threading
import time
import uuid

import stomp

import checks
from checks import Without, name

HOST, PORT = os.environ["STOMP_ADDRESS"].split(":")


class Listener(stomp.ConnectionListener):
    """What comes, for who waits for it."""

    def __init__(self):
        self.messages, self.errors, self.receipts = queue.Queue(), queue.Queue(), {}
        self.gone = threading.Event()

    def on_message(self, frame):
        self.messages.put(frame)

    def on_error(self, frame):
        self.errors.put(frame)

    def on_receipt(self, frame):
        self.receipts.setdefault(frame.headers["receipt-id"], threading.Event()).set()

    def on_disconnected(self):
        self.gone.set()


class Client:
    """A connection that is closed at the end of a `with`."""

    def __init__(self, version=stomp.Connection12, password="guest", **options):
        self.listener = Listener()
        self.connection = version([(HOST, int(PORT))], vhost="/", reconnect_attempts_max=1, **options)
        self.connection.set_listener("", self.listener)
        self.connection.connect("guest", password, wait=True)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.connection.is_connected():
            self.connection.disconnect()

    def done(self, call, *arguments, **headers):
        """Waits until the broker has done what the frame asks for."""
        receipt = str(uuid.uuid4())
        event = self.listener.receipts.setdefault(receipt, threading.Event())
        call(*arguments, receipt=receipt, **headers)
        assert event.wait(10), "no receipt came"

    def subscribe(self, destination, ack="auto", **headers):
        call = self.connection.subscribe
        self.done(call, destination, headers.pop("id", "1"), ack, {"auto-delete": "true", **headers})

    def send(self, destination, *bodies, **headers):
        for body in bodies:
            self.done(self.connection.send, destination, body, headers={key: str(value) for key, value in headers.items()})

    def take(self):
        return self.listener.messages.get(timeout=10)

    def ack(self, frame):
        self.connection.ack(frame.headers["ack"])

    def error(self):
        """The ERROR that comes, after which the connection ends."""
        frame = self.listener.errors.get(timeout=10)
        return f"{frame.headers['message']}: {frame.body}"


def destination():
    return f"/queue/{name('stomp')}"


def login():
    for version in (stomp.Connection11, stomp.Connection12):
        with Client(version):
            pass
    try:
        Client(password="wrong")
    except stomp.exception.ConnectFailedException:
        return
    raise AssertionError("a wrong password was accepted")


def topology():
    with Client() as client:
        key = name("orders")
        client.subscribe(f"/topic/{key}.*")
        client.send("/topic/bills.new", "other")
        client.send(f"/topic/{key}.new", "new")
        frame = client.take()
        assert (frame.body, frame.headers["destination"]) == ("new", f"/topic/{key}.new")


def confirms():
    with Client() as client:
        where = destination()
        client.subscribe(where)
        client.send(where, *map(str, range(100)), persistent="true")
        assert [client.take().body for _ in range(100)] == [str(number) for number in range(100)]


def returns():
    raise Without("STOMP returns nothing")


def prefetch():
    with Client() as client:
        where = destination()
        client.subscribe(where, "client-individual", **{"prefetch-count": "2"})
        client.send(where, *"12345")
        first, second = client.take(), client.take()
        assert client.listener.messages.empty()
        client.ack(first)
        assert client.take().body + second.body == "32"


def requeue():
    with Client() as client:
        where = destination()
        client.subscribe(where, "client-individual")
        client.send(where, "again")
        frame = client.take()
        assert frame.headers["redelivered"] == "false"
        client.connection.nack(frame.headers["ack"])
        frame = client.take()
        assert frame.headers["redelivered"] == "true"
        client.connection.nack(frame.headers["ack"], requeue="false")
        client.send(where, "next")
        assert client.take().body == "next"


def retry():
    with Client() as client:
        work, later = name("work"), name("later")
        client.subscribe(f"/queue/{later}", id="later")
        client.subscribe(f"/queue/{work}", "client-individual", id="work",
                         **{"x-dead-letter-exchange": "", "x-dead-letter-routing-key": later})
        client.send(f"/queue/{work}", "task")
        client.connection.nack(client.take().headers["ack"], requeue="false")
        frame = client.take()
        assert (frame.body, frame.headers["x-first-death-reason"]) == ("task", "rejected")


def rpc():
    with Client() as client:
        requests = destination()
        client.subscribe(requests)
        client.send(requests, "12", **{"reply-to": "/temp-queue/answers", "correlation-id": "1"})
        request = client.take()
        assert request.headers["reply-to"].startswith("/reply-queue/")
        client.send(request.headers["reply-to"], "144", **{"correlation-id": request.headers["correlation-id"]})
        reply = client.take()
        assert (reply.body, reply.headers["subscription"]) == ("144", "/temp-queue/answers")


def priority():
    with Client() as client:
        where = destination()
        client.subscribe(where, "client-individual", **{"x-max-priority": "5", "prefetch-count": "1"})
        for number in "0153":
            client.send(where, number, priority=number)
        bodies = []
        for _ in range(4):
            frame = client.take()
            bodies.append(frame.body)
            client.ack(frame)
        assert bodies == list("0531"), bodies


def transaction():
    with Client() as client:
        where = destination()
        client.subscribe(where)
        connection = client.connection
        never = connection.begin()
        connection.send(where, "never", transaction=never)
        connection.abort(never)
        comes = connection.begin()
        connection.send(where, "comes", transaction=comes)
        connection.commit(comes)
        assert client.take().body == "comes"


def large():
    with Client(auto_decode=False) as client:
        where, body = destination(), os.urandom(3 << 20)
        client.subscribe(where)
        client.send(where, body)
        assert client.take().body == body


def order():
    with Client() as client:
        where = destination()
        client.subscribe(where, "client", **{"prefetch-count": "100"})
        for number in range(2000):
            client.connection.send(where, str(number))
        for number in range(2000):
            frame = client.take()
            assert frame.body == str(number)
            client.ack(frame)


def heartbeat():
    with Client(heartbeats=(1000, 1000)) as client:
        where = destination()
        client.subscribe(where)
        time.sleep(3.5)
        client.send(where, "alive")
        assert client.take().body == "alive" and client.connection.is_connected()


def reconnect():
    client = Client()
    client.connection.send("/nowhere/at-all", "x")
    assert "Unknown destination" in client.error()
    with Client():
        pass


def exclusive():
    with Client() as client, Client() as other:
        where = destination()
        client.subscribe(where, exclusive="true")
        other.connection.subscribe(where, "1", headers={"exclusive": "true"})
        assert "RESOURCE_LOCKED" in other.error()


def missing():
    with Client() as client:
        client.connection.subscribe(f"/amq/queue/{name('no')}", "1")
        assert "NOT_FOUND" in client.error()


def cancelled():
    raise Without("no other protocol deletes the queue here")


def blocked():
    raise Without("STOMP does not say so")


checks.run([login, topology, confirms, returns, prefetch, requeue, retry, rpc, priority, transaction, large, order, heartbeat,
            reconnect, exclusive, missing, cancelled, blocked])
