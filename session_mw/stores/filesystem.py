"""FilesystemStore: records as files in a directory; safe over threads, processes, forks and power failures.

Decided here: what may happen on an event loop. Through ``inline()`` nothing waits longer than 50 ms for a lock, the
directory is never made, and what waits for the disk or goes through many files is declined.
"""

from __future__ import annotations

import os
from contextlib import closing, suppress
from pathlib import Path

from ..core.record import Record
from ..errors import ConfigurationError, StoreBusyError, StoreError
from . import StoreStats
from .faces import Awaited
from .filesystem_calls import Calls
from .filesystem_format import DamagedError
from .filesystem_tree import Tree, Work, told
from .url import StoreURL, file_path, flag, options

__all__ = ["FilesystemStore", "from_url"]

INLINE_WAIT = 0.05  # seconds
INLINE_LIST = 100  # sessions of one user; reading more takes too long for an event loop


class FilesystemStore(Calls):
    """A store in *directory*, made with mode 0700 when missing; the one above must exist. Local disks only.

    *durable*: a write returns only when it would survive a power failure (fsync); otherwise it survives the end of
    the process, and a power failure may take the last moments. *lock_timeout*: seconds a call waits for other
    writers. Raises ConfigurationError for its arguments; every call may raise StoreError, whose message says what to
    do, or StoreBusyError.
    """

    def __init__(self, directory: str | os.PathLike[str], *, durable: bool = True, lock_timeout: float = 5.0) -> None:
        name = os.fspath(directory)
        if not isinstance(name, str) or not name or "\0" in name:
            raise ConfigurationError("FilesystemStore needs the path of a directory")
        if not 0 < lock_timeout <= 3600:
            raise ConfigurationError(f"lock_timeout must be more than 0 and at most 3600 seconds, not {lock_timeout!r}")
        super().__init__(Tree(str(Path(name).absolute()), durable), lock_timeout)  # a daemon changes its directory
        self._inline = _Inline(self.tree, min(lock_timeout, INLINE_WAIT))

    def __repr__(self) -> str:
        return f"<FilesystemStore {self.tree.root}>"

    @told
    def open_existing(self) -> None:
        """``initialize()``, but nothing is made. Raises StoreError where it would have to be."""
        try:
            self.tree.still_there()
        except FileNotFoundError as error:
            raise StoreError(f"{self.tree.root}: there is no session store; pass another directory") from error
        self.initialize()

    @told
    def stats(self, now: int) -> StoreStats:
        """What is kept, as of *now*; reads every record but damaged ones, and nobody waits. Raises StoreError."""
        self._require()
        expired = closed = size = 0
        created: list[int] = []
        users: set[str | None] = {None}
        for name in self.tree.names():
            record = self._intact(name)
            if record is None:
                continue
            if record.expires_at <= now:
                expired += 1
            elif record.closed:
                closed += 1
            else:
                created.append(record.created_at)
                users.add(record.user_id)
                size += len(record.payload)
        return StoreStats(
            live=len(created),
            expired=expired,
            closed=closed,
            users=len(users) - 1,
            oldest=min(created, default=None),
            newest=max(created, default=None),
            payload_bytes=size,
        )

    @told
    def count_expired(self, now: int) -> int:
        """How many records ``purge`` would delete; reads only those whose marks are due. Raises StoreError."""
        self._require()
        with closing(self._due(now)) as due:
            names = {name for _, name, _ in due}  # a record may have several marks
        records = map(self._intact, names)
        return sum(record is not None and record.expires_at <= now for record in records)

    def _intact(self, name: str) -> Record | None:
        """The record in the file *name*, unless it is damaged, or ended meanwhile."""
        with suppress(DamagedError):
            return self._load(name)
        return None

    def inline(self) -> Calls:
        """The face for an event loop; StoreBusyError when a call would wait longer than 50 ms."""
        return self._inline

    def aio(self) -> Awaited:
        """The awaited face."""
        return Awaited(self, self._inline)


def from_url(url: StoreURL) -> FilesystemStore:
    """The store of ``file:///directory``, options ``durable``, ``lock_timeout``. Raises ConfigurationError.

    An application of another ``table_index`` has a directory of its own, ``directory-<table_index>``.
    """
    if not url.netloc and not url.path:
        raise ConfigurationError("a file: URL without a path needs save_path=, the directory; or file:///directory")
    path = file_path(url) if url.table_index == "default" else f"{file_path(url).rstrip('/')}-{url.table_index}"
    return FilesystemStore(path, **options(url, {"durable": flag, "lock_timeout": float}))


class _Inline(Calls):
    """The face for an event loop. Declines, with StoreBusyError, what would wait for long."""

    def _require(self) -> None:
        if not self.tree.ready:
            raise StoreBusyError(f"{self.tree.root}: not opened yet, and that may wait; call initialize()")

    def _writing(self) -> Work:
        if self.tree.durable:
            raise StoreBusyError(f"{self.tree.root}: a durable write waits for the disk")
        return super()._writing()

    def _marked(self, directory: int) -> list[str]:
        names = super()._marked(directory)
        if len(names) > INLINE_LIST:
            raise StoreBusyError(f"reading more than {INLINE_LIST} files takes too long for an event loop")
        return names

    def delete_user(self, user_id: str, *, except_id: str | None = None) -> int:
        raise StoreBusyError("deleting many files takes too long for an event loop")

    def purge(self, now: int, limit: int) -> int:
        raise StoreBusyError("deleting many files takes too long for an event loop")
