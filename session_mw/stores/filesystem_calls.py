"""The store contract on files: one file a record, and two sets of marks by which records are found.

Decided here: the order of things, so that a process may die between any two of them.

* A record is made after its marks and ended before them. So a mark may lead to nothing, and whoever meets such a one
  removes it, holding the lock of the record it names; no record is without its marks.
* A mark is a name in a directory, and says where to look, not what is there: the owner and the deadline that count
  are the record's. The mark of a deadline stays where it was made while the deadline moves on; ``purge`` finds it
  when its time has come, and puts it where the deadline is then.
* Of a rotation the new record is made first, while both are locked. Who dies in between leaves both, one of them
  under a token that nobody has seen.
* A damaged file is no session: ``load`` tells the log which, and whoever would write it raises.
* Locks are taken in one order: the user's shard, then those of records by name. ``rotate`` and ``delete_user`` hold
  the user's, so that no session of a user is missed by being between two names.
"""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator
from contextlib import closing, suppress
from logging import getLogger

from msgspec import structs

from ..core.operations import Outcome
from ..core.record import Record
from ..errors import StoreBusyError, StoreError
from . import closed_record
from .filesystem_format import DamagedError, ForeignError, encode, is_name, name_of
from .filesystem_tree import Tree, Work, told

__all__ = ["BUCKET_SECONDS", "Calls"]

logger = getLogger("session_mw")

BUCKET_SECONDS = 300  # of deadlines marked in one directory


