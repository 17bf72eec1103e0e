"""Tokens and keys: shown once, scoped, expiring, remembered, revoked at once."""

import re
import secrets
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import httpx
import pytest

from handlers.tokens import CLIENT_SCOPES
from openapi import contract
from persistence import activity, api_keys, credentials, deliveries, tokens, webhooks
from server import app
from tests.support import factories
from tests.support.contract_client import DOCUMENT, OPERATIONS, Api
from tests.support.live_server import Running


def works(server: Running, secret: str, path: str) -> int:
    """The status of a call with a secret."""
    return httpx.get(server.url + path, headers={"Authorization": f"Bearer {secret}"}).status_code


def later(seconds: int) -> str:
    return f"{app.now() + timedelta(seconds=seconds):%Y-%m-%dT%H:%M:%SZ}"


class TestTokens:
    def test_nobody_401_client_403_missing_404(self, nobody: Api, client: Api, admin: Api) -> None:
        codes = [api.post("/clients/42/tokens").status_code for api in (nobody, client)]
        assert codes == [401, 403]
        assert admin.post("/clients/999999/tokens").status_code == 404
        assert admin.get("/clients/999999/tokens").status_code == 404
        assert admin.request("DELETE", "/clients/42/tokens/999999").status_code == 404

    def test_one_is_shown_once_and_works_at_once(self, admin: Api, server: Running) -> None:
        made = admin.post("/clients/43/tokens").json()["data"]
        secret = made["token"]
        assert re.fullmatch(r"cbt_[0-9A-Za-z]{36}", secret)
        assert credentials.may_exist(secret)
        assert works(server, secret, "/profile") == 200
        listed = admin.get("/clients/43/tokens", limit=100).text
        assert secret not in listed
        assert secret[:8] in listed
        row = server.inside(
            lambda db: db.fetch_one(tokens.TABLE.select().where(tokens.TABLE.c.id == made["id"]))
        )
        assert secret not in str(row)

    def test_a_revoked_one_is_dead_at_once_and_gone_from_the_list(self, admin: Api, server: Running) -> None:
        made = admin.post("/clients/43/tokens").json()["data"]
        path = f"/clients/43/tokens/{made['id']}"
        assert admin.request("DELETE", path.replace("43", "42")).status_code == 404
        assert works(server, made["token"], "/profile") == 200
        gone = admin.request("DELETE", path)
        assert gone.json()["data"] == {"id": made["id"], "deleted": True}
        assert works(server, made["token"], "/profile") == 401
        assert admin.request("DELETE", path).status_code == 404
        assert made["id"] not in [
            row["id"] for row in admin.get("/clients/43/tokens", limit=100).json()["data"]
        ]

    def test_it_dies_when_it_expires(self, admin: Api, server: Running) -> None:
        made = admin.post("/clients/43/tokens", {"expires_at": later(3600)}).json()["data"]
        assert works(server, made["token"], "/profile") == 200
        server.clock.fixed = app.now() + timedelta(hours=2)
        assert works(server, made["token"], "/profile") == 401

    @pytest.mark.parametrize(
        ("expires_at", "status"),
        [
            ("2024-01-01T00:00:00Z", 409),
            ("2035-02-30T00:00:00Z", 400),
            ("2035-01-01T24:00:00Z", 400),
            ("2035-01-01T23:58:60Z", 400),
            ("2035-01-01 00:00:00", 400),
            ("0000-01-01T00:00:00Z", 400),
            ("tomorrow", 400),
        ],
    )
    def test_an_instant_that_is_none_or_has_passed_is_refused(
        self, admin: Api, expires_at: str, status: int
    ) -> None:
        response = admin.post("/clients/43/tokens", {"expires_at": expires_at})
        assert response.status_code == status
        assert "expires_at" in response.text

    def test_a_deleted_client_has_none(self, admin: Api, server: Running) -> None:
        id = factories.client(admin)
        secret = admin.post(f"/clients/{id}/tokens").json()["data"]["token"]
        assert works(server, secret, "/profile") == 200
        admin.request("DELETE", f"/clients/{id}")
        assert works(server, secret, "/profile") == 401
        assert admin.get(f"/clients/{id}/tokens").status_code == 404
        assert admin.post(f"/clients/{id}/tokens").status_code == 404


