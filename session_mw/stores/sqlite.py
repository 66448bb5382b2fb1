"""SQLiteStore: records in one SQLite file, with the standard library alone; safe over threads, processes and forks.

Decided here: what may happen on an event loop. Through ``inline()`` nothing waits longer than 50 ms for a lock, file
and table are never made, a durable write is declined, and checkpoints of the write-ahead log, which SQLite would do
(and fsync) in the middle of a write, run on a thread of their own every few hundred writes. What remains is one
small fsync by the first write after a checkpoint that emptied the log.
"""

from __future__ import annotations

import os
import re
import sqlite3
import threading
from contextlib import closing, suppress
from pathlib import Path
from typing import Any, NoReturn

from ..core.operations import Outcome
from ..core.record import Record
from ..errors import ConfigurationError, StoreBusyError, StoreError
from . import StoreStats
from .faces import Awaited
from .sqlite_calls import COLUMNS, PURGE_BATCH, Calls, Statements
from .sqlite_group import GroupCommit
from .sqlite_pool import Pool, create_file, fault
from .url import StoreURL, file_path, flag, options

__all__ = ["SQLiteStore", "from_url"]

INLINE_WAIT = 0.05  # seconds
CHECKPOINT_EVERY = 400  # inline writes; about the 1000 pages that SQLite itself waits for

_FOUND = "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = ?"
_TABLE = re.compile(r"(?!sqlite_)[a-z_][a-z0-9_]{0,62}", re.ASCII | re.IGNORECASE)


