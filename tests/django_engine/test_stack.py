"""What stands around the engine: StoreErrorMiddleware, the guard, settings read at call time, system checks."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from datetime import date
from io import BytesIO
from typing import Any

import pytest
from django.conf import settings
from django.core.checks import run_checks
from django.core.handlers.asgi import ASGIRequest
from django.http import HttpRequest, HttpResponse
from django.test import AsyncClient, Client, RequestFactory, override_settings
from django.utils.decorators import method_decorator
from django.views import View
from django_engine import site
from django_engine.project import DJANGOS, OURS, REST
from django_engine.test_site import NAME, ask, cookie, log_in, put, read, user_of

from session_mw import AsyncSessionService, ConfigurationError, SessionService, SessionStateError, current_session
from session_mw.access import login_required, requires
from session_mw.django import SessionStore, StoreErrorMiddleware, session_config
from session_mw.django.layer import current_layer
from session_mw.django.settings import READ
from session_mw.errors import StoreError
from session_mw.legacy import DjangoCookie
from session_mw.stores.faces import Awaited
from session_mw.stores.memory import MemoryStore
from session_mw.stores.url import store_from_url
from session_mw.testing import Clock, FaultyStore


@pytest.fixture
def faulty(clock: Clock) -> Any:
    store = FaultyStore(MemoryStore())
    with override_settings(SESSION_MW={"store": store, "clock": clock}):
        yield store


def quiet() -> Client:
    return Client(raise_request_exception=False)


def is_unavailable(response: Any) -> bool:
    return (
        response.status_code == 503
        and response.headers["Retry-After"] == "5"
        and response.headers["Cache-Control"] == "no-store"
        and cookie(response) is None
    )


# -- while the store fails ---------------------------------------------------------------------------------------------


def test_a_store_that_fails_in_the_view(faulty: FaultyStore, caplog: pytest.LogCaptureFixture) -> None:
    client = Client()  # it would raise what Django makes a 500 of
    ask(client, put(a=1))
    key = client.cookies[NAME].value
    faulty.fail("load")
    assert is_unavailable(ask(client, read))
    assert "the session store failed" in caplog.text
    assert key.partition(".")[2] not in caplog.text
    assert client.cookies[NAME].value == key
    faulty.heal()
    assert ask(client, read).content == b"{'a': 1}"


def test_a_store_that_fails_in_the_save(faulty: FaultyStore) -> None:
    client = quiet()
    ask(client, put(a=1))
    faulty.fail("save")
    assert is_unavailable(ask(client, put(a=2)))
    faulty.heal()
    assert ask(client, read).content == b"{'a': 1}"
    faulty.fail("create")
    assert is_unavailable(ask(quiet(), put(a=2)))


def test_a_store_that_fails_for_the_user_in_a_middleware(faulty: FaultyStore, users: dict[str, Any]) -> None:
    client = quiet()
    client.force_login(users["ada"])
    faulty.fail("load")
    assert is_unavailable(ask(client, lambda request: request.user.username))


def test_what_the_app_answers_itself_stands(faulty: FaultyStore) -> None:
    client = Client()
    ask(client, put(a=1))
    faulty.fail("load")

    def copes(request: Any) -> HttpResponse:
        with pytest.raises(StoreError):
            len(request.session)
        return HttpResponse("coped", status=502)

    assert ask(client, copes).status_code == 502
    ordinary = quiet()

    def fails(request: Any) -> None:
        raise RuntimeError("nothing to do with a store")

    assert ask(ordinary, fails).status_code == 500


def test_the_answer_is_the_configurations(faulty: FaultyStore) -> None:
    def answer(request: HttpRequest) -> tuple[int, list[tuple[str, str]], bytes]:
        return 599, [("x-path", request.path)], b"later"

    with override_settings(SESSION_MW={**settings.SESSION_MW, "store_error_response": answer}):
        client = quiet()
        ask(client, put(a=1))
        faulty.fail("load")
        response = ask(client, read)
        assert (response.status_code, response.headers["X-Path"], response.content) == (599, "/view", b"later")


def test_a_store_that_fails_when_awaited(faulty: FaultyStore) -> None:
    async def aread(request: Any) -> Any:
        return await request.session.aget("a")

    async def told() -> None:
        client = AsyncClient(raise_request_exception=False)
        session = SessionStore()
        await session.aset("a", 1)
        await session.asave()
        client.cookies[NAME] = session.session_key
        site.does.append(aread)
        try:
            assert (await client.get("/aview")).content == b"1"
            faulty.fail("load")
            assert is_unavailable(await client.get("/aview"))
        finally:
            site.does.pop()

    asyncio.run(told())


# -- current_session() and the guard -----------------------------------------------------------------------------------


def test_current_session_is_the_requests() -> None:
    client = Client()

    def same(request: Any) -> bool:
        SessionStore()  # another one changes nothing
        current_session()["a"] = 1
        return current_session() is request.session

    assert ask(client, same).content == b"True"
    assert ask(client, read).content == b"{'a': 1}"
    with pytest.raises(SessionStateError):
        current_session()


def test_current_session_in_async_views_one_request_beside_another() -> None:
    async def same(request: Any) -> bool:
        await asyncio.to_thread(int)
        return current_session() is request.session and current_session()._source is request

    async def told() -> list[bytes]:
        return [each.content for each in await asyncio.gather(*(AsyncClient().get("/aview") for _ in range(4)))]

    site.does.append(same)
    try:
        assert asyncio.run(told()) == [b"True"] * 4
    finally:
        site.does.pop()


def test_a_request_without_a_session_goes_through() -> None:
    with override_settings(MIDDLEWARE=[OURS]):
        assert ask(Client(), lambda request: hasattr(request, "session")).content == b"False"


def guarded(**options: Any) -> Callable[[Any], Any]:
    @login_required(redirect_to="/login", **options)
    def view(request: Any) -> str:
        return "let in"

    return view


def test_the_guard(users: dict[str, Any], clock: Clock) -> None:
    client = Client()
    sent = ask(client, guarded(), **{"sec-fetch-mode": "navigate"})
    assert (sent.status_code, sent.headers["Location"]) == (303, "/login?next=/view")
    refused = ask(client, guarded(), accept="application/json")
    assert (refused.status_code, refused.json()["status"]) == (401, 401)
    assert refused.headers["Cache-Control"] == "no-store"
    ask(client, log_in(users["ada"]))
    assert ask(client, guarded()).content == b"'let in'"
    assert ask(client, guarded(storage="bank")).status_code == 401
    clock.advance(301)
    assert ask(client, guarded(fresh=300)).status_code == 401
    no = requires(lambda session: session.get("role") == "admin")
    assert ask(client, no(lambda request: "let in")).status_code == 403


def test_the_guard_on_a_class_and_an_async_view(users: dict[str, Any]) -> None:
    @login_required
    class Page(View):
        def get(self, request: HttpRequest) -> HttpResponse:
            return HttpResponse("let in")

    @method_decorator(login_required, name="dispatch")
    class Other(View):
        def get(self, request: HttpRequest) -> HttpResponse:
            return HttpResponse("let in")

    @login_required
    async def aview(request: HttpRequest) -> str:
        return "let in"

    async def told(client: AsyncClient) -> Any:
        site.does.append(aview)
        try:
            return await client.get("/aview")
        finally:
            site.does.pop()

    client, aclient = Client(), AsyncClient()
    for view in (Page.as_view(), Other.as_view()):
        assert ask(client, view).status_code == 401
    assert asyncio.run(told(aclient)).status_code == 401
    client.force_login(users["ada"])
    aclient.cookies[NAME] = client.cookies[NAME].value
    for view in (Page.as_view(), Other.as_view()):
        assert ask(client, view).content == b"let in"
    assert asyncio.run(told(aclient)).content == b"'let in'"


def test_the_guard_names_the_line_to_add() -> None:
    with override_settings(MIDDLEWARE=[DJANGOS, *REST]), pytest.raises(SessionStateError, match="MIDDLEWARE"):
        ask(Client(), guarded())


# -- addresses ---------------------------------------------------------------------------------------------------------


def test_a_login_is_held_to_its_address(users: dict[str, Any]) -> None:
    with override_settings(SESSION_MW={**settings.SESSION_MW, "strict_session_ip": True}):
        client = Client()
        ask(client, log_in(users["ada"]))
        key = client.cookies[NAME].value
        (record,) = SessionService(session_config()).list_records(users["ada"].pk)
        assert record.login_ip == "127.0.0.1"
        away = Client(REMOTE_ADDR="203.0.113.9")
        away.cookies[NAME] = key
        response = ask(away, read)
        assert (response.content, cookie(response)["max-age"]) == (b"{}", 0)  # destroyed, and the cookie cleared
        assert user_of(client) == "''"

        async def told() -> None:
            async def look(request: Any) -> Any:
                return await request.session.aget("_auth_user_id")

            site.does.append(look)
            try:
                here = AsyncClient()
                here.cookies[NAME] = away.cookies[NAME].value
                response = await here.get("/aview")
                assert (response.content, cookie(response)["max-age"]) == (b"None", 0)
            finally:
                site.does.pop()

        ask(away, log_in(users["ada"]))
        assert user_of(away) == "'ada'"
        asyncio.run(told())
        assert user_of(away) == "''"


def test_what_the_request_says_of_itself(users: dict[str, Any]) -> None:
    ours = {**settings.SESSION_MW, "trusted_proxies": ["unix"]}
    with override_settings(SESSION_MW=ours):
        client = Client(REMOTE_ADDR="", HTTP_X_FORWARDED_FOR="198.51.100.7", HTTP_USER_AGENT="Firefox")
        ask(client, log_in(users["ada"]))
        (record,) = SessionService(session_config()).list_records(users["ada"].pk)
        assert (record.login_ip, record.login_user_agent) == ("198.51.100.7", "Firefox")

        exchange = SessionStore()._layer.exchange
        scope = {"type": "http", "path": "/", "method": "GET", "headers": [(b"x-forwarded-for", b"198.51.100.7")]}
        for client, server, address in (
            (None, None, "198.51.100.7"),  # over ASGI, on a unix socket: hypercorn
            (None, ("/run/site.sock", None), "198.51.100.7"),  # uvicorn
            (None, ("example.test", 443), None),
            (("203.0.113.9", 50_000), ("example.test", 443), "203.0.113.9"),
        ):
            over_asgi = ASGIRequest({**scope, "client": client, "server": server}, BytesIO())
            assert exchange.address(over_asgi) == address
    reader = SessionStore()._layer.exchange.reader
    request = RequestFactory().get("/a b", {"q": "ü"}, secure=True)
    assert (reader.method(request), reader.target(request)) == ("GET", "/a%20b?q=%C3%BC")
    assert (reader.scheme(request), reader.scheme(None)) == ("https", "http")
    assert (reader.cookies(None), reader.header(None, "host"), reader.peer(None)) == ("", None, None)


# -- events ------------------------------------------------------------------------------------------------------------


def test_events_tell_what_happened(users: dict[str, Any]) -> None:
    told: list[str] = []
    with override_settings(SESSION_MW={**settings.SESSION_MW, "on_event": lambda event: told.append(event.name)}):
        client = Client()
        ask(client, put(a=1))
        ask(client, read)
        ask(client, log_in(users["ada"]))
        ask(client, lambda request: request.session.flush())
    assert told == ["create", "open", "open", "login", "rotate", "open", "destroy"]


# -- settings, read at call time ---------------------------------------------------------------------------------------


def config(**ours: Any) -> Any:
    with override_settings(SESSION_MW=ours):
        return session_config()


def test_djangos_settings_mean_ours() -> None:
    plain = config(store="memory:")
    assert (plain.idle_timeout, plain.absolute_timeout, plain.owner_key) == (1209600, 1209600, "_auth_user_id")
    assert (plain.cookie_name, plain.cookie_secure, plain.same_site) == ("sessionid", False, "lax")
    assert config(store="memory:", absolute_timeout=3600).idle_timeout == 3600
    assert config(store="memory:", idle_timeout=60).absolute_timeout == 604800
    assert config(store="memory:", profile="BANKING").idle_timeout == 900
    assert config(store="memory:", profile="NIST_AAL1").idle_timeout == 1209600
    assert config(STORE="memory:", profile="DEVELOPMENT").idle_timeout == 1209600
    with override_settings(SESSION_COOKIE_AGE=60, SESSION_COOKIE_SAMESITE=None, SESSION_COOKIE_DOMAIN=".example.com"):
        other = config(store="memory:")
        assert (other.idle_timeout, other.absolute_timeout, other.same_site) == (60, 604800, "lax")
        assert other.cookie_domain == "example.com"


def test_a_store_named_by_a_url_outlives_override_settings() -> None:
    with override_settings(SESSION_MW={"store": "memory:"}):
        session = SessionStore()
        session["a"] = 1
        session.save()
        with override_settings(SESSION_COOKIE_AGE=60):
            assert SessionStore(session.session_key)["a"] == 1
        assert session_config().store is session_config().store
        assert asyncio.run(AsyncSessionService(session_config()).get_session(session.session_id or "")) == {"a": 1}


@pytest.mark.parametrize("url", [True, False])
def test_sessions_move_from_one_store_to_another(url: bool, tmp_path: Any) -> None:
    old, new = (f"file:///{tmp_path}/{name}?durable=0" for name in ("old", "new"))
    stores = (old, new) if url else tuple(store_from_url(each) for each in (old, new))
    client = Client()
    with override_settings(SESSION_MW={"store": stores[0]}):
        ask(client, put(a=1))
    with override_settings(SESSION_MW={"store": stores[1], "migrate_from": stores[0]}):
        assert ask(client, read).content == b"{'a': 1}"
        ask(client, put(b=2))
        assert session_config().store is session_config().store
    with override_settings(SESSION_MW={"store": stores[1]}):
        assert ask(client, read).content == b"{'a': 1, 'b': 2}"
    with override_settings(SESSION_MW={"store": stores[0]}):
        assert ask(client, read).content == b"{}"


class Noting:
    """The settings, and what was asked of them."""

    def __init__(self) -> None:
        self.asked: set[str] = set()

    def __getattr__(self, name: str) -> Any:
        self.asked.add(name)
        return getattr(settings, name)


def test_a_layer_serves_until_one_of_the_settings_it_was_built_from_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    noting = Noting()
    monkeypatch.setattr("session_mw.django.settings.settings", noting)
    with override_settings(SESSION_MW={"store": "memory:", "encryption": True}):
        layer = current_layer()
        assert {"SESSION_MW", "SECRET_KEY"} <= noting.asked <= READ
        with override_settings(LANGUAGE_CODE="es-ar"):
            assert current_layer() is layer
        for name in READ:
            with override_settings(**{name: getattr(settings, name)}):
                assert current_layer() is not layer
                layer = current_layer()
            assert current_layer() is not layer
            layer = current_layer()


@pytest.mark.parametrize(
    ("ours", "text"),
    [
        (None, 'SESSION_MW = {"store"'),
        ({"secret_key": "k" * 20 + "0123456789abcdefghij"}, "kept in a store"),
        ({"store": "memory:", "cookie_name": "x"}, r"cookie_name \(Django: SESSION_COOKIE_NAME\)"),
        ({"store": "memory:", "owner_key": "x"}, "owner_key"),
        ({"store": "memory:", "partitioned": True}, "partitioned"),
        ({"store": "memory:", "nonsense": 1}, "unknown setting"),
        ({"store": "memory:", "legacy": [DjangoCookie("x", until=date(2099, 1, 1))]}, "legacy: under Django"),
        ("memory:", "must be a mapping"),
        ({"store": Awaited(MemoryStore(), MemoryStore())}, r"^MemoryStore\.aio\(\) has to be awaited"),
    ],
)
def test_settings_that_cannot_be(ours: Any, text: str) -> None:
    with override_settings(SESSION_MW=ours):
        with pytest.raises(ConfigurationError, match=text):
            SessionStore()
        (found,) = run_checks(tags=["security"])
        assert found.id == "session_mw.E001"


def test_only_a_store_will_do_for_one_request_either() -> None:
    from session_mw.managers.cookie import CookieManager

    with (
        override_settings(SESSION_MW={"store": "memory:", "secret_key": "k" * 20 + "0123456789abcdefghij"}),
        pytest.raises(ConfigurationError, match="kept in a store"),
    ):
        SessionStore().set_manager(CookieManager())


def test_another_store_for_one_session() -> None:
    other = MemoryStore()
    session = SessionStore()
    session.set_store(other)
    session["a"] = 1
    session.save()
    assert other.purge(2**40, 10) == 1


def test_payloads_are_sealed_with_djangos_key(caplog: pytest.LogCaptureFixture) -> None:
    kept = MemoryStore()
    ours = {"store": kept, "encryption": True}
    with override_settings(SESSION_MW=ours):
        session = SessionStore()
        session["secret"] = "a value that must not be seen"
        session.save()
        record = kept.load(session.session_id or "")
        assert record is not None
        assert b"must not be seen" not in record.payload
    assert "SECRET_KEY" not in caplog.text
    rotated = {"SECRET_KEY": "another secret, which is long enough", "SECRET_KEY_FALLBACKS": [settings.SECRET_KEY]}
    with override_settings(SESSION_MW=ours, **rotated):
        assert SessionStore(session.session_key)["secret"] == "a value that must not be seen"
    with override_settings(SESSION_MW=ours, SECRET_KEY="sixteen bytes, or so"):
        SessionStore()
        assert "SECRET_KEY is weaker" in caplog.text
    with override_settings(SESSION_MW=ours, SECRET_KEY="short"):
        with pytest.raises(ConfigurationError):
            SessionStore()
        with override_settings(DEBUG=True):
            SessionStore()
    with override_settings(SESSION_MW={**ours, "secret_key": "k" * 20 + "0123456789abcdefghij"}, SECRET_KEY="short"):
        SessionStore()


# -- system checks -----------------------------------------------------------------------------------------------------


def found(**changed: Any) -> list[str]:
    with override_settings(**changed):
        return [str(each.id) for each in run_checks(tags=["security"])]


def test_settings_that_go_together_are_left_in_peace() -> None:
    assert found() == []
    assert found(SESSION_ENGINE="django.contrib.sessions.backends.db", SESSION_MW=None) == []


def test_settings_that_fight_each_other() -> None:
    ours: dict[str, Any] = dict(settings.SESSION_MW)
    assert found(MIDDLEWARE=[DJANGOS, OURS, *REST]) == ["session_mw.E002"]
    assert found(MIDDLEWARE=[DJANGOS, *REST]) == ["session_mw.W001"]
    assert found(MIDDLEWARE=[OURS]) == ["session_mw.E004"]
    assert found(MIDDLEWARE=[]) == ["session_mw.E004", "session_mw.W001"]
    assert found(MIDDLEWARE=[OURS, OURS, DJANGOS, *REST]) == ["session_mw.E005"]
    assert found(MIDDLEWARE=[OURS, DJANGOS, *REST, DJANGOS]) == ["session_mw.E005"]
    assert found(MIDDLEWARE=[DJANGOS, *REST], SESSION_MW={**ours, "session_ip": True}) == ["session_mw.E003"]
    for prefixed in ("__Host-sessionid", "__Secure-sessionid", "__Http-sessionid"):
        bare = {"SESSION_COOKIE_NAME": prefixed, "SESSION_COOKIE_SECURE": True, "MIDDLEWARE": [DJANGOS, *REST]}
        assert found(**bare) == ["session_mw.E006"]
        assert found(**bare, SESSION_MW={**ours, "session_ip": True}) == ["session_mw.E003", "session_mw.E006"]
    assert found(SESSION_MW={**ours, "idle_timeout": 900}) == ["session_mw.W002"]
    assert found(SESSION_MW={**ours, "profile": "BANKING"}) == ["session_mw.W002"]
    assert found(SESSION_MW={**ours, "profile": "BANKING"}, SESSION_SAVE_EVERY_REQUEST=True) == []
    assert found(SESSION_SERIALIZER="django_engine.test_stack.Serializer") == ["session_mw.W003"]
    assert found(SESSION_COOKIE_NAME="__Host-sessionid") == ["session_mw.E001"]
    assert found(SESSION_COOKIE_NAME="__Host-sessionid", SESSION_COOKIE_SECURE=True) == []
    assert found(MIDDLEWARE=["django_engine.test_stack.plain", OURS, DJANGOS]) == []
    assert found(MIDDLEWARE=["django_engine.test_stack.Extended", DJANGOS]) == []
    assert found(MIDDLEWARE=["django_engine.test_stack.Extended", OURS, DJANGOS]) == ["session_mw.E005"]


def plain(get_response: Any) -> Any:
    """A middleware that is a function."""
    return get_response


class Extended(StoreErrorMiddleware):
    """Ours, as a site may extend it."""


class Serializer:
    """Another way to keep values."""


# -- nothing secret ----------------------------------------------------------------------------------------------------


def test_the_secret_is_in_the_key_alone(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    client = Client()
    ask(client, put(a="hush"))
    key = client.cookies[NAME].value
    secret = key.partition(".")[2]
    session = SessionStore(key)
    unread = f"{session!r} {session} {vars(session)!r}"
    assert session["a"] == "hush"
    session.cycle_key()
    fresh = (session.session_key or "").partition(".")[2]
    shown = f"{unread} {session!r} {vars(session)!r} {session._state!r} {caplog.text}"
    for hidden in (secret, fresh, "hush"):
        assert hidden not in shown


def test_our_middleware_can_stand_in_both_kinds_of_stacks() -> None:
    assert (StoreErrorMiddleware.sync_capable, StoreErrorMiddleware.async_capable) == (True, True)
    response = HttpResponse()
    assert StoreErrorMiddleware(lambda request: response)(RequestFactory().get("/")) is response
