"""Tickets and their replies."""

from collections.abc import Callable
from datetime import datetime
from typing import Any

from sqlalchemy import (
    BigInteger,
    ForeignKey,
    Index,
    Select,
    String,
    Text,
    bindparam,
    insert,
    or_,
    select,
    true,
    union,
    update,
)
from sqlalchemy.dialects import postgresql
from sqlalchemy.orm import Mapped, mapped_column

from persistence import clients, departments, lifecycle, search
from persistence.database import Connection, Row
from persistence.listing import COUNTS, CountedBy, Listing, Page
from persistence.statements import require_owned, where_id
from persistence.types import Base, BigIntId, UtcDateTime, version_column


class Ticket(Base):
    __tablename__ = "tickets"
    __table_args__ = (
        Index("ix_tickets_client_id_id", "client_id", "id"),
        Index("ix_tickets_department_id_id", "department_id", "id"),
        Index("ix_tickets_department_id_status_id", "department_id", "status", "id"),
        Index("ix_tickets_status_id", "status", "id"),
    )

    id: Mapped[int] = mapped_column(BigIntId, primary_key=True)
    ticket_number: Mapped[str] = mapped_column(String(12), unique=True)
    client_id: Mapped[int] = mapped_column(BigIntId, ForeignKey("clients.id"))
    department_id: Mapped[int] = mapped_column(BigIntId, ForeignKey("departments.id"))
    subject: Mapped[str] = mapped_column(String(255))
    message: Mapped[str] = mapped_column(Text)
    status: Mapped[str] = mapped_column(String(20))
    priority: Mapped[str] = mapped_column(String(10))
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    updated_at: Mapped[datetime] = mapped_column(UtcDateTime)
    reply_count: Mapped[int] = mapped_column(BigInteger, server_default="0")
    version: Mapped[int] = version_column()


class TicketReply(Base):
    __tablename__ = "ticket_replies"
    __table_args__ = (Index("ix_ticket_replies_ticket_id_id", "ticket_id", "id"),)

    id: Mapped[int] = mapped_column(BigIntId, primary_key=True)
    ticket_id: Mapped[int] = mapped_column(BigIntId, ForeignKey("tickets.id"))
    author: Mapped[str] = mapped_column(String(10))
    message: Mapped[str] = mapped_column(Text)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)


TABLE = Ticket.__table__
REPLIES = TicketReply.__table__

GET = where_id(select(TABLE), TABLE.c.id)

SHOWN_REPLIES = 30
"""The replies that a ticket and a page of replies show. The contract has the same ``maxItems``."""

GET_LATEST_REPLIES = (
    select(REPLIES)
    .where(REPLIES.c.ticket_id == bindparam("id", type_=BigInteger))
    .order_by(REPLIES.c.id.desc())
    .limit(SHOWN_REPLIES)
    # Messages may be long.
    .execution_options(slow=True)
)


_TICKET_ID = bindparam("ticket_id", type_=BigInteger)


class ReplyTotal(CountedBy):
    """The number of replies to a ticket, which its row keeps."""

    def total(self, names: frozenset[str]) -> Select[Any]:
        return select(TABLE.c.reply_count.label("total")).where(*self.conditions.values())


LIST_REPLIES = Listing(
    select(REPLIES).execution_options(slow=True),
    REPLIES.c.id,
    tallied=[ReplyTotal("replies", ticket_id=TABLE.c.id == _TICKET_ID)],
    ticket_id=REPLIES.c.ticket_id == _TICKET_ID,
)

LIST = Listing(
    # No list shows the messages, which may be long.
    select(*[column for column in TABLE.c if column is not TABLE.c.message]),
    TABLE.c.id,
    narrow=["ticket_number", "client_id", "words"],
    slow=["words"],
    tallied=[
        CountedBy(
            "tickets",
            department_id=COUNTS.c.number == bindparam("department_id", type_=BigInteger),
            status=COUNTS.c.word == bindparam("status"),
        )
    ],
    client_id=TABLE.c.client_id == bindparam("client_id", type_=BigInteger),
    department_id=TABLE.c.department_id == bindparam("department_id", type_=BigInteger),
    status=TABLE.c.status == bindparam("status"),
    ticket_number=TABLE.c.ticket_number == bindparam("ticket_number"),
    words=TABLE.c.id.in_(
        union(
            search.TICKETS.ids,
            # Each reply has words of its own, so that a long ticket is not indexed anew with each.
            select(REPLIES.c.ticket_id).where(REPLIES.c.id.in_(search.REPLIES.ids)),
        )
    ),
)

COLUMNS = ("ticket_number", "subject", "message", "status", "priority", "created_at", "updated_at")

# With its client, which is held as by ``clients.hold``, and its department, in one round trip.
# PostgreSQL's construct, whose ON CONFLICT SQLite's compiler writes in the same words.
INSERT = (
    postgresql.insert(Ticket)
    .from_select(
        ["client_id", "department_id", *COLUMNS],
        select(
            clients.TABLE.c.id,
            departments.TABLE.c.id,
            *[bindparam(name, type_=TABLE.c[name].type) for name in COLUMNS],
        )
        .where(
            clients.TABLE.c.id == bindparam("client_id", type_=BigInteger),
            clients.NOT_DELETED,
            departments.TABLE.c.id == bindparam("department_id", type_=BigInteger),
            departments.ADDRESSABLE,
        )
        .with_for_update(**clients.HELD),
        include_defaults=False,
    )
    .on_conflict_do_nothing(index_elements=["ticket_number"])
    .returning(*TABLE.c)
)

