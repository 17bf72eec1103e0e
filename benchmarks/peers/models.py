"""The shapes of the contract as pydantic models, for the peers that are FastAPI."""

from datetime import date, datetime
from decimal import Decimal
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

Id = Annotated[int, Field(ge=1, le=2**53 - 1)]
Amount = Annotated[Decimal, Field(ge=0, max_digits=12, decimal_places=2)]


class Closed(BaseModel):
    """An object that has the members named here and no others; rows of the ORM will do as well."""

    model_config = ConfigDict(extra="forbid", from_attributes=True)


class Service(Closed):
    id: Id
    client_id: Id
    product_id: Id
    product_name: Annotated[str, Field(min_length=1, max_length=100)]
    domain: Annotated[str, Field(max_length=253)]
    username: Annotated[str, Field(max_length=64)]
    status: Literal["active", "suspended", "terminated"]
    billing_cycle: Literal["monthly", "quarterly", "annually"]
    next_due_date: date
    server_id: Id | None
    suspend_reason: Annotated[str, Field(max_length=500)]
    created_at: datetime


class Meta(Closed):
    page: Annotated[int, Field(ge=1)]
    limit: Annotated[int, Field(ge=1, le=100)]
    total: Annotated[int, Field(ge=0)]
    pages: Annotated[int, Field(ge=0)]


class ServiceResponse(Closed):
    status: Literal["success"] = "success"
    data: Service


class ServiceList(Closed):
    status: Literal["success"] = "success"
    data: list[Service]
    meta: Meta


class TicketInput(Closed):
    subject: Annotated[str, Field(min_length=1, max_length=255)]
    message: Annotated[str, Field(min_length=1, max_length=20_000)]
    department_id: Id
    priority_id: Literal[1, 2, 3] = 2


class TicketCreated(Closed):
    success: Literal[True] = True
    ticket_id: Id
    ticket_number: Annotated[str, Field(pattern="^TKT-[0-9A-F]{8}$")]


class LineInput(Closed):
    description: Annotated[str, Field(min_length=1, max_length=500)]
    amount: Amount


class InvoiceInput(Closed):
    client_id: Id
    due_date: date
    items: Annotated[list[LineInput], Field(min_length=1, max_length=100)]


class Line(Closed):
    description: Annotated[str, Field(max_length=500)]
    amount: Decimal


class Invoice(Closed):
    id: Id
    invoice_number: Annotated[str, Field(pattern="^INV-[0-9]{6,}$")]
    client_id: Id
    status: Literal["unpaid", "overdue", "paid"]
    total: Decimal
    currency: Annotated[str, Field(pattern="^[A-Z]{3}$")]
    due_date: date
    paid_at: datetime | None
    created_at: datetime
    items: list[Line]


class InvoiceResponse(Closed):
    status: Literal["success"] = "success"
    data: Invoice
