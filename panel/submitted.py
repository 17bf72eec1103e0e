"""Read submitted forms: their limits, their origin, and the object that they describe."""

import asyncio
import hmac
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple
from urllib.parse import unquote_to_bytes, urlsplit

from starlette.requests import Request

from panel.fields import INSTANT, Field, _row

CONTENT_TYPE = "application/x-www-form-urlencoded"

MAX_FIELDS = 2000


class Bounds(NamedTuple):
    """The bytes of a form, and the seconds in which it must arrive."""

    size: int
    seconds: float


FORM = Bounds(2 * 1024 * 1024, 30.0)
"""The longest text of the contract has 80,000 characters, each of which may take twelve bytes."""

SIGN_IN = Bounds(8 * 1024, 5.0)
"""A name of 100 characters and a password of 200 take 3,600 bytes."""

PIECE = 8 * 1024
"""Bytes that are decoded at once, in 3 ms at most; then other calls go on."""


# --- What was sent -----------------------------------------------------------------------------------


class BadForm(Exception):
    """The request has no form of this panel. The message is for the operator.

    Where the form was not read to its end, its connection is closed, since what follows there belongs to it.
    """

    def __init__(self, status: int, message: str, *, close: bool = False) -> None:
        super().__init__(message)
        self.status = status
        self.headers = {"Connection": "close"} if close else {}


Sent = Mapping[str, list[str]]


def check_headers(request: Request) -> None:
    """Refuse a request that no page of the panel sends, before its body is read. Raises BadForm."""
    _refuse_foreign(request)
    if request.headers.get("content-type", "").partition(";")[0].strip() != CONTENT_TYPE:
        raise BadForm(415, f"Only forms are accepted here, with the Content-Type {CONTENT_TYPE}.", close=True)


async def read(request: Request, token: str | None, bounds: Bounds = FORM) -> Sent:
    """The fields of a form that one of our own pages sent. Raises BadForm.

    ``token`` is what only a page of this session has; None where there is no session yet.
    """
    check_headers(request)
    try:
        async with asyncio.timeout(bounds.seconds):
            body = await _body(request, bounds.size)
    except TimeoutError:
        message = f"The form did not arrive within {bounds.seconds:g} seconds; send it again."
        raise BadForm(408, message, close=True) from None
    try:
        pairs = await _pairs(body)
    except ValueError:
        raise BadForm(
            400, f"The form cannot be read; it must be URL-encoded UTF-8 of at most {MAX_FIELDS} fields."
        ) from None
    sent: dict[str, list[str]] = {}
    for name, value in pairs:
        sent.setdefault(name, []).append(value.replace("\r\n", "\n").replace("\r", "\n"))
    if token is not None and not hmac.compare_digest(one(sent, "_csrf").encode(), token.encode()):
        raise BadForm(
            403, "This form belongs to another session; go back, reload the page and send it again."
        )
    return sent


async def _body(request: Request, size: int) -> bytes:
    """The whole body. Raises BadForm over ``size`` bytes, before any is read where its length says so."""
    length = request.headers.get("content-length", "")
    body = bytearray()
    if not (length.isdecimal() and int(length) > size):
        async for chunk in request.stream():
            body += chunk
            if len(body) > size:
                break
        else:
            return bytes(body)
    raise BadForm(413, f"The form is too large; it may have at most {size // 1024} KiB.", close=True)


async def _pairs(body: bytes) -> list[tuple[str, str]]:
    """The names and values of URL-encoded fields. Raises ValueError.

    ``parse_qsl`` decodes in single steps that take 800 ms for 2 MiB, and 190 ms of them even in a thread,
    since a call of C code keeps the interpreter's lock. So other calls go on after each piece.
    """
    if not body.isascii() or body.count(b"&") >= MAX_FIELDS:
        raise ValueError
    pairs, decoded_at_once = [], 0
    for field in body.replace(b"+", b" ").split(b"&"):
        texts = []
        for raw in field.partition(b"=")[::2]:
            decoded = bytearray()
            for piece in _pieces(raw):
                decoded += unquote_to_bytes(piece)
                decoded_at_once += len(piece)
                if decoded_at_once >= PIECE:
                    await asyncio.sleep(0)
                    decoded_at_once = 0
            texts.append(decoded.decode())
        if field:
            pairs.append((texts[0], texts[1]))
    return pairs


def _pieces(raw: bytes) -> Iterator[bytes]:
    """Cut what is URL-encoded, but through no escape of three bytes."""
    start = 0
    while start < len(raw):
        escape = raw.find(b"%", start + PIECE - 2, start + PIECE)
        end = escape if escape > 0 else start + PIECE
        yield raw[start:end]
        start = end


def _refuse_foreign(request: Request) -> None:
    """Browsers say where a form comes from; one that does not say it is not taken either."""
    site, origin = request.headers.get("sec-fetch-site"), request.headers.get("origin")
    if site is None and origin is None:
        raise BadForm(403, "Your browser did not say where this form comes from.", close=True)
    own = origin is None or urlsplit(origin).netloc == request.headers.get("host")
    if not own or site not in (None, "same-origin"):
        raise BadForm(403, "This form was sent from another site.", close=True)


def one(sent: Sent, name: str) -> str:
    """The value of a field, "" where it is missing."""
    return sent.get(name, [""])[0]


def request_headers(kind: str, sent: Sent) -> dict[str, str]:
    """Return the headers of a form's request: its idempotency key, or the version that its sender saw."""
    if kind in ("create", "verb"):
        return {"Idempotency-Key": one(sent, "_key")}
    etag = one(sent, "_etag")
    return {"If-Match": etag} if etag else {}


def object_of(fields: Sequence[Field], sent: Sent) -> dict[str, Any]:
    """Return the object of a form, without empty fields."""
    result: dict[str, Any] = {}
    for each in fields:
        name = each.name.rpartition(".")[2]
        value: Any
        if each.kind == "group":
            value = object_of(each.fields, sent)
        elif each.kind == "lines":
            value = [row for row in _rows(each, sent) if row]
        elif each.kind == "checks":
            value = sent.get(each.name, [])
        else:
            value = _value(each.kind, one(sent, each.name))
        if value not in ("", [], {}):
            result[name] = value
    return result


def _rows(field: Field, sent: Sent) -> Iterator[dict[str, Any]]:
    numbers = {int(match[1]) for name in sent if (match := re.match(rf"{field.name}\.(\d{{1,4}})\.", name))}
    for nth in sorted(numbers):
        yield object_of(_row(field, nth), sent)


def _value(kind: str, text: str) -> Any:
    """Return the value of a text. The contract explains texts without one."""
    if kind == "number" and re.fullmatch(r"-?\d{1,19}", text, re.ASCII):
        return int(text)
    if kind == "yesno":
        return {"yes": True, "no": False}.get(text, text)
    if kind == "instant" and (match := INSTANT.fullmatch(text)):
        return f"{text}{'' if match[1] else ':00'}Z"
    return text


def changes(fields: Sequence[Field], item: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """The members of ``given`` that differ from the object's, and those that were cleared."""
    result: dict[str, Any] = {}
    for each in fields:
        before, after = item.get(each.name), given.get(each.name)
        if each.kind == "group":
            before = {name: value for name, value in (before or {}).items() if value is not None}
            after = after or {}
        elif after is None:
            after = [] if each.kind == "checks" else ""
            before = before or after
        if after != before:
            result[each.name] = after
    return result
