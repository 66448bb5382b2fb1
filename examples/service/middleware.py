"""A middleware of your own over the service, where there is no web framework: a bot, a queue worker, a game server.

    python examples/service/middleware.py

For ASGI and WSGI apps there is ``session_mw.asgi`` and ``session_mw.wsgi``.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from typing import TypeVar

from session_mw import SessionNotFoundError, SessionRecord, SessionService

T = TypeVar("T")


class InvalidSessionError(Exception):
    """The token opens no session: expired, ended, or made up."""


class Middleware:
    """Lets a call through for whoever carries a live token, and notes the activity."""

    def __init__(self, sessions: SessionService) -> None:
        self.sessions = sessions

    def handle(self, token: str | None, next: Callable[[SessionRecord], T]) -> T:
        """What *next* makes of the session. Raises ``InvalidSessionError``."""
        found = self.sessions.authenticate(token)
        record = None if found is None else self.sessions.get_record(found.session_id)
        if record is None:
            raise InvalidSessionError
        try:
            return next(record)
        finally:
            # Last activity is now, and the idle deadline slides: never past the absolute one, so that a client who
            # never rests cannot live for ever. The handler may have ended the session: then there is nothing to do.
            with contextlib.suppress(SessionNotFoundError):
                self.sessions.touch_session(record.session_id)


def main(sessions: SessionService) -> None:
    middleware = Middleware(sessions)
    session_id = sessions.create_session("ada", {"name": "Ada"})
    token = sessions.issue_token(session_id)

    def greet(session: SessionRecord) -> str:
        assert session.data is not None  # noqa: S101 - get_record() fills it
        visits = sessions.update_with(session.session_id, "visits", lambda n: n + 1, 0)
        return f"Hello, {session.data['name']}! Visit number {visits}."

    def logout(session: SessionRecord) -> str:
        sessions.destroy_session(session.session_id)
        return "Goodbye."

    def fails(session: SessionRecord) -> str:
        raise RuntimeError("the handler failed")

    print(middleware.handle(token, greet))
    print(middleware.handle(token, greet))
    try:
        middleware.handle(token, fails)
    except RuntimeError as error:
        print("as without a middleware:", error)
    print(middleware.handle(token, logout))
    for claim in (token, session_id, None):
        try:
            middleware.handle(claim, greet)
        except InvalidSessionError:
            print("not let through")


if __name__ == "__main__":
    with SessionService.from_url(os.environ.get("EXAMPLE_STORE") or "memory:") as service:
        main(service)
