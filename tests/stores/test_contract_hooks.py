"""The tests of the kit, where it needs to be told more: commands, other processes, what a store declares it cannot do.

As in ``test_contract``: a right store passes, and one that is broken in one place fails exactly there.
"""

from __future__ import annotations

import os
import threading

import pytest
from kit_driver import failures
from msgspec import structs

from session_mw.core.operations import Outcome
from session_mw.errors import StoreBusyError, StoreError
from session_mw.stores.memory import MemoryStore
from session_mw.stores.sqlite import SQLiteStore
from session_mw.testing import StoreContract, overlap, processes

METHODS = ("load", "create", "save", "touch", "delete", "close", "rotate", "list_user", "delete_user", "purge")


# commands


class Remote:
    """A store over a backend that takes commands, one for each call; here the backend is a MemoryStore."""

    can_rotate = True
    tell = staticmethod(lambda: None)

    def __init__(self, backend):
        self.backend = backend
        self.sent = 0

    def command(self):
        self.tell()
        self.sent += 1
        return self.backend

    def initialize(self):
        pass

    teardown = initialize


def _forwarded(name):
    def method(self, *arguments, **options):
        return getattr(self.command(), name)(*arguments, **options)

    return method


for each in METHODS:
    setattr(Remote, each, _forwarded(each))


class RemoteKit(StoreContract):
    patience = 10.0
    store = Remote

    def make_store(self, tmp_path):
        self.backend = MemoryStore()
        return self.open_again(tmp_path)

    def open_again(self, tmp_path):
        return self.store(self.backend)

    def before_each_command(self, store, tell):
        store.tell = tell

    def lose_record(self, store, id):
        self.backend._live.pop(id)


class TestRemote(RemoteKit):
    """A right store, asked by every hook; nothing of it lies outside this process."""

    test_processes_lose_nothing = None
    test_processes_create_and_rotate_once = None
    test_a_delete_is_final_in_every_process = None
    test_a_store_object_survives_a_fork = None
    test_an_index_entry_without_a_record_heals = None


class TestRemoteThatCountsItself(StoreContract):
    def make_store(self, tmp_path):
        return Remote(MemoryStore())

    def commands_sent(self, store):
        return store.sent


def test_a_kit_without_pauses_counts():
    assert "test_a_call_costs_what_it_may" in TestRemoteThatCountsItself.cases()
    assert "test_a_call_overtaken_midway_ends_as_one_after_the_other" not in TestRemoteThatCountsItself.cases()


class LooksTwice(Remote):
    def load(self, id):
        self.command()
        return super().load(id)


class LooksAtNothing(Remote):
    """A cache answers."""

    def load(self, id):
        return self.backend.load(id)


class TouchesInTwo(Remote):
    def touch(self, id, last_activity, expires_at):
        return self.load(id) is not None and super().touch(id, last_activity, expires_at)


