"""The contract only grows, unless its version says otherwise; every kind of break is noticed."""

import copy
from collections.abc import Callable
from pathlib import PurePosixPath
from typing import Any

import httpx
import pytest

from openapi import contract, loading, projection
from persistence import demo
from tests.contract import growth, rules
from tests.contract.growth import CHANGELOG, MARKS, Change, compare
from tests.support.live_server import Running, assembled, serving

DOCUMENT = loading.bundle()
Damage = Callable[[Any], Any]


def _schema(name: str, **values: Any) -> Damage:
    return lambda document: document["components"]["schemas"][name].update(values)


def _members(name: str, **values: Any) -> Damage:
    return lambda document: document["components"]["schemas"][name]["properties"].update(values)


def _at(path: str, method: str, work: Damage) -> Damage:
    return lambda document: work(document["paths"][path][method])


def _of(name: str, work: Damage, kind: str = "schemas") -> Damage:
    return lambda document: work(document["components"][kind][name])


def _deprecation() -> dict[str, Any]:
    return {"deprecated": True, "x-deprecated": "2027-01-01", "x-sunset": "2027-07-01"}


TEXT = {"type": "string", "maxLength": 9}
QUERY = {"in": "query", "name": "x", "schema": TEXT}

# What is done to the contract, and what is told of it.
BREAKS: list[tuple[Damage, str]] = [
    (lambda document: document["paths"].pop("/domains"), "Operation `list_domains` is gone."),
    (lambda document: document["paths"]["/invoices"].pop("post"), "Operation `create_invoice` is gone."),
    (lambda document: document["x-webhooks"].pop("invoice.paid"), "Webhook `receive_invoice_paid` is gone."),
    (lambda document: document["servers"][0].update(url="/api/v2"), "The address below which everything"),
    (_at("/domains", "get", lambda node: node.update(operationId="get_domains")), "is called `get_domains`"),
    (_at("/domains", "get", lambda node: node["security"].pop()), "admits fewer credentials"),
    (_at("/status", "get", lambda node: node.update(security=[{"adminKey": []}])), "admits fewer"),
    (_at("/invoices", "get", lambda node: node.update({"x-scope": "bills:read"})), "the scope bills:read"),
    (
        _at("/invoices", "get", lambda node: node["responses"].pop("429")),
        "`list_invoices` answers 429 no more",
    ),
    (
        _at("/invoices", "get", lambda node: node["responses"].update({"202": node["responses"]["200"]})),
        "may answer 202",
    ),
    (_at("/invoices", "get", lambda node: node["parameters"].pop(0)), "the query parameter page is gone"),
    (
        _at("/invoices", "get", lambda node: node["parameters"].append({**QUERY, "required": True})),
        "parameter x",
    ),
    (_of("Limit", lambda node: node.update(required=True), "parameters"), "parameter limit is required"),
    (_at("/invoices", "post", lambda node: node.pop("requestBody")), "the body is gone"),
    (
        _at("/services/{id}/suspend", "post", lambda node: node["requestBody"].update(required=True)),
        "the body is required",
    ),
    (
        _of("NotFound", lambda node: node["headers"].pop("X-Request-Id"), "responses"),
        "no header X-Request-Id",
    ),
    (_of("ETag", lambda node: node.update(required=False), "headers"), "the header ETag may be absent"),
    (_of("AdminTicket", lambda node: node["properties"].pop("subject")), "has no member subject"),
    (
        _of("AdminTicket", lambda node: node["required"].remove("subject")),
        "AdminTicket`.subject may be absent",
    ),
    (_members("AdminTicket", colour=TEXT), "has a new member colour"),
    (_members("InvoicePaidEvent", colour=TEXT), "has a new member colour"),
    (_of("InvoiceInput", lambda node: node["properties"].pop("items")), "has no member items"),
    (
        _of(
            "InvoiceInput",
            lambda node: (node["properties"].update(colour=TEXT), node["required"].append("colour")),
        ),
        "a new required member colour",
    ),
    (_of("ServiceInput", lambda node: node["required"].append("domain")), "ServiceInput`.domain is required"),
    (_schema("InvoiceStatus", enum=["unpaid", "overdue"]), "has no value paid"),
    (_of("TicketStatus", lambda node: node["enum"].append("spam")), "has a new value spam"),
    (_of("BillingCycle", lambda node: node["enum"].remove("monthly")), "has no value monthly"),
    (_of("BillingCycle", lambda node: node["enum"].append("weekly")), "has a new value weekly"),
    (_schema("PageLimit", maximum=50), "maximum is 50, was 100"),
    (_schema("PageLimit", minimum=2), "minimum is 2, was 1"),
    (_schema("TicketSubject", maxLength=5), "maxLength is 5"),
    (_schema("TicketSubject", maxLength=100000), "maxLength is 100000"),
    (_schema("Money", maxLength=99), "maxLength is 99"),
    (_schema("Money", pattern="^x$"), "the pattern has changed"),
    (_schema("TicketSubject", **{"not": {"pattern": "x"}}), "what it must not contain has changed"),
    (_schema("Money", type="number"), "type is number, was string"),
    (_schema("Id", format="int32"), "format is int32, was int64"),
    (_schema("MoneyInput", multipleOf=1), "multipleOf is 1"),
    (_schema("InvoiceNumber", nullable=True), "may be null"),
    (_of("TicketInput", lambda node: node["oneOf"].pop()), "is no `AdminTicketInput` any more"),
    (
        _of(
            "InvoiceInput",
            lambda node: node["properties"]["client_id"].update({"$ref": "#/components/schemas/Count"}),
        ),
        "`Id` is called `Count`",
    ),
    (_schema("AdminTicket", additionalProperties=True), "`AdminTicket` is open"),
    (
        _at(
            "/docs",
            "get",
            lambda node: node["responses"]["200"]["content"].update(
                {"text/plain": node["responses"]["200"]["content"].pop("text/html")}
            ),
        ),
        "text/html is gone",
    ),
]
GROWTH: list[tuple[Damage, str]] = [
    (
        lambda document: document["paths"].update(
            {"/new": {"get": {**document["paths"]["/domains"]["get"], "operationId": "list_new"}}}
        ),
        "Operation `list_new` is new.",
    ),
    (_at("/invoices", "get", lambda node: node["parameters"].append(QUERY)), "a new query parameter x"),
    (_members("InvoiceInput", colour=TEXT), "has a new member colour"),
    (
        _of("ServiceInput", lambda node: node["required"].remove("billing_cycle")),
        "billing_cycle may be absent",
    ),
    (_of("Currency", lambda node: node["enum"].append("XXX")), "has a new value XXX"),
    (_of("ErrorCode", lambda node: node["enum"].append("TEAPOT")), "has a new value TEAPOT"),
    (_schema("SearchText", maxLength=9999), "maxLength is 9999"),
    (
        _at("/invoices", "get", lambda node: node["responses"].update({"410": node["responses"]["401"]})),
        "may answer 410",
    ),
    (_at("/domains", "get", lambda node: node.update(_deprecation())), "is deprecated"),
]


