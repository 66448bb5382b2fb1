"""A session's life: start, commit, regenerate, destroy; where it is kept; what overlapping requests do to it."""

from __future__ import annotations

import asyncio
import datetime as dt
from typing import Any

import pytest
from harness import App, Browser, both, token

from session_mw.core.session import Session, SessionStatus, current_session
from session_mw.errors import (
    ConfigurationError,
    InvalidSessionIdError,
    SessionClosedError,
    SessionStateError,
)
from session_mw.managers.cookie import CookieManager
from session_mw.managers.store import StoreManager
from session_mw.stores.memory import MemoryStore
from session_mw.testing import FaultyStore

# -- what happened -------------------------------------------------------------------------------------------------


@both
def test_an_untouched_session_costs_nothing(kind: str) -> None:
    app = App(kind)
    with app.request() as s:
        s["a"] = 1
    app.told()
    app.random.calls = 0
    with app.request() as s:
        assert (s.accessed, s.modified) == (False, False)
    assert (app.sent, app.told(), app.random.calls) == ([], [], 0)


@both
def test_accessed_modified_is_new(kind: str) -> None:
    app = App(kind)
    with app.request() as s:
        assert s.is_new
        assert (s.accessed, s.modified) == (True, False)
        s["a"] = [1]
        assert s.modified
    with app.request() as s:
        assert not s.is_new
        assert not s.modified
        s["a"].append(2)
        assert s.modified
        s["a"].pop()
        assert not s.modified


@both
def test_names(kind: str) -> None:
    app = App(kind, table_index="shop")
    with app.request() as s:
        assert s.cookie_name == "__Host-session-shop"
        assert isinstance(s.manager, CookieManager if kind == "cookie" else StoreManager)
        assert s.opened_id is None
        s["a"] = 1
        handle = s.session_id
    assert list(app.browser.cookies) == ["__Host-session-shop"]
    with app.request() as s:
        assert s.opened_id == s.session_id == handle


@both
@pytest.mark.parametrize("begin", [lambda s: s.attempt(), lambda s: s.expire_after(dt.timedelta(hours=1))])
def test_what_is_kept_without_an_item_has_a_handle_as_well(kind: str, begin: Any) -> None:
    app = App(kind)
    with app.request() as s:
        assert s.session_id is None
        begin(s)
        handle = s.session_id
        assert handle is not None
    with app.request() as s:
        assert s.session_id == handle


def test_the_handle_of_a_session_that_ended_meanwhile_is_none() -> None:
    app = App()
    with app.request() as s:
        s["a"] = 1
    thief = app.browser.copy()
    with app.request() as s:
        s.destroy()
    with app.request(thief) as s:
        s["b"] = 1
        assert s.session_id is None  # nothing of this will be kept
    assert app.told("dropped") == ["dropped:stale_token"]
    assert app.sent == []


@both
def test_current_session(kind: str) -> None:
    app = App(kind)
    with app.request() as s:
        assert current_session() is s
        current_session()["a"] = 1
    with pytest.raises(SessionStateError, match=r"no session here(.|\n)*copy_context\(\)\.run"):
        current_session()


# -- commit and start ----------------------------------------------------------------------------------------------


def versions(app: App) -> int:
    return sum(record.version for record in app.store._live.values())  # type: ignore[union-attr]


@both
def test_commit_writes_now_and_a_later_write_reopens(kind: str) -> None:
    app = App(kind)
    with app.request() as s:
        assert s.is_status(SessionStatus.NONE)
        s["a"] = 1
        assert s.is_status()
        s.commit()
        assert s.is_status(SessionStatus.NONE)
        if kind == "store":
            assert versions(app) == 1
        s["b"] = 2
        assert s.is_status(SessionStatus.ACTIVE)
        s.commit()
        assert s.start() is True
        assert s.is_status()
        assert not s.is_status(SessionStatus.DISABLED)
    assert len(app.sent) == 1  # the cookie of a session created by commit() is not forgotten
    assert app.look() == {"a": 1, "b": 2}


@both
def test_a_pending_rotation_waits_for_the_response(kind: str) -> None:
    app = App(kind)
    with app.request() as s:
        s["a"] = 1
    thief = app.browser.copy()
    with app.request() as s:
        planned = s.regenerate(grace=0)
        s["b"] = 2
        s.commit()
        assert app.look(thief) == ({"a": 1, "b": 2} if kind == "store" else {"a": 1})
        assert s.session_id == planned
    with app.request() as s:
        assert (s.session_id, s) == (planned, {"a": 1, "b": 2})
    if kind == "store":
        assert app.look(thief) == {}


def test_what_follows_a_destroy_is_not_written_under_the_old_token() -> None:
    app = App()
    with app.request() as s:
        s["a"] = 1
    tab = app.browser.copy()
    with app.request() as s:
        s.destroy()
        s["b"] = 2
        s.commit()
        assert "b" not in app.look(tab)
    assert (app.look(tab), app.look()) == ({}, {"b": 2})


