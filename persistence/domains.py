"""Domains that clients have registered."""

from collections.abc import Collection
from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, ForeignKey, Index, String, bindparam, select
from sqlalchemy.orm import Mapped, mapped_column

from persistence import clients
from persistence.database import (
    Base,
    Connection,
    Instant,
    Key,
    Row,
    change,
    existing,
    exists,
    inserting,
    remove,
    versioned,
)
from persistence.identity import hostname
from persistence.listing import TALLY, Listing, Page, Tallied


class Domain(Base):
    __tablename__ = "domains"
    __table_args__ = (
        Index("ix_domains_client_id_id", "client_id", "id"),
        Index("ix_domains_domain_id", "domain", "id"),
        Index("ix_domains_status_id", "status", "id"),
    )

    id: Mapped[int] = mapped_column(Key, primary_key=True)
    client_id: Mapped[int] = mapped_column(Key, ForeignKey("clients.id"))
    domain: Mapped[str] = mapped_column(String(253))
    status: Mapped[str] = mapped_column(String(20))
    registered_at: Mapped[datetime] = mapped_column(Instant)
    expires_at: Mapped[datetime] = mapped_column(Instant)
    version: Mapped[int] = versioned()


TABLE = Domain.__table__

LIST = Listing(
    select(TABLE),
    TABLE.c.id,
    narrow=["domain", "client_id"],
    tallied=[Tallied("domains", status=TALLY.c.word == bindparam("status"))],
    client_id=TABLE.c.client_id == bindparam("client_id", type_=BigInteger),
    domain=TABLE.c.domain == bindparam("domain"),
    status=TABLE.c.status == bindparam("status"),
)

INSERT = inserting(Domain, "client_id", "domain", "status", "registered_at", "expires_at")


async def page(db: Connection, *, domain: str | None = None, **where: Any) -> Page:
    """A page of domains, newest first; filters ``client_id``, ``status``, and ``domain`` in any spelling."""
    if domain is not None and (domain := hostname(domain)) is None:
        return Page([], 1, where["limit"], 0, False)
    return await LIST.page(db, domain=domain, **where)


async def get(db: Connection, id: int) -> Row:
    """The domain. Raises NotFound."""
    return await exists(db, existing(Domain), "domain", id=id)


async def create(db: Connection, values: dict[str, Any]) -> Row:
    """Add a domain; ``values`` are columns. Raises NotFound where its client does not exist."""
    await clients.hold(db, values["client_id"])
    return await exists(db, INSERT, "domain", **values)


async def update(
    db: Connection, id: int, values: dict[str, Any], versions: Collection[int] | None = None
) -> Row:
    """Set the named columns of a domain, if it is in one of ``versions``.

    Raises NotFound, PreconditionFailed.
    """
    return await change(db, Domain, "domain", id, values, versions)


async def delete(db: Connection, id: int, versions: Collection[int] | None = None) -> None:
    """Delete a domain, if it is in one of ``versions``. Raises NotFound, PreconditionFailed."""
    await remove(db, Domain, "domain", id, versions)
