"""The data layer on both databases: exact types, one writer, nothing half-written, migrations that fit."""

import asyncio
import sqlite3
import subprocess
import sys
from collections.abc import Awaitable, Callable
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import create_engine, insert, select, update
from sqlalchemy.engine import make_url

from persistence import demo, migrations
from persistence.database import Base, Database, Prepared
from persistence.departments import TABLE, Department
from persistence.engines import connect
from persistence.errors import Conflict, StartError, Unavailable
from persistence.invoices import Invoice, InvoiceLine, Payment
from tests.conftest import new_database

Run = Callable[[Callable[[Database], Awaitable[Any]]], Any]

ADD = insert(Department).values(dict.fromkeys(["name", "status"])).returning(TABLE.c.id)
NAMES = select(TABLE.c.name).order_by(TABLE.c.id)
RENAME = update(Department).values(name="Renamed").where(TABLE.c.id == 1)


@pytest.fixture
def url(backend: str, tmp_path: Path, request: pytest.FixtureRequest) -> str:
    """An empty, migrated database."""
    postgres = request.getfixturevalue("postgres") if backend == "postgresql" else None
    made = new_database(backend, tmp_path, postgres)
    migrations.upgrade(made)
    return made


@pytest.fixture
def run(url: str) -> Run:
    """Runs ``work(database)`` in a loop of its own."""

    def runner(work: Callable[[Database], Awaitable[Any]]) -> Any:
        async def inside() -> Any:
            database = connect(url)
            await database.open()
            try:
                return await work(database)
            finally:
                await database.close()

        return asyncio.run(inside())

    return runner


async def add(database: Database, name: str) -> None:
    async with database.transaction() as db:
        await db.one(ADD, name=name, status="active")


async def names(database: Database) -> list[str]:
    async with database.reading() as db:
        return [row.name for row in await db.all(NAMES)]


class TestTransactions:
    def test_leaving_it_commits(self, run: Run) -> None:
        async def work(database: Database) -> list[str]:
            await add(database, "Sales")
            return await names(database)

        assert run(work) == ["Sales"]

    def test_an_exception_takes_all_back(self, run: Run) -> None:
        async def work(database: Database) -> list[str]:
            async def fail() -> None:
                async with database.transaction() as db:
                    await db.one(ADD, name="Sales", status="active")
                    raise Conflict("no")

            with pytest.raises(Conflict):
                await fail()
            await add(database, "Billing")
            return await names(database)

        assert run(work) == ["Billing"]

    def test_one_inside_another_is_refused_at_once(self, run: Run) -> None:
        async def work(database: Database) -> list[str]:
            with pytest.raises(RuntimeError, match="inside a transaction"):
                async with database.transaction(), database.transaction():
                    pass
            await add(database, "After")
            return await names(database)

        assert run(work) == ["After"]

    def test_readers_see_what_is_committed(self, run: Run) -> None:
        async def work(database: Database) -> tuple[list[str], list[str]]:
            async with database.transaction() as db:
                await db.one(ADD, name="Sales", status="active")
                during = await names(database)
            return during, await names(database)

        assert run(work) == ([], ["Sales"])

    def test_many_at_once_lose_nothing(self, run: Run) -> None:
        async def work(database: Database) -> list[str]:
            await asyncio.gather(*[add(database, f"D{nth}") for nth in range(40)])
            return await names(database)

        assert sorted(run(work)) == sorted(f"D{nth}" for nth in range(40))

    def test_cancelled_ones_leave_the_database_usable(self, run: Run) -> None:
        async def work(database: Database) -> tuple[int, list[str]]:
            tasks = [asyncio.ensure_future(add(database, f"D{nth}")) for nth in range(60)]
            for nth, task in enumerate(tasks):
                if nth % 3:
                    await asyncio.sleep(0)
                    task.cancel()
            results = await asyncio.gather(*tasks, return_exceptions=True)
            assert all(each is None or isinstance(each, asyncio.CancelledError) for each in results)
            done = sum(each is None for each in results)
            await asyncio.wait_for(add(database, "Last"), 10)
            return done, await names(database)

        done, found = run(work)
        assert found[-1] == "Last"
        # One that was cancelled while it committed may have come through; none that came through is lost.
        assert len(found) >= done + 1

    def test_an_unknown_parameter_is_refused(self, run: Run) -> None:
        async def work(database: Database) -> None:
            async with database.reading() as db:
                await db.all(NAMES, foo=1)

        with pytest.raises(TypeError, match="foo"):
            run(work)


