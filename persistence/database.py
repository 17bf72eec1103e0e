"""What all nouns share of the database: types, statements, connections, ownership.

Tables are declarative classes, for the migrations. The work is done by SQLAlchemy Core statements,
constants of their modules, which are compiled once for each database and handed to the driver
itself (``engines``). A connection has four methods: ``fetch_all``, ``fetch_one``, ``execute`` and
``execute_many``. Rows are named tuples.
"""

from abc import ABC, abstractmethod
from collections import namedtuple
from collections.abc import Awaitable, Callable, Collection, Hashable, Iterable, Mapping, Sequence
from contextvars import ContextVar
from datetime import datetime
from decimal import Decimal
from functools import cache
from types import TracebackType
from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    ColumnElement,
    DateTime,
    Dialect,
    Executable,
    Insert,
    Integer,
    MetaData,
    Numeric,
    Select,
    Update,
    bindparam,
    case,
    delete,
    insert,
    or_,
    select,
    update,
)
from sqlalchemy.orm import DeclarativeBase, mapped_column
from sqlalchemy.sql.dml import ReturningDelete, ReturningInsert
from sqlalchemy.sql.elements import ClauseElement
from sqlalchemy.types import TypeDecorator, TypeEngine

from persistence.errors import Forbidden, NotFound, PreconditionFailed

Row = Any

current_caller: ContextVar[Hashable] = ContextVar("current caller", default=None)
"""The caller that the task serves. The engines run one slow read at a time for each caller."""


class Base(DeclarativeBase):
    """The tables of all nouns. Constraints have names, so that migrations can change them."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s",
            "pk": "pk_%(table_name)s",
        }
    )


def version_column() -> Any:
    """A column that counts the changes of a row, for its entity tag. Whoever writes the row counts on."""
    return mapped_column(BigInteger, server_default="1")


BigIntId = BigInteger().with_variant(Integer(), "sqlite")
"""SQLite numbers rows by itself only where the type is INTEGER, which has 64 bits there too."""


class Money(TypeDecorator[Decimal]):
    """An exact amount: NUMERIC on PostgreSQL, whole cents on SQLite, which has binary floats only."""

    impl = Numeric(14, 2)
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        return dialect.type_descriptor(BigInteger() if dialect.name == "sqlite" else Numeric(14, 2))

    def process_bind_param(self, value: Decimal | None, dialect: Dialect) -> Any:
        return int(value.scaleb(2)) if value is not None and dialect.name == "sqlite" else value

    def result_processor(self, dialect: Dialect, coltype: object) -> Callable[[Any], Decimal | None] | None:
        return _amount if dialect.name == "sqlite" else None


def _amount(cents: int | None) -> Decimal | None:
    return None if cents is None else Decimal(cents).scaleb(-2)


class UtcDateTime(TypeDecorator[datetime]):
    """An instant in UTC; SQLite keeps it without its zone."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def bind_processor(self, dialect: Dialect) -> Callable[[Any], Any] | None:
        return _text_of if dialect.name == "sqlite" else None

    def result_processor(self, dialect: Dialect, coltype: object) -> Callable[[Any], datetime | None] | None:
        # In one step from the text, since a page has dozens of them.
        return _instant if dialect.name == "sqlite" else None


def _text_of(value: datetime | None) -> str | None:
    return None if value is None else value.isoformat(" ", "microseconds")[:26]


