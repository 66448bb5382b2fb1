"""MemoryStore: the contract, and what is given up when it is full."""

from __future__ import annotations

import pytest

from session_mw.core.operations import Outcome
from session_mw.errors import ConfigurationError, StoreError
from session_mw.stores.memory import MemoryStore
from session_mw.testing import Clock, StoreContract
from session_mw.testing.contract import new_record


class TestMemoryStore(StoreContract):
    def make_store(self, tmp_path):
        return MemoryStore()


def fill(store, count, **changes):
    records = [new_record(**changes) for _ in range(count)]
    for record in records:
        assert store.create(record)
    return records


def there(store, records):
    return [store.load(record.id) is not None for record in records]


@pytest.mark.parametrize("bound", [0, -1, 1.5, True, None, "10"])
def test_a_bound_that_is_none_is_refused(bound):
    with pytest.raises(ConfigurationError, match="max_sessions"):
        MemoryStore(bound)


def test_full_gives_up_what_has_expired_first():
    clock = Clock()
    store = MemoryStore(3, clock=clock)
    old, short, new = (fill(store, 1, expires_at=int(clock.now) + life)[0] for life in (500, 10, 500))
    clock.advance(10)
    added = new_record(user_id="bob")
    assert store.create(added)
    assert there(store, [old, short, new, added]) == [True, False, True, True]


def test_full_and_nothing_expired_gives_up_the_least_recently_active():
    store = MemoryStore(3, clock=Clock(0))
    first, second, third = fill(store, 3)
    store.touch(first.id, first.last_activity + 1, first.expires_at)
    assert store.save(new_record(second.id, version=2), 1) is Outcome.SAVED
    fill(store, 1, user_id="bob")
    assert there(store, [first, second, third]) == [True, True, False]
    fill(store, 1, user_id="bob")
    assert there(store, [first, second]) == [False, True]
    assert [record.id for record in store.list_user("alice")] == [second.id]


def test_rotation_in_a_full_store_costs_nobody_a_session():
    store = MemoryStore(2, clock=Clock(0))
    records = fill(store, 2)
    new = new_record()
    assert store.rotate(new, records[1].id, 1, until=1) is Outcome.SAVED
    assert there(store, [records[0], new]) == [True, True]


def test_closed_records_are_bounded_oldest_out_first():
    store = MemoryStore(2)
    ended = []
    for _ in range(3):
        ended += fill(store, 1)
        store.close(ended[-1].id, 1, until=99)
    assert there(store, ended) == [False, True, True]


@pytest.mark.parametrize("how", ["close", "rotate"])
def test_what_ends_is_there_at_every_moment(how):
    """Reading takes no lock: who finds neither would take a session that was rotated for an unknown one."""
    found = []

    class Watched(MemoryStore):
        def _remove(self, record):
            super()._remove(record)
            found.append(self.load(record.id))

    store = Watched()
    (record,) = fill(store, 1)
    store.close(record.id, 1, until=99) if how == "close" else store.rotate(new_record(), record.id, 1, until=99)
    assert [each.closed for each in found] == [True]


def test_a_refused_create_evicts_nobody():
    store = MemoryStore(1, clock=Clock(0))
    (record,) = fill(store, 1)
    assert store.create(record) is False
    assert there(store, [record]) == [True]


def test_bookkeeping_does_not_grow_with_the_number_of_operations():
    store = MemoryStore(10, clock=Clock(0))
    (record,) = fill(store, 1)
    for version in range(1, 2000):
        changed = new_record(record.id, version=version + 1, expires_at=10_000 - version)
        assert store.save(changed, version) is Outcome.SAVED
        short = fill(store, 1)[0]
        assert store.delete(short.id) is Outcome.DELETED
    assert len(store._deadlines) < 100
    assert store.purge(10_000 - 1999, 10) == 1, "a rebuilt heap knows the earliest deadline"
    assert store._users == {}


def test_a_store_that_gives_up_nothing_refuses_what_is_new():
    clock = Clock()
    store = MemoryStore(2, evict=False, clock=clock)
    old, short = (fill(store, 1, expires_at=int(clock.now) + life)[0] for life in (500, 10))
    with pytest.raises(StoreError, match="full: 2 records"):
        store.create(new_record())
    assert there(store, [old, short]) == [True, True]
    clock.advance(10)
    assert store.create(new_record()), "what has expired makes room"
    assert [face.evicts for face in (store, store.inline(), store.aio(), MemoryStore(), MemoryStore().aio())] == [
        False, False, False, True, True
    ]  # fmt: skip


def test_repr_shows_counts_only():
    store = MemoryStore(5)
    fill(store, 2)
    assert repr(store) == "<MemoryStore 2 of 5>"
