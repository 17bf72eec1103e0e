"""What is asked quickly admits what the contract's own words admit, and nothing else."""

import copy
from collections.abc import Iterator
from typing import Any

import pytest

from openapi import contract
from server.validation import Validator

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


def test_a_schema_that_refers_to_itself_stops_the_start() -> None:
    node = {"type": "object", "properties": {"next": {"$ref": "#/components/schemas/Node"}}}
    document = {"components": {"schemas": {"Node": node}}}
    with pytest.raises(contract.ContractError, match="schema Node"):
        Validator(document, {"$ref": "#/components/schemas/Node"})