def changed(damage: Damage) -> tuple[list[Change], contract.Document]:
    new = copy.deepcopy(DOCUMENT)
    damage(new)
    return compare(DOCUMENT, new), new


class TestComparison:
    def test_what_is_the_same_has_no_changes(self) -> None:
        assert compare(DOCUMENT, copy.deepcopy(DOCUMENT)) == []

    @pytest.mark.parametrize(("damage", "told"), BREAKS, ids=[told for _, told in BREAKS])
    def test_a_break_is_told_and_needs_a_new_version(self, damage: Damage, told: str) -> None:
        found, new = changed(damage)
        assert any(told in each.text for each in found if each.breaks), found
        assert growth.unannounced(DOCUMENT, new)
        new["info"]["version"] = f"{growth.number(DOCUMENT)[0] + 1}.0.0"
        assert growth.unannounced(DOCUMENT, new) == []

    @pytest.mark.parametrize(("damage", "told"), GROWTH, ids=[told for _, told in GROWTH])
    def test_what_only_grows_is_told_and_needs_none(self, damage: Damage, told: str) -> None:
        found, new = changed(damage)
        assert any(told in each.text for each in found), found
        assert [each for each in found if each.breaks] == []
        assert growth.unannounced(DOCUMENT, new) == []

    def test_a_version_does_not_go_back(self) -> None:
        _, new = changed(lambda document: document["info"].update(version="0.9.0"))
        assert growth.unannounced(DOCUMENT, new) == ["info.version is 0.9.0, after 1.0.0."]


class TestPublished:
    def test_the_version_announces_whatever_breaks(self) -> None:
        breaks = growth.unannounced(growth.published(), DOCUMENT)
        assert breaks == [], "give info.version a new first number, or take these back"

    def test_the_changelog_tells_of_every_change(self) -> None:
        text = CHANGELOG.read_text()
        told = growth.section(growth.published(), DOCUMENT)
        assert growth.written(text, told) == text, "run `python -m tests.contract.growth changelog`"
        assert [text.count(mark) for mark in MARKS] == [1, 1]

    def test_its_section_names_what_breaks(self) -> None:
        _, new = changed(lambda document: document["paths"].pop("/domains"))
        assert "- **Breaks.** Operation `list_domains` is gone.\n" in growth.section(DOCUMENT, new)


class TestDeprecated:
    @pytest.fixture
    def document(self, monkeypatch: pytest.MonkeyPatch) -> contract.Document:
        planted = copy.deepcopy(loading._read(PurePosixPath("paths/tickets.yaml")))
        planted["collection"]["get"] |= _deprecation()
        read = loading._read
        monkeypatch.setattr(
            loading, "_read", lambda file: planted if str(file) == "paths/tickets.yaml" else read(file)
        )
        return loading.bundle()

    def test_the_contract_promises_both_headers_on_every_answer(self, document: contract.Document) -> None:
        assert list(rules.what_is_deprecated_says_since_when_and_until(document)) == []
        assert growth.unannounced(DOCUMENT, document) == []
        for audience in contract.AUDIENCES:
            operations = contract.operations(projection.project(document, audience))
            (found,) = [each for each in operations if each.spec.get("deprecated")]
            assert found.id == "list_tickets"
        shared = document["components"]["responses"]
        assert "Sunset" in shared["DeprecatedNotAcceptable"]["headers"]
        assert "Sunset" not in shared["NotAcceptable"]["headers"]

    def test_the_server_answers_them_also_when_it_refuses(
        self, server: Running, document: contract.Document, database_url: str
    ) -> None:
        mine = {"Authorization": f"Bearer {demo.CLIENT_TOKEN}"}
        with (
            serving(assembled(database_url, document=document)) as running,
            httpx.Client(base_url=running.url, timeout=30) as api,
        ):
            good, nobody = api.get("/tickets", headers=mine), api.get("/tickets")
            wrong, other = api.get("/tickets?x=1", headers=mine), api.get("/departments", headers=mine)
        assert (good.status_code, nobody.status_code, wrong.status_code) == (200, 401, 400)
        for answer in (good, nobody, wrong):
            assert answer.headers["Deprecation"] == "@1798761600"
            assert answer.headers["Sunset"] == "Thu, 01 Jul 2027 00:00:00 GMT"
        assert not {"deprecation", "sunset"} & other.headers.keys()
