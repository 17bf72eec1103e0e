"""SQLite by ``sqlite3``: one writer, readers on the event loop, slow reads in threads."""

import asyncio
import logging
import os
import sqlite3
import stat
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from types import TracebackType
from typing import Any

from sqlalchemy.dialects import sqlite as sqlite_dialect
from sqlalchemy.sql.elements import ClauseElement

from persistence.database import CompiledStatement, Connection, Database, Preamble, Row, Transaction
from persistence.engines import limits
from persistence.engines.common import (
    FairQueue,
    enter_transaction,
    inside_transaction,
    run_to_end,
    search_timeout,
)
from persistence.engines.group_commit import GroupCommit
from persistence.engines.lazy import LazyConnection
from persistence.errors import Busy, Duplicate, StartError, Unavailable

logger = logging.getLogger("cloudarc")

DAMAGED_SQLITE_CODES = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}

# A disk that is full, missing or read-only, a damaged file, and a server that stops. All other errors, except
# locks, are faults of the code.
TRANSIENT_SQLITE_CODES = {
    sqlite3.SQLITE_READONLY,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_CANTOPEN,
    *DAMAGED_SQLITE_CODES,
    sqlite3.SQLITE_INTERRUPT,
}


def translate_error(error: BaseException) -> BaseException:
    if not isinstance(error, sqlite3.Error):
        return error
    if getattr(error, "sqlite_errorcode", 0) == sqlite3.SQLITE_CONSTRAINT_UNIQUE:
        return Duplicate(str(error))
    # The low byte of an error code is its primary code.
    kind = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if kind in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return Busy()
    if kind in DAMAGED_SQLITE_CODES:
        logger.error("the database file is damaged (%s); restore the latest backup", error)
    return Unavailable() if kind in TRANSIENT_SQLITE_CODES else error


class SQLiteConnection(Connection):
    """Runs statements on the event loop: most take microseconds, and a thread switch takes longer."""

    database: "SQLite"

    def __init__(self, database: "SQLite", raw: sqlite3.Connection) -> None:
        self.database = database
        self.raw = raw

    def _execute(self, prepared: CompiledStatement, params: Mapping[str, Any]) -> sqlite3.Cursor:
        try:
            return self.raw.execute(prepared.sql, prepared.values(params))
        except sqlite3.Error as error:
            raise translate_error(error) from error

    def _fetch(self, prepared: CompiledStatement, params: Mapping[str, Any]) -> list[Row]:
        return prepared.rows(self._execute(prepared, params).fetchall())

    async def fetch_all(self, statement: ClauseElement, **params: Any) -> list[Row]:
        return self._fetch(self.database.compile(statement), params)

    async def execute(self, statement: ClauseElement, **params: Any) -> int:
        return self._execute(self.database.compile(statement), params).rowcount

    async def execute_many(self, statement: ClauseElement, rows: Sequence[Mapping[str, Any]]) -> None:
        prepared = self.database.compile(statement)
        try:
            self.raw.executemany(prepared.sql, [prepared.values(each) for each in rows])
        except sqlite3.Error as error:
            raise translate_error(error) from error


class SQLiteReader(SQLiteConnection):
    """Runs slow reads and reads of many rows in a thread (``SQLite.read_in_thread``)."""

    async def fetch_all(self, statement: ClauseElement, **params: Any) -> list[Row]:
        prepared = self.database.compile(statement)
        if not prepared.slow:
            cursor = self._execute(prepared, params)
            raw = cursor.fetchmany(limits.MOST_ON_THE_LOOP)
            if len(raw) < limits.MOST_ON_THE_LOOP:
                return prepared.rows(raw)
            cursor.close()
        return await self.database.read_in_thread(prepared, params)


class SQLiteWriter(SQLiteConnection):
    """Runs slow writes in the thread that commits. The transaction has the right to write meanwhile."""

    async def execute(self, statement: ClauseElement, **params: Any) -> int:
        prepared = self.database.compile(statement)
        if prepared.slow:
            return (await run_to_end(self.database.commits.disk, self._execute, prepared, params)).rowcount
        return self._execute(prepared, params).rowcount

    async def fetch_all(self, statement: ClauseElement, **params: Any) -> list[Row]:
        prepared = self.database.compile(statement)
        if prepared.slow:
            return await run_to_end(self.database.commits.disk, self._fetch, prepared, params)
        return self._fetch(prepared, params)


class SQLiteReading(Transaction):
    def __init__(self, connection: SQLiteConnection) -> None:
        self.connection = connection

    async def __aenter__(self) -> Connection:
        return self.connection

    async def __aexit__(self, *_: object) -> None:
        return None


class SQLiteSnapshot(SQLiteReading):
    """A snapshot needs its own connection, since the others see later commits."""

    async def __aenter__(self) -> Connection:
        self.connection.raw.execute("BEGIN")
        return self.connection

    async def __aexit__(self, *_: object) -> None:
        self.connection.raw.close()


