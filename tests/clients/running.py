"""Generate clients from a server that runs, compile them, and let each tell the same story."""

import glob
import hashlib
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from persistence import demo
from tests.clients.generators import SOURCES, Client
from tests.clients.judge import judge
from tests.soak import processes

ROOT = SOURCES.parent.parent
FOLDER = ROOT / "build" / "clients"
VENV = FOLDER / "venv"
REQUIREMENTS = ROOT / "requirements-clients.txt"
STORY = (
    "authorise",
    "list",
    "page",
    "create",
    "instant",
    "unchanged",
    "not_found",
    "invalid",
    "limited",
    "webhook",
)


class Failure(Exception):
    """A client does not work; the message says which command failed, and how."""


@dataclass
class Result:
    """What became of a client: how long each step took, in ms, and why it ended."""

    client: Client
    times: dict[str, int] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        return f"{self.client.name:<22}" + " ".join(f"{name} {ms}" for name, ms in self.times.items())


@dataclass(frozen=True)
class Target:
    """Two servers, one of which limits calls, and the file with a webhook's delivery."""

    url: str
    limited: str
    delivery: Path


@contextmanager
def servers(folder: Path) -> Iterator[Target]:
    """Two servers with demo data of their own, and a delivery that one of them sent."""
    limits = {f"RATE_LIMIT_{name}": "3" for name in ("CLIENT", "ADMIN", "ANONYMOUS")}
    places = [folder / name for name in ("free", "limited", "receiver")]
    for place in places:
        place.mkdir(parents=True)
    free = processes.settings(places[0], "", WEBHOOK_WORKER="inline")
    tight = processes.settings(places[1], "", **limits)
    for each in (free, tight):
        del each["CLOUDARC_DATABASE_URL"]
    with (
        processes.receiver(places[2]) as (address, log),
        processes.server(places[0], free) as (_, url),
        processes.server(places[1], tight) as (_, limited),
    ):
        delivery = folder / "delivery.json"
        delivery.write_bytes(_deliver(url, address, log))
        yield Target(url, limited, delivery)


def _deliver(url: str, address: str, log: processes.Log) -> bytes:
    """The body that a webhook gets when an invoice is paid."""
    with httpx.Client(headers={"Authorization": f"Bearer {demo.ADMIN_KEY}"}, timeout=30) as api:

        def post(path: str, body: object = None) -> int:
            answer = api.post(f"{url}/{path}", json=body if body is not None else {})
            answer.raise_for_status()
            return int(answer.json()["data"]["id"])

        post("webhooks", {"url": address, "events": ["invoice.paid"]})
        items = [{"description": "Hosting", "amount": "29.99"}]
        invoice = post("invoices", {"client_id": 56, "due_date": "2035-01-31", "items": items})
        post(f"invoices/{invoice}/pay")
    processes.until(log.read, 30, "the delivery")
    return log.received[0].body


def prepare(needs_npm: bool) -> None:
    """The generators in build/clients, in the versions and with the hashes of the lock files."""
    install_python(FOLDER, REQUIREMENTS)
    if needs_npm:
        install_npm(FOLDER, SOURCES)


def install_python(folder: Path, requirements: Path) -> None:
    """What a file of requirements names, in ``venv`` of a folder. Raises Failure."""
    folder.mkdir(parents=True, exist_ok=True)
    venv = folder / "venv"
    with _once(folder / ".venv", requirements) as missing:
        if missing:
            run([sys.executable, "-m", "venv", "--clear", str(venv)], folder)
            pip = [str(venv / "bin" / "pip"), "install", "--quiet", "--disable-pip-version-check"]
            run([*pip, "--require-hashes", "-r", str(requirements)], folder)


def install_npm(folder: Path, sources: Path) -> None:
    """What the lock file of a folder names, in ``node_modules`` of another. Raises Failure."""
    folder.mkdir(parents=True, exist_ok=True)
    lock = sources / "package-lock.json"
    with _once(folder / ".npm", lock) as missing:
        if missing:
            for each in (lock, sources / "package.json"):
                shutil.copy(each, folder)
            run(["npm", "ci", "--silent", "--no-audit", "--no-fund", "--ignore-scripts"], folder)


