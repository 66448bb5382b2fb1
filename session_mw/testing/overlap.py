"""The kit: two calls that overlap end as if one had come after the other.

Decided here: what that means. Both orders are played first, one call after the other, on the same store; when the
calls overlap, their answers and what is found afterwards must be those of one of the two. What a single call does
wrong is therefore not found here, but where it belongs. A ``purge`` that is declared to pass over a record which the
other call holds may also end as if it had found nothing due.

The calls overlap by themselves, on threads or as tasks; and by force, where a store's test can say when a command is
about to be sent (``before_each_command``): then the other call is made in between, whole, by another store object.
"""

# ruff: noqa: S101  (asserting is what this module is for)
from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
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
from .face import Face, Faces, case
from .samples import NOW, following, new_record, once, turn

__all__ = ["OverlapCases"]

DUE = 1_000_000  # before any other record of these cases
MOST_COMMANDS = 12  # of one call that are tried
STUCK = 60  # seconds


class Pair(NamedTuple):
    """Two calls on *record*, which is there before unless *fresh*."""

    name: str
    record: Record
    calls: tuple[Callable[[Face], Flow[Any]], Callable[[Face], Flow[Any]]]
    others: tuple[str, ...] = ()  # ids that the calls may make
    needs: str = ""
    users: tuple[str, ...] = ("alice", "bob")  # whose listings are looked at
    fresh: bool = False


class End(NamedTuple):
    """How two calls ended: the answers, as words; what is there, record by record; what is listed, user by user."""

    told: list[str]
    records: list[Any]
    listed: list[list[Record]]


def pairs() -> Iterator[Pair]:
    """Every pair of calls, on records that nobody has seen yet."""

    def asks(operation: Operation) -> Callable[[Face], Flow[Any]]:
        return lambda face: once(operation)

    def rotates(old: Record, new: Record) -> Callable[[Face], Flow[Any]]:
        return lambda face: turn(face, new, old.id, old.version, until=NOW + 60)

    record = new_record()
    rival = new_record(record.id, user_id="mallory", payload=b"rival")
    calls = (asks(Create(record)), asks(Create(rival)))
    yield Pair("create and create", record, calls, users=("alice", "mallory"), fresh=True)
    record = new_record()
    yield Pair("create and delete", record, (asks(Create(record)), asks(Delete(record.id))), fresh=True)

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
            both = writes(record)
            yield Pair(f"{one} and {other}", record, (both[one], both[other]))
    for one in names:
        record, new = new_record(), new_record()
        yield Pair(f"rotate and {one}", record, (rotates(record, new), writes(record)[one]), (new.id,))
        record = new_record()
        ends = asks(DeleteUser("alice"))
        yield Pair(f"delete user and {one}", record, (ends, writes(record)[one]), needs="index")
        record = new_record(expires_at=DUE)
        sweeps = asks(Purge(DUE, 5))
        yield Pair(f"purge and {one}", record, (sweeps, writes(record)[one]), needs="purge")
    record, new, another = new_record(), new_record(), new_record()
    yield Pair("rotate and rotate", record, (rotates(record, new), rotates(record, another)), (new.id, another.id))
    record, new = new_record(), new_record()
    ends = asks(DeleteUser("alice"))
    yield Pair("delete user and rotate", record, (ends, rotates(record, new)), (new.id,), needs="index")
    record, new = new_record(expires_at=DUE), new_record()
    sweeps = asks(Purge(DUE, 5))
    yield Pair("purge and rotate", record, (sweeps, rotates(record, new)), (new.id,), needs="purge")


