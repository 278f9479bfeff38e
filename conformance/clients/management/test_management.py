"""Management tools, unmodified, against the management API: Debian's rabbitmqadmin, and amqpstorm's client."""

import json
import os
import re
import shutil
import subprocess
import sys
import urllib.parse

import pytest
from amqpstorm import management

import brokers

RABBITMQADMIN = shutil.which("rabbitmqadmin")


@pytest.fixture(scope="module")
def http_port():
    """Of a broker of its own: what these tools change is the whole broker's."""
    with brokers.leveret(os.environ["LEVERET_BINARY"], scheme="http") as url:
        yield urllib.parse.urlsplit(url).port


@pytest.fixture
def admin(http_port, tmp_path):
    """Runs rabbitmqadmin and returns what it prints."""
    if not RABBITMQADMIN:
        pytest.skip("Debian's package rabbitmq-server has rabbitmqadmin")

    def run(*arguments, status=0):
        command = [sys.executable, RABBITMQADMIN, "--host", "127.0.0.1", "--port", str(http_port), *arguments]
        ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60)
        assert ended.returncode == status, f"{arguments}: {ended.stdout}{ended.stderr}"
        return ended.stdout + ended.stderr

    return run


def rows(admin, *arguments):
    return json.loads(admin("--format", "raw_json", *arguments))


def test_rabbitmqadmin_declares_lists_and_deletes(admin):
    admin("declare", "vhost", "name=shop")
    admin("declare", "user", "name=clerk", "password=secret", "tags=management")
    admin("declare", "permission", "vhost=shop", "user=clerk", "configure=.*", "write=.*", "read=.*")
    admin("declare", "permission", "vhost=shop", "user=guest", "configure=.*", "write=.*", "read=.*")
    shop = ("--vhost", "shop", "--username", "clerk", "--password", "secret")
    admin(*shop, "declare", "exchange", "name=orders", "type=topic")
    admin(*shop, "declare", "queue", "name=paid", "durable=true", 'arguments={"x-max-length":100}')
    admin(*shop, "declare", "binding", "source=orders", "destination=paid", "routing_key=paid.#")
    admin("--vhost", "shop", "declare", "policy", "name=ttl", "pattern=^paid$", 'definition={"message-ttl":60000}')
    upstream = ("component=federation-upstream", "name=up", 'value={"uri":"amqp://elsewhere"}')
    admin("--vhost", "shop", "declare", "parameter", *upstream)
    assert rows(admin, "--vhost", "shop", "list", "parameters")[0]["name"] == "up"
    queue, = rows(admin, *shop, "list", "queues", "name", "arguments", "policy")
    assert queue == {"name": "paid", "arguments": {"x-max-length": 100}, "policy": "ttl"}
    assert "| paid |" in admin(*shop, "list", "queues", "name")
    assert {row["source"] for row in rows(admin, *shop, "list", "bindings")} == {"", "orders"}
    assert "orders" in {row["name"] for row in rows(admin, *shop, "list", "exchanges")}
    assert {row["name"] for row in rows(admin, "list", "users")} == {"guest", "clerk"}
    assert {row["name"] for row in rows(admin, "list", "vhosts")} == {"/", "shop"}
    assert len(rows(admin, "list", "permissions")) == 3
    assert rows(admin, "--vhost", "shop", "list", "policies")[0]["definition"] == {"message-ttl": 60000}
    assert rows(admin, "list", "nodes")[0]["running"] is True
    assert "leveret" in admin("show", "overview")
    for nothing in ("connections", "channels", "consumers"):
        assert rows(admin, "list", nothing) == []
    admin(*shop, "delete", "binding", "source=orders", "destination_type=queue", "destination=paid",
          "properties_key=paid.%23")
    admin("--vhost", "shop", "delete", "policy", "name=ttl")
    admin(*shop, "delete", "queue", "name=paid")
    admin(*shop, "delete", "exchange", "name=orders")
    assert "Not found" in admin(*shop, "delete", "queue", "name=paid", status=1)
    admin("delete", "permission", "vhost=shop", "user=clerk")
    admin("delete", "user", "name=clerk")
    admin("delete", "vhost", "name=shop")
    assert {row["name"] for row in rows(admin, "list", "vhosts")} == {"/"}


