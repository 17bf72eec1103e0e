"""OWASP's API Security Top 10 of 2023: a class for each row, its cases generated from the contract.

What has tests of its own elsewhere is held here once more against every operation.
"""

import asyncio
import json
import re
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import httpx
import pytest

import handlers.clients
from handlers.dialects import Views
from openapi import contract
from persistence import clients, deliveries, tickets
from persistence.counters import Counters
from persistence.settings import RuntimeSettings
from server import app
from tests.api.test_auth import (
    ALSO,
    OF_ALL,
    PROTECTED,
    SCOPES,
    by_id,
    call,
    example_body,
    fresh,
    lacks,
    noun,
)
from tests.support import factories
from tests.support.contract_client import DOCUMENT, OPERATIONS, Api
from tests.support.live_server import ADMIN, BOX, OTHER, Running, prepared, serving
from tests.support.receiver import receiving
from webhooks.delivery import Worker
from webhooks.sending import http_session

MARK = "Marked-by-the-other-client"
CLIENTS = [each for each in PROTECTED if "client" in each.audiences]
ADMINS = [each for each in PROTECTED if each.audiences == {"admin"}]
OWNED = [each for each in CLIENTS if "{id}" in each.path and noun(each) not in OF_ALL]
WITH_BODY = [each for each in PROTECTED if "requestBody" in each.spec]
LISTS = [
    each
    for each in PROTECTED
    if each.method == "get"
    and "limit" in {contract.deref(DOCUMENT, one)["name"] for one in each.spec.get("parameters", [])}
]


def dialects(operation: contract.Operation) -> list[contract.Audience]:
    return sorted(operation.audiences)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """One demo server on SQLite: none of this depends on the database."""
    with serving(prepared(f"sqlite:///{tmp_path_factory.mktemp('owasp') / 'owasp.db'}")) as running:
        yield running


@pytest.fixture(scope="module")
def dead(server: Running) -> dict[str, list[dict[str, str]]]:
    """Headers with credentials that open nothing, by the dialect that they choose."""
    admin = Api(server.url, ADMIN)
    soon = f"{app.now() + timedelta(hours=1):%Y-%m-%dT%H:%M:%SZ}"
    expired = admin.post("/clients/43/tokens", {"expires_at": soon}).json()["data"]
    revoked = admin.post("/clients/43/tokens").json()["data"]
    admin.request("DELETE", f"/clients/43/tokens/{revoked['id']}")
    body = {"name": "x", "scopes": ["*"]}
    old_key = admin.post("/api-keys", body | {"expires_at": soon}).json()["data"]
    dead_key = admin.post("/api-keys", body).json()["data"]
    admin.request("DELETE", f"/api-keys/{dead_key['id']}")
    admin.close()
    forged = expired["token"][:-1] + ("0" if expired["token"][-1] != "0" else "1")
    return {
        "client": [
            {"Authorization": f"Bearer {each}"}
            for each in (expired["token"], revoked["token"], forged, "cbt_")
        ],
        "admin": [
            *({"Authorization": f"Bearer {each}"} for each in (old_key["key"], dead_key["key"], "arc_")),
        ],
        "both": [
            {},
            {"Authorization": "Bearer"},
            {"Authorization": f"Basic {ADMIN}"},
            {"Authorization": f"Bearer {ADMIN} {ADMIN}"},
            {"Authorization": "Bearer wrong"},
            {"Authorization": f"Bearer {ADMIN.upper()}"},
        ],
    }


