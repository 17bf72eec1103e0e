"""The contract's security schemes: which credential a request carries, whose it is, what it may do."""

import hmac
import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from urllib.parse import parse_qsl

from handlers.caller import Caller
from handlers.dialects import AdminDialect, ClientDialect, Dialect
from persistence import api_keys, credentials, tokens
from persistence.database import Connection
from server.errors import Problem

BEARER = re.compile(r"bearer +([\x21-\x7e]+)", re.IGNORECASE)
SECRET = re.compile(r"[\x21-\x7e]+")

DIALECTS: dict[str, type[Dialect]] = {"client": ClientDialect, "admin": AdminDialect}
PREFIXES: dict[str, type[Dialect]] = {"cbt_": ClientDialect, "arc_": AdminDialect}


@dataclass(frozen=True)
class Credential:
    """What a request carries: a secret, or something that cannot be one (``secret`` is None)."""

    secret: str | None
    in_query: bool


@dataclass(frozen=True)
class Identity:
    """Who is calling, in which dialect as far as the credential says, and when it was used last."""

    caller: Caller | None = None
    dialect: type[Dialect] | None = None
    last_used_at: datetime | None = None


def carried(headers: Iterable[tuple[bytes, bytes]], query: bytes) -> Credential | None:
    """The credential of a request, from its header and its ``api_token``. None if it has none."""
    header = [value.decode("latin-1").strip() for name, value in headers if name == b"authorization"]
    tokens = []
    if b"api_token" in query or b"%" in query:
        pairs = parse_qsl(query.decode("latin-1"), keep_blank_values=True)
        tokens = [value for name, value in pairs if name == "api_token"]
    if not header and not tokens:
        return None
    matches = [BEARER.fullmatch(value) for value in header]
    found = [match.group(1) if match else None for match in matches]
    found += [value if SECRET.fullmatch(value) else None for value in tokens]
    # Two of a kind, and two that differ, name nobody.
    one = len(header) <= 1 and len(tokens) <= 1 and len(set(found)) == 1
    return Credential(found[0] if one else None, bool(tokens))


async def identify(
    credential: Credential | None, db: Connection, now: datetime, *, demo: bool = True
) -> Identity:
    """Whose credential it is; without ``demo`` only secrets of our own form are anybody's.

    Raises Unavailable.
    """
    if credential is None:
        return Identity()
    secret = credential.secret
    fallback = ClientDialect if credential.in_query else None
    if secret is None:
        return Identity(dialect=fallback)
    prefix = PREFIXES.get(secret[:4])
    if not credentials.may_exist(secret) or not (prefix or demo):
        return Identity(dialect=prefix or fallback)
    digest = credentials.digest(secret)
    if prefix is not AdminDialect:
        token = await tokens.find(db, secret, now)
        if token is not None and hmac.compare_digest(token.digest, digest):
            return Identity(Caller.client(token.id, token.client_id), ClientDialect, token.last_used_at)
    if prefix is not ClientDialect:
        key = await api_keys.find(db, secret, now)
        if key is not None and hmac.compare_digest(key.digest, digest):
            # In the query a key would lie in logs, so there it opens nothing.
            caller = None if credential.in_query else Caller.admin(key.id, key.scopes)
            return Identity(caller, AdminDialect, key.last_used_at)
    return Identity(dialect=prefix or fallback)


def admit(
    caller: Caller | None, dialect: type[Dialect], audiences: frozenset[str], scope: str | None
) -> None:
    """Let the caller of an operation in. Raises Problem: 401 without a caller, 403 if it may not."""
    if caller is None:
        raise Problem(
            401,
            "Authentication required or invalid token"
            if dialect is ClientDialect
            else "Missing or invalid API key",
            headers={"WWW-Authenticate": "Bearer"},
        )
    if caller.kind not in audiences:
        raise Problem(
            403, "This needs an API key." if caller.kind == "client" else "This needs a client's API token."
        )
    if not caller.may(scope):
        raise Problem(403, f"The API key lacks the scope {scope}.")


def exhausted(dialect: type[Dialect], seconds: int) -> Problem:
    """The refusal of a caller whose limit is used up, in the words of its document."""
    message = "Rate limit exceeded" if dialect is ClientDialect else "Too many requests"
    return Problem(429, message, headers={"Retry-After": str(seconds)})
