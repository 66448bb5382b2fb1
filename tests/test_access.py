"""The guard: who may go on, what the others are told, and where they can never be sent. Under plain ASGI and WSGI."""

from __future__ import annotations

import asyncio
import functools
import inspect
import json
from datetime import timedelta
from typing import Any
from urllib.parse import parse_qs, unquote, urljoin, urlsplit

import pytest
from asgi_driver import NAME, Client, Reply, Socket, hastily, respond
from wsgi_driver import WSGIClient

from session_mw import Session, current_session
from session_mw.access import Policy, login_required, requires, safe_next
from session_mw.asgi import ScopeReader, SessionMiddleware
from session_mw.errors import ConfigurationError, SessionStateError
from session_mw.exchange import AccessRefused, Answer
from session_mw.guard import ASGIGuard, WSGIGuard
from session_mw.refusal import LOGIN, refusal, wants_page
from session_mw.stores.memory import MemoryStore
from session_mw.testing import Clock, FaultyStore
from session_mw.wsgi import SessionMiddleware as WSGIMiddleware

BROWSER = [(b"sec-fetch-mode", b"navigate"), (b"accept", b"text/html,*/*;q=0.8")]
API = [(b"accept", b"application/json")]


class Site:
    """One app of functions by path, as ASGI and as WSGI: ``site.get("asgi", "/x")``."""

    def __init__(self, **settings: Any) -> None:
        self.views: dict[str, Any] = {"/login": lambda: current_session().login(user_id="ada")}
        self.clock = Clock()
        settings = {"store": MemoryStore(clock=self.clock), "clock": self.clock, **settings}
        self.clients = {
            "asgi": Client(SessionMiddleware(self.asgi, **settings)),
            "wsgi": WSGIClient(WSGIMiddleware(self.wsgi, **settings)),
        }

    def view(self, path: str) -> Any:
        return functools.partial(self.views.__setitem__, path)

    async def asgi(self, scope: Any, receive: Any, send: Any) -> None:
        said = self.views[scope["path"]]()
        await respond(send, await said if inspect.isawaitable(said) else said)

    def wsgi(self, environ: Any, start_response: Any) -> list[bytes]:
        said = self.views[environ["PATH_INFO"]]()
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [str(said).encode()]

    def get(self, kind: str, path: str = "/", *, headers: Any = BROWSER, query: str = "", method: str = "GET") -> Any:
        if kind == "asgi":
            more = {"query_string": query.encode()}
            return self.clients["asgi"].get(path, headers=headers, method=method, **more)
        environ = {f"HTTP_{name.decode().upper().replace('-', '_')}": value.decode() for name, value in headers}
        return self.clients["wsgi"].get(path, method=method, QUERY_STRING=query, **environ)


both = pytest.mark.parametrize("kind", ["asgi", "wsgi"])


def problem(reply: Any) -> dict[str, Any]:
    assert reply.one("content-type") == "application/problem+json"
    assert int(reply.one("content-length")) == len(reply.body)
    said: dict[str, Any] = json.loads(reply.body)
    assert said["status"] == reply.status
    return said


# -- who may go on -------------------------------------------------------------------------------------------------


@both
def test_only_a_login_lets_through(kind: str) -> None:
    site = Site()
    site.views["/account"] = login_required(lambda: "welcome")
    refused = site.get(kind, "/account", headers=API)
    assert refused.status == 401
    assert problem(refused) == {
        "type": "about:blank",
        "title": "Unauthorized",
        "status": 401,
        "detail": "Log in first.",
    }
    assert refused.cookies == []
    site.get(kind, "/login")
    assert site.get(kind, "/account", headers=API).text == "welcome"


@both
def test_a_login_of_another_storage_does_not_count(kind: str) -> None:
    site = Site()
    site.views["/admin"] = login_required(storage="admin")(lambda: "in")
    site.views["/enter"] = lambda: current_session().set_storage("admin").login(user_id="ada")
    site.get(kind, "/login")
    assert site.get(kind, "/admin", headers=API).status == 401
    site.get(kind, "/enter")
    assert site.get(kind, "/admin", headers=API).text == "in"
    site.views["/here"] = login_required(lambda: "global")
    assert site.get(kind, "/here", headers=API).text == "global"


