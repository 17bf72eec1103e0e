"""Who may do what: the matrix of every operation and every kind of caller, and credentials that are dead."""

import secrets
from collections.abc import Callable, Iterator
from datetime import timedelta
from functools import partial
from typing import Any

import httpx
import pytest
from sqlalchemy import update

from handlers.tokens import CLIENT_SCOPES
from openapi import contract
from persistence import api_keys, credentials, tokens
from server import app
from tests.support import factories
from tests.support.contract_client import DOCUMENT, OPERATIONS, Api
from tests.support.live_server import ADMIN, CLIENT, OTHER, Running

PROTECTED = [each for each in OPERATIONS if not each.public]
ITEMS = [each for each in PROTECTED if "{id}" in each.path]
SCOPES = sorted({each.scope for each in PROTECTED if each.scope})

# A new resource in the state that an operation starts from.
FRESH: dict[str, Callable[..., int]] = {
    "services": lambda operation, admin, owner: factories.service(
        admin, "suspended" if operation == "unsuspend_service" else "active", owner
    ),
    "invoices": lambda operation, admin, owner: factories.invoice(admin, "unpaid", owner),
    "tickets": lambda operation, admin, owner: factories.ticket(admin, "open", owner),
    "clients": lambda operation, admin, owner: factories.client(admin),
    "products": lambda operation, admin, owner: factories.product(admin),
    "servers": lambda operation, admin, owner: factories.server(admin),
    "departments": lambda operation, admin, owner: factories.department(admin),
    "tokens": lambda operation, admin, owner: (
        factories.token(admin) if operation == "revoke_token" else factories.client(admin)
    ),
    "api_keys": lambda operation, admin, owner: factories.api_key(admin),
    "webhooks": lambda operation, admin, owner: (
        factories.delivery(admin) if operation == "resend_delivery" else factories.webhook(admin)
    ),
    "events": lambda operation, admin, owner: factories.event(admin),
    "domains": lambda operation, admin, owner: factories.domain(admin, owner),
    "knowledgebase": lambda operation, admin, owner: factories.article(admin),
    "announcements": lambda operation, admin, owner: factories.announcement(
        admin, published_at="2024-01-09T09:00:00Z"
    ),
}

# The scopes that an operation's example needs beside the operation's own, for what it grants or sends.
ALSO: dict[str, tuple[str, ...]] = {
    "create_api_key": ("invoices:read",),
    "create_token": CLIENT_SCOPES,
    "create_webhook": ("invoices:read",),
    "update_webhook": ("invoices:read", "tickets:read"),
    "recover_webhook": ("invoices:read",),
}

# What there is one of, in a state that the example changes.
BEFORE: dict[str, tuple[str, dict[str, str]]] = {
    "update_profile": ("/clients/42", {"city": "Bern"}),
    "update_settings": ("/settings", {"default_currency": "EUR"}),
}

# What may be there once only, for an example that is sent many times.
UNIQUE: dict[str, Callable[[], str]] = {
    "email": lambda: f"{secrets.token_hex(8)}@example.com",
    "domain": lambda: f"{secrets.token_hex(8)}.example.com",
    "username": lambda: f"u{secrets.token_hex(8)}",
}

# What lies below another resource, and where the tests' own are looked up.
BELOW = {"{token_id}": "42", "{delivery_id}": "1"}


