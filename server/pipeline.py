"""Each operation of the contract compiled to a plan, and the one middleware that runs the plans.

Built of Connexion's own specification, operations and resolver. A plan runs: admit the caller →
check what it accepts and sends → open the transaction → call the handler → check and serialise the
answer → commit → send. It can also be run in process, by operationId.
"""

import inspect
import re
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property, lru_cache
from typing import Any
from urllib.parse import unquote_to_bytes

from connexion.middleware import SpecMiddleware
from connexion.spec import Specification
from starlette.types import ASGIApp, Receive, Scope, Send

from handlers.caller import Caller
from handlers.dialects import Dialect
from openapi import contract
from persistence import activity
from persistence.database import Database, current_caller
from persistence.errors import Busy, StillRunning
from server import security
from server.errors import ContractBreach, Fault, Problem, fault, invalid
from server.idempotency import Keyed, Replayed, fingerprint
from server.transport import Reply, accepts, call_of, read_body, require_json, send_reply
from server.validation import (
    AnswerSchema,
    BadJson,
    Found,
    Parameter,
    Validator,
    parse_headers,
    parse_json,
    parse_query,
)

Clock = Callable[[], datetime]

OWN = frozenset({"defaults", "box", "private_targets"})
GIVEN = frozenset({"user", "db", "now"}) | OWN
"""What any handler may ask for: the caller, its transaction, the time; and of the server's own the settings
as they are at first, what seals secrets, and whether webhooks may be sent to inner networks."""

MOST_QUERIES = 100
QUERY_LENGTH = 200
"""How many query strings of an operation are remembered with what they mean, and their greatest length."""

MOST_PATHS = 4_096
PATH_LENGTH = 200
"""How many paths are remembered with where they lead, and their greatest length."""

CONTENT_TYPES = {kind: f"{kind}; charset=utf-8" for kind in ("text/html", "text/plain")}


@dataclass(frozen=True)
class Plan:
    """One operation, ready to run."""

    id: str
    method: str
    path: str
    public: bool
    audiences: frozenset[str]
    scope: str | None
    media_type: str
    path_parameters: tuple[Parameter, ...]
    query_parameters: Mapping[str, Parameter]
    header_parameters: Mapping[bytes, Parameter]
    bodies: Mapping[str, Validator]
    body_required: bool
    answers: Mapping[tuple[int, str], AnswerSchema]
    handler: Callable[..., Any]
    wants: frozenset[str]
    ends_credentials: bool
    farewell: tuple[tuple[bytes, bytes], ...]
    queries: dict[tuple[bytes, str], dict[str, Any]] = field(default_factory=dict)

    @cached_property
    def writes(self) -> bool:
        return self.method != "get"

    @cached_property
    def owns(self) -> frozenset[str]:
        """What the handler asks for of the server's own."""
        return self.wants & OWN

    @cached_property
    def unwanted(self) -> frozenset[str]:
        """The parameters that the pipeline itself acts on, and the handler does not ask for."""
        parameters = (
            *self.path_parameters,
            *self.query_parameters.values(),
            *self.header_parameters.values(),
        )
        return frozenset({each.argument for each in parameters} | {"body"}) - self.wants

    @cached_property
    def defaults(self) -> Mapping[str, Any]:
        """The parameters that have a value where none is given."""
        named = self.query_parameters.items()
        return {name: each.default for name, each in named if each.default is not None}

    def resource(self, arguments: Mapping[str, Any], content: Any) -> str:
        """The path of what was changed: up to its last id, or with the id of what was made."""
        path = self.path[: self.path.rfind("}") + 1] or self.path
        if self.id.startswith("create_"):
            made = content.get("data", content)
            path = f"{self.path}/{made['id'] if 'id' in made else made['ticket_id']}"
        return path.format_map(arguments)

    def admit(self, caller: Caller | None, dialect: type[Dialect]) -> None:
        """Let the caller in. Raises Problem 401, 403."""
        if not self.public:
            security.admit(caller, dialect, self.audiences, self.scope)

    def arguments(
        self,
        segments: tuple[str, ...],
        query: bytes,
        headers: Iterable[tuple[bytes, bytes]],
        body: bytes,
        dialect: str,
    ) -> dict[str, Any]:
        """The handler's arguments from the raw request. Raises Problem 400, 422."""
        values, faults = self._asked(query, dialect)
        if self.header_parameters:
            given, wrong = parse_headers(headers, self.header_parameters)
            values, faults = values | given, faults + wrong
        # Where there are none, to zip them strictly would cost as much as all the rest of this.
        if segments:
            for parameter, text in zip(self.path_parameters, segments, strict=True):
                values[parameter.name], wrong = parameter.parse(text)
                faults += wrong
        if not (body or self.bodies or faults):
            return values
        found: list[Found] = []
        validator = self.bodies.get(dialect)
        content = validator.read(body) if body and validator else None
        try:
            if content is None and (body or self.body_required):
                content = parse_json(body) if body else None
                found = self.judge(content, bool(body), dialect)
        except BadJson as error:
            raise invalid(*faults, fault("body", "", str(error))) from None
        if found or faults:
            missing = [each.fault for each in found if each.missing]
            faults += [each.fault for each in found if not each.missing]
            raise invalid(*missing, *faults, status=422 if missing and dialect == "client" else 400)
        if self.bodies:
            values["body"] = content
        return values

    def _asked(self, query: bytes, dialect: str) -> tuple[dict[str, Any], list[Fault]]:
        """What a query string and the defaults give, and what is wrong; good ones are remembered, secrets
        are not.
        """
        known = self.queries.get((query, dialect))
        if known is not None:
            return known.copy(), []
        values, faults = parse_query(query, self.query_parameters, dialect)
        values = {**self.defaults, **values}
        secret = b"api_token" in query or b"%" in query
        if not faults and not secret and len(query) <= QUERY_LENGTH:
            if len(self.queries) >= MOST_QUERIES:
                del self.queries[next(iter(self.queries))]
            self.queries[query, dialect] = values.copy()
        return values, faults

    def judge(self, content: Any, given: bool, dialect: str) -> "list[Found]":
        """What is wrong with a body that is there, or that is required and is not."""
        validator = self.bodies.get(dialect)
        if validator is None:
            wrong = fault("body", "", "This takes no body; send none, or {}.")
            return [] if content == {} else [Found(wrong)]
        if given and validator.is_valid(content):
            return []
        if given:
            return list(validator.faults(content, "body"))
        if validator.required:
            return list(validator.faults({}, "body"))
        return [Found(fault("body", "", "A body is required; name at least one member to change."))]

    async def reply(self, answer: Any, dialect: str) -> Reply:
        """What a handler answered, judged by the contract and serialised. Raises ContractBreach."""
        content, status, *rest = answer
        if isinstance(content, contract.Rendition):
            content_type = CONTENT_TYPES.get(self.media_type, self.media_type)
            headers = {"ETag": content.etag, "Cache-Control": "no-cache", **content.headers}
            return Reply(status, content.body, content_type, headers)
        schema = self.answers.get((status, dialect))
        if schema is None:
            raise ContractBreach(f"{self.id}: the contract does not list {status} for {dialect}")
        body = await schema.serialize(content)
        if body is None:
            faults = [each.fault for each in schema.faults(content, "body")]
            raise ContractBreach(f"{self.id}: the {status} answer breaks the contract: {faults}")
        return Reply(status, body, self.media_type, rest[0] if rest else {}, content=content)


