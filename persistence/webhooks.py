"""Webhooks: endpoints that receive events. Their secrets are stored sealed."""

from collections.abc import Collection
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import BigInteger, Boolean, String, Text, bindparam, func, select
from sqlalchemy import update as sql_update
from sqlalchemy.orm import Mapped, mapped_column

from persistence.database import Connection, Row
from persistence.errors import Conflict, Duplicate
from persistence.listing import CountedBy, Listing, Page
from persistence.statements import delete_row, insert_returning, require, update_row, where_id
from persistence.types import Base, BigIntId, UtcDateTime


class Webhook(Base):
    __tablename__ = "webhooks"
    # An id is never given twice, or what became of a late delivery would be told of another webhook.
    __table_args__ = ({"sqlite_autoincrement": True},)

    id: Mapped[int] = mapped_column(BigIntId, primary_key=True)
    url: Mapped[str] = mapped_column(String(2048), unique=True)
    # The names of the events that it is told of, each between two spaces.
    events: Mapped[str] = mapped_column(String(500))
    active: Mapped[bool] = mapped_column(Boolean)
    disabled_reason: Mapped[str | None] = mapped_column(String(200))
    failing_since: Mapped[datetime | None] = mapped_column(UtcDateTime)
    secret: Mapped[str] = mapped_column(Text)
    old_secret: Mapped[str | None] = mapped_column(Text)
    old_secret_until: Mapped[datetime | None] = mapped_column(UtcDateTime)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    version: Mapped[int] = mapped_column(BigInteger)


TABLE = Webhook.__table__
KEY = bindparam("key", type_=BigInteger)

GET = where_id(select(TABLE), TABLE.c.id)

# It is changed meanwhile, but not deleted.
HOLD = where_id(select(TABLE.c.id, TABLE.c.events), TABLE.c.id).with_for_update(read=True, key_share=True)

# The foreign key of a new delivery waits for this lock, so none is added meanwhile.
LOCK = where_id(select(TABLE.c.id, TABLE.c.events), TABLE.c.id).with_for_update()

LIST = Listing(select(TABLE), TABLE.c.id, tallied=[CountedBy("webhooks")])

INSERT = insert_returning(Webhook, "url", "events", "active", "secret", "created_at", "version")

# A secret is sealed for the row that it stands in, so its row comes first.
MOST = 100
"""Each event costs a row for each webhook, so a crowd of them would slow every change."""

COUNT = select(func.count().label("number")).select_from(TABLE)

SEAL = sql_update(Webhook).values(secret=bindparam("sealed", type_=Text)).where(TABLE.c.id == KEY)

ROTATE = (
    sql_update(Webhook)
    .values(
        old_secret=bindparam("old", type_=Text),
        old_secret_until=bindparam("until", type_=UtcDateTime),
        secret=bindparam("sealed", type_=Text),
        version=TABLE.c.version + 1,
    )
    # Of two rotations at once the second would hand on a secret that is none any more.
    .where(TABLE.c.id == KEY, TABLE.c.secret == bindparam("current", type_=Text))
    .returning(*TABLE.c)
)

MARK_WORKING = (
    sql_update(Webhook)
    .values(failing_since=None, version=TABLE.c.version + 1)
    .where(TABLE.c.id == KEY, TABLE.c.failing_since.is_not(None))
)

MARK_FAILING = (
    sql_update(Webhook)
    .values(failing_since=bindparam("since", type_=UtcDateTime), version=TABLE.c.version + 1)
    .where(TABLE.c.id == KEY, TABLE.c.failing_since.is_(None))
)

DISABLE = (
    sql_update(Webhook)
    .values(active=False, disabled_reason=bindparam("reason", type_=String), version=TABLE.c.version + 1)
    .where(TABLE.c.id == KEY, TABLE.c.active)
)


ALL = select(TABLE).order_by(TABLE.c.id)

# Nobody else's rotation is overwritten.
RESEAL = (
    sql_update(Webhook)
    .values(secret=bindparam("sealed", type_=Text), old_secret=bindparam("old", type_=Text))
    .where(TABLE.c.id == KEY, TABLE.c.secret == bindparam("current", type_=Text))
)


