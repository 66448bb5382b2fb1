"""Peers: other session packages, as installed, each in the plainest way its documentation shows.

S4 is what a careful login does there: rotate where the package can, and set two keys.
"""

import os
import time
from typing import Any

from .drivers import Asgi, Wsgi
from .scenarios import PATHS, SCENARIOS, Request, Routes, routes
from .subjects import Builder, Subject, Workshop, asgi_app, bare_routes

__all__ = ["BUILDERS", "FRAMES", "SECRET", "flask", "flask_app", "flask_cookie", "peer_routes"]

SECRET = "a secret of the bench, long enough for everybody"
FORTNIGHT = 14 * 24 * 3600


def sign_in(request: Request) -> bytes:
    session = request["session"]
    session["user_id"] = "u1"
    session["signed_in_at"] = int(time.time())
    return b"ok"


def peer_routes() -> Routes:
    return {**routes("session"), "/renew": sign_in}


def starlette_cookie(workshop: Workshop) -> Subject:
    from starlette.middleware.sessions import SessionMiddleware

    app = SessionMiddleware(asgi_app(peer_routes()), SECRET, https_only=True)
    return Subject("Starlette, signed cookie", "peer", "asgi", "cookie", app, Asgi(workshop.loop))


def _starsessions(workshop: Workshop, name: str, kind: str, store: Any) -> Subject:
    from starlette.requests import HTTPConnection
    from starsessions import SessionMiddleware, load_session, regenerate_session_id

    handlers = peer_routes()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        path = scope["path"]
        if path != "/ignore":
            connection = HTTPConnection(scope)
            await load_session(connection)
            if path == "/renew":
                regenerate_session_id(connection)
        body = handlers[path](scope)
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]})
        await send({"type": "http.response.body", "body": body})

    wrapped = SessionMiddleware(app, store=store, lifetime=FORTNIGHT)
    return Subject(name, "peer", "asgi", kind, wrapped, Asgi(workshop.loop))


def starsessions_cookie(workshop: Workshop) -> Subject:
    from starsessions import CookieStore

    return _starsessions(workshop, "starsessions, signed cookie", "cookie", CookieStore(SECRET))


def starsessions_memory(workshop: Workshop) -> Subject:
    from starsessions import InMemoryStore

    store = InMemoryStore()
    subject = _starsessions(workshop, "starsessions, memory", "memory", store)
    subject.wipe = store.data.clear
    return subject


def _litestar(handlers: Routes, middleware: list[Any]) -> Any:
    from litestar import Litestar, MediaType, Request, get

    @get(list(PATHS), media_type=MediaType.TEXT)
    async def handle(request: Request[Any, Any, Any]) -> bytes:
        return handlers[request.scope["path"]](request.scope)

    return Litestar([handle], middleware=middleware, openapi_config=None, logging_config=None)


def litestar(workshop: Workshop) -> Subject:
    app = _litestar(bare_routes(), [])
    return Subject("bare Litestar", "bare", "litestar", "none", app, Asgi(workshop.loop), tuple(SCENARIOS))


def litestar_cookie(workshop: Workshop) -> Subject:
    from litestar.middleware.session.client_side import CookieBackendConfig

    app = _litestar(peer_routes(), [CookieBackendConfig(secret=os.urandom(32), secure=True).middleware])
    driver = Asgi(workshop.loop)  # its value ends in readable associated data: forge the ciphertext
    return Subject("Litestar, AES-GCM cookie", "peer", "litestar", "cookie", app, driver, forge_at=40)


def litestar_memory(workshop: Workshop) -> Subject:
    from litestar.middleware.session.server_side import ServerSideSessionConfig

    app = _litestar(peer_routes(), [ServerSideSessionConfig(secure=True).middleware])
    return Subject("Litestar, memory", "peer", "litestar", "memory", app, Asgi(workshop.loop))


def flask_app(handlers: Routes, secret: str | None) -> Any:
    """A Flask site with these handlers; without *secret* it has no sessions."""
    from flask import Flask, request, session

    app = Flask("bench")
    app.secret_key = secret

    def view() -> bytes:
        return handlers[request.path]({"session": session})

    for path in PATHS:
        app.add_url_rule(path, view_func=view)
    return app


def flask(workshop: Workshop) -> Subject:
    app = flask_app(bare_routes(), None)
    return Subject("bare Flask", "bare", "flask", "none", app, Wsgi(), tuple(SCENARIOS))


def flask_cookie(workshop: Workshop) -> Subject:
    return Subject("Flask, signed cookie", "peer", "flask", "cookie", flask_app(peer_routes(), SECRET), Wsgi())


FRAMES: dict[str, Builder] = {"litestar": litestar, "flask": flask}
BUILDERS: tuple[Builder, ...] = (
    starlette_cookie,
    starsessions_cookie,
    starsessions_memory,
    litestar_cookie,
    litestar_memory,
    flask_cookie,
)
