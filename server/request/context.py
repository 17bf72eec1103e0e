"""The context of one request: what the layers have learned about it so far."""

from dataclasses import dataclass, field

from starlette.types import Scope

from handlers.caller import Caller
from handlers.dialects import AdminDialect, Dialect
from persistence.counters import RateLimitResult
from server.request.plan import Plan
from server.request.routes import Match


@dataclass(slots=True)
class RequestContext:
    """What the server knows about one request. The edge keeps it in the extensions of the ASGI scope.

    ``started`` is a time of ``time.perf_counter``. ``status`` is 0 until the response begins.
    """

    request_id: str
    started: float
    match: Match | None = None
    plan: Plan | None = None
    caller: Caller | None = None
    dialect: type[Dialect] = AdminDialect
    audience: str | None = None
    """The audience whose methods ``Allow`` lists: that of the credential, or None for both."""
    rate_limit: RateLimitResult | None = None
    rate_limit_headers: list[tuple[bytes, bytes]] = field(default_factory=list)
    body_requested: bool = False
    status: int = 0
    page: str = "-"

    @property
    def operation(self) -> str:
        """The operationId, or the name of the panel's page, or "-"."""
        return self.plan.id if self.plan else self.page


def context_of(scope: Scope) -> RequestContext:
    """Return the context that the edge put into an ASGI scope."""
    context: RequestContext = scope["extensions"]["cloudarc"]
    return context
