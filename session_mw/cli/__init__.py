"""The command line, ``session-mw``: here only what must work without the extra ``cli``, which is to ask for it.

The commands stand in ``commands``; click and rich are imported there.
"""

from __future__ import annotations

import sys
from typing import NoReturn

__all__ = ["main"]


def _ask_for_extra() -> NoReturn:
    print("session-mw: the command line is an extra: pip install 'session_mw[cli]'", file=sys.stderr)
    sys.exit(2)


try:
    from .commands import main
except ModuleNotFoundError as error:
    if (error.name or "").partition(".")[0] not in ("click", "rich"):
        raise
    main = _ask_for_extra  # type: ignore[assignment]
