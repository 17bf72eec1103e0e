"""A request with an Idempotency-Key is done once, and answered the same however often it is sent."""

import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from secrets import token_hex
from typing import Any

import httpx
import pytest
from sqlalchemy import delete, func, select

from openapi import contract
from persistence import events, idempotency, invoices, tokens
from persistence.engines import limits
from server import app
from server.request import idempotency as idempotency_of_requests
from tests.api.test_auth import example_body, fresh
from tests.support import factories
from tests.support.contract_client import DOCUMENT, Api
from tests.support.live_server import Running

POSTS = [each for each in contract.operations(DOCUMENT) if each.method == "post"]


def keyed(api: Api, path: str, body: Any = None, key: str | None = None) -> httpx.Response:
    """A POST with a key, which is a new one unless it is given."""
    options = {} if body is None else {"json": body}
    return api.request("POST", path, headers={"Idempotency-Key": key or token_hex(8)}, **options)


def ticket(subject: str = "Help") -> dict[str, Any]:
    return {"subject": subject, "message": "Please", "department_id": 1}


class TestTheContract:
    def test_every_post_takes_a_key(self) -> None:
        assert len(POSTS) >= 20
        for each in POSTS:
            names = [contract.deref(DOCUMENT, one)["name"] for one in each.spec["parameters"]]
            assert "Idempotency-Key" in names, each.id
            assert "409" in each.spec["responses"], each.id


