"""Starlette: the arguments of its own middleware, sessions all over an app, users, and what is put together wrong."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import pytest
from asgi_driver import SECRET
from starlette.applications import Starlette
from starlette.authentication import requires as starlette_requires
from starlette.config import Config
from starlette.datastructures import Secret
from starlette.endpoints import HTTPEndpoint, WebSocketEndpoint
from starlette.middleware import Middleware
from starlette.middleware.authentication import AuthenticationMiddleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.middleware.sessions import SessionMiddleware as Original
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.testclient import TestClient
from starlette.websockets import WebSocket, WebSocketDisconnect

from session_mw import CookieManager, Session, asgi, current_session
from session_mw.access import AccessRefused, login_required
from session_mw.errors import ConfigurationError, SessionClosedError, SessionStateError
from session_mw.starlette import SessionBackend, SessionMiddleware, SessionUser, session_of
from session_mw.stores.memory import MemoryStore
from session_mw.testing import Clock, FaultyAsyncStore, FaultyStore

HTTPS, WSS = "https://testserver", "wss://testserver"


async def nothing(scope: Any, receive: Any, send: Any) -> None:
    raise AssertionError("nobody calls it")


def write(request: Request) -> Response:
    request.session.update(request.query_params)
    return JSONResponse(dict(request.session))


def login(request: Request) -> Response:
    session_of(request).login(user_id=request.query_params.get("user", "ada"))
    return PlainTextResponse("hello")


def logout(request: Request) -> Response:
    session_of(request).logout()
    return PlainTextResponse("bye")


def who(request: Request) -> Response:
    return PlainTextResponse(str(session_of(request).user_id))


ROUTES = [Route("/", write), Route("/login", login), Route("/logout", logout), Route("/who", who)]


def client(*routes: Any, base_url: str = HTTPS, more: Any = (), **settings: Any) -> TestClient:
    if not {"secret_key", "store"} & settings.keys():
        settings["secret_key"] = SECRET
    middleware = [Middleware(SessionMiddleware, **settings), *more]
    return TestClient(Starlette(routes=[*routes, *ROUTES], middleware=middleware), base_url=base_url)


def cookie_of(*args: Any, base_url: str = HTTPS, **settings: Any) -> tuple[str, list[str]]:
    """The Set-Cookie of a first write: name, and attributes."""
    app = Starlette(routes=ROUTES, middleware=[Middleware(SessionMiddleware, *args, **settings)])
    line = TestClient(app, base_url=base_url).get("/?a=1").headers["set-cookie"]
    pair, *attributes = line.split("; ")
    return pair.partition("=")[0], attributes


# -- Starlette's arguments -----------------------------------------------------------------------------------------


def test_the_defaults_are_starlettes() -> None:
    assert cookie_of(SECRET) == ("session", ["Max-Age=1209600", "Path=/", "Secure", "HttpOnly", "SameSite=Lax"])
    assert "Secure" not in cookie_of(SECRET, base_url="http://testserver")[1]  # as long as it is plain http


def test_every_argument_is_heard_in_starlettes_order() -> None:
    name, attributes = cookie_of(SECRET, "sid", 60, "/app", "strict", True, "example.test", True, base_url=HTTPS)
    assert name == "sid"
    assert attributes == ["Max-Age=60", "Path=/app", "Domain=example.test", "Secure", "HttpOnly", "SameSite=Strict",
                          "Partitioned"]  # fmt: skip
    assert "Secure" not in cookie_of(SECRET, https_only=False)[1]
    assert "Secure" in cookie_of(SECRET, https_only=True, base_url="http://localhost")[1]


@pytest.mark.parametrize("given", [{"same_site": "none"}, {"partitioned": True}, {"session_cookie": "__Host-sid"}])
def test_what_browsers_only_take_secure_is_secure(given: dict[str, Any]) -> None:
    assert "Secure" in cookie_of(SECRET, base_url="http://testserver", **given)[1]
    with pytest.raises(ConfigurationError, match=r"cookie_secure is https_only= here"):
        SessionMiddleware(nothing, SECRET, https_only=False, **given)


@pytest.mark.parametrize("max_age", [1, 3600, 1209600, 30_000_000])
def test_max_age_is_sent_as_given_and_kept_by_the_server(max_age: int) -> None:
    clock = Clock()
    browser = client(secret_key=SECRET, max_age=max_age, clock=clock)
    assert f"; Max-Age={max_age};" in browser.get("/?a=1").headers["set-cookie"]
    config = SessionMiddleware(nothing, SECRET, max_age=max_age).config
    assert (config.idle_timeout, config.absolute_timeout) == (max_age, max(604800, max_age))
    browser.cookies = {**dict(browser.cookies)}  # type: ignore[assignment] # as of a client that forgets nothing
    clock.advance(max_age - 1)
    assert browser.get("/").json() == {"a": "1"}
    clock.advance(2 * max_age)
    assert browser.get("/").json() == {}


@pytest.mark.parametrize("home", [{"secret_key": SECRET}, {"store": "memory:"}])
@pytest.mark.parametrize("max_age", [0, -1, -3600])
def test_max_age_of_nothing_lets_nothing_live(max_age: int, home: dict[str, Any]) -> None:
    browser = client(max_age=max_age, **home)
    line = browser.get("/?a=1").headers["set-cookie"]
    assert f"; Max-Age={max_age};" in line
    assert browser.get("/", headers={"cookie": line.partition(";")[0]}).json() == {}


@pytest.mark.parametrize("home", [{"secret_key": SECRET}, {"store": "memory:"}])
def test_no_max_age_ends_with_the_browser_and_after_two_weeks(home: dict[str, Any]) -> None:
    clock = Clock()
    browser = client(max_age=None, clock=clock, **home)
    assert "Max-Age" not in browser.get("/?a=1").headers["set-cookie"]
    clock.advance(1209599)
    assert browser.get("/").json() == {"a": "1"}
    browser.get("/?b=1")
    clock.advance(1209600)
    assert browser.get("/").json() == {}


def test_a_sealed_cookie_slides_with_its_max_age() -> None:
    clock = Clock()
    browser = client(secret_key=SECRET, max_age=3600, clock=clock)
    browser.get("/?a=1")
    assert "set-cookie" not in browser.get("/").headers
    clock.advance(3599)
    assert "; Max-Age=3600;" in browser.get("/").headers["set-cookie"]
    clock.advance(3599)
    assert browser.get("/").json() == {"a": "1"}


def test_the_cookie_of_a_stored_session_outlives_its_sliding_deadline() -> None:
    """A token is not sent again while it is used: Max-Age is the absolute limit, disuse is the server's to judge."""
    clock = Clock()
    browser = client(store=MemoryStore(clock=clock), max_age=3600, clock=clock)
    assert "; Max-Age=604800;" in browser.get("/?a=1").headers["set-cookie"]
    for _ in range(3):
        clock.advance(3599)
        assert browser.get("/").json() == {"a": "1"}
    clock.advance(3600)
    assert browser.get("/").json() == {}
    assert "; Max-Age=1209600;" in client(store="memory:").get("/?a=1").headers["set-cookie"]


