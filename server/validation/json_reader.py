"""Strict JSON: one value for each text, on which all parsers agree."""

import json
import re
from decimal import Decimal, InvalidOperation
from typing import Any, NoReturn

# --- JSON --------------------------------------------------------------------------------------------


class InvalidJson(ValueError):
    """The text is not strict JSON. The message is for the caller."""


def _members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise InvalidJson("An object in the body has a member twice.")
    for name, value in pairs:
        if isinstance(value, str) and "\r" in value:
            result[name] = with_line_feeds(value)
    return result


def with_line_feeds(text: str) -> str:
    """Return the text with LF at the end of each line, as HTML and XML do."""
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _constant(_: str) -> NoReturn:
    raise InvalidJson("The body is not valid JSON: NaN and Infinity are not numbers there.")


HUGE, TINY = 10**40, Decimal("1e-40")
"""Numbers beyond every bound of the contract. They replace numbers of a million digits, which cost memory."""


def parse_integer(text: str) -> int:
    """Return the integer of a text, or one that is out of bounds as well if the text is long."""
    if len(text) <= 40:
        return int(text)
    return -HUGE if text.startswith("-") else HUGE


def _number(text: str) -> int | Decimal:
    if len(text) > 400:
        raise InvalidJson("The body has a number of more than 400 characters.")
    try:
        value = Decimal(text)
    except InvalidOperation:
        raise InvalidJson("The body has a number with an exponent of more than 18 digits.") from None
    if value and abs(value.adjusted()) > 40:
        return int(Decimal(HUGE).copy_sign(value)) if value.adjusted() > 0 else TINY.copy_sign(value)
    # JSON Schema counts 1.0 and 1e2 as integers, and handlers calculate with integers.
    return int(value) if value == value.to_integral_value() else value


_decoder = json.JSONDecoder(
    object_pairs_hook=_members, parse_constant=_constant, parse_int=parse_integer, parse_float=_number
)


MAX_VALUES = 10_000
"""The number of values that a body may have. No body of the contract has a tenth of them."""

# A string without an end matches up to the end of the body, so the expression scans no byte twice.
VALUE = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+(?:"|\\?\Z)|[,\[{]', re.DOTALL)


def has_too_many_values(body: bytes) -> bool:
    """Return whether a JSON text has more than ``MAX_VALUES`` values, without parsing it."""
    if body.count(b",") + body.count(b"[") + body.count(b"{") + body.count(b'"') <= MAX_VALUES:
        return False
    # A string together with a comma or a bracket makes one value at most.
    return any(nth >= 2 * MAX_VALUES for nth, _ in enumerate(VALUE.finditer(body)))


def parse_json(body: bytes) -> Any:
    """Parse a JSON text in UTF-8. Numbers become integers or Decimals, and lines of members end with LF.

    Raises InvalidJson for what other parsers let pass: duplicate members, NaN, lone surrogates, a byte order
    mark, for nesting deeper than Python's stack, and for more than ``MAX_VALUES`` values.
    """
    if has_too_many_values(body):
        raise InvalidJson(f"The body has more than {MAX_VALUES:,} values.")
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError:
        raise InvalidJson("The body is not valid UTF-8.") from None
    if text.startswith("\ufeff"):
        raise InvalidJson("The body begins with a byte order mark (BOM); send it without one.")
    try:
        value = _decoder.decode(text)
    except InvalidJson:
        raise
    except json.JSONDecodeError as error:
        raise InvalidJson(
            f"The body is not valid JSON (line {error.lineno}, column {error.colno})."
        ) from None
    except RecursionError:
        raise InvalidJson("The body is nested too deeply.") from None
    # UTF-8 has no lone surrogate, so only an escape can produce one.
    if "\\u" in text:
        _refuse_surrogates(value)
    return value


def _refuse_surrogates(value: Any) -> None:
    stack = [value]
    while stack:
        each = stack.pop()
        if isinstance(each, str):
            if not _is_encodable(each):
                raise InvalidJson("The body holds a character that is not allowed: a lone surrogate.")
        elif isinstance(each, dict):
            stack.extend(each)
            stack.extend(each.values())
        elif isinstance(each, list):
            stack.extend(each)


def _is_encodable(text: str) -> bool:
    """Return whether a text has no lone surrogate."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
