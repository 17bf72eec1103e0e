"""Events: one for each change and none for any other, told to whom it concerns, and read without a gap."""

import asyncio
import re
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from typing import Any

import pytest
from sqlalchemy import insert, select

from handlers import clients, invoices, services, tickets
from handlers.dialects import Views
from persistence import deliveries, delivery_queue, events, migrations
from persistence import webhooks as endpoints
from persistence.database import Connection, Database
from persistence.deliveries import Delivery
from persistence.departments import Department
from persistence.engines import connect
from persistence.errors import Conflict
from persistence.events import Event
from persistence.invoices import Invoice
from tests.conftest import new_database
from tests.support import factories
from tests.support.contract_client import DOCUMENT, Api
from tests.support.live_server import ADMIN, Running

EVENTS = DOCUMENT["components"]["schemas"]["EventName"]["enum"]
NOW = datetime(2027, 1, 1, tzinfo=UTC)
MISSING = 999_999


def data(response: Any) -> dict[str, Any]:
    """The data of a success."""
    assert response.status_code in (200, 201), response.text
    return dict(response.json()["data"])


def without(body: dict[str, Any], name: str) -> dict[str, Any]:
    return {key: value for key, value in body.items() if key != name}


# A change that is ready to be made: making it answers what its event is to tell.
Change = Callable[[], dict[str, Any]]


def a_new_client(admin: Api, client: Api) -> Change:
    return lambda: data(admin.get(f"/clients/{factories.client(admin)}"))


def a_new_service(admin: Api, client: Api) -> Change:
    return lambda: data(admin.get(f"/services/{factories.service(admin)}"))


def a_suspended_service(admin: Api, client: Api) -> Change:
    id = factories.service(admin)
    return lambda: data(admin.post(f"/services/{id}/suspend", {"reason": "Größe 大阪 / 🦊"}))


def a_terminated_service(admin: Api, client: Api) -> Change:
    id = factories.service(admin)
    return lambda: data(admin.post(f"/services/{id}/terminate"))


def a_new_invoice(admin: Api, client: Api) -> Change:
    return lambda: without(data(admin.get(f"/invoices/{factories.invoice(admin)}")), "items")


def a_late_invoice(admin: Api, client: Api) -> Change:
    return lambda: without(data(admin.get(f"/invoices/{factories.invoice(admin, 'overdue')}")), "items")


def a_paid_invoice(admin: Api, client: Api) -> Change:
    id = factories.invoice(admin)

    def change() -> dict[str, Any]:
        paid = data(admin.post(f"/invoices/{id}/pay"))
        return {name: paid[name] for name in ("id", "client_id", "total", "currency")}

    return change


def a_ticket_of_the_operators(admin: Api, client: Api) -> Change:
    return lambda: without(data(admin.get(f"/tickets/{factories.ticket(admin)}")), "replies")


def a_ticket_of_a_client(admin: Api, client: Api) -> Change:
    def change() -> dict[str, Any]:
        body = {"subject": "DNS", "message": "Help", "department_id": 2, "priority_id": 3}
        id = client.post("/tickets", body).json()["ticket_id"]
        return without(data(admin.get(f"/tickets/{id}")), "replies")

    return change


def a_reply_of_the_staff(admin: Api, client: Api) -> Change:
    id = factories.ticket(admin)
    return lambda: without(data(admin.post(f"/tickets/{id}/reply", {"message": "Like this."})), "replies")


def a_reply_of_a_client(admin: Api, client: Api) -> Change:
    id = factories.ticket(admin, "closed")

    def change() -> dict[str, Any]:
        assert client.post(f"/tickets/{id}/reply", {"message": "Once more."}).status_code == 201
        return without(data(admin.get(f"/tickets/{id}")), "replies")

    return change


CHANGES = [
    ("client.created", a_new_client),
    ("service.created", a_new_service),
    ("service.suspended", a_suspended_service),
    ("service.terminated", a_terminated_service),
    ("invoice.created", a_new_invoice),
    ("invoice.created", a_late_invoice),
    ("invoice.paid", a_paid_invoice),
    ("ticket.opened", a_ticket_of_the_operators),
    ("ticket.opened", a_ticket_of_a_client),
    ("ticket.replied", a_reply_of_the_staff),
    ("ticket.replied", a_reply_of_a_client),
]
every_change = pytest.mark.parametrize(
    ("event", "prepare"), CHANGES, ids=[prepare.__name__ for _, prepare in CHANGES]
)


