"""Servers as processes: started, asked, measured, ended. What they cost stands in ``/proc``."""

import http.client
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
TICKS = os.sysconf("SC_CLK_TCK")


class NotStarted(Exception):
    """A server does not answer; the message says what it printed."""


def _stats() -> dict[int, tuple[int, int]]:
    """Of each process its parent, and the clock ticks that it and the children it has buried have run."""
    found = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            with suppress(OSError):
                # The name of the program, in brackets, may hold anything.
                fields = Path(f"/proc/{entry}/stat").read_text().rpartition(")")[2].split()
                found[int(entry)] = int(fields[1]), sum(map(int, fields[11:15]))
    return found


def tree(pid: int) -> list[int]:
    """A process and all that it has started, and these."""
    stats = _stats()
    found, new = [], {pid} & stats.keys()
    while new:
        found += sorted(new)
        new = {each for each, (parent, _) in stats.items() if parent in new}
    return found


def cpu_seconds(pid: int) -> float:
    """Processor time, user and system, that a process and its descendants have used so far."""
    stats = _stats()
    return sum(stats[each][1] for each in tree(pid) if each in stats) / TICKS


def memory(pid: int) -> tuple[int, int]:
    """RSS and PSS of one process, in KiB."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    sizes = {line.partition(":")[0]: int(line.split()[1]) for line in lines[1:]}
    return sizes["Rss"], sizes["Pss"]


@dataclass
class Server:
    """A server that runs."""

    name: str
    process: "subprocess.Popen[bytes]"
    port: int

    @property
    def pid(self) -> int:
        return self.process.pid

    def ask(self, raw: bytes) -> tuple[int, bytes]:
        """Send the bytes of one request; status and body of the answer."""
        status, _, body = self.asked(raw)
        return status, body

    def asked(self, raw: bytes) -> tuple[int, http.client.HTTPMessage, bytes]:
        """Send the bytes of one request; status, headers and body of the answer."""
        head, _, body = raw.partition(b"\r\n\r\n")
        first, *lines = head.decode().split("\r\n")
        method, path, _ = first.split(" ")
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        with_headers = dict(line.split(": ", 1) for line in lines)
        try:
            connection.request(method, path, body or None, with_headers)
            answer = connection.getresponse()
            return answer.status, answer.headers, answer.read()
        finally:
            connection.close()

    def answers(self, path: str) -> bool:
        try:
            status, _ = self.ask(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode())
        except OSError:
            return False
        return status == 200


@contextmanager
def serving(
    name: str,
    command: Sequence[str],
    environment: Mapping[str, str],
    port: int,
    log: Path,
    *,
    ready: str = "/api/v1/status",
    seconds: float = 30,
) -> Iterator[Server]:
    """A server of ours or a peer, from when it answers to the end of the context. Raises NotStarted.

    What it prints goes to ``log``.
    """
    # Nothing of the caller's environment decides what is measured.
    kept = {key: value for key, value in os.environ.items() if not key.startswith("CLOUDARC_")}
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, cwd=ROOT, env={**kept, **environment}, stdout=output, stderr=subprocess.STDOUT
        )
    server = Server(name, process, port)
    try:
        deadline = time.monotonic() + seconds
        while not server.answers(ready):
            if process.poll() is not None or time.monotonic() > deadline:
                raise NotStarted(f"{name} does not answer: {log.read_text(errors='replace')[-1500:]}")
            time.sleep(0.01)
        yield server
    finally:
        end(process)


def end(process: "subprocess.Popen[Any]") -> None:
    """Stop a process, kindly at first."""
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(12)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


PYTHON = sys.executable
