"""The contract keeps its rules, each rule bites, and what is published is what was judged."""

import copy
import json
import re
from collections.abc import Callable
from pathlib import PurePosixPath
from typing import Any

import pytest
import yaml
from openapi_spec_validator import validate

from openapi import contract, loading, projection, rendering
from tests.contract import rules
from tests.contract.rules import RULES
from webhooks import signing

DOCUMENT = loading.bundle()
MODERN = projection.to_openapi_31(DOCUMENT)
VERSIONS: dict[contract.Version, contract.Document] = {"3.0": DOCUMENT, "3.1": MODERN}


def _path(path: str, method: str) -> Callable[[Any], Any]:
    return lambda document: document["paths"][path][method]


def _webhook(name: str) -> Callable[[Any], Any]:
    return lambda document: document["x-webhooks"][name]["post"]


def _schema(name: str) -> Callable[[Any], Any]:
    return lambda document: document["components"]["schemas"][name]


DEPRECATION = {"deprecated": True, "x-deprecated": "2027-01-01", "x-sunset": "2027-07-01"}

# For each rule a way to break it: where, and what is done there.
BREAKS: dict[str, list[tuple[Callable[[Any], Any], Callable[[Any], Any]]]] = {
    "objects_are_closed": [
        (_schema("AdminService"), lambda node: node.pop("additionalProperties")),
        (_schema("TicketReplyInput"), lambda node: node.update(additionalProperties=True)),
        (_schema("InvoicePaidEvent"), lambda node: node.pop("additionalProperties")),
    ],
    "objects_are_named": [
        (_schema("AdminServiceResponse"), lambda node: node["properties"].update(data={"type": "object"})),
    ],
    "enums_are_named": [
        (
            _schema("InvoicePaidEvent"),
            lambda node: node["properties"].update(event={"type": "string", "enum": ["invoice.paid"]}),
        ),
        (_schema("Success"), lambda node: node.update(enum=[True])),
    ],
    "one_name_is_one_thing": [
        (lambda document: document["components"]["schemas"], lambda node: node.update(ServerId=node["Id"])),
        (lambda document: document["components"]["headers"], lambda node: node.update(Money=node["ETag"])),
    ],
    "nothing_is_a_choice_between_objects": [
        (
            _schema("EventData"),
            lambda node: node.update(
                oneOf=[
                    {"$ref": f"#/components/schemas/{name}"} for name in ("AdminService", "InvoiceEventData")
                ]
            ),
        ),
        (
            _schema("MoneyInput"),
            lambda node: node.update(oneOf=[{"$ref": "#/components/schemas/AdminService"}]),
        ),
    ],
    "passwords_are_write_only": [
        (_schema("Password"), lambda node: node.pop("writeOnly")),
        (_schema("Password"), lambda node: node.pop("format")),
    ],
    "info_says_whose_it_is": [
        (lambda document: document["info"], lambda node: node.pop("contact")),
        (lambda document: document["info"], lambda node: node.pop("license")),
        (lambda document: document["info"], lambda node: node["contact"].update(url="/docs")),
        (lambda document: document, lambda node: node.pop("externalDocs")),
        (lambda document: document, lambda node: node["externalDocs"].update(url="/docs")),
    ],
    "required_members_are_defined": [
        (_schema("AdminTicket"), lambda node: node["properties"].pop("subject")),
        (_schema("InvoiceInput"), lambda node: node["required"].append("nothing")),
    ],
    "everything_is_bounded": [
        (_schema("TicketSubject"), lambda node: node.pop("maxLength")),
        (_schema("Id"), lambda node: node.pop("maximum")),
        (_schema("InvoiceLineList"), lambda node: node.pop("maxItems")),
        (_schema("MoneyInput"), lambda node: node.update(exclusiveMaximum=True)),
    ],
    "formats_of_dates_stand_alone": [
        (_schema("InstantInput"), lambda node: node.update(pattern="Z$")),
        (_schema("AdminPaidAt"), lambda node: node.update(maxLength=20)),
        (_schema("CalendarDate"), lambda node: node.update(minLength=10)),
    ],
    "decimals_have_no_multiple": [
        (_schema("MoneyInput"), lambda node: node.update(multipleOf=0.01)),
    ],
    "every_text_of_input_says_what_it_may_contain": [
        (_schema("TicketSubject"), lambda node: node.pop("not")),
        (_schema("TicketMessage"), lambda node: node["not"].update(pattern="[\\x1B]")),
        (_schema("SearchText"), lambda node: node.pop("not")),
        (_schema("CountryCodeInput"), lambda node: node.pop("pattern")),
        (_schema("InstantInput"), lambda node: node.pop("format")),
    ],
    "every_value_of_an_enum_has_a_name": [
        (_schema("CountryCode"), lambda node: node["enum"].append("")),
        (_schema("Scope"), lambda node: node.pop("x-enum-varnames")),
        (_schema("TicketPriorityId"), lambda node: node.pop("x-enum-varnames")),
        (_schema("EventName"), lambda node: node["x-enum-varnames"].pop()),
        (_schema("TicketPriorityId"), lambda node: node.update({"x-enum-varnames": ["A", "A", "B"]})),
    ],
    "only_scalars_without_an_enum_are_nullable": [
        (_schema("ServiceStatus"), lambda node: node.update(nullable=True)),
        (_schema("AdminTicket"), lambda node: node.update(nullable=True)),
    ],
    "what_is_admitted_is_not_too_large": [
        (_schema("ArticleContent"), lambda node: node.update(maxLength=90_000)),
        (_schema("InvoiceInput"), lambda node: node["properties"]["items"].update(maxItems=1_000)),
    ],
    "no_answer_is_too_large": [
        (_schema("AdminTicket"), lambda node: node["properties"]["replies"].update(maxItems=100)),
        (_schema("ClientServiceList"), lambda node: node["properties"]["data"].update(maxItems=10_000)),
    ],
    "names_are_right": [
        (
            lambda document: document["components"]["schemas"],
            lambda node: node.update(Client={"type": "string"}),
        ),
        (_schema("Profile"), lambda node: node["properties"].update(firstName={"type": "string"})),
    ],
    "everything_is_described": [
        (_path("/tickets", "get"), lambda node: node.pop("summary")),
        (_path("/tickets", "get"), lambda node: node.update(operationId="fetch_tickets")),
        (_path("/tickets", "get"), lambda node: node.update(operationId="get_ticket")),
        (_webhook("invoice.paid"), lambda node: node.pop("summary")),
        (_webhook("invoice.paid"), lambda node: node.update(operationId="pay_invoice")),
        (_schema("Id"), lambda node: node.pop("description")),
    ],
    "examples_are_there_and_valid": [
        (_schema("Money"), lambda node: node.pop("example")),
        (_schema("Money"), lambda node: node.update(example="29.999")),
        (_schema("AdminService"), lambda node: node["example"].pop("status")),
        (
            lambda document: _webhook("invoice.paid")(document)["requestBody"]["content"]["application/json"],
            lambda node: node.update(example={"event": "invoice.paid"}),
        ),
        (
            lambda document: document["components"]["responses"]["NotFound"]["content"]["application/json"],
            lambda node: node["examples"]["client"].update(value={"error": 1}),
        ),
    ],
    "nothing_is_of_the_other_version": [
        (lambda document: document, lambda node: node.pop("x-webhooks")),
        (lambda document: document, lambda node: node.update(webhooks={})),
        (_schema("Id"), lambda node: node.update(examples=[1])),
        (_schema("ClientPaidAt"), lambda node: node.update(type=["string", "null"])),
    ],
    "what_may_grow_says_so": [
        (_schema("Currency"), lambda node: node.pop("x-may-grow")),
        (_schema("Currency"), lambda node: node.update(description="A currency.")),
        (_schema("Id"), lambda node: node.update({"x-may-grow": True, "description": "The list may grow."})),
        (lambda document: document["components"]["schemas"], lambda node: node.pop("ErrorCode")),
    ],
    "what_is_deprecated_says_since_when_and_until": [
        (_path("/invoices", "get"), lambda node: node.update({"x-sunset": "2027-07-01"})),
        (_path("/invoices", "get"), lambda node: node.update(deprecated=True)),
        (_path("/invoices", "get"), lambda node: node.update(DEPRECATION)),
        (_path("/invoices", "get"), lambda node: node.update(DEPRECATION | {"x-sunset": "2026-01-01"})),
        (_path("/invoices", "get"), lambda node: node.update(DEPRECATION | {"x-sunset": "soon"})),
    ],
    "what_is_shown_can_be_written": [
        (_schema("ClientAccount"), lambda node: node["properties"].update(tax_id={"type": "string"})),
        (_schema("Profile"), lambda node: node["properties"].update(tax_id={"type": "string"})),
        (_schema("ProfileInput"), lambda node: node["properties"].update(id={"type": "integer"})),
    ],
    "operations_and_functions_match": [
        (_path("/invoices", "get"), lambda node: node.update(operationId="list_bills")),
    ],
    "operations_list_what_they_can_emit": [
        (_path("/invoices/{id}", "get"), lambda node: node["responses"].pop("404")),
        (_path("/invoices/{id}/pay", "post"), lambda node: node["responses"].pop("409")),
        (_path("/tickets", "post"), lambda node: node["responses"].pop("422")),
        (_path("/settings", "put"), lambda node: node["responses"].pop("412")),
        (_path("/settings", "put"), lambda node: node.pop("parameters")),
        (_path("/services", "get"), lambda node: node["responses"].pop("401")),
        (_path("/status", "get"), lambda node: node["responses"].update({"418": {"description": "A pot."}})),
    ],
    "every_answer_has_a_request_id": [
        (lambda document: document["components"]["responses"]["NotFound"], lambda node: node.pop("headers")),
        (
            lambda document: document["components"]["responses"]["ServiceUnavailable"]["headers"],
            lambda node: node.pop("Retry-After"),
        ),
    ],
    "enums_are_the_lifecycles": [
        (_schema("TicketStatus"), lambda node: node["enum"].append("spam")),
        (_schema("InvoiceStatus"), lambda node: node["enum"].remove("overdue")),
    ],
    "error_codes_are_the_servers": [
        (_schema("ErrorCode"), lambda node: node["enum"].append("TEAPOT")),
    ],
    "shared_operations_have_both_branches": [
        (_schema("TicketAnswer"), lambda node: node["oneOf"].pop()),
        (_schema("ErrorAnswer"), lambda node: node["oneOf"].pop(0)),
    ],
    "scopes_are_said": [
        (_path("/services", "post"), lambda node: node.pop("x-scope")),
        (_path("/services", "post"), lambda node: node.update({"x-scope": "services:read"})),
        (_path("/services", "post"), lambda node: node.update(description="Provisions a service.")),
        (
            _path("/services", "post"),
            lambda node: node.update(description=f"It has the scope `services:write`. {node['description']}"),
        ),
        (_path("/profile", "get"), lambda node: node.update({"x-scope": "profile:read"})),
    ],
    "the_scopes_are_those_of_the_operations": [
        (_schema("Scope"), lambda node: node["enum"].append("weather:read")),
        (_schema("Scope"), lambda node: node["enum"].remove("tickets:read")),
        (
            lambda document: document["components"]["securitySchemes"]["adminKey"],
            lambda node: node.update(
                description=node["description"].replace("| `tickets:read`", "| `tickets`")
            ),
        ),
    ],
    "a_token_needs_the_scopes_of_what_it_may_do": [
        (_path("/domains", "get"), lambda node: node["security"].pop(0) and node["security"].pop(0)),
        (_path("/invoices/{id}/pay", "post"), lambda node: node["security"].append({"clientToken": []})),
        (_path("/clients/{id}/tokens", "post"), lambda node: node.update(description="Makes a token.")),
    ],
    "a_scope_reads_the_noun_of_each_event": [
        (_schema("EventName"), lambda node: node["enum"].append("weather.changed")),
        (_schema("Scope"), lambda node: node["enum"].remove("tickets:read")),
    ],
    "webhooks_are_the_events": [
        (lambda document: document["x-webhooks"], lambda node: node.pop("invoice.paid")),
        (_schema("EventName"), lambda node: node["enum"].append("invoice.lost")),
        (_webhook("invoice.paid"), lambda node: node.update(operationId="receive_invoice")),
        (_webhook("invoice.paid"), lambda node: node.update(security=[{"adminKey": []}])),
        (_webhook("invoice.paid"), lambda node: node["responses"].pop("2XX")),
        (_webhook("invoice.paid"), lambda node: node["parameters"].pop()),
        (_schema("InvoicePaidEvent"), lambda node: node["required"].remove("signature")),
        (_schema("InvoicePaidEvent"), lambda node: node["properties"].pop("timestamp")),
        (_schema("InvoicePaidEventName"), lambda node: node["enum"].append("x")),
        (_schema("EventData"), lambda node: node.update({"x-max-bytes": 1000})),
        (_schema("EventData"), lambda node: node.update(maxProperties=3)),
    ],
    "links_have_bodies_that_generators_read": [
        (
            _path("/clients", "post"),
            lambda node: node["responses"]["201"]["links"]["GetClient"].update(requestBody={}),
        ),
    ],
    "links_give_the_path_its_parameters": [
        (
            _path("/clients", "post"),
            lambda node: node["responses"]["201"]["links"]["GetClient"].update(
                parameters={"id": "$response.body#/data/id"}
            ),
        ),
        (
            _path("/clients", "post"),
            lambda node: node["responses"]["201"]["links"]["GetClient"].pop("parameters"),
        ),
    ],
    "what_has_a_version_can_be_asked_for_if_it_changed": [
        (_path("/settings", "get"), lambda node: node.pop("parameters")),
        (_path("/settings", "get"), lambda node: node["responses"].pop("304")),
        (_path("/settings", "get"), lambda node: node["responses"]["200"]["headers"].pop("ETag")),
        (
            _path("/settings", "put"),
            lambda node: node["parameters"].append({"$ref": "#/components/parameters/IfNoneMatch"}),
        ),
    ],
    "links_lead_somewhere": [
        (
            _path("/services/{id}/suspend", "post"),
            lambda node: node["responses"]["200"].update(
                links={"GetService": {"operationId": "get_service"}}
            ),
        ),
        (_path("/services", "post"), lambda node: node["responses"]["201"].pop("links")),
        (
            _path("/services", "post"),
            lambda node: node["responses"]["201"]["links"]["GetService"].update(operationId="get_nothing"),
        ),
    ],
}


