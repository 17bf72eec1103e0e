"""The rules of the contract as functions: a document in (OpenAPI 3.0 or 3.1), its faults out."""

import importlib
import inspect
import pkgutil
import re
from collections.abc import Callable, Iterator
from typing import Any

from openapi_schema_validator import (
    OAS30Validator,
    OAS31Validator,
    oas30_format_checker,
    oas31_format_checker,
)
from referencing import Registry
from referencing.jsonschema import DRAFT4, DRAFT202012

import handlers
from handlers.tokens import CLIENT_SCOPES
from handlers.webhooks import read_scope
from openapi import contract, json_schema, loading
from persistence import lifecycle
from server.errors import CODES
from server.http.body import MAX_BODY

Rule = Callable[[contract.Document], Iterator[str]]
RULES: list[Rule] = []

VERBS = (
    *("list", "get", "create", "update", "delete", "suspend", "unsuspend", "terminate", "pay", "reply_to"),
    *("close", "search", "rotate", "test", "resend", "recover", "revoke", "show"),
)

# The contract describes itself as any OpenAPI document, which cannot be closed. The data of events are those
# of the webhooks, whose models are closed; of a choice between them some generators make one that fits none.
OPEN = {"ContractDocument", "EventData"}
# Helpers of handler modules, which no operation names.
NOT_OPERATIONS = {"handlers.caller", "handlers.dialects"}

# What a webhook is sent beside the body, and whether always.
SENT_HEADERS = {
    ("header", "webhook-id"): True,
    ("header", "webhook-timestamp"): True,
    ("header", "webhook-signature"): True,
    ("header", "X-CloudArc-Test"): False,
}

MAX_ANSWER = 4 * 1024 * 1024
"""Bytes. SECURITY.md promises this of every answer."""

DEPRECATION = {"Deprecation", "Sunset"}

ALWAYS = {"400", "405", "406", "408", "413", "415", "429", "500", "503"}


def rule(function: Rule) -> Rule:
    RULES.append(function)
    return function


def schemas(document: contract.Document) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every schema object, with where it stands."""

    def visit(node: Any, where: str) -> Iterator[tuple[str, dict[str, Any]]]:
        if not isinstance(node, dict):
            return
        yield where, node
        for name, each in node.get("properties", {}).items():
            yield from visit(each, f"{where}.{name}")
        for index, each in enumerate(node.get("oneOf", [])):
            yield from visit(each, f"{where}|{index}")
        if "items" in node:
            yield from visit(node["items"], f"{where}[]")

    for name, schema in document["components"]["schemas"].items():
        yield from visit(schema, name)
    for where, media in media_types(document):
        yield from visit(media["schema"], where)
    for name, parameter in document["components"]["parameters"].items():
        yield from visit(parameter["schema"], f"parameter {name}")
    for name, header in document["components"]["headers"].items():
        yield from visit(header["schema"], f"header {name}")


def kind_of(schema: dict[str, Any]) -> tuple[str | None, bool]:
    """Its type, and whether it may be null, which 3.0 and 3.1 say differently."""
    kinds = schema.get("type")
    if isinstance(kinds, list):
        (kind,) = [each for each in kinds if each != "null"]
        return kind, "null" in kinds
    return kinds, schema.get("nullable", False)


def is_modern(document: contract.Document) -> bool:
    return bool(document["openapi"].startswith("3.1."))


def media_types(document: contract.Document) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every media type of a body, sent or received, or an answer, with where it stands."""
    for webhook in contract.webhooks(document):
        for media in webhook.spec["requestBody"]["content"].values():
            yield f"{webhook.id} body", media
    for operation in contract.operations(document):
        for media in operation.spec.get("requestBody", {}).get("content", {}).values():
            yield f"{operation.id} body", media
        for status, response in operation.spec["responses"].items():
            for media in contract.deref(document, response).get("content", {}).values():
                yield f"{operation.id} {status}", media


