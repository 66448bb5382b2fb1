"""What a login shows of itself, the owner's other sessions, ``owner_key``, and what comes too late."""

from __future__ import annotations

import asyncio
import datetime as dt
import hashlib
import hmac
from typing import Any

import pytest
from harness import HOME, App, both

from session_mw.core.client import USER_AGENT_LENGTH
from session_mw.core.login import Login, fingerprint
from session_mw.errors import SessionClosedError, SessionLogicError
from session_mw.service import SessionService
from session_mw.stores.memory import MemoryStore

AGENT = {"user-agent": "Browser/1.0"}

# -- metadata ------------------------------------------------------------------------------------------------------


@both
def test_metadata(kind: str) -> None:
    app = App(kind)
    now = int(app.clock.now)
    with app.request(headers=AGENT) as s:
        assert (s.login_timestamp, s.login_datetime, s.login_token, s.fingerprint) == (0, None, None, None)
        assert (s.login_ip, s.login_user_agent, s.ip_changes, s.get_metadata()) == (None, None, [], {})
        assert (s.expiration, s.created_at, s.last_activity) == (0, now, now)
        assert s.verify_login_token("") is False
        s.login(user_id="ann")
    app.clock.advance(5)
    with app.request() as s:
        assert (s.login_ip, s.login_user_agent, s.login_timestamp) == (HOME, "Browser/1.0", now)
        assert s.login_datetime == dt.datetime.fromtimestamp(now, dt.UTC).isoformat()
        assert s.login_datetime.endswith("+00:00")
        assert (s.expiration, s.created_at, s.last_activity) == (now + 7200, now, now)
        token = s.login_token
        assert token is not None
        assert len(token) == 72
        assert token not in str(app.browser.cookies)
        assert s.verify_login_token(token)
        assert not s.verify_login_token(token[:-1])
        assert not s.verify_login_token("ü\ud800")
        assert not s.verify_login_token(None)
        assert not s.verify_login_token(token.encode())
        assert s.fingerprint == fingerprint(Login(now, token, HOME, "Browser/1.0"), "default")
        assert s.get_metadata() == {
            "online": True,
            "token": token,
            "timestamp": now,
            "last_activity": now,
            "ip": HOME,
            "ip_changes": [],
            "agent": "Browser/1.0",
            "fingerprint": s.fingerprint,
            "attempts": 0,
        }
        assert s.get_meta("agent") == "Browser/1.0"
        assert s.get_meta("agent", "admin", "none") == "none"
        s.get_metadata()["online"] = False
        assert s.get_meta("online") is True


def test_the_fingerprint_is_keyed_and_its_parts_do_not_run_together() -> None:
    message = b"7:default" + b"2:ua" + b"3:::1"
    assert fingerprint(Login(0, "ab", "::1", "ua"), "default") == hmac.new(b"ab", message, hashlib.sha256).hexdigest()
    assert fingerprint(Login(0, "ab", "1", "ua1"), "default") != fingerprint(Login(0, "ab", "11", "ua"), "default")


def test_a_user_agent_is_bounded() -> None:
    app = App()
    with app.request(headers={"user-agent": "x" * 5000}) as s:
        s.login(user_id="ann")
        assert s.login_user_agent == "x" * USER_AGENT_LENGTH


@both
def test_expired_valid_fresh(kind: str) -> None:
    app = App(kind)
    with app.request() as s:
        assert (s.is_expired(), s.is_valid(), s.fresh(10**9)) == (True, False, False)  # nobody is logged in
        s.login(user_id="ann")
    app.clock.advance(3599)
    with app.request() as s:
        assert (s.is_expired(), s.is_valid()) == (False, True)
        assert (s.fresh(3600), s.fresh(dt.timedelta(hours=1)), s.fresh(3599)) == (True, True, False)
    app.clock.advance(1)
    with app.request() as s:
        assert (s.is_expired(), s.is_valid()) == (True, False)
        assert s.is_valid(60, since="activity")
        assert s.is_expired(1, since="activity")
        assert s.online()
        with pytest.raises(ValueError, match="since"):
            s.is_valid(since="yesterday")  # type: ignore[arg-type]
    app.clock.advance(60)
    with app.request() as s:
        assert s.is_expired(60, since="activity")
        s.login(user_id="ann")
        assert s.is_valid(60, since="activity")  # a login is activity


