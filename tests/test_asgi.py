"""ASGI: what a request sees, what its response carries, and in which order things happen."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import threading
from typing import Any

import pytest
from asgi_driver import NAME, SECRET, Client, Reply, Routes, chunk, handler, raised, respond, start

from session_mw import (
    ConfigurationError,
    Session,
    SessionClosedError,
    SessionStateError,
    StoreError,
    current_session,
)
from session_mw.asgi import SessionMiddleware
from session_mw.stores.memory import MemoryStore
from session_mw.testing import Clock, FaultyStore

KINDS = ["cookie", "store"]


def settings(kind: str, **more: Any) -> dict[str, Any]:
    return {"secret_key": SECRET, **more} if kind == "cookie" else {"store": MemoryStore(), **more}


def write(session: Session) -> str:
    session["n"] = session.get("n", 0) + 1
    return str(session["n"])


def read(session: Session) -> str:
    return repr(session.get("n"))


COUNTER = Routes(index=read, write=write, anon=lambda session: "anon", login=lambda s: s.login(user_id="ada"))

# -- what a response carries -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_a_session_is_kept_from_one_request_to_the_next(kind: str) -> None:
    client = Client(SessionMiddleware(COUNTER, **settings(kind)))
    assert client.get("/write").text == "1"
    assert client.get("/write").text == "2"
    assert client.get("/").text == "2"
    assert Client(client.app).get("/").text == "None"


@pytest.mark.parametrize("kind", KINDS)
def test_an_untouched_session_leaves_no_trace(kind: str) -> None:
    store = FaultyStore(MemoryStore())
    app = SessionMiddleware(COUNTER, **({"secret_key": SECRET} if kind == "cookie" else {"store": store}))
    client = Client(app)
    client.get("/write")
    store.forget()
    for browser in (client, Client(app), Client(app, {NAME: "rubbish"})):
        reply = browser.get("/anon")
        assert reply.text == "anon"
        assert reply.headers == []
    assert store.count() == 0


@pytest.mark.parametrize("kind", KINDS)
def test_a_read_session_says_vary_and_nothing_else(kind: str) -> None:
    client = Client(SessionMiddleware(COUNTER, **settings(kind)))
    assert client.get("/").headers == [("vary", "Cookie")]
    client.get("/write")
    assert client.get("/").headers == [("vary", "Cookie")]
    assert client.get("/", cookie=b"__Host-session=rubbish").headers == [("vary", "Cookie")]


@pytest.mark.parametrize("kind", KINDS)
def test_a_written_session_sets_one_cookie_and_no_store(kind: str) -> None:
    client = Client(SessionMiddleware(COUNTER, **settings(kind)))
    reply = client.get("/write")
    assert reply.one("vary") == "Cookie"
    assert reply.one("cache-control") == "no-store"
    (line,) = reply.cookies
    pair, *attributes = line.split("; ")
    assert pair.startswith(f"{NAME}=")
    assert attributes == ["Path=/", "Secure", "HttpOnly", "SameSite=Lax"]


def test_a_stored_session_keeps_its_cookie_when_it_is_only_changed() -> None:
    client = Client(SessionMiddleware(COUNTER, store=MemoryStore()))
    client.get("/write")
    reply = client.get("/write")
    assert reply.text == "2"
    assert reply.cookies == []
    assert reply.one("cache-control") is None


@pytest.mark.parametrize("kind", KINDS)
def test_writing_an_equal_value_is_reading(kind: str) -> None:
    client = Client(SessionMiddleware(Routes(index=lambda s: s.set("a", {"b": [1]})), **settings(kind)))
    assert client.get().cookies
    assert client.get().headers == [("vary", "Cookie")]


@pytest.mark.parametrize("kind", KINDS)
def test_a_change_deep_inside_is_seen(kind: str) -> None:
    client = Client(
        SessionMiddleware(
            Routes(
                new=lambda s: s.set("cart", {"items": []}),
                add=lambda s: s["cart"]["items"].append("pear"),
                index=lambda s: s["cart"]["items"],
            ),
            **settings(kind),
        )
    )
    client.get("/new")
    client.get("/add")
    assert client.get("/").text == "['pear']"


@pytest.mark.parametrize("kind", KINDS)
def test_destroy_clears_the_cookie_with_all_its_attributes(kind: str) -> None:
    app = SessionMiddleware(Routes(new=write, end=lambda s: s.destroy(), index=read), **settings(kind))
    client = Client(app)
    client.get("/new")
    reply = client.get("/end")
    (line,) = reply.cookies
    assert line == (
        f"{NAME}=; Max-Age=0; Expires=Thu, 01 Jan 1970 00:00:00 GMT; Path=/; Secure; HttpOnly; SameSite=Lax"
    )
    assert reply.one("cache-control") == "no-store"
    assert client.cookies == {}
    assert Client(app).get("/end").cookies == []  # there was nothing to clear


def test_a_cookie_value_that_means_nothing_is_not_cleared() -> None:
    """The browser may hold a newer one by the time this answer arrives."""
    client = Client(SessionMiddleware(COUNTER, store=MemoryStore()), {NAME: "A" * 24 + "." + "B" * 44})
    assert client.get("/").cookies == []


@pytest.mark.parametrize("status", [204, 302, 303, 404, 500, 503])
@pytest.mark.parametrize("kind", KINDS)
def test_every_status_commits(kind: str, status: int) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        body = write(scope["session"]) if scope["path"] == "/write" else read(scope["session"])
        await respond(send, body, status, (b"location", b"/"))

    client = Client(SessionMiddleware(app, **settings(kind)))
    reply = client.get("/write")
    assert reply.status == status
    assert reply.one("location") == "/"
    assert client.get("/").text == "1"


@pytest.mark.parametrize("kind", KINDS)
def test_head_commits_like_get(kind: str) -> None:
    client = Client(SessionMiddleware(COUNTER, **settings(kind)))
    assert len(client.get("/write", method="HEAD").cookies) == 1
    assert client.get("/").text == "1"


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ([], ["Cookie"]),
        ([b"Accept"], ["Accept, Cookie"]),
        ([b"Accept", b"Accept-Language"], ["Accept, Accept-Language, Cookie"]),
        ([b"cookie"], ["cookie"]),
        ([b"*"], ["*"]),
        ([b"Accept, *"], ["Accept, *"]),
        ([b"X-Cookie"], ["X-Cookie, Cookie"]),
        ([b""], ["Cookie"]),
    ],
)
def test_vary_is_merged(given: list[bytes], expected: list[str]) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await respond(send, read(scope["session"]), 200, *((b"vary", value) for value in given))

    assert Client(SessionMiddleware(app, secret_key=SECRET)).get().all("vary") == expected


@pytest.mark.parametrize(
    ("given", "expected", "logged"),
    [
        ([], "no-store", 0),
        ([b"private, max-age=60"], "private, max-age=60", 0),
        ([b"no-store"], "no-store", 0),
        ([b"public, max-age=60"], "no-store", 1),
        ([b"s-maxage=9", b"immutable"], "no-store", 1),
        ([b'private="x-a"'], "no-store", 1),
        ([b"max-age=1", b"private"], "max-age=1, private", 0),
    ],
)
def test_cache_control_beside_a_cookie(
    given: list[bytes], expected: str, logged: int, caplog: pytest.LogCaptureFixture
) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        function = write if scope["path"] == "/write" else read
        await respond(send, function(scope["session"]), 200, *((b"cache-control", value) for value in given))

    client = Client(SessionMiddleware(app, secret_key=SECRET))
    assert client.get("/write").one("cache-control") == expected
    assert len(caplog.records) == logged
    assert client.get("/").all("cache-control") == [value.decode() for value in given]  # no cookie: as the app says


TARGETED = [
    ("cdn-cache-control", "max-age=600", False),
    ("CDN-Cache-Control", "public", False),
    ("vercel-cdn-cache-control", "s-maxage=9", False),
    ("surrogate-control", "max-age=3600+600", False),
    ("cdn-cache-control", "no-store", True),
    ("cdn-cache-control", "private, max-age=60", True),
    ("surrogate-control", 'no-store, content="ESI/1.0"', True),
    ("cdn-cache-control", "", True),  # counts as absent (RFC 9213 §2.1)
    ("x-my-cache-controller", "public", True),
]


@pytest.mark.parametrize(("name", "value", "kept"), TARGETED)
def test_what_is_told_some_caches_alone_beside_a_cookie(
    name: str, value: str, kept: bool, caplog: pytest.LogCaptureFixture
) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        function = write if scope["path"] == "/write" else read
        headers = ((name.encode(), value.encode()), (b"cache-control", b"private"))
        await respond(send, function(scope["session"]), 200, *headers)

    client = Client(SessionMiddleware(app, secret_key=SECRET))
    reply = client.get("/write")
    assert (reply.all(name.lower()), reply.one("cache-control")) == ([value] if kept else [], "private")
    assert len(caplog.records) == (not kept)
    assert client.get("/").all(name.lower()) == [value]  # no cookie: as the app says


def test_a_response_object_used_for_two_users_is_not_changed() -> None:
    headers = [(b"content-type", b"text/plain"), (b"vary", b"Accept")]
    message = {"type": "http.response.start", "status": 200, "headers": headers}

    async def app(scope: Any, receive: Any, send: Any) -> None:
        write(scope["session"])
        await send(message)
        await send(chunk(b"ok"))

    app_ = SessionMiddleware(app, secret_key=SECRET)
    first, second = Client(app_).get(), Client(app_).get()
    assert len(first.cookies) == len(second.cookies) == 1
    assert first.cookies != second.cookies
    assert message == {"type": "http.response.start", "status": 200, "headers": headers}
    assert headers == [(b"content-type", b"text/plain"), (b"vary", b"Accept")]


def test_a_response_without_headers_gets_ours() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        write(scope["session"])
        await send({"type": "http.response.start", "status": 200})  # headers may be left out
        await send(chunk())

    assert len(Client(SessionMiddleware(app, secret_key=SECRET)).get().cookies) == 1


def test_an_app_s_own_cookies_stay() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        write(scope["session"])
        await respond(send, "", 200, (b"set-cookie", b"a=1"), (b"set-cookie", b"b=2"))

    reply = Client(SessionMiddleware(app, secret_key=SECRET)).get()
    assert reply.cookies[:2] == ["a=1", "b=2"]
    assert len(reply.cookies) == 3


@pytest.mark.parametrize("where", [0, 1, 2])
def test_several_cookie_headers_are_one(where: int) -> None:
    """HTTP/2 lets a client split the header (RFC 9113 §8.2.3)."""
    client = Client(SessionMiddleware(COUNTER, secret_key=SECRET))
    client.get("/write")
    lines = [(b"cookie", b"a=1"), (b"cookie", b"b=2; c=3")]
    lines.insert(where, (b"cookie", f"{NAME}={client.cookies[NAME]}".encode()))
    assert client.get("/", cookie=b"", headers=lines).text == "1"


# -- in which order ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("client", "server", "address"),
    [
        (None, None, "198.51.100.7"),  # hypercorn on a unix socket
        (None, ("/run/site.sock", None), "198.51.100.7"),  # uvicorn
        (None, ("example.test", 443), "None"),  # the client has hung up, or the server does not say
        (("203.0.113.9", 50_000), ("example.test", 443), "203.0.113.9"),
    ],
)
def test_only_a_unix_socket_has_clients_without_an_address(client: Any, server: Any, address: str) -> None:
    def log_in(session: Session) -> str:
        session.login(user_id="ada")
        return str(session.login_ip)

    browser = Client(SessionMiddleware(Routes(login=log_in), **settings("store", trusted_proxies=["unix"])))
    headers = [(b"x-forwarded-for", b"198.51.100.7")]
    assert browser.get("/login", headers=headers, client=client, server=server).text == address


def test_the_store_has_acknowledged_before_a_header_leaves() -> None:
    store = FaultyStore(MemoryStore())
    order: list[str] = []

    async def send(message: dict[str, Any]) -> None:
        order.extend([*(call.method for call in store.calls), message["type"]])
        store.forget()

    client = Client(SessionMiddleware(COUNTER, store=store))
    reply = client.get("/write")
    store.forget()
    asyncio.run(client.request("/write", send=send))
    assert order == ["load", "save", "http.response.start", "http.response.body"]
    order.clear()
    asyncio.run(client.request("/login", send=send))
    assert order == ["load", "rotate", "http.response.start", "http.response.body"]
    assert reply.cookies


@pytest.mark.parametrize("kind", KINDS)
def test_send_commits_when_it_is_called(kind: str) -> None:
    """A framework may keep what send() gives, and await it later."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        write(scope["session"])
        later = send(start())
        await later
        await send(chunk(b"kept"))

    client = Client(SessionMiddleware(app, **settings(kind)))
    assert client.get().text == "kept"
    assert NAME in client.cookies


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_no_response_start_passes(kind: str) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        write(scope["session"])
        await send({"type": "http.response.early_hint", "links": [b"</a>; rel=preload"]})
        scope["session"]["late"] = 1  # nothing has been committed yet
        await respond(send)

    messages: list[dict[str, Any]] = []
    client = Client(SessionMiddleware(app, **settings(kind)))
    asyncio.run(client.request(messages=messages))
    assert [message["type"].rpartition(".")[2] for message in messages] == ["early_hint", "start", "body"]