class TestWaiting:
    """Somebody else holds the lock for longer than we wait."""

    def test_a_writer_becomes_unavailable_and_reading_goes_on(
        self, run: Run, url: str, backend: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("persistence.engines.LOCK_SECONDS", 1)

        async def work(database: Database) -> list[str]:
            async with database.transaction() as db:
                await db.one(ADD, name="Sales", status="active")
            other = connect(url)
            await other.open()
            try:
                # Contexts of their own, as two processes have.
                holding, release = asyncio.Event(), asyncio.Event()

                async def hold() -> None:
                    async with other.transaction() as db:
                        await db.run(RENAME)
                        holding.set()
                        await release.wait()

                task = asyncio.ensure_future(hold())
                await holding.wait()
                with pytest.raises(Unavailable):
                    async with database.transaction() as db:
                        await db.run(RENAME)
                found = await names(database)
                release.set()
                await task
                async with database.transaction() as db:
                    await db.run(RENAME)
            finally:
                await other.close()
            return found

        assert run(work) == ["Sales"]


class TestQueueing:
    """Of SQLite alone: PostgreSQL's writers wait beside each other, and in no thread of ours."""

    @pytest.fixture
    def file(self, tmp_path: Path) -> str:
        url = new_database("sqlite", tmp_path, None)
        migrations.upgrade(url)
        return url

    def test_who_queues_behind_a_waiting_writer_does_not_wait_anew(
        self, file: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("persistence.engines.LOCK_SECONDS", 0.5)

        async def work() -> float:
            database, other = connect(file), connect(file)
            await database.open()
            await other.open()
            holder = other.writer.raw  # type: ignore[attr-defined]  # known at run time only
            holder.execute("BEGIN IMMEDIATE")
            started = asyncio.get_running_loop().time()
            tasks = [asyncio.create_task(add(database, f"D{nth}")) for nth in range(6)]
            results = await asyncio.gather(*tasks, return_exceptions=True)
            waited = asyncio.get_running_loop().time() - started
            assert all(isinstance(each, Unavailable) for each in results)
            holder.execute("ROLLBACK")
            await add(database, "After")
            await other.close()
            await database.close()
            return waited

        assert asyncio.run(work()) < 1.5

    def test_closing_waits_for_a_writer_that_was_cut_off(self, file: str) -> None:
        async def work() -> None:
            database, other = connect(file), connect(file)
            await database.open()
            await other.open()
            holder = other.writer.raw  # type: ignore[attr-defined]  # known at run time only
            holder.execute("BEGIN IMMEDIATE")
            task = asyncio.create_task(add(database, "Cut"))
            await asyncio.sleep(0.05)
            task.cancel()
            asyncio.get_running_loop().call_later(0.2, holder.execute, "ROLLBACK")
            await database.close()
            assert task.done()
            await other.close()

        asyncio.run(work())


class TestTypes:
    def test_amounts_instants_and_days_come_back_as_they_went_in(self, run: Run) -> None:
        async def work(database: Database) -> Any:
            await demo.seed(database)
            values = {
                "client_id": 42,
                "status": "paid",
                "total": Decimal("9999999999.99"),
                "currency": "USD",
                "due_date": date(2028, 2, 29),
                "paid_at": datetime(2028, 2, 29, 23, 59, 59, tzinfo=UTC),
                "created_at": datetime(1999, 12, 31, tzinfo=UTC),
            }
            async with database.transaction() as db:
                row = await db.one(insert(Invoice).values(dict.fromkeys(values)).returning(Invoice), **values)
            return row, values

        row, values = run(work)
        assert {name: getattr(row, name) for name in values} == values
        assert str(row.total) == "9999999999.99"

    def test_a_statement_is_compiled_once(self, run: Run) -> None:
        async def work(database: Database) -> tuple[Prepared, Prepared]:
            return database.prepare(NAMES), database.prepare(NAMES)

        first, second = run(work)
        assert first is second


class TestMigrations:
    def test_the_files_are_the_revisions_in_their_order(self) -> None:
        scripts = ScriptDirectory.from_config(migrations.config())
        assert [each.revision for each in scripts.walk_revisions()][::-1] == migrations.REVISIONS

    def test_upgrading_then_comparing_shows_no_difference(self, url: str) -> None:
        def check(connection: Any) -> None:
            settings = migrations.config()
            settings.attributes["connection"] = connection
            command.check(settings)

        migrations._with_connection(url, check)

    def test_a_difference_would_be_shown(self, url: str) -> None:
        def check(connection: Any) -> None:
            connection.exec_driver_sql("ALTER TABLE departments ADD COLUMN surplus INTEGER")
            settings = migrations.config()
            settings.attributes["connection"] = connection
            command.check(settings)

        with pytest.raises(CommandError, match="surplus"):
            migrations._with_connection(url, check)

    def test_they_go_back_and_forth(self, url: str) -> None:
        def down(connection: Any) -> None:
            settings = migrations.config()
            settings.attributes["connection"] = connection
            command.downgrade(settings, "base")

        assert not migrations.pending(url)
        migrations._with_connection(url, down)
        assert migrations.pending(url)
        migrations.upgrade(url)
        assert not migrations.pending(url)

    def test_two_that_start_at_once_migrate_once(self, tmp_path: Path, backend: str, postgres: str) -> None:
        url = new_database(backend, tmp_path, postgres)
        code = f"from persistence import migrations; migrations.upgrade({url!r})"
        # Alembic works in one thread of a process only.
        both = [subprocess.Popen([sys.executable, "-c", code]) for _ in range(3)]
        assert [each.wait(60) for each in both] == [0, 0, 0]
        assert not migrations.pending(url)

    def test_a_database_that_does_not_answer_is_one_line(self) -> None:
        for url in ("postgresql+asyncpg://nobody:secret@127.0.0.1:1/none", "sqlite:////nowhere/at/all.db"):
            with pytest.raises(StartError) as caught:
                migrations.upgrade(url)
            assert "\n" not in str(caught.value)
            assert "secret" not in str(caught.value)


class TestDemo:
    def test_it_is_the_same_every_time(self) -> None:
        assert demo.build() == demo.build()

    def test_it_goes_into_an_empty_database_only(self, run: Run) -> None:
        async def work(database: Database) -> None:
            await demo.seed(database)
            with pytest.raises(Conflict):
                await demo.seed(database)

        run(work)

    def test_new_rows_stand_behind_the_seeded_ones(self, run: Run) -> None:
        async def work(database: Database) -> int:
            await demo.seed(database)
            async with database.transaction() as db:
                row = await db.one(ADD, name="New", status="active")
            return int(row.id) if row else 0

        assert run(work) == 5

    def test_its_books_add_up(self) -> None:
        tables = demo.build()
        for invoice in tables[Invoice]:
            lines = [row["amount"] for row in tables[InvoiceLine] if row["invoice_id"] == invoice["id"]]
            payments = [row["amount"] for row in tables[Payment] if row["invoice_id"] == invoice["id"]]
            assert sum(lines) == invoice["total"]
            assert payments == ([invoice["total"]] if invoice["status"] == "paid" else [])

    def test_servers_have_as_many_places_taken_as_services_stand_on_them(self) -> None:
        from persistence.servers import Server
        from persistence.services import Service

        tables = demo.build()
        for server in tables[Server]:
            taken = [row for row in tables[Service] if row["server_id"] == server["id"]]
            assert len(taken) == server["used"] <= server["capacity"]


class TestSQLite:
    def test_its_file_is_durable_and_checked(self, tmp_path: Path) -> None:
        async def pragmas() -> list[Any]:
            database = connect(f"sqlite:///{tmp_path / 'x.db'}")
            await database.open()
            raw = database.writer.raw  # type: ignore[attr-defined]  # known at run time only
            found = [
                raw.execute(f"PRAGMA {name}").fetchone()[0]
                for name in ("journal_mode", "synchronous", "foreign_keys")
            ]
            with pytest.raises(sqlite3.OperationalError):
                database.reader.raw.execute("CREATE TABLE x (y)")  # type: ignore[attr-defined]  # known at run time only
            await database.close()
            return found

        assert asyncio.run(pragmas()) == ["wal", 2, 1]

    def test_every_table_is_made_by_the_migrations(self, tmp_path: Path) -> None:
        url = f"sqlite:///{tmp_path / 'x.db'}"
        migrations.upgrade(url)
        with create_engine(make_url(url)).connect() as connection:
            rows = connection.exec_driver_sql(
                "SELECT name FROM sqlite_master WHERE type = 'table'"
            ).fetchall()
        assert {row[0] for row in rows} >= set(Base.metadata.tables)
