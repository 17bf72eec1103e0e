"""What becomes of an answer between the app and the socket."""

import asyncio
import logging
from typing import Any

import pytest
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from server.http.protocol import OneWriteSend

LENGTH = (b"content-length", b"2")
LOGGER = logging.getLogger(__name__)


class Written:
    """A transport that keeps what is written to it."""

    def __init__(self) -> None:
        self.pieces: list[bytes] = []
        self.closed = False

    def write(self, data: bytes) -> None:
        self.pieces.append(data)

    def close(self) -> None:
        self.closed = True


def written(
    *headers: tuple[bytes, bytes],
    method: str = "GET",
    status: int = 200,
    keep_alive: bool = True,
    bodies: tuple[bytes, ...] = (b"{}",),
) -> tuple[list[bytes], RequestResponseCycle]:
    """What is written of an answer, piece by piece, and its cycle."""
    transport: Any = Written()
    cycle = RequestResponseCycle(
        scope={"type": "http", "method": method, "http_version": "1.1"},  # type: ignore[typeddict-item]  # all it reads
        transport=transport,
        flow=FlowControl(transport),
        logger=LOGGER,
        access_logger=LOGGER,
        access_log=False,
        default_headers=[(b"date", b"today")],
        message_event=asyncio.Event(),
        expect_100_continue=True,
        keep_alive=keep_alive,
        on_response=lambda: None,
    )
    cycle.send = answer = OneWriteSend(cycle)  # type: ignore[method-assign]  # as the protocol does

    async def send() -> None:
        await answer({"type": "http.response.start", "status": status, "headers": list(headers)})
        for nth, body in enumerate(bodies, 1):
            await answer({"type": "http.response.body", "body": body, "more_body": nth < len(bodies)})

    asyncio.run(send())
    assert cycle.response_complete
    assert not cycle.waiting_for_100_continue
    # Neither keeps the other alive.
    assert "send" not in vars(cycle)
    return transport.pieces, cycle


def test_a_whole_answer_is_one_write() -> None:
    pieces, _ = written((b"content-type", b"application/json"), LENGTH, (b"x-request-id", b"1"))
    head = b"HTTP/1.1 200 OK\r\ndate: today\r\ncontent-type: application/json\r\ncontent-length: 2\r\n"
    assert pieces == [head + b"x-request-id: 1\r\n\r\n{}"]


@pytest.mark.parametrize(
    ("given", "ending"),
    [
        pytest.param({"method": "HEAD"}, b"content-length: 2\r\n\r\n", id="HEAD"),
        pytest.param({"keep_alive": False}, b"connection: close\r\n\r\n{}", id="the last of a connection"),
        pytest.param({"bodies": (b"{", b"}")}, b"\r\n\r\n{}", id="a body in pieces"),
    ],
)
def test_what_is_not_plain_is_left_to_uvicorn(given: Any, ending: bytes) -> None:
    pieces, _ = written(LENGTH, **given)
    assert b"".join(pieces).endswith(ending)
    # It writes the head first.
    assert pieces[0].endswith(b"\r\n\r\n")


def test_an_answer_without_a_length_is_chunked() -> None:
    pieces, _ = written()
    assert b"transfer-encoding: chunked\r\n" in pieces[0]
    assert b"".join(pieces[1:]) == b"2\r\n{}\r\n0\r\n\r\n"


def test_a_name_in_capitals_is_none_that_is_overlooked() -> None:
    pieces, cycle = written(LENGTH, (b"Connection", b"close"))
    assert len(pieces) == 2
    assert not cycle.keep_alive


@pytest.mark.parametrize("value", [b"a\r\nx-forged: 1", b"a\nb", b"a\x00b", b"a\x7fb"])
def test_no_value_ends_its_line(value: bytes) -> None:
    with pytest.raises(RuntimeError, match="Invalid HTTP header value"):
        written(LENGTH, (b"x-request-id", value))


def test_a_tab_may_stand_in_a_value() -> None:
    pieces, _ = written(LENGTH, (b"x-request-id", b"a\tb"))
    assert b"x-request-id: a\tb\r\n" in b"".join(pieces)


def test_a_length_that_is_not_the_bodys_is_refused() -> None:
    with pytest.raises(RuntimeError, match="shorter than Content-Length"):
        written((b"content-length", b"3"))
