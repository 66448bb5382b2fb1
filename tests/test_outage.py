"""The server of a store goes down in mid-traffic: nobody is logged out, no cookie changes, and it comes back."""

from __future__ import annotations

import asyncio
from typing import Any
from uuid import uuid4

import pytest
from asgi_driver import Client, Routes
from wsgi_driver import WSGIClient

from session_mw.asgi import SessionMiddleware
from session_mw.stores.redis import AsyncRedisStore, RedisStore
from session_mw.stores.url import store_from_url
from session_mw.wsgi import ENVIRON_KEY
from session_mw.wsgi import SessionMiddleware as WSGIMiddleware

ROUTES = {
    "login": lambda session: session.update(cart=[1]) or session.login(user_id="ada"),
    "cart": lambda session: session.update_with("cart", lambda cart: [*cart, len(cart) + 1], []),
    "me": lambda session: f"{session.user_id} {session.get('cart')}",
    "anon": lambda session: "anon",
}


def wsgi_app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    body = str(ROUTES[environ["PATH_INFO"].strip("/")](environ[ENVIRON_KEY])).encode()
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]


@pytest.fixture(params=["postgres", "mariadb", "redis"])
def server(request: pytest.FixtureRequest) -> Any:
    if request.param == "redis":  # one that keeps what it acknowledged
        return request.getfixturevalue("new_redis")("appendonly yes", "appendfsync always")
    return request.getfixturevalue(request.param)


def store_on(server: Any, drivers: dict[str, str], *, awaited: bool = False) -> Any:
    driver = drivers.get(type(server).__name__)
    if driver is None:
        return AsyncRedisStore(server.url) if awaited else RedisStore(server.url)
    return store_from_url(server.url(driver, query=f"?table=t_{uuid4().hex}&create=1&timeout=2"))


def is_refused(reply: Any) -> bool:
    """503, for nobody in particular, and every cookie stays what it is."""
    assert reply.status == 503
    assert reply.one("retry-after") == "5"
    assert reply.one("cache-control") == "no-store"
    assert reply.cookies == []
    return True


def test_wsgi(server: Any) -> None:
    store = store_on(server, {"PostgresServer": "postgresql", "MariaServer": "mariadb"})
    store.initialize()
    client = WSGIClient(WSGIMiddleware(wsgi_app, store=store))
    client.get("/login")
    cookies = dict(client.cookies)
    assert client.get("/me").text == "ada [1]"
    server.stop()
    try:
        for path in ("/me", "/cart", "/login", "/me"):
            assert is_refused(client.get(path))
        assert client.get("/anon").text == "anon"
        stranger = WSGIClient(client.app, checked=False)
        assert stranger.get("/anon").text == "anon"
    finally:
        server.start()
    assert client.cookies == cookies
    assert client.get("/me").text == "ada [1]"
    client.get("/cart")
    assert client.get("/me").text == "ada [1, 2]"
    store.teardown()


def test_asgi(server: Any) -> None:
    store = store_on(server, {"PostgresServer": "postgresql+asyncpg", "MariaServer": "mysql+asyncmy"}, awaited=True)
    client = Client(SessionMiddleware(Routes(**ROUTES), store=store))

    async def story() -> None:
        await store.initialize()
        await client.request("/login")
        cookies = dict(client.cookies)
        assert (await client.request("/me")).text == "ada [1]"
        await asyncio.to_thread(server.stop)
        try:
            for path in ("/me", "/cart", "/login", "/me"):
                assert is_refused(await client.request(path))
            assert (await client.request("/anon")).text == "anon"
        finally:
            await asyncio.to_thread(server.start)
        assert client.cookies == cookies
        assert (await client.request("/me")).text == "ada [1]"
        await client.request("/cart")
        assert (await client.request("/me")).text == "ada [1, 2]"
        await store.teardown()

    asyncio.run(story())
