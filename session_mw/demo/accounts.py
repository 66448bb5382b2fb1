"""Who may sign in. One password for all, and no secret: every page shows it."""

from __future__ import annotations

import hmac

__all__ = ["NAMES", "PASSWORD", "matches"]

NAMES = ("alice", "bob", "carol")
PASSWORD = "correct horse"  # noqa: S105


def matches(name: str, password: str) -> bool:
    """Whether *name* may sign in with *password*."""
    right = hmac.compare_digest(password.encode("utf-8", "surrogatepass"), PASSWORD.encode())
    return right and name in NAMES
