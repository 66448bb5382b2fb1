"""ServiceFlows: what the SessionService does to records; a StoreManager asked by code instead of by clients.

Decided here: what differs from a request.

* An id is enough: code is trusted, clients are not. Only ``authenticate`` takes what a client sent.
* Looking, changing and regenerating are no activity: only ``touch`` slides a deadline, only ``extend`` adds to it.
* A session whose data were emptied stays; it was made on purpose, and ends on purpose.
* A new id has no token: nobody can carry the session before ``issue_token``.
* Where a request would drop its changes, the caller is told: ``SessionNotFoundError``, ``SessionExpiredError``.

An id that was replaced a moment ago names its successor for as long as its token would; an ending follows longer.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any, ClassVar, cast

import msgspec

from ..config import SessionConfig
from ..core.changes import ABSENT, Replay
from ..core.lifetime import Limits, expired, own_limit, slide
from ..core.login import LOGIN_RANDOM_BYTES, new_login, owner_id
from ..core.operations import (
    AsyncStore,
    Consult,
    Delete,
    DeleteUser,
    Flow,
    ListUser,
    Load,
    Outcome,
    Purge,
    Save,
    Store,
    Touch,
)
from ..core.payload import DEFAULT_STORAGE
from ..core.record import Record, SessionRecord
from ..core.state import State
from ..core.tokens import RANDOM_BYTES, Token, digest, is_id, mint
from ..errors import SessionExpiredError, SessionLogicError, SessionNotFoundError, StoreConflictError, StoreError
from . import Opened, Random, Verdict
from .claims import moved, objection, vetoed
from .store import TRIES, StoreManager

__all__ = ["PURGE_BATCH", "Outside", "ServiceFlows", "WatchedOutside"]

PURGE_BATCH = 1000
"""Records one purge takes, so that a sweep is made of short calls."""

_EVER = 2**40  # seconds; past every deadline

Data = dict[str, Any]


class Outside(State):
    """The state of a session that is acted on from outside a request."""

    outside: ClassVar[bool] = True
    keeps_empty: ClassVar[bool] = True


class WatchedOutside(Outside):
    """The same, where somebody listens to events."""

    tells: ClassVar[bool] = True


class ServiceFlows:
    """Every flow takes the ``State`` of its call: it acts at ``state.now`` and notes its events there."""

    def __init__(self, store: Store | AsyncStore, config: SessionConfig, random: Random) -> None:
        self._manager = StoreManager(store)
        self._manager.configure(config)
        self._limits = Limits(config.idle_timeout, config.absolute_timeout, config.touch_after(stored=True))
        self._config = config
        self._random = random

    # -- beginning ----------------------------------------------------------------------------------------------

    def create(
        self, state: State, user_id: object, data: Mapping[str, Any] | None, lifetime: int | timedelta | None
    ) -> Flow[str]:
        live = dict(data or {})
        owner = None if user_id is None else owner_id(user_id)
        if lifetime is not None:
            state.wishing().lifetime = own_limit(lifetime, self._limits, "lifetime")
        if owner is not None:
            login = new_login(state.now, self._random(LOGIN_RANDOM_BYTES), None, None, bound=False)
            wish = state.wishing()
            wish.logins, wish.owner, wish.logged_in = {DEFAULT_STORAGE: login}, owner, login
            if self._config.owner_key is not None:  # there the app's own key is the login
                live.setdefault(self._config.owner_key, owner)
        handle = yield from self._begin(state, live)
        if owner is not None:
            state.note("login", state.now, handle=handle, user=owner)
        return handle

    def regenerate(self, state: State, id: str) -> Flow[str]:
        turn, handle = state, id
        for _ in range(TRIES):
            try:
                record = yield from self._live(turn, handle)
                new = yield from self._begin(turn, self._adopt(turn, record))
            finally:
                state.events = turn.events
            if turn.handle == new:
                return new
            handle = turn.handle or handle  # somebody else has just replaced it, and a client has that token
            turn = type(state)(state.now)
            turn.events = state.events
        raise StoreConflictError(TRIES)

    def _begin(self, state: State, live: Data) -> Flow[str]:
        """Write *live* under a new id that nobody can carry yet."""
        state.token = token = Token(mint(self._random(RANDOM_BYTES)).id, "")
        state.wishing().rotating = True
        yield from self._write(state, live)
        return token.id

    # -- tokens -------------------------------------------------------------------------------------------------

    def issue_token(self, state: State, id: str, replace: bool) -> Flow[str]:
        secret = mint(self._random(RANDOM_BYTES)).secret

        def with_token(record: Record) -> Record:
            if record.digest and not replace:
                raise SessionLogicError("this session has a live token; replace=True ends it and issues another")
            return msgspec.structs.replace(record, digest=digest(secret))

        record = yield from self._rewrite(state, id, with_token, "token")
        return Token(record.id, secret).text

    def authenticate(self, state: State, token: str | None, ip: str | None) -> Flow[SessionRecord | None]:
        plan = self._manager.open([token] if isinstance(token, str) else [], state.now)
        opened = plan if isinstance(plan, Opened) else (yield from plan)
        record, reason = opened.record, opened.reason
        if record is not None:
            reason = (yield from objection(self._config, state, record, ip)) or ""
            if not reason and self._config.strict_session_ip and moved(self._config, state, ip):
                reason = "address"
        if record is None or reason:
            if reason:
                state.note("refused", state.now, reason)
            return None
        state.note("open", state.now, handle=record.id, user=record.user_id)
        return SessionRecord.of(record)

    # -- looking ------------------------------------------------------------------------------------------------

    def data(self, state: State, id: str) -> Flow[Data | None]:
        record = yield from self._seen(state, id)
        return None if record is None else self._adopt(state, record)

    def record(self, state: State, id: str) -> Flow[SessionRecord | None]:
        record = yield from self._seen(state, id)
        return None if record is None else SessionRecord.of(record, self._adopt(state, record))

    def is_valid(self, state: State, id: str) -> Flow[bool]:
        record = yield from self._seen(state, id)
        if record is None or self._opened(State(state.now), record) is None:
            return False
        return not (yield from vetoed(self._config, record))

    def of_user(self, state: State, user_id: object) -> Flow[list[Record]]:
        """The live records of a user, newest first."""
        records: list[Record] = yield ListUser(owner_id(user_id))
        return [record for record in records if not expired(record, state.now)]

    def ids(self, state: State, user_id: object) -> Flow[list[str]]:
        return [record.id for record in (yield from self.of_user(state, user_id))]

    def records(self, state: State, user_id: object) -> Flow[list[SessionRecord]]:
        return [SessionRecord.of(record) for record in (yield from self.of_user(state, user_id))]

    def find(
        self, state: State, user_id: object, predicate: Callable[[SessionRecord], object]
    ) -> Flow[list[SessionRecord]]:
        found = []
        for record in (yield from self.of_user(state, user_id)):
            data = self._opened(State(state.now), record)
            if data is None:  # one damaged session does not hide the others
                state.note("refused", state.now, "corrupt", handle=record.id, user=record.user_id)
                continue
            shown = SessionRecord.of(record, data)
            if predicate(shown):
                found.append(shown)
        return found

    # -- changing -----------------------------------------------------------------------------------------------

    def update(self, state: State, id: str, data: Mapping[str, Any]) -> Flow[None]:
        def merge(live: Data) -> None:
            for key, value in dict(data).items():
                state.keep_replay(DEFAULT_STORAGE, key, Replay.assignment(key, value))
                live[key] = value

        yield from self._edit(state, id, merge)

    def update_with(self, state: State, id: str, key: str, function: Callable[[Any], Any], default: Any) -> Flow[Any]:
        def call(live: Data) -> None:
            replay = Replay(None)
            live[key], replay = replay.call(key, function, live.get(key, ABSENT), default)
            state.keep_replay(DEFAULT_STORAGE, key, replay)

        return (yield from self._edit(state, id, call))[key]

    def replace(self, state: State, id: str, data: Mapping[str, Any]) -> Flow[None]:
        def put(live: Data) -> None:
            state.wishing().cleared = frozenset((DEFAULT_STORAGE,))
            live.clear()
            live.update(data)

        yield from self._edit(state, id, put)

    def delete_keys(self, state: State, id: str, keys: tuple[str, ...]) -> Flow[None]:
        def drop(live: Data) -> None:
            for key in keys:
                live.pop(key, None)

        yield from self._edit(state, id, drop)

    def _edit(self, state: State, id: str, edit: Callable[[Data], None]) -> Flow[Data]:
        """What storage ``global`` holds after *edit*, on top of whatever others write meanwhile."""
        record = yield from self._live(state, id)
        live = self._adopt(state, record)
        edit(live)
        if state.changed({DEFAULT_STORAGE: live}):
            yield from self._write(state, live)
        return live

    # -- time ---------------------------------------------------------------------------------------------------

    def extend(self, state: State, id: str, seconds: int) -> Flow[int]:
        if type(seconds) is not int or seconds <= 0:
            raise ValueError("extend_session: seconds must be a whole number above 0")

        def later(record: Record) -> Record:
            return msgspec.structs.replace(
                record, expires_at=min(record.expires_at + seconds, record.absolute_expires_at)
            )

        record = yield from self._rewrite(state, id, later, "save")
        return record.expires_at

    def touch(self, state: State, id: str) -> Flow[int]:
        for _ in range(TRIES):
            record = yield from self._live(state, id)
            until = slide(record, state.now, self._limits)
            if (yield Touch(record.id, state.now, until)) is True:  # else it has ended, or gone on under a new id
                return until
        raise StoreConflictError(TRIES)

    # -- ending -------------------------------------------------------------------------------------------------

    def destroy(self, state: State, id: str) -> Flow[bool]:
        record = yield from self._loaded(id)
        live = yield from self._manager.successor(record, state.now, ending=True)
        if live is None:
            yield from self._sweep(state, record)
            return False
        state.base = live
        state.wipe()
        state.wishing().destroyed = True
        try:
            yield from self._write(state, {})
        except SessionNotFoundError:  # somebody else was faster
            return False
        state.note("destroy", state.now, handle=live.id, user=live.user_id)
        return True

    def destroy_user(self, state: State, user_id: object, except_id: str | None) -> Flow[int]:
        owner = owner_id(user_id)
        kept = None if except_id is None else (yield from self._seen(state, except_id))
        spared = None if kept is None else kept.id
        ended: list[Record] = (yield ListUser(owner)) if state.tells else []
        count: int = yield DeleteUser(owner, spared)
        for record in ended:
            if record.id != spared:
                state.note("destroy", state.now, "user", handle=record.id, user=owner)
        return count

    def destroy_all(self, state: State, progress: Callable[[int], Any] | None = None) -> Flow[int]:
        count = yield from self._purge(_EVER, None, progress)
        if count:
            state.note("destroy", state.now, "all")
        return count

    def purge(self, state: State, limit: int | None, progress: Callable[[int], Any] | None) -> Flow[int]:
        if limit is not None and (type(limit) is not int or limit < 1):
            raise ValueError("cleanup_expired_sessions: limit must be a whole number of at least 1, or None")
        return (yield from self._purge(state.now, limit, progress))

    def _purge(self, until: int, limit: int | None, progress: Callable[[int], Any] | None) -> Flow[int]:
        done = 0
        while limit is None or done < limit:
            batch = PURGE_BATCH if limit is None else min(PURGE_BATCH, limit - done)
            purged: int = yield Purge(until, batch)
            done += purged
            if purged and progress is not None:
                yield Consult(progress, (done,))
            if purged < batch:
                break
        return done

    # -- shared -------------------------------------------------------------------------------------------------

    def _loaded(self, id: str) -> Flow[Record | None]:
        if not isinstance(id, str) or not is_id(id):
            return None
        record: Record | None = yield Load(id)
        return record

    def _live(self, state: State, id: str) -> Flow[Record]:
        """The record of *id*, or its successor. Raises ``SessionNotFoundError``, ``SessionExpiredError``."""
        record = yield from self._loaded(id)
        live = yield from self._manager.successor(record, state.now)
        if live is not None:
            return live
        if (yield from self._sweep(state, record)):
            raise SessionExpiredError
        raise SessionNotFoundError

    def _seen(self, state: State, id: str) -> Flow[Record | None]:
        try:
            return (yield from self._live(state, id))
        except SessionNotFoundError:
            return None

    def _sweep(self, state: State, record: Record | None) -> Flow[bool]:
        """Whether *record* ended by time; then it is deleted."""
        if record is None or record.closed:
            return False
        if (yield Delete(record.id, record.version)) is Outcome.DELETED:
            state.note("destroy", state.now, "expired", handle=record.id, user=record.user_id)
        return True

    def _opened(self, state: State, record: Record) -> Data | None:
        """A copy of storage ``global`` of *record*, which *state* adopts; ``None`` for a damaged one."""
        unsealed = self._manager.unsealed(record)
        try:
            return None if unsealed is None else dict(state.adopt(unsealed))
        except ValueError:
            return None

    def _adopt(self, state: State, record: Record) -> Data:
        data = self._opened(state, record)
        if data is None:
            raise _damaged()
        return data

    def _write(self, state: State, live: Data) -> Flow[None]:
        """Commit, as a request would. Raises ``SessionNotFoundError`` when the session ended meanwhile."""
        plan = self._manager.commit(state, {DEFAULT_STORAGE: live}, state.now, self._random)
        yield from cast("Flow[Verdict]", plan)  # there is something to do
        if state.stale:
            raise SessionNotFoundError

    def _rewrite(self, state: State, id: str, change: Callable[[Record], Record], told: str) -> Flow[Record]:
        """*change* a record and leave its payload as it is: what is kept now."""
        for _ in range(TRIES):
            record = yield from self._live(state, id)
            plain = self._manager.unsealed(record)  # a seal holds for one digest and version
            if plain is None:
                raise _damaged()
            changed = change(plain)
            if changed == plain:
                return record
            changed = msgspec.structs.replace(changed, version=record.version + 1)
            if (yield Save(self._manager.sealed(changed, self._random), record.version)) is Outcome.SAVED:
                state.note(told, state.now, handle=record.id, user=record.user_id)
                return changed
        raise StoreConflictError(TRIES)


def _damaged() -> StoreError:
    return StoreError("a stored session is damaged; destroy it")
