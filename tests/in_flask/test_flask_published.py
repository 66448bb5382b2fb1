"""What Flask 3.1.3 tests of its own sessions, told again with ours in their place; each test bears Flask's name for it.

Flask's are in its ``tests/``: ``test_basic``, ``test_session_interface``, ``test_testing``, ``test_reqctx``,
``test_helpers``, ``test_templating``, ``test_converters`` and ``test_signals``. Those that cannot hold are in
``DIFFERS`` with the reason; ``docs/frameworks/flask.md`` lists them, and here each is told as it is with us.
"""

from __future__ import annotations

import datetime as dt
import uuid
from typing import Any

import flask
import pytest
from conftest import ROOT
from flask.globals import request_ctx
from markupsafe import Markup
from werkzeug.routing import BaseConverter

from session_mw.flask import SessionInterface

DIFFERS = {
    "test_session_using_samesite_attribute",
    "test_session_expiration",
    "test_session_cookie_setting",
    "test_session_refresh_vary",
}


@pytest.fixture
def app() -> Any:
    app = flask.Flask("published")
    app.config.update(TESTING=True, SECRET_KEY="test key")  # eight bytes: testing takes any
    app.session_interface = SessionInterface()
    return app


@pytest.fixture
def client(app: Any) -> Any:
    return app.test_client()


def on(app: Any, rule: str, view: Any, **options: Any) -> None:
    app.add_url_rule(rule, rule, view, **options)


def write(key: str = "testing", value: Any = 42) -> str:
    flask.session[key] = value
    return "written"


# -- test_basic --------------------------------------------------------------------------------------------------------


def test_session_accessed(app: Any, client: Any) -> None:
    on(app, "/write", write)
    on(app, "/read", lambda: str(flask.session.get("testing")))
    on(app, "/nothing", lambda: "")
    for path, accessed, modified in [
        ("/nothing", False, False),
        ("/write", True, True),
        ("/read", True, False),
        ("/nothing", False, False),
    ]:
        with client:
            reply = client.get(path)
            held: Any = request_ctx._session  # type: ignore[attr-defined]
            assert ("cookie" in reply.vary, held.accessed, held.modified) == (accessed, accessed, modified), path


@pytest.mark.parametrize("root", ["/foo", "/bar"])
def test_session_path_and_application_root(app: Any, client: Any, root: str) -> None:
    app.config["APPLICATION_ROOT"] = root
    on(app, "/", write)
    assert f"Path={root};" in client.get("/", base_url=f"http://example.com:8080{root}").headers["Set-Cookie"]


def test_session_using_session_settings(app: Any, client: Any) -> None:
    app.config.update(
        SERVER_NAME="www.example.com:8080",
        APPLICATION_ROOT="/test",
        SESSION_COOKIE_DOMAIN=".example.com",
        SESSION_COOKIE_HTTPONLY=False,
        SESSION_COOKIE_SECURE=True,
        SESSION_COOKIE_PARTITIONED=True,
        SESSION_COOKIE_SAMESITE="Lax",
        SESSION_COOKIE_PATH="/",
    )
    on(app, "/", write)
    on(app, "/clear", lambda: str(flask.session.pop("testing", None)))
    for path in ("/", "/clear"):
        name, *attributes = (
            client.get(path, base_url="http://www.example.com:8080/test/").headers["Set-Cookie"].split("; ")
        )
        assert (name == "session=") is (path == "/clear")
        assert {"Domain=example.com", "Path=/", "Secure", "SameSite=Lax", "Partitioned"} <= set(attributes)
        assert "HttpOnly" not in attributes


def test_session_using_samesite_attribute(app: Any, client: Any) -> None:
    """Differs: None means Lax."""
    on(app, "/", write)
    app.config["SESSION_COOKIE_SAMESITE"] = "invalid"
    with pytest.raises(ValueError, match="same_site"):
        client.get("/")
    for given, sent in ((None, "Lax"), ("Strict", "Strict"), ("Lax", "Lax")):
        app.config["SESSION_COOKIE_SAMESITE"] = given
        assert f"SameSite={sent}" in app.test_client().get("/").headers["Set-Cookie"]