class TestRules:
    @pytest.mark.parametrize("version", contract.VERSIONS)
    @pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
    def test_the_contract_keeps_it(self, rule: rules.Rule, version: contract.Version) -> None:
        assert list(rule(VERSIONS[version])) == []

    @pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
    def test_it_bites_on_every_broken_copy(self, rule: rules.Rule) -> None:
        breaks = BREAKS[rule.__name__]
        assert breaks
        for place, damage in breaks:
            broken = copy.deepcopy(DOCUMENT)
            damage(place(broken))
            assert list(rule(broken)), f"a break of {rule.__name__} passes"

    def test_there_is_a_break_for_each_rule(self) -> None:
        assert set(BREAKS) == {rule.__name__ for rule in RULES}


def read_yaml(text: bytes) -> Any:
    return yaml.load(text, Loader=yaml.CSafeLoader)


class TestBundle:
    @pytest.mark.parametrize("audience", [None, "client", "admin"])
    def test_it_and_its_projections_are_valid_openapi(self, audience: contract.Audience | None) -> None:
        validate(projection.project(DOCUMENT, audience) if audience else DOCUMENT)

    def test_nothing_in_the_files_is_left_over(self) -> None:
        used = {name for kind in DOCUMENT["components"].values() for name in kind}
        # What one audience alone can be answered is in the bundle under that audience's name.
        used |= {name.removeprefix("Admin") for name in DOCUMENT["components"]["responses"]}
        # What answers of deprecated operations have, of which there may be none.
        used |= {"Deprecation", "Sunset", "DeprecationSecond", "HttpDate"}
        files = [PurePosixPath(f"{kind}.yaml") for kind in ("headers", "parameters", "responses")]
        files += [PurePosixPath("schemas", each.name) for each in (contract.ROOT / "schemas").glob("*.yaml")]
        assert len(files) > 5
        for file in files:
            left = {name for name in loading._read(file) if name not in used}
            assert not left, f"openapi/{file}: {left}"

    def test_what_is_published_reads_back_as_the_bundle(self) -> None:
        assert read_yaml(rendering.published("json").body) == DOCUMENT
        assert read_yaml(rendering.published("yaml").body) == DOCUMENT
        assert json.loads(rendering.published("json", version="3.1").body) == MODERN
        assert read_yaml(rendering.published("yaml", version="3.1").body) == MODERN

    def test_each_server_names_its_environments(self) -> None:
        """OWASP asks for it (API9:2023), so that nobody takes one for another."""
        assert all("production" in each["description"] for each in DOCUMENT["servers"])

    def test_the_renditions_are_stable(self) -> None:
        assert rendering.render(loading.bundle(), "json") == rendering.render(loading.bundle(), "json")


