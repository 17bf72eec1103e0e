"""The caller of an operation."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from textwrap import shorten
from typing import Literal

from handlers.dialects import AdminDialect, ClientDialect, Dialect
from persistence.errors import Forbidden

Kind = Literal["client", "admin"]
Actor = Literal["client", "api_key", "operator"]


@dataclass(frozen=True)
class Caller:
    """A live credential: a client's token, an operator's key with its scopes, or an operator of the panel.

    ``id`` is the token's, the key's or the operator's.
    ``client_id`` is the id of the client whose data the caller may see, None for an operator, who sees
    everyone's.
    ``expires_at`` is when an API key expires, None where it does not.
    """

    id: int
    kind: Kind
    client_id: int | None = None
    scopes: frozenset[str] = field(default_factory=frozenset)
    dialect: type[Dialect] = AdminDialect
    actor: Actor = "api_key"
    expires_at: datetime | None = None

    @classmethod
    def client(cls, token_id: int, client_id: int) -> "Caller":
        return cls(token_id, "client", client_id=client_id, dialect=ClientDialect, actor="client")

    @classmethod
    def admin(cls, key_id: int, scopes: str, expires_at: datetime | None = None) -> "Caller":
        return cls(key_id, "admin", scopes=frozenset(scopes.split()), expires_at=expires_at)

    @classmethod
    def operator(cls, operator_id: int) -> "Caller":
        """Somebody who has signed in to the panel and may do everything."""
        return cls(operator_id, "admin", scopes=frozenset({"*"}), actor="operator")

    @property
    def actor_id(self) -> int:
        """The id of the actor: of the client whatever its token, of the API key, or of the operator."""
        return self.client_id or self.id

    @property
    def key_id(self) -> int | None:
        """The id of the API key, if it is one."""
        return self.id if self.actor == "api_key" else None

    @property
    def require_client_id(self) -> int:
        """The owner, for operations that the contract keeps to clients."""
        assert self.client_id is not None
        return self.client_id

    @property
    def client_filter(self) -> dict[str, int]:
        """The filter of a client's lists and new resources. It is empty for an operator."""
        return {} if self.client_id is None else {"client_id": self.client_id}

    def has_scope(self, scope: str | None) -> bool:
        """Return whether the caller has a scope. A client needs none, since it sees only its own data."""
        return scope is None or self.kind == "client" or "*" in self.scopes or scope in self.scopes

    def require_scopes(self, scopes: Iterable[str], task: str) -> None:
        """Raise Forbidden unless the caller has every one of ``scopes``, which ``task`` takes."""
        lacking = sorted({scope for scope in scopes if not self.has_scope(scope)})
        if lacking:
            # The contract bounds a message at 500 characters.
            names = shorten(", ".join(lacking), 380, placeholder=" and more")
            raise Forbidden(f"The API key lacks {names}, so it cannot {task}; use a key with more scopes.")

    def require_grantable(self, scopes: Iterable[str], expires_at: datetime | None, task: str) -> None:
        """Raise Forbidden where a new credential would do more or live longer than the caller."""
        self.require_scopes(scopes, task)
        if self.expires_at and (expires_at is None or expires_at > self.expires_at):
            end = AdminDialect.instant(self.expires_at)
            raise Forbidden(f"The API key expires at {end}; give an expires_at that is not later.")
