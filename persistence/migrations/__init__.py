"""The database's history. ``upgrade`` brings a database to the newest state, ``pending`` looks.

Alembic is imported where there is something to migrate: it takes as long as all the rest of a look.
"""

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import Connection, Engine, String, column, create_engine, event, inspect, select, table, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import SQLAlchemyError

from persistence.database import Connection as Reading
from persistence.engines.sqlite import keep_private
from persistence.errors import StartError

if TYPE_CHECKING:
    from alembic.config import Config

LOCATION = Path(__file__).parent

REVISIONS = sorted(each.name.partition("_")[0] for each in LOCATION.glob("versions/[0-9]*.py"))
"""All revisions, the newest last; the files are named by them."""

VERSION = select(column("version_num", String)).select_from(table("alembic_version"))


def config() -> "Config":
    """Alembic's settings; ``attributes["connection"]`` carries the database to work on."""
    from alembic.config import Config

    result = Config()
    result.set_main_option("script_location", str(LOCATION))
    result.set_main_option("path_separator", "os")
    return result


def _revision(connection: Connection) -> str | None:
    """The revision of a database; None where it is empty."""
    known = inspect(connection).has_table("alembic_version")
    return connection.scalar(VERSION) if known else None


# Of two that start on one database the second waits, and finds that there is nothing to do. The number is
# the text "migrate"; the lock ends with the transaction. SQLite has one writer at a time anyway.
TURN = text("SELECT pg_advisory_xact_lock(30796665482998885)")


def _upgrade(connection: Connection) -> None:
    if connection.dialect.name == "postgresql":
        connection.execute(TURN)
        # While a change of a table waits for a long call, all later ones would wait behind it.
        connection.execute(text("SET LOCAL lock_timeout = '5s'"))
    revision = _revision(connection)
    if revision == REVISIONS[-1]:
        return
    if revision and revision not in REVISIONS:
        shown = connection.engine.url.render_as_string(hide_password=True)
        if revision < REVISIONS[0]:
            raise StartError(
                f"The database {shown} was made before the first release (revision {revision}) and cannot be"
                " upgraded; set CLOUDARC_DATABASE_URL to an empty database."
            )
        raise StartError(
            f"The database {shown} was made by a newer version than this one (revision {revision}); "
            "install that version."
        )
    from alembic import command

    settings = config()
    settings.attributes["connection"] = connection
    command.upgrade(settings, "head")


def _pending(connection: Connection) -> bool:
    return _lacks(_revision(connection))


def _lacks(revision: str | None) -> bool:
    """Whether a revision is older than the newest revision of this version.

    A later revision is of a newer version, which may serve the same database during an upgrade.
    """
    return revision is None or revision < REVISIONS[-1]


def upgrade(url: str) -> None:
    """Run the migrations that the database lacks. Raises StartError."""
    _with_connection(url, _upgrade)


def pending(url: str) -> bool:
    """Whether the database lacks migrations. Raises StartError."""
    return bool(_with_connection(url, _pending))


async def behind(db: Reading) -> bool:
    """Whether an open database lacks migrations. Raises Unavailable."""
    row = await db.fetch_one(VERSION)
    return _lacks(row and row.version_num)


def _with_connection(url: str, work):  # type: ignore[no-untyped-def]
    parsed = make_url(url)
    shown = parsed.render_as_string(hide_password=True)
    try:
        if parsed.get_backend_name() == "sqlite":
            keep_private(str(parsed.database))
            engine = create_engine(url)
            _hold_schema_changes(engine)
            with engine.begin() as connection:
                return work(connection)
        return asyncio.run(_asynchronously(url, work))
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