INSERT_REPLY = (
    insert(TicketReply)
    .values(dict.fromkeys(["ticket_id", "author", "message", "created_at"]))
    .returning(REPLIES.c.id)
)


def _move(verb: str, owned: bool) -> Any:
    """The one statement that takes a ticket through a verb, if its state and its owner allow it."""
    rule = lifecycle.TICKET[verb]
    # Held, since a reply reopens a ticket, and a client that is deleted has no open ones.
    client = (
        select(clients.TABLE.c.id)
        .where(clients.TABLE.c.id == bindparam("owner", type_=BigInteger), clients.NOT_DELETED)
        .with_for_update(**clients.HELD)
        .scalar_subquery()
    )
    owner = TABLE.c.client_id == client if owned else true()
    values = {
        "status": rule.to_state,
        "updated_at": bindparam("now", type_=UtcDateTime),
        "version": TABLE.c.version + 1,
    }
    if verb.startswith("reply_as_"):
        values["reply_count"] = TABLE.c.reply_count + 1
    return (
        update(Ticket)
        .values(values)
        .where(
            TABLE.c.id == bindparam("key", type_=BigInteger),
            or_(*[TABLE.c.status == state for state in rule.from_states]),
            owner,
        )
        .returning(TABLE.c.id)
    )


MOVES = {(verb, owned): _move(verb, owned) for verb in lifecycle.TICKET for owned in (False, True)}


async def page(
    db: Connection, *, q: str | None = None, ticket_number: str | None = None, **where: Any
) -> Page:
    """A page of tickets, newest first; filters ``client_id``, ``department_id``, ``status``,
    ``ticket_number``, and ``q``, words that stand together in the subject and message or in one reply.
    """
    words = search.wanted(q) if q and q.strip() else None
    if words == []:
        return Page([], 1, where["limit"], 0, False)
    number = ticket_number.upper() if ticket_number else None
    return await LIST.page(db, words=words, ticket_number=number, **where)


async def get(db: Connection, id: int, owner: int | None) -> tuple[Row, list[Row]]:
    """The ticket and its latest replies, oldest first. Raises NotFound, Forbidden."""
    ticket = await require_owned(db, GET, "ticket", id, owner)
    return ticket, (await db.fetch_all(GET_LATEST_REPLIES, id=id))[::-1]


async def replies(db: Connection, id: int, owner: int | None, **where: Any) -> Page:
    """A page of the replies to a ticket, newest first. Raises NotFound, Forbidden."""
    await require_owned(db, GET, "ticket", id, owner)
    return await LIST_REPLIES.page(db, ticket_id=id, **where | {"limit": min(where["limit"], SHOWN_REPLIES)})


async def create(
    db: Connection,
    *,
    client_id: int,
    department_id: int,
    subject: str,
    message: str,
    priority: str,
    now: datetime,
    number: Callable[[], str],
) -> Row:
    """Open a ticket under the first of ``number()`` that is free. Raises NotFound, Conflict."""
    while True:
        made = await db.fetch_one(
            INSERT,
            ticket_number=number(),
            client_id=client_id,
            department_id=department_id,
            subject=subject,
            message=message,
            status=lifecycle.FIRST["ticket"],
            priority=priority,
            created_at=now,
            updated_at=now,
        )
        if made is not None:
            await search.TICKETS.add(db, made.id, f"{subject} {message}")
            return made
        await clients.hold(db, client_id)
        await departments.addressable(db, department_id)
        # Neither is to blame, so the number is taken.


async def reply(db: Connection, id: int, owner: int | None, message: str, now: datetime) -> None:
    """Add a reply of the owner, or of the staff if ``owner`` is None.

    Raises NotFound, Forbidden, Conflict.
    """
    author = "staff" if owner is None else "client"
    await _go(db, id, owner, f"reply_as_{author}", now)
    made = await db.fetch_one(INSERT_REPLY, ticket_id=id, author=author, message=message, created_at=now)
    assert made is not None
    await search.REPLIES.add(db, made.id, message)


async def close(db: Connection, id: int, owner: int | None, now: datetime) -> None:
    """any open state → closed. Raises NotFound, Forbidden, Conflict."""
    await _go(db, id, owner, "close", now)


async def _go(db: Connection, id: int, owner: int | None, verb: str, now: datetime) -> None:
    mine = {} if owner is None else {"owner": owner}
    if await db.fetch_one(MOVES[verb, owner is not None], key=id, now=now, **mine) is None:
        ticket = await require_owned(db, GET, "ticket", id, owner)
        if owner is not None:
            await clients.hold(db, owner)
        raise lifecycle.refuse("ticket", lifecycle.TICKET, verb, ticket.status)
