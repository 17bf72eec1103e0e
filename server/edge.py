"""The outermost layer: request id, who is calling and how often, any exception as an answer, headers."""

import asyncio
import logging
import re
import time
from collections.abc import Callable, Iterator, MutableMapping
from datetime import datetime
from functools import lru_cache
from typing import Any

from starlette.types import ASGIApp, Receive, Scope, Send

from handlers.caller import Caller
from handlers.dialects import AdminDialect, ClientDialect, Dialect
from persistence import api_keys, tokens
from persistence.counters import Count, Counters
from persistence.credentials import USE_KEPT
from persistence.database import Database
from persistence.errors import Unavailable
from server import security
from server.errors import Fault, Problem, as_problem, body_of, fault, invalid
from server.logs import log_call
from server.metrics import Metrics
from server.pipeline import Clock, Match, Pipeline, Routes
from server.subject import LIMITS, Subject, Subjects
from server.transport import Call, Disconnected, Reply, header, request_id, send_reply

logger = logging.getLogger("cloudarc")

HOST = re.compile(r"[A-Za-z0-9._~!$&'()*+,;=%:\[\]-]*")

MAX_PATH = 8 * 1024
MAX_QUERY = 16 * 1024
"""Bytes; what is longer is refused before anything is parsed or remembered."""

SAFETY = ((b"cache-control", b"no-store"), (b"x-content-type-options", b"nosniff"))


