"""A receiver of webhooks, on a real port, in threads of its own."""

import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass(frozen=True)
class Received:
    """One request as it came: where, with which headers by their names in lower case, which bytes, when."""

    path: str
    headers: Mapping[str, str]
    body: bytes
    at: float


# The status, the headers and the body that a request is answered with.
Answers = Callable[[Received], tuple[int, Mapping[str, str], bytes]]


def taken(_: Received) -> tuple[int, Mapping[str, str], bytes]:
    """What a receiver that is content answers."""
    return 200, {}, b"ok"


class Receiver(ThreadingHTTPServer):
    """Keeps what it received; ``answers`` may be set to something else at any time."""

    daemon_threads = True
    request_queue_size = 1000

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.received: list[Received] = []
        self.answers: Answers = taken
        self.url = f"http://127.0.0.1:{self.server_address[1]}"

    def until(self, done: Callable[[list[Received]], Any], seconds: float = 10) -> list[Received]:
        """What was received, once ``done`` is content with it."""
        deadline = time.monotonic() + seconds
        while not done(self.received):
            assert time.monotonic() < deadline, f"only {len(self.received)} requests came"
            time.sleep(0.005)
        return self.received


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Receiver

    def setup(self) -> None:
        super().setup()
        self.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        headers = {name.lower(): value for name, value in self.headers.items()}
        received = Received(self.path, headers, body, time.time())
        self.server.received.append(received)
        status, told, answer = self.server.answers(received)
        self.send_response(status)
        for name, value in told.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_: Any) -> None:
        """It has nothing to say."""


@contextmanager
def receiving() -> Iterator[Receiver]:
    """A receiver that listens as long as the context lasts."""
    with Receiver() as receiver:
        thread = threading.Thread(target=receiver.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        try:
            yield receiver
        finally:
            receiver.shutdown()
            thread.join()