@contextmanager
def _once(stamp: Path, source: Path) -> Iterator[bool]:
    """Whether something is to be made from a file, which it is not a second time from the same."""
    digest = hashlib.sha256(source.read_bytes()).hexdigest()
    missing = not stamp.exists() or stamp.read_text() != digest
    yield missing
    stamp.write_text(digest)


def environment(target: Target | None = None) -> dict[str, str]:
    """What the commands get: the generators first in the path, no proxy, and the story's facts."""
    path = [str(VENV / "bin"), str(FOLDER / "node_modules" / ".bin"), os.environ["PATH"]]
    result = os.environ | {"PATH": os.pathsep.join(path), "no_proxy": "127.0.0.1", "NO_PROXY": "127.0.0.1"}
    # What a developer's shell has must not get into it.
    result = {
        name: text for name, text in result.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV", "GOPATH")
    }
    if target:
        result |= {
            "CLOUDARC_URL": target.url,
            "CLOUDARC_LIMITED": target.limited,
            "CLOUDARC_TOKEN": demo.CLIENT_TOKEN,
            "CLOUDARC_KEY": demo.ADMIN_KEY,
            "CLOUDARC_DELIVERY": str(target.delivery),
        }
    return result


def generate(client: Client, base: str, folder: Path) -> list[str]:
    """Run the commands that generate a client, in a new folder with its story. Return their warnings."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(SOURCES / client.name, folder, ignore=shutil.ignore_patterns("__pycache__"))
    with ThreadPoolExecutor() as pool:
        outputs = list(
            pool.map(lambda command: _shell(f"{command} 2>&1", folder, base=base), client.generate)
        )
    return warnings(client, "\n".join(outputs))


def warnings(client: Client, output: str) -> list[str]:
    """The lines in which a generator says that something of the contract is lost."""
    lines = [line for line in output.splitlines() if re.search(client.warning, line)]
    return [f"{client.name}: the generator warns: {line.strip()[:200]}" for line in lines]


def try_out(client: Client, target: Target, folder: Path | None = None) -> Result:
    """Generate, judge, compile and run one client."""
    folder = folder or FOLDER / client.name
    result = Result(client)
    try:
        with _timed(result, "generate"):
            result.problems += generate(client, target.url, folder)
        result.problems += judge(client.name, folder)
        with _timed(result, "compile"):
            for command in client.compile:
                _shell(command, folder)
        told = _shell(client.run, folder, target=target)
    except Failure as failure:
        result.problems.append(str(failure))
    else:
        result.times |= {name: int(ms) for name, ms in re.findall(r"^(\w+) (\d+)$", told, re.MULTILINE)}
        if not told.startswith("# Business Hosting"):
            result.problems.append(f"{client.name}: the first call prints no service")
        result.problems += [
            f"{client.name} did not tell of {step}" for step in STORY if step not in result.times
        ]
    return result


@contextmanager
def _timed(result: Result, step: str) -> Iterator[None]:
    start = time.perf_counter()
    yield
    result.times[step] = round((time.perf_counter() - start) * 1000)


def _shell(command: str, folder: Path, *, base: str = "", target: Target | None = None) -> str:
    """What a command of the table prints."""
    return run(["sh", "-c", command.format(base=base, jar=_jar())], folder, target)


def run(command: list[str], folder: Path, target: Target | None = None) -> str:
    """What a command prints. Raises Failure, with the beginning and the end of what it said."""
    done = subprocess.run(
        command,
        cwd=folder,
        env=environment(target),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        encoding="utf-8",
        errors="replace",
        timeout=600,
        check=False,
    )
    if done.returncode:
        lines = (done.stdout + done.stderr).splitlines()
        raise Failure("\n".join([f"{folder.name}: {command[-1]}", *lines[:15], *lines[15:][-15:]]))
    return done.stdout


def _jar() -> str:
    found = glob.glob(
        str(VENV / "lib" / "*" / "site-packages" / "openapi_generator_cli" / "openapi-generator.jar")
    )
    return found[0] if found else ""
