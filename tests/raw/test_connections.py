"""What needs several steps on one connection: segments, pipelines, HEAD, 100 Continue, and giving up."""

import socket
import time
from collections.abc import Callable
from contextlib import suppress

import pytest

from tests.raw.raw_client import (
    Wire,
    bearer,
    check_error,
    check_head,
    chunked,
    chunks,
    counts,
    get,
    raw,
    send,
    turn,
    written,
)
from tests.support.live_server import ADMIN, CLIENT, Running

TICKET = b'{"subject":"A","message":"B","department_id":1}'
OFFER = ("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAEAAEAAAAIAAAABAAMAAABk")


def marked(id: str, path: str = "/status", *headers: str) -> bytes:
    """A GET that can be told by the id of its answer."""
    return get(path, None, f"X-Request-Id: {id}", *headers)


def ids(wire: Wire, count: int) -> list[tuple[str, int]]:
    """The ids and statuses of the next answers."""
    answers = [wire.answer() for _ in range(count)]
    return [(answer.headers["x-request-id"], answer.status) for answer in answers]


class TestSegments:
    """However TCP cuts a request, it is the same request."""

    REQUESTS = (
        pytest.param(send("/tickets", CLIENT, TICKET), id="a length"),
        pytest.param(chunked("/tickets", CLIENT, chunks(TICKET[:20], TICKET[20:])), id="chunks"),
        pytest.param(send("/tickets", CLIENT, TICKET, *OFFER), id="a length and h2c"),
        pytest.param(
            chunked("/tickets", CLIENT, chunks(TICKET[:20], TICKET[20:]), *OFFER), id="chunks and h2c"
        ),
        pytest.param(send("/tickets", CLIENT, TICKET.replace(b"A", "\U0001f600".encode())), id="UTF-8"),
    )

    @pytest.mark.parametrize("request_bytes", REQUESTS)
    def test_a_request_byte_by_byte_works(self, server: Running, wire: Wire, request_bytes: bytes) -> None:
        before = counts(server)
        for byte in request_bytes:
            wire.send(bytes([byte]))
            turn(server)
        assert wire.answer().status == 201
        assert wire.is_usable()
        assert written(server, before) == 1

    @pytest.mark.parametrize("request_bytes", REQUESTS)
    def test_a_body_in_segments_of_its_own_works(
        self, server: Running, wire: Wire, request_bytes: bytes
    ) -> None:
        before = counts(server)
        head, _, body = request_bytes.partition(b"\r\n\r\n")
        for part in (head + b"\r\n\r\n", body[:10], body[10:30], body[30:]):
            wire.send(part)
            turn(server)
        assert wire.answer().status == 201
        assert wire.is_usable()
        assert written(server, before) == 1

    def test_the_end_of_one_request_and_the_start_of_the_next_may_share_one(
        self, server: Running, wire: Wire
    ) -> None:
        both = marked("a") + marked("b")
        for part in (both[:-150], both[-150:-10], both[-10:]):
            wire.send(part)
            turn(server)
        assert ids(wire, 2) == [("a", 200), ("b", 200)]

    def test_a_trailer_of_its_own_segment_is_ignored(self, server: Running, wire: Wire) -> None:
        head, _, body = chunked(
            "/tickets", CLIENT, chunks(TICKET, trailer=b"Content-Type: text/plain\r\nHost: x\r\n")
        ).partition(b"\r\n\r\n")
        wire.send(head + b"\r\n\r\n")
        turn(server)
        wire.send(body)
        assert wire.answer().status == 201
        assert wire.is_usable()


class TestPipelining:
    def test_three_requests_in_one_segment_are_answered_in_order(self, wire: Wire) -> None:
        wire.send(marked("a") + marked("b", "/tickets") + marked("c", "/nowhere"))
        assert ids(wire, 3) == [("a", 200), ("b", 401), ("c", 404)]
        assert wire.is_usable()

    def test_bodies_go_to_their_own_requests(self, server: Running, wire: Wire) -> None:
        before = counts(server)
        bodies = [TICKET, b"{}", b"[", TICKET]
        wire.send(b"".join(send("/tickets", CLIENT, body) for body in bodies))
        assert [wire.answer().status for _ in bodies] == [201, 422, 400, 201]
        assert wire.is_usable()
        assert written(server, before) == 2

    def test_a_refused_body_is_not_taken_for_a_request(self, server: Running, wire: Wire) -> None:
        before = counts(server)
        hidden = send("/tickets", CLIENT, TICKET)
        for path in ("/tickets", "/nowhere", "/docs"):
            wire.send(send(path, None, hidden) + marked("a"))
            assert wire.answer().status in (401, 404, 405)
            assert ids(wire, 1) == [("a", 200)]
        assert wire.is_usable()
        assert written(server, before) == 0

    def test_fifty_requests_are_answered_in_order(self, wire: Wire) -> None:
        wire.send(b"".join(marked(f"n{number}") for number in range(50)))
        assert ids(wire, 50) == [(f"n{number}", 200) for number in range(50)]
        assert wire.is_usable()

    def test_a_request_may_follow_a_body_that_is_too_large(self, server: Running, wire: Wire) -> None:
        before = counts(server)
        wire.send(send("/tickets", CLIENT, TICKET.ljust(1024 * 1024 + 1)) + marked("a"))
        check_error(wire.answer(), 413, "client")
        assert ids(wire, 1) == [("a", 200)]
        assert wire.is_usable()
        assert written(server, before) == 0

    def test_a_request_may_follow_an_offer_of_h2c(self, server: Running, wire: Wire) -> None:
        before = counts(server)
        wire.send(marked("a", "/status", *OFFER) + send("/tickets", CLIENT, TICKET, *OFFER) + marked("c"))
        assert ids(wire, 1) == [("a", 200)]
        assert wire.answer().status == 201
        assert ids(wire, 1) == [("c", 200)]
        assert wire.is_usable()
        assert written(server, before) == 1

    def test_nothing_is_answered_after_connection_close(self, server: Running, wire: Wire) -> None:
        before = counts(server)
        wire.send(marked("a", "/status", "Connection: close") + send("/tickets", CLIENT, TICKET))
        answer = wire.answer()
        assert answer.status == 200 and answer.closes
        assert wire.is_closed()
        assert written(server, before) == 0


