"""What Django promises of every session engine, its ``SessionTestsMixin`` told anew, once called and once awaited.

What cannot hold here by design is told the way it is, and listed in docs/frameworks/django.md: ``cycle_key`` takes
effect in ``save()``, a key is a whole token or none.
"""

from __future__ import annotations

import asyncio
import string
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

import pytest
from django.conf import settings
from django.contrib.sessions.backends.base import CreateError, SessionBase, UpdateError
from django.core.management import call_command
from django.test import override_settings
from django.utils import timezone

from session_mw.core.tokens import split
from session_mw.django import SessionStore
from session_mw.stores.memory import MemoryStore
from session_mw.testing import Clock


class Face:
    """A session and how to ask it: ``face.get("a")`` is ``get("a")`` or an awaited ``aget("a")``."""

    def __init__(self, kind: str, key: str | None = None) -> None:
        self.kind = kind
        self.session = SessionStore(key)

    def again(self) -> Face:
        """Another request with the same cookie."""
        return Face(self.kind, self.session.session_key)

    def __getattr__(self, name: str) -> Any:
        if self.kind == "called":
            return getattr(self.session, name)

        def awaited(*args: Any, **kwargs: Any) -> Any:
            return asyncio.run(getattr(self.session, f"a{name}")(*args, **kwargs))

        return awaited


@pytest.fixture(params=["called", "awaited"])
def face(request: pytest.FixtureRequest) -> Face:
    return Face(request.param)


def rest(session: SessionStore) -> None:
    """As if nobody had looked at it, or written to it."""
    session.accessed = session.modified = False
    assert (session.accessed, session.modified) == (False, False)


def test_every_method_of_sessionbase_is_there_and_none_is_unfinished() -> None:
    """By name, in both versions of Django: what SessionBase leaves open, we define."""
    for name in ("exists", "create", "save", "delete", "load", "clear_expired"):
        for each in (name, f"a{name}"):
            assert getattr(SessionStore, each) is not getattr(SessionBase, each)
    assert isinstance(SessionStore(), SessionBase)
    assert isinstance(SessionStore(), dict)


def test_a_new_session_is_untouched() -> None:
    session = SessionStore()
    assert (session.modified, session.accessed, session.session_key, bool(session)) == (False, False, None, False)


def test_nothing_is_found_in_a_new_session(face: Face) -> None:
    assert face.get("cat") is None
    assert face.get("cat", "none") == "none"
    assert face.session.accessed is True
    assert face.session.modified is False


def test_set_and_pop(face: Face) -> None:
    face.set("cat", "dog")
    assert face.session.modified is True
    assert face.pop("cat") == "dog"
    assert face.session.modified is True
    assert face.get("cat") is None


def test_pop_with_a_default_changes_nothing(face: Face) -> None:
    assert face.pop("some key", "does not exist") == "does not exist"
    assert face.pop("some key", default=None) is None
    assert (face.session.accessed, face.session.modified) == (True, False)


def test_pop_without_a_default(face: Face) -> None:
    with pytest.raises(KeyError):
        face.pop("some key")


def test_setdefault(face: Face) -> None:
    assert face.setdefault("foo", "bar") == "bar"
    assert face.setdefault("foo", "baz") == "bar"
    assert (face.session.accessed, face.session.modified) == (True, True)


def test_update(face: Face) -> None:
    face.update({"update key": 1})
    assert (face.session.accessed, face.session.modified) == (True, True)
    assert face.get("update key") == 1


def test_reading_is_access_and_no_change(face: Face) -> None:
    face.set("x", 1)
    for name, expected in (("keys", ["x"]), ("values", [1]), ("items", [("x", 1)])):
        rest(face.session)
        assert list(getattr(face, name)()) == expected
        assert (face.session.accessed, face.session.modified) == (True, False)
    rest(face.session)
    assert face.has_key("x") is True
    assert (face.session.accessed, face.session.modified) == (True, False)
    rest(face.session)
    assert ("x" in face.session, "y" in face.session) == (True, False)
    assert face.session.accessed is True
    assert face.session._session is face.session


