"""What a session may cost: CPU µs over the bare app, in terms of the floor measured in the same run.

The fixed part of a budget is in µs of the reference machine, on which the floors cost what ``REFERENCE`` says. How
much slower the present machine runs is read off those same floors (``pace``), and the fixed parts grow with it. A
shared machine changes its speed within a run, so the bare app, timed in every group, carries the pace to each cell.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable
from dataclasses import dataclass

from .harness import Cell

__all__ = ["BUDGETS", "Budget", "Pace", "Verdict", "judge", "pace"]


@dataclass(frozen=True)
class Budget:
    """At most ``times`` the floor plus ``plus`` µs of the reference machine."""

    times: float
    plus: float

    def __str__(self) -> str:
        times = "floor" if self.times == 1 else f"{self.times:g} × floor"
        return f"{times} + {self.plus:g} µs"


_IGNORED = Budget(1, 0.8)
_SEALED = Budget(1.5, 1.5)
_SQLITE = Budget(1.5, 3)

BUDGETS: dict[tuple[str, str], Budget] = {  # (kind, column)
    ("cookie", "S1"): _IGNORED,
    ("cookie", "S2"): _SEALED,
    ("cookie", "S3"): _SEALED,
    ("cookie", "S4"): _SEALED,
    ("cookie", "login"): Budget(1.5, 3.5),
    ("cookie", "S5"): _IGNORED,
    ("cookie", "S5r"): _SEALED,
    ("cookie", "S6"): _IGNORED,
    ("cookie", "touch"): _SEALED,  # at most what a change may cost
    ("memory", "S2"): Budget(1, 5),
    ("memory", "S3"): Budget(1, 8),
    ("memory", "S4"): Budget(1, 8),
    ("memory", "login"): Budget(1, 12),
    ("memory", "S5r"): Budget(1, 5),
    ("sqlite", "S2"): _SQLITE,
    ("sqlite", "S3"): _SQLITE,
    ("sqlite", "S4"): _SQLITE,
    ("sqlite", "login"): Budget(2, 5),
    ("sqlite", "S5r"): _SQLITE,
    ("sqlite", "touch"): _SQLITE,
}

REFERENCE: dict[tuple[str, str], dict[str, float]] = {  # (protocol, kind): µs a floor costs on the reference machine
    ("asgi", "cookie"): {"S1": 0.7, "S2": 5.0, "S3": 8.1, "S4": 8.7, "S5r": 3.6, "S6": 0.7},
    ("wsgi", "cookie"): {"S1": 0.6, "S2": 4.5, "S3": 7.5, "S4": 7.5, "S5r": 3.1, "S6": 0.6},
    ("asgi", "memory"): {"S1": 0.6, "S2": 3.1, "S3": 4.3, "S4": 6.6, "S5r": 1.6, "S6": 0.6},
}


@dataclass(frozen=True)
class Verdict:
    """Whether *budget* holds: ``ratio`` to the floor against the ratio it allows at this pace."""

    budget: Budget
    ratio: float
    allowed: float

    @property
    def holds(self) -> bool:
        return self.ratio <= self.allowed


@dataclass(frozen=True)
class Pace:
    """``slower``: how many times slower than the reference machine. ``bare``: protocol -> its app's reference µs."""

    slower: float
    bare: dict[str, float]


def pace(cells: Iterable[Cell]) -> Pace | None:
    """The pace of a run, or ``None`` without a floor whose reference figure is known."""
    paces: list[float] = []
    bare: dict[str, list[float]] = {}
    for cell in cells:
        protocol, kind = cell.subject.protocol, cell.subject.kind
        reference = REFERENCE.get((protocol, kind), {}).get(cell.column)
        if cell.subject.group == "floor" and reference and cell.bare and cell.cost > 0:
            paces.append(cell.cost / reference)
            bare.setdefault(protocol, []).append(cell.bare.cost * reference / cell.cost)
    if not paces:
        return None
    return Pace(statistics.median(paces), {protocol: statistics.median(found) for protocol, found in bare.items()})


def judge(cell: Cell, pace: Pace | None) -> Verdict | None:
    """The verdict on one of our cells; ``None`` for others, without a budget, or with nothing to compare with."""
    budget = BUDGETS.get((cell.subject.kind, cell.column))
    ratio, floor, protocol = cell.ratio, cell.floor, cell.subject.protocol
    if cell.subject.group != "ours" or budget is None or ratio is None or floor is None or floor.bare is None:
        return None
    if pace is None or protocol not in pace.bare:
        return None
    pairs = zip(floor.bare.costs, floor.costs, strict=True)
    fixed = statistics.median(bare / least for bare, least in pairs if least > 0) / pace.bare[protocol]
    return Verdict(budget, ratio, budget.times + budget.plus * fixed)
