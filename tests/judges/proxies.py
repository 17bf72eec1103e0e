"""Validating proxies before a server: Prism, openapi-backend, express-openapi-validator.

Each holds the contract as one audience gets it. It must pass everything that newman sent and the calls below.
It must refuse the wrong ones before they reach the server, and notice an answer that breaks the contract.
"""

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx

from openapi import contract, loading
from tests.clients import running
from tests.clients.running import Failure
from tests.judges import linters
from tests.judges.linters import FOLDER
from tests.judges.live import SECRETS, SPEC, prism, server
from tests.judges.recorder import SPOIL
from tests.soak import processes

# The headers of newman's requests that belong to the request itself.
KEPT = ("accept", "content-type", "idempotency-key")
NOWHERE = 9007199254740991


@dataclass(frozen=True)
class Call:
    """A request below the base address of the API, and the status of its answer."""

    method: str
    path: str
    status: int
    body: str | None = None
    headers: dict[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.method} {self.path} {self.body or ''}".strip()


def _call(method: str, path: str, status: int, body: Any = None, **headers: str) -> Call:
    """A call whose body is written as JSON, unless it is text already."""
    text = body if body is None or isinstance(body, str) else json.dumps(body)
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Call(method, path, status, text, named)


def _invoice(**changed: Any) -> dict[str, Any]:
    items = [{"description": "Hosting", "amount": 19.99}, {"description": "Backup", "amount": 4.35}]
    return {"client_id": 56, "due_date": "2035-01-31", "items": items} | changed


def _line(amount: object) -> list[dict[str, object]]:
    return [{"description": "Hosting", "amount": amount}]


def _domain(name: str, expires: str, **changed: Any) -> dict[str, Any]:
    return {"client_id": 56, "domain": f"{name}.example.com", "expires_at": expires} | changed


TICKET = {"subject": "Grüße", "message": "Hello\n\tWorld", "department_id": 1}
# What is right, as callers of many languages write it.
RIGHT: dict[contract.Audience, tuple[Call, ...]] = {
    "client": (
        _call("POST", "/tickets", 201, TICKET),
        _call("POST", "/tickets", 201, json.dumps(TICKET).replace("1}", "1.0}")),
        _call("GET", "/invoices?page=1&limit=1", 200),
        _call("GET", f"/tickets/{NOWHERE}", 404),
        _call("GET", "/profile", 304, if_none_match="*"),
        _call("GET", "/profile", 401, authorization="Bearer nobody"),
    ),
    "admin": (
        _call("POST", "/invoices", 201, _invoice()),
        _call("POST", "/invoices", 201, json.dumps(_invoice(items=_line(29.0))).replace("56", "56.0")),
        _call("POST", "/domains", 201, _domain("utc", "2035-01-31T00:00:00Z")),
        _call("POST", "/domains", 201, _domain("zero", "2035-01-31T00:00:00+00:00")),
        _call("POST", "/domains", 201, _domain("milli", "2035-01-31T00:00:00.000Z")),
        _call("POST", "/domains", 201, _domain("nano", "2035-01-31T01:00:00.123456789+01:00")),
        _call("GET", "/invoices?status=paid&limit=1", 200),
        _call("GET", f"/invoices/{NOWHERE}", 404),
        _call("GET", "/invoices/1234", 304, if_none_match="*"),
        _call("GET", "/invoices/1234", 401, authorization="Bearer nobody"),
    ),
}
# What is wrong; the status is that of the server, when it is asked without a proxy.
WRONG: dict[contract.Audience, tuple[Call, ...]] = {
    "client": (
        _call("POST", "/tickets", 422, {"subject": "Help", "department_id": 1}),
        _call("POST", "/tickets", 400, TICKET | {"department_id": "one"}),
        _call("POST", "/tickets", 400, TICKET | {"department_id": 0}),
        _call("POST", "/tickets", 400, TICKET | {"colour": "red"}),
        _call("PUT", "/profile", 400, {}),
        _call("PUT", "/profile", 400, {"country": "USA"}),
        _call("GET", "/invoices?limit=101", 400),
        _call("GET", "/tickets/0", 400),
    ),
    "admin": (
        _call("POST", "/invoices", 400, {"due_date": "2035-01-31", "items": _line(19.99)}),
        _call("POST", "/invoices", 400, _invoice(items=_line(-0.01))),
        _call("POST", "/invoices", 400, _invoice(items=_line(100000000))),
        _call("POST", "/invoices", 400, _invoice(items=_line(True))),
        _call("POST", "/invoices", 400, _invoice(items=[])),
        _call("POST", "/invoices", 400, _invoice(due_date="31.01.2035")),
        _call("POST", "/domains", 400, _domain("wrong", "tomorrow")),
        _call("POST", "/domains", 400, _domain("wrong", "2035-01-31T00:00:00Z", status="lost")),
        _call("GET", "/invoices?status=lost", 400),
        _call("GET", "/clients/someone", 400),
    ),
}
SPOILED: dict[contract.Audience, str] = {"client": "/profile", "admin": "/settings"}


