"""The panel within the server: it calls operations in process, and is logged and counted as the API is."""

import time
from collections.abc import Collection, Mapping, Sequence
from typing import Any
from urllib.parse import quote, urlencode

import orjson
from starlette.types import ASGIApp, Receive, Scope, Send

from handlers.caller import Caller
from panel.app import TRIES, Panel
from panel.calls import Result, Visit
from server.edge import Edge, too_long
from server.errors import as_problem, body_of
from server.idempotency import fingerprint
from server.logs import log_call
from server.pipeline import Pipeline
from server.transport import Call, request_id


class Operations:
    """Runs plans for the panel: what the API refuses is refused here, in the same words."""

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
    ) -> Result:
        """The answer of an operation. Raises what would be a 500."""
        plan = self.pipeline.plans[operation_id]
        content = b"" if body is None else orjson.dumps(body)
        raw = [(name.lower().encode(), value.encode()) for name, value in (headers or {}).items()]
        try:
            plan.admit(caller, caller.dialect)
            arguments = plan.arguments(
                tuple(path), urlencode(query or {}).encode(), raw, content, caller.dialect.name
            )
            address = "/".join([plan.path, *(quote(each, safe="") for each in path)])
            same = fingerprint(plan.method, address.encode(), content)
            reply = await self.pipeline.run(plan, caller, caller.dialect, arguments, same, request_id)
        except Exception as error:
            problem = as_problem(error)
            if problem.status == 500:
                raise
            return Result(problem.status, orjson.loads(body_of(problem, caller.dialect)), problem.headers)
        return Result(reply.status, orjson.loads(reply.body), reply.headers)


class Front:
    """Answers ``/`` and what lies below ``/admin`` by the panel; everything else goes on to the API."""

    def __init__(
        self,
        edge: Edge,
        dead: Collection[str] = frozenset(),
    ) -> None:
        """``dead`` are hashes of passwords that open nothing."""
        assert edge.pipeline is not None
        self.edge = edge
        # What is put around the API is not put around the panel, which no other site may call.
        self.api: ASGIApp = edge
        self.panel = Panel(
            edge.pipeline.document,
            Operations(edge.pipeline),
            edge.database,
            edge.clock,
            edge.subjects.address,
            self._charge,
            dead=dead,
            box=edge.pipeline.own["box"],
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope["path"] if scope["type"] == "http" else None
        if path is None or not (path in ("/", "/admin") or path.startswith("/admin/")):
            await self.api(scope, receive, send)
            return
        if any(too_long(path.encode(), scope["query_string"])):
            # The API refuses it before it parses anything.
            await self.api(scope, receive, send)
            return
        call = Call(request_id(scope["headers"]), time.perf_counter())
        visit = Visit(call.request_id)
        scope.setdefault("extensions", {})["panel"] = visit

        async def marked(message: Any) -> None:
            if message["type"] == "http.response.start":
                call.status = message["status"]
                message["headers"] = [*message["headers"], (b"x-request-id", call.request_id.encode())]
            await send(message)

        try:
            await self.panel(scope, receive, marked)
        finally:
            call.page, call.caller, call.status = visit.page, visit.caller, call.status or 499
            log_call(call)
            if self.edge.metrics:
                self.edge.metrics.count(call)

    async def _charge(self, address: str) -> int:
        """Count a try to sign in for an address; the seconds to wait, 0 where it is admitted."""
        count = await self.edge.counters.hit(f"sign-in:{address}", TRIES)
        return 0 if count.admitted else count.seconds
