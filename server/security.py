"""The contract's security schemes: which credential a request carries, whose it is, what it may do."""

import hmac
import math
import re
import time
from collections import OrderedDict
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
from server.transport import header

BEARER = re.compile(r"bearer +([\x21-\x7e]+)", re.IGNORECASE)
SECRET = re.compile(r"[\x21-\x7e]+")

DIALECTS: dict[str, type[Dialect]] = {"client": ClientDialect, "admin": AdminDialect}
PREFIXES: dict[str, type[Dialect]] = {"cbt_": ClientDialect, "arc_": AdminDialect}


class Credential(NamedTuple):
    """What a request carries: a secret, or something that cannot be one (``secret`` is None)."""

    secret: str | None
    in_query: bool


@dataclass(frozen=True)
class Identity:
    """Who is calling, in which dialect as far as the credential says, when it ends and was used last."""

    caller: Caller | None = None
    dialect: type[Dialect] | None = None
    expires_at: datetime | None = None
    last_used_at: datetime | None = None


def carried(scope: Scope) -> Credential | None:
    """The credential of a request, from its header and its ``api_token``. None if it has none.

    An empty ``api_token`` is absent.
    """
    given, query, tokens = header(scope, b"authorization"), scope["query_string"], []
    found = [match.group(1) if (match := BEARER.fullmatch(value.strip())) else None for value in given]
    if b"api_token" in query or b"%" in query:
        pairs = parse_qsl(query.decode("latin-1"), keep_blank_values=True)
        # Generated clients write an empty one where none is configured.
        tokens = [value for name, value in pairs if name == "api_token" and value]
        found += [value if SECRET.fullmatch(value) else None for value in tokens]
    if not found:
        return None
    # Two of a kind, and two that differ, name nobody.
    one = len(given) <= 1 and len(tokens) <= 1 and len(set(found)) == 1
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
            caller = Caller.client(token.id, token.client_id)
            return Identity(caller, ClientDialect, token.expires_at, token.last_used_at)
    if prefix is not ClientDialect:
        key = await api_keys.find(db, secret, now)
        if key is not None and hmac.compare_digest(key.digest, digest):
            # In the query a key would lie in logs, so there it opens nothing.
            operator = None if credential.in_query else Caller.admin(key.id, key.scopes, key.expires_at)
            return Identity(operator, AdminDialect, key.expires_at, key.last_used_at)
    return Identity(dialect=prefix or fallback)


KNOWN_SECONDS = 5
"""How long a credential that was found is trusted at most, where nobody is told that it ended."""

MOST_KNOWN = 10_000


class Known:
    """The credentials that were found lately, so that not every call asks the database.

    One is trusted in a call whose count brings along the same epoch that was known before it was looked
    up: whatever ends a credential replaces the epoch before it is answered.
    """

    def __init__(self) -> None:
        # By its digest, as in the database.
        self.kept: OrderedDict[tuple[str, bool], tuple[Identity, bytes, float]] = OrderedDict()

    def get(self, credential: Credential, now: datetime) -> tuple[Identity, bytes] | None:
        """Who it was, and in which epoch; None where nobody knows any more."""
        identity, epoch, until = self.kept.get(_kept_as(credential)) or (Identity(), b"", -math.inf)
        if until <= time.monotonic() or (identity.expires_at and identity.expires_at <= now):
            return None
        return identity, epoch

    def keep(self, credential: Credential, identity: Identity, epoch: bytes | None) -> None:
        """Remember whose a credential is; ``epoch`` must have been known before that was looked up."""
        if identity.caller is None or epoch is None:
            return
        key = _kept_as(credential)
        self.kept[key] = identity, epoch, time.monotonic() + KNOWN_SECONDS
        self.kept.move_to_end(key)
        if len(self.kept) > MOST_KNOWN:
            self.kept.popitem(last=False)

    def forget(self, credential: Credential) -> None:
        """Look it up again the next time."""
        self.kept.pop(_kept_as(credential), None)


def _kept_as(credential: Credential) -> tuple[str, bool]:
    return credentials.digest(credential.secret or ""), credential.in_query


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
