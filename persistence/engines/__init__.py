"""The two engines behind ``Database``, and ``connect``, which chooses one by its URL."""

import logging

from sqlalchemy.engine import make_url

from persistence.database import Database
from persistence.engines.postgresql import PostgreSQL
from persistence.engines.sqlite import SQLite
from persistence.errors import StartError

logger = logging.getLogger("cloudarc")


def connect(url: str) -> Database:
    """Return the database at ``sqlite:///path`` or ``postgresql+asyncpg://…``. Raises StartError."""
    parsed = make_url(url)
    if parsed.get_backend_name() == "sqlite" and parsed.database:
        return SQLite(parsed.database)
    if parsed.get_backend_name() == "postgresql":
        return PostgreSQL(parsed)
    raise StartError(
        "CLOUDARC_DATABASE_URL: use sqlite:///path/to/file.db or postgresql+asyncpg://user:password@host/name."
    )
