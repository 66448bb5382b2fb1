"""Two deadlines, to the second."""

from __future__ import annotations

from typing import Any

import pytest

from session_mw.core.lifetime import Limits, expired, slide, touch_due
from session_mw.core.record import Record

LIMITS = Limits(100, 1000, 10)


def record(expires: int = 100, absolute: int = 1000, active: int = 0, lifetime: Any = None) -> Record:
    return Record("i" * 24, b"", None, 0, active, expires, absolute, lifetime, None, None, 1, b"")


@pytest.mark.parametrize(
    ("kept", "now", "over"),
    [(record(), 99, False), (record(), 100, True), (record(500, 50), 49, False), (record(500, 50), 50, True)],
)
def test_now_at_the_deadline_is_expired(kept: Record, now: int, over: bool) -> None:
    assert expired(kept, now) is over


@pytest.mark.parametrize(
    ("kept", "now", "until"),
    [
        (record(), 50, 150),
        (record(expires=400), 50, 400),  # never earlier than it was
        (record(), 950, 1000),  # never past the absolute one
        (record(lifetime=300), 50, 350),
        (record(lifetime=20), 50, 100),
    ],
)
def test_sliding(kept: Record, now: int, until: int) -> None:
    assert slide(kept, now, LIMITS) == until


@pytest.mark.parametrize(
    ("kept", "now", "due"),
    [
        (record(), 9, False),
        (record(), 10, True),
        (record(expires=1000), 950, False),  # nothing would move
        (record(expires=500), 50, False),
        (record(expires=30, lifetime=30), 2, False),
        (record(expires=30, lifetime=30), 3, True),  # a short life is written sooner
        (record(expires=5, lifetime=5), 1, True),
        (record(expires=900, lifetime=900), 10, True),
    ],
)
def test_activity_is_written_now_and_then(kept: Record, now: int, due: bool) -> None:
    assert touch_due(kept, now, LIMITS) is due
