"""Storages: the data half of a session. Named sub-mappings, the queue, and updates that survive a conflict."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any, Literal, Self, TypeVar

import msgspec

from ..errors import SessionSerializationError
from . import changes, codec
from .kernel import Kernel
from .payload import DEFAULT_STORAGE

__all__ = ["Storages"]

T = TypeVar("T")


class Storages(Kernel):
    """Items of the current storage by dict methods; those of others by name."""

    __slots__ = ()

    def _end_login(self, storage: str) -> None:
        """End the login of *storage*, if there is one."""
        raise NotImplementedError

    # -- items -------------------------------------------------------------------------------------------------

    def set(self, key: str, value: Any) -> Self:
        """Set one item of the current storage; chainable."""
        self[key] = value
        return self

    def add(self, key: str, value: Any) -> bool:
        """Set an item only where it is absent; whether it was."""
        if key in self:
            return False
        self[key] = value
        return True

    def has(self, key: str) -> bool:
        """Whether *key* is there, even with the value ``None``."""
        return key in self

    def remove(self, key: str) -> Self:
        """Delete an item of the current storage, if it is there; chainable."""
        self.pop(key, None)
        return self

    def get_from(self, storage: str, key: str, default: Any = None) -> Any:
        """The item of another storage, which stays where it is."""
        return self._items(_storage_name(storage)).get(key, default)

    def set_to(self, key: str, value: Any, storage: str) -> Self:
        """Set an item of another storage; chainable."""
        if _storage_name(storage) == self._touch().storage:
            return self.set(key, value)
        self._writable()
        codec.check_item(key, value)
        if key == self._layer.owner_key and storage == DEFAULT_STORAGE:
            self._names(value)
        self._items(storage)[key] = value
        self._touch().drop_replay(storage, key)
        return self

    def typed(self, key: str, type: type[T]) -> T:
        """The item of *key* as *type* (dataclass, ``msgspec.Struct``, ``TypedDict`` …).

        Raises ``KeyError`` where it is absent, ``SessionSerializationError`` where it does not fit.
        """
        value = self[key]
        try:
            return msgspec.convert(value, type)
        except msgspec.ValidationError:
            raise SessionSerializationError(f"does not fit {type!r}", f"session[{key!r}]") from None

    def update_with(self, key: str, fn: Callable[[Any], Any], default: Any = None) -> Any:
        """Set *key* to ``fn(current value)`` and return it; *default* stands in where it is absent.

        Re-applied when another request saved first, so counters are exact: *fn* must have no side effects. It
        works on a copy. Raises ``ValueError`` when it returns ``None``.
        """
        self._writable()
        state = self._touch()
        value = dict.get(self, key, changes.ABSENT)
        replay = state.replay_of(state.storage, key)
        if replay is None:
            before = state.stored_items(state.storage).get(key, changes.ABSENT)
            same = value is before if changes.ABSENT in (value, before) else changes.same(value, before)
            replay = changes.Replay(None if same else (value,))
        result, replay = replay.call(key, fn, value, default)
        state.keep_replay(state.storage, key, replay)
        dict.__setitem__(self, key, result)
        return result

    # -- the queue ---------------------------------------------------------------------------------------------

    def put(self, key: str, value: Any) -> Self:
        """Queue an item for the current storage; invisible until ``save()``; chainable."""
        self._writable()
        codec.check_item(key, value)
        state = self._touch()
        state.queue = (*state.queue, (state.storage, key, value))
        return self

    def save(self, storage: str | None = None) -> bool:
        """Set every queued item, in *storage* or where each was put; ``False`` when none was queued.

        All of them, or none when one is refused: then they stay queued.
        """
        return self._save_queue(storage)

    def _save_queue(self, storage: str | None = None) -> bool:
        self._writable()
        state = self._touch()
        name, queue = None if storage is None else _storage_name(storage), state.queue
        for _, key, value in queue:
            codec.check_item(key, value)  # once more, before any is set: a list may have been appended to since
        state.queue = ()
        for put_in, key, value in queue:
            self.set_to(key, value, name or put_in)
        return bool(queue)

    def dequeue(self) -> int:
        """Drop the queue; how many items were in it."""
        state = self._touch()
        count, state.queue = len(state.queue), ()
        return count

    # -- storages ----------------------------------------------------------------------------------------------

    @property
    def storage(self) -> str:
        """The name of the current storage."""
        return self._touch().storage

    def set_storage(self, name: str) -> Self:
        """Switch the current storage; this dict then holds its items. Iterators become invalid; chainable."""
        state = self._touch()
        if _storage_name(name) != state.storage:
            items = self._items(name)
            kept = {storage: data for storage, data in state.others.items() if storage != name}
            state.others = {**kept, state.storage: dict(self)}
            self._pour(items)
            state.storage = name
        return self

    @contextlib.contextmanager
    def using_storage(self, name: str) -> Iterator[Self]:
        """Switch the current storage for the length of a ``with`` block."""
        before = self.storage
        try:
            yield self.set_storage(name)
        finally:
            self.set_storage(before)

    def clear(self, storage: str | None = None) -> Self:  # type: ignore[override]
        """Drop every item of a storage, and its login (then it counts as a logout); chainable."""
        self._writable()
        state = self._touch()
        name = self._named(storage)
        if name == state.storage:
            dict.clear(self)
        else:
            state.others = {**state.others, name: {}}
        wish = state.wishing()
        wish.cleared |= {name}
        if name in wish.ended and not wish.wiped:
            wish.ended = {**wish.ended, name: True}
        state.drop_replay(name)
        self._end_login(name)
        return self

    def get_result(self, format: Literal["dict", "object"] = "dict") -> Any:
        """Items of all storages, by storage name; never the metadata. Raises ``ValueError`` for another *format*."""
        result = {name: dict(self._items(name)) for name in self._touch().storage_names()}
        result = {name: items for name, items in result.items() if items}
        if format == "dict":
            return result
        if format == "object":
            return _namespace(result)
        raise ValueError(f'format must be "dict" or "object", not {format!r}')

    def to_dict(self, key: str | None = None) -> dict[str, Any]:
        """The current storage's items; with *key* that one item (its own items if it is a dict), or nothing."""
        if key is None:
            return self.copy()
        if key not in self:
            return {}
        value = self[key]
        return dict(value) if isinstance(value, dict) else {key: value}

    def to_object(self, key: str | None = None) -> SimpleNamespace:
        """As ``to_dict``, with attributes, at every depth."""
        result: SimpleNamespace = _namespace(self.to_dict(key))
        return result

    def _named(self, storage: str | None) -> str:
        """The name of *storage*, or of the current one. Raises ``ValueError`` for what is no name."""
        return self._touch().storage if storage is None else _storage_name(storage)

    def _items(self, storage: str) -> dict[str, Any]:
        """The live items of *storage*."""
        state = self._touch()
        if storage == state.storage:
            return self
        if storage not in state.others:
            state.others = {**state.others, storage: state.stored_items(storage)}
        return state.others[storage]


def _storage_name(name: str) -> str:
    if not isinstance(name, str) or not name:
        raise ValueError("a storage name is a non-empty string")
    return name


def _namespace(value: Any) -> Any:
    if isinstance(value, dict):
        return SimpleNamespace(**{key: _namespace(item) for key, item in value.items()})
    if isinstance(value, list | tuple):
        return type(value)(map(_namespace, value))
    return value
