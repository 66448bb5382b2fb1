"""The SessionService, both faces, over memory and SQLite: what each method promises, and that middlewares agree."""

from __future__ import annotations

import asyncio
import inspect
import json
import threading
import uuid
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT
from harness import KEY, App, Browser

from session_mw import (
    AsyncSessionService,
    ConfigurationError,
    SessionConfig,
    SessionExpiredError,
    SessionLogicError,
    SessionNotFoundError,
    SessionRecord,
    SessionSerializationError,
    SessionService,
    SessionTooLargeError,
    StoreConflictError,
    StoreError,
)
from session_mw.core.tokens import RANDOM_BYTES, mint
from session_mw.managers.store import TRIES
from session_mw.stores.faces import Awaited
from session_mw.stores.memory import MemoryStore
from session_mw.stores.url import store_from_url
from session_mw.testing import Clock, FaultyStore

HOUR, DAY = 3600, 86400
UNKNOWN = mint(b"x" * RANDOM_BYTES)


class Awaiting:
    """An AsyncSessionService to be called: every answer is awaited on one loop."""

    def __init__(self, service: AsyncSessionService, runner: asyncio.Runner) -> None:
        self.service = service
        self._runner = runner

    def __getattr__(self, name: str) -> Any:
        there = getattr(self.service, name)
        if not inspect.iscoroutinefunction(there):
            return there
        return lambda *args, **options: self._runner.run(there(*args, **options))


Make = Callable[..., Any]


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(params=["sync-memory", "async-memory", "awaited-memory", "sync-sqlite", "async-sqlite"])
def make(request: pytest.FixtureRequest, tmp_path: Path, clock: Clock) -> Iterator[Make]:
    """``make(**settings)``: a service of one face over one kind of store; all of them share that store."""
    face, _, kind = request.param.partition("-")
    kept = MemoryStore(clock=clock) if kind == "memory" else store_from_url(f"sqlite:///{tmp_path}/sessions.db")
    with asyncio.Runner() as runner:

        def build(**settings: Any) -> Any:
            store = settings.pop("store", kept)
            settings.setdefault("clock", clock)
            if face == "sync":
                return SessionService(store=store, **settings)
            given = store.aio() if face == "awaited" else store
            return Awaiting(AsyncSessionService(store=given, **settings), runner)

        yield build
        kept.teardown()  # type: ignore[union-attr]


@pytest.fixture
def service(make: Make) -> Any:
    return make()


# -- creating and looking ------------------------------------------------------------------------------------------


def test_create_and_get(service: Any) -> None:
    handle = service.create_session("ada", {"name": "Ada", "preferences": {"theme": "dark"}, "zero": 0.0, "none": {}})
    assert service.get_session(handle) == {
        "name": "Ada",
        "preferences": {"theme": "dark"},
        "zero": 0.0,
        "none": {},
    }
    assert isinstance(service.get_session(handle)["zero"], float)
    assert service.validate_session(handle) is True
    copy = service.get_session(handle)
    copy["preferences"]["theme"] = "light"
    assert service.get_session(handle)["preferences"] == {"theme": "dark"}


def test_a_record_is_enough_for_a_devices_page(service: Any, clock: Clock) -> None:
    handle = service.create_session("ada", {"a": 1})
    now = int(clock())
    record = service.get_record(handle)
    assert record == SessionRecord(
        session_id=handle,
        user_id="ada",
        created_at=now,
        last_activity=now,
        expires_at=now + 2 * HOUR,
        absolute_expires_at=now + 7 * DAY,
        login_ip=None,
        login_user_agent=None,
        version=1,
        data={"a": 1},
    )
    (listed,) = service.list_records("ada")
    assert (listed.session_id, listed.data) == (handle, None)


@pytest.mark.parametrize("data", [None, {}])
def test_an_anonymous_session_without_data_is_kept_all_the_same(service: Any, data: Any) -> None:
    handle = service.create_session(None, data)
    assert service.get_session(handle) == {}
    assert service.get_record(handle).user_id is None
    service.update_session(handle, {"a": 1})
    service.delete_keys(handle, "a", "never there")
    assert service.get_session(handle) == {}
    service.replace_session(handle, {})
    assert service.validate_session(handle)


@pytest.mark.parametrize(
    ("user_id", "kept"), [(7, "7"), (uuid.UUID(int=7), "00000000-0000-0000-0000-000000000007"), ("x" * 255, "x" * 255)]
)
def test_users_of_every_kind(service: Any, user_id: Any, kept: str) -> None:
    handle = service.create_session(user_id)
    assert service.get_record(handle).user_id == kept
    assert service.list_sessions(kept) == service.list_sessions(user_id) == [handle]


@pytest.mark.parametrize("user_id", ["", "x" * 256, True, 1.5, b"ada", "\ud800"])
def test_what_is_no_user(service: Any, user_id: Any) -> None:
    with pytest.raises(ValueError, match="user_id"):
        service.create_session(user_id)
    for ask in (service.list_sessions, service.list_records, service.destroy_user_sessions):
        with pytest.raises(ValueError, match="user_id"):
            ask(user_id)
    with pytest.raises(ValueError, match="user_id"):
        service.find_sessions(user_id, lambda record: True)


def test_lists_of_nobody_are_refused(service: Any) -> None:
    with pytest.raises(ValueError, match="NoneType"):
        service.list_sessions(None)


def test_data_that_cannot_be_kept_makes_no_session(service: Any) -> None:
    with pytest.raises(SessionSerializationError, match=r"session\['bad'\]"):
        service.create_session("ada", {"bad": float("nan")})
    with pytest.raises(SessionTooLargeError):
        service.create_session("ada", {"big": "x" * 5_000_000})
    with pytest.raises(SessionSerializationError):
        service.create_session("ada", {5: "x"})
    assert service.list_sessions("ada") == []


@pytest.mark.parametrize("lifetime", [0, -1, True, 1.5, "900", 7 * DAY + 1, timedelta(seconds=0.5), timedelta(days=8)])
def test_a_lifetime_that_cannot_be(service: Any, lifetime: Any) -> None:
    with pytest.raises(ValueError, match=r"lifetime: .*absolute_timeout"):
        service.create_session("ada", lifetime=lifetime)
    assert service.list_sessions("ada") == []


def test_lifetimes_short_and_long(service: Any, clock: Clock) -> None:
    short = service.create_session("ada", lifetime=900)
    long = service.create_session("ada", lifetime=timedelta(days=1))
    clock.advance(899)
    assert service.touch_session(short) == int(clock()) + 900  # it slides by its own limit
    clock.advance(900)
    assert service.get_session(short) is None
    assert service.get_session(long) == {}
    clock.advance(DAY - 1799)
    assert service.get_session(long) is None