def test_expire_after_has_a_max_age_of_its_own() -> None:
    def remember(request: Request) -> Response:
        session_of(request).expire_after(timedelta(days=10))
        return PlainTextResponse("ok")

    browser = client(Route("/remember", remember), max_age=3600, absolute_timeout=timedelta(days=20))
    assert f"; Max-Age={20 * 86400};" in browser.get("/remember").headers["set-cookie"]


def test_our_settings_win_over_the_arguments_that_say_the_same() -> None:
    def config(**settings: Any) -> Any:
        return SessionMiddleware(nothing, SECRET, **settings).config

    assert config(idle_timeout=900).idle_timeout == 900
    assert config(max_age=3600, idle_timeout=900).idle_timeout == 900
    assert config(profile="BANKING").idle_timeout == 900
    assert config(profile="NIST_AAL1").idle_timeout == 1209600  # it names no idle time
    assert config(profile="DEVELOPMENT").idle_timeout == 1209600
    assert config(absolute_timeout=3600).idle_timeout == 3600
    assert config(absolute_timeout=timedelta(hours=2), max_age=60).idle_timeout == 60
    assert config(profile="NIST_AAL2", idle_timeout=60).absolute_timeout == 86400
    assert config(cookie_name="mine").cookie_name == "mine"
    assert config(cookie_secure=False).cookie_secure is False
    assert "Max-Age" not in str(cookie_of(SECRET, persistent=False))
    assert "Max-Age=604800" in cookie_of(SECRET, max_age=60, persistent=True)[1]


