"""RevocableCookieManager: sealed cookies that can be ended before their deadlines.

A sealed cookie alone opens until its time is over, wherever a copy of it lies. With ``revocation=`` a store remembers
what has ended: an entry for each id that a login, logout, regenerate or destroy left behind, and one for each user
whose other sessions were ended. An entry holds a moment, no data, and lasts as long as any seal it concerns.

* A seal is opened only if it has not ended; one that was in use less than ``revocation_staleness`` seconds ago was
  asked about then, and is not asked about again.
* Before every seal the list is asked. Whoever comes too late is served with what they opened, keeps no change and gets
  no cookie, since the browser may hold a newer one. Only a login stands on its own proof.
* To rotate is to make the entry of the old id: ``create`` never overwrites, so of two requests that end the same
  session one succeeds. The entry names the successor: within the grace a seal is as good as its successor, and an
  ending follows to wherever a rotation has taken the session.
"""

from __future__ import annotations

import hashlib
from binascii import b2a_base64

import msgspec

from ..config import SessionConfig
from ..core.lifetime import CLOSED_SECONDS
from ..core.operations import AsyncStore, Create, Flow, Load, Outcome, Save, Store
from ..core.record import Record
from ..core.state import State
from ..core.tokens import Token
from ..errors import ConfigurationError, StoreConflictError, StoreError
from . import LEAVE, Live, Opened, Random, Verdict
from .cookie import CookieManager
from .store import HOPS, TRIES

__all__ = ["RevocableCookieManager"]

_URLSAFE = bytes.maketrans(b"+/", b"-_")


