"""The outbox: write an event in the transaction of the change that it reports.

A change that is rolled back leaves no event. An event that is committed is delivered at least once.
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
    """Return ``evt_`` and a ULID: 48 bits of milliseconds and 80 random bits."""
    return f"evt_{_time(now)}{_crockford(secrets.randbits(80), 8)}"


@lru_cache(2)
def _time(now: datetime) -> str:
    return _crockford(int(now.timestamp() * 1000), 5)


def _crockford(number: int, pairs: int) -> str:
    """Write a number with two digits for each of ``pairs``."""
    digits = []
    for _ in range(pairs):
        digits.append(PAIRS[number & 1023])
        number >>= 10
    return "".join(reversed(digits))


def serialize_event(event: str, data: Mapping[str, Any], now: datetime) -> str:
    """Return the payload of an event that is signed. Raises EventBreach if it violates the contract."""
    event_kinds()[event].check(data)
    return signing.signed_payload(event, f"{now.astimezone(UTC).isoformat()[:19]}Z", data).decode()


async def record(db: Connection, event: str, data: Mapping[str, Any], now: datetime) -> None:
    """Record an event and its deliveries in the transaction.

    ``data`` is the admin view of the changed resource. From then on, other transactions that record an event
    wait until this one ends.
    """
    await events.add(db, uid=message_id(now), event=event, base=serialize_event(event, data, now), now=now)


async def record_test(db: Connection, webhook_id: int, event: str, now: datetime) -> Row:
    """Create a test delivery, which sends the example of an event. Return the delivery."""
    base = serialize_event(event, event_kinds()[event].example, now)
    return await deliveries.test(db, webhook_id, uid=message_id(now), event=event, base=base, now=now)
