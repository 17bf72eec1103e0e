"""Lists: their pages, and their totals, which are kept by the database and not counted.

The table ``tallies`` says how many rows a list has, of each value of the filters that have one. Triggers
keep it (``migrations/tallies.py``), so that no way of writing can forget it, and what is
rolled back leaves no trace. On SQLite, which has one writer, a trigger counts on. On PostgreSQL it adds a
row, so that writers never wait for each other; a total is the sum of what is committed, and ``compact`` adds
up rows from time to time.
"""

import asyncio
import logging
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from functools import cache
from typing import Any, Literal

from sqlalchemy import (
    BigInteger,
    Boolean,
    ColumnElement,
    Date,
    Index,
    Select,
    String,
    bindparam,
    cast,
    func,
    literal,
    literal_column,
    select,
    text,
    true,
    tuple_,
)
from sqlalchemy.orm import Mapped, mapped_column
from sqlalchemy.sql.elements import ClauseElement, KeyedColumnElement

from persistence.database import Connection, Database, Row
from persistence.errors import Refusal
from persistence.types import Base, BigIntId

logger = logging.getLogger("cloudarc")

FAR = 1_000
"""The rows that a page may skip on the event loop."""

MAX_ID = 2**63 - 1

COMPACT_SECONDS = 1.0
COMPACT_ROWS = 50_000


class Tally(Base):
    """Counts of ``tally`` by number, word and day. The sum of all ``change`` is the total."""

    __tablename__ = "tallies"
    __table_args__ = (
        Index("ix_tallies_tally_number_word_day", "tally", "number", "word", "day"),
        Index(
            "ix_tallies_fresh",
            "id",
            sqlite_where=text("NOT folded"),
            postgresql_where=text("NOT folded"),
        ),
    )

    id: Mapped[int] = mapped_column(BigIntId, primary_key=True)
    tally: Mapped[str] = mapped_column(String(20))
    number: Mapped[int] = mapped_column(BigInteger)
    word: Mapped[str] = mapped_column(String(40))
    day: Mapped[date] = mapped_column(Date)
    change: Mapped[int] = mapped_column(BigInteger)
    folded: Mapped[bool] = mapped_column(Boolean)


COUNTS = Tally.__table__


class CountedBy:
    """The counts of a list: their name, and the condition of each filter."""

    def __init__(self, name: str, **conditions: ColumnElement[bool]) -> None:
        self.name = name
        self.conditions = conditions

    def total(self, names: frozenset[str]) -> Select[Any]:
        """Return the ``SELECT`` of the number of rows that pass these filters."""
        total = cast(func.coalesce(func.sum(COUNTS.c.change), 0), BigInteger).label("total")
        given = [self.conditions[name] for name in sorted(names)]
        return select(total).where(COUNTS.c.tally == self.name, *given)


@dataclass(frozen=True)
class Page:
    """A page of a list, and its position.

    ``cursor`` is the place of the last row in a list that is in another order than that of the ids.
    """

    rows: list[Row]
    page: int
    limit: int
    total: int
    has_next: bool
    cursor: str | None = None


_CURSOR = re.compile(r"(?:([0-9]+)\.)?([0-9]+)")


def cursor(key: int, id: int) -> str:
    """Return the cursor of a row in the order of ``key``. It stays valid after the row is deleted."""
    return f"{key}.{id}"


def read_cursor(after: int | str) -> tuple[int | None, int]:
    """Return the key of a place, None where there is an id alone, and the id."""
    found = _CURSOR.fullmatch(str(after))
    if found is None:
        raise ValueError("the contract admits no such cursor")
    return int(found[1]) if found[1] else None, int(found[2])


Direction = Literal["near", "far", "after"]
"""How a page finds its first row: skip rows from the start or the end, or continue after an id."""


