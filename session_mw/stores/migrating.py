"""MigratingStore: two stores as one, while sessions move from the old to the new.

Decided here: where a session is, and when it moves. It is read in the new store, else in the old; its first write or
touch moves it; what is new is made in the new one. Lists, log-out-everywhere and purge reach both.

No step is atomic over two stores, so the order of steps keeps the promises:

* a move creates in the new store, then deletes in the old *with the version seen*. If the old record has changed
  meanwhile, or is gone, the copy is taken back: nothing that ended is brought to life, no save is undone.
* whoever did not create the copy deletes nothing: of several movers one finishes, the others go on with its copy.
* an ending reaches the old store first, then the new. So what a crash in the middle of a move has left in the old
  store, hidden behind its copy, ends with it.
* lists and log-out-everywhere read the old store first: what moves meanwhile is met in the new one.

It is a flow over (which store, operation), so that it serves stores that are called and stores that are awaited.

What it cannot:

* ``rotate`` in one step: ``can_rotate`` is false, so it is create, then close
* tell the copy from the session in the moment in which a move may yet be taken back: who writes to the copy just then,
  while somebody else saves to the old store past this one, has written beside it, and the copy is what goes on
* count exactly: ``purge`` counts a session twice that is due while it moves
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any, Literal, TypeAlias, TypeVar

from msgspec import structs

from ..core.operations import (
    Close,
    Create,
    Delete,
    DeleteUser,
    ListUser,
    Load,
    Operation,
    Outcome,
    Purge,
    Save,
    Touch,
)
from ..core.record import Record
from ..errors import ConfigurationError, StoreConflictError
from .faces import is_awaited, loop_faces, name_of

__all__ = ["AsyncMigratingStore", "MigratingStore", "migrating"]

T = TypeVar("T")
Which: TypeAlias = Literal[0, 1]
Steps: TypeAlias = Generator[tuple[Which, Operation], Any, T]
"""A flow over two stores."""

NEW: Which = 0
OLD: Which = 1
_TRIES = 16  # how often a session is looked for that keeps moving


def migrating(new: Any, old: Any) -> MigratingStore | AsyncMigratingStore:
    """Both as one store: called where both are called, awaited where one of them is.

    Raises ConfigurationError for what is no store.
    """
    if is_awaited(new) or is_awaited(old):
        return AsyncMigratingStore(new, old)
    return MigratingStore(new, old)


class _Both:
    can_rotate = False

    def __init__(self, new: Any, old: Any) -> None:
        if new is old:
            raise ConfigurationError("a store cannot be migrated into itself")
        self._stores = (new, old)
        self.built_in = getattr(new, "built_in", None) or getattr(old, "built_in", None)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._stores[OLD]!r} -> {self._stores[NEW]!r}>"


class MigratingStore(_Both):
    """*new* and *old* as one store; both answer when called. Raises what they raise."""

    def __init__(self, new: Any, old: Any) -> None:
        for store in (new, old):
            if is_awaited(store):
                raise ConfigurationError(f"{name_of(store)} has to be awaited: use AsyncMigratingStore")
        super().__init__(new, old)

    def aio(self) -> AsyncMigratingStore:
        """The awaited face."""
        return AsyncMigratingStore(*self._stores)

    def _run(self, steps: Steps[T]) -> T:
        try:
            which, operation = next(steps)
            while True:
                which, operation = steps.send(operation.ask(self._stores[which]))
        except StopIteration as stop:
            answer: T = stop.value
            return answer

    def load(self, id: str) -> Record | None:
        return self._run(_load(id))

    def create(self, record: Record) -> bool:
        return self._run(_create(record))

    def save(self, record: Record, expected_version: int, *, payload_only: bool = False) -> Outcome:
        return self._run(_save(record, expected_version, payload_only))

    def touch(self, id: str, last_activity: int, expires_at: int) -> bool:
        return self._run(_touch(id, last_activity, expires_at))

    def delete(self, id: str, *, expected_version: int | None = None) -> Outcome:
        return self._run(_delete(id, expected_version))

    def close(self, id: str, expected_version: int, *, until: int, successor: str | None = None) -> Outcome:
        return self._run(_close(id, expected_version, until, successor))

    def rotate(
        self, record: Record, old_id: str, expected_version: int, *, until: int, successor: str | None = None
    ) -> Outcome:
        """Never called: ``can_rotate`` is false."""
        raise NotImplementedError("two stores cannot rotate in one step")

    def list_user(self, user_id: str) -> list[Record]:
        return self._run(_list_user(user_id))

    def delete_user(self, user_id: str, *, except_id: str | None = None) -> int:
        return self._run(_delete_user(user_id, except_id))

    def purge(self, now: int, limit: int) -> int:
        return self._run(_purge(now, limit))

    def initialize(self) -> None:
        for store in self._stores:
            store.initialize()

    def open_existing(self) -> None:
        """``initialize()``, but nothing is made, where the stores know how."""
        for store in self._stores:
            getattr(store, "open_existing", store.initialize)()

    def teardown(self) -> None:
        for store in self._stores:
            store.teardown()


class AsyncMigratingStore(_Both):
    """*new* and *old* as one store that is awaited, whatever each of them is."""

    def __init__(self, new: Any, old: Any) -> None:
        super().__init__(*(store if is_awaited(store) else loop_faces(store)[1] for store in (new, old)))
        self._given = (new, old)
        self.built_in = getattr(new, "built_in", None) or getattr(old, "built_in", None)

    async def _run(self, steps: Steps[T]) -> T:
        try:
            which, operation = next(steps)
            while True:
                which, operation = steps.send(await operation.ask(self._stores[which]))
        except StopIteration as stop:
            answer: T = stop.value
            return answer

    async def load(self, id: str) -> Record | None:
        return await self._run(_load(id))

    async def create(self, record: Record) -> bool:
        return await self._run(_create(record))

    async def save(self, record: Record, expected_version: int, *, payload_only: bool = False) -> Outcome:
        return await self._run(_save(record, expected_version, payload_only))

    async def touch(self, id: str, last_activity: int, expires_at: int) -> bool:
        return await self._run(_touch(id, last_activity, expires_at))

    async def delete(self, id: str, *, expected_version: int | None = None) -> Outcome:
        return await self._run(_delete(id, expected_version))

    async def close(self, id: str, expected_version: int, *, until: int, successor: str | None = None) -> Outcome:
        return await self._run(_close(id, expected_version, until, successor))

    async def rotate(
        self, record: Record, old_id: str, expected_version: int, *, until: int, successor: str | None = None
    ) -> Outcome:
        """Never called: ``can_rotate`` is false."""
        raise NotImplementedError("two stores cannot rotate in one step")

    async def list_user(self, user_id: str) -> list[Record]:
        return await self._run(_list_user(user_id))

    async def delete_user(self, user_id: str, *, except_id: str | None = None) -> int:
        return await self._run(_delete_user(user_id, except_id))

    async def purge(self, now: int, limit: int) -> int:
        return await self._run(_purge(now, limit))

    async def initialize(self) -> None:
        for store in self._stores:
            await store.initialize()

    async def open_existing(self) -> None:
        """``initialize()``, but nothing is made, where the stores know how."""
        from asyncio import to_thread

        for store in self._given:
            opening = getattr(store, "open_existing", store.initialize)
            await (opening() if is_awaited(store) else to_thread(opening))

    async def teardown(self) -> None:
        for store in self._stores:
            await store.teardown()


# -- where a session is ------------------------------------------------------------------------------------------------


def _load(id: str) -> Steps[Record | None]:
    record: Record | None = yield NEW, Load(id)
    if record is None:
        record = yield OLD, Load(id)
        if record is None:  # it may have moved between the two looks
            record = yield NEW, Load(id)
    return record


def _create(record: Record) -> Steps[bool]:
    if (yield OLD, Load(record.id)) is not None:
        return False
    created: bool = yield NEW, Create(record)
    return created


def _move(old: Record, record: Record) -> Steps[Outcome]:
    """Bring *record*, which is *old* with what is to be changed, to the new store: SAVED, CONFLICT or GONE.

    CONFLICT: look again; *old* has changed, or somebody else moves it.
    """
    if (yield NEW, Create(record)) is not True:
        return Outcome.CONFLICT
    outcome: Outcome = yield OLD, Delete(old.id, old.version)
    if outcome is Outcome.DELETED:
        return Outcome.SAVED
    if outcome is Outcome.CONFLICT:
        yield NEW, Delete(record.id, record.version)
    else:
        yield from _take_along(record.id)
    return outcome


def _take_along(id: str) -> Steps[None]:
    """The session *id* has ended: so has the copy, whatever was made of it."""
    for _ in range(_TRIES):
        there: Record | None = yield NEW, Load(id)
        if there is None or there.closed or (yield NEW, Delete(id, there.version)) is Outcome.DELETED:
            return


# -- changes -----------------------------------------------------------------------------------------------------------


def _save(record: Record, expected: int, payload_only: bool) -> Steps[Outcome]:
    outcome: Outcome
    for _ in range(_TRIES):
        outcome = yield NEW, Save(record, expected, payload_only)
        if outcome is not Outcome.GONE:
            return outcome
        old: Record | None = yield OLD, Load(record.id)
        if old is None:  # moved between the two looks, or there is none
            outcome = yield NEW, Save(record, expected, payload_only)
            return outcome
        if old.closed:
            return Outcome.GONE
        if old.version != expected:
            return Outcome.CONFLICT
        kept = record
        if payload_only:  # a touch may have moved the stored times on
            kept = structs.replace(old, version=record.version, payload=record.payload)
        outcome = yield from _move(old, kept)
        if outcome is not Outcome.CONFLICT:
            return outcome
        there: Record | None = yield NEW, Load(record.id)
        if there is not None and there.closed:
            return Outcome.GONE
    return Outcome.CONFLICT


def _touch(id: str, last_activity: int, expires_at: int) -> Steps[bool]:
    for _ in range(_TRIES):
        if (yield NEW, Touch(id, last_activity, expires_at)) is True:
            return True
        old: Record | None = yield OLD, Load(id)
        if old is None:
            touched: bool = yield NEW, Touch(id, last_activity, expires_at)
            return touched
        there: Record | None = yield NEW, Load(id)
        if old.closed or (there is not None and there.closed):
            return False
        times = {
            "last_activity": max(old.last_activity, last_activity),
            "expires_at": max(old.expires_at, expires_at),
        }
        moved = yield from _move(old, structs.replace(old, **times))
        if moved is not Outcome.CONFLICT:
            return moved is Outcome.SAVED
    raise StoreConflictError(_TRIES)


# -- endings: the old store first --------------------------------------------------------------------------------------


def _delete(id: str, expected: int | None) -> Steps[Outcome]:
    if expected is None:
        before = yield OLD, Delete(id)
        after = yield NEW, Delete(id)
        return Outcome.DELETED if Outcome.DELETED in (before, after) else Outcome.GONE
    return (yield from _end(id, expected, Delete(id, expected)))


def _close(id: str, expected: int, until: int, successor: str | None) -> Steps[Outcome]:
    return (yield from _end(id, expected, Close(id, expected, until, successor)))


def _end(id: str, expected: int, ending: Operation) -> Steps[Outcome]:
    """*ending*, wherever the session is, if it still has the version *expected*."""
    for _ in range(_TRIES):
        there: Record | None = yield NEW, Load(id)
        outcome: Outcome
        if there is not None:
            if there.closed:
                return Outcome.GONE
            if there.version != expected:
                return Outcome.CONFLICT
            yield OLD, Delete(id)
            outcome = yield NEW, ending
            return outcome
        outcome = yield OLD, ending
        if outcome is not Outcome.GONE:
            return outcome
        if (yield NEW, Load(id)) is None:  # else it has moved between the two looks
            return Outcome.GONE
    raise StoreConflictError(_TRIES)


# -- users, and time ---------------------------------------------------------------------------------------------------


def _list_user(user_id: str) -> Steps[list[Record]]:
    old: list[Record] = yield OLD, ListUser(user_id)
    new: list[Record] = yield NEW, ListUser(user_id)
    found = {record.id: record for record in (*old, *new)}  # the copy counts
    return sorted(found.values(), key=lambda record: record.created_at, reverse=True)


def _delete_user(user_id: str, except_id: str | None) -> Steps[int]:
    old: list[Record] = yield OLD, ListUser(user_id)
    ended = set()
    for record in old:  # one by one: a session that is on its way is in both stores, and counts once
        if record.id != except_id and (yield OLD, Delete(record.id, record.version)) is Outcome.DELETED:
            ended.add(record.id)
    rest: int = yield OLD, DeleteUser(user_id, except_id)
    for gone in ended:
        yield from _take_along(gone)
    more: int = yield NEW, DeleteUser(user_id, except_id)
    return len(ended) + rest + more


def _purge(now: int, limit: int) -> Steps[int]:
    gone: int = yield OLD, Purge(now, limit)
    if gone < limit:
        more: int = yield NEW, Purge(now, limit - gone)
        gone += more
    return gone