@both
@pytest.mark.parametrize("fresh", [300, timedelta(minutes=5)])
def test_fresh_asks_for_a_recent_login(kind: str, fresh: Any) -> None:
    site = Site()
    site.views["/pay"] = login_required(fresh=fresh, redirect_to="/login")(lambda: "paid")
    site.get(kind, "/login")
    site.clock.advance(299)
    assert site.get(kind, "/pay").text == "paid"
    site.clock.advance(1)
    assert "too long ago" in problem(site.get(kind, "/pay", headers=API))["detail"]
    assert site.get(kind, "/pay").one("location") == "/login?next=/pay"
    site.get(kind, "/login")
    assert site.get(kind, "/pay").text == "paid"


@both
def test_fresh_looks_at_the_storage_asked_for(kind: str) -> None:
    site = Site()
    site.views["/admin"] = login_required(storage="admin", fresh=60)(lambda: "in")
    site.views["/enter"] = lambda: current_session().set_storage("admin").login(user_id="ada")
    site.get(kind, "/enter")
    site.clock.advance(60)
    site.get(kind, "/login")
    assert site.get(kind, "/admin", headers=API).status == 401
    site.get(kind, "/enter")
    assert site.get(kind, "/admin", headers=API).status == 200


@both
def test_a_check_refuses_who_is_logged_in(kind: str) -> None:
    site = Site()
    site.views["/admin"] = requires(lambda session: session.get("role") == "admin", redirect_to="/login")(lambda: "in")
    site.views["/role"] = lambda: current_session().set("role", "admin")
    site.views["/logout"] = lambda: current_session().logout()
    site.get(kind, "/role")
    assert site.get(kind, "/admin", headers=API).status == 401  # the data alone is no login
    site.get(kind, "/login")
    site.views["/role"]  # kept: nobody owned the anonymous session
    assert site.get(kind, "/admin").text == "in"
    site.get(kind, "/logout")
    assert site.get(kind, "/admin", headers=API).status == 401  # the role outlives the logout


@both
def test_a_check_that_says_no_is_403_and_no_redirect(kind: str) -> None:
    site = Site()
    site.views["/admin"] = login_required(check=lambda session: session.get("role"), redirect_to="/login")(lambda: "in")
    site.get(kind, "/login")
    page = site.get(kind, "/admin")
    assert (page.status, page.one("location"), page.text) == (403, None, "This is not for you.\n")
    assert page.one("www-authenticate") is None
    assert problem(site.get(kind, "/admin", headers=API))["title"] == "Forbidden"


@both
def test_what_a_check_raises_is_not_a_yes(kind: str) -> None:
    site = Site()
    ran: list[str] = []
    site.views["/x"] = requires(lambda session: session["missing"])(lambda: ran.append("view"))
    site.get(kind, "/login")
    with pytest.raises(KeyError):
        site.get(kind, "/x")
    assert ran == []


@both
def test_a_status_of_ones_own(kind: str) -> None:
    site = Site()
    site.views["/hidden"] = login_required(status=404)(lambda: "here")
    refused = site.get(kind, "/hidden", headers=API)
    assert problem(refused) == {"type": "about:blank", "title": "Refused", "status": 404, "detail": "Log in first."}
    assert refused.one("www-authenticate") is None
    assert site.get(kind, "/hidden").status == 404


# -- what they are told --------------------------------------------------------------------------------------------


@both
def test_a_browser_is_sent_to_the_login_page_with_the_way_back(kind: str) -> None:
    site = Site()
    site.views["/a page"] = login_required(redirect_to="/login?lang=en")(lambda: "in")
    reply = site.get(kind, "/a page", query="q=1&r=%26")
    assert reply.status == 303
    location = reply.one("location")
    assert parse_qs(urlsplit(location).query) == {"lang": ["en"], "next": ["/a%20page?q=1&r=%26"]}
    assert reply.body == b""
    assert (reply.one("cache-control"), reply.one("content-length")) == ("no-store", "0")


@both
def test_the_way_back_is_only_given_where_it_can_be_gone(kind: str) -> None:
    site = Site()
    site.views["/form"] = login_required(redirect_to="/login")(lambda: "sent")
    assert site.get(kind, "/form", method="POST").one("location") == "/login"
    assert site.get(kind, "/form", method="POST").status == 303
    assert site.get(kind, "/form", method="HEAD").one("location") == "/login?next=/form"


@both
def test_the_login_page_is_not_sent_to_itself(kind: str) -> None:
    site = Site()
    site.views["/in"] = login_required(redirect_to="/in?x=1")(lambda: "?")
    assert site.get(kind, "/in").status == 401


