"""Managers: where a session lives. ``CookieManager`` seals it into the cookie, ``StoreManager`` keeps a record.

A manager decides and never acts: ``open`` and ``commit`` are pure. Where a store has to be asked they return a flow
for a runner, else the answer itself.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from typing import Any, Protocol, TypeAlias, TypeVar

import msgspec

from ..config import SessionConfig
from ..core.operations import AsyncStore, Flow, Store
from ..core.record import Record
from ..core.state import State

__all__ = ["CLEAR", "LEAVE", "Action", "Live", "Manager", "Opened", "Random", "Verdict", "note_change"]

Live: TypeAlias = dict[str, dict[str, Any]]
"""Every storage whose items are in memory, by name."""

Random: TypeAlias = Callable[[int], bytes]
"""So many bytes from a cryptographic source."""

T = TypeVar("T")


class Opened(msgspec.Struct, frozen=True, gc=False):
    """What came of a client's claim: a record to build on, or the reason why not ("" for no claim at all)."""

    record: Record | None = None
    reason: str = ""
    pointer: bool = False  # reached through a pointer
    stale: bool = False  # the token of a closed record
    due: bool = True  # activity may have to be written, so ``commit`` is called though nothing changes


class Action(enum.Enum):
    """What happens to the client's cookie."""

    LEAVE = "leave"
    SET = "set"
    CLEAR = "clear"


class Verdict(msgspec.Struct, frozen=True, gc=False):
    """How a commit ended for the client. ``max_age``: seconds, for a persistent cookie."""

    action: Action
    value: str = ""
    max_age: int | None = None

    def __repr__(self) -> str:
        return f"<Verdict {self.action.value}>"


LEAVE = Verdict(Action.LEAVE)
CLEAR = Verdict(Action.CLEAR)


class Manager(Protocol):
    """Where sessions live. ``store`` is ``None`` for a client-kept one."""

    @property
    def store(self) -> Store | AsyncStore | None: ...

    @property
    def consults(self) -> Store | AsyncStore | None:
        """What its flows are run against: the store, a list of what has ended, or nothing."""
        ...

    def configure(self, config: SessionConfig) -> None:
        """Take the settings over; called once, before anything else."""
        ...

    def open(self, values: list[str], now: int) -> Opened | Flow[Opened]:
        """Judge the *values* the client sent under our cookie name. Never raises for what a client sends."""
        ...

    # A manager that serves ``legacy=`` has a method more:
    # def take_over(self, record: Record, token: Token, now: int, random: Random) -> Opened | Flow[Opened]
    #     *record*, made of another library's cookie; ``Opened(reason=…)`` where it cannot be, or has ended.

    def commit(self, state: State, live: Live, now: int, random: Random, early: bool = False) -> Any:
        """Carry out what a request wishes: a ``Verdict``, or a flow that ends in one.

        *early*: before the response starts, where no cookie can be decided yet.
        Raises ``SessionSerializationError`` and ``SessionTooLargeError`` for values that cannot be kept,
        ``StoreError`` when the store fails, ``StoreConflictError`` when the session keeps changing.
        """
        ...

    def recheck(self, seen: Record, now: int, *, active: bool) -> Record | Flow[Record | None] | None:
        """What has become of *seen*, the record of an open socket at the last look; ``None``: its session has ended.

        *active*: frames were received since, which counts as activity.
        """
        ...


def note_change(state: State, record: Record | None, old: Record | None, now: int) -> None:
    """The event for *record* having taken the place of *old*; either may be missing. Before ``state.rebase``."""
    if record is None:
        if old is not None and not state.wish.destroyed:
            state.note("destroy", now, "empty", handle=old.id, user=old.user_id)
        return
    name = "create" if old is None or state.wish.wiped else "save" if record.id == old.id else "rotate"
    state.note(name, now, handle=record.id, user=record.user_id)
