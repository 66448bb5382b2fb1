"""WSGI: ``SessionMiddleware`` (PEP 3333).

The session is in ``environ["session_mw.session"]`` and loads on first access. It commits when the response starts:
at the first non-empty body chunk, at ``write()``, or when the body is exhausted; until then the app's
``start_response`` call is kept back. What a stored session gets written afterwards is committed on ``close()``.
"""

from __future__ import annotations

import http
import logging
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Unpack
from urllib.parse import quote

from .config import SessionConfig
from .core.session import Session, bind_session, release_session
from .errors import StoreError
from .exchange import AccessRefused, Answer, unavailable
from .headers import WSGI_HEADERS
from .layer import SessionLayer, check_single
from .managers import LEAVE, Manager
from .settings import Settings

__all__ = ["ENVIRON_KEY", "EnvironReader", "SessionMiddleware"]

ENVIRON_KEY = "session_mw.session"

Environ = dict[str, Any]
Write = Callable[[bytes], object]
StartResponse = Callable[..., Write]
App = Callable[[Environ, StartResponse], Iterable[bytes]]

logger = logging.getLogger("session_mw")
_PHRASES = {int(status): status.phrase for status in http.HTTPStatus}


_KEYS = {
    name: "HTTP_" + name.upper().replace("-", "_")
    for name in ("forwarded", "host", "user-agent", "x-forwarded-for", "x-forwarded-proto")
}


class EnvironReader:
    """Reads a WSGI environ."""

    def cookies(self, environ: Environ) -> str:
        """The Cookie header; servers join several."""
        header: str = environ.get("HTTP_COOKIE", "")
        return header

    def header(self, environ: Environ, name: str) -> str | None:
        """One header by lower-case name."""
        value: str | None = environ.get(_KEYS.get(name) or "HTTP_" + name.upper().replace("-", "_"))
        return value

    def peer(self, environ: Environ) -> str | None:
        """The peer's address; a server that listens on a unix socket gives an empty one."""
        address: str | None = environ.get("REMOTE_ADDR")
        return "unix" if address == "" else address

    def scheme(self, environ: Environ) -> str:
        """The scheme, as the server gives it."""
        scheme: str = environ.get("wsgi.url_scheme", "http")
        return scheme

    def method(self, environ: Environ) -> str:
        """The method."""
        return str(environ["REQUEST_METHOD"])

    def target(self, environ: Environ) -> str:
        """Path and query; the path comes decoded, so an encoded slash has become one (PEP 3333)."""
        path = quote(f"{environ.get('SCRIPT_NAME', '')}{environ.get('PATH_INFO', '')}", encoding="latin-1")
        query = environ.get("QUERY_STRING", "")
        return f"{path}?{query}" if query else path


class SessionMiddleware:
    """Put a ``Session`` into ``environ["session_mw.session"]`` of every request.

    ``SessionMiddleware(app, secret_key=…)`` seals it into the cookie, ``SessionMiddleware(app, store=…)`` keeps it in
    a store; *settings* are the fields of ``SessionConfig``. Raises ``ConfigurationError`` for settings that cannot be.
    """

    def __init__(
        self,
        app: App,
        config: SessionConfig | None = None,
        *,
        manager: Manager | None = None,
        **settings: Unpack[Settings],
    ) -> None:
        self.app = app
        self.config = SessionConfig.build(config, **settings)
        self.layer = SessionLayer(self.config, manager, EnvironReader(), on_loop=False)
        self._begin = self.layer.session_class._dormant

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        layer = self.layer
        session: Session = self._begin(layer, environ)  # as layer.session() does, without a call in between
        if ENVIRON_KEY in environ:
            check_single(environ[ENVIRON_KEY], session)
        environ[ENVIRON_KEY] = session
        response = _Response(layer, session, start_response)
        bound = bind_session(session)
        try:
            if not layer.ready:
                self._open(session, environ)
            body = self.app(environ, response.start_response)
        except StoreError as error:
            response.fail()
            if response.started:
                raise
            return response.refuse(error, environ)
        except AccessRefused as refused:
            if response.started:
                response.fail()
                raise
            body = response.deny(refused.answer, environ)
        except BaseException:
            response.fail()
            raise
        finally:
            release_session(bound)
        if type(body) is not list or response.given is None:
            return _Body(response, body)
        if session._state is None and not response.started:  # the app is done and never looked at it
            session._source = None  # no cycle between environ and session
            start_response(*response.given)
            return body
        return response.whole(body)

    def _open(self, session: Session, environ: Environ) -> None:
        """Open the store, once; a failure is raised at first touch: an app that ignores the session works."""
        try:
            self.layer.open_store(environ.get("wsgi.multiprocess"))
        except StoreError as error:
            session._prepare().failure = error


