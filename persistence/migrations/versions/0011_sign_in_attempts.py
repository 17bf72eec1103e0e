"""Failed attempts to sign in, which delay the next one, instead of a lock."""

import sqlalchemy as sa
from alembic import op

from persistence.types import UtcDateTime

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "sign_in_attempts",
        sa.Column("name", sa.String(length=100), nullable=False),
        sa.Column("source", sa.String(length=64), nullable=False),
        sa.Column("failures", sa.Integer(), nullable=False),
        sa.Column("next_at", UtcDateTime(), nullable=False),
        sa.Column("updated_at", UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("name", "source", name=op.f("pk_sign_in_attempts")),
    )
    op.create_index("ix_sign_in_attempts_updated_at", "sign_in_attempts", ["updated_at"])
    op.drop_column("operators", "tries")


def downgrade() -> None:
    op.add_column("operators", sa.Column("tries", sa.Integer(), nullable=False, server_default="0"))
    op.drop_table("sign_in_attempts")
