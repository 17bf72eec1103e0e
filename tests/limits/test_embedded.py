"""The embedded Valkey: it comes and goes with the server, however that ends, and nothing is left behind."""

import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote, unquote

import httpx
import psutil
import pytest
import redis

from server.process import children as processes
from server.process import embedded_valkey
from tests.conftest import new_database
from tests.operations.test_command_line import command, environment, is_one_line, served
from tests.support.valkey import running_valkey


def eventually(true: Callable[[], bool], seconds: float = 5) -> bool:
    """Whether something becomes true in time."""
    deadline = time.monotonic() + seconds
    while not true():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


def children(process: subprocess.Popen[str], name: str = "") -> list[psutil.Process]:
    found = psutil.Process(process.pid).children(recursive=True)
    return [each for each in found if name in each.name()]


def its_valkey(process: subprocess.Popen[str]) -> psutil.Process:
    found = children(process, "valkey-server")
    assert len(found) == 1
    return found[0]


def workers(process: subprocess.Popen[str]) -> list[psutil.Process]:
    return [each for each in children(process) if "spawn_main" in " ".join(each.cmdline())]


def gone(*found: psutil.Process) -> bool:
    return not psutil.wait_procs(found, timeout=10)[1]


@contextmanager
def client(path: Path) -> Iterator["redis.Redis"]:
    with redis.Redis.from_url(f"unix://{quote(str(path))}") as result:
        yield result


