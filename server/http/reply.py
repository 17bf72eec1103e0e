"""The response of the server and how it is sent over ASGI."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from starlette.types import Send


@dataclass(slots=True)
class Reply:
    """A response. The class is not frozen, since that costs as much as the rest of sending."""

    status: int
    body: bytes
    content_type: str = "application/json"
    headers: Mapping[str, str] = field(default_factory=dict)
    close: bool = False
    content: Any = None
    """The value that ``body`` is the JSON of, if a handler has just returned it."""


async def send_reply(send: Send, reply: Reply) -> None:
    """Send a response. uvicorn omits the body of a response to HEAD, and keeps its length."""
    body, headers = reply.body, [(_name(key), text.encode("latin-1")) for key, text in reply.headers.items()]
    if reply.status == 304:
        body = b""
    else:
        headers += (b"content-type", _name(reply.content_type)), (b"content-length", b"%d" % len(body))
    if reply.close:
        headers.append((b"connection", b"close"))
    await send({"type": "http.response.start", "status": reply.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


@lru_cache(200)
def _name(text: str) -> bytes:
    """Encode a header name or a media type in lower case."""
    return text.lower().encode("latin-1")
