"""The number of a ticket's replies, the long texts of kept answers, and events that hold no long text."""

import json

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

EXCERPT = 5_000

EVENTS = sa.table("events", sa.column("id", sa.BigInteger), sa.column("event"), sa.column("base", sa.Text))


def upgrade() -> None:
    op.add_column("tickets", sa.Column("reply_count", sa.BigInteger(), nullable=False, server_default="0"))
    op.execute(
        "UPDATE tickets SET reply_count ="
        " (SELECT count(*) FROM ticket_replies WHERE ticket_replies.ticket_id = tickets.id)"
    )
    op.create_table(
        "kept_texts",
        sa.Column("caller", sa.String(length=40), nullable=False),
        sa.Column("day", sa.Date(), nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("sealed", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("caller", "day", "digest", name=op.f("pk_kept_texts")),
    )
    op.create_index("ix_kept_texts_day", "kept_texts", ["day"])
    _cut_events()


def _cut_events() -> None:
    """Cut the messages of events, as the contract now bounds them. Their ids tell what is done."""
    connection, last = op.get_bind(), 0
    long = sa.func.length(EVENTS.c.base) > EXCERPT
    query = sa.select(EVENTS.c.id, EVENTS.c.base).where(EVENTS.c.event.like("ticket.%"), long)
    while rows := connection.execute(
        query.where(EVENTS.c.id > last).order_by(EVENTS.c.id).limit(100)
    ).fetchall():
        last = rows[-1].id
        for row in rows:
            content = json.loads(row.base)
            message = content["data"]["message"]
            if len(message) > EXCERPT:
                content["data"]["message"] = f"{message[: EXCERPT - 1]}…"
                base = json.dumps(content, ensure_ascii=False, separators=(",", ":"))
                connection.execute(sa.update(EVENTS).where(EVENTS.c.id == row.id).values(base=base))


def downgrade() -> None:
    op.drop_table("kept_texts")
    with op.batch_alter_table("tickets") as batch:
        batch.drop_column("reply_count")
