"""What both engines share: fair queues, and the guard against nested transactions."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Hashable
from concurrent.futures import Executor
from contextlib import asynccontextmanager
from contextvars import ContextVar
from typing import Any, TypeVar

from persistence.database import current_caller
from persistence.engines import limits
from persistence.errors import Busy, Unavailable

Result = TypeVar("Result")

inside_transaction: ContextVar[bool] = ContextVar("inside a transaction", default=False)


def enter_transaction() -> None:
    if inside_transaction.get():
        raise RuntimeError("a transaction inside a transaction would wait for itself")
    inside_transaction.set(True)


class FairQueue:
    """A queue for slow reads. Callers take turns, and each caller has one running read.

    Searches take at most ``MAX_SEARCHES`` of the places.
    """

    def __init__(self, places: int) -> None:
        self.places = places
        self.search_places = limits.MAX_SEARCHES
        self.running: set[Hashable] = set()
        # The order of the callers is that of their turns, and the reads of a caller are in order of arrival.
        self.waiting: dict[Hashable, deque[tuple[bool, asyncio.Future[None]]]] = {}

    @asynccontextmanager
    async def place(self, search: bool) -> AsyncIterator[None]:
        """Wait for a place and hold it. Raises Busy."""
        caller = current_caller.get() or object()
        mine = asyncio.get_running_loop().create_future()
        self.waiting.setdefault(caller, deque()).append((search, mine))
        self._admit()
        try:
            try:
                async with asyncio.timeout(limits.LOCK_SECONDS):
                    await mine
            except TimeoutError:
                raise Busy from None
            yield
        finally:
            # A read that was cancelled in the queue holds no place.
            if not mine.cancelled():
                self.places += 1
                self.search_places += search
                self.running.discard(caller)
                # The next read of this caller comes after those of all other callers.
                if caller in self.waiting:
                    self.waiting[caller] = self.waiting.pop(caller)
            self._admit()

    def _admit(self) -> None:
        for caller, reads in list(self.waiting.items()):
            while reads and reads[0][1].done():
                reads.popleft()
            if not reads:
                del self.waiting[caller]
            elif self.places and caller not in self.running and (self.search_places or not reads[0][0]):
                search, mine = reads.popleft()
                self.places -= 1
                self.search_places -= search
                self.running.add(caller)
                mine.set_result(None)

    def close(self) -> None:
        """Cancel all reads in the queue."""
        for reads in self.waiting.values():
            for _, mine in reads:
                mine.cancel()


def search_timeout() -> Unavailable:
    return Unavailable(
        f"The search took longer than {limits.SEARCH_SECONDS * 1000:.0f} ms; use fewer or longer words in q."
    )


async def run_to_end(executor: Executor, work: Callable[..., Result], *arguments: Any) -> Result:
    """Run ``work`` in a thread. A caller that is cancelled waits for its end, since the thread goes on."""
    future = asyncio.get_running_loop().run_in_executor(executor, work, *arguments)
    try:
        return await asyncio.shield(future)
    except asyncio.CancelledError:
        await asyncio.wait([future])
        raise


def resolve(future: "asyncio.Future[Any]", what: object) -> None:
    """Set the result of a future that has none yet."""
    if not future.done():
        future.set_result(what)
