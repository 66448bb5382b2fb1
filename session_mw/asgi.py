"""ASGI: ``SessionMiddleware`` for http and websocket (asgi.readthedocs.io, spec 3.0).

The session commits when the app sends its response start, before any header leaves; what a stored session gets
written afterwards is committed when the app returns. A store that fails is answered with 503 and no cookie.

``send`` is wrapped by a plain function: the commit happens when ``send(...)`` is called, not when it is awaited.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from typing import Any, Unpack
from urllib.parse import quote, unquote_to_bytes

from .config import SessionConfig
from .core.session import Session, bind_session, release_session
from .core.state import State
from .errors import StoreError
from .exchange import AccessRefused, unavailable
from .headers import ASGI_HEADERS
from .layer import SessionLayer, check_single
from .managers import LEAVE, Manager, Verdict
from .settings import Settings
from .shield import shielded

__all__ = ["ScopeReader", "SessionMiddleware"]

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

logger = logging.getLogger("session_mw")
_ENCODED = "/?:@!$&'()*+,;=%[]~"  # what may stand in a path or a query as it is (RFC 3986 §3.3, §3.4)


class ScopeReader:
    """Reads an ASGI scope."""

    def cookies(self, scope: Scope) -> str:
        """Every Cookie header, joined (HTTP/2 may split it: RFC 9113 §8.2.3)."""
        found: bytes = b""
        for name, value in scope["headers"]:
            if name == b"cookie":
                found = found + b"; " + value if found else value
        return found.decode("latin-1")

    def header(self, scope: Scope, name: str) -> str | None:
        """One header by lower-case name; several joined."""
        raw = name.encode("latin-1")
        found = [value for key, value in scope["headers"] if key == raw]
        return b", ".join(found).decode("latin-1") if found else None

    def peer(self, scope: Scope) -> str | None:
        """The peer's address. On a unix socket servers give their path for their own (uvicorn), or none (hypercorn);
        one that has an address has lost its client's."""
        client = scope.get("client")
        if client is None:
            server = scope.get("server")
            return "" if server is None else "unix" if server[1] is None else None
        return str(client[0])

    def scheme(self, scope: Scope) -> str:
        """The scheme, as the server gives it."""
        scheme: str = scope.get("scheme", "http")
        return scheme

    def method(self, scope: Scope) -> str:
        """The method; a websocket has none."""
        return str(scope["method"]) if scope["type"] == "http" else ""

    def target(self, scope: Scope) -> str:
        """Path and query. Servers differ in whether ``path`` holds ``root_path``."""
        path: str = scope["path"]
        root = scope.get("root_path", "").rstrip("/")
        raw = scope.get("raw_path") or b""
        if unquote_to_bytes(raw) == path.encode("utf-8", "surrogateescape"):
            target = quote(raw, safe=_ENCODED)  # as it was sent: an encoded slash is not a slash
        else:
            target = quote(path, errors="surrogateescape")
        if root and not f"{path}/".startswith(f"{root}/"):
            target = quote(root, errors="surrogateescape") + target
        query = quote(scope.get("query_string", b""), safe=_ENCODED)
        return f"{target}?{query}" if query else target


