"""ETag, If-None-Match and If-Match on what can be read one by one; ten changes of one version are one."""

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from secrets import token_hex
from typing import Any

import httpx
import pytest

from openapi import contract
from persistence.activity import Activity
from persistence.events import Event
from server import app
from tests.support import factories
from tests.support.contract_client import DOCUMENT, Api
from tests.support.live_server import Running

ITEMS = {
    each.path
    for each in contract.operations(DOCUMENT)
    if each.method == "get" and "304" in each.spec["responses"] and not each.public
}
CHANGES = [
    each
    for each in contract.operations(DOCUMENT)
    if each.method == "put" or (each.method == "delete" and each.path in ITEMS)
]
NEW: dict[str, Any] = {
    "/clients/{id}": ({"city": "Bern"}, factories.client),
    "/products/{id}": ({"description": "New"}, factories.product),
    "/servers/{id}": ({"name": "new"}, factories.server),
    "/departments/{id}": ({"name": "New"}, factories.department),
    "/domains/{id}": ({"status": "expired"}, factories.domain),
    "/knowledgebase/{id}": ({"content": "New"}, factories.article),
    "/announcements/{id}": ({"content": "New"}, factories.announcement),
    "/webhooks/{id}": ({"active": False}, factories.webhook),
}


def tag(response: httpx.Response) -> str:
    return response.headers["ETag"]


class TestTheContract:
    def test_every_single_resource_has_a_version(self) -> None:
        single = {
            each.path
            for each in contract.operations(DOCUMENT)
            if each.method == "get" and each.path.endswith("{id}") and each.path != "/events/{id}"
        }
        assert single | {"/profile", "/settings"} == ITEMS

    def test_every_change_may_be_bound_to_one(self) -> None:
        assert len(CHANGES) >= 12
        for each in CHANGES:
            names = [contract.deref(DOCUMENT, one)["name"] for one in each.spec["parameters"]]
            assert "If-Match" in names and "412" in each.spec["responses"], each.id


class TestReading:
    def test_every_operation_that_answers_304_declares_the_header(self) -> None:
        found = [each for each in contract.operations(DOCUMENT) if "304" in each.spec["responses"]]
        assert len(found) >= 16
        for each in found:
            names = [contract.deref(DOCUMENT, one)["name"] for one in each.spec["parameters"]]
            assert "If-None-Match" in names, each.id

    @pytest.mark.parametrize(
        ("form", "status"),
        [
            *[(form, 304) for form in ("{}", '"a", {}', "{},", "W/{}", '"a,b" , {}', "*")],
            *[(form, 200) for form in ('"a"', "a", "", ",", '"', "*, *", '"*"', "a" * 4096)],
        ],
    )
    def test_one_of_several_tags_is_enough(self, admin: Api, form: str, status: int) -> None:
        current = tag(admin.get("/invoices/1234"))
        headers = {"If-None-Match": form.format(current)}
        assert admin.request("GET", "/invoices/1234", headers=headers).status_code == status

    def test_it_may_stand_in_several_lines(self, admin: Api) -> None:
        current = tag(admin.get("/invoices/1234"))
        for tags, status in ((['"a"', current], 304), ([current, '"a"'], 304), (['"a"', '"b"'], 200)):
            headers = [("If-None-Match", each) for each in tags]
            assert admin.request("GET", "/invoices/1234", headers=headers).status_code == status

    def test_one_that_is_too_long_is_told_with_all_other_faults(self, admin: Api) -> None:
        answer = admin.request("GET", "/invoices/x?y=1", headers={"If-None-Match": "a" * 4097})
        assert answer.status_code == 400
        faults = {(each["in"], each["pointer"]) for each in answer.json()["error"]["details"]}
        assert faults == {("header", "/If-None-Match"), ("path", "/id"), ("query", "/y")}

    @pytest.mark.parametrize(
        "path", ["/services/1", "/invoices/1234", "/tickets/15", "/clients/42", "/products/1", "/servers/1"]
    )
    def test_who_has_the_version_gets_no_body(self, admin: Api, path: str) -> None:
        first = admin.get(path)
        again = admin.request("GET", path, headers={"If-None-Match": tag(first)})
        assert (again.status_code, again.content, tag(again)) == (304, b"", tag(first))
        other = admin.request("GET", path, headers={"If-None-Match": '"0"'})
        assert (other.status_code, other.content) == (200, first.content)

    def test_a_profile_has_one_too(self, client: Api) -> None:
        first = client.get("/profile")
        assert client.request("GET", "/profile", headers={"If-None-Match": tag(first)}).status_code == 304


