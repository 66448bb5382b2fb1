"""What Django tests of every session engine, told again with ours in its place; each test bears Django's name for it.

Django's are in its ``tests/sessions_tests/tests.py``: ``SessionTestsMixin``, once called and once awaited
(``…_async``), what ``SessionBaseTests`` asks of more than the base, and what tests of a single engine ask of any. Those
that cannot hold are in ``DIFFERS`` with the reason; ``docs/frameworks/django.md`` lists them, and here each is told as
it is with us.
"""

from __future__ import annotations

import asyncio
import base64
import string
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from conftest import ROOT
from django.conf import settings
from django.contrib.sessions.backends.base import SessionBase, UpdateError
from django.core.management import call_command
from django.core.signing import TimestampSigner
from django.test import override_settings
from django.utils import timezone
from django_engine.face import Face, record_of

from session_mw.core.tokens import split
from session_mw.django import SessionStore
from session_mw.stores.memory import MemoryStore

DIFFERS = {"test_cycle", "test_session_key_valid_string_saved", "test_bool"}


def test_the_docs_list_what_differs() -> None:
    page = (ROOT / "docs" / "frameworks" / "django.md").read_text(encoding="utf-8")
    for name in DIFFERS:
        assert f"`{name}`" in page
        assert "Differs:" in (globals()[name].__doc__ or "")


# -- reading and writing -----------------------------------------------------------------------------------------------


def test_new_session() -> None:
    session = SessionStore()
    assert (session.modified, session.accessed, session.session_key) == (False, False, None)


def test_get_empty(face: Face) -> None:
    assert face.get("cat") is None
    assert face.get("cat", "none") == "none"
    assert face.seen() == (True, False)


def test_store(face: Face) -> None:
    face.set("cat", "dog")
    assert face.seen() == (True, True)
    assert face.pop("cat") == "dog"


def test_pop(face: Face) -> None:
    face.set("some key", "exists")
    assert face.pop("some key") == "exists"
    assert face.seen() == (True, True)
    assert face.get("some key") is None


def test_pop_default(face: Face) -> None:
    assert face.pop("some key", "does not exist") == "does not exist"
    assert face.seen() == (True, False)


def test_pop_default_named_argument(face: Face) -> None:
    assert face.pop("some key", default="does not exist") == "does not exist"
    assert face.pop("some key", default=None) is None
    assert face.seen() == (True, False)


def test_pop_no_default_keyerror_raised(face: Face) -> None:
    with pytest.raises(KeyError):
        face.pop("some key")


def test_setdefault(face: Face) -> None:
    assert face.setdefault("foo", "bar") == "bar"
    assert face.setdefault("foo", "baz") == "bar"
    assert face.seen() == (True, True)


def test_update(face: Face) -> None:
    face.update({"update key": 1})
    assert face.seen() == (True, True)
    assert face.get("update key", None) == 1


def test_has_key(face: Face) -> None:
    face.set("some key", 1)
    face.rest()
    assert face.has_key("some key") is True
    assert face.seen() == (True, False)
    face.rest()
    assert ("some key" in face.session, "another" in face.session) == (True, False)
    assert face.seen() == (True, False)


def test_values(face: Face) -> None:
    assert list(face.values()) == []
    assert face.seen() == (True, False)
    face.set("some key", 1)
    face.rest()
    assert list(face.values()) == [1]
    assert face.seen() == (True, False)


def test_keys(face: Face) -> None:
    face.set("x", 1)
    face.rest()
    assert list(face.keys()) == ["x"]
    assert face.seen() == (True, False)


def test_items(face: Face) -> None:
    face.set("x", 1)
    face.rest()
    assert list(face.items()) == [("x", 1)]
    assert face.seen() == (True, False)


def test_clear(face: Face) -> None:
    face.set("x", 1)
    face.rest()
    face.session.clear()
    assert list(face.items()) == []
    assert face.seen() == (True, True)


def test_test_cookie(face: Face) -> None:
    """Django's other name for it awaited: test_atest_cookie."""
    assert face.test_cookie_worked() is False
    face.set_test_cookie()
    face.save()
    other = face.again()
    assert other.test_cookie_worked() is True
    other.delete_test_cookie()
    assert other.has_key(SessionBase.TEST_COOKIE_NAME) is False


