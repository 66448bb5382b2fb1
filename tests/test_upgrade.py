"""Sessions taken over from legacy cookies: in every home, with every integration, and against everybody's tricks."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import flask
import pytest
from asgi_driver import NAME, SECRET, Client, Routes, Socket, respond
from flask_site import cookies as flask_cookies
from harness import AWAY, KEY, App, Browser
from legacy_cookies import LATE, OLD, flask_cookie, starlette_cookie
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route
from starlette.testclient import TestClient
from wsgi_driver import WSGIClient

from session_mw import asgi, wsgi
from session_mw.errors import ConfigurationError, SessionStateError
from session_mw.flask import SessionMW
from session_mw.legacy import FlaskCookie, LegacyCookie, LegacyRefused, LegacySession, StarletteCookie
from session_mw.service import SessionService
from session_mw.starlette import SessionMiddleware
from session_mw.stores.memory import MemoryStore
from session_mw.testing import Clock, FaultyAsyncStore, FaultyStore

NOW = int(Clock()())
DATA = {"user_id": 7, "cart": ["a"]}
HOMES = ["cookie", "store", "revocable"]
homes = pytest.mark.parametrize("home", HOMES)
remembering = pytest.mark.parametrize("home", ["store", "revocable"])


def app(home: str, **settings: Any) -> App:
    settings.setdefault("legacy", [StarletteCookie(OLD, until=LATE, owner_key="user_id")])
    if home == "revocable":
        clock = settings.setdefault("clock", Clock())
        settings.setdefault("revocation", MemoryStore(evict=False, clock=clock))
    return App("store" if home == "store" else "cookie", **settings)


def visitor(data: Any = DATA, at: int = NOW, **cookies: str) -> Browser:
    return Browser(session=starlette_cookie(data, at), **cookies)


def reads(site: App, browser: Browser) -> dict[str, Any]:
    """What a whole request of *browser* finds; its response is lost."""
    with site.request(browser.copy()) as session:
        return dict(session)


# -- taken over


@homes
def test_it_goes_on_under_our_own_cookie(home: str) -> None:
    site, browser = app(home), visitor()
    with site.request(browser) as session:
        assert session == DATA
        assert not session.is_new
        assert session.user_id == "7"
        assert session.online()
        assert not session.modified
    assert site.told("upgrade", "refused") == ["upgrade"]
    assert [line.partition("=")[0] for line in site.sent] == [NAME]
    assert set(browser.cookies) == {"session", NAME}  # old workers still know the client
    old = browser.cookies.pop("session")
    with site.request(browser) as session:
        assert session == DATA
        assert session.online()
        session["cart"].append("b")
    browser.cookies["session"] = old
    assert reads(site, browser) == {**DATA, "cart": ["a", "b"]}
    assert site.told("upgrade", "refused") == []


@homes
def test_it_is_changed_in_the_request_that_takes_it_over(home: str) -> None:
    site, browser = app(home), visitor()
    with site.request(browser) as session:
        session["cart"].append("b")
    del browser.cookies["session"]
    assert reads(site, browser) == {**DATA, "cart": ["a", "b"]}


@homes
def test_its_login_is_as_old_as_the_cookie(home: str) -> None:
    site = app(home)
    with site.request(visitor(at=NOW - 500)) as session:
        assert session.login_timestamp == NOW - 500
        assert session.online()
        assert not session.fresh(500)
        assert session.fresh(501)


@homes
def test_without_an_owner_key_it_is_data_alone(home: str) -> None:
    site = app(home, legacy=[StarletteCookie(OLD, until=LATE)])
    with site.request(visitor()) as session:
        assert session == DATA
        assert session.user_id is None
        assert not session.online()


@homes
def test_the_configuration_s_owner_key_counts_and_nobody_is_rotated(home: str) -> None:
    site, browser = app(home, legacy=[StarletteCookie(OLD, until=LATE)], owner_key="user_id"), visitor(at=NOW - 9)
    with site.request(browser) as session:
        assert session.user_id == "7"
        assert session.login_timestamp == NOW - 9
        before = session.session_id
    with site.request(browser) as session:
        assert session.session_id == before
        del session["user_id"]  # the app's own way to log out
    assert set(browser.cookies) == {NAME}
    assert site.told("login", "logout", "rotate") == ["logout", "rotate"]


@homes
def test_a_handler_that_looks_at_nothing_upgrades_nothing(home: str) -> None:
    site, browser = app(home), visitor()
    with site.request(browser):
        pass
    assert site.sent == []
    assert site.told("upgrade", "create") == []


@homes
def test_a_permanent_session_of_flask_s_stays_one(home: str) -> None:
    site = app(home, legacy=[FlaskCookie(OLD, until=LATE)])
    browser = Browser(session=flask_cookie({"_permanent": True, "a": (1, 2)}, NOW))
    with site.request(browser) as session:
        assert session == {"a": (1, 2)}
    assert "Max-Age=604800" in site.sent[0]


@homes
def test_the_first_reader_with_a_good_cookie_wins(home: str) -> None:
    readers = [FlaskCookie(OLD, until=LATE, name="f"), StarletteCookie(OLD, until=LATE)]
    site, browser = app(home, legacy=readers), visitor()
    browser.cookies["f"] = flask_cookie({"from": "flask"}, NOW)
    assert reads(site, browser) == {"from": "flask"}
    browser.cookies["f"] += "A"
    assert reads(site, browser) == DATA
    assert site.told("refused") == []


# -- our own comes first


@homes
def test_our_own_cookie_wins(home: str) -> None:
    site, browser = app(home), Browser()
    with site.request(browser) as session:
        session["mine"] = 1
    browser.cookies |= visitor().cookies
    assert reads(site, browser) == {"mine": 1}


@homes
def test_beside_our_own_that_opens_nothing_it_is_not_looked_at(home: str) -> None:
    """Else what ended would come back: by time, by an administrator, by a logout everywhere."""
    site, browser = app(home, idle_timeout=100), visitor()
    with site.request(browser) as session:
        session["n"] = 1
    site.clock.advance(100)
    site.told()
    assert reads(site, browser) == {}
    assert site.told("refused", "upgrade") == ["refused:expired"]
    for rubbish in ("x", "", browser.cookies[NAME] + "A"):
        assert reads(site, visitor(**{NAME: rubbish})) == {}
    assert site.told("upgrade") == []


def test_destroyed_from_outside_it_does_not_come_back() -> None:
    site, browser = app("store"), visitor()
    with site.request(browser) as session:
        assert session
    service = SessionService(site.config)
    assert service.destroy_user_sessions("7") == 1
    assert reads(site, browser) == {}
    assert reads(site, visitor()) == {}  # nor for who has dropped our cookie
    assert site.told("refused") == ["refused:unknown", "refused:legacy_ended"]


# -- limits


@homes
def test_after_until_nobody_looks_at_it(home: str) -> None:
    from datetime import UTC, datetime

    site = app(home, legacy=[StarletteCookie(OLD, until=datetime.fromtimestamp(NOW + 10, UTC), owner_key="user_id")])
    site.clock.advance(9)
    assert reads(site, visitor()) == DATA
    site.told()
    site.clock.advance(1)
    assert reads(site, visitor(at=NOW + 5)) == {}
    assert site.told("refused", "upgrade") == []


@homes
def test_the_absolute_timeout_counts_from_its_issue(home: str) -> None:
    site = app(home, absolute_timeout=1000, idle_timeout=1000)
    assert reads(site, visitor(at=NOW - 1000)) == {}
    assert site.told("refused") == ["refused:legacy_expired"]
    browser = visitor(at=NOW - 900)
    with site.request(browser) as session:
        assert session == DATA
    site.clock.advance(100)
    assert reads(site, browser) == {}


@homes
def test_its_idle_timeout_counts_from_now(home: str) -> None:
    site, browser = app(home, idle_timeout=100), visitor(at=NOW - 5000)
    with site.request(browser) as session:
        assert session.last_activity <= NOW
    site.clock.advance(98)
    assert reads(site, browser) == DATA
    site.clock.advance(200)
    assert reads(site, browser) == {}


@homes
def test_one_from_the_future_is_refused_beyond_the_skew(home: str) -> None:
    site = app(home)
    assert reads(site, visitor(at=NOW + 60)) == DATA
    site.told()
    assert reads(site, visitor(at=NOW + 61)) == {}
    assert site.told("refused") == ["refused:legacy_future"]


# -- refused, with one event and nothing raised


@homes
@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (starlette_cookie(DATA, NOW, "another"), "legacy_forged"),
        (starlette_cookie(DATA, NOW - 15 * 86400), "legacy_expired"),
        (starlette_cookie([1], NOW), "legacy_unreadable"),
        (starlette_cookie({"user_id": True}, NOW), "legacy_unsupported"),
        (starlette_cookie({"user_id": {}}, NOW), "legacy_unsupported"),
        (starlette_cookie({"user_id": "x" * 256}, NOW), "legacy_unsupported"),
        (starlette_cookie({"a": float("nan")}, NOW), "legacy_unsupported"),
        (
            starlette_cookie({"a": 10**5000}, NOW) if False else starlette_cookie({"a": "\ud800"}, NOW),
            "legacy_unsupported",
        ),
        ("x", "legacy_malformed"),
        ("", "legacy_malformed"),
        ("a.b.c" * 4000, "legacy_malformed"),
    ],
)
def test_what_is_no_good_is_refused(home: str, value: str, reason: str) -> None:
    site, browser = app(home), Browser(session=value)
    with site.request(browser) as session:
        assert session == {}
        assert session.is_new
        session["new"] = 1
    assert site.told("refused", "upgrade") == [f"refused:{reason}"]
    assert browser.cookies["session"] == value  # perhaps old workers understand it
    assert reads(site, browser) == {"new": 1}


@homes
def test_an_empty_one_is_none(home: str) -> None:
    site = app(home)
    assert reads(site, visitor({})) == {}
    assert site.told("refused", "upgrade", "open") == []


@homes
def test_doubled_only_one_may_verify(home: str) -> None:
    good, bad = starlette_cookie(DATA, NOW), starlette_cookie(DATA, NOW, "another")

    def found(*values: str) -> dict[str, Any]:
        browser = Browser()
        header = "; ".join(f"session={value}" for value in values).encode()
        exchange = site.begin(browser)
        exchange.session._source.cookie = header
        return dict(exchange.session)

    site = app(home)
    assert found(bad, good) == DATA
    assert found(good, bad, "x") == DATA
    site.told()
    assert found(good, starlette_cookie({"user_id": 8}, NOW)) == {}
    assert found(bad, "x", "y", good) == {}
    assert site.told("refused") == ["refused:legacy_doubled", "refused:legacy_doubled"]


@pytest.mark.parametrize("home", ["cookie", "revocable"])
def test_one_that_does_not_fit_into_our_cookie_is_refused(home: str) -> None:
    site = app(home, legacy=[FlaskCookie(OLD, until=LATE)])
    browser = Browser(session=flask_cookie({"a": "so " * 3000}, NOW))
    assert len(browser.cookies["session"]) < 500
    assert reads(site, browser) == {}
    assert site.told("refused") == ["refused:legacy_too_large"]


class Broken(LegacyCookie):
    def read(self, value: str, now: int) -> LegacySession:
        raise KeyError(value)


class Mine(LegacyCookie):
    """A reader of somebody's own."""

    def read(self, value: str, now: int) -> LegacySession:
        if not value.startswith("signed:"):
            raise LegacyRefused("forged")
        return LegacySession(data={"value": value[7:]}, issued_at=now, user_id=5)