@pytest.mark.parametrize("max_age", [True, 1.5, "60", timedelta(days=1)])
def test_a_max_age_that_is_none_is_refused(max_age: Any) -> None:
    with pytest.raises(ConfigurationError, match="max_age must be a whole number of seconds or None"):
        SessionMiddleware(nothing, SECRET, max_age=max_age)


def test_settings_that_cannot_be_are_refused_in_starlettes_words() -> None:
    with pytest.raises(ConfigurationError, match="did you mean 'idle_timeout'"):
        SessionMiddleware(nothing, SECRET, idle_time=5)
    with pytest.raises(ConfigurationError, match="cookie_path is path= here"):
        SessionMiddleware(nothing, SECRET, path="nowhere")
    with pytest.raises(ConfigurationError, match=r"'in_the_cookie_path_of_somebody_else'$"):  # whole words only
        SessionMiddleware(nothing, SECRET, in_the_cookie_path_of_somebody_else=5)
    with pytest.raises(ConfigurationError, match="nowhere to live"):
        SessionMiddleware(nothing)
    with pytest.raises(ConfigurationError, match=r"session_mw\.asgi\.SessionMiddleware"):
        SessionMiddleware(nothing, config=asgi.SessionMiddleware(nothing, store="memory:").config)
    with pytest.raises(ConfigurationError) as told:
        SessionMiddleware(nothing, SECRET, cookie_path="nowhere")
    assert "here)" not in str(told.value)


def test_the_plain_middleware_with_a_configuration_goes_here_as_well() -> None:
    plain = Middleware(asgi.SessionMiddleware, asgi.SessionMiddleware(nothing, store="memory:").config)
    browser = TestClient(Starlette(routes=ROUTES, middleware=[plain]), base_url=HTTPS)
    browser.get("/?a=1")
    assert browser.get("/").json() == {"a": "1"}
    browser.get("/login")
    assert browser.get("/who").text == "ada"


def test_the_app_may_be_named() -> None:
    assert SessionMiddleware(app=nothing, secret_key=SECRET).app is nothing
    with pytest.raises(TypeError, match="needs the app to wrap"):
        SessionMiddleware(secret_key=SECRET)


def test_a_manager_of_ones_own() -> None:
    manager = CookieManager()
    middleware = SessionMiddleware(nothing, SECRET, manager=manager)
    assert middleware.layer.home.manager is manager


# -- keys ----------------------------------------------------------------------------------------------------------


def test_a_secret_of_starlettes_config_opens_what_its_text_sealed() -> None:
    config = Config(environ={"SECRET": SECRET})
    first, second = client(secret_key=config("SECRET", cast=Secret)), client(secret_key=SECRET)
    first.get("/?a=1")
    second.cookies = first.cookies
    assert second.get("/").json() == {"a": "1"}
    assert SECRET not in repr(SessionMiddleware(nothing, Secret(SECRET)).config)


def test_keys_rotate() -> None:
    old, new = client(secret_key=SECRET), client(secret_key=[Secret("n" * 20 + SECRET), SECRET.encode()])
    old.get("/?a=1")
    new.cookies = old.cookies
    assert new.get("/").json() == {"a": "1"}


def test_a_key_of_16_to_31_bytes_works_and_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    key = "aQ3-starlettes-own"
    with caplog.at_level(logging.WARNING, "session_mw"):
        for _ in range(2):
            browser = client(secret_key=key)
    assert browser.get("/?a=1").json() == {"a": "1"}
    assert len(caplog.records) == 1
    assert "secret_key is weaker than it should be" in caplog.text
    assert key not in caplog.text


@pytest.mark.parametrize("key", ["example", "fifteen-bytes-1", "aaaaaaaaaaaaaaaaaaaaaaaa", "", Secret("short")])
def test_a_weaker_key_is_for_development_alone(key: Any) -> None:
    with pytest.raises(ConfigurationError, match="one of these lines mends it") as told:
        SessionMiddleware(nothing, key)
    lines = str(told.value).splitlines()[-3:]
    assert [word in line for word, line in zip(("SECRET", "store=", "DEVELOPMENT"), lines, strict=True)] == [True] * 3
    assert "short" not in lines[0]
    if str(key):
        assert client(secret_key=key, profile="DEVELOPMENT").get("/?a=1").json() == {"a": "1"}


