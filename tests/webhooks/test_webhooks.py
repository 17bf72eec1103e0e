"""Webhooks: who may be told, with which secret, what was sent, and how it is sent again."""

import asyncio
import contextvars
import re
import secrets
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from sqlalchemy import update

from persistence import deliveries, delivery_queue
from persistence import webhooks as endpoints
from persistence.deliveries import Delivery
from persistence.errors import Conflict
from server import app
from tests.support import factories
from tests.support.contract_client import DOCUMENT, Api
from tests.support.live_server import ADMIN, BOX, Running, assembled, serving
from webhooks import targets

EVENTS = DOCUMENT["components"]["schemas"]["EventName"]["enum"]
SECRET = re.compile(r"whsec_[A-Za-z0-9+/]{48}")
NOW = datetime(2027, 1, 1, tzinfo=UTC)
MISSING = 999_999

# Every operation: what is called, with which body, and the scope that it needs. {} is a webhook.
CALLS: list[tuple[str, str, Any, str]] = [
    ("GET", "/webhooks", None, "webhooks:read"),
    ("POST", "/webhooks", {"url": "http://127.0.0.1:9/", "events": ["invoice.paid"]}, "webhooks:write"),
    ("GET", "/webhooks/{}", None, "webhooks:read"),
    ("PUT", "/webhooks/{}", {"active": False}, "webhooks:write"),
    ("DELETE", "/webhooks/{}", None, "webhooks:write"),
    ("POST", "/webhooks/{}/rotate-secret", None, "webhooks:write"),
    ("POST", "/webhooks/{}/test", None, "webhooks:write"),
    ("POST", "/webhooks/{}/recover", {"since": "2027-01-01T00:00:00Z"}, "webhooks:write"),
    ("GET", "/webhooks/{}/deliveries", None, "webhooks:read"),
    ("POST", "/webhooks/{}/deliveries/1/resend", None, "webhooks:write"),
]
every_call = pytest.mark.parametrize(("method", "path", "body", "scope"), CALLS)


def add(admin: Api, **values: Any) -> dict[str, Any]:
    """A new webhook with its secret."""
    body = {"url": unused(), "events": ["invoice.paid"]} | values
    response = admin.post("/webhooks", body)
    assert response.status_code == 201, response.text
    return dict(response.json()["data"])


def unused() -> str:
    """A URL that no other webhook has."""
    return f"http://127.0.0.1:9/{secrets.token_hex(8)}"


def data(response: httpx.Response) -> Any:
    return response.json()["data"]


def kept(server: Running, id: int) -> Any:
    """The row of a webhook."""
    return server.inside(lambda db: endpoints.get(db, id))


def told(admin: Api, id: int, **where: Any) -> list[Any]:
    """The deliveries to a webhook."""
    return list(data(admin.get(f"/webhooks/{id}/deliveries", limit=100, **where)))


class TestCallers:
    @every_call
    def test_nobody_gets_401(self, nobody: Api, method: str, path: str, body: Any, scope: str) -> None:
        assert nobody.request(method, path.format(1), json=body).status_code == 401

    @every_call
    def test_a_client_gets_403(self, client: Api, method: str, path: str, body: Any, scope: str) -> None:
        assert client.request(method, path.format(1), json=body).status_code == 403

    @every_call
    def test_a_key_without_the_scope_gets_403(
        self, admin: Api, server: Running, method: str, path: str, body: Any, scope: str
    ) -> None:
        other = {"webhooks:read": "webhooks:write", "webhooks:write": "webhooks:read"}[scope]
        scopes = [other, "events:read"]
        reader = Api(server.url, data(admin.post("/api-keys", {"name": "x", "scopes": scopes}))["key"])
        response = reader.request(method, path.format(1), json=body)
        assert response.status_code == 403
        assert scope in response.json()["error"]["message"]
        reader.close()

    @every_call
    def test_what_does_not_exist_is_404(
        self, admin: Api, method: str, path: str, body: Any, scope: str
    ) -> None:
        if "{}" in path:
            assert admin.request(method, path.format(MISSING), json=body).status_code == 404


