"""``doctor``: looks at all that an installation stands on, and says of each thing that is wrong what to do.

It changes nothing, sends no event, and needs no server that runs. What it finds is for a person who has a
terminal on the machine; what an orchestrator asks is ``/readyz``.
"""

import argparse
import asyncio
import shutil
import socket
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from redis.asyncio import Redis
from redis.exceptions import RedisError
from sqlalchemy import BigInteger, DateTime, Text, text
from yarl import URL

from persistence import (
    clients,
    deliveries,
    demo,
    domains,
    identity,
    migrations,
    operators,
    services,
    webhooks,
)
from persistence.database import Connection, Database
from persistence.engines import connect
from persistence.engines.limits import MAX_SEARCHES, POOL_SIZE
from persistence.errors import StartError, Unavailable
from persistence.sealing import Box, Unsealable
from server.process import embedded_valkey
from server.process.clock import now
from server.settings import SettingError, Settings, prepare_data_dir, secret_key
from webhooks import targets

Level = Literal["ok", "advice", "fault"]

MIB = 1024 * 1024
LEAST_DISK, LITTLE_DISK = 100 * MIB, 1024 * MIB
MOST_OFF = 2.0
"""Seconds by which clocks may differ: an expiry or a signature of a webhook is a matter of minutes."""

SLOW = 0.02
"""Seconds for one answer of a database or Redis: each call waits for several of them."""

LATE = 300
"""Seconds for which a delivery may be due before somebody should look whether there is a worker."""

CALL_SECONDS = 5
MOST_TARGETS = 20


@dataclass(frozen=True)
class Finding:
    """One line: how bad it is, of what, what was seen, and what to do about it."""

    level: Level
    subject: str
    text: str
    advice: str = ""


Findings = AsyncIterator[Finding]


async def examine(settings: Settings) -> Findings:
    """All findings, each as soon as it is known. Never raises for what it examines."""
    for finding in _settings(settings):
        yield finding
    for finding in _disk(settings):
        yield finding
    async for finding in _redis(settings):
        yield finding
    async for finding in _database(settings):
        yield finding
    yield _port(settings)
    for finding in _memory():
        yield finding


# --- what this machine has ---------------------------------------------------------------------------


def _settings(settings: Settings) -> list[Finding]:
    found = [Finding("ok", "settings", f"valid, for {settings.environment}")]

    def advise(text: str, advice: str) -> None:
        found.append(Finding("advice", "settings", text, advice))

    if not settings.production and settings.host not in ("127.0.0.1", "::1", "localhost"):
        advise(
            f"a development server listens on {settings.host}",
            "set CLOUDARC_ENVIRONMENT=production where others can reach it",
        )
    if settings.production and settings.database_url.startswith("sqlite:"):
        advise(
            "SQLite serves one process on one machine", "set CLOUDARC_DATABASE_URL to PostgreSQL to have more"
        )
    if settings.production and not settings.redis_url:
        advise(
            "calls are counted in a Valkey of this process alone",
            "set CLOUDARC_REDIS_URL where more processes than one serve",
        )
    if settings.production and not settings.trusted_proxies:
        advise(
            "no proxy is trusted, so behind one all callers without a credential share one limit",
            "set CLOUDARC_TRUSTED_PROXIES to the addresses of the proxies, if there are any",
        )
    for name in ("client", "admin", "anonymous"):
        if getattr(settings, f"rate_limit_{name}") == 0:
            advise(f"there is no limit for {name} calls", f"set CLOUDARC_RATE_LIMIT_{name.upper()} above 0")
    return found


def _disk(settings: Settings) -> list[Finding]:
    try:
        path = prepare_data_dir(settings)
        free = shutil.disk_usage(path).free
    except SettingError as error:
        return [Finding("fault", "disk", str(error).rstrip("."))]
    except OSError as error:
        return [Finding("fault", "disk", f"{settings.data_dir} cannot be measured ({error.strerror})")]
    found = []
    mode = path.stat().st_mode & 0o077
    if mode:
        found.append(
            Finding("advice", "disk", f"others on this machine may enter {path}", f"chmod 700 {path}")
        )
    text = f"{free // MIB} MiB free below {path}"
    if free < LEAST_DISK:
        found.append(Finding("fault", "disk", text, "make room; writes fail when there is none"))
    elif free < LITTLE_DISK:
        found.append(Finding("advice", "disk", text, "make room, or `purge` what is old"))
    else:
        found.append(Finding("ok", "disk", text))
    return found


