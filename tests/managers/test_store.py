"""StoreManager, stepped by hand: which operations it asks for, in which order, and what it makes of the answers."""

from __future__ import annotations

from types import GeneratorType
from typing import Any

import msgspec
import pytest
from harness import KEY, Random, opened, token

from session_mw.config import SessionConfig
from session_mw.core.login import Login
from session_mw.core.operations import Close, Create, Delete, DeleteUser, Load, Outcome, Rotate, Save, Touch
from session_mw.core.payload import join, split
from session_mw.core.record import Record, pointer
from session_mw.core.state import STARTED, State
from session_mw.core.tokens import digest
from session_mw.errors import StoreConflictError, StoreError
from session_mw.managers import CLEAR, LEAVE, Action, Opened
from session_mw.managers.store import TRIES, StoreManager, _sealed, _unsealed

NOW = 1_700_000_000
TOKEN, OTHER = token("mine"), token("other")
LOGIN = Login(1, "login token")
CLOSED = Outcome.DELETED


class Rotating:
    can_rotate = True


class TwoSteps:
    can_rotate = False


def manager(store: Any = Rotating, **settings: Any) -> StoreManager:
    made = StoreManager(store())
    made.configure(SessionConfig(store="memory:", **settings))
    return made


def record(data: bytes = b'{"a":1}', *, of: Any = TOKEN, version: int = 1, **fields: Any) -> Record:
    kept = Record(
        of.id, digest(of.secret), None, NOW, NOW, NOW + 7200, NOW + 604800, None, None, None, version, join(data, b"")
    )
    return msgspec.structs.replace(kept, **fields)


def closed(successor: str | None = None, until: int = NOW + 60, of: Any = TOKEN) -> Record:
    return record(of=of, closed=True, successor=successor, expires_at=until, absolute_expires_at=until, payload=b"")


def finish(flow: Any, answer: Any) -> Any:
    with pytest.raises(StopIteration) as stop:
        flow.send(answer)
    return stop.value.value


def data_of(kept: Record) -> bytes:
    return split(kept.payload)[0]


# -- opening -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ([], ""),
        (["garbage"], "malformed"),
        ([TOKEN.id], "malformed"),
        ([TOKEN.text + "\n"], "malformed"),
        ([TOKEN.text, OTHER.text], "doubled"),
    ],
)
def test_what_needs_no_asking(values: list[str], reason: str) -> None:
    assert manager().open(values, NOW) == Opened(reason=reason)


@pytest.mark.parametrize(
    ("answer", "verdict"),
    [
        (record(), Opened(record(), due=False)),
        (None, Opened(reason="unknown")),
        (record(digest=digest(OTHER.secret)), Opened(reason="forged")),
        (record(digest=b""), Opened(reason="forged")),
        (record(expires_at=NOW), Opened(reason="expired")),
        (record(absolute_expires_at=NOW), Opened(reason="expired")),
        (closed(), Opened(reason="stale_token", stale=True)),
        (closed(until=NOW), Opened(reason="expired")),
        (closed(pointer(record(of=OTHER), NOW)), Opened(reason="stale_token", stale=True)),
    ],
)
def test_one_load_decides(answer: Any, verdict: Opened) -> None:
    flow = manager().open([TOKEN.text], NOW)
    assert isinstance(flow, GeneratorType)
    assert next(flow) == Load(TOKEN.id)  # type: ignore[arg-type]
    assert finish(flow, answer) == verdict


@pytest.mark.parametrize(("later", "due"), [(59, False), (60, True)])
def test_opening_tells_whether_activity_is_due(later: int, due: bool) -> None:
    flow: Any = manager().open([TOKEN.text], NOW + later)
    next(flow)
    assert finish(flow, record()).due is due


def test_pointers_are_followed_but_not_for_ever() -> None:
    flow: Any = manager().open([TOKEN.text], NOW)
    next(flow)
    assert flow.send(closed(pointer(record(of=OTHER), NOW + 1))) == Load(OTHER.id)
    assert finish(flow, record(of=OTHER)) == Opened(record(of=OTHER), pointer=True, due=False)

    for answer in (None, record(of=OTHER, expires_at=NOW)):
        flow = manager().open([TOKEN.text], NOW)
        next(flow)
        flow.send(closed(pointer(record(of=OTHER), NOW + 1)))
        assert finish(flow, answer) == Opened(reason="stale_token", stale=True)

    flow = manager().open([TOKEN.text], NOW)
    operation, hops = next(flow), 0
    with pytest.raises(StopIteration) as stop:  # noqa: PT012
        while operation:
            operation, hops = flow.send(closed(pointer(record(), NOW + 1))), hops + 1
    assert (stop.value.value.stale, hops < 10) == (True, True)


