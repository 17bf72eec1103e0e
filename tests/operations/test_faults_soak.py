"""The fault runs of ``make soak`` in short, each under a load of writes and judged by the invariants."""

import asyncio
from pathlib import Path

from tests.conftest import new_database
from tests.operations.test_soak import holds
from tests.soak import faults


class TestPostgreSQL:
    def test_the_server_is_killed(self, postgres: str, tmp_path: Path) -> None:
        url = new_database("postgresql", tmp_path, postgres)
        holds(asyncio.run(faults.kill_the_server(tmp_path, url, kills=1)))

    def test_all_backends_end(self, postgres: str, tmp_path: Path) -> None:
        url = new_database("postgresql", tmp_path, postgres)
        holds(asyncio.run(faults.end_backends(tmp_path, url, times=2)))

    def test_the_database_stops_at_once_and_comes_back(self, tmp_path: Path) -> None:
        holds(asyncio.run(faults.restart_the_database(tmp_path, restarts=1)))

    def test_redis_is_frozen(self, postgres: str, tmp_path: Path) -> None:
        url = new_database("postgresql", tmp_path, postgres)
        holds(asyncio.run(faults.lose_redis(tmp_path, url, times=1, killed=False)))


class TestSQLite:
    def test_the_server_is_killed(self, tmp_path: Path) -> None:
        url = new_database("sqlite", tmp_path, None)
        holds(asyncio.run(faults.kill_the_server(tmp_path, url, kills=1)))

    def test_the_disk_is_full(self, tmp_path: Path) -> None:
        holds(asyncio.run(faults.fill_the_disk(tmp_path, times=1)))
