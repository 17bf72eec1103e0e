"""An operation of the contract, compiled to a plan that can run."""

import inspect
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from handlers.caller import Caller
from handlers.dialects import Dialect
from openapi import contract, rendering
from server.errors import ContractBreach, ErrorDetail, detail, invalid_request
from server.http.reply import Reply
from server.request import security
from server.validation.answers import AnswerSchema
from server.validation.json_reader import InvalidJson, parse_json
from server.validation.parameters import Parameter, parse_headers, parse_query
from server.validation.validator import Validator
from server.validation.violations import Violation

SERVER_DEPENDENCIES = frozenset({"defaults", "box", "private_targets"})
INJECTABLE = frozenset({"user", "db", "now"}) | SERVER_DEPENDENCIES
"""What a handler may take by name: caller, connection, time, default settings, secret box, whether private
webhook targets are allowed."""

MOST_QUERIES = 100
QUERY_LENGTH = 200
"""The number of query strings whose values an operation caches, and the greatest length of one."""

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
    handler_parameters: frozenset[str]
    revokes_credentials: bool
    deprecation_headers: tuple[tuple[bytes, bytes], ...]
    queries: dict[tuple[bytes, str], dict[str, Any]] = field(default_factory=dict)

    @cached_property
    def is_write(self) -> bool:
        return self.method != "get"

    @cached_property
    def server_dependencies(self) -> frozenset[str]:
        """The values of the server that the handler takes."""
        return self.handler_parameters & SERVER_DEPENDENCIES

    @cached_property
    def not_passed_on(self) -> frozenset[str]:
        """The parameters that only the pipeline uses, such as ``Idempotency-Key``."""
        parameters = (
            *self.path_parameters,
            *self.query_parameters.values(),
            *self.header_parameters.values(),
        )
        return frozenset({each.argument for each in parameters} | {"body"}) - self.handler_parameters

    @cached_property
    def defaults(self) -> Mapping[str, Any]:
        """The default values of query parameters."""
        named = self.query_parameters.items()
        return {name: each.default for name, each in named if each.default is not None}

    def resource(self, arguments: Mapping[str, Any], content: Any) -> str:
        """Return the path of the changed resource: up to its last id, or with the id of the created one."""
        path = self.path[: self.path.rfind("}") + 1] or self.path
        if self.id.startswith("create_"):
            made = content.get("data", content)
            path = f"{self.path}/{made['id'] if 'id' in made else made['ticket_id']}"
        return path.format_map(arguments)

    def authorize(self, caller: Caller | None, dialect: type[Dialect]) -> None:
        """Require a caller that may call the operation. Raises Problem 401, 403."""
        if not self.public:
            security.authorize(caller, dialect, self.audiences, self.scope)

    def arguments(
        self,
        segments: tuple[str, ...],
        query: bytes,
        headers: Iterable[tuple[bytes, bytes]],
        body: bytes,
        dialect: str,
    ) -> dict[str, Any]:
        """Return the validated parameters and body of a raw request. Raises Problem 400, 422."""
        values, faults = self.query_arguments(query, dialect)
        if self.header_parameters:
            given, wrong = parse_headers(headers, self.header_parameters)
            values, faults = values | given, faults + wrong
        # Most paths have no parameter, and a strict zip costs as much as the rest of this function.
        if segments:
            for parameter, text in zip(self.path_parameters, segments, strict=True):
                values[parameter.name], wrong = parameter.parse(text)
                faults += wrong
        if not (body or self.bodies or faults):
            return values
        found: list[Violation] = []
        validator = self.bodies.get(dialect)
        content = validator.parse_if_plain(body) if body and validator else None
        try:
            if content is None and (body or self.body_required):
                content = parse_json(body) if body else None
                found = self.body_violations(content, bool(body), dialect)
        except InvalidJson as error:
            raise invalid_request(*faults, detail("body", "", str(error))) from None
        if found or faults:
            missing = [each.detail for each in found if each.missing]
            faults += [each.detail for each in found if not each.missing]
            raise invalid_request(*missing, *faults, status=422 if missing and dialect == "client" else 400)
        if self.bodies:
            values["body"] = content
        return values

    def query_arguments(self, query: bytes, dialect: str) -> tuple[dict[str, Any], list[ErrorDetail]]:
        """Return the parameters of a query string with the defaults, and its faults.

        Valid query strings are cached, except those that may hold a credential.
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

    def body_violations(self, content: Any, given: bool, dialect: str) -> list[Violation]:
        """Return what is wrong with a body, or with the absence of a required one."""
        validator = self.bodies.get(dialect)
        if validator is None:
            wrong = detail("body", "", "This operation takes no body; send none, or {}.")
            return [] if content == {} else [Violation(wrong)]
        if given and validator.is_valid(content):
            return []
        if given:
            return list(validator.violations(content, "body"))
        if validator.required:
            return list(validator.violations({}, "body"))
        return [Violation(detail("body", "", "A body is required; name at least one member to change."))]

    async def reply(self, answer: Any, dialect: str) -> Reply:
        """Validate what a handler returned, and serialize it. Raises ContractBreach."""
        content, status, *rest = answer
        if isinstance(content, rendering.Rendition):
            content_type = CONTENT_TYPES.get(self.media_type, self.media_type)
            headers = {"ETag": content.etag, "Cache-Control": "no-cache", **content.headers}
            return Reply(status, content.body, content_type, headers)
        schema = self.answers.get((status, dialect))
        if schema is None:
            raise ContractBreach(f"{self.id}: the contract does not list {status} for {dialect}")
        body = await schema.serialize(content)
        if body is None:
            faults = [each.detail for each in schema.violations(content, "body")]
            raise ContractBreach(f"{self.id}: the {status} answer breaks the contract: {faults}")
        return Reply(status, body, self.media_type, rest[0] if rest else {}, content=content)


def compile_plan(
    document: contract.Document, operation: contract.Operation, handler: Callable[..., Any]
) -> Plan:
    """Compile an operation. Raises ContractError for what the pipeline does not support."""
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
    handler_parameters = frozenset(inspect.signature(handler).parameters)
    dialects: list[contract.Audience] = ["client"] if operation.public else sorted(operation.audiences)
    unknown = (
        handler_parameters
        - {each.argument for each in parameters}
        - INJECTABLE
        - ({"body"} if body else set())
    )
    if unknown:
        raise contract.ContractError(
            f"{operation.id}: the pipeline does not provide {', '.join(sorted(unknown))}"
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
        handler_parameters=handler_parameters,
        revokes_credentials=bool(spec.get("x-revokes-credentials")),
        deprecation_headers=tuple(
            (name.lower().encode(), text.encode()) for name, text in operation.deprecation_headers.items()
        ),
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
