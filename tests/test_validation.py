"""What is asked quickly admits what the contract's own words admit, and nothing else."""

import copy
import json
from collections.abc import Iterator
from typing import Any

import pytest

from openapi import contract
from server.validation import Validator, parse_json

DOCUMENT = contract.bundle()
SCHEMAS = DOCUMENT["components"]["schemas"]
OTHERS: list[Any] = [None, True, 0, -1, 10**16, 0.5, "", "x" * 20_001, [], {}, {"unknown": 1}]


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The paths of all that is in a value, its own among them."""
    yield path
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, each in pairs:
        yield from places(each, (*path, key))


def variants(value: Any) -> Iterator[Any]:
    """A value with something else, nothing, or one more at each place in turn."""
    for path in places(value):
        for other in OTHERS:
            root = {"": copy.deepcopy(value)}
            holder: Any = root
            for key in ("", *path)[:-1]:
                holder = holder[key]
            holder[("", *path)[-1]] = other
            yield root[""]
        root = {"": copy.deepcopy(value)}
        holder = root
        for key in ("", *path)[:-1]:
            holder = holder[key]
        here = holder[("", *path)[-1]]
        if isinstance(here, dict):
            here["unknown"] = 1
            yield copy.deepcopy(root[""])
            del here["unknown"]
        if path:
            del holder[path[-1]]
            yield root[""]


@pytest.mark.parametrize("name", [name for name, each in SCHEMAS.items() if "example" in each])
def test_both_ways_to_ask_agree(name: str) -> None:
    validator = Validator(DOCUMENT, {"$ref": f"#/components/schemas/{name}"})
    example = SCHEMAS[name]["example"]
    assert validator.is_valid(example)
    found = set()
    for value in variants(example):
        expected = validator._explainer.is_valid(value)
        assert validator.is_valid(value) is expected, value
        assert bool(list(validator.faults(value, "body"))) is not expected, value
        found.add(expected)
    assert False in found


BODIES = [name for name, each in SCHEMAS.items() if name.endswith("Input") and "example" in each]


def written(value: Any) -> Iterator[bytes]:
    """A value in JSON in several ways, some of which no other value is written in, and some are none."""
    yield json.dumps(value).encode()
    yield json.dumps(value, ensure_ascii=False, separators=(" ,", " :\n")).encode()
    yield json.dumps(value).replace("a", "\\u0061").encode()
    yield json.dumps(value).replace(":", ": :").encode()
    if isinstance(value, dict) and value:
        name, first = next(iter(value.items()))
        again = f"{{{json.dumps(name)}: {json.dumps(first)}, {json.dumps(value)[1:]}"
        yield again.encode()
        yield json.dumps({**value, name: "x:y"}).encode() + b"}"


@pytest.mark.parametrize("name", BODIES)
def test_what_is_read_quickly_is_what_is_read_strictly(name: str) -> None:
    """Or it is not read, and then asked of the strict reader."""
    validator = Validator(DOCUMENT, {"$ref": f"#/components/schemas/{name}"})
    # Amounts are texts, too.
    example = json.loads(json.dumps(SCHEMAS[name]["example"]), parse_float=str)
    assert validator.read(json.dumps(example).encode()) == example
    for value in (example, *variants(example)):
        for body in written(value):
            found = validator.read(body)
            if found is None:
                continue
            strict = parse_json(body)
            assert validator.is_valid(strict), body
            assert (found, repr(found)) == (strict, repr(strict)), body


@pytest.mark.parametrize(
    "body",
    [
        b'{"client_id":56,"client_id":57,"due_date":"2035-01-31","items":[{"description":"a","amount":"1"}]}',
        b'{"client_id":56,"due_date":"2035-01-31","items":[{"description":"a","description":"b","amount":1}]}',
        b'{"client_id":56,"due_date":"2035-01-31","items":[{"description":"a","description":":","amount":1}]}',
        b'{"client_id":56.0,"due_date":"2035-01-31","items":[{"description":"a","amount":1}]}',
        b'{"client_id":5.6e1,"due_date":"2035-01-31","items":[{"description":"a","amount":1}]}',
        b'{"client_id":56,"due_date":"2035-01-31","items":[{"description":"a","amount":9.95}]}',
        b'{"client_id":56,"due_date":"2035-01-31","items":[{"description":"\\u0000","amount":1}]}',
        b'{"client_id":56,"due_date":"2035-01-31","items":[{"description":"\xff","amount":1}]}',
        b'\xef\xbb\xbf{"client_id":56,"due_date":"2035-01-31","items":[{"description":"a","amount":1}]}',
        b'{"client_id":123456789012345678901234567890,"due_date":"2035-01-31","items":[]}',
        b"[" * 2000,
        b"[" * 500 + b"]" * 500,
        b"NaN",
        b"",
    ],
)
def test_what_parsers_read_in_several_ways_is_not_read_quickly(body: bytes) -> None:
    validator = Validator(DOCUMENT, {"$ref": "#/components/schemas/InvoiceInput"})
    assert validator.read(body) is None


def test_a_schema_that_refers_to_itself_stops_the_start() -> None:
    node = {"type": "object", "properties": {"next": {"$ref": "#/components/schemas/Node"}}}
    document = {"components": {"schemas": {"Node": node}}}
    with pytest.raises(contract.ContractError, match="schema Node"):
        Validator(document, {"$ref": "#/components/schemas/Node"})


def test_members_may_be_called_as_keywords_are() -> None:
    text = {"type": "string", "maxLength": 3}
    schema: dict[str, Any] = {
        "type": "object",
        "additionalProperties": False,
        "properties": {"type": text, "pattern": text, "enum": text, "properties": text},
        "required": ["type"],
    }
    validator = Validator({"components": {"schemas": {}}}, schema)
    assert validator.is_valid({"type": "a", "pattern": "b", "enum": "c", "properties": "d"})
    assert not validator.is_valid({"pattern": "b"})
    assert not validator.is_valid({"type": "long"})
    assert not validator.is_valid({"type": "a", "properties": 1})
