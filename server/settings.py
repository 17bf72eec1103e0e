"""The settings: ``CLOUDARC_…`` in the environment, read and judged once, at the start."""

import ipaddress
import os
import re
import secrets
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote, urlsplit


class SettingError(Exception):
    """A setting is wrong; the message is one line that names it and says what to do."""


PREFIX = "CLOUDARC_"
CHOICES = {
    "environment": ("development", "production"),
    "webhook_private_targets": ("off", "on"),
    "webhook_worker": ("inline", "off"),
    "log_level": ("debug", "info", "warning", "error"),
    "log_format": ("text", "json"),
}
RANGES = {
    "port": (0, 65_535),
    "workers": (1, 64),
    # Each worker has a port of its own, this one or one above.
    "metrics_port": (0, 65_535 - 63),
    "rate_limit_client": (0, 1_000_000),
    "rate_limit_admin": (0, 1_000_000),
    "rate_limit_anonymous": (0, 1_000_000),
}
LISTS = ("trusted_proxies", "cors_origins")


@dataclass(frozen=True)
class Settings:
    """Each field is the setting ``CLOUDARC_`` + its name in capitals."""

    environment: Literal["development", "production"] = "development"
    data_dir: str = "var"
    database_url: str = ""
    redis_url: str = ""
    host: str = "127.0.0.1"
    port: int = 8080
    workers: int = 1
    metrics_port: int = 0
    rate_limit_client: int = 60
    rate_limit_admin: int = 60
    rate_limit_anonymous: int = 10
    secret_key: str = ""
    other_secret_key: str = ""
    trusted_proxies: tuple[str, ...] = ()
    cors_origins: tuple[str, ...] = ()
    webhook_private_targets: Literal["off", "on"] = "off"
    webhook_worker: Literal["inline", "off"] = "inline"
    log_level: str = "info"
    log_format: Literal["text", "json"] = "text"

    @property
    def metrics_ports(self) -> range:
        """The ports of which each worker takes one for its metrics; none where there are no metrics."""
        return range(self.metrics_port, self.metrics_port + (self.workers if self.metrics_port else 0))

    @property
    def production(self) -> bool:
        return self.environment == "production"


def read_settings(environment: Mapping[str, str] = os.environ) -> Settings:
    """The settings of this process. Raises SettingError."""
    known = {field.name for field in fields(Settings)}
    values: dict[str, object] = {}
    for name, text in environment.items():
        if not name.startswith(PREFIX):
            continue
        field = name.removeprefix(PREFIX).lower()
        if field not in known or not name.isupper():
            raise SettingError(
                f"{name} is not a setting; docs/reference.md lists them. Remove it or correct its name."
            )
        if text:
            values[field] = _value(name, field, text)
    settings = Settings(**values)  # type: ignore[arg-type]  # _value has judged each
    return _complete(settings)


def _value(name: str, field: str, text: str) -> object:
    if field in CHOICES and text not in CHOICES[field]:
        raise SettingError(f"{name} must be one of: {', '.join(CHOICES[field])}.")
    if field in RANGES:
        low, high = RANGES[field]
        if not (text.isascii() and text.isdigit() and len(text) < 10 and low <= int(text) <= high):
            raise SettingError(f"{name} must be a whole number from {low} to {high}.")
        return int(text)
    if field in LISTS:
        return tuple(each.strip() for each in text.split(",") if each.strip())
    return text


SQLITE_URL = re.compile(r"sqlite:///(?!:memory:)[^?]+")
ORIGIN = re.compile(r"https?://[A-Za-z0-9.:\[\]-]+|\*")