def test_is_empty(face: Face) -> None:
    assert face.session.is_empty() is True
    face.set("foo", "bar")
    assert face.session.is_empty() is False


def test_bool() -> None:
    """Differs: a key is a whole token; one that is none is no reason to call the session anything but empty."""
    session = SessionStore()
    assert bool(session) is False
    session["foo"] = "bar"
    assert bool(session) is True
    keyed = SessionStore()
    keyed._session_key = "testkey1234"
    assert bool(keyed) is False
    keyed._session_key = keyed._get_new_session_key()
    assert bool(keyed) is True


# -- keys, saving, ending ----------------------------------------------------------------------------------------------


def test_save(face: Face) -> None:
    face.save()
    assert face.exists(face.session.session_key) is True
    assert face.session.modified is True  # so that Django sends the cookie
    assert split(face.session.session_key or "") is not None


def test_save_doesnt_clear_data(face: Face) -> None:
    face.set("a", "b")
    face.save()
    assert face.get("a") == "b"
    assert face.again().get("a") == "b"


def test_create_and_save(face: Face) -> None:
    face.create()
    key = face.session.session_key
    face.save()
    assert face.session.session_key == key
    assert face.exists(key) is True


def test_delete(face: Face) -> None:
    face.save()
    face.delete(face.session.session_key)
    assert face.exists(face.session.session_key) is False


def test_flush(face: Face) -> None:
    face.set("foo", "bar")
    face.save()
    key = face.session.session_key
    face.flush()
    assert face.exists(key) is False
    assert face.session.session_key is None
    assert face.seen() == (True, True)
    assert bool(face.session) is False
    face.set("new", 1)
    face.save()
    assert face.session.session_key not in (None, key)
    assert dict(face.again().items()) == {"new": 1}


def test_cycle(face: Face) -> None:
    """Differs: the old key is gone after the save() that follows; until then an error loses nothing."""
    face.set("a", "c")
    face.set("b", "d")
    face.save()
    key, data = face.session.session_key, list(face.items())
    face.cycle_key()
    assert face.session.session_key not in (None, key)
    assert list(face.items()) == data
    assert face.exists(key) is True
    face.save()
    assert face.exists(key) is False
    assert list(face.again().items()) == data


def test_cycle_with_no_session_cache(face: Face) -> None:
    face.set("a", "c")
    face.save()
    unread = face.again()
    assert not hasattr(unread.session, "_session_cache")
    unread.cycle_key()
    assert dict(unread.items()) == {"a": "c"}
    unread.save()
    assert dict(unread.again().items()) == {"a": "c"}


def test_invalid_key(face: Face) -> None:
    for key in ("1", face.session._get_new_session_key(), asyncio.run(face.session._aget_new_session_key())):
        other = Face(face.kind, key)
        other.save()
        assert other.session.session_key not in (None, key)
        assert other.get("cat") is None
        other.delete()
        other.delete(key)


def test_load_overlong_key(face: Face) -> None:
    assert Face(face.kind, (string.ascii_letters + string.digits) * 20).load() == {}


def test_session_key_empty_string_invalid() -> None:
    assert keyed("").session_key is None


def test_session_key_too_short_invalid() -> None:
    assert keyed("1234567").session_key is None


def test_session_key_valid_string_saved() -> None:
    """Differs: any text of eight characters is no key; a whole token is."""
    assert keyed("12345678").session_key is None
    token = SessionStore()._get_new_session_key()
    assert keyed(token).session_key == token


def keyed(key: str) -> SessionStore:
    session = SessionStore()
    session._session_key = key
    return session


def test_session_key_is_read_only() -> None:
    session = SessionStore()
    with pytest.raises(AttributeError):
        session.session_key = session._get_new_session_key()


def test_session_load_does_not_create_record(face: Face, store: MemoryStore) -> None:
    for key in ("someunknownkey", face.session._get_new_session_key()):
        other = Face(face.kind, key)
        assert other.load() == {}
        assert other.session.session_key is None
        assert (other.exists(None), other.exists(key)) == (False, False)
    assert store.purge(2**40, 10) == 0


