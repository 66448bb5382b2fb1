"""WSGI: when a response starts, what it carries, and that all of it ends; ``wsgiref.validate`` watches both sides."""

from __future__ import annotations

import contextlib
import gc
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any
from wsgiref.util import FileWrapper
from wsgiref.validate import validator

import pytest
from asgi_driver import NAME, SECRET
from wsgi_driver import WSGIClient, WSGIReply

from session_mw import (
    ConfigurationError,
    Session,
    SessionClosedError,
    SessionSerializationError,
    SessionStateError,
    StoreError,
    current_session,
)
from session_mw.core.event import Event
from session_mw.stores.memory import MemoryStore
from session_mw.testing import FaultyStore
from session_mw.wsgi import ENVIRON_KEY, SessionMiddleware

KINDS = ["cookie", "store"]
TEXT = [("Content-Type", "text/plain")]


def settings(kind: str, **more: Any) -> dict[str, Any]:
    return {"secret_key": SECRET, **more} if kind == "cookie" else {"store": MemoryStore(), **more}


def write(session: Session) -> str:
    session["n"] = session.get("n", 0) + 1
    return str(session["n"])


def read(session: Session) -> str:
    return repr(session.get("n"))


ROUTES: dict[str, Callable[[Session], object]] = {
    "/": read,
    "/write": write,
    "/anon": lambda s: "anon",
    "/login": lambda s: (s.login(user_id="ada"), s.set("cart", 1)),
    "/logout": lambda s: s.logout(),
    "/destroy": lambda s: s.destroy(),
    "/me": lambda s: (s.user_id, s.online(), dict(s)),
    "/look": lambda s: dict(s),
}


def routes(environ: Any, start_response: Any) -> list[bytes]:
    body = str(ROUTES[environ["PATH_INFO"]](environ[ENVIRON_KEY])).encode()
    start_response("200 OK", list(TEXT))
    return [body]


def beside(app: Any, path: str = "/x") -> Any:
    """*app* at *path*, the routes elsewhere."""

    def both(environ: Any, start_response: Any) -> Any:
        return (app if environ["PATH_INFO"] == path else routes)(environ, start_response)

    return both


ENDINGS: dict[str, tuple[Callable[[Session], object], str]] = {
    "logout": (lambda s: s.logout(), "(None, False, {'cart': 1})"),
    "destroy": (lambda s: s.destroy(), "(None, False, {})"),
}


# -- what a response carries -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_a_session_is_kept_from_one_request_to_the_next(kind: str) -> None:
    client = WSGIClient(SessionMiddleware(validator(routes), **settings(kind)))
    assert client.get("/write").text == "1"
    assert client.get("/write").text == "2"
    assert client.get("/").text == "2"


@pytest.mark.parametrize("kind", KINDS)
def test_headers(kind: str) -> None:
    client = WSGIClient(SessionMiddleware(routes, **settings(kind)))
    assert client.get("/anon").headers == [("content-type", "text/plain")]
    assert client.get("/").headers == [("content-type", "text/plain"), ("vary", "Cookie")]
    reply = client.get("/write")
    assert (reply.one("vary"), reply.one("cache-control")) == ("Cookie", "no-store")
    assert reply.one("set-cookie").startswith(f"{NAME}=")
    assert client.get("/anon").headers == [("content-type", "text/plain")]
    assert "Max-Age=0" in client.get("/destroy").one("set-cookie")
    assert client.cookies == {}


def test_an_ignored_session_costs_no_store_call() -> None:
    store = FaultyStore(MemoryStore())
    client = WSGIClient(SessionMiddleware(routes, store=store))
    client.get("/write")
    store.forget()
    client.get("/anon")
    assert store.count() == 0


@pytest.mark.parametrize("kind", KINDS)
def test_head_commits_like_get(kind: str) -> None:
    def app(environ: Any, start_response: Any) -> list[bytes]:
        write(environ[ENVIRON_KEY])
        start_response("200 OK", list(TEXT))
        return []

    client = WSGIClient(SessionMiddleware(beside(app), **settings(kind)))
    assert len(client.get("/x", method="HEAD").cookies) == 1
    assert client.get("/").text == "1"


