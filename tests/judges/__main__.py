"""``make judges``: let others judge the contract, and what the server makes of it.

The table goes to docs/judges-results.md.
"""

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from shutil import which

from tests.clients.running import ROOT, Failure, install_npm, install_python
from tests.judges import linters, live, proxies

TABLE = ROOT / "docs" / "judges-results.md"
REQUIREMENTS = ROOT / "requirements-judges.txt"
# What must be on the machine, and the Debian package that has it.
NEEDS = (("node", "nodejs"), ("npm", "npm"))
HEAD = """# What others say

Written by `make judges`. Exceptions stand in `.spectral.yaml` and `redocly.yaml`, each with its reason.

| judge | result | s | |
|---|---|---:|---|
"""


@dataclass(frozen=True)
class Verdict:
    """What a judge found; ``said`` is how much was judged, or why it failed."""

    judge: str
    said: str
    seconds: float
    passed: bool

    def __str__(self) -> str:
        said = self.said.splitlines()[0].replace("|", "\\|")
        return f"| {self.judge} | {said} | {self.seconds:.1f} | {'ok' if self.passed else 'failed'} |"


def verdict(judge: str, work: Callable[[], str]) -> Verdict:
    """What a judge says, and how long that took."""
    start = time.perf_counter()
    try:
        said, passed = work(), True
    except Failure as failure:
        said, passed = str(failure), False
    return Verdict(judge, said, time.perf_counter() - start, passed)


def verdicts() -> Iterator[Verdict]:
    """The verdicts, one after the other."""
    files = linters.write()
    yield verdict("Spectral, its rules and OWASP's", lambda: linters.spectral(files))
    yield verdict("Redocly, recommended-strict", lambda: linters.redocly(files))
    yield verdict("openapi-spec-validator", lambda: linters.validator(files))
    yield verdict("Postman's newman", live.newman)
    yield verdict("Redocly's respect, of openapi/arazzo.yaml", live.respect)
    yield verdict("Prism, before a generated client", live.watched_story)
    yield verdict("openapi-core, of what these sent and got", live.openapi_core)
    yield verdict("chai-openapi-response-validator, of the same", live.chai)
    yield verdict("Prism, which refuses", lambda: proxies.judge("prism"))
    yield verdict("openapi-backend, which refuses", lambda: proxies.judge("openapi-backend"))
    yield verdict(
        "express-openapi-validator, which refuses", lambda: proxies.judge("express-openapi-validator")
    )


def table(found: Sequence[Verdict]) -> str:
    """The verdicts as a page."""
    return HEAD + "".join(f"{each}\n" for each in found)


def main() -> int:
    """Ask all judges; the result is the exit status."""
    absent = [(need, package) for need, package in NEEDS if which(need) is None]
    for need, package in absent:
        print(f"judges: {need} is missing: install the Debian package {package}", file=sys.stderr)
    if absent:
        return 2
    try:
        install_npm(linters.FOLDER, linters.SOURCES)
        install_python(linters.FOLDER, REQUIREMENTS)
    except Failure as failure:
        print(f"judges: the judges cannot be installed: {failure}", file=sys.stderr)
        return 2
    found = []
    for each in verdicts():
        found.append(each)
        print(each, *([] if each.passed else [each.said]), sep="\n", flush=True)
    TABLE.write_text(table(found))
    bad = [each.judge for each in found if not each.passed]
    print(f"These found something: {'; '.join(bad)}." if bad else "No judge found anything.")
    return 1 if bad else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
