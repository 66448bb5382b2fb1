"""Faces: one store, called, called on an event loop, or awaited; and the checks that tell the kinds apart.

Decided here: when an awaited call hops to a thread. It is tried on the loop first, through the inline face, whose
waits are bounded; what that face declines (``StoreBusyError``: nothing was changed) is repeated on a worker thread.
A hop costs several times what the call itself does.

The kinds are checked when something is built, because a mix-up would *seem to succeed*: an un-awaited coroutine is
truthy. Then, too, a store object is one application's, for it tells none from another.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from operator import methodcaller
from typing import TYPE_CHECKING, Any, NoReturn, TypeAlias
from weakref import finalize

from ..core.operations import AsyncStore, Outcome, Store
from ..core.record import Record
from ..errors import ConfigurationError, StoreBusyError

if TYPE_CHECKING:
    from ..config import SessionConfig

__all__ = [
    "Awaited",
    "Call",
    "belonging",
    "built",
    "is_awaited",
    "loop_faces",
    "name_of",
    "on_threads",
    "require_async",
    "require_sync",
    "store_of",
]

Call: TypeAlias = Callable[[Any], Any]
"""One call still to be made, given the store to make it on."""

_applications: dict[int, str] = {}  # store objects in use, by identity, and the application of each


def store_of(config: SessionConfig) -> Any:
    """The store of *config*: what ``store``, ``save_path``, ``migrate_from`` and ``table_index`` say together.

    Raises ConfigurationError for a URL that names none, and as ``belonging`` does.
    """
    index = config.table_index
    store = belonging(built(config.store, save_path=config.save_path, table_index=index), index)
    if config.migrate_from is None:
        return store
    from .migrating import migrating

    return migrating(store, belonging(built(config.migrate_from, table_index=index), index))


def built(store: Any, *, save_path: str | None = None, table_index: str = "default") -> Any:
    """*store*, or the one that a URL names. Raises ConfigurationError for a URL that names none."""
    if isinstance(store, str):
        from .url import store_from_url

        return store_from_url(store, save_path=save_path, table_index=table_index)
    return store


def belonging(store: Any, table_index: str) -> Any:
    """*store*, whose sessions are those of the application *table_index*: in any other their tokens would open, too.

    Raises ConfigurationError when it keeps another's, and for what is no store.
    """
    is_awaited(store)  # raises for what is no store
    key = id(store)
    if key not in _applications:
        try:
            finalize(store, _applications.pop, key, None).atexit = False
        except TypeError as error:
            raise ConfigurationError(f"{name_of(store)} lacks __weakref__; add it to __slots__") from error
    owner = _applications.setdefault(key, table_index)
    if owner != table_index:
        raise ConfigurationError(
            f"this {name_of(store)} keeps the sessions of table_index={owner!r}, and would mix those of "
            f"{table_index!r} with them: give each application a store of its own "
            "(another table, directory or prefix), or a URL"
        )
    return store


def is_awaited(store: Any) -> bool:
    """Whether *store* is a store that is awaited; raises ConfigurationError when it is no store at all."""
    from inspect import iscoroutinefunction

    if isinstance(store, type) or not isinstance(store, Store):  # both protocols have the same names
        raise ConfigurationError(f"{name_of(store)} is not a store: {_lack(store)}")
    return iscoroutinefunction(store.load)


def require_sync(store: Any) -> Store:
    """*store*, when it answers as it is called; else ConfigurationError."""
    if is_awaited(store):
        raise ConfigurationError(f"{name_of(store)} must be awaited: it serves ASGI apps and AsyncSessionService only")
    answer: Store = store
    return answer


def require_async(store: Any) -> AsyncStore:
    """*store*, when it is awaited; else ConfigurationError."""
    if not is_awaited(store):
        raise ConfigurationError(f"{name_of(store)} is not awaited: pass its aio() face")
    answer: AsyncStore = store
    return answer


def loop_faces(store: Any) -> tuple[Store | None, AsyncStore]:
    """The inline and the awaited face of a store that answers when called.

    One whose every call waits has no inline face. One without any, such as a store of yours, is called on a thread.
    """
    if hasattr(store, "aio"):
        return store.inline() if hasattr(store, "inline") else None, store.aio()
    return None, on_threads(store)


def on_threads(store: Store) -> Awaited:
    """The awaited face of a store that has none of its own: every call is made on a thread."""
    declining: Any = _Declining()
    return Awaited(store, declining)


class _Declining:
    """An inline face that declines everything."""

    def __getattr__(self, name: str) -> NoReturn:
        raise StoreBusyError("this store is only called on a thread")


def name_of(store: Any) -> str:
    """What an error calls *store*: its class, and of an awaited face the class it belongs to."""
    if isinstance(store, Awaited):
        return f"{name_of(store._store)}.aio()"
    return (store if isinstance(store, type) else type(store)).__name__


def _lack(store: Any) -> str:
    if isinstance(store, type):
        return "pass an instance, not the class"
    names = [name for name in dir(Store) if not name.startswith("_")]
    return "it lacks " + ", ".join(sorted(name for name in {*names, "can_rotate"} if not hasattr(store, name)))


class Awaited:
    """The awaited face of *store*. *inline* is tried first; *write_hop* carries the writes it declines (else a thread).

    Raises what the store raises. Needs a running asyncio loop only when it hops.
    """

    def __init__(
        self, store: Store, inline: Store, *, write_hop: Callable[[Call], Awaitable[Any]] | None = None
    ) -> None:
        self.can_rotate = store.can_rotate
        self.evicts = getattr(store, "evicts", False)
        self._store = store
        self._inline = inline
        self._write_hop = write_hop or self._hop

    def __repr__(self) -> str:
        return f"<awaited {self._store!r}>"

    async def _hop(self, call: Call) -> Any:
        from asyncio import to_thread

        return await to_thread(call, self._store)

    async def load(self, id: str) -> Record | None:
        try:
            return self._inline.load(id)
        except StoreBusyError:
            record: Record | None = await self._hop(methodcaller("load", id))
            return record

    async def list_user(self, user_id: str) -> list[Record]:
        try:
            return self._inline.list_user(user_id)
        except StoreBusyError:
            records: list[Record] = await self._hop(methodcaller("list_user", user_id))
            return records

    async def _write(self, call: Call) -> Any:
        try:
            return call(self._inline)
        except StoreBusyError:
            return await self._write_hop(call)

    async def create(self, record: Record) -> bool:
        done: bool = await self._write(methodcaller("create", record))
        return done

    async def save(self, record: Record, expected_version: int, *, payload_only: bool = False) -> Outcome:
        outcome: Outcome = await self._write(methodcaller("save", record, expected_version, payload_only=payload_only))
        return outcome

    async def touch(self, id: str, last_activity: int, expires_at: int) -> bool:
        done: bool = await self._write(methodcaller("touch", id, last_activity, expires_at))
        return done

    async def delete(self, id: str, *, expected_version: int | None = None) -> Outcome:
        outcome: Outcome = await self._write(methodcaller("delete", id, expected_version=expected_version))
        return outcome

    async def close(self, id: str, expected_version: int, *, until: int, successor: str | None = None) -> Outcome:
        outcome: Outcome = await self._write(
            methodcaller("close", id, expected_version, until=until, successor=successor)
        )
        return outcome

    async def rotate(
        self, record: Record, old_id: str, expected_version: int, *, until: int, successor: str | None = None
    ) -> Outcome:
        outcome: Outcome = await self._write(
            methodcaller("rotate", record, old_id, expected_version, until=until, successor=successor)
        )
        return outcome

    async def delete_user(self, user_id: str, *, except_id: str | None = None) -> int:
        count: int = await self._write(methodcaller("delete_user", user_id, except_id=except_id))
        return count

    async def purge(self, now: int, limit: int) -> int:
        try:
            return self._inline.purge(now, limit)
        except StoreBusyError:
            count: int = await self._hop(methodcaller("purge", now, limit))  # keeps its own short transactions
            return count

    async def initialize(self) -> None:
        await self._hop(methodcaller("initialize"))

    async def teardown(self) -> None:
        await self._hop(methodcaller("teardown"))