def test_a_nested_change_is_a_change_even_after_modified_was_set_to_false(face: Face) -> None:
    face.set("cart", {"items": []})
    face.save()
    other = face.again()
    other.get("cart")["items"].append("pear")
    assert other.session.modified is True
    other.session.modified = False
    assert other.session.modified is False
    other.get("cart")["items"].append("plum")
    assert other.session.modified is True
    other.save()
    assert face.again().get("cart") == {"items": ["pear", "plum"]}


def test_modified_can_be_set_before_anything_is_read() -> None:
    session = SessionStore()
    session.modified = True
    assert session.modified is True
    session.modified = False
    assert session.modified is False


def test_clear(face: Face) -> None:
    face.set("x", 1)
    rest(face.session)
    face.session.clear()
    assert list(face.items()) == []
    assert (face.session.accessed, face.session.modified) == (True, True)


def test_clear_before_anything_was_read_on_an_event_loop(face: Face) -> None:
    face.set("x", 1)
    face.save()
    other = face.again()

    async def view() -> None:
        other.session.clear()  # Django has no aclear()
        assert (other.session.accessed, other.session.modified, bool(other.session)) == (True, True, True)
        await other.session.aset("y", 2)
        await other.session.asave()

    asyncio.run(view())
    assert dict(face.again().items()) == {"y": 2}


def test_the_test_cookie(face: Face) -> None:
    assert face.test_cookie_worked() is False
    face.set_test_cookie()
    face.save()
    other = face.again()
    assert other.test_cookie_worked() is True
    other.delete_test_cookie()
    assert other.test_cookie_worked() is False


def test_save_keeps_even_an_empty_session_under_a_key(face: Face) -> None:
    face.save()
    assert face.exists(face.session.session_key) is True
    assert face.session.modified is True  # so that Django sends the cookie
    assert split(face.session.session_key or "") is not None
    face.set("a", "b")
    face.save()
    assert face.get("a") == "b"
    assert face.again().get("a") == "b"


def test_delete_acts_at_once(face: Face) -> None:
    face.save()
    face.delete(face.session.session_key)
    assert face.exists(face.session.session_key) is False


def test_delete_without_a_key_means_this_one(face: Face) -> None:
    face.delete()  # nothing yet
    face.set("a", 1)
    face.save()
    unread = face.again()
    unread.delete()
    assert face.again().get("a") is None


def test_what_is_not_a_whole_token_deletes_and_finds_nothing(face: Face) -> None:
    face.set("a", 1)
    face.save()
    key = face.session.session_key or ""
    for wrong in ("", "1", face.session.session_id, key[:-1], f"{face.session.session_id}.{'A' * 44}"):
        assert face.exists(wrong) is False
        face.delete(wrong)
        assert Face(face.kind, wrong).get("a") is None
    assert face.exists(None) is False
    assert face.exists(key) is True


def test_flush_acts_at_once(face: Face) -> None:
    face.set("foo", "bar")
    face.save()
    key = face.session.session_key
    face.flush()
    assert face.exists(key) is False
    assert face.session.session_key is None
    assert (face.session.accessed, face.session.modified, bool(face.session)) == (True, True, False)
    face.set("new", 1)
    face.save()
    assert face.session.session_key not in (None, key)
    assert dict(face.again().items()) == {"new": 1}


def test_cycle_key_keeps_the_data_and_takes_effect_in_save(face: Face) -> None:
    face.set("a", "b")
    face.save()
    key = face.session.session_key
    other = face.again()
    assert not hasattr(other.session, "_session_cache")
    other.cycle_key()
    assert other.session.session_key not in (None, key)
    assert face.exists(key) is True  # not before save(): an error now would lose nothing
    other.save()
    assert face.exists(key) is False
    assert dict(other.again().items()) == {"a": "b"}


def test_cycle_key_of_a_new_session(face: Face) -> None:
    face.cycle_key()
    key = face.session.session_key
    assert key is not None
    face.save()
    assert face.session.session_key == key
    assert face.exists(key) is True


