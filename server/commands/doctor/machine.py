"""Check the settings, the disk, the port and the memory."""

import shutil
import socket
from pathlib import Path

from server.commands.doctor.findings import MIB, Finding
from server.settings import SettingError, Settings, prepare_data_dir

LEAST_DISK, LITTLE_DISK = 100 * MIB, 1024 * MIB


# --- what this machine has ---------------------------------------------------------------------------


def check_settings(settings: Settings) -> list[Finding]:
    found = [Finding("ok", "settings", f"valid, for {settings.environment}")]

    def advise(text: str, advice: str) -> None:
        found.append(Finding("advice", "settings", text, advice))

    if not settings.production and settings.host not in ("127.0.0.1", "::1", "localhost"):
        advise(
            f"a development server listens on {settings.host}",
            "set CLOUDARC_ENVIRONMENT=production where others can reach it",
        )
    if settings.production and settings.database_url.startswith("sqlite:"):
        advise(
            "SQLite serves one process on one machine", "set CLOUDARC_DATABASE_URL to PostgreSQL to have more"
        )
    if settings.production and not settings.redis_url:
        advise(
            "calls are counted in a Valkey of this process alone",
            "set CLOUDARC_REDIS_URL where more processes than one serve",
        )
    if settings.production and not settings.trusted_proxies:
        advise(
            "no proxy is trusted, so behind one all callers without a credential share one limit",
            "set CLOUDARC_TRUSTED_PROXIES to the addresses of the proxies, if there are any",
        )
    for name in ("client", "admin", "anonymous"):
        if getattr(settings, f"rate_limit_{name}") == 0:
            advise(f"there is no limit for {name} calls", f"set CLOUDARC_RATE_LIMIT_{name.upper()} above 0")
    return found


def check_disk(settings: Settings) -> list[Finding]:
    try:
        path = prepare_data_dir(settings)
        free = shutil.disk_usage(path).free
    except SettingError as error:
        return [Finding("fault", "disk", str(error).rstrip("."))]
    except OSError as error:
        return [Finding("fault", "disk", f"{settings.data_dir} cannot be measured ({error.strerror})")]
    found = []
    mode = path.stat().st_mode & 0o077
    if mode:
        found.append(
            Finding("advice", "disk", f"others on this machine may enter {path}", f"chmod 700 {path}")
        )
    text = f"{free // MIB} MiB free below {path}"
    if free < LEAST_DISK:
        found.append(Finding("fault", "disk", text, "make room; writes fail when there is none"))
    elif free < LITTLE_DISK:
        found.append(Finding("advice", "disk", text, "make room, or `purge` what is old"))
    else:
        found.append(Finding("ok", "disk", text))
    return found


def check_port(settings: Settings) -> Finding:
    """A port is free, or it is ours."""
    try:
        family, kind, _, _, address = socket.getaddrinfo(
            settings.host, settings.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        with socket.socket(family, kind) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as error:
        if check_answers(settings.host, settings.port):
            return Finding("ok", "port", f"a server answers on {settings.host}:{settings.port}")
        return Finding(
            "fault",
            "port",
            f"{settings.host}:{settings.port} cannot be listened on ({error.strerror})",
            "end what uses it, or set CLOUDARC_PORT",
        )
    return Finding("ok", "port", f"{settings.host}:{settings.port} is free; no server runs there")


def check_answers(host: str, port: int) -> bool:
    """Whether what listens there is one of our servers."""
    place = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104  a place to connect to
    try:
        with socket.create_connection((place, port), timeout=2) as caller:
            caller.sendall(f"GET /healthz HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
            return b'"status"' in caller.makefile("rb").read(4096)
    except OSError:
        return False


def check_memory() -> list[Finding]:
    """Linux says how much may still be taken; other systems are not asked."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        available = next(int(each.split()[1]) // 1024 for each in lines if each.startswith("MemAvailable"))
    except (OSError, StopIteration, ValueError):
        return []
    text = f"{available} MiB available"
    if available < 256:
        return [
            Finding("advice", "memory", text, "a process takes about 120 MiB; have fewer, or more memory")
        ]
    return [Finding("ok", "memory", text)]
