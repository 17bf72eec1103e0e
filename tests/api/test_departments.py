"""Departments: the active ones, for both kinds of caller."""

from tests.support.contract_client import Api


class TestListDepartments:
    def test_nobody_gets_401(self, nobody: Api) -> None:
        assert nobody.get("/departments").status_code == 401

    def test_both_see_the_same_active_ones(self, client: Api, admin: Api) -> None:
        mine, theirs = client.get("/departments").json(), admin.get("/departments").json()
        assert mine["data"] == theirs["data"]
        assert {1, 2} <= {row["id"] for row in mine["data"]}
        assert 4 not in {row["id"] for row in mine["data"]}
        assert mine["count"] == theirs["meta"]["total"] == len(mine["data"])


class TestGetDepartment:
    def test_an_inactive_one_is_read_by_its_id(self, admin: Api) -> None:
        assert admin.get("/departments/4").json()["data"] == {"id": 4, "name": "Telegrams"}
