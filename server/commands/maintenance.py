"""The commands that look after a database, and the one that prints the contract."""

import argparse
import asyncio
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from tempfile import NamedTemporaryFile

from tqdm import tqdm

from openapi import rendering
from persistence import backup as copies
from persistence import delivery_queue, demo, events, idempotency, migrations, webhooks
from persistence.backup import Progress
from persistence.database import Database
from persistence.sealing import Box, Unsealable
from server.commands.database import refuse_pending, with_database
from server.process.clock import now
from server.settings import SettingError, Settings, prepare_data_dir, secret_key


@contextmanager
def _bar(what: str) -> Iterator[Progress]:
    """Show a progress bar if stderr is a terminal."""
    with tqdm(desc=what, unit=" rows", disable=None, leave=False) as bar:

        def tell(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        yield tell


def migrate(settings: Settings, options: argparse.Namespace) -> None:
    """Run the migrations that the database lacks."""
    prepare_data_dir(settings)
    migrations.upgrade(settings.database_url)


def seed(settings: Settings, options: argparse.Namespace) -> None:
    """Fill an empty database with the demo data."""
    if settings.production:
        raise SettingError("Demo data has credentials that everybody knows; in production there is none.")
    migrate(settings, options)

    async def fill(database: Database) -> None:
        with _bar("seed") as tell:
            await demo.seed(database, tell)

    asyncio.run(with_database(settings, fill))


PURGED_AT_ONCE = 1000


def purge(settings: Settings, options: argparse.Namespace) -> None:
    """Delete old events and deliveries, in batches that block no request."""
    old = now() - timedelta(days=options.days)

    async def delete(database: Database) -> list[int]:
        totals: list[int] = []
        old_keys = now() - idempotency.LIFETIME
        with tqdm(desc="purge", unit=" rows", disable=None, leave=False) as bar:
            for each, before in ((delivery_queue, old), (events, old), (idempotency, old_keys)):
                totals.append(0)
                while True:
                    async with database.transaction() as db:
                        done = await each.purge(db, before, PURGED_AT_ONCE)
                    totals[-1] += done
                    bar.update(done)
                    if done < PURGED_AT_ONCE:
                        break
        return totals

    refuse_pending(settings)
    done = asyncio.run(with_database(settings, delete))
    print(f"{done[0]} deliveries and {done[1]} events from before {old:%Y-%m-%d %H:%M:%S} are deleted,")
    print(f"and {done[2]} idempotency keys of more than {idempotency.LIFETIME.days * 24} hours.")


def backup(settings: Settings, options: argparse.Namespace) -> None:
    """Copy the whole database to a file, which is there complete or not at all."""
    refuse_pending(settings)
    key = secret_key(settings)
    path = Path(options.file)

    async def copy(database: Database) -> int:
        # Readable by this user alone, whatever the umask, under a name that nobody can foresee.
        with (
            _bar("backup") as tell,
            NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}-", suffix=".part") as file,
        ):
            total = await copies.dump(database, file, now(), key, tell)
            file.flush()
            os.fsync(file.fileno())
            # Unlike a rename, a link replaces nothing, and follows no link that stands there.
            os.link(file.name, path)
        return total

    try:
        if path.exists():
            raise SettingError(f"{path} exists already; choose another name.")
        total = asyncio.run(with_database(settings, copy))
    except OSError as error:
        raise SettingError(f"{path} cannot be written ({error.strerror}).") from error
    print(f"{total} rows are in {path}. It is restored with the secret key only, which is not in it:")
    print("keep CLOUDARC_SECRET_KEY elsewhere.")


def restore(settings: Settings, options: argparse.Namespace) -> None:
    """Fill an empty database from a backup, all or nothing."""
    try:
        with Path(options.file).open("rb") as file:
            migrate(settings, options)
            keys = filter(None, (secret_key(settings), settings.other_secret_key))

            async def fill(database: Database) -> int:
                with _bar("restore") as tell:
                    return await copies.restore(database, file, keys, tell)

            total = asyncio.run(with_database(settings, fill))
    except OSError as error:
        raise SettingError(f"{options.file} cannot be read ({error.strerror or error}).") from error
    print(f"{total} rows are restored. Operators sign in again.")


def reseal(settings: Settings, options: argparse.Namespace) -> None:
    """Seal the secrets of webhooks with the secret key, which were sealed with the other one."""
    refuse_pending(settings)
    box = Box(secret_key(settings), settings.other_secret_key)

    async def work(database: Database) -> int:
        done = 0
        async with database.transaction() as db:
            for row in await webhooks.all_webhooks(db):
                # That of the demo data has none yet.
                kept = [each for each in (row.secret, row.old_secret) if each]
                if all(box.is_current(each) for each in kept):
                    continue
                place = webhooks.context(row.id)
                sealed = [box.seal(box.open(each, place), place) for each in kept]
                await webhooks.reseal(db, row, sealed[0], sealed[1] if len(sealed) > 1 else None)
                done += 1
        return done

    try:
        done = asyncio.run(with_database(settings, work))
    except Unsealable as error:
        raise SettingError(
            f"A secret was sealed with neither key ({error}) Set CLOUDARC_OTHER_SECRET_KEY to the one it was "
            "made with; nothing was changed."
        ) from error
    print(f"The secrets of {done} webhooks are sealed anew.")


def spec(settings: Settings, options: argparse.Namespace) -> None:
    """Print the contract, whole or for one audience."""
    rendition = rendering.published(options.format, options.audience, options.version)
    try:
        sys.stdout.buffer.write(rendition.body)
        sys.stdout.buffer.flush()
    except OSError as error:
        # Or Python would try again at its end, and tell of it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SettingError(f"The contract cannot be written ({error.strerror}).") from error