class Calls:
    """The calls of the contract on *tree*; each waits at most *wait* seconds for its locks."""

    can_rotate = True

    def __init__(self, tree: Tree, wait: float) -> None:
        self.tree = tree
        self._wait = wait

    def _require(self) -> None:
        if not self.tree.ready:
            self.tree.prepare(self._wait)

    def _writing(self) -> Work:
        """What every call that changes records begins with."""
        self._require()
        return Work(self.tree, self._wait)

    @told
    def load(self, id: str) -> Record | None:
        self._require()
        try:
            return self._load(name_of(id))
        except ForeignError:
            raise
        except DamagedError as damage:  # no other try will read it, so its client need not wait for one
            logger.warning("%s", damage)
            return None

    @told
    def create(self, record: Record) -> bool:
        name, data = name_of(record.id), encode(record)
        with self._writing() as work:
            shard = work.lock("records", name)
            if _is_there(shard, name):
                return False
            self._mark(work, name, record)
            work.write(shard, name, data)
            return True

    @told
    def save(self, record: Record, expected_version: int, *, payload_only: bool = False) -> Outcome:
        name = name_of(record.id)
        with self._writing() as work:
            shard = work.lock("records", name)
            old = self._expected(shard, name, expected_version)
            if isinstance(old, Outcome):
                return old
            if payload_only:  # a touch may have moved the stored times on
                record = structs.replace(old, version=record.version, payload=record.payload)
            self._replace(work, shard, name, old, record)
            return Outcome.SAVED

    @told
    def touch(self, id: str, last_activity: int, expires_at: int) -> bool:
        self._require()
        name = name_of(id)
        with Work(self.tree, self._wait) as work:
            return work.touch(work.lock("records", name), name, last_activity, expires_at)

    @told
    def delete(self, id: str, *, expected_version: int | None = None) -> Outcome:
        name = name_of(id)
        with self._writing() as work:
            shard = work.lock("records", name)
            if expected_version is not None:
                old = self._expected(shard, name, expected_version)
                if isinstance(old, Outcome):
                    return old
                self._remove(work, shard, name, old)
                return Outcome.DELETED
            try:
                found = self.tree.read(shard, name)
            except DamagedError:  # nobody can open it, and this is how to be rid of it
                self._remove(work, shard, name, None)
                return Outcome.DELETED
            if found is not None:
                self._remove(work, shard, name, found)
            return Outcome.GONE if found is None or found.closed else Outcome.DELETED

    @told
    def close(self, id: str, expected_version: int, *, until: int, successor: str | None = None) -> Outcome:
        name = name_of(id)
        with self._writing() as work:
            shard = work.lock("records", name)
            old = self._expected(shard, name, expected_version)
            if isinstance(old, Outcome):
                return old
            closed = closed_record(id, old.digest, until=until, successor=successor)
            self._replace(work, shard, name, old, closed)
            return Outcome.DELETED

    @told
    def rotate(
        self, record: Record, old_id: str, expected_version: int, *, until: int, successor: str | None = None
    ) -> Outcome:
        name, old_name, data = name_of(record.id), name_of(old_id), encode(record)
        with self._writing() as work:
            if record.user_id is not None:
                work.lock("users", name_of(record.user_id))
            shards = {prefix: work.lock("records", prefix) for prefix in sorted({name[:2], old_name[:2]})}
            shard, old_shard = shards[name[:2]], shards[old_name[:2]]
            old = self._expected(old_shard, old_name, expected_version)
            if isinstance(old, Outcome):
                return old
            if _is_there(shard, name):
                return Outcome.CONFLICT
            closed = closed_record(old_id, old.digest, until=until, successor=successor)
            self._mark(work, name, record)
            work.write(shard, name, data)
            self._replace(work, old_shard, old_name, old, closed)
            return Outcome.SAVED

    @told
    def list_user(self, user_id: str) -> list[Record]:
        self._require()
        user = name_of(user_id)
        if not self.tree.has("users", user):
            return []
        with Work(self.tree, self._wait) as work:
            shard = work.lock("users", user, shared=True)
            try:
                directory = work.open(user, shard)
            except FileNotFoundError:
                return []
            found = []
            for name in self._marked(directory):
                with suppress(DamagedError):  # told by load; the rest of the list is none the worse for it
                    record = _owned(self._load(name), user_id)
                    if record is None:
                        self._heal(directory, name, user_id)
                    else:
                        found.append(record)
            _remove_empty(user, shard)
        return sorted(found, key=_created, reverse=True)

    @told
    def delete_user(self, user_id: str, *, except_id: str | None = None) -> int:
        user = name_of(user_id)
        spared = None if except_id is None else name_of(except_id)
        count = 0
        with self._writing() as work:
            shard = work.lock("users", user)
            try:
                directory = work.open(user, shard)
            except FileNotFoundError:
                return 0
            try:
                for name in self._marked(directory):
                    if name != spared:
                        count += self._delete_of(user_id, directory, name)
            except StoreBusyError as error:
                if not count:
                    raise
                reason = f"{count} sessions were deleted, then another writer held the lock for too long; call again"
                raise StoreError(f"{self.tree.root}: {reason}") from error
            _remove_empty(user, shard)
        return count

    @told
    def purge(self, now: int, limit: int) -> int:
        self._require()
        count = 0
        with closing(self._due(now)) as due:
            try:
                for directory, name, mark in due:
                    if count >= limit:
                        break
                    count += self._expire(directory, name, mark, now)
            except StoreBusyError:
                if not count:
                    raise  # else: what is done is done; the rest is for the next sweep
        return count

    @told
    def initialize(self) -> None:
        """Make the directory and what belongs in it, where missing. Raises StoreError."""
        self._require()

    def teardown(self) -> None:
        """Nothing is kept open. A later call looks at the directory anew."""
        self.tree.ready = False

    # -- one record -----------------------------------------------------------------------------------------------

    def _load(self, name: str) -> Record | None:
        try:
            return self.tree.load(name)
        except DamagedError:  # or a touch was under way
            with Work(self.tree, self._wait) as work:
                return self.tree.read(work.lock("records", name), name)

    def _expected(self, shard: int, name: str, version: int) -> Record | Outcome:
        """The live record of *version* in the file *name*; else why there is none."""
        record = self.tree.read(shard, name)
        if record is None or record.closed:
            return Outcome.GONE
        return record if record.version == version else Outcome.CONFLICT

    def _replace(self, work: Work, shard: int, name: str, old: Record, new: Record) -> None:
        data = encode(new)
        sooner = new.expires_at < old.expires_at  # a later deadline is found from where the mark is
        self._mark(work, name, new, deadline=sooner, owner=new.user_id != old.user_id)
        work.write(shard, name, data)
        if old.user_id is not None and new.user_id != old.user_id:
            self._unmark(work, name, old.user_id)

    def _remove(self, work: Work, shard: int, name: str, record: Record | None) -> None:
        work.remove(shard, name)
        work.settle(shard)
        if record is not None and record.user_id is not None:
            self._unmark(work, name, record.user_id)

    # -- marks ----------------------------------------------------------------------------------------------------

    def _mark(self, work: Work, name: str, record: Record, *, deadline: bool = True, owner: bool = True) -> None:
        if owner and record.user_id is not None:
            user = name_of(record.user_id)
            work.mark(work.shard("users", user), user, name)
        if deadline:
            self._mark_deadline(work, name, record)

    def _mark_deadline(self, work: Work, name: str, record: Record) -> None:
        bucket = f"expiry-{record.expires_at // BUCKET_SECONDS}"
        root = work.open(self.tree.root)
        work.mark(root, bucket, f"{name}.{record.expires_at}", settled=False)

    def _unmark(self, work: Work, name: str, user_id: str) -> None:
        user = name_of(user_id)
        shard = work.shard("users", user)
        with suppress(FileNotFoundError):  # somebody has healed it
            work.remove(work.open(user, shard), name)
            _remove_empty(user, shard)

    def _marked(self, directory: int) -> list[str]:
        """The files marked in a user's directory."""
        return sorted(filter(is_name, os.listdir(directory)))

    def _heal(self, directory: int, name: str, user_id: str) -> None:
        """Remove a mark that leads to no record of *user_id*, unless somebody is making one."""
        with suppress(StoreBusyError), Work(self.tree, 0) as work:
            shard = work.lock("records", name)
            if _owned(self.tree.read(shard, name), user_id) is None:
                work.remove(directory, name)

    def _delete_of(self, user_id: str, directory: int, name: str) -> bool:
        """Remove a marked record and its mark; whether it was a live one of *user_id*."""
        with Work(self.tree, self._wait) as work:
            shard = work.lock("records", name)
            try:
                record = self.tree.read(shard, name)
            except DamagedError:  # whosever it was, nobody can open it
                record = None
                work.remove(shard, name)
            found = _owned(record, user_id) is not None
            if found:
                work.remove(shard, name)
                work.settle(shard)
            work.remove(directory, name)
            return found

    def _due(self, now: int) -> Generator[tuple[int, str, str]]:
        """Every deadline that has come: the directory of its mark, the record's file, the mark."""
        self.tree.still_there()
        with Work(self.tree, 0) as work:
            root = work.open(self.tree.root)
            for bucket in _due_buckets(root, now):
                with Work(self.tree, 0) as inner:  # closed soon: there may be thousands of buckets
                    try:
                        directory = inner.open(bucket, root)
                    except FileNotFoundError:  # another purge was here
                        continue
                    for name, mark in _due_marks(directory, now):
                        yield directory, name, mark
                _remove_empty(bucket, root)

    def _expire(self, directory: int, name: str, mark: str, now: int) -> bool:
        """Remove the record of a due mark, or mark its later deadline; whether it was removed.

        Not waited for: what is expired stays so.
        """
        with Work(self.tree, self._wait) as work:
            shard = work.lock("records", name)
            try:
                record = self.tree.read(shard, name)
                expired = record is not None and record.expires_at <= now
            except DamagedError:
                record, expired = None, True
            if expired:
                work.remove(shard, name)
                if record is not None and record.user_id is not None:
                    self._unmark(work, name, record.user_id)
            elif record is not None:
                self._mark_deadline(work, name, record)
            work.remove(directory, mark)
            return expired


