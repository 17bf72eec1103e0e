"""What is asked quickly admits what the contract's own words admit, and nothing else."""

import asyncio
import copy
import json
from collections.abc import Iterator
from decimal import Decimal
from typing import Any, ClassVar

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from openapi import contract, loading
from server.validation.answers import AnswerSchema
from server.validation.json_reader import MAX_VALUES, InvalidJson, has_too_many_values, parse_json
from server.validation.validator import Validator

DOCUMENT = loading.bundle()
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
        assert bool(list(validator.violations(value, "body"))) is not expected, value
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
    example = json.loads(json.dumps(SCHEMAS[name]["example"]))
    assert validator.parse_if_plain(json.dumps(example).encode()) == example
    for value in (example, *variants(example)):
        for body in written(value):
            found = validator.parse_if_plain(body)
            if found is None:
                continue
            strict = parse_json(body)
            assert validator.is_valid(strict), body
            found = with_decimals(found)
            assert (found, repr(found)) == (strict, repr(strict)), body


def with_decimals(value: Any) -> Any:
    """A copy in which each float is the number that ``parse_json`` makes of its shortest text."""
    if isinstance(value, dict):
        return {name: with_decimals(each) for name, each in value.items()}
    if isinstance(value, list):
        return [with_decimals(each) for each in value]
    return parse_json(f"[{value!r}]".encode())[0] if isinstance(value, float) else value


NUMBERS = st.one_of(
    st.from_regex(r"-?(0|[1-9][0-9]{0,12})(\.[0-9]{1,25})?([eE][+-]?[0-9]{1,2})?", fullmatch=True),
    st.from_regex(r"[0-9]\.[0-9]{1,3}", fullmatch=True),
)


@given(st.lists(NUMBERS, min_size=1, max_size=4))
def test_no_number_is_changed_by_the_quick_reader(texts: list[str]) -> None:
    """An amount with more than two decimals that no float holds would else be rounded."""
    lines = ",".join(f'{{"description":"a","amount":{each}}}' for each in texts)
    body = f'{{"client_id":56,"due_date":"2035-01-31","items":[{lines}]}}'.encode()
    found = INVOICE_INPUT.parse_if_plain(body)
    if found is not None:
        read = [Decimal(str(line["amount"])) for line in found["items"]]
        two_decimals = [each == each.quantize(Decimal("0.01")) for each in read]
        exact = [Decimal(each) for each in texts]
        assert not all(two_decimals) or read == exact


INVOICE_INPUT = Validator(DOCUMENT, {"$ref": "#/components/schemas/InvoiceInput"})


