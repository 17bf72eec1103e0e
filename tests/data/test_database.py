"""The data layer on both databases: exact types, one writer, nothing half-written, migrations that fit."""

import asyncio
import logging
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import create_engine, insert, select, text, update
from sqlalchemy.engine import make_url
from sqlalchemy.sql.elements import ClauseElement

from persistence import demo, migrations
from persistence.clients import Client
from persistence.database import CompiledStatement, Connection, Database, current_caller
from persistence.departments import TABLE, Department
from persistence.engines import connect
from persistence.engines.common import FairQueue
from persistence.engines.group_commit import GroupCommit
from persistence.engines.limits import MAX_SEARCHES, THREADS_ASIDE
from persistence.engines.postgresql import PostgreSQL
from persistence.engines.sqlite import SQLite
from persistence.errors import Busy, Conflict, StartError, Unavailable
from persistence.invoices import Invoice, InvoiceLine, Payment
from persistence.types import Base
from tests.conftest import new_database
from tests.support.live_server import copy_demo

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
        await db.fetch_one(ADD, name=name, status="active")


async def names(database: Database) -> list[str]:
    async with database.reading() as db:
        return [row.name for row in await db.fetch_all(NAMES)]


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
                    await db.fetch_one(ADD, name="Sales", status="active")
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
                await db.fetch_one(ADD, name="Sales", status="active")
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
                await db.fetch_all(NAMES, foo=1)

        with pytest.raises(TypeError, match="foo"):
            run(work)


