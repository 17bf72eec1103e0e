"""``doctor`` finds what is wrong, says what to do, changes nothing and sends nothing."""

import asyncio
import shutil
import socket
import sqlite3
import time
from collections import namedtuple
from dataclasses import replace
from pathlib import Path

import pytest
import redis

from persistence import migrations
from server.commands import doctor
from server.commands.doctor.findings import MIB, Finding
from server.settings import Settings
from tests.conftest import new_database
from tests.operations.test_command_line import command, served
from tests.support.live_server import copy_demo, prepared
from tests.support.postgres import free_port
from tests.support.valkey import Valkey, running_valkey

KEY = "k" * 40


@pytest.fixture(scope="module")
def valkey() -> "Valkey":  # type: ignore[misc]  # a generator
    with running_valkey() as running:
        yield running


@pytest.fixture
def settings(tmp_path: Path, valkey: Valkey) -> Settings:
    """Those of a healthy installation with the demo data."""
    copy_demo(tmp_path / "cloudarc.db")
    tmp_path.chmod(0o700)
    return Settings(
        data_dir=str(tmp_path),
        database_url=f"sqlite:///{tmp_path / 'cloudarc.db'}",
        redis_url=valkey.url,
        port=free_port(),
        secret_key=KEY,
    )


def found(settings: Settings) -> list[Finding]:
    async def examine() -> list[Finding]:
        return [each async for each in doctor.examine(settings)]

    return asyncio.run(examine())


def only(findings: list[Finding], level: str) -> Finding:
    """The one finding of this level."""
    (one,) = [each for each in findings if each.level == level]
    return one


class TestWell:
    def test_a_demo_installation_is_well_but_for_what_it_cannot_reach(self, settings: Settings) -> None:
        findings = found(settings)
        assert not [each for each in findings if each.level == "fault"]
        # The webhooks of the demo data have hosts that do not exist.
        assert {each.subject for each in findings if each.level == "advice"} <= {"webhooks", "memory", "disk"}
        seen = {each.subject for each in findings}
        assert seen >= {"settings", "disk", "redis", "clock", "database", "migrations", "secret key", "port"}

    def test_postgresql_is_asked_what_it_promises(
        self, settings: Settings, postgres: str, tmp_path: Path
    ) -> None:
        url = new_database("postgresql", tmp_path, postgres)
        prepared(url)
        findings = found(replace(settings, database_url=url))
        assert not [each for each in findings if each.level == "fault"]
        assert any(each.text.startswith("PostgreSQL 18") for each in findings)
        many = found(replace(settings, database_url=url, workers=64))
        assert any("max_connections" in each.advice for each in many)

    def test_it_changes_nothing(self, settings: Settings) -> None:
        path = Path(settings.data_dir) / "cloudarc.db"

        def content() -> list[str]:
            with sqlite3.connect(path) as raw:
                return list(raw.iterdump())

        before = content()
        found(settings)
        assert content() == before