class TestApiKeys:
    @pytest.fixture
    def maker(self, admin: Api, server: Running) -> Iterator[Api]:
        """A key that may make keys, and little else."""
        scopes = ["api_keys:write", "tickets:read"]
        secret = admin.post("/api-keys", {"name": "maker", "scopes": scopes}).json()["data"]["key"]
        api = Api(server.url, secret)
        yield api
        api.close()

    def test_nobody_401_client_403_missing_404(self, nobody: Api, client: Api, admin: Api) -> None:
        body = {"name": "x", "scopes": ["*"]}
        assert [api.post("/api-keys", body).status_code for api in (nobody, client)] == [401, 403]
        assert admin.request("DELETE", "/api-keys/999999").status_code == 404

    def test_it_is_shown_once_and_does_what_its_scopes_allow(self, admin: Api, server: Running) -> None:
        body = {"name": "Accounting", "scopes": ["invoices:read", "invoices:read", "clients:read"]}
        made = admin.post("/api-keys", body).json()["data"]
        assert made["scopes"] == ["clients:read", "invoices:read"]
        statuses = [
            works(server, made["key"], path) for path in ("/invoices", "/clients", "/services", "/api-keys")
        ]
        assert statuses == [200, 200, 403, 403]
        assert made["key"] not in admin.get("/api-keys", limit=100).text

    def test_none_grants_what_it_lacks(self, maker: Api) -> None:
        for scopes, status in (
            (["tickets:read"], 201),
            (["tickets:write"], 403),
            (["*"], 403),
            (["tickets:read", "*"], 403),
        ):
            response = maker.post("/api-keys", {"name": "x", "scopes": scopes})
            assert response.status_code == status, scopes

    def test_none_revokes_itself(self, admin: Api, server: Running) -> None:
        made = admin.post("/api-keys", {"name": "x", "scopes": ["*"]}).json()["data"]
        mine = Api(server.url, made["key"])
        assert mine.request("DELETE", f"/api-keys/{made['id']}").status_code == 409
        assert admin.request("DELETE", f"/api-keys/{made['id']}").status_code == 200
        assert mine.get("/services").status_code == 401
        mine.close()

    @pytest.mark.parametrize("scopes", [[], ["weather:read"], "*", [1], None])
    def test_scopes_that_are_none_are_named(self, admin: Api, scopes: object) -> None:
        response = admin.post("/api-keys", {"name": "x", "scopes": scopes})
        assert response.status_code == 400
        assert response.json()["error"]["details"][0]["pointer"].startswith("/scopes")


def members(schema: Any) -> Iterator[str]:
    """The names of all members of a schema, also of those within it."""
    schema = contract.deref(DOCUMENT, schema)
    for name, each in schema.get("properties", {}).items():
        yield name
        yield from members(each)
    if "items" in schema:
        yield from members(schema["items"])


def shows_a_secret(operation: contract.Operation) -> bool:
    """Whether the operation answers a secret, which is shown once."""
    if operation.spec["tags"] == ["contract"]:
        return False
    status = next(each for each in operation.spec["responses"] if each.startswith("2"))
    content = contract.deref(DOCUMENT, operation.spec["responses"][status])["content"]
    names = members(content["application/json"]["schema"])
    return any(re.search("password|hash|digest|secret$|^token$|^key$", name) for name in names)


# Whoever may call one of these may call all that have its scope.
SECRETS = [each for each in OPERATIONS if shows_a_secret(each)]
GRANTING = [each for each in OPERATIONS if each.scope in {secret.scope for secret in SECRETS}]
EVENTS = DOCUMENT["components"]["schemas"]["EventName"]["enum"]
# A webhook that has this event gets the data of the noun that stands before the point.
READS = {event: f"{event.split('.')[0]}s:read" for event in EVENTS}

Attempt = tuple[str, Any, str]


def webhook_for(admin: Api, event: str = "client.created", **values: Any) -> int:
    return factories.webhook(admin, events=[event], **values)


def unused() -> str:
    return f"http://127.0.0.1:9/{secrets.token_hex(8)}"


def key_attempts(admin: Api) -> Iterator[Attempt]:
    for scope in DOCUMENT["components"]["schemas"]["Scope"]["enum"]:
        if scope != "api_keys:write":
            yield "/api-keys", {"name": "x", "scopes": ["api_keys:write", scope]}, scope


def token_attempts(admin: Api) -> Iterator[Attempt]:
    yield "/clients/42/tokens", None, ", ".join(CLIENT_SCOPES)
    yield "/clients/42/tokens", {"expires_at": later(60)}, ", ".join(CLIENT_SCOPES)


def subscription_attempts(admin: Api) -> Iterator[Attempt]:
    for event, scope in READS.items():
        yield "/webhooks", {"url": unused(), "events": [event]}, scope
        yield "/webhooks", {"url": unused(), "events": [event], "active": False}, scope


