"""``make soak``: the long runs. Prints every invariant and figure; the exit status says whether all hold."""

import asyncio
import sys
import tempfile
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from tests.conftest import new_database
from tests.postgres import running_postgres
from tests.soak import memory, webhooks
from tests.soak.webhooks import Figure

Scenario = Callable[[Path, str], Coroutine[Any, Any, list[Figure]]]

ON_POSTGRESQL: dict[str, Scenario] = {
    "30,000 events, 10 × kill -9 of one of 3 workers": lambda folder, url: webhooks.survive_kills(
        folder, url, events=30_000, kills=10
    ),
    "4 workers, none killed": lambda folder, url: webhooks.survive_kills(
        folder, url, events=5_000, kills=0, number=4
    ),
    "kill -9 of the server after its answer": lambda folder, url: webhooks.survive_the_servers_end(
        folder, url, events=200
    ),
    "50 events a second": lambda folder, url: webhooks.be_quick(folder, url, seconds=30),
    "an endpoint that hangs": lambda folder, url: webhooks.delay_nobody(folder, url, events=10_000),
    "answers that do not end": webhooks.end_bad_answers,
    "what a delivery costs": lambda folder, url: webhooks.cost_little(folder, url, events=5_000),
}

ON_SQLITE: dict[str, Scenario] = {
    "3,000 events, 3 × kill -9 of the worker": lambda folder, url: webhooks.survive_kills(
        folder, url, events=3_000, kills=3, number=1
    ),
    "kill -9 of the server after its answer": lambda folder, url: webhooks.survive_the_servers_end(
        folder, url, events=200
    ),
    "memory": lambda folder, url: memory.stay_flat(folder, url, warm=10_000, requests=100_000),
}


def main(only: str = "") -> int:
    """Run every scenario whose name has ``only`` in it; the result is the exit status."""
    failed = ran = 0
    with running_postgres() as postgres:
        for backend, scenarios in (("postgresql", ON_POSTGRESQL), ("sqlite", ON_SQLITE)):
            for name, scenario in scenarios.items():
                if only not in name:
                    continue
                ran += 1
                with tempfile.TemporaryDirectory(prefix="cloudarc-soak-") as folder:
                    begun = time.monotonic()
                    url = new_database(backend, Path(folder), postgres)
                    try:
                        figures = asyncio.run(scenario(Path(folder), url))
                    except AssertionError as error:
                        figures = [Figure(f"ended early: {error}", "", False)]
                print(f"{name}, {backend} ({time.monotonic() - begun:.0f} s)")
                for figure in figures:
                    print(f"  {figure}", flush=True)
                    failed += not figure.holds
    print(f"{failed} figures of {ran} runs fail." if failed else f"All figures of {ran} runs hold.")
    return 1 if failed or not ran else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:2]))
