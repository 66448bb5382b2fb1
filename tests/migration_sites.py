"""One small app as it was before session_mw and as it is after; started by servers, see ``test_migration``.

Each is made by a function without arguments. ``STORE`` and ``MIGRATE_FROM`` in the environment are the settings.
"""

from __future__ import annotations

import os
from datetime import date
from typing import Any

OLD_SECRET = "the secret of the old workers"
SECRET = "the secret of the new workers, 32 bytes and more"
UNTIL = date(2099, 1, 1)
DATA = ("user", "cart")


def _ours(legacy: Any = None) -> dict[str, Any]:
    stores = {name: os.environ[name.upper()] for name in ("store", "migrate_from") if name.upper() in os.environ}
    settings: dict[str, Any] = {"cookie_name": "sid", **stores, "legacy": legacy}
    return settings if "store" in stores else {**settings, "secret_key": SECRET}


def _starlette() -> Any:
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import JSONResponse, Response
    from starlette.routing import Route

    async def put(request: Request) -> Response:
        request.session.update(request.query_params)
        return JSONResponse(None)

    async def items(request: Request) -> Response:
        return JSONResponse(dict(request.session))

    async def leave(request: Request) -> Response:
        request.session.clear()
        return JSONResponse(None)

    return Starlette(routes=[Route("/put", put), Route("/", items), Route("/leave", leave)])


def starlette_old() -> Any:
    from starlette.middleware.sessions import SessionMiddleware

    app = _starlette()
    app.add_middleware(SessionMiddleware, secret_key=OLD_SECRET)
    return app


def starlette_new() -> Any:
    from session_mw.legacy import StarletteCookie
    from session_mw.starlette import SessionMiddleware

    app = _starlette()
    ours = _ours([StarletteCookie(OLD_SECRET, until=UNTIL, owner_key="user")])
    app.add_middleware(SessionMiddleware, session_cookie=ours.pop("cookie_name"), **ours)
    return app


def starlette_stored() -> Any:
    """Ours before and after: it moves from one store to another."""
    from session_mw.starlette import SessionMiddleware

    app, ours = _starlette(), _ours()
    app.add_middleware(SessionMiddleware, session_cookie=ours.pop("cookie_name"), **ours)
    return app


def _flask() -> Any:
    import flask

    app = flask.Flask("site")

    @app.get("/put")
    def put() -> str:
        flask.session.update(flask.request.args)
        return ""

    @app.get("/")
    def items() -> dict[str, Any]:
        return dict(flask.session)

    @app.get("/leave")
    def leave() -> str:
        flask.session.clear()
        return ""

    return app


def flask_old() -> Any:
    app = _flask()
    app.secret_key = OLD_SECRET
    return app


def flask_new() -> Any:
    from session_mw.flask import SessionMW
    from session_mw.legacy import FlaskCookie

    app, ours = _flask(), _ours([FlaskCookie(OLD_SECRET, until=UNTIL, owner_key="user")])
    app.config["SESSION_COOKIE_NAME"] = ours.pop("cookie_name")
    app.config["SESSION_MW"] = ours
    SessionMW(app)
    return app
