"""Validation: what to ask before a session is trusted, and a rule of your own that holds everywhere.

python examples/service/validation.py
"""

from __future__ import annotations

import os

from session_mw import SessionRecord, SessionService

BANNED = {"mallory"}


def not_banned(session: SessionRecord) -> bool:
    """For ``on_validate``: asked whenever a client's token, or a cookie in a middleware, would open a session."""
    return session.user_id not in BANNED


def may_edit(sessions: SessionService, token: str | None) -> bool:
    """Whether a client may edit: a live session, with a user, in the right role."""
    found = sessions.authenticate(token)
    if found is None or found.user_id is None:
        return False
    data = sessions.get_session(found.session_id)
    return data is not None and data.get("role") == "editor"


def main(sessions: SessionService) -> None:
    editor = sessions.create_session("ada", {"role": "editor"})  # what is needed, not the whole user object
    reader = sessions.create_session("bob", {"role": "reader"})
    guest = sessions.create_session(None, {"role": "editor"})
    banned = sessions.create_session("mallory", {"role": "editor"})

    for name, session_id in (("ada", editor), ("bob", reader), ("a guest", guest), ("mallory", banned)):
        token = sessions.issue_token(session_id)
        print(name, "valid:", sessions.validate_session(session_id), "may edit:", may_edit(sessions, token))

    print("by the id alone:", may_edit(sessions, editor))  # a handle is no credential
    sessions.destroy_session(editor)
    print("ada, logged out:", sessions.validate_session(editor))


if __name__ == "__main__":
    with SessionService.from_url(os.environ.get("EXAMPLE_STORE") or "memory:", on_validate=not_banned) as service:
        main(service)
