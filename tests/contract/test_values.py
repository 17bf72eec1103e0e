"""What the values of input may be: instants, days, texts, integers, amounts and codes, for every input."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from decimal import Decimal
from typing import Any, ClassVar

import pytest
from sqlalchemy import update

from handlers.dialects import AdminDialect, instant
from openapi import contract, loading
from persistence.tickets import Ticket
from server.validation.json_reader import parse_json
from server.validation.parameters import Parameter
from server.validation.validator import Validator
from tests.contract.rules import input_schemas, kind_of
from tests.support import factories
from tests.support.contract_client import Api
from tests.support.live_server import Running
from tests.support.operators import Browser, text

DOCUMENT = loading.bundle()
INPUTS = dict(input_schemas(DOCUMENT))
OPERATIONS = list(contract.operations(DOCUMENT))

INSTANTS = {
    "2035-01-31T00:00:00Z": "2035-01-31T00:00:00Z",
    # As Python, JavaScript, Go, Java, .NET and Ruby write them.
    "2035-01-31T00:00:00+00:00": "2035-01-31T00:00:00Z",
    "2035-01-31T00:00:00.000Z": "2035-01-31T00:00:00Z",
    "2035-01-31T00:00:00.123456+00:00": "2035-01-31T00:00:00Z",
    "2035-01-31T00:00:00.1234567Z": "2035-01-31T00:00:00Z",
    "2035-01-31T00:00:00.123456789Z": "2035-01-31T00:00:00Z",
    "2035-01-31t00:00:00z": "2035-01-31T00:00:00Z",
    "2035-01-31T00:00:00-00:00": "2035-01-31T00:00:00Z",
    # In UTC, on another day.
    "2035-01-31T23:30:00-05:00": "2035-02-01T04:30:00Z",
    "2035-01-01T02:00:00+05:30": "2034-12-31T20:30:00Z",
    "2035-01-31T23:59:59+23:59": "2035-01-31T00:00:59Z",
    # Truncated, not rounded.
    "2035-01-31T23:59:59.999999999Z": "2035-01-31T23:59:59Z",
    f"2035-01-31T00:00:00.{'9' * 1000}Z": "2035-01-31T00:00:00Z",
    # A leap second is kept as the second before it.
    "2016-12-31T23:59:60Z": "2016-12-31T23:59:59Z",
    "2016-12-31T23:59:60.5Z": "2016-12-31T23:59:59Z",
    "2017-01-01T05:29:60+05:30": "2016-12-31T23:59:59Z",
    "2024-02-29T12:00:00Z": "2024-02-29T12:00:00Z",
    # The first and the last that can be kept.
    "0001-01-01T00:00:00Z": "0001-01-01T00:00:00Z",
    "0000-12-31T23:30:00-01:00": "0001-01-01T00:30:00Z",
    "9999-12-31T23:59:59.9Z": "9999-12-31T23:59:59Z",
}

NO_INSTANTS = [
    "",
    "2035-01-31",
    "2035-01-31T00:00:00",
    "2035-01-31 00:00:00Z",
    "2035-01-31T00:00Z",
    "2035-01-31T00:00:00.Z",
    "2035-01-31T00:00:00,5Z",
    "2035-01-31T00:00:00+0000",
    "2035-01-31T00:00:00+00",
    "2035-01-31T00:00:00 Z",
    "2035-01-31T00:00:00Z\n",
    " 2035-01-31T00:00:00Z",
    "20350131T000000Z",
    "2035-W05-3T00:00:00Z",
    "２035-01-31T00:00:00Z",
    "12035-01-31T00:00:00Z",
    "2035-02-30T00:00:00Z",
    "2023-02-29T00:00:00Z",
    "2035-13-01T00:00:00Z",
    "2035-01-31T24:00:00Z",
    "2035-01-31T00:60:00Z",
    "2035-01-31T00:00:61Z",
    "2035-01-31T12:00:60Z",
    "2035-01-31T00:00:00+24:00",
    "2035-01-31T00:00:00+00:60",
    # Outside the years that can be kept, two of them by their offset alone.
    "0000-01-01T00:00:00Z",
    "0000-12-31T23:59:59Z",
    "0001-01-01T00:00:00+01:00",
    "9999-12-31T23:59:59-01:00",
    "tomorrow",
]

DAYS = ["2035-01-31", "2024-02-29", "0001-01-01", "9999-12-31"]

NO_DAYS = [
    "",
    "0000-01-01",
    "0000-02-29",
    "2035-02-29",
    "2035-13-01",
    "2035-1-31",
    "20350131",
    "2035-01-31Z",
    "2035-01-31T00:00:00Z",
    "31.01.2035",
    "２035-01-31",
]

LINES = [
    "Need help with DNS settings",
    "Zoë O'Brien-Łukasiewicz",
    "Nguyễn Thị Minh Khai",
    "株式会社東京",
    "瓦歷斯‧諾幹",
    "Ольга Ўрол",
    "Ισίδωρος",
    # Persian, Hindi and emoji need joiners; Hebrew and Arabic beside Latin letters need marks.
    "می\u200cخواهم",
    "क्\u200dष",
    "👩\u200d👩\u200d👧\u200d👦",
    "שלום\u200f!",
    "abc\u200e (עברית)",
    "ß\u00a0À\u00ff\u0100",
    "a\u2027b\u202fc\u2065d\u206ae\u2030",
    "🇺🇸 \U0010fffd",
]

CONTROLS = [*map(chr, range(0x20)), *map(chr, range(0x7F, 0xA0))]
DIRECTIONS = [*map(chr, range(0x2028, 0x202F)), *map(chr, range(0x2066, 0x206A))]
LINE_ENDS = ["\t", "\n", "\r"]


def inputs(kind: str, **having: Any) -> list[str]:
    """Where the inputs of a type stand whose schemas have given keywords."""
    found = [
        where
        for where, schema in INPUTS.items()
        if kind_of(schema)[0] == kind and all(schema.get(key) == value for key, value in having.items())
    ]
    assert found
    return found


def validator(where: str) -> Validator:
    return Validator(DOCUMENT, INPUTS[where])


class TestInstants:
    @pytest.mark.parametrize("where", inputs("string", format="date-time"))
    def test_every_input_takes_each_that_can_be_kept(self, where: str) -> None:
        judge = validator(where)
        assert [each for each in INSTANTS if not judge.is_valid(each)] == []
        assert [each for each in NO_INSTANTS if judge.is_valid(each)] == []
        (fault,) = [each.detail for each in judge.violations("0001-01-01T00:00:00+01:00", "body", "/since")]
        assert "the years 0001 to 9999 in UTC, such as 20" in fault["message"]

    @pytest.mark.parametrize("written", INSTANTS)
    def test_they_are_read_in_utc_and_truncated(self, written: str) -> None:
        assert AdminDialect.instant(instant(written)) == INSTANTS[written]
        assert instant(written).microsecond == 0

    @pytest.mark.parametrize("written", NO_INSTANTS)
    def test_what_is_none_is_no_instant_for_handlers_either(self, written: str) -> None:
        with pytest.raises(ValueError):  # noqa: PT011  its own, or that of the standard library
            instant(written)

    def test_they_are_answered_in_one_spelling(self, admin: Api, client: Api) -> None:
        id = factories.announcement(admin)
        for written, answered in INSTANTS.items():
            changed = admin.put(f"/announcements/{id}", {"published_at": written})
            assert changed.json()["data"]["published_at"] == answered, written
            assert admin.get(f"/announcements/{id}").json()["data"]["published_at"] == answered
        admin.put(f"/announcements/{id}", {"published_at": "2024-02-29T01:00:00.5+01:00"})
        spoken = client.get(f"/announcements/{id}").json()["published_at"]
        admin.request("DELETE", f"/announcements/{id}")
        assert spoken == "2024-02-29 00:00:00"

    def test_what_is_none_is_refused_by_name_and_changes_nothing(self, admin: Api) -> None:
        id = factories.announcement(admin, published_at="2035-01-31T00:00:00Z")
        for written in [*NO_INSTANTS, 2_051_222_400, None]:
            refused = admin.put(f"/announcements/{id}", {"published_at": written})
            assert refused.status_code == 400, written
            (detail,) = refused.json()["error"]["details"]
            assert detail["pointer"] == "/published_at"
        kept = admin.get(f"/announcements/{id}").json()["data"]["published_at"]
        admin.request("DELETE", f"/announcements/{id}")
        assert kept == "2035-01-31T00:00:00Z"

    def test_domains_keys_tokens_and_recovery_take_what_clients_write(self, admin: Api) -> None:
        written, answered = "2035-01-31T01:00:00.000+01:00", "2035-01-31T00:00:00Z"
        domain = factories.domain(admin, registered_at=written, expires_at="2036-01-31T00:00:00.123456789Z")
        found = admin.get(f"/domains/{domain}").json()["data"]
        assert (found["registered_at"], found["expires_at"]) == (answered, "2036-01-31T00:00:00Z")
        key = admin.post("/api-keys", {"name": "A", "scopes": ["tickets:read"], "expires_at": written})
        assert key.json()["data"]["expires_at"] == answered
        token = admin.post("/clients/42/tokens", {"expires_at": written})
        assert token.json()["data"]["expires_at"] == answered
        webhook = factories.webhook(admin)
        recovered = admin.post(f"/webhooks/{webhook}/recover", {"since": "2035-01-31t00:00:00.5z"})
        assert recovered.json()["data"]["queued"] == 0
        admin.request("DELETE", f"/webhooks/{webhook}")

    def test_all_faults_are_told_at_once(self, admin: Api) -> None:
        body = {
            "client_id": 42,
            "domain": "a\x1b",
            "registered_at": "now",
            "expires_at": "9999-12-31T23:00:00-02:00",
        }
        refused = admin.post("/domains", body)
        pointers = {each["pointer"] for each in refused.json()["error"]["details"]}
        assert (refused.status_code, pointers) == (400, {"/domain", "/registered_at", "/expires_at"})


class TestDays:
    @pytest.mark.parametrize("where", inputs("string", format="date"))
    def test_every_input_takes_each_that_can_be_kept(self, where: str) -> None:
        judge = validator(where)
        assert [each for each in DAYS if not judge.is_valid(each)] == []
        assert [each for each in NO_DAYS if judge.is_valid(each)] == []

    def test_the_first_and_the_last_are_kept(self, admin: Api) -> None:
        for day in DAYS:
            id = factories.invoice(admin, due_date=day)
            assert admin.get(f"/invoices/{id}").json()["data"]["due_date"] == day


class TestTexts:
    @pytest.mark.parametrize("where", inputs("string", **{"x-text": "line"}))
    def test_a_line_has_no_controls_and_no_marks_of_direction(self, where: str) -> None:
        judge = validator(where)
        most = INPUTS[where]["maxLength"]
        for line in LINES:
            assert judge.is_valid((line * 8)[:most]), line
        for character in CONTROLS + DIRECTIONS:
            assert not judge.is_valid(f"Need{character}help now"), ascii(character)
        (fault,) = [each.detail for each in judge.violations("Need\x1bhelp now", "body", "/subject")]
        assert fault["message"].startswith("The subject field must be one line, without control characters")

    @pytest.mark.parametrize("where", inputs("string", **{"x-text": "lines"}))
    def test_lines_have_line_ends_and_tabs_as_well(self, where: str) -> None:
        judge = validator(where)
        assert judge.is_valid("One\n\tTwo\r\nThree")
        for line in LINES:
            assert judge.is_valid(line), line
        for character in {*CONTROLS, *DIRECTIONS} - {*LINE_ENDS}:
            assert not judge.is_valid(f"Need{character}help"), ascii(character)

    @pytest.mark.parametrize("kind", ["line", "lines"])
    def test_other_engines_read_the_class_alike(self, kind: str) -> None:
        pattern = loading.NOT_IN_TEXT[kind]
        points = [*range(0xD800), *range(0xE000, 0x110000, 7)]
        barred = {*CONTROLS, *DIRECTIONS} - ({*LINE_ENDS} if kind == "lines" else set())
        assert {chr(each) for each in points if re.search(pattern, chr(each))} == barred
        if node := shutil.which("node"):
            script = (
                "const [pattern, flags] = JSON.parse(process.argv[1]);"
                "const barred = new RegExp(pattern, flags), found = [];"
                "for (let each = 0; each < 0x110000; each++)"
                " if (barred.test(String.fromCodePoint(each))) found.push(each);"
                "console.log(JSON.stringify(found))"
            )
            for flags in ("", "u", "v"):
                done = subprocess.run(
                    [node, "-e", script, json.dumps([pattern, flags])], capture_output=True, check=True
                )
                assert {chr(each) for each in json.loads(done.stdout)} == barred, flags

    @pytest.mark.parametrize(
        "subject", ["A\x1b[31mB", "A\rB", "A\nB", "A\x00B", "A\u202eB", "A\u2066B\u2069", "A\u2028B"]
    )
    def test_a_subject_of_two_lines_is_refused_by_name(
        self, client: Api, server: Running, subject: str
    ) -> None:
        before = server.count(Ticket)
        for body in (
            {"subject": subject, "message": "Help", "department_id": 1},
            {"subject": "Help", "message": f"B\x1b{subject}", "department_id": 1},
        ):
            refused = client.post("/tickets", body)
            (detail,) = refused.json()["details"]
            assert (refused.status_code, detail["pointer"]) == (
                400,
                "/subject" if body["message"] == "Help" else "/message",
            )
        assert server.count(Ticket) == before

    def test_names_and_labels_are_one_line(self, admin: Api) -> None:
        changes = {
            "/clients/43": ["first_name", "last_name", "company", "phone", "address", "city"],
            "/products/2": ["name", "kind"],
            "/servers/1": ["name", "kind"],
            "/departments/2": ["name"],
            "/announcements/1": ["title"],
            "/knowledgebase/1": ["title"],
        }
        for path, names in changes.items():
            before = admin.get(path).json()["data"] if "departments" not in path else None
            refused = admin.put(path, dict.fromkeys(names, "A\x1bB"))
            pointers = {each["pointer"] for each in refused.json()["error"]["details"]}
            assert (refused.status_code, pointers) == (400, {f"/{name}" for name in names})
            assert before is None or admin.get(path).json()["data"] == before

    def test_line_ends_of_messages_are_kept_as_line_feeds(self, admin: Api, client: Api) -> None:
        message = "One\r\n\tTwo\rThree\nFour"
        opened = client.post("/tickets", {"subject": "Lines", "message": message, "department_id": 1})
        ticket = client.get(f"/tickets/{opened.json()['ticket_id']}").json()
        assert ticket["message"] == "One\n\tTwo\nThree\nFour"
        article = factories.article(admin, content=message)
        assert admin.get(f"/knowledgebase/{article}").json()["data"]["content"] == ticket["message"]
        admin.request("DELETE", f"/knowledgebase/{article}")

    @pytest.mark.parametrize("value", ["a%1bb", "a%0ab", "%09", "%E2%80%AE", "%C2%9B"])
    def test_any_text_is_a_search(self, client: Api, admin: Api, value: str) -> None:
        assert client.request("GET", f"/knowledgebase?q={value}").status_code == 200
        assert admin.request("GET", f"/clients?q={value}").status_code == 200

    def test_nul_is_no_search(self, client: Api, admin: Api) -> None:
        for found in (
            client.request("GET", "/knowledgebase?q=%00"),
            admin.request("GET", "/clients?q=%00"),
        ):
            details = found.json().get("details") or found.json()["error"]["details"]
            assert found.status_code == 400
            assert [(each["in"], each["pointer"]) for each in details] == [("query", "/q")]

    def test_what_older_versions_stored_is_answered(self, admin: Api, client: Api, server: Running) -> None:
        """And it can be worked on: the rule is one about input."""
        id = factories.ticket(admin)
        old = update(Ticket).where(Ticket.id == id).values(subject="A\x1bB\u202e", message="C\x07")
        server.inside(lambda db: db.execute(old), write=True)
        # The checked client knows the rule, and nothing of older versions.
        found = [each.http.build_request("GET", f"/tickets/{id}") for each in (client, admin)]
        statuses = [httpx_answer(request) for request in found]
        assert [each[0] for each in statuses] == [200, 200]
        assert "A\x1bB\u202e" in (statuses[0][1]["subject"], statuses[1][1]["data"]["subject"])
        assert httpx_answer(admin.http.build_request("POST", f"/tickets/{id}/close"))[0] == 200
        server.inside(
            lambda db: db.execute(update(Ticket).where(Ticket.id == id).values(subject="A", message="C")),
            write=True,
        )

    def test_forms_name_the_field(self, server: Running) -> None:
        browser = Browser(server)
        assert browser.sign_in().status_code == 303
        ticket = {"client_id": "42", "department_id": "2", "subject": "A\x1bB", "message": "C\x07\r\nD\u202e"}
        refused = browser.send("/admin/tickets/new", ticket)
        assert refused.status_code == 400
        assert 'id="subject-error"' in refused.text and 'id="message-error"' in refused.text
        assert "This must be one line, without control characters" in text(refused)
        client = {
            "first_name": "A\u202eB",
            "last_name": "C\tD",
            "email": "x@example.com",
            "password": "long enough",
        }
        refused = browser.send("/admin/clients/new", client)
        assert refused.status_code == 400
        assert 'id="first_name-error"' in refused.text and 'id="last_name-error"' in refused.text
        assert 'id="email-error"' not in refused.text
        browser.close()


def httpx_answer(request: Any) -> tuple[int, Any]:
    """The status and the JSON of an answer that is not held to the contract."""
    import httpx

    with httpx.Client(timeout=30) as http:
        response = http.send(request)
    return response.status_code, response.json()


def parameters() -> Iterator[tuple[str, Parameter]]:
    """Every integer in a path or a query."""
    for operation in OPERATIONS:
        for each in operation.spec.get("parameters", []):
            spec = contract.deref(DOCUMENT, each)
            if contract.deref(DOCUMENT, spec["schema"])["type"] == "integer":
                yield f"{operation.id} {spec['name']}", Parameter.compile(DOCUMENT, spec)


PARAMETERS = dict(parameters())


class TestIntegers:
    @pytest.mark.parametrize("where", PARAMETERS)
    def test_what_is_out_of_bounds_names_the_bound(self, where: str) -> None:
        parameter = PARAMETERS[where]
        schema = INPUTS[where]
        least, most = schema["minimum"], schema["maximum"]
        for digits in ("99999999999999999999", "1" * 5000, str(most + 1)):
            _, (fault,) = parameter.parse(digits)
            assert fault["message"] == f"The {parameter.name} field must be at most {most}."
        for digits in ("-99999999999999999999", "-" + "1" * 5000, str(least - 1)):
            _, (fault,) = parameter.parse(digits)
            assert fault["message"] == f"The {parameter.name} field must be at least {least}."
        # A path and a query have digits; only JSON has numbers.
        for digits in ("1.0", "1e2", "01", "+1", "1_0", " 1", "", "x", "１"):
            _, (fault,) = parameter.parse(digits)
            assert fault["message"] == f"The {parameter.name} field must be an integer."
        assert parameter.parse(str(most)) == (most, [])

    @pytest.mark.parametrize("where", inputs("integer"))
    def test_every_input_takes_integral_numbers_as_integers(self, where: str) -> None:
        judge, schema = validator(where), INPUTS[where]
        value = schema["example"]
        for digits in (f"{value}", f"{value}.0", f"{value}.000e0", f"{value}.0e0"):
            (read,) = parse_json(f"[{digits}]".encode())
            assert (read, type(read)) == (value, int)
            assert judge.is_valid(read)
        for digits in (f"{value}.5", f"{value}.{'0' * 300}1"):
            (read,) = parse_json(f"[{digits}]".encode())
            (fault,) = [
                each.detail
                for each in judge.violations(read, "body", "/id")
                if "one of" not in each.detail["message"]
            ][:1]
            assert fault["message"] == "The id field must be an integer." or "enum" in schema
        if "enum" in schema:
            return
        for digits in ("9" * 20, "9" * 5000, "1e30", "1e999", "1.0e100"):
            (read,) = parse_json(f"[{digits}]".encode())
            (fault,) = [each.detail for each in judge.violations(read, "body", "/id")]
            assert fault["message"] == f"The id field must be at most {schema['maximum']}."
            (read,) = parse_json(f"[-{digits}]".encode())
            (fault,) = [each.detail for each in judge.violations(read, "body", "/id")]
            assert fault["message"] == f"The id field must be at least {schema['minimum']}."

    @pytest.mark.parametrize(
        ("text", "value"),
        [
            ("1.0", 1),
            ("-0.0", 0),
            ("-0", 0),
            ("1e2", 100),
            ("100e-2", 1),
            ("0e999999", 0),
            ("1.5", Decimal("1.5")),
        ],
    )
    def test_numbers_are_read_by_their_value(self, text: str, value: Any) -> None:
        (read,) = parse_json(f"[{text}]".encode())
        assert (read, type(read)) == (value, type(value))

    def test_a_handler_gets_integers(self, admin: Api, client: Api) -> None:
        head = {"Content-Type": "application/json"}
        body = '{"client_id":42.0,"department_id":2e0,"subject":"A","message":"B"}'
        made = admin.request("POST", "/tickets", content=body, headers=head)
        assert made.status_code == 201 and '"client_id":42,' in made.text
        body = '{"subject":"A","message":"B","department_id":1.0,"priority_id":30e-1}'
        made = client.request("POST", "/tickets", content=body, headers=head)
        assert made.status_code == 201
        assert client.get(f"/tickets/{made.json()['ticket_id']}").json()["priority_id"] == 3


class TestAmounts:
    TAKEN: ClassVar[tuple[Any, ...]] = (
        0,
        5,
        Decimal("0.01"),
        Decimal("19.99"),
        Decimal("4.35"),
        Decimal("99999999.99"),
        "0.00",
        "19.99",
        "99999999.99",
    )
    REFUSED: ClassVar[tuple[Any, ...]] = (
        -1,
        Decimal("-0.01"),
        100_000_000,
        Decimal("99999999.990000001"),
        "",
        "1.000",
        "01.00",
        "+1.00",
        "1,00",
        " 1.00",
        "1.00\n",
        "100000000.00",
        "٣.00",
        True,
        None,
        [],
        {},
    )

    @pytest.mark.parametrize("where", inputs("number"))
    def test_every_input_takes_a_number_or_a_string_of_two_decimals(self, where: str) -> None:
        judge = validator(where)
        assert [each for each in self.TAKEN if not judge.is_valid(each)] == []
        assert [each for each in self.REFUSED if judge.is_valid(each)] == []
        for value in self.REFUSED:
            (fault,) = [each.detail for each in judge.violations(value, "body", "/amount")]
            assert fault["message"].startswith(
                "The amount field must be an amount from 0 to 99999999.99, as a number"
            )

    def test_more_decimals_are_refused_all_by_name(self, admin: Api) -> None:
        prices = {"monthly": 9.999, "quarterly": 0.5, "annually": 0.001}
        refused = admin.post("/products", {"name": "A", "kind": "b", "prices": prices})
        assert refused.status_code == 409
        message = refused.json()["error"]["message"]
        assert message == "An amount has at most two decimals; round /prices/monthly, /prices/annually first."
        lines = [{"description": "A", "amount": 0.001}] * 100
        refused = admin.post("/invoices", {"client_id": 42, "due_date": "2035-01-31", "items": lines})
        assert refused.status_code == 409
        assert "/items/4/amount and 95 more first." in refused.json()["error"]["message"]
        product = factories.product(admin)
        refused = admin.put(f"/products/{product}", {"prices": {"monthly": 1.005}})
        assert refused.status_code == 409
        assert admin.get(f"/products/{product}").json()["data"]["prices"]["monthly"] == "1.00"

    def test_a_form_takes_what_people_type_and_names_what_is_none(self, server: Running, admin: Api) -> None:
        browser = Browser(server)
        assert browser.sign_in().status_code == 303
        typed = {"5": "5.00", "0.5": "0.50", "19.99": "19.99"}
        for given, kept in typed.items():
            line = {"items.0.description": "A", "items.0.amount": given}
            made = browser.send("/admin/invoices/new", {"client_id": "42", "due_date": factories.DUE, **line})
            id = re.search(r"/(\d+)\?done=", made.headers["Location"])
            assert id
            assert admin.get(f"/invoices/{id[1]}").json()["data"]["total"] == kept
        for given in ("19.999", "-1", "much", "1,50", "100000000"):
            line = {"items.0.description": "A", "items.0.amount": given}
            refused = browser.send(
                "/admin/invoices/new", {"client_id": "42", "due_date": factories.DUE, **line}
            )
            assert refused.status_code == 400
            assert 'id="items.0.amount-error"' in refused.text
        browser.close()


class TestCodes:
    def test_countries_are_those_of_the_list_or_none(self, admin: Api) -> None:
        codes = DOCUMENT["components"]["schemas"]["CountryCode"]["enum"]
        for where in inputs("string", **{"x-enum-of": "CountryCode"}):
            judge = validator(where)
            assert all(judge.is_valid(each) for each in ["", *codes])
            for code in ("us", "Us", "AA", "USA", "U", " ", "840", "US\n", "USUS"):
                (fault,) = [each.detail for each in judge.violations(code, "body", "/country")]
                assert (
                    fault["message"]
                    == "The country field must be a two-letter ISO 3166-1 country code, such as US."
                )
        id = factories.client(admin, country="US")
        assert admin.put(f"/clients/{id}", {"country": "us"}).status_code == 400
        assert admin.get(f"/clients/{id}").json()["data"]["country"] == "US"
        assert "country" not in admin.put(f"/clients/{id}", {"country": ""}).json()["data"]

    def test_a_form_offers_the_countries(self, server: Running) -> None:
        browser = Browser(server)
        assert browser.sign_in().status_code == 303
        page = browser.get("/admin/clients/new").text
        select = re.search(r'<select id="country".*?</select>', page, re.DOTALL)
        assert select
        values = re.findall(r'<option value="([^"]*)"', select[0])
        assert values == ["", *DOCUMENT["components"]["schemas"]["CountryCode"]["enum"]]
        browser.close()

    def test_currencies_have_capital_letters(self, admin: Api) -> None:
        refused = admin.post("/products", {"name": "A", "kind": "b", "currency": "usd"})
        assert refused.status_code == 400
        assert "must be the code of an ISO 4217 currency" in refused.json()["error"]["message"]

    def test_a_scheme_may_have_capital_letters(self, admin: Api) -> None:
        for url in ("HTTPS://hooks.example.com/a", "Http://127.0.0.1:9/capitals"):
            made = admin.post("/webhooks", {"url": url, "events": ["invoice.paid"]})
            assert (made.status_code, made.json()["data"]["url"]) == (201, url)
            admin.request("DELETE", f"/webhooks/{made.json()['data']['id']}")


class TestBodies:
    JSON = b'{"subject":"A","message":"B","department_id":1}'

    @pytest.mark.parametrize("coding", ["gzip", "br", "deflate", "zstd"])
    def test_a_content_coding_is_named(self, client: Api, coding: str) -> None:
        headers = {"Content-Type": "application/json", "Content-Encoding": coding}
        refused = client.request("POST", "/tickets", content=self.JSON, headers=headers)
        assert (refused.status_code, refused.headers["Accept-Encoding"]) == (415, "identity")
        assert f"The content coding {coding} is not supported" in refused.json()["error"]

    def test_an_unknown_one_is_not_echoed(self, client: Api) -> None:
        headers = {"Content-Type": "application/json", "Content-Encoding": "x-secret"}
        refused = client.request("POST", "/tickets", content=self.JSON, headers=headers)
        assert (refused.status_code, "x-secret" in refused.text) == (415, False)
        assert refused.headers["Accept-Encoding"] == "identity"

    def test_another_415_has_no_accept_encoding(self, client: Api) -> None:
        refused = client.request(
            "POST", "/tickets", content=self.JSON, headers={"Content-Type": "text/plain"}
        )
        assert (refused.status_code, "Accept-Encoding" in refused.headers) == (415, False)

    def test_a_byte_order_mark_is_named(self, client: Api) -> None:
        headers = {"Content-Type": "application/json"}
        refused = client.request("POST", "/tickets", content=b"\xef\xbb\xbf" + self.JSON, headers=headers)
        assert refused.status_code == 400
        assert refused.json()["error"] == "The body begins with a byte order mark (BOM); send it without one."


class TestNoToken:
    @pytest.mark.parametrize("query", ["api_token=", "api_token", "limit=1&api_token="])
    def test_an_empty_one_is_absent(self, client: Api, nobody: Api, query: str) -> None:
        assert client.request("GET", f"/invoices?{query}").status_code == 200
        assert nobody.request("GET", f"/invoices?{query}").status_code == 401
