"""WebSockets under ASGI: a session for the length of a connection.

The accept, or the denial, is the response start and carries the cookie. While the socket is open the session is looked
at every ``websocket_check`` seconds: received frames count as activity, and a socket whose session ended, or is vetoed
by now, is closed with 1008 (policy violation, RFC 6455 §7.4.1), so that a logout reaches it. What the app wrote is
committed when it returns.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import anyio

from .core.record import Record
from .core.session import Session, bind_session, release_session
from .errors import StoreError
from .exchange import AccessRefused, Answer, unavailable
from .headers import ASGI_HEADERS
from .layer import SessionLayer
from .managers import Verdict
from .shield import shielded

if TYPE_CHECKING:
    from .asgi import App, Message, Receive, Scope, Send

__all__ = ["SESSION_ENDED", "serve"]

SESSION_ENDED = 1008
_REASON = "session ended"
_STARTS = ("websocket.accept", "websocket.http.response.start")

logger = logging.getLogger("session_mw")


async def serve(app: App, layer: SessionLayer, session: Session, scope: Scope, receive: Receive, send: Send) -> None:
    """Run *app* for one connection. Raises what the app raises."""
    socket = _Socket(layer, session, scope, receive, send)
    failure: list[BaseException] = []
    failed = True  # until the app has returned; a server that shuts down cancels it

    async def run_app() -> None:
        nonlocal failed
        try:
            await app(scope, socket.receive, socket.send)
            failed = False
        except Exception as error:  # handed on as it is, not as a group
            failure.append(error)
        tasks.cancel_scope.cancel()

    bound = bind_session(session)
    try:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(run_app)
            tasks.start_soon(socket.watch)
        if failure and isinstance(failure[0], AccessRefused):
            await socket.deny(failure[0].answer)
            failed = False
        elif failure:
            await socket.refuse(failure[0])
    finally:
        release_session(bound)
        with anyio.CancelScope(shield=True):
            await layer.finish(session, failed=failed or not socket.started)


class _Socket:
    def __init__(self, layer: SessionLayer, session: Session, scope: Scope, receive: Receive, send: Send) -> None:
        self._layer = layer
        self._session = session
        self._scope = scope
        self._receive = receive
        self._send = send
        self.started = False
        self._ended = False  # by us
        self._active = False  # a frame came since the last look
        self._seen: Record | None = None  # the session as the socket began, or at the last look
        self._waiting: set[anyio.CancelScope] = set()

    async def receive(self) -> Message:
        """The next message, or the disconnect that ends a socket whose session ended."""
        with anyio.CancelScope() as waiting:
            self._waiting.add(waiting)
            try:
                if not self._ended:
                    message = await self._receive()
                    self._active = self._active or message["type"] == "websocket.receive"
                    return message
            finally:
                self._waiting.discard(waiting)
        return {"type": "websocket.disconnect", "code": SESSION_ENDED, "reason": _REASON}

    async def send(self, message: Message) -> None:
        """Commit at the response start; after we closed the socket, ``OSError`` as for any closed one."""
        if self._ended:
            raise OSError(_REASON)
        kind = message["type"]
        if not self.started and kind in _STARTS:
            message = await self._start(message)
        elif not self.started and kind == "websocket.close":
            await self._refused()
        await self._send(message)

    async def _start(self, message: Message) -> Message:
        session, layer = self._session, self._layer
        state = session._state
        if state is None or not layer.concerns(session, state):
            self.started = session._started = True
            return message
        verdict = layer.commit(session)
        if not isinstance(verdict, Verdict):
            verdict = await shielded(verdict)
            state = session._state or state  # it may have another by now
        headers = ASGI_HEADERS.applied(message.get("headers", ()), layer.set_cookies(session._source, verdict))
        state.start_response()
        self.started, self._seen = True, state.base
        return {**message, "headers": headers}

    async def _refused(self) -> None:
        """The app closes instead of accepting, which can carry no cookie: nothing is done that would need one."""
        session, layer = self._session, self._layer
        self.started = session._started = True
        state = session._state
        if state is not None and (state.wish.rotating or state.wish.logged_in):
            left = layer.give_up(session)
            if not isinstance(left, Verdict):
                await shielded(left)
        if session._state is not None:
            session._state.start_response()

    async def refuse(self, error: BaseException) -> None:
        """Deny the connection when the store failed before it was answered; raise everything else."""
        if self.started or self._ended or not isinstance(error, StoreError):
            raise error
        logger.error("session_mw: the session store failed: %s", error, exc_info=error)
        self._ended = True
        if self._may_deny:
            for message in unavailable(self._layer.config, self._scope).messages(self._scope):
                await self._send(message)
        else:
            await self._send({"type": "websocket.close", "code": 1011, "reason": "session store unavailable"})

    async def deny(self, answer: Answer) -> None:
        """A guard refused the app: deny the connection with *answer*, or close what is open or cannot be answered."""
        if self._ended:
            return
        if self._may_deny and not self.started:
            for message in answer.messages(self._scope):
                await self.send(message)
        else:
            await self.send({"type": "websocket.close", "code": SESSION_ENDED, "reason": "refused"})

    @property
    def _may_deny(self) -> bool:
        """Whether the server knows denial responses."""
        return "websocket.http.response" in (self._scope.get("extensions") or {})

    async def watch(self) -> None:
        """Look after the session while the socket is open."""
        while not self._ended:
            await anyio.sleep(self._layer.config.websocket_check)
            if not self.started:  # the accept will find out
                continue
            active, self._active = self._active, False
            try:
                if await self._goes_on(active):
                    continue
            except StoreError as error:
                logger.warning("session_mw: a socket's session could not be looked at: %s", error)
                continue
            self._ended = True
            kind = "websocket.close"
            await self._send({"type": kind, "code": SESSION_ENDED, "reason": _REASON})
            for waiting in list(self._waiting):
                waiting.cancel()

    async def _goes_on(self, active: bool) -> bool:
        """Whether the session is there, under whichever id, with the token it had, and nobody objects to it."""
        state = self._session._state
        if state is None or state.base is None:  # there is none, or the app itself has ended it
            return state is None or not state.stale
        self._seen = await self._layer.still_there(self._session, self._seen or state.base, active=active)
        return self._seen is not None
