"""PostgreSQL by ``asyncpg``: a pool each for readers, writers and searches."""

import asyncio
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from types import TracebackType
from typing import Any

import asyncpg
from sqlalchemy.dialects.postgresql import asyncpg as postgresql_dialect
from sqlalchemy.engine import URL
from sqlalchemy.sql.elements import ClauseElement

from persistence.database import CompiledStatement, Connection, Database, Preamble, Row, Transaction
from persistence.engines import limits
from persistence.engines.common import (
    FairQueue,
    enter_transaction,
    inside_transaction,
    resolve,
    search_timeout,
)
from persistence.engines.lazy import LazyConnection
from persistence.errors import Busy, Duplicate, StartError, Unavailable

LOCK_NOT_AVAILABLE = "55P03"

# Deadlocks, serialization failures, a backend or server that shuts down, too many clients.
TRANSIENT_SQLSTATES = {
    "40P01",
    "40001",
    "57P01",
    "57P02",
    "57P03",
    "57014",
    "53100",
    "53200",
    "53300",
    "25006",
    "25P03",
}


def translate_error(error: Exception) -> Exception:
    if isinstance(error, asyncpg.UniqueViolationError):
        return Duplicate(error.constraint_name or "")
    if isinstance(error, asyncpg.PostgresError):
        code = error.sqlstate or ""
        if code == LOCK_NOT_AVAILABLE:
            return Busy()
        return Unavailable() if code in TRANSIENT_SQLSTATES or code.startswith("08") else error
    return Unavailable() if isinstance(error, FAILURES) else error


FAILURES = (
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    OSError,
    TimeoutError,
)


class translated(AbstractContextManager[None]):  # noqa: N801  used as a function
    """Turn the driver's exceptions into those of ``persistence.errors``.

    A class, since ``contextmanager`` costs several microseconds for each statement.
    """

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(error, FAILURES):
            raise translate_error(error) from error


class PostgreSQLConnection(Connection):
    database: "PostgreSQL"

    def __init__(self, database: "PostgreSQL", raw: Any) -> None:
        self.database = database
        self.raw = raw

    async def connected(self) -> Any:
        """Return the connection of the driver. Raises FAILURES."""
        return self.raw

    async def _fetch(self, prepared: CompiledStatement, values: list[Any]) -> Any:
        return await (await self.connected()).fetch(prepared.sql, *values)

    async def fetch_all(self, statement: ClauseElement, **params: Any) -> list[Row]:
        prepared = self.database.compile(statement)
        with translated():
            return prepared.rows(await self._fetch(prepared, prepared.values(params)))

    async def execute(self, statement: ClauseElement, **params: Any) -> int:
        prepared = self.database.compile(statement)
        with translated():
            raw = await self.connected()
            tag = await raw.execute(prepared.sql, *prepared.values(params))
        return int(tag.rpartition(" ")[2])

    async def execute_many(self, statement: ClauseElement, rows: Sequence[Mapping[str, Any]]) -> None:
        prepared = self.database.compile(statement)
        with translated():
            raw = await self.connected()
            await raw.executemany(prepared.sql, [prepared.values(each) for each in rows])


class PostgreSQLReader(PostgreSQLConnection):
    """Takes a connection from the pool at its first statement. A search uses the pool for searches."""

    async def connected(self) -> Any:
        if self.raw is None:
            self.raw = await self.database.readers.acquire(timeout=limits.LOCK_SECONDS)
        return self.raw

    async def _fetch(self, prepared: CompiledStatement, values: list[Any]) -> Any:
        if prepared.search:
            return await self.database.search(prepared.sql, values)
        return await super()._fetch(prepared, values)


class PostgreSQLReading(Transaction):
    """Reads without a transaction: every statement sees what is committed when it starts."""

    def __init__(self, database: "PostgreSQL") -> None:
        self.database = database
        self.connection = PostgreSQLReader(database, None)

    async def __aenter__(self) -> Connection:
        return self.connection

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.connection.raw is not None:
            await asyncio.shield(_give_back(self.database.readers, self.connection.raw))


