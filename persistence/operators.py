"""Operators: the people who sign in to the panel, and their sessions. Never deleted: activity names them."""

from collections.abc import Sequence
from datetime import datetime, timedelta

from sqlalchemy import (
    BigInteger,
    ForeignKey,
    Integer,
    String,
    bindparam,
    delete,
    insert,
    or_,
    select,
    update,
)
from sqlalchemy.orm import Mapped, mapped_column

from persistence.database import Base, Connection, Instant, Key, Row, exists, inserting
from persistence.errors import Conflict, Duplicate

LOCKED_AT = 10
"""After so many wrong passwords in a row an operator is locked, until somebody unlocks it."""

IDLE = timedelta(minutes=30)
LONGEST = timedelta(hours=12)
"""A session ends when it was not used for so long, and in any case after this."""

USE_KEPT = timedelta(minutes=1)


class Operator(Base):
    __tablename__ = "operators"

    id: Mapped[int] = mapped_column(Key, primary_key=True)
    name: Mapped[str] = mapped_column(String(100), unique=True)
    password_hash: Mapped[str] = mapped_column(String(200))
    # Tries since the last one that was right.
    tries: Mapped[int] = mapped_column(Integer)
    created_at: Mapped[datetime] = mapped_column(Instant)


class Session(Base):
    __tablename__ = "sessions"

    # SHA-256 of what lies in the browser's cookie.
    digest: Mapped[str] = mapped_column(String(64), primary_key=True)
    operator_id: Mapped[int] = mapped_column(Key, ForeignKey("operators.id"), index=True)
    created_at: Mapped[datetime] = mapped_column(Instant)
    used_at: Mapped[datetime] = mapped_column(Instant)


TABLE = Operator.__table__
SESSIONS = Session.__table__

INSERT = inserting(Operator, "name", "password_hash", "tries", "created_at")

ALL = select(TABLE).order_by(TABLE.c.name)

TRY = (
    update(Operator)
    .values(tries=TABLE.c.tries + 1)
    .where(TABLE.c.name == bindparam("who"), TABLE.c.tries < LOCKED_AT)
    .returning(*TABLE.c)
)

# The password may have been changed while the old one was looked at.
PASSED = (
    update(Operator)
    .values(tries=0)
    .where(
        TABLE.c.id == bindparam("operator", type_=BigInteger), TABLE.c.password_hash == bindparam("looked_at")
    )
    .returning(TABLE.c.id)
)

UNLOCK = update(Operator).values(tries=0).where(TABLE.c.name == bindparam("who")).returning(TABLE.c.id)

PASSWORD = (
    update(Operator)
    .values(tries=0, password_hash=bindparam("new"))
    .where(TABLE.c.name == bindparam("who"))
    .returning(TABLE.c.id)
)

START = insert(Session).values(dict.fromkeys(("digest", "operator_id", "created_at", "used_at")))

FIND = (
    select(SESSIONS.c.operator_id, SESSIONS.c.used_at, TABLE.c.name)
    .select_from(SESSIONS.join(TABLE, TABLE.c.id == SESSIONS.c.operator_id))
    .where(
        SESSIONS.c.digest == bindparam("token"),
        SESSIONS.c.used_at > bindparam("used", type_=Instant),
        SESSIONS.c.created_at > bindparam("created", type_=Instant),
    )
)

USED = (
    update(Session)
    .values(used_at=bindparam("now", type_=Instant))
    .where(SESSIONS.c.digest == bindparam("token"))
)

END = delete(Session).where(SESSIONS.c.digest == bindparam("token"))

END_ALL = delete(Session).where(SESSIONS.c.operator_id == bindparam("operator", type_=BigInteger))

END_DEAD = delete(Session).where(
    or_(
        SESSIONS.c.used_at <= bindparam("used", type_=Instant),
        SESSIONS.c.created_at <= bindparam("created", type_=Instant),
    )
)


async def create(db: Connection, name: str, password_hash: str, now: datetime) -> Row:
    """Add an operator. Raises Conflict where the name is taken."""
    try:
        return await exists(
            db, INSERT, "operator", name=name, password_hash=password_hash, tries=0, created_at=now
        )
    except Duplicate:
        raise Conflict("Another operator has this name.") from None


async def everybody(db: Connection) -> Sequence[Row]:
    """All operators, by name."""
    return await db.all(ALL)


async def charge(db: Connection, name: str) -> Row | None:
    """Count a try to sign in, before the password is looked at; None without one, or if it is locked."""
    return await db.one(TRY, who=name)


async def passed(db: Connection, operator: Row) -> bool:
    """Forget the tries of an operator whose password was right, if it still is; whether it is."""
    return await db.one(PASSED, operator=operator.id, looked_at=operator.password_hash) is not None


async def unlock(db: Connection, name: str) -> None:
    """Forget the tries of an operator. Raises NotFound."""
    await exists(db, UNLOCK, "operator", who=name)


async def set_password(db: Connection, name: str, password_hash: str) -> None:
    """Give an operator another password, and end all its sessions. Raises NotFound."""
    operator = await exists(db, PASSWORD, "operator", who=name, new=password_hash)
    await db.run(END_ALL, operator=operator.id)


async def start(db: Connection, operator_id: int, digest: str, now: datetime) -> None:
    """Keep a new session, and forget those that are dead."""
    await db.run(END_DEAD, used=now - IDLE, created=now - LONGEST)
    await db.run(START, digest=digest, operator_id=operator_id, created_at=now, used_at=now)


async def session(db: Connection, digest: str, now: datetime) -> Row | None:
    """The ``operator_id``, ``name`` and ``used_at`` of a live session, or None."""
    return await db.one(FIND, token=digest, used=now - IDLE, created=now - LONGEST)


async def used(db: Connection, digest: str, now: datetime) -> None:
    """Keep when a session was used."""
    await db.run(USED, token=digest, now=now)


async def end(db: Connection, digest: str) -> None:
    """End a session."""
    await db.run(END, token=digest)
