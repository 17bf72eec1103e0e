"""What a worker weighs after 10,000 requests, how soon it answers, and what a second one brings."""

import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from statistics import median

from benchmarks.load import Generator, Job
from benchmarks.processes import PYTHON, memory, serving
from benchmarks.store import Backend, Store
from benchmarks.throughput import Sample, measure, middle
from benchmarks.variants import CLOUDARC, ORM, OWN, started_on_copy
from benchmarks.work import INVOICES, LIST, ONE, TICKETS, Request
from tests.support.postgres import free_port

SHARES: Sequence[tuple[Request, int]] = ((LIST, 5), (ONE, 3), (TICKETS, 1), (INVOICES, 1))
"""How many of each ten requests are of each kind."""


@dataclass(frozen=True)
class Weight:
    """KiB of a worker."""

    rss: int
    pss: int


def weights(store: Store, generator: Generator, backend: Backend, requests: int) -> dict[str, Weight]:
    """CloudArc and both FastAPI peers after so many requests."""
    base = store.base(backend)
    found = {}
    for variant in (CLOUDARC, OWN, ORM):
        with started_on_copy(variant, store, base) as server:
            for request, tenths in SHARES:
                raw = request.encoded(store.secret(request.kind)).decode("latin-1")
                generator.run(Job(server.port, raw, request.status, count=requests * tenths // 10))
            found[variant.name] = Weight(*memory(server.pid))
    return found


def start_seconds(store: Store, backend: Backend, tries: int) -> float:
    """From the start of the process to the first 200, the files being in the cache.

    On SQLite it is also the time of a Valkey that the server starts itself; on PostgreSQL both are there.
    """
    url = store.copy(store.base(backend))
    folder = store.folder / f"start-{backend}"
    folder.mkdir()
    environment = {"CLOUDARC_DATABASE_URL": url, "CLOUDARC_DATA_DIR": str(folder)}
    if backend == "postgresql":
        environment["CLOUDARC_REDIS_URL"] = store.valkey()
    times = []
    for _ in range(tries + 1):
        port = free_port()
        command = [PYTHON, "-m", "server", "serve", "--port", str(port)]
        begun = time.monotonic()
        with serving("CloudArc", command, environment, port, folder / "log.txt"):
            times.append(time.monotonic() - begun)
    # The first one fills the cache.
    return median(times[1:])


def workers(store: Store, generator: Generator, rounds: int, seconds: float) -> dict[int, Sample]:
    """The list from one worker and from two, on PostgreSQL."""
    base = store.base("postgresql")
    raw = LIST.encoded(store.admin)
    samples: dict[int, list[Sample]] = {1: [], 2: []}
    with ExitStack() as stack:
        servers = {
            number: stack.enter_context(started_on_copy(CLOUDARC, store, base, workers=number))
            for number in samples
        }
        for server in servers.values():
            measure(generator, server, raw, LIST.status, seconds)
        for _ in range(rounds):
            for number, server in servers.items():
                samples[number].append(measure(generator, server, raw, LIST.status, seconds))
    return {number: middle(each) for number, each in samples.items()}
