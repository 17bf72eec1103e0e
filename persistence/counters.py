"""How often each subject has called: an exact moving log in Redis, and in the process where Redis fails.

A log keeps the instant of every call that was admitted in the last minute, so that no minute, wherever
it begins, has more of them than the limit. Calls that were refused are not kept. Redis' clock is the
only one. This module does not know who is calling.
"""

import asyncio
import hashlib
import logging
import math
import time
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from redis.asyncio.connection import AbstractConnection, ConnectionPool
from redis.exceptions import NoScriptError, RedisError, ResponseError

logger = logging.getLogger("cloudarc")

WINDOW = 60
"""Seconds in which a subject may make as many calls as its limit says."""

DEADLINE = 0.05
"""Seconds without any reply of Redis after which calls are counted in the process."""

CONNECT_SECONDS = 1.0
RETRY_SECONDS = 0.5
GRACE = 0.005
SUBJECTS = 10_000
"""How many subjects the log in the process knows, the latest ones."""

# KEYS[1] is the log, ARGV[1] the limit, ARGV[2] the window in microseconds. Answers whether the call is
# admitted, how many more would be, and in how many microseconds the next place is free.
SCRIPT = """
local limit = tonumber(ARGV[1])
local window = tonumber(ARGV[2])
local time = redis.call('TIME')
local clock = time[1] * 1000000 + time[2]
local now = clock
local calls = redis.call('LLEN', KEYS[1])
if calls > 0 then
  local last = tonumber(redis.call('LINDEX', KEYS[1], -1))
  if last > clock + window then
    -- The clock was set back by more than the log's own length, so the log tells nothing any more.
    redis.call('DEL', KEYS[1])
    calls = 0
  else
    now = math.max(clock, last)
  end
end
if calls > 0 and tonumber(redis.call('LINDEX', KEYS[1], 0)) <= now - window then
  local low, high = 1, calls
  while low < high do
    local middle = math.floor((low + high) / 2)
    if tonumber(redis.call('LINDEX', KEYS[1], middle)) <= now - window then
      low = middle + 1
    else
      high = middle
    end
  end
  redis.call('LTRIM', KEYS[1], low, -1)
  calls = calls - low
end
local admitted = 0
if calls < limit then
  redis.call('RPUSH', KEYS[1], string.format('%.0f', now))
  redis.call('PEXPIRE', KEYS[1], window / 1000 + 1000)
  calls = calls + 1
  admitted = 1
end
local next_to_leave = tonumber(redis.call('LINDEX', KEYS[1], math.max(calls - limit, 0)))
return {admitted, math.max(limit - calls, 0), next_to_leave + window - clock}
"""
SHA = hashlib.sha1(SCRIPT.encode(), usedforsecurity=False).hexdigest()

# The algorithm and its version stand in the name, so that another one never reads these logs.
PREFIX = "cloudarc:log1:"


@dataclass(frozen=True, slots=True)
class Count:
    """What became of a call: whether it is admitted, how many more are, seconds to the next free place."""

    admitted: bool
    remaining: int
    wait: float

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

    def hit(self, subject: str, limit: int, *, keep: bool = True) -> Count:
        """Count a call; without ``keep`` only tell what would become of it."""
        now = self.clock()
        log = self._log(subject, now)
        admitted = len(log) < limit
        if admitted and keep:
            log.append(now)
        next_to_leave = log[max(len(log) - limit, 0)] if log else now
        return Count(admitted, max(limit - len(log), 0), next_to_leave + self.window - now)

    def keep(self, subject: str) -> None:
        """Keep a call that was admitted elsewhere."""
        now = self.clock()
        self._log(subject, now).append(now)


class Silent(Exception):
    """Redis did not answer."""


