"""Stock Connexion over our contract, handlers and edge, validating both ways: the tests' oracle, served."""

from typing import Any

from starlette.types import ASGIApp, Receive, Scope, Send

from benchmarks.peers import options
from benchmarks.peers.ground import LIMIT
from benchmarks.peers.raw import lifespan
from openapi import loading
from persistence.counters import Counters
from persistence.database import Database
from persistence.engines import connect
from server.app import assemble, now
from server.observe import logs
from tests.support.stock_connexion import Oracle


def create() -> ASGIApp:
    """The app."""
    logs.set_up(options.settings())
    return stock(connect(options.DATABASE), counters=Counters(options.REDIS), limit=lambda name: LIMIT)


def stock(database: Database, **edge: Any) -> ASGIApp:
    """The stock stacks behind our edge, which takes ``edge``."""
    document = loading.bundle()
    oracle = Oracle(database, document, assemble(database, document).edge.routes, now, **edge)
    counters = oracle.edge.counters

    async def opening() -> None:
        await database.open()
        await counters.open()

    async def closing() -> None:
        await counters.close()
        await database.close()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await lifespan(receive, send, opening, closing)
        else:
            await oracle.edge(scope, receive, send)

    return app
