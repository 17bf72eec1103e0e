"""Tickets: two bodies on one operation, replies in their order, numbers that differ."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import func, select

from persistence.tickets import REPLIES, TABLE
from tests.support import factories
from tests.support.contract_client import Api
from tests.support.live_server import Running

OPEN = {"subject": "Help needed", "message": "I need assistance with...", "department_id": 1}


class TestCreateTicket:
    def test_a_client_gets_the_documented_answer(self, client: Api) -> None:
        response = client.post("/tickets", OPEN)
        body = response.json()
        assert response.status_code == 201
        assert body == {
            "success": True,
            "ticket_id": body["ticket_id"],
            "ticket_number": body["ticket_number"],
        }
        ticket = client.get(f"/tickets/{body['ticket_id']}").json()
        assert (ticket["priority_id"], ticket["status"], ticket["replies"]) == (2, "open", [])

    def test_the_operator_opens_one_for_a_client(self, admin: Api, client: Api) -> None:
        response = admin.post("/tickets", OPEN | {"client_id": 42, "priority": "high"})
        ticket = response.json()["data"]
        assert (ticket["priority"], ticket["client_id"]) == ("high", 42)
        assert client.get(f"/tickets/{ticket['id']}").json()["priority_id"] == 3

    @pytest.mark.parametrize(("id", "name"), [(1, "low"), (2, "medium"), (3, "high")])
    def test_priorities_are_the_same_in_both_dialects(
        self, client: Api, admin: Api, id: int, name: str
    ) -> None:
        made = client.post("/tickets", OPEN | {"priority_id": id}).json()["ticket_id"]
        assert admin.get(f"/tickets/{made}").json()["data"]["priority"] == name

    def test_each_dialect_refuses_the_others_members(self, client: Api, admin: Api) -> None:
        for member in ({"client_id": 43}, {"priority": "high"}):
            response = client.post("/tickets", OPEN | member)
            assert response.status_code == 400
            assert response.json()["details"][0]["pointer"] == f"/{next(iter(member))}"
        response = admin.post("/tickets", OPEN | {"client_id": 42, "priority_id": 3})
        assert response.status_code == 400

    @pytest.mark.parametrize("name", list(OPEN))
    def test_a_missing_member_is_422_for_a_client_and_400_for_the_operator(
        self, client: Api, admin: Api, name: str
    ) -> None:
        body = {key: value for key, value in OPEN.items() if key != name} | {"unknown": 1}
        response = client.post("/tickets", body)
        assert response.status_code == 422
        assert response.json()["error"] == f"The {name} field is required."
        response = admin.post("/tickets", body | {"client_id": 42})
        assert response.status_code == 400
        assert response.json()["error"]["message"] == f"The {name} field is required."

    def test_no_body_at_all_names_every_required_member(self, client: Api, admin: Api) -> None:
        response = client.post("/tickets")
        assert response.status_code == 422
        assert [each["pointer"] for each in response.json()["details"]] == [
            "/subject",
            "/message",
            "/department_id",
        ]
        assert admin.post("/tickets").status_code == 400

    def test_a_missing_department_is_404_an_inactive_one_409(self, client: Api) -> None:
        assert client.post("/tickets", OPEN | {"department_id": 999_999}).status_code == 404
        assert client.post("/tickets", OPEN | {"department_id": 4}).status_code == 409

    def test_numbers_differ_under_load(self, client: Api) -> None:
        with ThreadPoolExecutor(10) as pool:
            numbers = list(
                pool.map(lambda _: client.post("/tickets", OPEN).json()["ticket_number"], range(40))
            )
        assert len(set(numbers)) == 40

    def test_texts_come_back_as_they_were_written(self, client: Api) -> None:
        line = "<script>&amp;'\"\\ 🦊 ' OR 1=1 --"
        text = f"Zeile 1\n\tZeile 2 {line}"
        id = client.post("/tickets", OPEN | {"message": text, "subject": line}).json()["ticket_id"]
        ticket = client.get(f"/tickets/{id}").json()
        assert (ticket["message"], ticket["subject"]) == (text, line)


class TestReplyToTicket:
    def test_replies_stand_oldest_first_with_their_authors(self, client: Api, admin: Api) -> None:
        id = factories.ticket(admin)
        for nth, api in enumerate([admin, client, client, admin]):
            response = api.post(f"/tickets/{id}/reply", {"message": f"Reply {nth}"})
            assert response.status_code == 201
        replies = client.get(f"/tickets/{id}").json()["replies"]
        assert [each["message"] for each in replies] == [f"Reply {nth}" for nth in range(4)]
        assert [each["author"] for each in replies] == ["staff", "client", "client", "staff"]

    def test_a_refused_reply_leaves_nothing(self, admin: Api, other: Api) -> None:
        id = factories.ticket(admin, "closed")
        before = admin.get(f"/tickets/{id}").json()
        assert admin.post(f"/tickets/{id}/reply", {"message": "No"}).status_code == 409
        assert other.post(f"/tickets/{id}/reply", {"message": "No"}).status_code == 403
        assert admin.get(f"/tickets/{id}").json() == before

    def test_a_missing_message_is_422_an_empty_one_400(self, client: Api, admin: Api) -> None:
        id = factories.ticket(admin)
        assert client.post(f"/tickets/{id}/reply", {}).status_code == 422
        assert client.post(f"/tickets/{id}/reply", {"message": ""}).status_code == 400
        assert admin.post(f"/tickets/{id}/reply", {}).status_code == 400


class TestListTickets:
    def test_a_client_gets_all_of_its_own(self, client: Api, admin: Api) -> None:
        body = client.get("/tickets").json()
        assert body.keys() == {"data", "count"}
        assert body["count"] == admin.get("/tickets", client_id=42, limit=1).json()["meta"]["total"]
        assert [row["id"] for row in body["data"]] == sorted(
            (row["id"] for row in body["data"]), reverse=True
        )

    def test_filters_hold(self, admin: Api) -> None:
        rows = admin.get("/tickets", status="closed", department_id=2, limit=100).json()["data"]
        assert rows
        assert all(row["status"] == "closed" and row["department_id"] == 2 for row in rows)


class TestReplies:
    def test_a_ticket_shows_its_latest_thirty_oldest_first(self, admin: Api, client: Api) -> None:
        id = thread(admin, 33)
        for api in (admin, client):
            answer = api.get(f"/tickets/{id}").json()
            shown = [each["message"] for each in answer.get("data", answer)["replies"]]
            assert shown == [f"Reply {number}" for number in range(3, 33)]

    def test_the_list_pages_through_all_newest_first(self, admin: Api, client: Api) -> None:
        id = thread(admin, 33)
        for api, dialect in ((admin, "admin"), (client, "client")):
            path, seen = f"/tickets/{id}/replies?limit=10", []
            while path:
                answer = api.get(path)
                body = answer.json()
                assert (body["meta"] if dialect == "admin" else body)["total"] == 33
                seen += [each["message"] for each in body["data"]]
                path = answer.links.get("next", {}).get("url", "").removeprefix("/api/v1")
            assert seen == [f"Reply {number}" for number in reversed(range(33))]

    def test_it_goes_on_where_the_ticket_ends(self, client: Api, admin: Api) -> None:
        id = thread(admin, 31)
        oldest = client.get(f"/tickets/{id}").json()["replies"][0]["id"]
        older = client.get(f"/tickets/{id}/replies", after=oldest).json()["data"]
        assert [each["message"] for each in older] == ["Reply 0"]

    def test_a_page_has_thirty_at_most(self, client: Api, admin: Api) -> None:
        id = thread(admin, 31)
        answer = client.get(f"/tickets/{id}/replies", limit=100).json()
        assert (len(answer["data"]), answer["limit"], answer["pages"]) == (30, 30, 2)

    def test_replying_to_another_clients_ticket_is_403_however_long_it_is(
        self, client: Api, other: Api, admin: Api
    ) -> None:
        id = thread(admin, 31)
        for path, body in ((f"/tickets/{id}/reply", {"message": "Mine"}), (f"/tickets/{id}/close", None)):
            assert other.post(path, body).status_code == 403
        assert other.get(f"/tickets/{id}/replies").status_code == 403

    def test_every_ticket_counts_its_replies(self, server: Running, admin: Api) -> None:
        thread(admin, 2)
        counted = select(func.count()).where(REPLIES.c.ticket_id == TABLE.c.id).scalar_subquery()
        wrong = select(TABLE.c.id).where(TABLE.c.reply_count != counted)
        assert server.inside(lambda db: db.fetch_all(wrong)) == []
        assert admin.get("/tickets/15/replies").json()["meta"]["total"] == 1


class TestEvents:
    @pytest.mark.parametrize(("length", "shown"), [(5_000, 5_000), (5_001, 5_000), (20_000, 5_000)])
    def test_an_event_holds_the_beginning_of_a_long_message(
        self, admin: Api, length: int, shown: int
    ) -> None:
        body = {"client_id": 42, "department_id": 1, "subject": "Long", "message": "\N{FOX FACE}" * length}
        assert admin.post("/tickets", body).status_code == 201
        message = admin.get(f"/events/{factories.newest_event(admin)}").json()["data"]["data"]["message"]
        assert len(message) == shown
        assert message.endswith("…") == (length > shown)


def thread(admin: Api, replies: int) -> int:
    """The id of a new ticket with so many replies of the staff."""
    id = factories.ticket(admin)
    for number in range(replies):
        assert admin.post(f"/tickets/{id}/reply", {"message": f"Reply {number}"}).status_code == 201
    return id
