"""Every documented setting, by its effect on a real server that is started with it.

The settings of ``CASES`` are shared out to few starts. Each case is looked at twice: on a server that has
the setting, and on one that has its default.
"""

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any, NamedTuple

import asyncpg
import httpx
import psutil
import pytest
import redis

from persistence import migrations
from server.settings import PREFIX, Settings
from tests.conftest import new_database
from tests.support.live_server import ADMIN, CLIENT
from tests.support.postgres import free_port
from tests.support.receiver import receiving
from tests.support.secret_leak_guard import judge_output
from tests.support.valkey import running_valkey

ROOT = Path(__file__).parents[2]
DEFAULTS = {each.name: each.default for each in fields(Settings)}
FIRST_KEY, SECOND_KEY = "f" * 40, "s" * 40


def program(folder: Path, settings: dict[str, str], verb: str) -> subprocess.Popen[str]:
    """A command of a user who has nothing in the environment but these settings."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}
    given = {f"{PREFIX}{name.upper()}": value for name, value in settings.items()}
    return subprocess.Popen(
        [sys.executable, "-m", "server", verb],
        cwd=folder,
        env=kept | {"PYTHONPATH": str(ROOT)} | given,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


class Server:
    """A server that runs in a folder of its own; ``starts`` leads to the others."""

    def __init__(self, folder: Path, settings: dict[str, str], starts: "Starts") -> None:
        self.folder, self.settings, self.starts = folder, settings, starts
        self.process = program(folder, settings, "serve")
        assert self.process.stdout is not None
        self.lines = [self.process.stdout.readline()]
        found = re.search(r"http://([^\s/\"]+):\d+/api/v1", self.lines[0])
        assert found, self.lines[0] + self.process.stdout.read()
        self.base, self.host = found[0], found[1]
        # Else a pipe that nobody empties would fill.
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        self.lines.extend(self.process.stdout)

    def stop(self) -> None:
        """End it, so that ``lines`` has all that it has printed."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
        self.process.wait(20)
        self.reader.join(20)
        assert self.process.stdout is not None
        self.process.stdout.close()
        judge_output("".join(self.lines))

    def call(self, method: str, path: str, secret: str | None = None, **options: Any) -> httpx.Response:
        """Call it as anybody may, with any header."""
        headers = options.pop("headers", {}) | ({"Authorization": f"Bearer {secret}"} if secret else {})
        return httpx.request(method, f"{self.base}{path}", headers=headers, timeout=60, **options)

    def limit(self, secret: str | None = None) -> str:
        """How many calls a minute it grants."""
        return str(self.call("GET", "/services", secret).headers.get("X-RateLimit-Limit"))


Shows = Callable[[Server, str], bool]
"""Whether a server shows the effect of a setting that has this value."""


def in_production(server: Server, value: str) -> bool:
    """It has made no demo data."""
    return server.call("GET", "/services", CLIENT).status_code == 401


def data_is_there(server: Server, value: str) -> bool:
    return (server.folder / value / "cloudarc.db").exists()


def database_is_used(server: Server, value: str) -> bool:
    async def products() -> int:
        connection = await asyncpg.connect(value.replace("+asyncpg", ""))
        try:
            return int(await connection.fetchval("SELECT count(*) FROM products"))
        finally:
            await connection.close()

    return asyncio.run(products()) > 0 and not [*server.folder.rglob("cloudarc.db")]


def redis_counts(server: Server, value: str) -> bool:
    with redis.Redis.from_url(value) as counter:
        counter.flushall()
        server.call("GET", "/services", CLIENT)
        return bool(counter.dbsize())


def host_answers(server: Server, value: str) -> bool:
    return server.host == value and server.call("GET", "/status").status_code == 200


def port_answers(server: Server, value: str) -> bool:
    return f":{value}/" in server.base and server.call("GET", "/status").status_code == 200


def processes_serve(server: Server, value: str) -> bool:
    children = psutil.Process(server.process.pid).children()
    return sum("spawn_main" in " ".join(each.cmdline()) for each in children) == int(value)


