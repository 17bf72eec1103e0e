"""Departments: the ids that a ticket's ``department_id`` takes. In neither document."""

from typing import Any

from handlers.caller import Caller
from handlers.dialects import Body, HandlerResult, Views, versions
from persistence import departments
from persistence.database import Connection, Row


def _view(row: Row) -> Body:
    return {"id": row.id, "name": row.name}


VIEWS = Views.same(_view)


async def list_departments(
    user: Caller, db: Connection, page: int = 1, limit: int = 20, after: int | None = None
) -> HandlerResult:
    """All active departments, to an operator in pages."""
    found = await departments.page(db, page=page, limit=user.dialect.list_limit(limit), after=after)
    return user.dialect.unpaged_list(VIEWS, found, "/departments")


async def get_department(id: int, user: Caller, db: Connection) -> HandlerResult:
    """One department, also one that is inactive."""
    return user.dialect.item(VIEWS, await departments.get(db, id))


async def create_department(body: dict[str, Any], user: Caller, db: Connection) -> HandlerResult:
    """Add a department."""
    return user.dialect.created(VIEWS, await departments.create(db, {"status": "active"} | body))


async def update_department(
    id: int, body: dict[str, Any], user: Caller, db: Connection, if_match: str | None = None
) -> HandlerResult:
    """Change the members that the body names."""
    changed = await departments.update(db, id, body, versions(if_match))
    return user.dialect.item(VIEWS, changed)
