"""Where the time goes: py-spy looks at the server as shipped, under load; each look falls into a layer."""

import re
import subprocess
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.load import Generator, Job
from benchmarks.processes import PYTHON
from benchmarks.store import Backend, Store
from benchmarks.throughput import measure
from benchmarks.variants import CLOUDARC, started_on_copy
from benchmarks.work import LIST, TICKETS

LAYERS: Sequence[tuple[str, str]] = (
    ("webhook worker", r"webhooks/delivery|webhooks/sending"),
    ("log line", r"log_request|observe/logs|logging/"),
    ("count (Redis)", r"persistence/counters|redis/|\b_count "),
    ("identify (token)", r"_find_caller|identify|_record_use|_write_use"),
    ("database", r"persistence/engines|persistence/database|asyncpg/|sqlite3/"),
    ("check and serialise the answer", r"\breply \(.*server/request/plan"),
    ("event (outbox)", r"webhooks/"),
    ("handler and statements", r"handlers/|persistence/"),
    ("send", r"send_reply|send_with_headers \(.*server/request/edge|\bAnswer\.|\bsend \(.*uvicorn"),
    ("check the request", r"arguments \(|read_body|server/validation|is_json|accepts \("),
    ("pipeline, the rest", r"server/request/(pipeline|plan|routes|idempotency)|connexion/"),
    ("edge", r"server/request/|server/http/(body|headers|reply)|server/observe/"),
    ("transport (uvicorn, event loop)", r"uvicorn/|server/http/protocol|uvloop|asyncio/|selectors|threading"),
)
"""The layers and what a frame of theirs looks like. A stack falls into the first that a frame of it names."""

CHECKING = ("check the request", "check and serialise the answer")
AROUND = ("pipeline, the rest", "edge")
"""The layers in which the framework works for the contract, and for itself."""

WAITING = re.compile(r"(\bWriter\._run|\b_worker) \([^;]*$")
"""Threads that wait for something to do, which py-spy takes for busy."""


def layer(stack: str) -> str:
    """The layer of a stack, frames separated by ``;``."""
    return next((name for name, form in LAYERS if re.search(form, stack)), "other")


@dataclass(frozen=True)
class Profile:
    """Microseconds of CPU for one request, whole and by layer."""

    whole: float
    layers: Mapping[str, float]


class NoProfile(Exception):
    """py-spy cannot look at the server; the message says why."""


def profiles(store: Store, generator: Generator, backend: Backend, seconds: float) -> dict[str, Profile]:
    """The profile of the list and of a ticket. Raises NoProfile."""
    found = {}
    with started_on_copy(CLOUDARC, store, store.base(backend)) as server:
        for request in (LIST, TICKETS):
            raw = request.encoded(store.secret(request.kind))
            measure(generator, server, raw, request.status, seconds / 2)
            undisturbed = measure(generator, server, raw, request.status, seconds)
            output = store.folder / "stacks.txt"
            output.unlink(missing_ok=True)
            looking = subprocess.Popen(
                [
                    _py_spy(),
                    "record",
                    "--pid",
                    str(server.pid),
                    "--rate",
                    "250",
                    "--format",
                    "raw",
                    "--duration",
                    str(max(1, round(seconds))),
                    "--output",
                    str(output),
                    "--full-filenames",
                ],
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
            )
            job = Job(server.port, raw.decode("latin-1"), request.status, seconds=seconds + 1)
            generator.run(job)
            _, said = looking.communicate(timeout=60)
            if not output.exists():
                raise NoProfile(
                    said.strip().splitlines()[-1][:200] if said.strip() else "py-spy wrote nothing"
                )
            found[request.name] = by_layer(output.read_text(), undisturbed.cpu)
    return found


def _py_spy() -> str:
    found = Path(PYTHON).with_name("py-spy")
    if not found.exists():
        raise NoProfile("py-spy is not installed")
    return str(found)


def by_layer(stacks: str, whole: float) -> Profile:
    """Share the whole cost among the layers as often as each was seen."""
    seen: Counter[str] = Counter()
    for line in stacks.splitlines():
        stack, _, times = line.rpartition(" ")
        if WAITING.search(stack):
            continue
        seen[layer(stack)] += int(times)
    total = seen.total()
    if not total:
        raise NoProfile("py-spy saw nothing")
    return Profile(whole, {name: whole * times / total for name, times in seen.most_common()})
