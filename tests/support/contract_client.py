"""An HTTP client that holds every request and every answer to the contract, 4xx and 5xx too.

Answers are judged by ``openapi-schema-validator``, which shares nothing with the server's own
validators. A request that the contract allows must not be answered 400 or 422, and one that it does
not allow must not be answered 2xx.
"""

import json
import re
from decimal import Decimal
from functools import cache
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import httpx
import jsonschema_rs
from openapi_schema_validator import OAS30Validator, oas30_format_checker
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT4

from openapi import contract, json_schema, loading

DOCUMENT = loading.bundle()
OPERATIONS = list(contract.operations(DOCUMENT))
REGISTRY = Registry().with_resource(
    "urn:contract", Resource.from_contents(DOCUMENT, default_specification=DRAFT4)
)
EVERYWHERE = ("X-Request-Id", "Cache-Control", "X-Content-Type-Options")


class Breach(AssertionError):
    """The contract says something else."""


@cache
def _paths() -> list[tuple[re.Pattern[str], str]]:
    paths = sorted(DOCUMENT["paths"], key=lambda path: path.count("{"))
    return [
        (
            re.compile(re.sub(r"{\w+}", "([^/]+)", re.escape(path).replace(r"\{", "{").replace(r"\}", "}"))),
            path,
        )
        for path in paths
    ]


def find(method: str, path: str) -> contract.Operation | None:
    """The operation that a method and a path below the base path call."""
    for pattern, template in _paths():
        if pattern.fullmatch(path):
            wanted = "get" if method == "HEAD" else method.lower()
            return next((each for each in OPERATIONS if (each.path, each.method) == (template, wanted)), None)
    return None


def spoken(headers: httpx.Headers, path: str, operation: contract.Operation | None) -> str | None:
    """The dialect that the demo credentials choose; None where the contract must be asked."""
    if operation and operation.public:
        return "client"
    secret = headers.get("Authorization", "").removeprefix("Bearer ")
    return {"abc123token": "client", "def456token": "client", "demo-admin-key": "admin"}.get(secret)


def check_answer(response: httpx.Response, dialect: str | None) -> None:
    """Raise Breach where an answer differs from the contract."""
    request = response.request
    path = urlsplit(str(request.url)).path.removeprefix("/api/v1")
    for name in EVERYWHERE:
        if name not in response.headers:
            raise Breach(f"{request.method} {path} {response.status_code}: no {name}")
    operation = find(request.method, path)
    if operation is None:
        if response.status_code not in (400, 401, 404, 405, 408, 413, 503):
            raise Breach(f"{request.method} {path}: {response.status_code} where nothing is")
        _check_schema(
            response,
            {
                "$ref": "#/components/schemas/ValidationErrorAnswer"
                if response.status_code == 400
                else "#/components/schemas/ErrorAnswer"
            },
            dialect,
        )
        return
    listed = operation.spec["responses"].get(str(response.status_code))
    if listed is None:
        raise Breach(f"{operation.id}: {response.status_code} is not listed\n{response.text[:500]}")
    definition = contract.deref(DOCUMENT, listed)
    for name, header in definition.get("headers", {}).items():
        spec = contract.deref(DOCUMENT, header)
        value = response.headers.get(name)
        if value is None:
            if spec["required"]:
                raise Breach(f"{operation.id} {response.status_code}: no {name}")
        else:
            _judge(spec["schema"], value, f"{operation.id} {response.status_code} {name}")
    unknown = {"link", "etag", "retry-after", "www-authenticate", "allow"} & set(response.headers)
    unknown -= {name.lower() for name in definition.get("headers", {})}
    if unknown:
        raise Breach(f"{operation.id} {response.status_code}: {unknown} is not listed")
    content = definition.get("content", {})
    if not content:
        if response.content:
            raise Breach(f"{operation.id} {response.status_code}: a body where none is listed")
        return
    media_type = response.headers["Content-Type"].partition(";")[0]
    if media_type not in content:
        raise Breach(f"{operation.id} {response.status_code}: {media_type} is not listed")
    if request.method != "HEAD" and media_type == "application/json":
        _check_schema(response, content[media_type]["schema"], dialect)
        if operation.id in ("list_events", "get_event") and response.status_code == 200:
            _check_events(path, response.json())


