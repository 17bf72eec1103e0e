"""The contract as one document: loaded, bundled, projected to one audience, and listed.

Everything here is a pure function of the files beside this module: no HTTP, no database. A document
is a plain dict in the shape of OpenAPI 3.0.3; ``to_openapi_31`` says the same in 3.1. What the files may
use beyond OpenAPI:

- ``x-dialect`` on a schema, parameter, response, example, link or security scheme: only that
  audience meets it. A ``oneOf`` whose branches all carry it is a choice by the caller, not by the data.
- ``x-scope`` on an operation: the scope that an API key needs for it. Its description says so by itself.
- ``x-description`` beside a description: by audience, the text for that audience alone. The bundle adds all
  of them to the description; a projection keeps its own.
- ``x-revokes-credentials`` on an operation: tokens or keys are dead after it, which all must know.
- ``x-list`` on a header parameter: it may stand in several lines, which are joined by commas (RFC 9110).
- ``x-expects`` on a schema: the end of the sentence "The amount field must be …".
- ``x-text`` on a string: ``any``, ``line``, ``lines`` or ``name``. The bundle says in ``not`` which
  characters such a text must not contain. The server holds input to that, and answers with what older
  versions stored.
- ``x-pattern`` on a string: a ``pattern`` for the server's validators alone. Generated clients hold a
  ``format: date-time`` value to a ``pattern`` after they made a date of it, and fail.
- ``x-also-accepts`` on a schema: another schema whose values the server accepts as well. Generators cannot
  express a number that may be a string.
- ``x-enum-of`` on a string: an enum whose values it takes, or none. The bundle makes the ``pattern`` of it:
  an empty string in an enum has no name in generated code.
- ``x-enum-varnames`` on an enum: what generated code calls the values. The bundle adds it where values are no
  identifiers and a name follows from them.
- ``x-request-body`` on a link: its ``requestBody``. OpenAPI lets that be an object; the parser of the most
  used generator admits nothing but a string, and refuses the whole document.
- ``x-max-bytes`` on a schema: its JSON is never longer in an answer, whatever its other bounds add up to.
- ``x-may-grow`` on an enum or a ``oneOf``: values may be added without breaking the contract.
- ``x-deprecated`` and ``x-sunset`` on an operation with ``deprecated: true``: the dates from which it is so,
  and on which it ends; ``x-deprecated-answer`` in the root: the headers that tell of them on its answers.
- ``x-every-answer`` in the root: the headers that every answer has.
- ``x-webhooks`` in the root: what is sent to others, as OpenAPI 3.1 has it in ``webhooks``.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, time
from email.utils import format_datetime
from pathlib import Path
from typing import Any, Literal

Audience = Literal["client", "admin"]
Version = Literal["3.0", "3.1"]
Document = dict[str, Any]
Node = Any

AUDIENCES: tuple[Audience, ...] = ("client", "admin")
VERSIONS: tuple[Version, ...] = ("3.0", "3.1")
METHODS = ("get", "put", "post", "delete")

OWN_TAG = "contract"
"""The tag of the operations that serve the contract itself. No published projection has them."""

ROOT = Path(__file__).parent


class ContractError(Exception):
    """The files do not make a contract; the message names the file and the fault."""


@dataclass(frozen=True)
class Operation:
    """One operation of a document; ``spec`` is its OpenAPI object."""

    id: str
    method: str
    path: str
    spec: Document
    audiences: frozenset[Audience]

    @property
    def public(self) -> bool:
        return not self.spec["security"]

    @property
    def scope(self) -> str | None:
        return self.spec.get("x-scope")

    @property
    def deprecation_headers(self) -> dict[str, str]:
        """The headers of a deprecated operation: since when it is so (RFC 9745), when it ends (RFC 8594)."""
        if not self.spec.get("deprecated"):
            return {}
        since, end = (_midnight(self.spec[key]) for key in ("x-deprecated", "x-sunset"))
        return {"Deprecation": f"@{since.timestamp():.0f}", "Sunset": format_datetime(end, usegmt=True)}


def _midnight(date: str) -> datetime:
    return datetime.combine(datetime.strptime(date, "%Y-%m-%d"), time(), UTC)


def header_names(document: Document) -> list[str]:
    """The headers that answers may have, in the order of their names."""
    responses = [
        deref(document, each) for op in operations(document) for each in op.spec["responses"].values()
    ]
    return sorted({name for each in responses for name in each.get("headers", ())})


def operations(document: Document) -> Iterator[Operation]:
    """Every operation of a document, in its order."""
    schemes = document["components"]["securitySchemes"]
    for path, item in document["paths"].items():
        for method in METHODS:
            if method not in item:
                continue
            spec = item[method]
            names = [name for requirement in spec["security"] for name in requirement]
            audiences = frozenset(schemes[name]["x-dialect"] for name in names) or frozenset(AUDIENCES)
            yield Operation(spec["operationId"], method, path, spec, audiences)


def webhooks(document: Document) -> Iterator[Operation]:
    """Every event that operators are told of, as an operation of its receiver; the path is its name."""
    events = document.get("webhooks") or document.get("x-webhooks", {})
    for event, item in events.items():
        yield Operation(item["post"]["operationId"], "post", event, item["post"], frozenset({"admin"}))


def deref(document: Document, node: Node) -> Node:
    """The definition that a ``$ref`` points to; anything else as it is."""
    while isinstance(node, dict) and "$ref" in node:
        kind, name = node["$ref"].removeprefix("#/components/").split("/")
        node = document["components"][kind][name]
    return node


def branch(document: Document, schema: Node, audience: Audience) -> Node | None:
    """What ``audience`` sees of a schema: its branch of a choice by dialect, None if it has none."""
    target = deref(document, schema)
    if "oneOf" in target and all("x-dialect" in deref(document, each) for each in target["oneOf"]):
        mine = [each for each in target["oneOf"] if deref(document, each)["x-dialect"] == audience]
        return mine[0] if mine else None
    return schema if target.get("x-dialect", audience) == audience else None


def description_for(node: Document, audience: Audience) -> str:
    """The description of an operation or of ``info`` without what it tells the other audience alone."""
    description = str(node["description"])
    for addressee, text in node.get("x-description", {}).items():
        if addressee != audience:
            description = description.replace(f"\n\n{text}", "")
    return description


def reachable(document: Document) -> Document:
    """The document without the components that nothing refers to, each kind in order of name."""
    found: set[str] = set()

    def visit(node: Node) -> None:
        if isinstance(node, list):
            for each in node:
                visit(each)
        elif isinstance(node, dict):
            target = node.get("$ref")
            if isinstance(target, str) and target not in found:
                found.add(target)
                visit(deref(document, node))
            for each in node.values():
                visit(each)

    visit([document["paths"], document.get("x-webhooks")])
    used_tags = {tag for operation in operations(document) for tag in operation.spec["tags"]}
    components = {
        kind: {
            name: definition
            for name, definition in sorted(definitions.items())
            if kind == "securitySchemes" or f"#/components/{kind}/{name}" in found
        }
        for kind, definitions in sorted(document["components"].items())
    }
    tags = [tag for tag in document["tags"] if tag["name"] in used_tags]
    return {**document, "tags": tags, "components": components}
