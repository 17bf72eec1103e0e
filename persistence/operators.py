"""Operators: the people who sign in to the panel, their sessions, and the attempts to sign in that failed.

Operators are never deleted: activity names them.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import (
    BigInteger,
    ForeignKey,
    Index,
    Integer,
    String,
    and_,
    bindparam,
    case,
    delete,
    insert,
    or_,
    select,
    tuple_,
    update,
)
from sqlalchemy.dialects import postgresql
from sqlalchemy.orm import Mapped, mapped_column

from persistence.database import Connection, Row
from persistence.errors import Conflict, Duplicate
from persistence.statements import insert_returning, require
from persistence.types import Base, BigIntId, UtcDateTime

MAX_NAME = 100
"""Characters of a name."""

ATTEMPTS_KEPT = timedelta(days=1)
"""A count of failed attempts is forgotten when its last attempt is this old."""

ATTEMPTS_PURGED = 10
"""Rows. An attempt adds at most two, so the purge that it runs keeps up with any number of attempts."""

IDLE = timedelta(minutes=30)
LONGEST = timedelta(hours=12)
"""A session ends when it was not used for so long, and in any case after this."""

LAST_USED_RESOLUTION = timedelta(minutes=1)


class Operator(Base):
    __tablename__ = "operators"

    id: Mapped[int] = mapped_column(BigIntId, primary_key=True)
    name: Mapped[str] = mapped_column(String(MAX_NAME), unique=True)
    password_hash: Mapped[str] = mapped_column(String(200))
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)


class Session(Base):
    __tablename__ = "sessions"

    # SHA-256 of what lies in the browser's cookie.
    digest: Mapped[str] = mapped_column(String(64), primary_key=True)
    operator_id: Mapped[int] = mapped_column(BigIntId, ForeignKey("operators.id"), index=True)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    used_at: Mapped[datetime] = mapped_column(UtcDateTime)


class SignInAttempts(Base):
    """The failed attempts to sign in with a name, from one source or from any."""

    __tablename__ = "sign_in_attempts"
    __table_args__ = (Index("ix_sign_in_attempts_updated_at", "updated_at"),)

    # A name that somebody has typed, whether or not an operator has it.
    name: Mapped[str] = mapped_column(String(MAX_NAME), primary_key=True)
    # An address, a known device, or "" for all addresses together.
    source: Mapped[str] = mapped_column(String(64), primary_key=True)
    failures: Mapped[int] = mapped_column(Integer)
    next_at: Mapped[datetime] = mapped_column(UtcDateTime)
    updated_at: Mapped[datetime] = mapped_column(UtcDateTime)


@dataclass(frozen=True)
class DelayRule:
    """Which attempts are counted together, and how they are delayed.

    The first ``free`` failures cause no delay. The next ones cause 1, 2, 4, ... up to ``longest`` seconds.
    """

    source: str
    free: int
    longest: int

    def delay(self, failures: int) -> int:
        """Return the seconds from a failure, the last of ``failures``, to the next attempt."""
        # Without the bound the power would have as many digits as there were failures.
        return 0 if failures <= self.free else min(2 ** min(failures - self.free - 1, 30), self.longest)


def delay_rules(address: str, device: str) -> tuple[DelayRule, ...]:
    """Return the rules for an attempt from an address, or from a known ``device`` where it is not "".

    A known device counts for itself alone, so that no attempt from elsewhere delays it. The rules are
    in the order in which every transaction locks their rows.
    """
    if device:
        return (DelayRule(f"device {device}", free=5, longest=900),)
    return DelayRule("", free=10, longest=60), DelayRule(address, free=5, longest=900)


class TooEarly(Exception):
    """An attempt to sign in came before its delay was over; the next one is possible in ``seconds``."""

    def __init__(self, seconds: int) -> None:
        super().__init__(f"The next attempt to sign in is possible in {seconds} seconds.")
        self.seconds = seconds


TABLE = Operator.__table__
SESSIONS = Session.__table__
ATTEMPTS = SignInAttempts.__table__

INSERT = insert_returning(Operator, "name", "password_hash", "created_at")

_ALL_ADDRESSES = and_(ATTEMPTS.c.name == TABLE.c.name, ATTEMPTS.c.source == "")

ALL = (
    select(TABLE.c.name, TABLE.c.created_at, ATTEMPTS.c.failures, ATTEMPTS.c.next_at, ATTEMPTS.c.updated_at)
    .select_from(TABLE.outerjoin(ATTEMPTS, _ALL_ADDRESSES))
    .order_by(TABLE.c.name)
)

BY_NAME = select(TABLE).where(TABLE.c.name == bindparam("who"))

_NEW = postgresql.insert(SignInAttempts).values(
    dict.fromkeys(["name", "source", "failures", "next_at", "updated_at"])
)
_FORGOTTEN = ATTEMPTS.c.updated_at <= bindparam("forgotten", type_=UtcDateTime)

# One statement, so that of attempts that come at once each sees the failures of the one before. PostgreSQL's
# construct, whose ON CONFLICT SQLite's compiler writes in the same words.
COUNT = _NEW.on_conflict_do_update(
    index_elements=["name", "source"],
    set_={
        "failures": case((_FORGOTTEN, 1), else_=ATTEMPTS.c.failures + 1),
        "updated_at": _NEW.excluded.updated_at,
    },
    where=or_(
        ATTEMPTS.c.failures <= bindparam("free", type_=Integer),
        ATTEMPTS.c.next_at <= _NEW.excluded.updated_at,
        _FORGOTTEN,
    ),
).returning(ATTEMPTS.c.failures)

_THIS = (ATTEMPTS.c.name == bindparam("who"), ATTEMPTS.c.source == bindparam("where"))

NEXT_AT = select(ATTEMPTS.c.next_at).where(*_THIS)

DELAY = update(SignInAttempts).values(next_at=bindparam("until", type_=UtcDateTime)).where(*_THIS)

FORGET = delete(SignInAttempts).where(*_THIS)

FORGET_ALL = delete(SignInAttempts).where(ATTEMPTS.c.name == bindparam("who"))

_KEY = (ATTEMPTS.c.name, ATTEMPTS.c.source)

PURGE = delete(SignInAttempts).where(
    tuple_(*_KEY).in_(
        select(*_KEY)
        .where(_FORGOTTEN)
        .limit(bindparam("limit", type_=BigInteger))
        # A purge that waits for a row while it holds others would deadlock with one that does the same.
        .with_for_update(skip_locked=True)
    )
)

# Locked until the session is written, so that a new password ends that session too.
UNCHANGED = (
    select(TABLE.c.id)
    .where(
        TABLE.c.id == bindparam("operator", type_=BigInteger), TABLE.c.password_hash == bindparam("looked_at")
    )
    .with_for_update(read=True)
)

PASSWORD = (
    update(Operator)
    .values(password_hash=bindparam("new"))
    .where(TABLE.c.name == bindparam("who"))
    .returning(TABLE.c.id)
)

START = insert(Session).values(dict.fromkeys(("digest", "operator_id", "created_at", "used_at")))

FIND = (
    select(SESSIONS.c.operator_id, SESSIONS.c.used_at, TABLE.c.name)
    .select_from(SESSIONS.join(TABLE, TABLE.c.id == SESSIONS.c.operator_id))
    .where(
        SESSIONS.c.digest == bindparam("token"),
        SESSIONS.c.used_at > bindparam("used", type_=UtcDateTime),
        SESSIONS.c.created_at > bindparam("created", type_=UtcDateTime),
    )
)

USED = (
    update(Session)
    .values(used_at=bindparam("now", type_=UtcDateTime))
    .where(SESSIONS.c.digest == bindparam("token"))
)

END = delete(Session).where(SESSIONS.c.digest == bindparam("token"))

END_ALL = (
    delete(Session)
    .where(SESSIONS.c.operator_id == bindparam("operator", type_=BigInteger))
    .execution_options(slow=True)
)

END_DEAD = (
    delete(Session)
    .where(
        or_(
            SESSIONS.c.used_at <= bindparam("used", type_=UtcDateTime),
            SESSIONS.c.created_at <= bindparam("created", type_=UtcDateTime),
        )
    )
    .execution_options(slow=True)
)


async def create(db: Connection, name: str, password_hash: str, now: datetime) -> Row:
    """Add an operator. Raises Conflict where the name is taken."""
    try:
        return await require(db, INSERT, "operator", name=name, password_hash=password_hash, created_at=now)
    except Duplicate:
        raise Conflict("Another operator has this name.") from None


async def all_operators(db: Connection) -> Sequence[Row]:
    """All operators, by name, with what counts the attempts from all addresses; None where nothing does."""
    return await db.fetch_all(ALL)


async def find(db: Connection, name: str) -> Row | None:
    """Return the operator with this name, or None."""
    return await db.fetch_one(BY_NAME, who=name)


async def count_attempt(db: Connection, name: str, rules: Sequence[DelayRule], now: datetime) -> None:
    """Count an attempt to sign in as a failure, before the password is checked.

    Raises TooEarly with the longest wait where a rule refuses; then the transaction must be rolled back.
    """
    waits = [await _count(db, name, each, now) for each in rules]
    if any(waits):
        raise TooEarly(max(waits))
    await db.execute(PURGE, forgotten=now - ATTEMPTS_KEPT, limit=ATTEMPTS_PURGED)


async def _count(db: Connection, name: str, rule: DelayRule, now: datetime) -> int:
    """Count an attempt, and return 0; or return the seconds to wait."""
    row = await db.fetch_one(
        COUNT,
        name=name,
        source=rule.source,
        failures=1,
        next_at=now,
        updated_at=now,
        free=rule.free,
        forgotten=now - ATTEMPTS_KEPT,
    )
    if row is None:
        kept = await require(db, NEXT_AT, "attempt", who=name, where=rule.source)
        return _seconds_until(kept.next_at, now)
    if seconds := rule.delay(row.failures):
        await db.execute(DELAY, who=name, where=rule.source, until=now + timedelta(seconds=seconds))
    return 0


def _seconds_until(instant: datetime, now: datetime) -> int:
    return max(1, math.ceil((instant - now).total_seconds()))


async def reset_attempts(db: Connection, name: str, rules: Sequence[DelayRule]) -> None:
    """Forget the failures that an attempt was counted with, since its password was right."""
    for each in rules:
        await db.execute(FORGET, who=name, where=each.source)


async def has_password(db: Connection, operator: Row) -> bool:
    """Return whether an operator still has a password hash, and lock it until the transaction ends."""
    return await db.fetch_one(UNCHANGED, operator=operator.id, looked_at=operator.password_hash) is not None


async def unlock(db: Connection, name: str) -> None:
    """End all delays of an operator. Raises NotFound."""
    await require(db, BY_NAME, "operator", who=name)
    await _forget_all(db, name)


async def _forget_all(db: Connection, name: str) -> None:
    # The row of all addresses is locked first here too, or this could deadlock with an attempt.
    await db.execute(FORGET, who=name, where="")
    await db.execute(FORGET_ALL, who=name)


async def set_password(db: Connection, name: str, password_hash: str) -> None:
    """Give an operator another password, and end its delays and all its sessions. Raises NotFound."""
    operator = await require(db, PASSWORD, "operator", who=name, new=password_hash)
    await db.execute(END_ALL, operator=operator.id)
    await _forget_all(db, name)


async def start(db: Connection, operator_id: int, digest: str, now: datetime) -> None:
    """Keep a new session, and forget those that are dead."""
    await db.execute(END_DEAD, used=now - IDLE, created=now - LONGEST)
    await db.execute(START, digest=digest, operator_id=operator_id, created_at=now, used_at=now)


async def session(db: Connection, digest: str, now: datetime) -> Row | None:
    """The ``operator_id``, ``name`` and ``used_at`` of a live session, or None."""
    return await db.fetch_one(FIND, token=digest, used=now - IDLE, created=now - LONGEST)


async def used(db: Connection, digest: str, now: datetime) -> None:
    """Keep when a session was used."""
    await db.execute(USED, token=digest, now=now)


async def end(db: Connection, digest: str) -> None:
    """End a session."""
    await db.execute(END, token=digest)