class SessionMiddleware:
    """Put a ``Session`` into ``scope["session"]`` of every http and websocket request.

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
        self.layer = self._layer(manager)
        self._autoload = self.config.autoload
        self._may_wait = self.layer.may_wait
        self._begin = self.layer.session_class._dormant

    def _layer(self, manager: Manager | None) -> SessionLayer:
        return SessionLayer(self.config, manager, ScopeReader(), on_loop=True)

    def _check_outer(self, outer: object, session: Session) -> None:
        check_single(outer, session)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self._other(scope, receive, send)
        layer = self.layer
        session: Session = self._begin(layer, scope)  # as layer.session() does, without a call in between
        if "session" in scope:
            self._check_outer(scope["session"], session)
        scope["session"] = session
        response = _Response(layer, session, send)
        bound = bind_session(session)
        failed = True
        try:
            if self._may_wait or not layer.ready:
                await self._prepare(scope, session)
            await self.app(scope, receive, response.send)
            failed = False
        except StoreError as error:
            if response.stage == _STARTED:
                raise
            await response.refuse(error, scope)
        except AccessRefused as refused:
            if response.stage == _STARTED:
                raise
            for message in refused.answer.messages(scope):
                await response.send(message)
            failed = False
        finally:
            release_session(bound)
            try:
                if scope["session"] is not session:
                    layer.notice_replaced(scope["session"])
            except KeyError:  # taken out
                layer.notice_replaced(None)
            state = session._state
            if state is not None and (failed or not layer.finished(session, state)):
                await layer.finish(session, failed=failed or response.stage != _STARTED)
            session._source = None  # no cycle between scope and session
            if failed and state is None:
                layer.leave(session, {name: scope.get(name) for name in ("headers", "client", "server")})

    async def _other(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await self._websocket(scope, receive, send)
        elif scope["type"] == "lifespan":
            await self._lifespan(scope, receive, send)
        else:
            await self.app(scope, receive, send)

    async def _websocket(self, scope: Scope, receive: Receive, send: Send) -> None:
        from .websocket import serve  # anyio is loaded only where it is used

        session = self.layer.session(scope)
        if "session" in scope:
            self._check_outer(scope["session"], session)
        scope["session"] = session
        try:
            if self._may_wait or not self.layer.ready:
                await self._prepare(scope, session)
            await serve(self.app, self.layer, session, scope, receive, send)
        finally:
            session._source = None  # no cycle between scope and session

    async def _prepare(self, scope: Scope, session: Session) -> None:
        """Open the store, once; read a session that must be awaited, where the request has one."""
        layer = self.layer
        autoload = self._autoload
        if callable(autoload):
            autoload = autoload(scope)
        try:
            if not layer.ready:
                await layer.aopen_store()
            if autoload and (opening := layer.opening(session)) is not None:
                await opening
        except StoreError as error:
            session._prepare().failure = error  # raised at first touch: an app that ignores the session works

    async def _lifespan(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Open the store before the app starts up, close it after it has shut down. Raises ``StoreError``."""

        async def receiving() -> Message:
            message = await receive()
            if message["type"] == "lifespan.startup":
                try:
                    await self.layer.aopen_store()
                except StoreError as error:  # said to the server: it takes an exception for "no lifespan here"
                    await send({"type": "lifespan.startup.failed", "message": f"the session store: {error}"})
                    raise
            return message

        async def sending(message: Message) -> None:
            if message["type"].startswith("lifespan.shutdown."):
                await self.layer.aclose_store()
            await send(message)

        await self.app(scope, receiving, sending)


_WAITING, _FAILED, _STARTED = range(3)
"""Stages of a response: not begun; not begun, and what was changed could not be kept; begun."""


class _Response:
    """The response of one request: it starts once the session, if anybody touched it, is committed."""

    __slots__ = ("_layer", "_send", "_session", "stage")

    def __init__(self, layer: SessionLayer, session: Session, send: Send) -> None:
        self._layer = layer
        self._session = session
        self._send = send
        self.stage = _WAITING

    def send(self, message: Message) -> Awaitable[None]:
        """What the app calls. Commits before the start; raises, once, what cannot be kept."""
        stage = self.stage
        if stage == _STARTED or message["type"] != "http.response.start":
            return self._send(message)
        session, layer = self._session, self._layer
        state = session._state
        if state is None:  # the cheap question first
            session._started = True
        elif state.accessed or layer.concerns(session, state):
            try:
                verdict = layer.commit(session) if stage == _WAITING else self._commit_again()
                if not isinstance(verdict, Verdict):
                    return self._wait_and_start(message, verdict, state)
                message = self._answer(message, verdict, state)
            except StoreError as error:
                return self.refuse(error, session._source)
            except Exception:
                self.stage = _FAILED
                raise
        self.stage = _STARTED
        return self._send(message)

    def _commit_again(self) -> Verdict | Awaitable[Verdict]:
        """The error page that an app sends for what we raised goes out without the session's changes."""
        try:
            verdict = self._layer.commit(self._session)
        except StoreError:
            raise
        except Exception:
            return self._layer.give_up(self._session)
        return verdict if isinstance(verdict, Verdict) else self._wait_again(verdict)

    async def _wait_again(self, waited: Awaitable[Verdict]) -> Verdict:
        try:
            return await waited
        except StoreError:
            raise
        except Exception:
            verdict = self._layer.give_up(self._session)
            return verdict if isinstance(verdict, Verdict) else await verdict

    async def _wait_and_start(self, message: Message, waited: Awaitable[Verdict], state: State) -> None:
        try:
            verdict = await shielded(waited)
            message = self._answer(message, verdict, self._session._state or state)  # it may have another by now
        except StoreError as error:
            await self.refuse(error, self._session._source)
        except Exception:
            self.stage = _FAILED
            raise
        else:
            self.stage = _STARTED
            await self._send(message)

    def _answer(self, message: Message, verdict: Verdict, state: State) -> Message:
        cookies: Sequence[str] = ()
        if verdict is not LEAVE:
            cookies = self._layer.set_cookies(self._session._source, verdict, state.header)
        state.start_response()
        return {**message, "headers": ASGI_HEADERS.applied(message.get("headers", ()), cookies)}

    async def refuse(self, error: StoreError, scope: Scope) -> None:
        """Answer a store that failed, in the app's place: never as somebody else, never with a cookie."""
        send, self._send, self.stage = self._send, _unheard, _STARTED
        logger.error("session_mw: the session store failed: %s", error, exc_info=error)
        for message in unavailable(self._layer.config, scope).messages(scope):
            await send(message)


async def _unheard(message: Message) -> None:
    """What the app still sends after our own answer."""
