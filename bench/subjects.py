"""What a subject is, and the bare apps every subject is compared with.

A builder is a function of one ``Workshop`` that returns a ``Subject``; a missing package is its ``ImportError``.
Adding a case is one such function, named in its module's ``BUILDERS``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .drivers import Asgi, Driver, Wsgi
from .scenarios import PATHS, SCENARIOS, Routes, routes

__all__ = ["FRAMES", "Builder", "Clock", "Subject", "Workshop", "asgi_app", "bare_routes", "wsgi_app"]


class Clock:
    """Time that moves on only when told."""

    def __init__(self, now: float) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


@dataclass
class Workshop:
    """What builders share: one loop, a directory for files, and what must be closed at the end."""

    loop: asyncio.AbstractEventLoop
    directory: Path
    closing: ExitStack


def _nothing() -> None:
    return None


@dataclass
class Subject:
    """One row of the table: an app with the routes of ``scenarios``, and how to call it."""

    name: str
    group: str  # bare, floor, ours, peer
    frame: str  # whose bare app is subtracted: asgi, wsgi, litestar, flask
    kind: str  # where the session lives: cookie, memory, sqlite
    app: Any
    driver: Driver
    scenarios: tuple[str, ...] = ("S1", "S2", "S3", "S4", "S5", "S5r", "S6")
    wipe: Callable[[], None] = _nothing  # forget all stored sessions, between batches
    forge_at: int = -10  # the character of the cookie's value a forgery changes
    clock: Clock | None = None

    @property
    def protocol(self) -> str:
        """``asgi`` or ``wsgi``: which floor this one stands on."""
        return "asgi" if isinstance(self.driver, Asgi) else "wsgi"


Builder = Callable[[Workshop], Subject]


def asgi_app(routes: Routes) -> Any:
    """The plainest ASGI app with these handlers."""

    async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
        body = routes[scope["path"]](scope)
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]})
        await send({"type": "http.response.body", "body": body})

    return app


def wsgi_app(routes: Routes) -> Any:
    """The plainest WSGI app with these handlers."""

    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        body = routes[environ["PATH_INFO"]](environ)
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [body]

    return app


def bare_routes() -> Routes:
    """Every path, and no session anywhere."""
    return dict.fromkeys(PATHS, routes("")["/ignore"])


def asgi(workshop: Workshop) -> Subject:
    app = asgi_app(bare_routes())
    return Subject("bare ASGI", "bare", "asgi", "none", app, Asgi(workshop.loop), tuple(SCENARIOS))


def wsgi(workshop: Workshop) -> Subject:
    return Subject("bare WSGI", "bare", "wsgi", "none", wsgi_app(bare_routes()), Wsgi(), tuple(SCENARIOS))


FRAMES: dict[str, Builder] = {"asgi": asgi, "wsgi": wsgi}
