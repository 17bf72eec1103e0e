"""The forms of the panel: what they do, what they refuse, and what they say of it."""

import asyncio
import re
import time
from collections.abc import Iterator
from pathlib import Path
from random import Random
from secrets import token_hex
from typing import Any
from urllib.parse import parse_qsl

import httpx
import pytest
from starlette.requests import Request

from panel import submitted
from persistence.activity import Activity
from persistence.clients import Client
from persistence.departments import Department
from persistence.invoices import Payment
from tests.panel.test_sessions import answered
from tests.support import factories
from tests.support.contract_client import Api
from tests.support.live_server import ADMIN, Running, prepared, serving
from tests.support.operators import Browser, Form, heading, text


@pytest.fixture(scope="module")
def operator(server: Running) -> Iterator[Browser]:
    """Somebody who has signed in."""
    browser = Browser(server)
    assert browser.sign_in().status_code == 303
    yield browser
    browser.close()


def id_of(response: httpx.Response) -> int:
    """The id of what was made, to whose page a form leads."""
    assert response.status_code == 303, text(response)
    found = re.search(r"/(\d+)\?done=", response.headers["Location"])
    assert found
    return int(found[1])


def newest(admin: Api) -> dict[str, Any]:
    row: dict[str, Any] = admin.get("/activity", limit=1).json()["data"][0]
    return row


def last_event(admin: Api) -> dict[str, Any]:
    body: dict[str, Any] = admin.get(f"/events/{factories.newest_event(admin)}").json()["data"]
    return body


class TestCreate:
    def test_a_client_is_registered_written_down_and_told_of(self, operator: Browser, admin: Api) -> None:
        email = f"{token_hex(6)}@example.com"
        values = {"first_name": "Zoë", "last_name": "O'Neil", "email": email, "password": "correct horse"}
        response = operator.send("/admin/clients/new", values, country="CH", company="A & B")
        id = id_of(response)
        assert "Done: create a client." in text(operator.follow(response))
        made = admin.get(f"/clients/{id}").json()["data"]
        assert (made["first_name"], made["company"], made["country"]) == ("Zoë", "A & B", "CH")
        row = newest(admin)
        assert (row["actor"], row["actor_name"], row["operation"]) == ("operator", "demo", "create_client")
        assert row["resource"] == f"/clients/{id}"
        assert row["request_id"] == response.headers["X-Request-Id"]
        assert last_event(admin)["event"] == "client.created"

    def test_what_is_wrong_stands_beside_the_fields_with_the_input_kept(
        self, operator: Browser, server: Running
    ) -> None:
        before = server.count(Client)
        response = operator.send("/admin/clients/new", first_name="Zoë", email="nobody", password="short")
        assert response.status_code == 400
        for name in ("last_name", "email", "password"):
            assert f'id="{name}-error"' in response.text
            assert f'aria-describedby="{name}-error' in response.text
        assert "Last name (required) This is required." in text(response)
        assert 'value="Zoë"' in response.text and 'value="nobody"' in response.text
        assert "short" not in response.text
        assert server.count(Client) == before

    def test_what_collides_is_said_with_what_can_be_done(self, operator: Browser) -> None:
        values = {
            "first_name": "Zoë",
            "last_name": "B",
            "email": "JANE@example.com",
            "password": "long enough",
        }
        response = operator.send("/admin/clients/new", values)
        assert response.status_code == 409
        assert "Another client has this email address." in text(response)
        assert 'value="JANE@example.com"' in response.text
        assert 'role="alert"' in response.text

    def test_a_double_click_makes_one(self, operator: Browser, server: Running) -> None:
        name = token_hex(6)
        form = Form(operator.get("/admin/departments/new").text)
        before = server.count(Department)
        answers = [operator.send_form(form, "/admin/departments/new", {"name": name}) for _ in range(3)]
        assert {each.headers["Location"] for each in answers} == {answers[0].headers["Location"]}
        assert server.count(Department) == before + 1
        # The next time that the page is loaded is another one.
        operator.send("/admin/departments/new", name=name)
        assert server.count(Department) == before + 2

    def test_a_form_is_filled_in_from_where_one_comes(self, operator: Browser) -> None:
        assert (
            'name="client_id" type="number" value="42"'
            in operator.get("/admin/invoices/new", client_id="42").text
        )

    def test_an_invoice_has_as_many_lines_as_one_wants(self, operator: Browser, admin: Api) -> None:
        path = "/admin/invoices/new"
        first = operator.send(
            path,
            {
                "client_id": "42",
                "due_date": factories.DUE,
                "items.2.description": "Third",
                "items.2.amount": "0.1",
            },
            _more="items",
        )
        assert first.status_code == 200
        assert 'value="Third"' in first.text
        # The lines that were empty are gone, and there is room for more.
        assert len(re.findall(r'name="items\.\d+\.amount"', first.text)) == 6
        values = {"items.4.description": "Setup", "items.4.amount": "29.89"}
        id = id_of(operator.send_form(Form(first.text, path), path, values))
        made = admin.get(f"/invoices/{id}").json()["data"]
        assert made["items"] == [
            {"description": "Third", "amount": "0.10"},
            {"description": "Setup", "amount": "29.89"},
        ]
        assert made["total"] == "29.99"
        assert last_event(admin)["event"] == "invoice.created"

    def test_a_line_that_is_wrong_is_told_at_its_place(self, operator: Browser) -> None:
        values = {
            "client_id": "42",
            "due_date": factories.DUE,
            "items.0.description": "A",
            "items.0.amount": "1",
            "items.2.description": "B",
            "items.2.amount": "much",
        }
        response = operator.send("/admin/invoices/new", values)
        assert response.status_code == 400
        # What stood in the third line stands in the second now.
        assert 'id="items.1.amount-error"' in response.text
        assert 'id="items.1.amount" name="items.1.amount" type="text" value="much"' in response.text

    def test_an_instant_is_taken_as_browsers_write_it(self, operator: Browser, admin: Api) -> None:
        for given, kept in (
            ("2034-05-06T07:08", "2034-05-06T07:08:00Z"),
            ("2034-05-06T07:08:09", "2034-05-06T07:08:09Z"),
        ):
            response = operator.send(
                "/admin/announcements/new", title="T", content="a\r\nb", published_at=given
            )
            made = admin.get(f"/announcements/{id_of(response)}").json()["data"]
            assert (made["published_at"], made["content"]) == (kept, "a\nb")
            page = operator.get(f"/admin/announcements/{made['id']}/edit")
            assert Form(page.text).values["published_at"] == kept.removesuffix("Z")
        bad = operator.send("/admin/announcements/new", title="T", content="x", published_at="tomorrow")
        assert bad.status_code == 400 and 'value="tomorrow"' in bad.text