@both
def test_the_login_page_may_be_worked_out_at_the_request(kind: str) -> None:
    site = Site()
    site.views["/a"] = login_required(redirect_to=lambda: "/sign-in")(lambda: "?")
    site.views["/b"] = login_required(redirect_to=lambda: "https://evil.test/")(lambda: "?")
    assert site.get(kind, "/a").one("location") == "/sign-in?next=/a"
    with pytest.raises(ConfigurationError, match="a path on this site"):
        site.get(kind, "/b")


@both
def test_a_browser_without_a_login_page_gets_a_plain_page(kind: str) -> None:
    site = Site()
    site.views["/x"] = login_required(lambda: "?")
    reply = site.get(kind, "/x")
    assert (reply.status, reply.text) == (401, "Log in first.\n")
    assert reply.one("content-type") == "text/plain; charset=utf-8"
    assert reply.one("www-authenticate") == "Cookie"


@both
def test_no_cache_keeps_a_refusal_and_none_mixes_it_up(kind: str) -> None:
    site = Site()
    site.views["/x"] = login_required(lambda: "?")
    for headers in (API, BROWSER):
        reply = site.get(kind, "/x", headers=headers)
        assert reply.one("cache-control") == "no-store"
        assert reply.one("vary") == "Accept, Sec-Fetch-Mode, X-Requested-With, Cookie"


@both
def test_head_gets_no_body(kind: str) -> None:
    site = Site()
    site.views["/x"] = login_required(lambda: "?")
    reply = site.get(kind, "/x", headers=API, method="HEAD")
    assert (reply.status, reply.body, int(reply.one("content-length")) > 0) == (401, b"", True)


@both
def test_a_refusal_is_a_response_and_commits(kind: str) -> None:
    site = Site()

    def counted() -> object:
        current_session()["seen"] = 1
        return login_required(lambda: "?")()

    site.views["/x"] = counted
    site.views["/seen"] = lambda: current_session().get("seen")
    reply = site.get(kind, "/x", headers=API)
    assert reply.status == 401
    assert len(reply.cookies) == 1
    assert site.get(kind, "/seen").text == "1"


@both
def test_a_refusal_is_told_as_no_error(kind: str) -> None:
    told: list[Any] = []
    site = Site(on_event=told.append)
    site.views["/x"] = login_required(lambda: "?")
    site.get(kind, "/x", headers=API)
    assert [(event.name, event.reason) for event in told] == [("close", "")]


def headers_of(*pairs: tuple[str, str], method: str = "GET") -> dict[str, Any]:
    raw = [(name.encode(), value.encode()) for name, value in pairs]
    return {"type": "http", "method": method, "path": "/", "headers": raw}


@pytest.mark.parametrize(
    ("pairs", "page"),
    [
        ([], False),
        ([("accept", "*/*")], False),  # curl, requests, httpx
        ([("accept", "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8")], True),
        ([("accept", "application/xhtml+xml")], True),
        ([("accept", "application/json, text/plain, */*")], False),  # axios
        ([("accept", "text/html;q=0")], False),
        ([("accept", "text/html;q=0.1, application/json")], False),
        ([("accept", "text/html, application/problem+json;q=0.5")], True),
        ([("accept", "TEXT/HTML ; level=1; q=1.0")], True),
        ([("accept", "text/html;q=nonsense")], True),
        ([("accept", "application/json, text/html")], True),  # wanted as much
        ([("accept", "text/html"), ("x-requested-with", "XMLHttpRequest")], False),
        ([("accept", "text/html"), ("sec-fetch-mode", "cors")], False),
        ([("accept", "text/html"), ("sec-fetch-mode", "same-origin")], False),
        ([("accept", "application/json"), ("sec-fetch-mode", "navigate")], True),
    ],
)
def test_who_is_shown_a_page(pairs: list[tuple[str, str]], page: bool) -> None:
    assert wants_page(ScopeReader(), headers_of(*pairs)) is page


# -- no open redirect ----------------------------------------------------------------------------------------------