# -- the session in an app -----------------------------------------------------------------------------------------


def test_request_session_is_ours_and_has_starlettes_hooks() -> None:
    seen: list[Any] = []

    def look(request: Request) -> Response:
        session = request.session
        seen.append(session)
        assert isinstance(session, Session)
        assert session.accessed
        session.mark_modified()  # type: ignore[attr-defined]
        assert session is current_session() is session_of(request)
        return PlainTextResponse("ok")

    reply = client(Route("/look", look)).get("/look")
    assert reply.headers["vary"] == "Cookie"
    assert "set-cookie" not in reply.headers
    with pytest.raises(SessionClosedError):
        seen[0].mark_modified()


def test_nested_changes_are_seen() -> None:
    def cart(request: Request) -> Response:
        request.session.setdefault("cart", []).append("pear")
        return JSONResponse(request.session)

    browser = client(Route("/cart", cart))
    browser.get("/cart")
    assert browser.get("/cart").json() == {"cart": ["pear", "pear"]}


class Awaited(MemoryStore):
    """Without the faces that answer at once."""

    inline = aio = property()  # type: ignore[assignment]


@pytest.mark.parametrize("autoload", [True, False])
def test_an_awaited_store(autoload: bool) -> None:
    async def count(request: Request) -> Response:
        session = await session_of(request).load()
        assert request.session is session
        session.update_with("n", lambda n: n + 1, 0)
        return JSONResponse(request.session)

    def rash(request: Request) -> Response:
        assert request.session is not None  # to hand it out is no touch yet
        return PlainTextResponse(str(len(request.session)))

    browser = client(Route("/count", count), Route("/rash", rash), store=Awaited(), autoload=autoload)
    browser.get("/count")
    assert browser.get("/count").json() == {"n": 2}
    if autoload:
        assert browser.get("/rash").text == "1"
    else:
        with pytest.raises(SessionStateError, match=r"await session\.load"):
            browser.get("/rash")


def test_a_threaded_handler_a_helper_and_a_base_http_middleware_share_one_session() -> None:
    class Counting(BaseHTTPMiddleware):
        async def dispatch(self, request: Request, call_next: Any) -> Response:
            current_session()["before"] = True
            response: Response = await call_next(request)
            response.headers["x-seen"] = str(sorted(request.session))
            return response

    def handler(request: Request) -> Response:
        current_session()["inside"] = True
        return PlainTextResponse("ok")

    browser = client(Route("/handler", handler), more=[Middleware(Counting)])
    assert browser.get("/handler").headers["x-seen"] == "['before', 'inside']"
    assert browser.get("/").json() == {"before": True, "inside": True}


def test_a_base_http_middleware_around_ours_sees_the_cookie() -> None:
    class Outer(BaseHTTPMiddleware):
        async def dispatch(self, request: Request, call_next: Any) -> Response:
            response: Response = await call_next(request)
            response.headers["x-cookies"] = str(len(response.headers.getlist("set-cookie")))  # type: ignore[attr-defined]
            return response

    app = Starlette(routes=ROUTES, middleware=[Middleware(Outer), Middleware(SessionMiddleware, store="memory:")])
    assert TestClient(app, base_url=HTTPS).get("/?a=1").headers["x-cookies"] == "1"


def test_a_mounted_app_shares_the_session_or_has_one_of_its_own() -> None:
    shared = Starlette(routes=ROUTES)
    own = Starlette(routes=ROUTES, middleware=[Middleware(SessionMiddleware, SECRET, "own", path="/own")])
    browser = client(Mount("/shared", shared), Mount("/own", own))
    browser.get("/?a=1")
    assert browser.get("/shared/").json() == {"a": "1"}
    assert browser.get("/own/").json() == {}
    assert browser.get("/own/?b=2").json() == {"b": "2"}
    assert browser.get("/own/").json() == {"b": "2"}
    assert browser.get("/").json() == {"a": "1"}


