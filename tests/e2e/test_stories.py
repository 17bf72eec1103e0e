"""What operators do at the panel, and what is done to them, in Debian's Chromium against a live server."""

import json
import os
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from panel.page_registry import PageRegistry
from tests.e2e.conftest import program
from tests.operations.test_command_line import served
from tests.panel.test_pages import XSS, address
from tests.soak.processes import Log, receiver, until
from tests.support.contract_client import DOCUMENT
from tests.support.live_server import ADMIN, CLIENT

Story = Callable[..., Any]
KEY = {"Authorization": f"Bearer {ADMIN}"}
SETTINGS = {"webhook_private_targets": "on", "rate_limit_admin": "0", "trusted_proxies": "127.0.0.1/32"}


@pytest.fixture(scope="module")
def received(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Log]]:
    with receiver(tmp_path_factory.mktemp("received")) as started:
        yield started


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("stories")


@pytest.fixture(scope="module")
def base(folder: Path) -> Iterator[str]:
    with served(folder, **SETTINGS) as (_, address):
        yield address


@pytest.fixture(scope="module")
def tell(base: str, packages: Path) -> Story:
    """Plays a story in the browser; what was seen."""

    def play(story: str, **given: Any) -> Any:
        run = subprocess.run(
            [program("node", "nodejs"), str(packages / "stories.js"), story, base.removesuffix("/api/v1")],
            env={**os.environ, "CHROMIUM": program("chromium", "chromium")},
            input=json.dumps(given),
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert run.returncode == 0, run.stderr
        return json.loads(run.stdout)

    return play


def admin(base: str, path: str) -> Any:
    return httpx.get(base + path, headers=KEY).json()["data"]


class TestVerbs:
    def test_a_service_is_suspended_and_its_webhook_arrives(
        self, base: str, tell: Story, received: tuple[str, Log]
    ) -> None:
        target, log = received
        body = {"url": f"{target}/ok", "events": ["service.suspended"]}
        assert httpx.post(f"{base}/webhooks", headers=KEY, json=body).status_code == 201
        seen = tell("suspend", service=1)
        assert admin(base, "/services/1")["status"] == "suspended"
        assert "suspended" in seen["done"].lower() and seen["asked"] != seen["done"]
        until(lambda: [each for each in log.read() if each.path == "/ok"], 20, "webhook")
        told = json.loads(log.received[-1].body)
        assert (told["event"], told["data"]["id"]) == ("service.suspended", 1)

    def test_a_changed_limit_is_in_the_header_of_the_next_answer(self, base: str, tell: Story) -> None:
        def limit() -> str:
            answer = httpx.get(f"{base}/services", headers={"Authorization": f"Bearer {CLIENT}"})
            return answer.headers["X-RateLimit-Limit"]

        assert limit() == "60"
        tell("limit", limit="77")
        until(lambda: limit() == "77", 6, "limit")

    def test_an_invoice_that_is_paid_in_two_tabs_at_once_is_paid_once(self, base: str, tell: Story) -> None:
        body = {
            "client_id": 42,
            "due_date": "2035-01-31",
            "items": [{"description": "One", "amount": "5.00"}],
        }
        made = httpx.post(f"{base}/invoices", headers=KEY, json=body).json()["data"]
        seen = tell("two_tabs", invoice=made["id"])
        assert sorted(seen["answers"]) == [303, 409]
        assert admin(base, f"/invoices/{made['id']}")["status"] == "paid"
        # The page says what has happened, and what can be done.
        assert "paid" in seen["text"] and seen["heading"]

    def test_a_tab_that_is_out_of_date_overwrites_nothing(self, base: str, tell: Story) -> None:
        seen = tell("stale_tab", client=44)
        assert seen["status"] == 412
        assert admin(base, "/clients/44")["company"] == "First"
        assert "changed" in seen["text"].lower() and seen["heading"]


class TestStrangers:
    def test_a_cookie_is_dead_after_its_owner_has_signed_out(self, base: str, tell: Story) -> None:
        seen = tell("replay")
        assert len(seen["cookies"]) == 2
        for cookie in seen["cookies"]:
            assert cookie["name"].startswith("__Host-")
            assert (cookie["httpOnly"], cookie["secure"], cookie["sameSite"]) == (True, True, "Strict")
        assert "/admin/sign-in" in seen["url"]

    def test_a_form_of_another_site_does_nothing(self, base: str, tell: Story) -> None:
        before = admin(base, "/services/2")["status"]
        seen = tell("cross_site", service=2)
        # Without the cookie, which no other site sends along, it is somebody who has not signed in.
        assert seen["status"] in (303, 403)
        assert admin(base, "/services/2")["status"] == before != "terminated"

    def test_no_text_becomes_a_script_in_any_form_or_page(self, base: str, tell: Story) -> None:
        pages = PageRegistry(DOCUMENT)
        paths = [address(each) for each in pages.by_id.values()]
        forms = [each for each in paths if each.endswith(("/new", "/edit", "/reply"))]
        looked = [each for each in paths if each not in forms]
        seen = tell("scripts", forms=forms, pages=looked, script=XSS)
        assert seen["seen"] == []
        assert {each["status"] for each in seen["sent"]} <= {200, 303, 400, 404, 409, 422}
        assert sum(each["fields"] for each in seen["sent"]) > 40
        # Some are as good as any other text, and were kept.
        assert sum(each["status"] in (200, 303) for each in seen["sent"]) > 5

    def test_thirty_wrong_passwords_at_once_delay_strangers_and_not_a_known_device(self, tell: Story) -> None:
        seen = tell("guess")
        statuses = Counter(seen["statuses"])
        assert set(statuses) <= {403, 429, 503}
        assert statuses[403] < 20
        assert "/admin/sign-in" not in seen["url"], "strangers keep a known device out"
