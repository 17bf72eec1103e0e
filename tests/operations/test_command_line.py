"""The command line and the settings: what works, and one line with exit status 2 for every mistake."""

import argparse
import asyncio
import json
import os
import re
import shlex
import signal
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import httpx
import psutil
import pytest

from openapi import contract, rendering
from persistence import migrations
from persistence.engines import connect
from persistence.engines.sqlite import keep_private
from server.__main__ import _parser
from server.settings import SettingError, read_settings
from tests.conftest import new_database
from tests.support.contract_client import Api
from tests.support.live_server import ADMIN, CLIENT, copy_demo
from tests.support.secret_leak_guard import judge_output


def environment(folder: Path, **settings: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("CLOUDARC_")}
    given = {f"CLOUDARC_{name.upper()}": value for name, value in settings.items()}
    return kept | {"CLOUDARC_DATA_DIR": str(folder / "var")} | given


def command(folder: Path, *arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "server", *arguments],
        env=environment(folder, **settings),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@contextmanager
def served(folder: Path, *arguments: str, **settings: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A server as a user starts it, and its base address; it is stopped by Ctrl-C.

    Its SQLite database is there from an earlier start, unless a data directory is named.
    """
    file = folder / "var" / "cloudarc.db"
    if not (file.exists() or settings.keys() & {"database_url", "data_dir", "environment"}):
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        copy_demo(file)
    process = subprocess.Popen(
        [sys.executable, "-m", "server", "serve", "--port", "0", *arguments],
        env=environment(folder, **settings),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        assert process.stdout is not None
        first = process.stdout.readline()
        found = re.fullmatch(r"CloudArc serves (http://\S+)\n", first)
        assert found, first + process.stdout.read()
        yield process, found.group(1)
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
        process.wait(20)
        if process.stdout:
            judge_output(process.stdout.read())
            process.stdout.close()


def is_one_line(result: subprocess.CompletedProcess[str], *words: str) -> None:
    assert result.returncode == 2, result
    assert result.stdout == ""
    assert re.fullmatch(r"cloudarc: [^\n]+\n", result.stderr), result.stderr
    for word in words:
        assert word in result.stderr


class TestServe:
    @pytest.mark.parametrize("late", ["aiohttp", "alembic"])
    def test_what_a_start_can_do_without_is_not_imported_by_it(self, late: str) -> None:
        look = f"import sys, server.commands.serve; sys.exit({late!r} in sys.modules)"
        assert subprocess.run([sys.executable, "-W", "ignore", "-c", look]).returncode == 0

    def test_the_line_that_it_prints_works(self, tmp_path: Path) -> None:
        with served(tmp_path, data_dir=str(tmp_path / "fresh")) as (process, base):
            assert process.stdout is not None
            lines = [process.stdout.readline() for _ in range(7)]
            assert f"docs       {base}/docs" in lines[0]
            assert f"panel      {base.removesuffix('/api/v1')}/admin" in lines[1]
            assert "operator   demo, password demo-operator" in lines[5]
            curl = lines[6].partition("try")[2].strip()
            assert curl == f'curl -H "Authorization: Bearer {CLIENT}" {base}/services'
            api = Api(base, CLIENT)
            assert api.get("/services").json()["data"][0]["product_name"] == "Business Hosting"
            api.close()

    def test_with_json_every_line_is_json_and_none_has_a_credential(self, tmp_path: Path) -> None:
        process = subprocess.Popen(
            [sys.executable, "-m", "server", "serve", "--port", "0"],
            env=environment(tmp_path, log_format="json"),
            stdout=subprocess.PIPE,
            text=True,
        )
        assert process.stdout is not None
        first = process.stdout.readline()
        httpx.get(f"{json.loads(first)['address']}/services?api_token={CLIENT}", timeout=60)
        process.send_signal(signal.SIGINT)
        lines = [first, *process.communicate(timeout=20)[0].splitlines()]
        assert [json.loads(line)["level"] for line in lines]
        assert any(json.loads(line).get("operation") == "list_services" for line in lines)
        assert not any(secret in line for line in lines for secret in (CLIENT, ADMIN))

    def test_it_names_demo_credentials_only_where_they_work(self, tmp_path: Path) -> None:
        command(tmp_path, "migrate")
        command(tmp_path, "key", "create", "--name", "first", "--scope", "*")
        with served(tmp_path) as (process, _):
            process.send_signal(signal.SIGINT)
            process.wait(15)
            assert process.stdout is not None
            assert CLIENT not in process.stdout.read()

    def test_what_was_written_is_there_after_a_restart(self, tmp_path: Path) -> None:
        with served(tmp_path) as (_, base):
            api = Api(base, ADMIN)
            assert api.post("/services/1/suspend").status_code == 200
            api.close()
        with served(tmp_path) as (_, base):
            api = Api(base, ADMIN)
            assert api.get("/services/1").json()["data"]["status"] == "suspended"
            api.close()

    @pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
    def test_stopping_it_leaves_no_process_behind(self, tmp_path: Path, stop: signal.Signals) -> None:
        with served(tmp_path) as (process, base):
            httpx.get(f"{base}/status", timeout=60)
            children = psutil.Process(process.pid).children(recursive=True)
            process.send_signal(stop)
            process.wait(15)
            assert process.stdout is not None
            assert "Traceback" not in process.stdout.read()
        assert not psutil.pid_exists(process.pid)
        assert not [child for child in children if child.is_running()]

    def test_more_workers_serve_one_postgresql(self, tmp_path: Path, postgres: str) -> None:
        url = new_database("postgresql", tmp_path, postgres)
        with served(tmp_path, "--workers", "2", database_url=url) as (process, base):
            with httpx.Client(transport=httpx.HTTPTransport(retries=50), timeout=60) as http:
                for _ in range(20):
                    assert (
                        http.get(
                            f"{base}/services", headers={"Authorization": f"Bearer {CLIENT}"}
                        ).status_code
                        == 200
                    )
            children = psutil.Process(process.pid).children(recursive=True)
            assert len(children) >= 2
        # Python's own helper process ends when it notices that its parent has.
        assert not psutil.wait_procs(children, timeout=20)[1]

    def test_a_port_in_use_is_one_line(self, tmp_path: Path) -> None:
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            port = str(taken.getsockname()[1])
            is_one_line(command(tmp_path, "serve", "--port", port), port, "CLOUDARC_PORT")

    def test_a_data_directory_that_cannot_be_used_is_one_line(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("")
        result = command(tmp_path, "serve", data_dir=str(tmp_path / "file" / "var"))
        is_one_line(result, "CLOUDARC_DATA_DIR")

    def test_a_data_directory_that_cannot_be_written_is_one_line(self, tmp_path: Path) -> None:
        result = command(tmp_path, "serve", data_dir="/proc/1/none")
        is_one_line(result, "CLOUDARC_DATA_DIR")

    def test_a_data_directory_whose_name_no_address_can_hold_is_one_line(self, tmp_path: Path) -> None:
        is_one_line(command(tmp_path, "serve", data_dir=str(tmp_path / "a\nb")), "CLOUDARC_DATA_DIR")

    def test_a_lock_that_cannot_be_opened_is_one_line(self, tmp_path: Path) -> None:
        (tmp_path / "var" / "serve.lock").mkdir(parents=True)
        is_one_line(command(tmp_path, "serve"), "serve.lock", "CLOUDARC_DATA_DIR")

    def test_a_database_that_does_not_answer_is_one_line_without_its_password(self, tmp_path: Path) -> None:
        url = "postgresql+asyncpg://cloudarc:very-secret@127.0.0.1:1/none"
        result = command(tmp_path, "serve", database_url=url)
        is_one_line(result, "CLOUDARC_DATABASE_URL")
        assert "very-secret" not in result.stderr

    def test_a_database_file_that_is_none_is_one_line(self, tmp_path: Path) -> None:
        file = tmp_path / "text.db"
        file.write_text("This is no database. " * 100)
        is_one_line(command(tmp_path, "serve", database_url=f"sqlite:///{file}"), "text.db")

    def test_an_unknown_setting_is_one_line(self, tmp_path: Path) -> None:
        is_one_line(command(tmp_path, "serve", prot="8080"), "CLOUDARC_PROT")

    def test_production_needs_its_migrations_first(self, tmp_path: Path) -> None:
        settings = {"environment": "production", "secret_key": "x" * 32}
        is_one_line(command(tmp_path, "serve", **settings), "migrate")


def wide(folder: Path) -> list[str]:
    """Which files below a folder group or others may read or write."""
    files = [each for each in folder.rglob("*") if not each.is_dir()]
    assert files
    return [f"{each.name} {each.stat().st_mode & 0o777:o}" for each in files if each.stat().st_mode & 0o077]


class TestFiles:
    """A data directory that others can enter, and a umask that takes away nothing."""

    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        (tmp_path / "var").mkdir()
        (tmp_path / "var").chmod(0o755)
        return tmp_path

    def run(self, folder: Path, *arguments: str) -> None:
        program = [sys.executable, "-m", "server", *arguments]
        done = subprocess.run(program, env=environment(folder), umask=0, capture_output=True, check=False)
        assert b"Traceback" not in done.stderr

    def test_a_server_makes_none_that_others_can_read(self, folder: Path) -> None:
        process = subprocess.Popen(
            [sys.executable, "-m", "server", "serve", "--port", "0"],
            env=environment(folder),
            stdout=subprocess.PIPE,
            text=True,
            umask=0,
        )
        try:
            assert process.stdout is not None
            base = process.stdout.readline().split()[-1]
            api = Api(base, ADMIN)
            assert api.post("/services/1/suspend").status_code == 200
            api.close()
            names = {each.name for each in (folder / "var").iterdir()}
            assert names >= {"cloudarc.db", "cloudarc.db-wal", "cloudarc.db-shm", "serve.lock", "valkey.log"}
            assert wide(folder) == []
        finally:
            process.send_signal(signal.SIGINT)
            process.communicate(timeout=20)

    def test_no_command_makes_one_that_others_can_read(self, folder: Path) -> None:
        (folder / "none.gz").touch(0o600)
        for nth, arguments in enumerate(
            (
                ("migrate",),
                ("seed", "--demo"),
                ("restore", str(folder / "none.gz")),
                ("token", "create", "--client", "42"),
                ("doctor",),
            )
        ):
            self.run(folder, *arguments)
            assert (folder / "var" / "cloudarc.db").exists()
            assert wide(folder) == [], arguments
            (folder / "var").rename(folder / f"var{nth}")
            (folder / "var").mkdir()
            (folder / "var").chmod(0o755)

    @pytest.mark.parametrize("open_it", ["migrate", "connect"])
    def test_a_wide_one_of_an_earlier_version_is_narrowed(self, tmp_path: Path, open_it: str) -> None:
        file = tmp_path / "cloudarc.db"
        migrations.upgrade(f"sqlite:///{file}")
        with closing(sqlite3.connect(file)) as raw:
            raw.execute("PRAGMA journal_mode=WAL")
            raw.execute("CREATE TABLE more (id INTEGER)")
            files = [file, *tmp_path.glob("cloudarc.db-*")]
            assert len(files) == 3
            for each in files:
                each.chmod(0o644)
            if open_it == "migrate":
                migrations.upgrade(f"sqlite:///{file}")
            else:

                async def look() -> None:
                    database = connect(f"sqlite:///{file}")
                    await database.open()
                    await database.close()

                asyncio.run(look())
            assert wide(tmp_path) == []

    def test_to_narrow_one_lets_go_of_no_lock(self, tmp_path: Path) -> None:
        file = tmp_path / "cloudarc.db"
        keep_private(str(file))
        with closing(sqlite3.connect(file, isolation_level=None)) as raw:
            raw.execute("CREATE TABLE more (id INTEGER)")
            raw.execute("BEGIN IMMEDIATE")
            file.chmod(0o644)
            keep_private(str(file))
            assert wide(tmp_path) == []
            other = "import sqlite3, sys; sqlite3.connect(sys.argv[1], timeout=0).execute('BEGIN IMMEDIATE')"
            tried = subprocess.run([sys.executable, "-c", other, str(file)], capture_output=True, check=False)
            assert b"database is locked" in tried.stderr

    def test_one_behind_a_link_is_made_for_its_owner_alone(self, tmp_path: Path) -> None:
        (tmp_path / "link.db").symlink_to(tmp_path / "real.db")
        before = os.umask(0)
        try:
            migrations.upgrade(f"sqlite:///{tmp_path / 'link.db'}")
        finally:
            os.umask(before)
        assert wide(tmp_path) == []


class TestMistakes:
    @pytest.mark.parametrize(
        "arguments",
        [
            [],
            ["fly"],
            ["serve", "--frob"],
            ["serve", "--port", "abc"],
            ["token", "create", "--client", "abc"],
            ["token", "create", "--client", "99999999999999999999"],
            ["token", "create", "--client", "0"],
            ["key", "create", "--name", "x"],
            ["key", "create", "--name", "", "--scope", "*"],
            ["key", "create", "--name", "x" * 101, "--scope", "*"],
            ["key", "create", "--name", "a\nb", "--scope", "*"],
            ["spec", "--format", "xml"],
            ["spec", "--audience", "staff"],
        ],
    )
    def test_each_is_one_line(self, tmp_path: Path, arguments: list[str]) -> None:
        is_one_line(command(tmp_path, *arguments))

    def test_a_database_of_a_newer_version_is_one_line(self, tmp_path: Path) -> None:
        command(tmp_path, "migrate")
        with sqlite3.connect(tmp_path / "var" / "cloudarc.db") as raw:
            raw.execute("UPDATE alembic_version SET version_num = '9999'")
        is_one_line(command(tmp_path, "migrate"), "newer")

    def test_a_full_disk_behind_spec_is_one_line(self, tmp_path: Path) -> None:
        with Path("/dev/full").open("wb") as full:
            result = subprocess.run(
                [sys.executable, "-m", "server", "spec"],
                env=environment(tmp_path),
                stdout=full,
                stderr=subprocess.PIPE,
                text=True,
                check=False,
            )
        assert result.returncode == 2
        assert result.stderr.count("\n") == 1


class TestCredentials:
    def test_production_refuses_a_database_with_demo_data(self, tmp_path: Path) -> None:
        assert command(tmp_path, "seed", "--demo").returncode == 0
        settings = {"environment": "production", "secret_key": "x" * 32}
        is_one_line(command(tmp_path, "serve", "--port", "0", **settings), "demo data")

    def test_a_demo_credential_that_comes_later_opens_nothing_in_production(self, tmp_path: Path) -> None:
        settings = {"environment": "production", "secret_key": "x" * 32}
        assert command(tmp_path, "migrate", **settings).returncode == 0
        with served(tmp_path, **settings) as (_, base):
            assert command(tmp_path, "seed", "--demo").returncode == 0
            for secret in (CLIENT, ADMIN):
                response = httpx.get(
                    f"{base}/services", headers={"Authorization": f"Bearer {secret}"}, timeout=30
                )
                assert response.status_code == 401

    def test_production_starts_empty_and_its_first_key_and_token_work(self, tmp_path: Path) -> None:
        settings = {"environment": "production", "secret_key": "x" * 32}
        assert command(tmp_path, "migrate", **settings).returncode == 0
        is_one_line(command(tmp_path, "seed", "--demo", **settings), "Demo")
        key = command(tmp_path, "key", "create", "--name", "ci", "--scope", "*", **settings)
        assert re.fullmatch(r"arc_[0-9A-Za-z]{36}\n", key.stdout)
        assert key.stderr == ""
        is_one_line(command(tmp_path, "token", "create", "--client", "42", **settings), "client")
        with served(tmp_path, **settings) as (_, base):
            for secret, status in ((CLIENT, 401), (ADMIN, 401), (key.stdout.strip(), 200)):
                response = httpx.get(
                    f"{base}/services", headers={"Authorization": f"Bearer {secret}"}, timeout=30
                )
                assert response.status_code == status

    def test_a_token_of_a_client_and_a_key_with_scopes_work(self, tmp_path: Path) -> None:
        assert command(tmp_path, "seed", "--demo").returncode == 0
        token = command(tmp_path, "token", "create", "--client", "43").stdout.strip()
        key = command(tmp_path, "key", "create", "--name", "x", "--scope", "tickets:read").stdout.strip()
        assert token.startswith("cbt_")
        with served(tmp_path) as (_, base):
            calls = [(token, "profile", 200), (key, "tickets", 200), (key, "invoices", 403)]
            for secret, path, status in calls:
                response = httpx.get(
                    f"{base}/{path}", headers={"Authorization": f"Bearer {secret}"}, timeout=30
                )
                assert response.status_code == status, path

    def test_an_unknown_scope_is_one_line(self, tmp_path: Path) -> None:
        command(tmp_path, "migrate")
        is_one_line(
            command(tmp_path, "key", "create", "--name", "x", "--scope", "tickets:burn"), "tickets:read"
        )


class TestSpec:
    @pytest.mark.parametrize("audience", [None, "client", "admin"])
    @pytest.mark.parametrize("form", ["json", "yaml"])
    def test_it_prints_what_is_served(
        self, tmp_path: Path, form: rendering.Form, audience: contract.Audience | None
    ) -> None:
        chosen = ["--audience", audience] if audience else []
        result = command(tmp_path, "spec", "--format", form, *chosen)
        assert result.stdout.encode() == rendering.published(form, audience).body

    def test_it_prints_it_in_openapi_3_1_too(self, tmp_path: Path) -> None:
        result = command(tmp_path, "spec", "--format", "json", "--version", "3.1")
        assert result.stdout.encode() == rendering.published("json", version="3.1").body


class TestSettings:
    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("ENVIRONMENT", "staging"),
            ("PORT", "70000"),
            ("PORT", "-1"),
            ("PORT", "８０"),
            ("WORKERS", "0"),
            ("WORKERS", "2"),
            ("RATE_LIMIT_CLIENT", "many"),
            ("DATABASE_URL", "mysql://localhost/x"),
            ("TRUSTED_PROXIES", "10.0.0.0/33"),
            ("WEBHOOK_WORKER", "on"),
            ("SECRET_KEY", "short"),
            ("LOG_FORMAT", "xml"),
            ("UNKNOWN", "1"),
            ("REDIS_URL", "garbage"),
            ("REDIS_URL", "redis://127.0.0.1:abc"),
            ("REDIS_URL", "redis://127.0.0.1:99999"),
            ("REDIS_URL", "redis://[::1"),
            ("REDIS_URL", "redis://127.0.0.1?colour=red"),
            ("REDIS_URL", "redis://127.0.0.1?socket_timeout=soon"),
            ("REDIS_URL", "rediss://127.0.0.1?ssl_cert_reqs=perhaps"),
            ("REDIS_URL", "unix://"),
            ("REDIS_URL", "unix://var/valkey.sock"),
            ("CORS_ORIGINS", "https://x.example/"),
            ("CORS_ORIGINS", "garbage"),
            ("DATABASE_URL", "sqlite:///"),
            ("DATABASE_URL", "sqlite:///:memory:"),
            ("DATABASE_URL", "sqlite:////x.db?mode=ro"),
            ("DATABASE_URL", "postgresql+asyncpg://u@127.0.0.1:abc/x"),
            ("DATABASE_URL", "postgresql+asyncpg://u@127.0.0.1:99999/x"),
            ("DATABASE_URL", "postgresql+asyncpg://u@127.0.0.1/x?sslmode=require"),
        ],
    )
    def test_a_wrong_one_is_named(self, name: str, value: str) -> None:
        with pytest.raises(SettingError, match=f"CLOUDARC_{name}"):
            read_settings({f"CLOUDARC_{name}": value})

    def test_production_wants_its_secret_key_and_no_private_targets(self) -> None:
        with pytest.raises(SettingError, match="SECRET_KEY"):
            read_settings({"CLOUDARC_ENVIRONMENT": "production"})
        given = {"CLOUDARC_ENVIRONMENT": "production", "CLOUDARC_SECRET_KEY": "x" * 32}
        for name, value in (("WEBHOOK_PRIVATE_TARGETS", "on"), ("TRUSTED_PROXIES", "*")):
            with pytest.raises(SettingError, match=name):
                read_settings(given | {f"CLOUDARC_{name}": value})

    def test_the_defaults_are_the_documented_ones(self) -> None:
        settings = read_settings({})
        assert (settings.host, settings.port, settings.workers) == ("127.0.0.1", 8080, 1)
        assert (settings.rate_limit_client, settings.rate_limit_admin, settings.rate_limit_anonymous) == (
            60,
            60,
            10,
        )
        assert settings.database_url.startswith("sqlite:////")
        assert settings.database_url.endswith("/var/cloudarc.db")


REFERENCE = (Path(__file__).parents[2] / "docs" / "reference.md").read_text()
DOCUMENTED = re.findall(r"^\| `python -m server ([^`]+)` \|(.*)\|$", REFERENCE, re.MULTILINE)
COMMANDS = [shlex.split(line) for line, _ in DOCUMENTED]
# Rows that name further verbs of the command.
COMMANDS += [["operator", verb, "--name", "robin"] for verb in ("password", "unlock")] + [
    ["operator", "list"]
]
PASSWORD = "correct horse battery"
STARTS = {
    "serve": "CloudArc serves",
    "worker": "CloudArc delivers webhooks",
}
"""What a command says that runs until it is stopped."""


class TestDocumented:
    def test_the_reference_names_every_command(self) -> None:
        parser = _parser()
        (known,) = [each.choices for each in parser._actions if isinstance(each, argparse._SubParsersAction)]
        assert {each[0] for each in COMMANDS} == set(known)
        (row,) = [f"{line} {text}" for line, text in DOCUMENTED if line.startswith("operator")]
        (verbs,) = [
            each.choices
            for each in known["operator"]._actions
            if isinstance(each, argparse._SubParsersAction)
        ]
        assert all(verb in row for verb in verbs)
        assert {each[1] for each in COMMANDS if each[0] == "operator"} == set(verbs)

    def test_every_command_does_its_work_as_it_is_written_there(self, tmp_path: Path) -> None:
        """In the order in which they can be done: the database is migrated and filled first."""
        first = ["migrate", "seed", "backup"]
        order = sorted(COMMANDS, key=lambda each: first.index(each[0]) if each[0] in first else len(first))
        for arguments in order:
            if arguments[0] in STARTS:
                self.starts_and_stops(tmp_path, arguments)
                continue
            given = [str(tmp_path / "copy.gz") if each == "FILE" else each for each in arguments]
            # A restore is into an empty database.
            place = (
                {"database_url": f"sqlite:///{tmp_path / 'other.db'}"} if arguments[0] == "restore" else {}
            )
            done = subprocess.run(
                [sys.executable, "-m", "server", *given],
                env=environment(tmp_path, **place),
                input=f"{PASSWORD}\n",
                capture_output=True,
                text=True,
                timeout=60,
                check=False,
            )
            assert done.returncode == 0, (arguments, done.stderr)
            assert "Traceback" not in done.stderr

    def starts_and_stops(self, folder: Path, arguments: list[str]) -> None:
        process = subprocess.Popen(
            [sys.executable, "-m", "server", *arguments],
            env=environment(folder, port="0"),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        try:
            assert process.stdout is not None
            assert process.stdout.readline().startswith(STARTS[arguments[0]])
        finally:
            process.send_signal(signal.SIGTERM)
            rest, _ = process.communicate(timeout=20)
        assert "Traceback" not in rest


class TestPurge:
    def test_what_is_old_is_deleted_and_told(self, tmp_path: Path) -> None:
        file = tmp_path / "var" / "cloudarc.db"
        file.parent.mkdir()
        copy_demo(file)
        with closing(sqlite3.connect(file)) as raw, raw:
            total = raw.execute("SELECT count(*) FROM events").fetchone()[0]
        done = command(tmp_path, "purge", "--days", "1")
        assert done.returncode == 0 and re.search(r"^\d+ deliveries and \d+ events from before", done.stdout)
        with closing(sqlite3.connect(file)) as raw:
            left = raw.execute("SELECT count(*) FROM events").fetchone()[0]
        assert total > left and f"and {total - left} events" in done.stdout
        is_one_line(command(tmp_path, "purge", "--days", "0"), "days")
