"""How long SQLite's write lock is held during a call: a second connection asks for it again and again, never waiting.

A call that takes long need not keep writers waiting: most of what a slow one does is the checkpoint after its commit,
which moves the log into the file, waits for the disk, and lets others write meanwhile. So the lock is watched itself.
"""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

__all__ = ["LockWatch"]

EVERY = 0.0005  # seconds from one question to the next: what a span is too short by, at most twice


class LockWatch:
    """For the database file *path*: ``during(call)`` answers what *call* does, and notes in ``held`` for how many
    milliseconds the lock was seen to be taken while it ran. A context manager."""

    def __init__(self, path: Path) -> None:
        self.held: list[float] = []
        self._path = path
        self._on = threading.Event()
        self._idle = threading.Event()
        self._idle.set()
        self._ended = False
        self._seen: tuple[float, float] | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> LockWatch:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended = True
        self._on.set()
        self._thread.join(10)

    def during(self, call: Callable[[], int]) -> int:
        self._seen = None
        self._idle.clear()
        self._on.set()
        answer = call()
        self._on.clear()
        self._idle.wait(10)
        first, last = self._seen or (0.0, 0.0)
        self.held.append((last - first) * 1e3)
        return answer

    def _run(self) -> None:
        connection = sqlite3.connect(self._path, timeout=0, isolation_level=None)
        try:
            while self._on.wait() and not self._ended:
                while self._on.is_set() and not self._ended:
                    self._ask(connection)
                    time.sleep(EVERY)
                self._idle.set()
        finally:
            connection.close()

    def _ask(self, connection: sqlite3.Connection) -> None:
        begun = time.perf_counter()
        try:
            connection.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError:
            first = self._seen[0] if self._seen else begun
            self._seen = (first, time.perf_counter())
        else:
            connection.execute("ROLLBACK")
