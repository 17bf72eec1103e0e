"""HTTP by hand: requests as bytes, a TCP connection, answers read to the byte, and what to ask of them."""

import json
import re
import socket
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Literal

from sqlalchemy import func, select

from persistence.database import Connection
from persistence.types import Base
from tests.support.live_server import Running

DialectName = Literal["client", "admin"]

PATIENCE = 4.5
"""How many seconds an answer may take that waits for nothing; it is below the server's own deadline."""

CODES = {
    400: "VALIDATION_ERROR",
    401: "UNAUTHORIZED",
    403: "FORBIDDEN",
    404: "NOT_FOUND",
    405: "METHOD_NOT_ALLOWED",
    406: "NOT_ACCEPTABLE",
    408: "REQUEST_TIMEOUT",
    409: "CONFLICT",
    413: "PAYLOAD_TOO_LARGE",
    415: "UNSUPPORTED_MEDIA_TYPE",
}

ECHO = "zqxjkv"
"""Stands in many requests; no message may repeat it."""


# --- Requests ----------------------------------------------------------------------------------------


def encoded(text: str | bytes) -> bytes:
    return text if isinstance(text, bytes) else text.encode("latin-1")


def raw(
    method: str,
    target: str | bytes,
    *headers: str | bytes,
    body: bytes = b"",
    version: str = "1.1",
    host: str | None = "localhost",
) -> bytes:
    """A request of exactly these headers, and of Host unless it is None."""
    hosts = [] if host is None else [f"Host: {host}"]
    lines = [b"%s %s HTTP/%s" % (method.encode(), encoded(target), version.encode())]
    return b"\r\n".join([*lines, *map(encoded, [*hosts, *headers]), b"", b""]) + body


def bearer(secret: str | None) -> list[str]:
    return [] if secret is None else [f"Authorization: Bearer {secret}"]


def get(path: str | bytes, secret: str | None = None, *headers: str | bytes) -> bytes:
    """A GET below the base path."""
    return raw("GET", b"/api/v1" + encoded(path), *bearer(secret), *headers)


def send(
    path: str,
    secret: str | None,
    body: bytes | str,
    *headers: str | bytes,
    media: str | None = "application/json",
    method: str = "POST",
) -> bytes:
    """A request with a body and its length; ``media`` None leaves the Content-Type out."""
    content = body if isinstance(body, bytes) else body.encode()
    kind = [] if media is None else [f"Content-Type: {media}"]
    length = f"Content-Length: {len(content)}"
    return raw(method, f"/api/v1{path}", *bearer(secret), *kind, length, *headers, body=content)


def chunked(path: str, secret: str | None, body: bytes, *headers: str | bytes) -> bytes:
    """A POST of JSON in chunks; ``body`` is the chunks as they go over the wire."""
    return raw(
        "POST",
        f"/api/v1{path}",
        *bearer(secret),
        "Content-Type: application/json",
        "Transfer-Encoding: chunked",
        *headers,
        body=body,
    )


def chunks(*parts: bytes, trailer: bytes = b"") -> bytes:
    """A body in chunks, with its end."""
    return b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in parts) + b"0\r\n" + trailer + b"\r\n"


# --- Answers -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Answer:
    """An answer, with the statuses of the interim answers before it."""

    status: int
    headers: dict[str, str]
    body: bytes
    interim: list[int] = field(default_factory=list)

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def closes(self) -> bool:
        return "close" in self.headers.get("connection", "")