@pytest.mark.parametrize(
    ("answers", "verdict"),
    [
        ((record(), None), Opened(record(), due=False)),
        ((None, record(of=OTHER)), Opened(record(of=OTHER), due=False)),
        ((record(), record(of=OTHER)), Opened(reason="doubled")),
        ((None, None), Opened(reason="unknown")),
        ((closed(), None), Opened(reason="stale_token", stale=True)),
    ],
)
def test_a_doubled_plain_name_opens_only_if_exactly_one_is_good(answers: Any, verdict: Opened) -> None:
    plain = manager(cookie_name="session")
    flow: Any = plain.open([TOKEN.text, "junk", OTHER.text], NOW)
    assert next(flow) == Load(TOKEN.id)
    assert flow.send(answers[0]) == Load(OTHER.id)
    assert finish(flow, answers[1]) == verdict
    assert plain.open([TOKEN.text] * 4, NOW) == Opened(reason="doubled")


def test_recheck() -> None:
    made = manager()
    for answer in (None, closed(), record(expires_at=NOW), record(digest=digest(OTHER.secret))):
        flow: Any = made.recheck(record(), NOW, active=False)
        assert next(flow) == Load(TOKEN.id)
        assert finish(flow, answer) is None
    flow = made.recheck(record(), NOW, active=True)
    next(flow)
    assert finish(flow, record(version=7)) == record(version=7)
    flow = made.recheck(record(), NOW + 60, active=True)
    next(flow)
    assert flow.send(record()) == Touch(TOKEN.id, NOW + 60, NOW + 7260)
    assert finish(flow, True) == record(last_activity=NOW + 60, expires_at=NOW + 7260)


def test_recheck_goes_on_with_the_successor_and_its_token() -> None:
    made, moved = manager(), record(of=OTHER)
    flow: Any = made.recheck(record(), NOW, active=False)
    next(flow)
    assert flow.send(closed(pointer(moved, NOW + 1))) == Load(OTHER.id)
    assert finish(flow, moved) == moved
    flow = made.recheck(moved, NOW + 99, active=False)
    assert next(flow) == Load(OTHER.id)
    assert finish(flow, moved) == moved
    flow = made.recheck(record(), NOW, active=False)
    next(flow)
    flow.send(closed(pointer(moved, NOW + 1)))
    assert finish(flow, record(of=OTHER, digest=b"another token's")) is None
    flow = made.recheck(record(digest=b"a former token's"), NOW, active=False)
    next(flow)
    assert finish(flow, closed(pointer(moved, NOW + 1))) is None


# -- committing ----------------------------------------------------------------------------------------------------


def commit(state: State, data: dict[str, Any], *, made: Any = None, now: int = NOW, **options: Any) -> Any:
    return (made or manager()).commit(state, {"global": data}, now, Random(), **options)


def test_an_untouched_session_never_creates_a_flow() -> None:
    assert commit(opened(record(), NOW), {"a": 1}) is LEAVE
    assert commit(State(NOW), {}) is LEAVE


def test_create() -> None:
    state = State(NOW)
    flow = commit(state, {"a": 1})
    operation = next(flow)
    assert isinstance(operation, Create)
    made = operation.record
    assert (data_of(made), made.version, made.created_at, made.expires_at) == (b'{"a":1}', 1, NOW, NOW + 7200)
    verdict = finish(flow, True)
    assert verdict.action is Action.SET
    assert verdict.value.startswith(made.id + ".")
    assert digest(verdict.value.partition(".")[2]) == made.digest
    assert verdict.value not in repr(verdict)


@pytest.mark.parametrize("answer", [False, None, "yes", object()])
def test_only_a_literal_true_counts_as_created(answer: Any) -> None:
    flow = commit(State(NOW), {"a": 1})
    next(flow)
    with pytest.raises(StoreError, match="taken"):
        flow.send(answer)


def test_save_and_touch() -> None:
    state = opened(record(), NOW)
    flow = commit(state, {"a": 2})
    operation = next(flow)
    assert isinstance(operation, Save)
    assert (operation.expected_version, operation.payload_only, operation.record.version) == (1, True, 2)
    assert operation.record.expires_at == NOW + 7200
    assert finish(flow, Outcome.SAVED) is LEAVE

    flow = commit(opened(record(), NOW), {"a": 2}, now=NOW + 60)
    operation = next(flow)
    assert (operation.payload_only, operation.record.expires_at) == (False, NOW + 7260)

    state = opened(record(), NOW)
    flow = commit(state, {"a": 1}, now=NOW + 60)
    assert next(flow) == Touch(TOKEN.id, NOW + 60, NOW + 7260)
    assert finish(flow, True) is LEAVE
    assert commit(state, {"a": 1}, now=NOW + 60) is LEAVE  # once a request