@cache
def _event_data() -> dict[str, Any]:
    """What the data of each event must be, by the webhook of its name."""
    return {
        each.path: contract.deref(
            DOCUMENT, each.spec["requestBody"]["content"]["application/json"]["schema"]
        )["properties"]["data"]
        for each in contract.webhooks(DOCUMENT)
    }


def _check_events(path: str, body: Any) -> None:
    """Raise Breach where the data of an event are not those of its webhook, which the schema leaves open."""
    found = body["data"] if isinstance(body["data"], list) else [body["data"]]
    for each in found:
        _judge(_event_data()[each["event"]], each["data"], f"{path}: the data of {each['event']}")


def _check_schema(response: httpx.Response, schema: Any, dialect: str | None) -> None:
    body = json.loads(response.content) if response.request.method != "HEAD" else None
    if body is None:
        return
    if dialect:
        branch = contract.branch(DOCUMENT, schema, dialect)  # type: ignore[arg-type]
        if branch is None:
            raise Breach(f"{response.request.url}: {response.status_code} is not of the {dialect} dialect")
        schema = branch
    _judge(schema, body, f"{response.request.method} {response.request.url} {response.status_code}")
    if response.status_code >= 400:
        error = body["error"]
        code = error["code"] if isinstance(error, dict) else body["code"]
        if code not in (response.status_code, _codes().get(response.status_code, code)):
            raise Breach(f"{response.request.url}: code {code} with status {response.status_code}")


@cache
def _codes() -> dict[int, str]:
    """The operators' code of each status, by the contract's examples of it."""
    return {
        int(status): example["value"]["error"]["code"]
        for operation in OPERATIONS
        for status, response in operation.spec["responses"].items()
        for content in contract.deref(DOCUMENT, response).get("content", {}).values()
        for example in content.get("examples", {}).values()
        if status >= "400" and example["x-dialect"] == "admin"
    }


def _judge(schema: Any, value: Any, what: str) -> None:
    schema = {"$ref": f"urn:contract{schema['$ref']}"}
    validator = OAS30Validator(schema, registry=REGISTRY, format_checker=oas30_format_checker)
    errors = [
        f"{'/'.join(map(str, error.absolute_path))}: {error.message[:300]}"
        for error in validator.iter_errors(value)
    ]
    if errors:
        raise Breach(f"{what}: " + "; ".join(errors))


@cache
def _body_validator(operation_id: str, dialect: str) -> Any:
    operation = next(each for each in OPERATIONS if each.id == operation_id)
    if "requestBody" not in operation.spec:
        return None
    schema = operation.spec["requestBody"]["content"]["application/json"]["schema"]
    branch = contract.branch(DOCUMENT, schema, dialect)  # type: ignore[arg-type]
    root = {**json_schema.json_schema(branch), "components": json_schema.json_schema(DOCUMENT["components"])}
    return _compile(root)


RFC_3339 = {
    name: jsonschema_rs.Draft4Validator({"format": name}, validate_formats=True)
    for name in ("date", "date-time")
}


def _is_kept_day(text: str) -> bool:
    return RFC_3339["date"].is_valid(text) and not text.startswith("0000")


def _is_kept_instant(text: str) -> bool:
    """Whether an instant lies in the years that the contract's description names."""
    if not RFC_3339["date-time"].is_valid(text):
        return False
    # The time of day and the offset, in minutes, say whether another year begins in UTC.
    hours, minutes, offset = int(text[11:13]), int(text[14:16]), text[-6:]
    ahead = 0 if text[-1] in "zZ" else int(f"{offset[0]}{int(offset[1:3]) * 60 + int(offset[4:6])}")
    minute = hours * 60 + minutes - ahead
    match text[:10]:
        case "0000-12-31":
            return minute >= 24 * 60
        case "0001-01-01":
            return minute >= 0
        case "9999-12-31":
            return minute < 24 * 60
    return not text.startswith("0000")


