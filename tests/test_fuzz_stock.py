"""Schemathesis as a newcomer types it: in an empty folder, against a server that runs."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from openapi import contract
from tests import fuzz
from tests.contract_client import DOCUMENT
from tests.running import ADMIN, CLIENT, prepared, serving

SECRETS = {"client": CLIENT, "admin": ADMIN}
CONDITIONAL = {
    f"{each.method.upper()} {each.path}"
    for each in contract.operations(DOCUMENT)
    for one in each.spec.get("parameters", [])
    if contract.deref(DOCUMENT, one)["name"] == "If-Match"
}


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server with demo data and without limits, as docs/fuzz-us.md starts it."""
    with serving(prepared(f"sqlite:///{tmp_path_factory.mktemp('stock') / 'stock.db'}")) as running:
        yield running.url


def run(folder: Path, url: str, audience: contract.Audience, *options: str) -> tuple[int, str]:
    """The exit status and the output of the command, few examples apart as it is typed."""
    done = subprocess.run(
        [
            *(str(Path(sys.executable).with_name("schemathesis")), "run"),
            *(f"{url}/openapi.json?audience={audience}", "--max-examples", "2", "--seed", "1"),
            *("--header", f"Authorization: Bearer {SECRETS[audience]}"),
            *("--report-ndjson-path", str(folder / "events.ndjson"), *options),
        ],
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
        text=True,
        errors="replace",
    )
    return done.returncode, done.stdout


def failures(folder: Path) -> set[tuple[str, str, int]]:
    """Each failure of a run: the check, the operation, and the status of the answer."""
    found = set()
    for line in (folder / "events.ndjson").read_text().splitlines():
        recorder: dict[str, Any] = json.loads(line).get("ScenarioFinished", {}).get("recorder", {})
        for key, checks in recorder.get("checks", {}).items():
            case = recorder["cases"][key]["value"]
            status = (recorder["interactions"][key].get("response") or {}).get("status_code", 0)
            label = f"{case['method']} {case['path']}"
            found |= {(each["name"], label, status) for each in checks if each["status"] == "failure"}
    return found


@pytest.mark.parametrize("audience", contract.AUDIENCES)
def test_the_command_alone_finds_nothing_but_stale_versions(
    url: str, audience: contract.Audience, tmp_path: Path
) -> None:
    status, output = run(tmp_path, url, audience)
    found = failures(tmp_path)
    assert {(name, answer) for name, _, answer in found} == {("positive_data_acceptance", 412)}, output
    assert {label for _, label, _ in found} <= CONDITIONAL, output
    # It did find them, so the command ends as after any finding, and nothing else is wrong with it.
    assert status == 1 and "ERRORS" not in output, output


@pytest.mark.parametrize("audience", contract.AUDIENCES)
def test_with_the_configuration_that_is_served_it_finds_nothing(
    url: str, audience: contract.Audience, tmp_path: Path
) -> None:
    (tmp_path / "schemathesis.toml").write_bytes(fuzz.SERVED.read_bytes())
    status, output = run(tmp_path, url, audience)
    assert (status, failures(tmp_path)) == (0, set()), fuzz.findings(output)
