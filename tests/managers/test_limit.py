"""max_sessions_per_user: at most so many, whoever logs in at the same time."""

from __future__ import annotations

from typing import Any

import pytest
from harness import KEY, App, Browser

from session_mw.config import SessionConfig
from session_mw.core.operations import Outcome
from session_mw.core.record import Record
from session_mw.errors import ConfigurationError, SessionLogicError
from session_mw.stores.memory import MemoryStore


def log_in(app: App, user: str = "alice", browser: Browser | None = None) -> Browser:
    browser = Browser() if browser is None else browser
    with app.request(browser) as session:
        session.login(user_id=user)
    app.clock.advance(1)
    return browser


def is_in(app: App, browser: Browser) -> bool:
    return app.begin(browser.copy()).session.online()


def test_one_more_ends_the_least_recently_used() -> None:
    app = App(max_sessions_per_user=2)
    first, second = log_in(app), log_in(app)
    bob = log_in(app, "bob")
    app.clock.advance(100)
    with app.request(first) as session:
        session["used"] = True  # now the second is the older one
    app.told()
    third = log_in(app)
    assert [is_in(app, browser) for browser in (first, second, third, bob)] == [True, False, True, True]
    assert "destroy:limit" in app.told("destroy")
    assert app.store is not None
    assert len(app.store.list_user("alice")) == 2


@pytest.mark.parametrize("limit", ["evict", "refuse"])
def test_logging_in_again_is_no_session_more(limit: str) -> None:
    app = App(max_sessions_per_user=1, on_session_limit=limit)
    browser = log_in(app)
    log_in(app, browser=browser)
    assert is_in(app, browser)


def test_without_a_limit_nobody_is_ended() -> None:
    app = App()
    browsers = [log_in(app) for _ in range(5)]
    assert all(is_in(app, browser) for browser in browsers)


def test_the_expired_do_not_count() -> None:
    app = App(max_sessions_per_user=1, on_session_limit="refuse", idle_timeout=50)
    log_in(app)
    app.clock.advance(50)
    assert is_in(app, log_in(app))


def test_nobody_is_asked_about_an_unlisted_login() -> None:
    app = App(max_sessions_per_user=1, on_session_limit="refuse")
    browsers = [Browser(), Browser()]
    for browser in browsers:
        with app.request(browser) as session:
            session.login()
    assert all(is_in(app, browser) for browser in browsers)


def test_owner_key_counts_too() -> None:
    app = App(max_sessions_per_user=1, owner_key="uid")
    one, two = Browser(), Browser()
    for browser in (one, two):
        with app.request(browser) as session:
            session["uid"] = 7
    assert not is_in(app, one)
    assert is_in(app, two)


def test_a_login_beyond_is_refused() -> None:
    app = App(max_sessions_per_user=1, on_session_limit="refuse")
    first, second = log_in(app), Browser()
    with app.request(second) as session:
        session["cart"] = [1]
    request = app.begin(second)
    request.session.login(user_id="alice")
    with pytest.raises(SessionLogicError, match="max_sessions_per_user"):
        request.respond()
    assert is_in(app, first)
    assert app.look(second) == {"cart": [1]}
    assert not is_in(app, second)
    with app.request(first) as session:
        session.logout()
    assert is_in(app, log_in(app, browser=second))


class Racing(MemoryStore):
    """Lets another login in just before the first one is written."""

    rival: Any = None

    def create(self, record: Record) -> bool:
        rival, self.rival = self.rival, None
        if rival is not None:
            rival()
        return super().create(record)

    def rotate(self, record: Record, old_id: str, expected_version: int, **options: Any) -> Outcome:
        raise AssertionError("not asked here")


@pytest.mark.parametrize("limit", ["evict", "refuse"])
def test_of_two_at_once_one_stays(limit: str) -> None:
    store = Racing()
    app = App(store=store, max_sessions_per_user=1, on_session_limit=limit)
    one, two = Browser(), Browser()
    request = app.begin(one)
    request.session.login(user_id="alice")
    store.rival = lambda: log_in(app, browser=two)
    if limit == "refuse":
        with pytest.raises(SessionLogicError):
            request.respond()
        assert not one
    else:
        request.respond()
    assert [is_in(app, one), is_in(app, two)] == [limit == "evict", limit == "refuse"]
    assert len(store.list_user("alice")) == 1


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"secret_key": KEY, "max_sessions_per_user": 1}, "add store="),
        ({"store": "memory:", "max_sessions_per_user": 0}, "1 or more"),
        ({"store": "memory:", "max_sessions_per_user": 1, "on_session_limit": "ask"}, "evict"),
    ],
)
def test_settings_that_cannot_be(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigurationError, match=words):
        SessionConfig(**settings)


def test_what_a_limit_does_without_a_limit_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="max_sessions_per_user= does: add it"):
        App(on_session_limit="refuse")
