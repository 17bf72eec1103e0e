"""One live record of a domain, one live service of a domain, and one of a username on a server.

Names become A-labels in lower case, where they are host names at all. Of rows that have one name the first is
held to the rule; the others are marked, and ``doctor`` lists them.
"""

import sqlalchemy as sa
from alembic import op

from persistence.identity import hostname

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None

BATCH = 1_000

# Table, name of the unique index, its columns, and which rows it is of.
UNIQUE = (
    ("domains", "uq_domains_domain", ["domain"], "status <> 'cancelled'"),
    ("services", "uq_services_domain", ["domain"], "status <> 'terminated' AND domain <> ''"),
    (
        "services",
        "uq_services_server_id_username",
        ["server_id", "username"],
        "status <> 'terminated' AND username <> ''",
    ),
)


def upgrade() -> None:
    for table, column in (("domains", "domain"), ("services", "domain"), ("servers", "hostname")):
        _rename(sa.table(table, sa.column("id", sa.BigInteger), sa.column(column)), column)
    for table in ("domains", "services"):
        op.add_column(table, sa.Column("clashes", sa.Boolean(), nullable=False, server_default=sa.false()))
    for table, _, columns, live in UNIQUE:
        names = ", ".join(columns)
        op.execute(
            f"UPDATE {table} SET clashes = {'1' if _sqlite() else 'true'} WHERE id IN (SELECT id FROM"
            f" (SELECT id, row_number() OVER (PARTITION BY {names} ORDER BY id) AS nth FROM {table}"
            f" WHERE {live}) AS numbered WHERE nth > 1)"
        )
    for table, name, columns, live in UNIQUE:
        status, _, rest = live.partition(" AND ")
        where = sa.text(f"{status} AND NOT clashes" + (f" AND {rest}" if rest else ""))
        op.create_index(name, table, columns, unique=True, sqlite_where=where, postgresql_where=where)
    for table in ("domains", "services"):
        where = sa.text("clashes")
        op.create_index(f"ix_{table}_clashes", table, ["id"], sqlite_where=where, postgresql_where=where)


def _sqlite() -> bool:
    return bool(op.get_bind().dialect.name == "sqlite")


def _rename(table: sa.TableClause, column: str) -> None:
    """Write names as they are kept from now on; what is no host name stays as it is."""
    connection, last = op.get_bind(), 0
    query = sa.select(table.c.id, table.c[column].label("name")).order_by(table.c.id).limit(BATCH)
    mine = table.c.id == sa.bindparam("row", type_=sa.BigInteger)
    update = sa.update(table).where(mine).values({column: sa.bindparam("name", type_=sa.String)})
    while rows := connection.execute(query.where(table.c.id > last)).fetchall():
        last = rows[-1].id
        known = [(row.id, row.name, hostname(row.name)) for row in rows if row.name]
        if new := [{"row": id, "name": name} for id, old, name in known if name and name != old]:
            connection.execute(update, new)


def downgrade() -> None:
    for table, name, _, _ in UNIQUE:
        op.drop_index(name, table)
    for table in ("domains", "services"):
        op.drop_index(f"ix_{table}_clashes", table)
        op.drop_column(table, "clashes")