class Edge:
    """What every request passes, whatever becomes of it."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        routes: Routes,
        pipeline: Pipeline | None = None,
        database: Database,
        clock: Clock,
        demo: bool = True,
        counters: Counters | None = None,
        limit: Callable[[str], int] = lambda setting: 0,
        subjects: Subjects | None = None,
        metrics: Metrics | None = None,
    ) -> None:
        """``limit`` answers the number of a setting; where it is 0, nothing is counted. ``pipeline`` is for
        whoever runs operations in process.
        """
        self.app = app
        self.counters = counters or Counters(None)
        self.limit = limit
        self.subjects = subjects or Subjects()
        self.metrics = metrics
        self.demo = demo
        self.routes = routes
        self.pipeline = pipeline
        self.database = database
        self.clock = clock
        self.known = security.Known()
        self.remembering: dict[tuple[str, int], asyncio.Task[None]] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        call = Call(request_id(scope["headers"]), time.perf_counter())
        scope.setdefault("extensions", {})["cloudarc"] = call
        marked = _marked(call, send)
        try:
            await self._serve(call, scope, receive, marked)
        except Disconnected:
            call.status = 499
        except asyncio.CancelledError:
            # The server stops and has waited long enough. Nothing was written; say so.
            if call.status:
                raise
            await send_reply(marked, self._refusal(as_problem(Unavailable()), call, scope))
        except Exception as error:
            if call.status:
                # An answer that has begun cannot be taken back; its connection has gone.
                logger.info("%s could not be answered to the end: %s", call.request_id, error)
                return
            problem = as_problem(error)
            if problem.status == 500:
                logger.error("%s failed", call.request_id, exc_info=error)
            await send_reply(marked, self._refusal(problem, call, scope))
        finally:
            log_call(call)
            if self.metrics:
                self.metrics.count(call)

    async def _serve(self, call: Call, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope.get("raw_path") or scope["path"].encode()
        faults = list(too_long(path, scope["query_string"]))
        call.match = match = self.routes.match(path) if len(path) <= MAX_PATH else None
        call.plan = match.plan(scope["method"]) if match else None
        if match is not None and match.public:
            call.dialect = ClientDialect
            await self._count(call, self.subjects.of(None, scope, public=True))
        else:
            await self._find_caller(call, {**scope, "query_string": b""} if faults else scope)
        if faults:
            if call.count is not None and not call.count.admitted:
                raise security.exhausted(call.dialect, call.count.seconds)
            raise invalid(*faults)
        hosts = header(scope, b"host")
        if (len(hosts) != 1 and (hosts or scope["http_version"] == "1.1")) or not all(
            map(HOST.fullmatch, hosts)
        ):
            raise invalid(fault("header", "/Host", "The Host header is required, once, and names a host."))
        await self.app(scope, receive, send)

    async def _find_caller(self, call: Call, scope: Scope) -> None:
        """Learn whose credential the call carries, and count it."""
        credential = security.carried(scope)
        call.dialect = self._default_dialect(credential, call.match)
        if credential is None:
            await self._count(call, self.subjects.of(None, scope))
            return
        now = self.clock()
        known, counted = self.known.get(credential, now), None
        if known is not None:
            counted = self.subjects.of(known[0].caller, scope)
            await self._count(call, counted)
        if known is not None and call.count is not None and call.count.epoch == known[1]:
            identity = known[0]
        else:
            identity = await self._look_up(call, scope, credential)
            subject = self.subjects.of(identity.caller, scope)
            if subject != counted:
                call.count, call.limit_headers = None, []
                await self._count(call, subject)
        call.caller = identity.caller
        call.dialect = identity.dialect or call.dialect
        call.audience = identity.dialect.name if identity.dialect else None
        self._remember_use(credential, identity, now)

    async def _look_up(self, call: Call, scope: Scope, credential: security.Credential) -> security.Identity:
        """Whose credential it is by the database. Raises Unavailable."""
        epoch = call.count.epoch if call.count else self.counters.epoch
        try:
            async with self.database.reading() as db:
                identity = await security.identify(credential, db, self.clock(), demo=self.demo)
        except Unavailable:
            # Nobody knows whether the credential is good, so it is not counted as a bad one.
            await self._count(call, self.subjects.of(None, scope, unknown=True))
            raise
        self.known.keep(credential, identity, epoch)
        return identity

    async def _count(self, call: Call, subject: Subject) -> None:
        limit = self.limit(LIMITS[subject.policy])
        if limit:
            call.count = count = await self.counters.hit(subject.name, limit)
            call.limit_headers = _limit_headers(subject.policy, limit, self.counters.window, count)

    def _remember_use(
        self, credential: security.Credential, identity: security.Identity, now: datetime
    ) -> None:
        """Keep when a credential was used, to the minute, without making its caller wait for that."""
        caller = identity.caller
        if caller is None or (identity.last_used_at and now - identity.last_used_at < USE_KEPT):
            return
        if (caller.kind, caller.id) not in self.remembering:
            task = asyncio.get_running_loop().create_task(self._write_use(credential, caller, now))
            self.remembering[caller.kind, caller.id] = task

    async def _write_use(self, credential: security.Credential, caller: Caller, now: datetime) -> None:
        used = tokens.used if caller.kind == "client" else api_keys.used
        try:
            async with self.database.transaction() as db:
                await used(db, caller.id, now)
        except Exception as error:
            logger.info("the use of a credential was not kept: %s", error)
        finally:
            self.known.forget(credential)
            self.remembering.pop((caller.kind, caller.id), None)

    @staticmethod
    def _default_dialect(credential: security.Credential | None, match: Match | None) -> type[Dialect]:
        """The dialect where the credential does not choose it."""
        only = match.only_dialect if match else None
        if only is None and credential is not None and credential.in_query:
            return ClientDialect
        return only or AdminDialect

    @staticmethod
    def _refusal(problem: Problem, call: Call, scope: Scope) -> Reply:
        # A caller who waits for "100 Continue" may keep its body back for good, so that what it sends
        # next could be taken for the body.
        held_back = bool(header(scope, b"expect")) and not call.reading
        return Reply(
            problem.status,
            body_of(problem, call.dialect),
            headers=problem.headers,
            close=problem.close or held_back,
        )


def _marked(call: Call, send: Send) -> Send:
    """``send`` that adds the headers of every answer."""

    async def wrapper(message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            call.status = message["status"]
            given = message["headers"]
            names = [name for name, _ in given]
            message["headers"] = [
                *given,
                (b"x-request-id", call.request_id.encode()),
                *call.limit_headers,
                *(call.plan.farewell if call.plan else ()),
                *[each for each in SAFETY if each[0] not in names],
            ]
        await send(message)

    return wrapper


def too_long(path: bytes, query: bytes) -> Iterator[Fault]:
    """The faults of a path and a query that are refused before anything is parsed."""
    if len(path) > MAX_PATH:
        yield fault("path", "", f"The path must have at most {MAX_PATH // 1024} KiB.")
    if len(query) > MAX_QUERY:
        yield fault("query", "", f"The query string must have at most {MAX_QUERY // 1024} KiB.")


def _limit_headers(policy: str, limit: int, window: int, count: Count) -> list[tuple[bytes, bytes]]:
    """The documents' headers, and those of the IETF's draft, which also name the policy and the time."""
    return [
        *_policy_headers(policy, limit, window),
        (b"x-ratelimit-remaining", b"%d" % count.remaining),
        (b"ratelimit", b'"%b";r=%d;t=%d' % (policy.encode(), count.remaining, count.seconds)),
    ]


@lru_cache(100)
def _policy_headers(policy: str, limit: int, window: int) -> tuple[tuple[bytes, bytes], ...]:
    return (
        (b"x-ratelimit-limit", b"%d" % limit),
        (b"ratelimit-policy", b'"%b";q=%d;w=%d' % (policy.encode(), limit, window)),
    )
