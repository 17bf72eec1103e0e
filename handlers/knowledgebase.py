"""The knowledgebase (CloudBill, "GET /api/v1/knowledgebase"); writing it stands in neither document."""

from typing import Any

from handlers.caller import Caller
from handlers.dialects import DELETED, Body, HandlerResult, Views, excerpt, versions
from persistence import knowledgebase
from persistence.database import Connection, Row


def _view(row: Row) -> Body:
    return {"id": row.id, "title": row.title, "category": row.category, "content": row.content}


def _row(row: Row) -> Body:
    return _view(row) | {"content": excerpt(row.content)}


VIEWS = Views.same(_view, _row)


async def search_knowledgebase(
    user: Caller,
    db: Connection,
    q: str | None = None,
    category: int | None = None,
    page: int = 1,
    limit: int = 20,
    after: str | None = None,
) -> HandlerResult:
    """A page of articles, the best match first."""
    found = await knowledgebase.page(db, q=q, category=category, page=page, limit=limit, after=after)
    return user.dialect.page(VIEWS, found, "/knowledgebase", q=q, category=category)


async def get_article(id: int, user: Caller, db: Connection) -> HandlerResult:
    """One article."""
    return user.dialect.item(VIEWS, await knowledgebase.get(db, id))


async def create_article(body: dict[str, Any], user: Caller, db: Connection) -> HandlerResult:
    """Write an article."""
    return user.dialect.created(VIEWS, await knowledgebase.create(db, body))


async def update_article(
    id: int, body: dict[str, Any], user: Caller, db: Connection, if_match: str | None = None
) -> HandlerResult:
    """Change the members that the body names."""
    return user.dialect.item(VIEWS, await knowledgebase.update(db, id, body, versions(if_match)))


async def delete_article(id: int, user: Caller, db: Connection, if_match: str | None = None) -> HandlerResult:
    """Delete an article."""
    await knowledgebase.delete(db, id, versions(if_match))
    return user.dialect.item(DELETED, id)
