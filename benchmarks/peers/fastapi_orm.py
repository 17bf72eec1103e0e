"""FastAPI the way of its community: pydantic in and out, SQLAlchemy's async ORM, redis-py."""

import asyncio
import hashlib
import json
import secrets
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Annotated, Any

from fastapi import Depends, FastAPI, HTTPException, Query, Request, Response
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from redis.asyncio import Redis
from sqlalchemy import event, func, or_, select
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import joinedload
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from benchmarks.peers import models, options
from benchmarks.peers.ground import LIMIT, limit_headers
from benchmarks.peers.orm import ApiKey, Client, Department, Event, Invoice, Line, Service, Ticket, Token
from server.observe import logs
from server.observe.logs import access

# A window that is fixed: less exact than CloudArc's moving log, and cheaper. One round trip.
COUNT = """
local calls = redis.call('INCR', KEYS[1])
if calls == 1 then redis.call('EXPIRE', KEYS[1], ARGV[1]) end
return {calls, redis.call('TTL', KEYS[1])}
"""

# One statement instead of two, as the ORM's manual has it for a reference to one row.
PRODUCT = joinedload(Service.product, innerjoin=True)

PRIORITIES = {1: "low", 2: "medium", 3: "high"}


def _engine() -> Any:
    # As many connections as CloudArc's two pools have; beyond a pool's size each would be made anew.
    if not options.DATABASE.startswith("sqlite"):
        return create_async_engine(options.DATABASE, pool_size=20, max_overflow=0)
    url = options.DATABASE.replace("sqlite:", "sqlite+aiosqlite:")
    engine = create_async_engine(url, pool_size=20, max_overflow=0)

    @event.listens_for(engine.sync_engine, "connect")
    def prepare(raw: Any, _: Any) -> None:
        # The same safety as CloudArc's.
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "busy_timeout=5000"):
            raw.execute(f"PRAGMA {pragma}")

    return engine


