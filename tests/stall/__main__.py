"""``make stall``: the longest stall of each operation, attack and receiver; what memory and disk grow by.

The exit status is 1 where a stall is over 50 ms, or where a growth is not linear. ``SHORT=1`` takes less data
and fewer calls, and ``ONLY=growth`` one part: growth, receivers or calls.
"""

import asyncio
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

from tests.conftest import new_database
from tests.soak.webhooks import Figure
from tests.stall import attacks, data, growth, operations, receivers
from tests.stall.measuring import Act, Row, serving
from tests.support.postgres import running_postgres

BACKENDS = ("sqlite", "postgresql")


def measure_receivers(folder: Path, url: str, *, short: bool) -> Iterator[Figure]:
    """Measure the stalls of hostile receivers; the long form until the deadline of a delivery has passed."""
    tries, seconds = (3, 2) if short else (3, 18)
    for row in receivers.measure(folder, url, tries=tries, seconds=seconds, alone=not short):
        yield row.figure


def measure_calls(folder: Path, url: str, *, short: bool) -> Iterator[Figure]:
    """Measure the stalls of operations and pages over the largest data, and those of attacks."""
    sizes = data.SHORT if short else data.FULL
    data.enlarge(url, sizes)
    with serving(folder, url, tries=3 if short else 5) as target:
        rows = [operations.measure(target, sizes), operations.measure_panel(target, sizes)]
        rows += [attacks.measure(target, sizes, short=short)] if before_the_database(url) else []
        for row in chain.from_iterable(rows):
            yield row.figure
        slow = target.slow_at_first
    yield from _measure_first_calls(folder, url, slow)


def _measure_first_calls(folder: Path, url: str, slow: dict[str, Act]) -> Iterator[Figure]:
    """Repeat in new processes what was slow the first time, for it may be so in each."""
    if not slow:
        return
    rows: dict[str, Row] = {}
    for _ in range(2):
        with serving(folder, url, tries=1) as target:
            found = {name: target.measure(name, act, lambda status: status > 0) for name, act in slow.items()}
        rows = {
            name: min(row, rows.get(name, row), key=lambda each: each.stall) for name, row in found.items()
        }
    for name, row in rows.items():
        row.name = f"first call: {name}"
        yield row.figure


def before_the_database(url: str) -> bool:
    """Whether to measure what a request costs before it reaches the database, which is the same over both."""
    return url.startswith("sqlite:")


def measure_all(folder: Path, url: str, *, short: bool, only: str = "") -> Iterator[Figure]:
    """Measure everything over one new database, or the part ``only``: growth, receivers or calls."""
    data.fill(url)
    parts = {
        "growth": growth.measure(folder, url, short=short, everything=before_the_database(url)),
        "receivers": measure_receivers(folder, url, short=short),
        # Last, for they fill the database.
        "calls": measure_calls(folder, url, short=short),
    }
    for name, part in parts.items():
        if only in ("", name):
            yield from part


async def soak(folder: Path, url: str) -> list[Figure]:
    """The figures of the long form that fail, and how many there are."""
    figures = await asyncio.to_thread(lambda: list(measure_all(folder, url, short=False)))
    failing = [each for each in figures if not each.holds]
    return [*failing, Figure("stalls and growths that were measured", str(len(figures)), bool(figures))]


def main(*, short: bool, only: str) -> int:
    """Print the figures of both databases; the exit status."""
    failed = ran = 0
    with running_postgres() as postgres:
        for backend in BACKENDS:
            with tempfile.TemporaryDirectory(prefix="cloudarc-stall-") as folder:
                begun = time.monotonic()
                url = new_database(backend, Path(folder), postgres)
                for figure in measure_all(Path(folder), url, short=short, only=only):
                    ran += 1
                    failed += not figure.holds
                    print(f"{backend:<10} {figure}", flush=True)
                print(f"{backend} took {time.monotonic() - begun:.0f} s", flush=True)
    print(f"{failed} of {ran} figures fail." if failed else f"All {ran} figures hold.")
    return 1 if failed or not ran else 0


if __name__ == "__main__":
    sys.exit(main(short=bool(os.environ.get("SHORT")), only=os.environ.get("ONLY", "")))
