"""Webhooks under kills and load: nothing is lost, nothing forged, hardly anything sent twice."""

import asyncio
import json
import random
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp
import psutil

from tests.soak.processes import ADMIN, Log, Process, Received, receiver, server, settings, until, workers
from webhooks import signing
from webhooks.delivery import AT_ONCE

TICKET = {
    "client_id": 42,
    "department_id": 1,
    "subject": "Soak",
    "message": 'Ünïcode / slash \\ quote " and a line\nbreak',
}


@dataclass(frozen=True)
class Figure:
    """One figure that was measured, and whether it is as promised."""

    name: str
    value: str
    holds: bool

    def __str__(self) -> str:
        return f"{'holds' if self.holds else 'FAILS':<6} {self.name:<58} {self.value}"


class Caller:
    """Calls the API as the operator; what is acknowledged is remembered."""

    def __init__(self, base: str, http: aiohttp.ClientSession) -> None:
        self.base = base
        self.http = http
        # The ids of tickets, and when the answer came.
        self.opened: dict[int, float] = {}

    async def call(self, method: str, path: str, body: Any = None) -> Any:
        """The ``data`` of an answer that must be 2xx."""
        async with self.http.request(method, self.base + path, json=body) as response:
            content = await response.json()
            assert response.status < 300, (response.status, content)
            return content["data"]

    async def open_tickets(self, number: int, at_once: int = 8, rate: float = 0) -> None:
        """Open tickets, at most ``rate`` a second."""
        left, begun = iter(range(number)), time.monotonic()

        async def work() -> None:
            for nth in left:
                if rate:
                    await asyncio.sleep(max(0.0, begun + nth / rate - time.monotonic()))
                ticket = await self.call("POST", "/tickets", TICKET)
                self.opened[ticket["id"]] = time.time()

        await asyncio.gather(*[work() for _ in range(at_once)])

    async def webhook(self, url: str, *events: str) -> Any:
        """A new webhook, with its secret."""
        return await self.call("POST", "/webhooks", {"url": url, "events": list(events)})


@asynccontextmanager
async def calling(base: str) -> AsyncIterator[Caller]:
    headers = {"Authorization": f"Bearer {ADMIN}"}
    async with aiohttp.ClientSession(headers=headers, timeout=aiohttp.ClientTimeout(60)) as http:
        yield Caller(base, http)


def judge(received: list[Received], secret: str, opened: dict[int, float], kills: int) -> list[Figure]:
    """The invariants: all acknowledged tickets are told, each message verifies, few come twice."""
    key = signing.key_of(secret)
    told = Counter(each.id for each in received)
    tickets = {json.loads(each.body)["data"]["id"] for each in received}
    forged = [
        each
        for each in received
        if not signing.verify_body(key, each.body)
        or not signing.verify_headers(key, each.headers, each.body, each.at)
    ]
    lost = opened.keys() - tickets
    twice = sum(told.values()) - len(told)
    return [
        Figure("acknowledged changes that were not told", str(len(lost)), not lost),
        Figure(
            "events told of a change that is not there",
            str(len(told) - len(tickets)),
            len(told) == len(tickets),
        ),
        Figure("deliveries that do not verify", f"{len(forged)} of {len(received)}", not forged),
        Figure(
            f"told twice, at most {AT_ONCE} for each of {kills} kills", str(twice), twice <= AT_ONCE * kills
        ),
    ]


async def survive_kills(
    folder: Path, database_url: str, *, events: int, kills: int, number: int = 3
) -> list[Figure]:
    """Open tickets while workers are killed with SIGKILL and started again."""
    environment = settings(folder, database_url)
    with (
        receiver(folder) as (target, log),
        server(folder, environment) as (_, base),
        workers(folder, environment, number) as running,
    ):
        async with calling(base) as caller:
            webhook = await caller.webhook(f"{target}/ok", "ticket.opened")
            opening = asyncio.create_task(caller.open_tickets(events))
            chance = random.Random(1)  # A run can be repeated.
            for nth in range(kills):
                # Spread over the run; a worker is hit while it has deliveries in the air.
                mark = events * (nth + 1) // (kills + 1)
                while len(caller.opened) < mark and not opening.done():
                    await asyncio.sleep(0.005)
                victim = running[nth % number]
                await asyncio.sleep(chance.random() * 0.2)
                victim.kill()
                victim.start()
            await opening
            # A killed worker's claims run out after a minute.
            await asyncio.to_thread(
                until,
                lambda: len({each.id for each in log.read()}) >= len(caller.opened),
                120,
                "deliveries",
            )
            await asyncio.sleep(1)
            return judge(log.read(), webhook["secret"], caller.opened, kills)


async def survive_the_servers_end(folder: Path, database_url: str, *, events: int) -> list[Figure]:
    """The server is killed right after it acknowledged; another process tells of it."""
    environment = settings(folder, database_url)
    with receiver(folder) as (target, log):
        with server(folder, environment) as (process, base):
            async with calling(base) as caller:
                webhook = await caller.webhook(f"{target}/ok", "ticket.opened")
                await caller.open_tickets(events, at_once=1)
                process.kill()
        with workers(folder, environment, 1):
            until(lambda: len(log.read()) >= events, 60, "deliveries")
        return judge(log.read(), webhook["secret"], caller.opened, 0)


