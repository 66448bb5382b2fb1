"""Websockets under ASGI: the cookie at the accept, writes while open, and a socket that ends with its session."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from asgi_driver import HASTE, NAME, SECRET, Client, Routes, Socket, hastily, respond

from session_mw import (
    AsyncSessionService,
    Session,
    SessionClosedError,
    SessionConfig,
    SessionSerializationError,
    StoreError,
    current_session,
)
from session_mw.asgi import SessionMiddleware
from session_mw.stores.memory import MemoryStore
from session_mw.testing import Clock, FaultyAsyncStore, FaultyStore

KINDS = ["cookie", "store", "awaited"]
ACCEPT = {"type": "websocket.accept", "headers": []}
DENIAL = {"type": "websocket.http.response.start", "status": 403, "headers": []}
ENDED = {"type": "websocket.close", "code": 1008, "reason": "session ended"}


def write(session: Session) -> str:
    session["n"] = session.get("n", 0) + 1
    return str(session["n"])


HTTP = Routes(
    index=lambda s: s.get("n"),
    write=write,
    login=lambda s: s.login(user_id="ada"),
    logout=lambda s: s.logout(),
    destroy=lambda s: s.destroy(),
    regenerate=lambda s: s.regenerate() and None,
    me=lambda s: (s.user_id, s.online()),
)


class App:
    """HTTP as above; a socket is accepted, then each frame names what to do with the session."""

    def __init__(
        self, before: Callable[[Session], object] = lambda s: None, **calls: Callable[[Session], object]
    ) -> None:
        self.before = before
        self.calls = {"read": lambda s: s.get("n"), "write": write, **calls}
        self.disconnect: Any = None
        self.send_error: Any = None

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            await HTTP(scope, receive, send)
            return
        session = scope["session"]
        assert current_session() is session
        assert (await receive())["type"] == "websocket.connect"
        self.before(session)
        await send(ACCEPT)
        while (message := await receive())["type"] == "websocket.receive":
            answer = self.calls[message["text"]](session)
            if asyncio.iscoroutine(answer):
                answer = await answer
            await send({"type": "websocket.send", "text": str(answer)})
        self.disconnect = message
        try:
            await send({"type": "websocket.send", "text": "anybody there?"})
        except OSError as error:
            self.send_error = error


def settings(kind: str) -> dict[str, Any]:
    if kind == "cookie":
        return {"secret_key": SECRET}
    return {"store": MemoryStore() if kind == "store" else FaultyAsyncStore(MemoryStore().aio())}


# -- the handshake -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_a_write_before_the_accept_sets_the_cookie(kind: str) -> None:
    async def main() -> None:
        client = Client(SessionMiddleware(App(write), **settings(kind)))
        async with Socket(client) as socket:
            accept = await socket.next()
            assert accept["type"] == "websocket.accept"
            assert socket.reply.one("vary") == "Cookie"
            assert socket.reply.one("cache-control") == "no-store"
            assert len(socket.reply.cookies) == 1
            await socket.leave()
        assert NAME in client.cookies
        assert (await client.request("/")).text == "1"
        assert ACCEPT["headers"] == []

    hastily(main)


@pytest.mark.parametrize("kind", KINDS)
def test_a_denial_carries_the_cookie(kind: str) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            await HTTP(scope, receive, send)
            return
        write(scope["session"])
        await send(DENIAL)
        await send({"type": "websocket.http.response.body", "body": b"no"})

    async def main() -> None:
        client = Client(SessionMiddleware(app, **settings(kind)))
        async with Socket(client) as socket:
            assert (await socket.next())["status"] == 403
            assert len(socket.reply.cookies) == 1
            assert (await socket.next())["body"] == b"no"
        assert (await client.request("/")).text == "1"

    hastily(main)


def test_an_app_that_answers_nothing_ends_what_it_ended_and_writes_nothing() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            await HTTP(scope, receive, send)
            return
        scope["session"]["n"] = 7
        scope["session"].logout()

    async def main() -> None:
        client = Client(SessionMiddleware(app, store=MemoryStore()))
        await client.request("/login")
        async with Socket(client) as socket:
            await socket.leave()
        assert (await client.request("/me")).text == "(None, False)"
        assert (await client.request("/")).text == "None"

    hastily(main)


@pytest.mark.parametrize("kind", ["cookie", "store"])
def test_an_untouched_handshake_is_left_alone(kind: str) -> None:
    async def main() -> None:
        client = Client(SessionMiddleware(App(), **settings(kind)))
        await client.request("/write")
        async with Socket(client) as socket:
            assert await socket.next() is ACCEPT
            assert await socket.say("read") == "1"
            await socket.leave()

    hastily(main)


def close_at_once(before: Callable[[Session], object]) -> Any:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            await HTTP(scope, receive, send)
            return
        before(scope["session"])
        await send({"type": "websocket.close", "code": 4000})

    return app


@pytest.mark.parametrize(
    ("before", "me", "n"),
    [
        (write, "('ada', True)", "2"),
        (lambda s: s.logout(), "(None, False)", "1"),
        (lambda s: s.destroy(), "(None, False)", "None"),
        (lambda s: s.regenerate(), "('ada', True)", "1"),
        (lambda s: s.login(user_id="ada"), "('ada', True)", "1"),
        (lambda s: s.login(user_id="eve"), "('ada', True)", "1"),
    ],
    ids=["write", "logout", "destroy", "regenerate", "login again", "login as another"],
)
def test_a_close_instead_of_an_accept_can_carry_no_cookie(before: Any, me: str, n: str) -> None:
    """What needs a new cookie is not done, or the browser would be left with a dead one."""

    async def main() -> None:
        client = Client(SessionMiddleware(close_at_once(before), store=MemoryStore()))
        await client.request("/write")
        await client.request("/login")
        async with Socket(client) as socket:
            assert await socket.next() == {"type": "websocket.close", "code": 4000}
            await asyncio.wait({socket.task})
        assert (await client.request("/me")).text == me
        assert (await client.request("/")).text == n

    hastily(main)


def test_a_close_instead_of_an_accept_keeps_no_new_session() -> None:
    async def main() -> None:
        store = FaultyStore(MemoryStore())
        client = Client(SessionMiddleware(close_at_once(write), store=store))
        async with Socket(client) as socket:
            await socket.next()
            await asyncio.wait({socket.task})
        assert store.count("create") == 0
        client = Client(SessionMiddleware(close_at_once(write), secret_key=SECRET))
        async with Socket(client) as socket:
            assert (await socket.next())["type"] == "websocket.close"
            await asyncio.wait({socket.task})

    hastily(main)


# -- while it is open --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["store", "awaited"])
def test_a_stored_session_is_kept_when_the_app_ends(kind: str) -> None:
    async def main() -> None:
        client = Client(SessionMiddleware(App(), **settings(kind)))
        await client.request("/write")
        async with Socket(client) as socket:
            await socket.next()
            assert await socket.say("write") == "2"
            assert (await client.request("/")).text == "1"
            await socket.leave()
        assert (await client.request("/")).text == "2"

    hastily(main)


@pytest.mark.parametrize("kind", ["store", "awaited"])
def test_acommit_keeps_it_at_once(kind: str) -> None:
    async def main() -> None:
        client = Client(SessionMiddleware(App(commit=lambda s: s.acommit()), **settings(kind)))
        await client.request("/write")
        async with Socket(client) as socket:
            await socket.next()
            await socket.say("write")
            await socket.say("commit")
            assert (await client.request("/")).text == "2"
            await socket.say("write")
            await socket.leave()
        assert (await client.request("/")).text == "3"

    hastily(main)


LATE = {
    "login": lambda s: s.login(user_id="ada"),
    "regenerate": lambda s: s.regenerate(),
    "start": lambda s: s.start(),
    "expire": lambda s: s.expire_after(timedelta(hours=1)),
}


@pytest.mark.parametrize("call", LATE)
def test_what_needs_a_cookie_comes_too_late(call: str) -> None:
    async def main() -> None:
        client = Client(SessionMiddleware(App(**LATE), store=MemoryStore()))
        await client.request("/write")
        async with Socket(client) as socket:
            await socket.next()
            with pytest.raises(SessionClosedError):
                await socket.say(call)

    hastily(main)


@pytest.mark.parametrize("kind", KINDS)
def test_a_session_that_cannot_be_kept_refuses_writes(kind: str) -> None:
    async def main() -> None:
        client = Client(SessionMiddleware(App(), **settings(kind)))
        if kind == "cookie":
            await client.request("/write")
        async with Socket(client) as socket:
            await socket.next()
            with pytest.raises(SessionClosedError):
                await socket.say("write")

    hastily(main)


def test_a_logout_in_a_socket_counts_everywhere() -> None:
    async def main() -> None:
        client = Client(SessionMiddleware(App(out=lambda s: s.logout()), store=MemoryStore()))
        await client.request("/login")
        async with Socket(client) as socket:
            await socket.next()
            assert await socket.say("out") == "True"
            await socket.leave()
        assert (await client.request("/me")).text == "(None, False)"

    hastily(main)


# -- its session ends --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", ["/destroy", "/logout"])
@pytest.mark.parametrize("kind", ["store", "awaited"])
def test_a_socket_is_closed_when_its_session_ends_elsewhere(kind: str, ending: str) -> None:
    async def main() -> None:
        app = App()
        client = Client(SessionMiddleware(app, websocket_check=1, **settings(kind)))
        await client.request("/login")
        async with Socket(client.copy()) as socket:
            await socket.next()
            assert await socket.say("read") == "None"
            await client.request(ending)
            assert await socket.next() == ENDED
            async with asyncio.timeout(10 * HASTE):
                await socket.task
        assert app.disconnect == {"type": "websocket.disconnect", "code": 1008, "reason": "session ended"}
        assert isinstance(app.send_error, OSError)
        assert socket.sent[-1] == ENDED

    hastily(main)


@pytest.mark.parametrize("early", [True, False])
def test_a_new_id_elsewhere_keeps_it_open(early: bool) -> None:
    async def main() -> None:
        store, clock = Watched(), Clock()
        app = App(before=(lambda s: s.get("n")) if early else (lambda s: None))
        client = Client(SessionMiddleware(app, websocket_check=1, store=store, clock=clock))
        await client.request("/login")
        async with Socket(client.copy()) as socket:
            await socket.next()
            await socket.say("read")
            for _ in range(2):
                await client.request("/regenerate")
                await looked(store)
                assert await socket.say("read") == "None"
                clock.advance(60)  # past the grace
                await looked(store)
                assert await socket.say("read") == "None"
            await client.request("/logout")
            assert await socket.next() == ENDED

    hastily(main)


def test_a_socket_is_closed_when_its_token_was_replaced() -> None:
    """Though it goes on writing: what it writes is kept, but it stays the one that was let in with the old token."""

    async def main() -> None:
        store = Watched()
        calls = {"commit": lambda s: s.acommit()}
        config = SessionConfig(websocket_check=1, store=store)
        client = Client(SessionMiddleware(App(write, **calls), config))
        await client.request("/login")
        async with Socket(client.copy()) as socket:
            await socket.next()
            handle = client.cookies[NAME].partition(".")[0]
            async with AsyncSessionService(config) as service:
                await service.issue_token(handle, replace=True)
            assert await socket.say("write") == "2"
            await socket.say("commit")
            assert await socket.next() == ENDED

    hastily(main)


def test_a_socket_is_closed_once_its_session_is_vetoed() -> None:
    async def main() -> None:
        disabled: set[str | None] = set()
        app = SessionMiddleware(
            App(), websocket_check=1, store=MemoryStore(), on_validate=lambda record: record.user_id not in disabled
        )
        client = Client(app)
        await client.request("/login")
        async with Socket(client.copy()) as socket:
            await socket.next()
            assert await socket.say("read") == "None"
            disabled.add("ada")
            assert await socket.next() == ENDED

    hastily(main)


class Watched(FaultyStore):
    """A store that tells when it is asked for a record."""

    def __init__(self) -> None:
        super().__init__(MemoryStore())
        self.asked = asyncio.Event()

    def load(self, id: str) -> Any:
        self.asked.set()
        return super().load(id)


async def looked(store: Watched) -> None:
    """Until the product's own timer has made it ask the store again."""
    store.asked.clear()
    async with asyncio.timeout(10 * HASTE):
        await store.asked.wait()