# -- after the response started ----------------------------------------------------------------------------------------


def streaming(late: Any, early: Any = read) -> Any:
    """An app that does *early* before and *late* after its response start."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        session = scope["session"]
        if scope["path"] != "/":
            await respond(send, {"/write": write, "/look": lambda s: dict(s)}[scope["path"]](session))
            return
        early(session)
        await send(start())
        await send(chunk(b"a", more=True))
        answer = late(session)
        await send(chunk(str(answer).encode()))

    return app


@pytest.mark.parametrize("early", [read, lambda session: None], ids=["touched", "untouched"])
def test_a_stored_session_may_be_written_while_streaming(early: Any) -> None:
    client = Client(SessionMiddleware(streaming(lambda s: s.set("late", 1), early), store=MemoryStore()))
    client.get("/write")
    client.get("/")
    assert client.get("/look").text == "{'n': 1, 'late': 1}"


def test_a_session_made_in_this_response_may_be_written_while_streaming() -> None:
    client = Client(SessionMiddleware(streaming(lambda s: s.set("late", 1), write), store=MemoryStore()))
    client.get("/")
    assert client.get("/look").text == "{'n': 1, 'late': 1}"


@pytest.mark.parametrize("storage", ["global", "cart"])
def test_what_is_held_may_change_while_streaming(storage: str) -> None:
    held: list[Any] = []

    def hold(session: Session) -> None:
        held.append(session.get_from(storage, "items"))

    def change(session: Session) -> None:
        held[-1].append(2)  # the session itself is not touched again

    fill = SessionMiddleware(handler(lambda s: s.set("n", 1).set_to("items", [1], storage).to_dict()), store="memory:")
    client = Client(fill)
    client.get()
    fill.app = streaming(change, hold)
    client.get()
    fill.app = handler(lambda session: session.get_from(storage, "items"))
    assert client.get().text == "[1, 2]"


def test_a_late_queue_is_kept() -> None:
    client = Client(SessionMiddleware(streaming(lambda s: s.put("late", 1)), store=MemoryStore()))
    client.get("/write")
    client.get("/")
    assert client.get("/look").text == "{'n': 1, 'late': 1}"


LATE = {
    "login": lambda s: s.login(user_id="ada"),
    "regenerate": lambda s: s.regenerate(),
    "start": lambda s: s.start(),
    "expire_after": lambda s: s.expire_after(None),
}
WRITES = {
    **LATE,
    "set": lambda s: s.__setitem__("late", 1),
    "delete": lambda s: s.pop("n", None),
    "queue": lambda s: s.put("late", 1),
    "update": lambda s: s.update_with("late", lambda n: n + 1, 0),
    "clear": lambda s: s.clear(),
    "logout": lambda s: s.logout(),
    "attempt": lambda s: s.attempt(),
}


@pytest.mark.parametrize("early", [read, lambda session: None], ids=["touched", "untouched"])
@pytest.mark.parametrize("call", LATE.values(), ids=LATE)
def test_what_needs_a_cookie_comes_too_late(call: Any, early: Any) -> None:
    client = Client(SessionMiddleware(streaming(call, early), store=MemoryStore()))
    client.get("/write")
    with pytest.raises(SessionClosedError, match="start"):
        client.get("/")
    assert client.get("/look").text == "{'n': 1}"


@pytest.mark.parametrize("early", [read, lambda session: None], ids=["touched", "untouched"])
@pytest.mark.parametrize("call", WRITES.values(), ids=WRITES)
def test_a_session_that_cannot_be_kept_any_more_refuses_late_writes(call: Any, early: Any) -> None:
    store = FaultyStore(MemoryStore())
    with pytest.raises(SessionClosedError):
        Client(SessionMiddleware(streaming(call, early), store=store)).get("/")  # brand-new
    assert store.count("create") == 0
    client = Client(SessionMiddleware(streaming(call, early), secret_key=SECRET))
    client.get("/write")
    with pytest.raises(SessionClosedError):
        client.get("/")
    assert client.get("/look").text == "{'n': 1}"


ROUTES_IN = Routes(
    login=lambda s: (s.login(user_id="ada"), s.set("cart", 1)), me=lambda s: (s.user_id, s.online(), dict(s))
)


@pytest.mark.parametrize(
    ("call", "left"),
    [
        (lambda s: s.logout(), "(None, False, {'cart': 1})"),
        (lambda s: s.logout(clear_data=True), "(None, False, {})"),
        (lambda s: s.destroy(), "(None, False, {})"),
        (lambda s: s.destroy(True), "(None, False, {})"),
    ],
    ids=["logout", "logout and clear", "destroy", "destroy all"],
)
def test_a_late_ending_is_carried_out_in_place(call: Any, left: str) -> None:
    inner = streaming(call)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await (inner if scope["path"] == "/" else ROUTES_IN)(scope, receive, send)

    client = Client(SessionMiddleware(app, store=MemoryStore()))
    client.get("/login")
    thief = client.copy()
    assert thief.get("/me").text == "('ada', True, {'cart': 1})"
    client.get("/")
    assert client.get("/me").text == left
    assert thief.get("/me").text == left


@pytest.mark.parametrize("early", [read, write, lambda session: None], ids=["read", "written", "untouched"])
@pytest.mark.parametrize("kind", KINDS)
def test_after_the_app_returned_nothing_can_be_written(kind: str, early: Any) -> None:
    kept: list[Session] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        kept.append(scope["session"])
        await respond(send, early(scope["session"]))

    client = Client(SessionMiddleware(app, **settings(kind)))
    client.get()
    client.get()
    for session in kept:
        for name, call in WRITES.items():
            with pytest.raises(SessionClosedError, match=r"over|started"):
                raised(AssertionError(name)) if call(session) else None


def test_a_background_task_may_write_a_stored_session() -> None:
    """As Starlette's background tasks run: after the body, inside the app's call."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["path"] == "/":
            await respond(send, read(scope["session"]))
        else:
            await respond(send, scope["session"].get("task", 0))
            scope["session"].update_with("task", lambda n: n + 1, 0)
            await scope["session"].acommit()
            scope["session"].update_with("task", lambda n: n + 1, 0)

    client = Client(SessionMiddleware(Routes(write=write), store=(store := MemoryStore())))
    client.get("/write")
    client = Client(SessionMiddleware(app, store=store), client.cookies)
    assert [client.get("/task").text for _ in range(3)] == ["0", "2", "4"]


