"""API tokens: a client's credential. The secret is shown once; its digest is kept."""

from datetime import datetime

from sqlalchemy import ForeignKey, String, bindparam, insert, or_, select
from sqlalchemy.orm import Mapped, mapped_column

from persistence import clients, credentials
from persistence.database import Base, Connection, Instant, Key, Row


class Token(Base):
    __tablename__ = "tokens"

    id: Mapped[int] = mapped_column(Key, primary_key=True)
    client_id: Mapped[int] = mapped_column(Key, ForeignKey("clients.id"), index=True)
    digest: Mapped[str] = mapped_column(String(64), unique=True)
    created_at: Mapped[datetime] = mapped_column(Instant)
    expires_at: Mapped[datetime | None] = mapped_column(Instant)
    revoked_at: Mapped[datetime | None] = mapped_column(Instant)


TABLE = Token.__table__

FIND = select(TABLE.c.id, TABLE.c.client_id, TABLE.c.digest).where(
    TABLE.c.digest == bindparam("secret_digest"),
    TABLE.c.revoked_at.is_(None),
    or_(TABLE.c.expires_at.is_(None), TABLE.c.expires_at > bindparam("now", type_=Instant)),
)

INSERT = insert(Token).values(dict.fromkeys(["client_id", "digest", "created_at", "expires_at"]))


async def find(db: Connection, secret: str, now: datetime) -> Row | None:
    """The live token with this secret, or None."""
    return await db.one(FIND, secret_digest=credentials.digest(secret), now=now)


async def create(db: Connection, client_id: int, secret: str, now: datetime) -> None:
    """Keep a new secret of a client. Raises NotFound."""
    await clients.hold(db, client_id)
    await db.run(INSERT, client_id=client_id, digest=credentials.digest(secret), created_at=now)