async def be_quick(folder: Path, database_url: str, *, seconds: float) -> list[Figure]:
    """50 events a second; from the answer, which follows the commit, to the receiver."""
    environment = settings(folder, database_url)
    with (
        receiver(folder) as (target, log),
        server(folder, environment) as (_, base),
        workers(folder, environment, 1),
    ):
        async with calling(base) as caller:
            await caller.webhook(f"{target}/ok", "ticket.opened")
            await caller.open_tickets(int(50 * seconds), rate=50)
            await asyncio.to_thread(until, lambda: len(log.read()) >= 50 * seconds, 30, "deliveries")
        waits = sorted(each.at - caller.opened[json.loads(each.body)["data"]["id"]] for each in log.received)
    p50, p95 = (1000 * waits[int(len(waits) * share)] for share in (0.5, 0.95))
    return [
        Figure("commit to send at 50 events/s, p95 ≤ 250 ms", f"{p95:.0f} ms (p50 {p50:.0f} ms)", p95 <= 250)
    ]


async def delay_nobody(folder: Path, database_url: str, *, events: int) -> list[Figure]:
    """One endpoint hangs with thousands of events due; a healthy one must not notice."""
    environment = settings(folder, database_url)
    with receiver(folder) as (target, log), server(folder, environment) as (_, base):
        async with calling(base) as caller:
            await caller.webhook(f"{target}/hang", "ticket.opened")
            await caller.open_tickets(events)
            with workers(folder, environment, 1):
                until(lambda: len(log.read()) >= AT_ONCE, 30, "hanging deliveries")
                await caller.webhook(f"{target}/ok", "client.created")
                waits = []
                for nth in range(20):
                    begun = time.time()
                    await caller.call("POST", "/clients", _client(nth))
                    arrived = await asyncio.to_thread(until, partial(_healthy, log, nth + 1), 30, "healthy")
                    waits.append(arrived - begun)
    worst = max(waits)
    return [
        Figure(
            f"a healthy endpoint beside one that hangs with {events:,} due, < 2 s",
            f"{worst * 1000:.0f} ms",
            worst < 2,
        )
    ]


def _healthy(log: Log, number: int) -> float | None:
    arrived = [each.at for each in log.read() if each.path == "/ok"]
    return arrived[number - 1] if len(arrived) >= number else None


def _client(nth: int) -> dict[str, str]:
    return {
        "first_name": "Soak",
        "last_name": "Client",
        "email": f"soak-{nth}-{time.time_ns()}@example.com",
        "password": "long enough",
    }


async def end_bad_answers(folder: Path, database_url: str) -> list[Figure]:
    """Answers that drip, never end or explode end with the deadline, and cost no memory."""
    environment = settings(folder, database_url)
    bad = ("drip", "endless", "bomb", "reset", "fail")
    with (
        receiver(folder) as (target, _),
        server(folder, environment) as (_, base),
        workers(folder, environment, 1) as (worker,),
    ):
        async with calling(base) as caller:
            hooks = [await caller.webhook(f"{target}/{kind}", "ticket.opened") for kind in bad]
            before = psutil.Process(worker.pid).memory_info().rss
            await caller.open_tickets(5)
            peak, done = before, False
            deadline = time.monotonic() + 30
            while not done and time.monotonic() < deadline:
                peak = max(peak, psutil.Process(worker.pid).memory_info().rss)
                rows = [await caller.call("GET", f"/webhooks/{each['id']}/deliveries") for each in hooks]
                done = all(row["attempts"] for page in rows for row in page)
                await asyncio.sleep(0.1)
            longest = max(attempt["ms"] for page in rows for row in page for attempt in row["attempts"])
            delivered = sum(row["status"] == "delivered" for page in rows[:1] + rows[3:] for row in page)
    grown = peak / before
    return [
        Figure("drip, endless, gzip bomb: over within 15 s", f"{longest} ms", done and longest <= 15_500),
        Figure("memory of the worker meanwhile, ≤ 1.5 ×", f"{grown:.2f} ×", grown <= 1.5),
        Figure("deliveries to drip, reset, fail that count as taken", str(delivered), delivered == 0),
    ]


async def cost_little(folder: Path, database_url: str, *, events: int) -> list[Figure]:
    """CPU of a worker for a delivery, against a bare POST of the same body by the same library."""
    environment = settings(folder, database_url)
    with receiver(folder) as (target, log), server(folder, environment) as (_, base):
        async with calling(base) as caller:
            await caller.webhook(f"{target}/ok", "ticket.opened")
            await caller.open_tickets(events)
            with workers(folder, environment, 1) as (worker,):
                before = _cpu(worker)
                until(lambda: len(log.read()) >= events, 300, "deliveries")
                time.sleep(1)
                spent = (_cpu(worker) - before) / events
            body = log.received[0].body
        posting = Process(folder, "post", ["tests.soak.post", f"{target}/bare", str(events)], environment)
        body_file = folder / "body"
        body_file.write_bytes(body)
        posting.command.append(str(body_file))
        posting.start()
        bare = float(posting.said(r"CPU (\S+) s", 120)) / events
    return [
        Figure(
            "CPU for a delivery, ≤ 4 × a bare aiohttp POST of it",
            f"{spent / bare:.2f} × ({spent * 1e6:.0f} against {bare * 1e6:.0f} µs)",
            spent <= 4 * bare,
        )
    ]


def _cpu(process: Process) -> float:
    times = psutil.Process(process.pid).cpu_times()
    return float(times.user + times.system)
