"""Every example, command, field, header and code of both documents, each named by its line.

A row is a document, a line of it and what stands there. The last tests count: each line has a row, says
nothing that could be tried, or belongs to a part of the product that is listed in ``COMES_WITH``.
"""

import asyncio
import json
import queue
import re
import secrets
import shlex
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest

from handlers import services
from handlers.dialects import Views
from persistence import api_keys, credentials
from persistence.settings import RuntimeSettings
from server import app
from tests.conftest import new_database
from tests.support import factories
from tests.support.contract_client import Api
from tests.support.live_server import ADMIN, BOX, CLIENT, OTHER, Running, prepared, serving
from webhooks import signing
from webhooks.delivery import Worker

CLOUDBILL = "CloudBill Pro"
ARCBILLING = "ArcBilling"
LENGTH = {CLOUDBILL: 99, ARCBILLING: 138}


class Line(NamedTuple):
    """A line of a document, and what stands there."""

    document: str
    number: int
    what: str


PROVED: list[Line] = []


def proves(document: str, names: str, rows: list[tuple[Any, ...]]) -> pytest.MarkDecorator:
    """Run a test once for each row: a line or a range of lines, what stands there, and other values.

    ``names`` are the test's parameters for all but the first member of a row.
    """
    assert rows
    parameters = []
    for numbers, what, *values in rows:
        lines = numbers if isinstance(numbers, range) else [numbers]
        PROVED.extend(Line(document, number, what) for number in lines)
        parameters.append(pytest.param(what, *values, id=f"{document} line {lines[0]}: {what}"))
    return pytest.mark.parametrize(names.split(), parameters)


COMES_WITH: dict[str, list[Line]] = {
    "the panel": [
        Line(CLOUDBILL, 10, "Clients → Edit → API Token"),
        Line(ARCBILLING, 5, "Settings → API"),
    ],
}

# Headings, introductions, heads of tables, comments and braces: nothing that could be tried.
SILENT = {
    CLOUDBILL: [1, 2, 3, 5, 11, 14, 20, 29, 34, 37, 39, 52, 53, 58, 67, 68, 69, 78, 79, 82, 88],
    ARCBILLING: [
        *(1, 2, 3, 6, 8, 9, 12, 13, 18, 19, 20, 21, 27, 28, 30, 32, 34, 44, 46, 48, 49, 51, 53, 55, 61, 63),
        *(65, 67, 68, 70, 72, 74, 80, 82, 83, 85, 87, 89, 95, 97, 99, 100, 102, 104, 105, 107, 109, 110),
        *(119, 120, 128, 130, 131, 132),
    ],
}


# What values look like: a type, a pattern, an alternative, a value, or members; "x?" may be left out.
DAY = re.compile(r"\d{4}-\d\d-\d\d")
CLIENT_INSTANT = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d")
ADMIN_INSTANT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")
MONEY = re.compile(r"(0|[1-9]\d*)\.\d\d")
NUMBER = re.compile(r"TKT-[0-9A-F]{8}")

PROFILE = {
    "id": 42,
    "first_name": "Jane",
    "last_name": "Smith",
    # The document masks the address.
    "email": "jane@example.com",
    "phone": "+1-555-1234",
    "company": "Acme Corp",
    "country": "US",
    "created_at": "2024-01-01 10:00:00",
}
SERVICE = {
    "id": 1,
    "product_name": "Business Hosting",
    "domain": "mysite.com",
    "status": "active",
    "next_due_date": "2024-02-01",
}
TICKET = {
    "subject": "Need help with DNS settings",
    "message": "I'm trying to set up a CNAME record...",
    "department_id": 2,
    "priority_id": 2,
}
PROFILE_SHAPE = {name: type(value) for name, value in PROFILE.items()} | {
    "created_at": CLIENT_INSTANT,
    **dict.fromkeys(("address1", "city", "state", "postcode"), str),
}
SERVICE_ROW = {"id": int, "product_name": str, "domain": str, "status": str, "next_due_date": DAY}
SERVICE_DETAIL = SERVICE_ROW | {
    "client_id": int,
    "product_id": int,
    "username": str,
    "billing_cycle": str,
    "suspend_reason": str,
    "created_at": CLIENT_INSTANT,
}
ADMIN_SERVICE = SERVICE_DETAIL | {"server_id": (int, None), "created_at": ADMIN_INSTANT}
DOMAIN = {
    "id": int,
    "domain": str,
    "status": str,
    "registered_at": CLIENT_INSTANT,
    "expires_at": CLIENT_INSTANT,
}
INVOICE_ROW = {
    "id": int,
    "invoice_number": str,
    "client_id": int,
    "status": str,
    "total": MONEY,
    "currency": "USD",
    "due_date": DAY,
    "paid_at": (CLIENT_INSTANT, None),
    "created_at": CLIENT_INSTANT,
}
LINES = {"items": [{"description": str, "amount": MONEY}]}
ADMIN_INVOICE_ROW = INVOICE_ROW | {"paid_at": (ADMIN_INSTANT, None), "created_at": ADMIN_INSTANT}
TICKET_ROW = {
    "id": int,
    "ticket_number": NUMBER,
    "client_id": int,
    "department_id": int,
    "subject": str,
    "status": str,
    "priority_id": int,
    "created_at": CLIENT_INSTANT,
    "updated_at": CLIENT_INSTANT,
}
REPLY = {"id": int, "author": str, "message": str}
TICKET_DETAIL = TICKET_ROW | {"message": str, "replies": [REPLY | {"created_at": CLIENT_INSTANT}]}
ADMIN_TICKET_ROW = {name: shape for name, shape in TICKET_ROW.items() if name != "priority_id"} | {
    "priority": str,
    "created_at": ADMIN_INSTANT,
    "updated_at": ADMIN_INSTANT,
}
ADMIN_TICKET = ADMIN_TICKET_ROW | {"message": str, "replies": [REPLY | {"created_at": ADMIN_INSTANT}]}
ACCOUNT = {
    **dict.fromkeys(("first_name", "last_name", "email", "company", "phone"), str),
    **dict.fromkeys(("address", "city", "state", "postcode", "country?"), str),
    "id": int,
    "status": str,
    "created_at": ADMIN_INSTANT,
}
PRODUCT = {
    "id": int,
    "name": str,
    "description": str,
    "kind": str,
    "status": str,
    "prices": dict.fromkeys(("monthly", "quarterly", "annually"), (MONEY, None)),
    "currency": "USD",
}
SERVER = {
    "id": int,
    **dict.fromkeys(("name", "hostname", "ip_address", "kind", "status"), str),
    "capacity": int,
    "used": int,
}
ARTICLE = {"id": int, "title": str, "category": int, "content": str}
ANNOUNCEMENT = {"id": int, "title": str, "content": str, "published_at": CLIENT_INSTANT}
PLACE = dict.fromkeys(("page", "limit", "total", "pages"), int)


