"""uvicorn's HTTP protocol with deadlines for reading, a limit for headers, and the rule for h2c."""

import asyncio
import re
import resource
import time
from typing import Any

import httptools
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from handlers.dialects import AdminDialect
from server.errors import Problem, body_of, detail, invalid_request
from server.http.body import BROKEN, COMPLETE, MAX_DROPPED, deadline
from server.http.headers import request_id

MAX_HEAD = 64 * 1024
"""How many bytes the request line and the headers may have together."""

KEPT_FREE = 200
"""How many files are kept free for the database, Redis, receivers of webhooks and the server's own."""

MAX_CONNECTIONS = 2000
"""How many connections a process has, where the system lets it have as many files."""

_files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
if _files != resource.RLIM_INFINITY:
    MAX_CONNECTIONS = max(10, min(MAX_CONNECTIONS, _files - KEPT_FREE))

WRITE_SECONDS = 20.0
"""How long a caller may read nothing of an answer that waits for it."""

CONTROLS = bytes([*range(32), 127])
"""What stands in no header; a tab may, in one that is left to uvicorn."""

FRAMING = {b"connection", b"transfer-encoding"}

UPGRADE_HEADERS = {b"upgrade", b"connection", b"http2-settings"}

ABSOLUTE_WITHOUT_PATH = re.compile(rb"^[a-zA-Z]+://[^/?#]+(?=[?#]|$)")


class OneWriteSend:
    """The ``send`` of one request: an answer that comes as a whole is written at once, head and body.

    uvicorn writes the two one by one, and asks two expressions of every name and value. What is not plain
    is left to it.
    """

    def __init__(self, cycle: RequestResponseCycle) -> None:
        self.cycle = cycle
        self.uvicorns = cycle.send
        self.start: Any = None

    async def __call__(self, message: Any) -> None:
        """Keep the head until the body comes."""
        if message["type"] == "http.response.start":
            self.start = message
            return
        start, self.start = self.start, None
        if start is not None:
            if self._write(start["status"], start["headers"], message):
                return
            await self.uvicorns(start)
        await self.uvicorns(message)

    def _write(self, status: int, given: Any, message: Any) -> bool:
        """Write an answer that is plain and whole; whether it was."""
        cycle, body = self.cycle, message.get("body", b"")
        # Here they part, so that nothing is left for the garbage collector.
        vars(cycle).pop("send", None)
        headers = [*cycle.default_headers, *given]
        by_name = dict(headers)
        head = b"\r\n".join([b": ".join(each) for each in headers])
        plain = (
            cycle.keep_alive
            and not cycle.disconnected
            and not cycle.response_started
            and not cycle.flow.write_paused
            and not message.get("more_body")
            and cycle.scope["method"] != "HEAD"
            and by_name.get(b"content-length") == b"%d" % len(body)
            and b"".join(by_name).islower()
            and FRAMING.isdisjoint(by_name)
            and len(head) - len(head.translate(None, CONTROLS)) == 2 * len(headers) - 2
        )
        if plain:
            cycle.response_started = cycle.response_complete = True
            cycle.waiting_for_100_continue = False
            cycle.transport.write(b"%b%b\r\n\r\n%b" % (STATUS_LINE[status], head, body))
            cycle.message_event.set()
            cycle.on_response()
        return plain


