"""What a page of the operator's panel takes where there are a million clients and a million invoices."""

import time
from collections.abc import Mapping
from statistics import median

from benchmarks.growth import FIRST, fill
from benchmarks.load import Generator, Job
from benchmarks.processes import Server
from benchmarks.store import Backend, Store
from benchmarks.variants import CLOUDARC, started
from persistence import demo

# PostgreSQL and SQLite read this alike. A first name is had by one client of a thousand.
CLIENTS = """
INSERT INTO clients (id, first_name, last_name, email, email_key, password_hash, phone, company, address1,
                     city, state, postcode, country, status, created_at)
SELECT {first} + n, 'Robin' || n % 1000, 'Last' || n % 7919, 'buyer' || n || '@example.org',
       'buyer' || n || '@example.org', '-', '', '', '', '', '', '', '', 'active', {at}
FROM {numbers}
"""
WORDS = """
INSERT INTO client_words (rowid, words)
SELECT {first} + n, 'robin' || n % 1000 || ' last' || n % 7919 || ' buyer' || n || ' example org'
FROM {numbers}
"""


def add_clients(store: Store, url: str, count: int) -> None:
    """Add so many clients to a database, each found by its words."""
    sqlite = url.startswith("sqlite")
    numbers = f"generate_series(0, {count - 1}) AS s(n)"
    if sqlite:
        steps = f"SELECT 0 UNION ALL SELECT n + 1 FROM s WHERE n < {count - 1}"
        numbers = f"(WITH RECURSIVE s(n) AS ({steps}) SELECT n FROM s)"
    at = "'2024-01-01 10:00:00.000000'" if sqlite else "TIMESTAMPTZ '2024-01-01 10:00:00Z'"
    parts = {"first": FIRST, "at": at, "numbers": numbers}
    emptied = [] if sqlite else ["VACUUM ANALYZE"]
    store.sql(CLIENTS.format(**parts), WORDS.format(**parts), *emptied, "ANALYZE", url=url)


def pages(count: int) -> Mapping[str, str]:
    """The address of each page that is measured."""
    middle = FIRST + count // 2
    return {
        "clients": "/admin/clients",
        "clients, the page in the middle by its link": f"/admin/clients?after={middle}",
        "clients, one is searched for": f"/admin/clients?q=buyer{count // 2}",
        "clients, a name of one in a thousand": "/admin/clients?q=robin500",
        "clients, two words": "/admin/clients?q=robin500+last500",
        "one client": f"/admin/clients/{middle}",
        "invoices": "/admin/invoices",
        "invoices, overdue, the page in the middle": f"/admin/invoices?status=overdue&after={middle}",
        "activity": "/admin/activity",
    }


def latencies(
    store: Store, generator: Generator, backend: Backend, count: int, seconds: float
) -> dict[str, float]:
    """Milliseconds until a page is there, the median of one operator's calls one after the other."""
    url = store.base(backend)
    fill(store, url, count)
    add_clients(store, url, count)
    with started(CLOUDARC, url, store.valkey(), store.folder / f"panel-{backend}") as server:
        cookie = _sign_in(server)
        found = {}
        for name, path in pages(count).items():
            raw = f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\nCookie: {cookie}\r\n\r\n"
            rounds = []
            for _ in range(3):
                job = Job(server.port, raw, 200, connections=1, seconds=seconds)
                rounds.append(generator.run(job).p50 / 1000)
                time.sleep(0.02)
            found[name] = median(rounds)
        return found


def _sign_in(server: Server) -> str:
    """The cookie of a session of the demo's operator."""
    form = f"name={demo.OPERATOR}&password={demo.OPERATOR_PASSWORD}"
    host = f"127.0.0.1:{server.port}"
    lines = [
        "POST /admin/sign-in HTTP/1.1",
        f"Host: {host}",
        f"Origin: http://{host}",
        "Content-Type: application/x-www-form-urlencoded",
        "",
        form,
    ]
    _, headers, _ = server.asked("\r\n".join(lines).encode())
    return headers["Set-Cookie"].partition(";")[0]
