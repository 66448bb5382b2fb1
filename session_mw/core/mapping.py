"""LazyDict: a real ``dict`` that fills on first touch, and notices when it is touched.

``request.session`` and ``flask.session`` are used as one dict everywhere, so ours *is* one. Each class has a
*dormant* twin with the same memory layout: its reading and writing methods wake the object (fill it, or note that what
was filled in advance is looked at), turn it into its awake class, and repeat the call there. An awake object's plain
reads are the C dict's own.

While unfilled it holds one private entry with a non-string key. C-level readers look at the dict's size before they
call any method: without the entry ``json.dumps`` would say ``{}``; with it, it calls ``items()`` and fills, and those
that never call methods (msgspec, orjson) refuse the key instead of showing an empty session.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping
from typing import Any, ClassVar, NoReturn, Self

from . import codec

__all__ = ["UNFILLED", "LazyDict"]


class _Placeholder:
    __slots__ = ()

    def __repr__(self) -> str:
        return "<not loaded>"


UNFILLED: Any = _Placeholder()
"""The one key of a dict that is not filled yet."""

_READERS = (
    *("__contains__", "__getitem__", "__iter__", "__len__", "__reversed__", "get", "items", "keys", "values"),
    *("__eq__", "__ge__", "__gt__", "__le__", "__lt__", "__ne__", "__or__", "__ror__", "copy"),
)


class LazyDict(dict[str, Any]):
    """The dict half of a session. A subclass says how to ``_fill`` and what to check before a write (``_writable``)."""

    __slots__ = ()
    _dormant: ClassVar[type[Any]]
    _awake: ClassVar[type[Any]]
    _entrances: ClassVar[tuple[str, ...]] = ()  # methods of a subclass that wake as the readers do

    def __init_subclass__(cls, *, dormant: bool = False, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if not dormant:
            cls._awake = cls
            cls._dormant = _twin(cls)

    # -- waking -------------------------------------------------------------------------------------------------

    def _wake(self) -> None:
        """Turn a dormant object into an awake one; nothing for an awake one."""

    def _rouse(self) -> None:
        """What ``_wake`` does to a dormant object: fill it, and note that it was touched."""
        raise NotImplementedError

    def _pour(self, data: Mapping[str, Any]) -> None:
        """Hold *data* and nothing else."""
        dict.clear(self)
        dict.update(self, data)

    def _writable(self) -> None:
        """Called before each write. Raises ``SessionClosedError`` when it is too late."""
        self._wake()

    def _replaced(self, key: str, value: Any = None, *, plain: bool = False) -> None:
        """Called when *key* is about to get a *value* by assignment, or has lost its own; *plain*: the value is."""

    # -- writing ------------------------------------------------------------------------------------------------

    def __setitem__(self, key: str, value: Any) -> None:
        self._writable()
        self._replaced(key, value, plain=codec.check_item(key, value))
        dict.__setitem__(self, key, value)

    def __delitem__(self, key: str) -> None:
        self._writable()
        dict.__delitem__(self, key)
        self._replaced(key)

    def pop(self, key: str, *default: Any) -> Any:
        """Remove *key* and return its value, or *default*. Raises ``KeyError`` without one."""
        self._writable()
        value = dict.pop(self, key, *default)
        self._replaced(key)
        return value

    def popitem(self) -> tuple[str, Any]:
        """Remove and return the item set last. Raises ``KeyError`` when empty."""
        self._writable()
        item = dict.popitem(self)
        self._replaced(item[0])
        return item

    def setdefault(self, key: str, default: Any = None) -> Any:
        """The value of *key*, set to *default* first where it is absent."""
        self._wake()
        if key not in self:
            self[key] = default
        return dict.__getitem__(self, key)

    def update(self, *args: Mapping[str, Any] | Iterable[tuple[str, Any]], **kwargs: Any) -> None:  # type: ignore[override]
        """Set several items: all of them, or none when one is refused."""
        self._writable()
        items: dict[str, Any] = dict(*args, **kwargs)
        for key, value in items.items():
            codec.check_item(key, value)
        for key, value in items.items():
            self._replaced(key, value)
        dict.update(self, items)

    def __ior__(self, other: Any) -> Self:  # type: ignore[override]
        self.update(other)
        return self

    # -- as a plain dict ----------------------------------------------------------------------------------------

    def copy(self) -> dict[str, Any]:
        """A plain, shallow dict."""
        self._wake()
        return dict(self)

    __copy__ = copy

    def __deepcopy__(self, memo: dict[int, Any]) -> dict[str, Any]:
        return copy.deepcopy(self.copy(), memo)

    def __or__(self, other: Any) -> Any:
        return self.copy() | other if isinstance(other, dict) else NotImplemented

    def __ror__(self, other: Any) -> Any:
        return other | self.copy() if isinstance(other, dict) else NotImplemented

    def __reduce_ex__(self, protocol: Any) -> NoReturn:
        raise TypeError("a session cannot be pickled; pickle session.copy() if you must")


def _twin(awake: type[LazyDict]) -> type[LazyDict]:
    """The dormant class of *awake*: the same layout, and every dict reader wakes first."""
    names = (*_READERS, *awake._entrances)
    methods: dict[str, Any] = {name: _waking(getattr(awake, name)) for name in names}
    item, value_of, wake, writable = awake.__getitem__, awake.get, awake._rouse, awake._writable

    def getitem(self: LazyDict, key: str) -> Any:  # the ways most handlers begin, without a detour
        wake(self)
        return item(self, key)

    def get(self: LazyDict, key: str, default: Any = None) -> Any:
        wake(self)
        return value_of(self, key, default)

    def _writable(self: LazyDict) -> None:
        wake(self)
        writable(self)

    methods |= {
        "__slots__": (),
        "_wake": wake,
        "_writable": _writable,
        "__getitem__": getitem,
        "get": get,
        "__module__": awake.__module__,
        "__qualname__": awake.__qualname__,
        "__hash__": None,
        "__doc__": awake.__doc__,
    }
    metaclass: Any = type(awake)
    twin: type[LazyDict] = metaclass(awake.__name__, (awake,), methods, dormant=True)
    return twin


def _waking(method: Callable[..., Any]) -> Callable[..., Any]:
    def waking(self: LazyDict, *args: Any, **kwargs: Any) -> Any:
        self._wake()
        return method(self, *args, **kwargs)

    waking.__name__ = method.__name__
    waking.__doc__ = method.__doc__
    return waking