# -- errors of the app -------------------------------------------------------------------------------------------------


class BoomError(Exception):
    """An app's own fault."""


ENDINGS = {
    "logout": (lambda s: s.logout(), "(None, False, {'cart': 1})"),
    "logout and clear": (lambda s: s.logout(clear_data=True), "(None, False, {})"),
    "clear": (lambda s: s.clear(), "(None, False, {})"),
    "destroy": (lambda s: s.destroy(), "(None, False, {})"),
    "destroy all": (lambda s: s.destroy(True), "(None, False, {})"),
}


@pytest.mark.parametrize(("call", "left"), ENDINGS.values(), ids=ENDINGS)
def test_an_error_never_undoes_an_ending(call: Any, left: str) -> None:
    def fail(session: Session) -> None:
        session["dropped"] = 1
        session.put("queued", 1)
        call(session)
        raise BoomError

    client = Client(SessionMiddleware(Routes(**ROUTES_IN.routes, fail=fail), store=MemoryStore()))
    client.get("/login")
    messages: list[dict[str, Any]] = []
    with pytest.raises(BoomError):
        asyncio.run(client.request("/fail", messages=messages))
    assert messages == []  # the server answers
    assert client.get("/me").text == left


@pytest.mark.parametrize("remembered", [False, True], ids=["without revocation", "with revocation"])
@pytest.mark.parametrize("call", [call for call, _ in ENDINGS.values()], ids=ENDINGS)
def test_an_error_undoes_the_ending_of_a_sealed_session_that_nobody_remembers(call: Any, remembered: bool) -> None:
    """The old cookie is all there is, and no response of ours says a word of it; docs/middleware.md tells."""

    def fail(session: Session) -> None:
        call(session)
        raise BoomError

    memory = {"revocation": MemoryStore(evict=False)} if remembered else {}
    client = Client(SessionMiddleware(Routes(**ROUTES_IN.routes, fail=fail), secret_key=SECRET, **memory))
    client.get("/login")
    before = client.get("/me").text
    with pytest.raises(BoomError):
        client.get("/fail")
    assert client.get("/me").text == ("(None, False, {})" if remembered else before)


