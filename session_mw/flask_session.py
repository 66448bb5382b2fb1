"""``flask.session``: our Session as Flask wants it, and the layer that knows the moments of a Flask request.

* ``open_session``: a dormant session; nothing is read until somebody looks
* ``save_session``: the response starts; commit, then cookies, ``Vary`` and ``Cache-Control`` on Flask's response
* an exception nobody handled: what was changed is dropped, endings aside. Flask makes another response, and saves
  again; the first one's cookies go with it
* the request context is torn down, or a stream closed: late writes, then the session is over
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn, cast

import flask
import msgspec
from flask.sessions import SessionMixin

from .config import SessionConfig
from .core.session import Session as CoreSession
from .core.session import SessionStatus, watch_current
from .core.state import OPEN, OVER, STARTED, State
from .errors import StoreError
from .exchange import Answer, unavailable
from .flask_settings import Given, permanent_limit
from .headers import WSGI_HEADERS
from .layer import SessionLayer
from .managers import LEAVE, Manager, Opened, Verdict
from .wsgi import EnvironReader

if TYPE_CHECKING:
    from flask import Response

__all__ = ["FlaskLayer", "NullSession", "Session", "null_layer", "request_ended", "request_raised"]

logger = logging.getLogger("session_mw")
_PRESERVE = "werkzeug.debug.preserve_context"  # in the environ: a test client or debugger looks at the request later

_UNAVAILABLE = """The session is unavailable because no secret key was set. Set one, or keep sessions on the server:
    app.config["SECRET_KEY"] = os.environ["SECRET_KEY"]               # 32 random bytes or more
    app.config["SESSION_MW"] = {"store": "sqlite:///sessions.db"}     # needs no key"""


class Session(CoreSession, SessionMixin):  # pyright: ignore[reportIncompatibleMethodOverride]
    """``flask.session``: our Session, and Flask's ``permanent``, ``new``, ``modified`` and ``accessed``."""

    _layer: FlaskLayer
    _context: int = 0  # of which request context it is the session, by identity: copies share it
    _outer: CoreSession | None = None  # of a middleware around the app
    _handed = False  # Flask gave it to somebody
    _said_new: bool | None = None
    _forced = False  # somebody said that it is modified
    _wrote = False  # a commit of this request changed it
    _streams = False  # the response's body is still to be made, perhaps within the request context
    _over = False  # the request has ended
    _failed = False  # a commit has been refused
    _limited = False  # its own limit comes from ``permanent``
    _unanswered: StoreError | None = None
    _verdict: Verdict | None = None  # the last one that changed the cookie
    _sent: tuple[str, ...] = ()  # the Set-Cookie values of the response made last

    @property
    def permanent(self) -> bool:
        """Whether the cookie outlives the browser, and ``PERMANENT_SESSION_LIFETIME`` is the idle limit.

        Assignable; where it changes, a session that exists gets a new id, as by ``expire_after()``. A session that
        holds nothing else is not created by it.
        """
        return self._touch().is_persistent()

    @permanent.setter
    def permanent(self, value: bool) -> None:
        self._refuse_null()
        if self._touch().is_persistent() == bool(value):
            return
        state = self._changing("session.permanent")
        self._writable()
        if state.base is not None and not state.wish.rotating:
            self.regenerate()
        wish, self._limited = state.wishing(), True
        wish.persistent = bool(value)
        wish.lifetime = self._layer.permanent_limit if value else None

    @property
    def new(self) -> bool:
        """Whether this request came without a session that opened. Assignable, for whoever wants to say otherwise."""
        return self.is_new if self._said_new is None else self._said_new

    @new.setter
    def new(self, value: bool) -> None:
        self._said_new = bool(value)

    @property
    def modified(self) -> bool:
        """Whether this request changed the session; nested changes count. Always computed.

        Assigning ``True`` slides the idle deadline with this response, and never rewrites what did not change;
        assigning ``False`` takes that back.
        """
        return self._wrote or self._forced or CoreSession.modified.fget(self)  # type: ignore[attr-defined]

    @modified.setter
    def modified(self, value: bool) -> None:
        self._touch()
        self._forced = bool(value)

    @property
    def accessed(self) -> bool:
        """Whether anybody looked at the session, or Flask handed it out: such a response varies by cookie."""
        state = self._state
        return self._handed or (state is not None and state.accessed)

    @accessed.setter
    def accessed(self, value: bool) -> None:
        self._handed = bool(value)

    def _refuse_null(self) -> None:
        """Raises where there is nowhere to keep a session."""

    def _publish(self, state: State, data: Mapping[str, Any]) -> State:
        published = super()._publish(state, data)
        if self._over:
            published.phase = OVER
        return published


