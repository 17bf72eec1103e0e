"""The server as it is shipped, on a real port, in a thread of the tests' process."""

import asyncio
import secrets
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any

import asyncpg
import uvicorn
from sqlalchemy import func, select
from starlette.types import ASGIApp

from openapi import contract, loading
from panel.app import Panel
from persistence import demo, migrations
from persistence.counters import Counters
from persistence.database import Connection, Database
from persistence.engines import connect
from persistence.sealing import Box
from persistence.settings import NO_LIMITS, RuntimeSettings
from persistence.types import Base
from server import app
from server.http.protocol import Protocol
from server.observe.health import Health, Probes
from server.panel_mount import Operations, PanelMount, SignInLimit
from server.request.rate_limit import RateLimitKeys

BOX = Box("a secret key that only tests know, of any length")
CLIENT = demo.CLIENT_TOKEN
OTHER = demo.OTHER_CLIENT_TOKEN
ADMIN = demo.ADMIN_KEY


class Clock:
    """The server's clock: the real one, until a test sets it."""

    def __init__(self) -> None:
        self.fixed: datetime | None = None

    def __call__(self) -> datetime:
        return self.fixed or app.now()


def mount_panel(
    database: Database, api: app.Assembly, clock: Clock, dead: Collection[str] = ()
) -> PanelMount:
    """The API and its panel, as the server mounts them; ``dead`` are disabled password hashes."""
    edge, pipeline = api
    panel = Panel(
        pipeline.document,
        Operations(pipeline),
        database,
        clock,
        lambda scope: edge.keys.address(scope),
        SignInLimit(edge.counters),
        disabled_password_hashes=dead,
        box=BOX,
    )
    return PanelMount(edge, panel, edge.observers)


class Running:
    """A server that runs: where, on which database, by which clock."""

    def __init__(
        self, database: Database, api: app.Assembly, clock: Clock, served: ASGIApp | None = None
    ) -> None:
        self.database = database
        self.api = api
        self.edge = api.edge
        self.clock = clock
        self.health = Health(database, self.edge.counters)
        self.served = served or Probes(mount_panel(database, api, clock), self.health)
        self.port = 0
        self.loop: asyncio.AbstractEventLoop | None = None

    @property
    def base(self) -> str:
        """Where the server is, without the API's base path."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/api/v1"

    def inside(self, work: Callable[[Connection], Any], *, write: bool = False) -> Any:
        """The result of ``await work(db)``, in the server's own loop."""

        async def run() -> Any:
            async with self.database.transaction() if write else self.database.reading() as db:
                return await work(db)

        assert self.loop is not None
        return asyncio.run_coroutine_threadsafe(run(), self.loop).result(30)

    def count(self, table: type[Base], **where: Any) -> int:
        """How many rows a table has, of those whose columns have the given values."""
        query = select(func.count().label("total")).select_from(table)
        for name, value in where.items():
            query = query.where(table.__table__.c[name] == value)
        return int(self.inside(lambda db: db.fetch_one(query)).total)


@contextmanager
def serving(running: Running) -> Iterator[Running]:
    """Serve on a free port for as long as the context lasts."""
    config = uvicorn.Config(
        running.served,
        port=0,
        http=Protocol,
        ws="none",
        lifespan="on",
        access_log=False,
        log_config=None,
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=2,
    )
    server = uvicorn.Server(config)

    async def run() -> None:
        running.loop = asyncio.get_running_loop()
        await server.serve()

    thread = threading.Thread(target=_run, args=(run, config), daemon=True)
    thread.start()
    started = time.monotonic()
    while not server.started:
        if not thread.is_alive() or time.monotonic() - started > 30:
            raise RuntimeError("the server did not start")
        time.sleep(0.005)
    running.port = server.servers[0].sockets[0].getsockname()[1]
    try:
        yield running
    finally:
        server.should_exit = True
        thread.join(20)


def _run(main: Callable[[], Any], config: uvicorn.Config) -> None:
    with asyncio.Runner(loop_factory=config.get_loop_factory()) as runner:
        runner.run(main())


def prepared(url: str, **options: Any) -> Running:
    """A server over a migrated and seeded database; ``options`` are those of ``assembled``."""
    if url.startswith("sqlite:///"):
        copy_demo(Path(url.removeprefix("sqlite:///")))
    else:
        _copy_template(url)
    return assembled(url, **options)


@cache
def _template(server_url: str) -> str:
    """The name of a database of a PostgreSQL server with the demo data, to copy from."""
    name = f"demo_{secrets.token_hex(6)}"
    asyncio.run(_in_postgres(f"{server_url}/postgres", f"CREATE DATABASE {name}"))
    _fill(f"{server_url}/{name}")
    return name


def _copy_template(url: str) -> None:
    """Replace an empty database by a copy of the demo data, which takes half as long as filling it."""
    server_url, _, name = url.rpartition("/")
    template = _template(server_url)
    statements = (f"DROP DATABASE {name}", f"CREATE DATABASE {name} TEMPLATE {template}")
    asyncio.run(_in_postgres(f"{server_url}/postgres", *statements))


async def _in_postgres(url: str, *statements: str) -> None:
    connection = await asyncpg.connect(url.replace("+asyncpg", ""))
    for statement in statements:
        await connection.execute(statement)
    await connection.close()


def _fill(url: str) -> None:
    """Migrate and seed an empty database."""
    migrations.upgrade(url)

    async def fill() -> None:
        database = connect(url)
        await database.open()
        await demo.seed(database)
        await database.close()

    asyncio.run(fill())


_folder = tempfile.TemporaryDirectory(prefix="cloudarc-demo-")


@cache
def _demo() -> Path:
    """A file with the demo data, made once for a process: hundreds of tests begin with one."""
    path = Path(_folder.name) / "demo.db"
    _fill(f"sqlite:///{path}")
    return path


def copy_demo(path: Path) -> None:
    """Put a database with the demo data where there is none."""
    assert not path.exists()
    shutil.copyfile(_demo(), path)


def assembled(
    url: str,
    *,
    document: contract.Document | None = None,
    defaults: RuntimeSettings = NO_LIMITS,
    counters: Counters | None = None,
    trusted: tuple[str, ...] = (),
    private_targets: bool = True,
) -> Running:
    """A server over a database as it is."""
    clock = Clock()
    database = connect(url)
    api = app.assemble(
        database,
        document or loading.bundle(),
        clock,
        defaults=defaults,
        counters=counters,
        keys=RateLimitKeys(trusted),
        box=BOX,
        private_targets=private_targets,
    )
    return Running(database, api, clock)
