"""Django's own parts on our sessions: its middleware, auth, messages, the admin, the test client; sync and async."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.conf import settings
from django.contrib import auth, messages
from django.contrib.sessions.middleware import SessionMiddleware
from django.core.exceptions import SynchronousOnlyOperation
from django.db import connections
from django.http import HttpResponse, StreamingHttpResponse
from django.test import AsyncClient, Client, override_settings
from django_engine import site
from django_engine.project import DJANGOS, OURS, REST

from session_mw import SessionClosedError, SessionLogicError, SessionService
from session_mw.core.tokens import split
from session_mw.django import SessionStore, session_config
from session_mw.stores.memory import MemoryStore
from session_mw.testing import Clock

NAME = settings.SESSION_COOKIE_NAME
Does = Callable[[Any], Any]

with_either = pytest.mark.parametrize("ours", [True, False], ids=["with StoreErrorMiddleware", "Django's alone"])


@pytest.fixture
def stack(ours: bool) -> Iterator[None]:
    with override_settings(MIDDLEWARE=[*([OURS] if ours else []), DJANGOS, *REST]):
        yield


def ask(client: Client, does: Does, path: str = "/view", **headers: str) -> Any:
    """A request whose view does that."""
    site.does.append(does)
    try:
        return client.get(path, headers=headers)
    finally:
        site.does.pop()


def cookie(response: Any) -> Any:
    return response.cookies.get(NAME)


def data(client: Client) -> dict[str, Any]:
    return dict(SessionStore(client.cookies[NAME].value))


def user_of(client: Client) -> str:
    return str(ask(client, lambda request: request.user.username).content, "utf-8")


def put(**items: Any) -> Does:
    return lambda request: request.session.update(items)


def read(request: Any) -> dict[str, Any]:
    return dict(request.session)


def log_in(user: Any) -> Does:
    return lambda request: auth.login(request, user)


def log_out(request: Any) -> None:
    auth.logout(request)


# -- Django's own middleware -------------------------------------------------------------------------------------------


@with_either
@pytest.mark.usefixtures("stack")
def test_the_life_of_a_session() -> None:
    client = Client()
    assert "Set-Cookie" not in ask(client, lambda request: None).headers
    untouched = ask(client, lambda request: 1)
    assert cookie(untouched) is None
    seen = ask(client, read)
    assert cookie(seen) is None
    assert seen.headers["Vary"] == "Cookie"
    made = ask(client, put(a=1))
    assert cookie(made).value
    assert cookie(made)["httponly"] is True
    assert ask(client, read).content == b"{'a': 1}"
    assert cookie(ask(client, read)) is None

    def deeper(request: Any) -> None:
        request.session["cart"]["pear"] = 2

    ask(client, put(cart={}))
    ask(client, deeper)
    assert data(client) == {"a": 1, "cart": {"pear": 2}}
    key = client.cookies[NAME].value
    ended = ask(client, lambda request: request.session.flush())
    assert (cookie(ended).value, cookie(ended)["max-age"]) == ("", 0)
    assert SessionStore().exists(key) is False


@with_either
@pytest.mark.usefixtures("stack")
def test_an_emptied_session_keeps_its_key() -> None:
    client = Client()
    ask(client, put(a=1))
    ask(client, lambda request: request.session.clear())
    assert SessionStore().exists(client.cookies[NAME].value)
    assert data(client) == {}


@with_either
@pytest.mark.usefixtures("stack")
def test_flushing_nothing_sends_nothing() -> None:
    response = ask(Client(), lambda request: request.session.flush())
    assert cookie(response) is None
    assert response.headers["Vary"] == "Cookie"


@with_either
@pytest.mark.usefixtures("stack")
def test_an_error_loses_nothing(users: dict[str, Any]) -> None:
    client = Client(raise_request_exception=False)
    ask(client, put(a=1))

    def fails(request: Any) -> None:
        request.session["b"] = 2
        auth.login(request, users["ada"])
        raise RuntimeError("the view failed")

    response = ask(client, fails)
    assert response.status_code == 500
    assert cookie(response) is None
    assert data(client) == {"a": 1}
    assert user_of(client) == "''"


@with_either
@pytest.mark.usefixtures("stack")
def test_a_session_that_ended_meanwhile_is_a_400() -> None:
    client = Client()
    ask(client, put(a=1))
    key = client.cookies[NAME].value

    def overlapped(request: Any) -> None:
        request.session["b"] = 2
        SessionStore(key).flush()

    response = ask(client, overlapped)
    assert response.status_code == 400
    assert cookie(response) is None


@with_either
@pytest.mark.usefixtures("stack")
def test_two_requests_that_overlap_both_keep_their_changes() -> None:
    client = Client()
    ask(client, put(a=1))
    key = client.cookies[NAME].value

    def overlapped(request: Any) -> None:
        assert request.session["a"] == 1
        other = SessionStore(key)
        other["theirs"] = 1
        other.update_with("count", lambda n: n + 1, 0)
        other.save()
        request.session["mine"] = 1
        request.session.update_with("count", lambda n: n + 1, 0)

    ask(client, overlapped)
    assert data(client) == {"a": 1, "theirs": 1, "mine": 1, "count": 2}


@with_either
@pytest.mark.usefixtures("stack")
def test_whoever_presents_a_token_that_was_ended_gets_no_cookie() -> None:
    client, late = Client(), Client()
    ask(client, put(a=1))
    late.cookies[NAME] = client.cookies[NAME].value
    ask(client, lambda request: request.session.cycle_key())
    for does in (read, lambda request: request.session.flush(), lambda request: request.session.clear()):
        response = ask(late, does)
        assert response.status_code == 200
        assert cookie(response) is None
    assert ask(late, read).content == b"{}"
    assert ask(late, put(b=1)).status_code == 400
    assert data(client) == {"a": 1}


def test_a_cookie_we_do_not_know_is_left_alone() -> None:
    client = Client()
    for value in ("abc", SessionStore()._get_new_session_key()):
        client.cookies[NAME] = value
        assert cookie(ask(client, read)) is None
        assert client.cookies[NAME].value == value


def test_only_news_leaves() -> None:
    """The same key again might overwrite a newer one that another response has just set."""
    client = Client()
    first = ask(client, put(a=1))
    assert cookie(first)["max-age"] == settings.SESSION_COOKIE_AGE
    assert first.headers["Cache-Control"] == "no-store"
    again = ask(client, put(a=2))
    assert cookie(again) is None
    assert "Cache-Control" not in again.headers
    assert data(client) == {"a": 2}
    assert cookie(ask(client, lambda request: request.session.set_expiry(600))) is not None
    assert cookie(ask(client, put(a=3))) is None
    assert cookie(ask(client, lambda request: request.session.cycle_key())) is not None


def test_a_persistent_cookie_lasts_until_the_absolute_deadline(clock: Clock) -> None:
    with override_settings(SESSION_MW={**settings.SESSION_MW, "absolute_timeout": 3600}):
        client = Client()
        assert cookie(ask(client, put(a=1)))["max-age"] == 3600
        assert cookie(ask(client, lambda request: request.session.set_expiry(60)))["max-age"] == 3600
        clock.advance(59)
        until = timedelta(seconds=100)
        dated = cookie(ask(client, lambda request: request.session.set_expiry(until)))
        assert 95 <= dated["max-age"] <= 100
        with override_settings(SESSION_EXPIRE_AT_BROWSER_CLOSE=True):
            assert cookie(ask(Client(), put(a=1)))["max-age"] == ""


def test_the_apps_cache_control(caplog: pytest.LogCaptureFixture) -> None:
    def public(request: Any) -> HttpResponse:
        request.session["a"] = 1
        return HttpResponse(headers={"Cache-Control": "public, max-age=60"})

    assert ask(Client(), public).headers["Cache-Control"] == "no-store"
    assert "Cache-Control" in caplog.text

    def targeted(request: Any) -> HttpResponse:
        request.session["a"] = 1
        return HttpResponse(headers={"CDN-Cache-Control": "public", "Surrogate-Control": "no-store"})

    headers = ask(Client(), targeted).headers
    assert (headers.get("CDN-Cache-Control"), headers["Surrogate-Control"]) == (None, "no-store")
    assert len(caplog.records) == 2


@with_either
@pytest.mark.usefixtures("stack")
def test_every_request_counts_when_it_is_said(clock: Clock, ours: bool) -> None:
    with override_settings(SESSION_SAVE_EVERY_REQUEST=True, SESSION_COOKIE_AGE=600):
        client, late = Client(), Client()
        assert cookie(ask(client, read)) is None
        ask(client, put(a=1))
        for _ in range(2):
            clock.advance(400)
            assert ask(client, read).content == b"{'a': 1}"
            if ours:
                client.cookies[NAME]["max-age"] = 600
        late.cookies[NAME] = client.cookies[NAME].value
        SessionStore(client.cookies[NAME].value).flush()
        response = ask(late, read)  # nothing was to be saved; Django's middleware alone would set a cookie
        assert response.status_code == (200 if ours else 400)
        assert cookie(response) is None


def test_reading_alone_is_no_use_of_a_session(clock: Clock) -> None:
    client = Client()
    ask(client, put(a=1))
    clock.advance(settings.SESSION_COOKIE_AGE - 1)
    assert ask(client, read).content == b"{'a': 1}"
    clock.advance(1)
    assert ask(client, read).content == b"{}"


def test_of_two_cookies_that_both_open_none_is_believed() -> None:
    victim, attacker = Client(), Client()
    ask(victim, put(who="victim"))
    ask(attacker, put(who="attacker"))
    mine, theirs = victim.cookies[NAME].value, attacker.cookies[NAME].value
    unknown = SessionStore()._get_new_session_key()
    for pair, seen in (((mine, theirs), b"{}"), ((theirs, mine), b"{}"), ((mine, unknown), b"{'who': 'victim'}")):
        for header in (f"{NAME}={pair[0]}; {NAME}={pair[1]}", f"{NAME}={pair[0]}; other=1; {NAME}={pair[1]}"):
            assert ask(Client(), read, cookie=header).content == seen

    def write(request: Any) -> None:
        request.session["more"] = 1

    assert cookie(ask(Client(), write, cookie=f"{NAME}={mine}; {NAME}={unknown}")) is None
    assert SessionStore(mine)["more"] == 1


HOST = "__Host-session"
_STRIPPED = [" ", "\t", "\x0b", "\x0c", "\x1c", "\x1f", *"\x85\xa0\u1680\u2000\u200a\u2028\u2029\u202f\u205f\u3000"]
ALIKE = [spelt for white in _STRIPPED for spelt in (f"{white}{HOST}", f"{HOST}{white}", f"{white}{HOST}{white}")]
"""Names that Django takes for ours, and browsers for no ``__Host-`` one: a sibling host may set them."""

as_host = override_settings(SESSION_COOKIE_NAME=HOST, SESSION_COOKIE_SECURE=True)
with_each_encoding = pytest.mark.parametrize("encoding", ["utf-8", "latin-1"])


def tossed(encoding: str, mine: str, theirs: str) -> Iterator[tuple[str, str]]:
    """Cookie headers with what a sibling host added to *mine*, as servers hand them on, and the key that counts.

    The last cookie is another one: the async client of Django 5.2 puts a comma behind a header that it is given.
    """
    for name in [*ALIKE, f'"{HOST}"']:
        for value in (theirs, "x", "", f'"{theirs}"'):
            cookie = f"{name}={value}".encode(encoding, "ignore").decode("latin-1")
            if cookie.lstrip(" \t").startswith(f"{HOST}="):
                continue  # white space before a name is the header's: this one is doubled, see above
            yield f"{HOST}={mine}; {cookie}; z=1", mine
            yield f"{cookie}; {HOST}={mine}; z=1", mine
            yield f"{cookie};{HOST}={mine};{cookie};z=1", mine
            yield f"{cookie}; z=1", ""
    yield f'{HOST}="{mine}"; z=1', ""


def read_key(request: Any) -> tuple[Any, Any, Any]:
    before = request.session.session_key
    return before, request.session.get("who"), request.session.session_key


@with_each_encoding
@as_host
def test_a_cookie_is_ours_only_when_its_name_is_to_the_byte(encoding: str) -> None:
    mine, theirs = SessionStore(), SessionStore()
    for session, who in ((mine, "mine"), (theirs, "theirs")):
        session["who"] = who
        session.save()
    keys = mine.session_key or "", theirs.session_key or ""
    for header, key in tossed(encoding, *keys):
        seen = (key, "mine", key) if key else (None, None, None)
        assert ask(Client(), read_key, cookie=header).content.decode() == repr(seen), ascii(header)
        written = ask(Client(), put(more=1), cookie=header)
        assert (HOST in written.cookies) is not bool(key), ascii(header)
    assert SessionStore(keys[1]).get("more") is None


@with_each_encoding
@as_host
def test_a_cookie_is_ours_only_when_its_name_is_to_the_byte_in_async_views(encoding: str) -> None:
    async def aread_key(request: Any) -> tuple[Any, Any, Any]:
        before = request.session.session_key
        return before, await request.session.aget("who"), request.session.session_key

    async def story(client: AsyncClient) -> None:
        mine, theirs = SessionStore(), SessionStore()
        for session, who in ((mine, "mine"), (theirs, "theirs")):
            await session.aset("who", who)
            await session.asave()
        for header, key in tossed(encoding, mine.session_key or "", theirs.session_key or ""):
            seen = (key, "mine", key) if key else (None, None, None)
            assert (await aask(client, aread_key, cookie=header)).content.decode() == repr(seen), ascii(header)

    run_async(story)


class FromElsewhere(SessionMiddleware):
    """A middleware of an app's own: the key is in a header, or nowhere."""

    def process_request(self, request: Any) -> None:
        request.session = self.SessionStore(request.headers.get("X-Session"))


