"""The clients: where each comes from, how it is installed, and which command runs its program."""

import os
import pathlib
import shutil
import subprocess
import sys
from dataclasses import dataclass, field

HERE = pathlib.Path(__file__).resolve().parent
REPOSITORY = HERE.parents[1]
TARGET = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", REPOSITORY / "target")).resolve()
INSTALLED = TARGET / "clients"
PYTHON = TARGET / "venv/bin/python"
WORKSPACE = REPOSITORY / "Cargo.toml"
JARS = ["amqp-client", "slf4j-api", "slf4j-nop"]

# What every client is asked to do; README.md says what each means.
CHECKS = ["login", "topology", "confirms", "returns", "prefetch", "requeue", "retry", "rpc", "priority", "transaction",
          "large", "order", "heartbeat", "reconnect", "exclusive", "missing", "cancelled", "blocked"]

# What a client of the stream protocol is asked to do.
STREAM_CHECKS = ["login", "confirms", "batches", "properties", "offsets", "timestamp", "deduplication", "tracking", "filters",
                 "large", "single-active", "super-stream"]


class NotInstalled(Exception):
    """The client can't be had here; says why."""


def call(*command, **options):
    """Runs a command to its end, with what it prints shown only if it fails."""
    ended = subprocess.run([str(word) for word in command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                           check=False, **options)
    if ended.returncode != 0:
        raise NotInstalled(f"{' '.join(map(str, command))} ended with {ended.returncode}:\n{ended.stdout[-3000:]}")
    return ended.stdout


def debian(*packages):
    """Debian's packages; they are installed when this runs as root."""
    def version(package):
        asked = subprocess.run(["dpkg-query", "-W", "-f", "${db:Status-Status} ${Version}", package],
                               stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=False)
        status, _, number = asked.stdout.partition(" ")
        return number if status == "installed" else None

    def install():
        absent = [package for package in packages if not version(package)]
        if absent:
            if os.geteuid() != 0 or not shutil.which("apt-get"):
                raise NotInstalled(f"needs Debian's {', '.join(absent)}: apt-get install {' '.join(absent)}")
            call("apt-get", "update", "-qq")
            call("apt-get", "install", "-y", "-qq", "--no-install-recommends", *absent)
        return version(packages[0]).split("-")[0].removeprefix("2:")
    return install


def pip(package):
    """Packages of requirements.txt, in a virtual environment."""
    def install():
        if not PYTHON.exists():
            call(sys.executable, "-m", "venv", PYTHON.parents[1])
        call(PYTHON, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--requirement",
             HERE / "requirements.txt")
        return call(PYTHON, "-c", f"import importlib.metadata as m; print(m.version('{package}'))").strip()
    return install


def npm(package):
    """Packages of node/package.json."""
    def install():
        folder = INSTALLED / "node"
        folder.mkdir(parents=True, exist_ok=True)
        if not shutil.which("npm"):
            raise NotInstalled("needs Node.js with npm")
        shutil.copy(HERE / "node/package.json", folder)
        call("npm", "install", "--no-audit", "--no-fund", "--no-package-lock", "--silent", cwd=folder)
        return call("node", "-p", f"require('./node_modules/{package}/package.json').version", cwd=folder).strip()
    return install


def cargo(manifest, package, *build):
    """A crate, built."""
    def install():
        call("cargo", *build, "--manifest-path", manifest)
        found = call("cargo", "tree", "--manifest-path", manifest, "--package", package, "--depth", "0", "--prefix", "none")
        return found.split()[1].removeprefix("v")
    return install


def own_examples():
    """Our own examples, built; their version is the broker's."""
    pip("pika")()
    call("cargo", "build", "--quiet", "--manifest-path", WORKSPACE, "--examples")
    return cargo(WORKSPACE, "leveret", "build", "--quiet")()


@dataclass
class Client:
    """A client and its program."""
    name: str
    registry: str
    install: callable  # Yields the version.
    command: list
    environment: dict = field(default_factory=dict)
    # Checks that the client can't do, with why; for programs whose output does not say so.
    without: dict = field(default_factory=dict)
    # The only broker that is started for it.
    only: str = ""
    # What it is asked to do; a program with checks of its own is asked for none.
    checks: list = field(default_factory=lambda: CHECKS)


CLIENT_TESTS = ["cargo", "test", "--quiet", "--manifest-path", WORKSPACE, "--test", "process", "--"]
TESTS_OF = ["--format", "pretty", "--test-threads", "4"]
SHELL = "a tool does one thing and ends"

CLIENTS = [
    Client("pika", "PyPI", pip("pika"), [PYTHON, "-m", "pytest", "-v", HERE / "pika"]),
    Client("aio-pika", "PyPI", pip("aio-pika"), [PYTHON, HERE / "python/aio_pika_client.py"]),
    Client("kombu", "PyPI", pip("kombu"), [PYTHON, HERE / "python/kombu_client.py"]),
    Client("celery", "PyPI", pip("celery"), [PYTHON, HERE / "python/celery_client.py"], checks=[]),
    Client("amqplib", "npm", npm("amqplib"), ["node", HERE / "node/amqplib.js"],
           {"NODE_PATH": INSTALLED / "node/node_modules"}),
    Client("amqp-connection-manager", "npm", npm("amqp-connection-manager"),
           ["node", HERE / "node/amqp-connection-manager.js"], {"NODE_PATH": INSTALLED / "node/node_modules"}),
    # Over WebSocket.
    Client("amqp-client.js", "npm", npm("@cloudamqp/amqp-client"), ["node", HERE / "node/amqp-client.js"],
           {"NODE_PATH": INSTALLED / "node/node_modules"}, only="Leveret"),
    # Over STOMP, stompjs through WebSocket.
    Client("stomp.py", "PyPI", pip("stomp.py"), [PYTHON, HERE / "python/stomp_client.py"], only="Leveret"),
    Client("stompjs", "npm", npm("@stomp/stompjs"), ["node", HERE / "node/stompjs.js"],
           {"NODE_PATH": INSTALLED / "node/node_modules"}, only="Leveret"),
    Client("stompit", "npm", npm("stompit"), ["node", HERE / "node/stompit.js"],
           {"NODE_PATH": INSTALLED / "node/node_modules"}, only="Leveret"),
    # Over the stream protocol, rstream beside pika.
    Client("rstream", "PyPI", pip("rstream"), [PYTHON, "-m", "pytest", "-v", HERE / "stream"], only="Leveret", checks=[]),
    Client("rbfly", "PyPI", pip("rbfly"), [PYTHON, HERE / "python/rbfly_client.py"], only="Leveret", checks=STREAM_CHECKS),
    Client("rabbitmq-stream-js-client", "npm", npm("rabbitmq-stream-js-client"), ["node", HERE / "node/stream.js"],
           {"NODE_PATH": INSTALLED / "node/node_modules"}, only="Leveret", checks=STREAM_CHECKS),
    Client("lapin", "crates.io", cargo(WORKSPACE, "lapin", "test", "--quiet", "--no-run", "--test", "process"),
           [*CLIENT_TESTS, "clients::lapin", *TESTS_OF]),
    Client("amqprs", "crates.io",
           cargo(HERE / "rust/Cargo.toml", "amqprs", "build", "--quiet", "--target-dir", INSTALLED / "rust"),
           [INSTALLED / "rust/debug/leveret-conformance-clients"]),
    Client("amqp-tools", "Debian", debian("amqp-tools"), [*CLIENT_TESTS, "clients::amqp_tools", *TESTS_OF],
           without={check: SHELL for check in ("confirms", "returns", "retry", "rpc", "priority", "transaction",
                                               "heartbeat", "reconnect", "exclusive", "cancelled", "blocked")}),
    Client("amqp091-go", "Debian", debian("golang-github-rabbitmq-amqp091-go-dev", "golang-go"),
           ["go", "run", HERE / "go/amqp091.go"],
           {"GO111MODULE": "off", "GOPATH": "/usr/share/gocode", "GOCACHE": INSTALLED / "go"}),
    Client("bunny", "Debian", debian("ruby-bunny"), ["ruby", HERE / "ruby/bunny.rb"]),
    Client("php-amqplib", "Debian", debian("php-amqplib", "php-cli"), ["php", HERE / "php/php-amqplib.php"]),
    Client("amqp-client-java", "Debian", debian("librabbitmq-client-java", "default-jdk-headless"),
           ["java", "-cp", ":".join(f"/usr/share/java/{jar}.jar" for jar in JARS), HERE / "java/AmqpClient.java"]),
    # No clients: rabbitmqadmin and amqpstorm against the management API.
    Client("management", "PyPI", pip("amqpstorm"), [PYTHON, "-m", "pytest", "-v", HERE / "management"], only="Leveret",
           checks=[]),
    # No client: our own examples, which are run the same way.
    Client("examples", "this repository", own_examples, [PYTHON, HERE / "python/examples.py"], checks=[]),
]
