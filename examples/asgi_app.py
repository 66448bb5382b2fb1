"""A small shop in plain ASGI, without a framework: a cart for everybody, an account for who is logged in.

    uvicorn examples.asgi_app:app

Look at http://127.0.0.1:8000. EXAMPLE_STORE names a store, such as ``sqlite:///example.db``. Without it sessions are
sealed into the cookie, under EXAMPLE_SECRET or, without that either, a secret that ends with the process.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

from session_mw import AsyncSessionService, Session, current_session, generate_key
from session_mw.access import login_required, safe_next
from session_mw.asgi import SessionMiddleware
from session_mw.stores.url import store_from_url

PAGE = Path(__file__).with_name("shop.html").read_bytes()

url = os.environ.get("EXAMPLE_STORE")
store = store_from_url(url) if url else None
devices_of = AsyncSessionService(store=store) if store else None


async def answer(scope: Any, session: Session) -> object:
    """What the shop says to a request, as JSON; ``None`` for what there is not."""
    match scope["method"], scope["path"].strip("/").split("/"):
        case "GET", ["whoami"]:
            return {"user": session.user_id, "session": session.session_id}
        case "GET", ["login"]:
            way_back = parse_qs(scope["query_string"].decode("latin-1")).get("next", [None])[0]
            return {"log in with": "POST /login/NAME", "next": safe_next(way_back)}
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
            return account()
        case "POST", ["regenerate"]:
            return {"session": session.regenerate(grace=0)}
        case "POST", ["admin", "login"]:
            with session.using_storage("admin"):  # a login of its own, in the same session
                session["mode"] = "careful"
                session.login()
            return {"online": [session.online(), session.online("admin")]}
        case "GET", ["admin"]:
            return admin()
        case "GET", ["devices"]:
            return await devices()
        case "POST", ["devices", "end-others"]:
            return end_others()
        case "GET", ["exports"]:
            return {"exports": session.get("exports")}
        case "POST", ["leave-badly"]:
            session.logout()
            raise RuntimeError("after the logout; an error never undoes it")
    return None


@login_required(redirect_to="/login")
def account() -> object:
    return {"account": current_session().user_id}  # works anywhere below a request


@login_required(storage="admin", fresh=300)
def admin() -> object:
    return {"mode": current_session().get_from("admin", "mode")}


@login_required
async def devices() -> object:
    if devices_of is None:
        return {"devices": "kept by their browsers; set EXAMPLE_STORE to see them"}
    records = await devices_of.list_records(current_session().user_id or "")
    return {"devices": [{"id": each.session_id, "browser": each.login_user_agent} for each in records]}


@login_required
def end_others() -> object:
    current_session().destroy_others()
    return {"ended": True}


async def export(session: Session, send: Any) -> None:
    """A stream that writes late."""
    session.setdefault("exports", 0)
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]})
    for thing in session.get("cart", {}):
        await send({"type": "http.response.body", "body": f"{thing}\n".encode(), "more_body": True})
    if store is not None:  # the response has begun: what is in a store can still be written
        session["exports"] += 1
        await session.acommit()  # now, and not only when all is sent
    await send({"type": "http.response.body"})


@login_required
async def chat(session: Session, receive: Any, send: Any) -> None:
    """Refused without a login; closed with 1008 when the session ends elsewhere."""
    await receive()
    await send({"type": "websocket.accept"})
    while (message := await receive())["type"] == "websocket.receive":
        await send({"type": "websocket.send", "text": f"{session.user_id}: {message['text']}"})


async def reply(send: Any, status: int, kind: bytes, body: bytes) -> None:
    headers = [(b"content-type", kind), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def shop(scope: Any, receive: Any, send: Any) -> None:
    """The app: ``scope["session"]`` is all it knows of sessions."""
    if scope["type"] == "lifespan":  # the store opens and closes with the app
        for moment in ("startup", "shutdown"):
            await receive()
            await send({"type": f"lifespan.{moment}.complete"})
        return
    session = scope["session"]
    match scope["type"], scope["path"]:
        case "websocket", "/chat":
            await chat(session, receive, send)
        case "websocket", _:
            await send({"type": "websocket.close"})
        case _, "/":
            await reply(send, 200, b"text/html; charset=utf-8", PAGE)
        case _, "/export":
            await export(session, send)
        case _:
            said = await answer(scope, session)
            text = json.dumps({"error": "no such page"} if said is None else said).encode() + b"\n"
            await reply(send, 404 if said is None else 200, b"application/json", text)


def create_app(**settings: Any) -> SessionMiddleware:
    """The app, with its sessions; *settings* as for ``SessionMiddleware``."""
    secret = os.environ.get("EXAMPLE_SECRET") or generate_key()
    # DEVELOPMENT lets the cookie travel over plain http: leave it out behind https.
    return SessionMiddleware(shop, store=store, secret_key=secret, profile="DEVELOPMENT", **settings)


app = create_app()