def _is_postgresql(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return (
            parts.scheme == "postgresql+asyncpg"
            and bool(parts.hostname)
            and parts.port != 0
            and not parts.query
        )
    except ValueError:
        return False


def _is_redis(url: str) -> bool:
    # Imported here, since it takes as long as all the rest of a command that needs no Redis.
    from redis.asyncio.connection import ConnectionPool, parse_url
    from redis.exceptions import RedisError

    try:
        place, parts = urlsplit(url), parse_url(url)
        # Options are only judged where a connection is made, which does not connect yet.
        pool = ConnectionPool.from_url(url)
        pool.connection_class(**pool.connection_kwargs)
    except (ValueError, TypeError, RedisError):
        return False
    return place.scheme != "unix" or ("path" in parts and not place.hostname)


def _complete(settings: Settings) -> Settings:
    for proxy in settings.trusted_proxies:
        if proxy == "*" and not settings.production:
            continue
        try:
            ipaddress.ip_network(proxy)
        except ValueError:
            raise SettingError(
                "CLOUDARC_TRUSTED_PROXIES must be networks such as 10.0.0.0/8, separated by commas."
            ) from None
    if settings.production and not settings.secret_key:
        raise SettingError(
            "CLOUDARC_SECRET_KEY is required in production; set it to 32 random characters or more."
        )
    for name in ("secret_key", "other_secret_key"):
        if getattr(settings, name) and len(getattr(settings, name)) < 32:
            raise SettingError(f"CLOUDARC_{name.upper()} must have at least 32 characters.")
    if settings.production and settings.webhook_private_targets == "on":
        raise SettingError("CLOUDARC_WEBHOOK_PRIVATE_TARGETS must be off in production.")
    if not settings.data_dir.isprintable():
        # A name that is no text cannot stand in the database's URL.
        raise SettingError("CLOUDARC_DATA_DIR must be a path in printable characters.")
    changes: dict[str, Any] = {}
    if not settings.database_url:
        path = Path(settings.data_dir).resolve() / "cloudarc.db"
        changes["database_url"] = f"sqlite:///{quote(str(path))}"
    elif not (SQLITE_URL.fullmatch(settings.database_url) or _is_postgresql(settings.database_url)):
        raise SettingError(
            "CLOUDARC_DATABASE_URL must be sqlite:///path/to/file.db or "
            "postgresql+asyncpg://user:password@host/name, without options."
        )
    if settings.redis_url and not _is_redis(settings.redis_url):
        raise SettingError(
            "CLOUDARC_REDIS_URL must be redis://host:port, rediss://host:port or unix:///path/to.sock, "
            "without options that redis-py does not know."
        )
    for origin in settings.cors_origins:
        if not ORIGIN.fullmatch(origin):
            raise SettingError(
                "CLOUDARC_CORS_ORIGINS must be origins such as https://panel.example.com, or *."
            )
    url = str(changes.get("database_url", settings.database_url))
    if settings.workers > 1 and url.startswith("sqlite:"):
        raise SettingError(
            "CLOUDARC_WORKERS must be 1 with SQLite, which one process writes; use PostgreSQL for more."
        )
    return replace(settings, **changes)


def prepare_data_dir(settings: Settings) -> Path:
    """Make the data directory, for this user alone, and check that it can be written. Raises SettingError."""
    path = Path(settings.data_dir)
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        probe = path / f".probe-{os.getpid()}-{secrets.token_hex(4)}"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise SettingError(
            f"The data directory {path} cannot be used ({error.strerror}); correct it or CLOUDARC_DATA_DIR."
        ) from error
    return path


KEY_FILE = "secret.key"


def secret_key(settings: Settings) -> str:
    """The key of what is kept encrypted: the setting, or in development one that the data directory keeps.

    The file appears complete or not at all, so processes that start together end with the same key.
    Raises SettingError.
    """
    if settings.secret_key:
        return settings.secret_key
    path = prepare_data_dir(settings) / KEY_FILE
    try:
        if not path.exists():
            _make_secret_key(path)
        key = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text"
        raise SettingError(
            f"The key file {path} cannot be used ({reason}); correct it or set CLOUDARC_SECRET_KEY."
        ) from error
    if len(key) < 32:
        raise SettingError(
            f"The key file {path} must have at least 32 characters; restore it or set CLOUDARC_SECRET_KEY."
        )
    return key


def _make_secret_key(path: Path) -> None:
    draft = path.with_name(f".{path.name}-{os.getpid()}-{secrets.token_hex(4)}")
    try:
        with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(secrets.token_urlsafe(32) + "\n")
            file.flush()
            os.fsync(file.fileno())
        # Unlike a rename, a link never replaces the key of whoever was first.
        with suppress(FileExistsError):
            os.link(draft, path)
    finally:
        draft.unlink(missing_ok=True)
