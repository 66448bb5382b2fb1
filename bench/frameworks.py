"""Each framework's own sessions, and ours in their place: the same app, the same views, one line of settings apart.

Decided here: what is fair. Both get the framework's defaults, a Secure cookie, and what a careful site would give
Django's: a database connection that is kept, and a SQLite file in the mode ours uses (WAL, ``synchronous=NORMAL``).
S4 is a login as each has it: two keys in a signed cookie; ``regenerate()`` of ours; under Django, for both, what
``django.contrib.auth.login()`` does to a session.
"""

from __future__ import annotations

import atexit
import functools
import shutil
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from .drivers import Asgi, Jar, Reply, Spent, Template, Wsgi
from .peers import SECRET, flask, flask_app, flask_cookie, peer_routes
from .scenarios import PATHS, SCENARIOS, Request, Routes, routes
from .subjects import Builder, Subject, Workshop, bare_routes

__all__ = ["BUILDERS", "COLUMNS", "FRAMES"]

COLUMNS = ("S1", "S2", "S3", "S4", "login", "S5r", "S6")
_UNDER_DJANGO = tuple(column for column in COLUMNS if column != "login")  # there S4 is a login


class _Seen:
    """What a handler gets in place of a request: ``request.session``, asked for when the handler looks at it."""

    __slots__ = ("_request",)

    def __init__(self, request: Any) -> None:
        self._request = request

    def __getitem__(self, key: str) -> Any:
        return self._request.session


# -- Starlette -----------------------------------------------------------------------------------------------------


def _starlette(handlers: Routes, middleware: list[Any]) -> Any:
    from starlette.applications import Starlette
    from starlette.responses import PlainTextResponse
    from starlette.routing import Route

    async def view(request: Any) -> Any:
        return PlainTextResponse(handlers[request.scope["path"]](_Seen(request)))  # type: ignore[arg-type]

    return Starlette(routes=[Route(path, view) for path in PATHS], middleware=middleware)


def starlette(workshop: Workshop) -> Subject:
    app = _starlette(bare_routes(), [])
    return Subject("bare Starlette", "bare", "starlette", "none", app, Asgi(workshop.loop), tuple(SCENARIOS))


def starlette_own(workshop: Workshop) -> Subject:
    from starlette.middleware import Middleware
    from starlette.middleware.sessions import SessionMiddleware

    app = _starlette(peer_routes(), [Middleware(SessionMiddleware, SECRET, https_only=True)])
    return Subject("Starlette, signed cookie", "peer", "starlette", "cookie", app, Asgi(workshop.loop), COLUMNS)


def starlette_ours(workshop: Workshop) -> Subject:
    from starlette.middleware import Middleware

    from session_mw.starlette import SessionMiddleware

    app = _starlette(routes("session"), [Middleware(SessionMiddleware, SECRET, https_only=True)])
    name = "session_mw.starlette, encrypted cookie"
    return Subject(name, "ours", "starlette", "cookie", app, Asgi(workshop.loop), COLUMNS)


# -- Flask ---------------------------------------------------------------------------------------------------------


def flask_ours(workshop: Workshop) -> Subject:
    from session_mw.flask import SessionMW

    app = flask_app(routes("session"), SECRET)
    SessionMW(app)
    return Subject("session_mw.flask, encrypted cookie", "ours", "flask", "cookie", app, Wsgi(), COLUMNS)


# -- Django --------------------------------------------------------------------------------------------------------


@functools.cache
def _directory() -> Path:
    """For the database: Django is set up once a process, and has one."""
    made = tempfile.TemporaryDirectory(prefix="session-bench-django-")
    atexit.register(made.cleanup)
    return Path(made.name)


def _set_up() -> None:
    import django
    from django.conf import settings
    from django.urls import path as route

    if settings.configured:
        return
    pragmas = "PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL"
    database = {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": str(_directory() / "django.db"),
        "CONN_MAX_AGE": None,  # kept: else each request opens a connection
        "OPTIONS": {"init_command": pragmas},
    }
    settings.configure(
        DATABASES={"default": database},
        INSTALLED_APPS=["django.contrib.contenttypes", "django.contrib.auth", "django.contrib.sessions"],
        ROOT_URLCONF=tuple(route(path[1:], _view) for path in PATHS),
        SECRET_KEY=SECRET,
        SESSION_COOKIE_SECURE=True,
        SESSION_MW=None,
    )
    django.setup()
    from django.contrib.sessions.models import Session
    from django.db import connection

    with connection.schema_editor() as editor:
        editor.create_model(Session)


def _sign_in(request: Request) -> bytes:
    """What ``django.contrib.auth.login()`` does to the session."""
    session = request["session"]
    session.cycle_key()
    session["_auth_user_id"] = "1"
    session["_auth_user_backend"] = "django.contrib.auth.backends.ModelBackend"
    session["_auth_user_hash"] = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
    return b"ok"


_HANDLERS, _BARE = {**routes("session"), "/renew": _sign_in}, bare_routes()


