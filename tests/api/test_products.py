"""Products, servers and departments: what a production database is filled with."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.support import factories
from tests.support.contract_client import Api


class TestProducts:
    def test_nobody_401_client_403_missing_404(self, nobody: Api, client: Api, admin: Api) -> None:
        codes = [api.get("/products").status_code for api in (nobody, client, admin)]
        assert codes == [401, 403, 200]
        assert admin.get("/products/999999").status_code == 404
        assert admin.put("/products/999999", {"status": "inactive"}).status_code == 404

    def test_prices_are_exact_and_a_cycle_without_one_is_null(self, admin: Api) -> None:
        id = factories.product(admin, prices={"monthly": 9.95, "annually": "99.50"}, currency="EUR")
        product = admin.get(f"/products/{id}").json()["data"]
        assert product["prices"] == {"monthly": "9.95", "quarterly": None, "annually": "99.50"}
        assert (product["currency"], product["status"], product["description"]) == ("EUR", "active", "")

    def test_new_prices_replace_all(self, admin: Api) -> None:
        id = factories.product(admin, prices={"monthly": "1.00", "quarterly": 2})
        changed = admin.put(f"/products/{id}", {"prices": {"annually": 3}}).json()["data"]
        assert changed["prices"] == {"monthly": None, "quarterly": None, "annually": "3.00"}
        again = admin.put(f"/products/{id}", {"name": "Renamed"}).json()["data"]
        assert again == changed | {"name": "Renamed"}

    @pytest.mark.parametrize(
        "change",
        [
            {"currency": "JPY"},
            {"currency": "usd"},
            {"status": "gone"},
            {"prices": {"weekly": 1}},
            {"kind": ""},
            {"prices": None},
        ],
    )
    def test_anything_else_is_400(self, admin: Api, change: dict) -> None:
        assert admin.post("/products", {"name": "A", "kind": "b"} | change).status_code == 400

    def test_an_inactive_one_cannot_be_ordered(self, admin: Api) -> None:
        id = factories.product(admin, kind="shared")
        admin.put(f"/products/{id}", {"status": "inactive"})
        body = {"client_id": 42, "product_id": id, "billing_cycle": "monthly"}
        assert admin.post("/services", body).status_code == 409


class TestServers:
    @pytest.mark.parametrize(
        ("name", "value"),
        [
            *[("ip_address", each) for each in ("192.0.2.1", "2001:db8::1", "::", "1:2:3:4:5:6:7:8")],
            *[("hostname", each) for each in ("web-1", "a.example.net", "x" * 63)],
        ],
    )
    def test_an_address_and_a_name_are_taken(self, admin: Api, name: str, value: str) -> None:
        id = factories.server(admin, **{name: value})
        assert admin.get(f"/servers/{id}").json()["data"][name] == value

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            *[("ip_address", each) for each in ("aaaa", ":::::", "999.1.1.1", "...", "1.2.3", "1::2::3")],
            *[("hostname", each) for each in ("a..b", "a-", ".a", "x" * 64, "ü_.example.net")],
        ],
    )
    def test_what_is_none_is_refused_by_name(self, admin: Api, name: str, value: str) -> None:
        body = {"name": "x", "hostname": "x", "ip_address": "192.0.2.1", "kind": "x", "capacity": 1}
        refused = admin.post("/servers", body | {name: value})
        assert refused.status_code == 400
        assert [each["pointer"] for each in refused.json()["error"]["details"]] == [f"/{name}"]

    def test_places_are_taken_freed_and_never_oversold(self, admin: Api) -> None:
        product = factories.product(admin)
        kind = admin.get(f"/products/{product}").json()["data"]["kind"]
        small, large = (
            factories.server(admin, kind=kind, capacity=3),
            factories.server(admin, kind=kind, capacity=7),
        )
        body = {"client_id": 44, "product_id": product, "billing_cycle": "monthly"}
        with ThreadPoolExecutor(25) as pool:
            made = list(pool.map(lambda _: admin.post("/services", body), range(50)))
        assert sorted(each.status_code for each in made) == [201] * 10 + [409] * 40
        used = [admin.get(f"/servers/{id}").json()["data"]["used"] for id in (small, large)]
        assert used == [3, 7]
        first = next(each.json()["data"] for each in made if each.status_code == 201)
        admin.post(f"/services/{first['id']}/terminate")
        assert admin.get(f"/servers/{first['server_id']}").json()["data"]["used"] in (2, 6)
        assert admin.post("/services", body).json()["data"]["server_id"] == first["server_id"]

    def test_the_least_loaded_comes_first(self, admin: Api) -> None:
        product = factories.product(admin)
        kind = admin.get(f"/products/{product}").json()["data"]["kind"]
        servers = [factories.server(admin, kind=kind, capacity=capacity) for capacity in (2, 4)]
        body = {"client_id": 44, "product_id": product, "billing_cycle": "monthly"}
        placed = [admin.post("/services", body).json()["data"]["server_id"] for _ in range(6)]
        first, second = servers
        assert placed == [first, second, second, first, second, second] or sorted(placed) == sorted(
            [first] * 2 + [second] * 4
        )
        assert placed[:2] == [first, second]

    def test_a_capacity_below_what_is_taken_is_409(self, admin: Api) -> None:
        product = factories.product(admin)
        kind = admin.get(f"/products/{product}").json()["data"]["kind"]
        id = factories.server(admin, kind=kind, capacity=2)
        body = {"client_id": 44, "product_id": product, "billing_cycle": "monthly"}
        assert [admin.post("/services", body).status_code for _ in range(3)] == [201, 201, 409]
        assert admin.put(f"/servers/{id}", {"capacity": 1}).status_code == 409
        assert admin.put(f"/servers/{id}", {"capacity": 3}).status_code == 200
        assert admin.post("/services", body).status_code == 201
        assert admin.put(f"/servers/{id}", {"status": "inactive", "capacity": 9}).status_code == 200
        assert admin.post("/services", body).status_code == 409

    def test_it_cannot_be_told_what_is_used(self, admin: Api) -> None:
        response = admin.put(f"/servers/{factories.server(admin)}", {"used": 0})
        assert response.status_code == 400


class TestDepartments:
    def test_an_inactive_one_is_not_listed_and_takes_no_tickets(self, admin: Api, client: Api) -> None:
        id = factories.department(admin, name="Night shift")
        body = {"subject": "A", "message": "B", "department_id": id}
        assert client.post("/tickets", body).status_code == 201
        assert admin.put(f"/departments/{id}", {"status": "inactive"}).json()["data"] == {
            "id": id,
            "name": "Night shift",
        }
        assert client.post("/tickets", body).status_code == 409
        assert id not in [row["id"] for row in client.get("/departments").json()["data"]]
        assert admin.put("/departments/999999", {"name": "X"}).status_code == 404
