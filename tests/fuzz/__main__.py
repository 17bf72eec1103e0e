"""Fuzz a server with Schemathesis: every check, every phase, one run for each audience and seed.

``make fuzz`` starts a fresh server for each run, so that any of them can be repeated alone. With ``URL``
(which ends in ``/api/v1``) a running server is fuzzed instead, as the client of ``TOKEN``, the other
client of ``PEER`` and the operator of ``KEY``, by default those of the demo data. It is left full of
rubbish.

A run passes where Schemathesis finds nothing and really tested everything. After the runs every
operation must have been answered 2xx at least once, every link of the contract followed, and every
resource of a client tried by the other client.

A second profile fuzzes servers whose limits are on, where many calls are refused: what is refused must
be so as the contract says, and nothing else may fail.
"""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import NoReturn

import httpx

from openapi import contract
from tests.fuzz.runs import (
    OFF,
    ON,
    OWN,
    ROOT,
    WEBHOOKS,
    Outcome,
    Target,
    findings,
    fuzz,
    gaps,
    rare_chains,
    stock,
)

FOLDER = ROOT / "build" / "fuzz"
SEEDS = (1, 42, 1234)
VERSIONS: Mapping[int, contract.Version] = {42: "3.1"}
"""The seeds whose runs read another version of OpenAPI than 3.0."""


@contextmanager
def fresh_server(log: Path, limits: Mapping[str, int]) -> Iterator[Target]:
    """A server of its own with the demo data, on a free port, as a user starts it."""
    with tempfile.TemporaryDirectory(prefix="cloudarc-fuzz-data-") as data, log.open("wb") as output:
        environment = {name: text for name, text in os.environ.items() if not name.startswith("CLOUDARC_")}
        settings = {f"CLOUDARC_RATE_LIMIT_{name}": str(limit) for name, limit in limits.items()}
        server = subprocess.Popen(
            [sys.executable, "-m", "server", "serve", "--port", "0"],
            cwd=ROOT,
            env=environment | settings | WEBHOOKS | {"CLOUDARC_DATA_DIR": data},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        try:
            yield Target(_greeting(server, log))
        finally:
            server.terminate()
            try:
                server.wait(20)
            except subprocess.TimeoutExpired:
                server.kill()
                server.wait()


def _greeting(server: subprocess.Popen[bytes], log: Path) -> str:
    """The address in the server's first line, once it answers there."""
    for _ in range(600):
        first, end, _rest = log.read_text(errors="replace").partition("\n")
        if end and "serves http" in first:
            url = first.rpartition(" ")[2]
            try:
                httpx.get(f"{url}/status", timeout=1).raise_for_status()
            except httpx.HTTPError:
                pass
            else:
                return url
        if server.poll() is not None:
            break
        time.sleep(0.1)
    raise SystemExit(f"fuzz: the server did not start:\n{log.read_text(errors='replace')}")


def given_server() -> Target | None:
    """The server that the environment names, if it does and its credentials work there."""
    url = os.environ.get("URL")
    if not url:
        return None
    given = {"client": "TOKEN", "other": "PEER", "admin": "KEY"}
    secrets = {name: os.environ[variable] for name, variable in given.items() if os.environ.get(variable)}
    target = Target(url.rstrip("/"), **secrets)
    for name, path in (("client", "/profile"), ("other", "/profile"), ("admin", "/departments")):
        try:
            answer = httpx.get(
                target.url + path, headers={"Authorization": f"Bearer {getattr(target, name)}"}, timeout=30
            )
        except httpx.HTTPError as error:
            _give_up(f"URL does not answer ({error}); it ends in /api/v1.")
        if answer.status_code != 200:
            _give_up(f"{given[name]} does not work at URL: GET {path} is answered {answer.status_code}.")
        if "X-RateLimit-Limit" in answer.headers:
            _give_up(
                "The server limits calls; start it with CLOUDARC_RATE_LIMIT_CLIENT, _ADMIN, _ANONYMOUS at 0."
            )
    return target


def _give_up(message: str) -> NoReturn:
    print(f"fuzz: {message}", file=sys.stderr)
    raise SystemExit(2)


def _run(
    given: Target | None,
    audience: contract.Audience,
    seed: int,
    only: Collection[str] | None = None,
    limits: Mapping[str, int] = OFF,
    version: contract.Version = "3.0",
) -> Outcome:
    """Fuzz once, and print how it went."""
    limited = limits is not OFF
    place = FOLDER / "-".join([audience, *["limited"] * limited, *sorted(only or ()), str(seed)])
    with nullcontext(given) if given else fresh_server(place.with_suffix(".log"), limits) as target:
        outcome = fuzz(target, audience, seed=seed, only=only, limited=limited, version=version)
    print(outcome, flush=True)
    if outcome.problems:
        place.with_suffix(".txt").write_text(outcome.output)
        print(*outcome.problems, findings(outcome.output), sep="\n")
        print(f"The whole output: {place.with_suffix('.txt').relative_to(ROOT)}", flush=True)
    return outcome


def _run_stock(given: Target | None, audience: contract.Audience, *, configured: bool) -> list[str]:
    """Fuzz as a newcomer does, print how it went, and tell what is wrong."""
    name = f"{audience}, {'the served settings' if configured else 'no settings'}"
    log = FOLDER / f"{audience}-stock-{'served' if configured else 'bare'}.log"
    with nullcontext(given) if given else fresh_server(log, OFF) as target:
        found = stock(target, audience, "--seed", str(SEEDS[0]), configured=configured)
    print(f"{name}: {len(found.called)} operations {len(found.failures)} failures", flush=True)
    wrong = [f"{name}: {' '.join(map(str, each))}" for each in sorted(found.unexpected)]
    if configured and found.status:
        wrong.append(f"{name}: Schemathesis ended with exit status {found.status}.")
    if wrong:
        log.with_suffix(".txt").write_text(found.output)
        print(*wrong, findings(found.output), sep="\n")
    return wrong


def main() -> int:
    """Fuzz; the result is the exit status."""
    # Whoever ends this ends the server too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    given = given_server()
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir(parents=True)
    outcomes: list[Outcome] = []
    for audience in contract.AUDIENCES:
        left_out: frozenset[str] = frozenset()
        for seed in SEEDS:
            outcomes.append(_run(given, audience, seed, version=VERSIONS.get(seed, "3.0")))
            left_out |= outcomes[-1].left_out
        outcomes += [_run(given, audience, seed, left_out) for seed in SEEDS if left_out]
        outcomes += [_run(given, audience, SEEDS[0], chain) for chain in rare_chains(outcomes, audience)]
        outcomes.append(_run(given, audience, SEEDS[0], OWN))
    missed = gaps(outcomes)
    if given is None:
        outcomes += [_run(None, audience, SEEDS[0], limits=ON) for audience in contract.AUDIENCES]
    wrong = [
        each
        for audience in contract.AUDIENCES
        for configured in (False, True)
        for each in _run_stock(given, audience, configured=configured)
    ]
    print(
        *missed or ["Every operation was answered 2xx, every link followed, all ownership tried."], sep="\n"
    )
    return 1 if missed or wrong or any(each.problems for each in outcomes) else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
