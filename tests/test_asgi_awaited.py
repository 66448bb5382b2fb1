"""ASGI with stores that wait: awaited ones, and SQLite when another process holds its lock."""

from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from asgi_driver import NAME, SECRET, Client, Routes, respond

from session_mw import Session, SessionClosedError, SessionStateError, StoreError
from session_mw.asgi import SessionMiddleware
from session_mw.stores.memory import MemoryStore
from session_mw.stores.sqlite import SQLiteStore
from session_mw.testing import FaultyAsyncStore


def write(session: Session) -> str:
    session["n"] = session.get("n", 0) + 1
    return str(session["n"])


APP = Routes(index=lambda s: s.get("n"), write=write, anon=lambda s: "anon", login=lambda s: s.login(user_id="ada"))
LOAD = "load"


def awaited() -> FaultyAsyncStore:
    return FaultyAsyncStore(MemoryStore().aio())


def logged_in(store: Any, app: Any = APP, **settings: Any) -> Client:
    """A browser with a session ``{"n": 1}`` in *store*, in front of *app*."""
    client = Client(SessionMiddleware(APP, store=store))
    client.get("/write")
    return Client(SessionMiddleware(app, store=store, **settings), client.cookies)


# -- awaited stores ----------------------------------------------------------------------------------------------------


def test_it_is_read_once_before_the_handler_where_there_is_a_token() -> None:
    store = awaited()
    client = logged_in(store)
    for cookies, loads in ((client.cookies, 1), ({}, 0), ({NAME: "rubbish"}, 0)):
        store.forget()
        Client(client.app, cookies).get("/anon")
        assert store.count(LOAD) == loads
    store.forget()
    assert client.get("/write").text == "2"
    assert [call.method for call in store.calls] == ["load", "save"]


@pytest.mark.parametrize(("ends", "asked"), [(True, ["load", "close"]), (False, ["load", "save"])])
def test_what_comes_of_another_address_is_done_though_nobody_looks(ends: bool, asked: list[str]) -> None:
    store = awaited()
    app = SessionMiddleware(APP, store=store, strict_session_ip=True, on_ip_changed=lambda *_: ends)
    client = Client(app)
    client.get("/login")
    store.forget()
    away = Client(app, client.cookies, client=("198.51.100.66", 1))
    away.get("/anon")
    assert [call.method for call in store.calls] == asked
    assert (NAME not in away.cookies) is ends


@pytest.mark.parametrize("autoload", [False, lambda scope: scope["path"] != "/"], ids=["never", "elsewhere"])
def test_without_autoload_it_is_loaded_by_hand(autoload: Any) -> None:
    seen: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        session = scope["session"]
        with pytest.raises(SessionStateError, match=r"await session\.load\(\)"):
            session.get("n")
        assert await session.load() is session
        seen.append(session["n"])
        await session.load()
        session["n"] = 2
        await respond(send, session["n"])

    store = awaited()
    client = logged_in(store, app, autoload=autoload)
    store.forget()
    assert client.get().text == "2"
    assert seen == [1]
    assert [call.method for call in store.calls] == ["initialize", "load", "save"]


def test_without_autoload_a_listener_that_is_awaited_hears_of_the_opening() -> None:
    heard: list[str] = []

    async def listen(event: Any) -> None:
        heard.append(event.name)

    client = Client(SessionMiddleware(APP, secret_key=SECRET, on_event=listen, autoload=False))
    client.get("/write")
    client.get()
    assert heard == ["create", "close", "open", "close"]
    client.cookies[NAME] = "not-a-cookie-of-ours"
    client.get()
    assert heard[4:] == ["refused", "close"]


def test_autoload_may_depend_on_the_request() -> None:
    store = awaited()
    client = logged_in(store, autoload=lambda scope: scope["path"] == "/")
    store.forget()
    assert client.get("/anon").text == "anon"
    assert store.count(LOAD) == 0
    assert client.get("/").text == "1"
    with pytest.raises(SessionStateError):
        client.get("/write")


def test_without_a_token_there_is_nothing_to_await() -> None:
    client = Client(SessionMiddleware(APP, store=awaited(), autoload=False))
    assert client.get("/").text == "None"
    assert client.get("/write").text == "1"


def test_commit_names_acommit() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        session = scope["session"]
        write(session)
        with pytest.raises(SessionStateError, match="acommit"):
            session.commit()
        await session.acommit()
        kept.append([call.method for call in store.calls])
        await respond(send, session["n"])

    kept: list[list[str]] = []
    store = awaited()
    client = logged_in(store, app)
    store.forget()
    assert client.get().text == "2"
    assert kept == [["initialize", "load", "save"]]
    assert store.count("save") == 1


def test_a_new_session_committed_early_still_gets_its_cookie() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        write(scope["session"])
        await scope["session"].acommit()
        await respond(send)

    client = Client(SessionMiddleware(app, store=awaited()))
    assert len(client.get().cookies) == 1
    assert Client(SessionMiddleware(APP, store=client.app.config.store), client.cookies).get("/").text == "1"


def test_send_may_be_awaited_later() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        write(scope["session"])
        later = send({"type": "http.response.start", "status": 200, "headers": []})
        scope["session"].get("n")
        await later
        await send({"type": "http.response.body", "body": b"ok"})

    client = logged_in(store := awaited(), app)
    assert client.get().text == "ok"
    assert Client(SessionMiddleware(APP, store=store), client.cookies).get("/").text == "2"


