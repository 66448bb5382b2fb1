"""The kit: the index by which a user's records are found always shows what is there, and nothing else."""

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
    Purge,
    Save,
)
from .face import Face, Faces, case
from .samples import NOW, assert_listed, following, listed, new_record, turn

__all__ = ["ListingCases"]

DUE = NOW - 100
MANY = 130


class ListingCases(Faces):
    """Whatever happens to a record, the listing knows."""

    @case(needs=("index",))
    def test_listing_follows_every_ending(self, face: Face) -> None:
        stays, deleted, closed, rotated, new = (new_record() for _ in range(5))
        for record in (stays, deleted, closed, rotated):
            face.ask(Create(record))
        face.ask(Delete(deleted.id, 1))
        assert_listed(face, [rotated.id, closed.id, stays.id], "the listing did not follow a delete")
        face.ask(Close(closed.id, 1, until=NOW + 60))
        assert_listed(face, [rotated.id, stays.id], "the listing did not follow a close")
        face.play(turn(face, new, rotated.id, 1, until=NOW + 60))
        assert_listed(face, [new.id, stays.id], "the listing did not follow a rotation")
        face.ask(Delete(closed.id))
        face.ask(Delete(rotated.id))
        assert_listed(face, [new.id, stays.id], "the end of a closed record changed the listing")

    @case(needs=("index", "purge"))
    def test_listing_follows_expiry(self, face: Face) -> None:
        stays, goes, moved = new_record(), new_record(expires_at=DUE), new_record(expires_at=DUE)
        for record in (stays, goes, moved):
            face.ask(Create(record))
        face.ask(Save(following(moved, user_id="bob"), 1))
        face.ask(Purge(NOW, 10))
        assert_listed(face, [stays.id], "the listing did not follow a purge")
        assert_listed(face, [], "the listing of a later owner did not follow a purge", "bob")

    @case(needs=("index",))
    def test_listing_follows_a_rotation_to_another_owner(self, face: Face) -> None:
        for before, after in (("alice", "bob"), (None, "bob"), ("alice", None)):
            old, new = new_record(user_id=before), new_record(user_id=after)
            face.ask(Create(old))
            outcome = face.play(turn(face, new, old.id, 1, until=NOW + 60))
            assert outcome is Outcome.SAVED, f"rotate answered {outcome}"
            assert_listed(face, [], f"rotated from {before!r} to {after!r}: the first lists something")
            wanted = [] if after is None else [new.id]
            assert_listed(face, wanted, f"rotated from {before!r} to {after!r}: the listing is wrong", "bob")
            face.ask(Delete(new.id))

    @case(needs=("index",))
    def test_an_id_used_again_is_listed_for_its_new_owner(self, face: Face) -> None:
        first = new_record()
        face.ask(Create(first))
        face.ask(Delete(first.id))
        second = new_record(first.id, user_id="bob")
        face.ask(Create(second))
        assert listed(face) == [], "the former owner of an id lists what another has under it"
        assert face.ask(DeleteUser("alice")) == 0, "the former owner of an id ends what another has under it"
        assert face.ask(ListUser("bob")) == [second], "a record under a used id is not listed"

    @case(needs=("index",))
    def test_listing_is_whole(self, face: Face) -> None:
        records = [new_record(created_at=NOW - index // 2) for index in range(MANY)]
        for record in records:
            face.ask(Create(record))
        for number in range(9):
            face.ask(Create(new_record(user_id=f"alice{number}")))
        found = face.ask(ListUser("alice"))
        assert len(found) == MANY, f"{len(found)} of {MANY} records are listed"
        assert {record.id for record in found} == {record.id for record in records}, "other records are listed"
        count = face.ask(DeleteUser("alice"))
        assert count == MANY, f"delete_user answered {count} for {MANY} records"
        assert listed(face) == [], "delete_user left some of many"

    @case(needs=("index", "lose_record"))
    def test_an_index_entry_without_a_record_heals(self, face: Face) -> None:
        """A record that expired or was evicted is neither listed nor counted, and its id may be used again."""
        stays, lost, again = (new_record(created_at=NOW + age) for age in (2, 1, 0))
        for record in (stays, lost, again):
            face.ask(Create(record))
        for record in (lost, again):
            self.lose_record(face.store, record.id)
            assert face.ask(Load(record.id)) is None, "lose_record lost nothing"
        other = new_record(again.id, user_id="bob")
        assert face.ask(Create(other)) is True, "the id of a record that was lost is taken"
        assert face.ask(ListUser("alice")) == [stays], "what was lost, or its id's next record, is listed"
        assert_listed(face, [other.id], "a new record under a lost id is not listed", "bob")
        self.lose_record(face.store, stays.id)
        count = face.ask(DeleteUser("alice"))
        assert count == 0, f"delete_user answered {count} where every record was lost"
        assert face.ask(ListUser("bob")) == [other], "delete_user took what another has under a lost id"
