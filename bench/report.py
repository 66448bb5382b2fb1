"""The report: one table to read (and to paste: it is Markdown), and the same as JSON."""

from __future__ import annotations

import os
import platform
import statistics
from importlib import metadata
from typing import Any

from .budgets import Pace, judge, pace
from .harness import Cell, Run
from .scenarios import SCENARIOS

__all__ = ["as_json", "grid_lines", "missed", "table", "versions"]

PACKAGES = (
    *("session_mw", "msgspec", "cryptography", "starlette", "starsessions", "litestar", "flask", "werkzeug"),
    *("django", "redis"),
)


def table(run: Run) -> str:
    """Rows of subjects, columns of scenarios: µs over the bare app, × the floor beside it, and the verdict."""
    speed = pace(run.cells)
    columns = [name for name in SCENARIOS if any(cell.column == name for cell in run.cells)]
    rows: dict[str, dict[str, str]] = {}
    for group in ("floor", "ours", "peer"):
        for cell in run.cells:
            if cell.subject.group == group:
                rows.setdefault(cell.subject.name, {})[cell.column] = _text(cell, speed)
    grid = [["CPU µs over the bare app", *columns]]
    grid += [[name, *(cells.get(column, "") for column in columns)] for name, cells in rows.items()]
    legend = [f"{name}: {SCENARIOS[name].meaning}" for name in columns]
    notes = [
        f"Python {platform.python_version()}, {run.rounds} rounds of {run.batch_ms:g} ms a cell, {run.seconds:.0f} s"
        + (f"; pace {speed.slower:.2f} × the reference machine's times" if speed else ""),
        " · ".join(legend),
        *(f"left out: {line}" for line in run.left_out),
        *(f"over budget: {line}" for line in missed(run)),
    ]
    return "\n".join([*grid_lines(grid), "", *notes])


def grid_lines(grid: list[list[str]]) -> list[str]:
    """A Markdown table of *grid*, whose first row is its head."""
    widths = [max(map(len, column)) for column in zip(*grid, strict=True)]
    lines = [
        "| " + " | ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)) + " |" for row in grid
    ]
    return [lines[0], "|" + "|".join("-" * (width + 2) for width in widths) + "|", *lines[1:]]


def _text(cell: Cell, speed: Pace | None) -> str:
    ratio = cell.ratio
    text = f"{cell.cost:.1f}" if ratio is None else f"{cell.cost:.1f} ({ratio:.2f}×)"
    verdict = judge(cell, speed)
    return text if verdict is None else f"{text} {'✓' if verdict.holds else '✗'}"


def missed(run: Run) -> list[str]:
    """One line for every budget that does not hold."""
    speed = pace(run.cells)
    judged = ((cell, judge(cell, speed)) for cell in run.cells)
    return [
        f"{cell.subject.name}, {cell.column}: {verdict.ratio:.2f}× the floor, allowed {verdict.allowed:.2f}×"
        f" ({verdict.budget})"
        for cell, verdict in judged
        if verdict is not None and not verdict.holds
    ]


def as_json(run: Run) -> dict[str, Any]:
    """All figures of *run*; times in µs."""
    speed = pace(run.cells)
    return {
        "python": platform.python_version(),
        "machine": platform.machine(),
        "cpus": os.cpu_count(),
        "versions": versions(),
        "rounds": run.rounds,
        "batch_ms": run.batch_ms,
        "seconds": round(run.seconds, 1),
        "pace": None if speed is None else speed.slower,
        "left_out": run.left_out,
        "cells": [_cell(cell, speed) for cell in run.cells],
    }


def _cell(cell: Cell, speed: Pace | None) -> dict[str, Any]:
    costs, verdict = sorted(cell.costs), judge(cell, speed)
    low, _, high = statistics.quantiles(costs, n=4, method="inclusive") if len(costs) > 1 else costs * 3
    return {
        "subject": cell.subject.name,
        "group": cell.subject.group,
        "protocol": cell.subject.protocol,
        "kind": cell.subject.kind,
        "scenario": cell.column,
        "us": cell.cost,
        "quartiles_us": [low, high],
        "floor_us": None if cell.floor is None else cell.floor.cost,
        "ratio": cell.ratio,
        "budget": None if verdict is None else str(verdict.budget),
        "allowed": None if verdict is None else verdict.allowed,
        "holds": None if verdict is None else verdict.holds,
    }


def versions() -> dict[str, str]:
    """What is installed of the packages that the bench runs."""
    found: dict[str, str] = {}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found
