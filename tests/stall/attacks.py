"""Requests that are as dear as their size allows: heads of 64 KiB, bodies of 1 MiB, forms of 2 MB."""

import hmac
import json
from collections.abc import Iterator
from functools import partial

from openapi import contract
from persistence import demo
from tests.stall.data import DOCUMENT, SESSION, TOKEN, Sizes
from tests.stall.measuring import Row, Target, request
from tests.stall.operations import SECRETS, SESSION_HEADER, Requests

HEAD = 60_000
"""How many bytes an attack puts into a head, of the 64 KiB that a head may have."""

BODY = 1024 * 1024

FORM = 2_000_000

CALLERS = {"nobody": None, "client": TOKEN, "admin": demo.ADMIN_KEY}

Headers = list[tuple[str, str]]


def times(unit: str, size: int = HEAD) -> str:
    """A text of ``size`` bytes at most."""
    return unit * (size // len(unit.encode()))


def _addresses() -> str:
    return ",".join(f"127.{each // 60_000}.{each // 250 % 250}.{each % 250}" for each in range(HEAD // 14))


HEADERS: dict[str, Headers] = {
    "Accept of many types": [("Accept", times("a,"))],
    "Accept of many parameters": [("Accept", "application/json" + times(";q=1"))],
    "Accept of many ranges": [("Accept", times("*/*;q=0.1,"))],
    "Accept in many lines": [("Accept", "text/html;q=0.5")] * (HEAD // 25),
    "Accept-Encoding of many codings": [("Accept-Encoding", times("a,"))],
    "If-None-Match of many tags": [("If-None-Match", times('"a",'))],
    "If-None-Match without an end": [("If-None-Match", '"' + times("a"))],
    "If-None-Match of quotes": [("If-None-Match", times('"'))],
    "If-None-Match in many lines": [("If-None-Match", '"1"')] * (HEAD // 20),
    "If-Match of many tags": [("If-Match", times('"1",'))],
    "If-Match in many lines": [("If-Match", '"1"')] * (HEAD // 15),
    "Idempotency-Key of 60 kB": [("Idempotency-Key", times("a"))],
    "X-Forwarded-For of many addresses": [("X-Forwarded-For", _addresses())],
    "X-Forwarded-For of one address": [("X-Forwarded-For", times("127.0.0.1,"))],
    "X-Forwarded-For of brackets": [("X-Forwarded-For", times("[::1],"))],
    "X-Forwarded-For of 60 kB": [("X-Forwarded-For", times("1"))],
    "X-Forwarded-For of commas": [("X-Forwarded-For", times(","))],
    "X-Forwarded-For in many lines": [("X-Forwarded-For", "127.0.0.1")] * (HEAD // 28),
    "Cookie of many pairs": [("Cookie", "; ".join(f"a{each}=b" for each in range(HEAD // 9)))],
    "Cookie of one name": [("Cookie", times("a=b;"))],
    "Cookie of quotes": [("Cookie", times('a="\\";'))],
    "Cookie in many lines": [("Cookie", "a=b")] * (HEAD // 15),
    "Content-Type of many parameters": [("Content-Type", "application/json" + times(";charset=utf-8"))],
    "Content-Type of spaces": [("Content-Type", "application/json;charset" + times(" ") + "=x")],
    "Content-Type in many lines": [("Content-Type", "application/json")] * (HEAD // 32),
    "Content-Encoding of many codings": [("Content-Encoding", times("identity,"))],
    "Authorization of 60 kB": [("Authorization", "Bearer " + times("a"))],
    "Authorization of spaces": [("Authorization", "Bearer" + times(" ") + "\t")],
    "Authorization in many lines": [("Authorization", "Bearer a")] * (HEAD // 25),
    "Host of 60 kB": [("Host", times("a"))],
    "Origin of 60 kB": [("Origin", times("a")), ("Access-Control-Request-Method", "GET")],
    "X-Request-Id of 60 kB": [("X-Request-Id", times("a"))],
    "Expect of 60 kB": [("Expect", times("100-continue,"))],
    "10,000 header lines": [("a", "")] * 10_000,
    "many names": [(f"a{each}", "b") for each in range(HEAD // 12)],
}

PATHS = {
    "a path of slashes": times("/"),
    "a path of many parts": times("/a"),
    "a path of %XX": "/" + times("%41"),
    "a path of %2F": "/" + times("%2F"),
    "a path of %FF": "/" + times("%FF"),
    "a path of 60 kB": "/" + times("a"),
    "a path of dots": times("/.."),
    "an id of 60 kB": "/invoices/" + times("9"),
    "a query of &": "/invoices?page=1" + times("&"),
    "a query of many names": "/invoices?" + "&".join(f"a{each}=" for each in range(HEAD // 7)),
    "a query of one name": "/invoices?" + times("page=1&"),
    "a query of 100 names": "/invoices?" + "&".join(f"a{each}={'b' * 590}" for each in range(100)),
    "a query of %XX": "/invoices?page=" + times("%31"),
    "a query of %FF": "/invoices?q=" + times("%FF"),
    "a query of +": "/knowledgebase?q=" + times("+"),
    "a query of semicolons": "/invoices?page=1" + times(";a=1"),
    "a query of tokens": "/invoices?" + times("api_token=a&"),
    "a token of 60 kB": "/invoices?api_token=" + times("a"),
    "a search of 60 kB": "/knowledgebase?q=" + times("a%20"),
}

TARGETS = [
    ("GET", "/api/v1/status"),
    ("GET", "/api/v1/openapi.json"),
    ("GET", "/api/v1/invoices/1234"),
    ("PUT", "/api/v1/settings"),
    ("POST", "/api/v1/tickets"),
    ("OPTIONS", "/api/v1/tickets"),
    ("GET", "/api/v1/nowhere"),
    ("GET", "/admin"),
    ("POST", "/admin/sign-in"),
    ("GET", "/readyz"),
]


def _many_members(value: str, name: str = "a") -> str:
    size = len(f'"{name}100000":{value},')
    return "{" + ",".join(f'"{name}{each}":{value}' for each in range(BODY // size)) + "}"


def _lines(line: str) -> str:
    beginning = '{"client_id":1,"due_date":"2035-01-31","items":['
    return beginning + times(line + ",", BODY - 100)[:-1] + "]}"


_TEXTS: dict[str, str | bytes] = {
    "numbers with points": "[" + times("0.1,", BODY - 10) + "1]",
    "numbers with exponents": "[" + times("1e5,", BODY - 10) + "1]",
    "integers": "[" + times("1,", BODY - 10) + "1]",
    "one long integer": times("9", BODY),
    "one long fraction": "0." + times("1", BODY - 10),
    "empty texts": "[" + times('"",', BODY - 10) + "1]",
    "empty objects": "[" + times("{},", BODY - 10) + "1]",
    "empty lists": "[" + times("[],", BODY - 10) + "1]",
    "nulls": "[" + times("null,", BODY - 10) + "1]",
    "deep lists": times("[", BODY),
    "deep lists that end": times("[", BODY // 2) + times("]", BODY // 2),
    "deep objects": times('{"a":', BODY),
    "deep lists, 900 each": "[" + times("[" * 900 + "]" * 900 + ",", BODY - 10) + "1]",
    "escapes": '{"message":"' + times("\\u0041", BODY - 20) + '"}',
    "escapes of emoji": '{"message":"' + times("\\ud83d\\ude00", BODY - 20) + '"}',
    "lone surrogates": '{"message":"' + times("\\ud83d", BODY - 20) + '"}',
    "backslashes": '{"message":"' + times("\\\\", BODY - 20) + '"}',
    "a long text": '{"message":"' + times("a", BODY - 20) + '"}',
    "a long text of emoji": '{"message":"' + times("😀", BODY - 20) + '"}',
    "a text without an end": '{"message":"' + times("a", BODY - 20),
    "unknown members": _many_members("1"),
    "unknown members of objects": _many_members('{"a":1}'),
    "one member many times": "{" + times('"a":1,', BODY - 10) + '"a":1}',
    "a known member many times": "{" + times('"message":"a",', BODY - 20) + '"message":"a"}',
    "a name of 1 MiB": '{"' + times("a", BODY - 10) + '":1}',
    "names with escapes": _many_members("1", "\\u0061"),
    "lines of an invoice": _lines('{"description":"a","amount":"1.00"}'),
    "lines of an invoice in numbers": _lines('{"description":"a","amount":0.01}'),
    "lines of nothing": _lines("{}"),
    "lines that are numbers": _lines("0.1"),
    "spaces": times(" ", BODY - 1) + "1",
    "no JSON": times("a", BODY),
    "lines of no JSON": times("\n", BODY),
    "no UTF-8": times("a", BODY - 1).encode() + b"\xff",
    "NUL": b"\0" * BODY,
    "a fault at the end": "[" + times("0.1,", BODY - 10) + "]",
    "NaN": "[" + times("NaN,", BODY - 10) + "1]",
}

BODIES = {name: text.encode() if isinstance(text, str) else text for name, text in _TEXTS.items()}

FORMS: dict[str, bytes] = {
    "a form of one value": ("name=" + times("a", FORM)).encode(),
    "a form of %XX": ("name=" + times("%41", FORM)).encode(),
    "a form of +": ("name=" + times("+", FORM)).encode(),
    "a form of %0D%0A": ("name=" + times("%0D%0A", FORM)).encode(),
    "a form of %FF": ("name=" + times("%FF", FORM)).encode(),
    "a form of many fields": times("a=&", FORM).encode(),
    "a form of &": times("&", FORM).encode(),
    "a form of 1,000 fields": "&".join(f"a{each}={'%41' * 600}" for each in range(1000)).encode(),
    "a form without =": times("a", FORM).encode(),
    "a form of a password": ("name=demo&password=" + times("%F0%9F%98%80", FORM)).encode(),
}


def measure(target: Target, sizes: Sizes, *, short: bool) -> Iterator[Row]:
    """One row for each attack, the worst of its targets and callers."""
    yield from _measure_heads(target, short=short)
    yield from _measure_paths(target)
    yield from _measure_bodies(target, sizes, short=short)
    yield from _measure_forms(target)
    for name, sent in STREAMS.items():
        yield _measured(target, name, {"": sent})


def _measured(target: Target, name: str, requests: dict[str, bytes]) -> Row:
    """The worst of several requests; whatever is refused is refused by an answer."""
    row = Row(name)
    for variant, sent in requests.items():
        act = partial(Target.send, request=sent)
        row.include(target.measure(variant, act, lambda status: 0 < status < 500, of=name))
    return row


def _measure_heads(target: Target, *, short: bool) -> Iterator[Row]:
    callers = {"admin": demo.ADMIN_KEY} if short else CALLERS
    for name, headers in HEADERS.items():
        yield _measured(
            target,
            name,
            {
                f"{method} {path}, {caller}": request(method, path, secret, headers)
                for method, path in TARGETS
                for caller, secret in callers.items()
            },
        )


def _measure_paths(target: Target) -> Iterator[Row]:
    for name, path in PATHS.items():
        yield _measured(
            target,
            name,
            {
                **{f"API, {who}": request("GET", f"/api/v1{path}", key) for who, key in CALLERS.items()},
                "panel": request("GET", f"/admin{path}", headers=[SESSION_HEADER]),
                "nowhere": request("GET", path),
            },
        )


def _measure_bodies(target: Target, sizes: Sizes, *, short: bool) -> Iterator[Row]:
    requests = Requests(sizes)
    operations = [each for each in contract.operations(DOCUMENT) if each.method in ("post", "put")]
    if short:
        few = {"create_invoice", "create_ticket", "pay_invoice"}
        operations = [each for each in operations if each.id in few]
    for name, body in BODIES.items():
        sent = {
            f"{each.id}, {audience}": request(
                each.method.upper(), f"/api/v1{requests.path(each)}", SECRETS[audience], body=body
            )
            for each in operations
            for audience in sorted(each.audiences)
        }
        sent["nobody"] = request("POST", "/api/v1/tickets", None, body=body)
        yield _measured(target, f"a body: {name}", sent)


def _measure_forms(target: Target) -> Iterator[Row]:
    csrf = hmac.new(SESSION.encode(), b"form", "sha256").hexdigest()
    own = [("Sec-Fetch-Site", "same-origin")]
    kind = "application/x-www-form-urlencoded"
    for name, body in FORMS.items():
        signed = f"_csrf={csrf}&".encode() + body
        yield _measured(
            target,
            name,
            {
                "sign-in": request("POST", "/admin/sign-in", None, own, body, kind),
                **{
                    path: request("POST", f"/admin{path}", None, [*own, SESSION_HEADER], signed, kind)
                    for path in ("/knowledgebase/new", "/invoices/new", "/tickets/15/reply", "/settings/edit")
                },
            },
        )


def _chunked(size: int) -> bytes:
    head = request("POST", "/api/v1/tickets", TOKEN, [("Transfer-Encoding", "chunked"), JSON_TYPE])
    return head + (b"%x\r\n" % size + b" " * size + b"\r\n") * (BODY // size) + b"0\r\n\r\n"


JSON_TYPE = ("Content-Type", "application/json")

STREAMS: dict[str, bytes] = {
    "a body in chunks of 1 byte": _chunked(1),
    "a body in chunks of 10 bytes": _chunked(10),
    "a body with trailers": _chunked(1024)[:-2] + b"a: b\r\n" * 10_000 + b"\r\n",
    "chunks with extensions": request(
        "POST", "/api/v1/tickets", TOKEN, [("Transfer-Encoding", "chunked"), JSON_TYPE]
    )
    + (b"1;" + b"e" * 1000 + b"\r\na\r\n") * 1000
    + b"0\r\n\r\n",
    "1,000 requests at once": b"GET /api/v1/status HTTP/1.1\r\nHost: a\r\n\r\n" * 1000
    + request("GET", "/api/v1/status"),
    "1,000 requests for nothing at once": b"GET /a HTTP/1.1\r\nHost: a\r\n\r\n" * 1000 + request("GET", "/a"),
    "100 bodies at once": request(
        "POST", "/api/v1/tickets", TOKEN, body=json.dumps({"message": "a" * 10_000}).encode()
    ).replace(b"Connection: close\r\n", b"")
    * 100
    + request("GET", "/api/v1/status"),
}
