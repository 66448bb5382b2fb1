"""RedisStore and AsyncRedisStore: records on a Redis or Valkey server, behind Sentinel, or on a Cluster.

Decided here: the two kinds. ``RedisStore`` is called, ``AsyncRedisStore`` is awaited; ``RedisStore(url).aio()`` is the
latter, so one URL serves WSGI, ASGI and scripts. Both run the same flows (``redis_calls``) over a *line*, which
differs by kind and by server (``redis_sync``, ``redis_async``).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import redis
import redis.asyncio

from ..core.operations import AsyncStore, Outcome
from ..core.record import Record
from ..core.runners import arun, run
from ..errors import ConfigurationError
from . import StoreStats
from .faces import on_threads
from .redis_async import Batched, ClusteredAwaited
from .redis_calls import SAVED, Calls, ClusterCalls
from .redis_layout import Keys
from .redis_sync import Clustered, Kept, Replicas
from .redis_url import Place, describe, refuse_stale, split_url
from .url import SCHEMES, StoreURL, read_url

__all__ = ["AsyncRedisStore", "RedisStore", "from_url"]

_CALLED = (redis.Redis, redis.RedisCluster)
_AWAITED = (redis.asyncio.Redis, redis.asyncio.RedisCluster)


class _Plan(NamedTuple):
    """What both kinds know once their arguments are understood."""

    calls: Calls
    where: str
    place: Place | None  # from a URL
    clustered: bool
    replicas: Replicas | None
    seconds: float | None  # what a batch may take


def _plan(source: Any, kinds: tuple[type, ...], other: str, arguments: dict[str, Any]) -> _Plan:
    place = None
    if isinstance(source, str):
        url = read_url(source)
        if SCHEMES[url.scheme] != "redis":
            raise ConfigurationError(f"{url.scheme}: is not the URL of a Redis server")
        place, own = split_url(url)
        arguments = {**arguments, **own}
        where, clustered, seconds = place.where, place.kind == "cluster", place.seconds
    elif isinstance(source, kinds):
        refuse_stale(source)
        pool = getattr(source, "connection_pool", None)
        clustered = pool is None
        kwargs = {} if pool is None else pool.connection_kwargs
        seconds = kwargs.get("socket_timeout", 5.0)
        service = getattr(pool, "service_name", None)
        where = "Redis Cluster" if clustered else f"Redis {service!r} of Sentinel" if service else describe(kwargs)
    elif isinstance(source, _CALLED + _AWAITED):
        raise ConfigurationError(f"this Redis client is of the other kind: pass it to {other}")
    else:
        raise ConfigurationError("a Redis store needs a URL such as redis://localhost:6379/0, or a client of redis-py")
    replicas, wait = arguments["wait_replicas"], arguments["wait_timeout"]
    if type(replicas) is not int or replicas < 0:
        raise ConfigurationError(f"wait_replicas must be a whole number of at least 0, not {replicas!r}")
    if not 0 < wait <= (seconds or 3600):
        raise ConfigurationError(f"wait_timeout must be more than 0 seconds and at most socket_timeout, not {wait!r}")
    if replicas and clustered:
        raise ConfigurationError("a Cluster cannot wait for replicas; set min-replicas-to-write on its servers")
    kind = ClusterCalls if clustered else Calls
    calls = kind(Keys(arguments["table_index"]), where, arguments["clock"])
    waits = Replicas(replicas, wait, where) if replicas else None
    limit = seconds + wait if waits and seconds else seconds
    return _Plan(calls, where, place, clustered, waits, limit)


class RedisStore:
    """A store on the Redis server that *source* names: a URL, or a client of redis-py that is called.

    *table_index* begins every key. *wait_replicas*: how many replicas must have a write before it is acknowledged,
    within *wait_timeout* seconds (a Cluster cannot). *clock*: Unix seconds, for ``purge`` only. What a URL says of
    these wins. Each thread keeps a connection. Raises ConfigurationError for its arguments; every call may raise
    StoreError.
    """

    def __init__(
        self,
        source: str | redis.Redis | redis.RedisCluster,
        *,
        table_index: str = "default",
        wait_replicas: int = 0,
        wait_timeout: float = 1.0,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._source = source
        self._arguments: dict[str, Any] = {
            "table_index": table_index,
            "wait_replicas": wait_replicas,
            "wait_timeout": wait_timeout,
            "clock": clock,
        }
        plan = _plan(source, _CALLED, "AsyncRedisStore", self._arguments)
        self._calls = plan.calls
        self._where = plan.where
        self._awaited: AsyncStore | None = None
        self.can_rotate = plan.calls.can_rotate
        client: Any = source
        self._line: Any
        if plan.place is None and plan.clustered:
            self._line = Clustered(lambda: client, plan.where, lambda client: None)
        elif plan.place is None:
            self._line = Kept(client.connection_pool, plan.where, plan.replicas, lambda: None)
        elif plan.clustered:
            self._line = Clustered(plan.place.cluster, plan.where, lambda client: client.close())
        else:
            pool, end = plan.place.pool()
            self._line = Kept(pool, plan.where, plan.replicas, end)

    def __repr__(self) -> str:
        return f"<RedisStore {self._where}>"

    def aio(self) -> AsyncStore:
        """The awaited face: from a URL an ``AsyncRedisStore``, else this store on threads."""
        if self._awaited is None:
            url = isinstance(self._source, str)
            self._awaited = AsyncRedisStore(self._source, **self._arguments) if url else on_threads(self)  # type: ignore[arg-type]
        return self._awaited

    def load(self, id: str) -> Record | None:
        return self._calls.loaded(id, self._line.get(self._calls.key(id)))

    def create(self, record: Record) -> bool:
        return run(self._calls.create(record), self._line)

    def save(self, record: Record, expected_version: int, *, payload_only: bool = False) -> Outcome:
        if payload_only:
            return SAVED[self._line.ask(self._calls.save_payload(record, expected_version))]
        return run(self._calls.save(record, expected_version), self._line)

    def touch(self, id: str, last_activity: int, expires_at: int) -> bool:
        return run(self._calls.touch(id, last_activity, expires_at), self._line)

    def delete(self, id: str, *, expected_version: int | None = None) -> Outcome:
        return run(self._calls.delete(id, expected_version), self._line)

    def close(self, id: str, expected_version: int, *, until: int, successor: str | None = None) -> Outcome:
        return run(self._calls.close(id, expected_version, until, successor), self._line)

    def rotate(
        self, record: Record, old_id: str, expected_version: int, *, until: int, successor: str | None = None
    ) -> Outcome:
        return run(self._calls.rotate(record, old_id, expected_version, until, successor), self._line)

    def list_user(self, user_id: str) -> list[Record]:
        return run(self._calls.list_user(user_id), self._line)

    def delete_user(self, user_id: str, *, except_id: str | None = None) -> int:
        return run(self._calls.delete_user(user_id, except_id), self._line)

    def purge(self, now: int, limit: int) -> int:
        return run(self._calls.purge(now, limit), self._line)

    def stats(self, now: int) -> StoreStats:
        """What is kept, as of *now*, page by page, so that nobody waits; ``expired`` is dropped within minutes.

        A record that comes or goes meanwhile may be missed, or count twice. Raises StoreError.
        """
        return run(self._calls.stats(now), self._line)

    def count_expired(self, now: int) -> int:
        """How many records ``purge`` would remove: none at present. Raises StoreError."""
        return run(self._calls.count_expired(now), self._line)

    def initialize(self) -> None:
        """Reach every server, load the scripts, and warn when a full server would drop sessions. Raises StoreError."""
        run(self._calls.initialize(), self._line)

    def teardown(self) -> None:
        """Close the connections of all threads, or give them back to the client. A later call opens anew."""
        self._line.close()


class AsyncRedisStore:
    """``RedisStore``, awaited: *source* is a URL, or a client of ``redis.asyncio``, which belongs to one event loop.

    What falls due in one tick of the event loop travels together, on one connection; a Cluster's client routes itself.
    """

    def __init__(
        self,
        source: str | redis.asyncio.Redis | redis.asyncio.RedisCluster,
        *,
        table_index: str = "default",
        wait_replicas: int = 0,
        wait_timeout: float = 1.0,
        clock: Callable[[], float] = time.time,
    ) -> None:
        arguments = {
            "table_index": table_index,
            "wait_replicas": wait_replicas,
            "wait_timeout": wait_timeout,
            "clock": clock,
        }
        plan = _plan(source, _AWAITED, "RedisStore", arguments)
        self._calls = plan.calls
        self._where = plan.where
        self.can_rotate = plan.calls.can_rotate
        place, client = plan.place, source
        self._line: Any
        if plan.clustered:
            make = (lambda: client) if place is None else place.acluster
            self._line = ClusteredAwaited(make, plan.where, ours=place is not None)
        else:
            pools: Any = (lambda: (client.connection_pool, None)) if place is None else place.apool  # type: ignore[union-attr]
            self._line = Batched(pools, plan.where, plan.seconds, plan.replicas)

    def __repr__(self) -> str:
        return f"<AsyncRedisStore {self._where}>"

    async def load(self, id: str) -> Record | None:
        return self._calls.loaded(id, await self._line.get(self._calls.key(id)))

    async def create(self, record: Record) -> bool:
        return await arun(self._calls.create(record), self._line)

    async def save(self, record: Record, expected_version: int, *, payload_only: bool = False) -> Outcome:
        if payload_only:
            return SAVED[await self._line.ask(self._calls.save_payload(record, expected_version))]
        return await arun(self._calls.save(record, expected_version), self._line)

    async def touch(self, id: str, last_activity: int, expires_at: int) -> bool:
        return await arun(self._calls.touch(id, last_activity, expires_at), self._line)

    async def delete(self, id: str, *, expected_version: int | None = None) -> Outcome:
        return await arun(self._calls.delete(id, expected_version), self._line)

    async def close(self, id: str, expected_version: int, *, until: int, successor: str | None = None) -> Outcome:
        return await arun(self._calls.close(id, expected_version, until, successor), self._line)

    async def rotate(
        self, record: Record, old_id: str, expected_version: int, *, until: int, successor: str | None = None
    ) -> Outcome:
        return await arun(self._calls.rotate(record, old_id, expected_version, until, successor), self._line)

    async def list_user(self, user_id: str) -> list[Record]:
        return await arun(self._calls.list_user(user_id), self._line)

    async def delete_user(self, user_id: str, *, except_id: str | None = None) -> int:
        return await arun(self._calls.delete_user(user_id, except_id), self._line)

    async def purge(self, now: int, limit: int) -> int:
        return await arun(self._calls.purge(now, limit), self._line)

    async def stats(self, now: int) -> StoreStats:
        """As ``RedisStore.stats``. Raises StoreError."""
        return await arun(self._calls.stats(now), self._line)

    async def count_expired(self, now: int) -> int:
        """As ``RedisStore.count_expired``. Raises StoreError."""
        return await arun(self._calls.count_expired(now), self._line)

    async def initialize(self) -> None:
        """As ``RedisStore.initialize``. Raises StoreError."""
        await arun(self._calls.initialize(), self._line)

    async def teardown(self) -> None:
        """Close this event loop's connection. A later call opens a new one."""
        await self._line.close()


def from_url(url: StoreURL) -> RedisStore:
    """The store of a ``redis:`` URL and its relatives, see ``redis_url``. Raises ConfigurationError."""
    return RedisStore(url.text, table_index=url.table_index)