def _instant(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(f"{text}+00:00")


class CompiledStatement:
    """A statement compiled for one driver: its text, the order of its values, the shape of its rows.

    One with the execution option ``slow`` may take milliseconds, and keeps no other call waiting. One with
    ``search`` is slow, too, and has a time limit.
    """

    def __init__(self, statement: ClauseElement, dialect: Dialect) -> None:
        compiled: Any = statement.compile(dialect=dialect)
        self.sql: str = compiled.string
        self.names: tuple[str, ...] = tuple(compiled.positiontup or ())
        self.defaults: Mapping[str, Any] = compiled.params
        options = statement.get_execution_options() if isinstance(statement, Executable) else {}
        self.search: bool = options.get("search", False)
        self.slow: bool = self.search or options.get("slow", False)
        self.binds = [(name, compiled._bind_processors.get(name)) for name in self.names]
        columns = compiled._result_columns
        self.row: Callable[[Iterable[Any]], Row] = tuple
        # Of those columns alone whose values are not yet what they mean.
        self.results: list[tuple[int, Callable[[Any], Any]]] = []
        if columns:
            self.row = namedtuple("Row", [each.keyname for each in columns])._make  # type: ignore[attr-defined]  # known at run time only
            if dialect.name == "sqlite":
                processes = [each.type._cached_result_processor(dialect, None) for each in columns]
                self.results = [(nth, process) for nth, process in enumerate(processes) if process]

    def values(self, params: Mapping[str, Any]) -> list[Any]:
        if not params.keys() <= self.defaults.keys():
            unknown = ", ".join(sorted(params.keys() - self.defaults.keys()))
            raise TypeError(f"the statement has no parameter {unknown}: {self.sql}")
        values = []
        for name, process in self.binds:
            value = params[name] if name in params else self.defaults[name]
            values.append(process(value) if process else value)
        return values

    def rows(self, raw: Iterable[Sequence[Any]]) -> list[Row]:
        if not self.results:
            return [self.row(each) for each in raw]
        rows = []
        for each in raw:
            values = list(each)
            for nth, process in self.results:
                values[nth] = process(values[nth])
            rows.append(self.row(values))
        return rows


class Connection(ABC):
    """What a handler and a function of persistence see of the database."""

    database: "Database"

    unchanged = False
    """Whether the row that the transaction was to change was found as it should become."""

    @abstractmethod
    async def fetch_all(self, statement: ClauseElement, **params: Any) -> list[Row]:
        """All rows. Raises Unavailable."""

    @abstractmethod
    async def execute(self, statement: ClauseElement, **params: Any) -> int:
        """The number of rows changed. Raises Unavailable."""

    @abstractmethod
    async def execute_many(self, statement: ClauseElement, rows: Sequence[Mapping[str, Any]]) -> None:
        """Run once for each of ``rows``. Raises Unavailable."""

    def parameters(self, statement: ClauseElement) -> Collection[str]:
        """Return the names of a statement's parameters."""
        return self.database.compile(statement).defaults.keys()

    async def defer(self, statement: Insert, **params: Any) -> None:
        """Run an insert before anything is read, and before the transaction ends, at the latest; nobody
        needs its row. Raises Unavailable, now or then.
        """
        await self.execute(statement, **params)

    async def fetch_one(self, statement: ClauseElement, **params: Any) -> Row | None:
        """The first row, or None. Raises Unavailable."""
        rows = await self.fetch_all(statement, **params)
        return rows[0] if rows else None


Preamble = Callable[[Connection], Awaitable[None]]


class Transaction(ABC):
    """``async with`` gives a Connection; leaving it commits, leaving it by an exception takes all back.

    It begins with the first statement, so that work before that, such as the hashing of a password,
    keeps nobody waiting.
    """

    @abstractmethod
    async def __aenter__(self) -> Connection: ...

    @abstractmethod
    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


@cache
def as_one_statement(first: Insert, second: Insert) -> Insert:
    """Two inserts as one statement, as PostgreSQL has it. Their parameters must not have the same names."""
    return second.add_cte(first.cte("first"))


class Database(ABC):
    """One database. ``reading()`` sees what is committed, ``transaction()`` also writes."""

    dialect: Dialect

    def __init__(self) -> None:
        self._prepared: dict[ClauseElement, CompiledStatement] = {}

    def compile(self, statement: ClauseElement) -> CompiledStatement:
        prepared = self._prepared.get(statement)
        if prepared is None:
            prepared = self._prepared[statement] = CompiledStatement(statement, self.dialect)
        return prepared

    @abstractmethod
    async def open(self) -> None:
        """Connect. Raises StartError."""

    @abstractmethod
    async def close(self) -> None: ...

    @abstractmethod
    def reading(self) -> Transaction: ...

    @abstractmethod
    def snapshot(self) -> Transaction:
        """What is committed when it begins, for as long as it lasts; nobody waits for it."""

    @abstractmethod
    def transaction(self, first: Preamble | None = None) -> Transaction:
        """Everything or nothing; ``first`` runs before the first statement."""


async def require(db: Connection, statement: ClauseElement, noun: str, **params: Any) -> Row:
    """The row that ``statement`` finds. Raises NotFound."""
    row = await db.fetch_one(statement, **params)
    if row is None:
        raise NotFound.of(noun)
    return row


async def require_owned(
    db: Connection, statement: ClauseElement, noun: str, id: int, owner: int | None, **params: Any
) -> Row:
    """The row with this id, if ``owner`` is None or its client. Raises NotFound, Forbidden."""
    row = await require(db, statement, noun, id=id, **params)
    if owner is not None and row.client_id != owner:
        raise Forbidden.of(noun)
    return row


@cache
def update_by_id(table: type[Base], versioned: bool) -> Update:
    """``UPDATE`` of the row whose id is ``key``; answers the row.

    A column gets the value ``new_…`` where ``sets_…`` is true, so that one statement does for every choice of
    columns. A row with a version gets the next one. A row that has all the values already is left as it is,
    and not answered. ``versioned`` adds the condition of ``_expected``.
    """
    columns = table.__table__.c
    values: dict[str, Any] = {
        each.name: case(
            (bindparam(f"sets_{each.name}", False, Boolean), bindparam(f"new_{each.name}", None, each.type)),
            else_=each,
        )
        for each in columns
        if each.name not in ("id", "version")
    }
    differs = [columns[name].is_distinct_from(value) for name, value in values.items()]
    if "version" in columns:
        values["version"] = columns.version + 1
    conditions = [columns.id == bindparam("key", type_=BigInteger), *_expected(columns, versioned)]
    return update(table).values(values).where(*conditions, or_(*differs)).returning(*columns)


async def update_row(
    db: Connection,
    table: type[Base],
    noun: str,
    id: int,
    values: Mapping[str, Any],
    versions: Collection[int] | None = None,
) -> Row:
    """Set the named columns of a row, if it is in one of ``versions``, None being any; answers the row
    as it is then. Sets ``db.unchanged`` where the row has all the values already, and writes nothing.

    Raises NotFound, PreconditionFailed.
    """
    new = {f"new_{name}": value for name, value in values.items()}
    sets = {f"sets_{name}": True for name in values}
    statement = update_by_id(table, versions is not None)
    row = await db.fetch_one(statement, key=id, **new, **sets, **_named(versions))
    if row is None:
        row = await require(db, select_by_id(table), noun, id=id)
        require_version(row, noun, versions)
        db.unchanged = True
    return row


@cache
def delete_by_id(table: type[Base], versioned: bool) -> ReturningDelete[Any]:
    """``DELETE`` of the row whose id is ``key``; answers its id. ``versioned`` is as in ``update_by_id``."""
    columns = table.__table__.c
    conditions = [columns.id == bindparam("key", type_=BigInteger), *_expected(columns, versioned)]
    return delete(table).where(*conditions).returning(columns.id)


async def delete_row(
    db: Connection, table: type[Base], noun: str, id: int, versions: Collection[int] | None = None
) -> None:
    """Delete a row, if it is in one of ``versions``, None being any. Raises NotFound, PreconditionFailed."""
    statement = delete_by_id(table, versions is not None)
    if await db.fetch_one(statement, key=id, **_named(versions)) is None:
        await require(db, select_by_id(table), noun, id=id)
        raise PreconditionFailed.of(noun)


MOST_VERSIONS = 16
"""As many as the longest ``If-Match`` of the contract names."""


def _expected(columns: Any, versioned: bool) -> list[ColumnElement[bool]]:
    """That the row is in one of the versions ``expected_0``, ``expected_1``, …, where that is asked."""
    named = [bindparam(f"expected_{nth}", type_=BigInteger) for nth in range(MOST_VERSIONS)]
    return [columns.version.in_(named)] if versioned else []


def _named(versions: Collection[int] | None) -> dict[str, int]:
    """The parameters of ``_expected``, filled up with a version that no row has."""
    if versions is None:
        return {}
    filled = [*versions, *[0] * MOST_VERSIONS][: max(MOST_VERSIONS, len(versions))]
    return {f"expected_{nth}": version for nth, version in enumerate(filled)}


def require_version(row: Row, noun: str, versions: Collection[int] | None) -> None:
    """Raise PreconditionFailed where a row that is held is in none of ``versions``, None being any."""
    if versions is not None and row.version not in versions:
        raise PreconditionFailed.of(noun)


@cache
def select_by_id(table: type[Base]) -> Select[Any]:
    """``SELECT`` of the row whose id is ``id``."""
    return where_id(select(table.__table__), table.__table__.c.id)


def insert_returning(table: type[Base], *names: str) -> ReturningInsert[Any]:
    """``INSERT`` of the named columns, each a parameter; answers the row."""
    return insert(table).values(dict.fromkeys(names)).returning(*table.__table__.c)


def where_id(query: Select[Any], key: ColumnElement[int]) -> Select[Any]:
    """``query`` for the row whose ``key`` is the parameter ``id``."""
    return query.where(key == bindparam("id", type_=BigInteger))
