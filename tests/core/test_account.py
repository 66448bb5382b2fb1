"""Account: login, logout, who owns what, metadata; what a login drops and what it keeps."""

from __future__ import annotations

import uuid
from typing import Any

import pytest
from harness import App, both

from session_mw.errors import SessionLogicError

AGENT = {"user-agent": "Browser/1.0"}


@both
def test_login_rotates_and_keeps_data(kind: str) -> None:
    app = App(kind)
    with app.request() as s:
        s["cart"] = [1]
        assert not s.online()
    thief = app.browser.copy()
    with app.request(headers=AGENT) as s:
        before = s.session_id
        assert s.login(user_id="ann") is True
        assert s.session_id != before == s.opened_id
        assert s.online()
        assert s.is_online()
        assert s.user_id == "ann"
        new = s.session_id
    assert app.told() == ["create", "close", "open", "login", "rotate", "close"]
    assert len(app.sent) == 1
    with app.request() as s:
        assert (s.session_id, s["cart"], s.online(), s.user_id) == (new, [1], True, "ann")
    if kind == "store":
        assert app.look(thief) == {}  # the token from before the login opens nothing


@both
def test_the_login_of_a_new_session_keeps_the_id_that_was_shown(kind: str) -> None:
    app = App(kind)
    with app.request() as s:
        assert s.session_id is None
        s["a"] = 1
        handle = s.session_id
        s.login(user_id="ann")
        s.regenerate()
        assert s.session_id == handle
    with app.request() as s:
        assert s.session_id == s.opened_id == handle


@both
@pytest.mark.parametrize("user", [7, "ann", uuid.UUID(int=1)])
def test_owners_are_text(kind: str, user: Any) -> None:
    app = App(kind)
    with app.request() as s:
        s.login(user_id=user)
    with app.request() as s:
        assert s.user_id == str(user)


@pytest.mark.parametrize("user", ["", "x" * 256, True, 1.5, b"ann", ["ann"], "\ud800"])
def test_impossible_owners_are_refused_and_change_nothing(user: Any) -> None:
    app = App()
    with app.request() as s:
        s["a"] = 1
        with pytest.raises(ValueError, match="user_id") as refused:
            s.login(user_id=user)
        assert "xxx" not in str(refused.value)
        assert (s, s.online(), s.user_id) == ({"a": 1}, False, None)


@pytest.mark.parametrize("ip", ["not-an-ip", "ann", 42, ""])
def test_an_ip_that_is_none_names_user_id(ip: Any) -> None:
    app = App()
    with app.request() as s, pytest.raises(ValueError, match="user_id"):
        s.login(ip)


def test_an_ip_without_binding_is_a_contradiction() -> None:
    app = App()
    with app.request() as s:
        with pytest.raises(SessionLogicError, match="strict_session_ip"):
            s.login("192.0.2.1")
        assert not s.online()


@both
def test_logging_in_again_is_a_new_login(kind: str) -> None:
    app = App(kind)
    with app.request() as s:
        s.login(user_id="ann")
        s["a"] = 1
        token, handle = s.login_token, s.session_id
    app.clock.advance(100)
    with app.request() as s:
        s.attempt()
        s.synchronize()
        assert s.login_token != token
        assert s.session_id != handle
        assert (s.user_id, s.attempts, s["a"]) == ("ann", 0, 1)
        assert s.login_timestamp == app.clock.now
    with app.request() as s:
        assert s.created_at == app.clock.now  # credentials were checked: both limits begin anew
        assert s.expiration == app.clock.now + 7200


def everything(s: Any) -> None:
    s["a"] = 1
    s.set_to("b", 2, "other").put("c", 3)
    s.attempt()


