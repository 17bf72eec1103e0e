"""Child processes: they end with their parent, and one server owns a data directory."""

import ctypes
import fcntl
import multiprocessing
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from types import FrameType

from persistence.errors import StartError

PR_SET_PDEATHSIG = 1
# Loaded at import, since nothing should be loaded between fork and exec.
_prctl = ctypes.CDLL(None).prctl if sys.platform == "linux" else None


def end_with(parent: int) -> bool:
    """Have SIGTERM sent to this process when the *thread* ends that started it; this survives an exec.

    False: the parent, whose pid is given, has ended already, and no signal will come. Only Linux sends
    the signal; elsewhere the answer is all.
    """
    if _prctl is not None:
        _prctl(PR_SET_PDEATHSIG, ctypes.c_ulong(signal.SIGTERM))
    return os.getppid() == parent


def end_worker_with_server() -> None:
    """End a worker process when its parent ends. In any other process do nothing."""
    server = multiprocessing.parent_process()
    if server and server.pid and not end_with(server.pid):
        raise SystemExit("The parent server of this worker has ended.")


@contextmanager
def cleanup_on_exit(tidy: Callable[[], None]) -> Iterator[None]:
    """Call ``tidy`` at the end of the context, and before a signal ends this process."""
    numbers = (signal.SIGTERM, signal.SIGHUP, signal.SIGALRM)
    ending = [each for each in numbers if signal.getsignal(each) is signal.SIG_DFL]

    def handle_all_by(handler: signal.Handlers | Callable[[int, FrameType | None], None]) -> None:
        for each in ending:
            signal.signal(each, handler)

    def end(number: int, frame: FrameType | None) -> None:
        # An exception from a signal handler could be swallowed by code that expects none.
        handle_all_by(signal.SIG_IGN)
        tidy()
        signal.signal(number, signal.SIG_DFL)
        signal.raise_signal(number)

    handle_all_by(end)
    try:
        yield
    finally:
        # A signal must not call ``tidy`` a second time meanwhile.
        handle_all_by(signal.SIG_IGN)
        tidy()
        handle_all_by(signal.SIG_DFL)


@contextmanager
def locked(data_dir: str) -> Iterator[None]:
    """Keep other servers out of the data directory. Raises StartError where one is in it.

    The kernel takes the lock back however we end. Python opens files close-on-exec, so no child holds it.
    """
    path = Path(data_dir) / "serve.lock"
    with ExitStack() as stack:
        try:
            file = stack.enter_context(open(path, "a+", encoding="ascii"))
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            raise StartError(
                f"The data directory {data_dir} is in use by another server (process {file.read(20)}); "
                "stop it, or choose another CLOUDARC_DATA_DIR."
            ) from None
        except OSError as error:
            raise StartError(
                f"{path} cannot be used ({error.strerror}); remove it, or choose another CLOUDARC_DATA_DIR."
            ) from error
        with suppress(OSError):
            # The file names the holder of the lock, unless the disk is full.
            file.truncate(0)
            file.write(str(os.getpid()))
            file.flush()
        yield
