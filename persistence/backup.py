"""A copy of a whole database in one file, which either kind of database can be filled from again.

The file is JSON lines, compressed by gzip. The first line says what it is: the revision of the tables, how
many rows each has, and the name of the key. A line ``{"table", "columns"}`` comes before the rows of each
table, each an array. The last line is the MAC of all lines before, so only a holder of the key can make or
edit a copy that is restored. Left out are tallies, which the database counts again, and the sessions of
operators, who sign in again.
"""

import gzip
import hmac
import zlib
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from datetime import date, datetime
from decimal import Decimal
from typing import IO, Any

import orjson
from sqlalchemy import BigInteger, Select, Text, bindparam, delete, func, insert, select, text, tuple_
from sqlalchemy.sql.expression import TableClause
from sqlalchemy.types import TypeDecorator

from persistence import search
from persistence.database import Connection, Database, Row
from persistence.errors import Conflict, StartError, Unavailable
from persistence.listing import COMPACT, Tally
from persistence.migrations import VERSION
from persistence.operators import Session
from persistence.sealing import start_mac
from persistence.settings import StoredSettings

FORMAT = 2
MAX_LINE = 8 * 1024 * 1024
"""Bytes of a line once it is unpacked; the contract keeps every row far below."""

AT_ONCE = 1000
FOLDED_AT = 50_000
"""PostgreSQL adds a tally for each row; after so many they are added up, so that no statement takes long."""

Progress = Callable[[int, int], None]
"""A function that receives the number of finished rows and of all rows."""


class Damaged(StartError):
    """A copy cannot be restored; the message says why."""

    def __init__(self, why: str, way_out: str = "Use another one.") -> None:
        super().__init__(f"The backup cannot be restored ({why}); nothing was changed. {way_out}")


def _nouns() -> list[Any]:
    """All tables, parents before children."""
    # Imported here, since it imports every module, this one among them.
    from persistence.tables import METADATA

    return METADATA.sorted_tables


def _tables() -> list[TableClause]:
    """All that is copied, parents before children; the words of the searches come last."""
    left_out = {Tally.__tablename__, Session.__tablename__}
    nouns = [each for each in _nouns() if each.name not in left_out]
    return [*nouns, *[each.table for each in search.INDEXES]]


def _key(table: TableClause) -> list[Any]:
    return list(table.primary_key) or [table.c.rowid]


async def dump(
    database: Database, file: IO[bytes], now: datetime, secret_key: str, progress: Progress
) -> int:
    """Write a copy of what was committed when it began; how many rows. Raises Unavailable, OSError.

    Nobody is kept waiting by it.
    """
    name, mac = start_mac(secret_key)
    with gzip.GzipFile(fileobj=file, mode="wb", compresslevel=6, mtime=0) as packed:

        def write(line: Any) -> None:
            raw = orjson.dumps(line, default=_text) + b"\n"
            mac.update(raw)
            packed.write(raw)

        async with database.snapshot() as db:
            counts = {str(each.name): await _count(db, each) for each in _tables()}
            revision = (await db.fetch_all(VERSION))[0].version_num
            write(
                {
                    "cloudarc": FORMAT,
                    "key": name,
                    "revision": revision,
                    "made_at": now,
                    "rows": counts,
                    "given": await _given(db, database),
                }
            )
            done, total = 0, sum(counts.values())
            for table in _tables():
                write({"table": table.name, "columns": [each.name for each in table.c]})
                async for rows in _pages(db, table):
                    for row in rows:
                        write(tuple(row))
                    done += len(rows)
                    progress(done, total)
        packed.write(_last_line(mac))
    return total


def _last_line(mac: hmac.HMAC) -> bytes:
    return orjson.dumps({"mac": mac.hexdigest()}) + b"\n"


def _text(value: Any) -> str:
    """What JSON has no type for."""
    if isinstance(value, Decimal):
        return str(value)
    raise TypeError(f"a backup cannot hold {type(value)}")


async def _count(db: Connection, table: TableClause) -> int:
    return int((await db.fetch_all(select(func.count().label("total")).select_from(table)))[0].total)


async def _pages(db: Connection, table: TableClause) -> AsyncIterator[list[Row]]:
    key = _key(table)
    first: Select[Any] = select(*table.c).order_by(*key).limit(AT_ONCE)
    names = [f"after_{nth}" for nth in range(len(key))]
    after = first.where(
        tuple_(*key)
        > tuple_(*[bindparam(name, type_=column.type) for name, column in zip(names, key, strict=True)])
    )
    rows = await db.fetch_all(first)
    while rows:
        yield rows
        last = {name: getattr(rows[-1], column.name) for name, column in zip(names, key, strict=True)}
        rows = await db.fetch_all(after, **last)


