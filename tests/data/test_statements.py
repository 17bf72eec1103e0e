"""How many statements each operation may take, however many rows it answers or writes."""

import importlib
import pkgutil
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Column, Delete, Executable, Insert, Select, Update
from sqlalchemy.sql import operators, visitors
from sqlalchemy.sql.elements import BinaryExpression, ClauseElement

import persistence
from openapi import contract
from persistence.engines.postgresql import PostgreSQLConnection
from persistence.engines.sqlite import SQLite, SQLiteConnection, SQLiteReader, SQLiteWriter
from persistence.statements import compile_all, delete_by_id
from server.request.pipeline import Pipeline
from tests.api.test_auth import call, fresh
from tests.support import factories
from tests.support.contract_client import OPERATIONS, Api

CASES = [
    (operation, dialect)
    for operation in OPERATIONS
    if not operation.public
    for dialect in sorted(operation.audiences)
]

# In the operation's own transaction. A list takes one, its total included, one more where a page is empty.
CEILINGS: dict[tuple[str, str], int] = {
    ("close_ticket", "admin"): 3,
    ("close_ticket", "client"): 3,
    ("create_announcement", "admin"): 1,
    ("create_api_key", "admin"): 1,
    ("create_article", "admin"): 2,
    ("create_client", "admin"): 3,
    ("create_department", "admin"): 1,
    ("create_domain", "admin"): 2,
    ("create_invoice", "admin"): 3,
    ("create_product", "admin"): 2,
    ("create_server", "admin"): 1,
    ("create_service", "admin"): 7,
    ("create_ticket", "admin"): 3,
    ("create_ticket", "client"): 3,
    ("create_token", "admin"): 2,
    ("create_webhook", "admin"): 3,
    ("delete_announcement", "admin"): 1,
    ("delete_article", "admin"): 2,
    ("delete_client", "admin"): 5,
    ("delete_domain", "admin"): 1,
    ("delete_webhook", "admin"): 1,
    ("get_announcement", "admin"): 1,
    ("get_announcement", "client"): 1,
    ("get_article", "admin"): 1,
    ("get_article", "client"): 1,
    ("get_client", "admin"): 1,
    ("get_department", "admin"): 1,
    ("get_domain", "admin"): 1,
    ("get_event", "admin"): 1,
    ("get_invoice", "admin"): 2,
    ("get_invoice", "client"): 2,
    ("get_product", "admin"): 1,
    ("get_profile", "client"): 1,
    ("get_server", "admin"): 1,
    ("get_service", "admin"): 1,
    ("get_service", "client"): 1,
    ("get_settings", "admin"): 1,
    ("get_ticket", "admin"): 2,
    ("get_ticket", "client"): 2,
    ("get_webhook", "admin"): 1,
    ("list_activity", "admin"): 1,
    ("list_announcements", "admin"): 1,
    ("list_announcements", "client"): 1,
    ("list_api_keys", "admin"): 1,
    ("list_clients", "admin"): 1,
    ("list_deliveries", "admin"): 3,
    ("list_departments", "admin"): 1,
    ("list_departments", "client"): 1,
    ("list_domains", "admin"): 1,
    ("list_domains", "client"): 1,
    ("list_events", "admin"): 1,
    ("list_invoices", "admin"): 1,
    ("list_invoices", "client"): 1,
    ("list_products", "admin"): 1,
    ("list_replies", "admin"): 2,
    ("list_replies", "client"): 2,
    ("list_servers", "admin"): 1,
    ("list_services", "admin"): 1,
    ("list_services", "client"): 1,
    ("list_tickets", "admin"): 1,
    ("list_tickets", "client"): 1,
    ("list_tokens", "admin"): 2,
    ("list_webhooks", "admin"): 1,
    ("pay_invoice", "admin"): 5,
    ("recover_webhook", "admin"): 4,
    ("reply_to_ticket", "admin"): 6,
    ("reply_to_ticket", "client"): 6,
    ("resend_delivery", "admin"): 3,
    ("revoke_api_key", "admin"): 1,
    ("revoke_token", "admin"): 2,
    ("rotate_webhook", "admin"): 2,
    ("search_knowledgebase", "admin"): 1,
    ("search_knowledgebase", "client"): 1,
    ("suspend_service", "admin"): 3,
    ("terminate_service", "admin"): 5,
    ("test_webhook", "admin"): 2,
    ("unsuspend_service", "admin"): 2,
    ("update_announcement", "admin"): 1,
    ("update_article", "admin"): 3,
    ("update_client", "admin"): 4,
    ("update_department", "admin"): 1,
    ("update_domain", "admin"): 3,
    ("update_product", "admin"): 1,
    ("update_profile", "client"): 4,
    ("update_server", "admin"): 2,
    ("update_settings", "admin"): 2,
    ("update_webhook", "admin"): 1,
}


