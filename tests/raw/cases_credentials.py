"""Who is calling, and in which dialect the answer is."""

from tests.raw.raw_client import ECHO, bearer, get, raw, send
from tests.raw.row import Row
from tests.support.live_server import ADMIN, CLIENT, OTHER

TICKET = '{"subject":"A","message":"B","department_id":1}'
INVOICE = '{"client_id":56,"due_date":"2035-02-01","items":[{"description":"A","amount":"1.00"}]}'

MALFORMED = [
    "",
    "Bearer",
    "Bearer ",
    f"Bearer{CLIENT}",
    f"Bearer\t{CLIENT}",
    f"Bearer {CLIENT} {CLIENT}",
    f"Bearer {CLIENT}, Bearer {CLIENT}",
    f'Bearer "{CLIENT}"',
    f"Bearer {CLIENT},",
    f"Bearer token={CLIENT}",
    f"Token {CLIENT}",
    "Basic YWJjMTIzdG9rZW46",
    'Digest username="a"',
    CLIENT,
    f"Bearer {CLIENT}\u00ff",
    f"Bearer {CLIENT.upper()}",
    "Bearer " + "a" * 10_000,
]

WELL_FORMED = [
    f"Bearer {CLIENT}",
    f"bearer {CLIENT}",
    f"BEARER {CLIENT}",
    f"Bearer    {CLIENT}",
    f"   Bearer {CLIENT}   ",
]


def authorised(path: str, *values: str) -> bytes:
    """A GET with these Authorization headers."""
    return get(path, None, *[f"Authorization: {value}" for value in values])


