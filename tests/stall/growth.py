"""What memory and disk grow by while one kind of hostile call is repeated.

After a warm-up ``n`` calls are made and then ``n`` more, each different from all others. The second half must
not grow by more than the first and 10 %, and both by no more than a factor of the bytes that were sent.
"""

import asyncio
import json
import sqlite3
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from random import Random
from string import ascii_letters

import asyncpg
from sqlalchemy import insert

from handlers.webhooks import SHOWN_ATTEMPTS
from panel.sessions import COOKIE
from persistence import demo
from persistence.database import Database
from persistence.deliveries import Attempt
from tests.soak.webhooks import Figure
from tests.stall import data
from tests.stall.measuring import ANSWER_SECONDS, Target, serving

MEMORY_NOISE = 4 * 2**20
"""How many bytes resident memory may differ by where nothing is kept: Python's arenas have 1 MiB, the heap of
each thread grows in pieces, and each of SQLite's connections caches pages of 2 MB."""

DISK_NOISE = 2**19
"""How many bytes a database may differ by: pages have 4 or 8 KiB, and each table and index has free ones."""

AT_ONCE = 4

HALF = 5_000

WARM = 20
"""As few as possible: a cache that is full before the first measurement would not be seen to grow."""

LONG = "".join(Random(1).choices(ascii_letters, k=80_000))
"""A text that no database can compress."""

WORDS = " ".join(LONG[begin : begin + 7] for begin in range(0, len(LONG), 8))


