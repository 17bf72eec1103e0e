"""How long the engines wait, and how much they run at a time."""

CLOSE_SECONDS = 1
"""The seconds that connections to a server may take to close. The server notices their end by itself."""

LOCK_SECONDS = 5
"""The seconds that a statement waits for a lock before it raises Busy."""


MOST_ON_THE_LOOP = 200
"""The rows that SQLite reads on the event loop, which is more than a page."""

MAX_GROUP = 32
"""The transactions in one group commit. The first of them waits until the last has run."""

MAX_SEARCHES = 3
"""The searches that run at a time, each of another caller. All others queue."""

THREADS_ASIDE = MAX_SEARCHES + 1
"""The slow reads that SQLite runs at a time. Searches never take the last thread."""

SEARCH_SECONDS = 0.25
"""The seconds that a search may run before it raises Unavailable."""

INTERRUPT_SECONDS = 0.01
"""The seconds after which SQLite is interrupted again if a read has not ended."""


IDLE_SECONDS = 10
"""The seconds that a stalled process may hold its locks. No transaction of this project pauses."""

POOL_SIZE = 10
"""The maximum number of connections in the pool of readers, and in that of writers, of one process."""
