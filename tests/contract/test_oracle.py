"""The pipeline and Connexion's stock stack answer the same, but for the differences named here."""

import asyncio
import json
import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import hypothesis
import pytest
import requests
import schemathesis
from schemathesis import GenerationMode
from starlette.types import ASGIApp

from handlers.dialects import calendar_day, instant
from openapi import contract, loading, projection
from persistence import demo, migrations
from persistence.engines.sqlite import SQLite
from server import app
from server.validation.json_reader import InvalidJson, parse_json
from tests.raw.raw_client import Wire
from tests.raw.row import Row
from tests.raw.test_rows import ROWS
from tests.support.contract_client import DOCUMENT, find
from tests.support.live_server import ADMIN, BOX, CLIENT, Clock, Running, serving
from tests.support.stock_connexion import Oracle, Unchanging

NOW = datetime(2027, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Request:
    """What both are asked."""

    method: str
    target: str
    headers: tuple[tuple[str, str], ...]
    body: bytes

    @property
    def query(self) -> str:
        return urlsplit(self.target).query

    def header(self, wanted: str) -> str:
        return next((value for name, value in self.headers if name.lower() == wanted), "")

    @property
    def content_type(self) -> str:
        return self.header("content-type")


@dataclass(frozen=True)
class Outcome:
    """What one of them answered: the body of a success, with random numbers blotted out."""

    status: int
    body: Any


@dataclass(frozen=True)
class Difference:
    """Where the two may differ, and why that is right."""

    reason: str
    applies: Callable[[Request, Outcome, Outcome], bool]


PLAIN_PATH = re.compile(r"/api/v1/[a-z.-]+(/[1-9][0-9]{0,14}(/[a-z-]+(/[1-9][0-9]{0,14}(/[a-z]+)?)?)?)?")


def strict(body: bytes) -> bool:
    """Whether a body is JSON as the server reads it."""
    try:
        parse_json(body)
    except InvalidJson:
        return False
    return True


def amounts(request: Request) -> list[Any]:
    """The amounts of an invoice's lines and a product's prices, as far as there are any."""
    if not request.target.startswith(("/api/v1/invoices", "/api/v1/products")):
        return []
    content = members(request)
    items, prices = content.get("items"), content.get("prices")
    lines = (
        [item.get("amount") for item in items if isinstance(item, dict)] if isinstance(items, list) else []
    )
    return lines + (list(prices.values()) if isinstance(prices, dict) else [])


def members(request: Request) -> dict[str, Any]:
    """The members of a body, as far as there are any."""
    content = parse_json(request.body) if request.body and strict(request.body) else None
    return content if isinstance(content, dict) else {}


def undated(request: Request) -> bool:
    """Whether a member of a body that is to be a date is none."""
    given = members(request)
    dates = {"due_date", "expires_at", "registered_at", "published_at", "since"}
    for name in dates & given.keys():
        try:
            (calendar_day if name == "due_date" else instant)(str(given[name]))
        except ValueError:
            return True
    return False


# The first that applies names a difference, so the narrow ones stand first.
DIFFERENCES: dict[str, Difference] = {
    "a public operation ignores api_token": Difference(
        "CloudBill's callers may send it with every request; stock calls it an unknown parameter.",
        lambda request, ours, stock: (
            "api_token" in request.query and (ours.status, stock.status) == (200, 400)
        ),
    ),
    "paths are read in one way": Difference(
        "Stock takes +1 and 01 for ids, decodes %2F before it splits, redirects a trailing slash to an "
        "address of its own, breaks on thousands of digits, and says 404 of an id that is none.",
        lambda request, ours, stock: not PLAIN_PATH.fullmatch(urlsplit(request.target).path),
    ),
    "the other audience's operations exist": Difference(
        "Each stock app knows one audience, so the other's operations are unknown to it.",
        lambda request, ours, stock: (
            (ours.status in (401, 403) or request.method == "OPTIONS") and stock.status in (404, 405)
        ),
    ),
    "what has not changed is not sent again": Difference(
        "Stock does not know If-None-Match.",
        lambda request, ours, stock: (
            bool(request.header("if-none-match")) and (ours.status, stock.status) == (304, 200)
        ),
    ),
    "Accept is honoured": Difference(
        "Stock answers JSON to whoever does not accept it.",
        lambda request, ours, stock: ours.status == 406,
    ),
    "the media type is judged first": Difference(
        "Stock breaks without one and on Application/JSON, reads UTF-7 where a caller says so, ignores how a "
        "body is packed, and judges the media type of no body.",
        lambda request, ours, stock: (
            ours.status == 415 or request.content_type not in ("", "application/json")
        ),
    ),
    "a body in chunks is a body": Difference(
        "Stock looks for a length and says that the body is missing.",
        lambda request, ours, stock: request.header("transfer-encoding") == "chunked",
    ),
    "an optional body may be absent": Difference(
        "Stock refuses an absent body even where the contract does not require one.",
        lambda request, ours, stock: (
            not request.body
            and request.target.endswith(("/suspend", "/tokens", "/rotate-secret", "/test"))
            and stock.status == 400
        ),
    ),
    "a missing field is 422": Difference(
        "So says the client document; stock knows 400 only.",
        lambda request, ours, stock: (ours.status, stock.status) == (422, 400),
    ),
    "where no body belongs there is none": Difference(
        "Operations without a body take none, or {}; stock ignores whatever comes.",
        lambda request, ours, stock: ours.status == 400 and bool(request.body) and bodiless(request),
    ),
    "parameters stand once, as the contract writes them": Difference(
        "Stock takes the last of two, and +1, 01, 1_0 and full-width digits for integers.",
        lambda request, ours, stock: ours.status == 400 and bool(request.query) and stock.status == 200,
    ),
    "JSON is strict": Difference(
        "NaN, NUL, lone surrogates, members that stand twice, bad UTF-8 and nesting pass stock or break it.",
        lambda request, ours, stock: ours.status == 400 and not strict(request.body),
    ),
    "dates are checked": Difference(
        "Stock's validators do not know the format of a date.",
        lambda request, ours, stock: ours.status == 400 and undated(request),
    ),
    "integers are bounded before they are computed with": Difference(
        "Stock breaks on thousands of digits.",
        lambda request, ours, stock: (
            (ours.status, stock.status) == (400, 500)
            and re.search(rb"[0-9]{20}|e[0-9]", request.body) is not None
        ),
    ),
    "amounts are exact": Difference(
        "Stock reads numbers as binary floats, so 1e-999 is 0 for it, and it takes no string, which only an "
        "extension of the contract admits.",
        lambda request, ours, stock: (
            bool(amounts(request)) and {ours.status, stock.status} <= {200, 201, 400, 404, 409, 500}
        ),
    ),
    "integral numbers are integers": Difference(
        "JSON Schema 2020-12, and so OpenAPI 3.1, calls 1.0 and 1e2 integers; stock's draft 4 does not.",
        lambda request, ours, stock: (
            stock.status == 400 and re.search(rb"[0-9](\.[0-9]|[eE])", request.body) is not None
        ),
    ),
    "lines end with LF": Difference(
        "The server keeps CR LF and CR as LF; stock hands texts on as they are.",
        lambda request, ours, stock: ours.status == stock.status and b"\\r" in request.body,
    ),
}

# Stock cannot serve bytes that are ready, so it has no page, no YAML and no TOML to compare.
NOT_COMPARED = ("show_openapi_yaml", "show_docs", "show_schemathesis_toml")


def bodiless(request: Request) -> bool:
    """Whether the contract has no body for what is called."""
    operation = find(request.method, urlsplit(request.target).path.removeprefix("/api/v1"))
    return operation is not None and "requestBody" not in operation.spec


class Pair:
    """The pipeline and the oracle over one database that never changes."""

    def __init__(self, folder: Path) -> None:
        path = str(folder / "oracle.db")
        migrations.upgrade(f"sqlite:///{path}")
        self.runner = asyncio.Runner()
        self.database = Unchanging(path)
        self.runner.run(self._fill(SQLite(path)))
        self.runner.run(self.database.open())
        document = loading.bundle()
        edge, _ = app.assemble(self.database, document, lambda: NOW, box=BOX, private_targets=True)
        self.ours: ASGIApp = edge
        self.stock: ASGIApp = Oracle(self.database, document, edge.routes, lambda: NOW).edge

    async def _fill(self, database: SQLite) -> None:
        await database.open()
        await demo.seed(database)
        await database.close()

    def ask(self, request: Request) -> tuple[Outcome, Outcome]:
        return self.runner.run(self._ask(self.ours, request)), self.runner.run(self._ask(self.stock, request))

    async def _ask(self, asked: ASGIApp, request: Request) -> Outcome:
        parts = urlsplit(request.target)
        sent = [
            {"type": "http.request", "body": request.body, "more_body": False},
            {"type": "http.disconnect"},
        ]
        got: list[Any] = []

        async def receive() -> Any:
            return sent.pop(0)

        async def send(message: Any) -> None:
            got.append(message)

        scope = {
            "type": "http",
            "http_version": "1.1",
            "method": request.method,
            "path": unquote(parts.path),
            "raw_path": parts.path.encode(),
            "query_string": parts.query.encode(),
            "root_path": "",
            "scheme": "http",
            "server": ("127.0.0.1", 80),
            "client": ("127.0.0.1", 1),
            "headers": [
                (name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in request.headers
            ],
        }
        await asked(scope, receive, send)
        status = got[0]["status"]
        body = b"".join(message.get("body", b"") for message in got[1:])
        return Outcome(status, _plain(body) if status < 300 else None)


def _plain(body: bytes) -> Any:
    secret = rb"(cbt|arc)_[0-9A-Za-z]{4,36}|whsec_[0-9A-Za-z+/]{48}"
    text = re.sub(rb"TKT-[0-9A-F]{8}|evt_[0-9A-Z]{26}|" + secret, b"*", body)
    try:
        return json.loads(text)
    except ValueError:
        return text


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    made = Pair(tmp_path_factory.mktemp("oracle"))
    yield made
    made.runner.run(made.database.close())
    made.runner.close()


@pytest.fixture(scope="module")
def ports(pair: Pair) -> Iterator[tuple[int, int]]:
    """Where the two are served, for requests as bytes."""
    clock = Clock()
    clock.fixed = NOW
    document = loading.bundle()
    ours, stock = Unchanging(pair.database.path), Unchanging(pair.database.path)
    api = app.assemble(ours, document, clock, box=BOX, private_targets=True)
    oracle = Oracle(stock, document, api.edge.routes, clock).edge
    with (
        serving(Running(ours, api, clock)) as first,
        serving(Running(stock, api, clock, Opening(oracle, stock))) as second,
    ):
        yield first.port, second.port


class Opening:
    """Opens the oracle's database with the server, which no lifespan of its own does."""

    def __init__(self, served: ASGIApp, database: Unchanging) -> None:
        self.served = served
        self.database = database

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            await self.served(scope, receive, send)
            return
        await receive()
        await self.database.open()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await self.database.close()
        await send({"type": "lifespan.shutdown.complete"})


SEEN: Counter[str | None] = Counter()


def difference(request: Request, ours: Outcome, stock: Outcome) -> str | None:
    """The name of the difference between two outcomes; None where there is none. Fails if it has no name."""
    for name, each in DIFFERENCES.items():
        if ours != stock and each.applies(request, ours, stock):
            SEEN[name] += 1
            return name
    if ours == stock:
        SEEN[None] += 1
        return None
    pytest.fail(f"{request}\n  ours:  {ours}\n  stock: {stock}")


CASES = [
    (audience, operation.method.upper(), operation.path, mode)
    for audience in contract.AUDIENCES
    for operation in contract.operations(projection.project(DOCUMENT, audience, own=True))
    if operation.id not in NOT_COMPARED
    for mode in GenerationMode
]

SCHEMAS = {
    audience: schemathesis.openapi.from_dict(
        projection.project(DOCUMENT, audience, own=True), config=schemathesis.Config()
    )
    for audience in contract.AUDIENCES
}


class TestFuzzed:
    @pytest.mark.parametrize(("audience", "method", "path", "mode"), CASES)
    def test_both_answer_the_same(
        self, pair: Pair, audience: contract.Audience, method: str, path: str, mode: GenerationMode
    ) -> None:
        secret = CLIENT if audience == "client" else ADMIN
        operation = SCHEMAS[audience][path][method]
        asked: Counter[str | None] = Counter()

        @hypothesis.seed(20_270_101)
        @hypothesis.settings(
            max_examples=20,
            database=None,
            deadline=None,
            suppress_health_check=list(hypothesis.HealthCheck),
            phases=[hypothesis.Phase.generate],
        )
        @hypothesis.given(case=operation.as_strategy(generation_mode=mode))
        def compare(case: Any) -> None:
            case.headers = {**(case.headers or {}), "Authorization": f"Bearer {secret}"}
            arguments = case.as_transport_kwargs(base_url="http://127.0.0.1/api/v1")
            arguments.pop("cookies", None)
            prepared = requests.Request(
                **{
                    k: v
                    for k, v in arguments.items()
                    if k in ("method", "url", "headers", "params", "json", "data")
                }
            ).prepare()
            body = prepared.body or b""
            request = Request(
                method=str(prepared.method),
                target=str(prepared.path_url),
                headers=(
                    *((name, str(value)) for name, value in prepared.headers.items()),
                    ("Host", "127.0.0.1"),
                ),
                body=body.encode() if isinstance(body, str) else bytes(body),  # type: ignore[arg-type]
            )
            asked[difference(request, *pair.ask(request))] += 1

        try:
            compare()
        except hypothesis.errors.Unsatisfiable:
            assert mode is GenerationMode.NEGATIVE, "nothing valid can be made"
            return
        assert asked


def as_request(raw: bytes) -> Request:
    """What a request as bytes asks, as far as a difference depends on it."""
    head, _, body = raw.partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    method, _, rest = first.partition(" ")
    pairs = [line.partition(":")[::2] for line in lines]
    headers = tuple((name, value.strip()) for name, value in pairs)
    return Request(method, rest.partition(" ")[0], headers, body)


COMPARED = [
    row
    for row in ROWS
    if not as_request(row.request).target.startswith(("/api/v1/docs", "/api/v1/openapi.yaml"))
]


class TestRaw:
    @pytest.mark.parametrize("row", COMPARED, ids=lambda row: row.id)
    def test_both_answer_the_same(self, ports: tuple[int, int], row: Row) -> None:
        outcomes = []
        for port in ports:
            wire = Wire(port)
            wire.send(row.request)
            answer = wire.answer(head_only=row.method == "HEAD")
            outcomes.append(Outcome(answer.status, _plain(answer.body) if answer.status < 300 else None))
            wire.close()
        difference(as_request(row.request), *outcomes)


class TestNames:
    def test_most_is_the_same_and_every_difference_was_seen(self) -> None:
        """A name that nothing bears any more is to be taken off the list. It runs last in this file."""
        assert set(SEEN) == {None, *DIFFERENCES}
        assert SEEN[None] > 2 * (sum(SEEN.values()) - SEEN[None])
