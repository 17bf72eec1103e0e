"""A cache of credentials, so that most requests need no query to identify their caller."""

import math
import time
from collections import OrderedDict
from datetime import datetime

from persistence import credentials
from server.request.security import Credential, Identity

LIFETIME_SECONDS = 5
"""How long an entry stays valid at most, if no other process reports that a credential was revoked."""

MAX_ENTRIES = 10_000


class CredentialCache:
    """Identities by credential. An entry is valid for one generation (``Counters.credential_generation``)."""

    def __init__(self) -> None:
        # The key has the digest of the secret, as the database does.
        self.entries: OrderedDict[tuple[str, bool], tuple[Identity, bytes, float]] = OrderedDict()

    def get(self, credential: Credential, now: datetime) -> tuple[Identity, bytes] | None:
        """Return the identity and its credential generation, or None if there is no valid entry."""
        identity, generation, until = self.entries.get(_key(credential)) or (Identity(), b"", -math.inf)
        if until <= time.monotonic() or (identity.expires_at and identity.expires_at <= now):
            return None
        return identity, generation

    def put(self, credential: Credential, identity: Identity, generation: bytes | None) -> None:
        """Store an identity. ``generation`` must be older than the query that found the identity."""
        if identity.caller is None or generation is None:
            return
        key = _key(credential)
        self.entries[key] = identity, generation, time.monotonic() + LIFETIME_SECONDS
        self.entries.move_to_end(key)
        if len(self.entries) > MAX_ENTRIES:
            self.entries.popitem(last=False)

    def evict(self, credential: Credential) -> None:
        """Remove an entry, so that the next request queries the database."""
        self.entries.pop(_key(credential), None)


def _key(credential: Credential) -> tuple[str, bool]:
    return credentials.digest(credential.secret or ""), credential.in_query