def is_like(value: Any, shape: Any) -> bool:
    """Whether a value has a shape: the same members, no other, each of its type."""
    if isinstance(shape, dict):
        known = {name.rstrip("?"): inner for name, inner in shape.items()}
        needed = {name for name in shape if not name.endswith("?")}
        return (
            isinstance(value, dict)
            and needed <= value.keys() <= known.keys()
            and all(is_like(inner, known[name]) for name, inner in value.items())
        )
    if isinstance(shape, list):
        return isinstance(value, list) and all(is_like(inner, shape[0]) for inner in value)
    if isinstance(shape, tuple):
        return any(is_like(value, each) for each in shape)
    if isinstance(shape, re.Pattern):
        return isinstance(value, str) and shape.fullmatch(value) is not None
    if isinstance(shape, type):
        return type(value) is shape
    return type(value) is type(shape) and bool(value == shape)


def says(body: dict[str, Any], values: dict[str, Any]) -> bool:
    """Whether a body has these members with these values, and maybe others."""
    return {name: body.get(name, ...) for name in values} == values


def enveloped(shape: Any) -> dict[str, Any]:
    return {"status": "success", "data": shape}


def paged(shape: Any) -> dict[str, Any]:
    return enveloped([shape]) | {"meta": PLACE}


@pytest.fixture(scope="module")
def server(
    backend: str, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Iterator[Running]:
    """A demo server that no other module's tests have changed."""
    postgres_url = request.getfixturevalue("postgres") if backend == "postgresql" else None
    url = new_database(backend, tmp_path_factory.mktemp("documents"), postgres_url)
    with serving(prepared(url)) as running:
        yield running


@pytest.fixture
def narrow(server: Running) -> Iterator[Api]:
    """An API key that may read products and nothing else."""
    secret = credentials.mint("arc_", secrets.choice)
    server.inside(lambda db: api_keys.create(db, "narrow", ("products:read",), secret, app.now()), write=True)
    api = Api(server.url, secret)
    yield api
    api.close()


def refused(response: httpx.Response, status: int, code: str) -> dict[str, Any]:
    """The operator's documented error, and what is in it."""
    assert response.status_code == status, response.text
    body = response.json()
    assert body.keys() == {"status", "error"}
    assert body["status"] == "error"
    assert body["error"]["code"] == code
    assert is_like(body["error"]["message"], str) and body["error"]["message"]
    assert body["error"].keys() - {"code", "message"} <= {"details"}
    assert ("details" in body["error"]) == (code == "VALIDATION_ERROR")
    return dict(body["error"])


def denied(response: httpx.Response, status: int) -> dict[str, Any]:
    """A client's documented error."""
    assert response.status_code == status, response.text
    body = response.json()
    assert body["code"] == status
    assert is_like(body["error"], str) and body["error"]
    assert body.keys() - {"error", "code"} == ({"details"} if status in (400, 422) else set())
    return dict(body)


RESOURCES = ("status", "profile", "services", "domains", "invoices", "tickets", "knowledgebase")
CLIENT_READS = [
    (18, "GET /profile", PROFILE_SHAPE),
    (32, "GET /services", {"data": [SERVICE_ROW], "count": int}),
    (40, "GET /services/1", SERVICE_DETAIL),
    (42, "GET /domains", {"data": [DOMAIN], "count": int}),
    (44, "GET /invoices", {"data": [INVOICE_ROW], "count": int} | PLACE),
    (46, "GET /invoices/1001", INVOICE_ROW | LINES),
    (48, "GET /tickets", {"data": [TICKET_ROW], "count": int}),
    (61, "GET /tickets/15", TICKET_DETAIL),
    (63, "GET /knowledgebase", {"data": [ARTICLE], "count": int} | PLACE),
    (65, "GET /announcements", {"data": [ANNOUNCEMENT], "count": int}),
]
CLIENT_WRITES: list[tuple[int, str, dict[str, Any]]] = [
    (30, "PUT /profile", {"first_name": "Jane"}),
    (50, "POST /tickets", TICKET),
]
CLIENT_CALLS = [(what, None) for _, what, _ in CLIENT_READS] + [
    (what, body) for _, what, body in CLIENT_WRITES
]


def called(api: Api, what: str, body: Any = None, **options: Any) -> httpx.Response:
    """The answer to a call such as "GET /services"."""
    method, path = what.split()
    return api.request(method, path, json=body, **options) if body else api.request(method, path, **options)


class TestCloudBillAuthentication:
    @proves(CLOUDBILL, "what", [(4, "base URL")])
    def test_every_resource_is_below_the_base_address_and_nowhere_else(
        self, client: Api, server: Running, what: str
    ) -> None:
        headers = {"Authorization": f"Bearer {CLIENT}"}
        for resource in (*RESOURCES, "announcements"):
            assert client.get(f"/{resource}").status_code == 200
            outside = f"http://127.0.0.1:{server.port}/{resource}"
            assert httpx.get(outside, headers=headers).status_code == 404

    @proves(CLOUDBILL, "what", [(6, "every request needs a token")])
    def test_without_a_token_nothing_but_the_status_answers(self, nobody: Api, what: str) -> None:
        for call, body in CLIENT_CALLS:
            response = called(nobody, call, body)
            assert response.status_code == 401
            assert response.headers["WWW-Authenticate"] == "Bearer"
        assert nobody.get("/status").status_code == 200

    @proves(CLOUDBILL, "what", [(7, "Authorization: Bearer")])
    def test_the_header_is_enough(self, nobody: Api, what: str) -> None:
        for call, body in CLIENT_CALLS:
            response = called(nobody, call, body, headers={"Authorization": f"Bearer {CLIENT}"})
            assert response.status_code in (200, 201)

    @proves(CLOUDBILL, "what", [(8, "or a query parameter")])
    def test_the_query_parameter_is_as_good_as_the_header(self, client: Api, nobody: Api, what: str) -> None:
        for call, body in CLIENT_CALLS:
            response = called(nobody, call, body, params={"api_token": CLIENT})
            assert response.status_code in (200, 201)
            if call.startswith("GET"):
                assert response.json() == called(client, call).json()

    @proves(CLOUDBILL, "what", [(9, "GET /services?api_token=abc123token")])
    def test_the_documented_address_works(self, nobody: Api, what: str) -> None:
        assert called(nobody, what).json() == {"data": [SERVICE], "count": 1}


class TestCloudBillStatus:
    @proves(CLOUDBILL, "what", [(15, "GET /status"), (16, "no auth required")])
    def test_it_looks_at_no_credential(self, nobody: Api, client: Api, what: str) -> None:
        shape = {
            "status": "ok",
            "version": "1.0",
            "time": re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00"),
        }
        assert is_like(nobody.get("/status").json(), shape)
        assert is_like(client.get("/status").json(), shape)
        assert nobody.request("GET", "/status", headers={"Authorization": "Bearer x"}).status_code == 200

    @proves(CLOUDBILL, "what", [(17, "the example")])
    def test_it_is_the_example_at_the_examples_time(self, nobody: Api, server: Running, what: str) -> None:
        server.clock.fixed = datetime(2024, 1, 15, 12, tzinfo=UTC)
        expected = {"status": "ok", "version": "1.0", "time": "2024-01-15T12:00:00+00:00"}
        assert nobody.get("/status").json() == expected


class TestCloudBillReading:
    @proves(CLOUDBILL, "what shape", CLIENT_READS)
    def test_it_answers_its_members_and_no_other(self, client: Api, what: str, shape: Any) -> None:
        response = called(client, what)
        assert response.status_code == 200
        body = response.json()
        assert is_like(body, shape), body
        if "data" in body:
            assert body["data"]
            assert body["count"] == len(body["data"])

    @proves(CLOUDBILL, "name", [(number, name) for number, name in enumerate(PROFILE, 21)])
    def test_the_profile_has_the_examples_member(self, client: Api, name: str) -> None:
        assert is_like(client.get("/profile").json()[name], PROFILE[name])

    @proves(CLOUDBILL, "what", [(19, "the authenticated client's")])
    def test_each_token_sees_its_own_profile(self, client: Api, other: Api, what: str) -> None:
        assert [api.get("/profile").json()["id"] for api in (client, other)] == [42, 43]

    @proves(CLOUDBILL, "what", [(33, "services"), (43, "domains"), (49, "tickets")])
    def test_a_list_is_all_of_the_clients_own(self, client: Api, other: Api, admin: Api, what: str) -> None:
        mine, others = ({row["id"] for row in api.get(f"/{what}").json()["data"]} for api in (client, other))
        assert mine and others and not mine & others
        if what != "domains":
            assert len(mine) == admin.get(f"/{what}", client_id=42).json()["meta"]["total"]

    @proves(CLOUDBILL, "what", [(35, "data"), (36, "the service"), (38, "count")])
    def test_the_services_are_the_example(self, client: Api, what: str) -> None:
        example = {"data": [SERVICE], "count": 1}
        body = client.get("/services").json()
        assert is_like(body, example)
        assert [list(row) for row in body["data"]] == [list(SERVICE)]

    @proves(CLOUDBILL, "what", [(41, "full details")])
    def test_a_service_has_the_members_of_its_row_and_more(self, client: Api, what: str) -> None:
        body = client.get("/services/1").json()
        assert says(body, SERVICE)
        assert len(body) > len(SERVICE)

    @proves(CLOUDBILL, "what", [(45, "page=1&limit=20")])
    def test_invoices_come_in_pages(self, client: Api, what: str) -> None:
        first = client.get(f"/invoices?{what}").json()
        assert first == client.get("/invoices").json()
        assert (first["page"], first["limit"], first["count"]) == (1, 20, 20)
        seen = [
            row["id"]
            for page in range(1, first["pages"] + 1)
            for row in client.get("/invoices", page=page, limit=20).json()["data"]
        ]
        assert len(seen) == len(set(seen)) == first["total"] > 20
        assert client.get("/invoices", page=2, limit=7).json()["count"] == 7

    @proves(CLOUDBILL, "what", [(47, "line items")])
    def test_an_invoice_has_its_lines(self, client: Api, what: str) -> None:
        body = client.get("/invoices/1001").json()
        assert body["total"] == "29.99"
        assert body["items"] == [{"description": "Business Hosting, one month", "amount": "29.99"}]

    @proves(CLOUDBILL, "what", [(62, "all replies")])
    def test_a_ticket_has_every_reply(self, client: Api, admin: Api, what: str) -> None:
        id = factories.ticket(admin)
        for nth in range(25):
            admin.post(f"/tickets/{id}/reply", {"message": f"Reply {nth}"})
        replies = client.get(f"/tickets/{id}").json()["replies"]
        assert [reply["message"] for reply in replies] == [f"Reply {nth}" for nth in range(25)]

    @proves(CLOUDBILL, "what", [(64, "q=search+term&category=3")])
    def test_the_knowledgebase_is_searched_by_words_and_category(self, client: Api, what: str) -> None:
        response = client.get(f"/knowledgebase?{what}")
        assert response.status_code == 200
        assert is_like(response.json(), {"data": [ARTICLE], "count": int} | PLACE)
        found = client.get("/knowledgebase?q=cname+record&category=3").json()["data"]
        assert found[0]["title"] == "How to set up a CNAME record"
        assert {row["category"] for row in found} == {3}
        assert client.get("/knowledgebase?q=cname+record&category=2").json()["count"] == 0

    @proves(CLOUDBILL, "what", [(66, "max 20")])
    def test_announcements_are_the_20_newest(self, client: Api, what: str) -> None:
        body = client.get("/announcements").json()
        assert body["count"] == 20
        assert [row["id"] for row in body["data"]] == list(range(28, 8, -1))


class TestCloudBillWriting:
    @proves(
        CLOUDBILL,
        "name value",
        [
            (31, "first_name", "Erin"),
            (31, "last_name", "Green"),
            (31, "phone", "+1-555-9876"),
            (31, "company", "Green Ltd"),
            (31, "address1", "7 Side Street"),
            (31, "city", "Leeds"),
            (31, "state", "Yorkshire"),
            (31, "postcode", "LS1 1UR"),
            (31, "country", "GB"),
        ],
    )
    def test_the_profile_is_changed_by_any_member_alone(self, other: Api, name: str, value: str) -> None:
        before = other.get("/profile").json()
        response = other.put("/profile", {name: value})
        assert response.status_code == 200
        assert response.json() == before | {name: value} == other.get("/profile").json()
        denied(other.put("/profile", {name: 5}), 400)

    @proves(CLOUDBILL, "what body", CLIENT_WRITES)
    def test_a_write_answers(self, client: Api, what: str, body: Any) -> None:
        response = called(client, what, body)
        if what.startswith("PUT"):
            assert response.status_code == 200
            assert is_like(response.json(), PROFILE_SHAPE)
            assert response.json() == client.get("/profile").json()
        else:
            assert response.status_code == 201

    @proves(CLOUDBILL, "what", [(31, "all members at once")])
    def test_the_profile_is_changed_by_all_members_at_once(self, other: Api, what: str) -> None:
        before = other.get("/profile").json()
        names = ("first_name", "last_name", "phone", "company", "address1", "city", "state", "postcode")
        change = {name: f"New {name}"[:20] for name in names} | {"country": "FR"}
        assert other.put("/profile", change).json() == before | change

    @proves(
        CLOUDBILL,
        "name required",
        [
            (54, "subject", True),
            (55, "message", True),
            (56, "department_id", True),
            (57, "priority_id", False),
        ],
    )
    def test_a_ticket_keeps_the_member_and_may_need_it(self, client: Api, name: str, required: bool) -> None:
        id = client.post("/tickets", TICKET).json()["ticket_id"]
        assert client.get(f"/tickets/{id}").json()[name] == TICKET[name]
        response = client.post("/tickets", {key: value for key, value in TICKET.items() if key != name})
        if required:
            body = denied(response, 422)
            assert body["error"] == f"The {name} field is required."
            assert [fault["pointer"] for fault in body["details"]] == [f"/{name}"]
        else:
            assert response.status_code == 201
            assert client.get(f"/tickets/{response.json()['ticket_id']}").json()[name] == 2
        denied(client.post("/tickets", TICKET | {name: 2.5}), 400)

    @proves(CLOUDBILL, "what", [(51, "create a ticket"), (59, "201"), (60, "the answer")])
    def test_a_new_ticket_gets_the_documented_answer(self, client: Api, what: str) -> None:
        response = client.post("/tickets", TICKET)
        assert response.status_code == 201
        body = response.json()
        assert is_like(body, {"success": True, "ticket_id": int, "ticket_number": NUMBER})
        ticket = client.get(f"/tickets/{body['ticket_id']}").json()
        assert ticket["ticket_number"] == body["ticket_number"]
        # The ticket that the example's answer names is in the demo data.
        example = client.get("/tickets/15").json()
        assert says(example, TICKET | {"id": 15, "ticket_number": "TKT-A3F7B2C1"})


class TestCloudBillCodes:
    @proves(CLOUDBILL, "code", [(70, "200")])
    def test_success_is_200(self, client: Api, code: str) -> None:
        for _, what, _ in CLIENT_READS:
            assert called(client, what).status_code == 200

    @proves(CLOUDBILL, "code", [(71, "201")])
    def test_created_is_201(self, client: Api, code: str) -> None:
        assert client.post("/tickets", TICKET).status_code == 201

    @proves(CLOUDBILL, "code", [(72, "400")])
    def test_a_bad_request_is_400(self, client: Api, code: str) -> None:
        json = {"Content-Type": "application/json"}
        denied(client.request("POST", "/tickets", content=b"{", headers=json), 400)
        denied(client.post("/tickets", TICKET | {"priority_id": 4}), 400)
        denied(client.put("/profile", {"country": "Atlantis"}), 400)
        denied(client.get("/invoices", limit="many"), 400)
        denied(client.get("/services/first"), 400)

    @proves(CLOUDBILL, "code", [(73, "401")])
    def test_an_invalid_token_is_401(self, nobody: Api, code: str) -> None:
        denied(nobody.get("/profile"), 401)
        for call, body in CLIENT_CALLS:
            denied(called(nobody, call, body, params={"api_token": "wrong"}), 401)
            dead = {"Authorization": f"Bearer cbt_{'0' * 36}"}
            denied(called(nobody, call, body, headers=dead), 401)

    @proves(CLOUDBILL, "code", [(74, "403")])
    def test_another_clients_resource_is_403(self, client: Api, other: Api, code: str) -> None:
        ticket = other.get("/tickets").json()["data"][0]["id"]
        for path in ("/services/2", "/invoices/1002", f"/tickets/{ticket}"):
            assert other.get(path).status_code == 200
            denied(client.get(path), 403)

    @proves(CLOUDBILL, "code", [(75, "404")])
    def test_what_does_not_exist_is_404(self, client: Api, code: str) -> None:
        for path in ("/services/999999", "/invoices/999999", "/tickets/999999", "/nowhere"):
            denied(client.get(path), 404)
        denied(client.post("/tickets", TICKET | {"department_id": 999_999}), 404)

    @proves(CLOUDBILL, "code", [(76, "422")])
    def test_a_missing_required_field_is_422(self, client: Api, code: str) -> None:
        assert len(denied(client.post("/tickets"), 422)["details"]) == 3
        assert len(denied(client.post("/tickets", {"priority_id": 9}), 422)["details"]) >= 3


DOCUMENTED = "https://billing.yourdomain.com/api/v1"
CURL_SERVICES = f'curl -H "Authorization: Bearer abc123token" \\\n{DOCUMENTED}/services'
CURL_TICKET = (
    'curl -X POST \\\n-H "Authorization: Bearer abc123token" \\\n-H "Content-Type: application/json" \\\n'
    """-d '{"subject":"Help needed","message":"I need assistance with...","department_id":1}' \\\n"""
    f"{DOCUMENTED}/tickets"
)


def curl(api: Api, command: str) -> httpx.Response:
    """What a cURL command asks for, asked with its method, headers and body, and no credential beside."""
    words = iter(shlex.split(command.replace("\\\n", " "))[1:])
    method, headers, content, path = "GET", {}, None, ""
    for word in words:
        if word == "-X":
            method = next(words)
        elif word == "-H":
            name, _, value = next(words).partition(": ")
            headers[name] = value
        elif word == "-d":
            content = next(words).encode()
        else:
            path = word.removeprefix(DOCUMENTED)
    return api.request(method, path, headers=headers, content=content)


class TestCloudBillCommands:
    @proves(CLOUDBILL, "what command", [(range(80, 82), "cURL, services", CURL_SERVICES)])
    def test_the_services_are_listed(self, nobody: Api, what: str, command: str) -> None:
        response = curl(nobody, command)
        assert (response.status_code, response.json()) == (200, {"data": [SERVICE], "count": 1})

    @proves(CLOUDBILL, "what command", [(range(83, 88), "cURL, a ticket", CURL_TICKET)])
    def test_a_ticket_is_created(self, nobody: Api, client: Api, what: str, command: str) -> None:
        response = curl(nobody, command)
        assert response.status_code == 201
        body = response.json()
        assert is_like(body, {"success": True, "ticket_id": int, "ticket_number": NUMBER})
        ticket = client.get(f"/tickets/{body['ticket_id']}").json()
        sent = {"subject": "Help needed", "message": "I need assistance with...", "department_id": 1}
        assert says(ticket, sent)

    @proves(CLOUDBILL, "what", [(range(89, 100), "PHP")])
    def test_the_php_example_gets_what_it_prints(self, nobody: Api, what: str) -> None:
        # The program itself is run by tests/e2e.
        token = "abc123token"
        response = nobody.request("GET", "/services", headers={"Authorization": f"Bearer {token}"})
        printed = [f"{row['product_name']} — {row['status']}\n" for row in response.json()["data"]]
        assert printed == ["Business Hosting — active\n"]


def new_client() -> dict[str, Any]:
    return {
        "first_name": "Robin",
        "last_name": "Baker",
        "email": f"{secrets.token_hex(8)}@example.com",
        "password": "12345678",
        "company": "Baker Ltd",
        "phone": "+1-555-0199",
        "address": "2 Main Street",
        "city": "Leeds",
        "country": "GB",
    }


NEW: dict[str, Callable[[], dict[str, Any]]] = {
    "/clients": new_client,
    "/services": lambda: {
        "client_id": 56,
        "product_id": 1,
        "billing_cycle": "monthly",
        "domain": f"{secrets.token_hex(8)}.example.com",
        "username": f"u{secrets.token_hex(8)}",
    },
    "/invoices": lambda: {
        "client_id": 56,
        "due_date": "2035-01-31",
        "items": [
            {"description": "Setup", "amount": "0.10"},
            {"description": "Business Hosting", "amount": "29.89"},
        ],
    },
    "/tickets": lambda: {
        "client_id": 56,
        "department_id": 2,
        "subject": "DNS",
        "message": "Help",
        "priority": "high",
    },
}
ITEMS = {
    "/clients": ACCOUNT,
    "/services": ADMIN_SERVICE,
    "/invoices": ADMIN_INVOICE_ROW | LINES,
    "/tickets": ADMIN_TICKET,
    "/products": PRODUCT,
    "/servers": SERVER,
}
LISTS = [
    (29, "GET /clients", ACCOUNT),
    (50, "GET /services", ADMIN_SERVICE),
    (69, "GET /invoices", ADMIN_INVOICE_ROW),
    (84, "GET /tickets", ADMIN_TICKET_ROW),
    (101, "GET /products", PRODUCT),
    (106, "GET /servers", SERVER),
]
GETS = [
    (31, "GET /clients/42", {"first_name": "Jane", "last_name": "Smith", "company": "Acme Corp"}),
    (52, "GET /services/1", SERVICE | {"client_id": 42}),
    (71, "GET /invoices/1234", {"client_id": 56, "total": "29.99", "currency": "USD"}),
    (86, "GET /tickets/15", {"ticket_number": "TKT-A3F7B2C1", "client_id": 42, "priority": "medium"}),
    (103, "GET /products/1", {"name": "Business Hosting"}),
    (108, "GET /servers/1", {"name": "web-1"}),
]
CREATES = [(33, "POST /clients"), (54, "POST /services"), (73, "POST /invoices"), (88, "POST /tickets")]
# What makes the resource, the body, the answer's status, and what the answer says.
Verb = tuple[int, str, Callable[[Api], int], dict[str, Any], int, dict[str, Any]]
VERBS: list[Verb] = [
    (
        45,
        "PUT /clients/{id}",
        factories.client,
        {"company": "After Ltd", "country": "FR"},
        200,
        {"company": "After Ltd", "country": "FR"},
    ),
    (62, "POST /services/{id}/suspend", factories.service, {}, 200, {"status": "suspended"}),
    (
        64,
        "POST /services/{id}/unsuspend",
        lambda admin: factories.service(admin, "suspended"),
        {},
        200,
        {"status": "active"},
    ),
    (66, "POST /services/{id}/terminate", factories.service, {}, 200, {"status": "terminated"}),
    (81, "POST /invoices/{id}/pay", factories.invoice, {}, 200, {"status": "paid"}),
    (
        96,
        "POST /tickets/{id}/reply",
        factories.ticket,
        {"message": "Like this."},
        201,
        {"status": "answered"},
    ),
    (98, "POST /tickets/{id}/close", factories.ticket, {}, 200, {"status": "closed"}),
]
DELETE = "DELETE /clients/{id}"


def operator_calls() -> Iterator[tuple[str, Any]]:
    """Every documented call, with a body where it takes one, on ids that no demo data has."""
    for _, what, _ in LISTS:
        yield what, None
    for _, what, _ in GETS:
        yield re.sub(r"\d+$", "999999", what), None
    for _, what in CREATES:
        yield what, NEW[what.split()[1]]()
    for _, what, _, body, _, _ in VERBS:
        yield what.format(id=999_999), body
    yield DELETE.format(id=999_999), None


def noun(what: str) -> str:
    return "/" + what.split()[1].split("/")[1]


class TestArcBillingFormat:
    @proves(ARCBILLING, "what", [(4, "Authorization: Bearer")])
    def test_every_operation_takes_the_key_in_the_header_alone(
        self, admin: Api, nobody: Api, what: str
    ) -> None:
        for call, body in operator_calls():
            header = {"Authorization": f"Bearer {ADMIN}"}
            answered = called(nobody, call, body, headers=header).status_code
            assert answered == (404 if "999999" in call else 201 if body else 200), call
            assert called(nobody, call, body, params={"api_token": ADMIN}).status_code == 401

    @proves(ARCBILLING, "what", [(7, "base URL")])
    def test_every_list_is_below_the_base_address_and_nowhere_else(
        self, admin: Api, server: Running, what: str
    ) -> None:
        for _, call, _ in LISTS:
            assert called(admin, call).status_code == 200
            outside = f"http://127.0.0.1:{server.port}{call.split()[1]}"
            assert httpx.get(outside, headers={"Authorization": f"Bearer {ADMIN}"}).status_code == 404

    @proves(ARCBILLING, "name", [(10, "status"), (11, "data")])
    def test_success_has_the_member(self, admin: Api, name: str) -> None:
        for _, call, _ in LISTS:
            body = called(admin, call).json()
            assert body.keys() == {"status", "data", "meta"}
            assert is_like(body[name], "success" if name == "status" else list)
        for _, call, _ in GETS:
            body = called(admin, call).json()
            assert body.keys() == {"status", "data"}
            assert is_like(body[name], "success" if name == "status" else dict)

    @proves(ARCBILLING, "name", [(14, "status"), (15, "error"), (16, "code"), (17, "message")])
    def test_an_error_is_the_example(self, admin: Api, name: str) -> None:
        body = new_client()
        del body["email"]
        answer = admin.post("/clients", body).json()
        assert answer.keys() == {"status", "error"}
        found = answer[name] if name in answer else answer["error"][name]
        if name == "error":
            assert found.keys() == {"code", "message", "details"}
        else:
            example = {
                "status": "error",
                "code": "VALIDATION_ERROR",
                "message": "The email field is required.",
            }
            assert found == example[name]


class TestArcBillingOperations:
    @proves(ARCBILLING, "what shape", LISTS)
    def test_a_list_answers_its_members_and_no_other(self, admin: Api, what: str, shape: Any) -> None:
        body = called(admin, what).json()
        assert is_like(body, paged(shape)), body
        ids = [row["id"] for row in body["data"]]
        assert ids and ids == sorted(ids, reverse=True)

    @proves(ARCBILLING, "what values", GETS)
    def test_an_item_answers_its_members_and_no_other(self, admin: Api, what: str, values: Any) -> None:
        response = called(admin, what)
        assert response.status_code == 200
        assert is_like(response.json(), enveloped(ITEMS[noun(what)])), response.text
        assert says(response.json()["data"], values)

    @proves(ARCBILLING, "what", CREATES)
    def test_what_is_created_is_answered_and_kept(self, admin: Api, what: str) -> None:
        path = what.split()[1]
        body = NEW[path]()
        response = admin.post(path, body)
        assert response.status_code == 201
        assert is_like(response.json(), enveloped(ITEMS[path])), response.text
        made = response.json()["data"]
        assert admin.get(f"{path}/{made['id']}").json()["data"] == made
        body.pop("password", None)
        assert says(made, body)

    @proves(ARCBILLING, "what make body status expected", list(VERBS))
    def test_a_verb_answers_the_object(
        self, admin: Api, what: str, make: Callable[[Api], int], body: Any, status: int, expected: Any
    ) -> None:
        id = make(admin)
        response = called(admin, what.format(id=id), body)
        assert response.status_code == status
        assert is_like(response.json(), enveloped(ITEMS[noun(what)])), response.text
        answered = response.json()["data"]
        assert answered["id"] == id
        assert says(answered, expected)
        assert admin.get(f"{noun(what)}/{id}").json()["data"] == answered

    @proves(ARCBILLING, "what", [(47, DELETE)])
    def test_a_client_is_deleted(self, admin: Api, what: str) -> None:
        id = factories.client(admin)
        response = called(admin, what.format(id=id))
        assert response.status_code == 200
        assert response.json() == enveloped({"id": id, "deleted": True})
        refused(admin.get(f"/clients/{id}"), 404, "NOT_FOUND")

    def test_the_invoice_of_the_webhooks_example_exists(self, admin: Api) -> None:
        example = {"id": 1234, "client_id": 56, "total": "29.99", "currency": "USD"}
        assert says(admin.get("/invoices/1234").json()["data"], example)


def put(body: dict[str, Any], name: str, value: Any) -> dict[str, Any]:
    """The body with another value at ``name``; ``items[].amount`` is that of the first item."""
    if "[]." in name:
        outer, _, inner = name.partition("[].")
        first, *rest = body[outer]
        return body | {outer: [put(first, inner, value), *rest]}
    return {key: each for key, each in body.items() if key != name} | ({} if value is ... else {name: value})


def shown(made: dict[str, Any], name: str) -> Any:
    outer, _, inner = name.partition("[].")
    return made[outer][0][inner] if inner else made[outer]


FIELDS = [
    (35, "first_name", "/clients", True, [5, ""]),
    (36, "last_name", "/clients", True, [5, ""]),
    (37, "email", "/clients", True, [5, "nobody"]),
    (38, "password", "/clients", True, [12345678]),
    (39, "company", "/clients", False, [5]),
    (40, "phone", "/clients", False, [5]),
    (41, "address", "/clients", False, [5]),
    (42, "city", "/clients", False, [5]),
    (43, "country", "/clients", False, [5]),
    (56, "client_id", "/services", True, ["56", 5.6, 0]),
    (57, "product_id", "/services", True, ["1", 1.5, 0]),
    (58, "billing_cycle", "/services", True, [1]),
    (59, "domain", "/services", False, [5]),
    (60, "username", "/services", False, [5]),
    (75, "client_id", "/invoices", True, ["56", 5.6, 0]),
    (76, "due_date", "/invoices", True, [20350131]),
    (77, "items", "/invoices", True, [{}, "one", []]),
    (78, "items[].description", "/invoices", True, [5]),
    (79, "items[].amount", "/invoices", True, [True, "ten"]),
    (90, "client_id", "/tickets", True, ["56", 5.6, 0]),
    (91, "department_id", "/tickets", True, ["2", 2.5, 0]),
    (92, "subject", "/tickets", True, [5, ""]),
    (93, "message", "/tickets", True, [5, ""]),
    (94, "priority", "/tickets", False, [2]),
]


class TestArcBillingFields:
    @proves(ARCBILLING, "name path required wrong", FIELDS)
    def test_it_is_kept_and_has_its_type_and_is_required_or_not(
        self, admin: Api, name: str, path: str, required: bool, wrong: list[Any]
    ) -> None:
        body = NEW[path]()
        made = admin.post(path, body)
        assert made.status_code == 201
        if name == "password":
            assert "password" not in made.text and "12345678" not in made.text
        else:
            assert shown(made.json()["data"], name) == shown(body, name)
        response = admin.post(path, put(NEW[path](), name, ...))
        if required:
            error = refused(response, 400, "VALIDATION_ERROR")
            assert error["message"] == f"The {name.rpartition('.')[2]} field is required."
            pointer = "/" + name.replace("[].", "/0/")
            assert [fault["pointer"] for fault in error["details"]] == [pointer]
        else:
            assert response.status_code == 201
        for value in wrong:
            refused(admin.post(path, put(NEW[path](), name, value)), 400, "VALIDATION_ERROR")

    @proves(ARCBILLING, "name", [(45, name) for name in new_client()])
    def test_a_client_is_updated_by_any_of_its_fields_alone(self, admin: Api, name: str) -> None:
        id = factories.client(admin)
        before = admin.get(f"/clients/{id}").json()["data"]
        change = {name: new_client()[name]}
        response = admin.put(f"/clients/{id}", change)
        assert response.status_code == 200
        assert response.json()["data"] == (before if name == "password" else before | change)

    @proves(
        ARCBILLING,
        "what path name good bad",
        [
            (
                38,
                "min 8 chars",
                "/clients",
                "password",
                ["12345678", "pässwörd", "x" * 200],
                ["1234567", ""],
            ),
            (43, "ISO 3166-1", "/clients", "country", ["US", "DE", "JP"], ["USA", "840", "us", "XX"]),
            (
                58,
                "monthly, quarterly, annually",
                "/services",
                "billing_cycle",
                ["monthly", "quarterly", "annually"],
                ["weekly", "Monthly", ""],
            ),
            (
                76,
                "date (Y-m-d)",
                "/invoices",
                "due_date",
                ["2035-01-31", "2036-02-29"],
                ["31/01/2035", "2035-1-31", "2035-02-29", "2035-01-31T00:00:00Z", ""],
            ),
            (
                79,
                "decimal",
                "/invoices",
                "items[].amount",
                [29.99, 0.1, 10, "29.99", "10", "0.5", 0],
                [-1, "-1", "29.999", "1e2", ""],
            ),
            (
                94,
                "low, medium, high",
                "/tickets",
                "priority",
                ["low", "medium", "high"],
                ["urgent", "Low", ""],
            ),
        ],
    )
    def test_the_documented_values_are_taken_and_no_other(
        self, admin: Api, what: str, path: str, name: str, good: list[Any], bad: list[Any]
    ) -> None:
        for value in good:
            response = admin.post(path, put(NEW[path](), name, value))
            assert response.status_code == 201, value
            if name == "items[].amount":
                assert shown(response.json()["data"], name) == f"{float(value):.2f}"
            elif name != "password":
                assert shown(response.json()["data"], name) == value
        for value in bad:
            refused(admin.post(path, put(NEW[path](), name, value)), 400, "VALIDATION_ERROR")

    @proves(ARCBILLING, "what", [(94, "not required")])
    def test_a_ticket_without_a_priority_has_a_medium_one(self, admin: Api, what: str) -> None:
        response = admin.post("/tickets", put(NEW["/tickets"](), "priority", ...))
        assert response.json()["data"]["priority"] == "medium"

    @proves(ARCBILLING, "what", [(77, "array")])
    def test_the_total_is_the_sum_of_the_items(self, admin: Api, what: str) -> None:
        lines = [{"description": f"Line {nth}", "amount": 0.1} for nth in range(100)]
        made = admin.post("/invoices", NEW["/invoices"]() | {"items": lines}).json()["data"]
        assert made["total"] == "10.00"
        assert made["items"] == [line | {"amount": "0.10"} for line in lines]


class TestArcBillingCodes:
    @proves(ARCBILLING, "code", [(133, "VALIDATION_ERROR")])
    def test_invalid_parameters_are_400(self, admin: Api, code: str) -> None:
        json = {"Content-Type": "application/json"}
        for _, what in CREATES:
            path = what.split()[1]
            refused(admin.post(path), 400, code)
            refused(admin.post(path, []), 400, code)
            refused(admin.request("POST", path, content=b"{", headers=json), 400, code)
            refused(admin.post(path, NEW[path]() | {"unknown": 1}), 400, code)
        refused(admin.post("/tickets/15/reply", {}), 400, code)
        refused(admin.put("/clients/42", {"country": "Atlantis"}), 400, code)
        for _, what, _ in LISTS:
            refused(called(admin, f"{what}?limit=many"), 400, code)
        for _, what, _ in GETS:
            refused(called(admin, re.sub(r"\d+$", "first", what)), 400, code)

    @proves(ARCBILLING, "code", [(134, "UNAUTHORIZED")])
    def test_a_missing_or_invalid_key_is_401(self, nobody: Api, code: str) -> None:
        for call, body in operator_calls():
            for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": f"Basic {ADMIN}"}):
                response = called(nobody, call, body, headers=headers)
                refused(response, 401, code)
                assert response.headers["WWW-Authenticate"] == "Bearer"

    @proves(ARCBILLING, "code", [(135, "FORBIDDEN")])
    def test_insufficient_permissions_are_403(self, narrow: Api, code: str) -> None:
        for call, body in operator_calls():
            if noun(call) != "/products":
                refused(called(narrow, call, body), 403, code)
        assert narrow.get("/products").status_code == 200

    @proves(ARCBILLING, "code", [(136, "NOT_FOUND")])
    def test_what_does_not_exist_is_404(self, admin: Api, code: str) -> None:
        for call, body in operator_calls():
            if "999999" in call:
                refused(called(admin, call, body), 404, code)
        for _, what in CREATES[1:]:
            path = what.split()[1]
            refused(admin.post(path, NEW[path]() | {"client_id": 999_999}), 404, code)
        refused(admin.get("/nowhere"), 404, code)

    @proves(ARCBILLING, "code", [(138, "INTERNAL_ERROR")])
    def test_a_fault_of_the_server_is_500(
        self, admin: Api, monkeypatch: pytest.MonkeyPatch, code: str
    ) -> None:
        def fail(*_: Any) -> Any:
            raise ZeroDivisionError

        monkeypatch.setattr(services, "VIEWS", Views(client=fail, admin=fail))
        assert refused(admin.get("/services"), 500, code) == {"code": code, "message": "Server error"}


class Receiver:
    """A server of somebody who wants to be told: it keeps what it is sent, and answers 200."""

    def __init__(self) -> None:
        self.told: queue.Queue[tuple[bytes, dict[str, str]]] = queue.Queue()
        told = self.told

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                headers = {name.lower(): value for name, value in self.headers.items()}
                told.put((self.rfile.read(int(headers["content-length"])), headers))
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                """What it was asked is in the queue."""

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}"

    def subscribe(self, admin: Api, event: str) -> tuple[int, str]:
        """Have it told of an event; the webhook's id and its secret."""
        made = admin.post("/webhooks", {"url": self.url, "events": [event]}).json()["data"]
        return made["id"], made["secret"]