class Logged:
    """Pure ASGI, since FastAPI's own kind of middleware costs several times as much: id and log line."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started, status, id = time.perf_counter(), 0, secrets.token_hex(8)
        state: dict[str, Any] = scope.setdefault("state", {})

        async def marked(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [
                    *message["headers"],
                    (b"x-request-id", id.encode()),
                    *state.get("limit_headers", []),
                ]
            await send(message)

        await self.app(scope, receive, marked)
        milliseconds = round((time.perf_counter() - started) * 1000, 1)
        fields = {"id": id, "operation": scope["path"], "status": status, "ms": milliseconds}
        access.info("request", extra={"fields": fields})


def create() -> ASGIApp:
    """The app."""
    logs.set_up(options.settings())
    engine = _engine()
    sessions = async_sessionmaker(engine, expire_on_commit=False)
    redis: Redis = Redis.from_url(options.REDIS)
    count = redis.register_script(COUNT)
    # SQLite has one writer; to queue for it here costs less than to be refused and try again.
    writing = asyncio.Lock()
    bearer = HTTPBearer()

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        await engine.dispose()
        await redis.aclose()

    async def session() -> AsyncIterator[AsyncSession]:
        async with sessions() as opened:
            yield opened

    Db = Annotated[AsyncSession, Depends(session)]  # noqa: N806  a type
    Bearer = Annotated[HTTPAuthorizationCredentials, Depends(bearer)]  # noqa: N806  a type

    async def identified(table: Any, given: Bearer, request: Request, db: AsyncSession) -> Any:
        digest = hashlib.sha256(given.credentials.encode()).hexdigest()
        alive = or_(table.expires_at.is_(None), table.expires_at > datetime.now(UTC))
        found = await db.scalar(
            select(table).where(table.digest == digest, table.revoked_at.is_(None), alive)
        )
        if found is None:
            raise HTTPException(401)
        policy = table.__table__.name
        calls, seconds = await count(keys=[f"{policy}:{found.id}"], args=[60])
        request.state.limit_headers = limit_headers(LIMIT - calls, seconds, policy)
        return found

    async def admin(given: Bearer, request: Request, db: Db) -> Any:
        return await identified(ApiKey, given, request, db)

    async def client(given: Bearer, request: Request, db: Db) -> Any:
        return await identified(Token, given, request, db)

    app = FastAPI(lifespan=lifespan)

    @app.get("/api/v1/status")
    async def status() -> dict[str, str]:
        return {}

    @app.get("/api/v1/services", response_model=models.ServiceList, dependencies=[Depends(admin)])
    async def list_services(
        db: Db,
        response: Response,
        page: Annotated[int, Query(ge=1)] = 1,
        limit: Annotated[int, Query(ge=1, le=100)] = 20,
        client_id: int | None = None,
        status: str | None = None,
        product_id: int | None = None,
    ) -> Any:
        wanted = {"client_id": client_id, "status": status, "product_id": product_id}
        where = [getattr(Service, name) == value for name, value in wanted.items() if value is not None]
        total = await db.scalar(select(func.count()).select_from(Service).where(*where)) or 0
        query = select(Service).where(*where).options(PRODUCT)
        query = query.order_by(Service.id.desc()).limit(limit).offset((page - 1) * limit)
        rows = (await db.scalars(query)).all()
        if page * limit < total:
            response.headers["Link"] = f'</api/v1/services?limit={limit}&page={page + 1}>; rel="next"'
        meta = {"page": page, "limit": limit, "total": total, "pages": -(-total // limit)}
        return {"data": rows, "meta": meta}

    @app.get("/api/v1/services/{id}", response_model=models.ServiceResponse, dependencies=[Depends(admin)])
    async def get_service(id: int, db: Db, response: Response) -> Any:
        service = await db.get(Service, id, options=[PRODUCT])
        if service is None:
            raise HTTPException(404)
        response.headers["ETag"] = f'"{service.version}"'
        return {"data": service}

    @app.post("/api/v1/tickets", response_model=models.TicketCreated, status_code=201)
    async def create_ticket(body: models.TicketInput, db: Db, caller: Annotated[Any, Depends(client)]) -> Any:
        async with _one_writer(writing, db):
            await existing(db, Client, caller.client_id)
            await existing(db, Department, body.department_id)
            now = datetime.now(UTC).replace(microsecond=0)
            ticket = Ticket(
                ticket_number=f"TKT-{secrets.token_hex(4).upper()}",
                client_id=caller.client_id,
                department_id=body.department_id,
                subject=body.subject,
                message=body.message,
                status="open",
                priority=PRIORITIES[body.priority_id],
                created_at=now,
                updated_at=now,
            )
            db.add(ticket)
            await db.flush()
            told = body.model_dump() | {"id": ticket.id, "ticket_number": ticket.ticket_number}
            db.add(happened("ticket.opened", told, now))
            await db.commit()
        return {"ticket_id": ticket.id, "ticket_number": ticket.ticket_number}

    @app.post(
        "/api/v1/invoices",
        response_model=models.InvoiceResponse,
        status_code=201,
        dependencies=[Depends(admin)],
    )
    async def create_invoice(body: models.InvoiceInput, db: Db) -> Any:
        async with _one_writer(writing, db):
            await existing(db, Client, body.client_id)
            now = datetime.now(UTC).replace(microsecond=0)
            total = sum((each.amount for each in body.items), Decimal(0))
            invoice = Invoice(
                client_id=body.client_id,
                status="unpaid",
                total=total,
                currency="USD",
                due_date=body.due_date,
                paid_at=None,
                created_at=now,
                items=[Line(description=each.description, amount=each.amount) for each in body.items],
            )
            db.add(invoice)
            await db.flush()
            told = {"id": invoice.id, "client_id": invoice.client_id, "total": str(total), "currency": "USD"}
            db.add(happened("invoice.created", told, now))
            await db.commit()
        return {"data": invoice}

    return Logged(app)


@asynccontextmanager
async def _one_writer(lock: asyncio.Lock, db: AsyncSession) -> AsyncIterator[None]:
    """On SQLite: in turn. The transaction that read the token ends first, or its snapshot would be stale."""
    if db.get_bind().dialect.name != "sqlite":
        yield
        return
    await db.commit()
    async with lock:
        yield


async def existing(db: AsyncSession, table: Any, id: int) -> None:
    """Lock the row. Raises HTTPException."""
    if await db.scalar(select(table).where(table.id == id).with_for_update()) is None:
        raise HTTPException(404)


def happened(name: str, data: dict[str, Any], now: datetime) -> Event:
    """The row of the event that CloudArc writes too."""

    def plain(value: Any) -> str:
        return value.isoformat() if isinstance(value, (date, datetime)) else str(value)

    base = json.dumps({"event": name, "timestamp": now, "data": data}, default=plain)
    return Event(uid=f"evt_{secrets.token_hex(13)}", event=name, base=base, created_at=now)