def after(admin: Api, last: int) -> list[dict[str, Any]]:
    """The events since then."""
    return list(admin.get("/events", after=last, limit=100).json()["data"])


def told(admin: Api, id: int) -> list[dict[str, Any]]:
    """The deliveries to a webhook."""
    return list(admin.get(f"/webhooks/{id}/deliveries", limit=100).json()["data"])


class TestCallers:
    @pytest.mark.parametrize("path", ["/events", "/events/1"])
    def test_who_may_not_read_them(
        self, nobody: Api, client: Api, admin: Api, server: Running, path: str
    ) -> None:
        assert nobody.get(path).status_code == 401
        assert client.get(path).status_code == 403
        body = {"name": "x", "scopes": ["webhooks:read", "webhooks:write"]}
        reader = Api(server.url, data(admin.post("/api-keys", body))["key"])
        assert reader.get(path).status_code == 403
        reader.close()

    def test_what_does_not_exist_is_404(self, admin: Api) -> None:
        assert admin.get(f"/events/{MISSING}").status_code == 404
        assert admin.get("/events/evt_1").status_code == 400


class TestChanges:
    def test_there_is_one_for_each_event(self) -> None:
        assert list(dict.fromkeys(event for event, _ in CHANGES)) == EVENTS

    @every_change
    def test_each_makes_one_event_with_the_documented_payload(
        self, admin: Api, client: Api, server: Running, event: str, prepare: Callable[[Api, Api], Change]
    ) -> None:
        server.clock.fixed = NOW
        change = prepare(admin, client)
        last = factories.newest_event(admin)
        expected = change()
        (made,) = after(admin, last)
        assert re.fullmatch(r"evt_[0-9A-HJKMNP-TV-Z]{26}", made["uid"])
        assert made == {
            "id": made["id"],
            "uid": made["uid"],
            "event": event,
            "timestamp": "2027-01-01T00:00:00Z",
            "data": expected,
        }
        assert data(admin.get(f"/events/{made['id']}")) == made

    @every_change
    def test_it_is_told_once_to_each_active_webhook_that_wants_it(
        self, admin: Api, client: Api, event: str, prepare: Callable[[Api, Api], Change]
    ) -> None:
        change = prepare(admin, client)
        others = [each for each in EVENTS if each != event]
        wants, all_, inactive, other = (
            factories.webhook(admin, events=[event]),
            factories.webhook(admin, events=EVENTS),
            factories.webhook(admin, events=EVENTS, active=False),
            factories.webhook(admin, events=others),
        )
        last = factories.newest_event(admin)
        change()
        (made,) = after(admin, last)
        for id in (wants, all_):
            (delivery,) = told(admin, id)
            assert (delivery["event_id"], delivery["message_id"]) == (made["id"], made["uid"])
            assert (delivery["event"], delivery["status"]) == (event, "pending")
        assert told(admin, inactive) == told(admin, other) == []


NEW_INVOICE = {
    "client_id": 42,
    "due_date": "2035-01-31",
    "items": [{"description": "Hosting", "amount": "29.99"}],
}
NEW_TICKET = {"client_id": 42, "department_id": 2, "subject": "DNS", "message": "Help"}
NEW_SERVICE = {"client_id": 42, "product_id": 2, "billing_cycle": "monthly"}
JANE = {"first_name": "Jane", "last_name": "Smith", "email": "JANE@example.com", "password": "correct horse"}


