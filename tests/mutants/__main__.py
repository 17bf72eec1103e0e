"""Plant faults one at a time, and see whether the fuzz or the tests notice.

``make mutants`` draws mutants of every class (``EACH``, 2 by default, by the chance of ``SEED``), lets the
fuzz of the one operation meet each, then the tests of its class where the fuzz found nothing, and writes
``docs/mutants-results.md``. ``ONLY`` names a class, or one mutant as ``class, operation``; then only the
rows of what was met again are replaced.

A mutant counts as caught where what met it fails, the same command passes without it, and the fault
really changed something. The exit status is 1 where one is not.
"""

import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Lock

from tests.mutants import faults
from tests.mutants.plant import CHANGES

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "docs" / "mutants-results.md"
LOGS = ROOT / "build" / "mutants"
SECONDS = 300
AT_ONCE = 2


@dataclass(frozen=True)
class Meeting:
    """How one suite met one server."""

    failed: bool
    sound: bool
    changes: int
    how: str
    seconds: float
    output: str


@dataclass(frozen=True)
class Verdict:
    """What became of a mutant; ``by`` is empty where nobody caught it, and ``how`` then says why."""

    mutant: faults.Mutant
    by: str
    how: str
    seconds: float


def _done(command: Sequence[str], mutant: faults.Mutant | None) -> tuple[int, str, float]:
    """The exit status, output and seconds of a command; one that takes too long has failed."""
    environment = {name: text for name, text in os.environ.items() if not name.startswith("CLOUDARC_")}
    environment |= {"MUTANT": str(mutant)} if mutant else {}
    started = time.monotonic()
    with tempfile.TemporaryFile() as output:
        try:
            status = subprocess.run(
                [sys.executable, *command],
                cwd=ROOT,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                timeout=SECONDS,
                check=False,
            ).returncode
        except subprocess.TimeoutExpired:
            status = -1
        output.seek(0)
        text = output.read().decode(errors="replace")
    return status, text, time.monotonic() - started


def fuzzed(operation: str, mutant: faults.Mutant | None) -> Meeting:
    """How the fuzz of one operation ends."""
    command = ["-m", "tests.mutants.fuzz_mutant", operation, *([str(mutant)] if mutant else [])]
    status, output, seconds = _done(command, mutant)
    try:
        report = json.loads(output.splitlines()[-1])
    except (IndexError, ValueError):
        return Meeting(False, False, 0, f"the fuzz ended with {status}", seconds, output)
    how = "; ".join(report["found"])
    return Meeting(
        report["failed"], report["sound"], report["changes"], how, seconds, report["output"] or output
    )


def tested(what: str, mutant: faults.Mutant | None) -> Meeting:
    """How some tests end, on SQLite; ``what`` are files, and after a space a part of their tests' names."""
    files, _, name = what.partition(" ")
    plant = ["-p", "tests.mutants.plant"] if mutant else []
    words = f"not postgresql and {name}" if name else "not postgresql"
    command = ["-m", "pytest", "-q", "-x", "-k", words, *plant, files]
    status, output, seconds = _done(command, mutant)
    changes = re.findall(rf"^{CHANGES}(\d+)$", output, re.MULTILINE)
    failed = re.findall(r"^(?:FAILED|ERROR) (\S+)", output, re.MULTILINE)
    how = failed[0].removeprefix("tests/") if failed else f"the tests ended with {status}"
    return Meeting(
        status == 1 and bool(failed), status == 0, int(changes[-1]) if changes else 0, how, seconds, output
    )


class Controls:
    """What passes without a mutant; each command runs once."""

    def __init__(self) -> None:
        self.locks: dict[tuple[str, str], Lock] = {}
        self.known: dict[tuple[str, str], Meeting] = {}
        self.lock = Lock()

    def of(self, suite: str, what: str) -> Meeting:
        with self.lock:
            lock = self.locks.setdefault((suite, what), Lock())
        with lock:
            if (suite, what) not in self.known:
                self.known[suite, what] = SUITES[suite](what, None)
                _log(f"control, {suite} of {what}", self.known[suite, what])
            return self.known[suite, what]


SUITES = {"fuzz": fuzzed, "tests": tested}


