"""Count calls in Redis: all calls of one turn of the event loop share a packet."""

import asyncio
import hashlib
import logging
import secrets
from collections import deque
from collections.abc import Callable, Coroutine
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import hiredis
from redis.asyncio.connection import AbstractConnection, ConnectionPool
from redis.exceptions import RedisError, ResponseError

logger = logging.getLogger("cloudarc")

DEADLINE = 0.05
"""The seconds that a request waits for Redis. After that the process counts it."""

CONNECT_SECONDS = 1.0
OPEN_SECONDS = 1.0
"""The seconds before the next connection after Redis was too slow."""

IN_FLIGHT = 64
"""The commands in flight. Others queue, and their time in the queue is not counted against Redis."""

TICK = 0.005
"""The seconds between two checks of the deadline. A late check counts as one tick: if the machine had no time
for this process, it may have had none for Redis either."""

PATIENCE = round(DEADLINE / TICK)
"""The ticks that a command waits."""

STALE = 1_000_000
"""The microseconds after which Redis must no longer count a command that it finds in its socket."""

SCRIPT = Path(__file__).with_name("rate_limit.lua").read_text()
SHA = hashlib.sha1(SCRIPT.encode(), usedforsecurity=False).hexdigest()

# The prefix names the algorithm and its version, so that another algorithm never reads these logs.
PREFIX = "cloudarc:log1:"

EPOCH = "cloudarc:epoch1"
"""The key of the credential generation, a random text. A revocation replaces it, and each count reads it."""

EPOCH_SECONDS = 3600


class RedisTimeout(Exception):
    """Redis did not answer in time."""


class ReplyProtocol(asyncio.Protocol):
    """Parses the replies of Redis. The stream of the library would wake a task for each reply."""

    def __init__(self, take: Callable[[Any], None], gone: Callable[[], None]) -> None:
        self.reader = hiredis.Reader(replyError=ResponseError)
        self.take = take
        self.gone = gone

    def data_received(self, data: bytes) -> None:
        """Pass on every complete reply. Close the connection at a malformed one."""
        try:
            self.reader.feed(data)
            # The parser returns False if no reply is complete.
            while (reply := self.reader.gets()) is not False:
                self.take(reply)
        except (hiredis.HiredisError, IndexError):
            # IndexError: a reply without a command.
            self.gone()

    def connection_lost(self, exc: Exception | None) -> None:
        """Report that the connection is lost."""
        self.gone()


class RedisPipeline:
    """One connection that all requests of a process share. Replies come in the order of the commands.

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
        # For each command in flight: the function that takes its reply, and the tick of its start.
        self.waiting: deque[tuple[Callable[[Any], None], int]] = deque()
        self.ticks = 0
        self.credential_generation: bytes | None = None
        # The next packet, and whether it asks for the credential generation.
        self.unsent: list[bytes] = []
        self.asked = False
        self.room = asyncio.Semaphore(IN_FLIGHT)
        # The time of Redis minus that of the loop, in microseconds, by the latest reply.
        self.ahead = 0
        self.watching = False
        self.tasks: dict[str, asyncio.Task[None]] = {}

    async def open(self) -> bool:
        """Connect, or keep trying in the background. Return whether Redis is connected now."""
        self.loop = asyncio.get_running_loop()
        try:
            await self._connect()
        except (RedisError, OSError, TimeoutError) as error:
            logger.warning("Redis cannot be reached (%s); see CLOUDARC_REDIS_URL.", error_name(error))
            self._start("connect", self._reconnect(OPEN_SECONDS))
            return False
        return True

    async def close(self) -> None:
        """Close the connection, and fail all commands in flight."""
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
            # A proxy may have restarted Redis behind this connection, or its scripts were flushed.
            self.lost()
            reply = await self._send("EVAL", SCRIPT, 1, key, limit, window, until)
        if not (isinstance(reply, list) and len(reply) == 4 and all(type(each) is int for each in reply)):
            raise ResponseError("this is not a reply of the script")
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
        """Check that Redis replies. Raises RedisTimeout, ResponseError."""
        await self._send("PING")

    async def renew(self) -> None:
        """Replace the credential generation. Raises RedisTimeout, ResponseError."""
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
        """Queue a command for the packet of this turn of the event loop. One packet wakes Redis once."""
        if not self.unsent:
            self.loop.call_soon(self._flush)
        self.unsent.append(packed)
        self.waiting.append((take, self.ticks))

    def _flush(self) -> None:
        packed, self.unsent, self.asked = b"".join(self.unsent), [], False
        if packed and self.connection is not None:
            _transport(self.connection).write(packed)

    def _learn(self, reply: Any) -> None:
        """Store the credential generation. Create one if Redis has none."""
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
            # A server that hangs accepts connections as well, so it must reply in time.
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
        """Return a reply that arrives within the deadline, in ticks. Raises TimeoutError."""
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
            # No failure may end the attempts to connect.
            with suppress(Exception):
                await self._connect()
                return

    def _take(self, reply: Any) -> None:
        """Pass a reply to the oldest command in flight."""
        take, _ = self.waiting.popleft()
        take(reply)

    def _drop(self, connection: AbstractConnection, pause: float) -> None:
        """Close a connection, fail its commands, and connect again after a pause."""
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
        """Check the deadline of the oldest command in flight."""
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
    """Ignore a reply."""


def _transport(connection: AbstractConnection) -> asyncio.WriteTransport:
    """Return the transport of a connection, since the library offers no write without a wait."""
    assert connection._writer is not None
    return connection._writer.transport


async def _abort(connection: AbstractConnection) -> None:
    """Close a connection at once, even if Redis has not read everything."""
    if connection._writer is not None:
        _transport(connection).abort()
    await connection.disconnect(nowait=True)


def error_name(error: BaseException) -> str:
    """Return the type of an error, since its text may name the address and the password."""
    return type(error).__name__
