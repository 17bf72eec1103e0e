"""Full-text search behind one type: FTS5 on SQLite, tsvector on PostgreSQL, the same words on both.

Words are cut and folded here, so that both databases index and look for the same ones: letters and
digits, without case and accents. A text to look for becomes "all of these words, or words that begin
with them", whatever was typed. A word of one letter does not stand for all words that begin with it.
"""

import re
import unicodedata
from typing import Any

from sqlalchemy import BigInteger, Dialect, Select, Text, bindparam, column, delete, insert, select, table
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.elements import ColumnElement
from sqlalchemy.types import Float, NullType, TypeDecorator

from persistence.database import Connection

MAX_WORDS = 8
"""How many words of a search count. FTS5 takes as long as the square of their number to rank long texts."""

MIN_PREFIX = 2
"""How many letters a word needs to match longer words. One letter would begin a large part of all words."""

# PostgreSQL keeps no more than a mebibyte of one row's words, and some characters are folded to eighteen.
MAX_FOLDED = 100_000


MARK = "\0"
"""Stands for an accent until it is taken away; no text of the contract has it."""

# By its code, each character up to the last accent of all scripts; a table is asked in a tenth of the time
# that an expression takes.
_WITHOUT_MARKS = "".join(
    MARK if unicodedata.combining(each) else each for each in map(chr, range(0x1E94A + 1))
)


def _without_marks(text: str) -> str:
    return text if text.isascii() else text.translate(_WITHOUT_MARKS).replace(MARK, "")


def words(text: str) -> list[str]:
    """The words of a text, folded, as far as they are indexed."""
    # A run of marks goes first: to normalize it takes as long as the square of its length.
    plain = unicodedata.normalize("NFKD", _without_marks(text))[: 2 * MAX_FOLDED]
    return re.findall(r"[^\W_]+", _without_marks(plain).casefold()[:MAX_FOLDED])


def is_prefix(word: str) -> bool:
    """Return whether a word of a search also matches the longer words that begin with it.

    The minimum holds for digits and for letters that have a case, such as Latin ones. Other scripts, such
    as Chinese, write whole words with one letter, or many words without a blank.
    """
    return len(word) >= MIN_PREFIX or unicodedata.category(word[0]) == "Lo"


class Wanted(TypeDecorator[list[str]]):
    """Words to look for, in the query language of the database."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: list[str] | None, dialect: Dialect) -> str:
        if dialect.name == "sqlite":
            return " AND ".join(f'"{word}" *' if is_prefix(word) else f'"{word}"' for word in value or [])
        return " & ".join(f"'{word}':*" if is_prefix(word) else f"'{word}'" for word in value or [])


class _Matches(ColumnElement[Any]):
    """Whether the index has the words."""

    inherit_cache = False
    # Not Boolean, of which SQLite's compiler would write "= 1".
    type = NullType()

    def __init__(self, index: str) -> None:
        self.index = index
        self.wanted = bindparam("words", type_=Wanted)


class _Rank(_Matches):
    """How far from the best match it is: less is better, and the first field weighs most."""

    type = Float()  # type: ignore[assignment]  # a number, not a condition


@compiles(_Matches, "sqlite")
def _sqlite_matches(element: _Matches, compiler: Any, **options: Any) -> str:
    return f"{element.index} MATCH {compiler.process(element.wanted, **options)}"


@compiles(_Matches, "postgresql")
def _postgresql_matches(element: _Matches, compiler: Any, **options: Any) -> str:
    wanted = compiler.process(element.wanted, **options)
    return f"{element.index}.vector @@ to_tsquery('simple', {wanted})"


@compiles(_Rank, "sqlite")
def _sqlite_rank(element: _Rank, compiler: Any, **options: Any) -> str:
    return f"bm25({element.index}, 10.0, 1.0)"


@compiles(_Rank, "postgresql")
def _postgresql_rank(element: _Rank, compiler: Any, **options: Any) -> str:
    # For "all of the words" ts_rank compares each place of a word with each of every other one, which takes
    # seconds for a long text. For "any of the words" it looks at each place once.
    wanted = f"replace({compiler.process(element.wanted, **options)}, '&', '|')"
    return f"-ts_rank('{{0.1, 0.1, 0.1, 1.0}}', {element.index}.vector, to_tsquery('simple', {wanted}), 1)"


class Index:
    """The words of a table's rows, kept beside it under the same ids."""

    def __init__(self, name: str, *fields: str) -> None:
        self.fields = fields
        self.table = table(name, column("rowid", BigInteger), *[column(each, Text) for each in fields])
        self.matches = _Matches(name)
        self.rank = _Rank(name)
        self.insert = insert(self.table).values(dict.fromkeys(["rowid", *fields]))
        self.delete = delete(self.table).where(self.table.c.rowid == bindparam("id", type_=BigInteger))

    @property
    def ids(self) -> Select[Any]:
        """The ids of the rows that have the words of the parameter ``words``."""
        return select(self.table.c.rowid).where(self.matches)

    def row(self, id: int, *texts: str) -> dict[str, Any]:
        """What is kept of a row's texts, one for each field."""
        folded = {
            name: " ".join(words(text))[:MAX_FOLDED] for name, text in zip(self.fields, texts, strict=True)
        }
        return {"rowid": id, **folded}

    async def put(self, db: Connection, id: int, *texts: str) -> None:
        """Keep the words of a row, instead of those that it had."""
        await db.run(self.delete, id=id)
        await db.run(self.insert, **self.row(id, *texts))


def wanted(text: str) -> list[str]:
    """The words of a text to look for, as the parameter ``words``; too many are cut off.

    A word that another one begins with is left out, since whatever has the longer word has both.
    """
    found = list(dict.fromkeys(words(text)))
    covered = {
        word
        for word in found
        for other in found
        if word != other and is_prefix(word) and other.startswith(word)
    }
    return [word for word in found if word not in covered][:MAX_WORDS]


ARTICLES = Index("article_words", "title", "content")
CLIENTS = Index("client_words", "words")
