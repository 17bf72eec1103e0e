"""What the server remembers is bounded in bytes, whatever callers send."""

import asyncio
import functools
import gc
import importlib
import pkgutil
import sys
from collections.abc import Iterator
from types import FunctionType, ModuleType
from typing import Any

import pytest
from starlette.types import ASGIApp

from server.request.rate_limit import RateLimitKeys
from tests.support.live_server import Running

PACKAGES = ("handlers", "openapi", "panel", "persistence", "server", "webhooks")

# Caches whose keys come from the program alone: tables, operations, documents. Callers cannot fill them.
KEYED_BY_CODE = {
    "handlers.contract.docs_page",
    "handlers.contract.schemathesis_configuration",
    "openapi.rendering._published",
    "openapi.loading._read",
    "persistence.statements.update_by_id",
    "persistence.statements.select_by_id",
    "persistence.statements.delete_by_id",
    "persistence.statements.as_one_statement",
    "persistence.listing.Listing._statement",
    "persistence.listing.Listing._total",
    "webhooks.events.event_kinds",
}

ENTRY = 2_000
"""How many bytes an entry of a bounded cache has at most."""

MOST = 12_000_000
"""How many bytes a bounded cache has at most."""

CALLS = 600


def name_of(wrapper: Any) -> str:
    function = wrapper.__wrapped__
    return f"{function.__module__}.{function.__qualname__}"


def caches() -> dict[str, Any]:
    """Every ``lru_cache`` of the project, also those that instances hold, by the name of its function."""
    for package in PACKAGES:
        for info in pkgutil.walk_packages(importlib.import_module(package).__path__, f"{package}."):
            if "migrations" not in info.name and not info.name.endswith("__main__"):
                importlib.import_module(info.name)
    return {
        name_of(each): each
        for each in gc.get_objects()
        if isinstance(each, functools._lru_cache_wrapper)
        and str(getattr(each.__wrapped__, "__module__", "")).partition(".")[0] in PACKAGES
    }


class TestBounds:
    def test_every_cache_is_bounded_or_keyed_by_the_program(self, server: Running) -> None:
        found = caches()
        assert len(found) >= 10
        unbounded = {name for name, each in found.items() if each.cache_info().maxsize is None}
        assert unbounded <= KEYED_BY_CODE, unbounded - KEYED_BY_CODE
        assert (
            unbounded | {each for each in KEYED_BY_CODE if each.startswith("handlers.contract.")}
            >= KEYED_BY_CODE
        )
        for name, each in found.items():
            if name not in unbounded:
                assert each.cache_info().maxsize * ENTRY <= MOST, name


def reachable(roots: Iterator[Any]) -> Iterator[Any]:
    """All containers that can be reached from ``roots``, without code and what belongs to the interpreter."""
    seen: set[int] = set()
    left = list(roots)
    while left:
        each = left.pop()
        if id(each) in seen or isinstance(each, ModuleType | type | FunctionType):
            continue
        seen.add(id(each))
        yield each
        left += gc.get_referents(each)


def size(server: Running) -> int:
    """The bytes of all that can be reached from the app and from the project's modules."""
    gc.collect()
    modules = [vars(each) for name, each in sys.modules.items() if name.partition(".")[0] in PACKAGES]
    wrappers = list(caches().values())
    return sum(sys.getsizeof(each, 0) for each in reachable(iter([server.edge, *modules, *wrappers])))


KIB = 1024

# What callers may send in any number, each time another: its path, query and headers.
HOSTILE: dict[str, Any] = {
    "paths of 8 KiB": lambda nth: (f"/api/v1/{nth}" + "/a" * 4_000, {}),
    "paths of 60 KiB": lambda nth: (f"/api/v1/{nth}" + "/a" * 30_000, {}),
    "paths of 200 bytes": lambda nth: (f"/api/v1/{nth:05}".ljust(200, "a"), {}),
    "ids": lambda nth: (f"/api/v1/tickets/{nth + 10**15}", {"Authorization": "Bearer abc123token"}),
    "queries of 16 KiB": lambda nth: (
        f"/api/v1/invoices?page={nth + 1}" + "&" * (15 * KIB),
        {"Authorization": "Bearer demo-admin-key"},
    ),
    "short queries": lambda nth: (
        f"/api/v1/invoices?page={nth + 1}&limit={nth % 100 + 1}",
        {"Authorization": "Bearer demo-admin-key"},
    ),
    "public queries": lambda nth: (f"/api/v1/status?{'&' * nth}", {}),
    "tokens": lambda nth: ("/api/v1/services", {"Authorization": f"Bearer {nth}" + "x" * 4 * KIB}),
    "tokens in the query": lambda nth: (f"/api/v1/services?api_token={nth}" + "x" * 4 * KIB, {}),
    "addresses": lambda nth: (
        "/api/v1/services",
        {"X-Forwarded-For": ",".join(f"10.{nth % 250}.{each}.{nth // 250}" for each in range(200))},
    ),
    "long addresses": lambda nth: ("/api/v1/services", {"X-Forwarded-For": f"{nth}:" + "f" * 8 * KIB}),
    "request ids": lambda nth: ("/api/v1/status", {"X-Request-Id": f"{nth:064}"}),
    "tags": lambda nth: (
        "/api/v1/services/1",
        {"Authorization": "Bearer abc123token", "If-None-Match": f'"{nth}{"x" * 3 * KIB}"'},
    ),
}


async def call(app: ASGIApp, target: str, headers: dict[str, str]) -> None:
    """A GET without a client library, which would take longer than the server."""
    path, _, query = target.partition("?")
    sent = {"host": "localhost", **headers}
    scope = {
        "type": "http",
        "http_version": "1.1",
        "method": "GET",
        "path": path,
        "raw_path": path.encode(),
        "query_string": query.encode(),
        "headers": [(name.lower().encode(), value.encode()) for name, value in sent.items()],
        "client": ("127.0.0.1", 1),
    }

    async def receive() -> Any:
        return {"type": "http.request", "body": b""}

    async def send(_: Any) -> None:
        return None

    await app(scope, receive, send)


class TestGrowth:
    @pytest.mark.parametrize("kind", HOSTILE)
    def test_hostile_calls_leave_nothing_that_grows(self, server: Running, kind: str) -> None:
        """A call must not leave more behind than a small entry has."""
        edge, loop = server.edge, server.loop
        assert loop is not None
        own = edge.keys
        edge.keys = RateLimitKeys(["*"])

        async def send(begin: int) -> None:
            for nth in range(begin, begin + CALLS):
                path, headers = HOSTILE[kind](nth)
                await call(edge, path, headers)

        try:
            asyncio.run_coroutine_threadsafe(send(0), loop).result(60)
            before = size(server)
            asyncio.run_coroutine_threadsafe(send(CALLS), loop).result(60)
            assert size(server) - before <= CALLS * ENTRY
        finally:
            edge.keys = own
