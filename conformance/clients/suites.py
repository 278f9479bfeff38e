"""The test suites that clients carry in their packages, run unmodified."""

import json
import os
import re
import subprocess
import time
import urllib.parse
from dataclasses import dataclass

import docker_api
from catalogue import INSTALLED, PYTHON, WORKSPACE, NotInstalled, call, debian, pip

SUITE_SECONDS = 1800
# How many tests passed, as each runner says it: numbers to add up, or lines to count.
PASSED = [re.compile(r"^=*[^=\n]*?(\d+) passed.* in [\d.]+s", re.MULTILINE),
          re.compile(r"^test result: \w+\. (\d+) passed", re.MULTILINE),
          re.compile(r"^--- PASS()", re.MULTILINE)]


@dataclass
class Suite:
    """A client's tests."""
    name: str
    registry: str
    install: callable  # Yields the version and the folder to run in.
    command: list
    # May name {url}, {host} and {port} of the broker, and {docker}, an API that says every container is the broker.
    environment: dict
    # What of it is not run, and why.
    without: str = ""


def source(package, version, *needs):
    """A package's source from PyPI, with what its tests need besides."""
    def install():
        pip("pytest")()
        call(PYTHON, "-m", "pip", "install", "--quiet", f"{package}=={version}", *needs)
        folder = INSTALLED / "suites" / f"{package}-{version}"
        if not folder.exists():
            archives = INSTALLED / "suites/archives"
            call(PYTHON, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", package, "--dest", archives,
                 f"{package}=={version}")
            name = f"{package.replace('-', '_')}-{version}"
            folder.mkdir()
            call("tar", "--extract", "--gzip", "--file", archives / f"{name}.tar.gz", "--directory", folder,
                 "--strip-components", "1")
        return version, folder
    return install


def crate(package):
    """A crate's source, where cargo keeps it."""
    def install():
        known = json.loads(call("cargo", "metadata", "--quiet", "--format-version", "1", "--manifest-path", WORKSPACE))
        found = next(each for each in known["packages"] if each["name"] == package)
        return found["version"], os.path.dirname(found["manifest_path"])
    return install


def debian_source(folder, *packages):
    """Debian's package that has the source."""
    def install():
        return debian(*packages)(), folder
    return install


PYTEST = [PYTHON, "-m", "pytest", "-p", "no:cacheprovider", "-W", "ignore", "-q", "-o", "log_cli=false", "--tb=short"]
RABBITMQ_VARIABLES = {"RABBITMQ_HOST": "{host}", "RABBITMQ_5672_TCP": "{port}"}

SUITES = [
    Suite("py-amqp", "PyPI", source("amqp", "5.4.2"), [*PYTEST, "-k", "not tls", "t/integration"], RABBITMQ_VARIABLES,
          "TLS: its certificates are not in the package"),
    Suite("kombu", "PyPI", source("kombu", "5.7.0"), [*PYTEST, "t/integration/test_py_amqp.py"], RABBITMQ_VARIABLES),
    Suite("aio-pika", "PyPI", source("aio-pika", "10.2.1", "aiomisc-pytest==2.0.0", "shortuuid", "timeout-decorator"),
          [*PYTEST, "--ignore", "tests/test_amqps.py", "--ignore", "tests/test_robust_recovery.py", "tests"],
          {"DOCKER_HOST": "{docker}"}, "TLS and restarts: it needs RabbitMQ in Docker for them"),
    Suite("lapin", "crates.io", crate("lapin"),
          ["cargo", "test", "--quiet", "--locked", "--no-fail-fast", "--no-default-features", "--features", "tokio,smol",
           "--target-dir", INSTALLED / "lapin"], {"AMQP_ADDR": "{url}"}),
    Suite("amqp091-go", "Debian", debian_source("/usr/share/gocode/src/github.com/rabbitmq/amqp091-go",
          "golang-github-rabbitmq-amqp091-go-dev", "golang-go", "golang-uber-goleak-dev"),
          ["go", "test", "-v", "-count", "1", "."],
          {"AMQP_URL": "{url}", "GO111MODULE": "off", "GOPATH": "/usr/share/gocode", "GOCACHE": INSTALLED / "go"}),
]


def run_suite(suite, folder, url):
    """How many tests passed, and what went wrong."""
    at = urllib.parse.urlsplit(url)
    with docker_api.serving(at.port) as docker:
        environment = {name: str(value).format(url=url, host=at.hostname, port=at.port, docker=docker)
                       for name, value in suite.environment.items()}
        try:
            ended = subprocess.run([str(word) for word in suite.command], cwd=folder, env={**os.environ, **environment},
                                   stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=SUITE_SECONDS,
                                   check=False)
        except subprocess.TimeoutExpired as late:
            print((late.stdout or b"").decode(errors="replace"))
            return 0, f"it did not end within {SUITE_SECONDS} s"
    passed = sum(int(number or 1) for pattern in PASSED for number in pattern.findall(ended.stdout))
    problem = f"it ended with status {ended.returncode}" if ended.returncode or not passed else None
    if problem:
        print(ended.stdout)
    return passed, problem


def run(chosen, places):
    """The results by suite and broker, and whether all is well."""
    table, well = [], True
    for suite in chosen:
        try:
            version, folder = suite.install()
        except NotInstalled as why:
            print(f"FAILED {suite.name}: not installed: {why}", flush=True)
            well = False
            continue
        row = {}
        for place, url in places.items():
            started = time.monotonic()
            row[place] = passed, problem = run_suite(suite, folder, url)
            print(f"{'FAILED' if problem else 'ok'} tests of {suite.name} {version} on {place}: {passed} passed in "
                  f"{time.monotonic() - started:.0f} s{f'; {problem}' if problem else ''}", flush=True)
            well = well and not problem
        table.append((suite, version, row))
    return table, well


def report(table, places):
    """The results as a table in Markdown."""
    yield f"| Tests of | Version | From | {' | '.join(places)} | Not run |"
    yield "|---|---|---|" + "---|" * (len(places) + 1)
    for suite, version, row in table:
        cells = [f"{passed}{f', **{problem}**' if problem else ''}" for passed, problem in row.values()]
        yield f"| {suite.name} | {version} | {suite.registry} | {' | '.join(cells)} | {suite.without} |"