# Those that are told of. On PostgreSQL the event is written by the statement that writes the activity.
TOLD = {
    "create_client",
    "create_invoice",
    "create_service",
    "create_ticket",
    "pay_invoice",
    "reply_to_ticket",
    "suspend_service",
    "terminate_service",
}


def ceiling_of(id: str, dialect: str, backend: str) -> int:
    """The most statements that an operation may take; a change takes one more, for the activity."""
    together = backend == "postgresql" and id in TOLD
    return CEILINGS[id, dialect] + (METHODS[id] != "get") - together


METHODS = {operation.id: operation.method for operation in OPERATIONS}


class Counted:
    """The statements of operations, one list for each call; ``execute_many`` is one statement."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.calls: list[list[str]] = []
        self.now: ContextVar[list[str] | None] = ContextVar("statements", default=None)
        kinds: list[Any] = [SQLiteConnection, SQLiteReader, SQLiteWriter, PostgreSQLConnection]
        for kind in kinds:
            for name in {"fetch_all", "execute", "execute_many"} & vars(kind).keys():
                monkeypatch.setattr(kind, name, self._counting(getattr(kind, name)))
        monkeypatch.setattr(Pipeline, "run", self._beginning(Pipeline.run))

    def _counting(self, method: Any) -> Any:
        async def wrapped(connection: Any, statement: Any, *arguments: Any, **params: Any) -> Any:
            ran = self.now.get()
            if ran is not None:
                ran.append(connection.database.compile(statement).sql)
            return await method(connection, statement, *arguments, **params)

        return wrapped

    def _beginning(self, run: Any) -> Any:
        async def wrapped(*arguments: Any, **named: Any) -> Any:
            ran: list[str] = []
            self.calls.append(ran)
            token = self.now.set(ran)
            try:
                return await run(*arguments, **named)
            finally:
                self.now.reset(token)

        return wrapped


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> Counted:
    return Counted(monkeypatch)


def titled(case: Any) -> str:
    return case.id if isinstance(case, contract.Operation) else str(case)


class TestEachOperation:
    def test_every_one_has_a_ceiling(self) -> None:
        assert CEILINGS.keys() == {(operation.id, dialect) for operation, dialect in CASES}

    @pytest.mark.parametrize(("operation", "dialect"), CASES, ids=titled)
    def test_it_takes_no_more_statements_than_its_ceiling(
        self,
        operation: contract.Operation,
        dialect: contract.Audience,
        client: Api,
        admin: Api,
        counted: Counted,
        backend: str,
    ) -> None:
        api = client if dialect == "client" else admin
        id = fresh(operation, admin)
        counted.calls.clear()
        assert call(api, operation, id, dialect).status_code in (200, 201)
        (ran,) = counted.calls
        assert 0 < len(ran) <= ceiling_of(operation.id, dialect, backend), ran


class TestNoNPlusOne:
    def ran(self, counted: Counted, api: Api, path: str, **query: Any) -> int:
        counted.calls.clear()
        assert api.get(path, **query).status_code == 200
        (ran,) = counted.calls
        return len(ran)

    LISTS = tuple(
        each
        for each in OPERATIONS
        if each.id.startswith("list_") and "{id}" not in each.path and "admin" in each.audiences
    )

    @pytest.mark.parametrize("operation", LISTS, ids=titled)
    def test_a_list_of_20_takes_as_many_as_a_list_of_1(
        self, operation: contract.Operation, admin: Api, counted: Counted, backend: str
    ) -> None:
        few, many = (self.ran(counted, admin, operation.path, limit=limit) for limit in (1, 20))
        assert few == many <= ceiling_of(operation.id, "admin", backend)

    def test_a_page_of_deliveries_with_attempts(self, admin: Api, counted: Counted) -> None:
        for _ in range(3):
            factories.delivery(admin)
        path = "/webhooks/1/deliveries"
        assert self.ran(counted, admin, path, limit=1) == self.ran(counted, admin, path, limit=20) <= 3

    def test_a_ticket_with_many_replies(self, admin: Api, counted: Counted) -> None:
        id = factories.ticket(admin)
        few = self.ran(counted, admin, f"/tickets/{id}")
        for _ in range(10):
            admin.post(f"/tickets/{id}/reply", {"message": "More."})
        assert self.ran(counted, admin, f"/tickets/{id}") == few <= 2

    def test_an_invoice_of_20_lines(self, admin: Api, counted: Counted, backend: str) -> None:
        counts = []
        for number in (1, 20):
            counted.calls.clear()
            factories.invoice(admin, items=[{"description": "Line", "amount": "1.00"}] * number)
            counts += [len(ran) for ran in counted.calls]
        assert counts[0] == counts[1] <= ceiling_of("create_invoice", "admin", backend)


# Statements without a key that write one row, and why.
SINGLE = {"persistence.events.INSERT": "the order of events is locked by its condition"}


def reaches_many(statement: object) -> bool:
    """Whether a write names no key, and no limit either."""
    writes = isinstance(statement, Update | Delete) or (
        isinstance(statement, Insert) and statement.select is not None
    )
    if not writes:
        return False
    parts = list(visitors.iterate(statement))  # type: ignore[arg-type]  # a statement, as was just asked
    equal = [each for each in parts if isinstance(each, BinaryExpression) and each.operator is operators.eq]
    sides = [side for each in equal for side in (each.left, each.right) if isinstance(side, Column)]
    limited = any(isinstance(each, Select) and each._limit_clause is not None for each in parts)
    return not limited and not any(each.primary_key or each.unique for each in sides)


class TestSlowWrites:
    def test_a_write_that_may_reach_many_rows_leaves_the_event_loop(self) -> None:
        found = {
            f"{name}.{each}": statement
            for _, name, _ in pkgutil.walk_packages(persistence.__path__, "persistence.")
            if ".migrations" not in name
            for each, statement in vars(importlib.import_module(name)).items()
            if reaches_many(statement)
        }
        assert len(found) >= 5
        fast = {name for name, each in found.items() if not each.get_execution_options().get("slow")}
        assert fast == set(SINGLE)

    def test_so_does_a_deletion_that_cascades(self) -> None:
        from persistence.announcements import Announcement
        from persistence.webhooks import Webhook

        slow = [
            delete_by_id(table, False).get_execution_options().get("slow")
            for table in (Webhook, Announcement)
        ]
        assert slow == [True, False]


class TestLoading:
    def test_no_constant_statement_is_left_for_the_first_request(self, tmp_path: Path) -> None:
        """The server compiles all of them in a thread, since one alone may take ten milliseconds."""
        names = [each.name for each in pkgutil.iter_modules(persistence.__path__, "persistence.")]
        modules = [importlib.import_module(each) for each in names]
        database = SQLite(str(tmp_path / "none.db"))
        compile_all(database)
        missing = [
            f"{module.__name__}.{name}"
            for module in modules
            for name, each in vars(module).items()
            if isinstance(each, Executable) and isinstance(each, ClauseElement)
            if each not in database._prepared
        ]
        assert len(database._prepared) > 100
        assert missing == []
