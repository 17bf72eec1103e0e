"""What ``make fuzz`` adds to Schemathesis: checks, deserializers, and values that schemas cannot express."""

import re
import secrets
from typing import Any

import httpx
import schemathesis
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
)

from openapi import contract, loading

AMOUNT = re.compile(r"(0|[1-9][0-9]{0,7})(\.[0-9]{1,2})?")
KEY = re.compile('("[!-~]{1,255}"|[!-~]{1,255})')
SCHEMAS = loading.bundle()["components"]["schemas"]
NAMES = {"email": "EmailInput", "domain": "ServiceDomainInput", "username": "ServiceUsernameInput"}
WEBHOOK_URL = re.compile(SCHEMAS["WebhookUrl"]["pattern"])

# Operations whose refusal was looked at, in the process of one run.
REFUSED: set[str] = set()


@schemathesis.deserializer("text/html")
def _read_html(context: Any, response: Any) -> str:
    """A page is a string to its schema."""
    return str(response.content.decode("utf-8"))


@schemathesis.check
def documented_refusal(context: Any, response: Any, case: Any) -> None:
    """Whoever names nobody is refused as the contract says, once for each operation.

    ``ignored_auth`` looks at the status of that refusal, and at nothing else of it.
    """
    if not 200 <= response.status_code < 300 or case.operation.label in REFUSED:
        return
    REFUSED.add(case.operation.label)
    asked = response.request
    headers = {name: value for name, value in asked.headers.items() if name.lower() != "authorization"}
    if len(headers) == len(asked.headers):
        return
    refused = httpx.request(asked.method, asked.url, headers=headers, content=asked.body, timeout=30)
    if refused.status_code == 401:
        refusal = schemathesis.Response.from_any(refused)
        for check in (response_headers_conformance, content_type_conformance, response_schema_conformance):
            check(context, refusal, case)


@schemathesis.hook
def before_load_schema(_context: Any, document: dict[str, Any]) -> None:
    """Give the links their bodies, which OpenAPI's generators want to be strings only, and all parameters.

    ``ensure_resource_availability`` looks only at calls whose every parameter comes from a link, optional
    ones too. So each link names a version that nothing has, where its target may be asked for one.
    """
    conditional = {
        operation.id
        for operation in contract.operations(document)
        for each in operation.spec.get("parameters", [])
        if contract.deref(document, each)["name"] == "If-None-Match"
    }
    for operation in contract.operations(document):
        for response in operation.spec["responses"].values():
            for link in response.get("links", {}).values():
                if "x-request-body" in link:
                    link["requestBody"] = link.pop("x-request-body")
                if link["operationId"] in conditional:
                    link["parameters"]["header.If-None-Match"] = '"no version"'


@schemathesis.hook
def before_call(_context: Any, case: Any, _options: Any) -> None:
    """Give each new client an email address of its own, each new webhook a URL, each request a key.

    Hypothesis repeats what it did, and ends a phase where the same call is answered 201 once and 409
    the next time; and a key that was used would keep what is new from being tried. Of the versions that
    ``If-Match`` names half are any version: no made-up one is ever the newest.
    """
    headers = case.headers or {}
    key, version = headers.get("Idempotency-Key"), headers.get("If-Match")
    if isinstance(key, str) and KEY.fullmatch(key):
        headers["Idempotency-Key"] = f"{secrets.token_hex(8)}{key.strip(chr(34))[:200]}"
    if isinstance(version, str) and len(version) % 2:
        headers["If-Match"] = "*"
    if case.operation.label == "POST /clients" and isinstance(case.body, dict):
        email = case.body.get("email", "")
        if _is_name("email", email):
            # Few made-up domains can exist, so three of four addresses get one that does.
            domain = email[-200:] if len(email) % 4 == 0 else "@example.com"
            case.body = {**case.body, "email": f"{secrets.token_hex(8)}{domain}"}
    if isinstance(case.body, dict):
        case.body = _with_free_names(case.body)
    if isinstance(case.body, dict):
        case.body = _with_cents(case.body)
    if case.operation.label == "POST /webhooks" and isinstance(case.body, dict):
        url = case.body.get("url")
        if isinstance(url, str) and len(url) <= 2000 and WEBHOOK_URL.fullmatch(url):
            case.body = {**case.body, "url": f"{url}/{secrets.token_hex(8)}"}


def _with_free_names(body: dict[str, Any]) -> dict[str, Any]:
    """A body whose domain and username nothing else has, in three of four cases; those names can exist."""
    free = {"domain": f"{secrets.token_hex(8)}.example.com", "username": f"u{secrets.token_hex(8)}"}
    return body | {
        name: text for name, text in free.items() if _is_name(name, body.get(name)) and len(body[name]) % 4
    }


def _is_name(member: str, value: Any) -> bool:
    """Whether the contract admits a value as a name of this kind, and not the empty one."""
    schema = SCHEMAS[NAMES[member]]
    return (
        isinstance(value, str)
        and 0 < len(value) <= schema["maxLength"]
        and re.fullmatch(schema["pattern"], value) is not None
        and not ("not" in schema and re.search(schema["not"]["pattern"], value))
    )


def _with_cents(body: dict[str, Any]) -> dict[str, Any]:
    """A body whose amounts have two decimals, which the contract cannot say of a number.

    The others are refused. One in eight is left as it is, and so is what lies out of bounds. The server
    accepts amounts as strings of digits too, so such a string is not invalid; it gets a letter.
    """

    def rounded(value: Any) -> Any:
        if isinstance(value, str) and AMOUNT.fullmatch(value):
            return f"{value}x"
        fits = isinstance(value, float) and 0 <= value <= 99_999_999.99
        return round(value - 0.005, 2) if fits and value >= 0.01 and int(value) % 8 else value

    items, prices = body.get("items"), body.get("prices")
    if isinstance(items, list):
        lines = [
            {**each, "amount": rounded(each["amount"])}
            if isinstance(each, dict) and "amount" in each
            else each
            for each in items
        ]
        body = {**body, "items": lines}
    if isinstance(prices, dict):
        body = {**body, "prices": {cycle: rounded(price) for cycle, price in prices.items()}}
    return body
