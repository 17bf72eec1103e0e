"""Lookups: the lists that may contain the text in the search box."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

MOST_CHARACTERS = 200
"""As many as the contract's searches take."""


@dataclass(frozen=True)
class Lookup:
    """A list and the filter that a text is given to. A ``sure`` one has no other meaning."""

    operation: str
    query: Mapping[str, str]
    sure: bool = False


@dataclass(frozen=True)
class _Kind:
    pattern: re.Pattern[str]
    filters: Sequence[tuple[str, str]]
    sure: bool = False
    spelling: Callable[[str], str] = str


# The surest first. A domain is looked for in services before domain records, since a service is what its
# client asks about.
_KINDS = (
    _Kind(re.compile(r"TKT-[0-9A-F]{8}", re.IGNORECASE), [("list_tickets", "ticket_number")], True),
    _Kind(re.compile(r"INV-[0-9]{6,16}", re.IGNORECASE), [("list_invoices", "invoice_number")], True),
    _Kind(re.compile(r"[^@\s]+@[^@\s]+"), [("list_clients", "email")], True),
    _Kind(
        re.compile(r"[^@\s/.]+(?:\.[^@\s/.]+)+"),
        [("list_services", "domain"), ("list_domains", "domain")],
        True,
    ),
    _Kind(
        re.compile(r"[0-9]{1,9}"),
        [("list_invoices", "invoice_number")],
        False,
        lambda text: f"INV-{text:0>6}",
    ),
    _Kind(re.compile(r"[\w.-]{1,64}"), [("list_services", "username")]),
    _Kind(re.compile(r"[^\w@]*(?:[0-9][^\w@]*){5,20}"), [("list_clients", "phone")]),
)

_SEARCHES = ("list_clients", "list_tickets", "search_knowledgebase")

_TICKET_ID = re.compile(r"#\s*([1-9][0-9]{0,14})")


def lookups(text: str) -> list[Lookup]:
    """Return where to look for a text, the surest first; words come last."""
    exact = [
        Lookup(operation, {parameter: kind.spelling(text)}, kind.sure)
        for kind in _KINDS
        if kind.pattern.fullmatch(text)
        for operation, parameter in kind.filters
    ]
    return exact + [Lookup(operation, {"q": text}) for operation in _SEARCHES]


def ticket_id(text: str) -> str | None:
    """Return the id of the ticket that a text such as ``#15`` names."""
    found = _TICKET_ID.fullmatch(text)
    return found[1] if found else None
