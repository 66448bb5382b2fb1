"""A small shop in Flask: a cart for everybody, an account for who is logged in, the devices one is logged in on.

    gunicorn examples.flask_app:app

Look at http://127.0.0.1:8000. EXAMPLE_STORE names a store, such as ``sqlite:///example.db``. Without it sessions are
sealed into the cookie, under EXAMPLE_SECRET or, without that either, a secret that ends with the process.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from flask import Flask, Response, request, send_file, stream_with_context

from session_mw import generate_key
from session_mw.access import login_required, safe_next
from session_mw.flask import SessionMW, session

PAGE = Path(__file__).with_name("shop.html")

sessions = SessionMW()
store = os.environ.get("EXAMPLE_STORE") or None


def create_app(**settings: Any) -> Flask:
    """The app, with its sessions; *settings* as in ``SESSION_MW``."""
    app = Flask(__name__)
    app.config["SECRET_KEY"] = os.environ.get("EXAMPLE_SECRET") or generate_key()
    # DEVELOPMENT is for plain http and short keys: leave it out behind https.
    app.config["SESSION_MW"] = {"store": store, "profile": "DEVELOPMENT", **settings}
    sessions.init_app(app)

    @app.get("/")
    def page() -> Response:
        return send_file(PAGE)

    @app.get("/whoami")
    def whoami() -> dict[str, Any]:
        return {"user": session.user_id, "session": session.session_id}

    @app.get("/login")
    def login_page() -> dict[str, Any]:
        return {"log in with": "POST /login/NAME", "next": safe_next(request.args.get("next"))}

    @app.post("/login/<name>")
    def log_in(name: str) -> dict[str, Any]:
        session.login(user_id=name)  # yours would check a password here
        return whoami()

    @app.post("/logout")
    def log_out() -> dict[str, Any]:
        return {"was online": session.logout(clear_data=True)}

    @app.get("/cart")
    def cart() -> dict[str, Any]:
        return session.get("cart", {})

    @app.post("/cart/<thing>")
    def add(thing: str) -> dict[str, Any]:
        things = session.setdefault("cart", {})
        things[thing] = things.get(thing, 0) + 1  # nested, and seen
        return things

    @app.get("/account")
    @login_required(redirect_to="/login")
    def account() -> dict[str, Any]:
        return {"account": session.user_id}

    @app.post("/regenerate")
    def regenerate() -> dict[str, Any]:
        return {"session": session.regenerate(grace=0)}

    @app.post("/admin/login")
    def admin_login() -> dict[str, Any]:
        with session.using_storage("admin"):  # a login of its own, in the same session
            session["mode"] = "careful"
            session.login()
        return {"online": [session.online(), session.online("admin")]}

    @app.get("/admin")
    @login_required(storage="admin", fresh=300)
    def admin() -> dict[str, Any]:
        return {"mode": session.get_from("admin", "mode")}

    @app.get("/devices")
    @login_required
    def devices() -> dict[str, Any]:
        if store is None:
            return {"devices": "kept by their browsers; set EXAMPLE_STORE to see them"}
        records = sessions.service().list_records(session.user_id or "")
        return {"devices": [{"id": each.session_id, "browser": each.login_user_agent} for each in records]}

    @app.post("/devices/end-others")
    @login_required
    def end_others() -> dict[str, Any]:
        session.destroy_others()
        return {"ended": True}

    @app.get("/export")
    def export() -> Response:
        session.setdefault("exports", 0)

        def lines() -> Iterator[str]:
            for thing in session.get("cart", {}):
                yield f"{thing}\n"
            if store is not None:  # the response has begun: what is in a store can still be written
                session["exports"] += 1

        return Response(stream_with_context(lines()), mimetype="text/plain")

    @app.get("/exports")
    def exports() -> dict[str, Any]:
        return {"exports": session.get("exports")}

    @app.post("/leave-badly")
    def leave_badly() -> None:
        session.logout()
        raise RuntimeError("after the logout; an error never undoes it")

    return app


app = create_app()
