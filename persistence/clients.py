"""Client accounts: the people and companies whom services, invoices and tickets belong to."""

from datetime import datetime
from functools import cache
from typing import Any

from sqlalchemy import BigInteger, String, Update, bindparam, select, update
from sqlalchemy.orm import Mapped, mapped_column

from persistence.database import Base, Connection, Instant, Key, Row, exists, one_by_id


class Client(Base):
    __tablename__ = "clients"

    id: Mapped[int] = mapped_column(Key, primary_key=True)
    first_name: Mapped[str] = mapped_column(String(100))
    last_name: Mapped[str] = mapped_column(String(100))
    email: Mapped[str] = mapped_column(String(254))
    # Case-folded, so that two spellings of one address collide.
    email_key: Mapped[str | None] = mapped_column(String(600), unique=True)
    phone: Mapped[str] = mapped_column(String(50))
    company: Mapped[str] = mapped_column(String(200))
    address1: Mapped[str] = mapped_column(String(200))
    city: Mapped[str] = mapped_column(String(100))
    state: Mapped[str] = mapped_column(String(100))
    postcode: Mapped[str] = mapped_column(String(20))
    country: Mapped[str] = mapped_column(String(2))
    status: Mapped[str] = mapped_column(String(20))
    created_at: Mapped[datetime] = mapped_column(Instant)


TABLE = Client.__table__

GET = one_by_id(select(TABLE), TABLE.c.id)


@cache
def _change(names: frozenset[str]) -> Update:
    values = {name: bindparam(f"new_{name}", type_=TABLE.c[name].type) for name in sorted(names)}
    return (
        update(Client)
        .values(values)
        .where(TABLE.c.id == bindparam("key", type_=BigInteger))
        .returning(*TABLE.c)
    )


async def get(db: Connection, id: int) -> Row:
    """The client. Raises NotFound."""
    return await exists(db, GET, "client", id=id)


async def change(db: Connection, id: int, values: dict[str, Any]) -> Row:
    """Set the named columns of a client; answers the client as it is then. Raises NotFound."""
    new = {f"new_{name}": value for name, value in values.items()}
    return await exists(db, _change(frozenset(values)), "client", key=id, **new)
