"""Client accounts: registered, changed, found by their words, deleted without losing the books."""

from concurrent.futures import ThreadPoolExecutor
from functools import partial

import httpx
import pytest
from argon2 import PasswordHasher
from sqlalchemy import update

from persistence import demo, search
from persistence.clients import TABLE, Client
from persistence.domains import Domain
from persistence.invoices import Invoice
from persistence.services import Service
from persistence.tickets import Ticket
from tests.api.test_identity import NO_ADDRESSES
from tests.support import factories
from tests.support.contract_client import DOCUMENT, Api
from tests.support.live_server import Running

NEW = {"first_name": "Ada", "last_name": "Byron", "email": "ada@engine.example", "password": "difference"}


class TestCreateClient:
    def test_nobody_401_client_403(self, nobody: Api, client: Api) -> None:
        assert [api.post("/clients", NEW).status_code for api in (nobody, client)] == [401, 403]

    @pytest.mark.parametrize("name", list(NEW))
    def test_a_missing_field_is_named_as_the_document_says(self, admin: Api, name: str) -> None:
        response = admin.post("/clients", {key: value for key, value in NEW.items() if key != name})
        assert response.status_code == 400
        assert response.json()["error"]["message"] == f"The {name} field is required."

    def test_it_answers_the_account_and_never_the_password(self, admin: Api, server: Running) -> None:
        id = factories.client(
            admin, company="Engine Ltd", address="1 Mill Lane", country="GB", password="s3cret-s3cret"
        )
        account = admin.get(f"/clients/{id}").json()["data"]
        assert (account["address"], account["company"], account["country"]) == (
            "1 Mill Lane",
            "Engine Ltd",
            "GB",
        )
        assert (account["status"], account["state"], account["postcode"]) == ("active", "", "")
        assert not [name for name in account if "password" in name]
        row = server.inside(lambda db: db.fetch_one(TABLE.select().where(TABLE.c.id == id)))
        assert row.password_hash.startswith("$argon2id$v=19$m=19456,t=2,p=1$")
        assert PasswordHasher().verify(row.password_hash, "s3cret-s3cret")

    @pytest.mark.parametrize(
        "change",
        [
            {"password": "seven77"},
            {"email": "no address"},
            {"email": "a@b@c"},
            {"email": "a\r\nBcc:b@example.com"},
            {"email": "a@b.example\n"},
            {"country": "USA"},
            {"country": "840"},
            {"first_name": ""},
            {"status": "active"},
            {"password_hash": "x"},
            {"id": 5},
            {"company": None},
        ],
    )
    def test_anything_else_is_400(self, admin: Api, change: dict) -> None:
        response = admin.post("/clients", NEW | change)
        assert response.status_code == 400
        assert response.json()["error"]["details"][0]["pointer"] == f"/{next(iter(change))}"

    @pytest.mark.parametrize(
        ("first", "second"),
        [
            ("x1@example.com", "X1@Example.COM"),
            ("José1@example.com", "jose\u03011@example.com"),
            ("x2@bücher.example", "X2@xn--bcher-kva.example"),
            ("Νίκος1@example.gr", "ΝΊΚΟΣ1@EXAMPLE.gr"),
            ("田中1@例え.jp", "田中1@xn--r8jz45g.jp"),
        ],
    )
    def test_two_spellings_of_an_email_are_one(self, admin: Api, first: str, second: str) -> None:
        id = factories.client(admin, email=first)
        assert admin.get(f"/clients/{id}").json()["data"]["email"] == first
        response = admin.post("/clients", NEW | {"email": second})
        assert response.status_code == 409
        assert response.json()["error"]["message"] == "Another client has this email address."
        assert admin.get("/clients", email=second).json()["data"][0]["email"] == first

    @pytest.mark.parametrize(
        ("first", "second"),
        [
            ("straße1@example.com", "STRASSE1@example.com"),
            ("ﬁ1@example.com", "fi1@example.com"),
            ("x3@straße.example", "x3@strasse.example"),
            ("Işık1@example.com", "isik1@example.com"),
        ],
    )
    def test_people_whose_letters_differ_are_two(self, admin: Api, first: str, second: str) -> None:
        ids = [factories.client(admin, email=email) for email in (first, second)]
        found = [admin.get("/clients", email=email).json()["data"] for email in (first, second)]
        assert [[row["id"] for row in rows] for rows in found] == [[id] for id in ids]

    @pytest.mark.parametrize("email", NO_ADDRESSES)
    def test_what_is_no_address_is_400_and_finds_nobody(
        self, admin: Api, server: Running, email: str
    ) -> None:
        before = server.count(Client)
        for refused in (
            admin.post("/clients", NEW | {"email": email}),
            admin.put("/clients/42", {"email": email}),
        ):
            assert refused.status_code == 400
            if "\x00" not in email:
                assert refused.json()["error"]["details"][0]["pointer"] == "/email"
        assert server.count(Client) == before
        if email and "\x00" not in email:
            assert admin.get("/clients", email=email).json()["meta"]["total"] == 0

    @pytest.mark.parametrize("email", ["a@ab--cd.com", "\u0301a@example.com", f"a@{'ü' * 60}.com"])
    def test_what_no_pattern_says_is_409(self, admin: Api, email: str) -> None:
        refused = admin.post("/clients", NEW | {"email": email})
        assert refused.status_code == 409
        assert "The email field" in refused.json()["error"]["message"]

    def test_all_faults_are_told_at_once(self, admin: Api) -> None:
        body = {"first_name": "", "last_name": "B", "email": "a@b", "password": "short", "postcode": "9" * 21}
        details = admin.post("/clients", body).json()["error"]["details"]
        assert {each["pointer"] for each in details} == {"/first_name", "/email", "/password", "/postcode"}

    def test_of_many_with_one_email_one_is_registered(self, admin: Api) -> None:
        with ThreadPoolExecutor(10) as pool:
            made = list(
                pool.map(lambda _: admin.post("/clients", NEW | {"email": "one@race.example"}), range(10))
            )
        assert sorted(each.status_code for each in made) == [201] + [409] * 9


