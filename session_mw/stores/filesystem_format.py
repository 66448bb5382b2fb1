"""One record in one file: its bytes, and the names of files. The layout is in docs/formats/filesystem.md.

Decided here: what a touch changes, two times and no more, stands in a header of fixed size with a checksum of its
own, so that a touch rewrites these few bytes in place and never the payload. The checksums find accidents; against
people there are the modes of the files, and ``encryption``.
"""

from __future__ import annotations

import hashlib
import struct
import zlib
from typing import NamedTuple

import msgspec

from ..core.record import Record
from ..errors import StoreError

__all__ = [
    "HEADER_BYTES",
    "DamagedError",
    "ForeignError",
    "Header",
    "decode",
    "encode",
    "is_name",
    "name_of",
    "read_header",
]

VERSION = 1

_FIELDS = struct.Struct(">BBqqII")
HEADER_BYTES = _FIELDS.size + 4

_Body = tuple[
    str, bytes, str | None, int, int, int | None, str | None, str | None, int, bytes, str | None
]  # id, digest, user_id, created_at, absolute_expires_at, lifetime, login_ip, login_user_agent, version, payload, …
_ENCODER = msgspec.msgpack.Encoder()
_DECODER = msgspec.msgpack.Decoder(_Body)
_HEX = frozenset("0123456789abcdef")


class DamagedError(StoreError):
    """A file that is not what we write: cut off, changed, of another format, or no file at all."""


class ForeignError(DamagedError):
    """What is in place of a record was not put there by us: a link, a socket, somebody else's file."""


class Header(NamedTuple):
    """What is known of a record without its body. ``length``: bytes of the body; ``crc``: its CRC-32."""

    closed: bool
    last_activity: int
    expires_at: int
    length: int
    crc: int

    def pack(self) -> bytes:
        """The header's bytes. Raises ``struct.error`` for a time beyond 64 bits."""
        fields = _FIELDS.pack(VERSION, self.closed, self.last_activity, self.expires_at, self.length, self.crc)
        return fields + zlib.crc32(fields).to_bytes(4, "big")


def name_of(text: str) -> str:
    """The file name that stands for an id or a user: SHA-256 in hex, so that case and spelling count on every disk."""
    return hashlib.sha256(text.encode("utf-8")).hexdigest()


def is_name(text: str) -> bool:
    """Whether *text* could have come from ``name_of``."""
    return len(text) == 64 and _HEX.issuperset(text)


def encode(record: Record) -> bytes:
    """The file of *record*. Raises ``struct.error``, ``OverflowError`` or ``UnicodeEncodeError`` where it cannot be."""
    body = _ENCODER.encode(
        (
            record.id,
            record.digest,
            record.user_id,
            record.created_at,
            record.absolute_expires_at,
            record.lifetime,
            record.login_ip,
            record.login_user_agent,
            record.version,
            record.payload,
            record.successor,
        )
    )
    header = Header(record.closed, record.last_activity, record.expires_at, len(body), zlib.crc32(body))
    return header.pack() + body


def read_header(data: bytes) -> Header:
    """The header at the beginning of *data*. Raises ``DamagedError``."""
    if data and data[0] != VERSION:
        raise DamagedError(f"its format is {data[0]}, not {VERSION}")
    fields = data[: _FIELDS.size]
    if len(data) < HEADER_BYTES or zlib.crc32(fields) != int.from_bytes(data[_FIELDS.size : HEADER_BYTES], "big"):
        raise DamagedError("its header is incomplete")
    _, closed, last_activity, expires_at, length, crc = _FIELDS.unpack(fields)
    return Header(bool(closed), last_activity, expires_at, length, crc)


def decode(data: bytes, name: str) -> Record:
    """The record of a file called *name*. Raises ``DamagedError``."""
    header = read_header(data)
    body = memoryview(data)[HEADER_BYTES:]
    if len(body) != header.length or zlib.crc32(body) != header.crc:
        raise DamagedError("its body is incomplete")
    try:
        fields = _DECODER.decode(body)
    except ValueError as error:  # msgspec's own errors, and texts that are no UTF-8
        raise DamagedError("its body is no record") from error
    key, digest, user_id, created_at, absolute, lifetime, ip, agent, version, payload, successor = fields
    if name_of(key) != name:
        raise DamagedError("it holds the record of another id")
    return Record(
        key,
        digest,
        user_id,
        created_at,
        header.last_activity,
        header.expires_at,
        absolute,
        lifetime,
        ip,
        agent,
        version,
        payload,
        header.closed,
        successor,
    )
