"""The session layer of one middleware: what every integration shares.

It builds the manager a configuration asks for, fills sessions on first touch, commits them, tells events, and turns a
verdict into response headers. An integration brings a ``Reader`` (where its requests keep cookies and addresses) and
says when the response starts; it decides nothing about sessions.
"""

from __future__ import annotations

import inspect
import logging
import os
from collections.abc import Awaitable
from typing import Any, NamedTuple, Protocol, cast

from .config import SessionConfig, missing_home_error
from .core.client import clean_user_agent
from .core.lifetime import Limits
from .core.login import with_ip_change
from .core.operations import AsyncStore, Consult, Flow, Store
from .core.record import SessionRecord
from .core.runners import arun, run, run_ready
from .core.session import Session
from .core.state import OPEN, OVER, STARTED, Event, State
from .errors import ConfigurationError, InvalidSessionIdError, SessionClosedError, SessionStateError
from .managers import LEAVE, Action, Manager, Opened, Verdict, is_flow
from .managers.cookie import CookieManager
from .managers.store import StoreManager

__all__ = ["Home", "Reader", "SessionLayer", "build_manager"]

logger = logging.getLogger("session_mw")


class Reader(Protocol):
    """How an integration's request (*source*) is read."""

    def cookies(self, source: Any) -> bytes:
        """Every Cookie header, joined by ``"; "``."""
        ...

    def header(self, source: Any, name: str) -> str | None:
        """One header by lower-case name; several joined by ``", "``."""
        ...

    def peer(self, source: Any) -> str | None:
        """The address the server gives: an IP, ``"unix"``, or ``None``."""
        ...

    def scheme(self, source: Any) -> str:
        """``http``, ``https``, ``ws`` or ``wss``, as the server gives it."""
        ...


