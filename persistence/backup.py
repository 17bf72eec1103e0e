"""A copy of a whole database in one file, which either kind of database can be filled from again.

The file is JSON lines, compressed by gzip. The first line says what it is: the revision of the tables, and
how many rows each has. A line ``{"table", "columns"}`` comes before the rows of each table, each an array.
The last line is the SHA-256 of all before, so that a copy that was cut or altered is noticed. Left out are
tallies, which the database counts again, and the sessions of operators, who sign in again.
"""

import gzip
import hashlib
import zlib
from collections.abc import AsyncIterator, Callable, Sequence
from datetime import date, datetime
from decimal import Decimal
from typing import IO, Any

import orjson
from sqlalchemy import BigInteger, Select, Text, bindparam, delete, func, insert, select, text, tuple_
from sqlalchemy.sql.expression import TableClause
from sqlalchemy.types import TypeDecorator

from persistence import search
from persistence.database import Connection, Database, Row
from persistence.errors import Conflict, StartError
from persistence.listing import FOLD, Tally
from persistence.migrations import VERSION
from persistence.operators import Session
from persistence.settings import Settings

FORMAT = 1
AT_ONCE = 1000
FOLDED_AT = 50_000
"""PostgreSQL adds a tally for each row; after so many they are added up, so that no statement takes long."""

Progress = Callable[[int, int], None]
"""Is told how many rows are done, and how many there are."""


class Damaged(StartError):
    """A copy cannot be restored; the message says why."""

    def __init__(self, why: str) -> None:
        super().__init__(f"The backup cannot be restored ({why}); nothing was changed. Use another one.")


def _nouns() -> list[Any]:
    """All tables, parents before children."""
    # Imported here, since it imports every module, this one among them.
    from persistence.tables import METADATA

    return METADATA.sorted_tables


def _tables() -> list[TableClause]:
    """All that is copied, parents before children; the words of the searches come last."""
    left_out = {Tally.__tablename__, Session.__tablename__}
    nouns = [each for each in _nouns() if each.name not in left_out]
    return [*nouns, search.ARTICLES.table, search.CLIENTS.table]


def _key(table: TableClause) -> list[Any]:
    return list(table.primary_key) or [table.c.rowid]


