"""The database's history. ``upgrade`` brings a database to the newest state, ``pending`` looks."""

import asyncio
from functools import cache
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import Connection, Engine, String, column, create_engine, event, select, table
from sqlalchemy.engine import make_url
from sqlalchemy.exc import SQLAlchemyError

from persistence.database import Connection as Reading
from persistence.errors import StartError

LOCATION = Path(__file__).parent


def config() -> Config:
    """Alembic's settings; ``attributes["connection"]`` carries the database to work on."""
    result = Config()
    result.set_main_option("script_location", str(LOCATION))
    result.set_main_option("path_separator", "os")
    return result


def _upgrade(connection: Connection) -> None:
    settings = config()
    settings.attributes["connection"] = connection
    command.upgrade(settings, "head")


def _pending(connection: Connection) -> bool:
    heads = set(ScriptDirectory.from_config(config()).get_heads())
    return set(MigrationContext.configure(connection).get_current_heads()) != heads


def upgrade(url: str) -> None:
    """Run the migrations that the database lacks. Raises StartError."""
    _with_connection(url, _upgrade)


def pending(url: str) -> bool:
    """Whether the database lacks migrations. Raises StartError."""
    return bool(_with_connection(url, _pending))


VERSION = select(column("version_num", String)).select_from(table("alembic_version"))


@cache
def _revisions() -> tuple[str | None, frozenset[str]]:
    """The newest revision, and all."""
    scripts = ScriptDirectory.from_config(config())
    return scripts.get_current_head(), frozenset(each.revision for each in scripts.walk_revisions())


async def behind(db: Reading) -> bool:
    """Whether an open database lacks migrations. Raises Unavailable.

    One that a newer version has migrated lacks none, so that versions can be changed while they run.
    """
    row = await db.one(VERSION)
    newest, known = _revisions()
    return row is None or (row.version_num != newest and row.version_num in known)


def _with_connection(url: str, work):  # type: ignore[no-untyped-def]
    shown = make_url(url).render_as_string(hide_password=True)
    try:
        if make_url(url).get_backend_name() == "sqlite":
            engine = create_engine(url)
            _hold_schema_changes(engine)
            with engine.begin() as connection:
                return work(connection)
        return asyncio.run(_asynchronously(url, work))
    except CommandError as error:
        raise StartError(
            f"The database {shown} was made by a newer version than this one ({error}); install that version."
        ) from error
    except (SQLAlchemyError, OSError, TimeoutError) as error:
        reason = str(getattr(error, "orig", None) or error).splitlines()[0]
        raise StartError(
            f"The database {shown} cannot be used ({reason}); start it or correct CLOUDARC_DATABASE_URL."
        ) from error


async def _asynchronously(url: str, work):  # type: ignore[no-untyped-def]
    from sqlalchemy.ext.asyncio import create_async_engine

    engine = create_async_engine(url, connect_args={"timeout": 5})
    try:
        async with engine.begin() as connection:
            return await connection.run_sync(work)
    finally:
        await engine.dispose()


def _hold_schema_changes(engine: Engine) -> None:
    """Make SQLite's driver leave transactions to us, so that a failed migration leaves no trace."""

    @event.listens_for(engine, "connect")
    def connect(raw, _):  # type: ignore[no-untyped-def]
        raw.isolation_level = None

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")
