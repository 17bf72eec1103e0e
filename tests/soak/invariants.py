"""The invariants of reliability.md, in one place: what callers were told against what is there."""

import json
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any

from sqlalchemy import select

from persistence import clients, events, invoices, servers, services, tickets
from persistence.engines import connect
from tests.soak.ledger import Attempt, History, Write
from tests.soak.processes import Received
from tests.soak.webhooks import Figure
from webhooks import signing

KINDS = ("ticket.opened", "ticket.replied", "invoice.created", "invoice.paid")


@dataclass(frozen=True)
class Invoice:
    status: str
    total: Decimal
    lines: tuple[tuple[str, Decimal], ...]


@dataclass(frozen=True)
class Event:
    uid: str
    kind: str
    of: int


@dataclass(frozen=True)
class State:
    """What the database holds."""

    tickets: dict[int, str] = field(default_factory=dict)
    """The subject of each."""
    replies: list[tuple[int, str]] = field(default_factory=list)
    """The ticket and the text of each."""
    invoices: dict[int, Invoice] = field(default_factory=dict)
    payments: list[tuple[int, Decimal]] = field(default_factory=list)
    """The invoice and the amount of each."""
    services: dict[int, tuple[str, str]] = field(default_factory=dict)
    """The domain and the status of each."""
    companies: dict[int, str] = field(default_factory=dict)
    """The company of each client, which is the mark of its last change."""
    events: list[Event] = field(default_factory=list)
    used: dict[int, tuple[int, int]] = field(default_factory=dict)
    """Of each server how many places it says are used, and how many services have one."""

    def since(self, before: "State") -> "State":
        """Without the rows that were there before."""
        known = {each.uid for each in before.events}
        return replace(
            self,
            tickets={id: each for id, each in self.tickets.items() if id not in before.tickets},
            replies=[each for each in self.replies if each[0] not in before.tickets],
            invoices={id: each for id, each in self.invoices.items() if id not in before.invoices},
            payments=[each for each in self.payments if each[0] not in before.invoices],
            services={id: each for id, each in self.services.items() if id not in before.services},
            events=[each for each in self.events if each.uid not in known],
        )


async def read(database_url: str) -> State:
    """Straight from the database, past the server."""
    database = connect(database_url)
    await database.open()
    try:
        async with database.reading() as db:

            async def all(table: Any, *names: str) -> list[Any]:
                columns = table.__table__.c
                return await db.fetch_all(select(*[columns[name] for name in names]).order_by(columns.id))

            lines: dict[int, list[tuple[str, Decimal]]] = {}
            for line in await all(invoices.InvoiceLine, "invoice_id", "description", "amount"):
                lines.setdefault(line.invoice_id, []).append((line.description, line.amount))
            rows = await all(services.Service, "id", "domain", "status", "server_id")
            taken = Counter(row.server_id for row in rows if row.status in ("active", "suspended"))
            return State(
                {row.id: row.subject for row in await all(tickets.Ticket, "id", "subject")},
                [tuple(row) for row in await all(tickets.TicketReply, "ticket_id", "message")],
                {
                    row.id: Invoice(row.status, row.total, tuple(lines.get(row.id, ())))
                    for row in await all(invoices.Invoice, "id", "status", "total")
                },
                [tuple(row) for row in await all(invoices.Payment, "invoice_id", "amount")],
                {row.id: (row.domain, row.status) for row in rows},
                {row.id: row.company for row in await all(clients.Client, "id", "company")},
                [
                    Event(row.uid, row.event, json.loads(row.base)["data"]["id"])
                    for row in await all(events.Event, "uid", "event", "base")
                    if row.event in KINDS
                ],
                {row.id: (row.used, taken[row.id]) for row in await all(servers.Server, "id", "used")},
            )
    finally:
        await database.close()


