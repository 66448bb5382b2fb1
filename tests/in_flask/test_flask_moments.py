"""The moments of a Flask request: when a session is committed, what errors do, and when it is over."""

from __future__ import annotations

import logging
import threading
from typing import Any

import flask
import flask.views
import pytest
from flask_site import KEY, both, cookies, site, told

from session_mw import (
    ConfigurationError,
    SessionClosedError,
    SessionSerializationError,
    SessionStateError,
    SessionTooLargeError,
    StoreError,
    current_session,
)
from session_mw.access import login_required, requires
from session_mw.flask import SessionMW, session
from session_mw.wsgi import SessionMiddleware


def route(app: Any, rule: str) -> Any:
    """Register what follows for *rule*."""
    return lambda view: app.add_url_rule(rule, rule, view) or view


def logging_in(app: Any) -> None:
    @route(app, "/in")
    def log_in() -> str:
        session.login(user_id="ada")
        return ""

    @route(app, "/who")
    def who() -> str:
        return f"{session.user_id} {session.online()}"


# -- errors ------------------------------------------------------------------------------------------------------------


@both
def test_an_error_never_undoes_a_logout(kind: str) -> None:
    app = site(kind)
    logging_in(app)

    @route(app, "/fail")
    def fail() -> str:
        session["half"] = "done"
        session.logout()
        raise ZeroDivisionError

    client = app.test_client()
    client.get("/in")
    assert client.get("/who").text == "ada True"
    assert client.get("/fail").status_code == 500
    assert client.get("/who").text == "None False"
    assert client.get("/").json == {}  # the view failed half-way


def test_an_error_that_is_let_through_keeps_endings_alone() -> None:
    app = site("store", config={"PROPAGATE_EXCEPTIONS": True})
    logging_in(app)

    @route(app, "/fail")
    def fail() -> str:
        session["half"] = "done"
        session.logout()
        raise ZeroDivisionError

    client = app.test_client()
    client.get("/in")
    with pytest.raises(ZeroDivisionError):
        client.get("/fail")
    assert client.get("/who").text == "None False"
    assert client.get("/").json == {}


@both
def test_a_handled_error_commits_and_an_unhandled_one_drops_what_was_changed(kind: str) -> None:
    app = site(kind)

    @route(app, "/fail/<how>")
    def fail(how: str) -> str:
        session["kept"] = how
        session.put("queued", how)
        if how == "abort":
            flask.abort(404)
        raise (KeyError if how == "handled" else ZeroDivisionError)

    @app.errorhandler(KeyError)
    def handle(error: KeyError) -> tuple[str, int]:
        flask.session["handler"] = "wrote"
        return "handled", 400

    for how, found in {
        "abort": {"kept": "abort", "queued": "abort"},
        "handled": {"kept": "handled", "handler": "wrote", "queued": "handled"},
        "unhandled": {},
    }.items():
        client = app.test_client()
        client.get(f"/fail/{how}")
        assert client.get("/").json == found


@both
@pytest.mark.parametrize("page", [False, True], ids=["Flask's page", "a page of the app's own"])
@pytest.mark.parametrize("let_through", [False, True], ids=["answered", "let through"])
def test_nobody_is_logged_in_by_a_view_that_failed(kind: str, page: bool, let_through: bool) -> None:
    app = site(kind, config={"PROPAGATE_EXCEPTIONS": let_through})
    logging_in(app)

    @route(app, "/fail")
    def fail() -> str:
        session["a"] = "changed"
        session["b"] = [1]
        session.login(user_id="eve")
        session.permanent = True
        raise ZeroDivisionError

    if page:

        @app.errorhandler(500)
        def sorry(error: Any) -> tuple[str, int]:
            flask.session["page"] = f"{session.user_id} {session.get('a')}"
            return "sorry", 500

    def failing(client: Any) -> Any:
        if not let_through:
            return client.get("/fail")
        with pytest.raises(ZeroDivisionError):
            client.get("/fail")
        return None

    seen = page and not let_through
    stranger, ada = app.test_client(), app.test_client()
    reply = failing(stranger)
    assert stranger.get("/who").text == "None False"
    assert stranger.get("/").json == ({"page": "None None"} if seen else {})
    if reply is not None:
        assert len(cookies(reply)) == seen
        assert reply.headers["Vary"] == "Cookie"
    ada.get("/in")
    ada.get("/set/a/1")
    failing(ada)
    assert ada.get("/who").text == "ada True"
    assert ada.get("/").json == {"a": "1", **({"page": "ada 1"} if seen else {})}


