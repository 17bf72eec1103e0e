"""What is due is delivered, signed, on time and once; what fails is tried again; nobody waits for others."""

import asyncio
import json
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from secrets import token_bytes, token_hex
from typing import Any, cast

import pytest
from standardwebhooks import Webhook as StandardWebhook

from persistence import deliveries, delivery_queue, events, migrations, webhooks
from persistence.database import Database, Row
from persistence.engines import connect
from persistence.errors import Unavailable
from persistence.sealing import Box
from tests.conftest import new_database
from tests.support.hostile_receivers import STALL, Receivers, running_receivers, shortest_gap
from tests.support.live_server import BOX
from tests.support.receiver import Received, Receiver, receiving
from webhooks import signing
from webhooks.delivery import AT_ONCE, SCHEDULE, Worker
from webhooks.sending import http_session

START = datetime(2026, 1, 31, 12, 0, tzinfo=UTC)


class Clock:
    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> datetime:
        return self.now


class Office:
    """A database with webhooks, and workers that deliver from it by one clock."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.clock = Clock()
        self.secrets: dict[int, str] = {}

    async def webhook(self, url: str, *names: str, active: bool = True) -> int:
        """A webhook with a secret of its own; its id."""
        secret = signing.mint(token_bytes)
        async with self.database.transaction() as db:
            wanted = names or ("invoice.paid",)
            row = await webhooks.create(db, url=url, events=wanted, active=active, now=self.clock())
            await webhooks.seal(db, row.id, BOX.seal(secret, f"webhook:{row.id}"))
        self.secrets[row.id] = secret
        return int(row.id)

    async def happens(self, event: str = "invoice.paid", **data: Any) -> str:
        """An event is recorded; its message id."""
        uid = f"evt_{token_hex(10)}"
        base = signing.signed_payload(
            event, "2026-01-31T12:00:00Z", data or {"id": 1, "total": "29.99"}
        ).decode()
        async with self.database.transaction() as db:
            await events.add(db, uid=uid, event=event, base=base, now=self.clock())
        return uid

    def worker(self, **options: Any) -> Worker:
        given: dict[str, Any] = {"private": True, "clock": self.clock, "random": lambda: 0.0}
        return Worker(self.database, BOX, **given | options)

    async def deliver(self, worker: Worker | None = None) -> int:
        """Send what is due now, wait for the answers and keep them; how many were sent."""
        worker = worker or self.worker()
        async with http_session(private=worker.private) as http:
            sent = await worker.run_once(http)
            while worker.tasks:
                await asyncio.wait(worker.tasks)
                sent += await worker.run_once(http)
        return sent

    async def log(self, id: int) -> list[tuple[Row, list[Row]]]:
        """The deliveries of a webhook, newest first, with their attempts."""
        async with self.database.reading() as db:
            page = await deliveries.page(db, id, status=None, page=1, limit=100, after=None)
            attempts = await deliveries.attempts(db, page.rows, 20)
        return [(row, attempts[row.id]) for row in page.rows]

    async def get(self, id: int) -> Row:
        async with self.database.reading() as db:
            return await webhooks.get(db, id)


@pytest.fixture
def url(backend: str, tmp_path: Path, request: pytest.FixtureRequest) -> str:
    """An empty database with the schema."""
    postgres = request.getfixturevalue("postgres") if backend == "postgresql" else None
    url = new_database(backend, tmp_path, postgres)
    migrations.upgrade(url)
    return url


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as receiver:
        yield receiver


@asynccontextmanager
async def opened(url: str) -> AsyncIterator[Office]:
    database = connect(url)
    await database.open()
    try:
        yield Office(database)
    finally:
        await database.close()


def run(url: str, work: Callable[[Office], Awaitable[Any]]) -> Any:
    async def inside() -> Any:
        async with opened(url) as office:
            return await work(office)

    return asyncio.run(inside())


def verified(received: Received, secret: str, at: datetime = START) -> bool:
    """Whether a request bears both signatures."""
    key = signing.key_of(secret)
    return signing.verify_body(key, received.body) and signing.verify_headers(
        key, received.headers, received.body, at.timestamp()
    )


class TestOneDelivery:
    def test_what_happened_arrives_signed_and_is_logged(self, url: str, receiver: Receiver) -> None:
        async def work(office: Office) -> None:
            id = await office.webhook(f"{receiver.url}/hook")
            uid = await office.happens(id=7, name="Zoë/Bank", total="29.99")
            assert await office.deliver() == 1
            (received,) = receiver.received
            assert received.path == "/hook"
            assert received.headers["content-type"] == "application/json"
            assert received.headers["webhook-id"] == uid
            assert verified(received, office.secrets[id])
            assert json.loads(received.body) == {
                "event": "invoice.paid",
                "timestamp": "2026-01-31T12:00:00Z",
                "data": {"id": 7, "name": "Zoë/Bank", "total": "29.99"},
                "signature": json.loads(received.body)["signature"],
            }
            ((row, (attempt,)),) = await office.log(id)
            assert (row.status, row.tried, row.claim) == ("delivered", 1, None)
            assert (attempt.status, attempt.answer, attempt.error) == (200, "ok", None)
            assert await office.deliver() == 0

        run(url, work)

    def test_the_unmodified_library_of_standard_webhooks_verifies_it(
        self, url: str, receiver: Receiver
    ) -> None:
        async def work(office: Office) -> str:
            office.clock.now = datetime.now(UTC)
            id = await office.webhook(receiver.url)
            await office.happens()
            await office.deliver()
            return office.secrets[id]

        secret = run(url, work)
        (received,) = receiver.received
        assert StandardWebhook(secret).verify(received.body, dict(received.headers))["event"] == (
            "invoice.paid"
        )

    def test_only_active_webhooks_that_asked_for_it_are_told(self, url: str, receiver: Receiver) -> None:
        async def work(office: Office) -> None:
            await office.webhook(f"{receiver.url}/both", "invoice.paid", "client.created")
            await office.webhook(f"{receiver.url}/other", "client.created")
            await office.webhook(f"{receiver.url}/inactive", active=False)
            await office.happens("invoice.paid")
            assert await office.deliver() == 1
            assert [each.path for each in receiver.received] == ["/both"]

        run(url, work)

    def test_a_test_says_so_and_is_tried_once_even_for_an_inactive_webhook(
        self, url: str, receiver: Receiver
    ) -> None:
        receiver.answers = lambda _: (500, {}, b"")

        async def work(office: Office) -> None:
            id = await office.webhook(receiver.url, active=False)
            base = signing.signed_payload("invoice.paid", "2026-01-31T12:00:00Z", {"id": 1}).decode()
            async with office.database.transaction() as db:
                await deliveries.test(
                    db, id, uid="evt_test", event="invoice.paid", base=base, now=office.clock()
                )
            assert await office.deliver() == 1
            (received,) = receiver.received
            assert received.headers["x-cloudarc-test"] == "1"
            assert verified(received, office.secrets[id])
            ((row, (attempt,)),) = await office.log(id)
            assert (row.status, attempt.status) == ("failed", 500)
            assert (await office.get(id)).failing_since is None

        run(url, work)

    def test_a_secret_that_cannot_be_read_is_told_in_the_log(self, url: str, receiver: Receiver) -> None:
        async def work(office: Office) -> None:
            id = await office.webhook(receiver.url)
            await office.happens()
            worker = Worker(office.database, Box("x" * 32), private=True, clock=office.clock)
            await office.deliver(worker)
            ((row, (attempt,)),) = await office.log(id)
            assert row.status == "pending"
            assert "CLOUDARC_SECRET_KEY" in attempt.error
            assert receiver.received == []

        run(url, work)

    @pytest.mark.parametrize("scheme", ["http", "https"])
    def test_an_inner_address_is_not_connected_to(self, url: str, receiver: Receiver, scheme: str) -> None:
        async def work(office: Office) -> None:
            id = await office.webhook(receiver.url.replace("http", scheme))
            await office.happens()
            await office.deliver(office.worker(private=False))
            ((row, (attempt,)),) = await office.log(id)
            assert row.status == "pending"
            assert attempt.status is None and "url" in attempt.error
            assert receiver.received == []

        run(url, work)


class TestRotation:
    def test_until_the_overlap_ends_neither_kind_of_receiver_breaks(
        self, url: str, receiver: Receiver
    ) -> None:
        async def work(office: Office) -> None:
            id = await office.webhook(receiver.url)
            old, new = office.secrets[id], signing.mint(token_bytes)
            async with office.database.transaction() as db:
                row = await webhooks.get(db, id)
                sealed = BOX.seal(new, f"webhook:{id}")
                await webhooks.rotate(db, row, sealed, timedelta(hours=24), office.clock())
            for hours in (0, 23, 25):
                office.clock.now = START + timedelta(hours=hours)
                await office.happens()
                await office.deliver()
            for received, body, headers in zip(
                receiver.received, (old, old, new), ([old, new], [old, new], [new]), strict=True
            ):
                assert signing.verify_body(signing.key_of(body), received.body)
                at = float(received.headers["webhook-timestamp"])
                for secret in (old, new):
                    good = signing.verify_headers(signing.key_of(secret), received.headers, received.body, at)
                    assert good == (secret in headers)

        run(url, work)


class TestTheSchedule:
    def test_ten_attempts_in_75_hours_and_35_minutes_never_early(self, url: str, receiver: Receiver) -> None:
        receiver.answers = lambda _: (500, {}, b"no")

        async def work(office: Office) -> None:
            id = await office.webhook(receiver.url)
            uid = await office.happens()
            times = []
            for wait in (timedelta(0), *SCHEDULE):
                if wait:
                    office.clock.now += wait - timedelta(microseconds=1)
                    assert await office.deliver() == 0, f"{wait} came early"
                    office.clock.now += timedelta(microseconds=1)
                assert await office.deliver() == 1
                times.append(office.clock.now)
            ((row, attempts),) = await office.log(id)
            assert (row.status, row.tried, len(attempts)) == ("failed", 10, 10)
            assert times[-1] - times[0] == timedelta(hours=75, minutes=35, seconds=5)
            assert [each.attempted_at for each in attempts] == times[::-1]
            # It is the same message each time, signed anew for its time.
            assert {each.headers["webhook-id"] for each in receiver.received} == {uid}
            assert all(
                verified(received, office.secrets[id], at)
                for received, at in zip(receiver.received, times, strict=True)
            )
            office.clock.now += timedelta(days=30)
            assert await office.deliver() == 0

        run(url, work)

    def test_chance_adds_a_fifth_at_most(self, url: str, receiver: Receiver) -> None:
        receiver.answers = lambda _: (500, {}, b"no")

        async def work(office: Office) -> None:
            id = await office.webhook(receiver.url)
            await office.happens()
            await office.deliver(office.worker(random=lambda: 1.0))
            ((row, _),) = await office.log(id)
            assert row.due_at == START + timedelta(seconds=6)

        run(url, work)

    @pytest.mark.parametrize(
        ("told", "seconds"), [("3600", 3600), ("1", 5), ("9999999", 86_400), ("soon", 5)]
    )
    def test_retry_after_is_honoured_up_to_a_day(
        self, url: str, receiver: Receiver, told: str, seconds: int
    ) -> None:
        receiver.answers = lambda _: (503, {"Retry-After": told}, b"")

        async def work(office: Office) -> None:
            id = await office.webhook(receiver.url)
            await office.happens()
            await office.deliver()
            ((row, _),) = await office.log(id)
            assert row.due_at == START + timedelta(seconds=seconds)

        run(url, work)

    @pytest.mark.parametrize("status", [200, 201, 204, 299])
    def test_only_2xx_succeeds(self, url: str, receiver: Receiver, status: int) -> None:
        answers = iter([301, 304, 400, 404, 429, status])
        receiver.answers = lambda _: (next(answers), {"Location": "/elsewhere"}, b"")

        async def work(office: Office) -> None:
            id = await office.webhook(receiver.url)
            await office.happens()
            for _ in range(5):
                await office.deliver()
                ((row, _),) = await office.log(id)
                assert row.status == "pending"
                office.clock.now = row.due_at
            await office.deliver()
            ((row, _),) = await office.log(id)
            assert row.status == "delivered"
            assert {each.path for each in receiver.received} == {"/"}

        run(url, work)


class TestDisabling:
    def test_410_disables_at_once_and_what_is_pending_is_kept(self, url: str, receiver: Receiver) -> None:
        receiver.answers = lambda _: (410, {}, b"")

        async def work(office: Office) -> None:
            id = await office.webhook(receiver.url)
            await office.happens()
            await office.deliver()
            webhook = await office.get(id)
            assert not webhook.active
            assert "410" in webhook.disabled_reason
            office.clock.now += timedelta(days=1)
            assert await office.deliver() == 0
            receiver.answers = lambda _: (200, {}, b"")
            async with office.database.transaction() as db:
                webhook = await webhooks.update(db, id, {"active": True})
            assert webhook.disabled_reason is None and webhook.failing_since is None
            assert await office.deliver() == 1

        run(url, work)

    def test_five_days_without_a_success_disable(self, url: str, receiver: Receiver) -> None:
        receiver.answers = lambda _: (500, {}, b"")

        async def work(office: Office) -> None:
            id = await office.webhook(receiver.url)
            for hours in (0, 119, 120):
                office.clock.now = START + timedelta(hours=hours)
                await office.happens()
                assert (await office.get(id)).active
                await office.deliver()
            webhook = await office.get(id)
            assert not webhook.active
            assert "5 days" in webhook.disabled_reason

        run(url, work)

    def test_one_success_makes_the_days_begin_anew(self, url: str, receiver: Receiver) -> None:
        statuses = iter([500, 200, 500, 500])
        receiver.answers = lambda _: (next(statuses), {}, b"")

        async def work(office: Office) -> None:
            id = await office.webhook(receiver.url)
            for hours in (0, 1, 60, 130):
                office.clock.now = START + timedelta(hours=hours)
                async with office.database.transaction() as db:
                    await delivery_queue.purge(db, office.clock(), 100)
                await office.happens()
                await office.deliver()
            webhook = await office.get(id)
            assert webhook.active
            assert webhook.failing_since == START + timedelta(hours=60)

        run(url, work)


class TestCrashes:
    def test_what_a_dead_worker_had_in_the_air_is_due_again_after_a_minute(
        self, url: str, receiver: Receiver
    ) -> None:
        async def work(office: Office) -> None:
            id = await office.webhook(receiver.url)
            await office.happens()
            async with office.database.transaction() as db:
                lease = office.clock() + timedelta(minutes=1)
                taken = await delivery_queue.claim(
                    db, id, limit=20, token="dead", now=office.clock(), lease=lease
                )
            assert taken == 1
            office.clock.now += timedelta(seconds=59)
            assert await office.deliver() == 0
            office.clock.now += timedelta(seconds=1)
            assert await office.deliver() == 1
            # The dead one comes back: what it says counts no more, but its attempt is logged.
            async with office.database.transaction() as db:
                ((row, _),) = await office.log(id)
                late = {"key": row.id, "token": "dead", "new_status": "pending", "next": office.clock()}
                await delivery_queue.settle(db, [late])
            ((row, _),) = await office.log(id)
            assert row.status == "delivered"

        run(url, work)

    def test_a_worker_that_stops_gives_back_what_is_in_the_air(self, url: str, receiver: Receiver) -> None:
        held = threading.Event()

        def hold(_: Received) -> tuple[int, dict[str, str], bytes]:
            held.wait(20)
            return 200, {}, b""

        receiver.answers = hold

        async def work(office: Office) -> None:
            id = await office.webhook(receiver.url)
            await office.happens()
            worker = office.worker()
            async with worker.working():
                while not receiver.received:
                    await asyncio.sleep(0.01)
            ((row, attempts),) = await office.log(id)
            assert (row.status, row.claim, row.tried, attempts) == ("pending", None, 0, [])
            assert row.due_at == START
            held.set()

        run(url, work)

    def test_what_cannot_be_kept_is_kept_later(self, url: str, receiver: Receiver) -> None:
        async def work(office: Office) -> None:
            id = await office.webhook(receiver.url)
            await office.happens()
            worker = office.worker()
            async with http_session(private=True) as http:
                await worker.run_once(http)
                await _landed(worker)
                worker.database = cast(Database, _Down(office.database))
                with pytest.raises(Unavailable):
                    await worker.run_once(http)
                worker.database = office.database
                await worker.run_once(http)
            ((row, attempts),) = await office.log(id)
            assert (row.status, len(attempts)) == ("delivered", 1)

        run(url, work)

    def test_a_webhook_that_is_deleted_meanwhile_takes_its_log_along(
        self, url: str, receiver: Receiver
    ) -> None:
        async def work(office: Office) -> None:
            id = await office.webhook(receiver.url)
            await office.happens()
            worker = office.worker()
            async with http_session(private=True) as http:
                await worker.run_once(http)
                async with office.database.transaction() as db:
                    await webhooks.delete(db, id)
                await _landed(worker)
                await worker.run_once(http)
            assert worker.results == []

        run(url, work)


async def _landed(worker: Worker) -> None:
    while worker.tasks:
        await asyncio.wait(worker.tasks)


class _Down:
    """A database that does not answer."""

    def __init__(self, database: Database) -> None:
        self.database = database

    def transaction(self) -> Any:
        raise Unavailable

    reading = transaction


class TestManyAtOnce:
    def test_a_webhook_that_hangs_delays_no_other(self, url: str, receiver: Receiver) -> None:
        release = threading.Event()

        def hang(received: Received) -> tuple[int, dict[str, str], bytes]:
            if received.path == "/hangs":
                release.wait(20)
            return 200, {}, b""

        receiver.answers = hang

        async def work(office: Office) -> None:
            await office.webhook(f"{receiver.url}/hangs", "client.created")
            await office.webhook(f"{receiver.url}/healthy", "invoice.paid")
            for _ in range(100):
                await office.happens("client.created")
            async with office.worker().working():
                while len(receiver.received) < AT_ONCE:
                    await asyncio.sleep(0.01)
                for _ in range(30):
                    await office.happens("invoice.paid")
                begun = time.monotonic()
                while sum(each.path == "/healthy" for each in receiver.received) < 30:
                    assert time.monotonic() - begun < 2
                    await asyncio.sleep(0.01)
                assert sum(each.path == "/hangs" for each in receiver.received) == AT_ONCE
                release.set()

        run(url, work)

    def test_hostile_receivers_stall_neither_the_loop_of_the_worker_nor_a_healthy_webhook(
        self, url: str, receiver: Receiver
    ) -> None:
        bad = ("interim answers 103", "interim answers 199", "answers after the answer", "empty lines")

        async def work(office: Office, hostile: Receivers) -> None:
            for name in bad:
                await office.webhook(hostile.urls[name], "client.created")
            await office.webhook(receiver.url, "invoice.paid")

            async def attempt() -> None:
                before = {name: hostile.counts(name).connections for name in bad}
                receiver.received.clear()
                for _ in range(3):
                    await office.happens("client.created")
                    await office.happens("invoice.paid")
                begun = time.monotonic()
                while len(receiver.received) < 3 or any(
                    hostile.counts(name).connections < before[name] + 3 for name in bad
                ):
                    assert time.monotonic() - begun < 2
                    await asyncio.sleep(0.01)

            async with office.worker().working():
                await attempt()
                assert await shortest_gap(attempt) <= STALL

        with running_receivers() as hostile:
            run(url, lambda office: work(office, hostile))

    def test_several_workers_send_everything_once(self, url: str, receiver: Receiver) -> None:
        async def work(office: Office) -> None:
            ids = [await office.webhook(f"{receiver.url}/{nth}") for nth in range(3)]
            uids = {await office.happens() for _ in range(100)}
            async with asyncio.TaskGroup() as group:
                workers = [office.worker() for _ in range(4 if url.startswith("postgresql") else 1)]
                for worker in workers:
                    group.create_task(worker.run())
                while True:
                    logs = [await office.log(id) for id in ids]
                    if all(row.status == "delivered" for log in logs for row, _ in log):
                        break
                    await asyncio.sleep(0.05)
                for worker in workers:
                    worker.stop()
            assert len(receiver.received) == 300
            assert {each.headers["webhook-id"] for each in receiver.received} == uids

        run(url, work)


class TestPurge:
    def test_old_deliveries_and_their_events_go_in_batches(self, url: str, receiver: Receiver) -> None:
        async def work(office: Office) -> None:
            id = await office.webhook(receiver.url)
            for day in (0, 0, 0, 29):
                office.clock.now = START + timedelta(days=day)
                await office.happens()
                await office.happens("client.created")
                await office.deliver()
            async with office.database.transaction() as db:
                before = START + timedelta(days=1)
                # Events with a delivery stay as long as that.
                assert await events.purge(db, before, 100) == 3
                assert [await delivery_queue.purge(db, before, 2) for _ in range(3)] == [2, 1, 0]
                assert await events.purge(db, before, 100) == 3
            assert len(await office.log(id)) == 1
            async with office.database.reading() as db:
                page = await events.page(db, page=1, limit=10, after=None, event=None)
            assert len(page.rows) == 2

        run(url, work)
