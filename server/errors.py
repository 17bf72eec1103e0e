"""Any exception → status, code and message → the caller's dialect. The only table of status numbers."""

from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from handlers.dialects import Dialect
from persistence.errors import (
    Conflict,
    Forbidden,
    NotFound,
    PreconditionFailed,
    StillRunning,
    Unavailable,
)

CODES = {
    400: "VALIDATION_ERROR",
    401: "UNAUTHORIZED",
    403: "FORBIDDEN",
    404: "NOT_FOUND",
    405: "METHOD_NOT_ALLOWED",
    406: "NOT_ACCEPTABLE",
    408: "REQUEST_TIMEOUT",
    409: "CONFLICT",
    412: "PRECONDITION_FAILED",
    413: "PAYLOAD_TOO_LARGE",
    415: "UNSUPPORTED_MEDIA_TYPE",
    422: "VALIDATION_ERROR",
    429: "RATE_LIMITED",
    500: "INTERNAL_ERROR",
    503: "SERVICE_UNAVAILABLE",
}

REFUSALS = {NotFound: 404, Forbidden: 403, PreconditionFailed: 412, Conflict: 409, Unavailable: 503}

RETRY_SECONDS = 1

ErrorDetail = dict[str, str]


class Problem(Exception):
    """The server itself refuses a request. ``close`` ends the connection after the answer."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        headers: Mapping[str, str] | None = None,
        details: Sequence[ErrorDetail] = (),
        close: bool = False,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.headers = dict(headers or {})
        self.details = details
        self.close = close


class ContractBreach(Exception):
    """A handler answered what the contract does not allow; the message is for the log."""


def detail(place: str, pointer: str, message: str) -> ErrorDetail:
    """One entry of ``details``."""
    return {"in": place, "pointer": pointer, "message": message}


def invalid_request(*faults: ErrorDetail, status: int = 400) -> Problem:
    """The Problem for input that breaks the contract; it is called by its first fault."""
    return Problem(status, faults[0]["message"], details=faults[:100])


def to_problem(error: Exception) -> Problem:
    """Return the problem of an exception. An unexpected exception reveals no details."""
    if isinstance(error, Problem):
        return error
    for kind, status in REFUSALS.items():
        if isinstance(error, kind):
            waits = status == 503 or isinstance(error, StillRunning)
            headers = {"Retry-After": str(RETRY_SECONDS)} if waits else {}
            return Problem(status, str(error), headers=headers)
    return Problem(500, "Server error")


def body_of(problem: Problem, dialect: type[Dialect]) -> bytes:
    """The JSON body of a Problem in a dialect."""
    content: Any = dialect.error(problem.status, CODES[problem.status], str(problem), problem.details)
    return orjson.dumps(content)
