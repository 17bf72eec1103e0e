"""What the pipeline itself costs: called in this process, without a socket, a database or Redis.

Measured is the processor time of ``route → admit → check the request → open the transaction → call the
handler → check and serialise the answer → send``, less the time of ``open the transaction → call the
handler`` with the same arguments. The database is in memory, the caller is known already. Each round is
compared with what uvicorn's hello costs in it.
"""

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Mapping
from statistics import median
from typing import Any, NamedTuple

import uvloop

from benchmarks.memory import Memory
from benchmarks.store import CLIENT, Store
from benchmarks.work import BASE, LIST, TICKETS, Request
from handlers import services, tickets
from handlers.caller import Caller
from openapi import loading
from persistence.engines import connect
from server.app import assemble, now
from server.http.body import COMPLETE
from server.request.context import RequestContext
from server.request.edge import Edge

CALLERS = {"admin": Caller.admin(1, "*"), "client": Caller.client(1, CLIENT)}


SLICES = 10
"""A round is cut into so many pieces of both kinds, so that both see the same machine."""


class Own(NamedTuple):
    """What the pipeline costs, in microseconds, and how many times that of uvicorn's hello."""

    cost: float
    times: float


def own_cost(store: Store, rounds: int, calls: int, hello: Callable[[], float]) -> Mapping[str, Own]:
    """The pipeline's cost for the list and for a ticket; ``hello`` measures that of hello, in µs."""
    url = store.base("sqlite")
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_costs(url, rounds, calls, hello))


async def _costs(url: str, rounds: int, calls: int, hello: Callable[[], float]) -> Mapping[str, Own]:
    database = Memory(connect(url))
    await database.open()
    edge, _ = assemble(database, loading.bundle())

    async def bare_list() -> None:
        async with database.reading() as db:
            await services.list_services(CALLERS["admin"], db, limit=20)

    async def bare_ticket() -> None:
        async with database.transaction() as db:
            await tickets.create_ticket(dict(TICKETS.body or {}), CALLERS["client"], db, now())

    found = {}
    for request, bare in ((LIST, bare_list), (TICKETS, bare_ticket)):
        whole = _through(edge, request)
        rounds_of = []
        for _ in range(rounds):
            against = hello()
            differences = [
                await _time(whole, calls // SLICES) - await _time(bare, calls // SLICES)
                for _ in range(SLICES)
            ]
            cost = sum(differences) / SLICES
            rounds_of.append(Own(cost, cost / against))
        found[request.name] = Own(*map(median, zip(*rounds_of, strict=True)))
    await database.close()
    return found


def _through(edge: Edge, request: Request) -> Callable[[], Awaitable[None]]:
    """A call of the pipeline as the edge makes it."""
    path, _, query = f"{BASE}{request.path}".partition("?")
    body = b"" if request.body is None else json.dumps(request.body).encode()
    headers = [(b"host", b"127.0.0.1"), (b"accept", b"application/json")]
    if body:
        headers += [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    message = {"type": "http.request", "body": body, "more_body": False}
    caller = CALLERS[request.kind]
    status = 0

    async def receive() -> Any:
        return message

    async def send(message: Any) -> None:
        nonlocal status
        status = message.get("status", status)

    async def call() -> None:
        nonlocal status
        status = 0
        made = RequestContext("0123456789abcdef", 0.0, caller=caller, dialect=caller.dialect)
        made.match = match = edge.routes.match(path.encode())
        made.plan = match.for_method(request.method) if match else None
        scope = {
            "type": "http",
            "http_version": "1.1",
            "method": request.method,
            "path": path,
            "raw_path": path.encode(),
            "query_string": query.encode(),
            "headers": headers,
            # As the protocol says of a body that has arrived with its head.
            "state": {COMPLETE: True},
            "extensions": {"cloudarc": made},
        }
        await edge.app(scope, receive, send)
        assert status == request.status, status

    return call


async def _time(work: Callable[[], Awaitable[None]], calls: int) -> float:
    """Microseconds of processor time for one call."""
    await work()
    started = time.process_time()
    for _ in range(calls):
        await work()
    return (time.process_time() - started) * 1e6 / calls
