"""Every verb from every state: it ends where the table says, or it is refused and nothing changes."""

from typing import Any

import pytest

from persistence import lifecycle
from tests.support import factories
from tests.support.contract_client import DOCUMENT, Api

MESSAGE = {"message": "A reply."}


def states(name: str) -> list[str]:
    return list(DOCUMENT["components"]["schemas"][name]["enum"])


def pairs(name: str, verbs: list[str]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize(
        ("state", "verb"), [(each, verb) for each in states(name) for verb in verbs]
    )


def expect(response: Any, rule: lifecycle.Transition, state: str, now: str) -> None:
    """Hold an answer, and the state that the resource has ``now``, to the table."""
    stored = "unpaid" if state == "overdue" else state
    if stored in rule.from_states:
        assert response.status_code in (200, 201), response.text
        assert now == rule.to_state
    else:
        assert response.status_code == 409
        assert state.replace("_", " ") in response.text
        assert now == state


class TestServices:
    @pairs("ServiceStatus", list(lifecycle.SERVICE))
    def test_pair(self, state: str, verb: str, admin: Api) -> None:
        id = factories.service(admin, state)
        response = admin.post(f"/services/{id}/{verb}")
        now = admin.get(f"/services/{id}").json()["data"]["status"]
        expect(response, lifecycle.SERVICE[verb], state, now)


class TestInvoices:
    @pairs("InvoiceStatus", list(lifecycle.INVOICE))
    def test_pair(self, state: str, verb: str, admin: Api) -> None:
        id = factories.invoice(admin, state)
        response = admin.post(f"/invoices/{id}/{verb}")
        now = admin.get(f"/invoices/{id}").json()["data"]["status"]
        expect(response, lifecycle.INVOICE[verb], state, now)


class TestTickets:
    @pairs("TicketStatus", list(lifecycle.TICKET))
    def test_pair(self, state: str, verb: str, admin: Api, client: Api) -> None:
        id = factories.ticket(admin, state, client=client)
        if verb == "close":
            response = admin.post(f"/tickets/{id}/close")
        else:
            response = (client if verb == "reply_as_client" else admin).post(f"/tickets/{id}/reply", MESSAGE)
        now = admin.get(f"/tickets/{id}").json()["data"]["status"]
        expect(response, lifecycle.TICKET[verb], state, now)

    @pairs("TicketStatus", ["close"])
    def test_a_client_closes_like_the_staff(self, state: str, verb: str, admin: Api, client: Api) -> None:
        id = factories.ticket(admin, state, client=client)
        response = client.post(f"/tickets/{id}/close")
        expect(response, lifecycle.TICKET["close"], state, client.get(f"/tickets/{id}").json()["status"])


class TestRefusals:
    def test_the_message_names_the_state_and_what_is_allowed(self) -> None:
        refusal = lifecycle.refuse("service", lifecycle.SERVICE, "unsuspend", "active")
        assert str(refusal) == (
            "The service is active, so it cannot be unsuspended; "
            "allowed from this state: suspend or terminate."
        )
