"""The interface of the two engines: databases, transactions, connections and compiled statements.

Modules build SQLAlchemy Core statements as constants. A database compiles each of them once and hands it to
the driver (``engines``). Rows are named tuples.
"""

from abc import ABC, abstractmethod
from collections import namedtuple
from collections.abc import Awaitable, Callable, Collection, Hashable, Iterable, Mapping, Sequence
from contextvars import ContextVar
from types import TracebackType
from typing import Any

from sqlalchemy import Dialect, Executable, Insert
from sqlalchemy.sql.elements import ClauseElement

Row = Any

current_caller: ContextVar[Hashable] = ContextVar("current caller", default=None)
"""The caller that the task serves. The engines run one slow read at a time for each caller."""


class CompiledStatement:
    """A statement compiled for one driver: its text, the order of its values, and its rows.

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
        # Only of columns whose raw values need a conversion.
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
    """A connection, as handlers and the functions of persistence use it."""

    database: "Database"

    unchanged = False
    """Whether the transaction found the row in the requested state, so that it changed nothing."""

    @abstractmethod
    async def fetch_all(self, statement: ClauseElement, **params: Any) -> list[Row]:
        """Return all rows. Raises Unavailable."""

    @abstractmethod
    async def execute(self, statement: ClauseElement, **params: Any) -> int:
        """Return the number of changed rows. Raises Unavailable."""

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
        """Return the first row, or None. Raises Unavailable."""
        rows = await self.fetch_all(statement, **params)
        return rows[0] if rows else None


Preamble = Callable[[Connection], Awaitable[None]]


class Transaction(ABC):
    """``async with`` gives a connection. The end of the block commits, an exception rolls back.

    It begins with the first statement, so that work before that, such as the hashing of a password,
    keeps nobody waiting.
    """

    @abstractmethod
    async def __aenter__(self) -> Connection: ...

    @abstractmethod
    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class Database(ABC):
    """A database. ``reading()`` sees committed data, and ``transaction()`` also writes."""

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
        """Return a transaction that sees one snapshot and blocks no other."""

    @abstractmethod
    def transaction(self, first: Preamble | None = None) -> Transaction:
        """Return a write transaction. ``first`` runs before the first statement."""
