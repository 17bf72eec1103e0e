"""API tokens: a client's credential. The secret is shown once; its digest is kept."""

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, ForeignKey, Index, String, and_, bindparam, or_, select, text, update
from sqlalchemy.orm import Mapped, mapped_column

from persistence import clients, credentials
from persistence.database import Connection, Row
from persistence.listing import Listing, Page
from persistence.statements import insert_returning, require
from persistence.types import Base, BigIntId, UtcDateTime


class Token(Base):
    __tablename__ = "tokens"
    __table_args__ = (
        Index(
            "ix_tokens_live",
            "client_id",
            "id",
            sqlite_where=text("revoked_at IS NULL"),
            postgresql_where=text("revoked_at IS NULL"),
        ),
    )

    id: Mapped[int] = mapped_column(BigIntId, primary_key=True)
    client_id: Mapped[int] = mapped_column(BigIntId, ForeignKey("clients.id"), index=True)
    digest: Mapped[str] = mapped_column(String(64), unique=True)
    beginning: Mapped[str] = mapped_column(String(8))
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    expires_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    last_used_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    revoked_at: Mapped[datetime | None] = mapped_column(UtcDateTime)


TABLE = Token.__table__

FIND = select(TABLE.c.id, TABLE.c.client_id, TABLE.c.digest, TABLE.c.expires_at, TABLE.c.last_used_at).where(
    TABLE.c.digest == bindparam("secret_digest"),
    TABLE.c.revoked_at.is_(None),
    or_(TABLE.c.expires_at.is_(None), TABLE.c.expires_at > bindparam("now", type_=UtcDateTime)),
)

LIST = Listing(
    select(TABLE),
    TABLE.c.id,
    live=TABLE.c.revoked_at.is_(None),
    client_id=TABLE.c.client_id == bindparam("client_id", type_=BigInteger),
)

INSERT = insert_returning(Token, "client_id", "digest", "beginning", "created_at", "expires_at")

REVOKE = (
    update(Token)
    .values(revoked_at=bindparam("now", type_=UtcDateTime))
    .where(
        and_(
            TABLE.c.id == bindparam("key", type_=BigInteger),
            TABLE.c.client_id == bindparam("of", type_=BigInteger),
            TABLE.c.revoked_at.is_(None),
        )
    )
    .returning(TABLE.c.id)
)

USED = (
    update(Token)
    .values(last_used_at=bindparam("now", type_=UtcDateTime))
    .where(
        TABLE.c.id == bindparam("key", type_=BigInteger),
        or_(TABLE.c.last_used_at.is_(None), TABLE.c.last_used_at <= bindparam("before", type_=UtcDateTime)),
    )
)


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
