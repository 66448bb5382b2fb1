"""The kit: whose a record is. Listing and deleting by user."""

# ruff: noqa: S101  (asserting is what this module is for)
from __future__ import annotations

from ..core.operations import (
    Create,
    DeleteUser,
    ListUser,
    Load,
    Save,
    Touch,
)
from ..errors import StoreError
from .face import Face, Faces, case
from .samples import (
    NOW,
    assert_record,
    following,
    listed,
    new_id,
    new_record,
)

__all__ = ["UserCases"]

USERS_ALIKE = (
    "alice", "Alice", "ALICE", "alice ", " alice", "alice\0", "alice\n", "al\0ice", "alíce", "ali\u0301ce",
    "ａlice", "al_ce", "al%", "al*", "al?ce", "[a]lice", "'alice'", '"alice"', "alice\\", "{alice}", "alice}",
    "alice:1", "alice/1", "../alice", "alice\t", "alice\r", "\N{SOFT HYPHEN}alice", "alice\N{ZERO WIDTH JOINER}",
    "straße", "strasse", "STRASSE", "ı", "i", "İ", "I", "Å", "\N{ANGSTROM SIGN}", "æ", "ae", "ﬁ", "fi",
    "1", "01", "1.0", "1e0", "true", "None", "\N{PILE OF POO}", "\N{GRINNING FACE}" * 255,
    "x" * 254, "x" * 255, "x" * 254 + "y", "é" * 255, " ", "%", "*", "-", "\0",
)  # fmt: skip
"""Users that one database or another takes for the same, cuts, or reads as a pattern."""


class UserCases(Faces):
    """Users are compared byte by byte; anonymous records are nobody's."""

    @case(needs=("index",))
    def test_listing_is_newest_first(self, face: Face) -> None:
        records = [new_record(created_at=NOW + age) for age in (3, 1, 4, 0, 2, 3)]
        for record in records:
            face.ask(Create(record))
        face.ask(Create(new_record(user_id="bob")))
        face.ask(Touch(records[3].id, NOW + 50, NOW + 9000))
        changed = following(records[1], payload=b"new")
        face.ask(Save(changed, 1))
        found = face.ask(ListUser("alice"))
        assert [record.created_at for record in found] == [NOW + age for age in (4, 3, 3, 2, 1, 0)], "wrong order"
        assert found[4] == changed, "the listing shows an old state"
        assert face.ask(ListUser("nobody")) == [], "an unknown user has records"

    @case(needs=("index",))
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

    @case(needs=("index",))
    def test_anonymous_is_not_listed(self, face: Face) -> None:
        record = new_record(user_id=None)
        face.ask(Create(record))
        for user in ("None", "null", "NULL", "0"):
            assert face.ask(ListUser(user)) == [], "an anonymous record is listed"
            assert face.ask(DeleteUser(user)) == 0, "an anonymous record was deleted as somebody's"
        assert_record(face, record)

    @case(needs=("index",))
    def test_users_compare_byte_by_byte(self, face: Face) -> None:
        records = {user: new_record(user_id=user) for user in USERS_ALIKE}
        for record in records.values():
            face.ask(Create(record))
        for user, record in records.items():
            found = face.ask(ListUser(user))
            assert found == [record], f"{user!r} lists {[one.user_id for one in found]!r}"
        for user in records:
            count = face.ask(DeleteUser(user))
            assert count == 1, f"deleting {user!r} took {count} records"
            assert face.ask(ListUser(user)) == [], f"deleting {user!r} took another user's record"

    @case(needs=("index",))
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

    @case(needs=("index",))
    def test_delete_user_spares_one(self, face: Face) -> None:
        records = [new_record() for _ in range(4)]
        for record in records:
            face.ask(Create(record))
        count = face.ask(DeleteUser("alice", except_id=records[2].id))
        assert count == 3, f"delete_user answered {count} for 3 records"
        assert face.ask(ListUser("alice")) == [records[2]], "delete_user did not spare exactly the one"
        last = face.ask(DeleteUser("alice", except_id=new_id()))
        assert last == 1, f"sparing a stranger, delete_user answered {last} for 1 record"

    @case(needs=("no index",))
    def test_listing_without_an_index_is_refused(self, face: Face) -> None:
        """No answer may look like "this user has no sessions" or "they are all ended"."""
        record = new_record()
        face.ask(Create(record))
        for operation in (ListUser("alice"), DeleteUser("alice"), DeleteUser("alice", record.id), ListUser("nobody")):
            try:
                answer = face.ask(operation)
            except StoreError:
                continue
            raise AssertionError(f"a store that cannot list answered {type(operation).__name__} with {answer!r}")
        assert_record(face, record)
