"""API keys (ArcBilling, "Admin Panel → Settings → API"). A secret is shown once."""

import secrets
from datetime import datetime
from typing import Any

from handlers.caller import Caller
from handlers.dialects import DELETED, AdminDialect, Body, HandlerResult, Views, credential_dates, instant
from persistence import api_keys, credentials
from persistence.database import Connection, Row


def _key(row: Row) -> Body:
    known = {"id": row.id, "name": row.name, "scopes": row.scopes.split(), "beginning": row.beginning}
    return known | credential_dates(row, AdminDialect)


def _created(row: Row, secret: str) -> Body:
    return _key(row) | {"key": secret}


VIEWS = Views.same(_key)
CREATED = Views.same(_created)


async def list_api_keys(
    user: Caller, db: Connection, page: int = 1, limit: int = 20, after: int | None = None
) -> HandlerResult:
    """A page of the live keys."""
    found = await api_keys.page(db, page=page, limit=limit, after=after)
    return user.dialect.page(VIEWS, found, "/api-keys")


async def create_api_key(body: dict[str, Any], user: Caller, db: Connection, now: datetime) -> HandlerResult:
    """Make a key and show it; it does no more and lives no longer than the key that calls."""
    scopes = sorted(set(body["scopes"]))
    expires_at = instant(body["expires_at"]) if "expires_at" in body else None
    user.require_grantable(scopes, expires_at, "create this key")
    secret = credentials.mint("arc_", secrets.choice)
    made = await api_keys.create(db, body["name"], scopes, secret, now, expires_at)
    return user.dialect.created(CREATED, made, secret)


async def revoke_api_key(id: int, user: Caller, db: Connection, now: datetime) -> HandlerResult:
    """Make a key dead."""
    await api_keys.revoke(db, id, user.key_id, now)
    return user.dialect.item(DELETED, id)
