"""RevocableCookieManager: sealed cookies that can be ended before their deadlines.

A sealed cookie alone opens until its time is over, wherever a copy of it lies. With ``revocation=`` a store remembers
what has ended: an entry for each id that a login, logout, regenerate or destroy left behind, and one for each user
whose other sessions were ended. An entry holds a moment, no data, and lasts as long as any seal it concerns.

* A seal is opened only if it has not ended; one that was in use less than ``revocation_staleness`` seconds ago was
  asked about then, and is not asked about again.
* Before every seal the list is asked. Whoever comes too late is served with what they opened, keeps no change and gets
  no cookie, since the browser may hold a newer one. Only a login stands on its own proof.
* To rotate is to make the entry of the old id: ``create`` never overwrites, so of two requests that end the same
  session one succeeds.
"""

from __future__ import annotations

import hashlib
from binascii import b2a_base64

from ..config import SessionConfig
from ..core.operations import AsyncStore, Create, Flow, Load, Outcome, Save, Store
from ..core.record import Record
from ..core.state import State
from ..core.tokens import Token
from ..errors import StoreConflictError, StoreError
from . import LEAVE, Live, Opened, Random, Verdict
from .cookie import CookieManager
from .store import TRIES

__all__ = ["RevocableCookieManager"]

_URLSAFE = bytes.maketrans(b"+/", b"-_")


class RevocableCookieManager:
    """Seals sessions into the cookie, and asks the store *ended* which of them are over."""

    store = None

    def __init__(self, ended: Store | AsyncStore) -> None:
        self.consults = ended
        self._seals = CookieManager()

    def configure(self, config: SessionConfig) -> None:
        """As ``CookieManager`` does. Raises ``ConfigurationError`` without ``secret_key``."""
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
        ended = yield from self._has_ended(record, now)
        return Opened(reason="stale_token", stale=True) if ended else opened

    def _has_ended(self, record: Record, now: int, *, graced: bool = True) -> Flow[bool]:
        """Whether the session of *record* is over at *now*; one with a grace is over after it, or at once."""
        entry: Record | None = yield Load(record.id)
        if entry is not None and not (graced and now < _moment(entry)[0]):
            return True
        if record.user_id is None:
            return False
        everywhere: Record | None = yield Load(self._user_entry(record.user_id))
        if everywhere is None:
            return False
        moment, kept = _moment(everywhere)
        return record.created_at <= moment and record.id != kept

    def take_over(self, record: Record, token: Token, now: int, random: Random) -> Opened | Flow[Opened]:
        """*record*, made of another library's cookie, unless it has ended: its id is always the same."""
        opened = self._seals.take_over(record, token, now, random)
        return opened if opened.record is None else self._admitted_from(opened, record, now)

    def _admitted_from(self, opened: Opened, record: Record, now: int) -> Flow[Opened]:
        return Opened(reason="legacy_ended") if (yield from self._has_ended(record, now)) else opened

    def recheck(self, state: State, now: int, *, active: bool) -> bool | Flow[bool]:
        """Whether the session of an open socket has neither expired nor been ended."""
        if state.base is None or not self._seals.recheck(state, now, active=active):
            return False
        return self._goes_on(state.base, now)

    def _goes_on(self, record: Record, now: int) -> Flow[bool]:
        return not (yield from self._has_ended(record, now))

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
            return LEAVE
        base = state.base
        if not changed and state.end_others is None and not self._seals.reseal_due(state, base, now):
            return LEAVE
        return self._change(state, live, base, now, random)

    def _change(self, state: State, live: Live, base: Record | None, now: int, random: Random) -> Flow[Verdict]:
        record, verdict = self._seals.seal(state, live, base, now, random)  # first: it may be too large
        if base is not None:
            over = yield from self._has_ended(base, now, graced=False)  # who comes in the grace may read, not write
            if not over and (record is None or state.wish.rotating or state.ends()):
                until = base.absolute_expires_at
                over = (yield Create(_entry(base.id, now + state.overlap(), "", until))) is not True
            if over:
                if not state.wish.logged_in:
                    state.drop(now, "gone")
                    return LEAVE
                base = None
                record, verdict = self._seals.seal(state, live, base, now, random)
        if state.end_others is not None:
            yield from self._end_others(state.end_others, record.id if record is not None else "", now)
        elif base is not None and base.user_id is not None and record is not None and record.id != base.id:
            yield from self._follow(base.user_id, base.id, record.id)
        self._seals.keep(state, record, base, now)
        state.stale, state.end_others = False, None
        return verdict

    # -- users --------------------------------------------------------------------------------------------------

    def _user_entry(self, user: str) -> str:
        """The id of a user's entry; it tells who that is to nobody who does not know the name."""
        name = f"session_mw ended\0{self._application}\0{user}".encode()
        return b2a_base64(hashlib.sha256(name).digest()[:18], newline=False).translate(_URLSAFE).decode("ascii")

    def _end_others(self, user: str, kept: str, now: int) -> Flow[None]:
        """Every session of *user* that began until *now* is over, but for the session *kept*."""
        entry, until = self._user_entry(user), now + self._absolute
        for _ in range(TRIES):
            old: Record | None = yield Load(entry)
            if old is None:
                if (yield Create(_entry(entry, now, kept, until))) is True:
                    return
            elif (yield Save(_entry(entry, now, kept, until, old.version + 1), old.version, False)) is Outcome.SAVED:
                return
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
    """That what *id* stands for was over at *moment*; remembered *until* (Unix seconds)."""
    payload = f"{moment}:{kept}".encode()
    return Record(id, b"", None, moment, moment, until, until, None, None, None, version, payload)


def _moment(entry: Record) -> tuple[int, str]:
    """When what *entry* is about ended, and the session that did not. Raises ``StoreError`` for a foreign record."""
    moment, _, kept = entry.payload.partition(b":")
    try:
        return int(moment), kept.decode("ascii")
    except ValueError:
        raise StoreError("a record among what has ended is damaged, or none of ours; delete it") from None
