"""All tables of version 0009, with their indexes, counts and full-text search.

An installation that is older than this revision was never released.
"""

from typing import Any

import sqlalchemy as sa
from alembic import op

from persistence.migrations.tallies import NEVER, keep
from persistence.types import BigIntId, Money, UtcDateTime

revision = "0009"
down_revision = None
branch_labels = None
depends_on = None

# Of each tally: its table, the number, word and day of a row that lists are filtered by, which rows count.
TALLIES = {
    "activity": (
        "activity",
        "CASE {row}.actor WHEN 'client' THEN 1 WHEN 'api_key' THEN 2 ELSE 3 END",
        "{row}.operation",
        NEVER,
        "",
    ),
    "announcements": ("announcements", "0", "''", NEVER, ""),
    "api_keys": ("api_keys", "0", "''", NEVER, "{row}.revoked_at IS NULL"),
    "articles": ("articles", "{row}.category", "''", NEVER, ""),
    "clients": ("clients", "0", "''", NEVER, "{row}.deleted_at IS NULL"),
    "deliveries": ("deliveries", "{row}.webhook_id", "{row}.status", NEVER, ""),
    "departments": ("departments", "0", "{row}.status", NEVER, ""),
    "domains": ("domains", "0", "{row}.status", NEVER, ""),
    # Only these invoices can become overdue.
    "due": ("invoices", "0", "''", "{row}.due_date", "{row}.status = 'unpaid'"),
    "events": ("events", "0", "{row}.event", NEVER, ""),
    "invoices": ("invoices", "0", "{row}.status", NEVER, ""),
    "products": ("products", "0", "''", NEVER, ""),
    "servers": ("servers", "0", "''", NEVER, ""),
    "services": ("services", "{row}.product_id", "{row}.status", NEVER, ""),
    "tickets": ("tickets", "{row}.department_id", "{row}.status", NEVER, ""),
    "webhooks": ("webhooks", "0", "''", NEVER, ""),
}

# Of each index: its table, its columns, and its condition.
INDEXES = {
    "ix_activity_actor_id": ("activity", "actor id", ""),
    "ix_activity_operation_id": ("activity", "operation id", ""),
    "ix_activity_resource_id": ("activity", "resource id", ""),
    "ix_announcements_published_at": ("announcements", "published_at", ""),
    "ix_api_keys_live": ("api_keys", "id", "revoked_at IS NULL"),
    "ix_articles_category_id": ("articles", "category id", ""),
    "ix_attempts_delivery_id_id": ("attempts", "delivery_id id", ""),
    "ix_clients_there": ("clients", "id", "deleted_at IS NULL"),
    "ix_deliveries_claim": ("deliveries", "claim", "claim IS NOT NULL"),
    "ix_deliveries_created_at": ("deliveries", "created_at", ""),
    "ix_deliveries_due": ("deliveries", "webhook_id due_at", "status = 'pending'"),
    "ix_deliveries_webhook_id_id": ("deliveries", "webhook_id id", ""),
    "ix_deliveries_webhook_id_status_id": ("deliveries", "webhook_id status id", ""),
    "ix_departments_status_id": ("departments", "status id", ""),
    "ix_domains_client_id_id": ("domains", "client_id id", ""),
    "ix_domains_status_id": ("domains", "status id", ""),
    "ix_events_created_at": ("events", "created_at", ""),
    "ix_events_event_id": ("events", "event id", ""),
    "ix_idempotency_keys_created_at": ("idempotency_keys", "created_at", ""),
    "ix_invoice_lines_invoice_id_id": ("invoice_lines", "invoice_id id", ""),
    "ix_invoices_client_id_id": ("invoices", "client_id id", ""),
    "ix_invoices_status_id_due_date": ("invoices", "status id due_date", ""),
    "ix_services_client_id_id": ("services", "client_id id", ""),
    "ix_services_product_id_id": ("services", "product_id id", ""),
    "ix_services_product_id_status_id": ("services", "product_id status id", ""),
    "ix_services_status_id": ("services", "status id", ""),
    "ix_sessions_operator_id": ("sessions", "operator_id", ""),
    "ix_tallies_fresh": ("tallies", "id", "NOT folded"),
    "ix_tallies_tally_number_word_day": ("tallies", "tally number word day", ""),
    "ix_ticket_replies_ticket_id_id": ("ticket_replies", "ticket_id id", ""),
    "ix_tickets_client_id_id": ("tickets", "client_id id", ""),
    "ix_tickets_department_id_id": ("tickets", "department_id id", ""),
    "ix_tickets_department_id_status_id": ("tickets", "department_id status id", ""),
    "ix_tickets_status_id": ("tickets", "status id", ""),
    "ix_tokens_client_id": ("tokens", "client_id", ""),
    "ix_tokens_live": ("tokens", "client_id id", "revoked_at IS NULL"),
}


