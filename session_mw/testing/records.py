"""The kit: what create, load, save and touch must do."""

# ruff: noqa: S101  (asserting is what this module is for)
from __future__ import annotations

from msgspec import structs

from ..core.operations import (
    Create,
    Delete,
    ListUser,
    Load,
    Outcome,
    Save,
    Touch,
)
from ..core.record import Record
from .face import Face, Faces, case
from .samples import (
    NOW,
    a_closed,
    assert_payload,
    assert_record,
    following,
    new_id,
    new_record,
)

__all__ = ["RecordCases"]

YEAR_2200 = 7_258_118_400
PAYLOADS = (b"", b"\0", b"\n", b"a\r\nb\n", b"\0a\0", b"NULL", b"'; --", b"\xff\xfe", bytes(range(256)), b"m" * 2**20)


class RecordCases(Faces):
    """Records come back as they were; nothing is overwritten, nothing revived."""

    @case
    def test_unknown_id_loads_nothing(self, face: Face) -> None:
        face.ask(Create(new_record()))
        assert face.ask(Load(new_id())) is None, "an id nobody created has a record"

    @case
    def test_record_comes_back_as_it_was(self, face: Face) -> None:
        full = new_record(
            user_id="Zoë \N{SNOWMAN} 山",
            created_at=YEAR_2200,
            last_activity=YEAR_2200 + 1,
            expires_at=YEAR_2200 + 2,
            absolute_expires_at=YEAR_2200 + 3,
            lifetime=2**40,
            login_ip="2001:db8::1",
            login_user_agent="Mozilla/5.0 (\N{SNOWMAN}; 'x') \"\\ %s " + "y" * 500,
            version=2**53,
        )
        bare = new_record(user_id=None, digest=b"", lifetime=0)
        for record in (full, bare, new_record()):
            assert face.ask(Create(record)) is True, "create did not answer True for a new id"
            found = face.ask(Load(record.id))
            for field in Record.__struct_fields__:
                assert getattr(found, field) == getattr(record, field), f"{field} changed on the way"
            assert found.closed is False, "a live record is not closed"

    @case
    def test_payload_comes_back_as_it_was(self, face: Face) -> None:
        saved = new_record()
        face.ask(Create(saved))
        for payload in PAYLOADS:
            created = new_record(payload=payload)
            face.ask(Create(created))
            assert_payload(face, created.id, payload)
            for payload_only in (False, True):
                changed = following(saved, payload=payload)
                outcome = face.ask(Save(changed, saved.version, payload_only))
                assert outcome is Outcome.SAVED, f"save answered {outcome}"
                assert_payload(face, saved.id, payload)
                saved = changed

    @case
    def test_ids_compare_byte_by_byte(self, face: Face) -> None:
        lower, upper = new_record("a" * 24, user_id=None), new_record("A" * 24, user_id=None)
        face.ask(Create(lower))
        assert face.ask(Load(upper.id)) is None, "ids that differ in case are two ids"
        assert face.ask(Delete(upper.id)) is Outcome.GONE, "ids that differ in case are two ids"
        assert face.ask(Create(upper)) is True, "ids that differ in case are two ids"
        assert_record(face, lower)
        assert_record(face, upper)

    @case
    def test_create_never_overwrites(self, face: Face) -> None:
        first = new_record()
        face.ask(Create(first))
        second = new_record(first.id, user_id="mallory", payload=b"other")
        assert face.ask(Create(second)) is False, "create did not answer False for a taken id"
        assert_record(face, first)
        assert face.ask(ListUser("mallory")) == [], "a refused create left its user behind"

    @case
    def test_create_never_overwrites_closed(self, face: Face) -> None:
        record = a_closed(face)
        assert face.ask(Create(new_record(record.id))) is False, "create took the id of a closed record"
        assert face.ask(Load(record.id)).closed is True, "create replaced a closed record"

    @case
    def test_save_replaces(self, face: Face) -> None:
        record = new_record()
        face.ask(Create(record))
        changed = following(
            record,
            digest=b"d" * 32,
            last_activity=NOW + 5,
            expires_at=NOW + 5000,  # earlier: only touch refuses that
            lifetime=5000,
            login_ip="192.0.2.1",
            login_user_agent="agent",
            payload=b"new",
        )
        outcome = face.ask(Save(changed, 1))
        assert outcome is Outcome.SAVED, f"save answered {outcome}"
        assert_record(face, changed)

    @case
    def test_save_of_another_version_conflicts(self, face: Face) -> None:
        record = new_record(version=5)
        face.ask(Create(record))
        for seen in (4, 6):
            for payload_only in (False, True):
                changed = structs.replace(record, version=seen + 1, payload=b"lost")
                outcome = face.ask(Save(changed, seen, payload_only))
                assert outcome is Outcome.CONFLICT, f"save with another version answered {outcome}"
        assert_record(face, record)

    @case
    def test_save_never_revives(self, face: Face) -> None:
        ended, never = new_record(), new_record()
        face.ask(Create(ended))
        face.ask(Delete(ended.id))
        for record in (ended, never):
            for payload_only in (False, True):
                outcome = face.ask(Save(following(record), 1, payload_only))
                assert outcome is Outcome.GONE, f"save of a record that is not there answered {outcome}"
                assert face.ask(Load(record.id)) is None, "save revived a record"
        assert face.ask(ListUser("alice")) == [], "save listed a record that is not there"

    @case
    def test_save_never_reopens_closed(self, face: Face) -> None:
        record = a_closed(face)
        version = face.ask(Load(record.id)).version
        for seen in (record.version, version):
            for payload_only in (False, True):
                changed = structs.replace(record, version=seen + 1)
                outcome = face.ask(Save(changed, seen, payload_only))
                assert outcome is Outcome.GONE, f"save of a closed record answered {outcome}"
        assert face.ask(Load(record.id)).closed is True, "save reopened a closed record"

    @case
    def test_payload_only_save_keeps_touched_times(self, face: Face) -> None:
        record = new_record()
        face.ask(Create(record))
        face.ask(Touch(record.id, NOW + 60, NOW + 7260))
        face.ask(Save(following(record, payload=b"new"), 1, payload_only=True))
        wanted = following(record, payload=b"new", last_activity=NOW + 60, expires_at=NOW + 7260)
        assert_record(face, wanted)

    @case
    def test_touch_raises_times_only(self, face: Face) -> None:
        record = new_record()
        face.ask(Create(record))
        assert face.ask(Touch(record.id, NOW + 60, NOW + 7260)) is True, "touch did not answer True"
        assert_record(face, structs.replace(record, last_activity=NOW + 60, expires_at=NOW + 7260))

    @case
    def test_touch_never_lowers(self, face: Face) -> None:
        record = new_record()
        face.ask(Create(record))
        assert face.ask(Touch(record.id, NOW - 1, NOW + 9000)) is True, "touch did not answer True"
        assert face.ask(Touch(record.id, NOW + 50, NOW)) is True, "touch did not answer True"
        found = face.ask(Load(record.id))
        times = (found.last_activity, found.expires_at)
        assert times == (NOW + 50, NOW + 9000), "touch lowered a time"

    @case
    def test_touch_never_revives(self, face: Face) -> None:
        record = new_record()
        assert face.ask(Touch(record.id, NOW, NOW + 9000)) is False, "touch of nothing did not answer False"
        assert face.ask(Load(record.id)) is None, "touch made a record"

    @case
    def test_touch_leaves_closed_alone(self, face: Face) -> None:
        record = a_closed(face)
        before = face.ask(Load(record.id))
        assert face.ask(Touch(record.id, NOW + 1, NOW + 9000)) is False, "touch of a closed record is not False"
        assert face.ask(Load(record.id)) == before, "touch changed a closed record"
