"""A request that carries an ``Idempotency-Key``: it is done once, and answered the same however often."""

import hashlib
import json
from dataclasses import dataclass
from datetime import datetime

from handlers.caller import Caller
from persistence import idempotency
from persistence.database import Connection
from persistence.errors import Conflict
from persistence.sealing import Box, Unsealable
from server.transport import Reply


class Replayed(Exception):
    """The request was done before; this is its answer."""

    def __init__(self, reply: Reply) -> None:
        super().__init__()
        self.reply = reply


def fingerprint(method: str, path: bytes, body: bytes) -> str:
    """What two requests with one key must have in common."""
    return hashlib.sha256(b"\0".join((method.encode(), path, body))).hexdigest()


@dataclass(frozen=True)
class Keyed:
    """One request with a key. Its answer is kept sealed, since it may show a secret that is shown once."""

    box: Box
    caller: Caller
    key: str
    fingerprint: str
    now: datetime

    @property
    def owner(self) -> str:
        """Whose key it is: the client's whatever its token, the API key's, or the operator's."""
        return f"{self.caller.actor}:{self.caller.actor_id}"

    @property
    def context(self) -> str:
        return f"idempotency:{self.owner}:{self.key}"

    async def claim(self, db: Connection) -> None:
        """Take the key. Raises Replayed, Conflict, Busy."""
        kept = await idempotency.claim(db, self.owner, self.key, self.fingerprint, self.now)
        if kept is not None:
            headers = json.loads(kept.headers) | {"Idempotent-Replayed": "true"}
            try:
                body = self.box.open(kept.body, self.context).encode()
            except Unsealable:
                raise Conflict(
                    "The answer to this Idempotency-Key cannot be read any more; look whether it was done."
                ) from None
            raise Replayed(Reply(kept.status, body, headers=headers))

    async def keep(self, db: Connection, reply: Reply) -> None:
        """Keep the answer, in the transaction of what was done."""
        await idempotency.keep(
            db,
            self.owner,
            self.key,
            status=reply.status,
            headers=json.dumps(dict(reply.headers)),
            body=self.box.seal(reply.body.decode(), self.context),
        )
