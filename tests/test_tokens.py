"""Tokens and keys: shown once, scoped, expiring, remembered, revoked at once."""

import re
import time
from collections.abc import Iterator
from datetime import timedelta

import httpx
import pytest

from persistence import api_keys, credentials, tokens
from server import app
from tests import making
from tests.contract_client import Api
from tests.running import Running


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
        row = server.inside(lambda db: db.one(tokens.TABLE.select().where(tokens.TABLE.c.id == made["id"])))
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
            ("2035-01-01T23:59:60Z", 400),
            ("2035-01-01 00:00:00", 400),
            ("2035-01-01T00:00:00+01:00", 400),
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
        id = making.client(admin)
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
                if not server.edge.remembering:
                    break
                time.sleep(0.005)
            row = server.inside(lambda db: db.one(table.select().where(table.c.id == made["id"])))
            seen.append((row.last_used_at - start).total_seconds())
        assert seen == [0, 0, 60, 60]
