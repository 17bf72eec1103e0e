"""Totals of lists that nobody has to count, and indexes for every filter and order."""

import sqlalchemy as sa
from alembic import op

from persistence.migrations.tallies import NEVER, drop, keep
from persistence.types import BigIntId

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

# Of each tally: its table, the number, word and day of a row that lists are filtered by, which rows count.
TALLIES = {
    "api_keys": ("api_keys", "0", "''", NEVER, "{row}.revoked_at IS NULL"),
    "articles": ("articles", "{row}.category", "''", NEVER, ""),
    "clients": ("clients", "0", "''", NEVER, "{row}.deleted_at IS NULL"),
    "deliveries": ("deliveries", "{row}.webhook_id", "{row}.status", NEVER, ""),
    "departments": ("departments", "0", "{row}.status", NEVER, ""),
    # What can become overdue.
    "due": ("invoices", "0", "''", "{row}.due_date", "{row}.status = 'unpaid'"),
    "events": ("events", "0", "{row}.event", NEVER, ""),
    "invoices": ("invoices", "0", "{row}.status", NEVER, ""),
    "products": ("products", "0", "''", NEVER, ""),
    "servers": ("servers", "0", "''", NEVER, ""),
    "services": ("services", "{row}.product_id", "{row}.status", NEVER, ""),
    "tickets": ("tickets", "{row}.department_id", "{row}.status", NEVER, ""),
    "webhooks": ("webhooks", "0", "''", NEVER, ""),
}

INDEXES = [
    ("ix_deliveries_webhook_id_status_id", "deliveries", ["webhook_id", "status", "id"]),
    ("ix_departments_status_id", "departments", ["status", "id"]),
    ("ix_invoices_status_id_due_date", "invoices", ["status", "id", "due_date"]),
    ("ix_services_product_id_status_id", "services", ["product_id", "status", "id"]),
    ("ix_tickets_department_id_status_id", "tickets", ["department_id", "status", "id"]),
]

PARTIAL = [
    ("ix_api_keys_live", "api_keys", ["id"], "revoked_at IS NULL"),
    ("ix_clients_there", "clients", ["id"], "deleted_at IS NULL"),
    ("ix_tokens_live", "tokens", ["client_id", "id"], "revoked_at IS NULL"),
]


def upgrade() -> None:
    op.create_table(
        "tallies",
        sa.Column("id", BigIntId, nullable=False),
        sa.Column("tally", sa.String(length=20), nullable=False),
        sa.Column("number", sa.BigInteger(), nullable=False),
        sa.Column("word", sa.String(length=40), nullable=False),
        sa.Column("day", sa.Date(), nullable=False),
        sa.Column("change", sa.BigInteger(), nullable=False),
        sa.Column("folded", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_tallies")),
    )
    op.create_index("ix_tallies_tally_number_word_day", "tallies", ["tally", "number", "word", "day"])
    _partial("ix_tallies_fresh", "tallies", ["id"], "NOT folded")
    for name, table, columns in INDEXES:
        op.create_index(name, table, columns)
    for name, table, columns, where in PARTIAL:
        _partial(name, table, columns, where)
    op.drop_index("ix_invoices_status_id", "invoices")
    for tally, (table, *parts) in TALLIES.items():
        keep(tally, table, (parts[0], parts[1], parts[2], parts[3]))


def downgrade() -> None:
    for tally, (table, *_) in TALLIES.items():
        drop(tally, table)
    op.create_index("ix_invoices_status_id", "invoices", ["status", "id"])
    for name, table, *_ in INDEXES + PARTIAL:
        op.drop_index(name, table)
    op.drop_table("tallies")


def _partial(name: str, table: str, columns: list[str], where: str) -> None:
    op.create_index(name, table, columns, sqlite_where=sa.text(where), postgresql_where=sa.text(where))
