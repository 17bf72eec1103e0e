"""The faults of reliability.md, each under a load of writes, and all judged by the same invariants."""

import asyncio
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import asyncpg
import psutil

from tests.soak import invariants
from tests.soak.ledger import Attempt, History, loading
from tests.soak.processes import Log, Process, Received, receiver, server, settings, until, workers
from tests.soak.webhooks import Figure, calling
from tests.support.postgres import restartable_postgres
from tests.support.valkey import running_valkey

TOLD_SECONDS = 100
"""The claims of a worker that was killed run out after a minute."""

HOUR = 3600


@dataclass(frozen=True)
class Scene:
    """What a fault may hit."""

    server: Process
    address: tuple[str, int]
    workers: list[Process]
    history: History
    log: Log
    database_url: str

    async def written(self, number: int, seconds: float = 30) -> None:
        """Wait until so many further writes are acknowledged."""
        await self.history.further(number, _written, seconds)

    async def restart(self) -> None:
        """``kill -9`` of the server, wherever its calls are, and the same server again."""
        with self.history.down():
            self.server.kill()
            self.server.start()
            await asyncio.to_thread(until, partial(_listens, self.address), 30, "server")


Fault = Callable[[Scene], Awaitable[None]]


def _listens(address: tuple[str, int]) -> bool:
    with suppress(OSError), socket.create_connection(address, 1):
        return True
    return False


def _written(attempt: Attempt) -> bool:
    return attempt.status is not None and attempt.status < 300


def _put_off(attempt: Attempt) -> bool:
    return attempt.status == 503


async def under_load(
    folder: Path,
    database_url: str,
    fault: Fault,
    *,
    number: int = 1,
    also: Sequence[str] = (),
    clock: Path | None = None,
    environment: Mapping[str, str] | None = None,
) -> list[Figure]:
    """Write while ``fault`` happens and for a while after it; then judge.

    ``also`` are the paths of further endpoints. ``clock`` is the file of a shifted clock.
    """
    given = settings(folder, database_url, **(environment or {}))
    with (
        receiver(folder) as (target, log),
        server(folder, given) as (process, base),
        workers(folder, given, number) as running,
    ):
        address = urlsplit(base)
        assert address.hostname and address.port
        # Where it is started again, callers must find it; of two such arguments the last one counts.
        process.command += ["--port", str(address.port)]
        if clock:
            await _by_clock(clock, [process, *running], (address.hostname, address.port))
        async with calling(base) as caller:
            hook = await caller.webhook(f"{target}/ok", *invariants.KINDS)
            for path in also:
                await caller.webhook(f"{target}/{path}", *invariants.KINDS)
        before = await invariants.read(database_url)
        history = History()
        scene = Scene(process, (address.hostname, address.port), running, history, log, database_url)
        async with loading(base, history):
            await scene.written(20)
            await fault(scene)
            await scene.written(20)
        state = (await invariants.read(database_url)).since(before)
        await _told(state, log)
        received = [_timed(each) for each in log.read() if each.path == "/ok"]
        figures = invariants.check(history, state, received, hook["secret"])
        if clock:
            figures.append(_by_both_clocks(log.read()))
        return [*figures, _summary(history, received)]


async def _told(state: invariants.State, log: Log) -> None:
    """Wait for the deliveries, as long as they may take; the judge says what is missing then."""
    wanted = {each.uid for each in state.events}
    deadline = time.monotonic() + TOLD_SECONDS
    while wanted - {each.id for each in log.read() if each.path == "/ok"} and time.monotonic() < deadline:
        await asyncio.sleep(0.1)


def _hours_off(received: Received) -> int:
    """How many hours the sender's clock was ahead of the receiver's."""
    return round((int(received.headers["webhook-timestamp"]) - received.at) / HOUR)


def _timed(received: Received) -> Received:
    """By the sender's clock, where that is an hour off: the receiver's is taken to be as wrong."""
    return replace(received, at=received.at + HOUR * _hours_off(received))


def _by_both_clocks(received: list[Received]) -> Figure:
    """That the clock was shifted at all, while something was sent."""
    ahead = sum(_hours_off(each) == 1 for each in received)
    right = len(received) - ahead
    return Figure("deliveries sent an hour ahead, and in time", f"{ahead} and {right}", bool(ahead and right))


