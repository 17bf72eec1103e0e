"""The exact log: never more than the limit in any window, whatever becomes of Redis."""

import asyncio
import itertools
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from secrets import token_hex
from typing import Any

import pytest
import redis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from persistence.counters import SUBJECTS, Counters, LocalLog, RateLimitResult
from persistence.redis_pipeline import DEADLINE, PREFIX, SCRIPT
from tests.support.valkey import Valkey, asked, running_valkey

ROOT = Path(__file__).parents[2]
SECOND = 1_000_000


@asynccontextmanager
async def counting(url: str, window: int = 60) -> AsyncIterator[Counters]:
    counters = Counters(url, window=window)
    await counters.open()
    try:
        yield counters
    finally:
        await counters.close()


def run(url: str, work: Callable[[Counters], Awaitable[Any]], window: int = 60) -> Any:
    """The result of ``work`` with counters of their own."""

    async def inside() -> Any:
        async with counting(url, window) as counters:
            return await work(counters)

    return asyncio.run(inside())


class Model:
    """The rule, written down plainly: an instant is admitted if the window before it has room."""

    def __init__(self, window: int) -> None:
        self.window = window
        self.admitted: list[int] = []

    def hit(self, now: int, limit: int) -> bool:
        recent = [each for each in self.admitted if now - self.window < each]
        if len(recent) < limit:
            self.admitted.append(now)
            return True
        return False


class TestTheScript:
    """The script itself in a real Valkey; only its clock is ours."""

    @pytest.fixture
    def hit(self, valkey: str) -> Iterator[Callable[..., list[int]]]:
        client = redis.Redis.from_url(valkey)
        script = client.register_script(SCRIPT.replace("redis.call('TIME')", "{ARGV[4], ARGV[5]}"))

        def call(key: str, limit: int, window: int, now: int, until: int = 10**16) -> list[int]:
            seconds, rest = divmod(now, SECOND)
            admitted, remaining, wait, clock = script(keys=[key], args=[limit, window, until, seconds, rest])
            assert clock == now
            return [admitted, remaining, wait]

        yield call
        client.close()

    @settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(
        limit=st.integers(1, 12),
        steps=st.lists(st.sampled_from([0, 1, 999, 1000, 1001, 250, 5000]), min_size=1, max_size=80),
    )
    def test_it_admits_what_the_rule_admits_and_tells_when_the_next_place_is_free(
        self, hit: Callable[..., list[int]], limit: int, steps: list[int]
    ) -> None:
        key, window, model = f"test:{token_hex(8)}", 1000, Model(1000)
        for now in itertools.accumulate(steps, initial=1_700_000_000 * SECOND):
            expected = model.hit(now, limit)
            admitted, remaining, wait = hit(key, limit, window, now)
            recent = [each for each in model.admitted if now - window < each]
            assert bool(admitted) == expected
            assert remaining == limit - len(recent)
            assert wait == recent[0] + window - now
            if not admitted:
                assert Model.hit(_copy(model), now + wait, limit)
                assert not Model.hit(_copy(model), now + wait - 1, limit)

    def test_a_caller_at_the_edges_of_the_window_gets_no_call_more(
        self, hit: Callable[..., list[int]]
    ) -> None:
        key, start, admitted = f"test:{token_hex(8)}", 1_700_000_000 * SECOND, []
        # 59 calls just before a minute ends, then as many as there are just after it began, for an hour.
        for minute in range(60):
            edge = start + minute * 60 * SECOND
            for now in [edge - 60 + nth for nth in range(59)] + [edge + nth for nth in range(100)]:
                if hit(key, 60, 60 * SECOND, now)[0]:
                    admitted.append(now)
        assert len(admitted) >= 60 * 59
        for nth in range(len(admitted) - 60):
            assert admitted[nth + 60] - admitted[nth] >= 60 * SECOND

    def test_a_limit_that_was_lowered_holds_at_once_and_tells_the_true_wait(
        self, hit: Callable[..., list[int]]
    ) -> None:
        key, start = f"test:{token_hex(8)}", 1_700_000_000 * SECOND
        for nth in range(10):
            assert hit(key, 10, SECOND, start + nth * 1000)[0]
        admitted, remaining, wait = hit(key, 3, SECOND, start + 10_000)
        assert (admitted, remaining) == (0, 0)
        assert not hit(key, 3, SECOND, start + 10_000 + wait - 1)[0]
        assert hit(key, 3, SECOND, start + 10_000 + wait)[0]

    def test_a_call_that_nobody_waits_for_any_more_is_not_counted(
        self, hit: Callable[..., list[int]]
    ) -> None:
        key, now = f"test:{token_hex(8)}", 1_700_000_000 * SECOND
        assert hit(key, 5, SECOND, now, now - 1)[0] == -1
        assert hit(key, 5, SECOND, now, now)[1] == 4

    def test_a_clock_that_is_set_back_a_little_admits_nothing_twice(
        self, hit: Callable[..., list[int]]
    ) -> None:
        key, start = f"test:{token_hex(8)}", 1_700_000_000 * SECOND
        for _ in range(5):
            assert hit(key, 5, SECOND, start)[0]
        admitted, _, wait = hit(key, 5, SECOND, start - 500_000)
        assert not admitted
        assert wait == 1_500_000
        assert hit(key, 5, SECOND, start - 500_000 + wait)[0]

    def test_a_clock_that_is_set_back_an_hour_blocks_nobody(self, hit: Callable[..., list[int]]) -> None:
        key, start = f"test:{token_hex(8)}", 1_700_000_000 * SECOND
        for _ in range(5):
            hit(key, 5, SECOND, start)
        assert hit(key, 5, SECOND, start - 3600 * SECOND)[0] == 1


