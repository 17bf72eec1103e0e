"""Full-text search behind one type: FTS5 on SQLite, tsvector on PostgreSQL, the same words on both.

Words are cut and folded here, so that both databases index and look for the same ones: letters and digits,
without case, accents and apostrophes, Latin letters as their ASCII spelling. Scripts that are written
without blanks, such as Chinese or Thai, are indexed by overlapping pairs of characters. A search finds the
rows that have all of its words, or words that begin with them.

Rows are ranked by what they hold and by nothing else. The frequency of a word in all rows would move the
others whenever one is written, and a page could not go on from where the last one ended.
"""

import asyncio
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from math import log
from operator import add
from typing import Any

from anyascii import anyascii
from sqlalchemy import (
    BigInteger,
    Dialect,
    Select,
    Text,
    bindparam,
    column,
    delete,
    insert,
    select,
    table,
)
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.elements import ColumnElement
from sqlalchemy.types import NullType, TypeDecorator

from persistence.database import Connection

MAX_WORDS = 8
"""The words of a search that count. Text without a blank is one word."""

MAX_PAIRS = 24
"""The pairs of characters of a search that count, in scripts without blanks."""

MIN_PREFIX = 2
"""The letters that a word needs to match longer words. One letter would match a large part of all words."""

# PostgreSQL keeps no more than a mebibyte of one row's words, and some characters are folded to eighteen.
MAX_FOLDED = 100_000

PART = 4096
"""The characters that are normalized at a time, so that little more is normalized than is kept."""

LONG = 4000
"""Texts of more characters are folded in a thread. The dearest character takes 4 µs, most take a tenth."""

MAX_LETTERS = 64
"""The letters of a word that count. Longer texts are seldom words, and an index would store them twice."""

APOSTROPHES = "'`´‘’‛′ʹʻʼʽʾʿˈꞋꞌ՚׳＇"
"""Characters that are typed for an apostrophe, in all keyboards' and writers' manners."""

# Blocks that have Latin letters beyond ASCII.
_LATIN = (
    *((0x80, 0x2AF), (0x1D00, 0x1DBF), (0x1E00, 0x1EFF), (0x2C60, 0x2C7F), (0xA722, 0xA7FF)),
    *((0xAB30, 0xAB6F), (0x10780, 0x107BF)),
)

# Scripts that are written without blanks. Digits are left out: they are words of their own.
_UNSPACED = (
    "\u0e01-\u0e4e\u0e81-\u0ece\u0edc-\u0edf"  # Thai, Lao
    "\u1000-\u103f\u1050-\u108f\u109a-\u109f\uaa60-\uaa7f"  # Myanmar
    "\u1780-\u17dd\u1950-\u1974\u1980-\u19c9\u1a20-\u1a7c\uaa80-\uaadf"  # Khmer, Tai
    "\u1b00-\u1b4b\ua980-\ua9c0"  # Balinese, Javanese
    "\u3005-\u3007\u3021-\u3029\u3031-\u3035\u303b\u303c"  # signs that repeat a Chinese character
    "\u3041-\u309f\u30a1-\u30fa\u30fc-\u30ff\u31f0-\u31ff"  # Hiragana, Katakana
    "\u3105-\u312f\u31a0-\u31bf"  # Bopomofo
    "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U000323af"  # Han
    "\u1100-\u11ff\uac00-\ud7a3"  # Hangul, which has blanks, but none before particles and in compounds
)

# The last accent of all scripts but for the variants of Chinese characters, which follow far behind.
_LAST_ACCENT = 0x1E94A
_VARIANTS = re.compile("[\U000e0100-\U000e01ef]")

# What says nothing though Unicode counts it as another kind: fillers and joiners, the selectors of
# Mongolian and of emoji, the dash that widens Arabic words.
_DROPPED = {*"\u034f\u17b4\u17b5\u180b\u180c\u180d\u180f\u0640", *map(chr, range(0xFE00, 0xFE10))}
# Between the parts of a Persian word it stands for a blank.
_ZERO_WIDTH_NON_JOINER = "\u200c"


def _fold_tables() -> tuple[list[str], list[str], str]:
    """Return what stands for each character by its code, the same with Latin letters as they are, and marks.

    A table is asked faster than an expression. Accents, joiners and marks of direction are empty there. The
    marks are the vowels of Indic and other scripts, which are written around a letter and are no accents.
    """
    plain = [*map(chr, range(_LAST_ACCENT + 1))]
    marks = []
    for code, each in enumerate(plain):
        category = unicodedata.category(each)
        if category[0] != "M" and category != "Cf" and each not in _DROPPED:
            continue
        is_accent = category in ("Me", "Cf") or unicodedata.combining(each) or each in _DROPPED
        # A set of characters that has one of beyond the first plane is asked in a hundred times the time.
        if is_accent or code > 0xFFFF:
            plain[code] = "" if each != _ZERO_WIDTH_NON_JOINER else " "
        else:
            marks.append(each)
    folded = plain[:]
    for first, last in _LATIN:
        for code in range(first, last + 1):
            if unicodedata.name(chr(code), "").startswith("LATIN"):
                spelled = "".join(filter(str.isalnum, anyascii(chr(code)).lower()))
                folded[code] = spelled or folded[code]
    for each in APOSTROPHES:
        folded[ord(each)] = "'"
    return folded, plain, "".join(marks)


