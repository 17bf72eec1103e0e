"""A row of the tables: one request, and all that must be true of its answer."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from tests.raw.raw_client import DialectName


@dataclass(frozen=True)
class Row:
    """A request on a connection of its own.

    ``dialect`` is that of the error, None for a success. ``at`` is where a fault must be told to lie,
    ``allow`` the methods of a 405, ``written`` how many tickets and invoices are made. ``usable`` says
    that the connection answers another request, ``closed`` that the server says so and closes it.
    """

    id: str
    request: bytes
    status: int
    dialect: DialectName | None = None
    after: Literal["usable", "closed"] = "usable"
    at: tuple[str, str] | None = None
    allow: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    written: int = 0

    @property
    def method(self) -> str:
        return self.request.partition(b" ")[0].decode("latin-1")
