"""The two ways of saying the same: CloudBill's for a client, ArcBilling's for an operator. Pure."""

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any, Self
from urllib.parse import quote_plus

from persistence.errors import Conflict
from persistence.listing import Page

Body = dict[str, Any]
HandlerResult = tuple[Body, int] | tuple[Body, int, dict[str, str]]
View = Callable[..., Body]

BASE_PATH = "/api/v1"

MAX_UNPAGED = 1_000
"""The rows of a client's list without pages, the newest. The contract has the same ``maxItems``."""

EXCERPT = 5_000
"""The characters of a long text in a list or an event. The contract has the same ``maxLength``."""


@dataclass(frozen=True)
class Views:
    """The views of a noun: as an item and as a row of a list, for each kind of caller.

    A view takes what persistence answers and the dialect, for its instants. Without a row's view
    the item's serves both.
    """

    client: View
    admin: View
    client_row: View | None = None
    admin_row: View | None = None

    @classmethod
    def same(cls, view: View, row: View | None = None) -> Self:
        """Return views that do not depend on the caller."""
        return cls(client=view, admin=view, client_row=row, admin_row=row)


class Dialect:
    """The base of both dialects. Its methods return a body, a status and headers."""

    name: str

    @classmethod
    def instant(cls, value: datetime) -> str:
        raise NotImplementedError

    @classmethod
    def item(cls, views: Views, *found: Any) -> HandlerResult:
        """200 with one object, and its ``ETag`` where it has a version."""
        raise NotImplementedError

    @classmethod
    def created(cls, views: Views, *found: Any) -> HandlerResult:
        """201 with one object, and its ``ETag`` where it has a version."""
        return cls.item(views, *found)[0], 201, _tag(found)

    @classmethod
    def list_limit(cls, limit: int) -> int:
        """Return the rows of a list that only an operator gets in pages."""
        raise NotImplementedError

    @classmethod
    def unpaged_list(cls, views: Views, page: Page, path: str, **filters: Any) -> HandlerResult:
        """200 with a list that only an operator gets in pages."""
        raise NotImplementedError

    @classmethod
    def page(cls, views: Views, page: Page, path: str, **filters: Any) -> HandlerResult:
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
    def item(cls, views: Views, *found: Any) -> HandlerResult:
        return views.client(*found), 200, _tag(found)

    @classmethod
    def list_limit(cls, limit: int) -> int:
        return MAX_UNPAGED

    @classmethod
    def unpaged_list(cls, views: Views, page: Page, path: str, **filters: Any) -> HandlerResult:
        view = views.client_row or views.client
        body = {"data": [view(row) for row in page.rows], "count": len(page.rows)}
        return body, 200, _link(page, path, {})

    @classmethod
    def page(cls, views: Views, page: Page, path: str, **filters: Any) -> HandlerResult:
        body, status = cls.unpaged_list(views, page, path)[:2]
        return body | _page_meta(page), status, _link(page, path, {**filters, "limit": page.limit})

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
    def item(cls, views: Views, *found: Any) -> HandlerResult:
        return {"status": "success", "data": views.admin(*found)}, 200, _tag(found)

    @classmethod
    def list_limit(cls, limit: int) -> int:
        return limit

    @classmethod
    def unpaged_list(cls, views: Views, page: Page, path: str, **filters: Any) -> HandlerResult:
        return cls.page(views, page, path, **filters)

    @classmethod
    def page(cls, views: Views, page: Page, path: str, **filters: Any) -> HandlerResult:
        view = views.admin_row or views.admin
        body = {"status": "success", "data": [view(row) for row in page.rows], "meta": _page_meta(page)}
        return body, 200, _link(page, path, {**filters, "limit": page.limit})

    @classmethod
    def error(cls, status: int, code: str, message: str, details: Sequence[Body] = ()) -> Body:
        error: Body = {"code": code, "message": message}
        return {"status": "error", "error": error | {"details": list(details)} if details else error}


