"""A WSGI server of the simplest kind with ``wsgiref.validate`` on both sides, and a browser in front of it."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterable
from typing import Any
from wsgiref.util import setup_testing_defaults
from wsgiref.validate import validator

from asgi_driver import take


class WSGIReply:
    """One response. ``written`` came by ``write()``, ``chunks`` from the iterable."""

    def __init__(self) -> None:
        self.starts: list[tuple[str, list[tuple[str, str]]]] = []
        self.written: list[bytes] = []
        self.chunks: list[bytes] = []

    @property
    def status(self) -> int:
        return int(self.starts[-1][0][:3])

    @property
    def headers(self) -> list[tuple[str, str]]:
        return [(name.lower(), value) for name, value in self.starts[-1][1]]

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

    @property
    def body(self) -> bytes:
        return b"".join(self.written + self.chunks)

    @property
    def text(self) -> str:
        return self.body.decode()


class WSGIClient:
    """A browser with its cookies. *checked*: wsgiref's validator stands around the middleware."""

    def __init__(
        self, app: Any, cookies: dict[str, str] | None = None, *, checked: bool = True, **environ: str
    ) -> None:
        self.app = validator(app) if checked else app
        self.cookies = dict(cookies or {})
        self.environ_extra = environ

    def copy_to(self, app: Any) -> WSGIClient:
        """A browser with the same cookies in front of another app."""
        return WSGIClient(app, self.cookies, **self.environ_extra)

    def environ(self, path: str = "/", method: str = "GET", cookie: str | None = None, **more: Any) -> dict[str, Any]:
        """The environ of a request."""
        environ: dict[str, Any] = {
            "REQUEST_METHOD": method,
            "SCRIPT_NAME": "",
            "PATH_INFO": path,
            "QUERY_STRING": "",
            "HTTPS": "on",
            "REMOTE_ADDR": "203.0.113.9",
            "HTTP_HOST": "example.test",
            "wsgi.errors": sys.stderr,
            "wsgi.input": io.BytesIO(),
            "SERVER_PROTOCOL": "HTTP/1.1",
        }
        raw = "; ".join(f"{name}={value}" for name, value in self.cookies.items()) if cookie is None else cookie
        if raw:
            environ["HTTP_COOKIE"] = raw
        setup_testing_defaults(environ)
        environ.update(self.environ_extra)
        environ.update(more)
        return environ

    def get(self, path: str = "/", *, read: int | None = None, reply: WSGIReply | None = None, **options: Any) -> Any:
        """One request, whole; *read* only so many chunks, as when the client goes away. ``close()`` is always called.

        *reply* collects even when the app raises.
        """
        reply = reply or WSGIReply()

        def start_response(status: str, headers: Iterable[tuple[str, str]], exc_info: Any = None) -> Any:
            sent = bool(reply.written) or any(reply.chunks)
            if exc_info is not None and sent:
                raise exc_info[1].with_traceback(exc_info[2])
            assert exc_info is not None or not reply.starts, "start_response came twice"
            reply.starts.append((status, list(headers)))
            return reply.written.append

        body = self.app(self.environ(path, **options), start_response)
        try:
            for number, part in enumerate(body):
                if read is not None and number >= read:
                    break
                assert reply.starts or not part, "a body before start_response"
                reply.chunks.append(part)
        finally:
            if hasattr(body, "close"):
                body.close()
        take(self.cookies, reply.cookies if reply.starts else ())
        return reply