def test_create_makes_another_session_at_once(face: Face) -> None:
    face.create()
    first = face.session.session_key
    face.set("a", 1)
    face.save()
    face.create()
    assert face.session.session_key not in (None, first)
    assert dict(face.again().items()) == {"a": 1}
    assert face.exists(first) is True


def test_an_unknown_or_impossible_key_is_replaced(face: Face) -> None:
    unknown = face.session._get_new_session_key()
    for key in ("1", "someunknownkey", (string.ascii_letters + string.digits) * 20, unknown):
        other = Face(face.kind, key)
        assert other.load() == {}
        assert other.session.session_key is None
        assert other.exists(key) is False
        other.set("a", 1)
        other.save()
        assert other.session.session_key not in (None, key)
    assert split(asyncio.run(face.session._aget_new_session_key())) is not None


def test_loading_creates_no_record(face: Face, store: MemoryStore) -> None:
    Face(face.kind, face.session._get_new_session_key()).load()
    assert store.purge(2**40, 10) == 0


def test_session_key_cannot_be_set() -> None:
    session = SessionStore()
    with pytest.raises(AttributeError):
        session.session_key = session._get_new_session_key()


def test_the_private_setter_takes_a_whole_token_or_nothing(face: Face) -> None:
    face.set("a", 1)
    face.save()
    key = face.session.session_key
    other = SessionStore()
    for wrong in ("", "1234567", "12345678", None, key and key[:-1]):
        other._session_key = wrong
        assert other.session_key is None
    other._session_key = key
    assert other["a"] == 1
    other._session_key = None  # let go of it; the data stays
    assert (other.session_key, other["a"]) == (None, 1)
    other._session_key = key  # and take it up again
    assert (other.session_key, other["a"], other.modified) == (key, 1, False)


def test_must_create(face: Face) -> None:
    face.set("a", 1)
    face.save(must_create=True)
    with pytest.raises(CreateError):
        face.save(must_create=True)


def test_a_session_that_ended_meanwhile_is_not_brought_back(face: Face, store: MemoryStore) -> None:
    face.set("data", 1)
    face.save(must_create=True)
    key = face.session.session_key
    face.again().delete()
    face.set("data", 2)
    with pytest.raises(UpdateError):
        face.save()
    assert face.load() == {}
    assert Face(face.kind, key).get("data") is None


def test_one_that_ended_takes_no_empty_save_either(face: Face) -> None:
    face.save(must_create=True)
    face.again().delete()
    with pytest.raises(UpdateError):
        face.save()


def test_load_looks_again(face: Face) -> None:
    face.set("a", 1)
    assert face.load() == {}
    face.save()
    other = face.again()
    other.set("b", 2)
    other.save()
    assert face.load() == {"a": 1, "b": 2}
    assert dict(face.items()) == {"a": 1}  # what is here stays


# -- expiry ------------------------------------------------------------------------------------------------------------


def test_the_default_expiry(face: Face) -> None:
    assert face.get_expiry_age() == settings.SESSION_COOKIE_AGE
    face.set_expiry(0)
    assert face.get_expiry_age() == settings.SESSION_COOKIE_AGE
    with override_settings(SESSION_COOKIE_AGE=60):
        assert Face(face.kind).get_expiry_age() == 60


