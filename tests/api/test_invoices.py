"""Invoices: exact sums, one payment, overdue as of today, pages for both kinds of caller."""

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from persistence.invoices import Payment
from tests.support import factories
from tests.support.contract_client import Api
from tests.support.live_server import Running


def total(admin: Api, *amounts: Any) -> str:
    lines = [{"description": "A line", "amount": amount} for amount in amounts]
    id = factories.invoice(admin, items=lines)
    invoice = admin.get(f"/invoices/{id}").json()["data"]
    assert sum(Decimal(line["amount"]) for line in invoice["items"]) == Decimal(invoice["total"])
    return str(invoice["total"])


def raw_amount(admin: Api, text: str) -> Any:
    """The answer to an invoice whose amount is written as ``text``, which Python would write otherwise."""
    body = f'{{"client_id":42,"due_date":"2035-01-31","items":[{{"description":"A","amount":{text}}}]}}'
    return admin.request("POST", "/invoices", content=body, headers={"Content-Type": "application/json"})


class TestMoney:
    @pytest.mark.parametrize(
        ("amounts", "expected"),
        [
            ([0.1, 0.2], "0.30"),
            ([19.99] * 3, "59.97"),
            (["99999999.99"] * 100, "9999999999.00"),
            ([99999999.99], "99999999.99"),
            ([0], "0.00"),
            (["0"], "0.00"),
            (["0.5"], "0.50"),
            ([0.07] * 100, "7.00"),
            ([1.1, 2.2, "3.3"], "6.60"),
            ([9.95], "9.95"),
            ([1.15, 1.15], "2.30"),
            ([4.35, 100], "104.35"),
        ],
    )
    def test_sums_are_exact(self, admin: Api, amounts: list[Any], expected: str) -> None:
        assert total(admin, *amounts) == expected

    @pytest.mark.parametrize(
        "text",
        [
            '"29.999"',
            '"1e2"',
            "-1",
            '"-1"',
            "100000000",
            '"100000000"',
            '""',
            '"abc"',
            '"1,50"',
            '" 1"',
            '"+1"',
            '"01"',
            '".5"',
            '"1."',
            '"٣"',
            "true",
            "null",
            "[1]",
            "99999999.990000001",
            "1e999999999",
            "1e999",
            "NaN",
        ],
    )
    def test_what_is_no_amount_is_refused_and_named(self, admin: Api, text: str, server: Running) -> None:
        before = server.inside(lambda db: db.fetch_one(making_count()))
        response = raw_amount(admin, text)
        assert response.status_code == 400
        fault = response.json()["error"]["details"][0]
        assert fault["pointer"] in ("/items/0/amount", "")
        assert server.inside(lambda db: db.fetch_one(making_count())) == before

    @pytest.mark.parametrize(
        "text", ["29.999", "29.9900000000000000000000001", "1e-3", "1e-999999999", "0.30000000000000004"]
    )
    def test_more_than_two_decimals_are_never_rounded(self, admin: Api, text: str, server: Running) -> None:
        """The contract cannot say it of a number, so it is a conflict."""
        before = server.inside(lambda db: db.fetch_one(making_count()))
        response = raw_amount(admin, text)
        assert response.status_code == 409
        assert "at most two decimals; round /items/0/amount first" in response.json()["error"]["message"]
        assert server.inside(lambda db: db.fetch_one(making_count())) == before

    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("1e2", "100.00"),
            ("-0.0", "0.00"),
            ("2.50", "2.50"),
            ("5.0E-1", "0.50"),
            ("0e-999999999", "0.00"),
            ("0e9", "0.00"),
        ],
    )
    def test_numbers_are_judged_by_their_value(self, admin: Api, text: str, expected: str) -> None:
        response = raw_amount(admin, text)
        assert response.status_code == 201
        assert response.json()["data"]["total"] == expected


def making_count() -> Any:
    from sqlalchemy import func, select

    from persistence.invoices import Invoice

    return select(func.count().label("total")).select_from(Invoice)


class TestCreateInvoice:
    def test_nobody_401_client_403_missing_client_404(self, nobody: Api, client: Api, admin: Api) -> None:
        body = {"client_id": 999_999, "due_date": "2035-01-31", "items": [{"description": "A", "amount": 1}]}
        codes = [api.post("/invoices", body).status_code for api in (nobody, client, admin)]
        assert codes == [401, 403, 404]

    def test_lines_keep_their_order(self, admin: Api) -> None:
        lines = [{"description": f"Line {nth}", "amount": f"{nth}.00"} for nth in range(100)]
        id = factories.invoice(admin, items=lines)
        shown = admin.get(f"/invoices/{id}").json()["data"]["items"]
        assert [line["description"] for line in shown] == [line["description"] for line in lines]

    @pytest.mark.parametrize(
        "due", ["2025-02-30", "0000-01-01", "2025-1-1", "31.01.2025", "2025-01-01T00:00:00Z", ""]
    )
    def test_a_due_date_that_is_none_is_named(self, admin: Api, due: str) -> None:
        body = {"client_id": 42, "due_date": due, "items": [{"description": "A", "amount": 1}]}
        response = admin.post("/invoices", body)
        assert response.status_code == 400
        assert response.json()["error"]["details"][0]["pointer"] == "/due_date"

    def test_the_first_hundred_faults_come_at_once(self, admin: Api, server: Running) -> None:
        body = {"client_id": "x", "due_date": "y", "items": [{"amount": "z"}] * 100, "more": 1}
        response = admin.post("/invoices", body)
        details = response.json()["error"]["details"]
        assert response.status_code == 400
        assert len(details) == 100
        assert {each["pointer"] for each in details} >= {f"/items/{nth}/description" for nth in range(100)}

    def test_numbers_differ(self, admin: Api) -> None:
        with ThreadPoolExecutor(8) as pool:
            ids = list(pool.map(lambda _: factories.invoice(admin), range(16)))
        numbers = {admin.get(f"/invoices/{id}").json()["data"]["invoice_number"] for id in ids}
        assert len(numbers) == 16