class NullSession(Session):
    """What ``flask.session`` is without a key and a store: empty to readers; who writes is told what to set."""

    def _refuse_null(self) -> NoReturn:
        raise RuntimeError(_UNAVAILABLE)

    def _writable(self) -> NoReturn:
        self._refuse_null()

    def _changing(self, what: str) -> NoReturn:
        self._refuse_null()

    def _refuse_adoption(self) -> NoReturn:
        self._refuse_null()

    def commit(self) -> NoReturn:
        """Refused, as every write is."""
        self._refuse_null()

    async def acommit(self) -> NoReturn:
        """Refused, as every write is."""
        self._refuse_null()

    def is_status(self, status: SessionStatus = SessionStatus.ACTIVE) -> bool:
        """Whether *status* is ``DISABLED``."""
        return status is SessionStatus.DISABLED


class FlaskLayer(SessionLayer):
    """The layer of one app under one set of settings."""

    session_class: ClassVar[type[Session]] = Session

    def __init__(self, config: SessionConfig, manager: Manager | None, given: Given) -> None:
        super().__init__(config, manager, EnvironReader(), on_loop=False)
        self.permanent_limit = permanent_limit(given, config)
        self._refresh = given.refresh

    def session(self, source: Any) -> Session:
        """A session for one request; nothing is read yet."""
        session: Session = self.session_class._dormant(self, source)
        context = _context()
        if context is not None:
            session._context = id(context)
        return session

    def refused(self, answer: Answer) -> Response:
        """The response of a guard that refuses."""
        status, headers, body = answer
        return flask.current_app.response_class(body, status, list(headers))

    def _prepare(self, session: Session, state: State) -> None:
        """Before a commit: Flask's wishes about the idle deadline."""
        base = state.base
        if base is None:
            if session._limited and not (state.queue or state.wish.logins or state.wish.attempts or _holds(session)):
                state.wishing().lifetime = None  # being permanent alone is nothing to keep
        elif session._forced:  # as if it had last been used long ago
            state.base = msgspec.structs.replace(base, last_activity=0, expires_at=base.expires_at - 1)
            state.due = True
        elif not self._refresh and state.is_persistent() and not session.modified:
            state.base = msgspec.structs.replace(base, last_activity=self.now())

    # -- the moments of a request -------------------------------------------------------------------------------

    def save(self, session: Session, response: Response) -> None:
        """The response starts: commit, and add to *response* what that means. Raises what ``commit`` raises."""
        source = session._source
        if source is None or session._over:
            return
        try:
            if session._unanswered is not None:
                raise session._unanswered
            self._commit(session)
        except StoreError as error:
            self._give_up(session)
            self._answer(error, source, response)
            return
        if session.accessed:
            verdict = session._verdict
            cookies = () if verdict is None else tuple(self.set_cookies(source, verdict))
            headers: Any = response.headers
            if session._sent:
                headers[:] = [item for item in headers if item[1] not in session._sent or item[0] != "Set-Cookie"]
            headers[:] = WSGI_HEADERS.applied(headers, cookies)
            session._sent = cookies
        session._streams = response.is_streamed and not response.direct_passthrough  # that one is not told of its end
        if session._streams:
            response.call_on_close(lambda: self._streamed(session))

    def _commit(self, session: Session) -> None:
        state = session._state
        if state is None:
            session._started = True
            return
        if state.phase == STARTED:  # saved before: the response of that time is not the one that is sent
            state.phase = OPEN
        before = state.base
        self._prepare(session, state)
        try:
            verdict = cast("Verdict", self.commit(session))  # nothing is awaited
        except StoreError:
            raise
        except Exception:
            if not session._failed:
                session._failed = True
                raise
            verdict = cast("Verdict", self.give_up(session))  # Flask's page for what was raised goes out without it
        if verdict is not LEAVE:
            session._verdict = verdict
        if state.base is not before and _payload(state.base) != _payload(before):
            session._wrote = True
        session._forced = False
        state.start_response()
        if state.events:
            self.events.tell(state)

    def _give_up(self, session: Session) -> None:
        """The store failed: carry out what endings it lets us; nothing more is written."""
        try:
            self.fail(session)
        except StoreError:
            logger.exception("session_mw: what a failed request had ended could not be carried out")
        finally:
            self.close(session, failed=True)

    def _answer(self, error: StoreError, source: Any, response: Response) -> None:
        """Make *response* the answer while the store fails: never as somebody else, never with a cookie."""
        logger.error("session_mw: the session store failed: %s", error, exc_info=error)
        status, headers, body = unavailable(self.config, source)
        close = getattr(response.response, "close", None)
        if close is not None:
            close()
        response.direct_passthrough = False
        response.headers.clear()
        response.headers.extend(list(headers))
        response.status_code = status
        response.set_data(body)

    def raised(self, session: Session, error: BaseException) -> None:
        """Nobody handled *error*: Flask begins another response, or lets it through.

        What was changed before is dropped, endings aside. What the app's own page of the error writes then is kept.
        """
        state = session._state
        session._started = False
        if isinstance(error, StoreError):
            session._unanswered = error
        if state is None:
            return
        if state.phase == STARTED:  # the response that was committed is thrown away, not what it stood for
            state.phase, state.queue = OPEN, ()
        elif state.phase == OPEN:
            session._handed = session.accessed  # the next response varies as well
            session._forced = session._limited = False
            if not session._keep_endings():
                session._sleep()

    def end(self, session: Session, *, failed: bool) -> None:
        """The request context is torn down. Raises nothing: the response has been made."""
        state, source = session._state, session._source
        try:
            if state is not None and state.phase == OPEN:
                self.fail(session)  # there was no response
            else:
                self.late(session, failed=failed)
        except Exception:
            logger.exception("session_mw: what a request changed after its response could not be written")
        if session._streams:
            return  # once before the stream, and once after it
        self.close(session, failed=failed)
        session._over = True
        if source is not None and _PRESERVE in source:
            session._source = source  # to be looked at by the test that asked

    def _streamed(self, session: Session) -> None:
        """The server has closed the stream."""
        session._streams = False
        self.end(session, failed=False)


