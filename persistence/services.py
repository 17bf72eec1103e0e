"""Services: hosting accounts, from the place they take to the place they free."""

from datetime import date, datetime
from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    ForeignKey,
    Index,
    String,
    bindparam,
    false,
    insert,
    or_,
    select,
    text,
    update,
)
from sqlalchemy.orm import Mapped, mapped_column

from persistence import clients, lifecycle, products, servers
from persistence.database import Connection, Row
from persistence.errors import Conflict, Duplicate
from persistence.identity import hostname, require_hostname
from persistence.listing import COUNTS, CountedBy, Listing, Page
from persistence.statements import require, require_owned, where_id
from persistence.types import Base, BigIntId, UtcDateTime, version_column

LIVE = "status <> 'terminated' AND NOT clashes"


class Service(Base):
    __tablename__ = "services"
    __table_args__ = (
        Index("ix_services_client_id_id", "client_id", "id"),
        Index("ix_services_domain_id", "domain", "id"),
        Index("ix_services_product_id_id", "product_id", "id"),
        Index("ix_services_product_id_status_id", "product_id", "status", "id"),
        Index("ix_services_status_id", "status", "id"),
        # One live service of a domain, and one of a username on a server.
        Index(
            "uq_services_domain",
            "domain",
            unique=True,
            sqlite_where=text(f"{LIVE} AND domain <> ''"),
            postgresql_where=text(f"{LIVE} AND domain <> ''"),
        ),
        Index(
            "uq_services_server_id_username",
            "server_id",
            "username",
            unique=True,
            sqlite_where=text(f"{LIVE} AND username <> ''"),
            postgresql_where=text(f"{LIVE} AND username <> ''"),
        ),
        Index("ix_services_clashes", "id", sqlite_where=text("clashes"), postgresql_where=text("clashes")),
        Index("ix_services_username_id", "username", "id"),
    )

    id: Mapped[int] = mapped_column(BigIntId, primary_key=True)
    client_id: Mapped[int] = mapped_column(BigIntId, ForeignKey("clients.id"))
    product_id: Mapped[int] = mapped_column(BigIntId, ForeignKey("products.id"))
    server_id: Mapped[int | None] = mapped_column(BigIntId, ForeignKey("servers.id"))
    domain: Mapped[str] = mapped_column(String(253))
    username: Mapped[str] = mapped_column(String(64))
    status: Mapped[str] = mapped_column(String(20))
    billing_cycle: Mapped[str] = mapped_column(String(20))
    next_due_date: Mapped[date]
    suspend_reason: Mapped[str] = mapped_column(String(500))
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    # Of an older version, which let a domain or a username be there twice. The unique indexes leave it out.
    clashes: Mapped[bool] = mapped_column(Boolean, server_default=false())
    version: Mapped[int] = version_column()


TABLE = Service.__table__

_SELECT = select(
    *[column for column in TABLE.c if column.name not in ("version", "clashes")],
    products.TABLE.c.name.label("product_name"),
    # What is shown changes with either; both only ever grow, and so does their sum.
    (TABLE.c.version + products.TABLE.c.version).label("version"),
).join(products.TABLE, products.TABLE.c.id == TABLE.c.product_id)

GET = where_id(_SELECT, TABLE.c.id)

LIST = Listing(
    _SELECT,
    TABLE.c.id,
    narrow=["domain", "username", "client_id"],
    tallied=[
        CountedBy(
            "services",
            product_id=COUNTS.c.number == bindparam("product_id", type_=BigInteger),
            status=COUNTS.c.word == bindparam("status"),
        )
    ],
    client_id=TABLE.c.client_id == bindparam("client_id", type_=BigInteger),
    domain=TABLE.c.domain == bindparam("domain"),
    username=TABLE.c.username == bindparam("username"),
    product_id=TABLE.c.product_id == bindparam("product_id", type_=BigInteger),
    status=TABLE.c.status == bindparam("status"),
)

INSERT = (
    insert(Service)
    .values(
        dict.fromkeys(
            [
                "client_id",
                "product_id",
                "server_id",
                "domain",
                "username",
                "status",
                "billing_cycle",
                "next_due_date",
                "suspend_reason",
                "created_at",
            ]
        )
    )
    .returning(TABLE.c.id)
)


