"""SessionLimit: how many sessions one user may have at once (``max_sessions_per_user``).

Counted by the index of the user's sessions, at each login: who is evicted is whoever was used least recently. Two
logins at once may both see room; so it is looked at again once the new session is there.
"""

from __future__ import annotations

from typing import NamedTuple

from ..config import SessionConfig
from ..core.lifetime import expired
from ..core.operations import Delete, Flow, ListUser
from ..core.record import Record
from ..errors import SessionLogicError

__all__ = ["SessionLimit"]


class SessionLimit(NamedTuple):
    """At most ``most`` live sessions; one more ends the least recently used, or ``refuses``."""

    most: int
    refuses: bool

    @classmethod
    def of(cls, config: SessionConfig) -> SessionLimit | None:
        """The limit *config* sets, if any."""
        most = config.max_sessions_per_user
        return None if most is None else cls(most, config.on_session_limit == "refuse")

    def admit(self, owner: str, now: int, *, without: str | None) -> Flow[None]:
        """Before a login of *owner*; the session *without* will not be there any more.

        Raises ``SessionLogicError`` when there is no room and a new session is refused.
        """
        if self.refuses:
            live = yield from self._live(owner, now)
            if len([record for record in live if record.id != without]) >= self.most:
                raise self._full()

    def settle(self, owner: str, kept: str, now: int) -> Flow[list[Record]]:
        """After a login of *owner* whose session is *kept*: the sessions that were ended for it.

        Raises ``SessionLogicError`` when another login took the last place; *kept* is gone then.
        """
        live = yield from self._live(owner, now)
        surplus = len(live) - self.most
        if surplus <= 0:
            return []
        if self.refuses:
            yield Delete(kept)
            raise self._full()
        others = [record for record in live if record.id != kept]
        others.sort(key=lambda record: (record.last_activity, record.created_at, record.id))
        for record in others[:surplus]:
            yield Delete(record.id)
        return others[:surplus]

    def _live(self, owner: str, now: int) -> Flow[list[Record]]:
        records: list[Record] = yield ListUser(owner)
        return [record for record in records if not expired(record, now)]

    def _full(self) -> SessionLogicError:
        return SessionLogicError(
            f"this user has {self.most} sessions, as many as max_sessions_per_user allows: end one first, "
            'or let on_session_limit="evict" end the least recently used'
        )
