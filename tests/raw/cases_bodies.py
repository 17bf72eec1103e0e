"""Bodies: their media type, their encoding, their JSON; and what a caller accepts."""

import json

from tests.raw.raw_client import ECHO, bearer, get, raw, send
from tests.raw.row import Row
from tests.support.live_server import ADMIN, CLIENT

TICKET = '{"subject":"A","message":"B","department_id":1}'


def ticket(subject: str = '"A"', department: str = "1", more: str = "") -> str:
    """A client's ticket, of texts as they stand in JSON."""
    return f'{{"subject":{subject},"message":"B","department_id":{department}{more}}}'


def invoice(amount: str = '"1.00"', client: str = "56", due: str = '"2035-02-01"', more: str = "") -> str:
    """An invoice, of texts as they stand in JSON."""
    return (
        f'{{"client_id":{client},"due_date":{due},"items":[{{"description":"A","amount":{amount}{more}}}]}}'
    )


DEEP = 100_000

NO_JSON: list[tuple[str, str | bytes]] = [
    *[
        (f"{depth} lists in each other", "[" * depth + "]" * depth)
        for depth in (254, 255, 256, 300, 600, 900)
    ],
    *[
        (f"a subject of {depth} lists in each other", ticket("[" * depth + "]" * depth))
        for depth in (255, 500)
    ],
    ("invalid UTF-8", ticket().encode().replace(b"A", b"\xff\xfe")),
    ("a cut UTF-8 sequence", ticket().encode().replace(b"A", b"\xf0\x9f\x98")),
    ("an overlong UTF-8 sequence", ticket().encode().replace(b"A", b"\xc0\x80")),
    ("a surrogate in UTF-8", ticket().encode().replace(b"A", b"\xed\xa0\x80")),
    ("latin-1", ticket('"\u00e4"').encode("latin-1")),
    ("UTF-16", ticket().encode("utf-16")),
    ("UTF-16 without a mark", ticket().encode("utf-16-le")),
    ("UTF-32", ticket().encode("utf-32")),
    ("a byte order mark", ticket().encode("utf-8-sig")),
    ("NaN", ticket(department="NaN")),
    ("Infinity", ticket(department="Infinity")),
    ("minus Infinity", ticket(department="-Infinity")),
    ("NaN in a text field", ticket("NaN")),
    ("a lone high surrogate", ticket('"\\ud800"')),
    ("a lone low surrogate", ticket('"\\udc00A"')),
    ("surrogates the wrong way round", ticket('"\\udc00\\ud800"')),
    ("an escaped NUL", ticket('"A\\u0000B"')),
    ("an exponent of 20 digits", ticket(department="1e99999999999999999999")),
    ("an escaped NUL in a name", ticket(more=',"x\\u0000":1')),
    ("a raw NUL", ticket('"A\x00B"')),
    ("a raw line feed in a text", ticket('"A\nB"')),
    ("a NUL behind the body", ticket() + "\x00"),
    ("a name twice", ticket(more=',"subject":"C"')),
    ("a name twice, once escaped", ticket(more=',"subj\\u0065ct":"C"')),
    ("trailing garbage", ticket() + ECHO),
    ("two bodies", ticket() * 2),
    ("a comma too many", ticket()[:-1] + ",}"),
    ("a comment", "/* A */" + ticket()),
    ("single quotes", ticket().replace('"', "'")),
    ("half a body", ticket()[:20]),
    ("100,000 open brackets", "[" * DEEP),
    ("100,000 nested lists", "[" * DEEP + "]" * DEEP),
    ("100,000 nested objects", '{"a":' * DEEP + "1" + "}" * DEEP),
    ("100,000 nested lists in a field", ticket("[" * DEEP + "]" * DEEP)),
    ("white space", " \t\r\n "),
    ("one space", " "),
    ("a form", "subject=A&message=B&department_id=1"),
    ("a leading zero", ticket(department="01")),
    ("a plus", ticket(department="+1")),
    ("hexadecimal", ticket(department="0x1")),
    ("a number without its fraction", ticket(department="1.")),
]

