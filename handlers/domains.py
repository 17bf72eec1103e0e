"""Domains (CloudBill, "GET /api/v1/domains")."""

from handlers.caller import Caller
from handlers.dialects import COMPLETE, Answer, Body, ClientDialect, Views
from persistence import domains
from persistence.database import Connection, Row


def _view(row: Row) -> Body:
    return {
        "id": row.id,
        "domain": row.domain,
        "status": row.status,
        "registered_at": ClientDialect.instant(row.registered_at),
        "expires_at": ClientDialect.instant(row.expires_at),
    }


VIEWS = Views(client=_view, admin=_view)


async def list_domains(user: Caller, db: Connection) -> Answer:
    """All domains of the client."""
    found = await domains.page(db, client_id=user.own, limit=COMPLETE)
    return user.dialect.complete(VIEWS, found, "/domains")
