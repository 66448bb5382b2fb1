"""SessionStore: our ``Session`` as Django's ``SessionBase``: one object, both sets of names; Django's win.

Django makes one of the cookie's value and asks it at the response whether it is ``accessed``, ``modified`` or empty, to
``save()`` itself, and for the ``session_key`` it sends as the cookie. So ``save()`` is the commit here. What Django
promises to happen at once happens at once (``flush``, ``delete``, ``create``); everything else waits for ``save()``,
``cycle_key()`` included: an error in the view loses nothing.
"""

from __future__ import annotations

from collections.abc import Generator
from datetime import datetime, timedelta
from typing import Any, Self, cast

from django.conf import settings
from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY
from django.contrib.sessions.backends.base import CreateError, SessionBase, UpdateError
from django.utils import timezone
from django.views.decorators.debug import sensitive_variables

from ..core import codec
from ..core.lifetime import own_limit
from ..core.operations import Flow
from ..core.payload import DEFAULT_STORAGE
from ..core.payload import split as segments
from ..core.runners import run
from ..core.state import OPEN, State
from ..core.tokens import Token, split
from ..errors import SessionLogicError
from ..managers import Opened, Verdict
from .keyed import KeyedSession
from .layer import EXPIRY, current_layer, expiry_date

__all__ = ["SessionStore"]