def test_a_key_that_an_app_s_own_middleware_took_from_elsewhere_is_left_alone() -> None:
    cookie, header = SessionStore(), SessionStore()
    for session, who in ((cookie, "cookie"), (header, "header")):
        session["who"] = who
        session.save()
    name = f"{FromElsewhere.__module__}.{FromElsewhere.__qualname__}"
    with override_settings(MIDDLEWARE=[OURS, name, *REST]):
        for sent in ("", f"{NAME}={cookie.session_key}", f"{NAME}={cookie.session_key}; {NAME}=x"):
            answer = ask(Client(), read, cookie=sent, x_session=header.session_key or "")
            assert answer.content == b"{'who': 'header'}"
            assert ask(Client(), read, cookie=sent).content == b"{}"


# -- auth --------------------------------------------------------------------------------------------------------------


@with_either
@pytest.mark.usefixtures("stack")
def test_login_rotates_and_binds_the_owner(users: dict[str, Any]) -> None:
    ada, service = users["ada"], SessionService(session_config())
    client, thief = Client(), Client()
    ask(client, put(cart=1))
    thief.cookies[NAME] = before = client.cookies[NAME].value
    ask(client, log_in(ada))
    assert client.cookies[NAME].value != before
    assert SessionStore().exists(before) is False
    assert user_of(thief) == "''"
    assert user_of(client) == "'ada'"
    assert data(client)["cart"] == 1
    (handle,) = service.list_sessions(ada.pk)
    assert client.cookies[NAME].value.startswith(f"{handle}.")
    assert ask(client, lambda request: (request.session.user_id, request.session.online())).content == (
        f"('{ada.pk}', True)".encode()
    )
    ask(client, log_out)
    assert service.list_sessions(ada.pk) == []
    assert user_of(client) == "''"


