"""Products: what a service is a service of, and what it costs."""

from collections.abc import Collection
from decimal import Decimal
from typing import Any

from sqlalchemy import String, Text, select
from sqlalchemy.orm import Mapped, mapped_column

from persistence.database import Connection, Row
from persistence.errors import Conflict
from persistence.listing import CountedBy, Listing, Page
from persistence.statements import insert_returning, require, update_row, where_id
from persistence.types import Base, BigIntId, Money, version_column


class Product(Base):
    __tablename__ = "products"

    id: Mapped[int] = mapped_column(BigIntId, primary_key=True)
    name: Mapped[str] = mapped_column(String(200))
    description: Mapped[str] = mapped_column(Text)
    kind: Mapped[str] = mapped_column(String(50))
    status: Mapped[str] = mapped_column(String(20))
    monthly: Mapped[Decimal | None] = mapped_column(Money)
    quarterly: Mapped[Decimal | None] = mapped_column(Money)
    annually: Mapped[Decimal | None] = mapped_column(Money)
    currency: Mapped[str] = mapped_column(String(3))
    version: Mapped[int] = version_column()


TABLE = Product.__table__

GET = where_id(select(TABLE), TABLE.c.id)


LIST = Listing(select(TABLE), TABLE.c.id, tallied=[CountedBy("products")])

CYCLES = ("monthly", "quarterly", "annually")

INSERT = insert_returning(Product, "name", "description", "kind", "status", *CYCLES, "currency")


async def page(db: Connection, **where: Any) -> Page:
    """A page of products, newest first."""
    return await LIST.page(db, **where)


async def get(db: Connection, id: int) -> Row:
    """The product. Raises NotFound."""
    return await require(db, GET, "product", id=id)


async def create(db: Connection, values: dict[str, Any]) -> Row:
    """Add a product; ``values`` are columns."""
    return await require(db, INSERT, "product", **values)


async def update(
    db: Connection, id: int, values: dict[str, Any], versions: Collection[int] | None = None
) -> Row:
    """Set the named columns of a product, if it is in one of ``versions``.

    Raises NotFound, PreconditionFailed.
    """
    return await update_row(db, Product, "product", id, values, versions)


async def orderable(db: Connection, id: int, billing_cycle: str) -> Row:
    """The product, if it is active and has a price for the cycle. Raises NotFound, Conflict."""
    product = await require(db, GET, "product", id=id)
    if product.status != "active":
        raise Conflict("The product is inactive, so no service can be made of it.")
    if getattr(product, billing_cycle) is None:
        raise Conflict(f"The product has no {billing_cycle} price; choose another billing_cycle.")
    return product
