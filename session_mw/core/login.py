"""The login state of one storage: who is behind it, since when, from where.

A login is one immutable value; logging in again replaces it as a whole, so concurrent requests can only see the one
or the other. The login token is minted here and is not the cookie's; the fingerprint is keyed with it, and derived
when somebody asks.
"""

from __future__ import annotations

import hashlib
import hmac
import uuid
from datetime import UTC, datetime
from typing import Any

import msgspec

__all__ = [
    "LOGIN_RANDOM_BYTES",
    "MAX_IP_CHANGES",
    "MAX_USER_ID",
    "NAMELESS",
    "IpChange",
    "Login",
    "fingerprint",
    "former_digest",
    "metadata",
    "new_login",
    "owner_id",
    "with_ip_change",
]

LOGIN_RANDOM_BYTES = 36
MAX_IP_CHANGES = 20
MAX_USER_ID = 255
NAMELESS = "?"
"""What a session remembers of a login without a user id, once it is over: that there was one."""


class IpChange(msgspec.Struct, frozen=True, array_like=True):
    """An address a login moved to, and when (Unix seconds)."""

    address: str
    at: int


class Login(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """One login. ``bound``: it was made under ``strict_session_ip`` and is held to ``ip``.

    Where it moved, ``ip`` is the address it is bound to now, and ``origin`` the one it was made from.
    """

    at: int
    token: str
    ip: str | None = None
    agent: str | None = msgspec.field(default=None, name="ua")
    bound: bool = msgspec.field(default=False, name="b")
    ip_changes: tuple[IpChange, ...] = msgspec.field(default=(), name="c")
    origin: str | None = msgspec.field(default=None, name="o")

    def __repr__(self) -> str:
        return f"<Login at={self.at}>"


def new_login(now: int, random: bytes, ip: str | None, agent: str | None, *, bound: bool) -> Login:
    """A login made at *now* from ``LOGIN_RANDOM_BYTES`` random bytes."""
    return Login(now, random.hex(), ip, agent, bound)


def fingerprint(login: Login, application: str) -> str:
    """HMAC-SHA-256 of where *login* was made: 64 hexadecimal characters, the same for as long as it lasts.

    Keyed with the login token, over length-prefixed parts; *application* is the table index.
    """
    ip = login.origin if login.ip_changes else login.ip
    parts = [part.encode("utf-8", "surrogatepass") for part in (application, login.agent or "", ip or "")]
    message = b"".join(b"%d:%b" % (len(part), part) for part in parts)
    return hmac.digest(login.token.encode("ascii"), message, "sha256").hex()


def with_ip_change(login: Login, address: str, now: int) -> Login:
    """*login* bound to its new *address*; the history keeps the latest ``MAX_IP_CHANGES``."""
    history = (*login.ip_changes, IpChange(address, now))[-MAX_IP_CHANGES:]
    origin = login.origin if login.ip_changes else login.ip
    return msgspec.structs.replace(login, ip=address, ip_changes=history, origin=origin)


def metadata(login: Login | None, application: str, attempts: int, last_activity: int) -> dict[str, Any]:
    """What ``get_metadata()`` shows of a storage: a fresh dict; only ``attempts`` when nobody is logged in."""
    if login is None:
        return {"attempts": attempts} if attempts else {}
    return {
        "online": True,
        "token": login.token,
        "timestamp": login.at,
        "last_activity": max(login.at, last_activity),
        "ip": login.ip,
        "ip_changes": list(login.ip_changes),
        "agent": login.agent,
        "fingerprint": fingerprint(login, application),
        "attempts": attempts,
    }


def iso(timestamp: int) -> str:
    """ISO 8601 in UTC, with its offset."""
    return datetime.fromtimestamp(timestamp, UTC).isoformat()


def owner_id(user_id: object) -> str:
    """*user_id* as stores keep it: a non-empty string of at most 255 characters; int and UUID become one.

    Raises ``ValueError`` for anything else, ``bool`` included.
    """
    if type(user_id) is str:
        text = user_id
    elif isinstance(user_id, bool) or not isinstance(user_id, str | int | uuid.UUID):
        raise ValueError(f"user_id must be a str, int or UUID, not {type(user_id).__name__}")
    else:
        text = str(user_id)
    if not 1 <= len(text) <= MAX_USER_ID:
        raise ValueError(f"user_id must have 1 to {MAX_USER_ID} characters, not {len(text)}")
    if text.isascii():
        return text
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        raise ValueError("user_id must be encodable as UTF-8") from None
    return text


def former_digest(user_id: str) -> str:
    """What a session remembers of an owner who logged out: enough to know them again, not who they are."""
    return hashlib.sha256(b"session_mw former owner\0" + user_id.encode()).hexdigest()[:32]
