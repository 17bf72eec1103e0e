"""Two processes of the API and two workers, on one PostgreSQL and one Valkey, behind the documented nginx."""

import asyncio
import re
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from tests.conftest import new_database
from tests.e2e.conftest import program
from tests.operations.test_command_line import command
from tests.soak import invariants
from tests.soak.faults import _told
from tests.soak.ledger import Attempt, History, loading
from tests.soak.processes import ROOT, Log, Process, receiver, settings, until, workers
from tests.soak.webhooks import calling
from tests.support.live_server import ADMIN, CLIENT
from tests.support.postgres import free_port
from tests.support.valkey import running_valkey

OPERATIONS = ROOT / "docs" / "operations"
OF_THE_STATE = (
    "invoices whose payments",
    "changes without an event",
    "events without a change",
    "writes that were done twice",
    "sums that do not add up",
)
"""The invariants that a database has by itself, whoever was told what."""


@dataclass(frozen=True)
class Site:
    """The processes, and what nginx says of itself."""

    base: str
    secure: str
    apis: list[Process]
    workers: list[Process]
    log: Log
    target: str
    lines: Path
    database_url: str
    folder: Path


@contextmanager
def nginx(folder: Path, ports: list[int]) -> Iterator[tuple[str, str, Path]]:
    """The configuration of docs/operations with other ports and paths; http and https, and its log."""
    plain, secure = free_port(), free_port()
    key, certificate, log = folder / "nginx.key", folder / "nginx.pem", folder / "nginx.log"
    subprocess.run(
        [
            *(program("openssl", "openssl"), "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1"),
            *("-subj", "/CN=localhost", "-keyout", str(key), "-out", str(certificate)),
        ],
        check=True,
        capture_output=True,
    )
    text = (OPERATIONS / "cloudarc.conf").read_text()
    for old, new in (
        ("127.0.0.1:8081", f"127.0.0.1:{ports[0]}"),
        ("127.0.0.1:8082", f"127.0.0.1:{ports[1]}"),
        ("listen 443 ssl http2;", f"listen 127.0.0.1:{secure} ssl http2; listen 127.0.0.1:{plain};"),
        ("/etc/ssl/certs/cloudarc.pem", str(certificate)),
        ("/etc/ssl/private/cloudarc.key", str(key)),
        ("/var/log/nginx/cloudarc.log", str(log)),
    ):
        assert old in text, old
        text = text.replace(old, new)
    (folder / "cloudarc.conf").write_text(text)
    temporary = "".join(
        f"{name}_temp_path {folder}/{name};" for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    main = folder / "nginx.conf"
    main.write_text(
        f"daemon off; pid {folder}/nginx.pid; error_log {folder}/error.log; events {{}}"
        f" http {{ {temporary} include {folder}/cloudarc.conf; }}"
    )
    command = [program("nginx", "nginx"), "-e", str(folder / "error.log"), "-c", str(main)]
    judged = subprocess.run([*command, "-t"], capture_output=True, text=True, check=False)
    assert judged.returncode == 0, judged.stderr
    process = subprocess.Popen(command)
    try:
        base = f"http://127.0.0.1:{plain}/api/v1"
        until(lambda: _answers(base), 20, "nginx")
        yield base, f"https://127.0.0.1:{secure}/api/v1", log
    finally:
        process.terminate()
        process.wait(20)


def _answers(base: str) -> bool:
    try:
        return httpx.get(f"{base}/status").status_code == 200
    except httpx.TransportError:
        return False


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, postgres: str) -> Iterator[Site]:
    """All of it, with the limits on for everybody but the operator."""
    folder = tmp_path_factory.mktemp("site")
    # nginx's own processes are another user's where it is started by root.
    folder.chmod(0o755)
    for above in folder.parents:
        if above.owner() == folder.owner() and above.name.startswith("pytest"):
            above.chmod(above.stat().st_mode | 0o011)
    url, ports = new_database("postgresql", folder, postgres), [free_port(), free_port()]
    limits = {"RATE_LIMIT_CLIENT": "60", "RATE_LIMIT_ANONYMOUS": "10", "TRUSTED_PROXIES": "127.0.0.1/32"}
    with running_valkey() as valkey, receiver(folder) as (target, log):
        limits["REDIS_URL"] = valkey.url
        apis = []
        try:
            for nth, port in enumerate(ports):
                given = settings(folder, url, **limits) | {"CLOUDARC_DATA_DIR": str(folder / f"data{nth}")}
                apis.append(Process(folder, f"api{nth}", ["server", "serve", "--port", str(port)], given))
                apis[-1].start()
            for each in apis:
                each.said(r"(serves) http")
            with (
                workers(folder, settings(folder, url), 2) as delivering,
                nginx(folder, ports) as (base, secure, lines),
            ):
                yield Site(base, secure, apis, delivering, log, target, lines, url, folder)
        finally:
            for each in apis:
                each.stop()