class TestReplay:
    def test_the_same_request_is_done_once_and_answered_in_the_same_bytes(
        self, server: Running, admin: Api
    ) -> None:
        id, key = factories.invoice(admin), token_hex(8)
        answers = [keyed(admin, f"/invoices/{id}/pay", key=key) for _ in range(3)]
        assert [each.status_code for each in answers] == [200] * 3
        assert len({each.content for each in answers}) == 1
        assert [each.headers.get("Idempotent-Replayed") for each in answers] == [None, "true", "true"]
        assert len({each.headers["ETag"] for each in answers}) == 1
        assert len({each.headers["X-Request-Id"] for each in answers}) == 3
        assert server.count(invoices.Payment, invoice_id=id) == 1
        assert len([each for each in _events(server, "invoice.paid") if f'"id":{id},' in each]) == 1

    def test_a_replay_tells_the_answer_of_then(self, admin: Api) -> None:
        key = token_hex(8)
        body = {"name": "Sales"}
        made = keyed(admin, "/departments", body, key).json()["data"]
        admin.put(f"/departments/{made['id']}", {"name": "Other"})
        assert keyed(admin, "/departments", body, key).json()["data"] == made

    def test_a_key_in_quotes_is_the_same_key(self, admin: Api) -> None:
        key = token_hex(8)
        first = keyed(admin, "/departments", {"name": "Sales"}, key)
        again = keyed(admin, "/departments", {"name": "Sales"}, f'"{key}"')
        assert first.content == again.content
        assert again.headers["Idempotent-Replayed"] == "true"

    def test_another_request_with_the_key_is_refused(self, admin: Api) -> None:
        key = token_hex(8)
        assert keyed(admin, "/departments", {"name": "Sales"}, key).status_code == 201
        for path, body in (("/departments", {"name": "Other"}), ("/servers", {"name": "Sales"})):
            response = keyed(admin, path, body, key)
            # Input is judged before the key is looked at.
            assert response.status_code == (409 if path == "/departments" else 400)
        assert (
            "Idempotency-Key" in keyed(admin, "/departments", {"name": "x"}, key).json()["error"]["message"]
        )

    def test_a_refusal_is_not_kept(self, admin: Api) -> None:
        key = token_hex(8)
        body = {"client_id": 999_999, "due_date": factories.DUE, "items": [{"description": "x", "amount": 1}]}
        assert keyed(admin, "/invoices", body, key).status_code == 404
        assert keyed(admin, "/invoices", body | {"client_id": 42}, key).status_code == 201

    def test_the_key_outranks_the_object(self, admin: Api) -> None:
        key = token_hex(8)
        assert keyed(admin, "/departments", {"name": "Sales"}, key).status_code == 201
        assert keyed(admin, "/invoices/999999/pay", key=key).status_code == 409

    def test_callers_have_keys_of_their_own(self, client: Api, other: Api, admin: Api) -> None:
        key = token_hex(8)
        answers = [keyed(each, "/tickets", ticket(), key) for each in (client, other)]
        answers.append(keyed(admin, "/tickets", ticket() | {"client_id": 42}, key))
        assert [each.status_code for each in answers] == [201] * 3
        assert all("Idempotent-Replayed" not in each.headers for each in answers)

    def test_a_clients_new_token_knows_the_keys_of_its_old_one(self, server: Running, client: Api) -> None:
        key = token_hex(8)
        first = keyed(client, "/tickets", ticket(), key)
        secret = "cbt_"

        async def mint(db: Any) -> str:
            import secrets

            from persistence import credentials

            made = credentials.mint("cbt_", secrets.choice)
            await tokens.create(db, 42, made, app.now())
            return made

        secret = server.inside(mint, write=True)
        again = httpx.post(
            f"{server.url}/tickets",
            json=ticket(),
            headers={"Authorization": f"Bearer {secret}", "Idempotency-Key": key},
        )
        # httpx writes the same JSON in the same bytes.
        assert again.content == first.content
        assert again.headers["Idempotent-Replayed"] == "true"

    def test_after_72_hours_the_key_is_new(self, server: Running, admin: Api) -> None:
        key, start = token_hex(8), app.now()
        server.clock.fixed = start
        first = keyed(admin, "/departments", {"name": "Sales"}, key).json()["data"]["id"]
        server.clock.fixed = start + timedelta(hours=72)
        assert keyed(admin, "/departments", {"name": "Sales"}, key).json()["data"]["id"] == first
        server.clock.fixed = start + timedelta(hours=72, seconds=1)
        assert keyed(admin, "/departments", {"name": "Other"}, key).json()["data"]["id"] != first

    @pytest.mark.parametrize("key", ["", "a b", "ä", "x" * 256, '"' + "x" * 256 + '"'])
    def test_a_key_of_another_form_is_refused(self, server: Running, key: str) -> None:
        headers = {b"Authorization": b"Bearer demo-admin-key", b"Idempotency-Key": key.encode()}
        response = httpx.post(f"{server.url}/departments", json={"name": "x"}, headers=headers)
        assert response.status_code == 400
        assert response.json()["error"]["details"][0]["pointer"] == "/Idempotency-Key"

    @pytest.mark.parametrize("key", ["x", "0", "!", "~" * 255, '"' + "x" * 255 + '"', '"'])
    def test_a_key_of_this_form_is_taken(self, admin: Api, key: str) -> None:
        assert keyed(admin, "/departments", {"name": "x"}, key).status_code in (201, 409)

    def test_two_keys_are_refused(self, server: Running) -> None:
        headers = [("Authorization", "Bearer demo-admin-key"), *[("Idempotency-Key", each) for each in "ab"]]
        assert httpx.post(f"{server.url}/departments", json={"name": "x"}, headers=headers).status_code == 400

    def test_a_secret_in_a_kept_answer_lies_sealed(self, server: Running, admin: Api) -> None:
        key = token_hex(8)
        body = {"name": "x", "scopes": ["services:read"]}
        made = keyed(admin, "/api-keys", body, key).json()["data"]["key"]
        assert keyed(admin, "/api-keys", body, key).json()["data"]["key"] == made
        rows = server.inside(lambda db: db.fetch_all(idempotency.TABLE.select()))
        assert rows and not any(made in str(row) for row in rows)


def _events(server: Running, event: str) -> list[str]:
    table = events.TABLE
    return [
        row.base
        for row in server.inside(lambda db: db.fetch_all(table.select().where(table.c.event == event)))
    ]


