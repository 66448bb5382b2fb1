"""What every integration must get right, told with real HTTP: one list of scenarios for all examples.

The examples are one shop in eight frameworks. Where they cannot be the same by what their frameworks are, a field of
``Kind`` says so, and a scenario asks it.
"""

from __future__ import annotations

import ast
import re
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest
from conftest import ROOT, Server
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

NO_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # one for all: httpx would read certificates for each client
NAVIGATING = {"accept": "text/html", "sec-fetch-mode": "navigate"}


class Kind(NamedTuple):
    """What one example is, beside its name."""

    name: str
    cookie: str = "session"
    sockets: bool = False
    answers_errors: bool = False  # an error in a view is a response of the framework's, inside our middleware
    one_logout: bool = False  # the framework's logout ends every storage
    always_stored: bool = False
    head: int = 401  # what HEAD gets where GET is guarded; some answer it only where told to


KINDS = [
    Kind("asgi", sockets=True, head=404),
    Kind("wsgi", head=404),
    Kind("starlette", sockets=True),
    Kind("fastapi", sockets=True, head=405),
    Kind("flask", answers_errors=True),
    Kind("django", cookie="sessionid", answers_errors=True, one_logout=True, always_stored=True),
    Kind("litestar", sockets=True, answers_errors=True, head=405),
    Kind("bottle", answers_errors=True),
]


def command(name: str) -> str:
    """The one command in the first lines of an example."""
    text = (ROOT / "examples" / f"{name}_app.py").read_text("utf-8")
    _, second, _ = (ast.get_docstring(ast.parse(text), clean=False) or "").split("\n\n", 2)
    told = re.fullmatch(r" {4}(\S.*)", second)
    assert told, f"examples/{name}_app.py: the second paragraph is its one command"
    return told[1]


class Visitor(httpx.Client):
    """Keeps cookies, and carries Django's CSRF token along where there is one."""

    def __init__(self, url: str, agent: str = "a browser") -> None:
        super().__init__(
            base_url=url,
            headers={"user-agent": agent},
            timeout=20,
            verify=NO_TLS,
            limits=httpx.Limits(max_keepalive_connections=0),  # after an app's error uvicorn hangs up
        )

    def request(self, method: Any, url: Any, **options: Any) -> httpx.Response:
        headers = dict(options.pop("headers", None) or {})
        if method == "POST" and "csrftoken" in self.cookies:
            headers["X-CSRFToken"] = self.cookies["csrftoken"]
        return super().request(method, url, headers=headers, **options)


class Shop:
    """One example on one server; ``visitor()`` is a new browser in front of it."""

    def __init__(self, server: Server, kind: Kind, stored: bool, ahead: Path) -> None:
        self.server = server
        self.kind = kind
        self.stored = stored
        self._ahead = ahead
        self._visitors: list[Visitor] = []

    def visitor(self, cookies: Any = None, agent: str = "a browser") -> Visitor:
        visitor = Visitor(self.server.url, agent)
        for name, value in (cookies or {}).items():
            visitor.cookies.set(name, value, domain="127.0.0.1")
        if self.kind.name == "django" and "csrftoken" not in visitor.cookies:
            visitor.get("/")
        self._visitors.append(visitor)
        return visitor

    def token(self, visitor: Visitor) -> str | None:
        return visitor.cookies.get(self.kind.cookie)

    def bearer(self, token: str) -> Visitor:
        """Somebody who says that token."""
        return self.visitor({self.kind.cookie: token})

    def thief(self, visitor: Visitor) -> Visitor:
        """Somebody with a copy of the cookies."""
        return self.visitor(dict(visitor.cookies))

    def later(self, seconds: int) -> None:
        new = self._ahead.with_suffix(".new")  # the server may be reading
        new.write_text(str(int(self._ahead.read_text("ascii")) + seconds), "ascii")
        new.replace(self._ahead)

    def close(self) -> None:
        for visitor in self._visitors:
            visitor.close()


