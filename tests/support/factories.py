"""New resources for tests, each in the state that the test needs."""

import secrets
from collections.abc import Iterator
from typing import Any

from tests.support.contract_client import Api

DUE = "2035-01-31"
LATE = "2024-02-01"


def service(admin: Api, state: str = "active", client_id: int = 42) -> int:
    """The id of a new service."""
    body = {"client_id": client_id, "product_id": 2, "billing_cycle": "monthly"}
    id = made(admin.post("/services", body))
    if state != "active":
        admin.post(f"/services/{id}/{'suspend' if state == 'suspended' else 'terminate'}")
    return id


def invoice(admin: Api, state: str = "unpaid", client_id: int = 42, **values: Any) -> int:
    """The id of a new invoice."""
    lines = [{"description": "Business Hosting", "amount": "29.99"}]
    due = LATE if state == "overdue" else DUE
    id = made(admin.post("/invoices", {"client_id": client_id, "due_date": due, "items": lines} | values))
    if state == "paid":
        admin.post(f"/invoices/{id}/pay")
    return id


def ticket(admin: Api, state: str = "open", client_id: int = 42, client: Api | None = None) -> int:
    """The id of a new ticket; ``client`` is who replies where the state needs it."""
    body = {"client_id": client_id, "department_id": 2, "subject": "DNS", "message": "Help"}
    id = made(admin.post("/tickets", body))
    if state == "answered":
        admin.post(f"/tickets/{id}/reply", {"message": "Like this."})
    if state == "customer_reply":
        assert client is not None
        client.post(f"/tickets/{id}/reply", {"message": "Thank you."})
    if state == "closed":
        admin.post(f"/tickets/{id}/close")
    return id


def reply(admin: Api, ticket_id: int = 16) -> int:
    """The id of a new reply of the staff, by default to an open ticket of the demo data."""
    answer = admin.post(f"/tickets/{ticket_id}/reply", {"message": "Test"})
    assert answer.status_code == 201
    return int(answer.json()["data"]["replies"][-1]["id"])


def made(response: Any) -> int:
    """The id in a 201 of the operator."""
    assert response.status_code == 201, response.text
    return int(response.json()["data"]["id"])


def client(admin: Api, **values: Any) -> int:
    """The id of a new client, with an email address of its own."""
    body = {
        "first_name": "Robin",
        "last_name": "Baker",
        "email": f"{secrets.token_hex(8)}@example.com",
        "password": "correct horse",
    }
    return made(admin.post("/clients", body | values))


def product(admin: Api, **values: Any) -> int:
    """The id of a new product of a kind of its own, so that no other test's server serves it."""
    body = {"name": "Test Hosting", "kind": secrets.token_hex(8), "prices": {"monthly": "1.00"}}
    return made(admin.post("/products", body | values))


def server(admin: Api, **values: Any) -> int:
    """The id of a new server."""
    body = {
        "name": "test",
        "hostname": "test.example.net",
        "ip_address": "192.0.2.9",
        "kind": secrets.token_hex(8),
        "capacity": 10,
    }
    return made(admin.post("/servers", body | values))


def department(admin: Api, **values: Any) -> int:
    """The id of a new department."""
    return made(admin.post("/departments", {"name": "Tests"} | values))


def domain(admin: Api, client_id: int = 42, **values: Any) -> int:
    """The id of a new domain."""
    name = f"{secrets.token_hex(8)}.example.com"
    body = {"client_id": client_id, "domain": name, "expires_at": f"{DUE}T00:00:00Z"}
    return made(admin.post("/domains", body | values))


def article(admin: Api, **values: Any) -> int:
    """The id of a new article."""
    body = {"title": "Test", "category": 9, "content": "Nothing to see here."}
    return made(admin.post("/knowledgebase", body | values))


def announcement(admin: Api, **values: Any) -> int:
    """The id of a new announcement, which is a draft."""
    return made(admin.post("/announcements", {"title": "Test", "content": "Nothing new."} | values))


def token(admin: Api, client_id: int = 42, **values: Any) -> int:
    """The id of a new token."""
    return made(admin.post(f"/clients/{client_id}/tokens", values))


def api_key(admin: Api, **values: Any) -> int:
    """The id of a new API key."""
    return made(admin.post("/api-keys", {"name": "Tests", "scopes": ["tickets:read"]} | values))


def webhook(admin: Api, **values: Any) -> int:
    """The id of a new webhook with a URL of its own."""
    body = {"url": f"http://127.0.0.1:9/{secrets.token_hex(8)}", "events": ["invoice.paid"]}
    return made(admin.post("/webhooks", body | values))


def webhooks_for_a_while(admin: Api) -> Iterator[None]:
    """Delete the webhooks that a test adds, for there may be a hundred only."""

    def ids() -> set[int]:
        return {row["id"] for row in admin.get("/webhooks", limit=100).json()["data"]}

    before = ids()
    yield
    for id in ids() - before:
        admin.request("DELETE", f"/webhooks/{id}")


def delivery(admin: Api, webhook_id: int = 1) -> int:
    """The id of a new delivery, by default to the webhook of the demo data."""
    return made(admin.post(f"/webhooks/{webhook_id}/test"))


def event(admin: Api) -> int:
    """The id of a new event."""
    last = newest_event(admin)
    client(admin)
    return int(admin.get("/events", after=last, limit=1).json()["data"][0]["id"])


def newest_event(admin: Api) -> int:
    """The id of the last event so far."""
    pages = admin.get("/events", limit=1).json()["meta"]["pages"]
    return int(admin.get("/events", limit=1, page=pages).json()["data"][0]["id"])
