"""The payload of a webhook and its signatures. Pure: randomness and time are arguments.

An event is frozen as its *base*, ``{"event":…,"timestamp":…,"data":…}``. What is sent is the base with one
last member, ``"signature":"sha256=" + hex(HMAC-SHA256(K, base))``, so the tail that a receiver cuts off
always has the same length. The headers of the same request are those of Standard Webhooks, and cover the
body as it is sent. K is what the secret says after ``whsec_``, in base64.
"""

import base64
import hashlib
import hmac
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import orjson

PREFIX = "whsec_"
# A multiple of three, so that base64 needs no padding and every language's decoder agrees.
KEY_BYTES = 36
SECRET = re.compile(PREFIX + "[A-Za-z0-9+/]{48}")

TAIL = b',"signature":"sha256=%s"}'
TAIL_BYTES = len(TAIL % (b"0" * 64))

TOLERANCE = 5 * 60


def mint(random: Callable[[int], bytes]) -> str:
    """Return a new secret. ``random`` returns the requested number of unpredictable bytes."""
    return PREFIX + base64.b64encode(random(KEY_BYTES)).decode()


def key_of(secret: str) -> bytes:
    """Return the key of a secret. Raises ValueError if the secret is malformed."""
    if not SECRET.fullmatch(secret):
        raise ValueError("This is not a webhook secret.")
    return base64.b64decode(secret.removeprefix(PREFIX))


def signed_payload(event: str, timestamp: str, data: Mapping[str, Any]) -> bytes:
    """Return the signed payload of an event: compact JSON in UTF-8 without needless escapes.

    Raises TypeError on a float, which no two languages write alike (money is a string), and on an integer
    of more than 64 bits, which few can read.
    """
    _refuse_floats(data)
    return orjson.dumps({"event": event, "timestamp": timestamp, "data": data})


PLAIN = {str, int, bool, type(None)}
"""The types of most members. A lookup is faster than a function call."""


def _refuse_floats(value: object) -> None:
    if isinstance(value, float):
        raise TypeError("A float cannot be signed; write the amount as a string.")
    if isinstance(value, Mapping):
        for pair in value.items():
            for each in pair:
                if type(each) not in PLAIN:
                    _refuse_floats(each)
    elif isinstance(value, list | tuple):
        for each in value:
            _refuse_floats(each)


def body(key: bytes, base: bytes) -> bytes:
    """Return the body of an attempt: the payload with its signature as the last member."""
    return base[:-1] + TAIL % _hmac(key, base).hex().encode()


def headers(keys: Sequence[bytes], id: str, timestamp: int, body: bytes) -> dict[str, str]:
    """Return the headers of an attempt, with a signature for each key. ``timestamp`` is Unix time."""
    return {
        "webhook-id": id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": " ".join(_header_signature(key, id, str(timestamp), body) for key in keys),
    }


def verify_body(key: bytes, body: bytes) -> bool:
    """Return whether the body has the signature of a key: cut off the signature, and restore the brace."""
    tail = TAIL % _hmac(key, body[:-TAIL_BYTES] + b"}").hex().encode()
    return hmac.compare_digest(tail, body[-TAIL_BYTES:])


def verify_headers(key: bytes, headers: Mapping[str, str], body: bytes, now: float) -> bool:
    """Return whether the headers, by lower-case name, have a key's signature and a time near ``now``."""
    id, timestamp, signatures = (
        headers.get(f"webhook-{each}", "") for each in ("id", "timestamp", "signature")
    )
    if not (timestamp.isascii() and timestamp.isdigit() and abs(now - int(timestamp)) <= TOLERANCE):
        return False
    expected = _header_signature(key, id, timestamp, body).encode()
    return any(hmac.compare_digest(expected, each) for each in signatures.encode().split(b" "))


def _header_signature(key: bytes, id: str, timestamp: str, body: bytes) -> str:
    signed = b".".join((id.encode(), timestamp.encode(), body))
    return "v1," + base64.b64encode(_hmac(key, signed)).decode()


def _hmac(key: bytes, signed: bytes) -> bytes:
    return hmac.digest(key, signed, hashlib.sha256)