def test_a_conflict_reloads_reapplies_and_tries_again() -> None:
    flow = commit(opened(record(b'{"a":1,"b":1}'), NOW), data := {"a": 2})
    assert next(flow).expected_version == 1
    assert flow.send(Outcome.CONFLICT) == Load(TOKEN.id)
    again = flow.send(record(b'{"a":5,"b":6,"c":7}', version=4))
    assert (again.expected_version, again.record.version) == (4, 5)
    assert data_of(again.record) == b'{"a":2,"c":7}'
    assert finish(flow, Outcome.SAVED) is LEAVE
    assert data == {"a": 2, "c": 7}


def test_after_64_conflicts_it_gives_up() -> None:
    flow = commit(opened(record(), NOW), {"a": 2})
    saves = 0
    operation = next(flow)
    with pytest.raises(StoreConflictError, match="64 attempts") as given_up:  # noqa: PT012
        while operation:
            saves += isinstance(operation, Save)
            operation = flow.send(Outcome.CONFLICT if isinstance(operation, Save) else record(version=saves))
    assert saves == given_up.value.tries == TRIES == 64

    state = opened(record(), NOW)
    state.wishing().rotating, state.token = True, OTHER
    flow, rotations = commit(state, {"a": 2}), 0
    operation = next(flow)
    with pytest.raises(StoreConflictError):  # noqa: PT012
        while operation:
            rotations += isinstance(operation, Rotate)
            operation = flow.send(Outcome.CONFLICT if isinstance(operation, Rotate) else record(version=rotations))
    assert rotations == TRIES


@pytest.mark.parametrize("reloaded", [None, closed(), record(expires_at=NOW)])
def test_gone_drops_the_changes_and_leaves_the_cookie(reloaded: Any) -> None:
    state = opened(record(), NOW)
    flow = commit(state, {"a": 2})
    next(flow)
    assert flow.send(Outcome.GONE) == Load(TOKEN.id)
    assert finish(flow, reloaded) is LEAVE
    assert [(event.name, event.reason) for event in state.events] == [("dropped", "gone")]
    assert commit(state, {"a": 3}) is LEAVE
    assert len(state.events) == 1  # said once


def test_gone_through_a_pointer_goes_to_the_successor() -> None:
    flow = commit(opened(record(), NOW), {"a": 2})
    next(flow)
    flow.send(Outcome.GONE)
    assert flow.send(closed(pointer(record(of=OTHER), NOW + 9))) == Load(OTHER.id)
    again = flow.send(record(b'{"a":1,"new":1}', of=OTHER, version=3))
    assert (again.record.id, again.expected_version, data_of(again.record)) == (OTHER.id, 3, b'{"a":2,"new":1}')
    assert finish(flow, Outcome.SAVED) is LEAVE


def test_only_a_login_begins_anew_when_its_session_is_gone() -> None:
    state = opened(record(b'{"old":1}'), NOW)
    wish = state.wishing()
    wish.rotating, wish.logged_in, state.token, wish.owner = True, LOGIN, OTHER, "ann"
    live = {"old": 1, "mine": 2}
    flow = commit(state, live)
    assert isinstance(next(flow), Rotate)
    assert flow.send(Outcome.GONE) == Load(TOKEN.id)
    created = flow.send(None)
    assert isinstance(created, Create)
    assert (data_of(created.record), created.record.user_id) == (b'{"mine":2}', "ann")  # what this request wrote
    assert finish(flow, True).action is Action.SET
    assert live == {"mine": 2}


def rotating(end_others: str | None = None, **wishes: Any) -> State:
    state = opened(record(), NOW)
    state.token, state.end_others = OTHER, end_others
    wish = state.wishing()
    wish.rotating = True
    for name, value in wishes.items():
        setattr(wish, name, value)
    return state


def test_rotation_in_one_step() -> None:
    flow = commit(rotating(grace=30), {"a": 1})
    operation = next(flow)
    assert isinstance(operation, Rotate)
    assert (operation.old_id, operation.expected_version, operation.until) == (TOKEN.id, 1, NOW + 30 + 60)
    assert operation.successor == pointer(record(of=OTHER), NOW + 30)
    assert (operation.record.id, operation.record.version) == (OTHER.id, 1)
    assert finish(flow, Outcome.SAVED).value == OTHER.text
    long = next(commit(rotating(grace=300), {"a": 1}))
    assert (long.until, long.successor) == (NOW + 300 + 60, pointer(record(of=OTHER), NOW + 300))
    ended = pointer(record(of=OTHER), NOW)  # nobody may follow it; only an ending finds its session by it
    assert next(commit(rotating(), {"a": 1})).successor == ended
    assert next(commit(rotating(logged_in=LOGIN), {"a": 1})).successor is None


