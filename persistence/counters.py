"""How often each subject has called: an exact moving log in Redis, and in the process where Redis fails.

A log keeps the instant of every call that was admitted in the last minute, so that no minute, wherever
it begins, has more of them than the limit. Calls that were refused are not kept. Redis' clock is the
only one. This module does not know who is calling.
"""

import logging
import math
import time
from collections import OrderedDict, deque
from collections.abc import Callable
from typing import NamedTuple

from redis.exceptions import RedisError, ResponseError

from persistence.redis_pipeline import PREFIX, RedisPipeline, RedisTimeout, kind_of

logger = logging.getLogger("cloudarc")

WINDOW = 60
"""Seconds in which a subject may make as many calls as its limit says."""

SUBJECTS = 10_000
"""How many subjects the log in the process knows, the latest ones."""


class RateLimitResult(NamedTuple):
    """What became of a call: whether it is admitted, how many more are, seconds to the next free place.

    ``credential_generation`` is what Redis said at that moment, None where it was not asked.
    """

    admitted: bool
    remaining: int
    wait: float
    credential_generation: bytes | None = None

    @property
    def seconds(self) -> int:
        """Whole seconds to sleep, after which a place is free."""
        return max(1, math.ceil(self.wait))


class LocalLog:
    """The same log in this process, for the latest subjects."""

    def __init__(self, window: float = WINDOW, clock: Callable[[], float] = time.monotonic) -> None:
        self.window = window
        self.clock = clock
        self.logs: OrderedDict[str, deque[float]] = OrderedDict()

    def _log(self, subject: str, now: float) -> deque[float]:
        log = self.logs.setdefault(subject, deque())
        self.logs.move_to_end(subject)
        if len(self.logs) > SUBJECTS:
            self.logs.popitem(last=False)
        while log and log[0] <= now - self.window:
            log.popleft()
        return log

    def hit(self, subject: str, limit: int) -> RateLimitResult:
        """Count a call."""
        now = self.clock()
        log = self._log(subject, now)
        admitted = len(log) < limit
        if admitted:
            log.append(now)
        return RateLimitResult(
            admitted, max(limit - len(log), 0), log[max(len(log) - limit, 0)] + self.window - now
        )

    def keep(self, subject: str) -> None:
        """Keep a call that was admitted elsewhere."""
        now = self.clock()
        self._log(subject, now).append(now)

    def take_back(self, subject: str) -> None:
        """Forget the latest call, which was admitted here and not elsewhere."""
        log = self.logs.get(subject)
        if log:
            log.pop()


class Counters:
    """Counts calls in Redis; while that does not answer, in this process, with the same limits.

    Without a ``url`` everything is counted in this process.
    """

    def __init__(self, url: str | None, *, window: int = WINDOW) -> None:
        self.window = window
        self.redis = RedisPipeline(url, self._doubt) if url else None
        self.local = LocalLog(window)
        self.degraded = False
        self.failures = 0
        self.check_both_until = -math.inf

    async def open(self) -> None:
        """Connect, or begin to try. Never raises for a Redis that cannot be reached."""
        if self.redis is not None:
            self.degraded = not await self.redis.open()

    async def close(self) -> None:
        """Disconnect."""
        if self.redis is not None:
            await self.redis.close()

    async def hit(self, subject: str, limit: int) -> RateLimitResult:
        """Count a call of ``subject``, who may make ``limit`` of them in any window. Never raises."""
        if self.redis is None:
            return self.local.hit(subject, limit)
        # What this process admitted before or while Redis was away, Redis may not know. So both are
        # asked for a while, here first, or calls that wait for Redis together would all be admitted.
        here = self.local.hit(subject, limit) if self.local.clock() < self.check_both_until else None
        if here is not None and not here.admitted:
            return here
        try:
            admitted, remaining, wait = await self.redis.call(
                PREFIX + subject, limit, self.window * 1_000_000
            )
        except (RedisTimeout, RedisError) as error:
            self._failed(error)
            return here or self.local.hit(subject, limit)
        if self.degraded:
            self.degraded = False
            logger.warning("Redis answers again; calls are counted there.")
        there = RateLimitResult(bool(admitted), remaining, wait / 1_000_000, self.redis.credential_generation)
        if here is None:
            if admitted:
                self.local.keep(subject)
            return there
        if not admitted:
            self.local.take_back(subject)
            return there
        return RateLimitResult(
            True, min(here.remaining, remaining), max(here.wait, there.wait), there.credential_generation
        )

    @property
    def credential_generation(self) -> bytes | None:
        """The latest epoch that is known; None without Redis."""
        return self.redis.credential_generation if self.redis else None

    async def renew(self) -> None:
        """Replace the epoch, so that nobody trusts what was known before. Never raises."""
        try:
            if self.redis is not None:
                await self.redis.renew()
        except (RedisTimeout, RedisError) as error:
            logger.warning("Redis was not told that a credential ended (%s).", kind_of(error))

    def _doubt(self) -> None:
        self.check_both_until = self.local.clock() + self.window

    @property
    def connected(self) -> bool:
        """Whether calls are counted in Redis, as far as is known without asking it."""
        return self.redis is None or self.redis.connection is not None

    async def answer(self) -> bool:
        """Whether Redis answers within its deadline; where there is none, nobody needs it. Never raises."""
        try:
            if self.redis is not None:
                await self.redis.ping()
        except (RedisTimeout, ResponseError):
            return False
        return True

    def _failed(self, error: Exception) -> None:
        self.failures += 1
        self._doubt()
        if not self.degraded:
            self.degraded = True
            logger.warning(
                "Redis does not answer (%s); calls are counted in this process meanwhile.", kind_of(error)
            )
