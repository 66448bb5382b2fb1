"""Address rules: what binds a login or a session to where it came from, and who decides when that changes."""

from __future__ import annotations

from typing import Any

import pytest
from harness import AWAY, HOME, App, both

from session_mw.core.login import MAX_IP_CHANGES
from session_mw.errors import ConfigurationError, SessionLogicError, SessionStateError
from session_mw.service import SessionService

OTHER = "192.0.2.33"


def logged_in(kind: str, **settings: Any) -> App:
    app = App(kind, strict_session_ip=True, **settings)
    with app.request() as s:
        s["secret"] = 1
        s.login(user_id="ann")
    app.told()
    return app


@both
def test_without_rules_an_address_is_only_remembered(kind: str) -> None:
    app = App(kind)
    with app.request() as s:
        s["a"] = 1
        assert (s.ip_changed(), s.is_session_ip()) == (False, False)  # nobody is logged in
        s.login(user_id="ann")
    with app.request(peer=AWAY) as s:
        assert (s.online(), s.login_ip, s.is_strict_ip) == (True, HOME, False)
        assert (s.ip_changed(), s.ip_changed("admin"), s.is_session_ip()) == (True, False, False)
        assert s.ip_changes == []
        assert not s.modified  # queries are pure
    assert app.sent == []


@both
def test_a_strict_login_from_elsewhere_is_ended(kind: str) -> None:
    app = logged_in(kind)
    with app.request() as s:
        assert (s.online(), s.is_session_ip(), s.ip_changed()) == (True, True, False)
    thief = app.browser.copy()
    with app.request(thief, peer=AWAY) as s:
        assert (s, s.online(), s.user_id, s.login_ip) == ({}, False, None, None)
        s["anonymous"] = 1
    assert app.told("ip_changed", "destroy") == ["ip_changed:ended", "destroy:ip_changed"]
    with app.request(thief, peer=AWAY) as s:
        assert (dict(s), s.online()) == ({"anonymous": 1}, False)
    if kind == "store":
        assert app.look() == {}  # the record is gone for everybody


def test_who_was_refused_may_log_in_in_that_very_request() -> None:
    app = logged_in("store")
    with app.request(peer=AWAY) as s:
        assert not s.online()
        s.login(user_id="ann")
        assert s.online()
    with app.request(peer=AWAY) as s:
        assert s.online()


@both
@pytest.mark.parametrize(("answer", "online"), [(False, True), (True, False), (None, False), (0, False)])
def test_the_callback_decides(kind: str, answer: Any, online: bool) -> None:
    seen: list[Any] = []

    def moved(session: Any, ip: str, changes: list[Any]) -> Any:
        seen.append((ip, [change.address for change in changes], session["secret"], session.user_id, session.online()))
        with pytest.raises(SessionStateError):
            session["x"] = 1  # to look at, not to write
        return answer

    app = logged_in(kind, on_ip_changed=moved)
    with app.request(peer=AWAY) as s:
        assert s.online() is online
        assert dict(s) == ({"secret": 1} if online else {})
        assert s.login_ip == (AWAY if online else None)
    assert seen == [(HOME, [], 1, "ann", True)]
    assert app.told("ip_changed") == ["ip_changed:kept" if online else "ip_changed:ended"]
    if online:
        with app.request(peer=AWAY) as s:  # bound anew, so nobody is asked again
            assert [(change.address, change.at) for change in s.ip_changes] == [(AWAY, app.clock.now)]
            assert s.is_session_ip()
        with app.request(peer=OTHER) as s:
            assert [change.address for change in s.ip_changes] == [AWAY, OTHER]
        assert len(seen) == 2


@both
def test_a_callback_that_fails_decides_against(kind: str, caplog: pytest.LogCaptureFixture) -> None:
    def broken(*_: Any) -> bool:
        raise ZeroDivisionError

    app = logged_in(kind, on_ip_changed=broken)
    with app.request(peer=AWAY) as s:
        assert not s.online()
        assert s == {}
    assert "broken" in caplog.text


@both
def test_a_callback_of_one_request(kind: str) -> None:
    app = logged_in(kind)
    with app.request(peer=AWAY) as s:
        assert s.on_ip_changed(lambda *_: False) is s
        assert s.online()
        with pytest.raises(SessionStateError, match="too late"):
            s.on_ip_changed(lambda *_: False)
    relaxed = App(kind)
    with relaxed.request() as s:
        s.login(user_id="ann")
    with relaxed.request(peer=AWAY) as s:
        assert s.on_ip_changed(lambda *_: True).online()  # nothing is bound, nothing is asked


def test_the_history_is_capped() -> None:
    app = logged_in("store", on_ip_changed=lambda *_: False)
    for number in range(MAX_IP_CHANGES + 5):
        with app.request(peer=f"192.0.2.{number}") as s:
            assert s.online()
    assert [change.address for change in s.ip_changes][-1] == f"192.0.2.{MAX_IP_CHANGES + 4}"
    assert len(s.ip_changes) == MAX_IP_CHANGES


@both
def test_an_unknown_address(kind: str) -> None:
    app = App(kind, strict_session_ip=True)
    with app.request(peer=None) as s:
        with pytest.raises(SessionLogicError, match="unknown"):
            s.login(user_id="ann")
        s.login(HOME, user_id="ann")
    asked: list[Any] = []
    with app.request(peer=None) as s:
        s.on_ip_changed(lambda *given: asked.append(given))
        assert not s.online()
    assert asked == []