class SQLiteStore(Calls):
    """A store in the SQLite file *path*, created with mode 0600 when missing; its directory must exist.

    *durable*: a write returns only when it would survive a power failure (fsync); otherwise it survives the end of
    the process, and a power failure may take the last moments. *lock_timeout*: seconds a call waits for another
    writer. *table*: a plain name. Raises ConfigurationError for its arguments; every call may raise StoreError, whose
    message says what to do, or StoreBusyError.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        durable: bool = False,
        lock_timeout: float = 5.0,
        table: str = "sessions",
    ) -> None:
        name = os.fspath(path)
        if not isinstance(name, str) or name in ("", ":memory:") or "\0" in name:
            raise ConfigurationError("SQLiteStore needs the path of a file; for records in memory use MemoryStore()")
        if not _TABLE.fullmatch(table):
            raise ConfigurationError(f"table {table!r} is not a plain name: letters, digits and _, not sqlite_…")
        if not 0 < lock_timeout <= 3600:
            raise ConfigurationError(f"lock_timeout must be more than 0 and at most 3600 seconds, not {lock_timeout!r}")
        self._path = Path(name).absolute()  # a daemon changes its directory
        self._table = _Table(self._path, Statements(table))
        synchronous = f"synchronous = {'FULL' if durable else 'NORMAL'}"
        pool = Pool(self._path, lock_timeout, (synchronous,), before=self._table.create, after=self._table.check)
        super().__init__(pool, self._table.sql)
        self._inline = _Inline(pool, self._table, synchronous, durable)
        self._group = GroupCommit(Calls(pool, self._table.sql).together) if durable else None

    def __repr__(self) -> str:
        return f"<SQLiteStore {self._path}>"

    def inline(self) -> Calls:
        """The face for an event loop; StoreBusyError when a call would wait longer than 50 ms."""
        return self._inline

    def aio(self) -> Awaited:
        """The awaited face. When durable, writes that wait for the disk are committed together by one thread."""
        return Awaited(self, self._inline, write_hop=self._group.submit if self._group else None)

    def open_existing(self) -> None:
        """Open, and make neither file nor table. Raises StoreError where one is missing."""
        self._table.look()
        self.initialize()

    def schema(self) -> str:
        """The statements that make the table and its indexes, as text. Nothing is opened."""
        return "".join(f"{statement};\n" for statement in self._sql.schema)

    def stats(self, now: int) -> StoreStats:
        """What is kept, as of *now*; reads the whole table, and nobody waits for it. Raises StoreError."""
        counts: list[Any] = self._rows(self._sql.stats, {"now": now})
        return StoreStats(**dict(zip(StoreStats.__struct_fields__, counts[0], strict=True)))

    def count_expired(self, now: int) -> int:
        """How many records ``purge`` would delete. Raises StoreError."""
        rows: list[Any] = self._rows(self._sql.count_expired, (now,))
        count: int = rows[0][0]
        return count

    def teardown(self) -> None:
        """Finish what is under way and close the connections of all threads. A later call opens anew."""
        if self._group:
            self._group.stop()
        self._inline.teardown()
        super().teardown()
        self._table.ready = False


def from_url(url: StoreURL) -> SQLiteStore:
    """The store of ``sqlite:///file``, options ``durable``, ``lock_timeout``, ``table``. Raises ConfigurationError.

    Without ``table``, an application of another ``table_index`` has a table of its own.
    """
    chosen = options(url, {"durable": flag, "lock_timeout": float, "table": str})
    if url.table_index != "default":
        chosen.setdefault("table", f"sessions_{url.table_index.replace('-', '_')}")
    return SQLiteStore(file_path(url), **chosen)


class _Inline(Calls):
    """The face for an event loop. Declines, with StoreBusyError, what would wait for long."""

    def __init__(self, main: Pool, table: _Table, synchronous: str, durable: bool) -> None:
        pragmas = (synchronous, "wal_autocheckpoint = 0")
        super().__init__(Pool(main.path, INLINE_WAIT, pragmas, before=table.require), table.sql)
        self._main = main
        self._durable = durable
        self._writes = 0
        self._checkpoint: threading.Thread | None = None

    def _write(self, statement: str, values: tuple[object, ...]) -> int:
        if self._durable:
            self._decline()
        changed = super()._write(statement, values)
        self._writes += 1
        if self._writes >= CHECKPOINT_EVERY:
            self._make_checkpoint()
        return changed

    def rotate(
        self, record: Record, old_id: str, expected_version: int, *, until: int, successor: str | None = None
    ) -> Outcome:
        if self._durable:
            self._decline()
        outcome = super().rotate(record, old_id, expected_version, until=until, successor=successor)
        self._writes += 1
        if self._writes >= CHECKPOINT_EVERY:
            self._make_checkpoint()
        return outcome

    def purge(self, now: int, limit: int) -> int:
        if limit > PURGE_BATCH:
            raise StoreBusyError(f"purging more than {PURGE_BATCH} records takes too long for an event loop")
        return super().purge(now, limit)

    def teardown(self) -> None:
        if self._checkpoint is not None:
            self._checkpoint.join()
        super().teardown()

    def _decline(self) -> NoReturn:
        raise StoreBusyError(f"{self._pool.path}: a durable write waits for the disk")

    def _make_checkpoint(self) -> None:
        if self._checkpoint is not None and self._checkpoint.is_alive():
            return
        self._writes = 0
        thread = threading.Thread(target=_checkpoint, args=(self._main,), name="session_mw-checkpoint")
        with suppress(RuntimeError):  # the interpreter is ending: closing the file is a checkpoint too
            thread.start()
            self._checkpoint = thread


def _checkpoint(pool: Pool) -> None:
    """Move what it can from the log to the file. A fault here is met again, and told, by the next call."""
    with suppress(StoreError, sqlite3.Error):
        connection = pool.acquire()
        try:
            connection.cursor.execute("PRAGMA wal_checkpoint(PASSIVE)")
        finally:
            connection.lock.release()


class _Table:
    """Whether file and table are there; makes them when they are not."""

    def __init__(self, path: Path, sql: Statements) -> None:
        self.path = path
        self.sql = sql
        self.ready = False

    def look(self) -> None:
        """Raises StoreError unless both are there. A file that is not ours is not even switched to WAL."""
        try:
            self.path.stat()
            with closing(sqlite3.connect(f"{self.path.as_uri()}?mode=ro", uri=True)) as db:
                found = db.execute(_FOUND, (self.sql.table,)).fetchone()
        except OSError as error:
            raise StoreError(f"{self.path}: {(error.strerror or str(error)).lower()}; pass another path") from error
        except sqlite3.Error as error:
            raise fault(self.path, error) from error
        if found is None:
            raise StoreError(f"{self.path}: there is no table {self.sql.table!r}; pass another path or table=")

    def create(self) -> None:
        if not self.ready:
            create_file(self.path)

    def require(self) -> None:
        if not self.ready:
            raise StoreBusyError(f"{self.path}: not opened yet, and that may wait; call initialize()")

    def check(self, cursor: sqlite3.Cursor) -> None:
        if self.ready:
            return
        if cursor.execute(_FOUND, (self.sql.table,)).fetchone() is None:
            cursor.execute("BEGIN IMMEDIATE")
            for statement in self.sql.schema:  # IF NOT EXISTS: another process may have been first
                cursor.execute(statement)
            cursor.execute("COMMIT")
        if [row[1] for row in cursor.execute(self.sql.columns)] != COLUMNS:
            reason = f"table {self.sql.table!r} is not a session table; pass another table="
            raise StoreError(f"{self.path}: {reason}")
        self.ready = True
