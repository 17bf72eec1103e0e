"""From 1,000 invoices to 1,000,000: what a page costs in both, one caller asking at a time."""

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from statistics import median
from urllib.parse import urlencode

import orjson

from benchmarks.load import Generator, Job
from benchmarks.processes import Server, cpu_seconds
from benchmarks.store import CLIENT, TITLES, Backend, Store
from benchmarks.variants import CLOUDARC, started
from benchmarks.work import BASE

FEW = 1_000
FIRST = 1_300
"""The id of the first invoice that is added: the demo data ends before."""

OWN = 100
"""Client 42 owns as many invoices, however many there are."""

# Eight of ten are paid, one is open, one is late. PostgreSQL and SQLite read this alike.
ROWS = """
INSERT INTO invoices (id, client_id, status, total, currency, due_date, paid_at, created_at)
SELECT {first} + n,
       CASE WHEN n % {every} = 0 THEN {client} ELSE 43 + n % 190 END,
       CASE WHEN n % 10 < 2 THEN 'unpaid' ELSE 'paid' END,
       {total}, 'USD', {due},
       CASE WHEN n % 10 < 2 THEN NULL ELSE {at} END, {at}
FROM {numbers}
"""


def fill(store: Store, url: str, count: int) -> None:
    """Replace the invoices of a database by so many others, quickly."""
    sqlite = url.startswith("sqlite")
    parts: dict[str, object] = {"first": FIRST, "every": count // OWN, "client": CLIENT}
    if sqlite:
        parts |= {
            "total": "1000 + n % 9000",
            "due": "CASE WHEN n % 10 = 0 THEN '2024-01-31' ELSE '2035-01-31' END",
            "at": "'2024-01-01 10:00:00.000000'",
            "numbers": "(WITH RECURSIVE s(n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM s "
            f"WHERE n < {count - 1}) SELECT n FROM s)",
        }
    else:
        parts |= {
            "total": "(1000 + n % 9000) / 100.0",
            "due": "CASE WHEN n % 10 = 0 THEN DATE '2024-01-31' ELSE DATE '2035-01-31' END",
            "at": "TIMESTAMPTZ '2024-01-01 10:00:00Z'",
            "numbers": f"generate_series(0, {count - 1}) AS s(n)",
        }
    emptied = [f"DELETE FROM {table}" for table in ("payments", "invoice_lines", "invoices")]
    numbered = (
        []
        if sqlite
        else [f"SELECT setval(pg_get_serial_sequence('invoices', 'id'), {FIRST + count})", "VACUUM ANALYZE"]
    )
    store.sql(*emptied, ROWS.format(**parts), *numbered, "ANALYZE", url=url)


def pages(count: int) -> Mapping[str, tuple[str, int]]:
    """The address of each page that is compared, and how many invoices its list must count."""

    def path(**query: object) -> str:
        return f"{BASE}/invoices?{urlencode({'limit': 20, **query})}"

    last = count // 20
    return {
        "first page": (path(), count),
        "filtered page (paid)": (path(status="paid"), count * 8 // 10),
        "filtered page (overdue)": (path(status="overdue"), count // 10),
        "Link: next, a quarter down": (path(after=FIRST + count * 3 // 4), count),
        "Link: next, in the middle": (path(after=FIRST + count // 2), count),
        "Link: next, near the end": (path(after=FIRST + 50), count),
        "Link: next of the filter, near the end": (path(status="paid", after=FIRST + 50), count * 8 // 10),
        "one client's list": (path(client_id=CLIENT), OWN),
        "the page in the middle (25,000 of 50,000)": (path(page=max(1, last // 2)), count),
        "the last page": (path(page=last), count),
    }


BARRED = {
    "first": ("first page",),
    "filtered": ("filtered page (paid)", "filtered page (overdue)"),
    "next": (
        "Link: next, a quarter down",
        "Link: next, in the middle",
        "Link: next, near the end",
        "Link: next of the filter, near the end",
    ),
}
"""The pages that each part of the bar is judged by; the worst of them counts."""


class WrongTotal(Exception):
    """A list does not count what is there, so its cost means nothing."""


@dataclass(frozen=True)
class Cost:
    """Microseconds of one request: its latency, and the CPU of the server with its database."""

    latency: float
    cpu: float

    def over(self, other: "Cost") -> float:
        """How many times the other's cost: the worse of both figures."""
        return max(self.latency / other.latency, self.cpu / other.cpu)


def growth(
    store: Store, generator: Generator, backend: Backend, many: int, rounds: int, seconds: float
) -> dict[str, tuple[Cost, Cost]]:
    """The cost of each page with few invoices and with many."""
    with ExitStack() as stack:
        servers = {}
        for count in (FEW, many):
            url = store.base(backend)
            fill(store, url, count)
            servers[count] = stack.enter_context(
                started(CLOUDARC, url, store.valkey(), store.folder / f"growth-{backend}-{count}")
            )
        found: dict[tuple[str, int], list[Cost]] = {}
        for name in pages(FEW):
            for count, server in servers.items():
                raw = _raw(store, pages(count)[name][0])
                _check(server, raw, name, pages(count)[name][1], backend)
                generator.run(Job(server.port, raw.decode(), 200, connections=1, count=20))
            for _ in range(rounds):
                for count, server in servers.items():
                    raw = _raw(store, pages(count)[name][0])
                    found.setdefault((name, count), []).append(
                        _cost(generator, server, raw, seconds, store if backend == "postgresql" else None)
                    )
    return {name: (_middle(found[name, FEW]), _middle(found[name, many])) for name in pages(FEW)}


def _raw(store: Store, path: str) -> bytes:
    return (f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {store.admin}\r\n\r\n").encode()


def _check(server: Server, raw: bytes, name: str, total: int, backend: Backend) -> None:
    status, body = server.ask(raw)
    content = orjson.loads(body)
    if status != 200 or content["meta"]["total"] != total or len(content["data"]) != 20:
        raise WrongTotal(f"{TITLES[backend]}, {name}: {status}, {body[-200:]!r} instead of {total} invoices")


def _cost(generator: Generator, server: Server, raw: bytes, seconds: float, store: Store | None) -> Cost:
    def used() -> float:
        return cpu_seconds(server.pid) + (cpu_seconds(_postmaster(store)) if store else 0.0)

    before = used()
    done = generator.run(Job(server.port, raw.decode(), 200, connections=1, seconds=seconds))
    return Cost(done.p50, (used() - before) * 1e6 / done.requests)


def _postmaster(store: Store) -> int:
    assert store.postgres.server is not None
    return store.postgres.server.pid


def _middle(costs: list[Cost]) -> Cost:
    return Cost(median(each.latency for each in costs), median(each.cpu for each in costs))
