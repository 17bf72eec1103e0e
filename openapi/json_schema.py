"""Schemas of the contract as JSON Schema, and the size of the largest value of one."""

from collections.abc import Iterator, Sequence

from openapi.contract import ContractError, Document, Node, deref


def json_schema(schema: Node, *, answer: bool = False) -> Node:
    """OpenAPI 3.0's dialect as JSON Schema draft 4, with what the server's validators alone judge.

    ``nullable`` becomes a type, ``x-pattern`` a ``pattern``, and ``x-also-accepts`` a choice. The texts of an
    ``answer`` may contain any character, since they may be older than the rule about them.
    """
    if isinstance(schema, list):
        return [json_schema(each, answer=answer) for each in schema]
    if not isinstance(schema, dict):
        return schema
    left_out = {"example", "nullable", "x-pattern", "x-also-accepts"}
    if answer and "x-text" in schema:
        left_out.add("not")
    result = {key: json_schema(value, answer=answer) for key, value in schema.items() if key not in left_out}
    if schema.get("nullable"):
        result["type"] = [schema["type"], "null"]
    if "x-pattern" in schema:
        result["pattern"] = schema["x-pattern"]
    if "x-also-accepts" in schema:
        other = json_schema(schema["x-also-accepts"], answer=answer)
        return {"x-expects": result.pop("x-expects"), "anyOf": [result, other]}
    return result


ESCAPED = 6
"""The bytes of the dearest character in JSON: a control character, written as an escape."""

ANY_SCALAR = 40
"""The bytes of a number, a literal or an instant, and of a member's quotes, colon and comma."""

DATE_FORMATS = ("date", "date-time")
"""The formats that stand alone, without ``pattern`` and ``maxLength``: each says all about its texts."""


def largest_json(document: Document, schema: Node, character: int = ESCAPED) -> int:
    """How many bytes the longest JSON that a schema admits has, where each character of a text takes so many.

    Raises ContractError where the schema sets no bound.
    """
    schema = deref(document, schema)
    if "x-max-bytes" in schema:
        return int(schema["x-max-bytes"])
    if branches := schema.get("oneOf"):
        return max(largest_json(document, each, character) for each in branches)
    kinds = schema.get("type", "")
    if "properties" in schema:
        members = schema["properties"].items()
        return sum(len(name) + ANY_SCALAR + largest_json(document, each, character) for name, each in members)
    if "array" in kinds:
        return ANY_SCALAR + int(schema["maxItems"]) * largest_json(document, schema["items"], character)
    if "string" in kinds and "enum" not in schema and schema.get("format") not in DATE_FORMATS:
        return ANY_SCALAR + character * int(schema["maxLength"])
    if "object" in kinds:
        raise ContractError(f"an object that sets no bound: {schema.get('description', schema)}")
    return ANY_SCALAR


def list_path(document: Document, schema: Node) -> tuple[str, ...]:
    """The names that lead to the largest list in an object; empty where it has none."""
    paths = [path for path in _paths(document, schema) if "maxItems" in at_path(document, schema, path)]
    return max(paths, key=lambda path: largest_json(document, at_path(document, schema, path)), default=())


def _paths(document: Document, schema: Node) -> Iterator[tuple[str, ...]]:
    """The names that lead to each member of an object and of the objects in it."""
    for name, each in deref(document, schema).get("properties", {}).items():
        yield (name,)
        yield from ((name, *path) for path in _paths(document, each))


def at_path(document: Document, schema: Node, path: Sequence[str]) -> Node:
    """The schema of the member to which the names lead."""
    for name in path:
        schema = deref(document, schema)["properties"][name]
    return deref(document, schema)