@pytest.fixture(scope="module")
def receiver(server: Running) -> Iterator[Receiver]:
    """A receiver, and a worker beside the server that sends."""
    receiving = Receiver()
    threading.Thread(target=receiving.http.serve_forever, daemon=True).start()
    worker = Worker(server.database, BOX, private=True)
    assert server.loop is not None
    running = asyncio.run_coroutine_threadsafe(worker.run(), server.loop)
    yield receiving
    server.loop.call_soon_threadsafe(worker.stop)
    running.result(10)
    receiving.http.shutdown()
    receiving.http.server_close()


TOLD: list[tuple[int, str, Callable[[Api], Any]]] = [
    (111, "client.created", factories.client),
    (112, "service.created", factories.service),
    (113, "service.suspended", lambda admin: factories.service(admin, "suspended")),
    (114, "service.terminated", lambda admin: factories.service(admin, "terminated")),
    (115, "invoice.created", factories.invoice),
    (116, "invoice.paid", lambda admin: factories.invoice(admin, "paid")),
    (117, "ticket.opened", factories.ticket),
    (118, "ticket.replied", lambda admin: factories.ticket(admin, "answered")),
]
PAYLOAD = {
    "event": "invoice.paid",
    "timestamp": "2025-01-15T12:00:00Z",
    "data": {"id": 1234, "client_id": 56, "total": "29.99", "currency": "USD"},
    "signature": re.compile("sha256=[0-9a-f]{64}"),
}


