"""One session, in the web app and in a worker script: they share the settings, and so the store.

python examples/service/web_and_worker.py
"""

from __future__ import annotations

import os
from typing import Any

from werkzeug.test import Client  # a browser for this example

from session_mw import SessionConfig, SessionService, current_session
from session_mw.stores.memory import MemoryStore
from session_mw.wsgi import SessionMiddleware


def web(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    """The web app: POST logs in and orders a report, GET shows how it comes along."""
    session = current_session()
    if environ["REQUEST_METHOD"] == "POST":
        session.login(user_id="ada")
        session["report"] = "ordered"
    start_response("200 OK", [("Content-Type", "text/plain; charset=utf-8")])
    said = f"{session.user_id}: {session.get('report')}"
    return [said.encode()]


def worker(sessions: SessionService, user_id: str) -> None:
    """Elsewhere, later: tell every session of the user."""
    for session_id in sessions.list_sessions(user_id):
        sessions.update_session(session_id, {"report": "ready"})


def main(config: SessionConfig) -> None:
    app = SessionMiddleware(web, config)
    sessions = SessionService(config)
    url = "https://shop.example"

    browser = Client(app)
    print(browser.post("/", base_url=url).text)
    worker(sessions, "ada")
    print(browser.get("/", base_url=url).text)

    # The other way round: a session made by a script, such as a link in a mail, opens in the web app.
    session_id = sessions.create_session("bob", {"report": "as you asked, by mail"})
    mailed = Client(app, use_cookies=False)
    cookie = f"{config.cookie_name}={sessions.issue_token(session_id)}"
    print(mailed.get("/", base_url=url, headers={"Cookie": cookie}).text)


if __name__ == "__main__":
    # Memory is one process only: a real worker names a store that both reach.
    main(SessionConfig(store=os.environ.get("EXAMPLE_STORE") or MemoryStore()))