def test_what_is_written_while_the_commit_waits_is_kept() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        session = scope["session"]
        write(session)
        later = send({"type": "http.response.start", "status": 200, "headers": []})
        write(session)  # as another task of this request might
        await later
        await send({"type": "http.response.body", "body": b"ok"})

    client = logged_in(store := awaited(), app)
    store.forget()
    client.get()
    assert store.count("save") == 2
    assert Client(SessionMiddleware(APP, store=store), client.cookies).get("/").text == "3"


def test_late_writes_are_committed_at_the_end() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await respond(send)
        write(scope["session"])

    client = logged_in(store := awaited(), app)
    client.get()
    assert Client(SessionMiddleware(APP, store=store), client.cookies).get("/").text == "2"
    with pytest.raises(SessionClosedError):
        Client(client.app).get()


def test_two_tasks_of_one_request_load_it_once() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        session = scope["session"]
        await asyncio.gather(session.load(), session.load())
        write(session)
        await session.load()
        await respond(send, session["n"])

    client = logged_in(awaited(), app, autoload=False)
    assert client.get().text == "2"


# -- SQLite that is busy -----------------------------------------------------------------------------------------------


class Busy:
    """Another process that holds the write lock of a SQLite file."""

    def __init__(self, path: Path) -> None:
        self.connection = sqlite3.connect(path, isolation_level=None)

    def __enter__(self) -> Busy:
        self.connection.execute("BEGIN IMMEDIATE")
        return self

    def release(self) -> None:
        self.connection.execute("ROLLBACK")

    def __exit__(self, *exc: object) -> None:
        self.connection.close()


@pytest.mark.parametrize("path", ["/write", "/login"])
def test_a_commit_that_must_wait_leaves_the_loop(tmp_path: Path, path: str) -> None:
    store = SQLiteStore(tmp_path / "s.db")
    client = logged_in(store)

    async def main() -> None:
        await client.request("/anon")  # opens the store
        with Busy(tmp_path / "s.db") as other:
            waiting = asyncio.ensure_future(client.request(path))
            assert (await client.copy().request("/")).text == "1"  # reading waits for nobody
            for _ in range(100):  # and the loop turns while the commit waits
                await asyncio.sleep(0)
            assert not waiting.done()
            other.release()
            reply = await waiting
        assert reply.status == 200
        assert (await client.request("/")).text == ("2" if path == "/write" else "1")

    asyncio.run(main())
    store.teardown()


def test_a_lock_that_is_never_released_is_503(tmp_path: Path) -> None:
    store = SQLiteStore(tmp_path / "s.db", lock_timeout=0.1)
    client = logged_in(store)
    with Busy(tmp_path / "s.db"):
        reply = client.get("/write")
        assert (reply.status, reply.cookies) == (503, [])
        assert client.get("/").text == "1"
    assert client.get("/write").text == "2"
    store.teardown()


def test_durable_commits(tmp_path: Path) -> None:
    store = SQLiteStore(tmp_path / "s.db", durable=True)
    client = logged_in(store)

    async def main() -> None:
        tabs = [client.copy() for _ in range(5)]
        replies = await asyncio.gather(*(tab.request("/write") for tab in tabs))
        assert {reply.status for reply in replies} == {200}
        assert (await client.request("/login")).cookies

    asyncio.run(main())
    assert 2 <= int(client.get("/").text) <= 6  # the same key: as many count as did not overlap
    store.teardown()


def test_a_request_cancelled_while_its_commit_waits_is_whole(tmp_path: Path) -> None:
    """The old session or the new one, whatever was reached; here the logout, for it had been asked for."""
    store = SQLiteStore(tmp_path / "s.db")
    routes = Routes(anon=lambda s: "", out=lambda s: s.logout(), me=lambda s: (s.user_id, s.get("n")))
    client = logged_in(store)
    client.get("/login")
    client.app = SessionMiddleware(routes, store=store)

    async def main() -> None:
        await client.request("/anon")  # opens the store
        with Busy(tmp_path / "s.db") as other:
            waiting = asyncio.ensure_future(client.copy().request("/out"))
            for _ in range(100):
                await asyncio.sleep(0)
            assert not waiting.done()
            waiting.cancel()
            other.release()
            with pytest.raises(asyncio.CancelledError):
                await waiting
        assert (await client.request("/me")).text.startswith("(None, ")

    asyncio.run(main())
    store.teardown()


def test_lifespan_closes_the_file(tmp_path: Path) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            await APP(scope, receive, send)
            return
        for name in ("startup", "shutdown"):
            await receive()
            await send({"type": f"lifespan.{name}.complete"})
            if name == "startup":
                client = Client(wrapped)
                assert (await client.request("/write")).text == "1"

    wrapped = SessionMiddleware(app, store=f"sqlite:///{tmp_path / 's.db'}")
    incoming = [{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}]

    async def main() -> None:
        async def receive() -> Any:
            return incoming.pop(0)

        async def send(message: Any) -> None: ...

        await wrapped({"type": "lifespan"}, receive, send)

    asyncio.run(main())
    assert not (tmp_path / "s.db-wal").exists()  # the last connection to close tidies up


def test_a_store_that_fails_in_load_raises_at_load() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        with pytest.raises(StoreError):
            await scope["session"].load()
        await respond(send, "told")

    store = awaited()
    client = logged_in(store, app, autoload=False)
    store.fail(LOAD, times=None)
    assert client.get().text == "told"
