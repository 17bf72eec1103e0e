"""The refusals of persistence. The server maps them to statuses."""


class Refusal(Exception):
    """A request that was understood and is not done; the message is a sentence for the caller.

    Refusal
    ├── NotFound            the resource, or one that the input refers to, does not exist
    ├── Forbidden           it exists and is another client's
    ├── PreconditionFailed  it is not in a version that the caller named
    ├── Conflict            its state, a uniqueness rule or a capacity forbids it
    │   ├── Duplicate       a unique column has the value already
    │   └── StillRunning    the same request, by its Idempotency-Key, is not done yet
    └── Unavailable         the database does not answer in time; nothing was written
        └── Busy            somebody else holds what is needed
    """


class NotFound(Refusal):
    @classmethod
    def of(cls, noun: str) -> "NotFound":
        return cls(f"The {noun} does not exist.")


class Forbidden(Refusal):
    @classmethod
    def of(cls, noun: str) -> "Forbidden":
        return cls(f"The {noun} belongs to another client.")


class PreconditionFailed(Refusal):
    @classmethod
    def of(cls, noun: str) -> "PreconditionFailed":
        return cls(f"This is not the current version of the {noun}; read again.")


class Conflict(Refusal):
    pass


class Duplicate(Conflict):
    """A unique column has the value already; who knows what that means says it better.

    ``what`` is the database's own name for the rule, which has the names of the columns in it.
    """

    def __init__(self, what: str = "") -> None:
        super().__init__("This exists already.")
        self.what = what


class StillRunning(Conflict):
    def __init__(self) -> None:
        super().__init__("A request with this Idempotency-Key is in progress; try again.")


class Unavailable(Refusal):
    def __init__(self, message: str = "The service is busy; try again.") -> None:
        super().__init__(message)


class Busy(Unavailable):
    pass


class StartError(Exception):
    """The database cannot be used at all; the message is one line that says what to do."""
