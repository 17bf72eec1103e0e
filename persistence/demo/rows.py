"""Build the rows of the demo data, the same each time."""

import json
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from random import Random
from typing import Any

from persistence import credentials, identity, search
from persistence.announcements import Announcement
from persistence.api_keys import ApiKey
from persistence.clients import Client, phone_key
from persistence.deliveries import Attempt, Delivery
from persistence.demo.credentials import ADMIN_KEY, CLIENT_TOKEN, OPERATOR, OPERATOR_HASH, OTHER_CLIENT_TOKEN
from persistence.demo.texts import CITIES, FIRST_NAMES, KNOWN_TICKETS, LAST_NAMES, MESSAGES, SUBJECTS, TOPICS
from persistence.departments import Department
from persistence.domains import Domain
from persistence.events import Event
from persistence.invoices import Invoice, InvoiceLine, Payment
from persistence.knowledgebase import Article
from persistence.operators import Operator
from persistence.products import Product
from persistence.servers import Server
from persistence.services import Service, add_cycle
from persistence.tickets import Ticket, TicketReply
from persistence.tokens import Token
from persistence.types import Base
from persistence.webhooks import Webhook, subscribed

CLIENTS = 240
SPARE_CLIENT = 6
"""The contract's example deletes it, so it has no active domain either."""
START = datetime(2024, 1, 1, 10, tzinfo=UTC)
FAR = date(2035, 1, 31)

Rows = list[dict[str, Any]]


def build() -> dict[type[Base], Rows]:
    """All rows, by table, parents before children."""
    random = Random(1_000_003)
    tables: dict[type[Base], Rows] = {
        Department: [
            {"id": 1, "name": "Sales", "status": "active"},
            {"id": 2, "name": "Technical Support", "status": "active"},
            {"id": 3, "name": "Billing", "status": "active"},
            {"id": 4, "name": "Telegrams", "status": "inactive"},
        ],
        Product: _products(),
        Server: _servers(),
        Client: list(_clients(random)),
        Token: [
            {"id": 1, "client_id": 42, "digest": credentials.digest(CLIENT_TOKEN)},
            {"id": 2, "client_id": 43, "digest": credentials.digest(OTHER_CLIENT_TOKEN)},
            # Of which nobody knows the secret; the contract's examples name them.
            {"id": 3, "client_id": 42, "digest": credentials.digest("spare token")},
        ],
        ApiKey: [
            {"id": 1, "name": "Demo", "scopes": "*", "digest": credentials.digest(ADMIN_KEY)},
            {"id": 2, "name": "Spare", "scopes": "*", "digest": credentials.digest("spare key")},
        ],
    }
    tables[Operator] = [{"id": 1, "name": OPERATOR, "password_hash": OPERATOR_HASH, "created_at": START}]
    for credential in (*tables[Token], *tables[ApiKey]):
        credential.update(beginning="", created_at=START, expires_at=None, last_used_at=None, revoked_at=None)
    tables[Service] = list(_services(random, tables[Server]))
    tables[Invoice], tables[InvoiceLine], tables[Payment] = _invoices(random)
    tables[Ticket], tables[TicketReply] = _tickets(random)
    tables[Domain] = list(_domains(random))
    tables[Article] = list(_articles(random))
    tables[Announcement] = list(_announcements())
    tables[Event] = list(_events(tables[Invoice]))
    tables[Webhook] = list(_webhooks())
    tables[Delivery], tables[Attempt] = _deliveries(tables[Event])
    return tables


def words(tables: dict[type[Base], Rows]) -> list[tuple[search.Index, Rows]]:
    """The full-text indexes of the rows."""
    clients = [
        search.CLIENTS.row(
            row["id"], f"{row['first_name']} {row['last_name']} {row['company']} {row['email']}"
        )
        for row in tables[Client]
    ]
    articles = [search.ARTICLES.row(row["id"], row["title"], row["content"]) for row in tables[Article]]
    tickets = [search.TICKETS.row(row["id"], f"{row['subject']} {row['message']}") for row in tables[Ticket]]
    replies = [search.REPLIES.row(row["id"], row["message"]) for row in tables[TicketReply]]
    return list(zip(search.INDEXES, (articles, clients, tickets, replies), strict=True))