def test_an_app_s_own_header_list_is_not_changed() -> None:
    headers = [("Content-Type", "text/plain"), ("Vary", "Accept")]

    def app(environ: Any, start_response: Any) -> list[bytes]:
        write(environ[ENVIRON_KEY])
        start_response("200 OK", headers)
        return [b""]

    client = WSGIClient(SessionMiddleware(app, secret_key=SECRET))
    assert client.get().one("vary") == "Accept, Cookie"
    assert headers == [("Content-Type", "text/plain"), ("Vary", "Accept")]


# -- when it starts ----------------------------------------------------------------------------------------------------


def shapes() -> dict[str, Any]:
    """The ways an app may answer; each sets ``n``."""

    def listed(environ: Any, start_response: Any) -> Any:
        start_response("200 OK", list(TEXT))
        write(environ[ENVIRON_KEY])
        return [b"a", b"b"]

    def late_in_list(environ: Any, start_response: Any) -> Any:
        write(environ[ENVIRON_KEY])
        start_response("200 OK", list(TEXT))
        return [b"", b"ab"]

    def tupled(environ: Any, start_response: Any) -> Any:
        return tuple(listed(environ, start_response))

    def empty(environ: Any, start_response: Any) -> Any:
        write(environ[ENVIRON_KEY])
        start_response("204 No Content", [])
        return []

    def generator(environ: Any, start_response: Any) -> Any:
        start_response("200 OK", list(TEXT))
        yield b""
        write(environ[ENVIRON_KEY])
        yield b"a"
        yield b"b"

    def late_start(environ: Any, start_response: Any) -> Any:
        yield b""
        yield b""
        write(environ[ENVIRON_KEY])
        start_response("200 OK", list(TEXT))
        yield b"ab"

    def only_empty(environ: Any, start_response: Any) -> Any:
        start_response("200 OK", list(TEXT))
        yield b""
        write(environ[ENVIRON_KEY])
        yield b""

    def written(environ: Any, start_response: Any) -> Any:
        send = start_response("200 OK", list(TEXT))
        write(environ[ENVIRON_KEY])
        send(b"a")
        send(b"b")
        return []

    def written_and_returned(environ: Any, start_response: Any) -> Any:
        send = start_response("200 OK", list(TEXT))
        write(environ[ENVIRON_KEY])
        send(b"a")
        return [b"b"]

    def filed(environ: Any, start_response: Any) -> Any:
        write(environ[ENVIRON_KEY])
        start_response("200 OK", list(TEXT))
        return environ["wsgi.file_wrapper"](Body(b"ab"), 1)

    shapes = (
        listed,
        late_in_list,
        tupled,
        empty,
        generator,
        late_start,
        only_empty,
        written,
        written_and_returned,
        filed,
    )
    return {shape.__name__: shape for shape in shapes}


class Body:
    """A file, or an iterable, that knows whether it was closed."""

    closed = False

    def __init__(self, data: bytes = b"") -> None:
        self.data = data

    def read(self, size: int) -> bytes:
        part, self.data = self.data[:size], self.data[size:]
        return part

    def close(self) -> None:
        self.closed = True


@pytest.mark.parametrize("shape", shapes())
@pytest.mark.parametrize("kind", KINDS)
def test_every_shape_of_answer_commits_once(kind: str, shape: str) -> None:
    app = beside(validator(shapes()[shape]) if shape not in ("tupled", "late_start") else shapes()[shape])
    checked = shape != "late_start"  # the validator wants start_response before the iterable
    client = WSGIClient(SessionMiddleware(app, **settings(kind)), checked=checked)
    for number in ("1", "2"):
        reply = client.get("/x", **{"wsgi.file_wrapper": FileWrapper})
        assert len(reply.starts) == 1
        assert reply.body == (b"" if shape in ("empty", "only_empty") else b"ab")
        assert reply.one("vary") == "Cookie"
        assert client.get("/").text == number


def test_the_start_waits_for_the_first_chunk_that_is_not_empty() -> None:
    """PEP 3333: headers are sent with the first non-empty string."""
    order: list[str] = []
    store = FaultyStore(MemoryStore())

    def app(environ: Any, start_response: Any) -> Iterator[bytes]:
        start_response("200 OK", list(TEXT))
        yield b""
        environ[ENVIRON_KEY]["late"] = 1
        yield b""
        order.append("app")
        yield b"x"

    def start_response(status: str, headers: Any, exc_info: Any = None) -> Any:
        order.extend([*(call.method for call in store.calls), "start"])
        return lambda data: None

    client = WSGIClient(SessionMiddleware(app, store=store))
    body = SessionMiddleware(app, store=store)(client.environ(), start_response)
    assert b"".join(body) == b"x"
    assert order == ["app", "initialize", "create", "start"]


