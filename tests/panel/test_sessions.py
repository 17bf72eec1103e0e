"""Signing in: what opens the panel, for how long, and what closes it again."""

import asyncio
import os
import re
import socket
import threading
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from datetime import datetime, timedelta
from pathlib import Path
from secrets import token_hex
from typing import Any

import httpx
import pytest
from starlette.requests import Request

from panel import sessions, submitted
from panel.app import TRIES
from panel.sessions import COOKIE, DEVICE_COOKIE, DEVICE_LIFETIME, MAX_COOKIES, read_cookie
from persistence import credentials, demo, operators, passwords
from persistence.database import Connection
from persistence.operators import (
    ATTEMPTS_KEPT,
    ATTEMPTS_PURGED,
    IDLE,
    LONGEST,
    DelayRule,
    Session,
    SignInAttempts,
    TooEarly,
)
from persistence.sealing import Box
from server import app
from tests.conftest import new_database
from tests.support.contract_client import Api
from tests.support.live_server import ADMIN, Running, mount_panel, prepared, serving
from tests.support.operators import Browser, Form, text

PASSWORD = "correct horse battery"
WRONG = "wrong"

VARYING = ("date", "x-request-id")


@pytest.fixture(scope="module")
def server(
    backend: str, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Iterator[Running]:
    """A demo server that believes what this machine says of addresses, so that a test may come from any."""
    postgres = request.getfixturevalue("postgres") if backend == "postgresql" else None
    url = new_database(backend, tmp_path_factory.mktemp("sessions"), postgres)
    with serving(prepared(url, trusted=("127.0.0.0/8",))) as running:
        yield running


_numbers = iter(range(1, 60_000))


def new_address() -> str:
    """An address that no test has used."""
    high, low = divmod(next(_numbers), 250)
    return f"198.18.{high}.{low + 1}"


@pytest.fixture
def browser(server: Running) -> Iterator[Browser]:
    """A browser at an address of its own."""
    browser = Browser(server, new_address())
    yield browser
    browser.close()


def attempt(
    server: Running, name: str, password: str = WRONG, *, address: str = "", device: str = ""
) -> httpx.Response:
    """One try to sign in, from a new address where none is given, with a device's cookie where one is."""
    browser = Browser(server, address or new_address())
    if device:
        browser.http.headers["Cookie"] = f"{DEVICE_COOKIE}={device}"
    response = browser.sign_in(name, password)
    browser.close()
    return response


def cookies_of(response: httpx.Response) -> dict[str, str]:
    """The cookies that a response sets, each as its header says."""
    return {each.partition("=")[0]: each for each in response.headers.get_list("Set-Cookie")}


def device_of(response: httpx.Response) -> str:
    assert response.status_code == 303, text(response)
    return cookies_of(response)[DEVICE_COOKIE].partition(";")[0].partition("=")[2]


def posted(server: Running, address: str, *lines: str) -> bytes:
    """The head of a sign-in from an address, with more header lines, and no byte of a body."""
    head = (
        "POST /admin/sign-in HTTP/1.1",
        f"Host: 127.0.0.1:{server.port}",
        f"Origin: {server.base}",
        f"X-Forwarded-For: {address}",
        "Content-Type: application/x-www-form-urlencoded",
    )
    return "\r\n".join((*head, *lines, "", "")).encode()


def answered(server: Running, sent: bytes) -> tuple[int, str]:
    """The status, and the whole answer, of what is sent; the server must end the connection."""
    with socket.create_connection(("127.0.0.1", server.port), 20) as wire:
        wire.sendall(sent)
        parts = []
        while part := wire.recv(65536):
            parts.append(part)
    received = b"".join(parts).decode()
    assert "\r\nconnection: close\r\n" in received.lower()
    return int(received.split(" ")[1]), received


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

    @pytest.mark.parametrize("typed", ["José {}", "Jose\u0301 {}", " José {} "])
    def test_a_name_is_the_same_from_every_keyboard(
        self, browser: Browser, server: Running, hashed: str, typed: str
    ) -> None:
        name = f"José {token_hex(4)}"
        server.inside(lambda db: operators.create(db, name, hashed, app.now()), write=True)
        assert browser.sign_in(typed.format(name.split()[1]), PASSWORD).status_code == 303
        assert browser.sign_in(name.upper(), PASSWORD).status_code == 403
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
        cookies = cookies_of(browser.sign_in(name, PASSWORD))
        assert list(cookies) == [COOKIE, DEVICE_COOKIE]
        (secret, *attributes), (device, *more) = (each.split("; ") for each in cookies.values())
        assert re.fullmatch(r"__Host-cloudarc=[\w-]{43}", secret)
        assert set(attributes) == {"HttpOnly", "Path=/", "SameSite=Strict", "Secure"}
        # Nothing in it needs quotes, which clients treat differently.
        assert re.fullmatch(r"__Host-cloudarc-device=[\w.~-]+", device)
        assert set(more) == {*attributes, f"Max-Age={180 * 24 * 3600}"}
        rows = server.inside(lambda db: db.fetch_all(Session.__table__.select()))
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

    def test_a_form_that_cannot_be_read_is_refused(self, browser: Browser) -> None:
        kind = {"Content-Type": "application/x-www-form-urlencoded"}
        for content in (b"a=%ff", b"\xff", b"a&" * 2000, b"a=%c3"):
            answer = browser.http.post("/admin/sign-in", content=content, headers=kind)
            assert answer.status_code == 400
            assert "URL-encoded UTF-8 of at most 2000 fields" in text(answer)

    def test_a_form_that_lacks_a_field_is_refused_and_is_no_failure(
        self, server: Running, browser: Browser, name: str
    ) -> None:
        for data in ({"name": name}, {"password": PASSWORD}, {"name": name, "password": ""}):
            answer = browser.http.post("/admin/sign-in", data=data)
            assert answer.status_code == 400
            assert "Fill in both the name and the password." in text(answer)
        assert f'value="{name}"' in browser.http.post("/admin/sign-in", data={"name": name}).text
        assert server.count(SignInAttempts, name=name) == 0

    def test_a_form_whose_length_is_over_8_kib_is_refused_before_it_is_sent(self, server: Running) -> None:
        status, received = answered(server, posted(server, new_address(), "Content-Length: 8193"))
        assert status == 413
        assert "The form is too large; it may have at most 8 KiB." in received

    def test_a_form_that_turns_out_to_be_over_8_kib_is_refused(self, server: Running) -> None:
        head = posted(server, new_address(), "Transfer-Encoding: chunked")
        status, received = answered(server, head + b"2001\r\n" + b"x" * 8193)
        assert status == 413
        assert "at most 8 KiB" in received

    def test_a_form_of_8_kib_is_read(self, browser: Browser, name: str) -> None:
        data = f"name={name}&password=".encode()
        kind = {"Content-Type": "application/x-www-form-urlencoded"}
        answer = browser.http.post("/admin/sign-in", content=data.ljust(8192, b"x"), headers=kind)
        assert answer.status_code == 403

    def test_half_a_form_is_not_waited_for(self, server: Running, monkeypatch: pytest.MonkeyPatch) -> None:
        assert submitted.SIGN_IN.seconds == 5
        monkeypatch.setattr(submitted, "SIGN_IN", submitted.Bounds(8192, 0.05))
        status, received = answered(server, posted(server, new_address(), "Content-Length: 100") + b"name=x")
        assert status == 408
        assert "The form did not arrive within 0.05 seconds; send it again." in received

    def test_a_try_is_charged_before_its_form_is_read(self, server: Running) -> None:
        address = new_address()
        for _ in range(TRIES):
            assert attempt(server, "nobody", address=address).status_code in (403, 429)
        status, received = answered(server, posted(server, address, "Content-Length: 100"))
        assert status == 429
        assert "Your address has tried to sign in 10 times in a minute; try again in" in received
        assert "\r\nretry-after: " in received.lower()

    def test_what_no_page_of_ours_sends_is_refused_uncharged_and_unread(
        self, server: Running, name: str
    ) -> None:
        address = new_address()
        for _ in range(TRIES):
            foreign = posted(server, address, "Sec-Fetch-Site: cross-site", "Content-Length: 100")
            assert answered(server, foreign)[0] == 403
            other = posted(server, address, "Content-Length: 100").replace(b"x-www-form-urlencoded", b"json")
            status, received = answered(server, other)
            assert status == 415
            assert "Only forms are accepted here, with the Content-Type" in received
        assert attempt(server, name, PASSWORD, address=address).status_code == 303

    def test_the_name_stays_in_the_form_and_the_password_does_not(self, browser: Browser, name: str) -> None:
        answer = browser.sign_in(name, "secret words")
        assert answer.status_code == 403
        assert Form(answer.text).values == {"name": name, "password": ""}
        assert "The name or the password is wrong." in text(answer)


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


Look = Callable[[str, str], Awaitable[bool]]


@pytest.fixture
def checked(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often a password was checked, of an operator and of nobody."""
    counted: Counter[str] = Counter()
    fits: Look = passwords.fits

    async def counting(password_hash: str, password: str) -> bool:
        counted["real" if password_hash != passwords.DUMMY_HASH else "nobody's"] += 1
        return await fits(password_hash, password)

    monkeypatch.setattr(passwords, "fits", counting)
    return counted


class TestDelays:
    def tries(
        self, server: Running, name: str, rules: tuple[DelayRule, ...], number: int
    ) -> list[tuple[int, int]]:
        """Try as soon as it is possible; the number and the seconds of each try that was delayed."""
        start = server.clock.fixed = app.now()
        now, delays = start, []
        for nth in range(1, number + 1):
            try:
                self.count(server, name, rules, now)
            except TooEarly as error:
                delays.append((nth, error.seconds))
                with pytest.raises(TooEarly):
                    self.count(server, name, rules, now + timedelta(seconds=error.seconds - 0.001))
                now += timedelta(seconds=error.seconds)
                self.count(server, name, rules, now)
        return delays

    def count(self, server: Running, name: str, rules: tuple[DelayRule, ...], now: datetime) -> None:
        async def work(db: Connection) -> None:
            await operators.count_attempt(db, name, rules, now)

        server.inside(work, write=True)

    def test_of_one_address_five_failures_are_free_and_then_the_delay_doubles_up_to_15_minutes(
        self, server: Running, name: str
    ) -> None:
        rules = operators.delay_rules("192.0.2.1", "")[1:]
        delays = self.tries(server, name, rules, 20)
        growing = [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 900, 900, 900, 900]
        assert delays == list(enumerate(growing, 7))

    def test_of_all_addresses_ten_failures_are_free_and_then_the_delay_doubles_up_to_a_minute(
        self, server: Running, name: str
    ) -> None:
        delays = self.tries(server, name, operators.delay_rules("192.0.2.1", "")[:1], 20)
        assert delays == list(enumerate([1, 2, 4, 8, 16, 32, 60, 60, 60], 12))

    def test_a_delay_has_a_bound_after_any_number_of_failures(self) -> None:
        for rule in operators.delay_rules("192.0.2.1", "") + operators.delay_rules("192.0.2.1", "x"):
            assert rule.delay(10**9) == rule.longest <= 900

    def test_the_longer_of_two_delays_is_told(self, server: Running, name: str) -> None:
        now = app.now()
        rules = operators.delay_rules("192.0.2.1", "")
        for _ in range(7):
            self.count(server, name, rules[1:], now)
            now += timedelta(minutes=5)
        for _ in range(6):
            self.count(server, name, rules[1:], now)
            now += timedelta(minutes=15)
        now -= timedelta(minutes=15)
        for _ in range(11):
            self.count(server, name, rules[:1], now)
        with pytest.raises(TooEarly) as refused:
            self.count(server, name, rules, now)
        assert refused.value.seconds == rules[1].delay(13) > rules[0].delay(11)

    def test_a_try_that_comes_too_early_is_told_when_is_not_checked_and_is_not_counted(
        self, server: Running, name: str, checked: Counter[str]
    ) -> None:
        server.clock.fixed = app.now()
        address = new_address()
        for _ in range(6):
            assert attempt(server, name, address=address).status_code == 403
        for _ in range(3):
            early = attempt(server, name, PASSWORD, address=address)
            assert early.status_code == 429
            assert early.headers["Retry-After"] == "1"
            assert "Too many attempts to sign in with this name failed; try again in 1 second." in text(early)
            assert "python -m server operator unlock" in text(early)
            assert Form(early.text).values["name"] == name
        assert checked == {"real": 6}
        server.clock.fixed += timedelta(seconds=1)
        assert attempt(server, name, PASSWORD, address=address).status_code == 303

    def test_of_thirty_at_once_no_more_are_checked_than_the_delays_admit(
        self, server: Running, name: str, checked: Counter[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(passwords, "_strangers", threading.BoundedSemaphore(30))
        server.clock.fixed = app.now()
        with ThreadPoolExecutor(30) as pool:
            statuses = Counter(
                each.status_code for each in pool.map(lambda _: attempt(server, name), range(30))
            )
        assert statuses == {403: 11, 429: 19}
        assert checked == {"real": 11}
        server.clock.fixed += timedelta(seconds=1)
        with ThreadPoolExecutor(30) as pool:
            statuses = Counter(
                each.status_code for each in pool.map(lambda _: attempt(server, name), range(30))
            )
        assert statuses == {403: 1, 429: 29}
        assert checked == {"real": 12}

    def test_a_name_that_nobody_has_is_treated_alike(
        self, server: Running, name: str, checked: Counter[str]
    ) -> None:
        def seen(name: str) -> list[Any]:
            server.clock.fixed = start
            found = []
            for seconds in (0,) * 13 + (1, 0, 1, 1, 30):
                server.clock.fixed += timedelta(seconds=seconds)
                response = attempt(server, name)
                headers = {key: value for key, value in response.headers.items() if key not in VARYING}
                found.append((response.status_code, headers, response.text.replace(name, "-")))
            return found

        start = app.now()
        nobody = name[::-1]
        assert seen(name) == seen(nobody)
        assert checked["real"] == checked["nobody's"] > 0
        rows = [server.count(SignInAttempts, name=each) for each in (name, nobody)]
        assert rows[0] == rows[1] > 0

    def test_no_name_is_too_odd_to_be_counted(self, server: Running, browser: Browser) -> None:
        for odd in ("\0", "a\0b", "x" * 101, "\ud7ff\U0010ffff", "'; --", " "):
            assert browser.sign_in(odd, "wrong").status_code == 403

    def test_the_right_password_forgets_the_failures_that_it_was_counted_with(
        self, server: Running, name: str
    ) -> None:
        address = new_address()
        attempt(server, name)
        attempt(server, name, address=address)
        assert server.count(SignInAttempts, name=name) == 3
        assert attempt(server, name, PASSWORD, address=address).status_code == 303
        assert server.count(SignInAttempts, name=name) == 1

    def test_unlocking_ends_all_delays_of_a_name_and_so_does_a_new_password(
        self, server: Running, name: str, hashed: str
    ) -> None:
        def let_in(end: Callable[[Connection], Awaitable[None]]) -> None:
            server.clock.fixed = app.now()
            other = attempt(server, f"{name}-")
            for _ in range(12):
                attempt(server, name)
            assert attempt(server, name, PASSWORD).status_code == 429
            server.inside(end, write=True)
            assert server.count(SignInAttempts, name=name) == 0
            assert server.count(SignInAttempts, name=f"{name}-") > 0 and other.status_code == 403
            assert attempt(server, name, PASSWORD).status_code == 303

        let_in(lambda db: operators.unlock(db, name))
        let_in(lambda db: operators.set_password(db, name, hashed))

    def test_failures_are_forgotten_after_a_day(self, server: Running, name: str) -> None:
        rules = operators.delay_rules("192.0.2.1", "")
        now = app.now()
        for _ in range(6):
            self.count(server, name, rules, now)
        with pytest.raises(TooEarly):
            self.count(server, name, rules, now)
        now += ATTEMPTS_KEPT
        for _ in range(6):
            self.count(server, name, rules, now)
        with pytest.raises(TooEarly):
            self.count(server, name, rules, now)

    def test_each_try_purges_more_forgotten_rows_than_it_adds(self, server: Running, name: str) -> None:
        now = app.now() + timedelta(days=3)
        old = [f"{name}-{nth}" for nth in range(ATTEMPTS_PURGED)]
        for each in old:
            self.count(server, each, operators.delay_rules("192.0.2.1", ""), now)
        there = server.count(SignInAttempts)
        self.count(server, name, operators.delay_rules("192.0.2.1", ""), now + ATTEMPTS_KEPT)
        assert server.count(SignInAttempts) == there + 2 - ATTEMPTS_PURGED
        self.count(server, name, operators.delay_rules("192.0.2.1", ""), now + 2 * ATTEMPTS_KEPT)
        assert server.count(SignInAttempts) == there + 2 - 2 * ATTEMPTS_PURGED

    def test_an_address_has_ten_tries_a_minute_whoever_it_claims_to_be(
        self, server: Running, name: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(passwords, "_strangers", threading.BoundedSemaphore(30))

        def once(nth: int) -> httpx.Response:
            return attempt(server, f"{name}{nth}", address="203.0.113.77")

        with ThreadPoolExecutor(30) as pool:
            answers = list(pool.map(once, range(30)))
        assert Counter(each.status_code for each in answers) == {403: TRIES, 429: 30 - TRIES}
        refused = next(each for each in answers if each.status_code == 429)
        assert 1 <= int(refused.headers["Retry-After"]) <= 60
        assert f"in {refused.headers['Retry-After']} second" in text(refused)


class TestKnownDevices:
    @pytest.fixture
    def device(self, server: Running, name: str) -> str:
        server.clock.fixed = app.now()
        return device_of(attempt(server, name, PASSWORD))

    def hold_up(self, server: Running, name: str) -> None:
        """Let strangers fail until the name is delayed."""
        while attempt(server, name).status_code != 429:
            pass

    def test_one_is_not_delayed_by_strangers_not_even_at_its_own_address(
        self, server: Running, name: str, device: str
    ) -> None:
        self.hold_up(server, name)
        address = new_address()
        server.inside(lambda db: self.fail(db, name, address, server.clock()), write=True)
        assert attempt(server, name, PASSWORD, address=address).status_code == 429
        again = attempt(server, name, PASSWORD, address=address, device=device)
        assert again.status_code == 303
        # It has opened the door for itself alone.
        assert attempt(server, name, PASSWORD).status_code == 429
        assert attempt(server, name, PASSWORD, device=device_of(again)).status_code == 303

    @staticmethod
    async def fail(db: Connection, name: str, address: str, now: datetime) -> None:
        for _ in range(6):
            await operators.count_attempt(db, name, operators.delay_rules(address, "")[1:], now)

    def test_whoever_has_stolen_one_is_delayed_from_every_address(
        self, server: Running, name: str, device: str
    ) -> None:
        statuses = [attempt(server, name, device=device).status_code for _ in range(8)]
        assert statuses == [403] * 6 + [429] * 2
        # And delays nobody else.
        assert attempt(server, name, PASSWORD).status_code == 303

    def test_it_is_known_for_180_days(self, server: Running, name: str, device: str) -> None:
        assert server.clock.fixed is not None
        start = server.clock.fixed
        for age, status in (
            (DEVICE_LIFETIME - timedelta(seconds=1), 303),
            (DEVICE_LIFETIME, 429),
        ):
            server.clock.fixed = start + age
            self.hold_up(server, name)
            assert attempt(server, name, PASSWORD, device=device).status_code == status

    def test_a_new_password_makes_it_unknown(self, server: Running, name: str, device: str) -> None:
        another = passwords.HASHER.hash("another password")
        server.inside(lambda db: operators.set_password(db, name, another), write=True)
        self.hold_up(server, name)
        assert attempt(server, name, "another password", device=device).status_code == 429

    def test_one_of_another_operator_a_damaged_one_and_a_forged_one_are_none(
        self, server: Running, name: str, hashed: str, device: str
    ) -> None:
        other = f"{name}-other"
        server.inside(lambda db: operators.create(db, other, hashed, app.now()), write=True)
        others = device_of(attempt(server, other, PASSWORD))
        forged = Box("another secret key that is long enough").seal("x 99999999999", "x")
        self.hold_up(server, name)
        for value in (
            others,
            device[:-1],
            device[:-2] + ("A" if device[-2] != "A" else "B") + device[-1],
            device.upper(),
            device.rpartition(".")[0] + ".",
            forged.translate(sessions.TO_COOKIE),
            "v1",
            "..",
            "x",
            "x" * 8000,
        ):
            assert attempt(server, name, PASSWORD, device=value).status_code == 429, value
        assert attempt(server, name, PASSWORD, device=device).status_code == 303

    def test_without_a_box_none_is_known(self, server: Running, name: str) -> None:
        without = sessions.Sessions(server.database, server.clock)

        async def work(db: Connection) -> sessions.SignedInOperator | None:
            return await without.sign_in(name, PASSWORD, new_address(), "x")

        signed = server.inside(work)
        assert signed is not None and signed.device == ""


class TestManyAtOnce:
    @pytest.fixture
    def held(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
        """No check of a password ends before this is set."""
        go = threading.Event()
        check = passwords._fits

        def waiting(password_hash: str, password: str) -> bool:
            assert go.wait(60)
            return check(password_hash, password)

        monkeypatch.setattr(passwords, "_fits", waiting)
        yield go
        go.set()

    @pytest.fixture
    def all_wait(self, monkeypatch: pytest.MonkeyPatch) -> threading.Event:
        """Is set when as many checks are asked for as there are places."""
        asked = threading.Event()
        left = passwords.STRANGERS
        fits: Look = passwords.fits

        async def counting(password_hash: str, password: str) -> bool:
            nonlocal left
            left -= 1
            if left == 0:
                # Once this task waits for its thread.
                asyncio.get_running_loop().call_soon(asked.set)
            return await fits(password_hash, password)

        monkeypatch.setattr(passwords, "fits", counting)
        return asked

    def start(self, server: Running, number: int, statuses: list[int]) -> Any:
        """Begin sign-ins from new addresses in the server's loop; ``statuses`` grows with each answer."""
        addresses = [new_address() for _ in range(number)]

        async def one(address: str) -> None:
            transport = httpx.ASGITransport(server.served, client=(address, 1))
            headers = {"Origin": server.base}
            async with httpx.AsyncClient(transport=transport, base_url=server.base, headers=headers) as http:
                data = {"name": address, "password": "wrong"}
                response = await http.post("/admin/sign-in", data=data, timeout=60)
            if response.status_code == 503:
                assert response.headers["Retry-After"] == "1"
                assert "Too many sign-ins are being checked at the moment; try again in 1 second." in text(
                    response
                )
                assert Form(response.text).values["name"] == address
            statuses.append(response.status_code)

        async def run() -> None:
            await asyncio.gather(*map(one, addresses))

        assert server.loop is not None
        return asyncio.run_coroutine_threadsafe(run(), server.loop)

    def test_a_client_is_registered_while_three_hundred_sign_ins_wait(
        self, server: Running, held: threading.Event, all_wait: threading.Event
    ) -> None:
        statuses: list[int] = []
        running = self.start(server, 300, statuses)
        assert all_wait.wait(60)
        admin = Api(server.url, ADMIN)
        body = {"first_name": "A", "last_name": "B", "email": f"{token_hex(6)}@example.com"}
        made = admin.http.post("/clients", json={**body, "password": "correct horse"}, timeout=30)
        admin.close()
        assert made.status_code == 201
        # Not one password has been checked, and nobody waits whose turn would not come soon.
        assert set(statuses) <= {503}
        held.set()
        running.result(60)
        # A place that is free again before all have come is taken once more.
        counts = Counter(statuses)
        assert counts.keys() == {403, 503}
        assert passwords.STRANGERS <= counts[403] <= 3 * passwords.STRANGERS

    def test_a_refusal_for_lack_of_a_place_is_no_failure(
        self, server: Running, name: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(passwords, "_strangers", threading.BoundedSemaphore(1))
        with passwords.sign_in_place(known_device=False):
            assert attempt(server, name).status_code == 503
        assert server.count(SignInAttempts, name=name) == 0
        assert attempt(server, name).status_code == 403

    def test_strangers_cannot_take_the_places_of_known_devices(self, server: Running, name: str) -> None:
        device = device_of(attempt(server, name, PASSWORD))
        with ExitStack() as places:
            for _ in range(passwords.STRANGERS):
                places.enter_context(passwords.sign_in_place(known_device=False))
            assert attempt(server, name, PASSWORD).status_code == 503
            assert attempt(server, name, PASSWORD, device=device).status_code == 303

    @pytest.mark.skipif(not hasattr(os, "getpriority"), reason="there are no priorities here")
    def test_the_thread_of_sign_ins_stands_behind_the_others(self) -> None:
        def niceness() -> int:
            return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())

        assert passwords._sign_in_thread.submit(niceness).result() == max(passwords.NICENESS, niceness())
        assert passwords._threads.submit(niceness).result() == niceness()

    def test_one_caller_with_many_new_passwords_delays_another_by_one_hash(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        begun: list[str] = []

        class Hasher:
            @staticmethod
            def hash(password: str) -> str:
                begun.append(password)
                return ""

        monkeypatch.setattr(passwords, "HASHER", Hasher)

        async def run() -> None:
            many = [asyncio.create_task(passwords.hashed("many", "one")) for _ in range(50)]
            single = asyncio.create_task(passwords.hashed("single", "another"))
            await asyncio.gather(*many, single)

        asyncio.run(run())
        assert begun.index("single") <= passwords.THREADS and len(begun) == 51


class TestCookies:
    """How a cookie's header may be spelled, so that another host's cookie never passes for the panel's."""

    @staticmethod
    def read(*headers: bytes) -> str:
        scope = {"type": "http", "headers": [(b"host", b"x"), *((b"cookie", each) for each in headers)]}
        return read_cookie(Request(scope), COOKIE)

    def test_no_byte_beside_the_name_makes_it_another_spelling_of_the_name(self) -> None:
        name = COOKIE.encode()
        for code in range(256):
            byte = bytes([code])
            before = self.read(byte + name + b"=S")
            assert before == ("S" if byte in (b" ", b"\t", b";") else ""), code
            assert self.read(b"a=b;" + byte + name + b"=S") == before, code
            assert self.read(name + byte + b"=S") == ("=S" if byte == b"=" else ""), code
            assert self.read(byte + name + b"=stolen; " + name + b"=S") == ("S" if before == "" else ""), code

    @pytest.mark.parametrize(
        ("headers", "value"),
        [
            ([b"__Host-cloudarc=S"], "S"),
            ([b"a=1; __Host-cloudarc=S; b=2"], "S"),
            ([b"a=1", b"__Host-cloudarc=S"], "S"),
            ([b"__Host-cloudarc=S \t"], "S"),
            ([b"__host-cloudarc=S"], ""),
            ([b"__HOST-CLOUDARC=S"], ""),
            ([b'"__Host-cloudarc"=S'], ""),
            ([b'__Host-cloudarc="S"'], '"S"'),
            ([b"__Host-cloudarc"], ""),
            ([b"=__Host-cloudarc=S"], ""),
            ([b"$Version=1; $Path=/; __Host-cloudarc=S"], "S"),
            ([b"a=1, __Host-cloudarc=S"], ""),
            ([b"__Host-cloudarc=S; __Host-cloudarc=T"], ""),
            ([b"__Host-cloudarc=S; __Host-cloudarc=S"], ""),
            ([b"__Host-cloudarc=S", b"__Host-cloudarc=T"], ""),
            ([b"__Host-cloudarc=S; __Host-cloudarc="], ""),
            ([b"__Host-cloudarc-device=T; __Host-cloudarc=S"], "S"),
            ([b"__Host-cloudarc=S; a=".ljust(MAX_COOKIES, b"x")], "S"),
            ([b"__Host-cloudarc=S; a=".ljust(MAX_COOKIES + 1, b"x")], ""),
            ([b"__Host-cloudarc=S", b"a=".ljust(MAX_COOKIES - 16, b"x")], ""),
            ([b""], ""),
            ([], ""),
        ],
    )
    def test_the_exact_name_counts_once_in_a_short_header(self, headers: list[bytes], value: str) -> None:
        assert self.read(*headers) == value

    def test_a_name_that_begins_with_unicodes_white_space_opens_nothing(
        self, server: Running, browser: Browser, name: str
    ) -> None:
        browser.sign_in(name, PASSWORD)
        pair = str(browser.http.headers["Cookie"]).encode()
        for header, status in (
            (pair, 200),
            (b"\xa0" + pair, 303),
            (b"\x85" + pair, 303),
            (pair + b"; " + pair, 303),
            (pair + b"; " + pair.replace(b"=", b"=x"), 303),
        ):
            assert httpx.get(f"{server.base}/admin", headers={b"Cookie": header}).status_code == status


class TestWrongPasswords:
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
        panel = mount_panel(running.database, running.api, running.clock, {demo.OPERATOR_HASH})
        running = Running(running.database, running.api, running.clock, panel)
        with serving(running):
            browser = Browser(running)
            assert browser.sign_in().status_code == 403
            browser.close()


class TestPasswords:
    def test_the_demo_operators_hash_is_of_its_password(self) -> None:
        assert passwords.HASHER.verify(demo.OPERATOR_HASH, demo.OPERATOR_PASSWORD)

    def test_a_hash_costs_what_is_promised(self) -> None:
        for each in (demo.OPERATOR_HASH, passwords.DUMMY_HASH):
            assert each.startswith("$argon2id$v=19$m=19456,t=2,p=1$")

    def test_what_is_no_hash_fits_nothing(self) -> None:
        async def run() -> Any:
            return [await passwords.fits(each, "x") for each in ("", "x", "$argon2id$")]

        assert asyncio.run(run()) == [False] * 3
