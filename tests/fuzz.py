"""Fuzz a server with Schemathesis: every check, every phase, one run for each audience and seed.

``make fuzz`` starts a fresh server for each run, so that any of them can be repeated alone. With ``URL``
(which ends in ``/api/v1``) a running server is fuzzed instead, as the client of ``TOKEN``, the other
client of ``PEER`` and the operator of ``KEY``, by default those of the demo data. It is left full of
rubbish.

A run passes where Schemathesis finds nothing and really tested everything. After the runs every
operation must have been answered 2xx at least once, every link of the contract followed, and every
resource of a client tried by the other client.

A second profile fuzzes servers whose limits are on, where many calls are refused: what is refused must
be so as the contract says, and nothing else may fail.
"""

import json
import os
import re
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

import httpx
import schemathesis
from schemathesis.checks import CHECKS
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
)

from openapi import contract, loading
from persistence import demo

AMOUNT = re.compile(r"(0|[1-9][0-9]{0,7})(\.[0-9]{1,2})?")
KEY = re.compile('("[!-~]{1,255}"|[!-~]{1,255})')
SCHEMAS = loading.bundle()["components"]["schemas"]
NAMES = {"email": "EmailInput", "domain": "ServiceDomainInput", "username": "ServiceUsernameInput"}
WEBHOOK_URL = re.compile(SCHEMAS["WebhookUrl"]["pattern"])

ROOT = Path(__file__).parent.parent
FOLDER = ROOT / "build" / "fuzz"
SEEDS = (1, 42, 1234)
VERSIONS: Mapping[int, contract.Version] = {42: "3.1"}
"""The seeds whose runs read another version of OpenAPI than 3.0."""

UNIT_PHASES = ("examples", "coverage", "fuzzing")
OTHER = "other client"

SHARED = frozenset({"announcements", "knowledgebase"})
"""The tags of resources that belong to no client."""

# Operations whose refusal was looked at, in the process of one run.
REFUSED: set[str] = set()

# It could switch on the limits that the other operations are called without.
ALONE = frozenset({"update_settings"})

# They serve the contract, and no projection has them.
OWN = frozenset(
    each.id for each in contract.operations(loading.bundle()) if contract.OWN_TAG in each.spec["tags"]
)

SERVED = contract.ROOT / "schemathesis.toml"
ADDED = Path(__file__).with_suffix(".toml")


def settings() -> str:
    """What is served to every tester, and what the project's own runs have beside it."""
    return f'hooks = "tests.fuzz"\n{SERVED.read_text()}\n{ADDED.read_text()}'


OFF = {"CLIENT": 0, "ADMIN": 0, "ANONYMOUS": 0}
# Some seconds' worth, so that a run meets both. Callers without a credential have none, for Schemathesis
# takes nothing but 401 for the answer to a missing one.
ON = {"CLIENT": 1000, "ADMIN": 1000, "ANONYMOUS": 0}


# Webhooks can be made where no name resolves, and nobody is called.
WEBHOOKS = {"CLOUDARC_WEBHOOK_PRIVATE_TARGETS": "on", "CLOUDARC_WEBHOOK_WORKER": "off"}


@schemathesis.deserializer("text/html")
def _read_html(context: Any, response: Any) -> str:
    """A page is a string to its schema."""
    return str(response.content.decode("utf-8"))


@schemathesis.check
def documented_refusal(context: Any, response: Any, case: Any) -> None:
    """Whoever names nobody is refused as the contract says, once for each operation.

    ``ignored_auth`` looks at the status of that refusal, and at nothing else of it.
    """
    if not 200 <= response.status_code < 300 or case.operation.label in REFUSED:
        return
    REFUSED.add(case.operation.label)
    asked = response.request
    headers = {name: value for name, value in asked.headers.items() if name.lower() != "authorization"}
    if len(headers) == len(asked.headers):
        return
    refused = httpx.request(asked.method, asked.url, headers=headers, content=asked.body, timeout=30)
    if refused.status_code == 401:
        refusal = schemathesis.Response.from_any(refused)
        for check in (response_headers_conformance, content_type_conformance, response_schema_conformance):
            check(context, refusal, case)