BAD_VALUES = [
    ("null", "null", ""),
    ("a list", "[]", ""),
    ("a list of bodies", f"[{TICKET}]", ""),
    ("a text", '"A"', ""),
    ("an empty text", '""', ""),
    ("a number", "1", ""),
    ("true", "true", ""),
    ("a department of null", ticket(department="null"), "/department_id"),
    ("a department in quotes", ticket(department='"1"'), "/department_id"),
    ("a department of true", ticket(department="true"), "/department_id"),
    ("a department with a fraction", ticket(department="1.5"), "/department_id"),
    ("a department with a fraction and an exponent", ticket(department="15e-1"), "/department_id"),
    ("a department of 1e999", ticket(department="1e999"), "/department_id"),
    ("a department of -1e999", ticket(department="-1e999"), "/department_id"),
    ("a department of 1e-999", ticket(department="1e-999"), "/department_id"),
    ("a department of 0", ticket(department="0"), "/department_id"),
    ("a department of -0", ticket(department="-0"), "/department_id"),
    ("a department of -1", ticket(department="-1"), "/department_id"),
    ("a department beyond 53 bits", ticket(department="9007199254740992"), "/department_id"),
    ("a department of 63 bits and one", ticket(department="9223372036854775808"), "/department_id"),
    ("a department beyond 64 bits", ticket(department="18446744073709551617"), "/department_id"),
    ("a department of 5000 digits", ticket(department="1" * 5000), "/department_id"),
    ("a department of minus 5000 digits", ticket(department="-" + "1" * 5000), "/department_id"),
    ("an empty subject", ticket('""'), "/subject"),
    ("a subject of null", ticket("null"), "/subject"),
    ("a subject of 256 letters", ticket('"' + "a" * 256 + '"'), "/subject"),
    ("a subject that is an object", ticket("{}"), "/subject"),
    ("an unknown member", ticket(more=f',"{ECHO}":1'), None),
    ("the operator's member", ticket(more=',"priority":"low"'), "/priority"),
    ("an unknown priority", ticket(more=',"priority_id":4'), "/priority_id"),
    ("a member called __proto__", ticket(more=',"__proto__":{}'), "/__proto__"),
]

PRECISE_AMOUNTS = [
    "1e-999",
    "1e-3",
    "0.001",
    "9.999",
    "0.30000000000000004",
    "99999999.98999999999999999999999999999999",
]

BAD_AMOUNTS = [
    "NaN",
    "Infinity",
    "1e999",
    "-1e999",
    "-0.01",
    "-1e-400",
    "100000000",
    "99999999.991",
    "1" * 5000,
    "0." + "0" * 5000 + "1",
    "1e" + "9" * 5000,
    "null",
    "true",
    "[]",
    '""',
    '"-1"',
    '"+1"',
    '"1e2"',
    '"01.00"',
    '"1.000"',
    '"1."',
    '".5"',
    '"1,00"',
    '" 1"',
    '"1\\n"',
    '"\\uff11"',
    '"\\u0661"',
    '"100000000"',
    '"NaN"',
]

BAD_DUES = [
    "2025-02-30",
    "0000-01-01",
    "2025-1-1",
    "2025-01-01T00:00:00Z",
    "20250101",
    "2025-01-01\\n",
    "",
    ECHO,
]

BAD_INSTANTS = [
    "2035-02-30T00:00:00Z",
    "2035-01-31 00:00:00Z",
    "2035-01-31T00:00:00",
    "9999-12-31T23:59:59-01:00",
    "",
]

