"""The demo's app: a handler a page. How to use a session in one's own app is seen here.

A post changes something and redirects (303), so that a reload repeats nothing. The list of devices asks the store
itself, which the layer has opened; all else goes through the session.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any, cast

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from ..config import SessionConfig
from ..core.operations import AsyncStore, Outcome
from ..core.record import SessionRecord
from ..core.session import Session
from ..profiles import DEVELOPMENT
from . import accounts, pages
from .forms import FormError, OwnPagesOnly, read_form
from .pages import Frame
from .watch import Watch, WatchedSessions, note_event

__all__ = ["DemoApp", "demo_app"]

NOTE_LIMIT = 2000  # characters
CART_LIMIT = 99  # of one product
FRESH = 60  # seconds for which the vault trusts a login
REMEMBERED = timedelta(days=7)

_NOTICES = {
    "saved": "Saved.",
    "deleted": "The note is gone.",
    "out": "You are signed out. The session and everything in it has ended.",
    "in": "You are signed in, under a new session id.",
    "ended": "Signed out there. Its next click will notice.",
    "ended-before": "That one had ended already.",
    "others": "All other sessions of yours have ended.",
    "confirmed": "Thank you. The session has a new id again.",
}
_MAY_FOLLOW = ("/", "/note", "/cart", "/devices", "/vault")


def _session(request: Request) -> Session:
    return cast("Session", request.scope["session"])


def _user(request: Request) -> str | None:
    session = _session(request)
    return session.user_id if session.online() else None


def _frame(request: Request) -> Frame:
    return Frame(_user(request), _NOTICES.get(request.query_params.get("done", ""), ""))


def _go(path: str, done: str = "") -> Response:
    return RedirectResponse(f"{path}?done={done}" if done else path, 303, {"cache-control": "no-store"})


Handler = Callable[[Request], Awaitable[Response]]


def _signed_in(handler: Callable[[Request, str], Awaitable[Response]]) -> Handler:
    """Only for users; anybody else is asked to sign in, and led back."""

    async def guarded(request: Request) -> Response:
        user = _user(request)
        if user is not None:
            return await handler(request, user)
        page = "/devices" if request.url.path.startswith("/devices") else request.url.path
        return _go(f"/sign-in?next={page}")

    return guarded


async def start(request: Request) -> Response:
    return pages.start(_frame(request))


async def plain(request: Request) -> Response:
    return pages.plain(Frame(None, unknown=True))


# -- signing in and out ------------------------------------------------------------------------------------------------


async def sign_in_form(request: Request) -> Response:
    to = request.query_params.get("next", "")
    asked = to in _MAY_FOLLOW
    return pages.sign_in(_frame(request), name="", to=to if asked else "/", attempts=0, failed=False, asked=asked)


async def sign_in(request: Request) -> Response:
    form = await read_form(request)
    session = _session(request)
    name, to = form.get("name", ""), form.get("next", "")
    to = to if to in _MAY_FOLLOW else "/"  # a redirect never leaves this site
    if not accounts.matches(name, form.get("password", "")):
        tried = session.attempt()
        return pages.sign_in(_frame(request), name=name, to=to, attempts=tried, failed=True, asked=False)
    session.login(user_id=name)
    session.expire_after(REMEMBERED if form.get("remember") else None)
    return _go(to, "in")


async def sign_out(request: Request) -> Response:
    _session(request).logout(clear_data=True)  # with nothing left in it the session itself ends
    return _go("/", "out")


# -- data in the session -----------------------------------------------------------------------------------------------


async def note_form(request: Request) -> Response:
    return pages.note(_frame(request), _session(request).get("note", ""), NOTE_LIMIT)


async def note(request: Request) -> Response:
    form = await read_form(request)
    text = form.get("note", "").replace("\r\n", "\n").strip()[:NOTE_LIMIT]
    session = _session(request)
    if not text:
        session.remove("note")
        return _go("/note", "deleted")
    session["note"] = text  # written only where it differs
    return _go("/note", "saved")


async def cart_form(request: Request) -> Response:
    return pages.cart(_frame(request), _session(request).get("cart", {}))


async def cart(request: Request) -> Response:
    form = await read_form(request)
    item, step = form.get("item", ""), {"add": 1, "remove": -1}.get(form.get("do", ""))
    if item not in pages.PRODUCTS or step is None:
        raise FormError(400, "There is no such thing to buy.")

    def change(items: dict[str, int]) -> dict[str, int]:
        count = min(items.get(item, 0) + step, CART_LIMIT)
        others = {key: value for key, value in items.items() if key != item}
        return {**others, item: count} if count > 0 else others

    _session(request).update_with("cart", change, default={})
    return _go("/cart")


# -- your devices ------------------------------------------------------------------------------------------------------


async def _records(request: Request, user: str) -> list[SessionRecord]:
    """The living sessions of *user*, newest first."""
    store: AsyncStore = request.app.state.store
    now = request.app.state.now()
    return [SessionRecord.of(record) for record in await store.list_user(user) if record.expires_at > now]


@_signed_in
async def devices(request: Request, user: str) -> Response:
    records = await _records(request, user)
    return pages.devices(_frame(request), records, _session(request).session_id, request.app.state.now())


@_signed_in
async def end_device(request: Request, user: str) -> Response:
    ended = (await read_form(request)).get("id", "")
    if ended == _session(request).session_id:
        return await sign_out(request)
    if ended not in {record.session_id for record in await _records(request, user)}:
        return _go("/devices", "ended-before")  # or it is somebody else's, and we do not say which
    store: AsyncStore = request.app.state.store
    gone = await store.delete(ended) is not Outcome.DELETED
    return _go("/devices", "ended-before" if gone else "ended")


@_signed_in
async def end_other_devices(request: Request, user: str) -> Response:
    _session(request).destroy_others()
    return _go("/devices", "others")


# -- a recent login ----------------------------------------------------------------------------------------------------


@_signed_in
async def vault(request: Request, user: str) -> Response:
    session = _session(request)
    if session.fresh(FRESH):
        seconds = request.app.state.now() - session.login_timestamp
        return pages.vault(_frame(request), seconds=seconds, limit=FRESH)
    return pages.confirm(_frame(request), user=user, limit=FRESH, failed=False)


@_signed_in
async def confirm(request: Request, user: str) -> Response:
    form = await read_form(request)
    session = _session(request)
    if not accounts.matches(user, form.get("password", "")):
        session.attempt()
        return pages.confirm(_frame(request), user=user, limit=FRESH, failed=True)
    session.login()  # the credentials were checked just now: the owner stays, the id does not
    return _go("/vault", "confirmed")


# -- the whole ---------------------------------------------------------------------------------------------------------

_ICON = (
    b'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 32 32"><rect width="32" height="32" rx="8" fill="#0c6b62"/>'
    b'<circle cx="16" cy="16" r="8.5" fill="none" stroke="#fff" stroke-width="3"/>'
    b'<circle cx="22" cy="10" r="3.6" fill="#ffd479"/></svg>'
)


async def icon(request: Request) -> Response:
    return Response(_ICON, headers={"cache-control": "public, max-age=86400"}, media_type="image/svg+xml")


async def _refused(request: Request, error: Exception) -> Response:
    status = error.status if isinstance(error, FormError) else 400
    return pages.message(Frame(None, unknown=True), "That did not work", str(error), status)


async def _missing(request: Request, error: Exception) -> Response:
    status = getattr(error, "status_code", 404)
    return pages.message(Frame(None, unknown=True), "Nothing here", "There is no such page in this demo.", status)


class DemoApp:
    """The demo as an ASGI app; ``sessions`` is the middleware in it."""

    def __init__(self, store: Any, clock: Callable[[], float]) -> None:
        config = SessionConfig(store=store, profile=DEVELOPMENT, table_index="demo", clock=clock, on_event=note_event)

        @asynccontextmanager
        async def lifespan(app: Starlette) -> AsyncIterator[None]:
            await app.state.store.purge(int(clock()), 1000)
            yield

        handlers: dict[int | type[Exception], Any] = {FormError: _refused, 404: _missing, 405: _missing}
        app = Starlette(routes=_ROUTES, exception_handlers=handlers, lifespan=lifespan)
        self.sessions = WatchedSessions(app, config)
        app.state.store = self.sessions.layer.home.astore
        app.state.now = self.sessions.layer.now
        self._app = OwnPagesOnly(Watch(self.sessions, config))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._app(scope, receive, send)


_ROUTES = [
    Route("/", start),
    Route("/plain", plain),
    Route("/icon.svg", icon),
    Route("/sign-in", sign_in_form),
    Route("/sign-in", sign_in, methods=["POST"]),
    Route("/sign-out", sign_out, methods=["POST"]),
    Route("/note", note_form),
    Route("/note", note, methods=["POST"]),
    Route("/cart", cart_form),
    Route("/cart", cart, methods=["POST"]),
    Route("/devices", devices),
    Route("/devices/sign-out", end_device, methods=["POST"]),
    Route("/devices/sign-out-others", end_other_devices, methods=["POST"]),
    Route("/vault", vault),
    Route("/vault", confirm, methods=["POST"]),
]


def demo_app(store: Any = "memory:", *, clock: Callable[[], float] = time.time) -> DemoApp:
    """The demo on *store*, a URL or a store. Raises ``ConfigurationError``."""
    if isinstance(store, str):
        from ..stores.url import store_from_url

        store = store_from_url(store)  # one store, although two layers are built on it
    return DemoApp(store, clock)
