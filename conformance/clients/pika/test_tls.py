"""pika over TLS, with a client certificate and EXTERNAL. openssl makes the certificates."""

import os
import shutil
import ssl
import subprocess
import urllib.parse

import pika
import pytest

import brokers

pytestmark = [
    pytest.mark.skipif(shutil.which("openssl") is None, reason="no openssl to make certificates with"),
    pytest.mark.skipif("LEVERET_BINARY" not in os.environ, reason="other brokers have certificates of their own"),
]

CONFIG = """
[tls]
certificate = "{folder}/server.pem"
key = "{folder}/server.key"
ca_certificates = "{folder}/ca.pem"
client_certificates = "required"
[[users]]
name = "O=Shop,CN=worker"
password = "unused"
[[permissions]]
user = "O=Shop,CN=worker"
configure = ".*"
write = ".*"
read = ".*"
"""


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    """A folder with an authority, a certificate for the broker, and one for a client."""
    folder = tmp_path_factory.mktemp("certificates")

    def openssl(*arguments):
        subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)

    key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    openssl("req", "-x509", *key, "-keyout", "ca.key", "-out", "ca.pem", "-days", "2", "-subj", "/CN=Tests")
    for name, subject, more in (
        ("server", "/CN=localhost", "subjectAltName=DNS:localhost"),
        ("client", "/CN=worker/O=Shop", "extendedKeyUsage=clientAuth"),
    ):
        (folder / "extensions").write_text(f"basicConstraints=CA:FALSE\n{more}\n")
        openssl("req", "-new", *key, "-keyout", f"{name}.key", "-out", "request.pem", "-subj", subject)
        openssl("x509", "-req", "-in", "request.pem", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial",
                "-days", "2", "-extfile", "extensions", "-out", f"{name}.pem")
    (folder / "leveret.toml").write_text(CONFIG.format(folder=folder))
    return folder


@pytest.fixture(scope="module")
def port(certificates):
    """Where a broker with these certificates speaks TLS."""
    config = certificates / "leveret.toml"
    with brokers.leveret(os.environ["LEVERET_BINARY"], "--config", config, scheme="amqps") as url:
        yield urllib.parse.urlsplit(url).port


def parameters(certificates, port, client="client"):
    context = ssl.create_default_context(cafile=certificates / "ca.pem")
    if client:
        context.load_cert_chain(certificates / f"{client}.pem", certificates / f"{client}.key")
    return pika.ConnectionParameters(
        "127.0.0.1", port, ssl_options=pika.SSLOptions(context, "localhost"),
        credentials=pika.credentials.ExternalCredentials(), connection_attempts=1)


def test_a_certificate_logs_in_and_large_messages_pass(certificates, port):
    with pika.BlockingConnection(parameters(certificates, port)) as connection:
        channel = connection.channel()
        channel.confirm_delivery()
        queue = channel.queue_declare("", exclusive=True).method.queue
        bodies = [bytes([number]) * 3_000_000 for number in range(4)]
        for body in bodies:
            channel.basic_publish("", queue, body)
        assert [channel.basic_get(queue, auto_ack=True)[2] for _ in bodies] == bodies


def test_without_a_certificate_there_is_no_connection(certificates, port):
    with pytest.raises(pika.exceptions.AMQPConnectionError):
        pika.BlockingConnection(parameters(certificates, port, client=None))
