"""Requests that are too large: 413 for bodies over 1 MiB, 400 for heads over 64 KiB."""

from collections.abc import Callable
from itertools import repeat

import pytest

from tests.raw.raw_client import Wire, bearer, check_error, chunked, chunks, counts, get, raw, send, written
from tests.support.live_server import ADMIN, CLIENT, Running

MIB = 1024 * 1024
TICKET = b'{"subject":"A","message":"B","department_id":1}'
INVOICE = b'{"client_id":56,"due_date":"2035-02-01","items":[{"description":"A","amount":"1.00"}]}'


@pytest.fixture
def before(server: Running) -> dict[str, int]:
    """What there was before the test."""
    return counts(server)


def declared(size: int, *headers: str, secret: str | None = CLIENT) -> bytes:
    """The head of a ticket with a body of this size."""
    return raw(
        "POST",
        "/api/v1/tickets",
        *bearer(secret),
        "Content-Type: application/json",
        f"Content-Length: {size}",
        *headers,
    )


class TestBodies:
    def test_a_body_of_one_mebibyte_works(self, server: Running, wire: Wire, before: dict[str, int]) -> None:
        wire.send(send("/tickets", CLIENT, TICKET.ljust(MIB)))
        assert wire.answer().status == 201
        assert wire.is_usable()
        assert written(server, before) == 1

    def test_chunks_of_one_mebibyte_work(self, server: Running, wire: Wire, before: dict[str, int]) -> None:
        body = TICKET.ljust(MIB)
        wire.send(chunked("/tickets", CLIENT, chunks(*[body[at : at + 4096] for at in range(0, MIB, 4096)])))
        assert wire.answer().status == 201
        assert wire.is_usable()
        assert written(server, before) == 1

    @pytest.mark.parametrize(
        ("path", "secret", "body", "dialect"),
        [("/tickets", CLIENT, TICKET, "client"), ("/invoices", ADMIN, INVOICE, "admin")],
    )
    def test_one_byte_more_is_413(
        self,
        server: Running,
        wire: Wire,
        before: dict[str, int],
        path: str,
        secret: str,
        body: bytes,
        dialect: str,
    ) -> None:
        wire.send(send(path, secret, body.ljust(MIB + 1)))
        check_error(wire.answer(), 413, "client" if dialect == "client" else "admin")
        assert wire.is_usable()
        assert written(server, before) == 0

    def test_one_byte_more_in_chunks_is_413(
        self, server: Running, wire: Wire, before: dict[str, int]
    ) -> None:
        wire.send(chunked("/tickets", CLIENT, chunks(TICKET.ljust(MIB), b" ")))
        check_error(wire.answer(), 413, "client")
        assert wire.is_usable()
        assert written(server, before) == 0

    def test_one_byte_more_with_an_h2c_offer_is_413(
        self, server: Running, wire: Wire, before: dict[str, int]
    ) -> None:
        offer = ("Connection: Upgrade", "Upgrade: h2c")
        wire.send(send("/tickets", CLIENT, TICKET.ljust(MIB + 1), *offer))
        check_error(wire.answer(), 413, "client")
        assert wire.is_usable()
        assert written(server, before) == 0

    @pytest.mark.parametrize(
        ("method", "path"),
        [("GET", "/tickets"), ("GET", "/status"), ("HEAD", "/status"), ("POST", "/tickets/15/close")],
    )
    def test_operations_without_a_body_have_the_cap_too(self, wire: Wire, method: str, path: str) -> None:
        wire.send(send(path, CLIENT, b"{}".ljust(MIB + 1), method=method))
        answer = wire.answer(head_only=method == "HEAD")
        assert answer.status == 413
        if method != "HEAD":
            check_error(answer, 413, "client")
        assert wire.is_usable()

    def test_413_outranks_415_and_the_json(self, wire: Wire) -> None:
        wire.send(send("/tickets", CLIENT, b"\xff" * (MIB + 1), media=None))
        assert wire.answer().status == 413
        assert wire.is_usable()

    def test_401_and_404_outrank_413(self, wire: Wire) -> None:
        for path, status in (("/tickets", 401), ("/nowhere", 404)):
            wire.send(send(path, None, TICKET.ljust(MIB + 1)))
            check_error(wire.answer(), status, "admin")
        assert wire.is_usable()

    def test_a_body_of_60_megabytes_is_read_to_its_end(
        self, server: Running, wire: Wire, before: dict[str, int]
    ) -> None:
        size = 60_000_000
        wire.send(declared(size))
        for _ in range(60):
            wire.send(b" " * 1_000_000)
        check_error(wire.answer(), 413, "client")
        assert wire.is_usable()
        assert written(server, before) == 0

    def test_what_follows_a_refusal_is_read_up_to_a_bound(
        self, server: Running, wire: Wire, before: dict[str, int]
    ) -> None:
        wire.send(declared(200 * MIB, secret=None))
        check_error(wire.answer(), 401, "admin")
        wire.send_until_refused(repeat(b"x" * MIB, 200))
        assert wire.is_closed()
        assert written(server, before) == 0

    def test_a_declared_body_of_10_gigabytes_is_413_at_once(
        self, server: Running, wire: Wire, before: dict[str, int]
    ) -> None:
        wire.send(declared(10_000_000_000))
        answer = wire.answer()
        check_error(answer, 413, "client")
        assert answer.closes and wire.is_closed()
        assert written(server, before) == 0

    def test_endless_chunks_are_cut_off(self, server: Running, wire: Wire, before: dict[str, int]) -> None:
        wire.send(chunked("/tickets", CLIENT, b""))
        wire.send_until_refused(repeat(b"100000\r\n" + b" " * MIB + b"\r\n", 80))
        answer = wire.answer()
        check_error(answer, 413, "client")
        assert answer.closes and wire.is_closed()
        assert written(server, before) == 0

    @pytest.mark.parametrize("size", [MIB + 1, 60_000_000, 10_000_000_000])
    def test_who_asks_first_is_told_413_before_the_body(self, wire: Wire, size: int) -> None:
        wire.send(declared(size, "Expect: 100-continue"))
        answer = wire.answer()
        check_error(answer, 413, "client")
        assert answer.interim == []
        assert answer.closes and wire.is_closed()

    def test_who_asks_first_may_send_one_mebibyte(
        self, server: Running, wire: Wire, before: dict[str, int]
    ) -> None:
        wire.send(declared(MIB, "Expect: 100-continue"))
        wire.send(TICKET.ljust(MIB))
        assert wire.answer().status == 201
        assert wire.is_usable()
        assert written(server, before) == 1


