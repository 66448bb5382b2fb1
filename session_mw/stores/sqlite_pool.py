"""SQLite connections: one per thread, none across a fork, every fault said in words.

Decided here:

* A connection belongs to one thread and is used under its own lock, so that another thread can close it safely.
* **Before a fork every connection is closed** (and reopened by whoever calls next). SQLite keeps its file locks per
  process: a child that opens the file while it still holds copies of the parent's handles shares their bookkeeping,
  takes no lock of its own, and loses acknowledged writes when the parent closes (https://sqlite.org/howtocorrupt.html
  §2.6; tried). Where the fork is not Python's, and no hook ran before it, the child never closes what it inherited.
* The file is created by us, readable by its owner alone, and never by SQLite: a deleted file is a fault, not an
  empty store. WAL and shared-memory files take their mode from it. What somebody else may write to is refused: whoever
  can write a record can log in.
* Connections are in autocommit mode; transactions are opened by name where two statements belong together.
"""

from __future__ import annotations

import os
import sqlite3
import stat
import threading
import weakref
from collections.abc import Callable
from contextlib import suppress
from logging import getLogger
from pathlib import Path
from typing import Any

from ..errors import StoreBusyError, StoreError
from .above import look_above

__all__ = ["FAULTS", "Connection", "Pool", "create_file", "fault"]

logger = getLogger("session_mw")

FAULTS = (sqlite3.Error, UnicodeEncodeError, OverflowError)  # the latter two: a value SQLite cannot hold
_BUSY = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
_ADVICE = {
    sqlite3.SQLITE_CANTOPEN: "unable to open; make the directory writable or pass another path",
    sqlite3.SQLITE_READONLY: "read-only; make the file and its directory writable or pass another path",
    sqlite3.SQLITE_PERM: "access denied; make the file and its directory writable or pass another path",
    sqlite3.SQLITE_NOTADB: "not an SQLite database; pass another path",
    sqlite3.SQLITE_CORRUPT: "damaged; restore it from a backup, or delete it and every session in it",
    sqlite3.SQLITE_FULL: "the disk is full; make room",
}
_BESIDE = ("", "-journal", "-wal", "-shm")  # what SQLite reads of it, by name
_HAS_OWNERS = hasattr(os, "geteuid")  # elsewhere modes say nothing of who may write
_WAL_TRIES = 32  # a bound for what happens once or twice


def fault(path: Path, error: Exception) -> StoreError:
    """The StoreError that says *error* in words; the caller raises it from *error*."""
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if code in _BUSY:
        return StoreBusyError(f"{path}: another writer held the lock for too long")
    if not isinstance(error, sqlite3.Error):  # the text of these would show the value
        return StoreError(f"{path}: a value that SQLite cannot hold ({type(error).__name__})")
    return StoreError(f"{path}: {_ADVICE.get(code) or error}")


class Connection:
    """A connection's one cursor, and the lock under which both are used while it is ``open``."""

    __slots__ = ("cursor", "lock", "open", "pid")

    def __init__(self, cursor: sqlite3.Cursor) -> None:
        self.cursor = cursor
        self.open = True
        self.lock = threading.RLock()  # reentrant: calls that belong to one transaction
        self.pid = os.getpid()

    def close(self) -> None:
        """Close it once nobody is using it; only ever in the process that opened it."""
        if self.pid != os.getpid():
            return
        with self.lock:
            if self.open:
                self.open = False
                self.cursor.connection.close()


class _Lease:
    """A thread's hold on its connection: closes it when the thread ends."""

    __slots__ = ("connection", "opened")

    def __init__(self, connection: Connection, opened: set[Connection]) -> None:
        self.connection = connection
        self.opened = opened

    def __del__(self, getpid: Callable[[], int] = os.getpid) -> None:  # at exit the module's names may be gone
        if self.connection.pid == getpid():
            self.connection.close()
            self.opened.discard(self.connection)


