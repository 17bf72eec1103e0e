"""Invoices, their lines and their payments. Amounts are exact decimals throughout."""

from collections.abc import Sequence
from datetime import date, datetime
from decimal import Decimal
from typing import Any, NamedTuple

from sqlalchemy import (
    BigInteger,
    Date,
    ForeignKey,
    Index,
    String,
    and_,
    bindparam,
    case,
    insert,
    or_,
    select,
    true,
    update,
)
from sqlalchemy.orm import Mapped, mapped_column

from persistence import clients, lifecycle, settings
from persistence.database import Connection, Row
from persistence.listing import COUNTS, CountedBy, Listing, Page
from persistence.statements import require, require_owned, where_id
from persistence.types import Base, BigIntId, Money, UtcDateTime, version_column


class Invoice(Base):
    __tablename__ = "invoices"
    __table_args__ = (
        Index("ix_invoices_client_id_id", "client_id", "id"),
        Index("ix_invoices_due_date_id", "due_date", "id"),
        # The day is not what it is ordered by: those that are due are told apart without their rows.
        Index("ix_invoices_status_id_due_date", "status", "id", "due_date"),
        Index("ix_invoices_status_due_date_id", "status", "due_date", "id"),
    )

    id: Mapped[int] = mapped_column(BigIntId, primary_key=True)
    client_id: Mapped[int] = mapped_column(BigIntId, ForeignKey("clients.id"))
    status: Mapped[str] = mapped_column(String(20))
    total: Mapped[Decimal] = mapped_column(Money)
    currency: Mapped[str] = mapped_column(String(3))
    due_date: Mapped[date]
    paid_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    version: Mapped[int] = version_column()


class InvoiceLine(Base):
    __tablename__ = "invoice_lines"
    __table_args__ = (Index("ix_invoice_lines_invoice_id_id", "invoice_id", "id"),)

    id: Mapped[int] = mapped_column(BigIntId, primary_key=True)
    invoice_id: Mapped[int] = mapped_column(BigIntId, ForeignKey("invoices.id"))
    description: Mapped[str] = mapped_column(String(500))
    amount: Mapped[Decimal] = mapped_column(Money)


class Payment(Base):
    __tablename__ = "payments"

    id: Mapped[int] = mapped_column(BigIntId, primary_key=True)
    # Unique, so that no fault elsewhere can ever book two payments of one invoice.
    invoice_id: Mapped[int] = mapped_column(BigIntId, ForeignKey("invoices.id"), unique=True)
    amount: Mapped[Decimal] = mapped_column(Money)
    currency: Mapped[str] = mapped_column(String(3))
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)


class Line(NamedTuple):
    """A line of an invoice that is made."""

    description: str
    amount: Decimal


TABLE = Invoice.__table__
LINES = InvoiceLine.__table__

_LATE = and_(TABLE.c.status == "unpaid", TABLE.c.due_date < bindparam("today", type_=Date))

SHOWN = (
    *[column for column in TABLE.c if column.name not in ("status", "version")],
    case((_LATE, "overdue"), else_=TABLE.c.status).label("status"),
    # What is shown changes at midnight, too.
    (2 * TABLE.c.version + case((_LATE, 1), else_=0)).label("version"),
)

_SELECT = select(*SHOWN)

GET = where_id(_SELECT, TABLE.c.id)

GET_LINES = (
    select(LINES.c.description, LINES.c.amount)
    .where(LINES.c.invoice_id == bindparam("id", type_=BigInteger))
    .order_by(LINES.c.id)
)

LIST = Listing(
    _SELECT,
    TABLE.c.id,
    narrow=["number", "client_id"],
    ranges=("due_from", "due_to"),
    dated=TABLE.c.due_date,
    tallied=[
        CountedBy("invoices", paid=COUNTS.c.word == "paid"),
        CountedBy(
            "due_dates",
            paid=COUNTS.c.word == "paid",
            unpaid=and_(COUNTS.c.word == "unpaid", COUNTS.c.day >= bindparam("today", type_=Date)),
            overdue=and_(COUNTS.c.word == "unpaid", COUNTS.c.day < bindparam("today", type_=Date)),
            due_from=COUNTS.c.day >= bindparam("due_from", type_=Date),
            due_to=COUNTS.c.day <= bindparam("due_to", type_=Date),
        ),
    ],
    number=TABLE.c.id == bindparam("number", type_=BigInteger),
    client_id=TABLE.c.client_id == bindparam("client_id", type_=BigInteger),
    due_from=TABLE.c.due_date >= bindparam("due_from", type_=Date),
    due_to=TABLE.c.due_date <= bindparam("due_to", type_=Date),
    # In the order of the ids, so that no index of the days is looked for.
    unpaid=and_(TABLE.c.status == "unpaid", (TABLE.c.due_date >= bindparam("today", type_=Date)).is_(true())),
    overdue=and_(TABLE.c.status == "unpaid", (TABLE.c.due_date < bindparam("today", type_=Date)).is_(true())),
    paid=TABLE.c.status == "paid",
)

