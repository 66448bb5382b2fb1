"""The example that ``EXAMPLE`` names, under a clock that a file puts forward, for real servers: ``AHEAD`` names it."""

from __future__ import annotations

import importlib
import os
import sys
import time
from pathlib import Path
from typing import Any

NAME = os.environ["EXAMPLE"]
AHEAD = Path(os.environ["AHEAD"])


def clock() -> float:
    return time.time() + int(AHEAD.read_text("ascii"))


example = importlib.import_module(f"examples.{NAME}_app")
if NAME == "django":
    from django.conf import settings
    from django.core.management import execute_from_command_line

    settings.SESSION_MW["clock"] = clock
    app = example.application
    if __name__ == "__main__":  # Django's own server: python example_site.py 127.0.0.1:8000
        execute_from_command_line(["manage.py", "runserver", "--noreload", *sys.argv[1:]])
else:
    with_sockets: dict[str, Any] = {} if NAME in {"bottle", "flask", "wsgi"} else {"websocket_check": 1}
    app = example.create_app(clock=clock, **with_sockets)