@dataclass(frozen=True)
class Match:
    """A path of the contract, and what is called there."""

    plans: Mapping[str, Plan]
    segments: tuple[str, ...]

    def allowed(self, kind: str | None) -> str:
        """The value of ``Allow`` for a kind of caller, of everyone where it is None."""
        mine = [each for each in self.plans.values() if each.public or kind is None or kind in each.audiences]
        names = sorted({each.method.upper() for each in mine})
        return ", ".join(["GET", "HEAD"] * ("GET" in names) + [name for name in names if name != "GET"])

    def plan(self, method: str) -> Plan | None:
        return self.plans.get("get" if method == "HEAD" else method.lower())

    @cached_property
    def public(self) -> bool:
        return all(each.public for each in self.plans.values())

    @cached_property
    def only_dialect(self) -> type[Dialect] | None:
        """The dialect of a path that one kind of caller alone can use."""
        kinds = {kind for each in self.plans.values() for kind in each.audiences}
        return security.DIALECTS[kinds.pop()] if len(kinds) == 1 else None


class Routes:
    """The paths of the contract, found by the segments of a raw path."""

    def __init__(self, base_path: str) -> None:
        self.base = tuple(base_path.split("/")[1:])
        # The same few thousand paths again and again.
        self._remembered = lru_cache(MOST_PATHS)(self._match)
        self.fixed: dict[tuple[str, ...], dict[str, Plan]] = {}
        self.open: list[tuple[tuple[str | None, ...], dict[str, Plan]]] = []

    def add(self, plan: Plan) -> None:
        parts = tuple(None if part.startswith("{") else part for part in plan.path.split("/")[1:])
        if None not in parts:
            self.fixed.setdefault(tuple(part or "" for part in parts), {})[plan.method] = plan
            return
        for known, plans in self.open:
            if known == parts:
                plans[plan.method] = plan
                return
        self.open.append((parts, {plan.method: plan}))

    def match(self, raw_path: bytes) -> Match | None:
        """The path's plans and the texts of its parameters, or None."""
        return (self._remembered if len(raw_path) <= PATH_LENGTH else self._match)(raw_path)

    def _match(self, raw_path: bytes) -> Match | None:
        # Split before decoding, so that %2F stays inside its segment.
        nothing, *segments = raw_path.split(b"/")
        parts = tuple(_segment(part) for part in segments)
        if nothing or parts[: len(self.base)] != self.base:
            return None
        parts = parts[len(self.base) :]
        plans = self.fixed.get(parts)
        if plans is not None:
            return Match(plans, ())
        for known, plans in self.open:
            if len(known) == len(parts) and all(
                name is None or name == part for name, part in zip(known, parts, strict=True)
            ):
                given = tuple(part for name, part in zip(known, parts, strict=True) if name is None)
                return Match(plans, given) if all(given) else None
        return None


