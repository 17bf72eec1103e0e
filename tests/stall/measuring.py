"""Requests as bytes, and how long the server's event loop stalls while it answers them."""

import itertools
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.parse import urlsplit

from persistence import demo
from tests.soak.processes import Process, settings, until
from tests.soak.webhooks import Figure

BAR = 0.050
"""The longest stall in seconds."""

ANSWER_SECONDS = 60


@dataclass
class Row:
    """One operation or attack, and what was measured of it.

    ``stall`` and ``delay`` are in seconds: the longest stall of the event loop, and the longest answer to
    another caller meanwhile. ``problem`` says what else is wrong.
    """

    name: str
    stall: float = 0.0
    delay: float = 0.0
    worst: str = ""
    problem: str = ""

    @property
    def holds(self) -> bool:
        return self.stall <= BAR and not self.problem

    def include(self, other: "Row") -> None:
        """Take over what is worse in a variant of the same operation or attack."""
        if other.stall > self.stall:
            self.stall, self.worst = other.stall, other.name
        self.delay = max(self.delay, other.delay)
        self.problem = self.problem or (other.problem and f"{other.name}: {other.problem}")

    @property
    def figure(self) -> Figure:
        value = f"{1000 * self.stall:8.1f} ms   others wait {1000 * self.delay:6.0f} ms   "
        return Figure(self.name, value + (self.problem or self.worst), self.holds)


class Probe:
    """Asks the prober of a server."""

    def __init__(self, path: Path) -> None:
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(ANSWER_SECONDS)
        self.socket.connect(str(path))
        self.file = self.socket.makefile("rwb")

    def _ask(self, question: bytes) -> str:
        self.file.write(question + b"\n")
        self.file.flush()
        return self.file.readline().decode()

    def stall(self) -> float:
        """The longest stall since the last question, in seconds."""
        return float(self._ask(b"stall"))

    def memory(self) -> int:
        """Resident memory in bytes."""
        return int(self._ask(b"memory"))

    def close(self) -> None:
        self.file.close()
        self.socket.close()


class Neighbour:
    """Another caller, who reads and writes a little all the time."""

    CALLS = (("GET", "/services", b""), ("GET", "/status", b"")) * 10 + (
        ("PUT", "/profile", b'{"city":"Bonn"}'),
    )
    PAUSE = 0.005

    def __init__(self, port: int) -> None:
        self.port = port
        self.delay = 0.0
        self.begun = 0.0
        self.ended = threading.Event()
        self.thread = threading.Thread(target=self._run, daemon=True)

    def _run(self) -> None:
        headers = {"Authorization": f"Bearer {demo.OTHER_CLIENT_TOKEN}", "Content-Type": "application/json"}
        connection = HTTPConnection("127.0.0.1", self.port, timeout=ANSWER_SECONDS)
        for method, path, body in itertools.cycle(self.CALLS):
            if self.ended.wait(self.PAUSE):
                connection.close()
                return
            self.begun = time.perf_counter()
            try:
                connection.request(method, f"/api/v1{path}", body, headers)
                connection.getresponse().read()
            except (OSError, HTTPException):
                connection.close()
            self.delay = max(self.delay, time.perf_counter() - self.begun)
            self.begun = 0.0

    def read(self) -> float:
        """The longest answer since the last question, in seconds."""
        waiting = time.perf_counter() - self.begun if self.begun else 0.0
        delay, self.delay = max(self.delay, waiting), 0.0
        return delay

    def end(self) -> None:
        """Call no more."""
        self.ended.set()
        if self.thread.is_alive():
            self.thread.join(ANSWER_SECONDS)


Act = Callable[["Target"], int]
"""What is measured: it calls a server, and gives the status of the answer."""


