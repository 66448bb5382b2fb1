"""The database store that answers when called."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Engine

from ..core.operations import Outcome
from ..core.record import Record
from ..core.runners import run
from . import StoreStats
from .sql_connections import Connections
from .sql_flows import Flow, Flows, T

__all__ = ["SyncDatabaseStore"]


class SyncDatabaseStore:
    """Records in the database of *engine*, whose driver answers when called; ``DatabaseStore`` makes one.

    *settings* are those of ``Flows``. Every call may raise StoreError, or StoreBusyError.
    """

    can_rotate = True

    def __init__(self, engine: Engine, **settings: Any) -> None:
        self._flows = Flows(engine, **settings)
        self._connections: Any = _Called(self._flows.connections)

    def __repr__(self) -> str:
        return f"<SyncDatabaseStore {self._flows.connections.place} {self._flows.table.name}>"

    def _run(self, flow: Flow[T]) -> T:
        return run(flow, self._connections)

    def load(self, id: str) -> Record | None:
        return self._run(self._flows.load(id))

    def create(self, record: Record) -> bool:
        return self._run(self._flows.create(record))

    def save(self, record: Record, expected_version: int, *, payload_only: bool = False) -> Outcome:
        return self._run(self._flows.save(record, expected_version, payload_only))

    def touch(self, id: str, last_activity: int, expires_at: int) -> bool:
        return self._run(self._flows.touch(id, last_activity, expires_at))

    def delete(self, id: str, *, expected_version: int | None = None) -> Outcome:
        return self._run(self._flows.delete(id, expected_version))

    def close(self, id: str, expected_version: int, *, until: int, successor: str | None = None) -> Outcome:
        return self._run(self._flows.close(id, expected_version, until, successor))

    def rotate(
        self, record: Record, old_id: str, expected_version: int, *, until: int, successor: str | None = None
    ) -> Outcome:
        return self._run(self._flows.rotate(record, old_id, expected_version, until, successor))

    def list_user(self, user_id: str) -> list[Record]:
        return self._run(self._flows.list_user(user_id))

    def delete_user(self, user_id: str, *, except_id: str | None = None) -> int:
        return self._run(self._flows.delete_user(user_id, except_id))

    def purge(self, now: int, limit: int) -> int:
        return self._run(self._flows.purge(now, limit))

    def initialize(self) -> None:
        """Connect, and see that the table is there. Raises StoreError, whose message says how to make it."""
        self._run(self._flows.initialize())

    def teardown(self) -> None:
        """Close connections; an engine that was given stays open. A later call opens anew."""
        self._run(self._flows.teardown())

    def open_existing(self) -> None:
        """As ``initialize``, but nothing is made. Raises StoreError."""
        self._run(self._flows.open_existing())

    def stats(self, now: int) -> StoreStats:
        """What the table holds; reads all of it. Raises StoreError."""
        return self._run(self._flows.stats(now))

    def count_expired(self, now: int) -> int:
        """How many records ``purge`` would delete now, by index. Raises StoreError."""
        return self._run(self._flows.count_expired(now))

    def create_schema(self) -> None:
        """Make the table and its indexes where they are missing. Raises StoreError."""
        self._run(self._flows.create_schema())

    def schema(self) -> str:
        """The statements that make the table and its indexes, as text for whoever runs migrations."""
        return self._flows.schema()


class _Called:
    """What the runner asks."""

    def __init__(self, connections: Connections) -> None:
        self._connections = connections
        self.put = connections.put

    def have(self, how: str, *arguments: Any) -> Any:
        return getattr(self._connections, how)(*arguments)
