"""Tokens and keys that can be managed: how they begin, and when they were used."""

import sqlalchemy as sa
from alembic import op

from persistence.types import UtcDateTime

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

TABLES = ("tokens", "api_keys")


def upgrade() -> None:
    for table in TABLES:
        with op.batch_alter_table(table) as batch:
            batch.add_column(sa.Column("beginning", sa.String(length=8), nullable=False, server_default=""))
            batch.add_column(sa.Column("last_used_at", UtcDateTime(), nullable=True))
        with op.batch_alter_table(table) as batch:
            batch.alter_column("beginning", server_default=None)


def downgrade() -> None:
    for table in TABLES:
        with op.batch_alter_table(table) as batch:
            batch.drop_column("last_used_at")
            batch.drop_column("beginning")