@pytest.fixture(scope="module")
def payload(server: Running, receiver: Receiver) -> Any:
    """What a receiver is sent when the example's invoice is paid at the example's time."""
    admin = Api(server.url, ADMIN)
    id, _ = receiver.subscribe(admin, "invoice.paid")
    server.clock.fixed = datetime(2025, 1, 15, 12, tzinfo=UTC)
    assert admin.post("/invoices/1234/pay").status_code == 200
    server.clock.fixed = None
    body = json.loads(receiver.told.get(timeout=10)[0])
    admin.request("DELETE", f"/webhooks/{id}")
    admin.close()
    return body


class TestArcBillingWebhooks:
    @proves(ARCBILLING, "event change", TOLD)
    def test_a_receiver_is_told_of_the_event(
        self, admin: Api, receiver: Receiver, event: str, change: Callable[[Api], Any]
    ) -> None:
        id, secret = receiver.subscribe(admin, event)
        made = change(admin)
        body, headers = receiver.told.get(timeout=10)
        assert admin.request("DELETE", f"/webhooks/{id}").status_code == 200
        payload = json.loads(body)
        assert list(payload) == list(PAYLOAD)
        assert (payload["event"], payload["data"]["id"]) == (event, made)
        assert signing.verify_body(signing.key_of(secret), body)
        assert signing.verify_headers(signing.key_of(secret), headers, body, time.time())
        assert receiver.told.empty()

    @proves(
        ARCBILLING,
        "name",
        [
            (121, "event"),
            (122, "timestamp"),
            (123, "data"),
            (124, "id"),
            (125, "client_id"),
            (126, "total"),
            (127, "currency"),
            (129, "signature"),
        ],
    )
    def test_the_payload_is_the_example_and_has_the_member(self, payload: Any, name: str) -> None:
        assert is_like(payload, PAYLOAD), payload
        assert name in payload or name in payload["data"]
        assert list(payload) == list(PAYLOAD)
        assert list(payload["data"]) == ["id", "client_id", "total", "currency"]


