"""Django for ``bench.sql``: one project, its session engine on a database, as installed.

Django has one set of settings in a process, so its databases are all named there and a router picks the one whose
app is being called. Kept connections (``CONN_MAX_AGE``) are the one setting that is not Django's default: by default
it connects anew for every request.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import django
from django.conf import settings
from django.core.handlers.wsgi import WSGIHandler
from django.http import HttpResponse
from django.urls import path

from .peers import SECRET, sign_in
from .scenarios import PATHS, Routes
from .sql_servers import DATABASE, USER, Server

__all__ = ["Router", "app", "close", "urlpatterns"]

_current: dict[str, Any] = {"alias": "default", "routes": {}}


class Router:
    """Every question goes to the database of the app that is being called."""

    def db_for_read(self, model: Any, **hints: Any) -> str:
        alias: str = _current["alias"]
        return alias

    db_for_write = db_for_read


def _view(request: Any) -> HttpResponse:
    page = _current["routes"][request.path]
    return HttpResponse(page({"session": getattr(request, "session", None)}), content_type="text/plain")


urlpatterns = [path(where[1:], _view) for where in PATHS]


def _set_up() -> None:
    if settings.configured:
        return
    settings.configure(
        ALLOWED_HOSTS=["*"],
        DATABASES={"default": {"ENGINE": "django.db.backends.dummy"}},
        DATABASE_ROUTERS=["bench.sql_django.Router"],
        INSTALLED_APPS=["django.contrib.sessions"],
        MIDDLEWARE=[],
        ROOT_URLCONF="bench.sql_django",
        SECRET_KEY=SECRET,
        SESSION_ENGINE="django.contrib.sessions.backends.db",
        USE_TZ=True,
    )
    django.setup()


def _connect(server: Server) -> str:
    """The name of *server*'s database, with the session table in it."""
    from django.contrib.sessions.models import Session
    from django.db import connections

    backend = "postgresql"
    if server.name == "mariadb":
        import pymysql

        pymysql.install_as_MySQLdb()
        backend = "mysql"
    alias = f"{server.name}-{len(connections.settings)}"
    connections.settings[alias] = {
        **connections.settings["default"],
        "ENGINE": f"django.db.backends.{backend}",
        "NAME": DATABASE,
        "USER": USER,
        "HOST": server.host,
        "PORT": "",
        "CONN_MAX_AGE": None,
    }
    connection = connections[alias]
    if Session._meta.db_table not in connection.introspection.table_names():
        with connection.schema_editor() as editor:
            editor.create_model(Session)
    return alias


def close() -> None:
    """Close what is open."""
    from django.db import connections

    connections.close_all()


def app(server: Server | None, routes: Routes) -> Callable[[Any, Any], Any]:
    """A WSGI app with *routes*; without a *server*, no session."""
    _set_up()
    alias = "default" if server is None else _connect(server)
    settings.MIDDLEWARE = [] if server is None else ["django.contrib.sessions.middleware.SessionMiddleware"]
    handler = WSGIHandler()

    def called(environ: Any, start_response: Any) -> Any:
        _current["alias"], _current["routes"] = alias, routes
        return handler(environ, start_response)

    return called


def renewing(request: Any) -> bytes:
    """What a login does there."""
    request["session"].cycle_key()
    return sign_in(request)
