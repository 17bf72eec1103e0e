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

from openapi import contract
from persistence import demo, migrations
from persistence.database import SQLite
from server import app
from tests.contract_client import DOCUMENT
from tests.oracle import Oracle, Unchanging
from tests.running import ADMIN, CLIENT

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

    @property
    def content_type(self) -> str:
        return dict((name.lower(), value) for name, value in self.headers).get("content-type", "")


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


DIFFERENCES = {
    "missing": Difference(
        "A client's missing field is 422 in its document; stock knows 400 only.",
        lambda request, ours, stock: (ours.status, stock.status) == (422, 400),
    ),
    "absent optional body": Difference(
        "Stock refuses an absent body even where the contract does not require one.",
        lambda request, ours, stock: (
            not request.body and stock.status == 400 and ours.status in (200, 404, 409)
        ),
    ),
    "wrong kind": Difference(
        "Each stock app knows one audience, so the other's operations are unknown to it; here they are 403.",
        lambda request, ours, stock: (ours.status, stock.status) in ((403, 404), (403, 405)),
    ),
    "body of a bodiless operation": Difference(
        "Operations without a body take none, or {}; stock ignores whatever comes.",
        lambda request, ours, stock: (
            bool(request.body) and ours.status in (400, 413, 415) and stock.status not in (400, 500)
        ),
    ),
    "strict numbers": Difference(
        "Stock computes amounts as binary floats, so that 9.95 is no multiple of 0.01 for it.",
        lambda request, ours, stock: (
            "/invoices" in request.target and ours.status in (201, 404) and stock.status == 400
        ),
    ),
    "media type first": Difference(
        "Here the media type is judged before anything in the body.",
        lambda request, ours, stock: ours.status == 415 and stock.status in (400, 500, 404),
    ),
    "strict JSON": Difference(
        "NUL, lone surrogates, NaN and members that stand twice pass stock's parser, or break what is behind it.",
        lambda request, ours, stock: (
            ours.status == 400 and re.search(rb"\\u|NaN|Infinity|\\x", request.body) is not None
        ),
    ),
    "strict parameters": Difference(
        "Here an id is written in one way only, and a parameter stands once; stock takes +1, 01 and the last of two.",
        lambda request, ours, stock: (
            ours.status == 400 and not request.body and stock.status in (200, 307, 403, 404, 500)
        ),
    ),
    "dates": Difference(
        "Stock does not check the format of a date.",
        lambda request, ours, stock: (
            "/invoices" in request.target and ours.status == 400 and stock.status in (201, 404, 500)
        ),
    ),
    "integers": Difference(
        "Stock's JSON has no word on 1.0 for an integer, nor on integers beyond 64 bits.",
        lambda request, ours, stock: ours.status in (400, 422) and stock.status in (500, 404, 201),
    ),
    "refusals in order": Difference(
        "Here the caller is judged before the body; stock reads the body of some requests first.",
        lambda request, ours, stock: ours.status in (401, 403, 406) and stock.status in (400, 415, 200),
    ),
}


class Pair:
    """The pipeline and the oracle over one database that never changes."""

    def __init__(self, folder: Path) -> None:
        path = str(folder / "oracle.db")
        migrations.upgrade(f"sqlite:///{path}")
        self.runner = asyncio.Runner()
        self.database = Unchanging(path)
        self.runner.run(self._fill(SQLite(path)))
        self.runner.run(self.database.open())
        document = contract.bundle()
        edge = app.assemble(self.database, document, lambda: NOW)
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
    text = re.sub(rb"TKT-[0-9A-F]{8}", b"TKT-*", body)
    try:
        return json.loads(text)
    except ValueError:
        return text


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    made = Pair(tmp_path_factory.mktemp("oracle"))
    yield made
    made.runner.close()


def difference(request: Request, ours: Outcome, stock: Outcome) -> str | None:
    """The name of the difference between two outcomes; None where there is none. Fails if it has no name."""
    if ours == stock:
        return None
    for name, each in DIFFERENCES.items():
        if each.applies(request, ours, stock):
            return name
    pytest.fail(f"{request}\n  ours:  {ours}\n  stock: {stock}")


CASES = [
    (audience, operation.method.upper(), operation.path, mode)
    for audience in contract.AUDIENCES
    for operation in contract.operations(contract.project(DOCUMENT, audience))
    if operation.id not in ("show_openapi_yaml", "show_docs")
    for mode in GenerationMode
]

SCHEMAS = {
    audience: schemathesis.openapi.from_dict(
        contract.project(DOCUMENT, audience), config=schemathesis.Config()
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
