"""Clients (ArcBilling, "Clients"). No answer ever shows a password."""

from datetime import datetime
from typing import Any

from handlers.caller import Caller
from handlers.dialects import DELETED, AdminDialect, Body, HandlerResult, Views, versions
from persistence import clients
from persistence.database import Connection, Row
from persistence.passwords import hashed
from webhooks import outbox

SHOWN = ("id", "first_name", "last_name", "email", "company", "phone", "city", "state", "postcode", "status")


def _account(row: Row) -> Body:
    country = {"country": row.country} if row.country else {}
    created = {"address": row.address1, "created_at": AdminDialect.instant(row.created_at)}
    return {name: getattr(row, name) for name in SHOWN} | country | created


VIEWS = Views.same(_account)


async def _columns(body: dict[str, Any], user: Caller) -> dict[str, Any]:
    """The columns that a body names; the street has one column under two names."""
    values = {("address1" if name == "address" else name): value for name, value in body.items()}
    if "password" in values:
        values["password_hash"] = await hashed(values.pop("password"), (user.actor, user.actor_id))
    return values


async def list_clients(
    user: Caller,
    db: Connection,
    page: int = 1,
    limit: int = 20,
    after: int | None = None,
    email: str | None = None,
    phone: str | None = None,
    q: str | None = None,
) -> HandlerResult:
    """A page of clients."""
    where = {"email": email, "phone": phone, "q": q}
    found = await clients.page(db, page=page, limit=limit, after=after, **where)
    return user.dialect.page(VIEWS, found, "/clients", **where)


async def get_client(id: int, user: Caller, db: Connection) -> HandlerResult:
    """One client."""
    return user.dialect.item(VIEWS, await clients.get(db, id))


async def create_client(body: dict[str, Any], user: Caller, db: Connection, now: datetime) -> HandlerResult:
    """Register a client."""
    client = await clients.create(db, await _columns(body, user), now)
    await outbox.record(db, "client.created", _account(client), now)
    return user.dialect.created(VIEWS, client)


async def update_client(
    id: int, body: dict[str, Any], user: Caller, db: Connection, if_match: str | None = None
) -> HandlerResult:
    """Change the members that the body names."""
    changed = await clients.update(db, id, await _columns(body, user), versions(if_match))
    return user.dialect.item(VIEWS, changed)


async def delete_client(
    id: int, user: Caller, db: Connection, now: datetime, if_match: str | None = None
) -> HandlerResult:
    """Delete a client whose business is done."""
    await clients.delete(db, id, now, versions(if_match))
    return user.dialect.item(DELETED, id)
