"""The database of a command: opened for it, once it has all migrations."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from persistence import migrations
from persistence.database import Connection, Database
from persistence.engines import connect
from persistence.errors import StartError
from server.settings import Settings, prepare_data_dir

T = TypeVar("T")


def refuse_pending(settings: Settings) -> None:
    prepare_data_dir(settings)
    if migrations.pending(settings.database_url):
        raise StartError("The database lacks migrations; run `python -m server migrate` first.")


async def with_database(settings: Settings, work: Callable[[Database], Awaitable[T]]) -> T:
    database = connect(settings.database_url)
    await database.open()
    try:
        return await work(database)
    finally:
        await database.close()


def write(settings: Settings, work: Callable[[Connection], Awaitable[None]]) -> None:
    refuse_pending(settings)

    async def inside(database: Database) -> None:
        async with database.transaction() as db:
            await work(db)

    asyncio.run(with_database(settings, inside))
