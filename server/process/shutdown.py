"""Shutdown: a signal stops all parts at once, and an alarm ends a process that hangs."""

import asyncio
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = (signal.SIGTERM, signal.SIGINT)

CALLS_SECONDS = 5
"""The seconds that requests in flight may take after a signal. Later ones get 503."""

ALARM_SECONDS = 8
"""The seconds after which the kernel ends the process. The rest of ten seconds is for Valkey."""


def set_alarm() -> None:
    """Let the kernel end this process after ``ALARM_SECONDS``. A second signal extends nothing."""
    if not signal.getitimer(signal.ITIMER_REAL)[0]:
        signal.alarm(ALARM_SECONDS)


@contextmanager
def stop_on_signal(stop: Callable[[], None]) -> Iterator[None]:
    """Call ``stop`` in the event loop when a signal arrives, before the previous handler."""
    previous = {number: signal.getsignal(number) for number in SIGNALS}
    loop = asyncio.get_running_loop()

    def hear(number: int, frame: FrameType | None) -> None:
        set_alarm()
        loop.call_soon_threadsafe(stop)
        handler = previous[signal.Signals(number)]
        assert callable(handler)
        handler(number, frame)

    # Python handles signals in the main thread only. A signal without a handler keeps its default.
    heard_here = threading.current_thread() is threading.main_thread()
    hearing = [number for number in SIGNALS if heard_here and callable(previous[number])]
    for number in hearing:
        signal.signal(number, hear)
    try:
        yield
    finally:
        for number in hearing:
            signal.signal(number, previous[number])
