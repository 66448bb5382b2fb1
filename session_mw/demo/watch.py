"""Watching the session layer: what it did for one request, and how long that took.

It is watched where its parts meet, so that nothing is guessed: opening and committing on the layer, calls on the
store's faces, the cookie on the response as it leaves. A ``Trace`` holds names, sizes and times; no token, key or
value.

A page that answers a redirect also shows the requests before it: they are kept in memory for a while, under a random
key which the redirect's address carries.
"""

from __future__ import annotations

import secrets
from collections import OrderedDict
from collections.abc import Awaitable
from contextvars import ContextVar
from dataclasses import dataclass, field
from inspect import isawaitable
from time import perf_counter_ns
from typing import Any, cast
from urllib.parse import parse_qs

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ..asgi import ScopeReader, SessionMiddleware
from ..config import SessionConfig
from ..core.event import Event
from ..core.operations import Flow
from ..core.record import Record
from ..core.session import Session
from ..home import Home
from ..layer import SessionLayer
from ..managers import Opened, Verdict

__all__ = ["Call", "Trace", "Watch", "WatchedSessions", "current_story", "note_event"]

_KEPT = 256  # stories in memory
_TOLD = 3  # requests in one story


@dataclass(frozen=True, slots=True)
class Call:
    """One call of the store. ``size`` is the payload's bytes, where one went in or came out."""

    name: str
    nanoseconds: int
    size: int | None = None
    version: int | None = None


@dataclass(slots=True)
class Trace:
    """What the session layer did for one request. ``nanoseconds``: opening and committing, with the store's part."""

    method: str
    path: str
    cookie_came: bool = False
    touched: bool = False  # the app looked at the session
    status: int = 0
    cookie: str = ""  # what left: "" for none, "set" or "cleared"
    cookie_bytes: int = 0  # of the Set-Cookie line
    nanoseconds: int = 0
    calls: list[Call] = field(default_factory=list)
    reasons: list[str] = field(default_factory=list)  # why a cookie was not accepted, or a change dropped


_story: ContextVar[tuple[Trace, ...]] = ContextVar("session_mw.demo.story", default=())


def current_story() -> tuple[Trace, ...]:
    """The request being handled, last, and the ones that led to it by a redirect."""
    return _story.get()


def _trace() -> Trace:
    """The present request's; one that nobody reads outside of a request."""
    story = _story.get()
    return story[-1] if story else Trace("", "")


def note_event(event: Event) -> None:
    """An ``on_event`` callback: remember refusals."""
    if event.name in ("refused", "dropped"):
        _trace().reasons.append(event.reason)


class _Face:
    """A face of a store whose calls are noted; for flows, which call methods and ask for nothing else."""

    def __init__(self, face: Any) -> None:
        self._face = face

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._face, name)

        def call(*arguments: Any, **options: Any) -> Any:
            began = perf_counter_ns()
            answer = method(*arguments, **options)
            if isawaitable(answer):
                return _later(answer, arguments, began)
            _note(answer, arguments, began)
            return answer

        async def _later(answer: Awaitable[Any], arguments: tuple[Any, ...], began: int) -> Any:
            result = await answer
            _note(result, arguments, began)
            return result

        def _note(answer: Any, arguments: tuple[Any, ...], began: int) -> None:
            record = next((each for each in (*arguments, answer) if isinstance(each, Record)), None)
            size, version = (len(record.payload), record.version) if record else (None, None)
            _trace().calls.append(Call(name, perf_counter_ns() - began, size, version))

        return call


class _Layer(SessionLayer):
    """A layer whose openings, commits and store calls are noted."""

    def home_for(self, place: Any) -> Home:
        home = super().home_for(place)
        return Home(home.manager, _face(home.store), _face(home.astore))

    def fill(self, session: Session, values: list[str] | None = None) -> None:
        began, trace = perf_counter_ns(), _trace()
        trace.touched = True
        super().fill(session, values)
        trace.nanoseconds += perf_counter_ns() - began

    async def _afill(
        self, session: Session, home: Home, now: int, opened: Opened | Flow[Opened], header: str | None = None
    ) -> None:
        began, trace = perf_counter_ns(), _trace()
        trace.touched = True
        await super()._afill(session, home, now, opened, header)
        trace.nanoseconds += perf_counter_ns() - began

    def commit(self, session: Session) -> Verdict | Awaitable[Verdict]:
        began = perf_counter_ns()
        verdict = super().commit(session)
        if not isinstance(verdict, Verdict):
            return self._commit_later(verdict, began)
        _trace().nanoseconds += perf_counter_ns() - began
        return verdict

    async def _commit_later(self, verdict: Awaitable[Verdict], began: int) -> Verdict:
        answer = await verdict
        _trace().nanoseconds += perf_counter_ns() - began
        return answer


def _face(face: Any) -> Any:
    return None if face is None else _Face(face)


class WatchedSessions(SessionMiddleware):
    """The middleware as it is, with a layer that is watched."""

    def __init__(self, app: ASGIApp, config: SessionConfig) -> None:
        super().__init__(cast("Any", app), config)
        self.layer = _Layer(self.config, None, ScopeReader(), on_loop=True)


class Watch:
    """Around everything: begins a trace, sees what leaves, and carries the story over a redirect."""

    def __init__(self, app: ASGIApp, config: SessionConfig) -> None:
        self.app = app
        self._cookie = config.cookie
        self._stories: OrderedDict[str, tuple[Trace, ...]] = OrderedDict()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        trace = Trace(scope["method"], scope["path"])
        trace.cookie_came = bool(self._cookie.read(ScopeReader().cookies(scope)))
        key = parse_qs(scope["query_string"].decode("latin-1")).get("after", [""])[0]
        story = (*self._stories.get(key, ()), trace)[-_TOLD:]

        async def seen(message: Message) -> None:
            if message["type"] == "http.response.start":
                trace.status = message["status"]
                headers = MutableHeaders(raw=message["headers"])
                for line in headers.getlist("set-cookie"):  # the demo has no cookie but the session's
                    trace.cookie = "cleared" if "Max-Age=0;" in line else "set"
                    trace.cookie_bytes = len(line)
                if trace.status == 303:
                    location = headers["location"]
                    mark = "&" if "?" in location else "?"
                    headers["location"] = f"{location}{mark}after={self._keep(story)}"
            await send(message)

        before = _story.set(story)
        try:
            await self.app(scope, receive, seen)
        finally:
            _story.reset(before)

    def _keep(self, story: tuple[Trace, ...]) -> str:
        key = secrets.token_urlsafe(6)
        self._stories[key] = story
        if len(self._stories) > _KEPT:
            self._stories.popitem(last=False)
        return key