COLUMNS = ("status", "total", "due_date", "created_at")

# With its client, which is held as by ``clients.hold``, in one round trip.
INSERT = (
    insert(Invoice)
    .from_select(
        ["client_id", "currency", *COLUMNS],
        select(
            clients.TABLE.c.id,
            settings.CURRENCY,
            *[bindparam(name, type_=TABLE.c[name].type) for name in COLUMNS],
        )
        .where(clients.TABLE.c.id == bindparam("client_id", type_=BigInteger), clients.NOT_DELETED)
        .with_for_update(**clients.HELD),
        include_defaults=False,
    )
    .returning(*SHOWN)
)

INSERT_LINE = insert(InvoiceLine).values(dict.fromkeys(["invoice_id", "description", "amount"]))

PAY = (
    update(Invoice)
    .values(
        status=lifecycle.INVOICE["pay"].to_state,
        paid_at=bindparam("now", type_=UtcDateTime),
        version=TABLE.c.version + 1,
    )
    .where(
        TABLE.c.id == bindparam("key", type_=BigInteger),
        or_(*[TABLE.c.status == state for state in lifecycle.INVOICE["pay"].from_states]),
    )
    .returning(TABLE.c.total, TABLE.c.currency)
)

INSERT_PAYMENT = insert(Payment).values(dict.fromkeys(["invoice_id", "amount", "currency", "created_at"]))


def number(id: int) -> str:
    """The number on the invoice. It is made of the id, so it is unique and needs no column."""
    return f"INV-{id:06d}"


def id_of(number: str) -> int:
    """The id that a number on an invoice is made of, in capital letters or not."""
    return int(number.upper().removeprefix("INV-"))


async def page(
    db: Connection, *, status: str | None, today: date, number: str | None = None, **where: Any
) -> Page:
    """A page of invoices, newest first; filters ``client_id``, ``number``, ``status``, overdue as of
    ``today``.

    With ``due_from`` or ``due_to``, which are included, what is due last comes first.
    """
    state = {status: True} if status else {}
    id = id_of(number) if number else None
    return await LIST.page(db, today=today, number=id, **state, **where)


async def get(db: Connection, id: int, owner: int | None, today: date) -> tuple[Row, list[Row]]:
    """The invoice and its lines. Raises NotFound, Forbidden."""
    invoice = await require_owned(db, GET, "invoice", id, owner, today=today)
    return invoice, await db.fetch_all(GET_LINES, id=id)


async def create(
    db: Connection, *, client_id: int, due_date: date, lines: Sequence[Line], now: datetime
) -> tuple[Row, Sequence[Line]]:
    """Make an unpaid invoice over the sum of ``lines``. Raises NotFound."""
    made = await require(
        db,
        INSERT,
        "client",
        client_id=client_id,
        status=lifecycle.FIRST["invoice"],
        total=sum((line.amount for line in lines), Decimal(0)),
        due_date=due_date,
        created_at=now,
        today=now.date(),
    )
    await db.execute_many(INSERT_LINE, [{"invoice_id": made.id, **line._asdict()} for line in lines])
    return made, lines


async def pay(db: Connection, id: int, now: datetime) -> tuple[Row, list[Row]]:
    """unpaid → paid, with one payment. Raises NotFound, Conflict."""
    paid = await db.fetch_one(PAY, key=id, now=now)
    if paid is None:
        invoice, _ = await get(db, id, None, now.date())
        raise lifecycle.refuse("invoice", lifecycle.INVOICE, "pay", invoice.status)
    await db.execute(INSERT_PAYMENT, invoice_id=id, amount=paid.total, currency=paid.currency, created_at=now)
    return await get(db, id, None, now.date())
