"""The bars of the project, each part of each of them, and whether the figures of a run hold them. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from benchmarks.store import BACKENDS, TITLES
from benchmarks.work import INVOICES, LIST, ONE, TICKETS

Sense = Literal["≥", "≤"]


@dataclass(frozen=True)
class Bar:
    """What a figure must reach, or must not pass."""

    number: int
    text: str
    figure: str
    sense: Sense
    bound: float
    unit: str = "×"


@dataclass(frozen=True)
class Verdict:
    """A bar and its figure; None where it was not measured."""

    bar: Bar
    measured: float | None

    @property
    def held(self) -> bool:
        if self.measured is None:
            return False
        if self.bar.sense == "≥":
            return self.measured >= self.bar.bound
        return self.measured <= self.bar.bound

    @property
    def word(self) -> str:
        return "held" if self.held else "not held" if self.measured is not None else "not measured"


def _bars() -> list[Bar]:
    found = []
    for backend in BACKENDS:
        on = TITLES[backend]
        peers = [
            (1, "FastAPI, ORM", ((LIST.name, 2.5), (TICKETS.name, 2.0))),
            (1, "FastAPI, our layer", ((LIST.name, 1.5), (TICKETS.name, 1.3))),
            (2, "Starlette", tuple((each.name, 1.0) for each in (LIST, ONE, TICKETS, INVOICES))),
            (3, "stock Connexion", ((LIST.name, 4.0),)),
        ]
        for number, peer, parts in peers:
            for request, bound in parts:
                text = f"{peer} costs at least as many times our CPU: {request}, {on}"
                found.append(Bar(number, text, f"{peer}|{request}|{backend}", "≥", bound))
        pages = {"first": "first page", "filtered": "a filtered page", "next": "`Link: next` at any depth"}
        for part, page in pages.items():
            text = f"1,000,000 invoices against 1,000: {page}, {on}"
            found.append(Bar(5, text, f"growth|{part}|{backend}", "≤", 2.0))
        text = f"a page of the panel with 1,000,000 clients and invoices, the slowest, {on}"
        found.append(Bar(7, text, f"panel|{backend}", "≤", 50.0, " ms"))
        text = f"memory of a worker after 10,000 requests against FastAPI's, {on}"
        found.append(Bar(6, text, f"memory|{backend}", "≤", 1.5))
        found.append(Bar(6, f"start with a warm file cache, {on}", f"start|{backend}", "≤", 2.0, " s"))
    found.append(
        Bar(
            3, f"stock Connexion costs at least as many times our CPU: {LIST.name}, no I/O", "no io", "≥", 8.0
        )
    )
    for each in (LIST, TICKETS):
        text = f"the pipeline's own cost against uvicorn's hello: {each.name}"
        found.append(Bar(4, text, f"pipeline|{each.name}", "≤", 1.0))
    return sorted(found, key=lambda bar: bar.number)


BARS: Sequence[Bar] = _bars()


def judge(figures: Mapping[str, float], bars: Sequence[Bar] = BARS) -> list[Verdict]:
    """A verdict for each bar."""
    return [Verdict(bar, figures.get(bar.figure)) for bar in bars]
