"""What a framework has of its own and we take over: its secret key, its session lifetime.

Decided here: how weak a key is too weak. Ours have 32 bytes; of a framework's key 16 are enough, with one log record;
less is for development alone. And what its one lifetime means beside our two. Everything else is ``core.keys`` and
``config``.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from .core.keys import MINIMUM, KeyRing
from .errors import ConfigurationError
from .settings import KINDS

__all__ = ["LEAST", "framework_keys", "framework_lifetime", "insists_on_secure"]

LEAST = 16  # bytes
logger = logging.getLogger("session_mw")
_told: set[int] = set()  # rings of which was said that they are weak


def framework_keys(keys: Sequence[Any], *, name: str, remedies: str, relaxed: bool = False) -> KeyRing:
    """The ring of a framework's *keys*, newest first; a key listed twice counts once.

    *name* is what the framework calls them, *remedies* the lines that mend a weak one; *relaxed*: any key will do.
    Raises ``ConfigurationError`` for a key under 16 bytes, an obviously weak one, or none at all.
    """
    once = [key for place, key in enumerate(keys) if key not in keys[:place]]
    if relaxed:
        return KeyRing.of(once, minimum=1)
    try:
        return KeyRing.of(once)
    except ConfigurationError:
        pass  # below, under a lower bar
    try:
        ring = KeyRing.of(once, minimum=LEAST)
    except ConfigurationError as error:
        raise ConfigurationError(f"{name}: {error}\n{remedies}") from None
    if hash(ring) not in _told:
        _told.add(hash(ring))
        logger.warning("session_mw: %s is weaker than it should be: %d random bytes are wanted", name, MINIMUM)
    return ring


def framework_lifetime(seconds: int, named: Mapping[str, Any]) -> dict[str, int]:
    """A framework's lifetime as our idle timeout; none where *named*, our settings and a profile's times, has one.

    It keeps within an absolute timeout that is named; one that is not grows with it. Raises ``ConfigurationError``.
    """
    if "idle_timeout" in named:
        return {}
    absolute = named.get("absolute_timeout")
    if absolute is not None:
        seconds = min(seconds, KINDS["absolute_timeout"].check("absolute_timeout", absolute))
    return {"idle_timeout": seconds}


def insists_on_secure(named: Mapping[str, Any]) -> bool:
    """Whether browsers take a cookie of these settings over https alone (6265bis §4.1.3, §5.7; CHIPS)."""
    name, same_site = named.get("cookie_name"), named.get("same_site")
    prefixed = isinstance(name, str) and name.lower().startswith("__")
    return prefixed or (isinstance(same_site, str) and same_site.lower() == "none") or bool(named.get("partitioned"))