class TestFaults:
    def test_a_redis_that_does_not_answer(self, settings: Settings) -> None:
        fault = only(found(replace(settings, redis_url="redis://127.0.0.1:1")), "fault")
        assert fault.subject == "redis" and "CLOUDARC_REDIS_URL" in fault.advice

    def test_a_redis_that_may_forget(self, settings: Settings, valkey: Valkey) -> None:
        client = redis.Redis.from_url(valkey.url)
        client.config_set("maxmemory", "100mb")
        client.config_set("maxmemory-policy", "allkeys-lru")
        try:
            assert any("volatile-ttl" in each.advice for each in found(settings))
        finally:
            client.config_set("maxmemory", "0")
            client.config_set("maxmemory-policy", "noeviction")
            client.close()

    def test_a_database_that_does_not_answer(self, settings: Settings) -> None:
        url = "postgresql+asyncpg://nobody:secret@127.0.0.1:1/none"
        fault = only(found(replace(settings, database_url=url)), "fault")
        assert fault.subject == "database" and "secret" not in fault.text

    def test_migrations_that_are_missing(self, settings: Settings, tmp_path: Path) -> None:
        fault = only(found(replace(settings, database_url=f"sqlite:///{tmp_path / 'new.db'}")), "fault")
        assert (fault.subject, fault.advice) == ("migrations", "run `python -m server migrate`")

    @pytest.mark.parametrize("place", [20_000, 100_000, 200_000])
    def test_a_file_that_is_damaged(self, settings: Settings, place: int) -> None:
        path = Path(settings.data_dir) / "cloudarc.db"
        raw = bytearray(path.read_bytes())
        assert len(raw) > place + 40_000
        raw[place : place + 40_000] = b"x" * 40_000
        path.write_bytes(raw)
        assert "fault" in {each.level for each in found(settings) if each.subject == "database"}

    def test_a_secret_key_that_opens_nothing(self, settings: Settings) -> None:
        from persistence import webhooks
        from persistence.engines import connect
        from persistence.sealing import Box

        async def seal() -> None:
            database = connect(settings.database_url)
            await database.open()
            async with database.transaction() as db:
                await webhooks.seal(db, 1, Box(KEY).seal("whsec_x", webhooks.context(1)))
            await database.close()

        asyncio.run(seal())
        assert not [each for each in found(settings) if each.level == "fault"]
        assert only(found(replace(settings, secret_key="n" * 40)), "fault").subject == "secret key"
        moved = found(replace(settings, secret_key="n" * 40, other_secret_key=KEY))
        assert any("reseal" in each.advice for each in moved)

    def test_deliveries_that_nobody_sends(self, settings: Settings) -> None:
        with sqlite3.connect(Path(settings.data_dir) / "cloudarc.db") as raw:
            changed = raw.execute(
                "UPDATE deliveries SET status = 'pending', due_at = '2026-01-01 00:00:00.000000'"
            )
            assert changed.rowcount
        assert "worker" in only(found(settings), "fault").advice

    def test_demo_data_in_production(self, settings: Settings) -> None:
        fault = only(found(replace(settings, environment="production")), "fault")
        assert "demo data" in fault.text

    def test_no_operator(self, settings: Settings, tmp_path: Path) -> None:
        url = f"sqlite:///{tmp_path / 'new.db'}"
        migrations.upgrade(url)
        assert any("operator create" in each.advice for each in found(replace(settings, database_url=url)))

    def test_a_port_that_somebody_else_has(self, settings: Settings) -> None:
        with socket.create_server(("127.0.0.1", settings.port)):
            fault = only(found(settings), "fault")
        assert fault.subject == "port" and "CLOUDARC_PORT" in fault.advice

    def test_little_room(self, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
        usage = namedtuple("usage", ["total", "used", "free"])
        for free, level in ((50, "fault"), (500, "advice"), (5000, "ok")):
            monkeypatch.setattr(shutil, "disk_usage", lambda path, free=free: usage(0, 0, free * MIB))
            assert level in {each.level for each in found(settings) if each.subject == "disk"}

    def test_a_clock_that_is_off(self, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
        now = time.time
        monkeypatch.setattr(time, "time", lambda: now() + 60)
        fault = only(found(settings), "fault")
        assert fault.subject == "clock" and "60 s" in fault.text


class TestCommand:
    def test_it_says_so_line_by_line_and_by_its_status(self, tmp_path: Path) -> None:
        with served(tmp_path) as (_, base):
            port = base.rpartition(":")[2].partition("/")[0]
            result = command(tmp_path, "doctor", port=port)
        assert (result.returncode, result.stderr) == (0, "")
        assert f"a server answers on 127.0.0.1:{port}" in result.stdout
        assert "ok      migrations  none are pending" in result.stdout
        broken = command(tmp_path, "doctor", redis_url="redis://127.0.0.1:1")
        assert broken.returncode == 1
        assert "fault   redis " in broken.stdout and "1 fault, " in broken.stdout
