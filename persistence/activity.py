"""Activity: one row for each request that changed something, written in its transaction."""

from datetime import datetime
from typing import Any

from sqlalchemy import Index, String, and_, bindparam, case, func, insert, select
from sqlalchemy.orm import Mapped, mapped_column

from persistence.api_keys import ApiKey
from persistence.database import Connection
from persistence.listing import COUNTS, CountedBy, Listing, Page
from persistence.operators import Operator
from persistence.types import Base, BigIntId, UtcDateTime


class Activity(Base):
    __tablename__ = "activity"
    __table_args__ = (
        Index("ix_activity_actor_id", "actor", "id"),
        Index("ix_activity_operation_id", "operation", "id"),
        Index("ix_activity_resource_id", "resource", "id"),
    )

    id: Mapped[int] = mapped_column(BigIntId, primary_key=True)
    # client, api_key or operator, and its id there.
    actor: Mapped[str] = mapped_column(String(10))
    actor_id: Mapped[int] = mapped_column(BigIntId)
    operation: Mapped[str] = mapped_column(String(40))
    resource: Mapped[str] = mapped_column(String(200))
    request_id: Mapped[str] = mapped_column(String(64))
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)


TABLE = Activity.__table__
KEYS, OPERATORS = ApiKey.__table__, Operator.__table__

INSERT = insert(Activity).values(
    dict.fromkeys(("actor", "actor_id", "operation", "resource", "request_id", "created_at"))
)

# Neither keys nor operators are ever deleted, so what they are called needs no copy here.
_NAME = func.coalesce(KEYS.c.name, OPERATORS.c.name, "").label("actor_name")

ACTORS = {"client": 1, "api_key": 2, "operator": 3}
"""Their numbers in the tally."""

LIST = Listing(
    select(*TABLE.c, _NAME).select_from(
        TABLE.outerjoin(KEYS, and_(TABLE.c.actor == "api_key", KEYS.c.id == TABLE.c.actor_id)).outerjoin(
            OPERATORS, and_(TABLE.c.actor == "operator", OPERATORS.c.id == TABLE.c.actor_id)
        )
    ),
    TABLE.c.id,
    narrow=["resource"],
    tallied=[
        CountedBy(
            "activity",
            actor=COUNTS.c.number == case(ACTORS, value=bindparam("actor"), else_=0),
            operation=COUNTS.c.word == bindparam("operation"),
        )
    ],
    actor=TABLE.c.actor == bindparam("actor"),
    operation=TABLE.c.operation == bindparam("operation"),
    resource=TABLE.c.resource == bindparam("resource"),
)


async def page(db: Connection, **where: Any) -> Page:
    """A page of activity, newest first, each row with its ``actor_name``; filters ``actor``,
    ``operation``, ``resource``.
    """
    return await LIST.page(db, **where)


async def add(db: Connection, **columns: Any) -> None:
    """Keep that something was changed."""
    await db.execute(INSERT, **columns)
