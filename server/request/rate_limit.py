"""The rate limit of a request: its policy, its key, its headers and its refusal.

ArcBilling allows 60 requests a minute with an API key and 10 without one. CloudBill allows 60 requests a
minute per IP address. Each number is a setting.
"""

import ipaddress
from collections.abc import Iterable
from functools import lru_cache
from typing import Literal, NamedTuple

from starlette.types import Scope

from handlers.caller import Caller
from handlers.dialects import ClientDialect, Dialect
from persistence.counters import RateLimitResult
from server.errors import Problem
from server.http.headers import header_values

Policy = Literal["admin", "client", "public", "anonymous"]
Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

LIMIT_SETTINGS = {
    "admin": "rate_limit_admin",
    "client": "rate_limit_client",
    "public": "rate_limit_client",
    "anonymous": "rate_limit_anonymous",
}
"""The setting with the limit of each policy."""


class RateLimitKey(NamedTuple):
    """The policy of a request, and the name of the counter that counts it."""

    policy: Policy
    name: str


class RateLimitKeys:
    """Derives the key of each request. ``trusted`` are the proxies whose ``X-Forwarded-For`` is believed."""

    def __init__(self, trusted: Iterable[str] = ()) -> None:
        everybody = ("0.0.0.0/0", "::/0")
        networks = [each for name in trusted for each in (everybody if name == "*" else (name,))]
        self.trusted: list[Network] = [ipaddress.ip_network(each) for each in networks]

    def of(
        self, caller: Caller | None, scope: Scope, *, public: bool = False, unknown: bool = False
    ) -> RateLimitKey:
        """Return the key of a request: an API key has its own counter, all else counts by IP address.

        ``unknown`` marks a caller whose credential could not be looked up.
        """
        if caller is not None and caller.kind == "admin":
            return RateLimitKey("admin", f"admin:{caller.id}")
        policy: Policy = "public" if public else "client" if caller is not None or unknown else "anonymous"
        return RateLimitKey(policy, f"{policy}:{self.address(scope)}")

    def address(self, scope: Scope) -> str:
        """The caller's address, of IPv6 the /64: the right-most one that no trusted proxy has."""
        peer = scope["client"][0] if scope.get("client") else ""
        if self.trusted:
            told = ",".join(header_values(scope, b"x-forwarded-for")).rsplit(",", MAX_PROXIES)
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


def rate_limited(dialect: type[Dialect], seconds: int) -> Problem:
    """Return the refusal of a caller over its limit, in the words of the document of its dialect."""
    message = "Rate limit exceeded" if dialect is ClientDialect else "Too many requests"
    return Problem(429, message, headers={"Retry-After": str(seconds)})


def rate_limit_headers(
    policy: str, limit: int, window: int, result: RateLimitResult
) -> list[tuple[bytes, bytes]]:
    """Return the headers of both documents, and those of the IETF draft, which add policy and time."""
    return [
        *_policy_headers(policy, limit, window),
        (b"x-ratelimit-remaining", b"%d" % result.remaining),
        (b"ratelimit", b'"%b";r=%d;t=%d' % (policy.encode(), result.remaining, result.seconds)),
    ]


@lru_cache(100)
def _policy_headers(policy: str, limit: int, window: int) -> tuple[tuple[bytes, bytes], ...]:
    return (
        (b"x-ratelimit-limit", b"%d" % limit),
        (b"ratelimit-policy", b'"%b";q=%d;w=%d' % (policy.encode(), limit, window)),
    )
