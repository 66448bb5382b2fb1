"""A small shop in FastAPI: a cart for everybody, an account for who is logged in, the devices one is logged in on.

    uvicorn examples.fastapi_app:app

Look at http://127.0.0.1:8000, and at its ``/docs``. EXAMPLE_STORE names a store, such as ``sqlite:///example.db``.
Without it sessions are sealed into the cookie, under EXAMPLE_SECRET or, without that either, a secret that ends with
the process.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Annotated, Any

from fastapi import Depends, FastAPI, WebSocket
from fastapi.responses import FileResponse, StreamingResponse

from session_mw import AsyncSessionService, Session, generate_key
from session_mw.access import safe_next
from session_mw.fastapi import CurrentSession, OnlineSession, SessionCookie
from session_mw.starlette import SessionMiddleware
from session_mw.stores.url import store_from_url

PAGE = Path(__file__).with_name("shop.html")

url = os.environ.get("EXAMPLE_STORE")
store = store_from_url(url) if url else None
devices_of = AsyncSessionService(store=store) if store else None

# Dependencies of this app's own, made as the two that come along.
AccountSession = Annotated[Session, Depends(SessionCookie(online=True, redirect_to="/login"))]
AdminSession = Annotated[Session, Depends(SessionCookie(storage="admin", fresh=300))]


def create_app(**settings: Any) -> FastAPI:
    """The app, with its sessions; *settings* as for ``SessionMiddleware``."""
    app = FastAPI(title="A small shop")
    secret = os.environ.get("EXAMPLE_SECRET") or generate_key()
    app.add_middleware(SessionMiddleware, secret_key=secret, store=store, **settings)

    @app.get("/", include_in_schema=False)
    def page() -> FileResponse:
        return FileResponse(PAGE)

    @app.get("/whoami")
    def whoami(session: CurrentSession) -> dict[str, str | None]:
        return {"user": session.user_id, "session": session.session_id}

    @app.get("/login")
    def login_page(next: str | None = None) -> dict[str, str]:
        return {"log in with": "POST /login/NAME", "next": safe_next(next)}

    @app.post("/login/{name}")
    def log_in(name: str, session: CurrentSession) -> dict[str, str | None]:
        session.login(user_id=name)  # yours would check a password here
        return whoami(session)

    @app.post("/logout")
    def log_out(session: CurrentSession) -> dict[str, bool]:
        return {"was online": session.logout(clear_data=True)}

    @app.get("/cart")
    def cart(session: CurrentSession) -> dict[str, int]:
        return session.typed("cart", dict[str, int]) if "cart" in session else {}

    @app.post("/cart/{thing}")
    async def add(thing: str, session: CurrentSession) -> dict[str, int]:
        things: dict[str, int] = session.setdefault("cart", {})
        things[thing] = things.get(thing, 0) + 1  # nested, and seen
        return things

    @app.get("/account")
    async def account(session: AccountSession) -> dict[str, str | None]:
        return {"account": session.user_id}

    @app.post("/regenerate")
    async def regenerate(session: CurrentSession) -> dict[str, str]:
        return {"session": session.regenerate(grace=0)}

    @app.post("/admin/login")
    async def admin_login(session: CurrentSession) -> dict[str, list[bool]]:
        with session.using_storage("admin"):  # a login of its own, in the same session
            session["mode"] = "careful"
            session.login()
        return {"online": [session.online(), session.online("admin")]}

    @app.get("/admin")
    async def admin(session: AdminSession) -> dict[str, str]:
        return {"mode": session.get_from("admin", "mode")}

    @app.get("/devices")
    async def devices(session: OnlineSession) -> dict[str, Any]:
        if devices_of is None:
            return {"devices": "kept by their browsers; set EXAMPLE_STORE to see them"}
        records = await devices_of.list_records(session.user_id or "")
        return {"devices": [{"id": each.session_id, "browser": each.login_user_agent} for each in records]}

    @app.post("/devices/end-others")
    async def end_others(session: OnlineSession) -> dict[str, bool]:
        session.destroy_others()
        return {"ended": True}

    @app.get("/export")
    async def export(session: CurrentSession) -> StreamingResponse:
        session.setdefault("exports", 0)

        async def lines() -> AsyncIterator[str]:
            for thing in session.get("cart", {}):
                yield f"{thing}\n"
            if store is not None:  # the response has begun: what is in a store can still be written
                session["exports"] += 1
                await session.acommit()  # now, and not only when all is sent

        return StreamingResponse(lines(), media_type="text/plain")

    @app.get("/exports")
    async def exports(session: CurrentSession) -> dict[str, int | None]:
        return {"exports": session.get("exports")}

    @app.post("/leave-badly")
    async def leave_badly(session: CurrentSession) -> None:
        session.logout()
        raise RuntimeError("after the logout; an error never undoes it")

    @app.websocket("/chat")
    async def chat(websocket: WebSocket, session: OnlineSession) -> None:
        """Refused without a login; closed with 1008 when the session ends elsewhere."""
        await websocket.accept()
        async for text in websocket.iter_text():
            await websocket.send_text(f"{session.user_id}: {text}")

    return app


app = create_app()
