"""The kit: what must hold between processes, tried with real ones.

Decided here: they are forks, as a server's workers are, so that a store's test may open again whatever it made. A
child does its part with a store object of its own, tells its parent over a pipe, and ends without cleaning up, which
would be its parent's business.
"""

# ruff: noqa: S101  (asserting is what this module is for)
from __future__ import annotations

import gc
import os
import select
import signal
import warnings
from collections.abc import Callable
from contextlib import suppress
from typing import NoReturn

from ..core.operations import Create, Delete, Load, Outcome, Save
from ..core.record import Record
from .face import Face, Faces, case
from .samples import NOW, assert_listed, assert_record, following, new_record, once, turn

__all__ = ["ProcessCases"]

CHILDREN = 2
ROUNDS = 20
STUCK = 60  # seconds

_READY, _STEP, _DONE, _FAILED = b"r", b"s", b"d", b"f"


class ProcessCases(Faces):
    """Whoever shares the data shares the rules."""

    @case(needs=("open_again",), once=True)
    def test_another_store_object_finds_everything(self, face: Face) -> None:
        record, other = new_record(), new_record()
        face.ask(Create(record))
        assert_record(face, record)
        again = self.again(face)
        try:
            assert_record(again, record)
            changed = following(record, payload=b"by the other")
            assert again.ask(Save(changed, 1)) is Outcome.SAVED, "another store object cannot save"
            assert face.ask(Save(following(record), 1)) is Outcome.CONFLICT, "a store does not see what another saved"
            assert_record(face, changed)
            again.ask(Create(other))
            assert_listed(face, [record.id, other.id], "a store does not list what another created")
        finally:
            again.end()
        assert_record(face, other)

    @case(needs=("open_again",), once=True)
    def test_data_outlives_the_store_object(self, face: Face) -> None:
        record = new_record()
        face.ask(Create(record))
        face.call("teardown")
        again = self.again(face)
        try:
            assert_record(again, record)
        finally:
            again.end()

    @case(needs=("open_again", "fork"), once=True)
    def test_processes_lose_nothing(self, face: Face) -> None:
        record = new_record(payload=b"0")
        face.ask(Create(record))

        def count_up(own: Face, child: Child) -> None:
            own.ask(Load(record.id))
            child.ready()
            done = 0
            while done < ROUNDS:
                seen: Record = own.ask(Load(record.id))
                changed = following(seen, payload=b"%d" % (int(seen.payload) + 1))
                done += own.ask(Save(changed, seen.version, payload_only=bool(done % 2))) is Outcome.SAVED

        self._race(face, count_up)
        found = face.ask(Load(record.id))
        assert found.payload == b"%d" % (CHILDREN * ROUNDS), f"{CHILDREN * ROUNDS} increments made {found.payload!r}"

    @case(needs=("open_again", "fork"), once=True)
    def test_processes_create_and_rotate_once(self, face: Face) -> None:
        """Of those who create one id, or rotate one record, a single one is told that it did."""
        old = new_record()
        face.ask(Create(old))
        ids = [new_record().id for _ in range(ROUNDS)]
        news = [new_record(user_id="bob") for _ in range(CHILDREN)]

        def grab(own: Face, child: Child) -> None:
            own.ask(Load(old.id))
            child.ready()
            won = sum(own.ask(Create(new_record(id, user_id=None))) is True for id in ids)  # noqa: A001
            rotated = own.play(turn(own, news[child.number], old.id, 1, until=NOW + 60))
            child.says(f"{won} {int(rotated is Outcome.SAVED)}")

        told = [text.split() for text in self._race(face, grab)]
        created, rotated = (sum(int(each[part]) for each in told) for part in (0, 1))
        assert created == len(ids), f"{len(ids)} ids were created {created} times"
        assert rotated == 1, f"one record was rotated {rotated} times"
        left = [new.id for new in news if face.ask(Load(new.id)) is not None]
        assert len(left) == 1, f"{len(left)} rotations of one record left their new one"

    @case(needs=("open_again", "fork"), once=True)
    def test_a_delete_is_final_in_every_process(self, face: Face) -> None:
        record = new_record()
        face.ask(Create(record))

        def save_on(own: Face, child: Child) -> None:
            seen: Record = own.ask(Load(record.id))
            child.ready()
            over = False
            while not over:
                over = child.is_let_go()  # then it is deleted, and this is the last try
                outcome = own.ask(Save(following(seen), seen.version))
                assert not over or outcome is Outcome.GONE, f"after a delete, another process's save answered {outcome}"
                seen = own.ask(Load(record.id)) or seen
                child.step()

        def delete(children: list[Running]) -> None:
            for child in children:
                child.wait(_STEP)  # everybody is at work
            assert face.ask(Delete(record.id)) is Outcome.DELETED, "delete did not answer DELETED"
            for child in children:
                child.go()

        self._race(face, save_on, delete)
        assert face.ask(Load(record.id)) is None, "another process brought a deleted record back"
        assert_listed(face, [], "another process listed a deleted record")

    @case(needs=("open_again", "fork"), once=True)
    def test_a_store_object_survives_a_fork(self, face: Face) -> None:
        """What a process opened before it forked is of use to it and to its child, and neither disturbs the other."""
        record, theirs, ours = new_record(payload=b"0"), new_record(), new_record()
        face.ask(Create(record))

        def use(own: Face, child: Child) -> None:
            inherited = Face(face.name, face.store, self, face.directory)
            assert_record(inherited, record)
            assert inherited.ask(Create(theirs)) is True, "an inherited store cannot create"
            child.ready()
            assert_record(inherited, ours)

        def go_on(children: list[Running]) -> None:
            assert face.ask(Create(ours)) is True, "a store that has forked cannot create"

        self._race(face, use, before=go_on, children=1)
        for one in (record, theirs, ours):
            assert_record(face, one)
        assert face.play(once(Delete(record.id))) is Outcome.DELETED, "a store that has forked cannot delete"

    def _race(
        self,
        face: Face,
        work: Callable[[Face, Child], None],
        meanwhile: Callable[[list[Running]], None] | None = None,
        *,
        before: Callable[[list[Running]], None] | None = None,
        children: int = CHILDREN,
    ) -> list[str]:
        """*work* in every child: each gets ready, all go on together. What they say.

        Here, *before* is called when all are ready, *meanwhile* when they have been let go.
        """
        running: list[Running] = []
        try:
            for number in range(children):
                running.append(self._fork(face, work, number))  # noqa: PERF401  (a failure leaves those before it)
            for child in running:
                child.wait(_READY)
            if before is not None:
                before(running)
            for child in running:
                child.go()
            if meanwhile is not None:
                meanwhile(running)
            return [child.wait(_DONE) for child in running]
        finally:
            for child in running:
                child.end()

    def _fork(self, face: Face, work: Callable[[Face, Child], None], number: int) -> Running:
        told, go = os.pipe(), os.pipe()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # other threads: the child touches nothing of theirs
            pid = os.fork()
        if not pid:
            os.close(told[0])
            os.close(go[1])
            self._be_child(face, work, Child(number, told[1], go[0]))
        os.close(told[1])
        os.close(go[0])
        return Running(pid, told[0], go[1])

    def _be_child(self, face: Face, work: Callable[[Face, Child], None], child: Child) -> NoReturn:
        gc.disable()  # what is garbage here may be a connection of the parent's
        try:
            own = self.again(face)
            work(own, child)
            own.end()
            child.tell(_DONE)
        except BaseException as error:
            with suppress(BaseException):
                child.says(f"{type(error).__name__}: {error}")
                child.tell(_FAILED)
        finally:
            os._exit(0)