@both
def test_a_login_is_not_written_under_the_old_token(kind: str) -> None:
    app = App(kind)
    with app.request() as s:
        s["a"] = 1
    thief = app.browser.copy()
    with app.request() as s:
        s.login(user_id="ann")
        s["secret"] = 1
        s.commit()
        assert app.look(thief) == {"a": 1}
    assert app.look() == {"a": 1, "secret": 1}


@both
def test_what_commit_emptied_still_clears_the_cookie(kind: str) -> None:
    app = App(kind)
    for rewrite in (False, True):
        with app.request() as s:
            s["a"] = 1
        with app.request() as s:
            s.clear().commit()
            if rewrite:
                s["b"] = 2
        assert app.look() == ({"b": 2} if rewrite else {})
        assert bool(app.browser) is rewrite


@both
def test_everything_emptied_after_two_commits(kind: str) -> None:
    app = App(kind)
    with app.request() as s:
        s["a"] = 1
    with app.request() as s:
        s.clear().commit()
        s["b"] = 1
        s.commit()
        s.clear()
    assert not app.browser
    assert len(app.sent) == 1


def test_a_commit_that_fails_can_be_tried_again() -> None:
    store = FaultyStore(MemoryStore())
    app = App(store=store)
    with app.request() as s:
        s["a"] = 1
        store.fail("create")
        with pytest.raises(Exception, match="told to fail"):
            s.commit()
        s.commit()
    assert app.look() == {"a": 1}


def test_a_session_touched_twice_is_touched_once_in_the_store() -> None:
    store = FaultyStore(MemoryStore())
    app = App(store=store)
    with app.request() as s:
        s["a"] = 1
    app.clock.advance(61)
    with app.request() as s:
        assert s["a"]
        s.commit()
    assert store.count("touch") == 1
    app.clock.advance(59)
    with app.request() as s:
        assert s["a"]
    assert store.count("touch") == 1


def test_start_adopts_a_whole_valid_token_and_rotates() -> None:
    app = App()
    with app.request() as s:
        s["a"] = 1
    token_text = app.browser.cookies["__Host-session"]
    phone = Browser()
    with app.request(phone) as s:
        assert s.start(token_text) is True
        assert s == {"a": 1}
        old = s.opened_id
        assert s.session_id != old
    assert app.look(phone) == {"a": 1}
    assert phone.cookies["__Host-session"] != token_text
    assert app.look() == {}


def test_start_adopts_a_sealed_session_too() -> None:
    app = App("cookie")
    with app.request() as s:
        s["a"] = 1
    sealed = app.browser.cookies["__Host-session"]
    phone = Browser()
    with app.request(phone) as s:
        s.start(sealed)
        assert s["a"] == 1
    with app.request(phone) as s:
        assert s == {"a": 1}
        assert s.session_id is not None


@pytest.mark.parametrize(("kind", "text"), [("store", "x"), ("store", "a" * 24), ("cookie", "x"), ("cookie", "")])
def test_start_refuses_what_is_no_token(kind: str, text: str) -> None:
    app = App(kind)
    with app.request() as s, pytest.raises(InvalidSessionIdError, match="not a token of ours"):
        s.start(text)


def test_a_session_id_alone_is_no_token() -> None:
    app = App()
    with app.request() as s:
        s["a"] = 1
        handle = s.session_id
    with app.request(Browser()) as s, pytest.raises(InvalidSessionIdError):
        s.start(handle)


def test_an_unknown_token_gives_a_fresh_session() -> None:
    app = App()
    with app.request() as s:
        s["a"] = 1
    text = token().text
    with app.request() as s:
        s.start(text)
        assert (s.is_new, s) == (True, {})
        s["b"] = 1
        assert s.session_id != text[:24]
    assert app.look() == {"b": 1}


def test_start_with_a_token_comes_first_or_not_at_all() -> None:
    app = App()
    with app.request() as s:
        s["a"] = 1
        text = token().text
        with pytest.raises(SessionStateError, match="too late"):
            s.start(text)
    with app.request() as s:
        app.respond()
        with pytest.raises(SessionClosedError, match="response has started"):
            s.start(text)
    assert app.look() == {"a": 1}


# -- lifetimes -----------------------------------------------------------------------------------------------------


@both
def test_expire_after_is_remember_me(kind: str) -> None:
    app = App(kind)
    day = 86400
    with app.request() as s:
        assert s.expire_after(dt.timedelta(days=3)) is s
    assert f"Max-Age={7 * day}" in app.sent[0]  # the browser keeps it until the absolute end
    app.clock.advance(3 * day - 1)
    with app.request() as s:
        assert (s.is_new, s.expiration) == (False, app.clock.now + 1)
        s["a"] = 1
    with app.request() as s:
        assert s.expiration == app.clock.now + 3 * day
        s.expire_after(None)
    with app.request() as s:
        assert s.expiration == app.clock.now + 7200  # only expire_after shortens
    app.clock.advance(7200)
    assert app.look() == {}


@both
def test_expire_after_sets_the_cookie_without_max_age_again(kind: str) -> None:
    app = App(kind)
    with app.request() as s:
        s.expire_after(dt.timedelta(hours=1))
        s["a"] = 1
    with app.request() as s:
        s.expire_after(None)
        s.regenerate()
    assert "Max-Age" not in app.sent[0]


