"""The two engines behind ``Database``: SQLite by sqlite3, PostgreSQL by asyncpg.

``commit`` stands in this module only.
"""

import asyncio
import logging
import os
import sqlite3
import stat
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Hashable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from contextvars import ContextVar
from types import TracebackType
from typing import Any

import asyncpg
from sqlalchemy import Insert
from sqlalchemy.dialects import sqlite as sqlite_dialect
from sqlalchemy.dialects.postgresql import asyncpg as postgresql_dialect
from sqlalchemy.engine import URL, make_url
from sqlalchemy.sql.elements import ClauseElement

from persistence.database import (
    Connection,
    Database,
    First,
    Prepared,
    Row,
    Transaction,
    current_caller,
    together,
)
from persistence.errors import Busy, Duplicate, StartError, Unavailable

logger = logging.getLogger("cloudarc")

CLOSE_SECONDS = 1
"""How long connections to a server may take to end; it notices by itself that they have gone."""

LOCK_SECONDS = 5
"""How long a statement waits for somebody else's lock before it is Unavailable."""


MOST_ON_THE_LOOP = 200
"""How many rows SQLite reads while everybody else waits: a page, and some of a whole list."""

MOST_TOGETHER = 32
"""How many transactions SQLite commits at a time: the first of them waits until the last has run."""

MAX_SEARCHES = 3
"""How many searches run at a time, each of another caller; the others queue."""

THREADS_ASIDE = MAX_SEARCHES + 1
"""How many slow reads SQLite runs at a time. Searches never take the last thread."""

SEARCH_SECONDS = 0.25
"""How long a search may run before it is Unavailable."""

INTERRUPT_SECONDS = 0.01
"""How long SQLite has to end a read before it is interrupted again."""


def connect(url: str) -> Database:
    """The Database at ``sqlite:///path`` or ``postgresql+asyncpg://…``. Raises StartError."""
    parsed = make_url(url)
    if parsed.get_backend_name() == "sqlite" and parsed.database:
        return SQLite(parsed.database)
    if parsed.get_backend_name() == "postgresql":
        return PostgreSQL(parsed)
    raise StartError(
        "CLOUDARC_DATABASE_URL: use sqlite:///path/to/file.db or postgresql+asyncpg://user:password@host/name."
    )


_inside: ContextVar[bool] = ContextVar("inside a transaction", default=False)


def _enter_transaction() -> None:
    if _inside.get():
        raise RuntimeError("a transaction inside a transaction would wait for itself")
    _inside.set(True)


class FairQueue:
    """Places for slow reads. Callers take turns, and one read of each runs at a time.

    Searches take at most ``MAX_SEARCHES`` of the places.
    """

    def __init__(self, places: int) -> None:
        self.places = places
        self.search_places = MAX_SEARCHES
        self.running: set[Hashable] = set()
        # In the order of their turns. Each caller has its reads in the order in which they came.
        self.waiting: dict[Hashable, deque[tuple[bool, asyncio.Future[None]]]] = {}

    @asynccontextmanager
    async def place(self, search: bool) -> AsyncIterator[None]:
        """Wait for a place and hold it. Raises Busy."""
        caller = current_caller.get() or object()
        mine = asyncio.get_running_loop().create_future()
        self.waiting.setdefault(caller, deque()).append((search, mine))
        self._admit()
        try:
            try:
                async with asyncio.timeout(LOCK_SECONDS):
                    await mine
            except TimeoutError:
                raise Busy from None
            yield
        finally:
            # One that was cancelled while it waited has no place.
            if not mine.cancelled():
                self.places += 1
                self.search_places += search
                self.running.discard(caller)
                # The caller's next read comes after those of all others.
                if caller in self.waiting:
                    self.waiting[caller] = self.waiting.pop(caller)
            self._admit()

    def _admit(self) -> None:
        for caller, reads in list(self.waiting.items()):
            while reads and reads[0][1].done():
                reads.popleft()
            if not reads:
                del self.waiting[caller]
            elif self.places and caller not in self.running and (self.search_places or not reads[0][0]):
                search, mine = reads.popleft()
                self.places -= 1
                self.search_places -= search
                self.running.add(caller)
                mine.set_result(None)

    def close(self) -> None:
        """Cancel all that wait."""
        for reads in self.waiting.values():
            for _, mine in reads:
                mine.cancel()


