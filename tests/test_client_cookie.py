"""client_cookie: accepted by every integration, with every client that keeps cookies, and never laxer than the app."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
import requests
from asgi_driver import SECRET
from fastapi import FastAPI
from flask_site import site
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.testclient import TestClient
from werkzeug.test import Client as WerkzeugClient

from session_mw import (
    ConfigurationError,
    SessionConfig,
    SessionLogicError,
    SessionSerializationError,
    SessionService,
    asgi,
    wsgi,
)
from session_mw.access import login_required
from session_mw.fastapi import OnlineSession
from session_mw.starlette import SessionMiddleware, session_of
from session_mw.stores.memory import MemoryStore
from session_mw.stores.sqlite import SQLiteStore
from session_mw.testing import ClientCookie, Clock, aclient_cookie, client_cookie
from session_mw.wsgi import ENVIRON_KEY

URL = "https://shop.test"
kinds = pytest.mark.parametrize("home", ["sealed", "signed", "stored", "revocable", "chunked"])


def settings(home: str) -> dict[str, Any]:
    return {
        "sealed": {"secret_key": SECRET},
        "signed": {"secret_key": SECRET, "encrypt_cookie_data": False},
        "stored": {"store": MemoryStore(), "secret_key": SECRET, "encryption": True},
        "revocable": {"secret_key": SECRET, "revocation": MemoryStore(evict=False)},
        "chunked": {"secret_key": SECRET, "cookie_max_bytes": 7600},
    }[home]


def show(request: Request) -> Response:
    session = session_of(request)
    return JSONResponse([session.user_id, session.online(), dict(session)])


def leave(request: Request) -> Response:
    session_of(request).logout()
    return JSONResponse("bye")


@login_required(fresh=60)
def pay(request: Request) -> Response:
    return JSONResponse("paid")


def shop(**ours: Any) -> Starlette:
    return Starlette(
        routes=[Route("/", show), Route("/leave", leave), Route("/pay", pay)],
        middleware=[Middleware(SessionMiddleware, **ours)],
    )


def wsgi_app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    session = environ[ENVIRON_KEY]
    if environ["PATH_INFO"] == "/leave":
        session.logout()
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [repr((session.user_id, session.online(), dict(session))).encode()]


async def asgi_app(scope: Any, receive: Any, send: Any) -> None:
    await Response(repr((scope["session"].user_id, dict(scope["session"]))))(scope, receive, send)


# -- every integration ------------------------------------------------------------------------------------------------


@kinds
def test_starlette_and_a_configuration_of_the_same_settings(home: str) -> None:
    app = shop(**settings(home))
    data = {"cart": ["tea"], "big": "x" * 5000} if home == "chunked" else {"cart": ["tea"]}
    cookie = client_cookie(app, data, user_id=7)
    assert len(cookie) == (2 if home == "chunked" else 1)
    client = cookie.into(TestClient(app, base_url=URL))
    assert client.get("/").json() == ["7", True, data]
    assert client.get("/pay").json() == "paid"
    reply = client.get("/leave")
    assert reply.headers["set-cookie"]  # it takes the place of ours: not both are sent
    assert client.get("/").json() == [None, False, data]
    assert client.get("/pay").status_code == 401


def test_starlette_takes_it_before_and_after_its_first_request() -> None:
    app = shop(secret_key=SECRET)
    with TestClient(app, base_url=URL) as client:
        assert client.get("/").json() == [None, False, {}]
        client_cookie(app, user_id="ada").into(client)
        assert client.get("/").json()[0] == "ada"
    with pytest.raises(ConfigurationError, match="hand it the SessionConfig"):
        client_cookie(Starlette(), user_id="ada")


def test_fastapi() -> None:
    api = FastAPI()
    api.add_middleware(SessionMiddleware, store="memory:", session_cookie="shop")

    @api.get("/me")
    def me(session: OnlineSession) -> str | None:
        return session.user_id

    cookie = client_cookie(api, user_id="ada")
    assert list(cookie) == ["shop"]
    assert TestClient(api).get("/me").status_code == 401
    assert TestClient(api, cookies=cookie).get("/me").json() == "ada"  # a plain dict is enough for a client's start


@kinds
def test_plain_asgi(home: str) -> None:
    config = SessionConfig(**settings(home))
    served = asgi.SessionMiddleware(asgi_app, config)
    for app in (config, served):
        client = client_cookie(app, {"n": 1}, user_id="ada").into(TestClient(served, base_url=URL))
        assert client.get("/").text == repr(("ada", {"n": 1}))


@kinds
def test_plain_wsgi(home: str) -> None:
    config = SessionConfig(**settings(home))
    served = wsgi.SessionMiddleware(wsgi_app, config)
    for app in (config, served):
        client = client_cookie(app, {"n": 1}, user_id="ada").into(WerkzeugClient(served))
        assert client.get("/", base_url="https://localhost").text == repr(("ada", True, {"n": 1}))
        client.get("/leave", base_url="https://localhost")
        assert client.get("/", base_url="https://localhost").text == repr((None, False, {"n": 1}))


@pytest.mark.parametrize("kind", ["cookie", "store"])
def test_flask(kind: str) -> None:
    app = site(kind)

    @app.get("/pay")
    @login_required(fresh=60)
    def pay() -> str:
        return "paid"

    @app.get("/leave")
    def leave() -> str:
        from session_mw.flask import session

        session.logout()
        return "bye"

    client = client_cookie(app, {"cart": ["tea"]}, user_id="ada").into(app.test_client())
    assert (client.get("/").json, client.get("/pay").text) == ({"cart": ["tea"]}, "paid")
    app.clock.advance(60)
    assert client.get("/pay").status_code == 401
    client_cookie(app, user_id="ada").into(client)
    assert client.get("/pay").text == "paid"
    client.get("/leave")
    assert client.get("/pay").status_code == 401


def test_flask_login_s_own_key() -> None:
    app = site("store", owner_key="_user_id")
    client = client_cookie(app, user_id=7).into(app.test_client())
    assert client.get("/").json == {"_user_id": "7"}
    with app.app_context():
        assert len(app.extensions["session_mw"].service().list_sessions("7")) == 1


def test_a_flask_app_behind_our_middleware() -> None:
    import flask

    app: Any = flask.Flask("plain")
    app.wsgi_app = wsgi.SessionMiddleware(app.wsgi_app, store="memory:")

    @app.get("/")
    def who() -> str:
        return str(flask.request.environ[ENVIRON_KEY].user_id)

    assert client_cookie(app, user_id="ada").into(app.test_client()).get("/").text == "ada"


# -- every client -----------------------------------------------------------------------------------------------------


def test_httpx() -> None:
    served = wsgi.SessionMiddleware(wsgi_app, store="memory:")
    with httpx.Client(transport=httpx.WSGITransport(app=served), base_url=URL) as client:
        client_cookie(served, {"n": 1}, user_id="ada").into(client)
        assert client.get("/").text == repr(("ada", True, {"n": 1}))
        client.get("/leave")
        assert client.get("/").text == repr((None, False, {"n": 1}))
    cookie = client_cookie(served, user_id="ada")
    with httpx.Client(transport=httpx.WSGITransport(app=served)) as client:
        with pytest.raises(ValueError, match="url="):
            cookie.into(client)
        assert client.get(URL, headers={"Cookie": cookie.header}).text == repr(("ada", True, {}))
        assert cookie.into(client, URL).get(URL).text == repr(("ada", True, {}))


class _Served(requests.adapters.BaseAdapter):
    """A WSGI app in place of the network."""

    def __init__(self, app: Any) -> None:
        super().__init__()
        self.app = app

    def send(self, request: Any, **_: Any) -> requests.Response:  # type: ignore[override]
        from http.client import HTTPMessage
        from types import SimpleNamespace

        client = WerkzeugClient(self.app, use_cookies=False)
        got = client.get(request.path_url, base_url=request.url, headers=dict(request.headers))
        reply, message = requests.Response(), HTTPMessage()
        for name, value in got.headers:
            message[name] = value
        reply.status_code, reply._content, reply.url, reply.request = got.status_code, got.data, request.url, request
        reply.raw = SimpleNamespace(_original_response=SimpleNamespace(msg=message))
        requests.cookies.extract_cookies_to_jar(reply.cookies, request, reply.raw)
        return reply

    def close(self) -> None:
        """Nothing is open."""


@pytest.mark.parametrize("url", [URL, "https://shop", "https://127.0.0.1"])
def test_requests(url: str) -> None:
    served = wsgi.SessionMiddleware(wsgi_app, store="memory:")
    with requests.Session() as client:
        client.mount("https://", _Served(served))
        with pytest.raises(ValueError, match="url="):
            client_cookie(served, user_id="ada").into(client)
        client_cookie(served, {"n": 1}, user_id="ada").into(client, url)
        assert client.get(url).text == repr(("ada", True, {"n": 1}))
        client.get(f"{url}/leave")
        assert client.get(url).text == repr((None, False, {"n": 1}))


def test_a_cookie_of_a_domain_and_a_path() -> None:
    ours: dict[str, Any] = {"cookie_domain": ".shop.test", "cookie_path": "/app", "cookie_name": "__Secure-shop"}
    served = wsgi.SessionMiddleware(wsgi_app, store="memory:", **ours)
    with httpx.Client(
        transport=httpx.WSGITransport(app=served, script_name="/app"), base_url="https://a.shop.test"
    ) as one:
        client_cookie(served, {"n": 1}, user_id="ada").into(one)
        assert "ada" in one.get("/app").text
        one.get("/leave")
        assert "ada" in one.get("/app").text  # not sent to /leave, so nobody logged out
    two = client_cookie(served, user_id="ada").into(WerkzeugClient(served))
    assert "ada" in two.get("/app/", base_url="https://a.shop.test").text
    assert "ada" not in two.get("/else", base_url="https://a.shop.test").text


def test_what_keeps_no_cookies() -> None:
    with pytest.raises(TypeError, match=r"send \.header as Cookie"):
        client_cookie(SessionConfig(secret_key=SECRET), user_id="ada").into(object())


# -- what it holds -----------------------------------------------------------------------------------------------------


def test_nobody_logged_in_and_nothing_to_keep() -> None:
    app = shop(secret_key=SECRET)
    client = client_cookie(app, {"n": 1}).into(TestClient(app, base_url=URL))
    assert client.get("/").json() == [None, False, {"n": 1}]
    with pytest.raises(ValueError, match="nothing to keep"):
        client_cookie(app)


def test_another_storage() -> None:
    store = MemoryStore()
    app = shop(store=store)
    client = client_cookie(app, {"pin": "asked"}, user_id="ada", storage="bank").into(TestClient(app, base_url=URL))
    assert client.get("/").json() == ["ada", False, {}]
    (handle,) = SessionService(store=store).list_sessions("ada")
    assert handle


def test_a_clock_makes_a_login_old() -> None:
    clock = Clock()
    app = shop(store=MemoryStore(clock=clock), clock=clock)
    client = client_cookie(app, user_id="ada").into(TestClient(app, base_url=URL))
    assert client.get("/pay").status_code == 200
    clock.advance(60)
    assert client.get("/pay").status_code == 401


def test_a_login_held_to_an_address() -> None:
    config = SessionConfig(store=MemoryStore(), strict_session_ip=True)
    served = wsgi.SessionMiddleware(wsgi_app, config)
    client = client_cookie(config, user_id="ada", ip="192.0.2.7").into(WerkzeugClient(served))
    here = {"REMOTE_ADDR": "192.0.2.7"}
    assert "ada" in client.get("/", base_url="https://localhost", environ_base=here).text
    with pytest.raises(SessionLogicError, match="address"):
        client_cookie(config, user_id="ada")


def test_the_app_hears_of_it_and_counts_it() -> None:
    heard: list[Any] = []
    config = SessionConfig(store=MemoryStore(), on_event=heard.append, max_sessions_per_user=1)
    client_cookie(config, user_id="ada")
    client_cookie(config, user_id="ada")
    assert [event.name for event in heard] == ["login", "create", "close", "login", "create", "destroy", "close"]
    assert len(SessionService(config).list_sessions("ada")) == 1


def test_it_is_a_credential_and_not_shown() -> None:
    cookie = client_cookie(SessionConfig(store=MemoryStore()), user_id="ada")
    assert isinstance(cookie, dict)
    assert repr(cookie) == "<ClientCookie __Host-session>"
    assert cookie.header == f"__Host-session={cookie['__Host-session']}"
    assert isinstance(cookie, ClientCookie)


# -- never laxer than the app -----------------------------------------------------------------------------------------


def test_a_weak_key_is_refused_as_the_app_refuses_it(caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(ConfigurationError, match="secret_key"):
        client_cookie(shop(secret_key="hunter2"), user_id="ada")
    app = site("cookie")
    app.config["SECRET_KEY"] = "hunter2"
    with pytest.raises(ConfigurationError, match="SECRET_KEY"):
        client_cookie(app, user_id="ada")
    app.config["SECRET_KEY"] = None
    with pytest.raises(ConfigurationError, match="neither SECRET_KEY nor a store"):
        client_cookie(app, user_id="ada")
    with caplog.at_level(logging.WARNING, "session_mw"):
        client_cookie(shop(secret_key="a key of twenty ones"), user_id="ada")
    assert "weaker than it should be" in caplog.text


def test_a_cookie_of_another_key_or_application_opens_nothing() -> None:
    app = shop(secret_key=SECRET)
    other = SessionConfig(secret_key=SECRET[::-1], cookie_name="session")
    named = SessionConfig(secret_key=SECRET, cookie_name="session", table_index="other")
    for config in (other, named):
        client = client_cookie(config, user_id="ada").into(TestClient(app, base_url=URL))
        assert client.get("/").json() == [None, False, {}]


@pytest.mark.parametrize("given", [None, SECRET, object(), {"secret_key": SECRET}, "sqlite:///s.db"], ids=repr)
def test_what_says_nothing_about_sessions(given: Any) -> None:
    with pytest.raises(ConfigurationError, match="hand it the SessionConfig") as caught:
        client_cookie(given, user_id="ada")
    assert SECRET not in str(caught.value)


def test_a_memory_store_nobody_shares_is_refused() -> None:
    for config in (SessionConfig(store="memory:"), SessionConfig(secret_key=SECRET, revocation="memory:?evict=0")):
        with pytest.raises(ConfigurationError, match=r"store=MemoryStore\(\)"):
            client_cookie(config, user_id="ada")


def test_what_cannot_be_kept_is_refused() -> None:
    with pytest.raises(SessionSerializationError):
        client_cookie(SessionConfig(secret_key=SECRET), {"n": float("nan")}, user_id="ada")
    with pytest.raises(ValueError, match="user_id"):
        client_cookie(SessionConfig(secret_key=SECRET), user_id=True)


# -- stores -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def closed(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The SQLite stores that were closed."""
    gone: list[Any] = []
    teardown = SQLiteStore.teardown

    def spy(store: SQLiteStore) -> None:
        gone.append(store)
        teardown(store)

    monkeypatch.setattr(SQLiteStore, "teardown", spy)
    return gone