@homes
def test_a_reader_of_your_own(home: str, caplog: pytest.LogCaptureFixture) -> None:
    site = app(home, legacy=[Broken(name="b", until=LATE), Mine(name="mine", until=LATE)])
    with site.request(Browser(mine="signed:x")) as session:
        assert session == {"value": "x"}
        assert session.user_id == "5"
    assert reads(site, Browser(mine="x")) == {}
    assert site.told("refused") == ["refused:legacy_forged"]
    with caplog.at_level(logging.ERROR, "session_mw"):
        assert reads(site, Browser(b="secret")) == {}
    assert site.told("refused") == ["refused:legacy_failed"]
    assert "its cookie is refused" in caplog.text


# -- addresses


@homes
def test_it_is_bound_to_the_address_it_arrives_from(home: str) -> None:
    site, browser = app(home, strict_session_ip=True), visitor()
    with site.request(browser) as session:
        assert session.online()
    with site.request(browser, peer=AWAY) as session:
        assert session == {}
    site, browser = app(home, session_ip=True), visitor()
    with site.request(browser) as session:
        assert session == DATA
    with site.request(browser, peer=AWAY) as session:
        assert session == {}
    site = app(home, strict_session_ip=True)
    with site.request(visitor(), peer=None) as session:
        assert session == {}
    assert site.told("refused") == ["refused:legacy_address"]


