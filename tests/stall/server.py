"""The server as it is shipped, with a prober in its event loop: ``python -m tests.stall.server SOCKET``.

The prober answers on the unix socket ``SOCKET``: ``stall`` gives the longest stall since the last question in
seconds, ``memory`` the resident memory in bytes after a garbage collection.
"""

import asyncio
import ctypes
import gc
import os
import sys
import time
from contextlib import suppress

import psutil
from starlette.types import ASGIApp, Receive, Scope, Send

from server import app
from server.__main__ import main

INTERVAL = 0.001


class Prober:
    """Measures for how long the event loop ran nothing else.

    Time in which the loop's thread was ready and the machine had no free core for it is subtracted: other
    programs cause that, and it happens to any server. Waiting for the interpreter's lock is not subtracted.
    """

    def __init__(self) -> None:
        try:
            self.schedule = os.open("/proc/thread-self/schedstat", os.O_RDONLY)
        except OSError:
            # Only Linux tells this.
            self.schedule = -1
        self.last, self.queued, self.worst = time.perf_counter(), self._queued(), 0.0

    def _queued(self) -> float:
        """How many seconds this thread has waited for a core since it started."""
        return int(os.pread(self.schedule, 100, 0).split()[1]) / 1e9 if self.schedule >= 0 else 0.0

    def look(self) -> None:
        """Note the time since the last look."""
        now, queued = time.perf_counter(), self._queued()
        self.worst = max(self.worst, now - self.last - (queued - self.queued))
        self.last, self.queued = now, queued

    async def run(self) -> None:
        """Look until cancelled."""
        while True:
            await asyncio.sleep(INTERVAL)
            self.look()

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer the questions of one connection."""
        while question := await reader.readline():
            if question == b"stall\n":
                self.look()
                text, self.worst = repr(self.worst), 0.0
            else:
                text = repr(_memory())
                # That was a stall of our own.
                self.look()
                self.worst = 0.0
            writer.write(f"{text}\n".encode())
        writer.close()


def _memory() -> int:
    """Resident memory in bytes; what Python and the C library keep for later is given back before."""
    gc.collect()
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
    return int(psutil.Process().memory_info().rss)


class Probed:
    """An app whose event loop is probed for as long as it serves."""

    def __init__(self, app: ASGIApp, path: str) -> None:
        self.app = app
        self.path = path

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "lifespan":
            await self.app(scope, receive, send)
            return
        prober = Prober()
        probing = asyncio.create_task(prober.run())
        async with await asyncio.start_unix_server(prober.answer, self.path):
            await self.app(scope, receive, send)
        probing.cancel()


def probed(path: str) -> int:
    """``serve`` with a prober; the exit status."""
    create = app.create

    def create_probed() -> ASGIApp:
        return Probed(create(), path)

    app.create = create_probed  # type: ignore[assignment]  # uvicorn calls it without arguments
    return main(["serve", "--port", "0"])


if __name__ == "__main__":
    sys.exit(probed(sys.argv[1]))
