"""A signal ends every process within ten seconds, whoever hangs; calls in flight are answered."""

import fcntl
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import psutil
import pytest

from server.process.shutdown import CALLS_SECONDS
from tests.conftest import new_database
from tests.operations.test_command_line import command, environment, served
from tests.raw.raw_client import Wire, get, send
from tests.support.live_server import CLIENT
from tests.support.postgres import running_postgres
from tests.support.secret_leak_guard import judge_output
from tests.support.valkey import running_valkey
from tests.support.webhook_factories import tell_at

LIMIT = 10
TICKET = b'{"subject":"A","message":"B","department_id":1}'
SIGNALS = [signal.SIGTERM, signal.SIGINT]


def ends(process: subprocess.Popen[str], number: signal.Signals = signal.SIGTERM) -> float:
    """End a process; how many seconds it took, and nothing of it may be left."""
    children = psutil.Process(process.pid).children(recursive=True)
    begun = time.monotonic()
    process.send_signal(number)
    process.wait(LIMIT)
    took = time.monotonic() - begun
    # Python's own helper process ends when it notices that its parent has.
    left = psutil.wait_procs(children, timeout=LIMIT - took)[1]
    assert [each for each in left if each.is_running() and each.status() != psutil.STATUS_ZOMBIE] == []
    return took


def until(done: Callable[[], Any], seconds: float = 10) -> Any:
    deadline = time.monotonic() + seconds
    while not (result := done()):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return result


def port_of(base: str) -> int:
    port = urlsplit(base).port
    assert port is not None
    return port


def refuses(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), 1):
            return False
    except OSError:
        return True


@contextmanager
def dripping(*wires: Wire) -> Iterator[None]:
    """Send a byte to each connection again and again."""
    stop = threading.Event()

    def drip() -> None:
        while not stop.wait(0.1):
            for wire in wires:
                with suppress(OSError):
                    wire.send(b" ")

    thread = threading.Thread(target=drip)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


@contextmanager
def crowd(port: int) -> Iterator[None]:
    """Callers who do not leave: idle ones, a head and a body that drip, one who reads no answer."""
    wires = [Wire(port) for _ in range(8)]
    try:
        for wire in wires[:4]:
            assert wire.is_usable()
        head, body = wires[4], wires[5]
        head.send(get("/services", CLIENT)[:-2] + b"X-Note:")
        body.send(send("/tickets", CLIENT, b" " * 100_000)[:-99_990])
        deaf = wires[6]
        deaf.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
        # The largest answer there is.
        deaf.send(get("/docs"))
        with dripping(head, body):
            yield
    finally:
        for wire in wires:
            wire.close()


@contextmanager
def hanging_receiver() -> Iterator[tuple[str, list[socket.socket]]]:
    """The URL of a receiver that takes what it is told and never answers, and its connections."""
    taken: list[socket.socket] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(0.1)
        stop = threading.Event()

        def accept() -> None:
            while not stop.is_set():
                with suppress(TimeoutError):
                    taken.append(listener.accept()[0])

        thread = threading.Thread(target=accept)
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}/hook", taken
        finally:
            stop.set()
            thread.join()
            for each in taken:
                each.close()


KEY = "a secret key that only these tests know"
WEBHOOKS = {"webhook_private_targets": "on", "secret_key": KEY}


def database(folder: Path) -> str:
    return f"sqlite:///{folder / 'var' / 'cloudarc.db'}"


# The demo data has deliveries of its own.
OURS = "FROM deliveries WHERE webhook_id = (SELECT max(id) FROM webhooks)"


def _hindered(processes: Iterable[psutil.Process], how: str) -> list[psutil.Process]:
    """Those of PostgreSQL, which are killed or frozen now. Some of its processes come and go."""
    servers = []
    for each in processes:
        with suppress(psutil.NoSuchProcess):
            if each.name() == "postgres":
                each.kill() if how == "gone" else each.suspend()
                servers.append(each)
    return servers