EVIL = [
    "//evil.test", "///evil.test", "////evil.test", "/\\evil.test", "\\\\evil.test", "\\/evil.test", "\\evil.test",
    "https://evil.test", "https:evil.test", "https:/evil.test", "HTTPS://evil.test", "http:evil.test",
    "javascript:alert(1)", "data:text/html,x", "evil.test", "@evil.test", ".evil.test", "?next=x", "#x", "", " ",
    " //evil.test", "\t//evil.test", "/\t/evil.test", "/\n/evil.test", "/\r/evil.test", "\n//evil.test", "/ /evil.test",
    "/\x00/evil.test", "\x00//evil.test", "/x\r\nSet-Cookie: a=b", "/\x0b/evil.test", "/\x85/evil.test",
    "/\xa0/evil.test", "/%2Fevil.test", "/%2f%2fevil.test", "/%5Cevil.test", "/%5c%5cevil.test", "%2F%2Fevil.test",
    "/%252Fevil.test", "/%25252Fevil.test", "/%09/evil.test", "/%0d%0aSet-Cookie:x", "/.//evil.test", "/..//evil.test",
    "/./\\evil.test", "/a//evil.test", "/%" + "25" * 9 + "2Fevil.test", "/%" + "25" * 5 + "41", "/%00",
    "/\ud800", "/" + "x" * 2000, "／／evil.test", "⁄⁄evil.test",
    None, 7, b"/bytes", ["/list"],
]  # fmt: skip

GOOD = {
    "/": "/",
    "/account": "/account",
    "/account?tab=1&x=%2F%2Fy#part": "/account?tab=1&x=%2F%2Fy#part",
    "/search?q=//fine&u=https://x.test/": "/search?q=//fine&u=https://x.test/",
    "/a%20b": "/a%20b",
    "/~ada/@me/(1);v=2": "/~ada/@me/(1);v=2",
    "/käse": "/k%C3%A4se",
    "/／evil.test": "/%EF%BC%8Fevil.test",
    "/100%": "/100%",
    "/100%25252541": "/100%25252541",
}


@pytest.mark.parametrize("value", EVIL)
def test_no_way_off_this_site(value: object) -> None:
    assert safe_next(value) == "/"
    assert safe_next(value, "/home") == "/home"


@pytest.mark.parametrize("value", GOOD)
def test_a_path_on_this_site_is_kept(value: str) -> None:
    kept = safe_next(value)
    assert kept == GOOD[value]
    assert urlsplit(urljoin("https://here.test/login", kept)).netloc == "here.test"
    assert safe_next(kept) == kept


