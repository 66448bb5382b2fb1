"""ASGI when something fails: the store, a value that cannot be kept, a client that goes away."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Any

import anyio
import pytest
from asgi_driver import NAME, SECRET, Client, Reply, Routes, chunk, respond, start

from session_mw import Session, SessionLogicError, SessionSerializationError, SessionTooLargeError, StoreError
from session_mw.asgi import SessionMiddleware
from session_mw.core.record import Record
from session_mw.stores.memory import MemoryStore
from session_mw.testing import FaultyAsyncStore, FaultyStore

FACES = ["called", "awaited"]


def write(session: Session) -> str:
    session["n"] = session.get("n", 0) + 1
    return str(session["n"])


APP = Routes(
    index=lambda s: s.get("n"),
    write=write,
    anon=lambda s: "anon",
    login=lambda s: s.login(user_id="ada"),
    logout=lambda s: s.logout(),
    me=lambda s: (s.user_id, s.online()),
)


def faulty(face: str, store: MemoryStore | None = None) -> Any:
    store = store or MemoryStore()
    return FaultyStore(store) if face == "called" else FaultyAsyncStore(store.aio())


def is_503(reply: Reply) -> bool:
    assert reply.status == 503
    assert reply.one("retry-after") == "5"
    assert reply.one("cache-control") == "no-store"
    assert reply.one("content-length") == str(len(reply.body))
    assert reply.cookies == []
    assert len(reply.messages) == 2  # nothing of the app's follows
    return b"please try again" in reply.body


# -- the store fails ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("face", FACES)
@pytest.mark.parametrize("path", ["/", "/write", "/me", "/logout"])
def test_a_store_that_fails_to_load_is_503_and_logs_nobody_out(
    face: str, path: str, caplog: pytest.LogCaptureFixture
) -> None:
    store = faulty(face)
    client = Client(SessionMiddleware(APP, store=store))
    client.get("/login")
    client.get("/write")
    before = dict(client.cookies)
    store.fail("load", times=None)
    assert is_503(client.get(path))
    assert [record.levelname for record in caplog.records] == ["ERROR"]
    assert caplog.records[0].exc_info is not None
    assert before[NAME] not in caplog.text
    store.heal()
    assert client.cookies == before
    assert client.get("/me").text == "('ada', True)"


@pytest.mark.parametrize("face", FACES)
@pytest.mark.parametrize(("path", "method"), [("/write", "save"), ("/login", "rotate"), ("/logout", "rotate")])
def test_a_store_that_fails_to_save_is_503_and_changes_nothing(
    face: str, path: str, method: str, caplog: pytest.LogCaptureFixture
) -> None:
    store = faulty(face)
    client = Client(SessionMiddleware(APP, store=store))
    client.get("/login")
    client.get("/write")
    store.fail(method, times=None)
    assert is_503(client.get(path))
    assert len(caplog.records) == 1
    store.heal()
    assert client.get("/me").text == "('ada', True)"
    assert client.get("/").text == "1"


@pytest.mark.parametrize("face", FACES)
def test_a_new_session_that_cannot_be_created_is_503(face: str) -> None:
    store = faulty(face)
    store.fail("create")
    client = Client(SessionMiddleware(APP, store=store))
    assert is_503(client.get("/write"))
    assert client.get("/write").text == "1"


@pytest.mark.parametrize("face", FACES)
@pytest.mark.parametrize("down", ["initialize", "load"])
def test_an_app_that_ignores_the_session_works_while_the_store_is_down(face: str, down: str) -> None:
    store = faulty(face)
    app = SessionMiddleware(APP, store=store)
    client = Client(app)
    if down == "load":
        client.get("/write")
    store.fail(down, times=None)
    assert client.get("/anon").text == "anon"
    assert client.get("/anon").headers == []
    if down == "load":
        assert is_503(client.get("/"))
    else:
        client.cookies[NAME] = "A" * 24 + "." + "B" * 44
        assert client.get("/anon").text == "anon"
        assert is_503(client.get("/"))
        del client.cookies[NAME]
    store.heal()
    assert client.get("/write").status == 200


@pytest.mark.parametrize("face", FACES)
def test_an_app_may_answer_a_store_that_fails_itself(face: str) -> None:
    store = faulty(face)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        try:
            body = write(scope["session"])
        except StoreError:
            body = "closed for today"
        await respond(send, body)

    client = Client(SessionMiddleware(app, store=store))
    client.get()
    store.fail("load", times=None)
    reply = client.get()
    assert reply.text == "closed for today"
    assert reply.cookies == []


@pytest.mark.parametrize("face", FACES)
def test_a_store_that_fails_after_the_response_started_is_raised_to_the_server(face: str) -> None:
    store = faulty(face)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        scope["session"].get("n")
        await send(start())
        await send(chunk(b"half", more=True))
        scope["session"]["late"] = 1
        await send(chunk(b"half"))

    client = Client(SessionMiddleware(APP, store=store))
    client.get("/write")
    client.app = SessionMiddleware(app, store=store)
    store.fail("save", times=None)
    messages: list[dict[str, Any]] = []
    with pytest.raises(StoreError):
        asyncio.run(client.request(messages=messages))
    assert [message["type"] for message in messages] == ["http.response.start"] + ["http.response.body"] * 2


@pytest.mark.parametrize("face", FACES)
def test_a_commit_that_fails_after_the_response_started_is_raised_to_the_server(face: str) -> None:
    store = faulty(face)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        scope["session"].get("n")
        await send(start())
        scope["session"]["late"] = 1
        await scope["session"].acommit()

    client = Client(SessionMiddleware(APP, store=store))
    client.get("/write")
    client.app = SessionMiddleware(app, store=store)
    store.fail("save", times=None)
    messages: list[dict[str, Any]] = []
    with pytest.raises(StoreError):
        asyncio.run(client.request(messages=messages))
    assert [message["type"] for message in messages] == ["http.response.start"]


@pytest.mark.parametrize("face", FACES)
def test_a_store_that_is_down_does_not_hide_the_app_s_own_error(face: str, caplog: pytest.LogCaptureFixture) -> None:
    store = faulty(face)

    def fail(session: Session) -> None:
        session.logout()
        store.fail(None, times=None)
        raise ZeroDivisionError

    client = Client(SessionMiddleware(Routes(**APP.routes, fail=fail), store=store))
    client.get("/login")
    with pytest.raises(ZeroDivisionError):
        client.get("/fail")
    assert "could not be carried out" in caplog.text


def test_the_answer_to_a_store_that_fails_may_be_another_status() -> None:
    store = FaultyStore(MemoryStore())
    client = Client(SessionMiddleware(APP, store=store, store_error_response=500))
    store.fail("create")
    reply = client.get("/write")
    assert (reply.status, reply.one("cache-control"), reply.cookies) == (500, "no-store", [])


def test_the_answer_to_a_store_that_fails_may_be_one_s_own() -> None:
    store = FaultyStore(MemoryStore())

    def answer(scope: Any) -> Any:
        return 502, [("Content-Type", "text/html"), ("x-path", scope["path"])], b"<p>soon"

    client = Client(SessionMiddleware(APP, store=store, store_error_response=answer))
    store.fail("create")
    reply = client.get("/write")
    assert (reply.status, reply.body) == (502, b"<p>soon")
    assert reply.headers == [("content-type", "text/html"), ("x-path", "/write")]


def test_to_head_the_answer_has_no_body() -> None:
    """RFC 9110 §9.3.2: nor may a server be relied on to drop it."""
    store = FaultyStore(MemoryStore())
    client = Client(SessionMiddleware(APP, store=store))
    store.fail("create")
    reply = client.get("/write", method="HEAD")
    assert (reply.status, reply.body) == (503, b"")
    assert int(reply.one("content-length") or 0) > 0


# -- values that cannot be kept ----------------------------------------------------------------------------------------


class Unkept:
    """Nothing a session may hold."""


def bad_value(session: Session) -> None:
    session["nested"] = {"list": []}
    session["nested"]["list"].append(Unkept())  # assignment would have refused it


def too_large(session: Session) -> None:
    session["blob"] = "".join(chr(0x100 + i % 7000) for i in range(5000))


PAGES: list[tuple[Any, Callable[[], dict[str, Any]], type[Exception]]] = [
    (bad_value, lambda: {"secret_key": SECRET}, SessionSerializationError),
    (bad_value, lambda: {"store": MemoryStore()}, SessionSerializationError),
    (bad_value, lambda: {"store": Yielding(MemoryStore())}, SessionSerializationError),
    (too_large, lambda: {"secret_key": SECRET}, SessionTooLargeError),
]
IDS = ["value, cookie", "value, called", "value, awaited", "size"]


def with_error_page(function: Any, raised: list[Exception]) -> Any:
    """An app that answers its own failures, as frameworks do."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["path"] != "/bad":
            await APP(scope, receive, send)
            return
        try:
            function(scope["session"])
            await respond(send, "fine")
        except Exception as error:
            raised.append(error)
            await respond(send, "sorry", 500)

    return app


