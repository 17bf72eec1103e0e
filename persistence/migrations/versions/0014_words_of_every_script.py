"""Words of every script: the full-text indexes are made anew, and tickets and their replies get one."""

from collections.abc import Iterator, Sequence
from typing import Any

import sqlalchemy as sa
from alembic import op

from persistence import search

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None

# Vowels that are marks belong to words, too; accents are taken away before.
TOKENIZER = "unicode61 remove_diacritics 0 categories ''L* N* M* Co''"

# Of each index, in the words of PostgreSQL, what it is searched by.
VECTORS = {
    "article_words": "setweight(to_tsvector('simple', title), 'A')"
    " || setweight(to_tsvector('simple', strong), 'B')"
    " || setweight(to_tsvector('simple', content), 'C')",
    "client_words": "to_tsvector('simple', words)",
    "ticket_words": "to_tsvector('simple', words)",
    "reply_words": "to_tsvector('simple', words)",
}
OLD_VECTORS = {
    "article_words": "setweight(to_tsvector('simple', title), 'A')"
    " || setweight(to_tsvector('simple', content), 'B')",
    "client_words": VECTORS["client_words"],
}

# Of each index, its table and the columns of each of its fields, and which rows it has.
SOURCES: list[tuple[search.Index, str, list[list[str]], str]] = [
    (search.ARTICLES, "articles", [["title"], ["content"]], ""),
    (search.CLIENTS, "clients", [["first_name", "last_name", "company", "email"]], "deleted_at IS NULL"),
    (search.TICKETS, "tickets", [["subject", "message"]], ""),
    (search.REPLIES, "ticket_replies", [["message"]], ""),
]

AT_ONCE = 500
"""Rows that are read and written together. A message may be long, so it is no more."""


def upgrade() -> None:
    for name in OLD_VECTORS:
        op.execute(f"DROP TABLE {name}")
    for index, table, fields, which in SOURCES:
        _create(index.name, index.fields, VECTORS[index.name], f", tokenize = '{TOKENIZER}'")
        for rows in _rows(table, fields, which):
            op.get_bind().execute(index.insert, [index.row(id, *texts) for id, *texts in rows])
        _create_index(index.name)


def downgrade() -> None:
    for name in VECTORS:
        op.execute(f"DROP TABLE {name}")
    for name, fields, source in (
        ("article_words", ("title", "content"), SOURCES[0]),
        ("client_words", ("words",), SOURCES[1]),
    ):
        _create(name, fields, OLD_VECTORS[name], "")
        target = sa.table(name, sa.column("rowid", sa.BigInteger), *map(sa.column, fields))
        for rows in _rows(*source[1:]):
            kept = [
                {
                    "rowid": id,
                    **{each: " ".join(search.terms(text)) for each, text in zip(fields, texts, strict=True)},
                }
                for id, *texts in rows
            ]
            op.get_bind().execute(sa.insert(target), kept)
        _create_index(name)


def _create(name: str, fields: Sequence[str], vector: str, tokenizer: str) -> None:
    if op.get_bind().dialect.name == "sqlite":
        op.execute(f"CREATE VIRTUAL TABLE {name} USING fts5({', '.join(fields)}{tokenizer})")
        return
    columns = ", ".join(f"{each} TEXT NOT NULL" for each in fields)
    op.execute(
        f"CREATE TABLE {name} (rowid BIGINT PRIMARY KEY, {columns},"
        f" vector TSVECTOR GENERATED ALWAYS AS ({vector}) STORED)"
    )


def _create_index(name: str) -> None:
    # Once for all rows, which takes a tenth of the time that it takes for each.
    if op.get_bind().dialect.name == "postgresql":
        op.execute(f"CREATE INDEX ix_{name}_vector ON {name} USING gin (vector)")


def _rows(table: str, fields: list[list[str]], which: str) -> Iterator[Sequence[Any]]:
    """Yield rows of a table, many at a time: the id and a text for each field."""
    names = [name for each in fields for name in each]
    source = sa.table(table, sa.column("id", sa.BigInteger), *[sa.column(each, sa.Text) for each in names])
    texts = [_joined([source.c[name] for name in each]) for each in fields]
    query = sa.select(source.c.id, *texts).order_by(source.c.id).limit(AT_ONCE)
    if which:
        query = query.where(sa.text(which))
    last = 0
    while rows := op.get_bind().execute(query.where(source.c.id > last)).fetchall():
        yield rows
        last = rows[-1].id


def _joined(columns: Sequence[sa.ColumnElement[Any]]) -> sa.ColumnElement[Any]:
    joined, *others = columns
    for each in others:
        joined = joined + " " + each
    return joined
