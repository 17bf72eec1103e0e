"""The knowledgebase (CloudBill, "GET /api/v1/knowledgebase")."""

from handlers.caller import Caller
from handlers.dialects import Answer, Body, Views
from persistence import knowledgebase
from persistence.database import Connection, Row


def _view(row: Row) -> Body:
    return {"id": row.id, "title": row.title, "category": row.category, "content": row.content}


VIEWS = Views(client=_view, admin=_view)


async def search_knowledgebase(
    user: Caller,
    db: Connection,
    q: str | None = None,
    category: int | None = None,
    page: int = 1,
    limit: int = 20,
    after: int | None = None,
) -> Answer:
    """A page of articles, the best match first."""
    found = await knowledgebase.page(db, q=q, category=category, page=page, limit=limit, after=after)
    return user.dialect.page(VIEWS, found, "/knowledgebase", q=q, category=category)