@homes
def test_a_veto_holds_for_it_too(home: str) -> None:
    site, browser = app(home, on_validate=lambda record: record.user_id != "7"), visitor()
    assert reads(site, browser) == {}
    assert site.told("refused") == ["refused:vetoed"]
    assert reads(site, visitor({"user_id": 8})) == {"user_id": 8}


# -- the end


ENDINGS = {
    "logout": lambda session: session.logout(),
    "logout with its data": lambda session: session.logout(clear_data=True),
    "clear": lambda session: session.clear(),
    "destroy": lambda session: session.destroy(),
    "login as another": lambda session: session.login(user_id="ada"),
}
every_end = pytest.mark.parametrize("end", list(ENDINGS))


@homes
@every_end
def test_an_end_takes_both_cookies(home: str, end: str) -> None:
    site, browser = app(home), visitor()
    with site.request(browser) as session:
        assert session
    with site.request(browser) as session:
        ENDINGS[end](session)
    assert "session" not in browser.cookies
    assert site.sent[-1] == (
        "session=; Max-Age=0; Expires=Thu, 01 Jan 1970 00:00:00 GMT; Path=/; Secure; HttpOnly; SameSite=Lax"
    )


@homes
@every_end
def test_so_does_an_end_in_the_first_request(home: str, end: str) -> None:
    site, browser = app(home), visitor()
    with site.request(browser) as session:
        ENDINGS[end](session)
    assert "session" not in browser.cookies


