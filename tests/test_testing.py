"""What session_mw.testing hands out: the clock and the store that fails when told to."""

from __future__ import annotations

import asyncio

import pytest

from session_mw.core.operations import Outcome
from session_mw.errors import ConfigurationError, StoreBusyError, StoreError
from session_mw.stores.memory import MemoryStore
from session_mw.testing import Clock, FaultyAsyncStore, FaultyStore, StoreContract
from session_mw.testing.contract import new_record


class TestFaultyStoreWithoutFaults(StoreContract):
    def make_store(self, tmp_path):
        return FaultyStore(MemoryStore())


class TestFaultyAsyncStoreWithoutFaults(StoreContract):
    def make_store(self, tmp_path):
        return FaultyAsyncStore(MemoryStore().aio())


def test_a_clock_moves_only_when_told():
    clock = Clock(100)
    assert (clock(), clock()) == (100, 100)
    assert clock.advance(5.5) == 105.5
    assert clock() == 105.5
    clock.now = 7
    assert clock() == 7
    with pytest.raises(ValueError, match="set it back"):
        clock.advance(-1)


def test_calls_are_counted_and_kept():
    store = FaultyStore(MemoryStore())
    record = new_record()
    store.create(record)
    store.delete(record.id, expected_version=1)
    assert [call.method for call in store.calls] == ["create", "delete"]
    assert store.calls[1].arguments == (record.id,)
    assert store.calls[1].options == {"expected_version": 1}
    assert (store.count(), store.count("create"), store.count("load")) == (2, 1, 0)
    assert repr(store.calls) == "[<Called create>, <Called delete>]", "records hold payloads"
    store.forget()
    assert store.count() == 0


def test_a_chosen_call_fails_and_nothing_is_done():
    store = FaultyStore(MemoryStore())
    record = new_record()
    store.fail("create")
    with pytest.raises(StoreError, match="told to fail"):
        store.create(record)
    assert store.load(record.id) is None
    assert store.create(record) is True, "once, unless said otherwise"
    assert store.count("create") == 2


def test_after_times_and_any_method():
    store = FaultyStore(MemoryStore())
    store.fail(after=1, times=2)
    outcomes = []
    for _ in range(4):
        try:
            outcomes.append(store.load("x"))
        except StoreError:
            outcomes.append("failed")
    assert outcomes == [None, "failed", "failed", None]
    store.fail("load", times=None, error=StoreBusyError("busy"))
    for _ in range(5):
        with pytest.raises(StoreBusyError, match="busy"):
            store.load("x")
    assert store.list_user("alice") == [], "another method is not meant"
    store.heal()
    assert store.load("x") is None


def test_a_lost_answer_leaves_the_work_done():
    store = FaultyStore(MemoryStore())
    record = new_record()
    store.create(record)
    store.fail("delete", done=True)
    with pytest.raises(StoreError):
        store.delete(record.id)
    assert store.load(record.id) is None


def test_the_awaited_face_meets_the_same_faults():
    store = FaultyStore(MemoryStore())
    store.fail("load")

    async def story():
        with pytest.raises(StoreError):
            await store.aio().load("x")
        return await store.aio().load("x")

    assert asyncio.run(story()) is None
    assert store.inline() is store
    assert store.count("load") == 2


def test_an_awaited_store_fails_before_or_after_its_work():
    async def story():
        store = FaultyAsyncStore(MemoryStore().aio())
        record = new_record()
        store.fail("create")
        with pytest.raises(StoreError):
            await store.create(record)
        assert await store.load(record.id) is None
        await store.create(record)
        store.fail("delete", done=True)
        with pytest.raises(StoreError):
            await store.delete(record.id)
        assert await store.delete(record.id) is Outcome.GONE
        return store.count("create"), store.count("delete")

    assert asyncio.run(story()) == (2, 2)


def test_each_wraps_its_own_kind_only():
    with pytest.raises(ConfigurationError):
        FaultyStore(MemoryStore().aio())
    with pytest.raises(ConfigurationError):
        FaultyAsyncStore(MemoryStore())