class TestCreating:
    def test_it_answers_the_webhook_and_its_secret(self, admin: Api, server: Running) -> None:
        server.clock.fixed = NOW
        names = ["ticket.opened", "invoice.paid", "ticket.opened"]
        made = add(admin, url="http://127.0.0.1:9/create", events=names)
        assert SECRET.fullmatch(made.pop("secret"))
        assert made == {
            "id": made["id"],
            "url": "http://127.0.0.1:9/create",
            "events": ["invoice.paid", "ticket.opened"],
            "active": True,
            "disabled_reason": None,
            "failing_since": None,
            "old_secret_until": None,
            "created_at": "2027-01-01T00:00:00Z",
        }
        assert data(admin.get(f"/webhooks/{made['id']}")) == made
        assert data(admin.get("/webhooks"))[0] == made

    def test_the_secret_is_shown_once_and_never_again(
        self, admin: Api, server: Running, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level("DEBUG")
        made = add(admin)
        path = f"/webhooks/{made['id']}"
        admin.post(f"{path}/test")
        shown = [admin.get(path), admin.get("/webhooks", limit=100), admin.get(f"{path}/deliveries")]
        shown += [admin.put(path, {"active": False}), admin.request("DELETE", f"/webhooks/{MISSING}")]
        row = kept(server, made["id"])
        for text in (*(each.text for each in shown), caplog.text, str(row)):
            assert made["secret"] not in text
        assert BOX.open(row.secret, f"webhook:{made['id']}") == made["secret"]

    def test_no_two_have_one_secret(self, admin: Api) -> None:
        assert len({add(admin)["secret"] for _ in range(5)}) == 5

    @pytest.mark.parametrize(
        "url",
        [
            "http://127.0.0.1:1/a",
            "http://127.0.0.1:65535/b",
            "https://[::1]:8443/hook",
            "https://hooks.example.com?key=c@d",
            "https://hooks.example.com./e",
            f"https://hooks.example.com/{'f' * 2022}",
        ],
    )
    def test_an_address_may_have_a_port_a_path_and_a_query(self, admin: Api, url: str) -> None:
        assert add(admin, url=url)["url"] == url

    @pytest.mark.parametrize(
        "url",
        [
            "",
            "hooks.example.com",
            "//hooks.example.com",
            "ftp://hooks.example.com",
            "https://",
            "https:///path",
            "https://user@hooks.example.com/",
            "https://user:password@hooks.example.com/",
            "https://hooks.example.com/#fragment",
            "https://hooks.example.com:0/",
            "https://hooks.example.com:70000/",
            "https://hooks.example.com:65536/",
            "https://hooks.example.com:/",
            "https://hooks.example.com:https/",
            "https://hooks example.com/",
            "https://hooks.example.com/a b",
            "https://hooks.example.com/\n",
            "https://hooks.example.com\\@127.0.0.1/",
            "https://höoks.example.com/",
            "https://１２７.0.0.1/",
            "https://hooks..example.com/",
            f"https://{'a' * 64}.example.com/",
            f"https://hooks.example.com/{'x' * 2048}",
            None,
            5,
        ],
    )
    def test_what_is_no_address_is_refused(self, admin: Api, url: Any) -> None:
        for response in (
            admin.post("/webhooks", {"url": url, "events": ["invoice.paid"]}),
            admin.put("/webhooks/1", {"url": url}),
        ):
            assert response.status_code == 400
            assert response.json()["error"]["details"][0]["pointer"] == "/url"

    @pytest.mark.parametrize(
        "change",
        [
            {"events": ["invoice.lost"]},
            {"events": []},
            {"events": ["invoice.paid"] * 9},
            {"events": "invoice.paid"},
            {"events": ["*"]},
            {"active": "yes"},
            {"active": None},
            {"secret": "whsec_mine"},
            {"disabled_reason": "I say so."},
        ],
    )
    def test_other_bodies_are_refused(self, admin: Api, change: dict[str, Any]) -> None:
        body = {"url": "http://127.0.0.1:9/other", "events": ["invoice.paid"]}
        assert admin.post("/webhooks", body | change).status_code == 400
        assert admin.put("/webhooks/1", change).status_code == 400
        (name,) = change
        if name in body:
            assert admin.post("/webhooks", {key: body[key] for key in body if key != name}).status_code == 400

    @pytest.mark.parametrize("url", ["http://127.1/", "http://0x7f000001/", "http://2130706433/"])
    def test_an_address_in_a_strange_spelling_is_409_everywhere(self, admin: Api, url: str) -> None:
        assert admin.post("/webhooks", {"url": url, "events": ["invoice.paid"]}).status_code == 409

    def test_a_url_has_one_webhook(self, admin: Api) -> None:
        first, second = add(admin), add(admin)
        again = admin.post("/webhooks", {"url": first["url"], "events": ["ticket.opened"]})
        changed = admin.put(f"/webhooks/{second['id']}", {"url": first["url"]})
        for response in (again, changed):
            assert response.status_code == 409
            assert response.json()["error"]["message"] == "A webhook with this url exists already."
        assert data(admin.get(f"/webhooks/{second['id']}"))["url"] == second["url"]
        assert admin.put(f"/webhooks/{second['id']}", {"url": second["url"]}).status_code == 200

    def test_there_are_only_so_many(self, admin: Api, monkeypatch: pytest.MonkeyPatch) -> None:
        there = admin.get("/webhooks").json()["meta"]["total"]
        monkeypatch.setattr("persistence.webhooks.MOST", there + 1)
        body = {"url": f"https://one-more-{there}.example/hook", "events": ["invoice.paid"]}
        assert admin.post("/webhooks", body).status_code == 201
        refused = admin.post("/webhooks", body | {"url": f"https://too-many-{there}.example/hook"})
        assert refused.status_code == 409
        assert "delete one" in refused.json()["error"]["message"]

    def test_of_many_with_one_url_one_comes_through(self, server: Running) -> None:
        body = {"url": unused(), "events": ["invoice.paid"]}

        def attempt(_: int) -> int:
            api = Api(server.url, ADMIN)
            status = api.post("/webhooks", body).status_code
            api.close()
            return status

        with ThreadPoolExecutor(8) as pool:
            assert sorted(pool.map(attempt, range(8))) == [201] + [409] * 7


@pytest.fixture(scope="module")
def strict(server: Running, database_url: str) -> Iterator[Api]:
    """The operator at a server that calls public addresses only."""
    with serving(assembled(database_url, private_targets=False)) as running:
        api = Api(running.url, ADMIN)
        yield api
        api.close()


class TestPublicTargets:
    """With the setting as it is in production."""

    @pytest.fixture
    def listener(self) -> Iterator[socket.socket]:
        """A port of this machine that nobody may connect to."""
        with socket.create_server(("127.0.0.1", 0)) as listening:
            listening.setblocking(False)
            yield listening
            with pytest.raises(BlockingIOError):
                listening.accept()

    @pytest.fixture
    def resolved(self, monkeypatch: pytest.MonkeyPatch) -> list[str]:
        """The addresses that every name has; the look-up is replaced."""
        addresses: list[str] = []

        async def lookup(host: str, port: int) -> list[Any]:
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (each, port)) for each in addresses]

        monkeypatch.setattr(targets, "lookup", lookup)
        return addresses

    @pytest.mark.parametrize(
        ("url", "word"),
        [
            ("http://hooks.example.com:{}/", "https"),
            ("http://127.0.0.1:{}/", "https"),
            ("https://127.0.0.1:{}/", "not public"),
            ("https://[::ffff:127.0.0.1]:{}/", "not public"),
            ("https://[::ffff:7f00:1]:{}/", "not public"),
            ("https://0x7f000001:{}/", "usual way"),
            ("https://2130706433:{}/", "usual way"),
            ("https://127.1:{}/", "usual way"),
            ("https://localhost:{}/", "this machine"),
            ("https://10.0.0.1:{}/", "not public"),
            ("https://169.254.169.254:{}/latest/meta-data/", "not public"),
        ],
    )
    def test_the_inner_network_is_409_however_it_is_written(
        self, strict: Api, admin: Api, listener: socket.socket, url: str, word: str
    ) -> None:
        address = url.format(listener.getsockname()[1])
        id = factories.webhook(admin)
        for response in (
            strict.post("/webhooks", {"url": address, "events": ["invoice.paid"]}),
            strict.put(f"/webhooks/{id}", {"url": address}),
        ):
            assert response.status_code == 409
            assert word in response.json()["error"]["message"]
        assert data(admin.get(f"/webhooks/{id}"))["url"] != address

    def test_a_name_with_a_private_address_is_409(
        self, strict: Api, listener: socket.socket, resolved: list[str]
    ) -> None:
        resolved[:] = ["8.8.8.8", "127.0.0.1"]
        url = f"https://inner.example.com:{listener.getsockname()[1]}/"
        response = strict.post("/webhooks", {"url": url, "events": ["invoice.paid"]})
        assert response.status_code == 409
        assert "not public" in response.json()["error"]["message"]

    def test_a_name_with_public_addresses_is_taken(self, strict: Api, resolved: list[str]) -> None:
        resolved[:] = ["8.8.8.8"]
        assert add(strict, url=f"https://hooks.example.com/{secrets.token_hex(8)}")["active"]

    @pytest.mark.parametrize("address", ["169.254.169.254", "168.63.129.16"])
    def test_a_metadata_service_is_409_though_private_targets_are_admitted(
        self, admin: Api, resolved: list[str], address: str
    ) -> None:
        resolved[:] = ["127.0.0.1", address]
        for host in (address, "metadata.example"):
            body = {"url": f"http://{host}/{secrets.token_hex(8)}", "events": ["invoice.paid"]}
            response = admin.post("/webhooks", body)
            assert response.status_code == 409
            assert "metadata service" in response.json()["error"]["message"]


