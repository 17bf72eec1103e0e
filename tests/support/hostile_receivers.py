"""Receivers of webhooks that try to stall or fill their caller, as handlers for ``asyncio.start_server``.

``RECEIVERS`` maps a name to a handler. A handler sends as much as the caller takes, and returns once the
caller has closed the connection. The url of a name that begins with ``TLS`` is https; its handler speaks TLS
itself, or something else. ``running_receivers`` runs all of them in another process.
"""

import asyncio
import datetime
import json
import socket
import ssl
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from ipaddress import ip_address
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]

PIECE = 64 * 1024
"""About how many bytes are written at once."""


async def read_request(reader: asyncio.StreamReader) -> None:
    """Read the head of a request and the body that its Content-Length announces."""
    head = await reader.readuntil(b"\r\n\r\n")
    length = next(
        int(line.split(b":")[1])
        for line in head.split(b"\r\n")
        if line.lower().startswith(b"content-length:")
    )
    await reader.readexactly(length)


async def until_closed(reader: asyncio.StreamReader) -> None:
    """Read until the caller closes the connection."""
    while await reader.read(PIECE):
        pass


async def write_endlessly(writer: asyncio.StreamWriter, piece: bytes) -> None:
    """Write the same bytes again and again, as fast as the caller takes them."""
    while not writer.is_closing():
        writer.write(piece)
        await writer.drain()
        # ``drain`` does not yield while the caller reads, and all receivers share a loop.
        await asyncio.sleep(0)


