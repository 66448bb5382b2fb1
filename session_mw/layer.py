"""The session layer of one middleware: what every integration shares.

It fills sessions on first touch, and runs the flows that commit them. An integration says when the response starts; it
decides nothing about sessions, and neither does this.

    Home         the manager, and the faces of its store                  home.py
    Exchange     what is read of a request and added to its response      exchange.py
    Admission    whether what opened may be used by this client           admission.py
    Events       what is told to callbacks                                events.py
"""

from __future__ import annotations

import logging
import os
from collections.abc import Awaitable
from typing import TYPE_CHECKING, Any, TypeVar, cast

from .admission import Admission
from .config import SessionConfig
from .core.lifetime import Limits
from .core.operations import Flow
from .core.runners import arun, run, run_ready
from .core.session import Session
from .core.state import OPEN, OVER, STARTED, State, Watched
from .errors import ConfigurationError, InvalidSessionIdError, SessionClosedError, SessionStateError, StoreError
from .events import Events
from .exchange import AccessRefused, Answer, Exchange, Reader
from .home import Home, build_manager, home_in
from .managers import LEAVE, Manager, Opened, Verdict
from .shield import shielded
from .workers import warn_of_several

if TYPE_CHECKING:
    from .upgrade import Upgrade

__all__ = ["SessionLayer", "check_single"]

logger = logging.getLogger("session_mw")
T = TypeVar("T")
_DORMANT: type[Session] = Session._dormant  # sessions begin asleep


