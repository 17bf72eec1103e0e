"""Fill an empty database with the demo data."""

from collections.abc import Callable

from sqlalchemy import func, insert, select, text

from persistence import credentials
from persistence.api_keys import ApiKey
from persistence.clients import Client
from persistence.database import Connection, Database
from persistence.demo.credentials import ADMIN_KEY, CLIENT_TOKEN, OPERATOR_HASH, OTHER_CLIENT_TOKEN
from persistence.demo.rows import build, words
from persistence.errors import Conflict
from persistence.operators import Operator
from persistence.products import Product
from persistence.tokens import Token


async def empty(db: Connection) -> bool:
    """Whether nothing has been kept yet."""
    for table in (Client, Product, ApiKey):
        row = await db.fetch_one(select(func.count().label("total")).select_from(table))
        if row is None or row.total:
            return False
    return True


async def present(db: Connection) -> bool:
    """Whether one of the demo credentials is kept."""
    for table, secret in ((Token, CLIENT_TOKEN), (Token, OTHER_CLIENT_TOKEN), (ApiKey, ADMIN_KEY)):
        column = table.__table__.c.digest
        if await db.fetch_one(select(column).where(column == credentials.digest(secret))) is not None:
            return True
    column = Operator.__table__.c.password_hash
    return await db.fetch_one(select(column).where(column == OPERATOR_HASH)) is not None


async def seed(database: Database, progress: Callable[[int, int], None] | None = None) -> None:
    """Fill an empty database; ``progress`` is told how many rows are done, and how many there are.

    Raises Conflict where it is not empty.
    """
    async with database.transaction() as db:
        if not await empty(db):
            raise Conflict("The database is not empty; demo data goes into an empty one only.")
        tables = build()
        for index, rows in words(tables):
            await db.execute_many(index.insert, rows)
        done, total = 0, sum(map(len, tables.values()))
        for table, rows in tables.items():
            done += len(rows)
            if progress:
                progress(done, total)
            await db.execute_many(insert(table).values(dict.fromkeys(rows[0])), rows)
            if database.dialect.name == "postgresql":
                name = table.__tablename__
                await db.fetch_all(
                    text(f"SELECT setval(pg_get_serial_sequence('{name}', 'id'), max(id)) FROM {name}")  # noqa: S608  a table's own name
                )
