"""One request to one receiver, which may do what it likes: over in time, nothing followed, little read."""

import asyncio
import datetime
import gzip
import socket
import ssl
import time
import tracemalloc
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import uvloop
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from webhooks.sending import DeliveryResponse, http_session, post

Behaviour = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
Run = Callable[[Any], Any]

BODY = b'{"event":"invoice.paid"}'
# Enough for one answer on a busy machine, and short enough to wait for.
SHORT = 0.4


@pytest.fixture(params=[asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Run:
    def run(work: Any) -> Any:
        with asyncio.Runner(loop_factory=request.param) as runner:
            return runner.run(work)

    return run


class Receiver:
    """A server that behaves as a test says; it remembers each request, and when the caller has gone."""

    def __init__(self, behaviour: Behaviour) -> None:
        self.behaviour = behaviour
        self.requests: list[bytes] = []
        self.gone = asyncio.Event()
        self.url = ""

    async def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            with suppress(OSError, asyncio.IncompleteReadError):
                while True:
                    head = await reader.readuntil(b"\r\n\r\n")
                    self.requests.append(head + await reader.readexactly(len(BODY)))
                    await self.behaviour(reader, writer)
                    await writer.drain()
        finally:
            self.gone.set()
            writer.close()


@asynccontextmanager
async def receiver(
    behaviour: Behaviour | bytes, tls: ssl.SSLContext | None = None
) -> AsyncIterator[Receiver]:
    async def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert isinstance(behaviour, bytes)
        writer.write(behaviour)

    here = Receiver(answer if isinstance(behaviour, bytes) else behaviour)
    server = await asyncio.start_server(here.connected, "127.0.0.1", 0, ssl=tls)
    scheme = "https" if tls else "http"
    here.url = f"{scheme}://127.0.0.1:{server.sockets[0].getsockname()[1]}/hook"
    try:
        yield here
    finally:
        server.close()


async def call(url: str, *, deadline: float = 10, headers: dict[str, str] | None = None) -> DeliveryResponse:
    async with http_session(private=True) as client:
        return await post(client, url, BODY, headers or {}, deadline=deadline)


def answered(run: Run, behaviour: Behaviour | bytes, *, deadline: float = 10) -> DeliveryResponse:
    async def work() -> DeliveryResponse:
        async with receiver(behaviour) as here:
            answer = await call(here.url, deadline=deadline)
            # Nothing is left open behind an answer.
            await asyncio.wait_for(here.gone.wait(), 5)
            return answer

    started = time.monotonic()
    found: DeliveryResponse = run(work())
    assert time.monotonic() - started < deadline + 5
    return found


def response(status: str, *headers: str, body: bytes = b"") -> bytes:
    lines = [f"HTTP/1.1 {status}", *headers, f"Content-Length: {len(body)}", "", ""]
    return "\r\n".join(lines).encode() + body


class TestRequests:
    def test_the_body_is_sent_byte_for_byte_with_the_headers(self, run: Run) -> None:
        async def work() -> list[bytes]:
            async with receiver(response("200 OK")) as here:
                await call(here.url, headers={"webhook-id": "evt_1"})
                return here.requests

        (request,) = run(work())
        head, _, body = request.partition(b"\r\n\r\n")
        assert body == BODY
        lines = head.decode().split("\r\n")
        assert lines[0] == "POST /hook HTTP/1.1"
        fields = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines[1:])}
        assert fields.pop("host").startswith("127.0.0.1:")
        assert fields == {
            "accept": "*/*",
            "accept-encoding": "identity",
            "content-length": str(len(BODY)),
            "content-type": "application/json",
            "user-agent": "CloudArc-Webhooks",
            "webhook-id": "evt_1",
        }

    def test_a_cookie_is_not_kept_and_a_connection_is(self, run: Run) -> None:
        async def work() -> list[bytes]:
            async with (
                receiver(response("200 OK", "Set-Cookie: a=b")) as here,
                http_session(private=True) as client,
            ):
                for _ in range(2):
                    assert (await post(client, here.url, BODY, {})).error is None
                    assert not here.gone.is_set()
                return here.requests

        first, second = run(work())
        assert first == second

    def test_a_proxy_or_password_file_of_the_machine_is_not_asked(
        self, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / ".netrc").write_text("machine 127.0.0.1 login a password b\n")
        monkeypatch.setenv("NETRC", str(tmp_path / ".netrc"))
        for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
            monkeypatch.setenv(name, "http://127.0.0.1:1")
        for name in ("no_proxy", "NO_PROXY"):
            monkeypatch.delenv(name, raising=False)
        assert answered(run, response("200 OK")).error is None


