"""Delivery: claims what is due, sends it, and keeps what became of it.

Any number of workers, in any number of processes, may share a PostgreSQL database; with SQLite there is
one. A worker that dies leaves its claims behind, which run out after a minute: that is the whole recovery.
No connection to the database is held while a receiver is asked.
"""

import asyncio
import logging
import random
import secrets
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any

from persistence import delivery_queue, webhooks
from persistence.database import Connection, Database, Row
from persistence.errors import Refusal
from persistence.sealing import Box, Unsealable
from webhooks import signing
from webhooks.sending import DeliveryResponse, HttpSession, http_session, post
from webhooks.targets import Refused, check_url

logger = logging.getLogger("cloudarc.webhooks")

MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)

SCHEDULE = (
    timedelta(seconds=5),
    5 * MINUTE,
    30 * MINUTE,
    *(hours * HOUR for hours in (2, 5, 10, 14, 20, 24)),
)
"""The wait after each failed attempt. The tenth attempt, after 75 hours and 35 minutes, is the last."""
SPREAD = 0.2
"""The greatest random part of a wait, so that deliveries that failed together are not retried together."""

LEASE = MINUTE
AT_ONCE = 20
"""The number of deliveries to one webhook that a worker has in flight."""
POLL_SECONDS = 0.1
GATHER_SECONDS = 0.005
GRACE_SECONDS = 1.5
DISABLE_AFTER = timedelta(days=5)


# Most deliveries go to the same few URLs.
_check_url = lru_cache(1000)(check_url)


def utc_now() -> datetime:
    """Return the current time in microseconds, for a worker."""
    return datetime.now(UTC)


@dataclass(frozen=True)
class AttemptResult:
    """One delivery attempt: its delivery, its time and its outcome."""

    delivery: Row
    webhook: Row
    token: str
    at: datetime
    answer: DeliveryResponse


