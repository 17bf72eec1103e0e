"""Idempotency keys: what a caller was answered to a request, for whoever must send it again.

The row of a key is written first of all in the transaction of its request, so that a second request with
the key waits until the first is done, and is answered the same. Nothing is kept of a request that fails.

Answers repeat texts that were sent before: a reply is answered with the ticket. So long texts are kept apart
from the answers, once for each caller and day, and what is kept grows only as fast as what is sent.
"""

from collections.abc import Iterator, Mapping, Sequence
from datetime import date, datetime, timedelta

from sqlalchemy import (
    BigInteger,
    Date,
    Index,
    Integer,
    String,
    Text,
    bindparam,
    delete,
    select,
    tuple_,
    update,
)
from sqlalchemy.dialects import postgresql
from sqlalchemy.orm import Mapped, mapped_column

from persistence.database import Connection, Row
from persistence.errors import Conflict
from persistence.statements import require
from persistence.types import Base, UtcDateTime

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
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)


class KeptText(Base):
    """A long text of the answers that a caller got on a day, under its digest."""

    __tablename__ = "kept_texts"
    __table_args__ = (Index("ix_kept_texts_day", "day"),)

    caller: Mapped[str] = mapped_column(String(40), primary_key=True)
    day: Mapped[date] = mapped_column(Date, primary_key=True)
    digest: Mapped[str] = mapped_column(String(64), primary_key=True)
    sealed: Mapped[str] = mapped_column(Text)


TABLE = IdempotencyKey.__table__
TEXTS = KeptText.__table__

_NEW = postgresql.insert(IdempotencyKey).values(
    dict.fromkeys(["caller", "key", "fingerprint", "status", "headers", "body", "created_at"])
)

# PostgreSQL's construct, whose ON CONFLICT SQLite's compiler writes in the same words. A key whose time
# is over is taken like a new one.
CLAIM = _NEW.on_conflict_do_update(
    index_elements=["caller", "key"],
    set_={name: _NEW.excluded[name] for name in ("fingerprint", "status", "headers", "body", "created_at")},
    where=TABLE.c.created_at < bindparam("before", type_=UtcDateTime),
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
        .where(TABLE.c.created_at < bindparam("before", type_=UtcDateTime))
        .limit(bindparam("limit", type_=BigInteger))
    )
)

_TEXTS_OF_DAY = (TEXTS.c.caller == bindparam("of"), TEXTS.c.day == bindparam("on", type_=Date))

LOOKED_UP = 50
"""The digests in one statement."""

GET_TEXTS = select(TEXTS.c.digest, TEXTS.c.sealed).where(
    *_TEXTS_OF_DAY, TEXTS.c.digest.in_([bindparam(f"digest_{nth}", type_=String) for nth in range(LOOKED_UP)])
)

HAS_TEXTS = GET_TEXTS.with_only_columns(TEXTS.c.digest)

KEEP_TEXT = (
    postgresql.insert(KeptText)
    .values(dict.fromkeys(["caller", "day", "digest", "sealed"]))
    .on_conflict_do_nothing(index_elements=["caller", "day", "digest"])
)

PURGE_TEXTS = delete(KeptText).where(
    tuple_(TEXTS.c.caller, TEXTS.c.day, TEXTS.c.digest).in_(
        select(TEXTS.c.caller, TEXTS.c.day, TEXTS.c.digest)
        .where(TEXTS.c.day < bindparam("before", type_=Date))
        .limit(bindparam("limit", type_=BigInteger))
    )
)


async def claim(db: Connection, caller: str, key: str, fingerprint: str, now: datetime) -> Row | None:
    """Take the key for a request; or what was answered to the same request before.

    Raises Conflict where the key was used for another one, Busy where its request is not done yet.
    """
    given = {"caller": caller, "key": key, "fingerprint": fingerprint, "created_at": now}
    if await db.fetch_one(CLAIM, **given, status=None, headers=None, body=None, before=now - LIFETIME):
        return None
    kept = await require(db, GET, "request", of=caller, named=key)
    if kept.fingerprint != fingerprint:
        raise Conflict("The Idempotency-Key was used for another request; choose a new one.")
    return kept


async def keep(db: Connection, caller: str, key: str, *, status: int, headers: str, body: str) -> None:
    """Keep the answer to the request that took the key."""
    await db.execute(KEEP, of=caller, named=key, code=status, told=headers, text=body)


async def texts(db: Connection, caller: str, day: date, digests: Sequence[str]) -> dict[str, str]:
    """The sealed texts of a caller's day, as far as they are there, by their digests."""
    rows = [
        row for page in _pages(digests) for row in await db.fetch_all(GET_TEXTS, of=caller, on=day, **page)
    ]
    return {row.digest: row.sealed for row in rows}


async def lacking(db: Connection, caller: str, day: date, digests: Sequence[str]) -> list[str]:
    """Those of the digests whose texts are not kept for the caller's day."""
    rows = [
        row for page in _pages(digests) for row in await db.fetch_all(HAS_TEXTS, of=caller, on=day, **page)
    ]
    known = {row.digest for row in rows}
    return [each for each in digests if each not in known]


def _pages(digests: Sequence[str]) -> Iterator[dict[str, str]]:
    """The parameters of one look-up after another, filled up with what finds nothing."""
    for begin in range(0, len(digests), LOOKED_UP):
        page = [*digests[begin : begin + LOOKED_UP], *[""] * LOOKED_UP][:LOOKED_UP]
        yield {f"digest_{nth}": digest for nth, digest in enumerate(page)}


async def keep_texts(db: Connection, caller: str, day: date, sealed: Mapping[str, str]) -> None:
    """Keep sealed texts under their digests, for the answers of a caller's day."""
    rows = [{"caller": caller, "day": day, "digest": key, "sealed": text} for key, text in sealed.items()]
    await db.execute_many(KEEP_TEXT, rows)


async def purge(db: Connection, before: datetime, limit: int) -> int:
    """Delete as many of the keys from before then, and of the texts; how many those were."""
    keys = await db.execute(PURGE, before=before, limit=limit)
    return keys + await db.execute(PURGE_TEXTS, before=before.date(), limit=limit)