def _took_too_long() -> Unavailable:
    return Unavailable(
        f"The search took longer than {SEARCH_SECONDS * 1000:.0f} ms; use fewer or longer words in q."
    )


class Beginning(Connection):
    """The connection of a transaction that begins with its first statement, and with ``first`` before it."""

    def __init__(
        self, begin: Callable[[], Awaitable[Connection]], database: Database, first: First | None
    ) -> None:
        self.begin = begin
        self.database = database
        self.first = first
        self.begun: Connection | None = None
        self.later: tuple[Insert, Mapping[str, Any]] | None = None

    def parameters(self, statement: ClauseElement) -> Collection[str]:
        return self.database.prepare(statement).defaults.keys()

    async def _connection(self) -> Connection:
        if self.begun is None:
            self.begun = await self.begin()
            if self.first is not None:
                await self.first(self.begun)
        return self.begun

    async def catch_up(self) -> None:
        """Run what was put off."""
        if self.later is not None:
            (statement, params), self.later = self.later, None
            await (await self._connection()).run(statement, **params)

    async def put_off(self, statement: Insert, **params: Any) -> None:
        await self.catch_up()
        if self.database.dialect.name == "postgresql":
            # With the insert that comes next it is one round trip.
            self.later = statement, params
        else:
            await self.run(statement, **params)

    async def all(self, statement: ClauseElement, **params: Any) -> list[Row]:
        await self.catch_up()
        return await (await self._connection()).all(statement, **params)

    async def run(self, statement: ClauseElement, **params: Any) -> int:
        if self.later is not None and isinstance(statement, Insert):
            (first, more), self.later = self.later, None
            return await (await self._connection()).run(together(first, statement), **more, **params)
        await self.catch_up()
        return await (await self._connection()).run(statement, **params)

    async def many(self, statement: ClauseElement, rows: Sequence[Mapping[str, Any]]) -> None:
        await self.catch_up()
        await (await self._connection()).many(statement, rows)


# --- SQLite ------------------------------------------------------------------------------------------


# A disk that is full, gone or read-only, and a server that stops. Everything else, but somebody else's
# lock, is a fault of ours.
SQLITE_PASSING = {
    sqlite3.SQLITE_READONLY,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_INTERRUPT,
}


def _sqlite_failure(error: BaseException) -> BaseException:
    if not isinstance(error, sqlite3.Error):
        return error
    if getattr(error, "sqlite_errorcode", 0) == sqlite3.SQLITE_CONSTRAINT_UNIQUE:
        return Duplicate(str(error))
    # The low byte of a code is its kind.
    kind = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if kind in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return Busy()
    return Unavailable() if kind in SQLITE_PASSING else error


class SQLiteConnection(Connection):
    """Statements run on the event loop itself: they take microseconds, a change of thread takes more.

    Reading aside are those that are marked as slow, and those that turn out to have many rows.
    """

    def __init__(self, database: "SQLite", raw: sqlite3.Connection) -> None:
        self.database = database
        self.raw = raw

    def parameters(self, statement: ClauseElement) -> Collection[str]:
        return self.database.prepare(statement).defaults.keys()

    def _execute(self, prepared: Prepared, params: Mapping[str, Any]) -> sqlite3.Cursor:
        try:
            return self.raw.execute(prepared.sql, prepared.values(params))
        except sqlite3.Error as error:
            raise _sqlite_failure(error) from error

    async def all(self, statement: ClauseElement, **params: Any) -> list[Row]:
        prepared = self.database.prepare(statement)
        if self is not self.database.reader:
            return self._fetch(prepared, params)
        if not prepared.slow:
            cursor = self._execute(prepared, params)
            raw = cursor.fetchmany(MOST_ON_THE_LOOP)
            if len(raw) < MOST_ON_THE_LOOP:
                return prepared.rows(raw)
            cursor.close()
        return await self.database.aside(prepared, params)

    def _fetch(self, prepared: Prepared, params: Mapping[str, Any]) -> list[Row]:
        return prepared.rows(self._execute(prepared, params).fetchall())

    async def run(self, statement: ClauseElement, **params: Any) -> int:
        return self._execute(self.database.prepare(statement), params).rowcount

    async def many(self, statement: ClauseElement, rows: Sequence[Mapping[str, Any]]) -> None:
        prepared = self.database.prepare(statement)
        try:
            self.raw.executemany(prepared.sql, [prepared.values(each) for each in rows])
        except sqlite3.Error as error:
            raise _sqlite_failure(error) from error


