"""Announcements (CloudBill, "GET /api/v1/announcements"); writing them stands in neither document."""

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
    excerpt,
    instant,
    versions,
)
from persistence import announcements
from persistence.database import Connection, Row
from persistence.listing import Page

NEWEST = 20


def _client_view(row: Row) -> Body:
    return {
        "id": row.id,
        "title": row.title,
        "content": row.content,
        "published_at": ClientDialect.instant(row.published_at),
    }


def _admin_view(row: Row) -> Body:
    return {
        "id": row.id,
        "title": row.title,
        "content": row.content,
        "published_at": AdminDialect.instant(row.published_at) if row.published_at else None,
    }


def _client_row(row: Row) -> Body:
    return _client_view(row) | {"content": excerpt(row.content)}


def _admin_row(row: Row) -> Body:
    return _admin_view(row) | {"content": excerpt(row.content)}


VIEWS = Views(client=_client_view, client_row=_client_row, admin=_admin_view, admin_row=_admin_row)


def _columns(body: dict[str, Any]) -> dict[str, Any]:
    """The columns that a body names."""
    return {name: instant(value) if name == "published_at" else value for name, value in body.items()}


async def list_announcements(
    user: Caller, db: Connection, now: datetime, page: int = 1, limit: int = 20, after: int | None = None
) -> HandlerResult:
    """The newest published ones; to an operator a page of all."""
    if user.client_id is None:
        found = await announcements.page(db, page=page, limit=limit, after=after)
    else:
        rows = await announcements.published(db, now=now, limit=NEWEST)
        found = Page(rows, 1, NEWEST, len(rows), False)
    return user.dialect.unpaged_list(VIEWS, found, "/announcements")


async def get_announcement(id: int, user: Caller, db: Connection, now: datetime) -> HandlerResult:
    """One announcement; to an operator also one that is not published yet."""
    published_by = None if user.client_id is None else now
    return user.dialect.item(VIEWS, await announcements.get(db, id, published_by))


async def create_announcement(body: dict[str, Any], user: Caller, db: Connection) -> HandlerResult:
    """Write an announcement, which is a draft unless it says from when on it is published."""
    values = {"published_at": None} | _columns(body)
    return user.dialect.created(VIEWS, await announcements.create(db, values))


async def update_announcement(
    id: int, body: dict[str, Any], user: Caller, db: Connection, if_match: str | None = None
) -> HandlerResult:
    """Change the members that the body names."""
    changed = await announcements.update(db, id, _columns(body), versions(if_match))
    return user.dialect.item(VIEWS, changed)


async def delete_announcement(
    id: int, user: Caller, db: Connection, if_match: str | None = None
) -> HandlerResult:
    """Delete an announcement."""
    await announcements.delete(db, id, versions(if_match))
    return user.dialect.item(DELETED, id)