def test_a_fixed_session_is_worth_nothing(users: dict[str, Any]) -> None:
    attacker, victim = Client(), Client()
    ask(attacker, put(planted=1))
    victim.cookies[NAME] = attacker.cookies[NAME].value
    ask(victim, log_in(users["ada"]))
    assert user_of(victim) == "'ada'"
    assert user_of(attacker) == "''"
    made_up = SessionStore()._get_new_session_key()
    victim.cookies[NAME] = made_up
    ask(victim, log_in(users["ada"]))
    assert victim.cookies[NAME].value != made_up


def test_another_user_inherits_nothing(users: dict[str, Any]) -> None:
    client = Client()
    ask(client, log_in(users["ada"]))
    ask(client, put(secret=1))
    ask(client, log_in(users["eve"]))
    assert "secret" not in data(client)
    assert user_of(client) == "'eve'"
    service = SessionService(session_config())
    assert (service.list_sessions(users["ada"].pk), len(service.list_sessions(users["eve"].pk))) == ([], 1)


def test_the_next_user_inherits_nothing_even_when_the_session_went_on(users: dict[str, Any]) -> None:
    client = Client()
    ask(client, log_in(users["ada"]))
    ask(client, put(secret=1))
    ask(client, lambda request: request.session.logout())  # keeps the data, for ada
    assert data(client) == {"secret": 1}
    assert user_of(client) == "''"
    ask(client, log_in(users["eve"]))
    assert "secret" not in data(client)