def test_frames_are_activity() -> None:
    async def main() -> None:
        clock, store = Clock(), Watched()
        app = SessionMiddleware(App(), websocket_check=1, store=store, clock=clock, idle_timeout=100, touch_interval=10)
        client = Client(app)
        await client.request("/write")
        async with Socket(client.copy()) as busy:
            await busy.next()
            await busy.say("read")
            clock.advance(60)
            await busy.say("read")
            await looked(store)
            clock.advance(60)  # 120 s after the last request
            await busy.say("read")
            await looked(store)
            assert (await client.request("/")).text == "1"
            await busy.leave()

    hastily(main)


def test_a_silent_socket_idles_out() -> None:
    async def main() -> None:
        clock = Clock()
        client = Client(SessionMiddleware(App(), websocket_check=1, store=MemoryStore(), clock=clock, idle_timeout=100))
        await client.request("/write")
        async with Socket(client.copy()) as socket:
            await socket.next()
            await socket.say("read")
            clock.advance(100)
            assert await socket.next() == ENDED

    hastily(main)


def test_a_frame_is_activity_once() -> None:
    async def main() -> None:
        clock, store = Clock(), Watched()
        app = SessionMiddleware(App(), websocket_check=1, store=store, clock=clock, idle_timeout=100, touch_interval=10)
        client = Client(app)
        await client.request("/write")
        async with Socket(client.copy()) as socket:
            await socket.next()
            clock.advance(60)
            await socket.say("read")
            await looked(store)
            clock.advance(99)
            await looked(store)  # nobody has said anything since
            clock.advance(1)
            assert await socket.next() == ENDED

    hastily(main)


