"""Every schedule of a pair of requests: both sent before anything arrives, in every order of their operations, every
order of arrivals, and each request stopped after each of its operations; and one sent after the other arrived.

Generators cannot be copied, so a schedule is a list of choices, replayed from the start. Only a symmetric duplicate
is left out: where both requests are about to load a record, who goes first makes no difference until one of them has
done something else, so the second order is given up when it turns out to be the first one again (a sleep set).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import NamedTuple

from session_mw.core.operations import Load
from session_mw.managers import Action, Verdict

from .invariants import ARRIVAL_RULES, WORLD_RULES, End, reversed_arrival
from .kinds import Kind
from .world import Arrival, World

__all__ = ["Setting", "Tally", "Violation", "explore"]

SERIAL = "one after the other"


class Setting(NamedTuple):
    """Where a pair meets: what the jar holds, whether the store rotates in one step, and how long it was idle."""

    start: str
    can_rotate: bool = True
    idle: int = 0


class Violation(NamedTuple):
    """A rule that did not hold, and the schedule to see it again: who steps; after "!" the last one is dead."""

    rule: str
    what: str
    setting: Setting
    kinds: tuple[str, str]
    schedule: str
    arrivals: str


class Tally:
    """What came of a pair."""

    def __init__(self) -> None:
        self.schedules = 0
        self.reversed = 0
        self.violations: list[Violation] = []

    def add(self, other: Tally) -> None:
        """Count *other* in."""
        self.schedules += other.schedules
        self.reversed += other.reversed
        self.violations += other.violations


def explore(setting: Setting, a: Kind, b: Kind) -> Tally:
    """Every schedule of *a* and *b* in *setting*."""
    tally = Tally()
    for world, schedule in _overlapping(setting, a, b):
        _judge(tally, world, setting, schedule)
    for first, second in ((a, b), (b, a)):
        _judge(tally, _one_after_the_other(setting, first, second), setting, SERIAL)
    return tally


def _one_after_the_other(setting: Setting, first: Kind, second: Kind) -> World:
    """The second is sent when the first one's response has arrived."""
    world = World(*setting)
    earlier = world.send(first)
    earlier.finish()
    if world.under_way is not None:
        world.jar = world.under_way
    world.receive(earlier.verdict)
    world.send(second).finish()
    return world


def _overlapping(setting: Setting, a: Kind, b: Kind) -> Iterator[tuple[World, str]]:
    """Both sent at once: every order of operations, and every death."""
    waiting: list[list[int]] = [[]]
    while waiting:
        deaths: list[list[int]] = []
        world, choices = _replay(setting, a, b, waiting.pop(), waiting, deaths)
        if world is not None:
            yield world, _spelled(choices)
        for last in deaths:
            yield _with_a_death(setting, a, b, last), _spelled(last) + "!"


def _spelled(choices: list[int]) -> str:
    return "".join("ab"[who] for who in choices)


def _with_a_death(setting: Setting, a: Kind, b: Kind, choices: list[int]) -> World:
    """Who makes the last of *choices* dies of it; the other goes on."""
    world = World(*setting)
    pair = (world.send(a), world.send(b))
    for who in choices:
        pair[who].step()
    pair[choices[-1]].stop()
    pair[1 - choices[-1]].finish()
    return world


def _replay(
    setting: Setting, a: Kind, b: Kind, prefix: list[int], waiting: list[list[int]], deaths: list[list[int]]
) -> tuple[World | None, list[int]]:
    """Follow *prefix*, then go on somehow. No world: a duplicate.

    What else could have been done goes to *waiting*, where somebody may die goes to *deaths*; after a mere load
    nobody need die, for it leaves no trace.
    """
    world = World(*setting)
    pair = (world.send(a), world.send(b))
    choices: list[int] = []
    asleep = -1  # who would only repeat an order that was looked at
    while True:
        able = [who for who in (0, 1) if not pair[who].done]
        awake = [who for who in able if who != asleep]
        if not awake:
            return (None if able else world), choices
        new = len(choices) >= len(prefix)
        who = awake[0] if new else prefix[len(choices)]
        if new and len(awake) == 2:
            waiting.append([*choices, 1])
        loads = isinstance(pair[who].pending, Load)
        if len(able) == 2 and who == 1 and asleep == -1 and loads and isinstance(pair[0].pending, Load):
            asleep = 0
        elif not loads:
            asleep = -1
        pair[who].step()
        choices.append(who)
        if len(choices) >= max(1, len(prefix)) and not loads:
            deaths.append(list(choices))


def _judge(tally: Tally, world: World, setting: Setting, schedule: str) -> None:
    """Hold the end of a schedule against every rule, in every order of arrivals that matters."""
    end = End(world)
    kinds = (world.requests[0].kind.name, world.requests[1].kind.name)
    for rule in WORLD_RULES:
        tally.violations += [Violation(rule.__name__, what, setting, kinds, schedule, "") for what in rule(end)]
    for names, arrivals in _arrivals(end, schedule):
        tally.schedules += 1
        tally.reversed += reversed_arrival(end, arrivals)
        for check in ARRIVAL_RULES:
            found = check(end, arrivals)
            tally.violations += [Violation(check.__name__, what, setting, kinds, schedule, names) for what in found]


def _arrivals(end: End, schedule: str) -> Iterator[tuple[str, list[Arrival]]]:
    """Every order in which responses that touch the cookie can arrive."""
    responses: list[tuple[str, Arrival]] = []
    if end.world.under_way is not None:
        responses.append(("0", (-1, Verdict(Action.SET, end.world.under_way))))
    responses += [
        (request.name, (request.point, request.verdict))
        for request in end.served
        if not (request.stopped or request.lost) and request.verdict.action is not Action.LEAVE
    ]
    responses += [
        (request.name, (request.point, Verdict(Action.SET, request.issued)))  # handed to the same browser
        for request in end.requests
        if request.issued is not None and not request.lost
    ]
    orders = [tuple(responses)] if schedule == SERIAL else itertools.permutations(responses)
    for order in orders:
        yield "".join(name for name, _ in order), [arrival for _, arrival in order]