class SQLiteReading(Transaction):
    def __init__(self, connection: SQLiteConnection) -> None:
        self.connection = connection

    async def __aenter__(self) -> Connection:
        return self.connection

    async def __aexit__(self, *_: object) -> None:
        return None


class SQLiteSnapshot(SQLiteReading):
    """A connection of its own, since the others see what is committed meanwhile."""

    async def __aenter__(self) -> Connection:
        self.connection.raw.execute("BEGIN")
        return self.connection

    async def __aexit__(self, *_: object) -> None:
        self.connection.raw.close()


class SQLiteWriting(Transaction):
    """One writer at a time: turns among the process's own, BEGIN IMMEDIATE among processes.

    The disk is waited for once for all that queue: each goes into a savepoint, and is committed with the
    last. Nobody is told of what is not committed.
    """

    def __init__(self, database: "SQLite", first: First | None) -> None:
        self.database = database
        self.first = first
        self.raw = database.writer.raw
        self.begun = False
        self.joined = False
        self.patience = LOCK_SECONDS * 1000

    async def __aenter__(self) -> Connection:
        _enter_transaction()
        return Beginning(self._begin, self.database, self.first)

    async def _begin(self) -> Connection:
        # One deadline for both locks: whoever queues behind a writer that waits does not wait anew.
        deadline = asyncio.get_running_loop().time() + LOCK_SECONDS
        await self.database.turn(LOCK_SECONDS)
        try:
            self.joined = bool(self.database.ended)
            try:
                self.raw.execute("SAVEPOINT own" if self.joined else "BEGIN IMMEDIATE")
            except sqlite3.OperationalError:
                if self.joined:
                    raise
                self.patience = max(1, int(1000 * (deadline - asyncio.get_running_loop().time())))
                await self._wait_for(self._begin_patiently)
        except BaseException as error:
            if self.raw.in_transaction and not self.joined:
                self.raw.execute("ROLLBACK")
            self.database.pass_on()
            if isinstance(error, sqlite3.Error):
                raise _sqlite_failure(error) from error
            raise
        self.begun = True
        return self.database.writer

    def _begin_patiently(self) -> None:
        self.raw.execute(f"PRAGMA busy_timeout={self.patience}")
        try:
            self.raw.execute("BEGIN IMMEDIATE")
        finally:
            self.raw.execute("PRAGMA busy_timeout=0")

    async def _wait_for(self, work: Callable[[], None]) -> None:
        """Run ``work`` in a thread to its end, even if the caller is cancelled meanwhile."""
        future = asyncio.get_running_loop().run_in_executor(self.database.disk, work)
        try:
            await asyncio.shield(future)
        except asyncio.CancelledError:
            await asyncio.wait([future])
            raise

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        _inside.set(False)
        if not self.begun:
            return
        database = self.database
        self._end(kept=kind is None)
        # Who failed may have failed because of what others wrote before, so that has to be true first.
        if kind is not None and not (database.ended and issubclass(kind, Exception)):
            database.pass_on()
            return
        outcome = asyncio.get_running_loop().create_future()
        database.ended.append(outcome)
        database.pass_on()
        failure = await outcome
        if failure is not None:
            raise _sqlite_failure(failure) from failure

    def _end(self, *, kept: bool) -> None:
        """Keep what this one wrote, or take it back; where neither can be, all that is not committed yet."""
        try:
            if self.joined and not kept:
                self.raw.execute("ROLLBACK TO own")
            if self.joined:
                self.raw.execute("RELEASE own")
                return
        except sqlite3.Error as error:
            logger.error("what was written cannot be taken back alone: %s", error)
            kept = False
        if not kept and self.raw.in_transaction:
            self.raw.execute("ROLLBACK")