class TestEveryChangeIsANewVersion:
    def test_of_a_service(self, admin: Api) -> None:
        id = factories.service(admin)
        tags = [tag(admin.get(f"/services/{id}"))]
        for verb in ("suspend", "unsuspend", "terminate"):
            tags.append(tag(admin.post(f"/services/{id}/{verb}")))
            assert tag(admin.get(f"/services/{id}")) == tags[-1]
        assert len(set(tags)) == 4

    def test_of_a_service_whose_product_is_renamed(self, admin: Api) -> None:
        kind = token_hex(8)
        product = factories.product(admin, kind=kind)
        factories.server(admin, kind=kind)
        body = {"client_id": 42, "product_id": product, "billing_cycle": "monthly"}
        id = factories.made(admin.post("/services", body))
        before = admin.get(f"/services/{id}")
        admin.put(f"/products/{product}", {"name": "Renamed"})
        after = admin.get(f"/services/{id}")
        assert after.json()["data"]["product_name"] == "Renamed"
        assert tag(after) != tag(before)

    def test_of_an_invoice_also_at_midnight(self, server: Running, admin: Api) -> None:
        today = app.now()
        id = factories.invoice(admin, due_date=f"{today:%Y-%m-%d}")
        tags = [tag(admin.get(f"/invoices/{id}"))]
        server.clock.fixed = today + timedelta(days=1)
        late = admin.get(f"/invoices/{id}")
        assert late.json()["data"]["status"] == "overdue"
        tags.append(tag(late))
        tags.append(tag(admin.post(f"/invoices/{id}/pay")))
        assert len(set(tags)) == 3

    def test_of_a_ticket(self, admin: Api, client: Api) -> None:
        id = factories.ticket(admin)
        tags = [tag(admin.get(f"/tickets/{id}"))]
        tags.append(tag(admin.post(f"/tickets/{id}/reply", {"message": "So"})))
        tags.append(tag(client.post(f"/tickets/{id}/reply", {"message": "Thanks"})))
        tags.append(tag(client.post(f"/tickets/{id}/close")))
        assert len(set(tags)) == 4

    def test_of_a_server_that_gets_a_service(self, admin: Api) -> None:
        id = factories.service(admin)
        server_id = admin.get(f"/services/{id}").json()["data"]["server_id"]
        before = tag(admin.get(f"/servers/{server_id}"))
        admin.post(f"/services/{id}/terminate")
        assert tag(admin.get(f"/servers/{server_id}")) != before


PUTS = [each for each in contract.operations(DOCUMENT) if each.method == "put"]


class TestAnIdenticalPut:
    """What is found as it should become is no change: no version, no activity, no event."""

    SINGLE = ("/profile", "/settings")

    def sent_back(self, operation: contract.Operation, shown: dict[str, Any]) -> dict[str, Any]:
        """What an answer shows, as far as it can be written, without what is null."""
        schema = operation.spec["requestBody"]["content"]["application/json"]["schema"]
        (dialect,) = operation.audiences
        members = contract.deref(DOCUMENT, contract.branch(DOCUMENT, schema, dialect))["properties"]
        return _without_null({name: shown[name] for name in members if name in shown})

    def test_there_is_something_to_test(self) -> None:
        assert len(PUTS) >= 10
        assert {each.path for each in PUTS} == NEW.keys() | {*self.SINGLE}

    @pytest.mark.parametrize("operation", PUTS, ids=lambda each: each.id)
    @pytest.mark.parametrize("bound", [False, True])
    def test_of_everything_changes_nothing(
        self, server: Running, admin: Api, client: Api, operation: contract.Operation, bound: bool
    ) -> None:
        api = client if "client" in operation.audiences else admin
        path = operation.path
        if path not in self.SINGLE:
            path = path.replace("{id}", str(NEW[path][1](admin)))
        before = api.get(path)
        shown = before.json().get("data", before.json())
        body = self.sent_back(operation, shown)
        assert len(body) >= 1
        rows = [server.count(each) for each in (Activity, Event)]
        headers = {"If-Match": tag(before)} if bound else {}
        answers = [api.request("PUT", path, json=body, headers=headers)]
        answers += [api.request("PUT", path, json={name: body[name]}, headers=headers) for name in body]
        assert {each.status_code for each in answers} == {200}
        assert {tag(each) for each in answers} == {tag(before)}
        assert {each.content for each in answers} == {before.content}
        again = api.get(path)
        assert (again.content, tag(again)) == (before.content, tag(before))
        assert [server.count(each) for each in (Activity, Event)] == rows
        stale = api.request("PUT", path, json=body, headers={"If-Match": '"999999"'})
        assert stale.status_code == 412

    @pytest.mark.parametrize("path", list(NEW))
    def test_one_that_changes_something_is_one_change(self, server: Running, admin: Api, path: str) -> None:
        body, make = NEW[path]
        where = path.replace("{id}", str(make(admin)))
        before, rows = tag(admin.get(where)), server.count(Activity)
        first, second = (tag(admin.put(where, body)) for _ in range(2))
        assert before != first == second
        assert server.count(Activity) == rows + 1

    def test_a_setting_that_was_never_set_and_is_sent_as_it_holds_is_none(self, admin: Api) -> None:
        before = admin.get("/settings")
        assert tag(admin.put("/settings", before.json()["data"])) == tag(before)

    def test_an_email_in_another_spelling_is_a_change(self, admin: Api) -> None:
        id = factories.client(admin, email="spelled@same.example")
        before = tag(admin.get(f"/clients/{id}"))
        changed = admin.put(f"/clients/{id}", {"email": "Spelled@same.example"})
        assert tag(changed) != before
        assert changed.json()["data"]["email"] == "Spelled@same.example"

    def test_a_domain_in_another_form_is_none(self, admin: Api) -> None:
        id = factories.domain(admin, domain="bücher-same.example")
        before = tag(admin.get(f"/domains/{id}"))
        assert tag(admin.put(f"/domains/{id}", {"domain": "BÜCHER-same.example"})) == before


