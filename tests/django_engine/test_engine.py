"""What the engine promises beyond Django's own tests of one: methods, nested changes, keys that are whole tokens."""

from __future__ import annotations

import asyncio

import pytest
from django.contrib.sessions.backends.base import CreateError, SessionBase, UpdateError
from django_engine.face import Face

from session_mw.django import SessionStore


def test_every_method_of_sessionbase_is_there_and_none_is_unfinished() -> None:
    """By name, in both versions of Django: what SessionBase leaves open, we define."""
    for name in ("exists", "create", "save", "delete", "load", "clear_expired"):
        for each in (name, f"a{name}"):
            assert getattr(SessionStore, each) is not getattr(SessionBase, each)
    assert isinstance(SessionStore(), SessionBase)
    assert isinstance(SessionStore(), dict)


def test_what_django_calls_the_data_is_the_session_itself(face: Face) -> None:
    face.set("a", 1)
    assert face.session._session is face.session
    assert asyncio.run(face.session._aget_session()) is face.session


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
