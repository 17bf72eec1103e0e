"""Invoices (CloudBill, "GET /api/v1/invoices"; ArcBilling, "Invoices")."""

from collections.abc import Sequence
from datetime import date, datetime
from typing import Any

from handlers.caller import Caller
from handlers.dialects import (
    AdminDialect,
    Body,
    ClientDialect,
    Dialect,
    HandlerResult,
    Views,
    amounts,
    calendar_day,
    day,
)
from persistence import invoices
from persistence.database import Connection, Row
from webhooks import outbox


def _row(row: Row, dialect: type[Dialect]) -> Body:
    return {
        "id": row.id,
        "invoice_number": invoices.number(row.id),
        "client_id": row.client_id,
        "status": row.status,
        "total": str(row.total),
        "currency": row.currency,
        "due_date": day(row.due_date),
        "paid_at": dialect.instant(row.paid_at) if row.paid_at else None,
        "created_at": dialect.instant(row.created_at),
    }


def _item(row: Row, lines: Sequence[Row], dialect: type[Dialect]) -> Body:
    items = [{"description": line.description, "amount": str(line.amount)} for line in lines]
    return _row(row, dialect) | {"items": items}


def _paid(row: Row) -> Body:
    """Return the data of the event ``invoice.paid``."""
    return {"id": row.id, "client_id": row.client_id, "total": str(row.total), "currency": row.currency}


def _day(text: str | None) -> date | None:
    return calendar_day(text) if text else None


VIEWS = Views(
    client=lambda row, lines: _item(row, lines, ClientDialect),
    client_row=lambda row: _row(row, ClientDialect),
    admin=lambda row, lines: _item(row, lines, AdminDialect),
    admin_row=lambda row: _row(row, AdminDialect),
)


async def list_invoices(
    user: Caller,
    db: Connection,
    now: datetime,
    page: int = 1,
    limit: int = 20,
    after: str | None = None,
    status: str | None = None,
    client_id: int | None = None,
    invoice_number: str | None = None,
    due_from: str | None = None,
    due_to: str | None = None,
) -> HandlerResult:
    """A page of a client's own, or of everyone's."""
    mine: dict[str, Any] = {"client_id": client_id, "status": status} | user.client_filter
    mine |= {"due_from": _day(due_from), "due_to": _day(due_to)}
    found = await invoices.page(
        db, page=page, limit=limit, after=after, today=now.date(), number=invoice_number, **mine
    )
    where = {"client_id": client_id, "status": status, "invoice_number": invoice_number}
    return user.dialect.page(VIEWS, found, "/invoices", **where, due_from=due_from, due_to=due_to)


async def get_invoice(id: int, user: Caller, db: Connection, now: datetime) -> HandlerResult:
    """One invoice with its lines."""
    return user.dialect.item(VIEWS, *await invoices.get(db, id, user.client_id, now.date()))


async def create_invoice(body: dict[str, Any], user: Caller, db: Connection, now: datetime) -> HandlerResult:
    """Make an unpaid invoice over the exact sum of its lines."""
    items, due = body["items"], calendar_day(body["due_date"])
    exact = amounts((item["amount"] for item in items), lambda nth: f"/items/{nth}/amount")
    lines = [invoices.Line(item["description"], each) for item, each in zip(items, exact, strict=True)]
    made = await invoices.create(db, client_id=body["client_id"], due_date=due, lines=lines, now=now)
    await outbox.record(db, "invoice.created", _row(made[0], AdminDialect), now)
    return user.dialect.created(VIEWS, *made)


async def pay_invoice(id: int, user: Caller, db: Connection, now: datetime) -> HandlerResult:
    """unpaid or overdue → paid."""
    paid = await invoices.pay(db, id, now)
    await outbox.record(db, "invoice.paid", _paid(paid[0]), now)
    return user.dialect.item(VIEWS, *paid)