class ListsByScan(Remote):
    """A page of ten records is one command."""

    def list_user(self, user_id):
        for _ in range(len(self.backend._live) // 10):
            self.command()
        return super().list_user(user_id)


class ListsOneByOne(Remote):
    """An index of ids, and a command for each."""

    def list_user(self, user_id):
        return [self.load(record.id) for record in super().list_user(user_id)]


class SavesInTwo(Remote):
    def save(self, record, expected_version, *, payload_only=False):
        seen = self.load(record.id)
        backend = self.command()
        if seen is None or seen.closed:
            return Outcome.GONE
        if seen.version != expected_version:
            return Outcome.CONFLICT
        now = backend.load(record.id)
        if now is None or now.closed:
            backend.delete(record.id)
            backend.create(record)
            return Outcome.SAVED
        return backend.save(record, now.version, payload_only=payload_only)


class CreatesInTwo(Remote):
    def create(self, record):
        if self.load(record.id) is not None:
            return False
        backend = self.command()
        backend.delete(record.id)
        return backend.create(record)


class RotatesInTwo(Remote):
    """Looks, creates, ends; and takes nothing back."""

    def rotate(self, record, old_id, expected_version, *, until, successor=None):
        seen = self.load(old_id)
        if seen is None or seen.closed:
            return Outcome.GONE
        if seen.version != expected_version or not self.create(record):
            return Outcome.CONFLICT
        self.close(old_id, expected_version, until=until, successor=successor)
        return Outcome.SAVED


class EndsInTwo(Remote):
    def delete_user(self, user_id, *, except_id=None):
        found = [record.id for record in self.list_user(user_id) if record.id != except_id]
        return [self.delete(one) for one in found].count(Outcome.DELETED)


class SweepsInTwo(Remote):
    def purge(self, now, limit):
        backend = self.command()
        due = [one.id for one in (*backend._live.values(), *backend._closed.values()) if one.expires_at <= now][:limit]
        return sum(self.command().delete(one) is not None for one in due)


COSTLY = "a_call_costs_what_it_may"
SCANS = "listing_costs_the_same_however_many_there_are"
OVERTAKEN = "a_call_overtaken_midway_ends_as_one_after_the_other"


@pytest.mark.parametrize(
    ("store", "cases"),
    [
        (Remote, set()),
        (LooksTwice, {COSTLY}),
        (LooksAtNothing, {COSTLY}),
        (TouchesInTwo, {COSTLY}),
        (ListsByScan, {SCANS}),
        (ListsOneByOne, {SCANS}),
        (SavesInTwo, {COSTLY, OVERTAKEN}),
        (CreatesInTwo, {OVERTAKEN}),
        (RotatesInTwo, {OVERTAKEN}),
        (EndsInTwo, {OVERTAKEN}),
        (SweepsInTwo, {OVERTAKEN}),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_commands_are_counted_and_calls_overtaken(store, cases, tmp_path):
    kit = RemoteKit()
    kit.store = store
    assert failures(kit, tmp_path, [f"test_{case}" for case in (COSTLY, SCANS, OVERTAKEN)]) == cases


def test_a_store_may_declare_that_it_costs_more(tmp_path):
    class Kit(RemoteKit):
        store = SavesInTwo
        costs = {**RemoteKit.costs, "save": 2}  # noqa: RUF012

    assert failures(Kit(), tmp_path, [f"test_{COSTLY}"]) == set()


class LocksAll(Remote):
    """A call holds a lock from its first command to its last: whoever comes in between waits."""

    def rotate(self, record, old_id, expected_version, *, until, successor=None):
        with self.backend.big_lock:
            self.command()
            self.command()
            return self.backend.rotate(record, old_id, expected_version, until=until, successor=successor)


for each in set(METHODS) - {"rotate"}:

    def _locked(self, *arguments, _name=each, **options):
        backend = self.command()
        with backend.big_lock:
            return getattr(backend, _name)(*arguments, **options)

    setattr(LocksAll, each, _locked)


def test_a_call_that_waits_for_the_other_is_not_waited_for(tmp_path):
    class Kit(RemoteKit):
        store = LocksAll
        patience = 0.01

        def make_store(self, tmp_path):
            store = super().make_store(tmp_path)
            self.backend.big_lock = threading.RLock()
            return store

    assert failures(Kit(), tmp_path, [f"test_{OVERTAKEN}"]) == set()


class SkipsLocked(Remote):
    """A save holds its record from its first command on, and purge passes over what is held."""

    def save(self, record, expected_version, *, payload_only=False):
        self.command()
        self.backend.held.add(record.id)
        try:
            return super().save(record, expected_version, payload_only=payload_only)
        finally:
            self.backend.held.discard(record.id)

    def purge(self, now, limit):
        backend = self.command()
        return 0 if self.backend.held else backend.purge(now, limit)


class SkipsAndCounts(SkipsLocked):
    """Counts what it has passed over as removed."""

    def purge(self, now, limit):
        return super().purge(now, limit) or len(self.backend.held)


@pytest.mark.parametrize(
    ("store", "declared", "cases"),
    [(SkipsLocked, False, {OVERTAKEN}), (SkipsLocked, True, set()), (SkipsAndCounts, True, {OVERTAKEN})],
)
def test_a_purge_that_passes_over_what_is_held_is_declared(store, declared, cases, tmp_path):
    class Kit(RemoteKit):
        purge_skips_locked = declared

        def make_store(self, tmp_path):
            found = super().make_store(tmp_path)
            self.backend.held = set()
            return found

    kit = Kit()
    kit.store = store
    assert failures(kit, tmp_path, [f"test_{OVERTAKEN}"]) == cases


def test_an_other_that_gets_no_answer_is_told(tmp_path, monkeypatch):
    gate = threading.Event()

    class Hangs(Remote):
        def touch(self, id, last_activity, expires_at):
            if self.tell is Remote.tell:  # it is the other
                gate.wait()
            return super().touch(id, last_activity, expires_at)

    kit = RemoteKit()
    kit.store, kit.patience = Hangs, 0.01
    monkeypatch.setattr(overlap, "STUCK", 0.01)
    with pytest.raises(AssertionError, match="got no answer in"):
        getattr(kit, f"test_{OVERTAKEN}")(tmp_path)
    gate.set()


def test_a_lock_that_is_not_free_is_tried_again(tmp_path):
    class Busy(Remote):
        tries = 0

        def touch(self, id, last_activity, expires_at):
            self.tries += 1
            if self.tell is Remote.tell and self.tries % 2:
                raise StoreBusyError("not now")
            return super().touch(id, last_activity, expires_at)

    kit = RemoteKit()
    kit.store = Busy
    getattr(kit, f"test_{OVERTAKEN}")(tmp_path)


def test_what_the_other_raises_is_told(tmp_path):
    class Breaks(Remote):
        def touch(self, id, last_activity, expires_at):
            if self.tell is Remote.tell:  # it is the other
                raise StoreError("the other broke")
            return super().touch(id, last_activity, expires_at)

    kit = RemoteKit()
    kit.store = Breaks
    with pytest.raises(StoreError, match="the other broke"):
        getattr(kit, f"test_{OVERTAKEN}")(tmp_path)


# an index that may outlive its records


class Indexed(MemoryStore):
    """Records here, an index there; an entry whose record is gone is skipped, and taken out."""

    def __init__(self):
        super().__init__()
        self.index = {}

    def create(self, record):
        done = super().create(record)
        if done:
            self.index.setdefault(record.user_id, set()).add(record.id)
        return done

    def list_user(self, user_id):
        self.index[user_id] = {one for one in self.index.get(user_id, ()) if self.owned(one, user_id)}
        return [self._live[one] for one in self.index[user_id]]

    def delete_user(self, user_id, *, except_id=None):
        return [self.delete(one.id) for one in self.list_user(user_id)].count(Outcome.DELETED)

    def owned(self, one, user_id):
        return one in self._live and self._live[one].user_id == user_id

    def lose(self, one):
        record = self._live[one]
        del self._live[one]
        self._unlist(record.user_id, record.id)


class ForgetsOwner(Indexed):
    """An entry is believed when there is a record, whoever's it is by now."""

    def owned(self, one, user_id):
        return one in self._live


class ListsLost(Indexed):
    def list_user(self, user_id):
        return [self._live.get(one) for one in self.index.get(user_id, ())]


class CountsLost(Indexed):
    def delete_user(self, user_id, *, except_id=None):
        count = len(self.index.get(user_id, ()))
        super().delete_user(user_id)
        return count


@pytest.mark.parametrize(
    ("store", "right"), [(Indexed, True), (ForgetsOwner, False), (ListsLost, False), (CountsLost, False)]
)
def test_an_index_must_heal(store, right, tmp_path):
    class Kit(StoreContract):
        def make_store(self, tmp_path):
            return store()

        def lose_record(self, store, id):
            store.lose(id)

    case = "an_index_entry_without_a_record_heals"
    assert failures(Kit(), tmp_path, [f"test_{case}"]) == (set() if right else {case})


# what a store declares


class NoIndex(MemoryStore):
    def list_user(self, user_id):
        raise StoreError("there is no index")

    def delete_user(self, user_id, *, except_id=None):
        raise StoreError("there is no index")


class NoIndexAndSilent(NoIndex):
    """Nobody hears that the sessions of a user were not ended."""

    def delete_user(self, user_id, *, except_id=None):
        return 0


class Small(MemoryStore):
    def create(self, record):
        return super().create(fitting(record))

    def save(self, record, expected_version, *, payload_only=False):
        return super().save(fitting(record), expected_version, payload_only=payload_only)


def fitting(record):
    if len(record.payload) > 100_000:
        raise StoreError("too large")
    return record


class SmallAndSilent(MemoryStore):
    def save(self, record, expected_version, *, payload_only=False):
        small = structs.replace(record, payload=record.payload[:100_000])
        return super().save(small, expected_version, payload_only=payload_only)


class SweepsItself(MemoryStore):
    def purge(self, now, limit):
        return 0


class SweepsAnything(MemoryStore):
    def purge(self, now, limit):
        return super().purge(now + 10**9, limit)


class TestStoreWithoutIndex(StoreContract):
    can_list = False

    def make_store(self, tmp_path):
        return NoIndex()


class TestStoreWithoutIndexOrRotation(StoreContract):
    can_list = False

    def make_store(self, tmp_path):
        store = NoIndex()
        store.can_rotate = False
        return store


class TestSmallStore(StoreContract):
    payload_limit = 100_000

    def make_store(self, tmp_path):
        return Small()


class TestStoreThatSweepsItself(StoreContract):
    expires_itself = True

    def make_store(self, tmp_path):
        return SweepsItself()


@pytest.mark.parametrize(
    ("store", "declared", "case"),
    [
        (NoIndexAndSilent, {"can_list": False}, "listing_without_an_index_is_refused"),
        (MemoryStore, {"can_list": False}, "listing_without_an_index_is_refused"),
        (SmallAndSilent, {"payload_limit": 100_000}, "payload_over_the_limit_is_refused"),
        (SweepsAnything, {"expires_itself": True}, "purge_leaves_expiry_to_the_backend"),
    ],
)
def test_what_is_declared_is_held_to(store, declared, case, tmp_path):
    kit = type("Kit", (StoreContract,), {"make_store": lambda self, tmp_path: store(), **declared})
    assert failures(kit(), tmp_path) == {case}


def test_what_is_left_out_is_named():
    class Sub(TestStoreWithoutIndex):
        can_list = True
        test_touch_never_lowers = None

    assert TestStoreWithoutIndex.left_out()["test_listing_is_whole"] == "can_list is False"
    assert TestStoreWithoutIndex.test_listing_is_whole is None
    assert "test_listing_is_whole" in Sub.cases(), "a class takes back what another could not"
    assert "test_listing_is_whole" not in Sub.left_out()
    assert Sub.left_out()["test_touch_never_lowers"] == "taken out"
    assert "test_touch_never_lowers" not in type("More", (Sub,), {}).cases(), "a wish is not taken back"
    assert Sub.left_out()["test_a_call_costs_what_it_may"] == "neither commands_sent nor before_each_command is given"
    every = set(Sub.cases()) | set(Sub.left_out())
    assert every == set(StoreContract.cases()) | set(StoreContract.left_out())


@pytest.mark.parametrize("hook", ["open_again", "commands_sent", "before_each_command", "lose_record"])
def test_a_hook_that_is_not_given_says_so(hook):
    with pytest.raises(TypeError, match=f"{hook} is not given"):
        getattr(StoreContract(), hook)(*[None] * (getattr(StoreContract, hook).__code__.co_argcount - 1))


# processes


class Cached(SQLiteStore):
    """Believes what it has read."""

    def __init__(self, path):
        super().__init__(path)
        self.cache = {}

    def load(self, id):
        if id not in self.cache:
            self.cache[id] = super().load(id)
        return self.cache[id]

    def save(self, record, expected_version, *, payload_only=False):
        seen = self.load(record.id)
        if seen is None:
            return Outcome.GONE
        if seen.version != expected_version:
            return Outcome.CONFLICT
        now = super().load(record.id)
        super().save(record, now.version, payload_only=payload_only)
        self.cache[record.id] = record
        return Outcome.SAVED


class WritesBehind(SQLiteStore):
    """Keeps what it creates to itself until it is asked for it once more."""

    def __init__(self, path):
        super().__init__(path)
        self.kept = {}

    def create(self, record):
        self.kept[record.id] = record
        return True

    def load(self, id):
        return self.kept.get(id) or super().load(id)


class Replaces(SQLiteStore):
    def create(self, record):
        self.delete(record.id)
        return super().create(record)


class Revives(SQLiteStore):
    def save(self, record, expected_version, *, payload_only=False):
        outcome = super().save(record, expected_version, payload_only=payload_only)
        if outcome is Outcome.GONE:
            self.create(record)
            return Outcome.SAVED
        return outcome


class RotatesForAll(SQLiteStore):
    """Two steps, of which only the first is heard."""

    def rotate(self, record, old_id, expected_version, *, until, successor=None):
        self.create(record)
        self.close(old_id, expected_version, until=until, successor=successor)
        return Outcome.SAVED


class BoundToItsProcess(SQLiteStore):
    def __init__(self, path):
        super().__init__(path)
        self.pid = os.getpid()

    def load(self, id):
        if os.getpid() != self.pid:
            raise StoreError("a connection of another process")
        return super().load(id)


class DiesInAnother(BoundToItsProcess):
    def load(self, id):
        if os.getpid() != self.pid:
            os._exit(3)
        return super().load(id)


PROCESSES = [name for name in RemoteKit.cases() if name in vars(processes.ProcessCases)]


def process_kit(store):
    class Kit(StoreContract):
        def make_store(self, tmp_path):
            return store(tmp_path / "s.db")

        open_again = make_store

    return Kit()


@pytest.mark.parametrize(
    ("store", "cases"),
    [
        (Cached, {"another_store_object_finds_everything", "processes_lose_nothing",
                  "a_delete_is_final_in_every_process"}),
        (WritesBehind, {name.removeprefix("test_") for name in PROCESSES}),
        (Replaces, {"processes_create_and_rotate_once"}),
        (Revives, {"a_delete_is_final_in_every_process"}),
        (RotatesForAll, {"processes_create_and_rotate_once"}),
        (BoundToItsProcess, {"a_store_object_survives_a_fork"}),
        (DiesInAnother, {"a_store_object_survives_a_fork"}),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)  # fmt: skip
def test_processes_find_what_is_broken_between_them(store, cases, tmp_path):
    assert failures(process_kit(store), tmp_path, PROCESSES) == cases


def test_a_process_that_is_stuck_is_told_and_killed(tmp_path, monkeypatch):
    read, write = os.pipe()

    class Hangs(BoundToItsProcess):
        def load(self, id):
            if os.getpid() != self.pid:
                os.read(read, 1)
            return super().load(id)

    monkeypatch.setattr(processes, "STUCK", 0.05)
    with pytest.raises(AssertionError, match="said nothing for"):
        process_kit(Hangs).test_a_store_object_survives_a_fork(tmp_path)
    for end in (read, write):
        os.close(end)


def test_a_process_that_stops_too_early_is_told(tmp_path):
    case = processes.ProcessCases._race
    face = next(process_kit(SQLiteStore).faces(tmp_path, once=True))
    with pytest.raises(AssertionError, match="was done before it should"):
        case(process_kit(SQLiteStore), face, lambda own, child: None)
    face.end()
