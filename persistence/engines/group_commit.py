"""One SQLite writer at a time, and one COMMIT for all writers that queue.

A COMMIT waits for the disk. The first writer of a group begins the transaction, each later one works in a
savepoint, and one COMMIT ends them all. No writer reports success before that COMMIT.
"""

import asyncio
import sqlite3
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

from persistence.engines import limits
from persistence.engines.common import resolve
from persistence.errors import Busy, Unavailable


class GroupCommit:
    """The queue of writers of one connection, and the group of transactions that await a COMMIT."""

    def __init__(self, raw: sqlite3.Connection) -> None:
        self.raw = raw
        self.disk = ThreadPoolExecutor(1, "disk")
        self.writing = False
        # A writer in the queue gets True when its turn comes, or False when it has waited too long.
        self.write_queue: deque[asyncio.Future[bool]] = deque()
        self.awaiting_commit: list[asyncio.Future[BaseException | None]] = []

    async def acquire_writer(self, seconds: float) -> None:
        """Wait for the right to write, for ``seconds`` at most. Raises Busy."""
        if not self.writing:
            self.writing = True
            return
        loop = asyncio.get_running_loop()
        turn = loop.create_future()
        self.write_queue.append(turn)
        timeout = loop.call_later(seconds, resolve, turn, False)
        try:
            if not await turn:
                raise Busy
        except asyncio.CancelledError:
            if not turn.cancelled() and turn.result():
                self.release_writer()
            raise
        finally:
            timeout.cancel()

    def release_writer(self) -> None:
        """Hand the right to write to the next writer, or commit if there is none or the group is full."""
        while self.write_queue and self.write_queue[0].done():
            self.write_queue.popleft()
        full = not self.raw.in_transaction or len(self.awaiting_commit) >= limits.MAX_GROUP
        if self.awaiting_commit and full:
            self._begin_commit()
        elif self.write_queue:
            self.write_queue.popleft().set_result(True)
        else:
            self.writing = False
            if self.awaiting_commit:
                # Writers that are ready in this turn of the event loop join the group before the COMMIT.
                asyncio.get_running_loop().call_soon(self._commit_unless_writing)

    async def committed(self) -> BaseException | None:
        """Release the writer and wait for the COMMIT of its group. Return the failure of the COMMIT."""
        outcome: asyncio.Future[BaseException | None] = asyncio.get_running_loop().create_future()
        self.awaiting_commit.append(outcome)
        self.release_writer()
        return await outcome

    def _commit_unless_writing(self) -> None:
        if self.awaiting_commit and not self.writing:
            self._begin_commit()

    def _begin_commit(self) -> None:
        self.writing = True
        # COMMIT waits for the disk, so it always runs in a thread.
        done = asyncio.get_running_loop().run_in_executor(self.disk, self.commit)
        done.add_done_callback(self._committed)

    def commit(self) -> None:
        """Commit the group. Raises sqlite3.Error, Unavailable."""
        if not self.raw.in_transaction:
            # A full disk makes SQLite roll back the whole transaction, and with it the whole group.
            raise Unavailable
        self.raw.execute("COMMIT")

    def _committed(self, done: "asyncio.Future[None]") -> None:
        failure = done.exception()
        group, self.awaiting_commit = self.awaiting_commit, []
        try:
            if self.raw.in_transaction:
                self.raw.execute("ROLLBACK")
        finally:
            for outcome in group:
                resolve(outcome, failure)
            self.release_writer()

    async def close(self) -> None:
        """Commit the group and close the connection.

        A cancelled writer may still run in a thread, so this waits until its deadline has passed.
        """
        with suppress(Busy):
            await self.acquire_writer(2 * limits.LOCK_SECONDS)
            if self.awaiting_commit:
                self._begin_commit()
                await self.acquire_writer(2 * limits.LOCK_SECONDS)
            self.raw.close()
        self.disk.shutdown(wait=False)
