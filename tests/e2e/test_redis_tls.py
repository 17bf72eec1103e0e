"""Counting in Debian's Redis over TLS, as in production."""

import itertools
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import redis

from tests.e2e.conftest import output, program
from tests.operations.test_command_line import served
from tests.support.live_server import ADMIN
from tests.support.postgres import free_port
from tests.support.valkey import asked

PASSWORD = "s3cret:/@%"
QUOTED = "s3cret%3A%2F%40%25"


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a certificate for 127.0.0.1, which is its own authority, and another one."""
    openssl = program("openssl", "openssl")
    folder = tmp_path_factory.mktemp("tls")
    for name in ("redis", "other"):
        subprocess.run(
            [
                *(openssl, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1"),
                *("-subj", f"/CN={name}", "-addext", "subjectAltName=IP:127.0.0.1"),
                *("-keyout", f"{name}.key", "-out", f"{name}.crt"),
            ],
            cwd=folder,
            check=True,
            capture_output=True,
        )
    return folder


@pytest.fixture(scope="module")
def port(authority: Path) -> Iterator[int]:
    """A Redis that speaks TLS only, and wants a password."""
    found, port = program("redis-server", "redis-server"), free_port()
    assert "v=" in output(found, "--version")
    server = subprocess.Popen(
        [
            *(found, "--bind", "127.0.0.1", "--port", "0", "--tls-port", str(port), "--save", ""),
            *("--tls-cert-file", "redis.crt", "--tls-key-file", "redis.key"),
            *("--tls-ca-cert-file", "redis.crt", "--tls-auth-clients", "no", "--requirepass", PASSWORD),
        ],
        cwd=authority,
        stdout=subprocess.DEVNULL,
    )
    try:
        deadline = time.monotonic() + 20
        while True:
            try:
                _ask(authority, port, "PING")
                break
            except redis.ConnectionError:
                assert server.poll() is None and time.monotonic() < deadline
                time.sleep(0.02)
        yield port
    finally:
        server.terminate()
        server.wait(20)


def _ask(authority: Path, port: int, *command: str) -> Any:
    return asked(_url(authority / "redis.crt", port), *command)


def _url(certificate: Path, port: int) -> str:
    return f"rediss://:{QUOTED}@127.0.0.1:{port}/0?ssl_ca_certs={certificate}"


def call(base: str) -> httpx.Response:
    return httpx.get(f"{base}/services", headers={"Authorization": f"Bearer {ADMIN}"}, timeout=30)


class TestRedisOverTls:
    def test_calls_are_counted_there(self, authority: Path, port: int, tmp_path: Path) -> None:
        settings = {"REDIS_URL": _url(authority / "redis.crt", port)}
        with served(tmp_path / "one", **settings) as (_, base):
            assert call(base).headers["X-RateLimit-Remaining"] == "59"
            (key,) = _ask(authority, port, "KEYS", "cloudarc:log1:*")
            assert _ask(authority, port, "LLEN", key) == 1
            assert 0 < _ask(authority, port, "PTTL", key) <= 61_000
        # Another server counts on where the first one ended.
        with served(tmp_path / "two", **settings) as (_, base):
            assert call(base).headers["X-RateLimit-Remaining"] == "58"

    def test_a_server_that_cannot_be_trusted_is_told_nothing(
        self, authority: Path, port: int, tmp_path: Path
    ) -> None:
        _ask(authority, port, "FLUSHALL")
        settings = {"REDIS_URL": _url(authority / "other.crt", port)}
        with served(tmp_path / "data", **settings) as (process, base):
            response = call(base)
            assert (response.status_code, response.headers["X-RateLimit-Remaining"]) == (200, "59")
            assert process.stdout is not None
            # The line of the call is the last one.
            told = list(itertools.takewhile(lambda line: " request " not in line, process.stdout))
            (line,) = [line for line in told if "Redis" in line]
            assert "CLOUDARC_REDIS_URL" in line and "s3cret" not in line
        assert _ask(authority, port, "KEYS", "*") == []
