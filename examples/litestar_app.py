"""A small shop in Litestar, as under any ASGI framework without an integration of its own: the app is wrapped.

    uvicorn examples.litestar_app:app

Look at http://127.0.0.1:8000. EXAMPLE_STORE names a store, such as ``sqlite:///example.db``. Without it sessions are
sealed into the cookie, under EXAMPLE_SECRET or, without that either, a secret that ends with the process.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from litestar import Litestar, MediaType, Request, Response, WebSocket, get, post, websocket
from litestar.exceptions import WebSocketDisconnect
from litestar.params import FromPath
from litestar.response import Stream

from session_mw import AsyncSessionService, current_session, generate_key
from session_mw.access import AccessRefused, login_required, safe_next
from session_mw.asgi import SessionMiddleware
from session_mw.guard import ASGIGuard
from session_mw.stores.url import store_from_url

PAGE = Path(__file__).with_name("shop.html").read_text("utf-8")

url = os.environ.get("EXAMPLE_STORE")
store = store_from_url(url) if url else None
devices_of = AsyncSessionService(store=store) if store else None


def refusal(_: Request[Any, Any, Any], refused: AccessRefused) -> Response[bytes]:
    """What the guard answers, as a response of Litestar's, which would take its exception for an error, and say 500."""
    status, headers, body = refused.answer
    return Response(body, status_code=status, headers=dict(headers))


@get("/", media_type=MediaType.HTML)
async def page() -> str:
    return PAGE


@get("/whoami")
async def whoami() -> dict[str, Any]:
    session = current_session()
    return {"user": session.user_id, "session": session.session_id}


@get("/login")
async def login_page(request: Request[Any, Any, Any]) -> dict[str, str]:
    return {"log in with": "POST /login/NAME", "next": safe_next(request.query_params.get("next"))}


@post("/login/{name:str}")
async def log_in(name: FromPath[str]) -> dict[str, Any]:
    session = current_session()
    session.login(user_id=name)  # yours would check a password here
    return {"user": session.user_id, "session": session.session_id}


@post("/logout")
async def log_out() -> dict[str, bool]:
    return {"was online": current_session().logout(clear_data=True)}


@get("/cart")
async def cart(request: Request[Any, Any, Any]) -> dict[str, int]:
    return request.session.get("cart", {})  # Litestar's own name for ``current_session()``


@post("/cart/{thing:str}")
async def add(request: Request[Any, Any, Any], thing: FromPath[str]) -> dict[str, int]:
    things = request.session.setdefault("cart", {})
    things[thing] = things.get(thing, 0) + 1  # nested, and seen
    return things


@get("/account")
@login_required(redirect_to="/login")
async def account() -> dict[str, str | None]:
    return {"account": current_session().user_id}


@post("/regenerate")
async def regenerate() -> dict[str, str]:
    return {"session": current_session().regenerate(grace=0)}


@post("/admin/login")
async def admin_login() -> dict[str, list[bool]]:
    session = current_session()
    with session.using_storage("admin"):  # a login of its own, in the same session
        session["mode"] = "careful"
        session.login()
    return {"online": [session.online(), session.online("admin")]}


@get("/admin")
@login_required(storage="admin", fresh=300)
async def admin() -> dict[str, str]:
    return {"mode": current_session().get_from("admin", "mode")}


@get("/devices")
@login_required
async def devices() -> dict[str, Any]:
    if devices_of is None:
        return {"devices": "kept by their browsers; set EXAMPLE_STORE to see them"}
    records = await devices_of.list_records(current_session().user_id or "")
    return {"devices": [{"id": each.session_id, "browser": each.login_user_agent} for each in records]}


@post("/devices/end-others")
@login_required
async def end_others() -> dict[str, bool]:
    current_session().destroy_others()
    return {"ended": True}


@get("/export")
async def export() -> Stream:
    session = current_session()
    session.setdefault("exports", 0)

    async def lines() -> AsyncIterator[str]:
        for thing in session.get("cart", {}):
            yield f"{thing}\n"
        if store is not None:  # the response has begun: what is in a store can still be written
            session["exports"] += 1
            await session.acommit()  # now, and not only when all is sent

    return Stream(lines(), media_type=MediaType.TEXT)


@get("/exports")
async def exports() -> dict[str, int | None]:
    return {"exports": current_session().get("exports")}


@post("/leave-badly")
async def leave_badly() -> None:
    current_session().logout()
    raise RuntimeError("after the logout; an error never undoes it")


@websocket("/chat")
async def chat(socket: WebSocket[Any, Any, Any]) -> None:
    """Closed with 1008 when the session ends elsewhere."""
    await socket.accept()
    try:
        while True:
            await socket.send_text(f"{current_session().user_id}: {await socket.receive_text()}")
    except WebSocketDisconnect:
        pass


def create_app(**settings: Any) -> SessionMiddleware:
    """The app, with its sessions; *settings* as for ``SessionMiddleware``."""
    site = Litestar(
        [
            *(page, whoami, login_page, log_in, log_out, cart, add, account, regenerate, admin_login, admin),
            *(devices, end_others, export, exports, leave_badly, chat),
        ],
        exception_handlers={AccessRefused: refusal},
    )
    # Litestar closes a websocket on any exception before the middleware can deny it, so this guard stands outside.
    guarded = ASGIGuard(site, only=["/chat"])
    secret = os.environ.get("EXAMPLE_SECRET") or generate_key()
    # DEVELOPMENT lets the cookie travel over plain http: leave it out behind https.
    return SessionMiddleware(guarded, store=store, secret_key=secret, profile="DEVELOPMENT", **settings)


app = create_app()