class TestAtOnce:
    """50 calls in parallel; on SQLite and PostgreSQL."""

    def burst(self, server: Running, path: str, keys: list[str | None], body: Any = None) -> Counter[int]:
        start = threading.Barrier(25)

        def call(key: str | None) -> int:
            headers = {"Authorization": "Bearer demo-admin-key"} | ({"Idempotency-Key": key} if key else {})
            with httpx.Client(timeout=60) as http:
                if len(keys) == 25:
                    start.wait(30)
                options = {} if body is None else {"json": body}
                return http.post(server.url + path, headers=headers, **options).status_code

        with ThreadPoolExecutor(25) as pool:
            return Counter(pool.map(call, keys))

    def test_50_pays_with_one_key_are_one_payment(self, server: Running, admin: Api) -> None:
        id, key = factories.invoice(admin), token_hex(8)
        answers = self.burst(server, f"/invoices/{id}/pay", [key] * 50)
        assert answers == {200: 50}
        assert server.count(invoices.Payment, invoice_id=id) == 1

    @pytest.mark.parametrize("with_keys", [True, False])
    def test_50_pays_with_keys_of_their_own_or_none_are_one_payment(
        self, server: Running, admin: Api, with_keys: bool
    ) -> None:
        id = factories.invoice(admin)
        keys = [token_hex(8) if with_keys else None for _ in range(50)]
        assert self.burst(server, f"/invoices/{id}/pay", keys) == {200: 1, 409: 49}
        assert server.count(invoices.Payment, invoice_id=id) == 1

    def test_200_creates_with_20_keys_are_20_tickets(self, server: Running, admin: Api) -> None:
        client_id = factories.client(admin)
        keys: list[str | None] = [f"{client_id}-{nth % 20}" for nth in range(200)]
        body = ticket() | {"client_id": client_id}
        assert self.burst(server, "/tickets", keys, body) == {201: 200}
        assert admin.get("/tickets", client_id=client_id).json()["meta"]["total"] == 20


