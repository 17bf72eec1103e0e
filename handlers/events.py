"""Events (ArcBilling, "Webhooks"), for clients that poll. Neither document has this operation."""

import orjson

from handlers.caller import Caller
from handlers.dialects import Body, HandlerResult, Views
from persistence import events
from persistence.database import Connection, Row


def _event(row: Row) -> Body:
    # The event's name, its timestamp and its data.
    frozen: Body = orjson.loads(row.base)
    return {"id": row.id, "uid": row.uid} | frozen


VIEWS = Views.same(_event)


async def list_events(
    user: Caller,
    db: Connection,
    page: int = 1,
    limit: int = 20,
    after: int | None = None,
    type: str | None = None,
) -> HandlerResult:
    """A page of what happened, oldest first."""
    found = await events.page(db, page=page, limit=limit, after=after, event=type)
    return user.dialect.page(VIEWS, found, "/events", type=type)


async def get_event(id: int, user: Caller, db: Connection) -> HandlerResult:
    """One event."""
    return user.dialect.item(VIEWS, await events.get(db, id))