@both
def test_deadlines_end_a_login_exactly_then(kind: str) -> None:
    app = App(kind, idle_timeout=100, absolute_timeout=150)
    with app.request() as s:
        s.login(user_id="ann")
    app.clock.advance(99)
    with app.request() as s:
        assert s.online()  # and slides
    app.clock.advance(50)
    with app.request() as s:
        assert s.online()
    app.clock.advance(1)
    with app.request() as s:
        assert (s.online(), s.is_new) == (False, True)
    assert app.told("refused") == ["refused:expired"]


# -- the rest of the owner's sessions ------------------------------------------------------------------------------


def three(app: App) -> list[Any]:
    browsers = []
    for name in ("ann", "ann", "bob"):
        browser = type(app.browser)()
        with app.request(browser) as s:
            s.login(user_id=name)
        browsers.append(browser)
    return browsers


@pytest.mark.parametrize(
    ("also", "own"),
    [
        (lambda s: None, True),
        (lambda s: s.regenerate(), True),
        (lambda s: s.set("a", 1), True),
        (lambda s: s.logout(), False),
        (lambda s: s.destroy(), False),
        (lambda s: s.login(user_id="carol"), True),
    ],
)
def test_destroy_others(also: Any, own: bool) -> None:
    app = App()
    mine, other, bobs = three(app)
    with app.request(mine) as s:
        s.destroy_others()
        also(s)
    online = []
    for browser in (mine, other, bobs):
        with app.request(browser) as s:
            online.append(s.online())
    assert online == [own, False, True]


def test_destroy_others_needs_an_owner_and_a_store() -> None:
    app = App()
    with app.request() as s, pytest.raises(SessionLogicError, match="owner"):
        s.destroy_others()
    app = App("cookie")
    with app.request() as s:
        s.login(user_id="ann")
        with pytest.raises(ValueError, match="store="):
            s.destroy_others()


# -- owner_key -----------------------------------------------------------------------------------------------------


@both
def test_owner_key_is_the_login(kind: str) -> None:
    app = App(kind, owner_key="_auth_user_id")
    with app.request() as s:
        s["cart"] = [1]
    with app.request() as s:
        first = s.session_id
        assert not s.online()
        s["_auth_user_id"] = 7
        assert s.online()
    with app.request() as s:
        assert (s.user_id, s.online(), s["cart"]) == ("7", True, [1])
        second = s.session_id
        assert second != first
    assert app.sent == []  # nothing changed, nothing rotates
    with app.request() as s:
        s.set_storage("elsewhere")
        s.set_to("_auth_user_id", "8", "global").set_to("mine", 1, "global")
    with app.request() as s:
        assert (s.user_id, s.online(), dict(s)) == ("8", True, {"_auth_user_id": "8", "mine": 1})  # another user
    with app.request() as s:
        s["_auth_user_id"] = "9"
    with app.request() as s:
        assert dict(s) == {"_auth_user_id": "9"}
        third = s.session_id
        del s["_auth_user_id"]
        s["left"] = 1
        assert not s.online()
    with app.request() as s:
        assert (s.user_id, s.online(), dict(s)) == (None, False, {"left": 1})
        assert s.session_id != third


@both
def test_an_impossible_owner_key_saves_nothing(kind: str) -> None:
    app = App(kind, owner_key="uid")
    with pytest.raises(ValueError, match="user_id"), app.request() as s:
        s["uid"] = ["ann"]
    assert app.look() == {}


