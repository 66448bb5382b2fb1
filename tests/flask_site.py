"""A Flask app for tests: ``site("cookie")`` or ``site("store")``, and a browser that keeps Secure cookies over http."""

from __future__ import annotations

from typing import Any

import flask
import pytest

from session_mw.flask import SessionMW
from session_mw.stores.memory import MemoryStore
from session_mw.testing import Clock, FaultyStore

KEY = "a key for the tests of Flask, of 32 bytes and more"
both = pytest.mark.parametrize("kind", ["cookie", "store"])


def site(kind: str = "store", *, config: dict[str, Any] | None = None, **ours: Any) -> Any:
    """An app that answers ``/`` with its session's items; ``site.clock`` and ``site.faults`` (the store) belong to it.

    *ours* goes into SESSION_MW; *config* is Flask's.
    """
    app: Any = flask.Flask("site")
    app.clock = Clock()
    app.faults = FaultyStore(MemoryStore(clock=app.clock))
    app.events = []
    ours = {"clock": app.clock, "on_event": app.events.append, **ours}
    if kind == "store":
        ours["store"] = app.faults
    else:
        app.config["SECRET_KEY"] = KEY
    app.config.update({"SESSION_MW": ours, **(config or {})})
    SessionMW(app)

    @app.get("/")
    def items() -> dict[str, Any]:
        return dict(flask.session)

    @app.get("/plain")
    def plain() -> str:
        return "nobody looked"

    @app.get("/set/<key>/<value>")
    def put(key: str, value: str) -> str:
        flask.session[key] = value
        return value

    return app


def cookies(reply: Any) -> list[str]:
    """The Set-Cookie values of a reply."""
    return list(reply.headers.getlist("Set-Cookie"))


def told(app: Any, *names: str) -> list[str]:
    """Names of the events told so far (of *names* only), and forget them."""
    events, app.events[:] = list(app.events), []
    return [event.name for event in events if not names or event.name in names]