@homes
def test_so_does_an_end_that_was_committed_early(home: str) -> None:
    site, browser = app(home), visitor()
    with site.request(browser) as session:
        assert session
    with site.request(browser) as session:
        session.logout()
        session.commit()
    assert "session" not in browser.cookies


@pytest.mark.parametrize("early", [False, True])
def test_so_does_an_end_that_is_awaited(early: bool) -> None:
    async def end(scope: Any, receive: Any, send: Any) -> None:
        scope["session"].logout()
        if early:
            await scope["session"].acommit()
        await respond(send)

    client = Client(asgi.SessionMiddleware(end, **settings_of("awaited", Clock())), visitor().cookies)
    client.get()
    assert "session" not in client.cookies


@homes
def test_so_does_taking_out_all_there_is(home: str) -> None:
    site, browser = app(home, legacy=[StarletteCookie(OLD, until=LATE)]), visitor()
    with site.request(browser) as session:
        assert session
    with site.request(browser) as session:
        for key in list(session):
            del session[key]
    assert browser.cookies == {}


@homes
def test_what_ends_nothing_takes_no_cookie(home: str) -> None:
    site, browser = app(home), visitor()
    for act in (lambda s: s.update(n=1), lambda s: s.regenerate(), lambda s: s.login(user_id="7")):
        with site.request(browser) as session:
            act(session)
        assert "session" in browser.cookies


def test_the_old_cookie_goes_with_its_own_path_and_domain() -> None:
    readers = [StarletteCookie(OLD, until=LATE, owner_key="user_id", path="/app", domain="example.test")]
    site, browser = app("store", legacy=readers), visitor()
    with site.request(browser) as session:
        session.destroy()
    assert "Path=/app; Domain=example.test" in site.sent[-1]


@remembering
@every_end
def test_a_thief_s_copy_is_dead_after_the_end(home: str, end: str) -> None:
    site, browser = app(home), visitor()
    thief = browser.copy()
    with site.request(browser) as session:
        assert session
    with site.request(browser) as session:
        ENDINGS[end](session)
    site.told()
    for _ in range(2):
        assert reads(site, thief) == {}
        assert site.told("refused", "upgrade") == ["refused:legacy_ended"]
        site.clock.advance(3600)  # when the minute of closed records is over
        if site.store is not None:
            site.store.purge(int(site.clock()), 1000)


