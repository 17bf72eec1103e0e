"""Count requests by key: an exact sliding log in Redis, and in the process while Redis fails.

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

from persistence.redis_pipeline import PREFIX, RedisPipeline, RedisTimeout, error_name

logger = logging.getLogger("cloudarc")

WINDOW = 60
"""The window of a rate limit, in seconds."""

SUBJECTS = 10_000
"""The number of keys in the log of the process. It evicts the oldest."""


class RateLimitResult(NamedTuple):
    """Whether a request is admitted, how many more would be, and the seconds until the next is.

    ``credential_generation`` is what Redis said at that moment, None where it was not asked.
    """

    admitted: bool
    remaining: int
    wait: float
    credential_generation: bytes | None = None

    @property
    def seconds(self) -> int:
        """The whole seconds after which a retry is admitted."""
        return max(1, math.ceil(self.wait))


class LocalLog:
    """The sliding log of this process, for the latest keys."""

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
        """Count a request."""
        now = self.clock()
        log = self._log(subject, now)
        admitted = len(log) < limit
        if admitted:
            log.append(now)
        return RateLimitResult(
            admitted, max(limit - len(log), 0), log[max(len(log) - limit, 0)] + self.window - now
        )

    def keep(self, subject: str) -> None:
        """Record a request that Redis admitted."""
        now = self.clock()
        self._log(subject, now).append(now)

    def take_back(self, subject: str) -> None:
        """Remove the latest request, which Redis did not admit."""
        log = self.logs.get(subject)
        if log:
            log.pop()


class Counters:
    """Counts requests in Redis. While Redis does not answer, this process counts with the same limits.

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
        """Connect, or keep trying in the background. Never raises if Redis is unreachable."""
        if self.redis is not None:
            self.degraded = not await self.redis.open()

    async def close(self) -> None:
        """Disconnect."""
        if self.redis is not None:
            await self.redis.close()

    async def hit(self, subject: str, limit: int) -> RateLimitResult:
        """Count a request of the key ``subject``, with ``limit`` requests in any window. Never raises."""
        if self.redis is None:
            return self.local.hit(subject, limit)
        # Redis does not know what this process admitted while Redis was unreachable. So both logs decide for
        # one window. The own log decides first, or requests that wait for Redis together would all pass.
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
        """The latest known credential generation, or None without Redis."""
        return self.redis.credential_generation if self.redis else None

    async def renew(self) -> None:
        """Replace the credential generation, so that all credential caches become invalid. Never raises."""
        try:
            if self.redis is not None:
                await self.redis.renew()
        except (RedisTimeout, RedisError) as error:
            logger.warning("Redis did not record the end of a credential (%s).", error_name(error))

    def _doubt(self) -> None:
        self.check_both_until = self.local.clock() + self.window

    @property
    def connected(self) -> bool:
        """Whether Redis is connected, as far as this process knows."""
        return self.redis is None or self.redis.connection is not None

    async def answer(self) -> bool:
        """Return whether Redis answers in time, or is not configured. Never raises."""
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
                "Redis does not answer (%s); calls are counted in this process meanwhile.", error_name(error)
            )