class TestServe:
    @pytest.mark.parametrize("number", SIGNALS)
    def test_it_ends_though_callers_stay(self, tmp_path: Path, number: signal.Signals) -> None:
        with served(tmp_path) as (process, base), crowd(port_of(base)):
            assert ends(process, number) < LIMIT

    def test_without_calls_it_ends_at_once(self, tmp_path: Path) -> None:
        with served(tmp_path) as (process, base):
            wire = Wire(port_of(base))
            assert wire.is_usable()
            assert ends(process) < 3
            wire.close()

    def test_a_call_in_flight_is_answered_and_new_ones_are_refused(self, tmp_path: Path) -> None:
        with served(tmp_path) as (process, base):
            wire = Wire(port_of(base))
            wire.send(send("/tickets", CLIENT, TICKET)[:-1])
            # Answered behind it, so it has been read.
            assert httpx.get(f"{base}/status").status_code == 200
            process.send_signal(signal.SIGTERM)
            until(lambda: refuses(port_of(base)), 3)
            wire.send(TICKET[-1:])
            answer = wire.answer()
            assert answer.status == 201 and answer.closes
            process.wait(3)
            wire.close()
        with sqlite3.connect(tmp_path / "var" / "cloudarc.db") as raw:
            found = raw.execute("SELECT count(*) FROM tickets WHERE id = ?", [answer.json["ticket_id"]])
            assert found.fetchone() == (1,)

    def test_a_call_that_takes_too_long_is_503(self, tmp_path: Path) -> None:
        with served(tmp_path) as (process, base):
            wire = Wire(port_of(base))
            wire.socket.settimeout(LIMIT)
            # So much has come that the rest may take its time.
            body = b" " * 200_000
            wire.send(send("/tickets", CLIENT, body)[:-10])
            assert httpx.get(f"{base}/status").status_code == 200
            begun = time.monotonic()
            process.send_signal(signal.SIGTERM)
            answer = wire.answer()
            assert answer.status == 503 and answer.headers["retry-after"]
            assert CALLS_SECONDS * 0.9 < time.monotonic() - begun < CALLS_SECONDS + 2
            process.wait(LIMIT - CALLS_SECONDS)
            wire.close()

    def test_a_delivery_that_hangs_is_given_back(self, tmp_path: Path) -> None:
        with hanging_receiver() as (url, taken), served(tmp_path, **WEBHOOKS) as (process, _):
            tell_at(database(tmp_path), KEY, url)
            until(lambda: taken)
            assert ends(process) < 5
            with sqlite3.connect(tmp_path / "var" / "cloudarc.db") as raw:
                found = raw.execute(f"SELECT status, tried, claim {OURS}").fetchall()
            assert found == [("pending", 0, None)]

    def test_the_worker_drains_while_calls_are_finished(self, tmp_path: Path) -> None:
        with hanging_receiver() as (url, taken), served(tmp_path, **WEBHOOKS) as (process, base):
            tell_at(database(tmp_path), KEY, url)
            until(lambda: taken)
            wire = Wire(port_of(base))
            wire.send(send("/tickets", CLIENT, TICKET)[:-1])
            # Answered behind it, so it has been read.
            assert httpx.get(f"{base}/status").status_code == 200
            process.send_signal(signal.SIGTERM)
            raw = sqlite3.connect(tmp_path / "var" / "cloudarc.db")
            until(lambda: raw.execute(f"SELECT claim {OURS}").fetchone() == (None,), 4)
            raw.close()
            wire.send(TICKET[-1:])
            assert wire.answer().status == 201
            process.wait(LIMIT)
            wire.close()

    def test_a_frozen_embedded_valkey_goes_too(self, tmp_path: Path) -> None:
        with served(tmp_path) as (process, base), crowd(port_of(base)):
            (valkey,) = [each for each in psutil.Process(process.pid).children() if "valkey" in each.name()]
            valkey.suspend()
            assert ends(process) < LIMIT

    def test_a_frozen_redis_is_not_waited_for(self, tmp_path: Path) -> None:
        with running_valkey() as valkey, served(tmp_path, redis_url=valkey.url) as (process, base):
            valkey.freeze()
            assert httpx.get(f"{base}/status").status_code == 200
            assert ends(process) < 4

    def test_a_stdout_that_nobody_reads_delays_nothing(self, tmp_path: Path) -> None:
        with served(tmp_path, rate_limit_client="0") as (process, base):
            assert process.stdout is not None
            fcntl.fcntl(process.stdout, fcntl.F_SETPIPE_SZ, 4096)
            with httpx.Client() as http:
                for _ in range(300):
                    assert http.get(f"{base}/status", timeout=15).status_code == 200
            assert ends(process) < 5

    def test_what_was_logged_is_written_before_the_end(self, tmp_path: Path) -> None:
        with served(tmp_path, log_format="text", rate_limit_client="0") as (process, base):
            for nth in range(50):
                httpx.get(f"{base}/status", headers={"X-Request-Id": f"call-{nth}"})
            ends(process)
            assert process.stdout is not None
            text = process.stdout.read()
            assert all(f"id=call-{nth} " in text for nth in range(50))


