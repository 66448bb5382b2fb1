"""The kit: what create, load, save and touch must do."""

# ruff: noqa: S101  (asserting is what this module is for)
from __future__ import annotations

from msgspec import structs

from ..core.operations import (
    Close,
    Create,
    Delete,
    Load,
    Operation,
    Outcome,
    Save,
    Touch,
)
from ..core.record import Record
from ..errors import StoreError
from .face import Face, Faces, case
from .samples import (
    NOW,
    a_closed,
    assert_listed,
    assert_payload,
    assert_record,
    following,
    new_id,
    new_record,
)

__all__ = ["RecordCases"]

YEAR_2200 = 7_258_118_400
PAYLOADS = (
    b"", b"\0", b"\n", b"\r", b" ", b"a ", b"a\r\nb\n", b"\0a\0", b"0", b"007", b"1e3", b"true", b"null", b"NULL",
    b"'; --", b"\\", b"\\x00", b"\\000", b"%s %(a)s :a ? $1 {}", b"\xff\xfe", b"\xef\xbb\xbf{}", b"\xed\xa0\x80",
    b"\x1f\x8b\x08", b"\x80\x04.", b"END\r\n", b"$-1\r\n", bytes(range(256)), bytes(range(255, -1, -1)) * 17,
    b"m" * 70_000,
)  # fmt: skip
"""Payloads that one backend, driver or protocol or another takes for text, a number, a template or its own marks."""
LARGEST = 4 * 2**20
IDS = (
    "-" * 24, "_" * 24, "-_" * 12, "a" * 24, "A" * 24, "aA" * 12, "Aa" * 12, "0" * 24, "0" * 23 + "1", "1" + "0" * 23,
    "1e" + "0" * 21 + "1", "1e23" + "0" * 20, "0x" + "f" * 22, "--help------------------", "-rf_____________________",
    "x" * 23 + "-", "x" * 23 + "_", "x" * 23 + "X", "x" * 24, "con" + "-" * 21, "null" + "_" * 20, "NaN" + "0" * 21,
    "-" + "1" * 23, "_" + "1" * 23, "user" + "-" * 20, "index" + "_" * 19,
)  # fmt: skip
"""Ids as the grammar allows them: each is taken by one backend or another for a number, an option, a pattern."""


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
    def test_large_payload_comes_back_as_it_was(self, face: Face) -> None:
        size = LARGEST if self.payload_limit is None else self.payload_limit
        payload = (bytes(range(256)) + b"\0\r\n") * (size // 259 + 1)
        record = new_record(payload=payload[:size])
        assert face.ask(Create(record)) is True, "create did not answer True for a new id"
        assert_payload(face, record.id, record.payload)
        changed = following(record, payload=record.payload[::-1])
        outcome = face.ask(Save(changed, 1, payload_only=True))
        assert outcome is Outcome.SAVED, f"save answered {outcome}"
        assert_payload(face, record.id, changed.payload)

    @case(needs=("limit",))
    def test_payload_over_the_limit_is_refused(self, face: Face) -> None:
        too_large = bytes((self.payload_limit or 0) + 1)
        record, never = new_record(), new_record(payload=too_large)
        face.ask(Create(record))
        for payload_only in (False, True):
            _assert_refused(face, Save(following(record, payload=too_large), 1, payload_only))
        _assert_refused(face, Create(never))
        assert_record(face, record)
        assert face.ask(Load(never.id)) is None, "a refused create left a record"
        assert_listed(face, [record.id], "a refused create left its user behind")

    @case
    def test_ids_compare_byte_by_byte(self, face: Face) -> None:
        records = [new_record(id, user_id=None, payload=id.encode()) for id in IDS]  # noqa: A001
        for record in records:
            assert face.ask(Load(record.id)) is None, f"{record.id} is there before it was created"
            assert face.ask(Delete(record.id)) is Outcome.GONE, f"{record.id} is there before it was created"
            assert face.ask(Create(record)) is True, f"{record.id} is taken for another id"
        for record in records:
            assert_record(face, record)
        for record in records:
            outcome = face.ask(Delete(record.id))
            assert outcome is Outcome.DELETED, f"{record.id} was taken by the delete of another id: {outcome}"

    @case
    def test_large_versions_compare_exactly(self, face: Face) -> None:
        for version in (2**31, 2**32, 2**53 + 1):
            record = new_record(version=version)
            face.ask(Create(record))
            for seen in (version - 1, version + 1, version - 2**32, version % 2**32):
                if seen != version and seen > 0:
                    outcome = face.ask(Save(structs.replace(record, version=seen + 1), seen))
                    assert outcome is Outcome.CONFLICT, f"version {seen} was taken for {version}"
            changed = following(record, payload=b"new")
            outcome = face.ask(Save(changed, version, payload_only=True))
            assert outcome is Outcome.SAVED, f"save answered {outcome} at version {version}"
            assert_record(face, changed)
            outcome = face.ask(Close(record.id, version + 1, until=NOW + 60))
            assert outcome is Outcome.DELETED, f"close answered {outcome} at version {version + 1}"

    @case
    def test_times_beyond_32_bits(self, face: Face) -> None:
        for moment in (2**31 - 1, 2**31, 2**32 - 1, 2**32, YEAR_2200):
            record = new_record()
            face.ask(Create(record))
            face.ask(Touch(record.id, moment, moment + 1))
            found = face.ask(Load(record.id))
            times = (found.last_activity, found.expires_at)
            assert times == (moment, moment + 1), f"touched to {moment}, a record has {times}"
            changed = following(found, created_at=moment, absolute_expires_at=moment + 2, lifetime=moment)
            face.ask(Save(changed, found.version))
            found = face.ask(Load(record.id))
            kept = (found.created_at, found.absolute_expires_at, found.lifetime)
            assert kept == (moment, moment + 2, moment), f"saved with {moment}, a record has {kept}"
            face.ask(Close(record.id, found.version, until=moment))
            found = face.ask(Load(record.id))
            assert found.expires_at == moment, f"closed until {moment}, a record expires at {found.expires_at}"

    @case
    def test_create_never_overwrites(self, face: Face) -> None:
        first = new_record()
        face.ask(Create(first))
        second = new_record(first.id, user_id="mallory", payload=b"other")
        assert face.ask(Create(second)) is False, "create did not answer False for a taken id"
        assert_record(face, first)
        assert_listed(face, [], "a refused create left its user behind", "mallory")

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
        assert_listed(face, [], "save listed a record that is not there")

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

    @case
    def test_initialize_and_teardown_may_be_repeated(self, face: Face) -> None:
        record = new_record()
        face.ask(Create(record))
        face.call("initialize")
        assert_record(face, record)
        face.call("teardown")
        face.call("teardown")


def _assert_refused(face: Face, operation: Operation) -> None:
    try:
        answer = face.ask(operation)
    except StoreError:
        return
    raise AssertionError(f"{type(operation).__name__} of a payload over the limit answered {answer!r}")