class TestWaiting:
    """Somebody else holds the lock for longer than we wait."""

    def test_a_writer_becomes_unavailable_and_reading_goes_on(
        self, run: Run, url: str, backend: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("persistence.engines.limits.LOCK_SECONDS", 1)

        async def work(database: Database) -> list[str]:
            async with database.transaction() as db:
                await db.fetch_one(ADD, name="Sales", status="active")
            other = connect(url)
            await other.open()
            try:
                # Contexts of their own, as two processes have.
                holding, release = asyncio.Event(), asyncio.Event()

                async def hold() -> None:
                    async with other.transaction() as db:
                        await db.execute(RENAME)
                        holding.set()
                        await release.wait()

                task = asyncio.ensure_future(hold())
                await holding.wait()
                with pytest.raises(Unavailable):
                    async with database.transaction() as db:
                        await db.execute(RENAME)
                found = await names(database)
                release.set()
                await task
                async with database.transaction() as db:
                    await db.execute(RENAME)
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
        monkeypatch.setattr("persistence.engines.limits.LOCK_SECONDS", 0.5)

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


class TestTogether:
    """Of SQLite alone: those who queue are committed at once, and each is told what became of it."""

    @pytest.fixture
    def database(self, tmp_path: Path) -> SQLite:
        url = new_database("sqlite", tmp_path, None)
        migrations.upgrade(url)
        return SQLite(url.removeprefix("sqlite:///"))

    @staticmethod
    def outcomes(
        database: SQLite, *works: Callable[[Connection], Awaitable[Any]]
    ) -> tuple[list[Any], list[str]]:
        """What becomes of transactions that come at once, and the names that are there then."""

        async def one(work: Callable[[Connection], Awaitable[Any]]) -> None:
            async with database.transaction() as db:
                await work(db)

        async def inside() -> tuple[list[Any], list[str]]:
            await database.open()
            try:
                await one(TestTogether.adding("First"))
                found = await asyncio.gather(*map(one, works), return_exceptions=True)
                there = await names(database)
                await asyncio.wait_for(add(database, "After"), 10)
                assert await names(database) == [*there, "After"]
                return found, there[1:]
            finally:
                await database.close()

        return asyncio.run(inside())

    @staticmethod
    def adding(name: str) -> Callable[[Connection], Awaitable[Any]]:
        return lambda db: db.fetch_one(ADD, name=name, status="active")

    @staticmethod
    async def refuse_any(db: Connection) -> None:
        """Like a verb that looks at a state which somebody else has changed."""
        await db.fetch_one(ADD, name="Refused", status="active")
        if "A" in [row.name for row in await db.fetch_all(NAMES)]:
            raise Conflict("There is one already.")

    def test_who_queues_is_committed_once(self, database: SQLite, monkeypatch: pytest.MonkeyPatch) -> None:
        commits = counting(monkeypatch)
        found, there = self.outcomes(database, *[self.adding(f"D{nth}") for nth in range(20)])
        assert found == [None] * 20
        assert there == [f"D{nth}" for nth in range(20)]
        assert commits.count == 1 + len(("First", "After"))

    def test_what_has_ended_is_committed_before_the_database_is_closed(self, database: SQLite) -> None:
        async def work() -> list[str]:
            await database.open()
            writing = asyncio.create_task(add(database, "D"))
            async with asyncio.timeout(10):
                while not database.commits.awaiting_commit:
                    await asyncio.sleep(0)
            await database.close()
            await writing
            await database.open()
            found = await names(database)
            await database.close()
            return found

        assert asyncio.run(work()) == ["D"]

    def test_the_first_does_not_wait_for_ever(
        self, database: SQLite, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("persistence.engines.limits.MAX_GROUP", 4)
        commits = counting(monkeypatch)
        found, there = self.outcomes(database, *[self.adding(f"D{nth}") for nth in range(10)])
        assert (found, len(there)) == ([None] * 10, 10)
        assert commits.count == 3 + len(("First", "After"))

    def test_one_that_fails_takes_back_its_own(self, database: SQLite) -> None:
        found, there = self.outcomes(database, self.adding("A"), self.refuse_any, self.adding("B"))
        assert [type(each) for each in found] == [type(None), Conflict, type(None)]
        assert there == ["A", "B"]

    def test_the_first_that_fails_keeps_nobody_from_it(self, database: SQLite) -> None:
        async def fail(db: Connection) -> None:
            await db.fetch_one(ADD, name="Failed", status="active")
            raise Conflict("no")

        found, there = self.outcomes(database, fail, self.adding("A"), self.adding("B"))
        assert [type(each) for each in found] == [Conflict, type(None), type(None)]
        assert there == ["A", "B"]

    def test_nobody_is_told_of_what_was_not_committed(
        self, database: SQLite, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Not even who was refused because of it."""
        commits = counting(monkeypatch, fail=2)
        found, there = self.outcomes(database, self.adding("A"), self.refuse_any, self.adding("B"))
        assert [type(each) for each in found] == [Unavailable] * 3
        assert there == []
        assert commits.count == 3

    @pytest.mark.parametrize("swallowed", [False, True])
    def test_where_sqlite_takes_all_back_all_are_told(self, database: SQLite, swallowed: bool) -> None:
        """As SQLite may where it has no room, no memory, or cannot read; also what others wrote before."""

        async def lose(db: Connection) -> None:
            await db.fetch_one(ADD, name="Lost", status="active")
            database.writer.raw.execute("ROLLBACK")
            if not swallowed:
                raise Unavailable

        found, there = self.outcomes(database, self.adding("A"), lose, self.adding("B"))
        assert [type(each) for each in found] == [Unavailable, Unavailable, type(None)]
        assert there == ["B"]

    def test_a_file_without_room_fails_one(self, database: SQLite) -> None:
        async def bloat(db: Connection) -> None:
            raw = database.writer.raw
            (pages,) = raw.execute("PRAGMA page_count").fetchone()
            raw.execute(f"PRAGMA max_page_count={pages}")
            try:
                for nth in range(20_000):
                    await db.fetch_one(ADD, name=f"Bloat {nth}", status="active")
            finally:
                raw.execute("PRAGMA max_page_count=4294967294")

        found, there = self.outcomes(database, self.adding("A"), bloat, self.adding("B"))
        assert [type(each) for each in found] == [type(None), Unavailable, type(None)]
        assert there == ["A", "B"]

    def test_one_that_is_cut_off_with_the_turn_passes_it_on(self, database: SQLite) -> None:
        async def hold(release: asyncio.Event) -> None:
            async with database.transaction() as db:
                await db.fetch_one(ADD, name="D0", status="active")
                await release.wait()

        async def work() -> list[str]:
            await database.open()
            try:
                release = asyncio.Event()
                tasks = [asyncio.create_task(hold(release))]
                tasks += [asyncio.create_task(add(database, f"D{nth}")) for nth in range(1, 6)]
                async with asyncio.timeout(10):
                    while len(database.commits.write_queue) < 5:
                        await asyncio.sleep(0)
                release.set()
                # The turn has come to the next, and it has not run yet.
                coming = database.commits.write_queue[0]
                while not coming.done():
                    await asyncio.sleep(0)
                for task in tasks[1:]:
                    task.cancel()
                await asyncio.wait(tasks)
                await asyncio.wait_for(add(database, "After"), 10)
                return await names(database)
            finally:
                await database.close()

        found = asyncio.run(work())
        assert (found[0], found[-1]) == ("D0", "After")


class TestHandedOn:
    """Of PostgreSQL alone: a connection goes to the next writer, with a transaction that has begun."""

    SIZE = 2

    def outcomes(
        self, postgres: str, tmp_path: Path, work: Callable[[PostgreSQL], Awaitable[Any]]
    ) -> tuple[Any, list[str]]:
        """What ``work`` answers, and the names that are there then; all connections have come back."""
        url = new_database("postgresql", tmp_path, postgres)
        migrations.upgrade(url)

        async def inside() -> tuple[Any, list[str]]:
            database = PostgreSQL(make_url(url), self.SIZE)
            await database.open()
            try:
                found = await work(database)
                await asyncio.gather(*[add(database, "After") for _ in range(3 * self.SIZE)])
                assert database.writing == 0
                assert not database.queue
                assert database.writers.get_idle_size() == database.writers.get_size()
                async with database.reading() as db:
                    open_ones = await db.fetch_all(
                        text("SELECT 1 FROM pg_stat_activity WHERE state LIKE 'idle in %'")
                    )
                assert open_ones == []
                return found, [name for name in await names(database) if name != "After"]
            finally:
                await database.close()

        return asyncio.run(inside())

    def test_many_queue_for_few(self, postgres: str, tmp_path: Path) -> None:
        async def work(database: PostgreSQL) -> list[Any]:
            adding = [add(database, f"D{nth}") for nth in range(30)]
            return await asyncio.gather(*adding, return_exceptions=True)

        found, there = self.outcomes(postgres, tmp_path, work)
        assert found == [None] * 30
        assert sorted(there) == sorted(f"D{nth}" for nth in range(30))

    def test_each_has_a_transaction_of_its_own(self, postgres: str, tmp_path: Path) -> None:
        async def one(database: PostgreSQL, nth: int) -> None:
            async with database.transaction() as db:
                await db.fetch_one(ADD, name=f"D{nth}", status="active")
                if nth % 3 == 0:
                    raise Conflict("no")

        async def work(database: PostgreSQL) -> list[Any]:
            return await asyncio.gather(*[one(database, nth) for nth in range(30)], return_exceptions=True)

        found, there = self.outcomes(postgres, tmp_path, work)
        assert [isinstance(each, Conflict) for each in found] == [nth % 3 == 0 for nth in range(30)]
        assert sorted(there) == sorted(f"D{nth}" for nth in range(30) if nth % 3)

    def test_who_is_cut_off_with_a_connection_hands_it_on(self, postgres: str, tmp_path: Path) -> None:
        async def work(database: PostgreSQL) -> list[Any]:
            tasks = [asyncio.create_task(add(database, f"D{nth}")) for nth in range(20)]
            for nth in range(2, 20, 2):
                # The next in the queue has got one and has not run yet, or still waits.
                while len(database.queue) > 19 - nth:
                    await asyncio.sleep(0)
                tasks[nth].cancel()
            return await asyncio.gather(*tasks, return_exceptions=True)

        found, there = self.outcomes(postgres, tmp_path, work)
        kept = {f"D{nth}" for nth, each in enumerate(found) if each is None}
        assert kept <= set(there)
        assert kept >= {f"D{nth}" for nth in range(1, 20, 2)}

    def test_a_connection_that_dies_is_not_handed_on(self, postgres: str, tmp_path: Path) -> None:
        async def die(database: PostgreSQL) -> None:
            async with database.transaction() as db:
                await db.fetch_one(ADD, name="Dead", status="active")
                await db.fetch_all(text("SELECT pg_terminate_backend(pg_backend_pid())"))

        async def work(database: PostgreSQL) -> list[Any]:
            adding = [add(database, f"D{nth}") for nth in range(10)]
            return await asyncio.gather(die(database), *adding, return_exceptions=True)

        found, there = self.outcomes(postgres, tmp_path, work)
        assert isinstance(found[0], Unavailable)
        assert found[1:] == [None] * 10
        assert sorted(there) == sorted(f"D{nth}" for nth in range(10))

    def test_nobody_waits_for_ever(
        self, postgres: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("persistence.engines.limits.LOCK_SECONDS", 0.3)

        async def work(database: PostgreSQL) -> list[Any]:
            release = asyncio.Event()

            async def hold(nth: int) -> None:
                async with database.transaction() as db:
                    await db.fetch_one(ADD, name=f"H{nth}", status="active")
                    await release.wait()

            holding = [asyncio.create_task(hold(nth)) for nth in range(self.SIZE)]
            late = await asyncio.gather(*[add(database, "Late") for _ in range(3)], return_exceptions=True)
            release.set()
            await asyncio.gather(*holding)
            return late

        found, there = self.outcomes(postgres, tmp_path, work)
        assert [type(each) for each in found] == [Unavailable] * 3
        assert sorted(there) == ["H0", "H1"]


SEARCH = select(TABLE.c.name).order_by(TABLE.c.id).execution_options(search=True)
SLOW_LIST = select(TABLE.c.name).order_by(TABLE.c.id).execution_options(slow=True)
ENDLESS = text(
    "WITH RECURSIVE numbers (n) AS (SELECT CAST(1 AS BIGINT) UNION ALL SELECT n + 1 FROM numbers)"
    " SELECT count(*) FROM numbers"
).execution_options(search=True)


async def read(database: Database, statement: ClauseElement, caller: str) -> list[Any]:
    current_caller.set(caller)
    async with database.reading() as db:
        return await db.fetch_all(statement)


class TestSearches:
    def test_others_are_answered_while_one_caller_has_twenty_that_do_not_end(
        self, run: Run, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("persistence.engines.limits.SEARCH_SECONDS", 60)
        monkeypatch.setattr("persistence.engines.limits.LOCK_SECONDS", 60)

        async def work(database: Database) -> None:
            await add(database, "Sales")
            mine = [asyncio.create_task(read(database, ENDLESS, "A")) for _ in range(20)]
            await asyncio.sleep(0)
            for statement in (SEARCH, SLOW_LIST, NAMES):
                assert [row.name for row in await read(database, statement, "B")] == ["Sales"]
            assert not any(each.done() for each in mine)
            for each in mine:
                each.cancel()
            await asyncio.gather(*mine, return_exceptions=True)
            # All places are free again.
            again = [read(database, SEARCH, each) for each in "AAABBBCCCDDD"]
            assert len(await asyncio.gather(*again)) == 12

        run(work)

    def test_lists_are_read_while_callers_search_in_all_places(
        self, run: Run, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("persistence.engines.limits.SEARCH_SECONDS", 60)

        async def work(database: Database) -> None:
            await add(database, "Sales")
            callers = [f"S{nth}" for nth in range(2 * MAX_SEARCHES)]
            theirs = [asyncio.create_task(read(database, ENDLESS, each)) for each in callers]
            await asyncio.sleep(0)
            for statement in (SLOW_LIST, NAMES):
                assert [row.name for row in await read(database, statement, "B")] == ["Sales"]
            assert not any(each.done() for each in theirs)
            for each in theirs:
                each.cancel()
            await asyncio.gather(*theirs, return_exceptions=True)

        run(work)

    def test_one_takes_no_connection_of_the_readers(
        self, postgres: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("persistence.engines.limits.SEARCH_SECONDS", 60)
        url = new_database("postgresql", tmp_path, postgres)
        migrations.upgrade(url)
        running = text("SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'WITH RECURSIVE%'")

        async def work() -> None:
            database, other = PostgreSQL(make_url(url), size=1), connect(url)
            await database.open()
            await other.open()
            searching = asyncio.create_task(read(database, ENDLESS, "A"))
            while not (await read(other, running, "B"))[0][0]:
                pass
            assert await names(database) == []
            assert not searching.done()
            searching.cancel()
            await asyncio.gather(searching, return_exceptions=True)
            await other.close()
            await database.close()

        asyncio.run(work())

    def test_one_that_takes_too_long_is_unavailable_and_spoils_no_connection(
        self, run: Run, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("persistence.engines.limits.SEARCH_SECONDS", 0.05)

        async def work(database: Database) -> None:
            for _ in range(2 * MAX_SEARCHES):
                with pytest.raises(Unavailable, match="took longer than 50 ms; use fewer or longer words"):
                    await read(database, ENDLESS, "A")
            await add(database, "Sales")
            both = [read(database, SEARCH, each) for each in "ABCDEF"]
            assert [[row.name for row in rows] for rows in await asyncio.gather(*both)] == [["Sales"]] * 6

        run(work)

    def test_one_whose_thread_begins_late_is_interrupted_all_the_same(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("persistence.engines.limits.SEARCH_SECONDS", 0.01)
        url = new_database("sqlite", tmp_path, None)

        async def work() -> None:
            database = SQLite(make_url(url).database or "")
            await database.open()
            begin = threading.Event()
            for _ in range(THREADS_ASIDE):
                database.threads.submit(begin.wait)
            asyncio.get_running_loop().call_later(0.1, begin.set)
            with pytest.raises(Unavailable, match="took longer"):
                await read(database, ENDLESS, "A")
            await database.close()

        asyncio.run(work())


class TestFairQueue:
    """Each test plays callers, named by letters, that ask for places in the order in which they stand."""

    async def play(self, queue: FairQueue, callers: str, order: list[str], search: bool = True) -> None:
        async def one(caller: str) -> None:
            current_caller.set(caller)
            async with queue.place(search):
                order.append(caller)
                await asyncio.sleep(0)

        await asyncio.gather(*[one(each) for each in callers])

    def test_callers_take_turns(self) -> None:
        order: list[str] = []
        asyncio.run(self.play(FairQueue(1), "AAAABBC", order))
        assert "".join(order) == "ABCABAA"

    async def held(self, queue: FairQueue, caller: str, search: bool = True) -> "asyncio.Task[None]":
        """A task that keeps its place until it is cancelled, if it gets one at once."""

        async def hold() -> None:
            current_caller.set(caller)
            async with queue.place(search):
                await asyncio.Event().wait()

        task = asyncio.create_task(hold())
        await asyncio.sleep(0)
        return task

    def test_a_caller_has_one_place_at_a_time(self) -> None:
        async def work() -> None:
            queue = FairQueue(4)
            order: list[str] = []
            first = await self.held(queue, "A")
            waiting = asyncio.create_task(self.play(queue, "AA", order))
            await self.play(queue, "BC", order)
            assert order == ["B", "C"]
            first.cancel()
            await waiting
            assert order == ["B", "C", "A", "A"]

        asyncio.run(work())

    def test_searches_never_take_the_last_place(self) -> None:
        async def work() -> None:
            queue = FairQueue(MAX_SEARCHES + 1)
            order: list[str] = []
            for nth in range(MAX_SEARCHES):
                await self.held(queue, f"S{nth}")
            late = asyncio.create_task(self.play(queue, "T", order))
            await asyncio.sleep(0)
            await self.play(queue, "L", order, search=False)
            assert order == ["L"]
            late.cancel()

        asyncio.run(work())

    def test_who_goes_away_holds_nobody_up(self) -> None:
        async def work() -> None:
            queue = FairQueue(1)
            order: list[str] = []
            first = await self.held(queue, "A")
            second = await self.held(queue, "B")
            last = asyncio.create_task(self.play(queue, "C", order))
            await asyncio.sleep(0)
            second.cancel()
            first.cancel()
            await last
            assert (order, queue.places, queue.search_places) == (["C"], 1, MAX_SEARCHES)
            await self.play(queue, "D", order)
            assert not queue.running

        asyncio.run(work())

    def test_one_that_goes_away_as_its_turn_comes_passes_it_on(self) -> None:
        async def work() -> None:
            queue = FairQueue(1)
            order: list[str] = []
            first = await self.held(queue, "A")
            second = await self.held(queue, "B")
            last = asyncio.create_task(self.play(queue, "C", order))
            await asyncio.sleep(0)
            first.cancel()
            while "B" not in queue.running:
                await asyncio.sleep(0)
            second.cancel()
            await last
            assert (order, queue.places) == (["C"], 1)

        asyncio.run(work())

    def test_nobody_waits_for_ever(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("persistence.engines.limits.LOCK_SECONDS", 0.05)

        async def work() -> None:
            queue = FairQueue(1)
            order: list[str] = []
            first = await self.held(queue, "A")
            with pytest.raises(Busy):
                await self.play(queue, "B", order)
            first.cancel()
            await self.play(queue, "B", order)
            assert order == ["B"]

        asyncio.run(work())

    def test_reads_without_a_caller_do_not_wait_for_each_other(self) -> None:
        async def work() -> None:
            queue = FairQueue(2)
            for _ in range(2):
                await self.held(queue, "")
            assert queue.places == 0

        asyncio.run(work())

    def test_closing_cancels_those_who_wait(self) -> None:
        async def work() -> None:
            queue = FairQueue(1)
            first, second = await self.held(queue, "A"), await self.held(queue, "B")
            queue.close()
            with pytest.raises(asyncio.CancelledError):
                await second
            assert not first.done()

        asyncio.run(work())


class TestDamage:
    def test_a_damaged_file_is_logged_and_answered_as_unavailable(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        path = tmp_path / "damaged.db"
        copy_demo(path)
        raw = sqlite3.connect(path)
        (root,) = raw.execute("SELECT rootpage FROM sqlite_master WHERE name = 'clients'").fetchone()
        raw.close()
        with path.open("r+b") as file:
            file.seek(4096 * (root - 1))
            file.write(b"x" * 4096)

        async def work() -> None:
            database = connect(f"sqlite:///{path}")
            await database.open()
            try:
                async with database.reading() as db:
                    await db.fetch_all(select(Client.__table__))
            finally:
                await database.close()

        with caplog.at_level(logging.ERROR), pytest.raises(Unavailable):
            asyncio.run(work())
        assert "the database file is damaged" in caplog.text


@dataclass
class Commits:
    count: int = 0


def counting(monkeypatch: pytest.MonkeyPatch, fail: int = 0) -> Commits:
    """Counts what is committed; the ``fail``th time the disk is full."""
    commits, commit = Commits(), GroupCommit.commit

    def counted(group: GroupCommit) -> None:
        commits.count += 1
        if commits.count == fail:
            error = sqlite3.OperationalError("database or disk is full")
            error.sqlite_errorcode = sqlite3.SQLITE_FULL
            raise error
        commit(group)

    monkeypatch.setattr(GroupCommit, "commit", counted)
    return commits


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
                row = await db.fetch_one(
                    insert(Invoice).values(dict.fromkeys(values)).returning(Invoice), **values
                )
            return row, values

        row, values = run(work)
        assert {name: getattr(row, name) for name in values} == values
        assert str(row.total) == "9999999999.99"

    def test_a_statement_is_compiled_once(self, run: Run) -> None:
        async def work(database: Database) -> tuple[CompiledStatement, CompiledStatement]:
            return database.compile(NAMES), database.compile(NAMES)

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

    @pytest.mark.parametrize(
        ("revision", "said"), [("0008", "before the first release"), ("9999", "install that version")]
    )
    def test_an_unknown_revision_is_refused_and_nothing_is_changed(
        self, url: str, revision: str, said: str
    ) -> None:
        def put(connection: Any) -> None:
            connection.exec_driver_sql(f"UPDATE alembic_version SET version_num = '{revision}'")

        migrations._with_connection(url, put)
        with pytest.raises(StartError, match=said) as caught:
            migrations.upgrade(url)
        assert f"(revision {revision})" in str(caught.value)
        assert migrations._with_connection(url, migrations._revision) == revision

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
                row = await db.fetch_one(ADD, name="New", status="active")
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