class Redis:
    """One connection that all calls of a process share; replies come in the order of the calls.

    It is up, or a task of its own is busy to bring it up: a call never waits for that. A connection on
    which nothing was answered for 50 ms is given up.
    """

    def __init__(self, url: str) -> None:
        self.pool = ConnectionPool.from_url(
            url, protocol=2, driver_info=None, socket_timeout=None, socket_connect_timeout=CONNECT_SECONDS
        )
        self.connection: AbstractConnection | None = None
        self.waiting: deque[tuple[asyncio.Future[Any], float]] = deque()
        self.replies = 0
        self.last_reply = 0.0
        self.watching = False
        self.tasks: dict[str, asyncio.Task[None]] = {}

    async def open(self) -> bool:
        """Connect if Redis can be reached now, else go on trying; whether it could."""
        self.loop = asyncio.get_running_loop()
        try:
            await self._connect()
        except (RedisError, OSError, TimeoutError) as error:
            logger.warning("Redis cannot be reached (%s); see CLOUDARC_REDIS_URL.", _kind(error))
            self._start("connect", self._reconnect())
            return False
        return True

    async def close(self) -> None:
        """Let go of the connection and of everyone who waits."""
        for name in ("connect", "read"):
            if name in self.tasks:
                self.tasks[name].cancel()
        await asyncio.gather(*self.tasks.values(), return_exceptions=True)
        connection, self.connection = self.connection, None
        self._disappoint()
        if connection is not None:
            await connection.disconnect(nowait=True)

    async def call(self, key: str, limit: int, window: int) -> Any:
        """What the script answers. Raises Silent, ResponseError."""
        try:
            return await self._send("EVALSHA", SHA, 1, key, limit, window)
        except NoScriptError:
            # Redis was started anew behind the same connection, or its scripts were flushed.
            return await self._send("EVAL", SCRIPT, 1, key, limit, window)

    async def _send(self, *command: str | int) -> Any:
        connection = self.connection
        if connection is None:
            raise Silent
        future: asyncio.Future[Any] = self.loop.create_future()
        self.waiting.append((future, self.loop.time()))
        self._watch(DEADLINE)
        try:
            await connection.send_packed_command(connection.pack_command(*command), check_health=False)
        except (RedisError, OSError) as error:
            self._drop(connection)
            raise Silent from error
        finally:
            # Else it would complain that nobody looked.
            if future.done() and not future.cancelled():
                future.exception()
        return await future

    def _start(self, name: str, work: Any) -> None:
        self.tasks[name] = self.loop.create_task(work)

    async def _connect(self) -> None:
        connection: AbstractConnection = self.pool.make_connection()  # type: ignore[no-untyped-call]
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                await connection.connect()  # type: ignore[no-untyped-call]
                # A server that hangs takes connections too; one that answers this also has the script.
                await connection.send_command("SCRIPT", "LOAD", SCRIPT, check_health=False)
                await connection.read_response()
        except BaseException:
            await connection.disconnect(nowait=True)
            raise
        self.connection = connection
        self._start("read", self._read(connection))

    async def _reconnect(self) -> None:
        while True:
            try:
                await self._connect()
            except Exception:
                # Whatever it is, it must not end the trying.
                await asyncio.sleep(RETRY_SECONDS)
            else:
                return

    async def _read(self, connection: AbstractConnection) -> None:
        try:
            while True:
                try:
                    reply: Any = await connection.read_response(disconnect_on_error=False)
                except ResponseError as error:
                    reply = error
                self.replies += 1
                self.last_reply = self.loop.time()
                future, _ = self.waiting.popleft()
                if future.done():
                    continue
                if isinstance(reply, ResponseError):
                    future.set_exception(reply)
                else:
                    future.set_result(reply)
        except (RedisError, OSError):
            self._drop(connection)

    def _drop(self, connection: AbstractConnection) -> None:
        """Give a connection up, with all who wait for its replies."""
        if self.connection is not connection:
            return
        self.connection = None
        self.tasks["read"].cancel()
        self._disappoint()
        self._start("drop", connection.disconnect(nowait=True))
        self._start("connect", self._reconnect())

    def _disappoint(self) -> None:
        while self.waiting:
            future, _ = self.waiting.popleft()
            if not future.done():
                future.set_exception(Silent())

    def _watch(self, seconds: float) -> None:
        if not self.watching:
            self.watching = True
            self.loop.call_later(seconds, self._look)

    def _look(self) -> None:
        """Called while anybody waits, whenever the one who waits longest may have waited long enough."""
        self.watching = False
        if self.connection is None or not self.waiting:
            return
        silent = self.loop.time() - max(self.waiting[0][1], self.last_reply)
        if silent < DEADLINE:
            self._watch(DEADLINE - silent)
        else:
            # A process that was busy itself has not yet read what lies in its socket.
            self.watching = True
            self.loop.call_later(GRACE, self._judge, self.connection, self.replies)

    def _judge(self, connection: AbstractConnection, replies: int) -> None:
        self.watching = False
        if self.replies != replies:
            self._look()
        elif self.waiting:
            self._drop(connection)


def _kind(error: BaseException) -> str:
    """An error without the address and the password that its text may name."""
    return type(error).__name__


class Counters:
    """Counts calls in Redis; while that does not answer, in this process, with the same limits.

    Without a ``url`` everything is counted in this process.
    """

    def __init__(self, url: str | None, *, window: int = WINDOW) -> None:
        self.window = window
        self.redis = Redis(url) if url else None
        self.local = LocalLog(window)
        self.degraded = False
        self.failures = 0
        self.doubtful = -math.inf

    async def open(self) -> None:
        """Connect, or begin to try. Never raises for a Redis that cannot be reached."""
        if self.redis is not None:
            self.degraded = not await self.redis.open()

    async def close(self) -> None:
        """Disconnect."""
        if self.redis is not None:
            await self.redis.close()

    async def hit(self, subject: str, limit: int) -> Count:
        """Count a call of ``subject``, who may make ``limit`` of them in any window. Never raises."""
        if self.redis is None:
            return self.local.hit(subject, limit)
        # What this process admitted while Redis was away, Redis does not know.
        if self.local.clock() < self.doubtful:
            count = self.local.hit(subject, limit, keep=False)
            if not count.admitted:
                return count
        try:
            admitted, remaining, wait = await self.redis.call(
                PREFIX + subject, limit, self.window * 1_000_000
            )
        except (Silent, ResponseError) as error:
            self._failed(error)
            return self.local.hit(subject, limit)
        if self.degraded:
            self.degraded = False
            logger.warning("Redis answers again; calls are counted there.")
        if admitted:
            self.local.keep(subject)
        return Count(bool(admitted), remaining, wait / 1_000_000)

    def _failed(self, error: Exception) -> None:
        self.failures += 1
        self.doubtful = self.local.clock() + self.window
        if not self.degraded:
            self.degraded = True
            logger.warning(
                "Redis does not answer (%s); calls are counted in this process meanwhile.", _kind(error)
            )
