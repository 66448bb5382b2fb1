"""Drivers: hand requests to an app in-process and take the CPU time of its process.

No network and no server: a request is a dict built once and copied for every call, which the bare app pays for too.
``time.process_time`` counts every thread, so work handed to a pool does not vanish. A batch ends with a collection
of what it left: the harness turns the collector off, so whoever makes garbage pays for it.
"""

from __future__ import annotations

import asyncio
import gc
import io
import sys
import time
from collections.abc import Awaitable, Callable, Iterable
from http.cookies import SimpleCookie
from typing import Any, NamedTuple, Protocol

__all__ = ["Asgi", "Driver", "Jar", "Reply", "Spent", "Wsgi", "loop_factory"]

Jar = dict[str, str]
Template = dict[str, Any]

BROWSER = {  # with Cookie: the twelve headers of a navigation
    "Host": "shop.example.org",
    "User-Agent": "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
    "Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
    "Accept-Language": "es-AR,es;q=0.8,en-US;q=0.5,en;q=0.3",
    "Accept-Encoding": "gzip, deflate, br, zstd",
    "Referer": "https://shop.example.org/account/orders?page=2",
    "Upgrade-Insecure-Requests": "1",
    "Sec-Fetch-Dest": "document",
    "Sec-Fetch-Mode": "navigate",
    "Sec-Fetch-Site": "same-origin",
    "Priority": "u=0, i",
}


def _headers(jar: Jar | None) -> dict[str, str]:
    if jar is None:
        return BROWSER
    cookies = {"_ga": "GA1.1.1804289383.1763769600", **jar, "consent": "necessary"}  # three with a session's one
    return {**BROWSER, "Cookie": "; ".join(f"{name}={value}" for name, value in cookies.items())}


class Reply(NamedTuple):
    """What one request answered."""

    status: int
    cookies: list[str]  # Set-Cookie values
    body: bytes

    @property
    def jar(self) -> Jar:
        """The cookies set, name to value, without those being cleared."""
        found = (morsel for line in self.cookies for morsel in SimpleCookie(line).values())
        return {morsel.key: morsel.value for morsel in found if morsel.value not in ("", "null")}


class Spent(NamedTuple):
    """Seconds of one batch."""

    cpu: float
    wall: float


class Driver(Protocol):
    """How one kind of app is called."""

    def template(self, path: str, jar: Jar | None) -> Template:
        """The request for *path* carrying the cookies of *jar*; ``None``: no Cookie header."""
        ...

    def exchange(self, app: Any, template: Template) -> Reply:
        """One request, its answer kept."""
        ...

    def batch(self, app: Any, templates: Iterable[Template]) -> Spent:
        """The requests one after another, their answers dropped."""
        ...

    def within(self, app: Any, templates: Iterable[Template], probe: Callable[[], int]) -> int:
        """A batch with *probe* called right before and after it; what the second call gave."""
        ...


async def _receive() -> dict[str, Any]:
    return {"type": "http.request", "body": b"", "more_body": False}


async def _drop(message: Any) -> None:
    return None


class Asgi:
    """One event loop for all batches. An app that never waits is driven without the loop ever turning."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop

    def template(self, path: str, jar: Jar | None) -> Template:
        return {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.4"},
            "http_version": "1.1",
            "method": "GET",
            "scheme": "https",
            "path": path,
            "raw_path": path.encode(),
            "query_string": b"",
            "root_path": "",
            "headers": [(name.lower().encode(), value.encode()) for name, value in _headers(jar).items()],
            "client": ("203.0.113.7", 51234),
            "server": ("shop.example.org", 443),
        }

    def exchange(self, app: Any, template: Template) -> Reply:
        messages: list[dict[str, Any]] = []

        async def keep(message: dict[str, Any]) -> None:
            messages.append(message)

        self._loop.run_until_complete(app(template.copy(), _receive, keep))
        start = messages[0]
        cookies = [value.decode() for name, value in start["headers"] if name.lower() == b"set-cookie"]
        return Reply(start["status"], cookies, b"".join(message.get("body", b"") for message in messages[1:]))

    def batch(self, app: Any, templates: Iterable[Template]) -> Spent:
        async def timed() -> Spent:
            wall, cpu = time.perf_counter(), time.process_time()
            await _requests(app, templates)
            gc.collect(0)
            return Spent(time.process_time() - cpu, time.perf_counter() - wall)

        return self._loop.run_until_complete(timed())

    def within(self, app: Any, templates: Iterable[Template], probe: Callable[[], int]) -> int:
        async def probed() -> int:
            probe()
            await _requests(app, templates)
            return probe()

        return self._loop.run_until_complete(probed())


async def _requests(app: Callable[..., Awaitable[None]], templates: Iterable[Template]) -> None:
    receive, send = _receive, _drop
    for template in templates:
        await app(template.copy(), receive, send)


class Wsgi:
    """start_response, then the iterable to its end, then close(): what PEP 3333 asks of a server."""

    def template(self, path: str, jar: Jar | None) -> Template:
        headers = {f"HTTP_{name.upper().replace('-', '_')}": value for name, value in _headers(jar).items()}
        return {
            "REQUEST_METHOD": "GET",
            "SCRIPT_NAME": "",
            "PATH_INFO": path,
            "QUERY_STRING": "",
            "SERVER_NAME": "shop.example.org",
            "SERVER_PORT": "443",
            "SERVER_PROTOCOL": "HTTP/1.1",
            "REMOTE_ADDR": "203.0.113.7",
            "wsgi.version": (1, 0),
            "wsgi.url_scheme": "https",
            "wsgi.input": io.BytesIO(),
            "wsgi.errors": sys.stderr,
            "wsgi.multithread": True,
            "wsgi.multiprocess": False,
            "wsgi.run_once": False,
            **headers,
        }

    def exchange(self, app: Any, template: Template) -> Reply:
        starts: list[tuple[str, list[tuple[str, str]]]] = []

        def keep(status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Callable[[bytes], None]:
            starts.append((status, headers))
            return _write

        result = app(template.copy(), keep)
        body = b"".join(result)
        if close := getattr(result, "close", None):
            close()
        status, headers = starts[-1]
        return Reply(int(status[:3]), [value for name, value in headers if name.lower() == "set-cookie"], body)

    def batch(self, app: Any, templates: Iterable[Template]) -> Spent:
        wall, cpu = time.perf_counter(), time.process_time()
        _calls(app, templates)
        gc.collect(0)
        return Spent(time.process_time() - cpu, time.perf_counter() - wall)

    def within(self, app: Any, templates: Iterable[Template], probe: Callable[[], int]) -> int:
        probe()
        _calls(app, templates)
        return probe()


def _calls(app: Any, templates: Iterable[Template]) -> None:
    for template in templates:
        result = app(template.copy(), _start_response)
        for _ in result:
            pass
        if close := getattr(result, "close", None):
            close()


def _write(data: bytes) -> None:
    return None


def _start_response(status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Callable[[bytes], None]:
    return _write


def loop_factory() -> Any:
    """uvloop's where it is installed, as under uvicorn; else asyncio's own."""
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop
