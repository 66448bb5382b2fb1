"""New ids and ends: regenerate and destroy, and what overlapping requests make of them."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest
from harness import App, both

from session_mw.core.session import SessionStatus
from session_mw.errors import SessionClosedError
from session_mw.stores.memory import MemoryStore

# -- regenerate ----------------------------------------------------------------------------------------------------


@both
def test_regenerate_keeps_data_login_and_creation_time(kind: str) -> None:
    app = App(kind)
    with app.request() as s:
        s["a"] = 1
        s.login(user_id="ann")
        created, login = s.created_at, s.login_token
    app.clock.advance(30)
    with app.request() as s:
        old = s.session_id
        new = s.regenerate()
        assert new == s.session_id != old
        assert s.regenerate() == new
    with app.request() as s:
        assert (s.session_id, s, s.user_id) == (new, {"a": 1}, "ann")
        assert (s.created_at, s.login_token) == (created, login)


@pytest.mark.parametrize("grace", [-1, 301])
def test_grace_has_bounds(grace: int) -> None:
    app = App()
    with app.request() as s:
        s["a"] = 1
        with pytest.raises(ValueError, match="0 to 300"):
            s.regenerate(grace=grace)


@pytest.mark.parametrize(("grace", "seconds"), [(None, 30), (0, 0), (1, 1), (300, 300)])
def test_the_old_id_points_to_the_new_one_for_a_while(grace: int | None, seconds: int) -> None:
    app = App(touch_interval=7000)
    with app.request() as s:
        s["a"] = 1
    tab = app.browser.copy()
    with app.request() as s:
        new = s.regenerate(grace=grace)
    if seconds:
        app.clock.advance(seconds - 1)
        with app.request(tab) as s:
            assert (s.opened_id, s["a"]) == (new, 1)
            s["b"] = 2
            assert s.regenerate() == new  # somebody has just done so
        assert app.sent == []  # no cookie: the browser has, or will get, the new one
        assert app.look() == {"a": 1, "b": 2}
        app.clock.advance(1)
    with app.request(tab) as s:
        assert s == {}
        s["lost"] = 1
    assert "lost" not in app.look()
    if seconds < 60:  # known for a straggler: nothing is begun in its place
        assert app.sent == []


def test_who_logs_in_through_a_pointer_gets_a_new_id_all_the_same() -> None:
    app = App()
    with app.request() as s:
        s["a"] = 1
    tab = app.browser.copy()
    with app.request() as s:
        new = s.regenerate()
    with app.request(tab) as s:
        s.login(user_id="ann")
        assert s.regenerate() == s.session_id != new
    with app.request(tab) as s:
        assert s.user_id == "ann"


def test_a_grace_given_first_is_kept() -> None:
    app = App()
    with app.request() as s:
        s["a"] = 1
    tab = app.browser.copy()
    with app.request() as s:
        s.regenerate(grace=0)
        s.expire_after(timedelta(hours=1))
    assert app.look(tab) == {}


@pytest.mark.parametrize("also", [lambda s: s.login(user_id="ann"), lambda s: s.logout(), lambda s: s.login()])
def test_no_grace_where_a_login_changes(also: Any) -> None:
    app = App()
    with app.request() as s:
        s["a"] = 1
        s.login(user_id="ann")
    tab = app.browser.copy()
    with app.request() as s:
        s.regenerate(grace=300)
        also(s)
    assert app.look(tab) == {}


def test_login_through_a_pointer_gives_a_session_of_its_own() -> None:
    app = App()
    with app.request() as s:
        s["a"] = 1
    tab = app.browser.copy()
    with app.request() as s:
        s.regenerate()
    with app.request(tab) as s:
        s.login(user_id="ann")
    assert len(app.sent) == 1
    assert app.look(tab) == {"a": 1}
    assert app.look() == {}


def test_a_logout_beside_a_rotation_turns_the_id_though_it_was_written_early() -> None:
    app = App()
    with app.request() as s:
        s.login(user_id="ann")
        s["a"] = 1
    tab = app.browser.copy()
    with app.request() as s:
        s.logout()
        with app.request(tab) as other:
            new = other.regenerate()
        s.commit()
    with app.request() as s:
        assert (s.online(), s["a"], s.session_id == new) == (False, 1, False)
    assert app.look(tab) == {}


@pytest.mark.parametrize("end", [lambda s: s.clear(), lambda s: s.destroy()])
def test_who_came_by_a_pointer_clears_no_cookie(end: Any) -> None:
    app = App()
    with app.request() as s:
        s["a"] = 1
    tab = app.browser.copy()
    with app.request() as s:
        s.regenerate()
    with app.request(tab) as s:
        assert s["a"]
        end(s)
    assert app.sent == []
    assert app.look() == {}


def test_a_longer_life_asked_for_by_a_pointer_gets_its_cookie_later() -> None:
    app = App()
    with app.request() as s:
        s["a"] = 1
    tab = app.browser.copy()
    with app.request() as s:
        s.regenerate()
    for browser, persistent in ((tab, False), (app.browser, True)):
        with app.request(browser) as s:
            s.expire_after(timedelta(days=1))
        assert any("Max-Age" in line for line in app.sent) is persistent


# -- time that passes within a request -----------------------------------------------------------------------------

three = pytest.mark.parametrize(
    "kept", [{"kind": "store"}, {"kind": "cookie"}, {"kind": "cookie", "revocation": MemoryStore(evict=False)}]
)
LATE: list[Any] = [
    lambda s: s.set("late", 1),
    lambda s: s.regenerate(),
    lambda s: s.expire_after(timedelta(seconds=90)),
    lambda s: s.attempt(),
    lambda s: (s.set("late", 1), s.logout()),
    lambda s: None,
]


@three
@pytest.mark.parametrize("late", LATE)
@pytest.mark.parametrize("limits", [{"idle_timeout": 100}, {"idle_timeout": 100, "absolute_timeout": 100}])
def test_a_session_that_expires_within_a_request_stays_over(
    kept: dict[str, Any], late: Any, limits: dict[str, int]
) -> None:
    app = App(**kept, **limits)
    with app.request() as s:
        s.login(user_id="ann")
        s["a"] = 1
    with app.request() as s:
        assert s["a"]
        app.clock.advance(100)
        late(s)
    assert app.sent == []
    assert app.look() == {}


@three
def test_who_logs_in_then_begins_anew(kept: dict[str, Any]) -> None:
    app = App(**kept, idle_timeout=100)
    with app.request() as s:
        s.login(user_id="ann")
        s["a"] = 1
    with app.request() as s:
        assert s["a"]
        app.clock.advance(100)
        s["b"] = 1
        s.login(user_id="ann")
    with app.request() as s:
        assert (s.user_id, s.online(), dict(s)) == ("ann", True, {"b": 1})


@pytest.mark.parametrize("late", LATE[:5])
def test_unless_another_request_has_moved_its_deadline(late: Any) -> None:
    app = App(idle_timeout=100)
    with app.request() as s:
        s.login(user_id="ann")
        s["a"] = 1
    tab = app.browser.copy()
    with app.request() as s:
        assert s["a"]
        app.clock.advance(99)
        with app.request(tab) as other:
            assert other["a"]
        app.clock.advance(1)
        late(s)
    assert app.look()["a"] == 1


# -- turns beside turns --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rotate", [lambda s: s.regenerate(grace=0), lambda s: s.logout()])
def test_a_concurrent_save_does_not_undo_a_rotation(rotate: Any) -> None:
    app = App()
    with app.request() as s:
        s.login(user_id="ann")
    thief = app.browser.copy()
    with app.request() as s:
        rotate(s)
        planned = s.session_id
        with app.request(thief) as other:
            other["theirs"] = 1
    with app.request() as s:
        assert (s.session_id, s) == (planned, {"theirs": 1})
    assert app.look(thief) == {}


@pytest.mark.parametrize("early", [False, True])
def test_two_that_regenerate_at_once_agree(early: bool) -> None:
    app = App()
    with app.request() as s:
        s["a"] = 1
    tab = app.browser.copy()
    with app.request() as s:
        s.regenerate()
        s["mine"] = 1
        with app.request(tab) as other:
            new = other.regenerate()
            other["theirs"] = 1
        if early:
            s.commit()
        app.respond()
        assert s.session_id == new  # theirs is the successor; mine went there
    assert app.sent == []
    assert app.look(tab) == {"a": 1, "mine": 1, "theirs": 1}


# -- destroy -------------------------------------------------------------------------------------------------------


@both
def test_destroy_ends_everything_and_a_later_write_lives_elsewhere(kind: str) -> None:
    app = App(kind)
    with app.request() as s:
        assert s.destroy() is False
        s["a"] = 1
        s.set_to("b", 2, "admin").put("c", 3)
        s.login(user_id="ann")
    thief = app.browser.copy()
    with app.request() as s:
        old = s.session_id
        assert s.destroy() is True
        assert s.destroy() is False
        assert (s, s.get_result(), s.online(), s.user_id, s.session_id) == ({}, {}, False, None, None)
        assert s.is_status(SessionStatus.NONE)
        s["new"] = 1
        assert s.session_id not in (None, old)
    with app.request() as s:
        assert s.get_result() == {"global": {"new": 1}}
        assert s.session_id != old
    if kind == "store":
        assert app.look(thief) == {}
    assert app.told("destroy") == ["destroy"]


@pytest.mark.parametrize("begin", [lambda s: s.attempt(), lambda s: s.login(user_id="ann"), lambda s: s.set("a", 1)])
def test_destroy_tells_whether_there_was_anything(begin: Any) -> None:
    app = App()
    with app.request() as s:
        assert s.destroy() is False
    with app.request() as s:
        begin(s)
        assert s.destroy() is True
        assert s.destroy() is False


@both
def test_destroy_clears_the_cookie(kind: str) -> None:
    app = App(kind)
    with app.request() as s:
        s["a"] = 1
    with app.request() as s:
        s.destroy()
    assert not app.browser
    assert "Max-Age=0" in app.sent[0]
    assert app.told() == ["create", "close", "open", "destroy", "close"]


@both
def test_destroy_all_closes_until_start(kind: str) -> None:
    app = App(kind)
    with app.request() as s:
        s["a"] = 1
    with app.request() as s:
        assert s.destroy(all_data=True) is True
        for write in (lambda: s.set("b", 1), lambda: s.put("b", 1), s.login, s.regenerate, s.attempt, s.logout):
            with pytest.raises(SessionClosedError, match="destroyed"):
                write()
        assert s == {}
        assert s.destroy() is False
        with pytest.raises(SessionClosedError, match="destroyed"):
            s["b"] = 1
        s.start()
        s["b"] = 2
    assert app.look() == {"b": 2}


def test_what_follows_a_destroy_is_not_kept_where_the_app_fails() -> None:
    app = App()
    with app.request() as s:
        s["a"] = 1
    app.told()
    with pytest.raises(ZeroDivisionError), app.request() as s:  # noqa: PT012
        s.destroy()
        s["b"] = 2
        raise ZeroDivisionError
    assert app.told("create", "destroy", "rotate") == ["destroy"]
    assert app.store.stats(int(app.clock.now)).live == 0


def test_destroy_beats_every_concurrent_change() -> None:
    app = App()
    for order in ("first", "last"):
        with app.request() as s:
            s["a"] = 1
        tab = app.browser.copy()
        mine, theirs = app.begin(), app.begin(tab)
        mine.session.destroy()
        theirs.session["b"] = 2
        for exchange in (mine, theirs) if order == "first" else (theirs, mine):
            exchange.respond()
            exchange.end()
        assert app.look(tab) == {}
        assert theirs.sent == []
        assert not app.browser


def test_a_late_destroy_is_carried_out_in_the_store() -> None:
    app = App()
    with app.request() as s:
        s["a"] = 1
    with app.request() as s:
        assert s["a"]
        app.respond()
        assert s.destroy() is True
        with pytest.raises(SessionClosedError, match="destroyed"):
            s["b"] = 1
    assert app.sent == []
    assert app.look() == {}


def test_late_writes_go_to_a_session_that_is_known_already() -> None:
    app = App()
    with app.request() as s:
        assert s == {}
        app.respond()
        with pytest.raises(SessionClosedError, match="response has started"):
            s["a"] = 1
    with app.request() as s:
        s["a"] = 1
        app.respond()
        s["b"] = 2
    with app.request() as s:
        app.respond()  # nobody had looked yet
        s["c"] = 3
    assert app.look() == {"a": 1, "b": 2, "c": 3}


@both
def test_a_nested_change_too_late_is_dropped_with_an_event(kind: str) -> None:
    app = App(kind)
    with app.request() as s:
        s["a"] = [1]
    with app.request() as s:
        cart = s["a"]
        app.respond()
        cart.append(2)
    assert app.told("dropped") == (["dropped:late"] if kind == "cookie" else [])
    assert app.look() == {"a": [1] if kind == "cookie" else [1, 2]}


@both
def test_when_the_request_is_over_nothing_can_be_written(kind: str) -> None:
    app = App(kind)
    with app.request() as s:
        s["a"], s["list"] = 1, [1]
    s["list"].append(2)  # nobody can stop that
    for write in (lambda: s.set("b", 1), s.destroy, s.logout, s.clear, s.commit, lambda: asyncio.run(s.acommit())):
        with pytest.raises(SessionClosedError, match="over"):
            write()
    assert s["a"] == 1
    assert app.look()["list"] == [1]
    with pytest.raises(SessionClosedError):
        s.start()
