"""The scenarios: which request is sent, what the handler does, what the answer must show.

Every app under test is one app with these routes, so the bare app pays for the routing too and it subtracts out.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["PATHS", "SCENARIOS", "SESSION", "Request", "Routes", "Scenario", "forged", "routes"]

SESSION: dict[str, Any] = {  # eight keys, about 430 bytes of JSON
    "user": "7f3c9a52-6d1e-4b8f-9c0a-2e5d8b714f60",
    "email": "maria.fernandez@example.org",
    "csrf": "Zk3vQ0y8mJrT5uXwB1nE7sLh2DcGpA9f",
    "theme": "dark",
    "locale": "es-AR",
    "visits": 1041,
    "last_page": "/account/orders?page=2&sort=date&filter=open,paid,shipped&since=2026-01-01&until=2026-06-30",
    "notice": "Your order 2026-100953 has left our warehouse; it should reach you on Thursday between 9 and 12. "
    "Thank you for your patience, Maria.",
}

Request = Mapping[str, Any]  # the ASGI scope or WSGI environ of one request
Routes = dict[str, Callable[[Request], bytes]]


@dataclass(frozen=True)
class Scenario:
    """One column. ``cookie`` and ``sets`` are ``"never"``, ``"sealed"`` (only client-kept) or ``"always"``."""

    name: str
    path: str
    meaning: str
    sets: str = "never"  # whether the answer carries Set-Cookie
    session: str = "valid"  # the cookie sent: valid, forged or none
    used_up: bool = False  # a stored session serves one such request only
    answer: bytes | None = b"ok"  # the body; None: any
    check: tuple[str, bytes | None] | None = None  # then GET this path: this body (None: what was answered before)
    floor: str = ""  # the scenario the floor runs beside it, where it has none of that name


SCENARIOS = {
    scenario.name: scenario
    for scenario in (
        Scenario("S1", "/ignore", "valid cookie, handler ignores the session"),
        Scenario("S2", "/read", "reads one key", answer=b"dark"),
        Scenario("S3", "/change", "changes one key", sets="sealed", answer=None, check=("/changed", None)),
        Scenario("S4", "/renew", "login on a fresh session", sets="always", used_up=True, check=("/read", b"dark")),
        Scenario("login", "/login", "S4 by login()", sets="always", used_up=True, check=("/read", b"dark"), floor="S4"),
        Scenario("S5", "/ignore", "forged cookie, ignored", session="forged"),
        Scenario("S5r", "/look", "forged cookie, one key looked up", session="forged", answer=b"None"),
        Scenario("S6", "/ignore", "no cookie", session="none"),
        Scenario("touch", "/read", "S2 with a touch due", sets="sealed", answer=b"dark", floor="S3"),
    )
}
PATHS = ("/ignore", "/fill", "/read", "/look", "/change", "/changed", "/renew", "/login")


def routes(key: str) -> Routes:
    """The handlers, for a session kept under *key* of the scope or environ."""
    values = itertools.count(int(time.time()))  # a new value each time, always as long

    def ignore(request: Request) -> bytes:
        return b"ok"

    def fill(request: Request) -> bytes:
        request[key].update(SESSION)
        return b"ok"

    def read(request: Request) -> bytes:
        theme: str = request[key]["theme"]
        return theme.encode()

    def look(request: Request) -> bytes:
        return str(request[key].get("theme")).encode()

    def change(request: Request) -> bytes:
        request[key]["visits"] = value = next(values)
        return b"%d" % value

    def changed(request: Request) -> bytes:
        return b"%d" % request[key]["visits"]

    def renew(request: Request) -> bytes:
        request[key].regenerate()
        return b"ok"

    def login(request: Request) -> bytes:
        request[key].login(user_id="u1")
        return b"ok"

    return dict(zip(PATHS, (ignore, fill, read, look, change, changed, renew, login), strict=True))


def forged(value: str, at: int) -> str:
    """*value* with the character at *at* replaced: the same shape, another secret or tag."""
    at %= len(value)
    return f"{value[:at]}{'b' if value[at] == 'a' else 'a'}{value[at + 1 :]}"
