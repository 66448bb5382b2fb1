"""State: what one request knows of its session."""

from __future__ import annotations

import pytest
from harness import opened
from kept_record import NOW, record

from session_mw.core.payload import EMPTY_META, Meta, join
from session_mw.core.state import State
from session_mw.core.wishes import NOTHING
from session_mw.errors import SessionSerializationError, StoreError


def test_adopting_is_all_or_nothing() -> None:
    state = State(NOW)
    with pytest.raises(ValueError):
        state.adopt(record(payload=join(b"{]", b"")))
    assert (state.base, state.original, state.rest, state.loaded) == (None, b"{}", b"", None)


def test_wishes_are_taken_back_by_a_commit_and_by_a_wipe() -> None:
    state = opened(record(meta=Meta(attempts={"global": 1})), NOW)
    assert not state.wishes()
    wish = state.wishing()
    wish.attempts, wish.rotating, wish.persistent = {"global": (False, 1)}, True, True
    assert state.wishes()
    state.rebase(record())
    assert (state.wishes(), state.wish, state.is_persistent()) == (False, NOTHING, False)
    state.wishing().attempts = {"global": (False, 1)}
    state.queue = (("global", "a", 1),)
    state.wipe()
    assert (state.wish.attempts, state.queue, state.kept(), state.user_id()) == ({}, (), EMPTY_META, None)
    assert state.stored_items("global") == {}


def test_a_commit_leaves_no_wish() -> None:
    state, fresh = opened(record(), NOW), State(NOW)
    state.wishing().rotating = True
    data = ("encoded", "original", "rest", "meta", "loaded")
    for name in data:
        setattr(state, name, object())
    state.rebase(None)
    assert state.wish is fresh.wish is NOTHING
    assert all(getattr(state, name) is getattr(fresh, name) for name in data)


def test_after_a_commit_a_cookie_may_be_due() -> None:
    state = opened(record(), NOW)
    state.wishing().rotating = True
    state.changed({"global": {"a": 1}})
    assert (state.is_kept(), state.due) == (False, False)
    state.rebase(record())
    assert (state.is_kept(), state.due) == (True, True)


def test_paths_begin_with_the_storage() -> None:
    state = opened(record(), NOW)
    state.others = {"admin": {"x": [object()]}}
    with pytest.raises(SessionSerializationError) as refused:
        state.changed({"global": {"a": 1}, **state.others})
    assert refused.value.path == "admin['x'][0]"


def test_damage_in_the_second_segment_is_the_stores_failure_and_no_logout() -> None:
    state = opened(record(payload=join(b'{"a":1}', b"{]")), NOW)
    with pytest.raises(StoreError, match="damaged"):
        state.seen()
