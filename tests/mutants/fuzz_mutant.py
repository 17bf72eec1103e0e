"""Fuzz one operation of a server in this process, which may be a mutant: ``meet OPERATION [MUTANT]``.

Prints what was found as one line of JSON.
"""

import json
import re
import sys
import tempfile
from typing import Any

from openapi import contract
from tests.fuzz.runs import Target, fuzz
from tests.mutants import faults
from tests.mutants.planting import TRACES
from tests.support.live_server import ADMIN, CLIENT, OTHER, prepared, serving

SEED = 7
EXAMPLES = 5

FINDING = re.compile(r"^- (?:[A-Z]+\d+ )?(.+?):?$", re.MULTILINE)
SLOW = "Response time limit exceeded"
"""What a machine that is busy with something else may be found to be; no fault is."""


def meet(operation: contract.Operation, mutant: faults.Mutant | None = None) -> dict[str, Any]:
    """Plant the mutant and fuzz its operation: whether it failed, by which findings, and what was changed."""
    if mutant:
        mutant.fault.plant(mutant.operation)
    with tempfile.TemporaryDirectory(prefix="cloudarc-mutant-") as folder:
        running = prepared(f"sqlite:///{folder}/mutant.db")
        with serving(running):
            target = Target(running.url, CLIENT, OTHER, ADMIN)
            outcome = fuzz(
                target,
                faults.audience(operation),
                seed=SEED,
                examples=EXAMPLES,
                only=frozenset({operation.id}),
            )
    found = [each for each in FINDING.findall(outcome.output) if each != SLOW]
    return {
        "failed": bool(found),
        "sound": not found and outcome.cases > 0 and bool(outcome.answered),
        "found": list(dict.fromkeys(found)),
        "changes": TRACES.changes,
        "output": outcome.output if outcome.problems else "",
    }


if __name__ == "__main__":
    chosen = faults.OPERATIONS[sys.argv[1]]
    planted = faults.named(sys.argv[2]) if sys.argv[2:] else None
    print(json.dumps(meet(chosen, planted)))