def test_a_new_password_keeps_this_session_and_ends_the_others(users: dict[str, Any]) -> None:
    ada = users["ada"]
    here, there = Client(), Client()
    for client in (here, there):
        client.force_login(ada)
    key = here.cookies[NAME].value

    def changed(request: Any) -> None:
        assert request.user == ada
        ada.set_password("another")
        ada.save()
        auth.update_session_auth_hash(request, ada)

    ask(here, changed)
    assert here.cookies[NAME].value != key
    assert SessionStore().exists(key) is False
    assert (user_of(here), user_of(there)) == ("'ada'", "''")
    ada.set_password("pw")
    ada.save()


def test_log_out_everywhere(users: dict[str, Any]) -> None:
    here, there = Client(), Client()
    for client in (here, there):
        assert client.login(username="ada", password="pw")
    service = SessionService(session_config())
    assert len(service.list_sessions(users["ada"].pk)) == 2

    def others(request: Any) -> None:
        request.session.destroy_others()

    ask(here, others)
    assert (user_of(here), user_of(there)) == ("'ada'", "''")
    assert service.destroy_user_sessions(users["ada"].pk) == 1
    assert user_of(here) == "''"

    def both(request: Any) -> None:
        auth.login(request, users["ada"])
        request.session.destroy_others()

    there.force_login(users["ada"])
    ask(here, both)
    assert (user_of(here), user_of(there)) == ("'ada'", "''")


