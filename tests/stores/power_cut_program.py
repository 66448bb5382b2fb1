"""What ``test_power_cut`` runs in a process of its own: ``python power_cut_program.py <store URL> <times>``.

A writer says what it is about to do, does it, says that it is done; and is killed in the middle. What it said is then
compared with what the store holds: every id is as it was last acknowledged, or as the one call under way would have
left it. Prints how often a writer was killed.
"""

from __future__ import annotations

import hashlib
import os
import random
import signal
import sys
from collections.abc import Callable
from operator import methodcaller
from typing import Any

import msgspec
from msgspec import structs

from session_mw.core.operations import Outcome
from session_mw.core.record import Record
from session_mw.stores import closed_record
from session_mw.stores.url import store_from_url
from session_mw.testing.samples import NOW, new_record

FAR = NOW + 1_000_000
USERS = ("alice", "bob")


def state(record: Record | None) -> str:
    """Everything about *record*, as a short text."""
    return "" if record is None else hashlib.sha256(msgspec.json.encode(record)).hexdigest()


class Writer:
    """Says what it is about to do, does it, says that it is done."""

    def __init__(self, url: str, said: int, seed: int) -> None:
        self.store: Any = store_from_url(url)
        self.said = said
        self.dice = random.Random(seed)  # noqa: S311

    def payload(self) -> bytes:
        return self.dice.randbytes(self.dice.choice((0, 100, 20_000)))

    def do(self, answer: object, call: Callable[[Any], object], after: dict[str, Record | None]) -> None:
        """Make the *call*, whose answer will be *answer*, and which leaves the records *after*."""
        os.write(self.said, msgspec.json.encode({key: state(record) for key, record in after.items()}) + b"\n")
        given = call(self.store)
        assert given == answer, given
        os.write(self.said, b"done\n")

    def live(self) -> None:
        """The life of a session, or two."""
        first = new_record(user_id=self.dice.choice(USERS), payload=self.payload())
        self.do(True, methodcaller("create", first), {first.id: first})
        saved = structs.replace(first, version=2, payload=self.payload(), user_id=self.dice.choice(USERS))
        self.do(Outcome.SAVED, methodcaller("save", saved, 1), {first.id: saved})
        touched = structs.replace(saved, last_activity=saved.last_activity + 60, expires_at=saved.expires_at + 60)
        touch = methodcaller("touch", first.id, touched.last_activity, touched.expires_at)
        self.do(True, touch, {first.id: touched})
        second = structs.replace(touched, id=new_record().id, version=3)
        closed = closed_record(first.id, first.digest, until=FAR, successor=second.id)
        rotate = methodcaller("rotate", second, first.id, 2, until=FAR, successor=second.id)
        self.do(Outcome.SAVED, rotate, {first.id: closed, second.id: second})
        if self.dice.random() < 0.5:
            self.do(Outcome.DELETED, methodcaller("delete", second.id, expected_version=3), {second.id: None})


def kill_one(url: str, seed: int, known: dict[str, str]) -> None:
    """Let a writer live for a while; then *known* is what the store holds."""
    said, say = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.close(said)
            writer = Writer(url, say, seed)
            while True:
                writer.live()
        finally:
            os._exit(1)
    os.close(say)
    with os.fdopen(said, "rb") as report:
        lines = [next(report) for _ in range(2 + seed % 23)]
        os.kill(pid, signal.SIGKILL)
        assert os.waitpid(pid, 0)[1] == signal.SIGKILL, "the writer had ended by itself"
        lines += report
    begun: dict[str, str] = {}
    for line in lines:
        if line == b"done\n":
            known.update(begun)
            begun = {}
        else:
            begun = msgspec.json.decode(line)
    store: Any = store_from_url(url)
    loaded = {key: store.load(key) for key in {*known, *begun}}
    held = {key: state(record) for key, record in loaded.items()}
    for key, found in held.items():
        before = known.get(key, "")
        assert found in (before, begun.get(key, before)), "a record is neither as it was nor as it was to be"
    known.update(held)
    listed = {record.id: state(record) for user in USERS for record in store.list_user(user)}
    live = {key: held[key] for key, record in loaded.items() if record is not None and not record.closed}
    assert listed == live, "the listings are not what there is"
    store.teardown()


def end_all(url: str, known: dict[str, str]) -> None:
    """No lock was left behind, and nothing that cannot be removed."""
    store: Any = store_from_url(url)
    there = [key for key, found in known.items() if found]
    for key in there[::2]:
        record = store.load(key)
        if not record.closed:
            assert store.save(structs.replace(record, version=9), record.version) is Outcome.SAVED
            assert store.delete(key) is Outcome.DELETED
            there.remove(key)
    count = 0
    while purged := store.purge(FAR, 50):
        count += purged
    assert count == len(there), (count, len(there))
    assert [store.list_user(user) for user in USERS] == [[], []]
    store.teardown()


if __name__ == "__main__":
    known: dict[str, str] = {}
    for seed in range(int(sys.argv[2])):
        kill_one(sys.argv[1], seed, known)
    end_all(sys.argv[1], known)
    print(len(known) > 0, sys.argv[2])
