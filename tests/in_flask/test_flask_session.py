"""``flask.session``: our Session, and what Flask promises of one; kept by the client and in a store."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import MutableMapping
from typing import Any

import flask
import pytest
from flask.sessions import SessionMixin
from flask_site import both, cookies, site, told

from session_mw import SessionClosedError, SessionSerializationError, SessionStatus, current_session
from session_mw.core.session import Session as CoreSession
from session_mw.flask import NullSession, Session, SessionMW, session

DAY = 86400


def max_age(cookie: str) -> int | None:
    found = re.search(r"Max-Age=(\d+)", cookie)
    return int(found[1]) if found else None


def view(app: Any, rule: str) -> Any:
    """Register what follows for *rule*; what it returns is said as JSON."""

    def register(function: Any) -> Any:
        app.add_url_rule(rule, rule, lambda **values: flask.jsonify(function(**values)))
        return function

    return register


@both
def test_it_is_both_kinds_and_a_dict(kind: str) -> None:
    app = site(kind)
    with app.test_request_context():
        held = flask.session._get_current_object()  # type: ignore[attr-defined]
        assert isinstance(held, Session)
        for type_ in (SessionMixin, CoreSession, dict, MutableMapping):
            assert isinstance(held, type_)
        assert repr(held) == "<Session not loaded>"
        assert json.dumps(held) == "{}"
        assert type(held) is Session
        assert session == held


def test_its_dormant_twin_is_its_own() -> None:
    assert Session._dormant._awake is Session
    assert Session._dormant is not CoreSession._dormant
    assert issubclass(Session._dormant, Session)


@both
def test_nested_changes_are_seen_and_equal_values_are_not_written(kind: str) -> None:
    app = site(kind)

    @view(app, "/nest")
    def nest() -> Any:
        flask.session.setdefault("cart", []).append("plum")
        return len(flask.session["cart"])

    @view(app, "/same")
    def same() -> Any:
        flask.session["cart"] = list(flask.session["cart"])

    client = app.test_client()
    assert [client.get("/nest").json for _ in range(3)] == [1, 2, 3]
    saves = app.faults.count("save")
    reply = client.get("/same")
    assert cookies(reply) == []
    assert app.faults.count("save") == saves
    assert reply.headers["Vary"] == "Cookie"


@both
def test_who_does_not_look_pays_nothing(kind: str) -> None:
    app = site(kind)
    client = app.test_client()
    client.get("/set/a/1")
    app.faults.forget()
    reply = client.get("/plain")
    assert "Vary" not in reply.headers
    assert cookies(reply) == []
    assert app.faults.calls == []


@both
def test_every_way_to_look_varies_by_cookie(kind: str) -> None:
    app = site(kind)
    looks: dict[str, Any] = {
        "in": lambda: "a" in flask.session,
        "len": lambda: len(flask.session),
        "bool": lambda: bool(flask.session),
        "copy": lambda: dict(flask.session),
        "typed": lambda: session.user_id,
        "current": lambda: current_session().get("a"),
        "handed": lambda: bool(flask.session.accessed),
        "template": lambda: flask.render_template_string("{{ session.a }}"),
    }
    for name, look in looks.items():
        app.add_url_rule(f"/{name}", name, lambda look=look: repr(look()))
    client = app.test_client()
    for name in looks:
        assert client.get(f"/{name}").headers["Vary"] == "Cookie", name


@both
def test_vary_and_cache_control_join_what_the_app_says(kind: str) -> None:
    app = site(kind)

    @app.get("/said")
    def said() -> Any:
        flask.session["n"] = flask.session.get("n", 0) + 1
        session.regenerate()
        return flask.Response(
            "", headers=[("Vary", "Accept"), ("Vary", "Accept-Language"), ("Cache-Control", "public")]
        )

    client = app.test_client()
    reply = client.get("/said")
    assert reply.headers.getlist("Vary") == ["Accept, Accept-Language, Cookie"]
    assert reply.headers.getlist("Cache-Control") == ["no-store"]
    assert len(cookies(reply)) == 1


# -- permanent ---------------------------------------------------------------------------------------------------------


@both
def test_permanent_is_a_cookie_that_lasts(kind: str) -> None:
    app = site(kind)

    @view(app, "/permanent/<int:on>")
    def permanent(on: int) -> Any:
        flask.session["kept"] = 1
        before = flask.session.permanent
        flask.session.permanent = bool(on)
        return [before, flask.session.permanent, dict(flask.session)]

    client = app.test_client()
    reply = client.get("/permanent/1")
    assert reply.json == [False, True, {"kept": 1}]  # no book-keeping key
    assert max_age(cookies(reply)[0]) == 31 * DAY
    again = client.get("/permanent/1")
    assert again.json == [True, True, {"kept": 1}]
    assert cookies(again) == []
    off = client.get("/permanent/0")
    assert off.json == [True, False, {"kept": 1}]
    assert max_age(cookies(off)[0]) is None
    assert told(app, "rotate") == ["rotate"]


@both
def test_permanent_alone_creates_nothing(kind: str) -> None:
    app = site(kind, config={"PERMANENT_SESSION_LIFETIME": 600}, idle_timeout=60)

    @app.before_request
    def always() -> None:
        flask.session.permanent = True

    client = app.test_client()
    reply = client.get("/plain")
    assert cookies(reply) == []
    assert app.faults.count("create") == 0
    assert max_age(cookies(client.get("/set/a/1"))[0]) == 7 * DAY
    app.clock.advance(500)  # longer than any session's idle timeout, shorter than the permanent one's
    assert client.get("/").json == {"a": "1"}
    app.clock.advance(700)
    assert client.get("/").json == {}


@both
def test_a_session_that_is_not_permanent_keeps_the_idle_timeout(kind: str) -> None:
    app = site(kind, config={"PERMANENT_SESSION_LIFETIME": 600}, idle_timeout=60)
    client = app.test_client()
    assert max_age(cookies(client.get("/set/a/1"))[0]) is None
    app.clock.advance(61)
    assert client.get("/").json == {}


@both
@pytest.mark.parametrize("refresh", [True, False])
def test_refreshing_with_each_request_is_a_choice(kind: str, refresh: bool) -> None:
    app = site(kind, config={"SESSION_REFRESH_EACH_REQUEST": refresh, "PERMANENT_SESSION_LIFETIME": 600})

    @view(app, "/begin")
    def begin() -> Any:
        flask.session.update(a=1, b=2)
        flask.session.permanent = True

    client = app.test_client()
    client.get("/begin")
    app.clock.advance(400)
    assert client.get("/").json == {"a": 1, "b": 2}
    app.clock.advance(400)
    assert client.get("/").json == ({"a": 1, "b": 2} if refresh else {})


@both
def test_without_refresh_a_change_still_slides(kind: str) -> None:
    app = site(kind, config={"SESSION_REFRESH_EACH_REQUEST": False, "PERMANENT_SESSION_LIFETIME": 600})

    @view(app, "/begin")
    def begin() -> Any:
        flask.session["n"] = flask.session.get("n", 0) + 1
        flask.session.permanent = True

    client = app.test_client()
    for _ in range(3):
        client.get("/begin")
        app.clock.advance(400)
    assert client.get("/").json == {"n": 3}


# -- new, modified, accessed -------------------------------------------------------------------------------------------


@both
def test_new_and_modified_are_computed_and_assignable(kind: str) -> None:
    app = site(kind)

    @view(app, "/look")
    def look() -> Any:
        before = [flask.session.new, flask.session.modified]
        flask.session["n"] = flask.session.get("n", 0) + 1
        after = flask.session.modified
        flask.session.new = True
        return [*before, after, flask.session.new]

    client = app.test_client()
    assert client.get("/look").json == [True, False, True, True]
    assert client.get("/look").json == [False, False, True, True]


@both
def test_saying_modified_touches_and_never_rewrites(kind: str) -> None:
    app = site(kind, idle_timeout=100, touch_interval=50)

    @view(app, "/say")
    def say() -> Any:
        flask.session.modified = True
        return flask.session.modified

    @view(app, "/take-back")
    def take_back() -> Any:
        flask.session.modified = True
        flask.session.modified = False
        return flask.session.modified

    client = app.test_client()
    client.get("/set/a/1")
    app.faults.forget()
    assert client.get("/take-back").json is False
    assert app.faults.count("touch") == 0
    app.clock.advance(5)  # far from due
    reply = client.get("/say")
    assert reply.json is True
    assert (app.faults.count("touch"), app.faults.count("save")) == ((1, 0) if kind == "store" else (0, 0))
    assert len(cookies(reply)) == (0 if kind == "store" else 1)
    app.clock.advance(96)
    assert client.get("/").json == {"a": "1"}


def test_saying_modified_of_a_new_session_creates_nothing() -> None:
    app = site("store")

    @view(app, "/say")
    def say() -> Any:
        flask.session.modified = True

    assert cookies(app.test_client().get("/say")) == []
    assert app.faults.count("create") == 0


def test_what_a_request_did_is_known_after_it() -> None:
    app = site("store")
    with app.test_client() as client:
        client.get("/plain")
        assert not current_session().accessed
        client.get("/set/a/1")
        assert (current_session().accessed, current_session().modified) == (True, True)
        client.get("/")
        assert (current_session().accessed, current_session().modified) == (True, False)


# -- flashing, transactions, values ------------------------------------------------------------------------------------


@both
def test_flashed_messages_wait_for_the_next_request(kind: str) -> None:
    app = site(kind)

    @view(app, "/flash/<text>")
    def flash(text: str) -> Any:
        flask.flash(text)
        flask.flash(text, "warning")

    @view(app, "/flashed")
    def flashed() -> Any:
        return flask.get_flashed_messages(with_categories=True, category_filter=["warning"])

    client = app.test_client()
    client.get("/flash/one")
    client.get("/flash/two")
    assert client.get("/flashed").json == [["warning", "one"], ["warning", "two"]]
    assert client.get("/flashed").json == []
    assert client.get_cookie("session") is None  # nothing is left of it


@both
def test_the_test_clients_transactions(kind: str) -> None:
    app = site(kind)
    client = app.test_client()
    with client.session_transaction() as transaction:
        transaction["a"] = {"b": [1]}
        transaction.login(user_id="ada")
    assert client.get("/").json == {"a": {"b": [1]}}
    with client.session_transaction() as transaction:
        assert transaction.user_id == "ada"
        transaction["a"]["b"].append(2)
    assert client.get("/").json == {"a": {"b": [1, 2]}}
    with client.session_transaction() as transaction:
        transaction.destroy()
    assert client.get_cookie("session") is None
    assert told(app, "login", "create", "destroy") == ["login", "create", "destroy"]


def test_a_transaction_leaves_other_contexts_alone() -> None:
    app = site("store")
    with app.test_request_context():
        flask.session["mine"] = 1
        client = app.test_client()
        with client.session_transaction() as transaction:
            transaction["theirs"] = 1
        assert dict(flask.session) == {"mine": 1}
        flask.session["still"] = "writable"


@both
def test_values_come_back_as_themselves(kind: str) -> None:
    app = site(kind)
    client = app.test_client()
    values: dict[str, Any] = {"t": (1, (2, 3)), "b": b"\xff", "s": {1, 2}, "tag": {" t": "no tuple"}, "$x": {"$y": 1}}
    with client.session_transaction() as transaction:
        transaction.update(values)
    with client.session_transaction() as transaction:
        assert dict(transaction) == values
        assert type(transaction["t"][1]) is tuple
    with app.test_request_context(), pytest.raises(SessionSerializationError, match=r"session\['bad'\]"):
        flask.session["bad"] = object()


@both
def test_a_reader_after_the_request_sees_what_was_there(kind: str) -> None:
    app = site(kind)
    with app.test_client() as client:
        client.get("/set/a/1")
        client.get("/plain")  # nobody looked while it lasted
        assert dict(flask.session) == {"a": "1"}
        with pytest.raises(SessionClosedError, match="request is over"):
            flask.session["b"] = 2
        assert client.get("/").json == {"a": "1"}


# -- nowhere to keep it ------------------------------------------------------------------------------------------------


def test_a_null_session_reads_empty_and_refuses_writes() -> None:
    app: Any = flask.Flask("nowhere")
    SessionMW(app)
    with app.test_request_context():
        held: Any = flask.session._get_current_object()  # type: ignore[attr-defined]
        assert type(held) is not CoreSession
        assert current_session() is held
        assert (held.get("a"), len(held), dict(held), held.permanent, held.new) == (None, 0, {}, False, True)
        assert isinstance(held, NullSession)
        assert (held.user_id, held.online(), held.session_id, held.modified) == (None, False, None, False)
        writes: list[Any] = [
            lambda: held.__setitem__("a", 1),
            lambda: held.pop("a"),
            lambda: held.setdefault("a", 1),
            lambda: held.update(a=1),
            lambda: held.clear(),
            lambda: held.login(user_id="ada"),
            lambda: held.regenerate(),
            lambda: held.attempt(),
            lambda: held.put("a", 1),
            lambda: setattr(held, "permanent", True),
            lambda: setattr(held, "permanent", False),
            lambda: held.start(),
            lambda: held.start("a-token"),
            lambda: held.commit(),
            lambda: asyncio.run(held.acommit()),
        ]
        for write in writes:
            with pytest.raises(RuntimeError, match="session is unavailable because no secret key was set") as refused:
                write()
            assert '"SESSION_MW"] = {"store"' in str(refused.value)
        assert [status for status in SessionStatus if held.is_status(status)] == [SessionStatus.DISABLED]
    with pytest.raises(RuntimeError, match="did not open a session"), app.test_client().session_transaction():
        raise AssertionError("there is no session to open")
    app.add_url_rule("/", "index", lambda: repr(flask.session.get("a")))
    assert app.test_client().get("/").text == "None"
    assert app.session_interface.make_null_session(app).get("a") is None
