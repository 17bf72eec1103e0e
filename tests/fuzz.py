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

from openapi import contract
from persistence import demo

KEY = re.compile('("[!-~]{1,255}"|[!-~]{1,255})')
SCHEMAS = contract.bundle()["components"]["schemas"]
WEBHOOK_URL = re.compile(SCHEMAS["WebhookUrl"]["pattern"])
# Where a name may be there once, and what makes one of its own of it.
ONCE = {
    ("POST /clients", "email"): ("EmailInput", "{}{}"),
    ("POST /domains", "domain"): ("DomainNameInput", "{}.{}"),
    ("POST /services", "domain"): ("ServiceDomainInput", "{}.{}"),
    ("POST /services", "username"): ("ServiceUsernameInput", "u{}"),
}

ROOT = Path(__file__).parent.parent
FOLDER = ROOT / "build" / "fuzz"
SEEDS = (1, 42, 1234)
UNIT_PHASES = ("examples", "coverage", "fuzzing")
OTHER = "other client"

# Operations whose refusal was looked at, in the process of one run.
REFUSED: set[str] = set()

# It could switch on the limits that the other operations are called without.
ALONE = frozenset({"update_settings"})

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
    """Give the links their bodies, which OpenAPI's generators want to be strings only."""
    for operation in contract.operations(document):
        for response in operation.spec["responses"].values():
            for link in response.get("links", {}).values():
                if "x-request-body" in link:
                    link["requestBody"] = link.pop("x-request-body")


@schemathesis.hook
def before_call(_context: Any, case: Any, _options: Any) -> None:
    """Give each new client, domain and service names of its own, each new webhook a URL, each request a key.

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
    for (label, name), (schema, form) in ONCE.items():
        if case.operation.label == label and isinstance(case.body, dict):
            given = case.body.get(name)
            # What is wrong stays wrong, and what is empty stays so.
            if isinstance(given, str) and given and re.fullmatch(SCHEMAS[schema]["pattern"], given):
                own = form.format(secrets.token_hex(8), given)
                if len(own) <= SCHEMAS[schema]["maxLength"]:
                    case.body = {**case.body, name: own}
    if case.operation.label == "POST /webhooks" and isinstance(case.body, dict):
        url = case.body.get("url")
        if isinstance(url, str) and len(url) <= 2000 and WEBHOOK_URL.fullmatch(url):
            case.body = {**case.body, "url": f"{url}/{secrets.token_hex(8)}"}


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
        """The operations that read one resource of a client."""
        return {
            label
            for label, each in self.operations.items()
            if self.audience == "client" and each.method == "get" and "{" in each.path
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
            f"{self.audience:<7} seed {self.seed:<5} {len(self.operations):>3} operations "
            f"{self.cases:>6} cases {self.chains:>4} chains {self.failures:>4} failures "
            f"{self.seconds:>6.1f} s" + f" {self.refused:>6} × 429" * self.limited
        )


def fuzz(
    target: Target,
    audience: contract.Audience,
    *,
    seed: int,
    examples: int | None = None,
    only: Collection[str] | None = None,
    limited: bool = False,
) -> Outcome:
    """Run Schemathesis once over what an audience may call, or over the operationIds ``only``.

    Without ``examples`` the settings say how many there are. Of a ``limited`` server some answers must
    be 429, and not everything is reached.
    """
    document = httpx.get(f"{target.url}/openapi.json", params={"audience": audience}, timeout=30).json()
    every = list(contract.operations(document))
    chosen = [each for each in every if (each.id in only if only is not None else each.id not in ALONE)]
    outcome = Outcome(
        audience,
        seed,
        {f"{each.method.upper()} {each.path}": each for each in chosen},
        frozenset(each.id for each in every) - {each.id for each in chosen},
        limited,
    )
    if not chosen:
        outcome.problems.append("There is nothing to test.")
        return outcome
    with tempfile.TemporaryDirectory(prefix="cloudarc-fuzz-") as name:
        folder = Path(name)
        (folder / "users.json").write_text(json.dumps(_users(target)))
        # From a file, because Schemathesis leaves out the operation that it got the contract from.
        (folder / "contract.json").write_text(json.dumps(document))
        command = [
            *(str(Path(sys.executable).with_name("schemathesis")), "--no-color", "run"),
            *(str(folder / "contract.json"), "--url", target.url),
            *("--auth-wfc", str(folder / "users.json"), "--auth-wfc-user", audience),
            *("--seed", str(seed)),
            *(("--max-examples", str(examples)) if examples else ()),
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
) -> Outcome:
    """Fuzz once, and print how it went."""
    limited = limits is not OFF
    place = FOLDER / "-".join([audience, *["limited"] * limited, *sorted(only or ()), str(seed)])
    with nullcontext(given) if given else fresh_server(place.with_suffix(".log"), limits) as target:
        outcome = fuzz(target, audience, seed=seed, only=only, limited=limited)
    print(outcome, flush=True)
    if outcome.problems:
        place.with_suffix(".txt").write_text(outcome.output)
        print(*outcome.problems, findings(outcome.output), sep="\n")
        print(f"The whole output: {place.with_suffix('.txt').relative_to(ROOT)}", flush=True)
    return outcome


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
            outcomes.append(_run(given, audience, seed))
            left_out |= outcomes[-1].left_out
        outcomes += [_run(given, audience, seed, left_out) for seed in SEEDS if left_out]
        outcomes += [_run(given, audience, SEEDS[0], chain) for chain in rare_chains(outcomes, audience)]
    missed = gaps(outcomes)
    if given is None:
        outcomes += [_run(None, audience, SEEDS[0], limits=ON) for audience in contract.AUDIENCES]
    print(
        *missed or ["Every operation was answered 2xx, every link followed, all ownership tried."], sep="\n"
    )
    return 1 if missed or any(each.problems for each in outcomes) else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
