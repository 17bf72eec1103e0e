"""The soak runs in short: real processes are killed while they work."""

import asyncio
from pathlib import Path

import pytest

from tests.conftest import new_database
from tests.soak import memory, webhooks
from tests.soak.processes import Received
from tests.soak.webhooks import Figure
from webhooks import signing


@pytest.fixture
def url(backend: str, tmp_path: Path, request: pytest.FixtureRequest) -> str:
    postgres = request.getfixturevalue("postgres") if backend == "postgresql" else None
    return new_database(backend, tmp_path, postgres)


def holds(figures: list[Figure]) -> None:
    assert figures
    assert all(each.holds for each in figures), "\n".join(map(str, figures))


class TestWebhooks:
    def test_killed_workers_lose_nothing(self, postgres: str, tmp_path: Path) -> None:
        url = new_database("postgresql", tmp_path, postgres)
        holds(asyncio.run(webhooks.survive_kills(tmp_path, url, events=400, kills=2, number=2)))

    def test_what_a_killed_server_acknowledged_is_told(self, url: str, tmp_path: Path) -> None:
        holds(asyncio.run(webhooks.survive_the_servers_end(tmp_path, url, events=20)))


class TestMemory:
    def test_it_stays_flat(self, tmp_path: Path) -> None:
        url = new_database("sqlite", tmp_path, None)
        holds(asyncio.run(memory.stay_flat(tmp_path, url, warm=2000, requests=5000)))


class TestTheJudge:
    """It would notice."""

    SECRET = signing.mint(lambda number: bytes(range(number)))

    def received(self, ticket: int, id: str) -> Received:
        key = signing.key_of(self.SECRET)
        base = signing.signed_payload("ticket.opened", "2026-01-31T12:00:00Z", {"id": ticket})
        body = signing.body(key, base)
        return Received(1000.0, "/ok", signing.headers([key], id, 1000, body), body)

    def failing(self, received: list[Received], kills: int = 0) -> list[str]:
        figures = webhooks.judge(received, self.SECRET, {1: 0.0, 2: 0.0}, kills)
        return [each.name for each in figures if not each.holds]

    def test_all_is_well(self) -> None:
        both = [self.received(1, "evt_1"), self.received(2, "evt_2")]
        assert self.failing(both) == []
        assert self.failing([*both, both[0]], kills=1) == []

    def test_a_loss(self) -> None:
        assert len(self.failing([self.received(1, "evt_1")])) == 1

    def test_two_events_of_one_change(self) -> None:
        three = [self.received(1, "evt_1"), self.received(2, "evt_2"), self.received(2, "evt_3")]
        assert len(self.failing(three)) == 1

    def test_a_duplicate_without_a_kill(self) -> None:
        both = [self.received(1, "evt_1"), self.received(2, "evt_2")]
        assert len(self.failing([*both, both[0]])) == 1

    def test_a_forgery(self) -> None:
        good = self.received(2, "evt_2")
        bad = Received(good.at, good.path, good.headers, good.body.replace(b"12:00", b"12:01"))
        assert len(self.failing([self.received(1, "evt_1"), bad])) == 1
