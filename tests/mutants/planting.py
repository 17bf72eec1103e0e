"""The means to plant a fault in one operation of the server in this process. Nothing is ever taken back.

No production code knows of any of this: methods and functions are replaced from outside, before a server
is assembled.
"""

import dataclasses
import functools
import json
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from handlers.caller import Caller
from handlers.dialects import Dialect
from openapi import contract
from server.request import pipeline, security
from server.request.context import RequestContext, context_of
from server.request.edge import Edge
from server.request.plan import Plan

Given = dict[str, Any]
Work = Callable[..., Awaitable[Any]]


class Traces:
    """Whether the planted fault has changed anything: one that has not is no fault."""

    def __init__(self) -> None:
        self.changes = 0

    def add(self) -> None:
        self.changes += 1


TRACES = Traces()

CURRENT: ContextVar[str] = ContextVar("CURRENT", default="")
"""The operation whose handler is running, among those that ``around`` is around."""


@dataclasses.dataclass(frozen=True)
class Answer:
    """An answer on its way out, and whose it is."""

    status: int
    headers: tuple[tuple[bytes, bytes], ...]
    body: bytes
    dialect: str = ""

    @property
    def good(self) -> bool:
        return 200 <= self.status < 300

    @property
    def json(self) -> Any:
        """The body, None where it is not JSON."""
        try:
            return json.loads(self.body)
        except ValueError:
            return None

    def saying(self, body: Any, **values: Any) -> "Answer":
        return dataclasses.replace(self, body=json.dumps(body).encode(), **values)

    def without(self, name: bytes) -> "Answer":
        kept = tuple(each for each in self.headers if each[0] != name)
        return dataclasses.replace(self, headers=kept)


def replace(owner: Any, name: str, make: Callable[[Any], Any]) -> None:
    """Put what ``make`` makes of a function in its place."""
    setattr(owner, name, functools.wraps(old := getattr(owner, name))(make(old)))


def altering(operation: contract.Operation, change: Callable[[Answer], Answer]) -> None:
    """Change the answers of an operation, refusals by the pipeline too, on their way out."""

    def make(serve: Callable[..., Awaitable[None]]) -> Callable[..., Awaitable[None]]:
        async def served(edge: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
            begun: list[Message] = []

            async def sent(message: Message) -> None:
                context = context_of(scope)
                if not _concerns(operation, context, scope["method"], begun, message):
                    await send(message)
                elif message["type"] == "http.response.start":
                    begun.append(message)
                else:
                    given = Answer(
                        begun[0]["status"],
                        tuple(map(tuple, begun[0]["headers"])),
                        message.get("body", b""),
                        context.dialect.name,
                    )
                    answer = change(given)
                    if answer != given:
                        TRACES.add()
                        length = (b"content-length", b"%d" % len(answer.body))
                        answer = answer.without(b"content-length")
                        answer = dataclasses.replace(answer, headers=(*answer.headers, length))
                    headers = list(answer.headers)
                    await send({**begun[0], "status": answer.status, "headers": headers})
                    await send({"type": "http.response.body", "body": answer.body})

            await serve(edge, scope, receive, sent if scope["type"] == "http" else send)

        return served

    replace(Edge, "__call__", make)


def _concerns(
    operation: contract.Operation,
    context: RequestContext,
    method: str,
    begun: list[Message],
    message: Message,
) -> bool:
    """Whether an answer is the operation's, or says that its path has no such method. HEAD is left alone."""
    if message["type"] == "http.response.body":
        return bool(begun)
    named = context.operation
    here = context.match is not None and operation.id in {each.id for each in context.match.plans.values()}
    return method != "HEAD" and (named == operation.id or (here and message["status"] == 405))


def around(operation: contract.Operation, work: Callable[[Work, Given], Awaitable[Any]]) -> None:
    """Do ``work`` in the place of the operation's handler, which it gets, with what it is to be given."""

    def make(compile_plan: Callable[..., Plan]) -> Callable[..., Plan]:
        def compiled(document: Any, each: contract.Operation, handler: Work) -> Plan:
            plan = compile_plan(document, each, handler)
            if each.id != operation.id:
                return plan

            async def handle(**given: Any) -> Any:
                token = CURRENT.set(operation.id)
                try:
                    return await work(handler, given)
                finally:
                    CURRENT.reset(token)

            return dataclasses.replace(plan, handler=handle)

        return compiled

    replace(pipeline, "compile_plan", make)


def inside(operation: contract.Operation, owner: Any, name: str, work: Callable[..., Any]) -> None:
    """Do ``work(old, …)`` in the place of a function, where the operation's handler calls it."""

    async def plain(handler: Work, given: Given) -> Any:
        return await handler(**given)

    def make(old: Callable[..., Any]) -> Callable[..., Any]:
        def chosen(*args: Any, **named: Any) -> Any:
            if CURRENT.get() != operation.id:
                return old(*args, **named)
            return work(old, *args, **named)

        return chosen

    around(operation, plain)
    replace(owner, name, make)


def admitting(operation: contract.Operation, *, kinds: bool = False, scopes: bool = False) -> None:
    """Admit callers of any kind, or with any scope."""

    def make(admit: Callable[..., None]) -> Callable[..., None]:
        def admitted(plan: Plan, caller: Caller | None, dialect: type[Dialect]) -> None:
            if plan.id != operation.id or caller is None:
                admit(plan, caller, dialect)
                return
            every = frozenset(contract.AUDIENCES)
            if (kinds and caller.kind not in plan.audiences) or (scopes and not caller.has_scope(plan.scope)):
                TRACES.add()
            security.authorize(
                caller, dialect, every if kinds else plan.audiences, None if scopes else plan.scope
            )

        return admitted

    replace(Plan, "authorize", make)


def unasked(operation: contract.Operation, caller: Caller) -> None:
    """Take whoever names nobody, or a dead credential, for ``caller``."""

    def make(find: Callable[..., Awaitable[None]]) -> Callable[..., Awaitable[None]]:
        async def found(edge: Edge, context: RequestContext, scope: Scope) -> None:
            await find(edge, context, scope)
            if context.caller is None and context.operation == operation.id:
                TRACES.add()
                context.caller, context.dialect = caller, caller.dialect

        return found

    replace(Edge, "_find_caller", make)


def accepting(operation: contract.Operation, change: Callable[[Plan, Given], Given]) -> None:
    """Change what the operation takes from its requests, after it was judged."""

    def make(arguments: Callable[..., Given]) -> Callable[..., Given]:
        def taken(plan: Plan, *args: Any) -> Given:
            given = arguments(plan, *args)
            if plan.id != operation.id:
                return given
            changed = change(plan, given)
            if changed != given:
                TRACES.add()
            return changed

        return taken

    replace(Plan, "arguments", make)
