"""Whether several processes serve the app, as far as one of them can tell, and what to say then.

Decided here: what counts as a sign. WSGI servers say it themselves (``wsgi.multiprocess``, PEP 3333), and are
believed. Nobody tells an ASGI app: there it is read from the command line and the environment of the servers we
know, and from a fork since the store was built. A worker count in a configuration file, or two servers behind one
proxy, cannot be seen.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import Any

__all__ = ["sign_of_several", "warn_of_several"]

logger = logging.getLogger("session_mw")

# Server -> its options for the number of workers, and the variables that give it where no option does.
_SERVERS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "gunicorn": (("--workers", "-w"), ("WEB_CONCURRENCY",)),
    "uvicorn": (("--workers",), ("UVICORN_WORKERS", "WEB_CONCURRENCY")),
    "fastapi": (("--workers",), ("WEB_CONCURRENCY",)),
    "hypercorn": (("--workers", "-w"), ()),
    "granian": (("--workers",), ("GRANIAN_WORKERS",)),
}
_UNKNOWN = ((), ("WEB_CONCURRENCY",))  # a platform's convention


def warn_of_several(store: Any, multiprocess: bool | None = None) -> None:
    """Say in the log that *store* serves one process only, when it does and several seem to serve the app.

    *multiprocess*: what a WSGI server says. A store of one process has ``built_in``, the pid it was built in.
    """
    built_in = getattr(store, "built_in", None)
    if built_in is None:
        return
    sign = sign_of_several(os.environ, sys.argv, forked=built_in != os.getpid(), multiprocess=multiprocess)
    if sign:
        logger.warning(
            "session_mw: %s keeps sessions in one process, and several seem to serve this app (%s): "
            "each would know its own clients only; name a store that they share",
            type(store).__name__,
            sign,
        )


def sign_of_several(
    environ: Mapping[str, str], argv: Sequence[str], *, forked: bool, multiprocess: bool | None = None
) -> str | None:
    """What shows that several processes serve the app; ``None`` when nothing does."""
    if multiprocess is not None:
        return "wsgi.multiprocess" if multiprocess else None
    options, variables = _SERVERS.get(_program(argv), _UNKNOWN)
    asked = _asked(argv[1:], options)
    if asked is not None:
        return f"{options[0]} {asked}" if asked > 1 else None
    for name in variables:
        number = environ.get(name, "")
        if number.isdecimal():
            return f"{name}={int(number)}" if int(number) > 1 else None
    return "it was built before this process was forked" if forked else None


def _program(argv: Sequence[str]) -> str:
    path = PurePath(argv[0] if argv else "")
    return path.parent.name if path.name == "__main__.py" else path.stem


def _asked(arguments: Sequence[str], options: tuple[str, ...]) -> int | None:
    """The number that the last of *options* among *arguments* asks for."""
    asked = None
    for index, argument in enumerate(arguments):
        for option in options:
            value = ""
            if argument == option:
                value = arguments[index + 1] if index + 1 < len(arguments) else ""
            elif option.startswith("--"):
                value = argument.removeprefix(f"{option}=") if argument.startswith(f"{option}=") else ""
            elif argument.startswith(option):
                value = argument[len(option) :]
            if value.isdecimal():
                asked = int(value)
    return asked
