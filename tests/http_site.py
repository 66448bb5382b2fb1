"""One site for real servers, as ASGI and as WSGI, wrapped in one line each; configured by the environment.

``/slow?key=k`` reads the session, writes to the pipe ``MARKS/started-k`` and waits for the pipe ``MARKS/go-k``: so
tests let requests overlap, whatever process serves them.
"""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

from session_mw.asgi import SessionMiddleware
from session_mw.wsgi import ENVIRON_KEY
from session_mw.wsgi import SessionMiddleware as WSGIMiddleware

MARKS = Path(os.environ["MARKS"])
SETTINGS: dict[str, Any] = {name: os.environ[name] for name in ("secret_key", "store") if name in os.environ}
if os.environ.get("TRUSTED"):
    SETTINGS["trusted_proxies"] = [os.environ["TRUSTED"]]


def page(session: Any, path: str, query: dict[str, str]) -> str:
    if path == "/login":
        session.login(user_id=query.get("user", "ada"))
    elif path == "/logout":
        session.logout()
    elif path == "/destroy":
        session.destroy()
    elif path == "/set":
        session.update(query)
    elif path == "/count":
        session.update_with("count", lambda n: n + 1, 0)
    elif path == "/address":
        session.login(user_id="ada")
        return str(session.login_ip)
    elif path == "/anon":
        return "anon"
    return f"{session.user_id} {dict(sorted(session.items()))}"


def pause(key: str) -> None:
    """Say that the session has been read, and wait to be told to go on."""
    with (MARKS / f"started-{key}").open("wb", buffering=0) as started:
        started.write(b"x")
    with (MARKS / f"go-{key}").open("rb", buffering=0) as go:
        go.read(1)


def finish(session: Any, query: dict[str, str]) -> str:
    """What a slow request does when it goes on."""
    if "login" in query:
        session.login(user_id=query["login"])
    session[query["key"]] = "slow"
    return "slow"


async def asgi(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] == "lifespan":
        for name in ("startup", "shutdown"):
            await receive()
            await send({"type": f"lifespan.{name}.complete"})
        return
    session, query = scope["session"], dict(parse_qsl(scope["query_string"].decode("latin-1")))
    if scope["type"] == "websocket":
        await receive()
        session["socket"] = 1
        await send({"type": "websocket.accept"})
        while (message := await receive())["type"] == "websocket.receive":
            await send({"type": "websocket.send", "text": page(session, message["text"], query)})
        return
    if scope["path"] == "/slow":
        len(session)
        await asyncio.to_thread(pause, query["key"])
        body = finish(session, query)
    else:
        body = page(session, scope["path"], query)
    raw = body.encode()
    headers = [(b"content-type", b"text/plain"), (b"content-length", str(len(raw)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": raw})


def wsgi(environ: Any, start_response: Any) -> list[bytes]:
    session, query = environ[ENVIRON_KEY], dict(parse_qsl(environ["QUERY_STRING"]))
    if environ["PATH_INFO"] == "/slow":
        len(session)
        pause(query["key"])
        body = finish(session, query)
    else:
        body = page(session, environ["PATH_INFO"], query)
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body.encode())))])
    return [body.encode()]


asgi_app = SessionMiddleware(asgi, **SETTINGS)
wsgi_app = WSGIMiddleware(wsgi, **SETTINGS)
