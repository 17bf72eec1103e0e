"""The glossary of docs/architecture.md names code that exists."""

import re
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

PAGE = (Path(__file__).parents[2] / "docs" / "architecture.md").read_text()
(TABLE,) = re.findall(
    r"^\| term \| meaning \| where in the code \|\n\|---\|---\|---\|\n((?:\|.*\n)+)", PAGE, re.MULTILINE
)
ROWS = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in TABLE.splitlines()]


def look_up(place: str) -> Any:
    """Return what a dotted name leads to. The longest part that is a module is imported."""
    parts = place.split(".")
    for length in range(len(parts), 0, -1):
        module = ".".join(parts[:length])
        try:
            found = find_spec(module)
        except ModuleNotFoundError:
            found = None
        if found is not None:
            result: Any = import_module(module)
            for name in parts[length:]:
                result = getattr(result, name)
            return result
    raise ModuleNotFoundError(place)


def test_it_has_a_term_a_meaning_and_a_place_in_each_row() -> None:
    assert len(ROWS) >= 40
    for row in ROWS:
        assert len(row) == 3 and all(row), row
        assert re.fullmatch(r"`\w+(\.\w+)+`", row[2]), row


def test_its_terms_are_sorted_and_none_stands_twice() -> None:
    terms = [row[0].lower() for row in ROWS]
    assert terms == sorted(set(terms))


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0])
def test_its_name_exists(row: list[str]) -> None:
    assert look_up(row[2].strip("`")) is not None


def test_a_name_that_does_not_exist_is_noticed() -> None:
    for place in ("server.request.edge.Nothing", "server.nothing", "nothing.at_all"):
        with pytest.raises((AttributeError, ModuleNotFoundError)):
            look_up(place)


def test_the_modules_of_the_page_exist() -> None:
    """The paths in code font and in the diagrams."""
    root = Path(__file__).parents[2]
    named = set(
        re.findall(r"\b((?:server|handlers|persistence|webhooks|panel|openapi|tests)/[\w/]+\.\w+)", PAGE)
    )
    assert len(named) >= 20
    assert [each for each in sorted(named) if not (root / each).exists()] == []
