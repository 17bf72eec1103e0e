"""ASGI in and out: what a request is, its body, its answer."""

import asyncio
import random
import re
import time
from collections.abc import Iterable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from starlette.types import Receive, Scope, Send

from handlers.caller import Caller
from handlers.dialects import AdminDialect, Dialect
from persistence.counters import Count
from server.errors import Problem, fault, invalid

if TYPE_CHECKING:
    from server.pipeline import Match, Plan

MAX_BODY = 1024 * 1024
# A client that is still sending would see a reset instead of the answer, so the rest of a body that
# is too large is read and dropped, up to here.
MAX_DROPPED = 64 * MAX_BODY

READ_SECONDS = 5.0
READ_RATE = 32 * 1024
"""A request may take 5 seconds, and one more for every 32 KiB that have come."""


BROKEN = "cloudarc.broken"
"""Stands in the scope's state where the rest of a body turned out not to be HTTP."""

COMPLETE = "cloudarc.complete"
"""Stands in the scope's state once the whole request has arrived, so that nobody waits for its body."""


@dataclass(slots=True)
class Call:
    """One request, as far as the layers have got with it. It lies in the ASGI scope's extensions."""

    request_id: str
    started: float
    match: "Match | None" = None
    plan: "Plan | None" = None
    caller: Caller | None = None
    dialect: type[Dialect] = AdminDialect
    audience: str | None = None
    """Whose methods ``Allow`` lists: the audience that the credential chooses, or None for both."""
    count: Count | None = None
    limit_headers: list[tuple[bytes, bytes]] = field(default_factory=list)
    reading: bool = False
    status: int = 0
    page: str = "-"

    @property
    def operation(self) -> str:
        """The operationId, or what page of the panel it is, or "-"."""
        return self.plan.id if self.plan else self.page


@dataclass(slots=True)
class Reply:
    """An answer that may be sent; not frozen, which costs as much as all the rest of sending it."""

    status: int
    body: bytes
    content_type: str = "application/json"
    headers: Mapping[str, str] = field(default_factory=dict)
    close: bool = False
    content: Any = None
    """What ``body`` is the JSON of, where a handler has just answered it."""


def call_of(scope: Scope) -> Call:
    """The Call that the edge put into the scope."""
    call: Call = scope["extensions"]["cloudarc"]
    return call


# An id tells requests apart and opens nothing, so it need not ask the kernel each time.
_random = random.Random()  # noqa: S311  opens nothing

REQUEST_ID = re.compile(rb"[A-Za-z0-9._-]{1,64}")


def request_id(headers: Iterable[tuple[bytes, bytes]]) -> str:
    """The caller's own ``X-Request-Id`` where it is well-formed, else a new one."""
    given = [value for name, value in headers if name == b"x-request-id"]
    well_formed = len(given) == 1 and REQUEST_ID.fullmatch(given[0])
    return given[0].decode() if well_formed else f"{_random.getrandbits(64):016x}"


HEADERS = "cloudarc.headers"


def header(scope: Scope, name: bytes) -> list[str]:
    """All values of a header."""
    # A dozen are asked for with each request, and few of them are there.
    by_name: dict[bytes, bytes] | None = scope.get(HEADERS)
    if by_name is None:
        by_name = scope[HEADERS] = dict(scope["headers"])
    value = by_name.get(name)
    if value is None:
        return []
    if len(by_name) == len(scope["headers"]):
        return [value.decode("latin-1")]
    return [each.decode("latin-1") for key, each in scope["headers"] if key == name]