def _summary(history: History, received: list[Received]) -> Figure:
    """What the run was like; it must have written something."""
    slowest = max((each.ended - each.begun for each in history.attempts if each.status), default=0)
    put_off = sum(_put_off(each) for each in history.attempts)
    broken = sum(each.status is None for each in history.attempts)
    replayed = sum(each.replayed for each in history.attempts)
    twice = len(received) - len({each.id for each in received})
    value = (
        f"{history.count('acknowledged'):,} of {len(history.writes):,}; {put_off} × 503, {broken} broken, "
        f"{replayed} replayed, "
        f"slowest answer {slowest:.1f} s, {twice} told twice"
    )
    return Figure("writes that were acknowledged", value, history.count("acknowledged") > 0)


# --- processes ---------------------------------------------------------------------------------------


async def kill_the_server(folder: Path, database_url: str, *, kills: int) -> list[Figure]:
    """``kill -9`` of the API with calls in flight.

    Every second one is held still first until PostgreSQL has done all that it was asked, so that calls
    whose COMMIT was on its way end between their commit and their answer.
    """

    async def fault(scene: Scene) -> None:
        for nth in range(kills):
            await scene.written(10 + nth)
            if nth % 2 == 0 and database_url.startswith("postgresql"):
                os.kill(scene.server.pid, signal.SIGSTOP)
                await _commits_are_done(database_url)
            await scene.restart()

    return await under_load(folder, database_url, fault)


async def _commits_are_done(database_url: str) -> None:
    """Wait, but not long: whoever waits for a lock of the one that is held still would do so for ever."""
    busy = "state = 'active' AND wait_event_type IS DISTINCT FROM 'Lock'"
    deadline = time.monotonic() + 1
    while any(await _of_backends(database_url, busy)) and time.monotonic() < deadline:
        await asyncio.sleep(0.01)


async def kill_workers(folder: Path, database_url: str, *, kills: int, number: int = 2) -> list[Figure]:
    """``kill -9`` of a worker while it delivers."""

    async def fault(scene: Scene) -> None:
        for nth in range(kills):
            await scene.written(20)
            victim = scene.workers[nth % number]
            victim.kill()
            victim.start()

    return await under_load(folder, database_url, fault, number=number)


# --- PostgreSQL --------------------------------------------------------------------------------------


async def end_backends(folder: Path, database_url: str, *, times: int) -> list[Figure]:
    """``pg_terminate_backend`` of every connection of server and worker."""

    async def fault(scene: Scene) -> None:
        for _ in range(times):
            await scene.written(20)
            await _of_backends(database_url, "pg_terminate_backend(pid)")

    return await under_load(folder, database_url, fault)


async def kill_backends(folder: Path, *, kills: int) -> list[Figure]:
    """``kill -9`` of one backend: PostgreSQL ends all others, too, and recovers."""
    with restartable_postgres() as postgres:

        async def fault(scene: Scene) -> None:
            for _ in range(kills):
                await scene.written(20)
                for pid in (await _of_backends(postgres.url, "pid"))[:1]:
                    os.kill(pid, signal.SIGKILL)

        return await under_load(folder, postgres.url, fault)


async def restart_the_database(folder: Path, *, restarts: int) -> list[Figure]:
    """Immediate stops of PostgreSQL, which then recovers from its log."""
    with restartable_postgres() as postgres:

        async def fault(scene: Scene) -> None:
            for _ in range(restarts):
                await scene.written(20)
                await asyncio.to_thread(postgres.stop, signal.SIGQUIT)
                await scene.history.further(10, _put_off)
                await asyncio.to_thread(postgres.start)

        return await under_load(folder, postgres.url, fault)


async def _of_backends(database_url: str, what: str) -> list[Any]:
    """Something of each backend of this database's servers and workers."""
    connection = await asyncpg.connect(database_url.replace("+asyncpg", ""))
    try:
        rows = await connection.fetch(
            f"SELECT {what} FROM pg_stat_activity"
            " WHERE application_name = 'cloudarc' AND datname = current_database()"
        )
        return [row[0] for row in rows]
    finally:
        await connection.close()


# --- Redis -------------------------------------------------------------------------------------------