def subscribed(names: Collection[str]) -> str:
    """The names of events as one text, as the column keeps them."""
    return f" {' '.join(sorted(set(names)))} "


async def page(db: Connection, **where: Any) -> Page:
    """A page of webhooks, newest first."""
    return await LIST.page(db, **where)


async def all_webhooks(db: Connection) -> list[Row]:
    """All webhooks; there are at most a hundred."""
    return await db.fetch_all(ALL)


async def get(db: Connection, id: int) -> Row:
    """The webhook. Raises NotFound."""
    return await require(db, GET, "webhook", id=id)


async def hold(db: Connection, id: int) -> Row:
    """Keep the webhook from being deleted until the transaction ends; its events. Raises NotFound."""
    return await require(db, HOLD, "webhook", id=id)


async def lock(db: Connection, id: int) -> Row:
    """Keep the webhook as it is until the transaction ends; its events. Raises NotFound."""
    return await require(db, LOCK, "webhook", id=id)


async def create(db: Connection, *, url: str, events: Collection[str], active: bool, now: datetime) -> Row:
    """Add a webhook, whose secret must follow. Raises Conflict where the URL has one already, or there are
    as many as there may be.
    """
    counted = await db.fetch_one(COUNT)
    if counted is not None and counted.number >= MOST:
        raise Conflict(f"There are {MOST} webhooks, which is the limit; delete one first.")
    try:
        return await require(
            db,
            INSERT,
            "webhook",
            url=url,
            events=subscribed(events),
            active=active,
            secret="",
            created_at=now,
            version=1,
        )
    except Duplicate:
        raise _taken() from None


def context(id: int) -> str:
    """Return the context that binds the sealed secrets of a webhook."""
    return f"webhook:{id}"


async def seal(db: Connection, id: int, sealed: str) -> None:
    """Keep the secret of a webhook."""
    await db.execute(SEAL, key=id, sealed=sealed)


async def update(
    db: Connection, id: int, values: dict[str, Any], versions: Collection[int] | None = None
) -> Row:
    """Set the named columns, if it is in one of ``versions``; one that is made active again begins anew.

    Raises NotFound, PreconditionFailed, Conflict.
    """
    new = dict(values)
    if "events" in new:
        new["events"] = subscribed(new["events"])
    if new.get("active"):
        new |= {"disabled_reason": None, "failing_since": None}
    try:
        return await update_row(db, Webhook, "webhook", id, new, versions)
    except Duplicate:
        raise _taken() from None


def _taken() -> Conflict:
    return Conflict("A webhook with this url exists already.")


async def delete(db: Connection, id: int, versions: Collection[int] | None = None) -> None:
    """Delete a webhook and the log of its deliveries, if it is in one of ``versions``.

    Raises NotFound, PreconditionFailed.
    """
    await delete_row(db, Webhook, "webhook", id, versions)


async def rotate(db: Connection, webhook: Row, sealed: str, overlap: timedelta, now: datetime) -> Row:
    """Put a new secret in place; the old one is good for ``overlap``. Raises Conflict."""
    old = {"old": webhook.secret, "until": now + overlap} if overlap else {"old": None, "until": None}
    rotated = await db.fetch_one(ROTATE, key=webhook.id, sealed=sealed, current=webhook.secret, **old)
    if rotated is None:
        raise Conflict("Another request rotated the secret just now; read the webhook again.")
    return rotated


async def reseal(db: Connection, webhook: Row, sealed: str, old: str | None) -> None:
    """Keep the secrets of a webhook sealed anew."""
    await db.execute(RESEAL, key=webhook.id, current=webhook.secret, sealed=sealed, old=old)


async def mark_working(db: Connection, id: int) -> None:
    """Keep that the webhook took a delivery."""
    await db.execute(MARK_WORKING, key=id)


async def mark_failing(db: Connection, id: int, now: datetime) -> None:
    """Keep since when the webhook takes no delivery."""
    await db.execute(MARK_FAILING, key=id, since=now)


async def disable(db: Connection, id: int, reason: str) -> None:
    """Send no more to the webhook, and say why."""
    await db.execute(DISABLE, key=id, reason=reason)
