"""Statements and checks that all nouns share: by id, by owner and by version."""

import sys
from collections.abc import Collection, Mapping
from functools import cache
from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    ColumnElement,
    Executable,
    Insert,
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
from sqlalchemy.sql.dml import ReturningDelete, ReturningInsert
from sqlalchemy.sql.elements import ClauseElement

from persistence.database import Connection, Database, Row
from persistence.errors import Forbidden, NotFound, PreconditionFailed
from persistence.types import Base


def compile_all(database: Database) -> None:
    """Compile the constant statements of all modules of ``persistence``, which takes some 100 ms together.

    Otherwise the first call of each operation compiles its statements on the event loop.
    """
    modules = [module for name, module in list(sys.modules.items()) if name.startswith("persistence.")]
    for constant in [each for module in modules for each in list(vars(module).values())]:
        for each in constant.values() if isinstance(constant, dict) else (constant,):
            if isinstance(each, Executable) and isinstance(each, ClauseElement):
                database.compile(each)


@cache
def as_one_statement(first: Insert, second: Insert) -> Insert:
    """Return two inserts as one PostgreSQL statement. Their parameters must have different names."""
    return second.add_cte(first.cte("first"))


async def require(db: Connection, statement: ClauseElement, noun: str, **params: Any) -> Row:
    """Return the row that a statement finds. Raises NotFound."""
    row = await db.fetch_one(statement, **params)
    if row is None:
        raise NotFound.of(noun)
    return row


async def require_owned(
    db: Connection, statement: ClauseElement, noun: str, id: int, owner: int | None, **params: Any
) -> Row:
    """Return the row with an id, if ``owner`` is None or its client. Raises NotFound, Forbidden."""
    row = await require(db, statement, noun, id=id, **params)
    if owner is not None and row.client_id != owner:
        raise Forbidden.of(noun)
    return row


@cache
def update_by_id(table: type[Base], versioned: bool) -> Update:
    """Return the ``UPDATE`` of the row whose id is ``key``. It returns the row.

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
    """Return the ``DELETE`` of the row whose id is ``key``. ``versioned`` is as in ``update_by_id``.

    It is slow if the database also deletes rows of other tables, of which there may be many.
    """
    columns = table.__table__.c
    conditions = [columns.id == bindparam("key", type_=BigInteger), *_expected(columns, versioned)]
    keys = [each for other in Base.metadata.tables.values() for each in other.foreign_keys]
    cascades = any(each.ondelete and each.column.table is table.__table__ for each in keys)
    return delete(table).where(*conditions).returning(columns.id).execution_options(slow=cascades)


async def delete_row(
    db: Connection, table: type[Base], noun: str, id: int, versions: Collection[int] | None = None
) -> None:
    """Delete a row that is in one of ``versions``, or in any if None. Raises NotFound, PreconditionFailed."""
    statement = delete_by_id(table, versions is not None)
    if await db.fetch_one(statement, key=id, **_named(versions)) is None:
        await require(db, select_by_id(table), noun, id=id)
        raise PreconditionFailed.of(noun)


MOST_VERSIONS = 16
"""The number of versions in the longest ``If-Match`` that the contract allows."""


def _expected(columns: Any, versioned: bool) -> list[ColumnElement[bool]]:
    """Return the condition that the row has one of the versions ``expected_0``, ``expected_1``, …"""
    named = [bindparam(f"expected_{nth}", type_=BigInteger) for nth in range(MOST_VERSIONS)]
    return [columns.version.in_(named)] if versioned else []


def _named(versions: Collection[int] | None) -> dict[str, int]:
    """Return the parameters of ``_expected``, padded with a version that no row has."""
    if versions is None:
        return {}
    filled = [*versions, *[0] * MOST_VERSIONS][: max(MOST_VERSIONS, len(versions))]
    return {f"expected_{nth}": version for nth, version in enumerate(filled)}


def require_version(row: Row, noun: str, versions: Collection[int] | None) -> None:
    """Require a locked row in one of ``versions``, or in any if None. Raises PreconditionFailed."""
    if versions is not None and row.version not in versions:
        raise PreconditionFailed.of(noun)


@cache
def select_by_id(table: type[Base]) -> Select[Any]:
    """Return the ``SELECT`` of the row whose id is ``id``."""
    return where_id(select(table.__table__), table.__table__.c.id)


def insert_returning(table: type[Base], *names: str) -> ReturningInsert[Any]:
    """Return the ``INSERT`` of the named columns, each a parameter. It returns the row."""
    return insert(table).values(dict.fromkeys(names)).returning(*table.__table__.c)


def where_id(query: Select[Any], key: ColumnElement[int]) -> Select[Any]:
    """Return ``query`` for the row whose ``key`` is the parameter ``id``."""
    return query.where(key == bindparam("id", type_=BigInteger))