def _copy(model: Model) -> Model:
    copy = Model(model.window)
    copy.admitted = list(model.admitted)
    return copy


class TestTheLocalLog:
    def test_it_follows_the_same_rule(self) -> None:
        now = 0.0
        log, admitted = LocalLog(60, clock=lambda: now), []
        for step in range(20_000):
            now = step * 0.0371
            count = log.hit("a", 60)
            if count.admitted:
                admitted.append(now)
            else:
                assert count.wait == pytest.approx(admitted[-60] + 60 - now)
        assert len(admitted) > 600
        assert all(admitted[nth + 60] - admitted[nth] >= 60 for nth in range(len(admitted) - 60))

    def test_it_knows_a_bounded_number_of_subjects(self) -> None:
        log = LocalLog()
        for nth in range(SUBJECTS + 500):
            log.hit(f"subject {nth}", 60)
        assert len(log.logs) == SUBJECTS
        assert "subject 0" not in log.logs


class TestCounters:
    def test_a_call_says_what_is_left(self, valkey: str) -> None:
        subject = token_hex(8)

        async def work(counters: Counters) -> list[RateLimitResult]:
            return [await counters.hit(subject, 3) for _ in range(4)]

        counts = run(valkey, work)
        assert [each.admitted for each in counts] == [True, True, True, False]
        assert [each.remaining for each in counts] == [2, 1, 0, 0]
        assert all(59 <= each.wait <= 60 and each.seconds == 60 for each in counts)

    def test_no_key_lives_longer_than_its_window(self, valkey: str) -> None:
        subject = token_hex(8)
        run(valkey, lambda counters: counters.hit(subject, 3))
        assert 60_000 < asked(valkey, "PTTL", PREFIX + subject) <= 61_000

    def test_calls_that_are_refused_are_not_kept(self, valkey: str) -> None:
        subject = token_hex(8)

        async def work(counters: Counters) -> None:
            for _ in range(100):
                await counters.hit(subject, 3)

        run(valkey, work)
        assert asked(valkey, "LLEN", PREFIX + subject) == 3

    def test_whoever_sleeps_as_told_is_admitted(self, valkey: str) -> None:
        subject = token_hex(8)

        async def work(counters: Counters) -> None:
            for _ in range(2):
                while (count := await counters.hit(subject, 5)).admitted:
                    pass
                await asyncio.sleep(count.wait)
                assert (await counters.hit(subject, 5)).admitted

        run(valkey, work, window=1)

    def test_eager_callers_never_get_more_in_any_window(self, valkey: str) -> None:
        subject = token_hex(8)
        # When each admitted call was begun and when it was done, on a clock of our own.
        spans: list[tuple[float, float]] = []

        async def caller(counters: Counters, until: float) -> None:
            while (begun := time.monotonic()) < until:
                if (await counters.hit(subject, 60)).admitted:
                    spans.append((begun, time.monotonic()))
                await asyncio.sleep(0)

        async def work(counters: Counters) -> None:
            until = time.monotonic() + 3.2
            await asyncio.gather(*[caller(counters, until) for _ in range(8)])
            assert counters.failures == 0

        run(valkey, work, window=1)
        begun, done = sorted(each for each, _ in spans), sorted(each for _, each in spans)
        assert len(spans) >= 180
        assert all(done[nth + 60] - begun[nth] >= 1 for nth in range(len(spans) - 60))

    def test_four_processes_with_2000_calls_each_get_exactly_60(self, valkey: str) -> None:
        program = """
import asyncio, sys
from persistence.counters import Counters
async def main():
    counters = Counters(sys.argv[1])
    await counters.open()
    print("ready", flush=True)
    sys.stdin.readline()
    counts = await asyncio.gather(*[counters.hit(sys.argv[2], 60) for _ in range(2000)])
    await counters.close()
    print(sum(each.admitted for each in counts), counters.failures)
asyncio.run(main())
"""
        subject = token_hex(8)
        command = [sys.executable, "-c", program, valkey, subject]
        pipes: Any = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        running = [subprocess.Popen(command, cwd=ROOT, text=True, **pipes) for _ in range(4)]
        # All at once: a process that still starts would only slow the others down.
        for process in running:
            assert process.stdout is not None and process.stdout.readline() == "ready\n"
        for process in running:
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()
        told = [process.communicate(timeout=60)[0].split() for process in running]
        assert sum(int(admitted) for admitted, _ in told) == 60
        assert all(failures == "0" for _, failures in told)

    def test_calls_that_come_together_are_one_packet_with_one_question_for_the_epoch(self) -> None:
        async def together(counters: Counters) -> tuple[list[RateLimitResult], list[RateLimitResult]]:
            first = await asyncio.gather(*(counters.hit("one", 5) for _ in range(8)))
            return first, await asyncio.gather(*(counters.hit("two", 5) for _ in range(8)))

        with running_valkey() as own:
            first, second = run(own.url, together)
            calls = asked(own.url, "INFO", "commandstats")
        assert [sum(each.admitted for each in found) for found in (first, second)] == [5, 5]
        # The first has found none and begun one, which the second has learnt.
        assert {each.credential_generation for each in first} == {None}
        assert len({each.credential_generation for each in second}) == 1
        assert all(each.credential_generation for each in second)
        assert calls["cmdstat_get"]["calls"] == 2
        assert calls["cmdstat_evalsha"]["calls"] == 16


