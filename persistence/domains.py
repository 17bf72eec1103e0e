"""Domains that clients have registered."""

from datetime import datetime

from sqlalchemy import BigInteger, ForeignKey, Index, String, bindparam, select
from sqlalchemy.orm import Mapped, mapped_column

from persistence.database import Base, Connection, Instant, Key, Listing, Page


class Domain(Base):
    __tablename__ = "domains"
    __table_args__ = (Index("ix_domains_client_id_id", "client_id", "id"),)

    id: Mapped[int] = mapped_column(Key, primary_key=True)
    client_id: Mapped[int] = mapped_column(Key, ForeignKey("clients.id"))
    domain: Mapped[str] = mapped_column(String(253))
    status: Mapped[str] = mapped_column(String(20))
    registered_at: Mapped[datetime] = mapped_column(Instant)
    expires_at: Mapped[datetime] = mapped_column(Instant)


TABLE = Domain.__table__

LIST = Listing(
    select(TABLE), TABLE.c.id, client_id=TABLE.c.client_id == bindparam("client_id", type_=BigInteger)
)


async def page(db: Connection, *, client_id: int, limit: int) -> Page:
    """The newest domains of a client."""
    return await LIST.page(db, page=1, limit=limit, after=None, client_id=client_id)