class TestUpdateClient:
    def test_it_changes_what_is_named_and_nothing_else(self, admin: Api) -> None:
        id = factories.client(admin, company="Before Ltd")
        before = admin.get(f"/clients/{id}").json()["data"]
        changed = admin.put(f"/clients/{id}", {"company": "After Ltd", "address": "2 Side Street"}).json()[
            "data"
        ]
        assert changed == before | {"company": "After Ltd", "address": "2 Side Street"}
        assert admin.get(f"/clients/{id}").json()["data"] == changed

    def test_a_new_email_is_found_and_frees_the_old_one(self, admin: Api) -> None:
        id = factories.client(admin, email="old@change.example")
        admin.put(f"/clients/{id}", {"email": "new@change.example"})
        assert admin.get("/clients", email="NEW@change.example").json()["data"][0]["id"] == id
        factories.client(admin, email="old@change.example")
        response = admin.put(f"/clients/{id}", {"email": "OLD@change.example"})
        assert response.status_code == 409
        assert admin.get(f"/clients/{id}").json()["data"]["email"] == "new@change.example"

    def test_state_and_postcode_are_written(self, admin: Api) -> None:
        id = factories.client(admin, state="Illinois", postcode="62701")
        shown = admin.get(f"/clients/{id}").json()["data"]
        assert (shown["state"], shown["postcode"]) == ("Illinois", "62701")
        changed = admin.put(f"/clients/{id}", {"state": "", "postcode": "LS1 1UR"}).json()["data"]
        assert (changed["state"], changed["postcode"]) == ("", "LS1 1UR")

    def test_a_password_alone_is_a_change(self, admin: Api, server: Running) -> None:
        id = factories.client(admin)
        assert admin.put(f"/clients/{id}", {"password": "another one"}).status_code == 200
        row = server.inside(lambda db: db.fetch_one(TABLE.select().where(TABLE.c.id == id)))
        assert PasswordHasher().verify(row.password_hash, "another one")

    def test_what_does_not_exist_is_404(self, admin: Api) -> None:
        assert admin.put("/clients/999999", {"company": "X"}).status_code == 404


