"""The harness: prove every cell, size its batches, then time all cells side by side in one run.

What is compared with each other (a bare app, a floor, ours, the peers: one *group*) takes turns in slices of about
two milliseconds, in alternating order, so that a machine that slows down slows them all; a round visits every group.
Sessions and requests are made before the clock starts, and what the setup built is frozen out of the collector's sight.
"""

from __future__ import annotations

import asyncio
import gc
import itertools
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

from . import peers, subjects
from .drivers import Jar, Template
from .scenarios import SCENARIOS, Scenario, forged
from .subjects import Builder, Clock, Subject, Workshop

__all__ = ["Cell", "Run", "UnprovenError", "awake", "build", "groups", "measure", "prove", "requests", "workshop"]

SLICE_MS = 2
STEP = 2  # seconds the clock moves on between requests whose touch shall be due


class UnprovenError(Exception):
    """A cell does not do the work its column stands for."""


@dataclass
class Cell:
    """One subject in one column. ``samples`` are µs per request, one a round; ``floor`` is what it is compared with."""

    subject: Subject
    column: str
    scenario: Scenario
    bare: Cell | None = None
    floor: Cell | None = None
    proven: bool = True
    size: int = 1  # requests in a slice
    samples: list[float] = field(default_factory=list)

    @property
    def costs(self) -> list[float]:
        """µs over the bare app, round by round."""
        bare = self.bare.samples if self.bare else itertools.repeat(0.0)
        return [mine - theirs for mine, theirs in zip(self.samples, bare, strict=False)]

    @property
    def cost(self) -> float:
        """Median µs over the bare app."""
        return statistics.median(self.costs)

    @property
    def ratio(self) -> float | None:
        """Median ratio to the floor of the same rounds; ``None`` where no floor ran beside it or it cost nothing."""
        if self.floor is None:
            return None
        pairs = [mine / least for mine, least in zip(self.costs, self.floor.costs, strict=True) if least > 0]
        return statistics.median(pairs) if pairs else None


@dataclass
class Run:
    """What one run found."""

    cells: list[Cell]  # without the bare ones
    left_out: list[str]  # what could not be measured, and why
    rounds: int
    batch_ms: float
    seconds: float


@contextmanager
def awake(really: bool = True) -> Iterator[None]:
    """Keep the processors awake: for each somebody who never rests, at the lowest priority, while this process lives.

    Where nothing else runs it falls asleep at each wait for a server, and its waking is charged to whoever waited.
    """
    if not really:
        yield
        return
    code = "import os; parent = os.getppid(); os.nice(19)\nwhile os.getppid() == parent: pass"
    restless = [subprocess.Popen([sys.executable, "-c", code]) for _ in range(os.cpu_count() or 1)]  # noqa: S603
    try:
        yield
    finally:
        for process in restless:
            process.terminate()
            process.wait(10)


@contextmanager
def workshop() -> Iterator[Workshop]:
    """A loop and a directory for subjects, closed with them."""
    with ExitStack() as closing:
        directory = Path(closing.enter_context(tempfile.TemporaryDirectory(prefix="session-bench-")))
        loop = asyncio.new_event_loop()
        closing.callback(loop.close)
        yield Workshop(loop, directory, closing)


def build(workshop: Workshop, builders: Iterable[Builder]) -> tuple[list[Subject], list[str]]:
    """The subjects that can be built, and one line a module on those that cannot."""
    built, missing = [], dict[str, dict[str, str]]()
    for builder in builders:
        try:
            built.append(builder(workshop))
        except ImportError as error:
            missing.setdefault(builder.__module__, {})[builder.__name__] = str(error)
    return built, [
        f"{module.rpartition('.')[2]}: {', '.join(names)} ({'; '.join(dict.fromkeys(names.values()))})"
        for module, names in missing.items()
    ]


def groups(
    workshop: Workshop,
    chosen: list[Subject],
    columns: Iterable[str],
    *,
    frames: Mapping[str, Builder] = MappingProxyType({}),
    against: str = "floor",
) -> list[list[Cell]]:
    """The cells of the *chosen* subjects, in groups of one column, protocol and kind with their bare apps.

    *frames*: builders of bare apps beside those of ``subjects`` and ``peers``. *against*: the group of the subject
    that the others beside it are compared with.
    """
    builders = {**subjects.FRAMES, **peers.FRAMES, **frames}
    needed = dict.fromkeys(subject.frame for subject in chosen)
    bare_subjects = {frame: builders[frame](workshop) for frame in needed}
    kinds = dict.fromkeys((subject.protocol, subject.kind) for subject in chosen)
    made: list[list[Cell]] = []
    for column, kind in itertools.product(columns, kinds):
        scenario = SCENARIOS[column]
        members = [
            subject
            for subject in chosen
            if (subject.protocol, subject.kind) == kind
            and (column in subject.scenarios or (scenario.floor and subject.group == against))
        ]
        members.sort(key=lambda subject: subject.group != against)
        bare = {
            frame: Cell(bare_subjects[frame], column, scenario)
            for frame in dict.fromkeys(subject.frame for subject in members)
        }
        floor = None
        cells = list(bare.values())
        for subject in members:
            if subject.group == against:
                own = SCENARIOS[scenario.floor] if scenario.floor else scenario
                cell = floor = Cell(subject, column, own, bare[subject.frame])
            else:
                cell = Cell(subject, column, scenario, bare[subject.frame], floor)
            cells.append(cell)
        if any(column in subject.scenarios for subject in members):
            made.append(cells)
    return made