class Listing:
    """A list in order of id, mostly descending, with optional filters; each set of them is one statement.

    ``selective_filter`` are filters that leave few rows, the most selective first. ``slow`` are filters that
    search for words. Where one of ``ranges`` is given, the first and the last day, the rows
    are in the order of the day ``dated`` and then of the id, so that no other rows are read.

    Totals come from the first of ``tallied`` that has all filters that are given; where none has, the rows
    are counted.
    """

    def __init__(
        self,
        query: Select[Any],
        key: KeyedColumnElement[Any],
        *,
        ascending: bool = False,
        narrow: Sequence[str] = (),
        slow: Collection[str] = (),
        ranges: Sequence[str] = (),
        dated: KeyedColumnElement[Any] | None = None,
        tallied: Sequence[CountedBy] = (),
        **conditions: ColumnElement[bool],
    ) -> None:
        self.query = query
        self.key = key
        self.ascending = ascending
        self.selective_filter = narrow
        self.slow = frozenset(slow)
        self.ranges = ranges
        self.dated: Any = dated
        self.tallied = tallied
        self.conditions = conditions
        self.statement = cache(self._statement)
        self.total = cache(self._total)

    def _narrowest(self, names: frozenset[str]) -> str | None:
        return next((each for each in self.selective_filter if each in names), None)

    def _order(self, names: frozenset[str]) -> list[ColumnElement[Any]]:
        """Return the order of the rows."""
        if names.intersection(self.ranges):
            return [self.dated, self.key]
        if self._narrowest(names) in self.slow:
            # Rows of words may all be old. In the order of an index of the ids, which is not used where the
            # order is written like this, a database would look at all newer rows first.
            return [self.key + literal_column("0", BigInteger)]
        return [self.key]

    def _filtered(
        self, query: Select[Any], names: frozenset[str], sifted: Collection[str] = ()
    ) -> Select[Any]:
        narrowest = self._narrowest(names)
        sifted = names - {narrowest} if narrowest else sifted
        given = {name: self.conditions[name] for name in sorted(names)}
        # `IS TRUE` keeps the planner from choosing an index for this filter.
        query = query.where(*[each.is_(true()) if name in sifted else each for name, each in given.items()])
        return query.execution_options(search=True) if names & self.slow else query

    def _statement(self, names: frozenset[str], way: Direction, slow: bool = False) -> Select[Any]:
        # A place is before the last day, and a database looks for one of the two in an index.
        query = self._filtered(self.query, names, self.ranges[1:] if way == "after" else ())
        if way != "far":
            # In the same round trip, so of the same snapshot as the rows.
            query = query.add_columns(self.total(names).scalar_subquery().label("in_all"))
        keys = self._order(names)
        query = query.order_by(
            *keys if self.ascending is not (way == "far") else [each.desc() for each in keys]
        )
        query = query.limit(bindparam("limit", type_=BigInteger))
        if slow:
            query = query.execution_options(slow=True)
        if way == "after":
            last: ColumnElement[Any] = bindparam("after", type_=BigInteger)
            place = keys[-1]
            if len(keys) > 1:
                # An id without a key is the cursor of its row, or of the start if there is no such row.
                own = select(self.dated).where(self.key == last).scalar_subquery()
                day = func.coalesce(bindparam("after_day", type_=Date), own, literal(date.max, Date))
                place, last = tuple_(*keys), tuple_(day, last)
            return query.where(place > last if self.ascending else place < last)
        return query.offset(bindparam("offset", type_=BigInteger))

    def has_tally(self, names: frozenset[str]) -> bool:
        """Return whether the database keeps the total of these filters."""
        return any(names <= each.conditions.keys() for each in self.tallied)

    def _total(self, names: frozenset[str]) -> Select[Any]:
        for each in self.tallied:
            if names <= each.conditions.keys():
                return each.total(names)
        return self._filtered(select(func.count().label("total")).select_from(self.key.table), names)

    async def page(
        self, db: Connection, *, page: int, limit: int, after: int | str | None, **filters: Any
    ) -> Page:
        """Return a page. ``after``, a cursor, takes precedence over ``page``. None is no filter."""
        given = {name: value for name, value in filters.items() if value is not None}
        names = frozenset(name for name in given if name in self.conditions)
        found = await self._page(db, names, given, page, limit, after)
        if found.has_next and len(self._order(names)) > 1:
            last = found.rows[-1]
            return replace(found, cursor=cursor(getattr(last, self.dated.key).toordinal(), last.id))
        return found

    async def _page(
        self,
        db: Connection,
        names: frozenset[str],
        given: Mapping[str, Any],
        page: int,
        limit: int,
        after: int | str | None,
    ) -> Page:
        before = 0 if after is not None else (page - 1) * limit
        if before > FAR:
            return await self._far_page(db, names, given, page, limit)
        place: dict[str, Any] = {"offset": before}
        if after is not None:
            day, last = read_cursor(after)
            place = {"after": last}
            if len(self._order(names)) > 1 and day is not None:
                place["after_day"] = date.fromordinal(min(max(day, 1), date.max.toordinal()))
                # Start at the last day of the range, so that later rows are not read.
                if (end := given.get(self.ranges[-1])) and place["after_day"] > end:
                    place = {"after": MAX_ID, "after_day": end}
        statement = self.statement(names, "near" if after is None else "after")
        rows = await _rows(db, statement, given, limit=limit + 1, **place)
        number = 1 if after is not None else page
        # A page without rows has no total in its rows.
        total = rows[0].in_all if rows else 0
        if not rows and (after is not None or before):
            total = await self._sum(db, names, given)
        return Page(rows[:limit], number, limit, total, len(rows) > limit)

    async def _far_page(
        self, db: Connection, names: frozenset[str], given: Mapping[str, Any], page: int, limit: int
    ) -> Page:
        """Return a distant page, read from the nearer end."""
        total = await self._sum(db, names, given)
        before, behind = (page - 1) * limit, max(total - page * limit, 0)
        way: Direction = "near" if before <= behind else "far"
        place = {"limit": min(limit, total - before), "offset": min(before, behind)}
        rows = []
        if before < total:
            rows = await _rows(db, self.statement(names, way, place["offset"] > FAR), given, **place)
        return Page(rows[:: 1 if way == "near" else -1], page, limit, total, bool(rows) and behind > 0)

    async def _sum(self, db: Connection, names: frozenset[str], given: Mapping[str, Any]) -> int:
        rows = await _rows(db, self.total(names), given)
        return int(rows[0].total)


