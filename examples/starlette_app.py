"""A small shop in Starlette: a cart for everybody, an account for who is logged in, the devices one is logged in on.

    uvicorn examples.starlette_app:app

Look at http://127.0.0.1:8000. EXAMPLE_STORE names a store, such as ``sqlite:///example.db``. Without it sessions are
sealed into the cookie, under EXAMPLE_SECRET or, without that either, a secret that ends with the process.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.authentication import AuthenticationMiddleware
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, RedirectResponse, Response, StreamingResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket

from session_mw import AsyncSessionService, generate_key
from session_mw.access import login_required, safe_next
from session_mw.starlette import SessionBackend, SessionMiddleware, session_of
from session_mw.stores.url import store_from_url

PAGE = Path(__file__).with_name("shop.html")

url = os.environ.get("EXAMPLE_STORE")
store = store_from_url(url) if url else None
devices_of = AsyncSessionService(store=store) if store else None


async def page(request: Request) -> Response:
    return FileResponse(PAGE)


async def whoami(request: Request) -> Response:
    session = session_of(request)
    return JSONResponse({"user": session.user_id, "session": session.session_id})


async def log_in(request: Request) -> Response:
    session_of(request).login(user_id=request.path_params["name"])  # yours would check a password here
    if "next" in request.query_params:
        return RedirectResponse(safe_next(request.query_params["next"]), 303)
    return await whoami(request)


async def log_out(request: Request) -> Response:
    return JSONResponse({"was online": session_of(request).logout(clear_data=True)})


async def cart(request: Request) -> Response:
    return JSONResponse(request.session.get("cart", {}))


async def add(request: Request) -> Response:
    things, thing = request.session.setdefault("cart", {}), request.path_params["thing"]
    things[thing] = things.get(thing, 0) + 1  # nested, and seen
    return JSONResponse(things)


@login_required(redirect_to="/login")
def account(request: Request) -> Response:
    return JSONResponse({"account": request.user.identity})


def login_page(request: Request) -> Response:
    return JSONResponse({"log in with": "POST /login/NAME", "next": safe_next(request.query_params.get("next"))})


async def regenerate(request: Request) -> Response:
    return JSONResponse({"session": session_of(request).regenerate(grace=0)})


async def admin_login(request: Request) -> Response:
    session = session_of(request)
    with session.using_storage("admin"):  # a login of its own, in the same session
        session["mode"] = "careful"
        session.login()
    return JSONResponse({"online": [session.online(), session.online("admin")]})


@login_required(storage="admin", fresh=300)
async def admin(request: Request) -> Response:
    return JSONResponse({"mode": session_of(request).get_from("admin", "mode")})


@login_required
async def devices(request: Request) -> Response:
    if devices_of is None:
        return JSONResponse({"devices": "kept by their browsers; set EXAMPLE_STORE to see them"})
    records = await devices_of.list_records(request.user.identity)
    return JSONResponse({"devices": [{"id": each.session_id, "browser": each.login_user_agent} for each in records]})


@login_required
async def end_others(request: Request) -> Response:
    session_of(request).destroy_others()
    return JSONResponse({"ended": True})


async def export(request: Request) -> Response:
    session = session_of(request)
    session.setdefault("exports", 0)

    async def lines() -> AsyncIterator[str]:
        for thing in session.get("cart", {}):
            yield f"{thing}\n"
        if store is not None:  # the response has begun: what is in a store can still be written
            session["exports"] += 1
            await session.acommit()  # now, and not only when all is sent

    return StreamingResponse(lines(), media_type="text/plain")


async def exports(request: Request) -> Response:
    return JSONResponse({"exports": request.session.get("exports")})


async def leave_badly(request: Request) -> Response:
    session_of(request).logout()
    raise RuntimeError("after the logout; an error never undoes it")


@login_required
async def chat(websocket: WebSocket) -> None:
    """Refused without a login; closed with 1008 when the session ends elsewhere."""
    await websocket.accept()
    async for text in websocket.iter_text():
        await websocket.send_text(f"{session_of(websocket).user_id}: {text}")


def create_app(**settings: Any) -> Starlette:
    """The app, with its sessions; *settings* as for ``SessionMiddleware``."""
    routes = [
        Route("/", page),
        Route("/whoami", whoami),
        Route("/login", login_page),
        Route("/login/{name}", log_in, methods=["POST"]),
        Route("/logout", log_out, methods=["POST"]),
        Route("/cart", cart),
        Route("/cart/{thing}", add, methods=["POST"]),
        Route("/account", account),
        Route("/regenerate", regenerate, methods=["POST"]),
        Route("/admin", admin),
        Route("/admin/login", admin_login, methods=["POST"]),
        Route("/devices", devices),
        Route("/devices/end-others", end_others, methods=["POST"]),
        Route("/export", export),
        Route("/exports", exports),
        Route("/leave-badly", leave_badly, methods=["POST"]),
        WebSocketRoute("/chat", chat),
    ]
    secret = os.environ.get("EXAMPLE_SECRET") or generate_key()
    middleware = [
        Middleware(SessionMiddleware, secret_key=secret, store=store, **settings),
        Middleware(AuthenticationMiddleware, backend=SessionBackend()),
    ]
    return Starlette(routes=routes, middleware=middleware)


app = create_app()