class TestRefusals:
    """What is refused, and what the documents have no event for, makes none."""

    @pytest.mark.parametrize(
        ("path", "body", "status"),
        [
            ("/clients", JANE, 409),
            ("/clients", JANE | {"email": "nobody"}, 400),
            ("/services", NEW_SERVICE | {"client_id": MISSING}, 404),
            ("/services", NEW_SERVICE | {"product_id": 4}, 409),
            ("/services", NEW_SERVICE | {"billing_cycle": "weekly"}, 400),
            (f"/services/{MISSING}/suspend", None, 404),
            (f"/services/{MISSING}/terminate", None, 404),
            ("/invoices", NEW_INVOICE | {"client_id": MISSING}, 404),
            ("/invoices", NEW_INVOICE | {"items": []}, 400),
            (f"/invoices/{MISSING}/pay", None, 404),
            ("/tickets", NEW_TICKET | {"department_id": 4}, 409),
            ("/tickets", NEW_TICKET | {"department_id": MISSING}, 404),
            ("/tickets", NEW_TICKET | {"subject": ""}, 400),
            (f"/tickets/{MISSING}/reply", {"message": "x"}, 404),
            ("/tickets/15/reply", {}, 400),
        ],
    )
    def test_the_operators(self, admin: Api, path: str, body: Any, status: int) -> None:
        last = factories.newest_event(admin)
        assert admin.post(path, body).status_code == status
        assert after(admin, last) == []

    def test_verbs_in_a_state_that_forbids_them(self, admin: Api) -> None:
        paths = [
            (f"/invoices/{factories.invoice(admin, 'paid')}/pay", None),
            (f"/services/{factories.service(admin, 'suspended')}/suspend", None),
            (f"/services/{factories.service(admin, 'terminated')}/terminate", None),
            (f"/tickets/{factories.ticket(admin, 'closed')}/reply", {"message": "x"}),
        ]
        last = factories.newest_event(admin)
        for path, body in paths:
            assert admin.post(path, body).status_code == 409, path
        assert after(admin, last) == []

    def test_what_is_not_the_callers_own(self, admin: Api, other: Api, nobody: Api, server: Running) -> None:
        ticket, invoice = factories.ticket(admin), factories.invoice(admin)
        body = {"name": "x", "scopes": ["invoices:read"]}
        reader = Api(server.url, data(admin.post("/api-keys", body))["key"])
        last = factories.newest_event(admin)
        assert other.post(f"/tickets/{ticket}/reply", {"message": "x"}).status_code == 403
        assert other.post(f"/invoices/{invoice}/pay").status_code == 403
        assert reader.post(f"/invoices/{invoice}/pay").status_code == 403
        assert nobody.post(f"/invoices/{invoice}/pay").status_code == 401
        assert after(admin, last) == []
        reader.close()

    def test_changes_that_have_no_event(self, admin: Api) -> None:
        id, service, ticket = (
            factories.client(admin),
            factories.service(admin, "suspended"),
            factories.ticket(admin),
        )
        last = factories.newest_event(admin)
        assert admin.post(f"/services/{service}/unsuspend").status_code == 200
        assert admin.post(f"/tickets/{ticket}/close").status_code == 200
        assert admin.put(f"/clients/{id}", {"city": "Leeds"}).status_code == 200
        assert admin.request("DELETE", f"/clients/{id}").status_code == 200
        assert after(admin, last) == []


