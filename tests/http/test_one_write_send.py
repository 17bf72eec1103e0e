"""How an answer gets from the app to the socket: a plain one as one write, any other as uvicorn writes it."""

import asyncio
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import uvicorn

from server.http.protocol import Protocol

LENGTH = (b"content-length", b"2")
REQUEST = b"%b / HTTP/1.1\r\nHost: localhost\r\nConnection: %b\r\n\r\n"


class RecordingTransport:
    """A transport that also keeps what is written to it."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self.transport = transport
        self.pieces: list[bytes] = []

    def write(self, data: bytes) -> None:
        self.pieces.append(data)
        self.transport.write(data)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.transport, name)


class Answering:
    """An app that answers with the given headers and pieces of a body, and what became of it."""

    def __init__(self, headers: tuple[tuple[bytes, bytes], ...], bodies: tuple[bytes, ...]) -> None:
        self.headers = headers
        self.bodies = bodies
        self.transport: RecordingTransport | None = None
        self.error: Exception | None = None
        self.ended = threading.Event()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        try:
            await send({"type": "http.response.start", "status": 200, "headers": list(self.headers)})
            for nth, body in enumerate(self.bodies, 1):
                more = nth < len(self.bodies)
                await send({"type": "http.response.body", "body": body, "more_body": more})
        except RuntimeError as error:
            self.error = error
        finally:
            self.ended.set()


@contextmanager
def serving(app: Answering) -> Iterator[int]:
    """The port of a server with the product's protocol."""

    class Recording(Protocol):
        def connection_made(self, transport: Any) -> None:
            app.transport = RecordingTransport(transport)
            super().connection_made(app.transport)

    config = uvicorn.Config(
        app, port=0, http=Recording, lifespan="off", ws="none", log_config=None, server_header=False
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        assert thread.is_alive()
        time.sleep(0.005)
    try:
        yield server.servers[0].sockets[0].getsockname()[1]
    finally:
        server.should_exit = True
        thread.join(20)


def written(
    *headers: tuple[bytes, bytes],
    method: bytes = b"GET",
    connection: bytes = b"keep-alive",
    bodies: tuple[bytes, ...] = (b"{}",),
) -> list[bytes]:
    """What is written of an answer, piece by piece. Raises what the app's ``send`` raised."""
    app = Answering(headers, bodies)
    with serving(app) as port, socket.create_connection(("127.0.0.1", port), timeout=10) as caller:
        caller.sendall(REQUEST % (method, connection))
        assert app.ended.wait(10)
    if app.error:
        raise app.error
    assert app.transport is not None
    return app.transport.pieces


def test_a_whole_answer_is_one_write() -> None:
    (piece,) = written((b"content-type", b"application/json"), LENGTH, (b"x-request-id", b"1"))
    head, _, body = piece.partition(b"\r\n\r\n")
    status, date, *given = head.split(b"\r\n")
    assert (status, body) == (b"HTTP/1.1 200 OK", b"{}")
    assert date.startswith(b"date: ")
    assert given == [b"content-type: application/json", b"content-length: 2", b"x-request-id: 1"]


def test_a_connection_is_used_again() -> None:
    app = Answering((LENGTH,), (b"{}",))
    with serving(app) as port, socket.create_connection(("127.0.0.1", port), timeout=10) as caller:
        for _ in range(3):
            caller.sendall(REQUEST % (b"GET", b"keep-alive"))
            assert caller.recv(10_000).endswith(b"\r\n\r\n{}")


@pytest.mark.parametrize(
    ("given", "ending"),
    [
        pytest.param({"method": b"HEAD"}, b"content-length: 2\r\n\r\n", id="HEAD"),
        pytest.param({"connection": b"close"}, b"connection: close\r\n\r\n{}", id="the last of a connection"),
        pytest.param({"bodies": (b"{", b"}")}, b"\r\n\r\n{}", id="a body in pieces"),
    ],
)
def test_what_is_not_plain_is_left_to_uvicorn(given: Any, ending: bytes) -> None:
    pieces = written(LENGTH, **given)
    assert b"".join(pieces).endswith(ending)
    # It writes the head first.
    assert pieces[0].endswith(b"\r\n\r\n")


def test_an_answer_without_a_length_is_chunked() -> None:
    pieces = written()
    assert b"transfer-encoding: chunked\r\n" in pieces[0]
    assert b"".join(pieces[1:]) == b"2\r\n{}\r\n0\r\n\r\n"


def test_a_name_in_capitals_is_none_that_is_overlooked() -> None:
    app = Answering((LENGTH, (b"Connection", b"close")), (b"{}",))
    with serving(app) as port, socket.create_connection(("127.0.0.1", port), timeout=10) as caller:
        caller.sendall(REQUEST % (b"GET", b"keep-alive"))
        while caller.recv(10_000):
            pass
    assert app.transport is not None
    assert len(app.transport.pieces) == 2


@pytest.mark.parametrize("value", [b"a\r\nx-forged: 1", b"a\nb", b"a\x00b", b"a\x7fb"])
def test_no_value_ends_its_line(value: bytes) -> None:
    with pytest.raises(RuntimeError, match="Invalid HTTP header value"):
        written(LENGTH, (b"x-request-id", value))


def test_a_tab_may_stand_in_a_value() -> None:
    assert b"x-request-id: a\tb\r\n" in b"".join(written(LENGTH, (b"x-request-id", b"a\tb")))


def test_a_length_that_is_not_the_bodys_is_refused() -> None:
    with pytest.raises(RuntimeError, match="shorter than Content-Length"):
        written((b"content-length", b"3"))