class TestGarbage:
    GARBAGE = b"\x00\x01garbage\r\n\r\n"

    def test_after_a_good_request_it_closes_and_says_nothing(self, wire: Wire) -> None:
        wire.send(marked("a") + self.GARBAGE)
        assert ids(wire, 1) == [("a", 200)]
        assert wire.is_closed()

    def test_after_a_good_post_it_closes_and_says_nothing(self, server: Running, wire: Wire) -> None:
        before = counts(server)
        wire.send(send("/tickets", CLIENT, TICKET) + self.GARBAGE)
        assert wire.answer().status == 201
        assert wire.is_closed()
        assert written(server, before) == 1

    def test_after_two_good_requests_both_are_answered(self, wire: Wire) -> None:
        wire.send(marked("a") + marked("b") + self.GARBAGE)
        assert ids(wire, 2) == [("a", 200), ("b", 200)]
        assert wire.is_closed()

    def test_after_an_answer_it_is_400(self, wire: Wire) -> None:
        assert wire.is_usable()
        wire.send(self.GARBAGE)
        answer = wire.answer()
        check_error(answer, 400, "admin")
        assert answer.closes and wire.is_closed()

    def test_beyond_a_declared_body_it_is_no_part_of_it(self, server: Running, wire: Wire) -> None:
        before = counts(server)
        request = send("/tickets", CLIENT, TICKET + b"}")
        wire.send(request.replace(b"Content-Length: 48", b"Content-Length: 47"))
        assert wire.answer().status == 201
        assert wire.is_closed()
        assert written(server, before) == 1


class TestHead:
    @pytest.mark.parametrize(
        ("path", "secret"),
        [
            ("/status", None),
            ("/openapi.json", None),
            ("/openapi.yaml?audience=client", None),
            ("/docs", None),
            ("/profile", CLIENT),
            ("/invoices?limit=1", ADMIN),
            ("/invoices/1234", ADMIN),
            ("/tickets/15", CLIENT),
            ("/tickets/999999", CLIENT),
            ("/tickets/x", CLIENT),
            ("/tickets", None),
            ("/profile", ADMIN),
            ("/nowhere", None),
            ("/invoices/1234/pay", ADMIN),
        ],
    )
    def test_it_has_the_headers_of_get_and_no_body(
        self, server: Running, wire: Wire, path: str, secret: str | None
    ) -> None:
        both = []
        for method in ("GET", "HEAD"):
            wire.send(raw(method, f"/api/v1{path}", *bearer(secret), "X-Request-Id: a"))
            answer = wire.answer(head_only=method == "HEAD")
            check_head(answer)
            both.append(
                (answer.status, {name: answer.headers[name] for name in answer.headers if name != "date"})
            )
        assert both[0] == both[1]
        assert wire.is_usable()

    def test_it_can_be_pipelined(self, wire: Wire) -> None:
        wire.send(raw("HEAD", "/api/v1/openapi.json") + marked("b"))
        assert wire.answer(head_only=True).status == 200
        assert ids(wire, 1) == [("b", 200)]


def asking(secret: str | None, path: str = "/tickets", *headers: str, size: int = len(TICKET)) -> bytes:
    """The head of a POST whose sender waits for 100 Continue."""
    kind = headers or ("Content-Type: application/json",)
    asks = (f"Content-Length: {size}", "Expect: 100-continue")
    return raw("POST", f"/api/v1{path}", *bearer(secret), *asks, *kind)


