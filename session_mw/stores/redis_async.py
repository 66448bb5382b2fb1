"""Lines that are awaited: one batcher per event loop, or a Cluster's own client.

Decided here: what belongs to an event loop. A connection is bound to the loop it was opened on, so every loop has
its own batcher and, from a URL, its own client; those of a loop that has ended are forgotten.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, Generic, TypeVar

from redis.exceptions import NoScriptError

from .redis_batch import Batcher
from .redis_calls import Ask
from .redis_faults import BROKEN, FAULTS, fault
from .redis_sync import Replicas, checked, pack, with_source

__all__ = ["Batched", "ClusteredAwaited"]

T = TypeVar("T")


class _PerLoop(Generic[T]):
    """One *make()* per event loop."""

    def __init__(self, make: Callable[[], T]) -> None:
        self._make = make
        self._made: dict[asyncio.AbstractEventLoop, T] = {}

    def get(self) -> T:
        loop = asyncio.get_running_loop()
        found = self._made.get(loop)
        if found is None:
            for other in [other for other in self._made if other.is_closed()]:
                self._made.pop(other, None)
            found = self._made[loop] = self._make()
        return found

    def pop(self) -> T | None:
        """This loop's, no longer kept."""
        return self._made.pop(asyncio.get_running_loop(), None)


class Batched:
    """The line to a single server, or to the primary that Sentinel names.

    *make* gives a pool of connections and what closes it, once per event loop. *seconds*: what a batch may take.
    """

    def __init__(
        self,
        make: Callable[[], tuple[Any, Callable[[], Awaitable[None]] | None]],
        where: str,
        seconds: float | None,
        replicas: Replicas | None,
    ) -> None:
        self._where = where
        self._seconds = seconds
        self._replicas = replicas
        self._pools = make
        self._loops = _PerLoop(self._open)

    def _open(self) -> tuple[Batcher, Callable[[], Awaitable[None]] | None]:
        pool, close = self._pools()
        return Batcher(pool, self._seconds, self._replicas), close

    async def nodes(self) -> tuple[None]:
        """The one server."""
        return (None,)

    async def get(self, key: str) -> bytes | None:
        """The value of *key*. Raises StoreError."""
        try:
            value = await self._loops.get()[0].get(key)
        except UnicodeEncodeError as error:
            raise fault(self._where, error) from error
        found: bytes | None = checked(self._where, value) if isinstance(value, Exception) else value
        return found

    async def ask(self, ask: Ask) -> Any:
        """The server's answer. Raises StoreError."""
        send = self._loops.get()[0].send
        try:
            answer = await send(pack(ask.args), reads=ask.reads)
        except UnicodeEncodeError as error:
            raise fault(self._where, error) from error
        if isinstance(answer, NoScriptError):
            answer = await send(pack(with_source(ask.args)), reads=ask.reads)
        return checked(self._where, answer) if isinstance(answer, Exception) else answer

    async def close(self) -> None:
        """Close this loop's connection; a later call opens a new one."""
        made = self._loops.pop()
        if made is not None:
            batcher, close = made
            await batcher.close()
            if close is not None:
                with suppress(*FAULTS):  # a farewell nobody answers
                    await close()


class ClusteredAwaited:
    """The line to a Cluster, through the client that *make* makes, once per event loop. *ours*: to be closed here."""

    def __init__(self, make: Callable[[], Any], where: str, *, ours: bool) -> None:
        self._where = where
        self._ours = ours
        self._loops = _PerLoop(make)

    async def _ask(self, work: Callable[[Any], Awaitable[Any]], *, reads: bool) -> Any:
        client = self._loops.get()
        try:
            try:
                return await work(client)
            except BROKEN:
                if not reads:
                    raise
            return await work(client)  # outside: its failure is to have no other behind it
        except FAULTS as error:
            raise fault(self._where, error) from error

    async def nodes(self) -> list[Any]:
        """All primaries. Raises StoreError."""

        async def work(client: Any) -> list[Any]:
            await client.initialize()
            found: list[Any] = client.get_primaries()
            return found

        primaries: list[Any] = await self._ask(work, reads=True)
        return primaries

    async def get(self, key: str) -> bytes | None:
        """The value of *key*. Raises StoreError."""
        found: bytes | None = await self._ask(lambda client: client.execute_command("GET", key), reads=True)
        return found

    async def values(self, keys: list[str]) -> list[bytes | None]:
        """The values of *keys*, asked of all nodes at once. Raises StoreError."""
        found: list[bytes | None] = await self._ask(lambda client: client.mget_nonatomic(keys), reads=True)
        return found

    async def ask(self, ask: Ask) -> Any:
        """The answer of the node that has the key, or of ``ask.node``. Raises StoreError."""

        async def work(client: Any) -> Any:
            place = client if ask.node is None else ask.node
            try:
                return await place.execute_command(*ask.args)
            except NoScriptError:
                return await place.execute_command(*with_source(ask.args))

        return await self._ask(work, reads=ask.reads)

    async def close(self) -> None:
        """Close this loop's client if it is ours; a later call makes a new one."""
        client = self._loops.pop()
        if client is not None and self._ours:
            with suppress(*FAULTS):
                await client.aclose()