def filled(request: Callable[[str], bytes], size: int) -> bytes:
    """A request whose head is filled to this size."""
    return request("a" * (size - len(request(""))))


class TestHeads:
    SHAPES = (
        pytest.param(lambda fill: get("/services?api_token=" + fill), id="a long target"),
        pytest.param(lambda fill: get("/services", None, f"X-Note: {fill}"), id="a long header"),
        pytest.param(lambda fill: get("/services", None, f"X{fill}: a"), id="a long name"),
        pytest.param(
            lambda fill: get("/services", None, f"Authorization: Bearer {fill}"), id="a long secret"
        ),
    )

    @pytest.mark.parametrize("request_of", SHAPES[1:])
    def test_just_below_64_kib_is_read(self, wire: Wire, request_of: Callable[[str], bytes]) -> None:
        wire.send(filled(request_of, 65_000))
        assert wire.answer().status == 401
        assert wire.is_usable()

    @pytest.mark.parametrize("request_of", SHAPES)
    def test_above_64_kib_is_400(self, wire: Wire, request_of: Callable[[str], bytes]) -> None:
        wire.send(filled(request_of, 66_000))
        answer = wire.answer()
        check_error(answer, 400, "admin")
        assert answer.closes and wire.is_closed()

    def test_a_thousand_small_headers_work(self, wire: Wire) -> None:
        wire.send(get("/status", None, *[f"X-{number}: a" for number in range(1000)]))
        assert wire.answer().status == 200
        assert wire.is_usable()

    def test_ten_thousand_small_headers_are_400(self, wire: Wire) -> None:
        wire.send(get("/tickets", None, *[f"X-{number}: a" for number in range(10_000)]))
        check_error(wire.answer(), 400, "admin")
        assert wire.is_closed()

    @pytest.mark.parametrize(
        "start",
        [b"GET /api/v1/tickets?", get("/tickets")[:-2] + b"X-Note: ", get("/tickets")[:-2] + b"X"],
        ids=["target", "value", "name"],
    )
    def test_a_line_without_an_end_is_400_before_its_end(self, wire: Wire, start: bytes) -> None:
        wire.send(start)
        wire.send_until_refused(repeat(b"a" * 16_384, 64))
        check_error(wire.answer(), 400, "admin")
        assert wire.is_closed()

    def test_trailers_count_as_headers(self, server: Running, wire: Wire, before: dict[str, int]) -> None:
        trailer = b"".join(b"X-%d: a\r\n" % number for number in range(10_000))
        wire.send(chunked("/tickets", CLIENT, chunks(TICKET, trailer=trailer)))
        answer = wire.answer()
        check_error(answer, 400, "client")
        assert answer.closes and wire.is_closed()
        assert written(server, before) == 0
