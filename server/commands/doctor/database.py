"""Check the database: its engine, its settings and its content."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

from sqlalchemy import BigInteger, DateTime, Select, Text, text

from persistence import clients, delivery_queue, demo, domains, identity, migrations, operators, services
from persistence.database import Connection, Row
from persistence.engines import connect
from persistence.engines.limits import MAX_SEARCHES, POOL_SIZE
from persistence.errors import StartError, Unavailable
from server.commands.doctor.findings import Finding, Findings, advise, fault, ok
from server.commands.doctor.redis import LATE, check_clock, check_latency
from server.commands.doctor.webhooks import check_secrets, check_targets
from server.process.clock import now
from server.settings import Settings


async def check_database(settings: Settings) -> Findings:
    try:
        # Reading what is pending takes a loop of its own.
        pending = await asyncio.to_thread(migrations.pending, settings.database_url)
    except StartError as error:
        yield fault("database", error)
        return
    if pending:
        yield fault("migrations", "the database lacks some", "run `python -m server migrate`")
        return
    yield ok("migrations", "none are pending")
    database = connect(settings.database_url)
    try:
        await database.open()
        async with database.reading() as db:
            if database.dialect.name == "sqlite":
                yield (finding := await check_file(db))
                if finding.level == "fault":
                    return
            else:
                async for finding in check_server(db, settings):
                    yield finding
            async for finding in check_content(db, settings):
                yield finding
    except (StartError, Unavailable) as error:
        yield fault("database", error)
    finally:
        await database.close()


NOW = text("SELECT now() AS now").columns(now=DateTime(timezone=True))
SHOW = text(
    "SELECT current_setting('server_version') AS version, current_setting('fsync') AS fsync,"
    " current_setting('full_page_writes') AS whole, current_setting('max_connections')::bigint AS most"
).columns(version=Text, fsync=Text, whole=Text, most=BigInteger)
CHECK = text("PRAGMA quick_check(1)").columns(quick_check=Text)


async def check_file(db: Connection) -> Finding:
    """Find whether the file of SQLite is sound. The content of a damaged file cannot be checked."""
    verdict = (await db.fetch_all(CHECK))[0].quick_check
    if verdict == "ok":
        return ok("database", "SQLite, and its file is sound")
    return fault("database", f"its file is damaged: {verdict}", "restore the latest backup")


async def check_server(db: Connection, settings: Settings) -> Findings:
    """Find the latency, clock, safety and connections of PostgreSQL."""
    began = time.perf_counter()
    off = (await db.fetch_all(NOW))[0].now.timestamp() - time.time()
    took = time.perf_counter() - began
    row = (await db.fetch_all(SHOW))[0]
    yield check_latency("database", f"PostgreSQL {row.version.split()[0]}", took)
    yield check_clock("the database", off)
    if row.fsync != "on" or row.whole != "on":
        yield fault(
            "database",
            "fsync or full_page_writes is off, so it may lose what it has confirmed",
            "set both to on",
        )
    needed = (2 * POOL_SIZE + MAX_SEARCHES) * settings.workers
    if needed > row.most - 3:
        wanted = f"{settings.workers} processes may want {needed} connections, and it admits {row.most}"
        yield advise("database", wanted, "raise max_connections, or have fewer workers")


async def check_content(db: Connection, settings: Settings) -> Findings:
    if await demo.present(db):
        if settings.production:
            yield fault(
                "data", "there is demo data, whose credentials everybody knows", "use an empty database"
            )
        else:
            yield ok("data", "demo data")
    if not await operators.all_operators(db):
        advice = "run `python -m server operator create --name …`"
        yield advise("panel", "there is no operator, so nobody can sign in", advice)
    async for finding in check_names(db):
        yield finding
    async for finding in check_secrets(db, settings):
        yield finding
    due, oldest = await delivery_queue.backlog(db, now())
    if oldest > LATE:
        advice = "run `python -m server worker`, or set CLOUDARC_WEBHOOK_WORKER=inline"
        yield fault("webhooks", f"{due} deliveries are due, the oldest for {oldest:.0f} s", advice)
    else:
        yield ok("webhooks", f"{due} deliveries are due")
    async for finding in check_targets(db, settings):
        yield finding


MOST_LISTED = 20
"""The rows of each kind that are listed one by one."""

Advice = tuple[str, str]
"""What is seen, and what to do."""


async def check_names(db: Connection) -> Findings:
    """Find what older versions accepted: invalid names, and names of two rows. Nothing was merged."""
    found = [
        *await _list(db, "clients", clients.WITHOUT_KEY, _advise_on_email),
        *await _list(db, "domains", domains.CLASHING, _advise_on_domain),
        *await _list(db, "services", services.CLASHING, _advise_on_service),
    ]
    for row in await operators.all_operators(db):
        if row.name != identity.operator_name(row.name):
            text = f"operator {row.name!a} cannot sign in, since another has the name without its blanks"
            advice = "make a new one with `python -m server operator create --name …`"
            found.append(advise("operators", text, advice))
    for finding in found or [ok("names", "no address, domain or username is there twice")]:
        yield finding


async def _list(
    db: Connection,
    subject: str,
    query: Select[Any],
    advise_on: Callable[[Connection, Row], Awaitable[Advice]],
) -> list[Finding]:
    """Return advice on each of the first rows of a query."""
    rows = await db.fetch_all(query, limit=MOST_LISTED + 1)
    found = [advise(subject, *await advise_on(db, row)) for row in rows[:MOST_LISTED]]
    if len(rows) > MOST_LISTED:
        found.append(advise(subject, f"there are more than {MOST_LISTED} of these", "correct those first"))
    return found


async def _advise_on_email(db: Connection, row: Row) -> Advice:
    key = identity.email_key(row.email)
    if key is None:
        return f"the email of client {row.id} is not an address", "set the email to one"
    other = await db.fetch_one(clients.BY_KEY, email_key=key)
    if other is None:
        return f"client {row.id} is not found by its email", "set the email to what it is"
    return (
        f"clients {other.id} and {row.id} have one email address in two spellings",
        f"change the email of one; until then no look-up by email finds client {row.id}",
    )


async def _advise_on_domain(_: Connection, row: Row) -> Advice:
    text = f"domain {row.id} ({row.domain!a}) has the name of an earlier record that is not cancelled"
    return text, "cancel or delete one of them"


async def _advise_on_service(_: Connection, row: Row) -> Advice:
    text = (
        f"service {row.id} has the domain ({row.domain!a}) of an earlier service, or the username"
        f" ({row.username!a}) of one on server {row.server_id}"
    )
    return text, "terminate one of them"
