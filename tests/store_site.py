"""A site on any store, ASGI or WSGI, with visitors: what tests of every store share."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from asgi_driver import NAME, Client, handler
from wsgi_driver import WSGIClient

from session_mw import asgi, wsgi
from session_mw.core.event import Event
from session_mw.core.operations import Operation
from session_mw.stores.url import store_from_url
from session_mw.testing import Clock

HOME, AWAY = "203.0.113.9", "198.51.100.66"


class Visitor:
    """One browser; ``visit(work)`` is one request whose handler is *work*: what that answers."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.address = HOME
        self.cookies: dict[str, str] = {}

    def visit(self, work: Callable[[Any], Any] = dict) -> Any:
        self.site.work = work
        if self.site.kind == "asgi":
            browser = Client(self.site.app, self.cookies, client=(self.address, 50_000))
            self.site.await_(browser.request())
        else:
            browser = WSGIClient(self.site.app, self.cookies, REMOTE_ADDR=self.address)  # type: ignore[assignment]
            browser.get()
        self.cookies = browser.cookies
        return self.site.answer

    @property
    def token(self) -> tuple[str, str]:
        id, _, secret = self.cookies[NAME].partition(".")  # noqa: A001
        return id, secret


class Site:
    """A middleware around the handlers of its visitors, with a store, and everything it tells."""

    def __init__(self, kind: str, url: str, runner: asyncio.Runner) -> None:
        self.kind = kind
        self.url = url
        self.await_ = runner.run
        self.store: Any = store_from_url(url)
        self.events: list[Event] = []
        self.work: Callable[[Any], Any] = dict
        self.answer: Any = None
        self.ask_later(self.store.initialize)

    def begin(self, **settings: Any) -> Visitor:
        """A first visitor, under *settings*."""
        settings = {"clock": Clock(2_100_000_000), "on_event": self.events.append, **settings}
        if self.kind == "asgi":
            self.app: Any = asgi.SessionMiddleware(handler(self.handle), store=self.store, **settings)
        else:
            self.app = wsgi.SessionMiddleware(self.wsgi, store=self.store, **settings)
        return Visitor(self)

    def handle(self, session: Any) -> str:
        self.answer = self.work(session)
        return "ok"

    def wsgi(self, environ: Any, start_response: Any) -> list[bytes]:
        body = self.handle(environ["session_mw.session"]).encode()
        start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
        return [body]

    def ask(self, operation: Operation) -> Any:
        """Straight to the store."""
        return self.ask_later(lambda: operation.ask(self.store))

    def ask_later(self, call: Callable[[], Any]) -> Any:
        async def story() -> Any:
            answer = call()
            return await answer if isinstance(answer, Awaitable) else answer

        return self.await_(story()) if self.kind == "asgi" else call()

    def end(self) -> None:
        """Close the store, and the face that the app used on its loop."""
        if self.kind == "asgi" and hasattr(self.store, "aio"):
            self.ask_later(self.store.aio().teardown)
        self.ask_later(self.store.teardown)

    def told(self) -> list[str]:
        """The events since last time, each with its reason."""
        events = [f"{event.name}:{event.reason}" if event.reason else event.name for event in self.events]
        self.events.clear()
        return events


def puts(**values: Any) -> Callable[[Any], None]:
    return lambda session: session.update(values)


def logs_in(user: str, ip: str | None = None) -> Callable[[Any], Any]:
    return lambda session: session.login(ip, user_id=user)