def _segment(raw: bytes) -> str:
    return (unquote_to_bytes(raw) if b"%" in raw else raw).decode("utf-8", errors="replace")


class Pipeline(SpecMiddleware):
    """Connexion's middleware that runs the plans. It is the innermost: nothing is called behind it."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        database: Database,
        clock: Clock,
        own: Mapping[str, Any],
        ended: Callable[[], Awaitable[None]],
    ) -> None:
        """``own`` is what handlers may ask for of the server's; ``ended`` is called where credentials end."""
        self.ended = ended
        self.database = database
        self.clock = clock
        self.own = own
        self.plans: dict[str, Plan] = {}
        self.routes = Routes("")
        self.document: contract.Document = {}

    def add_api(self, specification: Specification, *, resolver: Any, **_: Any) -> None:
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
        call = call_of(scope)
        match, plan, dialect = call.match, call.plan, call.dialect
        if match is None or plan is None:
            raise refuse_route(match, call.audience)
        if call.count is not None and not call.count.admitted:
            raise security.exhausted(dialect, call.count.seconds)
        plan.admit(call.caller, dialect)
        if not accepts(scope, plan.media_type):
            raise Problem(406, f"Only {plan.media_type} can be answered here.")
        call.reading = True
        body = await read_body(scope, receive)
        if body:
            require_json(scope)
        arguments = plan.arguments(
            match.segments, scope["query_string"], scope["headers"], body, dialect.name
        )
        same = ""
        if "idempotency_key" in arguments:
            same = fingerprint(scope["method"], scope.get("raw_path") or scope["path"].encode(), body)
        reply = await self.run(plan, call.caller, dialect, arguments, same, call.request_id)
        etag = reply.headers.get("ETag") if "if_none_match" in arguments else None
        if etag and names_version(arguments["if_none_match"], etag):
            reply = Reply(304, b"", headers=reply.headers)
        await send_reply(send, reply)

    async def run(
        self,
        plan: Plan,
        caller: Caller | None,
        dialect: type[Dialect],
        arguments: dict[str, Any],
        same: str = "",
        request_id: str = "",
    ) -> Reply:
        """Call the handler inside its transaction, and have it known where that ended a credential.

        Raises Refusal, ContractBreach, and what the handler raises.
        """
        current_caller.set(caller and (caller.actor, caller.actor_id))
        given = arguments.copy()
        for name in plan.unwanted:
            given.pop(name, None)
        for name in plan.owns:
            given[name] = self.own[name]
        if "user" in plan.wants:
            given["user"] = caller
        if "now" in plan.wants:
            given["now"] = self.clock()
        if "db" not in plan.wants:
            return await plan.reply(await plan.handler(**given), dialect.name)
        if not plan.writes:
            async with self.database.reading() as db:
                answer = await plan.handler(**given, db=db)
            return await plan.reply(answer, dialect.name)
        assert caller is not None
        reply = await self._commit(plan, caller, dialect, arguments, given, same, request_id)
        if plan.ends_credentials:
            await self.ended()
        return reply

    async def _commit(
        self,
        plan: Plan,
        caller: Caller,
        dialect: type[Dialect],
        arguments: dict[str, Any],
        given: dict[str, Any],
        same: str,
        request_id: str,
    ) -> Reply:
        """The answer to a change, whose transaction has been committed only if the contract allows it.

        It is kept as activity in the same transaction, as made by the request ``request_id``.
        With an ``idempotency_key`` the answer is kept in the same transaction, for the next request with
        it; ``same`` is what that must have in common.
        """
        key = arguments.get("idempotency_key")
        if key is None:
            async with self.database.transaction() as db:
                return await self._change(plan, caller, dialect, arguments, given | {"db": db}, request_id)
        request = Keyed(self.own["box"], caller, key.strip('"'), same, self.clock())
        try:
            async with self.database.transaction(request.claim) as db:
                reply = await self._change(plan, caller, dialect, arguments, given | {"db": db}, request_id)
                await request.keep(db, reply)
                return reply
        except Replayed as replayed:
            return replayed.reply
        except Busy as error:
            raise StillRunning from error

    async def _change(
        self,
        plan: Plan,
        caller: Caller,
        dialect: type[Dialect],
        arguments: Mapping[str, Any],
        given: Mapping[str, Any],
        request_id: str,
    ) -> Reply:
        """Call the handler and record the change in the activity log, in the same transaction.

        What was found as it should become is no change.
        """
        answer = await plan.handler(**given)
        reply = await plan.reply(answer, dialect.name)
        if given["db"].unchanged:
            return reply
        await activity.add(
            given["db"],
            actor=caller.actor,
            actor_id=caller.actor_id,
            operation=plan.id,
            resource=plan.resource(arguments, answer[0]),
            request_id=request_id,
            created_at=given.get("now") or self.clock(),
        )
        return reply


