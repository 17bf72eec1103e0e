"""Requests that are odd, or no HTTP at all: the request line, headers, framing, methods."""

from tests.raw.raw_client import ECHO, bearer, chunked, chunks, get, raw, send
from tests.raw.row import Row
from tests.support.live_server import ADMIN, CLIENT

TICKET = b'{"subject":"A","message":"B","department_id":1}'
SIZE = f"Content-Length: {len(TICKET)}"
INVOICE = b'{"client_id":56,"due_date":"2035-02-01","items":[{"description":"A","amount":"1.00"}]}'
CHARGE_SIZE = f"Content-Length: {len(INVOICE)}"
JSON = "Content-Type: application/json"


def post(
    *headers: str | bytes, body: bytes = TICKET, version: str = "1.1", host: str | None = "localhost"
) -> bytes:
    """A client's ticket, whose framing is left to ``headers``."""
    return raw(
        "POST", "/api/v1/tickets", *bearer(CLIENT), JSON, *headers, body=body, version=version, host=host
    )


def charge(*headers: str | bytes, body: bytes = INVOICE) -> bytes:
    """The operator's invoice, whose framing is left to ``headers``."""
    return raw("POST", "/api/v1/invoices", *bearer(ADMIN), JSON, *headers, body=body)


# Nobody or the operator asks for these, so they are refused in the admin dialect whether or not the
# credential has been read when the parser stops.
NO_HTTP = [
    ("garbage", f"{ECHO}\r\n\r\n".encode()),
    ("a TLS greeting", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 64),
    ("the preface of HTTP/2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
    ("a request line of one word", b"GET\r\n\r\n"),
    ("lines that end in a line feed alone", b"GET /api/v1/tickets HTTP/1.1\nHost: localhost\n\n"),
    ("HTTP/1.1 in lower case", b"GET /api/v1/tickets http/1.1\r\nHost: localhost\r\n\r\n"),
    ("an impossible version", b"GET /api/v1/tickets HTTP/9.9\r\nHost: localhost\r\n\r\n"),
    ("a space in the target", b"GET /api/v1/tick ets HTTP/1.1\r\nHost: localhost\r\n\r\n"),
    ("NUL in the target", get(b"/tickets\x00")),
    ("a target without a slash", raw("GET", "api/v1/tickets")),
    ("NUL in a header", get("/tickets", None, b"X-Note: a\x00b")),
    ("a bare carriage return in a header", get("/tickets", None, b"X-Note: a\rb")),
    ("a control character in a header's name", get("/tickets", None, b"X-N\x01te: a")),
    ("a header without a colon", get("/tickets", None, ECHO)),
    ("a header without a name", get("/tickets", None, ": a")),
    ("a space before a header's colon", get("/tickets", None, "X-Note : a")),
    ("a folded header", get("/tickets", None, "X-Note: a\r\n b")),
    ("a fragment in the target", get("/tickets#a")),
    ("a header without a colon behind an id", get("/tickets", None, "X-Request-Id: my-id", ECHO)),
    ("a method in lower case", raw("get", "/api/v1/tickets")),
    ("an unknown method", raw("FETCH", "/api/v1/tickets")),
    ("CONNECT", raw("CONNECT", "localhost:443")),
    ("CONNECT with an upgrade", raw("CONNECT", "localhost:443", "Upgrade: h2c", "Connection: Upgrade")),
    ("a negative Content-Length", charge("Content-Length: -1")),
    ("a Content-Length with a sign", charge(f"Content-Length: +{len(INVOICE)}")),
    ("a Content-Length in hexadecimal", charge(f"Content-Length: {len(INVOICE):#x}")),
    ("a Content-Length beyond 64 bits", charge("Content-Length: 99999999999999999999")),
    ("an empty Content-Length", charge("Content-Length:")),
    ("a Content-Length as a list", charge(f"Content-Length: {len(INVOICE)}, {len(INVOICE)}")),
    ("two Content-Lengths that differ", charge(CHARGE_SIZE, "Content-Length: 3")),
    (
        "Content-Length and Transfer-Encoding",
        charge(CHARGE_SIZE, "Transfer-Encoding: chunked", body=chunks(INVOICE)),
    ),
    (
        "Transfer-Encoding and Content-Length",
        charge("Transfer-Encoding: chunked", CHARGE_SIZE, body=chunks(INVOICE)),
    ),
    ("an unknown Transfer-Encoding", charge("Transfer-Encoding: xchunked", body=chunks(INVOICE))),
    (
        "chunked that is not the last encoding",
        charge("Transfer-Encoding: chunked, gzip", body=chunks(INVOICE)),
    ),
]

# The headers have named the caller, so it is told in its own dialect.
BAD_CHUNKS = [
    ("a chunk size that is no number", b"zz\r\n" + TICKET + b"\r\n0\r\n\r\n"),
    ("a negative chunk size", b"-2f\r\n" + TICKET + b"\r\n0\r\n\r\n"),
    ("a chunk size with 0x", b"0x2f\r\n" + TICKET + b"\r\n0\r\n\r\n"),
    ("a chunk size beyond 64 bits", b"f" * 17 + b"\r\n" + TICKET + b"\r\n0\r\n\r\n"),
    ("a chunk longer than its size", b"3\r\n" + TICKET + b"\r\n0\r\n\r\n"),
    ("an empty chunk size", b"\r\n" + TICKET + b"\r\n0\r\n\r\n"),
]

UPGRADE = ("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAEAAEAAAAIAAAABAAMAAABk")
WEBSOCKET = (
    "Connection: Upgrade",
    "Upgrade: websocket",
    "Sec-WebSocket-Version: 13",
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
)

ROWS = [
    *[Row(f"{what} is refused", request, 400, "admin", "closed") for what, request in NO_HTTP],
    *[
        Row(f"{what} is refused", chunked("/tickets", CLIENT, body), 400, "client", "closed")
        for what, body in BAD_CHUNKS
    ],
    # Framing that works.
    Row("a body in one chunk works", chunked("/tickets", CLIENT, chunks(TICKET)), 201, written=1),
    Row(
        "a body in many chunks works",
        chunked("/tickets", CLIENT, chunks(*[bytes([byte]) for byte in TICKET])),
        201,
        written=1,
    ),
    Row(
        "a chunk extension is ignored",
        chunked("/tickets", CLIENT, b"2F;name=value\r\n" + TICKET + b"\r\n0\r\n\r\n"),
        201,
        written=1,
    ),
    Row(
        "a trailer is ignored",
        chunked("/tickets", CLIENT, chunks(TICKET, trailer=b"X-Note: a\r\n")),
        201,
        written=1,
    ),
    Row(
        "a Content-Type in a trailer is ignored",
        chunked("/tickets", CLIENT, chunks(TICKET, trailer=b"Content-Type: text/plain\r\n")),
        201,
        written=1,
    ),
    Row(
        "a credential in a trailer opens nothing",
        chunked("/tickets", None, chunks(TICKET, trailer=f"Authorization: Bearer {CLIENT}\r\n".encode())),
        401,
        "admin",
    ),
    Row("no chunk at all is no body", chunked("/tickets", CLIENT, chunks()), 422, "client"),
    Row("neither a length nor chunks is no body", post(body=b""), 422, "client"),
    Row("an unknown expectation is ignored", post(SIZE, "Expect: more"), 201, written=1),
    # Upgrades are declined, and the request is answered.
    Row("h2c offered with a GET is declined", get("/status", None, *UPGRADE), 200),
    Row("h2c offered with a POST is declined", post(SIZE, *UPGRADE), 201, written=1),
    Row(
        "h2c offered with chunks is declined",
        post("Transfer-Encoding: chunked", *UPGRADE, body=chunks(TICKET[:9], TICKET[9:])),
        201,
        written=1,
    ),
    Row(
        "h2c offered with a bad body is declined",
        post("Content-Length: 1", *UPGRADE, body=b"{"),
        400,
        "client",
    ),
    Row(
        "h2c offered with Connection: close closes",
        get("/status", None, "Connection: close, Upgrade", "Upgrade: h2c"),
        200,
        after="closed",
    ),
    Row("h2c offered without a credential is 401", get("/tickets", None, *UPGRADE), 401, "admin"),
    Row(
        "h2c offered over HTTP/1.0 is ignored",
        raw("GET", "/api/v1/status", *UPGRADE, version="1.0", host=None),
        200,
        after="closed",
    ),
    Row("a WebSocket is answered as plain HTTP", get("/status", None, *WEBSOCKET), 200),
    Row("a WebSocket to nowhere is 404", get("/socket", None, *WEBSOCKET), 404, "admin"),
    Row(
        "an unknown upgrade is declined",
        post(SIZE, "Connection: upgrade", "Upgrade: TLS/1.0"),
        201,
        written=1,
    ),
    # Versions, targets, hosts.
    Row(
        "HTTP/0.9 is answered by HTTP/1.1 and closed", b"GET /api/v1/tickets\r\n\r\n", 401, "admin", "closed"
    ),
    Row(
        "HTTP/1.0 without Host works and closes",
        raw("GET", "/api/v1/status", version="1.0", host=None),
        200,
        after="closed",
    ),
    Row(
        "a POST over HTTP/1.0 works and closes",
        post(SIZE, version="1.0", host=None),
        201,
        after="closed",
        written=1,
    ),
    Row("Connection: close closes", get("/status", None, "Connection: close"), 200, after="closed"),
    Row(
        "Connection: close closes after a refusal",
        get("/tickets", None, "Connection: close"),
        401,
        "admin",
        "closed",
    ),
    Row("an absolute target works", raw("GET", "http://localhost/api/v1/status"), 200),
    Row("an absolute target of another host works", raw("GET", "http://example.com:81/api/v1/status"), 200),
    Row(
        "an absolute target keeps its query",
        raw("GET", f"http://localhost/api/v1/services?api_token={CLIENT}"),
        200,
    ),
    Row("an absolute target beside the base path is 404", raw("GET", "http://localhost/x"), 404, "admin"),
    Row(
        "a missing Host is refused",
        raw("GET", "/api/v1/tickets", *bearer(CLIENT), host=None),
        400,
        "client",
        at=("header", "/Host"),
    ),
    Row(
        "a missing Host is refused to the operator",
        raw("GET", "/api/v1/tickets", *bearer(ADMIN), host=None),
        400,
        "admin",
    ),
    Row("a missing Host is refused in public", raw("GET", "/api/v1/status", host=None), 400, "client"),
    Row("a missing Host writes nothing", post(SIZE, host=None), 400, "client"),
    Row(
        "two Hosts are refused",
        get("/tickets", CLIENT, "Host: localhost"),
        400,
        "client",
        at=("header", "/Host"),
    ),
    Row("empty lines before a request are skipped", b"\r\n\r\n" + get("/status"), 200),
    Row("letters beyond ASCII in a header are let pass", get("/status", None, b"X-Note: \xc3\xa4\xff"), 200),
    # Request ids.
    Row(
        "a caller's request id is kept",
        get("/status", None, "X-Request-Id: a-1_b.C"),
        200,
        headers={"x-request-id": "a-1_b.C"},
    ),
    Row(
        "a refused caller's request id is kept",
        get("/nowhere", None, "X-Request-Id: a-1"),
        404,
        "admin",
        headers={"x-request-id": "a-1"},
    ),
    Row(
        "a malformed request id is replaced",
        get("/nowhere", None, f"X-Request-Id: {ECHO}<script>"),
        404,
        "admin",
    ),
    Row("a long request id is replaced", get("/nowhere", None, f"X-Request-Id: {ECHO * 20}"), 404, "admin"),
    # Methods.
    Row(
        "HEAD of the status works",
        raw("HEAD", "/api/v1/status"),
        200,
        headers={"content-type": "application/json"},
    ),
    Row("HEAD of a list works", raw("HEAD", "/api/v1/invoices", *bearer(ADMIN)), 200),
    Row(
        "HEAD of the contract works",
        raw("HEAD", "/api/v1/openapi.yaml"),
        200,
        headers={"content-type": "application/yaml"},
    ),
    Row(
        "HEAD without a credential is 401",
        raw("HEAD", "/api/v1/tickets"),
        401,
        headers={"www-authenticate": "Bearer"},
    ),
    Row("HEAD of nothing is 404", raw("HEAD", "/api/v1/nowhere"), 404),
    Row(
        "HEAD where no GET is is 405",
        raw("HEAD", "/api/v1/invoices/1/pay", *bearer(ADMIN)),
        405,
        allow="POST",
    ),
    Row("OPTIONS of the status is 405", raw("OPTIONS", "/api/v1/status"), 405, "client", allow="GET, HEAD"),
    Row(
        "OPTIONS of tickets is 405",
        raw("OPTIONS", "/api/v1/tickets", *bearer(CLIENT)),
        405,
        "client",
        allow="GET, HEAD, POST",
    ),
    Row(
        "OPTIONS of invoices allows a client to read",
        raw("OPTIONS", "/api/v1/invoices", *bearer(CLIENT)),
        405,
        "client",
        allow="GET, HEAD",
    ),
    Row(
        "OPTIONS of invoices allows the operator to write",
        raw("OPTIONS", "/api/v1/invoices", *bearer(ADMIN)),
        405,
        "admin",
        allow="GET, HEAD, POST",
    ),
    Row(
        "a preflight is 405 while CORS is off",
        raw(
            "OPTIONS", "/api/v1/tickets", "Origin: https://example.com", "Access-Control-Request-Method: POST"
        ),
        405,
        "admin",
        allow="GET, HEAD, POST",
    ),
    Row("OPTIONS of nothing is 404", raw("OPTIONS", "/api/v1/nowhere"), 404, "admin"),
    Row("OPTIONS of the server is 404", raw("OPTIONS", "*"), 404, "admin"),
    Row(
        "TRACE is 405",
        raw("TRACE", "/api/v1/tickets", f"X-Note: {ECHO}"),
        405,
        "admin",
        allow="GET, HEAD, POST",
    ),
    Row(
        "PATCH is 405",
        send("/tickets", CLIENT, TICKET, method="PATCH"),
        405,
        "client",
        allow="GET, HEAD, POST",
    ),
    Row(
        "PUT of a list is 405",
        send("/tickets", ADMIN, TICKET, method="PUT"),
        405,
        "admin",
        allow="GET, HEAD, POST",
    ),
    Row(
        "DELETE of an item is 405",
        raw("DELETE", "/api/v1/tickets/15", *bearer(CLIENT)),
        405,
        "client",
        allow="GET, HEAD",
    ),
    Row("DELETE of the status is 405", raw("DELETE", "/api/v1/status"), 405, "client", allow="GET, HEAD"),
    Row("PROPFIND is 405", raw("PROPFIND", "/api/v1/tickets"), 405, "admin", allow="GET, HEAD, POST"),
    Row("POST to the documentation is 405", send("/docs", None, "{}"), 405, "client", allow="GET, HEAD"),
    Row("GET of a verb is 405", get("/invoices/1/pay", ADMIN), 405, "admin", allow="POST"),
    Row(
        "405 outranks 401",
        raw("DELETE", "/api/v1/tickets", *bearer("arc_dead")),
        405,
        "admin",
        allow="GET, HEAD, POST",
    ),
    Row(
        "405 outranks a malformed id",
        raw("DELETE", "/api/v1/tickets/x", *bearer(CLIENT)),
        405,
        "client",
        allow="GET, HEAD",
    ),
    Row(
        "405 outranks the body",
        send("/tickets", CLIENT, b"\xff", media="text/plain", method="PUT"),
        405,
        "client",
        allow="GET, HEAD, POST",
    ),
    Row(
        "a version that the caller has is 304",
        get("/announcements/1", CLIENT, "If-None-Match: *"),
        304,
    ),
    # A method cannot be smuggled past the contract in a header.
    Row("a method in a header is ignored", get("/status", None, "X-HTTP-Method-Override: DELETE"), 200),
]

ROWS += [
    *[
        Row(
            f"the host {host!r} is refused",
            raw("GET", "/api/v1/tickets", host=host),
            400,
            "admin",
            at=("header", "/Host"),
        )
        for host in ("a b", "a/b", "user@host", "a?b", "<>")
    ],
    *[
        Row(f"the host {host!r} works", raw("GET", "/api/v1/status", host=host), 200)
        for host in ("", "[::1]:8080", "my-host_1.example.:80")
    ],
    Row("percent-encoded letters in the base path work", raw("GET", "/%61pi/v1/%73tatus"), 200),
    Row(
        "the caller's own id comes back where the server can read it",
        get("/status", None, "X-Request-Id: my-id"),
        200,
        headers={"x-request-id": "my-id"},
    ),
]