@pytest.mark.parametrize(
    "body",
    [
        b'{"client_id":56,"client_id":57,"due_date":"2035-01-31","items":[{"description":"a","amount":"1.00"}]}',
        b'{"client_id":56,"due_date":"2035-01-31","items":[{"description":"a","description":"b","amount":1}]}',
        b'{"client_id":56,"due_date":"2035-01-31","items":[{"description":"a","description":":","amount":1}]}',
        b'{"client_id":56.0,"due_date":"2035-01-31","items":[{"description":"a","amount":1}]}',
        b'{"client_id":5.6e1,"due_date":"2035-01-31","items":[{"description":"a","amount":1}]}',
        b'{"client_id":56,"due_date":"2035-01-31","items":[{"description":"a","amount":9.950}]}',
        b'{"client_id":56,"due_date":"2035-01-31","items":[{"description":"a","amount":1e2}]}',
        b'{"client_id":56,"due_date":"2035-01-31","items":[{"description":"a","amount":1.9900000000000000001}]}',
        b'{"client_id":56,"due_date":"2035-01-31","items":[{"description":"a","amount":1.990000000000000001},'
        b'{"description":"a","amount":1.5E8},{"description":"a","amount":1.5e8},{"description":"a","amount":1}]}',
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
    assert INVOICE_INPUT.parse_if_plain(body) is None


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


class TestManyValues:
    """A body with more values than any of the contract is refused before they are built."""

    MANY: ClassVar = {
        "numbers": "[" + "0.1," * 20_000 + "1]",
        "empty lists": "[" + "[]," * 20_000 + "1]",
        "empty objects": "[" + "{}," * 20_000 + "1]",
        "empty texts": "[" + '"",' * 20_000 + "1]",
        "texts without commas": '"" ' * 30_000,
        "deep lists": "[" + f"{'[' * 900}{']' * 900}," * 300 + "1]",
        "members": "{" + ",".join(f'"a{nth}":1' for nth in range(20_000)) + "}",
        "one member": "{" + ",".join(['"a":1'] * 20_000) + "}",
        "a text without an end behind them": "[" + "1," * 30_000 + '"\\"\\"',
    }

    @pytest.mark.parametrize("name", MANY)
    def test_they_are_refused(self, name: str) -> None:
        with pytest.raises(InvalidJson, match="10,000 values"):
            parse_json(self.MANY[name].encode())

    @pytest.mark.parametrize(
        "text",
        ["a,b[c]{d}" * 20_000, '\\"' * 20_000, "\\\\" * 20_000, ",\n" * 20_000, "" * 3],
        ids=["commas and brackets", "quotes", "backslashes", "lines", "empty"],
    )
    def test_a_text_is_one_value_whatever_is_in_it(self, text: str) -> None:
        body = json.dumps({"message": json.loads(f'"{text}"', strict=False)}).encode()
        assert not has_too_many_values(body)
        assert parse_json(body)

    def test_no_body_of_the_contract_has_a_tenth_of_them(self) -> None:
        for operation in contract.operations(DOCUMENT):
            for media in operation.spec.get("requestBody", {}).get("content", {}).values():
                assert most_values(media["schema"]) * 10 < MAX_VALUES, operation.id


def most_values(schema: Any) -> int:
    """How many values, texts and separators the largest JSON of a schema has."""
    schema = contract.deref(DOCUMENT, schema)
    if "oneOf" in schema:
        return max(most_values(each) for each in schema["oneOf"])
    if "items" in schema:
        return 1 + int(schema["maxItems"]) * (1 + most_values(schema["items"]))
    return 1 + sum(2 + most_values(each) for each in schema.get("properties", {}).values())


ANSWERS = {
    f"{operation.id} {status} {dialect}": branch
    for operation in contract.operations(DOCUMENT)
    for status, response in operation.spec["responses"].items()
    if status.startswith("2")
    for media in [contract.deref(DOCUMENT, response)["content"].get("application/json")]
    if media
    for dialect in sorted(operation.audiences)
    if (branch := contract.branch(DOCUMENT, media["schema"], dialect)) is not None
}
SLICED = [name for name, each in ANSWERS.items() if AnswerSchema(DOCUMENT, each).rows]


def with_rows(schema: Any, path: tuple[str, ...], count: int) -> Any:
    """The example of an answer in which the list at a path has so many rows."""
    example = copy.deepcopy(contract.deref(DOCUMENT, schema)["example"])
    holder = example
    for name in path[:-1]:
        holder = holder[name]
    holder[path[-1]] = (holder[path[-1]] * count)[:count]
    return example


class TestSlices:
    """Large answers are judged and serialized in slices, to the same bytes as in one go."""

    def test_there_are_some(self) -> None:
        assert {"list_services 200 client", "get_ticket 200 admin", "list_events 200 admin"} <= {*SLICED}

    @pytest.mark.parametrize("name", SLICED)
    def test_the_bytes_are_those_of_one_go(self, name: str) -> None:
        schema = AnswerSchema(DOCUMENT, ANSWERS[name])
        for count in sorted({0, 1, schema.rows, schema.rows + 1, schema.most}):
            content = with_rows(ANSWERS[name], schema.path, count)
            written = asyncio.run(schema.serialize(content))
            assert written == (orjson.dumps(content) if schema.is_valid(content) else None)

    @pytest.mark.parametrize("name", SLICED)
    def test_a_fault_in_any_slice_or_around_is_noticed(self, name: str) -> None:
        schema = AnswerSchema(DOCUMENT, ANSWERS[name])
        content = with_rows(ANSWERS[name], schema.path, schema.rows + 1)
        assert asyncio.run(schema.serialize(content)) is not None
        for place in (0, schema.rows):
            broken = copy.deepcopy(content)
            rows = broken
            for part in schema.path:
                rows = rows[part]
            rows[place] = {**rows[place], "unknown": 1}
            assert asyncio.run(schema.serialize(broken)) is None
        assert asyncio.run(schema.serialize({**content, "unknown": 1})) is None
        too_many = with_rows(ANSWERS[name], schema.path, schema.most + 1)
        assert asyncio.run(schema.serialize(too_many)) is None

    def test_others_are_served_between_slices(self) -> None:
        schema = AnswerSchema(DOCUMENT, ANSWERS["get_ticket 200 admin"])
        content = with_rows(ANSWERS["get_ticket 200 admin"], schema.path, schema.most)
        for reply in content["data"]["replies"]:
            reply["message"] = "\N{FOX FACE}" * 20_000

        async def count_turns() -> int:
            task, turns = asyncio.ensure_future(schema.serialize(content)), 0
            while not task.done():
                await asyncio.sleep(0)
                turns += 1
            assert task.result() == orjson.dumps(content)
            return turns

        # 30 replies of 80 KB are nine times the bytes of a slice.
        assert asyncio.run(count_turns()) >= 6
