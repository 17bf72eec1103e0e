"""Whose bucket a call falls into: that of a key, of an address, of an address that nobody vouches for.

The numbers are ArcBilling's (60 a minute for a key, 10 without one) and CloudBill's (60 a minute for an
address); each is a setting.
"""

import ipaddress
from collections.abc import Iterable
from functools import lru_cache
from typing import Literal, NamedTuple

from starlette.types import Scope

from handlers.caller import Caller
from server.transport import header

Policy = Literal["admin", "client", "public", "anonymous"]
Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

LIMITS = {
    "admin": "rate_limit_admin",
    "client": "rate_limit_client",
    "public": "rate_limit_client",
    "anonymous": "rate_limit_anonymous",
}
"""The setting that limits the calls of each policy."""


class Subject(NamedTuple):
    """Who is counted, and by which policy."""

    policy: Policy
    name: str


class Subjects:
    """Names the subject of each call; ``trusted`` are the proxies whose word about addresses is taken."""

    def __init__(self, trusted: Iterable[str] = ()) -> None:
        everybody = ("0.0.0.0/0", "::/0")
        networks = [each for name in trusted for each in (everybody if name == "*" else (name,))]
        self.trusted: list[Network] = [ipaddress.ip_network(each) for each in networks]

    def of(
        self, caller: Caller | None, scope: Scope, *, public: bool = False, unknown: bool = False
    ) -> Subject:
        """An operator's key counts for itself, everything else for its address.

        ``unknown`` is a caller whose credential could not be looked up.
        """
        if caller is not None and caller.kind == "admin":
            return Subject("admin", f"admin:{caller.id}")
        policy: Policy = "public" if public else "client" if caller is not None or unknown else "anonymous"
        return Subject(policy, f"{policy}:{self.address(scope)}")

    def address(self, scope: Scope) -> str:
        """The caller's address, of IPv6 the /64: the right-most one that no trusted proxy has."""
        peer = scope["client"][0] if scope.get("client") else ""
        if self.trusted:
            told = ",".join(header(scope, b"x-forwarded-for")).rsplit(",", MAX_PROXIES)
            while told and self._trusts(peer) and _parse(told[-1]) is not None:
                peer = told.pop()
        return _bucket(peer)

    def _trusts(self, text: str) -> bool:
        address = _parse(text)
        return address is not None and any(address in network for network in self.trusted)


MAX_PROXIES = 50
"""How many addresses of ``X-Forwarded-For`` are looked at, from the right."""

ADDRESS_LENGTH = 100
"""How many characters an address may have, with its zone and its port."""


def _parse(text: str) -> Address | None:
    """An address as proxies write it, perhaps with brackets and a port; a v4-mapped one is IPv4."""
    return _parsed(text) if len(text) <= ADDRESS_LENGTH else None


@lru_cache(4096)
def _parsed(text: str) -> Address | None:
    text = text.strip()
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


@lru_cache(4096)
def _bucket(text: str) -> str:
    address = _parse(text)
    if address is None:
        return "unknown"
    if address.version == 4:
        return str(address)
    # A single customer has a whole /64, so its addresses are one caller.
    return str(ipaddress.ip_network((address, 64), strict=False))