ROWS = [
    *[
        Row(
            f"the header {value.strip()[:30] or 'of nothing'!r} ({len(value)}) is 401 for a client",
            authorised("/profile", value),
            401,
            "client",
        )
        for value in MALFORMED
    ],
    *[
        Row(
            f"the header {value[:30]!r} ({len(value)}) is 401 on a shared path",
            authorised("/tickets", value),
            401,
            "admin",
        )
        for value in ("", "Bearer", "Basic YWJjMTIzdG9rZW46", f"Bearer {ECHO}")
    ],
    *[Row(f"the header {value!r} works", authorised("/profile", value), 200) for value in WELL_FORMED],
    Row(
        "two equal headers are 401",
        authorised("/profile", f"Bearer {CLIENT}", f"Bearer {CLIENT}"),
        401,
        "client",
    ),
    Row(
        "a good header and a bad one are 401",
        authorised("/profile", f"Bearer {CLIENT}", "Bearer dead"),
        401,
        "client",
    ),
    Row(
        "a bad header and a good one are 401",
        authorised("/profile", "Bearer dead", f"Bearer {CLIENT}"),
        401,
        "client",
    ),
    Row(
        "a malformed header writes nothing",
        send("/tickets", None, TICKET, f"Authorization: Token {CLIENT}"),
        401,
        "admin",
    ),
    # The dialect of nobody, and of credentials that are dead.
    Row("nobody on a client's path hears the client dialect", get("/profile"), 401, "client"),
    Row("nobody on a shared path hears the admin dialect", get("/services"), 401, "admin"),
    Row(
        "nobody on the operator's path hears the admin dialect",
        raw("POST", "/api/v1/invoices/1/pay"),
        401,
        "admin",
    ),
    Row("nobody on an unknown path hears the admin dialect", get("/nowhere"), 404, "admin"),
    Row(
        "a dead token on a shared path hears the client dialect", get("/services", "cbt_dead"), 401, "client"
    ),
    Row("a dead key on a shared path hears the admin dialect", get("/services", "arc_dead"), 401, "admin"),
    Row("a dead key on a client's path hears the admin dialect", get("/profile", "arc_dead"), 401, "admin"),
    Row(
        "a dead token on the operator's path hears the client dialect",
        send("/invoices", "cbt_dead", INVOICE),
        401,
        "client",
    ),
    Row(
        "a dead token on an unknown path hears the client dialect", get("/nowhere", "cbt_dead"), 404, "client"
    ),
    Row("a dead key on an unknown path hears the admin dialect", get("/nowhere", "arc_dead"), 404, "admin"),
    Row("a token on an unknown path hears the client dialect", get("/nowhere", CLIENT), 404, "client"),
    Row("a key on an unknown path hears the admin dialect", get("/nowhere", ADMIN), 404, "admin"),
    Row(
        "a dead token that is much too long hears the client dialect",
        get("/services", "cbt_" + "A" * 5000),
        401,
        "client",
    ),
    Row(
        "a dead token with a wrong method hears the client dialect",
        raw("PUT", "/api/v1/tickets", "Authorization: Bearer cbt_dead"),
        405,
        "client",
        allow="GET, HEAD, POST",
    ),
    Row(
        "an unknown secret on a client's path hears the client dialect", get("/profile", ECHO), 401, "client"
    ),
    Row("an unknown secret on a shared path hears the admin dialect", get("/services", ECHO), 401, "admin"),
    Row("a prefix alone is dead", get("/services", "cbt_"), 401, "client"),
    # api_token.
    Row("api_token works", get(f"/services?api_token={CLIENT}"), 200),
    Row("api_token beside a parameter works", get(f"/invoices?page=1&api_token={CLIENT}&limit=1"), 200),
    Row("api_token writes", send(f"/tickets?api_token={CLIENT}", None, TICKET), 201, written=1),
    Row("api_token in percent-encoded letters works", get("/services?api%5Ftoken=abc123%74oken"), 200),
    Row("a dead api_token is 401", get("/services?api_token=dead"), 401, "client"),
    Row(
        "a dead api_token on an unknown path hears the client dialect",
        get("/nowhere?api_token=dead"),
        404,
        "client",
    ),
    Row(
        "a dead api_token with a wrong method hears the client dialect",
        raw("PUT", "/api/v1/tickets?api_token=dead"),
        405,
        "client",
        allow="GET, HEAD, POST",
    ),
    Row(
        "OPTIONS with a dead api_token allows what a client may call",
        raw("OPTIONS", "/api/v1/invoices?api_token=dead"),
        405,
        "client",
        allow="GET, HEAD",
    ),
    Row(
        "OPTIONS with a header and another api_token allows what a client may call",
        raw("OPTIONS", "/api/v1/announcements?api_token=dead", *bearer(ADMIN)),
        405,
        "client",
        allow="GET, HEAD",
    ),
    Row(
        "OPTIONS with an api_token twice allows what a client may call",
        raw("OPTIONS", f"/api/v1/domains?api_token={CLIENT}&api_token=dead"),
        405,
        "client",
        allow="GET, HEAD",
    ),
    Row(
        "OPTIONS with an api_token on the operator's path allows a client nothing",
        raw("OPTIONS", f"/api/v1/clients?api_token={CLIENT}"),
        405,
        "client",
        allow="",
    ),
    Row(
        "OPTIONS with a dead token allows what a client may call",
        raw("OPTIONS", "/api/v1/invoices", *bearer("cbt_dead")),
        405,
        "client",
        allow="GET, HEAD",
    ),
    Row(
        "OPTIONS with a dead key allows what the operator may call",
        raw("OPTIONS", "/api/v1/invoices", *bearer("arc_dead")),
        405,
        "admin",
        allow="GET, HEAD, POST",
    ),
    Row("a dead token's prefix in api_token is 401", get("/services?api_token=cbt_dead"), 401, "client"),
    Row(
        "a dead key's prefix in api_token hears the admin dialect",
        get("/services?api_token=arc_dead"),
        401,
        "admin",
    ),
    # An empty one is absent, so the path says which dialect is spoken.
    Row("an empty api_token is no credential", get("/services?api_token="), 401, "admin"),
    Row("an api_token without a value is no credential", get("/services?api_token"), 401, "admin"),
    Row("an empty api_token on a client's path is no credential", get("/profile?api_token="), 401, "client"),
    Row("an empty api_token beside a good header works", get("/services?api_token=", CLIENT), 200),
    Row("an empty api_token beside a key works", get("/services?api_token=", ADMIN), 200),
    Row("an empty api_token beside a good one works", get(f"/services?api_token=&api_token={CLIENT}"), 200),
    Row("an empty api_token beside a dead header is 401", get("/services?api_token=", ECHO), 401, "admin"),
    Row(
        "a repeated api_token is 401", get(f"/services?api_token={CLIENT}&api_token={CLIENT}"), 401, "client"
    ),
    Row(
        "a good and a dead api_token are 401",
        get(f"/services?api_token={CLIENT}&api_token=dead"),
        401,
        "client",
    ),
    Row("an api_token with NUL is 401", get(f"/services?api_token={CLIENT}%00"), 401, "client"),
    Row("an api_token that is no UTF-8 is 401", get("/services?api_token=%ff"), 401, "client"),
    Row("an api_token with a space is 401", get(f"/services?api_token={CLIENT}+"), 401, "client"),
    Row("an api_token of 5000 letters is 401", get("/services?api_token=" + "a" * 5000), 401, "client"),
    Row("an api_token as a list is 401", get(f"/services?api_token%5B%5D={CLIENT}"), 401, "admin"),
    Row("API_TOKEN in capitals is no credential", get(f"/services?API_TOKEN={CLIENT}"), 401, "admin"),
    Row("the operator's key in the query is 401", get(f"/services?api_token={ADMIN}"), 401, "admin"),
    Row(
        "the operator's key in the query writes nothing",
        send(f"/invoices?api_token={ADMIN}", None, INVOICE),
        401,
        "admin",
    ),
    Row("the operator's key in both places is 401", get(f"/services?api_token={ADMIN}", ADMIN), 401, "admin"),
    Row("the same token in both places works", get(f"/services?api_token={CLIENT}", CLIENT), 200),
    Row("two tokens that differ are 401", get(f"/services?api_token={OTHER}", CLIENT), 401, "client"),
    Row("a good header with a dead api_token is 401", get("/services?api_token=dead", CLIENT), 401, "client"),
    Row(
        "a dead header with a good api_token is 401",
        get(f"/services?api_token={CLIENT}", "dead"),
        401,
        "client",
    ),
    Row(
        "a key in the header and a token in the query are 401",
        get(f"/profile?api_token={CLIENT}", ADMIN),
        401,
        "client",
    ),
    Row(
        "a malformed header with a good api_token is 401",
        get(f"/profile?api_token={CLIENT}", None, "Authorization: Basic abc"),
        401,
        "client",
    ),
    Row(
        "two credentials that differ write nothing",
        send(f"/tickets?api_token={OTHER}", CLIENT, TICKET),
        401,
        "client",
    ),
    # The wrong kind, in the caller's own dialect.
    Row("a token cannot make an invoice", send("/invoices", CLIENT, INVOICE), 403, "client"),
    Row(
        "api_token cannot make an invoice",
        send(f"/invoices?api_token={CLIENT}", None, INVOICE),
        403,
        "client",
    ),
    Row("a key has no profile", get("/profile", ADMIN), 403, "admin"),
    Row("a foreign ticket is 403", get("/tickets/15", OTHER), 403, "client"),
    Row(
        "a foreign ticket takes no reply", send("/tickets/15/reply", OTHER, '{"message":"A"}'), 403, "client"
    ),
    Row(
        "403 for the kind outranks the body",
        send("/invoices", CLIENT, b"\xff", media="text/plain"),
        403,
        "client",
    ),
    Row("401 outranks the body", send("/tickets", None, b"\xff", media="text/plain"), 401, "admin"),
    Row("401 outranks what is accepted", get("/tickets", "cbt_dead", "Accept: text/html"), 401, "client"),
    Row("a key makes an invoice", send("/invoices", ADMIN, INVOICE), 201, written=1),
    Row("a token makes a ticket", send("/tickets", CLIENT, TICKET), 201, written=1),
    # The status looks at no credential.
    Row("the status answers a dead token", get("/status", "cbt_dead"), 200),
    Row("the status answers a dead key", get("/status", "arc_dead"), 200),
    Row("the status answers a malformed header", get("/status", None, "Authorization: Basic abc"), 200),
    Row("the status answers two headers", authorised("/status", "Bearer a", "Bearer b"), 200),
    Row("the status answers a dead api_token", get("/status?api_token=dead"), 200),
    Row("the status answers a key in the query", get(f"/status?api_token={ADMIN}"), 200),
]