async def send_reply(send: Send, reply: Reply) -> None:
    """Send an answer. The server below leaves the body of a HEAD out and its length in."""
    body, headers = reply.body, [(_name(key), text.encode("latin-1")) for key, text in reply.headers.items()]
    if reply.status == 304:
        body = b""
    else:
        headers += (b"content-type", _name(reply.content_type)), (b"content-length", b"%d" % len(body))
    if reply.close:
        headers.append((b"connection", b"close"))
    await send({"type": "http.response.start", "status": reply.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


@lru_cache(200)
def _name(text: str) -> bytes:
    """What is in lower case in a head: names of headers, and types of content."""
    return text.lower().encode("latin-1")


def deadline(started: float, received: int) -> float:
    """When, on the monotonic clock, a request must have arrived of which ``received`` bytes have."""
    return started + READ_SECONDS + received / READ_RATE


class Disconnected(Exception):
    """The caller has gone; there is nobody to answer."""


async def read_body(scope: Scope, receive: Receive) -> bytes:
    """The whole body. Raises Problem 413 over 1 MiB, 408 when it does not come, Disconnected."""
    declared = header(scope, b"content-length")
    length = int(declared[0]) if declared and declared[0].isdigit() else 0
    if not length and not header(scope, b"transfer-encoding"):
        return b""
    if length > MAX_DROPPED or (length > MAX_BODY and _waits_to_send(scope)):
        raise _too_large(close=True)
    state = scope.get("state", {})
    if COMPLETE in state and 0 < length <= MAX_BODY:
        # It comes as one message, and nobody waits for it.
        whole: Any = await receive()
        if whole["type"] == "http.disconnect":
            raise Disconnected
        return bytes(whole["body"])
    started, received, chunks = time.monotonic(), 0, []
    while True:
        left = max(0.0, deadline(started, received) - time.monotonic())
        try:
            # A deadline costs as much as all the rest of this.
            async with nullcontext() if COMPLETE in state else asyncio.timeout(left):
                message: Any = await receive()
        except TimeoutError:
            raise Problem(408, "The request did not arrive in time.", close=True) from None
        if BROKEN in state:
            raise invalid(fault("body", "", "The request is not valid HTTP."))
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
    return any(value.lower() == "100-continue" for value in header(scope, b"expect"))


def _too_large(*, close: bool) -> Problem:
    return Problem(413, "The body must not be larger than 1 MiB.", close=close)


MAX_CONTENT_TYPE = 200
MAX_ACCEPT = 4 * 1024
"""Characters; longer headers are refused unparsed."""

PACKING = {b"content-encoding", b"transfer-encoding"}
CODINGS = frozenset({"gzip", "x-gzip", "deflate", "br", "zstd", "compress"})
"""The content codings in use, of the registry of RFC 9110."""

_CHARSET = re.compile(r"""charset\s*=\s*"?utf-?8"?""", re.IGNORECASE)


def require_json(scope: Scope) -> None:
    """Raise Problem 415 unless the body says that it is JSON in UTF-8, without a content coding."""
    types = header(scope, b"content-type")
    if types == ["application/json"] and not scope[HEADERS].keys() & PACKING:
        return
    codings = [value.lower() for value in header(scope, b"content-encoding")]
    if any(coding != "identity" for coding in codings):
        # Only these are repeated, since messages never echo input.
        name = next((f" {coding}" for coding in codings if coding in CODINGS), "")
        # RFC 9110, section 15.5.16: a client that learns what is accepted can send the body again by itself.
        raise Problem(
            415,
            f"The content coding{name} is not supported; send the body without Content-Encoding.",
            headers={"Accept-Encoding": "identity"},
        )
    packed = any(value.lower() != "chunked" for value in header(scope, b"transfer-encoding"))
    if packed or len(types) != 1 or not _is_json(types[0]):
        raise Problem(415, "The body must be application/json in UTF-8.")


def _is_json(content_type: str) -> bool:
    if len(content_type) > MAX_CONTENT_TYPE:
        return False
    media, *parameters = [part.strip() for part in content_type.split(";")]
    charsets = [part for part in parameters if part.lower().replace(" ", "").startswith("charset=")]
    return media.lower() == "application/json" and all(_CHARSET.fullmatch(each) for each in charsets)


_QUALITY = re.compile(r"q\s*=\s*(0(\.[0-9]{0,3})?|1(\.0{0,3})?)", re.IGNORECASE)


def accepts(scope: Scope, media_type: str) -> bool:
    """Whether the ``Accept`` header admits a media type; the most specific range decides.

    Raises Problem 400 where the header is too long.
    """
    values = header(scope, b"accept")
    if sum(map(len, values)) > MAX_ACCEPT:
        message = f"The Accept header must have at most {MAX_ACCEPT // 1024} KiB."
        raise invalid(fault("header", "/Accept", message))
    return not values or values in (["*/*"], [media_type]) or _admits(values, media_type)


def _admits(values: list[str], media_type: str) -> bool:
    kind = media_type.partition("/")[0]
    ranks = {media_type: 2, f"{kind}/*": 1, "*/*": 0}
    best, quality = -1, 0.0
    for part in ",".join(values).split(","):
        name, *parameters = [each.strip().lower() for each in part.split(";")]
        rank = ranks.get(name, -1)
        if rank > best:
            found = [match for each in parameters if (match := _QUALITY.fullmatch(each))]
            best, quality = rank, float(found[0].group(1)) if found else 1.0
    if not any(value.strip() for value in values):
        return True
    return best >= 0 and quality > 0
