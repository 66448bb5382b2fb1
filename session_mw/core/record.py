"""Record: what a store keeps of one session, and what a sealed cookie carries.

A record is immutable; a change is a new record with the next ``version``. Everything a store must be able to
search or compare is a field; the session's own data is the opaque ``payload``.

Times are whole Unix seconds. ``expires_at`` is the one deadline that counts (never past ``absolute_expires_at``):
``now >= expires_at`` is expired.

A *closed* record is what remains for a minute of a session that ended: id, token digest and deadline only. With a
``successor`` it is a *pointer*: overlapping requests that still carry the old token follow it, unless the successor has
been given another token since.
"""

from __future__ import annotations

import msgspec

__all__ = ["Record", "SessionRecord", "followed", "leads_to", "pointer"]


class Record(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One stored session. ``digest`` is the SHA-256 of the token's secret; empty when no token was issued.

    The order of the fields is the sealed cookie's format: an array (``docs/formats/sealed-cookie.md``).
    """

    id: str
    digest: bytes
    user_id: str | None
    created_at: int
    last_activity: int
    expires_at: int
    absolute_expires_at: int
    lifetime: int | None  # this session's own idle limit in seconds; None: the configured one
    login_ip: str | None
    login_user_agent: str | None
    version: int
    payload: bytes
    closed: bool = False
    successor: str | None = None  # closed records only: a ``pointer``; opaque to stores

    def __repr__(self) -> str:  # neither the digest nor the payload belongs in a log
        return f"<Record {self.id[:6]}… version={self.version}{' closed' if self.closed else ''}>"


class SessionRecord(msgspec.Struct, frozen=True, kw_only=True):
    """What the outside may know of a session: enough for a "your devices" page, never the token.

    ``data`` (storage ``global``) is filled by ``get_record`` and ``find_sessions``. Times are Unix seconds.
    """

    session_id: str
    user_id: str | None
    created_at: int
    last_activity: int
    expires_at: int
    absolute_expires_at: int
    login_ip: str | None
    login_user_agent: str | None
    version: int
    data: dict[str, object] | None = None

    @classmethod
    def of(cls, record: Record, data: dict[str, object] | None = None) -> SessionRecord:
        """The public face of *record*."""
        return cls(
            session_id=record.id,
            user_id=record.user_id,
            created_at=record.created_at,
            last_activity=record.last_activity,
            expires_at=record.expires_at,
            absolute_expires_at=record.absolute_expires_at,
            login_ip=record.login_ip,
            login_user_agent=record.login_user_agent,
            version=record.version,
            data=data,
        )

    def __repr__(self) -> str:
        return f"<SessionRecord {self.session_id[:6]}… version={self.version}>"


def pointer(record: Record, until: int) -> str:
    """The ``successor`` of a closed record that may be followed to *record* before *until*; opaque to stores."""
    return f"{record.id}:{until}:{_proof(record)}"


def followed(closed: Record, now: int) -> str | None:
    """The id a *closed* record points to, while it may be followed."""
    successor, _, rest = (closed.successor or "").partition(":")
    return successor if successor and now < int(rest.partition(":")[0]) else None


def leads_to(closed: Record, record: Record) -> bool:
    """Whether *record* has the token that it had when *closed* came to point to it."""
    return (closed.successor or "").split(":")[2:3] == [_proof(record)]


def _proof(record: Record) -> str:
    return record.digest[:8].hex()
