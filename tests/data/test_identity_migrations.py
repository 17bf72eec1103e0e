"""What older versions let in: names are rewritten, nothing is merged, and ``doctor`` lists what clashes."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from sqlalchemy import Connection, text

from persistence import clients, domains, migrations, operators, services
from persistence.database import Database
from persistence.engines import connect
from persistence.errors import Conflict
from server.commands.doctor import database as doctor_database
from server.commands.doctor.database import check_names
from server.commands.doctor.findings import Finding
from server.process.clock import now
from tests.conftest import new_database

# By id: the address, and the key of the version before.
CLIENTS = {
    1: ("straße@old.example", "strasse@old.example"),
    2: ("José@old.example", "josé@old.example"),
    3: ("jose\u0301@old.example", "jose\u0301@old.example"),
    4: ("a@bücher.example", "a@bücher.example"),
    5: ("a@xn--bcher-kva.example", "a@xn--bcher-kva.example"),
    6: ("look@old.example\u00a0", "look@old.example\u00a0"),
    7: ("look@old.example", "look@old.example"),
    8: ("gone@old.example", None),
    # The new key of the first is the old key of the second, whose own key changes.
    9: ("s@straße.example", "s@strasse.example"),
    10: ("ſ@xn--strae-oqa.example", "s@xn--strae-oqa.example"),
    # The sign for kelvin is composed to the letter.
    11: ("\u212a@old.example", "k@old.example"),
}
KEYS = {
    1: "straße@old.example",
    2: "josé@old.example",
    3: None,
    4: None,
    5: "a@xn--bcher-kva.example",
    6: None,
    7: "look@old.example",
    8: None,
    9: "s@xn--strae-oqa.example",
    10: "ſ@xn--strae-oqa.example",
    11: "k@old.example",
}

DOMAINS = {
    1: ("Example.COM", "active"),
    2: ("example.com", "pending"),
    3: ("EXAMPLE.com", "cancelled"),
    4: ("münchen.example", "active"),
    5: ("xn--mnchen-3ya.example", "expired"),
    6: ("http://x.example", "active"),
    7: ("http://x.example", "active"),
    8: ("alone.example", "active"),
}
# By id: domain, username, server and status.
SERVICES = {
    1: ("Site.example", "site", 1, "active"),
    2: ("site.example", "", 1, "suspended"),
    3: ("site.example", "", 1, "terminated"),
    4: ("", "root; rm -rf /", 1, "active"),
    5: ("", "site", 1, "active"),
    6: ("", "site", 2, "active"),
    7: ("", "", 1, "active"),
    8: ("", "", 1, "active"),
}


def move(url: str, revision: str) -> None:
    """Take a database to a revision, up or down."""

    def work(connection: Connection) -> None:
        settings = migrations.config()
        settings.attributes["connection"] = connection
        back = (migrations._revision(connection) or "") > revision
        (command.downgrade if back else command.upgrade)(settings, revision)

    migrations._with_connection(url, work)


def fill(connection: Connection) -> None:
    """Insert the rows of an installation of version 0011."""
    run = connection.execute
    for id, (email, key) in CLIENTS.items():
        run(
            text(
                "INSERT INTO clients (id, first_name, last_name, email, email_key, password_hash, phone,"
                " company, address1, city, state, postcode, country, status, created_at)"
                " VALUES (:id, 'A', 'B', :email, :key, '', '', '', '', '', '', '', '', 'active',"
                " '2024-01-01 10:00:00')"
            ),
            {"id": id, "email": email, "key": key},
        )
    run(text("UPDATE clients SET deleted_at = '2024-01-02 10:00:00' WHERE id = 8"))
    run(
        text(
            "INSERT INTO products (id, name, description, kind, status, currency)"
            " VALUES (1, 'P', '', 'k', 'active', 'USD')"
        )
    )
    for id in (1, 2):
        run(
            text(
                "INSERT INTO servers (id, name, hostname, ip_address, kind, status, capacity, used)"
                " VALUES (:id, 's', 'Web-1.Example.NET', '192.0.2.1', 'k', 'active', 100, 10)"
            ),
            {"id": id},
        )
    for id, (name, status) in DOMAINS.items():
        run(
            text(
                "INSERT INTO domains (id, client_id, domain, status, registered_at, expires_at)"
                " VALUES (:id, 1, :name, :status, '2024-01-01 10:00:00', '2035-01-01 10:00:00')"
            ),
            {"id": id, "name": name, "status": status},
        )
    for id, (name, username, server, status) in SERVICES.items():
        run(
            text(
                "INSERT INTO services (id, client_id, product_id, server_id, domain, username, status,"
                " billing_cycle, next_due_date, suspend_reason, created_at) VALUES (:id, 1, 1,"
                " :server, :name, :username, :status, 'monthly', '2035-01-31', '', '2024-01-01 10:00:00')"
            ),
            {"id": id, "name": name, "username": username, "server": server, "status": status},
        )
    for id, name in ((1, "Jose\u0301"), (2, " ada"), (3, "ada")):
        run(
            text(
                "INSERT INTO operators (id, name, password_hash, created_at)"
                " VALUES (:id, :name, '', '2024-01-01 10:00:00')"
            ),
            {"id": id, "name": name},
        )


@pytest.fixture
def url(backend: str, tmp_path: Path, request: pytest.FixtureRequest) -> str:
    """A database with rows of version 0011, brought to the newest."""
    postgres = request.getfixturevalue("postgres") if backend == "postgresql" else None
    made = new_database(backend, tmp_path, postgres)
    move(made, "0011")
    migrations._with_connection(made, fill)
    migrations.upgrade(made)
    if backend == "postgresql":
        migrations._with_connection(made, _set_sequences)
    return made


def _set_sequences(connection: Connection) -> None:
    for table in ("clients", "domains", "services", "operators"):
        connection.execute(
            text(f"SELECT setval(pg_get_serial_sequence('{table}', 'id'), (SELECT max(id) FROM {table}))")
        )


def run(url: str, work: Callable[[Database], Awaitable[Any]]) -> Any:
    async def inside() -> Any:
        database = connect(url)
        await database.open()
        try:
            return await work(database)
        finally:
            await database.close()

    return asyncio.run(inside())


def rows(url: str, query: str) -> list[tuple[Any, ...]]:
    return migrations._with_connection(
        url, lambda connection: [tuple(each) for each in connection.execute(text(query))]
    )


class TestClients:
    def test_each_has_the_key_of_its_address_and_of_two_that_are_one_the_first(self, url: str) -> None:
        assert dict(rows(url, "SELECT id, email_key FROM clients")) == KEYS
        emails = {id: email for id, (email, _) in CLIENTS.items()}
        assert dict(rows(url, "SELECT id, email FROM clients")) == emails

    def test_a_clash_ends_when_an_address_is_changed(self, url: str) -> None:
        async def work(database: Database) -> None:
            with pytest.raises(Conflict):
                async with database.transaction() as db:
                    await clients.update(db, 3, {"email": CLIENTS[3][0]})
            async with database.transaction() as db:
                changed = await clients.update(db, 3, {"email": "other@old.example"})
            assert changed.email_key == "other@old.example"

        run(url, work)

    def test_going_back_gives_the_old_keys(self, url: str) -> None:
        move(url, "0011")
        keys = dict(rows(url, "SELECT id, email_key FROM clients"))
        assert keys == {id: key for id, (_, key) in CLIENTS.items()}


class TestDomains:
    def test_names_are_a_labels_and_the_first_of_two_is_held_to_the_rule(self, url: str) -> None:
        found = {id: tuple(rest) for id, *rest in rows(url, "SELECT id, domain, clashes FROM domains")}
        munich = "xn--mnchen-3ya.example"
        assert found == {
            1: ("example.com", False),
            2: ("example.com", True),
            3: ("example.com", False),
            4: (munich, False),
            5: (munich, True),
            6: ("http://x.example", False),
            7: ("http://x.example", True),
            8: ("alone.example", False),
        }

    def test_the_others_are_held_to_it_from_their_next_change_on(self, url: str) -> None:
        async def work(database: Database) -> None:
            async with database.transaction() as db:
                await domains.update(db, 2, {"expires_at": now()})
            with pytest.raises(Conflict):
                async with database.transaction() as db:
                    await domains.update(db, 2, {"status": "active"})
            async with database.transaction() as db:
                await domains.update(db, 1, {"status": "cancelled"})
                changed = await domains.update(db, 2, {"status": "active"})
            assert not changed.clashes

        run(url, work)


class TestServices:
    def test_the_first_of_two_is_held_to_the_rule(self, url: str) -> None:
        found = {id: bool(clashes) for id, clashes in rows(url, "SELECT id, clashes FROM services")}
        assert found == {1: False, 2: True, 3: False, 4: False, 5: True, 6: False, 7: False, 8: False}
        assert dict(rows(url, "SELECT id, domain FROM services WHERE id < 3")) == {
            1: "site.example",
            2: "site.example",
        }
        assert set(rows(url, "SELECT hostname FROM servers")) == {("web-1.example.net",)}

    def test_a_new_one_is_refused(self, url: str) -> None:
        async def work(database: Database) -> None:
            with pytest.raises(Conflict, match="domain"):
                async with database.transaction() as db:
                    await self.create(db, domain="SITE.example", username="")

        run(url, work)

    async def create(self, db: Any, **names: str) -> None:
        await db.execute(text("UPDATE products SET monthly = 100"))
        await services.create(db, client_id=1, product_id=1, billing_cycle="monthly", **names, now=now())


class TestOperators:
    def test_names_are_composed_and_a_clash_stays(self, url: str) -> None:
        assert dict(rows(url, "SELECT id, name FROM operators")) == {1: "José", 2: " ada", 3: "ada"}

        async def work(database: Database) -> Any:
            async with database.reading() as db:
                return await operators.find(db, "José")

        assert run(url, work).id == 1


class TestDoctor:
    def test_it_lists_every_clash_with_its_ids_and_a_way_out(self, url: str) -> None:
        async def work(database: Database) -> list[Finding]:
            async with database.reading() as db:
                return [each async for each in check_names(db)]

        found = run(url, work)
        assert {each.level for each in found} == {"advice"}
        assert all(each.advice for each in found)
        texts = [each.text for each in found]
        assert [text for text in texts if text.startswith(("client", "the email"))] == [
            "clients 2 and 3 have one email address in two spellings",
            "clients 5 and 4 have one email address in two spellings",
            "the email of client 6 is not an address",
        ]
        assert [each.text.split()[1] for each in found if each.subject == "domains"] == ["2", "5", "7"]
        assert [each.text.split()[1] for each in found if each.subject == "services"] == ["2", "5"]
        assert [each.subject for each in found].count("operators") == 1
        assert all(text.isascii() for text in texts)

    def test_of_very_many_some_are_listed(self, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(doctor_database, "MOST_LISTED", 1)

        async def work(database: Database) -> list[str]:
            async with database.reading() as db:
                return [each.text async for each in check_names(db)]

        texts = run(url, work)
        assert texts.count("there are more than 1 of these") == 3
