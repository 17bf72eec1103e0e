"""The commands that look after a database, and the one that prints the contract."""

import argparse
import asyncio
import os
import sys
from datetime import timedelta

from openapi import contract
from persistence import deliveries, demo, events, idempotency, migrations
from persistence.database import Database
from server import environment
from server.clock import now
from server.environment import SettingError, Settings
from server.opening import refuse_pending, with_database


def migrate(settings: Settings, options: argparse.Namespace) -> None:
    """Run the migrations that the database lacks."""
    environment.prepare_data_dir(settings)
    migrations.upgrade(settings.database_url)


def seed(settings: Settings, options: argparse.Namespace) -> None:
    """Fill an empty database with the demo data."""
    if settings.production:
        raise SettingError("Demo data has credentials that everybody knows; in production there is none.")
    migrate(settings, options)
    asyncio.run(with_database(settings, demo.seed))


PURGED_AT_ONCE = 1000


def purge(settings: Settings, options: argparse.Namespace) -> None:
    """Delete events and deliveries of more than so many days, in batches that keep nobody waiting."""
    old = now() - timedelta(days=options.days)

    async def delete(database: Database) -> list[int]:
        totals = []
        old_keys = now() - idempotency.LIFETIME
        for each, before in ((deliveries, old), (events, old), (idempotency, old_keys)):
            total = 0
            while True:
                async with database.transaction() as db:
                    done = await each.purge(db, before, PURGED_AT_ONCE)
                total += done
                if done < PURGED_AT_ONCE:
                    break
            totals.append(total)
        return totals

    refuse_pending(settings)
    done = asyncio.run(with_database(settings, delete))
    print(f"{done[0]} deliveries and {done[1]} events from before {old:%Y-%m-%d %H:%M:%S} are deleted,")
    print(f"and {done[2]} idempotency keys of more than {idempotency.LIFETIME.days * 24} hours.")


def spec(settings: Settings, options: argparse.Namespace) -> None:
    """Print the contract, whole or for one audience."""
    rendition = contract.published(options.format, options.audience, options.version)
    try:
        sys.stdout.buffer.write(rendition.body)
        sys.stdout.buffer.flush()
    except OSError as error:
        # Or Python would try again at its end, and tell of it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SettingError(f"The contract cannot be written ({error.strerror}).") from error
