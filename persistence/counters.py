"""How often each subject has called: an exact moving log in Redis, and in the process where Redis fails.

A log keeps the instant of every call that was admitted in the last minute, so that no minute, wherever
it begins, has more of them than the limit. Calls that were refused are not kept. Redis' clock is the
only one. This module does not know who is calling.
"""

import asyncio
import hashlib
import logging
import math
import secrets
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Coroutine
from contextlib import suppress
from functools import partial
from typing import Any, NamedTuple

import hiredis
from redis.asyncio.connection import AbstractConnection, ConnectionPool
from redis.exceptions import RedisError, ResponseError

logger = logging.getLogger("cloudarc")

WINDOW = 60
"""Seconds in which a subject may make as many calls as its limit says."""

DEADLINE = 0.05
"""Seconds that a call waits for Redis; then it is counted in the process."""

CONNECT_SECONDS = 1.0
OPEN_SECONDS = 1.0
"""How long RedisPipeline is left alone after it was too slow."""

IN_FLIGHT = 64
"""How many calls are with RedisPipeline at once. The others wait their turn, which is no fault of Redis."""

TICK = 0.005
"""How often it is looked whether someone has waited too long. However late a look comes, it counts as one:
where the machine had no time for this process, it may have had none for Redis either."""

PATIENCE = round(DEADLINE / TICK)
"""How many ticks a call waits."""

STALE = 1_000_000
"""Microseconds after which RedisPipeline must not count a call any more that it finds in its socket."""

SUBJECTS = 10_000
"""How many subjects the log in the process knows, the latest ones."""

# KEYS[1] is the log, ARGV[1] the limit, ARGV[2] the window in microseconds, ARGV[3] Redis' time after
# which nobody waits for the answer any more. Answers whether the call is admitted, -1 where nobody waits;
# how many more would be; in how many microseconds the next place is free; and the time.
SCRIPT = """
local limit = tonumber(ARGV[1])
local window = tonumber(ARGV[2])
local time = redis.call('TIME')
local clock = time[1] * 1000000 + time[2]
if clock > tonumber(ARGV[3]) then
  return {-1, 0, 0, clock}
end
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
return {admitted, math.max(limit - calls, 0), next_to_leave + window - clock, clock}
"""
SHA = hashlib.sha1(SCRIPT.encode(), usedforsecurity=False).hexdigest()

# The algorithm and its version stand in the name, so that another one never reads these logs.
PREFIX = "cloudarc:log1:"

EPOCH = "cloudarc:epoch1"
"""The key of a random text that is replaced whenever a credential ends; every count brings it along."""

EPOCH_SECONDS = 3600


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


class RedisTimeout(Exception):
    """RedisPipeline did not answer in time."""


class ReplyProtocol(asyncio.Protocol):
    """Hands on what Redis replies. It stands where the library's stream was, which wakes a task for each."""

    def __init__(self, take: Callable[[Any], None], gone: Callable[[], None]) -> None:
        self.reader = hiredis.Reader(replyError=ResponseError)
        self.take = take
        self.gone = gone

    def data_received(self, data: bytes) -> None:
        """Hand on every reply that is whole; give the connection up at what is none."""
        try:
            self.reader.feed(data)
            # No reply of this protocol is False.
            while (reply := self.reader.gets()) is not False:
                self.take(reply)
        except (hiredis.HiredisError, IndexError):
            # IndexError: a reply that nobody asked for.
            self.gone()

    def connection_lost(self, exc: Exception | None) -> None:
        """Say so."""
        self.gone()