def metrics_are_told(server: Server, value: str) -> bool:
    listens = {
        each.laddr.port
        for each in psutil.Process(server.process.pid).net_connections("tcp4")
        if each.status == psutil.CONN_LISTEN
    }
    return int(value) in listens and "cloudarc_" in httpx.get(f"http://127.0.0.1:{value}/metrics").text


def limits_clients(server: Server, value: str) -> bool:
    return server.limit(CLIENT) == value


def limits_keys(server: Server, value: str) -> bool:
    return server.limit(ADMIN) == value


def limits_nobody(server: Server, value: str) -> bool:
    return server.limit() == value


def key_is_not_made(server: Server, value: str) -> bool:
    return not [*server.folder.rglob("secret.key")]


def opens_what_the_first_key_sealed(server: Server, value: str) -> bool:
    """An answer that another server has kept under that key is given again."""
    options = {"json": {"name": "Abuse"}, "headers": {"Idempotency-Key": "kept-under-the-first-key"}}
    made = server.starts.of("network").call("POST", "/departments", ADMIN, **options)
    again = server.call("POST", "/departments", ADMIN, **options)
    return again.headers.get("Idempotent-Replayed") == "true" and again.content == made.content


def proxy_is_believed(server: Server, value: str) -> bool:
    """Calls for three addresses are counted apart."""
    forwarded = [{"X-Forwarded-For": f"203.0.113.{nth}"} for nth in range(3)]
    answers = [server.call("GET", "/services", CLIENT, headers=each) for each in forwarded]
    return len({each.headers["X-RateLimit-Remaining"] for each in answers}) == 1


def origin_may_call(server: Server, value: str) -> bool:
    asked = {"Origin": value, "Access-Control-Request-Method": "GET"}
    answers = [
        server.call("GET", "/services", CLIENT, headers={"Origin": value}),
        server.call("OPTIONS", "/services", headers=asked),
    ]
    return {each.headers.get("Access-Control-Allow-Origin") for each in answers} == {value}


def inner_target_is_taken(server: Server, value: str) -> bool:
    body = {"url": "http://127.0.0.1:9/taken", "events": ["invoice.paid"]}
    return server.call("POST", "/webhooks", ADMIN, json=body).status_code == 201


def only_a_worker_delivers(server: Server, value: str) -> bool:
    with receiving() as receiver:
        body = {"url": receiver.url, "events": ["invoice.paid"]}
        made = server.call("POST", "/webhooks", ADMIN, json=body)
        assert made.status_code == 201, made.text
        tested = server.call("POST", f"/webhooks/{made.json()['data']['id']}/test", ADMIN)
        assert tested.is_success, tested.text
        if "webhook_worker" not in server.settings:
            receiver.until(bool, 20)
            return False
        server.stop()
        waits = receiver.received == []
        worker = program(server.folder, server.settings, "worker")
        try:
            receiver.until(bool, 20)
        finally:
            worker.terminate()
            worker.communicate(timeout=20)
        return waits


def log_is_quiet(server: Server, value: str) -> bool:
    """No call that was answered well is in it."""
    server.call("GET", "/services", CLIENT)
    server.stop()
    return not any("list_services" in line for line in server.lines)


def log_is_json(server: Server, value: str) -> bool:
    return server.lines[0].startswith("{") and "time" in json.loads(server.lines[0])


class Case(NamedTuple):
    """Which start has the setting, what shows it, and its value; ``given`` has those that a run chooses."""

    start: str
    shows: Shows
    value: str = ""


CASES = {
    "environment": Case("production", in_production, "production"),
    "data_dir": Case("network", data_is_there, "elsewhere"),
    "database_url": Case("processes", database_is_used),
    "redis_url": Case("network", redis_counts),
    "host": Case("network", host_answers, "127.0.0.2"),
    "port": Case("network", port_answers),
    "workers": Case("processes", processes_serve, "2"),
    "metrics_port": Case("network", metrics_are_told),
    "rate_limit_client": Case("network", limits_clients, "33"),
    "rate_limit_admin": Case("network", limits_keys, "44"),
    "rate_limit_anonymous": Case("network", limits_nobody, "7"),
    "secret_key": Case("network", key_is_not_made, FIRST_KEY),
    "other_secret_key": Case("rotated", opens_what_the_first_key_sealed, FIRST_KEY),
    "trusted_proxies": Case("network", proxy_is_believed, "127.0.0.0/8"),
    "cors_origins": Case("network", origin_may_call, "https://ok.example"),
    "webhook_private_targets": Case("processes", inner_target_is_taken, "on"),
    "webhook_worker": Case("network", only_a_worker_delivers, "off"),
    "log_level": Case("processes", log_is_quiet, "warning"),
    "log_format": Case("network", log_is_json, "json"),
}


