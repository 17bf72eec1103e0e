"""Hostile receivers: none stalls the loop that delivers, fills its memory, or outlives its deadline."""

import asyncio
import gc
import socket
import ssl
import subprocess
import sys
import threading
import time
import tracemalloc
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import aiohttp.connector
import pytest
import uvloop

from tests.support.hostile_receivers import RECEIVERS, STALL, Receivers, running_receivers, shortest_gap
from webhooks.sending import DeliveryResponse, http_session, post

Run = Callable[[Any], Any]

DEADLINE = 0.5
BODY = b"x" * 1_000_000
"""More than the kernel takes for a receiver that does not read."""

# Of these the answer itself is good, and what follows it is not read.
TAKEN = {
    "a body of HTTP/1.0",
    "a body with a length",
    "large chunks",
    "answers after the answer",
    "TLS body without an end",
}

# Whether the good answer is seen depends on what comes with it.
EITHER = {"bytes after the answer", "answers before the request"}


@pytest.fixture(params=[asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Run:
    def run(work: Any) -> Any:
        with asyncio.Runner(loop_factory=request.param) as runner:
            return runner.run(work)

    return run


@pytest.fixture(scope="module")
def receivers() -> Iterator[Receivers]:
    with running_receivers() as receivers:
        yield receivers


@pytest.fixture(autouse=True)
def trust(receivers: Receivers, monkeypatch: pytest.MonkeyPatch) -> None:
    """Trust the receivers' certificate, so that they are spoken to."""
    context = ssl.create_default_context(cadata=receivers.certificate)
    monkeypatch.setattr(aiohttp.connector, "_SSL_CONTEXT_VERIFIED", context)


async def until(done: Callable[[], Any], seconds: float = 5) -> None:
    end = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < end, "it did not happen in time"
        await asyncio.sleep(0.01)


class TestEachReceiver:
    @pytest.mark.parametrize("name", RECEIVERS)
    def test_is_over_in_time_read_little_and_let_go_and_stalls_nobody(
        self, name: str, run: Run, receivers: Receivers
    ) -> None:
        answers: list[DeliveryResponse] = []

        async def work() -> float:
            async with http_session(private=True) as http:

                async def attempt() -> None:
                    body = BODY if "not read" in name else b"{}"
                    answers.append(await post(http, receivers.urls[name], body, {}, deadline=DEADLINE))

                await attempt()
                before = receivers.counts(name).sent
                gap = await shortest_gap(attempt)
                sent = (receivers.counts(name).sent - before) / (len(answers) - 1)
                # What the kernel has taken counts as sent, so this is more than was read.
                assert sent < 1.5 * 2**20
                await until(lambda: receivers.counts(name).open == 0)
                return gap

        assert run(work()) <= STALL
        for answer in answers:
            assert answer.ms < DEADLINE * 1000 + 300
            assert name in EITHER or (answer.error is None) == (name in TAKEN), answer
            if answer.error and "within" not in answer.error:
                assert answer.ms < DEADLINE * 1000

    @pytest.mark.parametrize(
        "name", ["interim answers 199", "answers after the answer", "chunks of one byte"]
    )
    def test_stalls_nobody_though_twenty_do_it_at_once(
        self, name: str, run: Run, receivers: Receivers
    ) -> None:
        async def work() -> float:
            async with http_session(private=True) as http:

                async def attempt() -> None:
                    url = receivers.urls[name]
                    await asyncio.gather(*[post(http, url, b"{}", {}, deadline=5) for _ in range(20)])

                await attempt()
                return await shortest_gap(attempt)

        assert run(work()) <= STALL

    def test_leaves_nothing_in_memory(self, run: Run, receivers: Receivers) -> None:
        quick = [name for name in RECEIVERS if not {"drips", "silence", "read"} & set(name.split())]

        async def work() -> tuple[int, int]:
            async with http_session(private=True) as http:

                async def each_of_them() -> None:
                    urls = [receivers.urls[name] for name in quick]
                    await asyncio.gather(*[post(http, url, b"{}", {}, deadline=DEADLINE) for url in urls])

                await each_of_them()
                gc.collect()
                tracemalloc.start()
                try:
                    for _ in range(5):
                        await each_of_them()
                    await asyncio.sleep(0.1)
                    gc.collect()
                    return tracemalloc.get_traced_memory()
                finally:
                    tracemalloc.stop()

        left, peak = run(work())
        assert left < 2**20
        assert peak < 16 * 2**20

    def test_there_are_enough_of_them(self) -> None:
        assert len(RECEIVERS) >= 40
        assert set(RECEIVERS) > TAKEN | EITHER


@asynccontextmanager
async def answering(*pieces: bytes) -> AsyncIterator[tuple[str, list[asyncio.Task[None] | None]]]:
    """A receiver that answers every request with these pieces; its url and the tasks of its connections."""
    connections: list[asyncio.Task[None] | None] = []

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections.append(asyncio.current_task())
        with suppress(OSError, asyncio.IncompleteReadError):
            while True:
                await reader.readuntil(b"\r\n\r\n{}")
                for piece in pieces:
                    writer.write(piece)
                    await writer.drain()
                    await asyncio.sleep(0.02)
        writer.transport.abort()

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/", connections
    finally:
        await until(lambda: all(each and each.done() for each in connections))
        server.close()


def good(size: int, *headers: str) -> bytes:
    """An answer with a body of so many bytes."""
    head = "\r\n".join(["HTTP/1.1 200 OK", *headers, f"Content-Length: {size}", "", ""])
    return head.encode() + b"a" * size


class TestTheBound:
    def test_it_counts_each_delivery_of_a_connection_anew(self, run: Run) -> None:
        async def work() -> int:
            async with answering(good(10_000)) as (url, connections), http_session(private=True) as http:
                for _ in range(20):
                    answer = await post(http, url, b"{}", {})
                    assert (answer.status, answer.error) == (200, None)
                return len(connections)

        assert run(work()) == 1

    @pytest.mark.parametrize("size", [0, 16_384, 65_536, 1_000_000])
    def test_a_body_of_any_size_is_a_success_and_so_is_the_next(self, run: Run, size: int) -> None:
        async def work() -> None:
            async with answering(good(size)) as (url, _), http_session(private=True) as http:
                for _ in range(3):
                    answer = await post(http, url, b"{}", {}, deadline=5)
                    assert (answer.status, answer.error) == (200, None)
                    assert len(answer.text) == min(size, 4096)

        run(work())

    @pytest.mark.parametrize("interim", [1, 5])
    def test_a_few_interim_answers_and_a_long_head_are_a_success(self, run: Run, interim: int) -> None:
        early = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" * interim
        headers = [f"X-{nth}: {'a' * 1000}" for nth in range(30)]

        async def work() -> DeliveryResponse:
            async with answering(early + good(5, *headers)) as (url, _), http_session(private=True) as http:
                return await post(http, url, b"{}", {}, deadline=5)

        answer = run(work())
        assert (answer.status, answer.error, answer.text) == (200, None, "aaaaa")

    @pytest.mark.parametrize(
        ("raw", "error"),
        [
            (b"HTTP/1.1 103 Early Hints\r\n\r\n" * 40 + good(0), "More than 32 answers came at once."),
            (
                b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"1\r\na\r\n" * 20_000,
                "The headers and framing of the answer exceed 48 KiB.",
            ),
        ],
    )
    def test_a_breach_is_told_by_its_bound(self, run: Run, raw: bytes, error: str) -> None:
        async def work() -> DeliveryResponse:
            async with answering(raw) as (url, _), http_session(private=True) as http:
                return await post(http, url, b"{}", {}, deadline=5)

        assert run(work()).error == error

    def test_bytes_on_an_idle_connection_end_it(self, run: Run) -> None:
        async def work() -> None:
            late = [good(2), b"HTTP/1.1 200 OK\r\n"]
            async with answering(*late) as (url, connections), http_session(private=True) as http:
                for nth in range(1, 3):
                    assert (await post(http, url, b"{}", {})).error is None
                    assert len(connections) == nth
                    await until(lambda: all(each and each.done() for each in connections), 2)

        run(work())


class TestTheThread:
    def test_a_delivery_that_is_cancelled_cancels_its_request(self, run: Run, receivers: Receivers) -> None:
        async def work() -> None:
            async with http_session(private=True) as http:
                task = asyncio.create_task(post(http, receivers.urls["silence"], b"{}", {}))
                await until(lambda: receivers.counts("silence").open == 1)
                task.cancel()
                await until(lambda: receivers.counts("silence").open == 0)
                with pytest.raises(asyncio.CancelledError):
                    await task

        run(work())

    def test_the_end_of_a_session_is_quick_and_leaves_no_thread_and_no_socket(
        self, run: Run, receivers: Receivers
    ) -> None:
        hanging = ["silence", "a body that is not read", "TLS silence", "a head that drips", "TLS that drips"]

        async def work() -> float:
            async with http_session(private=True) as http:
                tasks = [asyncio.create_task(post(http, receivers.urls[name], BODY, {})) for name in hanging]
                await until(lambda: all(receivers.counts(name).open for name in hanging))
                begun = time.monotonic()
            took = time.monotonic() - begun
            await asyncio.wait(tasks, timeout=1)
            assert all(task.done() for task in tasks)
            await until(lambda: not any(receivers.counts(name).open for name in hanging))
            return took

        assert run(work()) < 1
        assert not [each for each in threading.enumerate() if each.name == "webhooks"]


class TestNames:
    @staticmethod
    def hang(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
        """Let every lookup but that of localhost hang until the event is set."""
        over, found = threading.Event(), socket.getaddrinfo

        def getaddrinfo(host: str, *rest: Any, **named: Any) -> Any:
            if host != "localhost":
                over.wait(30)
            return found("127.0.0.1", *rest, **named)

        monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
        return over

    def test_lookups_that_hang_delay_no_other(self, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
        over = self.hang(monkeypatch)

        async def work() -> DeliveryResponse:
            async with answering(good(2)) as (url, _), http_session(private=True) as http:
                port = url.rsplit(":", 1)[1]
                hanging = [f"http://hook-{nth}.example:{port}" for nth in range(20)]
                tasks = [asyncio.create_task(post(http, each, b"{}", {}, deadline=5)) for each in hanging]
                await asyncio.sleep(0.1)
                try:
                    return await post(http, f"http://localhost:{port}", b"{}", {}, deadline=2)
                finally:
                    over.set()
                    await asyncio.gather(*tasks)

        answer = run(work())
        assert answer.error is None
        assert answer.ms < 1000

    def test_there_is_a_bound_to_them(self, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
        over = self.hang(monkeypatch)
        before = threading.active_count()

        async def work() -> list[DeliveryResponse]:
            async with http_session(private=True) as http:
                urls = [f"http://hook-{nth}.example/" for nth in range(110)]
                try:
                    tasks = [post(http, url, b"{}", {}, deadline=1) for url in urls]
                    answers = await asyncio.gather(*tasks)
                    assert threading.active_count() <= before + 1 + 100
                finally:
                    over.set()
                return answers

        errors = [answer.error for answer in run(work())]
        assert errors.count("100 lookups of host names wait for an answer.") == 10
        assert errors.count("No complete answer came within 1 seconds.") == 100

    def test_a_lookup_that_hangs_outlives_no_process(self) -> None:
        work = """
import asyncio, socket, time, uvloop
from webhooks.sending import http_session, post

async def main():
    async with http_session(private=True) as http:
        print(await post(http, "http://hook.example/", b"{}", {}, deadline=0.1))

socket.getaddrinfo = lambda *_, **__: time.sleep(60)
with asyncio.Runner() as runner:
    runner.run(main())
"""
        done = subprocess.run([sys.executable, "-c", work], capture_output=True, text=True, timeout=20)
        assert "within 0.1 seconds" in done.stdout
        assert (done.returncode, done.stderr) == (0, "")
