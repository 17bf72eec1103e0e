"""Every noun: passwords and deletion of clients, domains, articles, announcements, full-text search."""

import sqlalchemy as sa
from alembic import op

from persistence.types import BigIntId, UtcDateTime

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table("clients") as batch:
        batch.alter_column("email_key", type_=sa.String(length=1000))
        batch.add_column(sa.Column("password_hash", sa.String(length=200), nullable=False, server_default=""))
        batch.add_column(sa.Column("deleted_at", UtcDateTime(), nullable=True))
    with op.batch_alter_table("clients") as batch:
        batch.alter_column("password_hash", server_default=None)
    op.create_table(
        "domains",
        sa.Column("id", BigIntId, nullable=False),
        sa.Column("client_id", BigIntId, nullable=False),
        sa.Column("domain", sa.String(length=253), nullable=False),
        sa.Column("status", sa.String(length=20), nullable=False),
        sa.Column("registered_at", UtcDateTime(), nullable=False),
        sa.Column("expires_at", UtcDateTime(), nullable=False),
        sa.ForeignKeyConstraint(["client_id"], ["clients.id"], name=op.f("fk_domains_client_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_domains")),
    )
    op.create_index("ix_domains_client_id_id", "domains", ["client_id", "id"])
    op.create_table(
        "articles",
        sa.Column("id", BigIntId, nullable=False),
        sa.Column("title", sa.String(length=255), nullable=False),
        sa.Column("category", BigIntId, nullable=False),
        sa.Column("content", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_articles")),
    )
    op.create_index("ix_articles_category_id", "articles", ["category", "id"])
    op.create_table(
        "announcements",
        sa.Column("id", BigIntId, nullable=False),
        sa.Column("title", sa.String(length=255), nullable=False),
        sa.Column("content", sa.Text(), nullable=False),
        sa.Column("published_at", UtcDateTime(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_announcements")),
    )
    op.create_index(op.f("ix_announcements_published_at"), "announcements", ["published_at"])
    # Words are folded before they come here (persistence/search.py); the databases only split at blanks.
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
    op.execute("CREATE INDEX ix_article_words_vector ON article_words USING gin (vector)")
    op.execute("CREATE INDEX ix_client_words_vector ON client_words USING gin (vector)")


def downgrade() -> None:
    op.execute("DROP TABLE client_words")
    op.execute("DROP TABLE article_words")
    op.drop_table("announcements")
    op.drop_table("articles")
    op.drop_table("domains")
    with op.batch_alter_table("clients") as batch:
        batch.drop_column("deleted_at")
        batch.drop_column("password_hash")
        batch.alter_column("email_key", type_=sa.String(length=600))
