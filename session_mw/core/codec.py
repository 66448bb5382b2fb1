"""Codec: one storage (a ``dict[str, Any]``) to JSON bytes and back.

Decided here: the bytes, their limit, and what "unchanged" means: equal encodings. Which values can be stored, and how
those are written that JSON lacks, is ``tags``. The law: ``encode(decode(b)) == b`` for all bytes ever written, in any
process.

The bytes are msgspec's: JSON (RFC 8259), UTF-8, no spaces, keys in the dict's order. But msgspec alone would also write
tuples, sets, dates, NaN and integer keys, silently, as something that does not come back. So there are two ways to
the same bytes: ``_entries`` proves that every value is JSON's own and msgspec may write the data as it is; otherwise
``tags`` makes a copy in JSON's own types, or knows the path of the part it must refuse.

Of a dict subclass only the data is read, never an overridden method: a ``Session`` is given as it is.
"""

from __future__ import annotations

import datetime as dt
import decimal
import uuid
from collections.abc import Callable, Collection
from typing import Any

import msgspec

from ..errors import SessionTooLargeError
from .tags import MAX_DEPTH, MAX_DIGITS, MAX_ITEMS, Refused, Writer, items_of, looks_tagged, revive, shown, text_key

__all__ = [
    "MAX_BYTES",
    "MAX_DEPTH",
    "MAX_DIGITS",
    "MAX_ITEMS",
    "check_item",
    "decode",
    "encode",
    "encode_if_changed",
    "encode_value",
    "is_flat",
]

MAX_BYTES = 4 * 1024 * 1024

_dumps = msgspec.json.Encoder().encode
_loads = msgspec.json.Decoder(dict[str, Any]).decode
_equal = dict.__eq__
_items = dict.items
_keys = dict.keys
_length = dict.__len__
_values = dict.values

# Exact types of which a value cannot change in place; of bytes, a bytearray is the equal.
_all_fixed = frozenset(
    {str, int, bool, type(None), float, dt.datetime, dt.date, dt.time, dt.timedelta, uuid.UUID, decimal.Decimal}
).issuperset
_DIGITS_AS_ZERO = bytes.maketrans(b"123456789", b"000000000")
_LONGEST_RUN = b"0" * MAX_DIGITS


def encode(data: dict[str, Any], root: str = "session") -> bytes:
    """The encoding of *data*; *root* is what paths in errors start with.

    Raises ``SessionSerializationError`` for a value that would not come back as itself, or beyond ``MAX_DEPTH``,
    ``MAX_ITEMS`` or ``MAX_DIGITS``; ``SessionTooLargeError`` beyond ``MAX_BYTES``.
    """
    if _is_plain(data):
        raw = _native_bytes(data)
        if raw is not None:
            return _sized(raw, root)
    return _encode_thoroughly(data, root)


def encode_if_changed(
    data: dict[str, Any],
    original: bytes,
    loaded: dict[str, Any] | None = None,
    root: str = "session",
    *,
    plain: bool = False,
) -> bytes | None:
    """``None`` when ``encode(data)`` would be *original*, else ``encode(data)``. Raises as ``encode`` does.

    *original* was written by ``encode``. *loaded*, which saves time, is the dict that ``decode(original)`` gave: its
    values may be shared with *data*, but its own entries must be as they were. *plain*: ``check_item`` has called every
    entry plain. A value whose class claims that it equals the stored one, and whose JSON text is the same, counts as
    unchanged.
    """
    try:
        raw = _dumps(data)
    except Exception:  # a foreign type, a lone surrogate, a cycle: the thorough way tells what and where
        raw = None
    if raw == original:
        # The text may still stand for other types, such as a datetime's or a tuple's; being equal as well rules them
        # out. Without containers the values loaded cannot have changed since.
        if loaded is None or not is_flat(original):
            loaded = decode(original)
        if _equal(loaded, data):
            return None
    elif raw is not None:
        # With tags the texts differ, but what was loaded has one as well; and what cannot change in place, has not.
        if (
            (36 in original and loaded is not None and _equal(loaded, data))
            and _all_fixed(map(type, _values(loaded)))
            and _dumps(loaded) == raw
        ):
            return None
        if (plain or _is_plain(data)) and _length(data) <= MAX_ITEMS and (len(raw) <= MAX_DIGITS or _digits_fit(raw)):
            return raw if len(raw) <= MAX_BYTES else _sized(raw, root)
    new = _encode_thoroughly(data, root)
    return None if new == original else new


