"""The database store that is awaited.

Decided here: when a greenlet is needed, which is how SQLAlchemy awaits inside code that is not written for it. A
statement, or a transaction, on a connection that is there and in order is put to the driver and awaited, plainly;
everything else (opening a connection, waiting for one, a fault, a driver we do not know) runs in a greenlet, through
the same code as in the store that is called.

Connections belong to the event loop they were opened in. When that loop has ended they are forgotten, and the next call
opens new ones; while it runs, another loop is refused.
"""

from __future__ import annotations

from asyncio import AbstractEventLoop, get_running_loop
from collections.abc import Awaitable
from typing import Any

from sqlalchemy import Engine
from sqlalchemy.util import greenlet_spawn

from ..core.operations import Outcome
from ..core.record import Record
from ..core.runners import arun
from ..errors import StoreError
from . import StoreStats
from .sql_connections import Connections
from .sql_flows import Flow, Flows, T

__all__ = ["AsyncDatabaseStore"]


class AsyncDatabaseStore:
    """Records in the database of *engine*, an ``AsyncEngine.sync_engine``; ``DatabaseStore`` makes one.

    *settings* are those of ``Flows``. Every call may raise StoreError, or StoreBusyError.
    """

    can_rotate = True

    def __init__(self, engine: Engine, **settings: Any) -> None:
        self._flows = Flows(engine, **settings)
        self._connections: Any = _Awaited(self._flows.connections)
        self._loop: AbstractEventLoop | None = None

    def __repr__(self) -> str:
        return f"<AsyncDatabaseStore {self._flows.connections.place} {self._flows.table.name}>"

    def _run(self, flow: Flow[T]) -> Awaitable[T]:
        loop = get_running_loop()
        if loop is not self._loop:
            self._enter(loop)
        return arun(flow, self._connections)

    def _enter(self, loop: AbstractEventLoop) -> None:
        connections = self._flows.connections
        if connections.forked():
            connections.forget(keep=True)
        elif self._loop is not None:
            if not self._loop.is_closed():
                raise StoreError("this store is open in another event loop: make one for each, or teardown() there")
            connections.forget(keep=False)
        self._loop = loop

    async def load(self, id: str) -> Record | None:
        return await self._run(self._flows.load(id))

    async def create(self, record: Record) -> bool:
        return await self._run(self._flows.create(record))

    async def save(self, record: Record, expected_version: int, *, payload_only: bool = False) -> Outcome:
        return await self._run(self._flows.save(record, expected_version, payload_only))

    async def touch(self, id: str, last_activity: int, expires_at: int) -> bool:
        return await self._run(self._flows.touch(id, last_activity, expires_at))

    async def delete(self, id: str, *, expected_version: int | None = None) -> Outcome:
        return await self._run(self._flows.delete(id, expected_version))

    async def close(self, id: str, expected_version: int, *, until: int, successor: str | None = None) -> Outcome:
        return await self._run(self._flows.close(id, expected_version, until, successor))

    async def rotate(
        self, record: Record, old_id: str, expected_version: int, *, until: int, successor: str | None = None
    ) -> Outcome:
        return await self._run(self._flows.rotate(record, old_id, expected_version, until, successor))

    async def list_user(self, user_id: str) -> list[Record]:
        return await self._run(self._flows.list_user(user_id))

    async def delete_user(self, user_id: str, *, except_id: str | None = None) -> int:
        return await self._run(self._flows.delete_user(user_id, except_id))

    async def purge(self, now: int, limit: int) -> int:
        return await self._run(self._flows.purge(now, limit))

    async def initialize(self) -> None:
        """Connect, and see that the table is there. Raises StoreError, whose message says how to make it."""
        await self._run(self._flows.initialize())

    async def teardown(self) -> None:
        """Close connections; an engine that was given stays open. A later call opens anew, in any event loop."""
        await self._run(self._flows.teardown())
        self._loop = None

    async def open_existing(self) -> None:
        """As ``initialize``, but nothing is made. Raises StoreError."""
        await self._run(self._flows.open_existing())

    async def stats(self, now: int) -> StoreStats:
        """What the table holds; reads all of it. Raises StoreError."""
        return await self._run(self._flows.stats(now))

    async def count_expired(self, now: int) -> int:
        """How many records ``purge`` would delete now, by index. Raises StoreError."""
        return await self._run(self._flows.count_expired(now))

    async def create_schema(self) -> None:
        """Make the table and its indexes where they are missing. Raises StoreError."""
        await self._run(self._flows.create_schema())

    def schema(self) -> str:
        """The statements that make the table and its indexes, as text for whoever runs migrations."""
        return self._flows.schema()


class _Awaited:
    """What the runner asks."""

    def __init__(self, connections: Connections) -> None:
        self._connections = connections

    async def put(self, how: str, *arguments: Any) -> Any:
        connections = self._connections
        line: Any = connections.take(how)
        if line is None:
            return await greenlet_spawn(connections.put, how, *arguments)
        try:
            answer = await getattr(line, f"a{how}")(*arguments)
        except BaseException as error:
            await greenlet_spawn(connections.failed, line, error, True)
            return await greenlet_spawn(connections.put, how, *arguments)
        if connections.spare():
            await greenlet_spawn(connections.release, line)
        else:
            connections.release(line)
        return answer

    async def have(self, how: str, *arguments: Any) -> Any:
        return await greenlet_spawn(getattr(self._connections, how), *arguments)
