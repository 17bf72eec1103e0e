"""Announcements (CloudBill, "GET /api/v1/announcements")."""

from datetime import datetime

from handlers.caller import Caller
from handlers.dialects import Answer, Body, ClientDialect, Views
from persistence import announcements
from persistence.database import Connection, Page, Row

NEWEST = 20


def _view(row: Row) -> Body:
    return {
        "id": row.id,
        "title": row.title,
        "content": row.content,
        "published_at": ClientDialect.instant(row.published_at),
    }


VIEWS = Views(client=_view, admin=_view)


async def list_announcements(user: Caller, db: Connection, now: datetime) -> Answer:
    """The newest published ones."""
    rows = await announcements.published(db, now=now, limit=NEWEST)
    return user.dialect.complete(VIEWS, Page(rows, 1, NEWEST, len(rows), False), "/announcements")