@both
@pytest.mark.parametrize(
    "ending", [lambda: session.destroy(), lambda: session.clear(), lambda: session.logout(clear_data=True)]
)
@pytest.mark.parametrize("let_through", [False, True], ids=["answered", "let through"])
def test_what_a_view_ended_before_it_failed_is_over(kind: str, ending: Any, let_through: bool) -> None:
    app = site(kind, config={"PROPAGATE_EXCEPTIONS": let_through and kind == "store"})
    logging_in(app)

    @route(app, "/fail")
    def fail() -> str:
        ending()
        session["late"] = 1
        raise ZeroDivisionError

    client = app.test_client()
    client.get("/in")
    client.get("/set/a/1")
    if app.config["PROPAGATE_EXCEPTIONS"]:
        with pytest.raises(ZeroDivisionError):
            client.get("/fail")
    else:
        assert client.get("/fail").status_code == 500
    assert client.get("/who").text == "None False"
    assert client.get("/").json == {}


@both
@pytest.mark.parametrize("how", ["too large", "bad value"])
def test_what_cannot_be_kept_is_an_error_page_without_it(kind: str, how: str, caplog: pytest.LogCaptureFixture) -> None:
    app = site(kind)
    logging_in(app)

    @route(app, "/fail")
    def fail() -> str:
        session["list"] = []
        session["list"].append(object() if how == "bad value" else "x" * 5_000_000)
        session.logout()
        return ""

    client = app.test_client()
    client.get("/in")
    assert client.get("/fail").status_code == 500
    assert client.get("/").json == {}
    assert client.get("/who").text == "None False"
    assert "while handling an error" not in caplog.text  # Flask's own words for a page that could not be finished
    app.testing = True
    error = SessionSerializationError if how == "bad value" else SessionTooLargeError
    with pytest.raises(error):
        client.get("/fail")


def test_a_response_that_is_thrown_away_takes_no_cookie_with_it() -> None:
    """Flask makes another one; the login of the first must reach the browser with it."""
    app = site("store")
    logging_in(app)
    fails = [True]

    def finished(sender: Any, **_: Any) -> None:
        if fails:
            raise ZeroDivisionError

    @app.errorhandler(500)
    def page(error: Any) -> tuple[str, int]:
        flask.session["page"] = "seen"
        return "sorry", 500

    with flask.request_finished.connected_to(finished, app):
        client = app.test_client()
        reply = client.get("/in")
        assert (reply.status_code, reply.text) == (500, "sorry")
        assert len(cookies(reply)) == 1
        fails.clear()
        assert client.get("/who").text == "ada True"
        assert client.get("/").json == {"page": "seen"}


def test_nobody_had_looked_when_the_response_was_thrown_away() -> None:
    app = site("cookie")

    def finished(sender: Any, **_: Any) -> None:
        if flask.request.path == "/plain":
            raise ZeroDivisionError

    @app.errorhandler(500)
    def page(error: Any) -> tuple[str, int]:
        flask.session["page"] = "seen"
        return "sorry", 500

    with flask.request_finished.connected_to(finished, app):
        client = app.test_client()
        client.get("/plain")
        assert client.get("/").json == {"page": "seen"}


@both
def test_saving_twice_says_everything_once(kind: str) -> None:
    app = site(kind)

    @route(app, "/twice")
    def twice() -> Any:
        response = flask.Response("", headers=[("Set-Cookie", "mine=1"), ("Vary", "Accept")])
        held: Any = flask.session._get_current_object()  # type: ignore[attr-defined]
        held["a"] = 1
        app.session_interface.save_session(app, held, response)
        app.session_interface.save_session(app, held, response)
        return response

    client = app.test_client()
    reply = client.get("/twice")
    assert [cookie.partition("=")[0] for cookie in cookies(reply)] == ["mine", "session"]
    assert reply.headers.getlist("Vary") == ["Accept, Cookie"]
    assert reply.headers.getlist("Cache-Control") == ["no-store"]
    assert client.get("/").json == {"a": 1}


