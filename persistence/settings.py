"""Settings that an operator changes at run time: one row, and a copy in each process."""

import asyncio
import logging
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import BigInteger, String, func, select
from sqlalchemy.orm import Mapped, mapped_column

from persistence.database import Connection, Database, Row
from persistence.errors import Unavailable
from persistence.statements import require, update_row
from persistence.types import Base, BigIntId

logger = logging.getLogger("cloudarc")

REFRESH_SECONDS = 2.0
"""The contract promises 5; the rest is for a database that is slow to answer."""


class StoredSettings(Base):
    """Null is what was never set: the server's default holds."""

    __tablename__ = "settings"

    # There is one row, which the migration makes.
    id: Mapped[int] = mapped_column(BigIntId, primary_key=True, autoincrement=False)
    rate_limit_client: Mapped[int | None]
    rate_limit_admin: Mapped[int | None]
    rate_limit_anonymous: Mapped[int | None]
    default_currency: Mapped[str | None] = mapped_column(String(3))
    version: Mapped[int] = mapped_column(BigInteger)


@dataclass(frozen=True)
class RuntimeSettings:
    """The settings that hold. Limits are calls a minute, 0 being none; ``version`` counts the changes."""

    rate_limit_client: int = 0
    rate_limit_admin: int = 0
    rate_limit_anonymous: int = 0
    default_currency: str = "USD"
    version: int = 0


NO_LIMITS = RuntimeSettings()

ID = 1

TABLE = StoredSettings.__table__

GET = select(TABLE).where(TABLE.c.id == ID)

# Held, so that nothing is changed between the look at what holds and the change.
HOLD = GET.with_for_update()

CURRENCY = (
    select(func.coalesce(TABLE.c.default_currency, NO_LIMITS.default_currency))
    .where(TABLE.c.id == ID)
    .scalar_subquery()
)
"""The default currency, for a statement that writes it into a row."""


async def get(db: Connection, defaults: RuntimeSettings) -> RuntimeSettings:
    """The settings; what was never set is as in ``defaults``."""
    return _values(await require(db, GET, "settings"), defaults)


async def update(
    db: Connection,
    values: Mapping[str, Any],
    defaults: RuntimeSettings,
    versions: Collection[int] | None = None,
) -> RuntimeSettings:
    """Set the named ones, if they are in one of ``versions``, None being any. Raises PreconditionFailed."""
    before = _values(await require(db, HOLD, "settings"), defaults)
    # One that was never set, and is to become what its default is, is no change.
    new = {name: value for name, value in values.items() if value != getattr(before, name)}
    return _values(await update_row(db, StoredSettings, "settings", ID, new, versions), defaults)


def _values(row: Row, defaults: RuntimeSettings) -> RuntimeSettings:
    known = {name: value for name, value in row._asdict().items() if name != "id" and value is not None}
    return replace(defaults, **known)


class LiveSettings:
    """The settings as one process holds them: ``values``, which may be as old as ``interval`` seconds."""

    def __init__(
        self, database: Database, defaults: RuntimeSettings, interval: float = REFRESH_SECONDS
    ) -> None:
        self.database = database
        self.defaults = defaults
        self.interval = interval
        self.values = defaults

    async def refresh(self) -> None:
        """Read them once; while the database does not answer, those known hold."""
        try:
            async with self.database.reading() as db:
                self.values = await get(db, self.defaults)
        except Unavailable as error:
            logger.warning("the settings could not be read: %s", error)

    async def keep_fresh(self) -> None:
        """Read them for ever, whatever happens."""
        while True:
            await asyncio.sleep(self.interval)
            try:
                await self.refresh()
            except Exception:
                logger.exception("the settings could not be read")
