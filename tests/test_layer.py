"""The layer: how it is built, what it tells, what decides, and what it refuses."""

from __future__ import annotations

import gc
import logging
from collections.abc import Generator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from harness import HOME, KEY, App, Browser, both, token

from session_mw.config import SessionConfig
from session_mw.core.record import SessionRecord
from session_mw.core.runners import run
from session_mw.errors import ConfigurationError, SessionClosedError, SessionStateError, StoreError
from session_mw.home import build_manager
from session_mw.managers import Opened
from session_mw.managers.cookie import CookieManager
from session_mw.managers.store import StoreManager
from session_mw.service import AsyncSessionService, SessionService
from session_mw.stores import Store
from session_mw.stores.memory import MemoryStore
from session_mw.testing import FaultyStore

# -- building ------------------------------------------------------------------------------------------------------


def test_a_configuration_says_where_sessions_live() -> None:
    assert isinstance(build_manager(SessionConfig(store="memory:", secret_key=KEY)), StoreManager)
    assert isinstance(build_manager(SessionConfig(secret_key=KEY)), CookieManager)
    with pytest.raises(ConfigurationError, match="secret_key=") as both_lines:
        build_manager(SessionConfig())
    assert "store=" in str(both_lines.value)


def test_an_awaited_store_does_not_serve_wsgi() -> None:
    with pytest.raises(ConfigurationError, match="awaited"):
        App(store=MemoryStore().aio())
    assert App(store=MemoryStore().aio(), on_loop=True).layer.may_wait
    assert not App(store=MemoryStore(), on_loop=True).layer.may_wait
    assert not App("cookie", on_loop=True).layer.may_wait


@both
def test_a_manager_may_be_given(kind: str) -> None:
    made = CookieManager() if kind == "cookie" else StoreManager(MemoryStore())
    app = App(kind, manager=made)
    with app.request() as s:
        assert s.manager is made


@pytest.mark.parametrize(
    "use",
    [
        lambda store: App(store=store, table_index="b"),
        lambda store: App(store=store, table_index="b", on_loop=True),
        lambda store: App(manager=StoreManager(store), table_index="b"),
        lambda store: App(store="memory:", migrate_from=store, table_index="b"),
        lambda store: SessionService(store=store, table_index="b"),
        lambda store: AsyncSessionService(store=store, table_index="b"),
        lambda store: App(table_index="b").begin().session.set_store(store),
        lambda store: App(table_index="b").begin().session.set_manager(StoreManager(store)),
    ],
    ids=["wsgi", "asgi", "manager", "migrate_from", "service", "awaited-service", "set_store", "set_manager"],
)
def test_a_store_object_is_one_applications(use: Any) -> None:
    """It tells no application from another, so a token of one would open in the other, and lists would show both's."""
    store = MemoryStore()
    App(store=store, table_index="a")
    with pytest.raises(ConfigurationError, match=r"'a'.*'b'.*store of its own"):
        use(store)
    use(MemoryStore())


def test_all_that_serves_one_application_may_share_its_store() -> None:
    store = MemoryStore()
    app = App(store=store)
    with app.request() as s:
        s.login(user_id="ann")
    assert SessionService(store=store, clock=app.clock).list_sessions("ann") == [s.session_id]
    with App(manager=StoreManager(store), clock=app.clock).request(app.browser) as s:
        assert s.user_id == "ann"