@rule
def objects_are_closed(document: contract.Document) -> Iterator[str]:
    for where, schema in schemas(document):
        if (
            schema.get("type") == "object"
            and where not in OPEN
            and schema.get("additionalProperties") is not False
        ):
            yield f"{where} is not closed"


@rule
def objects_are_named(document: contract.Document) -> Iterator[str]:
    names = document["components"]["schemas"]
    for where, schema in schemas(document):
        if where not in names and (
            schema.get("type") == "object" or "properties" in schema or "oneOf" in schema
        ):
            yield f"{where} is an object without a name"


@rule
def enums_are_named(document: contract.Document) -> Iterator[str]:
    names = document["components"]["schemas"]
    for where, schema in schemas(document):
        if "enum" in schema and where not in names:
            yield f"{where} is an enum without a name"
        if "enum" in schema and schema.get("type") == "boolean":
            yield f"{where} is an enum of booleans, at which generators crash; say it in the description"


@rule
def one_name_is_one_thing(document: contract.Document) -> Iterator[str]:
    seen: dict[str, str] = {}
    for kind, definitions in document["components"].items():
        for name in definitions:
            if name in seen:
                yield f"{name} is one of the {kind} and one of the {seen[name]}"
            seen[name] = kind


@rule
def nothing_is_a_choice_between_objects(document: contract.Document) -> Iterator[str]:
    for where, schema in schemas(document):
        branches = [contract.deref(document, each) for each in schema.get("oneOf", [])]
        objects = [each for each in branches if "properties" in each]
        if objects and not all("x-dialect" in each for each in branches):
            # PHP, Kotlin and Dart merge the branches into one model, which fits none of them.
            yield f"{where} is a choice between objects, which not every generator can express"


@rule
def passwords_are_write_only(document: contract.Document) -> Iterator[str]:
    for where, schema in schemas(document):
        if (schema.get("format") == "password") != schema.get("writeOnly", False):
            yield f"{where} needs format: password and writeOnly: true, or neither"


@rule
def info_says_whose_it_is(document: contract.Document) -> Iterator[str]:
    for name in ("description", "contact", "license"):
        if not document["info"].get(name):
            yield f"info has no {name}"
    if "://" not in document["info"].get("contact", {}).get("url", "://"):
        # The parser of the most used generator refuses a document whose contact has a relative address.
        yield "the url of the contact must be absolute"
    base, page = document["servers"][0]["url"], document.get("externalDocs", {}).get("url", "")
    if is_modern(document):
        # The schema of OpenAPI 3.1 demands an absolute URL.
        if page:
            yield f"externalDocs leads to {page}, which is not absolute"
    elif page not in {base + path for path in document["paths"]}:
        yield f"externalDocs leads to {page or 'nothing'}, which is no path of the contract"


@rule
def required_members_are_defined(document: contract.Document) -> Iterator[str]:
    for where, schema in schemas(document):
        if where not in OPEN:
            for name in sorted(set(schema.get("required", [])) - schema.get("properties", {}).keys()):
                yield f"{where} requires {name}, which it does not define"


@rule
def everything_is_bounded(document: contract.Document) -> Iterator[str]:
    for where, schema in schemas(document):
        kind, _ = kind_of(schema)
        bounded = (
            "enum" in schema or "maxLength" in schema or schema.get("format") in json_schema.DATE_FORMATS
        )
        if kind == "string" and not bounded:
            yield f"{where} has no maxLength"
        if kind == "array" and "maxItems" not in schema:
            yield f"{where} has no maxItems"
        if (
            kind in ("integer", "number")
            and "enum" not in schema
            and not {"minimum", "maximum"} <= schema.keys()
        ):
            yield f"{where} has no bounds"
        if {"exclusiveMinimum", "exclusiveMaximum"} & schema.keys():
            yield f"{where} has an exclusive bound"
        if kind == "object" and schema.get("additionalProperties") and "maxProperties" not in schema:
            yield f"{where} has no maxProperties"