class TestSecrets:
    def test_a_token_is_shown_once_and_works_at_once(
        self, operator: Browser, admin: Api, server: Running
    ) -> None:
        client = factories.client(admin)
        page = operator.send(f"/admin/clients/{client}/tokens/new")
        assert page.status_code == 200
        token = re.search(r"cbt_\w{36}", page.text)
        assert token
        assert f'curl -H "Authorization: Bearer {token[0]}" {server.url}/services' in text(page)
        headers = {"Authorization": f"Bearer {token[0]}"}
        assert httpx.get(f"{server.url}/profile", headers=headers).json()["id"] == client
        for path in (f"/admin/clients/{client}", f"/admin/clients/{client}/edit"):
            assert token[0] not in operator.get(path).text
            assert token[0][:8] in operator.get(path).text
        id = admin.get(f"/clients/{client}/tokens").json()["data"][0]["id"]
        gone = operator.send(f"/admin/clients/{client}/tokens/{id}/delete")
        assert gone.headers["Location"] == f"/admin/clients/{client}/tokens?done=revoke_token"
        assert httpx.get(f"{server.url}/profile", headers=headers).status_code == 401

    def test_a_key_has_the_scopes_that_are_ticked(self, operator: Browser, server: Running) -> None:
        page = operator.send(
            "/admin/api-keys/new", name="Accounting", scopes=["invoices:read", "clients:read"]
        )
        key = re.search(r"arc_\w{36}", page.text)
        assert key
        headers = {"Authorization": f"Bearer {key[0]}"}
        statuses = [
            httpx.get(f"{server.url}/{noun}", headers=headers).status_code
            for noun in ("invoices", "clients", "tickets")
        ]
        assert statuses == [200, 200, 403]

    def test_a_key_without_scopes_is_none(self, operator: Browser) -> None:
        page = operator.send("/admin/api-keys/new", name="Nothing", scopes=None)
        assert page.status_code == 400
        assert 'id="scopes-error"' in page.text

    def test_the_key_with_the_operators_number_can_be_revoked(self, tmp_path: Path) -> None:
        """Operators have numbers of their own: the first one is not the first key."""
        with serving(prepared(f"sqlite:///{tmp_path / 'keys.db'}")) as running:
            browser = Browser(running)
            browser.sign_in()
            assert browser.send("/admin/api-keys/1/delete").status_code == 303
            browser.close()
            headers = {"Authorization": f"Bearer {ADMIN}"}
            assert httpx.get(f"{running.url}/clients", headers=headers).status_code == 401

    def test_a_webhooks_secret_is_shown_when_it_is_made_and_when_it_is_rotated(
        self, operator: Browser, admin: Api
    ) -> None:
        page = operator.send(
            "/admin/webhooks/new", url=f"http://127.0.0.1:9/{token_hex(6)}", events=["invoice.paid"]
        )
        first = re.search(r"whsec_[\w+/=]+", page.text)
        assert first
        id = admin.get("/webhooks", limit=1).json()["data"][0]["id"]
        assert first[0] not in operator.get(f"/admin/webhooks/{id}").text
        again = operator.send(f"/admin/webhooks/{id}/rotate-secret", overlap_hours="1")
        second = re.search(r"whsec_[\w+/=]+", again.text)
        assert second and second[0] != first[0]
        tested = operator.send(f"/admin/webhooks/{id}/test", event="ticket.opened")
        assert tested.status_code == 303
        delivery = admin.get(f"/webhooks/{id}/deliveries").json()["data"][0]
        assert (delivery["event"], delivery["test"]) == ("ticket.opened", True)
        listed = text(operator.get(f"/admin/webhooks/{id}/deliveries"))
        assert delivery["message_id"] in listed and "none yet" in listed
        sent = operator.send(f"/admin/webhooks/{id}/deliveries/{delivery['id']}/resend")
        assert sent.headers["Location"].endswith("done=resend_delivery")
        recovered = operator.send(f"/admin/webhooks/{id}/recover", since="2034-01-01T00:00")
        assert recovered.status_code == 303

    def test_every_attempt_of_a_delivery_is_shown(self, operator: Browser, admin: Api) -> None:
        rows = [
            each for each in admin.get("/webhooks/1/deliveries").json()["data"] if len(each["attempts"]) > 1
        ]
        assert rows
        page = operator.get("/admin/webhooks/1/deliveries")
        for row in rows:
            for each in row["attempts"]:
                assert f"{each['status'] or each['error']} ({each['ms']} ms)" in text(page)
                assert not each["answer"] or each["answer"] in text(page)