@schemathesis.hook
def before_load_schema(_context: Any, document: dict[str, Any]) -> None:
    """Give the links their bodies, which OpenAPI's generators want to be strings only, and all parameters.

    ``ensure_resource_availability`` looks only at calls whose every parameter comes from a link, optional
    ones too. So each link names a version that nothing has, where its target may be asked for one.
    """
    conditional = {
        operation.id
        for operation in contract.operations(document)
        for each in operation.spec.get("parameters", [])
        if contract.deref(document, each)["name"] == "If-None-Match"
    }
    for operation in contract.operations(document):
        for response in operation.spec["responses"].values():
            for link in response.get("links", {}).values():
                if "x-request-body" in link:
                    link["requestBody"] = link.pop("x-request-body")
                if link["operationId"] in conditional:
                    link["parameters"]["header.If-None-Match"] = '"no version"'


@schemathesis.hook
def before_call(_context: Any, case: Any, _options: Any) -> None:
    """Give each new client an email address of its own, each new webhook a URL, each request a key.

    Hypothesis repeats what it did, and ends a phase where the same call is answered 201 once and 409
    the next time; and a key that was used would keep what is new from being tried. Of the versions that
    ``If-Match`` names half are any version: no made-up one is ever the newest.
    """
    headers = case.headers or {}
    key, version = headers.get("Idempotency-Key"), headers.get("If-Match")
    if isinstance(key, str) and KEY.fullmatch(key):
        headers["Idempotency-Key"] = f"{secrets.token_hex(8)}{key.strip(chr(34))[:200]}"
    if isinstance(version, str) and len(version) % 2:
        headers["If-Match"] = "*"
    if case.operation.label == "POST /clients" and isinstance(case.body, dict):
        email = case.body.get("email", "")
        if _is_name("email", email):
            # Few made-up domains can exist, so three of four addresses get one that does.
            domain = email[-200:] if len(email) % 4 == 0 else "@example.com"
            case.body = {**case.body, "email": f"{secrets.token_hex(8)}{domain}"}
    if isinstance(case.body, dict):
        case.body = _with_free_names(case.body)
    if isinstance(case.body, dict):
        case.body = _with_cents(case.body)
    if case.operation.label == "POST /webhooks" and isinstance(case.body, dict):
        url = case.body.get("url")
        if isinstance(url, str) and len(url) <= 2000 and WEBHOOK_URL.fullmatch(url):
            case.body = {**case.body, "url": f"{url}/{secrets.token_hex(8)}"}


def _with_free_names(body: dict[str, Any]) -> dict[str, Any]:
    """A body whose domain and username nothing else has, in three of four cases; those names can exist."""
    free = {"domain": f"{secrets.token_hex(8)}.example.com", "username": f"u{secrets.token_hex(8)}"}
    return body | {
        name: text for name, text in free.items() if _is_name(name, body.get(name)) and len(body[name]) % 4
    }


def _is_name(member: str, value: Any) -> bool:
    """Whether the contract admits a value as a name of this kind, and not the empty one."""
    schema = SCHEMAS[NAMES[member]]
    return (
        isinstance(value, str)
        and 0 < len(value) <= schema["maxLength"]
        and re.fullmatch(schema["pattern"], value) is not None
        and not ("not" in schema and re.search(schema["not"]["pattern"], value))
    )