class TestModern:
    @pytest.mark.parametrize("audience", [None, "client", "admin"])
    def test_it_and_its_projections_are_valid_openapi(self, audience: contract.Audience | None) -> None:
        document = projection.to_openapi_31(projection.project(DOCUMENT, audience) if audience else DOCUMENT)
        assert document["openapi"] == "3.1.0"
        validate(document)

    def test_its_webhooks_are_the_events(self) -> None:
        assert [each.path for each in contract.webhooks(MODERN)] == list(DOCUMENT["x-webhooks"])
        assert "webhooks" not in projection.to_openapi_31(projection.project(DOCUMENT, "client"))

    def test_a_type_array_says_what_may_be_null(self) -> None:
        assert DOCUMENT["components"]["schemas"]["AdminPaidAt"]["nullable"] is True
        assert MODERN["components"]["schemas"]["AdminPaidAt"]["type"] == ["string", "null"]

    def test_data_is_left_as_it_is(self) -> None:
        tricky = {"schema": {"nullable": True}, "nullable": True, "example": 1}
        schema = {
            "type": "object",
            "properties": {"example": {"type": "string", "nullable": True}, "schema": {"type": "string"}},
            "example": tricky,
        }
        document = {"components": {"schemas": {"X": schema}, "examples": {"Y": {"value": tricky}}}, "x": 1}
        found = projection.to_openapi_31(document)["components"]
        assert found["schemas"]["X"]["examples"] == [tricky]
        assert found["schemas"]["X"]["properties"] == {
            "example": {"type": ["string", "null"]},
            "schema": {"type": "string"},
        }
        assert found["examples"] == {"Y": {"value": tricky}}

    @pytest.mark.parametrize(
        ("place", "damage"),
        [
            (lambda document: document, lambda node: node.pop("webhooks")),
            (_schema("Id"), lambda node: node.update(example=1)),
            (_schema("AdminPaidAt"), lambda node: node.update(nullable=True)),
            (lambda document: document, lambda node: node.update({"x-webhooks": {}})),
        ],
    )
    def test_what_is_left_of_the_other_version_is_told(
        self, place: Callable[[Any], Any], damage: Callable[[Any], Any]
    ) -> None:
        broken = copy.deepcopy(MODERN)
        damage(place(broken))
        assert list(rules.nothing_is_of_the_other_version(broken))

    def test_its_examples_are_judged_too(self) -> None:
        broken = copy.deepcopy(MODERN)
        broken["components"]["schemas"]["Money"]["examples"] = ["29.999"]
        assert list(rules.examples_are_there_and_valid(broken))