def refuse_route(match: Match | None, audience: str | None) -> Problem:
    """Why a request leads nowhere: 404, or 405 with the methods that lead somewhere for the audience."""
    if match is None:
        return Problem(404, "Resource not found")
    return Problem(
        405,
        "This method is not allowed here.",
        headers={"Allow": match.allowed(audience)},
    )


def names_version(tags: str, etag: str) -> bool:
    """Whether an ``If-None-Match`` names a version; RFC 9110 has weak tags compared like strong ones here."""
    return tags.strip() == "*" or etag in re.findall(r'"[^"]*"', tags)


def compile_plan(
    document: contract.Document, operation: contract.Operation, handler: Callable[..., Any]
) -> Plan:
    """The plan of an operation. Raises ContractError for what the pipeline does not support."""
    spec = operation.spec
    parameters = [
        Parameter.compile(document, contract.deref(document, each)) for each in spec.get("parameters", [])
    ]
    in_path = re.findall(r"{(\w+)}", operation.path)
    by_name = {each.name: each for each in parameters if each.place == "path"}
    if list(by_name) != in_path:
        raise contract.ContractError(f"{operation.id}: the path and its parameters differ")
    body = spec.get("requestBody", {})
    if body and list(body["content"]) != ["application/json"]:
        raise contract.ContractError(f"{operation.id}: only bodies in application/json are supported")
    wants = frozenset(inspect.signature(handler).parameters)
    dialects: list[contract.Audience] = ["client"] if operation.public else sorted(operation.audiences)
    unknown = wants - {each.argument for each in parameters} - GIVEN - ({"body"} if body else set())
    if unknown:
        raise contract.ContractError(
            f"{operation.id}: the handler wants {', '.join(sorted(unknown))}, which is not given"
        )
    return Plan(
        id=operation.id,
        method=operation.method,
        path=operation.path,
        public=operation.public,
        audiences=operation.audiences,
        scope=operation.scope,
        media_type=_media_type(document, operation),
        path_parameters=tuple(by_name[name] for name in in_path),
        query_parameters={each.name: each for each in parameters if each.place == "query"},
        header_parameters={each.name.lower().encode(): each for each in parameters if each.place == "header"},
        bodies=_bodies(document, operation, dialects),
        body_required=bool(body.get("required")),
        answers=dict(_answers(document, operation, dialects)),
        handler=handler,
        wants=wants,
        ends_credentials=bool(spec.get("x-ends-credentials")),
        farewell=tuple((name.lower().encode(), text.encode()) for name, text in operation.farewell.items()),
    )


def _media_type(document: contract.Document, operation: contract.Operation) -> str:
    success = next(
        contract.deref(document, response)
        for status, response in operation.spec["responses"].items()
        if status.startswith("2")
    )
    (media_type,) = success["content"]
    return str(media_type)


def _bodies(
    document: contract.Document, operation: contract.Operation, dialects: list[contract.Audience]
) -> dict[str, Validator]:
    if "requestBody" not in operation.spec:
        return {}
    schema = operation.spec["requestBody"]["content"]["application/json"]["schema"]
    branches = {each: contract.branch(document, schema, each) for each in dialects}
    return {each: Validator(document, branch) for each, branch in branches.items() if branch is not None}


def _answers(
    document: contract.Document, operation: contract.Operation, dialects: list[contract.Audience]
) -> Iterator[tuple[tuple[int, str], AnswerSchema]]:
    for status, response in operation.spec["responses"].items():
        content = contract.deref(document, response).get("content", {})
        if not status.startswith("2") or "application/json" not in content:
            continue
        for dialect in dialects:
            branch = contract.branch(document, content["application/json"]["schema"], dialect)
            if branch is not None:
                yield (int(status), dialect), AnswerSchema(document, branch)