@pytest.mark.parametrize("before", [{"a": 1}, {"uid": "bob"}])
@pytest.mark.parametrize("how", ["late", "commit", "acommit"])
def test_a_login_by_owner_key_needs_a_cookie_as_any_other(how: str, before: dict[str, Any]) -> None:
    """Else whoever planted the old one is logged in."""
    app = App(owner_key="uid")
    with app.request() as s:
        s.update(before)
    planted = app.browser.copy()
    with pytest.raises(SessionClosedError, match="'uid'"), app.request() as s:  # noqa: PT012
        assert s == before
        app.respond()
        s["uid"] = "ann"
        if how == "commit":
            s.commit()
        elif how == "acommit":
            asyncio.run(s.acommit())
    with app.request(planted) as s:
        assert (s.online(), s.user_id, dict(s)) == ("uid" in before, before.get("uid"), before)


@both
def test_login_and_logout_keep_to_the_owner_key(kind: str) -> None:
    """The key *is* the login, however it came and went."""
    app = App(kind, owner_key="uid")
    with app.request() as s:
        s["uid"] = 7
    app.clock.advance(100)
    with app.request() as s:
        assert s.logout() is True
        assert (s.online(), "uid" in s) == (False, False)
    with app.request() as s:
        assert (s.online(), s.user_id, s.logout()) == (False, None, False)
        with pytest.raises(SessionLogicError, match="login\\(user_id"):
            s.login()
        assert s.login(user_id=7)
        assert s["uid"] == 7
    app.clock.advance(100)
    with app.request() as s:
        assert (s.online(), s.user_id, s["uid"], s.fresh(50)) == (True, "7", 7, False)
        assert s.login()  # again, by the same
    with app.request() as s:
        assert (s.online(), s.user_id, s["uid"], s.fresh(50)) == (True, "7", 7, True)
        s["left"] = 1
        s.login(user_id=8)
        assert dict(s) == {"uid": 8}
    with app.request() as s:
        assert (s.user_id, dict(s)) == ("8", {"uid": 8})


@both
@pytest.mark.parametrize(
    "name",
    [
        lambda s: s.set("uid", "bob"),
        lambda s: s.update(uid="bob"),
        lambda s: s.set_storage("other").set_to("uid", "bob", "global").set_storage("global"),
    ],
)
def test_a_stranger_under_owner_key_finds_nothing_at_once(kind: str, name: Any) -> None:
    app = App(kind, owner_key="uid")
    with app.request() as s:
        s["uid"] = "ann"
        s["flashes"] = ["welcome ann"]
        s.set_to("a", 1, "more")
    with app.request() as s:
        name(s)
        s.setdefault("flashes", []).append("welcome bob")
    with app.request() as s:
        assert s.get_result() == {"global": {"uid": "bob", "flashes": ["welcome bob"]}}
        assert (s.user_id, s.online()) == ("bob", True)


def test_destroy_others_knows_who_has_just_been_named() -> None:
    app = App(owner_key="uid")
    other = app.browser.copy()
    with app.request(other) as s:
        s["uid"] = "ann"
    with app.request() as s:
        s["uid"] = "ann"
        s.destroy_others()
    assert (app.look(other), app.look()) == ({}, {"uid": "ann"})


def test_a_name_that_the_service_gave_is_followed_by_the_next_request_with_a_cookie() -> None:
    app = App(owner_key="uid")
    with app.request() as s:
        s["a"] = 1
    with SessionService(app.config) as service:
        service.update_session(app.browser.cookies[app.config.cookie.name].partition(".")[0], {"uid": "ann"})
    with app.request() as s:
        app.respond()
        s["late"] = 1
    with app.request() as s:
        assert (dict(s), s.user_id) == ({"a": 1, "uid": "ann", "late": 1}, None)
        s["b"] = 1
    with app.request() as s:
        assert (s.get("uid"), s.user_id) == ("ann", "ann")