def _tell(future: "asyncio.Future[Any]", what: object) -> None:
    """End the waiting for a future, if anybody waits still."""
    if not future.done():
        future.set_result(what)


def keep_private(path: str) -> None:
    """Create a database file that its owner alone can read, or narrow one of this user that is wider.

    SQLite gives its log and its index the mode of the file. Errors are left to SQLite, which meets them too.
    """
    path = os.path.realpath(path)
    with suppress(OSError):
        # An existing file is never opened: to close it would end the locks that this process has on it.
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
    for each in (path, f"{path}-wal", f"{path}-shm", f"{path}-journal"):
        with suppress(OSError):
            found = os.stat(each)
            if found.st_uid == os.geteuid() and found.st_mode & 0o077:
                os.chmod(each, stat.S_IMODE(found.st_mode) & 0o700)


class SQLite(Database):
    """A file, opened once for writing, once for reading, and for some threads to read aside."""

    dialect = sqlite_dialect.dialect(paramstyle="qmark")

    def __init__(self, path: str) -> None:
        super().__init__()
        self.path = path
        self.resting: list[SQLiteConnection] = []
        self.slow_reads = FairQueue(THREADS_ASIDE)
        self.writing = False
        # Who waits for the turn to write: True is that it comes, False that it comes too late.
        self.queue: deque[asyncio.Future[bool]] = deque()
        # Who has had it since the last COMMIT, and waits for the next.
        self.ended: list[asyncio.Future[BaseException | None]] = []

    async def open(self) -> None:
        keep_private(self.path)
        try:
            self.writer = SQLiteConnection(self, self._open())
            # There a savepoint keeps what it may have to take back.
            self.writer.raw.execute("PRAGMA temp_store=MEMORY")
            self.disk = ThreadPoolExecutor(1, "disk")
            self.reader = SQLiteConnection(self, self._open())
            self.threads = ThreadPoolExecutor(THREADS_ASIDE, "aside")
            self.aside_readers = [SQLiteConnection(self, self._open()) for _ in range(THREADS_ASIDE)]
            for each in (self.reader, *self.aside_readers):
                each.raw.execute("PRAGMA query_only=ON")
            # Whoever has a place takes one, so there is always one left.
            self.resting = self.aside_readers[:]
        except sqlite3.Error as error:
            raise StartError(f"The database {self.path} cannot be opened: {error}.") from error

    def _open(self) -> sqlite3.Connection:
        raw = sqlite3.connect(self.path, timeout=LOCK_SECONDS, isolation_level=None, check_same_thread=False)
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "busy_timeout=0"):
            raw.execute(f"PRAGMA {pragma}")
        return raw

    async def close(self) -> None:
        self.reader.raw.close()
        self.slow_reads.close()
        for each in self.aside_readers:
            each.raw.interrupt()
        self.threads.shutdown(cancel_futures=True)
        for each in self.aside_readers:
            each.raw.close()
        # A writer that was cut off may still be in a thread; its connection must not go before it has
        # let go of the lock. It never does so later than its own deadline. It goes last, for it alone may
        # put what the log holds into the file.
        with suppress(Busy):
            await self.turn(2 * LOCK_SECONDS)
            if self.ended:
                self._begin_commit()
                await self.turn(2 * LOCK_SECONDS)
            self.writer.raw.close()
        self.disk.shutdown(wait=False)

    async def turn(self, seconds: float) -> None:
        """Wait for the turn to write; whoever has it passes it on. Raises Busy."""
        if not self.writing:
            self.writing = True
            return
        loop = asyncio.get_running_loop()
        mine = loop.create_future()
        self.queue.append(mine)
        late = loop.call_later(seconds, _tell, mine, False)
        try:
            if not await mine:
                raise Busy
        except asyncio.CancelledError:
            if not mine.cancelled() and mine.result():
                self.pass_on()
            raise
        finally:
            late.cancel()

    def pass_on(self) -> None:
        """End a turn: commit where nobody takes the next, or where many have ended since the last."""
        while self.queue and self.queue[0].done():
            self.queue.popleft()
        full = not self.writer.raw.in_transaction or len(self.ended) >= MOST_TOGETHER
        if self.ended and full:
            self._begin_commit()
        elif self.queue:
            self.queue.popleft().set_result(True)
        else:
            self.writing = False
            if self.ended:
                # Those who are ready to write are only about to say so.
                asyncio.get_running_loop().call_soon(self._commit_unless_writing)

    def _commit_unless_writing(self) -> None:
        if self.ended and not self.writing:
            self._begin_commit()

    def _begin_commit(self) -> None:
        self.writing = True
        # COMMIT waits for the disk, so it is the one thing that always runs in a thread.
        done = asyncio.get_running_loop().run_in_executor(self.disk, self.commit)
        done.add_done_callback(self._committed)

    def commit(self) -> None:
        """Commit what has been written. Raises sqlite3.Error, Unavailable."""
        if not self.writer.raw.in_transaction:
            # Where SQLite has no room it takes back all that is not committed, whoever wrote it.
            raise Unavailable
        self.writer.raw.execute("COMMIT")

    def _committed(self, done: "asyncio.Future[None]") -> None:
        failure = done.exception()
        ended, self.ended = self.ended, []
        try:
            if self.writer.raw.in_transaction:
                self.writer.raw.execute("ROLLBACK")
        finally:
            for outcome in ended:
                _tell(outcome, failure)
            self.pass_on()

    async def aside(self, prepared: Prepared, params: Mapping[str, Any]) -> list[Row]:
        """Run a slow read in a thread, on a connection of its own, while other calls are answered.

        Raises Unavailable.
        """
        async with self.slow_reads.place(prepared.search):
            reader = self.resting.pop()
            loop = asyncio.get_running_loop()
            reading = loop.run_in_executor(self.threads, reader._fetch, prepared, params)
            late = False
            try:
                await asyncio.wait([reading], timeout=SEARCH_SECONDS if prepared.search else None)
                late = not reading.done()
            finally:
                # Nothing else uses the connection meanwhile, so this read alone is interrupted.
                while not reading.done():
                    reader.raw.interrupt()
                    # SQLite ignores an interrupt that comes before the thread has begun, so it is repeated.
                    with suppress(asyncio.CancelledError):
                        await asyncio.wait([reading], timeout=INTERRUPT_SECONDS)
                self.resting.append(reader)
            if late:
                reading.exception()
                raise _took_too_long()
            return reading.result()

    def reading(self) -> Transaction:
        return SQLiteReading(self.reader)

    def snapshot(self) -> Transaction:
        return SQLiteSnapshot(SQLiteConnection(self, self._open()))

    def transaction(self, first: First | None = None) -> Transaction:
        return SQLiteWriting(self, first)


