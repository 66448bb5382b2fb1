"""StoreManager: the session is a record in a store (store-kept); the cookie carries a token.

The rules of concurrency live here, as flows:

* save with the version seen; on a conflict reload, re-apply this request's changes, try again (``TRIES`` times)
* gone: follow a pointer to the successor if there is one, else drop the changes and leave the cookie alone;
  only a login stands on its own proof and begins a new session with what this request wrote
* rotate: the new record and the end of the old one in one step, or create, end, and take back what was created
* a token leaves only after the end of its predecessor was acknowledged
"""

from __future__ import annotations

import msgspec

from ..config import SessionConfig
from ..core.draft import draft
from ..core.lifetime import CLOSED_SECONDS, Limits, expired, slide, touch_due
from ..core.operations import (
    AsyncStore,
    Close,
    Create,
    Delete,
    DeleteUser,
    Flow,
    Load,
    Outcome,
    Rotate,
    Save,
    Store,
    Touch,
)
from ..core.record import Record, followed, leads_to, pointer
from ..core.seal import NONCE_BYTES, PayloadSealer, binding
from ..core.state import OPEN, State
from ..core.tokens import RANDOM_BYTES, Token, digest, matches, mint, spent, split
from ..core.wishes import NOTHING
from ..errors import SealError, StoreConflictError, StoreError
from . import CLEAR, LEAVE, Action, Live, Opened, Random, Verdict, note_change
from .limit import SessionLimit

__all__ = ["HOPS", "TRIES", "StoreManager"]

TRIES = 64
"""How often a save is tried against a session that keeps changing; without sleeping."""

HOPS = 8
"""How many rotations in a row are followed from an id that was left behind."""

_DONE = (Outcome.SAVED, Outcome.DELETED)


