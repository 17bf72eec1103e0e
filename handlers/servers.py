"""Servers (ArcBilling, "Servers"); adding and changing them stands in neither document."""

from typing import Any

from handlers.caller import Caller
from handlers.dialects import Body, HandlerResult, Views, versions
from persistence import servers
from persistence.database import Connection, Row

COLUMNS = ("id", "name", "hostname", "ip_address", "kind", "status", "capacity", "used")


def _view(row: Row) -> Body:
    return {name: getattr(row, name) for name in COLUMNS}


VIEWS = Views.same(_view)


async def list_servers(
    user: Caller, db: Connection, page: int = 1, limit: int = 20, after: int | None = None
) -> HandlerResult:
    """A page of servers."""
    found = await servers.page(db, page=page, limit=limit, after=after)
    return user.dialect.page(VIEWS, found, "/servers")


async def get_server(id: int, user: Caller, db: Connection) -> HandlerResult:
    """One server."""
    return user.dialect.item(VIEWS, await servers.get(db, id))


async def create_server(body: dict[str, Any], user: Caller, db: Connection) -> HandlerResult:
    """Add a server."""
    return user.dialect.created(VIEWS, await servers.create(db, {"status": "active"} | body))


async def update_server(
    id: int, body: dict[str, Any], user: Caller, db: Connection, if_match: str | None = None
) -> HandlerResult:
    """Change the members that the body names."""
    changed = await servers.update(db, id, body, versions(if_match))
    return user.dialect.item(VIEWS, changed)
