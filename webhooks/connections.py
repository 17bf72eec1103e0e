"""The connections of deliveries: they bound the bytes and the time of an answer below the HTTP library.

aiohttp parses all that a read brings and answers for none of it: it skips interim answers without yielding
to the event loop, and it keeps what an idle connection sends. The bounds are therefore kept where the bytes
come in. This module imports aiohttp, so import it only where a session begins.
"""

import asyncio
import socket
import struct
from contextvars import ContextVar
from functools import partial
from typing import TYPE_CHECKING, Any

from aiohttp import ClientError, TCPConnector
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.client_proto import ResponseHandler

from webhooks.targets import lookup

if TYPE_CHECKING:
    from aiohttp import ClientRequest, ClientTimeout
    from aiohttp.client_reqrep import ConnectionKey
    from aiohttp.connector import Connection
    from aiohttp.tracing import Trace

READ_BYTES = 16 * 1024
"""How much of a body is read."""
HEAD_BYTES = 48 * 1024
"""How much may come beside the body: heads, interim answers, the framing of chunks, trailers."""
PIECE_BYTES = 4 * 1024
MAX_QUEUED = 32
"""How many parsed answers may wait to be read. One is usual; each takes some kilobytes."""
RESET = struct.pack("ii", 1, 0)
"""The value of SO_LINGER with which a socket that is closed resets its connection."""

deadline_at: ContextVar[float] = ContextVar("deadline_at")
"""When the delivery of the current task ends, by the clock of its event loop."""


class BadAnswer(ClientError):
    """An answer that a connection does not take. Its text is a sentence for the owner of the webhook."""


class BoundedConnection(ResponseHandler):
    """A connection that takes a bounded number of bytes for a bounded time, and none while it is idle."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop)
        self._left = 0
        self._expiry: asyncio.TimerHandle | None = None

    def begin(self, deadline: float) -> None:
        """Take an answer until the deadline, by the clock of the event loop."""
        self._left = READ_BYTES + HEAD_BYTES
        self._expiry = self._loop.call_at(deadline, self.fail, TimeoutError())

    def end(self) -> None:
        """Take no more bytes until the next delivery begins."""
        self._left = 0
        if self._expiry:
            self._expiry.cancel()
            self._expiry = None

    def fail(self, reason: Exception) -> None:
        """Abort the connection, and tell the reason to the delivery that uses it."""
        self._left = 0
        # With a parser, ``connection_lost`` would replace the reason.
        self._parser = None
        if self._payload is not None:
            self._payload.set_exception(reason)
        self.abort()
        self.set_exception(reason)

    def abort(self) -> None:
        """End the connection at once."""
        complete = self._payload is not None and self._payload.is_eof()
        if self.transport is not None and not self.transport.is_closing() and not complete:
            # Otherwise the kernel would keep the rest of a body that the receiver does not read.
            self.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        super().abort()

    def close(self) -> None:
        """End the connection at once. A receiver that does not read could keep a closing one open."""
        self.abort()

    def data_received(self, data: bytes) -> None:
        if not data:
            # The library asks its parser to go on with bytes that were counted before.
            super().data_received(data)
        while data and self._left > 0:
            # One read brings up to 256 KiB. The parser makes objects of all that it is given.
            piece = data[: min(PIECE_BYTES, self._left)]
            data = data[len(piece) :]
            self._left -= len(piece)
            super().data_received(piece)
            if len(self) > MAX_QUEUED:
                self.fail(BadAnswer(f"More than {MAX_QUEUED} answers came at once."))
        if data and self.is_connected():
            self._cut()

    def _cut(self) -> None:
        """End an answer that is too long. A body of which enough has come is still read."""
        self._left = 0
        self.force_close()
        if not self._expiry:
            self.fail(BadAnswer("The receiver sent something before it was asked."))
        elif self._payload is not None and self._payload.total_bytes >= READ_BYTES:
            self._pause_transport_reading()
        else:
            self.fail(BadAnswer(f"The headers and framing of the answer exceed {HEAD_BYTES // 1024} KiB."))


class BoundedConnector(TCPConnector):
    """A pool of bounded connections. A delivery states its end in ``deadline_at``."""

    def __init__(self, **options: Any) -> None:
        super().__init__(resolver=Resolver(), **options)
        self._factory = partial(BoundedConnection, loop=self._loop)  # type: ignore[assignment]

    async def connect(
        self, req: "ClientRequest", traces: "list[Trace]", timeout: "ClientTimeout"
    ) -> "Connection":
        connection = await super().connect(req, traces, timeout)
        assert isinstance(connection.protocol, BoundedConnection)
        connection.protocol.begin(deadline_at.get())
        return connection

    def _release(
        self, key: "ConnectionKey", protocol: ResponseHandler, *, should_close: bool = False
    ) -> None:
        assert isinstance(protocol, BoundedConnection)
        protocol.end()
        super()._release(key, protocol, should_close=should_close)


class Resolver(AbstractResolver):
    """Look names up in threads that nobody waits for."""

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        found = await lookup(host, port, family=family, flags=socket.AI_ADDRCONFIG)
        numeric = socket.AI_NUMERICHOST | socket.AI_NUMERICSERV
        return [
            ResolveResult(
                hostname=host, host=address[0], port=port, family=family, proto=protocol, flags=numeric
            )
            for family, _, protocol, _, address in found
        ]

    async def close(self) -> None:
        """Do nothing: a lookup that hangs cannot be ended."""
