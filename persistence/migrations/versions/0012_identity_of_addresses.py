"""Clients are told apart by ``identity.email_key``, operators by ``identity.operator_name``.

Two clients whose addresses turn out to be one are not merged: the second has no key, and ``doctor`` lists it.
"""

from collections.abc import Callable, Iterator
from typing import Any

import sqlalchemy as sa
from alembic import op

from persistence.identity import email_key, operator_name

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

BATCH = 1_000

CLIENTS = sa.table(
    "clients",
    sa.column("id", sa.BigInteger),
    sa.column("email"),
    sa.column("email_key"),
    sa.column("deleted_at"),
)
OPERATORS = sa.table("operators", sa.column("id", sa.BigInteger), sa.column("name"))

WITHOUT_KEY = sa.text("deleted_at IS NULL AND email_key IS NULL")


def upgrade() -> None:
    _set_keys(email_key)
    op.create_index(
        "ix_clients_without_key",
        "clients",
        ["id"],
        sqlite_where=WITHOUT_KEY,
        postgresql_where=WITHOUT_KEY,
    )
    connection = op.get_bind()
    for row in connection.execute(sa.select(OPERATORS)).fetchall():
        name = operator_name(row.name)
        taken = sa.select(OPERATORS.c.id).where(OPERATORS.c.name == name)
        if name != row.name and not connection.execute(taken).fetchall():
            connection.execute(sa.update(OPERATORS).where(OPERATORS.c.id == row.id).values(name=name))


def downgrade() -> None:
    op.drop_index("ix_clients_without_key", "clients")
    _set_keys(str.casefold)


def _set_keys(key: Callable[[str], str | None]) -> None:
    """Give each client the key of its address, unless another client has it."""
    connection = op.get_bind()
    known = ((row, key(row.email)) for row in _clients())
    changed = [{"client": row.id, "new": new} for row, new in known if new != row.email_key]
    if not changed:
        return
    mine = CLIENTS.c.id == sa.bindparam("client", type_=sa.BigInteger)
    # First no row has a key that is to change, since another row may get that very key.
    connection.execute(sa.update(CLIENTS).where(mine).values(email_key=None), _only(changed, "client"))
    other = CLIENTS.alias("other")
    new = sa.bindparam("new", type_=sa.String)
    taken = sa.exists().where(other.c.email_key == new)
    connection.execute(sa.update(CLIENTS).where(mine, ~taken).values(email_key=new), changed)


def _clients() -> Iterator[Any]:
    connection, last = op.get_bind(), 0
    query = sa.select(CLIENTS).where(CLIENTS.c.deleted_at.is_(None)).order_by(CLIENTS.c.id).limit(BATCH)
    while rows := connection.execute(query.where(CLIENTS.c.id > last)).fetchall():
        last = rows[-1].id
        yield from rows


def _only(rows: list[dict[str, Any]], name: str) -> list[dict[str, Any]]:
    return [{name: row[name]} for row in rows]
