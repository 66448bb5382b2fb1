"""What a request changed, and re-applying it to a newer record: the merge rules.

    a key            set or deleted per storage and top-level key; nested values as a whole
    update_with      calls in order, re-run on the newer value; a later plain set discards them
    clear(storage)   wins over keys added meanwhile; later sets of this request stay
    login state      one unit per storage; the later login wins; a logout beats a concurrent non-login
    attempts         added (a reset sets 0 first)
    ip changes       union, capped

Nothing here is looked at while nobody else wrote: only a conflict pays for it.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any, Final, Self

import msgspec

from . import codec
from .login import MAX_IP_CHANGES, Login

__all__ = [
    "ABSENT",
    "Replay",
    "StorageChange",
    "alike",
    "diff",
    "merge_attempts",
    "merge_login",
    "merge_logins",
    "rerun",
    "same",
]

ABSENT: Final = object()
"""Stands for a value that is not there, where ``None`` is a value."""

UpdateFunction = Callable[[Any], Any]


class Replay:
    """The ``update_with`` calls on one key, in order. ``start`` is the value they began from if this request had
    already set or deleted it, else ``None`` (whatever is stored); ``result`` encodes what the last one returned, or
    the value set where there were none."""

    __slots__ = ("calls", "result", "start")

    def __init__(
        self, start: tuple[Any] | None, calls: tuple[tuple[UpdateFunction, Any], ...] = (), result: bytes = b""
    ) -> None:
        self.start = start  # (value,) or (ABSENT,)
        self.calls = calls
        self.result = result

    @classmethod
    def assignment(cls, key: str, value: Any) -> Self:
        """A plain assignment that holds even where it changed nothing. Raises what ``codec.check_item`` does."""
        codec.check_item(key, value)
        return cls((value,), (), codec.encode_value(value, ""))

    def call(self, key: str, function: UpdateFunction, value: Any, default: Any) -> tuple[Any, Self]:
        """Call *function* on *value*: what came of it, and the calls with this one. Raises what ``rerun`` and
        ``codec.check_item`` do."""
        result = rerun(function, value, default)
        codec.check_item(key, result)
        calls = (*self.calls, (function, default))
        return result, type(self)(self.start, calls, codec.encode_value(result, ""))

    def since(self, before: Self | None) -> Self:
        """The calls made after those of *before* were carried out."""
        if before is None or before.start is not self.start or self.calls[: len(before.calls)] != before.calls:
            return self
        return type(self)(None, self.calls[len(before.calls) :], self.result)


def rerun(function: UpdateFunction, value: Any, default: Any) -> Any:
    """One ``update_with`` call on a copy of *value*, or of *default* when it is absent. Raises ``ValueError`` for
    a function that returns ``None``: it most likely changed its argument and forgot to return it."""
    result = function(copy.deepcopy(default if value is ABSENT else value))
    if result is None:
        raise ValueError("update_with: the function returned None; return the new value")
    return result


class StorageChange(msgspec.Struct, frozen=True):
    """What one request did to one storage."""

    cleared: bool
    sets: dict[str, Any]
    deletes: frozenset[str]
    replays: Mapping[str, Replay]

    def onto(self, newer: Mapping[str, Any]) -> dict[str, Any]:
        """The storage as it is when this change is made to *newer*."""
        data = {} if self.cleared else dict(newer)
        for key in self.deletes:
            data.pop(key, None)
        data.update(self.sets)
        for key, replay in self.replays.items():
            value = data.get(key, ABSENT) if replay.start is None else replay.start[0]
            for function, default in replay.calls:
                value = rerun(function, value, default)
            data[key] = value
        return data


def diff(
    original: Mapping[str, Any], live: Mapping[str, Any], *, cleared: bool, replays: Mapping[str, Replay]
) -> StorageChange:
    """What turned *original* into *live*, by comparing the encodings of top-level keys."""
    if cleared:
        original = {}
    replayed = {
        key: replay
        for key, replay in replays.items()
        if key in live and codec.encode_value(live[key], "") == replay.result  # else changed since: a plain set
    }
    sets = {
        key: value
        for key, value in live.items()
        if key not in replayed and (key not in original or not same(original[key], value))
    }
    return StorageChange(cleared, sets, frozenset(original.keys() - live.keys()), replayed)


def same(a: Any, b: Any) -> bool:
    """Whether two values have equal encodings."""
    return codec.encode_value(a, "") == codec.encode_value(b, "")


def alike(a: Any, b: Any) -> bool:
    """``same``, where either may be ``ABSENT``."""
    return a is b or (ABSENT not in (a, b) and same(a, b))


def merge_login(seen: Login | None, mine: Login | None, theirs: Login | None) -> Login | None:
    """The login state after *mine* meets *theirs*; both began from *seen*."""
    if theirs is not None and (seen is None or theirs.token != seen.token):  # they logged in meanwhile
        return theirs if mine is None or theirs.at > mine.at else mine
    if mine is None:
        return None
    if seen is None or mine.token != seen.token:  # I logged in
        return mine
    if theirs is None:  # I only noted an address, they logged out
        return None
    changes = {(change.address, change.at): change for change in (*theirs.ip_changes, *mine.ip_changes)}
    history = tuple(sorted(changes.values(), key=lambda change: change.at)[-MAX_IP_CHANGES:])
    return msgspec.structs.replace(mine, ip_changes=history)


def merge_logins(
    seen: Mapping[str, Login], mine: Mapping[str, Login | None], theirs: Mapping[str, Login]
) -> dict[str, Login]:
    """``merge_login`` for every storage that *mine* names; the others stay *theirs*."""
    merged = {**theirs}
    for storage, login in mine.items():
        result = merge_login(seen.get(storage), login, merged.pop(storage, None))
        if result is not None:
            merged[storage] = result
    return merged


def merge_attempts(reset: bool, added: int, theirs: int) -> int:
    """The attempt count after this request's (*reset*, then *added*) meets *theirs*."""
    return added + (0 if reset else theirs)
