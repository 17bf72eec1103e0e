"""Settings that are changed at run time, in one row."""

import sqlalchemy as sa
from alembic import op

from persistence.types import BigIntId

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    settings = op.create_table(
        "settings",
        sa.Column("id", BigIntId, autoincrement=False, nullable=False),
        sa.Column("rate_limit_client", sa.Integer(), nullable=True),
        sa.Column("rate_limit_admin", sa.Integer(), nullable=True),
        sa.Column("rate_limit_anonymous", sa.Integer(), nullable=True),
        sa.Column("default_currency", sa.String(length=3), nullable=True),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_settings")),
    )
    op.bulk_insert(settings, [{"id": 1, "version": 1}])


def downgrade() -> None:
    op.drop_table("settings")
