"""Whole requests of ``bench.sql``: session_mw, Django's database sessions and Flask-Session's, on one server.

Each peer runs in the plainest way its documentation shows, through the driver that ours uses. ``login`` is what a
careful login does there: a new id, and two keys.
"""

from __future__ import annotations

from typing import Any

from .drivers import Wsgi
from .peers import FRAMES as PEER_FRAMES
from .peers import peer_routes, sign_in
from .scenarios import PATHS, routes
from .sql_bare import CALLED
from .sql_servers import Server
from .subjects import Builder, Subject, Workshop, bare_routes, wsgi_app

__all__ = ["COLUMNS", "FRAMES", "builders"]

COLUMNS = ("S2", "S3", "login")
TITLES = {"postgresql": "PostgreSQL", "mariadb": "MariaDB"}


def bare_django(workshop: Workshop) -> Subject:
    from . import sql_django

    app = sql_django.app(None, bare_routes())
    return Subject("bare Django", "bare", "django", "none", app, Wsgi(), COLUMNS)


FRAMES: dict[str, Builder] = {**PEER_FRAMES, "django": bare_django}


def builders(server: Server) -> list[Builder]:
    """Ours and the peers, on *server*."""
    title, url = TITLES[server.name], server.url(CALLED[server.name])

    def ours(workshop: Workshop) -> Subject:
        from session_mw.stores.sql import DatabaseStore
        from session_mw.wsgi import SessionMiddleware

        store = DatabaseStore(url, table="whole", create=True)
        store.initialize()
        workshop.closing.callback(store.teardown)
        app = SessionMiddleware(wsgi_app(routes("session_mw.session")), store=store)
        subject = Subject(f"session_mw, {title}", "ours", "wsgi", server.name, app, Wsgi(), COLUMNS)
        subject.wipe = lambda: server.empty("whole")
        return subject

    def django(workshop: Workshop) -> Subject:
        from . import sql_django

        app = sql_django.app(server, {**peer_routes(), "/login": sql_django.renewing})
        workshop.closing.callback(sql_django.close)
        subject = Subject(f"Django db, {title}", "peer", "django", server.name, app, Wsgi(), COLUMNS)
        subject.wipe = lambda: server.empty("django_session")
        return subject

    def flask_session(workshop: Workshop) -> Subject:
        from flask import Flask, request, session
        from flask_session import Session
        from flask_sqlalchemy import SQLAlchemy

        app: Any = Flask("bench")
        app.config |= {"SQLALCHEMY_DATABASE_URI": url, "SESSION_TYPE": "sqlalchemy"}
        app.config["SESSION_SQLALCHEMY"] = database = SQLAlchemy(app)
        Session(app)

        def renewing(asked: Any) -> bytes:
            app.session_interface.regenerate(asked["session"])
            return sign_in(asked)

        handlers = {**peer_routes(), "/login": renewing}

        def view() -> bytes:
            return handlers[request.path]({"session": session})

        for where in PATHS:
            app.add_url_rule(where, view_func=view)

        def end() -> None:
            with app.app_context():
                database.engine.dispose()

        workshop.closing.callback(end)
        subject = Subject(f"Flask-Session, {title}", "peer", "flask", server.name, app, Wsgi(), COLUMNS)
        subject.wipe = lambda: server.empty("sessions")
        return subject

    return [ours, django, flask_session]
