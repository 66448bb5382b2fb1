"""The directories of a FilesystemStore: made, opened, locked and written to in a way that others cannot turn.

Decided here:

* Everything is created with its final mode (0700, 0600; the umask can only take from that), under a name that must be
  free, and no symbolic link is ever followed: every directory is opened by itself, looked at, and then used through
  its descriptor. One that others may write to, or that is somebody else's, is refused. What is above the root is
  looked at once: whoever may write there could swap the root between two calls, by a link or by renaming.
* The lock is ``flock`` on the directory of a shard. So there are no lock files to be left behind, the kernel lets go
  when a process dies, and threads exclude each other as processes do. Waiting is looking again, a bounded time.
* A file is replaced by writing another one beside it, under the lock and one fixed name, and renaming that; what a
  killed writer left there is overwritten by the next.
* Nothing is kept open between two calls, so neither threads nor forks share anything. Where a fork happens in the
  middle of another thread's call, the child closes its copies of the locked descriptors: they would keep the lock.
"""

from __future__ import annotations

import errno
import os
import select
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import wraps
from pathlib import Path
from struct import error as struct_error
from typing import Concatenate, ParamSpec, Protocol, Self, TypeVar

from ..core.record import Record
from ..errors import ConfigurationError, StoreBusyError, StoreError
from .above import look_above
from .filesystem_format import HEADER_BYTES, DamagedError, ForeignError, decode, is_name, read_header

try:
    import fcntl
except ImportError as lacking:
    raise ConfigurationError(
        'FilesystemStore needs flock, which this system lacks; use SQLiteStore: store="sqlite:///sessions.db"'
    ) from lacking

__all__ = ["Tree", "Work", "told"]

P = ParamSpec("P")
T = TypeVar("T")

FORMAT = b"session_mw filesystem store 1\n"

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_READ = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC  # non-blocking: a FIFO is to be refused, not waited for
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
_NEW = "new"
_FIRST_READ = 8192  # bytes; most records are smaller
_PAUSES = (0.0005, 0.002)  # seconds between two tries for a lock: at first, at most

_ADVICE = {
    errno.ENOENT: "a part of it is missing; it must not be deleted while it is in use",
    errno.ENOTDIR: "a part of it is no directory, or a symbolic link, which is never followed",
    errno.ELOOP: "a part of it is a symbolic link, which is never followed",
    errno.EACCES: "access denied; it must belong to the user this runs as",
    errno.EPERM: "access denied; it must belong to the user this runs as",
    errno.EROFS: "read-only; make it writable or pass another directory",
    errno.ENOSPC: "the disk is full; make room",
    errno.EDQUOT: "the disk quota is used up; make room",
}


class _HasTree(Protocol):
    tree: Tree


H = TypeVar("H", bound=_HasTree)