def test_the_store_opens_and_closes_with_the_app() -> None:
    store = FaultyStore(MemoryStore())
    said: list[str] = []

    def note(what: str) -> None:
        said.append(f"{what}: opened {store.count('initialize')}, closed {store.count('teardown')}")

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[dict[str, Any]]:
        note("up")
        yield {"state": 1}
        note("down")

    def state(request: Request) -> Response:
        return PlainTextResponse(str(request.state.state))

    middleware = [Middleware(SessionMiddleware, store=store)]
    app = Starlette(routes=[Route("/state", state)], middleware=middleware, lifespan=lifespan)
    with TestClient(app) as browser:
        assert browser.get("/state").text == "1"
    note("over")
    assert said == ["up: opened 1, closed 0", "down: opened 1, closed 0", "over: opened 1, closed 1"]


async def echo(websocket: WebSocket) -> None:
    session = session_of(websocket)
    session["socket"] = 1
    await websocket.accept()
    async for text in websocket.iter_text():
        if text == "logout":
            session.logout()
        await websocket.send_text(f"{session.user_id} {dict(websocket.session)}")


@pytest.mark.parametrize("home", [{"secret_key": SECRET}, {"store": "memory:"}])
def test_a_websocket_has_the_session(home: dict[str, Any]) -> None:
    browser = client(WebSocketRoute("/echo", echo), **home)
    browser.get("/login")
    with browser.websocket_connect(f"{WSS}/echo") as socket:
        socket.send_text("hello")
        assert socket.receive_text() == "ada {'socket': 1}"
        if "store" in home:
            socket.send_text("logout")
            assert socket.receive_text() == "None {'socket': 1}"
    if "store" in home:
        assert browser.get("/who").text == "None"
        assert browser.get("/").json() == {"socket": 1}


def test_a_stream_may_write_late_where_it_can_be_kept() -> None:
    def stream(request: Request) -> Response:
        session = session_of(request)
        session["begun"] = True

        async def parts() -> AsyncIterator[str]:
            yield "one"
            session["late"] = True
            yield "two"

        return StreamingResponse(parts())

    stored = client(Route("/stream", stream), store="memory:")
    stored.get("/?a=1")
    assert stored.get("/stream").text == "onetwo"
    assert stored.get("/").json() == {"a": "1", "begun": True, "late": True}
    with pytest.raises(SessionClosedError, match="the response has started"):
        client(Route("/stream", stream)).get("/stream")


@pytest.mark.parametrize("home", [{"secret_key": SECRET, "revocation": "memory:?evict=0"}, {"store": "memory:"}])
def test_an_error_after_a_logout_undoes_nothing(home: dict[str, Any]) -> None:
    def fail(request: Request) -> Response:
        request.session["lost"] = True
        session_of(request).logout()
        raise ValueError("the app is broken")

    browser = client(Route("/fail", fail), **home)
    browser.get("/login")
    with pytest.raises(ValueError, match="the app is broken"):
        browser.get("/fail")
    assert browser.get("/who").text == "None"
    assert browser.get("/").json() == {}


@pytest.mark.parametrize("kind", ["Starlette's own", "cookie", "called", "awaited"])
def test_the_page_for_500_reads_what_the_view_had_not_looked_at(kind: str) -> None:
    def boom(request: Request) -> Response:
        raise ZeroDivisionError

    def page(request: Request, error: Exception) -> Response:
        if isinstance(request.session, Session):
            with pytest.raises(SessionClosedError):
                request.session["lost"] = 1
        return PlainTextResponse(f"sorry, {request.session.get('name')}", 500)

    stores: dict[str, Any] = {"called": MemoryStore(), "awaited": FaultyAsyncStore(MemoryStore().aio())}
    home: dict[str, Any] = {"store": stores[kind]} if kind in stores else {"secret_key": SECRET}
    app = Starlette(
        routes=[*ROUTES, Route("/boom", boom)],
        exception_handlers={Exception: page},
        middleware=[Middleware(Original if kind == "Starlette's own" else SessionMiddleware, **home)],
    )
    browser = TestClient(app, base_url=HTTPS, raise_server_exceptions=False)
    assert browser.get("/boom").text == "sorry, None"
    browser.cookies = {"session": browser.get("/?name=ada").cookies["session"]}  # type: ignore[assignment]
    assert browser.get("/boom").text == "sorry, ada"


def test_an_error_page_of_the_app_commits() -> None:
    def fail(request: Request) -> Response:
        request.session["kept"] = True
        raise LookupError

    app = Starlette(
        routes=[Route("/fail", fail), *ROUTES],
        middleware=[Middleware(SessionMiddleware, SECRET)],
        exception_handlers={LookupError: lambda request, error: PlainTextResponse("sorry", 404)},
    )
    browser = TestClient(app, base_url=HTTPS)
    assert browser.get("/fail").status_code == 404
    assert browser.get("/").json() == {"kept": True}


