"""The clock of a running server."""

from datetime import UTC, datetime


def now() -> datetime:
    """UTC, to the second, as both documents write instants."""
    return datetime.now(UTC).replace(microsecond=0)
