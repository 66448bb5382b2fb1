"""The payload of a record: a session's data as bytes, in two segments.

    storage "global" as a bare JSON object  "\\n"  everything else as a JSON object, or nothing

Reading a session costs one JSON decode of the first segment; the second (login states, attempts, other storages)
stays bytes until somebody asks, and is copied verbatim on save. Compact JSON never holds a raw newline (RFC 8259 §7),
so the first one is the border. The leading byte is the format's version: ``{`` is this one.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from .login import Login

__all__ = ["BORDER", "DEFAULT_STORAGE", "EMPTY_META", "NO_ITEMS", "Meta", "join", "read_meta", "split", "write_meta"]

DEFAULT_STORAGE = "global"
BORDER = b"\n"
NO_ITEMS = b"{}"
_FORMAT = 123  # "{"


class Meta(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True, gc=False):
    """The second segment. Every field is left out while it holds its default (msgspec knows ``dict`` itself alone)."""

    logins: Mapping[str, Login] = msgspec.field(default_factory=dict, name="l")
    attempts: Mapping[str, int] = msgspec.field(default_factory=dict, name="a")
    storages: Mapping[str, msgspec.Raw] = msgspec.field(default_factory=dict, name="s")
    former: str = msgspec.field(default="", name="f")  # digest of the last owner after a logout, or ``NAMELESS``
    persistent: bool = msgspec.field(default=False, name="p")  # the cookie outlives the browser
    ip: str = msgspec.field(default="", name="i")  # the address the session is bound to from creation

    def __repr__(self) -> str:
        return f"<Meta {len(self.logins)} logins, {len(self.storages)} storages>"


EMPTY_META = Meta()
_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Meta).decode


def split(payload: bytes) -> tuple[bytes, bytes]:
    """Both segments of *payload*. Raises ``ValueError`` for another format's."""
    data, border, rest = payload.partition(BORDER)
    if not border or payload[0] != _FORMAT:
        raise ValueError("unknown payload format")
    return data, rest


def join(data: bytes, rest: bytes) -> bytes:
    """The payload of two segments."""
    return data + BORDER + rest


def read_meta(rest: bytes) -> Meta:
    """The second segment, understood. Raises ``ValueError`` when it is damaged."""
    try:
        return _decode(rest) if rest else EMPTY_META
    except RecursionError:
        raise ValueError("nested too deeply for anything that was written here") from None


def write_meta(meta: Meta) -> bytes:
    """The second segment's bytes; none for an empty one."""
    if meta is EMPTY_META:
        return b""
    rest = _encode(meta)
    return b"" if rest == b"{}" else rest
