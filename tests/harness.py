"""A middleware without a framework: the real ``SessionLayer``, a clock to turn, known randomness, and a browser.

    app = App("store")                      # or "cookie"; settings as keyword arguments
    with app.request() as s:                # commits, sends cookies to app.browser, ends
        s["a"] = 1

``app.sent`` holds the Set-Cookie values of the last response, ``app.events`` every event told. Requests overlap by
nesting, or step by step with ``begin``, ``respond`` and ``end``.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from session_mw.config import SessionConfig
from session_mw.core.event import Event
from session_mw.core.session import Session, bind_session, release_session
from session_mw.core.state import State
from session_mw.core.tokens import RANDOM_BYTES, mint
from session_mw.layer import SessionLayer
from session_mw.managers import Verdict
from session_mw.stores.memory import MemoryStore
from session_mw.testing import Clock

KEY = "k" * 43 + "secret-of-the-tests"
HOME, AWAY = "203.0.113.9", "198.51.100.66"
both = pytest.mark.parametrize("kind", ["cookie", "store"])


class Random:
    """Bytes that nobody could guess, and that are the same in every run."""

    def __init__(self, seed: str = "") -> None:
        self.seed = seed
        self.calls = 0

    def __call__(self, size: int) -> bytes:
        self.calls += 1
        return hashlib.shake_256(f"{self.seed}{self.calls}".encode()).digest(size)


class Source:
    """One request, as an integration would see it."""

    def __init__(
        self, cookie: bytes = b"", peer: str | None = HOME, scheme: str = "https", headers: Mapping[str, str] = {}
    ) -> None:
        self.cookie = cookie
        self.peer = peer
        self.scheme = scheme
        self.headers = headers


class SourceReader:
    """Reads it."""

    def cookies(self, source: Source) -> str:
        return source.cookie.decode("latin-1")

    def header(self, source: Source, name: str) -> str | None:
        return source.headers.get(name)

    def peer(self, source: Source) -> str | None:
        return source.peer

    def scheme(self, source: Source) -> str:
        return source.scheme

    def method(self, source: Source) -> str:
        return "GET"

    def target(self, source: Source) -> str:
        return "/"


class Browser:
    """Keeps cookies by name; deletes what a response deletes."""

    def __init__(self, **cookies: str) -> None:
        self.cookies = dict(cookies)

    def take(self, values: list[str]) -> None:
        for value in values:
            pair, *attributes = value.split("; ")
            name, _, text = pair.partition("=")
            if "Max-Age=0" in attributes:
                self.cookies.pop(name, None)
            else:
                self.cookies[name] = text

    @property
    def header(self) -> bytes:
        return "; ".join(f"{name}={value}" for name, value in self.cookies.items()).encode()

    def copy(self) -> Browser:
        """Another tab with the same cookies, or a thief."""
        return Browser(**self.cookies)

    def __bool__(self) -> bool:
        return bool(self.cookies)


class Exchange:
    """One request and its response, step by step."""

    def __init__(self, app: App, browser: Browser, source: Source) -> None:
        self.app = app
        self.browser = browser
        self.session = app.layer.session(source)
        self.sent: list[str] = []
        self.responded = False

    def respond(self) -> list[str]:
        """Commit, then let the headers leave: the Set-Cookie values."""
        session, layer = self.session, self.app.layer
        self.responded = True
        if session._state is None:
            session._started = True
        else:
            verdict = layer.commit(session)
            assert isinstance(verdict, Verdict)
            self.sent = layer.set_cookies(session._source, verdict)
            session._state.start_response()
        self.browser.take(self.sent)
        self.app.sent = self.sent
        return self.sent

    def end(self, *, failed: bool = False) -> None:
        """The app has returned, or raised."""
        session, layer = self.session, self.app.layer
        state = session._state
        try:
            if state is not None and self.responded:
                layer.late(session, failed=failed)
            elif failed:
                layer.fail(session)
        finally:
            layer.close(session, failed=failed)
            if state is not None:
                layer.events.tell(state)


class App:
    """One middleware. *kind*: ``cookie`` or ``store``; *callback* sees events after ``events`` has them."""

    def __init__(self, kind: str = "store", *, store: Any = None, on_loop: bool = False, **settings: Any) -> None:
        self.clock = settings.pop("clock", None) or Clock()
        self.random = Random()
        self.events: list[Event] = []
        self.sent: list[str] = []
        self.browser = Browser()
        self.store = None
        manager = settings.pop("manager", None)
        if kind == "cookie":
            settings.setdefault("secret_key", KEY)
        else:
            self.store = settings["store"] = store if store is not None else MemoryStore(clock=self.clock)
        self._heard = settings.pop("on_event", None)
        self.config = SessionConfig(clock=self.clock, on_event=self._hear, **settings)
        self.layer = SessionLayer(self.config, manager, SourceReader(), on_loop=on_loop)
        self.layer.random = self.random
        self._open: list[Exchange] = []

    def _hear(self, event: Event) -> None:
        self.events.append(event)
        if self._heard is not None:
            self._heard(event)

    def begin(self, browser: Browser | None = None, **source: Any) -> Exchange:
        """A request, to be stepped by hand."""
        browser = self.browser if browser is None else browser
        return Exchange(self, browser, Source(browser.header, **source))

    @contextlib.contextmanager
    def request(self, browser: Browser | None = None, **source: Any) -> Iterator[Session]:
        """A whole request: the block is the app."""
        exchange = self.begin(browser, **source)
        self._open.append(exchange)
        bound = bind_session(exchange.session)
        try:
            yield exchange.session
            if not exchange.responded:
                exchange.respond()
        except BaseException:
            exchange.end(failed=True)
            raise
        else:
            exchange.end()
        finally:
            release_session(bound)
            self._open.remove(exchange)

    def respond(self) -> list[str]:
        """Start the response of the innermost open request now."""
        return self._open[-1].respond()

    def look(self, browser: Browser | None = None, **source: Any) -> dict[str, Any]:
        """What a request would find in the default storage; nothing is committed."""
        return self.begin(browser, **source).session.copy()

    def told(self, *names: str) -> list[str]:
        """Names of the events told (of *names* only), each with its reason, and forget them."""
        events, self.events = self.events, []
        return [
            f"{event.name}:{event.reason}" if event.reason else event.name
            for event in events
            if not names or event.name in names
        ]


def token(seed: str = "token") -> Any:
    """A token."""
    return mint(Random(seed)(RANDOM_BYTES))


def opened(record: Any, now: int) -> State:
    """A request's state on *record*, without a session around it, that will be written."""
    state = State(now)
    state.adopt(record)
    return state
