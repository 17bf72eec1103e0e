"""Domains (CloudBill, "GET /api/v1/domains"); keeping them stands in neither document."""

from datetime import datetime
from typing import Any

from handlers.caller import Caller
from handlers.dialects import (
    DELETED,
    AdminDialect,
    Body,
    ClientDialect,
    HandlerResult,
    Views,
    instant,
    versions,
)
from persistence import domains
from persistence.database import Connection, Row


def _client_view(row: Row) -> Body:
    return {
        "id": row.id,
        "domain": row.domain,
        "status": row.status,
        "registered_at": ClientDialect.instant(row.registered_at),
        "expires_at": ClientDialect.instant(row.expires_at),
    }


def _admin_view(row: Row) -> Body:
    return {
        "id": row.id,
        "client_id": row.client_id,
        "domain": row.domain,
        "status": row.status,
        "registered_at": AdminDialect.instant(row.registered_at),
        "expires_at": AdminDialect.instant(row.expires_at),
    }


VIEWS = Views(client=_client_view, admin=_admin_view)


def _columns(body: dict[str, Any]) -> dict[str, Any]:
    """The columns that a body names."""
    return {name: instant(value) if name.endswith("_at") else value for name, value in body.items()}


async def list_domains(
    user: Caller,
    db: Connection,
    client_id: int | None = None,
    status: str | None = None,
    domain: str | None = None,
    page: int = 1,
    limit: int = 20,
    after: int | None = None,
) -> HandlerResult:
    """All domains of the client, or a page of everyone's."""
    where: dict[str, Any] = {"client_id": client_id, "status": status, "domain": domain} | user.client_filter
    found = await domains.page(db, page=page, limit=user.dialect.list_limit(limit), after=after, **where)
    return user.dialect.unpaged_list(VIEWS, found, "/domains", **where)


async def get_domain(id: int, user: Caller, db: Connection) -> HandlerResult:
    """One domain."""
    return user.dialect.item(VIEWS, await domains.get(db, id))


async def create_domain(body: dict[str, Any], user: Caller, db: Connection, now: datetime) -> HandlerResult:
    """Add a domain of a client, by default one that is registered now and active."""
    values = {"status": "active", "registered_at": now} | _columns(body)
    return user.dialect.created(VIEWS, await domains.create(db, values))


async def update_domain(
    id: int, body: dict[str, Any], user: Caller, db: Connection, if_match: str | None = None
) -> HandlerResult:
    """Change the members that the body names."""
    changed = await domains.update(db, id, _columns(body), versions(if_match))
    return user.dialect.item(VIEWS, changed)


async def delete_domain(id: int, user: Caller, db: Connection, if_match: str | None = None) -> HandlerResult:
    """Take a domain out of the books."""
    await domains.delete(db, id, versions(if_match))
    return user.dialect.item(DELETED, id)
