"""Services (CloudBill, "GET /api/v1/services"; ArcBilling, "Services")."""

from datetime import datetime
from typing import Any

from handlers.caller import Caller
from handlers.dialects import AdminDialect, Body, ClientDialect, Dialect, HandlerResult, Views, day
from persistence import services
from persistence.database import Connection, Row
from webhooks import outbox


def _row(row: Row) -> Body:
    return {
        "id": row.id,
        "product_name": row.product_name,
        "domain": row.domain,
        "status": row.status,
        "next_due_date": day(row.next_due_date),
    }


def _item(row: Row, dialect: type[Dialect]) -> Body:
    return {
        "id": row.id,
        "client_id": row.client_id,
        "product_id": row.product_id,
        "product_name": row.product_name,
        "domain": row.domain,
        "username": row.username,
        "status": row.status,
        "billing_cycle": row.billing_cycle,
        "next_due_date": day(row.next_due_date),
        "suspend_reason": row.suspend_reason,
        "created_at": dialect.instant(row.created_at),
    }


def _admin(row: Row) -> Body:
    body = _item(row, AdminDialect)
    body["server_id"] = row.server_id
    return body


VIEWS = Views(client=lambda row: _item(row, ClientDialect), client_row=_row, admin=_admin)


async def list_services(
    user: Caller,
    db: Connection,
    page: int = 1,
    limit: int = 20,
    after: int | None = None,
    client_id: int | None = None,
    status: str | None = None,
    product_id: int | None = None,
    domain: str | None = None,
    username: str | None = None,
) -> HandlerResult:
    """All of a client's own, or a page of everyone's."""
    where: dict[str, Any] = {"client_id": client_id, "status": status, "product_id": product_id}
    where |= {"domain": domain, "username": username}
    mine = where | user.client_filter
    found = await services.page(db, page=page, limit=user.dialect.list_limit(limit), after=after, **mine)
    return user.dialect.unpaged_list(VIEWS, found, "/services", **where)


async def get_service(id: int, user: Caller, db: Connection) -> HandlerResult:
    """One service with full details."""
    return user.dialect.item(VIEWS, await services.get(db, id, user.client_id))


async def create_service(body: dict[str, Any], user: Caller, db: Connection, now: datetime) -> HandlerResult:
    """Provision a service on the least loaded server."""
    service = await services.create(db, **{"domain": "", "username": ""} | body, now=now)
    await outbox.record(db, "service.created", _admin(service), now)
    return user.dialect.created(VIEWS, service)


async def suspend_service(
    id: int, user: Caller, db: Connection, now: datetime, body: dict[str, Any] | None = None
) -> HandlerResult:
    """active → suspended."""
    service = await services.suspend(db, id, (body or {}).get("reason", ""))
    await outbox.record(db, "service.suspended", _admin(service), now)
    return user.dialect.item(VIEWS, service)


async def unsuspend_service(id: int, user: Caller, db: Connection) -> HandlerResult:
    """suspended → active."""
    return user.dialect.item(VIEWS, await services.unsuspend(db, id))


async def terminate_service(id: int, user: Caller, db: Connection, now: datetime) -> HandlerResult:
    """active or suspended → terminated."""
    service = await services.terminate(db, id)
    await outbox.record(db, "service.terminated", _admin(service), now)
    return user.dialect.item(VIEWS, service)