@dataclass
class Target:
    """A server that is measured."""

    port: int
    probe: Probe
    neighbour: Neighbour
    tries: int
    # What was over the bar the first time alone, by its name.
    slow_at_first: dict[str, Act] = field(default_factory=dict)

    def send(self, request: bytes) -> int:
        """Send a request that closes its connection; the first status, 0 where there is no answer."""
        return status_of(answer(self.port, request, kept=20))

    def answer(self, request: bytes) -> bytes:
        """Send a request that closes its connection; all that is answered."""
        return answer(self.port, request)

    def measure(
        self,
        name: str,
        act: Act,
        allowed: Callable[[int], bool],
        *,
        of: str = "",
        prepare: Callable[[], object] = lambda: None,
    ) -> Row:
        """Measure what ``act`` does to others; of ``tries`` measurements at most the shortest stall counts.

        Noise of the machine only ever lengthens a stall, so one measurement within the bar is enough.
        ``name`` is that of a variant ``of`` an operation or attack.
        """
        found: list[Row] = []
        while len(found) < self.tries and not (found and found[-1].holds):
            prepare()
            self.probe.stall()
            self.neighbour.read()
            status = act(self)
            # What is freed or written after the answer belongs to it.
            time.sleep(0.002)
            row = Row(name, self.probe.stall(), self.neighbour.read())
            if not allowed(status):
                row.problem = f"answered {status}" if status else "no answer"
            found.append(row)
        best = min(found, key=lambda each: (bool(each.problem), each.stall))
        if best.holds and found[0].stall > BAR:
            self.slow_at_first[f"{of} {name}".strip()] = act
        return best


def answer(port: int, request: bytes, kept: int = 1 << 30) -> bytes:
    """Send a request that closes its connection, and read all that is answered; the first bytes of that."""
    beginning, buffer = bytearray(), bytearray(1 << 20)
    with (
        suppress(OSError),
        socket.create_connection(("127.0.0.1", port), timeout=ANSWER_SECONDS) as connection,
    ):
        # A server may refuse a request before it has read all of it.
        with suppress(OSError):
            connection.sendall(request)
        while size := connection.recv_into(buffer):
            if len(beginning) < kept:
                beginning += buffer[:size]
    return bytes(beginning)


def status_of(answer: bytes) -> int:
    """The status of an answer, 0 where there is none."""
    return int(answer[9:12]) if answer[9:12].isdigit() else 0


def request(
    method: str,
    path: str,
    secret: str | None = None,
    headers: Sequence[tuple[str, str]] = (),
    body: bytes = b"",
    content_type: str = "application/json",
) -> bytes:
    """The bytes of a request that closes its connection."""
    given = {name for name, _ in headers}
    lines = [f"{method} {path} HTTP/1.1", "Connection: close"]
    lines += [] if "Host" in given else ["Host: 127.0.0.1"]
    lines += [f"Authorization: Bearer {secret}"] if secret and "Authorization" not in given else []
    lines += [f"Content-Type: {content_type}", f"Content-Length: {len(body)}"] if body else []
    lines += [f"{name}: {value}" for name, value in headers]
    return "\r\n".join([*lines, "", ""]).encode() + body


@contextmanager
def serving(folder: Path, url: str, *, tries: int, beside: bool = True, **more: str) -> Iterator[Target]:
    """A server with demo data and what the database has, its prober, and another caller ``beside``."""
    with TemporaryDirectory(prefix="cloudarc-probe-") as place:
        # The path of a socket must be short.
        path = Path(place) / "socket"
        # Each call is counted, and none is refused.
        limits = dict.fromkeys(("RATE_LIMIT_CLIENT", "RATE_LIMIT_ADMIN", "RATE_LIMIT_ANONYMOUS"), "1000000")
        given = {"TRUSTED_PROXIES": "127.0.0.0/8", "LOG_LEVEL": "error"} | limits | more
        process = Process(folder, "server", ["tests.stall.server", str(path)], settings(folder, url, **given))
        process.output.unlink(missing_ok=True)
        process.start()
        try:
            port = urlsplit(process.said(r"serves (http://\S+)\n")).port
            assert port is not None
            until(lambda: status_of(answer(port, request("GET", "/readyz"))) == 200, 30, "server")
            target = Target(port, Probe(path), Neighbour(port), tries)
            if beside:
                target.neighbour.thread.start()
            yield target
            target.neighbour.end()
            target.probe.close()
        finally:
            process.stop()