def test_missing_session(app: Any) -> None:
    app.secret_key = None
    with app.test_request_context():
        assert flask.session.get("missing") is None
        for refused in (lambda: write(), lambda: flask.session.pop("foo")):
            with pytest.raises(RuntimeError, match="session is unavailable"):
                refused()


def test_session_secret_key_fallbacks(app: Any, client: Any) -> None:
    on(app, "/", lambda: write("a", 1), methods=["POST"])
    on(app, "/read", lambda: dict(flask.session))
    app.secret_key, app.config["SECRET_KEY_FALLBACKS"] = "0 key", ["-1 key", "-2 key"]
    client.post("/")
    assert client.get("/read").json == {"a": 1}
    app.secret_key = "? key"
    assert client.get("/read").json == {}
    app.secret_key, app.config["SECRET_KEY_FALLBACKS"] = "+1 key", ["0 key", "-1 key"]
    assert client.get("/read").json == {"a": 1}


def test_session_expiration(app: Any, client: Any) -> None:
    """Differs: Max-Age says it, which browsers put before Expires; the server enforces it."""

    def begin(permanent: int) -> str:
        write()
        flask.session.permanent = bool(permanent)
        return ""

    on(app, "/<int:permanent>", begin)
    on(app, "/permanent", lambda: str(flask.session.permanent))
    assert f"Max-Age={31 * 86400}" in client.get("/1").headers["Set-Cookie"]
    assert client.get("/permanent").text == "True"
    assert "Max-Age" not in client.get("/0").headers["Set-Cookie"]


def test_session_stored_last(app: Any, client: Any) -> None:
    @app.after_request
    def modify(response: Any) -> Any:
        write()
        return response

    on(app, "/", lambda: repr(flask.session.get("testing")))
    assert [client.get("/").text, client.get("/").text] == ["None", "42"]


def test_session_special_types(app: Any, client: Any) -> None:
    values = {
        "t": (1, 2, 3),
        "b": b"\xff",
        "m": Markup("<html>"),
        "u": uuid.uuid4(),
        "d": dt.datetime.now(dt.UTC).replace(microsecond=0),
        "t_tag": {" t": "not-a-tuple"},
        "di_t_tag": {" t__": "not-a-tuple"},
        "di_tag": {" di": "not-a-dict"},
    }
    on(app, "/", lambda: flask.session.update(values) or "")
    on(app, "/again", lambda: str(len(flask.session)))
    with client:
        client.get("/")
        assert dict(flask.session) == values
        client.get("/again")
        assert dict(flask.session) == values
        assert [type(flask.session[key]) for key in "tbmud"] == [tuple, bytes, Markup, uuid.UUID, dt.datetime]


@pytest.mark.parametrize("permanent", [True, False])
@pytest.mark.parametrize("refresh", [True, False])
def test_session_cookie_setting(app: Any, client: Any, permanent: bool, refresh: bool) -> None:
    """Differs: a mere read sets the cookie when a touch of the deadline is due, and not each time."""
    app.config["SESSION_REFRESH_EACH_REQUEST"] = refresh

    def bump() -> str:
        flask.session["foo"] = flask.session.get("foo", 0) + 1
        flask.session.permanent = permanent
        return str(flask.session["foo"])

    on(app, "/bump", bump)
    on(app, "/read", lambda: str(flask.session.get("foo", 0)))
    assert [client.get("/bump").text for _ in range(3)] == ["1", "2", "3"]
    reply = client.get("/read")
    assert (reply.text, "Set-Cookie" in reply.headers) == ("3", False)