# -- a store that fails ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["load", "create", "save"])
def test_a_store_that_fails_is_answered_with_503(method: str, caplog: pytest.LogCaptureFixture) -> None:
    app = site("store")

    @app.after_request
    def dress(response: Any) -> Any:
        if method in {call.method for call in app.faults.calls}:
            response.set_cookie("theirs", "1")
        return response

    client = app.test_client()
    if method != "create":
        client.get("/set/a/1")
    before = client.get_cookie("session")
    app.faults.forget()
    app.faults.fail(method, times=None)

    reply = client.get("/set/a/2")
    assert (reply.status_code, reply.headers["Retry-After"], reply.headers["Cache-Control"]) == (503, "5", "no-store")
    assert cookies(reply) == []
    assert "unavailable" in reply.text
    assert client.head("/set/a/2").status_code == 503
    assert client.get_cookie("session") == before
    assert client.get("/plain").status_code == 200
    assert "the session store failed" in caplog.text
    app.faults.heal()
    assert client.get("/").json == ({} if method == "create" else {"a": "1"})


def test_an_app_may_answer_a_failing_store_itself() -> None:
    app = site("store")

    @app.errorhandler(StoreError)
    def sorry(error: StoreError) -> tuple[str, int]:
        return "we will be back", 500

    client = app.test_client()
    client.get("/set/a/1")
    app.faults.fail("load", times=None)
    reply = client.get("/")
    assert (reply.status_code, reply.text) == (500, "we will be back")
    assert cookies(reply) == []


def test_the_answer_to_a_failing_store_can_be_set() -> None:
    app = site("store", store_error_response=lambda environ: (599, [("X-Path", environ["PATH_INFO"])], b"no"))
    app.faults.fail("create", times=None)
    reply = app.test_client().get("/set/a/1")
    assert (reply.status_code, reply.headers["X-Path"], reply.text) == (599, "/set/a/1", "no")


def test_a_failing_store_is_raised_where_flask_lets_errors_through() -> None:
    app = site("store", config={"TESTING": True})
    client = app.test_client()
    client.get("/set/a/1")
    app.faults.fail("load", times=None)
    with pytest.raises(StoreError):
        client.get("/")


def test_a_stream_gives_way_to_the_answer() -> None:
    app = site("store")
    closed: list[str] = []

    class Stream:
        def __iter__(self) -> Any:
            yield "secret"

        def close(self) -> None:
            closed.append("closed")

    @route(app, "/stream")
    def stream() -> Any:
        flask.session["a"] = 1
        return flask.Response(Stream(), direct_passthrough=True)

    app.faults.fail("create", times=None)
    reply = app.test_client().get("/stream")
    assert (reply.status_code, "secret" in reply.text, closed) == (503, False, ["closed"])


def test_a_store_that_does_not_open_fails_whoever_looks() -> None:
    app = site("store")
    app.faults.fail("initialize", times=1)
    client = app.test_client()
    assert client.get("/plain").status_code == 200
    assert client.get("/set/a/1").status_code == 200  # it opens now
    other = site("store")
    other.faults.fail("initialize", times=None)
    assert other.test_client().get("/set/a/1").status_code == 503


def test_an_ending_is_tried_even_when_the_store_failed(caplog: pytest.LogCaptureFixture) -> None:
    app = site("store")
    logging_in(app)

    @route(app, "/out")
    def out() -> str:
        session.logout()
        session["a"] = 1
        return ""

    client = app.test_client()
    client.get("/in")
    app.faults.fail("rotate", times=1)
    assert client.get("/out").status_code == 503
    assert client.get("/who").text == "None False"  # the second try, in place, went through
    client.get("/in")
    for method in ("rotate", "save", "delete"):
        app.faults.fail(method, times=None)
    assert client.get("/out").status_code == 503
    assert "could not be carried out" in caplog.text
    app.faults.heal()
    assert client.get("/who").text == "ada True"


# -- streams, late writes, the end -------------------------------------------------------------------------------------


@both
def test_a_stream_reads_its_session(kind: str) -> None:
    app = site(kind)

    @route(app, "/stream")
    def stream() -> Any:
        def chunks() -> Any:
            yield f"{current_session().get('a')} "
            yield str(flask.session.get("a"))

        return flask.Response(flask.stream_with_context(chunks()))

    client = app.test_client()
    client.get("/set/a/1")
    assert client.get("/stream").text == "1 1"
    assert client.get("/").json == {"a": "1"}


def test_a_late_write_is_kept_in_a_store_and_refused_in_a_cookie() -> None:
    for kind in ("store", "cookie"):
        app = site(kind)
        refused: list[BaseException] = []

        @route(app, "/stream")
        def stream(refused: list[BaseException] = refused) -> Any:
            flask.session["begun"] = 1

            def chunks() -> Any:
                yield "a"
                for write in (lambda: flask.session.__setitem__("late", 1), lambda: session.login(user_id="ada")):
                    try:
                        write()
                    except SessionClosedError as error:
                        refused.append(error)
                yield "b"

            return flask.Response(flask.stream_with_context(chunks()))

        client = app.test_client()
        assert client.get("/stream").text == "ab"
        assert client.get("/").json == ({"begun": 1, "late": 1} if kind == "store" else {"begun": 1})
        assert len(refused) == (1 if kind == "store" else 2)