def test_rabbitmqadmin_publishes_gets_and_purges(admin, tmp_path):
    admin("declare", "queue", "name=letters")
    assert "Message published" in admin("publish", "routing_key=letters", "payload=dear all")
    assert "NOT routed" in admin("publish", "routing_key=nowhere", "payload=lost")
    message, = rows(admin, "get", "queue=letters", "ackmode=ack_requeue_true")
    assert (message["payload"], message["redelivered"]) == ("dear all", False)
    admin("get", "queue=letters", "payload_file=body", "ackmode=ack_requeue_false")
    assert (tmp_path / "body").read_text() == "dear all"
    admin("publish", "routing_key=letters", "payload=more")
    admin("purge", "queue", "name=letters")
    assert rows(admin, "get", "queue=letters") == []
    admin("delete", "queue", "name=letters")


def test_rabbitmqadmin_exports_and_imports(admin, tmp_path):
    admin("declare", "queue", "name=kept", "durable=true")
    admin("declare", "exchange", "name=posts", "type=fanout")
    admin("declare", "binding", "source=posts", "destination=kept")
    admin("export", "definitions.json")
    exported = json.loads((tmp_path / "definitions.json").read_text())
    assert [queue["name"] for queue in exported["queues"]] == ["kept"]
    admin("delete", "queue", "name=kept")
    admin("delete", "exchange", "name=posts")
    admin("import", "definitions.json")
    assert [row["name"] for row in rows(admin, "list", "queues", "name")] == ["kept"]
    admin("--vhost", "/", "export", "one.json")
    admin("delete", "queue", "name=kept")
    admin("--vhost", "/", "import", "one.json")
    assert [row["name"] for row in rows(admin, "list", "queues", "name")] == ["kept"]
    admin("delete", "queue", "name=kept")
    admin("delete", "exchange", "name=posts")


def test_amqpstorm_manages(http_port):
    api = management.ManagementApi(f"http://127.0.0.1:{http_port}", "guest", "guest")
    assert api.aliveness_test("/") == {"status": "ok"}
    assert re.match(r"\d+\.\d+", api.overview()["rabbitmq_version"])
    assert api.whoami()["name"] == "guest"
    assert api.nodes()[0]["running"]
    api.virtual_host.create("storm")
    api.user.create("rain", "drops", tags="monitoring")
    api.user.set_permission("rain", "storm")
    assert api.user.get_permission("rain", "storm")["configure"] == ".*"
    assert "rain" in {permission["user"] for permission in api.virtual_host.get_permissions("storm")}
    api.queue.declare("q", virtual_host="/", durable=True)
    api.queue.declare("q", virtual_host="/", passive=True)
    api.exchange.declare("x", exchange_type="topic", virtual_host="/")
    api.exchange.bind("amq.fanout", "x", routing_key="k", virtual_host="/")
    api.queue.bind(queue="q", exchange="x", routing_key="k.1", virtual_host="/")
    assert {binding["source"] for binding in api.queue.bindings("q", "/")} == {"", "x"}
    assert api.basic.publish("hello", routing_key="k.1", exchange="x", virtual_host="/") == {"routed": True}
    message, = api.basic.get("q", virtual_host="/", requeue=True, to_dict=True)
    assert (message["payload"], message["routing_key"]) == ("hello", "k.1")
    message, = api.basic.get("q", virtual_host="/", requeue=False, to_dict=True)
    assert message["redelivered"] is True
    api.queue.purge("q", virtual_host="/")
    assert "q" in {queue["name"] for queue in api.queue.list("/")}
    assert "x" in {exchange["name"] for exchange in api.exchange.list("/")}
    assert (api.connection.list(), api.channel.list()) == ([], [])
    with pytest.raises(management.ApiError) as missing:
        api.queue.get("none", "/")
    assert missing.value.error_code == 404
    api.queue.unbind("q", "x", "k.1", virtual_host="/")
    api.queue.delete("q", virtual_host="/")
    api.exchange.delete("x", virtual_host="/")
    api.user.delete_permission("rain", "storm")
    api.user.delete("rain")
    api.virtual_host.delete("storm")