@pytest.mark.parametrize("look", ["set", "get", "getitem", "setdefault", "clear"])
def test_session_vary_cookie(app: Any, client: Any, look: str) -> None:
    looks: dict[str, Any] = {
        "set": write,
        "get": lambda: str(flask.session.get("testing")),
        "getitem": lambda: str(flask.session["testing"]),
        "setdefault": lambda: str(flask.session.setdefault("testing", 1)),
        "clear": lambda: flask.session.clear() or "",
    }
    on(app, "/set", write)
    if look != "set":
        on(app, f"/{look}", looks[look])
    on(app, "/no", lambda: "")

    def varied(*said: str) -> Any:
        write()
        response = flask.Response()
        response.vary.update(said)
        return response

    on(app, "/cookie", lambda: varied("Cookie"))
    on(app, "/others", lambda: varied("Accept-Encoding", "Accept-Language"))
    client.get("/set")
    assert client.get(f"/{look}").headers.get_all("Vary") == ["Cookie"]
    assert client.get("/cookie").headers.get_all("Vary") == ["Cookie"]
    assert client.get("/others").headers.get_all("Vary") == ["Accept-Encoding, Accept-Language, Cookie"]
    assert "Vary" not in client.get("/no").headers


def test_session_refresh_vary(app: Any, client: Any) -> None:
    """Differs: a view that ignores the session sets no cookie, so its response does not vary by one."""

    def log_in() -> str:
        flask.session.permanent = True
        return write("user_id", 1)

    on(app, "/login", log_in)
    on(app, "/ignored", lambda: "")
    assert client.get("/login").headers["Vary"] == "Cookie"
    reply = client.get("/ignored")
    assert ("Vary" in reply.headers, "Set-Cookie" in reply.headers) == (False, False)


def test_flashes(app: Any) -> None:
    with app.test_request_context():
        assert not flask.session.modified
        flask.flash("Zap")
        flask.session.modified = False
        flask.flash("Zip")
        assert flask.session.modified
        assert list(flask.get_flashed_messages()) == ["Zap", "Zip"]


def test_extended_flashing(app: Any) -> None:
    def flash() -> str:
        flask.flash("Hello World")
        flask.flash("Hello World", "error")
        flask.flash(Markup("<em>Testing</em>"), "warning")
        return ""

    wanted: dict[str, Any] = {}
    on(app, "/", flash)
    on(app, "/read", lambda: flask.render_template_string("{{ get_flashed_messages(**wanted)|join }}", wanted=wanted))

    def flashed(**options: Any) -> str:
        wanted.clear()
        wanted.update(options)
        client = app.test_client()
        client.get("/")
        text: str = client.get("/read").text
        return text

    assert flashed() == "Hello WorldHello World<em>Testing</em>"  # Markup is markup still
    assert flashed(category_filter=["message"]) == "Hello World"
    assert flashed(category_filter=["message", "warning"]) == "Hello World<em>Testing</em>"


# -- test_session_interface, test_reqctx, test_converters, test_templating, test_signals -------------------------------


def test_open_session_with_endpoint(app: Any, client: Any) -> None:
    seen: list[Any] = []

    class Matching(SessionInterface):
        def open_session(self, app: Any, request: Any) -> Any:
            request_ctx.match_request()
            seen.append(request.endpoint)
            return super().open_session(app, request)

    app.session_interface = Matching()
    on(app, "/", write)
    assert client.get("/").text == "written"
    assert seen == ["/"]


def test_session_error_pops_context() -> None:
    class Failing(SessionInterface):
        def open_session(self, app: Any, request: Any) -> Any:
            raise ZeroDivisionError

    class CustomFlask(flask.Flask):
        session_interface = Failing()

    app = CustomFlask("failing")
    on(app, "/", lambda: "never")
    assert app.test_client().get("/").status_code == 500
    assert not flask.has_request_context()
    assert not flask.has_app_context()


