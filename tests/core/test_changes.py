"""The merge rules, row by row."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from session_mw.core import codec
from session_mw.core.changes import ABSENT, Replay, diff, merge_attempts, merge_login, rerun, same
from session_mw.core.login import MAX_IP_CHANGES, IpChange, Login, new_login, with_ip_change

OLD = {"same": [1], "mine": 1, "gone": 1, "both": 1}
MINE = {"same": [1], "mine": 2, "both": 2, "new": {"x": 1}}


def merged(original: Any, live: Any, newer: Any, *, cleared: bool = False, replays: Any = None) -> Any:
    return diff(original, live, cleared=cleared, replays=replays or {}).onto(newer)


@pytest.mark.parametrize(
    ("newer", "kept"),
    [
        (OLD, MINE),
        ({}, {"mine": 2, "both": 2, "new": {"x": 1}}),  # theirs deleted what I left alone
        ({**OLD, "theirs": 3}, {**MINE, "theirs": 3}),
        ({**OLD, "same": [1, 2]}, {**MINE, "same": [1, 2]}),  # nested values as a whole
        ({**OLD, "both": 9, "gone": 9}, MINE),  # the later writer wins, key by key
    ],
)
def test_keys(newer: Any, kept: Any) -> None:
    assert merged(OLD, MINE, newer) == kept


def test_equal_means_equal_encodings() -> None:
    change = diff({"a": 1, "b": (1,)}, {"a": True, "b": (1,)}, cleared=False, replays={})
    assert change.sets == {"a": True}
    assert same([1, {"a": None}], [1, {"a": None}])
    assert not same([1], (1,))


def test_clear_wins_over_keys_added_meanwhile() -> None:
    assert merged(OLD, {"later": 1}, {**OLD, "theirs": 1}, cleared=True) == {"later": 1}
    assert merged(OLD, {"same": [1]}, {"theirs": 1}, cleared=True) == {"same": [1]}


def replay(result: Any, *calls: Any, start: Any = None) -> Replay:
    made = Replay(start, calls)
    made.result = codec.encode_value(result, "")
    return made


def test_update_with_is_run_again_in_order_on_the_newer_value() -> None:
    calls = ((lambda n: n + 1, 0), (lambda n: n * 10, 0))
    assert merged({"n": 1}, {"n": 20}, {"n": 4}, replays={"n": replay(20, *calls)}) == {"n": 50}
    assert merged({}, {"n": 10}, {}, replays={"n": replay(10, *calls)}) == {"n": 10}
    assert merged({"n": 1}, {"n": 60}, {"n": 4}, replays={"n": replay(60, *calls, start=(5,))}) == {"n": 60}
    assert merged({"n": 1}, {"n": 10}, {"n": 4}, replays={"n": replay(10, *calls, start=(ABSENT,))}) == {"n": 10}


def test_a_value_changed_or_deleted_after_update_with_is_a_plain_one() -> None:
    calls = ((lambda n: [*n, 1], []),)
    assert merged({"n": []}, {"n": [1, 2]}, {"n": [9]}, replays={"n": replay([1], *calls)}) == {"n": [1, 2]}
    assert merged({"n": []}, {}, {"n": [9]}, replays={"n": replay([1], *calls)}) == {}


def test_rerun_works_on_a_copy_and_refuses_none() -> None:
    value: list[int] = []
    assert rerun(lambda old: old.append(1) or old, value, None) == [1]
    assert value == []
    assert rerun(lambda old: old, ABSENT, 7) == 7
    with pytest.raises(ValueError, match="returned None"):
        rerun(lambda old: old.append(1), value, None)


def login(at: int, token: int, **fields: Any) -> Login:
    made = new_login(at, bytes([token]) * 36, "192.0.2.1", None, bound=True)
    return msgspec.structs.replace(made, **fields)


SEEN, LATER, EARLIER, AT_ONCE = login(10, 1), login(30, 2), login(20, 3), login(30, 4)


@pytest.mark.parametrize(
    ("seen", "mine", "theirs", "kept"),
    [
        (None, LATER, EARLIER, LATER),  # the later login wins
        (None, EARLIER, LATER, LATER),
        (None, LATER, AT_ONCE, LATER),  # of two in one second, the one written last
        (SEEN, LATER, SEEN, LATER),  # mine is new
        (SEEN, LATER, None, LATER),  # a login stands on its own proof
        (SEEN, None, SEEN, None),  # a logout
        (SEEN, None, with_ip_change(SEEN, "192.0.2.2", 11), None),  # beats a concurrent non-login
        (SEEN, None, LATER, LATER),  # but not a login
        (SEEN, with_ip_change(SEEN, "192.0.2.2", 11), None, None),  # they logged out
        (None, LATER, None, LATER),
        (None, None, None, None),
    ],
)
def test_logins_are_one_unit(seen: Any, mine: Any, theirs: Any, kept: Any) -> None:
    assert merge_login(seen, mine, theirs) == kept


def test_ip_changes_are_united_and_capped() -> None:
    mine = with_ip_change(SEEN, "192.0.2.3", 13)
    theirs = with_ip_change(SEEN, "192.0.2.2", 12)
    kept = merge_login(SEEN, mine, theirs)
    assert kept is not None
    assert kept.ip_changes == (IpChange("192.0.2.2", 12), IpChange("192.0.2.3", 13))
    many = login(10, 1, ip_changes=tuple(IpChange("192.0.2.9", 100 + n) for n in range(MAX_IP_CHANGES)))
    full = merge_login(SEEN, many, theirs)
    assert full is not None
    assert full.ip_changes == many.ip_changes


@pytest.mark.parametrize(("reset", "added", "theirs", "kept"), [(False, 2, 5, 7), (True, 2, 5, 2), (True, 0, 5, 0)])
def test_attempts_add_up(reset: bool, added: int, theirs: int, kept: int) -> None:
    assert merge_attempts(reset, added, theirs) == kept
