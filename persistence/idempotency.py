"""Idempotency keys: what a caller was answered to a request, for whoever must send it again.

The row of a key is written first of all in the transaction of its request, so that a second request with
the key waits until the first is done, and is answered the same. Nothing is kept of a request that fails.
"""

from datetime import datetime, timedelta

from sqlalchemy import BigInteger, Index, Integer, String, Text, bindparam, delete, select, tuple_, update
from sqlalchemy.dialects import postgresql
from sqlalchemy.orm import Mapped, mapped_column

from persistence.database import Base, Connection, Instant, Row, exists
from persistence.errors import Conflict

LIFETIME = timedelta(hours=72)


class IdempotencyKey(Base):
    __tablename__ = "idempotency_keys"
    __table_args__ = (Index("ix_idempotency_keys_created_at", "created_at"),)

    caller: Mapped[str] = mapped_column(String(40), primary_key=True)
    key: Mapped[str] = mapped_column(String(255), primary_key=True)
    fingerprint: Mapped[str] = mapped_column(String(64))
    # Null only until the transaction commits, so nobody else ever sees that.
    status: Mapped[int | None] = mapped_column(Integer)
    headers: Mapped[str | None] = mapped_column(Text)
    body: Mapped[str | None] = mapped_column(Text)
    created_at: Mapped[datetime] = mapped_column(Instant)


TABLE = IdempotencyKey.__table__

_NEW = postgresql.insert(IdempotencyKey).values(
    dict.fromkeys(["caller", "key", "fingerprint", "status", "headers", "body", "created_at"])
)

# PostgreSQL's construct, whose ON CONFLICT SQLite's compiler writes in the same words. A key whose time
# is over is taken like a new one.
CLAIM = _NEW.on_conflict_do_update(
    index_elements=["caller", "key"],
    set_={name: _NEW.excluded[name] for name in ("fingerprint", "status", "headers", "body", "created_at")},
    where=TABLE.c.created_at < bindparam("before", type_=Instant),
).returning(TABLE.c.key)

_THIS = (TABLE.c.caller == bindparam("of"), TABLE.c.key == bindparam("named"))

GET = select(TABLE).where(*_THIS)

KEEP = (
    update(IdempotencyKey)
    .values(
        status=bindparam("code", type_=Integer),
        headers=bindparam("told", type_=Text),
        body=bindparam("text", type_=Text),
    )
    .where(*_THIS)
)

PURGE = delete(IdempotencyKey).where(
    tuple_(TABLE.c.caller, TABLE.c.key).in_(
        select(TABLE.c.caller, TABLE.c.key)
        .where(TABLE.c.created_at < bindparam("before", type_=Instant))
        .limit(bindparam("limit", type_=BigInteger))
    )
)


async def claim(db: Connection, caller: str, key: str, fingerprint: str, now: datetime) -> Row | None:
    """Take the key for a request; or what was answered to the same request before.

    Raises Conflict where the key was used for another one, Busy where its request is not done yet.
    """
    given = {"caller": caller, "key": key, "fingerprint": fingerprint, "created_at": now}
    if await db.one(CLAIM, **given, status=None, headers=None, body=None, before=now - LIFETIME):
        return None
    kept = await exists(db, GET, "request", of=caller, named=key)
    if kept.fingerprint != fingerprint:
        raise Conflict("The Idempotency-Key was used for another request; choose a new one.")
    return kept


async def keep(db: Connection, caller: str, key: str, *, status: int, headers: str, body: str) -> None:
    """Keep the answer to the request that took the key."""
    await db.run(KEEP, of=caller, named=key, code=status, told=headers, text=body)


async def purge(db: Connection, before: datetime, limit: int) -> int:
    """Delete as many of the keys from before then; how many those were."""
    return await db.run(PURGE, before=before, limit=limit)