class SessionStore(KeyedSession):
    """What ``request.session`` is. *session_key*: the whole token a client sent, or ``None``.

    ``session_key`` is the whole token, a credential: the one place where its secret can be seen. ``session_id`` is the
    handle to show and log. A method without an ``a`` raises ``SynchronousOnlyOperation`` where it would have to ask
    the store on an event loop.
    """

    # -- loading -----------------------------------------------------------------------------------------------

    def load(self) -> dict[str, Any]:  # type: ignore[override]
        """What is kept under ``session_key`` now; empty where nothing is, and then the key is dropped."""
        if self._state is None:
            self._layer.fill(self)
        return self._looked(self._layer.run(self._home, self._look()))

    async def aload(self) -> dict[str, Any]:
        """``load()``, awaited."""
        if self._state is None:
            await self._layer.afill(self)
        return self._looked(await self._layer.arun(self._home, self._look()))

    def _look(self) -> Flow[Opened]:
        token = self._token_of(cast("State", self._state), planned=False)
        return (yield from self._layer.look(token)) if token is not None else Opened()

    def _looked(self, opened: Opened) -> dict[str, Any]:
        return {} if opened.record is None else codec.decode(segments(opened.record.payload)[0])

    # -- saving ------------------------------------------------------------------------------------------------

    def save(self, must_create: bool = False) -> None:  # type: ignore[override]
        """Commit: what this request changed, on top of what others saved meanwhile.

        Raises ``UpdateError`` when the session ended meanwhile (nothing is saved, and Django answers 400),
        ``CreateError`` with *must_create* for a session that is kept already, ``StoreError`` when the store fails,
        ``SessionSerializationError`` and ``SessionTooLargeError`` for values that cannot be kept.
        """
        state = self._touch()
        asked, plan = self._plan_save(state, must_create)
        if isinstance(plan, Generator):
            with self._lock:
                self._layer.run(self._home, plan)
        self._saved(state, asked)

    async def asave(self, must_create: bool = False) -> None:
        """``save()``, awaited."""
        state = (await self._aget_session())._touch()
        asked, plan = self._plan_save(state, must_create)
        if isinstance(plan, Generator):
            await self._layer.arun(self._home, plan)
        self._saved(state, asked)

    def _plan_save(self, state: State, must_create: bool) -> tuple[bool, Verdict | Flow[Verdict]]:
        if must_create and state.base is not None:
            raise CreateError
        asked = self._is_modified()
        if state.queue:
            self._save_queue()
        if state.phase == OPEN:
            self._follow_owner(SESSION_KEY)
            if state.base is None and not (state.stale or state.shut):
                self._rotate(state)  # what is empty is kept, too: the client gets a key
        self._follow_expiry(state)
        return asked, self._layer.committing(self, state, asked=asked)

    def _saved(self, state: State, asked: bool) -> None:
        if state.events:
            self._layer.events.tell(state)
        if state.stale and (asked or self._source is None):
            raise UpdateError
        self._calm = None
        if state.token is not None and state.base is not None:
            self._news = self._written = True  # Django sends the cookie of a session that is modified

    def _follow_expiry(self, state: State) -> None:
        """This session's own idle limit is what ``set_expiry`` was given, or else what an engine of one's own says."""
        value, base = self._items(DEFAULT_STORAGE).get(EXPIRY), state.base
        kept = None if base is None or state.wish.wiped else base.lifetime
        until = expiry_date(value)
        if until is None:
            lifetime = int(value) if value and not isinstance(value, str) else self._own_age()
        elif kept is not None and state.stored_items(DEFAULT_STORAGE).get(EXPIRY) == value:
            lifetime = kept
        else:
            lifetime = int(until - self._layer.now()) or -1
        if lifetime != kept:
            state.wishing().lifetime = lifetime

    def _own_age(self) -> int | None:
        age = self.get_session_cookie_age()
        return None if age == self._layer.limits.idle else age or -1

    def commit(self) -> None:
        """``save()``, by our own name for it."""
        self.save()

    async def acommit(self) -> None:
        """``asave()``, by our own name for it."""
        await self.asave()

    def create(self) -> None:
        """Keep what is here as a new session, with a new key, at once; a former one is left alone."""
        self._begin_anew(self._touch())
        self.save(must_create=True)

    async def acreate(self) -> None:
        """``create()``, awaited."""
        self._begin_anew((await self._aget_session())._touch())
        await self.asave(must_create=True)

    # -- life and end ------------------------------------------------------------------------------------------

    def regenerate(self, *, grace: int | None = None) -> str:
        """A new key, real at ``save()``. *grace* as in ``Session``, but 0 by default outside of
        ``StoreErrorMiddleware``: without it Django would send an overlapping request's old key again."""
        return super().regenerate(grace=0 if grace is None and self._source is None else grace)

    def cycle_key(self) -> None:
        """A new key for the same data, in effect at ``save()``; nobody may use the old one from then on."""
        self.regenerate(grace=0)
        self._written = True

    async def acycle_key(self) -> None:
        """``cycle_key()``, awaited."""
        (await self._aget_session()).cycle_key()

    def destroy(self, all_data: bool = False) -> bool:
        """End the session at once; whether there was anything. With *all_data* writes raise until ``start()``."""
        existed = super().destroy(all_data)
        self._end()
        return existed

    def flush(self) -> None:
        """End the session at once; what is written afterwards gets a new key."""
        self.destroy()

    async def aflush(self) -> None:
        """``flush()``, awaited."""
        await self._aget_session()
        super().destroy()
        await self._aend()

    def _end(self) -> None:
        """Carry out an ending that has been noted."""
        plan = self._plan_end()
        if plan is not None:
            self._layer.run(self._home, plan)
        self._ended()

    async def _aend(self) -> None:
        plan = self._plan_end()
        if plan is not None:
            await self._layer.arun(self._home, plan)
        self._ended()

    def _plan_end(self) -> Flow[Verdict] | None:
        state = cast("State", self._state)
        kept = state.base is not None
        plan = self._layer._plan(self, state)
        if isinstance(plan, Generator) and not kept:  # no store is asked, and nobody has to await it
            run(plan, None)
            return None
        return plan if isinstance(plan, Generator) else None

    def _ended(self) -> None:
        state = cast("State", self._state)
        if state.events:
            self._layer.events.tell(state)
        self._written, self._calm = True, None
        if not state.stale:
            self._key, self._news = None, True

    @sensitive_variables("session_key")
    def exists(self, session_key: str | None) -> bool:
        """Whether *session_key*, a whole token, opens a session."""
        token = split(session_key) if isinstance(session_key, str) else None
        return token is not None and self._layer.run(self._home, self._layer.look(token)).record is not None

    @sensitive_variables("session_key")
    async def aexists(self, session_key: str | None) -> bool:
        """``exists()``, awaited."""
        token = split(session_key) if isinstance(session_key, str) else None
        return token is not None and (await self._layer.arun(self._home, self._layer.look(token))).record is not None

    @sensitive_variables("session_key")
    def delete(self, session_key: str | None = None) -> None:
        """End the session of *session_key*, a whole token, at once; without it, of this one, whose data stays here."""
        token = self._to_delete(session_key)
        opened = Opened() if token is None else self._layer.run(self._home, self._layer.look(token))
        if opened.record is not None:
            self._layer.service.destroy_session(opened.record.id)

    @sensitive_variables("session_key")
    async def adelete(self, session_key: str | None = None) -> None:
        """``delete()``, awaited."""
        token = self._to_delete(session_key)
        opened = Opened() if token is None else await self._layer.arun(self._home, self._layer.look(token))
        if opened.record is not None:
            await self._layer.aservice.destroy_session(opened.record.id)

    def _to_delete(self, session_key: str | None) -> Token | None:
        if session_key is not None:
            return split(session_key)
        return self._key if self._state is None else self._token_of(self._state, planned=False)

    @classmethod
    def clear_expired(cls) -> None:
        """Remove what has expired (``manage.py clearsessions``), in short calls."""
        current_layer().service.cleanup_expired_sessions()

    @classmethod
    async def aclear_expired(cls) -> None:
        """``clear_expired()``, awaited."""
        await current_layer().aservice.cleanup_expired_sessions()

    # -- time --------------------------------------------------------------------------------------------------

    def get_session_cookie_age(self) -> int:
        """``SESSION_COOKIE_AGE``, unless ``SESSION_MW`` names an idle timeout; seconds.

        A subclass may say another: the idle limit of its sessions, which the server keeps to.
        """
        return self._layer.limits.idle

    def _expiry(self, given: dict[str, Any]) -> dict[str, Any]:
        """It belongs to the session, whatever its current storage."""
        return given if "expiry" in given else {**given, "expiry": self._items(DEFAULT_STORAGE).get(EXPIRY)}

    def get_expiry_age(self, **kwargs: Any) -> int:
        """Django's: seconds until the session ends, from ``modification=`` on."""
        age: int = SessionBase.get_expiry_age(self, **self._expiry(kwargs))
        return age

    async def aget_expiry_age(self, **kwargs: Any) -> int:
        """``get_expiry_age()``, awaited."""
        return (await self._aget_session()).get_expiry_age(**kwargs)

    def get_expiry_date(self, **kwargs: Any) -> datetime:
        """Django's: when the session ends, counted from ``modification=``."""
        date: datetime = SessionBase.get_expiry_date(self, **self._expiry(kwargs))
        return date

    async def aget_expiry_date(self, **kwargs: Any) -> datetime:
        """``get_expiry_date()``, awaited."""
        return (await self._aget_session()).get_expiry_date(**kwargs)

    def get_expire_at_browser_close(self) -> bool:
        """Django's: whether the cookie ends with the browser."""
        expiry = self._items(DEFAULT_STORAGE).get(EXPIRY)
        return bool(settings.SESSION_EXPIRE_AT_BROWSER_CLOSE) if expiry is None else bool(expiry == 0)

    async def aget_expire_at_browser_close(self) -> bool:
        """``get_expire_at_browser_close()``, awaited."""
        return (await self._aget_session()).get_expire_at_browser_close()

    def set_expiry(self, value: int | datetime | timedelta | None) -> None:
        """Django's: seconds of disuse, a date, 0 (when the browser closes) or ``None`` (as the settings say).

        Raises ``ValueError`` for longer than ``absolute_timeout``, past which nothing is kept.
        """
        self._check_expiry(value)
        with self.using_storage(DEFAULT_STORAGE):
            SessionBase.set_expiry(self, value)

    async def aset_expiry(self, value: int | datetime | timedelta | None) -> None:
        """``set_expiry()``, awaited."""
        (await self._aget_session()).set_expiry(value)

    def _check_expiry(self, value: int | datetime | timedelta | None) -> None:
        length: Any = value - timezone.now() if isinstance(value, datetime) else value
        seconds = length.total_seconds() if isinstance(length, timedelta) else length or 0
        longest = self._layer.limits.absolute
        if seconds > longest:
            raise ValueError(
                f"set_expiry: {int(seconds)} s is longer than absolute_timeout ({longest} s), past which no session is "
                f'kept; allow it by SESSION_MW["absolute_timeout"]'
            )

    def expire_after(self, limit: timedelta | None) -> Self:
        """``set_expiry``, by our own name for it, checked as everywhere else; chainable."""
        self.set_expiry(None if limit is None else own_limit(limit, self._layer.limits, "expire_after"))
        return self

    # -- login -------------------------------------------------------------------------------------------------

    def login(self, ip: str | None = None, *, user_id: object = None) -> Any:
        """For storages other than the default one, whose login is Django's: raises ``SessionLogicError`` there."""
        if self.storage == DEFAULT_STORAGE:
            raise SessionLogicError(
                "under Django the login is django.contrib.auth's: call login(request, user); "
                "session.login() is for other storages"
            )
        return super().login(ip, user_id=user_id)

    def logout(self, *, clear_data: bool = False) -> bool:
        """End the login of the current storage, at ``save()``; the data stays unless *clear_data*.

        In the default storage that is what ``django.contrib.auth`` keeps there. Its own ``logout(request)`` ends the
        whole session, at once.
        """
        if self.storage == DEFAULT_STORAGE:
            for key in (SESSION_KEY, BACKEND_SESSION_KEY, HASH_SESSION_KEY):
                self.pop(key, None)
        return super().logout(clear_data=clear_data)

    def destroy_others(self) -> None:
        """At ``save()``, end every other session of whoever is logged in here. Raises ``SessionLogicError``."""
        if self._touch().phase == OPEN:
            self._follow_owner(SESSION_KEY)
        super().destroy_others()