def test_a_socket_that_came_with_a_former_token_is_closed() -> None:
    async def main() -> None:
        client = Client(SessionMiddleware(App(lambda s: s.get("n")), websocket_check=1, store=MemoryStore()))
        await client.request("/login")
        former = client.copy()
        await client.request("/logout")
        async with Socket(former) as socket:
            assert (await socket.next())["type"] == "websocket.accept"
            assert await socket.next() == ENDED

    hastily(main)


def test_a_client_kept_session_ends_at_its_own_deadline() -> None:
    async def main() -> None:
        clock = Clock()
        client = Client(SessionMiddleware(App(), websocket_check=1, secret_key=SECRET, clock=clock, idle_timeout=100))
        await client.request("/write")
        async with Socket(client.copy()) as socket:
            await socket.next()
            await socket.say("read")
            clock.advance(100)
            assert await socket.next() == ENDED

    hastily(main)


def test_an_anonymous_socket_stays_open() -> None:
    async def main() -> None:
        app = SessionMiddleware(App(), websocket_check=1, secret_key=SECRET)
        async with Socket(Client(app)) as touched, Socket(Client(app)) as ignored:
            await touched.next()
            await ignored.next()
            await touched.say("read")
            await asyncio.wait({touched.task, ignored.task}, timeout=1.2)  # as long as one look
            assert await touched.say("read") == "None"
            assert await ignored.say("read") == "None"
            await touched.leave()
            await ignored.leave()

    hastily(main)


