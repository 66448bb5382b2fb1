"""Home: where sessions live; the manager that a configuration asks for, and the faces of its store that fit.

A middleware has one for all requests; ``set_store()`` and ``set_manager()`` make another for one request.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from .config import SessionConfig, missing_home_error
from .core.operations import AsyncStore, Store
from .errors import ConfigurationError
from .managers import Manager
from .managers.cookie import CookieManager
from .managers.revocable import RevocableCookieManager
from .managers.store import StoreManager
from .stores.faces import belonging, built, is_awaited, loop_faces, name_of, store_of

__all__ = ["Home", "build_manager", "home_in"]


class Home(NamedTuple):
    """A manager and the faces of its store that fit an integration."""

    manager: Manager
    store: Store | None  # called where an answer is needed at once
    astore: AsyncStore | None  # awaited


def home_in(place: Any, config: SessionConfig, *, on_loop: bool) -> Home:
    """A manager, or a store to keep sessions in, made ready. Raises ``ConfigurationError`` for what cannot be."""
    manager: Manager = (
        place if hasattr(place, "configure") else StoreManager(built(place, table_index=config.table_index))
    )
    manager.configure(config)
    if manager.store is not None:
        belonging(manager.store, config.table_index)
    store: Any = manager.consults
    if store is None:
        return Home(manager, None, None)
    if is_awaited(store):
        if not on_loop:
            raise ConfigurationError(f"{name_of(store)} has to be awaited; a WSGI app needs a synchronous one")
        return Home(manager, None, store)
    return Home(manager, *loop_faces(store)) if on_loop else Home(manager, store, None)


def build_manager(config: SessionConfig) -> Manager:
    """The manager *config* asks for: a store, else a secret. Raises ``ConfigurationError`` with neither."""
    if config.store is not None:
        return StoreManager(store_of(config))
    if config.revocation is not None:
        return RevocableCookieManager(built(config.revocation, table_index=config.table_index))
    if config.keys is not None:
        return CookieManager()
    raise missing_home_error()