class TestChange:
    def test_only_what_is_different_is_changed(self, operator: Browser, admin: Api) -> None:
        id = factories.client(admin, company="Before", city="Bern", phone="1")
        response = operator.send(f"/admin/clients/{id}/edit", company="After", phone="")
        assert response.headers["Location"] == f"/admin/clients/{id}?done=update_client"
        after = admin.get(f"/clients/{id}").json()["data"]
        assert (after["company"], after["city"], after["phone"]) == ("After", "Bern", "")

    def test_nothing_different_changes_nothing(self, operator: Browser, admin: Api, server: Running) -> None:
        id = factories.product(admin)
        before, tag = server.count(Activity), admin.get(f"/products/{id}").headers["ETag"]
        response = operator.send(f"/admin/products/{id}/edit")
        assert "The form has no changes." in text(operator.follow(response))
        assert server.count(Activity) == before
        assert admin.get(f"/products/{id}").headers["ETag"] == tag

    def test_what_somebody_else_has_changed_is_shown_beside_what_was_typed(
        self, operator: Browser, admin: Api
    ) -> None:
        id = factories.product(admin, name="Old", description="Same")
        path = f"/admin/products/{id}/edit"
        form = Form(operator.get(path).text, path)
        admin.put(f"/products/{id}", {"name": "Theirs", "prices": {"monthly": "7.00"}})
        refused = operator.send_form(form, path, {"name": "Mine"})
        assert refused.status_code == 412
        said = text(refused)
        assert "Somebody else has changed this meanwhile" in said
        assert "It is now: Theirs" in said and "It is now: 7.00" in said
        assert said.count("It is now:") == 2
        assert 'value="Mine"' in refused.text
        assert admin.get(f"/products/{id}").json()["data"]["name"] == "Theirs"
        saved = operator.send_form(Form(refused.text, path), path, {})
        assert saved.status_code == 303
        after = admin.get(f"/products/{id}").json()["data"]
        assert (after["name"], after["prices"]["monthly"]) == ("Mine", "1.00")

    def test_a_mistake_in_a_form_that_is_old_does_not_make_it_new(
        self, operator: Browser, admin: Api
    ) -> None:
        id = factories.client(admin)
        path = f"/admin/clients/{id}/edit"
        form = Form(operator.get(path).text, path)
        admin.put(f"/clients/{id}", {"first_name": "Theirs"})
        wrong = operator.send_form(form, path, {"city": "Bern", "email": "nobody"})
        assert wrong.status_code == 400
        corrected = {"email": f"{token_hex(6)}@example.com"}
        refused = operator.send_form(Form(wrong.text, path), path, corrected)
        assert refused.status_code == 412
        assert "It is now: Theirs" in text(refused)
        assert admin.get(f"/clients/{id}").json()["data"]["first_name"] == "Theirs"

    @pytest.mark.parametrize(
        ("path", "name"),
        [
            ("/admin/invoices/new", "client_id"),
            ("/admin/settings/edit", "rate_limit_client"),
            ("/admin/products/new", "prices"),
            ("/admin/departments/new", "items"),
        ],
    )
    def test_more_lines_of_what_has_none_are_refused(self, operator: Browser, path: str, name: str) -> None:
        form = Form(operator.get(path).text, path)
        form.values["_more"] = [name]
        assert operator.send_form(form, path, {}).status_code == 400

    def test_what_has_no_page_of_its_own_is_named_before_it_ends(self, operator: Browser, admin: Api) -> None:
        token, key = factories.token(admin), factories.api_key(admin, name="Night shift")
        factories.token(admin)
        page = operator.get(f"/admin/clients/42/tokens/{token}/delete")
        assert heading(page) == f"Revoke API token {token}"
        assert re.search(r"Beginning cbt_\w{4}", text(page))
        page = operator.get(f"/admin/api-keys/{key}/delete")
        assert heading(page) == f"Revoke API key {key}: Night shift"

    @pytest.mark.parametrize(
        "path",
        [
            "/api-keys/999999/delete",
            "/api-keys/x/delete",
            "/clients/42/tokens/999999/delete",
            "/clients/43/tokens/1/delete",
            "/clients/999999/tokens/1/delete",
            "/clients/999999/tokens/new",
            "/webhooks/1/deliveries/999999/resend",
            "/webhooks/999999/deliveries/1/resend",
        ],
    )
    def test_a_form_about_what_is_not_there_is_no_form(self, operator: Browser, path: str) -> None:
        page = operator.get(f"/admin{path}")
        assert page.status_code == 404
        assert "<form" not in page.text.partition("<main")[2]

    def test_a_refusal_calls_the_fields_as_the_form_does(self, operator: Browser, admin: Api) -> None:
        past = operator.send("/admin/clients/42/tokens/new", expires_at="2020-01-01T00:00:00")
        assert past.status_code == 409
        assert "The “Expires (UTC)” field is in the past" in text(past)
        taken = admin.get(f"/webhooks/{factories.webhook(admin)}").json()["data"]["url"]
        refused = operator.send("/admin/webhooks/new", url=taken, events=["invoice.paid"])
        assert "A webhook with this “URL” exists already." in text(refused)

    def test_a_form_that_is_sent_again_with_something_else_is_told_so(self, operator: Browser) -> None:
        path = "/admin/departments/new"
        form = Form(operator.get(path).text, path)
        assert operator.send_form(form, path, {"name": "One"}).status_code == 303
        again = operator.send_form(form, path, {"name": "Another"})
        assert "open it again" in text(again) and "Idempotency" not in text(again)

    def test_a_version_that_is_old_is_not_deleted(self, operator: Browser, admin: Api) -> None:
        id = factories.announcement(admin)
        path = f"/admin/announcements/{id}/delete"
        form = Form(operator.get(path).text, path)
        admin.put(f"/announcements/{id}", {"title": "Theirs"})
        refused = operator.send_form(form, path, {})
        assert refused.status_code == 412
        assert "Theirs" in refused.text and "nothing was deleted" in text(refused)
        assert "filled in" not in text(refused)
        gone = operator.send_form(Form(refused.text, path), path, {})
        assert gone.headers["Location"] == "/admin/announcements?done=delete_announcement"
        assert admin.get(f"/announcements/{id}").status_code == 404

    def test_limits_and_currency(self, operator: Browser, admin: Api) -> None:
        before = admin.get("/settings").json()["data"]
        try:
            form = Form(operator.get("/admin/settings/edit").text, "/admin/settings/edit")
            assert form.values["default_currency"] == before["default_currency"]
            assert form.values["rate_limit_client"] == str(before["rate_limit_client"])
            assert form.values["_etag"] == admin.get("/settings").headers["ETag"]
            response = operator.send("/admin/settings/edit", default_currency="CHF")
            assert response.headers["Location"] == "/admin/settings?done=update_settings"
            assert admin.get("/settings").json()["data"] == before | {"default_currency": "CHF"}
            bad = operator.send("/admin/settings/edit", rate_limit_admin="many")
            assert bad.status_code == 400 and 'id="rate_limit_admin-error"' in bad.text
        finally:
            admin.put("/settings", before)

    @pytest.mark.parametrize(
        ("noun", "make", "values"),
        [
            ("products", factories.product, {"description": "New", "prices.annually": "99.90"}),
            ("servers", factories.server, {"capacity": "99"}),
            ("departments", factories.department, {"name": "New"}),
            ("domains", factories.domain, {"status": "expired"}),
            ("knowledgebase", factories.article, {"title": "New", "category": "4"}),
            ("announcements", factories.announcement, {"content": "New"}),
            ("webhooks", factories.webhook, {"events": ["ticket.opened"], "active": "no"}),
        ],
    )
    def test_each_noun(
        self, operator: Browser, admin: Api, noun: str, make: Any, values: dict[str, Any]
    ) -> None:
        id = make(admin)
        response = operator.send(f"/admin/{noun}/{id}/edit", values)
        assert response.status_code == 303, text(response)
        row = newest(admin)
        assert (row["actor"], row["operation"].partition("_")[0]) == ("operator", "update")
        assert row["resource"] == f"/{noun}/{id}"
        after = admin.get(f"/{noun}/{id}").json()["data"]
        for name, value in values.items():
            shown = after["prices"]["annually"] if name.startswith("prices") else after[name]
            assert str(shown) == str({"no": False}.get(str(value), value))