@pytest.fixture
def limited(tmp_path: Path) -> Iterator[Running]:
    """A demo server with the limits that both documents call the default."""
    defaults = RuntimeSettings(rate_limit_client=60, rate_limit_admin=60, rate_limit_anonymous=10)
    with serving(prepared(f"sqlite:///{tmp_path / 'limited.db'}", defaults=defaults)) as running:
        yield running


def calls(running: Running, secret: str | None, number: int) -> list[httpx.Response]:
    """As many calls as one caller makes in a row."""
    api = Api(running.url, secret)
    responses = [api.get("/departments") for _ in range(number)]
    api.close()
    return responses


class TestCloudBillLimits:
    @proves(CLOUDBILL, "what", [(12, "60 requests per minute per IP by default")])
    def test_two_clients_at_one_address_have_60_calls_together(self, limited: Running, what: str) -> None:
        assert {each.status_code for each in calls(limited, CLIENT, 40)} == {200}
        answers = [each.status_code for each in calls(limited, OTHER, 21)]
        assert answers == [200] * 20 + [429]

    @proves(CLOUDBILL, "what", [(12, "configurable in Settings")])
    def test_the_number_is_a_setting(self, limited: Running, what: str) -> None:
        admin = Api(limited.url, ADMIN)
        assert admin.put("/settings", {"rate_limit_client": 3}).status_code == 200
        admin.close()
        deadline = time.monotonic() + 5
        while (response := calls(limited, CLIENT, 1)[0]).headers["X-RateLimit-Limit"] != "3":
            assert time.monotonic() < deadline
            time.sleep(0.05)
        answers = [response, *calls(limited, CLIENT, 4)]
        assert answers[-1].status_code == 429

    @proves(CLOUDBILL, "body", [(13, '{ "error": "Rate limit exceeded", "code": 429 }'), (77, "429")])
    def test_whoever_calls_more_often_gets_the_documented_body(self, limited: Running, body: str) -> None:
        refused = calls(limited, CLIENT, 61)[-1]
        assert refused.status_code == 429
        assert refused.json() == {"error": "Rate limit exceeded", "code": 429}
        assert refused.json() == json.loads(body) or body == "429"


