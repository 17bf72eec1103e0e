"""A request that carries an ``Idempotency-Key``: it is done once, and answered the same however often."""

import base64
import hashlib
import json
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import orjson

from handlers.caller import Caller
from persistence import idempotency
from persistence.database import Connection
from persistence.errors import Conflict
from persistence.sealing import Box, Unsealable
from server.http.reply import Reply

KEPT_WHOLE = 4 * 1024
"""How many bytes an answer may have of which no text is kept apart."""

LONG = 100
"""How many characters a text may have that is never kept apart."""

# No text of an answer has a NUL: what callers send is refused with one, and receivers' answers lose it.
MARK = "\0"
"""Begins what stands for a long text in a kept answer, and the answer itself, which is compressed then."""


class Replayed(Exception):
    """The request was done before; this is its answer."""

    def __init__(self, reply: Reply) -> None:
        super().__init__()
        self.reply = reply


def fingerprint(method: str, path: bytes, body: bytes) -> str:
    """What two requests with one key must have in common."""
    return hashlib.sha256(b"\0".join((method.encode(), path, body))).hexdigest()


@dataclass(frozen=True)
class IdempotentRequest:
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

    def _context(self, name: str) -> str:
        """What a sealed text of this owner is bound to: the key of an answer, or the digest of a text."""
        return f"idempotency:{self.owner}:{name}"

    async def claim(self, db: Connection) -> None:
        """Take the key. Raises Replayed, Conflict, Busy."""
        kept = await idempotency.claim(db, self.owner, self.key, self.fingerprint, self.now)
        if kept is not None:
            headers = json.loads(kept.headers) | {"Idempotent-Replayed": "true"}
            try:
                text = self.box.open(kept.body, self._context(self.key))
                whole = not text.startswith(MARK)
                body = text.encode() if whole else await self._restored(db, text, kept.created_at)
            except Unsealable:
                raise Conflict(
                    "The stored response of this Idempotency-Key can no longer be read;"
                    " check whether the request took effect."
                ) from None
            raise Replayed(Reply(kept.status, body, headers=headers))

    async def keep(self, db: Connection, reply: Reply) -> None:
        """Keep the answer, in the transaction of what was done."""
        small = len(reply.body) <= KEPT_WHOLE
        text = reply.body.decode() if small else await self._keep_texts(db, reply.content)
        await idempotency.keep(
            db,
            self.owner,
            self.key,
            status=reply.status,
            headers=json.dumps(dict(reply.headers)),
            body=self.box.seal(text, self._context(self.key)),
        )

    async def _keep_texts(self, db: Connection, content: Any) -> str:
        """Keep the long texts of an answer; the answer with their marks in their place, compressed."""
        texts: dict[str, str] = {}

        def mark(text: str) -> str:
            if len(text) <= LONG:
                return text
            # 128 bits: an answer may have a hundred of them, and they tell texts of one caller apart.
            digest = hashlib.sha256(f"{self.owner}:{text}".encode()).hexdigest()[:32]
            texts[digest] = text
            return MARK + digest

        marked, day = zlib.compress(orjson.dumps(_with_texts(content, mark))), self.now.date()
        lacking = await idempotency.lacking(db, self.owner, day, list(texts))
        sealed = {each: self.box.seal(texts[each], self._context(each)) for each in lacking}
        await idempotency.keep_texts(db, self.owner, day, sealed)
        return MARK + base64.b64encode(marked).decode()

    async def _restored(self, db: Connection, marked: str, kept_at: datetime) -> bytes:
        """The JSON of an answer whose long texts were kept apart. Raises Unsealable."""
        content = orjson.loads(zlib.decompress(base64.b64decode(marked.removeprefix(MARK))))
        marks: set[str] = set()
        _with_texts(content, lambda text: marks.add(text) if text.startswith(MARK) else None)
        digests = [each.removeprefix(MARK) for each in marks]
        sealed = await idempotency.texts(db, self.owner, kept_at.date(), digests)
        if len(sealed) < len(digests):
            raise Unsealable("A text of this response is no longer stored.")
        texts = {MARK + each: self.box.open(text, self._context(each)) for each, text in sealed.items()}
        return orjson.dumps(_with_texts(content, lambda text: texts.get(text, text)))


def _with_texts(node: Any, change: Callable[[str], Any]) -> Any:
    """A copy of an answer's content in which each text is what ``change`` makes of it."""
    if isinstance(node, dict):
        return {name: _with_texts(each, change) for name, each in node.items()}
    if isinstance(node, list):
        return [_with_texts(each, change) for each in node]
    return change(node) if isinstance(node, str) else node