async def lose_redis(folder: Path, database_url: str, *, times: int, killed: bool) -> list[Figure]:
    """Redis killed, or frozen with its connections open; calls go on being counted and done."""
    with running_valkey() as valkey:

        async def fault(scene: Scene) -> None:
            for _ in range(times):
                await scene.written(20)
                (valkey.stop if killed else valkey.freeze)()
                try:
                    await scene.written(50)
                finally:
                    (valkey.start if killed else valkey.thaw)()

        # Without a limit nobody would be counted, and Redis would not be asked.
        limits = {"REDIS_URL": valkey.url, "RATE_LIMIT_ADMIN": "1000000"}
        return await under_load(folder, database_url, fault, environment=limits)


# --- the disk ----------------------------------------------------------------------------------------


async def fill_the_disk(folder: Path, *, times: int) -> list[Figure]:
    """A disk that is full under SQLite, and has room again."""
    with small_disk(folder / "disk") as (path, full, kind):

        async def fault(scene: Scene) -> None:
            for _ in range(times):
                await scene.written(20)
                with full([scene.server, *scene.workers]):
                    await scene.history.further(20, _put_off)

        figures = await under_load(folder, f"sqlite:///{path / 'cloudarc.db'}", fault)
        return [*figures, Figure("the disk was", kind, True)]


Full = Callable[[list[Process]], Any]


@contextmanager
def small_disk(path: Path) -> Iterator[tuple[Path, Full, str]]:
    """A folder that can be full: a tmpfs where we may mount one, else files that may not grow."""
    path.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=32m", "tmpfs", str(path)]
    if os.getuid() != 0 or not shutil.which("mount") or subprocess.run(mount, check=False).returncode != 0:
        yield path, _no_growth, "files that may not grow (RLIMIT_FSIZE)"
        return
    try:
        yield path, lambda _: _ballast(path / "ballast"), "a tmpfs of 32 MiB"
    finally:
        subprocess.run(["umount", "--lazy", str(path)], check=True)


@contextmanager
def _ballast(path: Path) -> Iterator[None]:
    """Everything that is free, taken for as long as the context."""
    try:
        with suppress(OSError), path.open("wb", buffering=0) as file:
            while True:
                file.write(bytes(4096))
        yield
    finally:
        path.unlink()


@contextmanager
def _no_growth(processes: list[Process]) -> Iterator[None]:
    """No file of these processes may become any larger than a page for as long as the context."""
    running = [psutil.Process(each.pid) for each in processes]
    limits = [each.rlimit(psutil.RLIMIT_FSIZE) for each in running]
    try:
        for each, (_, hard) in zip(running, limits, strict=True):
            each.rlimit(psutil.RLIMIT_FSIZE, (4096, hard))
        yield
    finally:
        for each, limit in zip(running, limits, strict=True):
            each.rlimit(psutil.RLIMIT_FSIZE, limit)


# --- the clock and the receiver ----------------------------------------------------------------------


async def shift_the_clock(folder: Path, database_url: str, *, back: bool) -> list[Figure]:
    """The clock of server and worker jumps by an hour, and later to where it was."""
    clock = folder / "clock"
    _set(clock, HOUR if back else 0)

    async def fault(scene: Scene) -> None:
        await scene.written(50)
        _set(clock, 0 if back else HOUR)
        await scene.written(50)

    return await under_load(folder, database_url, fault, clock=clock)


def _set(clock: Path, seconds: int) -> None:
    """At once: nobody reads an empty file."""
    draft = clock.with_suffix(".draft")
    draft.write_text(str(seconds))
    draft.rename(clock)


async def _by_clock(clock: Path, processes: list[Process], address: tuple[str, int]) -> None:
    """Start the processes again, by that clock."""
    for each in processes:
        await asyncio.to_thread(each.stop)
        # Python, -m, the module; the rest is for the module.
        each.command[2:3] = ["tests.soak.shifted", str(clock)]
        each.start()
    await asyncio.to_thread(until, partial(_listens, address), 30, "server")


async def receive_badly(folder: Path, database_url: str, *, writes: int) -> list[Figure]:
    """Endpoints that hang, drip and reset beside one that is well."""

    async def fault(scene: Scene) -> None:
        await scene.written(writes)

    return await under_load(folder, database_url, fault, also=("hang", "drip", "reset"))
