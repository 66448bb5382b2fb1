"""Faces: kinds are told apart when something is built, and an awaited call hops only when it must."""

from __future__ import annotations

import asyncio
import threading

import pytest

from session_mw.errors import ConfigurationError, StoreBusyError
from session_mw.stores.faces import is_awaited, require_async, require_sync
from session_mw.stores.memory import MemoryStore
from session_mw.testing.contract import new_record


def test_each_kind_is_accepted_where_it_fits():
    store = MemoryStore()
    assert require_sync(store) is store
    awaited = store.aio()
    assert require_async(awaited) is awaited
    assert (is_awaited(store), is_awaited(awaited)) == (False, True)
    assert repr(awaited) == "<awaited <MemoryStore 0 of 100000>>"


def test_the_wrong_kind_is_refused():
    with pytest.raises(ConfigurationError, match=r"^MemoryStore\.aio\(\) must be awaited"):
        require_sync(MemoryStore().aio())
    with pytest.raises(ConfigurationError, match=r"MemoryStore is not awaited: pass its aio\(\) face"):
        require_async(MemoryStore())


@pytest.mark.parametrize("check", [require_sync, require_async])
def test_what_is_no_store_is_refused_with_what_it_lacks(check):
    with pytest.raises(ConfigurationError, match=r"dict is not a store: it lacks can_rotate, close, create.*touch"):
        check({})
    with pytest.raises(ConfigurationError, match="MemoryStore is not a store: pass an instance"):
        check(MemoryStore)


class Declines(MemoryStore):
    """The inline face of a store whose locks are never free."""

    def _busy(self, *args, **options):
        raise StoreBusyError("busy")

    load = list_user = create = purge = _busy


def test_what_the_inline_face_declines_is_done_on_a_thread():
    from session_mw.stores.faces import Awaited

    seen = []

    class Noting(MemoryStore):
        def load(self, id):
            seen.append(threading.get_ident())
            return super().load(id)

    async def story():
        store = Noting()
        awaited = Awaited(store, Declines())
        record = new_record()
        assert await awaited.create(record) is True
        assert await awaited.load(record.id) == record
        assert await awaited.list_user("alice") == [record]
        assert await awaited.purge(record.expires_at, 10) == 1
        calm = Awaited(store, store)
        assert await calm.load(record.id) is None

    asyncio.run(story())
    assert seen[0] != threading.get_ident(), "declined: on another thread"
    assert seen[-1] == threading.get_ident(), "not declined: right here"
