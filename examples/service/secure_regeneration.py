"""Secure regeneration: a new id and token whenever what a client may do changes; the old ones open nothing.

python examples/service/secure_regeneration.py
"""

from __future__ import annotations

import os

from session_mw import SessionService


class Accounts:
    """Hands a new token out whenever rights change."""

    def __init__(self, sessions: SessionService) -> None:
        self.sessions = sessions

    def renew(self, token: str) -> str | None:
        """Another token for the session that *token* opens, under another id; ``None`` when it opens none."""
        found = self.sessions.authenticate(token)
        if found is None:
            return None
        return self.sessions.issue_token(self.sessions.regenerate_session(found.session_id))

    def become_admin(self, token: str) -> str | None:
        """New rights, and a new token for them."""
        renewed = self.renew(token)
        found = self.sessions.authenticate(renewed)
        if found is not None:
            self.sessions.update_session(found.session_id, {"admin": True})
        return renewed


def main(sessions: SessionService) -> None:
    accounts = Accounts(sessions)
    session_id = sessions.create_session("ada", {"cart": ["tea"]})
    token = sessions.issue_token(session_id)
    stolen = token  # somebody read along

    renewed = accounts.become_admin(token)
    found = sessions.authenticate(renewed)
    assert found is not None  # noqa: S101 - for type checkers
    print("user:", found.user_id, "data:", sessions.get_session(found.session_id))
    print("another id:", found.session_id != session_id, "sessions:", len(sessions.list_sessions("ada")))
    print("the old id:", sessions.get_session(session_id))
    print("the old token:", sessions.authenticate(stolen), "and to renew it:", accounts.renew(stolen))


if __name__ == "__main__":
    with SessionService.from_url(os.environ.get("EXAMPLE_STORE") or "memory:") as service:
        main(service)
