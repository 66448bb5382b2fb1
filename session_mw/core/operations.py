"""Operations: everything a flow can ask of a store, and the two store protocols that answer.

A flow yields one of these frozen values and is sent the answer. ``operation.ask(store)`` makes the call: with a
``Store`` it returns the answer, with an ``AsyncStore`` an awaitable of it. Nothing here decides anything.

The rules every store keeps (``session_mw.testing.StoreContract`` checks them):

* ``create`` never overwrites, ``save`` and ``touch`` never revive, ids and users compare byte by byte.
* ``save``, ``close``, ``rotate`` and ``delete`` with an expected version are atomic compare-and-swaps:
  ``CONFLICT`` when the live record has another version, ``GONE`` when there is none or it is closed.
* A closed record answers ``load`` and nothing else: it is never listed, saved, touched or counted.
* A store does not judge time; only ``purge`` looks at ``expires_at``.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Generator
from typing import Any, Protocol, TypeAlias, TypeVar, runtime_checkable

import msgspec

from .record import Record

__all__ = [
    "AsyncStore",
    "Close",
    "Consult",
    "Create",
    "Delete",
    "DeleteUser",
    "Flow",
    "ListUser",
    "Load",
    "Operation",
    "Outcome",
    "Purge",
    "Rotate",
    "Save",
    "Store",
    "Touch",
]


class Outcome(enum.Enum):
    """How a compare-and-swap ended."""

    SAVED = "saved"  # save, rotate
    DELETED = "deleted"  # delete, close
    CONFLICT = "conflict"  # a live record of another version is there; nothing was changed
    GONE = "gone"  # no live record; nothing was changed


@runtime_checkable
class Store(Protocol):
    """A store that answers when called. Any method may raise ``StoreError``.

    ``can_rotate``: whether ``rotate`` is one atomic step here (else it is never called).
    """

    can_rotate: bool

    def load(self, id: str) -> Record | None:
        """The record of *id*, closed ones included, expired ones included; ``None`` when there is none."""
        ...

    def create(self, record: Record) -> bool:
        """Insert *record*; ``False``, and nothing changed, when its id is taken (by a closed record too)."""
        ...

    def save(self, record: Record, expected_version: int, *, payload_only: bool = False) -> Outcome:
        """Replace the live record of ``record.id`` if it still has *expected_version*: SAVED, CONFLICT or GONE.

        ``payload_only`` is a hint: only ``version`` and ``payload`` differ from the stored record.
        """
        ...

    def touch(self, id: str, last_activity: int, expires_at: int) -> bool:
        """Raise both times of a live record, never lower them; the payload and version stay. ``False`` if gone."""
        ...

    def delete(self, id: str, *, expected_version: int | None = None) -> Outcome:
        """Remove a record: DELETED, CONFLICT or GONE. Without a version, a closed record goes too (GONE)."""
        ...

    def close(self, id: str, expected_version: int, *, until: int, successor: str | None = None) -> Outcome:
        """Turn a live record into a closed one that keeps id and digest only and expires at *until*.

        DELETED, CONFLICT or GONE. A user who owned it no longer lists it.
        """
        ...

    def rotate(
        self, record: Record, old_id: str, expected_version: int, *, until: int, successor: str | None = None
    ) -> Outcome:
        """``create(record)`` and ``close(old_id, …)`` in one atomic step: SAVED, CONFLICT or GONE."""
        ...

    def list_user(self, user_id: str) -> list[Record]:
        """Live records of *user_id*, newest ``created_at`` first, by index; expired ones may be among them.

        Those of one second may come in any order.
        """
        ...

    def delete_user(self, user_id: str, *, except_id: str | None = None) -> int:
        """Remove every live record of *user_id* but *except_id*; how many."""
        ...

    def purge(self, now: int, limit: int) -> int:
        """Remove at most *limit* records (closed ones included) with ``expires_at <= now``; how many."""
        ...

    def initialize(self) -> None:
        """Open connections, create what is missing, fail early. Idempotent."""
        ...

    def teardown(self) -> None:
        """Release connections. Idempotent; writes are already durable."""
        ...


@runtime_checkable
class AsyncStore(Protocol):
    """The same contract, awaited."""

    can_rotate: bool

    async def load(self, id: str) -> Record | None: ...
    async def create(self, record: Record) -> bool: ...
    async def save(self, record: Record, expected_version: int, *, payload_only: bool = False) -> Outcome: ...
    async def touch(self, id: str, last_activity: int, expires_at: int) -> bool: ...
    async def delete(self, id: str, *, expected_version: int | None = None) -> Outcome: ...
    async def close(self, id: str, expected_version: int, *, until: int, successor: str | None = None) -> Outcome: ...
    async def rotate(
        self, record: Record, old_id: str, expected_version: int, *, until: int, successor: str | None = None
    ) -> Outcome: ...
    async def list_user(self, user_id: str) -> list[Record]: ...
    async def delete_user(self, user_id: str, *, except_id: str | None = None) -> int: ...
    async def purge(self, now: int, limit: int) -> int: ...
    async def initialize(self) -> None: ...
    async def teardown(self) -> None: ...


AnyStore: TypeAlias = Store | AsyncStore


class Operation(msgspec.Struct, frozen=True, gc=False):
    """Base of all operations."""

    def ask(self, store: Any) -> Any:
        """Make the call on *store*; the answer, or an awaitable of it."""
        raise NotImplementedError


class Load(Operation, frozen=True, gc=False):
    id: str

    def ask(self, store: Any) -> Any:
        return store.load(self.id)


class Create(Operation, frozen=True, gc=False):
    record: Record

    def ask(self, store: Any) -> Any:
        return store.create(self.record)


class Save(Operation, frozen=True, gc=False):
    record: Record
    expected_version: int
    payload_only: bool = False

    def ask(self, store: Any) -> Any:
        return store.save(self.record, self.expected_version, payload_only=self.payload_only)


class Touch(Operation, frozen=True, gc=False):
    id: str
    last_activity: int
    expires_at: int

    def ask(self, store: Any) -> Any:
        return store.touch(self.id, self.last_activity, self.expires_at)


class Delete(Operation, frozen=True, gc=False):
    id: str
    expected_version: int | None = None

    def ask(self, store: Any) -> Any:
        return store.delete(self.id, expected_version=self.expected_version)


class Close(Operation, frozen=True, gc=False):
    id: str
    expected_version: int
    until: int
    successor: str | None = None

    def ask(self, store: Any) -> Any:
        return store.close(self.id, self.expected_version, until=self.until, successor=self.successor)


class Rotate(Operation, frozen=True, gc=False):
    record: Record
    old_id: str
    expected_version: int
    until: int
    successor: str | None = None

    def ask(self, store: Any) -> Any:
        return store.rotate(self.record, self.old_id, self.expected_version, until=self.until, successor=self.successor)


class ListUser(Operation, frozen=True, gc=False):
    user_id: str

    def ask(self, store: Any) -> Any:
        return store.list_user(self.user_id)


class DeleteUser(Operation, frozen=True, gc=False):
    user_id: str
    except_id: str | None = None

    def ask(self, store: Any) -> Any:
        return store.delete_user(self.user_id, except_id=self.except_id)


class Consult(Operation, frozen=True):
    """Ask an application's callback; not a store's business, but an answer that may have to be awaited."""

    callback: Callable[..., Any]
    arguments: tuple[Any, ...]

    def ask(self, store: Any) -> Any:
        return self.callback(*self.arguments)


class Purge(Operation, frozen=True, gc=False):
    now: int
    limit: int

    def ask(self, store: Any) -> Any:
        return store.purge(self.now, self.limit)


T = TypeVar("T")
Flow: TypeAlias = Generator[Operation, Any, T]
"""A decision that needs answers: yields operations, is sent their answers, returns its verdict."""