@pytest.mark.parametrize(("function", "settings", "error"), PAGES, ids=IDS)
def test_the_app_s_error_page_passes_when_its_session_cannot_be_kept(
    function: Any, settings: Any, error: type[Exception]
) -> None:
    raised: list[Exception] = []
    client = Client(SessionMiddleware(with_error_page(function, raised), **settings()))
    for number in range(2):  # without a session, and with one
        reply = client.get("/bad")
        assert isinstance(raised[number], error)
        assert (reply.status, reply.text) == (500, "sorry")
        assert reply.cookies == []
        assert reply.one("vary") == "Cookie"
        client.get("/write")
    assert client.get("/").text == "2"
    assert len(raised) == 2


@pytest.mark.parametrize(("function", "settings", "error"), PAGES, ids=IDS)
def test_a_session_that_cannot_be_kept_still_ends_its_login(
    function: Any, settings: Any, error: type[Exception]
) -> None:
    raised: list[Exception] = []

    def leave(session: Session) -> None:
        session.logout()
        function(session)

    given = settings()
    client = Client(SessionMiddleware(with_error_page(leave, raised), **given))
    client.get("/login")
    thief = client.copy()
    assert client.get("/bad").status == 500
    assert isinstance(raised[0], error)
    assert client.get("/me").text == "(None, False)"
    if "store" in given:
        assert thief.get("/me").text == "(None, False)"