class SQLiteWriting(Transaction):
    """A write transaction. Writers of a process queue, and BEGIN IMMEDIATE locks out other processes.

    ``GroupCommit`` commits it together with other transactions.
    """

    def __init__(self, database: "SQLite", first: Preamble | None) -> None:
        self.database = database
        self.commits = database.commits
        self.first = first
        self.raw = database.writer.raw
        self.begun = False
        self.joined = False
        self.patience = limits.LOCK_SECONDS * 1000

    async def __aenter__(self) -> Connection:
        enter_transaction()
        return LazyConnection(self._begin, self.database, self.first)

    async def _begin(self) -> Connection:
        # One deadline covers both locks, the queue of this process and the lock on the file.
        deadline = asyncio.get_running_loop().time() + limits.LOCK_SECONDS
        await self.commits.acquire_writer(limits.LOCK_SECONDS)
        try:
            self.joined = bool(self.commits.awaiting_commit)
            try:
                self.raw.execute("SAVEPOINT own" if self.joined else "BEGIN IMMEDIATE")
            except sqlite3.OperationalError:
                if self.joined:
                    raise
                self.patience = max(1, int(1000 * (deadline - asyncio.get_running_loop().time())))
                await run_to_end(self.commits.disk, self._begin_patiently)
        except BaseException as error:
            if self.raw.in_transaction and not self.joined:
                self.raw.execute("ROLLBACK")
            self.commits.release_writer()
            if isinstance(error, sqlite3.Error):
                raise translate_error(error) from error
            raise
        self.begun = True
        return self.database.writer

    def _begin_patiently(self) -> None:
        self.raw.execute(f"PRAGMA busy_timeout={self.patience}")
        try:
            self.raw.execute("BEGIN IMMEDIATE")
        finally:
            self.raw.execute("PRAGMA busy_timeout=0")

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        inside_transaction.set(False)
        if not self.begun:
            return
        self._end(kept=kind is None)
        # A failure may depend on earlier writes of the same group, so report it only after they commit.
        if kind is not None and not (self.commits.awaiting_commit and issubclass(kind, Exception)):
            self.commits.release_writer()
            return
        failure = await self.commits.committed()
        if failure is not None:
            raise translate_error(failure) from failure

    def _end(self, *, kept: bool) -> None:
        """Keep or roll back what this transaction wrote; if neither works, roll back its whole group."""
        try:
            if self.joined and not kept:
                self.raw.execute("ROLLBACK TO own")
            if self.joined:
                self.raw.execute("RELEASE own")
                return
        except sqlite3.Error as error:
            logger.error("the transaction cannot be rolled back alone: %s", error)
            kept = False
        if not kept and self.raw.in_transaction:
            self.raw.execute("ROLLBACK")


def keep_private(path: str) -> None:
    """Create a database file that only its owner can read, or restrict an existing file of this user.

    SQLite gives its log and its index the mode of the file. Errors are left to SQLite, which meets them too.
    """
    path = os.path.realpath(path)
    with suppress(OSError):
        # An existing file is not opened: closing it would release the locks of this process on it.
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
    for each in (path, f"{path}-wal", f"{path}-shm", f"{path}-journal"):
        with suppress(OSError):
            found = os.stat(each)
            if found.st_uid == os.geteuid() and found.st_mode & 0o077:
                os.chmod(each, stat.S_IMODE(found.st_mode) & 0o700)


class SQLite(Database):
    """A database file with one connection to write, one to read, and one for each thread with slow reads."""

    dialect = sqlite_dialect.dialect(paramstyle="qmark")

    def __init__(self, path: str) -> None:
        super().__init__()
        self.path = path
        self.idle_readers: list[SQLiteConnection] = []
        self.slow_reads = FairQueue(limits.THREADS_ASIDE)

    async def open(self) -> None:
        keep_private(self.path)
        try:
            self.writer = SQLiteWriter(self, self._open())
            # A savepoint keeps the old content of its pages in temporary storage.
            self.writer.raw.execute("PRAGMA temp_store=MEMORY")
            self.commits = GroupCommit(self.writer.raw)
            self.reader = SQLiteReader(self, self._open())
            self.threads = ThreadPoolExecutor(limits.THREADS_ASIDE, "aside")
            self.aside_readers = [SQLiteConnection(self, self._open()) for _ in range(limits.THREADS_ASIDE)]
            for each in (self.reader, *self.aside_readers):
                each.raw.execute("PRAGMA query_only=ON")
            # The queue has as many places as there are readers, so a reader is always free.
            self.idle_readers = self.aside_readers[:]
        except sqlite3.Error as error:
            raise StartError(f"The database {self.path} cannot be opened: {error}.") from error

    def _open(self) -> sqlite3.Connection:
        raw = sqlite3.connect(
            self.path, timeout=limits.LOCK_SECONDS, isolation_level=None, check_same_thread=False
        )
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
        # The writer closes last: the last connection alone moves the write-ahead log into the file.
        await self.commits.close()

    async def read_in_thread(self, prepared: CompiledStatement, params: Mapping[str, Any]) -> list[Row]:
        """Run a slow read in a thread, on a connection of its own.

        Raises Unavailable.
        """
        async with self.slow_reads.place(prepared.search):
            reader = self.idle_readers.pop()
            loop = asyncio.get_running_loop()
            reading = loop.run_in_executor(self.threads, reader._fetch, prepared, params)
            late = False
            try:
                await asyncio.wait([reading], timeout=limits.SEARCH_SECONDS if prepared.search else None)
                late = not reading.done()
            finally:
                # No other read uses the connection, so the interrupt ends this read alone.
                while not reading.done():
                    reader.raw.interrupt()
                    # SQLite ignores an interrupt before the thread has begun, so it is repeated.
                    with suppress(asyncio.CancelledError):
                        await asyncio.wait([reading], timeout=limits.INTERRUPT_SECONDS)
                self.idle_readers.append(reader)
            if late:
                reading.exception()
                raise search_timeout()
            return reading.result()

    def reading(self) -> Transaction:
        return SQLiteReading(self.reader)

    def snapshot(self) -> Transaction:
        return SQLiteSnapshot(SQLiteConnection(self, self._open()))

    def transaction(self, first: Preamble | None = None) -> Transaction:
        return SQLiteWriting(self, first)
