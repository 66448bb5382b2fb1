"""A real browser: Chromium, driven through its chromedriver by the commands of W3C WebDriver itself.

A click waits for the page it leads to, and what is not there yet is waited for: nothing here sleeps.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from conftest import Server

from .ports import unused_port

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


class Browser:
    """One Chromium with a profile of its own, on the site at *url*."""

    def __init__(self, driver: httpx.Client, binary: str, profile: Path, url: str) -> None:
        options = {"binary": binary, "args": [*FLAGS, f"--user-data-dir={profile}"]}
        wanted = {"alwaysMatch": {"browserName": "chrome", "goog:chromeOptions": options}}
        self._driver = driver
        self._at = ""
        self._at = f"/session/{self._ask('POST', '/session', capabilities=wanted)['sessionId']}"
        self._ask("POST", "/timeouts", implicit=10_000)  # a key or a script that navigates is not waited for
        self.url = url  # may be set anew, for one browser at many sites

    def _ask(self, method: str, path: str, **body: Any) -> Any:
        answer = self._driver.request(method, self._at + path, json=body if method == "POST" else None)
        value = answer.json()["value"]
        assert answer.status_code == 200, value
        return value

    def close(self) -> None:
        self._ask("DELETE", "")

    def forget(self) -> None:
        """Every cookie of every site; a host's are shared by all its ports."""
        self._ask("POST", "/goog/cdp/execute", cmd="Network.clearBrowserCookies", params={})

    def open(self, path: str) -> None:
        self._ask("POST", "/url", url=self.url + path)

    def _find(self, css: str) -> str:
        (found,) = self._ask("POST", "/element", using="css selector", value=css).values()
        return f"/element/{found}"

    def wait(self, css: str) -> None:
        """Until there is such an element."""
        self._find(css)

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


@pytest.fixture(scope="module")
def driver(require_program: Callable[[str], str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """A running chromedriver."""
    port, printed = unused_port(), tmp_path_factory.mktemp("chromedriver") / "log"
    with printed.open("wb") as log:
        process = subprocess.Popen(
            [require_program("chromedriver"), f"--port={port}"], stdin=subprocess.DEVNULL, stdout=log, stderr=log
        )
    try:
        Server(process, port, printed).wait_ready(30)
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
        each.close()
