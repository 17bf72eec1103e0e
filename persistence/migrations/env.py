"""What Alembic runs: the migrations, on the connection that it is given."""

import importlib
import pkgutil

from alembic import context

import persistence
from persistence.database import Base

# Every noun's tables are known once its module is.
for module in pkgutil.iter_modules(persistence.__path__, "persistence."):
    if not module.ispkg:
        importlib.import_module(module.name)


def include(_object: object, name: str | None, kind: str, _reflected: bool, _compared: object) -> bool:
    """Leave out the full-text indexes, which the migrations write in the words of each database."""
    return not (kind == "table" and str(name).startswith(("article_words", "client_words")))


connection = context.config.attributes["connection"]
context.configure(
    connection=connection,
    target_metadata=Base.metadata,
    render_as_batch=connection.dialect.name == "sqlite",
    compare_type=True,
    include_object=include,
)
with context.begin_transaction():
    context.run_migrations()
