"""Litestar with msgspec, which validates requests and not answers, on CloudArc's own data layer."""

from datetime import date
from typing import Annotated, Any

from litestar import Litestar, Request, Response, get, post
from litestar.params import Parameter
from msgspec import Meta, Struct, to_builtins
from starlette.types import ASGIApp

from benchmarks.peers.ground import Around, Ground
from handlers import services

Id = Annotated[int, Meta(ge=1, le=2**53 - 1)]


class TicketInput(Struct, forbid_unknown_fields=True):
    subject: Annotated[str, Meta(min_length=1, max_length=255)]
    message: Annotated[str, Meta(min_length=1, max_length=20_000)]
    department_id: Id
    priority_id: Annotated[int, Meta(ge=1, le=3)] = 2


class LineInput(Struct, forbid_unknown_fields=True):
    description: Annotated[str, Meta(min_length=1, max_length=500)]
    amount: Annotated[float, Meta(ge=0, le=99_999_999.99)]


class InvoiceInput(Struct, forbid_unknown_fields=True):
    client_id: Id
    due_date: date
    items: Annotated[list[LineInput], Meta(min_length=1, max_length=100)]


def create() -> ASGIApp:
    """The app."""
    ground = Ground()
    database = ground.database

    def answered(content: Any, status: int, headers: dict[str, str] | None = None) -> Response[Any]:
        return Response(content, status_code=status, headers=headers)

    @get("/api/v1/status")
    async def status() -> dict[str, str]:
        return {}

    @get("/api/v1/services")
    async def list_services(
        request: Request[Any, Any, Any],
        page: Annotated[int, Parameter(ge=1)] = 1,
        limit: Annotated[int, Parameter(ge=1, le=100)] = 20,
        after: int | None = None,
        client_id: int | None = None,
        status: str | None = None,
        product_id: int | None = None,
    ) -> Response[Any]:
        where: Any = {"client_id": client_id, "status": status, "product_id": product_id}
        async with database.reading() as db:
            return answered(
                *await services.list_services(request.scope["caller"], db, page, limit, after, **where)
            )

    @get("/api/v1/services/{id:int}")
    async def get_service(id: int, request: Request[Any, Any, Any]) -> Response[Any]:
        async with database.reading() as db:
            return answered(*await services.get_service(id, request.scope["caller"], db))

    @post("/api/v1/tickets")
    async def create_ticket(data: TicketInput, request: Request[Any, Any, Any]) -> Response[Any]:
        async with database.transaction() as db:
            return answered(*await ground.open_ticket(db, request.scope["caller"], to_builtins(data)))

    @post("/api/v1/invoices")
    async def create_invoice(data: InvoiceInput, request: Request[Any, Any, Any]) -> Response[Any]:
        async with database.transaction() as db:
            return answered(*await ground.make_invoice(db, request.scope["caller"], to_builtins(data)))

    app = Litestar(
        [status, list_services, get_service, create_ticket, create_invoice],
        on_startup=[ground.open],
        on_shutdown=[ground.close],
        openapi_config=None,
        logging_config=None,
    )
    return Around(app, ground)