@both
@pytest.mark.parametrize(
    ("before", "then", "kept"),
    [
        (None, "ann", True),  # an anonymous session belongs to who logs in
        ("ann", "ann", True),
        ("ann", "bob", False),
        ("ann", None, True),  # None keeps the owner
        ("ann, out", "ann", True),
        ("ann, out", "bob", False),
        ("ann, out", None, False),  # nobody knows who this is
        ("unlisted", None, True),  # two without a name are one, as far as anybody can tell
        ("unlisted, out", None, True),
        ("unlisted, out", "ann", False),  # whoever that was
    ],
)
@pytest.mark.parametrize("requests", [1, 2])
def test_who_inherits_what(kind: str, before: str | None, then: str | None, kept: bool, requests: int) -> None:
    app = App(kind)

    def earlier(s: Any) -> None:
        if before:
            s.login(user_id=None if before.startswith("unlisted") else "ann")
        everything(s)
        if before and before.endswith("out"):
            s.logout()

    def later(s: Any) -> None:
        s.login(user_id=then)
        s["mine"] = 1

    if requests == 2:
        with app.request() as s:
            earlier(s)
        with app.request() as s:
            later(s)
    else:
        with app.request() as s:
            earlier(s)
            later(s)
    with app.request() as s:
        owner = then or ("ann" if before == "ann" else None)
        assert (s.user_id, s.online(), s.attempts) == (owner, True, 0)
        assert s.get("a") == (1 if kept else None)
        assert s.get_from("other", "b") == (2 if kept else None)
        assert s.get("c") == (3 if kept else None)
        assert s["mine"] == 1


@both
def test_a_login_without_a_name_is_nobodys_to_go_on_with_later(kind: str) -> None:
    """Named in the request that made it, it is theirs; found in a session, it may be anybody's."""
    app = App(kind)
    with app.request() as s:
        s.login()
        s["a"] = 1
        s.login(user_id="ann")
    with app.request() as s:
        assert (s.user_id, s.get("a")) == ("ann", 1)
    app = App(kind)
    with app.request() as s:
        with s.using_storage("admin"):
            s.login()
        s["a"] = 1
    with app.request() as s:
        s.login(user_id="bob")
    with app.request() as s:
        assert (s.user_id, s.get("a"), s.online("admin")) == ("bob", None, False)


@both
def test_another_user_ends_the_logins_of_other_storages(kind: str) -> None:
    app = App(kind)
    with app.request() as s:
        s.login(user_id="ann")
        s.set_storage("admin").login(user_id="ann")
    with app.request() as s:
        s.login(user_id="bob")
        assert (s.online(), s.online("admin"), s.user_id) == (True, False, "bob")
    with app.request() as s:
        assert (s.online(), s.online("admin"), s.user_id) == (True, False, "bob")


@both
def test_logout(kind: str) -> None:
    app = App(kind)
    with app.request() as s:
        assert s.logout() is False
        s.login(user_id="ann")
        s["a"] = 1
    thief = app.browser.copy()
    with app.request() as s:
        before = s.session_id
        s.attempt()
        assert s.logout() is True
        assert (s.online(), s.user_id, s["a"], s.attempts) == (False, None, 1, 1)
        assert s.logout() is False
        assert s.get_metadata() == {"attempts": 1}
        assert s.session_id != before
    with app.request() as s:
        assert (s.online(), s.user_id, s["a"], s.attempts) == (False, None, 1, 1)
        assert s.opened_id != before
    if kind == "store":
        assert app.look(thief) == {}


@both
def test_logout_may_clear(kind: str) -> None:
    app = App(kind)
    with app.request() as s:
        s.login(user_id="ann")
        s["a"] = 1
        s.set_to("b", 2, "other")
    with app.request() as s:
        assert s.terminate(clear_data=True) is True
    with app.request() as s:
        assert s.get_result() == {"other": {"b": 2}}


@both
def test_the_owner_stays_while_any_storage_is_online(kind: str) -> None:
    app = App(kind)
    with app.request() as s:
        s.login(user_id="ann")
        s.set_storage("admin").login()
    with app.request() as s:
        s.logout()
        assert (s.online(), s.online("admin"), s.user_id) == (False, True, "ann")
    with app.request() as s:
        s.set_storage("admin").logout()
        assert s.user_id is None
    with app.request() as s:
        assert (s.is_new, s.user_id) == (True, None)


def test_a_logout_is_kept_when_the_app_fails_and_nothing_else_is() -> None:
    app = App()
    with app.request() as s:
        s.login(user_id="ann")
        s["a"] = 1
        s.set_to("b", [2], "other")
    cookie = app.browser.copy()
    with pytest.raises(ZeroDivisionError), app.request() as s:  # noqa: PT012
        s.put("q", 1)["new"] = 1
        s.get_from("other", "b").append(3)
        s.attempt()
        s.logout()
        raise ZeroDivisionError
    assert app.browser.cookies == cookie.cookies  # no cookie could be sent: it ended in place
    with app.request() as s:
        assert (s.online(), s.user_id, s.attempts) == (False, None, 0)
        assert s.get_result() == {"global": {"a": 1}, "other": {"b": [2]}}