def _without_null(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _without_null(each) for name, each in value.items() if each is not None}
    return value


class TestIfMatch:
    @pytest.mark.parametrize("path", list(NEW))
    def test_a_change_of_an_old_version_is_refused(self, admin: Api, path: str) -> None:
        body, make = NEW[path]
        where = path.replace("{id}", str(make(admin)))
        old = tag(admin.get(where))
        new = tag(admin.put(where, body))
        assert old != new
        refused = admin.request("PUT", where, json=body, headers={"If-Match": old})
        assert refused.status_code == 412
        assert refused.json()["error"]["code"] == "PRECONDITION_FAILED"
        assert admin.request("PUT", where, json=body, headers={"If-Match": new}).status_code == 200
        assert admin.request("PUT", where, json=body, headers={"If-Match": "*"}).status_code == 200
        missing = admin.request("PUT", path.replace("{id}", "999999"), json=body, headers={"If-Match": '"1"'})
        assert missing.status_code == 404

    def test_of_a_profile(self, client: Api) -> None:
        old = tag(client.get("/profile"))
        client.put("/profile", {"city": "Bern"})
        refused = client.request("PUT", "/profile", json={"city": "Basel"}, headers={"If-Match": old})
        assert refused.status_code == 412
        assert client.get("/profile").json()["city"] == "Bern"

    def test_a_delete_of_an_old_version_is_refused(self, admin: Api) -> None:
        id = factories.client(admin)
        old = tag(admin.get(f"/clients/{id}"))
        new = tag(admin.put(f"/clients/{id}", {"city": "Bern"}))
        headers = {"If-Match": old}
        assert admin.request("DELETE", f"/clients/{id}", headers=headers).status_code == 412
        # The version is judged before the state: this client has an unpaid invoice.
        factories.invoice(admin, client_id=id)
        assert admin.request("DELETE", f"/clients/{id}", headers=headers).status_code == 412
        assert admin.request("DELETE", f"/clients/{id}", headers={"If-Match": new}).status_code == 409

    @pytest.mark.parametrize(
        "path", [each.path for each in CHANGES if each.method == "delete" and each.path != "/clients/{id}"]
    )
    def test_a_delete_of_anything_else_too(self, admin: Api, path: str) -> None:
        body, make = NEW[path]
        where = path.replace("{id}", str(make(admin)))
        old = tag(admin.get(where))
        new = tag(admin.put(where, body))
        refused = admin.request("DELETE", where, headers={"If-Match": old})
        assert refused.status_code == 412
        assert admin.get(where).status_code == 200
        assert admin.request("DELETE", where, headers={"If-Match": new}).status_code == 200
        assert admin.get(where).status_code == 404

    @pytest.mark.parametrize("path", list(NEW))
    def test_of_ten_changes_of_one_version_one_is_done(self, server: Running, admin: Api, path: str) -> None:
        body, make = NEW[path]
        where = path.replace("{id}", str(make(admin)))
        version = tag(admin.get(where))
        headers = {"Authorization": "Bearer demo-admin-key", "If-Match": version}

        def change(_: int) -> int:
            return httpx.put(server.url + where, json=body, headers=headers, timeout=60).status_code

        with ThreadPoolExecutor(10) as pool:
            assert Counter(pool.map(change, range(10))) == {200: 1, 412: 9}
