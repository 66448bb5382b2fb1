"""What every real server must do, told with real HTTP: a browser, overlapping requests, and raw bytes."""

from __future__ import annotations

import json
import os
import select
import socket
import subprocess
import threading
from pathlib import Path
from typing import Any

import httpx
from asgi_driver import NAME, SECRET, take

TESTS = Path(__file__).parent
HEADERS = json.loads((TESTS / "corpus" / "cookie_headers.json").read_text("utf-8"))


def environment(kind: str, tmp_path: Path) -> dict[str, str]:
    """What ``http_site`` is told."""
    homes = {
        "cookie": {"secret_key": SECRET},
        "store": {"store": f"sqlite:///{tmp_path / 'sessions.db'}"},
        "memory": {"store": "memory:"},
    }
    paths = f"{TESTS}:{TESTS.parent}"
    return {"MARKS": str(tmp_path), "PYTHONPATH": paths, **homes[kind]}


class Browser:
    """Keeps cookies as a browser does on a host it trusts: Secure ones over loopback, too."""

    def __init__(self, url: str, cookies: dict[str, str] | None = None) -> None:
        self.url = url
        self.cookies = dict(cookies or {})

    def copy(self) -> Browser:
        return Browser(self.url, self.cookies)

    def get(self, path: str, **options: Any) -> httpx.Response:
        header = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        reply = httpx.get(self.url + path, headers={"cookie": header} if header else {}, timeout=20, **options)
        assert reply.status_code == 200, reply.text
        take(self.cookies, reply.headers.get_list("set-cookie"))
        return reply


def by_socket_and_by_port(socket: Path, url: str) -> None:
    """``trusted_proxies=("unix",)``: whoever comes by the unix socket is believed, and by the port nobody."""
    claimed = {"x-forwarded-for": "198.51.100.7"}
    with httpx.Client(transport=httpx.HTTPTransport(uds=str(socket))) as proxy:
        assert proxy.get("http://site/address", headers=claimed).text == "198.51.100.7"
    assert httpx.get(f"{url}/address", headers=claimed).text == "127.0.0.1"


class Slow:
    """A request to ``/slow`` under way: it has read the session and waits for ``go``."""

    def __init__(self, browser: Browser, tmp_path: Path, key: str, query: str = "") -> None:
        self.reply: httpx.Response | None = None
        self.pipes = []
        for name in (f"started-{key}", f"go-{key}"):
            os.mkfifo(tmp_path / name)
            self.pipes.append(os.open(tmp_path / name, os.O_RDWR))  # both ends, so that nobody waits in open()
        self.thread = threading.Thread(target=self._run, args=(browser.copy(), f"/slow?key={key}{query}"))
        self.thread.start()
        ready, _, _ = select.select([self.pipes[0]], [], [], 20)
        assert ready, "the slow request never began"

    def _run(self, browser: Browser, path: str) -> None:
        self.reply = browser.get(path)

    def go(self) -> httpx.Response:
        os.write(self.pipes[1], b"x")
        self.thread.join(20)
        for pipe in self.pipes:
            os.close(pipe)
        assert self.reply is not None
        return self.reply


def curl(program: str, url: str, cookie: str) -> str:
    return subprocess.run(
        [program, "-sS", "--max-time", "20", "-H", f"Cookie: {cookie}", url], check=True, capture_output=True, text=True
    ).stdout


def raw(port: int, cookie: bytes) -> tuple[int, bytes]:
    """The status and whole answer to ``/me`` with this Cookie header, byte by byte; 0 when the server hung up."""
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        request = b"GET /me HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nCookie: " + cookie + b"\r\n\r\n"
        answer = b""
        try:
            connection.sendall(request)
            while part := connection.recv(65536):
                answer += part
        except ConnectionError:
            pass
    return (int(answer[9:12]) if answer else 0), answer


