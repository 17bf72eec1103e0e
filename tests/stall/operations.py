"""Every operation of the contract, and every page of the panel, over the largest data."""

import itertools
import json
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any
from urllib.parse import urlencode

from openapi import contract
from panel.page_registry import PageRegistry
from panel.sessions import COOKIE
from persistence import demo
from tests.stall.data import DOCUMENT, FIRST, HOOKS, PAGE, SESSION, TEXTS, TOKEN, Sizes, filled, largest
from tests.stall.measuring import Row, Target, request

SECRETS: dict[contract.Audience, str] = {"client": TOKEN, "admin": demo.ADMIN_KEY}

USED_UP = {"suspend_service", "unsuspend_service", "terminate_service", "pay_invoice"}
"""What can be done to a row once; as with deletion, each call has a row of its own."""

SESSION_HEADER = ("Cookie", f"{COOKIE}={SESSION}")


@dataclass(frozen=True)
class Variant:
    """One way to call an operation with the largest values."""

    name: str
    query: dict[str, str]
    unit: str = ""


def variants(operation: contract.Operation, audience: contract.Audience) -> list[Variant]:
    """The ways that are worth a measurement each."""
    names = _queries(operation, audience)
    if "requestBody" in operation.spec:
        bodies = {text: json.dumps(_body(operation, audience, unit, 0)) for text, unit in TEXTS.items()}
        # Where no text is free, all are the same.
        distinct = {body: text for text, body in reversed(bodies.items())}
        return [Variant(text, {}, TEXTS[text]) for text in distinct.values()]
    limit = {"limit": str(PAGE)} if "limit" in names else {}
    found = [Variant("", limit)]
    if "page" in names:
        found.append(Variant("the last page", limit | {"page": "30"}))
    filters = {name: value for name in names if (value := _filter(operation, name))}
    if filters:
        found.append(Variant("filters", limit | filters))
    for name in {"q", "email"} & names:
        searched = {**TEXTS, "prefixes": "w "}
        found += [
            Variant(f"{name} of {text}", limit | {name: filled(unit, 200)}) for text, unit in searched.items()
        ]
    return found


def _queries(operation: contract.Operation, audience: contract.Audience) -> set[str]:
    parameters = [contract.deref(DOCUMENT, each) for each in operation.spec.get("parameters", ())]
    return {
        each["name"]
        for each in parameters
        if each["in"] == "query" and each.get("x-dialect", audience) == audience
    }


FILTERS = {
    "client_id": str(FIRST + PAGE - 1),
    "actor": "api_key",
    "operation": "update_client",
    "audience": "admin",
    "version": "3.1",
    "due_from": "1000-01-01",
    "due_to": "9999-12-31",
}


def _filter(operation: contract.Operation, name: str) -> str:
    """The value of a filter that most of the largest rows have; empty where it is none."""
    states = {"tickets": "customer_reply", "domains": "cancelled", "webhooks": "failed", "services": "active"}
    if name == "status":
        return states.get(operation.path.split("/")[1], "unpaid")
    if name == "type":
        return "ticket.replied"
    return FILTERS.get(name, "")


def _body(operation: contract.Operation, audience: contract.Audience, unit: str, nth: int) -> Any:
    schema = operation.spec["requestBody"]["content"]["application/json"]["schema"]
    return largest(contract.branch(DOCUMENT, schema, audience), unit, nth)


class Requests:
    """Makes the requests for operations. What uses a row up, or must be unique, differs from call to call."""

    def __init__(self, sizes: Sizes) -> None:
        self.counts: Counter[str] = Counter()
        self.unique = itertools.count()
        # The last row of each noun is the largest.
        last = {
            **dict.fromkeys(("tickets", "services", "domains", "departments"), FIRST + sizes.listed - 1),
            "knowledgebase": FIRST + sizes.articles - 1,
            "webhooks": FIRST + HOOKS - 1,
        }
        self.last = {tag: last.get(tag, FIRST + PAGE - 1) for tag in _nouns()}

    def path(self, operation: contract.Operation) -> str:
        """The path of a row that the operation can be done to."""
        noun = operation.path.split("/")[1]
        consumes = operation.method == "delete" or operation.id in USED_UP
        nth = self.counts[operation.id]
        self.counts[operation.id] += 1
        *outer, last = re.findall(r"{(\w+)}", operation.path) or [""]
        row = FIRST + nth if consumes or outer else self.last[noun]
        return operation.path.format_map(dict.fromkeys(outer, self.last[noun]) | {last: row})

    def make(self, operation: contract.Operation, audience: contract.Audience, variant: Variant) -> bytes:
        """The bytes of one call."""
        path = f"/api/v1{self.path(operation)}"
        if variant.query:
            path += f"?{urlencode(variant.query)}"
        body = b""
        if variant.unit:
            value = _body(operation, audience, variant.unit, next(self.unique))
            # Of what is not in ASCII every second text is escaped, which another parser reads.
            body = json.dumps(value, ensure_ascii=ord(variant.unit[0]) > 0xFFFF).encode()
        secret = None if operation.public else SECRETS[audience]
        return request(operation.method.upper(), path, secret, body=body)


def _nouns() -> set[str]:
    return {each.path.split("/")[1] for each in contract.operations(DOCUMENT)}


def audiences(operation: contract.Operation) -> list[contract.Audience]:
    """The kinds of callers that an operation is measured with."""
    return ["client"] if operation.public else sorted(operation.audiences)


def named(operation: contract.Operation, audience: contract.Audience) -> str:
    """The name of a row."""
    return f"{operation.id}, {'nobody' if operation.public else audience}"


def measure(target: Target, sizes: Sizes) -> Iterator[Row]:
    """One row for each operation and kind of caller, the worst of its variants."""
    requests = Requests(sizes)
    operations = {each.id: each for each in contract.operations(DOCUMENT)}
    reply = operations["reply_to_ticket"]
    for operation in operations.values():
        for audience in audiences(operation):
            row = Row(named(operation, audience))
            for variant in variants(operation, audience):

                def act(
                    target: Target,
                    variant: Variant = variant,
                    operation: contract.Operation = operation,
                    audience: contract.Audience = audience,
                ) -> int:
                    return target.send(requests.make(operation, audience, variant))

                def reopen(operation: contract.Operation = operation) -> None:
                    if operation.id == "close_ticket":
                        target.send(requests.make(reply, "client", Variant("", {}, "a")))

                good = _searched if "q" in variant.query else _succeeded
                row.include(target.measure(variant.name, act, good, of=row.name, prepare=reopen))
            yield row


def measure_panel(target: Target, sizes: Sizes) -> Iterator[Row]:
    """One row for each page of the panel."""
    last = Requests(sizes).last
    for page in PageRegistry(DOCUMENT).by_id.values():
        # The second id of a path is that of a token or a delivery.
        ids = [str(id) for id in (last[page.path.split("/")[1]], FIRST + PAGE - 1)]
        sent = request("GET", page.fill(ids), headers=[SESSION_HEADER])
        yield target.measure(f"the panel's page {page.url}", partial(Target.send, request=sent), _succeeded)


def _succeeded(status: int) -> bool:
    return 200 <= status < 300


def _searched(status: int) -> bool:
    """A search may also end at its time limit."""
    return _succeeded(status) or status == 503