def test_the_test_client(users: dict[str, Any]) -> None:
    client = Client()
    session = client.session
    session["a"] = 1
    session.save()
    assert ask(client, read).content == b"{'a': 1}"
    assert client.login(username="ada", password="pw")
    assert client.session["a"] == 1
    assert user_of(client) == "'ada'"
    client.logout()
    assert user_of(client) == "''"
    assert SessionService(session_config()).list_sessions(users["ada"].pk) == []


def test_messages_and_the_admin(users: dict[str, Any]) -> None:
    client = Client()

    def tells(request: Any) -> None:
        messages.success(request, "done")

    ask(client, tells)
    shown = ask(client, lambda request: [str(each) for each in messages.get_messages(request)])
    assert shown.content == b"['done']"
    assert ask(client, lambda request: list(messages.get_messages(request))).content == b"[]"
    assert client.get("/admin/").status_code == 302
    answer = client.post("/admin/login/?next=/admin/", {"username": "ada", "password": "pw"}, follow=True)
    assert answer.status_code == 200
    assert b"Site administration" in answer.content
    assert client.post("/admin/logout/").status_code == 200
    assert client.get("/admin/").status_code == 302


# -- async -------------------------------------------------------------------------------------------------------------


def run_async(story: Callable[[AsyncClient], Any]) -> None:
    async def told() -> None:
        try:
            await story(AsyncClient())
        finally:
            await sync_to_async(connections.close_all)()

    asyncio.run(told())


