"""The session layer of one middleware: what every integration shares.

It fills sessions on first touch, and runs the flows that commit them. An integration says when the response starts; it
decides nothing about sessions, and neither does this.

    Opening      making sessions and filling them                         opening.py
    SessionLayer committing them, and whatever ends a request             here
    Home         the manager, and the faces of its store                  home.py
    Exchange     what is read of a request and added to its response      exchange.py
    Admission    whether what opened may be used by this client           admission.py
    Events       what is told to callbacks                                events.py
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Coroutine
from typing import TYPE_CHECKING, Any, cast

from .core.operations import Flow
from .core.record import Record
from .core.runners import arun, run, run_ready
from .core.session import Session
from .core.state import OPEN, OVER, STARTED, State
from .errors import ConfigurationError, SessionClosedError, SessionStateError, StoreError
from .exchange import AccessRefused, Answer, Past
from .flight import Flight
from .home import Home
from .managers import LEAVE, Verdict
from .managers.claims import unvetoed
from .opening import Opening
from .shield import outlasting, shielded

if TYPE_CHECKING:
    from .upgrade import Upgrade

__all__ = ["SessionLayer", "check_single"]

logger = logging.getLogger("session_mw")


class SessionLayer(Opening):
    """One per middleware. ``on_loop``: the integration runs on an event loop and can await."""

    _noticed = False  # that something else stands where our session was

    def commit(self, session: Session) -> Verdict | Awaitable[Verdict]:
        """Carry out what *session* wishes: the verdict, or an awaitable of it where the store has to be waited for.

        Raises what ``Manager.commit`` raises; nothing is kept then.
        """
        state = session._state
        if state is None:
            return LEAVE
        if not (state.due or self._more_to_do) and state.is_kept():
            return LEAVE
        if state.flight is not None:
            return self._after(state.flight, session)
        if state.queue:
            session._save_queue()
        if self.owner_key is not None:
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

    def _carry_out(self, session: Session, plan: Any) -> Verdict | Coroutine[Any, Any, Verdict]:
        if type(plan) is Verdict:
            return plan
        home: Home = self.home if session._before is None else session._home
        flow: Flow[Verdict] = plan
        if home.store is None:
            return Flight(session).fly(arun(flow, home.astore))
        lock = session._lock  # only for what a store is asked: everything before is done in one breath
        lock.acquire()
        try:
            if not self.on_loop:
                return run(flow, home.store)
            verdict, pending = run_ready(flow, home.store)
        finally:
            lock.release()
        if verdict is not None:
            return verdict
        return Flight(session).fly(arun(flow, home.astore, pending))

    async def _after(self, flight: Flight, session: Session) -> Verdict:
        """``commit``, once the one under way has landed."""
        await flight.landed()
        verdict = self.commit(session)
        return verdict if isinstance(verdict, Verdict) else await verdict

    def commit_early(self, session: Session) -> None:
        """``session.commit()``: write before the response starts, where that needs no waiting."""
        state = session._touch()
        if state.flight is not None:
            raise SessionStateError("another commit of this session is under way: call await session.acommit()")
        if self.owner_key is not None:
            session._follow_owner(self.owner_key)
        self._note_parting(session, state)
        home: Home = session._home
        plan = self._plan(session, state, state.phase == OPEN)
        if type(plan) is not Verdict:
            if home.store is None:
                plan.close()
                raise SessionStateError("this session's store must be awaited: call await session.acommit()")
            run(plan, home.store)
        if not self._awaits:  # else they are told when the request ends
            self.events.tell(state)

    async def acommit_early(self, session: Session) -> None:
        """``session.acommit()``: the same, wherever it may have to wait. It outlasts whoever gives up waiting."""
        while (state := session._touch()).flight is not None:
            await state.flight.landed()
        if self.owner_key is not None:
            session._follow_owner(self.owner_key)
        self._note_parting(session, state)
        answer = self._carry_out(session, self._plan(session, state, state.phase == OPEN))
        if not isinstance(answer, Verdict):
            cast("Flight", state.flight).begun = True  # at the next turn of the loop
            await outlasting(answer)
        await self.events.atell(session._touch())

    def concerns(self, session: Session, state: State) -> bool:
        """Whether the response has anything to do with the session: somebody touched it, or opening it had results.

        Where not, the response is noted as started: what comes later comes too late for a cookie.
        """
        if state.accessed or state.wishes():
            return True
        session._started = True
        state.start_response()
        return False

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
        if failed:
            state.queue = ()
        if state.is_kept() and not state.queue:
            return LEAVE
        if state.wish.logged_in:  # while the commit at response start waited
            state.note("dropped", self.now(), "late", handle=state.handle)
            if not session._keep_endings():
                return LEAVE
        if state.wish.rotating:
            state.wish.rotating, state.token = False, None  # in place: no cookie can be sent
        if self.may_write_late(session):
            if state.queue:
                session._save_queue()
            if self.owner_key is not None:
                session._follow_owner(self.owner_key)
            return self._carry_out(session, self._plan(session, state))
        if (state.queue or state.changed(session._live())) and not state.dropped:
            state.note("dropped", self.now(), "late", handle=state.handle)
        return LEAVE

    def finished(self, session: Session, state: State) -> bool:
        """Whether a response that went well left nothing to write or to tell; then the session is over."""
        if state.phase != STARTED or state.tells or state.events or state.queue or not state.is_kept():
            return False
        state.phase = OVER
        return True

    async def finish(self, session: Session, *, failed: bool) -> None:
        """The app has returned or raised, on an event loop: write what is left to write, close, tell."""
        state = session._state
        if state is None:
            return
        if state.flight is not None:
            await shielded(state.flight.landed())
        try:
            state = session._state or state  # it may have another by now
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
            state = session._state or state
            if state.events:
                told = self.events.atell(state)
                await (shielded(told) if self._awaits else told)

    async def still_there(self, session: Session, seen: Record, *, active: bool) -> Record | None:
        """What has become of *seen*, the record of an open socket; ``None``: its session ended, or is vetoed by now.

        *active* counts as activity.
        """
        home: Home = session._home
        answer = home.manager.recheck(seen, self.now(), active=active)
        return await arun(unvetoed(self.config, answer), home.astore)

    def close(self, session: Session, *, failed: bool = False) -> None:
        """The request is over; nothing of it may be kept alive by the session."""
        state = session._state
        if state is not None and state.phase != OVER:
            state.phase = OVER
            if state.tells:
                state.note("close", self.now(), "error" if failed else "", handle=state.handle)
            if state.events and not self.on_loop:
                self.events.tell(state)
        session._source = None

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


def check_single(outer: object, session: Session) -> None:
    """Raises ``ConfigurationError`` when *outer*, what an outer middleware left, or any session around that one has
    the same cookie.

    One whose request is over stands in nobody's way: somebody around both calls the app again.
    """
    if not isinstance(outer, Session) or isinstance(outer._source, Past | None):
        return
    if outer.cookie_name == session.cookie_name:
        raise ConfigurationError(
            f"two SessionMiddlewares use the cookie {session.cookie_name!r} in one request; remove one, "
            "or give one of them another table_index= or cookie_name="
        )
    if outer._before is not None:
        check_single(outer._before.outer, session)
    session._prepare().outer = outer
