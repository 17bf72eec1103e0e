"""What Alembic runs: the migrations, on the connection that it is given."""

from alembic import context

from persistence import api_keys, clients, departments, invoices, products, servers, services, tickets, tokens
from persistence.database import Base

NOUNS = (api_keys, clients, departments, invoices, products, servers, services, tickets, tokens)

connection = context.config.attributes["connection"]
context.configure(
    connection=connection,
    target_metadata=Base.metadata,
    render_as_batch=connection.dialect.name == "sqlite",
    compare_type=True,
)
with context.begin_transaction():
    context.run_migrations()
