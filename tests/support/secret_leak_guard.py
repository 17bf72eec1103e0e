"""What no log may have in it, whatever the whole suite does: the secrets that it uses."""

import logging
import re

from persistence.demo.credentials import ADMIN_KEY, CLIENT_TOKEN, OTHER_CLIENT_TOKEN
from server.observe.logs import TextFormatter

PASSWORDS = ("correct horse", "long enough", "very-secret")
"""Those of the clients that tests register, and of a database."""

NEVER = re.compile(
    # Whatever the server mints is known by its form, wherever it was minted.
    r"(?:cbt|arc)_[0-9A-Za-z]{20,}|whsec_[0-9A-Za-z+/=]{20,}|\$argon2|[?&]api_token|"
    # A credential of any kind, as it stands in a header.
    r"Bearer +[^ ,.;'\"]|"
    + "|".join(map(re.escape, (CLIENT_TOKEN, OTHER_CLIENT_TOKEN, ADMIN_KEY, *PASSWORDS)))
)

LOGGED = re.compile(r'^(?:\d\d:\d\d:\d\d (?:debug|info|warning|error|critical) |\{"time": )', re.MULTILINE)
"""How a log line begins; what is printed before the first one is for who starts the server."""


class Listener(logging.Handler):
    """Hears all that the servers in this process log, and remembers what it should not have."""

    def __init__(self) -> None:
        super().__init__()
        self.setFormatter(TextFormatter())
        self.lines = 0
        self.found: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines += 1
        self.judge(self.format(record))

    def judge(self, text: str) -> None:
        """Remember the lines that have a secret in them."""
        if NEVER.search(text):
            self.found += [line for line in text.splitlines() if NEVER.search(line)]


listener = Listener()


def judge_output(text: str) -> None:
    """Judge what a server in a process of its own wrote to stdout."""
    first = LOGGED.search(text)
    if first:
        listener.judge(text[first.start() :])
