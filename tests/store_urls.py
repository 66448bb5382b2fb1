"""Every store there is, by URL: for tests of what must hold whatever the store.

A store joins by a line in ``STORES``. *url* is given the test's ``request`` and an empty directory, and names a store
that is empty and nobody else's; a server comes from ``request.getfixturevalue``. *named* gives two names for the same
backend, as one app beside another; ``None`` where a store has no names. *kinds*: the middlewares it can serve.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple
from uuid import uuid4

import pytest


class StoreUnderTest(NamedTuple):
    url: Callable[[pytest.FixtureRequest, Path], str]
    named: Callable[[pytest.FixtureRequest, Path], tuple[str, str]] | None = None
    kinds: tuple[str, ...] = ("asgi", "wsgi")


def _in_database(fixture: str, driver: str, *, kinds: tuple[str, ...] = ("asgi", "wsgi")) -> StoreUnderTest:
    """A table of its own in the server of *fixture*."""

    def url(request: pytest.FixtureRequest, directory: Path) -> str:
        text: str = request.getfixturevalue(fixture).url(driver, query=f"?table=t_{uuid4().hex}&create=1")
        return text

    return StoreUnderTest(url, lambda request, directory: (url(request, directory), url(request, directory)), kinds)


def _in_redis(request: pytest.FixtureRequest, directory: Path) -> str:
    """Keys of its own in the one server."""
    return f"{request.getfixturevalue('redis_server').url}?table_index=t{uuid4().hex[:24]}"


STORES: dict[str, StoreUnderTest] = {
    "redis": StoreUnderTest(
        _in_redis, lambda request, directory: (_in_redis(request, directory), _in_redis(request, directory))
    ),
    "file": StoreUnderTest(
        lambda request, directory: f"file:///{directory}/sessions?durable=0",
        lambda request, directory: (f"file:///{directory}/one?durable=0", f"file:///{directory}/two?durable=0"),
    ),
    "postgresql": _in_database("postgres", "postgresql"),
    "postgresql+asyncpg": _in_database("postgres", "postgresql+asyncpg", kinds=("asgi",)),
    "mariadb": _in_database("mariadb", "mariadb"),
    "mysql+asyncmy": _in_database("mariadb", "mysql+asyncmy", kinds=("asgi",)),
    "memory": StoreUnderTest(lambda request, directory: "memory:"),
    "sqlite": StoreUnderTest(
        lambda request, directory: f"sqlite:///{directory}/s.db",
        lambda request, directory: (f"sqlite:///{directory}/s.db?table=one", f"sqlite:///{directory}/s.db?table=two"),
    ),
}


def every_store(*, named: bool = False) -> Any:
    """A parametrisation: each store with each middleware it can serve, as ``store_name`` and ``kind``."""
    pairs = [
        pytest.param(name, kind, id=f"{name}-{kind}")
        for name, store in STORES.items()
        for kind in store.kinds
        if store.named is not None or not named
    ]
    return pytest.mark.parametrize(("store_name", "kind"), pairs)
