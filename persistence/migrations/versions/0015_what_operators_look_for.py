"""What operators look for: phone numbers, domains, user names and days that invoices are due."""

import sqlalchemy as sa
from alembic import op

from persistence.clients import phone_key
from persistence.migrations.tallies import drop, keep

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None

INDEXES = [
    ("ix_clients_phone_key_id", "clients", ["phone_key", "id"]),
    ("ix_domains_domain_id", "domains", ["domain", "id"]),
    ("ix_invoices_due_date_id", "invoices", ["due_date", "id"]),
    ("ix_invoices_status_due_date_id", "invoices", ["status", "due_date", "id"]),
    ("ix_services_domain_id", "services", ["domain", "id"]),
    ("ix_services_username_id", "services", ["username", "id"]),
]

AT_ONCE = 5_000

CLIENTS = sa.table("clients", sa.column("id", sa.BigInteger), sa.column("phone"), sa.column("phone_key"))


def upgrade() -> None:
    op.add_column("clients", sa.Column("phone_key", sa.String(length=8), nullable=False, server_default=""))
    _fill()
    for name, table, columns in INDEXES:
        op.create_index(name, table, columns)
    drop("due", "invoices")
    keep("due_dates", "invoices", ("0", "{row}.status", "{row}.due_date", ""))


def downgrade() -> None:
    drop("due_dates", "invoices")
    keep("due", "invoices", ("0", "''", "{row}.due_date", "{row}.status = 'unpaid'"))
    for name, table, _ in INDEXES:
        op.drop_index(name, table)
    # Not as a batch, which makes the table anew and loses its triggers.
    op.drop_column("clients", "phone_key")


def _fill() -> None:
    connection, last = op.get_bind(), 0
    query = sa.select(CLIENTS.c.id, CLIENTS.c.phone).where(CLIENTS.c.phone != "")
    change = (
        sa.update(CLIENTS)
        .where(CLIENTS.c.id == sa.bindparam("key", type_=sa.BigInteger))
        .values(phone_key=sa.bindparam("digits"))
    )
    while rows := connection.execute(
        query.where(CLIENTS.c.id > last).order_by(CLIENTS.c.id).limit(AT_ONCE)
    ).fetchall():
        last = rows[-1].id
        connection.execute(change, [{"key": row.id, "digits": phone_key(row.phone)} for row in rows])