class Wire:
    """A TCP connection that reads HTTP strictly."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), PATIENCE)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.unread = b""

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def send_until_refused(self, pieces: Iterable[bytes]) -> None:
        """Send until all is sent or the server has closed; what it answered can still be read."""
        try:
            for piece in pieces:
                self.socket.sendall(piece)
        except (BrokenPipeError, ConnectionResetError):
            pass

    def _more(self) -> None:
        data = self.socket.recv(1 << 16)
        assert data, f"the connection was closed after {self.unread[:200]!r}"
        self.unread += data

    def _taken(self, size: int) -> bytes:
        while len(self.unread) < size:
            self._more()
        data, self.unread = self.unread[:size], self.unread[size:]
        return data

    def head(self) -> tuple[int, dict[str, str]]:
        """The status and the headers of the next answer, be it an interim one."""
        while b"\r\n\r\n" not in self.unread:
            self._more()
        head, _, self.unread = self.unread.partition(b"\r\n\r\n")
        first, *lines = head.decode("ascii").split("\r\n")
        match = re.fullmatch(r"HTTP/1\.1 ([1-5][0-9]{2}) [A-Za-z ]+", first)
        assert match, first
        pairs = [line.split(": ", 1) for line in lines]
        headers = {name.lower(): value for name, value in pairs}
        assert len(headers) == len(pairs), f"a header stands twice: {head!r}"
        return int(match[1]), headers

    def answer(self, *, head_only: bool = False) -> Answer:
        """The next answer; to a HEAD, which ``head_only`` says, it has no body."""
        interim: list[int] = []
        status, headers = self.head()
        while status < 200:
            interim.append(status)
            status, headers = self.head()
        size = 0 if head_only or status == 304 else int(headers["content-length"])
        return Answer(status, headers, self._taken(size), interim)

    def is_closed(self) -> bool:
        """Whether the server closes the connection without another byte."""
        assert self.unread == b""
        try:
            return self.socket.recv(1 << 16) == b""
        except ConnectionResetError:
            return True
        except TimeoutError:
            return False

    def is_usable(self) -> bool:
        """Whether the server answers another request on this connection, and that alone."""
        assert self.unread == b""
        self.send(get("/status", None, "X-Request-Id: another-request"))
        answer = self.answer()
        return answer.status == 200 and answer.headers["x-request-id"] == "another-request"

    def waits(self, seconds: float) -> bool:
        """Whether the server says nothing for so long."""
        self.socket.settimeout(seconds)
        started = time.monotonic()
        try:
            self.unread += self.socket.recv(1 << 16)
        except TimeoutError:
            return time.monotonic() - started >= seconds * 0.9
        finally:
            self.socket.settimeout(PATIENCE)
        return False

    def close(self) -> None:
        self.socket.close()


# --- What to ask of an answer ------------------------------------------------------------------------


def check_head(answer: Answer) -> None:
    """What every answer of the API has."""
    assert re.fullmatch(r"[A-Za-z0-9._-]{1,64}", answer.headers["x-request-id"])
    # The contract and its page are public and may be kept, as long as they are asked for again.
    kept = {"no-store", "no-cache"} if answer.status < 400 and "etag" in answer.headers else {"no-store"}
    assert answer.headers["cache-control"] in kept
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "location" not in answer.headers


def check_error(answer: Answer, status: int, dialect: DialectName) -> None:
    """An error of this status, in exactly the shape of its dialect."""
    check_head(answer)
    assert answer.status == status, answer.body
    assert answer.headers["content-type"] == "application/json"
    content = answer.json
    details = {"details"} if status in (400, 422) else set()
    if dialect == "client":
        assert set(content) == {"error", "code"} | details, content
        assert content["code"] == status
        message, faults = content["error"], content.get("details", [])
    else:
        assert set(content) == {"status", "error"} and content["status"] == "error", content
        assert set(content["error"]) == {"code", "message"} | details, content
        assert content["error"]["code"] == CODES[status]
        message, faults = content["error"]["message"], content["error"].get("details", [])
    assert 0 < len(message) <= 500
    if details:
        assert 1 <= len(faults) <= 100
        assert all(set(each) == {"in", "pointer", "message"} for each in faults)
        assert all(each["in"] in ("body", "query", "path", "header") for each in faults)
    # A pointer may name an unknown member, for that is its purpose.
    assert not any(
        ECHO in text for text in (message, str(answer.headers), *[each["message"] for each in faults])
    )
    if status == 401:
        assert answer.headers["www-authenticate"] == "Bearer"
    assert ("allow" in answer.headers) == (status == 405)


def faults_of(answer: Answer) -> set[tuple[str, str]]:
    """Where the faults of a validation failure lie."""
    content = answer.json
    faults = content["details"] if "details" in content else content["error"]["details"]
    return {(each["in"], each["pointer"]) for each in faults}


TABLES = {table.name: table for table in Base.metadata.sorted_tables}
COUNTS = select(
    *[select(func.count()).select_from(table).scalar_subquery().label(name) for name, table in TABLES.items()]
)


def counts(server: Running) -> dict[str, int]:
    """How many rows each table has."""

    async def work(db: Connection) -> Any:
        return await db.fetch_one(COUNTS)

    return dict(server.inside(work)._asdict())


def written(server: Running, before: dict[str, int]) -> int:
    """How many tickets and invoices there are more than before; where none, nothing else is either."""
    after = counts(server)
    new = sum(after[name] - before[name] for name in ("tickets", "invoices"))
    assert new or after == before
    return new


def turn(server: Running) -> None:
    """Let the server's loop go round, so that what was sent is read as a segment of its own."""

    async def nothing(_: Connection) -> None:
        return None

    for _ in range(2):
        server.inside(nothing)
