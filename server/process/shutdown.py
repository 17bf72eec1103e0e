"""The end of a process: a signal begins it in all parts at once, and nothing that hangs outlives it."""

import asyncio
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = (signal.SIGTERM, signal.SIGINT)

CALLS_SECONDS = 5
"""How long calls in flight may take after a signal; those that take longer are answered 503."""

ALARM_SECONDS = 8
"""When the kernel ends the process, whatever hangs in it; what is left of ten seconds is for Valkey."""


def set_alarm() -> None:
    """End this process soon, unless it has ended by then. A second signal grants no more time."""
    if not signal.getitimer(signal.ITIMER_REAL)[0]:
        signal.alarm(ALARM_SECONDS)


@contextmanager
def stop_on_signal(stop: Callable[[], None]) -> Iterator[None]:
    """Have ``stop`` called in the running loop when a signal comes, which then goes on to its handler."""
    previous = {number: signal.getsignal(number) for number in SIGNALS}
    loop = asyncio.get_running_loop()

    def hear(number: int, frame: FrameType | None) -> None:
        set_alarm()
        loop.call_soon_threadsafe(stop)
        handler = previous[signal.Signals(number)]
        assert callable(handler)
        handler(number, frame)

    # Signals are the main thread's; in any other, and where nobody handles them, none is waited for.
    heard_here = threading.current_thread() is threading.main_thread()
    hearing = [number for number in SIGNALS if heard_here and callable(previous[number])]
    for number in hearing:
        signal.signal(number, hear)
    try:
        yield
    finally:
        for number in hearing:
            signal.signal(number, previous[number])