@pytest.mark.parametrize("early", [read, lambda s: None], ids=["touched", "untouched"])
def test_late_writes_of_a_generator(early: Any) -> None:
    def app(environ: Any, start_response: Any) -> Iterator[bytes]:
        early(environ[ENVIRON_KEY])
        start_response("200 OK", list(TEXT))
        yield b"a"
        environ[ENVIRON_KEY]["late"] = 1
        environ[ENVIRON_KEY].put("queued", 2)
        yield b"b"

    client = WSGIClient(SessionMiddleware(beside(app), store=MemoryStore()))
    client.get("/write")
    client.get("/x")
    assert client.get("/look").text == "{'n': 1, 'late': 1, 'queued': 2}"
    for refuser in (
        client.copy_to(SessionMiddleware(app, secret_key=SECRET)),
        client.copy_to(SessionMiddleware(app, store=MemoryStore())),
    ):
        with pytest.raises(SessionClosedError):
            refuser.get("/x")


def test_late_writes_after_write() -> None:
    def app(environ: Any, start_response: Any) -> list[bytes]:
        send = start_response("200 OK", list(TEXT))
        read(environ[ENVIRON_KEY])
        send(b"a")
        environ[ENVIRON_KEY]["late"] = 1
        return [b"b"]

    client = WSGIClient(SessionMiddleware(beside(app), store=MemoryStore()))
    client.get("/write")
    client.get("/x")
    assert client.get("/look").text == "{'n': 1, 'late': 1}"


def test_an_app_that_fails_after_write_keeps_what_was_set_and_no_queue() -> None:
    def app(environ: Any, start_response: Any) -> list[bytes]:
        send = start_response("200 OK", list(TEXT))
        read(environ[ENVIRON_KEY])
        send(b"a")
        environ[ENVIRON_KEY].set("late", 1).put("queued", 2)
        raise LookupError("of the app")

    heard: list[Event] = []
    client = WSGIClient(SessionMiddleware(beside(app), store=MemoryStore(), on_event=heard.append))
    client.get("/write")
    with pytest.raises(LookupError, match="of the app"):
        client.get("/x")
    assert (heard[-1].name, heard[-1].reason) == ("close", "error")
    assert client.get("/look").text == "{'n': 1, 'late': 1}"
    assert (heard[-1].name, heard[-1].reason) == ("close", "")


@pytest.mark.parametrize("kind", KINDS)
def test_after_the_response_nothing_can_be_written(kind: str) -> None:
    kept: list[Session] = []

    def app(environ: Any, start_response: Any) -> list[bytes]:
        kept.append(environ[ENVIRON_KEY])
        return routes(environ, start_response)

    client = WSGIClient(SessionMiddleware(app, **settings(kind)))
    for path in ("/write", "/", "/anon"):
        client.get(path)
        with pytest.raises(SessionClosedError, match="over"):
            kept[-1]["late"] = 1


def test_a_client_gone_half_way_keeps_what_was_written() -> None:
    body = Body()

    def app(environ: Any, start_response: Any) -> Any:
        start_response("200 OK", list(TEXT))

        def steps() -> Iterator[bytes]:
            read(environ[ENVIRON_KEY])
            yield b"a"
            environ[ENVIRON_KEY]["late"] = 1
            yield b"b"
            raise AssertionError("nobody asks for more")

        class Closing:
            def __init__(self) -> None:
                self.steps = steps()

            def __iter__(self) -> Iterator[bytes]:
                return self.steps

            close = body.close

        return Closing()

    client = WSGIClient(SessionMiddleware(beside(app), store=MemoryStore()), checked=False)
    client.get("/write")
    client.get("/x", read=1)
    assert body.closed
    assert client.get("/look").text == "{'n': 1, 'late': 1}"


