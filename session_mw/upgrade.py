"""Upgrade: a session read from a legacy cookie goes on as one of ours; at logout both cookies go.

* A legacy cookie is looked at only where the client sends nothing under our own name: a session of ours that has
  ended, by time or by anybody's hand, is not brought back by what it was made of.
* What it becomes is derived from the cookie itself: id and token are digests of its value. So overlapping requests
  meet in one session, and where something is kept on the server, what has ended is known to have ended.
* The age of the legacy cookie is the age of the session: the absolute timeout counts from its issue. The idle timeout
  counts from now, for its issue is not its last use.
* The old cookie stays until a logout, so that workers which still speak the other library know the client, too.

What a store does with it is ``managers``' (``take_over``); what such a cookie says is ``legacy``'s.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Awaitable
from typing import Any

from .config import SessionConfig
from .core import codec
from .core.login import LOGIN_RANDOM_BYTES, new_login, owner_id
from .core.operations import Flow
from .core.payload import DEFAULT_STORAGE, Meta, join, write_meta
from .core.record import Record
from .core.session import Session
from .core.state import State
from .core.tokens import RANDOM_BYTES, Token, digest, mint
from .errors import SessionSerializationError, SessionTooLargeError
from .exchange import Exchange, Reader
from .legacy import LegacyReader, LegacyRefused, LegacySession
from .managers import Action, Opened, Verdict

__all__ = ["Parting", "Upgrade"]

logger = logging.getLogger("session_mw")
_MOST = 3  # cookies of one name that are tried


class Parting(Verdict, frozen=True, gc=False):
    """A verdict that ends legacy cookies as well."""


class Upgrade(Exchange):
    """An ``Exchange`` that knows the legacy cookies beside ours. One per middleware that has any."""

    def __init__(self, config: SessionConfig, reader: Reader) -> None:
        super().__init__(config, reader)
        self._readers: tuple[LegacyReader, ...] = config.legacy
        self._clock = config.clock

    # -- opening ------------------------------------------------------------------------------------------------

    def claimed(self, source: Any) -> bool:
        """Whether *source* brings a legacy cookie, and none of ours. Nothing is verified."""
        header, now = self.reader.cookies(source), int(self._clock())
        if self._read(header):
            return False
        return any(now < reader.until and reader.cookie.read(header) for reader in self._readers)

    def open(self, session: Session, state: State) -> Flow[Opened]:
        """What comes of the legacy cookies of a request that has none of ours."""
        header, reason = self.reader.cookies(session._source), ""
        for reader in self._readers:
            values = reader.cookie.read(header) if state.now < reader.until else []
            if not values:
                continue
            record, token, refused = self._one_of(reader, values, session, state)
            if record is not None:
                return (yield from self._taken_over(session, state, record, token))
            reason = reason or refused
        return Opened(reason=reason and f"legacy_{reason}")

    def _taken_over(self, session: Session, state: State, record: Record, token: Token) -> Flow[Opened]:
        manager = session._home.manager
        opened = manager.take_over(record, token, state.now, session._layer.random)
        if not isinstance(opened, Opened):
            opened = yield from opened
        if manager.store is not None and opened.record is not None and not opened.pointer:
            state.token, state.unsent = token, True  # the client does not know it yet
        if opened.record is not None:
            state.note("upgrade", state.now, handle=opened.record.id, user=opened.record.user_id)
        answer: Opened = opened
        return answer

    def _one_of(
        self, reader: LegacyReader, values: list[str], session: Session, state: State
    ) -> tuple[Record | None, Token, str]:
        """The record of the one good value, and the token that opens it; or why there is none."""
        reason, none = "doubled", Token("", "")
        if len(values) > _MOST:
            return None, none, reason
        good: list[tuple[Record, Token]] = []
        for value in values:
            try:
                found = reader.read(value, state.now)
                if found.data:
                    token = self._token(reader, value)
                    good.append((self._record(found, token, session, state.now), token))
                else:
                    reason = ""
            except LegacyRefused as refused:
                reason = refused.reason
            except Exception:
                logger.exception("session_mw: %r failed; its cookie is refused", reader)
                reason = "failed"
        return (*good[0], "") if len(good) == 1 else (None, none, "doubled" if good else reason)

    def _token(self, reader: LegacyReader, value: str) -> Token:
        """Only who has the cookie can know it, and it is the same for all who have."""
        named = f"session_mw legacy\0{self._config.table_index}\0{reader.cookie.name}\0{value}".encode()
        return mint(hashlib.shake_256(named).digest(RANDOM_BYTES))

    def _record(self, found: LegacySession, token: Token, session: Session, now: int) -> Record:
        """The session that *found* goes on as. Raises ``LegacyRefused``."""
        config = self._config
        issued = found.issued_at
        if issued > now + config.clock_skew:
            raise LegacyRefused("future")
        issued = min(issued, now)
        over = issued + config.absolute_timeout
        if now >= over - 1:
            raise LegacyRefused("expired")
        owner = found.user_id
        if owner is None and config.owner_key is not None:
            owner = found.data.get(config.owner_key)
        address = self.address(session._source) if config.strict_session_ip or config.session_ip else None
        try:
            data = codec.encode(found.data)
            owner = None if owner is None else owner_id(owner)
        except (SessionSerializationError, SessionTooLargeError, ValueError):
            raise LegacyRefused("unsupported") from None
        logins = {}
        if owner is not None:
            if config.strict_session_ip and address is None:
                raise LegacyRefused("address")
            random = session._layer.random(LOGIN_RANDOM_BYTES)
            ip = address if config.strict_session_ip else None
            logins[DEFAULT_STORAGE] = new_login(issued, random, ip, None, bound=config.strict_session_ip)
        meta = Meta(logins=logins, persistent=found.persistent, ip=(address or "") if config.session_ip else "")
        return Record(
            id=token.id,
            digest=digest(token.secret),
            user_id=owner,
            created_at=issued,
            last_activity=now,
            expires_at=min(now + config.idle_timeout, over),
            absolute_expires_at=over,
            lifetime=None,
            login_ip=logins[DEFAULT_STORAGE].ip if logins else None,
            login_user_agent=None,
            version=1,
            payload=join(data, write_meta(meta)),
        )

    # -- logout -------------------------------------------------------------------------------------------------

    @staticmethod
    def parted(verdict: Verdict) -> Verdict:
        """*verdict*, ending legacy cookies as well."""
        return Parting(verdict.action, verdict.value, verdict.max_age)

    async def aparted(self, waited: Awaitable[Verdict]) -> Verdict:
        """The same, once *waited* is there."""
        return self.parted(await waited)

    def set_cookies(self, source: Any, verdict: Verdict, header: str | None = None) -> list[str]:
        """As ``Exchange.set_cookies``; at a logout, or where nothing of the session is left, legacy cookies go too."""
        lines = super().set_cookies(source, verdict, header)
        if type(verdict) is not Parting and verdict.action is not Action.CLEAR:
            return lines
        header, secure = self._cookies(source) if header is None else header, self.is_secure(source)
        for reader in self._readers:
            if reader.cookie.read(header):
                lines = [*lines, *reader.cookie.clear(header, secure=secure)]
        return lines
