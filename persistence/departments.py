"""Departments: whom a ticket is addressed to."""

from collections.abc import Collection
from typing import Any

from sqlalchemy import Index, String, select
from sqlalchemy.orm import Mapped, mapped_column

from persistence.database import Connection, Row
from persistence.errors import Conflict
from persistence.listing import COUNTS, CountedBy, Listing, Page
from persistence.statements import insert_returning, require, update_row, where_id
from persistence.types import Base, BigIntId, version_column


class Department(Base):
    __tablename__ = "departments"
    __table_args__ = (Index("ix_departments_status_id", "status", "id"),)

    id: Mapped[int] = mapped_column(BigIntId, primary_key=True)
    name: Mapped[str] = mapped_column(String(100))
    status: Mapped[str] = mapped_column(String(20))
    version: Mapped[int] = version_column()


TABLE = Department.__table__

GET = where_id(select(TABLE), TABLE.c.id)

ADDRESSABLE = TABLE.c.status == "active"
"""Of a department that takes tickets."""

LIST = Listing(
    select(TABLE),
    TABLE.c.id,
    tallied=[CountedBy("departments", active=COUNTS.c.word == "active")],
    active=ADDRESSABLE,
)


async def page(db: Connection, *, page: int, limit: int, after: int | None) -> Page:
    """A page of the active departments, newest first."""
    return await LIST.page(db, page=page, limit=limit, after=after, active=True)


async def get(db: Connection, id: int) -> Row:
    """The department. Raises NotFound."""
    return await require(db, GET, "department", id=id)


INSERT = insert_returning(Department, "name", "status")


async def create(db: Connection, values: dict[str, Any]) -> Row:
    """Add a department; ``values`` are columns."""
    return await require(db, INSERT, "department", **values)


async def update(
    db: Connection, id: int, values: dict[str, Any], versions: Collection[int] | None = None
) -> Row:
    """Set the named columns of a department, if it is in one of ``versions``.

    Raises NotFound, PreconditionFailed.
    """
    return await update_row(db, Department, "department", id, values, versions)


async def addressable(db: Connection, id: int) -> Row:
    """The department, if tickets may be addressed to it. Raises NotFound, Conflict."""
    department = await require(db, GET, "department", id=id)
    if department.status != "active":
        raise Conflict("The department is inactive and takes no tickets.")
    return department