def test_a_body_nobody_reads_commits_nothing() -> None:
    def app(environ: Any, start_response: Any) -> Iterator[bytes]:
        start_response("200 OK", list(TEXT))
        write(environ[ENVIRON_KEY])
        yield b"a"

    store = FaultyStore(MemoryStore())
    client = WSGIClient(SessionMiddleware(app, store=store), checked=False)
    body = client.app(client.environ(), lambda *args: pytest.fail("started"))
    body.close()
    assert store.count("create") == 0


@pytest.mark.parametrize(("call", "left"), ENDINGS.values(), ids=ENDINGS)
def test_a_body_nobody_reads_still_ends_what_the_app_ended(call: Any, left: str) -> None:
    def app(environ: Any, start_response: Any) -> Iterator[bytes]:
        environ[ENVIRON_KEY]["dropped"] = 1
        call(environ[ENVIRON_KEY])
        start_response("200 OK", list(TEXT))
        return iter([b"a"])

    client = WSGIClient(SessionMiddleware(beside(app), store=MemoryStore()), checked=False)
    client.get("/login")
    body = client.app(client.environ("/x"), lambda *args: pytest.fail("started"))
    body.close()
    assert client.get("/me").text == left


# -- errors ------------------------------------------------------------------------------------------------------------


class BoomError(Exception):
    """An app's own fault."""


def failing(where: str, before: Callable[[Session], object]) -> Any:
    """An app that does *before* and fails at *where*, before its response has started."""

    def generator(session: Session, start_response: Any) -> Iterator[bytes]:
        if where == "first step":
            before(session)
            raise BoomError
        start_response("200 OK", list(TEXT))
        yield b""
        before(session)
        raise BoomError

    def app(environ: Any, start_response: Any) -> Any:
        session = environ[ENVIRON_KEY]
        if where == "call":
            before(session)
            raise BoomError
        return generator(session, start_response)

    return app


WHERE = ["call", "first step", "empty chunk"]


@pytest.mark.parametrize("where", WHERE)
def test_an_error_never_undoes_a_logout(where: str) -> None:
    def before(session: Session) -> None:
        session["dropped"] = 1
        session.logout()

    client = WSGIClient(SessionMiddleware(beside(failing(where, before)), store=MemoryStore()), checked=False)
    client.get("/login")
    reply = WSGIReply()
    with pytest.raises(BoomError):
        client.get("/x", reply=reply)
    assert reply.starts == []
    assert client.get("/me").text == "(None, False, {'cart': 1})"


@pytest.mark.parametrize("where", WHERE)
@pytest.mark.parametrize("kind", KINDS)
def test_an_error_drops_every_other_change(kind: str, where: str) -> None:
    client = WSGIClient(SessionMiddleware(beside(failing(where, write)), **settings(kind)), checked=False)
    client.get("/write")
    with pytest.raises(BoomError):
        client.get("/x")
    assert client.get("/").text == "1"


@pytest.mark.parametrize("kind", KINDS)
def test_exc_info_replaces_the_answer_before_it_started(kind: str) -> None:
    def app(environ: Any, start_response: Any) -> list[bytes]:
        write(environ[ENVIRON_KEY])
        start_response("200 OK", list(TEXT))
        try:
            raise BoomError
        except BoomError:
            start_response("500 Internal Server Error", [("Content-Type", "text/html")], sys.exc_info())
        return [b"sorry"]

    client = WSGIClient(SessionMiddleware(beside(app), **settings(kind)))
    reply = client.get("/x")
    assert (reply.status, reply.text, len(reply.starts)) == (500, "sorry", 1)
    assert reply.one("content-type") == "text/html"
    assert len(reply.cookies) == 1


def test_exc_info_after_the_start_is_the_server_s() -> None:
    def app(environ: Any, start_response: Any) -> Iterator[bytes]:
        write(environ[ENVIRON_KEY])
        start_response("200 OK", list(TEXT))
        yield b"half"
        try:
            raise BoomError
        except BoomError:
            start_response("500 Internal Server Error", list(TEXT), sys.exc_info())

    with pytest.raises(BoomError):
        WSGIClient(SessionMiddleware(app, secret_key=SECRET)).get()


def test_start_response_twice_without_exc_info_is_refused() -> None:
    def app(environ: Any, start_response: Any) -> list[bytes]:
        start_response("200 OK", list(TEXT))
        start_response("200 OK", list(TEXT))
        return []

    with pytest.raises(AssertionError, match="twice"):
        WSGIClient(SessionMiddleware(app, secret_key=SECRET), checked=False).get()


