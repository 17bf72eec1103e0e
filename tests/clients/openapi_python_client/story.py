"""The story of every client, with the clients that openapi-python-client makes."""

import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date, datetime, timedelta, timezone
from http import HTTPStatus
from pathlib import Path
from typing import Any

import cloudarc_admin as admin
import cloudarc_client as client
from cloudarc_admin import models as shapes
from cloudarc_admin.api.departments import list_departments
from cloudarc_admin.api.domains import create_domain
from cloudarc_admin.api.events import list_events
from cloudarc_admin.api.invoices import create_invoice, get_invoice, list_invoices
from cloudarc_admin.api.webhooks import list_webhooks, recover_webhook
from cloudarc_client.api.profile import get_profile
from cloudarc_client.api.services import list_services
from cloudarc_client.api.tickets import create_ticket, get_ticket
from cloudarc_client.models import (
    ClientError,
    ClientServiceList,
    ClientTicket,
    ClientTicketInput,
    ClientValidationError,
    Profile,
    TicketCreated,
)

URL, LIMITED, TOKEN, KEY = (os.environ[f"CLOUDARC_{name}"] for name in ("URL", "LIMITED", "TOKEN", "KEY"))
NOWHERE = 9007199254740991


@contextmanager
def step(name: str) -> Iterator[None]:
    start = time.perf_counter()
    yield
    print(name, round((time.perf_counter() - start) * 1000), flush=True)


class NoMessage(ClientTicketInput):
    """A ticket that loses what is required, which the model itself does not let happen."""

    def to_dict(self) -> dict[str, Any]:
        return {name: value for name, value in super().to_dict().items() if name != "message"}


class NoClient(shapes.InvoiceInput):
    def to_dict(self) -> dict[str, Any]:
        return {name: value for name, value in super().to_dict().items() if name != "client_id"}


def main() -> None:
    # The first call:
    api = client.AuthenticatedClient(base_url=URL, token=TOKEN)
    services = list_services.sync(client=api)
    assert isinstance(services, ClientServiceList)
    for service in services.data:
        print("#", service.product_name, service.status.value)
    # Until here.
    operator = admin.AuthenticatedClient(base_url=URL, token=KEY)

    with step("authorise"):
        profile = get_profile.sync(client=api)
        assert isinstance(profile, Profile) and profile.id == 42
        stranger = client.AuthenticatedClient(base_url=URL, token="nobody")
        unknown = list_services.sync_detailed(client=stranger)
        assert unknown.status_code is HTTPStatus.UNAUTHORIZED and not isinstance(
            unknown.parsed, ClientServiceList
        )
    with step("list"):
        assert [row.product_name for row in services.data] == ["Business Hosting"]
    with step("page"):
        first = list_invoices.sync(client=operator, limit=2)
        assert isinstance(first, shapes.AdminInvoiceList)
        second = list_invoices.sync(client=operator, limit=2, after=str(first.data[-1].id))
        assert isinstance(second, shapes.AdminInvoiceList)
        assert len(first.data) == len(second.data) == 2 and first.meta.total > 4
        assert first.data[-1].id > second.data[0].id
    with step("create"):
        body = ClientTicketInput(subject="Grüße", message="Hello", department_id=1)
        opened = create_ticket.sync(client=api, body=body)
        assert isinstance(opened, TicketCreated)
        ticket = get_ticket.sync(opened.ticket_id, client=api)
        assert isinstance(ticket, ClientTicket) and ticket.subject == "Grüße"
        lines = [shapes.InvoiceLineInput(description="Hosting", amount=amount) for amount in (19.99, 4.35)]
        wanted = shapes.InvoiceInput(client_id=56, due_date=date(2035, 1, 31), items=lines)
        made = create_invoice.sync(client=operator, body=wanted)
        assert isinstance(made, shapes.AdminInvoiceResponse)
        assert (made.data.total, made.data.due_date) == ("24.34", date(2035, 1, 31))
    with step("instant"):
        now = datetime.now(timezone(timedelta(hours=1)))
        year = timedelta(days=365)
        name = shapes.DomainInput(56, "openapi-python-client.example.com", now + year, registered_at=now)
        added = create_domain.sync(client=operator, body=name)
        assert isinstance(added, shapes.DomainResponse)
        assert added.data.registered_at == now.replace(microsecond=0)
        assert added.data.expires_at - added.data.registered_at == year
        hooks = list_webhooks.sync(client=operator)
        assert isinstance(hooks, shapes.WebhookList)
        id = hooks.data[0].id
        recovery = recover_webhook.sync(id, client=operator, body=shapes.WebhookRecoverInput(now))
        assert isinstance(recovery, shapes.WebhookRecovered) and recovery.data.webhook_id == id
    with step("unchanged"):
        tag = get_invoice.sync_detailed(made.data.id, client=operator).headers["ETag"]
        unchanged = get_invoice.sync_detailed(made.data.id, client=operator, if_none_match=tag)
        assert unchanged.status_code is HTTPStatus.NOT_MODIFIED
    with step("not_found"):
        missing = get_ticket.sync_detailed(NOWHERE, client=api)
        assert missing.status_code is HTTPStatus.NOT_FOUND and isinstance(missing.parsed, ClientError)
        absent = get_invoice.sync_detailed(NOWHERE, client=operator)
        assert absent.status_code is HTTPStatus.NOT_FOUND and isinstance(absent.parsed, shapes.AdminError)
        assert absent.parsed.error.code is shapes.ErrorCode.NOT_FOUND
    with step("invalid"):
        refused = create_ticket.sync_detailed(client=api, body=NoMessage("Help", "lost", 1))
        assert refused.status_code is HTTPStatus.UNPROCESSABLE_ENTITY
        assert isinstance(refused.parsed, ClientValidationError)
        assert [fault.pointer for fault in refused.parsed.details] == ["/message"]
        denied = create_invoice.sync_detailed(client=operator, body=NoClient(1, date(2035, 1, 31), lines))
        assert denied.status_code is HTTPStatus.BAD_REQUEST
        assert isinstance(denied.parsed, shapes.AdminValidationError)
        assert [fault.pointer for fault in denied.parsed.error.details] == ["/client_id"]
    with step("limited"):
        hasty = admin.AuthenticatedClient(base_url=LIMITED, token=KEY)
        answers = [list_departments.sync_detailed(client=hasty) for _ in range(20)]
        last = answers[-1]
        assert last.status_code is HTTPStatus.TOO_MANY_REQUESTS and isinstance(last.parsed, shapes.AdminError)
        assert last.parsed.error.code is shapes.ErrorCode.RATE_LIMITED
        assert int(last.headers["Retry-After"]) >= 1
    with step("webhook"):
        event = shapes.InvoicePaidEvent.from_dict(
            json.loads(Path(os.environ["CLOUDARC_DELIVERY"]).read_bytes())
        )
        assert (event.event.value, event.data.total) == ("invoice.paid", "29.99")
        page = list_events.sync(client=operator, type_=shapes.EventName.INVOICE_PAID)
        assert isinstance(page, shapes.EventList)
        assert page.data[0].event is shapes.EventName.INVOICE_PAID and page.data[0].data["total"]


main()
