"""FastAPI with pydantic models in and out, on CloudArc's own data layer."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any

from fastapi import FastAPI, Query, Request, Response
from starlette.types import ASGIApp

from benchmarks.peers import models
from benchmarks.peers.ground import Around, Ground
from handlers import services

Number = Annotated[int, Query(ge=1)]
Limit = Annotated[int, Query(ge=1, le=100)]


def create() -> ASGIApp:
    """The app."""
    ground = Ground()
    database = ground.database

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        await ground.open()
        yield
        await ground.close()

    app = FastAPI(lifespan=lifespan)

    def body_of(response: Response, answer: Any) -> Any:
        content, _, *rest = answer
        response.headers.update(*rest)
        return content

    @app.get("/api/v1/status")
    async def status() -> dict[str, str]:
        return {}

    @app.get("/api/v1/services", response_model=models.ServiceList)
    async def list_services(
        request: Request,
        response: Response,
        page: Number = 1,
        limit: Limit = 20,
        after: Number | None = None,
        client_id: Number | None = None,
        status: str | None = None,
        product_id: Number | None = None,
    ) -> Any:
        where: Any = {"client_id": client_id, "status": status, "product_id": product_id}
        async with database.reading() as db:
            found = await services.list_services(request["caller"], db, page, limit, after, **where)
        return body_of(response, found)

    @app.get("/api/v1/services/{id}", response_model=models.ServiceResponse)
    async def get_service(id: int, request: Request, response: Response) -> Any:
        async with database.reading() as db:
            return body_of(response, await services.get_service(id, request["caller"], db))

    @app.post("/api/v1/tickets", response_model=models.TicketCreated, status_code=201)
    async def create_ticket(body: models.TicketInput, request: Request, response: Response) -> Any:
        async with database.transaction() as db:
            made = await ground.open_ticket(db, request["caller"], body.model_dump())
        return body_of(response, made)

    @app.post("/api/v1/invoices", response_model=models.InvoiceResponse, status_code=201)
    async def create_invoice(body: models.InvoiceInput, request: Request, response: Response) -> Any:
        given = body.model_dump() | {"due_date": body.due_date.isoformat()}
        async with database.transaction() as db:
            made = await ground.make_invoice(db, request["caller"], given)
        return body_of(response, made)

    return Around(app, ground)
