"""Session: the object a handler uses; a dict of the current storage's items, and the documented method API.

It knows no store, no cookie and no framework: its ``layer`` (one per middleware) fills it on first touch and carries
out at commit what it was asked for. Everything is decided at once and written later.

    LazyDict   a dict that fills on first touch          mapping.py
    Kernel     waking, writability, identity             kernel.py
    Storages   items, queue, named storages              storages.py
    Account    login, metadata, addresses                account.py
    Session    life: regenerate, destroy, commit         here
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from datetime import timedelta
from enum import Enum
from typing import Any, Literal, Self

from ..errors import SessionClosedError, SessionLogicError, SessionStateError
from . import lifetime
from .account import Account
from .payload import DEFAULT_STORAGE
from .state import OPEN

__all__ = [
    "WRAPPED_BY",
    "Session",
    "SessionStatus",
    "bind_session",
    "current_session",
    "release_session",
    "watch_current",
]


WRAPPED_BY = """\
    app = SessionMiddleware(app, secret_key=os.environ["SECRET"])               # session_mw.asgi, session_mw.wsgi
    app.add_middleware(SessionMiddleware, secret_key=os.environ["SECRET"])      # session_mw.starlette
    SessionMW(app)                                                              # session_mw.flask
    MIDDLEWARE = ["session_mw.django.StoreErrorMiddleware", …]                  # above Django's SessionMiddleware"""
"""What gives an app sessions, for errors that miss it."""


class SessionStatus(Enum):
    """What ``is_status`` compares with (PHP's ``session_status()``)."""

    DISABLED = "disabled"  # there is nowhere to keep a session
    NONE = "none"  # nothing is kept: new and empty, destroyed, or committed and not restarted
    ACTIVE = "active"