class TestVerbs:
    def test_a_service_is_suspended_unsuspended_and_terminated(self, operator: Browser, admin: Api) -> None:
        id = factories.service(admin)
        asked = operator.get(f"/admin/services/{id}/suspend")
        assert heading(asked).startswith("Suspend Service")
        assert admin.get(f"/services/{id}").json()["data"]["status"] == "active"
        for verb, state, event in (
            ("suspend", "suspended", "service.suspended"),
            ("unsuspend", "active", None),
            ("terminate", "terminated", "service.terminated"),
        ):
            values = {"reason": "Late & more"} if verb == "suspend" else {}
            response = operator.send(f"/admin/services/{id}/{verb}", values)
            assert response.headers["Location"] == f"/admin/services/{id}?done={verb}_service"
            assert admin.get(f"/services/{id}").json()["data"]["status"] == state
            assert newest(admin)["operation"] == f"{verb}_service"
            if event:
                assert last_event(admin)["event"] == event
        page = operator.get(f"/admin/services/{id}").text
        assert "/suspend" not in page and "/terminate" not in page

    def test_a_service_is_provisioned(self, operator: Browser, admin: Api) -> None:
        values = {"client_id": "42", "product_id": "2", "billing_cycle": "monthly", "domain": "x.example.com"}
        id = id_of(operator.send("/admin/services/new", values))
        assert admin.get(f"/services/{id}").json()["data"]["status"] == "active"
        assert last_event(admin)["event"] == "service.created"

    def test_an_invoice_is_paid_once_and_the_second_page_says_so(
        self, operator: Browser, admin: Api, server: Running
    ) -> None:
        id = factories.invoice(admin)
        path = f"/admin/invoices/{id}/pay"
        tabs = [Form(operator.get(path).text, path) for _ in range(2)]
        first, second = (operator.send_form(each, path, {}) for each in tabs)
        assert (first.status_code, second.status_code) == (303, 409)
        assert "The invoice is paid" in text(second)
        assert server.count(Payment, invoice_id=id) == 1
        assert last_event(admin)["event"] == "invoice.paid"

    def test_what_cannot_be_done_is_said_with_what_can(self, operator: Browser, admin: Api) -> None:
        id = factories.service(admin, "suspended")
        refused = operator.send(f"/admin/services/{id}/suspend")
        assert refused.status_code == 409
        assert "The service is suspended" in text(refused)
        for verb in ("unsuspend", "terminate"):
            assert f'href="/admin/services/{id}/{verb}"' in refused.text

    def test_a_ticket_is_answered_on_its_page_and_closed(self, operator: Browser, admin: Api) -> None:
        id = factories.ticket(admin)
        path = f"/admin/tickets/{id}/reply"
        form = Form(operator.get(f"/admin/tickets/{id}").text, path)
        response = operator.send_form(form, path, {"message": "Like <this>"})
        page = operator.follow(response)
        assert "Like &lt;this&gt;" in page.text
        assert last_event(admin)["event"] == "ticket.replied"
        empty = operator.send_form(Form(page.text, path), path, {"message": ""})
        assert empty.status_code == 400 and 'id="message-error"' in empty.text
        operator.send(f"/admin/tickets/{id}/close")
        assert admin.get(f"/tickets/{id}").json()["data"]["status"] == "closed"
        closed = operator.get(f"/admin/tickets/{id}")
        assert "<textarea" not in closed.text
        refused = operator.send(path, message="Once more")
        assert refused.status_code == 409 and "Once more" in refused.text

    def test_a_client_with_services_is_not_deleted(self, operator: Browser, admin: Api) -> None:
        refused = operator.send("/admin/clients/42/delete")
        assert refused.status_code == 409
        assert "active or suspended services (terminate them)" in text(refused)
        assert "close the tickets first" in text(operator.get("/admin/clients/42/delete"))
        id = factories.client(admin)
        gone = operator.send(f"/admin/clients/{id}/delete")
        assert gone.headers["Location"] == "/admin/clients?done=delete_client"
        assert operator.get(f"/admin/clients/{id}").status_code == 404


