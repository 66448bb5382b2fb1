"""Single sign-on: one login for several apps, and log-out-everywhere.

    python examples/service/single_sign_on.py

EXAMPLE_STORE names the store that the apps share, such as ``sqlite:///example.db``.
"""

from __future__ import annotations

import os
from typing import Any

from session_mw import SessionService


class SingleSignOn:
    """What each app asks; the token is what a client carries, in a cookie of the domain they share."""

    def __init__(self, sessions: SessionService) -> None:
        self.sessions = sessions

    def login(self, user_id: str, user_data: dict[str, Any]) -> str:
        """A new session for a user whose password was just checked; the token for the client."""
        session_id = self.sessions.create_session(user_id, {"user": user_data, "sso": True})
        return self.sessions.issue_token(session_id)

    def who(self, token: str | None) -> str | None:
        """The user behind a client's token, in any of the apps."""
        found = self.sessions.authenticate(token)
        return None if found is None else found.user_id

    def logout(self, token: str) -> bool:
        """End the session of this client."""
        found = self.sessions.authenticate(token)
        return found is not None and self.sessions.destroy_session(found.session_id)

    def logout_all(self, user_id: str, *, but: str | None = None) -> int:
        """End every session of a user; *but* the one a client's token opens, after a change of password."""
        kept = self.sessions.authenticate(but)
        return self.sessions.destroy_user_sessions(user_id, except_id=kept.session_id if kept else None)


def main(sessions: SessionService) -> None:
    sso = SingleSignOn(sessions)
    laptop = sso.login("ada", {"name": "Ada"})
    phone = sso.login("ada", {"name": "Ada"})
    tablet = sso.login("ada", {"name": "Ada"})
    print("the shop sees", sso.who(laptop), "and the forum sees", sso.who(phone))

    print("logged out on the tablet:", sso.logout(tablet), "and again:", sso.logout(tablet))

    print("password changed on the laptop; other sessions ended:", sso.logout_all("ada", but=laptop))
    print("laptop:", sso.who(laptop), "phone:", sso.who(phone))

    print("logged out everywhere:", sso.logout_all("ada"))
    print("laptop:", sso.who(laptop))


if __name__ == "__main__":
    with SessionService.from_url(os.environ.get("EXAMPLE_STORE") or "memory:") as service:
        main(service)