DOMAIN_TAKEN = (
    "Another service that is not terminated has this domain; terminate it first, or use another domain."
)
USERNAME_TAKEN = "Another service on the server has this username; choose another username."

CLASHING = (
    select(TABLE.c.id, TABLE.c.domain, TABLE.c.username, TABLE.c.server_id)
    # In the words of the index; SQLite finds it for no others.
    .where(text("services.clashes"), TABLE.c.status != "terminated")
    .order_by(TABLE.c.id)
    .limit(bindparam("limit", type_=BigInteger))
)


def _move(verb: str) -> Any:
    """The one statement that takes a service through a verb, if it is in a state that allows it."""
    rule = lifecycle.SERVICE[verb]
    return (
        update(Service)
        .values(status=rule.to_state, suspend_reason=bindparam("reason"), version=TABLE.c.version + 1)
        .where(
            TABLE.c.id == bindparam("key", type_=BigInteger),
            or_(*[TABLE.c.status == state for state in rule.from_states]),
        )
        .returning(TABLE.c.server_id)
    )


MOVES = {verb: _move(verb) for verb in lifecycle.SERVICE}

EMPTY_PLACE = update(Service).values(server_id=None).where(TABLE.c.id == bindparam("key", type_=BigInteger))

MONTHS = {"monthly": 1, "quarterly": 3, "annually": 12}


def add_cycle(day: date, billing_cycle: str) -> date:
    """One billing cycle later; a day that the month does not have becomes its last."""
    months = day.year * 12 + day.month - 1 + MONTHS[billing_cycle]
    first = date(months // 12, months % 12 + 1, 1)
    next_month = date(first.year + first.month // 12, first.month % 12 + 1, 1)
    return first.replace(day=min(day.day, (next_month - first).days))


async def page(db: Connection, *, domain: str | None = None, **where: Any) -> Page:
    """A page of services, newest first; filters ``client_id``, ``product_id``, ``status``, ``username``, and
    ``domain`` in any spelling.
    """
    if domain is not None and (domain := hostname(domain)) is None:
        return Page([], 1, where["limit"], 0, False)
    return await LIST.page(db, domain=domain, **where)


async def get(db: Connection, id: int, owner: int | None) -> Row:
    """The service. Raises NotFound, Forbidden."""
    return await require_owned(db, GET, "service", id, owner)


async def create(
    db: Connection,
    *,
    client_id: int,
    product_id: int,
    billing_cycle: str,
    domain: str,
    username: str,
    now: datetime,
) -> Row:
    """Provision a service on a free place. Raises NotFound, Conflict."""
    await clients.hold(db, client_id)
    product = await products.orderable(db, product_id, billing_cycle)
    name = require_hostname("domain", domain) if domain else ""
    try:
        made = await require(
            db,
            INSERT,
            "service",
            client_id=client_id,
            product_id=product_id,
            server_id=await servers.take_place(db, product.kind),
            domain=name,
            username=username,
            status=lifecycle.FIRST["service"],
            billing_cycle=billing_cycle,
            next_due_date=add_cycle(now.date(), billing_cycle),
            suspend_reason="",
            created_at=now,
        )
    except Duplicate as error:
        raise Conflict(USERNAME_TAKEN if "username" in error.what else DOMAIN_TAKEN) from None
    return await get(db, made.id, None)


async def suspend(db: Connection, id: int, reason: str) -> Row:
    """active → suspended. Raises NotFound, Conflict."""
    await _go(db, id, "suspend", reason)
    return await get(db, id, None)


async def unsuspend(db: Connection, id: int) -> Row:
    """suspended → active. Raises NotFound, Conflict."""
    await _go(db, id, "unsuspend", "")
    return await get(db, id, None)


async def terminate(db: Connection, id: int) -> Row:
    """active or suspended → terminated; the place is free again. Raises NotFound, Conflict."""
    moved = await _go(db, id, "terminate", "")
    await db.execute(EMPTY_PLACE, key=id)
    if moved.server_id is not None:
        await servers.release_place(db, moved.server_id)
    return await get(db, id, None)


async def _go(db: Connection, id: int, verb: str, reason: str) -> Row:
    moved = await db.fetch_one(MOVES[verb], key=id, reason=reason)
    if moved is None:
        service = await get(db, id, None)
        raise lifecycle.refuse("service", lifecycle.SERVICE, verb, service.status)
    return moved
