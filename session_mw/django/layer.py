"""Django's layer: flows run for code that waits and code that awaits, on one store.

Decided here: which record is not opened although it lives (a date of ``set_expiry`` that has passed), and what a save
of an unchanged session is worth. One layer serves until Django says that a setting of ours has changed, as
``override_settings`` does.
"""

from __future__ import annotations

from collections.abc import Awaitable
from contextvars import ContextVar
from datetime import datetime
from typing import Any, ClassVar, Self, TypeVar

from django.core.signals import setting_changed
from django.http import HttpResponse, parse_cookie
from django.utils.asyncio import async_unsafe

from ..config import SessionConfig
from ..core.lifetime import slide
from ..core.operations import Flow, Touch
from ..core.runners import arun, run
from ..core.session import Session, bind_session, release_session
from ..core.state import State
from ..core.tokens import Token, split
from ..errors import ConfigurationError, StoreError
from ..home import Home
from ..layer import SessionLayer
from ..managers import LEAVE, Opened, Verdict
from ..service import AsyncSessionService, SessionService
from ..stores.faces import loop_faces
from ..wsgi import EnvironReader
from .settings import READ, configuration

__all__ = [
    "EXPIRY",
    "DjangoLayer",
    "RequestReader",
    "Seat",
    "current_layer",
    "expiry_date",
    "seat",
    "session_config",
]

EXPIRY = "_session_expiry"
"""Where Django keeps what ``set_expiry`` was given."""

_ON_LOOP = (
    "the session is not loaded, and an event loop must not wait for its store: "
    "await request.session.aget(…), or another of its a… methods, first"
)

T = TypeVar("T")
_META = EnvironReader()


class Seat:
    """One request under ``StoreErrorMiddleware``: its session, and what its store failed with. Taken by ``with``."""

    __slots__ = ("_before", "_bound", "failure", "request", "session")

    def __init__(self, request: Any) -> None:
        self.request = request
        self.session: Any = None
        self.failure: StoreError | None = None

    def __enter__(self) -> Self:
        self._bound, self._before = bind_session(None), seat.set(self)
        return self

    def __exit__(self, *raised: object) -> None:
        seat.reset(self._before)
        release_session(self._bound)


seat: ContextVar[Seat | None] = ContextVar("session_mw.django.seat", default=None)


class RequestReader:
    """Reads an ``HttpRequest``, whose ``META`` is an environ; a ``SessionStore`` made outside of a request has none."""

    def cookies(self, request: Any) -> str:
        """The Cookie header."""
        return "" if request is None else _META.cookies(request.META)

    def header(self, request: Any, name: str) -> str | None:
        """One header by lower-case name."""
        return None if request is None else _META.header(request.META, name)

    def peer(self, request: Any) -> str | None:
        """The peer's address; a server that listens on a unix socket gives an empty one, or over ASGI no port of its
        own either, for which Django writes 0 or None."""
        if request is None:
            return None
        meta = request.META
        return _META.peer(meta) if "REMOTE_ADDR" in meta or meta.get("SERVER_PORT") not in ("0", "None") else ""

    def scheme(self, request: Any) -> str:
        """The scheme, ``SECURE_PROXY_SSL_HEADER`` believed."""
        return "http" if request is None else str(request.scheme)

    def method(self, request: Any) -> str:
        """``GET`` and the like."""
        return str(request.method)

    def target(self, request: Any) -> str:
        """Path and query, percent-encoded."""
        return str(request.get_full_path())


class Kept(State):
    """Django keeps a session without anything in it, as long as it has a key."""

    keeps_empty: ClassVar[bool] = True


class WatchedKept(Kept):
    """The same, where somebody listens to events."""

    tells: ClassVar[bool] = True


