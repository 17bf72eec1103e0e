"""The load generator: a process of its own, with connections that are kept, which checks every status.

It reads jobs as lines of JSON and answers each with a line. What it costs itself is not measured.
"""

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import uvloop

from benchmarks.processes import PYTHON, ROOT, end


@dataclass(frozen=True)
class Job:
    """Requests to one port for so many seconds, or so many of them where ``count`` is given."""

    port: int
    request: str
    status: int
    connections: int = 16
    seconds: float = 1.0
    count: int = 0


@dataclass(frozen=True)
class Done:
    """What became of a job; times in microseconds."""

    requests: int
    seconds: float
    p50: float
    p99: float
    wrong: str = ""


class Connection(asyncio.Protocol):
    """One caller, who asks again as soon as it is answered."""

    def __init__(self, run: "Run") -> None:
        self.run = run
        self.buffer = b""
        self.need = -1
        self.closed = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.ask()

    def ask(self) -> None:
        if self.run.over():
            self.transport.close()
            return
        self.run.asked += 1
        self.started = time.perf_counter()
        self.transport.write(self.run.request)

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        if self.need < 0:
            head, found, _rest = self.buffer.partition(b"\r\n\r\n")
            if not found:
                return
            if head[9:12] != self.run.status:
                self.run.wrong = self.run.wrong or self.buffer[:500].decode(errors="replace")
                self.transport.close()
                return
            lower = head.lower()
            self.need = len(head) + 4 + int(lower.partition(b"content-length:")[2].split(b"\r\n")[0])
        if len(self.buffer) >= self.need:
            self.run.times.append(time.perf_counter() - self.started)
            self.buffer, self.need = b"", -1
            self.ask()

    def connection_lost(self, error: Exception | None) -> None:
        self.closed.set_result(None)


class Run:
    """One job."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.request = job.request.encode("latin-1")
        self.status = str(job.status).encode()
        self.times: list[float] = []
        self.asked = 0
        self.wrong = ""

    def over(self) -> bool:
        if self.wrong:
            return True
        return self.asked >= self.job.count if self.job.count else time.perf_counter() >= self.until

    async def work(self) -> Done:
        loop = asyncio.get_running_loop()
        started = time.perf_counter()
        self.until = started + self.job.seconds
        made = [
            await loop.create_connection(lambda: Connection(self), "127.0.0.1", self.job.port)
            for _ in range(self.job.connections)
        ]
        await asyncio.gather(*(protocol.closed for _, protocol in made))
        seconds = time.perf_counter() - started
        if self.asked != len(self.times) and not self.wrong:
            self.wrong = f"{self.asked - len(self.times)} requests were not answered"
        self.times.sort()
        if not self.times:
            return Done(0, seconds, 0, 0, self.wrong or "nothing was answered")
        p50, p99 = (self.times[int(len(self.times) * share)] * 1e6 for share in (0.5, 0.99))
        return Done(len(self.times), seconds, p50, p99, self.wrong)


class Failed(Exception):
    """A request of a job was not answered as it must be, so the job counts for nothing."""


class Generator:
    """The load generator's process."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self.process = process

    def run(self, job: Job) -> Done:
        """Do a job to its end. Raises Failed."""
        assert self.process.stdin and self.process.stdout
        self.process.stdin.write(json.dumps(asdict(job)) + "\n")
        self.process.stdin.flush()
        done = Done(**json.loads(self.process.stdout.readline()))
        if done.wrong:
            raise Failed(f"{job.request.splitlines()[0]}: {done.wrong}")
        return done


@contextmanager
def generator() -> Iterator[Generator]:
    """The load generator, as long as the context lasts."""
    with subprocess.Popen(
        [PYTHON, "-m", "benchmarks.load"],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        encoding="utf-8",
    ) as process:
        try:
            yield Generator(process)
        finally:
            end(process)


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        for line in sys.stdin:
            print(json.dumps(asdict(runner.run(Run(Job(**json.loads(line))).work()))), flush=True)