def test_a_store_that_is_down_ends_no_socket(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        store = Watched()
        app = App()
        client = Client(SessionMiddleware(app, websocket_check=1, store=store))
        await client.request("/write")
        async with Socket(client.copy()) as socket:
            await socket.next()
            await socket.say("read")
            store.fail("load", times=1)
            await looked(store)
            assert await socket.say("read") == "1"
            await client.request("/destroy")
            assert await socket.next() == ENDED

    hastily(main)
    assert "could not be looked at" in caplog.text


# -- things that fail --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("down", ["load", "initialize", "create"])
@pytest.mark.parametrize("extension", [True, False])
def test_a_store_that_fails_denies_the_handshake(down: str, extension: bool) -> None:
    async def main() -> None:
        store = FaultyStore(MemoryStore())
        client = Client(SessionMiddleware(App(write), store=store))
        if down == "load":
            await client.request("/write")
        store.fail(down, times=None)
        options = {} if extension else {"extensions": {}}
        async with Socket(client, **options) as socket:
            first = await socket.next()
            if extension:
                assert socket.reply.status == 503
                assert socket.reply.one("retry-after") == "5"
                assert socket.reply.cookies == []
            else:
                assert first == {"type": "websocket.close", "code": 1011, "reason": "session store unavailable"}
            await asyncio.wait({socket.task})
            assert socket.task.exception() is None

    hastily(main)


def test_a_store_that_is_down_does_not_matter_to_a_socket_without_session() -> None:
    async def main() -> None:
        store = FaultyStore(MemoryStore())
        store.fail(None, times=None)
        client = Client(SessionMiddleware(App(hello=lambda s: "hello"), store=store))
        async with Socket(client) as socket:
            assert await socket.next() is ACCEPT
            assert await socket.say("hello") == "hello"
            await socket.leave()

    hastily(main)


def test_a_store_that_fails_while_open_is_raised() -> None:
    async def main() -> None:
        store = FaultyStore(MemoryStore())
        client = Client(SessionMiddleware(App(), store=store))
        await client.request("/write")
        async with Socket(client) as socket:
            await socket.next()
            store.fail("load")
            with pytest.raises(StoreError):
                await socket.say("read")

    hastily(main)


def test_an_app_s_error_reaches_the_server_as_it_is() -> None:
    def fail(session: Session) -> None:
        session.logout()
        raise ZeroDivisionError

    async def main() -> None:
        client = Client(SessionMiddleware(App(fail), store=MemoryStore()))
        await client.request("/login")
        async with Socket(client) as socket:
            with pytest.raises(ZeroDivisionError):
                await socket.next()
            assert socket.sent == []
        assert (await client.request("/me")).text == "(None, False)"

    hastily(main)


def test_a_value_that_cannot_be_kept_is_raised_at_the_accept() -> None:
    async def main() -> None:
        client = Client(SessionMiddleware(App(lambda s: s.set("a", []) and s["a"].append(object())), secret_key=SECRET))
        async with Socket(client) as socket:
            with pytest.raises(SessionSerializationError):
                await socket.next()
            assert socket.sent == []

    hastily(main)


@pytest.mark.parametrize("kind", ["store", "awaited"])
@pytest.mark.parametrize("when", ["before", "after"])
def test_a_cancelled_socket_has_carried_out_its_logout(kind: str, when: str) -> None:
    """A server that shuts down cancels its sockets."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            await HTTP(scope, receive, send)
            return
        if when == "after":
            await send(ACCEPT)
        scope["session"].logout()
        reached.set()
        await asyncio.Event().wait()

    async def main() -> None:
        client = Client(SessionMiddleware(app, **settings(kind)))
        await client.request("/login")
        async with Socket(client.copy()):
            await reached.wait()
        assert (await client.request("/me")).text == "(None, False)"

    reached = asyncio.Event()
    hastily(main)


def test_http_works_beside_it() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await respond(send, scope["session"].get("n"))

    assert Client(SessionMiddleware(app, secret_key=SECRET)).get().text == "None"
