"""Announcements to all clients."""

from collections.abc import Collection
from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, String, Text, bindparam, select
from sqlalchemy.orm import Mapped, mapped_column

from persistence.database import Connection, Row
from persistence.errors import NotFound
from persistence.listing import CountedBy, Listing, Page
from persistence.statements import delete_row, insert_returning, require, select_by_id, update_row
from persistence.types import Base, BigIntId, UtcDateTime, version_column


class Announcement(Base):
    __tablename__ = "announcements"

    id: Mapped[int] = mapped_column(BigIntId, primary_key=True)
    title: Mapped[str] = mapped_column(String(255))
    content: Mapped[str] = mapped_column(Text)
    # None is a draft; an instant to come is an announcement that waits for it.
    published_at: Mapped[datetime | None] = mapped_column(UtcDateTime, index=True)
    version: Mapped[int] = version_column()


TABLE = Announcement.__table__

# Contents may be long.
_ALL = select(TABLE).execution_options(slow=True)

PUBLISHED = (
    _ALL.where(TABLE.c.published_at <= bindparam("now", type_=UtcDateTime))
    .order_by(TABLE.c.published_at.desc(), TABLE.c.id.desc())
    .limit(bindparam("limit", type_=BigInteger))
)

LIST = Listing(_ALL, TABLE.c.id, tallied=[CountedBy("announcements")])

INSERT = insert_returning(Announcement, "title", "content", "published_at")


async def published(db: Connection, *, now: datetime, limit: int) -> list[Row]:
    """The announcements that have been published, newest first."""
    return await db.fetch_all(PUBLISHED, now=now, limit=limit)


async def page(db: Connection, **where: Any) -> Page:
    """A page of all announcements, drafts included, newest first."""
    return await LIST.page(db, **where)


async def get(db: Connection, id: int, published_by: datetime | None = None) -> Row:
    """The announcement, if it was published by then; without an instant, in any case. Raises NotFound."""
    row = await require(db, select_by_id(Announcement), "announcement", id=id)
    if published_by is not None and (row.published_at is None or row.published_at > published_by):
        raise NotFound.of("announcement")
    return row


async def create(db: Connection, values: dict[str, Any]) -> Row:
    """Add an announcement; ``values`` are columns."""
    return await require(db, INSERT, "announcement", **values)


async def update(
    db: Connection, id: int, values: dict[str, Any], versions: Collection[int] | None = None
) -> Row:
    """Set the named columns of an announcement, if it is in one of ``versions``.

    Raises NotFound, PreconditionFailed.
    """
    return await update_row(db, Announcement, "announcement", id, values, versions)


async def delete(db: Connection, id: int, versions: Collection[int] | None = None) -> None:
    """Delete an announcement, if it is in one of ``versions``. Raises NotFound, PreconditionFailed."""
    await delete_row(db, Announcement, "announcement", id, versions)
