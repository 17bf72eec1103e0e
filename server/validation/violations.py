"""What is wrong with a value, in words for the caller."""

import re
from dataclasses import dataclass
from typing import Any

from server.errors import ErrorDetail

JsonSchema = dict[str, Any]

SAFE_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")


@dataclass(frozen=True)
class Violation:
    """An error detail, and whether it reports a missing required field."""

    detail: ErrorDetail
    missing: bool = False


def shortened(message: str) -> str:
    """Return a message with at most the 500 characters that the contract allows."""
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


def expectation(keyword: str, schema: JsonSchema) -> str:
    """Return the end of a sentence that begins with "The amount field"."""
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