@pytest.mark.parametrize("given", [10, timedelta(seconds=10), None])
def test_an_expiry_of_its_own(face: Face, given: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    moment = timezone.now()
    monkeypatch.setattr(timezone, "now", lambda: moment)
    face.set_expiry(given or moment + timedelta(seconds=10))
    assert face.get_expiry_date(modification=moment) == moment + timedelta(seconds=10)
    assert face.get_expiry_age(modification=moment) == 10


def test_expiry_can_be_taken_back(face: Face) -> None:
    face.set_expiry(None)
    assert face.session.modified is False
    face.set_expiry(10)
    face.save()
    face.set_expiry(None)
    assert face.get_expiry_age() == settings.SESSION_COOKIE_AGE
    face.save()
    assert record_of(face).lifetime is None


@pytest.mark.parametrize("default", [False, True])
def test_expiry_at_browser_close(face: Face, default: bool) -> None:
    with override_settings(SESSION_EXPIRE_AT_BROWSER_CLOSE=default):
        for value, expected in ((10, False), (0, True), (None, default)):
            face.set_expiry(value)
            assert face.get_expire_at_browser_close() is expected


def record_of(face: Face) -> Any:
    record = face.session._state.base  # type: ignore[union-attr]
    assert record is not None
    return record


@pytest.mark.parametrize("given", [-10, timedelta(seconds=-10)])
def test_an_expiry_in_the_past_ends_it_at_once(face: Face, given: Any) -> None:
    face.set("foo", "bar")
    face.set_expiry(given)
    face.save()
    other = face.again()
    assert other.get("foo") is None
    assert other.session.session_key is None


def test_the_server_keeps_to_a_number_of_seconds(face: Face, clock: Clock) -> None:
    face.set("foo", "bar")
    face.set_expiry(300)
    face.save()
    clock.advance(299)
    other = face.again()
    other.set("more", 1)
    other.save()  # a change: it lasts another 300
    clock.advance(299)
    assert face.again().get("foo") == "bar"
    clock.advance(2)
    assert face.again().get("foo") is None


def test_the_server_keeps_to_a_date(face: Face, clock: Clock) -> None:
    until = timezone.now() + timedelta(seconds=300)
    face.set("foo", "bar")
    face.set_expiry(until)
    face.save()
    clock.advance(200)
    other = face.again()
    other.set("more", 1)
    other.save()
    clock.now = until.timestamp() - 1
    assert face.again().get("foo") == "bar"
    clock.now = until.timestamp() + 1
    last = face.again()  # changes made it no longer
    assert last.get("foo") is None
    last.set("x", 1)
    last.save()
    assert last.session.session_key != face.session.session_key
    other = Face(face.kind)
    other.set_expiry(datetime(2000, 1, 1, tzinfo=timezone.get_current_timezone()))
    other.save()
    assert other.again().session.is_empty() is False  # nobody has looked
    assert other.again().load() == {}


def test_a_date_that_is_none_is_left_alone(face: Face) -> None:
    face.set("_session_expiry", "next week")
    face.save()
    assert face.again().get("_session_expiry") == "next week"


def test_no_expiry_beyond_the_absolute_timeout(face: Face) -> None:
    longest = settings.SESSION_COOKIE_AGE
    face.set_expiry(longest)
    for value in (longest + 1, timedelta(seconds=longest + 1), timezone.now() + timedelta(days=60)):
        with pytest.raises(ValueError, match=r'absolute_timeout .*SESSION_MW\["absolute_timeout"\]'):
            face.set_expiry(value)


def test_clearsessions(face: Face, store: MemoryStore) -> None:
    face.set_expiry(3600)
    face.save()
    past = Face(face.kind)
    past.set_expiry(-3600)
    past.save()
    call_command("clearsessions")
    face.clear_expired()
    assert store.load(record_of(past).id) is None
    assert store.load(record_of(face).id) is not None


def test_expiry_belongs_to_the_session_whatever_its_storage(face: Face) -> None:
    with face.session.using_storage("other"):
        face.set_expiry(10)
    face.session.set_storage("other")
    assert (face.get_expiry_age(), face.get_expire_at_browser_close()) == (10, False)
    assert face.get_expiry_age(expiry=20) == 20
    assert face.session.to_dict() == {}
    face.save()
    assert record_of(face).lifetime == 10


# -- encode and decode -------------------------------------------------------------------------------------------------


def test_encode_and_decode(caplog: pytest.LogCaptureFixture) -> None:
    session = SessionStore()
    assert session.decode(session.encode({"a key": "a value"})) == {"a key": "a value"}
    with caplog.at_level("WARNING", "django.security.SuspiciousSession"):
        assert session.decode("bad:encoded:value") == {}
    assert "corrupted" in caplog.text


@pytest.fixture(autouse=True)
def no_loop_left() -> Iterator[None]:
    yield
    with pytest.raises(RuntimeError):
        asyncio.get_running_loop()
