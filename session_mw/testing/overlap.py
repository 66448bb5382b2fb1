"""The kit: two calls that overlap end as if one had come after the other.

Decided here: what that means. Both orders are played on a model (``MemoryStore``, which has one lock); the answers
of the two calls, and what is found afterwards, must be those of one of the two.

The calls overlap by themselves, on threads or as tasks; and by force, where a store's test can say when a command is
about to be sent (``before_each_command``): then the other call is made in between, whole, by another store object.
"""

# ruff: noqa: S101  (asserting is what this module is for)
from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from ..core.operations import (
    Close,
    Create,
    Delete,
    DeleteUser,
    Flow,
    ListUser,
    Load,
    Operation,
    Outcome,
    Purge,
    Save,
    Touch,
)
from ..core.record import Record
from ..errors import StoreBusyError
from ..stores.memory import MemoryStore
from .face import Face, Faces, case
from .hooks import Hooks
from .samples import NOW, following, new_record, once, turn

__all__ = ["OverlapCases"]

DUE = 1_000_000  # before any other record of these cases
MOST_COMMANDS = 12  # of one call that are tried
STUCK = 60  # seconds


class Pair(NamedTuple):
    """Two calls on *records*, which are there before unless *fresh*; both touch the first."""

    name: str
    records: list[Record]
    calls: tuple[Callable[[Face], Flow[Any]], Callable[[Face], Flow[Any]]]
    others: tuple[str, ...] = ()  # ids that the calls may make
    needs: str = ""
    fresh: bool = False


def pairs() -> Iterator[Pair]:
    """Every pair of calls, on records that nobody has seen yet."""

    def asks(operation: Operation) -> Callable[[Face], Flow[Any]]:
        return lambda face: once(operation)

    def rotates(old: Record, new: Record) -> Callable[[Face], Flow[Any]]:
        return lambda face: turn(face, new, old.id, old.version, until=NOW + 60)

    record = new_record()
    rival = new_record(record.id, user_id="mallory", payload=b"rival")
    yield Pair("create and create", [record], (asks(Create(record)), asks(Create(rival))), fresh=True)
    record = new_record()
    yield Pair("create and delete", [record], (asks(Create(record)), asks(Delete(record.id))), fresh=True)

    def writes(record: Record) -> dict[str, Callable[[Face], Flow[Any]]]:
        owned = following(record, user_id="bob", payload=b"saved", expires_at=NOW + 9000)
        return {
            "save": asks(Save(owned, 1)),
            "save payload": asks(Save(following(record, payload=b"new"), 1, payload_only=True)),
            "touch": asks(Touch(record.id, NOW + 50, NOW + 9000)),
            "delete": asks(Delete(record.id)),
            "delete version": asks(Delete(record.id, 1)),
            "close": asks(Close(record.id, 1, until=NOW + 60)),
        }

    names = list(writes(new_record()))
    for first, one in enumerate(names):
        for other in names[first:]:
            record = new_record()
            calls = writes(record)
            yield Pair(f"{one} and {other}", [record], (calls[one], calls[other]))
    for one in names:
        record, new = new_record(), new_record()
        yield Pair(f"rotate and {one}", [record], (rotates(record, new), writes(record)[one]), (new.id,))
        record = new_record()
        ends = asks(DeleteUser("alice"))
        yield Pair(f"delete user and {one}", [record], (ends, writes(record)[one]), needs="index")
        record = new_record(expires_at=DUE)
        sweeps = asks(Purge(DUE, 5))
        yield Pair(f"purge and {one}", [record], (sweeps, writes(record)[one]), needs="purge")
    record, new, another = new_record(), new_record(), new_record()
    yield Pair("rotate and rotate", [record], (rotates(record, new), rotates(record, another)), (new.id, another.id))
    record, new = new_record(), new_record()
    ends = asks(DeleteUser("alice"))
    yield Pair("delete user and rotate", [record], (ends, rotates(record, new)), (new.id,), needs="index")
    record, new = new_record(expires_at=DUE), new_record()
    sweeps = asks(Purge(DUE, 5))
    yield Pair("purge and rotate", [record], (sweeps, rotates(record, new)), (new.id,), needs="purge")


