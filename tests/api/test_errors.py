"""Errors: the order of refusals, and answers that the contract does not allow."""

import json
from dataclasses import replace
from typing import Any

import pytest
from connexion.exceptions import ResolverError

from handlers import services, tickets
from handlers.dialects import Views
from openapi import contract
from persistence.tickets import Ticket
from server import app
from tests.support.contract_client import DOCUMENT, Api
from tests.support.live_server import Running

TICKET = {"client_id": 42, "department_id": 2, "subject": "DNS", "message": "Help"}


class TestOrder:
    """Each request breaks a rule and every rule after it; the first one answers."""

    @pytest.fixture
    def callers(self, client: Api, other: Api, nobody: Api) -> dict[str, Api]:
        return {"client": client, "other": other, "nobody": nobody}

    @pytest.mark.parametrize(
        ("who", "method", "path", "headers", "body", "expected"),
        [
            ("nobody", "POST", "/nowhere", {"Accept": "text/html"}, b"{", 404),
            ("nobody", "DELETE", "/tickets", {"Accept": "text/html"}, b"{", 405),
            ("nobody", "POST", "/tickets", {"Accept": "text/html"}, b"{", 401),
            ("client", "POST", "/invoices", {"Accept": "text/html"}, b"{", 403),
            ("client", "POST", "/tickets", {"Accept": "text/html"}, b"x" * 1_048_577, 406),
            ("client", "POST", "/tickets", {"Content-Type": "text/plain"}, b"x" * 1_048_577, 413),
            ("client", "POST", "/tickets", {"Content-Type": "text/plain"}, b"{", 415),
            ("client", "POST", "/tickets", {"Content-Type": "application/json"}, b"{", 400),
            ("client", "POST", "/tickets", {"Content-Type": "application/json"}, b'{"foo":1}', 422),
            ("client", "POST", "/tickets/x/reply", {"Content-Type": "application/json"}, b'{"foo":1}', 422),
            ("client", "GET", "/tickets/x", {}, b"", 400),
            ("client", "GET", "/tickets/999999", {}, b"", 404),
            ("other", "POST", "/tickets/15/close", {}, b"", 403),
        ],
    )
    def test_the_first_rule_answers(
        self,
        callers: dict[str, Api],
        who: str,
        method: str,
        path: str,
        headers: Any,
        body: bytes,
        expected: int,
    ) -> None:
        assert callers[who].request(method, path, headers=headers, content=body).status_code == expected


class TestMessages:
    def test_they_never_repeat_the_input(self, admin: Api) -> None:
        secret = "Xq7-very-secret-Xq7"
        for body in (
            {"client_id": secret, "due_date": secret, "items": secret},
            {"client_id": 42, "due_date": "2035-01-31", "items": [{"description": secret, "amount": secret}]},
            [secret],
            secret,
        ):
            response = admin.post("/invoices", body)
            assert response.status_code == 400
            assert secret not in response.text
        assert secret not in admin.get("/invoices", status=secret).text
        assert secret not in admin.get(f"/invoices/{secret}").text

    def test_an_unknown_member_is_pointed_at_by_its_name_unless_it_is_strange(self, admin: Api) -> None:
        pointers = []
        for name in ("clientid", "<b>\u202e"):
            response = admin.post("/tickets", TICKET | {name: 1})
            pointers.append(response.json()["error"]["details"][0]["pointer"])
        assert pointers == ["/clientid", ""]


class TestBreaches:
    """An answer that breaks the contract is a 500, and nothing was written."""

    @pytest.mark.parametrize(
        "view",
        [
            lambda row, replies: {"id": row.id},
            lambda row, replies: tickets.VIEWS.admin(row, replies) | {"secret": 1},
            lambda row, replies: tickets.VIEWS.admin(row, replies) | {"id": str(row.id)},
            lambda row, replies: tickets.VIEWS.admin(row, replies) | {"priority": "urgent"},
            lambda row, replies: tickets.VIEWS.client(row, replies),
            lambda row, replies: tickets.VIEWS.admin(row, replies) | {"id": float("nan")},
            lambda row, replies: [],
            lambda row, replies: 1 / 0,
        ],
    )
    def test_it_leaves_no_row(
        self, admin: Api, server: Running, monkeypatch: pytest.MonkeyPatch, view: Any
    ) -> None:
        before = server.count(Ticket)
        monkeypatch.setattr(tickets, "OPENED", Views(client=view, admin=view))
        response = admin.post("/tickets", TICKET)
        assert response.status_code == 500
        assert response.json() == {
            "status": "error",
            "error": {"code": "INTERNAL_ERROR", "message": "Server error"},
        }
        assert server.count(Ticket) == before

    def test_a_status_that_is_not_listed_is_one(
        self, admin: Api, server: Running, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        before = server.count(Ticket)
        monkeypatch.setattr(
            "handlers.dialects.AdminDialect.created",
            classmethod(lambda cls, views, *found: (*cls.item(views, *found)[:1], 202)),
        )
        assert admin.post("/tickets", TICKET).status_code == 500
        assert server.count(Ticket) == before

    def test_reading_is_judged_too(self, client: Api, monkeypatch: pytest.MonkeyPatch) -> None:
        wrong = replace(services.VIEWS, client_row=lambda row: {"id": row.id})
        monkeypatch.setattr(services, "VIEWS", wrong)
        response = client.get("/services")
        assert (response.status_code, response.json()) == (500, {"error": "Server error", "code": 500})


class TestStart:
    """What the pipeline cannot run stops the start."""

    def broken(self, damage: Any) -> contract.Document:
        document: contract.Document = json.loads(json.dumps(DOCUMENT))
        damage(document)
        return document

    @pytest.mark.parametrize(
        "damage",
        [
            lambda document: document["paths"]["/status"]["get"].update(operationId="get_weather"),
            lambda document: (
                document["components"]["parameters"]["Page"]["schema"].update(
                    {"type": "array", "items": {"type": "integer"}}
                )
                or document["components"]["parameters"]["Page"].update(
                    schema={"type": "array", "items": {"type": "integer"}}
                )
            ),
            lambda document: document["components"]["parameters"]["Page"].update({"in": "header"}),
            lambda document: document["components"]["parameters"]["IfMatch"].update(required=True),
            lambda document: document["components"]["parameters"]["IfMatch"].update({"x-dialect": "admin"}),
            lambda document: document["components"]["parameters"]["IfMatch"].update({"in": "cookie"}),
            lambda document: document["components"]["parameters"]["Page"].update({"style": "form"}),
            lambda document: document["paths"]["/tickets"]["post"]["requestBody"].update(
                content={"text/plain": {"schema": {"type": "string"}}}
            ),
            lambda document: document["paths"]["/services/{id}"]["get"].pop("parameters"),
            lambda document: document["paths"]["/tickets/{id}/reply"]["post"].pop("requestBody"),
        ],
    )
    def test_a_contract_that_is_not_supported_does_not_start(self, server: Running, damage: Any) -> None:
        with pytest.raises((contract.ContractError, AttributeError, ResolverError)) as caught:
            app.assemble(server.database, self.broken(damage))
        assert str(caught.value)
