"""The calls of the contract, as flows over commands: what is asked of the server, and what its answer means.

Decided here: which commands one call takes. Where all keys lie on one server a call is one script, so it is atomic
and one round trip. A Cluster keeps a record and its owner's index on different nodes; there the two are kept right
by order alone: the entry is written before the record and removed after it, so that a session in use is always
listed, and an entry that leads nowhere is passed over and expires. ``rotate`` would need two records at once, so a
Cluster cannot.

Flows are driven by ``run`` and ``arun`` of the core; what they ask is a *line*: it sends commands, brings answers,
and raises StoreError. The two calls that every request makes, load and the save of a payload, are one question
everywhere, so they need no flow: here is what is asked and what the answer means.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from logging import getLogger
from typing import Any, NamedTuple

from ..core.operations import Flow, Operation, Outcome
from ..core.record import Record
from ..errors import StoreError
from . import StoreStats
from . import redis_scripts as scripts
from .redis_layout import MARGIN, UNSTORABLE, Keys, decode, encode, stamp, ttl

__all__ = ["SAVED", "Ask", "Calls", "ClusterCalls", "Nodes", "Values"]

PAGE = 500  # keys a script of a sweep looks at

_ENDED = (Outcome.GONE, Outcome.CONFLICT, Outcome.DELETED)
SAVED = (Outcome.GONE, Outcome.CONFLICT, Outcome.SAVED)

logger = getLogger("session_mw")


class Ask(Operation, frozen=True, gc=False):
    """One command, and where it goes when not by its key. What only *reads* may be sent twice."""

    args: tuple[Any, ...]
    reads: bool = False
    node: Any = None

    def ask(self, store: Any) -> Any:
        return store.ask(self)


class Nodes(Operation, frozen=True, gc=False):
    """Every server that keeps keys: what ``Ask.node`` takes."""

    def ask(self, store: Any) -> Any:
        return store.nodes()


class Values(Operation, frozen=True, gc=False):
    """What is kept under *keys*, wherever they lie."""

    keys: list[str]

    def ask(self, store: Any) -> Any:
        return store.values(self.keys)


class _Sweep(NamedTuple):
    """Where a purge had enough: a cursor of the server's, which stays good while the set changes."""

    names: list[str]  # of the servers
    judged: int  # the earliest time that what was passed was judged by
    place: int
    cursor: int


def _unstorable(error: Exception) -> StoreError:
    return StoreError(f"a value that the Redis layout cannot hold ({type(error).__name__})")


def _life(record: Record) -> int:
    return ttl(record.expires_at, record.last_activity)