class RedisPipeline:
    """One connection that all calls of a process share; replies come in the order of the calls.

    It is up, or a task of its own is busy to bring it up: a call never waits for that. A connection on
    which a call waits for 50 ms is given up, and Redis is left alone for a second then. ``lost`` is
    called whenever a connection goes, since nobody knows what becomes of the logs behind it.
    """

    def __init__(self, url: str, lost: Callable[[], None]) -> None:
        self.pool = ConnectionPool.from_url(
            url, protocol=2, driver_info=None, socket_timeout=None, socket_connect_timeout=CONNECT_SECONDS
        )
        self.lost = lost
        self.connection: AbstractConnection | None = None
        # Who takes the next reply, and since which tick it is waited for.
        self.waiting: deque[tuple[Callable[[Any], None], int]] = deque()
        self.ticks = 0
        self.credential_generation: bytes | None = None
        # What goes with the next packet, and whether the epoch is asked for in it.
        self.unsent: list[bytes] = []
        self.asked = False
        self.room = asyncio.Semaphore(IN_FLIGHT)
        # Redis' time less the loop's, in microseconds, as the latest reply told it.
        self.ahead = 0
        self.watching = False
        self.tasks: dict[str, asyncio.Task[None]] = {}

    async def open(self) -> bool:
        """Connect if Redis can be reached now, else go on trying; whether it could."""
        self.loop = asyncio.get_running_loop()
        try:
            await self._connect()
        except (RedisError, OSError, TimeoutError) as error:
            logger.warning("Redis cannot be reached (%s); see CLOUDARC_REDIS_URL.", _kind(error))
            self._start("connect", self._reconnect(OPEN_SECONDS))
            return False
        return True

    async def close(self) -> None:
        """Let go of the connection and of everyone who waits."""
        if "connect" in self.tasks:
            self.tasks["connect"].cancel()
        await asyncio.gather(*self.tasks.values(), return_exceptions=True)
        connection, self.connection = self.connection, None
        self.fail_waiting()
        if connection is not None:
            await _abort(connection)

    async def call(self, key: str, limit: int, window: int) -> tuple[int, int, int]:
        """Return what the script answers, without its time, and refresh ``credential_generation``.

        Raises RedisTimeout, RedisError.
        """
        until = self._time() + STALE
        try:
            reply = await self._send("EVALSHA", SHA, 1, key, limit, window, until, epoch=True)
        except ResponseError as error:
            if not str(error).startswith("NOSCRIPT"):
                raise
            # Redis was started anew behind the same connection, or its scripts were flushed.
            self.lost()
            reply = await self._send("EVAL", SCRIPT, 1, key, limit, window, until)
        if not (isinstance(reply, list) and len(reply) == 4 and all(type(each) is int for each in reply)):
            raise ResponseError("this is no answer of the script")
        admitted, remaining, wait, clock = reply
        self.ahead = clock - self._own_time()
        if admitted < 0:
            raise RedisTimeout
        return admitted, remaining, wait

    def _own_time(self) -> int:
        return int(self.loop.time() * 1_000_000)

    def _time(self) -> int:
        return self._own_time() + self.ahead

    async def ping(self) -> None:
        """Ask for nothing. Raises RedisTimeout, ResponseError."""
        await self._send("PING")

    async def renew(self) -> None:
        """Replace the epoch. Raises RedisTimeout, ResponseError."""
        await self._send("SET", EPOCH, secrets.token_hex(16), "EX", EPOCH_SECONDS)

    async def _send(self, *command: str | int, epoch: bool = False) -> Any:
        """Return the reply to a command.

        With ``epoch`` the packet first asks for the credential generation, once for all of its commands.
        """
        async with self.room:
            connection = self.connection
            if connection is None:
                raise RedisTimeout
            future: asyncio.Future[Any] = self.loop.create_future()
            if epoch and not self.asked:
                self.asked = True
                self._write(ASK, self._learn)
            self._write(_packed(*command), partial(_settle, future))
            if not self.watching:
                self._watch()
            return await future

    def _write(self, packed: bytes, take: Callable[[Any], None]) -> None:
        """Send a command, with all others of this turn of the loop: to wake Redis for each costs more."""
        if not self.unsent:
            self.loop.call_soon(self._flush)
        self.unsent.append(packed)
        self.waiting.append((take, self.ticks))

    def _flush(self) -> None:
        packed, self.unsent, self.asked = b"".join(self.unsent), [], False
        if packed and self.connection is not None:
            _transport(self.connection).write(packed)

    def _learn(self, reply: Any) -> None:
        """Keep the epoch; where there is none, begin one."""
        self.credential_generation = reply if isinstance(reply, bytes) else None
        if reply is None and self.connection is not None:
            command = _packed("SET", EPOCH, secrets.token_hex(16), "NX", "EX", EPOCH_SECONDS)
            self._write(command, _ignore)

    def _start(self, name: str, work: Any) -> None:
        self.tasks[name] = self.loop.create_task(work)

    async def _connect(self) -> None:
        connection: AbstractConnection = self.pool.make_connection()  # type: ignore[no-untyped-call]  # untyped there
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                await connection.connect()  # type: ignore[no-untyped-call]  # untyped there
                await connection.send_command("SCRIPT", "LOAD", SCRIPT, check_health=False)
                await connection.read_response()
            # A server that hangs takes connections too, and one that is slow is none.
            await connection.send_command("TIME", check_health=False)
            seconds, rest = await self._soon(connection.read_response())
            self.ahead = int(seconds) * 1_000_000 + int(rest) - self._own_time()
        except BaseException:
            await _abort(connection)
            raise
        self.connection = connection
        replies = ReplyProtocol(self._take, lambda: self._drop(connection, 0))
        _transport(connection).set_protocol(replies)

    async def _soon(self, reply: Coroutine[Any, Any, Any]) -> Any:
        """A reply that comes within the deadline, counted in ticks here, too. Raises TimeoutError."""
        reading = self.loop.create_task(reply)
        try:
            for _ in range(PATIENCE):
                if (await asyncio.wait([reading], timeout=TICK))[0]:
                    return reading.result()
            raise TimeoutError
        finally:
            reading.cancel()

    async def _reconnect(self, pause: float) -> None:
        while True:
            await asyncio.sleep(pause)
            pause = OPEN_SECONDS / 2
            # Whatever it is that fails, it must not end the trying.
            with suppress(Exception):
                await self._connect()
                return

    def _take(self, reply: Any) -> None:
        """Give a reply to the one who has waited longest."""
        take, _ = self.waiting.popleft()
        take(reply)

    def _drop(self, connection: AbstractConnection, pause: float) -> None:
        """Give a connection up, with all who wait for its replies; connect again after a pause."""
        if self.connection is not connection:
            return
        self.connection = None
        self.fail_waiting()
        self._start("abort", _abort(connection))
        self.lost()
        self._start("connect", self._reconnect(pause))

    def fail_waiting(self) -> None:
        self.credential_generation, self.asked = None, False
        self.unsent.clear()
        while self.waiting:
            self._take(RedisTimeout())

    def _watch(self) -> None:
        self.watching = True
        self.loop.call_later(TICK, self._look)

    def _look(self) -> None:
        """Called while anybody waits: has the one who waits longest waited long enough?"""
        self.watching = False
        self.ticks += 1
        if self.connection is None or not self.waiting:
            return
        if self.ticks - self.waiting[0][1] > PATIENCE:
            self._drop(self.connection, OPEN_SECONDS)
        else:
            self._watch()


