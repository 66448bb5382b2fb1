"""Where the server is: from a URL, or from a client that was made elsewhere.

    redis://user:password@host:6379/0     rediss:// with TLS, unix:///run/redis.sock?db=0
    redis+sentinel://host1:26379,host2:26379/service/0     rediss+sentinel://
    redis+cluster://host1:6379,host2:6379                  rediss+cluster://

Decided here: **nothing is retried by sleeping.** redis-py would repeat a failed command by itself, with pauses, while
a request waits, and a repeated write may find its own version changed; clients made here repeat nothing. A client
that is handed in keeps its own settings, but may not answer from a cache or a replica: that would be a session of the
past.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple
from urllib.parse import unquote, urlsplit

import redis
import redis.asyncio
import redis.asyncio.cluster
import redis.asyncio.retry
import redis.asyncio.sentinel
import redis.backoff
import redis.cluster
import redis.retry
import redis.sentinel

from ..errors import ConfigurationError
from .url import StoreURL, flag, options

__all__ = ["Place", "describe", "refuse_stale", "split_url"]

_Sentinel: Any = redis.sentinel.Sentinel  # these three have no types
_AsyncSentinel: Any = redis.asyncio.sentinel.Sentinel
_ClusterNode: Any = redis.cluster.ClusterNode

_SECONDS = 5.0  # redis-py's own limit


def _protocol(text: str) -> int:
    if text not in ("2", "3"):
        raise ValueError("RESP 2 or 3")
    return int(text)


_CONNECTION: dict[str, Callable[[str], Any]] = {  # names and meanings are redis-py's
    "client_name": str,
    "db": int,
    "health_check_interval": float,
    "max_connections": int,
    "password": str,
    "protocol": _protocol,
    "socket_connect_timeout": float,
    "socket_timeout": float,
    "ssl_ca_certs": str,
    "ssl_cert_reqs": str,
    "ssl_certfile": str,
    "ssl_check_hostname": flag,
    "ssl_keyfile": str,
    "username": str,
}
_SENTINEL: dict[str, Callable[[str], Any]] = {"sentinel_username": str, "sentinel_password": str}
_STORE: dict[str, Callable[[str], Any]] = {"table_index": str, "wait_replicas": int, "wait_timeout": float}


class Place(NamedTuple):
    """A URL understood. ``options`` are connection arguments, a password perhaps among them, hence the ``repr``."""

    kind: str  # "single", "sentinel" or "cluster"
    hosts: tuple[tuple[str, int], ...]
    service: str
    tls: bool
    options: dict[str, Any]
    sentinel: dict[str, Any]

    def __repr__(self) -> str:
        return f"<Place {self.where}>"

    @property
    def where(self) -> str:
        """What may be shown of it."""
        if self.kind == "single":
            return describe(self.options)
        names = ", ".join(f"{host}:{port}" for host, port in self.hosts)
        return f"Redis Cluster at {names}" if self.kind == "cluster" else f"Redis {self.service!r} of Sentinel {names}"

    @property
    def seconds(self) -> float:
        """What a command may take."""
        seconds: float = self.options["socket_timeout"]
        return seconds

    def pool(self) -> tuple[Any, Callable[[], None]]:
        """A pool of connections that are called, and what closes it."""
        kwargs = {**self.options, "retry": redis.retry.Retry(redis.backoff.NoBackoff(), 0)}
        if self.kind == "sentinel":
            manager = _Sentinel(self.hosts, sentinel_kwargs=self._sentinel(kwargs), **kwargs, **self._tls())
            pools = [manager.master_for(self.service).connection_pool]
            pools += [sentinel.connection_pool for sentinel in manager.sentinels]
        else:
            pools = [redis.ConnectionPool(connection_class=self._connection_class(redis), **kwargs)]

        def close() -> None:
            for pool in pools:  # other threads may be opening what they need now
                pool.disconnect(inuse_connections=False)

        return pools[0], close

    def apool(self) -> tuple[Any, Callable[[], Any]]:
        """The same for connections that are awaited. A batch has one time limit, so a connection needs none."""
        kwargs = {**self.options, "retry": redis.asyncio.retry.Retry(redis.backoff.NoBackoff(), 0)}
        if self.kind == "sentinel":
            asked = self._sentinel(kwargs)
            kwargs["socket_timeout"] = None
            manager = _AsyncSentinel(self.hosts, sentinel_kwargs=asked, **kwargs, **self._tls())
            client = manager.master_for(self.service)

            async def close() -> None:
                await client.aclose()
                await manager.aclose()

            return client.connection_pool, close
        kwargs["socket_timeout"] = None
        pool = redis.asyncio.ConnectionPool(connection_class=self._connection_class(redis.asyncio), **kwargs)
        return pool, pool.aclose

    def cluster(self) -> Any:
        """A Cluster's client that is called; asks the cluster for its nodes at once."""
        nodes = [_ClusterNode(host, port) for host, port in self.hosts]
        retry = redis.retry.Retry(redis.backoff.NoBackoff(), 0)
        return redis.cluster.RedisCluster(startup_nodes=nodes, retry=retry, **self.options, **self._tls())

    def acluster(self) -> Any:
        """The same, awaited; asks when it is first used."""
        nodes = [redis.asyncio.cluster.ClusterNode(host, port) for host, port in self.hosts]
        retry = redis.asyncio.retry.Retry(redis.backoff.NoBackoff(), 0)
        return redis.asyncio.cluster.RedisCluster(startup_nodes=nodes, retry=retry, **self.options, **self._tls())

    def _connection_class(self, package: Any) -> Any:
        if "path" in self.options:
            return package.UnixDomainSocketConnection
        return package.SSLConnection if self.tls else package.Connection

    def _tls(self) -> dict[str, Any]:
        return {"ssl": True} if self.tls else {}

    def _sentinel(self, kwargs: dict[str, Any]) -> dict[str, Any]:
        shared = {name: kwargs[name] for name in kwargs if name.startswith(("socket_", "ssl_")) or name == "retry"}
        return {**shared, **self.sentinel, **self._tls()}