class TestWhenRedisFails:
    @pytest.fixture
    def own(self) -> Any:
        """A Valkey that the test may end."""
        with running_valkey() as valkey:
            yield valkey

    @pytest.mark.parametrize("fault", ["freeze", "stop"])
    def test_the_limit_holds_in_the_process_and_nobody_waits_long(self, own: Valkey, fault: str) -> None:
        async def work(counters: Counters) -> None:
            admitted = sum([(await counters.hit("one", 60)).admitted for _ in range(30)])
            getattr(own, fault)()
            waited = []
            for _ in range(100):
                begun = time.monotonic()
                admitted += (await counters.hit("one", 60)).admitted
                waited.append(time.monotonic() - begun)
                await asyncio.sleep(0.002)
            # What was admitted before counts, too; only the first call, if any, waits for the deadline.
            assert admitted == 60
            assert counters.degraded
            assert sorted(waited)[-2] < DEADLINE
            {"freeze": own.thaw, "stop": own.start}[fault]()
            until = time.monotonic() + 2
            while counters.degraded and time.monotonic() < until:
                await counters.hit("another", 60)
                await asyncio.sleep(0.02)
            assert not counters.degraded
            # Redis knows nothing, or not enough, of what was admitted meanwhile.
            assert not (await counters.hit("one", 60)).admitted

        run(own.url, work)

    def test_thousands_of_calls_at_once_wait_together(self, own: Valkey) -> None:
        async def work(counters: Counters) -> None:
            await counters.hit("one", 60)
            own.freeze()
            for _ in range(2):
                begun = time.monotonic()
                counts = await asyncio.gather(*[counters.hit("one", 60) for _ in range(5000)])
                # One after the other they would take minutes; a busy machine takes a second or two.
                assert time.monotonic() - begun < 200 * DEADLINE
            assert sum(each.admitted for each in counts) == 0
            own.thaw()

        run(own.url, work)

    def test_a_redis_that_was_started_anew_unnoticed_admits_nothing_twice(self, own: Valkey) -> None:
        async def work(counters: Counters) -> None:
            assert [(await counters.hit("one", 60)).admitted for _ in range(60)] == [True] * 60
            own.stop()
            own.start()
            until = time.monotonic() + 2
            while counters.redis and counters.redis.connection is None and time.monotonic() < until:
                await asyncio.sleep(0.02)
            counts = await asyncio.gather(*[counters.hit("one", 60) for _ in range(80)])
            assert not any(each.admitted for each in counts)

        run(own.url, work)

    def test_calls_at_once_after_a_fault_are_no_more_than_the_limit(self, own: Valkey) -> None:
        async def work(counters: Counters) -> None:
            admitted = sum([(await counters.hit("one", 60)).admitted for _ in range(50)])
            own.stop()
            admitted += (await counters.hit("one", 60)).admitted
            own.start()
            until = time.monotonic() + 2
            while counters.redis and counters.redis.connection is None and time.monotonic() < until:
                await asyncio.sleep(0.02)
            first = await counters.hit("one", 60)
            counts = await asyncio.gather(*[counters.hit("one", 60) for _ in range(80)])
            assert first.remaining == 8
            assert admitted + first.admitted + sum(each.admitted for each in counts) == 60

        run(own.url, work)

    def test_what_a_frozen_redis_finds_in_its_socket_is_not_counted_late(self, own: Valkey) -> None:
        async def work(counters: Counters) -> None:
            own.freeze()
            counts = await asyncio.gather(*[counters.hit("one", 60) for _ in range(61)])
            assert sum(each.admitted for each in counts) == 60
            await asyncio.sleep(1.2)
            own.thaw()
            until = time.monotonic() + 2
            while counters.degraded and time.monotonic() < until:
                await counters.hit("another", 60)
                await asyncio.sleep(0.02)
            assert asked(own.url, "LLEN", PREFIX + "one") == 0

        run(own.url, work)

    def test_a_machine_that_had_no_time_for_anyone_is_not_held_against_redis(self, own: Valkey) -> None:
        async def work(counters: Counters) -> None:
            own.freeze()
            call = asyncio.create_task(counters.hit("one", 60))
            await asyncio.sleep(0)
            # Nothing runs here for as long as three deadlines, and Redis is not the first to go on.
            time.sleep(3 * DEADLINE)
            await asyncio.sleep(DEADLINE / 2)
            own.thaw()
            assert (await call).admitted
            assert counters.failures == 0
            assert asked(own.url, "LLEN", PREFIX + "one") == 1

        run(own.url, work)

    @pytest.mark.parametrize("pause", [0.02, 0.045])
    def test_a_slow_redis_is_left_alone(self, own: Valkey, tmp_path: Path, pause: float) -> None:
        async def work(counters: Counters) -> None:
            begun = time.monotonic()
            await asyncio.gather(*[counters.hit("one", 60) for _ in range(60)])
            assert time.monotonic() - begun < 4 * DEADLINE
            assert counters.degraded

        async def slowly() -> None:
            path = str(tmp_path / "slow.sock")
            server = await asyncio.start_unix_server(partial(_slow, own.path, pause), path)
            async with server, counting(f"unix://{path}") as counters:
                await work(counters)

        asyncio.run(slowly())

    @pytest.mark.parametrize(
        "reply", [b"+OK", b"$-1", b":1", b"*3\r\n:1\r\n:2\r\n:3", b"-ERR no", b"+OK\r\n+OK"]
    )
    def test_a_reply_of_another_shape_is_counted_here(self, tmp_path: Path, reply: bytes) -> None:
        async def odd(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            answers = itertools.chain([b"+sha", b"*2\r\n$1\r\n1\r\n$1\r\n1"], itertools.repeat(reply))
            try:
                while await reader.read(65_536):
                    writer.write(next(answers) + b"\r\n")
            finally:
                writer.transport.abort()

        async def work() -> None:
            path = str(tmp_path / "odd.sock")
            async with await asyncio.start_unix_server(odd, path), counting(f"unix://{path}") as counters:
                counts = [await counters.hit("one", 3) for _ in range(5)]
                assert [each.admitted for each in counts] == [True, True, True, False, False]

        asyncio.run(work())

    def test_counters_start_without_redis_and_find_it_later(self, own: Valkey) -> None:
        own.stop()

        async def work(counters: Counters) -> None:
            assert counters.degraded
            assert (await counters.hit("one", 1)).admitted
            assert not (await counters.hit("one", 1)).admitted
            own.start()
            until = time.monotonic() + 2
            while counters.degraded and time.monotonic() < until:
                await counters.hit("another", 60)
                await asyncio.sleep(0.02)
            assert not counters.degraded

        run(own.url, work)

    def test_an_error_reply_is_counted_here_and_costs_the_others_nothing(self, own: Valkey) -> None:
        async def work(counters: Counters) -> None:
            asked(own.url, "SET", PREFIX + "odd", "no list")
            counts = await asyncio.gather(*[counters.hit(name, 5) for name in ["odd", "even"] * 3])
            assert all(each.admitted for each in counts)
            assert counters.failures == 3

        run(own.url, work)

    def test_flushed_scripts_are_sent_again(self, own: Valkey) -> None:
        async def work(counters: Counters) -> None:
            asked(own.url, "SCRIPT", "FLUSH")
            assert (await counters.hit("one", 5)).admitted
            assert counters.failures == 0

        run(own.url, work)


async def _slow(path: Path, pause: float, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A real Valkey behind a line that lets one small piece of its answers through at a time."""
    theirs, ours = await asyncio.open_unix_connection(path)

    async def back() -> None:
        while piece := await theirs.read(20):
            await asyncio.sleep(pause)
            writer.write(piece)

    answering = asyncio.create_task(back())
    try:
        while piece := await reader.read(65_536):
            ours.write(piece)
    finally:
        answering.cancel()
        for each in (ours, writer):
            each.transport.abort()
