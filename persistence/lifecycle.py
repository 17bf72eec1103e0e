"""From which states a verb may start, and where it ends. Nothing else writes a ``status``.

The states are those of the contract's enums, less ``overdue``, which an unpaid invoice is called
from the day after its due date on and which is never stored.
"""

from dataclasses import dataclass

from persistence.errors import Conflict


@dataclass(frozen=True)
class Verb:
    """One way out of some states. ``past`` completes "it cannot be …"."""

    past: str
    start: tuple[str, ...]
    end: str


SERVICE = {
    "suspend": Verb("suspended", ("active",), "suspended"),
    "unsuspend": Verb("unsuspended", ("suspended",), "active"),
    "terminate": Verb("terminated", ("active", "suspended"), "terminated"),
}

INVOICE = {
    "pay": Verb("paid", ("unpaid",), "paid"),
}

TICKET = {
    "reply_as_staff": Verb("replied to", ("open", "answered", "customer_reply"), "answered"),
    "reply_as_client": Verb("replied to", ("open", "answered", "customer_reply", "closed"), "customer_reply"),
    "close": Verb("closed", ("open", "answered", "customer_reply"), "closed"),
}

FIRST = {"service": "active", "invoice": "unpaid", "ticket": "open"}


def refuse(noun: str, verbs: dict[str, Verb], verb: str, state: str) -> Conflict:
    """The Conflict that says why ``verb`` cannot start from ``state``, and what can."""
    names = [name.replace("_", " ") for name, each in verbs.items() if state in each.start]
    allowed = " or ".join(names) or "nothing"
    return Conflict(
        f"The {noun} is {state.replace('_', ' ')}, so it cannot be {verbs[verb].past}; "
        f"allowed from this state: {allowed}."
    )
