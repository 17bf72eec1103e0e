"""API keys: the operator's credential, with the scopes that it may use."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import String, select, true
from sqlalchemy.orm import Mapped, mapped_column

from persistence import credentials
from persistence.database import Connection, Row
from persistence.errors import Conflict
from persistence.listing import CountedBy, Listing, Page
from persistence.statements import insert_returning, require
from persistence.types import Base, BigIntId


class ApiKey(credentials.CredentialColumns, Base):
    __tablename__ = "api_keys"
    __table_args__ = (credentials.live_index("ix_api_keys_live", "id"),)

    id: Mapped[int] = mapped_column(BigIntId, primary_key=True)
    name: Mapped[str] = mapped_column(String(100))
    # Separated by blanks, as in OAuth: a scope has none.
    scopes: Mapped[str] = mapped_column(String(1000))


TABLE = ApiKey.__table__

FIND = credentials.select_live(TABLE, TABLE.c.scopes)

LIST = Listing(
    select(TABLE),
    TABLE.c.id,
    tallied=[CountedBy("api_keys", live=true())],
    live=TABLE.c.revoked_at.is_(None),
)

INSERT = insert_returning(ApiKey, "name", "scopes", "digest", "beginning", "created_at", "expires_at")

REVOKE = credentials.revoke_by_id(TABLE)

USED = credentials.record_use_by_id(TABLE)


async def find(db: Connection, secret: str, now: datetime) -> Row | None:
    """The live key with this secret, or None."""
    return await db.fetch_one(FIND, secret_digest=credentials.digest(secret), now=now)


async def page(db: Connection, **where: Any) -> Page:
    """A page of the live keys, newest first."""
    return await LIST.page(db, live=True, **where)


async def create(
    db: Connection,
    name: str,
    scopes: Sequence[str],
    secret: str,
    now: datetime,
    expires_at: datetime | None = None,
) -> Row:
    """Keep a new secret of the operator. Raises Conflict."""
    kept = credentials.credential_columns(secret, now, expires_at)
    return await require(db, INSERT, "API key", name=name, scopes=" ".join(scopes), **kept)


async def revoke(db: Connection, id: int, caller: int | None, now: datetime) -> None:
    """Make a key dead, but not the ``caller``'s own, if it is one. Raises NotFound, Conflict."""
    if id == caller:
        raise Conflict("A key cannot revoke itself; use another one.")
    await require(db, REVOKE, "API key", key=id, now=now)


async def record_use(db: Connection, id: int, now: datetime) -> None:
    """Keep when a key was used, once a minute however many processes see it."""
    await db.execute(USED, key=id, now=now, before=now - credentials.LAST_USED_RESOLUTION)