@pytest.mark.parametrize("read", [True, False])
def test_a_stream_ends_once_when_it_is_closed(read: bool) -> None:
    app = site("store")
    kept: list[Any] = []

    @route(app, "/stream")
    def stream() -> Any:
        kept.append(current_session())
        flask.session["a"] = 1
        return flask.Response(flask.stream_with_context(iter(["a", "b"])))

    reply = app.test_client().get("/stream")
    assert told(app) == ["create"]
    if read:
        assert reply.text == "ab"
    reply.close()
    assert told(app) == ["close"]
    with pytest.raises(SessionClosedError, match="request is over"):
        kept[0]["b"] = 2


def test_a_file_is_no_stream() -> None:
    app = site("store")

    @route(app, "/file")
    def file() -> Any:
        flask.session["a"] = 1
        return flask.send_file(__file__)

    reply = app.test_client().get("/file")
    assert told(app) == ["create", "close"]
    reply.close()


def test_a_bad_late_value_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    app = site("store")

    @app.teardown_request
    def later(error: BaseException | None) -> None:
        flask.session["list"] = []
        flask.session["list"].append(object())

    assert app.test_client().get("/set/a/1").text == "1"
    assert "could not be written" in caplog.text


def test_a_late_write_that_fails_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    app = site("store")

    @app.teardown_request
    def later(error: BaseException | None) -> None:
        if flask.request.path == "/":
            flask.session["late"] = 1

    client = app.test_client()
    client.get("/set/a/1")
    app.faults.fail("save", times=None)
    assert client.get("/").json == {"a": "1"}
    assert "could not be written" in caplog.text
    app.faults.heal()
    assert client.get("/").json == {"a": "1"}
    assert client.get("/").json == {"a": "1", "late": 1}


def test_a_session_is_over_when_its_context_is() -> None:
    app = site("store")
    kept: list[Any] = []

    @route(app, "/keep")
    def keep() -> str:
        kept.append(flask.session._get_current_object())  # type: ignore[attr-defined]
        flask.session["a"] = 1
        return ""

    @route(app, "/unseen")
    def unseen() -> str:
        kept.append(current_session())
        return ""

    client = app.test_client()
    client.get("/keep")
    client.get("/unseen")
    touched, untouched = kept
    assert touched["a"] == 1
    for write in (lambda: touched.update(b=2), lambda: untouched.update(b=2), lambda: untouched["a"]):
        with pytest.raises(SessionClosedError, match="request is over"):
            write()
    assert told(app) == ["create", "close", *[]][:2]
    with pytest.raises(SessionStateError):
        current_session()


def test_a_copied_context_does_not_end_the_request() -> None:
    app = site("store")

    @route(app, "/copy")
    def copy() -> str:
        @flask.copy_current_request_context
        def work() -> None:
            seen.append(current_session().get("a"))

        flask.session["a"] = 1
        seen: list[Any] = []
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
        flask.session["b"] = seen[0]
        return ""

    client = app.test_client()
    assert client.get("/copy").status_code == 200
    assert client.get("/").json == {"a": 1, "b": 1}


def test_a_request_that_is_over_saves_nothing() -> None:
    app = site("store")
    response = flask.Response()
    with app.test_client() as client:
        client.get("/set/a/1")
        app.faults.forget()
        app.session_interface.save_session(app, current_session(), response)
    assert (app.faults.calls, response.headers.getlist("Vary")) == ([], [])


def test_a_context_without_a_response_keeps_nothing() -> None:
    app = site("store")
    with app.test_request_context():
        flask.session["a"] = 1
    assert app.faults.count("create") == 0


# -- where views live --------------------------------------------------------------------------------------------------