REFUSED_MEDIA = [
    "text/plain",
    "text/json",
    "application/xml",
    "application/x-www-form-urlencoded",
    "multipart/form-data; boundary=x",
    "application/problem+json",
    "application/vnd.api+json",
    "application/jsonx",
    "application/json, text/plain",
    "application",
    "*/*",
    "",
    "application/json; charset=utf-7",
    "application/json; charset=utf-16",
    "application/json; charset=iso-8859-1",
    f"application/json; charset={ECHO}",
    "application/json; charset=",
    'application/json; charset="utf-7"',
    "application/json; charset=utf-8; charset=utf-7",
    "application/json;charset=utf-7;charset=utf-8",
    "application/json; CHARSET=UTF-7",
    "application/json ; charset = utf-7",
]

ADMITTED_MEDIA = [
    "application/json",
    "Application/JSON",
    "APPLICATION/JSON",
    "application/json; charset=utf-8",
    "application/json;charset=UTF-8",
    'application/json; charset="utf-8"',
    'application/json; Charset="UTF-8"',
]

REFUSED_ACCEPT = [
    "text/html",
    "application/xml",
    "text/*",
    "*/*;q=0",
    "*/*; q=0.000",
    "application/json;q=0",
    "application/json;q=0, */*",
    "application/*;q=0, */*;q=1",
    "image/png, text/html;q=0.9",
    "application/jsonx",
]

ADMITTED_ACCEPT = [
    "",
    "application/json",
    "APPLICATION/JSON",
    "application/*",
    "*/*",
    "*/*;q=0.001",
    "application/json;q=0.5",
    "text/html, application/json",
    "text/html, */*;q=0.1",
    "application/json, */*;q=0",
    "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
]

