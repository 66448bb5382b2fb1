"""One browser, one store, and two requests that are stepped through the real layer, one store operation at a time.

A *step* asks the store what a request's flow wants to know, and sends the answer in. What lies between two operations
(the handler included) touches nothing shared, so it belongs to the step before it. Responses reach the browser after
the steps: applying one to the jar changes no store, so only the order of arrivals among themselves matters, and every
order is looked at.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from msgspec import structs

from session_mw.config import SessionConfig
from session_mw.core import codec, tokens
from session_mw.core.login import new_login
from session_mw.core.operations import Close, Create, DeleteUser, Flow, Load, Operation, Outcome, Rotate, Save, Touch
from session_mw.core.payload import Meta, join, read_meta, split, write_meta
from session_mw.core.record import Record, pointer
from session_mw.core.runners import run
from session_mw.core.session import Session
from session_mw.errors import SessionNotFoundError
from session_mw.layer import SessionLayer
from session_mw.managers import LEAVE, Action, Opened, Verdict
from session_mw.managers.service import Outside, ServiceFlows
from session_mw.managers.store import StoreManager
from session_mw.stores.memory import MemoryStore

from .calls import Call
from .kinds import Effect, Kind, is_stranger, same
from .model import IDLE, NOW, View, blank

__all__ = ["STARTS", "Arrival", "Request", "World", "apply"]

Arrival = tuple[int, Verdict]
"""A response on its way: when it was decided, and its verdict."""

STARTS = ("nobody", "anonymous", "alice", "pointer")
"""What the jar holds before: no cookie; an anonymous session's token; alice's; a token whose session was regenerated
by a request whose response is still under way (alice's)."""

FIRST_LOGIN = new_login(NOW, bytes(36), "192.0.2.1", None, bound=False)


class Watched(MemoryStore):
    """A MemoryStore one can look into."""

    def records(self) -> list[Record]:
        """Every live record."""
        return list(self._live.values())


class Compensating(Watched):
    """A store that cannot rotate in one step."""

    can_rotate = False


class _Reader:
    """A request is just its Cookie header."""

    def cookies(self, source: Any) -> str:
        header: str = source.decode()
        return header

    def header(self, source: Any, name: str) -> str | None:
        return None

    def peer(self, source: Any) -> str | None:
        return "192.0.2.1"

    def scheme(self, source: Any) -> str:
        return "https"


class SteppedLayer(SessionLayer):
    """The real layer, whose flows are handed out instead of run."""

    def _carry_out(self, session: Session, plan: Any) -> Any:
        return plan

    def opening(self, session: Session) -> Flow[None]:
        """What ``fill`` and ``afill`` do, as the flow they run."""
        state = self._begin(self.now())
        opened = self.home.manager.open(self.exchange.claim(session._source), state.now)
        opened = yield from self._admission.judge(session, state, opened)
        self._take(session, state, opened)


@functools.cache
def _layer() -> SteppedLayer:
    return SteppedLayer(_config(), StoreManager(Watched()), _Reader(), on_loop=False)


@functools.cache
def _config() -> SessionConfig:
    return SessionConfig(store="memory:", clock=lambda: NOW)


class Request:
    """One request under way, or calls of a service when its kind says so."""

    def __init__(self, world: World, kind: Kind, name: str) -> None:
        self.world, self.kind, self.name = world, kind, name
        self.sent: str | None = world.dead if kind.dead else world.jar
        self.session: Session | None = None
        self.log: list[tuple[int, Operation, Any]] = []  # (time, what was asked, the answer)
        self.opened = 0  # how many of them belong to opening
        self.seen = blank()  # what the handler found
        self.found = False  # whether a session opened
        self.value: Any = None  # what the handler wrote
        self.calls: list[Call] = []  # what a service has done
        self.ended: str | None = None  # the login it ended
        self.verdict: Verdict = LEAVE
        self.unfinished: list[str] = []  # predecessors that were alive when a new token was about to leave
        self.error: Exception | None = None
        self.done = self.stopped = self.lost = False
        self.user: str | None = None  # the owner as its handler left it
        self.wipes = kind.wipes
        self.pending: Operation | None = None
        self.issued: str | None = None  # a token that left otherwise than in a response
        self.flow = self._service() if kind.service else self._request()
        self._advance(None)

    def _service(self) -> Flow[Verdict]:
        assert self.kind.service is not None
        yield from self.kind.service(self.world.service, self)
        return LEAVE

    def call(
        self, what: str, flow: Callable[..., Flow[Any]], target: str, *arguments: Any, effect: Effect = same
    ) -> Flow[Any]:
        """Make a service call about *target*, an id or a user; its answer, ``None`` where nothing was found."""
        begun = len(self.log)
        try:
            answer = yield from flow(Outside(NOW), target, *arguments)
            answer = True if answer is None else answer
        except SessionNotFoundError:
            answer = None
        overlooked = self._overlooked(self.log[begun:])
        self.world.settle()
        label = self.world.label(target)
        self.calls.append(Call(what, self.took, answer, label, effect, overlooked, self._spared()))
        return answer

    def _overlooked(self, log: list[tuple[int, Operation, Any]]) -> int | None:
        """The deadline that a call has written, where it could not know of another's.

        A touch neither heeds nor changes the version, or it would make everybody's save fail. So nobody notices one
        that came between the look and the write; and it knows nothing of a lifetime that came between its own.
        """
        looks = [(time, answer) for time, asked, answer in log if isinstance(asked, Load) and answer is not None]
        writes = [asked for _, asked, _ in log if isinstance(asked, Create | Rotate | Save | Touch)]
        if not looks or not writes:
            return None
        looked, seen = looks[-1]
        between = [
            asked
            for other in self.world.requests
            for time, asked, _ in other.log
            if other is not self and looked < time
        ]
        mine = writes[-1]
        if isinstance(mine, Touch):
            lives = (asked.record.lifetime for asked in between if isinstance(asked, Save))
            return mine.expires_at if any(lifetime != seen.lifetime for lifetime in lives) else None
        if isinstance(mine, Save) and mine.payload_only:
            return None
        touched = any(isinstance(asked, Touch) and asked.id == seen.id for asked in between)
        return mine.record.expires_at if touched else None

    def _spared(self) -> str | None:
        """The session that the last call left alone."""
        asked = self.log[-1][1]
        return self.world.label(asked.except_id) if isinstance(asked, DeleteUser) and asked.except_id else None

    def _request(self) -> Flow[Verdict]:
        layer = self.world.layer
        header = b"" if self.sent is None else f"{layer.cookie_name}={self.sent}".encode()
        session = self.session = layer.session(header)
        yield from layer.opening(session)
        self.opened = len(self.log)
        self.found = session.opened_id is not None
        self.seen = self.world.view_of(session)
        self.wipes = self.wipes or (self.kind.is_login and is_stranger(self.seen, self.kind.user))
        self.kind.handle(session, self)
        self.user = session.user_id
        if session.login_token:
            self.world.logins.setdefault(session.login_token, self.name)
        if self.seen.login is not None and session.login_token is None:
            self.ended = self.seen.login
        plan: Any = layer.commit(session)
        verdict: Verdict = plan if isinstance(plan, Verdict) else (yield from plan)
        if session._state is not None:
            session._state.start_response()
        return verdict

    def stamp(self, session: Session) -> str:
        """A value that tells who wrote it, and as whom."""
        value = self.value = f"{session.user_id or '-'}:{self.name}"
        return value

    @property
    def point(self) -> int:
        """When it took effect: the time of its last operation."""
        return self.log[-1][0] if self.log else -1

    @property
    def took(self) -> int:
        """When its session came to be or changed.

        That is its point, but where the new session was made a step before the old one was ended, and a service call
        came between them that destroyed the new one: it was there by then, whether the caller meant it or not.
        """
        if len(self.log) < 2 or not isinstance(self.log[-1][1], Close) or self.log[-1][2] is not Outcome.DELETED:
            return self.point  # no rotation in two steps
        began, operation, _ = self.log[-2]
        swept = {
            asked.user_id
            for other in self.world.requests
            for time, asked, _ in other.log
            if isinstance(asked, DeleteUser) and began < time < self.point
        }
        return began if isinstance(operation, Create) and operation.record.user_id in swept else self.point

    def step(self) -> None:
        """Ask, and hand the answer in."""
        assert self.pending is not None
        world = self.world
        answer = self.pending.ask(world.store)
        self.log.append((world.time, self.pending, answer))
        world.time += 1
        self._advance(answer)

    def finish(self) -> None:
        """Step to the end."""
        while not self.done:
            self.step()

    def stop(self) -> None:
        """Die here: nothing further is asked, no response leaves."""
        self.stopped, self.lost, self.done = not self.done, self.done, True
        self.pending = None

    def _advance(self, answer: Any) -> None:
        try:
            self.pending = self.flow.send(answer)
        except StopIteration as stop:
            self.verdict, self.done, self.pending = stop.value, True, None
            self._note_predecessors()
        except Exception as error:
            self.error, self.done, self.pending = error, True, None

    def _note_predecessors(self) -> None:
        """A response is about to leave: with a new token, nothing it replaces may still be alive."""
        if self.verdict.action is Action.SET and self.session is not None:
            opened, new = self.session.opened_id, self.verdict.value
            kept = self.world.store.load(opened) if opened and not new.startswith(opened) else None
            if kept is not None and not kept.closed:
                self.unfinished.append(self.world.labels[kept.id])


class World:
    """A start, and the requests sent in it. Deterministic: the same choices lead to the same world."""

    def __init__(self, start: str, can_rotate: bool, idle: int) -> None:
        self.start = start
        self.store = Watched() if can_rotate else Compensating()
        self.layer = _layer()
        manager: Any = self.layer.home.manager
        manager.store = self.store
        self.layer.home = self.layer.home._replace(store=self.store)
        self.layer.random = self._random
        self.service = ServiceFlows(self.store, _config(), self._random)
        self.time = 0
        self.requests: list[Request] = []
        self.labels: dict[str, str] = {}  # record id -> who began it
        self.logins: dict[str, str] = {}  # login token -> who logged in
        self.under_way: str | None = None  # a token in a response of an earlier request
        self._counter = 0
        self.dead = self._mint().text
        self.jar: str | None = None
        self.first: View | None = None
        self.start_id = "A" * tokens.ID_LENGTH
        self._bury(self.dead)
        if start != "nobody":
            token = self._mint()
            self.jar, self.start_id = token.text, token.id
            record = _first_record(None if start == "anonymous" else "alice", idle)
            record = structs.replace(record, id=token.id, digest=tokens.digest(token.secret))
            self.logins[FIRST_LOGIN.token] = "start"
            self.store.create(record)
            self.first = self.read(record)
            self.labels[token.id] = "start"
            if start == "pointer":
                successor = self._mint()
                self.under_way, self.start_id = successor.text, successor.id
                moved = structs.replace(record, id=successor.id, digest=tokens.digest(successor.secret))
                self.store.rotate(moved, token.id, 1, until=NOW + 60, successor=pointer(moved, NOW + 30))
                self.labels = {successor.id: "start", token.id: "old"}
        self.first_token = self.jar
        self.labels[self.dead.partition(".")[0]] = "dead"

    def _random(self, size: int) -> bytes:
        self._counter += 1
        return (self._counter.to_bytes(3, "little") * size)[:size]  # ids and secrets differ, both

    def _mint(self) -> tokens.Token:
        return tokens.mint(self._random(tokens.RANDOM_BYTES))

    def _bury(self, token: str) -> None:
        """A session with this token ended a moment ago."""
        named, _, secret = token.partition(".")
        until = NOW + 60
        self.store.create(
            Record(named, tokens.digest(secret), None, NOW, NOW, until, until, None, None, None, 1, join(b"{}", b""))
        )
        self.store.close(named, 1, until=until)

    def send(self, kind: Kind) -> Request:
        """Send a request with the cookie the jar holds now."""
        request = Request(self, kind, "AB"[len(self.requests)])
        self.requests.append(request)
        return request

    def receive(self, verdict: Verdict) -> None:
        """A response arrives."""
        self.settle()
        self.jar = apply(self.jar, verdict)

    def settle(self) -> None:
        """Learn who began which record."""
        for request in self.requests:
            for _, operation, _ in request.log:
                if isinstance(operation, Create | Rotate):
                    self.labels.setdefault(operation.record.id, request.name)

    # -- looking ------------------------------------------------------------------------------------------------

    def label(self, token: str) -> str:
        """Who began the session of *token*."""
        named = token.partition(".")[0]
        return self.labels.get(named, named)

    def view_of(self, session: Session) -> View:
        """What a handler sees."""
        state = session._state
        assert state is not None
        login = state.login("global")
        view = blank()
        view.data, view.owner = state.stored_items("global"), session.user_id
        view.login = None if login is None else self.logins.get(login.token, "?")
        view.attempts, view.former = session.attempts, state.kept().former or None
        return view

    def read(self, record: Record) -> View:
        """What a live record holds."""
        held, rest = split(record.payload)
        meta = read_meta(rest)
        login = meta.logins.get("global")
        name = None if login is None else self.logins.get(login.token, "?")
        attempts = meta.attempts.get("global", 0)
        deadlines = (record.lifetime, record.expires_at, meta.persistent)
        return View(codec.decode(held), record.user_id, name, meta.former or None, attempts, *deadlines)

    def opens(self, token: str | None) -> Record | None:
        """The live record a fresh request with *token* would get."""
        if token is None:
            return None
        opened = self.layer.home.manager.open([token], NOW)
        return (opened if isinstance(opened, Opened) else run(opened, self.store)).record


def apply(jar: str | None, verdict: Verdict) -> str | None:
    """What the browser does with a response."""
    if verdict.action is Action.LEAVE:
        return jar
    return verdict.value if verdict.action is Action.SET else None


@functools.cache
def _first_record(owner: str | None, idle: int) -> Record:
    """The session of the start."""
    then = NOW - idle
    by = f"{owner or '-'}:start"
    data = codec.encode({"k": by, "n": 1, "cart": {"items": [by]}}, "global")
    meta = Meta() if owner is None else Meta(logins={"global": structs.replace(FIRST_LOGIN, at=then)})
    payload = join(data, write_meta(meta))
    return Record("", b"", owner, then, then, then + IDLE, then + 604800, None, None, None, 1, payload)