@pytest.mark.parametrize(
    "call",
    [write, lambda s: s.put("q", 1), lambda s: s.regenerate(), lambda s: s.login(user_id="eve"), lambda s: s.attempt()],
    ids=["write", "queue", "regenerate", "login", "attempt"],
)
@pytest.mark.parametrize("kind", KINDS)
def test_an_error_drops_every_other_change(kind: str, call: Any) -> None:
    def fail(session: Session) -> None:
        call(session)
        raise BoomError

    client = Client(SessionMiddleware(Routes(**ROUTES_IN.routes, fail=fail), **settings(kind)))
    with pytest.raises(BoomError):
        client.get("/fail")
    client.get("/login")
    with pytest.raises(BoomError):
        client.get("/fail")
    assert client.get("/me").text == "('ada', True, {'cart': 1})"


def test_an_error_while_streaming_keeps_what_was_set_and_drops_the_queue() -> None:
    def late(session: Session) -> None:
        session["late"] = 1
        session.put("queued", 1)
        raise BoomError

    client = Client(SessionMiddleware(streaming(late), store=MemoryStore()))
    client.get("/write")
    messages: list[dict[str, Any]] = []
    with pytest.raises(BoomError):
        asyncio.run(client.request("/", messages=messages))
    assert [message["type"] for message in messages] == ["http.response.start", "http.response.body"]
    assert client.get("/look").text == "{'n': 1, 'late': 1}"


