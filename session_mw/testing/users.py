"""The kit: what listing, deleting by user and purging must do."""

# ruff: noqa: S101  (asserting is what this module is for)
from __future__ import annotations

from ..core.operations import (
    Create,
    Delete,
    DeleteUser,
    ListUser,
    Load,
    Outcome,
    Purge,
    Save,
    Touch,
)
from .face import Face, Faces, case
from .samples import (
    NOW,
    a_closed,
    assert_record,
    following,
    listed,
    new_id,
    new_record,
)

__all__ = ["UserCases"]

USERS_ALIKE = (
    "alice", "Alice", "ALICE", "alice ", " alice", "alice\0", "alice\n", "al\0ice", "alíce", "ali\u0301ce",
    "ａlice", "al_ce", "al%", "al*", "'alice'", "1", "01", "1.0", "1e0", "None", "x" * 254, "x" * 255, "é" * 255,
)  # fmt: skip


class UserCases(Faces):
    """Users are compared byte by byte; time is judged by purge alone."""

    @case
    def test_listing_is_newest_first(self, face: Face) -> None:
        records = [new_record(created_at=NOW + age) for age in (3, 1, 4, 0, 2)]
        for record in records:
            face.ask(Create(record))
        face.ask(Create(new_record(user_id="bob")))
        face.ask(Touch(records[3].id, NOW + 50, NOW + 9000))
        changed = following(records[1], payload=b"new")
        face.ask(Save(changed, 1))
        found = face.ask(ListUser("alice"))
        assert [record.created_at for record in found] == [NOW + age for age in (4, 3, 2, 1, 0)], "wrong order"
        assert found[3] == changed, "the listing shows an old state"
        assert face.ask(ListUser("nobody")) == [], "an unknown user has records"

    @case
    def test_listing_follows_the_owner(self, face: Face) -> None:
        record = new_record(user_id=None)
        face.ask(Create(record))
        for owner in ("alice", "bob", None, "carol"):
            changed = following(record, user_id=owner)
            face.ask(Save(changed, record.version))
            record = changed
            for user in ("alice", "bob", "carol"):
                wanted = [record.id] if user == owner else []
                assert listed(face, user) == wanted, f"owned by {owner!r}, the listing of {user!r} is wrong"

    @case
    def test_anonymous_is_not_listed(self, face: Face) -> None:
        record = new_record(user_id=None)
        face.ask(Create(record))
        for user in ("None", "null", "NULL", "0"):
            assert face.ask(ListUser(user)) == [], "an anonymous record is listed"
            assert face.ask(DeleteUser(user)) == 0, "an anonymous record was deleted as somebody's"
        assert_record(face, record)

    @case
    def test_users_compare_byte_by_byte(self, face: Face) -> None:
        records = {user: new_record(user_id=user) for user in USERS_ALIKE}
        for record in records.values():
            face.ask(Create(record))
        for user, record in records.items():
            found = face.ask(ListUser(user))
            assert found == [record], f"{user!r} lists {[one.user_id for one in found]!r}"
        left = set(USERS_ALIKE)
        for user in USERS_ALIKE:
            count = face.ask(DeleteUser(user))
            assert count == 1, f"deleting {user!r} took {count} records"
            left.discard(user)
            gone = [other for other in left if face.ask(Load(records[other].id)) is None]
            assert not gone, f"deleting {user!r} took those of {gone!r}"

    @case
    def test_delete_user_takes_all_of_one_user(self, face: Face) -> None:
        records = [new_record() for _ in range(5)]
        other, anonymous = new_record(user_id="bob"), new_record(user_id=None)
        for record in (*records, other, anonymous):
            face.ask(Create(record))
        count = face.ask(DeleteUser("alice"))
        assert count == 5, f"delete_user answered {count} for 5 records"
        assert all(face.ask(Load(record.id)) is None for record in records), "a record survived delete_user"
        assert face.ask(ListUser("alice")) == [], "a deleted record is listed"
        assert face.ask(DeleteUser("alice")) == 0, "a second delete_user found something"
        assert_record(face, other)
        assert_record(face, anonymous)

    @case
    def test_delete_user_spares_one(self, face: Face) -> None:
        records = [new_record() for _ in range(4)]
        for record in records:
            face.ask(Create(record))
        count = face.ask(DeleteUser("alice", except_id=records[2].id))
        assert count == 3, f"delete_user answered {count} for 3 records"
        assert face.ask(ListUser("alice")) == [records[2]], "delete_user did not spare exactly the one"
        last = face.ask(DeleteUser("alice", except_id=new_id()))
        assert last == 1, f"sparing a stranger, delete_user answered {last} for 1 record"

    @case
    def test_time_is_judged_by_purge_alone(self, face: Face) -> None:
        record = new_record(created_at=1, last_activity=1, expires_at=2, absolute_expires_at=3)
        assert face.ask(Create(record)) is True, "an expired record was refused"
        assert_record(face, record)
        changed = following(record, payload=b"new")
        assert face.ask(Save(changed, 1)) is Outcome.SAVED, "an expired record was not saved"
        assert face.ask(Touch(record.id, 1, 2)) is True, "an expired record was not touched"
        assert face.ask(Delete(record.id)) is Outcome.DELETED, "an expired record was not deleted"

    @case
    def test_purge_takes_what_is_expired(self, face: Face) -> None:
        early, due, late = (new_record(expires_at=NOW + at) for at in (-1, 0, 1))
        touched, shortened = new_record(expires_at=NOW - 5), new_record()
        for record in (early, due, late, touched, shortened):
            face.ask(Create(record))
        face.ask(Touch(touched.id, NOW, NOW + 9000))
        face.ask(Save(following(shortened, expires_at=NOW), 1))
        count = face.ask(Purge(NOW, 100))
        kept = [one.id for one in (early, due, late, touched, shortened) if face.ask(Load(one.id)) is not None]
        assert kept == [late.id, touched.id], "purge must take exactly the records with expires_at <= now"
        assert count == 3, f"purge answered {count} for 3 records"
        assert sorted(listed(face)) == sorted(kept), "a purged record is listed"
        assert face.ask(Purge(NOW, 100)) == 0, "a second purge found something"

    @case
    def test_purge_keeps_to_its_limit(self, face: Face) -> None:
        records = [new_record(expires_at=NOW - 10 + index) for index in range(7)]
        for record in records:
            face.ask(Create(record))
        left = 7
        for wanted in (3, 3, 1, 0):
            count = face.ask(Purge(NOW, 3))
            left -= wanted
            assert count == wanted, f"purge with a limit of 3 answered {count}, not {wanted}"
            assert len(face.ask(ListUser("alice"))) == left, "purge took another number than it said"

    @case
    def test_purge_takes_closed(self, face: Face) -> None:
        record = a_closed(face, until=NOW + 60)
        assert face.ask(Purge(NOW + 59, 10)) == 0, "purge took a closed record before its time"
        assert face.ask(Load(record.id)) is not None, "purge took a closed record before its time"
        assert face.ask(Purge(NOW + 60, 10)) == 1, "purge did not count a closed record"
        assert face.ask(Load(record.id)) is None, "purge left a closed record"

    @case
    def test_initialize_and_teardown_may_be_repeated(self, face: Face) -> None:
        record = new_record()
        face.ask(Create(record))
        face.call("initialize")
        assert_record(face, record)
        face.call("teardown")
        face.call("teardown")
