"""Client accounts: the people and companies whom services, invoices and tickets belong to."""

import unicodedata
from collections.abc import Collection
from datetime import datetime
from typing import Any

from sqlalchemy import (
    BigInteger,
    Index,
    String,
    bindparam,
    column,
    exists,
    or_,
    select,
    table,
    text,
    true,
)
from sqlalchemy import update as sql_update
from sqlalchemy.orm import Mapped, mapped_column

from persistence import identity, search
from persistence.database import Connection, Row
from persistence.errors import Conflict, Duplicate
from persistence.listing import CountedBy, Listing, Page
from persistence.statements import insert_returning, require, require_version, update_row, where_id
from persistence.types import Base, BigIntId, UtcDateTime, version_column


class Client(Base):
    __tablename__ = "clients"
    __table_args__ = (
        Index(
            "ix_clients_there",
            "id",
            sqlite_where=text("deleted_at IS NULL"),
            postgresql_where=text("deleted_at IS NULL"),
        ),
        # Almost none; ``doctor`` looks for them.
        Index(
            "ix_clients_without_key",
            "id",
            sqlite_where=text("deleted_at IS NULL AND email_key IS NULL"),
            postgresql_where=text("deleted_at IS NULL AND email_key IS NULL"),
        ),
        Index("ix_clients_phone_key_id", "phone_key", "id"),
    )

    id: Mapped[int] = mapped_column(BigIntId, primary_key=True)
    first_name: Mapped[str] = mapped_column(String(100))
    last_name: Mapped[str] = mapped_column(String(100))
    email: Mapped[str] = mapped_column(String(254))
    # What all spellings of the address have in common (``identity.email_key``). None once the client is
    # deleted, and where a client of an older version has no address, or that of another client.
    email_key: Mapped[str | None] = mapped_column(String(1000), unique=True)
    password_hash: Mapped[str] = mapped_column(String(200))
    phone: Mapped[str] = mapped_column(String(50))
    phone_key: Mapped[str] = mapped_column(String(8), server_default="")
    company: Mapped[str] = mapped_column(String(200))
    address1: Mapped[str] = mapped_column(String(200))
    city: Mapped[str] = mapped_column(String(100))
    state: Mapped[str] = mapped_column(String(100))
    postcode: Mapped[str] = mapped_column(String(20))
    country: Mapped[str] = mapped_column(String(2))
    status: Mapped[str] = mapped_column(String(20))
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    deleted_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    version: Mapped[int] = version_column()


TABLE = Client.__table__

# Those who import this module. Named only, or the two would import each other.
_SERVICES = table("services", column("client_id"), column("status"))
_INVOICES = table("invoices", column("client_id"), column("status"))
_TOKENS = table("tokens", column("client_id", BigInteger), column("revoked_at", UtcDateTime))
_DOMAINS = table("domains", column("client_id"), column("status"))
_TICKETS = table("tickets", column("client_id"), column("status"))

NOT_DELETED = TABLE.c.deleted_at.is_(None)

GET = where_id(select(TABLE), TABLE.c.id).where(NOT_DELETED)

# Held until the end of the transaction: what is made for a client is made before or after it is
# deleted, never while.
HOLD = where_id(select(TABLE.c.id), TABLE.c.id).where(NOT_DELETED).with_for_update(read=True, key_share=True)
HELD: dict[str, Any] = {"read": True, "key_share": True, "of": TABLE}
"""The lock on the client that a statement selects from."""

HOLD_ALONE = where_id(select(TABLE.c.version), TABLE.c.id).where(NOT_DELETED).with_for_update()

LIST = Listing(
    select(TABLE),
    TABLE.c.id,
    narrow=["email_key", "phone_key", "words"],
    slow=["words"],
    tallied=[CountedBy("clients", there=true())],
    there=NOT_DELETED,
    email_key=TABLE.c.email_key == bindparam("email_key"),
    phone_key=TABLE.c.phone_key == bindparam("phone_key"),
    words=TABLE.c.id.in_(search.CLIENTS.ids),
)

COLUMNS = (
    "first_name",
    "last_name",
    "email",
    "email_key",
    "password_hash",
    "phone",
    "phone_key",
    "company",
    "address1",
    "city",
    "state",
    "postcode",
    "country",
    "status",
    "created_at",
)

INSERT = insert_returning(Client, *COLUMNS)

BUSY = select(
    exists()
    .where(
        _SERVICES.c.client_id == bindparam("id", type_=BigInteger),
        or_(_SERVICES.c.status == "active", _SERVICES.c.status == "suspended"),
    )
    .label("services"),
    exists()
    .where(_INVOICES.c.client_id == bindparam("id", type_=BigInteger), _INVOICES.c.status == "unpaid")
    .label("invoices"),
    exists()
    .where(_DOMAINS.c.client_id == bindparam("id", type_=BigInteger), _DOMAINS.c.status == "active")
    .label("domains"),
    exists()
    .where(_TICKETS.c.client_id == bindparam("id", type_=BigInteger), _TICKETS.c.status != "closed")
    .label("tickets"),
)