class OverlapCases(Faces):
    """Every call is one step, whoever else is calling."""

    @case
    def test_overlapping_calls_end_as_one_after_the_other(self, face: Face) -> None:
        for pair in self._pairs():
            _prepare(face, pair)
            answers = face.together(call(face) for call in pair.calls)
            self._judge(face, pair, answers)

    @case(needs=("pause", "open_again"), once=True)
    def test_a_call_overtaken_midway_ends_as_one_after_the_other(self, face: Face) -> None:
        rival = Rival(self.again(face), self.patience)
        self.before_each_command(face.store, rival.told)
        over: set[tuple[str, bool]] = set()  # those that sent all their commands, or hold a lock from here on
        try:
            for place in range(MOST_COMMANDS):
                for turned in (False, True):
                    for pair in self._pairs():
                        if (pair.name, turned) not in over and not self._overtake(face, rival, pair, place, turned):
                            over.add((pair.name, turned))
        finally:
            rival.face.end()

    def _pairs(self) -> Iterator[Pair]:
        for pair in pairs():
            if (pair.needs != "index" or self.can_list) and (pair.needs != "purge" or not self.expires_itself):
                yield pair

    def _overtake(self, face: Face, rival: Rival, pair: Pair, place: int, turned: bool) -> bool:
        """Make one call of *pair* and, before its command number *place*, the other; whether to try the next place."""
        _prepare(face, pair)
        first, second = reversed(pair.calls) if turned else pair.calls
        rival.wait_for(place, second)
        try:
            answer = face.play(first(face))
        finally:
            rival.join()
        if not rival.came:
            self._forget(face, pair)
            return False
        name = f"{pair.name}{', turned' if turned else ''}, before command {place + 1}"
        self._judge(face, pair, [rival.answer, answer] if turned else [answer, rival.answer], name)
        return not rival.waited

    def _judge(self, face: Face, pair: Pair, answers: list[Any], name: str = "") -> None:
        found = _found(face, pair), _told(face, pair, answers)
        orders = [_played(self, pair, order) for order in ((0, 1), (1, 0))]
        wanted = [(state, _told(face, pair, told)) for state, told in orders]
        assert found in wanted, (
            f"{name or pair.name}: {found[1]} with {_words(found[0])} is neither "
            f"{wanted[0][1]} with {_words(wanted[0][0])} nor {wanted[1][1]} with {_words(wanted[1][0])}"
        )
        self._forget(face, pair)

    def _forget(self, face: Face, pair: Pair) -> None:
        for id in (pair.records[0].id, *pair.others):  # noqa: A001
            face.ask(Delete(id))


class Rival:
    """Makes a call on *face*, a store object of its own, at a chosen command of somebody else's.

    On a thread: where it waits for a lock that the other holds, the other goes on after *patience* seconds.
    ``came``: whether the command was reached; ``waited``: whether the call had to wait; ``answer``: what it said.
    """

    def __init__(self, face: Face, patience: float) -> None:
        self.face = face
        self.answer: Any = None
        self.came = self.waited = False
        self._patience = patience
        self._call: Callable[[Face], Flow[Any]] | None = None
        self._place = 0
        self._thread: threading.Thread | None = None

    def wait_for(self, place: int, call: Callable[[Face], Flow[Any]]) -> None:
        """Make *call* before the command number *place*, counted from 0."""
        self._place, self._call, self._thread = place, call, None
        self.came = self.waited = False

    def told(self) -> None:
        """A command is about to be sent."""
        if self._call is None or self.came:
            return
        if self._place:
            self._place -= 1
            return
        self.came = True
        self._thread = threading.Thread(target=self._make, args=(self._call,), daemon=True)
        self._thread.start()
        self._thread.join(self._patience)
        self.waited = self._thread.is_alive()

    def _make(self, call: Callable[[Face], Flow[Any]]) -> None:
        while True:
            try:
                self.answer = self.face.play(call(self.face))
            except StoreBusyError:  # nothing was changed: the other holds a lock
                continue
            except Exception as error:
                self.answer = error
            return

    def join(self) -> None:
        """Until the call, if it was made, is over. Raises what it raised."""
        self._call = None
        if self._thread is None:
            return
        self._thread.join(STUCK)
        assert not self._thread.is_alive(), f"a call by another store object got no answer in {STUCK} seconds"
        if isinstance(self.answer, Exception):
            raise self.answer


def _prepare(face: Face, pair: Pair) -> None:
    if not pair.fresh:
        for record in pair.records:
            assert face.ask(Create(record)) is True, "create did not answer True for a new id"


def _found(face: Face, pair: Pair) -> dict[str, Any]:
    """What is there of *pair*'s records: by id, and by user."""
    state: dict[str, Any] = {}
    for number, id in enumerate((pair.records[0].id, *pair.others)):  # noqa: A001
        record = face.ask(Load(id))
        if record is not None and record.closed:  # only these are promised of it
            record = ("closed", record.digest, record.expires_at, record.successor)
        state[f"record {number + 1}"] = record
    if face.can_list:
        for user in ("alice", "bob", "mallory"):
            state[user] = face.ask(ListUser(user))
    return state


def _told(face: Face, pair: Pair, answers: list[Any]) -> list[str]:
    """The answers as words. How many delete_user took differs where it may meet a rotation between its two steps."""
    uncounted = not face.can_rotate and pair.name == "delete user and rotate"
    words = [answer.name if isinstance(answer, Outcome) else repr(answer) for answer in answers]
    return ["…", "…"] if uncounted else words


def _words(state: dict[str, Any]) -> str:
    shown = []
    for name, value in state.items():
        if isinstance(value, Record):
            value = f"version {value.version} of {value.user_id}"
        elif isinstance(value, tuple):
            value = "closed"
        elif isinstance(value, list):
            value = f"{len(value)} listed"
        shown.append(f"{name}: {value}")
    return "{" + ", ".join(shown) + "}"


def _played(hooks: Hooks, pair: Pair, order: tuple[int, int]) -> tuple[dict[str, Any], list[Any]]:
    """What the model holds, and answered, when the calls of *pair* come in *order*."""
    model = Face("model", MemoryStore(), hooks, Path())
    _prepare(model, pair)
    answers: list[Any] = [None, None]
    for index in order:
        answers[index] = model.play(pair.calls[index](model))
    return _found(model, pair), answers