class Pool:
    """The connections of one store to one file: ``acquire()`` gives the calling thread its own, locked.

    *timeout*: seconds to wait for a lock. *pragmas*: run on every new connection. *before* is called before a
    connection opens, *after* with its cursor; both one at a time. Raises StoreError, StoreBusyError.
    """

    def __init__(
        self,
        path: Path,
        timeout: float,
        pragmas: tuple[str, ...],
        *,
        before: Callable[[], None],
        after: Callable[[sqlite3.Cursor], None] | None = None,
    ) -> None:
        self.path = path
        self.timeout = timeout
        self._pragmas = pragmas
        self._before = before
        self._after = after
        self._local = threading.local()
        self._opened: set[Connection] = set()
        _pools.add(self)
        weakref.finalize(self, _close, self._opened)  # also at the interpreter's end

    def acquire(self) -> Connection:
        """This thread's connection, locked: the caller releases ``.lock``."""
        lease: _Lease | None = getattr(self._local, "lease", None)
        if lease is not None:
            connection = lease.connection
            connection.lock.acquire()
            if connection.open:
                return connection
            connection.lock.release()
        return self._open()

    def close(self) -> None:
        """Close every thread's connection once its current call has ended; later calls open anew."""
        _close(self._opened)

    def _open(self) -> Connection:
        if not _gate.acquire(timeout=self.timeout):
            raise StoreBusyError(f"{self.path}: other connections were being opened for too long")
        try:
            connection = Connection(self._connect())
            connection.lock.acquire()
            self._opened.add(connection)
            self._local.lease = _Lease(connection, self._opened)
            return connection
        except sqlite3.Error as error:
            raise fault(self.path, error) from error
        finally:
            _gate.release()

    def _connect(self) -> sqlite3.Cursor:
        self._before()
        db = sqlite3.connect(
            f"{self.path.as_uri()}?mode=rw",
            timeout=self.timeout,
            isolation_level=None,
            check_same_thread=False,
            cached_statements=64,
            uri=True,
        )
        try:
            cursor = db.cursor()
            self._use_wal(cursor)
            for pragma in self._pragmas:
                cursor.execute(f"PRAGMA {pragma}")
            if self._after is not None:
                self._after(cursor)
        except BaseException:
            db.close()
            raise
        return cursor

    def _use_wal(self, cursor: sqlite3.Cursor) -> None:
        tries = _WAL_TRIES
        while True:
            try:
                cursor.execute("PRAGMA journal_mode = WAL")
                return
            except sqlite3.OperationalError:  # another process is switching too, and here SQLite does not wait
                tries -= 1
                if not tries:
                    raise
            cursor.execute("BEGIN EXCLUSIVE")  # but here it does
            cursor.execute("ROLLBACK")


def create_file(path: Path) -> None:
    """Create an empty file of mode 0600 unless there is one that nobody else may write to. Raises StoreError."""
    try:
        if _HAS_OWNERS:
            look_above(path)
        with suppress(FileExistsError):  # and it is not opened here: closing it would drop this process's locks on it
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        for name in (f"{path}{beside}" for beside in _BESIDE if _HAS_OWNERS):
            with suppress(FileNotFoundError):
                _look_at(name)
    except OSError as error:
        directory = "create the directory" if isinstance(error, FileNotFoundError) else "make the directory writable"
        raise StoreError(f"{path}: unable to open; {directory} or pass another path") from error


def _look_at(name: str) -> None:
    """Look at a file, once, before SQLite reads it. Raises OSError; StoreError where others may write to it."""
    found = os.lstat(name)
    if not stat.S_ISREG(found.st_mode):
        what = "no regular file, or a symbolic link, which is never followed"
        raise StoreError(f"{name}: {what}; pass the path of the file itself")
    if found.st_uid not in (os.geteuid(), 0):
        reason = f"belongs to another user (uid {found.st_uid})"
        raise StoreError(f"{name}: {reason}; run as that user, or make it yours (chown)")
    if found.st_mode & stat.S_IWOTH:
        raise StoreError(f"{name}: others may write to it; take that from them (chmod o-w), or pass another path")
    if found.st_mode & stat.S_IWGRP:
        logger.warning("%s: its group may write to it, and log in as anybody; take that from it (chmod g-w)", name)


_pools: weakref.WeakSet[Pool] = weakref.WeakSet()
_gate = threading.Lock()  # held while a connection opens, and over a fork
_inherited: list[Any] = []  # kept for ever: the collector would close what is not ours


def _close(opened: set[Connection]) -> None:
    for connection in list(opened):
        connection.close()
        if connection.pid == os.getpid():
            opened.discard(connection)


def _before_fork() -> None:
    _gate.acquire()
    for pool in list(_pools):
        pool.close()


def _after_fork_in_parent() -> None:
    with suppress(RuntimeError):  # the hook before it did not run
        _gate.release()


def _after_fork_in_child() -> None:
    global _gate
    _gate = threading.Lock()
    for pool in list(_pools):
        for connection in pool._opened:
            _inherited.append(connection.cursor)
            connection.open = False
            connection.lock = threading.RLock()
        pool._opened.clear()


os.register_at_fork(before=_before_fork, after_in_parent=_after_fork_in_parent, after_in_child=_after_fork_in_child)
