"""Services: lists, items, provisioning, and the way from active to terminated."""

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime
from secrets import token_hex
from typing import Any

import pytest
from sqlalchemy import func, select

from persistence.servers import Server
from persistence.services import Service, add_cycle
from tests.api.test_identity import HOSTNAMES, NO_HOSTNAMES
from tests.support import factories
from tests.support.contract_client import Api
from tests.support.live_server import Running


def make(admin: Api, **values: object) -> dict:
    body = {"client_id": 44, "product_id": 2, "billing_cycle": "monthly"} | values
    response = admin.post("/services", body)
    assert response.status_code == 201, response.text
    return response.json()["data"]


class TestListServices:
    def test_nobody_and_bad_tokens_get_401(self, nobody: Api) -> None:
        assert nobody.get("/services").status_code == 401

    def test_a_client_sees_the_documented_row(self, client: Api) -> None:
        body = client.get("/services").json()
        row = next(each for each in body["data"] if each["id"] == 1)
        assert {"id", "product_name", "domain", "status", "next_due_date"} == set(row)
        assert body["count"] == len(body["data"])

    def test_a_client_sees_its_own_only(self, other: Api, admin: Api) -> None:
        mine = {each["id"] for each in other.get("/services").json()["data"]}
        theirs = admin.get("/services", client_id=43, limit=100).json()["data"]
        assert mine == {each["id"] for each in theirs} and mine

    def test_a_client_cannot_use_the_operators_filters(self, client: Api) -> None:
        for name, value in (("client_id", 43), ("page", 1), ("status", "active"), ("limit", 5)):
            response = client.get("/services", **{name: value})
            assert response.status_code == 400
            assert response.json()["details"][0]["pointer"] == f"/{name}"

    def test_pages_tile_the_whole_list(self, admin: Api) -> None:
        total = admin.get("/services", limit=1).json()["meta"]["total"]
        seen: list[int] = []
        for page in range(1, total // 100 + 2):
            seen += [each["id"] for each in admin.get("/services", page=page, limit=100).json()["data"]]
        assert len(seen) == total == len(set(seen))
        assert seen == sorted(seen, reverse=True)

    def test_links_lead_through_the_whole_list(self, admin: Api) -> None:
        path, seen = "/services?limit=100&client_id=43", []
        while path:
            response = admin.get(path)
            seen += [each["id"] for each in response.json()["data"]]
            link = response.headers.get("Link", "")
            assert not link or link.endswith('; rel="next"')
            path = link.partition(">")[0].removeprefix("</api/v1")
        assert len(seen) == admin.get("/services", client_id=43).json()["meta"]["total"]

    def test_past_the_end_is_empty(self, admin: Api) -> None:
        response = admin.get("/services", page=9007199254740991, limit=100)
        assert response.status_code == 200 and response.json()["data"] == []

    @pytest.mark.parametrize("status", ["active", "suspended", "terminated"])
    def test_filters_hold(self, admin: Api, status: str) -> None:
        rows = admin.get("/services", status=status, product_id=2, limit=100).json()["data"]
        assert rows and all(each["status"] == status and each["product_id"] == 2 for each in rows)


class TestGetService:
    def test_a_foreign_one_is_403_and_a_missing_one_404(self, client: Api) -> None:
        assert client.get("/services/2").status_code == 403
        assert client.get("/services/999999").status_code == 404

    def test_both_dialects_show_the_same_service(self, client: Api, admin: Api) -> None:
        mine, theirs = client.get("/services/1").json(), admin.get("/services/1").json()["data"]
        assert "server_id" not in mine and theirs["server_id"]
        assert mine["created_at"] == "2024-01-01 10:00:00"
        assert theirs["created_at"] == "2024-01-01T10:00:00Z"
        assert {name: theirs[name] for name in mine} | {"created_at": 0} == mine | {"created_at": 0}


class TestCreateService:
    def test_it_starts_active_and_is_due_after_one_cycle(self, admin: Api, server: Running) -> None:
        server.clock.fixed = datetime(2027, 1, 31, 23, 59, 59, tzinfo=UTC)
        service = make(admin, domain="new.example", username="new")
        assert (service["status"], service["next_due_date"]) == ("active", "2027-02-28")
        assert service["created_at"] == "2027-01-31T23:59:59Z"
        assert admin.get(f"/services/{service['id']}").json()["data"] == service

    @pytest.mark.parametrize(
        ("day", "cycle", "due"),
        [
            (date(2027, 1, 31), "monthly", date(2027, 2, 28)),
            (date(2028, 1, 31), "monthly", date(2028, 2, 29)),
            (date(2027, 11, 30), "quarterly", date(2028, 2, 29)),
            (date(2028, 2, 29), "annually", date(2029, 2, 28)),
            (date(2027, 12, 31), "monthly", date(2028, 1, 31)),
            (date(2027, 8, 31), "quarterly", date(2027, 11, 30)),
        ],
    )
    def test_month_ends_clamp(self, day: date, cycle: str, due: date) -> None:
        assert add_cycle(day, cycle) == due

    def test_what_does_not_exist_is_404(self, admin: Api) -> None:
        body = {"client_id": 44, "product_id": 2, "billing_cycle": "monthly"}
        for name in ("client_id", "product_id"):
            response = admin.post("/services", body | {name: 999_999})
            assert response.status_code == 404
            assert name.removesuffix("_id") in response.json()["error"]["message"]

    def test_an_inactive_product_and_a_cycle_without_a_price_are_409(self, admin: Api) -> None:
        body = {"client_id": 44, "product_id": 4, "billing_cycle": "monthly"}
        assert admin.post("/services", body).status_code == 409
        assert (
            admin.post("/services", body | {"product_id": 3, "billing_cycle": "quarterly"}).status_code == 409
        )

    def test_the_last_place_is_given_once(self, admin: Api, server: Running) -> None:
        body = {"client_id": 44, "product_id": 5, "billing_cycle": "monthly"}
        with ThreadPoolExecutor(12) as pool:
            made = list(pool.map(lambda _: admin.post("/services", body), range(12)))
        assert sorted(each.status_code for each in made) == [201] + [409] * 11
        (service,) = [each.json()["data"] for each in made if each.status_code == 201]
        assert admin.post(f"/services/{service['id']}/terminate").status_code == 200
        again = make(admin, product_id=5)
        assert again["server_id"] == service["server_id"]
        admin.post(f"/services/{again['id']}/terminate")


class TestNames:
    def place(self, admin: Api, servers: int = 1) -> dict[str, Any]:
        """The body of a service of a product that has servers of its own."""
        kind = token_hex(8)
        for _ in range(servers):
            factories.server(admin, kind=kind)
        product = factories.product(admin, kind=kind)
        return {"client_id": 44, "product_id": product, "billing_cycle": "monthly"}

    @pytest.mark.parametrize("name", list(HOSTNAMES))
    def test_a_domain_in_any_form_is_kept_as_a_labels(self, admin: Api, name: str) -> None:
        for written in [name, *HOSTNAMES[name]]:
            service = make(admin, domain=written)
            assert service["domain"] == name
            admin.post(f"/services/{service['id']}/terminate")

    @pytest.mark.parametrize("text", [each for each in NO_HOSTNAMES if each])
    def test_what_is_no_domain_is_400(self, admin: Api, server: Running, text: str) -> None:
        before = server.count(Service)
        body = {"client_id": 44, "product_id": 2, "billing_cycle": "monthly", "domain": text}
        refused = admin.post("/services", body)
        assert refused.status_code == 400
        if "\x00" not in text:
            assert refused.json()["error"]["details"][0]["pointer"] == "/domain"
        assert server.count(Service) == before

    @pytest.mark.parametrize("username", ["a", "mysite", "a1_-b", "z" * 32])
    def test_usernames_that_a_system_takes_are_taken(self, admin: Api, username: str) -> None:
        assert admin.post("/services", self.place(admin) | {"username": username}).status_code == 201

    @pytest.mark.parametrize(
        "username",
        [
            "root; rm -rf /",
            "A",
            "1a",
            "-a",
            "_a",
            "a b",
            "a\n",
            "ä",
            "a.b",
            "z" * 33,
            "\u0430dmin",
            "a\u200b",
            "../a",
        ],
    )
    def test_others_are_400(self, admin: Api, username: str) -> None:
        refused = admin.post("/services", self.place(admin) | {"username": username})
        assert refused.status_code == 400
        assert refused.json()["error"]["details"][0]["pointer"] == "/username"

    def test_both_may_be_empty_or_left_out_any_number_of_times(self, admin: Api) -> None:
        for _ in range(2):
            assert make(admin, domain="", username="")["username"] == ""
            assert make(admin)["domain"] == ""

    def test_a_second_service_of_a_domain_is_409_until_the_first_is_terminated(self, admin: Api) -> None:
        domain = f"{token_hex(8)}.example.com"
        first = make(admin, domain=domain)
        for state in ("active", "suspended"):
            if state == "suspended":
                admin.post(f"/services/{first['id']}/suspend")
            body = {"client_id": 45, "product_id": 3, "billing_cycle": "monthly", "domain": domain.upper()}
            refused = admin.post("/services", body)
            assert refused.status_code == 409
            assert "has this domain" in refused.json()["error"]["message"]
        admin.post(f"/services/{first['id']}/terminate")
        assert make(admin, domain=domain)["domain"] == domain

    def test_a_second_username_on_a_server_is_409_until_the_first_is_terminated(self, admin: Api) -> None:
        body = self.place(admin) | {"username": "mysite"}
        first = factories.made(admin.post("/services", body))
        refused = admin.post("/services", body)
        assert refused.status_code == 409
        assert "has this username" in refused.json()["error"]["message"]
        assert admin.post("/services", self.place(admin) | {"username": "mysite"}).status_code == 201
        admin.post(f"/services/{first}/terminate")
        assert admin.post("/services", body).status_code == 201

    @pytest.mark.parametrize("name", ["domain", "username"])
    def test_of_many_at_once_one_is_provisioned_and_takes_one_place(
        self, admin: Api, server: Running, name: str
    ) -> None:
        value = {"domain": f"{token_hex(8)}.example.com", "username": "once"}[name]
        body = self.place(admin, servers=2 if name == "domain" else 1) | {name: value}
        with ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(lambda _: admin.post("/services", body), range(8)))
        assert sorted(each.status_code for each in answers) == [201] + [409] * 7
        assert server.count(Service, product_id=body["product_id"]) == 1
        kind = admin.get(f"/products/{body['product_id']}").json()["data"]["kind"]
        used = select(func.sum(Server.__table__.c.used).label("used")).where(Server.__table__.c.kind == kind)
        assert server.inside(lambda db: db.fetch_one(used)).used == 1