def encode_value(value: Any, root: str) -> bytes:
    """The encoding of one value, as it stands inside its storage's. *root* and errors: as in ``encode``."""
    if 0 <= _entries((value,), 0) <= MAX_ITEMS:
        raw = _native_bytes(value)
        if raw is not None:
            return _sized(raw, root)
    return _write(root, lambda writer: writer.item(value))


def check_item(key: Any, value: Any, root: str = "session") -> bool:
    """What an assignment calls: raise what ``encode`` would for the entry *key*, key included, of the dict *root*.

    Whether it is plain: JSON's own, and nothing in it can change. Plain scalars cost next to nothing; the path is built
    only when it is needed.
    """
    plain = type(key) is str
    if not plain or not key.isascii():
        _write(root, lambda _writer: text_key(key))
    kind = type(value)
    if kind is str:
        if value.isascii() and len(value) < MAX_BYTES:
            return plain
    elif kind is int:
        if -(2**63) < value < 2**63:
            return plain
    elif kind is bool or value is None:
        return plain
    encode_value(value, f"{root}[{shown(text_key(key))}]")
    return False


def decode(data: bytes) -> dict[str, Any]:
    """What ``encode`` wrote. Raises ``ValueError``, without a word of the data, for what it cannot have written."""
    try:
        tree = _loads(data)
        if 36 in data:  # "$"; looking for one byte is many times faster than for two
            for key, value in tree.items():
                kind = type(value)
                if kind is dict or kind is list:
                    tree[key] = revive(value)
    except (ArithmeticError, RecursionError, TypeError, ValueError):
        raise ValueError("these bytes are no encoded session data") from None
    return tree


def is_flat(data: bytes) -> bool:
    """Whether *data*, written by ``encode``, certainly holds no container inside: no value can change in place."""
    return 91 not in data and data.find(b"{", 1) < 0  # no "[", no second "{"


def _is_plain(data: dict[str, Any]) -> bool:
    """Whether *data*, within the limits, is of such types that msgspec writes it as ``tags`` would."""
    for key, value in _items(data):
        kind = type(value)
        if type(key) is not str or not (kind is str or kind is int or value is None or kind is bool):
            break
    else:
        return _length(data) <= MAX_ITEMS  # nothing nested: the usual
    for key in _keys(data):
        if type(key) is not str:
            return False
    return 0 <= _entries(_values(data), 0) <= MAX_ITEMS


def _entries(values: Collection[Any], depth: int) -> int:
    """How many entries *values* hold at all depths; -1 when msgspec should not write them, or beyond a limit.

    On the hot path: plain loops, since set operations over so few items cost more than they save.
    """
    total = len(values)
    for value in values:
        kind = type(value)
        if kind is str or kind is int or value is None or kind is bool:
            continue
        if kind is float:
            if value - value != 0.0:  # NaN, Infinity
                return -1
            continue
        if kind is dict:
            for key in value:
                if type(key) is not str:
                    return -1
            if len(value) == 1 and looks_tagged(value):
                return -1
            value = value.values()
        elif kind is not list:
            return -1
        if depth == MAX_DEPTH:
            return -1
        inner = _entries(value, depth + 1)
        total += inner
        if inner < 0 or total > MAX_ITEMS:  # also ends the walk of lists that share lists that share lists
            return -1
    return total


def _native_bytes(data: Any) -> bytes | None:
    """What msgspec makes of plain *data*; ``None`` for lone surrogates and integers beyond the limit."""
    try:
        raw = _dumps(data)
    except ValueError:
        return None
    return raw if len(raw) <= MAX_DIGITS or _digits_fit(raw) else None


def _digits_fit(raw: bytes) -> bool:
    """Whether *raw* certainly holds no integer beyond the limit: it has no such run of digits, in text or out of it."""
    return raw.translate(_DIGITS_AS_ZERO).find(_LONGEST_RUN) < 0


def _encode_thoroughly(data: dict[str, Any], root: str) -> bytes:
    return _write(root, lambda writer: writer.pairs(data, items_of(data), 0))


def _write(root: str, work: Callable[[Writer], Any]) -> bytes:
    try:
        lowered = work(Writer())
    except Refused as refused:
        refused.blame(root)
    return _sized(_dumps(lowered), root)


def _sized(raw: bytes, root: str) -> bytes:
    size = len(raw)
    if size > MAX_BYTES:
        text = f"{root} takes {size:,} bytes as JSON: {size - MAX_BYTES:,} more than the {MAX_BYTES:,} allowed"
        raise SessionTooLargeError(text, size=size, limit=MAX_BYTES)
    return raw