class TestChanging:
    @pytest.mark.parametrize(
        "change",
        [
            {"url": "http://127.0.0.1:9/changed"},
            {"events": ["client.created", "ticket.replied"]},
            {"active": False},
            {"url": "http://127.0.0.1:9/all-three", "events": EVENTS, "active": False},
        ],
    )
    def test_what_is_named_is_changed(self, admin: Api, change: dict[str, Any]) -> None:
        id = factories.webhook(admin)
        before = data(admin.get(f"/webhooks/{id}"))
        answer = data(admin.put(f"/webhooks/{id}", change))
        assert answer == before | {
            name: sorted(each) if name == "events" else each for name, each in change.items()
        }
        assert data(admin.get(f"/webhooks/{id}")) == answer

    def test_an_empty_body_is_400(self, admin: Api) -> None:
        assert admin.put("/webhooks/1", {}).status_code == 400

    def test_who_makes_it_active_again_begins_anew(self, admin: Api, server: Running) -> None:
        id = factories.webhook(admin)
        server.inside(lambda db: endpoints.mark_failing(db, id, NOW), write=True)
        server.inside(lambda db: endpoints.disable(db, id, "The receiver is gone."), write=True)
        disabled = data(admin.get(f"/webhooks/{id}"))
        assert (disabled["active"], disabled["disabled_reason"]) == (False, "The receiver is gone.")
        assert disabled["failing_since"] == "2027-01-01T00:00:00Z"
        changed = data(admin.put(f"/webhooks/{id}", {"events": ["ticket.opened"]}))
        assert (changed["disabled_reason"], changed["failing_since"]) == (
            disabled["disabled_reason"],
            disabled["failing_since"],
        )
        again = data(admin.put(f"/webhooks/{id}", {"active": True}))
        assert (again["active"], again["disabled_reason"], again["failing_since"]) == (True, None, None)

    def test_who_has_the_version_gets_304(self, admin: Api) -> None:
        path = f"/webhooks/{factories.webhook(admin)}"
        tag = admin.get(path).headers["ETag"]
        assert admin.request("GET", path, headers={"If-None-Match": tag}).status_code == 304
        changed = admin.put(path, {"active": False})
        assert changed.headers["ETag"] != tag
        assert admin.request("GET", path, headers={"If-None-Match": tag}).status_code == 200

    def test_that_it_fails_or_works_again_is_a_new_version(self, admin: Api, server: Running) -> None:
        id = factories.webhook(admin)
        tags = [admin.get(f"/webhooks/{id}").headers["ETag"]]
        for keep in (
            lambda db: endpoints.mark_failing(db, id, NOW),
            lambda db: endpoints.mark_working(db, id),
        ):
            for _ in range(2):
                server.inside(keep, write=True)
            tags.append(admin.get(f"/webhooks/{id}").headers["ETag"])
        assert tags == ['"1"', '"2"', '"3"']

    def test_only_the_version_that_is_named_is_changed(self, admin: Api) -> None:
        made = admin.post("/webhooks", {"url": unused(), "events": EVENTS})
        path, tag = f"/webhooks/{data(made)['id']}", made.headers["ETag"]
        assert tag == admin.get(path).headers["ETag"]
        change = {"json": {"active": False}, "headers": {"If-Match": tag}}
        assert admin.request("PUT", path, **change).status_code == 200
        before = admin.get(path)
        assert admin.request("PUT", path, **change).status_code == 412
        assert admin.get(path).json() == before.json()
        assert admin.request("PUT", f"/webhooks/{MISSING}", **change).status_code == 404
        rotated = admin.post(f"{path}/rotate-secret")
        assert rotated.headers["ETag"] == admin.get(path).headers["ETag"] != before.headers["ETag"]

    def test_a_deleted_one_is_gone_with_its_log_and_its_url_is_free(
        self, admin: Api, server: Running
    ) -> None:
        made = add(admin, events=["client.created"])
        event = factories.event(admin)
        assert [each["event_id"] for each in told(admin, made["id"])] == [event]
        gone = admin.request("DELETE", f"/webhooks/{made['id']}")
        assert data(gone) == {"id": made["id"], "deleted": True}
        for path in ("", "/deliveries"):
            assert admin.get(f"/webhooks/{made['id']}{path}").status_code == 404
        assert server.count(Delivery, webhook_id=made["id"]) == 0
        assert admin.get(f"/events/{event}").status_code == 200
        assert admin.request("DELETE", f"/webhooks/{made['id']}").status_code == 404
        assert add(admin, url=made["url"])["id"] != made["id"]