class TestStillRunning:
    # On PostgreSQL the 5 seconds are a setting of its own connections.
    @pytest.mark.parametrize("backend", ["sqlite"], indirect=True, scope="session")
    def test_whoever_comes_while_it_is_done_is_told_to_come_again(
        self, server: Running, admin: Api, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(limits, "LOCK_SECONDS", 0.2)
        held, release = threading.Event(), threading.Event()

        async def hold(db: Any) -> None:
            import asyncio

            await idempotency.purge(db, app.now() - timedelta(days=300), 1)
            held.set()
            while not release.is_set():
                await asyncio.sleep(0.01)

        holder = threading.Thread(target=lambda: server.inside(hold, write=True))
        holder.start()
        try:
            assert held.wait(10)
            with_key = keyed(admin, "/departments", {"name": "x"})
            without = admin.post("/departments", {"name": "x"})
        finally:
            release.set()
            holder.join()
        assert (with_key.status_code, with_key.headers["Retry-After"]) == (409, "1")
        assert (without.status_code, without.headers["Retry-After"]) == (503, "1")

    def test_on_postgresql_the_second_waits_for_the_first(self, server: Running, admin: Api) -> None:
        key, answers = token_hex(8), []

        def call() -> None:
            begun = time.monotonic()
            answers.append((keyed(admin, "/clients", _person(), key).status_code, begun))

        threads = [threading.Thread(target=call) for _ in range(2)]
        for each in threads:
            each.start()
        for each in threads:
            each.join()
        assert [status for status, _ in answers] == [201, 201]


def _person() -> dict[str, str]:
    return {
        "first_name": "Kim",
        "last_name": "Berg",
        "email": "kim.berg.idempotent@example.com",
        "password": "long enough",
    }


class TestPurge:
    def test_old_keys_go(self, server: Running, admin: Api) -> None:
        start = app.now()
        server.clock.fixed = start - timedelta(days=4)
        key = token_hex(8)
        keyed(admin, "/departments", {"name": "x"}, key)

        async def purge(db: Any) -> int:
            return await idempotency.purge(db, start - idempotency.LIFETIME, 1000)

        assert server.inside(purge, write=True) >= 1
        assert server.count(idempotency.IdempotencyKey, key=key) == 0


class TestEveryPost:
    @pytest.mark.parametrize("operation", POSTS, ids=lambda each: each.id)
    def test_it_hears_the_key(self, operation: contract.Operation, admin: Api) -> None:
        path = operation.path.replace("{delivery_id}", "1").replace("{id}", str(fresh(operation, admin)))
        body = example_body(operation, "admin")
        if operation.id == "create_client":
            body = {**body, "email": f"{token_hex(8)}@example.com"}
        headers = {"Idempotency-Key": token_hex(8)}
        answers = [admin.request("POST", path, json=body, headers=headers) for _ in range(2)]
        if answers[0].status_code < 300:
            assert answers[1].headers["Idempotent-Replayed"] == "true"
            assert answers[1].content == answers[0].content


EMOJI = "\N{FOX FACE}"


class TestWhatIsKept:
    """An answer repeats what was sent before, so a kept answer holds no long text twice."""

    def test_disk_grows_by_what_is_sent_and_not_by_the_thread(
        self, server: Running, admin: Api, client: Api
    ) -> None:
        id, before, sent = factories.ticket(admin), kept_bytes(server), 0
        for number in range(40):
            body = {"message": f"{number} {EMOJI * 19_000}"}
            assert keyed(client, f"/tickets/{id}/reply", body).status_code == 201
            sent += 4 * 19_000
        # Sealed texts lie in base64, and each answer has some marks of its own.
        assert kept_bytes(server) - before < 1.5 * sent

    def test_small_replies_to_a_long_thread_are_kept_small(
        self, server: Running, admin: Api, client: Api
    ) -> None:
        id = factories.ticket(admin)
        for number in range(30):
            client.post(f"/tickets/{id}/reply", {"message": f"{number} {EMOJI * 10_000}"})
        keyed(client, f"/tickets/{id}/reply", {"message": "first"})
        before = kept_bytes(server)
        for _ in range(10):
            assert keyed(client, f"/tickets/{id}/reply", {"message": "again"}).status_code == 201
        assert kept_bytes(server) - before < 10 * 20_000

    @pytest.mark.parametrize("length", [idempotency_of_requests.LONG, 200, 20_000])
    def test_the_replay_has_the_same_bytes_after_the_thread_went_on(
        self, admin: Api, client: Api, length: int
    ) -> None:
        id, key = factories.ticket(admin), token_hex(8)
        texts = [f'{number}"\\\n\t{EMOJI * length}'[:length] for number in range(34)]
        for text in texts:
            client.post(f"/tickets/{id}/reply", {"message": text})
        first = keyed(client, f"/tickets/{id}/reply", {"message": "Now"}, key)
        client.post(f"/tickets/{id}/reply", {"message": "Later"})
        again = keyed(client, f"/tickets/{id}/reply", {"message": "Now"}, key)
        assert len(first.json()["replies"]) == 30
        assert again.content == first.content
        assert again.headers["ETag"] == first.headers["ETag"]
        assert again.headers["Idempotent-Replayed"] == "true"

    def test_a_long_invoice_is_replayed_in_the_same_bytes(self, admin: Api) -> None:
        lines = [{"description": f"{number} " + "ä" * 400, "amount": "1.00"} for number in range(100)]
        body = {"client_id": 42, "due_date": "2035-01-31", "items": lines}
        key = token_hex(8)
        first, again = (keyed(admin, "/invoices", body, key) for _ in range(2))
        assert (first.status_code, again.content) == (201, first.content)

    def test_an_answer_whose_texts_are_gone_is_refused_and_not_done_again(
        self, server: Running, admin: Api, client: Api
    ) -> None:
        id, key = factories.ticket(admin), token_hex(8)
        body = {"message": EMOJI * 5_000}
        keyed(client, f"/tickets/{id}/reply", body, key)

        async def forget(db: Any) -> None:
            await db.execute(delete(idempotency.KeptText))

        server.inside(forget, write=True)
        again = keyed(client, f"/tickets/{id}/reply", body, key)
        assert again.status_code == 409
        assert "can no longer be read" in again.json()["error"]
        assert client.get(f"/tickets/{id}/replies").json()["total"] == 1

    def test_texts_end_with_their_keys(self, server: Running, admin: Api, client: Api) -> None:
        id = factories.ticket(admin)
        keyed(client, f"/tickets/{id}/reply", {"message": EMOJI * 5_000})
        assert server.count(idempotency.KeptText)

        async def purge(db: Any) -> None:
            await idempotency.purge(db, server.clock() + timedelta(days=2), 1000)

        server.inside(purge, write=True)
        assert server.count(idempotency.KeptText) == 0


def kept_bytes(server: Running) -> int:
    """How many bytes the kept answers and their texts have together."""

    async def add_up(db: Any) -> int:
        total = 0
        for column in (idempotency.TABLE.c.body, idempotency.TEXTS.c.sealed):
            row = await db.fetch_one(select(func.coalesce(func.sum(func.length(column)), 0).label("size")))
            total += row.size
        return total

    return int(server.inside(add_up))