class TestDeleteClient:
    def test_it_is_gone_and_its_books_are_not(self, admin: Api) -> None:
        id = factories.client(admin, email="gone@example.com")
        service = factories.service(admin, "terminated", client_id=id)
        invoice = factories.invoice(admin, "paid", client_id=id)
        ticket = factories.ticket(admin, "closed", client_id=id)
        response = admin.request("DELETE", f"/clients/{id}")
        assert response.json() == {"status": "success", "data": {"id": id, "deleted": True}}
        for method, body in (("GET", None), ("PUT", {"company": "X"}), ("DELETE", None)):
            assert admin.request(method, f"/clients/{id}", json=body).status_code == 404
        for path in (f"/services/{service}", f"/invoices/{invoice}", f"/tickets/{ticket}"):
            assert admin.get(path).json()["data"]["client_id"] == id
        assert admin.get("/invoices", client_id=id).json()["meta"]["total"] == 1
        assert admin.get("/clients", email="gone@example.com").json()["data"] == []
        factories.client(admin, email="gone@example.com")

    def test_nothing_new_can_be_made_for_it(self, admin: Api) -> None:
        id = factories.client(admin)
        admin.request("DELETE", f"/clients/{id}")
        bodies = {
            "/services": {"client_id": id, "product_id": 2, "billing_cycle": "monthly"},
            "/invoices": {
                "client_id": id,
                "due_date": factories.DUE,
                "items": [{"description": "A", "amount": 1}],
            },
            "/tickets": {"client_id": id, "department_id": 1, "subject": "A", "message": "B"},
        }
        assert {path: admin.post(path, body).status_code for path, body in bodies.items()} == dict.fromkeys(
            bodies, 404
        )

    @pytest.mark.parametrize("state", ["active", "suspended"])
    def test_services_that_run_keep_it(self, admin: Api, state: str) -> None:
        id = factories.client(admin)
        factories.service(admin, state, client_id=id)
        assert admin.request("DELETE", f"/clients/{id}").status_code == 409
        assert admin.get(f"/clients/{id}").status_code == 200

    @pytest.mark.parametrize("state", ["unpaid", "overdue"])
    def test_unpaid_invoices_keep_it(self, admin: Api, state: str) -> None:
        id = factories.client(admin)
        invoice = factories.invoice(admin, state, client_id=id)
        assert admin.request("DELETE", f"/clients/{id}").status_code == 409
        admin.post(f"/invoices/{invoice}/pay")
        assert admin.request("DELETE", f"/clients/{id}").status_code == 200

    @pytest.mark.parametrize("state", ["open", "answered", "customer_reply"])
    def test_tickets_that_are_not_closed_keep_it(self, admin: Api, server: Running, state: str) -> None:
        id = factories.client(admin)
        ticket = factories.ticket(admin, client_id=id)
        move = update(Ticket).values(status=state).where(Ticket.__table__.c.id == ticket)
        server.inside(lambda db: db.execute(move), write=True)
        refused = admin.request("DELETE", f"/clients/{id}")
        assert refused.status_code == 409
        assert "close them" in refused.json()["error"]["message"]
        admin.post(f"/tickets/{ticket}/close")
        assert admin.request("DELETE", f"/clients/{id}").status_code == 200

    @pytest.mark.parametrize("status", ["active", "pending", "expired", "cancelled"])
    def test_active_domains_keep_it(self, admin: Api, status: str) -> None:
        id = factories.client(admin)
        domain = factories.domain(admin, id, status=status)
        answer = admin.request("DELETE", f"/clients/{id}")
        assert answer.status_code == (409 if status == "active" else 200)
        if status == "active":
            assert "cancel or delete them" in answer.json()["error"]["message"]
            admin.put(f"/domains/{domain}", {"status": "cancelled"})
            assert admin.request("DELETE", f"/clients/{id}").status_code == 200
        assert admin.get(f"/domains/{domain}").json()["data"]["client_id"] == id

    def test_all_that_keeps_it_is_told_at_once(self, admin: Api) -> None:
        id = factories.client(admin)
        factories.service(admin, client_id=id)
        factories.invoice(admin, client_id=id)
        factories.domain(admin, id)
        factories.ticket(admin, client_id=id)
        message = admin.request("DELETE", f"/clients/{id}").json()["error"]["message"]
        for word in (
            "services (terminate",
            "invoices (",
            "domains (cancel",
            "tickets that are not closed (close",
        ):
            assert word in message

    def test_the_client_of_the_example_can_be_deleted(self) -> None:
        spare = DOCUMENT["components"]["parameters"]["SpareClientId"]["example"]
        assert spare == demo.SPARE_CLIENT
        tables = demo.build()
        ends = {Service: "terminated", Invoice: "paid", Domain: "cancelled", Ticket: "closed"}
        for table, end in ends.items():
            mine = [row["status"] for row in tables[table] if row["client_id"] == spare]
            assert set(mine) <= {end}, table

    @pytest.mark.parametrize("noun", ["domains", "tickets"])
    def test_against_what_keeps_it_either_wins_and_never_both(
        self, admin: Api, server: Running, noun: str
    ) -> None:
        for _ in range(6):
            id = factories.client(admin)
            if noun == "domains":
                kept = factories.domain(admin, id, status="pending")
                path, change = f"/domains/{kept}", {"status": "active"}
                begin = partial(admin.put, path, change)
            else:
                kept = factories.ticket(admin, "closed", client_id=id)
                secret = admin.post(f"/clients/{id}/tokens", {}).json()["data"]["token"]
                headers = {"Authorization": f"Bearer {secret}"}
                begin = partial(
                    httpx.post,
                    f"{server.url}/tickets/{kept}/reply",
                    json={"message": "Again"},
                    headers=headers,
                )
            with ThreadPoolExecutor(2) as pool:
                kept_open = pool.submit(begin)
                gone = pool.submit(admin.request, "DELETE", f"/clients/{id}")
            codes = (kept_open.result().status_code // 100, gone.result().status_code)
            assert codes in ((2, 409), (4, 200))

    def test_against_creation_either_wins_and_never_both(self, admin: Api) -> None:
        for _ in range(8):
            id = factories.client(admin)
            body = {"client_id": id, "product_id": 2, "billing_cycle": "monthly"}
            with ThreadPoolExecutor(2) as pool:
                made = pool.submit(admin.post, "/services", body)
                gone = pool.submit(admin.request, "DELETE", f"/clients/{id}")
            assert (made.result().status_code, gone.result().status_code) in ((201, 409), (404, 200))


class TestListClients:
    def test_words_of_names_companies_and_addresses_find_it(self, admin: Api) -> None:
        id = factories.client(
            admin, first_name="Zoë", last_name="Quill", company="Xylophone Ünion", email="zq@bells.example"
        )
        for q in ("zoe quill", "QUILL", "xylo", "union xylophone", "zq@bells.example", "bells"):
            assert id in [row["id"] for row in admin.get("/clients", q=q).json()["data"]], q
        for q in ("zoe nobody", "!!!", "'; DROP TABLE clients; --"):
            assert admin.get("/clients", q=q).json()["data"] == []
        admin.put(f"/clients/{id}", {"company": "Marimba"})
        assert admin.get("/clients", q="xylophone").json()["data"] == []
        assert admin.get("/clients", q="marimba").json()["meta"]["total"] == 1

    def test_links_keep_the_search(self, admin: Api) -> None:
        link = admin.get("/clients", q="example", limit=2).headers["Link"]
        assert link.startswith("</api/v1/clients?q=example&limit=2&after=")

    def test_an_empty_search_is_none(self, admin: Api) -> None:
        total = admin.get("/clients", limit=1).json()["meta"]["total"]
        assert admin.get("/clients?q=&limit=1").json()["meta"]["total"] == total


class TestWords:
    @pytest.mark.parametrize(
        ("text", "words"),
        [
            ("DNS-Einträge für größere Straßen", ["dns", "eintrage", "fur", "großere", "straßen"]),
            ("a_b.c@d", ["a", "b", "c", "d"]),
            ("ﬁne ½ ２", ["fine", "1", "2", "2"]),
            ("日本語 テスト", ["日本語", "テスト"]),
            ("Łódź, O’Neil & d'Été", ["lodz", "oneil", "dete"]),
            ("", []),
        ],
    )
    def test_they_are_folded(self, text: str, words: list[str]) -> None:
        assert [word.replace("ss", "ß") for word in search.words(text)] == words
