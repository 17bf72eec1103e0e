"""``/healthz`` and ``/readyz``, for whoever starts and watches the server. The contract knows neither.

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
"""Seconds until a component that has not answered counts as unavailable."""

KEPT = 1.0
"""Seconds for which an answer is kept, so that many who ask cost as little as one."""

HEADERS = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}

Components = dict[str, str]


class Health:
    """What state the server is in."""

    def __init__(self, database: Database, counters: Counters) -> None:
        self.database = database
        self.counters = counters
        self.stopping = False
        self.checking: asyncio.Task[Components] | None = None
        self.checked_at = 0.0

    def stop(self) -> None:
        """From now on no new call should come here."""
        self.stopping = True

    async def alive(self) -> Reply:
        """200: the loop runs, or this would not be answered."""
        return _reply(200, {"status": "ok"})

    async def ready(self) -> Reply:
        """200 where calls can be answered, else 503; a Redis that is away costs no call its answer."""
        if self.stopping:
            return _reply(503, {"status": "stopping"})
        found = await self._components()
        ready = set(found.values()) <= {"ok", "degraded"}
        return _reply(
            200 if ready else 503, {"status": "ok" if ready else "unavailable", "components": found}
        )

    async def _components(self) -> Components:
        # All who ask share one look, also one that hangs, so that a frozen database is asked once.
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
            logger.exception("the database cannot be looked at")
            return {"database": "unavailable", "redis": redis}
        found = {"database": "ok", "redis": redis}
        return found | {"migrations": "pending"} if pending else found


class Probes:
    """Answers the two paths; everything else goes on to ``app``."""

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