def _with_cents(body: dict[str, Any]) -> dict[str, Any]:
    """A body whose amounts have two decimals, which the contract cannot say of a number.

    The others are refused. One in eight is left as it is, and so is what lies out of bounds. The server
    accepts amounts as strings of digits too, so such a string is not invalid; it gets a letter.
    """

    def rounded(value: Any) -> Any:
        if isinstance(value, str) and AMOUNT.fullmatch(value):
            return f"{value}x"
        fits = isinstance(value, float) and 0 <= value <= 99_999_999.99
        return round(value - 0.005, 2) if fits and value >= 0.01 and int(value) % 8 else value

    items, prices = body.get("items"), body.get("prices")
    if isinstance(items, list):
        lines = [
            {**each, "amount": rounded(each["amount"])}
            if isinstance(each, dict) and "amount" in each
            else each
            for each in items
        ]
        body = {**body, "items": lines}
    if isinstance(prices, dict):
        body = {**body, "prices": {cycle: rounded(price) for cycle, price in prices.items()}}
    return body


@dataclass(frozen=True)
class Target:
    """A server and who may call it."""

    url: str
    client: str = demo.CLIENT_TOKEN
    other: str = demo.OTHER_CLIENT_TOKEN
    admin: str = demo.ADMIN_KEY


@dataclass
class Outcome:
    """What a run was to test, what it did, and why it does not pass."""

    audience: contract.Audience
    seed: int
    operations: dict[str, contract.Operation]
    left_out: frozenset[str]
    limited: bool = False
    version: contract.Version = "3.0"
    output: str = ""
    cases: int = 0
    failures: int = 0
    seconds: float = 0.0
    chains: int = 0
    refused: int = 0
    # Operations that were answered 2xx, those that the other client called, and links.
    answered: set[str] = field(default_factory=set)
    crossed: set[str] = field(default_factory=set)
    followed: set[str] = field(default_factory=set)
    problems: list[str] = field(default_factory=list)

    @property
    def owned(self) -> set[str]:
        """The operations that read one resource of a client. Every client reads the same ``SHARED`` ones.

        The check looks for the path's id in the answer, so it cannot judge a list below a resource.
        ``tests/test_auth.py`` calls those with another client's token.
        """
        return {
            label
            for label, each in self.operations.items()
            if self.audience == "client" and each.method == "get" and each.path.endswith("}")
            if not SHARED.intersection(each.spec["tags"])
        }

    @property
    def links(self) -> set[str]:
        """The links between the operations, named as Schemathesis names them."""
        labels = {each.id: label for label, each in self.operations.items()}
        return {
            f"{label} -> [{status}] {name} -> {labels[link['operationId']]}"
            for label, each in self.operations.items()
            for status, response in each.spec["responses"].items()
            for name, link in response.get("links", {}).items()
            if link["operationId"] in labels
        }

    def __str__(self) -> str:
        return (
            f"{self.audience:<7} {self.version} seed {self.seed:<5} {len(self.operations):>3} operations "
            f"{self.cases:>6} cases {self.chains:>4} chains {self.failures:>4} failures "
            f"{self.seconds:>6.1f} s" + f" {self.refused:>6} × 429" * self.limited
        )