@pytest.mark.parametrize(("function", "settings", "error"), PAGES, ids=IDS)
def test_a_session_that_cannot_be_kept_does_not_log_in(function: Any, settings: Any, error: type[Exception]) -> None:
    def enter(session: Session) -> None:
        session.login(user_id="ada")
        function(session)

    raised: list[Exception] = []
    client = Client(SessionMiddleware(with_error_page(enter, raised), **settings()))
    client.get("/write")
    assert client.get("/bad").cookies == []
    assert isinstance(raised[0], error)
    assert client.get("/me").text == "(None, False)"
    assert client.get("/").text == "1"


@pytest.mark.parametrize(("function", "settings", "error"), PAGES, ids=IDS)
def test_an_app_may_mend_what_cannot_be_kept(function: Any, settings: Any, error: type[Exception]) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        session = scope["session"]
        if scope["path"] == "/bad":
            function(session)
            with pytest.raises(error):
                await send(start())
            session.clear()
            write(session)
        await respond(send, dict(session))

    client = Client(SessionMiddleware(app, **settings()))
    assert len(client.get("/bad").cookies) == 1
    assert client.get("/").text == "{'n': 1}"


@pytest.mark.parametrize(("function", "settings", "error"), PAGES, ids=IDS)
def test_what_cannot_be_kept_is_the_server_s_to_answer_when_the_app_does_not(
    function: Any, settings: Any, error: type[Exception]
) -> None:
    messages: list[dict[str, Any]] = []
    client = Client(SessionMiddleware(Routes(**APP.routes, bad=function), **settings()))
    with pytest.raises(error):
        asyncio.run(client.request("/bad", messages=messages))
    assert messages == []


@pytest.mark.parametrize("face", FACES)
def test_the_app_s_error_page_passes_when_a_login_is_refused(face: str) -> None:
    raised: list[Exception] = []
    store = MemoryStore() if face == "called" else Yielding(MemoryStore())
    settings: dict[str, Any] = {"store": store, "max_sessions_per_user": 1, "on_session_limit": "refuse"}
    first = Client(SessionMiddleware(with_error_page(lambda s: s.login(user_id="ada"), raised), **settings))
    first.get("/bad")
    second = Client(first.app)
    assert (second.get("/bad").status, second.cookies) == (500, {})
    assert [type(error) for error in raised] == [SessionLogicError]
    assert first.get("/me").text == "('ada', True)"


# -- clients that go away ----------------------------------------------------------------------------------------------


class Waiting:
    """An app that does *before*, starts its response if told to, and then waits until it is cancelled."""

    def __init__(self, before: Any, *, started: bool) -> None:
        self.before = before
        self.started = started
        self.reached = asyncio.Event()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["path"] != "/wait":
            await APP(scope, receive, send)
            return
        if self.started:
            scope["session"].get("n")
            await send(start())
        self.before(scope["session"])
        self.reached.set()
        await asyncio.Event().wait()


async def cancelled(client: Client, app: Waiting, how: str) -> None:
    """Cancel a request to */wait* when it waits: the task by itself, or a scope as anyio does it (again and again)."""
    if how == "task":
        task = asyncio.ensure_future(client.request("/wait"))
        await app.reached.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return
    async with anyio.create_task_group() as group:
        group.start_soon(client.request, "/wait")
        await app.reached.wait()
        group.cancel_scope.cancel()