def _compile(schema: Any) -> Any:
    formats = {"date": _is_kept_day, "date-time": _is_kept_instant}
    return jsonschema_rs.Draft4Validator(schema, validate_formats=True, formats=formats)


def _number(text: str) -> int | Decimal:
    """The value of a number in a body: JSON Schema calls 1.0 an integer."""
    value = Decimal(text)
    return int(value) if value == value.to_integral_value() and value.adjusted() < 40 else value


def allowed(request: httpx.Request, operation: contract.Operation, dialect: str) -> bool:
    """Whether the contract allows a request of a caller who speaks ``dialect``."""
    parts = urlsplit(str(request.url))
    parameters = [contract.deref(DOCUMENT, each) for each in operation.spec.get("parameters", [])]
    mine = {
        each["name"]: each
        for each in parameters
        if each.get("x-dialect", dialect) == dialect and each["in"] == "query"
    }
    pairs = [pair for pair in parse_qsl(parts.query, keep_blank_values=True) if pair[0] != "api_token"]
    if len({name for name, _ in pairs}) != len(pairs) or any(name not in mine for name, _ in pairs):
        return False
    names = re.findall(r"{(\w+)}", operation.path)
    template = re.compile("/api/v1" + re.sub(r"{\w+}", "([^/]+)", operation.path))
    given = template.fullmatch(parts.path)
    elsewhere = {each["name"]: each for each in parameters if each["in"] != "query"}
    pairs += list(zip(names, given.groups() if given else (), strict=True))
    in_header = [
        (name, text)
        for name, each in elsewhere.items()
        if each["in"] == "header"
        for text in (
            [request.headers[name]]
            if each.get("x-list") and name in request.headers
            else request.headers.get_list(name)
        )
    ]
    if len({name for name, _ in in_header}) != len(in_header):
        return False
    for name, text in pairs + in_header:
        schema = contract.deref(DOCUMENT, (mine | elsewhere)[name]["schema"])
        value: Any = (
            int(text)
            if schema["type"] == "integer" and re.fullmatch(r"-?(0|[1-9]\d{0,30})", text, re.ASCII)
            else text
        )
        if not _compile(json_schema.json_schema(schema)).is_valid(value):
            return False
    validator = _body_validator(operation.id, dialect)
    content = request.content
    if validator is None:
        return content in (b"", b"{}")
    if not content:
        return not operation.spec["requestBody"].get("required")
    try:
        body = json.loads(content.decode(), parse_float=_number)
    except ValueError:
        return False
    return bool(validator.is_valid(body))


def check(response: httpx.Response) -> None:
    """Raise Breach where a request and its answer do not fit the contract."""
    request = response.request
    path = urlsplit(str(request.url)).path.removeprefix("/api/v1")
    operation = find(request.method, path)
    dialect = spoken(request.headers, path, operation)
    check_answer(response, dialect)
    if operation and dialect and (operation.public or dialect in operation.audiences):
        may = allowed(request, operation, dialect)
        if may and response.status_code in (400, 422):
            raise Breach(f"{operation.id}: a request that the contract allows got {response.text[:300]}")
        if not may and response.status_code < 300:
            raise Breach(f"{operation.id}: a request that the contract forbids got {response.status_code}")


class Api:
    """Calls a running server as one caller, and checks every call against the contract."""

    def __init__(self, url: str, secret: str | None) -> None:
        headers = {"Authorization": f"Bearer {secret}"} if secret else {}
        self.http = httpx.Client(
            base_url=url, headers=headers, timeout=30, event_hooks={"response": [self._check]}
        )

    @staticmethod
    def _check(response: httpx.Response) -> None:
        response.read()
        check(response)

    def request(self, method: str, path: str, **options: Any) -> httpx.Response:
        return self.http.request(method, path, **options)

    def get(self, path: str, **params: Any) -> httpx.Response:
        return self.http.get(path, params=params or None)

    def post(self, path: str, body: Any = None) -> httpx.Response:
        return self.http.post(path, json=body) if body is not None else self.http.post(path)

    def put(self, path: str, body: Any = None) -> httpx.Response:
        return self.http.put(path, json=body) if body is not None else self.http.put(path)

    def close(self) -> None:
        self.http.close()
