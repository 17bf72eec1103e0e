"""Domains that clients have registered."""

from collections.abc import Collection
from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, Boolean, ForeignKey, Index, String, bindparam, false, select, text
from sqlalchemy.orm import Mapped, mapped_column

from persistence import clients
from persistence.database import Connection, Row
from persistence.errors import Conflict, Duplicate, NotFound
from persistence.identity import hostname, require_hostname
from persistence.listing import COUNTS, CountedBy, Listing, Page
from persistence.statements import (
    delete_row,
    insert_returning,
    require,
    require_version,
    select_by_id,
    update_row,
)
from persistence.types import Base, BigIntId, UtcDateTime, version_column

LIVE = "status <> 'cancelled' AND NOT clashes"


class Domain(Base):
    __tablename__ = "domains"
    __table_args__ = (
        Index("ix_domains_client_id_id", "client_id", "id"),
        Index("ix_domains_domain_id", "domain", "id"),
        Index("ix_domains_status_id", "status", "id"),
        # One record of a name that is not cancelled.
        Index(
            "uq_domains_domain",
            "domain",
            unique=True,
            sqlite_where=text(LIVE),
            postgresql_where=text(LIVE),
        ),
        Index("ix_domains_clashes", "id", sqlite_where=text("clashes"), postgresql_where=text("clashes")),
    )

    id: Mapped[int] = mapped_column(BigIntId, primary_key=True)
    client_id: Mapped[int] = mapped_column(BigIntId, ForeignKey("clients.id"))
    domain: Mapped[str] = mapped_column(String(253))
    status: Mapped[str] = mapped_column(String(20))
    registered_at: Mapped[datetime] = mapped_column(UtcDateTime)
    expires_at: Mapped[datetime] = mapped_column(UtcDateTime)
    # Of an older version, which let one name be there twice. Such a row is left out of the unique index.
    clashes: Mapped[bool] = mapped_column(Boolean, server_default=false())
    version: Mapped[int] = version_column()


TABLE = Domain.__table__

LIST = Listing(
    select(TABLE),
    TABLE.c.id,
    narrow=["domain", "client_id"],
    tallied=[CountedBy("domains", status=COUNTS.c.word == bindparam("status"))],
    client_id=TABLE.c.client_id == bindparam("client_id", type_=BigInteger),
    domain=TABLE.c.domain == bindparam("domain"),
    status=TABLE.c.status == bindparam("status"),
)

GET = select_by_id(Domain)

# Held, so that the dates are those of the change.
HOLD = GET.with_for_update()

CLASHING = (
    select(TABLE.c.id, TABLE.c.domain)
    # In the words of the index; SQLite finds it for no others.
    .where(text("domains.clashes"), TABLE.c.status != "cancelled")
    .order_by(TABLE.c.id)
    .limit(bindparam("limit", type_=BigInteger))
)

TAKEN = "Another record of this domain is not cancelled; change that one, or cancel it first."

INSERT = insert_returning(Domain, "client_id", "domain", "status", "registered_at", "expires_at")


async def page(db: Connection, *, domain: str | None = None, **where: Any) -> Page:
    """A page of domains, newest first; filters ``client_id``, ``status``, and ``domain`` in any spelling."""
    if domain is not None and (domain := hostname(domain)) is None:
        return Page([], 1, where["limit"], 0, False)
    return await LIST.page(db, domain=domain, **where)


async def get(db: Connection, id: int) -> Row:
    """The domain. Raises NotFound."""
    return await require(db, GET, "domain", id=id)


async def create(db: Connection, values: dict[str, Any]) -> Row:
    """Add a domain; ``values`` are columns.

    Raises NotFound where its client does not exist, Conflict where its name is taken, or its dates are wrong.
    """
    await clients.hold(db, values["client_id"])
    _require_order(values["registered_at"], values["expires_at"])
    name = require_hostname("domain", values["domain"])
    try:
        return await require(db, INSERT, "domain", **values | {"domain": name})
    except Duplicate:
        raise Conflict(TAKEN) from None


def _require_order(registered_at: datetime, expires_at: datetime) -> None:
    if expires_at < registered_at:
        raise Conflict(
            "The expires_at field is before registered_at; a domain expires after it is registered."
        )


async def update(
    db: Connection, id: int, values: dict[str, Any], versions: Collection[int] | None = None
) -> Row:
    """Set the named columns of a domain, if it is in one of ``versions``.

    Raises NotFound, PreconditionFailed, Conflict.
    """
    domain = await require(db, HOLD, "domain", id=id)
    require_version(domain, "domain", versions)
    new = dict(values)
    if "domain" in new:
        new["domain"] = require_hostname("domain", new["domain"])
    if new.keys() & {"registered_at", "expires_at"}:
        _require_order(
            new.get("registered_at", domain.registered_at), new.get("expires_at", domain.expires_at)
        )
    if new.keys() & {"domain", "status"}:
        # From now on it is held to be the only one.
        new["clashes"] = False
    if new.get("status") == "active":
        await _hold_client(db, domain.client_id)
    try:
        return await update_row(db, Domain, "domain", id, new)
    except Duplicate:
        raise Conflict(TAKEN) from None


async def _hold_client(db: Connection, client_id: int) -> None:
    """Keep the client of a domain that becomes active. Raises Conflict where it is deleted."""
    try:
        await clients.hold(db, client_id)
    except NotFound:
        raise Conflict("The client of the domain is deleted, so the domain cannot be active.") from None


async def delete(db: Connection, id: int, versions: Collection[int] | None = None) -> None:
    """Delete a domain, if it is in one of ``versions``. Raises NotFound, PreconditionFailed."""
    await delete_row(db, Domain, "domain", id, versions)