@pytest.mark.parametrize("handle", [UNKNOWN.id, UNKNOWN.text, "", "../../etc/passwd", UNKNOWN.id + "\n", None, 7])
def test_what_is_not_there(service: Any, handle: Any) -> None:
    assert service.get_session(handle) is None
    assert service.get_record(handle) is None
    assert service.validate_session(handle) is False
    assert service.destroy_session(handle) is False
    for ask in (
        lambda: service.update_session(handle, {"a": 1}),
        lambda: service.update_with(handle, "a", lambda value: 1),
        lambda: service.replace_session(handle, {}),
        lambda: service.delete_keys(handle, "a"),
        lambda: service.extend_session(handle, 60),
        lambda: service.touch_session(handle),
        lambda: service.regenerate_session(handle),
        lambda: service.issue_token(handle),
    ):
        with pytest.raises(SessionNotFoundError) as caught:
            ask()
        assert type(caught.value) is SessionNotFoundError
        assert isinstance(caught.value, LookupError)
        assert UNKNOWN.id not in str(caught.value)


def test_only_ids_reach_the_store(clock: Clock) -> None:
    store = FaultyStore(MemoryStore(clock=clock))
    service = SessionService(store=store, clock=clock)
    for handle in ("../../etc/passwd", UNKNOWN.text, UNKNOWN.id + "\n", ""):
        assert service.get_session(handle) is None
        assert service.destroy_session(handle) is False
    service.authenticate(UNKNOWN.id)
    assert store.count("load") == 0
    assert service.get_session(UNKNOWN.id) is None
    assert store.count("load") == 1


# -- expiry --------------------------------------------------------------------------------------------------------


def test_reading_slides_nothing_and_deletes_what_expired(make: Make, clock: Clock) -> None:
    store = FaultyStore(MemoryStore(clock=clock)) if isinstance(make(), SessionService) else None
    service = make(store=store) if store else make()
    handle = service.create_session("ada", {"a": 1})
    clock.advance(2 * HOUR - 1)
    assert service.get_session(handle) == {"a": 1}
    assert service.list_sessions("ada") == [handle]
    clock.advance(1)  # now >= deadline
    assert service.list_sessions("ada") == service.list_records("ada") == []
    assert service.get_session(handle) is None
    if store:
        assert store.load(handle) is None
    assert service.cleanup_expired_sessions() == 0


@pytest.mark.parametrize(
    "ask",
    [
        lambda service, handle: service.update_session(handle, {"a": 2}),
        lambda service, handle: service.update_with(handle, "a", lambda value: 2),
        lambda service, handle: service.replace_session(handle, {}),
        lambda service, handle: service.delete_keys(handle, "a"),
        lambda service, handle: service.extend_session(handle, DAY),
        lambda service, handle: service.touch_session(handle),
        lambda service, handle: service.regenerate_session(handle),
        lambda service, handle: service.issue_token(handle),
    ],
)
def test_nothing_revives_the_dead(service: Any, clock: Clock, ask: Any) -> None:
    handle = service.create_session("ada", {"a": 1})
    clock.advance(2 * HOUR)
    with pytest.raises(SessionExpiredError):
        ask(service, handle)
    clock.now -= 10  # and it was deleted
    assert service.get_session(handle) is None


@pytest.mark.parametrize("ask", ["get_record", "validate_session", "destroy_session"])
def test_an_expired_session_is_deleted_by_whoever_meets_it(service: Any, clock: Clock, ask: str) -> None:
    handle = service.create_session("ada")
    clock.advance(2 * HOUR)
    assert not getattr(service, ask)(handle)
    assert service.cleanup_expired_sessions() == 0


# -- changing ------------------------------------------------------------------------------------------------------


def test_update_merges_at_the_top(service: Any) -> None:
    handle = service.create_session("ada", {"a": {"x": 1, "y": 2}, "b": 1})
    assert service.update_session(handle, {"a": {"x": 9}, "5": "five"}) is None
    service.update_session(handle, {"5": "V"})
    assert service.get_session(handle) == {"a": {"x": 9}, "b": 1, "5": "V"}
    service.delete_keys(handle, "a", "b")
    assert service.get_session(handle) == {"5": "V"}
    service.replace_session(handle, {"new": [1, 2]})
    assert service.get_session(handle) == {"new": [1, 2]}
    assert service.update_with(handle, "new", lambda value: [*value, 3]) == [1, 2, 3]
    assert service.update_with(handle, "count", lambda value: value + 1, 0) == 1
    assert service.get_session(handle) == {"new": [1, 2, 3], "count": 1}


def test_update_is_no_activity_and_an_equal_value_is_not_written(service: Any, clock: Clock) -> None:
    handle = service.create_session("ada", {"a": 1})
    before = service.get_record(handle)
    clock.advance(HOUR)  # a request's touch would be due
    service.update_session(handle, {"a": 1})
    assert service.get_record(handle) == before
    service.update_session(handle, {"a": 2})
    after = service.get_record(handle)
    assert (after.last_activity, after.expires_at, after.version) == (before.last_activity, before.expires_at, 2)


def test_an_update_that_cannot_be_kept_changes_nothing(service: Any) -> None:
    handle = service.create_session("ada", {"a": 1})
    with pytest.raises(SessionSerializationError, match=r"session\['b'\]\[0\]"):
        service.update_session(handle, {"a": 2, "b": [object()]})
    with pytest.raises(SessionSerializationError, match=r"session\['b'\]"):
        service.update_with(handle, "b", lambda value: {1: 2})
    with pytest.raises(SessionSerializationError, match=r"session\['b'\]"):
        service.replace_session(handle, {"b": float("inf")})
    with pytest.raises(ValueError, match="returned None"):
        service.update_with(handle, "a", lambda value: None)
    with pytest.raises(TypeError):
        service.update_session(handle, 5)
    assert service.get_session(handle) == {"a": 1}
    assert service.get_record(handle).version == 1


def test_update_with_gets_a_copy(service: Any) -> None:
    handle = service.create_session("ada", {"list": [1]})

    def broken(value: list[int]) -> list[int]:
        value.append(2)
        raise RuntimeError("and then it failed")

    with pytest.raises(RuntimeError):
        service.update_with(handle, "list", broken)
    assert service.get_session(handle) == {"list": [1]}


# -- time ----------------------------------------------------------------------------------------------------------


def test_extend_adds_and_touch_slides(service: Any, clock: Clock) -> None:
    handle = service.create_session("ada", {"a": 1})
    end = int(clock()) + 2 * HOUR
    assert service.touch_session(handle) == end
    assert service.extend_session(handle, HOUR) == end + HOUR
    assert service.extend_session(handle, HOUR) == end + 2 * HOUR
    clock.advance(600)
    assert service.touch_session(handle) == end + 2 * HOUR  # never lowers
    record = service.get_record(handle)
    assert (record.expires_at, record.last_activity) == (end + 2 * HOUR, int(clock()))
    clock.advance(3 * HOUR)
    assert service.touch_session(handle) == int(clock()) + 2 * HOUR
    assert service.get_session(handle) == {"a": 1}


