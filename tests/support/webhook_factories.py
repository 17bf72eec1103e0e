"""Deliveries that are due, put straight into a database."""

import asyncio
from datetime import UTC, datetime
from secrets import token_bytes, token_hex

from persistence import events, webhooks
from persistence.database import Connection
from persistence.engines import connect
from persistence.sealing import Box
from webhooks import signing


async def tell(db: Connection, box: Box, url: str, number: int = 1) -> None:
    """Make a webhook, and events that it is to be told of."""
    now = datetime.now(UTC)
    row = await webhooks.create(db, url=url, events=("invoice.paid",), active=True, now=now)
    await webhooks.seal(db, row.id, box.seal(signing.mint(token_bytes), f"webhook:{row.id}"))
    base = signing.signed_payload("invoice.paid", "2026-01-31T12:00:00Z", {"id": 1}).decode()
    for _ in range(number):
        uid = f"evt_{token_hex(10)}"
        await events.add(db, uid=uid, event="invoice.paid", base=base, now=now)


def tell_at(database_url: str, secret_key: str, url: str) -> None:
    """The same in the database of a server that runs with this key."""

    async def run() -> None:
        database = connect(database_url)
        await database.open()
        async with database.transaction() as db:
            await tell(db, Box(secret_key), url)
        await database.close()

    asyncio.run(run())
