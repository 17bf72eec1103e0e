"""Tickets (CloudBill, "POST /api/v1/tickets"; ArcBilling, "Support Tickets")."""

import secrets
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from handlers.caller import Caller
from handlers.dialects import AdminDialect, Body, ClientDialect, Dialect, HandlerResult, Views, excerpt
from persistence import tickets
from persistence.database import Connection, Row
from webhooks import outbox

PRIORITIES = {1: "low", 2: "medium", 3: "high"}
PRIORITY_IDS = {name: id for id, name in PRIORITIES.items()}


def _row(row: Row, dialect: type[Dialect]) -> Body:
    return {
        "id": row.id,
        "ticket_number": row.ticket_number,
        "client_id": row.client_id,
        "department_id": row.department_id,
        "subject": row.subject,
        "status": row.status,
        "created_at": dialect.instant(row.created_at),
        "updated_at": dialect.instant(row.updated_at),
    }


def _client_row(row: Row) -> Body:
    return _row(row, ClientDialect) | {"priority_id": PRIORITY_IDS[row.priority]}


def _admin_row(row: Row) -> Body:
    return _row(row, AdminDialect) | {"priority": row.priority}


def _event_data(row: Row) -> Body:
    """A ticket as an event describes it."""
    return _admin_row(row) | {"message": excerpt(row.message)}


def _client_reply(row: Row) -> Body:
    return _reply(row, ClientDialect)


def _admin_reply(row: Row) -> Body:
    return _reply(row, AdminDialect)


def _reply(row: Row, dialect: type[Dialect]) -> Body:
    return {
        "id": row.id,
        "author": row.author,
        "message": row.message,
        "created_at": dialect.instant(row.created_at),
    }


def _thread(row: Row, replies: Sequence[Row], dialect: type[Dialect]) -> Body:
    return {
        "message": row.message,
        "replies": [_reply(each, dialect) for each in replies],
    }


VIEWS = Views(
    client=lambda row, replies: _client_row(row) | _thread(row, replies, ClientDialect),
    client_row=_client_row,
    admin=lambda row, replies: _admin_row(row) | _thread(row, replies, AdminDialect),
    admin_row=_admin_row,
)

REPLIES = Views(client=_client_reply, admin=_admin_reply)

OPENED = Views(
    client=lambda row, _: {"success": True, "ticket_id": row.id, "ticket_number": row.ticket_number},
    admin=VIEWS.admin,
)


def number() -> str:
    """A ticket number such as TKT-A3F7B2C1, which may be taken."""
    return f"TKT-{secrets.token_hex(4).upper()}"


async def list_tickets(
    user: Caller,
    db: Connection,
    page: int = 1,
    limit: int = 20,
    after: int | None = None,
    client_id: int | None = None,
    status: str | None = None,
    department_id: int | None = None,
    ticket_number: str | None = None,
    q: str | None = None,
) -> HandlerResult:
    """All of a client's own, or a page of everyone's."""
    where: dict[str, Any] = {"client_id": client_id, "status": status, "department_id": department_id}
    where |= {"ticket_number": ticket_number, "q": q}
    mine = where | user.client_filter
    found = await tickets.page(db, page=page, limit=user.dialect.list_limit(limit), after=after, **mine)
    return user.dialect.unpaged_list(VIEWS, found, "/tickets", **where)


async def get_ticket(id: int, user: Caller, db: Connection) -> HandlerResult:
    """One ticket with its latest replies."""
    return user.dialect.item(VIEWS, *await tickets.get(db, id, user.client_id))


async def list_replies(
    id: int, user: Caller, db: Connection, page: int = 1, limit: int = 20, after: int | None = None
) -> HandlerResult:
    """A page of the replies to a ticket, newest first."""
    found = await tickets.replies(db, id, user.client_id, page=page, limit=limit, after=after)
    return user.dialect.page(REPLIES, found, f"/tickets/{id}/replies")


async def create_ticket(body: dict[str, Any], user: Caller, db: Connection, now: datetime) -> HandlerResult:
    """Open a ticket; each dialect has its own body and its own answer."""
    values = {"priority": PRIORITIES[body.get("priority_id", 2)]} | body | user.client_filter
    values.pop("priority_id", None)
    ticket = await tickets.create(db, **values, now=now, number=number)
    await outbox.record(db, "ticket.opened", _event_data(ticket), now)
    return user.dialect.created(OPENED, ticket, [])


async def reply_to_ticket(
    id: int, body: dict[str, Any], user: Caller, db: Connection, now: datetime
) -> HandlerResult:
    """Reply as the client or as the staff."""
    await tickets.reply(db, id, user.client_id, body["message"], now)
    ticket, replies = await tickets.get(db, id, user.client_id)
    await outbox.record(db, "ticket.replied", _event_data(ticket), now)
    return user.dialect.created(VIEWS, ticket, replies)


async def close_ticket(id: int, user: Caller, db: Connection, now: datetime) -> HandlerResult:
    """any open state → closed."""
    await tickets.close(db, id, user.client_id, now)
    return user.dialect.item(VIEWS, *await tickets.get(db, id, user.client_id))
