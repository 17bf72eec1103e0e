"""Starlette by hand, which validates nothing, on CloudArc's own data layer."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import orjson
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp

from benchmarks.peers.ground import Around, Ground
from handlers import services


def answered(content: Any, status: int, headers: dict[str, str] | None = None) -> Response:
    return Response(orjson.dumps(content), status, headers, "application/json")


def create() -> ASGIApp:
    """The app."""
    ground = Ground()
    database = ground.database

    async def status(request: Request) -> Response:
        return answered({}, 200)

    async def list_services(request: Request) -> Response:
        query: Any = {name: int(text) for name, text in request.query_params.items()}
        async with database.reading() as db:
            return answered(*await services.list_services(request["caller"], db, **query))

    async def get_service(request: Request) -> Response:
        async with database.reading() as db:
            return answered(*await services.get_service(request.path_params["id"], request["caller"], db))

    async def create_ticket(request: Request) -> Response:
        body = orjson.loads(await request.body())
        async with database.transaction() as db:
            return answered(*await ground.open_ticket(db, request["caller"], body))

    async def create_invoice(request: Request) -> Response:
        body = orjson.loads(await request.body())
        async with database.transaction() as db:
            return answered(*await ground.make_invoice(db, request["caller"], body))

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        await ground.open()
        yield
        await ground.close()

    routes = [
        Route("/api/v1/status", status),
        Route("/api/v1/services", list_services),
        Route("/api/v1/services/{id:int}", get_service),
        Route("/api/v1/tickets", create_ticket, methods=["POST"]),
        Route("/api/v1/invoices", create_invoice, methods=["POST"]),
    ]
    return Around(Starlette(routes=routes, lifespan=lifespan), ground)