class TestRotating:
    @pytest.mark.parametrize(("body", "hours"), [(None, 24), ({}, 24), ({"overlap_hours": 168}, 168)])
    def test_the_old_secret_is_good_for_a_while(
        self, admin: Api, server: Running, body: Any, hours: int
    ) -> None:
        server.clock.fixed = NOW
        made = add(admin)
        rotated = data(admin.post(f"/webhooks/{made['id']}/rotate-secret", body))
        assert SECRET.fullmatch(rotated["secret"])
        assert rotated["secret"] != made["secret"]
        until = NOW + timedelta(hours=hours)
        assert rotated["old_secret_until"] == f"{until:%Y-%m-%dT%H:%M:%SZ}"
        row, context = kept(server, made["id"]), f"webhook:{made['id']}"
        assert BOX.open(row.secret, context) == rotated.pop("secret")
        assert BOX.open(row.old_secret, context) == made["secret"]
        assert data(admin.get(f"/webhooks/{made['id']}")) == rotated

    def test_without_an_overlap_it_is_dead_at_once(self, admin: Api, server: Running) -> None:
        made = add(admin)
        admin.post(f"/webhooks/{made['id']}/rotate-secret")
        rotated = data(admin.post(f"/webhooks/{made['id']}/rotate-secret", {"overlap_hours": 0}))
        assert rotated["old_secret_until"] is None
        assert kept(server, made["id"]).old_secret is None

    def test_an_old_secret_that_nobody_can_open_any_more_is_left_behind(
        self, admin: Api, server: Running
    ) -> None:
        made = add(admin)
        lost = type(BOX)("another secret key of 32 characters").seal(made["secret"], f"webhook:{made['id']}")
        server.inside(lambda db: endpoints.seal(db, made["id"], lost), write=True)
        rotated = data(admin.post(f"/webhooks/{made['id']}/rotate-secret"))
        assert rotated["old_secret_until"] is None
        row = kept(server, made["id"])
        assert row.old_secret is None
        assert BOX.open(row.secret, f"webhook:{made['id']}") == rotated["secret"]

    @pytest.mark.parametrize("hours", [-1, 169, "24", 1.5, True, None])
    def test_other_overlaps_are_400(self, admin: Api, hours: Any) -> None:
        response = admin.post("/webhooks/1/rotate-secret", {"overlap_hours": hours})
        assert response.status_code == 400

    def test_of_two_at_once_one_is_refused(self, admin: Api, server: Running) -> None:
        row = kept(server, factories.webhook(admin))
        admin.post(f"/webhooks/{row.id}/rotate-secret")
        with pytest.raises(Conflict):
            server.inside(lambda db: endpoints.rotate(db, row, "sealed", timedelta(hours=1), NOW), write=True)

    def test_the_demos_gets_its_first_secret_so(self, admin: Api, server: Running) -> None:
        # As the demo data has it, whatever the other tests have done.
        first = update(endpoints.Webhook).values(secret="", old_secret=None)
        server.inside(lambda db: db.execute(first.where(endpoints.TABLE.c.id == 1)), write=True)
        rotated = data(admin.post("/webhooks/1/rotate-secret"))
        assert BOX.open(kept(server, 1).secret, "webhook:1") == rotated["secret"]
        assert rotated["old_secret_until"] is None


