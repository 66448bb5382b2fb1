"""State: how a request's wishes become the next record."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from harness import opened, token

from session_mw.core.lifetime import Limits
from session_mw.core.login import new_login
from session_mw.core.payload import EMPTY_META, Meta, join, read_meta, split, write_meta
from session_mw.core.record import Record
from session_mw.core.state import State
from session_mw.core.wishes import NOTHING
from session_mw.errors import SessionSerializationError, StoreError

NOW = 1000
LIMITS = Limits(100, 500, 10)
TOKEN = token()
LOGIN = new_login(NOW, b"r" * 36, None, None, bound=False)


def record(data: bytes = b'{"a":1}', meta: Meta = EMPTY_META, **fields: Any) -> Record:
    kept = Record(
        TOKEN.id, b"d", None, NOW, NOW, NOW + 100, NOW + 500, None, None, None, 3, join(data, write_meta(meta))
    )
    return msgspec.structs.replace(kept, **fields)


def draft(state: State, live: dict[str, Any], base: Any = None, now: int = NOW, **identity: Any) -> Any:
    assert state.changed({"global": live, **state.others}) or True
    return state.draft({"global": live, **state.others}, state.base if base is None else base, now, LIMITS, **identity)


def test_adopting_is_all_or_nothing() -> None:
    state = State(NOW)
    with pytest.raises(ValueError):
        state.adopt(record(payload=join(b"{]", b"")))
    assert (state.base, state.original, state.rest, state.loaded) == (None, b"{}", b"", None)


def test_a_draft_goes_on_from_its_base() -> None:
    kept = draft(opened(record(), NOW), {"a": 2})
    assert (kept.id, kept.digest, kept.version, split(kept.payload)) == (TOKEN.id, b"d", 4, (b'{"a":2}', b""))
    assert (kept.last_activity, kept.expires_at) == (NOW, NOW + 100)  # nothing due
    later = draft(opened(record(), NOW), {"a": 2}, now=NOW + 10)
    assert (later.last_activity, later.expires_at) == (NOW + 10, NOW + 110)
    last = draft(opened(record(expires_at=NOW + 480), NOW), {"a": 2}, now=NOW + 450)
    assert last.expires_at == NOW + 500


def test_a_first_draft() -> None:
    state = State(NOW)
    kept = draft(state, {"a": 1}, token=TOKEN, digest=b"x")
    assert (kept.id, kept.digest, kept.version, kept.created_at) == (TOKEN.id, b"x", 1, NOW)
    assert (kept.expires_at, kept.absolute_expires_at) == (NOW + 100, NOW + 500)
    assert draft(State(NOW), {}) is None


@pytest.mark.parametrize(
    "meta",
    [
        Meta(logins={"global": LOGIN}),
        Meta(attempts={"global": 1}),
        Meta(storages={"x": msgspec.Raw(b'{"a":1}')}),
    ],
)
def test_logins_attempts_and_other_storages_keep_an_empty_session(meta: Meta) -> None:
    base = record(meta=meta)
    kept = draft(opened(base, NOW), {})
    assert kept.payload == join(b"{}", write_meta(meta))  # the second segment is copied as it is


def test_what_is_left_of_nobody_is_nothing() -> None:
    assert draft(opened(record(meta=Meta(former="f", persistent=True, ip="192.0.2.1")), NOW), {}) is None
    state = opened(record(), NOW)
    state.wishing().lifetime = 50
    assert draft(state, {}).lifetime == 50


def test_a_lifetime_shortens_and_lengthens() -> None:
    for seconds, until in ((20, NOW + 20), (400, NOW + 400), (500, NOW + 500), (None, NOW + 100)):
        state = opened(record(lifetime=300, expires_at=NOW + 300), NOW)
        state.wishing().lifetime = seconds
        kept = draft(state, {"a": 1})
        assert (kept.lifetime, kept.expires_at) == (seconds, until)


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


def test_a_record_names_the_address_of_a_login_that_lasts() -> None:
    login = new_login(NOW, b"r" * 36, "192.0.2.1", "agent", bound=False)
    state = State(NOW)
    wish = state.wishing()
    wish.logins, wish.logged_in = {"global": login}, login
    kept = draft(state, {"a": 1}, token=TOKEN)
    assert (kept.login_ip, kept.login_user_agent) == ("192.0.2.1", "agent")
    state.wipe()
    kept = draft(state, {"a": 1}, token=TOKEN)
    assert (kept.login_ip, kept.login_user_agent, kept.user_id) == (None, None, None)


def test_a_commit_leaves_no_wish() -> None:
    state, fresh = opened(record(), NOW), State(NOW)
    state.wishing().rotating = True
    data = ("encoded", "original", "rest", "meta", "loaded")
    for name in data:
        setattr(state, name, object())
    state.rebase(None)
    assert state.wish is fresh.wish is NOTHING
    assert all(getattr(state, name) is getattr(fresh, name) for name in data)


def test_the_owner() -> None:
    state = opened(record(user_id="ann", meta=Meta(logins={"global": LOGIN})), NOW)
    assert (state.user_id(), state.last_owner()) == ("ann", "ann")
    wish = state.wishing()
    wish.logins, wish.released = {"global": None}, True
    assert (state.user_id(), state.last_owner()) == (None, "ann")
    kept = draft(state, {"a": 1})
    assert kept.user_id is None
    assert read_meta(split(kept.payload)[1]).former
    back = opened(kept, NOW)
    wish = back.wishing()
    wish.owner, wish.logins = "ann", {"global": LOGIN}
    again = draft(back, {"a": 1})
    assert (again.user_id, read_meta(split(again.payload)[1]).former) == ("ann", "")


def test_a_release_gives_way_to_a_login_made_meanwhile() -> None:
    state = opened(record(user_id="ann", meta=Meta(logins={"global": LOGIN})), NOW)
    wish = state.wishing()
    wish.logins, wish.released = {"global": None}, True
    newer = record(user_id="ann", version=9, meta=Meta(logins={"global": LOGIN, "admin": LOGIN}))
    kept = draft(state, {"a": 1}, base=newer)
    assert (kept.user_id, list(read_meta(split(kept.payload)[1]).logins)) == ("ann", ["admin"])


def test_catching_up_keeps_objects_and_order() -> None:
    state = opened(record(b'{"a":[1],"b":1}'), NOW)
    live = {"a": (cart := [1]), "b": 2}
    kept = draft(state, live, base=record(b'{"z":0,"b":1,"a":[1]}', version=7))
    state.rebase(kept)
    state.catch_up({"global": live})
    assert live == {"z": 0, "b": 2, "a": [1]}
    assert live["a"] is cart
    assert not state.changed({"global": live})
    assert split(kept.payload)[0] == b'{"z":0,"b":2,"a":[1]}'


def test_other_storages() -> None:
    state = opened(record(meta=Meta(storages={"x": msgspec.Raw(b'{"a":1}'), "y": msgspec.Raw(b'{"b":1}')})), NOW)
    assert state.storage_names() == ["global", "x", "y"]
    state.others = {"x": {}, "z": {"c": 1}}
    state.wishing().cleared = frozenset({"x"})
    kept = draft(state, {"a": 1})
    storages = {name: bytes(raw) for name, raw in read_meta(split(kept.payload)[1]).storages.items()}
    assert storages == {"y": b'{"b":1}', "z": b'{"c":1}'}


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
