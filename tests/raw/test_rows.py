"""The tables of requests: each on a connection of its own, and all that must be true of its answer."""

import pytest

from tests.raw import cases_bodies, cases_credentials, cases_http, cases_paths
from tests.raw.raw_client import ECHO, Wire, check_error, check_head, counts, faults_of, written
from tests.raw.row import Row
from tests.support.live_server import Running

ROWS = [*cases_http.ROWS, *cases_paths.ROWS, *cases_credentials.ROWS, *cases_bodies.ROWS]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.id)
def test_a_request_is_answered_as_the_contract_says(server: Running, wire: Wire, row: Row) -> None:
    before = counts(server)
    wire.send(row.request)
    answer = wire.answer(head_only=row.method == "HEAD")
    assert answer.status == row.status, answer.body[:500]
    assert answer.interim == []
    check_head(answer)
    if row.dialect is not None:
        check_error(answer, row.status, row.dialect)
    if row.at is not None:
        assert row.at in faults_of(answer)
    if row.allow is not None:
        assert set(answer.headers["allow"].split(", ")) == set(row.allow.split(", "))
    for name, value in row.headers.items():
        assert answer.headers[name] == value
    assert answer.closes == (row.after == "closed")
    assert wire.is_closed() if row.after == "closed" else wire.is_usable()
    assert written(server, before) == row.written


# Each request that broke the stack of Connexion, Starlette and uvicorn as they come, and the rows that
# send it. Bodies of 60 MB are in test_size_limits.py, slow requests in test_time_limits.py, the log in
# test_logs.py.
BROKE_STOCK = {
    "invalid UTF-8 in a body": ["invalid UTF-8 is refused", "invalid UTF-8 is refused to the operator"],
    "utf-7": ["utf-7 cannot smuggle a text"],
    "a bogus charset": [f"the media type 'application/json; charset={ECHO}' is 415"],
    "Application/JSON": ["Application/JSON is validated", "Application/JSON must be JSON"],
    "no Content-Type": ["no media type is 415", "no media type is 415 for the operator"],
    "a chunked body": ["a body in one chunk works", "a body in many chunks works"],
    "an id of 5,000 digits": [f"the id {'1' * 24} is refused", f"the id {'1' * 24} is refused to a verb"],
    "an integer of 5,000 digits": ["a department of 5000 digits is not allowed"],
    "odd ids": [f"the id {id} is refused" for id in ("+1", "01", "1_0", "%EF%BC%91%EF%BC%95")],
    "integers beyond 64 bits": ["a department beyond 64 bits is not allowed"],
    "100,000 nested brackets": ["100,000 open brackets is refused", "100,000 nested lists is refused"],
    "lone surrogates": ["a lone high surrogate is refused", "a lone low surrogate is refused"],
    "NaN": ["NaN is refused"],
    "1e999": ["a department of 1e999 is not allowed", "the amount 1e999 (5) is refused"],
    "NUL": ["an escaped NUL is refused", "a raw NUL is refused"],
    "duplicate keys": ["a name twice is refused", "a name twice in a line is refused to the operator"],
    "repeated parameters": ["the query page=1&page=2 is refused"],
    "%00, %ff and %2F in a path": [f"the id {text} is refused" for text in ("%00", "%ff", "%2F")],
    "a trailing slash": ["/tickets/ is nowhere", "/tickets/ is nowhere for a client"],
    "an incomplete Allow": ["OPTIONS of tickets is 405", "OPTIONS of invoices allows a client to read"],
    "plain text from the HTTP parser": ["garbage is refused"],
    "a body behind an offer of h2c": ["h2c offered with a POST is declined"],
    "api_token and a bad header": ["a dead header with a good api_token is 401"],
}


class TestTables:
    def test_every_request_that_broke_the_stock_stack_is_there(self) -> None:
        names = {row.id for row in ROWS}
        assert [name for each in BROKE_STOCK.values() for name in each if name not in names] == []

    def test_no_two_rows_have_one_name(self) -> None:
        names = [row.id for row in ROWS]
        assert len(set(names)) == len(names) >= 110

    def test_every_refusal_names_its_dialect(self) -> None:
        silent = [row.id for row in ROWS if row.status >= 400 and row.dialect is None]
        assert all(name.startswith("HEAD") for name in silent)

    def test_every_405_names_what_is_allowed(self) -> None:
        assert all((row.allow is not None) == (row.status == 405) for row in ROWS)
