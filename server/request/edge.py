"""The outermost layer of the API: request id, caller, rate limit, route, errors as responses, headers."""

import asyncio
import logging
import re
import time
from collections.abc import Callable, Iterator, MutableMapping, Sequence
from datetime import datetime
from typing import Any

from starlette.types import ASGIApp, Receive, Scope, Send

from handlers.caller import Caller
from handlers.dialects import AdminDialect, ClientDialect, Dialect
from persistence import api_keys, tokens
from persistence.counters import Counters
from persistence.credentials import LAST_USED_RESOLUTION
from persistence.database import Database
from persistence.errors import Unavailable
from server.errors import ErrorDetail, body_of, detail, invalid_request, to_problem
from server.http.body import Disconnected
from server.http.headers import header_values, request_id
from server.http.reply import Reply, send_reply
from server.request import security
from server.request.context import RequestContext
from server.request.credential_cache import CredentialCache
from server.request.pipeline import Clock
from server.request.rate_limit import (
    LIMIT_SETTINGS,
    RateLimitKey,
    RateLimitKeys,
    rate_limit_headers,
    rate_limited,
)
from server.request.routes import Match, Routes, refuse_route

logger = logging.getLogger("cloudarc")

HOST = re.compile(r"[A-Za-z0-9._~!$&'()*+,;=%:\[\]-]*")

MAX_PATH = 8 * 1024
MAX_QUERY = 16 * 1024
"""Bytes. The edge refuses a longer path or query before anything parses or caches it."""

SECURITY_HEADERS = ((b"cache-control", b"no-store"), (b"x-content-type-options", b"nosniff"))

Observer = Callable[[RequestContext], None]
"""A function that the edge calls after each response, such as the access log."""