class TestAnswers:
    @pytest.mark.parametrize("status", ["200 OK", "201 Created", "202 Accepted", "204 No Content", "299 Yes"])
    def test_any_2xx_is_success(self, run: Run, status: str) -> None:
        answer = answered(run, response(status))
        assert (answer.status, answer.error) == (int(status[:3]), None)

    @pytest.mark.parametrize("status", [400, 401, 404, 410, 429, 500, 503, 600])
    def test_anything_else_is_not(self, run: Run, status: int) -> None:
        answer = answered(run, response(f"{status} No", body=b"why"))
        assert (answer.status, answer.text) == (status, "why")
        assert answer.error == f"The receiver answered {status}."

    @pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
    def test_a_redirect_to_this_machine_is_not_followed(self, run: Run, status: int) -> None:
        async def work() -> tuple[DeliveryResponse, list[bytes]]:
            async with (
                receiver(response("200 OK")) as inner,
                receiver(response(f"{status} Moved", f"Location: {inner.url}")) as here,
            ):
                return await call(here.url), inner.requests

        answer, requests = run(work())
        assert answer.error == f"The receiver answered {status}; redirects are not followed."
        assert requests == []

    def test_the_text_is_kept_up_to_4_kib(self, run: Run) -> None:
        assert answered(run, response("200 OK", body=b"a" * 5000)).text == "a" * 4096

    def test_it_has_nothing_that_does_harm(self, run: Run) -> None:
        body = b"one\r\ntwo\tthree\x00\x1b[31m\xff\xe2\x80\xae" + "Grüße".encode()
        text = answered(run, response("200 OK", body=body)).text
        assert text == "one\ntwo\tthree\ufffd\ufffd[31m\ufffd\ufffdGrüße"

    @pytest.mark.parametrize(
        ("headers", "seconds"),
        [
            (["Retry-After: 120"], 120),
            (["Retry-After: 0"], 0),
            (["Retry-After: 86401"], 86_400),
            (["Retry-After: " + "9" * 5000], 86_400),
            (["Date: Wed, 15 Jan 2025 12:00:00 GMT", "Retry-After: Wed, 15 Jan 2025 12:02:00 GMT"], 120),
            (["Date: Wed, 15 Jan 2025 12:00:00 GMT", "Retry-After: Wed, 15 Jan 2020 12:02:00 GMT"], 0),
            (["Date: Wed, 15 Jan 2025 12:00:00 GMT", "Retry-After: Wed, 15 Jan 9999 12:02:00 GMT"], 86_400),
            (["Retry-After: Wed, 15 Jan 2025 12:02:00 GMT"], None),
            (["Date: now", "Retry-After: Wed, 15 Jan 2025 12:02:00 GMT"], None),
            (["Date: Wed, 15 Jan 2025 12:00:00 GMT", "Retry-After: Wed, 15 Jan 2025 12:02:00 -0000"], None),
            (["Retry-After: -1"], None),
            (["Retry-After: soon"], None),
            ([], None),
        ],
    )
    def test_a_wish_to_wait_is_told_in_seconds(
        self, run: Run, headers: list[str], seconds: int | None
    ) -> None:
        assert answered(run, response("503 Busy", *headers)).retry_after == seconds


