"""Who changed what, the operators of the panel and their sessions, versions of what they write."""

import sqlalchemy as sa
from alembic import op

from persistence.migrations.tallies import NEVER, Parts, drop, keep
from persistence.types import BigIntId, UtcDateTime

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

ACTOR = "CASE {row}.actor WHEN 'client' THEN 1 WHEN 'api_key' THEN 2 ELSE 3 END"

TALLIES: dict[str, Parts] = {
    "activity": (ACTOR, "{row}.operation", NEVER, ""),
    "announcements": ("0", "''", NEVER, ""),
    "domains": ("0", "{row}.status", NEVER, ""),
}

VERSIONED = ("domains", "articles", "announcements")


def upgrade() -> None:
    for table in VERSIONED:
        op.add_column(table, sa.Column("version", sa.BigInteger(), nullable=False, server_default="1"))
    op.create_index("ix_domains_status_id", "domains", ["status", "id"])
    op.create_table(
        "activity",
        sa.Column("id", BigIntId, nullable=False),
        sa.Column("actor", sa.String(length=10), nullable=False),
        sa.Column("actor_id", BigIntId, nullable=False),
        sa.Column("operation", sa.String(length=40), nullable=False),
        sa.Column("resource", sa.String(length=200), nullable=False),
        sa.Column("request_id", sa.String(length=64), nullable=False),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_activity")),
    )
    for column in ("actor", "operation", "resource"):
        op.create_index(f"ix_activity_{column}_id", "activity", [column, "id"])
    op.create_table(
        "operators",
        sa.Column("id", BigIntId, nullable=False),
        sa.Column("name", sa.String(length=100), nullable=False),
        sa.Column("password_hash", sa.String(length=200), nullable=False),
        sa.Column("tries", sa.Integer(), nullable=False),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_operators")),
        sa.UniqueConstraint("name", name=op.f("uq_operators_name")),
    )
    op.create_table(
        "sessions",
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("operator_id", BigIntId, nullable=False),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.Column("used_at", UtcDateTime(), nullable=False),
        sa.ForeignKeyConstraint(["operator_id"], ["operators.id"], name=op.f("fk_sessions_operator_id")),
        sa.PrimaryKeyConstraint("digest", name=op.f("pk_sessions")),
    )
    op.create_index(op.f("ix_sessions_operator_id"), "sessions", ["operator_id"])
    for table, parts in TALLIES.items():
        keep(table, table, parts)


def downgrade() -> None:
    for table in TALLIES:
        drop(table, table)
    for table in ("sessions", "operators", "activity"):
        op.drop_table(table)
    op.drop_index("ix_domains_status_id", "domains")
    for table in VERSIONED:
        op.drop_column(table, "version")
