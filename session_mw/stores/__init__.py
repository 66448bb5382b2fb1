"""What the author of a store imports; the stores themselves are modules beside this one.

A store keeps ``Record``s and decides nothing about them: ids have passed a strict grammar before it sees them, the
payload is opaque bytes, time is judged elsewhere. The contract, method by method, is the docstring of ``Store``
(answers when called) or ``AsyncStore`` (is awaited): implement one of the two. In short:

* ``create`` never overwrites; ``save`` and ``touch`` never revive; ids and users compare byte by byte.
* ``save``, ``delete``, ``close`` and ``rotate`` are atomic compare-and-swaps on the version and answer an ``Outcome``.
* A closed record (``closed_record`` makes one) answers ``load``, takes its id, is purged; for all else it is not there.
* A failing backend raises ``StoreError`` with the backend's exception as its cause; a lock that was not free in time
  raises ``StoreBusyError``, and then nothing was changed.

A store that answers when called may offer two more faces of the same data, for event loops:

* ``inline() -> Store``: waits at most 50 ms for a lock, else ``StoreBusyError``: the caller repeats it on a thread.
* ``aio() -> AsyncStore``: awaited; ``session_mw.stores.faces.Awaited`` makes one of the two other faces.

``session_mw.testing.StoreContract`` checks all of it on all faces.

For operators (the command line asks) a store may offer more; an awaited store awaits all but ``schema``:

* ``stats(now) -> StoreStats`` and ``count_expired(now) -> int``, together (``Inspectable``): they change nothing.
* ``open_existing()``: ``initialize()``, but nothing is made; ``StoreError`` where it would have to be.
* ``schema() -> str``: the SQL that makes what the store needs, each statement ended by ``;``. Opens nothing.
"""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

import msgspec

from ..core.operations import AsyncStore, Outcome, Store
from ..core.record import Record
from ..errors import StoreBusyError, StoreError

__all__ = [
    "AsyncStore",
    "Inspectable",
    "Outcome",
    "Record",
    "Store",
    "StoreBusyError",
    "StoreError",
    "StoreStats",
    "closed_record",
]


def closed_record(id: str, digest: bytes, *, until: int, successor: str | None = None) -> Record:
    """What is left of an ended session: no data, no owner, nothing personal. *until*: Unix seconds."""
    return Record(id, digest, None, 0, 0, until, until, None, None, None, 0, b"", closed=True, successor=successor)


class StoreStats(msgspec.Struct, frozen=True, kw_only=True):
    """What a store holds at one moment; every record counts once: as live, expired or closed.

    Times are Unix seconds. ``None``: the store cannot say, or there is no live record.
    """

    live: int
    expired: int  # what purge would delete, closed records whose minute is over included
    closed: int  # ended less than a minute ago
    users: int | None  # owners of live records
    oldest: int | None  # created_at of a live record
    newest: int | None
    payload_bytes: int | None  # of the live records


@runtime_checkable
class Inspectable(Protocol):
    """A store that can be looked over; an awaited one awaits both. Neither changes anything."""

    def stats(self, now: int) -> Any:
        """``StoreStats``. May read every record, and may miss what changes meanwhile. Raises StoreError."""
        ...

    def count_expired(self, now: int) -> Any:
        """How many records ``purge`` would delete now: an int, by index. Raises StoreError."""
        ...