class TestBadReceivers:
    """The answer is over by the deadline, whatever happens."""

    def test_silence(self, run: Run) -> None:
        async def silent(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
            await reader.read()

        answer = answered(run, silent, deadline=SHORT)
        assert (answer.status, answer.error) == (None, "No complete answer came within 0.4 seconds.")
        assert 400 <= answer.ms < 2000

    @pytest.mark.parametrize("beginning", ["", "HTTP/1.1 200 OK\r\nX-A: ", "HTTP/1.1 200 OK\r\n\r\n"])
    def test_a_drip(self, run: Run, beginning: str) -> None:
        async def dripping(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(beginning.encode())
            while True:
                writer.write(b"H")
                await writer.drain()
                await asyncio.sleep(0.01)

        answer = answered(run, dripping, deadline=SHORT)
        # A drip that is no HTTP may be noticed before.
        assert answer.error in (
            "No complete answer came within 0.4 seconds.",
            "The answer is not valid HTTP.",
        )
        assert answer.ms < 2000
        if beginning.endswith("\r\n\r\n"):
            assert answer.status == 200
            assert answer.text.startswith("HH")

    @pytest.mark.parametrize(
        "head", ["", "Transfer-Encoding: chunked\r\n", "Content-Length: 99999999999\r\n"]
    )
    def test_a_body_without_an_end(self, run: Run, head: str) -> None:
        sent = 0

        async def endless(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal sent
            writer.write(f"HTTP/1.1 200 OK\r\n{head}\r\n".encode())
            piece = b"a" * 65_536
            while True:
                writer.write(b"10000\r\n" + piece + b"\r\n" if "chunked" in head else piece)
                await writer.drain()
                sent += len(piece)

        tracemalloc.start()
        try:
            answer = answered(run, endless)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        # Enough was read to know what the receiver thinks of it.
        assert (answer.status, answer.error, answer.text) == (200, None, "a" * 4096)
        assert answer.ms < 5000
        assert sent < 16 * 2**20
        assert peak < 8 * 2**20

    @pytest.mark.parametrize("head", ["X-A: a\r\n", "X-A: " + "a" * 60_000 + "\r\n"])
    def test_headers_without_an_end(self, run: Run, head: str) -> None:
        async def endless(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(b"HTTP/1.1 200 OK\r\n")
            while True:
                writer.write(head.encode() * 100)
                await writer.drain()

        tracemalloc.start()
        try:
            answer = answered(run, endless, deadline=2)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert answer.status is None
        assert answer.error
        assert peak < 32 * 2**20

    def test_interim_answers_without_an_end(self, run: Run) -> None:
        async def endless(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            while True:
                writer.write(b"HTTP/1.1 103 Early Hints\r\n\r\n")
                await writer.drain()
                await asyncio.sleep(0.001)

        answer = answered(run, endless, deadline=SHORT)
        assert answer.error == "No complete answer came within 0.4 seconds."

    @pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "zstd", "gzip, gzip"])
    def test_a_gzip_bomb_is_not_unpacked(self, run: Run, encoding: str) -> None:
        bomb = gzip.compress(bytes(64 * 2**20), 9)
        tracemalloc.start()
        try:
            answer = answered(run, response("200 OK", f"Content-Encoding: {encoding}", body=bomb))
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert (answer.status, answer.error) == (200, None)
        assert len(answer.text) <= 4096
        assert peak < 4 * 2**20

    @pytest.mark.parametrize(
        ("raw", "error"),
        [
            (b"", "The connection ended before the answer."),
            (b"HTTP/1.1 200 OK\r\nX-", "The connection ended before the answer."),
            (b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc", "The answer broke off."),
            (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabc", "The answer broke off."),
            (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", "The answer is not valid HTTP."),
            (b"SSH-2.0-OpenSSH_9.2\r\n\r\n", "The answer is not valid HTTP."),
            (b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n", "The answer is not valid HTTP."),
            (b"HTTP/1.1 200 OK\r\nX-A: " + b"a" * 20_000 + b"\r\n\r\n", "The answer is not valid HTTP."),
        ],
    )
    def test_an_answer_that_is_none(self, run: Run, raw: bytes, error: str) -> None:
        async def broken(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(raw)
            writer.close()

        assert answered(run, broken).error == error

    def test_a_reset(self, run: Run) -> None:
        async def reset(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            linger = b"\x01\x00\x00\x00\x00\x00\x00\x00"
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            writer.transport.abort()

        assert answered(run, reset).error == "The connection ended before the answer."

    def test_nobody(self, run: Run) -> None:
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            answer = run(call(f"http://127.0.0.1:{taken.getsockname()[1]}/"))
        assert (answer.status, answer.error) == (None, "The connection was refused.")

    def test_a_full_queue(self, run: Run) -> None:
        """Who neither accepts nor refuses a connection is not waited for longer than anybody else."""
        with socket.socket() as full:
            full.bind(("127.0.0.1", 0))
            full.listen(0)
            place = full.getsockname()
            with socket.create_connection(place), socket.socket() as second:
                second.setblocking(False)
                second.connect_ex(place)
                answer = run(call(f"http://127.0.0.1:{place[1]}/", deadline=SHORT))
        assert answer.error == "No complete answer came within 0.4 seconds."

    @pytest.mark.parametrize(
        "url",
        [
            "http://",
            "ftp://127.0.0.1/",
            "http://127.1/",
            "http://[::1",
            "",
            f"http://{'a' * 64}.invalid/",
            "http://a..invalid/",
        ],
    )
    def test_a_url_that_cannot_be_called(self, run: Run, url: str) -> None:
        assert run(call(url)).error == "The url cannot be called."

    def test_a_name_without_an_address(self, run: Run) -> None:
        assert run(call("http://hooks.invalid/")).error == "The host's name does not resolve to an address."


@pytest.fixture(scope="module")
def untrusted(tmp_path_factory: pytest.TempPathFactory) -> ssl.SSLContext:
    """A server's TLS with a certificate that nobody vouches for."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now)
        .not_valid_after(now + datetime.timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    file = tmp_path_factory.mktemp("tls") / "both.pem"
    file.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        + certificate.public_bytes(serialization.Encoding.PEM)
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file)
    return context


class TestTls:
    def test_a_certificate_that_nobody_vouches_for_is_refused(
        self, run: Run, untrusted: ssl.SSLContext
    ) -> None:
        async def work() -> tuple[DeliveryResponse, list[bytes]]:
            async with receiver(response("200 OK"), untrusted) as here:
                return await call(here.url), here.requests

        answer, requests = run(work())
        assert answer.error == "The host's TLS certificate is refused: self-signed certificate."
        assert requests == []

    def test_a_receiver_without_tls_is_not_spoken_to(self, run: Run) -> None:
        async def work() -> tuple[DeliveryResponse, list[bytes]]:
            async def plain(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                await reader.read(1)
                writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
                writer.close()

            server = await asyncio.start_server(plain, "127.0.0.1", 0)
            async with server:
                return await call(f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}/"), []

        assert run(work())[0].error == "The TLS handshake failed."
