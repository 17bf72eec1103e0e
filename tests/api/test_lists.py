"""Lists: every filter and order has an index, totals are exact and not counted, no page is far away."""

import asyncio
import importlib
import json
import pkgutil
import random
import re
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime
from decimal import Decimal
from functools import cache
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from sqlalchemy import Column, Delete, Insert, Select, Text, Update, func, select, text
from sqlalchemy.sql import visitors
from sqlalchemy.sql.elements import ClauseElement

import persistence
from openapi import contract
from persistence import (
    activity,
    api_keys,
    clients,
    delivery_queue,
    demo,
    departments,
    events,
    invoices,
    knowledgebase,
    lifecycle,
    listing,
    migrations,
    products,
    search,
    servers,
    services,
    tickets,
    webhooks,
)
from persistence.database import CompiledStatement, Connection, Database
from persistence.engines import connect
from persistence.engines.sqlite import SQLite
from persistence.errors import Refusal, Unavailable
from persistence.listing import Listing
from persistence.types import Money
from tests.conftest import new_database
from tests.support.contract_client import DOCUMENT, OPERATIONS

NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)

MODULES = {
    each.name: importlib.import_module(f"persistence.{each.name}")
    for each in pkgutil.iter_modules(persistence.__path__)
    if not each.ispkg
}
LISTS: dict[str, Listing] = {
    name: each
    for name, module in MODULES.items()
    for each in vars(module).values()
    if isinstance(each, Listing)
}

# Filters that a list always has, and those of which it has one at most.
ALWAYS = {
    "api_keys": {"live"},
    "clients": {"there"},
    "deliveries": {"webhook_id"},
    "departments": {"active"},
    "domains": {"client_id"},
    "tokens": {"client_id", "live"},
}
STATES = {"unpaid", "overdue", "paid"}

# Filters that leave few rows, whatever others there are.
NARROW = {name for each in LISTS.values() for name in each.selective_filter} | {"client_id"}

# What filters of the contract are called here, where their names differ.
CALLED = {
    "email": "email_key",
    "phone": "phone_key",
    "q": "words",
    "invoice_number": "number",
    "type": "event",
}


def filters(name: str) -> Iterator[frozenset[str]]:
    """Every set of filters that a list can be asked for."""
    always = ALWAYS.get(name, set())
    free = sorted(LISTS[name].conditions.keys() - always)
    for size in range(len(free) + 1):
        for chosen in combinations(free, size):
            if len(STATES.intersection(chosen)) <= 1:
                yield frozenset(always.union(chosen))


CASES = [(name, names) for name in LISTS for names in filters(name)]


def titled(case: Any) -> str:
    return "+".join(sorted(case)) or "all" if isinstance(case, frozenset) else str(case)


each_case = pytest.mark.parametrize(("name", "names"), CASES, ids=titled)


def test_there_are_lists_and_filters() -> None:
    assert len(LISTS) >= 14 and len(CASES) >= 40
    assert all(ALWAYS[name] <= LISTS[name].conditions.keys() for name in ALWAYS)


def test_only_a_list_of_one_client_or_thing_is_counted() -> None:
    counted = {(name, names) for name, names in CASES if not LISTS[name].has_tally(names)}
    assert all(names & NARROW or "words" in names for _, names in counted)
    assert len(CASES) - len(counted) >= 20


@contextmanager
def opened(url: str) -> Iterator[tuple[Database, Callable[[Awaitable[Any]], Any]]]:
    """A database, and what runs something on it."""
    with asyncio.Runner() as runner:
        database = connect(url)
        runner.run(database.open())
        try:
            yield database, lambda work: runner.run(_awaited(work))
        finally:
            runner.run(database.close())


async def _awaited(work: Awaitable[Any]) -> Any:
    return await work


async def read(database: Database, statement: ClauseElement, **params: Any) -> list[Any]:
    async with database.reading() as db:
        return await db.fetch_all(statement, **params)