def test_rotation_in_two_steps_creates_first_and_takes_back_what_was_not_needed() -> None:
    two = manager(TwoSteps)
    flow = commit(rotating(), {"a": 1}, made=two)
    created = next(flow)
    assert isinstance(created, Create)
    assert flow.send(True) == Close(TOKEN.id, 1, NOW + 60, pointer(record(of=OTHER), NOW))
    assert finish(flow, CLOSED).value == OTHER.text

    flow = commit(rotating(), {"a": 1}, made=two)
    next(flow)
    flow.send(True)
    assert flow.send(Outcome.CONFLICT) == Delete(OTHER.id)  # compensate before anything else
    assert flow.send(CLOSED) == Load(TOKEN.id)
    again = flow.send(record(b'{"a":1,"b":2}', version=2))
    assert isinstance(again, Create)
    assert data_of(again.record) == b'{"a":1,"b":2}'
    assert flow.send(True) == Close(TOKEN.id, 2, NOW + 60, pointer(record(of=OTHER), NOW))
    assert finish(flow, CLOSED).value == OTHER.text

    flow = commit(rotating(), {"a": 1}, made=two)
    next(flow)
    with pytest.raises(StoreError, match="taken"):
        flow.send(False)


def test_no_token_leaves_before_the_end_of_its_predecessor_was_acknowledged() -> None:
    state = rotating()
    flow = commit(state, {"a": 1}, made=manager(TwoSteps))
    next(flow)
    flow.send(True)
    assert flow.throw(StoreError("lost")) == Delete(OTHER.id)
    with pytest.raises(StoreError, match="lost"):
        flow.send(CLOSED)
    assert not state.unsent


def test_a_concurrent_save_does_not_undo_a_rotation() -> None:
    flow = commit(rotating(), {"a": 2})
    next(flow)
    assert flow.send(Outcome.CONFLICT) == Load(TOKEN.id)
    again = flow.send(record(b'{"a":1,"b":2}', version=2))
    assert isinstance(again, Rotate)
    assert (again.expected_version, data_of(again.record)) == (2, b'{"a":2,"b":2}')
    assert finish(flow, Outcome.SAVED).value == OTHER.text


def test_destroy_closes_whatever_version_is_there() -> None:
    state = opened(record(), NOW)
    state.wipe()
    state.wishing().destroyed = True
    flow = commit(state, {})
    assert next(flow) == Close(TOKEN.id, 1, NOW + 60)
    assert flow.send(Outcome.CONFLICT) == Load(TOKEN.id)
    assert flow.send(record(version=9)) == Close(TOKEN.id, 9, NOW + 60)
    assert finish(flow, CLOSED) is CLEAR

    state = opened(record(), NOW)
    state.wipe()
    state.wishing().destroyed, state.phase = True, STARTED
    flow = commit(state, {})
    next(flow)
    assert finish(flow, CLOSED) is LEAVE  # too late for a cookie


def test_emptied_is_deleted_with_the_version_seen() -> None:
    flow = commit(opened(record(), NOW), {})
    assert next(flow) == Delete(TOKEN.id, 1)
    assert flow.send(Outcome.CONFLICT) == Load(TOKEN.id)
    kept = flow.send(record(b'{"a":1,"b":2}', version=2))
    assert data_of(kept.record) == b'{"b":2}'  # somebody needs it
    assert finish(flow, Outcome.SAVED) is LEAVE
    flow = commit(opened(record(), NOW), {})
    next(flow)
    assert finish(flow, Outcome.DELETED) is CLEAR


def test_others_end_after_the_rotation() -> None:
    flow = commit(rotating(owner="ann", end_others="ann"), {"a": 1})
    assert isinstance(next(flow), Rotate)
    assert flow.send(Outcome.SAVED) == DeleteUser("ann", OTHER.id)
    assert finish(flow, 3).value == OTHER.text


def test_others_end_though_the_session_that_asked_is_gone() -> None:
    for early in (False, True):
        state = opened(record(user_id="ann"), NOW)
        state.end_others = "ann"
        flow = commit(state, {"a": 2}, early=early)
        assert isinstance(next(flow), Save)
        assert flow.send(Outcome.GONE) == Load(TOKEN.id)
        if early:  # when a response starts, and no sooner
            assert finish(flow, None) is LEAVE
            flow = commit(state, {"a": 2})
            next_one = next(flow)
        else:
            next_one = flow.send(None)
        assert next_one == DeleteUser("ann", None)
        assert finish(flow, 3) is LEAVE
        assert state.stale
        assert state.end_others is None