class _Nowhere:
    """The manager of a null session."""

    store = consults = None

    def configure(self, config: SessionConfig) -> None:
        pass

    def open(self, values: list[str], now: int) -> Opened:
        return Opened()


class _NullLayer(FlaskLayer):
    session_class = NullSession


def null_layer(given: Given) -> FlaskLayer:
    """The layer of null sessions."""
    return _NullLayer(SessionConfig(), cast("Manager", _Nowhere()), given)


def _holds(session: Session) -> bool:
    return any(session._live().values())


def _payload(record: Any) -> bytes | None:
    return None if record is None else record.payload


# -- Flask's request context -------------------------------------------------------------------------------------------

# Flask 3.1 has a context of the request's own, 3.2 one for app and request; vars(), because 3.2 warns of the old name.
_contexts: Any = vars(flask.globals).get("request_ctx", flask.globals.app_ctx)


def _context() -> Any:
    """The active request context, if there is one."""
    return _contexts._get_current_object() if flask.has_request_context() else None


def _session_of(context: Any) -> Session | None:
    """The session of *context*, if it is ours; looking at it here is no access of the app's."""
    held = {} if context is None else vars(context)
    found = held.get("_session", held.get("session"))  # renamed in Flask 3.1.3
    return found if isinstance(found, Session) else None


def request_raised(sender: Any, exception: BaseException, **_: Any) -> None:
    """Receives ``flask.got_request_exception``."""
    session = _session_of(_context())
    if session is not None:
        session._layer.raised(session, exception)


def request_ended(sender: Any, exc: BaseException | None = None, **_: Any) -> None:
    """Receives ``flask.request_tearing_down``."""
    context = _context()
    session = _session_of(context)
    if session is not None and session._context == id(context):  # else a copy of the context ends, and not the request
        session._layer.end(session, failed=exc is not None)


def _current(bound: CoreSession | None) -> CoreSession | None:
    """``current_session()`` is the request context's, unless a middleware inside of it has bound another."""
    session = _session_of(_context())
    return session if session is not None and (bound is None or bound is session._outer) else bound


watch_current(_current)
