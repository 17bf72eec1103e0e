"""The account of the client who calls (CloudBill, "GET /api/v1/profile")."""

from typing import Any

from handlers.caller import Caller
from handlers.dialects import Body, ClientDialect, HandlerResult, Views, versions
from persistence import clients
from persistence.database import Connection, Row

COLUMNS = (
    "id",
    "first_name",
    "last_name",
    "email",
    "phone",
    "company",
    "address1",
    "city",
    "state",
    "postcode",
)


def _profile(row: Row) -> Body:
    country = {"country": row.country} if row.country else {}
    created = {"created_at": ClientDialect.instant(row.created_at)}
    return {name: getattr(row, name) for name in COLUMNS} | country | created


VIEWS = Views.same(_profile)


async def get_profile(user: Caller, db: Connection) -> HandlerResult:
    """The client's own account."""
    return user.dialect.item(VIEWS, await clients.get(db, user.require_client_id))


async def update_profile(
    body: dict[str, Any], user: Caller, db: Connection, if_match: str | None = None
) -> HandlerResult:
    """Change the members that the body names; the contract says which may be."""
    return user.dialect.item(
        VIEWS, await clients.update(db, user.require_client_id, body, versions(if_match))
    )
