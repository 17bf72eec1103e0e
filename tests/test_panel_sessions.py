"""Signing in: what opens the panel, for how long, and what closes it again."""

import re
import socket
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from secrets import token_hex
from typing import Any

import httpx
import pytest

from panel import forms
from persistence import credentials, demo, operators, passwords
from persistence.operators import IDLE, LOCKED_AT, LONGEST, Operator, Session
from server import app
from server.panel import TRIES, Front
from tests.conftest import new_database
from tests.operators import Browser, Form, text
from tests.running import Running, prepared, serving

PASSWORD = "correct horse battery"


@pytest.fixture(scope="module")
def server(
    backend: str, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Iterator[Running]:
    """A demo server that believes what this machine says of addresses, so that a test may come from any."""
    postgres = request.getfixturevalue("postgres") if backend == "postgresql" else None
    url = new_database(backend, tmp_path_factory.mktemp("sessions"), postgres)
    with serving(prepared(url, trusted=("127.0.0.0/8",))) as running:
        yield running


_address = iter(range(1, 250))


@pytest.fixture
def browser(server: Running) -> Iterator[Browser]:
    """A browser at an address of its own."""
    browser = Browser(server, f"198.51.100.{next(_address)}")
    yield browser
    browser.close()


@pytest.fixture(scope="module")
def hashed() -> str:
    return passwords.HASHER.hash(PASSWORD)


@pytest.fixture
def name(server: Running, hashed: str) -> str:
    """A new operator with PASSWORD."""
    made = f"op-{token_hex(4)}"
    server.inside(lambda db: operators.create(db, made, hashed, app.now()), write=True)
    return made


class TestSignIn:
    def test_the_right_password_opens_the_panel(self, browser: Browser, name: str) -> None:
        response = browser.sign_in(name, PASSWORD)
        assert (response.status_code, response.headers["Location"]) == (303, "/admin")
        assert name in text(browser.get("/admin"))

    def test_it_is_logged_who_has_and_not_who_has_not(
        self, browser: Browser, name: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        with caplog.at_level("INFO", "cloudarc.access"):
            browser.sign_in(name, "wrong")
            browser.sign_in(name, PASSWORD)
            # A line is written after its answer was sent, and before the next request is read.
            browser.get("/")
        lines = [each.fields for each in caplog.records]  # type: ignore[attr-defined]  # known at run time only
        told = [each for each in lines if each["operation"] == "panel_sign_in"]
        assert len(told) == 2
        assert told[0]["caller"] == "-" and told[1]["caller"].startswith("operator:")
        assert PASSWORD not in caplog.text and name not in caplog.text

    def test_the_cookie_is_for_this_host_for_no_script_and_for_no_other_site(
        self, browser: Browser, name: str, server: Running
    ) -> None:
        cookie = browser.sign_in(name, PASSWORD).headers["Set-Cookie"]
        secret, *attributes = cookie.split("; ")
        assert re.fullmatch(r"__Host-cloudarc=[\w-]{43}", secret)
        assert {each.lower() for each in attributes} == {"httponly", "path=/", "samesite=strict", "secure"}
        rows = server.inside(lambda db: db.all(Session.__table__.select()))
        assert rows and secret.partition("=")[2] not in str(rows)

    def test_a_wrong_password_and_a_name_that_nobody_has_are_refused_alike(
        self, browser: Browser, name: str
    ) -> None:
        wrong, nobody = browser.sign_in(name, PASSWORD + "x"), browser.sign_in(f"{name}x", PASSWORD)
        assert wrong.status_code == nobody.status_code == 403
        assert "Set-Cookie" not in wrong.headers
        assert text(wrong) == text(nobody).replace(f"{name}x", name)
        assert PASSWORD not in wrong.text

    def test_it_leads_back_to_where_one_was_going_but_never_elsewhere(
        self, browser: Browser, name: str
    ) -> None:
        for way, leads in (
            ("/admin/clients/42", "/admin/clients/42"),
            ("https://example.com/", "/admin"),
            ("//example.com/admin", "/admin"),
            ("/admin/\r\nX: y", "/admin"),
            ("/admin\\@example.com", "/admin"),
        ):
            response = browser.http.post(
                "/admin/sign-in", params={"next": way}, data={"name": name, "password": PASSWORD}
            )
            assert response.headers["Location"] == leads

    @pytest.mark.parametrize(
        ("headers", "status"),
        [
            ({"Sec-Fetch-Site": "cross-site"}, 403),
            ({"Sec-Fetch-Site": "same-site"}, 403),
            ({"Sec-Fetch-Site": "none"}, 403),
            ({"Origin": "https://example.com"}, 403),
            ({"Origin": "null"}, 403),
            ({"Content-Type": "text/plain"}, 415),
            ({"Content-Type": "application/json"}, 415),
            ({"Content-Type": "multipart/form-data; boundary=x"}, 415),
        ],
    )
    def test_a_form_of_another_site_or_kind_is_not_read(
        self, browser: Browser, name: str, headers: dict[str, str], status: int
    ) -> None:
        data = {"name": name, "password": PASSWORD}
        response = browser.http.post("/admin/sign-in", data=data, headers=headers)
        assert response.status_code == status
        assert "Set-Cookie" not in response.headers

    def test_who_does_not_say_where_a_form_comes_from_is_refused(self, server: Running, name: str) -> None:
        data = {"name": name, "password": PASSWORD}
        assert httpx.post(f"{server.base}/admin/sign-in", data=data).status_code == 403
        alone = httpx.post(f"{server.base}/admin/sign-in", data=data, headers={"Origin": server.base})
        assert alone.status_code == 303

    def test_a_form_that_is_too_large_or_cannot_be_read_is_refused(self, browser: Browser) -> None:
        kind = {"Content-Type": "application/x-www-form-urlencoded"}
        for content, status in (
            (b"a=" + b"x" * 2_200_000, 413),
            (b"a=%ff", 400),
            (b"\xff", 400),
            (b"a&" * 3000, 400),
        ):
            answer = browser.http.post("/admin/sign-in", content=content, headers=kind)
            assert answer.status_code == status

    def test_a_form_that_does_not_come_is_not_waited_for(
        self, server: Running, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(forms, "SECONDS", 0.05)
        head = (
            f"POST /admin/sign-in HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\nOrigin: {server.base}\r\n"
            "Content-Type: application/x-www-form-urlencoded\r\nContent-Length: 100\r\n\r\nname=x"
        )
        with socket.create_connection(("127.0.0.1", server.port), 20) as wire:
            wire.sendall(head.encode())
            assert wire.recv(65536).startswith(b"HTTP/1.1 408 ")


class TestSessions:
    def cookie(self, browser: Browser) -> str:
        return str(browser.http.headers["Cookie"])

    def test_a_cookie_opens_nothing_after_signing_out(self, browser: Browser, name: str) -> None:
        browser.sign_in(name, PASSWORD)
        page = browser.get("/admin")
        form = Form(page.text, "/admin/sign-out")
        response = browser.send_form(form, "/admin/sign-out", {})
        assert response.headers["Location"] == "/admin/sign-in"
        assert "Max-Age=0" in response.headers["Set-Cookie"]
        # The browser still has it, or somebody who has copied it.
        assert browser.get("/admin").status_code == 303
        assert (
            browser.send_form(form, "/admin/sign-out", {})
            .headers["Location"]
            .endswith("next=/admin&ended=yes")
        )

    def test_signing_out_needs_the_sessions_token(self, browser: Browser, name: str) -> None:
        browser.sign_in(name, PASSWORD)
        assert browser.http.post("/admin/sign-out", data={"_csrf": "0"}).status_code == 403
        assert browser.get("/admin").status_code == 200

    def test_the_token_of_one_session_is_none_of_another(self, server: Running, name: str) -> None:
        pair = [Browser(server, f"203.0.113.{nth}") for nth in (1, 2)]
        for each in pair:
            each.sign_in(name, PASSWORD)
        form = Form(pair[0].get("/admin/departments/new").text)
        assert pair[1].send_form(form, "/admin/departments/new", {"name": "x"}).status_code == 403
        assert pair[0].send_form(form, "/admin/departments/new", {"name": "x"}).status_code == 303
        for each in pair:
            each.close()

    def test_it_ends_after_half_an_hour_without_use(
        self, server: Running, browser: Browser, name: str
    ) -> None:
        start = server.clock.fixed = app.now()
        browser.sign_in(name, PASSWORD)
        for _ in range(3):
            server.clock.fixed += IDLE - timedelta(seconds=1)
            assert browser.get("/admin").status_code == 200
        assert server.clock.fixed - start > IDLE
        server.clock.fixed += IDLE
        assert browser.get("/admin").status_code == 303

    def test_it_ends_after_twelve_hours_however_much_it_is_used(
        self, server: Running, browser: Browser, name: str
    ) -> None:
        start = server.clock.fixed = app.now()
        browser.sign_in(name, PASSWORD)
        while server.clock.fixed + timedelta(minutes=20) < start + LONGEST:
            server.clock.fixed += timedelta(minutes=20)
            assert browser.get("/admin").status_code == 200
        server.clock.fixed = start + LONGEST
        assert browser.get("/admin").status_code == 303

    def test_all_end_with_a_new_password(
        self, server: Running, browser: Browser, name: str, hashed: str
    ) -> None:
        browser.sign_in(name, PASSWORD)
        assert browser.get("/admin").status_code == 200
        server.inside(lambda db: operators.set_password(db, name, hashed), write=True)
        assert browser.get("/admin").status_code == 303

    def test_sessions_that_are_dead_are_forgotten(self, server: Running, browser: Browser, name: str) -> None:
        browser.sign_in(name, PASSWORD)
        digest = credentials.digest(self.cookie(browser).partition("=")[2])
        assert server.count(Session, digest=digest) == 1
        server.clock.fixed = app.now() + LONGEST
        browser.sign_in(name, PASSWORD)
        assert server.count(Session, digest=digest) == 0

    @pytest.mark.parametrize("value", ["", "x", "0" * 43, "ä", '"', "a" * 5000])
    def test_a_cookie_that_is_none_opens_nothing(self, server: Running, value: str) -> None:
        headers = {b"Cookie": f"__Host-cloudarc={value}".encode()}
        response = httpx.get(f"{server.base}/admin/clients", headers=headers)
        assert response.status_code == 303

    def test_credentials_of_the_api_open_nothing_here_and_the_cookie_nothing_there(
        self, server: Running, browser: Browser, name: str
    ) -> None:
        for secret in (demo.ADMIN_KEY, demo.CLIENT_TOKEN):
            headers = {"Authorization": f"Bearer {secret}"}
            assert httpx.get(f"{server.base}/admin/clients", headers=headers).status_code == 303
        browser.sign_in(name, PASSWORD)
        answer = httpx.get(f"{server.url}/clients", headers={"Cookie": self.cookie(browser)})
        assert answer.status_code == 401


class TestWrongPasswords:
    def tries(self, server: Running, name: str) -> int:
        table = Operator.__table__
        return int(server.inside(lambda db: db.one(table.select().where(table.c.name == name))).tries)

    def test_ten_lock_the_operator_until_it_is_unlocked(self, server: Running, name: str) -> None:
        def attempt(nth: int, password: str) -> int:
            browser = Browser(server, f"192.0.2.{nth}")
            status = browser.sign_in(name, password).status_code
            browser.close()
            return status

        assert [attempt(nth, "wrong") for nth in range(LOCKED_AT)] == [403] * LOCKED_AT
        assert attempt(50, PASSWORD) == 403
        server.inside(lambda db: operators.unlock(db, name), write=True)
        assert attempt(51, PASSWORD) == 303
        assert self.tries(server, name) == 0

    def test_nine_and_a_right_one_do_not(self, server: Running, browser: Browser, name: str) -> None:
        for _ in range(LOCKED_AT - 1):
            browser.sign_in(name, "wrong")
        assert browser.sign_in(name, PASSWORD).status_code == 303
        assert self.tries(server, name) == 0

    def test_of_thirty_at_once_no_more_are_looked_at_than_an_operator_has(
        self, server: Running, name: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        looked_at: Counter[str] = Counter()
        fits = passwords.fits

        async def counting(password_hash: str, password: str) -> bool:
            looked_at["real" if password_hash != passwords.NOBODYS else "nobody's"] += 1
            return await fits(password_hash, password)

        monkeypatch.setattr(passwords, "fits", counting)

        def attempt(nth: int) -> int:
            browser = Browser(server, f"192.0.2.{100 + nth}")
            status = browser.sign_in(name, "wrong").status_code
            browser.close()
            return status

        with ThreadPoolExecutor(30) as pool:
            assert Counter(pool.map(attempt, range(30))) == {403: 30}
        assert looked_at == {"real": LOCKED_AT, "nobody's": 30 - LOCKED_AT}
        assert self.tries(server, name) == LOCKED_AT

    def test_an_address_has_ten_tries_a_minute_whoever_it_claims_to_be(
        self, server: Running, name: str
    ) -> None:
        def attempt(nth: int) -> httpx.Response:
            browser = Browser(server, "203.0.113.77")
            response = browser.sign_in(f"{name}{nth}", "wrong")
            browser.close()
            return response

        with ThreadPoolExecutor(30) as pool:
            answers = list(pool.map(attempt, range(30)))
        assert Counter(each.status_code for each in answers) == {403: TRIES, 429: 30 - TRIES}
        refused = next(each for each in answers if each.status_code == 429)
        assert 1 <= int(refused.headers["Retry-After"]) <= 60
        assert f"in {refused.headers['Retry-After']} seconds" in text(refused)

    def test_a_password_that_is_changed_while_the_old_one_is_looked_at_opens_nothing(
        self, server: Running, browser: Browser, name: str, hashed: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        fits = passwords.fits

        async def slow(password_hash: str, password: str) -> bool:
            result = await fits(password_hash, password)
            async with server.database.transaction() as db:
                await operators.set_password(db, name, passwords.HASHER.hash("another one"))
            return result

        monkeypatch.setattr(passwords, "fits", slow)
        assert browser.sign_in(name, PASSWORD).status_code == 403

    def test_a_hash_that_everybody_knows_opens_nothing_in_production(self, tmp_path: Path) -> None:
        running = prepared(f"sqlite:///{tmp_path / 'p.db'}")
        running = Running(
            running.database, running.edge, running.clock, Front(running.edge, dead={demo.OPERATOR_HASH})
        )
        with serving(running):
            browser = Browser(running)
            assert browser.sign_in().status_code == 403
            browser.close()


class TestPasswords:
    def test_the_demo_operators_hash_is_of_its_password(self) -> None:
        assert passwords.HASHER.verify(demo.OPERATOR_HASH, demo.OPERATOR_PASSWORD)

    def test_a_hash_costs_what_is_promised(self) -> None:
        for each in (demo.OPERATOR_HASH, passwords.NOBODYS):
            assert each.startswith("$argon2id$v=19$m=19456,t=2,p=1$")

    def test_what_is_no_hash_fits_nothing(self) -> None:
        async def run() -> Any:
            return [await passwords.fits(each, "x") for each in ("", "x", "$argon2id$")]

        import asyncio

        assert asyncio.run(run()) == [False] * 3