class TestBreaches:
    """An answer or an event that breaks the contract is a 500: nothing happened, so nobody is told."""

    @every_change
    def test_an_answer_that_breaks_the_contract_takes_its_event_along(
        self,
        admin: Api,
        client: Api,
        server: Running,
        monkeypatch: pytest.MonkeyPatch,
        event: str,
        prepare: Callable[[Api, Api], Change],
    ) -> None:
        factories.webhook(admin, events=EVENTS)
        change = prepare(admin, client)
        wrong = Views(client=lambda *_: {"wrong": 1}, admin=lambda *_: {"wrong": 1})
        before = server.count(Event), server.count(Delivery)
        for module, name in (
            *((each, "VIEWS") for each in (clients, services, invoices, tickets)),
            (tickets, "OPENED"),
        ):
            monkeypatch.setattr(module, name, wrong)
        with pytest.raises((AssertionError, KeyError)):
            change()
        assert (server.count(Event), server.count(Delivery)) == before

    def test_an_event_that_breaks_the_contract_takes_its_change_along(
        self, admin: Api, server: Running, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        id, before = factories.invoice(admin), server.count(Event)
        monkeypatch.setattr(invoices, "_paid", lambda row: {"id": row.id, "total": 29.99})
        assert admin.post(f"/invoices/{id}/pay").status_code == 500
        assert server.count(Event) == before
        assert server.count(Invoice, id=id, status="unpaid") == 1


class TestReading:
    def test_they_come_in_pages_oldest_first(self, admin: Api) -> None:
        last = factories.newest_event(admin)
        ids = [factories.event(admin) for _ in range(5)]
        seen: list[int] = []
        path: str | None = f"/events?limit=2&after={last}"
        while path:
            page = admin.get(path)
            seen += [each["id"] for each in page.json()["data"]]
            link = page.links.get("next", {}).get("url")
            path = link.removeprefix("/api/v1") if link else None
        assert seen == ids
        assert after(admin, seen[-1]) == []
        first = [each["id"] for each in admin.get("/events").json()["data"]]
        assert first[0] == 1 and first == sorted(first)
        second = admin.get("/events", page=2, limit=1).json()
        assert (second["data"][0]["id"], second["meta"]["page"]) == (first[1], 2)

    def test_they_are_found_by_their_name(self, admin: Api) -> None:
        factories.invoice(admin, "paid")
        for name in EVENTS[:6]:
            page = admin.get("/events", type=name, limit=1)
            assert {each["event"] for each in page.json()["data"]} <= {name}
            if "next" in page.links:
                assert f"type={name}" in page.links["next"]["url"]
        for wrong in ("invoice.lost", "", "*"):
            assert admin.get("/events", type=wrong).status_code == 400
        assert admin.get("/events", event="invoice.paid").status_code == 400

    def test_those_of_the_demo_are_told_in_its_log(self, admin: Api) -> None:
        first = data(admin.get("/events/1"))
        assert first["event"] == "invoice.paid"
        paid = data(admin.get(f"/invoices/{first['data']['id']}"))
        assert (paid["status"], paid["paid_at"]) == ("paid", first["timestamp"])
        demo = [each for each in told(admin, 1) if each["id"] in (1, 2)]
        assert [each["test"] for each in demo] == [True, False]
        assert [len(each["attempts"]) for each in demo] == [1, 2]


class TestManyAtOnce:
    def test_each_change_has_its_event_and_each_delivery_its_row(self, admin: Api, server: Running) -> None:
        ids = [factories.webhook(admin, events=["client.created"]) for _ in range(2)]
        last = factories.newest_event(admin)

        def create(_: int) -> int:
            api = Api(server.url, ADMIN)
            made = factories.client(api)
            api.close()
            return made

        with ThreadPoolExecutor(20) as pool:
            made = list(pool.map(create, range(20)))
        found = after(admin, last)
        assert sorted(each["data"]["id"] for each in found) == sorted(made)
        assert [each["id"] for each in found] == sorted({each["id"] for each in found})
        for id in ids:
            told_of = [each["event_id"] for each in told(admin, id)]
            assert sorted(told_of) == [each["id"] for each in found]


# --- On the database itself --------------------------------------------------------------------------


Work = Callable[[Database], Awaitable[Any]]
OTHER_WRITE = insert(Department).values(dict.fromkeys(["name", "status"]))


@pytest.fixture
def run(backend: str, tmp_path: Path, request: pytest.FixtureRequest) -> Callable[[Work], Any]:
    """Runs ``work(database)`` on a database of its own, in a loop of its own."""
    postgres = request.getfixturevalue("postgres") if backend == "postgresql" else None
    url = new_database(backend, tmp_path, postgres)
    migrations.upgrade(url)

    async def inside(work: Work) -> Any:
        database = connect(url)
        await database.open()
        try:
            return await asyncio.wait_for(work(database), 60)
        finally:
            await database.close()

    return lambda work: asyncio.run(inside(work))


async def record(db: Connection, uid: str) -> int:
    """Write an event down, and whom to tell."""
    await events.add(db, uid=uid, event="invoice.paid", base="{}", now=NOW)
    row = await db.fetch_one(select(events.TABLE.c.id).where(events.TABLE.c.uid == uid))
    assert row is not None
    return int(row.id)


async def read_on(database: Database, last: int) -> list[int]:
    """The ids of the events behind the last one seen."""
    async with database.reading() as db:
        found = await events.page(db, page=1, limit=100, after=last, event=None)
    return [row.id for row in found.rows]


class TestOrder:
    # SQLite has one writer at a time.
    @pytest.mark.parametrize("backend", ["postgresql"], indirect=True, scope="session")
    def test_ids_are_in_the_order_of_commits_not_of_beginnings(self, run: Callable[[Work], Any]) -> None:
        async def work(database: Database) -> None:
            began, may_commit = asyncio.Event(), asyncio.Event()
            done: list[str] = []

            async def first() -> int:
                async with database.transaction() as db:
                    await db.execute(OTHER_WRITE, name="First", status="active")
                    began.set()
                    await asyncio.sleep(0.2)
                    id = await record(db, "first")
                done.append("first")
                return id

            async def second() -> int:
                await began.wait()
                async with database.transaction() as db:
                    await db.execute(OTHER_WRITE, name="Second", status="active")
                    id = await record(db, "second")
                    await may_commit.wait()
                done.append("second")
                return id

            tasks = [asyncio.create_task(first()), asyncio.create_task(second())]
            await asyncio.sleep(0.6)
            # The first waits for its turn, so no reader can see it, pass on, and miss the second.
            assert await read_on(database, 0) == []
            may_commit.set()
            ids = await asyncio.gather(*tasks)
            assert done == ["second", "first"]
            assert ids[1] < ids[0]
            assert await read_on(database, 0) == [ids[1], ids[0]]

        run(work)

    def test_who_reads_on_misses_none_and_sees_none_twice(self, run: Callable[[Work], Any]) -> None:
        chance = Random(7)
        pauses = [(chance.random() / 20, chance.random() / 50) for _ in range(40)]

        async def work(database: Database) -> None:
            async def change(nth: int) -> int | None:
                before, after_ = pauses[nth]
                await asyncio.sleep(before)
                try:
                    async with database.transaction() as db:
                        await db.execute(OTHER_WRITE, name=f"D{nth}", status="active")
                        await asyncio.sleep(before)
                        id = await record(db, f"evt_{nth}")
                        await asyncio.sleep(after_)
                        if nth % 5 == 0:
                            raise Conflict("It is taken back.")
                except Conflict:
                    return None
                return id

            over = asyncio.Event()

            async def read() -> list[int]:
                seen: list[int] = []
                while True:
                    last_round = over.is_set()
                    seen += await read_on(database, seen[-1] if seen else 0)
                    if last_round:
                        return seen
                    await asyncio.sleep(0.001)

            readers = [asyncio.create_task(read()) for _ in range(3)]
            made = await asyncio.gather(*[change(nth) for nth in range(40)])
            over.set()
            expected = sorted(id for id in made if id is not None)
            assert len(expected) == 32
            for reader in readers:
                assert await reader == expected

        run(work)

    def test_a_webhook_that_is_deleted_meanwhile_fails_no_change(self, run: Callable[[Work], Any]) -> None:
        async def work(database: Database) -> None:
            async with database.transaction() as db:
                made = [
                    await endpoints.create(db, url=url, events=["invoice.paid"], active=True, now=NOW)
                    for url in ("https://a.example.com", "https://b.example.com")
                ]
            deleted = asyncio.Event()

            async def delete() -> None:
                async with database.transaction() as db:
                    await endpoints.delete(db, made[0].id)
                    deleted.set()
                    await asyncio.sleep(0.2)

            async def change() -> int:
                await deleted.wait()
                async with database.transaction() as db:
                    return await record(db, "evt_1")

            _, id = await asyncio.gather(delete(), change())
            async with database.reading() as db:
                left = [
                    await deliveries.page(db, each.id, status=None, page=1, limit=9, after=None)
                    for each in made
                ]
            assert [[row.event_id for row in page.rows] for page in left] == [[], [id]]

        run(work)

    def test_a_result_that_comes_after_its_webhook_is_deleted_is_dropped(
        self, run: Callable[[Work], Any]
    ) -> None:
        async def work(database: Database) -> None:
            async with database.transaction() as db:
                made = await endpoints.create(
                    db, url="https://a.example.com", events=["invoice.paid"], active=True, now=NOW
                )
                await record(db, "evt_1")
            async with database.reading() as db:
                (delivery,) = (
                    await deliveries.page(db, made.id, status=None, page=1, limit=9, after=None)
                ).rows
            deleted = asyncio.Event()

            async def delete() -> None:
                async with database.transaction() as db:
                    await endpoints.delete(db, made.id)
                    deleted.set()
                    await asyncio.sleep(0.2)

            async def settle() -> None:
                await deleted.wait()
                async with database.transaction() as db:
                    entry = {
                        "key": delivery.id,
                        "at": NOW,
                        "code": 200,
                        "took": 1,
                        "text": "ok",
                        "fault": None,
                    }
                    await delivery_queue.log(db, [entry])

            await asyncio.gather(delete(), settle())
            async with database.reading() as db:
                assert (await deliveries.attempts(db, [delivery], 20))[delivery.id] == []

        run(work)
