"""The numbers for Prometheus: what they say, where they are, and what they cost."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

import httpx
import psutil
import pytest
from prometheus_client.parser import text_string_to_metric_families

from openapi import loading
from persistence.counters import Counters
from persistence.engines import connect
from persistence.settings import RuntimeSettings
from server import app
from server.observe import logs
from server.observe.logs import log_request
from server.observe.metrics import Metrics
from tests.conftest import new_database
from tests.operations.test_command_line import command, is_one_line, served
from tests.operations.test_graceful_stop import until
from tests.support.live_server import ADMIN, BOX, CLIENT, Clock, Running, prepared, serving
from tests.support.postgres import free_port
from tests.support.valkey import Valkey, running_valkey
from tests.support.webhook_factories import tell

Numbers = dict[tuple[str, tuple[str, ...]], float]


def read(port: int) -> Numbers:
    """All samples, by name and the values of their labels, in the order of the labels' names."""
    text = httpx.get(f"http://127.0.0.1:{port}/metrics").text
    samples = [each for family in text_string_to_metric_families(text) for each in family.samples]
    return {
        (each.name, tuple(text for _, text in sorted(each.labels.items()))): each.value for each in samples
    }


@pytest.fixture(scope="module")
def valkey() -> Iterator[Valkey]:
    with running_valkey() as started:
        yield started


