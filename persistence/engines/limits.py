"""How long the engines wait, and how much they run at a time."""

CLOSE_SECONDS = 1
"""How long connections to a server may take to end; it notices by itself that they have gone."""

LOCK_SECONDS = 5
"""How long a statement waits for somebody else's lock before it is Unavailable."""


MOST_ON_THE_LOOP = 200
"""How many rows SQLite reads while everybody else waits: a page, and some of a whole list."""

MAX_GROUP = 32
"""How many transactions SQLite commits at a time: the first of them waits until the last has run."""

MAX_SEARCHES = 3
"""How many searches run at a time, each of another caller; the others queue."""

THREADS_ASIDE = MAX_SEARCHES + 1
"""How many slow reads SQLite runs at a time. Searches never take the last thread."""

SEARCH_SECONDS = 0.25
"""How long a search may run before it is Unavailable."""

INTERRUPT_SECONDS = 0.01
"""How long SQLite has to end a read before it is interrupted again."""


IDLE_SECONDS = 10
"""How long a process that does not go on may hold its locks; nothing of ours pauses in a transaction."""

POOL_SIZE = 10
"""The maximum number of connections in the pool of readers, and in that of writers, of one process."""