# --- PostgreSQL --------------------------------------------------------------------------------------

IDLE_SECONDS = 10
"""How long a process that does not go on may hold its locks; nothing of ours pauses in a transaction."""

POOL_SIZE = 10
"""The maximum number of connections in the pool of readers, and in that of writers, of one process."""

LOCK_NOT_AVAILABLE = "55P03"

# Deadlocks and serialisation failures, a backend or server that goes, too many clients.
PASSING = {"40P01", "40001", "57P01", "57P02", "57P03", "57014", "53100", "53200", "53300", "25006", "25P03"}


def _postgresql_failure(error: Exception) -> Exception:
    if isinstance(error, asyncpg.UniqueViolationError):
        return Duplicate(error.constraint_name or "")
    if isinstance(error, asyncpg.PostgresError):
        code = error.sqlstate or ""
        if code == LOCK_NOT_AVAILABLE:
            return Busy()
        return Unavailable() if code in PASSING or code.startswith("08") else error
    return Unavailable() if isinstance(error, FAILURES) else error


FAILURES = (
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    OSError,
    TimeoutError,
)


class PostgreSQLConnection(Connection):
    def __init__(self, database: "PostgreSQL", raw: Any) -> None:
        self.database = database
        self.raw = raw

    def parameters(self, statement: ClauseElement) -> Collection[str]:
        return self.database.prepare(statement).defaults.keys()

    async def connected(self) -> Any:
        """The driver's connection. Raises FAILURES."""
        return self.raw

    async def _fetch(self, prepared: Prepared, values: list[Any]) -> Any:
        return await (await self.connected()).fetch(prepared.sql, *values)

    async def all(self, statement: ClauseElement, **params: Any) -> list[Row]:
        prepared = self.database.prepare(statement)
        try:
            return prepared.rows(await self._fetch(prepared, prepared.values(params)))
        except FAILURES as error:
            raise _postgresql_failure(error) from error

    async def run(self, statement: ClauseElement, **params: Any) -> int:
        prepared = self.database.prepare(statement)
        try:
            raw = await self.connected()
            tag = await raw.execute(prepared.sql, *prepared.values(params))
        except FAILURES as error:
            raise _postgresql_failure(error) from error
        return int(tag.rpartition(" ")[2])

    async def many(self, statement: ClauseElement, rows: Sequence[Mapping[str, Any]]) -> None:
        prepared = self.database.prepare(statement)
        try:
            raw = await self.connected()
            await raw.executemany(prepared.sql, [prepared.values(each) for each in rows])
        except FAILURES as error:
            raise _postgresql_failure(error) from error


