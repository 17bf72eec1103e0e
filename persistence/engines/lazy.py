"""The connection of a transaction that begins with its first statement."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from sqlalchemy import Insert
from sqlalchemy.sql.elements import ClauseElement

from persistence.database import Connection, Database, Preamble, Row
from persistence.statements import as_one_statement


class LazyConnection(Connection):
    """A connection whose transaction begins with its first statement; ``first`` runs before that."""

    def __init__(
        self, begin: Callable[[], Awaitable[Connection]], database: Database, first: Preamble | None
    ) -> None:
        self.begin = begin
        self.database = database
        self.first = first
        self.begun: Connection | None = None
        self.deferred: tuple[Insert, Mapping[str, Any]] | None = None

    async def _connection(self) -> Connection:
        if self.begun is None:
            self.begun = await self.begin()
            if self.first is not None:
                await self.first(self.begun)
        return self.begun

    async def flush_deferred(self) -> None:
        """Run the deferred insert, if there is one."""
        if self.deferred is not None:
            (statement, params), self.deferred = self.deferred, None
            await (await self._connection()).execute(statement, **params)

    async def defer(self, statement: Insert, **params: Any) -> None:
        await self.flush_deferred()
        if self.database.dialect.name == "postgresql":
            # The next insert and this one become a single statement, so one round trip.
            self.deferred = statement, params
        else:
            await self.execute(statement, **params)

    async def fetch_all(self, statement: ClauseElement, **params: Any) -> list[Row]:
        await self.flush_deferred()
        return await (await self._connection()).fetch_all(statement, **params)

    async def execute(self, statement: ClauseElement, **params: Any) -> int:
        if self.deferred is not None and isinstance(statement, Insert):
            (first, more), self.deferred = self.deferred, None
            return await (await self._connection()).execute(
                as_one_statement(first, statement), **more, **params
            )
        await self.flush_deferred()
        return await (await self._connection()).execute(statement, **params)

    async def execute_many(self, statement: ClauseElement, rows: Sequence[Mapping[str, Any]]) -> None:
        await self.flush_deferred()
        await (await self._connection()).execute_many(statement, rows)
