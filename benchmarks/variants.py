"""CloudArc and its peers: how each is started, and what it does."""

import json
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.processes import PYTHON, ROOT, Server, serving
from benchmarks.store import Backend, Store
from openapi import contract, loading, projection
from persistence.redis_pipeline import SCRIPT
from tests.support.postgres import free_port

OURS = "CloudArc"


@dataclass(frozen=True)
class Variant:
    """A peer: the module of ``benchmarks.peers`` that makes its app, and what it does for a request."""

    name: str
    module: str
    does: str
    backends: tuple[Backend, ...] = ("sqlite", "postgresql")


CLOUDARC = Variant(
    OURS,
    "",
    "As shipped: `python -m server serve`, every feature on, the webhook worker inline, requests and answers "
    "validated by the contract.",
)
ORM = Variant(
    "FastAPI, ORM",
    "fastapi_orm",
    "pydantic in and out; SQLAlchemy's async ORM (aiosqlite, asyncpg), `joinedload`; redis-py, a fixed "
    "window "
    "instead of the exact log; the row of an event, without its validation, its deliveries and its order; "
    "no activity. "
    "Writers queue in the process on SQLite.",
)
OWN = Variant(
    "FastAPI, our layer",
    "fastapi_own",
    "pydantic in and out (`response_model`); our data layer, counters, handlers, events and activity; "
    "pure ASGI around.",
)
LITESTAR = Variant(
    "Litestar + msgspec",
    "litestar_own",
    "msgspec in, answers not validated; our data layer, counters, handlers, events and activity; "
    "pure ASGI around.",
)
STARLETTE = Variant(
    "Starlette",
    "starlette_own",
    "Validates nothing; orjson; our data layer, counters, handlers, events and activity; pure ASGI around.",
)
RAW = Variant(
    "raw ASGI",
    "raw",
    "Validates nothing, routes by comparing paths; orjson; our data layer, counters, handlers and events.",
)
STOCK = Variant(
    "stock Connexion",
    "stock",
    "`AsyncApp`, `strict_validation`, `validate_responses`; our contract, data layer, counters, "
    "handlers, events "
    "and edge; no activity.",
)
FASTIFY = Variant(
    "Fastify",
    "fastify",
    "fastify-openapi-glue over our bundled contract (the projection for each audience), requests "
    "validated by "
    "ajv, answers serialised by their schemas; better-sqlite3 or pg; ioredis with our counters' script; "
    "the row "
    "of an event, without its validation, its deliveries and its order; no activity.",
)
PEERS = (ORM, OWN, LITESTAR, STARLETTE, RAW, STOCK, FASTIFY)

LIMITS = {f"CLOUDARC_RATE_LIMIT_{kind}": "1000000" for kind in ("CLIENT", "ADMIN", "ANONYMOUS")}

FASTIFY_FOLDER = ROOT / "build" / "fastify"


def left_out(variant: Variant, backend: Backend) -> str:
    """Why a variant does not run here; empty where it does."""
    if variant is not FASTIFY:
        return ""
    if shutil.which("node") is None:
        return "node is not installed"
    if not (FASTIFY_FOLDER / "node_modules" / "fastify").is_dir():
        return "its packages are not installed; remove build/fastify and run make bench again"
    driver = FASTIFY_FOLDER / "node_modules" / "better-sqlite3" / "build" / "Release" / "better_sqlite3.node"
    if backend == "sqlite" and not driver.is_file():
        return "better-sqlite3 could not be compiled"
    return ""


def command(variant: Variant, port: int, workers: int = 1) -> Sequence[str]:
    """What starts a variant."""
    if variant is CLOUDARC:
        return [PYTHON, "-m", "server", "serve", "--port", str(port), "--workers", str(workers)]
    if variant is FASTIFY:
        return ["node", str(FASTIFY_FOLDER / "server.mjs"), str(port)]
    return [PYTHON, "-m", "benchmarks.peers", variant.module, str(port)]


def write_specs(folder: Path) -> None:
    """The contract as Fastify reads it: of each audience's projection, the operations that are measured."""
    measured = {
        "admin": {("/services", "get"), ("/services/{id}", "get"), ("/invoices", "post")},
        "client": {("/tickets", "post")},
    }
    for audience in contract.AUDIENCES:
        document = projection.project(loading.bundle(), audience)
        paths = {}
        for path, item in document["paths"].items():
            # Beside the operations an item has the parameters that they share.
            kept = {key: each for key, each in item.items() if key == "parameters"}
            kept |= {key: each for key, each in item.items() if (path, key) in measured[audience]}
            if kept.keys() - {"parameters"}:
                paths[path] = kept
        (folder / f"{audience}.json").write_text(json.dumps({**document, "paths": paths}))
    (folder / "count.lua").write_text(SCRIPT)


@contextmanager
def started(variant: Variant, url: str, redis: str, folder: Path, workers: int = 1) -> Iterator[Server]:
    """A variant that runs over a database and a Redis."""
    port = free_port()
    folder.mkdir(parents=True, exist_ok=True)
    if variant is CLOUDARC:
        environment = {
            **LIMITS,
            "CLOUDARC_DATABASE_URL": url,
            "CLOUDARC_REDIS_URL": redis,
            "CLOUDARC_DATA_DIR": str(folder),
        }
    else:
        environment = {"DATABASE_URL": url, "REDIS_URL": redis, "SPECS": str(folder)}
        if variant is FASTIFY:
            write_specs(folder)
    line = command(variant, port, workers)
    with serving(variant.name, line, environment, port, folder / "log.txt") as server:
        yield server


@contextmanager
def started_on_copy(variant: Variant, store: Store, base: str, workers: int = 1) -> Iterator[Server]:
    """A variant over a copy of a database of its own, and a Valkey of its own."""
    folder = store.folder / f"{variant.module or 'ours'}-{store.made}"
    with started(variant, store.copy(base), store.valkey(), folder, workers) as server:
        yield server
