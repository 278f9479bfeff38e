"""A Docker that has one container: the broker that is running already.

The tests of aio-pika and aiormq start RabbitMQ by Docker's API; this answers it, so that they run as they are.
"""

import contextlib
import http.server
import json
import threading


@contextlib.contextmanager
def serving(port):
    """Yields the DOCKER_HOST at which every container has the broker at this port on 5672."""
    bound = [{"HostIp": "127.0.0.1", "HostPort": str(port)}]
    # The tests look 5671 up, but no TLS is spoken there.
    container = {"Id": "broker", "NetworkSettings": {"Ports": {"5672/tcp": bound, "5671/tcp": bound}}}

    class Handler(http.server.BaseHTTPRequestHandler):
        def answer(self):
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            body = json.dumps(container).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST = do_DELETE = answer

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"tcp://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