class Starts:
    """The servers, each started when it is first asked for, and anew once a test has stopped it."""

    def __init__(self, folder: Path, given: dict[str, str]) -> None:
        self.folder = folder
        self.given = given
        self.servers: dict[str, Server] = {}
        database = f"sqlite:///{folder / 'network' / CASES['data_dir'].value / 'cloudarc.db'}"
        # What a start has beside the settings that it is there for.
        self.beside = {
            "network": {"webhook_private_targets": "on"},
            "processes": {"port": "0"},
            # It must not deliver what the first one leaves to a worker.
            "rotated": {
                "port": "0",
                "database_url": database,
                "secret_key": SECOND_KEY,
                "webhook_worker": "off",
            },
            "production": {"port": "0", "secret_key": SECOND_KEY},
        }

    def value(self, name: str) -> str:
        return CASES[name].value or self.given[name]

    def settings(self, start: str) -> dict[str, str]:
        own = {name: self.value(name) for name, case in CASES.items() if case.start == start}
        return self.beside[start] | own

    def of(self, start: str) -> Server:
        server = self.servers.get(start)
        if server is None or server.process.poll() is not None:
            folder = self.folder / start
            folder.mkdir(exist_ok=True)
            if start == "production":
                (folder / "var").mkdir(exist_ok=True)
                migrations.upgrade(f"sqlite:///{folder / 'var' / 'cloudarc.db'}")
            server = self.servers[start] = Server(folder, self.settings(start), self)
        return server

    def without(self, name: str) -> Server:
        """A server that has demo data, and not this value of a setting."""
        others = ("processes", "network", "rotated")
        return self.of(next(each for each in others if self.settings(each).get(name) != self.value(name)))


@pytest.fixture(scope="module")
def starts(tmp_path_factory: pytest.TempPathFactory, postgres: str) -> Iterator[Starts]:
    folder = tmp_path_factory.mktemp("settings")
    with running_valkey() as valkey:
        given = {
            "database_url": new_database("postgresql", folder, postgres),
            "redis_url": valkey.url,
            "port": str(free_port()),
            "metrics_port": str(free_port()),
        }
        starts = Starts(folder, given)
        yield starts
        for server in starts.servers.values():
            server.stop()


class TestEffects:
    def test_every_setting_has_a_case_and_no_case_is_the_default(self, starts: Starts) -> None:
        assert CASES.keys() == DEFAULTS.keys()
        assert [name for name in CASES if starts.value(name) == str(DEFAULTS[name])] == []

    @pytest.mark.parametrize("name", DEFAULTS)
    def test_it_shows_on_a_server_that_has_it_and_on_no_other(self, starts: Starts, name: str) -> None:
        case, value = CASES[name], starts.value(name)
        assert case.shows(starts.of(case.start), value)
        assert not case.shows(starts.without(name), value)


def documented() -> set[str]:
    """The settings that stand in a table of the pages, by the names of their fields."""
    found: set[str] = set()
    for page in (ROOT / "README.md", *(ROOT / "docs").glob("*.md")):
        for table in re.findall(
            r"^\| environment variable .*\n((?:\|.*\n)+)", page.read_text(), re.MULTILINE
        ):
            for row in table.splitlines()[1:]:
                last = ""
                for name in re.findall(r"`((?:CLOUDARC|…)_[A-Z_]+)`", row.split("|")[1]):
                    # "…_ADMIN" is the one before it with another last word.
                    last = name.replace("…", last.rpartition("_")[0])
                    found.add(last.removeprefix(PREFIX).lower())
    return found


def test_the_pages_list_the_settings_that_there_are() -> None:
    assert documented() == DEFAULTS.keys()
