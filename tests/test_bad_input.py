"""What a developer may get wrong: each ends in one error that says what to do, and shows no secret."""

from __future__ import annotations

import asyncio
import os
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from asgi_driver import SECRET, Client, Routes
from servers.database import PASSWORD, QUOTED
from servers.ports import unused_port
from store_urls import STORES
from wsgi_driver import WSGIClient

from session_mw import (
    ConfigurationError,
    SessionSerializationError,
    SessionStateError,
    SessionTooLargeError,
    StoreError,
)
from session_mw.asgi import SessionMiddleware
from session_mw.core.event import Event
from session_mw.stores.filesystem_format import name_of
from session_mw.stores.memory import MemoryStore
from session_mw.stores.url import store_from_url
from session_mw.wsgi import ENVIRON_KEY
from session_mw.wsgi import SessionMiddleware as WSGIMiddleware

APP = Routes(index=lambda s: s.get("n"))

WRONG: list[tuple[dict[str, Any], str]] = [
    ({}, 'secret_key=os.environ["SECRET"]'),
    ({"secret_key": ""}, "session-mw keygen"),
    ({"secret_key": "hunter2"}, "session-mw keygen"),
    ({"secret_key": "x" * 200}, "session-mw keygen"),
    ({"secret_key": SECRET, "idle_timout": 60}, "idle_timeout"),
    ({"secret_key": SECRET, "idle_timeout": -1}, "idle_timeout"),
    ({"secret_key": SECRET, "idle_timeout": "soon"}, "idle_timeout"),
    ({"secret_key": SECRET, "same_site": "none", "cookie_secure": False, "cookie_name": "sid"}, "cookie_secure=True"),
    ({"secret_key": SECRET, "cookie_domain": "example.com"}, 'cookie_name="__Secure-session"'),
    ({"secret_key": SECRET, "cookie_path": "/app"}, 'cookie_name="__Secure-session"'),
    ({"secret_key": SECRET, "cookie_secure": "auto"}, 'cookie_name="session"'),
    ({"secret_key": SECRET, "cookie_max_bytes": 9000}, "cookie_max_bytes"),
    ({"store": "sqlite"}, "sqlite:///"),
    ({"store": "oracle://x"}, "unknown store scheme 'oracle'; known: "),
    ({"store": object()}, "a URL such as sqlite:///sessions.db"),
    ({"store": MemoryStore}, "not its class"),
    ({"encryption": True, "store": "memory:"}, "add secret_key="),
    ({"store": "memory:", "encrypt_cookie_data": False}, "holds no data"),
]