class TestExpect:
    def test_who_may_send_is_told_to(self, server: Running, wire: Wire) -> None:
        before = counts(server)
        wire.send(asking(CLIENT))
        assert wire.head() == (100, {})
        wire.send(TICKET)
        answer = wire.answer()
        assert (answer.status, answer.interim) == (201, [])
        assert wire.is_usable()
        assert written(server, before) == 1

    def test_it_may_be_written_in_capitals(self, wire: Wire) -> None:
        wire.send(asking(CLIENT).replace(b"100-continue", b"100-Continue"))
        assert wire.head()[0] == 100
        wire.send(TICKET)
        assert wire.answer().status == 201

    def test_a_body_that_is_there_already_works(self, server: Running, wire: Wire) -> None:
        before = counts(server)
        wire.send(asking(CLIENT) + TICKET)
        assert wire.answer().status == 201
        assert wire.is_usable()
        assert written(server, before) == 1

    def test_with_an_offer_of_h2c_it_works(self, wire: Wire) -> None:
        wire.send(asking(CLIENT, "/tickets", "Content-Type: application/json", *OFFER))
        assert wire.head()[0] == 100
        wire.send(TICKET)
        assert wire.answer().status == 201
        assert wire.is_usable()

    @pytest.mark.parametrize(
        ("secret", "path", "headers", "status"),
        [
            (None, "/tickets", (), 401),
            ("arc_dead", "/tickets", (), 401),
            (None, "/nowhere", (), 404),
            (ADMIN, "/tickets/15", (), 405),
            (ADMIN, "/invoices", ("Accept: text/html",), 406),
        ],
    )
    def test_who_may_not_send_is_refused_and_let_go(
        self,
        server: Running,
        wire: Wire,
        secret: str | None,
        path: str,
        headers: tuple[str, ...],
        status: int,
    ) -> None:
        before = counts(server)
        wire.send(asking(secret, path, *headers))
        answer = wire.answer()
        check_error(answer, status, "admin")
        assert answer.interim == []
        assert answer.closes and wire.is_closed()
        assert written(server, before) == 0

    def test_the_wrong_kind_is_refused_and_let_go(self, wire: Wire) -> None:
        wire.send(asking(CLIENT, "/invoices"))
        answer = wire.answer()
        check_error(answer, 403, "client")
        assert answer.interim == [] and answer.closes
        assert wire.is_closed()

    def test_what_follows_a_refusal_is_not_taken_for_a_request(self, server: Running, wire: Wire) -> None:
        before = counts(server)
        hidden = send("/tickets", CLIENT, TICKET)
        wire.send(asking(None, size=len(hidden)))
        check_error(wire.answer(), 401, "admin")
        wire.send_until_refused([hidden])
        assert wire.is_closed()
        assert written(server, before) == 0

    def test_over_http_1_0_it_is_ignored(self, wire: Wire) -> None:
        wire.send(asking(CLIENT).replace(b"HTTP/1.1", b"HTTP/1.0") + TICKET)
        answer = wire.answer()
        assert (answer.status, answer.interim) == (201, [])
        assert wire.is_closed()


class TestHalfClosed:
    @pytest.mark.parametrize("secret", [CLIENT, None])
    def test_who_has_sent_all_still_gets_the_answer(self, wire: Wire, secret: str | None) -> None:
        wire.send(send("/tickets", secret, '{"subject":"A","message":"B","department_id":1}'))
        wire.socket.shutdown(socket.SHUT_WR)
        assert wire.answer().status == (201 if secret else 401)
        assert wire.is_closed()


class TestNotReading:
    def test_who_reads_nothing_of_a_long_answer_is_cut_off(
        self, server: Running, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("server.http.protocol.WRITE_SECONDS", 0.3)
        with socket.socket() as idle:
            idle.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            idle.settimeout(10)
            idle.connect(("127.0.0.1", server.port))
            # More than the kernel holds for a connection, so that the server has to wait.
            idle.sendall(get("/docs", None) * 8)
            time.sleep(0.8)
            received = 0
            with suppress(ConnectionResetError):
                while data := idle.recv(1 << 20):
                    received += len(data)
            assert received < 8 * 1_800_000


class TestGivingUp:
    @pytest.mark.parametrize(
        "part",
        [
            pytest.param(send("/tickets", CLIENT, TICKET)[:-1], id="half a body"),
            pytest.param(chunked("/tickets", CLIENT, chunks(TICKET))[:-5], id="chunks without an end"),
            pytest.param(send("/tickets", CLIENT, TICKET, *OFFER)[:-1], id="half a body and h2c"),
            pytest.param(send("/tickets", CLIENT, TICKET)[:90], id="half a head"),
        ],
    )
    def test_half_a_request_writes_nothing(
        self, server: Running, dial: Callable[[], Wire], part: bytes
    ) -> None:
        before = counts(server)
        wire = dial()
        wire.send(part)
        turn(server)
        wire.socket.shutdown(socket.SHUT_WR)
        assert wire.is_closed()
        assert dial().is_usable()
        assert written(server, before) == 0
