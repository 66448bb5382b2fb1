"""Adopting a session by its whole token, on every kind of store; stores that bring no faces of their own."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from session_mw.asgi import SessionMiddleware
from session_mw.core.session import Session
from session_mw.core.tokens import mint
from session_mw.errors import ConfigurationError, InvalidSessionIdError, SessionClosedError, SessionStateError
from session_mw.stores.memory import MemoryStore

pytestmark = pytest.mark.anyio
Handler = Callable[[Session], Awaitable[None]]


class Bare:
    """A store of somebody's own: it answers when called, and has neither inline() nor aio()."""

    def __init__(self) -> None:
        self._memory = MemoryStore()
        self.can_rotate = True
        for name in [
            "load",
            "create",
            "save",
            "touch",
            "delete",
            "close",
            "rotate",
            "list_user",
            "delete_user",
            "purge",
            "initialize",
            "teardown",
        ]:
            setattr(self, name, getattr(self._memory, name))


async def call(
    store: Any, handler: Handler, cookie: str = "", *, after: Handler | None = None, headers: list[Any] | None = None
) -> list[str]:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await handler(scope["session"])
        await send({"type": "http.response.start", "status": 200, "headers": []})
        if after is not None:
            await after(scope["session"])
        await send({"type": "http.response.body", "body": b""})

    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "GET", "scheme": "https", "headers": [(b"cookie", cookie.encode())]}
    await SessionMiddleware(app, store=store)(scope, None, send)  # type: ignore[arg-type]
    if headers is not None:
        headers += sent[0]["headers"]
    return [value.decode() for name, value in sent[0]["headers"] if name == b"set-cookie"]


def value_of(cookies: list[str]) -> str:
    return cookies[0].partition("=")[2].partition(";")[0]


@pytest.fixture(params=["inline", "awaited", "bare"])
def store(request: pytest.FixtureRequest) -> Any:
    return {"inline": MemoryStore(), "awaited": MemoryStore().aio(), "bare": Bare()}[request.param]


async def test_load_adopts_a_whole_token_and_rotates_it(store: Any) -> None:
    async def write(session: Session) -> None:
        session["a"] = 1

    async def adopt(session: Session) -> None:
        await session.load(token)
        assert session["a"] == 1

    token = value_of(await call(store, write))
    adopted = value_of(await call(store, adopt))
    assert adopted != token

    async def look(session: Session) -> None:
        assert session == {}

    await call(store, look, f"__Host-session={token}")


async def test_load_refuses_what_is_no_token_and_comes_before_the_first_touch(store: Any) -> None:
    async def malformed(session: Session) -> None:
        with pytest.raises(InvalidSessionIdError):
            await session.load("no token")

    async def late(session: Session) -> None:
        await session.load()
        with pytest.raises(SessionStateError, match="too late"):
            await session.load(mint(bytes(51)).text)

    assert await call(store, malformed) == []
    assert await call(store, late) == []


async def test_what_is_no_store_is_refused(store: Any) -> None:
    async def move(session: Session) -> None:
        with pytest.raises(ConfigurationError, match="is not a store"):
            session.set_store(object())

    await call(store, move)


async def test_a_session_read_before_the_handler_is_not_accessed_by_it() -> None:
    store = MemoryStore().aio()

    async def write(session: Session) -> None:
        session["a"] = 1

    async def ignore(session: Session) -> None:
        assert not session.accessed

    async def late(session: Session) -> None:
        with pytest.raises(SessionClosedError):
            session.login(user_id="alice")

    token = value_of(await call(store, write))
    assert await call(store, ignore, f"__Host-session={token}", after=late) == []


async def test_vary_stands_only_where_the_handler_looked() -> None:
    store = MemoryStore().aio()

    async def write(session: Session) -> None:
        session["a"] = 1

    async def ignore(session: Session) -> None:
        pass

    async def look(session: Session) -> None:
        assert session["a"] == 1

    token = value_of(await call(store, write))
    names: list[list[bytes]] = []
    for handler in (ignore, look):
        headers: list[Any] = []
        await call(store, handler, f"__Host-session={token}", headers=headers)
        names.append([name for name, _ in headers])
    assert names == [[], [b"vary"]]