@rule
def formats_of_dates_stand_alone(document: contract.Document) -> Iterator[str]:
    for where, schema in schemas(document):
        # Generated clients hold a date that they have read to what is meant for its text.
        beside = sorted({"pattern", "minLength", "maxLength"} & schema.keys())
        if schema.get("format") in json_schema.DATE_FORMATS and beside:
            yield f"{where} has {', '.join(beside)} beside its format"


@rule
def decimals_have_no_multiple(document: contract.Document) -> Iterator[str]:
    for where, schema in schemas(document):
        # Validators with binary floats find that 19.99 is no multiple of 0.01.
        if kind_of(schema)[0] == "number" and "multipleOf" in schema:
            yield f"{where} has multipleOf"


def input_schemas(document: contract.Document) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every schema of what callers send in paths, queries and bodies, with where it stands."""

    def visit(node: Any, where: str) -> Iterator[tuple[str, dict[str, Any]]]:
        schema = contract.deref(document, node)
        yield where, schema
        for name, each in schema.get("properties", {}).items():
            yield from visit(each, f"{where}.{name}")
        for each in schema.get("oneOf", []):
            yield from visit(each, where)
        if "items" in schema:
            yield from visit(schema["items"], f"{where}[]")

    for operation in contract.operations(document):
        for each in operation.spec.get("parameters", []):
            parameter = contract.deref(document, each)
            # HTTP itself keeps control characters out of headers.
            if parameter["in"] != "header":
                yield from visit(parameter["schema"], f"{operation.id} {parameter['name']}")
        for media in operation.spec.get("requestBody", {}).get("content", {}).values():
            yield from visit(media["schema"], operation.id)


@rule
def every_text_of_input_says_what_it_may_contain(document: contract.Document) -> Iterator[str]:
    for where, schema in input_schemas(document):
        said = {"enum", "pattern"} & schema.keys() or schema.get("format") in json_schema.DATE_FORMATS
        barred = schema.get("not", {}).get("pattern", "")
        if kind_of(schema)[0] == "string" and not said and not re.search(barred or "(?!)", "\0"):
            yield f"{where} admits any character, NUL too; give it a pattern or an x-text"


@rule
def every_value_of_an_enum_has_a_name(document: contract.Document) -> Iterator[str]:
    for where, schema in schemas(document):
        values = [each for each in schema.get("enum", ()) if not isinstance(each, bool)]
        names = schema.get("x-enum-varnames", values)
        if "" in values:
            yield f"{where} has an empty value"
        if not all(loading.IDENTIFIER.fullmatch(str(each)) for each in names):
            yield f"{where} needs x-enum-varnames, for its values are no identifiers"
        if len(names) != len(values) or len(set(names)) != len(names):
            yield f"{where} needs one x-enum-varnames for each value"


@rule
def what_is_admitted_is_not_too_large(document: contract.Document) -> Iterator[str]:
    for operation in contract.operations(document):
        content = operation.spec.get("requestBody", {}).get("content", {})
        for media_type in content.values():
            # A caller may write each character as an escaped pair.
            size = json_schema.largest_json(document, media_type["schema"], len(r"\ud83e\udd8a"))
            if size > MAX_BODY:
                yield f"{operation.id} admits bodies of {size} bytes, and the server {MAX_BODY}"


@rule
def no_answer_is_too_large(document: contract.Document) -> Iterator[str]:
    for operation in contract.operations(document):
        for status, response in operation.spec["responses"].items():
            for media in contract.deref(document, response).get("content", {}).values():
                if (size := json_schema.largest_json(document, media["schema"])) > MAX_ANSWER:
                    yield f"{operation.id} {status} admits answers of {size} bytes, more than {MAX_ANSWER}"


@rule
def only_scalars_without_an_enum_are_nullable(document: contract.Document) -> Iterator[str]:
    for where, schema in schemas(document):
        kind, nullable = kind_of(schema)
        if nullable and ("enum" in schema or kind in ("object", "array", None)):
            yield f"{where} must not be nullable"


@rule
def names_are_right(document: contract.Document) -> Iterator[str]:
    for kind, definitions in document["components"].items():
        for name in definitions:
            pattern = r"[a-z][A-Za-z]+" if kind == "securitySchemes" else r"[A-Z][A-Za-z0-9]+"
            if not re.fullmatch(pattern, name) or name == "Client":
                yield f"{kind}: {name} is no name for a component"
    for where, schema in schemas(document):
        for name in schema.get("properties", {}):
            if not re.fullmatch(r"[a-z][a-z0-9_]*", name) and where not in OPEN:
                yield f"{where}.{name} is no name for a member"


@rule
def everything_is_described(document: contract.Document) -> Iterator[str]:
    seen: set[str] = set()
    for operation in contract.operations(document):
        for name in ("summary", "description", "tags", "operationId"):
            if not operation.spec.get(name):
                yield f"{operation.method} {operation.path} has no {name}"
        verb = next((each for each in VERBS if operation.id.startswith(f"{each}_")), None)
        if verb is None:
            yield f"{operation.id} does not begin with a verb of the list"
        if operation.id in seen:
            yield f"{operation.id} stands twice"
        seen.add(operation.id)
        if len(operation.spec["tags"]) != 1:
            yield f"{operation.id} needs one tag, whose module has its function"
    for webhook in contract.webhooks(document):
        for name in ("summary", "description"):
            if not webhook.spec.get(name):
                yield f"{webhook.path} has no {name}"
        if webhook.id in seen:
            yield f"{webhook.id} stands twice"
        seen.add(webhook.id)
    for kind in ("schemas", "headers", "parameters", "responses"):
        for name, definition in document["components"][kind].items():
            if not definition.get("description"):
                yield f"{kind}: {name} has no description"


@rule
def examples_are_there_and_valid(document: contract.Document) -> Iterator[str]:
    modern = is_modern(document)
    draft, judge = (DRAFT202012, OAS31Validator) if modern else (DRAFT4, OAS30Validator)
    formats = oas31_format_checker if modern else oas30_format_checker
    registry = Registry().with_resource("urn:doc", draft.create_resource(document))

    def faults(schema: Any, value: Any) -> list[str]:
        target = {"$ref": f"urn:doc{schema['$ref']}"} if "$ref" in schema else schema
        validator = judge(target, registry=registry, format_checker=formats)
        return [each.message[:200] for each in validator.iter_errors(value)]

    for name, schema in document["components"]["schemas"].items():
        examples = (
            schema.get("examples", []) if modern else [schema[key] for key in ("example",) if key in schema]
        )
        if not examples and "oneOf" not in schema:
            yield f"{name} has no example"
        for example in examples:
            if wrong := faults({"$ref": f"#/components/schemas/{name}"}, example):
                yield f"the example of {name}: {wrong}"
    parameters = [(name, each) for name, each in document["components"]["parameters"].items()]
    for where, node in [*media_types(document), *parameters]:
        values = (
            [node["example"]]
            if "example" in node
            else [each["value"] for each in node.get("examples", {}).values()]
        )
        if not values:
            yield f"{where} has no example"
        for value in values:
            if wrong := faults(node["schema"], value):
                yield f"an example of {where}: {wrong}"


@rule
def nothing_is_of_the_other_version(document: contract.Document) -> Iterator[str]:
    modern = is_modern(document)
    if ("webhooks" if modern else "x-webhooks") not in document:
        yield "the events are missing"
    others = {"nullable", "example"} if modern else {"examples"}
    for where, schema in schemas(document):
        yield from (f"{where} has {name}" for name in sorted(others & schema.keys()))
        if isinstance(schema.get("type"), list) and not modern:
            yield f"{where} has several types"
    if ("x-webhooks" if modern else "webhooks") in document:
        yield "the events stand where the other version has them"


@rule
def what_may_grow_says_so(document: contract.Document) -> Iterator[str]:
    for where, schema in schemas(document):
        grows = "The list may grow" in schema.get("description", "")
        if grows != schema.get("x-may-grow", False):
            yield f"{where} needs x-may-grow: true, and a description that says that the list may grow"
        if grows and not {"enum", "oneOf"} & schema.keys():
            yield f"{where} is no list"
    # Whoever reads an answer must know that it may have names of tomorrow.
    for name in ("ErrorCode", "EventName", "Scope", "Currency", "CountryCode"):
        if not document["components"]["schemas"].get(name, {}).get("x-may-grow"):
            yield f"{name} may grow, but does not say so"


@rule
def what_is_deprecated_says_since_when_and_until(document: contract.Document) -> Iterator[str]:
    for operation in contract.operations(document):
        dates = [key for key in ("x-deprecated", "x-sunset") if key in operation.spec]
        if not operation.spec.get("deprecated"):
            yield from (f"{operation.id} has {key}, but is not deprecated" for key in dates)
            continue
        try:
            assert operation.deprecation_headers
        except (KeyError, TypeError, ValueError):
            yield f"{operation.id} needs x-deprecated and x-sunset, as dates in quotes"
            continue
        if operation.spec["x-sunset"] <= operation.spec["x-deprecated"]:
            yield f"{operation.id} ends before it is deprecated"
        for status, response in operation.spec["responses"].items():
            headers = contract.deref(document, response)["headers"]
            yield from (
                f"{operation.id} {status} has no {name}" for name in sorted(DEPRECATION - headers.keys())
            )


@rule
def operations_and_functions_match(document: contract.Document) -> Iterator[str]:
    wanted = {(f"handlers.{each.spec['tags'][0]}", each.id) for each in contract.operations(document)}
    found = set()
    for info in pkgutil.iter_modules(handlers.__path__, "handlers."):
        if info.name in NOT_OPERATIONS:
            continue
        module = importlib.import_module(info.name)
        for name, function in inspect.getmembers(module, inspect.iscoroutinefunction):
            if function.__module__ == info.name and not name.startswith("_"):
                found.add((info.name, name))
    yield from (f"{id} has no function in {module}" for module, id in sorted(wanted - found))
    yield from (f"{module}.{name} is no operation" for module, name in sorted(found - wanted))


@rule
def operations_list_what_they_can_emit(document: contract.Document) -> Iterator[str]:
    for operation in contract.operations(document):
        listed = set(operation.spec["responses"])
        needed = set(ALWAYS)
        if not operation.public:
            needed |= {"401", "403"}
        body = (
            operation.spec.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema")
        )
        branches = {}
        if body:
            branches = {each: contract.branch(document, body, each) for each in operation.audiences}
        members = {
            name
            for each in branches.values()
            if each
            for name in contract.deref(document, each)["properties"]
        }
        if "{id}" in operation.path or any(
            name.endswith("_id") and name != "priority_id" for name in members
        ):
            needed.add("404")
        if re.search(r"/\{id\}/\w+$", operation.path) and operation.method == "post":
            needed.add("409")
        if "client" in branches and contract.deref(document, branches["client"]).get("required"):
            needed.add("422")
        parameters = [contract.deref(document, each) for each in operation.spec.get("parameters", [])]
        if any(each["name"] == "If-Match" for each in parameters):
            needed.add("412")
        successes = {status for status in listed if status.startswith("2")}
        if len(successes) != 1:
            yield f"{operation.id} needs one way to succeed"
        yield from (f"{operation.id} does not list {status}" for status in sorted(needed - listed))
        for status in sorted(listed - needed - successes - {"304", "404", "409"}):
            yield f"{operation.id} lists {status}, which it cannot emit"


@rule
def every_answer_has_a_request_id(document: contract.Document) -> Iterator[str]:
    for operation in contract.operations(document):
        for status, response in operation.spec["responses"].items():
            headers = contract.deref(document, response).get("headers", {})
            needed = {"X-Request-Id"}
            needed |= {"401": {"WWW-Authenticate"}, "405": {"Allow"}}.get(status, set())
            needed |= {"Retry-After"} if status in ("429", "503") else set()
            yield from (f"{operation.id} {status} has no {name}" for name in sorted(needed - headers.keys()))


# What an answer shows of a noun and no operation on it writes.
NOT_WRITTEN = {
    "announcements": {"id": "The database gives it out."},
    "clients": {
        "id": "The database gives it out.",
        "status": "An account is active until it is deleted.",
        "created_at": "The clock says it.",
    },
    "departments": {"id": "The database gives it out."},
    "domains": {"id": "The database gives it out."},
    "invoices": {
        "id": "The database gives it out.",
        "invoice_number": "It follows from the id.",
        "status": "Verbs and the clock alone change it.",
        "total": "It is the sum of the lines.",
        "currency": "It is that of the settings.",
        "paid_at": "The clock says it.",
        "created_at": "The clock says it.",
    },
    "knowledgebase": {"id": "The database gives it out."},
    "products": {"id": "The database gives it out."},
    "profile": {
        "id": "The database gives it out.",
        "email": "The operator changes it.",
        "created_at": "The clock says it.",
    },
    "servers": {"id": "The database gives it out.", "used": "It is the number of services on the server."},
    "services": {
        "id": "The database gives it out.",
        "product_name": "It is the name of the product.",
        "status": "Verbs alone change it.",
        "next_due_date": "It follows from the day of the order and the billing cycle.",
        "server_id": "A new service takes the least loaded server.",
        "suspend_reason": "The verb that suspends takes it as `reason`.",
        "created_at": "The clock says it.",
    },
    "settings": {},
    "tickets": {
        "id": "The database gives it out.",
        "ticket_number": "It is drawn by chance.",
        "status": "Verbs and replies alone change it.",
        "created_at": "The clock says it.",
        "updated_at": "The clock says it.",
        "replies": "An operation of its own adds each.",
    },
    "webhooks": {
        "id": "The database gives it out.",
        "disabled_reason": "The worker says it.",
        "failing_since": "The worker says it.",
        "old_secret_until": "A rotation says it.",
        "created_at": "The clock says it.",
    },
}


def _members_written(document: contract.Document, noun: str) -> set[str]:
    """The members of all bodies that the operations on a noun take."""
    members: set[str] = set()
    for operation in contract.operations(document):
        body = operation.spec.get("requestBody", {}).get("content", {}).get("application/json", {})
        for audience in operation.audiences if body and operation.spec["tags"] == [noun] else ():
            schema = contract.branch(document, body["schema"], audience)
            members |= set(contract.deref(document, schema).get("properties", {})) if schema else set()
    return members


def _members_shown(document: contract.Document, noun: str) -> set[str]:
    """The members of one object of a noun, as any audience sees it."""
    members: set[str] = set()
    for operation in contract.operations(document):
        if operation.public or operation.method != "get" or operation.spec["tags"] != [noun]:
            continue
        schema = operation.spec["responses"]["200"]["content"]["application/json"]["schema"]
        for audience in operation.audiences:
            branch = contract.branch(document, schema, audience)
            shown = contract.deref(document, branch)["properties"] if branch else {}
            inner = contract.deref(document, shown["data"]) if "data" in shown else {"properties": shown}
            # A list shows no more of each.
            members |= set(inner.get("properties", ()))
    return members


@rule
def what_is_shown_can_be_written(document: contract.Document) -> Iterator[str]:
    for noun, reasons in NOT_WRITTEN.items():
        lacking = _members_shown(document, noun) - _members_written(document, noun)
        for name in sorted(lacking - reasons.keys()):
            yield f"{noun}: {name} is shown, and no operation writes it; give a reason in NOT_WRITTEN"
        yield from (
            f"{noun}: {name} needs no reason in NOT_WRITTEN" for name in sorted(reasons.keys() - lacking)
        )
    nouns = {each.spec["tags"][0] for each in contract.operations(document)}
    for noun in sorted(nouns - NOT_WRITTEN.keys()):
        if _members_written(document, noun) and _members_shown(document, noun):
            yield f"{noun} is not in NOT_WRITTEN"


@rule
def enums_are_the_lifecycles(document: contract.Document) -> Iterator[str]:
    tables = {
        "ServiceStatus": (lifecycle.SERVICE, "service", set()),
        "InvoiceStatus": (lifecycle.INVOICE, "invoice", {"overdue"}),
        "TicketStatus": (lifecycle.TICKET, "ticket", set()),
    }
    for name, (verbs, noun, computed) in tables.items():
        states = {lifecycle.FIRST[noun]} | computed
        for verb in verbs.values():
            states |= {*verb.from_states, verb.to_state}
        if set(document["components"]["schemas"][name]["enum"]) != states:
            yield f"{name} is not {sorted(states)}"


@rule
def error_codes_are_the_servers(document: contract.Document) -> Iterator[str]:
    if set(document["components"]["schemas"]["ErrorCode"]["enum"]) != set(CODES.values()):
        yield "ErrorCode is not the server's table"
    for operation in contract.operations(document):
        for status in operation.spec["responses"]:
            if int(status) >= 400 and int(status) not in CODES:
                yield f"{operation.id} lists {status}, which the server cannot say"


@rule
def shared_operations_have_both_branches(document: contract.Document) -> Iterator[str]:
    for operation in contract.operations(document):
        if operation.public or len(operation.audiences) == 1:
            continue
        for where, media in media_types(
            {**document, "paths": {operation.path: {operation.method: operation.spec}}}
        ):
            if where.endswith(("422", "body")):
                continue
            target = contract.deref(document, media["schema"])
            dialects = {contract.deref(document, each).get("x-dialect") for each in target.get("oneOf", [])}
            if dialects != set(contract.AUDIENCES):
                yield f"{where} does not have both branches"


@rule
def scopes_are_said(document: contract.Document) -> Iterator[str]:
    for operation in contract.operations(document):
        if operation.public or "admin" not in operation.audiences:
            if operation.scope:
                yield f"{operation.id} has a scope that nobody needs"
            continue
        (noun,) = operation.spec["tags"]
        expected = f"{noun}:{'read' if operation.method == 'get' else 'write'}"
        if operation.scope != expected:
            yield f"{operation.id} needs x-scope: {expected}"
        elif operation.spec["description"].count(f"`{expected}`") != 1:
            yield f"{operation.id} does not say its scope once; x-scope says it, so its own text must not"


@rule
def the_scopes_are_those_of_the_operations(document: contract.Document) -> Iterator[str]:
    needed = {each.scope for each in contract.operations(document) if each.scope}
    listed = document["components"]["schemas"]["Scope"]["enum"]
    if set(listed) != needed | {"*"}:
        yield f"Scope is not {sorted(needed)}"
    told = document["components"]["securitySchemes"]["adminKey"]["description"]
    if re.findall(r"^\| `(.+?)` \| .+ \|$", told, re.MULTILINE) != listed:
        yield "the table of scopes in adminKey is not Scope"


@rule
def a_token_needs_the_scopes_of_what_it_may_do(document: contract.Document) -> Iterator[str]:
    known = {each.id: each for each in contract.operations(document)}
    needed = {
        # Only a client has a profile; to operators it is the client's account.
        each.scope or f"clients:{'read' if each.method == 'get' else 'write'}"
        for each in known.values()
        if "client" in each.audiences and not each.public
    }
    if needed != set(CLIENT_SCOPES):
        yield f"handlers.tokens.CLIENT_SCOPES is not {sorted(needed)}"
    for scope in sorted(needed):
        if f"`{scope}`" not in known["create_token"].spec["description"]:
            yield f"create_token does not tell of {scope}"


@rule
def a_scope_reads_the_noun_of_each_event(document: contract.Document) -> Iterator[str]:
    schemas = document["components"]["schemas"]
    for name in schemas["EventName"]["enum"]:
        if read_scope(name) not in schemas["Scope"]["enum"]:
            yield f"{name} needs {read_scope(name)}, which is no scope"


@rule
def webhooks_are_the_events(document: contract.Document) -> Iterator[str]:
    schemas = document["components"]["schemas"]
    found = {each.path: each for each in contract.webhooks(document)}
    if list(found) != schemas["EventName"]["enum"]:
        yield "x-webhooks are not the events of EventName"
    for name, webhook in found.items():
        if webhook.id != f"receive_{name.replace('.', '_')}":
            yield f"{name} has the operationId {webhook.id}"
        if webhook.public is False or "2XX" not in webhook.spec["responses"]:
            yield f"{name} needs no credential, and says what success is"
        headers = [contract.deref(document, each) for each in webhook.spec["parameters"]]
        if {(each["in"], each["name"]): each["required"] for each in headers} != SENT_HEADERS:
            yield f"{name} does not tell of the headers that are sent"
        schema = contract.deref(
            document, webhook.spec["requestBody"]["content"]["application/json"]["schema"]
        )
        if list(schema["properties"]) != ["event", "timestamp", "data", "signature"]:
            yield f"{name} is not the documented payload"
        if schema["required"] != list(schema["properties"]):
            yield f"{name} may lack a member"
        if contract.deref(document, schema["properties"]["event"]).get("enum") != [name]:
            yield f"{name} is not the one value of its event"
        size = json_schema.largest_json(document, schema["properties"]["data"])
        members = contract.deref(document, schema["properties"]["data"])["properties"]
        if size > schemas["EventData"]["x-max-bytes"] or len(members) > schemas["EventData"]["maxProperties"]:
            yield f"the data of {name} cannot stand in an event"


@rule
def links_have_bodies_that_generators_read(document: contract.Document) -> Iterator[str]:
    for operation in contract.operations(document):
        for status, response in operation.spec["responses"].items():
            for name, link in contract.deref(document, response).get("links", {}).items():
                if not isinstance(link.get("requestBody", ""), str):
                    yield f"{operation.id} {status} {name} has a requestBody, which must be x-request-body"


@rule
def links_give_the_path_its_parameters(document: contract.Document) -> Iterator[str]:
    known = {each.id: each for each in contract.operations(document)}
    for operation in known.values():
        for status, response in operation.spec["responses"].items():
            for name, link in contract.deref(document, response).get("links", {}).items():
                target = known.get(link["operationId"])
                # Without the place, some validators take the names for those of a schema, and fail.
                wanted = {f"path.{each}" for each in re.findall(r"{(\w+)}", target.path)} if target else set()
                if target and link.get("parameters", {}).keys() != wanted:
                    yield f"{operation.id} {status} {name} needs the parameters {sorted(wanted)}"


@rule
def what_has_a_version_can_be_asked_for_if_it_changed(document: contract.Document) -> Iterator[str]:
    for operation in contract.operations(document):
        names = [contract.deref(document, each)["name"] for each in operation.spec.get("parameters", [])]
        headers = contract.deref(document, operation.spec["responses"].get("200", {})).get("headers", {})
        facts = {"ETag" in headers, "304" in operation.spec["responses"], "If-None-Match" in names}
        if operation.method == "get" and len(facts) > 1:
            yield f"{operation.id} needs all or none of ETag on 200, 304 and If-None-Match"
        if operation.method != "get" and ("304" in operation.spec["responses"] or "If-None-Match" in names):
            yield f"{operation.id} changes something, so it cannot answer 304"


@rule
def links_lead_somewhere(document: contract.Document) -> Iterator[str]:
    known = {each.id: each for each in contract.operations(document)}
    for operation in known.values():
        for status, response in operation.spec["responses"].items():
            for name, link in contract.deref(document, response).get("links", {}).items():
                if link["operationId"] not in known:
                    yield f"{operation.id} {status} {name} leads to {link['operationId']}"
        makes = operation.id.startswith("create_")
        verb = operation.method == "post" and "{" in operation.path and not makes
        for response in operation.spec["responses"].values():
            # A fuzzer takes what has links for a way to make something, and starts there for ever.
            if verb and contract.deref(document, response).get("links"):
                yield f"{operation.id} makes nothing, so it needs no links"
        if makes and not operation.spec["responses"]["201"].get("links"):
            yield f"{operation.id} has no link to what it created"