def credential_dates(row: Any, dialect: type["Dialect"]) -> Body:
    """When a credential was made, until when it lives, and when it was used last."""
    return {
        "created_at": dialect.instant(row.created_at),
        "expires_at": dialect.instant(row.expires_at) if row.expires_at else None,
        "last_used_at": dialect.instant(row.last_used_at) if row.last_used_at else None,
    }


def _deleted(id: int) -> Body:
    """Return the body that confirms a deletion."""
    return {"id": id, "deleted": True}


DELETED = Views.same(_deleted)


CENT = Decimal("0.01")
DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
INSTANT = re.compile(
    rf"({DAY.pattern})[Tt]((?:[01][0-9]|2[0-3]):[0-5][0-9]):([0-9]{{2}})(?:\.[0-9]+)?"
    r"([Zz]|[+-](?:[01][0-9]|2[0-3]):[0-5][0-9])"
)


MAX_NAMED = 5
"""The members that a refusal names."""


def amounts(values: Iterable[str | int | float | Decimal], path: Callable[[int], str]) -> list[Decimal]:
    """Return amounts that the contract admitted, exact and with two decimals; ``path`` names the nth.

    Raises Conflict where a number has more decimals: no schema can say that in a way that validators with
    binary floats agree on.
    """
    exact = [Decimal(str(value)).copy_abs() for value in values]
    # The contract admits eight digits before the point, so nothing but surplus decimals is ever cut off.
    kept = [value.quantize(CENT) for value in exact]
    if kept != exact:
        wrong = [path(nth) for nth, value in enumerate(exact) if value != kept[nth]]
        more = f" and {len(wrong) - MAX_NAMED} more" if len(wrong) > MAX_NAMED else ""
        raise Conflict(
            f"An amount has at most two decimals; round {', '.join(wrong[:MAX_NAMED])}{more} first."
        )
    return kept


def calendar_day(text: str) -> date:
    """Return the day that a text names. Raises ValueError for the year 0, which RFC 3339 has."""
    if not DAY.fullmatch(text):
        raise ValueError(text)
    return date.fromisoformat(text)


def instant(text: str) -> datetime:
    """Return the instant that a text of RFC 3339 names, in UTC and without its fraction of a second.

    The second 60 of a leap second becomes 59. Raises ValueError where the text is none, or the instant lies
    outside the years 1 to 9999 of UTC.
    """
    parts = INSTANT.fullmatch(text)
    if not parts:
        raise ValueError(text)
    day, minute, second, offset = parts.groups()
    is_leap = second == "60"
    # The year 0 in another offset may be the year 1 in UTC. Python has none, and 2000 is a leap year, too.
    is_year_0 = day.startswith("0000")
    written = f"{day.replace('0000', '2000', 1)}T{minute}:{'59' if is_leap else second}{offset.upper()}"
    try:
        value = datetime.fromisoformat(written).astimezone(UTC)
    except OverflowError:
        raise ValueError(text) from None
    if (is_leap and (value.hour, value.minute) != (23, 59)) or (is_year_0 and value.year != 2001):
        raise ValueError(text)
    return value.replace(year=1) if is_year_0 else value


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


def _page_meta(page: Page) -> Body:
    return {
        "page": page.page,
        "limit": page.limit,
        "total": page.total,
        "pages": -(-page.total // page.limit),
    }


def _link(page: Page, path: str, filters: dict[str, Any]) -> dict[str, str]:
    if not page.has_next:
        return {}
    given = filters | {"after": page.cursor or page.rows[-1].id}
    # Most values are numbers, and to quote one takes as long as to render a row.
    query = "&".join(
        f"{name}={quote_plus(value) if isinstance(value, str) else value}"
        for name, value in given.items()
        if value is not None
    )
    return {"Link": f'<{BASE_PATH}{path}?{query}>; rel="next"'}
