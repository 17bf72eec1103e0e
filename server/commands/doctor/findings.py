"""What the doctor finds: a level, a subject, a text and advice."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Literal

Level = Literal["ok", "advice", "fault"]

MIB = 1024 * 1024


@dataclass(frozen=True)
class Finding:
    """One line: how bad it is, of what, what was seen, and what to do about it."""

    level: Level
    subject: str
    text: str
    advice: str = ""


Findings = AsyncIterator[Finding]
