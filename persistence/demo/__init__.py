"""The demo data: rows that are the same on each machine, and public credentials."""

from persistence.demo.credentials import (
    ADMIN_KEY,
    CLIENT_TOKEN,
    OPERATOR,
    OPERATOR_HASH,
    OPERATOR_PASSWORD,
    OTHER_CLIENT_TOKEN,
)
from persistence.demo.filling import empty, present, seed
from persistence.demo.rows import CLIENTS, FAR, SPARE_CLIENT, START, Rows, build, words

__all__ = [
    "ADMIN_KEY",
    "CLIENTS",
    "CLIENT_TOKEN",
    "FAR",
    "OPERATOR",
    "OPERATOR_HASH",
    "OPERATOR_PASSWORD",
    "OTHER_CLIENT_TOKEN",
    "SPARE_CLIENT",
    "START",
    "Rows",
    "build",
    "empty",
    "present",
    "seed",
    "words",
]
