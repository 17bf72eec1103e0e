"""Settings: what may be set, by whom, in which version, and that every process holds them soon."""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest
from sqlalchemy import update

from handlers.dialects import versions
from persistence.errors import Unavailable
from persistence.settings import LiveSettings, RuntimeSettings, StoredSettings
from server import app
from tests.conftest import new_database
from tests.support import factories
from tests.support.contract_client import Api
from tests.support.live_server import ADMIN, Running, assembled, prepared, serving

LIMITS = ("rate_limit_client", "rate_limit_admin", "rate_limit_anonymous")


# No test here comes near a limit of this many calls a minute.
MANY = 100_000


@pytest.fixture(scope="module")
def database_url(
    backend: str, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> str:
    """A database of their own, because no other test may be made under settings that change."""
    postgres_url = request.getfixturevalue("postgres") if backend == "postgresql" else None
    return new_database(backend, tmp_path_factory.mktemp("settings"), postgres_url)


@pytest.fixture(scope="module")
def server(database_url: str) -> Iterator[Running]:
    with serving(prepared(database_url)) as running:
        yield running


def change(api: Api, body: Any, *tags: str) -> httpx.Response:
    """Change the settings, with an ``If-Match`` header for each of ``tags``."""
    return api.request("PUT", "/settings", json=body, headers=[("If-Match", tag) for tag in tags])


def tag(api: Api) -> str:
    """The entity tag of the settings as they are."""
    return api.get("/settings").headers["ETag"]


class TestSettings:
    def test_nobody_gets_401(self, nobody: Api) -> None:
        assert nobody.get("/settings").status_code == 401
        assert nobody.put("/settings", {"rate_limit_client": MANY}).status_code == 401

    def test_a_client_gets_403(self, client: Api) -> None:
        assert client.get("/settings").status_code == 403
        assert client.put("/settings", {"rate_limit_client": MANY}).status_code == 403

    def test_a_key_without_the_scope_gets_403(self, admin: Api, server: Running) -> None:
        body = {"name": "reader", "scopes": ["settings:read", "invoices:write"]}
        reader = Api(server.url, admin.post("/api-keys", body).json()["data"]["key"])
        assert reader.get("/settings").status_code == 200
        assert reader.put("/settings", {"rate_limit_client": MANY}).status_code == 403
        reader.close()

    @pytest.mark.parametrize(
        ("member", "value"),
        [*((name, value) for name in LIMITS for value in (0, MANY, 1_000_000)), ("default_currency", "EUR")],
    )
    def test_each_member_is_set_alone(self, admin: Api, member: str, value: Any) -> None:
        before = admin.get("/settings").json()["data"]
        answer = admin.put("/settings", {member: value}).json()
        assert answer == {"status": "success", "data": before | {member: value}}
        assert admin.get("/settings").json() == answer

    def test_all_are_set_at_once(self, admin: Api) -> None:
        body = dict.fromkeys(LIMITS, MANY) | {"default_currency": "GBP"}
        assert admin.put("/settings", body).json()["data"] == body

    @pytest.mark.parametrize("name", LIMITS)
    @pytest.mark.parametrize("value", [-1, 1_000_001, "60", 60.5, True, None])
    def test_what_is_no_limit_is_refused(self, admin: Api, name: str, value: Any) -> None:
        before = admin.get("/settings").json()
        response = admin.put("/settings", {name: value, "default_currency": "EUR"})
        assert response.status_code == 400
        assert response.json()["error"]["details"][0]["pointer"] == f"/{name}"
        assert admin.get("/settings").json() == before

    @pytest.mark.parametrize(
        "body",
        [
            {},
            [],
            None,
            {"version": 1},
            {"rate_limit_clients": 60},
            {"default_currency": "eur"},
            {"default_currency": "JPY"},
            {"default_currency": None},
        ],
    )
    def test_other_bodies_are_refused(self, admin: Api, body: Any) -> None:
        assert admin.put("/settings", body).status_code == 400


class TestDefaults:
    def test_the_environment_holds_until_something_is_set(
        self, server: Running, database_url: str, admin: Api
    ) -> None:
        # As the migration made it, whatever the other tests have set.
        fresh = dict.fromkeys((*LIMITS, "default_currency"))
        server.inside(lambda db: db.execute(update(StoredSettings).values(fresh)), write=True)
        defaults = RuntimeSettings(rate_limit_client=6000, rate_limit_admin=5000, rate_limit_anonymous=1000)
        with serving(assembled(database_url, defaults=defaults)) as other:
            api = Api(other.url, ADMIN)
            held = {
                "rate_limit_client": 6000,
                "rate_limit_admin": 5000,
                "rate_limit_anonymous": 1000,
                "default_currency": "USD",
            }
            assert api.get("/settings").json()["data"] == held
            assert change(api, {"rate_limit_admin": 0}).json()["data"] == held | {"rate_limit_admin": 0}
            api.close()
        assert [admin.get("/settings").json()["data"][name] for name in LIMITS] == [0, 0, 0]


class TestVersions:
    def test_the_tag_changes_with_every_change_and_only_then(self, admin: Api) -> None:
        first = tag(admin)
        assert tag(admin) == first
        second = admin.put("/settings", {"rate_limit_client": MANY}).headers["ETag"]
        assert second == tag(admin) != first

    def test_who_has_it_already_gets_304(self, admin: Api) -> None:
        current = tag(admin)
        for method in ("GET", "HEAD"):
            for given in (current, f'"other", {current}', f"W/{current}", "*"):
                again = admin.request(method, "/settings", headers={"If-None-Match": given})
                assert (again.status_code, again.content) == (304, b"")
                assert again.headers["ETag"] == current
        admin.put("/settings", {"rate_limit_client": MANY - 1})
        assert admin.request("GET", "/settings", headers={"If-None-Match": current}).status_code == 200

    def test_a_change_is_never_answered_304(self, admin: Api) -> None:
        upcoming = f'"{int(tag(admin).strip(chr(34))) + 1}"'
        for given in (upcoming, "*"):
            headers = {"If-None-Match": given}
            response = admin.request("PUT", "/settings", json={"rate_limit_client": MANY}, headers=headers)
            assert response.status_code == 200

    @pytest.mark.parametrize(
        "form", ["{}", "*", '"0", {}', '{},"999999999"', ", {} ,", '"with,comma", {}', 'W/"1" , {}']
    )
    def test_a_tag_that_matches_lets_the_change_through(self, admin: Api, form: str) -> None:
        assert change(admin, {"rate_limit_client": MANY}, form.format(tag(admin))).status_code == 200

    @pytest.mark.parametrize(
        "form",
        ["W/{}", '"0"', '"999999999"', "", ",", "x", '"', "5", "{}x", "{}, x", "{0} {0}", "*, {}"],
    )
    def test_what_matches_nothing_is_412_and_changes_nothing(self, admin: Api, form: str) -> None:
        before = admin.get("/settings")
        response = change(admin, {"rate_limit_client": MANY}, form.format(before.headers["ETag"]))
        assert response.status_code == 412
        assert response.json()["error"]["code"] == "PRECONDITION_FAILED"
        assert admin.get("/settings").json() == before.json()
        assert tag(admin) == before.headers["ETag"]

    def test_a_number_that_is_written_otherwise_is_another_tag(self) -> None:
        assert versions('"1"') == frozenset({1})
        for text in ('"01"', '"+1"', '" 1"', '"1.0"', '"１"', '"-1"', f'"{"9" * 19}"'):
            assert versions(text) == frozenset(), text

    def test_what_is_long_to_read_is_read_quickly(self) -> None:
        started = time.perf_counter()
        for blank in " \t,":
            assert versions((blank * 4 + ",") * 12 + "x") == frozenset()
            assert versions(f'"1"{blank * 60}x') == frozenset()
        assert time.perf_counter() - started < 0.1

    def test_a_header_that_is_too_long_or_stands_twice_is_400(self, admin: Api) -> None:
        current = tag(admin)
        for tags in (["x" * 65], [current, current]):
            response = change(admin, {"rate_limit_client": MANY}, *tags)
            assert response.status_code == 400
            (fault,) = response.json()["error"]["details"]
            assert (fault["in"], fault["pointer"]) == ("header", "/If-Match")
        assert tag(admin) == current
        assert change(admin, {"rate_limit_client": MANY}, "x" * 64).status_code == 412

    def test_input_is_judged_before_the_version(self, admin: Api) -> None:
        assert change(admin, {"rate_limit_client": -1}, '"0"').status_code == 400

    def test_of_many_with_one_tag_one_comes_through(self, admin: Api, server: Running) -> None:
        current = tag(admin)

        def attempt(nth: int) -> int:
            api = Api(server.url, ADMIN)
            status = change(api, {"rate_limit_client": MANY + nth}, current).status_code
            api.close()
            return status

        with ThreadPoolExecutor(10) as pool:
            statuses = list(pool.map(attempt, range(1, 11)))
        assert sorted(statuses) == [200] + [412] * 9
        assert admin.get("/settings").json()["data"]["rate_limit_client"] == MANY + 1 + statuses.index(200)


class TestInvoices:
    def test_new_ones_take_the_currency_and_old_ones_keep_theirs(self, admin: Api) -> None:
        def currency(id: int) -> str:
            return str(admin.get(f"/invoices/{id}").json()["data"]["currency"])

        admin.put("/settings", {"default_currency": "EUR"})
        first = factories.invoice(admin)
        assert currency(first) == "EUR"
        admin.put("/settings", {"default_currency": "CHF"})
        assert [currency(id) for id in (first, factories.invoice(admin))] == ["EUR", "CHF"]
        assert admin.post(f"/invoices/{first}/pay").json()["data"]["currency"] == "EUR"


class TestWatched:
    @pytest.fixture
    def watched(self, monkeypatch: pytest.MonkeyPatch) -> list[LiveSettings]:
        """The copy that each server holds which starts from here on."""
        made: list[LiveSettings] = []

        def make(*arguments: Any) -> LiveSettings:
            made.append(LiveSettings(*arguments))
            return made[-1]

        monkeypatch.setattr(app, "LiveSettings", make)
        return made

    def test_a_change_in_one_process_is_in_force_in_another_within_5_seconds(
        self, database_url: str, admin: Api, watched: list[LiveSettings]
    ) -> None:
        admin.put("/settings", {"rate_limit_anonymous": MANY + 1})
        with serving(assembled(database_url)):
            (held,) = watched
            assert held.values.rate_limit_anonymous == MANY + 1
            answer = admin.put("/settings", {"rate_limit_anonymous": MANY + 2})
            assert within(5, lambda: held.values.rate_limit_anonymous == MANY + 2)
            assert f'"{held.values.version}"' == answer.headers["ETag"]

    def test_what_is_known_holds_while_the_database_does_not_answer(
        self, database_url: str, admin: Api, watched: list[LiveSettings], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        admin.put("/settings", {"rate_limit_client": MANY + 1})
        with serving(assembled(database_url)):
            (held,) = watched
            held.interval = 0.02
            asked: list[Exception] = []

            def failing(failure: Exception) -> None:
                def reading() -> Any:
                    asked.append(failure)
                    raise failure

                monkeypatch.setattr(held.database, "reading", reading)

            for failure in (Unavailable(), RuntimeError("anything else")):
                asked.clear()
                failing(failure)
                assert within(5, lambda: len(asked) > 2)
            admin.put("/settings", {"rate_limit_client": MANY + 2})
            assert held.values.rate_limit_client == MANY + 1
            monkeypatch.delattr(held.database, "reading")
            assert within(5, lambda: held.values.rate_limit_client == MANY + 2)


def within(seconds: float, condition: Callable[[], bool]) -> bool:
    """Whether ``condition`` comes true in time."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.02)
    return True
