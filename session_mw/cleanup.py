"""Clean-up on a schedule: a thread or an asyncio task that sweeps away expired sessions as long as it runs.

Decided here: when. Every sweep is put off by a random part of the interval, so that workers started together do not
sweep together; a sweep is made of short calls, and a stop is heeded between two of them; a sweep that fails is logged,
and the next one tries again. What is swept, the store decides at that moment. Sessions expire without any of this: it
only gives the room back.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import TYPE_CHECKING, Any, ClassVar, Self

from .errors import ConfigurationError
from .service import AsyncSessionService, SessionService
from .settings import is_async

if TYPE_CHECKING:
    import asyncio

__all__ = ["CleanupTask", "CleanupThread"]

logger = logging.getLogger("session_mw")
BATCH = 1000  # records between two looks whether to stop


class _Schedule:
    """When to sweep: after a random part of *jitter*, then again and again."""

    _awaits: ClassVar[bool] = False

    def __init__(
        self,
        service: Any,
        *,
        every: float | timedelta = 3600,
        jitter: float = 0.1,
        on_sweep: Callable[[int], object] | None = None,
    ) -> None:
        seconds = every.total_seconds() if isinstance(every, timedelta) else every
        if not seconds > 0 or not 0 <= jitter <= 1:
            raise ValueError("every must be above 0 seconds, jitter from 0 to 1")
        if on_sweep is not None and not self._awaits and is_async(on_sweep):
            raise ConfigurationError("on_sweep is a coroutine function; that needs CleanupTask")
        self._service = service
        self._every = seconds
        self._jitter = jitter
        self._on_sweep = on_sweep

    def _first(self) -> float:
        return self._every * self._jitter * _dice()

    def _next(self) -> float:
        return self._every * (1 + self._jitter * (2 * _dice() - 1))


class CleanupThread(_Schedule):
    """Sweeps in a thread of its own between ``start()`` and ``stop()``, or for the length of a ``with`` block.

    *every*: seconds (or a timedelta) from sweep to sweep, give or take the fraction *jitter* of it; *on_sweep* is told
    how many records each sweep deleted. Start it in each worker after the fork, or in one process only.
    Raises ``ValueError`` for times that cannot be, ``ConfigurationError`` for an *on_sweep* that must be awaited.
    """

    _service: SessionService
    _thread: threading.Thread | None = None

    def start(self) -> Self:
        """Begin; nothing when it runs already in this process."""
        if self._running() is None:
            self._stopping = threading.Event()
            self._thread = threading.Thread(target=self._run, name="session_mw-cleanup", daemon=True)
            self._thread.start()
        return self

    def stop(self) -> None:
        """End, after at most the call under way. Idempotent."""
        thread = self._running()
        if thread is not None:
            self._stopping.set()
            if thread is not threading.current_thread():  # on_sweep, which may stop us too
                thread.join()

    def _running(self) -> threading.Thread | None:
        """The thread, unless it died or was left behind in the parent of a fork."""
        return self._thread if self._thread is not None and self._thread.is_alive() else None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *error: object) -> None:
        self.stop()

    def _run(self) -> None:
        wait = self._first()
        while not self._stopping.wait(wait):
            try:
                self._sweep()
            except Exception:
                logger.exception("session_mw: a clean-up failed; the next one will try again")
            wait = self._next()

    def _sweep(self) -> None:
        total, count = 0, BATCH
        while count == BATCH and not self._stopping.is_set():
            count = self._service.cleanup_expired_sessions(limit=BATCH)
            total += count
        if self._on_sweep is not None:
            self._on_sweep(total)


class CleanupTask(_Schedule):
    """``CleanupThread`` for asyncio: a task between ``start()`` and ``await stop()``, or an ``async with`` block.

    *on_sweep* may be a coroutine function; the next sweep waits for it.
    """

    _awaits = True
    _service: AsyncSessionService
    _task: asyncio.Task[None] | None = None

    def start(self) -> Self:
        """Begin, on the running loop; nothing when it runs there already."""
        import asyncio

        if self._running() is None:
            self._stopping = asyncio.Event()
            self._task = asyncio.create_task(self._run(), name="session_mw-cleanup")
        return self

    async def stop(self) -> None:
        """End, after at most the call under way. Idempotent."""
        import asyncio

        task = self._running()
        if task is not None:
            self._stopping.set()
            if task is not asyncio.current_task():  # on_sweep, which may stop us too
                await asyncio.gather(task, return_exceptions=True)  # whoever cancelled it did not mean our caller

    def _running(self) -> asyncio.Task[None] | None:
        """The task, unless it ended or belongs to a loop that is gone."""
        import asyncio

        task = self._task
        return task if task is not None and not task.done() and task.get_loop() is asyncio.get_running_loop() else None

    async def __aenter__(self) -> Self:
        return self.start()

    async def __aexit__(self, *error: object) -> None:
        await self.stop()

    async def _run(self) -> None:
        wait = self._first()
        while not await self._stops_within(wait):
            try:
                await self._sweep()
            except Exception:
                logger.exception("session_mw: a clean-up failed; the next one will try again")
            wait = self._next()

    async def _stops_within(self, seconds: float) -> bool:
        import asyncio

        try:
            return await asyncio.wait_for(self._stopping.wait(), seconds)
        except TimeoutError:
            return False

    async def _sweep(self) -> None:
        total, count = 0, BATCH
        while count == BATCH and not self._stopping.is_set():
            count = await self._service.cleanup_expired_sessions(limit=BATCH)
            total += count
        answer = None if self._on_sweep is None else self._on_sweep(total)
        if isinstance(answer, Awaitable):
            await answer


def _dice() -> float:
    """From 0 to 1."""
    return int.from_bytes(os.urandom(4)) / (2**32 - 1)
