"""API tokens: a client's credential. The secret is shown once; its digest is kept."""

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, ForeignKey, bindparam, select
from sqlalchemy.orm import Mapped, mapped_column

from persistence import clients, credentials
from persistence.database import Connection, Row
from persistence.listing import Listing, Page
from persistence.statements import insert_returning, require
from persistence.types import Base, BigIntId


class Token(credentials.CredentialColumns, Base):
    __tablename__ = "tokens"
    __table_args__ = (credentials.live_index("ix_tokens_live", "client_id", "id"),)

    id: Mapped[int] = mapped_column(BigIntId, primary_key=True)
    client_id: Mapped[int] = mapped_column(BigIntId, ForeignKey("clients.id"), index=True)


TABLE = Token.__table__

FIND = credentials.select_live(TABLE, TABLE.c.client_id)

LIST = Listing(
    select(TABLE),
    TABLE.c.id,
    live=TABLE.c.revoked_at.is_(None),
    client_id=TABLE.c.client_id == bindparam("client_id", type_=BigInteger),
)

INSERT = insert_returning(Token, "client_id", "digest", "beginning", "created_at", "expires_at")

REVOKE = credentials.revoke_by_id(TABLE).where(TABLE.c.client_id == bindparam("of", type_=BigInteger))

USED = credentials.record_use_by_id(TABLE)


async def find(db: Connection, secret: str, now: datetime) -> Row | None:
    """The live token with this secret, or None."""
    return await db.fetch_one(FIND, secret_digest=credentials.digest(secret), now=now)


async def page(db: Connection, client_id: int, **where: Any) -> Page:
    """A page of the live tokens of a client, newest first. Raises NotFound."""
    await clients.get(db, client_id)
    return await LIST.page(db, live=True, client_id=client_id, **where)


async def create(
    db: Connection, client_id: int, secret: str, now: datetime, expires_at: datetime | None = None
) -> Row:
    """Keep a new secret of a client. Raises NotFound, Conflict."""
    await clients.hold(db, client_id)
    kept = credentials.credential_columns(secret, now, expires_at)
    return await require(db, INSERT, "token", client_id=client_id, **kept)


async def revoke(db: Connection, client_id: int, id: int, now: datetime) -> None:
    """Make a token dead. Raises NotFound."""
    await clients.get(db, client_id)
    await require(db, REVOKE, "token", of=client_id, key=id, now=now)


async def record_use(db: Connection, id: int, now: datetime) -> None:
    """Keep when a token was used, once a minute however many processes see it."""
    await db.execute(USED, key=id, now=now, before=now - credentials.LAST_USED_RESOLUTION)
