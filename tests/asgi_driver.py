"""An ASGI server of the simplest kind, and a browser in front of it: drives a middleware by hand, message by message.

client = Client(SessionMiddleware(app, store=MemoryStore()))
reply = client.get("/")                 # a whole request on a loop of its own; keeps cookies
reply = await client.request("/")       # the same inside a test's own loop
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

SECRET = "k" * 43 + "secret-of-the-tests"
NAME = "__Host-session"


def raised(error: BaseException) -> Any:
    """``lambda: raised(error)``: raise in an expression."""
    raise error


class Reply:
    """One response, as the messages that made it."""

    def __init__(self, messages: list[dict[str, Any]]) -> None:
        self.messages = messages
        starts = [message for message in messages if message["type"].endswith((".start", ".accept"))]
        assert len(starts) <= 1, "a response starts once"
        self.start = starts[0] if starts else None
        self.headers = [
            (bytes(name).decode("latin-1").lower(), bytes(value).decode("latin-1"))
            for name, value in (self.start or {}).get("headers", ())
        ]
        self.body = b"".join(message.get("body", b"") for message in messages if message["type"].endswith(".body"))

    @property
    def status(self) -> int:
        assert self.start is not None, "no response"
        status: int = self.start["status"]
        return status

    @property
    def text(self) -> str:
        return self.body.decode()

    def all(self, name: str) -> list[str]:
        return [value for key, value in self.headers if key == name]

    def one(self, name: str) -> str | None:
        """The only header of that name; ``None`` without one."""
        values = self.all(name)
        assert len(values) <= 1, f"{name} occurs {len(values)} times"
        return values[0] if values else None

    @property
    def cookies(self) -> list[str]:
        return self.all("set-cookie")


def take(cookies: dict[str, str], lines: Iterable[str]) -> None:
    """What a browser does with Set-Cookie."""
    for line in lines:
        pair, *attributes = line.split("; ")
        name, _, value = pair.partition("=")
        if "Max-Age=0" in attributes:
            cookies.pop(name, None)
        else:
            cookies[name] = value


class Client:
    """A browser with its cookies; ``scope`` is added to every request's scope."""

    def __init__(self, app: Any, cookies: dict[str, str] | None = None, **scope: Any) -> None:
        self.app = app
        self.cookies = dict(cookies or {})
        self.scope_extra = scope
        self.scope: dict[str, Any] = {}  # of the last request

    def copy(self) -> Client:
        """Another tab with the same cookies, or a thief."""
        return Client(self.app, self.cookies, **self.scope_extra)

    def build(
        self,
        path: str = "/",
        *,
        method: str = "GET",
        kind: str = "http",
        headers: Iterable[tuple[bytes, bytes]] = (),
        cookie: bytes | None = None,
        **more: Any,
    ) -> dict[str, Any]:
        """The scope of a request; *cookie* in place of the browser's own."""
        raw = (
            "; ".join(f"{name}={value}" for name, value in self.cookies.items()).encode() if cookie is None else cookie
        )
        scope = {
            "type": kind,
            "asgi": {"version": "3.0", "spec_version": "2.4"},
            "http_version": "1.1",
            "method": method,
            "scheme": "https" if kind == "http" else "wss",
            "path": path,
            "raw_path": path.encode(),
            "query_string": b"",
            "root_path": "",
            "headers": [(b"host", b"example.test"), *headers, *([(b"cookie", raw)] if raw else [])],
            "client": ("203.0.113.9", 50_000),
            "server": ("example.test", 443),
            "subprotocols": [],
            "extensions": {"websocket.http.response": {}},
            **self.scope_extra,
            **more,
        }
        if kind == "http":
            del scope["subprotocols"]
            scope["extensions"] = {}
        self.scope = scope
        return scope

    async def request(
        self,
        path: str = "/",
        *,
        send: Callable[[dict[str, Any]], Awaitable[None]] | None = None,
        receive: Callable[[], Awaitable[dict[str, Any]]] | None = None,
        messages: list[dict[str, Any]] | None = None,
        **options: Any,
    ) -> Reply:
        """One request, whole; *messages* collects what was sent even when the app raises."""
        sent: list[dict[str, Any]] = [] if messages is None else messages

        async def collect(message: dict[str, Any]) -> None:
            sent.append(message)

        async def body() -> dict[str, Any]:
            return {"type": "http.request", "body": b"", "more_body": False}

        await self.app(self.build(path, **options), receive or body, send or collect)
        reply = Reply(sent)
        take(self.cookies, reply.cookies)
        return reply

    def get(self, path: str = "/", **options: Any) -> Reply:
        """The same, on an event loop of its own."""
        return asyncio.run(self.request(path, **options))


def start(status: int = 200, *headers: tuple[bytes, bytes]) -> dict[str, Any]:
    """A response start."""
    return {"type": "http.response.start", "status": status, "headers": list(headers)}


def chunk(body: bytes = b"", *, more: bool = False) -> dict[str, Any]:
    """A part of a response body."""
    return {"type": "http.response.body", "body": body, "more_body": more}


async def respond(send: Any, body: object = "ok", status: int = 200, *headers: tuple[bytes, bytes]) -> None:
    """A whole response."""
    await send(start(status, *headers))
    await send(chunk(str(body).encode()))


def handler(function: Callable[[Any], object]) -> Any:
    """An app that answers what *function* makes of the session."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await respond(send, function(scope["session"]))

    return app


class Routes:
    """An app made of functions by path: ``(session) -> body``; ``calls`` may be changed by the test."""

    def __init__(self, **routes: Callable[[Any], object]) -> None:
        self.routes = routes

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await respond(send, self.routes[scope["path"].strip("/") or "index"](scope["session"]))