@pytest.fixture(scope="module")
def measured(
    backend: str, valkey: Valkey, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Iterator[tuple[Running, Callable[[], Numbers]]]:
    """A server with metrics, and its numbers."""
    postgres = request.getfixturevalue("postgres") if backend == "postgresql" else None
    url = new_database(backend, tmp_path_factory.mktemp("metrics"), postgres)
    prepared(url)
    clock, database, port = Clock(), connect(url), free_port()
    counters = Counters(valkey.url)
    metrics = Metrics(database, counters, clock)
    api = app.assemble(
        database,
        loading.bundle(),
        clock,
        defaults=RuntimeSettings(rate_limit_client=1000, rate_limit_admin=1000, rate_limit_anonymous=1000),
        counters=counters,
        box=BOX,
        private_targets=True,
        observers=[log_request, metrics.count],
        metrics=metrics,
        metrics_ports=[port],
    )
    with serving(Running(database, api, clock)) as running:
        yield running, lambda: read(port)


@pytest.fixture(scope="module")
def server(measured: tuple[Running, Callable[[], Numbers]]) -> Running:
    return measured[0]


@pytest.fixture(scope="module")
def numbers(measured: tuple[Running, Callable[[], Numbers]]) -> Callable[[], Numbers]:
    return measured[1]


class TestNumbers:
    def test_requests_are_counted_by_operation_and_status(
        self, server: Running, numbers: Callable[[], Numbers]
    ) -> None:
        before = numbers()
        calls = [("/services", CLIENT, 200)] * 3 + [("/services", None, 401), ("/nowhere", ADMIN, 404)]
        for path, secret, status in calls:
            headers = {"Authorization": f"Bearer {secret}"} if secret else {}
            assert httpx.get(f"{server.url}{path}", headers=headers).status_code == status

        def more(name: str, *labels: str) -> float:
            return numbers().get((name, labels), 0) - before.get((name, labels), 0)

        assert more("cloudarc_requests_total", "list_services", "200") == 3
        assert more("cloudarc_requests_total", "list_services", "401") == 1
        assert more("cloudarc_requests_total", "-", "404") == 1
        assert more("cloudarc_request_seconds_count", "list_services") == 4
        assert more("cloudarc_request_seconds_bucket", "10.0", "list_services") == 4
        assert 0 < more("cloudarc_request_seconds_sum", "list_services") < 4

    def test_what_is_asked_of_probes_is_not_counted(
        self, server: Running, numbers: Callable[[], Numbers]
    ) -> None:
        def total() -> float:
            return sum(value for (name, _), value in numbers().items() if name == "cloudarc_requests_total")

        before = total()
        assert httpx.get(f"http://127.0.0.1:{server.port}/readyz").status_code == 200
        assert total() == before

    def test_the_backlog_is_told(self, server: Running, numbers: Callable[[], Numbers]) -> None:
        # Nobody delivers here, so what is due stays due.
        server.inside(lambda db: tell(db, BOX, "http://127.0.0.1:1/", 3), write=True)
        server.clock.fixed = app.now() + timedelta(hours=1)
        found = numbers()
        assert found["cloudarc_webhook_deliveries_due", ()] == 3
        assert 3590 < found["cloudarc_webhook_oldest_due_seconds", ()] < 3700

    def test_a_redis_that_hangs_shows(
        self, server: Running, valkey: Valkey, numbers: Callable[[], Numbers]
    ) -> None:
        def call() -> dict[str, float]:
            assert httpx.get(f"{server.url}/status").status_code == 200
            found = numbers()
            return {name: found[f"cloudarc_limiter_{name}", ()] for name in ("degraded", "fallbacks_total")}

        before = call()
        assert before["degraded"] == 0
        valkey.freeze()
        try:
            hung = call()
        finally:
            valkey.thaw()
        assert hung == {"degraded": 1, "fallbacks_total": before["fallbacks_total"] + 1}
        until(lambda: call()["degraded"] == 0)

    def test_dropped_lines_and_the_process_are_told(
        self, numbers: Callable[[], Numbers], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(logs, "dropped", lambda: 7)
        found = numbers()
        assert found["cloudarc_log_lines_dropped_total", ()] == 7
        assert found["process_resident_memory_bytes", ()] > 1e6

    def test_a_database_that_does_not_answer_costs_its_numbers_alone(
        self, server: Running, numbers: Callable[[], Numbers], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        class Frozen:
            async def __aenter__(self) -> None:
                await asyncio.sleep(3600)

            async def __aexit__(self, *_: object) -> None: ...

        monkeypatch.setattr(server.database, "reading", Frozen)
        found = numbers()
        assert ("cloudarc_webhook_deliveries_due", ()) not in found
        assert ("cloudarc_limiter_degraded", ()) in found


def listening(pid: int) -> set[tuple[str, int]]:
    """Where a process and its children listen on TCP."""
    family = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    found = []
    for process in family:
        with suppress(psutil.NoSuchProcess):
            found += process.net_connections("tcp")
    return {(each.laddr.ip, each.laddr.port) for each in found if each.status == psutil.CONN_LISTEN}


class TestPorts:
    def test_it_is_off_by_default(self, tmp_path: Path) -> None:
        with served(tmp_path) as (process, base):
            httpx.get(f"{base}/status")
            assert len(listening(process.pid)) == 1

    def test_it_listens_on_loopback_only(self, tmp_path: Path) -> None:
        port = free_port()
        with served(tmp_path, "--host", "0.0.0.0", metrics_port=str(port)) as (process, base):
            httpx.get(f"{base}/status")
            assert ("127.0.0.1", port) in listening(process.pid)
            assert ("0.0.0.0", port) not in listening(process.pid)
            assert read(port)["cloudarc_requests_total", ("get_status", "200")] == 1
            # The API itself knows no such path.
            assert httpx.get(base.removesuffix("/api/v1") + "/metrics").status_code != 200

    def test_each_worker_has_a_port(self, tmp_path: Path, postgres: str) -> None:
        url, port = new_database("postgresql", tmp_path, postgres), free_port(neighbours=1)
        settings = {"database_url": url, "metrics_port": str(port), "rate_limit_client": "0"}
        with served(tmp_path, "--workers", "2", **settings) as (process, base):
            wanted = {("127.0.0.1", port), ("127.0.0.1", port + 1)}
            until(lambda: wanted <= listening(process.pid), 20)
            with httpx.Client() as http:
                for _ in range(20):
                    assert http.get(f"{base}/status", headers={"Connection": "close"}).status_code == 200

            def total() -> float:
                both = [read(each) for each in (port, port + 1)]
                return sum(each.get(("cloudarc_requests_total", ("get_status", "200")), 0) for each in both)

            assert total() == 20

    def test_a_port_in_use_is_one_line(self, tmp_path: Path) -> None:
        with served(tmp_path / "first") as (_, base):
            port = base.rpartition(":")[2].partition("/")[0]
            is_one_line(
                command(tmp_path, "serve", "--port", "0", metrics_port=port), port, "CLOUDARC_METRICS_PORT"
            )