# Up to where ids were given out, also those of rows that are gone; SQLite remembers this of some tables.
GIVEN = {
    "sqlite": text("SELECT name, seq AS last FROM sqlite_sequence"),
    "postgresql": text(
        "SELECT t.relname::text AS name, s.last_value AS last FROM pg_sequences AS s"
        " JOIN pg_class AS q ON q.relname = s.sequencename AND q.relnamespace = s.schemaname::regnamespace"
        " JOIN pg_depend AS d ON d.objid = q.oid AND d.deptype IN ('a', 'i')"
        " AND d.classid = 'pg_class'::regclass"
        " JOIN pg_class AS t ON t.oid = d.refobjid AND t.relkind = 'r'"
        " WHERE s.schemaname = current_schema() AND s.last_value IS NOT NULL"
    ),
}


async def _given(db: Connection, database: Database) -> dict[str, int]:
    query = GIVEN[database.dialect.name].columns(name=Text, last=BigInteger)
    return {row.name: row.last for row in await db.fetch_all(query)}


async def restore(database: Database, file: IO[bytes], secret_keys: Iterable[str], progress: Progress) -> int:
    """Fill an empty database of the same revision from a copy; how many rows. All or nothing.

    The copy was made with one of the secret keys. The file must be seekable: the MAC is verified before the
    first row is written, so a forged copy cannot fill the disk.

    Raises Damaged, Conflict where the database is not empty, Unavailable, OSError.
    """
    keys = [*secret_keys]
    verified = Lines(file, keys)
    for _ in range(len(verified.head["rows"]) + verified.total):
        verified.next()
    verified.end()
    file.seek(0)
    return await _restore(database, Lines(file, keys), progress)


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_instant(value: Any) -> bool:
    try:
        return bool(datetime.fromisoformat(value))
    except (TypeError, ValueError):
        return False


def _are_counts(value: Any) -> bool:
    return isinstance(value, dict) and all(type(each) is int and 0 <= each < 2**63 for each in value.values())


HEAD: dict[str, Callable[[Any], bool]] = {
    "key": _is_text,
    "revision": _is_text,
    "made_at": _is_instant,
    "rows": _are_counts,
    "given": _are_counts,
}
"""The members of the first line beside the number of the format."""


class Lines:
    """Reads the lines of a copy in bounded memory, and authenticates them. Every call raises Damaged."""

    def __init__(self, file: IO[bytes], secret_keys: Iterable[str]) -> None:
        self.packed = gzip.GzipFile(fileobj=file, mode="rb")
        raw = self._raw()
        self.head = _checked_head(_parsed(raw))
        self.total: int = sum(self.head["rows"].values())
        macs = dict(map(start_mac, secret_keys))
        if self.head["key"] not in macs:
            raise Damaged(
                "another secret key made it",
                "Set CLOUDARC_SECRET_KEY or CLOUDARC_OTHER_SECRET_KEY to the key of the server that made it; "
                "without that setting the key is in secret.key in its data directory.",
            )
        self.mac = macs[self.head["key"]]
        self.mac.update(raw)

    def next(self) -> bytes:
        """Return the next line."""
        raw = self._raw()
        self.mac.update(raw)
        return raw

    def end(self) -> None:
        """Hold the last line to all lines before; nothing may follow it."""
        if not hmac.compare_digest(self._raw(), _last_line(self.mac)):
            raise Damaged("it is altered")
        if self._unpack(1):
            raise Damaged("it has data after its end")

    def _raw(self) -> bytes:
        raw = self._unpack(MAX_LINE)
        if len(raw) == MAX_LINE:
            raise Damaged(f"a line of it is longer than {MAX_LINE // 2**20} MiB")
        if not raw.endswith(b"\n"):
            raise Damaged("it is truncated, or is not a backup")
        return raw

    def _unpack(self, limit: int) -> bytes:
        try:
            return self.packed.readline(limit)
        except (EOFError, gzip.BadGzipFile, zlib.error):
            raise Damaged("it is truncated, or is not a backup") from None


def _parsed(raw: bytes) -> Any:
    try:
        return orjson.loads(raw)
    except ValueError:
        raise Damaged("it was altered, or is not a backup") from None


def _checked_head(head: Any) -> dict[str, Any]:
    if not isinstance(head, dict) or "cloudarc" not in head:
        raise Damaged("it is no backup")
    if head["cloudarc"] == 1:
        raise Damaged("its format 1 has no MAC", "Make a new one with this version.")
    if head["cloudarc"] != FORMAT:
        raise Damaged("a newer version made it")
    for name, is_valid in HEAD.items():
        if not is_valid(head.get(name)):
            raise Damaged(f"{name} of its first line is malformed")
    return head