def split_url(url: StoreURL) -> tuple[Place, dict[str, Any]]:
    """The place *url* names and the store's own options. Raises ConfigurationError, never with what the URL holds."""
    base, _, kind = url.scheme.partition("+")
    kind = kind or "single"
    known = {**_CONNECTION, **_STORE, **(_SENTINEL if kind == "sentinel" else {})}
    if kind == "cluster":
        del known["db"]  # a Cluster has but one
    found = options(url, known)
    store = {name: found.pop(name) for name in _STORE if name in found}
    sentinel = {name.removeprefix("sentinel_"): found.pop(name) for name in _SENTINEL if name in found}
    seconds = found.setdefault("socket_timeout", _SECONDS)
    found.setdefault("socket_connect_timeout", seconds)
    found.setdefault("max_connections", 10_000)  # every thread keeps one
    for name in ("socket_timeout", "socket_connect_timeout"):
        if not 0 < found[name] <= 3600:
            raise ConfigurationError(f"{name} of a {url.scheme}: URL must be more than 0 and at most 3600 seconds")
    login, _, addresses = url.netloc.rpartition("@")
    for name, text in zip(("username", "password"), login.partition(":")[::2], strict=True):
        if text:
            found[name] = unquote(text)
    path = [unquote(part) for part in url.path.split("/")[1:] if part]
    service = ""
    hosts: tuple[tuple[str, int], ...] = ()
    if base == "unix":
        if addresses or not path:
            raise ConfigurationError("a unix: URL is unix:///path/of/the/socket?db=0")
        found["path"] = unquote(url.path)
        path = []
    else:
        hosts = _hosts(url, addresses, 26379 if kind == "sentinel" else 6379)
        if kind == "single":
            found["host"], found["port"] = hosts[0]
        elif kind == "sentinel":
            if not path:
                raise ConfigurationError(f"a {url.scheme}: URL is {url.scheme}://host1,host2/service/0")
            service = path.pop(0)
    if path and kind != "cluster" and "db" not in found and path[0].isascii() and path[0].isdigit():
        found["db"] = int(path.pop(0))
    if path:
        raise ConfigurationError(f"the path of a {url.scheme}: URL has a part nobody knows")
    return Place(kind, hosts, service, base == "rediss", found, sentinel), store


def _hosts(url: StoreURL, addresses: str, port: int) -> tuple[tuple[str, int], ...]:
    hosts = []
    try:
        for address in addresses.split(","):
            parts = urlsplit(f"//{address}")
            hosts.append((unquote(parts.hostname or "localhost"), parts.port or port))
    except ValueError:  # whose text may show a part of the password
        raise ConfigurationError(f"a {url.scheme}: URL has a host that cannot be read") from None
    if url.scheme in ("redis", "rediss") and len(hosts) > 1:
        raise ConfigurationError(f"a {url.scheme}: URL names one host; several are {url.scheme}+sentinel: or +cluster:")
    return tuple(hosts)


def describe(connection: dict[str, Any]) -> str:
    """What may be shown of a connection's arguments."""
    place = connection.get("path") or f"{connection.get('host', 'localhost')}:{connection.get('port', 6379)}"
    return f"Redis at {place}/{connection.get('db') or 0}"


def refuse_stale(client: Any) -> None:
    """Raises ConfigurationError for a client that may answer with what is no longer so."""
    cached = getattr(client, "get_cache", None)
    pool = getattr(client, "connection_pool", None)
    if cached is not None and cached() is not None:
        raise ConfigurationError("the Redis client caches what it reads; make it without cache_config")
    if not getattr(pool, "is_master", True):
        raise ConfigurationError("the Redis client reads from replicas; use Sentinel.master_for")
    if getattr(client, "read_from_replicas", False) or getattr(client, "load_balancing_strategy", None):
        raise ConfigurationError("the Redis client reads from replicas; make it without load_balancing_strategy")
    if pool is None and client.get_encoder().decode_responses:
        raise ConfigurationError("the Redis client decodes what it reads; make it without decode_responses")