def _products() -> Rows:
    rows = [
        (1, "Business Hosting", "shared", "active", "29.99", "84.99", "319.90"),
        (2, "Starter Hosting", "shared", "active", "4.95", "13.95", "49.50"),
        (3, "Virtual Server S", "vps", "active", "12.00", None, "129.60"),
        (4, "Frames Hosting 1999", "shared", "inactive", "1.00", None, None),
        (5, "Dedicated Server", "dedicated", "active", "189.00", "540.00", "2041.20"),
    ]
    return [
        {
            "id": id,
            "name": name,
            "description": f"{name}, with backups every night.",
            "kind": kind,
            "status": status,
            "monthly": _amount(monthly),
            "quarterly": _amount(quarterly),
            "annually": _amount(annually),
            "currency": "USD",
        }
        for id, name, kind, status, monthly, quarterly, annually in rows
    ]


def _amount(text: str | None) -> Decimal | None:
    return Decimal(text) if text else None


def _servers() -> Rows:
    rows = [
        (1, "web-1", "shared", "active", 4000),
        (2, "web-2", "shared", "active", 4000),
        (3, "vps-1", "vps", "active", 800),
        (4, "web-0", "shared", "inactive", 100),
        (5, "metal-1", "dedicated", "active", 1),
    ]
    return [
        {
            "id": id,
            "name": name,
            "hostname": f"{name}.example.net",
            "ip_address": f"192.0.2.{id}",
            "kind": kind,
            "status": status,
            "capacity": capacity,
            "used": 0,
        }
        for id, name, kind, status, capacity in rows
    ]


def _clients(random: Random) -> Iterator[dict[str, Any]]:
    for id in range(1, CLIENTS + 1):
        city, state, postcode, country = random.choice(CITIES)
        row = {
            "id": id,
            "first_name": random.choice(FIRST_NAMES),
            "last_name": random.choice(LAST_NAMES),
            "email": f"client{id}@example.com",
            "phone": f"+1-555-{random.randrange(10_000):04d}",
            "company": random.choice(["", f"Company {id}"]),
            "address1": f"{random.randrange(1, 200)} Main Street",
            "city": city,
            "state": state,
            "postcode": postcode,
            "country": country,
            "status": "active",
            "created_at": START + timedelta(hours=id - 42),
            # No password has this hash.
            "password_hash": "",
            "deleted_at": None,
        }
        if id == 42:
            row.update(
                first_name="Jane",
                last_name="Smith",
                email="jane@example.com",
                phone="+1-555-1234",
                company="Acme Corp",
                city="Springfield",
                state="Illinois",
                postcode="62701",
                country="US",
            )
        row["email_key"] = identity.email_key(str(row["email"]))
        row["phone_key"] = phone_key(str(row["phone"]))
        yield row


def _services(random: Random, servers: Rows) -> Iterator[dict[str, Any]]:
    # Client 42 has exactly the one service of the client document's example.
    owners = [42, 43, 43, 43] + [
        random.choice([1, 2, *range(3, 42), *range(44, CLIENTS)]) for _ in range(316)
    ]
    for id, owner in enumerate(owners, 1):
        product = 1 if id == 1 else random.choice([1, 2, 2, 3])
        status = ["active", "active", "suspended", "terminated"][id - 1] if id <= 4 else None
        status = status or random.choice(["active"] * 7 + ["suspended", "terminated"])
        created = START if id == 1 else START + timedelta(days=id % 365)
        cycle = "monthly" if id == 1 or product == 3 else random.choice(["monthly", "quarterly", "annually"])
        server = next(each for each in servers if each["id"] == (3 if product == 3 else 1 + id % 2))
        if status != "terminated":
            server["used"] += 1
        yield {
            "id": id,
            "client_id": owner,
            "product_id": product,
            "server_id": server["id"] if status != "terminated" else None,
            "domain": "mysite.com" if id == 1 else f"site{id}.example.com",
            "username": "mysite" if id == 1 else f"site{id}",
            "status": status,
            "billing_cycle": cycle,
            "next_due_date": add_cycle(created.date(), cycle),
            "suspend_reason": "Payment is overdue." if status == "suspended" else "",
            "created_at": created,
        }


