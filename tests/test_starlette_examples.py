"""The Starlette and FastAPI examples on real servers, by real HTTP: every scenario an integration must get right."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from asgi_driver import SECRET
from conftest import ROOT, Server, StartServer
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

BROWSER = {"accept": "text/html", "sec-fetch-mode": "navigate"}
COMMANDS = {
    "uvicorn": ["-m", "uvicorn", "starlette_examples:{app}", "--port", "{port}"],
    "hypercorn": ["-m", "hypercorn", "starlette_examples:{app}", "--bind", "127.0.0.1:{port}"],
}


class Shop:
    """One example on one server; ``browser()`` keeps cookies."""

    def __init__(self, server: Server, kind: str, ahead: Path) -> None:
        self.server = server
        self.stored = kind == "store"
        self._ahead = ahead
        self._browsers: list[httpx.Client] = []

    def browser(self, cookies: Any = None, agent: str = "a browser") -> httpx.Client:
        browser = httpx.Client(
            base_url=self.server.url,
            headers={"user-agent": agent},
            timeout=20,
            limits=httpx.Limits(max_keepalive_connections=0),  # after an app's error uvicorn hangs up
        )
        for name, value in (cookies or {}).items():
            browser.cookies.set(name, value, domain="127.0.0.1")
        self._browsers.append(browser)
        return browser

    def thief(self, browser: httpx.Client) -> httpx.Client:
        """Somebody with a copy of the cookies."""
        return self.browser(dict(browser.cookies))

    def later(self, seconds: int) -> None:
        new = self._ahead.with_suffix(".new")  # the server may be reading
        new.write_text(str(int(self._ahead.read_text("ascii")) + seconds), "ascii")
        new.replace(self._ahead)

    def close(self) -> None:
        for browser in self._browsers:
            browser.close()


def login_read_change_logout(shop: Shop) -> None:
    browser = shop.browser()
    assert browser.get("/whoami").json() == {"user": None, "session": None}
    assert not browser.cookies
    assert browser.post("/cart/pear").json() == {"pear": 1}
    anonymous = shop.thief(browser)
    reply = browser.post("/login/ada")
    assert reply.json()["user"] == "ada"
    assert reply.headers["cache-control"] == "no-store"
    assert browser.cookies["session"] != anonymous.cookies["session"]
    assert browser.post("/cart/pear").json() == {"pear": 2}  # nested
    assert browser.get("/cart").json() == {"pear": 2}
    assert browser.get("/cart").headers["vary"] == "Cookie"
    assert browser.post("/logout").json() == {"was online": True}
    assert browser.get("/whoami").json()["user"] is None
    assert browser.get("/cart").json() == {}


def replay_and_forgery(shop: Shop) -> None:
    browser = shop.browser()
    browser.post("/login/ada")
    thief = shop.thief(browser)
    value = browser.cookies["session"]
    changed = value[:-8] + ("B" if value[-8] != "B" else "C") + value[-7:]
    for bad in (value[:-1], value[:20], changed, value.swapcase(), "", "null"):
        assert shop.browser({"session": bad}).get("/whoami").json() == {"user": None, "session": None}
    browser.post("/logout")
    # sealed into the cookie, a copy opens until its deadlines: nothing on the server could say no
    assert thief.get("/whoami").json()["user"] == (None if shop.stored else "ada")


def regenerate(shop: Shop) -> None:
    browser = shop.browser()
    browser.post("/login/ada")
    browser.post("/cart/plum")
    before, thief = browser.get("/whoami").json()["session"], shop.thief(browser)
    after = browser.post("/regenerate").json()["session"]
    assert browser.get("/whoami").json() == {"user": "ada", "session": after}
    assert after != before
    assert browser.get("/cart").json() == {"plum": 1}
    assert thief.get("/whoami").json()["user"] == (None if shop.stored else "ada")


def fixation(shop: Shop) -> None:
    """An attacker's session, planted in the victim's browser, is not the victim's after the login."""
    attacker = shop.browser()
    attacker.post("/cart/bait")
    victim = shop.thief(attacker)
    victim.post("/login/ada")
    assert attacker.get("/whoami").json()["user"] is None
    assert attacker.get("/account").status_code == 401
    made_up = shop.browser({"session": "a" * 22 + "." + "b" * 43})
    made_up.post("/login/ada")
    assert made_up.cookies["session"][:22] != "a" * 22


def somebody_else(shop: Shop) -> None:
    browser = shop.browser()
    browser.post("/login/ada")
    browser.post("/cart/secret")
    browser.post("/login/eve")
    assert browser.get("/whoami").json()["user"] == "eve"
    assert browser.get("/cart").json() == {}