def _id(name: str = "id", **options: Any) -> sa.Column[Any]:
    return sa.Column(name, BigIntId, nullable=False, **options)


def _text(name: str, length: int | None = None, nullable: bool = False) -> sa.Column[Any]:
    return sa.Column(name, sa.String(length=length) if length else sa.Text(), nullable=nullable)


def _instant(name: str, nullable: bool = False) -> sa.Column[Any]:
    return sa.Column(name, UtcDateTime(), nullable=nullable)


def _number(name: str, nullable: bool = False) -> sa.Column[Any]:
    return sa.Column(name, sa.Integer(), nullable=nullable)


def _money(name: str, nullable: bool = False) -> sa.Column[Any]:
    return sa.Column(name, Money(), nullable=nullable)


def _version() -> sa.Column[Any]:
    return sa.Column("version", sa.BigInteger(), nullable=False, server_default="1")


def _credential() -> tuple[sa.Column[Any], ...]:
    """Return the columns that tokens and API keys share."""
    dates = (
        _instant("created_at"),
        *(_instant(f"{each}_at", True) for each in ("expires", "revoked", "last_used")),
    )
    return _text("digest", 64), _text("beginning", 8), *dates


def _table(
    table_name: str,
    *parts: sa.Column[Any] | sa.Constraint,
    key: str = "id",
    unique: str = "",
    refers: str = "",
    keep_ids: bool = False,
) -> sa.Table:
    """Create a table. ``refers`` names its foreign keys, each as ``column:table``.

    ``keep_ids`` never assigns the id of a deleted row again. A reader of events would miss a reused id.
    """
    constraints: list[sa.Constraint] = [
        sa.ForeignKeyConstraint([column], [f"{target}.id"], name=op.f(f"fk_{table_name}_{column}"))
        for column, target in (each.split(":") for each in refers.split())
    ]
    if unique:
        constraints.append(sa.UniqueConstraint(unique, name=op.f(f"uq_{table_name}_{unique}")))
    constraints.append(sa.PrimaryKeyConstraint(*key.split(), name=op.f(f"pk_{table_name}")))
    options: dict[str, Any] = {"sqlite_autoincrement": True} if keep_ids else {}
    return op.create_table(table_name, *parts, *constraints, **options)


def _cascade(table: str, column: str, target: str) -> sa.ForeignKeyConstraint:
    name = op.f(f"fk_{table}_{column}_{target}")
    return sa.ForeignKeyConstraint([column], [f"{target}.id"], name=name, ondelete="CASCADE")


def upgrade() -> None:
    _create_catalog()
    _create_clients()
    _create_services_and_invoices()
    _create_tickets()
    _create_webhooks()
    _create_the_rest()
    for name, (table, columns, where) in INDEXES.items():
        condition = sa.text(where) if where else None
        op.create_index(
            op.f(name), table, columns.split(), sqlite_where=condition, postgresql_where=condition
        )
    op.create_index(
        "uq_deliveries_event_id_webhook_id", "deliveries", ["event_id", "webhook_id"], unique=True
    )
    for tally, (table, number, word, day, which) in TALLIES.items():
        keep(tally, table, (number, word, day, which))
    _create_word_indexes()
    _deliver_events()


def _create_catalog() -> None:
    _table("departments", _id(), _text("name", 100), _text("status", 20), _version())
    _table(
        "products",
        *(_id(), _text("name", 200), _text("description"), _text("kind", 50), _text("status", 20)),
        *(_money("monthly", True), _money("quarterly", True), _money("annually", True)),
        *(_text("currency", 3), _version()),
    )
    _table(
        "servers",
        *(_id(), _text("name", 100), _text("hostname", 253), _text("ip_address", 45), _text("kind", 50)),
        *(_text("status", 20), _number("capacity"), _number("used"), _version()),
    )
    _table("articles", _id(), _text("title", 255), _id("category"), _text("content"), _version())
    _table(
        "announcements",
        *(_id(), _text("title", 255), _text("content"), _instant("published_at", True), _version()),
    )