KEEPS = {
    "services": "active or suspended services (terminate them)",
    "invoices": "unpaid invoices (they must be paid)",
    "domains": "active domains (cancel or delete them)",
    "tickets": "tickets that are not closed (close them)",
}
"""The reasons that prevent the deletion of a client, with their remedies."""

DELETE = (
    sql_update(Client)
    .values(deleted_at=bindparam("now", type_=UtcDateTime), email_key=None)
    .where(TABLE.c.id == bindparam("key", type_=BigInteger))
)

REVOKE_TOKENS = (
    sql_update(_TOKENS)
    .values(revoked_at=bindparam("now", type_=UtcDateTime))
    .where(_TOKENS.c.client_id == bindparam("key", type_=BigInteger), _TOKENS.c.revoked_at.is_(None))
    .execution_options(slow=True)
)

TAKEN = "Another client has this email address."

WITHOUT_KEY = (
    select(TABLE.c.id, TABLE.c.email)
    .where(NOT_DELETED, TABLE.c.email_key.is_(None))
    .order_by(TABLE.c.id)
    .limit(bindparam("limit", type_=BigInteger))
)

BY_KEY = select(TABLE.c.id).where(TABLE.c.email_key == bindparam("email_key"))


def _key(email: str) -> str:
    """Return what identifies an address. Raises Conflict where a rule of addresses excludes it."""
    key = identity.email_key(email)
    if key is None:
        raise Conflict(
            "The email field is not an email address that can exist; check its domain and characters."
        )
    return key


def phone_key(phone: str) -> str:
    """Return the last digits of a phone number, which are the same with and without its country's code."""
    return "".join(str(unicodedata.digit(each)) for each in phone if each.isdigit())[-8:]


def _keys(values: dict[str, Any]) -> dict[str, str]:
    """The columns that follow from the columns of a client."""
    email = {"email_key": _key(values["email"])} if "email" in values else {}
    return email | ({"phone_key": phone_key(values["phone"])} if "phone" in values else {})


def _texts(client: Row) -> str:
    return f"{client.first_name} {client.last_name} {client.company} {client.email}"


async def page(
    db: Connection, *, email: str | None, q: str | None, phone: str | None = None, **where: Any
) -> Page:
    """A page of clients, newest first; filters ``email``, ``phone``, and ``q``, words of their names."""
    words = search.wanted(q) if q and q.strip() else None
    digits = phone_key(phone) if phone and phone.strip() else None
    if words == [] or digits == "":
        return Page([], 1, where["limit"], 0, False)
    key = identity.email_key(email) if email else None
    if email and key is None:
        return Page([], 1, where["limit"], 0, False)
    return await LIST.page(db, there=True, email_key=key, phone_key=digits, words=words, **where)


async def get(db: Connection, id: int) -> Row:
    """The client. Raises NotFound."""
    return await require(db, GET, "client", id=id)


async def hold(db: Connection, id: int) -> None:
    """Keep the client from being deleted until the transaction ends. Raises NotFound."""
    await require(db, HOLD, "client", id=id)


async def create(db: Connection, values: dict[str, Any], now: datetime) -> Row:
    """Register a client; ``values`` are columns. Raises Conflict where its email is taken, or is none."""
    given = dict.fromkeys(COLUMNS, "") | values | _keys(values) | {"status": "active", "created_at": now}
    try:
        client = await require(db, INSERT, "client", **given)
    except Duplicate:
        raise Conflict(TAKEN) from None
    await search.CLIENTS.add(db, client.id, _texts(client))
    return client


async def update(
    db: Connection, id: int, values: dict[str, Any], versions: Collection[int] | None = None
) -> Row:
    """Set the named columns of a client, if it is in one of ``versions``; answers it as it is then.

    Raises NotFound, PreconditionFailed, Conflict.
    """
    await hold(db, id)
    try:
        client = await update_row(db, Client, "client", id, values | _keys(values), versions)
    except Duplicate:
        raise Conflict(TAKEN) from None
    if not db.unchanged:
        await search.CLIENTS.put(db, id, _texts(client))
    return client


async def delete(db: Connection, id: int, now: datetime, versions: Collection[int] | None = None) -> None:
    """Delete a client and its tokens, if it is in one of ``versions``; its books stay.

    Raises NotFound, PreconditionFailed, Conflict.
    """
    require_version(await require(db, HOLD_ALONE, "client", id=id), "client", versions)
    # Looked at after the client is held, so that nothing can be made for it meanwhile.
    busy = await require(db, BUSY, "client", id=id)
    kept = [text for name, text in KEEPS.items() if getattr(busy, name)]
    if kept:
        raise Conflict(f"The client cannot be deleted while it has {', '.join(kept)}.")
    await db.execute(DELETE, key=id, now=now)
    await db.execute(REVOKE_TOKENS, key=id, now=now)
    await db.execute(search.CLIENTS.delete, id=id)
