"""Whoever is to be told of an event is written down with it, by the database itself."""

from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

COLUMNS = "webhook_id, event_id, uid, event, status, tried, due_at, created_at"
VALUES = "id, NEW.id, NEW.uid, NEW.event, 'pending', 0, NEW.created_at, NEW.created_at"


def upgrade() -> None:
    if op.get_bind().dialect.name == "sqlite":
        op.execute(
            f"CREATE TRIGGER deliver_event AFTER INSERT ON events BEGIN INSERT INTO deliveries ({COLUMNS})"
            f" SELECT {VALUES} FROM webhooks WHERE active AND instr(events, ' ' || NEW.event || ' ') > 0; END"
        )
        return
    # A webhook that is being deleted is waited for and then left out, where the foreign key would fail the
    # change. The function sees what was committed while its event waited for its turn.
    op.execute(
        "CREATE FUNCTION deliver_event() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
        f" INSERT INTO deliveries ({COLUMNS}) SELECT {VALUES} FROM webhooks"
        " WHERE active AND position(' ' || NEW.event || ' ' IN events) > 0 FOR KEY SHARE;"
        " RETURN NULL; END $$"
    )
    op.execute(
        "CREATE TRIGGER deliver_event AFTER INSERT ON events FOR EACH ROW EXECUTE FUNCTION deliver_event()"
    )


def downgrade() -> None:
    if op.get_bind().dialect.name == "sqlite":
        op.execute("DROP TRIGGER deliver_event")
        return
    op.execute("DROP TRIGGER deliver_event ON events")
    op.execute("DROP FUNCTION deliver_event()")