_FOLDED, _WITHOUT_ACCENTS, _MARKS = _fold_tables()

# No text can be read by them in two ways, so they take as long as the text is.
_ASCII_WORD = re.compile(r"[a-z0-9]+(?:'[a-z0-9]*)*")
_WORD = re.compile(rf"[^\W_]+(?:['{_MARKS}][^\W_]*)*")
_PIECE = re.compile(rf"[{_UNSPACED}][{_UNSPACED}{_MARKS}]*|[^{_UNSPACED}]+")
_UNIT = re.compile(rf"[^{_MARKS}][{_MARKS}]*")
_IS_UNSPACED = re.compile(f"[{_UNSPACED}]").match


def _fold(text: str) -> str:
    if text.isascii():
        return text[:MAX_FOLDED].lower().replace("`", "'")
    # A run of accents goes first: to normalize it takes as long as the square of its length.
    plain = _VARIANTS.sub("", text).translate(_WITHOUT_ACCENTS)
    parts: list[str] = []
    length = 0
    for begin in range(0, len(plain), PART):
        part = unicodedata.normalize("NFKD", plain[begin : begin + PART])
        parts.append(part.casefold().translate(_FOLDED))
        length += len(parts[-1])
        if length >= MAX_FOLDED:
            break
    # Hangul is composed again, so that a pair is two syllables.
    return unicodedata.normalize("NFC", "".join(parts)[:MAX_FOLDED])


def _written(text: str) -> Iterator[str]:
    """Yield what a text has between blanks and signs, folded, with its apostrophes."""
    folded = _fold(text)
    if folded.isascii():
        yield from _ASCII_WORD.findall(folded)
        return
    for word in _WORD.findall(folded):
        if word.isascii():
            yield word
        else:
            yield from (each for piece in _PIECE.findall(word) if (each := piece.strip("'")))


def words(text: str) -> list[str]:
    """Return the words of a text, folded; what is written without blanks is one."""
    found = (word.replace("'", "") for word in _written(text))
    return [each if _IS_UNSPACED(each) else each[:MAX_LETTERS] for each in found]


def terms(text: str) -> list[str]:
    """Return what a text is found by: its words, and of what is written without blanks each pair.

    A word with apostrophes is found as a whole and by each of its parts.
    """
    found: list[str] = []
    add_one = found.append
    for word in _written(text):
        if "'" in word:
            found += [each[:MAX_LETTERS] for each in (word.replace("'", ""), *word.split("'")) if each]
        elif not word.isascii() and _IS_UNSPACED(word):
            units = _units(word)
            # The last character begins no pair.
            found += [*_pairs(units), units[-1]]
        else:
            add_one(word[:MAX_LETTERS])
    return found


def _units(word: str) -> Sequence[str]:
    """Return the letters of a word, each with its marks."""
    return word if word.isalnum() else _UNIT.findall(word)


def _pairs(units: Sequence[str]) -> Iterator[str]:
    return map(add, units, units[1:])


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
            return _AND.join(f'"{word}" *' if is_prefix(word) else f'"{word}"' for word in value or [])
        return " & ".join(
            f"'{word}':*{_ANYWHERE}" if is_prefix(word) else f"'{word}':{_ANYWHERE}" for word in value or []
        )


# Folded words have no capital letters, so these stand for nothing else.
_AND = " AND "
_ANYWHERE = "ABCD"


class _Matches(ColumnElement[Any]):
    """The condition that the index has the words."""

    inherit_cache = False
    # Not Boolean, of which SQLite's compiler would write "= 1".
    type = NullType()

    def __init__(self, index: str) -> None:
        self.index = index
        self.wanted = bindparam("words", type_=Wanted)


@compiles(_Matches, "sqlite")
def _sqlite_matches(element: _Matches, compiler: Any, **options: Any) -> str:
    return f"{element.index} MATCH {compiler.process(element.wanted, **options)}"


@compiles(_Matches, "postgresql")
def _postgresql_matches(element: _Matches, compiler: Any, **options: Any) -> str:
    wanted = compiler.process(element.wanted, **options)
    return f"{element.index}.vector @@ to_tsquery('simple', {wanted})"