def told(method: Callable[Concatenate[H, P], T]) -> Callable[Concatenate[H, P], T]:
    """*method*, with every fault of the system, and every value the format cannot hold, told as a StoreError."""

    @wraps(method)
    def call(self: H, /, *args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return method(self, *args, **kwargs)
        except OSError as error:
            advice = _ADVICE.get(error.errno or 0) or error.strerror
            raise StoreError(f"{self.tree.root}: {advice}") from error
        except (OverflowError, UnicodeEncodeError, struct_error) as error:  # their texts would show the value
            kind = type(error).__name__
            raise StoreError(f"{self.tree.root}: a value that the format cannot hold ({kind})") from error

    return call


def _open_directory(name: str, parent: int | None = None) -> int:
    """A descriptor of a directory that is ours alone to write to. Raises OSError, StoreError."""
    descriptor = os.open(name, _DIRECTORY, dir_fd=parent)
    found = os.fstat(descriptor)
    if found.st_uid == os.geteuid() and not found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        return descriptor
    os.close(descriptor)
    if found.st_uid != os.geteuid():
        raise StoreError(f"{name}: belongs to another user (uid {found.st_uid}); run as that user, or pass another")
    raise StoreError(f"{name}: others may write to this directory; take that from them (chmod go-w), or pass another")


class Tree:
    """The directory *root* and what lies in it. *durable*: writes wait for the disk."""

    def __init__(self, root: str, durable: bool) -> None:
        self.root = root
        self.durable = durable
        self.ready = False

    def path(self, kind: str, name: str) -> str:
        """The directory of *kind* that has the file *name*."""
        return f"{self.root}/{kind}-{name[:2]}"

    def prepare(self, wait: float) -> None:
        """Make what is missing, refuse what is not ours. Raises OSError, StoreError."""
        try:
            look_above(Path(self.root))
        except FileNotFoundError as error:
            raise StoreError(f"{self.root}: create the directory above it, or pass another") from error
        with suppress(FileExistsError):
            Path(self.root).mkdir(0o700)
        with Work(self, wait) as work:
            root: int = work.lock_root()
            there = set(os.listdir(root)) - {_NEW}
            if "format" not in there:
                if there:
                    raise StoreError(f"{self.root}: is not empty, and no session store; pass another directory")
                work.write(root, "format", FORMAT)
                self._settle_above()
            elif _read(root, "format", len(FORMAT) + 1) != FORMAT:
                raise StoreError(f"{self.root}: is a session store of another format; pass another directory")
        self.ready = True

    def _settle_above(self) -> None:
        if self.durable:
            with suppress(PermissionError):  # a directory that may be passed through, and not opened
                above = os.open(Path(self.root).parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
                try:
                    os.fsync(above)
                finally:
                    os.close(above)

    def still_there(self) -> None:
        """Raises OSError when the store is not where it was: that is a fault, and not an empty store."""
        os.stat(f"{self.root}/format", follow_symlinks=False)  # noqa: PTH116

    def has(self, kind: str, name: str) -> bool:
        """Whether a file *name* of *kind* may be there: they have a directory. Raises OSError."""
        try:
            os.stat(self.path(kind, name), follow_symlinks=False)  # noqa: PTH116
        except FileNotFoundError:
            self.still_there()
            return False
        return True

    def load(self, name: str) -> Record | None:
        """The record in the file *name*. Takes no lock, so that a touch under way makes it ``DamagedError``."""
        try:
            shard = _open_directory(self.path("records", name))
        except FileNotFoundError:
            self.still_there()
            return None
        try:
            return self.read(shard, name)
        finally:
            os.close(shard)

    def read(self, shard: int, name: str) -> Record | None:
        """The record in the file *name* of an open directory. Raises ``DamagedError``."""
        try:
            data = _read(shard, name)
            return None if data is None else decode(data, name)
        except DamagedError as error:
            raise self.damaged(name, error) from error

    def names(self) -> Iterator[str]:
        """The file of every record, as they are found. Raises OSError, StoreError."""
        self.still_there()
        for prefix in range(256):
            try:
                shard = _open_directory(self.path("records", f"{prefix:02x}"))
            except FileNotFoundError:
                continue
            try:
                with os.scandir(shard) as entries:
                    yield from (entry.name for entry in entries if is_name(entry.name))
            finally:
                os.close(shard)

    def damaged(self, name: str, error: DamagedError) -> DamagedError:
        """*error*, with the file it is about."""
        return type(error)(f"{self.root}: records-{name[:2]}/{name} is damaged ({error}); delete it")


def _read(directory: int, name: str, most: int = -1) -> bytes | None:
    """The bytes of a file; no more than *most*, or what its header tells. Raises ``DamagedError``."""
    try:
        descriptor = os.open(name, os.O_RDONLY | _READ, dir_fd=directory)
    except FileNotFoundError:
        return None
    except OSError as error:
        if error.errno not in (errno.ELOOP, errno.ENXIO):
            raise
        raise ForeignError("it is a symbolic link or a socket") from error
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode) or found.st_uid != os.geteuid():
            raise ForeignError("it is no file of ours")
        data = os.read(descriptor, most if most >= 0 else _FIRST_READ)
        if most < 0 and found.st_size > len(data):
            if HEADER_BYTES + read_header(data).length != found.st_size:
                raise DamagedError("its body is incomplete")
            parts = [data]
            while part := os.read(descriptor, found.st_size):
                parts.append(part)
            data = b"".join(parts)
        return data
    finally:
        os.close(descriptor)


class Work:
    """What one call opens, locks and writes; closed at its end. *wait*: seconds for all its locks together."""

    __slots__ = ("_deadline", "_opened", "_unsettled", "tree")

    def __init__(self, tree: Tree, wait: float) -> None:
        self.tree = tree
        self._deadline = time.monotonic() + wait
        self._opened: list[int] = []
        self._unsettled: list[int] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        for descriptor in reversed(self._opened):
            if descriptor in _locked:
                fcntl.flock(descriptor, fcntl.LOCK_UN)  # closing would not do while a child has a copy
                _locked.discard(descriptor)
            os.close(descriptor)

    def open(self, name: str, parent: int | None = None) -> int:
        """A directory, until the end of the call. Raises OSError, StoreError."""
        descriptor = _open_directory(name, parent)
        self._opened.append(descriptor)
        return descriptor

    def shard(self, kind: str, name: str) -> int:
        """The directory of *kind* that has the file *name*, made if missing. Raises OSError, StoreError."""
        path = self.tree.path(kind, name)
        try:
            return self.open(path)
        except FileNotFoundError:
            self.tree.still_there()
        with suppress(FileExistsError):
            Path(path).mkdir(0o700)
        self.settle(self.open(self.tree.root))
        return self.open(path)

    def lock(self, kind: str, name: str, *, shared: bool = False) -> int:
        """The directory of *kind* that has the file *name*, locked. Raises OSError, StoreError, StoreBusyError."""
        return self._lock(self.shard(kind, name), shared=shared)

    def lock_root(self) -> int:
        """The root, locked. Raises OSError, StoreError, StoreBusyError."""
        return self._lock(self.open(self.tree.root))

    def _lock(self, descriptor: int, *, shared: bool = False) -> int:
        _locked.add(descriptor)
        how = (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB
        pause, longest = _PAUSES
        while True:
            try:
                fcntl.flock(descriptor, how)
            except BlockingIOError as error:
                left = self._deadline - time.monotonic()
                if left <= 0:
                    raise StoreBusyError(f"{self.tree.root}: another writer held the lock for too long") from error
                select.select((), (), (), min(pause, left))
                pause = min(2 * pause, longest)
            else:
                return descriptor

    def settle(self, *directories: int) -> None:
        """Wait until what was made and removed in *directories*, and where marks were made, is on disk."""
        if self.tree.durable:
            for directory in (*self._unsettled, *directories):
                os.fsync(directory)
        self._unsettled.clear()

    def write(self, shard: int, name: str, data: bytes) -> None:
        """Make or replace a file in a locked directory, whole. The marks made before it are on disk before it is."""
        self.remove(shard, _NEW)  # what a killed writer left: it no longer has the lock, and we do
        descriptor = os.open(_NEW, _CREATE | os.O_EXCL, 0o600, dir_fd=shard)
        try:
            try:
                left = memoryview(data)
                while left:
                    left = left[os.write(descriptor, left) :]
                if self.tree.durable:
                    os.fsync(descriptor)
            finally:
                os.close(descriptor)
            self.settle()
            os.rename(_NEW, name, src_dir_fd=shard, dst_dir_fd=shard)
        except BaseException:
            with suppress(OSError):  # the fault is what to tell; the next writer would overwrite it
                os.unlink(_NEW, dir_fd=shard)
            raise
        self.settle(shard)

    def touch(self, shard: int, name: str, last_activity: int, expires_at: int) -> bool:
        """Raise the two times in a file of a locked directory, in place; whether it holds a live record.

        Not waited for: what a power failure takes of it is a minute of an idle deadline.
        """
        try:
            data = _read(shard, name, HEADER_BYTES)
            old = None if data is None else read_header(data)
        except DamagedError as error:
            raise self.tree.damaged(name, error) from error
        if old is None or old.closed:
            return False
        times = (max(old.last_activity, last_activity), max(old.expires_at, expires_at))
        new = old._replace(last_activity=times[0], expires_at=times[1])
        if new != old:
            descriptor = os.open(name, os.O_WRONLY | _READ, dir_fd=shard)
            try:
                os.pwrite(descriptor, new.pack(), 0)
            finally:
                os.close(descriptor)
        return True

    def remove(self, shard: int, name: str) -> None:
        """Remove a file that may be there. Not waited for."""
        with suppress(FileNotFoundError):
            os.unlink(name, dir_fd=shard)

    def mark(self, parent: int, directory: str, name: str, *, settled: bool = True) -> None:
        """Make an empty file in a directory that is made where it is missing. *settled*: before the next write."""
        while True:
            try:
                descriptor = self.open(directory, parent)
            except FileNotFoundError:
                with suppress(FileExistsError):
                    os.mkdir(directory, 0o700, dir_fd=parent)
                self._unsettled += [parent] * settled
                continue
            with suppress(FileNotFoundError):  # who removed the last mark has just removed the directory
                os.close(os.open(name, _CREATE, 0o600, dir_fd=descriptor))
                self._unsettled += [descriptor] * settled
                return


_locked: set[int] = set()


def _after_fork_in_child() -> None:
    for descriptor in list(_locked):  # of the parent's other threads
        os.close(descriptor)
    _locked.clear()


os.register_at_fork(after_in_child=_after_fork_in_child)
