"""Tags: how a value that JSON lacks is written in JSON's own types, and read again.

Decided here: which types can be stored, how each is written (``docs/formats/values.md``), and where a part that must be
refused is. A tag is an object whose only key starts with ``$``; a user's own object of that shape gets one more
``$`` in front. Limits and bytes are ``codec``'s; a set alone must be encoded here, to be sorted.

Subclasses are written as the nearest base in the table, by that base's own methods: what a class overrides (or what an
app's code would do there) plays no part.
"""

from __future__ import annotations

import binascii
import dataclasses
import datetime as dt
import decimal
import enum
import uuid
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable
from typing import Any, NoReturn

import msgspec

from ..errors import SessionSerializationError

__all__ = [
    "MAX_DEPTH",
    "MAX_DIGITS",
    "MAX_ITEMS",
    "Refused",
    "Writer",
    "items_of",
    "looks_tagged",
    "revive",
    "shown",
    "text_key",
]

MAX_DEPTH = 64  # containers inside one another; the storage itself is not counted
MAX_ITEMS = 100_000  # entries of all containers together, the storage's included
MAX_DIGITS = 4300  # of an integer, a minus sign counted: what Python and msgspec read back (CVE-2020-10735)

_SHOWN = 40  # characters of a key in a path
_SMALLEST, _LARGEST = 1 - 10 ** (MAX_DIGITS - 1), 10**MAX_DIGITS - 1
_MICROSECOND = dt.timedelta(microseconds=1)

_dumps = msgspec.json.Encoder().encode
_loads = msgspec.json.Decoder().decode


class Refused(Exception):  # noqa: N818  (becomes a SessionSerializationError once the path is known)
    """Why, and the way there, from the leaf up: (id of the container, step from it)."""

    def __init__(self, reason: str) -> None:
        self.reason = reason
        self.steps: list[tuple[int, str]] = []

    def blame(self, root: str) -> NoReturn:
        """Raise the ``SessionSerializationError`` that names the bad part, below *root*."""
        seen: set[int] = set()
        path = root
        for container, step in reversed(self.steps):
            if container in seen:  # whatever limit was hit in there, this is why
                raise SessionSerializationError("contains itself", path) from None
            seen.add(container)
            path += step
        raise SessionSerializationError(self.reason, path) from None


class Writer:
    """Makes a copy in JSON's own types, ready for msgspec; *depth* is the number of containers around a value."""

    __slots__ = ("entries",)

    def __init__(self) -> None:
        self.entries = 0

    def item(self, value: Any) -> Any:
        """The copy of a value that stands alone: the one entry of its storage."""
        self.entries += 1
        return self.lower(value, 1)

    def lower(self, value: Any, depth: int) -> Any:
        """The copy of *value*. Raises ``Refused``."""
        kind = type(value)
        if kind is str:
            if value.isascii():
                return value
        elif kind is int:
            if -(2**63) < value < 2**63:
                return value
        elif kind is bool or value is None:
            return value
        write = _WRITERS.get(kind)
        if write is None:
            write = _inherited(kind)
        return write(self, value, depth)

    def enter(self, container: Any, size: int, depth: int) -> None:
        """Count the entries of a container that is about to be copied. Raises ``Refused`` beyond a limit."""
        self.entries += size
        if depth > MAX_DEPTH:
            refused = Refused(f"nested deeper than {MAX_DEPTH} containers")
        elif self.entries > MAX_ITEMS:
            refused = Refused(f"more than {MAX_ITEMS:,} entries")
        else:
            return
        refused.steps.append((id(container), ""))
        raise refused

    def pairs(
        self, owner: Any, items: Collection[tuple[Any, Any]], depth: int, step: Callable[[str], str] | None = None
    ) -> dict[str, Any]:
        """The copy of the entries of *owner*; *step* is how a path goes on to one of a given name."""
        self.enter(owner, len(items), depth)
        lowered = {}
        for key, item in items:
            name = key if type(key) is str and key.isascii() else text_key(key)
            try:
                lowered[name] = self.lower(item, depth + 1)
            except Refused as refused:
                refused.steps.append((id(owner), step(name) if step else f"[{shown(name)}]"))
                raise
        return lowered

    def elements(self, owner: Any, items: Collection[Any], depth: int) -> list[Any]:
        """The copy of a list's or tuple's elements."""
        self.enter(owner, len(items), depth)
        lowered = []
        for item in items:
            try:
                lowered.append(self.lower(item, depth + 1))
            except Refused as refused:
                refused.steps.append((id(owner), f"[{len(lowered)}]"))
                raise
        return lowered

    def unordered(self, owner: Any, items: list[Any], depth: int) -> list[msgspec.Raw]:
        """The encodings of a set's elements, sorted. Elements that come back equal are one element."""
        self.enter(owner, len(items), depth)
        encodings = set()
        try:
            for item in items:
                encodings.add(_dumps(self.lower(item, depth + 1)))
            kept = sorted(encodings)
            if not _TELLING.issuperset(map(type, items)):
                kept = _distinct(kept)
        except Refused as refused:
            refused.steps.append((id(owner), "{…}"))
            raise
        return [msgspec.Raw(encoding) for encoding in kept]


