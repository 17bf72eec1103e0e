"""What goes wrong around the server: it says 503 or nothing worse, and recovers by itself."""

import asyncio
import logging
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest
from sqlalchemy import select

from handlers.dialects import ClientDialect
from openapi import loading
from persistence import departments, migrations
from persistence.database import Database
from persistence.departments import Department
from persistence.engines import connect
from persistence.errors import Unavailable
from server.app import cross_origin
from server.observe import logs
from server.request.context import context_of
from server.request.edge import Edge
from tests.conftest import new_database
from tests.support.live_server import ADMIN, CLIENT, Running, prepared, serving

BODY = {"client_id": 42, "department_id": 2, "subject": "DNS", "message": "Help"}


class TestPostgreSQL:
    def test_dying_backends_are_503_and_nothing_worse(self, postgres: str, tmp_path: Any) -> None:
        url = new_database("postgresql", tmp_path, postgres)
        with serving(prepared(url)) as running:
            stop = threading.Event()

            def calls(nth: int) -> set[int]:
                seen = set()
                with httpx.Client(base_url=running.url, headers={"Authorization": f"Bearer {ADMIN}"}) as http:
                    while not stop.is_set():
                        write = nth % 2
                        response = http.post("/tickets", json=BODY) if write else http.get("/services")
                        seen.add(response.status_code)
                        assert response.status_code != 503 or response.headers["Retry-After"]
                return seen

            with ThreadPoolExecutor(12) as pool:
                results = [pool.submit(calls, nth) for nth in range(12)]
                for _ in range(15):
                    asyncio.run(_terminate_all(url))
                stop.set()
                seen = set().union(*[each.result() for each in results])
            assert seen <= {200, 201, 503}
            assert 503 in seen
            answer = httpx.get(f"{running.url}/services", headers={"Authorization": f"Bearer {CLIENT}"})
            assert answer.status_code == 200

    def test_a_process_that_does_not_go_on_loses_its_locks(
        self, postgres: str, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("persistence.engines.limits.IDLE_SECONDS", 0.2)
        url = new_database("postgresql", tmp_path, postgres)
        migrations.upgrade(url)

        async def hold(database: Database) -> None:
            async with database.transaction() as db:
                await departments.create(db, {"name": "Held", "status": "active"})
                await asyncio.sleep(1)
                await departments.create(db, {"name": "Too late", "status": "active"})

        async def work() -> None:
            database = connect(url)
            await database.open()
            try:
                with pytest.raises(Unavailable):
                    await hold(database)
                async with database.transaction() as db:
                    await departments.create(db, {"name": "After", "status": "active"})
                async with database.reading() as db:
                    assert [row.name for row in await db.fetch_all(select(Department.name))] == ["After"]
            finally:
                await database.close()

        asyncio.run(work())

    def test_a_pool_that_cannot_connect_says_so_in_one_line(
        self,
    ) -> None:
        record = logging.LogRecord("asyncpg.pool", logging.WARNING, "", 0, "Failed", (), None)
        try:
            raise OSError("refused")
        except OSError:
            record.exc_info = sys.exc_info()
        assert logs._in_one_line(record)
        assert logs.TextFormatter().format(record).endswith("warning Failed: refused")


async def _terminate_all(url: str) -> None:
    import asyncpg

    connection = await asyncpg.connect(url.replace("+asyncpg", ""))
    await connection.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE application_name = 'cloudarc' AND datname = current_database()"
    )
    await connection.close()


class TestCutOff:
    def test_a_call_that_is_cut_off_is_answered_503(self, server: Running) -> None:
        sent: list[Any] = []

        async def wait(scope: Any, receive: Any, send: Any) -> None:
            context_of(scope).dialect = ClientDialect
            await asyncio.sleep(3600)

        async def send(message: Any) -> None:
            sent.append(message)

        async def run() -> None:
            edge = Edge(wait, routes=server.edge.routes, database=server.database, clock=server.clock)
            scope = {
                "type": "http",
                "http_version": "1.1",
                "method": "GET",
                "path": "/api/v1/status",
                "raw_path": b"/api/v1/status",
                "query_string": b"",
                "headers": [(b"host", b"x")],
            }
            task = asyncio.ensure_future(edge(scope, None, send))  # type: ignore[arg-type]
            await asyncio.sleep(0)
            task.cancel()
            await task

        asyncio.run(run())
        headers = dict(sent[0]["headers"])
        assert sent[0]["status"] == 503
        assert headers[b"retry-after"] == b"1"
        assert b"x-request-id" in headers


class TestCrossOrigin:
    @pytest.mark.parametrize(
        ("origin", "status"), [("https://panel.example", 200), ("https://evil.example", 405)]
    )
    def test_preflights_look_like_every_answer(self, server: Running, origin: str, status: int) -> None:
        app = cross_origin(server.edge, ["https://panel.example"], loading.bundle())

        async def ask() -> httpx.Response:
            async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://x") as http:
                headers = {"Origin": origin, "Access-Control-Request-Method": "POST"}
                return await http.options("/api/v1/tickets", headers=headers)

        response = asyncio.run(ask())
        assert response.status_code == status
        assert response.headers["X-Request-Id"]
        assert response.headers["X-Content-Type-Options"] == "nosniff"
        assert ("access-control-allow-origin" in response.headers) == (status == 200)

    @pytest.mark.parametrize("path", ["/api/v1/tickets", "/api/v1/docs", "/api/v1/nowhere"])
    @pytest.mark.parametrize(
        "headers",
        [
            {},
            {"Origin": "https://panel.example"},
            {"Origin": "https://evil.example"},
            {"Access-Control-Request-Method": "POST"},
        ],
    )
    def test_an_options_that_is_no_preflight_is_any_other_call(
        self, server: Running, path: str, headers: dict[str, str]
    ) -> None:
        app = cross_origin(server.edge, ["https://panel.example"], loading.bundle())

        async def ask() -> httpx.Response:
            async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://x") as http:
                return await http.options(path, headers=headers)

        response = asyncio.run(ask())
        assert response.status_code == (404 if path.endswith("nowhere") else 405)
        assert response.headers["X-Request-Id"] and response.json()["error"]

    def test_a_page_of_another_origin_may_send_and_read_what_the_contract_names(
        self, server: Running
    ) -> None:
        app = cross_origin(server.edge, ["https://panel.example"], loading.bundle())
        preflight = {
            "Origin": "https://panel.example",
            "Access-Control-Request-Method": "GET",
            "Access-Control-Request-Headers": "if-none-match, if-match, idempotency-key",
        }

        async def ask() -> tuple[int, httpx.Response]:
            async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://x") as http:
                asked = await http.options("/api/v1/services", headers=preflight)
                return asked.status_code, await http.get(
                    "/api/v1/status", headers={"Origin": preflight["Origin"]}
                )

        status, answer = asyncio.run(ask())
        assert status == 200
        exposed = set(answer.headers["access-control-expose-headers"].split(", "))
        assert exposed >= {"ETag", "Idempotent-Replayed", "Link", "Retry-After", "X-Request-Id"}