class Worker:
    """Delivers until ``stop``. ``private`` allows targets in inner networks."""

    def __init__(
        self,
        database: Database,
        box: Box,
        *,
        private: bool = False,
        clock: Callable[[], datetime] = utc_now,
        random: Callable[[], float] = random.random,
    ) -> None:
        self.database = database
        self.box = box
        self.private = private
        self.clock = clock
        self.random = random
        self.in_flight: Counter[int] = Counter()
        self.tasks: dict[asyncio.Task[None], tuple[Row, str]] = {}
        self.results: list[AttemptResult] = []
        self.stopping = asyncio.Event()
        self.completed = asyncio.Event()

    def stop(self) -> None:
        """Claim no more deliveries. ``run`` ends once those in flight have completed, or soon after."""
        self.stopping.set()
        self.completed.set()

    async def run(self) -> None:
        """Deliver until ``stop``. Retry while the database does not answer."""
        async with http_session(private=self.private) as http:
            while not self.stopping.is_set():
                try:
                    await self.run_once(http)
                except Refusal as error:
                    logger.warning("deliveries wait: %s", error)
                except Exception:
                    # One faulty row must not stop all other deliveries.
                    logger.exception("deliveries wait")
                await self._pause()
            await self._drain()

    async def run_once(self, http: HttpSession) -> int:
        """Settle completed attempts and send due deliveries. Return the number of deliveries sent."""
        await self._settle()
        return await self._claim(http)

    @asynccontextmanager
    async def working(self) -> AsyncIterator[None]:
        """Deliver in the background, as long as the context lasts."""
        task = asyncio.create_task(self.run())
        try:
            yield
        finally:
            self.stop()
            await task

    async def _pause(self) -> None:
        """Wait for the next poll or a completed attempt, then briefly gather more completed ones."""
        if not self.stopping.is_set():
            self.completed.clear()
            with suppress(TimeoutError):
                await asyncio.wait_for(self.completed.wait(), POLL_SECONDS)
            await asyncio.sleep(GATHER_SECONDS)

    async def _claim(self, http: HttpSession) -> int:
        """Claim due deliveries, up to the free places of each webhook, and send them."""
        now, token = self.clock(), secrets.token_hex(16)
        async with self.database.reading() as db:
            waiting = await delivery_queue.waiting(db, now)
        rooms = {webhook.id: AT_ONCE - self.in_flight[webhook.id] for webhook in waiting}
        if not any(rooms.values()):
            return 0
        async with self.database.transaction() as db:
            for id, room in rooms.items():
                if room > 0:
                    await delivery_queue.claim(db, id, limit=room, token=token, now=now, lease=now + LEASE)
            taken = await delivery_queue.claimed(db, token)
        by_id = {webhook.id: webhook for webhook in waiting}
        for delivery in taken:
            self.in_flight[delivery.webhook_id] += 1
            task = asyncio.create_task(self._send(http, delivery, by_id[delivery.webhook_id], token))
            self.tasks[task] = (delivery, token)
            task.add_done_callback(self.tasks.pop)
        return len(taken)

    async def _send(self, http: HttpSession, delivery: Row, webhook: Row, token: str) -> None:
        at = self.clock()
        try:
            try:
                # The URL may be plain http, stored while private targets were allowed.
                _check_url(webhook.url, private=self.private)
                answer = await post(http, webhook.url, *self._signed(delivery, webhook, at))
            except (Refused, Unsealable) as error:
                answer = DeliveryResponse(None, 0, "", str(error), None)
            self.results.append(AttemptResult(delivery, webhook, token, at, answer))
            self.completed.set()
        finally:
            self.in_flight[delivery.webhook_id] -= 1

    def _signed(self, delivery: Row, webhook: Row, at: datetime) -> tuple[bytes, dict[str, str]]:
        """Return the body and the headers of an attempt.

        While an old secret is still good, the headers are signed with both, and the body with the old
        one, so that neither kind of receiver breaks.
        """
        keys = [self._key(webhook.secret, webhook.id)]
        if webhook.old_secret and webhook.old_secret_until > at:
            keys.append(self._key(webhook.old_secret, webhook.id))
        test = delivery.event_id is None
        base = delivery.test_base if test else delivery.base
        body = signing.body(keys[-1], base.encode())
        headers = signing.headers(keys, delivery.uid, int(at.timestamp()), body)
        return body, headers | {"X-CloudArc-Test": "1"} if test else headers

    def _key(self, sealed: str, id: int) -> bytes:
        return signing.key_of(self.box.open(sealed, webhooks.context(id)))

    async def _settle(self) -> None:
        """Log and settle all completed attempts, in one transaction."""
        results, now = self.results[:], self.clock()
        if not results:
            return
        verdicts = [self._verdict(each, now) for each in results]
        async with self.database.transaction() as db:
            await delivery_queue.log(db, [_entry(each) for each in results])
            await delivery_queue.settle(
                db,
                [
                    {"key": each.delivery.id, "token": each.token, "new_status": status, "next": next}
                    for each, (status, next) in zip(results, verdicts, strict=True)
                ],
            )
            for each in results:
                if each.delivery.event_id is not None:
                    await _keep_health(db, each, now)
        # After the commit, so that a failed transaction is retried with the next one.
        del self.results[: len(results)]

    def _verdict(self, result: AttemptResult, now: datetime) -> tuple[str, datetime]:
        """Return the status of a delivery after an attempt, and the time of the next attempt."""
        answer, tried = result.answer, result.delivery.tried
        if answer.error is None:
            return "delivered", now
        if result.delivery.event_id is None or tried >= len(SCHEDULE):
            return "failed", now
        wait = SCHEDULE[tried] * (1 + SPREAD * self.random())
        return "pending", now + max(wait, timedelta(seconds=answer.retry_after or 0))

    async def _drain(self) -> None:
        """Wait for attempts in flight, and give back those that take too long, for another worker."""
        if self.tasks:
            await asyncio.wait(self.tasks, timeout=GRACE_SECONDS)
        left = dict(self.tasks)
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)
        try:
            await self._settle()
            async with self.database.transaction() as db:
                for delivery, token in left.values():
                    await delivery_queue.give_back(db, delivery.id, token, self.clock())
        except Refusal as error:
            logger.warning("attempts in flight are repeated in a minute: %s", error)


def _entry(result: AttemptResult) -> dict[str, Any]:
    """Return an attempt as a row of the log."""
    answer = result.answer
    return {
        "key": result.delivery.id,
        "at": result.at,
        "code": answer.status,
        "took": answer.ms,
        "text": answer.text,
        "fault": answer.error,
    }


async def _keep_health(db: Connection, result: AttemptResult, now: datetime) -> None:
    """Record whether a webhook works, and disable it once it has failed for too long."""
    webhook, answer = result.webhook, result.answer
    if answer.error is None:
        if webhook.failing_since:
            await webhooks.mark_working(db, webhook.id)
        return
    if not webhook.failing_since:
        await webhooks.mark_failing(db, webhook.id, now)
    if answer.status == 410:
        await webhooks.disable(db, webhook.id, "The receiver answered 410: it is gone.")
    elif webhook.failing_since and now - webhook.failing_since >= DISABLE_AFTER:
        await webhooks.disable(db, webhook.id, "No delivery succeeded for 5 days.")
