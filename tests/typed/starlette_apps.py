"""What type checkers must see of sessions in Starlette and FastAPI."""

from typing import assert_type

from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.datastructures import Secret
from starlette.middleware import Middleware
from starlette.middleware.authentication import AuthenticationMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.websockets import WebSocket

from session_mw import Session
from session_mw.access import login_required
from session_mw.fastapi import CurrentSession, OnlineSession
from session_mw.guard import ASGIGuard
from session_mw.starlette import SessionBackend, SessionMiddleware, session_of


@login_required
async def page(request: Request) -> Response:
    request.session["a"] = 1
    assert_type(session_of(request), Session)
    return JSONResponse(request.session)


middleware = [
    Middleware(SessionMiddleware, secret_key=Secret("x"), max_age=None, store="memory:"),
    Middleware(SessionMiddleware, "x" * 32, "sid", 60),
    Middleware(AuthenticationMiddleware, backend=SessionBackend()),
    Middleware(ASGIGuard, only=["/admin"]),
]
app = Starlette(routes=[Route("/", page)], middleware=middleware)
app.add_middleware(SessionMiddleware, secret_key=["x", Secret("y")], https_only=True)
api = FastAPI()


@api.get("/")
@login_required(redirect_to="/login")
def mine(session: OnlineSession, other: CurrentSession) -> str:
    assert_type(session, Session)
    return session.user_id or ""


async def talk(websocket: WebSocket) -> None:
    assert_type(session_of(websocket), Session)


Middleware(SessionMiddleware, secret_key=5)  # type: ignore[arg-type]
app.add_middleware(SessionMiddleware, max_age="60")  # type: ignore[arg-type]
