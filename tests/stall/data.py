"""The largest data that the contract admits: rows for the database, and values for requests."""

import asyncio
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from functools import cache, partial
from pathlib import Path
from typing import Any

from sqlalchemy import Boolean, Date, Integer, Numeric, String, Text, insert, text

from openapi import contract, json_schema, loading
from persistence import credentials, demo, migrations
from persistence.activity import Activity
from persistence.announcements import Announcement
from persistence.api_keys import ApiKey
from persistence.clients import Client
from persistence.database import Connection, Database
from persistence.deliveries import Attempt, Delivery
from persistence.departments import Department
from persistence.domains import Domain
from persistence.engines import connect
from persistence.events import Event
from persistence.invoices import Invoice, InvoiceLine
from persistence.knowledgebase import Article
from persistence.operators import Session
from persistence.products import Product
from persistence.servers import Server
from persistence.services import Service
from persistence.tickets import Ticket, TicketReply
from persistence.tokens import Token
from persistence.types import Base, UtcDateTime
from persistence.webhooks import Webhook, subscribed
from tests.support.live_server import copy_demo
from webhooks import signing
from webhooks.events import event_kinds

DOCUMENT = loading.bundle()

TOKEN = "the-token-of-the-largest-client"
SESSION = "the-session-of-an-operator"

FIRST = 1_000_001
"""The first id of each table's rows; demo data has smaller ones."""

PAGE = 100
"""As many rows as a page has."""

HOOKS = 75
"""The webhooks; ten more may be made."""

BATCH = 25
"""How many rows are inserted at once."""

NOW = datetime.now(UTC).replace(microsecond=0)

DEAR = "😀\x01"
"""Four bytes in memory and on the disk, and an escape of six bytes in JSON."""

TEXTS = {
    "emoji": "😀",
    "line ends": "\n",
    "quotes": '"\\',
    # Its compatibility form has 18 characters.
    "a ligature": "\ufdfa",
    # Each pair is in the wrong order, and a normalization sorts them.
    "combining marks": "\u0301\u0316",
    "words": "w1 é2 w3 ",
}
"""What texts are made of, each dear to something else."""


@dataclass(frozen=True)
class Sizes:
    """How many rows the largest lists have, and the largest tickets replies."""

    listed: int
    replies: int
    articles: int


FULL = Sizes(listed=10_000, replies=400, articles=300)
SHORT = Sizes(listed=5_000, replies=250, articles=62)