def two_storages(shop: Shop) -> None:
    browser = shop.browser()
    browser.post("/login/ada")
    browser.post("/cart/pear")
    assert browser.get("/admin").status_code == 401
    assert browser.post("/admin/login").json() == {"online": [True, True]}
    assert browser.get("/admin").json() == {"mode": "careful"}
    assert browser.get("/cart").json() == {"pear": 1}
    browser.post("/logout")
    assert browser.get("/admin").json() == {"mode": "careful"}
    assert browser.get("/account").status_code == 401


def the_guard(shop: Shop) -> None:
    browser = shop.browser()
    page = browser.get("/account?tab=1", headers=BROWSER)
    assert (page.status_code, page.headers["location"]) == (303, "/login?next=/account%3Ftab%3D1")
    assert page.headers["cache-control"] == "no-store"
    assert browser.get(page.headers["location"]).json()["next"] == "/account?tab=1"
    assert browser.get("/login?next=//evil.test").json()["next"] == "/"
    data = browser.get("/account")
    assert (data.status_code, data.headers["content-type"]) == (401, "application/problem+json")
    assert browser.head("/account").status_code in (401, 405)  # FastAPI answers HEAD only where told to
    browser.post("/login/ada")
    assert browser.get("/account").json() == {"account": "ada"}


def devices(shop: Shop) -> None:
    phone, laptop = shop.browser(agent="a phone"), shop.browser(agent="a laptop")
    for browser in (phone, laptop):
        browser.post("/login/grace")
    listed = laptop.get("/devices").json()["devices"]
    if not shop.stored:
        assert "kept by their browsers" in listed
        return
    assert [each["browser"] for each in listed] == ["a laptop", "a phone"]
    assert laptop.post("/devices/end-others").json() == {"ended": True}
    assert phone.get("/whoami").json()["user"] is None
    assert laptop.get("/whoami").json()["user"] == "grace"


def late_write(shop: Shop) -> None:
    browser = shop.browser()
    browser.post("/cart/pear")
    browser.get("/export")  # makes the key
    assert browser.get("/export").text == "pear\n"
    assert browser.get("/exports").json() == {"exports": 2 if shop.stored else 0}


def an_error_after_the_logout(shop: Shop) -> None:
    browser = shop.browser()
    browser.post("/login/ada")
    assert browser.post("/leave-badly").status_code == 500
    assert browser.get("/whoami").json()["user"] == (None if shop.stored else "ada")


def a_socket(shop: Shop) -> None:
    url = shop.server.url.replace("http", "ws") + "/chat"
    with pytest.raises(InvalidStatus) as told:
        connect(url).close()
    assert told.value.response.status_code in (401, 403)  # hypercorn knows no denial response of ours
    browser = shop.browser()
    browser.post("/login/ada")
    with connect(url, additional_headers={"Cookie": f"session={browser.cookies['session']}"}) as socket:
        socket.send("hello")
        assert socket.recv(10) == "ada: hello"
        if shop.stored:
            browser.post("/logout")
            with pytest.raises(ConnectionClosed) as closed:
                socket.recv(20)
            assert closed.value.rcvd is not None
            assert closed.value.rcvd.code == 1008


def expiry(shop: Shop) -> None:
    browser = shop.browser()
    browser.post("/login/ada")
    browser.post("/admin/login")
    copy = shop.thief(browser)
    shop.later(301)
    assert browser.get("/admin").status_code == 401  # no longer fresh
    assert browser.get("/account").status_code == 200
    shop.later(14 * 86400)
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


@pytest.mark.parametrize(
    ("program", "app", "kind"),
    [
        ("uvicorn", "starlette", "store"),
        ("hypercorn", "starlette", "cookie"),
        ("uvicorn", "fastapi", "cookie"),
        ("hypercorn", "fastapi", "store"),
    ],
)
def test_every_scenario(server: StartServer, tmp_path: Path, program: str, app: str, kind: str) -> None:
    ahead = tmp_path / "ahead"
    ahead.write_text("0", "ascii")
    env = {
        "AHEAD": str(ahead),
        "EXAMPLE_SECRET": SECRET,
        "EXAMPLE_STORE": f"sqlite:///{tmp_path}/shop.db" if kind == "store" else "",
        "PYTHONPATH": f"{ROOT / 'tests'}:{ROOT}",
    }
    running = server([part.replace("{app}", app) for part in COMMANDS[program]], env=env)
    shop = Shop(running, kind, ahead)
    try:
        for scenario in SCENARIOS:
            scenario(shop)
    finally:
        shop.close()
    running.stop()
    assert running.output().count("Traceback") == running.output().count("RuntimeError: after the logout")


@pytest.mark.parametrize("app", ["starlette_app", "fastapi_app"])
def test_the_command_in_the_example_starts_it(server: StartServer, app: str) -> None:
    assert f"uvicorn examples.{app}:app" in (ROOT / "examples" / f"{app}.py").read_text("utf-8")
    running = server(["-m", "uvicorn", f"examples.{app}:app", "--port", "{port}"], cwd=ROOT)
    assert httpx.get(f"{running.url}/whoami", timeout=20).json() == {"user": None, "session": None}