def changed(folder: Path, change: str, **settings: str) -> subprocess.CompletedProcess[str]:
    """``serve`` with something about the embedded Valkey changed."""
    code = "import sys; from server.process import embedded_valkey; from server.__main__ import main"
    return subprocess.run(
        [sys.executable, "-c", f"{code}; {change}; sys.exit(main(['serve', '--port', '0']))"],
        env=environment(folder, **settings),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


class TestStart:
    def test_it_answers_on_a_private_socket_and_is_set_up_to_count(self, tmp_path: Path) -> None:
        with served(tmp_path), client(tmp_path / "var" / "valkey.sock") as valkey:
            assert valkey.ping()
            mode = stat.S_IMODE((tmp_path / "var" / "valkey.sock").stat().st_mode)
            assert mode == 0o600
            wanted = {"port": "0", "save": "", "appendonly": "no", "databases": "1"}
            wanted |= {"maxmemory": str(256 * 2**20), "maxmemory-policy": "volatile-ttl"}
            assert wanted.items() <= valkey.config_get().items()
            assert valkey.info("server")["process_id"] == its_valkey_pid(tmp_path)

    def test_it_has_no_secret_in_its_environment(self, tmp_path: Path) -> None:
        with served(tmp_path, secret_key="x" * 40) as (process, _):
            assert its_valkey(process).environ() == {}

    def test_none_is_started_where_another_is_named(self, tmp_path: Path, valkey: str) -> None:
        with served(tmp_path, redis_url=valkey) as (process, _):
            assert not children(process, "valkey")
            assert {each.name for each in (tmp_path / "var").iterdir()} >= {"cloudarc.db"}
            assert not (tmp_path / "var" / "valkey.sock").exists()

    @pytest.mark.parametrize("name", ["a b", "50%", "100%25", "a#b", "a?b=c", "ä'\"*[x]"])
    def test_any_path_of_the_data_directory_will_do(self, tmp_path: Path, name: str) -> None:
        with served(tmp_path, data_dir=str(tmp_path / name)) as (process, base):
            assert embedded_valkey.answers(tmp_path / name / "valkey.sock")
            assert (tmp_path / name / "cloudarc.db").exists()
            assert httpx.get(f"{base}/status").status_code == 200
            kept = its_valkey(process)
        assert gone(kept)

    def test_a_path_that_is_too_long_for_a_socket_is_no_obstacle(self, tmp_path: Path) -> None:
        long = tmp_path / ("x" * 100) / ("y" * 100)
        with served(tmp_path, data_dir=str(long)) as (process, base):
            path = embedded_valkey._place(long)
            assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
            assert embedded_valkey.answers(path)
            assert httpx.get(f"{base}/status").status_code == 200
            kept = its_valkey(process)
        assert gone(kept)
        assert not path.parent.exists()

    def test_a_folder_that_others_can_open_takes_no_socket(self, tmp_path: Path) -> None:
        long = tmp_path / ("x" * 100)
        private = embedded_valkey._place(long).parent
        try:
            private.chmod(0o755)
            is_one_line(command(tmp_path, "serve", data_dir=str(long)), private.name)
        finally:
            private.rmdir()

    def test_a_valkey_that_cannot_start_is_one_line_with_its_reason(self, tmp_path: Path) -> None:
        result = changed(tmp_path, "embedded_valkey.ARGUMENTS += ['--maxmemory-policy', 'none-such']")
        is_one_line(result, "volatile-ttl", "CLOUDARC_REDIS_URL")

    def test_a_valkey_that_never_answers_is_one_line(self, tmp_path: Path) -> None:
        # What ignores its arguments and sleeps for ever.
        silent = tmp_path / "silent"
        silent.write_text(f"#!{sys.executable}\nimport time; time.sleep(1000)\n")
        silent.chmod(0o755)
        change = f"embedded_valkey.START = 0.3; embedded_valkey.program = lambda: {str(silent)!r}"
        is_one_line(changed(tmp_path, change), "does not answer")
        named = [
            each for each in psutil.process_iter(["cmdline"]) if str(silent) in (each.info["cmdline"] or [])
        ]
        assert not named

    def test_a_platform_without_the_program_is_one_line(self, tmp_path: Path) -> None:
        result = changed(tmp_path, "embedded_valkey.find_spec = lambda name: None")
        is_one_line(result, "CLOUDARC_REDIS_URL")

    def test_a_log_that_cannot_be_written_is_one_line(self, tmp_path: Path) -> None:
        (tmp_path / "var" / "valkey.log").mkdir(parents=True)
        is_one_line(command(tmp_path, "serve"), "valkey.log")


def its_valkey_pid(folder: Path) -> int:
    """By the command line that Valkey shows."""
    shown = f"unixsocket:{folder / 'var' / 'valkey.sock'}"
    found = [
        each.pid for each in psutil.process_iter(["cmdline"]) if shown in " ".join(each.info["cmdline"] or [])
    ]
    assert len(found) == 1
    return found[0]


class TestEnd:
    @pytest.mark.parametrize(
        ("stop", "status"),
        [
            (signal.SIGINT, 130),
            (signal.SIGTERM, -signal.SIGTERM),
            (signal.SIGHUP, -signal.SIGHUP),
            (signal.SIGKILL, -signal.SIGKILL),
        ],
    )
    def test_it_ends_with_the_server_however_that_ends(
        self, tmp_path: Path, stop: signal.Signals, status: int
    ) -> None:
        # Where the tests themselves are run by nohup, their children would be deaf to it.
        before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
        with served(tmp_path) as (process, _):
            signal.signal(signal.SIGHUP, before)
            kept = its_valkey(process)
            process.send_signal(stop)
            assert process.wait(15) == status
            assert gone(kept)
        assert not (tmp_path / "var" / "valkey.sock").exists()

    def test_it_ends_where_the_start_fails_later(self, tmp_path: Path) -> None:
        (tmp_path / "var").mkdir()
        (tmp_path / "var" / "cloudarc.db").write_text("This is no database. " * 100)
        is_one_line(command(tmp_path, "serve"), "cloudarc.db")
        assert not (tmp_path / "var" / "valkey.sock").exists()

    def test_a_frozen_one_ends_too(self, tmp_path: Path) -> None:
        with served(tmp_path) as (process, _):
            kept = its_valkey(process)
            kept.suspend()
            process.send_signal(signal.SIGTERM)
            process.wait(15)
            assert gone(kept)

    def test_ctrl_c_in_a_terminal_does_not_reach_it(self, tmp_path: Path) -> None:
        with served(tmp_path) as (process, _):
            assert os.getsid(its_valkey(process).pid) != os.getsid(process.pid)

    @pytest.mark.parametrize("frozen", [False, True])
    def test_one_that_was_left_behind_is_ended_by_the_next_start(self, tmp_path: Path, frozen: bool) -> None:
        path = tmp_path / "var" / "valkey.sock"
        path.parent.mkdir()
        with running_valkey(path) as left:
            if frozen:
                left.freeze()
            with served(tmp_path) as (process, _):
                assert left.process is not None
                assert left.process.wait(5) is not None
                with client(path) as valkey:
                    assert valkey.info("server")["process_id"] == its_valkey(process).pid

    def test_one_left_behind_is_asked_to_end_where_the_kernel_does_not_name_it(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.delattr("socket.SO_PEERCRED")
        path = tmp_path / "valkey.sock"
        with running_valkey(path) as left:
            embedded_valkey._end_left_behind(path)
            assert left.process is not None
            assert left.process.wait(5) is not None
        assert not path.exists()

    def test_a_dead_socket_and_a_file_in_its_place_are_removed(self, tmp_path: Path) -> None:
        path = tmp_path / "valkey.sock"
        with running_valkey(path):
            pass
        assert path.exists()
        embedded_valkey._end_left_behind(path)
        path.write_text("")
        embedded_valkey._end_left_behind(path)
        assert not path.exists()

    def test_a_server_that_was_killed_starts_again_at_once(self, tmp_path: Path) -> None:
        for _ in range(3):
            with served(tmp_path) as (process, _base):
                its_valkey(process)
                process.kill()
        with served(tmp_path) as (process, base):
            assert httpx.get(f"{base}/status").status_code == 200
            assert embedded_valkey.answers(tmp_path / "var" / "valkey.sock")


class TestDeath:
    def test_one_that_dies_comes_back_and_one_line_tells_it(self, tmp_path: Path) -> None:
        path = tmp_path / "var" / "valkey.sock"
        with served(tmp_path) as (process, base):
            first = its_valkey(process)
            for _ in range(2):
                its_valkey(process).kill()
                assert eventually(lambda: not embedded_valkey.answers(path))
                assert eventually(lambda: embedded_valkey.answers(path), 10)
            assert its_valkey(process).pid != first.pid
            assert httpx.get(f"{base}/status").status_code == 200
            kept = its_valkey(process)
            process.send_signal(signal.SIGTERM)
            process.wait(15)
            assert process.stdout is not None
            lines = [line for line in process.stdout.read().splitlines() if "Valkey has ended" in line]
            assert len(lines) == 1
            assert "status -9" in lines[0]
            assert gone(kept)

    def test_a_stop_between_two_lives_leaves_none(self, tmp_path: Path) -> None:
        with served(tmp_path) as (process, _):
            its_valkey(process).kill()
            assert eventually(lambda: not children(process, "valkey-server"))
            process.send_signal(signal.SIGTERM)
            process.wait(15)
        assert not embedded_valkey.answers(tmp_path / "var" / "valkey.sock")


class TestLock:
    def test_a_second_server_is_one_line_and_the_first_goes_on(self, tmp_path: Path) -> None:
        with served(tmp_path) as (process, base):
            kept = its_valkey(process)
            changed_at = (tmp_path / "var" / "cloudarc.db").stat().st_mtime_ns
            second = command(tmp_path, "serve", "--port", "0")
            is_one_line(second, "CLOUDARC_DATA_DIR", f"process {process.pid}")
            assert httpx.get(f"{base}/status").status_code == 200
            assert its_valkey(process).pid == kept.pid
            assert embedded_valkey.answers(tmp_path / "var" / "valkey.sock")
            assert (tmp_path / "var" / "cloudarc.db").stat().st_mtime_ns == changed_at

    def test_servers_with_a_redis_of_their_own_share_a_directory(self, tmp_path: Path, valkey: str) -> None:
        for _ in range(2):
            with served(tmp_path, redis_url=valkey), served(tmp_path, redis_url=valkey) as (_, base):
                assert httpx.get(f"{base}/status").status_code == 200

    def test_no_child_holds_it(self, tmp_path: Path) -> None:
        with processes.locked(str(tmp_path)):
            child = subprocess.Popen(["sleep", "60"], close_fds=False)
        try:
            with processes.locked(str(tmp_path)):
                assert (tmp_path / "serve.lock").read_text() == str(os.getpid())
        finally:
            child.kill()
            child.wait()


class TestWorkers:
    def test_they_share_one(self, tmp_path: Path, postgres: str) -> None:
        url = new_database("postgresql", tmp_path, postgres)
        with served(tmp_path, "--workers", "2", database_url=url) as (process, base):
            with httpx.Client(transport=httpx.HTTPTransport(retries=50), timeout=30) as http:
                assert http.get(f"{base}/status").status_code == 200
            assert eventually(lambda: len(workers(process)) == 2)
            for worker in workers(process):
                address = worker.environ()["CLOUDARC_REDIS_URL"]
                assert unquote(address) == f"unix://{tmp_path / 'var' / 'valkey.sock'}"
            everyone = [its_valkey(process), *children(process)]
            process.send_signal(signal.SIGTERM)
            assert process.wait(15) == 0
            assert gone(*everyone)

    @pytest.mark.parametrize("ready", [False, True])
    def test_they_end_with_a_server_that_is_killed(self, tmp_path: Path, postgres: str, ready: bool) -> None:
        url = new_database("postgresql", tmp_path, postgres)
        with served(tmp_path, "--workers", "2", database_url=url) as (process, base):
            assert eventually(lambda: len(workers(process)) == 2)
            if ready:
                with httpx.Client(transport=httpx.HTTPTransport(retries=50), timeout=30) as http:
                    assert http.get(f"{base}/status").status_code == 200
            everyone = [its_valkey(process), *children(process)]
            process.kill()
            process.wait(15)
            assert gone(*everyone)

    def test_a_process_whose_parent_has_ended_is_told(self) -> None:
        code = "import os; from server.process.children import end_with; print(end_with({}))"
        for parent, said in ((os.getpid(), "True\n"), (1, "False\n")):
            result = subprocess.run(
                [sys.executable, "-c", code.format(parent)], capture_output=True, text=True, check=True
            )
            assert result.stdout == said