def check(history: History, state: State, received: Collection[Received], secret: str) -> list[Figure]:
    """Every invariant, over a run that is over; ``received`` is what came to the endpoint of ``secret``."""
    lost = [each for each in history.writes if each.outcome == "acknowledged" and not _there(each, state)]
    lost += _overwritten(history, state)
    refused = [each for each in history.writes if each.outcome == "refused"]
    committed, told = _changes(state), Counter((each.kind, each.of) for each in state.events)
    known, arrived = {each.uid for each in state.events}, {each.id for each in received}
    key = signing.key_of(secret)
    forged = [
        each
        for each in received
        if not signing.verify_body(key, each.body)
        or not signing.verify_headers(key, each.headers, each.body, each.at)
    ]
    total, attempts = history.count("acknowledged"), list(history.attempts)
    return [
        _none("acknowledged writes that are not there", lost, total),
        _none("valid writes that were refused", refused, len(history.writes)),
        _none("writes that were done twice", _twice(state), total),
        _none("invoices whose payments are not one if paid, else none", _misbooked(state), state.invoices),
        _none("changes without an event", list((committed - told).elements()), committed.total()),
        _none("events without a change, or twice", list((told - committed).elements()), told.total()),
        _none("events that were not delivered", known - arrived, len(known)),
        _none("deliveries of no event", arrived - known, len(arrived)),
        _none("deliveries that do not verify", forged, len(received)),
        _none("5xx but 503 with Retry-After", [each for each in attempts if _bad(each)], len(attempts)),
        _none("connections that broke while the server was up", _broken(history), len(attempts)),
        _none("sums that do not add up", _wrong_sums(state), len(state.invoices) + len(state.used)),
    ]


def _none(name: str, found: Collection[Any], of: int | Collection[Any]) -> Figure:
    total = of if isinstance(of, int) else len(of)
    example = f", such as {next(iter(found))}"[:300] if found else ""
    return Figure(name, f"{len(found)} of {total:,}{example}", not found)


def _there(write: Write, state: State) -> bool:
    match write.kind:
        case "ticket":
            return state.tickets.get(write.answer["id"]) == write.mark
        case "reply":
            return (write.of, write.mark) in state.replies
        case "invoice":
            invoice = state.invoices.get(write.answer["id"])
            return invoice is not None and invoice.total == write.total and invoice.lines[0][0] == write.mark
        case "payment":
            invoice = state.invoices.get(write.of)
            paid = invoice is not None and invoice.status == "paid"
            return paid and (write.of, write.total) in state.payments
        case "service":
            return state.services.get(write.answer["id"], ("", ""))[0] == f"{write.mark}.example.com"
        case "end":
            return state.services.get(write.of, ("", ""))[1] == "terminated"
        case "client":
            # Later changes may stand in its place; the last one is judged with all others of its client.
            return True


def _overwritten(history: History, state: State) -> list[Write]:
    """The last acknowledged change of each client, where it is undone by an older one."""
    last = {
        each.of: each for each in history.writes if (each.kind, each.outcome) == ("client", "acknowledged")
    }
    # Of a later change that was not answered nobody knows whether it was done.
    return [each for each in last.values() if not _number(state.companies[each.of]) >= int(each.mark)]


def _number(company: str) -> int:
    return int(company) if company.isdigit() else 0


def _twice(state: State) -> list[str]:
    """The marks of what is there more than once; payments are counted by themselves."""
    marks = [*state.tickets.values(), *[text for _, text in state.replies]]
    marks += [each.lines[0][0] for each in state.invoices.values()]
    marks += [domain for domain, _ in state.services.values()]
    return [mark for mark, number in Counter(marks).items() if number > 1]


def _misbooked(state: State) -> list[int]:
    booked = Counter(id for id, _ in state.payments)
    wanted = {id: int(each.status == "paid") for id, each in state.invoices.items()}
    return [id for id in wanted.keys() | booked.keys() if booked[id] != wanted.get(id, 0)]


def _changes(state: State) -> Counter[tuple[str, int]]:
    """What is there, in the words of events."""
    return Counter(
        [
            *[("ticket.opened", id) for id in state.tickets],
            *[("ticket.replied", id) for id, _ in state.replies],
            *[("invoice.created", id) for id in state.invoices],
            *[("invoice.paid", id) for id, _ in state.payments],
        ]
    )


def _bad(attempt: Attempt) -> bool:
    status = attempt.status or 0
    return status >= 500 and not (status == 503 and attempt.retry_after)


def _broken(history: History) -> list[Attempt]:
    """Requests without an answer, none of whose time the server was away."""
    return [
        each
        for each in history.attempts
        if each.status is None
        and not any(each.begun <= end and begin <= each.ended for begin, end in history.downs)
    ]


def _wrong_sums(state: State) -> list[str]:
    paid = dict(state.payments)
    return [
        f"invoice {id}"
        for id, each in state.invoices.items()
        if sum((amount for _, amount in each.lines), Decimal(0)) != each.total
        or paid.get(id, each.total) != each.total
    ] + [f"server {id}" for id, (used, taken) in state.used.items() if used != taken]
