"""Admission: whether a session that opened may be used by this client.

``session_ip`` and ``on_validate`` may refuse it: then it is as unknown, and its record stays as it is. A login held to
its address (``strict_session_ip``) that comes from elsewhere is put to ``on_ip_changed``: kept and bound anew, or the
session is destroyed. A callback that fails decides against. Where the client sent nothing under our name, a legacy
cookie may stand for it (``upgrade``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .config import SessionConfig
from .core.login import with_ip_change
from .core.operations import Flow
from .core.record import Record
from .core.session import Session
from .core.state import OVER, State
from .exchange import Exchange
from .managers import Opened
from .managers.claims import consult, moved, objection

if TYPE_CHECKING:
    from .upgrade import Upgrade

__all__ = ["Admission"]


class Admission:
    """One per middleware. ``needed``: whether there is anything to ask."""

    def __init__(self, config: SessionConfig, exchange: Exchange, upgrade: Upgrade | None = None) -> None:
        self._config = config
        self._exchange = exchange
        self._upgrade = upgrade
        self._objects = config.strict_session_ip or config.session_ip or config.on_validate is not None
        self.needed = self._objects or self._upgrade is not None

    def judge(self, session: Session, state: State, opened: Opened | Flow[Opened]) -> Flow[Opened]:
        """All that may refuse what opened: ``session_ip``, ``on_validate``, the verdict on a strict login."""
        if not isinstance(opened, Opened):
            opened = yield from opened
        if self._upgrade is not None and opened.record is None and not opened.reason:
            opened = yield from self._upgrade.open(session, state)
        record = opened.record
        if record is None or not self._objects:
            return opened
        here = self._exchange.address(session._source) if self._config.session_ip else None
        reason = yield from objection(self._config, state, record, here)
        if reason is not None:
            return Opened(reason=reason)
        if self._config.strict_session_ip:
            yield from self._judge_address(session, state, record)
        return opened

    def waits(self, session: Session, opened: Opened | Flow[Opened]) -> bool:
        """Whether *opened* is still to come: from a store, or from a legacy cookie that a store is asked about."""
        if not isinstance(opened, Opened):
            return True
        return self._upgrade is not None and _asks(session) and self._upgrade.claimed(session._source)

    def _judge_address(self, session: Session, state: State, record: Record) -> Flow[None]:
        """A strict login from elsewhere: ask, and end it or note where it went."""
        here = self._exchange.address(session._source)
        callback = (session._before and session._before.ip_callback) or self._config.on_ip_changed
        for storage, login in moved(self._config, state, here).items():
            keep = False
            if callback is not None and here is not None:
                view = self._view(session, record, state.now)
                keep = (yield from consult(callback, view, login.ip, list(login.ip_changes))) is False
            state.note("ip_changed", state.now, "kept" if keep else "ended", handle=record.id, user=record.user_id)
            if not keep:
                state.refused = True
                return
            state.wishing().logins = {**state.wish.logins, storage: with_ip_change(login, here or "", state.now)}

    def _view(self, session: Session, record: Record, now: int) -> Session:
        """What *record* holds, for a callback to look at: *session* itself is not open yet."""
        view = Session(session._layer, session._source)
        state = State(now)
        state.phase = OVER
        data = state.adopt(record)
        view._publish(state, data)
        return view


def _asks(session: Session) -> bool:
    """Whether the session's home has anybody to ask."""
    return session._home.manager.consults is not None