class TestTesting:
    @pytest.mark.parametrize("event", [None, *EVENTS])
    def test_the_example_of_an_event_is_sent_which_is_no_event(
        self, admin: Api, server: Running, event: str | None
    ) -> None:
        server.clock.fixed = NOW
        id, last = factories.webhook(admin, active=False), factories.newest_event(admin)
        response = admin.post(f"/webhooks/{id}/test", {"event": event} if event else None)
        assert response.status_code == 201
        made = data(response)
        assert re.fullmatch(r"evt_[0-9A-HJKMNP-TV-Z]{26}", made["message_id"])
        assert made == {
            "id": made["id"],
            "webhook_id": id,
            "event_id": None,
            "message_id": made["message_id"],
            "event": event or "invoice.paid",
            "test": True,
            "status": "pending",
            "next_attempt_at": "2027-01-01T00:00:00Z",
            "created_at": "2027-01-01T00:00:00Z",
            "attempts": [],
        }
        assert told(admin, id) == [made]
        assert factories.newest_event(admin) == last

    @pytest.mark.parametrize("body", [{"event": "invoice.lost"}, {"event": None}, {"data": {}}, []])
    def test_other_bodies_are_400(self, admin: Api, body: Any) -> None:
        assert admin.post("/webhooks/1/test", body).status_code == 400


