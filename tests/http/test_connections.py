"""Connections that do nothing, or little, cost those who call nothing."""

import resource
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest

from server.http import protocol
from tests.conftest import new_database
from tests.operations.test_command_line import served
from tests.operations.test_graceful_stop import port_of
from tests.raw.raw_client import Wire, get, send
from tests.support.live_server import CLIENT, Running, prepared, serving


class Crowd:
    """Connections that are opened anew as soon as the server ends them; some send a byte now and then."""

    def __init__(self, port: int, idle: int, dripping: int) -> None:
        self.port = port
        self.wanted = {False: idle, True: dripping}
        self.sockets: dict[bool, list[socket.socket]] = {False: [], True: []}
        self.stop = threading.Event()
        self.full = threading.Event()
        self.thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        begin = get("/services", CLIENT)[:-2] + b"X-Note: "
        body = send("/tickets", CLIENT, b" " * 100_000)[:-99_990]
        while not self.stop.is_set():
            for drips, open_now in self.sockets.items():
                for nth in range(self.wanted[drips] - len(open_now)):
                    with suppress(OSError):
                        each = socket.create_connection(("127.0.0.1", self.port), 2)
                        open_now.append(each)
                        if drips:
                            each.sendall(body if nth % 2 else begin)
                for each in open_now[:]:
                    if not self._lives(each, drips):
                        each.close()
                        open_now.remove(each)
            if all(len(self.sockets[kind]) >= self.wanted[kind] * 0.9 for kind in self.wanted):
                self.full.set()
            self.stop.wait(0.2)
        for open_now in self.sockets.values():
            for each in open_now:
                each.close()

    @staticmethod
    def _lives(each: socket.socket, drips: bool) -> bool:
        try:
            if drips:
                each.send(b" ")
            each.setblocking(False)
            # Whatever it says, an answer or the end, is about a request that never came.
            each.recv(1)
        except BlockingIOError:
            return True
        except OSError:
            return False
        return False


@contextmanager
def crowd(port: int, *, idle: int, dripping: int) -> Iterator[Crowd]:
    """A crowd that has come, as long as the context lasts."""
    each = Crowd(port, idle, dripping)
    each.thread.start()
    try:
        assert each.full.wait(20)
        yield each
    finally:
        each.stop.set()
        each.thread.join()


def waited(base: str, seconds: float) -> float:
    """What 9 of 10 calls took at most that were made one after the other, each by a new caller.

    The tenth may be the machine's own doing.
    """
    waits, end = [], time.monotonic() + seconds
    while time.monotonic() < end:
        begun = time.monotonic()
        wire = Wire(port_of(base))
        wire.send(get("/services", CLIENT))
        assert wire.answer().status == 200
        waits.append(time.monotonic() - begun)
        wire.close()
        time.sleep(0.05)
    return sorted(waits)[len(waits) * 9 // 10]


class TestCrowd:
    def test_500_idle_and_200_dripping_connections_delay_no_call_by_a_second(self, tmp_path: Path) -> None:
        with (
            served(tmp_path, rate_limit_client="0") as (_, base),
            crowd(port_of(base), idle=500, dripping=200),
        ):
            assert waited(base, 8) < 1

    def test_a_server_that_may_open_few_files_is_called_all_the_same(self, tmp_path: Path) -> None:
        with few_files(256), ExitStack() as stack:
            _, base = stack.enter_context(served(tmp_path, rate_limit_client="0"))
            server = stack.pop_all()
        with server, ExitStack() as held:
            for _ in range(400):
                held.enter_context(socket.create_connection(("127.0.0.1", port_of(base)), 2))
            # Whoever runs out of files accepts nobody for a second.
            assert waited(base, 1) < 4


@contextmanager
def few_files(number: int) -> Iterator[None]:
    """Processes that are started in the context may open so many files."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (number, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Running]:
    """A server of each test's own, so that it has no connections but those of the test."""
    with serving(prepared(new_database("sqlite", tmp_path, None))) as each:
        yield each


@pytest.fixture
def dial(running: Running, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], Wire]]:
    """Opens connections to a server that takes three at most."""
    monkeypatch.setattr(protocol, "MAX_CONNECTIONS", 3)
    wires: list[Wire] = []

    def opened() -> Wire:
        wires.append(Wire(running.port))
        return wires[-1]

    yield opened
    for wire in wires:
        wire.close()


class TestRoom:
    def test_the_one_that_has_been_idle_for_longest_makes_room(self, dial: Callable[[], Wire]) -> None:
        oldest, second, third = dial(), dial(), dial()
        assert oldest.is_usable() and third.is_usable() and second.is_usable() and oldest.is_usable()
        assert dial().is_usable()
        assert third.is_closed()
        assert oldest.is_usable() and second.is_usable()

    def test_one_whose_request_drips_in_is_idle(self, dial: Callable[[], Wire]) -> None:
        dripping, second, third = dial(), dial(), dial()
        dripping.send(get("/status")[:-2])
        assert second.is_usable() and third.is_usable()
        assert dial().is_usable()
        assert dripping.is_closed()
        assert second.is_usable() and third.is_usable()

    def test_calls_that_are_being_answered_are_not_disturbed(self, dial: Callable[[], Wire]) -> None:
        ticket = b'{"subject":"A","message":"B","department_id":1}'
        busy = [dial() for _ in range(3)]
        for wire in busy:
            wire.send(send("/tickets", CLIENT, ticket)[:-1])
        refused = dial()
        answer = refused.answer()
        assert answer.status == 503
        assert answer.headers["retry-after"] == "1"
        assert answer.closes and refused.is_closed()
        for wire in busy:
            wire.send(ticket[-1:])
            assert wire.answer().status == 201
        assert dial().is_usable()