@pytest.mark.parametrize("limit", [dt.timedelta(0), dt.timedelta(days=7, seconds=1), dt.timedelta(days=-1)])
def test_expire_after_has_bounds(limit: dt.timedelta) -> None:
    app = App()
    with app.request() as s, pytest.raises(ValueError, match="absolute_timeout"):
        s.expire_after(limit)


@both
def test_persistent_cookies(kind: str) -> None:
    app = App(kind, persistent=True)
    with app.request() as s:
        s["a"] = 1
    assert "Max-Age=604800" in app.sent[0]


# -- another home --------------------------------------------------------------------------------------------------


def test_set_store_and_set_manager_before_start() -> None:
    app = App()
    other = MemoryStore()
    with app.request() as s:
        assert s.set_store(other) is s
        s["a"] = 1
    assert app.look() == {}
    session = app.begin().session
    assert session.set_manager(StoreManager(other)) == {"a": 1}
    for move in (session.set_store, session.set_manager):
        with pytest.raises(SessionStateError, match="loaded already"):
            move(other)
    with app.request() as s, pytest.raises(ConfigurationError):
        s.set_manager(CookieManager())


# -- on an event loop ----------------------------------------------------------------------------------------------


class Awaited:
    """Just the awaited face of a memory store."""

    can_rotate = True

    def __new__(cls, store: Any) -> Any:
        return store.aio()


def awaited() -> tuple[App, Any]:
    store = FaultyStore(MemoryStore())
    return App(store=Awaited(store), on_loop=True), store


async def handle(app: App, work: Any, *, load: bool = True) -> None:
    step = app.begin()
    session = step.session
    if load:
        assert await session.load() is session
    answer = work(session)
    if answer is not None:
        await answer
    verdict: Any = app.layer.commit(session)
    if not hasattr(verdict, "action"):
        verdict = await verdict
    app.browser.take(app.layer.set_cookies(session._source, verdict))
    session._state.start_response()
    await app.layer.finish(session, failed=False)


@pytest.mark.anyio
async def test_an_awaited_store() -> None:
    app, store = awaited()

    async def first(s: Session) -> None:
        s["a"] = 1
        with pytest.raises(SessionStateError, match="acommit"):
            s.commit()
        await s.acommit()
        assert store.count("create") == 1
        assert s.is_status(SessionStatus.NONE)
        s["b"] = 2

    await handle(app, first, load=False)  # nothing to wait for: there is no cookie
    session = app.begin().session
    with pytest.raises(SessionStateError, match="load"):
        session.get("a")
    assert not session.accessed
    await handle(app, lambda s: s.__setitem__("c", s["a"] + s["b"]))
    assert await app.begin().session.load() == {"a": 1, "b": 2, "c": 3}


@pytest.mark.anyio
async def test_tasks_that_load_at_once_share_one_reading() -> None:
    app, _ = awaited()
    await handle(app, lambda s: s.__setitem__("a", 1), load=False)

    async def work(s: Session) -> None:
        async def task(number: int) -> None:
            await s.load()
            s[str(number)] = number

        await asyncio.gather(*map(task, range(3)))

    await handle(app, work, load=False)
    assert await app.begin().session.load() == {"a": 1, "0": 0, "1": 1, "2": 2}


@pytest.mark.anyio
async def test_a_session_loaded_after_the_response_start_knows_it() -> None:
    app, _ = awaited()
    await handle(app, lambda s: s.__setitem__("a", 1), load=False)
    step = app.begin()
    step.respond()
    await step.session.load()
    with pytest.raises(SessionClosedError):
        step.session.login(user_id="ann")
    step.session["late"] = 1
    await app.layer.finish(step.session, failed=False)
    assert await app.begin().session.load() == {"a": 1, "late": 1}


@both
def test_expire_after_makes_the_cookie_of_an_existing_session_persistent_and_takes_it_back(kind: str) -> None:
    app = App(kind)
    with app.request() as s:
        s["a"] = 1
        before = s.session_id
    with app.request() as s:
        s.expire_after(dt.timedelta(days=3))
        assert s.session_id != before
    assert [cookie.count("Max-Age=") for cookie in app.sent] == [1]
    with app.request() as s:
        s.expire_after(dt.timedelta(days=2))
        assert s.session_id == s.opened_id  # the cookie lives on as it is
    with app.request() as s:
        s.expire_after(None)
    assert [cookie.count("Max-Age=") for cookie in app.sent] == [0]
    assert app.look() == {"a": 1}


def test_expire_after_by_an_overlapping_request_changes_the_limit_and_sends_no_cookie() -> None:
    app = App()
    with app.request() as s:
        s["a"] = 1
    tab = app.browser.copy()
    with app.request() as s:
        s.regenerate()
    with app.request(tab) as s:  # through the pointer
        s.expire_after(dt.timedelta(days=3))
    assert app.sent == []
    with app.request() as s:
        assert s.expiration == app.clock.now + 3 * 86400
