"""The parts of a soak run, each a real process: database, server, workers, receiver."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from persistence import demo
from tests.support.secret_leak_guard import judge_output

ROOT = Path(__file__).parent.parent.parent
SECRET_KEY = "a secret key that only soak runs know"
ADMIN = demo.ADMIN_KEY


def settings(folder: Path, database_url: str, **more: str) -> dict[str, str]:
    """The environment of a server or worker: no limits, deliveries to loopback, no inline worker."""
    given = {
        "DATA_DIR": str(folder / "data"),
        "DATABASE_URL": database_url,
        "SECRET_KEY": SECRET_KEY,
        "RATE_LIMIT_CLIENT": "0",
        "RATE_LIMIT_ADMIN": "0",
        "RATE_LIMIT_ANONYMOUS": "0",
        "WEBHOOK_PRIVATE_TARGETS": "on",
        "WEBHOOK_WORKER": "off",
        "LOG_LEVEL": "warning",
    }
    clean = {name: text for name, text in os.environ.items() if not name.startswith("CLOUDARC_")}
    return clean | {f"CLOUDARC_{name}": text for name, text in (given | more).items()}


class Process:
    """A process that can be killed and started again; its output goes to a file."""

    def __init__(self, folder: Path, name: str, command: list[str], environment: dict[str, str]) -> None:
        self.name = name
        self.command = [sys.executable, "-m", *command]
        self.environment = environment
        self.output = folder / f"{name}.log"
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def start(self) -> None:
        """Start it; its output is appended."""
        with self.output.open("ab") as output:
            self.process = subprocess.Popen(
                self.command, cwd=ROOT, env=self.environment, stdout=output, stderr=output
            )

    def said(self, pattern: str, seconds: float = 30) -> str:
        """What the first group of ``pattern`` is in its output, once it is there."""
        found = until(lambda: re.search(pattern, self.output.read_text(errors="replace")), seconds, self.name)
        return str(found[1])

    def kill(self) -> None:
        """``kill -9``."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def stop(self, seconds: float = 20) -> int:
        """SIGTERM; the exit status."""
        if self.process is None:
            return 0
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"{self.name} did not end within {seconds} s") from None
        finally:
            judge_output(self.output.read_text(errors="replace"))


def until(done: Callable[[], Any], seconds: float, what: str) -> Any:
    """What ``done`` answers, once it is true."""
    deadline = time.monotonic() + seconds
    while not (result := done()):
        assert time.monotonic() < deadline, f"{what}: not within {seconds} s"
        time.sleep(0.02)
    return result


@dataclass(frozen=True)
class Received:
    """One request that the receiver got."""

    at: float
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def id(self) -> str:
        return self.headers["webhook-id"]


class Log:
    """What the receiver got, read on from where the last reading ended."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.position = 0
        self.received: list[Received] = []

    def read(self) -> list[Received]:
        """All requests so far."""
        with self.path.open("rb") as file:
            file.seek(self.position)
            for line in file:
                if not line.endswith(b"\n"):
                    break
                self.position += len(line)
                fields = json.loads(line)
                self.received.append(
                    Received(fields["at"], fields["path"], fields["headers"], fields["body"].encode())
                )
        return self.received


@contextmanager
def receiver(folder: Path) -> Iterator[tuple[str, Log]]:
    """The URL of a receiver, and what it got."""
    log, address = folder / "received.jsonl", folder / "receiver.url"
    log.touch()
    process = Process(folder, "receiver", ["tests.soak.receiver", str(log), str(address)], dict(os.environ))
    process.start()
    try:
        until(address.exists, 20, "receiver")
        yield address.read_text(), Log(log)
    finally:
        process.stop()


@contextmanager
def server(folder: Path, environment: dict[str, str], *arguments: str) -> Iterator[tuple[Process, str]]:
    """A server with demo data, and its base address; it may be killed and started again."""
    process = Process(folder, "server", ["server", "serve", "--port", "0", *arguments], environment)
    process.start()
    try:
        yield process, process.said(r"serves (http://\S+)\n")
    finally:
        process.stop()


@contextmanager
def workers(folder: Path, environment: dict[str, str], number: int) -> Iterator[list[Process]]:
    """Workers that deliver; each may be killed and started again."""
    started = [Process(folder, f"worker{nth}", ["server", "worker"], environment) for nth in range(number)]
    try:
        for each in started:
            each.start()
        for each in started:
            each.said(r"(delivers) webhooks")
        yield started
    finally:
        for each in started:
            each.stop()