def test_neither_passes_the_absolute_deadline(service: Any, clock: Clock) -> None:
    handle = service.create_session("ada", lifetime=5 * DAY)
    over = service.get_record(handle).absolute_expires_at
    assert service.extend_session(handle, 30 * DAY) == over
    assert service.extend_session(handle, 1) == over
    clock.advance(4 * DAY)
    assert service.touch_session(handle) == over
    clock.advance(3 * DAY)
    with pytest.raises(SessionExpiredError):
        service.touch_session(handle)


@pytest.mark.parametrize("seconds", [0, -5, True, 1.5, "60"])
def test_what_cannot_be_added(service: Any, seconds: Any) -> None:
    handle = service.create_session("ada")
    with pytest.raises(ValueError, match="above 0"):
        service.extend_session(handle, seconds)


# -- tokens --------------------------------------------------------------------------------------------------------


def test_one_live_token_per_session(service: Any) -> None:
    handle = service.create_session("ada", {"a": 1})
    token = service.issue_token(handle)
    assert token.partition(".")[0] == handle
    found = service.authenticate(token)
    assert (found.session_id, found.user_id, found.data) == (handle, "ada", None)
    with pytest.raises(SessionLogicError, match="replace=True"):
        service.issue_token(handle)
    assert service.authenticate(token) is not None
    another = service.issue_token(handle, replace=True)
    assert service.authenticate(token) is None
    assert service.authenticate(another).session_id == handle
    assert service.get_session(handle) == {"a": 1}


def test_replace_where_there_is_none_yet(service: Any) -> None:
    handle = service.create_session("ada")
    assert service.authenticate(service.issue_token(handle, replace=True)) is not None


@pytest.mark.parametrize("ending", ["destroy", "expire", "regenerate", "user", "all"])
def test_a_token_opens_nothing_once_its_session_ended(service: Any, clock: Clock, ending: str) -> None:
    handle = service.create_session("ada")
    token = service.issue_token(handle)
    match ending:
        case "destroy":
            service.destroy_session(handle)
        case "expire":
            clock.advance(2 * HOUR)
        case "regenerate":
            service.regenerate_session(handle)
        case "user":
            service.destroy_user_sessions("ada")
        case _:
            service.destroy_all_sessions()
    assert service.authenticate(token) is None


def test_only_whole_tokens_are_accepted(service: Any) -> None:
    handle = service.create_session("ada")
    for claim in (handle, f"{handle}.", f"{handle}.{'A' * 44}", "", None, 7, UNKNOWN.text):
        assert service.authenticate(claim) is None
    token = service.issue_token(handle)
    for claim in (handle, token[:-1], token + "A", token + "\n", token.upper(), f"{handle}.{UNKNOWN.secret}"):
        assert service.authenticate(claim) is None


def test_authenticate_moves_no_deadline(service: Any, clock: Clock) -> None:
    handle = service.create_session("ada")
    token = service.issue_token(handle)
    before = service.get_record(handle)
    clock.advance(HOUR)
    assert service.authenticate(token).expires_at == before.expires_at
    assert service.get_record(handle) == before


# -- regenerating --------------------------------------------------------------------------------------------------


def test_regenerate_keeps_all_but_the_id(service: Any, clock: Clock) -> None:
    handle = service.create_session("ada", {"cart": ["tea"]}, lifetime=DAY)
    token = service.issue_token(handle)
    before = service.get_record(handle)
    clock.advance(HOUR)
    fresh = service.regenerate_session(handle)
    after = service.get_record(fresh)
    assert fresh != handle
    for field in ("user_id", "created_at", "absolute_expires_at", "expires_at", "last_activity", "data"):
        assert getattr(after, field) == getattr(before, field), field
    assert service.get_session(handle) is None
    assert service.list_sessions("ada") == [fresh]
    assert service.authenticate(token) is None
    assert service.authenticate(service.issue_token(fresh)).session_id == fresh  # it had none
    with pytest.raises(SessionNotFoundError):
        service.update_session(handle, {"a": 1})
    assert service.touch_session(fresh) == int(clock()) + DAY  # its own lifetime goes on


# -- lists ---------------------------------------------------------------------------------------------------------


def test_lists_are_newest_first_and_of_one_user(service: Any, clock: Clock) -> None:
    made = []
    for user in ("ada", "bob", "ada", "Ada", "ada"):
        made.append(service.create_session(user))
        clock.advance(1)
    assert service.list_sessions("ada") == [made[4], made[2], made[0]]
    assert [record.session_id for record in service.list_records("ada")] == [made[4], made[2], made[0]]
    assert service.list_sessions("nobody") == []
    service.destroy_session(made[2])
    moved = service.regenerate_session(made[0])
    assert service.list_sessions("ada") == [made[4], moved]  # by creation, which stays


def test_find_sessions(service: Any, clock: Clock) -> None:
    cart = service.create_session("ada", {"items": []})
    clock.advance(1)
    service.create_session("ada", {"views": 3})
    clock.advance(1)
    newer = service.create_session("ada", {"items": ["tea"]})
    found = service.find_sessions("ada", lambda record: "items" in record.data)
    assert [(record.session_id, record.data) for record in found] == [
        (newer, {"items": ["tea"]}),
        (cart, {"items": []}),
    ]
    assert service.find_sessions("ada", lambda record: False) == []


# -- ending --------------------------------------------------------------------------------------------------------


def test_destroy_is_idempotent_and_final(service: Any) -> None:
    handle = service.create_session("ada", {"a": 1})
    assert service.destroy_session(handle) is True
    assert service.destroy_session(handle) is False
    assert service.get_session(handle) is None
    assert service.list_sessions("ada") == []
    with pytest.raises(SessionNotFoundError) as caught:
        service.update_session(handle, {"a": 2})
    assert type(caught.value) is SessionNotFoundError
    assert store_under(service).load(handle).closed  # a straggler is still known for what it is


def test_log_out_everywhere(service: Any) -> None:
    mine = [service.create_session("ada") for _ in range(3)]
    other = service.create_session("bob")
    assert service.destroy_user_sessions("ada", except_id=mine[1]) == 2
    assert service.list_sessions("ada") == [mine[1]]
    assert service.destroy_user_sessions("ada", except_id=other) == 1
    assert service.destroy_user_sessions("ada") == 0
    assert service.list_sessions("bob") == [other]


