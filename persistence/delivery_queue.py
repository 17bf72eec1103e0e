"""The queue of deliveries as the worker sees it: claim, settle, give back, log and purge."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, Integer, String, Text, bindparam, delete, func, insert, or_, select, update
from sqlalchemy import exists as any_row

from persistence.database import Connection, Row
from persistence.deliveries import _PENDING, KEY, NOW, TABLE, WEBHOOK, Attempt, Delivery
from persistence.events import TABLE as EVENTS
from persistence.types import UtcDateTime
from persistence.webhooks import TABLE as WEBHOOKS

# Webhooks with a due delivery. An inactive webhook receives test deliveries as well.
WAITING = (
    select(WEBHOOKS)
    .where(
        any_row().where(
            TABLE.c.webhook_id == WEBHOOKS.c.id,
            _PENDING,
            TABLE.c.due_at <= NOW,
            or_(WEBHOOKS.c.active, TABLE.c.event_id.is_(None)),
        )
    )
    .order_by(WEBHOOKS.c.id)
)

# A delivery in flight is not due before its claim expires.
BACKLOG = (
    select(func.count().label("due"), func.min(TABLE.c.due_at).label("oldest"))
    .join_from(TABLE, WEBHOOKS, WEBHOOKS.c.id == TABLE.c.webhook_id)
    .where(_PENDING, TABLE.c.due_at <= NOW, or_(WEBHOOKS.c.active, TABLE.c.event_id.is_(None)))
)

_DUE = (
    select(TABLE.c.id)
    .join(WEBHOOKS, WEBHOOKS.c.id == TABLE.c.webhook_id)
    .where(
        TABLE.c.webhook_id == WEBHOOK,
        _PENDING,
        TABLE.c.due_at <= NOW,
        or_(WEBHOOKS.c.active, TABLE.c.event_id.is_(None)),
    )
    .order_by(TABLE.c.due_at, TABLE.c.id)
    .limit(bindparam("limit", type_=BigInteger))
    # Skip rows that another worker has locked.
    .with_for_update(of=TABLE, skip_locked=True)
    .cte("due")
)

CLAIM = (
    update(Delivery)
    .values(claim=bindparam("token", type_=String), due_at=bindparam("lease", type_=UtcDateTime))
    .where(TABLE.c.id.in_(select(_DUE.c.id)))
    .returning(TABLE.c.id)
)

CLAIMED = (
    select(
        TABLE.c.id,
        TABLE.c.webhook_id,
        TABLE.c.event_id,
        TABLE.c.uid,
        TABLE.c.tried,
        EVENTS.c.base,
        TABLE.c.test_base,
    )
    .join_from(TABLE, EVENTS, EVENTS.c.id == TABLE.c.event_id, isouter=True)
    .where(TABLE.c.claim == bindparam("token", type_=String))
    .order_by(TABLE.c.id)
)

# A worker that lost its claim changes nothing.
_MINE = (TABLE.c.id == KEY, TABLE.c.claim == bindparam("token", type_=String))

SETTLE = (
    update(Delivery)
    .values(
        status=bindparam("new_status", type_=String),
        tried=TABLE.c.tried + 1,
        due_at=bindparam("next", type_=UtcDateTime),
        claim=None,
    )
    .where(*_MINE)
)

GIVE_BACK = update(Delivery).values(due_at=NOW, claim=None).where(*_MINE)

# A deleted webhook takes its deliveries along, so there is nothing to log for them.
LOG = insert(Attempt).from_select(
    ["delivery_id", "attempted_at", "status", "ms", "answer", "error"],
    select(
        TABLE.c.id,
        bindparam("at", type_=UtcDateTime),
        bindparam("code", type_=Integer),
        bindparam("took", type_=Integer),
        bindparam("text", type_=Text),
        bindparam("fault", type_=String),
    )
    .where(TABLE.c.id == KEY)
    # Wait for a concurrent deletion, and then skip the row, or the foreign key would fail.
    .with_for_update(read=True, key_share=True),
    include_defaults=False,
)

PURGE = delete(Delivery).where(
    TABLE.c.id.in_(
        select(TABLE.c.id)
        .where(TABLE.c.created_at < bindparam("before", type_=UtcDateTime))
        .limit(bindparam("limit", type_=BigInteger))
    )
)


async def waiting(db: Connection, now: datetime) -> list[Row]:
    """Return the webhooks with a due delivery."""
    return await db.fetch_all(WAITING, now=now)


async def backlog(db: Connection, now: datetime) -> tuple[int, float]:
    """Return the number of due deliveries, and the seconds since the oldest became due."""
    row = await db.fetch_one(BACKLOG, now=now)
    assert row is not None
    return row.due, (now - row.oldest).total_seconds() if row.oldest else 0.0


async def claim(
    db: Connection, webhook_id: int, *, limit: int, token: str, now: datetime, lease: datetime
) -> int:
    """Claim due deliveries until ``lease``. Return their number."""
    return len(
        await db.fetch_all(CLAIM, webhook_id=webhook_id, limit=limit, token=token, now=now, lease=lease)
    )


async def claimed(db: Connection, token: str) -> list[Row]:
    """Return the claimed deliveries with their payloads, oldest first."""
    return await db.fetch_all(CLAIMED, token=token)


async def settle(db: Connection, verdicts: Sequence[Mapping[str, Any]]) -> None:
    """Set the status of deliveries whose claim is still valid: ``key token new_status next``."""
    await db.execute_many(SETTLE, verdicts)


async def give_back(db: Connection, id: int, token: str, now: datetime) -> None:
    """Give back a claimed delivery that was not attempted."""
    await db.execute(GIVE_BACK, key=id, token=token, now=now)


async def log(db: Connection, entries: Sequence[Mapping[str, Any]]) -> None:
    """Log delivery attempts: ``key at code took text fault``."""
    await db.execute_many(LOG, entries)


async def purge(db: Connection, before: datetime, limit: int) -> int:
    """Delete up to ``limit`` older deliveries with their attempts. Return their number."""
    return await db.execute(PURGE, before=before, limit=limit)
