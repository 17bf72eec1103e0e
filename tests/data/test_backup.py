"""A backup holds the whole database, restores into either kind, and a damaged one changes nothing."""

import asyncio
import gzip
import hashlib
import io
import json
import stat
import subprocess
import sys
import tracemalloc
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest
from sqlalchemy import delete, func, insert, select

from persistence import (
    backup,
    clients,
    departments,
    domains,
    invoices,
    listing,
    migrations,
    operators,
    webhooks,
)
from persistence.database import Database
from persistence.engines import connect
from persistence.errors import Conflict
from persistence.sealing import Box, start_mac
from persistence.search import INDEXES
from persistence.tables import METADATA
from server.process.clock import now
from tests.conftest import new_database
from tests.operations.test_command_line import command, environment, is_one_line, served
from tests.support.contract_client import Api
from tests.support.live_server import CLIENT, assembled, prepared, serving

NAMES = [each.name for each in backup._tables()]
KEY = "a secret key that only this file knows"


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
    inside(url, lambda database: backup.dump(database, file, now(), KEY, progress))
    return file.getvalue()


def filled(url: str, raw: bytes, *keys: str) -> int:
    migrations.upgrade(url)
    file = io.BytesIO(raw)
    return int(inside(url, lambda database: backup.restore(database, file, keys or [KEY], ignore)))


