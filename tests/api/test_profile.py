"""The profile: the documented members, and changes of some of them."""

import pytest

from tests.support.contract_client import Api


class TestGetProfile:
    def test_nobody_401_operator_403(self, nobody: Api, admin: Api) -> None:
        assert nobody.get("/profile").status_code == 401
        assert admin.get("/profile").status_code == 403

    def test_it_has_the_documented_values(self, client: Api) -> None:
        profile = client.get("/profile").json()
        documented = {
            "id": 42,
            "last_name": "Smith",
            "email": "jane@example.com",
            "created_at": "2024-01-01 10:00:00",
        }
        assert documented.items() <= profile.items()


class TestUpdateProfile:
    def test_it_changes_what_is_named_and_nothing_else(self, other: Api, client: Api) -> None:
        before, foreign = other.get("/profile").json(), client.get("/profile").json()
        changed = other.put("/profile", {"city": "Genève", "country": "CH"}).json()
        assert changed == before | {"city": "Genève", "country": "CH"}
        assert other.get("/profile").json() == changed
        assert client.get("/profile").json() == foreign

    def test_the_empty_string_clears(self, other: Api) -> None:
        changed = other.put("/profile", {"phone": "", "country": ""}).json()
        assert changed["phone"] == ""
        assert "country" not in changed

    @pytest.mark.parametrize(
        "body",
        [
            {},
            {"email": "new@example.com"},
            {"id": 1},
            {"status": "active"},
            {"first_name": ""},
            {"first_name": None},
            {"first_name": 5},
            {"country": "USA"},
            {"country": "840"},
            {"country": "us"},
            {"postcode": "x" * 21},
            [],
            None,
            "text",
        ],
    )
    def test_anything_else_is_400_and_changes_nothing(self, other: Api, body: object) -> None:
        before = other.get("/profile").json()
        assert other.request("PUT", "/profile", json=body).status_code == 400
        assert other.get("/profile").json() == before

    def test_no_body_is_400(self, other: Api) -> None:
        assert other.put("/profile").status_code == 400