class RevocableCookieManager:
    """Seals sessions into the cookie, and asks the store *ended* which of them are over."""

    store = None

    def __init__(self, ended: Store | AsyncStore) -> None:
        self.consults = ended
        self._seals = CookieManager()

    def configure(self, config: SessionConfig) -> None:
        """As ``CookieManager`` does. Raises ``ConfigurationError`` without ``secret_key``, or for a forgetful store."""
        if getattr(self.consults, "evicts", False):
            raise ConfigurationError(
                "revocation= needs a store that forgets nothing before its time, and when this one is full it makes "
                'room: what has ended would open again; write revocation="sqlite:///ended.db", '
                'or for tests "memory:?evict=0" or MemoryStore(evict=False)'
            )
        self._seals.configure(config)
        self._staleness = config.revocation_staleness
        self._application = config.table_index
        self._absolute = config.absolute_timeout

    # -- opening ------------------------------------------------------------------------------------------------

    def open(self, values: list[str], now: int) -> Opened | Flow[Opened]:
        """What a seal holds; a flow where the list has to be asked about it."""
        opened = self._seals.open(values, now)
        record = opened.record
        if record is None or now - record.last_activity < self._staleness:
            return opened
        return self._admitted(opened, record, now)

    def _admitted(self, opened: Opened, record: Record, now: int) -> Flow[Opened]:
        over = yield from self._fate(record, now, ending=False)
        if isinstance(over, str):
            return opened
        if now < over + CLOSED_SECONDS:  # a newer cookie may be on its way
            return Opened(reason="stale_token", stale=True)
        return Opened(reason="ended")

    def _lives_as(self, record: Record, now: int, *, ending: bool = False) -> Flow[str | None]:
        """The id under which the session of *record* goes on at *now*; ``None``: it is over."""
        fate = yield from self._fate(record, now, ending=ending)
        return fate if isinstance(fate, str) else None

    def _fate(self, record: Record, now: int, *, ending: bool) -> Flow[str | int]:
        """The id under which the session of *record* goes on at *now*, or the moment at which it was over.

        A seal that was rotated away stands for its successor during the grace; an *ending* follows longer.
        """
        ids = [record.id]
        entry: Record | None
        while (entry := (yield Load(ids[-1]))) is not None:
            until, successor = _moment(entry)
            if not successor or not (ending or now < until) or len(ids) > HOPS:
                return until
            ids.append(successor)
        if record.user_id is not None:
            everywhere: Record | None = yield Load(self._user_entry(record.user_id))
            if everywhere is not None:
                moment, kept = _moment(everywhere)
                if record.created_at <= moment and kept not in ids:
                    return moment
        return ids[-1]

    def take_over(self, record: Record, token: Token, now: int, random: Random) -> Opened | Flow[Opened]:
        """*record*, made of another library's cookie, unless it has ended: its id is always the same."""
        opened = self._seals.take_over(record, token, now, random)
        return opened if opened.record is None else self._admitted_from(opened, record, now)

    def _admitted_from(self, opened: Opened, record: Record, now: int) -> Flow[Opened]:
        alive = yield from self._lives_as(record, now)
        return Opened(reason="legacy_ended") if alive is None else opened

    def recheck(self, seen: Record, now: int, *, active: bool) -> Record | Flow[Record | None] | None:
        """*seen*, under the id it goes on as, unless its time has passed or it was ended."""
        return self._goes_on(seen, now) if self._seals.recheck(seen, now, active=active) is not None else None

    def _goes_on(self, seen: Record, now: int) -> Flow[Record | None]:
        alive = yield from self._lives_as(seen, now)
        return None if alive is None else msgspec.structs.replace(seen, id=alive)

    # -- committing ---------------------------------------------------------------------------------------------

    def commit(
        self, state: State, live: Live, now: int, random: Random, early: bool = False
    ) -> Verdict | Flow[Verdict]:
        """Seal what is to be kept, unless the session has ended meanwhile."""
        if early:
            return LEAVE
        changed = state.changed(live)
        if state.stale and not state.wish.logged_in:
            if changed and not state.dropped:
                state.drop(now, "stale_token")
            return LEAVE if state.end_others is None else self._end_others(state, state.end_others, None, now)
        base = state.base
        if not changed and state.end_others is None and not self._seals.reseal_due(state, base, now):
            return LEAVE
        return self._change(state, live, base, now, random)

    def _change(self, state: State, live: Live, base: Record | None, now: int, random: Random) -> Flow[Verdict]:
        record, verdict = self._seals.seal(state, live, base, now, random)  # first: it may be too large
        alive = None
        if base is not None and now < base.expires_at:  # else its time has passed since it was opened
            alive = yield from self._leave(state, base, record, now)
        gone = base is not None and alive != base.id  # who comes in the grace may read, not write
        if gone and state.wish.logged_in:
            gone, base = False, None
            record, verdict = self._seals.seal(state, live, base, now, random)
        if state.end_others is not None:
            kept = alive if gone else None if record is None else record.id
            yield from self._end_others(state, state.end_others, kept, now)
        if gone:
            state.drop(now, "gone")
            return LEAVE
        if base is not None and base.user_id is not None and record is not None and record.id != base.id:
            yield from self._follow(base.user_id, base.id, record.id)
        self._seals.keep(state, record, base, now)
        state.stale = False
        return verdict

    def _leave(self, state: State, base: Record, record: Record | None, now: int) -> Flow[str | None]:
        """Make the entry of *base* where *record* does not go on under its id; the id the session lived under till now.

        An ending was asked for by somebody who saw the session alive: it is carried out wherever a concurrent rotation
        has taken the session.
        """
        ends = state.ends()
        leaves = ends or record is None or state.wish.rotating
        for _ in range(TRIES):
            alive = yield from self._lives_as(base, now, ending=ends)
            if alive is None or not leaves or not (ends or alive == base.id):
                return alive
            goes_on = alive == base.id and state.wish.rotating and not (state.wish.logged_in or state.wish.wiped)
            successor = record.id if record is not None and goes_on else ""
            if (yield Create(_entry(alive, now + state.overlap(), successor, base.absolute_expires_at))) is True:
                return alive
        raise StoreConflictError(TRIES)

    # -- users --------------------------------------------------------------------------------------------------

    def _user_entry(self, user: str) -> str:
        """The id of a user's entry; it tells who that is to nobody who does not know the name."""
        name = f"session_mw ended\0{self._application}\0{user}".encode()
        return b2a_base64(hashlib.sha256(name).digest()[:18], newline=False).translate(_URLSAFE).decode("ascii")

    def _end_others(self, state: State, user: str, kept: str | None, now: int) -> Flow[Verdict]:
        """Every session of *user* that began until *now* is over, but for the session *kept*."""
        entry, until = self._user_entry(user), now + self._absolute
        for _ in range(TRIES):
            old: Record | None = yield Load(entry)
            if old is None:
                done = (yield Create(_entry(entry, now, kept or "", until))) is True
            else:
                newer = _entry(entry, now, kept or "", until, old.version + 1)
                done = (yield Save(newer, old.version, False)) is Outcome.SAVED
            if done:
                state.end_others = None
                return LEAVE
        raise StoreConflictError(TRIES)

    def _follow(self, user: str, before: str, after: str) -> Flow[None]:
        """The session that survived the end of its user's others goes on under the id *after*."""
        handle = self._user_entry(user)
        for _ in range(TRIES):
            old: Record | None = yield Load(handle)
            if old is None or _moment(old)[1] != before:
                return
            entry = _entry(handle, _moment(old)[0], after, old.absolute_expires_at, old.version + 1)
            if (yield Save(entry, old.version, False)) is Outcome.SAVED:
                return
        raise StoreConflictError(TRIES)


def _entry(id: str, moment: int, kept: str, until: int, version: int = 1) -> Record:
    """That what *id* stands for is over from *moment* on, but for the session *kept*, or goes on as that.

    Remembered *until*; both in Unix seconds.
    """
    payload = f"{moment}:{kept}".encode()
    return Record(id, b"", None, moment, moment, until, until, None, None, None, version, payload)


def _moment(entry: Record) -> tuple[int, str]:
    """When what *entry* is about ends, and the session that does not. Raises ``StoreError`` for a foreign record."""
    moment, _, kept = entry.payload.partition(b":")
    try:
        return int(moment), kept.decode("ascii")
    except ValueError:
        raise StoreError("a record among what has ended is damaged, or none of ours; delete it") from None