@remembering
def test_a_thief_s_copy_is_dead_after_a_rotation(home: str) -> None:
    site, browser = app(home), visitor()
    thief = browser.copy()
    with site.request(browser) as session:
        session.regenerate(grace=0)
    assert reads(site, browser) == DATA
    assert reads(site, thief) == {}


def test_without_a_memory_the_copy_lives_until_its_limits() -> None:
    """As any sealed cookie does; docs/migration.md says so, and what bounds it."""
    site, browser = app("cookie"), visitor()
    thief = browser.copy()
    with site.request(browser) as session:
        session.destroy()
    assert reads(site, thief) == DATA


@pytest.mark.parametrize("everybody", [False, True])
def test_log_out_everywhere_reaches_old_cookies_where_their_reader_knows_of_it(everybody: bool) -> None:
    """docs/migration.md has this reader, and says what happens without it."""
    logged_out: dict[str, int] = {}

    class OldCookie(StarletteCookie):
        def read(self, value: str, now: int) -> LegacySession:
            session = super().read(value, now)
            if session.issued_at <= logged_out.get(str(session.user_id), 0):
                raise LegacyRefused("ended")
            return session

    site = app("store", legacy=[OldCookie(OLD, until=LATE, owner_key="user_id")])
    taken_over, signed_again, never_seen = visitor(at=NOW - 9), visitor(at=NOW), visitor({"user_id": 7, "n": 2})
    with site.request(taken_over.copy()) as session:
        assert session == DATA
    service = SessionService(site.config)
    assert (service.destroy_all_sessions() if everybody else service.destroy_user_sessions("7")) >= 1
    site.told()
    if everybody:
        assert reads(site, taken_over) == DATA  # that it was spent is forgotten
    assert reads(site, signed_again) == DATA
    logged_out["7"] = NOW
    assert service.destroy_user_sessions("7") >= 1
    for old in (taken_over, signed_again, never_seen):
        assert reads(site, old) == {}
    assert {*site.told("refused")} == {"refused:legacy_ended"}
    assert reads(site, visitor({"user_id": 8})) == {"user_id": 8}
    assert reads(site, visitor(at=NOW + 1)) == DATA  # a login since


def test_log_out_everywhere_ends_what_was_not_taken_over_yet() -> None:
    site = app("revocable")
    browser, elsewhere = visitor(), visitor({"user_id": 7, "device": 2})
    site.clock.advance(5)
    with site.request(browser) as session:
        session.destroy_others()
    assert reads(site, browser) == DATA
    assert reads(site, elsewhere) == {}


@homes
def test_a_request_that_fails_loses_nothing(home: str) -> None:
    site, browser = app(home), visitor()
    with pytest.raises(ZeroDivisionError):  # noqa: SIM117
        with site.request(browser) as session:
            session["x"] = session["user_id"] / 0
    assert reads(site, browser) == DATA


# -- overlapping requests


def test_overlapping_first_requests_meet_in_one_session() -> None:
    site, browser = app("store"), visitor()
    one, two = site.begin(browser), site.begin(browser)
    one.session["one"] = 1
    two.session["two"] = 2
    for exchange in (one, two):
        exchange.respond()
        exchange.end()
    assert one.sent == two.sent
    assert reads(site, browser) == {**DATA, "one": 1, "two": 2}
    assert len(SessionService(site.config).list_sessions("7")) == 1


def test_a_lost_response_costs_nothing() -> None:
    site = app("store")
    assert reads(site, visitor()) == DATA
    assert reads(site, visitor()) == DATA
    assert len(SessionService(site.config).list_sessions("7")) == 1


class Raced(MemoryStore):
    """Lets another request in before the first create."""

    def __init__(self, clock: Any, *rivals: Any) -> None:
        super().__init__(clock=clock)
        self.rivals = list(rivals)

    def create(self, record: Any) -> bool:
        if self.rivals:
            self.rivals.pop()()
        return super().create(record)


