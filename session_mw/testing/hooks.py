"""What a store's test tells the kit: hooks to override, and declarations of what the store does not do.

Decided here: which cases are left out for want of a hook, or by a declaration. They are ``None`` in the class, so no
runner collects them and none passes unseen: ``left_out()`` names each with its reason.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ..core.operations import AnyStore

__all__ = ["COSTS", "NEEDS", "Hooks"]

COSTS: Mapping[str, int] = {"load": 1, "save": 1, "touch": 1, "list_user": 2}
"""Commands that a call may cost, unless a store's test says otherwise."""


class Hooks:
    """One method must be given; everything else may be."""

    can_list = True
    """Whether the store finds records by their user. One that does not raises StoreError when asked to."""
    expires_itself = False
    """Whether the backend removes what is due, by a clock of its own; then ``purge`` has nothing to do."""
    purge_skips_locked = False
    """Whether ``purge`` passes over a record that somebody is changing just then, and leaves it to the next one."""
    payload_limit: int | None = None
    """The largest payload, in bytes, that the store takes, where that is less than 4 MiB; more is a StoreError."""
    costs: Mapping[str, int] = COSTS
    """Commands that ``load``, ``save``, ``touch`` and ``list_user`` may cost at most."""
    patience = 0.1
    """Seconds after which a call that was to overtake another is taken to be waiting for it."""

    def make_store(self, tmp_path: Path) -> AnyStore:
        """A new, empty store; *tmp_path* is a directory of its own. Called once for each face of each case."""
        raise TypeError("a StoreContract needs a method make_store(self, tmp_path)")

    def open_again(self, tmp_path: Path) -> AnyStore:
        """Another store object on the data of the one that ``make_store`` made with this *tmp_path*.

        Called in this process and in forks of it. Without this hook nothing is tried between processes.
        """
        raise TypeError("open_again is not given")

    def commands_sent(self, store: Any) -> int:
        """How many commands (statements, round trips) *store* has sent so far; or give ``before_each_command``."""
        raise TypeError("commands_sent is not given")

    def before_each_command(self, store: Any, tell: Callable[[], None]) -> None:
        """See to it that *store*, on every face, calls *tell* just before each command it sends.

        By this the kit counts commands, and lets another call in between any two of them.
        """
        raise TypeError("before_each_command is not given")

    def lose_record(self, store: Any, id: str) -> None:
        """Remove the record *id* from the backend and leave everything else, such as an index, as it is.

        For stores whose index can outlive a record: one that expires or is evicted.
        """
        raise TypeError("lose_record is not given")

    @classmethod
    def cases(cls) -> list[str]:
        """The names of the cases that this class has, sorted."""
        return sorted(name for name in dir(cls) if name.startswith("test_") and callable(getattr(cls, name)))

    @classmethod
    def left_out(cls) -> dict[str, str]:
        """The cases of the kit that this class does not have, each with the reason."""
        reasons = {}
        for name, method in _all_cases(cls).items():
            if getattr(cls, name) is None:
                reasons[name] = _lacking(cls, method) or "taken out"
        return dict(sorted(reasons.items()))

    def __init_subclass__(cls, **options: Any) -> None:
        """Leave out what *cls* cannot be asked, and take back what a class it derives from could not."""
        super().__init_subclass__(**options)
        for name, method in _all_cases(cls).items():
            if name in vars(cls):
                continue
            here, lacks = getattr(cls, name), _lacking(cls, method)
            if here is method and lacks:
                setattr(cls, name, None)
            elif here is None and not lacks and _was_left_out(cls, name, method):
                setattr(cls, name, method)


def _given(name: str) -> Callable[[type[Hooks]], bool]:
    return lambda cls: getattr(cls, name) is not getattr(Hooks, name)


_counts, _pauses = _given("commands_sent"), _given("before_each_command")

NEEDS: dict[str, tuple[Callable[[type[Hooks]], bool], str]] = {
    "index": (lambda cls: cls.can_list, "can_list is False"),
    "no index": (lambda cls: not cls.can_list, "can_list is True"),
    "purge": (lambda cls: not cls.expires_itself, "expires_itself is True"),
    "no purge": (lambda cls: cls.expires_itself, "expires_itself is False"),
    "limit": (lambda cls: cls.payload_limit is not None, "payload_limit is None"),
    "open_again": (_given("open_again"), "open_again is not given"),
    "fork": (lambda cls: hasattr(os, "fork"), "this system does not fork"),
    "count": (
        lambda cls: _counts(cls) or _pauses(cls),
        "neither commands_sent nor before_each_command is given",
    ),
    "pause": (_pauses, "before_each_command is not given"),
    "lose_record": (_given("lose_record"), "lose_record is not given"),
}
"""What a case may need: whether a class has it, and what to say where not."""


def _lacking(cls: type[Hooks], method: Any) -> str:
    """Why *method* is no case of *cls*; nothing when it is one."""
    return "; ".join(reason for has, reason in (NEEDS[need] for need in method.needs) if not has(cls))


def _all_cases(cls: type[Hooks]) -> dict[str, Any]:
    """Every case of the kit that *cls* derives from, as it was written."""
    found: dict[str, Any] = {}
    for part in cls.__mro__:
        for name, method in vars(part).items():
            if hasattr(method, "needs"):
                found.setdefault(name, method)
    return found


def _was_left_out(cls: type[Hooks], name: str, method: Any) -> bool:
    """Whether it is for a lack that *name* is missing in a class *cls* derives from, and by nobody's wish."""
    part = next(part for part in cls.__mro__ if name in vars(part))
    return bool(_lacking(part, method))
