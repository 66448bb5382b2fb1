"""Analytics over the live sessions of a user: by the store's index, without touching any of them.

python examples/service/analytics.py
"""

from __future__ import annotations

import os
from typing import NamedTuple

from session_mw import SessionService
from session_mw.testing import Clock


class Activity(NamedTuple):
    """What one user does. Durations are seconds from creation to the last activity."""

    sessions: int
    page_views: int
    average_duration: float


def view(sessions: SessionService, session_id: str, page: str) -> None:
    """Count a page view; it is activity, too."""
    sessions.update_with(session_id, "views", lambda views: {**views, page: views.get(page, 0) + 1}, {})
    sessions.touch_session(session_id)


def activity(sessions: SessionService, user_id: str) -> Activity:
    """The numbers for *user_id*."""
    records = sessions.find_sessions(user_id, lambda session: True)
    views = sum(sum((record.data or {}).get("views", {}).values()) for record in records)
    durations = [record.last_activity - record.created_at for record in records]
    return Activity(len(records), views, sum(durations) / len(durations) if durations else 0.0)


def main(sessions: SessionService, clock: Clock) -> None:
    laptop, phone = (sessions.create_session("ada") for _ in range(2))
    for page in ("home", "news", "home"):
        clock.advance(60)
        view(sessions, laptop, page)
    clock.advance(60)
    view(sessions, phone, "home")
    print(activity(sessions, "ada"))
    print(sessions.get_session(laptop))
    print(activity(sessions, "nobody"))


if __name__ == "__main__":
    turned = Clock()  # a clock turned by hand, so that this ends before you do
    with SessionService.from_url(os.environ.get("EXAMPLE_STORE") or "memory:", clock=turned) as service:
        main(service, turned)