@pytest.mark.parametrize("logs_out", [False, True])
def test_a_race_to_take_it_over_has_one_session(logs_out: bool) -> None:
    """Two requests that both saw that it was not there yet; the faster one may even have ended it."""
    clock = Clock()
    store = Raced(clock)
    site, other = (app("store", clock=clock, store=store) for _ in range(2))
    browser = visitor()

    def rival() -> None:
        with other.request(browser.copy()) as session:
            session["other"] = 1
            if logs_out:
                session.destroy()

    store.rivals.append(rival)
    with site.request(browser) as session:
        assert session == ({} if logs_out else {**DATA, "other": 1})
        session["n"] = 1
    assert reads(site, browser) == ({"n": 1} if logs_out else {**DATA, "other": 1, "n": 1})


def test_payloads_are_sealed_at_rest_as_ever() -> None:
    site, browser = app("store", encryption=True, secret_key=KEY), visitor({"user_id": 7, "a": "plainly"})
    with site.request(browser) as session:
        assert session["a"] == "plainly"
    assert "plainly" not in repr([record.payload for record in site.store._live.values()])
    assert reads(site, browser)["a"] == "plainly"


def test_a_store_that_fails_is_told_and_nothing_is_lost() -> None:
    from session_mw.errors import StoreError

    clock = Clock()
    store = FaultyStore(MemoryStore(clock=clock))
    site, browser = app("store", clock=clock, store=store), visitor()
    store.fail("create")
    with pytest.raises(StoreError), site.request(browser) as session:
        dict(session)
    store.heal()
    assert reads(site, browser) == DATA


def test_a_manager_of_your_own_must_know_how() -> None:
    class Manager:
        store = consults = None

        def configure(self, config: Any) -> None: ...

    with pytest.raises(ConfigurationError, match=r"legacy= needs a manager with take_over\(\); Manager has none"):
        app("cookie", manager=Manager())


# -- integrations

READERS = [StarletteCookie(OLD, until=LATE, owner_key="user_id")]
ROUTES = Routes(
    index=lambda s: sorted(s.items()),
    me=lambda s: (s.user_id, s.online()),
    write=lambda s: s.update(n=1),
    logout=lambda s: s.logout(clear_data=True),
)


def settings_of(home: str, clock: Any) -> dict[str, Any]:
    settings: dict[str, Any] = {"legacy": READERS, "clock": clock}
    if home == "store":
        return {**settings, "store": MemoryStore(clock=clock)}
    if home == "awaited":
        return {**settings, "store": FaultyAsyncStore(MemoryStore(clock=clock).aio())}
    if home == "revocable":
        settings["revocation"] = MemoryStore(evict=False, clock=clock)
    if home == "revocable awaited":
        settings["revocation"] = FaultyAsyncStore(MemoryStore(evict=False, clock=clock).aio())
    return {**settings, "secret_key": SECRET}


def _story(browser: Any) -> None:
    assert browser.get("/me").text == "('7', True)"
    assert set(browser.cookies) == {"session", NAME}
    browser.get("/write")
    assert browser.get("/").text == str(sorted({**DATA, "n": 1}.items()))
    browser.get("/logout")
    assert browser.cookies == {}
    assert browser.get("/").text == "[]"


@pytest.mark.parametrize("home", [*HOMES, "awaited", "revocable awaited"])
def test_asgi(home: str) -> None:
    _story(Client(asgi.SessionMiddleware(ROUTES, **settings_of(home, Clock())), visitor().cookies))


@homes
def test_wsgi(home: str) -> None:
    def run(environ: Any, start_response: Any) -> list[bytes]:
        session = environ["session_mw.session"]
        body = str(ROUTES.routes[environ["PATH_INFO"].strip("/") or "index"](session)).encode()
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [body]

    _story(WSGIClient(wsgi.SessionMiddleware(run, **settings_of(home, Clock())), visitor().cookies))