def test_a_failed_store_is_503() -> None:
    store = FaultyStore(MemoryStore())
    browser = client(store=store)
    browser.get("/login")
    store.fail("load")
    assert browser.get("/who").status_code == 503
    assert browser.get("/who").text == "ada"


# -- users ---------------------------------------------------------------------------------------------------------


def user(request: Request) -> Response:
    return JSONResponse(
        {
            "user": request.user.display_name,
            "known": request.user.is_authenticated,
            "scopes": sorted(request.auth.scopes),
        }
    )


@starlette_requires("staff")
def staff(request: Request) -> Response:
    return PlainTextResponse(request.user.identity)


def with_users(backend: SessionBackend, **settings: Any) -> TestClient:
    more = [Middleware(AuthenticationMiddleware, backend=backend)]
    return client(Route("/user", user), Route("/staff", staff), more=more, **settings)


@pytest.mark.parametrize("home", [{"secret_key": SECRET}, {"store": Awaited(), "autoload": False}])
def test_the_login_is_the_user(home: dict[str, Any]) -> None:
    backend = SessionBackend(scopes=lambda session: ["staff"] if session.user_id == "grace" else [])
    browser = with_users(backend, **home)
    assert browser.get("/user").json() == {"user": "", "known": False, "scopes": []}
    browser.get("/login")
    assert browser.get("/user").json() == {"user": "ada", "known": True, "scopes": ["authenticated"]}
    assert browser.get("/staff").status_code == 403
    browser.get("/login?user=grace")
    assert browser.get("/staff").text == "grace"
    browser.get("/logout")
    assert browser.get("/user").json() == {"user": "", "known": False, "scopes": []}


def test_the_app_makes_its_own_user_or_knows_none() -> None:
    async def load(user_id: str) -> SessionUser | None:
        return SessionUser(user_id.title()) if user_id == "ada" else None

    for backend in (
        SessionBackend(load),
        SessionBackend(lambda user_id: SessionUser("Ada") if user_id == "ada" else None),
    ):
        browser = with_users(backend)
        browser.get("/login")
        assert browser.get("/user").json()["user"] == "Ada"
        browser.get("/login?user=gone")
        assert browser.get("/user").json()["known"] is False


def test_the_user_of_a_storage() -> None:
    browser = with_users(SessionBackend(storage="admin"))
    browser.get("/login")
    assert browser.get("/user").json()["known"] is False


# -- the guard -----------------------------------------------------------------------------------------------------


@login_required(redirect_to="/login")
async def account(request: Request) -> Response:
    return PlainTextResponse("account")


@login_required
def threaded(request: Request) -> Response:
    return PlainTextResponse("threaded")


@login_required
class Endpoint(HTTPEndpoint):
    async def get(self, request: Request) -> Response:
        return PlainTextResponse("endpoint")


@login_required
class Talk(WebSocketEndpoint):
    encoding = "text"

    async def on_receive(self, websocket: WebSocket, data: Any) -> None:
        await websocket.send_text(data.upper())


@login_required
async def talk(websocket: WebSocket) -> None:
    await websocket.accept()
    await websocket.send_text("hello")
    await websocket.close()


class Around(BaseHTTPMiddleware):
    async def dispatch(self, request: Request, call_next: Any) -> Response:
        response: Response = await call_next(request)
        return response


GUARDED = [
    Route("/account", account),
    Route("/threaded", threaded),
    Route("/endpoint", Endpoint),
    WebSocketRoute("/Talk", Talk),
    WebSocketRoute("/talk", talk),
    Mount("/sub", routes=[Route("/account", account)]),
]