def test_a_body_without_start_response_is_refused() -> None:
    for body in ([b"x"], iter([b"x"]), []):
        with pytest.raises(AssertionError, match="before it called start_response"):
            WSGIClient(SessionMiddleware(lambda e, s, body=body: body, secret_key=SECRET), checked=False).get()


@pytest.mark.parametrize("shape", ["list", "generator"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_value_that_cannot_be_kept_is_raised_and_logs_out_all_the_same(kind: str, shape: str) -> None:
    def app(environ: Any, start_response: Any) -> Any:
        session = environ[ENVIRON_KEY]
        session.logout()
        session["a"] = []
        session["a"].append(object())
        start_response("200 OK", list(TEXT))
        return [b"x"] if shape == "list" else iter([b"x"])

    client = WSGIClient(SessionMiddleware(beside(app), **settings(kind)), checked=False)
    client.get("/login")
    reply = WSGIReply()
    with pytest.raises(SessionSerializationError):
        client.get("/x", reply=reply)
    assert reply.starts == []
    if kind == "store":
        assert client.get("/me").text == "(None, False, {'cart': 1})"


@pytest.mark.parametrize("how", ["returned", "written"])
@pytest.mark.parametrize("kind", KINDS)
def test_the_app_s_error_page_passes_when_its_session_cannot_be_kept(kind: str, how: str) -> None:
    raised: list[Exception] = []

    def app(environ: Any, start_response: Any) -> list[bytes]:
        session = environ[ENVIRON_KEY]
        session.logout()
        session["a"] = []
        session["a"].append(object())
        send = start_response("200 OK", list(TEXT))
        try:
            send(b"never sent")
        except SessionSerializationError as error:
            raised.append(error)
            send = start_response("500 Internal Server Error", list(TEXT), sys.exc_info())
        if how == "written":
            send(b"sorry")
            return []
        return [b"sorry"]

    client = WSGIClient(SessionMiddleware(beside(app), **settings(kind)))
    reply = client.get("/x")  # without a session, and with one
    assert (reply.status, reply.text, reply.cookies) == (500, "sorry", [])
    client.get("/login")
    reply = client.get("/x")
    assert (reply.status, reply.text) == (500, "sorry")
    assert client.get("/me").text == "(None, False, {'cart': 1})"
    assert len(raised) == 2


def test_the_app_s_body_is_closed_whatever_happens() -> None:
    class Steps(Body):
        def __init__(self, *steps: Any) -> None:
            self.steps = list(steps)

        def __iter__(self) -> Any:
            return self

        def __next__(self) -> bytes:
            if not self.steps:
                raise StopIteration
            step = self.steps.pop(0)
            if isinstance(step, Exception):
                raise step
            return step

    store = FaultyStore(MemoryStore())
    for steps in ([b"x"], [BoomError()], [b"", BoomError()], [b"x", BoomError()], [b"x", StoreError("x")], []):
        body = Steps(*steps)

        def app(environ: Any, start_response: Any, body: Any = body) -> Any:
            write(environ[ENVIRON_KEY])
            start_response("200 OK", list(TEXT))
            return body

        client = WSGIClient(SessionMiddleware(app, store=store), checked=False)
        with contextlib.suppress(BoomError, StoreError):
            client.get()
        assert body.closed
    store.fail("create")
    body = Steps(b"x")
    assert (
        WSGIClient(
            SessionMiddleware(lambda e, s: (write(e[ENVIRON_KEY]), s("200 OK", []), body)[2], store=store),
            checked=False,
        )
        .get()
        .status
        == 503
    )
    assert body.closed


def test_the_app_s_body_is_closed_once() -> None:
    class Steps(Iterator[bytes]):
        closed = 0

        def __next__(self) -> bytes:
            return b"x"

        def close(self) -> None:
            self.closed += 1

    steps = Steps()
    app = SessionMiddleware(lambda environ, start_response: (start_response("200 OK", []), steps)[1], secret_key=SECRET)
    body = app(WSGIClient(app).environ(), lambda *given: lambda data: None)
    assert next(iter(body)) == b"x"
    body.close()  # type: ignore[attr-defined]  # the client has gone
    del body
    gc.collect()
    assert steps.closed == 1


# -- the store fails ---------------------------------------------------------------------------------------------------


def is_503(reply: Any) -> bool:
    assert reply.status == 503
    assert reply.one("retry-after") == "5"
    assert reply.one("cache-control") == "no-store"
    assert reply.cookies == []
    assert len(reply.starts) == 1
    return b"please try again" in reply.body


@pytest.mark.parametrize("shape", [name for name in shapes() if name not in ("late_start", "empty")])
@pytest.mark.parametrize("method", ["initialize", "load", "save"])
def test_a_store_that_fails_is_503(method: str, shape: str, caplog: pytest.LogCaptureFixture) -> None:
    store = FaultyStore(MemoryStore())
    client = WSGIClient(SessionMiddleware(beside(shapes()[shape]), store=store))
    if method == "initialize":
        client.cookies[NAME] = "A" * 24 + "." + "B" * 44
    else:
        client.get("/write")
    before = dict(client.cookies)
    store.fail(method, times=None)
    assert is_503(client.get("/x", **{"wsgi.file_wrapper": FileWrapper}))
    assert len(caplog.records) == 1
    assert before[NAME] not in caplog.text
    store.heal()
    assert client.cookies == before
    assert client.get("/anon").status == 200
    if method != "initialize":
        assert client.get("/").text == "1"


def test_an_app_that_ignores_the_session_works_while_the_store_is_down() -> None:
    store = FaultyStore(MemoryStore())
    store.fail(None, times=None)
    client = WSGIClient(SessionMiddleware(routes, store=store), {NAME: "A" * 24 + "." + "B" * 44})
    assert client.get("/anon").text == "anon"
    assert is_503(client.get("/"))
    store.heal()
    assert client.get("/write").text == "1"


def test_an_app_may_answer_a_store_that_fails_itself() -> None:
    def app(environ: Any, start_response: Any) -> list[bytes]:
        try:
            write(environ[ENVIRON_KEY])
        except StoreError:
            start_response("200 OK", list(TEXT))
            return [b"closed for today"]
        raise AssertionError

    store = FaultyStore(MemoryStore())
    client = WSGIClient(SessionMiddleware(beside(app), store=store))
    client.get("/write")
    store.fail("load", times=None)
    assert client.get("/x").text == "closed for today"


def test_the_answer_may_be_one_s_own(caplog: pytest.LogCaptureFixture) -> None:
    store = FaultyStore(MemoryStore())

    def answer(environ: Any) -> Any:
        return 599, [("Content-Type", "text/html"), ("X-Path", environ["PATH_INFO"])], b"<p>soon"

    client = WSGIClient(SessionMiddleware(routes, store=store, store_error_response=answer))
    store.fail("create")
    reply = client.get("/write")
    assert (reply.status, reply.text, reply.one("x-path")) == (599, "<p>soon", "/write")
    client = WSGIClient(SessionMiddleware(routes, store=store, store_error_response=500))
    store.fail("create")
    assert client.get("/write").status == 500


def test_to_head_the_answer_has_no_body() -> None:
    store = FaultyStore(MemoryStore())
    client = WSGIClient(SessionMiddleware(routes, store=store), checked=False)
    store.fail("create")
    reply = client.get("/write", method="HEAD")
    assert (reply.status, reply.body) == (503, b"")


def test_a_store_that_fails_after_the_start_is_raised() -> None:
    def app(environ: Any, start_response: Any) -> Iterator[bytes]:
        read(environ[ENVIRON_KEY])
        start_response("200 OK", list(TEXT))
        yield b"a"
        environ[ENVIRON_KEY]["late"] = 1

    store = FaultyStore(MemoryStore())
    client = WSGIClient(SessionMiddleware(beside(app), store=store))
    client.get("/write")
    store.fail("save")
    with pytest.raises(StoreError):
        client.get("/x")


@pytest.mark.parametrize("where", WHERE)
def test_a_store_that_is_down_does_not_hide_the_app_s_own_error(where: str, caplog: pytest.LogCaptureFixture) -> None:
    store = FaultyStore(MemoryStore())

    def before(session: Session) -> None:
        session.logout()
        store.fail(None, times=None)

    client = WSGIClient(SessionMiddleware(beside(failing(where, before)), store=store), checked=False)
    client.get("/login")
    with pytest.raises(BoomError):
        client.get("/x")
    assert "could not be carried out" in caplog.text


# -- around it ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", ["list", "generator"])
def test_current_session_is_set_around_every_step(shape: str) -> None:
    seen: list[bool] = []

    def app(environ: Any, start_response: Any) -> Any:
        session = environ[ENVIRON_KEY]
        seen.append(current_session() is session)
        start_response("200 OK", list(TEXT))

        def steps() -> Iterator[bytes]:
            try:
                for part in (b"", b"a", b"b"):
                    seen.append(current_session() is session)
                    yield part
            finally:
                seen.append(current_session() is session)

        return list(steps()) if shape == "list" else steps()

    client = WSGIClient(SessionMiddleware(app, secret_key=SECRET))
    client.get()
    assert seen == [True] * 5
    body = client.app(client.environ(), lambda *args: lambda data: None)
    iterator = iter(body)
    with pytest.raises(SessionStateError):
        current_session()
    next(iterator)
    with pytest.raises(SessionStateError):
        current_session()
    body.close()
    with pytest.raises(SessionStateError):
        current_session()


def test_current_session_in_threads_of_a_server() -> None:
    """Each request of a threaded server has its own."""
    barrier = threading.Barrier(4)
    seen: list[bool] = []

    def app(environ: Any, start_response: Any) -> Any:
        barrier.wait(10)
        seen.append(current_session() is environ[ENVIRON_KEY])
        write(current_session())
        return routes(environ, start_response)

    wrapped = SessionMiddleware(app, secret_key=SECRET)
    replies: list[Any] = []
    threads = [threading.Thread(target=lambda: replies.append(WSGIClient(wrapped).get("/"))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen == [True] * 4
    assert [reply.text for reply in replies] == ["1"] * 4


@pytest.mark.parametrize("between", [False, True])
def test_two_middlewares_with_one_cookie_name_are_refused(between: bool) -> None:
    inner = SessionMiddleware(routes, secret_key=SECRET)
    if between:
        inner = SessionMiddleware(inner, secret_key=SECRET, table_index="between")
    with pytest.raises(ConfigurationError, match=f"two SessionMiddlewares use the cookie '{NAME}'"):
        WSGIClient(SessionMiddleware(inner, store=MemoryStore()), checked=False).get()


@pytest.mark.parametrize("shape", ["list", "generator"])
@pytest.mark.parametrize("kind", KINDS)
def test_an_app_may_be_called_again_within_one_request(kind: str, shape: str) -> None:
    """As retries, cascades and error documents do."""
    statuses = ["503 Busy", "200 OK"]

    def app(environ: Any, start_response: Any) -> Any:
        start_response(statuses.pop(0), list(TEXT))
        body = [b"busy" if statuses else write(environ[ENVIRON_KEY]).encode()]
        return body if shape == "list" else iter(body)

    sessions = SessionMiddleware(app, **settings(kind))

    def again(environ: Any, start_response: Any) -> Any:
        first = sessions(environ, lambda *given: lambda data: None)
        assert list(first) == [b"busy"]
        getattr(first, "close", int)()
        return sessions(environ, start_response)

    reply = WSGIClient(again).get()
    assert (reply.status, reply.text, len(reply.cookies)) == (200, "1", 1)


def test_two_middlewares_with_two_names_keep_two_sessions() -> None:
    inner = SessionMiddleware(routes, secret_key=SECRET, table_index="inner")

    def between(environ: Any, start_response: Any) -> Any:
        outer = environ[ENVIRON_KEY]
        outer["outer"] = 1
        body = inner(dict(environ), start_response)
        assert current_session() is outer
        return body

    client = WSGIClient(SessionMiddleware(between, store=MemoryStore()))
    assert client.get("/write").text == "1"
    assert set(client.cookies) == {NAME, f"{NAME}-inner"}
    assert client.get("/write").text == "2"


def test_a_store_that_must_be_awaited_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="awaited"):
        SessionMiddleware(routes, store=MemoryStore().aio())


def test_a_callback_that_must_be_awaited_is_refused() -> None:
    async def hear(event: Any) -> None: ...

    with pytest.raises(ConfigurationError, match="coroutine function"):
        SessionMiddleware(routes, secret_key=SECRET, on_event=hear)