async def _content(database: Database) -> dict[str, list[tuple[Any, ...]]]:
    async with database.reading() as db:
        return {
            each.name: [
                tuple(row) for row in await db.fetch_all(select(*each.c).order_by(*backup._key(each)))
            ]
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
        words = {each.name for each in INDEXES}
        assert set(NAMES) == {*METADATA.tables} - left_out | words

    @pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
    def test_a_restored_database_is_served_as_the_first_was(
        self, seeded: str, raw: bytes, make: Make, kind: str
    ) -> None:
        url = make(kind)
        filled(url, raw)

        async def total(database: Database) -> tuple[int, int]:
            async with database.reading() as db:
                counted = await db.fetch_all(select(func.count().label("n")).select_from(invoices.Invoice))
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
                await db.execute(delete(webhooks.Webhook))

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
        query = select(func.count().label("n")).select_from(listing.Tally).where(~listing.COUNTS.c.folded)

        async def fresh(database: Database) -> int:
            async with database.reading() as db:
                return int((await db.fetch_all(query))[0].n)

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
                    await db.execute(insert(departments.Department).values(name="Late", status="active"))
                    await db.execute(delete(domains.Domain))

            def progress(done: int, total: int) -> None:
                if not tasks:
                    tasks.append(asyncio.create_task(write()))

            await backup.dump(database, file, now(), KEY, progress)
            await asyncio.gather(*tasks)
            assert await _content(database) != before
            await database.close()
            await other.close()
            rows = {each: len(rows) for each, rows in before.items()}
            assert orjson.loads(lines(file.getvalue())[0])["rows"] == rows
            return file.getvalue()

        raw = asyncio.run(work())
        assert b"Late" not in gzip.decompress(raw)


Change = Callable[[list[bytes]], list[bytes]]


def altered(raw: bytes, change: Change) -> bytes:
    return gzip.compress(b"".join(change(lines(raw))), 1)


def signed(content: list[bytes], key: str = KEY) -> bytes:
    """A file with the MAC that a holder of the key would give these lines."""
    mac = start_mac(key)[1]
    mac.update(b"".join(content))
    return gzip.compress(b"".join([*content, backup._last_line(mac)]), 1)


async def refused(database: Database, raw: bytes, *keys: str, told: backup.Progress = ignore) -> str:
    """Why a file is not restored."""
    with pytest.raises(backup.Damaged) as raised:
        await backup.restore(database, io.BytesIO(raw), keys or [KEY], told)
    why = str(raised.value)
    assert "nothing was changed" in why and "\n" not in why and len(why) < 500
    return why


def reasons(url: str, raws: dict[str, bytes]) -> dict[str, str]:
    """Why each of these files is not restored; the empty database stays as it is."""

    async def work(database: Database) -> dict[str, str]:
        before = await _content(database)
        assert [name for name, rows in before.items() if rows] == ["settings"]
        found: dict[str, str] = {}
        for name, raw in raws.items():
            try:
                found[name] = await refused(database, raw)
            except BaseException as error:
                error.add_note(f"the file is: {name}")
                raise
        # What one had written would have been in the way of the next.
        assert await _content(database) == before
        return found

    result: dict[str, str] = inside(url, work)
    return result


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "cut": lambda raw: raw[: len(raw) // 2],
    "cut to a line": lambda raw: altered(raw, lambda all_: all_[: len(all_) // 2]),
    "cut inside the last line": lambda raw: altered(raw, lambda all_: [*all_[:-1], all_[-1][:-1]]),
    "without its last line": lambda raw: altered(raw, lambda all_: all_[:-1]),
    "without its CRC": lambda raw: raw[:-8],
    "a row less": lambda raw: altered(raw, lambda all_: [*all_[:3], *all_[4:]]),
    "another text": lambda raw: altered(
        raw, lambda all_: [each.replace(b"Technical Support", b"Technical support") for each in all_]
    ),
    "a bit": lambda raw: raw[:2000] + bytes([raw[2000] ^ 1]) + raw[2001:],
    "empty": lambda raw: b"",
    "no gzip": lambda raw: b"CREATE TABLE",
    "no backup": lambda raw: gzip.compress(b"[]\n"),
    "no JSON": lambda raw: gzip.compress(b"\x00\n"),
    "an endless line": lambda raw: gzip.compress(b" " * backup.MAX_LINE + b"\n", 1),
    "with more behind": lambda raw: altered(raw, lambda all_: [*all_, b"[]\n"]),
    "with another file behind": lambda raw: raw + raw,
    "with bytes behind": lambda raw: raw + b"x",
}


def edits(content: bytes, step: int) -> Iterator[tuple[str, bytes]]:
    """A byte flipped, put in and taken out, at every so many places."""
    for place in range(0, len(content), step):
        before, byte, after = content[:place], content[place], content[place + 1 :]
        yield f"flipped at {place}", before + bytes([byte ^ 1]) + after
        yield f"put in at {place}", before + b"1" + content[place:]
        yield f"taken out at {place}", before + after


class TestDamage:
    def test_a_damaged_one_is_refused_and_changes_nothing(self, raw: bytes, empty: str) -> None:
        found = reasons(empty, {name: damage(raw) for name, damage in DAMAGES.items()})
        assert "longer than 8 MiB" in found["an endless line"]

    def test_an_edit_of_any_byte_is_refused(self, raw: bytes, empty: str) -> None:
        text = gzip.decompress(raw)
        end = len(text) - len(lines(raw)[-1])
        places = dict(edits(text, len(text) // 60))
        places |= {f"{name} of the last line": text[:end] + line for name, line in edits(text[end:], 7)}
        assert len(places) > 150
        reasons(empty, {name: gzip.compress(each, 1) for name, each in places.items()})

    def test_an_edit_of_what_is_compressed_is_refused_or_changes_nothing_in_it(
        self, raw: bytes, empty: str
    ) -> None:
        text, changed = gzip.decompress(raw), {}
        for name, each in edits(raw, len(raw) // 60):
            try:
                # Of the header of gzip some bytes say nothing about the content.
                if gzip.decompress(each) == text:
                    continue
            except Exception:  # noqa: S110  It is damaged, whatever gzip says.
                pass
            changed[name] = each
        assert len(changed) > 150
        reasons(empty, changed)

    def test_it_goes_into_an_empty_database_only(self, seeded: str, raw: bytes) -> None:
        before = content(seeded)
        with pytest.raises(Conflict, match="not empty"):
            filled(seeded, raw)
        assert content(seeded) == before


class TestKey:
    def test_a_file_is_restored_with_either_of_two_keys(self, make: Make, raw: bytes, backend: str) -> None:
        url = make(backend)
        assert filled(url, raw, "n" * 40, KEY) > 1000

    def test_without_its_key_the_setting_and_the_way_out_are_named(self, raw: bytes, empty: str) -> None:
        async def work(database: Database) -> str:
            return await refused(database, raw, "n" * 40, "o" * 40)

        why = inside(empty, work)
        for word in ("another secret key", "CLOUDARC_SECRET_KEY", "CLOUDARC_OTHER_SECRET_KEY", "secret.key"):
            assert word in why

    def test_an_edited_file_needs_the_key(self, raw: bytes, empty: str) -> None:
        """Whoever edits it can compute any digest, and can name the key, which is in the file."""
        edited = [each.replace(b"Technical Support", b"Technical support") for each in lines(raw)[:-1]]
        assert edited != lines(raw)[:-1]
        digest = hashlib.sha256(b"".join(edited)).hexdigest().encode()
        found = reasons(
            empty,
            {
                "a digest": altered(raw, lambda _: [*edited, b'{"sha256":"' + digest + b'"}\n']),
                "a digest as MAC": altered(raw, lambda _: [*edited, b'{"mac":"' + digest + b'"}\n']),
                "another key": signed(edited, "n" * 40),
            },
        )
        assert all("altered" in why for why in found.values())

    def test_no_row_is_written_before_the_mac_is_verified(self, raw: bytes, empty: str) -> None:
        last = altered(raw, lambda all_: [*all_[:-1], all_[-1].replace(b"a", b"b").replace(b"1", b"2")])
        told: list[int] = []

        async def work(database: Database) -> str:
            return await refused(database, last, told=lambda done, total: told.append(done))

        assert "altered" in inside(empty, work)
        assert told == []

    def test_a_file_that_changes_after_that_is_refused(self, raw: bytes, empty: str) -> None:
        room = 2 * len(raw)
        edited = [each.replace(b"Technical Support", b"Technical support") for each in lines(raw)]
        other = gzip.compress(b"".join(edited), 1).ljust(room, b"\0")

        class Changing(io.BytesIO):
            def seek(self, place: int, whence: int = 0) -> int:
                self.getbuffer()[:] = other
                return super().seek(place, whence)

        async def work(database: Database) -> None:
            with pytest.raises(backup.Damaged, match="altered"):
                await backup.restore(database, Changing(raw.ljust(room, b"\0")), [KEY], ignore)

        inside(empty, work)
        assert [name for name, rows in content(empty).items() if rows] == ["settings"]


BOMB = 256 * 1024 * 1024


@pytest.mark.parametrize("place", ["head", "row", "end"])
def test_a_line_that_unpacks_to_much_costs_little_memory(raw: bytes, empty: str, place: str) -> None:
    own = lines(raw)
    before = b"".join({"head": [], "row": own[:3], "end": own}[place])
    file = io.BytesIO()
    with gzip.GzipFile(fileobj=file, mode="wb", compresslevel=1) as packed:
        packed.write(before)
        for _ in range(BOMB // 2**20):
            packed.write(bytes(2**20))

    async def work(database: Database) -> None:
        tracemalloc.start()
        try:
            await refused(database, file.getvalue())
            assert tracemalloc.get_traced_memory()[1] < 4 * backup.MAX_LINE
        finally:
            tracemalloc.stop()

    inside(empty, work)


# What no column and no member of the first line holds, as JSON.
WRONG: dict[str, bytes] = {
    "true": b"true",
    "a fraction": b"1.5",
    "a negative number": b"-1",
    "65 bits": str(2**64).encode(),
    "64 bits": str(2**63).encode(),
    "1000 digits": b"1" * 1000,
    "an exponent": b"1e999",
    "NaN": b"NaN",
    "an array": b"[]",
    "arrays": b"[[1],[2]]",
    "a deep array": b"[" * 100_000 + b"]" * 100_000,
    "an object": b'{"a":{"b":[]}}',
    "a deep object": b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
    "half a pair": b'"\\ud800"',
    "no UTF-8": b'"\xff"',
    "nothing": b"",
}


def with_value(line: Any, value: bytes) -> bytes:
    """A line whose member that is "@" has another value."""
    return json.dumps(line).encode().replace(b'"@"', value) + b"\n"


def heads(own: list[bytes]) -> dict[str, list[bytes]]:
    """First lines that are none."""
    head, found = orjson.loads(own[0]), {}
    for name in head:
        found[f"{name} left out"] = orjson.dumps({k: v for k, v in head.items() if k != name}) + b"\n"
        for kind, value in (WRONG | {"null": b"null", "a text": b'"x"', "an empty text": b'""'}).items():
            found[f"{name} is {kind}"] = with_value(head | {name: "@"}, value)
    for name in ("rows", "given"):
        for kind, value in (WRONG | {"null": b"null", "a text": b'"1"', "1.0": b"1.0"}).items():
            found[f"a count of {name} is {kind}"] = with_value(
                head | {name: head[name] | {"clients": "@"}}, value
            )
    others = {name: count for name, count in head["rows"].items() if name != "clients"}
    found["a table less"] = orjson.dumps(head | {"rows": others}) + b"\n"
    found["a table more"] = orjson.dumps(head | {"rows": head["rows"] | {"x": 0}}) + b"\n"
    found["an unknown table"] = orjson.dumps(head | {"rows": others | {"x": head["rows"]["clients"]}}) + b"\n"
    for name, more in (("a row more", 1), ("a row less", -1), ("2^62 rows more", 2**62)):
        counts = head["rows"] | {"clients": head["rows"]["clients"] + more}
        found[name] = orjson.dumps(head | {"rows": counts}) + b"\n"
    found["of format 1"] = orjson.dumps(head | {"cloudarc": 1}) + b"\n"
    found["of a newer format"] = orjson.dumps(head | {"cloudarc": backup.FORMAT + 1}) + b"\n"
    found["of another revision"] = orjson.dumps(head | {"revision": "0001"}) + b"\n"
    for kind, value in WRONG.items():
        found[f"{kind} in its place"] = value + b"\n"
    return {name: [line, *own[1:]] for name, line in found.items()}


def rows(own: list[bytes]) -> dict[str, list[bytes]]:
    """Rows and beginnings of tables that are none, one for each kind of column."""
    begins = {
        orjson.loads(line)["table"]: nth for nth, line in enumerate(own) if line.startswith(b'{"table"')
    }
    kinds: dict[str, tuple[int, int]] = {}
    for table in backup._tables():
        first = begins[table.name] + 1
        if own[first].startswith(b"["):
            for nth, column in enumerate(table.c):
                if orjson.loads(own[first])[nth] is not None:
                    kinds.setdefault(type(column.type).__name__, (first, nth))
    assert len(kinds) >= 7
    places: dict[str, tuple[int, bytes]] = {}
    for kind, (first, nth) in kinds.items():
        row = orjson.loads(own[first])
        for name, value in WRONG.items():
            # Other values of the right kind are no fault of the file.
            right = {"true": "Boolean", "a negative number": "Integer"}.get(name, "-")
            if right not in kind:
                places[f"{kind} is {name}"] = (
                    first,
                    with_value([*row[:nth], "@", *row[nth + 1 :]], value),
                )
    first = begins["clients"] + 1
    row = orjson.loads(own[first])
    places["a value less"] = first, orjson.dumps(row[:-1]) + b"\n"
    places["a value more"] = first, orjson.dumps([*row, None]) + b"\n"
    nth = [each.name for each in clients.Client.__table__.c].index("first_name")
    places["null where there is a text"] = first, orjson.dumps([*row[:nth], None, *row[nth + 1 :]]) + b"\n"
    places["a row twice"] = first + 1, own[first]
    for name, value in (WRONG | {"null": b"null", "a text": b'"x"'}).items():
        places[f"a row is {name}"] = first, value + b"\n"
        places[f"a table is {name}"] = first - 1, value + b"\n"
    places["another table"] = first - 1, own[begins["products"]]
    found = {name: [*own[:nth], line, *own[nth + 1 :]] for name, (nth, line) in places.items()}
    invoice = begins["invoices"] + 1
    columns = orjson.loads(own[invoice - 1])["columns"]
    lost = orjson.loads(own[invoice])
    lost[columns.index("client_id")] = 2**40
    found["a row of nobody"] = [*own[:invoice], orjson.dumps(lost) + b"\n", *own[invoice + 1 :]]
    return found


class TestMalformed:
    """Files that a holder of the key has made, as no version does."""

    def test_a_malformed_first_line_is_refused(self, raw: bytes, empty: str) -> None:
        raws = {name: signed(each) for name, each in heads(lines(raw)[:-1]).items()}
        assert len(raws) > 150
        found = reasons(empty, raws)
        assert "format 1" in found["of format 1"] and "Make a new one" in found["of format 1"]
        assert "newer version" in found["of a newer format"]
        assert "revision 0001" in found["of another revision"]
        assert "rows of its first line" in found["a count of rows is a text"]

    def test_a_malformed_row_is_refused(self, raw: bytes, empty: str) -> None:
        raws = {name: signed(each) for name, each in rows(lines(raw)[:-1]).items()}
        assert len(raws) > 100
        found = reasons(empty, raws)
        assert "the database refuses a row of clients" in found["a row twice"]
        assert "a row of clients is malformed" in found["a value less"]

    def test_what_nobody_changed_is_restored(self, raw: bytes, make: Make, backend: str) -> None:
        """Else the tests before this one would hold whatever was signed."""
        url = make(backend)
        assert filled(url, signed(lines(raw)[:-1])) > 1000


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
        is_one_line(command(elsewhere, "restore", str(file)), "CLOUDARC_SECRET_KEY")
        key = (tmp_path / "var" / "secret.key").read_text().strip()
        restored = command(elsewhere, "restore", str(file), other_secret_key=key)
        assert restored.returncode == 0 and "rows are restored" in restored.stdout
        with served(elsewhere) as (_, base):
            api = Api(base, CLIENT)
            assert api.get("/services").json()["data"][0]["product_name"] == "Business Hosting"
            api.close()
        is_one_line(command(elsewhere, "restore", str(file), secret_key=key), "not empty")

    def test_the_file_is_for_its_owner_alone_whatever_the_umask(self, tmp_path: Path) -> None:
        command(tmp_path, "migrate")
        file = tmp_path / "copy.gz"
        program = [sys.executable, "-m", "server", "backup", str(file)]
        subprocess.run(program, env=environment(tmp_path), umask=0, check=True, capture_output=True)
        assert stat.S_IMODE(file.stat().st_mode) == 0o600

    def test_no_link_is_followed_and_no_draft_is_left(self, tmp_path: Path) -> None:
        command(tmp_path, "migrate")
        (tmp_path / "target").write_bytes(b"kept")
        for name, target in (("link", "target"), ("dangling", "none")):
            (tmp_path / name).symlink_to(tmp_path / target)
            is_one_line(command(tmp_path, "backup", str(tmp_path / name)), name)
        assert (tmp_path / "target").read_bytes() == b"kept"
        assert {each.name for each in tmp_path.iterdir()} == {"var", "target", "link", "dangling"}

    def test_a_pipe_is_refused_in_one_line(self, tmp_path: Path) -> None:
        """It could not be verified before it is restored."""
        command(tmp_path, "migrate")
        command(tmp_path, "backup", str(tmp_path / "copy.gz"))
        result = subprocess.run(
            [sys.executable, "-m", "server", "restore", "/dev/stdin"],
            env=environment(tmp_path),
            input=(tmp_path / "copy.gz").read_bytes(),
            capture_output=True,
            check=False,
        )
        assert (result.returncode, result.stderr.count(b"\n")) == (2, 1)
        assert b"cannot be read" in result.stderr and b"seek" in result.stderr

    def test_mistakes_are_one_line(self, tmp_path: Path) -> None:
        command(tmp_path, "migrate")
        there = tmp_path / "there"
        there.touch()
        is_one_line(command(tmp_path, "backup", str(there)), str(there), "exists")
        is_one_line(command(tmp_path, "backup", str(tmp_path / "no" / "folder")), "cannot be written")
        is_one_line(command(tmp_path, "restore", str(tmp_path / "none")), "cannot be read")
        is_one_line(command(tmp_path, "restore", str(there)), "is not a backup")
        assert there.read_bytes() == b""


class TestReseal:
    OLD, NEW = "o" * 40, "n" * 40

    def test_secrets_move_from_one_key_to_the_other(self, tmp_path: Path) -> None:
        command(tmp_path, "seed", "--demo")
        url = f"sqlite:///{tmp_path / 'var' / 'cloudarc.db'}"

        async def seal(database: Database) -> None:
            async with database.transaction() as db:
                for row in await webhooks.all_webhooks(db):
                    await webhooks.seal(db, row.id, Box(self.OLD).seal("whsec_x", webhooks.context(row.id)))

        async def opened(database: Database) -> set[str]:
            async with database.reading() as db:
                return {
                    Box(self.NEW).open(row.secret, webhooks.context(row.id))
                    for row in await webhooks.all_webhooks(db)
                }

        inside(url, seal)
        is_one_line(command(tmp_path, "reseal", secret_key=self.NEW), "CLOUDARC_OTHER_SECRET_KEY")
        keys = {"secret_key": self.NEW, "other_secret_key": self.OLD}
        assert "of 2 webhooks" in command(tmp_path, "reseal", **keys).stdout
        assert inside(url, opened) == {"whsec_x"}
        assert "of 0 webhooks" in command(tmp_path, "reseal", secret_key=self.NEW).stdout