async def aask(client: AsyncClient, does: Does, **headers: str) -> Any:
    site.does.append(does)
    try:
        return await client.get("/aview", headers=headers)
    finally:
        site.does.pop()


@with_either
@pytest.mark.usefixtures("stack")
def test_async_views(users: dict[str, Any]) -> None:
    async def put_a(request: Any) -> None:
        await request.session.aset("a", 1)

    async def name(request: Any) -> tuple[str, Any]:
        user = await request.auser()
        return user.username, request.session.get("a")  # loaded by now: no need to await

    async def unread(request: Any) -> Any:
        return request.session["a"]

    async def log_out(request: Any) -> None:
        await auth.alogout(request)

    async def log_in_and_fail(request: Any) -> None:
        await auth.alogin(request, users["ada"])
        raise RuntimeError("the view failed")

    async def log_in(request: Any) -> None:
        await auth.alogin(request, users["ada"])

    async def story(client: AsyncClient) -> None:
        await aask(client, put_a)
        before = client.cookies[NAME].value
        with pytest.raises(RuntimeError):
            await aask(client, log_in_and_fail)
        assert (await aask(client, name)).content == b"('', 1)"
        await aask(client, log_in)
        assert client.cookies[NAME].value != before
        assert (await aask(client, name)).content == b"('ada', 1)"
        with pytest.raises(SynchronousOnlyOperation, match=r"await request\.session\.aget"):
            await aask(client, unread)
        session = await client.asession()
        assert await session.aget("a") == 1
        await aask(client, log_out)
        assert (await aask(client, name)).content == b"('', None)"
        await client.aforce_login(users["ada"])
        assert (await aask(client, name)).content == b"('ada', None)"
        await client.alogout()
        assert (await aask(client, name)).content == b"('', None)"

    run_async(story)


# -- our own names -----------------------------------------------------------------------------------------------------


def test_our_method_api() -> None:
    client = Client()

    def works(request: Any) -> None:
        session = request.session
        session.put("queued", 1).set_to("b", 2, "other")
        session.set("n", 1).add("m", 2)
        assert session.has("n")
        assert session.get_from("other", "b") == 2
        session.expire_after(timedelta(hours=1))

    ask(client, works)
    handle = client.cookies[NAME].value.partition(".")[0]
    session = SessionStore(client.cookies[NAME].value)
    assert (session["queued"], session.get_from("other", "b"), session.session_id) == (1, 2, handle)
    assert repr(session) == f"<Session {handle[:6]}…>"
    session.put("x", 1)
    assert session.modified is True
    assert session.save_queue() is True
    session.expire_after(None)
    session.commit()
    asyncio.run(session.acommit())
    assert SessionStore(session.session_key)["x"] == 1
    with pytest.raises(ValueError, match="expire_after"):
        session.expire_after(timedelta(days=365))


def test_two_storages(users: dict[str, Any]) -> None:
    client = Client()
    ask(client, log_in(users["ada"]))

    def second(request: Any) -> None:
        with request.session.using_storage("bank"):
            request.session["account"] = 7
            request.session.login(user_id=users["ada"].pk)

    ask(client, second)
    assert ask(client, lambda request: (request.session.online(), request.session.online("bank"))).content == (
        b"(True, True)"
    )
    assert user_of(client) == "'ada'"

    def leave(request: Any) -> bool:
        with request.session.using_storage("bank"):
            return request.session.logout()

    assert ask(client, leave).content == b"True"
    assert ask(client, lambda request: (request.session.online(), request.session.online("bank"))).content == (
        b"(True, False)"
    )


def test_the_default_storages_login_is_djangos() -> None:
    with pytest.raises(SessionLogicError, match=r"login\(request, user\)"):
        SessionStore().login(user_id=1)


def test_destroy_acts_at_once_and_may_close() -> None:
    client = Client()
    ask(client, put(a=1))
    key = client.cookies[NAME].value

    def closes(request: Any) -> bool:
        return request.session.destroy(all_data=True)

    response = ask(client, closes)
    assert (response.content, cookie(response)["max-age"]) == (b"True", 0)
    assert SessionStore().exists(key) is False


