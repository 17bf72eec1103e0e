"""One database for all: made once for each backend, copied for each server. And a Valkey for each."""

import asyncio
import secrets
import shutil
import signal
import sqlite3
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import asyncpg

from persistence import api_keys, credentials, demo, migrations, tokens
from persistence.engines import connect
from server.app import now
from tests.support.postgres import Postgres, restartable_postgres
from tests.support.valkey import running_valkey

Backend = Literal["sqlite", "postgresql"]
BACKENDS: tuple[Backend, ...] = ("sqlite", "postgresql")
TITLES = {"sqlite": "SQLite", "postgresql": "PostgreSQL"}

CLIENT = 42


@dataclass
class Store:
    """Where databases are made, and the credentials that open all of them."""

    folder: Path
    stack: ExitStack
    postgres: Postgres
    admin: str = field(default_factory=lambda: credentials.mint("arc_", secrets.choice))
    client: str = field(default_factory=lambda: credentials.mint("cbt_", secrets.choice))
    made: int = 0

    def secret(self, kind: Literal["admin", "client"]) -> str:
        return self.admin if kind == "admin" else self.client

    def base(self, backend: Backend) -> str:
        """The URL of a new database with the demo data and our own two credentials."""
        url = self.empty(backend)
        migrations.upgrade(url)

        async def fill() -> None:
            database = connect(url)
            await database.open()
            await demo.seed(database)
            async with database.transaction() as db:
                await api_keys.create(db, "benchmarks", ["*"], self.admin, now())
                await tokens.create(db, CLIENT, self.client, now())
            await database.close()

        asyncio.run(fill())
        return url

    def empty(self, backend: Backend) -> str:
        self.made += 1
        if backend == "sqlite":
            return f"sqlite:///{self.folder / f'{self.made}.db'}"
        self.sql(f"CREATE DATABASE bench_{self.made}")
        return self.url(f"bench_{self.made}")

    def url(self, name: str) -> str:
        return self.postgres.url.rpartition("/")[0] + f"/{name}"

    def copy(self, url: str) -> str:
        """A copy of a database that nobody uses."""
        self.made += 1
        if url.startswith("sqlite"):
            target = self.folder / f"{self.made}.db"
            shutil.copyfile(url.removeprefix("sqlite:///"), target)
            return f"sqlite:///{target}"
        self.sql(f"CREATE DATABASE bench_{self.made} TEMPLATE {url.rpartition('/')[2]}")
        return self.url(f"bench_{self.made}")

    def sql(self, *statements: str, url: str = "") -> Any:
        """Run statements, each by itself; the value of the last."""
        if url.startswith("sqlite"):
            with sqlite3.connect(url.removeprefix("sqlite:///"), isolation_level=None) as raw:
                rows = [raw.execute(each).fetchone() for each in statements]
            raw.close()
            return rows[-1][0] if rows[-1] else None

        async def run() -> Any:
            connection = await asyncpg.connect((url or self.postgres.url).replace("+asyncpg", ""))
            try:
                for each in statements[:-1]:
                    await connection.execute(each, timeout=600)
                return await connection.fetchval(statements[-1], timeout=600)
            finally:
                await connection.close()

        return asyncio.run(run())

    def valkey(self) -> str:
        """The URL of a new Valkey, so that nobody's log makes another's longer."""
        return self.stack.enter_context(running_valkey()).url


@contextmanager
def store(folder: Path) -> Iterator[Store]:
    """A place for databases in ``folder``, and a PostgreSQL with connections for all servers."""
    with ExitStack() as stack:
        postgres = stack.enter_context(restartable_postgres())
        made = Store(folder, stack, postgres)
        made.sql("ALTER SYSTEM SET max_connections = 400")
        postgres.stop(signal.SIGINT)
        postgres.start()
        yield made