def change_attempts(admin: Api) -> Iterator[Attempt]:
    for event, scope in READS.items():
        yield f"/webhooks/{webhook_for(admin)}", {"events": [event]}, scope
        yield f"/webhooks/{webhook_for(admin, event)}", {"url": unused()}, scope
        yield f"/webhooks/{webhook_for(admin, event, active=False)}", {"active": True}, scope


def resend_attempts(admin: Api) -> Iterator[Attempt]:
    id = webhook_for(admin)
    factories.client(admin)
    (row,) = admin.get(f"/webhooks/{id}/deliveries").json()["data"]
    yield f"/webhooks/{id}/deliveries/{row['id']}/resend", None, "clients:read"


def recover_attempts(admin: Api) -> Iterator[Attempt]:
    for event, scope in READS.items():
        yield f"/webhooks/{webhook_for(admin, event)}/recover", {"since": later(-60)}, scope


# What each is refused to a key with its scope alone: the path, the body and what the key lacks.
# None where nothing that it does lets anybody do or read more.
STRONGER: dict[str, Callable[[Api], Iterator[Attempt]] | None] = {
    "create_api_key": key_attempts,
    "revoke_api_key": None,
    "create_token": token_attempts,
    "revoke_token": None,
    "create_webhook": subscription_attempts,
    "update_webhook": change_attempts,
    "delete_webhook": None,
    # Its secret signs, and reads nothing.
    "rotate_webhook": None,
    # It sends examples.
    "test_webhook": None,
    "resend_delivery": resend_attempts,
    "recover_webhook": recover_attempts,
}
REFUSING = [each for each in OPERATIONS if STRONGER.get(each.id)]
WRITTEN = (api_keys.ApiKey, tokens.Token, webhooks.Webhook, deliveries.Delivery, activity.Activity)


