"""Limits over HTTP: who is counted, what every answer tells, what is refused."""

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest

from handlers import services
from handlers.dialects import Views
from persistence.counters import Counters
from persistence.settings import RuntimeSettings
from tests.support.contract_client import check
from tests.support.live_server import ADMIN, CLIENT, OTHER, Running, prepared, serving
from tests.support.valkey import Valkey, asked, running_valkey

Serve = Callable[..., Running]
NAMES = ("X-RateLimit-Limit", "X-RateLimit-Remaining", "RateLimit", "RateLimit-Policy")


@pytest.fixture(scope="module")
def counter() -> Iterator[Valkey]:
    """A Valkey that this module has for itself: all of its servers count the same addresses."""
    with running_valkey() as valkey:
        yield valkey


@pytest.fixture
def serve(counter: Valkey, tmp_path: Path) -> Iterator[Serve]:
    """Starts a demo server with the limits that are given, counted from zero."""
    asked(counter.url, "FLUSHALL")
    with ExitStack() as stack:

        def start(
            client: int = 60,
            admin: int = 60,
            anonymous: int = 10,
            window: int = 60,
            trusted: tuple[str, ...] = (),
        ) -> Running:
            defaults = RuntimeSettings(client, admin, anonymous)
            counters = Counters(counter.url, window=window)
            url = f"sqlite:///{tmp_path / 'limits.db'}"
            running = prepared(url, defaults=defaults, counters=counters, trusted=trusted)
            return stack.enter_context(serving(running))

        yield start


def call(running: Running, path: str, secret: str | None = None, method: str = "GET", **options: Any) -> Any:
    """One call, held to the contract."""
    headers = {"Authorization": f"Bearer {secret}"} if secret else {}
    headers |= options.pop("headers", {})
    response = httpx.request(method, running.url + path, headers=headers, timeout=30, **options)
    check(response)
    return response


def left(response: httpx.Response) -> tuple[int, int]:
    return int(response.headers["X-RateLimit-Limit"]), int(response.headers["X-RateLimit-Remaining"])


