"""No token, secret, key or payload value in any repr, log record or error message, whatever happens."""

from __future__ import annotations

import asyncio
import copy
import logging
import pickle
import traceback
from collections.abc import Callable
from datetime import date
from typing import Any

import pytest
from harness import AWAY, KEY, App, Browser, both
from servers.sql_faces import DRIVERS

from session_mw import SessionConfig
from session_mw.core.keys import KeyRing
from session_mw.core.record import Record
from session_mw.core.signed import Signer
from session_mw.core.tokens import RANDOM_BYTES, mint
from session_mw.errors import SessionError, StoreError
from session_mw.legacy import DjangoCookie, FlaskCookie, StarletteCookie
from session_mw.managers import Verdict
from session_mw.stores.memory import MemoryStore
from session_mw.stores.redis import AsyncRedisStore, RedisStore
from session_mw.testing import FaultyStore
from session_mw.testing.contract import new_record
from session_mw.testing.samples import following

PAYLOAD = "payload-value-nobody-may-see"


class Watcher:
    """Collects what is shown, and what must not be."""

    def __init__(self, kind: str, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level(logging.DEBUG)
        self.log = caplog
        self.shown: list[str] = []
        self.secrets = {PAYLOAD, KEY}
        self.store = FaultyStore(MemoryStore())
        settings: dict[str, Any] = {"store": self.store} if kind == "store" else {}
        self.app = App(
            kind,
            **settings,
            secret_key=KEY,
            encryption=kind == "store",
            strict_session_ip=True,
            on_validate=self.validate,
            on_ip_changed=self.moved,
            on_close=self.fail,
        )

    def validate(self, record: Any) -> bool:
        self.shown.append(repr(record))
        return True

    def moved(self, session: Any, ip: str, changes: Any) -> bool:
        self.shown += [repr(session), repr(session._state)]
        raise ValueError("refused")

    def fail(self, event: Any) -> None:
        self.shown.append(repr(event))
        raise ValueError("a broken listener")

    def request(self, work: Any, browser: Browser | None = None, **source: Any) -> None:
        browser = self.app.browser if browser is None else browser
        step = self.app.begin(browser, **source)
        session = step.session
        failed = False
        try:
            self.shown.append(repr(session))
            work(session)
            self.look(session)
            step.respond()
        except (SessionError, ValueError) as error:
            failed = True
            self.shown += [str(error), repr(error), *traceback.format_exception_only(error)]
        finally:
            try:
                step.end(failed=failed)
            except (SessionError, ValueError) as error:
                self.shown.append(repr(error))
        for text in (*step.sent, *browser.cookies.values()):
            value = text.partition(";")[0].partition("=")[2] if "=" in text else text
            self.secrets.add(value.partition(".")[2] or value)
        self.secrets -= {""}

    def look(self, session: Any) -> None:
        state = session._state
        if session.login_token:
            self.secrets.add(session.login_token)
        parts = [
            session,
            state.base,
            state.token,
            state.meta,
            session.manager,
            self.app.config,
            self.store,
            session._home,
        ]
        parts += [*state.all_logins().values(), *state.events, Verdict, self.app.layer]
        self.shown += [text for part in parts for text in (repr(part), str(part))]
        if state.token is not None:
            self.secrets.add(state.token.secret)
        if state.base is not None:
            self.secrets.add(state.base.digest.hex() or PAYLOAD)

    def check(self) -> None:
        everything = "\n".join([*self.shown, self.log.text, *(repr(call) for call in self.store.calls)])
        for secret in self.secrets:
            assert secret not in everything
        assert "Record" in everything
        assert "a broken listener" in everything


def bad(session: Any) -> None:
    session["deep"] = {"x": [PAYLOAD]}
    session["deep"]["x"].append({PAYLOAD: object()})


@both
def test_nothing_secret_is_shown(kind: str, caplog: pytest.LogCaptureFixture) -> None:
    watch = Watcher(kind, caplog)
    watch.request(lambda s: s.set("a", PAYLOAD))
    watch.request(lambda s: s.set_to("b", [PAYLOAD], "other").put("q", PAYLOAD))
    watch.request(lambda s: s.login(user_id="ann"))
    watch.request(lambda s: s.attempt())
    thief = watch.app.browser.copy()
    watch.request(lambda s: s.regenerate())
    watch.request(lambda s: s.set("b", PAYLOAD), thief)
    watch.request(lambda s: s.get("a"), thief, peer=AWAY)
    watch.request(lambda s: s.login(PAYLOAD))
    watch.request(lambda s: s.set("bad", {PAYLOAD: {1: PAYLOAD}}.values()))
    watch.request(lambda s: s.set("large", PAYLOAD * 200_000))
    watch.request(lambda s: s.set("a", PAYLOAD).typed("a", int))
    watch.request(lambda s: s.start(PAYLOAD))
    watch.request(lambda s: s.start(watch.app.browser.header.decode().partition("=")[2][:-3]))
    forged = Browser(**{name: value[:-4] + "AAAA" for name, value in watch.app.browser.cookies.items()})
    watch.request(lambda s: s.get("a"), forged)
    watch.request(lambda s: s.get("a"), Browser(**{"__Host-session": PAYLOAD}))
    for method in ("load", "save", "rotate", "create", "touch"):
        watch.store.fail(method)
        watch.request(lambda s: s.set("c", PAYLOAD))
        watch.request(lambda s: s.regenerate())
        watch.store.heal()
    watch.app.clock.advance(90)
    watch.request(lambda s: s.logout())
    watch.request(lambda s: s.destroy())
    watch.app.clock.advance(10**6)
    watch.request(lambda s: s.get("a"))
    watch.check()
    assert len(watch.secrets) > 10


def test_the_raw_key_is_in_its_ring_alone() -> None:
    profile: Any
    for profile in (None, "DEVELOPMENT"):
        config = SessionConfig(secret_key=[KEY, KEY[::-1]], cookie_name="s", profile=profile)
        for made in (config, config.replace(idle_timeout=60), SessionConfig.build(config, cookie_name="t")):
            held = [getattr(made, name) for each in type(made).__mro__ for name in getattr(each, "__slots__", ())]
            assert made.keys in held
            assert made.keys == KeyRing(KEY, KEY[::-1])
            for secret in (KEY, KEY[::-1]):
                assert secret not in f"{held!r} {made.__getstate__()!r}"


@pytest.mark.parametrize(
    "holder",
    [
        SessionConfig(secret_key=KEY),
        KeyRing(KEY),
        *KeyRing(KEY).derive("a purpose"),
        Signer(KeyRing(KEY), "a purpose"),
        mint(bytes(RANDOM_BYTES)),
        *(Reader(KEY, until=date(2030, 1, 1)) for Reader in (StarletteCookie, FlaskCookie, DjangoCookie)),
    ],
    ids=lambda holder: type(holder).__name__,
)
def test_what_holds_a_secret_is_not_pickled(holder: Any) -> None:
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        with pytest.raises(TypeError, match=f"a {type(holder).__name__} is not pickled"):
            pickle.dumps(holder, protocol)
        with pytest.raises(TypeError, match="is not pickled"):
            pickle.dumps({"in": [holder]}, protocol)


def test_a_reader_is_its_own_copy() -> None:
    reader = StarletteCookie(KEY, until=date(2030, 1, 1))
    assert copy.copy(reader) is copy.deepcopy({"legacy": [reader]})["legacy"][0] is reader


def test_a_key_in_a_path_is_the_applications_own_and_bounded() -> None:
    app = App()
    with app.request() as s:
        with pytest.raises(SessionError) as refused:
            s.set("k" * 500, object())
        assert len(str(refused.value)) < 200


# -- what a server says of what it was sent ------------------------------------------------------------------------


def assert_nothing_kept_is_shown(call: Callable[[], object], record: Record) -> None:
    """*call* fails, and what a log prints of it, causes included, holds nothing of *record*."""
    with pytest.raises(StoreError) as caught:
        call()
    shown = "".join([*traceback.format_exception(caught.value), repr(caught.value.__cause__)])
    assert caught.value.__cause__ is not None, "the backend's own exception is the cause"
    assert record.user_id is not None
    values = [record.user_id.encode(), PAYLOAD.encode(), record.digest]
    for value in [record.id, *map(bytes.hex, values), *map(repr, values), record.user_id, PAYLOAD]:
        assert value.strip("b'")[:16] not in shown, shown
    assert "answered with an error" in shown or "the database failed" in shown


RECORD = new_record(user_id="somebody@example.com", payload=PAYLOAD.encode())


@pytest.mark.parametrize("kind", [RedisStore, AsyncRedisStore])
@pytest.mark.parametrize("command", ["EVALSHA", "GET"])
def test_a_redis_server_that_repeats_what_it_was_sent(new_redis: Any, kind: Any, command: str) -> None:
    """Such as: unknown command 'EVALSHA', with args beginning with: ..."""
    store = kind(new_redis(f'rename-command {command} ""').url)

    def call() -> object:
        return store.create(RECORD) if command == "EVALSHA" else store.load(RECORD.id)

    async def awaited() -> object:
        try:
            return await call()  # type: ignore[misc]
        finally:
            await store.teardown()

    assert_nothing_kept_is_shown(call if kind is RedisStore else lambda: asyncio.run(awaited()), RECORD)
    if kind is RedisStore:
        store.teardown()


TRIGGER = """CREATE TRIGGER {0}_t BEFORE UPDATE ON {0} FOR EACH ROW BEGIN
    DECLARE said TEXT DEFAULT CONCAT(NEW.id, NEW.user_id, NEW.payload);
    SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = said;
END"""


@pytest.mark.parametrize("driver", DRIVERS)
def test_a_database_that_repeats_what_it_was_sent(databases: Any, driver: str) -> None:
    """Such as: DETAIL: Failing row contains (...)."""
    store = databases.store(driver)
    assert store.create(RECORD)
    table = store.flows.table.name
    if driver.startswith("postgresql"):
        server, breaking = databases.server(driver).connect(), f"ALTER TABLE {table} ADD CHECK (version < 2)"
    else:
        server, breaking = databases.server(driver).connect(user="root", password=""), TRIGGER.format(table)
    with server, server.cursor() as run:
        run.execute(breaking)
        server.commit()
    assert_nothing_kept_is_shown(lambda: store.save(following(RECORD), 1), RECORD)
    if driver == "postgresql+asyncpg":  # what it cannot send, it repeats by itself
        assert_nothing_kept_is_shown(lambda: store.touch(RECORD.id, 2**63, RECORD.id), RECORD)