@pytest.mark.parametrize("middleware", [SessionMiddleware, WSGIMiddleware], ids=["asgi", "wsgi"])
@pytest.mark.parametrize(("settings", "advice"), WRONG, ids=range(len(WRONG)))
def test_a_setting_that_cannot_be_says_what_to_write(middleware: Any, settings: dict[str, Any], advice: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        middleware(APP, **settings)
    assert advice in str(caught.value)
    key = settings.get("secret_key")
    assert not key or key not in str(caught.value)


def test_a_config_in_the_wrong_place() -> None:
    with pytest.raises(ConfigurationError, match="must be a SessionConfig"):
        SessionMiddleware(APP, SECRET)  # type: ignore[arg-type]


def test_a_session_too_large_for_a_cookie_says_so_with_the_arithmetic() -> None:
    app = Routes(index=lambda s: s.set("blob", os.urandom(5000)))
    with pytest.raises(
        SessionTooLargeError, match=r"needs \d+ bytes .* cookie_max_bytes is 3900: .* in a store"
    ) as caught:
        Client(SessionMiddleware(app, secret_key=SECRET)).get()
    assert caught.value.size > caught.value.limit == 3900


def test_a_value_that_cannot_be_kept_is_named() -> None:
    class Cart:
        pass

    app = Routes(index=lambda s: s.set("user", {"carts": [Cart()]}))
    with pytest.raises(SessionSerializationError, match="Cart") as caught:
        Client(SessionMiddleware(app, secret_key=SECRET)).get()
    assert caught.value.path == "session['user']['carts'][0]"


@pytest.mark.parametrize("path", ["missing/sessions.db", "."], ids=["no directory", "a directory"])
def test_a_store_file_that_cannot_be_written(tmp_path: Path, path: str, caplog: pytest.LogCaptureFixture) -> None:
    url = f"sqlite:///{tmp_path / path}"
    sent: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()

    async def receive() -> Any:
        return {"type": "lifespan.startup"}

    async def send(message: Any) -> None:
        sent.append(message)

    with pytest.raises(StoreError) as caught:
        asyncio.run(SessionMiddleware(app, store=url)({"type": "lifespan"}, receive, send))
    assert str(tmp_path) in str(caught.value)
    assert sent[0]["type"] == "lifespan.startup.failed"
    assert str(tmp_path) in sent[0]["message"]
    reply = Client(SessionMiddleware(Routes(index=lambda s: s.set("n", 1)), store=url)).get()
    assert (reply.status, reply.cookies) == (503, [])
    assert str(tmp_path) in caplog.text
    assert str(tmp_path) not in reply.text


WRONG_SERVERS = {
    "login": lambda url, port: (
        url.replace(QUOTED, "hunter2") if QUOTED in url else url.replace("//", "//nobody:hunter2@")
    ),
    "port": lambda url, port: url.replace(f":{port}/", f":{unused_port()}/"),
    "table": lambda url, port: url.replace("&create=1", ""),
}


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        *product(["postgresql", "postgresql+asyncpg", "mariadb", "mysql+asyncmy"], WRONG_SERVERS),
        *product(["redis"], ["login", "port"]),  # it has no table
    ],
)
def test_a_server_that_cannot_serve(
    name: str, wrong: str, request: pytest.FixtureRequest, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Nobody is let in or logged out; the log says where and what, and shows no user and no password."""
    port = request.getfixturevalue({"p": "postgres", "m": "mariadb", "r": "redis_server"}[name[0]]).port
    url = WRONG_SERVERS[wrong](STORES[name].url(request, tmp_path), port)
    store: Any = store_from_url(url)

    async def visit() -> Any:
        try:
            return await Client(SessionMiddleware(Routes(index=lambda s: s.set("n", 1)), store=store)).request()
        finally:
            if hasattr(store, "aio"):
                await store.aio().teardown()
            closed = store.teardown()
            if closed is not None:
                await closed

    reply = asyncio.run(visit())
    assert (reply.status, reply.cookies) == (503, [])
    (told,) = {record.exc_info[1] for record in caplog.records if record.exc_info}
    assert isinstance(told, StoreError)
    assert "127.0.0.1" in str(told)
    if wrong == "login":
        assert "refused the" in str(told) or name == "postgresql"  # libpq tells no code of it
    if wrong == "table":
        assert "`session-mw schema` or create=True makes it" in str(told)
    for hidden in ("hunter2", PASSWORD, QUOTED):
        assert hidden not in caplog.text + reply.text
    assert "tester" not in str(told)
    assert str(told) not in reply.text


def test_a_file_that_is_no_database(tmp_path: Path) -> None:
    (tmp_path / "s.db").write_bytes(b"not a database at all" * 100)
    app = Routes(index=lambda s: s.set("n", 1))
    client = Client(SessionMiddleware(app, store=f"sqlite:///{tmp_path / 's.db'}"))
    assert client.get().status == 503


@pytest.mark.parametrize("kind", ["asgi", "wsgi"])
def test_a_damaged_file_of_a_session_is_a_fresh_one(
    tmp_path: Path, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    events: list[Event] = []
    settings: Any = {"store": f"file:///{tmp_path}/s?durable=0", "on_event": events.append}
    routes = Routes(set=lambda s: s.set("n", 1), index=lambda s: s.get("n"))

    def app(environ: Any, start_response: Any) -> list[bytes]:
        answer = routes.routes[environ["PATH_INFO"].strip("/") or "index"](environ[ENVIRON_KEY])
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [str(answer).encode()]

    def browser() -> Any:
        return (
            Client(SessionMiddleware(routes, **settings))
            if kind == "asgi"
            else WSGIClient(WSGIMiddleware(app, **settings))
        )

    mine, other = browser(), browser()
    for client in (mine, other):
        client.get("/set")
    id = mine.cookies["__Host-session"].partition(".")[0]  # noqa: A001
    (file,) = tmp_path.glob(f"s/records-*/{name_of(id)}")
    file.write_bytes(file.read_bytes()[:40])
    events.clear()
    reply = mine.get("/")
    assert (reply.status, reply.text, reply.cookies) == (200, "None", [])
    assert [(event.name, event.reason) for event in events] == [("refused", "unknown"), ("close", "")]
    assert f"{file.name} is damaged" in caplog.text
    mine.get("/set")
    assert mine.get("/").text == other.get("/").text == "1"


def test_a_session_that_must_be_awaited_says_how() -> None:
    app = Routes(index=lambda s: s.set("n", 1))
    store = MemoryStore().aio()
    client = Client(SessionMiddleware(app, store=store))
    client.get()
    with pytest.raises(SessionStateError, match=r"await session\.load\(\)"):
        Client(SessionMiddleware(app, store=store, autoload=False), client.cookies).get()


def test_wsgi_says_the_same() -> None:
    def app(environ: Any, start_response: Any) -> list[bytes]:
        environ[ENVIRON_KEY]["blob"] = os.urandom(5000)
        start_response("200 OK", [])
        return [b""]

    with pytest.raises(SessionTooLargeError, match="keep sessions in a store"):
        WSGIClient(WSGIMiddleware(app, secret_key=SECRET), checked=False).get()
