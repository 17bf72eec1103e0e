"""Format the members of objects for display."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from panel.page_registry import LINKS

WHEN = re.compile(r"(\d{4}-\d\d-\d\d)(?:T(\d\d:\d\d:\d\d)Z)?")

GOOD = {"active", "paid", "delivered", "answered"}
BAD = {"overdue", "suspended", "failed", "expired", "high"}


@dataclass(frozen=True)
class Cell:
    """A formatted value: its text, its link and its style."""

    text: str
    href: str = ""
    look: str = ""
    used: int = 0
    capacity: int = 0


def cell(name: str, value: Any, row: Mapping[str, Any]) -> Cell:
    """A scalar member as it is shown; "load" is no member but what a server has of its capacity."""
    if name == "load":
        return Cell(f"{row['used']} of {row['capacity']}", "", "meter", row["used"], row["capacity"])
    if value is None or value == "":
        return Cell("—")
    if isinstance(value, bool):
        return Cell("yes" if value else "no")
    if name in LINKS:
        return Cell(f"{value}", "/admin" + LINKS[name].format(value))
    if name == "resource" and re.fullmatch(r"/[a-z]+/\d+", value):
        return Cell(value, "/admin" + value)
    if name in ("status", "priority"):
        look = "good" if value in GOOD else "bad" if value in BAD else "neutral"
        return Cell(str(value).replace("_", " "), "", look)
    if name == "attempts":
        return Cell(_attempts(value))
    if isinstance(value, Mapping):
        return Cell(", ".join(f"{key} {each}" for key, each in value.items() if each is not None) or "—")
    if isinstance(value, list):
        return Cell(", ".join(str(each) for each in value) or "—")
    if isinstance(value, str) and (match := WHEN.fullmatch(value)):
        return Cell(f"{match[1]} {match[2]} UTC" if match[2] else value, "", "when")
    return Cell(str(value))


def _attempts(rows: list[Mapping[str, Any]]) -> str:
    if not rows:
        return "none yet"
    # The newest stands first.
    last = rows[0]
    return f"{len(rows)}, the last: {last['error'] or last['status']} ({last['ms']} ms)"


def title(one: str, item: Mapping[str, Any]) -> str:
    """Return the title of an object's page."""
    names = ("ticket_number", "invoice_number", "title", "name", "domain", "url", "event")
    person = f"{item.get('first_name', '')} {item.get('last_name', '')}".strip()
    said = person or next((str(item[name]) for name in names if item.get(name)), "")
    number = f" {item['id']}" if "id" in item else ""
    return f"{one[0].upper()}{one[1:]}{number}" + (f": {said}" if said else "")