class SessionLayer:
    """One per middleware. ``on_loop``: the integration runs on an event loop and can await."""

    def __init__(self, config: SessionConfig, manager: Manager | None, reader: Reader, *, on_loop: bool) -> None:
        if config.awaits and not on_loop:
            raise ConfigurationError("a callback is a coroutine function; under WSGI callbacks must be plain functions")
        self.config = config
        self.on_loop = on_loop
        self.application = config.table_index
        self.cookie_name = config.cookie.name
        self.strict_ip = config.strict_session_ip
        self.owner_key = config.owner_key
        self.limits = Limits(config.idle_timeout, config.absolute_timeout, config.touch_after(False))
        self.random = os.urandom
        self.upgrade = _upgrade(config, reader) if config.legacy else None
        self.exchange = self.upgrade or Exchange(config, reader)
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
        self._noticed = False
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
        return self.config.awaits or (self.home.store is None and self.home.astore is not None)

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
        return _DORMANT(self, source)

    def must_wait(self, session: Session) -> bool:
        """Whether *session* can only be filled by awaiting: an awaited store or callback, and a well-formed token."""
        home: Home = session._home
        if self.config.awaits:
            return True
        if home.store is not None or home.manager.consults is None:
            return False
        return self._admission.waits(session, home.manager.open(self.exchange.claim(session._source), self.now()))

    def fill(self, session: Session, values: list[str] | None = None) -> None:
        """Open the client's claim (or *values*), here and now. Raises ``StoreError`` when the store fails,
        ``SessionStateError`` where it must be awaited."""
        if values is None:
            source = session._source
            if source is None:
                raise SessionClosedError("the request is over, and nobody has looked at its session while it lasted")
            session._cookies = header = self._cookies(source)
            values = self._read(header)
        home: Home = self.home if session._before is None else session._home
        now = int(self._clock())
        state, opened = self._begin(now), home.manager.open(values, now)
        if type(opened) is not Opened or self._asks:
            opened = self._asked(session, state, opened, home)
        state = self._take(session, state, opened)
        if state.events:
            self.events.tell(state)

    def _asked(self, session: Session, state: State, opened: Opened | Flow[Opened], home: Home) -> Opened:
        """What comes of *opened* once store and callbacks have had their say."""
        if self.config.awaits or (home.store is None and self._admission.waits(session, opened)):
            raise SessionStateError("this session must be awaited first: await session.load()")
        if self._asks:
            opened = self._admission.judge(session, state, opened)
        return run(cast("Flow[Opened]", opened), home.store)

    def opening(self, session: Session) -> Awaitable[None] | None:
        """``afill(session)``, where ``must_wait`` says so; ``None`` where the session fills at first touch."""
        home: Home = session._home
        if self.config.awaits:
            return self.afill(session)
        if home.store is not None or home.manager.consults is None:
            return None
        session._cookies = header = self._cookies(session._source)
        now = self.now()
        opened = home.manager.open(self._read(header), now)
        if type(opened) is Opened and (self.upgrade is None or not self._admission.waits(session, opened)):
            return None
        return self._afill(session, home, now, opened)

    async def afill(self, session: Session, values: list[str] | None = None) -> None:
        """``fill``, where the store or a callback must be awaited."""
        if values is None:
            values = self.exchange.claim(session._source)
        home: Home = session._home
        now = self.now()
        await self._afill(session, home, now, home.manager.open(values, now))

    async def _afill(self, session: Session, home: Home, now: int, opened: Opened | Flow[Opened]) -> None:
        state = self._begin(now)
        if self._asks:
            opened = self._admission.judge(session, state, opened)
        if type(opened) is not Opened:
            opened = await arun(cast("Flow[Opened]", opened), home.astore)
        if session._state is None:  # another task may have been faster
            state = self._take(session, state, opened)
            if state.events:
                await self.events.atell(state)

    def adopt(self, session: Session, token: str) -> None:
        """``start(token)``: open *token* instead of the client's cookie, to be rotated at commit."""
        self._check_token(session, token)
        self.fill(session, [token])
        self._rotate_adopted(session)

    async def aadopt(self, session: Session, token: str) -> None:
        """``load(token)``: the same, awaited."""
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
        record, reason = opened.record, opened.reason
        data: dict[str, Any] = {}
        if record is not None:
            try:
                data = state.adopt(record)
            except ValueError:
                record, reason = None, "corrupt"
            else:
                state.pointer = opened.pointer
        if record is None:
            if state.base is not None:  # nothing of what was refused may stay
                state = self._begin(state.now)
            if opened.stale:
                state.stale = True
            if reason:
                state.note("refused", state.now, reason)
        if self._looks_closer:
            data = self._look_closer(session, state, data)
        return session._publish(state, data)

    def _look_closer(self, session: Session, state: State, data: dict[str, Any]) -> dict[str, Any]:
        """What only some configurations ask for: listeners, addresses."""
        if self.config.session_ip:
            state.bound_ip = self.address(session._source) or ""
        base = state.base
        if base is None:
            return data
        if state.refused:
            state.wipe()
            state.wishing().destroyed = True
            state.note("destroy", state.now, "ip_changed", handle=base.id, user=base.user_id)
            return {}
        state.note("open", state.now, handle=base.id, user=base.user_id)
        return data

    # -- committing ---------------------------------------------------------------------------------------------

    def commit(self, session: Session) -> Verdict | Awaitable[Verdict]:
        """Carry out what *session* wishes: the verdict, or an awaitable of it where the store has to be waited for.

        Raises what ``Manager.commit`` raises; nothing is kept then.
        """
        state = session._state
        if state is None:
            return LEAVE
        if state.queue:
            session._save_queue()
        if self.owner_key is not None and state.phase == OPEN:
            session._follow_owner(self.owner_key)
        if self.upgrade is not None:
            return self._commit_beside(session, state, self.upgrade)
        plan = self._plan(session, state)
        return plan if type(plan) is Verdict else self._carry_out(session, plan)

    def _commit_beside(self, session: Session, state: State, upgrade: Upgrade) -> Verdict | Awaitable[Verdict]:
        """``commit`` beside legacy cookies, which go with a logout, wherever in the request it was carried out."""
        self._note_parting(session, state)
        verdict = self._carry_out(session, self._plan(session, state))
        if not (session._before is not None and session._before.parted):
            return verdict
        return upgrade.parted(verdict) if isinstance(verdict, Verdict) else upgrade.aparted(verdict)

    def _note_parting(self, session: Session, state: State) -> None:
        if self.upgrade is not None and state.ends():
            session._prepare().parted = True

    def _plan(self, session: Session, state: State, early: bool = False) -> Any:
        """A ``Verdict``, or the flow that ends in one."""
        live: dict[str, dict[str, Any]] = {state.storage: session}
        if state.others:
            live.update(state.others)
        home: Home = self.home if session._before is None else session._home
        return home.manager.commit(state, live, int(self._clock()), self.random, early)

    def _carry_out(self, session: Session, plan: Any) -> Verdict | Awaitable[Verdict]:
        if type(plan) is Verdict:
            return plan
        home: Home = session._home
        flow = cast("Flow[Verdict]", plan)
        if home.store is None:
            return arun(flow, home.astore)
        with session._lock:  # only what a store is asked: everything before is done in one breath
            if not self.on_loop:
                return run(flow, home.store)
            verdict, pending = run_ready(flow, home.store)
        return arun(flow, home.astore, pending) if verdict is None else verdict

    def commit_early(self, session: Session) -> None:
        """``session.commit()``: write before the response starts, where that needs no waiting."""
        state = session._touch()
        self._note_parting(session, state)
        home: Home = session._home
        plan = self._plan(session, state, state.phase == OPEN)
        if type(plan) is not Verdict:
            if home.store is None:
                plan.close()
                raise SessionStateError("this session's store must be awaited: call await session.acommit()")
            run(plan, home.store)
        if not self.config.awaits:  # else they are told when the request ends
            self.events.tell(state)

    async def acommit_early(self, session: Session) -> None:
        """``session.acommit()``: the same, wherever it may have to wait."""
        state = session._touch()
        self._note_parting(session, state)
        answer = self._carry_out(session, self._plan(session, state, state.phase == OPEN))
        if not isinstance(answer, Verdict):
            await answer
        await self.events.atell(state)

    def concerns(self, session: Session) -> bool:
        """Whether the response has anything to do with the session: somebody touched it, or opening it had results.

        Where not, the response is noted as started: what comes later comes too late for a cookie.
        """
        state = session._state
        if state is not None and (state.accessed or state.wishes()):
            return True
        session._started = True
        if state is not None:
            state.phase = STARTED
        return False

    def started(self, session: Session) -> None:
        """The response start has been committed and leaves now; from here on it is known who touches the session."""
        state = session._state
        if state is not None and state.phase == OPEN:
            state.phase = STARTED
        session.__class__ = session._dormant

    def fail(self, session: Session) -> Verdict | Awaitable[Verdict]:
        """The app raised before its response started: carry out the endings it asked for, and nothing else."""
        state = session._state
        if state is None or state.phase != OPEN or not session._keep_endings():
            return LEAVE
        state.phase = STARTED  # in place: no cookie can be sent
        return self._carry_out(session, self._plan(session, state))

    def give_up(self, session: Session) -> Verdict | Awaitable[Verdict]:
        """What was changed cannot be kept: drop it, carry out the endings asked for; nothing more can be written."""
        state = session._state
        if state is None or not session._keep_endings():
            self.close(session, failed=True)
            return LEAVE
        return self._carry_out(session, self._plan(session, state))

    def late(self, session: Session, *, failed: bool = False) -> Verdict | Awaitable[Verdict]:
        """The app has returned or raised: write what it changed after its response started."""
        state = session._state
        if state is None or state.phase != STARTED:
            return LEAVE
        if type(session) is session._dormant and state.is_fixed():
            return LEAVE  # nobody touched it since, and nobody can hold a part of it
        if failed:
            state.queue = ()
        if self.may_write_late(session):
            if state.queue:
                session._save_queue()
            return self._carry_out(session, self._plan(session, state))
        if state.changed(session._live()) and not state.dropped:
            state.note("dropped", self.now(), "late", handle=state.handle)
        return LEAVE

    def finished(self, session: Session) -> bool:
        """Whether a response that went well left nothing to write or to tell; then the session is over."""
        state = session._state
        if state is not None:
            if type(session) is not session._dormant or state.phase != STARTED or self.events.wanted or state.events:
                return False
            if not state.is_fixed():
                return False
            state.phase = OVER
        session._source = session._cookies = None
        return True

    async def finish(self, session: Session, *, failed: bool) -> None:
        """The app has returned or raised, on an event loop: write what is left to write, close, tell."""
        state = session._state
        if state is None:
            return
        try:
            started = state.phase == STARTED
            left = self.late(session, failed=failed) if started else self.fail(session) if failed else LEAVE
            if not isinstance(left, Verdict):
                await shielded(left)
        except StoreError:
            if not failed:
                raise
            logger.exception("session_mw: what a failed request had ended or changed could not be carried out")
        finally:
            self.close(session, failed=failed)
            if state.events:
                told = self.events.atell(state)
                await (shielded(told) if self.config.awaits else told)

    async def still_there(self, session: Session, *, active: bool) -> bool:
        """Whether the session of an open socket goes on; *active* counts as activity."""
        state = session._state
        if state is None or state.base is None:
            return not (state is not None and state.stale)
        home: Home = session._home
        answer = home.manager.recheck(state, self.now(), active=active)
        return answer if isinstance(answer, bool) else await arun(answer, home.astore)

    def close(self, session: Session, *, failed: bool = False) -> None:
        """The request is over; nothing of it may be kept alive by the session."""
        state = session._state
        if state is not None and state.phase != OVER:
            state.phase = OVER
            if self.events.wanted:
                state.note("close", self.now(), "error" if failed else "", handle=state.handle)
            if state.events and not self.on_loop:
                self.events.tell(state)
        session._source = session._cookies = None

    def may_write_late(self, session: Session) -> bool:
        """Whether *session* can be written after its response started: only in a store, under an id already known."""
        state = session._state
        return session._home.manager.store is not None and state is not None and (state.base is not None or state.stale)

    def check_late_write(self, session: Session) -> None:
        """Raises ``SessionClosedError`` where a write after response start could not be kept."""
        if not self.may_write_late(session):
            raise SessionClosedError(
                "the response has started and can carry no cookie any more: "
                "write to the session before, or keep sessions in a store and create them earlier"
            )

    def refused(self, answer: Answer) -> Any:
        """What a guarded view returns in its stead: a framework's own response where an integration makes one.

        Here nobody does: raises ``AccessRefused``, which the middleware catches.
        """
        raise AccessRefused(answer)

    def notice_replaced(self, by: object) -> None:
        """Say, once, that something inside put *by*, no session of ours, where the app finds its session."""
        if isinstance(by, Session) or self._noticed:  # an inner middleware of ours shadows this one
            return
        self._noticed = True
        logger.warning(
            "session_mw: something inside the middleware replaced scope['session'] by a %s, and what it keeps, ends or "
            "clears is not our session; take the framework's own session middleware out",
            type(by).__name__,
        )

    def require_store(self, session: Session) -> None:
        """Raises ``ConfigurationError`` for a client-kept session without ``revocation``."""
        if session._home.manager.consults is None:
            raise ConfigurationError("nothing is kept on the server; add store=, or revocation= to end sealed cookies")


def _upgrade(config: SessionConfig, reader: Reader) -> Upgrade:
    from .upgrade import Upgrade  # loaded only where it is used

    return Upgrade(config, reader)


def check_single(outer: object, session: Session) -> None:
    """Raises ``ConfigurationError`` when *outer*, what an outer middleware left, is a session with the same cookie."""
    if isinstance(outer, Session) and outer.cookie_name == session.cookie_name:
        raise ConfigurationError(
            f"two SessionMiddlewares use the cookie {session.cookie_name!r} in one request; remove one, "
            "or give one of them another table_index= or cookie_name="
        )