class TestTheHeaders:
    def test_an_answer_tells_the_limit_in_the_words_of_the_documents_and_of_the_draft(
        self, serve: Serve
    ) -> None:
        running = serve()
        call(running, "/services", ADMIN)
        response = call(running, "/services", ADMIN)
        assert response.headers["X-RateLimit-Limit"] == "60"
        assert response.headers["X-RateLimit-Remaining"] == "58"
        assert response.headers["RateLimit-Policy"] == '"admin";q=60;w=60'
        assert response.headers["RateLimit"] == '"admin";r=58;t=60'
        assert "Retry-After" not in response.headers

    @pytest.mark.parametrize(
        ("status", "method", "path", "secret", "options"),
        [
            (200, "GET", "/status", None, {}),
            (200, "GET", "/docs", None, {}),
            (200, "HEAD", "/services", CLIENT, {}),
            (201, "POST", "/departments", ADMIN, {"json": {"name": "Sales"}}),
            (400, "GET", "/services?page=x", ADMIN, {}),
            (401, "GET", "/services", None, {}),
            (401, "GET", "/services", "wrong", {}),
            (403, "GET", "/clients", CLIENT, {}),
            (404, "GET", "/nowhere", ADMIN, {}),
            (404, "GET", "/services/999999", ADMIN, {}),
            (405, "DELETE", "/services", ADMIN, {}),
            (406, "GET", "/services", ADMIN, {"headers": {"Accept": "text/csv"}}),
            (409, "POST", "/invoices/1234/pay", ADMIN, {}),
            (413, "POST", "/departments", ADMIN, {"content": b"x" * 1_100_000}),
            (415, "POST", "/departments", ADMIN, {"content": b"x", "headers": {"Content-Type": "text/csv"}}),
            (422, "POST", "/tickets", CLIENT, {"json": {}}),
        ],
    )
    def test_every_answer_has_them(
        self, serve: Serve, status: int, method: str, path: str, secret: str | None, options: Any
    ) -> None:
        running = serve()
        if status == 409:
            call(running, path, secret, method)
        response = call(running, path, secret, method, **options)
        assert response.status_code == status
        assert all(name in response.headers for name in NAMES)

    def test_an_answer_to_a_fault_of_the_server_has_them(
        self, serve: Serve, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fail(*_: Any) -> Any:
            raise ZeroDivisionError

        monkeypatch.setattr(services, "VIEWS", Views(client=fail, admin=fail))
        response = call(serve(), "/services", ADMIN)
        assert response.status_code == 500
        assert left(response) == (60, 59)

    def test_a_limit_of_0_counts_nothing_and_tells_nothing(self, serve: Serve) -> None:
        running = serve(client=0, admin=5)
        for _ in range(70):
            response = call(running, "/services", CLIENT)
            assert response.status_code == 200
            assert not any(name in response.headers for name in NAMES)
        assert "X-RateLimit-Limit" in call(running, "/services", ADMIN).headers


class TestTheLimits:
    def test_the_61st_call_of_a_minute_is_refused_in_the_words_of_each_document(self, serve: Serve) -> None:
        running = serve()
        for secret, body in (
            (CLIENT, {"error": "Rate limit exceeded", "code": 429}),
            (ADMIN, {"status": "error", "error": {"code": "RATE_LIMITED", "message": "Too many requests"}}),
        ):
            for nth in range(60):
                response = call(running, "/departments", secret)
                assert (response.status_code, left(response)) == (200, (60, 59 - nth))
            response = call(running, "/departments", secret)
            assert response.status_code == 429
            assert response.json() == body
            assert left(response) == (60, 0)
            assert 55 <= int(response.headers["Retry-After"]) <= 60

    def test_the_eleventh_call_without_a_good_credential_is_refused(self, serve: Serve) -> None:
        running = serve()
        for nth in range(10):
            assert call(running, "/services", [None, "wrong", "cbt_wrong"][nth % 3]).status_code == 401
        for secret, dialect in ((None, "admin"), ("wrong", "admin"), ("cbt_wrong", "client")):
            response = call(running, "/services", secret)
            assert response.status_code == 429
            assert ("code" in response.json()) == (dialect == "client")
        # Whoever has a good one goes on.
        assert call(running, "/services", CLIENT).status_code == 200

    def test_clients_share_their_address_and_keys_count_for_themselves(self, serve: Serve) -> None:
        running = serve(client=3, admin=2)
        made = call(running, "/api-keys", ADMIN, "POST", json={"name": "x", "scopes": ["services:read"]})
        key = made.json()["data"]["key"]
        assert [call(running, "/services", each).status_code for each in (CLIENT, OTHER, CLIENT, OTHER)] == [
            *[200, 200, 200],
            429,
        ]
        assert [call(running, "/services", each).status_code for each in (key, key, key, ADMIN, ADMIN)] == [
            *[200, 200],
            429,
            200,
            429,
        ]

    def test_public_operations_have_the_clients_limit_for_themselves(self, serve: Serve) -> None:
        running = serve(client=2, anonymous=1)
        assert [call(running, "/status").status_code for _ in range(3)] == [200, 200, 429]
        assert call(running, "/status", ADMIN).status_code == 429
        assert call(running, "/services", CLIENT).status_code == 200

    def test_where_nothing_is_or_nothing_can_be_done_that_is_said_first(self, serve: Serve) -> None:
        running = serve(admin=1)
        call(running, "/services", ADMIN)
        assert call(running, "/nowhere", ADMIN).status_code == 404
        assert call(running, "/services", ADMIN, "DELETE").status_code == 405
        assert call(running, "/profile", ADMIN).status_code == 429
        assert call(running, "/departments", ADMIN, "POST", content=b"{").status_code == 429

    def test_a_refused_call_changes_nothing(self, serve: Serve) -> None:
        running = serve(admin=1)
        call(running, "/services", ADMIN)
        before = call(running, "/departments", CLIENT).json()["count"]
        assert call(running, "/departments", ADMIN, "POST", json={"name": "Sales"}).status_code == 429
        assert call(running, "/departments", CLIENT).json()["count"] == before

    def test_whoever_sleeps_as_told_is_admitted(self, serve: Serve) -> None:
        running = serve(admin=3, window=2)
        while (response := call(running, "/services", ADMIN)).status_code == 200:
            pass
        time.sleep(int(response.headers["Retry-After"]))
        assert call(running, "/services", ADMIN).status_code == 200


class TestAddresses:
    """The peer of these calls is 127.0.0.1, which a test may call a trusted proxy."""

    def count(self, running: Running, forwarded: list[str]) -> list[int]:
        return [call(running, "/status", headers={"X-Forwarded-For": each}).status_code for each in forwarded]

    def test_what_nobody_trusted_says_has_no_effect(self, serve: Serve) -> None:
        running = serve(client=10)
        answers = self.count(running, [f"192.0.2.{nth}" for nth in range(12)])
        assert answers == [200] * 10 + [429] * 2

    def test_a_trusted_proxy_is_believed(self, serve: Serve) -> None:
        running = serve(client=1, trusted=("127.0.0.0/8",))
        assert self.count(running, ["192.0.2.1", "192.0.2.2", "192.0.2.1"]) == [200, 200, 429]

    def test_the_right_most_address_that_is_not_trusted_counts(self, serve: Serve) -> None:
        running = serve(client=1, trusted=("127.0.0.1", "10.0.0.0/8"))
        forged = [f"203.0.113.{nth}, 192.0.2.1, 10.0.0.7" for nth in range(5)]
        assert self.count(running, forged) == [200, 429, 429, 429, 429]

    def test_addresses_are_read_as_proxies_write_them(self, serve: Serve) -> None:
        running = serve(client=1, trusted=("127.0.0.1",))
        same = [
            "192.0.2.1",
            "192.0.2.1:1234",
            "::ffff:192.0.2.1",
            "[::ffff:192.0.2.1]:99",
            "192.0.2.1, 192.0.2.1",
        ]
        assert self.count(running, same) == [200, 429, 429, 429, 429]

    def test_what_is_no_address_counts_for_the_proxy_that_said_it(self, serve: Serve) -> None:
        running = serve(client=1, trusted=("127.0.0.1",))
        assert self.count(running, ["unknown", "", "192.0.2.999", "<script>"]) == [200, 429, 429, 429]

    def test_1000_addresses_of_one_64_are_one_caller(self, serve: Serve) -> None:
        running = serve(client=10, trusted=("127.0.0.1",))
        with httpx.Client() as http:
            answers = [
                http.get(
                    f"{running.url}/status", headers={"X-Forwarded-For": f"2001:db8:1:2:{nth:x}::{nth:x}"}
                ).status_code
                for nth in range(1000)
            ]
        assert answers.count(200) == 10
        assert self.count(running, ["2001:db8:1:3::1"]) == [200]


class TestWhenRedisFails:
    @pytest.mark.parametrize("fault", ["freeze", "stop"])
    def test_calls_are_answered_all_the_while_and_the_limit_holds(
        self, serve: Serve, counter: Valkey, fault: str
    ) -> None:
        running = serve(client=60)
        answers = [call(running, "/services", CLIENT).status_code for _ in range(30)]
        getattr(counter, fault)()
        try:
            answers += [call(running, "/services", CLIENT).status_code for _ in range(60)]
        finally:
            {"freeze": counter.thaw, "stop": counter.start}[fault]()
        assert answers == [200] * 60 + [429] * 30
