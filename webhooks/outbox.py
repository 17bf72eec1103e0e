"""What is told to others, written down in the transaction of what happened.

An event is frozen here, once. A change that is taken back takes its event along, and one that is
committed is told, whatever becomes of this process.
"""

import secrets
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

from persistence import deliveries, events
from persistence.database import Connection, Row
from webhooks import signing
from webhooks.events import event_kinds

CROCKFORD = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
PAIRS = [high + low for high in CROCKFORD for low in CROCKFORD]


def message_id(now: datetime) -> str:
    """``evt_`` and a ULID: 48 bits of milliseconds, 80 of chance."""
    return f"evt_{_time(now)}{_crockford(secrets.randbits(80), 8)}"


@lru_cache(2)
def _time(now: datetime) -> str:
    return _crockford(int(now.timestamp() * 1000), 5)


def _crockford(number: int, pairs: int) -> str:
    """A number in twice as many digits as there are ``pairs``."""
    digits = []
    for _ in range(pairs):
        digits.append(PAIRS[number & 1023])
        number >>= 10
    return "".join(reversed(digits))


def serialize_event(event: str, data: Mapping[str, Any], now: datetime) -> str:
    """What is signed of an event. Raises EventBreach where the contract says something else."""
    event_kinds()[event].check(data)
    return signing.signed_payload(event, f"{now.astimezone(UTC).isoformat()[:19]}Z", data).decode()


async def record(db: Connection, event: str, data: Mapping[str, Any], now: datetime) -> None:
    """Write an event down, and whom to tell, before the transaction ends.

    ``data`` is the admin's view of what changed. Other transactions that record an event wait from then
    to the end of this one.
    """
    await events.add(db, uid=message_id(now), event=event, base=serialize_event(event, data, now), now=now)


async def record_test(db: Connection, webhook_id: int, event: str, now: datetime) -> Row:
    """Write down that a webhook is to be sent an example, which is no event; the delivery."""
    base = serialize_event(event, event_kinds()[event].example, now)
    return await deliveries.test(db, webhook_id, uid=message_id(now), event=event, base=base, now=now)
