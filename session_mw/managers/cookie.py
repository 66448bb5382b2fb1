"""CookieManager: the session is sealed into the cookie (client-kept). Nothing is asked of anybody.

Of overlapping responses that set the cookie, the last one received wins with all its keys; a response sealed before a
logout and received after it brings that login back until its deadlines. There is nothing to compare with.
"""

from __future__ import annotations

import msgspec

from ..config import SessionConfig, missing_home_error
from ..core.draft import draft
from ..core.lifetime import Limits, expired, touch_due
from ..core.operations import AsyncStore, Store
from ..core.record import Record
from ..core.seal import NONCE_BYTES, Sealer
from ..core.state import State
from ..core.tokens import RANDOM_BYTES, Token, mint
from ..errors import SessionTooLargeError
from . import CLEAR, LEAVE, Action, Live, Opened, Random, Verdict, note_change

__all__ = ["CookieManager"]


class CookieManager:
    """Sealed by default; ``encrypt_cookie_data=False`` signs instead, readable to the client."""

    store = None
    consults: Store | AsyncStore | None = None

    def configure(self, config: SessionConfig) -> None:
        """Derive the keys and take the limits over. Raises ``ConfigurationError`` without ``secret_key``."""
        if config.keys is None:
            raise missing_home_error()
        purpose = f"{config.table_index}/{config.cookie_name}"
        if config.encrypt_cookie_data:
            sealer: Sealer | Signer = Sealer(config.keys, purpose, clock_skew=config.clock_skew)
        else:
            from ..core.signed import Signer  # itsdangerous is loaded only where it is used

            sealer = Signer(config.keys, purpose, clock_skew=config.clock_skew)
        self._seal, self._unseal = sealer.seal, sealer.unseal
        self._limits = Limits(config.idle_timeout, config.absolute_timeout, config.touch_after(stored=False))
        self._persistent = config.persistent
        self._cookie = config.cookie
        self._host_prefixed = config.cookie.is_host_prefixed

    def open(self, values: list[str], now: int) -> Opened:
        """Unseal the one value that is ours; a doubled ``__Host-`` name, or two that verify, is refused."""
        if len(values) == 1:
            record = self._unseal(values[0], now)
            if isinstance(record, str):
                return Opened(None, record)
            return Opened(record, "", False, False, touch_due(record, now, self._limits))
        if not values:
            return Opened()
        if self._host_prefixed or len(values) > 3:  # one host cannot have set both (6265bis §4.1.3.2)
            return Opened(reason="doubled")
        opened = [self.open([value], now) for value in values]
        good = [one for one in opened if one.record is not None]
        return good[0] if len(good) == 1 else Opened(reason="doubled" if good else opened[0].reason)

    def take_over(self, record: Record, token: Token, now: int, random: Random) -> Opened:
        """*record*, made of another library's cookie, to be sealed with the next response; unless it is too large."""
        try:
            self._cookie.check(self._seal(record, now, random(NONCE_BYTES)))
        except SessionTooLargeError:
            return Opened(reason="legacy_too_large")
        used = min(record.created_at, now - self._limits.interval)  # so that sealing is due
        return Opened(msgspec.structs.replace(record, last_activity=used, expires_at=record.expires_at - 1))

    def recheck(self, seen: Record, now: int, *, active: bool) -> Record | None:
        """*seen*, unless the seal's own deadlines have passed; a socket cannot be given a new one."""
        return None if expired(seen, now) else seen

    def commit(self, state: State, live: Live, now: int, random: Random, early: bool = False) -> Verdict:
        """Seal what is to be kept; leave the cookie alone when nothing changed."""
        if early:
            return LEAVE  # there is nothing to write but the cookie
        base, changed = state.base, state.changed(live)
        if base is not None and now >= base.expires_at:  # since it was opened
            if not state.wish.logged_in:
                if changed:
                    state.drop(now, "gone")
                return LEAVE
            base = None
        elif not changed and not self.reseal_due(state, base, now):
            return LEAVE
        record, verdict = self.seal(state, live, base, now, random)
        self.keep(state, record, base, now)
        return verdict

    def seal(
        self, state: State, live: Live, base: Record | None, now: int, random: Random
    ) -> tuple[Record | None, Verdict]:
        """This request's changes on top of *base*, and the cookie that holds them; ``CLEAR`` when nothing is left.

        Nothing counts as done yet. Raises what ``commit`` raises.
        """
        token = state.token
        if token is None and (base is None or state.wish.destroyed):
            token = mint(random(RANDOM_BYTES))
        record = draft(state, live, base, now, self._limits, token)
        if record is None:
            return None, LEAVE if base is None else CLEAR
        value = self._seal(record, now, random(NONCE_BYTES))
        self._cookie.check(value)  # before anything counts as done
        persistent = self._persistent or state.is_persistent()
        return record, Verdict(Action.SET, value, record.absolute_expires_at - now if persistent else None)

    def keep(self, state: State, record: Record | None, base: Record | None, now: int) -> None:
        """The cookie of *record* will be sent: what the request wished is done."""
        if state.tells:
            note_change(state, record, base, now)
        state.rebase(record)

    def reseal_due(self, state: State, base: Record | None, now: int) -> bool:
        """Whether the idle deadline should slide; never by a slow answer, which might overtake a newer seal."""
        return base is not None and touch_due(base, now, self._limits) and now - state.now < self._limits.interval
