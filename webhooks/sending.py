"""One request to one receiver: it ends in time, reads little, follows nothing and tells nothing.

aiohttp takes a twelfth of the server's start, so it is imported where a session begins.
"""

import asyncio
import concurrent.futures
import errno
import threading
import time
from collections import deque
from collections.abc import Callable, Coroutine, Mapping
from contextlib import suppress
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from functools import partial
from typing import TYPE_CHECKING, Any

from yarl import URL

from webhooks.targets import NotCalled, guarded_socket

if TYPE_CHECKING:
    import aiohttp

DEADLINE = 15.0
KEPT_BYTES = 4 * 1024
MAX_RETRY_AFTER = 24 * 60 * 60
# Shorter than the five seconds after which common servers close: a request that meets a closing
# connection would count as a failure of its receiver.
KEEPALIVE_SECONDS = 4.0


@dataclass(frozen=True)
class DeliveryResponse:
    """What came of one attempt. ``error`` is None exactly when the receiver has taken the event.

    ``text`` is the beginning of the answer's body, safe to show; ``retry_after`` is in seconds.
    """

    status: int | None
    ms: int
    text: str
    error: str | None
    retry_after: int | None


class LoopCalls:
    """Calls functions in an event loop from another thread. One wake-up serves all that are queued."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.queue: deque[tuple[Callable[..., object], tuple[Any, ...]]] = deque()
        self.awake = False

    def call(self, function: Callable[..., object], *arguments: Any) -> None:
        """Queue a call. Raises RuntimeError if the loop is closed."""
        self.queue.append((function, arguments))
        if not self.awake:
            self.awake = True
            try:
                self.loop.call_soon_threadsafe(self._run)
            except RuntimeError:
                # The next call must be refused as well, or its caller would wait forever.
                self.awake = False
                raise

    def _run(self) -> None:
        # A call that is queued from here on wakes the loop again, so none is missed.
        self.awake = False
        while self.queue:
            function, arguments = self.queue.popleft()
            # The loop reports the failure of one call and still makes the others.
            self.loop.call_soon(function, *arguments)


Request = Callable[[], Coroutine[Any, Any, DeliveryResponse]]


class HttpSession:
    """The HTTP client of a worker, in a thread with an event loop of its own.

    Connecting, TLS and parsing take as long as a receiver likes, and a loop that does them answers nobody
    meanwhile. The thread's loop is of the class of the one that opens the session, and only there ``post``
    is awaited.
    """

    def __init__(self, *, private: bool) -> None:
        self.private = private
        self.inner: LoopCalls
        self.outer: LoopCalls
        self.tasks: dict[asyncio.Future[DeliveryResponse], asyncio.Task[DeliveryResponse]] = {}
        self.http: aiohttp.ClientSession
        self._stop: asyncio.Event
        self._started = concurrent.futures.Future[None]()
        self._ended = concurrent.futures.Future[None]()

    async def __aenter__(self) -> "HttpSession":
        loop = asyncio.get_running_loop()
        self.outer, loop_factory = LoopCalls(loop), type(loop)
        # A daemon, so that nothing that hangs in it outlives the process.
        self._thread = threading.Thread(target=self._run, args=[loop_factory], name="webhooks", daemon=True)
        self._thread.start()
        await asyncio.wrap_future(self._started)
        return self

    async def __aexit__(self, *_: Any) -> None:
        """Cancel all requests, close all connections and end the thread."""
        self.inner.call(self._stop.set)
        await asyncio.wrap_future(self._ended)
        self._thread.join()

    def _run(self, loop_factory: Any) -> None:
        try:
            with asyncio.Runner(loop_factory=loop_factory) as runner:
                runner.run(self._serve())
        except BaseException as error:
            if self._started.done():
                raise
            self._started.set_exception(error)
        finally:
            self._ended.set_result(None)

    async def _serve(self) -> None:
        self.inner, self._stop = LoopCalls(asyncio.get_running_loop()), asyncio.Event()
        async with client(private=self.private) as self.http:
            self._started.set_result(None)
            await self._stop.wait()

    async def run(self, request: Request) -> DeliveryResponse:
        """Await a request in the thread. Cancelling cancels the request."""
        response: asyncio.Future[DeliveryResponse] = self.outer.loop.create_future()
        self.inner.call(self._begin, request, response)
        try:
            return await response
        except asyncio.CancelledError:
            # A session that has ended has cancelled its requests, and its loop is closed.
            with suppress(RuntimeError):
                self.inner.call(self._cancel, response)
            raise

    def _begin(self, request: Request, response: "asyncio.Future[DeliveryResponse]") -> None:
        task = self.tasks[response] = asyncio.create_task(request())
        task.add_done_callback(partial(self._end, response))

    def _cancel(self, response: "asyncio.Future[DeliveryResponse]") -> None:
        if task := self.tasks.get(response):
            task.cancel()

    def _end(
        self, response: "asyncio.Future[DeliveryResponse]", task: "asyncio.Task[DeliveryResponse]"
    ) -> None:
        del self.tasks[response]
        self.outer.call(_resolve, response, task)


def _resolve(response: "asyncio.Future[DeliveryResponse]", task: "asyncio.Task[DeliveryResponse]") -> None:
    """Hand the outcome of a task to whoever awaits it in another loop."""
    if task.cancelled():
        response.cancel()
    elif response.done():
        task.exception()
    elif error := task.exception():
        response.set_exception(error)
    else:
        response.set_result(task.result())


def http_session(*, private: bool) -> HttpSession:
    """The client of a worker; ``private`` lets it call inner networks. Enter and leave it in one loop."""
    return HttpSession(private=private)


def client(*, private: bool) -> "aiohttp.ClientSession":
    """The client of aiohttp for the running loop.

    The pool has no limit: waiting for a place would count against the deadline of the one that waits, so
    whoever claims deliveries bounds them.
    """
    import aiohttp

    from webhooks.connections import BoundedConnector

    return aiohttp.ClientSession(
        connector=BoundedConnector(
            limit=0,
            keepalive_timeout=KEEPALIVE_SECONDS,
            socket_factory=partial(guarded_socket, private=private),
        ),
        # The one deadline is kept by post() and its connection, around everything.
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=None),
        headers={"User-Agent": "CloudArc-Webhooks", "Accept-Encoding": "identity"},
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=False,
        trust_env=False,
    )


async def post(
    session: HttpSession, url: str, body: bytes, headers: Mapping[str, str], *, deadline: float = DEADLINE
) -> DeliveryResponse:
    """Send a body and take the answer, all within the deadline in seconds.

    Whatever the receiver does is told by the Answer and never raised. Cancelling cancels the request.
    """
    return await session.run(lambda: _post(session.http, url, body, headers, deadline))


async def _post(
    http: "aiohttp.ClientSession", url: str, body: bytes, headers: Mapping[str, str], deadline: float
) -> DeliveryResponse:
    """Do what ``post`` says, in the loop of the session."""
    from aiohttp import ClientError

    from webhooks.connections import READ_BYTES, deadline_at

    started = time.monotonic()
    status: int | None = None
    retry_after: int | None = None
    kept = bytearray()
    deadline_at.set(asyncio.get_running_loop().time() + deadline)
    try:
        async with asyncio.timeout(deadline):
            sent = {"Content-Type": "application/json", **headers}
            async with http.post(URL(url), data=body, headers=sent, allow_redirects=False) as response:
                status = response.status
                retry_after = _retry_after(response.headers)
                while len(kept) < READ_BYTES and (
                    chunk := await response.content.read(READ_BYTES - len(kept))
                ):
                    kept += chunk
                error = _judge(status)
    except TimeoutError:
        error = f"No complete answer came within {deadline:g} seconds."
    except (ClientError, OSError, ValueError, RuntimeError) as failure:
        # uvloop raises a RuntimeError for a connection that is gone.
        error = _sentence(failure)
    ms = round((time.monotonic() - started) * 1000)
    return DeliveryResponse(status, ms, _harmless(bytes(kept[:KEPT_BYTES])), error, retry_after)


def _judge(status: int) -> str | None:
    if 200 <= status <= 299:
        return None
    if 300 <= status <= 399:
        return f"The receiver answered {status}; redirects are not followed."
    return f"The receiver answered {status}."


CONNECT_ERRORS = {
    errno.ECONNREFUSED: "The connection was refused.",
    errno.EHOSTUNREACH: "The host cannot be reached.",
    errno.ENETUNREACH: "The host cannot be reached.",
    errno.ETIMEDOUT: "The host cannot be reached.",
}


def _sentence(failure: Exception) -> str:
    """What went wrong, for whoever set the endpoint up; the library's words name addresses and internals."""
    import aiohttp

    from webhooks.connections import BadAnswer

    match failure:
        case BadAnswer():
            return str(failure)
        case aiohttp.ClientConnectorError(os_error=NotCalled() as refusal):
            return str(refusal.strerror)
        case aiohttp.ClientConnectorDNSError():
            return "The host's name does not resolve to an address."
        case aiohttp.ClientConnectorCertificateError():
            reason = getattr(failure.certificate_error, "verify_message", "it cannot be verified")
            return f"The host's TLS certificate is refused: {reason}."
        case aiohttp.ClientConnectorSSLError():
            return "The TLS handshake failed."
        case aiohttp.ClientConnectorError():
            return CONNECT_ERRORS.get(failure.errno or 0, "The connection failed.")
        case aiohttp.InvalidURL() | aiohttp.NonHttpUrlClientError() | ValueError():
            return "The url cannot be called."
        case aiohttp.ClientResponseError():
            return "The answer is not valid HTTP."
        case aiohttp.ClientPayloadError():
            return "The answer broke off."
        case _:
            return "The connection ended before the answer."


def _retry_after(headers: Mapping[str, str]) -> int | None:
    """Seconds to wait, a day at most. A date counts from the answer's own date: the two clocks may differ."""
    value = headers.get("Retry-After", "").strip()
    if value.isascii() and value.isdigit():
        return min(int(value), MAX_RETRY_AFTER) if len(value) < 10 else MAX_RETRY_AFTER
    try:
        wait = parsedate_to_datetime(value) - parsedate_to_datetime(headers["Date"])
    except (KeyError, TypeError, ValueError, OverflowError):
        return None
    return min(max(0, int(wait.total_seconds())), MAX_RETRY_AFTER)


def _harmless(raw: bytes) -> str:
    """The text of an answer, in which no control character, NUL or change of direction is left."""
    text = raw.decode(errors="replace").replace("\r\n", "\n")
    return "".join(
        each if each.isprintable() or each in "\n\t" else "\N{REPLACEMENT CHARACTER}" for each in text
    )