class Calls:
    """The calls where one server keeps all keys. *clock*: Unix seconds, see ``purge``."""

    can_rotate = True

    def __init__(self, keys: Keys, where: str, clock: Callable[[], float]) -> None:
        self._keys = keys
        self._where = where
        self._clock = clock
        self._index_head = keys.user_head
        self._sweep: _Sweep | None = None
        self._warned = False

    # -- one record ---------------------------------------------------------------------------------------------

    def key(self, id: str) -> str:
        """Whose value ``load`` gets."""
        return self._keys.record(id)

    def loaded(self, id: str, value: bytes | None) -> Record | None:
        """What that value means; one that cannot be read is told and is no record."""
        if value is None:
            return None
        try:
            return decode(id, value)
        except ValueError as error:
            logger.warning("%s: the record of session %s… cannot be read: %s", self._where, id[:6], error)
            return None

    def save_payload(self, record: Record, expected_version: int) -> Ask:
        """What ``save`` with *payload_only* asks; ``SAVED`` tells what the answer means."""
        arguments = (self._stamp(expected_version), self._value(record))
        return Ask(scripts.SAVE_PAYLOAD.call((self._keys.record(record.id),), *arguments))

    def create(self, record: Record) -> Flow[bool]:
        value, key, seconds = self._value(record), self._keys.record(record.id), _life(record)
        if record.user_id is None:
            return (yield from self._set(key, value, seconds))
        index = self._keys.user(record.user_id)
        done: int = yield Ask(scripts.CREATE.call((key, index), value, seconds, record.id))
        return done == 2

    def _set(self, key: str, value: bytes, seconds: int) -> Flow[bool]:
        answer = yield Ask(("SET", key, value, "NX", "EX", seconds))
        return answer is not None

    def save(self, record: Record, expected_version: int) -> Flow[Outcome]:
        value, key, seen = self._value(record), self._keys.record(record.id), self._stamp(expected_version)
        keys = (key,) if record.user_id is None else (key, self._keys.user(record.user_id))
        done: int = yield Ask(scripts.SAVE.call(keys, seen, value, _life(record), record.id, self._index_head))
        return SAVED[done]

    def touch(self, id: str, last_activity: int, expires_at: int) -> Flow[bool]:
        arguments = (expires_at, last_activity, ttl(expires_at, last_activity), id, self._index_head)
        done: int = yield Ask(scripts.TOUCH.call((self._keys.record(id),), *arguments))
        return done == 2

    def delete(self, id: str, expected_version: int | None) -> Flow[Outcome]:
        seen = b"" if expected_version is None else self._stamp(expected_version)
        done, _ = yield Ask(scripts.DELETE.call((self._keys.record(id),), seen, id, self._index_head))
        return _ENDED[done]

    def close(self, id: str, expected_version: int, until: int, successor: str | None) -> Flow[Outcome]:
        arguments = (self._stamp(expected_version), id, self._index_head, until, successor or "")
        done, _ = yield Ask(scripts.CLOSE.call((self._keys.record(id),), *arguments))
        return _ENDED[done]

    def rotate(
        self, record: Record, old_id: str, expected_version: int, until: int, successor: str | None
    ) -> Flow[Outcome]:
        keys: tuple[str, ...] = (self._keys.record(record.id), self._keys.record(old_id))
        if record.user_id is not None:
            keys = (*keys, self._keys.user(record.user_id))
        new = (self._value(record), _life(record), record.id)
        arguments = (self._stamp(expected_version), *new, old_id, self._index_head, until, successor or "")
        done: int = yield Ask(scripts.ROTATE.call(keys, *arguments))
        return SAVED[done]

    def _value(self, record: Record) -> bytes:
        try:
            return encode(record)
        except UNSTORABLE as error:
            raise _unstorable(error) from error

    def _stamp(self, version: int) -> bytes:
        try:
            return stamp(version)
        except UNSTORABLE as error:
            raise _unstorable(error) from error

    # -- users --------------------------------------------------------------------------------------------------

    def list_user(self, user_id: str) -> Flow[list[Record]]:
        index = self._keys.user(user_id)
        found: list[bytes] = yield Ask(scripts.LIST.call((index,), self._keys.record_head, user_id))
        return self._newest_first(user_id, found[::2], found[1::2])

    def _newest_first(self, user_id: str, ids: Sequence[bytes], values: Sequence[bytes | None]) -> list[Record]:
        records = [self.loaded(name.decode(), value) for name, value in zip(ids, values, strict=True)]
        live = [one for one in records if one is not None and not one.closed and one.user_id == user_id]
        live.sort(key=lambda record: record.created_at, reverse=True)
        return live

    def delete_user(self, user_id: str, except_id: str | None) -> Flow[int]:
        index = self._keys.user(user_id)
        arguments = (self._keys.record_head, user_id, except_id or "")
        count: int = yield Ask(scripts.DELETE_USER.call((index,), *arguments))
        return count

    # -- all ----------------------------------------------------------------------------------------------------

    def purge(self, now: int, limit: int) -> Flow[int]:
        """Nothing for the present, whose end the server brings about; any other *now* sweeps, page by page.

        A call goes on where the one before had enough, so that all of them together look at each key once.
        """
        if abs(now - self._clock()) <= MARGIN:
            return 0
        nodes = list((yield Nodes()))
        names = [getattr(node, "name", "") for node in nodes]
        sweep = self._sweep
        if sweep is None or sweep.names != names:
            sweep = _Sweep(names, now, 0, 0)
        count = 0
        judged, place, cursor = min(sweep.judged, now), sweep.place, sweep.cursor
        heads = (self._keys.record_head, self._index_head)
        while place < len(nodes):
            command = scripts.PURGE.call((), cursor, self._keys.pattern, PAGE, now, limit - count, *heads)
            then, purged = yield Ask(command, node=nodes[place])
            count += int(purged)
            if count >= limit:  # this page may have more
                self._sweep = _Sweep(names, judged, place, cursor)
                return count
            cursor = int(then)
            if not cursor:
                place += 1
                if place == len(nodes) and judged < now:  # what was seen by an earlier time may be over by this one
                    place, judged = 0, now
        self._sweep = None
        return count

    def count_expired(self, now: int) -> Flow[int]:
        """What ``purge`` would remove."""
        if abs(now - self._clock()) <= MARGIN:
            return 0
        count = 0
        for node in (yield Nodes()):
            cursor: Any = 0
            while cursor is not None:
                cursor, found = yield from self._page(scripts.COUNT, node, cursor, now)
                count += found[0]
        return count

    def stats(self, now: int) -> Flow[StoreStats]:
        live = expired = closed = size = 0
        created: list[int] = []
        users: set[bytes] = set()
        for node in (yield Nodes()):
            cursor: Any = 0
            while cursor is not None:
                cursor, found = yield from self._page(scripts.STATS, node, cursor, now)
                live, expired, closed, size = (
                    a + b for a, b in zip((live, expired, closed, size), found, strict=False)
                )
                created += [one for one in found[4:6] if one is not None]
                users.update(found[6])
        return StoreStats(
            live=live,
            expired=expired,
            closed=closed,
            users=len(users),
            oldest=min(created, default=None),
            newest=max(created, default=None),
            payload_bytes=size,
        )

    def _page(self, script: scripts.Script, node: Any, cursor: int, now: int) -> Flow[tuple[int | None, list[Any]]]:
        """What *script* finds on a page, and where the next one begins, if there is one."""
        then, *found = yield Ask(script.call((), cursor, self._keys.pattern, PAGE, now), reads=True, node=node)
        return int(then) or None, found

    def initialize(self) -> Flow[None]:
        """Ask every server whether it is there, teach it the scripts, and look at what it does when it is full."""
        policies = set()
        for node in (yield Nodes()):
            yield Ask(("PING",), reads=True, node=node)
            for source in scripts.SCRIPTS.values():
                yield Ask(("SCRIPT", "LOAD", source), reads=True, node=node)
            try:
                policies.add(_policy((yield Ask(("INFO", "memory"), reads=True, node=node))))
            except StoreError:  # it may be forbidden
                policies.add(None)
        evicting = sorted(policies - {None, "noeviction"})  # type: ignore[type-var]
        if evicting and not self._warned:
            self._warned = True
            logger.warning(
                "%s: maxmemory-policy is %s, so a full server drops sessions that are in use; set it to noeviction",
                self._where,
                ", ".join(map(repr, evicting)),
            )