@pytest.mark.parametrize("kind", KINDS)
def test_the_error_page_outside_may_read_what_nobody_had_looked_at(kind: str) -> None:
    """As Starlette's ``exception_handlers={Exception: page}`` does."""
    store = FaultyStore(MemoryStore())
    inner = SessionMiddleware(
        Routes(**ROUTES_IN.routes, fail=lambda s: raised(BoomError())),
        **({"secret_key": SECRET} if kind == "cookie" else {"store": store}),
        strict_session_ip=True,
    )
    failed: list[Session] = []

    async def page(scope: Any, receive: Any, send: Any) -> None:
        try:
            await inner(scope, receive, send)
        except BoomError:
            failed.append(scope["session"])
            await respond(send, (scope["session"].get("cart"), scope["session"].user_id), 500)

    client = Client(page)
    client.get("/login")
    store.calls.clear()
    reply = client.get("/fail")
    assert (reply.status, reply.text, reply.cookies) == (500, "(1, 'ada')", [])
    assert store.calls == [] if kind == "cookie" else [call.method for call in store.calls] == ["load"]
    client.get("/fail")
    for name, call in WRITES.items():
        for session in failed:
            with pytest.raises(SessionClosedError, match=r"over|started"):
                raised(AssertionError(name)) if call(session) else None
    thief = Client(page, client.cookies, client=("198.51.100.66", 1))
    assert thief.get("/fail").text == "(None, None)"
    assert client.get("/me").text == "('ada', True, {'cart': 1})"