def login_read_change_logout(shop: Shop) -> None:
    visitor = shop.visitor()
    assert visitor.get("/whoami").json() == {"user": None, "session": None}
    assert shop.token(visitor) is None  # looking makes no session
    assert visitor.post("/cart/pear").json() == {"pear": 1}
    anonymous = shop.token(visitor)
    reply = visitor.post("/login/ada")
    assert reply.json()["user"] == "ada"
    assert reply.headers["cache-control"] == "no-store"
    assert shop.token(visitor) != anonymous
    assert visitor.post("/cart/pear").json() == {"pear": 2}  # nested
    assert visitor.get("/cart").json() == {"pear": 2}
    assert visitor.get("/cart").headers["vary"] == "Cookie"
    assert visitor.post("/logout").json() == {"was online": True}
    assert visitor.get("/whoami").json()["user"] is None
    assert visitor.get("/cart").json() == {}


def replay_and_forgery(shop: Shop) -> None:
    visitor = shop.visitor()
    visitor.post("/login/ada")
    thief = shop.thief(visitor)
    value = shop.token(visitor)
    assert value is not None
    changed = value[:-8] + ("B" if value[-8] != "B" else "C") + value[-7:]
    for bad in (value[:-1], value[:20], changed, value.swapcase(), "", "null"):
        assert shop.bearer(bad).get("/whoami").json() == {"user": None, "session": None}
    visitor.post("/logout")
    # sealed into the cookie, a copy opens until its deadlines: nothing on the server could say no
    assert thief.get("/whoami").json()["user"] == (None if shop.stored else "ada")


def regenerate(shop: Shop) -> None:
    visitor = shop.visitor()
    visitor.post("/login/ada")
    visitor.post("/cart/plum")
    before, thief = visitor.get("/whoami").json()["session"], shop.thief(visitor)
    old = shop.token(visitor)
    after = visitor.post("/regenerate").json()["session"]
    assert visitor.get("/whoami").json() == {"user": "ada", "session": after}
    assert after != before
    assert shop.token(visitor) != old
    assert visitor.get("/cart").json() == {"plum": 1}
    assert thief.get("/whoami").json()["user"] == (None if shop.stored else "ada")


def fixation(shop: Shop) -> None:
    """An attacker's session, planted in the victim's browser, is not the victim's after the login."""
    attacker = shop.visitor()
    attacker.post("/cart/bait")
    victim = shop.thief(attacker)
    victim.post("/login/ada")
    assert victim.get("/account").json() == {"account": "ada"}
    assert attacker.get("/whoami").json()["user"] is None
    assert attacker.get("/account").status_code == 401
    made_up = "a" * 22 + "." + "b" * 43
    victim = shop.bearer(made_up)
    victim.post("/login/ada")
    token = shop.token(victim)
    assert token is not None
    assert token[:22] != made_up[:22]


def somebody_else(shop: Shop) -> None:
    visitor = shop.visitor()
    visitor.post("/login/ada")
    visitor.post("/cart/secret")
    visitor.post("/login/eve")
    assert visitor.get("/whoami").json()["user"] == "eve"
    assert visitor.get("/cart").json() == {}


def two_storages(shop: Shop) -> None:
    visitor = shop.visitor()
    visitor.post("/login/ada")
    visitor.post("/cart/pear")
    assert visitor.get("/admin").status_code == 401
    assert visitor.post("/admin/login").json() == {"online": [True, True]}
    assert visitor.get("/admin").json() == {"mode": "careful"}
    assert visitor.get("/cart").json() == {"pear": 1}
    visitor.post("/logout")
    assert visitor.get("/account").status_code == 401
    admin = visitor.get("/admin")
    assert admin.status_code == 401 if shop.kind.one_logout else admin.json() == {"mode": "careful"}