def _view(request: Any) -> Any:
    from django.http import HttpResponse

    handlers = _HANDLERS if hasattr(request, "session") else _BARE
    return HttpResponse(handlers[request.path](_Seen(request)), content_type="text/plain")  # type: ignore[arg-type]


class _Site(Wsgi):
    """Django's settings are the process's: those of *ours* (``SESSION_MW``) hold while this site is driven."""

    def __init__(self, ours: dict[str, Any] | None = None) -> None:
        self._ours = ours

    def _enter(self) -> None:
        from django.conf import settings

        if self._ours is None or self._ours == settings.SESSION_MW:
            return
        from django.core.signals import setting_changed

        from session_mw.django.layer import current_layer

        settings.SESSION_MW = self._ours
        setting_changed.send(sender=_Site, setting="SESSION_MW", value=self._ours, enter=True)
        current_layer().open_store()  # not the first request's to pay

    def exchange(self, app: Any, template: Template) -> Reply:
        self._enter()
        return super().exchange(app, template)

    def batch(self, app: Any, templates: Iterable[Template]) -> Spent:
        self._enter()
        return super().batch(app, templates)

    def within(self, app: Any, templates: Iterable[Template], probe: Callable[[], int]) -> int:
        self._enter()
        return super().within(app, templates, probe)

    def template(self, path: str, jar: Jar | None) -> Template:
        self._enter()
        return super().template(path, jar)


def _handler(engine: str | None, *above: str) -> Any:
    """A Django site with *engine*, and the middlewares *above* Django's own; without one, the bare site."""
    from django.core.handlers.wsgi import WSGIHandler
    from django.test import override_settings

    own = ["django.contrib.sessions.middleware.SessionMiddleware"]
    with override_settings(MIDDLEWARE=[*above, *own] if engine else [], SESSION_ENGINE=engine):
        return WSGIHandler()


def django(workshop: Workshop) -> Subject:
    _set_up()
    return Subject("bare Django", "bare", "django", "none", _handler(None), _Site(), tuple(SCENARIOS))


def _django_own(kind: str, name: str, engine: str, wipe: Callable[[], None]) -> Subject:
    app = _handler(f"django.contrib.sessions.backends.{engine}")
    return Subject(name, "peer", "django", kind, app, _Site(), _UNDER_DJANGO, wipe)


def _django_ours(kind: str, name: str, url: str, wipe: Callable[[], None]) -> Subject:
    app = _handler("session_mw.django", "session_mw.django.StoreErrorMiddleware")
    return Subject(
        f"session_mw.django, {name}", "ours", "django", kind, app, _Site({"store": url}), _UNDER_DJANGO, wipe
    )


def django_sqlite_own(workshop: Workshop) -> Subject:
    _set_up()
    from django.contrib.sessions.models import Session

    workshop.closing.callback(_close_database)
    return _django_own("sqlite", "Django, db on SQLite", "db", lambda: Session.objects.all()._raw_delete("default"))


def _close_database() -> None:
    from django.db import connections

    connections.close_all()


def django_sqlite_ours(workshop: Workshop) -> Subject:
    _set_up()
    from session_mw.stores.url import store_from_url

    url = f"sqlite:///{workshop.directory / 'django'}.db"
    store = store_from_url(url)
    workshop.closing.callback(store.teardown)

    def wipe() -> None:
        store.initialize()
        while store.purge(10**10, 10_000):
            pass

    return _django_ours("sqlite", "SQLite", url, wipe)


def _redis(workshop: Workshop) -> str:
    """A server for this workshop; its socket. Raises ``ImportError`` where the program is not installed."""
    from .redis import running  # only here: redis-py is needed

    program = shutil.which("redis-server")
    if program is None:
        raise ImportError("the program redis-server")
    return workshop.closing.enter_context(running(program))


def django_redis_own(workshop: Workshop) -> Subject:
    url = f"unix://{_redis(workshop)}"
    _set_up()
    from django.core.cache import caches
    from django.test import override_settings

    backend = "django.core.cache.backends.redis.RedisCache"
    workshop.closing.enter_context(override_settings(CACHES={"default": {"BACKEND": backend, "LOCATION": url}}))
    return _django_own("redis", "Django, cache on Redis", "cache", lambda: caches["default"].clear())


def django_redis_ours(workshop: Workshop) -> Subject:
    url = f"unix://{_redis(workshop)}"
    _set_up()
    import redis

    client = redis.Redis.from_url(url)
    workshop.closing.callback(client.close)

    def wipe() -> None:
        client.flushdb()

    return _django_ours("redis", "Redis", url, wipe)


FRAMES: dict[str, Builder] = {"starlette": starlette, "flask": flask, "django": django}
BUILDERS: dict[str, tuple[Builder, ...]] = {
    "starlette": (starlette_own, starlette_ours),
    "flask": (flask_cookie, flask_ours),
    "django": (django_sqlite_own, django_sqlite_ours, django_redis_own, django_redis_ours),
}