# Where words are found, the points for it, and whether all words must be there. PostgreSQL knows the fields
# by the weights that the migration gives them.
_POINTS = (
    ("title", "A", 8, True),
    ("strong", "B", 4, True),
    ("title", "A", 2, False),
    ("strong", "B", 1, False),
)

WORST_RANK = sum(points for _, _, points, _ in _POINTS)


class _Rank(_Matches):
    """The rank of a row: 0 is the best match. It depends on the row and the words alone.

    A row whose title has all words comes first, then one that has all of them among its strong words, then
    one whose title or strong words have some of them.
    """

    type = BigInteger()  # type: ignore[assignment]  # a number, not a condition


@compiles(_Rank, "sqlite")
def _sqlite_rank(element: _Rank, compiler: Any, **options: Any) -> str:
    wanted, index = compiler.process(element.wanted, **options), element.index

    def points(field: str, points: int, has_all: bool) -> str:
        query = wanted if has_all else f"replace({wanted}, '{_AND}', ' OR ')"
        matching = f"SELECT rowid FROM {index} WHERE {index} MATCH '{field} : (' || {query} || ')'"  # noqa: S608  an index's own name
        return f"{points} * ({index}.rowid IN ({matching}))"

    summed = " - ".join(points(field, number, has_all) for field, _, number, has_all in _POINTS)
    return f"{WORST_RANK} - {summed}"


@compiles(_Rank, "postgresql")
def _postgresql_rank(element: _Rank, compiler: Any, **options: Any) -> str:
    wanted = compiler.process(element.wanted, **options)

    def points(weight: str, points: int, has_all: bool) -> str:
        query = f"replace({wanted}, '{_ANYWHERE}', '{weight}')"
        query = query if has_all else f"replace({query}, '&', '|')"
        return f"{points} * ({element.index}.vector @@ to_tsquery('simple', {query}))::int"

    summed = " - ".join(points(weight, number, has_all) for _, weight, number, has_all in _POINTS)
    return f"({WORST_RANK} - {summed})::bigint"


class Index:
    """The words of a table's rows, kept beside it under the same ids."""

    def __init__(self, name: str, *fields: str) -> None:
        self.name = name
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
        """Return the row of the index: the distinct words of each field."""
        folded = {name: _kept(terms(text)) for name, text in zip(self.fields, texts, strict=True)}
        return {"rowid": id, **folded}

    async def add(self, db: Connection, id: int, *texts: str) -> None:
        """Keep the words of a row that had none."""
        if sum(map(len, texts)) > LONG:
            row = await asyncio.to_thread(self.row, id, *texts)
        else:
            row = self.row(id, *texts)
        await db.execute(self.insert, **row)

    async def put(self, db: Connection, id: int, *texts: str) -> None:
        """Keep the words of a row, instead of those that it had."""
        await db.execute(self.delete, id=id)
        await self.add(db, id, *texts)


class RankedIndex(Index):
    """The words of rows that have a title and a content, some of which say more about the row."""

    def __init__(self, name: str) -> None:
        super().__init__(name, "title", "strong", "content")

    def row(self, id: int, *texts: str) -> dict[str, Any]:
        """Return the row of the index for a title and a content."""
        title, content = map(terms, texts)
        counts = Counter(content)
        strong = _strong(title, counts)
        return {"rowid": id, "title": _kept(title), "strong": _kept(strong), "content": _kept(counts)}


SHORT_TITLE = 4
"""The words of a title that counts as specific."""


def _strong(title: list[str], content: Counter[str]) -> list[str]:
    """Return the words that a row is about: of a short title all, of its content the frequent ones."""
    often = max(1.0, log(content.total() or 1))
    frequent = [word for word, count in content.items() if count > often]
    return frequent + title if len(title) <= SHORT_TITLE else frequent


def _kept(found: Iterable[str]) -> str:
    return " ".join(dict.fromkeys(found))[:MAX_FOLDED]


def wanted(text: str) -> list[str]:
    """Return what to look for, as the parameter ``words``; too much is cut off.

    A word that another one begins with is left out, since whatever has the longer word has both.
    """
    found: list[str] = []
    left = MAX_PAIRS
    for word in _distinct(words(text))[:MAX_WORDS]:
        looked_for = [*_pairs(_units(word))][: max(left, 1)] if _IS_UNSPACED(word) else []
        left -= len(looked_for)
        found += looked_for or [word]
    return _distinct(found)


def _distinct(found: list[str]) -> list[str]:
    found = list(dict.fromkeys(found))
    covered = {
        word
        for word in found
        for other in found
        if word != other and is_prefix(word) and other.startswith(word)
    }
    return [word for word in found if word not in covered]


ARTICLES = RankedIndex("article_words")
CLIENTS = Index("client_words", "words")
TICKETS = Index("ticket_words", "words")
REPLIES = Index("reply_words", "words")
INDEXES = (ARTICLES, CLIENTS, TICKETS, REPLIES)
