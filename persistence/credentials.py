"""Secrets of callers: their format, and what tokens and API keys store of them, which is only a digest."""

import hashlib
import zlib
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any, Literal

from sqlalchemy import BigInteger, Index, Select, String, Update, bindparam, or_, select, text, update
from sqlalchemy.orm import Mapped, mapped_column

from persistence.errors import Conflict
from persistence.types import UtcDateTime

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
        raise Conflict("The expires_at field is in the past; use a later instant, or leave it out.")
    return {
        "digest": digest(secret),
        "beginning": secret[:8],
        "created_at": now,
        "expires_at": expires_at,
    }


class CredentialColumns:
    """The columns that tokens and API keys share."""

    digest: Mapped[str] = mapped_column(String(64), unique=True)
    beginning: Mapped[str] = mapped_column(String(8))
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    expires_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    last_used_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    revoked_at: Mapped[datetime | None] = mapped_column(UtcDateTime)


def live_index(name: str, *columns: str) -> Index:
    """Return an index of the credentials that are not revoked."""
    live = text("revoked_at IS NULL")
    return Index(name, *columns, sqlite_where=live, postgresql_where=live)


def select_live(table: Any, *columns: Any) -> Select[Any]:
    """Return the ``SELECT`` of the credential with the digest ``secret_digest`` that is valid ``now``."""
    known = (table.c.id, *columns, table.c.digest, table.c.expires_at, table.c.last_used_at)
    now = bindparam("now", type_=UtcDateTime)
    return select(*known).where(
        table.c.digest == bindparam("secret_digest"),
        table.c.revoked_at.is_(None),
        or_(table.c.expires_at.is_(None), table.c.expires_at > now),
    )


def revoke_by_id(table: Any) -> Any:
    """Return the ``UPDATE`` that revokes the credential ``key`` unless it is revoked. It returns the id."""
    return (
        update(table)
        .values(revoked_at=bindparam("now", type_=UtcDateTime))
        .where(table.c.id == bindparam("key", type_=BigInteger), table.c.revoked_at.is_(None))
        .returning(table.c.id)
    )


def record_use_by_id(table: Any) -> Update:
    """Return the ``UPDATE`` that stores ``now`` as the last use of ``key`` unless one after ``before`` is."""
    before = bindparam("before", type_=UtcDateTime)
    return (
        update(table)
        .values(last_used_at=bindparam("now", type_=UtcDateTime))
        .where(
            table.c.id == bindparam("key", type_=BigInteger),
            or_(table.c.last_used_at.is_(None), table.c.last_used_at <= before),
        )
    )