def test_an_early_commit_does_not_log_in_the_old_token() -> None:
    app = App(owner_key="uid")
    with app.request() as s:
        s["a"] = 1
    planted = app.browser.copy()
    with app.request() as s:
        s["uid"] = "ann"
        s.commit()
        assert app.look(planted) == {"a": 1}
    assert app.look() == {"a": 1, "uid": "ann"}
    assert app.look(planted) == {}


@pytest.mark.parametrize("take_out", [lambda s: s.pop("uid"), lambda s: s.set("uid", None), lambda s: s.clear()])
@pytest.mark.parametrize("end", ["late", "failed"])
def test_a_logout_by_owner_key_ends_in_place(end: str, take_out: Any) -> None:
    app = App(owner_key="uid")
    with app.request() as s:
        s["uid"] = "ann"
        s.set_to("b", 1, "other")
    token = app.browser.copy()
    if end == "late":
        with app.request() as s:
            assert s["uid"]
            app.respond()
            take_out(s)
    else:
        with pytest.raises(ZeroDivisionError), app.request() as s:  # noqa: PT012
            take_out(s)
            s["more"] = 1
            raise ZeroDivisionError
    with app.request(token) as s:
        assert (s.online(), s.user_id, s.get("uid"), s.get("more")) == (False, None, None, None)
        assert s.get_from("other", "b") == 1


def test_an_error_does_not_take_destroy_others_back() -> None:
    app = App()
    mine, other, bobs = three(app)
    with pytest.raises(ZeroDivisionError), app.request(mine) as s:  # noqa: PT012
        s["new"] = 1
        s.destroy_others()
        raise ZeroDivisionError
    for browser, online in ((mine, True), (other, False), (bobs, True)):
        with app.request(browser) as s:
            assert (s.online(), s.get("new")) == (online, None)


@both
def test_a_thief_who_logs_out_does_not_save_their_other_sessions(kind: str) -> None:
    app = App(kind, **({"revocation": MemoryStore(evict=False)} if kind == "cookie" else {}))
    mine, other, _ = three(app)
    victim = app.begin(mine)
    victim.session["password changed"] = True
    victim.session.destroy_others()
    with app.request(mine.copy()) as s:
        s.logout()
    assert victim.respond() == []
    with app.request(other) as s:
        assert not s.online()


# -- too late ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "call",
    [
        lambda s: s.login(user_id="ann"),
        lambda s: s.regenerate(),
        lambda s: s.expire_after(dt.timedelta(hours=1)),
        lambda s: s.start(),
        lambda s: s.start("a token"),
    ],
)
@both
def test_what_needs_a_cookie_must_come_before_the_response(kind: str, call: Any) -> None:
    app = App(kind)
    with app.request() as s:
        s["a"] = 1
        app.respond()
        with pytest.raises(SessionClosedError, match="response has started"):
            call(s)


def test_a_late_logout_ends_the_login_in_place() -> None:
    app = App()
    with app.request() as s:
        s.login(user_id="ann")
        s["a"] = 1
    with app.request() as s:
        assert s.online()
        app.respond()
        assert s.logout()
        s["late"] = 2
    with app.request() as s:
        assert (s.online(), s.user_id, dict(s)) == (False, None, {"a": 1, "late": 2})


@pytest.mark.parametrize("call", [lambda s: s.logout(), lambda s: s.destroy(), lambda s: s.set("a", 1)])
def test_a_client_kept_session_cannot_be_changed_late(call: Any) -> None:
    app = App("cookie")
    with app.request() as s:
        s.login(user_id="ann")
    with app.request() as s:
        assert s.online()
        app.respond()
        with pytest.raises(SessionClosedError, match="response has started"):
            call(s)


def test_logins_of_a_store_are_listed_by_owner() -> None:
    store = MemoryStore()
    app = App(store=store)
    three(app)
    assert [len(store.list_user(name)) for name in ("ann", "bob", "carol")] == [2, 1, 0]
    with app.request() as s:
        s.login()
    assert store.list_user("") == []
