"""``python -m bench.sql``: what the database store costs, on a PostgreSQL and a MariaDB of its own.

Three tables, each beside the work that others do on the same server:

* a call of the store beside the bare driver given the same statements: at most twice its CPU (``sql_bare``);
* whole WSGI requests over the bare app, beside Django's and Flask-Session's (``sql_apps``);
* how many statements a call and a request mean, as the server counted them.

What is compared takes turns, round by round; a ratio is the median over rounds. CPU is this process's: a server's own
work is the same statements' either way. The event loop is uvloop's where that is installed.

Exit status: 0; 1 when ``--check`` finds a budget missed; 2 without a server's program, or when ``--check`` finds a case
of ours left out.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import inspect
import itertools
import json
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

from session_mw.core.operations import Outcome
from session_mw.core.record import Record
from session_mw.stores.faces import is_awaited
from session_mw.stores.sql import DatabaseStore

from .drivers import loop_factory
from .harness import Run, build, groups, requests, workshop
from .harness import measure as measure_requests
from .scenarios import SCENARIOS
from .sql_apps import COLUMNS, FRAMES, TITLES, builders
from .sql_bare import AWAITED, CALLED, bare, record, values
from .sql_servers import NAMES, Server, missing, running

__all__ = ["BUDGET", "Row", "calls", "given", "main", "measure", "table"]

BUDGET = 2.0  # times the bare driver's CPU
WORKS = ("load", "save", "touch", "create", "rotate")
SLICES = 10  # a round, so that a slow moment of the machine slows both
FULL = {"rounds": 9, "batch_ms": 60.0}
QUICK = {"rounds": 5, "batch_ms": 10.0}
TABLE = "calls"
PACKAGES = ("session_mw", "sqlalchemy", "psycopg", "asyncpg", "pymysql", "asyncmy", "django", "flask", "flask-session",
            "flask-sqlalchemy", "uvloop")  # fmt: skip


@dataclass
class Row:
    """One call of the store by one driver. ``costs``: CPU µs a call, ours and the bare driver's, one pair a round."""

    work: str
    driver: str
    costs: list[tuple[float, float]] = field(default_factory=list)

    @property
    def ratio(self) -> float:
        return statistics.median(ours / theirs for ours, theirs in self.costs)

    @property
    def holds(self) -> bool:
        return self.ratio <= BUDGET


# Calls of the store


class _Work:
    """One kind of call, done by ours or by the bare driver; both are given records of their own."""

    def __init__(self, name: str, do: Callable[..., Any], ours: bool, kept: Sequence[Record], first: str) -> None:
        self._name = name
        self._ours = ours
        self._kept = itertools.cycle(kept)
        self._last = first  # what the next rotation ends
        self.do = do

    def arguments(self, count: int) -> list[tuple[Any, ...]]:
        """For so many calls, made before the clock starts."""
        made: list[tuple[Any, ...]] = []
        for _ in range(count):
            one = record() if self._name in ("create", "rotate") else next(self._kept)
            old, self._last = self._last, one.id
            made.append((one, old) if self._ours else (values(self._name, one, old),))
        return made

    def check(self, answer: Any) -> None:
        """That the work was done. Raises AssertionError."""
        good = answer is True or answer is Outcome.SAVED or isinstance(answer, Record) if self._ours else None
        if good is None:
            good = answer == 1 or (self._name == "load" and len(answer) == 1)
        if not good:
            raise AssertionError(f"{self._name}, {'ours' if self._ours else 'the bare driver'}: {answer!r}")


def _ours(store: Any) -> dict[str, Callable[..., Any]]:
    return {
        "load": lambda one, _: store.load(one.id),
        "save": lambda one, _: store.save(one, 1, payload_only=True),
        "touch": lambda one, _: store.touch(one.id, one.last_activity + 60, one.expires_at + 60),
        "create": lambda one, _: store.create(one),
        "rotate": lambda one, old: store.rotate(one, old, 1, until=one.created_at + 60),
    }


async def _spent(work: _Work, count: int, awaited: bool) -> float:
    """CPU µs a call."""
    do, arguments, answer = work.do, work.arguments(count), None
    gc.collect()
    begun = time.process_time()
    if awaited:
        for each in arguments:
            answer = await do(*each)
    else:
        for each in arguments:
            answer = do(*each)
    gc.collect(0)
    spent = time.process_time() - begun
    work.check(answer)
    return spent / count * 1e6