class Home(NamedTuple):
    """A manager and the faces of its store that fit this integration."""

    manager: Manager
    store: Store | None  # called where an answer is needed at once
    astore: AsyncStore | None  # awaited


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
        self.read_cookies = config.cookie.read
        self._clock = config.clock
        self._reader = reader
        self._judged = config.strict_session_ip or config.session_ip or config.on_validate is not None
        filters = {
            "open": config.on_open,
            "create": config.on_create,
            "close": config.on_close,
            "destroy": config.on_destroy,
        }
        self._callbacks = {name: callback for name, callback in filters.items() if callback is not None}
        self._tells = bool(self._callbacks) or config.on_event is not None
        self._warned_insecure = False
        self.ready = False
        self.home = self.home_for(manager if manager is not None else build_manager(config))

    def home_for(self, place: Any) -> Home:
        """A manager, or a store to keep sessions in, made ready. Raises ``ConfigurationError`` for what cannot be."""
        manager: Manager = place if hasattr(place, "configure") else StoreManager(_open_store(place))
        manager.configure(self.config)
        store: Any = manager.store
        if store is None:
            return Home(manager, None, None)
        waits = inspect.iscoroutinefunction(store.load)
        if not self.on_loop:
            if waits:
                raise ConfigurationError(
                    f"{type(store).__name__} has to be awaited; a WSGI app needs a synchronous one"
                )
            return Home(manager, store, None)
        if waits:
            return Home(manager, None, store)
        return Home(manager, store.inline(), store.aio())

    @property
    def may_wait(self) -> bool:
        """Whether a session may have to be awaited before the handler."""
        return self.config.awaits or (self.home.store is None and self.home.astore is not None)

    def open_store(self) -> None:
        """Open the store, once. Raises ``StoreError`` when that fails."""
        if self.home.store is not None:
            self.home.store.initialize()
        self.ready = True

    async def aopen_store(self) -> None:
        """``open_store``, off the event loop."""
        if self.home.astore is not None:
            await self.home.astore.initialize()
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

    def address(self, source: Any) -> str | None:
        """The client's address, as far as trusted proxies vouch for it."""
        header = self._reader.header
        return self.config.client.address(
            self._reader.peer(source), header(source, "forwarded"), header(source, "x-forwarded-for")
        )

    def same_address(self, source: Any, address: str) -> bool:
        """Whether the client calls from *address*, under ``ip_prefix``."""
        return self.config.client.same(self.address(source), address)

    def user_agent(self, source: Any) -> str | None:
        """The user agent, fit to be kept."""
        return clean_user_agent(self._reader.header(source, "user-agent"))

    def is_secure(self, source: Any) -> bool:
        """Whether the request came over https (or wss), as far as trusted proxies vouch for it."""
        scheme = {"ws": "http", "wss": "https"}.get(given := self._reader.scheme(source), given)
        header = self._reader.header
        trusted = self.config.client.scheme(
            self._reader.peer(source), scheme, header(source, "forwarded"), header(source, "x-forwarded-proto")
        )
        return trusted == "https"

    # -- opening ------------------------------------------------------------------------------------------------

    def session(self, source: Any) -> Session:
        """A session for one request; nothing is read yet."""
        return Session(self, source, self.home)

    def must_wait(self, session: Session) -> bool:
        """Whether *session* can only be filled by awaiting: an awaited store or callback, and a well-formed token."""
        home: Home = session._home
        if self.config.awaits:
            return True
        if home.store is not None or home.manager.store is None:
            return False
        return is_flow(home.manager.open(self.read_cookies(self._reader.cookies(session._source)), 0))

    def fill(self, session: Session) -> None:
        """Open the client's claim, here and now. Raises ``StoreError`` when the store fails, ``SessionStateError``
        where it must be awaited."""
        self._fill(session, self._claim(session))

    def _claim(self, session: Session) -> list[str]:
        """What the client sent under our cookie name."""
        if session._source is None:
            raise SessionClosedError("the request is over, and nobody has looked at its session while it lasted")
        return self.read_cookies(self._reader.cookies(session._source))

    def _state(self, session: Session) -> State:
        state = State(self.now())
        state.phase = STARTED if session._started else OPEN
        state.tells = self._tells
        return state

    def _fill(self, session: Session, values: list[str]) -> None:
        home: Home = session._home
        state = self._state(session)
        opened = home.manager.open(values, state.now)
        if is_flow(opened) or self._judged or session._ip_callback is not None:
            if self.config.awaits or (is_flow(opened) and home.store is None):
                raise SessionStateError("this session must be awaited first: await session.load()")
            opened = run(self._judge(session, state, opened), home.store)
        state = self._take(session, state, cast("Opened", opened))
        if state.events:
            self.tell(state)

    async def afill(self, session: Session) -> None:
        """``fill``, where the store or a callback must be awaited."""
        home: Home = session._home
        state = self._state(session)
        opened = home.manager.open(self._claim(session), state.now)
        opened = await arun(self._judge(session, state, opened), home.astore)
        if session._state is None:  # another task may have been faster
            await self.atell(self._take(session, state, opened))

    def adopt(self, session: Session, token: str) -> None:
        """``start(token)``: open *token* instead of the client's cookie, to be rotated at commit."""
        opened = session._home.manager.open([token], self.now())
        if isinstance(opened, Opened) and opened.reason in ("malformed", "unknown_key", "forged", "doubled"):
            raise InvalidSessionIdError("start(): this is not a token of ours")
        if is_flow(opened):
            opened.close()
        self._fill(session, [token])
        session._wake()
        state = session._state
        if state is not None and state.base is not None:
            session._rotate(state)

    def _judge(self, session: Session, state: State, opened: Opened | Flow[Opened]) -> Flow[Opened]:
        """All that may refuse what opened: ``session_ip``, ``on_validate``, the verdict on a strict login."""
        if not isinstance(opened, Opened):
            opened = yield from opened
        record = opened.record
        if record is None or not (self._judged or session._ip_callback is not None):
            return opened
        try:
            state.adopt(record)
            bound = state.seen().ip
        except ValueError:
            return Opened(reason="corrupt")
        if self.config.session_ip and bound and not self.same_address(session._source, bound):
            return Opened(reason="address")
        if self.config.on_validate is not None:
            allowed = yield from self._consult(self.config.on_validate, SessionRecord.of(record))
            if allowed is not True:
                return Opened(reason="vetoed")
        if self.strict_ip:
            yield from self._judge_address(session, state, record)
        return opened

    def _judge_address(self, session: Session, state: State, record: Any) -> Flow[None]:
        """A strict login from elsewhere: ask, and end it or note where it went."""
        here = self.address(session._source)
        moved = {
            storage: login
            for storage, login in state.all_logins().items()
            if login.bound and login.ip is not None and not self.config.client.same(here, login.ip)
        }
        callback = session._ip_callback or self.config.on_ip_changed
        for storage, login in moved.items():
            keep = False
            if callback is not None and here is not None:
                view = self._view(session, record)
                keep = (yield from self._consult(callback, view, login.ip, list(login.ip_changes))) is False
            state.note("ip_changed", state.now, "kept" if keep else "ended", handle=record.id, user=record.user_id)
            if not keep:
                state.refused = True
                return
            state.logins = {**state.logins, storage: with_ip_change(login, here or "", state.now)}

    def _view(self, session: Session, record: Any) -> Session:
        """What *record* holds, for a callback to look at: *session* itself is not open yet."""
        view = Session(self, session._source, session._home)
        state = State(self.now())
        state.phase = OVER
        data = state.adopt(record)
        state.opened_id = record.id
        view._state = state
        view._pour(data)
        return view

    def _consult(self, callback: Any, *arguments: Any) -> Flow[Any]:
        """What a deciding callback says; one that fails decides against."""
        try:
            return (yield Consult(callback, arguments))
        except Exception:
            logger.exception("session_mw: %r failed; the session is refused", _name_of(callback))
            return None

    def _take(self, session: Session, state: State, opened: Opened) -> State:
        """Pour what opened into *session*; its state."""
        record = opened.record
        data: dict[str, Any] = {}
        if record is not None:
            try:
                data = state.adopt(record)
            except ValueError:
                opened, record = Opened(reason="corrupt"), None
            else:
                state.opened_id = record.id
                if opened.pointer:
                    state.pointer = True
                if state.refused:
                    data = {}
                    state.wipe()
                    state.destroyed = True
                    state.note("destroy", state.now, "ip_changed", handle=record.id, user=record.user_id)
                elif self._tells:
                    state.note("open", state.now, handle=record.id, user=record.user_id)
        if record is None:
            if state.base is not None:  # nothing of what was refused may stay
                state = self._state(session)
            state.stale = opened.stale
            if opened.reason:
                state.note("refused", state.now, opened.reason)
        if self.config.session_ip:
            state.bound_ip = self.address(session._source) or ""
        session._state = state
        session._pour(data)
        return state

    # -- committing ---------------------------------------------------------------------------------------------

    def commit(self, session: Session) -> Verdict | Awaitable[Verdict]:
        """Carry out what *session* wishes: the verdict, or an awaitable of it where the store has to be waited for.

        Raises what ``Manager.commit`` raises; nothing is kept then.
        """
        state = session._state
        if state is None:
            return LEAVE
        with session._lock:
            if state.queue:
                session.save()
            if self.owner_key is not None and state.phase == OPEN:
                session._follow_owner(self.owner_key)
            return self._run(session, self._plan(session, state))

    def _plan(self, session: Session, state: State, *, early: bool = False) -> Verdict | Flow[Verdict]:
        home: Home = session._home
        plan: Verdict | Flow[Verdict] = home.manager.commit(
            state, session._live(), self.now(), self.random, early=early
        )
        return plan

    def _run(self, session: Session, plan: Verdict | Flow[Verdict]) -> Verdict | Awaitable[Verdict]:
        home: Home = session._home
        if isinstance(plan, Verdict):
            return plan
        if home.store is None:
            return arun(plan, home.astore)
        if not self.on_loop:
            return run(plan, home.store)
        verdict, pending = run_ready(plan, home.store)
        return arun(plan, home.astore, pending) if verdict is None else verdict

    def commit_early(self, session: Session) -> None:
        """``session.commit()``: write before the response starts, where that needs no waiting."""
        state = session._touch()
        home: Home = session._home
        plan = self._plan(session, state, early=state.phase == OPEN)
        if not isinstance(plan, Verdict):
            if home.store is None:
                plan.close()
                raise SessionStateError("this session's store must be awaited: call await session.acommit()")
            run(plan, home.store)
        self.tell(state)

    async def acommit_early(self, session: Session) -> None:
        """``session.acommit()``: the same, wherever it may have to wait."""
        state = session._touch()
        plan = self._plan(session, state, early=state.phase == OPEN)
        answer = self._run(session, plan)
        if not isinstance(answer, Verdict):
            await answer
        await self.atell(state)

    def started(self, session: Session) -> None:
        """The response start has been committed and leaves now."""
        state = session._state
        if state is not None:
            state.phase = STARTED

    def fail(self, session: Session) -> Verdict | Awaitable[Verdict]:
        """The app raised before its response started: carry out the endings it asked for, and nothing else."""
        state = session._state
        if state is None or state.phase != OPEN or not session._keep_endings():
            return LEAVE
        state.phase = STARTED  # in place: no cookie can be sent
        return self._run(session, self._plan(session, state))

    def late(self, session: Session, *, failed: bool = False) -> Verdict | Awaitable[Verdict]:
        """The app has returned or raised: write what it changed after its response started."""
        state = session._state
        if state is None or state.phase != STARTED:
            return LEAVE
        if failed:
            state.queue = ()
        if self.may_write_late(session):
            if state.queue:
                session.save()
            return self._run(session, self._plan(session, state))
        if state.changed(session._live()):
            state.note("dropped", self.now(), "late", handle=state.handle)
        return LEAVE

    async def finish(self, session: Session, *, failed: bool) -> None:
        """The app has returned or raised, on an event loop: write what is left to write, close, tell."""
        state = session._state
        if state is None:
            return
        try:
            started = state.phase == STARTED
            left = self.late(session, failed=failed) if started else self.fail(session) if failed else LEAVE
            if not isinstance(left, Verdict):
                await left
        finally:
            self.close(session, failed=failed)
            await self.atell(state)

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
        if state is not None:
            state.phase = OVER
            if self._tells:
                state.note("close", self.now(), "error" if failed else "", handle=state.handle)
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

    def require_store(self, session: Session) -> None:
        """Raises ``ConfigurationError`` for a client-kept session."""
        if session._home.manager.store is None:
            raise ConfigurationError("nothing is kept on the server; add store=")

    # -- what goes out ------------------------------------------------------------------------------------------

    def set_cookies(self, session: Session, verdict: Verdict) -> list[str]:
        """The Set-Cookie values of *verdict*. Raises ``SessionTooLargeError`` for a cookie over its budget."""
        if verdict.action is Action.LEAVE:
            return []
        cookie = self.config.cookie
        source = session._source
        header = self._reader.cookies(source)
        secure = self.is_secure(source)
        if verdict.action is Action.CLEAR:
            return cookie.clear(header, secure=secure)
        if cookie.secure is True and not secure and not self._warned_insecure:
            self._warn_insecure(source)
        return cookie.write(verdict.value, header=header, max_age=verdict.max_age, secure=secure)

    def _warn_insecure(self, source: Any) -> None:
        """Once: browsers keep a Secure cookie over plain http only on hosts they trust (W3C Secure Contexts §3.1)."""
        host = (self._reader.header(source, "host") or "").lower()
        host = host[1:].partition("]")[0] if host.startswith("[") else host.partition(":")[0]
        if host in ("localhost", "::1") or host.endswith(".localhost") or host.startswith("127."):
            return
        self._warned_insecure = True
        logger.warning(
            "session_mw: a Secure cookie was set over plain http; browsers will not send it back. Serve https, "
            "name your proxy in trusted_proxies, or for development use profile='DEVELOPMENT'."
        )

    # -- events -------------------------------------------------------------------------------------------------

    def tell(self, state: State) -> None:
        """Hand events to the callbacks that want them; what those raise is logged."""
        for callback, event in self._told(state):
            try:
                callback(event)
            except Exception:
                logger.exception("session_mw: %s failed on %r", _name_of(callback), event.name)

    async def atell(self, state: State) -> None:
        """``tell``, where callbacks may be awaited."""
        for callback, event in self._told(state):
            try:
                answer = callback(event)
                if isinstance(answer, Awaitable):
                    await answer
            except Exception:
                logger.exception("session_mw: %s failed on %r", _name_of(callback), event.name)

    def _told(self, state: State) -> list[tuple[Any, Event]]:
        events, state.events = state.events, ()
        told = []
        for event in events:
            if event.name in ("refused", "dropped"):
                logger.info("session_mw: session %s (%s)", event.name, event.reason)
            told += [
                (callback, event) for callback in (self._callbacks.get(event.name), self.config.on_event) if callback
            ]
        return told


def unavailable(config: SessionConfig, request: Any) -> tuple[int, list[tuple[str, str]], bytes]:
    """The answer while the store fails: status, headers, body (RFC 9110 §15.6.4)."""
    answer = config.store_error_response
    if callable(answer):
        status, headers, body = answer(request)
        return status, list(headers), body
    text = b"The session store is unavailable; please try again shortly.\n"
    headers = [
        ("content-type", "text/plain; charset=utf-8"),
        ("content-length", str(len(text))),
        ("retry-after", "5"),
        ("cache-control", "no-store"),
    ]
    return answer, headers, text


def build_manager(config: SessionConfig) -> Manager:
    """The manager *config* asks for: a store, else a secret. Raises ``ConfigurationError`` with neither."""
    if config.store is not None:
        return StoreManager(_open_store(config.store))
    if config.keys is not None:
        return CookieManager()
    raise missing_home_error()


def _open_store(store: Any) -> Any:
    if isinstance(store, str):
        from .stores.url import store_from_url

        return store_from_url(store)
    return store


def _name_of(callback: Any) -> str:
    return getattr(callback, "__qualname__", type(callback).__name__)
