"""SessionService and AsyncSessionService: sessions from outside a request, over the flows of ``managers.service``.

Decided here: nothing about sessions. A face says which store it asks and whether it awaits; each method is one line.
Both have the same names, arguments and answers. What a method promises is written at the synchronous one.
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Mapping
from datetime import timedelta
from typing import Any, ClassVar, Concatenate, ParamSpec, Self, TypeAlias, TypeVar, Unpack
from uuid import UUID

from .config import SessionConfig
from .core.operations import AsyncStore, Flow, Store
from .core.record import SessionRecord
from .core.runners import arun, run
from .core.state import State
from .errors import ConfigurationError
from .events import Events
from .managers.service import Outside, ServiceFlows, WatchedOutside
from .settings import Settings, is_async
from .shield import outlasting
from .stores.faces import is_awaited, loop_faces, require_sync, store_of

__all__ = ["AsyncSessionService", "SessionService"]

P = ParamSpec("P")
T = TypeVar("T")
UserId: TypeAlias = str | int | UUID


class _Face:
    """What both faces are made of."""

    name: ClassVar[str] = "session"

    def __init__(self, config: SessionConfig | None = None, **settings: Unpack[Settings]) -> None:
        self._config = config = SessionConfig.build(config, **settings)
        if config.store is None:
            raise ConfigurationError("nothing is kept on the server; add store=")
        self._store: Any = self._face(store_of(config))
        self._flows = ServiceFlows(self._store, config, os.urandom)
        self._events = Events(config)
        self._begin: type[State] = WatchedOutside if self._events.wanted else Outside
        self._ready = False

    @classmethod
    def from_config(cls, config: SessionConfig) -> Self:
        """A service over the store of *config*. Raises ``ConfigurationError`` when it has none."""
        return cls(config)

    @classmethod
    def from_url(cls, url: str, **settings: Unpack[Settings]) -> Self:
        """A service over the store that *url* names, with *settings*. Raises ``ConfigurationError``."""
        settings["store"] = url
        return cls(None, **settings)

    @property
    def config(self) -> SessionConfig:
        """The settings."""
        return self._config

    def is_ready(self) -> bool:
        """Whether the store is open: since ``initialize()`` or the first call, until ``teardown()``."""
        return self._ready

    def schema(self) -> dict[str, Any]:
        """What can be asked: ``name``, ``ready``, and ``methods`` with parameters, answer and purpose as texts."""
        import inspect

        methods = {}
        for name, method in inspect.getmembers(type(self), inspect.isroutine):
            if not name.startswith("_"):
                signature = inspect.signature(method)
                parameters = [str(each).replace("'", "") for each in signature.parameters.values()]
                methods[name] = {
                    "parameters": [each for each in parameters if each != "self"],
                    "returns": signature.return_annotation,
                    "purpose": (inspect.getdoc(method) or "").partition("\n")[0],
                }
        return {"name": self.name, "ready": self.is_ready(), "methods": methods}

    def __repr__(self) -> str:
        return f"<{type(self).__name__} over {type(self._store).__name__}>"

    def _face(self, store: Any) -> Any:
        raise NotImplementedError

    def _state(self) -> State:
        return self._begin(int(self._config.clock()))


class SessionService(_Face):
    """Sessions from outside a request, for synchronous code; safe for threads.

    The same records as in the middlewares: give both the same configuration. Takes a ``SessionConfig``, settings as
    keyword arguments, or both. A store that must be awaited needs ``AsyncSessionService``.

    Every method that takes a session id wants the public handle (``session.session_id``) of a session you trust the
    caller with: never one that a client sent. Any method raises ``StoreError`` when the store fails. The first call
    opens the store unless ``initialize()`` did; ``with service:`` opens and closes it.
    """

    _store: Store

    def __init__(self, config: SessionConfig | None = None, **settings: Unpack[Settings]) -> None:
        super().__init__(config, **settings)
        if self._config.awaits:
            raise ConfigurationError("a callback is a coroutine function; that needs AsyncSessionService")

    def _face(self, store: Any) -> Store:
        return require_sync(store)

    def _do(self, flow: Callable[Concatenate[State, P], Flow[T]], *args: P.args, **kwargs: P.kwargs) -> T:
        if not self._ready:
            self.initialize()
        state = self._state()
        try:
            return run(flow(state, *args, **kwargs), self._store)
        finally:
            if state.events:
                self._events.tell(state)

    def initialize(self) -> None:
        """Open the store and create what is missing. Idempotent. Raises ``StoreError``."""
        self._store.initialize()
        self._ready = True

    def teardown(self) -> None:
        """Close the store; nothing has to be flushed. Idempotent; a later call would open it again."""
        self._ready = False
        self._store.teardown()

    def __enter__(self) -> Self:
        self.initialize()
        return self

    def __exit__(self, *error: object) -> None:
        self.teardown()

    def create_session(
        self,
        user_id: UserId | None,
        data: Mapping[str, Any] | None = None,
        *,
        lifetime: int | timedelta | None = None,
    ) -> str:
        """Create a session and return its id; with a user it counts as logged in in storage ``global``.

        *user_id*: a str of 1 to 255 characters, an int or a UUID (kept as str), or ``None`` for nobody. *lifetime*:
        this session's own idle limit in seconds. Nobody can carry the session before ``issue_token``.
        Raises ``ValueError`` for another *user_id* or *lifetime*, ``SessionSerializationError`` and
        ``SessionTooLargeError`` for *data* that cannot be kept, ``SessionLogicError`` where ``max_sessions_per_user``
        refuses.
        """
        return self._do(self._flows.create, user_id, data, lifetime)

    def issue_token(self, session_id: str, *, replace: bool = False) -> str:
        """The token a client is to carry, as the value of the session cookie; a credential, shown this once.

        A session has one live token: ``SessionLogicError`` when there is one, unless *replace* ends it.
        Raises ``SessionNotFoundError``, ``SessionExpiredError``.
        """
        return self._do(self._flows.issue_token, session_id, replace)

    def authenticate(self, token: str | None, *, ip: str | None = None) -> SessionRecord | None:
        """The session whose whole, live token a client sent; ``None`` for anything else, never an error.

        Compared in constant time; no deadline moves. *ip*: where the client calls from; a session or login that is
        bound to an address (``session_ip``, ``strict_session_ip``) opens from there alone. ``on_validate`` may veto.
        """
        return self._do(self._flows.authenticate, token, ip)

    def get_session(self, session_id: str) -> dict[str, Any] | None:
        """A copy of the data in storage ``global``; ``None`` when there is no such session. No deadline moves.

        One that has expired is deleted. Raises ``StoreError`` for a damaged one.
        """
        return self._do(self._flows.data, session_id)

    def get_record(self, session_id: str) -> SessionRecord | None:
        """Owner, times and data of a session, otherwise as ``get_session``."""
        return self._do(self._flows.record, session_id)

    def validate_session(self, session_id: str) -> bool:
        """Whether the session is there, has not expired, can be read, and ``on_validate`` does not object."""
        return self._do(self._flows.is_valid, session_id)

    def update_session(self, session_id: str, data: Mapping[str, Any]) -> None:
        """Merge *data* into storage ``global``, atomically: its keys are set, nested values as a whole, others stay.

        Whatever others change meanwhile stays as well. No deadline moves.
        Raises ``SessionNotFoundError``, ``SessionExpiredError`` (the session is then deleted),
        ``SessionSerializationError``, ``SessionTooLargeError``; ``StoreConflictError`` when 64 tries were not enough.
        """
        return self._do(self._flows.update, session_id, data)

    def update_with(self, session_id: str, key: str, fn: Callable[[Any], Any], default: Any = None) -> Any:
        """Set *key* to ``fn(current value)`` (or ``fn(default)``) and return it; exact under concurrency.

        *fn* runs on a copy, and again whenever somebody else was faster: no side effects. Raises ``ValueError`` when it
        returns ``None``, otherwise as ``update_session``.
        """
        return self._do(self._flows.update_with, session_id, key, fn, default)

    def replace_session(self, session_id: str, data: Mapping[str, Any]) -> None:
        """Put *data* in the place of all that storage ``global`` holds. Raises as ``update_session``."""
        return self._do(self._flows.replace, session_id, data)

    def delete_keys(self, session_id: str, *keys: str) -> None:
        """Delete *keys* of storage ``global``; those that are absent do not matter. Raises as ``update_session``."""
        return self._do(self._flows.delete_keys, session_id, keys)

    def extend_session(self, session_id: str, seconds: int) -> int:
        """Add *seconds* to the deadline, never past the absolute one; the new deadline, in Unix seconds.

        For a keep-alive use ``touch_session``: additions add up.
        Raises ``ValueError`` below 1, ``SessionNotFoundError``, ``SessionExpiredError``: nothing revives a session.
        """
        return self._do(self._flows.extend, session_id, seconds)

    def touch_session(self, session_id: str) -> int:
        """Note activity now: the idle deadline slides, never past the absolute one; the deadline, in Unix seconds.

        Raises ``SessionNotFoundError``, ``SessionExpiredError``.
        """
        return self._do(self._flows.touch, session_id)

    def regenerate_session(self, session_id: str) -> str:
        """Move a session to a new id and return it. The old id and token open nothing any more.

        Owner, login, data and both deadlines stay. The new one has no token until ``issue_token``.
        Raises ``SessionNotFoundError``, ``SessionExpiredError``; ``StoreConflictError`` after 64 tries.
        """
        return self._do(self._flows.regenerate, session_id)

    def destroy_session(self, session_id: str) -> bool:
        """End a session, whatever is being done with it, even if it was just regenerated; whether there was one."""
        return self._do(self._flows.destroy, session_id)

    def destroy_user_sessions(self, user_id: UserId, *, except_id: str | None = None) -> int:
        """End every session of a user but *except_id*; how many records that were."""
        return self._do(self._flows.destroy_user, user_id, except_id)

    def destroy_all_sessions(self) -> int:
        """End every session in the store; how many records that were, those of sessions just ended included."""
        return self._do(self._flows.destroy_all)

    def list_sessions(self, user_id: UserId) -> list[str]:
        """The ids of a user's sessions, by the store's index; none that expired or ended.

        Newest first, by the second they began in; within one in no particular order.
        """
        return self._do(self._flows.ids, user_id)

    def list_records(self, user_id: UserId) -> list[SessionRecord]:
        """As ``list_sessions``, with what a "your devices" page shows; without data."""
        return self._do(self._flows.records, user_id)

    def find_sessions(self, user_id: UserId, predicate: Callable[[SessionRecord], object]) -> list[SessionRecord]:
        """Those of a user's sessions for which *predicate* is true, newest first. It sees, and you get, their data."""
        return self._do(self._flows.find, user_id, predicate)

    def cleanup_expired_sessions(
        self, *, limit: int | None = None, progress: Callable[[int], Any] | None = None
    ) -> int:
        """Delete what is expired in the store at this moment, in batches, at most *limit* records; how many.

        *progress* is told the count after each batch. Closed records whose minute is over count as well.
        Raises ``ValueError`` for another *limit*, and for a coroutine function, which ``AsyncSessionService`` awaits.
        """
        return self._do(self._flows.purge, limit, _called(progress))


