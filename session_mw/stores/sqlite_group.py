"""Group commit: writes that wait for the disk share one transaction, and so one fsync.

Decided here: the first waiting write starts a drain on the one worker thread; whatever arrives while a transaction is
being synced goes into the next. Each write is still its own compare-and-swap with its own answer, and none is
answered before its transaction is on disk. A caller cancelled while waiting takes its write back unless it has begun.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from .faces import Call

__all__ = ["GroupCommit"]

MOST = 256  # writes a transaction


class GroupCommit:
    """Hands waiting calls to *commit*, which makes them in one transaction: an answer or an exception for each."""

    def __init__(self, commit: Callable[[list[Call]], list[object]]) -> None:
        self._commit = commit
        self._restart()
        _groups.add(self)

    def _restart(self) -> None:
        self._lock = threading.Lock()
        self._waiting: list[tuple[Call, Future[Any]]] = []
        self._draining = False
        self._worker: ThreadPoolExecutor | None = None

    async def submit(self, call: Call) -> Any:
        """The answer of *call*, once it is on disk. Raises what it raised, or why the transaction failed."""
        from asyncio import wrap_future

        return await wrap_future(self.put(call))

    def put(self, call: Call) -> Future[Any]:
        """Queue *call*."""
        future: Future[Any] = Future()
        with self._lock:
            if not self._draining:
                if self._worker is None:
                    self._worker = ThreadPoolExecutor(1, thread_name_prefix="session_mw-commit")
                self._worker.submit(self._drain)
                self._draining = True
            self._waiting.append((call, future))
        return future

    def stop(self) -> None:
        """Finish what is queued and end the thread; a later write starts another."""
        with self._lock:
            worker, self._worker = self._worker, None
        if worker is not None:
            worker.shutdown()

    def _drain(self) -> None:
        while True:
            with self._lock:
                batch, self._waiting = self._waiting[:MOST], self._waiting[MOST:]
                if not batch:
                    self._draining = False
                    return
            batch = [(call, future) for call, future in batch if future.set_running_or_notify_cancel()]
            if batch:
                self._settle(batch)

    def _settle(self, batch: list[tuple[Call, Future[Any]]]) -> None:
        answers: list[object]
        try:
            answers = self._commit([call for call, _ in batch])
        except BaseException as error:  # whoever waits must hear of it
            answers = [error] * len(batch)
        for (_, future), answer in zip(batch, answers, strict=True):
            if isinstance(answer, BaseException):
                future.set_exception(answer)
            else:
                future.set_result(answer)


_groups: weakref.WeakSet[GroupCommit] = weakref.WeakSet()


def _after_fork_in_child() -> None:
    for group in list(_groups):
        group._restart()  # the queue and its thread are the parent's


os.register_at_fork(after_in_child=_after_fork_in_child)