def _invoices(random: Random) -> tuple[Rows, Rows, Rows]:
    invoices: Rows = []
    lines: Rows = []
    payments: Rows = []
    known = {1001: (42, "29.99"), 1002: (43, "29.99"), 1234: (56, "29.99")}
    for id in range(900, 1300):
        owner = known[id][0] if id in known else random.choice([42, 43] * 12 + list(range(1, CLIENTS)))
        created = START + timedelta(days=id - 900)
        state = "unpaid" if id in known else random.choice(["paid"] * 6 + ["unpaid", "overdue"])
        amounts = [Decimal(random.randrange(100, 20_000)).scaleb(-2) for _ in range(random.randrange(1, 4))]
        if id in known:
            amounts = [Decimal(known[id][1])]
        invoice = {
            "id": id,
            "client_id": owner,
            "status": "paid" if state == "paid" else "unpaid",
            "total": sum(amounts),
            "currency": "USD",
            "due_date": FAR if state == "unpaid" else created.date() + timedelta(days=14),
            "paid_at": created + timedelta(days=3) if state == "paid" else None,
            "created_at": created,
        }
        invoices.append(invoice)
        for amount in amounts:
            lines.append(
                {
                    "id": len(lines) + 1,
                    "invoice_id": id,
                    "description": "Business Hosting, one month",
                    "amount": amount,
                }
            )
        if state == "paid":
            payments.append(
                {
                    "id": len(payments) + 1,
                    "invoice_id": id,
                    "amount": invoice["total"],
                    "currency": "USD",
                    "created_at": invoice["paid_at"],
                }
            )
    return invoices, lines, payments


def _tickets(random: Random) -> tuple[Rows, Rows]:
    tickets: Rows = []
    replies: Rows = []
    for id in range(1, 301):
        opened = datetime(2024, 1, 15, 12, tzinfo=UTC) + timedelta(days=id - 15)
        owner = 42 if id in KNOWN_TICKETS else random.choice([42, 43] * 12 + list(range(1, CLIENTS)))
        authors = KNOWN_TICKETS.get(id, random.choice([[], ["staff"], ["staff", "client"]]))
        status = {"": "open", "staff": "answered", "client": "customer_reply"}[authors[-1] if authors else ""]
        closed = id not in KNOWN_TICKETS and random.random() < 0.3
        tickets.append(
            {
                "id": id,
                "ticket_number": "TKT-A3F7B2C1" if id == 15 else f"TKT-{random.getrandbits(32):08X}",
                "client_id": owner,
                "department_id": 2 if id == 15 else random.choice([1, 2, 3]),
                "subject": "Need help with DNS settings" if id == 15 else random.choice(SUBJECTS),
                "message": "I'm trying to set up a CNAME record..." if id == 15 else random.choice(MESSAGES),
                "status": "closed" if closed else status,
                "priority": "medium" if id == 15 else random.choice(["low", "medium", "high"]),
                "created_at": opened,
                "updated_at": opened + timedelta(minutes=30 * len(authors)),
                "reply_count": len(authors),
            }
        )
        for nth, author in enumerate(authors, 1):
            replies.append(
                {
                    "id": len(replies) + 1,
                    "ticket_id": id,
                    "author": author,
                    "message": "Which name should it point to?" if id == 15 else random.choice(MESSAGES),
                    "created_at": opened + timedelta(minutes=30 * nth),
                }
            )
    return tickets, replies


def _domains(random: Random) -> Iterator[dict[str, Any]]:
    owners = [42, 42, 43, 43] + [random.choice(range(1, CLIENTS)) for _ in range(146)]
    for id, owner in enumerate([each + (each == SPARE_CLIENT) for each in owners], 1):
        registered = START + timedelta(days=id % 300)
        status = "active" if id <= 4 else random.choice(["active"] * 6 + ["pending", "expired", "cancelled"])
        yield {
            "id": id,
            "client_id": owner,
            "domain": "mysite.com" if id == 1 else f"domain{id}.example.com",
            "status": status,
            "registered_at": registered,
            "expires_at": registered + timedelta(days=4018 if status == "active" else 365),
        }