def fuzz(
    target: Target,
    audience: contract.Audience,
    *,
    seed: int,
    examples: int = 100,
    only: Collection[str] | None = None,
    limited: bool = False,
    version: contract.Version = "3.0",
) -> Outcome:
    """Run Schemathesis once over what an audience may call, or over the operationIds ``only``.

    Operations that no projection has are taken from the whole contract. Of a ``limited`` server
    some answers must be 429, and not everything is reached.
    """
    projection: dict[str, str] = {"version": version}
    if OWN.isdisjoint(only or ()):
        projection["audience"] = audience
    document = httpx.get(f"{target.url}/openapi.json", params=projection, timeout=30).json()
    every = list(contract.operations(document))
    chosen = [each for each in every if (each.id in only if only is not None else each.id not in ALONE)]
    outcome = Outcome(
        audience,
        seed,
        {f"{each.method.upper()} {each.path}": each for each in chosen},
        frozenset(each.id for each in every) - {each.id for each in chosen},
        limited,
        version,
    )
    if not chosen:
        outcome.problems.append("There is nothing to test.")
        return outcome
    with tempfile.TemporaryDirectory(prefix="cloudarc-fuzz-") as name:
        folder = Path(name)
        (folder / "users.json").write_text(json.dumps(_users(target)))
        (folder / "schemathesis.toml").write_text(settings())
        # From a file, because Schemathesis leaves out the operation that it got the contract from.
        (folder / "contract.json").write_text(json.dumps(document))
        command = [
            *(str(Path(sys.executable).with_name("schemathesis")), "--no-color"),
            *("--config-file", str(folder / "schemathesis.toml"), "run"),
            *(str(folder / "contract.json"), "--url", target.url),
            *("--auth-wfc", str(folder / "users.json"), "--auth-wfc-user", audience),
            # With more workers, Python 3.11 reports errors of Schemathesis' own. Without a database, a run
            # depends on its seed and on no run before it.
            *("--seed", str(seed), "--workers", "1", "--generation-database", "none"),
            *("--max-examples", str(examples)),
            *("--report-json-path", str(folder / "report.json")),
            *("--report-ndjson-path", str(folder / "events.ndjson")),
            *[option for each in chosen for option in ("--include-operation-id", each.id)],
            # Where no link leads from one of them to another, Schemathesis calls the last phase an error.
            *(() if outcome.links else ("--phases", ",".join(UNIT_PHASES))),
            # They would tell that there are limits, which what is fuzzed alone may switch on.
            *(("--warnings", "off") if limited or {each.id for each in chosen} <= ALONE else ()),
        ]
        done = subprocess.run(
            command,
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            check=False,
            text=True,
            errors="replace",
        )
        outcome.output = done.stdout
        read_reports(outcome, done.returncode, folder)
    return outcome


def _users(target: Target) -> dict[str, Any]:
    """The callers in the format of Web Fuzzing Commons."""
    secrets = {"client": target.client, OTHER: target.other, "admin": target.admin}
    return {
        "auth": [
            {"name": name, "fixedHeaders": [{"name": "Authorization", "value": f"Bearer {secret}"}]}
            for name, secret in secrets.items()
        ]
    }


def read_reports(outcome: Outcome, status: int, folder: Path) -> None:
    """What the reports say: Schemathesis alone calls a run good whose worker died in the middle."""
    if status:
        outcome.problems.append(f"Schemathesis ended with exit status {status}.")
    if not (folder / "report.json").exists() or not (folder / "events.ndjson").exists():
        outcome.problems.append("Schemathesis wrote no reports.")
        return
    report = json.loads((folder / "report.json").read_bytes())
    outcome.cases = report["test_cases"]["generated"]
    outcome.failures = report["test_cases"]["unique_failures"]
    outcome.seconds = report["running_time"]
    counts = report["operations"]
    if counts["tested"] != len(outcome.operations) or not report["complete"]:
        outcome.problems.append(f"{counts['tested']} of {len(outcome.operations)} operations were tested.")
    seen: set[tuple[str, str]] = set()
    checks: set[str] = set()
    with (folder / "events.ndjson").open(encoding="utf-8") as lines:
        for line in lines:
            scenario = json.loads(line).get("ScenarioFinished")
            if scenario is None:
                continue
            seen.add((scenario["phase"], scenario["recorder"]["label"]))
            outcome.chains += scenario["phase"] == "stateful"
            checks |= _read_scenario(outcome, scenario["recorder"])
    for phase in UNIT_PHASES:
        missing = sorted(label for label in outcome.operations if (phase, label) not in seen)
        if missing:
            outcome.problems.append(f"The {phase} phase did not reach {', '.join(missing)}.")
    if outcome.limited:
        if not (outcome.refused and outcome.answered):
            outcome.problems.append("The limit was not met.")
        return
    if outcome.links and not outcome.followed:
        outcome.problems.append("The stateful phase followed no link.")
    idle = sorted({*CHECKS.get_all_names(), "max_response_time"} - checks)
    if idle:
        outcome.problems.append(f"These checks never ran: {', '.join(idle)}.")