async def dump(database: Database, file: IO[bytes], now: datetime, progress: Progress) -> int:
    """Write a copy of what was committed when it began; how many rows. Raises Unavailable, OSError.

    Nobody is kept waiting by it.
    """
    digest = hashlib.sha256()
    with gzip.GzipFile(fileobj=file, mode="wb", compresslevel=6, mtime=0) as packed:

        def write(line: Any) -> None:
            raw = orjson.dumps(line, default=_text) + b"\n"
            digest.update(raw)
            packed.write(raw)

        async with database.snapshot() as db:
            counts = {str(each.name): await _count(db, each) for each in _tables()}
            revision = (await db.all(VERSION))[0].version_num
            write(
                {
                    "cloudarc": FORMAT,
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
        packed.write(orjson.dumps({"sha256": digest.hexdigest()}) + b"\n")
    return total


def _text(value: Any) -> str:
    """What JSON has no type for."""
    if isinstance(value, Decimal):
        return str(value)
    raise TypeError(f"a backup cannot hold {type(value)}")


async def _count(db: Connection, table: TableClause) -> int:
    return int((await db.all(select(func.count().label("total")).select_from(table)))[0].total)


async def _pages(db: Connection, table: TableClause) -> AsyncIterator[list[Row]]:
    key = _key(table)
    first: Select[Any] = select(*table.c).order_by(*key).limit(AT_ONCE)
    names = [f"after_{nth}" for nth in range(len(key))]
    after = first.where(
        tuple_(*key)
        > tuple_(*[bindparam(name, type_=column.type) for name, column in zip(names, key, strict=True)])
    )
    rows = await db.all(first)
    while rows:
        yield rows
        last = {name: getattr(rows[-1], column.name) for name, column in zip(names, key, strict=True)}
        rows = await db.all(after, **last)


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
    return {row.name: row.last for row in await db.all(query)}


async def restore(database: Database, file: IO[bytes], progress: Progress) -> int:
    """Fill an empty database of the same revision from a copy; how many rows. All or nothing.

    Raises Damaged, Conflict where the database is not empty, Unavailable.
    """
    with gzip.GzipFile(fileobj=file, mode="rb") as packed:
        return await _restore(database, Lines(packed), progress)


class Lines:
    """The lines of a copy, and the digest of what was read."""

    def __init__(self, file: Any) -> None:
        self.file = file
        self.digest = hashlib.sha256()

    def next(self) -> Any:
        """The next line. Raises Damaged."""
        try:
            raw = self.file.readline()
            line = orjson.loads(raw)
        except (EOFError, gzip.BadGzipFile, zlib.error):
            raise Damaged("it is cut, or no backup") from None
        except ValueError:
            raise Damaged("it is altered, or no backup") from None
        if not (isinstance(line, dict) and "sha256" in line):
            self.digest.update(raw)
        return line

    def end(self) -> None:
        """Nothing may follow. Raises Damaged."""
        try:
            more = self.file.read(1)
        except (EOFError, gzip.BadGzipFile, zlib.error):
            raise Damaged("it is cut") from None
        if more:
            raise Damaged("something stands after its end")


async def _restore(database: Database, lines: Lines, progress: Progress) -> int:
    head = lines.next()
    if not (isinstance(head, dict) and {"revision", "rows", "given"} <= head.keys()):
        raise Damaged("it is no backup")
    if head.get("cloudarc") != FORMAT:
        raise Damaged("a newer version made it")
    async with database.transaction() as db:
        revision = (await db.all(VERSION))[0].version_num
        if head["revision"] != revision:
            raise Damaged(
                f"its tables are of revision {head['revision']}, those of this version of {revision}: "
                "restore it with the version that made it, then run `python -m server migrate` with this one"
            )
        # A migration puts a row there.
        await db.run(delete(Settings))
        for table in _tables():
            if await _count(db, table):
                raise Conflict("The database is not empty; a backup goes into an empty one only.")
        done, fresh, total = 0, 0, int(sum(head["rows"].values()))
        for table in _tables():
            async for count in _fill(db, table, lines, head["rows"][table.name]):
                done += count
                fresh += count
                progress(done, total)
                if fresh >= FOLDED_AT and database.dialect.name == "postgresql":
                    await db.run(FOLD, limit=2 * fresh)
                    fresh = 0
        if lines.next() != {"sha256": lines.digest.hexdigest()}:
            raise Damaged("it is altered")
        lines.end()
        await _give_on(db, database, head["given"])
        if database.dialect.name == "postgresql":
            await db.run(FOLD, limit=2 * FOLDED_AT)
    return total


async def _fill(db: Connection, table: TableClause, lines: Lines, total: int) -> AsyncIterator[int]:
    """Put in the rows of a table, many at a time; how many each time."""
    intro = lines.next()
    names = [each.name for each in table.c]
    if intro != {"table": table.name, "columns": names}:
        raise Damaged(f"it lacks {table.name}")
    reads = [_reader(each) for each in table.c]
    statement = insert(table).values(dict.fromkeys(names))
    for begin in range(0, total, AT_ONCE):
        many = min(AT_ONCE, total - begin)
        try:
            rows = [dict(zip(names, _read(lines.next(), reads), strict=True)) for _ in range(many)]
        except (ValueError, TypeError, ArithmeticError):
            raise Damaged(f"a row of {table.name} is altered") from None
        await db.many(statement, rows)
        yield many


READERS: dict[type, Callable[[str], Any]] = {
    Decimal: Decimal,
    datetime: datetime.fromisoformat,
    date: date.fromisoformat,
}


def _reader(column: Any) -> Callable[[str], Any] | None:
    kind = column.type.impl if isinstance(column.type, TypeDecorator) else column.type
    known: Any = kind.python_type
    return READERS.get(known)


def _read(values: Sequence[Any], readers: Sequence[Callable[[str], Any] | None]) -> list[Any]:
    """A row of the file as the database takes it."""
    return [
        value if read is None or value is None else read(value)
        for value, read in zip(values, readers, strict=True)
    ]


async def _give_on(db: Connection, database: Database, given: dict[str, int]) -> None:
    """Let the database give out ids that nobody had before, also where the last rows were deleted."""
    for table in _nouns():
        if list(table.primary_key.columns.keys()) != ["id"]:
            continue
        newest = (await db.all(select(func.max(table.c.id).label("id"))))[0].id or 0
        last = max(newest, int(given.get(table.name, 0)))
        for statement in _giving(database.dialect.name, table.name, last) if last else ():
            await db.all(text(statement))


def _giving(dialect: str, table: str, last: int) -> list[str]:
    if dialect == "sqlite":
        # What stands there of a table that does not remember is of no account.
        return [
            f"DELETE FROM sqlite_sequence WHERE name = '{table}'",  # noqa: S608  a table's own name
            f"INSERT INTO sqlite_sequence (name, seq) VALUES ('{table}', {last})",  # noqa: S608  as above
        ]
    return [f"SELECT setval(pg_get_serial_sequence('{table}', 'id'), {last})"]
