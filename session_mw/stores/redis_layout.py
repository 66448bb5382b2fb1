"""Keys and values of the Redis store; docs/formats/redis.md is this page for people.

    table_index:{id}            one record, as a string
    table_index:user:{user}     ids of one user's sessions, as a sorted set; the score is when the entry expires

The braces make id and user the hash tag by which a Cluster places the key. A value has a fixed head, so that scripts
compare the version and move the times without decoding anything:

    0   1  format and kind: 0x01 a live record, 0x81 a closed one
    1   7  version; 0 when closed
    8   8  expires_at
    16  8  last_activity; 0 when closed
    24  1  length of the digest
    25  2  length of the user's name in UTF-8; 0 without an owner
    27     digest, user, then a MessagePack array (live) or the successor (closed)

Numbers are big-endian. **Time to live.** A server's clock is not ours, so it is never told a moment but a duration:
from the activity last written to the deadline, and ``MARGIN`` on top. No key goes before its record has expired.
"""

from __future__ import annotations

import re
import struct
from typing import Any

import msgspec

from ..core.record import Record
from ..errors import ConfigurationError
from . import closed_record

__all__ = ["MARGIN", "MAX_TTL", "UNSTORABLE", "Keys", "decode", "encode", "stamp", "ttl"]

MARGIN = 300
"""Seconds a key outlives its record's deadline: what clocks of hosts may differ by (Kerberos allows as much)."""

MAX_TTL = 2**31
"""Seconds; 68 years."""

UNSTORABLE = (struct.error, UnicodeEncodeError, OverflowError)
"""What packing a value raises that this layout cannot hold."""

_LIVE, _CLOSED = 0x01, 0x81
_HEAD = struct.Struct(">QQQBH")
_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,31}")


class Keys:
    """The keys of one application. Raises ConfigurationError for a *table_index* that is no plain name."""

    def __init__(self, table_index: str) -> None:
        if not isinstance(table_index, str) or not _NAME.fullmatch(table_index):
            raise ConfigurationError(
                f"table_index {table_index!r} must be 1 to 32 of a-z, 0-9 and -, not beginning with -"
            )
        self.table_index = table_index
        self.record_head = f"{table_index}:{{"
        self.user_head = f"{table_index}:user:{{"
        self.pattern = f"{table_index}:{{*}}"

    def record(self, id: str) -> str:
        """The key of a record."""
        return f"{self.record_head}{id}}}"

    def user(self, user_id: str) -> str:
        """The key of a user's index."""
        return f"{self.user_head}{user_id}}}"


class _Body(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """What no script looks at."""

    created_at: int
    absolute_expires_at: int
    payload: bytes
    lifetime: int | None = None  # these three may be missing together
    login_ip: str | None = None
    login_user_agent: str | None = None


_NOTHING = (None, None, None)
_pack = msgspec.msgpack.Encoder().encode
_unpack = msgspec.msgpack.Decoder(_Body).decode


def _first(version: int) -> int:
    if version >> 56:
        raise OverflowError("a version has seven bytes")
    return _LIVE << 56 | version


def stamp(version: int) -> bytes:
    """The first eight bytes of a live record of *version*. Raises one of ``UNSTORABLE``."""
    return _first(version).to_bytes(8)


def encode(record: Record) -> bytes:
    """The value of a live *record*. Raises one of ``UNSTORABLE``."""
    digest = record.digest
    user = b"" if record.user_id is None else record.user_id.encode()
    head = _HEAD.pack(_first(record.version), record.expires_at, record.last_activity, len(digest), len(user))
    rest: tuple[Any, ...] = (record.lifetime, record.login_ip, record.login_user_agent)
    if rest == _NOTHING:
        rest = ()
    body = _pack((record.created_at, record.absolute_expires_at, record.payload, *rest))
    return b"".join((head, digest, user, body))


def decode(id: str, value: bytes) -> Record:
    """The record in *value*. Raises ValueError when it is none of this format."""
    try:
        version, expires_at, last_activity, size, length = _HEAD.unpack_from(value)
        middle = 27 + size
        end = middle + length
        kind = version >> 56
        if kind == _LIVE:
            body = _unpack(memoryview(value)[end:])
            return Record(
                id,
                value[27:middle],
                value[middle:end].decode() if length else None,
                body.created_at,
                last_activity,
                expires_at,
                body.absolute_expires_at,
                body.lifetime,
                body.login_ip,
                body.login_user_agent,
                version & 0xFF_FFFF_FFFF_FFFF,
                body.payload,
            )
        if kind == _CLOSED:
            return closed_record(id, value[27:middle], until=expires_at, successor=value[end:].decode() or None)
    except (struct.error, msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise ValueError("not a record of format 1") from error
    raise ValueError("not a record of format 1")


def ttl(expires_at: int, last_activity: int) -> int:
    """Seconds a key lives when nothing more is heard of its record."""
    return min(max(expires_at - last_activity, 0) + MARGIN, MAX_TTL)