class DjangoLayer(SessionLayer):
    """A ``SessionLayer`` whose flows run for both kinds of callers, on a store that answers when called."""

    def __init__(self, config: SessionConfig, named: frozenset[str]) -> None:
        self.named = named  # in SESSION_MW, as opposed to Django's own settings
        super().__init__(config, None, RequestReader(), on_loop=False)
        self._begin = WatchedKept if self.events.wanted else Kept
        self._told_or_asked, self._looks_closer = self._looks_closer, True
        self.service = SessionService(config)
        self.aservice = AsyncSessionService(config)

    def home_for(self, place: Any) -> Home:
        """A store, made ready for both kinds of callers. Raises ``ConfigurationError`` for what cannot be."""
        home = super().home_for(place)
        if home.store is None:
            raise ConfigurationError("under Django sessions are kept in a store; no other manager will do")
        return home._replace(astore=loop_faces(home.store)[1])

    def refused(self, answer: Any) -> Any:
        """What a guard's view returns in place of its own response."""
        status, headers, body = answer
        return response_of(status, headers, body)

    # -- running -----------------------------------------------------------------------------------------------

    def _run(self, home: Home, flow: Flow[T]) -> T:
        """*flow*, here and now. Raises what it lets through, ``SynchronousOnlyOperation`` on an event loop."""
        try:
            if not self.ready:
                self.open_store()
            return run(flow, home.store)
        except StoreError as error:
            _remember(error)
            raise

    run: Any = async_unsafe(_ON_LOOP)(_run)

    async def arun(self, home: Home, flow: Flow[T]) -> T:
        """*flow*, awaited."""
        try:
            if not self.ready and self.home.astore is not None:
                await self.home.astore.initialize()
                self.ready = True
            return await arun(flow, home.astore)
        except StoreError as error:
            _remember(error)
            raise

    # -- opening -----------------------------------------------------------------------------------------------

    def must_wait(self, session: Session) -> bool:
        """Whether there is anything to ask the store."""
        return bool(self._claims(session))

    def receive(self, session: Any, session_key: object) -> None:
        """Django's middleware has made *session*: of the cookie it took *session_key* from, hold what our reader reads.

        Django strips all white space that Unicode knows off a name and takes the last cookie of several, so a sibling
        host could write the name as no browser takes it for a ``__Host-`` one. A key from elsewhere is the app's.
        """
        header = self._cookies(session._source)
        values = self._read(header)
        if values == ([] if session_key is None else [session_key]):  # as every browser sends it
            return
        if session_key in _as_django_reads(header, self.cookie_name):
            session._key = split(values[-1]) if values else None
        else:
            session._adopted = True

    def _claims(self, session: Any) -> list[str]:
        if session._source is not None and not session._adopted:
            return self._read(self._cookies(session._source))
        key: Token | None = session._key
        return [] if key is None else [key.text]

    def fill(self, session: Any, values: list[str] | None = None) -> None:
        """Open what the session's key names. Raises ``StoreError`` when the store fails."""
        if values is not None:
            super().fill(session, values)
            return
        state, claims, opened = self._opening(session)
        if type(opened) is not Opened:
            opened = self.run(session._home, opened)
        self._opened(session, state, claims, opened)
        if self._asks and session._is_refused():
            session._end()

    def opening(self, session: Any) -> Awaitable[None] | None:
        """``afill(session)``, where it must be awaited."""
        return self.afill(session) if self.must_wait(session) else None

    async def afill(self, session: Any, values: list[str] | None = None) -> None:
        """``fill``, awaited."""
        if values is not None:
            await super().afill(session, values)
            return
        state, claims, opened = self._opening(session)
        if type(opened) is not Opened:
            opened = await self.arun(session._home, opened)
        if session._state is None:  # another task may have been faster
            self._opened(session, state, claims, opened)
            if self._asks and session._is_refused():
                await session._aend()

    def _opening(self, session: Any) -> tuple[State, list[str], Any]:
        """Besides what is claimed: what opened, or the flow that tells."""
        state, claims = self._begin(self.now()), self._claims(session)
        opened = session._home.manager.open(claims, state.now)
        if claims and self._asks:
            opened = self._admission.judge(session, state, opened)
        return state, claims, opened

    def _opened(self, session: Any, state: State, values: list[str], opened: Opened) -> None:
        state = self._take(session, state, opened)
        if len(values) > 1:
            tokens = {token.id: token for token in map(split, values) if token is not None}
            session._key = tokens.get(state.opened_id or "")
        if state.events:
            self.events.tell(state)
        session._was_opened()

    def _look_closer(self, session: Session, state: State, data: dict[str, Any]) -> dict[str, Any]:
        until = expiry_date(data[EXPIRY]) if EXPIRY in data else None
        if until is not None and until <= state.now:
            state.rebase(None)
            state.opened_id = None
            state.note("refused", state.now, "expired")
            data = {}
        return super()._look_closer(session, state, data) if self._told_or_asked else data

    def look(self, token: Token) -> Flow[Opened]:
        """What *token* opens, without a session."""
        plan = self.home.manager.open([token.text], self.now())
        return (yield from plan) if not isinstance(plan, Opened) else plan

    def adopt(self, session: Any, token: str) -> None:
        """``start(token)``: open *token* instead of the client's cookie, to be rotated by ``save()``."""
        self._check_token(session, token)
        session._key, session._adopted = split(token), True
        self.fill(session)
        self._rotate_adopted(session)

    # -- committing --------------------------------------------------------------------------------------------

    def committing(self, session: Session, state: State, *, asked: bool) -> Verdict | Flow[Verdict]:
        """What ``save()`` does; *asked*: the session counts as modified, so that it must at least be there."""
        plan: Any = self._plan(session, state)
        unchanged = not state.encoded and not state.wishes() and state.end_others is None
        if asked and unchanged and state.base is not None and not state.unsent and not state.stale:
            return self._renew(state)
        return plan  # type: ignore[no-any-return]

    def _renew(self, state: State) -> Flow[Verdict]:
        """Nothing to write but that the session is in use; a session that is gone takes nothing."""
        now, base = self.now(), state.base
        assert base is not None  # noqa: S101 - see the one caller
        if (yield Touch(base.id, now, slide(base, now, self.limits))) is not True:
            state.drop(now, "gone")
        return LEAVE