class Session(Account):
    """One request's session.

    Writes raise ``SessionClosedError`` when it is too late for them, and ``SessionSerializationError`` (with the path
    of the bad part) for values that would not come back as themselves.
    """

    __slots__ = ()

    def regenerate(self, *, grace: int | None = None) -> str:
        """Give the session a new id, real at commit, and return it; data, login and creation time stay.

        For *grace* seconds (0–300, default 30) the old id points to the new one, for overlapping requests.
        """
        state = self._changing("regenerate()")
        self._writable()
        seconds = 30 if grace is None else grace
        if not 0 <= seconds <= lifetime.MAX_GRACE:
            raise ValueError(f"grace must be 0 to {lifetime.MAX_GRACE} seconds, not {grace}")
        if state.pointer and not state.wish.logged_in and state.base is not None:
            return state.base.id  # somebody has just done so
        state.wishing().grace = seconds
        return self._rotate(state)

    def expire_after(self, limit: timedelta | None) -> Self:
        """Give this session its own idle limit and a persistent cookie ("remember me"); ``None`` takes both back.

        Where the cookie's life changes, a session that exists gets a new id, as by ``regenerate()``: to send a token
        again that another request may have just replaced would bring a dead one back.
        Raises ``ValueError`` for a limit under a second or longer than ``absolute_timeout``; chainable.
        """
        state = self._changing("expire_after()")
        self._writable()
        seconds = None if limit is None else lifetime.own_limit(limit, self._layer.limits, "expire_after")
        if state.base is not None and state.is_persistent() != (seconds is not None) and not state.wish.rotating:
            self.regenerate()
        wish = state.wishing()
        wish.lifetime = seconds
        if not state.pointer or wish.logged_in:  # else no cookie will say so
            wish.persistent = seconds is not None
        return self

    def destroy(self, all_data: bool = False) -> bool:
        """End the session: every storage, every login; whether there was anything. Beats every concurrent change.

        What is written afterwards lives under a new id. With *all_data* writes raise until ``start()``.
        """
        state = self._touch()
        state.check_not_over()
        wish, begun = state.wish, any(self._live().values())
        existed = not wish.destroyed and bool(state.base or begun or wish.attempts or wish.logged_in)
        if state.phase != OPEN and existed:
            self._layer.check_late_write(self)
        owner = state.user_id()
        if not state.shut:
            self._wipe(state)
            state.token, state.wishing().destroyed = None, True
        state.shut = state.shut or all_data or state.phase != OPEN
        if existed:
            state.note("destroy", self._layer.now(), handle=state.handle, user=owner)
        return existed

    def destroy_others(self) -> None:
        """At commit, end every other session of this owner.

        Raises ``ConfigurationError`` where sessions are client-kept, ``SessionLogicError`` without an owner.
        """
        self._writable()
        self._layer.require_store(self)
        state, key = self._touch(), self._layer.owner_key
        if key is not None:
            self._follow_owner(key)
        owner = state.user_id()
        if owner is None:
            raise SessionLogicError("destroy_others() needs an owner: call login(user_id=…) first")
        state.end_others = owner

    def _keep_endings(self) -> bool:
        """The app failed: take back all but the endings of logins and of sessions; whether there are any."""
        state, key = self._touch(), self._layer.owner_key
        if key is not None and self._items(DEFAULT_STORAGE).get(key) is None:
            self._follow_owner(key)  # to take the key out is to log out
        base, ended = state.base, state.wish.ended
        if state.wish.destroyed:
            state.wipe()
            dict.clear(self)
        elif ended or state.end_others is not None:
            state.rebase(base)
            state.token, state.queue, state.others, state.storage = None, (), {}, DEFAULT_STORAGE
            self._pour(state.stored_items(DEFAULT_STORAGE))
            for storage, with_data in ended.items():
                if with_data:
                    dict.clear(self._items(storage))
                    state.wishing().cleared |= {storage}
                state.end_login(storage)
                if not with_data and storage == DEFAULT_STORAGE and key is not None:
                    dict.pop(self, key, None)
                state.wish.released = not state.all_logins()
        else:
            return False
        return state.end_others is not None or base is not None

    def is_status(self, status: SessionStatus = SessionStatus.ACTIVE) -> bool:
        """Whether the session is in *status*."""
        state = self._touch()
        active = not state.shut and not state.committed and self.session_id is not None
        return status is (SessionStatus.ACTIVE if active else SessionStatus.NONE)

    def start(self, token: str | None = None) -> Literal[True]:
        """Begin, or begin again after ``commit()`` or ``destroy(True)``; with *token*, adopt the session it opens.

        An adopted session always gets a new token at commit. An unknown token gives a fresh session.
        Raises ``InvalidSessionIdError`` when *token* is not shaped like one.
        """
        if token is not None:
            self._refuse_adoption()
            self._layer.adopt(self, token)
            return True
        state = self._changing("start()")
        state.shut = False
        return True

    def _refuse_adoption(self) -> None:
        if self._started or (self._state is not None and self._state.phase != OPEN):
            raise SessionClosedError("start(token) needs a new cookie, but the response has started; call it earlier")
        if self._state is not None:
            raise SessionStateError("start(token) comes too late: the session is loaded; call it first")

    def commit(self) -> None:
        """Write now, and close until restarted; a later write re-opens while headers can still be sent.

        A pending rotation is carried out at response start. Raises ``SessionStateError`` where the store must be
        awaited (use ``acommit()``), ``StoreError`` when it fails, ``SessionClosedError`` after the request.
        """
        state = self._touch()
        state.check_not_over()
        with self._lock:
            self._layer.commit_early(self)
        state.committed = True

    async def load(self, token: str | None = None) -> Self:
        """Read the session now, where the store must be awaited; needed only when ``autoload`` is off.

        With *token*: as ``start(token)``. Raises ``StoreError`` when the store fails; chainable.
        """
        if token is not None:
            self._refuse_adoption()
            await self._layer.aadopt(self, token)
        elif self._state is None:
            await self._layer.afill(self)
        self._wake()
        return self

    async def acommit(self) -> None:
        """``commit()``, where the store must be awaited."""
        if self._state is None:
            await self._layer.afill(self)
        self._touch().check_not_over()
        await self._layer.acommit_early(self)
        self._touch().committed = True

    def set_store(self, store: Any) -> Self:
        """Keep this request's session in another store. Raises ``SessionStateError`` once it is loaded; chainable."""
        return self._move(store)

    def set_manager(self, manager: Any) -> Self:
        """Keep this request's session elsewhere. Raises ``SessionStateError`` once it is loaded; chainable."""
        return self._move(manager)

    def _move(self, to: Any) -> Self:
        if self._state is not None:
            raise SessionStateError("the session is loaded already; choose its store or manager before touching it")
        self._prepare().home = self._layer.home_for(to)
        return self


_current: ContextVar[Session | None] = ContextVar("session_mw.current_session", default=None)
bind_session = _current.set
release_session = _current.reset


_watchers: list[Callable[[Session | None], Session | None]] = []


def watch_current(watcher: Callable[[Session | None], Session | None]) -> None:
    """Ask *watcher* which session is current, for a framework with request contexts of its own.

    It is given the session a middleware has bound, if any.
    """
    _watchers.append(watcher)


def current_session() -> Session:
    """The session of the request being handled. Raises ``SessionStateError`` outside of one."""
    session = _current.get()
    for watcher in _watchers:
        session = watcher(session)
    if session is None:
        raise SessionStateError(
            "no session here: current_session() works while a request is handled, in an app with the line\n"
            f"{WRAPPED_BY}\n"
            "a thread or executor of yours runs outside of it: contextvars.copy_context().run(…), or pass the session"
        )
    return session