@pytest.mark.parametrize("unit", ["25", "%25", "%2525", "%", "a", "%252541"])
def test_a_hostile_way_back_takes_linear_work(unit: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Counted, not timed: the characters that are decoded."""
    decoded = 0

    def counted(text: str) -> str:
        nonlocal decoded
        decoded += len(text)
        return unquote(text)

    monkeypatch.setattr("session_mw.refusal.unquote", counted)
    for length in (100, 1900):
        decoded = 0
        value = "/%" + unit * (length // len(unit))
        safe_next(value)
        assert decoded <= 5 * len(value)


@pytest.mark.parametrize("value", [value for value in EVIL if isinstance(value, str)] + ["/login#part", "relative"])
def test_a_login_page_elsewhere_is_refused_at_once(value: str) -> None:
    with pytest.raises(ConfigurationError, match="a path on this site"):
        login_required(redirect_to=value)


@pytest.mark.parametrize("path", ["//evil.test/x", "/\\evil.test", "/x/..//evil", "/\t/evil.test", "/%2Fevil"])
@both
def test_a_request_for_a_doubtful_path_gets_no_way_back(kind: str, path: str) -> None:
    site = Site()
    site.views[path] = login_required(redirect_to="/login")(lambda: "?")
    assert site.get(kind, path).one("location") == "/login"


def test_the_whole_target_of_a_request() -> None:
    reader = ScopeReader()

    def target(path: str, **scope: Any) -> str:
        return reader.target({"path": path, "query_string": b"", **scope})

    assert target("/a b") == "/a%20b"
    assert target("/a/b", raw_path=b"/a%2Fb", query_string=b"x=1") == "/a%2Fb?x=1"
    assert target("/a", raw_path=b"/elsewhere") == "/a"
    assert target("/a", raw_path=None) == "/a"
    assert target("/sub/a", root_path="/sub") == "/sub/a"
    assert target("/sub", root_path="/sub/") == "/sub"
    assert target("/a", root_path="/sub") == "/sub/a"
    assert target("/apple", root_path="/app") == "/app/apple"
    assert target("/käse") == "/k%C3%A4se"


def test_a_mounted_wsgi_app_gets_its_whole_target() -> None:
    app = login_required(redirect_to="/login")(lambda environ, start_response: [b"?"])
    client = WSGIClient(WSGIMiddleware(app, store="memory:"), SCRIPT_NAME="/sub", HTTP_ACCEPT="text/html")
    assert client.get("/k\xc3\xa4se").one("location") == "/login?next=/sub/k%25C3%25A4se"


# -- what can be guarded -------------------------------------------------------------------------------------------


def test_async_views_and_async_checks() -> None:
    site = Site()

    async def check(session: Session) -> bool:
        await asyncio.sleep(0)
        return "role" in session

    @requires(check)
    async def admin() -> str:
        await asyncio.sleep(0)
        return "in"

    @login_required(check=lambda session: session.user_id == "ada")
    async def ada() -> str:
        return "ada"

    site.views.update({"/admin": admin, "/ada": ada})
    assert inspect.iscoroutinefunction(admin)
    assert site.get("asgi", "/admin", headers=API).status == 401
    site.get("asgi", "/login")
    assert site.get("asgi", "/admin", headers=API).status == 403
    assert site.get("asgi", "/ada").text == "ada"
    site.views["/role"] = lambda: current_session().set("role", 1)
    site.get("asgi", "/role")
    assert site.get("asgi", "/admin").text == "in"


def test_a_sync_view_cannot_have_an_async_check() -> None:
    async def check(session: Session) -> bool:
        return False

    with pytest.raises(ConfigurationError, match="make the view async too"):
        requires(check)(lambda: "in")
    site = Site()
    site.get("asgi", "/login")
    for hidden in (lambda session: check(session), lambda session: asyncio.get_running_loop().create_future()):
        site.views["/x"] = requires(hidden)(lambda: "in")  # true, like any object that nobody awaits
        with pytest.raises(ConfigurationError, match="make the view async too"):
            site.get("asgi", "/x")


def test_methods_and_classes() -> None:
    site = Site()

    class Pages:
        name = "pages"

        @login_required
        def page(self, what: str = "page") -> str:
            """A page."""
            return f"{self.name} {what}"

        @staticmethod
        @login_required
        def fixed() -> str:
            return "fixed"

        @classmethod
        @login_required
        def made(cls) -> str:
            return f"{cls.name} made"

    @login_required
    class Dispatched:
        def __call__(self) -> str:
            return self.dispatch()

        def dispatch(self) -> str:
            return "dispatched"

    @login_required
    class Called:
        async def __call__(self) -> str:
            return type(self).__name__

    class Child(Dispatched):
        def dispatch(self) -> str:
            return "child of dispatched"

    @login_required
    class Responders:
        def on_get(self) -> str:
            return "got"

        on_nothing = None

    views = {
        "page": Pages().page,
        "fixed": Pages.fixed,
        "made": Pages.made,
        "dispatched": Dispatched(),
        "Called": Called(),
        "child of dispatched": Child(),
        "got": Responders().on_get,
    }
    for said, view in views.items():
        site.views[f"/{said}"] = view
        assert site.get("asgi", f"/{said}", headers=API).status == 401, said
    site.get("asgi", "/login")
    for said in views:
        assert site.get("asgi", f"/{said}").text.endswith(said)
    assert Pages.page.__doc__ == "A page."
    assert isinstance(Dispatched, type)
    assert list(inspect.signature(Pages().page).parameters) == ["what"]


def test_what_cannot_be_guarded_is_refused() -> None:
    def generator() -> Any:
        yield b""

    async def agenerator() -> Any:
        yield b""

    class NoWayIn:
        def get(self) -> None: ...

    cases: dict[Any, str] = {
        generator: "cannot guard a generator",
        agenerator: "cannot guard a generator",
        NoWayIn: "no way into NoWayIn",
        staticmethod(generator): "below @staticmethod",
        classmethod(generator): "below @staticmethod",
    }
    for view, complaint in cases.items():
        with pytest.raises(ConfigurationError, match=complaint):
            login_required(view)
    with pytest.raises(ConfigurationError, match="not str"):
        login_required("/admin")  # type: ignore[type-var]


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"fresh": 0}, "fresh must be"),
        ({"fresh": True}, "fresh must be"),
        ({"fresh": 1.5}, "fresh must be"),
        ({"fresh": timedelta(0)}, "fresh must be"),
        ({"storage": ""}, "storage must be"),
        ({"storage": 3}, "storage must be"),
        ({"check": "admin"}, "check must be"),
        ({"status": 200}, "status must be"),
        ({"status": 500}, "status must be"),
        ({"status": True}, "status must be"),
        ({"redirect_to": 5}, "redirect_to must be"),
    ],
)
def test_bad_options_are_refused_where_they_are_written(options: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ConfigurationError, match=complaint):
        login_required(**options)
    with pytest.raises(TypeError):
        login_required(colour="red")  # type: ignore[call-overload]


# -- without what a guard needs ------------------------------------------------------------------------------------


def test_a_guard_without_middleware_names_the_line_to_add() -> None:
    with pytest.raises(SessionStateError, match=r"add the line[^$]*app = SessionMiddleware\(app"):
        login_required(lambda: "in")()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        raise AssertionError("nobody gets here")

    with pytest.raises(SessionStateError, match="add the line"):
        Client(ASGIGuard(SessionMiddleware(app, store="memory:"))).get()  # the wrong way round
    with pytest.raises(SessionStateError, match="add the line"):
        WSGIClient(WSGIGuard(app), checked=False).get()


@pytest.mark.parametrize("looked_at", [False, True])
def test_a_guard_after_the_request_says_so(looked_at: bool) -> None:
    kept: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if looked_at:
            scope["session"].login(user_id="ada")
        await respond(send)

        async def later() -> None:
            await over.wait()
            login_required(lambda: "in")()

        kept.append(asyncio.ensure_future(later()))

    over = asyncio.Event()

    async def main() -> None:
        await Client(SessionMiddleware(app, store="memory:")).request()
        over.set()
        with pytest.raises(SessionStateError, match="the request is over"):
            await kept[0]

    asyncio.run(main())


def test_an_awaited_session_is_read_by_an_async_guard() -> None:
    class Awaited(MemoryStore):
        """Without the faces that answer at once."""

        inline = aio = property()  # type: ignore[assignment]

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["path"] == "/login":
            (await scope["session"].load()).login(user_id="ada")
            return await respond(send)
        return await (sync if scope["path"] == "/sync" else page)(send)

    @login_required
    async def page(send: Any) -> None:
        await respond(send, current_session().user_id)

    @login_required
    def sync(send: Any) -> Any:
        return respond(send)

    client = Client(SessionMiddleware(app, store=Awaited(), autoload=False))
    assert client.get("/page").status == 401
    client.get("/login")
    assert client.get("/page").text == "ada"
    with pytest.raises(SessionStateError, match=r"await session\.load"):
        client.get("/sync")


@both
def test_a_failed_store_is_503_and_never_a_refusal(kind: str) -> None:
    store = FaultyStore(MemoryStore())
    site = Site(store=store, clock=None)
    site.views["/x"] = login_required(redirect_to="/login")(lambda: "in")
    site.get(kind, "/login")
    store.fail("load")
    assert site.get(kind, "/x").status == 503
    assert site.get(kind, "/x").text == "in"


# -- on its way to the client --------------------------------------------------------------------------------------


@both
def test_an_app_may_answer_a_refusal_itself(kind: str) -> None:
    site = Site()

    def view() -> str:
        try:
            return str(login_required(lambda: "in")())
        except AccessRefused as refused:
            return f"sorry: {refused.answer.status} {refused}"

    site.views["/x"] = view
    assert site.get(kind, "/x").text == "sorry: 401 refused with status 401"


def test_a_refusal_after_the_response_has_started_is_an_error_asgi() -> None:
    for look in (lambda: None, lambda: current_session().get("x")):

        async def app(scope: Any, receive: Any, send: Any, look: Any = look) -> None:
            look()
            await respond(send)
            login_required(lambda: "in")()

        with pytest.raises(AccessRefused):
            Client(SessionMiddleware(app, store="memory:")).get()


def test_a_refusal_after_the_response_has_started_is_an_error_wsgi() -> None:
    def writes(environ: Any, start_response: Any) -> Any:
        start_response("200 OK", [("Content-Type", "text/plain")])(b"begun")
        return login_required(lambda: [b"in"])()

    def streams(environ: Any, start_response: Any) -> Any:
        start_response("200 OK", [("Content-Type", "text/plain")])
        yield b"begun"
        yield login_required(lambda: b"in")()

    for app in (writes, streams):
        with pytest.raises(AccessRefused):
            WSGIClient(WSGIMiddleware(app, store="memory:")).get()


def test_a_stream_may_be_refused_before_its_first_piece() -> None:
    closed: list[str] = []

    def streams(environ: Any, start_response: Any) -> Any:
        try:
            start_response("200 OK", [("Content-Type", "text/plain")])
            current_session()["kept"] = 1
            yield b""
            yield login_required(lambda: b"in")()
        finally:
            closed.append("closed")

    store = FaultyStore(MemoryStore())
    client = WSGIClient(WSGIMiddleware(streams, store=store))
    reply = client.get()
    assert (reply.status, reply.one("content-type"), closed) == (401, "application/problem+json", ["closed"])
    assert NAME in client.cookies
    store.fail("create")
    client.cookies.clear()
    assert client.get().status == 503


@pytest.mark.parametrize("kept", [{}, {"x": {1, 2}}])
def test_a_framework_of_their_own_makes_its_own_response(kept: dict[str, Any]) -> None:
    site = Site()
    layer = site.clients["asgi"].app.layer
    layer.refused = lambda answer: f"mine: {answer.status}"

    async def aview() -> str:
        return "in"

    for view in (lambda: "in", aview):
        site.views["/x"] = login_required(view)
        assert site.get("asgi", "/x").text == "mine: 401"


# -- websockets ----------------------------------------------------------------------------------------------------


def guarded_socket(*, accept_first: bool = False, **settings: Any) -> Client:
    @login_required(redirect_to="/login")
    async def talk(scope: Any, receive: Any, send: Any) -> None:
        if not accept_first:
            await receive()
            await send({"type": "websocket.accept"})
        while (message := await receive())["type"] == "websocket.receive":
            await send({"type": "websocket.send", "text": message["text"].upper()})

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            scope["session"].login(user_id="ada")
            return await respond(send)
        if accept_first:
            await receive()
            await send({"type": "websocket.accept"})
        return await talk(scope, receive, send)

    return Client(SessionMiddleware(app, store="memory:", **settings))


def test_a_socket_is_denied_with_a_problem_and_never_a_page() -> None:
    async def main() -> None:
        client = guarded_socket()
        async with Socket(client, headers=BROWSER) as socket:
            await socket.next()
            await socket.next()
            reply = Reply(socket.sent)
        assert reply.start is not None
        assert reply.start["type"] == "websocket.http.response.start"
        assert problem(reply)["status"] == 401
        assert reply.one("vary") == "Accept, Sec-Fetch-Mode, X-Requested-With, Cookie"
        await client.request("/login")
        async with Socket(client) as socket:
            assert (await socket.next())["type"] == "websocket.accept"
            assert await socket.say("hello") == "HELLO"
            await socket.leave()

    asyncio.run(main())


def test_a_denied_socket_is_told_as_no_error() -> None:
    told: list[Any] = []

    async def main() -> None:
        async with Socket(guarded_socket(on_event=told.append)) as socket:
            await socket.next()
            await socket.leave()

    asyncio.run(main())
    assert [(event.name, event.reason) for event in told] == [("close", "")]


def test_a_refusal_on_a_socket_that_was_closed_already_sends_nothing() -> None:
    store = MemoryStore()

    @login_required
    async def more(send: Any) -> None:
        raise AssertionError("nobody is logged in")

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            scope["session"].login(user_id="ada") if scope["path"] == "/login" else scope["session"].logout()
            return await respond(send)
        len(scope["session"])
        await receive()
        await send({"type": "websocket.accept"})
        while (await receive())["type"] != "websocket.disconnect":
            pass
        scope["session"].logout()
        return await more(send)

    async def main() -> None:
        client = Client(SessionMiddleware(app, store=store, websocket_check=1))
        await client.request("/login")
        other = client.copy()
        async with Socket(client) as socket:
            assert (await socket.next())["type"] == "websocket.accept"
            await other.request("/logout")
            assert await socket.next() == {"type": "websocket.close", "code": 1008, "reason": "session ended"}
            await asyncio.wait({socket.task})
            socket.task.result()
            assert len(socket.sent) == 2

    hastily(main)


@pytest.mark.parametrize("extensions", [{}, None])
def test_a_socket_is_closed_where_the_server_knows_no_denial(extensions: Any) -> None:
    async def main() -> None:
        async with Socket(guarded_socket(), extensions=extensions) as socket:
            assert await socket.next() == {"type": "websocket.close", "code": 1008, "reason": "refused"}
            await socket.leave()

    asyncio.run(main())


def test_an_accepted_socket_is_closed() -> None:
    async def main() -> None:
        async with Socket(guarded_socket(accept_first=True)) as socket:
            assert (await socket.next())["type"] == "websocket.accept"
            assert await socket.next() == {"type": "websocket.close", "code": 1008, "reason": "refused"}

    asyncio.run(main())


# -- whole apps ----------------------------------------------------------------------------------------------------


def whole(kind: str, **options: Any) -> Any:
    """``get(path)`` of an app that is guarded as a whole."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["path"].endswith("/login"):
            scope["session"].login(user_id="ada")
        await respond(send, "in")

    def wsgi(environ: Any, start_response: Any) -> list[bytes]:
        if environ["PATH_INFO"].endswith("/login"):
            environ["session_mw.session"].login(user_id="ada")
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [b"in"]

    if kind == "asgi":
        return Client(SessionMiddleware(ASGIGuard(app, **options), store="memory:")).get
    return WSGIClient(WSGIMiddleware(WSGIGuard(wsgi, **options), store="memory:")).get


@both
def test_everything_is_guarded_but_the_login_page(kind: str) -> None:
    get = whole(kind, redirect_to="/login?from=guard", open=["/static/", "/health"])
    for path in ("/", "/account", "/loginx", "/login/", "/LOGIN", "/statics", "/healthy", "//login", "//static/x"):
        assert get(path).status == 401, path
    for path in (
        "/static/../account",
        "/static/./x",
        "/static//x",
        "/static\\..\\account",
        "/static/..",
        "/x/../login",
    ):
        assert get(path).status == 401, path
    for path in ("/static", "/static/", "/static/app.css", "/static/..css", "/health"):
        assert get(path).status == 200, path
    assert get("/login").status == 200
    assert get("/account").text == "in"


@both
def test_some_paths_are_guarded_in_whatever_spelling(kind: str) -> None:
    get = whole(kind, only=["/admin", "/Private/"], open=["/admin/help"])
    for path in ("/admin", "/admin/", "/admin/users", "/ADMIN", "//admin", "/x/../admin", "/./admin", "/admin//users"):
        assert get(path).status == 401, path
    for path in ("/private", "/Private/x", "/\\admin", "/admin/help/../users", "/admin/HELP"):
        assert get(path).status == 401, path
    for path in ("/", "/administer", "/x", "/admin/help", "/admin/help/me", "/admin/../x"):
        assert get(path).status == 200, path


@both
def test_a_whole_app_behind_a_mount(kind: str) -> None:
    get = whole(kind, redirect_to="/sub/login", only=["/"])
    mounted = {"root_path": "/sub"} if kind == "asgi" else {"SCRIPT_NAME": "/sub"}
    path = "/sub" if kind == "asgi" else ""
    headers = {"headers": BROWSER} if kind == "asgi" else {"HTTP_ACCEPT": "text/html"}
    assert get(f"{path}/x", **mounted, **headers).one("location") == "/sub/login?next=/sub/x"
    assert get(path, **mounted, **headers).one("location") == "/sub/login?next=/sub"
    assert get(f"{path}/login", **mounted).status == 200
    assert get(f"{path}/x", **mounted).status == 200


def test_a_whole_app_is_guarded_from_sockets_too() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "websocket.accept"})

    async def main() -> None:
        async with Socket(Client(SessionMiddleware(ASGIGuard(app), store="memory:"))) as socket:
            assert (await socket.next())["status"] == 401

    asyncio.run(main())


def test_a_guard_leaves_other_scopes_alone() -> None:
    seen: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append(scope["type"])

    asyncio.run(ASGIGuard(app)({"type": "lifespan"}, None, None))
    assert seen == ["lifespan"]


@pytest.mark.parametrize("cls", [ASGIGuard, WSGIGuard])
@pytest.mark.parametrize(
    "options",
    [
        {"only": "/admin"},
        {"open": "/x"},
        {"only": ["admin"]},
        {"open": ["/a//b"]},
        {"only": ["/a/../b"]},
        {"only": [5]},
    ],
)
def test_bad_prefixes_are_refused(cls: Any, options: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError):
        cls(lambda: None, **options)


def test_an_unsafe_target_is_never_sent() -> None:
    """Whatever a reader says, the Location stays on this site."""

    class Liar(ScopeReader):
        def target(self, scope: Any) -> str:
            return "//evil.test"

    answer = refusal(LOGIN, Liar(), headers_of(("accept", "text/html")), "/login", None)
    assert dict(answer.headers)["location"] == "/login"
    assert isinstance(answer, Answer)
    assert Policy().status is None