def _as_django_reads(header: str, name: str) -> list[str | None]:
    """What Django finds under *name* in a Cookie header, served over ASGI and over WSGI."""
    decoded = header.encode("latin-1", "replace").decode(errors="replace")
    return [parse_cookie(text).get(name) for text in (header, decoded)]


def response_of(status: int, headers: Any, body: bytes) -> HttpResponse:
    """A Django response of a framework-free answer."""
    response = HttpResponse(body, status=status)
    for name, value in headers:
        response[name.title()] = value
    return response


def _remember(error: StoreError) -> None:
    """For ``StoreErrorMiddleware``, which sees what became of it."""
    here = seat.get()
    if here is not None:
        here.failure = error


def expiry_date(value: Any) -> float | None:
    """The date ``set_expiry`` was given, as Unix seconds; ``None`` for a number of seconds or nothing."""
    try:
        return datetime.fromisoformat(value).timestamp() if isinstance(value, str) else None
    except ValueError:
        return None


_current: DjangoLayer | None = None


def current_layer() -> DjangoLayer:
    """The layer of the settings as they are now. Raises ``ConfigurationError`` for settings that cannot be."""
    global _current
    layer = _current
    if layer is None:
        layer = _current = DjangoLayer(*configuration())
    return layer


def _changed(*, setting: str, **_: Any) -> None:
    global _current
    if setting in READ:
        _current = None


setting_changed.connect(_changed)


def session_config() -> SessionConfig:
    """The configuration ``settings`` spell now, its store built: ``SessionService(session_config())`` acts on the
    same sessions. Raises ``ConfigurationError`` for settings that cannot be."""
    return current_layer().config