def _articles(random: Random) -> Iterator[dict[str, Any]]:
    id = 0
    for category, topics in TOPICS.items():
        for title, content in topics:
            id += 1
            yield {"id": id, "title": title, "category": category, "content": content}
    for nth in range(1, 61):
        id += 1
        yield {
            "id": id,
            "title": f"Release notes {nth}",
            "category": 5,
            "content": f"What has changed in version {nth}. {random.choice(MESSAGES)}",
        }


def _announcements() -> Iterator[dict[str, Any]]:
    for id in range(1, 31):
        # The last two are a draft and one that waits for its time.
        published = {29: None, 30: datetime(2035, 1, 31, tzinfo=UTC)}
        yield {
            "id": id,
            "title": f"Maintenance of web-{1 + id % 2}",
            "content": f"The server is restarted in the night, for about {id} minutes.",
            "published_at": published.get(id, START + timedelta(days=7 * id)),
        }


def _events(invoices: Rows) -> Iterator[dict[str, Any]]:
    """That the first invoices were paid."""
    paid = sorted((each for each in invoices if each["paid_at"]), key=lambda each: each["paid_at"])
    for id, invoice in enumerate(paid[:5], 1):
        data = {name: invoice[name] for name in ("id", "client_id", "total", "currency")}
        members = {
            "event": "invoice.paid",
            "timestamp": f"{invoice['paid_at']:%Y-%m-%dT%H:%M:%SZ}",
            "data": data | {"total": str(invoice["total"])},
        }
        yield {
            "id": id,
            "uid": f"evt_{id:026d}",
            "event": "invoice.paid",
            "base": json.dumps(members, separators=(",", ":")),
            "created_at": invoice["paid_at"],
        }


def _webhooks() -> Iterator[dict[str, Any]]:
    """Two that are not active. The contract's examples delete the second."""
    for id, name in ((1, "cloudarc"), (2, "spare")):
        yield {
            "id": id,
            "url": f"https://hooks.example.com/{name}",
            "events": subscribed(["invoice.created", "invoice.paid"]),
            "active": False,
            "disabled_reason": None,
            "failing_since": None,
            # Each server seals with a key of its own, so there is none before the first rotation.
            "secret": "",
            "old_secret": None,
            "old_secret_until": None,
            "created_at": START,
            "version": 1,
        }


def _deliveries(events: Rows) -> tuple[Rows, Rows]:
    """An event that arrived at the second attempt, and a test that did not."""
    first, second = events[:2]
    common: dict[str, Any] = {"webhook_id": 1, "event": "invoice.paid", "claim": None}
    deliveries = [
        common
        | {"id": 1, "event_id": first["id"], "uid": first["uid"], "test_base": None}
        | {"status": "delivered", "tried": 2, "created_at": first["created_at"]},
        common
        | {"id": 2, "event_id": None, "uid": f"evt_{'T':0>26}", "test_base": second["base"]}
        | {"status": "failed", "tried": 1, "created_at": second["created_at"]},
    ]
    results = [
        (deliveries[0], 0, 503, "busy", "The receiver answered 503."),
        (deliveries[0], 5, 200, "ok", None),
        (deliveries[1], 0, 404, "no such page", "The receiver answered 404."),
    ]
    attempts = [
        {
            "id": id,
            "delivery_id": delivery["id"],
            "attempted_at": delivery["created_at"] + timedelta(seconds=seconds),
            "status": status,
            "ms": 80 + id,
            "answer": answer,
            "error": error,
        }
        for id, (delivery, seconds, status, answer, error) in enumerate(results, 1)
    ]
    for delivery in deliveries:
        delivery["due_at"] = delivery["created_at"] + timedelta(seconds=5)
    return deliveries, attempts