class StoreManager:
    """Keeps sessions in *store*."""

    def __init__(self, store: Store | AsyncStore) -> None:
        self.store = self.consults = store
        self._payload_sealer: PayloadSealer | None = None

    def configure(self, config: SessionConfig) -> None:
        """Take the limits over, and the keys where payloads are sealed at rest."""
        self._limits = Limits(config.idle_timeout, config.absolute_timeout, config.touch_after(stored=True))
        self._persistent = config.persistent
        self._host_prefixed = config.cookie.is_host_prefixed
        self._limit = SessionLimit.of(config)
        if config.encryption and config.keys is not None:
            self._payload_sealer = PayloadSealer(config.keys, f"{config.table_index}/payload")

    # -- opening ------------------------------------------------------------------------------------------------

    def open(self, values: list[str], now: int) -> Opened | Flow[Opened]:
        """Ask the store about well-formed tokens only; a doubled ``__Host-`` name is refused unasked."""
        if len(values) == 1:
            token = split(values[0])
            return Opened(None, "malformed") if token is None else self._open(token, now)
        if not values:
            return Opened()
        if self._host_prefixed or len(values) > 3:
            return Opened(reason="doubled")
        tokens = [token for token in map(split, values) if token is not None]
        if len(tokens) > 1:
            return self._open_one_of(tokens, now)
        return self._open(tokens[0], now) if tokens else Opened(reason="malformed")

    def _open_one_of(self, tokens: list[Token], now: int) -> Flow[Opened]:
        good = []
        for token in tokens:
            opened = yield from self._open(token, now)
            if opened.record is not None or opened.stale:
                good.append(opened)
        return good[0] if len(good) == 1 else Opened(reason="doubled" if good else "unknown")

    def _open(self, token: Token, now: int) -> Flow[Opened]:
        record: Record | None = yield Load(token.id)
        if record is None:
            return Opened(None, "unknown")
        if not matches(token.secret, record.digest):
            return Opened(None, "forged")
        if expired(record, now):
            return Opened(None, "expired")
        through_pointer = record.closed
        if through_pointer:
            record = yield from self.successor(record, now)
            if record is None:
                return Opened(reason="stale_token", stale=True)
        sealer = self._payload_sealer
        if sealer is not None:
            record = _unsealed(record, sealer)
        if record is None:
            return Opened(reason="corrupt")
        return Opened(record, "", through_pointer, False, touch_due(record, now, self._limits))

    def successor(self, record: Record | None, now: int, *, ending: bool = False) -> Flow[Record | None]:
        """The live record at the end of the pointers that begin at *record*.

        An *ending* follows without grace, too, and whatever tokens were issued meanwhile.
        """
        for _ in range(HOPS):
            if record is None or expired(record, now):
                return None
            if not record.closed:
                return record
            target = followed(record, 0 if ending else now)
            if target is None or not (ending or self._vouches(record)):
                return None
            closed, record = record, (yield Load(target))
            if record is not None and not ending and not leads_to(closed, record):
                return None
        return None

    def _vouches(self, closed: Record) -> bool:
        sealer = self._payload_sealer
        return sealer is None or sealer.vouches(closed)

    def unsealed(self, record: Record) -> Record | None:
        """A stored *record* with its payload readable; ``None`` for one that was tampered with."""
        sealer = self._payload_sealer
        return record if sealer is None else _unsealed(record, sealer)

    def sealed(self, record: Record, random: Random) -> Record:
        """*record* as it is to lie in the store."""
        sealer = self._payload_sealer
        return record if sealer is None else _sealed(record, sealer, random)

    def take_over(self, record: Record, token: Token, now: int, random: Random) -> Flow[Opened]:
        """*record*, made of another library's cookie, as a session of this store that *token* opens.

        It is written down once, and beside it that it was: for as long as the cookie is good, what has ended since is
        known to have. Requests that overlap find the same session.
        """
        mark = spent(token)
        if (yield Load(mark)) is None:
            yield Create(self.sealed(record, random))  # one of them makes it
            until = record.absolute_expires_at
            yield Create(Record(mark, b"", None, record.created_at, now, until, until, None, None, None, 1, b"{}\n"))
        opened = yield from self._open(token, now)
        return Opened(reason="legacy_ended") if opened.record is None else opened

    def recheck(self, seen: Record, now: int, *, active: bool) -> Flow[Record | None]:
        """The record, or its successor, if it has the token it had; *active* slides its deadline when that is due."""
        record: Record | None = yield Load(seen.id)
        if record is None or record.digest != seen.digest:
            return None
        current = yield from self.successor(record, now)
        if current is not None and active and touch_due(current, now, self._limits):
            until = slide(current, now, self._limits)
            if (yield Touch(current.id, now, until)) is True:
                return msgspec.structs.replace(current, last_activity=now, expires_at=until)
        return current

    # -- committing ---------------------------------------------------------------------------------------------

    def commit(
        self, state: State, live: Live, now: int, random: Random, early: bool = False
    ) -> Verdict | Flow[Verdict]:
        """Plan first: an untouched session never creates a flow."""
        base = state.base
        changed = state.changed(live)
        if changed and base is not None and state.wish is NOTHING and state.end_others is None:
            return self._save(state, live, base, now, random, early)  # the usual
        if state.stale and not state.wish.logged_in:
            if changed and not state.dropped:
                state.drop(now, "stale_token")
            if state.end_others is None:
                return LEAVE
            changed = False
        if early and (state.wish.logged_in or state.wish.wiped):
            return LEAVE  # who is logged in must not be written under the old token
        if not changed and state.end_others is None:
            if base is not None and touch_due(base, now, self._limits) and now < base.expires_at:
                return self._touch(state, base, now, early)
            return self._announce(state, now, early) if state.unsent or state.emptied else LEAVE
        if state.end_others is None:
            flow = self._change(state, live, now, random, early)
        else:
            flow = self._change_and_end_others(state, live, now, random, early, changed)
        return self._within(self._limit, state, flow, now) if self._limit is not None and state.wish.logged_in else flow

    def _within(self, limit: SessionLimit, state: State, flow: Flow[Verdict], now: int) -> Flow[Verdict]:
        """A login, by *flow*, and what it means for the owner's other sessions."""
        owner = state.user_id()
        if owner is not None:
            yield from limit.admit(owner, now, without=state.handle)
        verdict = yield from flow
        if owner is not None and state.handle is not None:
            for ended in (yield from limit.settle(owner, state.handle, now)):
                state.note("destroy", now, "limit", handle=ended.id, user=owner)
        return verdict

    def _touch(self, state: State, base: Record, now: int, early: bool) -> Flow[Verdict]:
        until = slide(base, now, self._limits)
        if (yield Touch(base.id, now, until)) is True:  # not again when this request commits again
            state.base = msgspec.structs.replace(base, last_activity=now, expires_at=until)
        return self._announce(state, now, early) if state.unsent or state.emptied else LEAVE

    def _change(self, state: State, live: Live, now: int, random: Random, early: bool) -> Flow[Verdict]:
        if state.base is None or ((state.wish.rotating or state.wish.wiped) and not early):
            return self._replace(state, live, now, random, early)
        if state.wish.rotating:
            return self._save_before_rotating(state, live, state.base, now, random)
        return self._save(state, live, state.base, now, random, early)

    def _change_and_end_others(
        self, state: State, live: Live, now: int, random: Random, early: bool, changed: bool
    ) -> Flow[Verdict]:
        if changed:
            verdict = yield from self._change(state, live, now, random, early)
        else:
            verdict = self._announce(state, now, early)
        if state.end_others is not None and not early:
            yield DeleteUser(state.end_others, state.handle)  # spares nobody where this session itself is gone
            state.end_others = None
        return verdict

    def _announce(self, state: State, now: int, early: bool) -> Verdict:
        """The cookie for a record whose token the client does not know yet, once headers can be sent."""
        base = state.base
        if early or state.phase != OPEN:
            return LEAVE
        if state.emptied:
            state.emptied = False
            if base is None:
                return CLEAR
        if not state.unsent or base is None or state.token is None:
            return LEAVE
        state.unsent = False
        max_age = base.absolute_expires_at - now if self._persistent or state.is_persistent() else None
        return Verdict(Action.SET, state.token.text, max_age)

    def _save_before_rotating(self, state: State, live: Live, base: Record, now: int, random: Random) -> Flow[Verdict]:
        """Save early, under the old token; the rotation is still to come."""
        grace, ends = state.overlap(), state.ends()
        verdict = yield from self._save(state, live, base, now, random, True)
        if state.handle != base.id and not ends:  # somebody has just done so
            state.token = None
            return verdict
        wish = state.wishing()
        wish.rotating, wish.grace = True, grace
        return verdict

    def _save(self, state: State, live: Live, base: Record, now: int, random: Random, early: bool) -> Flow[Verdict]:
        """Change a session that goes on under its id."""
        newer: Record | None = base
        if now >= base.expires_at:  # since it was opened, unless another request has moved that
            newer = yield from self._newer(state, base, now)
        sealer = self._payload_sealer
        for _ in range(TRIES):
            if newer is None:
                state.drop(now, "gone")
                return LEAVE
            record = draft(state, live, newer, now, self._limits)
            outcome: Outcome
            if record is None:
                outcome = yield Delete(newer.id, newer.version)
            else:
                plain = state.wish is NOTHING or not state.wish.change_record()
                payload_only = plain and record.last_activity == newer.last_activity
                kept = record if sealer is None else _sealed(record, sealer, random)
                outcome = yield Save(kept, newer.version, payload_only)
            if outcome in _DONE:
                if state.tells:
                    note_change(state, record, newer, now)
                state.rebase(record)
                if state.merged:
                    state.catch_up(live)
                if record is None:
                    by_cookie = newer.id == state.opened_id and not state.pointer
                    state.unsent, state.emptied = False, state.emptied or by_cookie
                return self._announce(state, now, early) if state.unsent or state.emptied else LEAVE
            newer = yield from self._newer(state, newer, now)
        raise StoreConflictError(TRIES)

    def _replace(self, state: State, live: Live, now: int, random: Random, early: bool) -> Flow[Verdict]:
        """End the opened session, if there is one, and begin a new one, if there is anything to keep."""
        base = newer = state.base
        if base is not None and now >= base.expires_at:
            newer = yield from self._newer(state, base, now)
        token = state.token or mint(random(RANDOM_BYTES))
        proof = digest(token.secret) if token.secret else b""  # nobody can carry it until a token is issued
        for _ in range(TRIES):
            if newer is None and base is not None and not state.wish.logged_in:
                state.drop(now, "gone")
                return LEAVE
            # somebody else has just rotated it, or issued another token
            moved = newer is not None and base is not None and (newer.id, newer.digest) != (base.id, base.digest)
            if newer is not None and moved and not (state.wish.logged_in or state.wish.wiped):
                state.token = None
                return (yield from self._save(state, live, newer, now, random, early))
            record = draft(state, live, newer, now, self._limits, token, proof)
            swap = self._swap(state, record, newer, now, random)
            outcome: Outcome = (yield swap) if isinstance(swap, Rotate) else (yield from swap)
            if outcome in _DONE:
                by_pointer, state.pointer = state.pointer, False
                if state.tells:
                    note_change(state, record, newer, now)
                state.rebase(record)
                if state.merged:
                    state.catch_up(live)
                state.token, state.stale = token if record else None, False
                if record is None:
                    state.emptied = state.emptied or (newer is not None and not by_pointer)
                else:
                    state.unsent = True
                return self._announce(state, now, early)
            newer = None if newer is None else (yield from self._newer(state, newer, now))
        raise StoreConflictError(TRIES)

    def _swap(
        self, state: State, record: Record | None, old: Record | None, now: int, random: Random
    ) -> Rotate | Flow[Outcome]:
        """*record* (if any) in, *old* (if any) out."""
        if record is None:
            return self._end(old, now)
        kept = self.sealed(record, random)
        if old is None:
            return self._begin(kept)
        grace = state.overlap()
        until = now + grace + CLOSED_SECONDS
        hard = state.wish.logged_in or state.wish.wiped
        successor = None if hard else self._pointer(old, record, now + grace, random)
        if self.store.can_rotate:
            return Rotate(kept, old.id, old.version, until, successor)
        return self._swap_in_two(kept, old, until, successor)

    def _pointer(self, old: Record, record: Record, until: int, random: Random) -> str:
        made, sealer = pointer(record, until), self._payload_sealer
        return made if sealer is None else sealer.vouch(old, made, random(NONCE_BYTES))

    def _begin(self, record: Record) -> Flow[Outcome]:
        if (yield Create(record)) is not True:
            raise StoreError("a new session's id is taken; the source of randomness cannot be trusted")
        return Outcome.SAVED

    def _end(self, old: Record | None, now: int) -> Flow[Outcome]:
        if old is None:
            return Outcome.DELETED
        ended: Outcome = yield Close(old.id, old.version, now + CLOSED_SECONDS)
        return ended

    def _swap_in_two(self, record: Record, old: Record, until: int, successor: str | None) -> Flow[Outcome]:
        """Create, then end; what was created is taken back unless the end of *old* was acknowledged."""
        yield from self._begin(record)
        try:
            outcome: Outcome = yield Close(old.id, old.version, until, successor)
        except StoreError:
            yield Delete(record.id)
            raise
        if outcome is Outcome.DELETED:
            return Outcome.SAVED
        yield Delete(record.id)
        return outcome

    def _newer(self, state: State, record: Record, now: int) -> Flow[Record | None]:
        """What *record* has become: a newer version, its successor, or nothing.

        An ending was asked for by somebody who saw the session alive: it is carried out wherever a concurrent
        regenerate or logout has taken the session. A login elsewhere stands on its own proof and leaves no trace here.
        """
        reloaded: Record | None = yield Load(record.id)
        live = yield from self.successor(reloaded, now, ending=state.ends())
        return None if live is None else self.unsealed(live)


def _sealed(record: Record, sealer: PayloadSealer, random: Random) -> Record:
    """*record* as it lies in the store."""
    payload = sealer.seal(record.payload, binding(record), random(NONCE_BYTES))
    return msgspec.structs.replace(record, payload=payload)


def _unsealed(record: Record, sealer: PayloadSealer) -> Record | None:
    """A stored *record* to work with; ``None`` for one that was tampered with."""
    try:
        payload = sealer.unseal(record.payload, binding(record))
    except SealError:
        return None
    return msgspec.structs.replace(record, payload=payload)
