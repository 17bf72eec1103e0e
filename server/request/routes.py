"""Find the operation that a path and a method lead to."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from urllib.parse import unquote_to_bytes

from handlers.dialects import Dialect
from server.errors import Problem
from server.request import security
from server.request.plan import Plan

MOST_PATHS = 4_096
PATH_LENGTH = 200
"""The number of paths whose match is cached, and the greatest length of one."""


@dataclass(frozen=True)
class Match:
    """The operations of a path, by method, and the values of the path's parameters."""

    plans: Mapping[str, Plan]
    segments: tuple[str, ...]

    def allowed(self, kind: str | None) -> str:
        """Return the value of ``Allow`` for a kind of caller, or for all callers if ``kind`` is None."""
        mine = [each for each in self.plans.values() if each.public or kind is None or kind in each.audiences]
        names = sorted({each.method.upper() for each in mine})
        return ", ".join(["GET", "HEAD"] * ("GET" in names) + [name for name in names if name != "GET"])

    def for_method(self, method: str) -> Plan | None:
        return self.plans.get("get" if method == "HEAD" else method.lower())

    @cached_property
    def public(self) -> bool:
        return all(each.public for each in self.plans.values())

    @cached_property
    def sole_dialect(self) -> type[Dialect] | None:
        """The dialect of a path whose operations admit a single kind of caller, else None."""
        kinds = {kind for each in self.plans.values() for kind in each.audiences}
        return security.DIALECTS[kinds.pop()] if len(kinds) == 1 else None


class Routes:
    """The paths of the contract. A request is matched by the segments of its raw path."""

    def __init__(self, base_path: str) -> None:
        self.base = tuple(base_path.split("/")[1:])
        # Most requests repeat a few thousand paths.
        self._cached = lru_cache(MOST_PATHS)(self._match)
        self.fixed: dict[tuple[str, ...], dict[str, Plan]] = {}
        self.open: list[tuple[tuple[str | None, ...], dict[str, Plan]]] = []

    def add(self, plan: Plan) -> None:
        parts = tuple(None if part.startswith("{") else part for part in plan.path.split("/")[1:])
        if None not in parts:
            self.fixed.setdefault(tuple(part or "" for part in parts), {})[plan.method] = plan
            return
        for known, plans in self.open:
            if known == parts:
                plans[plan.method] = plan
                return
        self.open.append((parts, {plan.method: plan}))

    def match(self, raw_path: bytes) -> Match | None:
        """Return the operations of a path and the texts of its parameters, or None."""
        return (self._cached if len(raw_path) <= PATH_LENGTH else self._match)(raw_path)

    def _match(self, raw_path: bytes) -> Match | None:
        # Split before decoding, so that %2F stays inside its segment.
        nothing, *segments = raw_path.split(b"/")
        parts = tuple(_segment(part) for part in segments)
        if nothing or parts[: len(self.base)] != self.base:
            return None
        parts = parts[len(self.base) :]
        plans = self.fixed.get(parts)
        if plans is not None:
            return Match(plans, ())
        for known, plans in self.open:
            if len(known) == len(parts) and all(
                name is None or name == part for name, part in zip(known, parts, strict=True)
            ):
                given = tuple(part for name, part in zip(known, parts, strict=True) if name is None)
                return Match(plans, given) if all(given) else None
        return None


def _segment(raw: bytes) -> str:
    return (unquote_to_bytes(raw) if b"%" in raw else raw).decode("utf-8", errors="replace")


def refuse_route(match: Match | None, audience: str | None) -> Problem:
    """Return the refusal of a request without an operation: 404, or 405 with the allowed methods."""
    if match is None:
        return Problem(404, "Resource not found")
    return Problem(
        405,
        "This method is not allowed here.",
        headers={"Allow": match.allowed(audience)},
    )
