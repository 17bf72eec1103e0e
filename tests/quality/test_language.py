"""The rules of language: plain sentences in pages and contract, and names that the field uses."""

import ast
import re
import subprocess
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from openapi import loading

ROOT = Path(__file__).parents[2]
PACKAGES = ("handlers", "openapi", "panel", "persistence", "server", "webhooks")

MAX_WORDS = 25
"""The words that a sentence has at most."""

BANNED_PHRASES = (
    *("whoever", "that which", "of it is", "is told of", "by that", "there is no .* who", "in turn"),
    *(
        "as it were",
        "farewell",
        "landed",
        "flying",
        "heard of",
        "is given out",
        "utilize",
        "leverage",
        "please",
    ),
)

# Names that this project had, and the field has not.
BANNED_NAMES = frozenset(
    [
        "Call",
        "Keyed",
        "Known",
        "Subject",
        "Subjects",
        "Found",
        "BadJson",
        "Same",
        "Keeper",
        "Front",
        "Answer",
        "Count",
        "Beginning",
        "Prepared",
        "Tallied",
        "Way",
        "Silent",
        "Replies",
        "Watched",
        "Values",
        "Verb",
        "InTurn",
        "Desk",
        "Signed",
        "Visit",
        "carried",
        "exhausted",
        "admit",
        "heard",
        "tidied",
        "exists",
        "owned",
        "expect",
        "existing",
        "changing",
        "removing",
        "inserting",
        "together",
        "versioned",
        "modernise",
        "farewell",
        "put_off",
        "catch_up",
        "pass_on",
        "flying",
        "landed",
        "ownership",
        "whole",
        "works",
        "fails",
        "everyone",
        "everybody",
        "filled",
        "possible",
        "life",
    ]
)


def tracked(*patterns: str) -> list[Path]:
    listed = subprocess.run(
        ["git", "ls-files", *patterns], cwd=ROOT, capture_output=True, text=True, check=True
    )
    found = [ROOT / each for each in listed.stdout.split()]
    assert found
    return found


def sentences(markdown: str) -> Iterator[str]:
    """The sentences of a page, without code, tables, links' targets and machine-written parts."""
    text = re.sub(r"```.*?```|<!--.*?-->|^\|.*$|^#.*$", "\n\n", markdown, flags=re.DOTALL | re.MULTILINE)
    text = re.sub(r"!?\[([^]]*)\]\([^)]*\)", r"\1", text)
    text = re.sub(r"`[^`]*`", "code", text)
    for paragraph in re.split(r"\n\s*\n|\n\s*(?:[-*]|[0-9]+\.)\s", text):
        yield from re.split(r"(?<=[.!?])\s+", " ".join(paragraph.split()))


def descriptions(node: Any) -> Iterator[str]:
    """Every text for people in a document."""
    if isinstance(node, dict):
        for name, value in node.items():
            if name in ("description", "summary") and isinstance(value, str):
                yield value
            else:
                yield from descriptions(value)
    elif isinstance(node, list):
        for each in node:
            yield from descriptions(each)


def too_long(texts: Iterator[str]) -> list[str]:
    return [each for each in texts if len(each.split()) > MAX_WORDS]


def banned(text: str) -> list[str]:
    return [each for each in BANNED_PHRASES if re.search(rf"\b{each}\b", text, re.IGNORECASE)]


PAGES = [
    each
    for each in tracked("*.md")
    if not each.name.endswith("-results.md") and each.name not in ("RESULTS.md", "TODO.md")
]


class TestProse:
    @pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
    def test_a_page_has_short_sentences_and_no_banned_phrase(self, page: Path) -> None:
        text = page.read_text()
        assert too_long(sentences(text)) == []
        assert banned(" ".join(sentences(text))) == []

    def test_the_contract_has_short_sentences_and_no_banned_phrase(self) -> None:
        texts = list(descriptions(loading.bundle()))
        assert len(texts) > 500
        assert [each for text in texts for each in too_long(sentences(text))] == []
        assert [(text, found) for text in texts if (found := banned(text))] == []


def classes_and_functions() -> Iterator[tuple[str, str, bool]]:
    """Each name that production code defines, where, and whether it is a class."""
    for path in tracked(*(f"{each}/**/*.py" for each in PACKAGES), *(f"{each}/*.py" for each in PACKAGES)):
        if "migrations/versions" in str(path):
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                yield node.name, str(path.relative_to(ROOT)), isinstance(node, ast.ClassDef)


class TestNames:
    def test_no_name_is_one_that_only_this_project_knows(self) -> None:
        found = [(name, place) for name, place, _ in classes_and_functions() if name in BANNED_NAMES]
        assert found == []

    def test_no_class_name_occurs_twice(self) -> None:
        places = defaultdict(set)
        for name, place, is_class in classes_and_functions():
            if is_class:
                places[name].add(place)
        assert {name: found for name, found in places.items() if len(found) > 1} == {}


class TestTheJudge:
    def test_a_long_sentence_and_a_banned_phrase_are_found(self) -> None:
        long, short = "word " * 25 + "word.", "word " * 24 + "word."
        assert too_long(sentences(f"{long}\n\n{short}")) == [long]
        assert banned("Whoever reads this.") == ["whoever"]

    def test_code_and_tables_are_no_sentences(self) -> None:
        page = "```sh\n" + "word " * 30 + "\n```\n| " + "word " * 30 + "|\n`" + "word " * 30 + "` is code."
        assert too_long(sentences(page)) == []