def _jar(cell: Cell) -> Jar | None:
    """The cookies this scenario's client holds: a new session's, a forgery of it, or none."""
    subject, driver = cell.subject, cell.subject.driver
    if cell.scenario.session == "none":
        return None
    jar = driver.exchange(subject.app, driver.template("/fill", None)).jar
    if cell.scenario.session == "forged":
        return {name: forged(value, subject.forge_at) for name, value in jar.items()}
    return jar


def requests(cell: Cell, count: int) -> Iterator[Template]:
    """*count* requests, made before any clock starts."""
    subject, scenario, driver = cell.subject, cell.scenario, cell.subject.driver
    subject.wipe()
    if scenario.used_up and subject.kind not in ("cookie", "none"):
        return iter([driver.template(scenario.path, _jar(cell)) for _ in range(count)])
    template = driver.template(scenario.path, _jar(cell))
    if subject.clock is not None:
        return _ticking(subject.clock, template, count)
    return itertools.repeat(template, count)


def _ticking(clock: Clock, template: Template, count: int) -> Iterator[Template]:
    for _ in range(count):
        clock.now += STEP
        yield template


def prove(cell: Cell) -> None:
    """Run the scenario once and look at what came back. Raises ``UnprovenError``."""
    subject, scenario, driver = cell.subject, cell.scenario, cell.subject.driver

    def expect(what: bool, otherwise: str) -> None:
        if not what:
            raise UnprovenError(f"{subject.name}, {cell.column}: {otherwise}")

    subject.wipe()
    jar = _jar(cell)
    expect(jar is None or len(jar) == 1, "no session cookie was set for a new session")
    if subject.clock is not None:
        subject.clock.now += STEP
    reply = driver.exchange(subject.app, driver.template(scenario.path, jar))
    expect(reply.status == 200, f"status {reply.status}")
    expect(scenario.answer in (None, reply.body), "the handler answered something else")
    if scenario.sets == "always" or (scenario.sets == "sealed" and subject.kind == "cookie"):
        expect(bool(reply.jar), "no Set-Cookie")
    elif subject.group != "peer":  # some peers set a cookie in every answer: that is theirs to pay
        expect(not reply.cookies, "a Set-Cookie nobody asked for")
    if scenario.check is not None:
        path, body = scenario.check
        later = driver.exchange(subject.app, driver.template(path, {**(jar or {}), **reply.jar}))
        expect(later.body == (reply.body if body is None else body), "the next request does not see the change")


def _refusal(cell: Cell) -> str | None:
    """Why *cell* cannot be timed; ``None`` when it is proven."""
    try:
        prove(cell)
    except UnprovenError as error:
        reason = str(error)
    except Exception as error:  # an app that raises shall not end the run of the others
        reason = f"{cell.subject.name}, {cell.column}: {type(error).__name__}: {error}"
    else:
        return None
    cell.proven = False
    return reason


def _size(cell: Cell, seconds: float) -> int:
    """How many requests take about *seconds* of CPU, without waiting for a disk much longer than that."""

    def took(count: int) -> float:
        spent = cell.subject.driver.batch(cell.subject.app, requests(cell, count))
        return max(spent.cpu, spent.wall / 4)

    count = 1
    while True:  # the best of three: one hiccup shall not leave a cell with slices of one request
        best = took(count)
        if best > seconds / 2 and (best := min(best, took(count), took(count))) > seconds / 2:
            return max(1, round(count * seconds / best))
        count *= 4


def measure(
    builders: Iterable[Builder],
    *,
    columns: Iterable[str] = tuple(SCENARIOS),
    rounds: int,
    batch_ms: float,
    limit: float,
    frames: Mapping[str, Builder] = MappingProxyType({}),
    against: str = "floor",
    progress: Callable[[str], None] = lambda text: None,
) -> Run:
    """Measure in *rounds*, or in as many as fit into *limit* seconds (at least one); *batch_ms* a cell and round.

    *frames* and *against* as in ``groups``.
    """
    began = time.perf_counter()
    with workshop() as shop:
        chosen, left_out = build(shop, builders)
        grid = []
        for group in groups(shop, chosen, columns, frames=frames, against=against):
            refused = [line for cell in group if cell.bare is not None and (line := _refusal(cell))]
            left_out += refused
            grid.append([cell for cell in group if cell.proven])
            for cell in group:
                cell.floor = cell.floor if cell.floor and cell.floor.proven else None
        slices = max(1, round(batch_ms / SLICE_MS))
        collecting = gc.isenabled()
        gc.collect()
        gc.freeze()
        gc.disable()
        try:
            for cell in itertools.chain.from_iterable(grid):
                cell.size = _size(cell, batch_ms / slices / 1000)
            made, longest = 0, 0.0
            while made < rounds and (made == 0 or time.perf_counter() - began + longest < limit):
                start = time.perf_counter()
                for group in grid:
                    _take_turns(group, slices)
                made += 1
                longest = max(longest, time.perf_counter() - start)
                progress(f"round {made} of {rounds}, at most {longest:.1f} s each")
        finally:
            gc.unfreeze()
            if collecting:
                gc.enable()
    measured = [cell for group in grid for cell in group if cell.bare is not None]
    return Run(measured, left_out, made, batch_ms, time.perf_counter() - began)


def _take_turns(group: list[Cell], slices: int) -> None:
    ready = [(cell, requests(cell, cell.size * slices)) for cell in group]
    spent = dict.fromkeys(map(id, group), 0.0)
    gc.collect()
    for turn in range(slices):
        for cell, templates in ready if turn % 2 == 0 else reversed(ready):
            batch = cell.subject.driver.batch(cell.subject.app, itertools.islice(templates, cell.size))
            spent[id(cell)] += batch.cpu
    for cell in group:
        cell.samples.append(spent[id(cell)] / (cell.size * slices) * 1e6)
