"""CloudArc against its peers: all up at once, in turn, round after round; the medians count."""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from statistics import median

from benchmarks.load import Generator, Job
from benchmarks.processes import Server, cpu_seconds
from benchmarks.store import Backend, Store
from benchmarks.variants import CLOUDARC, PEERS, Variant, left_out, started_on_copy
from benchmarks.work import LIST, WORK, Request, compare


@dataclass(frozen=True)
class Sample:
    """One run: microseconds of server CPU for a request, requests a second, latencies in microseconds."""

    cpu: float
    rate: float
    p50: float
    p99: float


Key = tuple[str, str]
"""A request's name and a variant's."""

Samples = Mapping[Key, Sequence[Sample]]


def measure(generator: Generator, server: Server, request: bytes, status: int, seconds: float) -> Sample:
    """One run against one server. Raises Failed where an answer is not what it must be."""
    before = cpu_seconds(server.pid)
    done = generator.run(Job(server.port, request.decode("latin-1"), status, seconds=seconds))
    cpu = cpu_seconds(server.pid) - before
    return Sample(cpu * 1e6 / done.requests, done.requests / done.seconds, done.p50, done.p99)


def middle(samples: Iterable[Sample]) -> Sample:
    """The median of each figure."""
    all_of = list(samples)
    return Sample(*(median(getattr(each, name) for each in all_of) for name in ("cpu", "rate", "p50", "p99")))


def ratio(its: Sequence[Sample], ours: Sequence[Sample], figure: str = "cpu") -> float:
    """The median of the rounds' ratios: what slows a whole round slows both, and is in neither."""
    found = [getattr(a, figure) / getattr(b, figure) for a, b in zip(its, ours, strict=True)]
    return float(median(found))


@contextmanager
def up(store: Store, backend: Backend, variants: Sequence[Variant]) -> Iterator[dict[Variant, Server]]:
    """Variants that all run, each over a copy of the same database."""
    base = store.base(backend)
    with ExitStack() as stack:
        yield {each: stack.enter_context(started_on_copy(each, store, base)) for each in variants}


def equal(store: Store, servers: Mapping[Variant, Server], work: Sequence[Request] = WORK) -> None:
    """Check that all answer the same. Raises Unequal."""
    for request in work:
        raw = request.encoded(store.secret(request.kind))
        ours = servers[CLOUDARC].ask(raw)
        for variant, server in servers.items():
            compare(request, variant.name, ours, server.ask(raw))


def alternate(
    store: Store,
    generator: Generator,
    servers: Mapping[Variant, Server],
    work: Sequence[Request],
    rounds: int,
    seconds: float,
) -> Samples:
    """Run everything in turn, each round beginning with another variant."""
    samples: dict[Key, list[Sample]] = {}
    order = list(servers)
    for each in work:
        raw = each.encoded(store.secret(each.kind))
        for variant in order:
            # Compile, fill caches, grow pools.
            measure(generator, servers[variant], raw, each.status, min(0.5, seconds))
        for number in range(rounds):
            turn = number % len(order)
            for variant in order[turn:] + order[:turn]:
                found = measure(generator, servers[variant], raw, each.status, seconds)
                samples.setdefault((each.name, variant.name), []).append(found)
                time.sleep(0.02)
    return samples


def compare_all(
    store: Store, generator: Generator, backend: Backend, rounds: int, seconds: float
) -> tuple[Samples, dict[str, str]]:
    """All samples of one backend, and the peers that were left out with the reasons."""
    reasons = {each.name: why for each in PEERS if (why := left_out(each, backend))}
    variants = [CLOUDARC, *(each for each in PEERS if each.name not in reasons)]
    with up(store, backend, variants) as servers:
        equal(store, servers)
        return alternate(store, generator, servers, WORK, rounds, seconds), reasons


NO_IO = Variant("no I/O, CloudArc", "no_io_ours", "")
NO_IO_STOCK = Variant("no I/O, stock Connexion", "no_io_stock", "")
HELLO = Variant("hello", "hello", "uvicorn and a raw ASGI app that answers five bytes.")


def without_io(store: Store, generator: Generator, rounds: int, seconds: float) -> Samples:
    """CloudArc and stock Connexion over a database in memory, and uvicorn's hello."""
    base = store.base("sqlite")
    with ExitStack() as stack:
        servers = {
            each: stack.enter_context(started_on_copy(each, store, base))
            for each in (NO_IO, NO_IO_STOCK, HELLO)
        }
        raw = LIST.encoded(store.admin)
        compare(LIST, NO_IO_STOCK.name, servers[NO_IO].ask(raw), servers[NO_IO_STOCK].ask(raw))
        return alternate(store, generator, servers, [LIST], rounds, seconds)


@contextmanager
def hello(store: Store, generator: Generator, seconds: float) -> Iterator[Callable[[], float]]:
    """What measures the microseconds of uvicorn's hello."""
    raw = LIST.encoded(store.admin)
    with started_on_copy(HELLO, store, store.base("sqlite")) as server:
        yield lambda: measure(generator, server, raw, LIST.status, seconds).cpu
