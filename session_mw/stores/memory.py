"""MemoryStore: records in this process, for tests, development and single-process apps. Gone when it ends.

Decided here: what is given up when it is full. First what has expired, then the session whose activity is oldest:
``_live`` is kept in the order of activity. Or nothing more (``evict=False``): who was ended must not come back, where
what is remembered is that. Closed records have the same bound of their own, oldest out first.

Every deadline is in a heap, so that neither purge nor eviction scans. An entry is only a hint: a record that moved
on is put back when its old entry surfaces, and a heap of mostly stale entries is rebuilt.

Readers take no lock: a record is immutable, and one that is being closed is in ``_closed`` before it leaves ``_live``.
"""

from __future__ import annotations

import heapq
import os
import threading
import time
from collections import OrderedDict
from collections.abc import Callable

from msgspec import structs

from ..core.operations import Outcome
from ..core.record import Record
from ..errors import ConfigurationError, StoreError
from . import StoreStats, closed_record
from .faces import Awaited
from .url import StoreURL, flag, options

__all__ = ["MemoryStore", "from_url"]


class MemoryStore:
    """A bounded store in memory. *max_sessions*: live records kept; *clock*: Unix seconds, for eviction only.

    *evict*: when it is full, the least recently active record makes room (``evicts`` says so); else ``create`` raises
    ``StoreError`` until something has ended or expired.

    Safe for threads. Each process has its own, so it cannot serve several workers; when there seem to be several, the
    middleware says so in the log at start-up (``built_in``: the pid). Raises ConfigurationError for a bound below 1.
    """

    can_rotate = True

    def __init__(
        self, max_sessions: int = 100_000, *, evict: bool = True, clock: Callable[[], float] = time.time
    ) -> None:
        if type(max_sessions) is not int or max_sessions < 1:
            raise ConfigurationError(f"max_sessions must be a whole number of at least 1, not {max_sessions!r}")
        self.built_in = os.getpid()
        self.evicts = evict
        self._max = max_sessions
        self._clock = clock
        self._lock = threading.Lock()
        self._live: OrderedDict[str, Record] = OrderedDict()  # least recently active first
        self._closed: OrderedDict[str, Record] = OrderedDict()  # oldest first
        self._users: dict[str, dict[str, None]] = {}  # user -> ids, oldest first
        self._deadlines: list[tuple[int, str]] = []

    def __repr__(self) -> str:
        return f"<MemoryStore {len(self._live)} of {self._max}>"

    def inline(self) -> MemoryStore:
        """Itself: nothing here waits."""
        return self

    def aio(self) -> Awaited:
        """The awaited face."""
        return Awaited(self, self)

    def load(self, id: str) -> Record | None:
        record = self._live.get(id)
        return record if record is not None else self._closed.get(id)

    def create(self, record: Record) -> bool:
        with self._lock:
            if record.id in self._live or record.id in self._closed:
                return False
            if len(self._live) >= self._max:
                self._make_room()
            self._insert(record)
            return True

    def save(self, record: Record, expected_version: int, *, payload_only: bool = False) -> Outcome:
        with self._lock:
            old = self._live.get(record.id)
            if old is None:
                return Outcome.GONE
            if old.version != expected_version:
                return Outcome.CONFLICT
            if payload_only and (record.last_activity != old.last_activity or record.expires_at != old.expires_at):
                # a touch has moved the stored times on
                record = structs.replace(old, version=record.version, payload=record.payload)
            self._replace(old, record)
            return Outcome.SAVED

    def touch(self, id: str, last_activity: int, expires_at: int) -> bool:
        with self._lock:
            old = self._live.get(id)
            if old is None:
                return False
            times = {
                "last_activity": max(old.last_activity, last_activity),
                "expires_at": max(old.expires_at, expires_at),
            }
            self._replace(old, structs.replace(old, **times))
            return True

    def delete(self, id: str, *, expected_version: int | None = None) -> Outcome:
        with self._lock:
            old = self._live.get(id)
            if old is None:
                if expected_version is None:
                    self._closed.pop(id, None)
                return Outcome.GONE
            if expected_version is not None and old.version != expected_version:
                return Outcome.CONFLICT
            self._remove(old)
            return Outcome.DELETED

    def close(self, id: str, expected_version: int, *, until: int, successor: str | None = None) -> Outcome:
        with self._lock:
            old = self._live.get(id)
            if old is None:
                return Outcome.GONE
            if old.version != expected_version:
                return Outcome.CONFLICT
            self._end(old, until, successor)
            return Outcome.DELETED

    def rotate(
        self, record: Record, old_id: str, expected_version: int, *, until: int, successor: str | None = None
    ) -> Outcome:
        with self._lock:
            old = self._live.get(old_id)
            if old is None:
                return Outcome.GONE
            if old.version != expected_version or record.id in self._live or record.id in self._closed:
                return Outcome.CONFLICT
            self._insert(record)
            self._end(old, until, successor)
            return Outcome.SAVED

    def list_user(self, user_id: str) -> list[Record]:
        with self._lock:
            records = [self._live[key] for key in reversed(self._users.get(user_id, {}))]
        return sorted(records, key=_created, reverse=True)

    def delete_user(self, user_id: str, *, except_id: str | None = None) -> int:
        with self._lock:
            ended = [self._live[key] for key in self._users.get(user_id, {}) if key != except_id]
            for record in ended:
                self._remove(record)
            return len(ended)

    def purge(self, now: int, limit: int) -> int:
        with self._lock:
            return self._purge(now, limit)

    def stats(self, now: int) -> StoreStats:
        """What is kept, as of *now*."""
        with self._lock:
            live = [record for record in self._live.values() if record.expires_at > now]
            closed = sum(record.expires_at > now for record in self._closed.values())
            kept = len(self._live) + len(self._closed)
        created = [record.created_at for record in live]
        return StoreStats(
            live=len(live),
            expired=kept - len(live) - closed,
            closed=closed,
            users=len({record.user_id for record in live} - {None}),
            oldest=min(created, default=None),
            newest=max(created, default=None),
            payload_bytes=sum(len(record.payload) for record in live),
        )

    def count_expired(self, now: int) -> int:
        """How many records ``purge`` would delete."""
        with self._lock:
            return sum(record.expires_at <= now for kept in (self._live, self._closed) for record in kept.values())

    def initialize(self) -> None:
        """Nothing to open."""

    def teardown(self) -> None:
        """Nothing to release; the records stay."""

    # Below, the lock is held.

    def _insert(self, record: Record) -> None:
        self._live[record.id] = record
        if record.user_id is not None:
            self._list(record.user_id, record.id)
        self._watch(record)

    def _replace(self, old: Record, new: Record) -> None:
        self._live[new.id] = new
        self._live.move_to_end(new.id)
        if new.user_id != old.user_id:
            if old.user_id is not None:
                self._unlist(old.user_id, old.id)
            if new.user_id is not None:
                self._list(new.user_id, new.id)
        if new.expires_at < old.expires_at:  # a later one is found when the old entry surfaces
            self._watch(new)

    def _remove(self, record: Record) -> None:
        del self._live[record.id]
        if record.user_id is not None:
            self._unlist(record.user_id, record.id)

    def _end(self, old: Record, until: int, successor: str | None) -> None:
        if len(self._closed) >= self._max:
            self._closed.popitem(last=False)
        closed = closed_record(old.id, old.digest, until=until, successor=successor)
        self._closed[old.id] = closed
        self._remove(old)
        self._watch(closed)

    def _list(self, user_id: str, id: str) -> None:
        self._users.setdefault(user_id, {})[id] = None

    def _unlist(self, user_id: str, id: str) -> None:
        ids = self._users[user_id]
        del ids[id]
        if not ids:
            del self._users[user_id]

    def _make_room(self) -> None:
        self._purge(int(self._clock()), 100)
        if len(self._live) >= self._max:
            if not self.evicts:
                raise StoreError(f"the memory store is full: {self._max} records, none of which may be given up")
            self._remove(next(iter(self._live.values())))

    def _watch(self, record: Record) -> None:
        if len(self._deadlines) > 2 * (len(self._live) + len(self._closed)) + 64:
            both = (self._live, self._closed)
            self._deadlines = [(kept.expires_at, kept.id) for records in both for kept in records.values()]
            heapq.heapify(self._deadlines)
        else:
            heapq.heappush(self._deadlines, (record.expires_at, record.id))

    def _purge(self, now: int, limit: int) -> int:
        count = 0
        heap = self._deadlines
        while count < limit and heap and heap[0][0] <= now:
            record = self.load(heap[0][1])
            if record is not None and record.expires_at > now:
                heapq.heapreplace(heap, (record.expires_at, record.id))
                continue
            heapq.heappop(heap)
            if record is not None:
                count += 1
                if record.closed:
                    del self._closed[record.id]
                else:
                    self._remove(record)
        return count


def from_url(url: StoreURL) -> MemoryStore:
    """The store of ``memory:``, options ``max_sessions`` and ``evict``. Raises ConfigurationError."""
    if url.netloc or url.path:
        raise ConfigurationError("a memory: URL has no path")
    return MemoryStore(**options(url, {"max_sessions": int, "evict": flag}))


def _created(record: Record) -> int:
    return record.created_at
