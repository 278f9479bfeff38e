"""The brokers that clients are run against: each is started on loopback with a data directory of its own, and stopped."""

import contextlib
import os
import pathlib
import re
import signal
import socket
import subprocess
import tempfile
import time

LISTENERS = ("AMQP", "AMQPS", "WEBSOCKET", "STOMP", "STREAM", "HTTP", "HTTPS", "PROMETHEUS", "PROMETHEUS_HTTPS")
START_SECONDS, STOP_SECONDS = 180, 30
USER = "guest:guest"


@contextlib.contextmanager
def leveret(binary, *options, scheme="amqp"):
    """A Leveret, by the URL of that scheme; it has to end with status 0."""
    with home() as directory:
        environment = {f"LEVERET__LISTENERS__{name}__BIND": "127.0.0.1:0" for name in LISTENERS}
        environment["LEVERET__DATA_DIR"] = directory / "data"
        # RabbitMQ's own default; a nearly full disk would block the publishers.
        environment["LEVERET__LIMITS__DISK_FREE_BYTES"] = 50_000_000
        process = start([binary, *options], directory, environment)
        try:
            port = wait_for(process, directory, lambda: listening_port(directory, scheme))
            websocket = wait_for(process, directory, lambda: listening_port(directory, "ws"))
            os.environ["STOMP_ADDRESS"] = f"127.0.0.1:{wait_for(process, directory, lambda: other_port(directory, 'stomp'))}"
            os.environ["STREAM_ADDRESS"] = f"127.0.0.1:{wait_for(process, directory, lambda: other_port(directory, 'stream'))}"
            os.environ["WEBSOCKET_URL"] = f"ws://127.0.0.1:{websocket}/ws"
            yield f"{scheme}://{USER}@127.0.0.1:{port}/%2F"
        finally:
            status = stop(process)
        if status != 0:
            raise RuntimeError(f"{binary} ended with status {status}:\n{said(directory)}")


@contextlib.contextmanager
def rabbitmq():
    """Debian's rabbitmq-server."""
    with home() as directory:
        port, distribution, epmd = free_ports(3)
        (directory / "rabbitmq.conf").write_text(f"listeners.tcp.1 = 127.0.0.1:{port}\nloopback_users = none\n")
        (directory / "plugins").write_text("[].")
        environment = {
            "HOME": directory, "RABBITMQ_NODENAME": f"clients{port}@localhost", "RABBITMQ_LOG_BASE": directory / "log",
            "RABBITMQ_MNESIA_BASE": directory / "mnesia", "RABBITMQ_CONFIG_FILE": directory / "rabbitmq.conf",
            "RABBITMQ_ENABLED_PLUGINS_FILE": directory / "plugins", "RABBITMQ_DIST_PORT": distribution,
            "ERL_EPMD_ADDRESS": "127.0.0.1", "ERL_EPMD_PORT": epmd, "ERL_EPMD_RELAXED_COMMAND_CHECK": "true"}
        process = start(["/usr/lib/rabbitmq/bin/rabbitmq-server"], directory, environment)
        try:
            wait_for(process, directory, lambda: answers(port))
            yield f"amqp://{USER}@127.0.0.1:{port}/%2F"
        finally:
            stop(process)
            # The mapper of names outlives its node, and ends when nobody is registered with it.
            subprocess.run(["epmd", "-port", str(epmd), "-kill"], env={**os.environ, "ERL_EPMD_PORT": str(epmd)},
                           stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)


@contextlib.contextmanager
def home():
    with tempfile.TemporaryDirectory(prefix="leveret-clients-", ignore_cleanup_errors=True) as directory:
        yield pathlib.Path(directory)


def start(command, directory, environment):
    """The process in a group of its own, with what it says in a file."""
    with open(directory / "out.log", "wb") as log:
        return subprocess.Popen(command, cwd=directory, stdout=log, stderr=log, start_new_session=True,
                                env={**os.environ, **{name: str(value) for name, value in environment.items()}})


def wait_for(process, directory, ready):
    """What `ready` answers in the end."""
    deadline = time.monotonic() + START_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        if answer := ready():
            return answer
        time.sleep(0.05)
    raise RuntimeError(f"the broker did not come up:\n{said(directory)}")


def stop(process):
    """Asks the whole group to end, and yields the exit status."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
    try:
        return process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        return process.wait()


def said(directory):
    return "".join((directory / "out.log").read_text(errors="replace").splitlines(keepends=True)[-50:])


def listening_port(directory, scheme):
    found = re.search(rf"(?:listening on|API is at) {scheme}://127\.0\.0\.1:(\d+)", (directory / "out.log").read_text(errors="replace"))
    return found and int(found[1])


def other_port(directory, protocol):
    found = re.search(rf"listening (?:for {protocol} on |on {protocol}://)127\.0\.0\.1:(\d+)", (directory / "out.log").read_text(errors="replace"))
    return found and int(found[1])


def answers(port):
    """Whether a broker answers a header that no broker takes."""
    try:
        with socket.create_connection(("127.0.0.1", port), 1) as connection:
            connection.sendall(b"AMQP\0\0\x09\x01")
            return connection.recv(8) != b""
    except OSError:
        return False


def free_ports(count):
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