class PostgreSQLSnapshot(PostgreSQLReading):
    """Reads in one transaction, so that all statements see the same state."""

    async def __aenter__(self) -> Connection:
        with translated():
            raw = await self.connection.connected()
        await raw.execute("BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        return PostgreSQLConnection(self.database, raw)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            await self.connection.raw.execute("ROLLBACK")
        finally:
            await super().__aexit__(kind, error, trace)


class PostgreSQLWriting(Transaction):
    """A write transaction at READ COMMITTED. Conditional writes prevent races."""

    def __init__(self, database: "PostgreSQL", first: Preamble | None) -> None:
        self.database = database
        self.connection = LazyConnection(self._begin, database, first)
        self.raw: Any = None

    async def __aenter__(self) -> Connection:
        enter_transaction()
        return self.connection

    async def _begin(self) -> Connection:
        with translated():
            # From here on, the end of the transaction releases the connection.
            self.raw = await self.database.begin()
        return PostgreSQLConnection(self.database, self.raw)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        inside_transaction.set(False)
        if kind is None:
            try:
                await self.connection.flush_deferred()
            except BaseException:
                if self.raw is not None:
                    await asyncio.shield(self.database.rollback_and_release(self.raw))
                raise
        if self.raw is None:
            return
        if kind is not None:
            await asyncio.shield(self.database.rollback_and_release(self.raw))
            return
        # A caller that is cancelled during COMMIT must not leave the connection in an unknown state.
        commit = asyncio.ensure_future(self.database.commit(self.raw))
        with translated():
            await asyncio.shield(commit)


async def _give_back(pool: Any, raw: Any) -> None:
    """Return a connection to its pool. That it has died meanwhile is not news to anybody."""
    with suppress(*FAILURES):
        await pool.release(raw, timeout=limits.LOCK_SECONDS)


async def _end(pool: Any) -> None:
    """Close a pool, even if its server does not answer."""
    try:
        await asyncio.wait_for(pool.close(), limits.CLOSE_SECONDS)
    except TimeoutError:
        pool.terminate()


class PostgreSQL(Database):
    """A PostgreSQL server. Readers, writers and searches have a pool each.

    Writers may wait long for a row, and searches may take long.
    """

    dialect = postgresql_dialect.dialect()  # type: ignore[no-untyped-call]  # untyped there

    def __init__(self, url: URL, size: int = limits.POOL_SIZE) -> None:
        super().__init__()
        self.url = url
        self.size = size
        self.searches = FairQueue(limits.MAX_SEARCHES)
        self.writing = 0
        # Writers that wait for a connection. Each gets a connection with an open transaction, None if there
        # is room for a new connection, or Unavailable after the timeout.
        self.queue: deque[asyncio.Future[Any]] = deque()

    async def open(self) -> None:
        try:
            self.readers = await self._pool(self.size)
            self.writers = await self._pool(self.size)
            # The server measures the timeout, so a busy event loop ends no search too early.
            self.searchers = await self._pool(limits.MAX_SEARCHES, f"{limits.SEARCH_SECONDS * 1000:.0f}ms")
        except FAILURES as error:
            shown = self.url.render_as_string(hide_password=True)
            raise StartError(f"The database {shown} does not answer: {error}") from error

    async def _pool(self, size: int, statement_timeout: str = "30s") -> Any:
        return await asyncpg.create_pool(
            host=self.url.host,
            port=self.url.port,
            user=self.url.username,
            password=self.url.password,
            database=self.url.database,
            min_size=1,
            max_size=size,
            timeout=limits.LOCK_SECONDS,
            command_timeout=2 * limits.LOCK_SECONDS,
            reset=_no_reset,
            server_settings={
                "application_name": "cloudarc",
                "lock_timeout": f"{limits.LOCK_SECONDS}s",
                "idle_in_transaction_session_timeout": f"{limits.IDLE_SECONDS}s",
                "statement_timeout": statement_timeout,
                "timezone": "UTC",
            },
        )

    async def close(self) -> None:
        self.searches.close()
        await asyncio.gather(_end(self.readers), _end(self.writers), _end(self.searchers))

    def reading(self) -> Transaction:
        return PostgreSQLReading(self)

    def snapshot(self) -> Transaction:
        return PostgreSQLSnapshot(self)

    def transaction(self, first: Preamble | None = None) -> Transaction:
        return PostgreSQLWriting(self, first)

    async def search(self, sql: str, values: list[Any]) -> Any:
        """Return the rows of a search, from the pool for searches. Raises FAILURES, Unavailable."""
        async with self.searches.place(search=True):
            raw = await self.searchers.acquire(timeout=limits.LOCK_SECONDS)
            try:
                return await raw.fetch(sql, *values)
            except asyncpg.QueryCanceledError:
                raise search_timeout() from None
            finally:
                await asyncio.shield(_give_back(self.searchers, raw))

    async def begin(self) -> Any:
        """Return a connection with an open transaction. Raises FAILURES."""
        raw = None
        if self.writing < self.size:
            self.writing += 1
        else:
            raw = await self._wait_for_connection()
        if raw is None:
            try:
                raw = await self.writers.acquire(timeout=limits.LOCK_SECONDS)
                await raw.execute("BEGIN")
            except BaseException:
                await asyncio.shield(self.rollback_and_release(raw))
                raise
        return raw

    async def _wait_for_connection(self) -> Any:
        """Wait for the connection of a transaction that ends. Raises Unavailable."""
        loop = asyncio.get_running_loop()
        mine = loop.create_future()
        self.queue.append(mine)
        late = loop.call_later(limits.LOCK_SECONDS, resolve, mine, Unavailable())
        try:
            raw = await mine
        except asyncio.CancelledError:
            if not mine.cancelled() and not isinstance(mine.result(), Unavailable):
                await asyncio.shield(self.rollback_and_release(mine.result()))
            raise
        finally:
            late.cancel()
        if isinstance(raw, Unavailable):
            raise raw
        return raw

    async def commit(self, raw: Any) -> None:
        """Commit, and begin the transaction of the next writer in the same round trip. Raises FAILURES."""
        handed = False
        try:
            await raw.execute("COMMIT; BEGIN" if self._waiting() else "COMMIT")
            if raw.is_in_transaction() and self._waiting():
                self.queue.popleft().set_result(raw)
                handed = True
        finally:
            if not handed:
                await self.rollback_and_release(raw)

    def _waiting(self) -> bool:
        while self.queue and self.queue[0].done():
            self.queue.popleft()
        return bool(self.queue)

    async def rollback_and_release(self, raw: Any) -> None:
        """Roll back, release the connection to its pool, and give its place to the next writer."""
        try:
            if raw is not None and raw.is_in_transaction():
                await raw.execute("ROLLBACK", timeout=limits.LOCK_SECONDS)
        except FAILURES:
            with suppress(*FAILURES):
                raw.terminate()
        finally:
            if raw is not None:
                await _give_back(self.writers, raw)
            if self._waiting():
                self.queue.popleft().set_result(None)
            else:
                self.writing -= 1


async def _no_reset(_: object) -> None:
    """Skip the reset of a connection, since no statement of this project changes its session."""