def _read_scenario(outcome: Outcome, recorder: dict[str, Any]) -> set[str]:
    """Note who was answered what; the result names the checks that ran."""
    for key, interaction in recorder.get("interactions", {}).items():
        case = recorder["cases"][key]["value"]
        if recorder["cases"][key].get("is_transition_applied"):
            outcome.followed.add(recorder["cases"][key]["transition"]["id"])
        label = f"{case['method']} {case['path']}"
        status = (interaction.get("response") or {}).get("status_code", 0)
        outcome.refused += status == 429
        if 200 <= status < 300:
            outcome.answered.add(label)
        if case.get("auth_identity") == OTHER:
            outcome.crossed.add(label)
    return {check["name"] for found in recorder.get("checks", {}).values() for check in found}


IF_MATCH = frozenset(
    f"{operation.method.upper()} {operation.path}"
    for operation in contract.operations(loading.bundle())
    for each in operation.spec.get("parameters", [])
    if contract.deref(loading.bundle(), each)["name"] == "If-Match"
)


@dataclass(frozen=True)
class Stock:
    """What the command of docs/fuzz-us.md did: its end, its words, its failures, and what it called."""

    status: int
    output: str
    failures: frozenset[tuple[str, str, int]]
    """Each a check, an operation, and the status of the answer."""
    called: frozenset[str]
    allowed: Mapping[str, str]
    """The methods of each path, by the answers to OPTIONS."""

    @property
    def unexpected(self) -> set[tuple[str, str, int]]:
        """The failures beside those of a made-up ``If-Match``, which no tool can know to be stale."""
        return {
            (check, label, status)
            for check, label, status in self.failures
            if (check, status) != ("positive_data_acceptance", 412) or label not in IF_MATCH
        }


def stock(target: Target, audience: contract.Audience, *options: str, configured: bool = False) -> Stock:
    """Run Schemathesis as a newcomer types it: in an empty folder, with nothing but the served settings."""
    secret = {"client": target.client, "admin": target.admin}[audience]
    left_out = [option for id in sorted(ALONE) for option in ("--exclude-operation-id", id)]
    with tempfile.TemporaryDirectory(prefix="cloudarc-stock-") as name:
        folder = Path(name)
        if configured:
            served = httpx.get(f"{target.url}/schemathesis.toml", timeout=30).raise_for_status()
            (folder / "schemathesis.toml").write_bytes(served.content)
        done = subprocess.run(
            [
                *(str(Path(sys.executable).with_name("schemathesis")), "run"),
                *(f"{target.url}/openapi.json?audience={audience}", *options),
                *("--header", f"Authorization: Bearer {secret}", *(left_out if audience == "admin" else [])),
                *("--report-ndjson-path", str(folder / "events.ndjson")),
            ],
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            check=False,
            text=True,
            errors="replace",
        )
        failures, called, allowed = set(), set(), {}
        for line in (folder / "events.ndjson").read_text().splitlines():
            recorder = json.loads(line).get("ScenarioFinished", {}).get("recorder", {})
            for key, interaction in recorder.get("interactions", {}).items():
                case = recorder["cases"][key]["value"]
                response = interaction.get("response") or {}
                label = f"{case['method']} {case['path']}"
                called.add(label)
                if interaction["request"]["method"] == "OPTIONS" and "allow" in response.get("headers", {}):
                    allowed[case["path"]] = ", ".join(response["headers"]["allow"])
                failures |= {
                    (each["name"], label, response.get("status_code", 0))
                    for each in recorder.get("checks", {}).get(key, [])
                    if each["status"] == "failure"
                }
    return Stock(done.returncode, done.stdout, frozenset(failures), frozenset(called), allowed)


