"""Input and answers judged by the contract: compiled validators, strict JSON, strict parameters.

A validator is compiled once for each schema and dialect, for the caller's branch alone of a choice
by dialect, so a message names the field and neither dialect leaks into the other.
"""

import asyncio
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from functools import cached_property, lru_cache
from itertools import islice
from typing import Any, NoReturn
from urllib.parse import parse_qsl

import jsonschema_rs
import orjson

from handlers.dialects import calendar_day, instant
from openapi import contract
from server.errors import Fault, fault

JsonSchema = dict[str, Any]

# A body of a megabyte may hold a fault in every byte, and explaining one takes longer than reading it.
# So only this many entries of each list, and unknown members of each object, are explained at all.
MAX_EXPLAINED = 101
MAX_DEPTH = 6

FIXED_LENGTH = re.compile(r"\^((\[[^]\\]*\]|[-:TZ])({[0-9]+})?)+\$")
"""A pattern of texts that all have one length: days and instants."""

SAFE_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")
INTEGER = re.compile(r"-?(0|[1-9][0-9]*)")


def _can_be_kept(read: Callable[[str], object]) -> Callable[[str], bool]:
    """Whether ``read`` makes something of a text."""

    def is_readable(text: str) -> bool:
        try:
            read(text)
        except ValueError:
            return False
        return True

    return is_readable


INPUT_FORMATS = {"date": _can_be_kept(calendar_day), "date-time": _can_be_kept(instant)}
"""What input is held to: the texts of a format that handlers can read. RFC 3339 also has a year 0000."""


@dataclass(frozen=True)
class Same:
    """A document as a key: itself, not what is in it."""

    document: contract.Document

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Same) and self.document is other.document

    def __hash__(self) -> int:
        return id(self.document)


@lru_cache(8)
def _components(same: Same, answer: bool) -> tuple[JsonSchema, frozenset[str]]:
    """The components that all schemas of a document share, and every member that it knows anywhere."""
    schemas = same.document["components"]["schemas"]
    names = frozenset(name for each in schemas.values() for name in each.get("properties", ()))
    return contract.json_schema(schemas, answer=answer), names


def _used(node: Any, schemas: JsonSchema) -> JsonSchema:
    """Those of ``schemas`` that a schema refers to, by way of others too; to compile each takes time."""
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


def _quick(node: Any, schemas: JsonSchema, above: frozenset[str] = frozenset(), *, points: bool) -> Any:
    """A schema that admits the same, and costs less to ask: without references, without what an enum or a
    pattern implies, and where an object must have all members that it may have, these are counted. Without
    ``points`` numbers must be integers.
    """
    if isinstance(node, list):
        return [_quick(each, schemas, above, points=points) for each in node]
    if not isinstance(node, dict):
        return node
    if "$ref" in node:
        name = node["$ref"].rpartition("/")[2]
        if name in above:
            raise contract.ContractError(f"schema {name}: one that refers to itself is not supported")
        return _quick(schemas[name], schemas, above | {name}, points=points)
    quick: JsonSchema = {
        # What members are called is no keyword.
        key: {name: _quick(each, schemas, above, points=points) for name, each in value.items()}
        if key == "properties"
        else _quick(value, schemas, above, points=points)
        for key, value in node.items()
    }
    if quick.get("type") == "number" and not points:
        quick["type"] = "integer"
    if quick.get("type") == "string" and all(isinstance(each, str) for each in quick.get("enum", [0])):
        del quick["type"]
    if FIXED_LENGTH.fullmatch(quick.get("pattern", "")):
        quick.pop("maxLength", None)
    known = node.get("properties", {}).keys()
    if node.get("additionalProperties") is False and known and known == set(node.get("required", ())):
        del quick["required"]
        quick["minProperties"] = len(known)
    return quick