def test_a_websocket_takes_it_over_at_its_accept() -> None:
    async def accept(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            return await ROUTES(scope, receive, send)
        await receive()
        assert dict(scope["session"]) == DATA
        await send({"type": "websocket.accept", "headers": []})
        await receive()
        return None

    async def main() -> None:
        client = Client(asgi.SessionMiddleware(accept, **settings_of("store", Clock())), visitor().cookies)
        async with Socket(client) as socket:
            assert (await socket.next())["type"] == "websocket.accept"
            await socket.leave()
        assert set(client.cookies) == {"session", NAME}

    asyncio.run(main())


def test_where_it_must_be_awaited_it_says_so() -> None:
    def look(session: Any) -> str:
        with pytest.raises(SessionStateError, match=r"await session\.load"):
            session.get("a")
        return "ok"

    site = asgi.SessionMiddleware(Routes(index=look), **settings_of("awaited", Clock()), autoload=False)
    assert Client(site, visitor().cookies).get().text == "ok"

    async def loads(scope: Any, receive: Any, send: Any) -> None:
        await respond(send, dict(await scope["session"].load()))

    site = asgi.SessionMiddleware(loads, **settings_of("awaited", Clock()), autoload=False)
    assert Client(site, visitor().cookies).get().text == str(DATA)


def test_without_a_legacy_cookie_an_awaited_store_is_not_asked() -> None:
    settings = settings_of("awaited", Clock())
    client = Client(asgi.SessionMiddleware(ROUTES, **settings))
    client.get()
    assert [call.method for call in settings["store"].calls] == ["initialize"]


def test_starlette() -> None:
    def items(request: Request) -> JSONResponse:
        return JSONResponse(dict(request.session))

    def leave(request: Request) -> JSONResponse:
        request.session.clear()
        return JSONResponse({})

    site = Starlette(routes=[Route("/", items), Route("/leave", leave)])
    site.add_middleware(SessionMiddleware, secret_key=SECRET, session_cookie="sid", legacy=READERS, clock=Clock())
    with TestClient(site, base_url="https://testserver", cookies=visitor().cookies) as client:
        assert client.get("/").json() == DATA
        assert "Max-Age=1209600" not in client.get("/").headers.get("set-cookie", "")
        assert client.cookies["sid"]
        lines = client.get("/leave").headers.get_list("set-cookie")
        assert [line.partition("=")[0] for line in lines] == ["sid", "session"]
    with pytest.raises(ConfigurationError, match=r'cookie_name="__Host-session" \(cookie_name is session_cookie= here'):
        SessionMiddleware(site, secret_key=SECRET, legacy=READERS)


@pytest.mark.parametrize("home", ["cookie", "store"])
def test_flask(home: str) -> None:
    clock = Clock()
    site = flask.Flask("new")
    site.config.update(SECRET_KEY=SECRET, SESSION_COOKIE_NAME="sid")
    ours: dict[str, Any] = {"legacy": [FlaskCookie(OLD, until=LATE, owner_key="user_id")], "clock": clock}
    if home == "store":
        ours["store"] = MemoryStore(clock=clock)
    site.config["SESSION_MW"] = ours
    SessionMW(site)

    @site.get("/")
    def items() -> dict[str, Any]:
        return dict(flask.session)

    @site.get("/leave")
    def leave() -> str:
        flask.session.clear()
        return ""

    browser = site.test_client()
    browser.set_cookie("session", flask_cookie({**DATA, "_permanent": True}, NOW))
    reply = browser.get("/")
    assert reply.json == DATA
    assert [line.partition("=")[0] for line in flask_cookies(reply)] == ["sid"]
    assert "Max-Age" in flask_cookies(reply)[0]
    assert browser.get("/").json == DATA
    assert [line.partition("=")[0] for line in flask_cookies(browser.get("/leave"))] == ["sid", "session"]
    assert browser.get_cookie("session") is None
    assert browser.get("/").json == {}


@pytest.mark.parametrize("kept", [{"secret_key": SECRET}, {"store": "memory:"}], ids=["cookie", "store"])
@pytest.mark.parametrize("path", ["/logout", "/pop"])
def test_starlette_lets_the_old_cookie_go_at_a_logout_that_leaves_data_behind(kept: dict[str, Any], path: str) -> None:
    async def site(scope: Any, receive: Any, send: Any) -> None:
        session = await scope["session"].load()
        if scope["path"] == "/logout":
            session.logout()
        elif scope["path"] == "/pop":
            session.pop("user_id")
        await respond(send)

    settings: dict[str, Any] = {"session_cookie": "sid", "legacy": READERS, "owner_key": "user_id", "clock": Clock()}
    browser = Client(SessionMiddleware(site, **settings, **kept), visitor().cookies)
    browser.get("/")
    assert set(browser.cookies) == {"session", "sid"}
    browser.get(path)
    assert set(browser.cookies) == {"sid"}
