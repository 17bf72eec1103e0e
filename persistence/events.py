"""Events: what happened, frozen when it was committed (ArcBilling, "Webhooks").

Their ids are in the order of the commits, without a gap for whoever reads on from the last one he saw:
from the insert of an event to its commit no other transaction inserts one.
"""

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, Index, String, Text, bindparam, column, delete, insert, select, table
from sqlalchemy import exists as any_row
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.orm import Mapped, mapped_column
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.types import Boolean

from persistence.database import Connection, Row
from persistence.listing import COUNTS, CountedBy, Listing, Page
from persistence.statements import require, where_id
from persistence.types import Base, BigIntId, UtcDateTime


class Event(Base):
    __tablename__ = "events"
    __table_args__ = (
        Index("ix_events_event_id", "event", "id"),
        Index("ix_events_created_at", "created_at"),
        # An id is never given twice, or a reader with a cursor would miss one after a purge.
        {"sqlite_autoincrement": True},
    )

    id: Mapped[int] = mapped_column(BigIntId, primary_key=True)
    uid: Mapped[str] = mapped_column(String(30), unique=True)
    event: Mapped[str] = mapped_column(String(40))
    base: Mapped[str] = mapped_column(Text)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)


TABLE = Event.__table__


class EventOrderLock(FunctionElement[bool]):
    """True, once no other transaction that inserted an event is still open."""

    inherit_cache = True
    type = Boolean()


@compiles(EventOrderLock)
def _alone(element: EventOrderLock, compiler: Any, **options: Any) -> str:
    # SQLite has one writer at a time anyway.
    return "1 = 1"


@compiles(EventOrderLock, "postgresql")
def _locked(element: EventOrderLock, compiler: Any, **options: Any) -> str:
    # The number is the text "events"; the lock ends with the transaction.
    return "pg_advisory_xact_lock(111477243965555) IS NOT NULL"


# A trigger adds the deliveries (``migrations/versions/0009_the_tables.py``).
INSERT = insert(Event).from_select(
    ["uid", "event", "base", "created_at"],
    select(
        bindparam("uid", type_=String),
        bindparam("event", type_=String),
        bindparam("base", type_=Text),
        # Not called as its column, which other tables have, too.
        bindparam("now", type_=UtcDateTime),
    ).where(EventOrderLock()),
    include_defaults=False,
)

GET = where_id(select(TABLE), TABLE.c.id)

LIST = Listing(
    # The text of an event has the whole message of a ticket.
    select(TABLE).execution_options(slow=True),
    TABLE.c.id,
    ascending=True,
    tallied=[CountedBy("events", event=COUNTS.c.word == bindparam("event"))],
    event=TABLE.c.event == bindparam("event"),
)

_DELIVERIES = table("deliveries", column("event_id"))

PURGE = delete(Event).where(
    TABLE.c.id.in_(
        select(TABLE.c.id)
        .where(
            TABLE.c.created_at < bindparam("before", type_=UtcDateTime),
            ~any_row().where(_DELIVERIES.c.event_id == TABLE.c.id),
        )
        .limit(bindparam("limit", type_=BigInteger))
    )
)


async def add(db: Connection, *, uid: str, event: str, base: str, now: datetime) -> None:
    """Keep an event, and a delivery for each active webhook that wants such events.

    It is put off as long as possible, since from then on all others that have an event wait.
    """
    await db.defer(INSERT, uid=uid, event=event, base=base, now=now)


async def page(db: Connection, *, limit: int, page: int, after: int | None, event: str | None) -> Page:
    """A page of events, oldest first; filter ``event``."""
    return await LIST.page(db, page=page, limit=limit, after=after, event=event)


async def get(db: Connection, id: int) -> Row:
    """The event. Raises NotFound."""
    return await require(db, GET, "event", id=id)


async def purge(db: Connection, before: datetime, limit: int) -> int:
    """Delete as many of the events from before then that have no delivery; how many those were."""
    return await db.execute(PURGE, before=before, limit=limit)
