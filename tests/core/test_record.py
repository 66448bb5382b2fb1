"""Records and pointers."""

from __future__ import annotations

import msgspec
import pytest

from session_mw.core.record import Record, SessionRecord, followed, leads_to, pointer

RECORD = Record("abcdefghijkl", b"digest", "ann", 1, 2, 3, 4, None, "192.0.2.1", "agent", 5, b"payload")


def test_nothing_secret_in_a_repr() -> None:
    public = SessionRecord.of(RECORD, {"a": "payload"})
    closed = msgspec.structs.replace(RECORD, closed=True)
    assert repr(RECORD) == "<Record abcdef… version=5>"
    assert repr(closed) == "<Record abcdef… version=5 closed>"
    assert repr(public) == "<SessionRecord abcdef… version=5>"


def test_the_public_face() -> None:
    public = SessionRecord.of(RECORD)
    assert public.data is None
    assert not hasattr(public, "digest")
    assert not hasattr(public, "payload")
    for name in ("user_id", "created_at", "last_activity", "expires_at", "absolute_expires_at", "login_ip", "version"):
        assert getattr(public, name) == getattr(RECORD, name)
    assert public.session_id == RECORD.id


def test_records_do_not_change() -> None:
    with pytest.raises(AttributeError):
        RECORD.version = 6  # type: ignore[misc]


def test_pointers() -> None:
    successor = msgspec.structs.replace(RECORD, id="next", digest=b"d" * 32)
    closed = msgspec.structs.replace(RECORD, closed=True, successor=pointer(successor, 100))
    assert followed(closed, 99) == "next"
    assert followed(closed, 100) is None
    assert followed(RECORD, 0) is None


def test_a_pointer_leads_to_a_record_by_its_token() -> None:
    successor = msgspec.structs.replace(RECORD, id="next", digest=b"d" * 32)
    closed = msgspec.structs.replace(RECORD, closed=True, successor=pointer(successor, 100))
    assert leads_to(closed, successor)
    assert leads_to(closed, msgspec.structs.replace(successor, version=9))
    for other in (b"e" * 32, b""):
        assert not leads_to(closed, msgspec.structs.replace(successor, digest=other))
    unissued = msgspec.structs.replace(successor, digest=b"")
    closed = msgspec.structs.replace(RECORD, closed=True, successor=pointer(unissued, 100))
    assert leads_to(closed, unissued)
    assert not leads_to(closed, successor)
    assert not leads_to(RECORD, successor)