async def given(db: Connection, name: str, names: frozenset[str]) -> list[dict[str, Any]]:
    """Values of a list's parameters: those that the table has, each of them, and one that it has not."""
    table = LISTS[name].key.table
    wanted = set(db.parameters(counting(name, names)))
    found: list[dict[str, Any]] = [{}]
    for parameter in sorted(wanted.intersection(table.c.keys())):
        column = table.c[parameter]
        most = 1 if parameter in NARROW - {"client_id"} else 6
        values = [
            row[0] for row in await db.fetch_all(select(column).distinct().order_by(column).limit(most))
        ]
        values += ["none" if isinstance(values[0], str) else 10**9] if values else []
        found = [each | {parameter: value} for each in found for value in values]
    text = {"tickets": "blank documentation"}.get(name, "a")
    fixed: dict[str, Any] = {"today": NOW.date(), "words": search.wanted(text), "number": 1234}
    fixed |= {"due_from": date(2025, 1, 1), "due_to": date(2025, 3, 31)}
    return [each | {key: fixed[key] for key in fixed if key in wanted} for each in found]


@cache
def counting(name: str, names: frozenset[str]) -> Select[Any]:
    """What counts the rows themselves."""
    return LISTS[name]._filtered(
        select(func.count().label("total")).select_from(LISTS[name].key.table), names
    )


async def compare(database: Database) -> int:
    """Hold every total of every list to the rows; how many that were."""
    compared = 0
    async with database.reading() as db:
        for name, names in CASES:
            each = LISTS[name]
            for values in await given(db, name, names):
                real = await db.fetch_one(counting(name, names), **values)
                kept = await each._sum(db, names, values)
                assert real is not None and kept == real.total, (name, sorted(names), values)
                compared += 1
    return compared