@pytest.fixture(scope="module")
def strict(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """The operator of a server whose webhooks may not go to inner networks, as in production."""
    url = f"sqlite:///{tmp_path_factory.mktemp('strict') / 'strict.db'}"
    with serving(prepared(url, private_targets=False)) as running:
        api = Api(running.url, ADMIN)
        yield api
        api.close()


class Test1BrokenObjectLevelAuthorization:
    """Every ``{id}`` of a client × a foreign client: nothing leaks."""

    def test_there_is_something_to_test(self) -> None:
        assert len(OWNED) >= 5

    @by_id(OWNED)
    def test_what_is_anothers_is_refused_and_not_shown(
        self, operation: contract.Operation, admin: Api, other: Api, client: Api
    ) -> None:
        made = fresh(operation, admin, owner=43)
        if noun(operation) == "tickets":
            other.post(f"/tickets/{made}/reply", {"message": MARK})
        refused = call(client, operation, made, "client")
        assert refused.status_code == 403
        assert MARK not in refused.text
        assert set(refused.json()) == {"error", "code"}

    @by_id([each for each in CLIENTS if each.method == "get" and "{" not in each.path])
    def test_no_list_holds_what_is_anothers(
        self, operation: contract.Operation, admin: Api, client: Api, other: Api
    ) -> None:
        other.post("/tickets", {"subject": MARK, "message": MARK, "department_id": 1})
        assert MARK not in client.get(operation.path).text

    def test_no_filter_of_an_operator_widens_what_a_client_sees(self, client: Api) -> None:
        for path in ("/services", "/invoices", "/tickets"):
            assert client.get(path, client_id=43).status_code == 400


class Test2BrokenAuthentication:
    """Missing, bad, expired, revoked, malformed: the same 401."""

    @by_id(PROTECTED)
    def test_it_is_the_same_refusal(
        self, operation: contract.Operation, server: Running, dead: dict[str, list[dict[str, str]]]
    ) -> None:
        server.clock.fixed = app.now() + timedelta(hours=2)
        path = re.sub(r"{\w+}", "42", operation.path)
        for chosen, headers in dead.items():
            answers = [
                httpx.request(operation.method.upper(), server.url + path, headers=each) for each in headers
            ]
            assert {each.status_code for each in answers} == {401}
            assert {each.headers["WWW-Authenticate"] for each in answers} == {"Bearer"}
            assert len({each.content for each in answers}) == 1, chosen

    def test_ten_a_minute_is_all_that_an_address_may_try(self, limited: Running) -> None:
        tries = [
            httpx.get(f"{limited.url}/services", headers={"Authorization": f"Bearer cbt_{nth}"}).status_code
            for nth in range(12)
        ]
        assert tries == [401] * 10 + [429] * 2


@pytest.fixture(scope="module")
def limited(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A demo server with the limits that both documents call the default."""
    url = f"sqlite:///{tmp_path_factory.mktemp('limited') / 'limited.db'}"
    with serving(prepared(url, defaults=RuntimeSettings(60, 60, 10), counters=Counters(None))) as running:
        yield running


class Test3BrokenObjectPropertyLevelAuthorization:
    """Members that are not the caller's to set are refused; answers hold only what the contract lists."""

    @by_id(WITH_BODY)
    @pytest.mark.parametrize("name", ["id", "is_admin", "__proto__", "password_hash", "version"])
    def test_an_unknown_member_is_refused_and_named(
        self, operation: contract.Operation, name: str, admin: Api, client: Api
    ) -> None:
        for dialect in dialects(operation):
            api = {"client": client, "admin": admin}[dialect]
            path = re.sub(r"{\w+}", "1", operation.path)
            body = (example_body(operation, dialect) or {}) | {name: 1}
            response = api.request(operation.method.upper(), path, json=body)
            assert response.status_code == 400
            details = response.json().get("details") or response.json()["error"]["details"]
            assert f"/{name}" in [each["pointer"] for each in details]

    def test_every_object_of_the_contract_is_closed(self) -> None:
        objects = [
            name
            for name, schema in DOCUMENT["components"]["schemas"].items()
            # What the contract itself looks like is OpenAPI's to say, and an event's data are the event's.
            if schema.get("type") == "object"
            and schema.get("additionalProperties") is not False
            and name not in ("ContractDocument", "EventData")
        ]
        assert objects == []

    def test_no_answer_has_a_member_for_what_is_secret(self) -> None:
        """But those that show a new secret, once."""
        shown = {
            name
            for name, schema in DOCUMENT["components"]["schemas"].items()
            if not name.endswith(("Input", "Change"))
            for member in schema.get("properties", {})
            if re.search("password|hash|digest|secret$|^token$|^key$", member)
        }
        assert all(name.startswith(("Created", "New")) or "Secret" in name for name in shown), shown


class Test4UnrestrictedResourceConsumption:
    """No list over 100, no body over 1 MiB, and limits (``test_limits.py``, ``raw/test_time_limits.py``)."""

    @by_id(LISTS)
    def test_no_page_has_more_than_100_rows(
        self, operation: contract.Operation, admin: Api, client: Api
    ) -> None:
        for dialect in dialects(operation):
            if dialect == "client" and operation.id not in ("list_invoices", "search_knowledgebase"):
                continue
            api = {"client": client, "admin": admin}[dialect]
            path = re.sub(r"{\w+}", "42" if "clients" in operation.path else "1", operation.path)
            assert api.get(path, limit=100).status_code == 200
            for limit in (101, 10**9, 10**30, 0, -1):
                assert api.get(path, limit=limit).status_code == 400

    @by_id([each for each in PROTECTED if each.method in ("post", "put")])
    def test_no_body_is_larger_than_a_mebibyte(
        self, operation: contract.Operation, admin: Api, client: Api
    ) -> None:
        api = admin if "admin" in operation.audiences else client
        path = re.sub(r"{\w+}", "1", operation.path)
        large = b'{"x":"' + b"x" * 1_048_576 + b'"}'
        headers = {"Content-Type": "application/json"}
        answer = api.request(operation.method.upper(), path, content=large, headers=headers)
        assert answer.status_code == 413

    def test_every_text_and_array_has_an_end(self) -> None:
        endless = []

        def look(schema: Any, where: str) -> None:
            if not isinstance(schema, dict):
                return
            if schema.get("type") == "string" and not ({"maxLength", "enum", "format"} & schema.keys()):
                endless.append(where)
            if schema.get("type") == "array" and "maxItems" not in schema:
                endless.append(where)
            for name, each in schema.get("properties", {}).items():
                look(each, f"{where}.{name}")
            look(schema.get("items"), f"{where}[]")

        for name, schema in DOCUMENT["components"]["schemas"].items():
            look(schema, name)
        assert endless == []


class Test5BrokenFunctionLevelAuthorization:
    """A client's token × every operation of the operator; each scope × each operation."""

    @by_id(ADMINS)
    def test_a_clients_token_opens_nothing_of_the_operators(
        self, operation: contract.Operation, client: Api
    ) -> None:
        path = re.sub(r"{\w+}", "42", operation.path)
        for body in (None, {}, {"x": 1}):
            assert client.request(operation.method.upper(), path, json=body).status_code == 403

    @pytest.mark.parametrize("scope", SCOPES)
    def test_a_scope_opens_its_own_operations_and_no_other(
        self, scope: str, admin: Api, server: Running
    ) -> None:
        key = admin.post("/api-keys", {"name": "one scope", "scopes": [scope]}).json()["data"]["key"]
        api = Api(server.url, key)
        for operation in PROTECTED:
            if "admin" not in operation.audiences:
                continue
            # An id that no resource has, so that nothing is changed by who may.
            path = re.sub(r"{\w+}", "9007199254740991", operation.path)
            response = api.request(operation.method.upper(), path, json=None)
            if operation.scope != scope:
                assert response.status_code == 403, operation.id
                assert response.json()["error"]["message"] == lacks(operation)
            elif response.status_code == 403:
                # It is let in, and refused what it would grant.
                assert operation.id in ALSO
                assert response.json()["error"]["message"] != lacks(operation)
        api.close()


class Test6UnrestrictedAccessToSensitiveBusinessFlows:
    """What is made is bounded: by the limits, by places, by states."""

    def test_a_client_opens_no_more_tickets_than_its_limit(self, limited: Running) -> None:
        body = {"subject": "x", "message": "x", "department_id": 1}
        headers = {"Authorization": f"Bearer {OTHER}"}
        before = limited.count(tickets.Ticket)
        answers = [
            httpx.post(f"{limited.url}/tickets", json=body, headers=headers).status_code for _ in range(70)
        ]
        assert answers.count(201) == 60 and answers[60:] == [429] * 10
        assert limited.count(tickets.Ticket) == before + 60

    def test_no_more_services_than_places(self, admin: Api) -> None:
        kind = {"kind": f"owasp-{factories.client(admin)}"}
        product = factories.product(admin, **kind)
        factories.server(admin, **kind, capacity=3)
        body = {"client_id": 42, "product_id": product, "billing_cycle": "monthly"}
        answers = [admin.post("/services", body).status_code for _ in range(5)]
        assert answers == [201, 201, 201, 409, 409]

    def test_an_invoice_is_paid_once(self, admin: Api) -> None:
        id = factories.invoice(admin)
        assert [admin.post(f"/invoices/{id}/pay").status_code for _ in range(3)] == [200, 409, 409]


class Test7ServerSideRequestForgery:
    """The one URL that callers give; the whole table is in ``test_webhook_targets.py``."""

    URLS = (
        "https://127.0.0.1/",
        "https://[::1]/",
        "https://[::ffff:127.0.0.1]/",
        "https://0x7f000001/",
        "https://2130706433/",
        "https://127.1/",
        "https://localhost/",
        "https://10.0.0.1/",
        "https://169.254.169.254/latest/meta-data",
        "https://[fd00::1]/",
        "https://[64:ff9b::7f00:1]/",
        "http://example.com/",
        "https://user@example.com/",
        "ftp://example.com/",
        "file:///etc/passwd",
        "gopher://127.0.0.1:6379/_FLUSHALL",
    )

    @pytest.mark.parametrize("url", URLS)
    def test_an_inner_address_is_refused(self, strict: Api, url: str) -> None:
        made = strict.post("/webhooks", {"url": url, "events": ["invoice.paid"]})
        assert made.status_code in (400, 409)
        changed = strict.put("/webhooks/1", {"url": url})
        assert changed.status_code in (400, 409)
        assert "127.0.0.1" not in made.json()["error"]["message"]


class Test8SecurityMisconfiguration:
    """No traces, methods that are not there, headers on every answer."""

    @by_id([each for each in OPERATIONS if each.method == "get"])
    def test_every_answer_has_the_headers(
        self, operation: contract.Operation, admin: Api, client: Api
    ) -> None:
        api = admin if "admin" in operation.audiences else client
        response = api.get(re.sub(r"{\w+}", "1", operation.path))
        assert response.headers["X-Content-Type-Options"] == "nosniff"
        assert response.headers["Cache-Control"] in ("no-store", "no-cache")
        assert "Server" not in response.headers and "X-Powered-By" not in response.headers

    @pytest.mark.parametrize("path", sorted({each.path for each in OPERATIONS}))
    def test_a_method_that_is_not_there_is_405(self, path: str, server: Running) -> None:
        there = {each.method.upper() for each in OPERATIONS if each.path == path}
        there |= {"HEAD"} if "GET" in there else set()
        for method in ("GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND"):
            if method not in there:
                url = server.url + re.sub(r"{\w+}", "1", path)
                response = httpx.request(method, url, headers={"Authorization": f"Bearer {ADMIN}"})
                assert response.status_code == 405
                mine = {
                    each.method.upper()
                    for each in OPERATIONS
                    if each.path == path and (each.public or "admin" in each.audiences)
                }
                allowed = set(response.headers["Allow"].replace(" ", "").split(",")) - {"HEAD", ""}
                assert allowed == mine

    def test_a_fault_shows_nothing_of_the_inside(self, admin: Api, monkeypatch: pytest.MonkeyPatch) -> None:
        def fail(*_: Any) -> Any:
            raise RuntimeError("secret inside /srv/cloudarc")

        monkeypatch.setattr(handlers.clients, "VIEWS", Views(client=fail, admin=fail))
        response = admin.get("/clients/42")
        assert response.status_code == 500
        assert response.json()["error"] == {"code": "INTERNAL_ERROR", "message": "Server error"}


class Test9ImproperInventoryManagement:
    """What is routed is what the contract has."""

    def test_every_operation_is_routed_and_nothing_else(self, server: Running) -> None:
        routed = {
            (plan.method, plan.path)
            for plans in [
                *server.edge.routes.fixed.values(),
                *(plans for _, plans in server.edge.routes.open),
            ]
            for plan in plans.values()
        }
        base = server.edge.routes.base
        assert "/" + "/".join(base) == "/api/v1"
        assert routed == {(each.method, each.path) for each in OPERATIONS}

    @pytest.mark.parametrize(
        "path",
        [
            *(
                "/administrator",
                "/debug",
                "/docs",
                "/openapi.json",
                "/swagger.json",
                "/graphql",
                "/metrics",
                "/.env",
            ),
            *("/api/v1/", "/api/v1", "/api/v2/clients", "/api/clients", "/api/v1/users", "/api/v1/clients/"),
            *("/api/v1//clients", "/API/V1/clients", "/api/v1/clients.json", "/api/v1/clients;a=b"),
        ],
    )
    def test_no_other_path_answers(self, server: Running, path: str) -> None:
        url = server.url.removesuffix("/api/v1")
        headers = {"Authorization": f"Bearer {ADMIN}"}
        with httpx.Client() as http:
            request = http.build_request("GET", url, headers=headers)
            request.url = request.url.copy_with(raw_path=path.encode())
            assert http.send(request).status_code == 404


class Test10UnsafeConsumptionOfApis:
    """What receivers of webhooks answer is capped, kept as text, and never obeyed."""

    async def _deliver(self, server: Running) -> None:
        worker = Worker(server.database, BOX, private=True)
        async with http_session(private=True) as http:
            while await worker.run_once(http) or worker.tasks or worker.results:
                for task in list(worker.tasks):
                    await task

    def test_an_answer_is_text_of_4_kib_and_nothing_more(self, server: Running, admin: Api) -> None:
        evil = json.dumps({"active": False, "event": "client.created", "secret": "x"}).encode()
        evil += b"<script>\x00\x1b[31m" + b"x" * 100_000
        with receiving() as receiver:
            receiver.answers = lambda _: (200, {"Content-Type": "application/json"}, evil)
            body = {"url": receiver.url, "events": ["invoice.paid"]}
            webhook = admin.post("/webhooks", body).json()["data"]
            before = server.count(clients.Client)
            admin.post(f"/webhooks/{webhook['id']}/test")
            assert server.loop is not None
            asyncio.run_coroutine_threadsafe(self._deliver(server), server.loop).result(30)
            row = admin.get(f"/webhooks/{webhook['id']}/deliveries").json()["data"][0]
        (attempt,) = row["attempts"]
        assert row["status"] == "delivered"
        assert len(attempt["answer"].encode()) <= 3 * 4096
        assert "\x00" not in attempt["answer"] and "\x1b" not in attempt["answer"]
        now = admin.get(f"/webhooks/{webhook['id']}").json()["data"]
        assert now["active"] is True
        assert server.count(clients.Client) == before
        assert server.count(deliveries.Delivery, webhook_id=webhook["id"]) == 1
        admin.request("DELETE", f"/webhooks/{webhook['id']}")


def test_the_top_10_are_ten() -> None:
    rows = [name for name in globals() if re.fullmatch(r"Test\d+\w+", name)]
    assert sorted(int(re.findall(r"\d+", name)[0]) for name in rows) == list(range(1, 11))