class TestDeliveries:
    @pytest.fixture
    def missed(self, admin: Api, server: Running) -> tuple[int, int]:
        """A webhook and a delivery to it that has failed for good."""
        id = factories.webhook(admin)
        invoice = factories.invoice(admin, "paid")
        (delivery,) = told(admin, id)
        assert data(admin.get(f"/events/{delivery['event_id']}"))["data"]["id"] == invoice
        settle(server, delivery["id"], status="failed", tried=10)
        return id, int(delivery["id"])

    def test_it_tells_of_the_event(self, admin: Api, server: Running) -> None:
        server.clock.fixed = NOW
        id = factories.webhook(admin)
        factories.invoice(admin, "paid")
        (delivery,) = told(admin, id)
        event = data(admin.get(f"/events/{delivery['event_id']}"))
        assert delivery == {
            "id": delivery["id"],
            "webhook_id": id,
            "event_id": event["id"],
            "message_id": event["uid"],
            "event": "invoice.paid",
            "test": False,
            "status": "pending",
            "next_attempt_at": "2027-01-01T00:00:00Z",
            "created_at": "2027-01-01T00:00:00Z",
            "attempts": [],
        }

    def test_the_last_twenty_attempts_are_shown_newest_first(
        self, admin: Api, server: Running, missed: tuple[int, int]
    ) -> None:
        id, first = missed
        second = factories.delivery(admin, id)

        async def log(db: Any) -> None:
            for nth in range(25):
                at = NOW + timedelta(minutes=nth)
                entry = {"key": first, "at": at, "code": 503, "took": nth, "text": "busy", "fault": "No."}
                await delivery_queue.log(db, [entry])
            entry = {"key": second, "at": NOW, "code": None, "took": 7, "text": "", "fault": "No answer."}
            await delivery_queue.log(db, [entry])

        server.inside(log, write=True)
        newest, oldest = told(admin, id)
        assert [each["ms"] for each in oldest["attempts"]] == list(range(24, 4, -1))
        assert oldest["attempts"][0] == {
            "attempted_at": "2027-01-01T00:24:00Z",
            "status": 503,
            "ms": 24,
            "answer": "busy",
            "error": "No.",
        }
        assert [(each["status"], each["error"]) for each in newest["attempts"]] == [(None, "No answer.")]
        assert oldest["next_attempt_at"] is None
        again = data(admin.post(f"/webhooks/{id}/deliveries/{first}/resend"))
        assert again["attempts"] == oldest["attempts"]

    def test_they_come_in_pages_by_state_newest_first(self, admin: Api, missed: tuple[int, int]) -> None:
        id, failed = missed
        tests = [factories.delivery(admin, id) for _ in range(4)]
        every = [*reversed(tests), failed]
        assert [each["id"] for each in told(admin, id)] == every
        assert [each["id"] for each in told(admin, id, status="failed")] == [failed]
        assert [each["id"] for each in told(admin, id, status="pending")] == every[:4]
        assert told(admin, id, status="delivered") == []
        seen: list[int] = []
        path: str | None = f"/webhooks/{id}/deliveries?limit=2&status=pending"
        while path:
            page = admin.get(path)
            assert page.json()["meta"]["total"] == 4
            seen += [each["id"] for each in data(page)]
            link = page.links.get("next", {}).get("url")
            path = link.removeprefix("/api/v1") if link else None
        assert seen == every[:4]
        assert admin.get(f"/webhooks/{id}/deliveries", status="lost").status_code == 400

    def test_one_is_sent_again_whatever_became_of_it(
        self, admin: Api, server: Running, missed: tuple[int, int]
    ) -> None:
        id, delivery = missed
        for status in ("failed", "delivered", "pending"):
            settle(server, delivery, status=status, tried=3)
            server.clock.fixed = NOW
            again = data(admin.post(f"/webhooks/{id}/deliveries/{delivery}/resend"))
            assert (again["status"], again["next_attempt_at"]) == ("pending", "2027-01-01T00:00:00Z")
        assert len(told(admin, id)) == 1

    def test_one_that_is_being_sent_is_409_until_its_worker_must_be_dead(
        self, admin: Api, server: Running, missed: tuple[int, int]
    ) -> None:
        id, delivery = missed
        path = f"/webhooks/{id}/deliveries/{delivery}/resend"
        settle(server, delivery, status="pending", claim="x" * 32, due_at=NOW + timedelta(minutes=1))
        server.clock.fixed = NOW
        assert admin.post(path).status_code == 409
        server.clock.fixed = NOW + timedelta(minutes=1)
        assert admin.post(path).status_code == 200

    def test_it_belongs_to_its_webhook(self, admin: Api, missed: tuple[int, int]) -> None:
        _, delivery = missed
        id = factories.webhook(admin)
        assert admin.post(f"/webhooks/{id}/deliveries/{delivery}/resend").status_code == 404
        assert admin.post(f"/webhooks/{id}/deliveries/{MISSING}/resend").status_code == 404