def _create_clients() -> None:
    _table(
        "clients",
        *(_id(), _text("first_name", 100), _text("last_name", 100)),
        *(_text("email", 254), _text("email_key", 1000, True)),
        *(_text("phone", 50), _text("company", 200), _text("address1", 200), _text("city", 100)),
        *(_text("state", 100), _text("postcode", 20), _text("country", 2), _text("status", 20)),
        *(_instant("created_at"), _text("password_hash", 200), _instant("deleted_at", True), _version()),
        unique="email_key",
    )
    _table("api_keys", _id(), _text("name", 100), _text("scopes", 1000), *_credential(), unique="digest")
    _table("tokens", _id(), _id("client_id"), *_credential(), refers="client_id:clients", unique="digest")


def _create_services_and_invoices() -> None:
    _table(
        "services",
        *(_id(), _id("client_id"), _id("product_id"), sa.Column("server_id", BigIntId, nullable=True)),
        *(_text("domain", 253), _text("username", 64), _text("status", 20), _text("billing_cycle", 20)),
        sa.Column("next_due_date", sa.Date(), nullable=False),
        *(_text("suspend_reason", 500), _instant("created_at"), _version()),
        refers="client_id:clients product_id:products server_id:servers",
    )
    _table(
        "domains",
        *(_id(), _id("client_id"), _text("domain", 253), _text("status", 20)),
        *(_instant("registered_at"), _instant("expires_at"), _version()),
        refers="client_id:clients",
    )
    _table(
        "invoices",
        *(_id(), _id("client_id"), _text("status", 20), _money("total"), _text("currency", 3)),
        sa.Column("due_date", sa.Date(), nullable=False),
        *(_instant("paid_at", True), _instant("created_at"), _version()),
        refers="client_id:clients",
    )
    _table(
        "invoice_lines",
        *(_id(), _id("invoice_id"), _text("description", 500), _money("amount")),
        refers="invoice_id:invoices",
    )
    _table(
        "payments",
        *(_id(), _id("invoice_id"), _money("amount"), _text("currency", 3), _instant("created_at")),
        refers="invoice_id:invoices",
        unique="invoice_id",
    )


def _create_tickets() -> None:
    _table(
        "tickets",
        *(_id(), _text("ticket_number", 12), _id("client_id"), _id("department_id"), _text("subject", 255)),
        *(_text("message"), _text("status", 20), _text("priority", 10)),
        *(_instant("created_at"), _instant("updated_at"), _version()),
        refers="client_id:clients department_id:departments",
        unique="ticket_number",
    )
    _table(
        "ticket_replies",
        *(_id(), _id("ticket_id"), _text("author", 10), _text("message"), _instant("created_at")),
        refers="ticket_id:tickets",
    )


def _create_webhooks() -> None:
    version = sa.Column("version", sa.BigInteger(), nullable=False)
    _table(
        "webhooks",
        *(_id(), _text("url", 2048), _text("events", 500), sa.Column("active", sa.Boolean(), nullable=False)),
        *(_text("disabled_reason", 200, True), _instant("failing_since", True)),
        *(_text("secret"), _text("old_secret", nullable=True), _instant("old_secret_until", True)),
        *(_instant("created_at"), version),
        unique="url",
        keep_ids=True,
    )
    _table(
        "events",
        *(_id(), _text("uid", 30), _text("event", 40), _text("base"), _instant("created_at")),
        unique="uid",
        keep_ids=True,
    )
    _table(
        "deliveries",
        *(_id(), _id("webhook_id"), sa.Column("event_id", BigIntId, nullable=True), _text("uid", 30)),
        *(_text("event", 40), _text("test_base", nullable=True), _text("status", 10), _number("tried")),
        *(_instant("due_at"), _text("claim", 32, True), _instant("created_at")),
        _cascade("deliveries", "webhook_id", "webhooks"),
        sa.ForeignKeyConstraint(["event_id"], ["events.id"], name=op.f("fk_deliveries_event_id_events")),
        keep_ids=True,
    )
    _table(
        "attempts",
        *(_id(), _id("delivery_id"), _instant("attempted_at"), _number("status", True), _number("ms")),
        *(_text("answer"), _text("error", 200, True)),
        _cascade("attempts", "delivery_id", "deliveries"),
    )