class Validator:
    """One schema of the contract, compiled for input, or for an ``answer``."""

    def __init__(self, document: contract.Document, schema: Any, *, answer: bool = False) -> None:
        schemas, self.names = _components(Same(document), answer)
        own = contract.json_schema(schema, answer=answer)
        self._formats = {} if answer else INPUT_FORMATS
        self.root: JsonSchema = {**own, "components": {"schemas": _used(own, schemas)}}
        target = contract.deref(document, schema)
        self.required: tuple[str, ...] = tuple(target.get("required", ()))
        quick = _quick(own, schemas, points=True)
        self._judge = self._compile(quick)
        whole = _quick(own, schemas, points=False)
        # Most schemas have no numbers but integers.
        self._judge_whole = self._judge if whole == quick else self._compile(whole)

    def _compile(self, schema: JsonSchema) -> jsonschema_rs.Draft4Validator:
        return jsonschema_rs.Draft4Validator(schema, validate_formats=True, formats=self._formats)

    @cached_property
    def _explainer(self) -> jsonschema_rs.Draft4Validator:
        """Judges the same by the contract's own words, once there is something to say."""
        return self._compile(self.root)

    def is_valid(self, value: Any) -> bool:
        """Whether a value is right. Raises BadJson where it is nested too deeply to tell."""
        try:
            return self._judge.is_valid(value)
        except ValueError:
            raise BadJson("The body is nested too deeply.") from None

    def read(self, body: bytes) -> Any:
        """The value of a JSON text that is right and plain; None where it is either not, or may not be.

        Plain is what any parser reads alike: no member twice, no escape, no number with a point. So an
        ordinary body costs about half of what ``parse_json`` does, which has to be asked about all others.
        """
        if b"\\" in body or has_too_many_values(body):
            return None
        try:
            value = orjson.loads(body)
            right = self._judge_whole.is_valid(value)
        except ValueError:
            return None
        # Of a member that stands twice one is lost, and with it a colon; texts are the same in both.
        return value if right and orjson.dumps(value).count(b":") == body.count(b":") else None

    def faults(self, value: Any, place: str, base: str = "") -> "Iterator[Found]":
        """What is wrong with ``value``, one fault for each place in it."""
        seen: set[str] = set()
        value = self._cut(value, MAX_DEPTH)
        for error in self._explainer.iter_errors(value):
            for found in self._explain(error, value, place, base):
                if found.fault["pointer"] not in seen or found.missing:
                    seen.add(found.fault["pointer"])
                    yield found

    def _cut(self, value: Any, depth: int) -> Any:
        """A copy with no more in it than is explained; it has the same kinds of faults."""
        if isinstance(value, list | dict) and not depth:
            # Deeper than any shape of the contract, so it is a fault where it begins.
            return type(value)()
        if isinstance(value, list):
            return [self._cut(each, depth - 1) for each in value[:MAX_EXPLAINED]]
        if isinstance(value, dict):
            unknown = islice((name for name in value if name not in self.names), MAX_EXPLAINED)
            kept = {*unknown, *(self.names & value.keys())}
            return {name: self._cut(each, depth - 1) for name, each in value.items() if name in kept}
        return value

    def _explain(self, error: Any, value: Any, place: str, base: str) -> "Iterator[Found]":
        path = list(error.instance_path)
        pointer = base + "".join(f"/{part}" for part in path)
        keyword, schema = self._where(error.schema_path)
        if keyword == "required":
            name = error.kind.property
            yield Found(fault(place, f"{pointer}/{name}", f"The {name} field is required."), missing=True)
            return
        if keyword == "additionalProperties":
            for part in path:
                value = value[part]
            allowed = ", ".join(schema.get("properties", {}))
            for name in [name for name in value if name not in schema.get("properties", {})]:
                where = f"{pointer}/{name}" if SAFE_NAME.fullmatch(name) else pointer
                yield Found(
                    fault(place, where, shortened(f"This member is not known here; known are: {allowed}."))
                )
            return
        names = [part for part in path if isinstance(part, str)]
        name = names[-1] if names else base.removeprefix("/")
        subject = f"The {name} field" if name else "The body"
        yield Found(fault(place, pointer, shortened(f"{subject} {_expectation(keyword, schema)}")))

    def _where(self, schema_path: list[Any]) -> tuple[str, JsonSchema]:
        schema: Any = self.root
        for part in schema_path[:-1]:
            schema = schema[part]
        return str(schema_path[-1]), schema


