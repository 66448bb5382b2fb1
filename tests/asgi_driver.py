"""An ASGI server of the simplest kind, and a browser in front of it: drives a middleware by hand, message by message.

client = Client(SessionMiddleware(app, store=MemoryStore()))
reply = client.get("/")                 # a whole request on a loop of its own; keeps cookies
reply = await client.request("/")       # the same inside a test's own loop
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from typing import Any

SECRET = "k" * 43 + "secret-of-the-tests"
NAME = "__Host-session"


HASTE = 20


class _HastySelector(selectors.DefaultSelector):
    def select(self, timeout: float | None = None) -> Any:
        return super().select(timeout and timeout / HASTE)


class HastyLoop(asyncio.SelectorEventLoop):
    """A loop on which time passes ``HASTE`` times as fast, so that a timer of one second is soon over."""

    def __init__(self) -> None:
        super().__init__(_HastySelector())

    def time(self) -> float:
        return super().time() * HASTE


def hastily(main: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run *main* on such a loop."""
    with asyncio.Runner(loop_factory=HastyLoop) as runner:
        runner.run(main())


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


class Socket:
    """A websocket connection to an app running in a task of its own: ``async with Socket(client) as socket``."""

    def __init__(self, client: Client, path: str = "/", **options: Any) -> None:
        self.client = client
        self.scope = client.build(path, kind="websocket", **options)
        self.sent: list[dict[str, Any]] = []
        self._incoming: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._outgoing: asyncio.Queue[dict[str, Any]] = asyncio.Queue()

    async def __aenter__(self) -> Socket:
        self._incoming.put_nowait({"type": "websocket.connect"})

        async def send(message: dict[str, Any]) -> None:
            self.sent.append(message)
            self._outgoing.put_nowait(message)

        self.task = asyncio.ensure_future(self.client.app(self.scope, self._incoming.get, send))
        return self

    async def __aexit__(self, *exc: object) -> None:
        if not self.task.done():
            self.task.cancel()
            await asyncio.gather(self.task, return_exceptions=True)
        take(self.client.cookies, Reply(self.sent).cookies)

    async def next(self) -> dict[str, Any]:
        """The next message the app sends; what it raises, when it ends instead."""
        getter = asyncio.ensure_future(self._outgoing.get())
        async with asyncio.timeout(10 * HASTE):
            await asyncio.wait({getter, self.task}, return_when=asyncio.FIRST_COMPLETED)
        if getter.done():
            return getter.result()
        getter.cancel()
        self.task.result()
        raise AssertionError("the app ended and sent nothing")

    async def say(self, text: str) -> str:
        """Send a frame; the frame that answers it."""
        self._incoming.put_nowait({"type": "websocket.receive", "text": text})
        message = await self.next()
        assert message["type"] == "websocket.send", message
        answer: str = message["text"]
        return answer

    async def leave(self) -> None:
        """Disconnect, and let the app end. Raises what it raises."""
        self._incoming.put_nowait({"type": "websocket.disconnect", "code": 1000})
        async with asyncio.timeout(10 * HASTE):
            await asyncio.wait({self.task})
        self.task.result()

    @property
    def reply(self) -> Reply:
        return Reply(self.sent)
