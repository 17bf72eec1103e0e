"""``python -m benchmarks``: measure, print, write ``RESULTS.md``, and end with 1 where a bar is not held."""

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks import bars, footprint, growth, inprocess, panel, profiling, report, throughput
from benchmarks.load import Failed, Generator, generator
from benchmarks.processes import ROOT, NotStarted
from benchmarks.store import BACKENDS, TITLES, Store, store
from benchmarks.work import Unequal
from tests.support.valkey import asked


@dataclass(frozen=True)
class Size:
    """How much is measured: rounds of so many seconds, and so many short turns where things are compared."""

    rounds: int
    turns: int
    seconds: float
    many: int
    weighed: int
    calls: int


WHOLE = Size(rounds=11, turns=44, seconds=0.5, many=1_000_000, weighed=10_000, calls=1000)
QUICK = Size(rounds=2, turns=2, seconds=0.3, many=100_000, weighed=1000, calls=500)


class Bench:
    """One run, part by part."""

    def __init__(self, size: Size, run: report.Run, store: Store, load: Generator) -> None:
        self.size, self.run, self.store, self.load = size, run, store, load
        run.many, run.weighed_after = size.many, size.weighed

    def peers(self) -> None:
        """Throughput and CPU against all peers."""
        size = self.size
        for backend in BACKENDS:
            found = throughput.compare_all(self.store, self.load, backend, size.turns, size.seconds / 2)
            self.run.samples[backend], self.run.left_out[backend] = found
            for name, reason in found[1].items():
                print(f"  {TITLES[backend]}: {name} is left out: {reason}")

    def pipeline(self) -> None:
        """The framework alone, without I/O."""
        size = self.size
        self.run.no_io = throughput.without_io(self.store, self.load, size.rounds, size.seconds)
        with throughput.hello(self.store, self.load, size.seconds / 2) as hello:
            self.run.pipeline = inprocess.own_cost(self.store, size.turns, size.calls, hello)

    def growth(self) -> None:
        """Few invoices against many."""
        size = self.size
        for backend in BACKENDS:
            self.run.growth[backend] = growth.growth(
                self.store, self.load, backend, size.many, size.rounds, size.seconds / 2
            )

    def panel(self) -> None:
        """The operator's pages over many clients and invoices."""
        size = self.size
        for backend in BACKENDS:
            self.run.panel[backend] = panel.latencies(
                self.store, self.load, backend, size.many, size.seconds / 2
            )

    def footprint(self) -> None:
        """Memory, start and workers."""
        size = self.size
        for backend in BACKENDS:
            self.run.weights[backend] = footprint.weights(self.store, self.load, backend, size.weighed)
            self.run.start[backend] = footprint.start_seconds(self.store, backend, size.rounds)
        self.run.workers = footprint.workers(self.store, self.load, size.rounds, size.seconds)

    def profile(self) -> None:
        """Where the time goes."""
        try:
            for backend in BACKENDS:
                self.run.profiles[backend] = profiling.profiles(
                    self.store, self.load, backend, 12 * self.size.seconds
                )
        except profiling.NoProfile as error:
            self.run.no_profile = str(error)


PARTS: dict[str, Callable[[Bench], None]] = {
    "peers": Bench.peers,
    "pipeline": Bench.pipeline,
    "growth": Bench.growth,
    "panel": Bench.panel,
    "footprint": Bench.footprint,
    "profile": Bench.profile,
}


def main() -> int:
    """Run the parts that are asked for; the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="part", help=f"of: {', '.join(PARTS)} (default: all)")
    parser.add_argument("--quick", action="store_true", help="few requests; shows that it works, no more")
    options = parser.parse_args()
    if unknown := set(options.parts) - PARTS.keys():
        parser.error(f"no such part: {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}")
    parts = [name for name in PARTS if name in options.parts or not options.parts]
    complete = len(parts) == len(PARTS) and not options.quick
    run = report.Run("make bench" if complete else " ".join(["python -m benchmarks", *sys.argv[1:]]))
    try:
        with _places() as (databases, load):
            run.versions = _versions(databases)
            bench = Bench(QUICK if options.quick else WHOLE, run, databases, load)
            for name in parts:
                started = time.monotonic()
                print(f"{name}: {PARTS[name].__doc__}", flush=True)
                PARTS[name](bench)
                print(f"  {time.monotonic() - started:.0f} s", flush=True)
    except (Unequal, Failed, NotStarted, growth.WrongTotal) as error:
        print(f"benchmarks: {error}", file=sys.stderr)
        return 1
    verdicts = bars.judge(run.figures())
    if not complete:
        verdicts = [each for each in verdicts if each.measured is not None]
    target = ROOT / ("benchmarks/RESULTS.md" if complete else "build/RESULTS.md")
    remark = "" if complete else "It is no whole run, so nothing of it is to be quoted. "
    target.parent.mkdir(exist_ok=True)
    target.write_text(report.document(run, verdicts, remark), encoding="utf-8")
    if complete:
        report.put_in(ROOT / "docs" / "operations.md", "capacity", report.capacity(run))
    for each in verdicts:
        measured = "" if each.measured is None else f"{each.measured:.2f}{each.bar.unit}"
        bar = each.bar
        print(f"{each.word:12} {measured:>9} {bar.sense} {bar.bound:g}  bar {bar.number}: {bar.text}")
    print(f"{target.relative_to(ROOT)} has it all.")
    return 0 if all(each.held for each in verdicts) else 1


@contextmanager
def _places() -> Iterator[tuple[Store, Generator]]:
    """Where a run has its databases, and its load generator."""
    with (
        tempfile.TemporaryDirectory(prefix="cloudarc-bench-") as folder,
        store(Path(folder)) as databases,
        generator() as load,
    ):
        yield databases, load


def _versions(databases: Store) -> dict[str, str]:
    valkey = asked(databases.valkey(), "INFO", "server")
    return report.versions(str(databases.sql("SHOW server_version")), str(valkey.get("valkey_version", "?")))


if __name__ == "__main__":
    sys.exit(main())
