"""What the doctor finds: a level, a subject, a text and advice."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Literal

Level = Literal["ok", "advice", "fault"]

MIB = 1024 * 1024


@dataclass(frozen=True)
class Finding:
    """One line of the report: how bad it is, its subject, what was seen, and what to do about it."""

    level: Level
    subject: str
    text: str
    advice: str = ""


Findings = AsyncIterator[Finding]


def ok(subject: str, text: str) -> Finding:
    return Finding("ok", subject, text)


def advise(subject: str, text: str, advice: str) -> Finding:
    return Finding("advice", subject, text, advice)


def fault(subject: str, text: object, advice: str = "") -> Finding:
    return Finding("fault", subject, str(text).rstrip("."), advice)