class PostgreSQLReader(PostgreSQLConnection):
    """Takes a connection from the pool for its first statement. A search takes one of another pool."""

    async def connected(self) -> Any:
        if self.raw is None:
            self.raw = await self.database.readers.acquire(timeout=LOCK_SECONDS)
        return self.raw

    async def _fetch(self, prepared: Prepared, values: list[Any]) -> Any:
        if prepared.search:
            return await self.database.search(prepared.sql, values)
        return await super()._fetch(prepared, values)


class PostgreSQLReading(Transaction):
    """Every statement sees what is committed when it starts; no transaction is held open."""

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
    """One transaction for all statements."""

    async def __aenter__(self) -> Connection:
        try:
            raw = await self.connection.connected()
        except FAILURES as error:
            raise _postgresql_failure(error) from error
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
    """READ COMMITTED; what must not race is a conditional write."""

    def __init__(self, database: "PostgreSQL", first: First | None) -> None:
        self.database = database
        self.connection = Beginning(self._begin, database, first)
        self.raw: Any = None

    async def __aenter__(self) -> Connection:
        _enter_transaction()
        return self.connection

    async def _begin(self) -> Connection:
        try:
            # From here on leaving the transaction gives the connection back.
            self.raw = await self.database.begin()
        except FAILURES as error:
            raise _postgresql_failure(error) from error
        return PostgreSQLConnection(self.database, self.raw)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        _inside.set(False)
        if kind is None:
            try:
                await self.connection.catch_up()
            except BaseException:
                if self.raw is not None:
                    await asyncio.shield(self.database.leave(self.raw))
                raise
        if self.raw is None:
            return
        if kind is not None:
            await asyncio.shield(self.database.leave(self.raw))
            return
        # A caller who goes away during COMMIT must not take the connection along half-way.
        commit = asyncio.ensure_future(self.database.commit(self.raw))
        try:
            await asyncio.shield(commit)
        except FAILURES as failure:
            raise _postgresql_failure(failure) from failure


async def _give_back(pool: Any, raw: Any) -> None:
    """Return a connection to its pool. That it has died meanwhile is not news to anybody."""
    with suppress(*FAILURES):
        await pool.release(raw, timeout=LOCK_SECONDS)


