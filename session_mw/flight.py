"""Flight: a commit that waits for its store, while the request that asked for it goes on.

Its flow keeps the state it was given, and the session is put to sleep. If nobody touches the session meanwhile, all
is as if nobody had waited. Who does touch it gets a state of its own, and when the flow has landed, that state learns
what is kept now: what was written and wished in between is left for the next commit.

One at a time: who commits meanwhile waits until the one before has landed.
"""

from __future__ import annotations

import copy
from collections.abc import Awaitable, Mapping
from typing import Any, TypeAlias, TypeVar

from .core.changes import Replay
from .core.state import State
from .core.wishes import EMPTY, NOTHING, UNSET, Wishes
from .shield import event

__all__ = ["Flight"]

T = TypeVar("T")
Replays: TypeAlias = Mapping[str, Mapping[str, Replay]]

_SETTLED = (
    *("base", "opened_id", "pointer", "stale", "unsent", "emptied", "dropped", "due"),
    *("original", "rest", "meta", "loaded", "merged", "encoded", "encoded_writes", "kept_writes"),
)
"""What a commit decides about, and a request that goes on does not."""


class Flight:
    """One commit of *session*, begun on the state it has."""

    __slots__ = ("_before", "_copied", "_flown", "_landed", "_session", "_was_awake", "begun")

    def __init__(self, session: Any) -> None:
        self._session: Any = session
        self._flown: State = session._state
        self._before: State | None = None  # as it was when somebody touched the session
        self._landed: Any = None
        self.begun = False  # an app may drop the awaitable that it got
        self._was_awake = session.__class__ is session._awake
        self._flown.flight = self
        session.__class__ = session._dormant

    async def fly(self, work: Awaitable[T]) -> T:
        """Wait for *work*, and land, whatever comes of it."""
        self.begun = True
        try:
            return await work
        finally:
            self._land()

    async def landed(self) -> None:
        """Wait until this commit is no longer under way; one that nobody waits for is none."""
        if not self.begun:
            self._land()
        elif self._session is not None:
            if self._landed is None:
                self._landed = event()
            await self._landed.wait()

    def branch(self, state: State) -> State:
        """The state for a session that is touched in the meantime; *state* is the one it has."""
        flown = self._flown
        if state is not flown:
            return state
        self._before = copy.copy(flown)
        state = copy.copy(flown)
        if flown.wish is not NOTHING:
            state.wish = copy.copy(flown.wish)
        self._copied = state.wish
        return state

    def _land(self) -> None:
        session, flown = self._session, self._flown
        if session is None:
            return
        state: State = session._state
        if self._was_awake:
            session.__class__ = session._awake
        if self._before is not None and state is not flown:
            self._settle(state, self._before)
        state.flight = flown.flight = self._session = None
        if state.merged:
            state.catch_up({state.storage: session, **state.others})
        if self._landed is not None:
            self._landed.set()

    def _settle(self, state: State, before: State) -> None:
        """*state*, which went on by itself, learns what is kept now."""
        flown = self._flown
        for name in _SETTLED:
            setattr(state, name, getattr(flown, name))
        state.events = (*state.events, *flown.events[len(before.events) :])
        if state.token is before.token:
            state.token = flown.token
        if state.end_others == before.end_others:
            state.end_others = flown.end_others
        since, carried_out = state.wish, flown.wish is not before.wish
        wiped = since.wiped and since is not self._copied
        if carried_out and not wiped:
            since = _since(before.wish, since)
            if flown.wish is not NOTHING:  # all but the rotation, which waits for the response
                since.rotating, since.grace = True, since.grace or flown.wish.grace
            state.wish = NOTHING if _is_nothing(since) else since
        state.merged = {} if wiped else {name: both for name, both in state.merged.items() if name not in since.cleared}
        if since.rotating and state.token is not None and state.token.id == state.handle:
            state.token = None  # that one is in use by now


def _since(before: Wishes, now: Wishes) -> Wishes:
    """What *now* wishes beyond *before*."""
    since = Wishes()
    since.cleared = now.cleared - before.cleared
    since.replays = _replays_since(before.replays, now.replays)
    since.logins = _newer(before.logins, now.logins)
    since.ended = _newer(before.ended, now.ended)
    attempts = _newer(before.attempts, now.attempts)
    since.attempts = {name: _attempts_since(before.attempts.get(name), count) for name, count in attempts.items()}
    since.attempts = since.attempts or EMPTY
    since.logged_in = None if now.logged_in is before.logged_in else now.logged_in
    since.owner = UNSET if now.owner == before.owner else now.owner
    since.released = now.released and (bool(since.logins) or not before.released)
    since.rotating = now.rotating and (bool(since.logins) or not before.rotating)
    since.grace = now.grace if since.rotating else 0
    since.lifetime = UNSET if now.lifetime == before.lifetime else now.lifetime
    since.persistent = None if now.persistent == before.persistent else now.persistent
    return since


def _is_nothing(wish: Wishes) -> bool:
    return all(getattr(wish, name) == getattr(NOTHING, name) for name in Wishes.__struct_fields__)


def _newer(before: Mapping[str, T], now: Mapping[str, T]) -> Mapping[str, T]:
    """The entries of *now* that *before* has not."""
    newer = {name: value for name, value in now.items() if name not in before or before[name] is not value}
    return newer or EMPTY


def _attempts_since(before: tuple[bool, int] | None, now: tuple[bool, int]) -> tuple[bool, int]:
    was_reset, counted = before or (False, 0)
    return (False, now[1] - counted) if now[0] == was_reset and now[1] >= counted else now


def _replays_since(before: Replays, now: Replays) -> Replays:
    since = {}
    for storage, replays in _newer(before, now).items():
        old = before.get(storage, EMPTY)
        since[storage] = {key: replay.since(old.get(key)) for key, replay in _newer(old, replays).items()}
    return since or EMPTY