class _Response:
    """One response: the app's ``start_response`` call is kept until the session is committed."""

    __slots__ = ("_failed", "_layer", "_session", "_start_response", "_write", "given", "started")

    def __init__(self, layer: SessionLayer, session: Session, start_response: StartResponse) -> None:
        self._layer = layer
        self._session = session
        self._start_response = start_response
        self.given: tuple[Any, ...] | None = None
        self.started = False
        self._failed = False  # a commit has been refused

    def start_response(self, status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Write:
        """What the app calls. A second call needs *exc_info* (PEP 3333)."""
        if self.started and exc_info is not None:
            return self._start_response(status, headers, exc_info)  # raises it, for the headers are out
        if self.given is not None and exc_info is None:
            raise AssertionError("start_response() was called twice without exc_info")
        self.given = (status, headers) if exc_info is None else (status, headers, exc_info)
        return self.write

    def write(self, data: bytes) -> None:
        """The legacy way to send a body."""
        if not self.started:
            self.begin()
        self._write(data)

    def begin(self) -> None:
        """Commit, and let the response start. Raises ``StoreError`` before it has, and, once, what cannot be kept."""
        given, session = self.given, self._session
        if given is None:
            raise AssertionError("the app sent a body before it called start_response()")
        status, headers = given[:2]  # [2:]: exc_info, if the app gave one
        state = session._state
        if state is None:
            session._started = True
        else:
            layer = self._layer
            try:
                verdict: Any = layer.commit(session)  # nothing is awaited under WSGI
            except StoreError:
                raise
            except Exception:
                if not self._failed:
                    self._failed = True
                    raise
                verdict = layer.give_up(session)  # the error page for what write() raised goes out without it
            cookies = () if verdict is LEAVE else layer.set_cookies(session._source, verdict, state.header)
            headers = WSGI_HEADERS.applied(headers, cookies)
            state.start_response()
        self.started = True
        self._write = self._start_response(status, headers, *given[2:])

    def whole(self, body: list[bytes]) -> Iterable[bytes]:
        """The app is done and *body* complete: commit, start, close."""
        session = self._session
        try:
            if self.started:  # by write()
                self._layer.late(session)
            else:
                self.begin()
        except StoreError as error:
            if self.started:
                raise
            return self.refuse(error, session._source)
        except BaseException:
            self.fail()
            raise
        finally:
            self._layer.close(session, failed=not self.started)
        return body

    def refuse(self, error: StoreError, environ: Environ) -> list[bytes]:
        """Answer a store that failed: never as somebody else, never with a cookie."""
        logger.error("session_mw: the session store failed: %s", error, exc_info=error)
        self.started = True
        body = self.deny(unavailable(self._layer.config, environ), environ)
        self._start_response(*(self.given or ()))
        return body

    def deny(self, answer: Answer, environ: Environ) -> list[bytes]:
        """*answer* in place of the app's: it starts when the response does. Its body."""
        phrase = _PHRASES.get(answer.status, "Service Unavailable" if answer.status >= 500 else "Refused")
        self.given = (f"{answer.status} {phrase}", list(answer.headers))
        return [b"" if environ["REQUEST_METHOD"] == "HEAD" else answer.body]

    def fail(self) -> None:
        """The app raised, or nobody waits for its response: endings it asked for are carried out. Raises nothing: the
        app's error is to be seen."""
        session, layer = self._session, self._layer
        try:
            if self.started:
                layer.late(session, failed=True)
            else:
                layer.fail(session)
        except StoreError:
            logger.exception("session_mw: what a failed request had ended or changed could not be carried out")
        finally:
            layer.close(session, failed=True)

    def finish(self) -> None:
        """Write what was changed after the response started; then the session is over."""
        self._layer.late(self._session)
        self._layer.close(self._session)


class _Body:
    """The app's iterable, with ``current_session()`` set around each step."""

    __slots__ = ("_body", "_chunks", "_failed", "_response", "_session")

    def __init__(self, response: _Response, body: Iterable[bytes]) -> None:
        self._response = response
        self._session = response._session
        self._body = body
        self._chunks: Iterator[bytes] | None = None
        self._failed = False

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        response = self._response
        bound = bind_session(self._session)
        try:
            chunk = self._next()
            if not response.started:
                response.begin()
        except StoreError as error:
            self._failed = True
            if response.started:
                raise
            environ = self._session._source
            response.fail()
            self._chunks = iter(())
            (chunk,) = response.refuse(error, environ)
        except BaseException:
            self._failed = True
            raise
        finally:
            release_session(bound)
        if chunk is None:
            raise StopIteration
        return chunk

    def _next(self) -> bytes | None:
        """The next chunk that is not empty; of a guard's answer, where it refuses the app before its body began."""
        try:
            if self._chunks is None:
                self._chunks = filter(None, self._body)
            return next(self._chunks, None)
        except AccessRefused as refused:
            if self._response.started:
                raise
            self._chunks = filter(None, self._response.deny(refused.answer, self._session._source))
            return next(self._chunks, None)

    def close(self) -> None:
        """Called by the server when the response is done, or the client gone."""
        bound = bind_session(self._session)
        try:
            close = getattr(self._body, "close", None)
            if close is not None:
                close()
        finally:
            try:
                if self._failed or not self._response.started:  # the client has gone before it did
                    self._response.fail()
                else:
                    self._response.finish()
            finally:
                release_session(bound)