def newman_sent(audience: contract.Audience) -> list[Call]:
    """The requests that newman has sent to a fresh server of the same demo data. Raises Failure."""
    record = FOLDER / f"newman-{audience}.jsonl"
    if not record.exists():
        raise Failure("newman has sent nothing yet")
    base = loading.bundle()["servers"][0]["url"]
    calls = []
    for line in record.read_text().splitlines():
        sent = json.loads(line)
        headers = {name: value for name, value in sent["headers"] if name.lower() in KEPT}
        path = sent["path"].removeprefix(base)
        calls.append(Call(sent["method"], path, sent["status"], sent["body"] or None, headers))
    return calls


@contextmanager
def _prism(document: Path, url: str) -> Iterator[str]:
    with prism(url, document, "--errors") as (address, _):
        yield address


@contextmanager
def _gateway(tool: str, document: Path, url: str) -> Iterator[str]:
    """The address of a gateway of ours that validates with a library for Node.js."""
    script, parts_of_url = shutil.copy(linters.SOURCES / "gateway.cjs", FOLDER), urlsplit(url)
    log = FOLDER / f"{tool}.log"
    with log.open("w") as out:
        command = ["node", os.fspath(script), tool, str(document), f"http://{parts_of_url.netloc}"]
        process = subprocess.Popen(command, cwd=FOLDER, stdout=out, stderr=out, env=running.environment())
    try:
        processes.until(lambda: "listening on" in log.read_text() or process.poll() is not None, 120, tool)
        if process.poll() is not None:
            raise Failure(f"{tool} does not start: {log.read_text()[:2000]}")
        port = log.read_text().split("listening on ")[1].split()[0]
        yield f"http://127.0.0.1:{port}{parts_of_url.path}"
    finally:
        process.terminate()
        process.wait(20)


PROXIES: dict[str, Callable[[Path, str], AbstractContextManager[str]]] = {
    "prism": _prism,
    "openapi-backend": lambda document, url: _gateway("openapi-backend", document, url),
    "express-openapi-validator": lambda document, url: _gateway("express-openapi-validator", document, url),
}


def judge(name: str) -> str:
    """What a proxy passes and refuses, with the document of each audience and version. Raises Failure."""
    passed = refused = 0
    for version in contract.VERSIONS:
        for audience in contract.AUDIENCES:
            document = SPEC / linters.file_name(version, audience)
            with (
                server(f"{name}-{document.stem}") as (url, _, record),
                PROXIES[name](document, url) as address,
            ):
                problems = list(faults(audience, address, url, record))
            if problems:
                raise Failure("\n".join(f"{name}, {document.name}: {each}" for each in problems[:20]))
            passed += len(newman_sent(audience)) + len(RIGHT[audience])
            refused += len(WRONG[audience])
    return f"{passed} calls pass and {refused} wrong ones are refused, in 2 audiences and 2 versions"


def faults(audience: contract.Audience, address: str, url: str, record: Path) -> Iterator[str]:
    """What a proxy at an address does wrong, as sentences.

    The server is at ``url``, and ``record`` has what reaches it.
    """
    with httpx.Client(headers={"Authorization": f"Bearer {SECRETS[audience]}"}, timeout=30) as api:

        def send(call: Call, base: str = address) -> httpx.Response:
            headers = ({"Content-Type": "application/json"} if call.body else {}) | call.headers
            return api.request(call.method, base + call.path, content=call.body, headers=headers)

        for call in (*newman_sent(audience), *RIGHT[audience]):
            answer = send(call)
            if answer.status_code != call.status:
                yield f"{call}: {answer.status_code} and not {call.status}: {answer.text[:400]}"
        for call in WRONG[audience]:
            before = len(record.read_text().splitlines())
            answer = send(call)
            if answer.status_code < 400 or len(record.read_text().splitlines()) != before:
                yield f"{call}: reaches the server, {answer.status_code}"
            direct = send(call, url)
            if direct.status_code != call.status:
                yield f"{call}: the server itself answers {direct.status_code} and not {call.status}"
        spoiled = api.get(address + SPOILED[audience], headers={SPOIL: "1"})
        if spoiled.status_code < 500:
            yield f"an answer that breaks the contract passes: {spoiled.status_code}"
