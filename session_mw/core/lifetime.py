"""When a session ends by time: two deadlines, and when a sliding one is worth writing.

All times are whole Unix seconds, handed in; ``now >= deadline`` is expired (NIST SP 800-63B-4 §5.2 asks for both an
inactivity and an overall limit, enforced by the server). Deadlines only grow, and never past the absolute one.
"""

from __future__ import annotations

from datetime import timedelta

import msgspec

from .record import Record

__all__ = ["CLOSED_SECONDS", "MAX_GRACE", "Limits", "expired", "own_limit", "slide", "touch_due"]

CLOSED_SECONDS = 60
"""How long an ended id stays as a closed record, so that stragglers are known for what they are."""

MAX_GRACE = 300
"""The longest time, in seconds, an old id may point to its successor."""


class Limits(msgspec.Struct, frozen=True, gc=False):
    """What the configuration allows, in seconds; ``interval`` is how often activity is written."""

    idle: int
    absolute: int
    interval: int


def expired(record: Record, now: int) -> bool:
    """Whether *record* is over at *now*."""
    return now >= record.expires_at or now >= record.absolute_expires_at


def own_limit(limit: int | timedelta, limits: Limits, name: str) -> int:
    """One session's own idle limit in seconds. Raises ``ValueError``, for *name*, under 1 or over the absolute one."""
    seconds = int(limit.total_seconds()) if isinstance(limit, timedelta) else limit
    if type(seconds) is not int or not 1 <= seconds <= limits.absolute:
        raise ValueError(f"{name}: {limit} is not between 1 s and absolute_timeout ({limits.absolute} s)")
    return seconds


def slide(record: Record, now: int, limits: Limits) -> int:
    """The deadline of *record* after activity at *now*: never earlier than it was, never past the absolute one."""
    idle = record.lifetime or limits.idle
    return min(max(record.expires_at, now + idle), record.absolute_expires_at)


def touch_due(record: Record, now: int, limits: Limits) -> bool:
    """Whether activity was last written long enough ago, and writing it again moves the deadline."""
    interval = limits.interval if record.lifetime is None else min(limits.interval, max(1, record.lifetime // 10))
    return now - record.last_activity >= interval and slide(record, now, limits) > record.expires_at