def looks_tagged(value: dict[str, Any]) -> bool:
    """Whether the only key of *value* starts with the sign of a tag."""
    (key,) = value
    return key.startswith("$")


def items_of(value: dict[Any, Any]) -> Collection[tuple[Any, Any]]:
    """The entries of a dict or subclass of it, whatever it overrides; an OrderedDict keeps its order elsewhere."""
    return OrderedDict.items(value) if isinstance(value, OrderedDict) else dict.items(value)


def _text(value: str) -> str:
    if not str.isascii(value):
        try:
            str.encode(value)
        except UnicodeEncodeError:
            raise Refused("text with a lone surrogate has no UTF-8 form") from None
    return str.__str__(value)  # of a subclass, such as Markup: the bare text


def text_key(key: Any) -> str:
    """*key* as exact text. Raises ``Refused`` for what is no text or has no UTF-8 form."""
    if not isinstance(key, str):
        raise Refused(f"a key of type {type(key).__name__}; only text comes back as itself")
    try:
        return _text(key)
    except Refused:
        raise Refused("a key with a lone surrogate has no UTF-8 form") from None


def shown(key: str) -> str:
    """*key* as paths show it."""
    return repr(key if len(key) <= _SHOWN else key[:_SHOWN] + "…")


def _integer(value: int) -> int:
    number = int.__int__(value)
    if _SMALLEST <= number <= _LARGEST:
        try:
            int.__repr__(number)
        except ValueError:  # this process allows fewer digits (sys.set_int_max_str_digits)
            pass
        else:
            return number
    raise Refused(f"an integer of more digits than can be read back (at most {MAX_DIGITS})")


def _float(value: float) -> float:
    number = float.__float__(value)
    if number - number != 0.0:
        raise Refused("NaN and Infinity are not JSON")
    return number


def _decimal(value: decimal.Decimal) -> str:
    if not value.is_finite():
        raise Refused("a Decimal that is NaN or Infinity")
    return decimal.Decimal.__str__(value).upper()  # "E" or "e" is the decimal context's choice


def _datetime(value: dt.datetime) -> str:
    _whole_seconds(dt.datetime.utcoffset(value))
    return dt.datetime.isoformat(value)


def _time(value: dt.time) -> str:
    _whole_seconds(dt.time.utcoffset(value))
    return dt.time.isoformat(value)


def _whole_seconds(offset: dt.timedelta | None) -> None:
    if offset is not None and offset.microseconds:  # fromisoformat takes +00:00:00.000001 for UTC
        raise Refused("a UTC offset with a fraction of a second")


def _mapping(writer: Writer, value: dict[Any, Any], depth: int) -> dict[str, Any]:
    return _escaped(writer.pairs(value, items_of(value), depth))


def _escaped(lowered: dict[str, Any]) -> dict[str, Any]:
    if len(lowered) == 1 and looks_tagged(lowered):
        return {f"${key}": item for key, item in lowered.items()}
    return lowered


def _dataclass(writer: Writer, value: Any, depth: int) -> dict[str, Any]:
    names = [field.name for field in dataclasses.fields(value)]
    items = [(name, getattr(value, name)) for name in names if hasattr(value, name)]
    return _escaped(writer.pairs(value, items, depth, lambda name: f".{name}"))


def _struct(writer: Writer, value: msgspec.Struct, depth: int) -> dict[str, Any]:
    """Under the names msgspec gives the fields, so that ``msgspec.convert`` makes a Struct of it again."""
    named = zip(value.__struct_encode_fields__, value.__struct_fields__, strict=True)
    items = [(name, getattr(value, field)) for name, field in named]
    config = value.__struct_config__
    if config.tag_field is not None:
        items.insert(0, (config.tag_field, config.tag))
    items = [(name, item) for name, item in items if item is not msgspec.UNSET]
    return _escaped(writer.pairs(value, items, depth, lambda name: f".{name}"))


def _distinct(encodings: Iterable[bytes]) -> list[bytes]:
    """*encodings* without those that come back equal to an earlier one, such as one instant in two time zones."""
    kept: dict[Any, bytes] = {}
    for encoding in encodings:
        try:
            kept.setdefault(revive(_loads(encoding)), encoding)
        except TypeError:
            raise Refused("would come back as something that cannot be in a set") from None
    return list(kept.values())


