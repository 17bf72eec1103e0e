"""Servers: where services have their places."""

from collections.abc import Collection
from typing import Any

from sqlalchemy import BigInteger, Float, String, bindparam, cast, select
from sqlalchemy import update as sql_update
from sqlalchemy.orm import Mapped, mapped_column

from persistence.database import Connection, Row
from persistence.errors import Conflict
from persistence.identity import require_hostname
from persistence.listing import CountedBy, Listing, Page
from persistence.statements import insert_returning, require, require_version, update_row, where_id
from persistence.types import Base, BigIntId, version_column


class Server(Base):
    __tablename__ = "servers"

    id: Mapped[int] = mapped_column(BigIntId, primary_key=True)
    name: Mapped[str] = mapped_column(String(100))
    hostname: Mapped[str] = mapped_column(String(253))
    ip_address: Mapped[str] = mapped_column(String(45))
    kind: Mapped[str] = mapped_column(String(50))
    status: Mapped[str] = mapped_column(String(20))
    capacity: Mapped[int]
    used: Mapped[int]
    version: Mapped[int] = version_column()


TABLE = Server.__table__

_FREE = (
    select(TABLE.c.id)
    .where(TABLE.c.kind == bindparam("of_kind"), TABLE.c.status == "active", TABLE.c.used < TABLE.c.capacity)
    .order_by(cast(TABLE.c.used, Float) / TABLE.c.capacity, TABLE.c.id)
    .limit(1)
)

FREE = _FREE

TAKE = (
    sql_update(Server)
    .values(used=TABLE.c.used + 1, version=TABLE.c.version + 1)
    .where(TABLE.c.id == _FREE.scalar_subquery(), TABLE.c.status == "active", TABLE.c.used < TABLE.c.capacity)
    .returning(TABLE.c.id)
)

RELEASE = (
    sql_update(Server)
    .values(used=TABLE.c.used - 1, version=TABLE.c.version + 1)
    .where(TABLE.c.id == bindparam("server", type_=BigInteger), TABLE.c.used > 0)
)


GET = where_id(select(TABLE), TABLE.c.id)

# Held, so that no place is taken between the look at what is used and the change.
HOLD = GET.with_for_update()

LIST = Listing(select(TABLE), TABLE.c.id, tallied=[CountedBy("servers")])

INSERT = insert_returning(Server, "name", "hostname", "ip_address", "kind", "status", "capacity", "used")


async def page(db: Connection, **where: Any) -> Page:
    """A page of servers, newest first."""
    return await LIST.page(db, **where)


async def get(db: Connection, id: int) -> Row:
    """The server. Raises NotFound."""
    return await require(db, GET, "server", id=id)


async def create(db: Connection, values: dict[str, Any]) -> Row:
    """Add a server without services; ``values`` are columns. Raises Conflict."""
    return await require(db, INSERT, "server", **_columns(values), used=0)


def _columns(values: dict[str, Any]) -> dict[str, Any]:
    """Return the values as they are kept. Raises Conflict where the host name is none."""
    return (
        values | {"hostname": require_hostname("hostname", values["hostname"])}
        if "hostname" in values
        else values
    )


async def update(
    db: Connection, id: int, values: dict[str, Any], versions: Collection[int] | None = None
) -> Row:
    """Set the named columns of a server, if it is in one of ``versions``.

    Raises NotFound, PreconditionFailed, Conflict.
    """
    server = await require(db, HOLD, "server", id=id)
    require_version(server, "server", versions)
    if values.get("capacity", server.used) < server.used:
        raise Conflict(f"The server has {server.used} services; its capacity cannot be less.")
    return await update_row(db, Server, "server", id, _columns(values))


async def take_place(db: Connection, kind: str) -> int:
    """Take a place on the least loaded active server of a kind; answers the server's id.

    The server is chosen before its row is locked. Where others took its last place meanwhile, the
    update changes nothing, and the choice is made anew for as long as there is a free place at all.
    Raises Conflict.
    """
    while await db.fetch_one(FREE, of_kind=kind) is not None:
        taken = await db.fetch_one(TAKE, of_kind=kind)
        if taken is not None:
            return int(taken.id)
    raise Conflict("No server for this product has a free place.")


async def release_place(db: Connection, server_id: int) -> None:
    """Give a place back."""
    await db.execute(RELEASE, server=server_id)