class TestWhatOutgrowsItsParent:
    """What a key creates does no more, lives no longer and shows no more than the key."""

    @pytest.fixture(autouse=True)
    def few_webhooks(self, admin: Api) -> Iterator[None]:
        yield from factories.webhooks_for_a_while(admin)

    @pytest.fixture
    def maker(self, admin: Api, server: Running) -> Iterator[Callable[..., Api]]:
        """Makes a caller with a new API key."""
        made: list[Api] = []

        def make(*scopes: str, **values: Any) -> Api:
            body = {"name": "x", "scopes": scopes} | values
            made.append(Api(server.url, admin.post("/api-keys", body).json()["data"]["key"]))
            return made[-1]

        yield make
        for api in made:
            api.close()

    def test_each_operation_that_may_give_more_has_a_row(self) -> None:
        assert {each.id for each in SECRETS} == {
            "create_api_key",
            "create_token",
            "create_webhook",
            "rotate_webhook",
        }
        assert STRONGER.keys() == {each.id for each in GRANTING}

    @pytest.mark.parametrize("operation", REFUSING, ids=lambda each: each.id)
    def test_a_key_with_its_scope_alone_is_refused_and_nothing_is_written(
        self, operation: contract.Operation, admin: Api, server: Running, maker: Callable[..., Api]
    ) -> None:
        attempts = STRONGER[operation.id]
        assert attempts
        caller = maker(str(operation.scope))
        for path, body, scope in attempts(admin):
            before = [server.count(table) for table in WRITTEN]
            pending = server.count(deliveries.Delivery, status="pending")
            row = admin.get(path).json() if operation.id == "update_webhook" else None
            refused = caller.request(operation.method.upper(), path, json=body)
            assert refused.status_code == 403, (path, body)
            message = refused.json()["error"]["message"]
            assert message.startswith(f"The API key lacks {scope}, so it cannot "), message
            assert message.endswith("; use a key with more scopes.")
            assert [server.count(table) for table in WRITTEN] == before
            assert server.count(deliveries.Delivery, status="pending") == pending
            assert row is None or admin.get(path).json() == row

    @pytest.mark.parametrize("operation", REFUSING, ids=lambda each: each.id)
    def test_a_key_that_has_what_is_lacking_is_not_refused(
        self, operation: contract.Operation, admin: Api, server: Running, maker: Callable[..., Api]
    ) -> None:
        attempts = STRONGER[operation.id]
        assert attempts
        for path, body, scope in attempts(admin):
            caller = maker(str(operation.scope), *scope.split(", "))
            done = caller.request(operation.method.upper(), path, json=body)
            assert done.status_code in (200, 201), (path, body, done.text)

    @pytest.mark.parametrize("operation", REFUSING, ids=lambda each: each.id)
    def test_the_contract_has_an_example_of_the_refusal(self, operation: contract.Operation) -> None:
        response = contract.deref(DOCUMENT, operation.spec["responses"]["403"])
        examples = response["content"]["application/json"]["examples"].values()
        assert any("so it cannot" in str(each["value"]) for each in examples)

    def test_a_message_stays_within_its_bound_however_much_is_lacking(
        self, maker: Callable[..., Api]
    ) -> None:
        every = DOCUMENT["components"]["schemas"]["Scope"]["enum"]
        refused = maker("api_keys:write").post("/api-keys", {"name": "x", "scopes": every})
        message = refused.json()["error"]["message"]
        assert refused.status_code == 403
        assert " and more, so it cannot create this key; use a key with more scopes." in message

    EXPIRING = tuple(
        each
        for each in SECRETS
        if "requestBody" in each.spec
        and "expires_at" in members(each.spec["requestBody"]["content"]["application/json"]["schema"])
    )

    def test_what_can_expire_is_found(self) -> None:
        assert [each.id for each in self.EXPIRING] == ["create_token", "create_api_key"]

    @pytest.mark.parametrize("operation", EXPIRING, ids=lambda each: each.id)
    @pytest.mark.parametrize(("seconds", "status"), [(None, 403), (3601, 403), (3600, 201), (60, 201)])
    def test_a_key_that_expires_makes_nothing_that_outlives_it(
        self,
        operation: contract.Operation,
        seconds: int | None,
        status: int,
        admin: Api,
        server: Running,
        maker: Callable[..., Api],
    ) -> None:
        server.clock.fixed = app.now()
        end = later(3600)
        caller = maker("*", expires_at=end)
        body: dict[str, Any] = {} if seconds is None else {"expires_at": later(seconds)}
        if operation.id == "create_api_key":
            body |= {"name": "child", "scopes": ["tickets:read"]}
        before = [server.count(table) for table in WRITTEN]
        # The second time the key is known already.
        for _ in range(2):
            made = caller.post(operation.path.format(id=42), body or None)
            assert made.status_code == status
        if status == 403:
            bound = f"The API key expires at {end}; give an expires_at that is not later."
            assert made.json()["error"]["message"] == bound
            assert [server.count(table) for table in WRITTEN] == before
        else:
            assert made.json()["data"]["expires_at"] == body["expires_at"]

    def test_a_refused_request_can_be_sent_again_with_its_key(
        self, maker: Callable[..., Api], server: Running
    ) -> None:
        caller = maker("*", expires_at=later(3600))
        path, again = "/clients/42/tokens", {"Idempotency-Key": f'"{secrets.token_hex(8)}"'}
        assert caller.request("POST", path, json={}, headers=again).status_code == 403
        body = {"expires_at": later(60)}
        assert caller.request("POST", path, json=body, headers=again).status_code == 201

    def test_what_lives_on_when_its_parent_is_revoked(
        self, admin: Api, server: Running, maker: Callable[..., Api]
    ) -> None:
        parent = maker("*")
        child = parent.post("/api-keys", {"name": "child", "scopes": ["tickets:read"]}).json()["data"]["key"]
        (row, *_) = [
            each for each in admin.get("/api-keys", limit=100).json()["data"] if each["scopes"] == ["*"]
        ]
        assert admin.request("DELETE", f"/api-keys/{row['id']}").status_code == 200
        assert parent.get("/tickets").status_code == 401
        assert works(server, child, "/tickets") == 200


class TestLastUse:
    @pytest.mark.parametrize("kind", ["token", "key"])
    def test_it_is_kept_to_the_minute(self, admin: Api, server: Running, kind: str) -> None:
        if kind == "token":
            made = admin.post("/clients/43/tokens").json()["data"]
            secret, path, table = made["token"], "/profile", tokens.TABLE
        else:
            made = admin.post("/api-keys", {"name": "x", "scopes": ["*"]}).json()["data"]
            secret, path, table = made["key"], "/invoices?limit=1", api_keys.TABLE
        assert made["last_used_at"] is None
        start = app.now()
        seen = []
        for seconds in (0, 59, 60, 61):
            server.clock.fixed = start + timedelta(seconds=seconds)
            assert works(server, secret, path) == 200
            for _ in range(200):
                if not server.edge.recording:
                    break
                time.sleep(0.005)
            row = server.inside(lambda db: db.fetch_one(table.select().where(table.c.id == made["id"])))
            seen.append((row.last_used_at - start).total_seconds())
        assert seen == [0, 0, 60, 60]
