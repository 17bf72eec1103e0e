"""A database whose answers are remembered, so that what is measured on it is everything but the database."""

from collections.abc import Callable, Collection, Mapping, Sequence
from types import TracebackType
from typing import Any

from sqlalchemy.sql.elements import ClauseElement

from persistence.database import Connection, Database, Preamble, Row, Transaction


class Memory(Database):
    """Asks the real database once for each statement, whatever its values, and then never again."""

    def __init__(self, real: Database) -> None:
        super().__init__()
        self.real = real
        self.dialect = real.dialect
        self.known: dict[ClauseElement, Any] = {}

    async def open(self) -> None:
        await self.real.open()

    async def close(self) -> None:
        await self.real.close()

    def reading(self) -> Transaction:
        return Remembering(self, self.real.reading)

    def snapshot(self) -> Transaction:
        return self.reading()

    def transaction(self, first: Preamble | None = None) -> Transaction:
        return Remembering(self, self.real.transaction)


class Remembering(Transaction, Connection):
    """A transaction that begins where something is asked for the first time."""

    def __init__(self, memory: Memory, begin: Callable[[], Transaction]) -> None:
        self.memory = memory
        self.begin = begin
        self.begun: Transaction | None = None
        self.connection: Connection | None = None

    async def __aenter__(self) -> Connection:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.begun is not None:
            await self.begun.__aexit__(kind, error, trace)

    async def _real(self) -> Connection:
        if self.begun is None or self.connection is None:
            self.begun = self.begin()
            self.connection = await self.begun.__aenter__()
        return self.connection

    def parameters(self, statement: ClauseElement) -> Collection[str]:
        return self.memory.real.compile(statement).defaults.keys()

    async def fetch_all(self, statement: ClauseElement, **params: Any) -> list[Row]:
        known = self.memory.known
        if statement not in known:
            known[statement] = await (await self._real()).fetch_all(statement, **params)
        rows: list[Row] = known[statement]
        return rows

    async def execute(self, statement: ClauseElement, **params: Any) -> int:
        known = self.memory.known
        if statement not in known:
            known[statement] = await (await self._real()).execute(statement, **params)
        return int(known[statement])

    async def execute_many(self, statement: ClauseElement, rows: Sequence[Mapping[str, Any]]) -> None:
        known = self.memory.known
        if statement not in known:
            known[statement] = None
            await (await self._real()).execute_many(statement, rows)