def _packed(*command: str | int) -> bytes:
    packed: bytes = hiredis.pack_command(command)  # type: ignore[arg-type]  # typed as a tuple of one there
    return packed


ASK = _packed("GET", EPOCH)


def _settle(future: asyncio.Future[Any], reply: Any) -> None:
    if future.done():
        return
    if isinstance(reply, Exception):
        future.set_exception(reply)
    else:
        future.set_result(reply)


def _ignore(reply: Any) -> None:
    """Nobody waits for this one."""


def _transport(connection: AbstractConnection) -> asyncio.WriteTransport:
    """What is below a connection of the library, which has no way to write and not to wait."""
    assert connection._writer is not None
    return connection._writer.transport


async def _abort(connection: AbstractConnection) -> None:
    """Close a connection at once, whatever RedisPipeline has not read yet."""
    if connection._writer is not None:
        _transport(connection).abort()
    await connection.disconnect(nowait=True)


def _kind(error: BaseException) -> str:
    """An error without the address and the password that its text may name."""
    return type(error).__name__


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
        """Connect, or begin to try. Never raises for a RedisPipeline that cannot be reached."""
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
            logger.warning("Redis was not told that a credential ended (%s).", _kind(error))

    def _doubt(self) -> None:
        self.check_both_until = self.local.clock() + self.window

    @property
    def connected(self) -> bool:
        """Whether calls are counted in RedisPipeline, as far as is known without asking it."""
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
                "Redis does not answer (%s); calls are counted in this process meanwhile.", _kind(error)
            )
