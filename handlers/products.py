"""Products (ArcBilling, "Products"); adding and changing them stands in neither document."""

from decimal import Decimal
from typing import Any

from handlers.caller import Caller
from handlers.dialects import Body, HandlerResult, Views, amounts, versions
from persistence import products, settings
from persistence.database import Connection, Row
from persistence.products import CYCLES
from persistence.settings import RuntimeSettings

DEFAULTS = {"description": "", "status": "active", "prices": {}}


def _price(value: Decimal | None) -> str | None:
    return None if value is None else str(value)


def _view(row: Row) -> Body:
    return {
        "id": row.id,
        "name": row.name,
        "description": row.description,
        "kind": row.kind,
        "status": row.status,
        "prices": {cycle: _price(getattr(row, cycle)) for cycle in CYCLES},
        "currency": row.currency,
    }


VIEWS = Views.same(_view)


def _columns(body: dict[str, Any]) -> dict[str, Any]:
    """The columns that a body names; prices that are given replace all prices."""
    values = dict(body)
    if "prices" in values:
        prices = values.pop("prices")
        given = amounts(prices.values(), lambda nth: f"/prices/{list(prices)[nth]}")
        values |= dict.fromkeys(CYCLES) | dict(zip(prices, given, strict=True))
    return values


async def list_products(
    user: Caller, db: Connection, page: int = 1, limit: int = 20, after: int | None = None
) -> HandlerResult:
    """A page of products."""
    found = await products.page(db, page=page, limit=limit, after=after)
    return user.dialect.page(VIEWS, found, "/products")


async def get_product(id: int, user: Caller, db: Connection) -> HandlerResult:
    """One product."""
    return user.dialect.item(VIEWS, await products.get(db, id))


async def create_product(
    body: dict[str, Any], user: Caller, db: Connection, defaults: RuntimeSettings
) -> HandlerResult:
    """Add a product, which costs the default currency unless it says another."""
    currency = {"currency": (await settings.get(db, defaults)).default_currency}
    return user.dialect.created(VIEWS, await products.create(db, _columns(DEFAULTS | currency | body)))


async def update_product(
    id: int, body: dict[str, Any], user: Caller, db: Connection, if_match: str | None = None
) -> HandlerResult:
    """Change the members that the body names."""
    changed = await products.update(db, id, _columns(body), versions(if_match))
    return user.dialect.item(VIEWS, changed)
