"""Every list of the contract is walked while its rows are added, changed and deleted."""

import random
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from secrets import token_hex
from typing import Any

import pytest

from openapi import contract
from tests.api.test_paging import BELOW, MORE
from tests.support import factories
from tests.support.contract_client import DOCUMENT, OPERATIONS, Api

Leave = Callable[[Api, int], Any]


@dataclass(frozen=True)
class Case:
    """A list with some filters, how it gets a row, and how a row leaves it."""

    operation: str
    add: Callable[[Api], Any]
    leave: Leave | None = None
    query: dict[str, Any] = field(default_factory=dict)
    rows: int = 0
    """How many rows it needs that it does not have from the beginning."""

    def __str__(self) -> str:
        return "-".join([self.operation, *self.query])


def deletes(path: str) -> Leave:
    return lambda admin, row: admin.request("DELETE", path.format(row))


def posts(path: str) -> Leave:
    return lambda admin, row: admin.post(path.format(row))


def puts(path: str, **body: Any) -> Leave:
    return lambda admin, row: admin.put(path.format(row), body)


WORD = f"w{token_hex(6)}"


def article(admin: Api) -> None:
    """Write an article that the search finds, in its title or in its content, once or often."""
    chance = random.Random(token_hex(4))
    title = f"{WORD} {chance.choice(['', 'more', 'in a much longer title than the others'])}".strip()
    content = f"{WORD} " * chance.randint(1, 30)
    factories.article(admin, title=chance.choice([title, "Test"]), content=content)
    # What the search does not find must not move what it finds.
    factories.article(admin, content="Nothing. " * chance.randint(1, 200))


def person(admin: Api) -> None:
    factories.client(admin, company=WORD, phone=PHONE)


def dated(admin: Api) -> None:
    factories.invoice(admin, due_date=random.choice(["2044-02-01", "2044-02-15", "2044-02-29"]))


def asked(admin: Api) -> None:
    body = {"client_id": 42, "department_id": 2, "subject": "Asked", "message": f"Where is {WORD}?"}
    factories.made(admin.post("/tickets", body))


PHONE = f"+49 30 {random.SystemRandom().randrange(10**7, 10**8)}"
DOMAIN = f"{WORD}.example.com"

CASES = [
    Case("list_activity", factories.department, rows=12),
    Case("list_activity", factories.department, query={"operation": "create_department"}, rows=12),
    Case("list_announcements", factories.announcement, deletes("/announcements/{}")),
    Case("list_api_keys", factories.api_key, deletes("/api-keys/{}"), rows=12),
    Case("list_clients", factories.client, deletes("/clients/{}"), {"q": "robin baker"}, rows=12),
    Case("list_clients", person, puts("/clients/{}", company="Other"), {"q": WORD}, rows=12),
    Case("list_clients", person, puts("/clients/{}", phone="112"), {"phone": PHONE}, rows=12),
    Case("list_deliveries", factories.delivery, rows=12),
    Case("list_departments", factories.department, rows=12),
    Case("list_domains", factories.domain, deletes("/domains/{}")),
    Case("list_domains", factories.domain, puts("/domains/{}", status="cancelled"), {"status": "active"}),
    Case("list_events", factories.event),
    Case("list_invoices", factories.invoice, posts("/invoices/{}/pay"), {"status": "unpaid"}),
    Case(
        "list_invoices",
        dated,
        posts("/invoices/{}/pay"),
        {"due_from": "2044-02-01", "due_to": "2044-02-29", "status": "unpaid"},
        rows=12,
    ),
    Case("list_products", factories.product, rows=12),
    Case("list_replies", factories.reply, rows=12),
    Case("list_servers", factories.server, rows=12),
    Case(
        "list_services",
        factories.service,
        posts("/services/{}/terminate"),
        {"status": "active", "product_id": 2},
        rows=12,
    ),
    Case("list_tickets", factories.ticket, posts("/tickets/{}/close"), {"status": "open"}),
    Case("list_tickets", asked, posts("/tickets/{}/close"), {"q": WORD, "status": "open"}, rows=12),
    Case("list_tokens", factories.token, deletes("/clients/42/tokens/{}"), rows=12),
    Case("list_webhooks", factories.webhook, deletes("/webhooks/{}"), rows=12),
    Case("search_knowledgebase", factories.article, deletes("/knowledgebase/{}")),
    Case("search_knowledgebase", article, deletes("/knowledgebase/{}"), {"q": WORD}, rows=16),
    Case(
        "search_knowledgebase",
        article,
        puts("/knowledgebase/{}", title="Test", content="Else."),
        {"q": WORD},
        rows=16,
    ),
    Case(
        "search_knowledgebase",
        article,
        puts("/knowledgebase/{}", category=10),
        {"q": WORD, "category": 9},
        rows=16,
    ),
]


@pytest.fixture(autouse=True)
def few_webhooks(admin: Api) -> Iterator[None]:
    yield from factories.webhooks_for_a_while(admin)


def walk(
    api: Api, path: str, query: dict[str, Any], limit: int, between: Callable[[list[int]], None]
) -> list[int]:
    """The ids that the pages tell, one after the other; between them something happens."""
    told: list[int] = []
    answer = api.get(path, **query, limit=limit)
    while True:
        assert answer.status_code == 200, answer.text
        told += [row["id"] for row in answer.json()["data"]]
        link = re.fullmatch(r'</api/v1(.+)>; rel="next"', answer.headers.get("Link", ""))
        if link is None:
            return told
        between(told)
        answer = api.get(link[1])


def test_every_list_is_walked() -> None:
    lists = {
        operation.id
        for operation in OPERATIONS
        for each in operation.spec.get("parameters", ())
        if contract.deref(DOCUMENT, each)["name"] == "after"
    }
    assert {each.operation for each in CASES} == lists == set(MORE)


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_no_row_that_stays_is_missed_or_told_twice(admin: Api, case: Case, seed: int) -> None:
    operation = next(each for each in OPERATIONS if each.id == case.operation)
    path = operation.path.replace("{id}", BELOW.get(case.operation, ""))
    chance = random.Random(seed)
    for _ in range(case.rows):
        case.add(admin)
    before = walk(admin, path, case.query, 100, lambda _: None)
    assert len(before) == len(set(before)) >= 4
    left: set[int] = set()

    def leave(id: int) -> None:
        assert case.leave is not None
        # Some are held by others, such as a client by its services; then it stays.
        if case.leave(admin, id).status_code in (200, 201):
            left.add(id)

    def between(told: list[int]) -> None:
        if case.leave and told[-1] not in left:
            # The row that a cursor could lean on.
            leave(told[-1])
        for _ in range(chance.randint(0, 2)):
            ahead = [id for id in before if id not in told and id not in left]
            if case.leave and ahead and chance.random() < 0.5:
                leave(chance.choice(ahead))
            else:
                case.add(admin)

    limit = min(100, max(3, len(before) // 6))
    told = walk(admin, path, case.query, limit, between)
    assert len(told) == len(set(told))
    assert set(before) - left <= set(told)
    assert bool(case.leave) is bool(left)
