"""Many callers at one resource: each change happens once or not at all, on both databases."""

from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from persistence import clients, servers, services, tickets
from persistence.events import TABLE as EVENTS
from tests.support import factories
from tests.support.contract_client import Api
from tests.support.live_server import ADMIN, Running

HEADERS = {"Authorization": f"Bearer {ADMIN}"}


def at_once(server: Running, calls: list[tuple[str, str, Any]]) -> list[httpx.Response]:
    """The answers to calls that 25 threads make as quickly as they can."""

    def call(what: tuple[str, str, Any]) -> httpx.Response:
        method, path, body = what
        options = {} if body is None else {"json": body}
        return httpx.request(method, server.url + path, headers=HEADERS, timeout=60, **options)

    with ThreadPoolExecutor(25) as pool:
        return list(pool.map(call, calls))


def told(server: Running, event: str, id: int) -> int:
    """How many events of a kind tell of a resource."""
    rows = server.inside(lambda db: db.fetch_all(EVENTS.select().where(EVENTS.c.event == event)))
    return sum(f'"data":{{"id":{id},' in row.base for row in rows)


class TestCreates:
    def test_200_tickets_have_200_numbers(self, server: Running, admin: Api) -> None:
        client_id = factories.client(admin)
        body = {"client_id": client_id, "department_id": 1, "subject": "x", "message": "x"}
        answers = at_once(server, [("POST", "/tickets", body)] * 200)
        assert Counter(each.status_code for each in answers) == {201: 200}
        made = [each.json()["data"] for each in answers]
        assert len({each["ticket_number"] for each in made}) == 200
        assert server.count(tickets.Ticket, client_id=client_id) == 200

    def test_200_invoices_have_200_numbers_and_events(self, server: Running, admin: Api) -> None:
        lines = [{"description": "x", "amount": "0.01"}]
        body = {"client_id": 42, "due_date": factories.DUE, "items": lines}
        answers = at_once(server, [("POST", "/invoices", body)] * 200)
        assert Counter(each.status_code for each in answers) == {201: 200}
        ids = {each.json()["data"]["id"] for each in answers}
        assert len({each.json()["data"]["invoice_number"] for each in answers}) == len(ids) == 200
        rows = server.inside(
            lambda db: db.fetch_all(EVENTS.select().where(EVENTS.c.event == "invoice.created"))
        )
        assert all(sum(f'"data":{{"id":{id},' in row.base for row in rows) == 1 for id in ids)

    def test_of_50_clients_with_one_address_one_is_registered(self, server: Running) -> None:
        body = {"first_name": "A", "last_name": "B", "email": "crowd@example.com", "password": "long enough"}
        answers = at_once(server, [("POST", "/clients", body)] * 50)
        assert Counter(each.status_code for each in answers) == {201: 1, 409: 49}
        assert server.count(clients.Client, email="crowd@example.com") == 1


class TestVerbs:
    def race(self, server: Running, id: int, *verbs: str) -> Counter[tuple[str, int]]:
        calls = [("POST", f"/services/{id}/{verb}", None) for verb in verbs] * 10
        answers = at_once(server, calls)
        return Counter(
            (path.rpartition("/")[2], answer.status_code)
            for (_, path, _), answer in zip(calls, answers, strict=True)
        )

    def test_suspend_against_terminate(self, server: Running, admin: Api) -> None:
        for _ in range(5):
            id = factories.service(admin)
            result = self.race(server, id, "suspend", "terminate")
            assert result["terminate", 200] == 1
            assert result["suspend", 200] <= 1
            assert sum(result.values()) == 20 and {status for _, status in result} <= {200, 409}
            assert admin.get(f"/services/{id}").json()["data"]["status"] == "terminated"
            assert told(server, "service.terminated", id) == 1
            assert told(server, "service.suspended", id) == result["suspend", 200]

    def test_places_are_neither_lost_nor_given_twice(self, server: Running, admin: Api) -> None:
        kind = {"kind": f"crowd-{factories.client(admin)}"}
        product, where = factories.product(admin, **kind), factories.server(admin, **kind, capacity=10)
        body = {"client_id": 42, "product_id": product, "billing_cycle": "monthly"}
        made = at_once(server, [("POST", "/services", body)] * 50)
        assert Counter(each.status_code for each in made) == {201: 10, 409: 40}
        ids = [each.json()["data"]["id"] for each in made if each.status_code == 201]
        both = [("POST", f"/services/{id}/terminate", None) for id in ids] * 3
        ended = at_once(server, both + [("POST", "/services", body)] * 10)
        assert sum(each.status_code == 200 for each in ended[:30]) == 10
        used = server.inside(lambda db: servers.get(db, where)).used
        assert used == server.count(services.Service, server_id=where, status="active")


class TestDeleteAgainstCreate:
    MAKES: tuple[tuple[str, Callable[[int], Any]], ...] = (
        (
            "/invoices",
            lambda owner: {"client_id": owner, "due_date": factories.DUE, "items": [making_line()]},
        ),
        ("/services", lambda owner: {"client_id": owner, "product_id": 2, "billing_cycle": "monthly"}),
        ("/tickets", lambda owner: {"client_id": owner, "department_id": 1, "subject": "x", "message": "x"}),
    )

    @pytest.mark.parametrize(
        ("path", "body"), MAKES, ids=lambda each: str(each) if isinstance(each, str) else ""
    )
    def test_nothing_is_made_for_a_client_who_is_gone(
        self, server: Running, admin: Api, path: str, body: Callable[[int], Any]
    ) -> None:
        for _ in range(4):
            id = factories.client(admin)
            calls = [("POST", path, body(id))] * 4 + [("DELETE", f"/clients/{id}", None)]
            calls += [("POST", path, body(id))] * 4
            answers = [each.status_code for each in at_once(server, calls)]
            deleted, made = answers[4] == 200, answers[:4] + answers[5:]
            assert set(made) <= {201, 404, 409} and answers[4] in (200, 409)
            if deleted:
                assert admin.get(f"/clients/{id}").status_code == 404
            if path != "/tickets":
                # An invoice or a service keeps its client.
                assert not (deleted and 201 in made)


def making_line() -> dict[str, str]:
    return {"description": "x", "amount": "1.00"}
