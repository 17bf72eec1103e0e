"""Run the plan of an operation: authorize, validate, call the handler in a transaction, respond.

Connexion's specification, operations and resolver bind each operationId to its handler. The pipeline is the
middleware that calls the handlers. The panel runs operations through it in the same process.
"""

import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from connexion.middleware import SpecMiddleware
from connexion.spec import Specification
from starlette.types import ASGIApp, Receive, Scope, Send

from handlers.caller import Caller
from handlers.dialects import Dialect
from openapi import contract
from persistence import activity
from persistence.database import Connection, Database, current_caller
from persistence.errors import Busy, StillRunning
from server.errors import Problem
from server.http.body import read_body, require_json
from server.http.headers import accepts
from server.http.reply import Reply, send_reply
from server.request.context import context_of
from server.request.idempotency import IdempotentRequest, Replayed, fingerprint
from server.request.plan import Plan, compile_plan
from server.request.routes import Routes

Clock = Callable[[], datetime]


@dataclass(slots=True)
class Invocation:
    """One call of an operation, with validated arguments.

    ``fingerprint`` identifies the content of a request with an ``Idempotency-Key``.
    """

    plan: Plan
    caller: Caller | None
    dialect: type[Dialect]
    arguments: dict[str, Any]
    fingerprint: str = ""
    request_id: str = ""


class Pipeline(SpecMiddleware):
    """The innermost ASGI app of the API: it runs the plan that the edge found."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        database: Database,
        clock: Clock,
        dependencies: Mapping[str, Any],
        on_credentials_revoked: Callable[[], Awaitable[None]],
    ) -> None:
        """``dependencies`` are the server's own values for handler parameters (``SERVER_DEPENDENCIES``)."""
        self.database = database
        self.clock = clock
        self.dependencies = dependencies
        self.on_credentials_revoked = on_credentials_revoked
        self.plans: dict[str, Plan] = {}
        self.routes = Routes("")
        self.document: contract.Document = {}

    def add_api(self, specification: Specification, *, resolver: Any, **_: Any) -> None:
        """Compile the plan of each operation. Connexion calls this once."""
        self.document = document = specification.raw
        self.routes = Routes(specification.base_path)
        for each in contract.operations(document):
            operation = specification.operation_cls.from_spec(
                specification, path=each.path, method=each.method, resolver=resolver
            )
            plan = compile_plan(document, each, operation.function)
            self.plans[plan.id] = plan
            self.routes.add(plan)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        context = context_of(scope)
        match, plan, dialect = context.match, context.plan, context.dialect
        # The edge passes on no request without an operation.
        assert match is not None and plan is not None
        plan.authorize(context.caller, dialect)
        if not accepts(scope, plan.media_type):
            raise Problem(406, f"Only {plan.media_type} can be answered here.")
        context.body_requested = True
        body = await read_body(scope, receive)
        if body:
            require_json(scope)
        arguments = plan.arguments(
            match.segments, scope["query_string"], scope["headers"], body, dialect.name
        )
        invocation = Invocation(plan, context.caller, dialect, arguments, request_id=context.request_id)
        if "idempotency_key" in arguments:
            path = scope.get("raw_path") or scope["path"].encode()
            invocation.fingerprint = fingerprint(scope["method"], path, body)
        reply = await self.run(invocation)
        etag = reply.headers.get("ETag") if "if_none_match" in arguments else None
        if etag and matches(arguments["if_none_match"], etag):
            reply = Reply(304, b"", headers=reply.headers)
        await send_reply(send, reply)

    async def run(self, invocation: Invocation) -> Reply:
        """Call the handler in its transaction; if it revoked a credential, invalidate the caches.

        Raises Refusal, ContractBreach, and what the handler raises.
        """
        plan, caller = invocation.plan, invocation.caller
        current_caller.set(caller and (caller.actor, caller.actor_id))
        values = self._handler_values(invocation)
        if "db" not in plan.handler_parameters:
            return await plan.reply(await plan.handler(**values), invocation.dialect.name)
        if not plan.is_write:
            async with self.database.reading() as db:
                answer = await plan.handler(**values, db=db)
            return await plan.reply(answer, invocation.dialect.name)
        assert caller is not None
        reply = await self._commit(invocation, caller, values)
        if plan.revokes_credentials:
            await self.on_credentials_revoked()
        return reply

    def _handler_values(self, invocation: Invocation) -> dict[str, Any]:
        """Return the keyword arguments of the handler, except its connection."""
        plan = invocation.plan
        values = invocation.arguments.copy()
        for name in plan.not_passed_on:
            values.pop(name, None)
        for name in plan.server_dependencies:
            values[name] = self.dependencies[name]
        if "user" in plan.handler_parameters:
            values["user"] = invocation.caller
        if "now" in plan.handler_parameters:
            values["now"] = self.clock()
        return values

    async def _commit(self, invocation: Invocation, caller: Caller, values: dict[str, Any]) -> Reply:
        """Run a change in one transaction, and return its response once the transaction is committed.

        A request with an ``Idempotency-Key`` stores its response in the same transaction.
        """
        key = invocation.arguments.get("idempotency_key")
        if key is None:
            async with self.database.transaction() as db:
                return await self._change(db, invocation, caller, values)
        box = self.dependencies["box"]
        request = IdempotentRequest(box, caller, key.strip('"'), invocation.fingerprint, self.clock())
        try:
            async with self.database.transaction(request.claim) as db:
                reply = await self._change(db, invocation, caller, values)
                await request.keep(db, reply)
                return reply
        except Replayed as replayed:
            return replayed.reply
        except Busy as error:
            raise StillRunning from error

    async def _change(
        self, db: Connection, invocation: Invocation, caller: Caller, values: dict[str, Any]
    ) -> Reply:
        """Call the handler and record the change in the activity log, in the same transaction.

        A request that changes nothing is not recorded.
        """
        plan = invocation.plan
        answer = await plan.handler(**values, db=db)
        reply = await plan.reply(answer, invocation.dialect.name)
        if db.unchanged:
            return reply
        await activity.add(
            db,
            actor=caller.actor,
            actor_id=caller.actor_id,
            operation=plan.id,
            resource=plan.resource(invocation.arguments, answer[0]),
            request_id=invocation.request_id,
            created_at=values.get("now") or self.clock(),
        )
        return reply


def matches(tags: str, etag: str) -> bool:
    """Return whether an ``If-None-Match`` header lists an entity tag, by weak comparison (RFC 9110)."""
    return tags.strip() == "*" or etag in re.findall(r'"[^"]*"', tags)