async def _compare(row: Row, both: list[_Work], awaited: bool, rounds: int, seconds: float) -> None:
    sizes = []
    for work in both:
        await _spent(work, 10, awaited)  # drivers prepare a statement at its first use, or its fifth
        sizes.append(max(5, round(seconds / SLICES / await _spent(work, 20, awaited) * 1e6)))
    for _ in range(rounds):
        found = [0.0, 0.0]
        for turn in range(SLICES):
            for side in (0, 1) if turn % 2 else (1, 0):
                found[side] += await _spent(both[side], sizes[side], awaited) / SLICES
        row.costs.append((found[0], found[1]))


async def _answer(made: Any) -> Any:
    return await made if inspect.isawaitable(made) else made


async def _calls(server: Server, driver: str, rounds: int, seconds: float) -> list[Row]:
    store = DatabaseStore(server.url(driver), table=TABLE, create=True)
    awaited = is_awaited(store)
    await _answer(store.initialize())
    theirs, end = await bare(server, driver, TABLE)
    ours = _ours(store)
    rows = []
    for name in WORKS:
        both = []
        for do, mine in ((ours[name], True), (theirs[name], False)):
            kept = [record() for _ in range(32)]
            for one in kept:
                assert await _answer(store.create(one)) is True
            both.append(_Work(name, do, mine, kept, kept[0].id))
        rows.append(row := Row(name, driver))
        await _compare(row, both, awaited, rounds, seconds)
    await _answer(end())
    await _answer(store.teardown())
    server.empty(TABLE)
    return rows


def calls(server: Server, *, rounds: int, seconds: float) -> list[Row]:
    """Every call of the store beside the bare driver, *seconds* of CPU a round for each."""
    rows = []
    gc.collect()
    gc.freeze()  # what was imported is nobody's garbage
    try:
        for driver in (CALLED[server.name], AWAITED[server.name]):
            with asyncio.Runner(loop_factory=loop_factory()) as runner:
                rows += runner.run(_calls(server, driver, rounds, seconds))
    finally:
        gc.unfreeze()
    return rows


# Statements, as the server counts them


def given(server: Server) -> dict[str, int]:
    """How many statements the server was given for one call of each kind, among 1,000 sessions of 100 users."""
    store: Any = DatabaseStore(server.url(CALLED[server.name]), table="trips", create=True)
    records = [record(f"user{number % 100}") for number in range(1000)]
    for one in records:
        store.create(one)
    a, b, c, d, e, *_ = records
    new = record()
    until = a.created_at + 60
    calls: dict[str, Callable[[], Any]] = {
        "load": lambda: store.load(a.id),
        "save": lambda: store.save(a, 1, payload_only=True),
        "touch": lambda: store.touch(a.id, a.last_activity + 60, a.expires_at + 60),
        "create": lambda: store.create(record()),
        "rotate": lambda: store.rotate(new, b.id, 1, until=until),
        "close": lambda: store.close(c.id, 1, until=until),
        "delete": lambda: store.delete(d.id),
        "list one user": lambda: store.list_user("user7"),
        "end one user": lambda: store.delete_user(e.user_id or ""),
        "purge, each 100": lambda: store.purge(until, 1000),
    }
    found = {name: server.count(call) for name, call in calls.items()}
    store.teardown()
    return found


def given_for_requests(server: Server) -> dict[tuple[str, str], int]:
    """The same for one request of each subject in each column."""
    found = {}
    with workshop() as shop:
        chosen, _ = build(shop, builders(server))
        for cell in itertools.chain.from_iterable(groups(shop, chosen, COLUMNS, frames=FRAMES)):
            subject = cell.subject
            if subject.group != "bare":
                first, second = itertools.islice(requests(cell, 2), 2)  # the first may connect
                subject.driver.exchange(subject.app, first)
                one = lambda subject=subject, second=second: subject.driver.exchange(subject.app, second)  # noqa: E731
                found[subject.name, cell.column] = server.count(one)
    return found


# The program


@dataclass
class Found:
    """What one server showed."""

    name: str
    rows: list[Row]
    run: Run
    calls: dict[str, int]
    requests: dict[tuple[str, str], int]