def test_a_session_that_was_closed_is_saved_as_nothing(store: MemoryStore) -> None:
    client = Client()
    ask(client, put(a=1))

    def closes(request: Any) -> None:
        request.session.destroy(all_data=True)
        request.session.save()

    assert cookie(ask(client, closes))["max-age"] == 0
    assert store.stats(0).live == 0


def test_start_adopts_a_whole_token_and_rotates() -> None:
    client = Client()
    ask(client, put(a=1))
    key = client.cookies[NAME].value
    session = SessionStore()
    session.start(key)
    assert session["a"] == 1
    session.save()
    assert session.session_key != key
    assert SessionStore().exists(key) is False


def test_a_grace_for_overlapping_requests_needs_our_middleware(clock: Clock) -> None:
    """Without it Django would send an overlapping request's old key again."""
    client, late = Client(), Client()
    ask(client, put(a=1))
    late.cookies[NAME] = client.cookies[NAME].value
    ask(client, lambda request: request.session.regenerate())
    response = ask(late, put(b=2))
    assert (response.status_code, cookie(response)) == (200, None)
    assert data(client) == {"a": 1, "b": 2}
    with override_settings(MIDDLEWARE=[DJANGOS, *REST]):
        key = client.cookies[NAME].value
        client, late = Client(), Client()
        client.cookies[NAME] = late.cookies[NAME] = key
        ask(client, lambda request: request.session.regenerate())
        assert ask(late, read).content == b"{}"


def test_a_subclass_is_an_engine_of_its_own() -> None:
    class Mine(SessionStore):
        def get_session_cookie_age(self) -> int:
            return 77

    mine = Mine()
    mine["a"] = 1
    mine.save()
    again = Mine(mine.session_key)
    assert (again["a"], again.get_expiry_age(), type(again)) == (1, 77, Mine)


def test_accessed_can_be_set_before_anything_is_read() -> None:
    session = SessionStore()
    session.accessed = True
    assert session.accessed is False  # nobody has looked
    session["a"] = 1
    session.accessed = True
    assert session.accessed is True


def test_two_tasks_that_read_at_once(store: MemoryStore) -> None:
    client = Client()
    ask(client, put(a=1))
    session = SessionStore(client.cookies[NAME].value)

    async def both() -> list[Any]:
        layer = session._layer
        return await asyncio.gather(layer.afill(session), layer.afill(session))

    asyncio.run(both())
    assert session["a"] == 1


def streams_and(request: Any, does: Does) -> Any:
    session = request.session

    def body() -> Iterator[bytes]:
        does(session)
        yield b"x"

    return StreamingHttpResponse(body())


def test_a_late_write_is_saved_by_hand(store: MemoryStore) -> None:
    client = Client()
    ask(client, put(a=1))

    def late(session: Any) -> None:
        session["late"] = 1
        session.save()

    def streams(request: Any) -> Any:
        return streams_and(request, late)

    def looks_and_logs_in(request: Any) -> Any:
        assert request.session["a"] == 1
        return streams_and(request, lambda session: session.update(_auth_user_id="7"))

    response = ask(client, streams)
    assert b"".join(response.streaming_content) == b"x"
    assert data(client) == {"a": 1, "late": 1}
    nobody = ask(Client(), streams)
    with pytest.raises(SessionClosedError):  # no cookie could be sent for it
        list(nobody.streaming_content)
    empty = ask(Client(), lambda request: streams_and(request, lambda session: session.save()))
    assert list(empty.streaming_content) == [b"x"]
    assert store.stats(0).live == 1  # nor for one with nothing in it
    login = ask(client, looks_and_logs_in)
    with pytest.raises(SessionClosedError):  # nor for a login
        list(login.streaming_content)
    assert data(client) == {"a": 1, "late": 1}
    ended = ask(client, lambda request: streams_and(request, lambda session: session.destroy_others()))
    with pytest.raises(SessionLogicError):
        list(ended.streaming_content)
    assert split(client.cookies[NAME].value) is not None
