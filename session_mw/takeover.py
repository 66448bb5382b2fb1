"""A framework's own secret key, taken over for our seals: weaker keys than ours work, and say so.

Decided here: how weak is too weak. Ours have 32 bytes; of a framework's key 16 are enough, with one log record; less is
for development alone. Everything else about keys is ``core.keys``.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from .core.keys import MINIMUM, KeyRing
from .errors import ConfigurationError

__all__ = ["LEAST", "framework_keys"]

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
