"""Cookie clients: curl, requests, httpx and Chromium each log in, read, log out and read at every example.

Each example runs by the one command that its first lines tell, with nothing set but where to listen. A client carries
back what it was given, as cookies go, and Django's CSRF token as pages do; it knows nothing else of the example.
"""

from __future__ import annotations

import json
import re
import shlex
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, closing, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import requests
from conftest import ROOT, Server, serving
from example_story import KINDS, Visitor, command
from servers.chromium import Browser
from servers.ports import unused_port

Ask = Callable[[str, str], str]
"""Method and path: what the example said."""

COOKIES = {kind.name: kind.cookie for kind in KINDS}
RequireProgram = Callable[[str], str]


@pytest.fixture(scope="module")
def examples(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Server]]:
    """All examples, each running by its command in an empty directory."""
    directory = tmp_path_factory.mktemp("examples")

    def run(start: Callable[..., Server], name: str) -> Server:
        program, *arguments = shlex.split(command(name))
        place, port = directory / name, unused_port()
        place.mkdir()
        env = {
            "PYTHONPATH": str(ROOT),
            "PYTHONWARNINGS": "error::DeprecationWarning",
            "UVICORN_PORT": str(port),
            "GUNICORN_CMD_ARGS": f"--bind 127.0.0.1:{port}",
            "XDG_RUNTIME_DIR": str(place),  # gunicorn puts a socket there
        }
        return start(arguments, program=program, port=port, env=env, cwd=place, ready=60)

    with serving(directory) as start:
        with ThreadPoolExecutor() as pool:
            names = list(COOKIES)
            running = dict(zip(names, pool.map(run, [start] * len(names), names), strict=True))
        yield running
    for each in running.values():
        assert "Traceback" not in each.output()


@contextmanager
def curl(url: str, require_program: RequireProgram, directory: Path) -> Iterator[Ask]:
    jar = directory / "jar"
    program = [require_program("curl"), "-sS", "--fail", "--max-time", "20", "-b", jar, "-c", jar]

    def ask(method: str, path: str) -> str:
        token = re.search(r"\tcsrftoken\t(\S+)", jar.read_text("ascii")) if jar.exists() else None
        header = ["-H", f"X-CSRFToken: {token[1]}"] if token else []
        return subprocess.run(
            [*program, *header, "-X", method, url + path], capture_output=True, text=True, check=True
        ).stdout

    yield ask


@contextmanager
def by_requests(url: str, *_: Any) -> Iterator[Ask]:
    with requests.Session() as session:

        def ask(method: str, path: str) -> str:
            headers = {"X-CSRFToken": session.cookies.get("csrftoken", "")}
            answer = session.request(method, url + path, headers=headers, timeout=20)
            answer.raise_for_status()
            return answer.text

        yield ask


@contextmanager
def by_httpx(url: str, *_: Any) -> Iterator[Ask]:
    with Visitor(url) as visitor:
        yield lambda method, path: visitor.request(method, path).raise_for_status().text


CLIENTS: dict[str, Callable[..., AbstractContextManager[Ask]]] = {
    "curl": curl,
    "requests": by_requests,
    "httpx": by_httpx,
}


@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize("name", COOKIES)
def test_login_read_logout_read(
    examples: dict[str, Server], name: str, client: str, require_program: RequireProgram, tmp_path: Path
) -> None:
    with CLIENTS[client](examples[name].url, require_program, tmp_path) as ask:
        assert "A small shop" in ask("GET", "/")
        assert json.loads(ask("GET", "/whoami")) == {"user": None, "session": None}
        assert json.loads(ask("POST", "/login/ada"))["user"] == "ada"
        assert json.loads(ask("GET", "/whoami"))["user"] == "ada"
        assert json.loads(ask("POST", "/cart/pear")) == json.loads(ask("GET", "/cart")) == {"pear": 1}
        assert json.loads(ask("POST", "/logout")) == {"was online": True}
        assert json.loads(ask("GET", "/whoami"))["user"] is None
        assert json.loads(ask("GET", "/cart")) == {}


@pytest.fixture(scope="module")
def chromium(
    driver: httpx.Client, require_program: RequireProgram, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Browser]:
    """One for all examples; their host is the same, and so are its cookies."""
    window = Browser(driver, require_program("chromium"), tmp_path_factory.mktemp("profile"), "")
    with closing(window):
        yield window


def user(window: Browser) -> str | None:
    """Who one is to the example: a page of its own, opened as from the address bar."""
    window.open("/whoami")
    told: str | None = json.loads(window.text("pre"))["user"]
    return told


@pytest.mark.parametrize("name", COOKIES)
def test_login_read_logout_read_in_a_browser(examples: dict[str, Server], name: str, chromium: Browser) -> None:
    chromium.url = examples[name].url
    chromium.forget()
    chromium.open("/")
    chromium.wait("#user[data-is=nobody]")
    assert [each["name"] for each in chromium.cookies()] == (["csrftoken"] if name == "django" else [])
    chromium.click("#log-in")
    chromium.wait("#user[data-is=ada]")
    (cookie,) = (each for each in chromium.cookies() if each["name"] == COOKIES[name])
    assert (cookie["httpOnly"], cookie["sameSite"], cookie["path"]) == (True, "Lax", "/")
    assert cookie["value"] not in chromium.run("return document.cookie")
    assert user(chromium) == "ada"

    chromium.open("/")
    chromium.click("#add")
    chromium.wait('#cart[data-is*="pear"]')
    chromium.click("#log-out")
    chromium.wait("#user[data-is=nobody]")
    assert user(chromium) is None
    assert [error for error in chromium.errors() if "/favicon.ico" not in error] == []