@pytest.fixture(scope="module")
def seeded(backend: str, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> str:
    """A database with the demo data."""
    postgres = request.getfixturevalue("postgres") if backend == "postgresql" else None
    url = new_database(backend, tmp_path_factory.mktemp("lists"), postgres)
    migrations.upgrade(url)
    with opened(url) as (database, run):
        run(demo.seed(database))
    return url


class Walk:
    """Random verbs, as callers could ask for them; most find something to do."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.number = seed * 1_000_000

    def unique(self) -> str:
        self.number += 1
        return f"{self.number:012d}"

    async def some(self, db: Connection, table: Any) -> int:
        """The id of some row."""
        top = await db.fetch_one(select(func.max(table.c.id).label("id")))
        return self.chance.randint(1, top.id) if top and top.id else 1

    async def step(self, db: Connection) -> None:
        verb = self.chance.choice(VERBS)
        await verb(self, db)

    async def order(self, db: Connection) -> None:
        await services.create(
            db,
            client_id=42,
            product_id=self.chance.choice([1, 2]),
            billing_cycle="monthly",
            domain="",
            username="",
            now=NOW,
        )

    async def move(self, db: Connection) -> None:
        id = await self.some(db, services.TABLE)
        await services._go(db, id, self.chance.choice(list(lifecycle.SERVICE)), "")

    async def bill(self, db: Connection) -> None:
        due = date(2026, self.chance.randint(1, 3), self.chance.randint(1, 28))
        lines = [invoices.Line("Line", Decimal("1.00"))]
        await invoices.create(db, client_id=42, due_date=due, lines=lines, now=NOW)

    async def pay(self, db: Connection) -> None:
        await invoices.pay(db, await self.some(db, invoices.TABLE), NOW)

    async def ask(self, db: Connection) -> None:
        await tickets.create(
            db,
            client_id=42,
            department_id=self.chance.choice([1, 2]),
            subject="x",
            message="x",
            priority="low",
            now=NOW,
            number=self.unique,
        )

    async def answer(self, db: Connection) -> None:
        id = await self.some(db, tickets.TABLE)
        owner = self.chance.choice([None, 42])
        if self.chance.random() < 0.5:
            await tickets.reply(db, id, owner, "x", NOW)
        else:
            await tickets.close(db, id, owner, NOW)

    async def register(self, db: Connection) -> None:
        values = {"first_name": "A", "last_name": "B", "email": f"{self.unique()}@example.com"}
        await clients.create(db, values, NOW)

    async def leave(self, db: Connection) -> None:
        await clients.delete(db, await self.some(db, clients.TABLE), NOW)

    async def tell(self, db: Connection) -> None:
        name = self.chance.choice(["invoice.paid", "ticket.opened"])
        uid = self.unique()
        await events.add(db, uid=uid, event=name, base="{}", now=NOW)

    async def hook(self, db: Connection) -> None:
        url = f"https://example.com/{self.unique()}"
        await webhooks.create(db, url=url, events=["invoice.paid"], active=True, now=NOW)

    async def unhook(self, db: Connection) -> None:
        await webhooks.delete(db, await self.some(db, webhooks.TABLE))

    async def send(self, db: Connection) -> None:
        token = self.unique()
        for row in await delivery_queue.waiting(db, NOW):
            await delivery_queue.claim(db, row.id, limit=2, token=token, now=NOW, lease=NOW)
        states = ["delivered", "failed", "pending"]
        await delivery_queue.settle(
            db,
            [
                {"key": row.id, "token": token, "new_status": self.chance.choice(states), "next": NOW}
                for row in await delivery_queue.claimed(db, token)
            ],
        )

    async def forget(self, db: Connection) -> None:
        later = datetime(2027, 1, 1, tzinfo=UTC)
        await delivery_queue.purge(db, later, self.chance.randint(0, 2))
        await events.purge(db, later, self.chance.randint(0, 2))

    async def key(self, db: Connection) -> None:
        await api_keys.create(db, "x", ["*"], self.unique(), NOW)

    async def lock_out(self, db: Connection) -> None:
        await api_keys.revoke(db, await self.some(db, api_keys.TABLE), 0, NOW)

    async def department(self, db: Connection) -> None:
        states = ["active", "inactive"]
        await departments.create(db, {"name": "x", "status": self.chance.choice(states)})
        id = self.chance.randint(3, 4)
        await departments.update(db, id, {"status": self.chance.choice(states)})

    async def product(self, db: Connection) -> None:
        price = {"monthly": Decimal(1), "quarterly": None, "annually": None, "currency": "USD"}
        values = {"name": "x", "description": "x", "kind": "x", "status": "active"}
        await products.create(db, values | price)

    async def server(self, db: Connection) -> None:
        values = {"name": "x", "hostname": "x", "ip_address": "192.0.2.1", "kind": "x", "status": "active"}
        await servers.create(db, values | {"capacity": 1})


VERBS = [
    verb for name, verb in vars(Walk).items() if name not in ("step", "some", "unique") and name[0] != "_"
]


class TestTotals:
    def test_the_migration_fills_them(self, seeded: str) -> None:
        with opened(seeded) as (database, run):
            assert run(compare(database)) > 100

        def back(connection: Any) -> None:
            settings = migrations.config()
            settings.attributes["connection"] = connection
            command.downgrade(settings, "0014")

        migrations._with_connection(seeded, back)
        migrations.upgrade(seeded)
        with opened(seeded) as (database, run):
            assert run(compare(database)) > 100
            folded = run(read(database, select(func.count().label("rows")).select_from(listing.COUNTS)))
            assert folded[0].rows > 10

    @pytest.mark.parametrize("seed", [1, 2])
    def test_they_are_exact_whatever_is_done(self, seeded: str, seed: int) -> None:
        walk = Walk(seed)

        async def steps(database: Database) -> int:
            done = 0
            for nth in range(240):
                try:
                    async with database.transaction() as db:
                        await walk.step(db)
                        if walk.chance.random() < 0.2:
                            raise Refusal("taken back")
                    done += 1
                except Refusal:
                    pass
                if nth % 40 == 0:
                    await listing.compact(database) if database.dialect.name == "postgresql" else None
                    await compare(database)
            return done

        with opened(seeded) as (database, run):
            assert run(steps(database)) > 80
            assert run(compare(database)) > 100

    def test_they_are_exact_after_writers_at_once_and_folding(self, seeded: str) -> None:
        async def writer(database: Database, seed: int) -> int:
            walk, done = Walk(seed), 0
            for _ in range(20):
                try:
                    async with database.transaction() as db:
                        await walk.step(db)
                    done += 1
                except Refusal:
                    pass
            return done

        async def crowd(database: Database) -> int:
            folding = asyncio.create_task(listing.compact_periodically(database))
            counts = await asyncio.gather(*[writer(database, seed) for seed in range(10, 26)])
            folding.cancel()
            await asyncio.wait([folding])
            return sum(counts)

        with opened(seeded) as (database, run):
            assert run(crowd(database)) > 100
            assert run(compare(database)) > 100

    def test_folding_changes_no_total_and_leaves_one_row_of_each(self, seeded: str) -> None:
        query = select(func.count().label("rows"), func.sum(listing.COUNTS.c.change).label("sum"))
        places = select(*[listing.COUNTS.c[each] for each in ("tally", "number", "word", "day")]).distinct()

        async def add(database: Database) -> None:
            for _ in range(30):
                async with database.transaction() as db:
                    await Walk(random.randrange(10**6)).bill(db)

        async def fold(database: Database) -> None:
            # One who comes while another one folds leaves it to him.
            await asyncio.gather(*[listing.compact(database) for _ in range(4)])

        with opened(seeded) as (database, run):
            run(add(database))
            before = run(read(database, query))[0]
            run(fold(database))
            after = run(read(database, query))[0]
            # SQLite has one row of each from the beginning.
            fewer = database.dialect.name != "sqlite"
            assert after.sum == before.sum and (after.rows < before.rows) is fewer
            assert after.rows == len(run(read(database, places)))
            assert run(read(database, listing.FRESH)) == []


class TestPages:
    @each_case
    def test_every_page_is_what_the_whole_list_has_there(
        self, seeded: str, name: str, names: frozenset[str]
    ) -> None:
        async def look(database: Database) -> None:
            async with database.reading() as db:
                for values in (await given(db, name, names))[:4]:
                    where = values | dict.fromkeys(names - values.keys(), True)
                    whole = await LISTS[name].page(db, page=1, limit=10**6, after=None, **where)
                    ids = [row.id for row in whole.rows]
                    dated = LISTS[name].dated if names.intersection(LISTS[name].ranges) else None
                    order = [
                        (getattr(row, dated.key) if dated is not None else 0, row.id) for row in whole.rows
                    ]
                    assert order == sorted(order, reverse=not LISTS[name].ascending)
                    assert (whole.total, whole.has_next) == (len(ids), False)
                    limit = max(2, len(ids) // 5)
                    for number in range(1, 8):
                        place = slice((number - 1) * limit, number * limit)
                        page = await LISTS[name].page(db, page=number, limit=limit, after=None, **where)
                        assert [row.id for row in page.rows] == ids[place]
                        assert (page.total, page.has_next) == (len(ids), place.stop < len(ids))
                        if ids[place] and page.has_next:
                            after = page.cursor or ids[place][-1]
                            page = await LISTS[name].page(db, page=9, limit=limit, after=after, **where)
                            assert [row.id for row in page.rows] == ids[place.stop : place.stop + limit]
                            assert page.total == len(ids)

        with opened(seeded) as (database, run):
            run(look(database))


TIMES = 40
"""How many times as many rows as the demo data has."""

# What makes a copy of a row unique, in columns that must be.
UNIQUE = {
    ("api_keys", "digest"): "n || substr(digest, 4)",
    ("clients", "email_key"): "n || email_key",
    ("deliveries", "event_id"): "NULL",
    ("domains", "domain"): "n || '.' || domain",
    ("events", "uid"): "n || '-' || events.id",
    ("services", "domain"): "CASE WHEN domain = '' THEN '' ELSE n || '.' || domain END",
    ("services", "username"): "CASE WHEN username = '' THEN '' ELSE username || '-' || n END",
    ("tickets", "ticket_number"): "substr(ticket_number, 5) || n",
    ("tokens", "digest"): "n || substr(digest, 4)",
    ("webhooks", "url"): "url || n",
}

MOST = 4_000
"""Rows that a statement may look at; the lists have 12,000 and more."""


@pytest.fixture(scope="module")
def crowded(backend: str, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> str:
    """A database with so many rows that it matters how they are found, evenly spread."""
    postgres = request.getfixturevalue("postgres") if backend == "postgresql" else None
    url = new_database(backend, tmp_path_factory.mktemp("crowded"), postgres)
    migrations.upgrade(url)

    async def fill(database: Database) -> None:
        await demo.seed(database)
        walk = Walk(99)
        for _ in range(100):
            async with database.transaction() as db:
                await walk.tell(db)
        async with database.transaction() as db:
            for nth in range(120):
                await activity.add(
                    db,
                    actor=list(activity.ACTORS)[nth % 3],
                    actor_id=1,
                    operation=f"verb_{nth % 20}",
                    resource=f"/nouns/{nth % 40}",
                    request_id="",
                    created_at=NOW,
                )
        async with database.transaction() as db:
            for name in GROWING:
                table = LISTS[name].key.table
                columns = [column.name for column in table.c if column.name != "id"]
                values = [UNIQUE.get((name, column), column) for column in columns]
                await db.execute(
                    text(
                        "WITH RECURSIVE numbers (n) AS"
                        f" (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < {TIMES})"
                        f" INSERT INTO {table.name} ({', '.join(columns)}) SELECT {', '.join(values)}"
                        f" FROM numbers CROSS JOIN {table.name} ORDER BY n, {table.name}.id"
                    )
                )
            if database.dialect.name == "postgresql":
                await db.fetch_all(text("ANALYZE"))

    with opened(url) as (database, run):
        run(fill(database))
    return url


GROWING = ["tickets", "invoices", "services", "clients", "domains", "knowledgebase", "events", "deliveries"]
GROWING += ["tokens", "api_keys", "announcements", "activity"]


async def cost(database: Database, statement: ClauseElement, values: dict[str, Any]) -> tuple[int, str]:
    """About how many rows a statement looks at, and its plan."""
    prepared = database.compile(statement)
    if isinstance(database, SQLite):
        raw = database.writer.raw
        plan = raw.execute(f"EXPLAIN QUERY PLAN {prepared.sql}", prepared.values(values)).fetchall()
        ticks = 0

        def tick() -> None:
            nonlocal ticks
            ticks += 1

        # A row costs about ten instructions of SQLite's machine, and more where it is shown.
        raw.set_progress_handler(tick, 100)
        raw.execute("BEGIN")
        try:
            raw.execute(prepared.sql, prepared.values(values)).fetchall()
        finally:
            raw.execute("ROLLBACK")
            raw.set_progress_handler(None, 0)
        return ticks * 10, "\n".join(row[3] for row in plan)
    async with database.writers.acquire() as raw:  # type: ignore[attr-defined]  # known at run time only
        transaction = raw.transaction()
        await transaction.start()
        try:
            rows = await raw.fetch(f"EXPLAIN (ANALYZE, FORMAT JSON) {prepared.sql}", *prepared.values(values))
        finally:
            await transaction.rollback()
    plan = json.loads(rows[0][0])[0]["Plan"]
    return _looked_at(plan), json.dumps(plan, indent=1)


def _looked_at(plan: dict[str, Any]) -> int:
    inner = sum(_looked_at(each) for each in plan.get("Plans", ()))
    removed = sum(count for name, count in plan.items() if name.startswith("Rows Removed"))
    return int((plan["Actual Rows"] + removed) * plan["Actual Loops"]) + inner


class TestPlans:
    @each_case
    def test_a_page_looks_at_few_rows(self, crowded: str, name: str, names: frozenset[str]) -> None:
        each = LISTS[name]

        async def look(database: Database) -> list[Any]:
            async with database.reading() as db:
                every = await given(db, name, names)
            # Of the rows of a list there are many, of some demo values few.
            some = random.Random(7).sample(every, min(len(every), 6))
            found = []
            for values in some:
                for way, place in (
                    ("near", {"offset": 40, "limit": 21}),
                    ("far", {"offset": 40, "limit": 20}),
                    ("after", {"after": 5_000, "limit": 21}),
                ):
                    found.append((way, *await cost(database, each.statement(names, way), values | place)))
                found.append(("total", *await cost(database, each.total(names), values)))
            return found

        with opened(crowded) as (database, run):
            found = run(look(database))
            sqlite = isinstance(database, SQLite)
        assert found
        for way, rows, plan in found:
            assert rows < MOST, (way, rows, plan)
            if sqlite and "words" not in names:
                # Those of one client are few, and are sorted by their days.
                few = names.intersection(each.ranges) and names & NARROW
                assert "TEMP B-TREE" not in plan or few, (way, plan)
                # A page is the beginning or the end of the table itself, with a filter that of an index.
                scans = [line for line in plan.splitlines() if line.startswith("SCAN")]
                assert all(not names or " INDEX ix_" in line for line in scans), (way, plan)

    def test_every_filter_of_the_contract_is_one_of_these(self) -> None:
        """So that each is among the cases, which hold it to an index."""
        filters = 0
        for operation in OPERATIONS:
            parameters = [contract.deref(DOCUMENT, each) for each in operation.spec.get("parameters", ())]
            query = {each["name"] for each in parameters if each["in"] == "query"}
            if "after" not in query:
                continue
            tag = {"search_knowledgebase": "knowledgebase"}.get(operation.id)
            names = query - {"page", "limit", "after"} - ({"q"} if tag else set())
            name = tag or operation.id.removeprefix("list_")
            conditions = LISTS[name].conditions.keys() if name != "replies" else set()
            for each in names:
                wanted = STATES if (name, each) == ("invoices", "status") else {CALLED.get(each, each)}
                assert wanted <= conditions, (operation.id, each)
                filters += 1
        assert filters > 20

    def test_what_reads_a_whole_table_is_noticed(self, crowded: str) -> None:
        with opened(crowded) as (database, run):
            rows, _ = run(cost(database, select(func.max(invoices.TABLE.c.total)), {}))
        assert rows > MOST


def statements() -> Iterator[tuple[str, ClauseElement]]:
    """Every statement that stands in a module of persistence."""
    for name, module in sorted(MODULES.items()):
        for called, value in sorted(vars(module).items()):
            if called.startswith("_"):
                continue
            several = value.items() if isinstance(value, dict) else [("", value)]
            for key, each in several:
                if isinstance(each, (Select, Update, Delete, Insert)):
                    yield f"{name}.{called}{key or ''}", each


STATEMENTS = dict(statements())


async def explain(database: Any, sql: str, values: list[Any]) -> list[Any]:
    """The plan of a statement on PostgreSQL, which reads a small table as a whole where it may."""
    async with database.readers.acquire() as raw:
        await raw.execute("SET enable_seqscan = off")
        return await raw.fetch(f"EXPLAIN {sql}", *values)


def example(kind: Any) -> Any:
    """Some value of a type."""
    if isinstance(kind, search.Wanted):
        return ["a"]
    if isinstance(kind, Money):
        return Decimal(1)
    plain = getattr(kind, "impl", kind).python_type
    return {int: 5, str: "x", bool: True, date: NOW.date(), datetime: NOW, float: 1.0}[plain]


class TestStatements:
    def test_there_are_many(self) -> None:
        assert len(STATEMENTS) > 80

    # SQLite has no turns; what it shows of servers.INSERT is for services whose server comes after them.
    @pytest.mark.parametrize("name", sorted(STATEMENTS.keys() - {"listing.TURN", "servers.INSERT"}))
    def test_no_statement_reads_a_whole_table_that_grows(self, crowded: str, name: str) -> None:
        statement = STATEMENTS[name]
        with opened(crowded) as (database, run):
            compiled: Any = statement.compile(dialect=database.dialect)
            types = {called: bind.type for bind, called in compiled.bind_names.items()}
            prepared = database.compile(statement)
            empty = [each for each in prepared.names if prepared.defaults[each] is None]
            values = {each: example(types[each]) for each in empty}
            if isinstance(database, SQLite):
                explained = f"EXPLAIN QUERY PLAN {prepared.sql}"
                rows = database.writer.raw.execute(explained, prepared.values(values)).fetchall()
                found = re.findall(r"\bSCAN (\w+)$", "\n".join(row[3] for row in rows), re.MULTILINE)
            else:
                rows = run(explain(database, prepared.sql, prepared.values(values)))
                found = re.findall(r"Seq Scan on (\w+)", "\n".join(row[0] for row in rows))
            grown = {LISTS[each].key.table.name for each in GROWING}
        assert not grown.intersection(found), rows


# One row, or few rows, or texts that the contract keeps short; the last is read while nobody else may write.
SHORT_TEXTS = {
    "LIST deliveries",
    "LIST products",
    "LIST webhooks",
    "deliveries.GET",
    "delivery_queue.WAITING",
    "events.GET",
    "idempotency.GET",
    "idempotency.GET_TEXTS",
    "products.GET",
    "tickets.GET",
    "webhooks.ALL",
    "webhooks.GET",
    "delivery_queue.CLAIMED",
}


def has_long_text(query: Select[Any]) -> bool:
    """Whether a query reads a text without a bound of its own."""
    parts = [part for column in query.selected_columns for part in visitors.iterate(column)]
    return any(isinstance(part, Column) and isinstance(part.type, Text) for part in parts)


class TestSlowStatements:
    QUERIES = {name: each for name, each in STATEMENTS.items() if isinstance(each, Select)} | {
        f"LIST {name}": each.query for name, each in LISTS.items()
    }

    def test_many_long_texts_are_read_beside_the_event_loop(self) -> None:
        long = {name for name, query in self.QUERIES.items() if has_long_text(query)}
        slow = {name for name in long if CompiledStatement(self.QUERIES[name], SQLite.dialect).slow}
        assert long - slow == SHORT_TEXTS
        assert slow >= {
            "LIST knowledgebase",
            "LIST announcements",
            "LIST events",
            "tickets.GET_LATEST_REPLIES",
        }

    def searches(self) -> list[Select[Any]]:
        """Every statement that has words to look for."""
        ways: tuple[listing.Direction, ...] = ("near", "far", "after")
        listed = [LISTS[name].statement(names, way) for name, names in CASES for way in ways]
        counted = [LISTS[name].total(names) for name, names in CASES]
        every = [*STATEMENTS.values(), *listed, *counted]
        return [each for each in every if isinstance(each, Select) and self.has_words(each)]

    def has_words(self, statement: Select[Any]) -> bool:
        compiled: Any = statement.compile(dialect=SQLite.dialect)
        return any(isinstance(bind.type, search.Wanted) for bind in compiled.binds.values())

    def test_whatever_looks_for_words_has_a_time_limit(self) -> None:
        assert len(self.searches()) > 10
        assert all(CompiledStatement(each, SQLite.dialect).search for each in self.searches())

    def test_sqlite_looks_for_words_once_and_not_once_for_each_row(self, tmp_path: Path) -> None:
        url = new_database("sqlite", tmp_path, None)
        migrations.upgrade(url)
        plans = []
        with opened(url) as (database, _):
            for each in self.searches():
                prepared = database.compile(each)
                values = ["a" if name == "words" else 5 for name in prepared.names]
                explained = f"EXPLAIN QUERY PLAN {prepared.sql}"
                rows = database.reader.raw.execute(explained, values)  # type: ignore[attr-defined]  # known at run time only
                plans.append("\n".join(row[3] for row in rows))
        assert all("VIRTUAL TABLE INDEX" in plan for plan in plans)
        # What stands behind "=" is looked for again for each row.
        assert not [plan for plan in plans if re.search(r"VIRTUAL TABLE INDEX .*=", plan)]


class TestAside:
    """Of SQLite alone, whose statements run on the event loop; PostgreSQL's run elsewhere anyway."""

    @pytest.fixture
    def file(self, tmp_path: Path) -> str:
        url = new_database("sqlite", tmp_path, None)
        migrations.upgrade(url)
        with opened(url) as (database, run):
            run(demo.seed(database))
        return url

    def answered_meanwhile(self, url: str, work: Callable[[Database], Awaitable[Any]]) -> Any:
        """What ``work`` reads, which begins only once another call was answered."""
        with opened(url) as (database, run):
            assert isinstance(database, SQLite)
            answered = threading.Event()
            for each in database.aside_readers:
                # In the middle of each statement; on the event loop this would wait for itself.
                each.raw.set_progress_handler(lambda: not answered.wait(30), 1)

            async def both() -> Any:
                reading = asyncio.ensure_future(work(database))
                await asyncio.sleep(0)
                assert (await read(database, invoices.GET, id=1001, today=NOW.date()))[0].id == 1001
                assert not reading.done()
                answered.set()
                return await reading

            return run(both())

    def test_a_whole_list_that_is_long(self, file: str) -> None:
        async def work(database: Database) -> Any:
            async with database.reading() as db:
                return await tickets.page(db, client_id=None, page=1, limit=10_000, after=None)

        assert len(self.answered_meanwhile(file, work).rows) == 300

    def test_a_search(self, file: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("persistence.engines.limits.SEARCH_SECONDS", 30)

        async def work(database: Database) -> Any:
            async with database.reading() as db:
                found = await clients.page(db, email=None, q="example", page=1, limit=5, after=None)
                return found, await knowledgebase.page(
                    db, q="dns", category=None, page=1, limit=5, after=None
                )

        found, articles = self.answered_meanwhile(file, work)
        assert found.rows and articles.rows

    def test_a_page_in_the_middle_of_a_long_list(self, file: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(listing, "FAR", 100)

        async def work(database: Database) -> Any:
            async with database.reading() as db:
                return await tickets.page(db, page=8, limit=20, after=None)

        assert len(self.answered_meanwhile(file, work).rows) == 20

    def test_a_short_list_needs_no_thread(self, file: str) -> None:
        async def work(database: Database) -> int:
            async with database.reading() as db:
                return len((await tickets.page(db, client_id=42, page=1, limit=10_000, after=None)).rows)

        with opened(file) as (database, run):
            database.threads.shutdown()  # type: ignore[attr-defined]  # known at run time only
            assert run(work(database)) > 5

    def test_closing_ends_what_still_reads(self, file: str) -> None:
        endless = text(
            "WITH RECURSIVE numbers (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers)"
            " SELECT count(*) FROM numbers"
        ).execution_options(slow=True)

        async def work() -> None:
            database = connect(file)
            await database.open()
            reading = asyncio.create_task(read(database, endless))
            while not database.threads._threads:  # type: ignore[attr-defined]  # known at run time only
                await asyncio.sleep(0.01)
            await asyncio.sleep(0.05)
            await database.close()
            with pytest.raises(Unavailable):
                await reading

        asyncio.run(work())
