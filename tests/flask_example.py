"""The Flask example with a clock that a file puts forward, for a real server: ``AHEAD`` names it."""

from __future__ import annotations

import os
import time
from pathlib import Path

from examples.flask_app import app

AHEAD = Path(os.environ["AHEAD"])
app.config["SESSION_MW"]["clock"] = lambda: time.time() + int(AHEAD.read_text("ascii"))
