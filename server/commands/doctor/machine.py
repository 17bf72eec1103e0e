"""Check the settings, the disk, the port and the memory."""

import shutil
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

from server.commands.doctor.findings import MIB, Finding, advise, fault, ok
from server.settings import SettingError, Settings, prepare_data_dir

LEAST_DISK, LITTLE_DISK = 100 * MIB, 1024 * MIB

LEAST_MEMORY = 256
"""MiB."""

LOCAL_HOSTS = ("127.0.0.1", "::1", "localhost")

SETTINGS: tuple[tuple[Callable[[Settings], bool], str, str], ...] = (
    (
        lambda given: not given.production and given.host not in LOCAL_HOSTS,
        "a development server listens on {0.host}",
        "set CLOUDARC_ENVIRONMENT=production where others can reach it",
    ),
    (
        lambda given: given.production and given.database_url.startswith("sqlite:"),
        "SQLite serves one process on one machine",
        "set CLOUDARC_DATABASE_URL to PostgreSQL to have more",
    ),
    (
        lambda given: given.production and not given.redis_url,
        "calls are counted in a Valkey of this process alone",
        "set CLOUDARC_REDIS_URL where more processes than one serve",
    ),
    (
        lambda given: given.production and not given.trusted_proxies,
        "no proxy is trusted, so behind one all callers without a credential share one limit",
        "set CLOUDARC_TRUSTED_PROXIES to the addresses of the proxies, if there are any",
    ),
    *(
        (
            lambda given, name=name: getattr(given, f"rate_limit_{name}") == 0,
            f"there is no limit for {name} calls",
            f"set CLOUDARC_RATE_LIMIT_{name.upper()} above 0",
        )
        for name in ("client", "admin", "anonymous")
    ),
)
"""Each a condition of settings that deserve advice, what is seen, and what to do."""


def check_settings(settings: Settings) -> Iterator[Finding]:
    yield ok("settings", f"valid, for {settings.environment}")
    for applies, text, advice in SETTINGS:
        if applies(settings):
            yield advise("settings", text.format(settings), advice)


def check_disk(settings: Settings) -> Iterator[Finding]:
    try:
        path = prepare_data_dir(settings)
        free = shutil.disk_usage(path).free
    except SettingError as error:
        yield fault("disk", error)
        return
    except OSError as error:
        yield fault("disk", f"{settings.data_dir} cannot be measured ({error.strerror})")
        return
    if path.stat().st_mode & 0o077:
        yield advise("disk", f"others on this machine may enter {path}", f"chmod 700 {path}")
    text = f"{free // MIB} MiB free below {path}"
    if free < LEAST_DISK:
        yield fault("disk", text, "make room; writes fail when there is none")
    elif free < LITTLE_DISK:
        yield advise("disk", text, "make room, or `purge` what is old")
    else:
        yield ok("disk", text)


def check_port(settings: Settings) -> Finding:
    """Find whether the port is free, or used by one of our servers."""
    place = f"{settings.host}:{settings.port}"
    try:
        family, kind, _, _, address = socket.getaddrinfo(
            settings.host, settings.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        with socket.socket(family, kind) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as error:
        if check_answers(settings.host, settings.port):
            return ok("port", f"a server answers on {place}")
        text = f"{place} cannot be listened on ({error.strerror})"
        return fault("port", text, "end what uses it, or set CLOUDARC_PORT")
    return ok("port", f"{place} is free; no server runs there")


def check_answers(host: str, port: int) -> bool:
    """Return whether one of our servers answers there."""
    place = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104  a place to connect to
    try:
        with socket.create_connection((place, port), timeout=2) as caller:
            caller.sendall(f"GET /healthz HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
            return b'"status"' in caller.makefile("rb").read(4096)
    except OSError:
        return False


def check_memory() -> Iterator[Finding]:
    """Find how much memory is available. Only Linux tells that."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        available = next(int(each.split()[1]) // 1024 for each in lines if each.startswith("MemAvailable"))
    except (OSError, StopIteration, ValueError):
        return
    text = f"{available} MiB available"
    if available < LEAST_MEMORY:
        yield advise("memory", text, "a process takes about 120 MiB; have fewer, or more memory")
    else:
        yield ok("memory", text)