def test_a_url_names_another_place_for_another_application(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/sessions.db"
    home, shop = App(store=url), App(table_index="shop")
    with shop.request() as s:
        s.set_store(url).login(user_id="ann")
    assert SessionService(store=url, table_index="shop", clock=shop.clock).list_sessions("ann") == [s.session_id]
    assert SessionService(store=url, clock=home.clock).list_sessions("ann") == []


def test_the_place_of_a_store_that_is_gone_is_free() -> None:
    for index in ("a", "b", "c"):
        App(store=MemoryStore(), table_index=index)
        gc.collect()


def test_a_store_that_cannot_be_told_from_others_is_refused() -> None:
    class Bare:
        __slots__ = ("can_rotate", *(name for name in dir(Store) if not name.startswith("_")))

    store, bare = MemoryStore(), Bare()
    for name in Bare.__slots__:
        setattr(bare, name, getattr(store, name))
    with pytest.raises(ConfigurationError, match=r"Bare.*__weakref__"):
        App(store=bare)


@both
@pytest.mark.parametrize("says", [True, False])
def test_a_manager_is_asked_at_each_response_unless_it_said_that_nothing_is_due(kind: str, says: bool) -> None:
    made: Any = CookieManager() if kind == "cookie" else StoreManager(MemoryStore())
    app = App(kind, manager=made)
    with app.request() as s:
        s["a"] = 1
    if not says:

        def opening(values: list[str], now: int) -> Any:
            opened = told(values, now)
            return Opened(run(opened, made.store).record if isinstance(opened, Generator) else opened.record)

        told, made.open = made.open, opening
    asked: list[str] = []
    commit = made.commit
    made.commit = lambda *arguments: asked.append("commit") or commit(*arguments)
    with app.request() as s:
        assert s["a"] == 1
    assert asked == ([] if says else ["commit"])
    with app.request() as s:
        s["a"] = 2
    assert app.look() == {"a": 2}


def test_the_store_is_opened_once() -> None:
    store = FaultyStore(MemoryStore())
    app = App(store=store)
    assert not app.layer.ready
    store.fail("initialize")
    with pytest.raises(StoreError):
        app.layer.open_store()
    assert not app.layer.ready
    app.layer.open_store()
    assert app.layer.ready


@pytest.mark.anyio
async def test_the_store_is_opened_and_closed_on_a_loop() -> None:
    store = FaultyStore(MemoryStore())
    layer = App(store=store, on_loop=True).layer
    await layer.aopen_store()
    assert (layer.ready, store.count("initialize")) == (True, 1)
    await layer.aclose_store()
    assert (layer.ready, store.count("teardown")) == (False, 1)
    client_kept = App("cookie", on_loop=True).layer
    await client_kept.aopen_store()
    await client_kept.aclose_store()
    assert client_kept.ready
    App("cookie").layer.open_store()


# -- events --------------------------------------------------------------------------------------------------------


@both
def test_one_stream_and_its_filters(kind: str) -> None:
    heard: list[Any] = []
    filters = {name: lambda event, name=name: heard.append((name, event.name)) for name in ("open", "create", "close")}
    app = App(
        kind,
        on_destroy=lambda event: heard.append(("destroy", event.name)),
        **{f"on_{name}": callback for name, callback in filters.items()},
    )
    with app.request() as s:
        s["a"] = 1
        handle = s.session_id
    created = app.events[0]
    assert (created.name, created.session_id, created.at, created.user_id) == ("create", handle, app.clock.now, None)
    assert app.told() == ["create", "close"]
    with app.request() as s:
        s["a"] = 2
    assert app.told() == ["open", "save", "close"]
    with app.request() as s:
        s.login(user_id="ann")
    assert [(event.name, event.user_id) for event in app.events] == [
        ("open", None),
        ("login", "ann"),
        ("rotate", "ann"),
        ("close", None),
    ]
    app.told()
    with app.request() as s:
        s.logout()
        s.destroy()
    assert app.told() == ["open", "logout", "destroy", "close"]
    with pytest.raises(ZeroDivisionError), app.request() as s:  # noqa: PT012
        len(s)
        raise ZeroDivisionError
    assert app.told() == ["close:error"]
    assert {name for name, _ in heard} == {"open", "create", "close", "destroy"}
    assert all(name == event for name, event in heard)


@both
def test_a_listener_that_fails_is_logged_and_changes_nothing(kind: str, caplog: pytest.LogCaptureFixture) -> None:
    def broken(event: Any) -> None:
        raise ZeroDivisionError

    app = App(kind, on_event=broken, on_create=broken)
    with app.request() as s:
        s["a"] = 1
    assert app.look() == {"a": 1}
    assert len([record for record in caplog.records if record.levelno == logging.ERROR]) >= 3


@pytest.mark.anyio
async def test_listeners_may_be_awaited_on_a_loop(caplog: pytest.LogCaptureFixture) -> None:
    heard: list[str] = []

    async def listen(event: Any) -> None:
        heard.append(event.name)

    async def broken(event: Any) -> None:
        raise ZeroDivisionError

    app = App(on_loop=True, on_create=listen, on_close=broken)
    step = app.begin()
    await step.session.load()
    step.session["a"] = 1
    step.session.commit()
    step.respond()
    await app.layer.finish(step.session, failed=False)
    assert heard == ["create"]
    assert app.told() == ["create", "close"]
    assert "broken" in caplog.text


@both
@pytest.mark.parametrize("text", ["", "x", "a" * 24 + "." + "b" * 44, "x" * 4000, "<script>"])
def test_what_a_client_sends_never_raises(kind: str, text: str, caplog: pytest.LogCaptureFixture) -> None:
    app = App(kind)
    with caplog.at_level(logging.DEBUG), app.request(Browser(**{"__Host-session": text})) as s:
        assert (s, s.is_new) == ({}, True)
    (event,) = [event for event in app.events if event.name == "refused"]
    assert event.reason in ("malformed", "unknown", "unknown_key", "forged")
    assert event.session_id is None
    assert f"refused ({event.reason})" in caplog.text


@both
def test_a_doubled_host_cookie_is_refused(kind: str) -> None:
    app = App(kind)
    with app.request() as s:
        s["a"] = 1
    header = app.browser.header
    step = app.begin()
    step.session._source.cookie = header + b"; " + header
    assert step.session == {}
    assert app.told("refused") == ["refused:doubled"]


# -- callbacks that decide -----------------------------------------------------------------------------------------


def broken(_: Any) -> bool:
    raise ZeroDivisionError


@both
@pytest.mark.parametrize("veto", [lambda r: False, lambda r: None, lambda r: 1, broken])
def test_on_validate_fails_closed(kind: str, veto: Any) -> None:
    app = App(kind)
    with app.request() as s:
        s["a"] = 1
        s.login(user_id="ann")
    asked: list[Any] = []
    strict = App(kind, store=app.store, on_validate=lambda record: (asked.append(record), veto(record))[1])
    strict.browser = app.browser.copy()
    with strict.request() as s:
        assert (s, s.online(), s.user_id, s.opened_id, s.is_new) == ({}, False, None, None, True)
        s["mine"] = 1
        assert s.session_id != asked[0].session_id
    assert strict.told("refused") == ["refused:vetoed"]
    assert (asked[0].user_id, asked[0].data) == ("ann", None)
    assert strict.look() == {} or kind == "store"
    assert app.look() == {"a": 1}  # the record was not touched


@both
def test_on_validate_lets_in(kind: str) -> None:
    app = App(kind, on_validate=lambda record: record.user_id == "ann")
    with app.request() as s:
        s["a"] = 1
        s.login(user_id="ann")
    assert app.look() == {"a": 1}


@pytest.mark.anyio
@both
async def test_on_validate_may_be_awaited(kind: str) -> None:
    async def veto(record: Any) -> bool:
        return record.user_id == "ann"

    app = App(kind, on_loop=True, on_validate=veto)
    for user, opens in (("ann", True), ("bob", False)):
        step = app.begin()
        await step.session.load()
        step.session["a"] = 1
        step.session.login(user_id=user)
        step.respond()
        step = app.begin()
        with pytest.raises(SessionStateError, match="load"):
            len(step.session)
        assert bool(await step.session.load()) is opens


LOOKS_CLOSER: list[dict[str, Any]] = [{"strict_session_ip": True}, {"on_validate": lambda r: True}]
DAMAGED = [b"", b"?{}\n", b"{]\n", b'{"a":{"$x":1}}\n']


@pytest.mark.parametrize(
    ("settings", "payload"),
    [
        *((settings, payload) for settings in ({}, *LOOKS_CLOSER) for payload in DAMAGED),
        *((settings, b'{"a":1}\n{]') for settings in LOOKS_CLOSER),  # others read a second segment when it is asked for
    ],
)
def test_a_damaged_record_is_an_empty_session(settings: dict[str, Any], payload: bytes) -> None:
    app = App(**settings)
    with app.request() as s:
        s["a"] = 1
        s.login(HOME if settings.get("strict_session_ip") else None, user_id="ann")
    assert app.store is not None
    (record,) = app.store._live.values()
    app.store._live[record.id] = msgspec.structs.replace(record, payload=payload)
    with app.request() as s:
        assert (dict(s), s.user_id) == ({}, None)
        s["b"] = 2
    assert app.told("refused") == ["refused:corrupt"]
    assert app.look() == {"b": 2}


# -- store faults --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["load", "save", "rotate", "delete"])
def test_a_store_fault_propagates_and_sends_no_cookie(method: str) -> None:
    store = FaultyStore(MemoryStore())
    app = App(store=store)
    with app.request() as s:
        s["a"] = 1
    kept = dict(app.browser.cookies)
    app.sent = []
    store.fail(method)
    with pytest.raises(StoreError, match="told to fail"), app.request() as s:  # noqa: PT012
        if method == "delete":
            s.clear()
        elif method == "rotate":
            s.regenerate()
        else:
            s["a"] = 2
    assert (app.sent, app.browser.cookies) == ([], kept)
    assert app.look() == {"a": 1}


@pytest.mark.anyio
@pytest.mark.parametrize("kind", ["cookie", "called", "awaited"])
async def test_after_the_request_a_session_nobody_touched_is_closed(kind: str) -> None:
    store = MemoryStore().aio() if kind == "awaited" else None
    app = App(kind, store=store, on_loop=True)
    value = token().text
    app.browser.cookies[app.config.cookie.name] = value
    session = app.begin().session
    app.layer.close(session)
    calls: list[Any] = [
        *(session.load, session.acommit, lambda: session.load(value)),
        *(session.commit, lambda: session.start(value), session.ip_changed, lambda: session.get("a")),
    ]
    for call in calls:
        with pytest.raises(SessionClosedError, match=r"request is over.*go on with SessionService"):
            await call()


@both
def test_after_the_request_nobody_knows_where_its_client_calls_from(kind: str) -> None:
    app = App(kind, strict_session_ip=True)
    with app.request() as session:
        session.login(user_id="ann")
        assert session.is_session_ip()
    assert (session.ip_changed(), session.is_session_ip()) == (True, False)


@pytest.mark.anyio
async def test_a_socket_is_looked_after() -> None:
    for kind in ("cookie", "store"):
        app = App(kind, on_loop=True, idle_timeout=100)
        layer = app.layer
        step = app.begin()
        step.session["a"] = 1
        step.respond()
        base = step.session._state.base
        assert base is not None
        assert await layer.still_there(step.session, base, active=True) == base
        app.clock.advance(100)
        assert await layer.still_there(step.session, base, active=False) is None


@pytest.mark.anyio
async def test_a_veto_reaches_an_open_socket() -> None:
    """Asked about the record as it is now."""
    asked: list[tuple[str, int]] = []

    def allow(record: SessionRecord) -> bool:
        asked.append((record.session_id, record.last_activity))
        return "veto" not in asked

    for kind in ("cookie", "store"):
        app = App(kind, on_loop=True, on_validate=allow, touch_interval=10)
        step = app.begin()
        step.session["a"] = 1
        step.respond()
        base = step.session._state.base
        assert base is not None
        app.clock.advance(50)
        seen = await app.layer.still_there(step.session, base, active=True)
        assert seen is not None
        assert asked[-1] == (base.id, base.last_activity + 50 * (kind == "store"))
        asked.append("veto")
        assert await app.layer.still_there(step.session, seen, active=True) is None
        asked.clear()


# -- what goes out -------------------------------------------------------------------------------------------------


def insecure(caplog: pytest.LogCaptureFixture) -> int:
    return caplog.text.count("over plain http")


def test_an_insecure_cookie_is_warned_of_once(caplog: pytest.LogCaptureFixture) -> None:
    app = App()
    for host in ("localhost:8000", "app.localhost", "127.0.0.1", "[::1]", "[::1]:8000", "LOCALHOST"):
        with app.request(Browser(), scheme="http", headers={"host": host}) as s:
            s["a"] = 1
    assert insecure(caplog) == 0
    for host in ("example.com", "localhost.example.com", "[2001:db8::1]:80", ""):
        with app.request(Browser(), scheme="http", headers={"host": host}) as s:
            s["a"] = 1
    assert insecure(caplog) == 1


@pytest.mark.parametrize(
    ("peer", "headers", "warned"),
    [
        ("10.0.0.1", {"x-forwarded-proto": "https"}, 0),
        ("10.0.0.1", {"forwarded": "for=192.0.2.1;proto=https"}, 0),
        (HOME, {"x-forwarded-proto": "https"}, 1),
        ("10.0.0.1", {}, 1),
    ],
)
def test_only_trusted_proxies_vouch_for_https(
    peer: str, headers: dict[str, str], warned: int, caplog: pytest.LogCaptureFixture
) -> None:
    app = App(trusted_proxies=("10.0.0.0/8",))
    with app.request(peer=peer, scheme="http", headers=headers) as s:
        s["a"] = 1
    assert insecure(caplog) == warned


@pytest.mark.parametrize(("scheme", "secure"), [("https", True), ("wss", True), ("http", False), ("ws", False)])
def test_secure_auto_follows_the_scheme_and_needs_no_warning(
    scheme: str, secure: bool, caplog: pytest.LogCaptureFixture
) -> None:
    app = App(cookie_secure="auto", cookie_name="session")
    with app.request(scheme=scheme) as s:
        s["a"] = 1
    assert ("Secure" in app.sent[0]) is secure
    assert insecure(caplog) == 0


# -- who has to wait, and what is left when nothing can be kept ----------------------------------------------------


def test_only_a_well_formed_token_of_an_awaited_store_is_waited_for() -> None:
    awaited = App(store=MemoryStore().aio(), on_loop=True)
    whole = Browser(**{"__Host-session": token().text})
    assert awaited.layer.must_wait(awaited.begin(whole).session)
    assert not awaited.layer.must_wait(awaited.begin(Browser(**{"__Host-session": "x"})).session)
    assert not awaited.layer.must_wait(awaited.begin(Browser()).session)
    for app in (App(on_loop=True), App("cookie", on_loop=True)):
        assert not app.layer.must_wait(app.begin(whole).session)


@pytest.mark.parametrize(("end", "left"), [(lambda s: s.logout(), {"a": 1}), (lambda s: s.destroy(), {})])
def test_giving_up_keeps_the_endings_alone(end: Any, left: dict[str, Any]) -> None:
    app = App()
    with app.request() as s:
        s["a"] = 1
        s.login(user_id="ann")
    step = app.begin()
    step.session["b"] = 2
    end(step.session)
    app.layer.give_up(step.session)
    with app.request() as s:
        assert (s, s.online()) == (left, False)


def test_giving_up_without_endings_closes_the_session() -> None:
    app = App()
    step = app.begin()
    step.session["a"] = 1
    app.layer.give_up(step.session)
    with pytest.raises(SessionStateError, match="over"):
        step.session["b"] = 2
    app.layer.give_up(app.begin().session)  # nobody had looked
    assert repr(app.store) == "<MemoryStore 0 of 100000>"


def test_a_session_first_looked_at_when_its_request_is_over() -> None:
    app = App()
    with app.request() as s:
        pass
    with pytest.raises(SessionStateError, match="over"):
        s.get("a")
