"""Every page of the panel: it renders, leads others to sign in, escapes what it shows, keeps its promises."""

import re
from collections.abc import Iterator
from secrets import token_hex

import httpx
import pytest
from markupsafe import escape
from sqlalchemy import update

from panel.page_registry import PageRegistry, PanelPage
from persistence import demo
from persistence.clients import Client
from persistence.domains import Domain
from persistence.services import Service
from persistence.types import Base
from tests.support import factories
from tests.support.contract_client import DOCUMENT, OPERATIONS, Api
from tests.support.live_server import Running
from tests.support.operators import Browser, heading, text

PAGES = PageRegistry(DOCUMENT)
ALL = list(PAGES.by_id.values())

# Of the demo data; what a page needs that is not in the state it is about is shown all the same.
IDS = {
    "clients": "42",
    "tokens": "42",
    "api_keys": "2",
    "invoices": "1234",
    "tickets": "15",
}


def by_page(pages: list[PanelPage]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("page", pages, ids=lambda each: each.id)


def address(page: PanelPage) -> str:
    return page.fill([IDS.get(page.tag, "1"), "3" if page.tag == "tokens" else "1"])


@pytest.fixture(scope="module")
def operator(server: Running) -> Iterator[Browser]:
    """Somebody who has signed in."""
    browser = Browser(server)
    assert browser.sign_in().status_code == 303
    yield browser
    browser.close()


@pytest.fixture(scope="module")
def stranger(server: Running) -> Iterator[Browser]:
    browser = Browser(server)
    yield browser
    browser.close()


class TestEveryPage:
    def test_every_operation_of_an_operator_has_one(self) -> None:
        wanted = {each.id for each in OPERATIONS if "admin" in each.audiences and not each.public}
        assert set(PAGES.by_id) == wanted
        assert len(wanted) >= 60

    def test_no_two_have_one_address(self) -> None:
        shapes = [(re.sub(r"{\w+}", "{}", each.url)) for each in ALL]
        assert len(set(shapes)) == len(shapes)

    @by_page(ALL)
    def test_it_renders(self, page: PanelPage, operator: Browser) -> None:
        response = operator.get(address(page))
        assert response.status_code == 200, text(response)
        assert heading(response)
        assert response.text.count("<h1>") == 1
        for each in re.findall(r'<(?:input|select|textarea) id="([^"]+)"', response.text):
            assert f'<label for="{each}">' in response.text
        assert "<script" not in response.text
        assert " style=" not in response.text
        assert re.search(r" on\w+=", response.text) is None

    @by_page(ALL)
    def test_who_has_not_signed_in_is_led_to_where_he_can(self, page: PanelPage, stranger: Browser) -> None:
        where = address(page)
        response = stranger.get(where)
        assert response.status_code == 303
        assert response.headers["Location"] == f"/admin/sign-in?next={where}"
        assert response.text == ""
        if page.kind not in ("list", "item"):
            sent = stranger.http.post(where, data={"name": "x"})
            assert sent.status_code == 303
            assert sent.headers["Location"] == f"/admin/sign-in?next={where}&ended=yes"
            assert "nothing was done" in text(stranger.get(sent.headers["Location"]))

    def test_what_was_asked_for_is_there_after_signing_in(self, server: Running) -> None:
        browser = Browser(server)
        led = browser.get("/admin/clients", q="jane smith", email="").headers["Location"]
        response = browser.http.post(led, data={"name": demo.OPERATOR, "password": demo.OPERATOR_PASSWORD})
        assert response.headers["Location"] == "/admin/clients?q=jane+smith&email="
        browser.close()

    @by_page([each for each in ALL if each.kind not in ("list", "item")])
    def test_a_form_without_its_sessions_token_is_refused(self, page: PanelPage, operator: Browser) -> None:
        for values in ({"name": "x"}, {"_csrf": "0" * 64}):
            assert operator.http.post(address(page), data=values).status_code == 403

    def test_each_leads_to_all_others(self, operator: Browser) -> None:
        """From the start, by links alone, every page is reached."""
        seen: set[str] = set()
        # Not every client has tokens.
        waiting = ["/admin", "/admin/clients/42"]
        kinds: set[str] = set()
        while waiting:
            path = waiting.pop()
            shape = re.sub(r"\d+", "{}", path)
            if shape in kinds:
                continue
            kinds.add(shape)
            response = operator.get(path)
            assert response.status_code == 200, path
            seen.add(shape)
            for href in re.findall(r'(?:href|action)="(/admin[^"#?]*)', response.text):
                if href not in ("/admin/style.css", "/admin/sign-out"):
                    waiting.append(href)
        wanted = {re.sub(r"{\w+}", "{}", f"/admin{each.url}") for each in ALL}
        # These stand where something is in a state that the first of its kind is not in.
        states = {
            "/admin/services/{}/unsuspend",
            "/admin/services/{}/suspend",
            "/admin/services/{}/terminate",
        }
        states |= {"/admin/invoices/{}/pay", "/admin/tickets/{}/close", "/admin/tickets/{}/reply"}
        assert wanted - seen <= states

    def test_the_front_page_leads_to_docs_status_and_panel(self, stranger: Browser) -> None:
        response = stranger.get("/")
        assert response.status_code == 200
        for href in ("/api/v1/docs", "/api/v1/status", "/admin"):
            assert f'href="{href}"' in response.text

    def test_head_is_answered_like_get(self, operator: Browser) -> None:
        for path in ("/", "/admin", "/admin/clients"):
            response = operator.http.head(path)
            assert (response.status_code, response.content) == (200, b"")

    @pytest.mark.parametrize("path", ["/admin/nowhere", "/admin/clients/", "/admin//clients"])
    def test_what_is_not_there_is_a_page_that_says_so(self, operator: Browser, path: str) -> None:
        response = operator.get(path)
        assert (response.status_code, heading(response)) == (404, "Not found")

    @pytest.mark.parametrize("id", ["999999", "0", "x", "9" * 40, "-1", "1.0"])
    def test_an_object_that_is_not_there_is_too(self, operator: Browser, id: str) -> None:
        for path in (f"/admin/clients/{id}", f"/admin/clients/{id}/edit", f"/admin/clients/{id}/tokens/new"):
            response = operator.get(path)
            if not path.endswith("new"):
                assert response.status_code == (404 if id == "999999" else 400)

    def test_another_method_is_405(self, operator: Browser) -> None:
        response = operator.http.request("DELETE", "/admin/clients")
        assert (response.status_code, heading(response)) == (405, "Not here")

    def test_nothing_else_outside_the_api_is_answered(self, stranger: Browser, server: Running) -> None:
        for path in ("/administrator", "/adminx", "/style.css", "/favicon.ico", "/index.html"):
            assert httpx.get(server.base + path).json()["error"]["code"] == "NOT_FOUND"

    def test_a_failure_is_a_page_with_the_same_headers(
        self, operator: Browser, server: Running, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        plan = server.api.pipeline.plans["list_clients"]

        async def fail(**_: object) -> None:
            raise RuntimeError("planted, with <b>markup</b>")

        monkeypatch.setitem(plan.__dict__, "handler", fail)
        response = operator.get("/admin/clients")
        assert response.status_code == 500
        assert response.headers["X-Request-Id"] in response.text
        assert "planted" not in response.text


class TestLists:
    def test_clients_are_searched_and_narrowed(self, operator: Browser, admin: Api) -> None:
        name = f"Zebra{token_hex(4)}"
        id = factories.client(admin, last_name=name)
        found = operator.get("/admin/clients", q=name.lower())
        assert f'href="/admin/clients/{id}"' in found.text
        assert 'href="/admin/clients/42"' not in found.text
        assert f'value="{name.lower()}"' in found.text

    def test_pages_go_on_where_the_last_one_ended_with_the_same_filters(self, operator: Browser) -> None:
        path, ids = "/admin/services?status=active", []
        while path:
            response = operator.get(path)
            rows = re.findall(r'<th scope="row"><a href="/admin/services/(\d+)">', response.text)
            ids += [int(each) for each in rows]
            more = re.search(r'rel="next" href="([^"]+)"', response.text)
            path = more[1].replace("&amp;", "&") if more else ""
        assert len(ids) > 50
        assert ids == sorted(set(ids), reverse=True)

    def test_a_filter_that_is_wrong_is_said_beside_it(self, operator: Browser) -> None:
        response = operator.get("/admin/services", client_id="x")
        assert response.status_code == 400
        assert "This must be an integer." in text(response)
        assert 'id="client_id-error"' in response.text

    def test_servers_show_their_load(self, operator: Browser, admin: Api) -> None:
        server = admin.get("/servers/1").json()["data"]
        assert f"{server['used']} of {server['capacity']}" in text(operator.get("/admin/servers/1"))
        assert "<meter" in operator.get("/admin/servers").text


XSS = "\"'><script>alert(1)</script><b onmouseover=alert(2)>&lt;{{7*7}}${7*7}"


def put(server: Running, table: type[Base], id: int, **values: str) -> None:
    """Write columns of a row past all rules."""
    change = update(table).values(values).where(table.__table__.c.id == id)
    server.inside(lambda db: db.execute(change), write=True)


class TestMarkupInTexts:
    """A text with markup in every field of text that there is, shown on every page that shows it."""

    def test_it_is_escaped_everywhere(self, operator: Browser, admin: Api, server: Running) -> None:
        client = factories.client(
            admin, first_name=XSS, last_name=XSS, company=XSS, phone=XSS[:50], address=XSS
        )
        admin.put(f"/clients/{client}", {"city": XSS})
        kind = f"<b>{token_hex(4)}"
        product = factories.product(admin, name=XSS, description=XSS, kind=kind)
        place = factories.server(admin, name=XSS, kind=kind)
        body = {"client_id": client, "product_id": product, "billing_cycle": "monthly"}
        service = factories.made(admin.post("/services", body))
        admin.post(f"/services/{service}/suspend", {"reason": XSS})
        invoice = factories.invoice(admin, client_id=client, items=[{"description": XSS, "amount": "1.00"}])
        department = factories.department(admin, name=XSS)
        ticket = factories.made(
            admin.post(
                "/tickets",
                {"client_id": client, "department_id": department, "subject": XSS, "message": XSS},
            )
        )
        admin.post(f"/tickets/{ticket}/reply", {"message": XSS})
        domain = factories.domain(admin, client)
        # The contract takes none of these; older versions did.
        put(server, Client, client, email=f'{token_hex(4)}"<b>x@example.com')
        put(server, Service, service, domain=XSS, username=XSS[:64])
        put(server, Domain, domain, domain=XSS)
        article = factories.article(admin, title=XSS, content=XSS)
        announcement = factories.announcement(admin, title=XSS, content=XSS)
        key = factories.api_key(admin, name=XSS)
        shown = {
            f"/admin/clients/{client}": 1,
            f"/admin/clients/{client}/edit": 1,
            f"/admin/clients/{client}/delete": 1,
            "/admin/clients": 1,
            f"/admin/products/{product}": 1,
            f"/admin/products/{product}/edit": 1,
            "/admin/services/new": 1,
            f"/admin/servers/{place}/edit": 1,
            f"/admin/services/{service}": 1,
            f"/admin/services/{service}/terminate": 1,
            f"/admin/invoices/{invoice}": 1,
            f"/admin/departments/{department}": 1,
            f"/admin/tickets/{ticket}": 1,
            f"/admin/tickets?client_id={client}": 1,
            f"/admin/domains/{domain}": 1,
            f"/admin/knowledgebase/{article}/edit": 1,
            f"/admin/announcements/{announcement}": 1,
            "/admin/api-keys": 1,
            "/admin/events": 0,
            "/admin/activity": 0,
        }
        newest = factories.newest_event(admin)
        shown[f"/admin/events/{newest}"] = 1
        assert key
        for path, least in shown.items():
            page = operator.get(path).text
            assert "<script" not in page and "<b>" not in page and "<b on" not in page, path
            assert page.count("&lt;script&gt;alert(1)") >= least, path

    def test_what_was_typed_is_escaped_too(self, operator: Browser) -> None:
        for page in (
            operator.get("/admin/clients", q=XSS),
            operator.get("/admin/clients/new", first_name=XSS),
            operator.get("/admin/activity", resource=XSS),
            operator.get("/admin/clients", done=XSS),
            operator.get(f"/admin/{XSS}"),
            operator.get("/admin/sign-in", next=f"/admin{XSS}"),
        ):
            assert "<script>" not in page.text and "<b on" not in page.text


class TestLogs:
    def test_a_page_is_logged_with_its_operator_and_no_query(
        self, operator: Browser, caplog: pytest.LogCaptureFixture
    ) -> None:
        with caplog.at_level("INFO", "cloudarc.access"):
            operator.get("/admin/clients", q="confidential")
            # A line is written after its answer was sent, and before the next request is read.
            operator.get("/")
        # The line of the sign-in before may come this late, too.
        lines = [each.fields for each in caplog.records]  # type: ignore[attr-defined]  # known at run time
        (line,) = [each for each in lines if each["operation"] == "panel_list_clients"]
        assert (line["caller"], line["status"]) == ("operator:1", 200)
        assert "confidential" not in str(lines)


class TestLengths:
    @pytest.mark.parametrize(("path", "query"), [("/admin/" + "a" * 9_000, ""), ("/admin", "a" * 17_000)])
    def test_a_path_and_a_query_that_are_too_long_are_refused(
        self, server: Running, path: str, query: str
    ) -> None:
        answer = httpx.get(f"{server.base}{path}?{query}")
        assert answer.status_code == 400
        assert "at most" in answer.json()["error"]["message"]


class TestSearchBox:
    """One box leads straight to what a text names, and shows what else it may mean."""

    @pytest.mark.parametrize(
        ("q", "where"),
        [
            ("TKT-A3F7B2C1", "/admin/tickets/15"),
            (" tkt-a3f7b2c1 ", "/admin/tickets/15"),
            ("#15", "/admin/tickets/15"),
            ("INV-001234", "/admin/invoices/1234"),
            ("inv-001234", "/admin/invoices/1234"),
            ("jane@example.com", "/admin/clients/42"),
            ("JANE@example.com", "/admin/clients/42"),
        ],
    )
    def test_it_leads_straight_to_a_thing(self, operator: Browser, q: str, where: str) -> None:
        response = operator.get("/admin/search", q=q)
        assert (response.status_code, response.headers["Location"]) == (303, where)
        assert operator.follow(response).status_code == 200

    def test_a_domain_leads_to_its_service_and_one_without_a_service_to_its_record(
        self, operator: Browser, admin: Api
    ) -> None:
        name = f"{token_hex(6)}.example.com"
        domain = factories.domain(admin, domain=name)
        assert operator.get("/admin/search", q=name).headers["Location"] == f"/admin/domains/{domain}"
        body = {"client_id": 42, "product_id": 2, "billing_cycle": "monthly", "domain": name}
        service = factories.made(admin.post("/services", body))
        found = operator.get("/admin/search", q=name.upper())
        assert found.headers["Location"] == f"/admin/services/{service}"

    def test_a_user_name_and_a_phone_number_lead_to_what_alone_has_them(
        self, operator: Browser, admin: Api
    ) -> None:
        name = f"u{token_hex(6)}"
        body = {"client_id": 42, "product_id": 2, "billing_cycle": "monthly", "username": name}
        service = factories.made(admin.post("/services", body))
        assert operator.get("/admin/search", q=name).headers["Location"] == f"/admin/services/{service}"
        phone = f"+49 30 {int(token_hex(4), 16):010d}"
        client = factories.client(admin, phone=phone)
        assert operator.get("/admin/search", q=phone).headers["Location"] == f"/admin/clients/{client}"

    def test_words_show_what_has_them_by_kind(self, operator: Browser, admin: Api) -> None:
        word = f"w{token_hex(6)}"
        factories.client(admin, company=word)
        body = {"client_id": 42, "department_id": 2, "subject": f"About {word}", "message": "?"}
        ticket = factories.made(admin.post("/tickets", body))
        for _ in range(7):
            factories.article(admin, title=word)
        response = operator.get("/admin/search", q=word)
        assert response.status_code == 200
        assert re.findall(r"<h2[^>]*>(\w+)</h2>", response.text) == ["Clients", "Tickets", "Knowledgebase"]
        assert f'href="/admin/tickets/{ticket}"' in response.text
        assert f'href="/admin/knowledgebase?q={word}"' in response.text
        assert f'value="{word}"' in response.text

    @pytest.mark.parametrize(
        "q", ["#999999", "TKT-00000000", "INV-999999", "nobody@nowhere.example", "<u>qqzzqq&\"'"]
    )
    def test_what_is_not_there_is_said(self, operator: Browser, q: str) -> None:
        response = operator.get("/admin/search", q=q)
        assert response.status_code == 200
        assert f"Nothing was found for “{escape(q)}”." in response.text
        assert "<u>" not in response.text

    @pytest.mark.parametrize("query", [{}, {"q": ""}, {"q": "  "}])
    def test_without_a_text_it_says_what_it_takes(self, operator: Browser, query: dict[str, str]) -> None:
        response = operator.get("/admin/search", **query)
        assert response.status_code == 200 and "Type a ticket or invoice number" in text(response)

    @pytest.mark.parametrize("q", ["x" * 500, "\x00", "a\nb", "%ff", "#" + "9" * 40, "東京", "1" * 20])
    def test_any_text_is_safe(self, operator: Browser, q: str) -> None:
        assert operator.get("/admin/search", q=q).status_code in (200, 303)

    def test_every_page_has_it_for_those_who_have_signed_in(
        self, operator: Browser, stranger: Browser
    ) -> None:
        for path in ("/admin", "/admin/clients", "/admin/tickets/15"):
            assert 'action="/admin/search"' in operator.get(path).text
        assert 'action="/admin/search"' not in stranger.get("/admin/sign-in").text
        led = stranger.get("/admin/search", q="TKT-A3F7B2C1")
        assert led.headers["Location"] == "/admin/sign-in?next=/admin/search%3Fq%3DTKT-A3F7B2C1"

    def test_next_pages_of_a_search_follow_the_rank(self, operator: Browser, admin: Api) -> None:
        word = f"w{token_hex(6)}"
        ids = [
            factories.article(admin, title=f"{word} {nth}" if nth % 2 else "Test", content=word)
            for nth in range(30)
        ]
        seen: list[int] = []
        where = f"/admin/knowledgebase?q={word}"
        while where:
            page = operator.get(where).text
            seen += [
                int(each)
                for each in re.findall(r'<th scope="row"><a href="/admin/knowledgebase/(\d+)"', page)
            ]
            following = re.search(r'<a rel="next" href="([^"]+)"', page)
            where = following[1].replace("&amp;", "&") if following else ""
        assert sorted(seen) == sorted(ids) and len(seen) == 30
