"""A backup holds the whole database, restores into either kind, and a damaged one changes nothing."""

import asyncio
import gzip
import io
import stat
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import orjson
import pytest
from sqlalchemy import delete, func, insert, select

from persistence import backup, departments, domains, invoices, listing, migrations, operators, webhooks
from persistence.database import Database
from persistence.engines import connect
from persistence.errors import Conflict
from persistence.sealing import Box
from persistence.tables import METADATA
from server.clock import now
from tests.conftest import new_database
from tests.contract_client import Api
from tests.running import CLIENT, assembled, prepared, serving
from tests.test_command_line import command, is_one_line, served

NAMES = [each.name for each in backup._tables()]


def ignore(done: int, total: int) -> None:
    """Watches no progress."""


def inside(url: str, work: Callable[[Database], Awaitable[Any]]) -> Any:
    async def run() -> Any:
        database = connect(url)
        await database.open()
        try:
            return await work(database)
        finally:
            await database.close()

    return asyncio.run(run())


def copied(url: str, progress: backup.Progress = ignore) -> bytes:
    file = io.BytesIO()
    inside(url, lambda database: backup.dump(database, file, now(), progress))
    return file.getvalue()


def filled(url: str, raw: bytes) -> int:
    migrations.upgrade(url)
    return int(inside(url, lambda database: backup.restore(database, io.BytesIO(raw), ignore)))


async def _content(database: Database) -> dict[str, list[tuple[Any, ...]]]:
    async with database.reading() as db:
        return {
            each.name: [tuple(row) for row in await db.all(select(*each.c).order_by(*backup._key(each)))]
            for each in backup._tables()
        }


def content(url: str) -> dict[str, list[tuple[Any, ...]]]:
    found: dict[str, list[tuple[Any, ...]]] = inside(url, _content)
    return found


Make = Callable[[str], str]


@pytest.fixture(scope="module")
def make(tmp_path_factory: pytest.TempPathFactory, postgres: str) -> Make:
    """Makes empty databases of a kind."""
    folder = tmp_path_factory.mktemp("backup")
    return lambda kind: new_database(kind, folder, postgres)


@pytest.fixture(scope="module")
def seeded(make: Make, backend: str) -> str:
    """The URL of a database with the demo data."""
    url = make(backend)
    prepared(url)
    return url


@pytest.fixture(scope="module")
def raw(seeded: str) -> bytes:
    """A backup of it."""
    return copied(seeded)


@pytest.fixture(scope="module")
def empty(make: Make, backend: str) -> str:
    """The URL of an empty database, as it is to stay."""
    url = make(backend)
    migrations.upgrade(url)
    return url


def lines(raw: bytes) -> list[bytes]:
    return gzip.decompress(raw).splitlines(keepends=True)