def settle(server: Running, id: int, **values: Any) -> None:
    """Bring a delivery into a state."""
    statement = update(Delivery).values({"claim": None} | values).where(deliveries.TABLE.c.id == id)
    server.inside(lambda db: db.execute(statement), write=True)


class TestReadScopes:
    """Events go only where a key that may read them sends them.

    What each operation needs for each event is in ``test_tokens.py``.
    """

    @pytest.fixture(autouse=True)
    def few_webhooks(self, admin: Api) -> Iterator[None]:
        yield from factories.webhooks_for_a_while(admin)

    @pytest.fixture
    def accountant(self, admin: Api, server: Running) -> Iterator[Api]:
        """A key that may manage webhooks and read invoices and events."""
        scopes = ["webhooks:read", "webhooks:write", "invoices:read", "events:read"]
        api = Api(server.url, data(admin.post("/api-keys", {"name": "x", "scopes": scopes}))["key"])
        yield api
        api.close()

    @pytest.fixture
    def former(self, admin: Api) -> tuple[int, int]:
        """A webhook of invoices, and a pending delivery to it of the time when it had clients."""
        id = factories.webhook(admin, events=["client.created"])
        factories.client(admin)
        (delivery,) = told(admin, id)
        admin.put(f"/webhooks/{id}", {"events": ["invoice.paid"]})
        return id, int(delivery["id"])

    def test_what_a_key_can_read_it_can_have_sent(self, admin: Api, accountant: Api) -> None:
        made = add(accountant, events=["invoice.created", "invoice.paid"])
        factories.invoice(admin, "paid")
        (delivery, _) = told(admin, made["id"])
        path = f"/webhooks/{made['id']}"
        for method, below, body in (
            ("PUT", "", {"url": unused()}),
            ("PUT", "", {"active": False}),
            ("PUT", "", {"active": True}),
            ("PUT", "", {"events": ["invoice.paid"], "url": unused()}),
            ("POST", f"/deliveries/{delivery['id']}/resend", None),
            ("POST", "/recover", {"since": "2027-01-01T00:00:00Z"}),
        ):
            answer = accountant.request(method, path + below, json=body)
            assert answer.status_code == 200, (below, body, answer.text)

    def test_to_read_events_is_not_enough(self, accountant: Api) -> None:
        refused = accountant.post("/webhooks", {"url": unused(), "events": ["invoice.paid", "ticket.opened"]})
        assert refused.status_code == 403
        message = (
            "The API key lacks tickets:read, so it cannot send these events; use a key with more scopes."
        )
        assert refused.json()["error"]["message"] == message

    def test_it_manages_what_it_cannot_read_as_long_as_nothing_is_sent(
        self, admin: Api, accountant: Api
    ) -> None:
        path = f"/webhooks/{factories.webhook(admin, events=['ticket.opened'])}"
        assert accountant.put(path, {"active": False}).status_code == 200
        assert accountant.post(f"{path}/rotate-secret").status_code == 200
        example = data(accountant.post(f"{path}/test", {"event": "ticket.opened"}))
        assert accountant.post(f"{path}/deliveries/{example['id']}/resend").status_code == 200
        assert accountant.put(path, {"events": ["invoice.paid"]}).status_code == 200
        assert accountant.put(path, {"url": unused()}).status_code == 200
        assert accountant.request("DELETE", path).status_code == 200

    @pytest.mark.parametrize(
        "change", [{"url": "new"}, {"active": True}, {"events": EVENTS[4:6], "url": "new"}]
    )
    def test_what_waits_counts_although_the_webhook_no_longer_has_its_event(
        self, admin: Api, accountant: Api, former: tuple[int, int], change: dict[str, Any]
    ) -> None:
        id, _ = former
        body = change | ({"url": unused()} if "url" in change else {})
        before = data(admin.get(f"/webhooks/{id}"))
        refused = accountant.put(f"/webhooks/{id}", body)
        assert refused.status_code == 403
        assert "lacks clients:read," in refused.json()["error"]["message"]
        assert data(admin.get(f"/webhooks/{id}")) == before
        assert admin.put(f"/webhooks/{id}", body).status_code == 200

    def test_what_failed_is_not_recovered_and_stays_failed(
        self, admin: Api, accountant: Api, server: Running, former: tuple[int, int]
    ) -> None:
        id, delivery = former
        settle(server, delivery, status="failed", tried=10)
        assert accountant.put(f"/webhooks/{id}", {"url": unused()}).status_code == 200
        factories.invoice(admin, "paid")
        (paid, _) = told(admin, id)
        settle(server, paid["id"], status="failed", tried=10)
        refused = accountant.post(f"/webhooks/{id}/recover", {"since": "2024-01-01T00:00:00Z"})
        assert refused.status_code == 403
        assert "lacks clients:read," in refused.json()["error"]["message"]
        assert [each["status"] for each in told(admin, id)] == ["failed", "failed"]
        assert accountant.post(f"/webhooks/{id}/deliveries/{delivery}/resend").status_code == 403
        assert accountant.post(f"/webhooks/{id}/deliveries/{paid['id']}/resend").status_code == 200

    def test_the_refusal_comes_after_404_and_before_412(self, admin: Api, accountant: Api) -> None:
        for change in ({"url": unused()}, {"active": True}):
            assert accountant.put(f"/webhooks/{MISSING}", change).status_code == 404
            path = f"/webhooks/{factories.webhook(admin, events=['ticket.opened'])}"
            stale = {"json": change, "headers": {"If-Match": '"99"'}}
            assert accountant.request("PUT", path, **stale).status_code == 403
            assert admin.request("PUT", path, **stale).status_code == 412

    def test_a_lock_waits_for_a_delivery_that_is_being_added(self, admin: Api, server: Running) -> None:
        id = factories.webhook(admin)

        async def lock() -> None:
            async with server.database.transaction() as db:
                await endpoints.lock(db, id)

        async def add_and_lock() -> bool:
            # A task inside the transaction's own context may begin no other.
            outside = contextvars.copy_context()
            async with server.database.transaction() as db:
                await deliveries.test(db, id, uid="evt_1", event="invoice.paid", base="{}", now=NOW)
                locking = asyncio.create_task(lock(), context=outside)
                await asyncio.wait({locking}, timeout=0.5)
                waited = not locking.done()
            await locking
            return waited

        assert server.loop is not None
        assert asyncio.run_coroutine_threadsafe(add_and_lock(), server.loop).result(30)


