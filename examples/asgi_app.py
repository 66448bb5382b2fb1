"""A plain ASGI app with a session, without a framework; the last line wraps it.

    uvicorn examples.asgi_app:app

EXAMPLE_STORE names a store, such as ``sqlite:///example.db``. Without it sessions are sealed into the cookie, under
EXAMPLE_SECRET or, without that either, a secret that ends with the process.
"""

from __future__ import annotations

import json
import os
from typing import Any

from session_mw import Session, generate_key
from session_mw.asgi import SessionMiddleware

LONGEST = 1000  # bytes of a note


def answer(session: Session, method: str, path: str, body: bytes) -> tuple[int, object]:
    """What the app does: a status, and what to say as JSON."""
    match method, path.strip("/").split("/"):
        case "GET", ["note"]:
            return 200, {"note": session.get("note")}
        case "POST", ["note"]:
            session["note"] = body[:LONGEST].decode("utf-8", "replace")
            return 200, {"note": session["note"]}
        case "POST", ["login", name] if name:  # yours would check a password here
            session.login(user_id=name)
            return 200, {"user": session.user_id}
        case "POST", ["logout"]:
            return 200, {"was online": session.logout(clear_data=True)}
        case "GET", ["whoami"]:
            return 200, {"user": session.user_id, "session": session.session_id}
    return 404, {"error": "there is GET /whoami, GET or POST /note, POST /login/NAME, POST /logout"}


async def plain(scope: Any, receive: Any, send: Any) -> None:
    """The app: ``scope["session"]`` is all it knows of sessions."""
    if scope["type"] == "lifespan":  # the store opens and closes with the app
        for moment in ("startup", "shutdown"):
            await receive()
            await send({"type": f"lifespan.{moment}.complete"})
    elif scope["type"] == "http":
        body, more = b"", True
        while more and len(body) < LONGEST:
            message = await receive()
            body, more = body + message.get("body", b""), message.get("more_body", False)
        status, said = answer(scope["session"], scope["method"], scope["path"], body)
        text = json.dumps(said).encode() + b"\n"
        headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(text))]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": text})


store = os.environ.get("EXAMPLE_STORE") or None
secret = os.environ.get("EXAMPLE_SECRET") or generate_key()

# DEVELOPMENT lets the cookie travel over plain http: leave it out behind https.
app = SessionMiddleware(plain, store=store, secret_key=secret, profile="DEVELOPMENT")
