"""Activity: when each session was last used, on which page, and how long it will stay: a "your devices" page.

python examples/service/activity.py
"""

from __future__ import annotations

import os

from session_mw import SessionService
from session_mw.testing import Clock


def used(sessions: SessionService, session_id: str, page: str) -> None:
    """The user does something: the store notes when, and the idle deadline slides. The page is our own data."""
    sessions.touch_session(session_id)
    sessions.update_session(session_id, {"page": page})


def devices(sessions: SessionService, user_id: str, now: int, here: str) -> list[str]:
    """One line for each of a user's sessions, newest first; *here* is the session that asks."""
    lines = []
    for session in sessions.find_sessions(user_id, lambda session: True):
        data = session.data or {}
        device, page = data.get("device", "?"), data.get("page", "no page")
        ago, left = (now - session.last_activity) // 60, (session.expires_at - now) // 60
        mark = " (this one)" if session.session_id == here else ""
        lines.append(f"{device}{mark}: {page}, {ago} min ago, {left} min left")
    return lines


def main(sessions: SessionService, clock: Clock) -> None:
    laptop = sessions.create_session("ada", {"device": "laptop"})
    clock.advance(60)
    phone = sessions.create_session("ada", {"device": "phone"})
    used(sessions, phone, "news")
    clock.advance(30 * 60)
    used(sessions, laptop, "mail")
    clock.advance(5 * 60)
    print("\n".join(devices(sessions, "ada", int(clock()), here=laptop)))

    clock.advance(90 * 60)  # the phone was left alone for too long
    used(sessions, laptop, "mail")
    print("later:")
    print("\n".join(devices(sessions, "ada", int(clock()), here=laptop)))


if __name__ == "__main__":
    turned = Clock()  # a clock turned by hand, so that this ends before you do
    with SessionService.from_url(os.environ.get("EXAMPLE_STORE") or "memory:", clock=turned) as service:
        main(service, turned)
