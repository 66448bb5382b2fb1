"""The kit: what is expired goes when it is due, in bounded batches, and nothing else goes.

Time is judged by purge alone: a store does not look at ``expires_at`` otherwise. Where a backend expires by a clock of
its own, what remains of this is that ``purge`` takes nothing that is alive.
"""

# ruff: noqa: S101  (asserting is what this module is for)
from __future__ import annotations

from ..core.operations import (
    Create,
    Delete,
    Flow,
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
    assert_listed,
    assert_record,
    following,
    new_record,
)

__all__ = ["PurgeCases"]

DUE = NOW - 100
YEAR_2200 = 7_258_118_400
MANY = 130  # more than a batch of most stores


class PurgeCases(Faces):
    """Purging is bounded, goes on where it stopped, and counts what it took."""

    @case(needs=("purge",))
    def test_time_is_judged_by_purge_alone(self, face: Face) -> None:
        record = new_record(created_at=1, last_activity=1, expires_at=2, absolute_expires_at=3)
        assert face.ask(Create(record)) is True, "an expired record was refused"
        assert_record(face, record)
        changed = following(record, payload=b"new")
        assert face.ask(Save(changed, 1)) is Outcome.SAVED, "an expired record was not saved"
        assert face.ask(Touch(record.id, 1, 2)) is True, "an expired record was not touched"
        assert face.ask(Delete(record.id)) is Outcome.DELETED, "an expired record was not deleted"

    @case(needs=("purge",))
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
        assert_listed(face, kept, "a purged record is listed")
        assert face.ask(Purge(NOW, 100)) == 0, "a second purge found something"

    @case(needs=("purge",))
    def test_purge_keeps_to_its_limit(self, face: Face) -> None:
        records = [new_record(expires_at=NOW - 10 + index) for index in range(7)]
        for record in records:
            face.ask(Create(record))
        left = 7
        for limit, wanted in ((0, 0), (3, 3), (3, 3), (3, 1), (3, 0)):
            count = face.ask(Purge(NOW, limit))
            left -= wanted
            assert count == wanted, f"purge with a limit of {limit} answered {count}, not {wanted}"
            there = sum(face.ask(Load(record.id)) is not None for record in records)
            assert there == left, "purge took another number than it said"

    @case(needs=("purge",))
    def test_purge_takes_closed(self, face: Face) -> None:
        record = a_closed(face, until=NOW + 60)
        assert face.ask(Purge(NOW + 59, 10)) == 0, "purge took a closed record before its time"
        assert face.ask(Load(record.id)) is not None, "purge took a closed record before its time"
        assert face.ask(Purge(NOW + 60, 10)) == 1, "purge did not count a closed record"
        assert face.ask(Load(record.id)) is None, "purge left a closed record"

    @case(needs=("purge",))
    def test_purge_goes_on_where_it_stopped(self, face: Face) -> None:
        alive = new_record()
        face.ask(Create(alive))
        for index in range(MANY):
            face.ask(Create(new_record(expires_at=DUE - index, user_id=f"user {index}")))
        taken = 0
        while taken < MANY:
            count = face.ask(Purge(NOW, 100))
            assert 0 < count <= 100, f"purge with a limit of 100 answered {count} with {MANY - taken} records due"
            taken += count
        assert taken == MANY, f"purges took {taken} of {MANY} records"
        assert face.ask(Purge(NOW, 100)) == 0, "purge took something that was not due"
        assert_record(face, alive)

    @case(needs=("purge",))
    def test_one_purge_may_take_many(self, face: Face) -> None:
        for _ in range(MANY):
            face.ask(Create(new_record(expires_at=DUE)))
        count = face.ask(Purge(NOW, 1000))
        assert count == MANY, f"purge with a limit of 1000 answered {count} for {MANY} records"
        assert_listed(face, [], "a purged record is listed")

    @case(needs=("purge",))
    def test_concurrent_purges_count_each_record_once(self, face: Face) -> None:
        for index in range(60):
            face.ask(Create(new_record(expires_at=DUE - index, user_id=None)))

        def sweep() -> Flow[int]:
            taken = 0
            while True:
                count = yield Purge(NOW, 7)
                if not count:
                    return taken
                taken += count

        counted = sum(face.together([sweep(), sweep(), sweep()])) + face.ask(Purge(NOW, 100))
        assert counted == 60, f"concurrent purges counted {counted} records where there were 60"

    @case(needs=("purge",))
    def test_a_purged_id_is_free(self, face: Face) -> None:
        record = new_record(expires_at=DUE)
        face.ask(Create(record))
        face.ask(Purge(NOW, 10))
        again = new_record(record.id, user_id="bob")
        assert face.ask(Create(again)) is True, "the id of a purged record is taken"
        assert_record(face, again)
        assert_listed(face, [record.id], "a new record under a purged id is not listed", "bob")
        assert_listed(face, [], "a new record under a purged id is listed for the user before")

    @case(needs=("purge",))
    def test_purge_knows_times_beyond_32_bits(self, face: Face) -> None:
        moments = (2**31 + 5, 2**32 + 5, 2**32 + 60, YEAR_2200)
        far = [new_record(expires_at=at, absolute_expires_at=at) for at in moments]
        for record in far:
            face.ask(Create(record))
        for moment, left in ((2**31 - 9, 4), (2**31 + 9, 3), (2**32 - 9, 3), (2**32 + 9, 2), (YEAR_2200 + 9, 0)):
            face.ask(Purge(moment, 10))
            kept = [record.expires_at for record in far if face.ask(Load(record.id)) is not None]
            assert len(kept) == left, f"a purge at {moment} left those that expire at {kept}"

    @case(needs=("no purge",))
    def test_purge_leaves_expiry_to_the_backend(self, face: Face) -> None:
        live, closed = new_record(), a_closed(face, until=NOW + 60)
        face.ask(Create(live))
        for moment in (1, NOW - 1):
            count = face.ask(Purge(moment, 10))
            assert count == 0, f"purge answered {count} where nothing was due"
        assert_record(face, live)
        assert face.ask(Load(closed.id)).closed is True, "purge took a closed record before its time"