class TestForeignForms:
    @pytest.mark.parametrize(
        "headers",
        [
            {"Sec-Fetch-Site": "cross-site"},
            {"Origin": "https://example.com"},
            {"Origin": "null"},
            {"Content-Type": "text/plain"},
        ],
    )
    def test_even_with_the_cookie_and_the_token_they_do_nothing(
        self, operator: Browser, admin: Api, headers: dict[str, str]
    ) -> None:
        id = factories.invoice(admin)
        form = Form(operator.get(f"/admin/invoices/{id}/pay").text)
        response = operator.http.post(f"/admin/invoices/{id}/pay", data=form.values, headers=headers)
        assert response.status_code in (403, 415)
        assert admin.get(f"/invoices/{id}").json()["data"]["status"] == "unpaid"

    def test_a_form_cannot_be_sent_by_an_address(self, operator: Browser, admin: Api) -> None:
        id = factories.invoice(admin)
        form = Form(operator.get(f"/admin/invoices/{id}/pay").text)
        assert operator.get(f"/admin/invoices/{id}/pay", **form.values).status_code == 200
        assert admin.get(f"/invoices/{id}").json()["data"]["status"] == "unpaid"

    def test_fields_that_the_form_does_not_have_are_not_sent_on(self, operator: Browser, admin: Api) -> None:
        id = id_of(operator.send("/admin/departments/new", name="x", id="7777777", version="9"))
        assert id != 7777777


