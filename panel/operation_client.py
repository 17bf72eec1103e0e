"""Call operations as a client of the API does, in the same process."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol
from urllib.parse import parse_qs

from handlers.caller import Caller


@dataclass(frozen=True)
class OperationResult:
    """An answer in the operator's dialect."""

    status: int
    body: dict[str, Any]
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        return self.status < 300

    @property
    def data(self) -> Any:
        """The object or the rows."""
        return self.body.get("data")

    @property
    def message(self) -> str:
        """Why it was refused."""
        return str(self.body["error"]["message"])

    @property
    def faults(self) -> dict[str, str]:
        """The messages of a refusal by the names of fields, such as ``items.0.amount``."""
        found: dict[str, str] = {}
        for each in self.body["error"].get("details", ()):
            # Beside its field a fault needs no name, which is not the field's label anyway.
            message = re.sub(r"^The \w+ field ", "This ", each["message"])
            found.setdefault(each["pointer"].removeprefix("/").replace("/", "."), message)
        return found

    @property
    def etag(self) -> str:
        return self.headers.get("ETag", "")

    @property
    def more(self) -> bool:
        """Whether there is a next page."""
        return "Link" in self.headers

    @property
    def next_after(self) -> str | None:
        """The cursor of the next page, or None."""
        target = self.headers.get("Link", "").partition(">")[0]
        return parse_qs(target.partition("?")[2]).get("after", [None])[0]


class OperationClient(Protocol):
    """Runs the plan of an operation. Raises what is no refusal."""

    async def __call__(
        self,
        operation_id: str,
        caller: Caller,
        *,
        path: Sequence[str] = (),
        query: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        body: Any = None,
        request_id: str = "",
    ) -> OperationResult: ...


@dataclass
class PanelContext:
    """One request of the panel, as far as it has got; the server logs it."""

    request_id: str
    page: str = "-"
    caller: Caller | None = None