ALL = {"global": {"a": 1}, "other": {"b": 2}}


@pytest.mark.parametrize(
    ("wish", "left"),
    [
        (lambda s: s.logout(clear_data=True), {"other": {"b": 2}}),
        (lambda s: s.destroy(), {}),
        (lambda s: s.destroy(all_data=True), {}),
        (lambda s: (s.logout(), s.clear()), {"other": {"b": 2}}),
        (lambda s: (s.clear(), s.login(user_id="bob"), s.logout()), {"other": {"b": 2}}),
        (lambda s: s.logout(), ALL),
        (lambda s: (s.logout(), s.login()), ALL),
        (lambda s: (s.logout(), s.login(user_id="bob"), s.set("a", 2)), ALL),
        (lambda s: (s.logout(), s.login(user_id="bob"), s.clear()), ALL),
        (lambda s: (s.logout(), s.set_storage("admin").login(user_id="ann")), ALL),
    ],
)
def test_endings_of_a_failed_request(wish: Any, left: Any) -> None:
    """Whoever logs in afterwards: nothing takes an ending back."""
    app = App()
    with app.request() as s:
        s.login(user_id="ann")
        s["a"] = 1
        s.set_to("b", 2, "other")
    with pytest.raises(ZeroDivisionError), app.request() as s:  # noqa: PT012
        wish(s)
        raise ZeroDivisionError
    with app.request() as s:
        assert s.get_result() == left
        assert (s.online(), s.user_id) == (False, None)


@pytest.mark.parametrize(
    "wish", [lambda s: s.set("x", 1), lambda s: s.clear("other"), lambda s: s.login(user_id="bob"), lambda s: s.login()]
)
def test_what_ends_nothing_is_all_taken_back(wish: Any) -> None:
    app = App()
    with app.request() as s:
        s.login(user_id="ann")
        s["a"] = 1
        s.set_to("b", 2, "other")
    with pytest.raises(ZeroDivisionError), app.request() as s:  # noqa: PT012
        wish(s)
        raise ZeroDivisionError
    with app.request() as s:
        assert (s.get_result(), s.online(), s.user_id) == (ALL, True, "ann")


def test_one_login_of_two_ends_in_a_failed_request() -> None:
    app = App()
    with app.request() as s:
        s.login(user_id="ann")
        s.set_storage("admin").login()
    with pytest.raises(ZeroDivisionError), app.request() as s:  # noqa: PT012
        s.logout()
        raise ZeroDivisionError
    with app.request() as s:
        assert (s.online(), s.online("admin"), s.user_id) == (False, True, "ann")


def test_a_failed_request_without_a_session_has_nothing_to_end() -> None:
    app = App()
    for wish in (lambda s: (s.login(user_id="ann"), s.logout()), lambda s: s.destroy(), lambda s: s.set("a", 1)):
        with pytest.raises(ZeroDivisionError), app.request() as s:  # noqa: PT012
            wish(s)
            raise ZeroDivisionError
    assert repr(app.store) == "<MemoryStore 0 of 100000>"


@both
def test_attempts(kind: str) -> None:
    app = App(kind)
    with app.request() as s:
        assert (s.attempts, s.attempt(), s.attempt(), s.attempts) == (0, 1, 2, 2)
        with s.using_storage("admin"):
            assert s.attempt() == 1
    with app.request() as s:
        assert (s.attempts, s.attempt()) == (2, 3)
        assert s.get_metadata() == {"attempts": 3}
        assert s.get_meta("attempts", "admin") == 1
    with app.request() as s:
        assert s.attempt(reset=True) == 0
        assert s.get_metadata() == {}
    with app.request() as s:
        assert s.attempts == 0


@both
def test_nothing_is_written_where_no_attempt_was_counted(kind: str) -> None:
    app = App(kind)
    with app.request() as s:
        s["a"] = 1
    with app.request() as s:
        assert s.attempt(reset=True) == 0
        assert not s.modified
    assert app.sent == []


def test_attempts_of_overlapping_requests_add_up() -> None:
    app = App()
    with app.request() as s:
        s["a"] = 1
    with app.request() as s:
        s.attempt()
        with app.request() as other:
            other.attempt()
            other.attempt()
    with app.request() as s:
        assert s.attempts == 3
