"""Domains: names in every script, kept as A-labels; one live record of a name."""

from concurrent.futures import ThreadPoolExecutor
from secrets import token_hex

import pytest

from persistence.domains import Domain
from tests.api.test_identity import HOSTNAMES, NO_HOSTNAMES, RESERVED
from tests.support import factories
from tests.support.contract_client import Api
from tests.support.live_server import Running

EXPIRES = "2035-01-31T00:00:00Z"


def body(name: str) -> dict[str, object]:
    return {"client_id": 42, "domain": name, "expires_at": EXPIRES}


def new() -> str:
    return f"{token_hex(8)}.example.com"


class TestNames:
    @pytest.mark.parametrize("name", list(HOSTNAMES))
    def test_all_forms_are_answered_as_a_labels_in_lower_case(self, admin: Api, name: str) -> None:
        for written in [name, *HOSTNAMES[name]]:
            id = factories.made(admin.post("/domains", body(written)))
            assert admin.get(f"/domains/{id}").json()["data"]["domain"] == name
            assert admin.put(f"/domains/{id}", {"domain": new()}).status_code == 200
            assert admin.put(f"/domains/{id}", {"domain": written}).json()["data"]["domain"] == name
            assert admin.request("DELETE", f"/domains/{id}").status_code == 200

    @pytest.mark.parametrize("text", NO_HOSTNAMES)
    def test_what_is_no_domain_is_400(self, admin: Api, server: Running, text: str) -> None:
        before = server.count(Domain)
        id = factories.domain(admin)
        for refused in (admin.post("/domains", body(text)), admin.put(f"/domains/{id}", {"domain": text})):
            assert refused.status_code == 400
            if "\x00" not in text:
                assert refused.json()["error"]["details"][0]["pointer"] == "/domain"
        assert server.count(Domain) == before + 1

    @pytest.mark.parametrize("text", RESERVED)
    def test_what_no_pattern_says_is_409(self, admin: Api, text: str) -> None:
        refused = admin.post("/domains", body(text))
        assert refused.status_code == 409
        assert "The domain field" in refused.json()["error"]["message"]

    def test_all_faults_are_told_at_once(self, admin: Api) -> None:
        refused = admin.post("/domains", {"client_id": 0, "domain": "http://x", "expires_at": "soon"})
        pointers = {each["pointer"] for each in refused.json()["error"]["details"]}
        assert pointers == {"/client_id", "/domain", "/expires_at"}


class TestUniqueness:
    def test_a_second_record_that_is_not_cancelled_is_409(self, admin: Api) -> None:
        name = new()
        first = factories.made(admin.post("/domains", body(name)))
        refused = admin.post("/domains", body(name.upper()) | {"client_id": 43, "status": "pending"})
        assert refused.status_code == 409
        assert "not cancelled" in refused.json()["error"]["message"]
        cancelled = factories.made(admin.post("/domains", body(name) | {"status": "cancelled"}))
        assert admin.put(f"/domains/{cancelled}", {"status": "pending"}).status_code == 409
        assert admin.get(f"/domains/{cancelled}").json()["data"]["status"] == "cancelled"
        admin.put(f"/domains/{first}", {"status": "cancelled"})
        assert admin.put(f"/domains/{cancelled}", {"status": "active"}).status_code == 200
        assert admin.put(f"/domains/{first}", {"status": "active"}).status_code == 409

    def test_a_record_cannot_be_given_the_name_of_another(self, admin: Api) -> None:
        name = new()
        factories.made(admin.post("/domains", body(name)))
        id = factories.domain(admin)
        assert admin.put(f"/domains/{id}", {"domain": name}).status_code == 409

    def test_of_many_at_once_one_is_added(self, admin: Api, server: Running) -> None:
        name = new()
        with ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(lambda _: admin.post("/domains", body(name)).status_code, range(8)))
        assert sorted(answers) == [201] + [409] * 7
        assert server.count(Domain, domain=name) == 1


class TestDates:
    def test_an_expiry_before_the_registration_is_409(self, admin: Api, server: Running) -> None:
        name = new()
        dates = {"registered_at": "2034-01-01T00:00:00Z", "expires_at": "2033-12-31T23:59:59Z"}
        refused = admin.post("/domains", body(name) | dates)
        assert refused.status_code == 409
        assert "expires_at" in refused.json()["error"]["message"]
        assert server.count(Domain, domain=name) == 0
        same = dates | {"expires_at": dates["registered_at"]}
        id = factories.made(admin.post("/domains", body(name) | same))
        for change in ({"registered_at": "2034-01-01T00:00:01Z"}, {"expires_at": "2033-01-01T00:00:00Z"}):
            assert admin.put(f"/domains/{id}", change).status_code == 409
        assert admin.put(f"/domains/{id}", {"registered_at": "2020-01-01T00:00:00Z"}).status_code == 200

    def test_one_that_is_registered_now_expires_later(self, admin: Api) -> None:
        assert admin.post("/domains", body(new()) | {"expires_at": "2001-01-01T00:00:00Z"}).status_code == 409


class TestClients:
    def test_the_domain_of_a_deleted_client_does_not_become_active(self, admin: Api) -> None:
        client = factories.client(admin)
        id = factories.domain(admin, client, status="expired")
        assert admin.request("DELETE", f"/clients/{client}").status_code == 200
        refused = admin.put(f"/domains/{id}", {"status": "active"})
        assert refused.status_code == 409
        assert "client" in refused.json()["error"]["message"]
        assert admin.put(f"/domains/{id}", {"status": "cancelled"}).status_code == 200

    def test_a_stale_version_is_412_before_anything_else(self, admin: Api) -> None:
        id = factories.domain(admin)
        answer = admin.request(
            "PUT", f"/domains/{id}", json={"domain": "ab--cd.com"}, headers={"If-Match": '"99"'}
        )
        assert answer.status_code == 412