def _refusal(hint: str) -> _Write:
    def refuse(_writer: Writer, value: Any, _depth: int) -> NoReturn:
        raise Refused(f"a value of type {type(value).__name__} cannot be stored; {hint}")

    return refuse


def _inherited(kind: type) -> _Write:
    """How values of a type that is not in the table are written: as its nearest base that is."""
    for base in kind.__mro__:
        if base in _WRITERS:
            return _WRITERS[base]
        if base.__name__ == "Markup" and base.__module__ == "markupsafe":  # by name: loaded only where it is read
            return _MARKUP
    if dataclasses.is_dataclass(kind):
        return _dataclass
    raise Refused(
        f"a value of type {kind.__name__} cannot be stored; keep plain values (text, numbers, dates, lists, dicts), or "
        "a dataclass, which session.typed() gives back"
    )


def _scalar(write: Callable[[Any], Any]) -> _Write:
    return lambda _writer, value, _depth: write(value)


def _tagged(tag: str, write: Callable[[Any], Any]) -> _Write:
    return lambda _writer, value, _depth: {tag: write(value)}


_Write = Callable[[Writer, Any, int], Any]
_MARKUP: _Write = _tagged("$markup", _text)
_WRITERS: dict[type, _Write] = {
    str: _scalar(_text),
    int: _scalar(_integer),
    float: _scalar(_float),
    dict: _mapping,
    list: lambda writer, value, depth: writer.elements(value, list(list.__iter__(value)), depth),
    tuple: lambda writer, value, depth: {"$tuple": writer.elements(value, list(tuple.__iter__(value)), depth)},
    set: lambda writer, value, depth: {"$set": writer.unordered(value, list(set.__iter__(value)), depth)},
    frozenset: lambda writer, value, depth: {
        "$frozenset": writer.unordered(value, list(frozenset.__iter__(value)), depth)
    },
    dt.datetime: _tagged("$datetime", _datetime),
    dt.date: _tagged("$date", dt.date.isoformat),
    dt.time: _tagged("$time", _time),
    dt.timedelta: _tagged("$timedelta", lambda value: dt.timedelta.__floordiv__(value, _MICROSECOND)),
    uuid.UUID: _tagged("$uuid", uuid.UUID.__str__),
    decimal.Decimal: _tagged("$decimal", _decimal),
    bytes: _tagged("$bytes", lambda value: binascii.b2a_base64(value, newline=False).decode("ascii")),
    msgspec.Struct: _struct,
    enum.Enum: _refusal("store its .value"),
    bytearray: _refusal("store bytes(value)"),
    memoryview: _refusal("store bytes(value)"),
}

# Types whose values, when they differ, still differ after coming back; a time zone comes back as a fixed offset.
_TELLING = frozenset({str, int, bool, type(None), float, bytes, dt.date, dt.timedelta, uuid.UUID, decimal.Decimal})


def revive(value: Any) -> Any:
    """*value* as msgspec read it, with tags undone; containers are changed in place."""
    if type(value) is list:
        for index, item in enumerate(value):
            value[index] = revive(item)
    elif type(value) is dict:
        if len(value) == 1 and looks_tagged(value):
            ((key, item),) = value.items()
            if key.startswith("$$"):
                return {key[1:]: revive(item)}
            return _untagged(key, item)
        for key, item in value.items():
            value[key] = revive(item)
    return value


def _untagged(tag: str, item: Any) -> Any:
    kind, read = _READERS.get(tag, (None, None))
    if read is None or type(item) is not kind:
        raise ValueError
    return read(revive(item))


def _finite(text: str) -> decimal.Decimal:
    number = decimal.Decimal(text)
    if not number.is_finite():  # also what a context without traps makes of nonsense
        raise ValueError
    return number


def _markup(text: str) -> str:
    from markupsafe import Markup  # here: templates' matter, and few sessions hold one

    return Markup(text)  # noqa: S704 - it was safe when it was stored, and nobody else could write it


_READERS: dict[str, tuple[type, Callable[[Any], Any]]] = {
    "$tuple": (list, tuple),
    "$set": (list, set),
    "$frozenset": (list, frozenset),
    "$datetime": (str, dt.datetime.fromisoformat),
    "$date": (str, dt.date.fromisoformat),
    "$time": (str, dt.time.fromisoformat),
    "$timedelta": (int, lambda microseconds: dt.timedelta(microseconds=microseconds)),
    "$uuid": (str, uuid.UUID),
    "$markup": (str, _markup),
    "$decimal": (str, _finite),
    "$bytes": (str, lambda text: binascii.a2b_base64(text, strict_mode=True)),
}
