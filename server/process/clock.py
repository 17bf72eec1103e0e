"""The clock of a running server."""

import time
from datetime import UTC, datetime


def now() -> datetime:
    """Return the current time in UTC, to the second, as both documents write instants."""
    return datetime.fromtimestamp(int(time.time()), UTC)