class TestReading:
    """How a form is decoded, however large it is."""

    def decoded(self, body: bytes) -> tuple[list[tuple[str, str]], int]:
        """The fields, and how often other work of the event loop had its turn meanwhile."""
        turns = 0

        async def run() -> list[tuple[str, str]]:
            async def count() -> None:
                nonlocal turns
                while True:
                    turns += 1
                    await asyncio.sleep(0)

            other = asyncio.create_task(count())
            try:
                return await submitted._pairs(body)
            finally:
                other.cancel()

        return asyncio.run(run()), turns

    def test_it_has_the_fields_that_the_standard_library_finds(self) -> None:
        random, read = Random(1), 0
        parts = [
            b"a",
            b"=",
            b"&",
            b"+",
            b"%41",
            b"%C3%A4",
            b"%F0%9F%92%A9",
            b"%",
            b"%4",
            b"%zz",
            b"%0D%0A",
            b";",
        ]
        for length in (1, 5, 50, submitted.PIECE, 3 * submitted.PIECE):
            for _ in range(40):
                body = b"".join(random.choices(parts, k=length // 2 + 1)).replace(b"&", b"x&", 1500)
                body = body if body.count(b"&") < submitted.MAX_FIELDS else body.replace(b"&", b"")
                try:
                    wanted = parse_qsl(body.decode(), keep_blank_values=True, errors="strict")
                except UnicodeDecodeError:
                    with pytest.raises(UnicodeDecodeError):
                        self.decoded(body)
                else:
                    read += 1
                    assert self.decoded(body)[0] == wanted
        assert 20 < read < 200

    def test_an_escape_is_not_cut_wherever_it_stands(self) -> None:
        for shift in range(4):
            body = b"a=" + b"x" * (submitted.PIECE - 4 + shift) + b"%C3%A4" * submitted.PIECE
            assert self.decoded(body)[0] == parse_qsl(body.decode())

    @pytest.mark.parametrize(
        "body",
        [
            b"a=" + b"%41" * 690_000,
            b"a=" + b"%C3%A4" * 340_000,
            b"a" * 2_000_000,
            b"&".join(b"a%d=" % nth + b"%41" * 340 for nth in range(2000)),
        ],
        ids=["one field", "no ASCII", "a name", "many fields"],
    )
    def test_other_calls_go_on_after_each_piece(self, body: bytes) -> None:
        _, turns = self.decoded(body)
        assert turns >= len(body) // (2 * submitted.PIECE)

    def test_a_body_in_ten_times_as_many_pieces_takes_ten_times_as_long(self) -> None:
        def seconds(number: int) -> float:
            left = number

            async def receive() -> dict[str, Any]:
                nonlocal left
                left -= 1
                return {"type": "http.request", "body": b"x" * 100, "more_body": left > 0}

            started = time.process_time()
            body = asyncio.run(
                submitted._body(Request({"type": "http", "headers": []}, receive), submitted.FORM.size)
            )
            assert len(body) == 100 * number
            return time.process_time() - started

        assert min(seconds(20_000) for _ in range(3)) < 40 * min(seconds(2_000) for _ in range(3))

    def test_a_form_over_2_mib_is_refused_with_its_bound(self, operator: Browser, server: Running) -> None:
        head = (
            "POST /admin/departments/new HTTP/1.1",
            f"Host: {operator.http.base_url.netloc.decode()}",
            f"Origin: {operator.http.headers['Origin']}",
            f"Cookie: {operator.http.headers['Cookie']}",
            "Content-Type: application/x-www-form-urlencoded",
            f"Content-Length: {2 * 1024 * 1024 + 1}",
        )
        status, received = answered(server, "\r\n".join((*head, "", "")).encode())
        assert status == 413
        assert "The form is too large; it may have at most 2048 KiB." in received
