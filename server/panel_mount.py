"""Mount the panel: it runs operations in this process, and its requests are logged and counted too."""

import time
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote, urlencode

import orjson
from starlette.types import ASGIApp, Receive, Scope, Send

from handlers.caller import Caller
from panel.app import TRIES, Panel
from panel.operation_client import OperationResult, PanelContext
from persistence.counters import Counters
from server.errors import body_of, to_problem
from server.http.headers import request_id
from server.request.context import RequestContext
from server.request.edge import Observer, too_long
from server.request.idempotency import fingerprint
from server.request.pipeline import Invocation, Pipeline


class Operations:
    """Runs operations for the panel, and returns refusals as the API does."""

    def __init__(self, pipeline: Pipeline) -> None:
        self.pipeline = pipeline

    async def __call__(
        self,
        operation_id: str,
        caller: Caller,
        *,
        path: Sequence[str] = (),
        query: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        body: Any = None,
        request_id: str = "",
    ) -> OperationResult:
        """Return the response of an operation. Raises what the API would answer with 500."""
        plan, dialect = self.pipeline.plans[operation_id], caller.dialect
        content = b"" if body is None else orjson.dumps(body)
        raw = [(name.lower().encode(), value.encode()) for name, value in (headers or {}).items()]
        try:
            plan.authorize(caller, dialect)
            arguments = plan.arguments(
                tuple(path), urlencode(query or {}).encode(), raw, content, dialect.name
            )
            address = "/".join([plan.path, *(quote(each, safe="") for each in path)])
            reply = await self.pipeline.run(
                Invocation(
                    plan,
                    caller,
                    dialect,
                    arguments,
                    fingerprint(plan.method, address.encode(), content),
                    request_id,
                )
            )
        except Exception as error:
            problem = to_problem(error)
            if problem.status == 500:
                raise
            return OperationResult(problem.status, orjson.loads(body_of(problem, dialect)), problem.headers)
        return OperationResult(reply.status, orjson.loads(reply.body), reply.headers)


class SignInLimit:
    """Counts attempts to sign in by IP address, across all processes that share one Redis."""

    def __init__(self, counters: Counters) -> None:
        self.counters = counters

    async def __call__(self, address: str) -> int:
        """Count an attempt. Return the seconds to wait, or 0 if the attempt is admitted."""
        count = await self.counters.hit(f"sign-in:{address}", TRIES)
        return 0 if count.admitted else count.seconds


class PanelMount:
    """Serves ``/`` and all paths below ``/admin`` from the panel, and all others from the API."""

    def __init__(self, api: ASGIApp, panel: Panel, observers: Sequence[Observer] = ()) -> None:
        self.api = api
        self.panel = panel
        self.observers = observers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope["path"] if scope["type"] == "http" else None
        if path is None or not (path in ("/", "/admin") or path.startswith("/admin/")):
            await self.api(scope, receive, send)
            return
        if any(too_long(path.encode(), scope["query_string"])):
            # The API refuses it before it parses anything.
            await self.api(scope, receive, send)
            return
        context = RequestContext(request_id(scope["headers"]), time.perf_counter())
        visit = PanelContext(context.request_id)
        scope.setdefault("extensions", {})["panel"] = visit

        async def send_with_id(message: Any) -> None:
            if message["type"] == "http.response.start":
                context.status = message["status"]
                message["headers"] = [*message["headers"], (b"x-request-id", context.request_id.encode())]
            await send(message)

        try:
            await self.panel(scope, receive, send_with_id)
        finally:
            context.page, context.caller, context.status = visit.page, visit.caller, context.status or 499
            for observe in self.observers:
                observe(context)
