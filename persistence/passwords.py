"""Passwords: kept as argon2id hashes, which no answer, log or event ever shows.

Sign-ins and new passwords have threads of their own, so that no number of sign-ins delays a new password.
"""

import asyncio
import os
import sys
import threading
from collections.abc import Hashable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from weakref import WeakValueDictionary

from argon2 import PasswordHasher
from argon2.exceptions import Argon2Error, InvalidHashError

from persistence.errors import Unavailable

HASHER = PasswordHasher(time_cost=2, memory_cost=19 * 1024, parallelism=1)

MAX_PASSWORD = 200
"""Characters; hashing takes longer with the length."""

# --- New passwords ---

THREADS = os.cpu_count() or 1
# A hash takes a core and 19 MiB for some hundredths of a second; more at a time would only wait.
_threads = ThreadPoolExecutor(THREADS, thread_name_prefix="password")

# Of each event loop and caller; one that nobody waits for is gone.
_turns: WeakValueDictionary[Hashable, asyncio.Semaphore] = WeakValueDictionary()


async def hashed(password: str, caller: Hashable = None) -> str:
    """Return the argon2id hash of a password, made in a thread.

    A caller occupies all threads at most once, so that another caller waits for one hash at most, however
    many this one asks for.
    """
    loop = asyncio.get_running_loop()
    turn = _turns.setdefault((loop, caller), asyncio.Semaphore(THREADS))
    async with turn:
        return await loop.run_in_executor(_threads, HASHER.hash, password)


# --- Sign-ins ---

DUMMY_HASH = (
    "$argon2id$v=19$m=19456,t=2,p=1$+F+73ze5f+Wi/EWeBVT1HA$P9XZunUm5JHP9omzHQzccPMrGK0Qxi5j3evcuRW5MnY"
)
"""A hash for attempts with an unknown name, so that they take as long as any other."""

NICENESS = 10
"""How far the thread of sign-ins stands behind those that answer calls; one that stood further behind could
keep them from the interpreter's lock for longer."""

STRANGERS, KNOWN_DEVICES = 16, 8
"""How many sign-ins are checked or wait for it at a time; known devices have places of their own, so that
strangers cannot take all."""


class TooManySignIns(Unavailable):
    """As many sign-ins as there may be wait for their check already."""

    def __init__(self) -> None:
        super().__init__("Too many sign-ins are being checked at the moment; try again in 1 second.")


def _lower_priority() -> None:
    # Linux has priorities for each thread; elsewhere this number would name a process.
    if sys.platform == "linux":
        with suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICENESS)


_sign_in_thread = ThreadPoolExecutor(1, thread_name_prefix="sign-in", initializer=_lower_priority)
_strangers = threading.BoundedSemaphore(STRANGERS)
_known_devices = threading.BoundedSemaphore(KNOWN_DEVICES)


@contextmanager
def sign_in_place(*, known_device: bool) -> Iterator[None]:
    """Hold one of the places for sign-ins. Raises TooManySignIns at once where there is none."""
    places = _known_devices if known_device else _strangers
    if not places.acquire(blocking=False):
        raise TooManySignIns
    try:
        yield
    finally:
        places.release()


async def fits(password_hash: str, password: str) -> bool:
    """Return whether a password has a hash, checked in the thread of sign-ins."""
    loop = asyncio.get_running_loop()
    return await loop.run_in_executor(_sign_in_thread, _fits, password_hash, password)


def _fits(password_hash: str, password: str) -> bool:
    try:
        return HASHER.verify(password_hash, password)
    except (Argon2Error, InvalidHashError):
        return False
