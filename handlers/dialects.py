"""The two ways of saying the same: CloudBill's for a client, ArcBilling's for an operator. Pure."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import Any
from urllib.parse import urlencode

from persistence.listing import Page

Body = dict[str, Any]
Answer = tuple[Body, int] | tuple[Body, int, dict[str, str]]
View = Callable[..., Body]

BASE_PATH = "/api/v1"

COMPLETE = 1_000
"""How many rows a client's list without pages has at most, the newest; the contract's maxItems."""

EXCERPT = 5_000
"""How many characters a list or an event shows of a long text; the contract's maxLength."""


@dataclass(frozen=True)
class Views:
    """How a noun looks: as an item and as a row of a list, to each kind of caller.

    A view takes what persistence answers and the dialect, for its instants. Without a row's view
    the item's serves both.
    """

    client: View
    admin: View
    client_row: View | None = None
    admin_row: View | None = None


class Dialect:
    """What both dialects have in common. The methods answer a body, a status and headers."""

    name: str

    @classmethod
    def instant(cls, value: datetime) -> str:
        raise NotImplementedError

    @classmethod
    def item(cls, views: Views, *found: Any) -> Answer:
        """200 with one object, and its ``ETag`` where it has a version."""
        raise NotImplementedError

    @classmethod
    def created(cls, views: Views, *found: Any) -> Answer:
        """201 with one object, and its ``ETag`` where it has a version."""
        return cls.item(views, *found)[0], 201, _tag(found)

    @classmethod
    def whole(cls, limit: int) -> int:
        """How many rows a list has that only an operator gets in pages."""
        raise NotImplementedError

    @classmethod
    def complete(cls, views: Views, page: Page, path: str, **filters: Any) -> Answer:
        """200 with a list that only an operator gets in pages."""
        raise NotImplementedError

    @classmethod
    def page(cls, views: Views, page: Page, path: str, **filters: Any) -> Answer:
        """200 with a page of a list, and a Link to the next page if there is one."""
        raise NotImplementedError

    @classmethod
    def error(cls, status: int, code: str, message: str, details: Sequence[Body] = ()) -> Body:
        """The body of an error."""
        raise NotImplementedError


class ClientDialect(Dialect):
    """CloudBill Pro: bare objects, ``data`` and ``count``, ``2024-01-01 10:00:00``."""

    name = "client"

    @classmethod
    def instant(cls, value: datetime) -> str:
        return value.isoformat(" ")[:19]

    @classmethod
    def item(cls, views: Views, *found: Any) -> Answer:
        return views.client(*found), 200, _tag(found)

    @classmethod
    def whole(cls, limit: int) -> int:
        return COMPLETE

    @classmethod
    def complete(cls, views: Views, page: Page, path: str, **filters: Any) -> Answer:
        view = views.client_row or views.client
        body = {"data": [view(row) for row in page.rows], "count": len(page.rows)}
        return body, 200, _link(page, path, {})

    @classmethod
    def page(cls, views: Views, page: Page, path: str, **filters: Any) -> Answer:
        body, status = cls.complete(views, page, path)[:2]
        return body | _place(page), status, _link(page, path, {**filters, "limit": page.limit})

    @classmethod
    def error(cls, status: int, code: str, message: str, details: Sequence[Body] = ()) -> Body:
        body: Body = {"error": message, "code": status}
        return body | {"details": list(details)} if details else body


class AdminDialect(Dialect):
    """ArcBilling: ``status`` and ``data`` around everything, ``2024-01-01T10:00:00Z``."""

    name = "admin"

    @classmethod
    def instant(cls, value: datetime) -> str:
        return f"{value.isoformat()[:19]}Z"

    @classmethod
    def item(cls, views: Views, *found: Any) -> Answer:
        return {"status": "success", "data": views.admin(*found)}, 200, _tag(found)

    @classmethod
    def whole(cls, limit: int) -> int:
        return limit

    @classmethod
    def complete(cls, views: Views, page: Page, path: str, **filters: Any) -> Answer:
        return cls.page(views, page, path, **filters)

    @classmethod
    def page(cls, views: Views, page: Page, path: str, **filters: Any) -> Answer:
        view = views.admin_row or views.admin
        body = {"status": "success", "data": [view(row) for row in page.rows], "meta": _place(page)}
        return body, 200, _link(page, path, {**filters, "limit": page.limit})

    @classmethod
    def error(cls, status: int, code: str, message: str, details: Sequence[Body] = ()) -> Body:
        error: Body = {"code": code, "message": message}
        return {"status": "error", "error": error | {"details": list(details)} if details else error}


def life(row: Any, dialect: type["Dialect"]) -> Body:
    """When a credential was made, until when it lives, and when it was used last."""
    return {
        "created_at": dialect.instant(row.created_at),
        "expires_at": dialect.instant(row.expires_at) if row.expires_at else None,
        "last_used_at": dialect.instant(row.last_used_at) if row.last_used_at else None,
    }


def deleted(id: int) -> Body:
    """That a resource is deleted."""
    return {"id": id, "deleted": True}


CENT = Decimal("0.01")


def amount(value: str | int | float | Decimal) -> Decimal:
    """The exact amount that the contract admitted, with two decimals and without a sign."""
    return abs(Decimal(str(value)).quantize(CENT))


def instant(text: str | None) -> datetime | None:
    """The instant that an operator wrote, if any."""
    return datetime.fromisoformat(text) if text else None


def excerpt(text: str) -> str:
    """The beginning of a long text, with an ellipsis where it is cut."""
    return text if len(text) <= EXCERPT else f"{text[: EXCERPT - 1]}…"


def day(value: date) -> str:
    """A day, which both documents write alike."""
    return value.isoformat()


# No place of it can be read in two ways, so no text takes long to be refused.
_TAG = r'(?:(?:W/)?"[!#-~\x80-\xff]*"[ \t]*)?'
TAGS = re.compile(rf"[ \t]*{_TAG}(?:,[ \t]*{_TAG})*")
VERSION = re.compile(r"[1-9][0-9]{0,17}")


def versions(if_match: str | None) -> frozenset[int] | None:
    """The versions that an ``If-Match`` names, None where any will do. Weak tags and rubbish name none."""
    if if_match is None or if_match == "*":
        return None
    if not TAGS.fullmatch(if_match):
        return frozenset()
    tags = re.findall(r'(W/)?"([^"]*)"', if_match)
    return frozenset(int(tag) for weak, tag in tags if not weak and VERSION.fullmatch(tag))


def _tag(found: Sequence[Any]) -> dict[str, str]:
    version = getattr(found[0], "version", None) if found else None
    return {} if version is None else {"ETag": f'"{version}"'}


def _place(page: Page) -> Body:
    return {
        "page": page.page,
        "limit": page.limit,
        "total": page.total,
        "pages": -(-page.total // page.limit),
    }


def _link(page: Page, path: str, filters: dict[str, Any]) -> dict[str, str]:
    if not page.more:
        return {}
    given = {name: value for name, value in filters.items() if value is not None}
    query = urlencode({**given, "after": page.cursor or page.rows[-1].id})
    return {"Link": f'<{BASE_PATH}{path}?{query}>; rel="next"'}