def gaps(outcomes: Sequence[Outcome]) -> list[str]:
    """What no run reached, as sentences."""
    result = []
    for audience in contract.AUDIENCES:
        mine = [each for each in outcomes if each.audience == audience]
        answered = {label for each in mine for label in each.answered}
        crossed = {label for each in mine for label in each.crossed}
        wanted = {label for each in mine for label in each.operations}
        followed = {link for each in mine for link in each.followed}
        owned = {label for each in mine for label in each.owned}
        links = {link for each in mine for link in each.links}
        result += [f"{audience}: {label} was never answered 2xx." for label in sorted(wanted - answered)]
        result += [f"{audience}: {link} was never followed." for link in sorted(links - followed)]
        result += [f"{audience}: the other client never tried {label}." for label in sorted(owned - crossed)]
    return result


def rare_chains(outcomes: Sequence[Outcome], audience: contract.Audience) -> list[set[str]]:
    """The operationIds around each operation whose links chance has not followed, for a run of their own."""
    mine = [each for each in outcomes if each.audience == audience]
    every = {link for each in mine for link in each.links}
    ids = {label: operation.id for each in mine for label, operation in each.operations.items()}
    ends = {link: (link.partition(" -> ")[0], link.rpartition(" -> ")[2]) for link in every}
    missing = every - {link for each in mine for link in each.followed}
    chains = []
    for source in sorted({ends[link][0] for link in missing}):
        makers = {start for start, end in ends.values() if end == source}
        targets = {end for start, end in ends.values() if start == source}
        chains.append({ids[label] for label in {source} | makers | targets})
    return chains


MOST_SHOWN = 1_000


def findings(output: str) -> str:
    """The part of Schemathesis' output that tells what failed, or its end."""
    parts: list[list[str]] = [[]]
    for line in output.splitlines():
        if line.startswith("====") and line.endswith("===="):
            parts.append([])
        parts[-1].append(line)
    told = [
        part for part in parts if any(word in part[0] for word in ("FAILURES", "ERRORS", "WARNINGS")) if part
    ]
    lines = [line for part in told for line in part] or output.splitlines()[-40:]
    # A body may have a megabyte.
    return "\n".join(line if len(line) <= MOST_SHOWN else f"{line[:MOST_SHOWN]}…" for line in lines)