@pytest.mark.parametrize("kind", KINDS)
def test_who_only_says_that_an_app_failed_reads_nothing(kind: str) -> None:
    store = FaultyStore(MemoryStore())
    settings = {"secret_key": SECRET} if kind == "cookie" else {"store": store}
    client = Client(SessionMiddleware(Routes(fail=lambda s: raised(BoomError())), **settings))
    with pytest.raises(BoomError):
        client.get("/fail")
    session = client.scope["session"]
    assert repr(session) == "<Session not loaded>"
    assert store.count("load") == 0
    for call in (lambda: session.start("x.y"), lambda: session.login(user_id="eve")):
        with pytest.raises(SessionClosedError, match=r"over|started"):
            call()


@pytest.mark.parametrize("kind", KINDS)
def test_an_app_that_never_answers_changes_nothing(kind: str) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["path"] == "/":
            await respond(send, read(scope["session"]))
        else:
            write(scope["session"])

    client = Client(SessionMiddleware(app, **settings(kind)))
    assert client.get("/write").messages == []
    assert client.get("/").text == "None"


@pytest.mark.parametrize(("call", "left"), ENDINGS.values(), ids=ENDINGS)
def test_an_app_that_never_answers_still_ends_what_it_ended(call: Any, left: str) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["path"] != "/gone":
            await ROUTES_IN(scope, receive, send)
            return
        scope["session"]["dropped"] = 1
        call(scope["session"])

    client = Client(SessionMiddleware(app, store=MemoryStore()))
    client.get("/login")
    assert client.get("/gone").messages == []
    assert client.get("/me").text == left


# -- scopes ------------------------------------------------------------------------------------------------------------


def test_other_scopes_pass_through_untouched() -> None:
    seen: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append((scope, receive, send))

    scope, receive, send = {"type": "telnet"}, object(), object()
    asyncio.run(SessionMiddleware(app, store=FaultyStore(MemoryStore()))(scope, receive, send))  # type: ignore[arg-type]
    assert seen == [({"type": "telnet"}, receive, send)]
    assert seen[0][0] is scope


