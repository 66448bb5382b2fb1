"""DatabaseStore: records in PostgreSQL, MySQL or MariaDB (or SQLite, given an Engine), through SQLAlchemy.

Decided here: which kind of store a URL or an engine means. An awaited driver makes a store that is awaited, any other
one that answers when called; the kinds are two classes, since an app that mixes them up must fail when it is built,
and ``DatabaseStore`` is a function that picks. ``sqlite:`` URLs go to the standard library's ``SQLiteStore``.

Only drivers the test suite runs on real servers are accepted: row counts, bytes and lost connections are where
drivers differ, and a session store cannot guess there.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, TypedDict, Unpack, overload

from sqlalchemy import URL, Engine, create_engine, exc, make_url
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import StaticPool

from ..core.operations import AnyStore
from ..errors import ConfigurationError
from .sql_async import AsyncDatabaseStore
from .sql_connections import prepare_connections
from .sql_schema import ddl, session_table, table_name
from .sql_sync import SyncDatabaseStore
from .url import StoreURL, flag, options, store_from_url

__all__ = ["AsyncDatabaseStore", "DatabaseStore", "SyncDatabaseStore", "ddl", "from_url", "session_table"]

_DEFAULT_DRIVER = {"postgresql": "psycopg", "mysql": "pymysql", "mariadb": "pymysql"}
_CALLED = {"psycopg", "pymysql"}
_AWAITED = {"asyncpg", "asyncmy"}
_GIVEN = _CALLED | _AWAITED | {"psycopg_async", "pysqlite"}
_URL_OPTIONS: dict[str, Callable[[str], Any]] = {
    "table": str, "table_index": str, "column_prefix": str, "create": flag, "timeout": float, "pool_size": int,
}  # fmt: skip


class Options(TypedDict, total=False):
    """What ``DatabaseStore`` takes beside its URL or engine."""

    table: str
    table_index: str
    column_prefix: str
    create: bool
    timeout: float
    pool_size: int


@overload
def DatabaseStore(where: Engine, **settings: Unpack[Options]) -> SyncDatabaseStore: ...
@overload
def DatabaseStore(where: AsyncEngine, **settings: Unpack[Options]) -> AsyncDatabaseStore: ...
@overload
def DatabaseStore(where: str | URL, **settings: Unpack[Options]) -> Any: ...
def DatabaseStore(where: str | URL | Engine | AsyncEngine, **settings: Unpack[Options]) -> Any:  # noqa: N802
    """The store in the database that *where*, a URL or an engine of SQLAlchemy's, leads to.

    ``postgresql://`` (psycopg), ``postgresql+asyncpg://``, ``mysql://`` and ``mariadb://`` (PyMySQL),
    ``mysql+asyncmy://``, ``sqlite:///``. With asyncpg, asyncmy or an ``AsyncEngine`` the store is awaited.

    * *table*, else one named after *table_index*; *column_prefix* is put before every column's name.
    * *create*: make a missing table at first use. Otherwise ``create_schema()`` does, or a migration.
    * *timeout*: seconds to wait for a connection to be free or made, and for a lock. *pool_size*: connections kept; as
      many again are opened while they are needed. An engine has these two of its own.

    Raises ConfigurationError. Every call may raise StoreError, which shows neither user nor password.
    """
    unknown = settings.keys() - Options.__annotations__.keys()
    if unknown:
        raise ConfigurationError(f"DatabaseStore has no {', '.join(sorted(unknown))}; known: {', '.join(_URL_OPTIONS)}")
    if isinstance(where, str | URL):
        return _from_url(where, settings)
    if not isinstance(where, Engine | AsyncEngine):
        raise ConfigurationError("DatabaseStore needs a URL, an Engine or an AsyncEngine")
    if settings.keys() & {"timeout", "pool_size"}:
        raise ConfigurationError("timeout and pool_size are the engine's own: give them to create_engine")
    _check_engine(where)
    return _store(where, ours=False, settings=settings)


def from_url(url: StoreURL) -> AnyStore:
    """The store of a ``postgresql:``, ``mysql:`` or ``mariadb:`` URL. Raises ConfigurationError.

    Its options are ours (``table``, ``table_index``, ``column_prefix``, ``create``, ``timeout``, ``pool_size``); any
    other is the driver's.
    """
    named: Options = {} if "table_index" in url.query else {"table_index": url.table_index}
    store: AnyStore = DatabaseStore(url.text, **named)
    return store


def _from_url(where: str | URL, settings: Options) -> Any:
    try:
        url = make_url(where)
        backend = url.get_backend_name()
    except (exc.ArgumentError, ValueError):  # whose text may show a part of the password
        raise _unreadable() from None
    if backend == "sqlite":
        return _sqlite(url, settings)
    if isinstance(where, str) and where.count("@") > 1:  # then the host would be the end of the password
        raise _unreadable()
    ours = {name: str(value) for name, value in url.query.items() if name in _URL_OPTIONS}
    made = options(StoreURL(backend, "", "", ours, ""), _URL_OPTIONS)
    both: Any = {**made, **settings}
    engine = _engine(url.difference_update_query(ours), both.pop("timeout", 5.0), both.pop("pool_size", 10))
    return _store(engine, ours=True, settings=both)


def _unreadable() -> ConfigurationError:
    return ConfigurationError("the database URL cannot be read; percent-encode special characters")


def _sqlite(url: URL, settings: Options) -> AnyStore:
    if settings.keys() - {"table", "table_index"}:
        raise ConfigurationError("a sqlite: URL takes table and table_index only; pass an Engine, or use SQLiteStore()")
    if settings:
        name = table_name(settings.get("table"), settings.get("table_index", "default"))
        url = url.update_query_dict({"table": name})
    return store_from_url(url.render_as_string(hide_password=False))


def _engine(url: URL, timeout: float, pool_size: int) -> Engine | AsyncEngine:
    if not 0 < timeout <= 3600:
        raise ConfigurationError(f"timeout must be more than 0 and at most 3600 seconds, not {timeout!r}")
    if type(pool_size) is not int or not 0 < pool_size <= 1000:
        raise ConfigurationError(f"pool_size must be a whole number from 1 to 1000, not {pool_size!r}")
    backend, _, driver = url.drivername.partition("+")
    driver = driver or _DEFAULT_DRIVER.get(backend, "")
    if backend not in _DEFAULT_DRIVER or driver not in _CALLED | _AWAITED:
        raise ConfigurationError(f"no store for {url.drivername!r}: drivers are psycopg, asyncpg, pymysql and asyncmy")
    url = url.set(drivername=f"{backend}+{driver}")
    arguments: dict[str, Any] = {"timeout" if driver == "asyncpg" else "connect_timeout": max(2, math.ceil(timeout))}
    if backend != "postgresql":
        arguments["charset"] = "utf8mb4"
    awaited = driver in _AWAITED
    try:
        engine: Any = (create_async_engine if awaited else create_engine)(
            url,
            connect_args={name: value for name, value in arguments.items() if name not in url.query},
            hide_parameters=True,
            isolation_level="AUTOCOMMIT",
            max_overflow=pool_size,
            pool_reset_on_return=None,  # no transaction of ours outlives its call
            pool_size=pool_size,
            pool_timeout=timeout,
            pool_use_lifo=True,
        )
    except ModuleNotFoundError as error:
        extra = "postgresql" if backend == "postgresql" else "mysql"
        raise ConfigurationError(f"{driver} is not installed: pip install 'session_mw[{extra}]'") from error
    prepare_connections(engine.sync_engine if awaited else engine, timeout)
    made: Engine | AsyncEngine = engine
    return made


def _check_engine(engine: Engine | AsyncEngine) -> None:
    driver = engine.dialect.driver
    if driver not in _GIVEN:
        known = ", ".join(sorted(_GIVEN))
        raise ConfigurationError(f"no store for an engine on {engine.dialect.name} with {driver}; drivers are {known}")
    memory = engine.dialect.name == "sqlite" and engine.url.database in (None, "", ":memory:")
    if memory or isinstance(engine.pool, StaticPool):
        raise ConfigurationError("an engine needs connections to choose from; for records in memory use MemoryStore()")


def _store(engine: Engine | AsyncEngine, *, ours: bool, settings: Any) -> Any:
    table = table_name(settings.get("table"), settings.get("table_index", "default"))
    sync_engine = engine.sync_engine if isinstance(engine, AsyncEngine) else engine
    kind = AsyncDatabaseStore if isinstance(engine, AsyncEngine) else SyncDatabaseStore
    return kind(
        sync_engine,
        ours=ours,
        table=table,
        column_prefix=settings.get("column_prefix", ""),
        create=settings.get("create", False),
    )