def _port(settings: Settings) -> Finding:
    """A port is free, or it is ours."""
    try:
        family, kind, _, _, address = socket.getaddrinfo(
            settings.host, settings.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        with socket.socket(family, kind) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as error:
        if _answers(settings.host, settings.port):
            return Finding("ok", "port", f"a server answers on {settings.host}:{settings.port}")
        return Finding(
            "fault",
            "port",
            f"{settings.host}:{settings.port} cannot be listened on ({error.strerror})",
            "end what uses it, or set CLOUDARC_PORT",
        )
    return Finding("ok", "port", f"{settings.host}:{settings.port} is free; no server runs there")


def _answers(host: str, port: int) -> bool:
    """Whether what listens there is one of our servers."""
    place = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104  a place to connect to
    try:
        with socket.create_connection((place, port), timeout=2) as caller:
            caller.sendall(f"GET /healthz HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
            return b'"status"' in caller.makefile("rb").read(4096)
    except OSError:
        return False


def _memory() -> list[Finding]:
    """Linux says how much may still be taken; other systems are not asked."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        available = next(int(each.split()[1]) // 1024 for each in lines if each.startswith("MemAvailable"))
    except (OSError, StopIteration, ValueError):
        return []
    text = f"{available} MiB available"
    if available < 256:
        return [
            Finding("advice", "memory", text, "a process takes about 120 MiB; have fewer, or more memory")
        ]
    return [Finding("ok", "memory", text)]


# --- Redis -------------------------------------------------------------------------------------------


async def _redis(settings: Settings) -> Findings:
    if not settings.redis_url:
        try:
            yield Finding("ok", "redis", f"embedded Valkey ({Path(embedded_valkey.program()).name})")
        except StartError as error:
            yield Finding("fault", "redis", str(error).rstrip("."))
        return
    client = Redis.from_url(
        settings.redis_url, socket_timeout=CALL_SECONDS, socket_connect_timeout=CALL_SECONDS
    )
    try:
        # The first call also connects.
        await client.ping()
        began = time.perf_counter()
        seconds, micros = await client.time()
        took = time.perf_counter() - began
        server, memory = await client.info("server"), await client.info("memory")
    except (RedisError, OSError, TimeoutError) as error:
        yield Finding(
            "fault",
            "redis",
            f"it does not answer ({str(error).splitlines()[0] if str(error) else type(error).__name__})",
            "start it, or correct CLOUDARC_REDIS_URL; until then each process counts for itself",
        )
        return
    finally:
        await client.aclose()
    yield _latency("redis", f"Redis {server.get('valkey_version') or server['redis_version']}", took)
    yield _clock("redis", seconds + micros / 1_000_000 - time.time())
    policy = str(memory.get("maxmemory_policy", "noeviction"))
    if memory.get("maxmemory") and policy != "noeviction" and not policy.startswith("volatile-"):
        yield Finding(
            "advice",
            "redis",
            f"when its memory is full it may forget counters ({policy})",
            "set maxmemory-policy to volatile-ttl or noeviction",
        )


def _latency(subject: str, what: str, took: float) -> Finding:
    text = f"{what} answers in {took * 1000:.1f} ms"
    if took > SLOW:
        return Finding("advice", subject, text, "have it nearer; each call waits for several answers")
    return Finding("ok", subject, text)


def _clock(subject: str, off: float) -> Finding:
    if abs(off) > MOST_OFF:
        return Finding(
            "fault",
            "clock",
            f"the clock of this machine and that of {subject} differ by {abs(off):.0f} s",
            "let NTP set both",
        )
    return Finding("ok", "clock", f"as that of {subject}")


# --- the database ------------------------------------------------------------------------------------


async def _database(settings: Settings) -> Findings:
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
            async for finding in _engine(db, database, settings):
                yield finding
            async for finding in _content(db, settings):
                yield finding
    except (StartError, Unavailable) as error:
        yield Finding("fault", "database", str(error).rstrip("."))
    finally:
        await database.close()


NOW = text("SELECT now() AS now").columns(now=DateTime(timezone=True))
SHOW = text(
    "SELECT current_setting('server_version') AS version, current_setting('fsync') AS fsync,"
    " current_setting('full_page_writes') AS whole, current_setting('max_connections')::bigint AS most"
).columns(version=Text, fsync=Text, whole=Text, most=BigInteger)
CHECK = text("PRAGMA quick_check(1)").columns(quick_check=Text)


async def _engine(db: Connection, database: Database, settings: Settings) -> Findings:
    if database.dialect.name == "sqlite":
        verdict = (await db.fetch_all(CHECK))[0].quick_check
        if verdict == "ok":
            yield Finding("ok", "database", "SQLite, and its file is sound")
        else:
            yield Finding("fault", "database", f"its file is damaged: {verdict}", "restore the latest backup")
        return
    began = time.perf_counter()
    off = (await db.fetch_all(NOW))[0].now.timestamp() - time.time()
    took = time.perf_counter() - began
    row = (await db.fetch_all(SHOW))[0]
    yield _latency("database", f"PostgreSQL {row.version.split()[0]}", took)
    yield _clock("the database", off)
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


async def _content(db: Connection, settings: Settings) -> Findings:
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
    async for finding in _names(db):
        yield finding
    async for finding in _secrets(db, settings):
        yield finding
    due, oldest = await deliveries.backlog(db, now())
    if oldest > LATE:
        yield Finding(
            "fault",
            "webhooks",
            f"{due} deliveries are due, the oldest for {oldest:.0f} s",
            "run `python -m server worker`, or set CLOUDARC_WEBHOOK_WORKER=inline",
        )
    else:
        yield Finding("ok", "webhooks", f"{due} deliveries are due")
    async for finding in _targets(db, settings):
        yield finding


MOST_LISTED = 20
"""How many rows of each kind are listed one by one."""


async def _names(db: Connection) -> Findings:
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


async def _secrets(db: Connection, settings: Settings) -> Findings:
    """Whether the secret key opens what was sealed."""
    try:
        box = Box(secret_key(settings), settings.other_secret_key)
    except SettingError as error:
        yield Finding("fault", "secret key", str(error).rstrip("."))
        return
    closed = outdated = 0
    for row in await webhooks.all_webhooks(db):
        for sealed in filter(None, (row.secret, row.old_secret)):
            try:
                box.open(sealed, webhooks.context(row.id))
                outdated += not box.is_current(sealed)
            except Unsealable:
                closed += 1
    if closed:
        yield Finding(
            "fault",
            "secret key",
            f"{closed} secrets of webhooks were sealed with another one",
            "set CLOUDARC_SECRET_KEY to the one they were made with, or rotate these secrets",
        )
    elif outdated:
        yield Finding(
            "advice",
            "secret key",
            f"{outdated} secrets of webhooks are sealed with CLOUDARC_OTHER_SECRET_KEY",
            "run `python -m server reseal`, and remove that setting three days later",
        )
    else:
        yield Finding("ok", "secret key", "it opens all that is sealed")


async def _targets(db: Connection, settings: Settings) -> Findings:
    """Whether the hosts of webhooks can be connected to from here; nothing is sent to them."""
    private = settings.webhook_private_targets == "on"
    active = [row for row in await webhooks.all_webhooks(db) if row.active][:MOST_TARGETS]
    texts = await asyncio.gather(*[_reach(row.url, private=private) for row in active])
    for row, why in zip(active, texts, strict=True):
        host = URL(row.url).host
        if why:
            yield Finding(
                "advice", "webhooks", f"{host} of webhook {row.id} cannot be reached ({why})", "ask its owner"
            )
        else:
            yield Finding("ok", "webhooks", f"{host} of webhook {row.id} can be reached")


async def _reach(url: str, *, private: bool) -> str:
    """Why a host is not reached; empty where it is."""
    try:
        async with asyncio.timeout(CALL_SECONDS):
            await targets.check_resolves_public(url, private=private)
            place = URL(url)
            _, writer = await asyncio.open_connection(place.raw_host, place.port)
            writer.close()
    except targets.Refused as error:
        return str(error).rstrip(".")
    except TimeoutError:
        return f"no answer within {CALL_SECONDS} s"
    except (OSError, UnicodeError) as error:
        return getattr(error, "strerror", None) or "its name is not known"
    return ""


# --- the report --------------------------------------------------------------------------------------


def doctor(settings: Settings, options: argparse.Namespace) -> int:
    """Print all findings, a line each; the exit status is 1 where there is a fault."""
    return 1 if asyncio.run(_report(settings)) else 0


async def _report(settings: Settings) -> int:
    levels: list[Level] = []
    async for each in examine(settings):
        levels.append(each.level)
        advice = f": {each.advice}" if each.advice else ""
        print(f"{each.level:7} {each.subject:11} {each.text}{advice}", flush=True)
    faults, advices = levels.count("fault"), levels.count("advice")
    found = [f"{faults} fault{'s' * (faults != 1)}", f"{advices} piece{'s' * (advices != 1)} of advice"]
    print(", ".join(found) if faults or advices else "all is well")
    return faults