def test_session_dynamic_cookie_name(app: Any, client: Any) -> None:
    class ByPath(SessionInterface):
        def get_cookie_name(self, app: Any) -> str:
            return "dynamic" if flask.request.path.endswith("dynamic") else super().get_cookie_name(app)

    app.session_interface = ByPath()
    for suffix in ("", "_dynamic"):
        on(app, f"/set{suffix}", lambda: write("value", flask.request.form["value"]), methods=["POST"])
        on(app, f"/get{suffix}", lambda: str(flask.session.get("value")))
    client.post("/set", data={"value": "42"})
    client.post("/set_dynamic", data={"value": "616"})
    assert (client.get("/get").text, client.get("/get_dynamic").text) == ("42", "616")


def test_context_available(app: Any, client: Any) -> None:
    class Looking(BaseConverter):
        def to_python(self, value: str) -> str:
            assert flask.session is not None
            return value + str(len(flask.session))

    app.url_map.converters["looking"] = Looking
    on(app, "/<looking:name>", lambda name: name)
    assert client.get("/admin").text == "admin0"


def test_standard_context(app: Any, client: Any) -> None:
    on(app, "/", lambda: write("test", "aha") and flask.render_template_string("{{ session.test }}"))
    assert client.get("/").text == "aha"


def test_flash_signal(app: Any, client: Any) -> None:
    recorded: list[Any] = []
    on(app, "/", lambda: flask.flash("message", category="notice") or flask.redirect("/other"))
    with (
        flask.message_flashed.connected_to(lambda _, **said: recorded.append(said), app),
        client.session_transaction(),
    ):
        client.get("/")
    assert recorded == [{"message": "message", "category": "notice"}]


# -- test_testing, test_helpers ----------------------------------------------------------------------------------------


def test_redirect_session(app: Any, client: Any) -> None:
    on(app, "/redirect", lambda: write("redirect", True) and flask.redirect("/target"))
    on(app, "/target", lambda: write("target", True))
    with client:
        client.get("/redirect", follow_redirects=True)
        assert dict(flask.session) == {"redirect": True, "target": True}


def test_session_transactions(app: Any, client: Any) -> None:
    on(app, "/", lambda: str(flask.session["foo"]))
    with client:
        with client.session_transaction() as session:
            assert len(session) == 0
            session["foo"] = [42]
            assert len(session) == 1
        assert client.get("/").text == "[42]"
        with client.session_transaction() as session:
            assert dict(session) == {"foo": [42]}


def test_session_transactions_no_null_sessions(app: Any, client: Any) -> None:
    app.secret_key = None
    with pytest.raises(RuntimeError, match="Session backend did not open a session"), client.session_transaction():
        raise AssertionError("there is none")


def test_session_transactions_keep_context(app: Any, client: Any) -> None:
    with app.test_request_context():
        client.get("/")
        request = flask.request._get_current_object()  # type: ignore[attr-defined]
        with client.session_transaction():
            assert request is flask.request._get_current_object()  # type: ignore[attr-defined]


def test_session_transaction_needs_cookies(app: Any) -> None:
    client = app.test_client(use_cookies=False)
    with pytest.raises(TypeError, match="Cookies are disabled"), client.session_transaction():
        raise AssertionError("there are none")


@pytest.mark.parametrize("preserve", [True, False])
def test_stream_keeps_session_also_of_an_async_view(app: Any, preserve: bool) -> None:
    def stream() -> Any:
        write("test", "flask")

        @flask.stream_with_context
        def chunks() -> Any:
            yield flask.session["test"]

        return flask.Response(chunks())

    async def astream() -> Any:
        return stream()

    for number, view in enumerate((stream, astream)):
        on(app, f"/{number}", view)
    for number in range(2):
        client = app.test_client()
        if preserve:
            with client:
                client.get(f"/{number}").close()
            with client:
                assert client.get(f"/{number}").text == "flask"
        else:
            client.get(f"/{number}").close()
            assert client.get(f"/{number}").text == "flask"


def test_the_docs_list_what_differs() -> None:
    page = (ROOT / "docs" / "frameworks" / "flask.md").read_text(encoding="utf-8")
    for name in DIFFERS:
        assert f"`{name}`" in page
        assert "Differs:" in (globals()[name].__doc__ or "")
