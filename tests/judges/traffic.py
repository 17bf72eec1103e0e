"""openapi-core's judgement of recorded traffic. It runs in an environment of its own, by itself:

``python traffic.py RECORD CLIENT ADMIN TOKEN KEY``: the file of exchanges, the projections of both audiences,
a token and a key. An answer must be right always, a request where it was answered with success.
"""

import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import yaml
from openapi_core import Config, OpenAPI
from openapi_core.datatypes import RequestParameters
from openapi_core.exceptions import OpenAPIError
from werkzeug.datastructures import Headers, ImmutableMultiDict


@dataclass
class Request:
    """A recorded request as openapi-core wants it."""

    exchange: dict[str, Any]
    host_url = "http://127.0.0.1"

    def __post_init__(self) -> None:
        parts = urlsplit(self.exchange["path"])
        self.path = parts.path
        self.method = self.exchange["method"].lower()
        self.body = self.exchange["body"].encode() or None
        headers = Headers(self.exchange["headers"])
        self.content_type = headers.get("Content-Type", "application/json")
        self.parameters = RequestParameters(
            query=ImmutableMultiDict(parse_qsl(parts.query)), header=headers, cookie=ImmutableMultiDict()
        )


@dataclass
class Response:
    """A recorded answer as openapi-core wants it."""

    exchange: dict[str, Any]

    def __post_init__(self) -> None:
        self.status_code = self.exchange["status"]
        self.headers = Headers(self.exchange["answer_headers"])
        self.content_type = self.headers.get("Content-Type", "application/json").partition(";")[0]
        self.data = self.exchange["answer"].encode()


def _bearer(exchange: dict[str, Any]) -> str:
    return {name.lower(): value for name, value in exchange["headers"]}.get("authorization", "")


def faults(judge: OpenAPI, exchange: dict[str, Any]) -> Iterator[str]:
    """What is wrong with an exchange, as sentences."""
    request, response = Request(exchange), Response(exchange)
    told = f"{exchange['method']} {exchange['path']} {exchange['status']}"
    try:
        judge.validate_response(request, response)
    except OpenAPIError as error:
        yield f"{told}: the answer: {error!r} {error.__cause__!r}"[:600]
    if exchange["status"] < 400:
        try:
            judge.validate_request(request)
        except OpenAPIError as error:
            yield f"{told}: the request: {error!r} {error.__cause__!r}"[:600]


def main(record: str, client: str, admin: str, token: str, key: str) -> int:
    """Judge all; prints how many there were, or what is wrong."""
    # Of itself it reads no YAML, in which the contract is answered too.
    config = Config(extra_media_type_deserializers={"application/yaml": yaml.safe_load})
    judges = {
        name: OpenAPI.from_dict(json.loads(Path(file).read_text()), config=config)
        for name, file in (("client", client), ("admin", admin))
    }
    wrong, count = [], 0
    for line in Path(record).read_text().splitlines():
        exchange = json.loads(line)
        if exchange["path"].partition("?")[0].endswith("/openapi.json"):
            # The projections leave out the operations that serve the contract.
            continue
        # Who has no valid credential gets what either projection tells of.
        known = {f"Bearer {token}": ["client"], f"Bearer {key}": ["admin"]}
        mine = known.get(_bearer(exchange), list(judges))
        found = [list(faults(judges[audience], exchange)) for audience in mine]
        wrong += min(found, key=len)
        count += 1
    for each in wrong[:20]:
        print(each)
    if wrong or not count:
        print(f"{len(wrong)} of {count} exchanges break the contract")
        return 1
    print(f"{count} requests and answers")
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
