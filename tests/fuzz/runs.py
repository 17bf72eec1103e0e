"""One run of Schemathesis, what it tested, and what it found."""

import json
import subprocess
import sys
import tempfile
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from schemathesis.checks import CHECKS

from openapi import contract, loading
from persistence import demo

ROOT = Path(__file__).parents[2]
UNIT_PHASES = ("examples", "coverage", "fuzzing")
OTHER = "other client"

SHARED = frozenset({"announcements", "knowledgebase"})
"""The tags of resources that belong to no client."""

# It could switch on the limits that the other operations are called without.
ALONE = frozenset({"update_settings"})

# They serve the contract, and no projection has them.
OWN = frozenset(
    each.id for each in contract.operations(loading.bundle()) if contract.OWN_TAG in each.spec["tags"]
)

SERVED = contract.ROOT / "schemathesis.toml"
ADDED = Path(__file__).with_name("fuzz.toml")


def settings() -> str:
    """What is served to every tester, and what the project's own runs have beside it."""
    return f'hooks = "tests.fuzz.hooks"\n{SERVED.read_text()}\n{ADDED.read_text()}'


OFF = {"CLIENT": 0, "ADMIN": 0, "ANONYMOUS": 0}
# Some seconds' worth, so that a run meets both. Callers without a credential have none, for Schemathesis
# takes nothing but 401 for the answer to a missing one.
ON = {"CLIENT": 1000, "ADMIN": 1000, "ANONYMOUS": 0}


# Webhooks can be made where no name resolves, and nobody is called.
WEBHOOKS = {"CLOUDARC_WEBHOOK_PRIVATE_TARGETS": "on", "CLOUDARC_WEBHOOK_WORKER": "off"}


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
        ``tests/api/test_auth.py`` calls those with another client's token.
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
        (folder / "users.json").write_text(json.dumps(users(target)))
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


def users(target: Target) -> dict[str, Any]:
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