def test_a_store_of_a_url_is_opened_and_closed(tmp_path: Path, closed: list[Any]) -> None:
    config = SessionConfig(store=f"sqlite:///{tmp_path / 's.db'}")
    cookie = client_cookie(config, {"n": 1}, user_id="ada")
    assert len(closed) == 1
    served = wsgi.SessionMiddleware(wsgi_app, config)
    client = cookie.into(WerkzeugClient(served))
    assert client.get("/", base_url="https://localhost").text == repr(("ada", True, {"n": 1}))
    assert served.layer.home.store is not None
    served.layer.home.store.teardown()


def awaited(make: Callable[[], Any]) -> None:
    """An app on an event loop, over a store that is awaited."""

    async def go() -> None:
        config = make()
        served = asgi.SessionMiddleware(asgi_app, config)
        for app in (config, served):
            if config.awaits or not isinstance(config.store, MemoryStore):
                with pytest.raises(ConfigurationError, match="await aclient_cookie"):
                    client_cookie(app, user_id="ada")
            cookie = await aclient_cookie(app, {"n": 1}, user_id="ada")
            async with httpx.AsyncClient(transport=httpx.ASGITransport(app=served), base_url=URL) as client:
                reply = await cookie.into(client).get("/")
            assert reply.text == repr(("ada", {"n": 1}))

    asyncio.run(go())


def test_awaited_stores_callbacks_and_all_others() -> None:
    async def hear(event: Any) -> None:
        heard.append(event.name)

    async def allow(record: Any) -> bool:
        return True

    heard: list[str] = []
    awaited(lambda: SessionConfig(store=MemoryStore().aio()))
    awaited(lambda: SessionConfig(store=MemoryStore()))
    awaited(lambda: SessionConfig(store=MemoryStore(), on_event=hear, on_validate=allow))
    assert heard[:2] == ["login", "create"]


def test_an_awaited_url_is_opened_and_closed(tmp_path: Path, closed: list[Any]) -> None:
    config = SessionConfig(store=f"sqlite:///{tmp_path / 's.db'}")
    cookie = asyncio.run(aclient_cookie(config, user_id="ada"))
    assert len(closed) == 1
    with SessionService(config) as service:
        assert service.authenticate(cookie["__Host-session"]) is not None
