"""Kernel: the part of a session that every other part stands on: waking, whether a write is in time, identity."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any

from ..errors import SessionClosedError
from . import tokens
from .codec import is_flat
from .layer import Layer
from .mapping import UNFILLED, LazyDict
from .payload import DEFAULT_STORAGE
from .state import OPEN, STARTED, State
from .wishes import UNSET

__all__ = ["Before", "Kernel"]


_hold, _drop, _pour = dict.setdefault, dict.clear, dict.update  # looked up once: every request makes a session
_guard = threading.Lock()  # held for the moment in which a session gets its data, or its own lock
_RLock = type(threading.RLock())  # the type itself: ``threading.RLock`` is a detour


class Before:
    """What was said about a session before it was opened, and the little that few requests have to remember."""

    home: Any = None  # kept elsewhere, for this request
    ip_callback: Any = None
    failure: Exception | None = None  # of a read before the handler; raised at first touch
    parted = False  # a login was ended, so legacy cookies go as well
    outer: Any = None  # the session of a middleware around this one's, under another name


class Kernel(LazyDict):
    """A dict that knows its request. A method that reads begins with ``_touch``, one that writes with ``_writable``."""

    __slots__ = ("__weakref__", "_before", "_layer", "_made_lock", "_source", "_started", "_state")
    _entrances = ("_touch",)

    def __init__(self, layer: Layer, source: Any) -> None:
        _hold(self, UNFILLED)  # costs half of an assignment
        self._layer = layer
        self._source = source
        self._state: State | None = None
        self._made_lock: Any = None
        self._before: Before | None = None
        self._started = False  # the response began while nobody had touched the session

    def _prepare(self) -> Before:
        before = self._before
        if before is None:
            before = self._before = Before()
        return before

    @property
    def _home(self) -> Any:
        """The manager, and the faces of its store."""
        before = self._before
        return self._layer.home if before is None or before.home is None else before.home

    @property
    def _lock(self) -> Any:
        """Held while something is written: thread-pool handlers, free-threading."""
        if self._made_lock is None:
            _guard.acquire()  # not ``with``, which costs twice as much
            try:
                if self._made_lock is None:
                    self._made_lock = _RLock()
            finally:
                _guard.release()
        return self._made_lock

    # -- waking, and whether a write is in time ----------------------------------------------------------------

    def _rouse(self) -> None:
        state = self._state
        if state is None:
            before = self._before
            if before is not None and before.failure is not None:
                raise before.failure
            self._layer.fill(self)
            state = self._state
        elif state.flight is not None:
            self._state = state = state.flight.branch(state)
        self.__class__ = self._awake
        state.accessed = True  # type: ignore[union-attr]

    def _publish(self, state: State, data: Mapping[str, Any]) -> State:
        """Hold what was opened, unless another thread was faster; the state that holds now."""
        _guard.acquire()
        try:
            if self._state is None:
                _drop(self)
                _pour(self, data)
                if is_flat(state.original):
                    state.kept_writes = 0
                if self._started:
                    state.phase = STARTED
                self._state = state  # last: whoever sees a state sees the data
        finally:
            _guard.release()
        return self._state

    def _sleep(self) -> None:
        """Forget what was read, and what was changed since; the next touch reads again."""
        self._state = None
        _drop(self)
        _hold(self, UNFILLED)
        self.__class__ = self._dormant

    def _touch(self) -> State:
        return self._state  # type: ignore[return-value]  # never None: its dormant twin wakes first

    def _writable(self) -> None:
        state: State = self._state  # type: ignore[assignment]  # as in ``_touch``
        if state.shut:
            raise SessionClosedError("the session was destroyed in this request; call start() to begin a new one")
        if state.phase != OPEN:
            state.check_not_over()
            self._layer.check_late_write(self)
        state.writes += 1
        if state.committed:
            state.committed = False

    def _changing(self, what: str) -> State:
        """For what needs a cookie: only while headers can still be sent."""
        state = self._touch()
        if state.phase != OPEN:
            raise SessionClosedError(f"{what} needs a new cookie, but the response has started; call it earlier")
        state.committed = False
        return state

    def _replaced(self, key: str, value: Any = None, *, plain: bool = False) -> None:
        state: State = self._state  # type: ignore[assignment]  # ``_writable`` was called
        if key == self._layer.owner_key and state.storage == DEFAULT_STORAGE:
            self._names(value)
        if plain:
            state.plain_writes += 1
        if state.wish.replays:
            state.drop_replay(state.storage, key)

    def _names(self, value: Any) -> None:
        """The login key of ``owner_key`` is about to hold *value*."""
        raise NotImplementedError

    def __repr__(self) -> str:
        state = self._state
        if state is None:
            return "<Session not loaded>"
        handle = state.token.id if state.token else state.base.id if state.base else None
        return f"<Session {handle[:6]}…>" if handle else "<Session new>"

    # -- what happened -----------------------------------------------------------------------------------------

    @property
    def accessed(self) -> bool:
        """Whether anybody looked at the session in this request."""
        return self._state is not None and self._state.accessed

    @property
    def modified(self) -> bool:
        """Whether the session now differs from what was loaded; nested changes count, what is queued does not yet."""
        return self._state is not None and self._touch().changed(self._live())

    @property
    def is_new(self) -> bool:
        """Whether this request came without a session that opened."""
        return self._touch().opened_id is None

    @property
    def manager(self) -> Any:
        """Where this session lives."""
        return self._home.manager

    @property
    def cookie_name(self) -> str:
        """The name of the cookie that carries it."""
        return self._layer.cookie_name

    # -- identity ----------------------------------------------------------------------------------------------

    @property
    def session_id(self) -> str | None:
        """The public handle, safe to show; ``None`` for a new session until its first write or login, then final."""
        state = self._touch()
        if state.token is None:
            if state.base is not None and not state.wish.destroyed:
                return state.base.id
            wish = state.wish
            if state.stale or not (any(self._live().values()) or wish.attempts or wish.lifetime is not UNSET):
                return None
            state.token = self._mint()
        return state.token.id

    @property
    def opened_id(self) -> str | None:
        """The id this request came with, if it opened."""
        return self._touch().opened_id

    @property
    def user_id(self) -> str | None:
        """The owner."""
        return self._touch().user_id()

    def _live(self) -> dict[str, dict[str, Any]]:
        """Every storage whose items are in memory, by name."""
        state = self._touch()
        return {state.storage: self, **state.others}

    def _mint(self) -> tokens.Token:
        return tokens.mint(self._layer.random(tokens.RANDOM_BYTES))

    def _rotate(self, state: State) -> str:
        """A new identity at commit; the one already planned, if there is one, for it has been shown."""
        state.wishing().rotating = True
        if state.token is None or state.token.id == state.handle:
            state.token = self._mint()
        return state.token.id
