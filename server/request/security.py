"""The security schemes of the contract: read a credential, identify its owner, authorize the owner."""

import hmac
import re
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple
from urllib.parse import parse_qsl

from starlette.types import Scope

from handlers.caller import Caller
from handlers.dialects import AdminDialect, ClientDialect, Dialect
from persistence import api_keys, credentials, tokens
from persistence.database import Connection
from server.errors import Problem
from server.http.headers import header_values

BEARER = re.compile(r"bearer +([\x21-\x7e]+)", re.IGNORECASE)
SECRET = re.compile(r"[\x21-\x7e]+")

DIALECTS: dict[str, type[Dialect]] = {"client": ClientDialect, "admin": AdminDialect}
PREFIXES: dict[str, type[Dialect]] = {"cbt_": ClientDialect, "arc_": AdminDialect}


class Credential(NamedTuple):
    """A credential as a request carries it. ``secret`` is None if it is malformed or ambiguous."""

    secret: str | None
    in_query: bool


@dataclass(frozen=True)
class Identity:
    """The owner of a credential, its dialect, its expiry and its last use."""

    caller: Caller | None = None
    dialect: type[Dialect] | None = None
    expires_at: datetime | None = None
    last_used_at: datetime | None = None


def read_credential(scope: Scope) -> Credential | None:
    """Return the credential of a request, from its ``Authorization`` header and its ``api_token``.

    Return None if the request has none. An empty ``api_token`` counts as absent.
    """
    given, query, tokens = header_values(scope, b"authorization"), scope["query_string"], []
    found = [match.group(1) if (match := BEARER.fullmatch(value.strip())) else None for value in given]
    if b"api_token" in query or b"%" in query:
        pairs = parse_qsl(query.decode("latin-1"), keep_blank_values=True)
        # Generated clients send an empty parameter if none is configured.
        tokens = [value for name, value in pairs if name == "api_token" and value]
        found += [value if SECRET.fullmatch(value) else None for value in tokens]
    if not found:
        return None
    # Two headers, two parameters, or two different secrets are ambiguous, so they identify no caller.
    one = len(given) <= 1 and len(tokens) <= 1 and len(set(found)) == 1
    return Credential(found[0] if one else None, bool(tokens))


async def identify(
    credential: Credential | None, db: Connection, now: datetime, *, demo: bool = True
) -> Identity:
    """Return the owner of a credential. Without ``demo`` only secrets with a known prefix have one.

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
            caller = Caller.client(token.id, token.client_id)
            return Identity(caller, ClientDialect, token.expires_at, token.last_used_at)
    if prefix is not ClientDialect:
        key = await api_keys.find(db, secret, now)
        if key is not None and hmac.compare_digest(key.digest, digest):
            # Logs record query strings, so an API key is not valid there.
            operator = None if credential.in_query else Caller.admin(key.id, key.scopes, key.expires_at)
            return Identity(operator, AdminDialect, key.expires_at, key.last_used_at)
    return Identity(dialect=prefix or fallback)


def authorize(
    caller: Caller | None, dialect: type[Dialect], audiences: frozenset[str], scope: str | None
) -> None:
    """Require a caller that may call an operation. Raises Problem 401 without a caller, else 403."""
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
            403,
            "This operation needs an API key."
            if caller.kind == "client"
            else "This operation needs a client's API token.",
        )
    if not caller.has_scope(scope):
        raise Problem(403, f"The API key lacks the scope {scope}.")
