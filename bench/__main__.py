"""``python -m bench``: one table to read, JSON beside it.

Exit status: 0; 1 when ``--check`` finds a budget missed; 2 when it has nothing to check, or a case of ours or of a
floor was left out.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

from . import floors, ours, peers
from .budgets import judge, pace
from .harness import Run, measure
from .report import as_json, missed, table
from .scenarios import SCENARIOS

GROUPS = {"floor": floors.BUILDERS, "ours": ours.BUILDERS, "peers": peers.BUILDERS}
FULL = {"rounds": 21, "batch_ms": 20.0, "limit": 270.0}
QUICK = {"rounds": 7, "batch_ms": 8.0, "limit": 32.0}


def names_of(known: Iterable[str]) -> Callable[[str], list[str]]:
    """An argument that names some of *known*, joined by commas."""

    def names(text: str) -> list[str]:
        chosen = text.split(",")
        if unknown := [name for name in chosen if name not in known]:
            raise argparse.ArgumentTypeError(f"unknown: {', '.join(unknown)}; known: {', '.join(known)}")
        return chosen

    return names


def _arguments(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m bench", description="What a session costs, side by side in one run."
    )
    parser.add_argument("--rounds", type=int, help=f"at most so many rounds (default {FULL['rounds']})")
    parser.add_argument("--batch-ms", type=float, help="CPU ms of a cell in a round (default 20)")
    parser.add_argument("--only", type=names_of(GROUPS), default=list(GROUPS), help="of ours,floor,peers")
    parser.add_argument("--scenario", type=names_of(SCENARIOS), default=list(SCENARIOS), help="such as S2,S3,login")
    parser.add_argument(
        "--quick", action="store_true", help="7 rounds of 8 ms, within 40 s; the default takes up to 5 min"
    )
    parser.add_argument("--check", action="store_true", help="exit 1 if a budget is missed")
    parser.add_argument(
        "--json", type=Path, default=Path("bench.json"), help="where the figures go (default bench.json)"
    )
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    """Run the bench; the exit status."""
    asked = _arguments(arguments)
    size = QUICK if asked.quick else FULL
    run = measure(
        [builder for name, builders in GROUPS.items() if name in asked.only for builder in builders],
        columns=[name for name in SCENARIOS if name in asked.scenario],
        rounds=int(asked.rounds or size["rounds"]),
        batch_ms=asked.batch_ms or size["batch_ms"],
        limit=size["limit"],
        progress=progress,
    )
    print(table(run))
    asked.json.write_text(json.dumps(as_json(run), indent=1) + "\n", encoding="utf-8")
    return _status(run) if asked.check else 0


def progress(text: str) -> None:
    """Tell a person who waits."""
    if sys.stderr.isatty():
        print(f"\r{text}\033[K\r", end="", file=sys.stderr, flush=True)


def _status(run: Run) -> int:
    if missed(run):
        return 1
    speed = pace(run.cells)
    checked = any(judge(cell, speed) for cell in run.cells)
    return 0 if checked and not any(line.startswith(("session_mw", "ours", "floor")) for line in run.left_out) else 2


if __name__ == "__main__":
    raise SystemExit(main())