class TestWebhooks:
    @pytest.mark.parametrize("webhook", list(contract.webhooks(DOCUMENT)), ids=lambda each: each.path)
    def test_the_signature_of_each_example_is_that_of_the_example_of_a_secret(
        self, webhook: contract.Operation
    ) -> None:
        example = webhook.spec["requestBody"]["content"]["application/json"]["example"]
        body = json.dumps(example, ensure_ascii=False, separators=(",", ":")).encode()
        secret = DOCUMENT["components"]["schemas"]["WebhookSecret"]["example"]
        assert signing.verify_body(signing.key_of(secret), body)


class TestProjections:
    @pytest.mark.parametrize("audience", contract.AUDIENCES)
    def test_they_hold_what_the_audience_may_call(self, audience: contract.Audience) -> None:
        projected = {each.id for each in contract.operations(projection.project(DOCUMENT, audience))}
        callable = {each.id for each in contract.operations(DOCUMENT) if audience in each.audiences}
        own = {each.id for each in contract.operations(DOCUMENT) if each.spec["tags"] == ["contract"]}
        assert own == {"show_openapi_json", "show_openapi_yaml", "show_docs", "show_schemathesis_toml"}
        assert projected == callable - own

    def test_the_clients_tells_nothing_of_operators_and_their_scopes(self) -> None:
        told = re.compile(
            r"\bscopes?\b|\boperators?\b(?! of this server)|\ban API key gets\b|x-scope", re.IGNORECASE
        )
        text = rendering.render(projection.project(DOCUMENT, "client"), "yaml").body.decode()
        assert [line for line in text.splitlines() if told.search(line)] == []
        whole = rendering.render(DOCUMENT, "yaml").body.decode()
        assert len([line for line in whole.splitlines() if told.search(line)]) > 100

    @pytest.mark.parametrize("audience", contract.AUDIENCES)
    def test_a_description_for_one_audience_is_in_its_projection_alone(
        self, audience: contract.Audience
    ) -> None:
        projected = {each.id: each for each in contract.operations(projection.project(DOCUMENT, audience))}
        noted = [each for each in contract.operations(DOCUMENT) if "x-description" in each.spec]
        assert len(noted) > 10
        for each in noted:
            text = projected[each.id].spec["description"]
            assert "x-description" not in projected[each.id].spec
            for addressee, note in each.spec["x-description"].items():
                assert note in each.spec["description"]
                assert (note in text) == (addressee == audience), each.id

    @pytest.mark.parametrize("audience", contract.AUDIENCES)
    def test_no_success_and_no_body_is_a_choice_by_dialect(self, audience: contract.Audience) -> None:
        document = projection.project(DOCUMENT, audience)
        for where, media in rules.media_types(document):
            late = where.endswith(("body", "200", "201", "400", "403", "408", "409", "412", "422"))
            choice = "oneOf" in contract.deref(document, media["schema"])
            assert not (late and choice), where

    @pytest.mark.parametrize("audience", contract.AUDIENCES)
    def test_statuses_before_the_credential_keep_both_on_shared_operations(
        self, audience: contract.Audience
    ) -> None:
        document = projection.project(DOCUMENT, audience)
        operation = document["paths"]["/tickets"]["post"]
        for status in ("401", "404", "405", "406", "413", "415", "429", "500", "503"):
            media = contract.deref(document, operation["responses"][status])["content"]["application/json"]
            assert len(contract.deref(document, media["schema"])["oneOf"]) == 2, status

    def test_the_operators_has_no_422_and_one_bearer(self) -> None:
        document = projection.project(DOCUMENT, "admin")
        assert list(document["components"]["securitySchemes"]) == ["adminKey"]
        assert not any("422" in each.spec["responses"] for each in contract.operations(document))

    def test_the_operators_alone_has_the_webhooks(self) -> None:
        assert projection.project(DOCUMENT, "admin")["x-webhooks"] == DOCUMENT["x-webhooks"]
        client = projection.project(DOCUMENT, "client")
        assert "x-webhooks" not in client
        assert not [name for name in client["components"]["schemas"] if "Event" in name or "Webhook" in name]

    def test_the_clients_has_its_bearer_and_api_token(self) -> None:
        document = projection.project(DOCUMENT, "client")
        assert set(document["components"]["securitySchemes"]) == {"clientToken", "clientTokenQuery"}
        names = [each["$ref"] for each in document["paths"]["/services"]["get"].get("parameters", [])]
        assert names == ["#/components/parameters/After"]

    @pytest.mark.parametrize("audience", contract.AUDIENCES)
    def test_every_component_is_reached(self, audience: contract.Audience) -> None:
        document = projection.project(DOCUMENT, audience)
        text = rendering.render(document, "json").body.decode()
        for kind, definitions in document["components"].items():
            for name in definitions:
                assert kind == "securitySchemes" or f'"#/components/{kind}/{name}"' in text, name

    def test_projecting_does_not_change_the_bundle(self) -> None:
        before = rendering.render(DOCUMENT, "json")
        projection.project(DOCUMENT, "client")
        assert rendering.render(DOCUMENT, "json") == before
