"""Validators for the schemas of the contract, compiled once for each schema and dialect."""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import islice
from math import floor
from typing import Any

import jsonschema_rs
import orjson

from handlers.dialects import calendar_day, instant
from openapi import contract, json_schema
from server.errors import detail
from server.validation.json_reader import InvalidJson, has_too_many_values
from server.validation.violations import SAFE_NAME, JsonSchema, Violation, expectation, shortened

# A body of a megabyte may have a fault in every byte, and explaining a fault costs more than parsing it. So
# the server explains only this many entries of each list and unknown members of each object.
MAX_EXPLAINED = 101
MAX_DEPTH = 6

FIXED_LENGTH = re.compile(r"\^((\[[^]\\]*\]|[-:TZ])({[0-9]+})?)+\$")
"""A pattern whose texts all have the same length, such as dates."""


def _can_be_kept(read: Callable[[str], object]) -> Callable[[str], bool]:
    """Return a function that tells whether ``read`` accepts a text."""

    def is_readable(text: str) -> bool:
        try:
            read(text)
        except ValueError:
            return False
        return True

    return is_readable


DIGITS = b"0123456789"


def _marks(text: bytes) -> tuple[int, int, int]:
    """Count the colons, the digits and the letters E of a JSON text."""
    digits = len(text) - len(text.translate(None, DIGITS))
    return text.count(b":"), digits, text.count(b"e") + text.count(b"E")


INPUT_FORMATS = {"date": _can_be_kept(calendar_day), "date-time": _can_be_kept(instant)}
"""The formats of input: the texts that handlers can parse. RFC 3339 also allows the year 0000."""


@dataclass(frozen=True)
class DocumentKey:
    """A document as a cache key, compared by identity."""

    document: contract.Document

    def __eq__(self, other: object) -> bool:
        return isinstance(other, DocumentKey) and self.document is other.document

    def __hash__(self) -> int:
        return id(self.document)


@lru_cache(8)
def _shared_components(same: DocumentKey, answer: bool) -> tuple[JsonSchema, frozenset[str]]:
    """Return the schemas that all others may reference, and the names of all members in the document."""
    schemas = same.document["components"]["schemas"]
    names = frozenset(name for each in schemas.values() for name in each.get("properties", ()))
    return json_schema.json_schema(schemas, answer=answer), names


def _referenced(node: Any, schemas: JsonSchema) -> JsonSchema:
    """Return the schemas that a schema references, directly or not. Compiling the others would take time."""
    found: JsonSchema = {}
    left = [node]
    while left:
        node = left.pop()
        if isinstance(node, dict):
            target = node.get("$ref")
            name = target.rpartition("/")[2] if isinstance(target, str) else ""
            if name and name not in found:
                found[name] = schemas[name]
                left.append(schemas[name])
        left += node.values() if isinstance(node, dict) else node if isinstance(node, list) else ()
    return found


def optimized_schema(node: Any, schemas: JsonSchema, above: frozenset[str] = frozenset()) -> Any:
    """Return an equivalent schema that validates faster.

    It has no references and no keyword that an enum or a pattern implies. Where an object must have all
    members that it may have, it counts them.
    """
    if isinstance(node, list):
        return [optimized_schema(each, schemas, above) for each in node]
    if not isinstance(node, dict):
        return node
    if "$ref" in node:
        name = node["$ref"].rpartition("/")[2]
        if name in above:
            raise contract.ContractError(f"schema {name}: one that refers to itself is not supported")
        return optimized_schema(schemas[name], schemas, above | {name})
    quick: JsonSchema = {
        # The keys of ``properties`` are names of members, not keywords.
        key: {name: optimized_schema(each, schemas, above) for name, each in value.items()}
        if key == "properties"
        else optimized_schema(value, schemas, above)
        for key, value in node.items()
    }
    if quick.get("type") == "string" and all(isinstance(each, str) for each in quick.get("enum", [0])):
        del quick["type"]
    if FIXED_LENGTH.fullmatch(quick.get("pattern", "")):
        quick.pop("maxLength", None)
    bound = quick.get("maximum")
    if isinstance(bound, float) and not bound.is_integer() and "anyOf" not in quick:
        # jsonschema-rs compares with a fraction 30 times slower than with an integer, and most values are
        # below both.
        del quick["maximum"]
        quick["anyOf"] = [{"maximum": floor(bound)}, {"maximum": bound}]
    known = node.get("properties", {}).keys()
    if node.get("additionalProperties") is False and known and known == set(node.get("required", ())):
        del quick["required"]
        quick["minProperties"] = len(known)
    return quick