class AsyncSessionService(_Face):
    """``SessionService``, awaited; over any store. Everything that asks the store is a coroutine.

    On an event loop no call waits longer than 50 ms for a lock of a store that answers when called: then it goes on in
    a thread. ``async with service:`` opens and closes the store. A call that is cancelled has done what it asked the
    store, or not; ``create_session`` and ``regenerate_session``, which may take two steps, end before they heed it.
    """

    _store: AsyncStore

    def _face(self, store: Any) -> AsyncStore:
        if is_awaited(store):
            face: AsyncStore = store
            return face
        return loop_faces(store)[1]

    async def _do(self, flow: Callable[Concatenate[State, P], Flow[T]], *args: P.args, **kwargs: P.kwargs) -> T:
        if not self._ready:
            await self.initialize()
        state = self._state()
        try:
            return await arun(flow(state, *args, **kwargs), self._store)
        finally:
            if state.events:
                await self._events.atell(state)

    async def _do_whole(self, flow: Callable[Concatenate[State, P], Flow[T]], *args: P.args, **kwargs: P.kwargs) -> T:
        """``_do`` for what takes more than one step to be whole: whoever cancels it waits for its end."""
        return await outlasting(self._do(flow, *args, **kwargs))

    async def initialize(self) -> None:
        await self._store.initialize()
        self._ready = True

    async def teardown(self) -> None:
        self._ready = False
        await self._store.teardown()

    async def __aenter__(self) -> Self:
        await self.initialize()
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.teardown()

    async def create_session(
        self,
        user_id: UserId | None,
        data: Mapping[str, Any] | None = None,
        *,
        lifetime: int | timedelta | None = None,
    ) -> str:
        return await self._do_whole(self._flows.create, user_id, data, lifetime)

    async def issue_token(self, session_id: str, *, replace: bool = False) -> str:
        return await self._do(self._flows.issue_token, session_id, replace)

    async def authenticate(self, token: str | None, *, ip: str | None = None) -> SessionRecord | None:
        return await self._do(self._flows.authenticate, token, ip)

    async def get_session(self, session_id: str) -> dict[str, Any] | None:
        return await self._do(self._flows.data, session_id)

    async def get_record(self, session_id: str) -> SessionRecord | None:
        return await self._do(self._flows.record, session_id)

    async def validate_session(self, session_id: str) -> bool:
        return await self._do(self._flows.is_valid, session_id)

    async def update_session(self, session_id: str, data: Mapping[str, Any]) -> None:
        return await self._do(self._flows.update, session_id, data)

    async def update_with(self, session_id: str, key: str, fn: Callable[[Any], Any], default: Any = None) -> Any:
        return await self._do(self._flows.update_with, session_id, key, fn, default)

    async def replace_session(self, session_id: str, data: Mapping[str, Any]) -> None:
        return await self._do(self._flows.replace, session_id, data)

    async def delete_keys(self, session_id: str, *keys: str) -> None:
        return await self._do(self._flows.delete_keys, session_id, keys)

    async def extend_session(self, session_id: str, seconds: int) -> int:
        return await self._do(self._flows.extend, session_id, seconds)

    async def touch_session(self, session_id: str) -> int:
        return await self._do(self._flows.touch, session_id)

    async def regenerate_session(self, session_id: str) -> str:
        return await self._do_whole(self._flows.regenerate, session_id)

    async def destroy_session(self, session_id: str) -> bool:
        return await self._do(self._flows.destroy, session_id)

    async def destroy_user_sessions(self, user_id: UserId, *, except_id: str | None = None) -> int:
        return await self._do(self._flows.destroy_user, user_id, except_id)

    async def destroy_all_sessions(self) -> int:
        return await self._do(self._flows.destroy_all, _breathing(None))

    async def list_sessions(self, user_id: UserId) -> list[str]:
        return await self._do(self._flows.ids, user_id)

    async def list_records(self, user_id: UserId) -> list[SessionRecord]:
        return await self._do(self._flows.records, user_id)

    async def find_sessions(self, user_id: UserId, predicate: Callable[[SessionRecord], object]) -> list[SessionRecord]:
        return await self._do(self._flows.find, user_id, predicate)

    async def cleanup_expired_sessions(
        self, *, limit: int | None = None, progress: Callable[[int], Any] | None = None
    ) -> int:
        return await self._do(self._flows.purge, limit, _breathing(progress))


def _called(progress: Callable[[int], Any] | None) -> Callable[[int], Any] | None:
    """*progress*, which nobody here could await."""
    if progress is not None and is_async(progress):
        raise ValueError("cleanup_expired_sessions: progress is a coroutine function; that needs AsyncSessionService")
    return progress


def _breathing(progress: Callable[[int], Any] | None) -> Callable[[int], Awaitable[None]]:
    """*progress*, and a pause after it: a long sweep of a store that answers at once leaves the loop to others."""

    async def report(count: int) -> None:
        from asyncio import sleep

        answer = None if progress is None else progress(count)
        if isinstance(answer, Awaitable):
            await answer
        await sleep(0)

    return report


for _name, _method in vars(AsyncSessionService).items():
    if not _name.startswith("_"):
        _method.__doc__ = getattr(SessionService, _name).__doc__