class Protocol(HttpToolsProtocol):
    """Closes what uvicorn would keep open for ever: silent, dripping and endless requests.

    A request must have arrived by ``body.deadline``. Before its headers are complete nobody
    knows the caller, so 408 and 400 are said here, in the admin dialect; after that the pipeline
    reads the body against the same deadline and answers in the caller's.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # uvicorn's own log would show query strings, and with them tokens.
        self.access_log = False
        self.reading_since: float | None = None
        self.received = 0
        self.head = 0
        self.head_complete = False
        self.in_body = False
        self.watch: asyncio.TimerHandle | None = None
        self.without_upgrade: bytes | None = None
        self.stuck: asyncio.TimerHandle | None = None
        self.idle_since = 0.0

    # --- the deadline ---

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self.idle_since = time.monotonic()
        self._start_watch()
        self._keep_watching()
        if len(self.connections) > MAX_CONNECTIONS:
            self.evict_idlest()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_watch()
        if self.stuck is not None:
            self.stuck.cancel()
        super().connection_lost(exc)

    def evict_idlest(self) -> None:
        """End the connection that has been without a request for longest, which HTTP allows at any time.

        One whose request drips in counts as one without. Where all are being answered, this one is too many.
        """
        others = [each for each in self.connections if isinstance(each, Protocol) and each is not self]
        idle = [each for each in others if each.idle]
        if idle:
            min(idle, key=lambda each: each.idle_since).transport.abort()
        else:
            headers = {"Retry-After": "1"}
            self._refuse(Problem(503, "The service is busy; try again.", headers=headers))

    @property
    def idle(self) -> bool:
        """Whether no request is being answered; one that has not all come is none yet."""
        return (self.cycle is None or self.cycle.response_complete) and not self.transport.is_closing()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self.idle_since = time.monotonic()

    def _start_watch(self) -> None:
        self.reading_since, self.received = time.monotonic(), 0

    def _keep_watching(self) -> None:
        """Look at what has not all come; what comes at once costs no timer."""
        if self.reading_since is not None and self.watch is None:
            self.watch = self.loop.call_at(self._due(), self._overdue)

    def _stop_watch(self) -> None:
        self.reading_since = None
        if self.watch is not None:
            self.watch.cancel()
            self.watch = None

    def _due(self) -> float:
        assert self.reading_since is not None
        # The loop's clock and the monotonic one are the same.
        return deadline(self.reading_since, self.received)

    def _overdue(self) -> None:
        if self.transport.is_closing() or self.reading_since is None:
            return
        if self._due() > time.monotonic():
            self.watch = self.loop.call_at(self._due(), self._overdue)
        elif not self.head_complete and (self.cycle is None or self.cycle.response_complete):
            self._refuse(Problem(408, "The request did not arrive in time."))
        elif self.cycle is None or self.cycle.response_complete:
            self.transport.close()
        else:
            # The pipeline is at work: it answers, and this looks again whether the rest ever comes.
            self.watch = self.loop.call_later(1.0, self._overdue)

    def eof_received(self) -> bool:  # type: ignore[override]  # asyncio reads it, uvicorn has no use for it
        """A caller who has sent all and closed its side still waits for the answer."""
        if self.cycle is None or self.cycle.response_complete or self.in_body:
            return False
        self.cycle.keep_alive = False
        return True

    def pause_writing(self) -> None:
        super().pause_writing()
        self.stuck = self.loop.call_later(WRITE_SECONDS, self.transport.abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        if self.stuck is not None:
            self.stuck.cancel()
            self.stuck = None

    # --- the parser ---

    def data_received(self, data: bytes) -> None:
        self._unset_keepalive_if_required()
        if self.reading_since is None:
            self._start_watch()
        self.received += len(data)
        going_on = self.in_head
        try:
            self.parser.feed_data(data)
            # The parser tells of a line when it has the whole of it; one without an end counts as well.
            if going_on and self.in_head:
                self._count(len(data))
        except ValueError:
            self._bad_request()
            return
        except httptools.HttpParserUpgrade as upgrade:
            self._go_on_without_upgrade(data[upgrade.args[0] :])
        except httptools.HttpParserError:
            self._bad_request()
        self._keep_watching()
        if self.in_body and self.received > MAX_DROPPED and self.cycle and self.cycle.response_complete:
            self.transport.close()

    @property
    def in_head(self) -> bool:
        """Whether a request has begun whose headers have not ended."""
        return self.reading_since is not None and not self.head_complete

    def _bad_request(self) -> None:
        answered = self.cycle is None or self.cycle.response_complete
        if not answered:
            # Answers to what came before are being made, and a 400 now would be taken for one of
            # them. The last of them ends the connection.
            self.cycle.keep_alive = False
            self.flow.pause_reading()
            self._stop_watch()
            if self.in_body:
                self.cycle.scope["state"][BROKEN] = True
                self.cycle.message_event.set()
        elif self.in_body:
            self.transport.close()
        elif self.head > MAX_HEAD:
            self._refuse(
                invalid_request(
                    detail("header", "", "The request line and headers must have at most 64 KiB together.")
                )
            )
        else:
            self._refuse(invalid_request(detail("header", "", "The request is not valid HTTP.")))

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.head, self.head_complete, self.in_body = 0, False, False
        if self.reading_since is None:
            self._start_watch()

    def on_url(self, url: bytes) -> None:
        self._count(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        self._count(len(name) + len(value) + 4)
        # What comes behind a body is a trailer: it must not become a header, let alone a credential.
        if not self.head_complete:
            super().on_header(name, value)

    def _count(self, size: int) -> None:
        self.head += size
        if self.head > MAX_HEAD:
            raise ValueError("the headers are too large")

    def on_headers_complete(self) -> None:
        version = self.parser.get_http_version()
        if version not in ("0.9", "1.0", "1.1") or b"#" in self.url:
            raise ValueError("this is not HTTP/1.1")
        if version == "1.0":
            self.expect_100_continue = False
        codings = [value for name, value in self.headers if name == b"transfer-encoding"]
        if codings and not codings[-1].lower().rstrip().endswith(b"chunked"):
            raise ValueError("a body without an end")
        if not self.url.startswith(b"/"):
            self.url = ABSOLUTE_WITHOUT_PATH.sub(rb"\g<0>/", self.url)
        if self.parser.get_method() == b"CONNECT":
            raise ValueError("this is no proxy")
        if self.parser.should_upgrade():
            self.without_upgrade = self._head_without_upgrade()
        else:
            super().on_headers_complete()
        self.head_complete = self.in_body = True

    def on_body(self, body: bytes) -> None:
        if self.without_upgrade is None:
            super().on_body(body)

    def on_message_complete(self) -> None:
        self.in_body = False
        if self.without_upgrade is None:
            self._stop_watch()
            self.cycle.scope["state"][COMPLETE] = True
            super().on_message_complete()

    # --- h2c ---

    def _head_without_upgrade(self) -> bytes:
        version = self.parser.get_http_version().encode()
        lines = [b"%s %s HTTP/%s" % (self.parser.get_method(), self.url, version)]
        kept = [(name, value) for name, value in self.headers if name not in UPGRADE_HEADERS]
        if any(name == b"connection" and b"close" in value.lower() for name, value in self.headers):
            kept.append((b"connection", b"close"))
        return b"\r\n".join([*lines, *[b"%s: %s" % pair for pair in kept], b"", b""])

    def _go_on_without_upgrade(self, rest: bytes) -> None:
        """Decline the upgrade and read on as HTTP/1.1, which the parser itself would not do.

        httptools ends the request where an upgrade is offered and drops its body. Java's HttpClient
        offers h2c with every request.
        """
        head, self.without_upgrade = self.without_upgrade, None
        assert head is not None
        self.parser = httptools.HttpRequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)
        self.data_received(head + rest)

    def _unsupported_upgrade_warning(self) -> None:
        """uvicorn would advise to install a WebSocket library."""

    # --- the answer ---

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        cycle.send = OneWriteSend(cycle)  # type: ignore[method-assign]  # what it passes on to the app
        super()._start_asgi_task(cycle, app)

    def _refuse(self, problem: Problem) -> None:
        """Answer without an application, and close."""
        self._stop_watch()
        body = body_of(problem, AdminDialect)
        lines = [
            *[b"%s: %s\r\n" % pair for pair in self.server_state.default_headers],
            b"content-type: application/json\r\n",
            b"content-length: %d\r\n" % len(body),
            b"cache-control: no-store\r\n",
            b"x-content-type-options: nosniff\r\n",
            *[f"{name.lower()}: {value}\r\n".encode() for name, value in problem.headers.items()],
            b"x-request-id: %s\r\n" % request_id(self.headers or ()).encode(),
            b"connection: close\r\n\r\n",
        ]
        self.transport.write(b"".join([STATUS_LINE[problem.status], *lines, body]))
        self.transport.close()
