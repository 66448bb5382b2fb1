"""``python -m bench.integrations``: what our sessions cost in a framework, beside that framework's own.

Each figure is CPU time over the same app without sessions, taken side by side as in ``python -m bench``; a ratio is the
median over rounds of (ours / the framework's own). The budget: at most half. ``frameworks`` says what is compared.

Exit status: 0; 1 when ``--check`` finds a budget missed; 2 when there is nothing to check, or something was left out.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from .__main__ import names_of, progress
from .frameworks import BUILDERS, COLUMNS, FRAMES
from .harness import Cell, Run, awake, measure
from .report import grid_lines, versions
from .scenarios import SCENARIOS

__all__ = ["BUDGETS", "as_json", "main", "missed", "ours", "table"]

BUDGETS = {"S2": 0.5, "S3": 0.5, "S4": 0.5}
"""At most so many times what the framework's own sessions cost; every other column is told, not judged."""

FULL = {"rounds": 15, "batch_ms": 20.0, "limit": 200.0}
QUICK = {"rounds": 5, "batch_ms": 8.0, "limit": 40.0}


def ours(run: Run) -> list[Cell]:
    """The cells of ours that ran beside the framework's own."""
    return [cell for cell in run.cells if cell.subject.group == "ours" and cell.floor is not None]


def holds(cell: Cell) -> bool | None:
    """Whether *cell* keeps its budget; ``None`` without one."""
    budget, ratio = BUDGETS.get(cell.column), cell.ratio
    return None if budget is None or ratio is None else ratio <= budget


def missed(run: Run) -> list[str]:
    """One line for every budget that does not hold."""
    return [
        f"{cell.subject.name}, {cell.column}: {cell.ratio:.2f} × its own, allowed {BUDGETS[cell.column]:g} ×"
        for cell in ours(run)
        if holds(cell) is False
    ]


def table(run: Run) -> str:
    """Rows of frameworks, columns of scenarios: the ratio, and both costs in µs."""
    columns = [name for name in COLUMNS if any(cell.column == name for cell in run.cells)]
    rows: dict[str, dict[str, str]] = {}
    for cell in ours(run):
        assert cell.floor is not None
        rows.setdefault(f"{cell.subject.name} / {cell.floor.subject.name}", {})[cell.column] = _text(cell, cell.floor)
    grid = [["ratio (CPU µs over the bare app: ours / its own)", *columns]]
    grid += [[name, *(cells.get(column, "") for column in columns)] for name, cells in rows.items()]
    notes = [
        f"Python {platform.python_version()}, {run.rounds} rounds of {run.batch_ms:g} ms a cell, {run.seconds:.0f} s; "
        + ", ".join(f"{name} {version}" for name, version in versions().items()),
        " · ".join(f"{name}: {SCENARIOS[name].meaning}" for name in columns),
        *(f"left out: {line}" for line in run.left_out),
        *(f"over budget: {line}" for line in missed(run)),
    ]
    return "\n".join([*grid_lines(grid), "", *notes])


def _text(cell: Cell, own: Cell) -> str:
    mark = {True: " ✓", False: " ✗", None: ""}[holds(cell)]
    ratio = "–" if cell.ratio is None else f"{cell.ratio:.2f}"
    return f"{ratio}{mark} ({cell.cost:.1f} / {own.cost:.1f})"


def as_json(run: Run) -> dict[str, Any]:
    """All figures of *run*; times in µs."""
    return {
        "python": platform.python_version(),
        "versions": versions(),
        "rounds": run.rounds,
        "batch_ms": run.batch_ms,
        "left_out": run.left_out,
        "cells": [
            {
                "subject": cell.subject.name,
                "beside": cell.floor.subject.name,
                "scenario": cell.column,
                "us": cell.cost,
                "beside_us": cell.floor.cost,
                "bare_us": statistics.median(cell.bare.samples) if cell.bare else None,
                "ratio": cell.ratio,
                "budget": BUDGETS.get(cell.column),
                "holds": holds(cell),
            }
            for cell in ours(run)
            if cell.floor is not None
        ],
    }


def _arguments(arguments: Iterable[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m bench.integrations", description="Our sessions in a framework, beside the framework's own."
    )
    parser.add_argument("--rounds", type=int, help=f"at most so many rounds (default {FULL['rounds']})")
    parser.add_argument("--batch-ms", type=float, help="CPU ms of a cell in a round (default 20)")
    parser.add_argument("--only", type=names_of(BUILDERS), default=list(BUILDERS), help="of starlette,flask,django")
    parser.add_argument("--scenario", type=names_of(COLUMNS), default=list(COLUMNS), help="such as S2,S3,login")
    parser.add_argument("--quick", action="store_true", help="5 rounds of 8 ms, within 40 s")
    parser.add_argument("--check", action="store_true", help="exit 1 if a budget is missed")
    parser.add_argument("--awake", action="store_true", help="let the processor never fall asleep")
    parser.add_argument("--json", type=Path, help="where the figures go, if anywhere")
    return parser.parse_args(None if arguments is None else list(arguments))


def main(arguments: Iterable[str] | None = None) -> int:
    """Run it; the exit status."""
    asked = _arguments(arguments)
    size = QUICK if asked.quick else FULL
    with awake(asked.awake):
        run = measure(
            [builder for name in BUILDERS if name in asked.only for builder in BUILDERS[name]],
            columns=[name for name in COLUMNS if name in asked.scenario],
            rounds=int(asked.rounds or size["rounds"]),
            batch_ms=asked.batch_ms or size["batch_ms"],
            limit=size["limit"],
            progress=progress,
            frames=FRAMES,
            against="peer",
        )
    print(table(run))
    if asked.json is not None:
        asked.json.write_text(json.dumps(as_json(run), indent=1) + "\n", encoding="utf-8")
    if not asked.check:
        return 0
    if missed(run):
        return 1
    return 2 if run.left_out or not any(holds(cell) for cell in ours(run)) else 0


if __name__ == "__main__":
    raise SystemExit(main())