async def _restore(database: Database, lines: Lines, progress: Progress) -> int:
    head = lines.head
    async with database.transaction() as db:
        revision = (await db.fetch_all(VERSION))[0].version_num
        if head["revision"] != revision:
            raise Damaged(
                f"its tables are of revision {head['revision']}, those of this version of {revision}: "
                "restore it with the version that made it, then run `python -m server migrate` with this one"
            )
        if head["rows"].keys() != {each.name for each in _tables()}:
            raise Damaged("rows of its first line names other tables")
        # A migration puts a row there.
        await db.execute(delete(StoredSettings))
        for table in _tables():
            if await _count(db, table):
                raise Conflict("The database is not empty; a backup goes into an empty one only.")
        done, fresh = 0, 0
        for table in _tables():
            async for count in _fill(db, table, lines, head["rows"][table.name]):
                done += count
                fresh += count
                progress(done, lines.total)
                if fresh >= FOLDED_AT and database.dialect.name == "postgresql":
                    await db.execute(COMPACT, limit=2 * fresh)
                    fresh = 0
        lines.end()
        await _give_on(db, database, head["given"])
        if database.dialect.name == "postgresql":
            await db.execute(COMPACT, limit=2 * FOLDED_AT)
    return lines.total


async def _fill(db: Connection, table: TableClause, lines: Lines, total: int) -> AsyncIterator[int]:
    """Put in the rows of a table, many at a time; how many each time."""
    names = [each.name for each in table.c]
    if _parsed(lines.next()) != {"table": table.name, "columns": names}:
        raise Damaged(f"it lacks {table.name}")
    readers = [_reader(each) for each in table.c]
    statement = insert(table).values(dict.fromkeys(names))
    while total:
        rows: list[dict[str, Any]] = []
        size = 0
        while len(rows) < min(AT_ONCE, total) and size < MAX_LINE:
            raw = lines.next()
            size += len(raw)
            try:
                rows.append(dict(zip(names, _read(_parsed(raw), readers), strict=True)))
            except (ValueError, TypeError, ArithmeticError):
                raise Damaged(f"a row of {table.name} is malformed") from None
        try:
            await db.execute_many(statement, rows)
        except Unavailable:
            raise
        except Exception as error:  # Each driver has its own for a value or a reference that does not fit.
            raise Damaged(f"the database refuses a row of {table.name}") from error
        total -= len(rows)
        yield len(rows)


PARSERS: dict[type, Callable[[str], Any]] = {
    Decimal: Decimal,
    datetime: datetime.fromisoformat,
    date: date.fromisoformat,
}
"""What JSON has as text."""


def _reader(column: Any) -> Callable[[Any], Any]:
    """Return what reads a value of a column, and raises ValueError, TypeError, ArithmeticError.

    SQLite itself would take a value of another type.
    """
    kind = column.type.impl if isinstance(column.type, TypeDecorator) else column.type
    known: Any = kind.python_type
    parse = PARSERS.get(known)
    expected = str if parse else known

    def read(value: Any) -> Any:
        if value is None:
            return None
        if type(value) is not expected:
            raise TypeError(f"this is no {expected}")
        return parse(value) if parse else value

    return read


def _read(values: Any, readers: Sequence[Callable[[Any], Any]]) -> list[Any]:
    """A row of the file as the database takes it. Raises ValueError, TypeError, ArithmeticError."""
    if not isinstance(values, list):
        raise TypeError("a row is an array")
    return [read(value) for value, read in zip(values, readers, strict=True)]


async def _give_on(db: Connection, database: Database, given: dict[str, int]) -> None:
    """Let the database continue with unused ids, even if the last rows were deleted."""
    for table in _nouns():
        if list(table.primary_key.columns.keys()) != ["id"]:
            continue
        newest = (await db.fetch_all(select(func.max(table.c.id).label("id"))))[0].id or 0
        last = max(newest, given.get(table.name, 0))
        for statement in _giving(database.dialect.name, table.name, last) if last else ():
            await db.fetch_all(text(statement))


def _giving(dialect: str, table: str, last: int) -> list[str]:
    if dialect == "sqlite":
        # What stands there of a table that does not remember is of no account.
        return [
            f"DELETE FROM sqlite_sequence WHERE name = '{table}'",  # noqa: S608  a table's own name
            f"INSERT INTO sqlite_sequence (name, seq) VALUES ('{table}', {last})",  # noqa: S608  as above
        ]
    return [f"SELECT setval(pg_get_serial_sequence('{table}', 'id'), {last})"]