async def _rows(
    db: Connection, statement: ClauseElement, given: Mapping[str, Any], **place: Any
) -> list[Row]:
    """The rows of a statement, which is told of what is given as much as it asks for."""
    names = db.parameters(statement)
    return await db.fetch_all(statement, **place, **{name: given[name] for name in given if name in names})


# One process at a time, or two would deadlock. The number is the text "tally".
TURN = select(func.pg_try_advisory_xact_lock(499850701945).label("mine"))

# Other statements see the rows before or after this statement, so every total stays the same.
COMPACT = text("""
    WITH fresh AS (
        SELECT id, tally, number, word, day FROM tallies WHERE NOT folded ORDER BY id LIMIT :limit
    ),
    gone AS (
        DELETE FROM tallies AS each_row USING (SELECT DISTINCT tally, number, word, day FROM fresh) AS one
        WHERE each_row.tally = one.tally AND each_row.number = one.number
        AND each_row.word = one.word AND each_row.day = one.day
        AND (each_row.folded OR each_row.id IN (SELECT id FROM fresh))
        RETURNING each_row.tally, each_row.number, each_row.word, each_row.day, each_row.change
    )
    INSERT INTO tallies (tally, number, word, day, change, folded)
    SELECT tally, number, word, day, sum(change), true FROM gone
    GROUP BY tally, number, word, day HAVING sum(change) <> 0
""").bindparams(bindparam("limit", type_=BigInteger))

FRESH = select(COUNTS.c.id).where(text("NOT folded")).limit(1)


async def compact(database: Database) -> None:
    """Merge rows of PostgreSQL's triggers, so that a total stays a sum of few rows."""
    async with database.reading() as db:
        if await db.fetch_one(FRESH) is None:
            return
    async with database.transaction() as db:
        turn = await db.fetch_one(TURN)
        if turn is not None and turn.mine:
            await db.execute(COMPACT, limit=COMPACT_ROWS)


async def compact_periodically(database: Database) -> None:
    """Compact until cancelled, despite failures. SQLite has nothing to compact."""
    while database.dialect.name == "postgresql":
        try:
            await compact(database)
        except Refusal as error:
            logger.warning("the tallies could not be folded: %s", error)
        except Exception:
            logger.exception("the tallies could not be folded")
        await asyncio.sleep(COMPACT_SECONDS)
