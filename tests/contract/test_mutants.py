"""Every class of faults has its operations, and a mutant is what it says it is, or it is refused."""

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.mutants import __main__ as runner
from tests.mutants import faults
from tests.mutants.planting import Answer

ROOT = Path(__file__).parents[2]

# Statuses, headers, shapes, 5xx and authentication are said by the contract.
BY_FUZZ = {each.name for each in faults.FAULTS if not (each.tests or each.matrix)}

# Plants a mutant, then makes one call, and prints what is answered and whether anything was changed.
CALL = """
import json, sys, tempfile, httpx
from tests.mutants import faults
from tests.mutants.planting import TRACES
from tests.support.live_server import prepared, serving
text, secret, path = sys.argv[1:]
mutant = faults.named(text)
mutant.fault.plant(mutant.operation)
with tempfile.TemporaryDirectory() as folder, serving(prepared(f"sqlite:///{folder}/x.db")) as running:
    headers = {"Authorization": f"Bearer {secret}"} if secret else {}
    answer = httpx.get(running.url + path, headers=headers)
print(json.dumps([answer.status_code, dict(answer.headers), answer.json(), TRACES.changes]))
"""


def called(mutant: str, secret: str, path: str) -> Any:
    command = [sys.executable, "-c", CALL, mutant, secret, path]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


class TestTheClasses:
    def test_each_has_two_operations_or_more(self) -> None:
        drawn = list(faults.drawn(1, 2))
        assert len(drawn) >= 40
        assert set(Counter(each.fault.name for each in drawn).values()) == {2}
        assert len({str(each) for each in drawn}) == len(drawn)

    def test_another_seed_draws_others_and_the_same_the_same(self) -> None:
        first, again, other = ([str(each) for each in faults.drawn(seed, 2)] for seed in (1, 1, 2))
        assert first == again != other

    def test_most_of_what_the_contract_says_is_left_to_the_fuzz_alone(self) -> None:
        assert {
            "unlisted status",
            "missing member",
            "extra member",
            "mistyped member",
            "no X-Request-Id",
            "500 on the largest number",
            "dropped authentication",
        } <= BY_FUZZ

    @pytest.mark.parametrize(
        "name", ["", "missing member", "nonsense, get_client", "dropped ownership, list_clients"]
    )
    def test_what_fits_no_operation_is_refused(self, name: str) -> None:
        with pytest.raises(ValueError, match="There is no mutant"):
            faults.named(name)

    def test_the_tests_of_each_exist(self) -> None:
        for each in faults.FAULTS:
            for place in filter(None, (each.tests, each.matrix)):
                file, _, name = place.partition("::")
                assert f"class {name}" in (ROOT / file).read_text()


class TestAMutant:
    @pytest.mark.parametrize(
        ("mutant", "secret", "path", "status"),
        [
            ("dropped ownership, get_service", "def456token", "/services/1", 200),
            ("dropped authentication, get_invoice", "", "/invoices/1234", 403),
        ],
    )
    def test_it_does_what_it_says_to_its_operation(
        self, mutant: str, secret: str, path: str, status: int
    ) -> None:
        given, _, _, changes = called(mutant, secret, path)
        assert (given, bool(changes)) == (status, True)

    def test_others_are_left_alone(self) -> None:
        mutant = called("missing member, get_service", "abc123token", "/services")
        assert (mutant[0], mutant[3]) == (200, 0)
        assert mutant[2]["data"][0]["next_due_date"] == "2024-02-01"


def met(*, failed: bool, sound: bool, changes: int) -> runner.Meeting:
    return runner.Meeting(failed, sound, changes, "as told", 1.0, "")


SOUND = met(failed=False, sound=True, changes=0)


class TestTheVerdict:
    """A mutant is caught where a suite that is sound fails by what the fault changed."""

    @pytest.mark.parametrize(
        ("control", "meeting", "by", "how"),
        [
            (SOUND, met(failed=True, sound=False, changes=3), "fuzz", "as told"),
            (SOUND, met(failed=False, sound=True, changes=3), "", "nobody noticed"),
            (SOUND, met(failed=False, sound=True, changes=0), "", "it changed nothing"),
            (
                SOUND,
                met(failed=True, sound=False, changes=0),
                "",
                "the fuzz failed, but not by the fault; it changed nothing",
            ),
            (
                met(failed=True, sound=False, changes=0),
                met(failed=True, sound=False, changes=3),
                "",
                "the fuzz fails without it: as told; it changed nothing",
            ),
        ],
    )
    def test_it_is(
        self,
        control: runner.Meeting,
        meeting: runner.Meeting,
        by: str,
        how: str,
        monkeypatch: pytest.MonkeyPatch,
        tmp_path: Path,
    ) -> None:
        monkeypatch.setattr(runner, "LOGS", tmp_path)
        suites = {"fuzz": lambda _what, mutant: meeting if mutant else control}
        monkeypatch.setattr(runner, "SUITES", suites)
        mutant = faults.named("missing member, get_service")
        verdict = runner.judge(mutant, runner.Controls())
        assert (verdict.by, verdict.how) == (by, how)
        page = runner.table([verdict])
        assert f"1 mutants of 1 classes, {int(not by)} survived" in page
        assert f"| missing member | `get_service` | {by} | {how} | " in page
        assert [(str(each.mutant), each.by, each.how) for each in runner.read(page)] == [
            (str(mutant), by, how)
        ]


class TestTheFuzzMeetsIt:
    def test_it_fails_by_the_fault(self) -> None:
        meeting = runner.fuzzed("get_status", faults.named("no X-Request-Id, get_status"))
        assert meeting.failed and meeting.changes, meeting.output
        assert "Missing required response headers" in meeting.how


def test_an_answer_can_be_read_whatever_it_is() -> None:
    assert Answer(200, (), b"<p>").json is None
