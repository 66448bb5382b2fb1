"""Opening: the half of a session layer that makes sessions and fills them.

Managers, ``Admission`` and ``Upgrade`` decide; here their flows are run: at first touch, or before the handler where a
store or a callback must be awaited. A session is filled once, whoever asks for it.
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, cast

from .admission import Admission
from .config import SessionConfig
from .core.lifetime import Limits
from .core.operations import Flow
from .core.runners import arun, run
from .core.session import Session
from .core.state import OVER, State, Watched
from .errors import ConfigurationError, InvalidSessionIdError, SessionClosedError, SessionStateError
from .events import Events, log
from .exchange import Exchange, Past, Reader
from .home import Home, build_manager, home_in
from .managers import Manager, Opened
from .settings import is_async
from .workers import warn_of_several

if TYPE_CHECKING:
    from .upgrade import Upgrade

__all__ = ["Opening"]

_NOBODY_AWAITS = "a callback is a coroutine function; under WSGI callbacks must be plain functions"


class Opening:
    """One per middleware. ``on_loop``: the integration runs on an event loop and can await."""

    session_class: ClassVar[type[Any]] = Session

    def __init__(self, config: SessionConfig, manager: Manager | None, reader: Reader, *, on_loop: bool) -> None:
        if config.awaits and not on_loop:
            raise ConfigurationError(_NOBODY_AWAITS)
        self.config = config
        self._awaits = config.awaits
        self.on_loop = on_loop
        self.application = config.table_index
        self.cookie_name = config.cookie.name
        self.strict_ip = config.strict_session_ip
        self.owner_key = config.owner_key
        self.limits = Limits(config.idle_timeout, config.absolute_timeout, config.touch_after(False))
        self.random = os.urandom
        self.upgrade = _upgrade(config, reader) if config.legacy else None
        self.exchange = self.upgrade or Exchange(config, reader)
        self._more_to_do = self.upgrade is not None or config.owner_key is not None  # at a commit, though all is kept
        self.events = Events(config)
        self._admission = Admission(config, self.exchange, self.upgrade)
        self._asks = self._admission.needed
        self._looks_closer = self.events.wanted or self._asks
        self._begin: type[State] = Watched if self.events.wanted else State
        self._clock = config.clock
        self._cookies, self._read = reader.cookies, config.cookie.read  # for ``fill``, which is on the hot path
        self.address = self.exchange.address
        self.same_address = self.exchange.same_address
        self.user_agent = self.exchange.user_agent
        self.set_cookies = self.exchange.set_cookies
        self.ready = False
        self.home = self.home_for(manager if manager is not None else build_manager(config))

    def home_for(self, place: Any) -> Home:
        """A manager, or a store to keep sessions in, made ready. Raises ``ConfigurationError`` for what cannot be."""
        home = home_in(place, self.config, on_loop=self.on_loop)
        if self.upgrade is not None and not hasattr(home.manager, "take_over"):
            raise ConfigurationError(
                f"legacy= needs a manager with take_over(); {type(home.manager).__name__} has none"
            )
        return home

    @property
    def may_wait(self) -> bool:
        """Whether a session may have to be awaited before the handler."""
        return self._awaits or (self.home.store is None and self.home.astore is not None)

    def open_store(self, multiprocess: bool | None = None) -> None:
        """Open the store, once. *multiprocess*: what the server says. Raises ``StoreError`` when that fails."""
        if self.home.store is not None:
            self.home.store.initialize()
        warn_of_several(self.home.manager.consults, multiprocess)
        self.ready = True

    async def aopen_store(self) -> None:
        """``open_store``, off the event loop."""
        if self.home.astore is not None:
            await self.home.astore.initialize()
        warn_of_several(self.home.manager.consults)
        self.ready = True

    async def aclose_store(self) -> None:
        """Close the store; the next request would open it again."""
        self.ready = self.home.astore is None
        if self.home.astore is not None:
            await self.home.astore.teardown()

    # -- who is calling -----------------------------------------------------------------------------------------

    def now(self) -> int:
        """Whole Unix seconds."""
        return int(self._clock())

    # -- opening ------------------------------------------------------------------------------------------------

    def session(self, source: Any) -> Session:
        """A session for one request; nothing is read yet."""
        session: Session = self.session_class._dormant(self, source)  # they begin asleep
        return session

    def check_callback(self, callback: Any) -> None:
        """Raises ``ConfigurationError`` for a coroutine function where nobody can await it."""
        if not self.on_loop and is_async(callback):
            raise ConfigurationError(_NOBODY_AWAITS)

    def _must_ask(self, session: Session) -> bool:
        """Whether a callback must be awaited before *session* opens: the middleware's, or one of this request."""
        before = session._before
        if self._awaits or before is None or before.ip_callback is None:
            return self._awaits
        return self.strict_ip and is_async(before.ip_callback)

    def must_wait(self, session: Session) -> bool:
        """Whether *session* can only be filled by awaiting: an awaited store or callback, and a well-formed token."""
        home: Home = session._home
        if self._must_ask(session):
            return True
        if home.store is not None or home.manager.consults is None:
            return False
        return self._admission.waits(session, home.manager.open(self.exchange.claim(_request(session)), self.now()))

    def fill(self, session: Session, values: list[str] | None = None) -> None:
        """Open the client's claim (or *values*), here and now. Raises ``StoreError`` when the store fails,
        ``SessionStateError`` where it must be awaited."""
        header = None
        if values is None:
            source = session._source
            header = self._cookies(_request(session) if source is None else source)  # no call where all is well
            values = self._read(header)
        home: Home = self.home if session._before is None else session._home
        now = int(self._clock())
        opened = home.manager.open(values, now)
        state = self._begin(now, header)
        if type(opened) is not Opened or self._asks:  # store or callbacks have their say
            if self._must_ask(session) or (home.store is None and self._admission.waits(session, opened)):
                raise SessionStateError("this session must be awaited first: await session.load()")
            flow: Any = self._admission.judge(session, state, opened) if self._asks else opened
            opened = run(flow, home.store)
        state = self._take(session, state, opened)
        if state.events and not self._awaits:  # else they are told when the request ends
            self.events.tell(state)

    def opening(self, session: Session) -> Awaitable[None] | None:
        """``afill(session)``, where ``must_wait`` says so; ``None`` where the session fills at first touch."""
        home: Home = session._home
        if self._must_ask(session):
            return self.afill(session)
        if home.store is not None or home.manager.consults is None:
            return None
        header, now = self._cookies(_request(session)), self.now()
        opened = home.manager.open(self._read(header), now)
        if type(opened) is Opened and (self.upgrade is None or not self._admission.waits(session, opened)):
            return None
        return self._afill(session, home, now, opened, header)

    async def afill(self, session: Session, values: list[str] | None = None) -> None:
        """``fill``, where the store or a callback must be awaited."""
        if values is None:
            values = self.exchange.claim(_request(session))
        home: Home = session._home
        now = self.now()
        await self._afill(session, home, now, home.manager.open(values, now))

    async def _afill(
        self, session: Session, home: Home, now: int, opened: Opened | Flow[Opened], header: str | None = None
    ) -> None:
        state = self._begin(now, header)
        if self._asks:
            opened = self._admission.judge(session, state, opened)
        if type(opened) is not Opened:
            opened = await arun(cast("Flow[Opened]", opened), home.astore)
        if session._state is None:  # another task may have been faster
            state = self._take(session, state, opened)
            if state.events:
                await self.events.atell(state)

    def leave(self, session: Session, left: Mapping[str, Any]) -> None:
        """The app failed, and nobody has looked at *session*: its error page, outside, may still read it.

        *left*: what is read of the request, and nothing that leads back to the session.
        """
        session._source, session._started = Past(left), True

    def adopt(self, session: Session, token: str) -> None:
        """``start(token)``: open *token* instead of the client's cookie, to be rotated at commit."""
        _request(session)
        self._check_token(session, token)
        self.fill(session, [token])
        self._rotate_adopted(session)

    async def aadopt(self, session: Session, token: str) -> None:
        """``load(token)``: the same, awaited."""
        _request(session)
        self._check_token(session, token)
        await self.afill(session, [token])
        self._rotate_adopted(session)

    def _check_token(self, session: Session, token: str) -> None:
        opened = session._home.manager.open([token], self.now())
        if not isinstance(opened, Opened):
            opened.close()  # the store is asked later
        elif opened.reason in ("malformed", "unknown_key", "forged", "doubled"):
            raise InvalidSessionIdError("start(): this is not a token of ours")

    def _rotate_adopted(self, session: Session) -> None:
        session._wake()
        state = session._state
        if state is not None and state.base is not None:
            session._rotate(state)

    def _take(self, session: Session, state: State, opened: Opened) -> State:
        """Pour what opened into *session*; its state."""
        record = opened.record
        if record is None:
            state, data = self._refused(state, opened.stale, opened.reason), {}
        else:
            try:
                data = state.adopt(record)
            except ValueError:
                state, data = self._refused(state, False, "corrupt"), {}
            else:
                if opened.pointer:
                    state.pointer = True
                if opened.due:
                    state.due = True
        if self._looks_closer:
            data = self._look_closer(session, state, data)
        state = session._publish(state, data)
        if type(session._source) is Past:
            state.phase = OVER
        return state

    def _refused(self, state: State, stale: bool, reason: str) -> State:
        """The state of a request whose claim, if it made one, is refused; nothing of what was refused stays."""
        if state.base is not None:
            state = self._begin(state.now)
        if stale:
            state.stale = True
        if reason and state.tells:
            state.note("refused", state.now, reason)
        elif reason:
            log("refused", reason)
        return state

    def _look_closer(self, session: Session, state: State, data: dict[str, Any]) -> dict[str, Any]:
        """What only some configurations ask for: listeners, addresses."""
        base = state.base
        if self.config.session_ip:
            state.bound_ip = self.address(session._source) or ""
            if base is not None and state.bound_ip and not state.seen().ip:  # made where no address was known
                state.wishing().bound = state.due = True
        if base is None:
            return data
        if state.refused:
            state.wipe()
            state.wishing().destroyed = True
            state.note("destroy", state.now, "ip_changed", handle=base.id, user=base.user_id)
            return {}
        state.note("open", state.now, handle=base.id, user=base.user_id)
        return data


def _request(session: Session) -> Any:
    """What an unopened *session* is read of. Raises ``SessionClosedError`` once that is over."""
    if session._source is None:
        raise SessionClosedError(
            "the request is over, and nobody has looked at its session while it lasted: look at it earlier, or keep "
            "its session_id then, and go on with SessionService"
        )
    return session._source


def _upgrade(config: SessionConfig, reader: Reader) -> Upgrade:
    from .upgrade import Upgrade  # loaded only where it is used

    return Upgrade(config, reader)
