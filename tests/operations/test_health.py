"""What orchestrators ask: whether the server runs, and whether it can be called."""

import asyncio
import logging
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import String, bindparam, column, table, update

from persistence import migrations
from persistence.counters import Counters
from persistence.database import Connection
from persistence.settings import RuntimeSettings
from server.observe import health
from server.observe.health import Health
from tests.conftest import new_database
from tests.support.live_server import ADMIN, Running, prepared, serving
from tests.support.valkey import running_valkey

OK = {"status": "ok", "components": {"database": "ok", "redis": "ok"}}

VERSION = update(table("alembic_version", column("version_num", String))).values(
    version_num=bindparam("text", type_=String)
)


@pytest.fixture(autouse=True)
def nothing_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every question is a new look."""
    monkeypatch.setattr(health, "KEPT", -1)


def ask(server: Running, path: str, method: str = "GET", **options: Any) -> httpx.Response:
    return httpx.request(method, f"http://127.0.0.1:{server.port}{path}", **options)


@pytest.fixture
def version(server: Running) -> Iterator[Any]:
    """Sets the version that the database says it has; it is the real one again after the test."""

    def put(text: str) -> None:
        async def work(db: Connection) -> None:
            await db.execute(VERSION, text=text)

        server.inside(work, write=True)

    yield put
    put(migrations.REVISIONS[-1])


class TestHealthz:
    def test_a_server_that_runs_says_so(self, server: Running) -> None:
        answer = ask(server, "/healthz")
        assert (answer.status_code, answer.json()) == (200, {"status": "ok"})
        assert answer.headers["cache-control"] == "no-store"

    @pytest.mark.parametrize("path", ["/healthz", "/readyz"])
    def test_head_answers_like_get_without_a_body(self, server: Running, path: str) -> None:
        answer, full = ask(server, path, "HEAD"), ask(server, path)
        assert (answer.status_code, answer.content) == (200, b"")
        assert answer.headers["content-length"] == str(len(full.content))

    @pytest.mark.parametrize("path", ["/healthz", "/readyz"])
    @pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS"])
    def test_other_methods_are_405(self, server: Running, path: str, method: str) -> None:
        answer = ask(server, path, method, json={} if method == "POST" else None)
        assert (answer.status_code, answer.headers["allow"]) == (405, "GET, HEAD")
        assert answer.json()["error"]["code"] == "METHOD_NOT_ALLOWED"

    @pytest.mark.parametrize("path", ["/healthz/", "/api/v1/healthz", "/Healthz", "/readyz/x"])
    def test_other_paths_are_the_contracts(self, server: Running, path: str) -> None:
        headers = {"Authorization": f"Bearer {ADMIN}"}
        assert ask(server, path, headers=headers).status_code == 404

    def test_they_are_not_logged(self, server: Running, caplog: pytest.LogCaptureFixture) -> None:
        with caplog.at_level(logging.INFO, logger="cloudarc"):
            for path in ("/healthz", "/readyz"):
                headers = {"Authorization": "Bearer garbage", "X-Request-Id": "a-probe"}
                ask(server, path, headers=headers)
        # The line of a call that another test made may come late.
        assert not any(getattr(each, "fields", {}).get("id") == "a-probe" for each in caplog.records)


class TestReadyz:
    def test_a_server_that_can_be_called_is_ready(self, server: Running) -> None:
        answer = ask(server, "/readyz")
        assert (answer.status_code, answer.json()) == (200, OK)

    def test_a_database_that_lacks_migrations_is_not_ready(self, server: Running, version: Any) -> None:
        version("0001")
        answer = ask(server, "/readyz")
        assert answer.status_code == 503
        assert answer.headers["retry-after"]
        assert answer.json() == {
            "status": "unavailable",
            "components": {"database": "ok", "redis": "ok", "migrations": "pending"},
        }

    def test_a_database_of_a_newer_version_is_ready(self, server: Running, version: Any) -> None:
        version("9999")
        assert ask(server, "/readyz").json() == OK

    def test_a_server_that_stops_is_not_ready(self, server: Running, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(server.health, "stopping", True)
        answer = ask(server, "/readyz")
        assert (answer.status_code, answer.json()) == (503, {"status": "stopping"})
        assert ask(server, "/healthz").status_code == 200

    def test_without_redis_calls_are_answered_all_the_same(self, tmp_path: Path) -> None:
        limits = RuntimeSettings(rate_limit_client=1, rate_limit_admin=1, rate_limit_anonymous=1)
        with running_valkey() as valkey:
            url = new_database("sqlite", tmp_path, None)
            running = prepared(url, counters=Counters(valkey.url), defaults=limits)
            with serving(running):
                # None of these calls is counted.
                assert [ask(running, "/readyz").json() for _ in range(5)] == [OK] * 5
                valkey.freeze()
                begun = time.monotonic()
                answer = ask(running, "/readyz")
                assert time.monotonic() - begun < 1
                assert (answer.status_code, answer.json()["components"]["redis"]) == (200, "degraded")
                valkey.thaw()
                deadline = time.monotonic() + 10
                while ask(running, "/readyz").json() != OK:
                    assert time.monotonic() < deadline


class Frozen:
    """A database that takes questions and answers none."""

    def __init__(self) -> None:
        self.asked = 0

    def reading(self) -> Any:
        return self

    async def __aenter__(self) -> None:
        self.asked += 1
        await asyncio.sleep(3600)

    async def __aexit__(self, *_: object) -> None: ...


class TestDeadlines:
    def test_a_frozen_database_is_told_of_within_a_second_and_asked_once(self) -> None:
        database = Frozen()

        async def run() -> list[Any]:
            probed = Health(database, Counters(None))  # type: ignore[arg-type]
            return await asyncio.gather(*[probed.ready() for _ in range(20)])

        begun = time.monotonic()
        answers = asyncio.run(run())
        assert time.monotonic() - begun < 1
        assert {each.status for each in answers} == {503}
        assert b'"database":"unavailable"' in answers[0].body
        assert database.asked == 1

    def test_an_answer_is_kept_for_a_second(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(health, "KEPT", 1.0)
        looks = []

        async def look() -> health.Components:
            looks.append(1)
            return {"database": "ok", "redis": "ok"}

        async def run() -> None:
            probed = Health(None, Counters(None))  # type: ignore[arg-type]
            monkeypatch.setattr(probed, "_check", look)
            for _ in range(10):
                assert (await probed.ready()).status == 200

        asyncio.run(run())
        assert len(looks) == 1