class TestArcBillingLimits:
    @proves(
        ARCBILLING,
        "what secret limit",
        [(22, "60 requests/minute with a key", ADMIN, 60), (23, "10 requests/minute without", None, 10)],
    )
    def test_a_minute_has_as_many_calls_as_documented(
        self, limited: Running, what: str, secret: str | None, limit: int
    ) -> None:
        answers = [each.status_code for each in calls(limited, secret, limit + 1)]
        assert answers == [200 if secret else 401] * limit + [429]

    @proves(
        ARCBILLING,
        "header",
        [(24, "X-RateLimit-Limit: 60"), (25, "X-RateLimit-Remaining: 58")],
    )
    def test_the_second_answer_of_a_minute_has_the_documented_headers(
        self, limited: Running, header: str
    ) -> None:
        name, value = header.split(": ")
        assert calls(limited, ADMIN, 2)[-1].headers[name] == value

    @proves(ARCBILLING, "code", [(26, "Retry-After"), (137, "RATE_LIMITED")])
    def test_a_refusal_says_when_to_come_back(self, limited: Running, code: str) -> None:
        response = calls(limited, ADMIN, 61)[-1]
        assert refused(response, 429, "RATE_LIMITED")["message"] == "Too many requests"
        assert 1 <= int(response.headers["Retry-After"]) <= 60


class TestCompleteness:
    @pytest.mark.parametrize("document", list(LENGTH))
    def test_each_line_is_proved_or_silent_or_comes_with_something_else(self, document: str) -> None:
        proved = {line.number for line in PROVED if line.document == document}
        later = {line.number for lines in COMES_WITH.values() for line in lines if line.document == document}
        silent = set(SILENT[document])
        assert len(SILENT[document]) == len(silent)
        assert not proved & later and not proved & silent and not later & silent
        every = set(range(1, LENGTH[document] + 1))
        assert proved | later | silent == every, sorted(every ^ (proved | later | silent))

    def test_what_is_not_tried_here_is_told(self) -> None:
        for part, lines in COMES_WITH.items():
            print(f"comes with {part}:")
            for line in lines:
                print(f"  {line.document} line {line.number}: {line.what}")
        assert all(COMES_WITH.values())

    def test_no_row_stands_twice(self) -> None:
        counted = [line for lines in COMES_WITH.values() for line in lines]
        assert len(counted) == len(set(counted))
        assert all(1 <= line.number <= LENGTH[line.document] and line.what for line in PROVED + counted)
