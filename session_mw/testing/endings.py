"""The kit: what delete, close and rotate must do."""

# ruff: noqa: S101  (asserting is what this module is for)
from __future__ import annotations

from ..core.operations import (
    Close,
    Create,
    Delete,
    DeleteUser,
    ListUser,
    Load,
    Outcome,
)
from .face import Face, Faces, case
from .samples import (
    NOW,
    a_closed,
    assert_closed,
    assert_listed,
    assert_record,
    new_id,
    new_record,
    turn,
)

__all__ = ["EndingCases"]


class EndingCases(Faces):
    """What ended stays ended; a closed record answers load alone."""

    @case
    def test_delete_removes(self, face: Face) -> None:
        for expected in (None, 1):
            record, other = new_record(), new_record()
            face.ask(Create(record))
            face.ask(Create(other))
            outcome = face.ask(Delete(record.id, expected))
            assert outcome is Outcome.DELETED, f"delete answered {outcome}"
            assert face.ask(Load(record.id)) is None, "a deleted record still loads"
            assert_listed(face, [other.id], "a deleted record is still listed")
            again = face.ask(Delete(record.id, expected))
            assert again is Outcome.GONE, f"a second delete answered {again}"
            assert_record(face, other)
            face.ask(Delete(other.id))

    @case
    def test_delete_of_another_version_conflicts(self, face: Face) -> None:
        record = new_record(version=5)
        face.ask(Create(record))
        for seen in (4, 6):
            outcome = face.ask(Delete(record.id, seen))
            assert outcome is Outcome.CONFLICT, f"delete with another version answered {outcome}"
        assert_record(face, record)

    @case
    def test_delete_takes_closed_only_without_version(self, face: Face) -> None:
        record = a_closed(face)
        version = face.ask(Load(record.id)).version
        for seen in (record.version, version):
            outcome = face.ask(Delete(record.id, seen))
            assert outcome is Outcome.GONE, f"delete of a closed record answered {outcome}"
        assert face.ask(Load(record.id)) is not None, "a delete with a version took a closed record"
        outcome = face.ask(Delete(record.id))
        assert outcome is Outcome.GONE, f"delete of a closed record answered {outcome}"
        assert face.ask(Load(record.id)) is None, "a delete without a version left a closed record"

    @case
    def test_close_keeps_id_and_digest_only(self, face: Face) -> None:
        record = new_record(login_ip="192.0.2.1", login_user_agent="agent", lifetime=5)
        face.ask(Create(record))
        outcome = face.ask(Close(record.id, 1, until=NOW + 60))
        assert outcome is Outcome.DELETED, f"close answered {outcome}"
        assert_closed(face, record, NOW + 60, None)

    @case
    def test_close_points_to_its_successor(self, face: Face) -> None:
        record, successor = new_record(), new_id()
        face.ask(Create(record))
        face.ask(Close(record.id, 1, until=NOW + 30, successor=successor))
        assert_closed(face, record, NOW + 30, successor)

    @case
    def test_close_of_another_version_conflicts(self, face: Face) -> None:
        record = new_record(version=5)
        face.ask(Create(record))
        for seen in (4, 6):
            outcome = face.ask(Close(record.id, seen, until=NOW + 60))
            assert outcome is Outcome.CONFLICT, f"close with another version answered {outcome}"
        assert_record(face, record)

    @case
    def test_close_of_gone_changes_nothing(self, face: Face) -> None:
        never = new_id()
        assert face.ask(Close(never, 1, until=NOW + 60)) is Outcome.GONE, "close of nothing is not GONE"
        assert face.ask(Load(never)) is None, "close made a record"
        record = a_closed(face, until=NOW + 60)
        for seen in (1, face.ask(Load(record.id)).version):
            outcome = face.ask(Close(record.id, seen, until=NOW + 999, successor=new_id()))
            assert outcome is Outcome.GONE, f"a second close answered {outcome}"
        assert_closed(face, record, NOW + 60, None)

    @case(needs=("index",))
    def test_closed_is_neither_listed_nor_counted(self, face: Face) -> None:
        a_closed(face)
        live = new_record()
        face.ask(Create(live))
        assert face.ask(ListUser("alice")) == [live], "a closed record is listed"
        count = face.ask(DeleteUser("alice"))
        assert count == 1, f"delete_user counted {count} records where one is live"

    @case
    def test_rotate_creates_and_closes(self, face: Face) -> None:
        for successor in (None, new_id()):
            old, new = new_record(), new_record(version=2)
            face.ask(Create(old))
            outcome = face.play(turn(face, new, old.id, 1, until=NOW + 60, successor=successor))
            assert outcome is Outcome.SAVED, f"rotate answered {outcome}"
            assert_record(face, new)
            assert_closed(face, old, NOW + 60, successor)
            assert_listed(face, [new.id], "rotate lists the new record and not the old one")
            face.ask(Delete(new.id))

    @case
    def test_rotate_of_another_version_conflicts(self, face: Face) -> None:
        old, new = new_record(version=5), new_record()
        face.ask(Create(old))
        for seen in (4, 6):
            outcome = face.play(turn(face, new, old.id, seen, until=NOW + 60))
            assert outcome is Outcome.CONFLICT, f"rotate with another version answered {outcome}"
        assert face.ask(Load(new.id)) is None, "a refused rotate left the new record"
        assert_listed(face, [old.id], "a refused rotate changed the listing")
        assert_record(face, old)

    @case
    def test_rotate_of_gone_creates_nothing(self, face: Face) -> None:
        closed = a_closed(face)
        for old_id, seen in ((new_id(), 1), (closed.id, 1), (closed.id, face.ask(Load(closed.id)).version)):
            new = new_record()
            outcome = face.play(turn(face, new, old_id, seen, until=NOW + 60))
            assert outcome is Outcome.GONE, f"rotate of a record that is not there answered {outcome}"
            assert face.ask(Load(new.id)) is None, "rotate of a record that is not there made an orphan"
        assert_listed(face, [], "rotate of a record that is not there listed an orphan")

    @case
    def test_rotate_never_overwrites(self, face: Face) -> None:
        old, taken, closed = new_record(), new_record(user_id="bob"), a_closed(face)
        face.ask(Create(old))
        face.ask(Create(taken))
        for id in (taken.id, closed.id):  # noqa: A001
            outcome = face.play(turn(face, new_record(id), old.id, 1, until=NOW + 60))
            assert outcome is Outcome.CONFLICT, f"rotate to a taken id answered {outcome}"
        assert_record(face, taken)
        assert_record(face, old)
        assert face.ask(Load(closed.id)).closed is True, "rotate replaced a closed record"