def test_destroy_all(service: Any) -> None:
    handles = [service.create_session(user) for user in ("ada", "bob", None)]
    assert service.destroy_all_sessions() == 3
    assert [service.get_session(handle) for handle in handles] == [None] * 3
    assert service.destroy_all_sessions() == 0


def test_clean_up_in_batches(service: Any, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("session_mw.managers.service.PURGE_BATCH", 3)
    for _ in range(7):
        service.create_session("ada", lifetime=60)
    kept = service.create_session("ada")
    told: list[int] = []
    assert service.cleanup_expired_sessions(progress=told.append) == 0
    clock.advance(60)
    assert service.cleanup_expired_sessions(limit=2, progress=told.append) == 2
    assert service.cleanup_expired_sessions(progress=told.append) == 5
    assert told == [2, 3, 5]
    assert service.list_sessions("ada") == [kept]


@pytest.mark.parametrize("limit", [0, -1, True, 1.5])
def test_a_limit_that_cannot_be(service: Any, limit: Any) -> None:
    with pytest.raises(ValueError, match="limit"):
        service.cleanup_expired_sessions(limit=limit)


def test_clean_up_decides_by_what_is_stored_now(make: Make, clock: Clock) -> None:
    one, two = make(), make()
    handle = one.create_session("ada")
    one.get_session(handle)
    two.extend_session(handle, HOUR)
    clock.advance(2 * HOUR)
    assert one.cleanup_expired_sessions() == 0
    assert two.get_session(handle) == {}


# -- both ways through the middleware ------------------------------------------------------------------------------

SETTINGS: list[dict[str, Any]] = [
    {},
    {"encryption": True, "secret_key": KEY},
    {"owner_key": "_auth_user_id"},
    {"table_index": "shop"},
]
ways = pytest.mark.parametrize("settings", SETTINGS, ids=lambda settings: next(iter(settings), "plain"))


def browser_with(app: App, token: str) -> Browser:
    return Browser(**{app.config.cookie_name: token})


@ways
def test_a_session_of_the_service_opens_in_the_middleware(make: Make, clock: Clock, settings: Any) -> None:
    service = make(**settings)
    app = App("store", store=store_under(service), clock=clock, **settings)
    handle = service.create_session("ada", {"cart": ["tea"]})
    browser = browser_with(app, service.issue_token(handle))
    with app.request(browser) as session:
        assert session["cart"] == ["tea"]
        assert (session.session_id, session.user_id, session.online()) == (handle, "ada", True)
        assert session.login_timestamp == int(clock())
        assert session.verify_login_token(session.login_token)
        session["cart"] = ["tea", "milk"]
        session.update_with("visits", lambda n: n + 1, 0)
    data = service.get_session(handle)
    assert (data["cart"], data["visits"]) == (["tea", "milk"], 1)
    with app.request(browser) as session:
        assert session.online()
        assert session.logout(clear_data=True)
    assert service.get_session(handle) is None
    assert service.list_sessions("ada") == []


@ways
def test_a_session_of_the_middleware_is_the_services_too(make: Make, clock: Clock, settings: Any) -> None:
    service = make(**settings)
    app = App("store", store=store_under(service), clock=clock, **settings)
    with app.request() as session:
        session["cart"] = ["tea"]
        session["_auth_user_id"] = "ada"
        session.login(user_id="ada")
    with app.request() as session:
        handle = session.session_id
        assert handle is not None
        session.set_to("theme", "dark", "ui")
    assert service.list_sessions("ada") == [handle]
    assert service.get_session(handle) == {"cart": ["tea"], "_auth_user_id": "ada"}
    service.update_session(handle, {"cart": ["milk"], "note": "from the worker"})
    with app.request() as session:
        assert (session["cart"], session["note"], session.get_from("ui", "theme")) == (
            ["milk"],
            "from the worker",
            "dark",
        )
        assert session.online()
    service.replace_session(handle, {"_auth_user_id": "ada"})
    with app.request() as session:
        assert "cart" not in session
        assert session.get_from("ui", "theme") == "dark"  # other storages, and the login, are not touched
        assert session.online()
    assert service.authenticate(app.browser.cookies[app.config.cookie_name]).session_id == handle

    fresh = service.regenerate_session(handle)
    with app.request(app.browser.copy()) as session:
        assert (session.session_id, session.online()) == (None, False)
        session["late"] = True
    assert app.sent == []  # a straggler
    browser = browser_with(app, service.issue_token(fresh))
    with app.request(browser) as session:
        assert session.online()
        assert session.get_from("ui", "theme") == "dark"
    assert service.destroy_session(fresh) is True
    assert app.look(browser) == {}


def store_under(service: Any) -> Any:
    """The store that answers when called, below whatever face *service* has."""
    store = service.config.store
    return getattr(store, "_store", store)


def test_payloads_are_sealed_at_rest(make: Make) -> None:
    service = make(encryption=True, secret_key=KEY)
    store = store_under(service)
    one = service.create_session("ada", {"secret": "plain"})
    two = service.create_session("bob", {"secret": "other"})
    records = [store.load(handle) for handle in (one, two)]
    assert not any(b"plain" in record.payload for record in records)
    assert service.get_session(one) == {"secret": "plain"}
    import msgspec

    for record, other in zip(records, reversed(records), strict=True):  # swapped, they open neither
        store.save(msgspec.structs.replace(record, payload=other.payload, version=2), 1)
    for handle in (one, two):
        with pytest.raises(StoreError, match="damaged"):
            service.get_session(handle)
        assert service.validate_session(handle) is False
        with pytest.raises(StoreError, match="damaged"):
            service.issue_token(handle)


def test_what_is_sealed_at_rest_opens_after_every_call(make: Make, clock: Clock) -> None:
    service = make(encryption=True, secret_key=KEY, touch_interval=10)
    app = App("store", store=store_under(service), clock=clock, encryption=True, secret_key=KEY, touch_interval=10)
    handle = service.create_session("ada", {"a": 1}, lifetime=600)
    token = service.issue_token(handle)
    for call in (
        lambda: service.touch_session(handle),
        lambda: service.extend_session(handle, 60),
        lambda: service.update_session(handle, {"b": 2}),
    ):
        clock.advance(20)
        call()
        assert service.authenticate(token).session_id == handle
        assert service.get_session(handle)["a"] == 1
    token = service.issue_token(handle, replace=True)
    handle = service.regenerate_session(handle)
    app.browser.cookies = {app.layer.cookie_name: service.issue_token(handle)}
    tab = app.browser.copy()
    with app.request() as session:
        assert dict(session) == {"a": 1, "b": 2}
        session.regenerate()
        session["c"] = 3
    clock.advance(10)
    with app.request(tab) as session:  # by the pointer; a touch
        assert dict(session) == {"a": 1, "b": 2, "c": 3}
    with app.request() as session:
        session.logout()
        assert session == {"a": 1, "b": 2, "c": 3}
    assert app.look() == {"a": 1, "b": 2, "c": 3}


def test_a_request_overlaps_with_the_service(make: Make, clock: Clock) -> None:
    service = make()
    app = App("store", store=store_under(service), clock=clock)
    with app.request() as session:
        session.login(user_id="ada")
    (handle,) = service.list_sessions("ada")
    with app.request() as session:
        session["mine"] = 1
        service.update_session(handle, {"theirs": 2})
        same = {"key": "count", "fn": lambda n: n + 1, "default": 0}  # the same arguments inside a request and outside
        assert service.update_with(handle, **same) == 1
        session.update_with(**same)
    assert service.get_session(handle) == {"mine": 1, "theirs": 2, "count": 2}
    with app.request() as session:
        session["late"] = True
        assert service.destroy_session(handle)
    assert app.sent == []
    assert service.get_session(handle) is None


def test_an_id_just_regenerated_names_its_successor_for_a_while(make: Make, clock: Clock) -> None:
    service = make()
    app = App("store", store=store_under(service), clock=clock)
    with app.request() as session:
        session.login(user_id="ada")
    (old,) = service.list_sessions("ada")
    stale = app.browser.copy()
    with app.request() as session:
        new = session.regenerate(grace=30)
    service.update_session(old, {"from": "a job that knew the old id"})
    assert service.get_session(new) == {"from": "a job that knew the old id"}
    assert service.get_record(old).session_id == new
    assert service.authenticate(stale.cookies["__Host-session"]).session_id == new
    assert service.destroy_user_sessions("ada", except_id=old) == 0
    clock.advance(31)
    assert service.get_session(old) is None
    assert service.authenticate(stale.cookies["__Host-session"]) is None
    with pytest.raises(SessionNotFoundError):
        service.update_session(old, {"too": "late"})
    assert service.destroy_session(old) is True  # an ending is carried out wherever the session went
    assert service.get_session(new) is None


# -- addresses, vetoes ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rule", ["session_ip", "strict_session_ip"])
def test_a_bound_session_opens_from_its_address_alone(make: Make, clock: Clock, rule: str) -> None:
    service = make(**{rule: True})
    app = App("store", store=store_under(service), clock=clock, **{rule: True})
    with app.request() as session:
        session.login(user_id="ada")
    token = app.browser.cookies["__Host-session"]
    assert service.authenticate(token) is None
    assert service.authenticate(token, ip="198.51.100.66") is None
    assert service.authenticate(token, ip="nonsense") is None
    assert service.authenticate(token, ip="203.0.113.9").user_id == "ada"
    handle = service.create_session("bob")  # bound to none
    assert service.authenticate(service.issue_token(handle)).user_id == "bob"
    assert service.validate_session(token.partition(".")[0])  # code is trusted


def test_on_validate_may_veto(make: Make, clock: Clock) -> None:
    asked: list[SessionRecord] = []

    def not_bob(record: SessionRecord) -> bool:
        asked.append(record)
        if record.user_id == "cid":
            raise RuntimeError("boom")
        return record.user_id != "bob"

    service = make(on_validate=not_bob)
    for user, allowed in (("ada", True), ("bob", False), ("cid", False)):
        handle = service.create_session(user)
        token = service.issue_token(handle)
        assert (service.authenticate(token) is not None) is allowed
        assert service.validate_session(handle) is allowed
        assert service.get_session(handle) == {}  # the app's own code may look
    assert {record.user_id for record in asked} == {"ada", "bob", "cid"}


# -- limits --------------------------------------------------------------------------------------------------------


def test_the_limit_of_sessions_holds_here_too(make: Make, clock: Clock) -> None:
    heard: list[Any] = []
    service = make(max_sessions_per_user=2, on_destroy=heard.append)
    made = []
    for _ in range(3):
        made.append(service.create_session("ada"))
        clock.advance(1)
    assert service.list_sessions("ada") == [made[2], made[1]]
    assert [(event.reason, event.session_id) for event in heard] == [("limit", made[0])]
    strict = make(max_sessions_per_user=2, on_session_limit="refuse")
    with pytest.raises(SessionLogicError, match="max_sessions_per_user"):
        strict.create_session("ada")
    assert len(service.list_sessions("ada")) == 2


# -- events --------------------------------------------------------------------------------------------------------


def test_events_are_told(make: Make, clock: Clock) -> None:
    heard: list[Any] = []
    created: list[Any] = []
    destroyed: list[Any] = []
    service = make(on_event=heard.append, on_create=created.append, on_destroy=destroyed.append)

    def told() -> list[tuple[str, str, str | None]]:
        events = [(event.name, event.reason, event.user_id) for event in heard]
        heard.clear()
        return events

    handle = service.create_session("ada", {"a": 1})
    assert told() == [("create", "", "ada"), ("login", "", "ada")]
    token = service.issue_token(handle)
    service.update_session(handle, {"a": 2})
    service.get_session(handle)
    service.touch_session(handle)
    assert told() == [("token", "", "ada"), ("save", "", "ada")]
    service.authenticate(token)
    service.authenticate(handle)
    service.authenticate(f"{handle}.{UNKNOWN.secret}")
    service.authenticate(None)
    assert told() == [("open", "", "ada"), ("refused", "malformed", None), ("refused", "forged", None)]
    service.extend_session(handle, 60)
    fresh = service.regenerate_session(handle)
    assert told() == [("save", "", "ada"), ("rotate", "", "ada")]
    service.destroy_session(fresh)
    service.destroy_session(fresh)
    assert told() == [("destroy", "", "ada")]
    service.create_session(None)
    for _ in range(2):
        service.create_session("ada")
    kept = service.create_session("ada", lifetime=60)
    told()
    service.destroy_user_sessions("ada", except_id=kept)
    assert told() == [("destroy", "user", "ada")] * 2
    clock.advance(60)
    service.get_session(kept)
    service.destroy_all_sessions()
    assert told() == [("destroy", "expired", "ada"), ("destroy", "all", None)]
    assert len(created) == 5
    assert len(destroyed) == 5
    assert not any(token in repr(event) for event in [*created, *destroyed])


def test_a_listener_that_fails_is_logged(make: Make, caplog: pytest.LogCaptureFixture) -> None:
    def fails(event: Any) -> None:
        raise RuntimeError("boom")

    assert make(on_event=fails).create_session("ada")
    assert "fails failed on 'create'" in caplog.text


# -- faults --------------------------------------------------------------------------------------------------------


def test_one_damaged_session_does_not_hide_the_others(make: Make, clock: Clock) -> None:
    import msgspec

    heard: list[Any] = []
    service = make(on_event=heard.append)
    bad = service.create_session("ada", {"a": 1})
    clock.advance(1)
    good = service.create_session("ada", {"a": 2})
    store = store_under(service)
    store.save(msgspec.structs.replace(store.load(bad), payload=b"rubbish", version=2), 1)
    heard.clear()
    assert service.list_sessions("ada") == [good, bad]
    assert [record.session_id for record in service.find_sessions("ada", lambda record: True)] == [good]
    assert [(event.name, event.reason, event.session_id) for event in heard] == [("refused", "corrupt", bad)]
    for ask in (service.get_session, service.get_record, service.regenerate_session):
        with pytest.raises(StoreError, match="damaged"):
            ask(bad)
    assert service.validate_session(bad) is False
    assert service.authenticate(service.issue_token(bad)) is None
    assert service.destroy_session(bad) is True


CALLS: dict[str, Callable[[SessionService, str], Any]] = {
    "load": lambda service, handle: service.get_session(handle),
    "create": lambda service, handle: service.create_session("ada"),
    "save": lambda service, handle: service.update_session(handle, {"a": 1}),
    "list_user": lambda service, handle: service.list_sessions("ada"),
    "delete_user": lambda service, handle: service.destroy_user_sessions("ada"),
    "purge": lambda service, handle: service.cleanup_expired_sessions(),
    "touch": lambda service, handle: service.touch_session(handle),
    "rotate": lambda service, handle: service.regenerate_session(handle),
    "close": lambda service, handle: service.destroy_session(handle),
}


@pytest.mark.parametrize("method", CALLS)
def test_a_store_that_fails_raises(clock: Clock, method: str) -> None:
    store = FaultyStore(MemoryStore(clock=clock))
    service = SessionService(store=store, clock=clock)
    handle = service.create_session("ada")
    store.fail(method, times=None)
    with pytest.raises(StoreError):
        CALLS[method](service, handle)


# -- races ---------------------------------------------------------------------------------------------------------


class Meddled(MemoryStore):
    """Calls *meddle* once before the next *method*: somebody else is faster."""

    def __init__(self, clock: Clock, *, can_rotate: bool = True) -> None:
        super().__init__(clock=clock)
        self.can_rotate = can_rotate  # type: ignore[misc]
        self.meddle: dict[str, Callable[[], Any]] = {}
        self.times = 1

    def _meddled(self, method: str) -> None:
        if method in self.meddle:
            act = self.meddle[method]
            self.times -= 1
            if self.times <= 0:
                del self.meddle[method]
            act()

    def save(self, *args: Any, **options: Any) -> Any:
        self._meddled("save")
        return super().save(*args, **options)

    def close(self, *args: Any, **options: Any) -> Any:
        self._meddled("close")
        return super().close(*args, **options)

    def rotate(self, *args: Any, **options: Any) -> Any:
        self._meddled("rotate")
        return super().rotate(*args, **options)

    def touch(self, *args: Any, **options: Any) -> Any:
        self._meddled("touch")
        return super().touch(*args, **options)

    def delete(self, *args: Any, **options: Any) -> Any:
        self._meddled("delete")
        return super().delete(*args, **options)


@pytest.fixture(params=[True, False], ids=["rotates", "in two steps"])
def meddled(request: pytest.FixtureRequest, clock: Clock) -> tuple[Meddled, SessionService, SessionService]:
    store = Meddled(clock, can_rotate=request.param)
    return store, SessionService(store=store, clock=clock), SessionService(store=store, clock=clock)


def test_updates_meet(meddled: Any) -> None:
    store, mine, theirs = meddled
    handle = mine.create_session("ada", {"same": 1, "gone": 1, "list": []})

    store.meddle["save"] = lambda: theirs.update_session(handle, {"b": 2, "same": 9})
    mine.update_session(handle, {"a": 1, "same": 1})
    assert mine.get_session(handle) == {"same": 1, "gone": 1, "list": [], "a": 1, "b": 2}  # the last one wins

    calls: list[Any] = []

    def append(value: list[int]) -> list[int]:
        calls.append(list(value))
        return [*value, 1]

    store.meddle["save"] = lambda: theirs.update_with(handle, "list", lambda value: [*value, 2])
    assert mine.update_with(handle, "list", append) == [2, 1]
    assert calls == [[], [2]]

    store.meddle["save"] = lambda: theirs.update_session(handle, {"c": 3})
    mine.delete_keys(handle, "gone", "a")
    assert mine.get_session(handle) == {"same": 1, "list": [2, 1], "b": 2, "c": 3}

    store.meddle["save"] = lambda: theirs.update_session(handle, {"d": 4})
    mine.replace_session(handle, {"all": "new"})
    assert mine.get_session(handle) == {"all": "new"}


def test_whoever_is_too_late_is_told(meddled: Any) -> None:
    store, mine, theirs = meddled
    for ask in (
        lambda handle: mine.update_session(handle, {"a": 1}),
        lambda handle: mine.extend_session(handle, 60),
        lambda handle: mine.issue_token(handle),
    ):
        handle = mine.create_session("ada")
        store.meddle["save"] = lambda handle=handle: theirs.destroy_session(handle)
        with pytest.raises(SessionNotFoundError):
            ask(handle)
        assert mine.list_sessions("ada") == []
    handle = mine.create_session("ada")
    store.meddle["touch"] = lambda: theirs.destroy_session(handle)
    with pytest.raises(SessionNotFoundError):
        mine.touch_session(handle)


def test_what_seems_expired_is_deleted_only_as_it_was_seen(clock: Clock) -> None:
    store = Meddled(clock)
    late, punctual = SessionService(store=store, clock=lambda: clock() + 10), SessionService(store=store, clock=clock)
    handle = punctual.create_session("ada")
    clock.advance(2 * HOUR - 5)
    store.meddle["delete"] = lambda: punctual.extend_session(handle, HOUR)
    assert late.get_session(handle) is None
    assert punctual.get_session(handle) == late.get_session(handle) == {}


def test_extensions_add_up(meddled: Any) -> None:
    store, mine, theirs = meddled
    handle = mine.create_session("ada")
    before = mine.get_record(handle).expires_at
    store.meddle["save"] = lambda: theirs.extend_session(handle, 60)
    assert mine.extend_session(handle, 60) == before + 120


def test_one_of_two_tokens_is_refused(meddled: Any) -> None:
    store, mine, theirs = meddled
    handle = mine.create_session("ada")
    issued: list[str] = []
    store.meddle["save"] = lambda: issued.append(theirs.issue_token(handle))
    with pytest.raises(SessionLogicError):
        mine.issue_token(handle)
    assert mine.authenticate(issued[0]) is not None


def test_a_session_that_never_rests(meddled: Any) -> None:
    store, mine, _ = meddled
    handle = mine.create_session("ada")
    store.times = 10**6
    record = store.load

    def bump() -> None:
        import msgspec

        kept = record(handle)
        MemoryStore.save(store, msgspec.structs.replace(kept, version=kept.version + 1), kept.version)

    store.meddle["save"] = bump
    for ask in (lambda: mine.update_session(handle, {"a": 1}), lambda: mine.extend_session(handle, 60)):
        with pytest.raises(StoreConflictError) as caught:
            ask()
        assert caught.value.tries == TRIES


@pytest.mark.parametrize("meanwhile", ["save", "regenerate", "destroy", "twice"])
def test_an_ending_beats_whatever_happens_meanwhile(meddled: Any, clock: Clock, meanwhile: str) -> None:
    store, mine, theirs = meddled
    app = App("store", store=store, clock=clock)
    with app.request() as session:
        session.login(user_id="ada")
    (handle,) = mine.list_sessions("ada")

    def regenerate() -> None:
        with app.request() as session:
            session.regenerate()

    acts: dict[str, Callable[[], Any]] = {
        "save": lambda: theirs.update_session(handle, {"a": 1}),
        "regenerate": regenerate,
        "destroy": lambda: theirs.destroy_session(handle),
        "twice": lambda: theirs.regenerate_session(handle),
    }
    store.meddle["close"] = acts[meanwhile]
    assert mine.destroy_session(handle) is (meanwhile != "destroy")
    assert mine.list_sessions("ada") == []
    assert len(store._live) == 0


@pytest.mark.parametrize("meanwhile", ["save", "browser", "service", "destroy", "login"])
def test_regenerate_meets_others(meddled: Any, clock: Clock, meanwhile: str) -> None:
    store, mine, theirs = meddled
    app = App("store", store=store, clock=clock)
    with app.request() as session:
        session.login(user_id="ada")
        session["a"] = 1
    (handle,) = mine.list_sessions("ada")
    theirs_id: list[str] = []

    def browser() -> None:
        with app.request() as session:
            theirs_id.append(session.regenerate())

    def login() -> None:
        with app.request() as session:
            session.login(user_id="ada")

    acts: dict[str, Callable[[], Any]] = {
        "save": lambda: theirs.update_session(handle, {"b": 2}),
        "browser": browser,
        "service": lambda: theirs_id.append(theirs.regenerate_session(handle)),
        "destroy": lambda: theirs.destroy_session(handle),
        "login": login,
    }
    store.meddle["rotate" if store.can_rotate else "close"] = acts[meanwhile]
    if meanwhile in ("destroy", "service", "login"):  # a hard turn: nobody may follow it
        with pytest.raises(SessionNotFoundError):
            mine.regenerate_session(handle)
        assert len(mine.list_sessions("ada")) == (meanwhile != "destroy")
        return
    fresh = mine.regenerate_session(handle)
    assert fresh not in (handle, *theirs_id)
    assert mine.list_sessions("ada") == [fresh]
    assert mine.get_session(fresh) == ({"a": 1, "b": 2} if meanwhile == "save" else {"a": 1})
    assert app.look() == {}  # nobody's token opens it
    assert mine.authenticate(mine.issue_token(fresh)) is not None


def test_events_of_a_regenerate_that_went_round_twice(clock: Clock) -> None:
    heard: list[Any] = []
    store = Meddled(clock)
    service = SessionService(store=store, clock=clock, on_event=heard.append)
    app = App("store", store=store, clock=clock)
    with app.request() as session:
        session.login(user_id="ada")
    (handle,) = service.list_sessions("ada")

    def browser() -> None:
        with app.request() as session:
            session.regenerate()

    store.meddle["rotate"] = browser
    fresh = service.regenerate_session(handle)
    assert [(event.name, event.session_id) for event in heard][-1] == ("rotate", fresh)


def test_a_regenerate_that_is_always_too_late_says_so(clock: Clock) -> None:
    class Restless(MemoryStore):
        """A client turns the id before each rotation that is not its own."""

        turns = 0
        mine = True

        def rotate(self, *args: Any, **options: Any) -> Any:
            if self.mine:
                self.mine = False
                with app.request() as session:
                    session.regenerate()
                self.mine = True
                self.turns += 1
            return super().rotate(*args, **options)

    store = Restless(clock=clock)
    service = SessionService(store=store, clock=clock)
    app = App("store", store=store, clock=clock)
    with app.request() as session:
        session.login(user_id="ada")
        session["a"] = 1
    (handle,) = service.list_sessions("ada")
    with pytest.raises(StoreConflictError) as caught:
        service.regenerate_session(handle)
    assert caught.value.tries == store.turns == TRIES
    assert len(service.list_sessions("ada")) == 1
    assert app.look() == {"a": 1}  # the client keeps the last of its ids


def test_counters_are_exact_over_threads(make: Make) -> None:
    service = make()
    if not isinstance(service, SessionService):
        service = SessionService(store=store_under(service))
    handle = service.create_session("ada", {"n": 0})
    barrier = threading.Barrier(4)

    def work(number: int) -> None:
        barrier.wait(20)
        for turn in range(15):
            service.update_with(handle, "n", lambda n: n + 1)
            service.update_session(handle, {f"{number}-{turn}": True})

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    data = service.get_session(handle)
    assert data is not None
    assert (data["n"], len(data)) == (60, 61)


# -- building ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("face", [SessionService, AsyncSessionService])
def test_without_a_store_there_is_no_service(face: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"nothing is kept on the server; add store="):
        face(secret_key=KEY)
    with pytest.raises(ConfigurationError, match=r"add store="):
        face.from_config(SessionConfig(secret_key=KEY))
    with pytest.raises(ConfigurationError, match="unknown store scheme"):
        face.from_url("nonsense:")
    with pytest.raises(ConfigurationError, match="idle_timeout"):
        face.from_url("memory:", idle_timout=5)
    with pytest.raises(ConfigurationError, match="a store"):
        face(store=object())


def test_the_factories(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/x.db"
    with SessionService.from_url(url, idle_timeout=900) as service:
        assert service.config.idle_timeout == 900
        handle = service.create_session("ada", {"a": 1})
    with SessionService.from_config(SessionConfig(store=url)) as service:
        assert service.get_session(handle) == {"a": 1}


def test_a_store_of_the_wrong_kind_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="AsyncSessionService"):
        SessionService(store=MemoryStore().aio())


async def coroutine(event: Any) -> None: ...


def test_coroutine_callbacks_need_the_awaited_face() -> None:
    with pytest.raises(ConfigurationError, match="AsyncSessionService"):
        SessionService(store="memory:", on_event=coroutine)


def test_coroutine_callbacks_are_awaited(clock: Clock) -> None:
    heard: list[str] = []
    told: list[int] = []

    async def hear(event: Any) -> None:
        heard.append(event.name)

    async def progress(count: int) -> None:
        told.append(count)

    async def judge(record: SessionRecord) -> bool:
        return record.user_id == "ada"

    async def main() -> None:
        service = AsyncSessionService(store="memory:", clock=clock, on_event=hear, on_validate=judge)
        for user in ("ada", "bob"):
            handle = await service.create_session(user, lifetime=60)
            found = await service.authenticate(await service.issue_token(handle))
            assert (found is not None) is (user == "ada")
        clock.advance(60)
        assert await service.cleanup_expired_sessions(progress=progress) == 2

    asyncio.run(main())
    assert heard == ["create", "login", "token", "open", "create", "login", "token", "refused"]
    assert told == [2]


def test_a_progress_that_nobody_would_await_is_refused() -> None:
    async def progress(count: int) -> None:
        raise AssertionError("never called")

    with pytest.raises(ValueError, match="progress is a coroutine function; that needs AsyncSessionService"):
        SessionService(store="memory:").cleanup_expired_sessions(progress=progress)


def test_a_long_sweep_leaves_the_loop_to_others(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("session_mw.managers.service.PURGE_BATCH", 1)
    ran: list[int] = []

    async def main() -> None:
        service = AsyncSessionService(store=MemoryStore(clock=clock), clock=clock)
        for sweep in (service.cleanup_expired_sessions, service.destroy_all_sessions):
            for _ in range(5):
                await service.create_session("ada", lifetime=60)
            clock.advance(60)
            sweeping = asyncio.create_task(sweep())
            turns = 0
            while not sweeping.done():
                await asyncio.sleep(0)
                turns += 1
            ran.append(turns)

    asyncio.run(main())
    assert min(ran) >= 5


class Slow(Awaited):
    """An awaited store of two-step rotations, in which the last step waits until it is let go."""

    def __init__(self, clock: Clock, slow: str) -> None:
        kept = MemoryStore(clock=clock)
        super().__init__(kept, kept)
        self.can_rotate = False
        self.slow, self.reached, self.go = slow, asyncio.Event(), asyncio.Event()

    async def close(self, *args: Any, **options: Any) -> Any:
        await self._wait("close")
        return await super().close(*args, **options)

    async def delete(self, *args: Any, **options: Any) -> Any:
        await self._wait("delete")
        return await super().delete(*args, **options)

    async def _wait(self, call: str) -> None:
        if call == self.slow:
            self.reached.set()
            await self.go.wait()


@pytest.mark.parametrize(
    ("slow", "method"), [("close", "regenerate_session"), ("delete", "create_session")], ids=["regenerate", "create"]
)
def test_what_takes_two_steps_is_whole_before_it_heeds_a_cancellation(clock: Clock, slow: str, method: str) -> None:
    async def story() -> None:
        store = Slow(clock, slow)
        service = AsyncSessionService(store=store, clock=clock, max_sessions_per_user=1)
        handle = await service.create_session("ada", {"n": 1})
        asked = getattr(service, method)(handle if method == "regenerate_session" else "ada")
        task = asyncio.ensure_future(asked)
        await store.reached.wait()  # the new one is there, and so is the old one
        assert len(await service.list_sessions("ada")) == 2
        task.cancel()
        await asyncio.sleep(0)
        store.go.set()
        with pytest.raises(asyncio.CancelledError):
            await task
        (left,) = await service.list_sessions("ada")
        assert left != handle

    asyncio.run(story())


def test_ready_between_initialize_and_teardown(make: Make) -> None:
    service = make()
    assert service.name == "session"
    assert service.is_ready() is False
    service.initialize()
    service.initialize()
    assert service.is_ready() is True
    service.teardown()
    service.teardown()
    assert service.is_ready() is False
    assert service.create_session("ada")  # the first call opens it again
    assert service.is_ready() is True


def test_a_store_that_does_not_open_fails_early(tmp_path: Path) -> None:
    service = SessionService.from_url(f"sqlite:///{tmp_path}/nowhere/x.db")
    for ask in (service.initialize, lambda: service.create_session("ada")):
        with pytest.raises(StoreError):
            ask()
        assert not service.is_ready()


def test_the_async_context_manager(tmp_path: Path) -> None:
    async def main() -> None:
        async with AsyncSessionService.from_url(f"sqlite:///{tmp_path}/x.db") as service:
            assert service.is_ready()
            handle = await service.create_session("ada")
            assert await service.list_sessions("ada") == [handle]
        assert not service.is_ready()

    asyncio.run(main())


METHODS = sorted(name for name, thing in vars(SessionService).items() if not name.startswith("_"))


def test_both_faces_are_the_same_but_for_the_waiting() -> None:
    assert sorted(name for name in vars(AsyncSessionService) if not name.startswith("_")) == METHODS
    for name in METHODS:
        one, other = getattr(SessionService, name), getattr(AsyncSessionService, name)
        assert inspect.signature(one) == inspect.signature(other)
        assert inspect.iscoroutinefunction(other)
        assert not inspect.iscoroutinefunction(one)
        assert inspect.getdoc(one) == inspect.getdoc(other)
        assert inspect.getdoc(one)


@pytest.mark.parametrize("face", [SessionService, AsyncSessionService])
def test_the_schema_cannot_drift(face: Any) -> None:
    schema = face(store="memory:").schema()
    assert json.loads(json.dumps(schema)) == schema
    assert (schema["name"], schema["ready"]) == ("session", False)
    assert set(schema["methods"]) == {*METHODS, "from_config", "from_url", "is_ready", "schema"}
    assert schema["methods"]["update_with"] == {
        "parameters": ["session_id: str", "key: str", "fn: Callable[[Any], Any]", "default: Any = None"],
        "returns": "Any",
        "purpose": "Set *key* to ``fn(current value)`` (or ``fn(default)``) and return it; exact under concurrency.",
    }
    assert "extend_session" in schema["methods"]


def test_the_page_tells_of_every_method_as_it_is() -> None:
    page = (ROOT / "docs" / "service.md").read_text(encoding="utf-8")
    for name in METHODS:
        if name in ("initialize", "teardown"):
            continue
        parameters = [
            each.replace(annotation=inspect.Parameter.empty)
            for each in inspect.signature(getattr(SessionService, name)).parameters.values()
            if each.name != "self"
        ]
        assert f"| `{name}{inspect.Signature(parameters)}` |" in page
    for path in (ROOT / "examples" / "service").glob("*.py"):
        assert f"| `{path.name}` |" in page


def test_its_repr_shows_no_secret(tmp_path: Path) -> None:
    service = SessionService(store=f"sqlite:///{tmp_path}/password.db", secret_key=KEY)
    assert repr(service) == "<SessionService over SQLiteStore>"
