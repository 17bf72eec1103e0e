"""The story of every client, with the clients that openapi-generator makes for Python."""

import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import date, datetime, timedelta, timezone
from pathlib import Path

import cloudarc_admin as admin
import cloudarc_client as client

URL, LIMITED, TOKEN, KEY = (os.environ[f"CLOUDARC_{name}"] for name in ("URL", "LIMITED", "TOKEN", "KEY"))
NOWHERE, DUE = 9007199254740991, date(2035, 1, 31)


@contextmanager
def step(name: str) -> Iterator[None]:
    start = time.perf_counter()
    yield
    print(name, round((time.perf_counter() - start) * 1000), flush=True)


def refused(call: Callable[[], object], status: int) -> client.ApiException | admin.ApiException:
    try:
        call()
    except (client.ApiException, admin.ApiException) as error:
        if error.status == status:
            return error
        raise
    raise AssertionError(f"not {status}")


def bearer(secret: str, url: str = URL) -> admin.ApiClient:
    # By itself urllib3 sleeps as long as a 429 says, and calls again.
    return admin.ApiClient(admin.Configuration(host=url, access_token=secret, retries=0))


def main() -> None:
    # The first call:
    api = client.ApiClient(client.Configuration(host=URL, access_token=TOKEN))
    services = client.ServicesApi(api).list_services()
    for service in services.data:
        print("#", service.product_name, service.status.value)
    # Until here.
    operator = bearer(KEY)
    tickets, invoices = client.TicketsApi(api), admin.InvoicesApi(operator)

    with step("authorise"):
        assert client.ProfileApi(api).get_profile().id == 42
        stranger = client.ApiClient(client.Configuration(host=URL, access_token="nobody"))
        told = refused(client.ServicesApi(stranger).list_services, 401).data
        assert isinstance(told, client.ErrorAnswer), told
    with step("list"):
        assert [row.product_name for row in client.ServicesApi(api).list_services().data] == [
            "Business Hosting"
        ]
    with step("page"):
        first = invoices.list_invoices(limit=2)
        second = invoices.list_invoices(limit=2, after=str(first.data[-1].id))
        assert len(first.data) == len(second.data) == 2 and first.meta.total > 4
        assert first.data[-1].id > second.data[0].id
    with step("create"):
        opened = tickets.create_ticket(
            client.ClientTicketInput(subject="Grüße", message="Hello", department_id=1)
        )
        assert tickets.get_ticket(opened.ticket_id).subject == "Grüße"
        lines = [admin.InvoiceLineInput(description="Hosting", amount=amount) for amount in (19.99, 4.35)]
        made = invoices.create_invoice(admin.InvoiceInput(client_id=56, due_date=DUE, items=lines))
        assert (made.data.total, made.data.due_date) == ("24.34", DUE)
    with step("instant"):
        now = datetime.now(timezone(timedelta(hours=1)))
        year = timedelta(days=365)
        wanted = admin.DomainInput(
            client_id=56, domain="python.example.com", registered_at=now, expires_at=now + year
        )
        domain = admin.DomainsApi(operator).create_domain(wanted).data
        assert (domain.registered_at, domain.expires_at - domain.registered_at) == (
            now.replace(microsecond=0),
            year,
        )
        webhooks = admin.WebhooksApi(operator)
        id = webhooks.list_webhooks().data[0].id
        recovery = webhooks.recover_webhook(id, admin.WebhookRecoverInput(since=now))
        assert recovery.data.webhook_id == id
    with step("unchanged"):
        headers = invoices.get_invoice_with_http_info(made.data.id).headers
        tag = {name.lower(): value for name, value in (headers or {}).items()}["etag"]
        refused(lambda: invoices.get_invoice(made.data.id, if_none_match=tag), 304)
    with step("not_found"):
        told = refused(lambda: tickets.get_ticket(NOWHERE), 404).data
        assert isinstance(told, client.ErrorAnswer) and isinstance(told.actual_instance, client.ClientError)
        told = refused(lambda: invoices.get_invoice(NOWHERE), 404).data
        assert isinstance(told, admin.ErrorAnswer) and isinstance(told.actual_instance, admin.AdminError)
        assert told.actual_instance.error.code is admin.ErrorCode.NOT_FOUND
    with step("invalid"):
        # The models check what is required; who goes around them is told by the server.
        ticket = client.ClientTicketInput.model_construct(subject="Help", department_id=1)
        told = refused(lambda: tickets.create_ticket(ticket), 422).data
        assert isinstance(told, client.ClientValidationError)
        assert [fault.pointer for fault in told.details] == ["/message"]
        invoice = admin.InvoiceInput.model_construct(due_date=DUE, items=lines)
        told = refused(lambda: invoices.create_invoice(invoice), 400).data
        assert isinstance(told, admin.AdminValidationError)
        assert [fault.pointer for fault in told.error.details] == ["/client_id"]
    with step("limited"):
        departments = admin.DepartmentsApi(bearer(KEY, LIMITED))
        error = refused(lambda: [departments.list_departments() for _ in range(20)], 429)
        assert isinstance(error.data, admin.ErrorAnswer) and error.headers
        assert isinstance(error.data.actual_instance, admin.AdminError)
        assert error.data.actual_instance.error.code is admin.ErrorCode.RATE_LIMITED
        assert int(error.headers["Retry-After"]) >= 1
    with step("webhook"):
        event = admin.InvoicePaidEvent.from_dict(
            json.loads(Path(os.environ["CLOUDARC_DELIVERY"]).read_bytes())
        )
        assert event and (event.event, event.data.total) == ("invoice.paid", "29.99")
        page = admin.EventsApi(operator).list_events(type=admin.EventName.INVOICE_PAID)
        assert page.data[0].event is admin.EventName.INVOICE_PAID and page.data[0].data["total"]


main()
