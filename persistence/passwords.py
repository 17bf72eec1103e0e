"""Passwords: kept as argon2id hashes, which no answer, log or event ever shows."""

import asyncio
import os
from concurrent.futures import ThreadPoolExecutor

from argon2 import PasswordHasher
from argon2.exceptions import Argon2Error, InvalidHashError

HASHER = PasswordHasher(time_cost=2, memory_cost=19 * 1024, parallelism=1)

MAX_PASSWORD = 200
"""Characters; hashing takes longer with the length."""

# A hash takes a core and 19 MiB for some hundredths of a second; more at a time would only wait.
_threads = ThreadPoolExecutor(os.cpu_count() or 1, thread_name_prefix="password")


async def hashed(password: str) -> str:
    """The argon2id hash of a password, made in a thread."""
    return await asyncio.get_running_loop().run_in_executor(_threads, HASHER.hash, password)


NOBODYS = "$argon2id$v=19$m=19456,t=2,p=1$+F+73ze5f+Wi/EWeBVT1HA$P9XZunUm5JHP9omzHQzccPMrGK0Qxi5j3evcuRW5MnY"
"""The hash of no operator's password: a try for a name that nobody has takes as long as any other."""


async def fits(password_hash: str, password: str) -> bool:
    """Whether a hash is that of a password, judged in a thread."""
    return await asyncio.get_running_loop().run_in_executor(_threads, _fits, password_hash, password)


def _fits(password_hash: str, password: str) -> bool:
    try:
        return HASHER.verify(password_hash, password)
    except (Argon2Error, InvalidHashError):
        return False