class TestPayInvoice:
    def test_it_books_one_payment(self, admin: Api, server: Running) -> None:
        id = factories.invoice(admin)
        server.clock.fixed = datetime(2027, 3, 1, 12, 30, 15, tzinfo=UTC)
        paid = admin.post(f"/invoices/{id}/pay").json()["data"]
        assert (paid["status"], paid["paid_at"]) == ("paid", "2027-03-01T12:30:15Z")
        assert server.count(Payment, invoice_id=id) == 1

    def test_of_fifty_parallel_pays_one_wins(self, admin: Api, server: Running) -> None:
        id = factories.invoice(admin)
        with ThreadPoolExecutor(25) as pool:
            codes = list(pool.map(lambda _: admin.post(f"/invoices/{id}/pay").status_code, range(50)))
        assert sorted(codes) == [200] + [409] * 49
        assert server.count(Payment, invoice_id=id) == 1


class TestOverdue:
    def test_it_is_unpaid_until_its_day_is_over(self, admin: Api, client: Api, server: Running) -> None:
        id = factories.invoice(admin, due_date="2030-05-31")
        for now, status in (
            (datetime(2030, 5, 31, 23, 59, 59, tzinfo=UTC), "unpaid"),
            (datetime(2030, 6, 1, tzinfo=UTC), "overdue"),
        ):
            server.clock.fixed = now
            assert admin.get(f"/invoices/{id}").json()["data"]["status"] == status
            assert client.get(f"/invoices/{id}").json()["status"] == status
            for filtered in ("unpaid", "overdue", "paid"):
                rows = admin.get("/invoices", status=filtered, client_id=42, limit=100).json()["data"]
                assert any(row["id"] == id for row in rows) == (filtered == status)
                assert all(row["status"] == filtered for row in rows)
        assert admin.post(f"/invoices/{id}/pay").json()["data"]["status"] == "paid"


class TestListInvoices:
    def test_a_client_pages_its_own(self, client: Api, admin: Api) -> None:
        body = client.get("/invoices?page=1&limit=20").json()
        assert body.keys() == {"data", "count", "page", "limit", "total", "pages"}
        assert (body["page"], body["limit"], body["count"]) == (1, 20, len(body["data"]))
        assert body["total"] == admin.get("/invoices", client_id=42, limit=1).json()["meta"]["total"]
        assert all(row["client_id"] == 42 for row in body["data"])

    def test_links_keep_the_filters_and_reach_the_end(self, client: Api) -> None:
        path, seen = "/invoices?limit=7&status=paid", []
        while path:
            response = client.get(path)
            seen += [row["id"] for row in response.json()["data"]]
            assert all(row["status"] == "paid" for row in response.json()["data"])
            path = response.headers.get("Link", "").partition(">")[0].removeprefix("</api/v1")
        assert len(seen) == client.get("/invoices?status=paid&limit=1").json()["total"]
        assert seen == sorted(set(seen), reverse=True)

    def test_after_outranks_page(self, admin: Api) -> None:
        first = admin.get("/invoices", limit=5).json()["data"]
        after = admin.get("/invoices", limit=5, after=first[1]["id"], page=9).json()
        assert after["data"][:3] == first[2:]

    @pytest.mark.parametrize(
        "query",
        [
            "page=0",
            "limit=101",
            "limit=0",
            "page=x",
            "after=0",
            "status=void",
            "page=1&page=2",
            "foo=1",
            "limit=",
        ],
    )
    def test_bad_parameters_are_named(self, client: Api, query: str) -> None:
        response = client.get(f"/invoices?{query}")
        assert response.status_code == 400
        assert response.json()["details"][0]["pointer"] == f"/{query.partition('=')[0]}"

    def test_an_empty_list_has_no_pages(self, admin: Api) -> None:
        body = admin.get("/invoices", client_id=240, status="overdue", after=1).json()
        assert body["data"] == []
        none = admin.get("/invoices", client_id=9007199254740991).json()
        assert none["meta"] == {"page": 1, "limit": 20, "total": 0, "pages": 0}
