"""API keys: the operator's credential, with the scopes that it may use."""

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import String, bindparam, insert, or_, select
from sqlalchemy.orm import Mapped, mapped_column

from persistence import credentials
from persistence.database import Base, Connection, Instant, Key, Row


class ApiKey(Base):
    __tablename__ = "api_keys"

    id: Mapped[int] = mapped_column(Key, primary_key=True)
    name: Mapped[str] = mapped_column(String(100))
    # Separated by blanks, as in OAuth: a scope has none.
    scopes: Mapped[str] = mapped_column(String(1000))
    digest: Mapped[str] = mapped_column(String(64), unique=True)
    created_at: Mapped[datetime] = mapped_column(Instant)
    expires_at: Mapped[datetime | None] = mapped_column(Instant)
    revoked_at: Mapped[datetime | None] = mapped_column(Instant)


TABLE = ApiKey.__table__

FIND = select(TABLE.c.id, TABLE.c.scopes, TABLE.c.digest).where(
    TABLE.c.digest == bindparam("secret_digest"),
    TABLE.c.revoked_at.is_(None),
    or_(TABLE.c.expires_at.is_(None), TABLE.c.expires_at > bindparam("now", type_=Instant)),
)

INSERT = insert(ApiKey).values(dict.fromkeys(["name", "scopes", "digest", "created_at", "expires_at"]))


async def find(db: Connection, secret: str, now: datetime) -> Row | None:
    """The live key with this secret, or None."""
    return await db.one(FIND, secret_digest=credentials.digest(secret), now=now)


async def create(db: Connection, name: str, scopes: Sequence[str], secret: str, now: datetime) -> None:
    """Keep a new secret of the operator."""
    await db.run(
        INSERT, name=name, scopes=" ".join(scopes), digest=credentials.digest(secret), created_at=now
    )
