"""What ``set_expiry`` and ``SESSION_COOKIE_AGE`` are worth: limits that the server keeps to, whatever a cookie says."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest
from django.conf import settings
from django.core.management import call_command
from django.utils import timezone
from django_engine.face import Face, record_of

from session_mw.django import SessionStore
from session_mw.stores.memory import MemoryStore
from session_mw.testing import Clock


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


def test_the_very_second_of_a_date_is_over(face: Face, clock: Clock) -> None:
    clock.now = int(clock.now)
    now = datetime.fromtimestamp(clock.now, timezone.get_current_timezone())
    face.set_expiry(now)
    face.save()
    assert record_of(face).expires_at <= clock.now
    other = Face(face.kind)
    other.set_expiry(now + timedelta(seconds=300))
    other.save()
    clock.advance(299)
    other.set("foo", "bar")
    other.save()
    assert other.again().get("foo") == "bar"
    clock.advance(1)
    assert other.again().get("foo") is None


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


class Short(SessionStore):
    """An engine of one's own, as Django's documentation has it."""

    def get_session_cookie_age(self) -> int:
        return 60


@pytest.mark.parametrize("expiry", [None, 0])
def test_the_server_keeps_to_the_age_an_engine_of_ones_own_says(face: Face, clock: Clock, expiry: int | None) -> None:
    mine = Face(face.kind, engine=Short)
    mine.set("foo", "bar")
    mine.set_expiry(expiry)
    assert mine.get_expiry_age() == 60
    mine.save()
    clock.advance(59)
    other = mine.again()
    assert other.get("foo") == "bar"
    other.set("more", 1)
    other.save()  # a change: it lasts another 60
    clock.advance(59)
    assert mine.again().get("foo") == "bar"
    clock.advance(2)
    assert mine.again().get("foo") is None


def test_the_age_of_an_engine_of_ones_own_holds_from_the_next_save(face: Face, clock: Clock) -> None:
    face.set("foo", "bar")
    face.save()
    mine = Face(face.kind, face.session.session_key, engine=Short)
    mine.set("more", 1)
    mine.save()
    assert record_of(mine).lifetime == 60
    mine.set_expiry(300)  # what is said of this one session goes before
    mine.save()
    assert record_of(mine).lifetime == 300
    mine.set_expiry(None)
    mine.save()
    assert record_of(mine).lifetime == 60


def test_an_age_of_nothing_ends_it_at_once(face: Face) -> None:
    class Never(SessionStore):
        def get_session_cookie_age(self) -> int:
            return 0

    mine = Face(face.kind, engine=Never)
    mine.set("foo", "bar")
    mine.save()
    assert mine.again().get("foo") is None