SLICE = 256 * 1024
"""How many bytes of an answer are judged and serialized while everybody else waits."""


class AnswerSchema(Validator):
    """The schema of an answer: judges an answer and serializes it, a large list in slices.

    The slices follow from the contract: as many rows as have at most ``SLICE`` bytes where each is as long as
    the contract allows. So no answer that the contract admits holds the event loop.
    """

    def __init__(self, document: contract.Document, schema: Any) -> None:
        super().__init__(document, schema, answer=True)
        self.path = contract.list_path(document, schema)
        self.rows, self.most, self._rows_judge = 0, 0, self._judge
        if self.path and contract.largest_json(document, schema) > SLICE:
            rows = contract.at_path(document, schema, self.path)
            self.rows = max(1, SLICE // contract.largest_json(document, rows["items"]))
            self.most = int(rows["maxItems"])
            self._rows_judge = Validator(document, rows, answer=True)._judge

    async def serialize(self, content: Any) -> bytes | None:
        """The JSON of an answer, or None where the contract does not allow it."""
        rows = content
        for name in self.path if self.rows else ():
            rows = rows.get(name) if isinstance(rows, dict) else None
        if not self.rows or not isinstance(rows, list) or len(rows) <= self.rows:
            return orjson.dumps(content) if self.is_valid(content) else None
        if len(rows) > self.most or not self.is_valid(_replaced(content, self.path, rows[:1])):
            return None
        parts, fresh = [], 0
        for begin in range(0, len(rows), self.rows):
            part = rows[begin : begin + self.rows]
            if not self._rows_judge.is_valid(part):
                return None
            parts.append(orjson.dumps(part)[1:-1])
            fresh += len(parts[-1])
            if fresh > SLICE:
                fresh = 0
                await asyncio.sleep(0)
        array = orjson.Fragment(b"[%b]" % b",".join(parts))
        return orjson.dumps(_replaced(content, self.path, array))


def _replaced(content: Any, path: Sequence[str], value: Any) -> Any:
    """A copy of nested objects in which the member at a path has another value."""
    name, *rest = path
    return {**content, name: _replaced(content[name], rest, value) if rest else value}


@dataclass(frozen=True)
class Found:
    """A fault, and whether it is that a required field is missing."""

    fault: Fault
    missing: bool = False


def shortened(message: str) -> str:
    """A message within the contract's 500 characters."""
    return message if len(message) <= 500 else message[:499] + "…"


ARTICLES = {
    "string": "a string",
    "integer": "an integer",
    "number": "a number",
    "boolean": "true or false",
    "array": "a list",
    "object": "an object",
    "null": "null",
}


TEXTS = {
    "any": "must not contain NUL.",
    "line": "must be one line, without control characters and marks that change the text's direction.",
    "lines": (
        "must contain no marks that change the text's direction, and no control characters except line ends "
        "and tabs."
    ),
}


def _expectation(keyword: str, schema: JsonSchema) -> str:
    """The end of the sentence "The amount field …"."""
    limit = schema.get(keyword)
    if keyword == "not" and schema.get("x-text") in TEXTS:
        return TEXTS[schema["x-text"]]
    if keyword == "type":
        kinds = limit if isinstance(limit, list) else [limit]
        return f"must be {' or '.join(ARTICLES[str(kind)] for kind in kinds if kind != 'null')}."
    if "x-expects" in schema:
        return f"must be {schema['x-expects']}."
    if keyword == "enum" and isinstance(limit, list):
        return f"must be one of: {', '.join(str(each) for each in limit)}."
    if keyword == "minLength" and limit == 1:
        return "must not be empty."
    words = {
        "minimum": "must be at least {}.",
        "maximum": "must be at most {}.",
        "minLength": "must have at least {} characters.",
        "maxLength": "must have at most {} characters.",
        "minItems": "must have at least {} entries.",
        "maxItems": "must have at most {} entries.",
        "minProperties": "must have at least {} member.",
        "maxProperties": "must have at most {} members.",
    }
    return words.get(keyword, "does not have the right format.").format(limit)


# --- JSON --------------------------------------------------------------------------------------------


class BadJson(ValueError):
    """The text is not strict JSON; the message is for the caller."""


def _members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise BadJson("The body names a member of an object twice.")
    for name, value in pairs:
        if isinstance(value, str) and "\r" in value:
            result[name] = with_line_feeds(value)
    return result


def with_line_feeds(text: str) -> str:
    """The text with LF at the end of each line, as HTML and XML read it."""
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _constant(_: str) -> NoReturn:
    raise BadJson("The body is not valid JSON: NaN and Infinity are not numbers there.")


HUGE, TINY = 10**40, Decimal("1e-40")
"""Beyond every bound of the contract, and cheap to hold, unlike an integer of a million digits."""


def parse_integer(text: str) -> int:
    """The integer that digits stand for, or one as far out of bounds."""
    if len(text) <= 40:
        return int(text)
    return -HUGE if text.startswith("-") else HUGE


def _number(text: str) -> int | Decimal:
    if len(text) > 400:
        raise BadJson("The body has a number of more than 400 characters.")
    try:
        value = Decimal(text)
    except InvalidOperation:
        raise BadJson("The body has a number with an exponent of more than 18 digits.") from None
    if value and abs(value.adjusted()) > 40:
        return int(Decimal(HUGE).copy_sign(value)) if value.adjusted() > 0 else TINY.copy_sign(value)
    # JSON Schema calls 1.0 and 1e2 integers, and handlers calculate with them.
    return int(value) if value == value.to_integral_value() else value


_decoder = json.JSONDecoder(
    object_pairs_hook=_members, parse_constant=_constant, parse_int=parse_integer, parse_float=_number
)


MAX_VALUES = 10_000
"""How many values a body may have. No body of the contract has a tenth of them."""

# A text that does not end is taken to the end of the body, so that no part is looked at twice.
VALUE = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+(?:"|\\?\Z)|[,\[{]', re.DOTALL)


def has_too_many_values(body: bytes) -> bool:
    """Whether a JSON text has more values than may be judged, found out without building them."""
    if body.count(b",") + body.count(b"[") + body.count(b"{") + body.count(b'"') <= MAX_VALUES:
        return False
    # A text and a comma or bracket are a value at most.
    return any(nth >= 2 * MAX_VALUES for nth, _ in enumerate(VALUE.finditer(body)))


def parse_json(body: bytes) -> Any:
    """The value of a JSON text in UTF-8; numbers are integers or Decimals, lines of members end with LF.

    Raises BadJson for what other parsers let pass: duplicate members, NaN, lone surrogates, a byte order
    mark, for nesting deeper than Python's stack, and for more than ``MAX_VALUES`` values.
    """
    if has_too_many_values(body):
        raise BadJson(f"The body has more than {MAX_VALUES:,} values.")
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError:
        raise BadJson("The body is not valid UTF-8.") from None
    if text.startswith("\ufeff"):
        raise BadJson("The body begins with a byte order mark (BOM); send it without one.")
    try:
        value = _decoder.decode(text)
    except BadJson:
        raise
    except json.JSONDecodeError as error:
        raise BadJson(f"The body is not valid JSON (line {error.lineno}, column {error.colno}).") from None
    except RecursionError:
        raise BadJson("The body is nested too deeply.") from None
    # Only an escape can bring in a character that UTF-8 itself excludes.
    if "\\u" in text:
        _refuse_surrogates(value)
    return value


def _refuse_surrogates(value: Any) -> None:
    stack = [value]
    while stack:
        each = stack.pop()
        if isinstance(each, str):
            if not _is_encodable(each):
                raise BadJson("The body holds a character that is not allowed: a lone surrogate.")
        elif isinstance(each, dict):
            stack.extend(each)
            stack.extend(each.values())
        elif isinstance(each, list):
            stack.extend(each)


def _is_encodable(text: str) -> bool:
    """Whether a text is free of lone surrogates."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


# --- Parameters --------------------------------------------------------------------------------------


# What a parameter may be, by where it stands.
KINDS = {"path": ("integer", "string"), "query": ("integer", "string"), "header": ("string",)}


@dataclass(frozen=True)
class Parameter:
    """A parameter of an operation, compiled."""

    name: str
    place: str
    required: bool
    integer: bool
    dialect: str | None
    default: Any
    validator: Validator
    is_list: bool = False

    @classmethod
    def compile(cls, document: contract.Document, spec: contract.Document) -> "Parameter":
        schema = contract.deref(document, spec["schema"])
        if spec["in"] not in KINDS or schema.get("type") not in KINDS[spec["in"]]:
            raise contract.ContractError(
                f"parameter {spec['name']}: only integers and strings in path and query, and strings in "
                "headers are supported"
            )
        if spec["in"] == "header" and (spec["required"] or "x-dialect" in spec):
            raise contract.ContractError(
                f"parameter {spec['name']}: a header that is required or of one dialect is not supported"
            )
        for keyword in ("style", "explode", "allowReserved", "allowEmptyValue", "content"):
            if keyword in spec:
                raise contract.ContractError(f"parameter {spec['name']}: {keyword} is not supported")
        return cls(
            name=spec["name"],
            place=spec["in"],
            required=spec["required"],
            integer=schema["type"] == "integer",
            dialect=spec.get("x-dialect"),
            default=schema.get("default"),
            validator=Validator(document, spec["schema"]),
            is_list=spec.get("x-list", False),
        )

    @property
    def argument(self) -> str:
        """What the handler calls it: ``if_match`` for ``If-Match``."""
        return self.name.lower().replace("-", "_") if self.place == "header" else self.name

    def parse(self, text: str) -> tuple[Any, list[Fault]]:
        """The value that ``text`` stands for, and what is wrong with it."""
        value = parse_integer(text) if self.integer and INTEGER.fullmatch(text) else text
        if self.validator.is_valid(value):
            return value, []
        return None, [found.fault for found in self.validator.faults(value, self.place, f"/{self.name}")]


def parse_query(
    query: bytes, parameters: Mapping[str, Parameter], dialect: str
) -> tuple[dict[str, Any], list[Fault]]:
    """The parameters that a query string gives, and what is wrong with it.

    A parameter that is unknown, stands twice, or belongs to the other dialect is a fault.
    ``api_token`` is a credential and was judged as one.
    """
    values: dict[str, Any] = {}
    faults: list[Fault] = []
    try:
        pairs = parse_qsl(query.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=100)
    except (UnicodeDecodeError, ValueError):
        return {}, [fault("query", "", "The query string is not valid UTF-8, or has more than 100 fields.")]
    for name, text in pairs:
        if name == "api_token":
            continue
        parameter = parameters.get(name)
        pointer = f"/{name}" if SAFE_NAME.fullmatch(name) else ""
        if parameter is None or parameter.dialect not in (None, dialect):
            known = ", ".join(each.name for each in parameters.values() if each.dialect in (None, dialect))
            faults.append(
                fault("query", pointer, f"This parameter is not known here; known are: {known or 'none'}.")
            )
        elif name in values:
            faults.append(fault("query", pointer, f"The {name} field must not stand twice."))
        else:
            values[name], wrong = parameter.parse(text)
            faults += wrong
    return values, faults


def parse_headers(
    headers: Iterable[tuple[bytes, bytes]], parameters: Mapping[bytes, Parameter]
) -> tuple[dict[str, Any], list[Fault]]:
    """The parameters that the headers give, found by their names in lower case, and what is wrong there."""
    values: dict[str, Any] = {}
    faults: list[Fault] = []
    given: dict[bytes, list[str]] = {}
    for key, text in headers:
        parameter = parameters.get(key)
        if parameter is None:
            continue
        if key not in given or parameter.is_list:
            given.setdefault(key, []).append(text.decode("latin-1"))
        else:
            faults.append(
                fault("header", f"/{parameter.name}", f"The {parameter.name} field must not stand twice.")
            )
    for key, lines in given.items():
        values[parameters[key].argument], wrong = parameters[key].parse(", ".join(lines))
        faults += wrong
    return values, faults