def life_of_a_session(url: str, kind: str, program: str) -> None:
    """Login, change, read, replay, logout; forged and truncated cookies."""
    browser = Browser(url)
    assert browser.get("/anon").headers.get("vary") is None
    assert browser.get("/set?cart=pear").headers["cache-control"] == "no-store"
    anonymous = browser.copy()
    browser.get("/login")
    assert browser.cookies != anonymous.cookies
    assert browser.get("/me").text == "ada {'cart': 'pear'}"
    browser.get("/set?cart=plum")
    assert browser.get("/me").text == "ada {'cart': 'plum'}"
    assert curl(program, f"{url}/me", f"{NAME}={browser.cookies[NAME]}") == "ada {'cart': 'plum'}"
    assert anonymous.get("/me").text == ("None {'cart': 'pear'}" if kind == "cookie" else "None {}")
    good = browser.cookies[NAME]
    middle = len(good) - 8
    for bad in (
        good[:-1],
        good[: len(good) // 2],
        good + "A",
        good[:middle] + ("B" if good[middle] != "B" else "C") + good[middle + 1 :],
    ):
        assert curl(program, f"{url}/me", f"{NAME}={bad}") == "None {}"
    thief = browser.copy()
    browser.get("/logout")
    assert browser.get("/me").text == "None {'cart': 'plum'}"
    # nothing on the server: what was sealed before the logout opens until its deadlines (documented)
    assert thief.get("/me").text == ("ada {'cart': 'plum'}" if kind == "cookie" else "None {}")
    browser.get("/destroy")
    assert browser.cookies == {}


def corpus_over_sockets(port: int, url: str) -> None:
    browser = Browser(url)
    browser.get("/login")
    answered = sent = 0
    for case in HEADERS:
        header = case["header"].replace("{name}", NAME).replace("{good}", browser.cookies[NAME]).encode("latin-1")
        if b"\n" in header or b"\r" in header:
            continue  # another header, or another request: the server's own matter
        status, answer = raw(port, header)
        head, _, body = answer.partition(b"\r\n\r\n")
        assert status == 200 or status == 0 or 400 <= status < 500, (case, answer[:200])
        assert b"set-cookie" not in head.lower(), case
        sent += 1
        if status == 200:
            answered += 1
            assert (body == b"ada {}") == (case["outcome"] == "opens"), (case, body)
    assert answered > sent * 3 / 4, "who hangs up, or refuses, shows nothing"
    assert browser.get("/me").text == "ada {}"


def overlapping(url: str, tmp_path: Path) -> None:
    """The promises of a stored session, over real HTTP."""
    browser = Browser(url)
    browser.get("/set?a=1")

    slow = Slow(browser, tmp_path, "other")  # different keys: both are kept
    browser.get("/set?b=2")
    assert slow.go().headers.get_list("set-cookie") == []
    assert browser.get("/me").text == "None {'a': '1', 'b': '2', 'other': 'slow'}"

    slow = Slow(browser, tmp_path, "login")  # a login meanwhile: its cookie is not overwritten
    browser.get("/login")
    assert slow.go().headers.get_list("set-cookie") == []
    assert browser.get("/me").text.startswith("ada ")

    slow = Slow(browser, tmp_path, "logout")  # a logout meanwhile stays a logout
    thief = browser.copy()
    browser.get("/logout")
    assert slow.go().headers.get_list("set-cookie") == []
    assert browser.get("/me").text.startswith("None ")
    assert thief.get("/me").text == "None {}"

    slow = Slow(browser, tmp_path, "destroyed", "&login=eve")  # a login stands on its own proof
    browser.get("/destroy")
    fresh = Browser(url)
    take(fresh.cookies, slow.go().headers.get_list("set-cookie"))
    assert fresh.cookies, "no cookie for the login"
    assert fresh.get("/me").text == "eve {'destroyed': 'slow'}"

    threads = [threading.Thread(target=fresh.copy().get, args=("/count",)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert fresh.get("/me").text == "eve {'count': 8, 'destroyed': 'slow'}"
