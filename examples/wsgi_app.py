"""A plain WSGI app with a session, without a framework; the last line wraps it.

    gunicorn examples.wsgi_app:app

EXAMPLE_STORE names a store, such as ``sqlite:///example.db``. Without it sessions are sealed into the cookie, under
EXAMPLE_SECRET or, without that either, a secret that ends with the process.
"""

from __future__ import annotations

import http
import json
import os
from typing import Any

from session_mw import current_session, generate_key
from session_mw.wsgi import SessionMiddleware

LONGEST = 1000  # bytes of a note


def answer(method: str, path: str, body: bytes) -> tuple[int, object]:
    """What the app does: a status, and what to say as JSON. ``current_session()`` works anywhere below a request."""
    session = current_session()
    match method, path.strip("/").split("/"):
        case "GET", ["note"]:
            return 200, {"note": session.get("note")}
        case "POST", ["note"]:
            session["note"] = body.decode("utf-8", "replace")
            return 200, {"note": session["note"]}
        case "POST", ["login", name] if name:  # yours would check a password here
            session.login(user_id=name)
            return 200, {"user": session.user_id}
        case "POST", ["logout"]:
            return 200, {"was online": session.logout(clear_data=True)}
        case "GET", ["whoami"]:
            return 200, {"user": session.user_id, "session": session.session_id}
    return 404, {"error": "there is GET /whoami, GET or POST /note, POST /login/NAME, POST /logout"}


def plain(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    """The app; a handler may as well take the session from ``environ["session_mw.session"]``."""
    length = min(int(environ.get("CONTENT_LENGTH") or 0), LONGEST)
    path = environ["PATH_INFO"].encode("latin-1").decode("utf-8", "replace")  # PEP 3333
    status, said = answer(environ["REQUEST_METHOD"], path, environ["wsgi.input"].read(length))
    text = json.dumps(said).encode() + b"\n"
    headers = [("Content-Type", "application/json"), ("Content-Length", str(len(text)))]
    start_response(f"{status} {http.HTTPStatus(status).phrase}", headers)
    return [text]


store = os.environ.get("EXAMPLE_STORE") or None
secret = os.environ.get("EXAMPLE_SECRET") or generate_key()

# DEVELOPMENT lets the cookie travel over plain http: leave it out behind https.
app = SessionMiddleware(plain, store=store, secret_key=secret, profile="DEVELOPMENT")