def measure(server: Server, *, rounds: int, batch_ms: float) -> Found:
    """Everything, on one server."""
    given_calls = given(server)
    rows = calls(server, rounds=rounds, seconds=batch_ms / 1000)
    run = measure_requests(
        builders(server), columns=COLUMNS, rounds=rounds, batch_ms=batch_ms, limit=3600, frames=FRAMES
    )
    return Found(server.name, rows, run, given_calls, given_for_requests(server))


def table(found: list[Found]) -> str:
    """The tables as text."""
    lines = ["| call | driver | ours, CPU µs | bare driver | ratio | |", "|---" * 6 + "|"]
    for one in found:
        for row in one.rows:
            cost, least = (statistics.median(pair[side] for pair in row.costs) for side in (0, 1))
            verdict = "✓" if row.holds else "✗"
            lines.append(f"| {row.work} | {row.driver} | {cost:.1f} | {least:.1f} | {row.ratio:.2f} | {verdict} |")
    lines += ["", "| CPU µs over the bare app / statements | read (S2) | change (S3) | login |", "|---" * 4 + "|"]
    for one in found:
        costs: dict[str, dict[str, str]] = {}
        for cell in one.run.cells:
            statements = one.requests[cell.subject.name, cell.column]
            costs.setdefault(cell.subject.name, {})[cell.column] = f"{cell.cost:.0f} / {statements}"
        lines += [
            f"| {name} | {' | '.join(row.get(column, '') for column in COLUMNS)} |" for name, row in costs.items()
        ]
    lines += [
        "",
        f"| statements a call | {' | '.join(TITLES[one.name] for one in found)} |",
        "|---" * (1 + len(found)) + "|",
    ]
    for name in found[0].calls:
        lines.append(f"| {name} | {' | '.join(str(one.calls[name]) for one in found)} |")
    lines += ["", *(f"left out: {line}" for one in found for line in one.run.left_out)]
    return "\n".join(lines).rstrip()


def _as_json(found: list[Found]) -> dict[str, Any]:
    return {
        "versions": {name: _version(name) for name in PACKAGES},
        "servers": {
            one.name: {
                "statements": one.calls,
                "calls": [
                    {"call": row.work, "driver": row.driver, "us": statistics.median(pair[0] for pair in row.costs),
                     "bare_us": statistics.median(pair[1] for pair in row.costs), "ratio": row.ratio,
                     "budget": BUDGET, "holds": row.holds}
                    for row in one.rows
                ],
                "requests": [
                    {"subject": cell.subject.name, "scenario": cell.column, "meaning": SCENARIOS[cell.column].meaning,
                     "us": cell.cost, "statements": one.requests[cell.subject.name, cell.column]}
                    for cell in one.run.cells
                ],
                "left_out": one.run.left_out,
            }
            for one in found
        },
    }  # fmt: skip


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def main(arguments: list[str] | None = None) -> int:
    """Run it; the exit status."""
    parser = argparse.ArgumentParser(prog="python -m bench.sql", description="The database store beside others.")
    parser.add_argument("--only", choices=NAMES, action="append", help="of postgresql, mariadb (default both)")
    parser.add_argument("--rounds", type=int, help=f"default {FULL['rounds']}")
    parser.add_argument("--batch-ms", type=float, help=f"CPU of a case in a round (default {FULL['batch_ms']:g})")
    parser.add_argument("--quick", action="store_true", help="5 rounds of 10 ms")
    parser.add_argument("--check", action="store_true", help="exit 1 if a budget is missed")
    parser.add_argument("--json", type=Path, help="where the figures go, if anywhere")
    asked = parser.parse_args(arguments)
    size = QUICK if asked.quick else FULL
    rounds, batch_ms = int(asked.rounds or size["rounds"]), asked.batch_ms or size["batch_ms"]
    names = asked.only or NAMES
    if absent := [name for name in names if missing(name)]:
        print(f"not installed: {', '.join(absent)}", file=sys.stderr)
        return 2
    found = []
    for name in names:
        with ExitStack() as started:
            found.append(measure(started.enter_context(running(name)), rounds=rounds, batch_ms=batch_ms))
    print(table(found))
    if asked.json is not None:
        asked.json.write_text(json.dumps(_as_json(found), indent=1) + "\n", encoding="utf-8")
    return _status(found) if asked.check else 0


def _status(found: list[Found]) -> int:
    if any(line.startswith(("session_mw", "sql_apps: ours")) for one in found for line in one.run.left_out):
        return 2
    return 0 if all(row.holds for one in found for row in one.rows) else 1


if __name__ == "__main__":
    raise SystemExit(main())