def the_guard(shop: Shop) -> None:
    visitor = shop.visitor()
    page = visitor.get("/account?tab=1", headers=NAVIGATING)
    assert (page.status_code, page.headers["location"]) == (303, "/login?next=/account%3Ftab%3D1")
    assert page.headers["cache-control"] == "no-store"
    assert visitor.get(page.headers["location"]).json()["next"] == "/account?tab=1"
    assert visitor.get("/login?next=//evil.test").json()["next"] == "/"
    data = visitor.get("/account")
    assert (data.status_code, data.headers["content-type"]) == (401, "application/problem+json")
    assert data.json()["detail"] == "Log in first."
    assert visitor.head("/account").status_code == shop.kind.head
    visitor.post("/login/ada")
    assert visitor.get("/account").json() == {"account": "ada"}


def devices(shop: Shop) -> None:
    phone, laptop = shop.visitor(agent="a phone"), shop.visitor(agent="a laptop")
    for visitor in (phone, laptop):
        visitor.post("/login/grace")
    stranger = shop.visitor()
    stranger.post("/login/eve")
    listed = laptop.get("/devices").json()["devices"]
    if not shop.stored:
        assert "kept by their browsers" in listed
        return
    assert [each["browser"] for each in listed] == ["a laptop", "a phone"]
    assert laptop.post("/devices/end-others").json() == {"ended": True}
    assert phone.get("/whoami").json()["user"] is None
    assert laptop.get("/whoami").json()["user"] == "grace"
    assert stranger.get("/whoami").json()["user"] == "eve"


def late_write(shop: Shop) -> None:
    visitor = shop.visitor()
    visitor.post("/cart/pear")
    visitor.get("/export")  # makes the key
    assert visitor.get("/export").text == "pear\n"
    assert visitor.get("/exports").json() == {"exports": 2 if shop.stored else 0}


def an_error_after_the_logout(shop: Shop) -> None:
    visitor = shop.visitor()
    visitor.post("/login/ada")
    thief = shop.thief(visitor)
    assert visitor.post("/leave-badly").status_code == 500
    # an error that is the server's to answer carries no cookie of ours; what is stored ends all the same
    ended = shop.stored or shop.kind.answers_errors
    assert visitor.get("/whoami").json()["user"] == (None if ended else "ada")
    assert thief.get("/whoami").json()["user"] == (None if shop.stored else "ada")


def a_socket(shop: Shop) -> None:
    if not shop.kind.sockets:
        return
    url = shop.server.url.replace("http", "ws") + "/chat"
    with pytest.raises(InvalidStatus) as told:
        connect(url).close()
    assert told.value.response.status_code in (401, 403)  # hypercorn knows no denial response of ours
    visitor = shop.visitor()
    visitor.post("/login/ada")
    with connect(url, additional_headers={"Cookie": f"session={shop.token(visitor)}"}) as socket:
        socket.send("hello")
        assert socket.recv(10) == "ada: hello"
        if shop.stored:
            visitor.post("/logout")
            with pytest.raises(ConnectionClosed) as closed:
                socket.recv(20)
            assert closed.value.rcvd is not None
            assert closed.value.rcvd.code == 1008


def expiry(shop: Shop) -> None:
    visitor = shop.visitor()
    visitor.post("/login/ada")
    visitor.post("/admin/login")
    copy = shop.thief(visitor)
    shop.later(301)
    assert visitor.get("/admin").status_code == 401  # no longer fresh
    assert visitor.get("/account").status_code == 200
    shop.later(31 * 86400)  # Flask's lifetime; the others' are shorter
    assert copy.get("/whoami").json()["user"] is None
    copy.post("/login/ada")
    assert copy.get("/whoami").json()["user"] == "ada"


SCENARIOS: list[Callable[[Shop], None]] = [
    login_read_change_logout,
    replay_and_forgery,
    regenerate,
    fixation,
    somebody_else,
    two_storages,
    the_guard,
    devices,
    late_write,
    an_error_after_the_logout,
    a_socket,
    expiry,
]
