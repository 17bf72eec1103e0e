"""``/healthz`` and ``/readyz``, for load balancers and supervisors. They are not in the contract.

They stand in front of the edge: they look at no credential, are not counted, and are not logged.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable

import orjson
from starlette.types import ASGIApp, Receive, Scope, Send

from handlers.dialects import AdminDialect
from persistence import migrations
from persistence.counters import Counters
from persistence.database import Database
from persistence.errors import Unavailable
from server.errors import Problem, body_of
from server.http.reply import Reply, send_reply

logger = logging.getLogger("cloudarc")

DEADLINE = 0.8
"""The seconds after which a component without an answer counts as unavailable."""

KEPT = 1.0
"""The seconds for which a result is cached, so that many probes cost as much as one."""

HEADERS = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}

Components = dict[str, str]


class Health:
    """Checks the components of the server."""

    def __init__(self, database: Database, counters: Counters) -> None:
        self.database = database
        self.counters = counters
        self.stopping = False
        self.checking: asyncio.Task[Components] | None = None
        self.checked_at = 0.0

    def stop(self) -> None:
        """Report from now on that the server stops, so that load balancers send no more requests."""
        self.stopping = True

    async def alive(self) -> Reply:
        """Return 200. The event loop runs, or this would not run."""
        return _reply(200, {"status": "ok"})

    async def ready(self) -> Reply:
        """Return 200 if the server can answer requests, else 503. It can answer them without Redis."""
        if self.stopping:
            return _reply(503, {"status": "stopping"})
        found = await self._components()
        ready = set(found.values()) <= {"ok", "degraded"}
        return _reply(
            200 if ready else 503, {"status": "ok" if ready else "unavailable", "components": found}
        )

    async def _components(self) -> Components:
        # All probes share one check, even if it hangs, so that a frozen database gets one query.
        now = time.monotonic()
        if self.checking is None or (self.checking.done() and now - self.checked_at > KEPT):
            self.checking, self.checked_at = asyncio.create_task(self._check()), now
        await asyncio.wait([self.checking], timeout=DEADLINE)
        if not self.checking.done():
            return {"database": "unavailable", "redis": "ok" if self.counters.connected else "degraded"}
        return self.checking.result()

    async def _check(self) -> Components:
        redis = "ok" if await self.counters.answer() else "degraded"
        try:
            async with self.database.reading() as db:
                pending = await migrations.behind(db)
        except Unavailable:
            return {"database": "unavailable", "redis": redis}
        except Exception:
            logger.exception("the database cannot be checked")
            return {"database": "unavailable", "redis": redis}
        found = {"database": "ok", "redis": redis}
        return found | {"migrations": "pending"} if pending else found


class Probes:
    """Answers the two paths, and passes all other requests on to ``app``."""

    def __init__(self, app: ASGIApp, health: Health) -> None:
        self.app = app
        self.probes: dict[str, Callable[[], Awaitable[Reply]]] = {
            "/healthz": health.alive,
            "/readyz": health.ready,
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        probe = self.probes.get(scope["path"]) if scope["type"] == "http" else None
        if probe is None:
            await self.app(scope, receive, send)
        elif scope["method"] in ("GET", "HEAD"):
            await send_reply(send, await probe())
        else:
            problem = Problem(405, "This method is not allowed here.")
            headers = {**HEADERS, "Allow": "GET, HEAD"}
            await send_reply(send, Reply(405, body_of(problem, AdminDialect), headers=headers, close=True))


def _reply(status: int, content: object) -> Reply:
    headers = HEADERS if status == 200 else {**HEADERS, "Retry-After": "1"}
    return Reply(status, orjson.dumps(content), headers=headers)