async def _end(pool: Any) -> None:
    """Close a pool, also one whose server does not answer."""
    try:
        await asyncio.wait_for(pool.close(), CLOSE_SECONDS)
    except TimeoutError:
        pool.terminate()


class PostgreSQL(Database):
    """A server. Readers, writers and searches have a pool each.

    Writers may wait long for a row, and searches may take long.
    """

    dialect = postgresql_dialect.dialect()  # type: ignore[no-untyped-call]  # untyped there

    def __init__(self, url: URL, size: int = POOL_SIZE) -> None:
        super().__init__()
        self.url = url
        self.size = size
        self.searches = FairQueue(MAX_SEARCHES)
        self.writing = 0
        # Who waits for a connection to write on: it comes with a transaction that has begun, as None where
        # there is only room for one, and as Unavailable where that comes too late.
        self.queue: deque[asyncio.Future[Any]] = deque()

    async def open(self) -> None:
        try:
            self.readers = await self._pool(self.size)
            self.writers = await self._pool(self.size)
            # The server itself counts the time, so a busy event loop ends no search too early.
            self.searchers = await self._pool(MAX_SEARCHES, f"{SEARCH_SECONDS * 1000:.0f}ms")
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
            timeout=LOCK_SECONDS,
            command_timeout=2 * LOCK_SECONDS,
            reset=_no_reset,
            server_settings={
                "application_name": "cloudarc",
                "lock_timeout": f"{LOCK_SECONDS}s",
                "idle_in_transaction_session_timeout": f"{IDLE_SECONDS}s",
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

    def transaction(self, first: First | None = None) -> Transaction:
        return PostgreSQLWriting(self, first)

    async def search(self, sql: str, values: list[Any]) -> Any:
        """The rows of a search, on a connection for searches alone. Raises FAILURES, Unavailable."""
        async with self.searches.place(search=True):
            raw = await self.searchers.acquire(timeout=LOCK_SECONDS)
            try:
                return await raw.fetch(sql, *values)
            except asyncpg.QueryCanceledError:
                raise _took_too_long() from None
            finally:
                await asyncio.shield(_give_back(self.searchers, raw))

    async def begin(self) -> Any:
        """A connection whose transaction has begun; end it by ``commit`` or ``leave``. Raises FAILURES."""
        raw = None
        if self.writing < self.size:
            self.writing += 1
        else:
            raw = await self._handed()
        if raw is None:
            try:
                raw = await self.writers.acquire(timeout=LOCK_SECONDS)
                await raw.execute("BEGIN")
            except BaseException:
                await asyncio.shield(self.leave(raw))
                raise
        return raw

    async def _handed(self) -> Any:
        """What another transaction hands on when it ends. Raises Unavailable."""
        loop = asyncio.get_running_loop()
        mine = loop.create_future()
        self.queue.append(mine)
        late = loop.call_later(LOCK_SECONDS, _tell, mine, Unavailable())
        try:
            raw = await mine
        except asyncio.CancelledError:
            if not mine.cancelled() and not isinstance(mine.result(), Unavailable):
                await asyncio.shield(self.leave(mine.result()))
            raise
        finally:
            late.cancel()
        if isinstance(raw, Unavailable):
            raise raw
        return raw

    async def commit(self, raw: Any) -> None:
        """Commit, and in the same round trip begin the transaction of whoever waits. Raises FAILURES."""
        handed = False
        try:
            await raw.execute("COMMIT; BEGIN" if self._waiting() else "COMMIT")
            if raw.is_in_transaction() and self._waiting():
                self.queue.popleft().set_result(raw)
                handed = True
        finally:
            if not handed:
                await self.leave(raw)

    def _waiting(self) -> bool:
        while self.queue and self.queue[0].done():
            self.queue.popleft()
        return bool(self.queue)

    async def leave(self, raw: Any) -> None:
        """Take back what is not committed; a connection goes back to its pool, its place to whoever waits."""
        try:
            if raw is not None and raw.is_in_transaction():
                await raw.execute("ROLLBACK", timeout=LOCK_SECONDS)
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
    """No statement here changes a session, so the round trip that would undo changes is left out."""