@both
def test_prefixes(kind: str) -> None:
    app = App(kind, strict_session_ip=True, ip_prefix=(24, 64))
    for first, near, far in (
        ("203.0.113.9", "203.0.113.250", "203.0.114.9"),
        ("2001:db8::1", "2001:db8::ffff:1", "2001:db8:0:1::1"),
    ):
        with app.request(peer=first) as s:
            s.login(user_id="ann")
        with app.request(peer=near) as s:
            assert s.online()
            assert not s.ip_changed()
        with app.request(peer=far) as s:
            assert not s.online()


@both
def test_trusted_proxies(kind: str) -> None:
    app = App(kind, strict_session_ip=True, trusted_proxies=("10.0.0.0/8",))
    with app.request(peer="10.0.0.1", headers={"x-forwarded-for": f"{AWAY}, {HOME}"}) as s:
        s.login(user_id="ann")
        assert s.login_ip == HOME  # the right-most untrusted hop
    with app.request(peer=OTHER, headers={"x-forwarded-for": HOME}) as s:
        assert not s.online()  # nobody trusts this peer


@both
def test_session_ip_binds_from_creation(kind: str) -> None:
    app = App(kind, session_ip=True)
    with app.request() as s:
        s["a"] = 1
    thief = app.browser.copy()
    with app.request(thief, peer=AWAY) as s:
        assert (s, s.is_new) == ({}, True)
        s["theirs"] = 1
    assert app.told("refused") == ["refused:address"]
    assert app.look(thief, peer=AWAY) == {"theirs": 1}
    with app.request() as s:
        assert s == {"a": 1}  # the record was not touched
        s.regenerate()
        s.set_to("b", 1, "x")
    assert app.look() == {"a": 1}
    assert app.look(peer=AWAY) == {}
    with app.request(peer=None) as s:
        assert s == {}


@both
def test_a_session_made_without_an_address_is_bound_to_the_first_known(kind: str) -> None:
    app = App(kind, session_ip=True)
    with app.request(peer=None) as s:
        s["a"] = 1
    with app.request(peer=None) as s:
        assert s == {"a": 1}
    assert app.sent == []  # there is nothing to bind it to
    with app.request() as s:
        assert s == {"a": 1}
    assert app.look(peer=AWAY) == {}
    with app.request() as s:
        assert s == {"a": 1}
    assert app.sent == []  # bound once


@both
def test_a_login_by_owner_key_is_held_to_its_address_as_any_other(kind: str) -> None:
    app = App(kind, strict_session_ip=True, owner_key="uid")
    with pytest.raises(SessionLogicError, match="unknown"), app.request(peer=None) as s:
        s["uid"] = "ann"
    with app.request() as s:
        s["uid"] = "ann"
    with app.request(peer=AWAY) as s:
        assert (s, s.online()) == ({}, False)
    assert app.look() == {}  # that ended it


def test_what_no_address_holds_says_so() -> None:
    app = App(strict_session_ip=True)
    with SessionService(app.config) as service:
        app.browser.cookies[app.config.cookie.name] = service.issue_token(service.create_session("ann"))
        with app.request() as s:
            assert (s.online(), s.login_ip, s.is_session_ip()) == (True, None, False)
            s.login()
            assert s.is_session_ip()


@pytest.mark.anyio
@both
async def test_an_async_callback_needs_a_loop_and_decides_before_the_handler(kind: str) -> None:
    async def moved(session: Any, ip: str, changes: Any) -> bool:
        return session["secret"] != 1

    with pytest.raises(ConfigurationError, match="plain functions"):
        App(kind, strict_session_ip=True, on_ip_changed=moved)
    app = App(kind, strict_session_ip=True, on_ip_changed=moved, on_loop=True)
    assert app.layer.may_wait
    step = app.begin()
    assert app.layer.must_wait(step.session)
    s = await step.session.load()
    s["secret"] = 1
    s.login(user_id="ann")
    step.respond()
    step = app.begin(peer=AWAY)
    with pytest.raises(SessionStateError, match="load"):
        step.session.online()
    s = await step.session.load()
    assert (s.online(), s.login_ip) == (True, AWAY)


@pytest.mark.anyio
@both
async def test_an_async_callback_of_one_request_needs_a_loop_and_load(kind: str) -> None:
    async def moved(session: Any, ip: str, changes: Any) -> bool:
        return session["secret"] != 1

    with logged_in(kind).request(peer=AWAY) as s, pytest.raises(ConfigurationError, match="plain functions"):
        s.on_ip_changed(moved)
    app = logged_in(kind, on_loop=True)
    s = app.begin(peer=AWAY).session.on_ip_changed(moved)
    assert app.layer.must_wait(s)
    with pytest.raises(SessionStateError, match="load"):
        s.online()
    opening = app.layer.opening(s)
    assert opening is not None
    await opening
    assert (s.online(), s.login_ip) == (True, AWAY)
    relaxed = App(kind, on_loop=True).begin().session.on_ip_changed(moved)
    assert not relaxed.online()  # nothing is bound, nothing is asked
