"""Products: what a service is a service of, and what it costs."""

from decimal import Decimal

from sqlalchemy import String, Text, select
from sqlalchemy.orm import Mapped, mapped_column

from persistence.database import Base, Connection, Key, Money, Row, exists, one_by_id
from persistence.errors import Conflict


class Product(Base):
    __tablename__ = "products"

    id: Mapped[int] = mapped_column(Key, primary_key=True)
    name: Mapped[str] = mapped_column(String(200))
    description: Mapped[str] = mapped_column(Text)
    kind: Mapped[str] = mapped_column(String(50))
    status: Mapped[str] = mapped_column(String(20))
    monthly: Mapped[Decimal | None] = mapped_column(Money)
    quarterly: Mapped[Decimal | None] = mapped_column(Money)
    annually: Mapped[Decimal | None] = mapped_column(Money)
    currency: Mapped[str] = mapped_column(String(3))


TABLE = Product.__table__

GET = one_by_id(select(TABLE), TABLE.c.id)


async def orderable(db: Connection, id: int, billing_cycle: str) -> Row:
    """The product, if it is active and has a price for the cycle. Raises NotFound, Conflict."""
    product = await exists(db, GET, "product", id=id)
    if product.status != "active":
        raise Conflict("The product is inactive, so no service can be made of it.")
    if getattr(product, billing_cycle) is None:
        raise Conflict(f"The product has no {billing_cycle} price; choose another billing_cycle.")
    return product
