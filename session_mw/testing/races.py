"""The kit: what must hold when calls overlap."""

# ruff: noqa: S101  (asserting is what this module is for)
from __future__ import annotations

from ..core.operations import (
    Create,
    Delete,
    DeleteUser,
    Flow,
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
    assert_listed,
    assert_record,
    following,
    new_record,
    once,
    turn,
)

__all__ = ["RaceCases"]

WORKERS = 6
ROUNDS = 5


class RaceCases(Faces):
    """Every compare-and-swap is one step, whoever else is calling."""

    @case
    def test_concurrent_saves_lose_nothing(self, face: Face) -> None:
        record = new_record(payload=b"0")
        face.ask(Create(record))

        def count_up(payload_only: bool) -> Flow[None]:
            done = 0
            while done < ROUNDS:
                seen: Record = yield Load(record.id)
                changed = following(seen, payload=b"%d" % (int(seen.payload) + 1))
                outcome = yield Save(changed, seen.version, payload_only)
                done += outcome is Outcome.SAVED

        face.together(count_up(bool(worker % 2)) for worker in range(WORKERS))
        found = face.ask(Load(record.id))
        assert found.payload == b"%d" % (WORKERS * ROUNDS), f"{WORKERS * ROUNDS} increments made {found.payload!r}"
        assert found.version == 1 + WORKERS * ROUNDS, "a save was answered that did not happen"

    @case
    def test_concurrent_creates_have_one_winner(self, face: Face) -> None:
        for _ in range(ROUNDS):
            rivals = [new_record("r" * 24, payload=b"%d" % worker) for worker in range(WORKERS)]
            won = face.together(once(Create(rival)) for rival in rivals)
            assert won.count(True) == 1, f"{won.count(True)} creates of one id won"
            assert_record(face, rivals[won.index(True)])
            face.ask(Delete("r" * 24))

    @case
    def test_concurrent_rotations_have_one_winner(self, face: Face) -> None:
        for _ in range(ROUNDS):
            old = new_record()
            face.ask(Create(old))
            rivals = [new_record() for _ in range(WORKERS)]
            won = face.together(turn(face, rival, old.id, 1, until=NOW + 60) for rival in rivals)
            winners = [rival.id for rival, outcome in zip(rivals, won, strict=True) if outcome is Outcome.SAVED]
            assert len(winners) == 1, f"{len(winners)} rotations of one record won"
            left = [rival.id for rival in rivals if face.ask(Load(rival.id)) is not None]
            assert left == winners, "a rotation that lost left its record"
            assert_listed(face, winners, "a rotation that lost left its record listed")
            face.ask(Delete(winners[0]))

    @case(needs=("index",))
    def test_delete_user_meets_every_rotation(self, face: Face) -> None:
        """Whichever of the two comes first, no session of the user is left."""

        def rotate_on(record: Record) -> Flow[None]:
            for _ in range(ROUNDS):
                new = new_record()
                outcome = yield from turn(face, new, record.id, 1, until=NOW + 60)
                if outcome is not Outcome.SAVED:
                    assert outcome is Outcome.GONE, f"rotate answered {outcome}"
                    return
                record = new

        def delete_all(record: Record, after: int) -> Flow[None]:
            for _ in range(after):
                yield Load(record.id)
            yield DeleteUser("alice")

        for later in range(ROUNDS):
            records = [new_record() for _ in range(WORKERS)]
            for record in records:
                face.ask(Create(record))
            face.together([delete_all(records[0], later), *(rotate_on(record) for record in records)])
            assert face.ask(ListUser("alice")) == [], "a rotation outlived delete_user"

    @case
    def test_delete_beats_concurrent_saves(self, face: Face) -> None:
        def save_on(record: Record) -> Flow[None]:
            for _ in range(ROUNDS):
                changed = following(record)
                outcome = yield Save(changed, record.version)
                if outcome is Outcome.SAVED:
                    record = changed
                yield Touch(record.id, NOW + 1, NOW + 9000)

        def delete_one(record: Record, after: int) -> Flow[None]:
            for _ in range(after):
                yield Load(record.id)
            yield Delete(record.id)

        for later in range(ROUNDS):
            record = new_record()
            face.ask(Create(record))
            face.together([save_on(record), delete_one(record, later), save_on(record)])
            assert face.ask(Load(record.id)) is None, "a save brought a deleted record back"
            assert_listed(face, [], "a save listed a deleted record")
