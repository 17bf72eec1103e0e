"""Tokens of clients (CloudBill, "Clients → Edit → API Token"). A secret is shown once."""

import secrets
from datetime import datetime
from typing import Any

from handlers.caller import Caller
from handlers.dialects import DELETED, AdminDialect, Body, HandlerResult, Views, credential_dates, instant
from persistence import credentials, tokens
from persistence.database import Connection, Row

CLIENT_SCOPES = (
    *("announcements:read", "clients:read", "clients:write", "departments:read", "domains:read"),
    *("invoices:read", "knowledgebase:read", "services:read", "tickets:read", "tickets:write"),
)
"""The scopes that allow an API key what a client's token may do. A rule holds them to the contract."""


def _token(row: Row) -> Body:
    known = {"id": row.id, "client_id": row.client_id, "beginning": row.beginning}
    return known | credential_dates(row, AdminDialect)


def _created(row: Row, secret: str) -> Body:
    return _token(row) | {"token": secret}


VIEWS = Views.same(_token)
CREATED = Views.same(_created)


async def list_tokens(
    id: int, user: Caller, db: Connection, page: int = 1, limit: int = 20, after: int | None = None
) -> HandlerResult:
    """A page of a client's live tokens."""
    found = await tokens.page(db, id, page=page, limit=limit, after=after)
    return user.dialect.page(VIEWS, found, f"/clients/{id}/tokens")


async def create_token(
    id: int, user: Caller, db: Connection, now: datetime, body: dict[str, Any] | None = None
) -> HandlerResult:
    """Make a token and show it; it does no more and lives no longer than the key that calls."""
    expires_at = instant(body["expires_at"]) if body and "expires_at" in body else None
    user.require_grantable(CLIENT_SCOPES, expires_at, "create a client's token")
    secret = credentials.mint("cbt_", secrets.choice)
    return user.dialect.created(CREATED, await tokens.create(db, id, secret, now, expires_at), secret)


async def revoke_token(id: int, token_id: int, user: Caller, db: Connection, now: datetime) -> HandlerResult:
    """Make a token dead."""
    await tokens.revoke(db, id, token_id, now)
    return user.dialect.item(DELETED, token_id)
