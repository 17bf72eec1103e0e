"""From which states a verb may start, and where it ends. Nothing else writes a ``status``.

The states are those of the contract's enums, less ``overdue``, which an unpaid invoice is called
from the day after its due date on and which is never stored.
"""

from dataclasses import dataclass

from persistence.errors import Conflict


@dataclass(frozen=True)
class Transition:
    """One way out of some states. ``participle`` completes "it cannot be …"."""

    participle: str
    from_states: tuple[str, ...]
    to_state: str


SERVICE = {
    "suspend": Transition("suspended", ("active",), "suspended"),
    "unsuspend": Transition("unsuspended", ("suspended",), "active"),
    "terminate": Transition("terminated", ("active", "suspended"), "terminated"),
}

INVOICE = {
    "pay": Transition("paid", ("unpaid",), "paid"),
}

TICKET = {
    "reply_as_staff": Transition("replied to", ("open", "answered", "customer_reply"), "answered"),
    "reply_as_client": Transition(
        "replied to", ("open", "answered", "customer_reply", "closed"), "customer_reply"
    ),
    "close": Transition("closed", ("open", "answered", "customer_reply"), "closed"),
}

FIRST = {"service": "active", "invoice": "unpaid", "ticket": "open"}


def refuse(noun: str, verbs: dict[str, Transition], verb: str, state: str) -> Conflict:
    """The Conflict that says why ``verb`` cannot start from ``state``, and what can."""
    names = [name.replace("_", " ") for name, each in verbs.items() if state in each.from_states]
    allowed = " or ".join(names) or "nothing"
    return Conflict(
        f"The {noun} is {state.replace('_', ' ')}, so it cannot be {verbs[verb].participle}; "
        f"allowed from this state: {allowed}."
    )