def test_who_logs_in_ends_the_others_and_logs_out_again_has_done_so() -> None:
    state = State(NOW, stale=True)
    state.end_others = "ann"
    flow = commit(state, {"a": 1})
    assert next(flow) == DeleteUser("ann", None)
    assert finish(flow, 3) is LEAVE


def test_early_commits_hold_back_what_needs_a_cookie() -> None:
    state = rotating()
    flow = commit(state, {"a": 2}, early=True)
    assert isinstance(next(flow), Save)
    assert finish(flow, Outcome.SAVED) is LEAVE
    assert state.wish.rotating
    assert isinstance(next(commit(state, {"a": 2})), Rotate)
    assert commit(rotating(logged_in=LOGIN), {"a": 2}, early=True) is LEAVE


# -- at rest -------------------------------------------------------------------------------------------------------


def sealing(key: str = KEY) -> StoreManager:
    return manager(secret_key=key, encryption=True)


def test_payloads_are_sealed_at_rest_and_bound_to_their_record() -> None:
    flow = commit(State(NOW), {"secret": "plain"}, made=sealing())
    kept = next(flow).record
    assert b"plain" not in kept.payload
    carrier = finish(flow, True).value

    def reopened(made: StoreManager, answer: Record) -> Any:
        opening: Any = made.open([carrier], NOW)
        next(opening)
        return finish(opening, answer)

    assert data_of(reopened(sealing(), kept).record) == b'{"secret":"plain"}'
    assert reopened(sealing("another key, as long as it has to be"), kept) == Opened(reason="corrupt")
    secret = carrier.partition(".")[2]
    for field, other in (
        ("id", TOKEN.id),
        ("user_id", "admin"),
        ("digest", digest(TOKEN.secret)),
        ("created_at", NOW - 1),
        ("absolute_expires_at", kept.absolute_expires_at + 1),
        ("version", 2),
    ):
        carrier = f"{kept.id}.{TOKEN.secret if field == 'digest' else secret}"
        assert reopened(sealing(), msgspec.structs.replace(kept, **{field: other})) == Opened(reason="corrupt")
    carrier = f"{kept.id}.{secret}"
    touched = msgspec.structs.replace(kept, last_activity=NOW + 1, expires_at=NOW + 9)
    assert data_of(reopened(sealing(), touched).record) == b'{"secret":"plain"}'
    assert reopened(sealing(), record(payload=b"1{}\n", digest=kept.digest)) == Opened(reason="corrupt")


def test_a_pointer_is_tied_to_the_record_it_lies_in() -> None:
    made = sealing()
    flow = commit(rotating(grace=30), {"a": 1}, made=made)
    rotation = next(flow)

    def reached(by: Record, made: StoreManager = made) -> bool:
        opening: Any = made.open([TOKEN.text], NOW)
        next(opening)
        try:
            opening.send(by)
            opening.send(rotation.record)
        except StopIteration as stop:
            return stop.value.record is not None
        raise AssertionError("it asks on")

    assert reached(closed(rotation.successor))
    assert not reached(closed(rotation.successor), sealing("another key, as long as it has to be"))
    plain = pointer(rotation.record, NOW + 30)
    assert rotation.successor.startswith(f"{plain}:")
    later = rotation.successor.replace(f":{NOW + 30}:", f":{NOW + 999}:")
    for forged in (plain, f"{plain}:", f"{plain}:rubbish", later):
        assert not reached(closed(forged))
    mine = closed(rotation.successor, of=OTHER)
    assert not reached(msgspec.structs.replace(mine, digest=digest(TOKEN.secret)))


def test_a_newer_record_is_unsealed_for_the_merge() -> None:
    made = sealing()
    flow = commit(State(NOW), {"a": 1}, made=made)
    kept = next(flow).record
    finish(flow, True)
    sealer = made._payload_sealer
    assert sealer is not None
    plain = _unsealed(kept, sealer)
    assert plain is not None
    flow = commit(opened(plain, NOW), {"a": 1, "b": 2}, made=made)
    next(flow)
    flow.send(Outcome.CONFLICT)
    newer = msgspec.structs.replace(plain, version=7, payload=join(b'{"c":3}', b""))
    again = flow.send(_sealed(newer, sealer, Random("n")))
    kept = _unsealed(again.record, sealer)
    assert kept is not None
    assert kept.payload == join(b'{"c":3,"b":2}', b"")