class OverlapCases(Faces):
    """Every call is one step, whoever else is calling."""

    @case
    def test_overlapping_calls_end_as_one_after_the_other(self, face: Face) -> None:
        for pair in self._pairs():
            orders = _orders(face, pair, self.purge_skips_locked)
            for way in (1, -1) if face.awaited else (1,):  # which task begins; threads begin as they like
                _prepare(face, pair)
                answers = face.together([call(face) for call in pair.calls[::way]])
                _judge(face, pair, orders, answers[::way])

    @case(needs=("pause", "open_again"), once=True)
    def test_a_call_overtaken_midway_ends_as_one_after_the_other(self, face: Face) -> None:
        rival = Rival(self.again(face), self.patience)
        self.before_each_command(face.store, rival.told)
        try:
            for pair in self._pairs():
                orders = _orders(face, pair, self.purge_skips_locked)
                for turned in (False, True):
                    for place in range(MOST_COMMANDS):
                        if not _overtake(face, rival, pair, orders, place, turned):
                            break  # it has sent all its commands, or holds a lock from here on
        finally:
            rival.face.end()

    def _pairs(self) -> Iterator[Pair]:
        for pair in pairs():
            if (pair.needs != "index" or self.can_list) and (pair.needs != "purge" or not self.expires_itself):
                yield pair


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
        assert face.ask(Create(pair.record)) is True, "create did not answer True for a new id"


def _orders(face: Face, pair: Pair, purge_skips_locked: bool) -> list[End]:
    """How the calls of *pair* may end: as when they come one after the other, in either order."""
    orders: list[tuple[int, ...]] = [(0, 1), (1, 0)]
    if pair.needs == "purge" and purge_skips_locked:
        orders.append((1,))
    ends = []
    for order in orders:
        _prepare(face, pair)
        answers: list[Any] = [0, 0]  # of a purge that is not among them
        for index in order:
            answers[index] = face.play(pair.calls[index](face))
        ends.append(_end(face, pair, answers))
    return ends


def _overtake(face: Face, rival: Rival, pair: Pair, orders: list[End], place: int, turned: bool) -> bool:
    """Make one call of *pair* and, before its command number *place*, the other; whether to try the next place."""
    _prepare(face, pair)
    first, second = reversed(pair.calls) if turned else pair.calls
    rival.wait_for(place, second)
    try:
        answer = face.play(first(face))
    finally:
        rival.join()
    if not rival.came:
        _forget(face, pair)
        return False
    answers = [rival.answer, answer] if turned else [answer, rival.answer]
    _judge(face, pair, orders, answers, f"{', turned' if turned else ''}, before command {place + 1}")
    return not rival.waited


def _judge(face: Face, pair: Pair, orders: list[End], answers: list[Any], where: str = "") -> None:
    end = _end(face, pair, answers)
    assert end in orders, f"{pair.name}{where}: {_words(end)}; one after the other: {' or '.join(map(_words, orders))}"


def _end(face: Face, pair: Pair, answers: list[Any]) -> End:
    """The answers, and what is there of the pair's records, which are deleted then."""
    told = [answer.name if isinstance(answer, Outcome) else repr(answer) for answer in answers]
    if not face.can_rotate and pair.name == "delete user and rotate":
        told = []  # delete_user may come between the two steps, and then it takes both records
    records: list[Any] = []
    for id in (pair.record.id, *pair.others):  # noqa: A001
        record = face.ask(Load(id))
        if record is not None and record.closed:  # only these are promised of it
            record = ("closed", record.digest, record.expires_at, record.successor)
        records.append(record)
    listed = [face.ask(ListUser(user)) for user in pair.users] if face.can_list else []
    _forget(face, pair)
    return End(told, records, listed)


def _forget(face: Face, pair: Pair) -> None:
    for id in (pair.record.id, *pair.others):  # noqa: A001
        face.ask(Delete(id))


def _words(end: End) -> str:
    shown = []
    for record in end.records:
        if isinstance(record, Record):
            shown.append(f"version {record.version} of {record.user_id}")
        else:
            shown.append("nothing" if record is None else "a closed record")
    shown += [f"{len(records)} listed" for records in end.listed]
    return f"{' and '.join(end.told)} with {', '.join(shown)}"
