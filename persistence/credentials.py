"""What a secret looks like and how it is kept: never itself, only its SHA-256. Pure."""

import hashlib
import zlib
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any, Literal

from persistence.errors import Conflict

ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
BODY = 30
CHECK = 6

LAST_USED_RESOLUTION = timedelta(minutes=1)
"""How exactly the last use of a credential is kept."""

Prefix = Literal["cbt_", "arc_"]
PREFIXES: tuple[Prefix, ...] = ("cbt_", "arc_")


def _checksum(text: str) -> str:
    number, digits = zlib.crc32(text.encode()), ""
    for _ in range(CHECK):
        number, digit = divmod(number, len(ALPHABET))
        digits = ALPHABET[digit] + digits
    return digits


def mint(prefix: Prefix, choose: Callable[[str], str]) -> str:
    """A new secret; ``choose`` picks one character of a text, unpredictably."""
    body = prefix + "".join(choose(ALPHABET) for _ in range(BODY))
    return body + _checksum(body)


def may_exist(secret: str) -> bool:
    """Whether a secret can be in the database at all: one with our prefix must carry its checksum."""
    if not secret.startswith(PREFIXES):
        return True
    return len(secret) == 4 + BODY + CHECK and _checksum(secret[:-CHECK]) == secret[-CHECK:]


def digest(secret: str) -> str:
    """What is kept of a secret. It is random and long, so a fast hash is enough."""
    return hashlib.sha256(secret.encode()).hexdigest()


def credential_columns(secret: str, now: datetime, expires_at: datetime | None) -> dict[str, Any]:
    """The columns that are kept of a new secret. Raises Conflict where it would be dead at once."""
    if expires_at is not None and expires_at <= now:
        raise Conflict("The expires_at has passed already; choose an instant to come, or none.")
    return {
        "digest": digest(secret),
        "beginning": secret[:8],
        "created_at": now,
        "expires_at": expires_at,
    }
