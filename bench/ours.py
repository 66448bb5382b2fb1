"""session_mw itself, with its defaults; stores are handed over so that they can be emptied between batches."""

from __future__ import annotations

import time
from typing import Any

from .drivers import Asgi, Wsgi
from .scenarios import routes
from .subjects import Builder, Clock, Subject, Workshop, asgi_app, wsgi_app

__all__ = ["BUILDERS"]

SECRET = "a secret of the bench, long enough for everybody"
COLUMNS = ("S1", "S2", "S3", "S4", "login", "S5", "S5r", "S6")
FOREVER = 10**9
# A clock that has moved on by STEP is a due touch; the idle limit then outlives the longest batch.
DUE = {"touch_interval": 1, "idle_timeout": 500_000}


def _asgi(workshop: Workshop, kind: str, settings: dict[str, Any]) -> Subject:
    from session_mw.asgi import SessionMiddleware

    app = SessionMiddleware(asgi_app(routes("session")), **settings)
    return Subject(f"session_mw, ASGI {kind}", "ours", "asgi", kind, app, Asgi(workshop.loop), COLUMNS)


def _wsgi(workshop: Workshop, kind: str, settings: dict[str, Any]) -> Subject:
    from session_mw.wsgi import SessionMiddleware

    app = SessionMiddleware(wsgi_app(routes("session_mw.session")), **settings)
    return Subject(f"session_mw, WSGI {kind}", "ours", "wsgi", kind, app, Wsgi(), COLUMNS)


def _stored(workshop: Workshop, make: Any, kind: str, store: Any, settings: dict[str, Any]) -> Subject:
    store.initialize()
    workshop.closing.callback(store.teardown)
    subject: Subject = make(workshop, kind, {"store": store, **settings})

    def wipe() -> None:
        while store.purge(FOREVER * 10, 10_000):
            pass

    subject.wipe = wipe
    return subject


def _memory(workshop: Workshop, make: Any) -> Subject:
    from session_mw.stores.memory import MemoryStore

    return _stored(workshop, make, "memory", MemoryStore(), {})


def _sqlite(workshop: Workshop, make: Any, name: str, settings: dict[str, Any]) -> Subject:
    from session_mw.stores.url import store_from_url

    store = store_from_url(f"sqlite:///{workshop.directory / name}.db")
    return _stored(workshop, make, "sqlite", store, settings)


def _due(subject: Subject, clock: Clock) -> Subject:
    subject.clock = clock
    subject.scenarios = ("touch",)
    return subject


def asgi_cookie(workshop: Workshop) -> Subject:
    return _asgi(workshop, "cookie", {"secret_key": SECRET})


def asgi_cookie_touch(workshop: Workshop) -> Subject:
    clock = Clock(time.time())
    return _due(_asgi(workshop, "cookie", {"secret_key": SECRET, "clock": clock, **DUE}), clock)


def asgi_memory(workshop: Workshop) -> Subject:
    return _memory(workshop, _asgi)


def asgi_sqlite(workshop: Workshop) -> Subject:
    return _sqlite(workshop, _asgi, "asgi", {})


def asgi_sqlite_touch(workshop: Workshop) -> Subject:
    clock = Clock(time.time())
    return _due(_sqlite(workshop, _asgi, "asgi-touch", {"clock": clock, **DUE}), clock)


def wsgi_cookie(workshop: Workshop) -> Subject:
    return _wsgi(workshop, "cookie", {"secret_key": SECRET})


def wsgi_cookie_touch(workshop: Workshop) -> Subject:
    clock = Clock(time.time())
    return _due(_wsgi(workshop, "cookie", {"secret_key": SECRET, "clock": clock, **DUE}), clock)


def wsgi_memory(workshop: Workshop) -> Subject:
    return _memory(workshop, _wsgi)


def wsgi_sqlite(workshop: Workshop) -> Subject:
    return _sqlite(workshop, _wsgi, "wsgi", {})


def wsgi_sqlite_touch(workshop: Workshop) -> Subject:
    clock = Clock(time.time())
    return _due(_sqlite(workshop, _wsgi, "wsgi-touch", {"clock": clock, **DUE}), clock)


BUILDERS: tuple[Builder, ...] = (
    asgi_cookie,
    asgi_memory,
    asgi_sqlite,
    asgi_cookie_touch,
    asgi_sqlite_touch,
    wsgi_cookie,
    wsgi_memory,
    wsgi_sqlite,
    wsgi_cookie_touch,
    wsgi_sqlite_touch,
)