def test_session_save_does_not_resurrect_session_logged_out_in_other_context(face: Face) -> None:
    """Django's other name for it awaited: test_session_asave_…."""
    face.set("test_data", "value1")
    face.save(must_create=True)
    key = face.session.session_key
    face.again().delete()
    face.set("test_data", "value2")
    with pytest.raises(UpdateError):
        face.save()
    assert face.load() == {}
    assert Face(face.kind, key).get("test_data") is None


# -- expiry ------------------------------------------------------------------------------------------------------------


def test_default_expiry(face: Face) -> None:
    assert face.get_expiry_age() == settings.SESSION_COOKIE_AGE
    face.set_expiry(0)
    assert face.get_expiry_age() == settings.SESSION_COOKIE_AGE
    with override_settings(SESSION_COOKIE_AGE=60):
        assert Face(face.kind).get_expiry_age() == 60


def ends_in_ten_seconds(face: Face, expiry: Any, moment: Any) -> None:
    face.set_expiry(expiry)
    assert face.get_expiry_date(modification=moment) == moment + timedelta(seconds=10)
    assert face.get_expiry_age(modification=moment) == 10


def test_custom_expiry_seconds(face: Face) -> None:
    ends_in_ten_seconds(face, 10, timezone.now())


def test_custom_expiry_timedelta(face: Face, monkeypatch: pytest.MonkeyPatch) -> None:
    moment = timezone.now()
    monkeypatch.setattr(timezone, "now", lambda: moment)
    ends_in_ten_seconds(face, timedelta(seconds=10), moment)


def test_custom_expiry_datetime(face: Face) -> None:
    moment = timezone.now()
    ends_in_ten_seconds(face, moment + timedelta(seconds=10), moment)


def test_custom_expiry_reset(face: Face) -> None:
    face.set_expiry(None)
    assert face.session.modified is False
    face.set_expiry(10)
    face.save()
    face.set_expiry(None)
    assert face.get_expiry_age() == settings.SESSION_COOKIE_AGE
    face.save()
    assert record_of(face).lifetime is None


@pytest.mark.parametrize("default", [False, True])
def test_get_expire_at_browser_close(face: Face, default: bool) -> None:
    with override_settings(SESSION_EXPIRE_AT_BROWSER_CLOSE=default):
        for value, expected in ((10, False), (0, True), (None, default)):
            face.set_expiry(value)
            assert face.get_expire_at_browser_close() is expected


@pytest.mark.parametrize("given", [-10, timedelta(seconds=-10)])
def test_actual_expiry(face: Face, given: Any) -> None:
    face.set("foo", "bar")
    face.set_expiry(given)
    face.save()
    other = face.again()
    assert other.has_key("foo") is False
    assert other.session.session_key is None


def test_clearsessions_command(face: Face, store: MemoryStore) -> None:
    """Django's other name for it awaited: test_aclear_expired."""
    face.set_expiry(3600)
    face.save()
    past = Face(face.kind)
    past.set_expiry(-3600)
    past.save()
    call_command("clearsessions")
    assert store.load(record_of(past).id) is None
    assert store.load(record_of(face).id) is not None
    past = Face(face.kind)
    past.set_expiry(-3600)
    past.save()
    face.clear_expired()
    assert store.load(record_of(past).id) is None
    assert store.load(record_of(face).id) is not None


# -- encode and decode, which nothing here is kept by ------------------------------------------------------------------


def test_decode() -> None:
    session = SessionStore()
    assert session.decode(session.encode({"a key": "a value"})) == {"a key": "a value"}


@pytest.mark.parametrize("encoded", [base64.b64encode(b"some:thing").decode(), "bad:encoded:value"])
def test_decode_failure_logged_to_security(encoded: str, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("WARNING", "django.security.SuspiciousSession"):
        assert SessionStore().decode(encoded) == {}
    assert "Session data corrupted" in caplog.text


def test_decode_serializer_exception() -> None:
    session = SessionStore()
    assert session.decode(TimestampSigner(salt=session.key_salt).sign("no data")) == {}


@pytest.fixture(autouse=True)
def no_loop_left() -> Iterator[None]:
    yield
    with pytest.raises(RuntimeError):
        asyncio.get_running_loop()
