"""Requests that do not come, or come slowly: 408 where the server's time is wasted, patience where not."""

import time

import pytest

from server.http import body
from tests.raw.raw_client import Wire, check_error, chunked, counts, get, raw, send, written
from tests.support.live_server import ADMIN, CLIENT, Running

SHORT = 0.4
TICKET = b'{"subject":"A","message":"B","department_id":1}'


@pytest.fixture(autouse=True)
def short_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    """The deadline is looked up whenever it is needed, so it may change while the server runs."""
    monkeypatch.setattr(body, "READ_SECONDS", SHORT)


def drip(wire: Wire, data: bytes, pause: float = 0.05) -> float:
    """Send byte by byte until the server says something; how many seconds that took."""
    started = time.monotonic()
    for byte in data:
        try:
            wire.send(bytes([byte]))
        except (BrokenPipeError, ConnectionResetError):
            break
        if not wire.waits(pause):
            break
    return time.monotonic() - started


class TestSilence:
    def test_a_connection_that_says_nothing_is_408(self, wire: Wire) -> None:
        started = time.monotonic()
        check_error(wire.answer(), 408, "admin")
        assert SHORT * 0.9 <= time.monotonic() - started < 5 * SHORT
        assert wire.is_closed()

    @pytest.mark.parametrize("part", [b"G", b"GET /api/v1/tickets", get("/tickets", CLIENT)[:-2]])
    def test_half_a_head_is_408(self, wire: Wire, part: bytes) -> None:
        wire.send(part)
        answer = wire.answer()
        check_error(answer, 408, "admin")
        assert answer.closes and wire.is_closed()

    def test_an_empty_line_is_no_request(self, wire: Wire) -> None:
        wire.send(b"\r\n")
        check_error(wire.answer(), 408, "admin")
        assert wire.is_closed()

    @pytest.mark.parametrize("secret", [CLIENT, ADMIN])
    def test_half_a_body_is_408_in_the_callers_dialect(
        self, server: Running, wire: Wire, secret: str
    ) -> None:
        before = counts(server)
        wire.send(send("/tickets", secret, TICKET)[:-1])
        answer = wire.answer()
        check_error(answer, 408, "client" if secret == CLIENT else "admin")
        assert answer.closes and wire.is_closed()
        assert written(server, before) == 0

    def test_chunks_without_an_end_are_408(self, server: Running, wire: Wire) -> None:
        before = counts(server)
        wire.send(chunked("/tickets", CLIENT, b"%x\r\n%s\r\n" % (len(TICKET), TICKET)))
        check_error(wire.answer(), 408, "client")
        assert wire.is_closed()
        assert written(server, before) == 0

    def test_the_body_of_a_get_is_waited_for_like_any_other(self, wire: Wire) -> None:
        wire.send(get("/tickets", CLIENT, "Content-Length: 2", "Content-Type: application/json"))
        check_error(wire.answer(), 408, "client")
        assert wire.is_closed()

    def test_an_h2c_offer_without_its_body_is_408(self, wire: Wire) -> None:
        wire.send(send("/tickets", CLIENT, TICKET, "Connection: Upgrade", "Upgrade: h2c")[:-1])
        check_error(wire.answer(), 408, "client")
        assert wire.is_closed()

    def test_nobody_is_refused_without_waiting_for_a_body(self, wire: Wire) -> None:
        wire.send(send("/tickets", None, TICKET)[:-1])
        check_error(wire.answer(), 401, "admin")
        # The rest of the body never comes, so the connection can serve nobody any more.
        assert wire.is_closed()


class TestDripping:
    def test_a_dripping_head_is_408(self, wire: Wire) -> None:
        took = drip(wire, get("/tickets", CLIENT))
        check_error(wire.answer(), 408, "admin")
        assert took < 10 * SHORT
        assert wire.is_closed()

    def test_dripping_headers_are_408(self, wire: Wire) -> None:
        wire.send(get("/tickets", CLIENT)[:-2])
        drip(wire, b"X-Note: a\r\n" * 100)
        check_error(wire.answer(), 408, "admin")
        assert wire.is_closed()

    @pytest.mark.parametrize("method", ["GET", "POST"])
    def test_a_dripping_body_is_408(self, server: Running, wire: Wire, method: str) -> None:
        before = counts(server)
        head, _, body = send("/tickets", CLIENT, TICKET, method=method).partition(b"\r\n\r\n")
        wire.send(head + b"\r\n\r\n")
        drip(wire, body)
        check_error(wire.answer(), 408, "client")
        assert wire.is_closed()
        assert written(server, before) == 0

    def test_dripping_chunks_are_408(self, server: Running, wire: Wire) -> None:
        before = counts(server)
        wire.send(chunked("/tickets", CLIENT, b""))
        drip(wire, b"1\r\n \r\n" * 50)
        check_error(wire.answer(), 408, "client")
        assert wire.is_closed()
        assert written(server, before) == 0

    def test_the_second_request_of_a_connection_has_a_deadline_too(self, wire: Wire) -> None:
        assert wire.is_usable()
        drip(wire, get("/tickets", CLIENT))
        check_error(wire.answer(), 408, "admin")
        assert wire.is_closed()


class TestPatience:
    def test_a_slow_and_steady_upload_succeeds(self, server: Running, wire: Wire) -> None:
        before = counts(server)
        head, _, body = send("/tickets", CLIENT, TICKET + b" " * 96 * 1024).partition(b"\r\n\r\n")
        wire.send(head + b"\r\n\r\n")
        started = time.monotonic()
        for start in range(0, len(body), 4096):
            assert wire.waits(0.05)
            wire.send(body[start : start + 4096])
        assert time.monotonic() - started > 2 * SHORT
        assert wire.answer().status == 201
        assert wire.is_usable()
        assert written(server, before) == 1

    def test_a_pause_between_requests_is_no_slow_request(self, wire: Wire) -> None:
        assert wire.is_usable()
        assert wire.waits(2 * SHORT)
        assert wire.is_usable()

    def test_a_head_in_two_halves_within_the_time_is_answered(self, wire: Wire) -> None:
        request = raw("GET", "/api/v1/status")
        wire.send(request[:20])
        assert wire.waits(SHORT / 3)
        wire.send(request[20:])
        assert wire.answer().status == 200
        assert wire.is_usable()
