"""What a run found, as the Markdown of ``RESULTS.md``."""

import platform
import re
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import distributions
from pathlib import Path

import orjson

from benchmarks import growth
from benchmarks.bars import Verdict
from benchmarks.footprint import Weight
from benchmarks.growth import Cost
from benchmarks.inprocess import Own
from benchmarks.profiling import AROUND, CHECKING, LAYERS, Profile
from benchmarks.store import TITLES, Backend
from benchmarks.throughput import HELLO, NO_IO, NO_IO_STOCK, Sample, Samples, middle, ratio
from benchmarks.variants import CLOUDARC, FASTIFY_FOLDER, OURS, PEERS
from benchmarks.work import LIST, TICKETS, WORK


@dataclass
class Run:
    """Everything that was measured in one run; what was not is empty."""

    command: str
    samples: dict[Backend, Samples] = field(default_factory=dict)
    left_out: dict[Backend, Mapping[str, str]] = field(default_factory=dict)
    no_io: Samples = field(default_factory=dict)
    pipeline: Mapping[str, Own] = field(default_factory=dict)
    growth: dict[Backend, Mapping[str, tuple[Cost, Cost]]] = field(default_factory=dict)
    panel: dict[Backend, Mapping[str, float]] = field(default_factory=dict)
    many: int = 1_000_000
    weights: dict[Backend, Mapping[str, Weight]] = field(default_factory=dict)
    weighed_after: int = 10_000
    start: dict[Backend, float] = field(default_factory=dict)
    workers: Mapping[int, Sample] = field(default_factory=dict)
    profiles: dict[Backend, Mapping[str, Profile]] = field(default_factory=dict)
    no_profile: str = ""
    versions: dict[str, str] = field(default_factory=dict)

    def figures(self) -> dict[str, float]:
        """The figures that the bars name."""
        found: dict[str, float] = {}
        for backend, samples in self.samples.items():
            for (request, variant), each in samples.items():
                found[f"{variant}|{request}|{backend}"] = ratio(each, samples[request, OURS])
        if self.no_io:
            cpu = {variant: middle(each).cpu for (_, variant), each in self.no_io.items()}
            found["no io"] = cpu[NO_IO_STOCK.name] / cpu[NO_IO.name]
        for request, own in self.pipeline.items():
            found[f"pipeline|{request}"] = own.times
        for backend, costs in self.growth.items():
            for part, names in growth.BARRED.items():
                found[f"growth|{part}|{backend}"] = max(costs[name][1].over(costs[name][0]) for name in names)
        for backend, pages in self.panel.items():
            found[f"panel|{backend}"] = max(pages.values())
        for backend, weights in self.weights.items():
            least = min(each.rss for name, each in weights.items() if name != OURS)
            found[f"memory|{backend}"] = weights[OURS].rss / least
        found |= {f"start|{backend}": seconds for backend, seconds in self.start.items()}
        return found


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table of Markdown, the first column to the left."""
    lines = ["| " + " | ".join(head) + " |", "|---|" + "--:|" * (len(head) - 1)]
    lines += ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join(lines) + "\n"


def document(run: Run, verdicts: Sequence[Verdict], remark: str) -> str:
    """The whole page."""
    parts = [
        "# What `make bench` found\n",
        f"Written by `{run.command}` on {datetime.now(UTC):%Y-%m-%d}. {remark}Only ratios inside one run "
        "count: "
        "absolute figures are those of this machine and of what else ran on it.\n",
        _machine(run),
        "## Bars\n",
        bars(verdicts),
        _peers(),
        *(_throughput(backend, samples, run.left_out[backend]) for backend, samples in run.samples.items()),
        _without_io(run) if run.no_io else "",
        *(_growth(backend, costs, run.many) for backend, costs in run.growth.items()),
        _panel(run) if run.panel else "",
        _footprint(run) if run.weights else "",
        _profile(run) if run.profiles or run.no_profile else "",
    ]
    return "\n".join(part for part in parts if part)


def capacity(run: Run) -> str:
    """What one process carries, for the page on operations."""
    head = ["one process, on this machine", *[TITLES[each] for each in run.samples]]
    rows = []
    for request in WORK:
        ours = [middle(samples[request.name, OURS]) for samples in run.samples.values()]
        rows.append([f"{request.name}: CPU for a call", *[f"{each.cpu:.0f} µs" for each in ours]])
        rows.append(["calls a second, both cores busy", *[f"{each.rate:.0f}" for each in ours]])
    weighed = [f"{run.weights[each][OURS].rss / 1024:.0f} MiB" for each in run.samples]
    rows.append([f"memory after {run.weighed_after:,} calls", *weighed])
    text = f"From a run of `{run.command}` on {datetime.now(UTC):%Y-%m-%d}, on {_hardware()}.\n\n"
    return text + table(head, rows)


def put_in(page: Path, name: str, text: str) -> None:
    """Put a text between two marks of a page."""
    begin, end = f"<!-- {name} -->\n", f"<!-- /{name} -->"
    before, _, rest = page.read_text(encoding="utf-8").partition(begin)
    page.write_text(f"{before}{begin}{text}{end}{rest.partition(end)[2]}", encoding="utf-8")


def bars(verdicts: Sequence[Verdict]) -> str:
    """A line for each bar."""
    rows = []
    for each in verdicts:
        bar = each.bar
        measured = "" if each.measured is None else f"{each.measured:.2f}{bar.unit}"
        rows.append((str(bar.number), bar.text, measured, f"{bar.sense} {bar.bound:g}{bar.unit}", each.word))
    return table(("bar", "part", "measured", "must be", ""), rows)


def _hardware() -> str:
    cores = len(re.findall(r"^processor", Path("/proc/cpuinfo").read_text(), re.MULTILINE))
    models = re.findall(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    memory = int(re.findall(r"MemTotal:\s*(\d+)", Path("/proc/meminfo").read_text())[0]) / 2**20
    return f"{cores} cores of {models[0] if models else platform.processor()}, {memory:.1f} GiB"


def _machine(run: Run) -> str:
    packages = sorted({f"{each.metadata['Name'].lower()} {each.version}" for each in distributions()})
    others = ", ".join(f"{name} {version}" for name, version in run.versions.items())
    return (
        "## Machine and versions\n\n"
        f"{_hardware()}; {platform.system()} {platform.release()}. "
        f"Python {sys.version.split()[0]}, {others}.\n\n"
        f"<details><summary>Python packages</summary>\n\n{', '.join(packages)}\n\n</details>\n"
    )


def versions(postgresql: str, valkey: str) -> dict[str, str]:
    """The versions of what is not Python."""
    found = {"PostgreSQL": postgresql, "Valkey": valkey}
    lock = FASTIFY_FOLDER / "package-lock.json"
    try:
        node = subprocess.run(["node", "--version"], check=True, capture_output=True, text=True).stdout
        found["Node.js"] = node.strip().removeprefix("v")
        content = orjson.loads(lock.read_bytes())["packages"]
        for name in ("fastify", "fastify-openapi-glue", "better-sqlite3", "pg", "ioredis"):
            found[name] = content[f"node_modules/{name}"]["version"]
    except (OSError, KeyError, subprocess.CalledProcessError):
        pass
    return found


def _peers() -> str:
    lines = [
        "## What is compared\n",
        "Every variant is one process with one worker (uvicorn, uvloop, httptools; Fastify under "
        "Node.js) over a copy "
        "of the same database, with a Valkey of its own, all up at once. Runs alternate: each round "
        "begins with another "
        "variant, figures are medians of the rounds, and ratios are medians of the rounds' ratios. "
        "16 connections that are kept, from a process of its own; a "
        "wrong status ends the run. Before anything is measured, all must answer the same status and the "
        "same JSON, "
        "apart from new ids, numbers and instants.\n",
        "Each looks the token up by its SHA-256, counts the call in Redis in one round trip, sends the "
        "headers of the "
        "rate limit and a request id, writes one log line (by the same writer), runs the statements, and "
        "answers JSON. "
        "No peer checks Host, Accept, the size of a body or the speed at which it comes, keeps when a "
        "credential was "
        "used, nor delivers webhooks.\n",
        "Server CPU is user and system time of the server's process tree from `/proc`, over the requests "
        "that the load "
        "generator counted. PostgreSQL and Valkey are not in it.\n",
    ]
    rows = [(each.name, each.does) for each in (CLOUDARC, *PEERS)]
    body = "\n".join(["| | |", "|---|---|", *(f"| {name} | {does} |" for name, does in rows)])
    return "\n".join([*lines, body + "\n"])


def _throughput(backend: Backend, samples: Samples, left_out: Mapping[str, str]) -> str:
    names = [each.name for each in (CLOUDARC, *PEERS) if (LIST.name, each.name) in samples]
    parts = [f"## {TITLES[backend]}\n", "Server CPU for a request, as a ratio to CloudArc's.\n"]
    rows = []
    for name in names:
        ratios = [ratio(samples[each.name, name], samples[each.name, OURS]) for each in WORK]
        rows.append((name, *(f"{ratio:.2f}" for ratio in ratios)))
    rows.append(("CloudArc, µs", *(f"{middle(samples[each.name, OURS]).cpu:.0f}" for each in WORK)))
    parts.append(table(("", *(each.name for each in WORK)), rows))
    parts.append("Requests a second / p50 / p99, as ratios to CloudArc's.\n")
    rows = []
    for name in names:
        cells = []
        for each in WORK:
            its, ours = samples[each.name, name], samples[each.name, OURS]
            cells.append(" / ".join(f"{ratio(its, ours, figure):.2f}" for figure in ("rate", "p50", "p99")))
        rows.append((name, *cells))
    own = (middle(samples[each.name, OURS]) for each in WORK)
    rows.append(
        (
            "CloudArc, 1/s / ms / ms",
            *(f"{each.rate:.0f} / {each.p50 / 1000:.1f} / {each.p99 / 1000:.1f}" for each in own),
        )
    )
    parts.append(table(("", *(each.name for each in WORK)), rows))
    parts += [f"{name} was left out: {reason}.\n" for name, reason in left_out.items()]
    return "\n".join(parts)


def _without_io(run: Run) -> str:
    cpu = {variant: middle(each).cpu for (_, variant), each in run.no_io.items()}
    hello = cpu[HELLO.name]
    rows = [(name, f"{each:.0f}", f"{each / hello:.2f}") for name, each in cpu.items()]
    rows += [
        (f"the pipeline itself, {request}", f"{own.cost:.1f}", f"{own.times:.2f}")
        for request, own in run.pipeline.items()
    ]
    return (
        f"## Without I/O\n\nThe first three are server CPU for `{LIST.name}` under load, both apps over "
        "a database that "
        "answers from memory, without Redis, and uvicorn answering five bytes. The pipeline itself is "
        "called in process "
        "with a caller that is known: the processor time of routing, admitting, checking the request, "
        "opening the "
        "transaction, the handler, checking and serialising the answer and handing it to `send`, less "
        "that of opening "
        "the same transaction and calling the same handler; its ratio is the median of rounds, in each of "
        "which hello is measured anew.\n\n" + table(("", "µs", "× hello"), rows)
    )


def _growth(backend: Backend, costs: Mapping[str, tuple[Cost, Cost]], many: int) -> str:
    rows = []
    for name, (few, lots) in costs.items():
        rows.append(
            (
                name,
                f"{few.latency:.0f} → {lots.latency:.0f}",
                f"{lots.latency / few.latency:.2f}",
                f"{few.cpu:.0f} → {lots.cpu:.0f}",
                f"{lots.cpu / few.cpu:.2f}",
            )
        )
    return (
        f"## From 1,000 to {many:,} invoices, {TITLES[backend]}\n\nOne caller; latency (median) and CPU "
        "of the server "
        "with its database, µs for a request of 20 rows. Client 42 owns 100 invoices in both. The bar "
        "takes the worse "
        "of both ratios.\n\n" + table(("", "latency", "×", "CPU", "×"), rows)
    )


def _panel(run: Run) -> str:
    names = next(iter(run.panel.values()))
    rows = [(name, *(f"{pages[name]:.1f}" for pages in run.panel.values())) for name in names]
    return (
        f"## The panel with {run.many:,} clients and invoices\n\nMilliseconds until a page is there, the "
        "median of one operator's calls. The bar takes the slowest.\n\n"
        + table(("", *(TITLES[backend] for backend in run.panel)), rows)
    )


def _footprint(run: Run) -> str:
    rows = []
    for backend, weights in run.weights.items():
        for name, each in weights.items():
            ratio = each.rss / weights[OURS].rss
            rows.append(
                (
                    f"{name}, {TITLES[backend]}",
                    f"{each.rss / 1024:.0f}",
                    f"{each.pss / 1024:.0f}",
                    f"{ratio:.2f}",
                )
            )
    parts = [
        f"## Memory, start, workers\n\nOne worker after {run.weighed_after:,} requests. The bar compares "
        "RSS with the "
        "lighter of both FastAPI peers.\n",
        table(("", "RSS, MiB", "PSS, MiB", "× CloudArc"), rows),
    ]
    parts += [
        f"Start on {TITLES[backend]}: {seconds:.2f} s from the start of the process to the first 200 of "
        f"`/api/v1/status`{', its own Valkey included' if backend == 'sqlite' else ''}.\n"
        for backend, seconds in run.start.items()
    ]
    if run.workers:
        one, two = run.workers[1], run.workers[2]
        parts.append(
            f"Two workers on PostgreSQL answer {two.rate / one.rate:.2f} × as many `{LIST.name}` a "
            "second as one "
            f"({one.rate:.0f} → {two.rate:.0f}); the load generator, PostgreSQL and Valkey share the "
            "cores with them.\n"
        )
    return "\n".join(parts)


def _profile(run: Run) -> str:
    text = "## Profile\n\n"
    if run.no_profile:
        return f"{text}Left out: {run.no_profile}.\n"
    keys: list[tuple[Backend, str]] = [
        (backend, request) for backend in run.profiles for request in (LIST.name, TICKETS.name)
    ]
    names = [name for name, _ in LAYERS] + ["other"]
    rows = [
        (name, *(f"{run.profiles[backend][request].layers.get(name, 0):.0f}" for backend, request in keys))
        for name in names
    ]
    rows.append(("whole", *(f"{run.profiles[backend][request].whole:.0f}" for backend, request in keys)))
    return (
        f"{text}µs of server CPU for a request: what py-spy saw of the server under load, 250 times a "
        "second, shared "
        "out over the CPU that a run without it cost. The token's statements count as `identify`, all "
        "others as "
        "`database`, in which the rows that are made of them are included.\n\n"
        + table(("", *(f"{request}, {TITLES[backend]}" for backend, request in keys)), rows)
        + _left(
            {f"{request}, {TITLES[backend]}": run.profiles[backend][request] for backend, request in keys}
        )
    )


def _left(profiles: Mapping[str, Profile]) -> str:
    rows = []
    for name, each in profiles.items():
        ours = [sum(each.layers.get(layer, 0) for layer in layers) for layers in (CHECKING, AROUND)]
        others = {layer: us for layer, us in each.layers.items() if layer not in (*CHECKING, *AROUND)}
        largest = sorted(others, key=lambda layer: others[layer], reverse=True)[:3]
        rows.append(
            (
                name,
                *(f"{us:.0f} ({us / each.whole:.0%})" for us in ours),
                ", ".join(f"{layer} {others[layer]:.0f}" for layer in largest),
            )
        )
    return (
        "\n### What is left to gain\n\nNo faster judge or serialiser can gain more than what checking costs, "
        "and no leaner framework more than what the pipeline and the edge cost besides. The rest is the data "
        "path and the sockets, which every peer on our data layer has, too. [NOTES.md](NOTES.md) lists "
        "what was tried and did not pay.\n\n"
        + table(
            ("", "checking and serialising, µs", "pipeline and edge, µs", "largest of the rest, µs"), rows
        )
    )