@cache
def filled(unit: str, length: int) -> str:
    """A text of ``length`` characters."""
    return (unit * (length // len(unit) + 1))[:length]


# --- Rows --------------------------------------------------------------------------------------------


def rows(table: type[Base], number: int, **given: Any) -> list[dict[str, Any]]:
    """The largest rows of a table. Each of ``given`` is a value, or a function of the row's place."""
    result = []
    for nth in range(number):
        row: dict[str, Any] = {}
        for column in table.__table__.c:
            if column.name in given:
                value = given[column.name]
                row[column.name] = value(nth) if callable(value) else value
            else:
                row[column.name] = FIRST + nth if column.name == "id" else _largest(column)
        result.append(row)
    return result


def _largest(column: Any) -> Any:
    if column.nullable:
        return None
    if isinstance(column.type, String) and not isinstance(column.type, Text):
        return filled(DEAR, column.type.length or 0)
    for kind, value in (
        (UtcDateTime, NOW),
        (Date, demo.FAR),
        (Numeric, Decimal("99999999.99")),
        (Boolean, True),
        (Integer, 1),
    ):
        if isinstance(column.type, kind):
            return value
    return Decimal("99999999.99") if "Money" in type(column.type).__name__ else 1


def everything(sizes: Sizes) -> dict[type[Base], list[dict[str, Any]]]:
    """All rows by table, parents before children."""
    owner = FIRST + PAGE - 1

    def before(nth: int) -> int:
        """An id below those of the largest rows, which come first in each list."""
        return FIRST - sizes.listed + nth

    dear = partial(filled, DEAR)
    events = [each.name for each in event_kinds().values()]
    ticket = FIRST + sizes.listed - 1
    example = event_kinds()["ticket.replied"].example
    small, base = (
        signing.signed_payload("ticket.replied", "2025-01-15T12:00:00Z", each).decode()
        for each in (example, _ticket_event())
    )
    lines = [
        row
        for nth in range(PAGE)
        for row in rows(InvoiceLine, PAGE, id=lambda i, n=nth: FIRST + PAGE * n + i, invoice_id=FIRST + nth)
    ]
    return {
        Department: rows(Department, sizes.listed, status="active"),
        Product: rows(
            Product, PAGE, description=dear(2000), status="active", kind="largest", currency="USD",
            monthly=Decimal("99999999.99"), quarterly=Decimal("99999999.99"), annually=Decimal("99999999.99"),
        ),
        Server: rows(
            Server, PAGE, hostname=filled("a.", 253), ip_address="ffff:" * 7 + "ffff", kind="largest",
            status="active", capacity=1_000_000, used=500_000,
        ),
        Client: rows(
            Client, PAGE, country="DE", status="active", password_hash="", deleted_at=None,
            email=lambda nth: f"{filled('😀', 240)}{nth}@example.com"[:254],
            email_key=lambda nth: f"{filled('😀', 240)}{nth}@example.com",
        ),
        Token: rows(
            Token, PAGE, client_id=owner, beginning="cbt_8kQ2",
            digest=lambda nth: credentials.digest(f"{TOKEN} {nth}" if nth < PAGE - 1 else TOKEN),
        ),
        ApiKey: rows(
            ApiKey, PAGE, scopes=" ".join(_scopes()), beginning="arc_8kQ2",
            digest=lambda nth: credentials.digest(f"key {nth}"),
        ),
        Session: [
            {"digest": credentials.digest(SESSION), "operator_id": 1, "created_at": NOW, "used_at": NOW}
        ],
        Service: rows(
            Service, sizes.listed, client_id=owner, product_id=FIRST, server_id=FIRST, status="active",
            billing_cycle="quarterly",
        ),
        Invoice: rows(
            Invoice, PAGE, client_id=owner, status="unpaid", total=Decimal("9999999999.00"), currency="USD"
        ),
        InvoiceLine: lines,
        Ticket: rows(
            Ticket, sizes.listed, client_id=owner, department_id=FIRST, status="customer_reply",
            priority="medium", ticket_number=lambda nth: f"TKT-{nth:08X}",
            message=lambda nth: dear(20_000) if nth >= sizes.listed - sizes.replies else dear(1000),
        ),
        TicketReply: rows(
            TicketReply, sizes.replies, ticket_id=ticket, author="client", message=dear(20_000)
        ),
        Domain: rows(Domain, sizes.listed, client_id=owner, status="cancelled"),
        Article: rows(
            Article, sizes.articles, category=9007199254740991,
            content=lambda nth: _words(nth) if nth < sizes.articles - PAGE // 2 else dear(80_000),
        ),
        Announcement: rows(Announcement, PAGE, content=dear(80_000), published_at=NOW),
        Event: [
            *rows(
                Event, sizes.listed, id=before, uid=lambda nth: f"evt_{before(nth):026d}",
                event="ticket.replied", base=small,
            ),
            *rows(Event, PAGE, uid=lambda nth: f"evt_{FIRST + nth:026d}", event="ticket.replied", base=base),
        ],
        Webhook: rows(
            Webhook, HOOKS, secret="", version=1, events=subscribed(events), active=True,
            url=lambda nth: f"https://hooks.example.com/{nth:03d}{'a' * 2019}", disabled_reason=dear(200),
        ),
        # The last webhook recovers many deliveries, and the first is deleted with many.
        Delivery: [
            *rows(
                Delivery, sizes.listed, id=before, event_id=before, status="failed", event="ticket.replied",
                webhook_id=lambda nth: FIRST + (HOOKS - 1) * (nth % 2), tried=20,
                uid=lambda nth: f"evt_{before(nth):026d}",
            ),
            *rows(
                Delivery, PAGE, webhook_id=FIRST + HOOKS - 1, event_id=lambda nth: FIRST + nth,
                status="failed", uid=lambda nth: f"evt_{FIRST + nth:026d}", event="ticket.replied", tried=20,
            ),
        ],
        Attempt: rows(
            Attempt, PAGE * 20, delivery_id=lambda nth: FIRST + nth // 20, status=503, ms=15_000,
            answer=filled("😀", 4096), error=filled("😀", 200),
        ),
        Activity: rows(
            Activity, PAGE, actor="api_key", actor_id=FIRST, operation="update_client",
            resource=filled("/clients/😀", 200), request_id="a" * 64,
        ),
    }  # fmt: skip


def _scopes() -> list[str]:
    return [each for each in DOCUMENT["components"]["schemas"]["Scope"]["enum"] if each != "*"]


def _ticket_event() -> dict[str, Any]:
    example = dict(event_kinds()["ticket.replied"].example)
    return example | {"subject": filled(DEAR, 255), "message": filled(DEAR, 5_000)}


def _words(nth: int) -> str:
    """A long article of words that no other has, and that all begin alike."""
    return " ".join(f"w{nth}x{each}" for each in range(10_000))[:80_000]


def fill(url: str) -> None:
    """Make a database with demo data."""
    if url.startswith("sqlite:///"):
        copy_demo(Path(url.removeprefix("sqlite:///")))
        return
    migrations.upgrade(url)
    asyncio.run(with_database(url, demo.seed))


def enlarge(url: str, sizes: Sizes) -> None:
    """Add the largest rows to a database with demo data."""

    async def insert_all(database: Database) -> None:
        async with database.transaction() as db:
            await _insert(db, everything(sizes), postgresql=database.dialect.name == "postgresql")

    asyncio.run(with_database(url, insert_all))


async def with_database(url: str, work: Callable[[Database], Awaitable[None]]) -> None:
    """Do some work with a database that is open meanwhile."""
    database = connect(url)
    await database.open()
    try:
        await work(database)
    finally:
        await database.close()


async def _insert(
    db: Connection, tables: dict[type[Base], list[dict[str, Any]]], *, postgresql: bool
) -> None:
    # Without words there is nothing to index, which takes most of the time to find out.
    worded = [row if row["content"][0] == "w" else row | {"content": ""} for row in tables[Article]]
    inserts = [(index.insert, words) for index, words in demo.words(tables | {Article: worded})]
    inserts += [(insert(table).values(dict.fromkeys(given[0])), given) for table, given in tables.items()]
    for statement, given in inserts:
        # A statement has some seconds only.
        for begin in range(0, len(given), BATCH):
            await db.execute_many(statement, given[begin : begin + BATCH])
    for table, given in tables.items():
        if postgresql and "id" in given[0]:
            name = table.__tablename__
            await db.fetch_all(
                text(f"SELECT setval(pg_get_serial_sequence('{name}', 'id'), max(id)) FROM {name}")
            )


# --- Values ------------------------------------------------------------------------------------------

IDS = {"client_id": FIRST + PAGE - 1, "department_id": FIRST, "product_id": 2}
"""What a value refers to, by its name."""


def largest(schema: Any, unit: str, nth: int, name: str = "") -> Any:
    """The largest value of a schema, whose texts are made of ``unit``; ``nth`` makes unique values differ."""
    schema = contract.deref(DOCUMENT, schema)
    if name in IDS:
        return IDS[name]
    if "oneOf" in schema:
        return largest(schema["oneOf"][nth % len(schema["oneOf"])], unit, nth, name)
    if "enum" in schema:
        return schema.get("example", schema["enum"][0])
    match schema["type"]:
        case "object":
            members = schema.get("properties", {}).items()
            return {each: largest(below, unit, nth, each) for each, below in members}
        case "array":
            names = contract.deref(DOCUMENT, schema["items"]).get("enum")
            if names:
                return names[: schema["maxItems"]]
            return [largest(schema["items"], unit, nth + each) for each in range(schema["maxItems"])]
        case "string":
            return _text(schema, unit, nth)
        case "boolean":
            return schema["example"]
        case _:
            return schema["maximum"]


def _text(schema: Any, unit: str, nth: int) -> str:
    if schema.get("format") in json_schema.DATE_FORMATS:
        return str(schema["example"])
    most = schema["maxLength"]
    # What must be unique has a number; the rest of a name is as long as IDNA and SMTP take.
    shapes = [
        filled(unit, most),
        f"n{nth}".ljust(most, "a"),
        f"{nth}".ljust(64, "é") + f"@{'ö' * 50}.example.com",
        f"n{nth}.{'.'.join(['ö' * 50] * 3)}.example.com",
        f"https://127.0.0.1/{nth}/{'a' * (most - 40)}",
        filled("a.", most),
    ]
    pattern, barred = schema.get("pattern", ""), schema.get("not", {}).get("pattern", "(?!)")
    fitting = (each for each in shapes if re.search(pattern, each) and not re.search(barred, each))
    return next(fitting, str(schema["example"]))
