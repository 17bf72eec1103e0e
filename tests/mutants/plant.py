"""A plugin of pytest (``-p tests.mutants.plant``): the tests as they are meet the mutant of ``MUTANT``."""

import os
import sys

from tests.mutants import faults
from tests.mutants.planting import TRACES

CHANGES = "changes made by the fault: "


def pytest_configure() -> None:
    mutant = faults.named(os.environ["MUTANT"])
    mutant.fault.plant(mutant.operation)


def pytest_unconfigure() -> None:
    print(f"\n{CHANGES}{TRACES.changes}", file=sys.__stdout__)
