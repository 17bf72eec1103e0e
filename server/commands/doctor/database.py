"""Check the database: its engine, its settings and its content."""

import asyncio
import time

from sqlalchemy import BigInteger, DateTime, Text, text

from persistence import (
    clients,
    delivery_queue,
    demo,
    domains,
    identity,
    migrations,
    operators,
    services,
)
from persistence.database import Connection, Database
from persistence.engines import connect
from persistence.engines.limits import MAX_SEARCHES, POOL_SIZE
from persistence.errors import StartError, Unavailable
from server.commands.doctor.findings import Finding, Findings
from server.commands.doctor.redis import LATE, check_clock, check_latency
from server.commands.doctor.webhooks import check_secrets, check_targets
from server.process.clock import now
from server.settings import Settings

# --- the database ------------------------------------------------------------------------------------


async def check_database(settings: Settings) -> Findings:
    try:
        # Reading what is pending takes a loop of its own.
        pending = await asyncio.to_thread(migrations.pending, settings.database_url)
    except StartError as error:
        yield Finding("fault", "database", str(error).rstrip("."))
        return
    if pending:
        yield Finding("fault", "migrations", "the database lacks some", "run `python -m server migrate`")
        return
    yield Finding("ok", "migrations", "none are pending")
    database = connect(settings.database_url)
    try:
        await database.open()
        async with database.reading() as db:
            damaged = False
            async for finding in check_engine(db, database, settings):
                yield finding
                damaged |= finding.advice == RESTORE
            if damaged:
                return
            async for finding in check_content(db, settings):
                yield finding
    except (StartError, Unavailable) as error:
        yield Finding("fault", "database", str(error).rstrip("."))
    finally:
        await database.close()


RESTORE = "restore the latest backup"

NOW = text("SELECT now() AS now").columns(now=DateTime(timezone=True))
SHOW = text(
    "SELECT current_setting('server_version') AS version, current_setting('fsync') AS fsync,"
    " current_setting('full_page_writes') AS whole, current_setting('max_connections')::bigint AS most"
).columns(version=Text, fsync=Text, whole=Text, most=BigInteger)
CHECK = text("PRAGMA quick_check(1)").columns(quick_check=Text)


async def check_engine(db: Connection, database: Database, settings: Settings) -> Findings:
    if database.dialect.name == "sqlite":
        verdict = (await db.fetch_all(CHECK))[0].quick_check
        if verdict == "ok":
            yield Finding("ok", "database", "SQLite, and its file is sound")
        else:
            yield Finding("fault", "database", f"its file is damaged: {verdict}", RESTORE)
        return
    began = time.perf_counter()
    off = (await db.fetch_all(NOW))[0].now.timestamp() - time.time()
    took = time.perf_counter() - began
    row = (await db.fetch_all(SHOW))[0]
    yield check_latency("database", f"PostgreSQL {row.version.split()[0]}", took)
    yield check_clock("the database", off)
    if row.fsync != "on" or row.whole != "on":
        yield Finding(
            "fault",
            "database",
            "it may lose what it has confirmed, for fsync or full_page_writes is off",
            "set both to on",
        )
    needed = (2 * POOL_SIZE + MAX_SEARCHES) * settings.workers
    if needed > row.most - 3:
        yield Finding(
            "advice",
            "database",
            f"{settings.workers} processes may want {needed} connections, and it admits {row.most}",
            "raise max_connections, or have fewer workers",
        )


async def check_content(db: Connection, settings: Settings) -> Findings:
    if await demo.present(db):
        if settings.production:
            yield Finding(
                "fault",
                "data",
                "there is demo data, whose credentials everybody knows",
                "use an empty database",
            )
        else:
            yield Finding("ok", "data", "demo data")
    if not await operators.all_operators(db):
        yield Finding(
            "advice",
            "panel",
            "there is no operator, so nobody can sign in",
            "run `python -m server operator create --name …`",
        )
    async for finding in check_names(db):
        yield finding
    async for finding in check_secrets(db, settings):
        yield finding
    due, oldest = await delivery_queue.backlog(db, now())
    if oldest > LATE:
        yield Finding(
            "fault",
            "webhooks",
            f"{due} deliveries are due, the oldest for {oldest:.0f} s",
            "run `python -m server worker`, or set CLOUDARC_WEBHOOK_WORKER=inline",
        )
    else:
        yield Finding("ok", "webhooks", f"{due} deliveries are due")
    async for finding in check_targets(db, settings):
        yield finding


MOST_LISTED = 20
"""How many rows of each kind are listed one by one."""


async def check_names(db: Connection) -> Findings:
    """What older versions let in: names that are none, or that two rows have. Nothing was merged."""
    found: list[Finding] = []

    def advise(subject: str, text: str, advice: str) -> None:
        found.append(Finding("advice", subject, text, advice))

    for row in (without := await db.fetch_all(clients.WITHOUT_KEY, limit=MOST_LISTED + 1))[:MOST_LISTED]:
        key = identity.email_key(row.email)
        other = await db.fetch_one(clients.BY_KEY, email_key=key) if key else None
        if other is not None:
            advise(
                "clients",
                f"clients {other.id} and {row.id} have one email address in two spellings",
                f"change the email of one; until then no look-up by email finds client {row.id}",
            )
        elif key is not None:
            advise("clients", f"client {row.id} is not found by its email", "set the email to what it is")
        else:
            advise("clients", f"the email of client {row.id} is not an address", "set the email to one")
    for row in (twice := await db.fetch_all(domains.CLASHING, limit=MOST_LISTED + 1))[:MOST_LISTED]:
        advise(
            "domains",
            f"domain {row.id} ({row.domain!a}) has the name of an earlier record that is not cancelled",
            "cancel or delete one of them",
        )
    for row in (same := await db.fetch_all(services.CLASHING, limit=MOST_LISTED + 1))[:MOST_LISTED]:
        advise(
            "services",
            f"service {row.id} has the domain ({row.domain!a}) of an earlier service, or the username"
            f" ({row.username!a}) of one on server {row.server_id}",
            "terminate one of them",
        )
    for subject, rows in (("clients", without), ("domains", twice), ("services", same)):
        if len(rows) > MOST_LISTED:
            advise(subject, f"there are more than {MOST_LISTED} of these", "correct those first")
    for row in await operators.all_operators(db):
        if row.name != identity.operator_name(row.name):
            advise(
                "operators",
                f"operator {row.name!a} cannot sign in, since another has the name without its blanks",
                "make a new one with `python -m server operator create --name …`",
            )
    for finding in found:
        yield finding
    if not found:
        yield Finding("ok", "names", "no address, domain or username is there twice")