class ClusterCalls(Calls):
    """The calls where a record and its owner's index may lie on different nodes."""

    can_rotate = False

    def __init__(self, keys: Keys, where: str, clock: Callable[[], float]) -> None:
        super().__init__(keys, where, clock)
        self._index_head = ""  # no script may look for an index by itself

    def create(self, record: Record) -> Flow[bool]:
        value = self._value(record)
        yield from self._enlist(record)
        return (yield from self._set(self._keys.record(record.id), value, _life(record)))

    def save(self, record: Record, expected_version: int) -> Flow[Outcome]:
        value, key, seen = self._value(record), self._keys.record(record.id), self._stamp(expected_version)
        yield from self._enlist(record)
        done: int = yield Ask(scripts.SAVE.call((key,), seen, value, _life(record), record.id, ""))
        return SAVED[done]

    def _enlist(self, record: Record) -> Flow[None]:
        """No touch will move the entry, so it stays until the absolute deadline."""
        if record.user_id is not None:
            last = max(record.absolute_expires_at, record.expires_at)
            seconds = ttl(last, record.last_activity)
            yield Ask(scripts.ENLIST.call((self._keys.user(record.user_id),), record.id, seconds))

    def delete(self, id: str, expected_version: int | None) -> Flow[Outcome]:
        seen = b"" if expected_version is None else self._stamp(expected_version)
        done, user = yield Ask(scripts.DELETE.call((self._keys.record(id),), seen, id, ""))
        yield from self._delist(id, user)
        return _ENDED[done]

    def close(self, id: str, expected_version: int, until: int, successor: str | None) -> Flow[Outcome]:
        arguments = (self._stamp(expected_version), id, "", until, successor or "")
        done, user = yield Ask(scripts.CLOSE.call((self._keys.record(id),), *arguments))
        yield from self._delist(id, user)
        return _ENDED[done]

    def _delist(self, id: str, user: bytes) -> Flow[None]:
        if user:
            yield Ask(("ZREM", self._keys.user(user.decode()), id))

    def list_user(self, user_id: str) -> Flow[list[Record]]:
        ids: list[bytes] = yield Ask(("ZRANGE", self._keys.user(user_id), 0, -1), reads=True)
        if not ids:
            return []
        values = yield Values([self._keys.record(name.decode()) for name in ids])
        return self._newest_first(user_id, ids, values)

    def delete_user(self, user_id: str, except_id: str | None) -> Flow[int]:
        """Go through the index until nothing in it was closed under way: what was closed may have a successor.

        A successor is in the index before its predecessor is closed, and is taken back where that is gone already.
        """
        index, count, again = self._keys.user(user_id), 0, True
        while again:
            again = False
            for found in (yield Ask(("ZRANGE", index, 0, -1), reads=True)):
                name = found.decode()
                if name == except_id:
                    continue
                arguments = (b"", name, "", user_id)
                done, _ = yield Ask(scripts.DELETE.call((self._keys.record(name),), *arguments))
                count += done == 2
                again = again or done == 3
                if done >= 2:
                    yield Ask(("ZREM", index, name))
        return count


def _policy(info: Any) -> str | None:
    """The maxmemory-policy in what INFO answered: a dict from redis-py, or the server's text."""
    if isinstance(info, dict):
        return info.get("maxmemory_policy")
    found = re.search(rb"maxmemory_policy:([\w-]+)", info)
    return found[1].decode() if found else None