class TestRestore:
    @pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
    def test_all_rows_are_there_again_in_either_kind_of_database(
        self, seeded: str, raw: bytes, make: Make, kind: str
    ) -> None:
        url = make(kind)
        there = content(seeded)
        assert filled(url, raw) == sum(map(len, there.values())) > 1000
        again = content(url)
        assert set(NAMES) <= set(again)
        for name, rows in there.items():
            assert again[name] == rows, name

    def test_nothing_but_tallies_and_sessions_is_left_out(self) -> None:
        left_out = {listing.Tally.__tablename__, operators.Session.__tablename__}
        words = {"article_words", "client_words"}
        assert set(NAMES) == {*METADATA.tables} - left_out | words

    @pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
    def test_a_restored_database_is_served_as_the_first_was(
        self, seeded: str, raw: bytes, make: Make, kind: str
    ) -> None:
        url = make(kind)
        filled(url, raw)

        async def total(database: Database) -> tuple[int, int]:
            async with database.reading() as db:
                counted = await db.all(select(func.count().label("n")).select_from(invoices.Invoice))
                return (
                    await invoices.page(db, status=None, today=now().date(), page=1, limit=1, after=None)
                ).total, counted[0].n

        told, there = inside(url, total)
        assert told == there > 0
        with serving(assembled(url)) as running:
            api = Api(running.url, CLIENT)
            assert api.get("/services").json()["data"][0]["product_name"] == "Business Hosting"
            found = api.get("/knowledgebase", q="cname").json()["data"]
            assert found[0]["title"] == "How to set up a CNAME record"
            opened = api.post("/tickets", {"subject": "a", "message": "b", "department_id": 1})
            assert opened.status_code == 201
            api.close()

    @pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
    def test_an_id_that_was_given_is_not_given_again(self, make: Make, kind: str) -> None:
        first, second = make(kind), make(kind)
        prepared(first)

        async def add(database: Database) -> int:
            async with database.transaction() as db:
                row = await webhooks.create(db, url="https://a.example", events=[], active=True, now=now())
                return int(row.id)

        async def forget(database: Database) -> None:
            async with database.transaction() as db:
                await db.run(delete(webhooks.Webhook))

        last = inside(first, add)
        inside(first, forget)
        filled(second, copied(first))
        assert inside(second, add) == last + 1

    def test_many_rows_are_counted_as_they_are(self, make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(backup, "AT_ONCE", 7)
        monkeypatch.setattr(backup, "FOLDED_AT", 50)
        first, second = make("sqlite"), make("postgresql")
        prepared(first)
        filled(second, copied(first))
        query = select(func.count().label("n")).select_from(listing.Tally).where(~listing.TALLY.c.folded)

        async def fresh(database: Database) -> int:
            async with database.reading() as db:
                return int((await db.all(query))[0].n)

        assert inside(second, fresh) < 200
        assert content(first) == content(second)


class TestSnapshot:
    def test_it_is_of_one_moment_and_nobody_waits_for_it(self, make: Make, backend: str) -> None:
        """Rows that are written while it is made are not in it, of any table."""
        seeded = make(backend)
        prepared(seeded)

        async def work() -> bytes:
            database, other = connect(seeded), connect(seeded)
            await database.open()
            await other.open()
            before = await _content(database)
            file = io.BytesIO()
            tasks: list[asyncio.Task[None]] = []

            async def write() -> None:
                async with other.transaction() as db:
                    await db.run(insert(departments.Department).values(name="Late", status="active"))
                    await db.run(delete(domains.Domain))

            def progress(done: int, total: int) -> None:
                if not tasks:
                    tasks.append(asyncio.create_task(write()))

            await backup.dump(database, file, now(), progress)
            await asyncio.gather(*tasks)
            assert await _content(database) != before
            await database.close()
            await other.close()
            rows = {each: len(rows) for each, rows in before.items()}
            assert orjson.loads(lines(file.getvalue())[0])["rows"] == rows
            return file.getvalue()

        raw = asyncio.run(work())
        assert b"Late" not in gzip.decompress(raw)


def altered(raw: bytes, change: Callable[[list[bytes]], list[bytes]]) -> bytes:
    return gzip.compress(b"".join(change(lines(raw))))


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "cut": lambda raw: raw[: len(raw) // 2],
    "cut to a line": lambda raw: altered(raw, lambda all_: all_[: len(all_) // 2]),
    "without its last line": lambda raw: altered(raw, lambda all_: all_[:-1]),
    "a row less": lambda raw: altered(raw, lambda all_: [*all_[:3], *all_[4:]]),
    "another amount": lambda raw: altered(
        raw, lambda all_: [each.replace(b"Technical Support", b"Technical support") for each in all_]
    ),
    "a bit": lambda raw: raw[:2000] + bytes([raw[2000] ^ 1]) + raw[2001:],
    "empty": lambda raw: b"",
    "no gzip": lambda raw: b"CREATE TABLE",
    "no backup": lambda raw: gzip.compress(b"[]\n"),
    "no JSON": lambda raw: gzip.compress(b"\x00\n"),
    "with more behind": lambda raw: altered(raw, lambda all_: [*all_, b"[]\n"]),
    "of a newer form": lambda raw: altered(
        raw, lambda all_: [orjson.dumps(orjson.loads(all_[0]) | {"cloudarc": 2}) + b"\n", *all_[1:]]
    ),
    "of another revision": lambda raw: altered(
        raw, lambda all_: [orjson.dumps(orjson.loads(all_[0]) | {"revision": "0001"}) + b"\n", *all_[1:]]
    ),
}


class TestDamage:
    @pytest.mark.parametrize("damage", DAMAGES)
    def test_a_damaged_one_is_refused_and_changes_nothing(self, raw: bytes, empty: str, damage: str) -> None:
        with pytest.raises(backup.Damaged):
            filled(empty, DAMAGES[damage](raw))
        assert [name for name, rows in content(empty).items() if rows] == ["settings"]

    def test_it_goes_into_an_empty_database_only(self, seeded: str, raw: bytes) -> None:
        before = content(seeded)
        with pytest.raises(Conflict, match="not empty"):
            filled(seeded, raw)
        assert content(seeded) == before


class TestCommands:
    def test_a_served_database_is_copied_and_restored_elsewhere(self, tmp_path: Path) -> None:
        file = tmp_path / "copy.gz"
        with served(tmp_path):
            made = command(tmp_path, "backup", str(file))
        assert made.returncode == 0 and "rows are in" in made.stdout
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        assert [each.name for each in tmp_path.glob("*copy*")] == ["copy.gz"]
        elsewhere = tmp_path / "elsewhere"
        elsewhere.mkdir()
        restored = command(elsewhere, "restore", str(file))
        assert restored.returncode == 0 and "rows are restored" in restored.stdout
        with served(elsewhere) as (_, base):
            api = Api(base, CLIENT)
            assert api.get("/services").json()["data"][0]["product_name"] == "Business Hosting"
            api.close()
        is_one_line(command(elsewhere, "restore", str(file)), "not empty")

    def test_mistakes_are_one_line(self, tmp_path: Path) -> None:
        command(tmp_path, "migrate")
        there = tmp_path / "there"
        there.touch()
        is_one_line(command(tmp_path, "backup", str(there)), str(there), "exists")
        is_one_line(command(tmp_path, "backup", str(tmp_path / "no" / "folder")), "cannot be written")
        is_one_line(command(tmp_path, "restore", str(tmp_path / "none")), "cannot be read")
        is_one_line(command(tmp_path, "restore", str(there)), "no backup")
        assert there.read_bytes() == b""


class TestReseal:
    OLD, NEW = "o" * 40, "n" * 40

    def test_secrets_move_from_one_key_to_the_other(self, tmp_path: Path) -> None:
        command(tmp_path, "seed", "--demo")
        url = f"sqlite:///{tmp_path / 'var' / 'cloudarc.db'}"

        async def seal(database: Database) -> None:
            async with database.transaction() as db:
                for row in await webhooks.everyone(db):
                    await webhooks.seal(db, row.id, Box(self.OLD).seal("whsec_x", webhooks.context(row.id)))

        async def opened(database: Database) -> set[str]:
            async with database.reading() as db:
                return {
                    Box(self.NEW).open(row.secret, webhooks.context(row.id))
                    for row in await webhooks.everyone(db)
                }

        inside(url, seal)
        is_one_line(command(tmp_path, "reseal", secret_key=self.NEW), "CLOUDARC_OTHER_SECRET_KEY")
        keys = {"secret_key": self.NEW, "other_secret_key": self.OLD}
        assert "of 2 webhooks" in command(tmp_path, "reseal", **keys).stdout
        assert inside(url, opened) == {"whsec_x"}
        assert "of 0 webhooks" in command(tmp_path, "reseal", secret_key=self.NEW).stdout
