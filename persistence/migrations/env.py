"""What Alembic runs: the migrations, on the connection that it is given."""

from alembic import context

from persistence.search import INDEXES
from persistence.tables import METADATA


def include(_object: object, name: str | None, kind: str, _reflected: bool, _compared: object) -> bool:
    """Leave out the full-text indexes, which the migrations write in the words of each database."""
    return not (kind == "table" and str(name).startswith(tuple(each.name for each in INDEXES)))


connection = context.config.attributes["connection"]
context.configure(
    connection=connection,
    target_metadata=METADATA,
    render_as_batch=connection.dialect.name == "sqlite",
    compare_type=True,
    include_object=include,
)
with context.begin_transaction():
    context.run_migrations()
