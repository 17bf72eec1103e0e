"""The way of a delivery from the worker's loop into that of its thread, and back."""

import asyncio
import threading
from typing import Any

import pytest

from webhooks.sending import DeliveryResponse, LoopCalls, http_session


class TestLoopCalls:
    def test_every_call_of_many_threads_is_made_in_its_order(self) -> None:
        made: list[tuple[int, int]] = []

        async def work() -> None:
            calls, done = LoopCalls(asyncio.get_running_loop()), asyncio.Event()

            def queue(thread: int) -> None:
                for nth in range(500):
                    calls.call(made.append, (thread, nth))

            threads = [threading.Thread(target=queue, args=[each]) for each in range(8)]
            for each in threads:
                each.start()
            for each in threads:
                await asyncio.to_thread(each.join)
            calls.call(done.set)
            await done.wait()

        asyncio.run(work())
        assert len(made) == 8 * 500
        assert all([nth for thread, nth in made if thread == each] == [*range(500)] for each in range(8))

    def test_a_call_that_fails_stops_no_other(self) -> None:
        async def work() -> list[Any]:
            loop, failed = asyncio.get_running_loop(), []
            loop.set_exception_handler(lambda _, context: failed.append(context["exception"]))
            calls, done = LoopCalls(loop), asyncio.Event()
            calls.call(int, "none")
            calls.call(done.set)
            await asyncio.wait_for(done.wait(), 10)
            return failed

        (failure,) = asyncio.run(work())
        assert isinstance(failure, ValueError)

    def test_a_closed_loop_refuses_each_call(self) -> None:
        loop = asyncio.new_event_loop()
        calls = LoopCalls(loop)
        loop.close()
        for _ in range(2):
            with pytest.raises(RuntimeError):
                calls.call(print)


class TestRequests:
    def test_cancelling_cancels_the_request(self) -> None:
        async def work() -> bool:
            begun, ended = threading.Event(), threading.Event()

            async def request() -> DeliveryResponse:
                begun.set()
                try:
                    await asyncio.sleep(60)
                finally:
                    ended.set()
                raise AssertionError

            async with http_session(private=True) as session:
                task = asyncio.create_task(session.run(request))
                await asyncio.to_thread(begun.wait, 10)
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
                return task.cancelled() and await asyncio.to_thread(ended.wait, 10)

        assert asyncio.run(work())

    def test_a_failure_is_the_callers(self) -> None:
        async def request() -> DeliveryResponse:
            raise ValueError("mine")

        async def work() -> None:
            async with http_session(private=True) as session:
                await session.run(request)

        with pytest.raises(ValueError, match="mine"):
            asyncio.run(work())

    def test_a_session_that_ended_refuses_each_request(self) -> None:
        async def request() -> DeliveryResponse:
            raise AssertionError

        async def work() -> None:
            async with http_session(private=True) as session:
                pass
            for _ in range(2):
                with pytest.raises(RuntimeError):
                    await asyncio.wait_for(session.run(request), 10)

        asyncio.run(work())
