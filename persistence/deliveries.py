"""Deliveries of events to webhooks, and their attempts."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import (
    BigInteger,
    ForeignKey,
    Index,
    Integer,
    String,
    Text,
    bindparam,
    cast,
    func,
    literal,
    or_,
    select,
    text,
    update,
)
from sqlalchemy import exists as any_row
from sqlalchemy.dialects import postgresql
from sqlalchemy.orm import Mapped, mapped_column

from persistence.database import Connection, Row
from persistence.errors import Conflict
from persistence.events import TABLE as EVENTS
from persistence.listing import COUNTS, CountedBy, Listing, Page
from persistence.statements import insert_returning, require
from persistence.types import Base, BigIntId, UtcDateTime
from persistence.webhooks import TABLE as WEBHOOKS


class Delivery(Base):
    __tablename__ = "deliveries"
    __table_args__ = (
        Index(
            "ix_deliveries_due",
            "webhook_id",
            "due_at",
            sqlite_where=text("status = 'pending'"),
            postgresql_where=text("status = 'pending'"),
        ),
        Index(
            "ix_deliveries_claim",
            "claim",
            sqlite_where=text("claim IS NOT NULL"),
            postgresql_where=text("claim IS NOT NULL"),
        ),
        Index("ix_deliveries_webhook_id_id", "webhook_id", "id"),
        Index("ix_deliveries_webhook_id_status_id", "webhook_id", "status", "id"),
        Index("ix_deliveries_created_at", "created_at"),
        Index("uq_deliveries_event_id_webhook_id", "event_id", "webhook_id", unique=True),
        # As with webhooks.
        {"sqlite_autoincrement": True},
    )

    id: Mapped[int] = mapped_column(BigIntId, primary_key=True)
    webhook_id: Mapped[int] = mapped_column(BigIntId, ForeignKey("webhooks.id", ondelete="CASCADE"))
    # A test belongs to no event and brings its own text.
    event_id: Mapped[int | None] = mapped_column(BigIntId, ForeignKey("events.id"))
    uid: Mapped[str] = mapped_column(String(30))
    event: Mapped[str] = mapped_column(String(40))
    test_base: Mapped[str | None] = mapped_column(Text)
    status: Mapped[str] = mapped_column(String(10))
    # How many attempts of the schedule are behind it.
    tried: Mapped[int] = mapped_column(Integer)
    # When it is to be tried next; of one that is being tried now, when its worker must be dead.
    due_at: Mapped[datetime] = mapped_column(UtcDateTime)
    claim: Mapped[str | None] = mapped_column(String(32))
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)


class Attempt(Base):
    __tablename__ = "attempts"
    __table_args__ = (Index("ix_attempts_delivery_id_id", "delivery_id", "id"),)

    id: Mapped[int] = mapped_column(BigIntId, primary_key=True)
    delivery_id: Mapped[int] = mapped_column(BigIntId, ForeignKey("deliveries.id", ondelete="CASCADE"))
    attempted_at: Mapped[datetime] = mapped_column(UtcDateTime)
    status: Mapped[int | None]
    ms: Mapped[int]
    answer: Mapped[str] = mapped_column(Text)
    error: Mapped[str | None] = mapped_column(String(200))


TABLE = Delivery.__table__
ATTEMPTS = Attempt.__table__

WEBHOOK = bindparam("webhook_id", type_=BigInteger)
KEY = bindparam("key", type_=BigInteger)
# In the words of the index, which else would not be used.
_PENDING = text("deliveries.status = 'pending'")
NOW = bindparam("now", type_=UtcDateTime)

INSERT_TEST = insert_returning(
    Delivery, "webhook_id", "uid", "event", "test_base", "status", "tried", "due_at", "created_at"
)

_GET = select(TABLE)
GET = _GET.where(TABLE.c.id == KEY, TABLE.c.webhook_id == WEBHOOK)

LIST = Listing(
    _GET,
    TABLE.c.id,
    tallied=[
        CountedBy(
            "deliveries", webhook_id=COUNTS.c.number == WEBHOOK, status=COUNTS.c.word == bindparam("status")
        )
    ],
    webhook_id=TABLE.c.webhook_id == WEBHOOK,
    status=TABLE.c.status == bindparam("status"),
)

MOST_ROWS = 100
"""As many as a page has at most."""

MOST_ANSWERED = 150_000
"""The characters of all responses on a page of attempts together."""

# Ranked by the index alone: a delivery that is resent again and again has many attempts.
_RANKED = (
    select(
        ATTEMPTS.c.id,
        func.row_number()
        .over(partition_by=ATTEMPTS.c.delivery_id, order_by=ATTEMPTS.c.id.desc())
        .label("rank"),
    )
    .where(ATTEMPTS.c.delivery_id.in_([bindparam(f"of_{nth}", type_=BigInteger) for nth in range(MOST_ROWS)]))
    .subquery()
)

_LATEST = select(_RANKED).where(_RANKED.c.rank <= bindparam("most", type_=BigInteger)).cte("latest")

_SHARE = literal(MOST_ANSWERED) // select(func.count()).select_from(_LATEST).scalar_subquery()

GET_ATTEMPTS = (
    select(
        *[each for each in ATTEMPTS.c if each.name != "answer"],
        func.substr(ATTEMPTS.c.answer, 1, cast(_SHARE, Integer)).label("answer"),
    )
    .join(_LATEST, _LATEST.c.id == ATTEMPTS.c.id)
    .order_by(ATTEMPTS.c.delivery_id, _LATEST.c.rank)
    .execution_options(slow=True)
)

RESEND = (
    update(Delivery)
    .values(status="pending", tried=0, due_at=NOW, claim=None)
    .where(
        TABLE.c.id == KEY,
        TABLE.c.webhook_id == WEBHOOK,
        or_(TABLE.c.claim.is_(None), TABLE.c.due_at <= NOW),
    )
    .returning(*TABLE.c)
)

MOST_JUDGED = 10_000
"""The pending deliveries whose event names are read."""

# A test sends example data, so it does not count.
_PENDING_OF_WEBHOOK = (
    select(TABLE.c.event)
    .where(TABLE.c.webhook_id == WEBHOOK, _PENDING, TABLE.c.event_id.is_not(None))
    .limit(MOST_JUDGED)
    .subquery()
)

PENDING_EVENTS = (
    select(_PENDING_OF_WEBHOOK.c.event, func.count().label("number"))
    .group_by(_PENDING_OF_WEBHOOK.c.event)
    .execution_options(slow=True)
)

_SINCE = bindparam("since", type_=UtcDateTime)

RESEND_SINCE = (
    update(Delivery)
    .values(status="pending", tried=0, due_at=NOW, claim=None)
    .where(
        TABLE.c.webhook_id == WEBHOOK,
        TABLE.c.event_id.in_(select(EVENTS.c.id).where(EVENTS.c.created_at >= _SINCE)),
        TABLE.c.status != "delivered",
        or_(TABLE.c.claim.is_(None), TABLE.c.due_at <= NOW),
    )
    .execution_options(slow=True)
)

# Events from before the webhook was there, or while it was not active. PostgreSQL's construct, whose ON
# CONFLICT SQLite's compiler writes in the same words.
CATCH_UP = (
    postgresql.insert(Delivery)
    .from_select(
        ["webhook_id", "event_id", "uid", "event", "status", "tried", "due_at", "created_at"],
        select(
            WEBHOOKS.c.id,
            EVENTS.c.id,
            EVENTS.c.uid,
            EVENTS.c.event,
            literal("pending", String),
            literal(0, Integer),
            NOW,
            NOW,
        )
        .select_from(EVENTS)
        .join(WEBHOOKS, WEBHOOKS.c.events.contains(literal(" ").concat(EVENTS.c.event).concat(" ")))
        .where(
            WEBHOOKS.c.id == WEBHOOK,
            EVENTS.c.created_at >= _SINCE,
            ~any_row().where(TABLE.c.event_id == EVENTS.c.id, TABLE.c.webhook_id == WEBHOOKS.c.id),
        ),
        include_defaults=False,
    )
    # Two who recover at once both find that a delivery is missing.
    .on_conflict_do_nothing(index_elements=["event_id", "webhook_id"])
    .execution_options(slow=True)
)


async def test(db: Connection, webhook_id: int, *, uid: str, event: str, base: str, now: datetime) -> Row:
    """Create a test delivery."""
    return await require(
        db,
        INSERT_TEST,
        "delivery",
        webhook_id=webhook_id,
        uid=uid,
        event=event,
        test_base=base,
        status="pending",
        tried=0,
        due_at=now,
        created_at=now,
    )


async def page(db: Connection, webhook_id: int, **where: Any) -> Page:
    """A page of the deliveries of a webhook, newest first; filter ``status``."""
    return await LIST.page(db, webhook_id=webhook_id, **where)


async def attempts(db: Connection, rows: Sequence[Row], most: int) -> dict[int, list[Row]]:
    """The last attempts at the deliveries of a page, newest first, at most so many of each, by its id."""
    result: dict[int, list[Row]] = {row.id: [] for row in rows}
    # Ids begin at 1, so those that fill the statement up find nothing.
    ids = {f"of_{nth}": id for nth, id in enumerate([*result, *[0] * (MOST_ROWS - len(result))])}
    for row in await db.fetch_all(GET_ATTEMPTS, most=most, **ids):
        result[row.delivery_id].append(row)
    return result


async def get(db: Connection, webhook_id: int, id: int) -> Row:
    """The delivery. Raises NotFound."""
    return await require(db, GET, "delivery", webhook_id=webhook_id, key=id)


async def resend(db: Connection, webhook_id: int, id: int, now: datetime) -> Row:
    """Resend a delivery, whatever its status. Raises NotFound, Conflict."""
    row = await db.fetch_one(RESEND, webhook_id=webhook_id, key=id, now=now)
    if row is None:
        await get(db, webhook_id, id)
        raise Conflict("The delivery is in flight; read it again.")
    return row


async def recover(db: Connection, webhook_id: int, since: datetime, now: datetime) -> int:
    """Have everything delivered that happened since then and was not; how many deliveries that are."""
    again = await db.execute(RESEND_SINCE, webhook_id=webhook_id, since=since, now=now)
    return again + await db.execute(CATCH_UP, webhook_id=webhook_id, since=since, now=now)


async def pending_events(db: Connection, webhook_id: int) -> list[str] | None:
    """The names of the events that wait to be sent to a webhook; None where too many wait to look at each."""
    rows = await db.fetch_all(PENDING_EVENTS, webhook_id=webhook_id)
    return [row.event for row in rows] if sum(row.number for row in rows) < MOST_JUDGED else None