@both
def test_async_views_blueprints_hooks_and_factories(kind: str) -> None:
    sessions = SessionMW()

    def create_app() -> Any:
        app = flask.Flask("made")
        if kind == "cookie":
            app.secret_key = KEY
        else:
            app.config["SESSION_MW"] = {"store": "memory:"}
        sessions.init_app(app)
        pages = flask.Blueprint("pages", __name__, url_prefix="/pages")

        @pages.before_request
        def before() -> None:
            flask.session["before"] = flask.session.get("before", 0) + 1

        @pages.get("/async")
        async def page() -> dict[str, Any]:
            current_session()["async"] = True
            session.login(user_id="ada")
            return {}

        @pages.after_request
        def after(response: Any) -> Any:
            flask.session["after"] = flask.session["before"]
            return response

        @pages.get("/items")
        async def items() -> dict[str, Any]:
            return {**flask.session, "user": session.user_id}

        app.register_blueprint(pages)
        return app

    first, second = create_app(), create_app()
    client = first.test_client()
    client.get("/pages/async")
    assert client.get("/pages/items").json == {"before": 2, "async": True, "after": 1, "user": "ada"}
    assert second.test_client().get("/pages/items").json == {"before": 1, "user": None}


class Mine(flask.Response):
    """Some app's own response."""


@both
def test_the_guard_answers_with_flasks_response(kind: str) -> None:
    app = site(kind)
    app.response_class = Mine
    logging_in(app)
    seen: list[Any] = []

    @app.after_request
    def after(response: Any) -> Any:
        seen.append(type(response))
        return response

    @route(app, "/view")
    @login_required(redirect_to="/in")
    def guarded() -> str:
        return "in"

    @route(app, "/async")
    @login_required
    async def aguarded() -> str:
        return "in"

    @route(app, "/check")
    @requires(lambda session: session.get("role") == "admin")
    def checked() -> str:
        return "in"

    @login_required
    class Page(flask.views.MethodView):
        def get(self) -> str:
            return "in"

    app.add_url_rule("/class", view_func=Page.as_view("class"))
    client = app.test_client()
    browser = {"Accept": "text/html", "Sec-Fetch-Mode": "navigate"}
    reply = client.get("/view?a=1", headers=browser)
    assert (reply.status_code, reply.headers["Location"]) == (303, "/in?next=/view%3Fa%3D1")
    for path in ("/view", "/async", "/class"):
        reply = client.get(path, headers={"Accept": "application/json"})
        assert (reply.status_code, reply.mimetype) == (401, "application/problem+json")
        assert (reply.headers["Cache-Control"], reply.headers["Vary"].lower().count("cookie")) == ("no-store", 1)
    assert set(seen) == {Mine}
    client.get("/in")
    assert [client.get(path).text for path in ("/view", "/async", "/class")] == ["in"] * 3
    assert client.get("/check").status_code == 403


def test_the_guard_lets_nobody_into_a_null_session() -> None:
    app: Any = flask.Flask("nowhere")
    SessionMW(app)
    app.add_url_rule("/", "index", login_required(lambda: "in"))
    assert app.test_client().get("/").status_code == 401


# -- beside a middleware -----------------------------------------------------------------------------------------------


def test_a_middleware_with_the_same_cookie_is_refused() -> None:
    app = site("store", config={"TESTING": True})
    app.wsgi_app = SessionMiddleware(app.wsgi_app, store="memory:", cookie_name="session")
    with pytest.raises(ConfigurationError, match="two SessionMiddlewares use the cookie 'session'"):
        app.test_client().get("/plain")
    app.testing = False
    assert app.test_client().get("/plain").status_code == 500


def test_the_inner_of_two_is_current() -> None:
    app = site("store")

    def inside(environ: Any, start_response: Any) -> list[bytes]:
        start_response("200 OK", [])
        current_session()["whose"] = "innermost"
        return [b"inside"]

    innermost = SessionMiddleware(inside, store="memory:", cookie_name="innermost")

    @route(app, "/whose")
    def whose() -> Any:
        before = current_session()
        before["whose"] = "flask"
        assert before == flask.session
        reply = flask.Response.from_app(innermost, flask.request.environ.copy() | {"session_mw.session": before})
        assert reply.status_code == 200
        assert current_session() is before
        return reply

    app.wsgi_app = SessionMiddleware(app.wsgi_app, store="memory:", cookie_name="outer")
    reply = app.test_client().get("/whose")
    assert sorted(cookie.partition("=")[0] for cookie in cookies(reply)) == ["innermost", "session"]


def test_logs_show_no_secret(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    app = site("cookie")
    client = app.test_client()
    client.get("/set/a/hunter2")
    cookie: Any = client.get_cookie("session")
    client.set_cookie("session", cookie.value[:-4] + "AAAA")
    assert client.get("/").json == {}
    assert "refused" in caplog.text
    for secret in ("hunter2", KEY, cookie.value[:20]):
        assert secret not in caplog.text
