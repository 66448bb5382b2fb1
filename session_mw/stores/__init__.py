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
"""

from __future__ import annotations

from ..core.operations import AsyncStore, Outcome, Store
from ..core.record import Record
from ..errors import StoreBusyError, StoreError

__all__ = ["AsyncStore", "Outcome", "Record", "Store", "StoreBusyError", "StoreError", "closed_record"]


def closed_record(id: str, digest: bytes, *, until: int, successor: str | None = None) -> Record:
    """What is left of an ended session: no data, no owner, nothing personal. *until*: Unix seconds."""
    return Record(id, digest, None, 0, 0, until, until, None, None, None, 0, b"", closed=True, successor=successor)
