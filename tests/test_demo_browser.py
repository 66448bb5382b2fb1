"""The demo in a real browser: two profiles, a restart, the keyboard alone, a phone's width.

Chromium is driven through its chromedriver, by the commands of W3C WebDriver itself: a click waits for the page it
leads to, and so nothing here sleeps.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from conftest import Server, StartServer
from servers.ports import unused_port

from session_mw.demo.accounts import PASSWORD

FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
TAB, ENTER, SPACE = "\ue004", "\ue007", " "


class Browser:
    """One Chromium with a profile of its own, on the demo at *url*."""

    def __init__(self, driver: httpx.Client, binary: str, profile: Path, url: str) -> None:
        options = {"binary": binary, "args": [*FLAGS, f"--user-data-dir={profile}"]}
        wanted = {"alwaysMatch": {"browserName": "chrome", "goog:chromeOptions": options}}
        self._driver = driver
        self._at = ""
        self._at = f"/session/{self._ask('POST', '/session', capabilities=wanted)['sessionId']}"
        self._ask("POST", "/timeouts", implicit=10_000)  # a key or a script that navigates is not waited for
        self.url = url

    def _ask(self, method: str, path: str, **body: Any) -> Any:
        answer = self._driver.request(method, self._at + path, json=body if method == "POST" else None)
        value = answer.json()["value"]
        assert answer.status_code == 200, value
        return value

    def end(self) -> None:
        self._ask("DELETE", "")

    def open(self, path: str) -> None:
        self._ask("POST", "/url", url=self.url + path)

    def _find(self, css: str) -> str:
        (found,) = self._ask("POST", "/element", using="css selector", value=css).values()
        return f"/element/{found}"

    def click(self, css: str) -> None:
        self._ask("POST", f"{self._find(css)}/click")

    def submit(self, css: str) -> None:
        """Click what leads to another page, and see this one go: chromedriver may return before it does."""
        (page,) = self._ask("POST", "/element", using="css selector", value="html").values()
        self.click(css)
        until = time.monotonic() + 30
        while self._driver.request("GET", f"{self._at}/element/{page}/name").status_code == 200:
            assert time.monotonic() < until, f"{css} leads nowhere"

    def type(self, css: str, text: str) -> None:
        self._ask("POST", f"{self._find(css)}/value", text=text)

    def press(self, *keys: str) -> None:
        """Keys to whatever has the focus."""
        actions = [{"type": kind, "value": key} for key in keys for kind in ("keyDown", "keyUp")]
        self._ask("POST", "/actions", actions=[{"type": "key", "id": "keyboard", "actions": actions}])

    def run(self, script: str) -> Any:
        return self._ask("POST", "/execute/sync", script=script, args=[])

    def text(self, css: str) -> str:
        text: str = self._ask("GET", f"{self._find(css)}/text")
        return text

    def path(self) -> str:
        path: str = self.run("return location.pathname")
        return path

    def cookies(self) -> list[dict[str, Any]]:
        cookies: list[dict[str, Any]] = self._ask("GET", "/cookie")
        return cookies

    def narrow(self, width: int) -> None:
        """A phone's screen; Chromium's own window would not become so narrow."""
        size = {"width": width, "height": 740, "deviceScaleFactor": 2, "mobile": True}
        self._ask("POST", "/goog/cdp/execute", cmd="Emulation.setDeviceMetricsOverride", params=size)

    def errors(self) -> list[str]:
        """What Chromium complained about: a blocked style, a failed request."""
        return [entry["message"] for entry in self._ask("POST", "/se/log", type="browser")]

    def sign_in(self, name: str = "alice") -> None:
        self.open("/sign-in")
        self.click(f"#name option:nth-child({('alice', 'bob', 'carol').index(name) + 1})")
        self.type("#password", PASSWORD)
        self.submit("main form button")
        assert self.text(".who strong") == name


@pytest.fixture
def demo(server: StartServer, tmp_path: Path) -> Callable[..., Server]:
    """Start the demo, on the same file each time."""

    def start(port: int | None = None) -> Server:
        arguments = ["-W", "error", "-m", "session_mw", "demo", "--port", "{port}", "--store", "sqlite:///demo.db"]
        return server(arguments, cwd=tmp_path, port=port)

    return start


@pytest.fixture
def driver(require_program: Callable[[str], str], tmp_path: Path) -> Iterator[httpx.Client]:
    """A running chromedriver."""
    port = unused_port()
    with (tmp_path / "driver.log").open("wb") as log:
        process = subprocess.Popen(
            [require_program("chromedriver"), f"--port={port}"], stdin=subprocess.DEVNULL, stdout=log, stderr=log
        )
    try:
        Server(process, port, tmp_path / "driver.log").wait_ready(30)
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60, trust_env=False) as client:
            yield client
    finally:
        process.terminate()
        process.wait(10)


@pytest.fixture
def browser(
    driver: httpx.Client, require_program: Callable[[str], str], tmp_path: Path
) -> Iterator[Callable[[str], Browser]]:
    """``browser(url)``: a new Chromium, with its own profile."""
    opened: list[Browser] = []

    def new(url: str) -> Browser:
        profile = tmp_path / f"profile-{len(opened)}"
        opened.append(Browser(driver, require_program("chromium"), profile, url))
        return opened[-1]

    yield new
    for each in opened:
        each.end()


def test_sign_in_on_two_browsers_and_sign_one_out_from_the_other(
    demo: Callable[..., Server], browser: Callable[[str], Browser]
) -> None:
    running = demo()
    one, two = browser(running.url), browser(running.url)
    one.sign_in()
    two.sign_in()
    (cookie,) = two.cookies()
    assert (cookie["name"], cookie["httpOnly"], cookie["sameSite"]) == ("session-demo", True, "Lax")

    one.open("/devices")
    rows = one.run("return [...document.querySelectorAll('.rows li')].map(row => row.innerText)")
    assert len(rows) == 2
    assert ["this one" in row for row in rows].count(True) == 1
    for row in rows:
        assert "Chrome" in row
        assert "127.0.0.1" in row
    one.submit(".rows form button")
    assert "Signed out there." in one.text("[role=status]")
    assert "Record deleted" in one.text(".panel")

    two.open("/devices")
    assert two.path() == "/sign-in"
    assert "Sign in" in two.text(".who")
    assert "Cookie not accepted" in two.text(".panel")
    one.open("/")
    assert one.text(".who strong") == "alice"

    two.sign_in()
    two.open("/devices")
    two.submit("main > form button")
    assert "All other sessions" in two.text("[role=status]")
    one.open("/vault")
    assert one.path() == "/sign-in"
    assert one.errors() == []


def test_a_restart_loses_nothing(demo: Callable[..., Server], browser: Callable[[str], Browser]) -> None:
    running = demo()
    window = browser(running.url)
    window.sign_in("bob")
    window.open("/note")
    window.type("#note", "<b>bread</b>")
    window.submit("main form button")
    window.open("/cart")
    window.submit(".rows li:nth-child(2) button[value=add]")
    running.stop()
    demo(running.port)
    window.open("/note")
    assert window.run("return document.querySelector('#note').value") == "<b>bread</b>"
    assert window.text(".who strong") == "bob"
    window.open("/cart")
    assert window.text(".rows li:nth-child(2) output") == "1"
    assert window.errors() == []


def test_with_the_keyboard_alone(demo: Callable[..., Server], browser: Callable[[str], Browser]) -> None:
    window = browser(demo().url)
    focus = "return document.activeElement.id || document.activeElement.innerText"
    window.open("/sign-in")
    window.press(TAB)
    assert window.run(focus) == "Skip to content"
    outline = "return getComputedStyle(document.activeElement).outlineStyle + ' ' + "
    assert window.run(f"{outline} (document.activeElement.getBoundingClientRect().left >= 0)") == "solid true"
    window.press(ENTER, TAB)
    assert window.run(focus) == "name"
    window.press("c", TAB, *PASSWORD, TAB, SPACE, TAB)
    assert window.run(focus) == "Sign in"
    assert window.run(f"{outline} 1") == "solid 1"
    window.press(ENTER)
    assert window.text(".who strong") == "carol"
    (cookie,) = window.cookies()
    assert cookie["expiry"] > 0  # "keep me signed in" was ticked with the space bar


def test_on_a_phones_width(demo: Callable[..., Server], browser: Callable[[str], Browser]) -> None:
    window = browser(demo().url)
    window.narrow(360)
    window.sign_in()
    for path in ("/", "/sign-in", "/note", "/cart", "/devices", "/vault", "/plain"):
        window.open(path)
        assert window.run("return document.documentElement.scrollWidth") == 360, path
        small = window.run(
            "return [...document.querySelectorAll('button, select, input[type=password], nav a')]"
            ".filter(each => each.getBoundingClientRect().height < 24).map(each => each.outerHTML)"  # WCAG 2.2 §2.5.8
        )
        assert small == [], path
    assert window.errors() == []


def test_no_other_page_of_this_machine_posts_here(
    demo: Callable[..., Server], browser: Callable[[str], Browser], server: StartServer, tmp_path: Path
) -> None:
    running = demo()
    window = browser(running.url)
    window.sign_in()
    other = tmp_path / "other"
    other.mkdir()
    page = f'<form method="post" action="{running.url}/sign-out"><button id="prize">Win a prize</button></form>'
    (other / "index.html").write_text(page)
    evil = server(["-m", "http.server", "{port}", "--bind", "127.0.0.1"], cwd=other)
    window.run(f"location.href = {evil.url + '/'!r}")
    window.submit("#prize")
    assert "not sent by a page of this demo" in window.text("body")
    window.open("/")
    assert window.text(".who strong") == "alice"