class Edge:
    """The ASGI app that every request of the API enters and every response leaves."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        routes: Routes,
        database: Database,
        clock: Clock,
        demo: bool = True,
        counters: Counters | None = None,
        limit: Callable[[str], int] = lambda setting: 0,
        keys: RateLimitKeys | None = None,
        observers: Sequence[Observer] = (),
    ) -> None:
        """``limit`` returns the value of a rate-limit setting; 0 switches the limit off."""
        self.app = app
        self.counters = counters or Counters(None)
        self.limit = limit
        self.keys = keys or RateLimitKeys()
        self.observers = observers
        self.demo = demo
        self.routes = routes
        self.database = database
        self.clock = clock
        self.credentials = CredentialCache()
        self.recording: dict[tuple[str, int], asyncio.Task[None]] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        context = RequestContext(request_id(scope["headers"]), time.perf_counter())
        scope.setdefault("extensions", {})["cloudarc"] = context
        respond = with_common_headers(context, send)
        try:
            await self._serve(context, scope, receive, respond)
        except Disconnected:
            context.status = 499
        except asyncio.CancelledError:
            # The server stops, and the request has exceeded its grace period. Its transaction is rolled back.
            if context.status:
                raise
            await send_reply(respond, self._refusal(Unavailable(), context, scope))
        except Exception as error:
            if context.status:
                # The response has begun, so it cannot be replaced. Its connection is closed.
                logger.info("%s could not be answered to the end: %s", context.request_id, error)
                return
            await send_reply(respond, self._refusal(error, context, scope))
        finally:
            for observe in self.observers:
                observe(context)

    async def _serve(self, context: RequestContext, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope.get("raw_path") or scope["path"].encode()
        faults = list(too_long(path, scope["query_string"]))
        context.match = match = self.routes.match(path) if len(path) <= MAX_PATH else None
        context.plan = match.for_method(scope["method"]) if match else None
        if match is not None and match.public:
            context.dialect = ClientDialect
            await self._count(context, self.keys.of(None, scope, public=True))
        else:
            await self._find_caller(context, {**scope, "query_string": b""} if faults else scope)
        self._require_route(context, scope, faults)
        await self.app(scope, receive, send)

    @staticmethod
    def _require_route(context: RequestContext, scope: Scope, faults: list[ErrorDetail]) -> None:
        """Refuse a request that no operation may see. Raises Problem 400, 404, 405, 429."""
        count = context.rate_limit
        over_limit = None if count is None or count.admitted else rate_limited(context.dialect, count.seconds)
        if faults:
            raise over_limit or invalid_request(*faults)
        hosts = header_values(scope, b"host")
        required = scope["http_version"] == "1.1"
        if len(hosts) > 1 or (required and not hosts) or not all(map(HOST.fullmatch, hosts)):
            raise invalid_request(
                detail("header", "/Host", "The Host header is required, once, and names a host.")
            )
        if context.plan is None:
            raise refuse_route(context.match, context.audience)
        if over_limit:
            raise over_limit

    async def _find_caller(self, context: RequestContext, scope: Scope) -> None:
        """Identify the caller by the credential of a request, and count the request."""
        credential = security.read_credential(scope)
        context.dialect = self._default_dialect(credential, context.match)
        if credential is None:
            await self._count(context, self.keys.of(None, scope))
            return
        now = self.clock()
        cached, counted = self.credentials.get(credential, now), None
        if cached is not None:
            counted = self.keys.of(cached[0].caller, scope)
            await self._count(context, counted)
        if (
            cached is not None
            and context.rate_limit is not None
            and context.rate_limit.credential_generation == cached[1]
        ):
            identity = cached[0]
        else:
            identity = await self._look_up(context, scope, credential)
            key = self.keys.of(identity.caller, scope)
            if key != counted:
                context.rate_limit, context.rate_limit_headers = None, []
                await self._count(context, key)
        context.caller = identity.caller
        context.dialect = identity.dialect or context.dialect
        context.audience = identity.dialect.name if identity.dialect else None
        self._record_use(credential, identity, now)

    async def _look_up(
        self, context: RequestContext, scope: Scope, credential: security.Credential
    ) -> security.Identity:
        """Find the owner of a credential in the database. Raises Unavailable."""
        source = context.rate_limit or self.counters
        generation = source.credential_generation
        try:
            async with self.database.reading() as db:
                identity = await security.identify(credential, db, self.clock(), demo=self.demo)
        except Unavailable:
            # The credential may be valid, so the request does not count as one with an invalid credential.
            await self._count(context, self.keys.of(None, scope, unknown=True))
            raise
        self.credentials.put(credential, identity, generation)
        return identity

    async def _count(self, context: RequestContext, key: RateLimitKey) -> None:
        limit = self.limit(LIMIT_SETTINGS[key.policy])
        if limit:
            context.rate_limit = result = await self.counters.hit(key.name, limit)
            context.rate_limit_headers = rate_limit_headers(key.policy, limit, self.counters.window, result)

    def _record_use(
        self, credential: security.Credential, identity: security.Identity, now: datetime
    ) -> None:
        """Record when a credential was used, to the minute, in a task that the caller does not wait for."""
        caller = identity.caller
        if caller is None or (identity.last_used_at and now - identity.last_used_at < LAST_USED_RESOLUTION):
            return
        if (caller.kind, caller.id) not in self.recording:
            task = asyncio.get_running_loop().create_task(self._write_use(credential, caller, now))
            self.recording[caller.kind, caller.id] = task

    async def _write_use(self, credential: security.Credential, caller: Caller, now: datetime) -> None:
        record = tokens.record_use if caller.kind == "client" else api_keys.record_use
        try:
            async with self.database.transaction() as db:
                await record(db, caller.id, now)
        except Exception as error:
            logger.info("the use of a credential was not recorded: %s", error)
        finally:
            self.credentials.evict(credential)
            self.recording.pop((caller.kind, caller.id), None)

    @staticmethod
    def _default_dialect(credential: security.Credential | None, match: Match | None) -> type[Dialect]:
        """Return the dialect of a request whose credential does not determine it."""
        sole = match.sole_dialect if match else None
        if sole is None and credential is not None and credential.in_query:
            return ClientDialect
        return sole or AdminDialect

    @staticmethod
    def _refusal(error: Exception, context: RequestContext, scope: Scope) -> Reply:
        """Return the response to an exception, and log the exception if it is unexpected."""
        problem = to_problem(error)
        if problem.status == 500:
            logger.error("%s failed", context.request_id, exc_info=error)
        # A client that waits for "100 Continue" may never send its body. The server would take the client's
        # next request for that body, so it closes the connection.
        body_pending = bool(header_values(scope, b"expect")) and not context.body_requested
        return Reply(
            problem.status,
            body_of(problem, context.dialect),
            headers=problem.headers,
            close=problem.close or body_pending,
        )


def with_common_headers(context: RequestContext, send: Send) -> Send:
    """Return a ``send`` that adds the headers of every response and records its status in the context."""

    async def send_with_headers(message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            context.status = message["status"]
            given = message["headers"]
            names = [name for name, _ in given]
            message["headers"] = [
                *given,
                (b"x-request-id", context.request_id.encode()),
                *context.rate_limit_headers,
                *(context.plan.deprecation_headers if context.plan else ()),
                *[each for each in SECURITY_HEADERS if each[0] not in names],
            ]
        await send(message)

    return send_with_headers


def too_long(path: bytes, query: bytes) -> Iterator[ErrorDetail]:
    """Yield a fault for a path and for a query string that exceed their limits."""
    if len(path) > MAX_PATH:
        yield detail("path", "", f"The path must have at most {MAX_PATH // 1024} KiB.")
    if len(query) > MAX_QUERY:
        yield detail("query", "", f"The query string must have at most {MAX_QUERY // 1024} KiB.")
