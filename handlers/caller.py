"""Who is calling."""

from dataclasses import dataclass, field
from typing import Literal

from handlers.dialects import AdminDialect, ClientDialect, Dialect
from persistence.errors import Forbidden

Kind = Literal["client", "admin"]


@dataclass(frozen=True)
class Caller:
    """A live credential: a client's token, or an operator's key with its scopes.

    ``owner`` is the id of the client whose data the caller may see, None for an operator, who sees
    everyone's.
    """

    id: int
    kind: Kind
    owner: int | None = None
    scopes: frozenset[str] = field(default_factory=frozenset)
    dialect: type[Dialect] = AdminDialect

    @classmethod
    def client(cls, token_id: int, client_id: int) -> "Caller":
        return cls(token_id, "client", owner=client_id, dialect=ClientDialect)

    @classmethod
    def admin(cls, key_id: int, scopes: str) -> "Caller":
        return cls(key_id, "admin", scopes=frozenset(scopes.split()))

    @property
    def own(self) -> int:
        """The owner, for operations that the contract keeps to clients."""
        assert self.owner is not None
        return self.owner

    @property
    def ownership(self) -> dict[str, int]:
        """What a client's lists and new resources are bound to; nothing for an operator."""
        return {} if self.owner is None else {"client_id": self.owner}

    def may(self, scope: str | None) -> bool:
        """Whether the scopes allow what needs ``scope``. A client needs none: it sees only its own."""
        return scope is None or self.kind == "client" or "*" in self.scopes or scope in self.scopes

    def must(self, *scopes: str) -> None:
        """Raise Forbidden where one of ``scopes`` is lacking."""
        lacking = [scope for scope in scopes if not self.may(scope)]
        if lacking:
            raise Forbidden(f"The API key lacks the scope {lacking[0]}, so it cannot grant it.")
