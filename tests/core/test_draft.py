"""Drafting: how a request's wishes become the next record."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from harness import opened
from kept_record import LIMITS, LOGIN, NOW, TOKEN, record

from session_mw.core.draft import draft
from session_mw.core.login import new_login
from session_mw.core.payload import Meta, join, read_meta, split, write_meta
from session_mw.core.state import State


def drafted(state: State, live: dict[str, Any], base: Any = None, now: int = NOW, **identity: Any) -> Any:
    state.changed({"global": live, **state.others})  # encodes what is drafted
    return draft(state, {"global": live, **state.others}, state.base if base is None else base, now, LIMITS, **identity)


def test_a_draft_goes_on_from_its_base() -> None:
    kept = drafted(opened(record(), NOW), {"a": 2})
    assert (kept.id, kept.digest, kept.version, split(kept.payload)) == (TOKEN.id, b"d", 4, (b'{"a":2}', b""))
    assert (kept.last_activity, kept.expires_at) == (NOW, NOW + 100)
    soon = drafted(opened(record(), NOW), {"a": 2}, now=NOW + 9)
    assert (soon.last_activity, soon.expires_at) == (NOW, NOW + 100)  # nothing due
    later = drafted(opened(record(), NOW), {"a": 2}, now=NOW + 10)
    assert (later.last_activity, later.expires_at) == (NOW + 10, NOW + 110)
    last = drafted(opened(record(expires_at=NOW + 480), NOW), {"a": 2}, now=NOW + 450)
    assert last.expires_at == NOW + 500


def test_a_first_draft() -> None:
    state = State(NOW)
    kept = drafted(state, {"a": 1}, token=TOKEN, digest=b"x")
    assert (kept.id, kept.digest, kept.version, kept.created_at) == (TOKEN.id, b"x", 1, NOW)
    assert (kept.expires_at, kept.absolute_expires_at) == (NOW + 100, NOW + 500)
    assert drafted(State(NOW), {}) is None


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
    kept = drafted(opened(base, NOW), {})
    assert kept.payload == join(b"{}", write_meta(meta))  # the second segment is copied as it is


def test_what_is_left_of_nobody_is_nothing() -> None:
    assert drafted(opened(record(meta=Meta(former="f", persistent=True, ip="192.0.2.1")), NOW), {}) is None
    state = opened(record(), NOW)
    state.wishing().lifetime = 50
    assert drafted(state, {}).lifetime == 50


def test_a_lifetime_shortens_and_lengthens() -> None:
    for seconds, until in ((20, NOW + 20), (400, NOW + 400), (500, NOW + 500), (None, NOW + 100)):
        state = opened(record(lifetime=300, expires_at=NOW + 300), NOW)
        state.wishing().lifetime = seconds
        kept = drafted(state, {"a": 1})
        assert (kept.lifetime, kept.expires_at) == (seconds, until)


def test_a_record_names_the_address_of_a_login_that_lasts() -> None:
    login = new_login(NOW, b"r" * 36, "192.0.2.1", "agent", bound=False)
    state = State(NOW)
    wish = state.wishing()
    wish.logins, wish.logged_in = {"global": login}, login
    kept = drafted(state, {"a": 1}, token=TOKEN)
    assert (kept.login_ip, kept.login_user_agent) == ("192.0.2.1", "agent")
    state.wipe()
    kept = drafted(state, {"a": 1}, token=TOKEN)
    assert (kept.login_ip, kept.login_user_agent, kept.user_id) == (None, None, None)


def test_the_owner() -> None:
    state = opened(record(user_id="ann", meta=Meta(logins={"global": LOGIN})), NOW)
    assert (state.user_id(), state.last_owner()) == ("ann", "ann")
    wish = state.wishing()
    wish.logins, wish.released = {"global": None}, True
    assert (state.user_id(), state.last_owner()) == (None, "ann")
    kept = drafted(state, {"a": 1})
    assert kept.user_id is None
    assert read_meta(split(kept.payload)[1]).former
    back = opened(kept, NOW)
    wish = back.wishing()
    wish.owner, wish.logins = "ann", {"global": LOGIN}
    again = drafted(back, {"a": 1})
    assert (again.user_id, read_meta(split(again.payload)[1]).former) == ("ann", "")


def test_a_release_gives_way_to_a_login_made_meanwhile() -> None:
    state = opened(record(user_id="ann", meta=Meta(logins={"global": LOGIN})), NOW)
    wish = state.wishing()
    wish.logins, wish.released = {"global": None}, True
    newer = record(user_id="ann", version=9, meta=Meta(logins={"global": LOGIN, "admin": LOGIN}))
    kept = drafted(state, {"a": 1}, base=newer)
    assert (kept.user_id, list(read_meta(split(kept.payload)[1]).logins)) == ("ann", ["admin"])


def test_catching_up_keeps_objects_and_order() -> None:
    state = opened(record(b'{"a":[1],"b":1}'), NOW)
    live = {"a": (cart := [1]), "b": 2}
    kept = drafted(state, live, base=record(b'{"z":0,"b":1,"a":[1]}', version=7))
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
    kept = drafted(state, {"a": 1})
    storages = {name: bytes(raw) for name, raw in read_meta(split(kept.payload)[1]).storages.items()}
    assert storages == {"y": b'{"b":1}', "z": b'{"c":1}'}
