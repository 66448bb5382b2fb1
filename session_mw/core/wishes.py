"""Wishes: what one request wants done with its session, beside its plain data; noted at once, carried out at commit.

Nearly every request wants nothing: all of those share ``NOTHING``, so that asking costs one comparison.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

import msgspec

from .changes import Replay
from .login import Login

__all__ = ["EMPTY", "NOTHING", "UNSET", "Wishes"]

UNSET: Final[Any] = object()
EMPTY: Final[Mapping[str, Any]] = MappingProxyType({})


class Wishes(msgspec.Struct, eq=False):
    """Attributes are plain, and collections are replaced, never changed in place."""

    cleared: frozenset[str] = frozenset()
    replays: Mapping[str, Mapping[str, Replay]] = EMPTY
    logins: Mapping[str, Login | None] = EMPTY  # changed login states; None: logged out
    attempts: Mapping[str, tuple[bool, int]] = EMPTY  # (reset, added)
    ended: Mapping[str, bool] = EMPTY  # storages whose opened login was ended; whether their data went as well
    logged_in: Login | None = None  # the login made last
    owner: Any = UNSET  # the new owner, where it changes
    released: bool = False  # the owner was let go by a logout
    wiped: bool = False  # nothing of what was opened survives
    destroyed: bool = False
    rotating: bool = False
    grace: int = 0  # seconds for which the old id may be followed
    lifetime: Any = UNSET  # this session's own idle limit
    persistent: bool | None = None
    bound: bool = False  # an address is to be kept, which the record has none of

    def __repr__(self) -> str:  # whoever logs in belongs in no log
        return "<Wishes>"

    def change_record(self) -> bool:
        """Whether anything but plain data is to change."""
        return not (
            self.logins is EMPTY
            and self.attempts is EMPTY
            and self.owner is UNSET
            and self.lifetime is UNSET
            and not self.wiped
            and not self.rotating
            and not self.bound
        )


class _Nothing(Wishes, frozen=True, eq=False):  # type: ignore[misc]  # not as a dataclass, but msgspec allows it
    """All wishes as at the start; shared, hence read-only: ``State.wishing()`` gives those to fill in."""


NOTHING: Final[Wishes] = _Nothing()
