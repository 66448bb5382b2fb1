"""A small shop in Bottle, as under any WSGI framework without an integration of its own: the app is wrapped.

    gunicorn examples.bottle_app:app

Look at http://127.0.0.1:8000. EXAMPLE_STORE names a store, such as ``sqlite:///example.db``. Without it sessions are
sealed into the cookie, under EXAMPLE_SECRET or, without that either, a secret that ends with the process.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from bottle import Bottle, HTTPResponse, request, response, static_file

from session_mw import SessionService, current_session, generate_key
from session_mw.access import login_required, safe_next
from session_mw.exchange import AccessRefused
from session_mw.stores.url import store_from_url
from session_mw.wsgi import SessionMiddleware

url = os.environ.get("EXAMPLE_STORE")
store = store_from_url(url) if url else None
devices_of = SessionService(store=store) if store else None

site = Bottle()


@site.install
def refusals(view: Callable[..., Any]) -> Callable[..., Any]:
    """A plugin: what the guard answers is a response. Bottle would take its exception for an error, and say 500."""

    @functools.wraps(view)
    def answering(*args: Any, **kwargs: Any) -> Any:
        try:
            return view(*args, **kwargs)
        except AccessRefused as refused:
            status, headers, body = refused.answer
            return HTTPResponse(body, status, dict(headers))

    return answering


@site.get("/")
def page() -> HTTPResponse:
    return static_file("shop.html", root=Path(__file__).parent)


@site.get("/whoami")
def whoami() -> dict[str, Any]:
    session = current_session()
    return {"user": session.user_id, "session": session.session_id}


@site.get("/login")
def login_page() -> dict[str, Any]:
    return {"log in with": "POST /login/NAME", "next": safe_next(request.query.get("next"))}


@site.post("/login/<name>")
def log_in(name: str) -> dict[str, Any]:
    current_session().login(user_id=name)  # yours would check a password here
    return whoami()


@site.post("/logout")
def log_out() -> dict[str, Any]:
    return {"was online": current_session().logout(clear_data=True)}


@site.get("/cart")
def cart() -> dict[str, Any]:
    return current_session().get("cart", {})


@site.post("/cart/<thing>")
def add(thing: str) -> dict[str, Any]:
    things = current_session().setdefault("cart", {})
    things[thing] = things.get(thing, 0) + 1  # nested, and seen
    return things


@site.get("/account")
@login_required(redirect_to="/login")
def account() -> dict[str, Any]:
    return {"account": current_session().user_id}


@site.post("/regenerate")
def regenerate() -> dict[str, Any]:
    return {"session": current_session().regenerate(grace=0)}


@site.post("/admin/login")
def admin_login() -> dict[str, Any]:
    session = current_session()
    with session.using_storage("admin"):  # a login of its own, in the same session
        session["mode"] = "careful"
        session.login()
    return {"online": [session.online(), session.online("admin")]}


@site.get("/admin")
@login_required(storage="admin", fresh=300)
def admin() -> dict[str, Any]:
    return {"mode": current_session().get_from("admin", "mode")}


@site.get("/devices")
@login_required
def devices() -> dict[str, Any]:
    if devices_of is None:
        return {"devices": "kept by their browsers; set EXAMPLE_STORE to see them"}
    records = devices_of.list_records(current_session().user_id or "")
    return {"devices": [{"id": each.session_id, "browser": each.login_user_agent} for each in records]}


@site.post("/devices/end-others")
@login_required
def end_others() -> dict[str, Any]:
    current_session().destroy_others()
    return {"ended": True}


@site.get("/export")
def export() -> Iterator[str]:
    session = current_session()
    session.setdefault("exports", 0)
    response.content_type = "text/plain"
    for thing in session.get("cart", {}):
        yield f"{thing}\n"
    if store is not None:  # the response has begun: what is in a store can still be written
        session["exports"] += 1


@site.get("/exports")
def exports() -> dict[str, Any]:
    return {"exports": current_session().get("exports")}


@site.post("/leave-badly")
def leave_badly() -> None:
    current_session().logout()
    raise RuntimeError("after the logout; an error never undoes it")


def create_app(**settings: Any) -> SessionMiddleware:
    """The app, with its sessions; *settings* as for ``SessionMiddleware``."""
    secret = os.environ.get("EXAMPLE_SECRET") or generate_key()
    # DEVELOPMENT lets the cookie travel over plain http: leave it out behind https.
    return SessionMiddleware(site, store=store, secret_key=secret, profile="DEVELOPMENT", **settings)


app = create_app()