def call(url: str, secret: str | None, **headers: str) -> httpx.Response:
    given = {"Authorization": f"Bearer {secret}"} if secret else {}
    return httpx.get(url, headers=given | headers, verify=False)  # noqa: S501  a certificate of its own


def served_by(site: Site) -> Counter[str]:
    """How many calls each process took."""
    return Counter(line.split()[-1] for line in site.lines.read_text().splitlines())


class TestNginx:
    def test_the_limit_is_exact_over_both_processes(self, site: Site) -> None:
        before = served_by(site)
        statuses = Counter(call(f"{site.base}/services", CLIENT).status_code for _ in range(100))
        assert statuses == {200: 60, 429: 40}
        assert len(served_by(site) - before) == 2

    def test_a_forged_address_is_not_believed(self, site: Site) -> None:
        answers = [
            call(f"{site.base}/services", "cbt_wrong", **{"X-Forwarded-For": f"203.0.113.{nth}"}).status_code
            for nth in range(20)
        ]
        assert Counter(answers) == {401: 10, 429: 10}

    def test_it_speaks_tls_and_the_panel_opens(self, site: Site) -> None:
        assert call(f"{site.secure}/status", None).status_code in (200, 429)
        page = call(site.secure.removesuffix("/api/v1") + "/admin/sign-in", None)
        assert (page.status_code, "Sign in" in page.text) == (200, True)

    def test_a_credential_in_the_query_is_in_no_log(self, site: Site) -> None:
        call(f"{site.base}/services?api_token=cbt_secret", None)
        assert "cbt_secret" not in site.lines.read_text()


def _written(attempt: Attempt) -> bool:
    return attempt.status is not None and attempt.status < 300


class TestKills:
    def test_one_of_each_is_killed_under_load_and_nothing_is_lost(self, site: Site, tmp_path: Path) -> None:
        async def work() -> tuple[History, str]:
            history = History()
            async with calling(site.base) as caller:
                hook = await caller.webhook(f"{site.target}/ok", *invariants.KINDS)
            async with loading(site.base, history):
                await history.further(30, _written)
                for killed in (site.apis[0], site.workers[0], site.apis[1]):
                    killed.kill()
                    await history.further(30, _written)
                    killed.start()
                # A copy is made while everything is written.
                made = await asyncio.to_thread(
                    command, tmp_path, "backup", str(tmp_path / "copy"), database_url=site.database_url
                )
                assert made.returncode == 0, made.stderr
                await history.further(30, _written)
            state = (await invariants.read(site.database_url)).since(before)
            await _told(state, site.log)
            received = [each for each in site.log.read() if each.path == "/ok"]
            for figure in invariants.check(history, state, received, hook["secret"]):
                assert figure.holds, figure
            return history, hook["secret"]

        before = asyncio.run(invariants.read(site.database_url))
        history, secret = asyncio.run(work())
        assert history.count("acknowledged") > 100
        # What went through both is there in the copy, and adds up.
        url = new_database("postgresql", tmp_path, site.database_url)
        restored = command(tmp_path, "restore", str(tmp_path / "copy"), database_url=url)
        assert restored.returncode == 0, restored.stderr
        state = asyncio.run(invariants.read(url)).since(before)
        assert len(state.tickets) > 20
        judged = [
            each
            for each in invariants.check(History(), state, [], secret)
            if each.name.startswith(OF_THE_STATE)
        ]
        assert len(judged) == len(OF_THE_STATE)
        assert [each for each in judged if not each.holds] == []

    def test_while_all_are_away_callers_are_told_to_come_back(self, site: Site) -> None:
        for each in site.apis:
            each.kill()
        try:
            for secret, body in (
                (ADMIN, {"status": "error", "error": {"code": "SERVICE_UNAVAILABLE"}}),
                ("cbt_x", {"code": 503}),
            ):
                answer = call(f"{site.base}/services", secret)
                assert (answer.status_code, answer.headers["Retry-After"]) == (503, "1")
                told = answer.json()
                assert re.search("second", str(told))
                if "status" in body:
                    assert told["error"]["code"] == "SERVICE_UNAVAILABLE"
                else:
                    assert told["code"] == 503
        finally:
            for each in site.apis:
                each.start()
            deadline = time.monotonic() + 30
            while not _answers(site.base):
                assert time.monotonic() < deadline