class TestPostgreSQL:
    @pytest.mark.parametrize("number", SIGNALS)
    def test_all_workers_end_though_callers_stay(
        self, tmp_path: Path, postgres: str, number: signal.Signals
    ) -> None:
        url = new_database("postgresql", tmp_path, postgres)
        with served(tmp_path, "--workers", "2", database_url=url) as (process, base):
            assert httpx.get(f"{base}/status", timeout=30).status_code == 200
            with crowd(port_of(base)):
                assert ends(process, number) < LIMIT
            assert refuses(port_of(base))

    @pytest.mark.parametrize("how", ["gone", "frozen"])
    def test_a_database_that_does_not_answer_is_not_waited_for(self, tmp_path: Path, how: str) -> None:
        mine = set(psutil.Process().children(recursive=True))
        with running_postgres() as postgres:
            url = new_database("postgresql", tmp_path, postgres)
            settings = {"database_url": url, "redis_url": "redis://127.0.0.1:1"}
            with served(tmp_path, **settings) as (process, base):
                headers = {"Authorization": f"Bearer {CLIENT}"}
                assert httpx.get(f"{base}/services", headers=headers).status_code == 200
                ready = base.removesuffix("/api/v1") + "/readyz"
                assert httpx.get(ready).json()["components"] == {"database": "ok", "redis": "degraded"}
                servers = _hindered(set(psutil.Process().children(recursive=True)) - mine, how)
                try:
                    until(lambda: httpx.get(ready, timeout=5).status_code == 503, 10)
                    components = httpx.get(ready).json()["components"]
                    assert components == {"database": "unavailable", "redis": "degraded"}
                    # A call that waits for the database is in flight.
                    wire = Wire(port_of(base))
                    wire.send(get("/services", CLIENT))
                    assert ends(process) < LIMIT
                    wire.close()
                finally:
                    for each in servers:
                        with suppress(psutil.NoSuchProcess):
                            each.resume()


@contextmanager
def working(folder: Path, **settings: str) -> Iterator[subprocess.Popen[str]]:
    """A webhook worker that runs."""
    process = subprocess.Popen(
        [sys.executable, "-m", "server", "worker"],
        env=environment(folder, **settings),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "CloudArc delivers webhooks\n"
        yield process
    finally:
        process.kill()
        process.wait()
        if process.stdout:
            judge_output(process.stdout.read())
            process.stdout.close()


class TestWorker:
    @pytest.mark.parametrize("number", SIGNALS)
    def test_it_ends_at_once_where_there_is_nothing_to_do(
        self, tmp_path: Path, number: signal.Signals
    ) -> None:
        command(tmp_path, "migrate")
        with working(tmp_path) as process:
            assert ends(process, number) < 3
            assert process.returncode == 0

    def test_it_ends_though_a_receiver_hangs(self, tmp_path: Path) -> None:
        command(tmp_path, "migrate")
        with hanging_receiver() as (url, taken):
            tell_at(database(tmp_path), KEY, url)
            with working(tmp_path, **WEBHOOKS) as process:
                until(lambda: taken)
                assert ends(process) < 5
        with sqlite3.connect(tmp_path / "var" / "cloudarc.db") as raw:
            assert raw.execute("SELECT claim FROM deliveries").fetchall() == [(None,)]

    @pytest.mark.parametrize("how", ["gone", "frozen"])
    def test_it_ends_though_the_database_does_not_answer(self, tmp_path: Path, how: str) -> None:
        mine = set(psutil.Process().children(recursive=True))
        with running_postgres() as postgres:
            url = new_database("postgresql", tmp_path, postgres)
            command(tmp_path, "migrate", database_url=url)
            with working(tmp_path, database_url=url) as process:
                found = set(psutil.Process().children(recursive=True)) - mine
                servers = _hindered(found, how)
                try:
                    assert ends(process) < LIMIT
                finally:
                    for each in servers:
                        with suppress(psutil.NoSuchProcess):
                            each.resume()
