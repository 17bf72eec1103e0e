"""What the peers on CloudArc's own data layer share: the same database, counters, log and handlers.

Whatever they cost more or less than CloudArc is therefore what lies between the socket and the handler.
"""

import time
from collections.abc import Callable
from datetime import datetime
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from benchmarks.peers import options
from handlers import invoices, tickets
from handlers.caller import Caller
from handlers.dialects import HandlerResult
from persistence import activity, api_keys, tokens
from persistence.counters import Counters, RateLimitResult
from persistence.database import Connection, Database
from persistence.engines import connect
from server.app import now
from server.http.headers import request_id
from server.observe import logs
from server.observe.logs import access

LIMIT = 1_000_000


class Ground:
    """The data layer of one peer, open between ``open`` and ``close``."""

    def __init__(self) -> None:
        logs.set_up(options.settings())
        self.database: Database = connect(options.DATABASE)
        self.counters = Counters(options.REDIS)
        self.now: Callable[[], datetime] = now

    async def open(self) -> None:
        await self.database.open()
        await self.counters.open()

    async def close(self) -> None:
        await self.counters.close()
        await self.database.close()

    async def caller(self, secret: str) -> Caller | None:
        """Whose credential it is: the prefix names the table, the SHA-256 the row."""
        async with self.database.reading() as db:
            if secret.startswith("arc_"):
                key = await api_keys.find(db, secret, self.now())
                return Caller.admin(key.id, key.scopes) if key else None
            token = await tokens.find(db, secret, self.now())
            return Caller.client(token.id, token.client_id) if token else None

    async def open_ticket(self, db: Connection, caller: Caller, body: dict[str, Any]) -> HandlerResult:
        """Open a ticket, and keep who did."""
        made = await tickets.create_ticket(body, caller, db, self.now())
        await self._keep(db, caller, "create_ticket", f"/tickets/{made[0]['ticket_id']}")
        return made

    async def make_invoice(self, db: Connection, caller: Caller, body: dict[str, Any]) -> HandlerResult:
        """Make an invoice, and keep who did."""
        made = await invoices.create_invoice(body, caller, db, self.now())
        await self._keep(db, caller, "create_invoice", f"/invoices/{made[0]['data']['id']}")
        return made

    async def _keep(self, db: Connection, caller: Caller, operation: str, resource: str) -> None:
        await activity.add(
            db,
            actor=caller.actor,
            actor_id=caller.actor_id,
            operation=operation,
            resource=resource,
            request_id="",
            created_at=self.now(),
        )

    async def count(self, caller: Caller) -> RateLimitResult:
        """Count a call in Redis: one round trip."""
        return await self.counters.hit(f"{caller.kind}:{caller.id}", LIMIT)


class Around:
    """Pure ASGI around a peer, as our edge less its checks: caller, count, the headers, the log line."""

    def __init__(self, app: ASGIApp, ground: Ground) -> None:
        self.app = app
        self.ground = ground

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started, status = time.perf_counter(), 0
        id = request_id(scope["headers"])
        headers = [(b"x-request-id", id.encode())]
        caller = None

        async def marked(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message["headers"], *headers]
            await send(message)

        if scope["path"] != "/api/v1/status":
            secret = next((value for name, value in scope["headers"] if name == b"authorization"), b"")
            caller = await self.ground.caller(secret.decode("latin-1").removeprefix("Bearer "))
            if caller is None:
                await answer(marked, 401, b'{"error":"unauthorized"}')
                return
            count = await self.ground.count(caller)
            headers += limit_headers(count.remaining, count.seconds, caller.kind)
            scope["caller"] = caller
        await self.app(scope, receive, marked)
        fields = {
            "id": id,
            "caller": f"{caller.kind}:{caller.id}" if caller else "-",
            "operation": scope["path"],
            "status": status,
            "ms": round((time.perf_counter() - started) * 1000, 1),
        }
        access.info("request", extra={"fields": fields})


def limit_headers(remaining: int, seconds: int, policy: str) -> list[tuple[bytes, bytes]]:
    return [
        (b"x-ratelimit-limit", f"{LIMIT}".encode()),
        (b"x-ratelimit-remaining", f"{remaining}".encode()),
        (b"ratelimit-policy", f'"{policy}";q={LIMIT};w=60'.encode()),
        (b"ratelimit", f'"{policy}";r={remaining};t={seconds}'.encode()),
        (b"cache-control", b"no-store"),
        (b"x-content-type-options", b"nosniff"),
    ]


async def answer(send: Send, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
    """Send JSON."""
    pairs: list[tuple[bytes, bytes]] = [
        (name.lower().encode(), value.encode()) for name, value in (headers or {}).items()
    ]
    pairs += [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": pairs})
    await send({"type": "http.response.body", "body": body})


async def whole_body(receive: Receive) -> bytes:
    """The body of a request."""
    chunks = []
    while True:
        message: Any = await receive()
        chunks.append(message.get("body", b""))
        if not message.get("more_body"):
            return b"".join(chunks)