def judge(mutant: faults.Mutant, controls: Controls) -> Verdict:
    """Let the suites meet a mutant until one catches it."""
    suites = [("fuzz", mutant.operation.id)]
    if mutant.fault.tests:
        suites += [("tests", mutant.fault.tests)]
    if mutant.fault.matrix:
        suites += [("tests", f"{mutant.fault.matrix} {mutant.operation.id}")]
    told, seconds, changes = [], 0.0, 0
    for suite, what in suites:
        control = controls.of(suite, what)
        if not control.sound:
            told.append(f"the {suite} fails without it: {control.how}")
            continue
        meeting = SUITES[suite](what, mutant)
        _log(f"{mutant}, {suite}", meeting)
        seconds += meeting.seconds
        changes += meeting.changes
        if meeting.failed and meeting.changes:
            return Verdict(mutant, suite, meeting.how, seconds)
        told += [f"the {suite} failed, but not by the fault"] if meeting.failed else []
    told += [] if changes else ["it changed nothing"]
    return Verdict(mutant, "", "; ".join(told) or "nobody noticed", seconds)


def _log(name: str, meeting: Meeting) -> None:
    text = f"failed {meeting.failed}, changes {meeting.changes}\n{meeting.output}"
    (LOGS / f"{re.sub('[^A-Za-z0-9_]+', '-', name)}.txt").write_text(text)


def table(verdicts: Sequence[Verdict]) -> str:
    """The results as a page."""
    order = {each.name: nth for nth, each in enumerate(faults.FAULTS)}
    rows = sorted(verdicts, key=lambda each: (bool(each.by), order[each.mutant.fault.name]))
    lines = [
        "# Who noticed which fault",
        "",
        "Written by `make mutants`: faults that were planted into one operation at a time, and what noticed"
        " them.",
        "Where nothing stands under *caught by*, nobody did.",
        "",
        f"{len(rows)} mutants of {len({each.mutant.fault.name for each in rows})} classes,"
        f" {sum(not each.by for each in rows)} survived; fuzz caught"
        f" {sum(each.by == 'fuzz' for each in rows)}, tests {sum(each.by == 'tests' for each in rows)};"
        f" together {sum(each.seconds for each in rows) / 60:.0f} minutes, {AT_ONCE} at once.",
        "",
        "| class of fault | operation | caught by | how | seconds |",
        "|---|---|---|---|---:|",
    ]
    lines += [
        f"| {each.mutant.fault.name} | `{each.mutant.operation.id}` | {each.by} |"
        f" {each.how.replace('|', '/')[:160]} | {each.seconds:.0f} |"
        for each in rows
    ]
    return "\n".join(lines) + "\n"


ROW = re.compile(r"^\| (.+?) \| `(\w+)` \| (\w*) \| (.*) \| (\d+) \|$", re.MULTILINE)


def read(page: str) -> list[Verdict]:
    """The verdicts that a page of results tells of, less those of mutants that there are no more."""
    found = []
    for name, operation, by, how, seconds in ROW.findall(page):
        with suppress(ValueError):
            found.append(Verdict(faults.named(f"{name}, {operation}"), by, how, float(seconds)))
    return found


def chosen() -> list[faults.Mutant]:
    """The mutants that the environment asks for. Raises ValueError."""
    only, seed, each = (os.environ.get(name) for name in ("ONLY", "SEED", "EACH"))
    if only and ", " in only:
        return [faults.named(only)]
    drawn = faults.drawn(int(seed or 1), int(each or 2))
    mutants = [mutant for mutant in drawn if not only or mutant.fault.name == only]
    if not mutants:
        raise ValueError(f"There is no class {only!r}; there are: {', '.join(faults.BY_NAME)}.")
    return mutants


def main() -> int:
    """Judge every mutant; the result is the exit status."""
    try:
        mutants = chosen()
    except ValueError as error:
        print(f"mutants: {error}", file=sys.stderr)
        return 2
    LOGS.mkdir(parents=True, exist_ok=True)
    controls, verdicts = Controls(), list[Verdict]()
    only = os.environ.get("ONLY")
    before = read(RESULTS.read_text()) if only and RESULTS.exists() else []
    again = {str(each) for each in mutants}
    # Of a class that is met again nothing is kept: other mutants may have been drawn of it before.
    kept = [each for each in before if str(each.mutant) not in again and each.mutant.fault.name != only]
    with ThreadPoolExecutor(AT_ONCE) as pool:
        for verdict in pool.map(lambda each: judge(each, controls), mutants):
            verdicts.append(verdict)
            # Whoever ends this has what it found so far.
            RESULTS.write_text(table([*kept, *verdicts]))
            print(
                f"{verdict.by or 'SURVIVED':<8} {verdict.seconds:>5.0f} s  {verdict.mutant}  ({verdict.how})",
                flush=True,
            )
    survivors = [each for each in verdicts if not each.by]
    print(f"{len(verdicts)} mutants, {len(survivors)} survived.")
    return 1 if survivors else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
