"""The knowledgebase: articles, found by their words."""

from collections.abc import Collection
from typing import Any

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Index,
    Select,
    String,
    Text,
    and_,
    bindparam,
    func,
    or_,
    select,
)
from sqlalchemy.orm import Mapped, mapped_column

from persistence import search
from persistence.database import Connection, Row
from persistence.listing import COUNTS, CountedBy, Listing, Page, cursor, read_cursor
from persistence.statements import delete_row, insert_returning, require, select_by_id, update_row
from persistence.types import Base, BigIntId, version_column


class Article(Base):
    __tablename__ = "articles"
    __table_args__ = (Index("ix_articles_category_id", "category", "id"),)

    id: Mapped[int] = mapped_column(BigIntId, primary_key=True)
    title: Mapped[str] = mapped_column(String(255))
    category: Mapped[int] = mapped_column(BigIntId)
    content: Mapped[str] = mapped_column(Text)
    version: Mapped[int] = version_column()


TABLE = Article.__table__

_CATEGORY = TABLE.c.category == bindparam("category", type_=BigInteger)

SHOWN_CHARACTERS = 5_001
"""The characters of an article that a list reads: those that it shows, and one more."""

# Under its own name, so that a row of a list is read like any other.
_CONTENT = func.substr(TABLE.c.content, 1, SHOWN_CHARACTERS, type_=Text).label("content")
_SHOWN = [_CONTENT if column is TABLE.c.content else column for column in TABLE.c]

LIST = Listing(
    # SQLite reads each content as a whole to cut it, which takes milliseconds for a page of long ones.
    select(*_SHOWN).execution_options(slow=True),
    TABLE.c.id,
    tallied=[CountedBy("articles", category=COUNTS.c.number == bindparam("category", type_=BigInteger))],
    category=_CATEGORY,
)

INSERT = insert_returning(Article, "title", "category", "content")


def _found(filtered: bool) -> Any:
    """The ids of the articles that have the words, each with its rank, worked out once."""
    query = _matching(filtered, search.ARTICLES.table.c.rowid.label("id"), search.ARTICLES.rank.label("rank"))
    return query.cte("found").prefix_with("MATERIALIZED")


def _matching(filtered: bool, *columns: ColumnElement[Any]) -> Select[Any]:
    words = search.ARTICLES.table
    query = select(*columns).select_from(words).where(search.ARTICLES.matches)
    if not filtered:
        return query
    # As a join, SQLite would search once for each article of the category.
    category = select(TABLE.c.category).where(TABLE.c.id == words.c.rowid).scalar_subquery()
    return query.where(category == bindparam("category", type_=BigInteger))


def _page(filtered: bool, after: bool) -> Select[Any]:
    found = _found(filtered)
    total = select(func.count()).select_from(found).scalar_subquery()
    ids = select(found.c.id, found.c.rank, total.label("in_all")).order_by(found.c.rank, found.c.id.desc())
    ids = ids.limit(bindparam("limit", type_=BigInteger))
    if after:
        last = bindparam("after", type_=BigInteger)
        # An id alone stands for the place of its article; one that is not found, for the beginning.
        own = select(found.c.rank).where(found.c.id == last).scalar_subquery()
        rank = func.coalesce(bindparam("after_rank", type_=BigInteger), own, -1, type_=BigInteger)
        ids = ids.where(or_(found.c.rank > rank, and_(found.c.rank == rank, found.c.id < last)))
    else:
        ids = ids.offset(bindparam("offset", type_=BigInteger))
    # Articles are read only for the page, since a content may be long.
    page = ids.subquery("page")
    query = select(*_SHOWN, page.c.in_all, page.c.rank).join_from(page, TABLE, TABLE.c.id == page.c.id)
    return query.order_by(page.c.rank, page.c.id.desc()).execution_options(search=True)


def _count(filtered: bool) -> Select[Any]:
    return _matching(filtered, func.count().label("total")).execution_options(search=True)


PAGES = {(filtered, after): _page(filtered, after) for filtered in (False, True) for after in (False, True)}
TOTALS = {filtered: _count(filtered) for filtered in (False, True)}


async def page(
    db: Connection, *, q: str | None, category: int | None, page: int, limit: int, after: str | None
) -> Page:
    """A page of articles: with ``q`` the best match first, without it the newest.

    ``after`` is the ``cursor`` of the page before.
    """
    rank, last = read_cursor(after) if after is not None else (None, None)
    if not q or not q.strip():
        return await LIST.page(db, page=page, limit=limit, after=last, category=category)
    number = 1 if last is not None else page
    words = search.wanted(q)
    if not words:
        return Page([], number, limit, 0, False)
    filtered = category is not None
    given: dict[str, Any] = {"words": words} | ({"category": category} if filtered else {})
    place = {"offset": (page - 1) * limit} if last is None else {"after": last, "after_rank": rank}
    rows = await db.fetch_all(PAGES[filtered, last is not None], limit=limit + 1, **place, **given)
    total = rows[0].in_all if rows else 0
    # A page without rows does not tell how many others there are.
    if not rows and (last is not None or page > 1):
        counted = await db.fetch_one(TOTALS[filtered], **given)
        total = counted.total if counted else 0
    more = len(rows) > limit
    place_of_last = cursor(rows[limit - 1].rank, rows[limit - 1].id) if more else None
    return Page(rows[:limit], number, limit, total, more, place_of_last)


async def get(db: Connection, id: int) -> Row:
    """The article. Raises NotFound."""
    return await require(db, select_by_id(Article), "article", id=id)


async def create(db: Connection, values: dict[str, Any]) -> Row:
    """Add an article and its words; ``values`` are columns."""
    article = await require(db, INSERT, "article", **values)
    await search.ARTICLES.add(db, article.id, article.title, article.content)
    return article


async def update(
    db: Connection, id: int, values: dict[str, Any], versions: Collection[int] | None = None
) -> Row:
    """Set the named columns of an article, if it is in one of ``versions``, and its words.

    Raises NotFound, PreconditionFailed.
    """
    article = await update_row(db, Article, "article", id, values, versions)
    if not db.unchanged:
        await search.ARTICLES.put(db, id, article.title, article.content)
    return article


async def delete(db: Connection, id: int, versions: Collection[int] | None = None) -> None:
    """Delete an article and its words, if it is in one of ``versions``.

    Raises NotFound, PreconditionFailed.
    """
    await delete_row(db, Article, "article", id, versions)
    await db.execute(search.ARTICLES.delete, id=id)