class TestRecovering:
    def test_what_was_missed_is_sent_and_nothing_else(self, admin: Api, server: Running) -> None:
        start = app.now() + timedelta(days=400)

        def at(minutes: int) -> str:
            server.clock.fixed = start + timedelta(minutes=minutes)
            return f"{server.clock.fixed:%Y-%m-%dT%H:%M:%SZ}"

        at(0)
        factories.invoice(admin, "paid")
        since = at(1)
        before = factories.invoice(admin, "paid")
        factories.ticket(admin)
        at(2)
        id = factories.webhook(admin)
        paid = [factories.invoice(admin, "paid") for _ in range(3)]
        delivered, failed, _ = reversed(told(admin, id))
        settle(server, delivered["id"], status="delivered", tried=1)
        settle(server, failed["id"], status="failed", tried=10)
        factories.delivery(admin, id)
        admin.put(f"/webhooks/{id}", {"active": False})
        while_inactive = factories.invoice(admin, "paid")
        now = at(3)
        response = admin.post(f"/webhooks/{id}/recover", {"since": since})
        assert data(response) == {"webhook_id": id, "queued": 4}
        waiting = [each for each in told(admin, id, status="pending") if not each["test"]]
        invoices = {data(admin.get(f"/events/{each['event_id']}"))["data"]["id"] for each in waiting}
        assert invoices == {before, *paid[1:], while_inactive}
        assert {each["next_attempt_at"] for each in waiting} == {now}
        assert [each["id"] for each in told(admin, id, status="delivered")] == [delivered["id"]]
        assert data(admin.post(f"/webhooks/{id}/recover", {"since": at(60)}))["queued"] == 0

    def test_many_at_once_tell_of_each_event_once(self, admin: Api, server: Running) -> None:
        server.clock.fixed = app.now() + timedelta(days=500)
        since = f"{server.clock.fixed:%Y-%m-%dT%H:%M:%SZ}"
        for _ in range(5):
            factories.invoice(admin, "paid")
        id = factories.webhook(admin)

        def attempt(_: int) -> int:
            api = Api(server.url, ADMIN)
            status = api.post(f"/webhooks/{id}/recover", {"since": since}).status_code
            api.close()
            return status

        with ThreadPoolExecutor(6) as pool:
            assert set(pool.map(attempt, range(6))) == {200}
        events = [each["event_id"] for each in told(admin, id)]
        assert len(events) == len(set(events)) == 5

    @pytest.mark.parametrize(
        "body",
        [
            None,
            {},
            {"since": None},
            {"since": "yesterday"},
            {"since": "2024-01-01"},
            {"since": "2024-02-30T00:00:00Z"},
            {"since": "2024-01-01T00:00:00"},
            {"since": "0000-01-01T00:00:00Z"},
            {"since": 0},
        ],
    )
    def test_what_is_no_instant_is_400(self, admin: Api, body: Any) -> None:
        assert admin.post("/webhooks/1/recover", body).status_code == 400
