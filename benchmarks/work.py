"""The work that is measured: four requests, and when two answers to one of them are the same."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

Kind = Literal["admin", "client"]

BASE = "/api/v1"

TICKET = {
    "subject": "The website shows a blank page",
    "message": "It started this morning. Could you have a look?",
    "department_id": 2,
    "priority_id": 2,
}
INVOICE = {
    "client_id": 56,
    "due_date": "2035-01-31",
    "items": [{"description": f"Service {n}, one month", "amount": round(n + 0.99, 2)} for n in range(1, 21)],
}


@dataclass(frozen=True)
class Request:
    """One request of the work: as whom it is made, and what must come back."""

    name: str
    kind: Kind
    method: str
    path: str
    body: dict[str, Any] | None = None
    status: int = 200

    def encoded(self, secret: str) -> bytes:
        """The bytes of the request, with a credential."""
        body = b"" if self.body is None else json.dumps(self.body).encode()
        lines = [
            f"{self.method} {BASE}{self.path} HTTP/1.1",
            "Host: 127.0.0.1",
            f"Authorization: Bearer {secret}",
            "Accept: application/json",
        ]
        if self.body is not None:
            lines += ["Content-Type: application/json", f"Content-Length: {len(body)}"]
        return "\r\n".join([*lines, "", ""]).encode() + body


LIST = Request("GET list of 20", "admin", "GET", "/services?limit=20")
ONE = Request("GET one", "admin", "GET", "/services/43")
TICKETS = Request("POST ticket", "client", "POST", "/tickets", TICKET, 201)
INVOICES = Request("POST invoice, 20 lines", "admin", "POST", "/invoices", INVOICE, 201)
WORK = (LIST, ONE, TICKETS, INVOICES)

MADE = {"id", "ticket_id", "ticket_number", "invoice_number", "created_at"}
"""The members of an answer to a POST that are new each time."""


def comparable(request: Request, text: bytes) -> Any:
    """The JSON of an answer without what is new each time."""
    content = json.loads(text)
    return _without(content, MADE) if request.method == "POST" else content


def _without(node: Any, names: set[str]) -> Any:
    if isinstance(node, dict):
        return {name: type(each) if name in names else _without(each, names) for name, each in node.items()}
    if isinstance(node, list):
        return [_without(each, names) for each in node]
    return node


class Unequal(Exception):
    """A peer answers something else than CloudArc, so nothing that is measured of it would count."""


def compare(request: Request, name: str, ours: tuple[int, bytes], theirs: tuple[int, bytes]) -> None:
    """Check that two answers, status and body, are the same. Raises Unequal."""
    if ours[0] != request.status:
        raise Unequal(f"{request.name}: CloudArc answers {ours[0]}: {ours[1][:300]!r}")
    if theirs[0] != ours[0]:
        raise Unequal(f"{request.name}: {name} answers {theirs[0]} instead of {ours[0]}: {theirs[1][:300]!r}")
    expected, got = comparable(request, ours[1]), comparable(request, theirs[1])
    if expected != got:
        where = "/".join(_difference(expected, got))
        raise Unequal(f"{request.name}: {name} answers other JSON, at /{where}")


def _difference(expected: Any, got: Any) -> Sequence[str]:
    """The place of the first difference."""
    if isinstance(expected, dict) and isinstance(got, dict) and expected.keys() == got.keys():
        for name in expected:
            if expected[name] != got[name]:
                return [name, *_difference(expected[name], got[name])]
    if isinstance(expected, list) and isinstance(got, list) and len(expected) == len(got):
        for nth, (one, other) in enumerate(zip(expected, got, strict=True)):
            if one != other:
                return [str(nth), *_difference(one, other)]
    return [f"({str(expected)[:60]} | {str(got)[:60]})"]