def by_id(operations: list[contract.Operation]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("operation", operations, ids=lambda each: each.id)


def example_body(operation: contract.Operation, dialect: contract.Audience) -> Any:
    if not operation.spec.get("requestBody"):
        return None
    schema = operation.spec["requestBody"]["content"]["application/json"]["schema"]
    example = contract.deref(DOCUMENT, contract.branch(DOCUMENT, schema, dialect))["example"]
    return {name: UNIQUE[name]() if name in UNIQUE else value for name, value in example.items()}


def call(api: Api, operation: contract.Operation, id: int, dialect: contract.Audience) -> httpx.Response:
    path = operation.path
    for child, parent in BELOW.items():
        if child in path:
            path = path.replace("{id}", parent).replace(child, str(id))
    path = path.replace("{id}", str(id))
    return api.request(operation.method.upper(), path, json=example_body(operation, dialect))


OF_ALL = ("departments", "knowledgebase", "announcements")
"""Nouns that belong to no client; all clients read them."""


def lacks(operation: contract.Operation) -> str:
    """The refusal of a key without the operation's own scope."""
    return f"The API key lacks the scope {operation.scope}."


def noun(operation: contract.Operation) -> str:
    return str(operation.spec["tags"][0])


def fresh(operation: contract.Operation, admin: Api, owner: int = 42) -> int:
    if operation.id in BEFORE:
        path, body = BEFORE[operation.id]
        assert admin.put(path, body).status_code == 200
    return FRESH[noun(operation)](operation.id, admin, owner) if "{id}" in operation.path else 0


@pytest.fixture
def keys(server: Running) -> Iterator[Callable[..., Api]]:
    """Makes a caller with a new API key of some scopes."""
    made: list[Api] = []

    def make(*scopes: str) -> Api:
        secret = credentials.mint("arc_", secrets.choice)
        server.inside(lambda db: api_keys.create(db, "test", scopes, secret, app.now()), write=True)
        made.append(Api(server.url, secret))
        return made[-1]

    yield make
    for api in made:
        api.close()


class TestMatrix:
    def test_there_is_something_to_test(self) -> None:
        assert len(PROTECTED) >= 15
        assert len(ITEMS) >= 9

    @by_id(PROTECTED)
    def test_nobody_gets_401(self, operation: contract.Operation, nobody: Api) -> None:
        dialect: contract.Audience = "admin" if "admin" in operation.audiences else "client"
        response = call(nobody, operation, 1, dialect)
        assert response.status_code == 401
        assert response.headers["WWW-Authenticate"] == "Bearer"

    @by_id(PROTECTED)
    def test_a_dead_credential_gets_401_in_its_own_dialect(
        self, operation: contract.Operation, server: Running
    ) -> None:
        dialect: contract.Audience = "admin" if "admin" in operation.audiences else "client"
        prefixes: tuple[credentials.Prefix, ...] = ("cbt_", "arc_")
        for prefix in prefixes:
            api = Api(server.url, credentials.mint(prefix, secrets.choice))
            body = call(api, operation, 1, dialect).json()
            api.close()
            assert (body["code"] if prefix == "cbt_" else body["error"]["code"]) in (401, "UNAUTHORIZED")

    @by_id(PROTECTED)
    def test_the_wrong_kind_gets_403_in_its_own_dialect(
        self, operation: contract.Operation, client: Api, admin: Api
    ) -> None:
        for kind, api in (("client", client), ("admin", admin)):
            if kind not in operation.audiences:
                (right,) = operation.audiences
                response = call(api, operation, fresh(operation, admin), right)
                assert response.status_code == 403
                assert ("code" in response.json()) == (kind == "client")

    @by_id([each for each in PROTECTED if "admin" in each.audiences])
    def test_the_scope_decides(
        self, operation: contract.Operation, admin: Api, keys: Callable[..., Api]
    ) -> None:
        id = fresh(operation, admin)
        others = [scope for scope in SCOPES if scope != operation.scope]
        refused = call(keys(*others), operation, id, "admin")
        assert refused.status_code == 403
        assert refused.json()["error"]["message"] == lacks(operation)
        also = ALSO.get(operation.id, ())
        for scope in also:
            refused = call(
                keys(str(operation.scope), *(each for each in also if each != scope)), operation, id, "admin"
            )
            assert refused.status_code == 403
            assert f" lacks {scope}, " in refused.json()["error"]["message"]
        caller = keys(str(operation.scope), *also)
        assert call(caller, operation, id, "admin").status_code in (200, 201)

    @by_id([each for each in ITEMS if "client" in each.audiences and noun(each) not in OF_ALL])
    def test_another_clients_is_403_ones_own_is_not(
        self, operation: contract.Operation, admin: Api, client: Api, other: Api
    ) -> None:
        id = fresh(operation, admin, owner=42)
        before = admin.get(f"/{noun(operation)}/{id}").json()
        assert call(other, operation, id, "client").status_code == 403
        assert admin.get(f"/{noun(operation)}/{id}").json() == before
        assert call(client, operation, id, "client").status_code in (200, 201)

    @by_id(ITEMS)
    def test_what_does_not_exist_is_404(self, operation: contract.Operation, admin: Api, client: Api) -> None:
        for kind, api in (("client", client), ("admin", admin)):
            if kind in operation.audiences:
                assert call(api, operation, 9007199254740991, kind).status_code == 404

    @by_id([each for each in PROTECTED if each.method == "get" and "{id}" not in each.path])
    def test_lists_hold_nothing_of_others(
        self, operation: contract.Operation, client: Api, admin: Api
    ) -> None:
        # What belongs to no client, and what the operator cannot look up by its id.
        if "client" not in operation.audiences or f"{operation.path}/{{id}}" not in DOCUMENT["paths"]:
            return
        if noun(operation) in OF_ALL:
            return
        rows = client.get(operation.path).json()["data"]
        assert rows
        for row in rows:
            shown = admin.get(f"{operation.path}/{row['id']}").json()["data"]
            assert shown["client_id"] == 42


class TestCredentials:
    def statuses(self, server: Running, **options: Any) -> tuple[int, Any]:
        response = httpx.get(f"{server.url}/services", **options)
        return response.status_code, response.json()

    def bearer(self, secret: str) -> dict[str, str]:
        return {"Authorization": f"Bearer {secret}"}

    def test_the_query_works_like_the_header_for_a_client(self, server: Running) -> None:
        by_header = self.statuses(server, headers=self.bearer(CLIENT))
        assert by_header == self.statuses(server, params={"api_token": CLIENT})
        assert by_header[0] == 200

    def test_the_query_is_closed_to_keys(self, server: Running) -> None:
        status, body = self.statuses(server, params={"api_token": ADMIN})
        assert (status, body["error"]["code"]) == (401, "UNAUTHORIZED")

    def test_two_that_differ_are_401_two_alike_are_not(self, server: Running) -> None:
        both = {"params": {"api_token": OTHER}, "headers": self.bearer(CLIENT)}
        assert self.statuses(server, **both)[0] == 401
        same = {"params": {"api_token": CLIENT}, "headers": self.bearer(CLIENT)}
        assert self.statuses(server, **same)[0] == 200
        bad = {"params": {"api_token": CLIENT}, "headers": self.bearer("wrong")}
        assert self.statuses(server, **bad)[0] == 401

    @pytest.mark.parametrize("prefix", credentials.PREFIXES)
    def test_a_dead_secret_speaks_the_dialect_of_its_prefix(self, server: Running, prefix: Any) -> None:
        for secret in (credentials.mint(prefix, secrets.choice), f"{prefix}nonsense"):
            for path in ("/services", "/nowhere", "/profile"):
                response = httpx.get(server.url + path, headers=self.bearer(secret))
                assert response.status_code == (404 if path == "/nowhere" else 401)
                assert ("code" in response.json()) == (prefix == "cbt_")

    def test_expired_and_revoked_secrets_are_dead_and_all_401_alike(self, server: Running) -> None:
        bodies = []
        for change in ({"expires_at": app.now() - timedelta(seconds=1)}, {"revoked_at": app.now()}):
            secret = credentials.mint("cbt_", secrets.choice)
            server.inside(partial(tokens.create, client_id=42, secret=secret, now=app.now()), write=True)
            assert self.statuses(server, headers=self.bearer(secret))[0] == 200
            statement = (
                update(tokens.Token).values(change).where(tokens.TABLE.c.digest == credentials.digest(secret))
            )
            server.inside(
                lambda db: db.execute(statement),  # noqa: B023  it runs before the loop goes on
                write=True,
            )
            bodies.append(self.statuses(server, headers=self.bearer(secret)))
        bodies.append(self.statuses(server, headers=self.bearer("cbt_unknown")))
        assert bodies == [(401, {"error": "Authentication required or invalid token", "code": 401})] * 3

    def test_status_looks_at_no_credential(self, server: Running) -> None:
        for options in ({}, {"headers": self.bearer("wrong")}, {"params": {"api_token": "wrong"}}):
            response = httpx.get(f"{server.url}/status", **options)  # type: ignore[arg-type]
            assert response.status_code == 200
            assert response.json().keys() == {"status", "version", "time"}

    def test_allow_lists_what_the_callers_audience_may_do(self, client: Api, admin: Api, nobody: Api) -> None:
        allowed = [api.request("DELETE", "/services").headers["Allow"] for api in (client, admin, nobody)]
        assert allowed == ["GET, HEAD", "GET, HEAD, POST", "GET, HEAD, POST"]


class TestSecrets:
    def test_a_checksum_tells_a_typing_error_without_a_look_up(self) -> None:
        secret = credentials.mint("arc_", secrets.choice)
        assert credentials.may_exist(secret)
        for index in range(4, len(secret)):
            changed = secret[:index] + ("A" if secret[index] != "A" else "B") + secret[index + 1 :]
            assert not credentials.may_exist(changed)
        assert not credentials.may_exist(secret[:-1])

    def test_no_secret_is_kept(self, server: Running) -> None:
        rows = server.inside(lambda db: db.fetch_all(tokens.TABLE.select()))
        assert rows
        assert not any(CLIENT in str(row) for row in rows)
