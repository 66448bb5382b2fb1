"""KeyedSession: the half of ``SessionStore`` that reads: its key, what happened to it, its data; nothing is saved here.

The methods with an ``a`` before their names are ``SessionBase``'s own wherever they only read and write data: they
await ``_aget_session()`` and go on with what it gives, which is this very object.
"""

from __future__ import annotations

import os
from typing import Any, Self, cast

from django.conf import settings
from django.contrib.sessions.backends.base import SessionBase
from django.utils.module_loading import import_string

from ..core import codec
from ..core.session import Session, bind_session
from ..core.state import State
from ..core.tokens import RANDOM_BYTES, Token, mint, split
from .layer import EXPIRY, DjangoLayer, current_layer, seat

__all__ = ["KeyedSession"]

_MISSING: Any = object()


class KeyedSession(Session, SessionBase):  # pyright: ignore[reportIncompatibleMethodOverride] - Django's names win
    """A session that begins with a key, as Django's do."""

    _layer: DjangoLayer
    _adopted: bool = False  # the key was given by the app, not by this request's cookie
    _written: bool = False  # Django's ``modified``, as far as it is a flag
    _calm: dict[str, bytes] | None = None  # what there was when somebody set ``modified`` to False
    _to_clear: bool = False  # clear() on an event loop, before anything was read
    _news: bool = False  # the client has to be told of a new key, of none, or of another lifetime

    def __new__(cls, session_key: str | None = None) -> Self:
        return cast("Self", super().__new__(cls._dormant))  # asleep: nothing is read yet

    def __init__(self, session_key: str | None = None) -> None:
        Session.__init__(self, current_layer(), None)
        self._key: Token | None = split(session_key) if isinstance(session_key, str) else None
        here = seat.get()
        if here is not None and here.session is None and not hasattr(here.request, "session"):
            here.session, self._source = self, here.request  # the one Django's middleware makes
            self._layer.receive(self, session_key)
            bind_session(self)

    # -- the key -----------------------------------------------------------------------------------------------

    def _get_session_key(self) -> str | None:
        state = self._state
        token = self._key if state is None else self._token_of(state, planned=True)
        return None if token is None else token.text

    def _set_session_key(self, value: str | None) -> None:
        token = split(value) if isinstance(value, str) else None
        if self._state is not None:
            if token is None:
                self._begin_anew(self._state)
            else:  # another session altogether
                self._sleep()
        self._key, self._adopted = token, True

    session_key = property(_get_session_key, doc="The whole token, as the cookie holds it; a credential.")
    _session_key = property(_get_session_key, _set_session_key)

    def _token_of(self, state: State, *, planned: bool) -> Token | None:
        """The token of what is kept now; *planned*: of what will be kept, where a rotation is under way."""
        token, base = state.token, state.base
        if token is not None and ((planned and state.wish.rotating) or (base is not None and base.id == token.id)):
            return token
        return None if base is None else self._key

    def _get_new_session_key(self) -> str:
        return mint(os.urandom(RANDOM_BYTES)).text

    async def _aget_new_session_key(self) -> str:
        return self._get_new_session_key()

    # -- what happened -----------------------------------------------------------------------------------------

    def _is_accessed(self) -> bool:
        return self._to_clear or (self._state is not None and self._state.accessed)

    def _set_accessed(self, value: bool) -> None:
        if self._state is not None:
            self._state.accessed = value
            if not value:
                self.__class__ = self._dormant

    accessed: Any = property(_is_accessed, _set_accessed, doc="Whether anybody looked at the session in this request.")

    def _is_modified(self) -> bool:
        state = self._state
        if state is None:
            return self._written
        live = self._held(state)
        if state.stale and not any(map(dict.__len__, live.values())):
            return False  # it ended meanwhile, and nobody wants anything of it
        if self._written or state.queue or state.end_others is not None:
            return True
        return state.changed(live) and (self._calm is None or self._calm != self._encoded(live))

    def _set_modified(self, value: bool) -> None:
        if value:
            self._written = True
        elif self._is_modified():
            self._written = False
            self._calm = None if self._state is None else self._encoded(self._held(self._state))

    modified: Any = property(
        _is_modified, _set_modified, doc="Whether there is something to save; nested changes count. May be assigned."
    )

    def _held(self, state: State) -> dict[str, dict[str, Any]]:
        """As ``_live``, but to look at: asleep it stays asleep."""
        mine = dict(dict.items(self)) if type(self) is self._dormant else self
        return {state.storage: mine, **state.others}

    def _encoded(self, live: dict[str, dict[str, Any]]) -> dict[str, bytes]:
        return {name: codec.encode(dict(dict.items(data)), name) for name, data in live.items()}

    def is_empty(self) -> bool:
        """Whether there is neither a key nor anything to keep; where Django then deletes the cookie.

        Not for a session that ended meanwhile: the browser may already hold a newer cookie.
        """
        state = self._state
        if state is None:
            return self._key is None and not self._written
        if state.stale or self._token_of(state, planned=True) is not None:
            return False
        return not any(map(dict.__len__, self._held(state).values()))

    def __bool__(self) -> bool:
        return not self.is_empty()

    # -- data --------------------------------------------------------------------------------------------------

    def _get_session(self, no_load: bool = False) -> Self:
        self._wake()
        return self

    async def _aget_session(self, no_load: bool = False) -> Self:
        if self._state is None:
            await self._layer.afill(self)
        self._wake()
        return self

    _session = property(_get_session)

    @property
    def serializer(self) -> Any:
        """Of ``encode()`` and ``decode()`` alone: what is kept goes through our own codec."""
        return import_string(settings.SESSION_SERIALIZER)

    def _replaced(self, key: str, value: Any = None, *, plain: bool = False) -> None:
        self._written = True
        if key == EXPIRY:
            self._news = True
        super()._replaced(key, value, plain=plain)

    def pop(self, key: str, default: Any = _MISSING) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Remove *key* and return its value, or *default*. Raises ``KeyError`` without one."""
        if key not in self and default is not _MISSING:
            return default
        return super().pop(key)

    def clear(self, storage: str | None = None) -> Self:  # type: ignore[override]
        """Drop every item of a storage (the current one), and its login; the key stays."""
        self._written = True
        if self._state is None and storage is None and self._key is not None and _on_loop():
            self._to_clear = True  # there is no aclear(): done when something is read
        else:
            super().clear(storage)
        return self

    def _was_opened(self) -> None:
        """The layer has just opened this session."""
        if self._to_clear:
            self._to_clear = False
            super().clear()

    def save_queue(self, storage: str | None = None) -> bool:
        """Set every queued item (``put``); what is called ``save`` everywhere else."""
        return self._save_queue(storage)

    def _is_refused(self) -> bool:
        """Whether a login came from another address, and the verdict went against it."""
        return self._state is not None and self._state.wish.destroyed

    def _begin_anew(self, state: State) -> None:
        """Let go of the record this was opened from; the data stays."""
        for name in state.storage_names():
            self._items(name)
        fresh = self._layer._begin(state.now)
        fresh.accessed, fresh.phase, fresh.events = True, state.phase, state.events
        fresh.storage, fresh.others, fresh.queue = state.storage, state.others, state.queue
        self._state, self._key = fresh, None


def _on_loop() -> bool:
    import asyncio

    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