class Child:
    """A child, seen by itself. It tells in lines: one letter, and what it says."""

    def __init__(self, number: int, told: int, go: int) -> None:
        self.number = number
        self._told = told
        self._go = go
        self._words = ""

    def says(self, words: str) -> None:
        """What to tell with the last line."""
        self._words = " ".join(words.split())

    def tell(self, letter: bytes) -> None:
        os.write(self._told, letter + self._words.encode() + b"\n")

    def step(self) -> None:
        """Tell that a part is done."""
        self.tell(_STEP)

    def ready(self) -> None:
        """Tell so, and wait to be let go."""
        self.tell(_READY)
        os.read(self._go, 1)

    def is_let_go(self) -> bool:
        """Whether the parent has let it go once more."""
        return bool(select.select([self._go], [], [], 0)[0])


class Running:
    """A child, seen by its parent."""

    def __init__(self, pid: int, told: int, go: int) -> None:
        self.pid = pid
        self._told = told
        self._go = go
        self._through = False  # it has told its end
        self._read = b""

    def go(self) -> None:
        os.write(self._go, b".")

    def wait(self, letter: bytes) -> str:
        """Until the child tells *letter*; what it says. Raises AssertionError when it failed, or is stuck."""
        while True:
            line, newline, rest = self._read.partition(b"\n")
            if newline:
                self._read = rest
                self._through = line[:1] in (_DONE, _FAILED)
                if line[:1] == letter:
                    return line[1:].decode()
                assert line[:1] != _FAILED, f"in another process: {line[1:].decode()}"
                assert line[:1] != _DONE, "another process was done before it should"
                continue
            readable, _, _ = select.select([self._told], [], [], STUCK)
            assert readable, f"another process said nothing for {STUCK} seconds"
            told = os.read(self._told, 65536)
            assert told, "another process ended without a word"
            self._read += told

    def end(self) -> None:
        """See it out; one that has not told its end is killed."""
        ending = self._through and select.select([self._told], [], [], STUCK)[0]
        if not ending or os.read(self._told, 1):
            with suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        os.close(self._told)
        os.close(self._go)
