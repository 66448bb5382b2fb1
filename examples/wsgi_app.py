"""A small shop in plain WSGI, without a framework: a cart for everybody, an account for who is logged in.

    gunicorn examples.wsgi_app:app

Look at http://127.0.0.1:8000. EXAMPLE_STORE names a store, such as ``sqlite:///example.db``. Without it sessions are
sealed into the cookie, under EXAMPLE_SECRET or, without that either, a secret that ends with the process.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

from session_mw import Session, SessionService, current_session, generate_key
from session_mw.access import login_required, safe_next
from session_mw.stores.url import store_from_url
from session_mw.wsgi import SessionMiddleware

PAGE = Path(__file__).with_name("shop.html").read_bytes()

url = os.environ.get("EXAMPLE_STORE")
store = store_from_url(url) if url else None
devices_of = SessionService(store=store) if store else None


def answer(method: str, path: str, query: str) -> object:
    """What the shop says to a request, as JSON; ``None`` for what there is not."""
    session = current_session()  # works anywhere below a request
    match method, path.strip("/").split("/"):
        case "GET", ["whoami"]:
            return {"user": session.user_id, "session": session.session_id}
        case "GET", ["login"]:
            return {"log in with": "POST /login/NAME", "next": safe_next(parse_qs(query).get("next", [None])[0])}
        case "POST", ["login", name] if name:  # yours would check a password here
            session.login(user_id=name)
            return {"user": session.user_id, "session": session.session_id}
        case "POST", ["logout"]:
            return {"was online": session.logout(clear_data=True)}
        case "GET", ["cart"]:
            return session.get("cart", {})
        case "POST", ["cart", thing] if thing:
            things = session.setdefault("cart", {})
            things[thing] = things.get(thing, 0) + 1  # nested, and seen
            return things
        case "GET", ["account"]:
            return account(session)
        case "POST", ["regenerate"]:
            return {"session": session.regenerate(grace=0)}
        case "POST", ["admin", "login"]:
            with session.using_storage("admin"):  # a login of its own, in the same session
                session["mode"] = "careful"
                session.login()
            return {"online": [session.online(), session.online("admin")]}
        case "GET", ["admin"]:
            return admin(session)
        case "GET", ["devices"]:
            return devices(session)
        case "POST", ["devices", "end-others"]:
            return end_others(session)
        case "GET", ["exports"]:
            return {"exports": session.get("exports")}
        case "POST", ["leave-badly"]:
            session.logout()
            raise RuntimeError("after the logout; an error never undoes it")
    return None


@login_required(redirect_to="/login")
def account(session: Session) -> object:
    return {"account": session.user_id}


@login_required(storage="admin", fresh=300)
def admin(session: Session) -> object:
    return {"mode": session.get_from("admin", "mode")}


@login_required
def devices(session: Session) -> object:
    if devices_of is None:
        return {"devices": "kept by their browsers; set EXAMPLE_STORE to see them"}
    records = devices_of.list_records(session.user_id or "")
    return {"devices": [{"id": each.session_id, "browser": each.login_user_agent} for each in records]}


@login_required
def end_others(session: Session) -> object:
    session.destroy_others()
    return {"ended": True}


def export(session: Session) -> Iterator[bytes]:
    """A stream that writes late."""
    session.setdefault("exports", 0)
    for thing in session.get("cart", {}):
        yield f"{thing}\n".encode()
    if store is not None:  # the response has begun: what is in a store can still be written
        session["exports"] += 1


def shop(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    """The app; ``environ["session_mw.session"]`` is all it knows of sessions."""
    path = environ["PATH_INFO"].encode("latin-1").decode("utf-8", "replace")  # PEP 3333
    if path == "/":
        start_response("200 OK", [("Content-Type", "text/html; charset=utf-8"), ("Content-Length", str(len(PAGE)))])
        return [PAGE]
    if path == "/export":
        start_response("200 OK", [("Content-Type", "text/plain")])
        return export(environ["session_mw.session"])
    said = answer(environ["REQUEST_METHOD"], path, environ.get("QUERY_STRING", ""))
    text = json.dumps({"error": "no such page"} if said is None else said).encode() + b"\n"
    status = "404 Not Found" if said is None else "200 OK"
    start_response(status, [("Content-Type", "application/json"), ("Content-Length", str(len(text)))])
    return [text]


def create_app(**settings: Any) -> SessionMiddleware:
    """The app, with its sessions; *settings* as for ``SessionMiddleware``."""
    secret = os.environ.get("EXAMPLE_SECRET") or generate_key()
    # DEVELOPMENT lets the cookie travel over plain http: leave it out behind https.
    return SessionMiddleware(shop, store=store, secret_key=secret, profile="DEVELOPMENT", **settings)


app = create_app()