@dataclass(frozen=True)
class Call:
    """One request."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes = b""

    @property
    def size(self) -> int:
        """How many bytes it has, with its first line."""
        lines = {**self.headers, self.method: f"{self.path} HTTP/1.1", "Host": "127.0.0.1"}
        return sum(len(name) + len(value) + 4 for name, value in lines.items()) + len(self.body)


@dataclass(frozen=True)
class Kind:
    """One kind of hostile call: ``make`` gives the nth.

    ``memory`` is how many bytes a call may leave in memory; most leave nothing. ``disk`` is how many bytes
    the database may keep of each byte that was sent, and ``row`` how many of each call, however small.
    ``half`` is how many calls a half has.
    """

    make: Callable[[int], Call]
    statuses: frozenset[int]
    memory: int = 0
    disk: float = 0
    row: int = 0
    half: int = HALF


ADMIN = {"Authorization": f"Bearer {demo.ADMIN_KEY}"}
CLIENT = {"Authorization": f"Bearer {demo.CLIENT_TOKEN}"}
JSON = {"Content-Type": "application/json"}
KEPT_ROW = 6_000
"""How many bytes a call may keep, however small. One that changes something leaves a row of activity, perhaps
rows of an event and a key, and new versions of the rows that it changed, each with its indexes."""

COUNTED = 1_100
"""How many bytes the process keeps of an address whose calls it counts, of the last 10,000 at most."""

REFUSED = frozenset({400, 401, 403, 404, 412, 414, 422, 431})
DONE = frozenset({200, 201})

RESENT = 2
"""A delivery of webhook 1. No attempt at it succeeds."""

RESEND = f"/api/v1/webhooks/1/deliveries/{RESENT}/resend"

FIELDS = ("first_name", "last_name", "phone", "company", "address1", "city", "state", "postcode", "country")
THREAD = 16
"""A ticket of client 42 that is given long replies before the calls are counted."""


def _address(nth: int) -> str:
    return f"10.{nth >> 16 & 255}.{nth >> 8 & 255}.{nth & 255}"


def _reply(ticket: int, message: str) -> Callable[[int], Call]:
    def make(nth: int) -> Call:
        body = json.dumps({"message": f"{nth} {message}"}).encode()
        key = _key(f"reply-{ticket}-{len(message)}", nth)
        return Call("POST", f"/api/v1/tickets/{ticket}/reply", CLIENT | JSON | key, body)

    return make


def _key(name: str, nth: int) -> dict[str, str]:
    return {"Idempotency-Key": f"{name}-{nth}".rjust(255, "k")}


def _close_or_reopen(nth: int) -> Call:
    if nth % 2:
        return Call("POST", f"/api/v1/tickets/{THREAD}/close", CLIENT | _key("close", nth))
    return _reply(THREAD, "again")(nth)


def _subset(nth: int) -> Call:
    """A change of other members each time; there are 511 sets of nine."""
    chosen = [name for place, name in enumerate(FIELDS) if (nth % 511 + 1) >> place & 1]
    body = {name: {"country": "DE"}.get(name, f"a{nth}") for name in chosen}
    return Call("PUT", "/api/v1/profile", CLIENT | JSON, json.dumps(body).encode())


def _created(path: str, **members: object) -> Callable[[int], Call]:
    def make(nth: int) -> Call:
        return Call(
            "POST", f"/api/v1{path}", ADMIN | JSON | _key(path[1:], nth), json.dumps(members).encode()
        )

    return make


def _forwarded(addresses: str) -> Call:
    return Call("GET", "/api/v1/services", {"X-Forwarded-For": addresses})


def _sign_in(nth: int) -> Call:
    headers = {
        "Content-Type": "application/x-www-form-urlencoded",
        "Sec-Fetch-Site": "same-origin",
        "X-Forwarded-For": _address(nth),
    }
    return Call("POST", "/admin/sign-in", headers, f"name={nth}{'a' * 8000}&password=wrong".encode())


KINDS: dict[str, Kind] = {
    "paths of 8 KiB": Kind(lambda nth: Call("GET", f"/api/v1/{nth}/{'a' * 8192}", {}), REFUSED),
    "paths of 62 kB": Kind(lambda nth: Call("GET", f"/api/v1/{nth}/{'a' * 62_000}", {}), REFUSED),
    "paths of slashes": Kind(lambda nth: Call("GET", f"/api/v1/{nth}{'/a' * 4096}", {}), REFUSED),
    "pages of the panel": Kind(lambda nth: Call("GET", f"/admin/{nth}/{'a' * 62_000}", {}), REFUSED),
    "ids": Kind(lambda nth: Call("GET", f"/api/v1/invoices/{10**15 + nth}", ADMIN), REFUSED),
    "queries": Kind(
        lambda nth: Call("GET", f"/api/v1/departments?page={nth + 1}{'&' * 59_000}", ADMIN), DONE | REFUSED
    ),
    "queries of unknown names": Kind(
        lambda nth: Call("GET", f"/api/v1/departments?a{nth}={'b' * 59_000}", ADMIN), REFUSED
    ),
    "queries of nobody": Kind(lambda nth: Call("GET", f"/api/v1/status?a{nth}={'b' * 59_000}", {}), REFUSED),
    "searches": Kind(lambda nth: Call("GET", f"/api/v1/knowledgebase?q={nth}{'+w' * 19}", CLIENT), DONE),
    "bad tokens": Kind(
        lambda nth: Call("GET", "/api/v1/services", {"Authorization": f"Bearer {nth}{'a' * 60_000}"}), REFUSED
    ),
    "bad tokens in the query": Kind(
        lambda nth: Call("GET", f"/api/v1/services?api_token={nth}{'a' * 60_000}", {}), REFUSED
    ),
    "addresses": Kind(
        lambda nth: _forwarded(f"{_address(nth)},{' ' * 59_000}127.0.0.1"), REFUSED, memory=COUNTED
    ),
    "addresses with spaces": Kind(
        lambda nth: _forwarded(f"a,{' ' * 59_000}{_address(nth)}"), REFUSED, memory=COUNTED
    ),
    "addresses of IPv6": Kind(lambda nth: _forwarded(f"2001:db8:{nth:x}::1"), REFUSED, memory=COUNTED),
    "hosts": Kind(lambda nth: Call("GET", "/api/v1/nowhere", {"Host": f"{nth}{'a' * 60_000}"}), REFUSED),
    "cookies": Kind(
        lambda nth: Call("GET", "/admin", {"Cookie": f"{COOKIE}={nth}{'a' * 60_000}"}), REFUSED | {303}
    ),
    "types that are accepted": Kind(
        lambda nth: Call("GET", "/api/v1/status", {"Accept": f"*/*,a/{nth}{'a' * 60_000}"}), DONE | REFUSED
    ),
    "entity tags": Kind(
        lambda nth: Call("GET", "/api/v1/profile", CLIENT | {"If-None-Match": f'"{nth}{"a" * 60_000}"'}),
        DONE | REFUSED,
    ),
    "versions": Kind(
        lambda nth: Call(
            "PUT", "/api/v1/profile", CLIENT | JSON | {"If-Match": f'"{nth}","{nth + 1}"'}, b'{"city":"a"}'
        ),
        REFUSED,
    ),
    "names that sign in": Kind(_sign_in, frozenset({403, 429}), row=1000, half=500),
    "sets of members": Kind(_subset, DONE, row=KEPT_ROW),
    "keyed replies of long texts": Kind(_reply(15, LONG[:19_000]), DONE, disk=5, row=KEPT_ROW, half=1000),
    "keyed replies to a long thread": Kind(_reply(THREAD, ""), DONE, row=KEPT_ROW, half=1000),
    "keyed closes of a long thread": Kind(_close_or_reopen, DONE | {409}, row=KEPT_ROW, half=1000),
    "keyed tickets of long texts": Kind(
        _created("/tickets", client_id=42, department_id=1, subject="a", message=LONG[:20_000]),
        DONE,
        disk=5,
        row=KEPT_ROW,
        half=1000,
    ),
    "keyed articles of long texts": Kind(
        _created("/knowledgebase", title="a", category=1, content=WORDS),
        DONE,
        disk=6,
        row=KEPT_ROW,
        half=500,
    ),
    "keyed invoices of many lines": Kind(
        _created(
            "/invoices",
            client_id=42,
            due_date="2035-01-31",
            items=[{"description": LONG[:500], "amount": "1.00"}] * 100,
        ),
        DONE,
        disk=6,
        row=KEPT_ROW,
        half=500,
    ),
    "resends of a delivery": Kind(
        lambda nth: Call("POST", RESEND, ADMIN | _key("resend", nth)),
        DONE | {409},
        row=4 * KEPT_ROW,
    ),
}  # fmt: skip


def measure(folder: Path, url: str, *, short: bool, everything: bool) -> Iterator[Figure]:
    """Two figures for each kind of call, or for each that the database keeps something of."""
    asyncio.run(data.with_database(url, _attempt_often))
    with serving(folder, url, tries=1, beside=False, WEBHOOK_WORKER="inline") as target:
        # This makes the thread long.
        _send(target, Kind(_reply(THREAD, LONG[:19_000]), DONE), range(10**9, 10**9 + 50))
        kinds = {name: kind for name, kind in KINDS.items() if everything or kind.row}
        for name, kind in kinds.items():
            yield from _measured(target, url, name, kind, kind.half // 50 if short else kind.half)


async def _attempt_often(database: Database) -> None:
    """Give a delivery as many attempts as an answer shows, so that its answers do not become longer."""
    given = data.rows(
        Attempt, SHOWN_ATTEMPTS, delivery_id=RESENT, ms=0, answer="", error="Nothing was sealed here yet."
    )
    async with database.transaction() as db:
        await db.execute_many(insert(Attempt).values(dict.fromkeys(given[0])), given)


def _measured(target: Target, url: str, name: str, kind: Kind, half: int) -> Iterator[Figure]:
    warm = WARM
    _send(target, kind, range(warm))
    memory, disk = [target.probe.memory()], [_disk(url)]
    for begin in (warm, warm + half):
        problem = _send(target, kind, range(begin, begin + half))
        memory.append(target.probe.memory())
        disk.append(_disk(url))
    sent = sum(kind.make(nth).size for nth in range(warm, warm + 2 * half))
    yield judge(f"memory: {name}", memory, sent, kind.memory * 2 * half, MEMORY_NOISE, problem)
    yield judge(f"disk: {name}", disk, sent, kind.disk * sent + kind.row * 2 * half, DISK_NOISE, problem)


def judge(name: str, sizes: list[int], sent: int, most: float, noise: int, problem: str) -> Figure:
    first, second = sizes[1] - sizes[0], sizes[2] - sizes[1]
    holds = second <= 1.1 * max(first, 0) + noise and first + second <= most + noise and not problem
    mebibytes = " + ".join(f"{each / 2**20:.2f}" for each in (first, second))
    return Figure(
        name,
        f"{mebibytes} MiB of {sent / 2**20:.2f} sent, at most {(most + noise) / 2**20:.2f}  {problem}",
        holds,
    )


def _send(target: Target, kind: Kind, numbers: range) -> str:
    """Make the calls; what is wrong with their answers, "" where nothing is."""
    left, problems = iter(numbers), []
    lock = threading.Lock()

    def work() -> None:
        connection = HTTPConnection("127.0.0.1", target.port, timeout=ANSWER_SECONDS)
        while True:
            with lock:
                nth = next(left, None)
            if nth is None:
                connection.close()
                return
            call = kind.make(nth)
            try:
                connection.request(call.method, call.path, call.body or None, call.headers)
                answer = connection.getresponse()
                answer.read()
                if answer.status not in kind.statuses:
                    problems.append(f"answered {answer.status}")
            except OSError as error:
                connection.close()
                problems.append(str(error))

    threads = [threading.Thread(target=work) for _ in range(AT_ONCE)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    return problems[0] if problems else ""


def _disk(url: str) -> int:
    """The bytes of a database, without what it writes ahead and what it can use again."""
    if url.startswith("sqlite:///"):
        path = url.removeprefix("sqlite:///")
        connection = sqlite3.connect(path, timeout=30)
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        pages = [
            connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_count", "freelist_count")
        ]
        connection.close()
        return int(4096 * (pages[0] - pages[1]))
    return asyncio.run(_postgresql_disk(url))


async def _postgresql_disk(url: str) -> int:
    connection = await asyncpg.connect(url.replace("+asyncpg", ""))
    # Else the old versions of changed rows would count, which are used again.
    await connection.execute("VACUUM")
    size = await connection.fetchval("SELECT pg_database_size(current_database())")
    await connection.close()
    return int(size)