ROWS = [
    # What is no JSON is 400, whichever fields it lacks.
    *[Row(f"{what} is refused", send("/tickets", CLIENT, body), 400, "client") for what, body in NO_JSON],
    *[
        Row(f"{what} is refused to the operator", send("/invoices", ADMIN, body), 400, "admin")
        for what, body in (
            ("invalid UTF-8", invoice().encode().replace(b"A", b"\xff")),
            ("UTF-16", invoice().encode("utf-16")),
            ("a byte order mark", invoice().encode("utf-8-sig")),
            ("a lone surrogate in a line", invoice(more=',"description":"\\ud800"')),
            ("an escaped NUL in a line", invoice().replace('"A"', '"\\u0000"')),
            ("a name twice in a line", invoice(more=',"amount":"2.00"')),
            ("100,000 nested lists", invoice("[" * DEEP + "]" * DEEP)),
            ("white space", " \r\n"),
            ("half a body", invoice()[:-1]),
            ("null", "null"),
            ("a list", "[]"),
            ("a text", f'"{ECHO}"'),
            ("no line", '{"client_id":56,"due_date":"2035-02-01","items":[]}'),
            (
                "101 lines",
                json.dumps(
                    {
                        "client_id": 56,
                        "due_date": "2035-02-01",
                        "items": [{"description": "A", "amount": 1}] * 101,
                    }
                ),
            ),
        )
    ],
    # What the schema does not allow.
    *[
        Row(
            f"{what} is not allowed",
            send("/tickets", CLIENT, body),
            400,
            "client",
            at=None if pointer is None else ("body", pointer),
        )
        for what, body, pointer in BAD_VALUES
    ],
    *[
        Row(
            f"the amount {amount[:24]} ({len(amount)}) is refused",
            send("/invoices", ADMIN, invoice(amount)),
            400,
            "admin",
        )
        for amount in BAD_AMOUNTS
    ],
    *[
        Row(
            f"the amount {amount[:24]} ({len(amount)}) has too many decimals",
            send("/invoices", ADMIN, invoice(amount)),
            409,
            "admin",
        )
        for amount in PRECISE_AMOUNTS
    ],
    *[
        Row(
            f"the day {due!r} is refused",
            send("/invoices", ADMIN, invoice(due=f'"{due}"')),
            400,
            "admin",
            at=("body", "/due_date"),
        )
        for due in BAD_DUES
    ],
    *[
        Row(
            f"the instant {instant!r} is refused",
            send("/clients/42/tokens", ADMIN, f'{{"expires_at":"{instant}"}}'),
            400,
            "admin",
            at=("body", "/expires_at"),
        )
        for instant in BAD_INSTANTS
    ],
    *[
        Row(
            f"the client id {id[:24]} ({len(id)}) is refused",
            send("/invoices", ADMIN, invoice(client=id)),
            400,
            "admin",
            at=("body", "/client_id"),
        )
        for id in (
            "0",
            "-1",
            "1.5",
            "56.000001",
            "5.61e1",
            "1e999",
            "9007199254740992",
            "1" * 5000,
            '"56"',
            "null",
            "true",
        )
    ],
    Row(
        "the largest client id is 404",
        send("/invoices", ADMIN, invoice(client="9007199254740991")),
        404,
        "admin",
    ),
    Row(
        "the largest department is 404",
        send("/tickets", CLIENT, ticket(department="9007199254740991")),
        404,
        "client",
    ),
    # What is missing outranks what is wrong, in the client dialect.
    Row(
        "no body at all is 422 for a client",
        send("/tickets", CLIENT, ""),
        422,
        "client",
        at=("body", "/subject"),
    ),
    Row(
        "no body at all is 400 for the operator",
        send("/invoices", ADMIN, ""),
        400,
        "admin",
        at=("body", "/client_id"),
    ),
    Row(
        "an empty object is 422 for a client",
        send("/tickets", CLIENT, "{}"),
        422,
        "client",
        at=("body", "/department_id"),
    ),
    Row(
        "an empty object is 400 for the operator",
        send("/invoices", ADMIN, "{}"),
        400,
        "admin",
        at=("body", "/items"),
    ),
    Row(
        "a missing field beside a wrong one is 422",
        send("/tickets", CLIENT, '{"subject":"","message":1,"x":1}'),
        422,
        "client",
        at=("body", "/subject"),
    ),
    Row(
        "a missing field beside a wrong query is 422",
        send("/tickets?x=1", CLIENT, "{}"),
        422,
        "client",
        at=("query", "/x"),
    ),
    Row(
        "a thousand unknown members do not hide a missing field",
        send("/tickets", CLIENT, json.dumps({f"x{number}": 1 for number in range(2000)})),
        422,
        "client",
        at=("body", "/subject"),
    ),
    # Media types.
    *[
        Row(f"the media type {media!r} is 415", send("/tickets", CLIENT, TICKET, media=media), 415, "client")
        for media in REFUSED_MEDIA
    ],
    Row("no media type is 415", send("/tickets", CLIENT, TICKET, media=None), 415, "client"),
    Row(
        "no media type is 415 for the operator", send("/invoices", ADMIN, invoice(), media=None), 415, "admin"
    ),
    Row(
        "text/plain is 415 for the operator",
        send("/invoices", ADMIN, invoice(), media="text/plain"),
        415,
        "admin",
    ),
    Row(
        "two media types are 415",
        send("/tickets", CLIENT, TICKET, "Content-Type: application/json"),
        415,
        "client",
    ),
    *[
        Row(
            f"a body in {coding} is 415",
            send("/tickets", CLIENT, TICKET, f"Content-Encoding: {coding}"),
            415,
            "client",
            headers={"accept-encoding": "identity"},
        )
        for coding in ("gzip", "GZIP", "br", "unknown")
    ],
    Row(
        "a body packed twice is 415",
        send("/tickets", CLIENT, TICKET, "Content-Encoding: identity, gzip"),
        415,
        "client",
    ),
    Row(
        "utf-7 cannot smuggle a text",
        send("/tickets", CLIENT, "+AHsAfQ-", media="application/json; charset=utf-7"),
        415,
        "client",
    ),
    Row(
        "a packed transfer is 415",
        raw(
            "POST",
            "/api/v1/tickets",
            *bearer(CLIENT),
            "Content-Type: application/json",
            "Transfer-Encoding: gzip, chunked",
            body=b"%x\r\n%s\r\n0\r\n\r\n" % (len(TICKET), TICKET.encode()),
        ),
        415,
        "client",
    ),
    Row("415 outranks unreadable JSON", send("/tickets", CLIENT, b"\xff", media="text/plain"), 415, "client"),
    Row(
        "415 outranks a malformed query",
        send("/tickets?x=1", CLIENT, TICKET, media="text/plain"),
        415,
        "client",
    ),
    Row(
        "415 outranks a malformed id",
        send("/tickets/x/reply", CLIENT, '{"message":"A"}', media="text/plain"),
        415,
        "client",
    ),
    Row(
        "415 outranks a missing object",
        send("/invoices/999999/pay", ADMIN, "{}", media="text/plain"),
        415,
        "admin",
    ),
    *[
        Row(f"the media type {media!r} works", send("/tickets", CLIENT, TICKET, media=media), 201, written=1)
        for media in ADMITTED_MEDIA
    ],
    Row(
        "Application/JSON is validated",
        send("/tickets", CLIENT, "{}", media="Application/JSON"),
        422,
        "client",
    ),
    Row(
        "Application/JSON must be JSON",
        send("/tickets", CLIENT, "[", media="Application/JSON"),
        400,
        "client",
    ),
    Row(
        "a body that is not packed works",
        send("/tickets", CLIENT, TICKET, "Content-Encoding: identity"),
        201,
        written=1,
    ),
    # A body of no length is none, whatever is said about it.
    Row("no body in text/plain is no body", send("/tickets", CLIENT, "", media="text/plain"), 422, "client"),
    Row(
        "no body in a bogus charset is no body",
        send("/tickets", CLIENT, "", media="application/json; charset=x"),
        422,
        "client",
    ),
    Row(
        "a packed nothing is no body",
        send("/invoices/999999/pay", ADMIN, "", "Content-Encoding: gzip", media="text/plain"),
        404,
        "admin",
    ),
    Row(
        "GET with a Content-Type and no body works", get("/tickets", CLIENT, "Content-Type: text/plain"), 200
    ),
    Row("GET with a length of 0 works", get("/tickets", CLIENT, "Content-Length: 0", "Content-Type: x"), 200),
    # Operations without a body.
    Row("GET with an empty object works", send("/tickets", CLIENT, "{}", method="GET"), 200),
    Row("GET of the status with an empty object works", send("/status", None, " {} ", method="GET"), 200),
    Row(
        "GET with a member is refused",
        send("/tickets", CLIENT, '{"a":1}', method="GET"),
        400,
        "client",
        at=("body", ""),
    ),
    Row(
        "GET with a member is refused to the operator",
        send("/invoices", ADMIN, '{"a":1}', method="GET"),
        400,
        "admin",
        at=("body", ""),
    ),
    Row(
        "GET of the status with a member is refused",
        send("/status", None, '{"a":1}', method="GET"),
        400,
        "client",
        at=("body", ""),
    ),
    Row(
        "GET with a list is refused",
        send("/tickets", CLIENT, "[]", method="GET"),
        400,
        "client",
        at=("body", ""),
    ),
    Row(
        "GET with null is refused",
        send("/tickets", CLIENT, "null", method="GET"),
        400,
        "client",
        at=("body", ""),
    ),
    Row(
        "GET with broken JSON is refused",
        send("/tickets", CLIENT, "{", method="GET"),
        400,
        "client",
        at=("body", ""),
    ),
    Row(
        "GET with a body in text/plain is 415",
        send("/tickets", CLIENT, "{}", media="text/plain", method="GET"),
        415,
        "client",
    ),
    Row("HEAD with an empty object works", send("/tickets", CLIENT, "{}", method="HEAD"), 200),
    Row(
        "a verb with a member is refused",
        send("/invoices/1/pay", ADMIN, '{"a":1}'),
        400,
        "admin",
        at=("body", ""),
    ),
    Row("a verb with null is refused", send("/invoices/1/pay", ADMIN, "null"), 400, "admin", at=("body", "")),
    Row(
        "a verb with white space is refused",
        send("/invoices/1/pay", ADMIN, " "),
        400,
        "admin",
        at=("body", ""),
    ),
    Row(
        "a verb with an empty object looks for its object",
        send("/invoices/999999/pay", ADMIN, "{}"),
        404,
        "admin",
    ),
    Row(
        "an empty change is refused",
        send("/profile", CLIENT, "{}", method="PUT"),
        400,
        "client",
        at=("body", ""),
    ),
    Row("a change without a body is refused", send("/profile", CLIENT, "", method="PUT"), 400, "client"),
    # JSON that looks odd and is right.
    Row("a pair of surrogates works", send("/tickets", CLIENT, ticket('"\\ud83d\\ude00"')), 201, written=1),
    Row(
        "255 letters of four bytes work",
        send("/tickets", CLIENT, ticket('"' + "\U0001f600" * 255 + '"')),
        201,
        written=1,
    ),
    Row("white space around the body works", send("/tickets", CLIENT, f" \r\n\t{TICKET}\n"), 201, written=1),
    Row(
        "an escaped name works",
        send("/tickets", CLIENT, TICKET.replace("subject", "subj\\u0065ct")),
        201,
        written=1,
    ),
    Row(
        "CR LF in a message works",
        send("/tickets", CLIENT, '{"subject":"A","message":"B\\r\\nC","department_id":1}'),
        201,
        written=1,
    ),
    Row(
        "CR LF in an operator's ticket works",
        send("/tickets", ADMIN, '{"client_id":42,"subject":"A","message":"B\\r\\nC","department_id":1}'),
        201,
        written=1,
    ),
    *[
        Row(f"the department {id} works", send("/tickets", CLIENT, ticket(department=id)), 201, written=1)
        for id in ("1.0", "1e0", "10e-1", "0.1e1")
    ],
    *[
        Row(f"the amount {amount} works", send("/invoices", ADMIN, invoice(amount)), 201, written=1)
        for amount in (
            "0",
            "-0",
            "0.00",
            "9.95",
            "29.990",
            "1e2",
            "1E-2",
            "99999999.99",
            "19.99",
            "4.35",
            "20.0",
            '"0"',
            '"29.9"',
            '"0.00"',
            '"99999999.99"',
        )
    ],
    # What the caller accepts.
    *[
        Row(f"Accept: {accept} is 406", get("/tickets", CLIENT, f"Accept: {accept}"), 406, "client")
        for accept in REFUSED_ACCEPT
    ],
    *[
        Row(f"Accept: {accept or 'nothing'} works", get("/tickets", CLIENT, f"Accept: {accept}"), 200)
        for accept in ADMITTED_ACCEPT
    ],
    Row(
        "two Accept headers are one list",
        get("/tickets", CLIENT, "Accept: text/html", "Accept: application/json"),
        200,
    ),
    Row("406 speaks the operator's dialect", get("/invoices", ADMIN, "Accept: text/html"), 406, "admin"),
    Row(
        "406 on a public path speaks the client dialect",
        get("/status", None, "Accept: text/html"),
        406,
        "client",
    ),
    Row("406 writes nothing", send("/tickets", CLIENT, TICKET, "Accept: text/html"), 406, "client"),
    Row(
        "406 outranks the body",
        send("/tickets", CLIENT, b"\xff", "Accept: text/html", media="text/plain"),
        406,
        "client",
    ),
    Row("406 outranks a malformed id", get("/tickets/x", CLIENT, "Accept: text/html"), 406, "client"),
    Row("404 outranks what is accepted", get("/nowhere", CLIENT, "Accept: text/html"), 404, "client"),
    Row("the page is not JSON", get("/docs", None, "Accept: application/json"), 406, "client"),
    Row(
        "the page is HTML",
        get("/docs", None, "Accept: text/html"),
        200,
        headers={"content-type": "text/html; charset=utf-8"},
    ),
    Row("YAML is not JSON", get("/openapi.yaml", None, "Accept: application/json"), 406, "client"),
]
