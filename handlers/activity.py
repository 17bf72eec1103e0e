"""Activity: who changed what. In neither document.

The pipeline writes it, so that no handler can forget it.
"""

from handlers.caller import Caller
from handlers.dialects import AdminDialect, Body, HandlerResult, Views
from persistence import activity
from persistence.database import Connection, Row


def _view(row: Row) -> Body:
    return {
        "id": row.id,
        "actor": row.actor,
        "actor_id": row.actor_id,
        "actor_name": row.actor_name,
        "operation": row.operation,
        "resource": row.resource,
        "request_id": row.request_id,
        "created_at": AdminDialect.instant(row.created_at),
    }


VIEWS = Views.same(_view)


async def list_activity(
    user: Caller,
    db: Connection,
    actor: str | None = None,
    operation: str | None = None,
    resource: str | None = None,
    page: int = 1,
    limit: int = 20,
    after: int | None = None,
) -> HandlerResult:
    """A page of what was changed, newest first."""
    where = {"actor": actor, "operation": operation, "resource": resource}
    found = await activity.page(db, page=page, limit=limit, after=after, **where)
    return user.dialect.page(VIEWS, found, "/activity", **where)