@contextmanager
def fresh_server(log: Path, limits: Mapping[str, int]) -> Iterator[Target]:
    """A server of its own with the demo data, on a free port, as a user starts it."""
    with tempfile.TemporaryDirectory(prefix="cloudarc-fuzz-data-") as data, log.open("wb") as output:
        environment = {name: text for name, text in os.environ.items() if not name.startswith("CLOUDARC_")}
        settings = {f"CLOUDARC_RATE_LIMIT_{name}": str(limit) for name, limit in limits.items()}
        server = subprocess.Popen(
            [sys.executable, "-m", "server", "serve", "--port", "0"],
            cwd=ROOT,
            env=environment | settings | WEBHOOKS | {"CLOUDARC_DATA_DIR": data},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        try:
            yield Target(_greeting(server, log))
        finally:
            server.terminate()
            try:
                server.wait(20)
            except subprocess.TimeoutExpired:
                server.kill()
                server.wait()


def _greeting(server: subprocess.Popen[bytes], log: Path) -> str:
    """The address in the server's first line, once it answers there."""
    for _ in range(600):
        first, end, _rest = log.read_text(errors="replace").partition("\n")
        if end and "serves http" in first:
            url = first.rpartition(" ")[2]
            try:
                httpx.get(f"{url}/status", timeout=1).raise_for_status()
            except httpx.HTTPError:
                pass
            else:
                return url
        if server.poll() is not None:
            break
        time.sleep(0.1)
    raise SystemExit(f"fuzz: the server did not start:\n{log.read_text(errors='replace')}")


def given_server() -> Target | None:
    """The server that the environment names, if it does and its credentials work there."""
    url = os.environ.get("URL")
    if not url:
        return None
    given = {"client": "TOKEN", "other": "PEER", "admin": "KEY"}
    secrets = {name: os.environ[variable] for name, variable in given.items() if os.environ.get(variable)}
    target = Target(url.rstrip("/"), **secrets)
    for name, path in (("client", "/profile"), ("other", "/profile"), ("admin", "/departments")):
        try:
            answer = httpx.get(
                target.url + path, headers={"Authorization": f"Bearer {getattr(target, name)}"}, timeout=30
            )
        except httpx.HTTPError as error:
            _give_up(f"URL does not answer ({error}); it ends in /api/v1.")
        if answer.status_code != 200:
            _give_up(f"{given[name]} does not work at URL: GET {path} is answered {answer.status_code}.")
        if "X-RateLimit-Limit" in answer.headers:
            _give_up(
                "The server limits calls; start it with CLOUDARC_RATE_LIMIT_CLIENT, _ADMIN, _ANONYMOUS at 0."
            )
    return target


def _give_up(message: str) -> NoReturn:
    print(f"fuzz: {message}", file=sys.stderr)
    raise SystemExit(2)


def _run(
    given: Target | None,
    audience: contract.Audience,
    seed: int,
    only: Collection[str] | None = None,
    limits: Mapping[str, int] = OFF,
    version: contract.Version = "3.0",
) -> Outcome:
    """Fuzz once, and print how it went."""
    limited = limits is not OFF
    place = FOLDER / "-".join([audience, *["limited"] * limited, *sorted(only or ()), str(seed)])
    with nullcontext(given) if given else fresh_server(place.with_suffix(".log"), limits) as target:
        outcome = fuzz(target, audience, seed=seed, only=only, limited=limited, version=version)
    print(outcome, flush=True)
    if outcome.problems:
        place.with_suffix(".txt").write_text(outcome.output)
        print(*outcome.problems, findings(outcome.output), sep="\n")
        print(f"The whole output: {place.with_suffix('.txt').relative_to(ROOT)}", flush=True)
    return outcome


def _run_stock(given: Target | None, audience: contract.Audience, *, configured: bool) -> list[str]:
    """Fuzz as a newcomer does, print how it went, and tell what is wrong."""
    name = f"{audience}, {'the served settings' if configured else 'no settings'}"
    log = FOLDER / f"{audience}-stock-{'served' if configured else 'bare'}.log"
    with nullcontext(given) if given else fresh_server(log, OFF) as target:
        found = stock(target, audience, "--seed", str(SEEDS[0]), configured=configured)
    print(f"{name}: {len(found.called)} operations {len(found.failures)} failures", flush=True)
    wrong = [f"{name}: {' '.join(map(str, each))}" for each in sorted(found.unexpected)]
    if configured and found.status:
        wrong.append(f"{name}: Schemathesis ended with exit status {found.status}.")
    if wrong:
        log.with_suffix(".txt").write_text(found.output)
        print(*wrong, findings(found.output), sep="\n")
    return wrong


def main() -> int:
    """Fuzz; the result is the exit status."""
    # Whoever ends this ends the server too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    given = given_server()
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir(parents=True)
    outcomes: list[Outcome] = []
    for audience in contract.AUDIENCES:
        left_out: frozenset[str] = frozenset()
        for seed in SEEDS:
            outcomes.append(_run(given, audience, seed, version=VERSIONS.get(seed, "3.0")))
            left_out |= outcomes[-1].left_out
        outcomes += [_run(given, audience, seed, left_out) for seed in SEEDS if left_out]
        outcomes += [_run(given, audience, SEEDS[0], chain) for chain in rare_chains(outcomes, audience)]
        outcomes.append(_run(given, audience, SEEDS[0], OWN))
    missed = gaps(outcomes)
    if given is None:
        outcomes += [_run(None, audience, SEEDS[0], limits=ON) for audience in contract.AUDIENCES]
    wrong = [
        each
        for audience in contract.AUDIENCES
        for configured in (False, True)
        for each in _run_stock(given, audience, configured=configured)
    ]
    print(
        *missed or ["Every operation was answered 2xx, every link followed, all ownership tried."], sep="\n"
    )
    return 1 if missed or wrong or any(each.problems for each in outcomes) else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