@pytest.mark.parametrize("kind", KINDS)
def test_a_mounted_app_shares_the_session(kind: str) -> None:
    """Routers hand a copy of the scope on."""

    async def mounted(scope: Any, receive: Any, send: Any) -> None:
        await respond(send, write(scope["session"]))

    async def app(scope: Any, receive: Any, send: Any) -> None:
        scope["session"]["n"] = 41
        await mounted({**scope, "root_path": "/sub"}, receive, send)

    client = Client(SessionMiddleware(app, **settings(kind)))
    assert client.get("/sub").text == "42"


@pytest.mark.parametrize("between", [False, True])
@pytest.mark.parametrize("kind", ["http", "websocket"])
def test_two_middlewares_with_one_cookie_name_are_refused(kind: str, between: bool) -> None:
    inner = SessionMiddleware(handler(read), secret_key=SECRET)
    if between:
        inner = SessionMiddleware(inner, secret_key=SECRET, table_index="between")
    client = Client(SessionMiddleware(inner, store=MemoryStore()))
    with pytest.raises(ConfigurationError, match=f"two SessionMiddlewares use the cookie '{NAME}'"):
        client.get(kind=kind)


@pytest.mark.parametrize("kind", KINDS)
def test_an_app_may_be_called_again_within_one_request(kind: str) -> None:
    """As retries, cascades and error documents do."""
    calls: list[Session] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        calls.append(scope["session"])
        await respond(send, write(scope["session"]) if len(calls) > 1 else "busy")

    sessions = SessionMiddleware(app, **settings(kind))

    async def again(scope: Any, receive: Any, send: Any) -> None:
        async def unheard(message: Any) -> None: ...

        await sessions(scope, receive, unheard)
        await sessions(scope, receive, send)

    reply = Client(again).get()
    assert (reply.text, len(reply.cookies)) == ("1", 1)
    assert calls[0] is not calls[1]


@pytest.mark.parametrize("kind", ["http", "websocket"])
def test_an_app_that_failed_may_be_called_again(kind: str) -> None:
    calls: list[Session] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        calls.append(scope["session"])
        raise BoomError

    sessions = SessionMiddleware(app, secret_key=SECRET)

    async def again(scope: Any, receive: Any, send: Any) -> None:
        for _ in range(2):
            with contextlib.suppress(BoomError):
                await sessions(scope, receive, send)

    Client(again).get(kind=kind)
    assert len(calls) == 2


@pytest.mark.parametrize("kind", KINDS)
def test_a_session_that_is_put_in_our_place_is_told_once(kind: str, caplog: pytest.LogCaptureFixture) -> None:
    async def clear(scope: Any, receive: Any, send: Any) -> None:
        scope["session"] = {"theirs": 1}  # as a framework's own session middleware does
        await handler(lambda session: "ok")(scope, receive, send)

    client = Client(SessionMiddleware(clear, **settings(kind)))
    client.get()
    client.get()
    (record,) = caplog.records
    assert "replaced scope['session'] by a dict" in record.getMessage()
    caplog.clear()
    inner = SessionMiddleware(handler(read), table_index="inner", **settings(kind))
    Client(SessionMiddleware(inner, **settings(kind))).get()
    assert not caplog.records  # ours, under another name


@pytest.mark.parametrize("kind", KINDS)
def test_two_middlewares_with_two_names_keep_two_sessions(kind: str) -> None:
    def both(session: Session) -> str:
        assert current_session() is session
        return write(session)

    inner = SessionMiddleware(handler(both), table_index="inner", **settings(kind))

    async def between(scope: Any, receive: Any, send: Any) -> None:
        outer = scope["session"]
        outer["outer"] = outer.get("outer", 0) + 10
        assert current_session() is outer
        await inner(dict(scope), receive, send)
        assert current_session() is outer

    client = Client(SessionMiddleware(between, **settings(kind)))
    reply = client.get()
    assert len(reply.cookies) == 2
    assert set(client.cookies) == {NAME, f"{NAME}-inner"}
    assert client.get().text == "2"


# -- current_session ---------------------------------------------------------------------------------------------------


