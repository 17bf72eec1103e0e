"""The pages: their links lead somewhere, and the tests that they name exist."""

import re
from pathlib import Path

import pytest

from tests.quality.test_glossary import look_up

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "benchmarks").glob("*.md")],
    key=str,
)
each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))


def prose(page: Path) -> str:
    """Return a page without its blocks of code."""
    return re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)


def anchors(page: Path) -> set[str]:
    """Return the fragments that the headings of a page have."""
    headings = re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", each.lower()).replace(" ", "-") for each in headings}


def broken(page: Path) -> list[str]:
    """Return the relative links of a page that lead nowhere."""
    found = []
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if re.match(r"[a-z]+:", target):
            continue
        name, _, anchor = target.partition("#")
        place = (page.parent / name).resolve() if name else page
        if not place.exists() or (anchor and anchor not in anchors(place)):
            found.append(target)
    return found


@each_page
def test_its_links_lead_somewhere(page: Path) -> None:
    assert broken(page) == []


@each_page
def test_the_files_that_it_names_exist(page: Path) -> None:
    folders = "benchmarks|docs|handlers|openapi|panel|persistence|server|tests|webhooks"
    named = set(re.findall(rf"`((?:{folders})/[\w./-]*)`", prose(page)))
    assert sorted(each for each in named if not (ROOT / each).exists()) == []


def test_a_link_that_leads_nowhere_is_noticed(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "# One heading\n\n[a](#one-heading) [b](#other) [c](page.md) [d](none.md) [e](https://x)\n"
    )
    assert broken(page) == ["#other", "none.md"]


PROMISES = [
    row
    for row in re.findall(r"^\| (.+?) \| (.+) \|$", (ROOT / "SECURITY.md").read_text(), re.MULTILINE)
    if row != ("promise", "test")
]


def test_every_promise_names_a_test_that_exists() -> None:
    assert len(PROMISES) >= 60
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for promise, tests in PROMISES:
        named = re.findall(r"`(tests/[\w/.]+)`", tests)
        run = re.findall(r"`make ([\w-]+)`", tests)
        assert named or run or tests.startswith("the same matrix"), promise
        assert [each for each in named if not (ROOT / each).exists()] == [], promise
        assert set(run) <= targets, promise


def test_the_entries_that_contributors_add_have_a_place() -> None:
    """Each `NAME` in `tests/….py` of CONTRIBUTING.md is a constant of that file."""
    text = (ROOT / "CONTRIBUTING.md").read_text()
    named = re.findall(r"`([A-Z][A-Z_]+)` (?:in|of)\s+`(tests/[\w/]+\.py)`", text)
    named += [
        (name, file) for file, name in re.findall(r"^\| `(tests/[\w/]+\.py)` \| `([A-Z_]+)`", text, re.M)
    ]
    assert len(named) >= 15
    for name, file in named:
        assert re.search(rf"^{name}\b.*=", (ROOT / file).read_text(), re.MULTILINE), (name, file)
    for place in re.findall(r"`((?:server|panel|persistence|webhooks|handlers)(?:\.\w+)+)`", text):
        assert look_up(place) is not None