class Validator:
    """A compiled schema of the contract, for input or for an ``answer``."""

    def __init__(self, document: contract.Document, schema: Any, *, answer: bool = False) -> None:
        schemas, self.names = _shared_components(DocumentKey(document), answer)
        own = json_schema.json_schema(schema, answer=answer)
        self._formats = {} if answer else INPUT_FORMATS
        self.root: JsonSchema = {**own, "components": {"schemas": _referenced(own, schemas)}}
        target = contract.deref(document, schema)
        self.required: tuple[str, ...] = tuple(target.get("required", ()))
        self._judge = self._compile(optimized_schema(own, schemas))

    def _compile(self, schema: JsonSchema) -> jsonschema_rs.Draft4Validator:
        return jsonschema_rs.Draft4Validator(schema, validate_formats=True, formats=self._formats)

    @cached_property
    def _explainer(self) -> jsonschema_rs.Draft4Validator:
        """The schema as the contract has it, compiled when there is a violation to explain."""
        return self._compile(self.root)

    def is_valid(self, value: Any) -> bool:
        """Return whether a value is valid. Raises InvalidJson if it is nested too deeply."""
        try:
            return self._judge.is_valid(value)
        except ValueError:
            raise InvalidJson("The body is nested too deeply.") from None

    def parse_if_plain(self, body: bytes) -> Any:
        """Return the value of a valid JSON text that all parsers read alike, else None.

        Such a text has no escape, no duplicate member and no number that a float changes. This takes a third
        of the time of ``parse_json``, which must read all other texts.
        """
        if b"\\" in body or has_too_many_values(body):
            return None
        try:
            value = orjson.loads(body)
            right = self._judge.is_valid(value)
        except ValueError:
            return None
        if not right:
            return None
        # orjson keeps one of duplicate members, so a colon is lost. It writes a float by its shortest number,
        # so digits are lost that the float cannot hold. An exponent is written out, so its E is lost.
        return value if _marks(orjson.dumps(value)) == _marks(body) else None

    def violations(self, value: Any, place: str, base: str = "") -> Iterator[Violation]:
        """Yield the violations of a value, one for each place in it."""
        seen: set[str] = set()
        value = self._cut(value, MAX_DEPTH)
        for error in self._explainer.iter_errors(value):
            for found in self._explain(error, value, place, base):
                if found.detail["pointer"] not in seen or found.missing:
                    seen.add(found.detail["pointer"])
                    yield found

    def _cut(self, value: Any, depth: int) -> Any:
        """Return a copy with only what the server explains. It has the same kinds of violations."""
        if isinstance(value, list | dict) and not depth:
            # No schema of the contract is this deep, so the violation is at the beginning.
            return type(value)()
        if isinstance(value, list):
            return [self._cut(each, depth - 1) for each in value[:MAX_EXPLAINED]]
        if isinstance(value, dict):
            unknown = islice((name for name in value if name not in self.names), MAX_EXPLAINED)
            kept = {*unknown, *(self.names & value.keys())}
            return {name: self._cut(each, depth - 1) for name, each in value.items() if name in kept}
        return value

    def _explain(self, error: Any, value: Any, place: str, base: str) -> Iterator[Violation]:
        path = list(error.instance_path)
        pointer = base + "".join(f"/{part}" for part in path)
        keyword, schema = self._where(error.schema_path)
        if keyword == "required":
            name = error.kind.property
            yield Violation(
                detail(place, f"{pointer}/{name}", f"The {name} field is required."), missing=True
            )
            return
        if keyword == "additionalProperties":
            for part in path:
                value = value[part]
            allowed = ", ".join(schema.get("properties", {}))
            for name in [name for name in value if name not in schema.get("properties", {})]:
                where = f"{pointer}/{name}" if SAFE_NAME.fullmatch(name) else pointer
                yield Violation(
                    detail(
                        place, where, shortened(f"This member is unknown; the known members are: {allowed}.")
                    )
                )
            return
        names = [part for part in path if isinstance(part, str)]
        name = names[-1] if names else base.removeprefix("/")
        subject = f"The {name} field" if name else "The body"
        yield Violation(detail(place, pointer, shortened(f"{subject} {expectation(keyword, schema)}")))

    def _where(self, schema_path: list[Any]) -> tuple[str, JsonSchema]:
        schema: Any = self.root
        for part in schema_path[:-1]:
            schema = schema[part]
        return str(schema_path[-1]), schema
