"""``make soak``: the long runs. Prints every invariant and figure; the exit status says whether all hold.

``python -m tests.soak writes`` runs those that hinder writes: servers, databases, Redis, disks and clocks.
"""

import asyncio
import sys
import tempfile
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from tests.conftest import new_database
from tests.soak import faults, memory, webhooks
from tests.soak.webhooks import Figure
from tests.stall import __main__ as stall
from tests.support.postgres import running_postgres

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
    "writes, 20 × kill -9 of the server": lambda folder, url: faults.kill_the_server(folder, url, kills=20),
    "writes, 10 × kill -9 of one of 2 workers": lambda folder, url: faults.kill_workers(
        folder, url, kills=10
    ),
    "writes, 50 × the end of all backends": lambda folder, url: faults.end_backends(folder, url, times=50),
    "writes, 5 × kill -9 of a backend": lambda folder, _: faults.kill_backends(folder, kills=5),
    "writes, 3 × immediate stop of PostgreSQL": lambda folder, _: faults.restart_the_database(
        folder, restarts=3
    ),
    "writes, 5 × kill -9 of Redis": lambda folder, url: faults.lose_redis(folder, url, times=5, killed=True),
    "writes, 5 × Redis frozen": lambda folder, url: faults.lose_redis(folder, url, times=5, killed=False),
    "writes, the clock an hour on": lambda folder, url: faults.shift_the_clock(folder, url, back=False),
    "writes, the clock an hour back": lambda folder, url: faults.shift_the_clock(folder, url, back=True),
    "writes, endpoints that hang, drip and reset": lambda folder, url: faults.receive_badly(
        folder, url, writes=1_000
    ),
    "stalls and growth": stall.soak,
}

ON_SQLITE: dict[str, Scenario] = {
    "3,000 events, 3 × kill -9 of the worker": lambda folder, url: webhooks.survive_kills(
        folder, url, events=3_000, kills=3, number=1
    ),
    "kill -9 of the server after its answer": lambda folder, url: webhooks.survive_the_servers_end(
        folder, url, events=200
    ),
    "writes, 20 × kill -9 of the server": lambda folder, url: faults.kill_the_server(folder, url, kills=20),
    "writes, 5 × kill -9 of the worker": lambda folder, url: faults.kill_workers(
        folder, url, kills=5, number=1
    ),
    "writes, 5 × a full disk": lambda folder, _: faults.fill_the_disk(folder, times=5),
    "memory": lambda folder, url: memory.stay_flat(folder, url, warm=10_000, requests=100_000),
    "stalls and growth": stall.soak,
}


def main(only: str = "") -> int:
    """Run every scenario whose name has ``only`` in it; the exit status."""
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
