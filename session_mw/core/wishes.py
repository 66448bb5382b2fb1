"""Wishes: what one request wants done with its session, beside its plain data; noted at once, carried out at commit.

Nearly every request wants nothing: all of those share ``NOTHING``, so that asking costs one comparison.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

from .changes import Replay
from .login import Login

__all__ = ["EMPTY", "NOTHING", "UNSET", "Wishes"]

UNSET: Final[Any] = object()
EMPTY: Final[Mapping[str, Any]] = MappingProxyType({})


class Wishes:
    """Attributes are plain, and collections are replaced, never changed in place."""

    __slots__ = (
        "attempts", "cleared", "destroyed", "grace", "lifetime", "logged_in", "logins", "owner", "persistent",
        "released", "replays", "rotating", "wiped",
    )  # fmt: skip

    def __init__(self) -> None:
        self.cleared: frozenset[str] = frozenset()
        self.replays: Mapping[str, Mapping[str, Replay]] = EMPTY
        self.logins: Mapping[str, Login | None] = EMPTY  # changed login states; None: logged out
        self.attempts: Mapping[str, tuple[bool, int]] = EMPTY  # (reset, added)
        self.logged_in: Login | None = None  # the login made last
        self.owner: Any = UNSET  # the new owner, where it changes
        self.released = False  # the owner was let go by a logout
        self.wiped = False  # nothing of what was opened survives
        self.destroyed = False
        self.rotating = False
        self.grace = 0  # seconds for which the old id may be followed
        self.lifetime: Any = UNSET  # this session's own idle limit
        self.persistent: bool | None = None

    def change_record(self) -> bool:
        """Whether anything but plain data is to change."""
        return not (
            self.logins is EMPTY
            and self.attempts is EMPTY
            and self.owner is UNSET
            and self.lifetime is UNSET
            and not self.wiped
            and not self.rotating
        )


class _Nothing(Wishes):
    """All wishes as at the start; shared, hence read-only."""

    __slots__ = ()

    def __setattr__(self, name: str, value: object) -> None:
        if hasattr(self, name):
            raise AttributeError("NOTHING is shared; State.wishing() gives wishes to fill in")
        super().__setattr__(name, value)


NOTHING: Final[Wishes] = _Nothing()
