"""The request body: its limits, its deadline and its media type."""

import asyncio
import re
import time
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

from starlette.types import Receive, Scope

from server.errors import Problem, detail, invalid_request
from server.http.headers import HEADERS, header_values

if TYPE_CHECKING:
    pass

MAX_BODY = 1024 * 1024
# If the server closed the connection early, a client that still sends would see a reset and no response. So
# the server reads the rest of a body that is too large, up to this size, and drops it.
MAX_DROPPED = 64 * MAX_BODY

READ_SECONDS = 5.0
READ_RATE = 32 * 1024
"""A request must arrive within 5 seconds, plus one second for each 32 KiB received."""


BROKEN = "cloudarc.broken"
"""Key in the state of an ASGI scope: the rest of the body is not valid HTTP."""

COMPLETE = "cloudarc.complete"
"""Key in the state of an ASGI scope: the whole request has arrived, so its body needs no deadline."""


def deadline(started: float, received: int) -> float:
    """Return the time of the monotonic clock by which a request must arrive, given the bytes ``received``."""
    return started + READ_SECONDS + received / READ_RATE


class Disconnected(Exception):
    """The caller closed the connection before the response."""


async def read_body(scope: Scope, receive: Receive) -> bytes:
    """Read the whole body. Raises Problem 413 over 1 MiB, Problem 408 after the deadline, Disconnected."""
    declared = header_values(scope, b"content-length")
    length = int(declared[0]) if declared and declared[0].isdigit() else 0
    if not length and not header_values(scope, b"transfer-encoding"):
        return b""
    if length > MAX_DROPPED or (length > MAX_BODY and _waits_to_send(scope)):
        raise _too_large(close=True)
    state = scope.get("state", {})
    if COMPLETE in state and 0 < length <= MAX_BODY:
        # The body is one message that is already here.
        whole: Any = await receive()
        if whole["type"] == "http.disconnect":
            raise Disconnected
        return bytes(whole["body"])
    started, received, chunks = time.monotonic(), 0, []
    while True:
        left = max(0.0, deadline(started, received) - time.monotonic())
        try:
            # A timeout costs as much as the rest of this function.
            async with nullcontext() if COMPLETE in state else asyncio.timeout(left):
                message: Any = await receive()
        except TimeoutError:
            raise Problem(408, "The request did not arrive in time.", close=True) from None
        if BROKEN in state:
            raise invalid_request(detail("body", "", "The request is not valid HTTP."))
        if message["type"] == "http.disconnect":
            raise Disconnected
        chunk = message.get("body", b"")
        received += len(chunk)
        if received <= MAX_BODY:
            chunks.append(chunk)
        elif received > MAX_DROPPED:
            raise _too_large(close=True)
        else:
            chunks.clear()
        if not message.get("more_body", False):
            if received > MAX_BODY:
                raise _too_large(close=False)
            return b"".join(chunks)


def _waits_to_send(scope: Scope) -> bool:
    return any(value.lower() == "100-continue" for value in header_values(scope, b"expect"))


def _too_large(*, close: bool) -> Problem:
    return Problem(413, "The body must not be larger than 1 MiB.", close=close)


MAX_CONTENT_TYPE = 200

PACKING = {b"content-encoding", b"transfer-encoding"}
CODINGS = frozenset({"gzip", "x-gzip", "deflate", "br", "zstd", "compress"})
"""The content codings of RFC 9110 that clients use."""

_CHARSET = re.compile(r"""charset\s*=\s*"?utf-?8"?""", re.IGNORECASE)


def require_json(scope: Scope) -> None:
    """Require a body in JSON and UTF-8 without a content coding. Raises Problem 415."""
    types = header_values(scope, b"content-type")
    if types == ["application/json"] and not scope[HEADERS].keys() & PACKING:
        return
    codings = [value.lower() for value in header_values(scope, b"content-encoding")]
    if any(coding != "identity" for coding in codings):
        # Messages never echo input, so only known codings are named.
        name = next((f" {coding}" for coding in codings if coding in CODINGS), "")
        # With this header a client can send the body again by itself (RFC 9110, section 15.5.16).
        raise Problem(
            415,
            f"The content coding{name} is not supported; send the body without Content-Encoding.",
            headers={"Accept-Encoding": "identity"},
        )
    packed = any(value.lower() != "chunked" for value in header_values(scope, b"transfer-encoding"))
    if packed or len(types) != 1 or not _is_json(types[0]):
        raise Problem(415, "The body must be application/json in UTF-8.")


def _is_json(content_type: str) -> bool:
    if len(content_type) > MAX_CONTENT_TYPE:
        return False
    media, *parameters = [part.strip() for part in content_type.split(";")]
    charsets = [part for part in parameters if part.lower().replace(" ", "").startswith("charset=")]
    return media.lower() == "application/json" and all(_CHARSET.fullmatch(each) for each in charsets)