def test_current_session_is_the_request_s_and_no_other_s() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        session = scope["session"]
        assert current_session() is session

        async def task() -> bool:
            return current_session() is session

        assert await asyncio.create_task(task())
        assert await asyncio.to_thread(lambda: current_session() is session)
        thread: list[Any] = []

        def bare() -> None:
            try:
                thread.append(current_session())
            except SessionStateError as error:
                thread.append(error)

        runner = threading.Thread(target=bare)  # a plain thread has a context of its own
        runner.start()
        runner.join()
        assert isinstance(thread[0], SessionStateError)
        await respond(send)

    async def main() -> None:
        client = Client(SessionMiddleware(app, secret_key=SECRET))
        await asyncio.gather(*(client.copy().request() for _ in range(5)))
        with pytest.raises(SessionStateError, match=r"app = SessionMiddleware\(app, secret_key="):
            current_session()

    asyncio.run(main())


def test_current_session_ends_with_a_failed_request() -> None:
    async def main() -> None:
        with pytest.raises(BoomError):
            await Client(SessionMiddleware(handler(lambda s: raised(BoomError())), secret_key=SECRET)).request()
        with pytest.raises(SessionStateError):
            current_session()

    asyncio.run(main())


# -- tidiness ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/", "/write", "/anon", "/login"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_request_leaves_nothing_to_the_garbage_collector(kind: str, path: str) -> None:
    async def main() -> int:
        client = Client(SessionMiddleware(COUNTER, **settings(kind)))
        for _ in range(3):
            await client.request(path)
        client.scope = {}
        gc.collect()
        gc.disable()
        try:
            for _ in range(20):
                await client.request(path)
            client.scope = {}
            return gc.collect()
        finally:
            gc.enable()

    assert asyncio.run(main()) == 0


# -- lifespan ----------------------------------------------------------------------------------------------------------


async def lifespan(app: Any) -> list[str]:
    """Start *app* up and shut it down; what it sent."""
    sent: list[str] = []
    incoming = [{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}]

    async def receive() -> Any:
        return incoming.pop(0)

    async def send(message: Any) -> None:
        sent.append(message["type"])

    await app({"type": "lifespan", "asgi": {"version": "3.0"}}, receive, send)
    return sent


@pytest.mark.parametrize("ends", ["complete", "failed"])
def test_lifespan_opens_the_store_before_the_app_and_closes_it_after(ends: str) -> None:
    store = FaultyStore(MemoryStore())
    order: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        for name in ("startup", "shutdown"):
            assert (await receive())["type"] == f"lifespan.{name}"
            order.extend(["app", *(call.method for call in store.calls)])
            store.forget()
            await send({"type": f"lifespan.{name}.{'complete' if name == 'startup' else ends}"})
        order.extend(call.method for call in store.calls)

    wrapped = SessionMiddleware(app, store=store)
    assert asyncio.run(lifespan(wrapped)) == ["lifespan.startup.complete", f"lifespan.shutdown.{ends}"]
    assert order == ["app", "initialize", "app", "teardown"]


def test_lifespan_is_left_to_the_app_where_nothing_is_stored() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await send({"type": "lifespan.shutdown.complete"})

    sent = asyncio.run(lifespan(SessionMiddleware(app, secret_key=SECRET)))
    assert sent == ["lifespan.startup.complete", "lifespan.shutdown.complete"]


def test_a_store_that_cannot_be_opened_fails_the_start_with_its_reason() -> None:
    """A server takes an exception for "no lifespan here" and goes on; it heeds startup.failed."""
    store = FaultyStore(MemoryStore())
    store.fail("initialize", error=StoreError("no such directory"))
    sent: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()

    async def receive() -> Any:
        return {"type": "lifespan.startup"}

    async def send(message: Any) -> None:
        sent.append(message)

    with pytest.raises(StoreError, match="no such directory"):
        asyncio.run(SessionMiddleware(app, store=store)({"type": "lifespan"}, receive, send))
    assert sent == [{"type": "lifespan.startup.failed", "message": "the session store: no such directory"}]


def test_without_lifespan_the_store_is_opened_by_the_first_request() -> None:
    store = FaultyStore(MemoryStore())
    client = Client(SessionMiddleware(COUNTER, store=store))
    client.get("/write")
    client.get("/write")
    assert store.count("initialize") == 1


def test_the_clock_decides() -> None:
    clock = Clock()
    client = Client(SessionMiddleware(COUNTER, secret_key=SECRET, clock=clock, idle_timeout=100))
    client.get("/write")
    clock.advance(99)
    assert client.get("/").text == "1"  # and re-sealed: the idle deadline slides
    clock.advance(99)
    assert client.get("/").text == "1"
    clock.advance(100)
    assert client.get("/").text == "None"


def test_a_reply_has_one_start() -> None:
    """The driver itself notices a second response start."""
    with pytest.raises(AssertionError, match="starts once"):
        Reply([start(), start()])
