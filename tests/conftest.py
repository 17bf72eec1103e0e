"""What all tests share: a server over each database, and a checked client for each kind of caller."""

import functools
import logging
import os
import secrets
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import httpx._config
import httpx._transports.default
import pytest

from tests.support.contract_client import Api
from tests.support.live_server import ADMIN, CLIENT, OTHER, Running, prepared, serving
from tests.support.postgres import running_postgres
from tests.support.secret_leak_guard import listener
from tests.support.valkey import running_valkey

# A server that has just started on a busy machine may need more than the five seconds of httpx.
httpx._config.DEFAULT_TIMEOUT_CONFIG.read = httpx._config.DEFAULT_TIMEOUT_CONFIG.connect = 60
# Each client would read all certificates that are trusted, which takes as long as thirty calls.
_cached = functools.cache(httpx._config.create_ssl_context)
httpx._transports.default.create_ssl_context = _cached  # type: ignore[attr-defined]  # imported there

# What waits for processes more than it works, the longest first.
WAITING = [
    "test_graceful_stop",
    "test_embedded",
    "test_fuzz",
    "test_command_line",
    "test_environment_settings",
    "test_faults_soak",
    "test_soak",
    "test_mutants",
    "test_connections",
    "test_limits",
]

# These files need many seconds of computing, or start processes too.
HEAVY = [
    *("test_backup", "test_caches", "test_counters", "test_credential_cache", "test_database"),
    *("test_delivery", "test_hostile", "test_lists", "test_oracle", "test_owasp", "test_sending"),
    *("test_benchmarks", "test_concurrency", "test_identity_migrations", "test_judges", "test_sessions"),
    *("test_settings", "test_stall", "test_walks"),
]

SUITES_OF_PROCESSES = ("e2e", "operations", "raw")

# ``make check`` runs these.
CHECKED = ["test_contract", "test_growth", "test_language", "test_requirements"]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--fast", action="store_true", help="a selection: one database, no processes, no fuzz")


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave out what takes long, if the run is to be fast. None leaves the decision to others."""
    stem = collection_path.stem
    slow = stem in (*WAITING, *HEAVY, *CHECKED, *SUITES_OF_PROCESSES) or "fuzz" in stem
    return True if slow and config.getoption("--fast") else None


def _is_on_postgresql(item: pytest.Item) -> bool:
    return hasattr(item, "callspec") and item.callspec.params.get("backend") == "postgresql"


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Put a file that waits before every two that work, so that they are done at the same time."""
    if config.getoption("--fast"):
        config.hook.pytest_deselected(items=[each for each in items if _is_on_postgresql(each)])
        items[:] = [each for each in items if not _is_on_postgresql(each)]
    sizes = Counter(item.path for item in items)
    working = [path for path, _ in sizes.most_common() if path.stem not in WAITING]
    places = {path: place + place // 2 + 1 for place, path in enumerate(working)}
    for path in sizes:
        if path.stem in WAITING:
            places[path] = 3 * WAITING.index(path.stem)
    items.sort(key=lambda item: places[item.path])


@pytest.fixture(scope="session", autouse=True)
def no_secret_is_logged() -> Iterator[None]:
    """Whatever the suite does: an error of the last test where any server logged a secret meanwhile."""
    root, logger = logging.getLogger(), logging.getLogger("cloudarc")
    root.addHandler(listener)
    logger.setLevel(logging.INFO)
    yield
    root.removeHandler(listener)
    assert listener.found == []


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """The URL of a PostgreSQL server: TEST_DATABASE_URL, or one that is started here."""
    given = os.environ.get("TEST_DATABASE_URL")
    if given:
        yield given
        return
    with running_postgres() as url:
        yield url


@pytest.fixture(scope="session")
def valkey() -> Iterator[str]:
    """The URL of a Valkey: TEST_REDIS_URL, or one that is started here. Tests count subjects of their own."""
    given = os.environ.get("TEST_REDIS_URL")
    if given:
        yield given
        return
    with running_valkey() as started:
        yield started.url


def new_database(backend: str, folder: Path, postgres_url: str | None) -> str:
    """The URL of an empty database of a kind."""
    if backend == "sqlite":
        return f"sqlite:///{folder / f'{secrets.token_hex(4)}.db'}"
    import asyncio

    import asyncpg

    assert postgres_url is not None
    name = f"test_{secrets.token_hex(6)}"

    async def create() -> None:
        connection = await asyncpg.connect(postgres_url.replace("+asyncpg", ""))
        await connection.execute(f"CREATE DATABASE {name}")
        await connection.close()

    asyncio.run(create())
    return postgres_url.rpartition("/")[0] + f"/{name}"


@pytest.fixture(scope="session", params=["sqlite", "postgresql"])
def backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def database_url(
    backend: str, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> str:
    """A database of the demo server; the schema comes with the server."""
    postgres_url = request.getfixturevalue("postgres") if backend == "postgresql" else None
    return new_database(backend, tmp_path_factory.mktemp("data"), postgres_url)


@pytest.fixture(scope="module")
def server(database_url: str) -> Iterator[Running]:
    """The demo server. Each file of tests has its own, so that none depends on what others left."""
    with serving(prepared(database_url)) as running:
        yield running


@pytest.fixture(autouse=True)
def real_clock(request: pytest.FixtureRequest) -> Iterator[None]:
    """Every test starts with the real clock."""
    yield
    if "server" in request.fixturenames:
        request.getfixturevalue("server").clock.fixed = None


def _api(running: Running, secret: str | None) -> Iterator[Api]:
    api = Api(running.url, secret)
    yield api
    api.close()


@pytest.fixture
def client(server: Running) -> Iterator[Api]:
    """Client 42."""
    yield from _api(server, CLIENT)


@pytest.fixture
def other(server: Running) -> Iterator[Api]:
    """Client 43."""
    yield from _api(server, OTHER)


@pytest.fixture
def admin(server: Running) -> Iterator[Api]:
    """The operator, with every scope."""
    yield from _api(server, ADMIN)


@pytest.fixture
def nobody(server: Running) -> Iterator[Api]:
    """A caller without a credential."""
    yield from _api(server, None)
