"""Credentials that were found lately are not looked up again, and yet dead at once in every process."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from persistence import tokens
from persistence.counters import Counters
from persistence.redis_pipeline import EPOCH
from persistence.settings import RuntimeSettings
from server import app
from server.request import credential_cache, security
from tests.conftest import new_database
from tests.support.live_server import ADMIN, Running, assembled, prepared, serving
from tests.support.valkey import Valkey, asked, running_valkey

LIMITS = RuntimeSettings(1_000_000, 1_000_000, 1_000_000)


@pytest.fixture(scope="module")
def valkey() -> Iterator[Valkey]:
    with running_valkey() as running:
        yield running


@pytest.fixture
def two(
    valkey: Valkey, backend: str, tmp_path: Path, request: pytest.FixtureRequest
) -> Iterator[tuple[Running, Running]]:
    """Two servers over one database and one Redis, as two processes would be."""
    postgres = request.getfixturevalue("postgres") if backend == "postgresql" else None
    url = new_database(backend, tmp_path, postgres)
    one = prepared(url, defaults=LIMITS, counters=Counters(valkey.url))
    other = assembled(url, defaults=LIMITS, counters=Counters(valkey.url))
    with serving(one), serving(other):
        yield one, other


@pytest.fixture
def looked_up(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The secrets that were looked up in a database."""
    seen: list[str] = []
    identify = security.identify

    async def wrapped(credential: security.Credential, *arguments: Any, **named: Any) -> security.Identity:
        seen.append(credential.secret or "")
        return await identify(credential, *arguments, **named)

    monkeypatch.setattr(security, "identify", wrapped)
    return seen


def call(running: Running, method: str, path: str, secret: str = ADMIN, body: Any = None) -> httpx.Response:
    headers = {"Authorization": f"Bearer {secret}"}
    return httpx.request(method, running.url + path, headers=headers, json=body, timeout=30)


def made(running: Running, path: str, shown: str, /, **body: Any) -> tuple[int, str]:
    """The id and the secret of a new token or key."""
    data = call(running, "POST", path, body=body).json()["data"]
    return data["id"], data[shown]


def client(running: Running) -> int:
    body = {
        "first_name": "A",
        "last_name": "B",
        "email": f"a{running.count(tokens.Token)}@known.example",
        "password": "long enough",
    }
    return int(call(running, "POST", "/clients", body=body).json()["data"]["id"])


class TestKnown:
    def test_one_that_was_found_is_not_looked_up_again(
        self, two: tuple[Running, Running], looked_up: list[str]
    ) -> None:
        one, _ = two
        for _ in range(40):
            assert call(one, "GET", "/departments").status_code == 200
        # Nothing is kept before the first count, nor while its last use is being written.
        assert 1 <= len(looked_up) <= 10

    def test_one_that_is_nobodys_is_looked_up_each_time(
        self, two: tuple[Running, Running], looked_up: list[str]
    ) -> None:
        for _ in range(5):
            assert call(two[0], "GET", "/departments", "who-knows").status_code == 401
        assert len(looked_up) == 5

    def test_without_limits_nothing_is_known(self, server: Running, looked_up: list[str]) -> None:
        for _ in range(5):
            assert call(server, "GET", "/departments").status_code == 200
        assert len(looked_up) == 5

    def test_a_known_key_keeps_its_scopes(self, two: tuple[Running, Running]) -> None:
        one, _ = two
        _, key = made(one, "/api-keys", "key", name="reader", scopes=["invoices:read"])
        for _ in range(5):
            assert call(one, "GET", "/invoices", key).status_code == 200
            assert call(one, "GET", "/services", key).status_code == 403

    def test_a_known_key_opens_nothing_in_the_query(self, two: tuple[Running, Running]) -> None:
        one, _ = two
        _, key = made(one, "/api-keys", "key", name="reader", scopes=["*"])
        for _ in range(3):
            assert call(one, "GET", "/invoices", key).status_code == 200
            assert httpx.get(f"{one.url}/invoices?api_token={key}").status_code == 401


