"""The demo in a real browser: two profiles, a restart, the keyboard alone, a phone's width."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import Server, StartServer
from servers.chromium import Browser

from session_mw.demo.accounts import PASSWORD

TAB, ENTER, SPACE = "\ue004", "\ue007", " "


def sign_in(window: Browser, name: str = "alice") -> None:
    window.open("/sign-in")
    window.click(f"#name option:nth-child({('alice', 'bob', 'carol').index(name) + 1})")
    window.type("#password", PASSWORD)
    window.submit("main form button")
    assert window.text(".who strong") == name


@pytest.fixture
def demo(server: StartServer, tmp_path: Path) -> Callable[..., Server]:
    """Start the demo, on the same file each time."""

    def start(port: int | None = None) -> Server:
        arguments = ["-W", "error", "-m", "session_mw", "demo", "--port", "{port}", "--store", "sqlite:///demo.db"]
        return server(arguments, cwd=tmp_path, port=port)

    return start


def test_sign_in_on_two_browsers_and_sign_one_out_from_the_other(
    demo: Callable[..., Server], browser: Callable[[str], Browser]
) -> None:
    running = demo()
    one, two = browser(running.url), browser(running.url)
    sign_in(one)
    sign_in(two)
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

    sign_in(two)
    two.open("/devices")
    two.submit("main > form button")
    assert "All other sessions" in two.text("[role=status]")
    one.open("/vault")
    assert one.path() == "/sign-in"
    assert one.errors() == []


def test_a_restart_loses_nothing(demo: Callable[..., Server], browser: Callable[[str], Browser]) -> None:
    running = demo()
    window = browser(running.url)
    sign_in(window, "bob")
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
    sign_in(window)
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
    sign_in(window)
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