def flood(beginning: bytes, repeated: bytes) -> Handler:
    """Answer a request with a beginning and then the same bytes without an end."""
    piece = repeated * max(1, PIECE // len(repeated))

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(beginning)
        await write_endlessly(writer, piece)

    return handle


def drip(beginning: bytes, repeated: bytes, seconds: float = 0.01) -> Handler:
    """Answer a request with a beginning and then a few bytes at a time without an end."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(beginning)
        while True:
            writer.write(repeated)
            await writer.drain()
            await asyncio.sleep(seconds)

    return handle


def flood_without_request(repeated: bytes) -> Handler:
    """Send bytes from the moment of the connection on, whatever the caller sends."""

    async def handle(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        piece = repeated * max(1, PIECE // len(repeated))
        await write_endlessly(writer, piece)

    return handle


def drip_without_request(repeated: bytes) -> Handler:
    """Send one byte after the other from the moment of the connection on."""

    async def handle(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            for byte in repeated:
                writer.write(bytes([byte]))
                await writer.drain()
                await asyncio.sleep(0.01)

    return handle


async def send_single_bytes(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Send each byte of an endless header in a TCP segment of its own, as fast as they go."""
    writer.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    await read_request(reader)
    writer.write(b"HTTP/1.1 200 OK\r\nX-A: ")
    await write_endlessly(writer, b"a")


async def answer_nothing(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
    """Read the request and never answer."""
    await until_closed(reader)


async def never_read(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Accept the connection and read nothing, so that the caller's body fills the buffers."""
    transport = writer.transport
    assert isinstance(transport, asyncio.ReadTransport)
    transport.pause_reading()
    # A write fails once the caller has closed; nothing else tells who does not read.
    while not writer.is_closing():
        await asyncio.sleep(0.05)
        if _closed_by_peer(writer):
            return


def _closed_by_peer(writer: asyncio.StreamWriter) -> bool:
    """Return whether TCP has left the state ESTABLISHED (1), of which only Linux tells."""
    opened = writer.get_extra_info("socket")
    return bool(struct.unpack_from("B", opened.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 104))[0] != 1)


async def reset_within_the_answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Announce a body and reset the connection."""
    await read_request(reader)
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nabc")
    await writer.drain()
    linger = struct.pack("ii", 1, 0)
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    writer.transport.abort()


@cache
def certificate() -> tuple[bytes, bytes]:
    """Make a key and a certificate for 127.0.0.1, both in PEM. A test may have its client trust it."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), False)
        .sign(key, hashes.SHA256())
    )
    form = serialization.PrivateFormat.PKCS8
    encoding = serialization.Encoding.PEM
    secret = key.private_bytes(encoding, form, serialization.NoEncryption())
    return secret, made.public_bytes(encoding)


def over_tls(handler: Handler, tickets: int = 2) -> Handler:
    """Shake hands, send so many session tickets, and go on as the handler does."""

    @cache
    def context() -> ssl.SSLContext:
        made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        made.num_tickets = tickets
        with tempfile.NamedTemporaryFile() as file:
            file.write(b"".join(certificate()))
            file.flush()
            made.load_cert_chain(file.name)
        return made

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await writer.start_tls(context())
        await handler(reader, writer)

    return handle


OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"
EMPTY = OK + b"Content-Length: 0\r\n\r\n"

RECEIVERS: dict[str, Handler] = {
    # Answers before the answer.
    "interim answers 103": flood(b"", b"HTTP/1.1 103 Early Hints\r\n\r\n"),
    "interim answers 100": flood(b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
    "interim answers 199": flood(b"", b"HTTP/1.1 199 \r\n\r\n"),
    "interim answers with headers": flood(b"", b"HTTP/1.1 103 Early Hints\r\n" + b"A:b\r\n" * 100 + b"\r\n"),
    "interim answers that drip": drip(b"", b"HTTP/1.1 103 Early Hints\r\n\r\n"),
    # The head.
    "header lines": flood(OK, b"A:b\r\n"),
    "one header line": flood(OK + b"X-A: ", b"a"),
    "a header line of folds": flood(OK + b"X-A: a", b"\r\n a"),
    "a reason": flood(b"HTTP/1.1 200 ", b"a"),
    "empty lines": flood(b"", b"\r\n"),
    "no HTTP": flood(b"", b"\x00\xff"),
    "a head that drips": drip(OK + b"X-A: ", b"a"),
    "single bytes": send_single_bytes,
    # The body.
    "a body of HTTP/1.0": flood(b"HTTP/1.0 200 OK\r\n\r\n", b"a"),
    "a body with a length": flood(OK + b"Content-Length: 999999999999\r\n\r\n", b"a"),
    "a body that drips": drip(OK + b"\r\n", b"a"),
    "large chunks": flood(CHUNKED, b"10000\r\n" + b"a" * 65_536 + b"\r\n"),
    "chunks of one byte": flood(CHUNKED, b"1\r\na\r\n"),
    "chunks with large extensions": flood(CHUNKED, b"1;" + b"e" * 4000 + b"\r\na\r\n"),
    "one chunk extension": flood(CHUNKED + b"1;", b"e"),
    "one chunk size": flood(CHUNKED, b"0"),
    "trailers": flood(CHUNKED + b"0\r\n", b"A:b\r\n"),
    "one trailer": flood(CHUNKED + b"0\r\nA:", b"b"),
    # More than one answer.
    "answers after the answer": flood(EMPTY, EMPTY),
    "bytes after the answer": flood(EMPTY, b"a"),
    "an upgrade": flood(
        b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n", b"a"
    ),
    "answers before the request": flood_without_request(EMPTY),
    "interim answers before the request": flood_without_request(b"HTTP/1.1 103 Early Hints\r\n\r\n"),
    # The connection.
    "silence": answer_nothing,
    "a body that is not read": never_read,
    "a reset": reset_within_the_answer,
    # Below HTTP: records of a handshake (22), of alerts (21), of changed ciphers (20), and no records.
    "TLS silence": answer_nothing,
    "TLS that drips": drip_without_request(b"\x16\x03\x03\x40\x00" + b"\x02\x00\x00\x00" * 4096),
    "TLS handshakes": flood_without_request(b"\x16\x03\x03\x40\x00" + b"\x0b\xff\xff\xff" * 4096),
    "TLS alerts": flood_without_request(b"\x15\x03\x03\x00\x02\x01\x5a"),
    "TLS changed ciphers": flood_without_request(b"\x14\x03\x03\x00\x01\x01"),
    "TLS empty records": flood_without_request(b"\x16\x03\x03\x00\x00"),
    "TLS of noise": flood_without_request(b"\x00\xff"),
    # Of these, a client takes the handshake only if it trusts ``certificate``.
    "TLS session tickets": over_tls(answer_nothing, tickets=5000),
    "TLS interim answers": over_tls(flood(b"", b"HTTP/1.1 103 Early Hints\r\n\r\n")),
    "TLS body without an end": over_tls(flood(OK + b"\r\n", b"a")),
    "TLS body that is not read": over_tls(never_read),
}


class Listener:
    """One hostile receiver on a port of loopback: its url, and what its callers took."""

    def __init__(self, name: str) -> None:
        self.handler = RECEIVERS[name]
        self.connections = 0
        self.open = 0
        self.sent = 0
        # A small send buffer, so that ``sent`` is little more than what the caller has read.
        self.socket = socket.create_server(("127.0.0.1", 0), backlog=1000)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 16 * 1024)
        scheme = "https" if name.startswith("TLS") else "http"
        self.url = f"{scheme}://127.0.0.1:{self.socket.getsockname()[1]}/hook"

    async def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Let the handler run until the caller has gone."""
        write = writer.write

        def counted(data: bytes | bytearray | memoryview) -> None:
            self.sent += len(data)
            write(data)

        writer.write = counted  # type: ignore[method-assign]
        self.connections += 1
        self.open += 1
        try:
            with suppress(OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
                await self.handler(reader, writer)
        finally:
            self.open -= 1
            writer.transport.abort()


async def serve() -> None:
    """Serve all receivers. Print urls and certificate, and for each name on stdin its counts, in JSON."""
    listeners = {name: Listener(name) for name in RECEIVERS}
    for each in listeners.values():
        await asyncio.start_server(each.connected, sock=each.socket)
    print(json.dumps({name: each.url for name, each in listeners.items()}), flush=True)
    print(json.dumps(certificate()[1].decode()), flush=True)
    while name := (await asyncio.to_thread(sys.stdin.readline)).strip():
        here = listeners[name]
        counts = {"connections": here.connections, "open": here.open, "sent": here.sent}
        print(json.dumps(counts), flush=True)


@dataclass(frozen=True)
class Counts:
    """How many connections a receiver has had, how many are open, and how many bytes it has sent."""

    connections: int
    open: int
    sent: int


class Receivers:
    """All hostile receivers in a process of their own, which takes no time from the caller's threads."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self.process = process
        self.urls: dict[str, str] = json.loads(self._read())
        self.certificate: str = json.loads(self._read())

    def _read(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline()

    def counts(self, name: str) -> Counts:
        """Return the counts of a receiver since the start."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{name}\n")
        self.process.stdin.flush()
        return Counts(**json.loads(self._read()))


@contextmanager
def running_receivers() -> Iterator[Receivers]:
    """Run all hostile receivers until the context ends."""
    command = [sys.executable, "-m", "tests.support.hostile_receivers"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield Receivers(process)
        finally:
            process.kill()


STALL = 0.05
"""The longest that the loop of a caller may be busy, in seconds."""
ATTEMPTS = 3
"""Another process may take the processor meanwhile, so the best of some attempts counts."""


async def gap_during(work: Awaitable[Any]) -> float:
    """Return for how long at most nothing else ran in this loop while the work was done."""
    longest = 0.0

    async def probe() -> None:
        nonlocal longest
        last = time.monotonic()
        while True:
            await asyncio.sleep(0.001)
            longest, last = max(longest, time.monotonic() - last), time.monotonic()

    probing = asyncio.create_task(probe())
    await asyncio.sleep(0.01)
    try:
        await work
        # A loop that was busy to the end is seen by the step after it.
        await asyncio.sleep(0.01)
    finally:
        probing.cancel()
    return longest


async def shortest_gap(work: Callable[[], Awaitable[Any]]) -> float:
    """Return the shortest of the gaps of some attempts, ending with the first that is short enough."""
    shortest = float("inf")
    for _ in range(ATTEMPTS):
        shortest = min(shortest, await gap_during(work()))
        if shortest <= STALL:
            break
    return shortest


if __name__ == "__main__":
    asyncio.run(serve())
