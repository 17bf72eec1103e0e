"""Announcements to all clients."""

from datetime import datetime

from sqlalchemy import BigInteger, String, Text, bindparam, select
from sqlalchemy.orm import Mapped, mapped_column

from persistence.database import Base, Connection, Instant, Key, Row


class Announcement(Base):
    __tablename__ = "announcements"

    id: Mapped[int] = mapped_column(Key, primary_key=True)
    title: Mapped[str] = mapped_column(String(255))
    content: Mapped[str] = mapped_column(Text)
    # None is a draft; an instant to come is an announcement that waits for it.
    published_at: Mapped[datetime | None] = mapped_column(Instant, index=True)


TABLE = Announcement.__table__

PUBLISHED = (
    select(TABLE)
    .where(TABLE.c.published_at <= bindparam("now", type_=Instant))
    .order_by(TABLE.c.published_at.desc(), TABLE.c.id.desc())
    .limit(bindparam("limit", type_=BigInteger))
)


async def published(db: Connection, *, now: datetime, limit: int) -> list[Row]:
    """The announcements that have been published, newest first."""
    return await db.all(PUBLISHED, now=now, limit=limit)
