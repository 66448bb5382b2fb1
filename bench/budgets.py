"""What a session may cost: CPU µs over the bare app, in terms of the floor measured in the same run.

The fixed part of a budget is in µs of the reference machine, on which the floors cost what ``REFERENCE`` says. How
much slower the present machine runs is read off those same floors (``pace``), and the fixed parts grow with it.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable
from dataclasses import dataclass

from .harness import Cell

__all__ = ["BUDGETS", "Budget", "Verdict", "judge", "pace"]


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


def pace(cells: Iterable[Cell]) -> float | None:
    """How many times slower than the reference machine this run was; ``None`` without a floor it knows."""
    paces = [
        cell.cost / figures[cell.column]
        for cell in cells
        if cell.subject.group == "floor"
        and (figures := REFERENCE.get((cell.subject.protocol, cell.subject.kind)))
        and cell.column in figures
    ]
    return statistics.median(paces) if paces else None


def judge(cell: Cell, pace: float | None) -> Verdict | None:
    """The verdict on one of our cells; ``None`` for others, without a budget, or with nothing to compare with."""
    budget = BUDGETS.get((cell.subject.kind, cell.column))
    ratio = cell.ratio
    if cell.subject.group != "ours" or budget is None or ratio is None or cell.floor is None or pace is None:
        return None
    return Verdict(budget, ratio, budget.times + budget.plus * pace / cell.floor.cost)