def _create_the_rest() -> None:
    settings = _table(
        "settings",
        _id(autoincrement=False),
        *(_number(f"rate_limit_{each}", True) for each in ("client", "admin", "anonymous")),
        _text("default_currency", 3, True),
        sa.Column("version", sa.BigInteger(), nullable=False),
    )
    op.bulk_insert(settings, [{"id": 1, "version": 1}])
    _table(
        "idempotency_keys",
        *(_text("caller", 40), _text("key", 255), _text("fingerprint", 64), _number("status", True)),
        *(_text("headers", nullable=True), _text("body", nullable=True), _instant("created_at")),
        key="caller key",
    )
    _table(
        "tallies",
        *(_id(), _text("tally", 20), sa.Column("number", sa.BigInteger(), nullable=False)),
        *(_text("word", 40), sa.Column("day", sa.Date(), nullable=False)),
        sa.Column("change", sa.BigInteger(), nullable=False),
        sa.Column("folded", sa.Boolean(), nullable=False),
    )
    _table(
        "activity",
        *(_id(), _text("actor", 10), _id("actor_id"), _text("operation", 40), _text("resource", 200)),
        *(_text("request_id", 64), _instant("created_at")),
    )
    _table(
        "operators",
        *(_id(), _text("name", 100), _text("password_hash", 200), _number("tries"), _instant("created_at")),
        unique="name",
    )
    _table(
        "sessions",
        *(_text("digest", 64), _id("operator_id"), _instant("created_at"), _instant("used_at")),
        key="digest",
        refers="operator_id:operators",
    )


def _create_word_indexes() -> None:
    """Create the full-text tables. Their words are folded already, so databases only split at blanks."""
    if op.get_bind().dialect.name == "sqlite":
        op.execute("CREATE VIRTUAL TABLE article_words USING fts5(title, content)")
        op.execute("CREATE VIRTUAL TABLE client_words USING fts5(words)")
        return
    op.execute(
        "CREATE TABLE article_words (rowid BIGINT PRIMARY KEY, title TEXT NOT NULL, content TEXT NOT NULL,"
        " vector TSVECTOR GENERATED ALWAYS AS (setweight(to_tsvector('simple', title), 'A')"
        " || setweight(to_tsvector('simple', content), 'B')) STORED)"
    )
    op.execute(
        "CREATE TABLE client_words (rowid BIGINT PRIMARY KEY, words TEXT NOT NULL,"
        " vector TSVECTOR GENERATED ALWAYS AS (to_tsvector('simple', words)) STORED)"
    )
    for table in ("article_words", "client_words"):
        op.execute(f"CREATE INDEX ix_{table}_vector ON {table} USING gin (vector)")


def _deliver_events() -> None:
    """Add the deliveries of an event by a trigger, in the transaction that adds the event."""
    columns = "webhook_id, event_id, uid, event, status, tried, due_at, created_at"
    values = "id, NEW.id, NEW.uid, NEW.event, 'pending', 0, NEW.created_at, NEW.created_at"
    if op.get_bind().dialect.name == "sqlite":
        op.execute(
            f"CREATE TRIGGER deliver_event AFTER INSERT ON events BEGIN INSERT INTO deliveries ({columns})"
            f" SELECT {values} FROM webhooks WHERE active AND instr(events, ' ' || NEW.event || ' ') > 0; END"
        )
        return
    # The lock waits for a webhook that is being deleted and then skips it; its foreign key would fail the
    # change. The function sees what committed while its event waited for its turn.
    op.execute(
        "CREATE FUNCTION deliver_event() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
        f" INSERT INTO deliveries ({columns}) SELECT {values} FROM webhooks"
        " WHERE active AND position(' ' || NEW.event || ' ' IN events) > 0 FOR KEY SHARE;"
        " RETURN NULL; END $$"
    )
    op.execute(
        "CREATE TRIGGER deliver_event AFTER INSERT ON events FOR EACH ROW EXECUTE FUNCTION deliver_event()"
    )


def downgrade() -> None:
    if op.get_bind().dialect.name != "sqlite":
        op.execute("DROP FUNCTION deliver_event() CASCADE")
    for table in ("article_words", "client_words"):
        op.execute(f"DROP TABLE {table}")
    children = ("attempts", "deliveries", "events", "webhooks", "sessions", "payments", "invoice_lines")
    parents = ("ticket_replies", "tickets", "invoices", "domains", "services", "tokens", "clients")
    for table in (*children, *parents):
        op.drop_table(table)
    for table in ("activity", "announcements", "api_keys", "articles", "departments", "idempotency_keys"):
        op.drop_table(table)
    for table in ("operators", "products", "servers", "settings", "tallies"):
        op.drop_table(table)
    if op.get_bind().dialect.name != "sqlite":
        for tally in TALLIES:
            op.execute(f"DROP FUNCTION tally_{tally}()")