@pytest.mark.parametrize("more", [[], [Middleware(Around)]])
def test_the_guard_under_starlette(more: Any) -> None:
    browser = client(*GUARDED, more=more)
    pages = ("account", "threaded", "endpoint")
    for page in pages:
        refused = browser.get(f"/{page}")
        assert (refused.status_code, refused.json()["detail"]) == (401, "Log in first.")
    page = browser.get("/sub/account?x=1", headers={"accept": "text/html"}, follow_redirects=False)
    assert (page.status_code, page.headers["location"]) == (303, "/login?next=/sub/account%3Fx%3D1")
    for path in ("/Talk", "/talk"):
        with pytest.raises(WebSocketDisconnect) as told, browser.websocket_connect(WSS + path):
            pass
        assert getattr(told.value, "status_code", 401) == 401  # TestClient knows denial responses
    browser.get("/login")
    assert [browser.get(f"/{page}").text for page in pages] == list(pages)
    with browser.websocket_connect(f"{WSS}/Talk") as socket:
        socket.send_text("hello")
        assert socket.receive_text() == "HELLO"
    with browser.websocket_connect(f"{WSS}/talk") as socket:
        assert socket.receive_text() == "hello"


def test_an_app_may_have_its_own_page_for_the_refused() -> None:
    def sorry(request: Request, refused: Exception) -> Response:
        assert isinstance(refused, AccessRefused)
        return PlainTextResponse("my own page", refused.answer.status)

    app = Starlette(
        routes=GUARDED, middleware=[Middleware(SessionMiddleware, SECRET)], exception_handlers={AccessRefused: sorry}
    )
    reply = TestClient(app).get("/account")
    assert (reply.status_code, reply.text) == (401, "my own page")


# -- put together wrong --------------------------------------------------------------------------------------------


def test_without_middleware_the_line_to_add_is_named() -> None:
    browser = TestClient(Starlette(routes=[*ROUTES, *GUARDED]))
    with pytest.raises(SessionStateError, match=r"app\.add_middleware\(SessionMiddleware, secret_key="):
        browser.get("/who")
    with pytest.raises(SessionStateError, match=r"app\.add_middleware\(SessionMiddleware, secret_key="):
        browser.get("/account")


def test_installed_twice() -> None:
    twice = client(more=[Middleware(SessionMiddleware, SECRET)])
    with pytest.raises(ConfigurationError, match="two SessionMiddlewares use the cookie 'session'"):
        twice.get("/")


def test_beside_starlettes_own() -> None:
    original = Middleware(Original, secret_key=SECRET)
    app = Starlette(routes=ROUTES, middleware=[original, Middleware(SessionMiddleware, SECRET)])
    with pytest.raises(ConfigurationError, match="another SessionMiddleware"):
        TestClient(app).get("/who")
    with pytest.raises(SessionStateError, match="no session of ours"):
        client(more=[original]).get("/who")


def test_a_session_kept_elsewhere_for_one_request_may_have_to_be_awaited() -> None:
    elsewhere = MemoryStore()

    async def moved(request: Request) -> Response:
        session_of(request).set_store(elsewhere.aio())
        looked_at = request.session  # fills nothing: that would have to be awaited
        assert looked_at is session_of(request)
        await session_of(request).load()
        looked_at["n"] = looked_at.get("n", 0) + 1
        return PlainTextResponse(str(looked_at["n"]))

    browser = client(Route("/moved", moved), store=MemoryStore())
    assert [browser.get("/moved").text for _ in range(2)] == ["1", "2"]
    assert elsewhere.stats(0).live == 1


def test_users_before_sessions() -> None:
    middleware = [Middleware(AuthenticationMiddleware, backend=SessionBackend()), Middleware(SessionMiddleware, SECRET)]
    with pytest.raises(SessionStateError, match=r"before AuthenticationMiddleware in middleware=\[…\], after it among"):
        TestClient(Starlette(routes=ROUTES, middleware=middleware)).get("/who")


def test_a_sealed_cookie_whose_revocation_is_awaited_is_loaded_by_hand() -> None:
    """``request.session`` itself does not fill it where that has to be awaited."""

    async def count(request: Request) -> Response:
        session = await session_of(request).load()
        session["n"] = session.get("n", 0) + 1
        return PlainTextResponse(str(request.session["n"]))

    async def load(request: Request) -> Response:
        return PlainTextResponse(str((await request.session.load())["n"]))  # type: ignore[attr-defined]

    app = Starlette(routes=[Route("/count", count), Route("/load", load)])
    revocation = FaultyAsyncStore(MemoryStore(evict=False).aio())
    app.add_middleware(SessionMiddleware, secret_key=SECRET, revocation=revocation, autoload=False)
    with TestClient(app, base_url=HTTPS) as client:
        assert client.get("/count").text == "1"
        assert client.get("/load").text == "1"