class TestVerbs:
    def test_the_reason_is_kept_and_cleared(self, admin: Api) -> None:
        id = make(admin)["id"]
        suspended = admin.post(f"/services/{id}/suspend", {"reason": "Überfällig"}).json()["data"]
        assert (suspended["status"], suspended["suspend_reason"]) == ("suspended", "Überfällig")
        active = admin.post(f"/services/{id}/unsuspend").json()["data"]
        assert (active["status"], active["suspend_reason"]) == ("active", "")
        ended = admin.post(f"/services/{id}/terminate", {}).json()["data"]
        assert (ended["status"], ended["server_id"]) == ("terminated", None)

    def test_one_of_many_parallel_suspends_wins(self, admin: Api) -> None:
        id = make(admin)["id"]
        with ThreadPoolExecutor(10) as pool:
            codes = list(pool.map(lambda _: admin.post(f"/services/{id}/suspend").status_code, range(10)))
        assert sorted(codes) == [200] + [409] * 9


class TestLongLists:
    @pytest.mark.parametrize("path", ["/services", "/domains", "/tickets", "/departments"])
    def test_a_client_follows_links_through_a_list_that_is_longer_than_one_answer(
        self, client: Api, path: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        whole = [row["id"] for row in client.get(path).json()["data"]]
        assert whole
        monkeypatch.setattr("handlers.dialects.MAX_UNPAGED", 1)
        seen, url = [], path
        while url:
            answer = client.get(url)
            assert answer.json()["count"] == 1
            seen += [row["id"] for row in answer.json()["data"]]
            url = answer.links.get("next", {}).get("url", "").removeprefix("/api/v1")
        assert seen == whole