def _created(record: Record) -> int:
    return record.created_at


def _owned(record: Record | None, user_id: str) -> Record | None:
    """*record*, if it is a live one of *user_id*."""
    return record if record is not None and not record.closed and record.user_id == user_id else None


def _is_there(shard: int, name: str) -> bool:
    try:
        os.stat(name, dir_fd=shard, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


def _remove_empty(name: str, parent: int) -> None:
    with suppress(OSError):
        os.rmdir(name, dir_fd=parent)


def _due_buckets(root: int, now: int) -> list[str]:
    """The directories of deadlines that may be due, oldest first."""
    due = []
    for name in os.listdir(root):
        kind, _, number = name.partition("-")
        if kind == "expiry" and _is_number(number) and int(number) * BUCKET_SECONDS <= now:
            due.append((int(number), name))
    return [name for _, name in sorted(due)]


def _due_marks(directory: int, now: int) -> Iterator[tuple[str, str]]:
    """The file and the mark of every deadline that has come, as they are found."""
    with os.scandir(directory) as entries:
        for entry in entries:
            name, _, deadline = entry.name.partition(".")
            if is_name(name) and _is_number(deadline) and int(deadline) <= now:
                yield name, entry.name


def _is_number(text: str) -> bool:
    digits = text.removeprefix("-")
    return digits.isascii() and digits.isdecimal() and len(digits) < 20
