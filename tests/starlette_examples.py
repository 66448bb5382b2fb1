"""The Starlette and FastAPI examples with a clock that a file puts forward, for real servers: ``AHEAD`` names it."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

from examples import fastapi_app, starlette_app

AHEAD = Path(os.environ["AHEAD"])
SETTINGS: dict[str, Any] = {"clock": lambda: time.time() + int(AHEAD.read_text("ascii")), "websocket_check": 1}
starlette = starlette_app.create_app(**SETTINGS)
fastapi = fastapi_app.create_app(**SETTINGS)
