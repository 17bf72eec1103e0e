"""Activity: every request that changed something is one row, and no other is."""

from secrets import token_hex
from typing import Any

import pytest

from openapi import contract
from persistence.activity import Activity
from tests.api.test_auth import by_id, call, fresh
from tests.support import factories
from tests.support.contract_client import OPERATIONS, Api
from tests.support.live_server import Running

CHANGES = [each for each in OPERATIONS if each.method != "get"]


def newest(admin: Api, **filters: Any) -> dict[str, Any]:
    row: dict[str, Any] = admin.get("/activity", limit=1, **filters).json()["data"][0]
    return row


class TestListActivity:
    def test_nobody_401_client_403(self, nobody: Api, client: Api) -> None:
        assert [api.get("/activity").status_code for api in (nobody, client)] == [401, 403]

    def test_there_is_something_to_test(self) -> None:
        assert len(CHANGES) >= 35

    @by_id(CHANGES)
    def test_every_operation_that_changes_something_writes_one_row(
        self, operation: contract.Operation, server: Running, admin: Api, client: Api
    ) -> None:
        for kind, api in (("client", client), ("admin", admin)):
            if kind not in operation.audiences:
                continue
            id = fresh(operation, admin)
            before = server.count(Activity)
            answer = call(api, operation, id, kind)
            assert answer.status_code in (200, 201)
            assert server.count(Activity) == before + 1
            row = newest(admin)
            assert row["operation"] == operation.id
            assert row["request_id"] == answer.headers["X-Request-Id"]
            who = ("client", 42, "") if kind == "client" else ("api_key", 1, "Demo")
            assert (row["actor"], row["actor_id"], row["actor_name"]) == who
            assert admin.get("/activity", resource=row["resource"]).json()["data"][0] == row

    def test_the_resource_is_the_path_of_what_was_changed(self, admin: Api, client: Api) -> None:
        invoice = factories.invoice(admin)
        assert newest(admin)["resource"] == f"/invoices/{invoice}"
        admin.post(f"/invoices/{invoice}/pay")
        assert newest(admin)["resource"] == f"/invoices/{invoice}"
        ticket = client.post("/tickets", {"subject": "A", "message": "B", "department_id": 1}).json()
        assert newest(admin)["resource"] == f"/tickets/{ticket['ticket_id']}"
        token = factories.token(admin)
        assert newest(admin)["resource"] == f"/clients/42/tokens/{token}"
        admin.request("DELETE", f"/clients/42/tokens/{token}")
        assert newest(admin)["resource"] == f"/clients/42/tokens/{token}"
        client.put("/profile", {"city": "Bern"})
        assert newest(admin)["resource"] == "/profile"

    def test_the_callers_own_request_id_is_kept(self, admin: Api) -> None:
        request_id = token_hex(8)
        admin.request("POST", "/departments", json={"name": "x"}, headers={"X-Request-Id": request_id})
        assert newest(admin)["request_id"] == request_id

    def test_what_is_refused_and_what_is_answered_again_writes_nothing(
        self, server: Running, admin: Api
    ) -> None:
        id = factories.invoice(admin, "paid")
        headers = {"Idempotency-Key": token_hex(8)}
        admin.request("POST", "/departments", json={"name": "x"}, headers=headers)
        before = server.count(Activity)
        assert admin.post(f"/invoices/{id}/pay").status_code == 409
        assert admin.post("/invoices", {"client_id": 42}).status_code == 400
        assert admin.put("/products/999999", {"name": "x"}).status_code == 404
        again = admin.request("POST", "/departments", json={"name": "x"}, headers=headers)
        assert again.headers["Idempotent-Replayed"] == "true"
        assert server.count(Activity) == before

    @pytest.mark.parametrize("filters", [{"actor": "client"}, {"operation": "create_ticket"}])
    def test_filters_narrow_and_pages_go_on(self, admin: Api, client: Api, filters: dict[str, str]) -> None:
        for _ in range(3):
            client.post("/tickets", {"subject": "A", "message": "B", "department_id": 1})
            factories.department(admin)
        first = admin.get("/activity", limit=2, **filters)
        ids = [row["id"] for row in first.json()["data"]]
        then = admin.get("/activity", limit=2, after=ids[-1], **filters).json()["data"]
        ids += [row["id"] for row in then]
        assert ids == sorted(ids, reverse=True) and len(set(ids)) >= 3
        name, value = next(iter(filters.items()))
        assert {row[name] for row in [*first.json()["data"], *then]} == {value}

    def test_a_key_that_is_revoked_keeps_its_name(self, server: Running, admin: Api) -> None:
        made = admin.post("/api-keys", {"name": "Night shift", "scopes": ["departments:write"]}).json()[
            "data"
        ]
        api = Api(server.url, made["key"])
        factories.department(api)
        api.close()
        admin.request("DELETE", f"/api-keys/{made['id']}")
        assert newest(admin, operation="create_department")["actor_name"] == "Night shift"