@pytest.mark.parametrize("how", ["task", "scope"])
@pytest.mark.parametrize("face", FACES)
@pytest.mark.parametrize("started", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("ending", [lambda s: s.logout(), lambda s: s.destroy()], ids=["logout", "destroy"])
def test_a_request_cancelled_after_a_logout_has_logged_out(face: str, how: str, started: bool, ending: Any) -> None:
    async def main() -> None:
        app = Waiting(ending, started=started)
        client = Client(SessionMiddleware(app, store=Yielding(MemoryStore()) if face == "awaited" else MemoryStore()))
        await client.request("/login")
        await cancelled(client.copy(), app, how)
        assert (await client.request("/me")).text == "(None, False)"

    asyncio.run(main())


@pytest.mark.parametrize("how", ["task", "scope"])
@pytest.mark.parametrize("face", FACES)
def test_a_request_cancelled_before_its_response_changes_nothing(face: str, how: str) -> None:
    async def main() -> None:
        app = Waiting(write, started=False)
        client = Client(SessionMiddleware(app, store=Yielding(MemoryStore()) if face == "awaited" else MemoryStore()))
        await client.request("/write")
        await cancelled(client.copy(), app, how)
        assert (await client.request("/")).text == "1"

    asyncio.run(main())


@pytest.mark.parametrize("how", ["task", "scope"])
@pytest.mark.parametrize("face", FACES)
def test_a_stream_cancelled_keeps_what_was_set(face: str, how: str) -> None:
    async def main() -> None:
        app = Waiting(write, started=True)
        client = Client(SessionMiddleware(app, store=Yielding(MemoryStore()) if face == "awaited" else MemoryStore()))
        await client.request("/write")
        await cancelled(client.copy(), app, how)
        assert (await client.request("/")).text == "2"

    asyncio.run(main())


class Yielding(FaultyAsyncStore):
    """A store on the network: every call lets others run first."""

    def __init__(self, store: MemoryStore) -> None:
        super().__init__(store.aio())

    async def _make(self, method: str, *arguments: Any, **options: Any) -> Any:
        await anyio.lowlevel.checkpoint()
        answer = await super()._make(method, *arguments, **options)
        await anyio.lowlevel.checkpoint()
        return answer


class InTwoSteps(Yielding):
    """One that rotates in two steps; ``created`` is set between them."""

    def __init__(self, store: MemoryStore) -> None:
        super().__init__(store)
        self.can_rotate = False
        self.created = asyncio.Event()

    async def create(self, record: Record) -> bool:
        done = await super().create(record)
        self.created.set()
        return done


@pytest.mark.parametrize("kind", ["http", "websocket"])
def test_a_login_cancelled_half_way_through_its_commit_is_whole(kind: str) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["path"] != "/half":
            await APP(scope, receive, send)
            return
        scope["session"].login(user_id="ada")
        await send(start() if kind == "http" else {"type": "websocket.accept"})

    async def nothing(*message: Any) -> Any:
        await asyncio.Event().wait()

    async def main() -> None:
        kept = MemoryStore()
        store = InTwoSteps(kept)
        client = Client(SessionMiddleware(app, store=store))
        await client.request("/write")
        store.created.clear()
        async with anyio.create_task_group() as group:
            group.start_soon(client.app, client.build("/half", kind=kind), nothing, nothing)
            await store.created.wait()
            group.cancel_scope.cancel()
        stats = kept.stats(int(time.time()))
        assert (stats.live, stats.users) == (1, 1)

    asyncio.run(main())


@pytest.mark.parametrize("kind", ["cookie", "store"])
def test_a_client_gone_at_the_response_start_leaves_a_whole_session(kind: str) -> None:
    """The server's send raises OSError; what was committed stays, and the error reaches the app."""
    told: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["path"] == "/gone":
            write(scope["session"])
            try:
                await send(start())
            except OSError:
                told.append("gone")
                raise
        else:
            await APP(scope, receive, send)

    async def gone(message: Any) -> None:
        raise OSError("client disconnected")

    settings: dict[str, Any] = {"secret_key": SECRET} if kind == "cookie" else {"store": MemoryStore()}
    client = Client(SessionMiddleware(app, **settings))
    client.get("/write")
    with pytest.raises(OSError, match="client disconnected"):
        client.get("/gone", send=gone)
    assert told == ["gone"]
    assert client.get("/").text == {"cookie": "1", "store": "2"}[kind]


def test_refusals_are_logged_without_the_cookie(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    client = Client(SessionMiddleware(APP, secret_key=SECRET), {NAME: "not-a-cookie-of-ours"})
    assert client.get("/").text == "None"
    assert "refused" in caplog.text
    assert "not-a-cookie-of-ours" not in caplog.text
