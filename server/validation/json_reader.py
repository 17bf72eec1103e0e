"""Strict JSON: one value for each text, on which all parsers agree."""

import json
import re
from decimal import Decimal, InvalidOperation
from typing import Any, NoReturn

# --- JSON --------------------------------------------------------------------------------------------


class InvalidJson(ValueError):
    """The text is not strict JSON; the message is for the caller."""


def _members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise InvalidJson("The body names a member of an object twice.")
    for name, value in pairs:
        if isinstance(value, str) and "\r" in value:
            result[name] = with_line_feeds(value)
    return result


def with_line_feeds(text: str) -> str:
    """The text with LF at the end of each line, as HTML and XML read it."""
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _constant(_: str) -> NoReturn:
    raise InvalidJson("The body is not valid JSON: NaN and Infinity are not numbers there.")


HUGE, TINY = 10**40, Decimal("1e-40")
"""Beyond every bound of the contract, and cheap to hold, unlike an integer of a million digits."""


def parse_integer(text: str) -> int:
    """The integer that digits stand for, or one as far out of bounds."""
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
                raise InvalidJson("The body holds a character that is not allowed: a lone surrogate.")
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
