"""The directory that a store on disk stands in: who else may put something in the store's place.

Decided here: *others* are refused. A *group* may be what its directory was made for, so it is told to the log, and the
store goes on.
"""

from __future__ import annotations

import stat
from logging import getLogger
from pathlib import Path

from ..errors import StoreError

__all__ = ["look_above"]

logger = getLogger("session_mw")


def look_above(path: Path) -> None:
    """Look at the directory *path* is in, once, before it is used. Raises OSError; StoreError where others may write.

    The sticky bit (as of ``/tmp``) will do: then everybody may rename only what is theirs.
    """
    mode = path.parent.stat().st_mode
    if mode & stat.S_ISVTX:
        return
    if mode & stat.S_IWOTH:
        reason = "others may write to the directory above it, and put another in its place"
        raise StoreError(f"{path}: {reason}; take that from them (chmod o-w), or pass another")
    if mode & stat.S_IWGRP:
        logger.warning(
            "%s: the group of the directory above it may put another in its place, such as an older copy; take that "
            "from it (chmod g-w), or let everybody rename only what is theirs (chmod +t)",
            path,
        )