class TestTheEnd:
    """Whatever one server ends is dead in the other when the answer is there."""

    def both_know(self, two: tuple[Running, Running], secret: str) -> None:
        for _ in range(3):
            for each in two:
                assert call(each, "GET", "/departments", secret).status_code == 200

    def nobody_knows(self, two: tuple[Running, Running], secret: str) -> None:
        for each in (two[1], two[0]):
            assert call(each, "GET", "/departments", secret).status_code == 401

    def test_of_a_token(self, two: tuple[Running, Running]) -> None:
        for _ in range(10):
            id, token = made(two[0], "/clients/42/tokens", "token")
            self.both_know(two, token)
            assert call(two[0], "DELETE", f"/clients/42/tokens/{id}").status_code == 200
            self.nobody_knows(two, token)

    def test_of_a_key(self, two: tuple[Running, Running]) -> None:
        for _ in range(10):
            id, key = made(two[0], "/api-keys", "key", name="short-lived", scopes=["*"])
            self.both_know(two, key)
            assert call(two[0], "DELETE", f"/api-keys/{id}").status_code == 200
            self.nobody_knows(two, key)

    def test_of_a_client(self, two: tuple[Running, Running]) -> None:
        id = client(two[0])
        _, token = made(two[0], f"/clients/{id}/tokens", "token")
        self.both_know(two, token)
        assert call(two[0], "DELETE", f"/clients/{id}").status_code == 200
        self.nobody_knows(two, token)

    def test_by_its_own_end(self, two: tuple[Running, Running]) -> None:
        now = app.now()
        for each in two:
            each.clock.fixed = now
        end = f"{now + timedelta(hours=1):%Y-%m-%dT%H:%M:%SZ}"
        _, token = made(two[0], "/clients/42/tokens", "token", expires_at=end)
        self.both_know(two, token)
        for each in two:
            each.clock.fixed = now + timedelta(hours=1)
        self.nobody_knows(two, token)

    def test_by_a_hand_in_the_database_after_some_seconds(
        self, two: tuple[Running, Running], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(credential_cache, "LIFETIME_SECONDS", 0)
        id, token = made(two[0], "/clients/42/tokens", "token")
        self.both_know(two, token)
        two[0].inside(lambda db: tokens.revoke(db, 42, id, app.now()), write=True)
        self.nobody_knows(two, token)


class TestRedis:
    def test_where_it_is_lost_each_call_looks_again(self, backend: str, tmp_path: Path, request: Any) -> None:
        postgres = request.getfixturevalue("postgres") if backend == "postgresql" else None
        url = new_database(backend, tmp_path, postgres)
        with running_valkey() as valkey:
            one = prepared(url, defaults=LIMITS, counters=Counters(valkey.url))
            with serving(one):
                id, token = made(one, "/clients/42/tokens", "token")
                for _ in range(3):
                    assert call(one, "GET", "/departments", token).status_code == 200
                valkey.stop()
                assert call(one, "DELETE", f"/clients/42/tokens/{id}").status_code == 200
                assert call(one, "GET", "/departments", token).status_code == 401

    def test_where_the_epoch_is_lost_another_begins(
        self, two: tuple[Running, Running], valkey: Valkey
    ) -> None:
        one, other = two
        id, token = made(one, "/clients/42/tokens", "token")
        for _ in range(3):
            assert call(other, "GET", "/departments", token).status_code == 200
        before = asked(valkey.url, "GET", EPOCH)
        asked(valkey.url, "FLUSHALL")
        assert call(other, "GET", "/departments", token).status_code == 200
        assert asked(valkey.url, "GET", EPOCH) not in (None, before)
        assert 0 < asked(valkey.url, "TTL", EPOCH) <= 3600
        assert call(one, "DELETE", f"/clients/42/tokens/{id}").status_code == 200
        assert call(other, "GET", "/departments", token).status_code == 401
